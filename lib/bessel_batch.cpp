#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "detail/bessel_cells.hpp"
#include "detail/bessel_simd.hpp"
#include "detail/block.hpp"
#include "detail/require.hpp"
#include "halfulp/bessel.hpp"
#include "halfulp/kernel/bessel.hpp"
#include "halfulp/threads.hpp"

namespace halfulp {
namespace {

using detail::block_padding, detail::block_size;

bool is_logarithm(BesselFunction f) { return f <= BesselFunction::log_k_scaled; }

struct Cells {
  std::array<detail::BesselCell, detail::bessel_cell_bins> cell{};
  /// Of what is left out and rounded, but for the last additions; of none: below everything.
  std::array<double, detail::bessel_bins_in_all> bound;
};

/// The error of a cell by the rounding of t and 1/w, at most 3 2^-53 and 2^-52 of them, of which
/// bessel_finish makes up what would follow from the first term of the series: a bound of the
/// difference between the polynomial's derivatives and those.
double missed_by_rounding(const detail::BesselCell& cell, double most_t, double most_inverse_w) {
  double in_t = 0, in_inverse_w = 0;
  const double* c = cell.coefficients;
  for (int row = 0; row < cell.rows; ++row) {
    const int i = cell.rows - 1 - row;
    ++c;
    for (int j = cell.length[row] - 1; j >= 0; --j, ++c) {
      // of a^(i-1) b^j; the first term's derivative is -5/12 t/w, t = (a - a_shift)/a_scale
      double derivative = i * *c * cell.a_scale[0];
      if (i == 1 && j == 0) derivative -= 5.0 / 12 * cell.a_shift[0] / cell.a_scale[0];
      if (i == 2 && j == 0) derivative += 5.0 / 12 / cell.a_scale[0];
      in_t += std::fabs(derivative);
      in_inverse_w += j * std::fabs(*c);
    }
  }
  return most_inverse_w *
         (most_t * 0x1.8p-52 * in_t + most_inverse_w * 0x1p-52 * cell.b_scale[0] * in_inverse_w);
}

/// The cells of each bin, but for those next to u = 0 where K is not smooth in u.
Cells make_cells(bool second, bool accurate) {
  const double* const numbers =
      second ? (accurate ? detail::bessel_cells_k : detail::bessel_fast_cells_k)
             : (accurate ? detail::bessel_cells_i : detail::bessel_fast_cells_i);
  const int* const starts =
      second ? (accurate ? detail::bessel_cell_start_k : detail::bessel_fast_cell_start_k)
             : (accurate ? detail::bessel_cell_start_i : detail::bessel_fast_cell_start_i);
  Cells cells;
  cells.bound.fill(-HUGE_VAL);
  for (int bin = 0; bin < detail::bessel_cell_bins; ++bin) {
    const detail::BesselCellPlace place = detail::bessel_cell_place(second, bin);
    if (place.index < 0) continue;
    const int row = bin / detail::bessel_cell_columns;
    const double b0 = detail::bessel_cell_inverse_w[row + 1];
    const double b1 = detail::bessel_cell_inverse_w[row];
    const double* const data = numbers + starts[place.index];
    if (!(data[1] < 0x1p-53)) continue;
    detail::BesselCell& cell = cells.cell[bin];
    cell.rows = static_cast<int>(data[0]);
    cell.bound = data[1];
    cell.coefficients = data + 2;
    // a power a^i b^j is rounded i + j times in its coefficient's way through the Horner schemes,
    // and in a and b as often
    double rounded = 0, unpaired = 0;
    const double* c = cell.coefficients;
    for (int i = 0; i < cell.rows; ++i) {
      cell.length[i] = static_cast<std::uint8_t>(*c++);
      for (int j = cell.length[i] - 1; j >= 0; --j) {
        const int power = cell.rows - 1 - i + j;
        if (power > 1) unpaired += std::fabs(*c);
        rounded += 2 * power * std::fabs(*c++);
      }
    }
    cell.rounding = b1 * (0x1p-53 * unpaired);
    cell.rest = c;
    cells.bound[bin] = cell.bound + b1 * (0x1p-53 * rounded);
    // [low, high] to [-1, 1]
    const auto scale = [](dd low, dd high, double* by, double* shift) {
      const dd factor = dd(2) / (high - low), middle = -(high + low) / (high - low);
      by[0] = factor.hi, by[1] = factor.lo;
      shift[0] = middle.hi, shift[1] = middle.lo;
    };
    scale(place.low, place.high, cell.a_scale, cell.a_shift);
    scale(b0, b1, cell.b_scale, cell.b_shift);
    cells.bound[bin] += missed_by_rounding(cell, place.high, b1);
  }
  return cells;
}

using Workspace = detail::BlockWorkspace<19, 3, 3>;
Workspace& workspace() {
  static thread_local Workspace work;
  return work;
}

/// The points with w < 40.3, by cells or as tiny ones, and what vectors cannot do by the scalar
/// functions.
void log_narrow(BesselFunction f, const detail::BesselNarrow& narrow, detail::BesselTask task,
                double* out, detail::BesselPoints& weak, BesselMode scalar) {
  static const Cells all[2][2] = {{make_cells(false, false), make_cells(false, true)},
                                  {make_cells(true, false), make_cells(true, true)}};
  const Cells& cells = all[task.second ? 1 : 0][task.accurate ? 1 : 0];
  const detail::BesselPoints& points = narrow.points;
  const std::ptrdiff_t n = points.size;
  detail::bessel_bins(narrow, task.second);
  const auto start = detail::sort_by_bins<detail::bessel_bins_in_all>(narrow);
  for (int b = 0; b < detail::bessel_cell_bins; ++b)
    if (start[b] < start[b + 1] && cells.cell[b].rows > 0)
      detail::bessel_add_cell(start[b], start[b + 1], narrow, cells.cell[b], task.accurate);
  for (std::ptrdiff_t i = 0; i < n; ++i) narrow.sum[narrow.order[i]] = narrow.ordered_sum[i];
  if (task.accurate)
    for (std::ptrdiff_t i = 0; i < n; ++i)
      narrow.sum_lo[narrow.order[i]] = narrow.ordered_sum_lo[i];
  std::int32_t* const again = workspace().indices(2);
  // where the points stand together, the values go to their places at once; else to an array that
  // is free again
  const bool together = n > 0 && points.place[n - 1] - points.place[0] == n - 1;
  double* const values = together ? out + points.place[0] : narrow.ordered_sum;
  const std::ptrdiff_t uncertain =
      detail::bessel_finish(narrow, task, cells.bound.data(), values, again);
  std::sort(again, again + uncertain, [&](std::int32_t i, std::int32_t j) {
    return std::pair(narrow.bin[i], i) < std::pair(narrow.bin[j], j);
  });
  std::fill(again + uncertain, again + uncertain + block_padding, 0);
  for (std::ptrdiff_t begin = 0, end = 0; begin < uncertain; begin = end) {
    const std::int32_t bin = narrow.bin[again[begin]];
    while (end < uncertain && end < begin + 64 && narrow.bin[again[end]] == bin) ++end;
    if (bin >= detail::bessel_cell_bins || cells.cell[bin].rows == 0) continue;
    std::uint64_t left = detail::bessel_exact_cell(again + begin, static_cast<int>(end - begin),
                                                   narrow, task.second, cells.cell[bin], values);
    if (end - begin < 64) left &= (std::uint64_t{1} << (end - begin)) - 1;
    for (; left != 0; left &= left - 1) {
      const std::int32_t i = again[begin + std::countr_zero(left)];
      weak.add(points.v[i], points.x[i], points.place[i]);
    }
  }
  if (!together)
    for (std::ptrdiff_t i = 0; i < n; ++i) out[points.place[i]] = values[i];
  // the accurate mode has no vectors for tiny points
  detail::BesselPoints tiny{workspace().numbers(17), workspace().numbers(18), workspace().places(2),
                            0};
  for (int b = 0; b < detail::bessel_bins_in_all; ++b) {
    if (b < detail::bessel_cell_bins && cells.cell[b].rows > 0) continue;
    const bool scalar_bin = task.accurate || b > detail::bessel_tiny_bin;
    for (std::ptrdiff_t k = start[b]; k < start[b + 1]; ++k) {
      const std::int32_t i = narrow.order[k];
      if (scalar_bin)
        out[points.place[i]] = bessel(f, points.v[i], points.x[i], scalar);
      else
        tiny.add(points.v[i], points.x[i], points.place[i]);
    }
  }
  if (tiny.size > 0)
    detail::bessel_tiny_points(tiny, task, scalar == BesselMode::accurate, out, weak);
}

void log_block(BesselFunction f, std::ptrdiff_t n, const double* v, const double* x, double* out,
               BesselMode mode, BesselMode scalar) {
  Workspace& work = workspace();
  const detail::BesselTask task{
      f == BesselFunction::log_k || f == BesselFunction::log_k_scaled,
      f == BesselFunction::log_i_scaled || f == BesselFunction::log_k_scaled,
      mode == BesselMode::accurate};
  detail::BesselNarrow narrow{{work.numbers(0), work.numbers(1), work.places(0), 0},
                              work.numbers(2),
                              work.numbers(3),
                              work.numbers(4),
                              work.numbers(5),
                              work.numbers(6),
                              work.numbers(15),
                              work.indices(0),
                              work.indices(1),
                              work.numbers(12),
                              work.numbers(13),
                              work.numbers(14),
                              work.numbers(16)};
  detail::BesselPoints weak{work.numbers(7), work.numbers(8), work.places(1), 0};
  detail::bessel_wide(n, v, x, out, task, narrow, weak);
  if (narrow.points.size > 0) log_narrow(f, narrow, task, out, weak, scalar);
  for (std::ptrdiff_t i = 0; i < weak.size; ++i)
    out[weak.place[i]] = bessel(f, weak.v[i], weak.x[i], scalar);
}

/// The same with a number in place of an array where its step is 0, or in single precision.
template <class T>
void log_block(BesselFunction f, std::ptrdiff_t n, const T* v, std::size_t v_step, const T* x,
               std::size_t x_step, T* out, BesselMode mode) {
  Workspace& work = workspace();
  const auto numbers = [n](const T* from, std::size_t step, double* copy) -> const double* {
    if constexpr (std::is_same_v<T, double>)
      if (step == 1) return from;
    for (std::ptrdiff_t i = 0; i < n; ++i)
      copy[i] = static_cast<double>(from[static_cast<std::size_t>(i) * step]);
    return copy;
  };
  const double* const vs = numbers(v, v_step, work.numbers(9));
  const double* const xs = numbers(x, x_step, work.numbers(10));
  if constexpr (std::is_same_v<T, double>) {
    log_block(f, n, vs, xs, out, mode, mode);
  } else {
    double* const values = work.numbers(11);
    // The fast vectors have digits to spare, but where the logarithm is small beside what it is the
    // difference of: tiny points have been asked, and elsewhere what it is the difference of is
    // known.
    log_block(f, n, vs, xs, values, BesselMode::fast, BesselMode::accurate);
    const auto tiny = [&](std::ptrdiff_t i) { return vs[i] * vs[i] + xs[i] * xs[i] < 0.0624; };
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const bool good = std::fabs(values[i]) >= 0x1p-20 + 0x1p-30 * vs[i] || tiny(i);
      out[i] = static_cast<T>(good ? values[i] : bessel(f, vs[i], xs[i], BesselMode::accurate));
    }
  }
}

template <class T>
void batch(BesselFunction f, std::span<const T> v, std::span<const T> x, std::span<T> out,
           const BesselOptions& options) {
  const std::ptrdiff_t n = std::ssize(out);
  if (v.size() != 1) detail::require_size("bessel", "v", std::ssize(v), n);
  if (x.size() != 1) detail::require_size("bessel", "x", std::ssize(x), n);
  const std::size_t v_step = v.size() != 1, x_step = x.size() != 1;
  parallel_blocks(n, block_size, options.threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    const auto at = static_cast<std::size_t>(begin);
    if (is_logarithm(f)) {
      log_block(f, end - begin, v.data() + at * v_step, v_step, x.data() + at * x_step, x_step,
                out.data() + at, options.mode);
      return;
    }
    for (auto i = at; i < static_cast<std::size_t>(end); ++i)
      out[i] = static_cast<T>(bessel(f, static_cast<double>(v[i * v_step]),
                                     static_cast<double>(x[i * x_step]), options.mode));
  });
}

}  // namespace

void bessel(BesselFunction f, std::span<const double> v, std::span<const double> x,
            std::span<double> out, const BesselOptions& options) {
  batch(f, v, x, out, options);
}
void bessel(BesselFunction f, std::span<const float> v, std::span<const float> x,
            std::span<float> out, const BesselOptions& options) {
  batch(f, v, x, out, options);
}

}  // namespace halfulp
