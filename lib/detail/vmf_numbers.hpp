#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace halfulp::detail {

/// Rows of numbers in double or in single precision, read as double: the conversion is exact.
class VmfNumbers {
 public:
  VmfNumbers() = default;
  explicit VmfNumbers(std::span<const double> numbers) : wide_(numbers) {}
  explicit VmfNumbers(std::span<const float> numbers) : single_(numbers) {}

  /// f(all numbers, as a span of their type).
  template <class F>
  decltype(auto) visit(F f) const {
    return single_.empty() ? f(wide_) : f(single_);
  }
  [[nodiscard]] std::ptrdiff_t size() const {
    return single_.empty() ? std::ssize(wide_) : std::ssize(single_);
  }
  /// `count` numbers from the given one on: where they lie, or converted, in `buffer`.
  const double* read(std::ptrdiff_t first, std::ptrdiff_t count,
                     std::vector<double>& buffer) const {
    if (single_.empty()) return wide_.data() + first;
    buffer.resize(static_cast<std::size_t>(count));
    std::copy_n(single_.data() + first, count, buffer.data());
    return buffer.data();
  }

 private:
  std::span<const double> wide_;
  std::span<const float> single_;  ///< if not empty, these
};

}  // namespace halfulp::detail
