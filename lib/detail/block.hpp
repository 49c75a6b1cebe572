#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "detail/aligned.hpp"
#include "detail/bessel_simd.hpp"

/// A batch is taken in blocks: their size, working arrays, and their points by cells.
namespace halfulp::detail {

inline constexpr std::ptrdiff_t block_size = 8192;
inline constexpr std::ptrdiff_t block_padding = 64;  // a tile

/// Working arrays of one thread.
template <int Numbers, int Places, int Indices>
class BlockWorkspace {
 public:
  double* numbers(int i) { return numbers_.get() + i * size; }
  std::uint32_t* places(int i) { return places_.get() + i * size; }
  std::int32_t* indices(int i) { return indices_.get() + i * size; }

 private:
  static constexpr std::ptrdiff_t size = block_size + block_padding;
  AlignedArray<double> numbers_ = aligned_array<double>(Numbers * size);
  AlignedArray<std::uint32_t> places_ = aligned_array<std::uint32_t>(Places * size);
  AlignedArray<std::int32_t> indices_ = aligned_array<std::int32_t>(Indices * size);
};

/// The points by bins: a counting sort. Four parts of them take turns, each with counters of its
/// own: one counter would wait for itself. Returns where the bins begin.
template <int Bins>
auto sort_by_bins(const BesselNarrow& narrow) {
  constexpr int parts = 4;
  std::array<std::array<std::int32_t, Bins>, parts> next{};
  std::array<std::int32_t, Bins + 1> start;
  const std::int32_t* const bin = narrow.bin;
  const auto n = static_cast<std::int32_t>(narrow.points.size);
  const std::int32_t part = n / parts;
  const auto each = [&](auto action) {
    for (std::int32_t i = 0; i < part; ++i)
      for (int p = 0; p < parts; ++p) action(i + p * part, next[p]);
    for (std::int32_t i = parts * part; i < n; ++i) action(i, next[parts - 1]);
  };
  each([&](std::int32_t i, auto& counter) { ++counter[bin[i]]; });
  std::int32_t total = 0;
  for (int b = 0; b < Bins; ++b) {
    start[b] = total;
    for (auto& counter : next) {
      const std::int32_t size = counter[b];
      counter[b] = total;
      total += size;
    }
  }
  start[Bins] = total;
  each([&](std::int32_t i, auto& counter) {
    const std::int32_t to = counter[bin[i]]++;
    narrow.order[to] = i;
    narrow.ordered_t[to] = narrow.t[i];
    narrow.ordered_inverse_w[to] = narrow.inverse_w[i];
  });
  return start;
}

}  // namespace halfulp::detail
