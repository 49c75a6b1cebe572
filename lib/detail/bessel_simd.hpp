#pragma once

#include <cstddef>

/// The vector half of a batch of logarithms: points already sorted into bins of one polynomial
/// each.
namespace halfulp::detail {

/// Where the batch engine may use vectors at all: elsewhere the scalar functions.
inline constexpr double bessel_simd_least_x = 0x1p-500;
inline constexpr double bessel_simd_most_x = 0x1p40;
inline constexpr double bessel_simd_most_v = 0x1p50;

/// Arrays of a block, as long as its points and one vector more: the last vector of a bin reaches
/// into the next, so bins are taken in their order.
struct BesselBlock {
  const double* v;
  const double* x;
  double* hi;  // the leading terms
  double* lo;
  double* inverse_w;
  double* t;  // v/w (first kind) or x/w (second)
  double* out;
};

/// Leading terms of (1) or (2) of kernel/bessel.hpp.
void bessel_heads(std::ptrdiff_t n, const BesselBlock& block, bool second, bool scaled);

/// Adds the sum of `terms` terms of the uniform expansion for points [begin, end).
void bessel_add_series(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
                       bool second, int terms);

/// Adds the polynomial of a cell of bessel_cells.hpp, over [a0, a1] in t and [b0, b1] in 1/w.
void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
                     const double* cell, double a0, double a1, double b0, double b1);

}  // namespace halfulp::detail
