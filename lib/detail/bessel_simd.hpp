#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "detail/bessel_cells.hpp"
#include "halfulp/hd.hpp"

/// The vector half of a batch of logarithms.
namespace halfulp::detail {

/// Where the batch engine may use vectors at all: elsewhere the scalar functions. Without e^x what
/// is left of w - x needs the digits of w.
inline constexpr double bessel_simd_least_x = 0x1p-500;
HALFULP_HD constexpr double bessel_simd_most_square(bool scaled) {  // w^2
  return scaled ? 0x1p80 : 0x1p1000;
}
/// v^2 + x^2 from which the series is used, at w = 40.3.
inline constexpr double bessel_series_square = 1624;

struct BesselTask {
  bool second;    // K
  bool scaled;    // without e^x
  bool accurate;  // else fast
};

inline constexpr double bessel_ln2_hi = 0x1.62e42fefa2000p-1;  // 40 bits: times e exact
inline constexpr double bessel_ln2_lo = 0x1.9ef35793c7673p-41;

/// The coefficient of r^k in log(1 - r)/4, |r| < 1/32.9, the last of them, of r^last, spread over
/// the others by Chebyshev's T_9(r/h) times r^(last - 9).
constexpr double bessel_half_log_coefficient(int k, int last) {
  constexpr double h2 = 1 / (32.9 * 32.9), h4 = h2 * h2;
  constexpr double share[] = {9 * h4 * h4, 0, -120 * h4 * h2, 0, 432 * h4, 0, -576 * h2};
  const int power = k - (last - 9);  // of T_9
  return -0.25 / k + (power >= 1 && power <= 7 ? 0.25 / last / 256 * share[power - 1] : 0);
}

/// [k - 1]: those of the fast mode, where the last is r^9.
inline constexpr double bessel_fast_half_log[8] = {
    bessel_half_log_coefficient(1, 9), bessel_half_log_coefficient(2, 9),
    bessel_half_log_coefficient(3, 9), bessel_half_log_coefficient(4, 9),
    bessel_half_log_coefficient(5, 9), bessel_half_log_coefficient(6, 9),
    bessel_half_log_coefficient(7, 9), bessel_half_log_coefficient(8, 9)};

/// 1/12, 1/80, ... of (2 atanh(y/2) - y)/y^3 in the fast mode, the last spread over them by
/// Chebyshev's polynomial on y^2 < h.
inline constexpr double bessel_slope_last = 1.0 / 11264;
constexpr double bessel_fast_slope_share(int power, double share) {
  double value = bessel_slope_last;
  for (int k = 0; k < power; ++k) value *= 0.00368;  // h
  return value * (share / 512);
}
inline constexpr double bessel_fast_slope[4] = {
    1.0 / 12 - bessel_fast_slope_share(4, 50), 1.0 / 80 + bessel_fast_slope_share(3, 400),
    1.0 / 448 - bessel_fast_slope_share(2, 1120), 1.0 / 2304 + bessel_fast_slope_share(1, 1280)};

/// [scaled]: from w = [k] on k + 1 terms of the series are enough for the fast mode, what is left
/// out being below 2^-54.5 max(1, |log|); 0: there are no more. Four terms are always there.
inline constexpr double bessel_fast_least_w[2][12] = {
    {HUGE_VAL, HUGE_VAL, HUGE_VAL, 578, 386, 143, 111, 66.8, 54.5, 41.7, 0, 0},
    {HUGE_VAL, HUGE_VAL, HUGE_VAL, 1390, 460, 211, 139, 94.8, 70, 55.2, 45.8, 39}};

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
  void add(double point_v, double point_x, std::ptrdiff_t point_place) {
    v[size] = point_v;
    x[size] = point_x;
    place[size++] = static_cast<std::uint32_t>(point_place);
  }
};

/// A bin is a cell: row in w, column in t or u; then one for w < 1/4, and the last for what vectors
/// cannot do.
inline constexpr int bessel_cell_columns = bessel_cell_halvings + 6;
inline constexpr int bessel_cell_bins = bessel_cell_rows * bessel_cell_columns;
inline constexpr int bessel_tiny_bin = bessel_cell_bins, bessel_bins_in_all = bessel_cell_bins + 2;

