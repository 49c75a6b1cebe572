#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "halfulp/error.hpp"
#include "halfulp/text.hpp"

/// Argument checks. Write the condition so that NaN fails: require(h > 0, ...).
namespace halfulp::detail {

/// Throws DomainError `halfulp::function: argument = value, must be rule` unless `condition`.
template <class Value>
void require(bool condition, std::string_view function, std::string_view argument,
             const Value& value, std::string_view rule) {
  if (condition) return;
  if constexpr (std::is_same_v<Value, bool>)
    throw DomainError(function, argument, value ? "true" : "false", rule);
  else if constexpr (std::is_integral_v<Value>)
    throw DomainError(function, argument, std::to_string(value), rule);  // exact beyond 2^53
  else if constexpr (std::is_same_v<Value, float>)
    throw DomainError(function, argument, number_text(value), rule);
  else
    throw DomainError(function, argument, value, rule);
}

/// Throws ShapeError `halfulp::function: argument.size() = actual, must be expected`.
inline void require_size(std::string_view function, std::string_view argument,
                         std::ptrdiff_t actual, std::ptrdiff_t expected) {
  if (actual != expected) throw ShapeError(function, argument, actual, expected);
}

/// argument[17], or argument[1, 7] if `size` numbers are several rows of `width`.
inline std::string element_name(std::string_view argument, std::size_t index, std::size_t size,
                                std::ptrdiff_t width) {
  const auto row = static_cast<std::size_t>(width);
  const std::string place = width > 0 && size > row
                                ? std::to_string(index / row) + ", " + std::to_string(index % row)
                                : std::to_string(index);
  return std::string(argument) + '[' + place + ']';
}

/// Throws DomainError `halfulp::function: argument[17] = nan, must be finite` for the first bad
/// element; of several rows of `width` numbers it is argument[row, column].
template <class T>
void require_finite(std::string_view function, std::string_view argument, std::span<const T> values,
                    std::ptrdiff_t width = 0) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      throw DomainError(function, element_name(argument, i, values.size(), width),
                        number_text(values[i]), "finite");
}

inline void require_finite(std::string_view function, std::string_view argument,
                           std::span<const double> values, std::ptrdiff_t width = 0) {
  require_finite<double>(function, argument, values, width);
}

}  // namespace halfulp::detail
