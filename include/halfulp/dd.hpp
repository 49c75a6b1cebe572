#pragma once

#include <string>
#include <string_view>

#include "halfulp/kernel/dd.hpp"
#include "halfulp/kernel/dd_math.hpp"

/// Double-double numbers as text. Arithmetic is in kernel/dd.hpp, functions in kernel/dd_math.hpp.
///
///     const halfulp::dd third = halfulp::dd(1) / 3.0;
///     halfulp::to_string(third);                     // 0.33333333333333333333333333333333
///     halfulp::dd_from_string("0.1") * 10.0 - 1.0;   // 0 or a few 2^-106
namespace halfulp {

/// The number in `text`: decimal or C99 hex float of any length, `inf`, `nan`, as parse_number.
/// @return       nearest double in hi, nearest double to the remainder in lo (hex: to one unit
/// 2^-106)
/// @throws       DomainError if the text is not entirely a number
[[nodiscard]] dd dd_from_string(std::string_view text);

/// Decimal text, correctly rounded to `digits` significant digits, trailing zeros dropped; exponent
/// notation below 1e-5 and from 10^digits on. 33 digits always read back to the same value up to
/// 2^-107 of it; more digits show the exact sum hi + lo.
/// @param  digits  1 to 1100
/// @throws         DomainError if digits is out of range
[[nodiscard]] std::string to_string(dd value, int digits = 32);

}  // namespace halfulp
