#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "halfulp/expression.hpp"

namespace halfulp::detail {

/// A formula on a tensor grid in double, a few rows of the first axis at a time, so that no array
/// of the whole grid is needed. What depends on one axis alone is evaluated in double-double and
/// rounded once: sin(100 x) at a rounded x would be wrong by a hundred roundings, the same ones
/// along the whole grid. What does not depend on the first axis is evaluated once, at construction.
class SlabSampler {
 public:
  /// @param  program  one formula
  SlabSampler(const Program<dd>& program, std::span<const std::vector<dd>> axes, int threads);

  /// Values at rows begin .. begin + count of the first axis, C order. Any number of threads may
  /// call this.
  void rows(std::ptrdiff_t begin, std::ptrdiff_t count, double* out) const;

 private:
  Program<dd> program_;
  std::vector<std::ptrdiff_t> lengths_;
  std::vector<std::vector<double>> stored_;  ///< by register; constants have one entry
};

}  // namespace halfulp::detail