/// Where the cell of a bin is among those of its kind, and the range of its first variable.
struct BesselCellPlace {
  int index;  // -1: there is none
  double low, high;
};
constexpr BesselCellPlace bessel_cell_place(bool second, int bin) {
  constexpr double sixth[] = {0,   0x1.5555555555555p-3, 0x1.5555555555555p-2,
                              0.5, 0x1.5555555555555p-1, 0x1.aaaaaaaaaaaabp-1,
                              1};
  constexpr int halvings = bessel_cell_halvings, fine_rows = bessel_cell_fine_rows;
  const int row = bin / bessel_cell_columns, column = bin % bessel_cell_columns;
  if (!second) {
    if (column > 5) return {-1, 0, 1};
    return {6 * row + column, sixth[column], sixth[column + 1]};
  }
  const int index = row < fine_rows ? bessel_cell_columns * row + column
                                    : bessel_cell_columns * fine_rows + 6 * (row - fine_rows) +
                                          (column > halvings ? column - halvings : 0);
  if (column > halvings) return {index, sixth[column - halvings], sixth[column - halvings + 1]};
  if (row >= fine_rows) return {column > 0 ? -1 : index, 0, sixth[1]};
  double high = sixth[1];
  for (int k = column; k < halvings; ++k) high *= 0.5;
  return {index, column == 0 ? 0 : 0.5 * high, high};
}

/// The points of a block with w < 40.3, and those that are no numbers. Arrays are one tile longer.
struct BesselNarrow {
  BesselPoints points;
  double* hi;  // the leading terms
  double* lo;
  double* inverse_w;
  double* t;    // v/w (first kind) or x/w (second)
  double* sum;  // the rest
  double* sum_lo;
  std::int32_t* bin;
  std::int32_t* order;  // the points by bins, and in this order
  double* ordered_t;
  double* ordered_inverse_w;
  double* ordered_sum;
  double* ordered_sum_lo;
};

/// w times the sum is a polynomial in a = a_scale t + a_shift and b = b_scale/w + b_shift, each of
/// the four as hi, lo: as bessel_cells_i and the others have it.
struct BesselCell {
  int rows;  // powers of a; 0: there is no polynomial
  std::uint8_t length[bessel_cell_most_degree + 1];
  double bound;        // of what is left out
  double rounding;     // of the coefficients, but for those of 1, b and a if there is a `rest`
  const double* rest;  // what is left of those three; of accurate cells only
  double a_scale[2], a_shift[2], b_scale[2], b_shift[2];
  const double* coefficients;  // from the first row's length on
};

/// out[i] by the series where v[i] and x[i] allow it; the others are added to `narrow` with their
/// leading terms, (1) or (2) of kernel/bessel.hpp, and in the accurate mode those whose bound of
/// the error is too large to `weak`.
void bessel_wide(std::ptrdiff_t n, const double* v, const double* x, double* out, BesselTask task,
                 BesselNarrow& narrow, BesselPoints& weak);

/// Fills `t` and `bin`.
void bessel_bins(const BesselNarrow& narrow, bool second);

/// Fills `ordered_sum`, if accurate also `ordered_sum_lo`, from begin to end; the last vector may
/// reach into the next bin, so bins are taken in their order.
void bessel_add_cell(std::ptrdiff_t begin, std::ptrdiff_t end, const BesselNarrow& narrow,
                     const BesselCell& cell, bool accurate);

/// values[i] = leading terms + sum; in the accurate mode, with a bound for each bin, the points
/// that are too uncertain are put into `weak`, returned is how many.
std::ptrdiff_t bessel_finish(const BesselNarrow& narrow, BesselTask task, const double* bounds,
                             double* values, std::int32_t* weak);

/// out[place[i]] for points with w < 1/4 and, for the second kind, also with x < w/3072 and w
/// < 1.6; the arrays are read up to one tile further. In the fast mode's budget; where I is
/// relative and log I so small beside what it is the difference of that less than 2^-30 of it is
/// not sure, the point is added to `weak` instead.
void bessel_tiny_points(const BesselPoints& points, BesselTask task, bool relative, double* out,
                        BesselPoints& weak);

/// values[i] again for the n <= 64 points i that `weak` has the numbers of, all of one cell, by
/// pairs of numbers; a bit for each that is still too uncertain. May read one vector of `weak`
/// behind them.
std::uint64_t bessel_exact_cell(const std::int32_t* weak, int n, const BesselNarrow& narrow,
                                bool second, const BesselCell& cell, double* values);

}  // namespace halfulp::detail
