#pragma once

#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// A strict reader of the XML that our writers produce: elements, attributes, text, no comments, no
/// CDATA, no DTD. Throws std::runtime_error on anything that is not well-formed.
namespace xml {

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  ///< of this element alone, entities replaced
  std::vector<Element> children;

  void find(std::string_view wanted, std::vector<const Element*>& out) const {
    if (name == wanted) out.push_back(this);
    for (const Element& child : children) child.find(wanted, out);
  }
  [[nodiscard]] std::vector<const Element*> all(std::string_view wanted) const {
    std::vector<const Element*> out;
    find(wanted, out);
    return out;
  }
  [[nodiscard]] std::string whole_text() const {
    std::string out = text;
    for (const Element& child : children) out += child.whole_text();
    return out;
  }
};

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Element document() {
    check_characters();
    if (text_.substr(0, 5) == "<?xml") {
      at_ = text_.find("?>");
      need(at_ != std::string_view::npos, "unclosed declaration");
      at_ += 2;
    }
    skip_space();
    Element root = element();
    skip_space();
    need(at_ == text_.size(), "text after the root element");
    return root;
  }

 private:
  void need(bool condition, const char* what) const {
    if (!condition) throw std::runtime_error(std::string(what) + " at byte " + std::to_string(at_));
  }
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (peek() == ' ' || peek() == '\n' || peek() == '\t' || peek() == '\r') ++at_;
  }
  void check_characters() const {
    for (std::size_t i = 0; i < text_.size();) {
      const auto c = static_cast<unsigned char>(text_[i]);
      std::size_t length = c < 0x80 ? 1 : c >> 5 == 6 ? 2 : c >> 4 == 14 ? 3 : c >> 3 == 30 ? 4 : 0;
      bool good = length > 0 && i + length <= text_.size();
      unsigned code = length == 1 ? c : c & (0xFFu >> (length + 1));
      for (std::size_t k = 1; good && k < length; ++k) {
        const auto next = static_cast<unsigned char>(text_[i + k]);
        good = next >> 6 == 2;
        code = code << 6 | (next & 63u);
      }
      good = good && (code >= 0x20 || code == 9 || code == 10 || code == 13);
      good = good && !(code >= 0xD800 && code <= 0xDFFF) && code != 0xFFFE && code != 0xFFFF;
      if (!good) throw std::runtime_error("illegal character at byte " + std::to_string(i));
      i += length;
    }
  }
  std::string name() {
    std::string out;
    const auto letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    need(letter(peek()), "name expected");
    while (letter(peek()) || (peek() >= '0' && peek() <= '9') || peek() == ':' || peek() == '-') {
      out += text_[at_++];
    }
    return out;
  }
  std::string entity() {
    const std::size_t end = text_.find(';', at_);
    need(end != std::string_view::npos && end - at_ < 8, "unclosed entity");
    const std::string_view body = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (body == "amp") return "&";
    if (body == "lt") return "<";
    if (body == "gt") return ">";
    if (body == "quot") return "\"";
    if (body == "apos" || body == "#39") return "'";
    throw std::runtime_error("unknown entity " + std::string(body));
  }
  Element element() {
    need(peek() == '<', "'<' expected");
    ++at_;
    Element out;
    out.name = name();
    for (;;) {
      const std::size_t before = at_;
      skip_space();
      if (peek() == '>' || peek() == '/') break;
      need(at_ > before, "space before an attribute expected");
      const std::string key = name();
      need(peek() == '=', "'=' expected");
      ++at_;
      need(peek() == '"', "quote expected");
      ++at_;
      std::string value;
      while (peek() != '"') {
        need(at_ < text_.size() && peek() != '<', "bad attribute value");
        if (peek() == '&')
          value += entity();
        else
          value += text_[at_++];
      }
      ++at_;
      need(out.attributes.emplace(key, value).second, "attribute given twice");
    }
    if (peek() == '/') {
      ++at_;
      need(peek() == '>', "'>' expected");
      ++at_;
      return out;
    }
    ++at_;
    for (;;) {
      need(at_ < text_.size(), "unclosed element");
      if (text_.substr(at_, 2) == "</") break;
      if (peek() == '<')
        out.children.push_back(element());
      else if (peek() == '&')
        out.text += entity();
      else
        out.text += text_[at_++];
    }
    at_ += 2;
    need(name() == out.name, "wrong closing tag");
    need(peek() == '>', "'>' expected");
    ++at_;
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

inline Element parse(std::string_view text) { return Reader(text).document(); }

}  // namespace xml

/// Inverse of base64 (RFC 4648); throws on anything else.
inline std::string decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) throw std::runtime_error("base64: length");
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 4) {
    unsigned group = 0;
    int padding = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const char c = text[i + k];
      unsigned value = 0;
      if (c >= 'A' && c <= 'Z')
        value = static_cast<unsigned>(c - 'A');
      else if (c >= 'a' && c <= 'z')
        value = static_cast<unsigned>(c - 'a') + 26;
      else if (c >= '0' && c <= '9')
        value = static_cast<unsigned>(c - '0') + 52;
      else if (c == '+')
        value = 62;
      else if (c == '/')
        value = 63;
      else if (c == '=' && i + 4 == text.size() && k >= 2)
        ++padding;
      else
        throw std::runtime_error("base64: digit");
      if (padding > 0 && c != '=') throw std::runtime_error("base64: padding");
      group = group << 6 | value;
    }
    for (int k = 0; k < 3 - padding; ++k) out += static_cast<char>(group >> (16 - 8 * k) & 255);
  }
  return out;
}
