#pragma once

#include <cmath>

#include "detail/bessel_simd.hpp"
#include "halfulp/hd.hpp"
#include "halfulp/kernel/bessel_function.hpp"

/// The logarithms in the fast mode, one point at a time: for the threads of a device. The formulas
/// and the tables are those of bessel_simd.cpp; other than there, few operations in double
/// precision count, and branches that a group of threads takes together cost nothing.
namespace halfulp::detail {

inline constexpr int bessel_fast_least_terms = 4, bessel_fast_most_terms = 12;

/// a = a_scale t + a_shift and b = b_scale/w + b_shift are the variables of a cell's polynomial of
/// `rows` powers of a, from coefficients[start] on; of none: there is no cell.
struct BesselFastCell {
  int start, rows;
  double a_scale, a_shift, b_scale, b_shift;
};

/// Tables, in the memory of the side that reads them.
struct BesselFastTables {
  const double *log_inverse, *log_minus;      // bessel_log_table [0] and [3]
  const double *slope_inverse, *slope_minus;  // bessel_slope_table
  const BesselFastCell* cell[2];              // [second]: bessel_cell_bins
  const double* coefficients[2];
};

/// Coefficients that every point needs: as an argument of a kernel they are operands, while numbers
/// in the code are moved to registers first.
struct BesselFastNumbers {
  double series[bessel_fast_most_terms * (bessel_fast_most_terms + 3) / 2];
  double half_log[8];  // bessel_fast_half_log
  double slope[4];     // bessel_fast_slope
};

/// Bins of points: those of the series by their terms, the cells, and what kernel/bessel.hpp is
/// asked for, by columns of w and of v/w.
inline constexpr int bessel_fast_first_cell = bessel_fast_most_terms + 1 - bessel_fast_least_terms;
inline constexpr int bessel_fast_tiny_bin = bessel_fast_first_cell + bessel_tiny_bin;
inline constexpr int bessel_fast_bins = bessel_fast_first_cell + bessel_bins_in_all;

inline BesselFastNumbers bessel_fast_numbers() {
  BesselFastNumbers numbers;
  for (int i = 0; i < bessel_fast_most_terms * (bessel_fast_most_terms + 3) / 2; ++i)
    numbers.series[i] = kernel::bessel_log_series(i).hi;
  for (int k = 0; k < 8; ++k) numbers.half_log[k] = bessel_fast_half_log[k];
  for (int k = 0; k < 4; ++k) numbers.slope[k] = bessel_fast_slope[k];
  return numbers;
}

constexpr BesselFastCell bessel_fast_cell(bool second, int bin) {
  const BesselCellPlace place = bessel_cell_place(second, bin);
  if (place.index < 0) return {};
  const int start =
      second ? bessel_fast_cell_start_k[place.index] : bessel_fast_cell_start_i[place.index];
  const double* const data = (second ? bessel_fast_cells_k : bessel_fast_cells_i) + start;
  if (!(data[1] < 0x1p-53)) return {};
  const int row = bin / bessel_cell_columns;
  const double low = bessel_cell_inverse_w[row + 1], high = bessel_cell_inverse_w[row];
  const double a = place.high - place.low, b = high - low;
  return {start + 2, static_cast<int>(data[0]), 2 / a, -(place.high + place.low) / a,
          2 / b,     -(high + low) / b};
}

HALFULP_HD inline long long bits_of(double x) { return __builtin_bit_cast(long long, x); }
HALFULP_HD inline double from_bits(long long bits) { return __builtin_bit_cast(double, bits); }

HALFULP_HD inline int bits_of(float x) { return __builtin_bit_cast(int, x); }
/// The mantissa in [1, 2) to 23 bits of a double with these bits.
HALFULP_HD inline float leading_bits(long long bits) {
  return __builtin_bit_cast(float, 0x3f800000 | (static_cast<int>(bits >> 29) & 0x7fffff));
}

/// To a few units in the last place.
HALFULP_HD inline float rough_quotient(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdividef(a, b);
#else
  return a / b;
#endif
}

HALFULP_HD inline double inverse_root(double x) {
#if defined(__CUDA_ARCH__)
  return rsqrt(x);
#else
  return 1 / std::sqrt(x);
#endif
}

/// How many terms a point of the series needs besides the first four. `top` has the upper half of
/// the bits of w^2: integers are compared by other units than doubles.
template <int K = 3>
HALFULP_HD int bessel_fast_more_terms(bool scaled, int top) {
  if constexpr (K == 11) {
    return 0;
  } else {
    constexpr double plain = bessel_fast_least_w[0][K + 1] > 0 ? bessel_fast_least_w[0][K] : 0;
    constexpr double other = bessel_fast_least_w[1][K];
    constexpr int plain_top = static_cast<int>(__builtin_bit_cast(long long, plain* plain) >> 32);
    constexpr int other_top = static_cast<int>(__builtin_bit_cast(long long, other* other) >> 32);
    return (top <= (scaled ? other_top : plain_top) ? 1 : 0) +
           bessel_fast_more_terms<K + 1>(scaled, top);
  }
}

/// The bin of a point, for the cells of log I or log K; points of one bin take the same way.
HALFULP_HD inline int bessel_fast_bin(bool second, bool scaled, double v, double x) {
  const double square = v * v + x * x;
  if (!(v >= 0 && x >= bessel_simd_least_x && square <= bessel_simd_most_square(scaled)))
    return bessel_fast_tiny_bin + 1;
  if (square >= bessel_series_square)
    return bessel_fast_more_terms(scaled, static_cast<int>(bits_of(square) >> 32));
  const double inverse_w = inverse_root(square);
  constexpr double most = bessel_cell_inverse_w[0];
  if (!(inverse_w <= most)) return bessel_fast_tiny_bin;
  // rows fall by 2^(1/3) in 1/w from 4; what rounding puts into the next cell is at its edge
  const long long bits = bits_of(inverse_w);
  const int exponent = static_cast<int>(bits >> 52) - 1023;
  const double m = from_bits((bits & 0x000fffffffffffffLL) | 0x3ff0000000000000LL);
  int row = 5 - 3 * exponent - (m >= 0x1.428a2f98d728bp+0) - (m >= 0x1.965fea53d6e3dp+0);
  row = row < 0 ? 0 : row >= bessel_cell_rows ? bessel_cell_rows - 1 : row;
  const double sixths = 6 * ((second ? x : v) * inverse_w);
  int column = sixths < 5 ? static_cast<int>(sixths) : 5;
  if (second) {
    if (sixths >= 1) {
      column += bessel_cell_halvings;
    } else if (row < bessel_cell_fine_rows) {
      // the first column is cut into halves
      const int part = static_cast<int>(bits_of(sixths) >> 52) - 1023 + bessel_cell_halvings + 1;
      column = part > 0 ? part : 0;
    }
  }
  return bessel_fast_first_cell + bessel_cell_columns * row + column;
}

/// All of (1) or (2) of kernel/bessel.hpp but the sum, hi + lo; 1/w and t = v/w or, for the second
/// kind, u = x/w.
struct BesselFastHead {
  double hi, lo, inverse_w, v_over_w;
};

template <bool Second, bool Scaled>
HALFULP_HD BesselFastHead bessel_fast_head(double v, double x, const BesselFastTables& tables,
                                           const BesselFastNumbers& numbers) {
  using kernel::two_prod, kernel::quick_two_sum, kernel::two_sum;
  // w + w_lo, the root of square + square_lo
  const double a = v > x ? v : x, b = v > x ? x : v;
  const dd aa = two_prod(a, a);
  const double square = std::fma(b, b, aa.hi);
  const double square_lo = aa.lo - std::fma(-b, b, square - aa.hi);
  const double rough = inverse_root(square), near = square * rough;
  const double w = std::fma(std::fma(-near, near, square), 0.5 * rough, near);
  const double w_lo = (std::fma(-w, w, square) + square_lo) * (0.5 * rough);
  const double inverse_w = std::fma(std::fma(-w, rough, 1.0), rough, rough);

  // (w + v)/x = (1 + y/2)/(1 - y/2) 2^e/c, y = n/(x + n/2), n = 2^-e c (w + v) - x
  const dd top = quick_two_sum(w, v);
  const double top_lo = top.lo + w_lo;
  const long long top_bits = bits_of(top.hi), x_bits = bits_of(x);
  const int quotient = bits_of(rough_quotient(leading_bits(top_bits), leading_bits(x_bits)));
  const int raw = static_cast<int>((top_bits >> 52) - (x_bits >> 52)) + (quotient >> 23) - 127;
  // At least 1, as it is: the interval below 1 has no small y where v is small beside x.
  const int exponent = raw < 0 ? 0 : raw;
  const int interval = raw < 0 ? 0 : (quotient >> 19) & 15;
  // the table has 2^1022 c
  const double c = from_bits(bits_of(tables.slope_inverse[interval]) -
                             (static_cast<long long>(exponent + 1023) << 52));
  const dd product = two_prod(c, top.hi);
  const double half_n = product.hi - 0.5 * x;  // exact
  const double inverse = 1 / (x + half_n);
  const double half_lo = std::fma(c, top_lo, product.lo), n = 2 * half_n;
  const double y = n * inverse, y2 = y * y;
  // n_lo (1 - y/2), half_lo being n_lo/2
  const double n_lo = std::fma(-y, half_lo, 2 * half_lo);
  const double rest = std::fma(-y, half_n, std::fma(-y, x, n) + n_lo) * inverse;
  double q = std::fma(y2, numbers.slope[3], numbers.slope[2]);
  q = std::fma(q, y2, numbers.slope[1]);
  q = std::fma(q, y2, numbers.slope[0]);
  const double slope_e = exponent;
  const double e_hi = std::fma(slope_e, bessel_ln2_hi, tables.slope_minus[interval]);  // exact
  const dd sum = quick_two_sum(e_hi, y);
  const double slope_lo = std::fma(y2, y * q, std::fma(slope_e, bessel_ln2_lo, sum.lo + rest));

  // log(2 pi w)/2 or log(2 w/pi)/2: log(1 - r)/4 is what is left of that of w^2
  constexpr dd constant = Second ? -kernel::log_half_pi() : kernel::log_two_pi();
  constexpr double scaled_up = 0x1p40 * constant.hi;
  constexpr double constant_hi =
      0x1p-41 * static_cast<double>(static_cast<long long>(scaled_up + (Second ? -0.5 : 0.5)));
  constexpr double constant_lo = 0.5 * constant.hi - constant_hi + 0.5 * constant.lo;
  const long long square_bits = bits_of(square);
  const int root_interval = static_cast<int>(square_bits >> 48) & 15;
  const double root_e = static_cast<int>(square_bits >> 52) - 1023;
  const double m = from_bits((square_bits & 0x000fffffffffffffLL) | 0x3ff0000000000000LL);
  const double r = std::fma(-m, tables.log_inverse[root_interval], 1.0);
  double p = std::fma(r, numbers.half_log[7], numbers.half_log[6]);
  for (int k = 5; k >= 0; --k) p = std::fma(p, r, numbers.half_log[k]);
  const double root_hi = std::fma(root_e, bessel_ln2_hi / 4, constant_hi);
  const double root_lo = std::fma(
      p, r, std::fma(root_e, bessel_ln2_lo / 4, constant_lo) + tables.log_minus[root_interval]);

  // w (- x) - v slope, for the second kind its negative
  const dd turned = two_prod(v, sum.hi);
  const double turned_lo = std::fma(v, slope_lo, turned.lo);
  const double first = Scaled ? w - x : w;
  const double first_lo = Scaled ? w_lo + ((w - first) - x) : w_lo;
  const dd lead = Second ? two_sum(turned.hi, -first) : two_sum(first, -turned.hi);
  const double lead_lo = Second ? turned_lo - first_lo : first_lo - turned_lo;
  const dd head = two_sum(lead.hi, -root_hi);
  return {head.hi, ((lead_lo - root_lo) + lead.lo) + head.lo, inverse_w, v * inverse_w};
}

/// sum s_k z^k to `terms`, from s = what the terms behind K give.
template <int K>
HALFULP_HD double bessel_fast_series(const BesselFastNumbers& numbers, int terms, double t2,
                                     double z, double s) {
  if constexpr (K == 0) {
    return s * z;
  } else {
    if (K <= terms) {
      constexpr int row = K * (K + 1) / 2 - 1;
      double p = numbers.series[row + K];
      for (int j = K - 1; j >= 0; --j) p = std::fma(p, t2, numbers.series[row + j]);
      s = std::fma(s, z, p);
    }
    return bessel_fast_series<K - 1>(numbers, terms, t2, z, s);
  }
}

/// w times the sum of a cell.
HALFULP_HD inline double bessel_fast_polynomial(const BesselFastCell& cell,
                                                const double* coefficients, double t,
                                                double inverse_w) {
  const double a = std::fma(t, cell.a_scale, cell.a_shift);
  const double b = std::fma(inverse_w, cell.b_scale, cell.b_shift);
  const double* c = coefficients + cell.start;
  double sum = 0;
  for (int row = 0; row < cell.rows; ++row) {
    const int length = static_cast<int>(*c++);
    double p = 0;
    for (int j = 0; j < length; ++j) p = std::fma(p, b, *c++);
    sum = std::fma(sum, a, p);
  }
  return sum;
}

/// F(v, x) for a point of that bin. The arguments may be from anywhere.
template <BesselFunction F>
HALFULP_HD double bessel_fast_value(int bin, double v, double x, const BesselFastTables& tables,
                                    const BesselFastNumbers& numbers) {
  constexpr bool second = F == BesselFunction::log_k || F == BesselFunction::log_k_scaled;
  constexpr bool scaled = F == BesselFunction::log_i_scaled || F == BesselFunction::log_k_scaled;
  if (bin < bessel_fast_tiny_bin) {
    const bool series = bin < bessel_fast_first_cell;
    const BesselFastCell* const cell =
        series ? nullptr : &tables.cell[second ? 1 : 0][bin - bessel_fast_first_cell];
    if (series || cell->rows > 0) {
      const BesselFastHead head = bessel_fast_head<second, scaled>(v, x, tables, numbers);
      const double inverse_w = head.inverse_w;
      const double sum =
          series ? bessel_fast_series<bessel_fast_most_terms>(
                       numbers, bin + bessel_fast_least_terms, head.v_over_w * head.v_over_w,
                       second ? -inverse_w : inverse_w, 0)
                 : inverse_w * bessel_fast_polynomial(*cell, tables.coefficients[second ? 1 : 0],
                                                      second ? x * inverse_w : head.v_over_w,
                                                      inverse_w);
      return head.hi + (head.lo + sum);
    }
  }
  return kernel::bessel_value<F>(v, x);
}

}  // namespace halfulp::detail
