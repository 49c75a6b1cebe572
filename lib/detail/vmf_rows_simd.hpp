#pragma once

#include <cstddef>

#include "halfulp/kernel/dd.hpp"

/// The vector half of the functions of many directions: products and sums as pairs hi + lo, with
/// about twice the digits of a double. Which numbers are added in which order depends on the
/// instruction set, but on nothing else.
///
/// Rows are taken by the tile of at most 64. Arrays of a number a row have room for 64; what is
/// behind the last row is overwritten, or read and ignored.
namespace halfulp::detail {

inline constexpr std::ptrdiff_t vmf_tile = 64;

struct ConstPairArray {
  const double* hi;
  const double* lo;
};
struct PairArray {
  double* hi;
  double* lo;
  PairArray operator+(std::ptrdiff_t i) const { return {hi + i, lo + i}; }
  operator ConstPairArray() const { return {hi, lo}; }  // NOLINT: as double* to const double*
};

/// square_i = x_i . x_i and, if the axis is not null, product_i = axis . x_i, where nothing over-
/// or underflows, to about 2^-104 + 2^-115 p of |x_i|^2 and |x_i| |axis|. `unit`: faster, to about
/// 2^-99 + 2^-108 p, if no |x_i| and |axis| is beyond 1.1; longer rows are only seen to be so.
void vmf_products(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray axis,
                  PairArray square, PairArray product, bool unit);

/// sum += sum over the rows of factor_i x_i.
void vmf_add_rows(std::ptrdiff_t n, std::ptrdiff_t p, const double* x, ConstPairArray factor,
                  PairArray sum);

/// |x - t axis|^2 for one row.
[[nodiscard]] dd vmf_deviation(std::ptrdiff_t p, const double* x, ConstPairArray axis, dd t);

/// factor_i = weight_i/sqrt(square_i).
void vmf_factors(std::ptrdiff_t n, const double* weight, ConstPairArray square, PairArray factor);

/// complement_i = 1 - product_i/sqrt(square_i), to an error of about 2^-102.
void vmf_complements(std::ptrdiff_t n, ConstPairArray product, ConstPairArray square,
                     PairArray complement);

/// out_i = top - kappa complement_i, rounded once; kappa < 2^900.
void vmf_log_densities(std::ptrdiff_t n, ConstPairArray complement, double kappa, dd top,
                       double* out);

}  // namespace halfulp::detail
