#pragma once

#include <string>
#include <string_view>

namespace halfulp::detail {

/// Text as XML has it between tags or inside quotes of either kind. `text` is UTF-8 and has no
/// characters that XML forbids.
inline std::string escape_xml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  return out;
}

}  // namespace halfulp::detail
