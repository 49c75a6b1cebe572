#pragma once

#include <optional>
#include <string>
#include <string_view>

/// Numbers as text, and foreign text made safe to print. Independent of the locale.
namespace halfulp {

/// Shortest decimal that reads back to the same double (at most 17 digits); `nan`, `inf`, `-inf`.
[[nodiscard]] std::string number_text(double value);
/// Likewise for float: the shortest decimal that reads back to the same float.
[[nodiscard]] std::string number_text(float value);

/// C99 hex float, exact: `0x1.8p+3`, `-0x0p+0`; `nan`, `inf`, `-inf`.
[[nodiscard]] std::string hex_text(double value);

/// The whole of `text` as a number: decimal (`-1.5e3`, `+.5`), C99 hex float (`0x1.8p+3`), `nan`,
/// `inf`, `infinity` in any case. Rounded to nearest; beyond the range gives +-inf or +-0 as
/// strtod.
/// @return  nothing if the text is not entirely a number (no blanks are skipped)
[[nodiscard]] std::optional<double> parse_number(std::string_view text);

/// `text` with control bytes and bytes that are not UTF-8 as `\xNN`, so that a message that quotes
/// a bad input can be shown on a terminal. Escaping twice changes nothing more.
[[nodiscard]] std::string escape_text(std::string_view text);

}  // namespace halfulp
