#pragma once

#include <cstddef>

/// The vector half of the factor of a window: loops over the rows of a few neighbouring columns.
///
/// `n` is a multiple of factor_step, arrays begin at a line of the cache, and column q begins
/// q stride numbers behind `columns`. Sums are in 8 lanes, halves added first: the same bits for
/// any size of a vector where there is a fused multiply-add.
namespace halfulp::mfac::detail {

inline constexpr std::ptrdiff_t factor_step = 8;
inline constexpr int factor_rotations = 4;  ///< columns that factor_rotate takes at most
inline constexpr int factor_columns = 8;    ///< columns that the others take at most

/// (column_q, v) := (c_q column_q + s_q v, c_q v - s_q column_q), then k -= w_q column_q; one q
/// after the other.
void factor_rotate(double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                   const double* c, const double* s, const double* w, double* v, double* k);
/// k -= sum_q w_q column_q.
void factor_subtract(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                     const double* w, double* k);
/// out_q = column_q . x.
void factor_dots(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                 const double* x, double* out);

}  // namespace halfulp::mfac::detail
