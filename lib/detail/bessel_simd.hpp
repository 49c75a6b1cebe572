#pragma once

#include <cstddef>
#include <cstdint>

/// The vector half of a batch of logarithms.
namespace halfulp::detail {

/// Where the batch engine may use vectors at all: elsewhere the scalar functions.
inline constexpr double bessel_simd_least_x = 0x1p-500;
inline constexpr double bessel_simd_most_square = 0x1p80;  // v^2 + x^2
/// v^2 + x^2 from which the series is used, at w = 40.3.
inline constexpr double bessel_series_square = 1624;

struct BesselTask {
  bool second;    // K
  bool scaled;    // without e^x
  bool accurate;  // else fast
};

/// The sum of the uniform expansion, and how many of its terms which 1/w asks for.
struct BesselSeries {
  static constexpr int most_terms = 14;
  int terms;
  double most_inverse_w[most_terms + 1];  // [k]: up to it k terms are enough
  double coefficients[most_terms * (most_terms + 3) / 2];
};

/// Points of a block set aside, and where they were.
struct BesselPoints {
  double* v;
  double* x;
  std::uint32_t* place;
  std::ptrdiff_t size;
};

/// out[i] by the series where v[i] and x[i] allow it; the others are added to `rest`, in the
/// accurate mode those whose bound of the error is too large to `weak`.
void bessel_wide(std::ptrdiff_t n, const double* v, const double* x, double* out, BesselTask task,
                 BesselPoints& rest, BesselPoints& weak);

/// Points sorted into bins of one cell each, arrays as long as the points and one vector more: the
/// last vector of a bin reaches into the next, so bins are taken in their order.
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

/// Adds the polynomial of a cell of bessel_cells.hpp, over [a0, a1] in t and [b0, b1] in 1/w.
void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselBlock& block,
                     const double* cell, double a0, double a1, double b0, double b1);

}  // namespace halfulp::detail
