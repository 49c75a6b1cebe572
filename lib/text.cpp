#include "halfulp/text.hpp"

#include <charconv>
#include <cmath>
#include <limits>

namespace halfulp {
namespace {

template <class T>
std::string shortest(T value) {
  if (std::isnan(value)) return "nan";  // to_chars would write the sign of a NaN
  char buffer[64];
  return {buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr};
}

/// Length of the UTF-8 sequence at the start of `text` (RFC 3629: no overlong forms, no surrogates,
/// nothing above U+10FFFF); 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto within = [&](std::size_t i, unsigned lower, unsigned upper) {
    return i < text.size() && byte(i) >= lower && byte(i) <= upper;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return within(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const bool second = within(1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF);
    return second && within(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const bool second = within(1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF);
    return second && within(2, 0x80, 0xBF) && within(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

bool same_word(std::string_view text, std::string_view word) {
  if (text.size() != word.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if ((text[i] | 0x20) != word[i]) return false;
  return true;
}

/// from_chars reports a magnitude out of range without saying which way. A magnitude d * 10^e with
/// |e| that large is decided by the position of the first nonzero digit alone.
double out_of_range(std::string_view digits, bool hex) {
  const char mark = hex ? 'p' : 'e';
  std::ptrdiff_t position = 0;  // of the first nonzero digit: > 0 left of the point
  std::ptrdiff_t integer_digits = 0, leading_zeros = 0;
  bool point = false, nonzero = false;
  std::size_t i = 0;
  for (; i < digits.size() && (digits[i] | 0x20) != mark; ++i) {
    if (digits[i] == '.') {
      point = true;
      continue;
    }
    nonzero = nonzero || digits[i] != '0';
    if (!point && nonzero) ++integer_digits;
    if (point && !nonzero) ++leading_zeros;
  }
  position = integer_digits > 0 ? integer_digits : -leading_zeros;
  double exponent = 0;
  if (i < digits.size()) {
    bool negative = false;
    for (++i; i < digits.size(); ++i) {
      if (digits[i] == '-') negative = true;
      if (digits[i] >= '0' && digits[i] <= '9') exponent = 10 * exponent + (digits[i] - '0');
    }
    if (negative) exponent = -exponent;
  }
  const double magnitude = exponent + static_cast<double>(position) * (hex ? 4 : 1);
  return magnitude > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

}  // namespace

std::string number_text(double value) { return shortest(value); }
std::string number_text(float value) { return shortest(value); }

std::string hex_text(double value) {
  if (!std::isfinite(value)) return shortest(value);
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::hex).ptr;
  return (std::signbit(value) ? "-0x" : "0x") + std::string(buffer, end);
}

std::optional<double> parse_number(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '+' || text[0] == '-')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty()) return std::nullopt;
  double value = 0;
  if (same_word(text, "nan")) {
    value = std::numeric_limits<double>::quiet_NaN();
  } else if (same_word(text, "inf") || same_word(text, "infinity")) {
    value = std::numeric_limits<double>::infinity();
  } else {
    const bool hex = text.size() > 2 && text[0] == '0' && (text[1] | 0x20) == 'x';
    if (hex) text.remove_prefix(2);
    // from_chars would take a second sign, and the words nan(...) and infinity after a sign.
    const char first = text[0];
    const bool digit = (first >= '0' && first <= '9') || first == '.' ||
                       (hex && (first | 0x20) >= 'a' && (first | 0x20) <= 'f');
    if (!digit) return std::nullopt;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value,
                        hex ? std::chars_format::hex : std::chars_format::general);
    if (error == std::errc::invalid_argument || end != text.data() + text.size())
      return std::nullopt;
    if (error == std::errc::result_out_of_range) value = out_of_range(text, hex);
  }
  return negative ? -value : value;
}

std::string escape_text(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto lead = static_cast<unsigned char>(text[0]);
    const std::size_t length = utf8_length(text);
    const bool c1_control =
        length == 2 && lead == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    const bool control = lead < 0x20 || lead == 0x7F || c1_control;
    const std::size_t taken = length == 0 ? 1 : length;
    if (length == 0 || control) {
      for (std::size_t i = 0; i < taken; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        out += "\\x";
        out += digits[byte >> 4];
        out += digits[byte & 15];
      }
    } else {
      out += text.substr(0, taken);
    }
    text.remove_prefix(taken);
  }
  return out;
}

}  // namespace halfulp
