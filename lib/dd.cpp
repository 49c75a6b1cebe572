#include "halfulp/dd.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "detail/require.hpp"

namespace halfulp {
namespace {

/// An exact decimal number: +-0.d1d2d3... 10^exponent, d1 != 0; no digits is zero.
struct Decimal {
  bool negative = false;
  std::string digits;
  long long exponent = 0;

  void trim() {
    const auto first = std::min(digits.find_first_not_of('0'), digits.size());
    digits.erase(0, first);
    exponent -= static_cast<long long>(first);
    digits.erase(digits.find_last_not_of('0') + 1);
  }
};

/// Reads [+-]digits[.digits][e[+-]digits], which the caller has checked.
Decimal read_decimal(std::string_view text) {
  Decimal d;
  if (text.front() == '+' || text.front() == '-') {
    d.negative = text.front() == '-';
    text.remove_prefix(1);
  }
  const auto e = std::min(text.find_first_of("eE"), text.size());
  if (e != text.size()) {
    std::string_view power = text.substr(e + 1);
    if (power.front() == '+') power.remove_prefix(1);
    std::from_chars(power.data(), power.data() + power.size(), d.exponent);
  }
  const auto point = std::min(text.find('.'), e);
  d.digits.append(text.substr(0, point));
  d.exponent += static_cast<long long>(point);
  if (point != e) d.digits.append(text.substr(point + 1, e - point - 1));
  d.trim();
  return d;
}

/// The double's exact value: at most 767 digits.
Decimal exact(double value) {
  std::array<char, 800> buffer;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::scientific, 766);
  return read_decimal({buffer.data(), end.ptr});
}

/// a + b, digit by digit.
Decimal add(Decimal a, Decimal b) {
  if (a.digits.empty()) return b;
  if (b.digits.empty()) return a;
  if (a.exponent < b.exponent) std::swap(a, b);
  b.digits.insert(0, static_cast<std::size_t>(a.exponent - b.exponent), '0');
  const auto length = std::max(a.digits.size(), b.digits.size());
  a.digits.resize(length, '0');
  b.digits.resize(length, '0');
  if (a.negative != b.negative && a.digits < b.digits) std::swap(a, b);
  Decimal sum{a.negative, std::string(length + 1, '0'), std::max(a.exponent, b.exponent) + 1};
  const int sign = a.negative == b.negative ? 1 : -1;
  int carry = 0;
  for (std::size_t i = length; i-- > 0;) {
    int digit = (a.digits[i] - '0') + sign * (b.digits[i] - '0') + carry;
    carry = digit > 9 ? 1 : digit < 0 ? -1 : 0;
    digit -= 10 * carry;
    sum.digits[i + 1] = static_cast<char>('0' + digit);
  }
  if (carry > 0) sum.digits[0] = '1';
  sum.trim();
  return sum;
}

/// Rounds to nearest, ties to even.
void round_to(Decimal& d, std::size_t digits) {
  if (d.digits.size() <= digits) return;
  const char next = d.digits[digits];
  const bool beyond = d.digits.size() > digits + 1;  // trimmed: the last digit is not zero
  const bool odd = (d.digits[digits - 1] - '0') % 2 != 0;
  d.digits.resize(digits);
  if (next > '5' || (next == '5' && (beyond || odd))) {
    auto i = digits;
    while (i > 0 && d.digits[i - 1] == '9') d.digits[--i] = '0';
    if (i > 0) {
      ++d.digits[i - 1];
    } else {
      d.digits.insert(0, 1, '1');
      ++d.exponent;
    }
  }
  d.trim();
}

/// The text is a finite hex float; 30 digits behind the first that is not zero decide.
dd read_hex(std::string_view text) {
  const bool negative = text.front() == '-';
  text.remove_prefix(text.find_first_of("xX") + 1);
  int exponent = 0;
  const auto p = std::min(text.find_first_of("pP"), text.size());
  if (p != text.size()) {
    std::string_view power = text.substr(p + 1);
    if (power.front() == '+') power.remove_prefix(1);
    std::from_chars(power.data(), power.data() + power.size(), exponent);
  }
  dd value = 0;
  bool fraction = false;
  int used = 0;
  for (const char c : text.substr(0, p)) {
    if (c == '.') {
      fraction = true;
      continue;
    }
    if (fraction) exponent -= 4;
    if (used > 30) {
      exponent += 4;
      continue;
    }
    if (used > 0 || c != '0') ++used;
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    value = ldexp(value, 4) + static_cast<double>(digit);
  }
  value = ldexp(value, exponent);
  return negative ? -value : value;
}

}  // namespace

dd dd_from_string(std::string_view text) {
  const std::optional<double> hi = parse_number(text);
  detail::require(hi.has_value(), "dd_from_string", "text", text, "a decimal or hex number");
  if (*hi == 0 || !std::isfinite(*hi)) return *hi;
  if (text.find_first_of("xX") != text.npos) return read_hex(text);
  Decimal rest = exact(*hi);
  rest.negative = !rest.negative;
  rest = add(read_decimal(text), rest);
  if (rest.digits.empty()) return *hi;
  const auto lo = parse_number((rest.negative ? "-0." : "0.") + rest.digits + 'e' +
                               std::to_string(rest.exponent));
  return kernel::quick_two_sum(*hi, lo.value_or(0));
}

std::string to_string(dd value, int digits) {
  detail::require(digits >= 1 && digits <= 1100, "to_string", "digits", digits, "1 to 1100");
  if (!isfinite(value) || value.hi == 0) return number_text(value.hi);
  Decimal d = add(exact(value.hi), exact(value.lo));
  round_to(d, static_cast<std::size_t>(digits));
  std::string text = d.negative ? "-" : "";
  const auto size = static_cast<long long>(d.digits.size());
  if (d.exponent > digits || d.exponent < -4) {
    text += d.digits[0];
    if (size > 1) text += '.' + d.digits.substr(1);
    return text + 'e' + std::to_string(d.exponent - 1);
  }
  if (d.exponent <= 0) return text + "0." + std::string(-d.exponent, '0') + d.digits;
  if (size <= d.exponent) return text + d.digits + std::string(d.exponent - size, '0');
  return text + d.digits.substr(0, d.exponent) + '.' + d.digits.substr(d.exponent);
}

}  // namespace halfulp
