#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "detail/bessel_cells.hpp"
#include "detail/bessel_simd.hpp"
#include "detail/require.hpp"
#include "halfulp/bessel.hpp"
#include "halfulp/kernel/bessel.hpp"
#include "halfulp/threads.hpp"

namespace halfulp {
namespace {

constexpr std::ptrdiff_t block_size = 8192;
constexpr std::ptrdiff_t most_lanes = 32;

// A bin is a cell: row in w, column in t or u.
constexpr int columns = 11;
constexpr int scalar_bin = detail::bessel_cell_rows * columns;
constexpr int bins = scalar_bin + 1;
constexpr int fine_rows = 12;          // of the second kind, where the first column is cut
constexpr double least_square = 0.25;  // w from 1/2

bool is_logarithm(BesselFunction f) { return f <= BesselFunction::log_k_scaled; }

/// floor(3/2 log2(w^2)) + 3: rows grow by 2^(1/3) in w.
int cell_row(double square) {
  const auto bits = std::bit_cast<std::uint64_t>(square);
  const int e = static_cast<int>(bits >> 52) - 1021;  // >= 0, even with the exponent of w^2
  const double m = std::bit_cast<double>((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);
  const int half = e / 2, odd = e % 2;
  return 3 * half + odd +
         static_cast<int>(m >= (odd != 0 ? 0x1.428a2f98d728bp+0 : 0x1.965fea53d6e3dp+0));
}

int cell_bin(double v, double x, double square, bool second) {
  if (!(square >= least_square)) return scalar_bin;
  const int row = cell_row(square);
  const double a = second ? x * x : v * v;
  int sixths = 0;
  for (int j = 1; j < 6; ++j) sixths += static_cast<int>(36 * a >= j * j * square);
  if (!second) return row * columns + sixths;
  if (sixths > 0) return row * columns + 5 + sixths;
  if (row >= fine_rows) return row * columns;
  int halvings = 5;
  for (double b = 144 * a; b < square && halvings > 0; b *= 4) --halvings;
  return halvings == 0 ? scalar_bin : row * columns + halvings;
}

inline int bin_of(double v, double x, bool second) {
  if (!((v >= 0) & (x >= detail::bessel_simd_least_x))) return scalar_bin;
  const double square = v * v + x * x;
  return square < detail::bessel_series_square ? cell_bin(v, x, square, second) : scalar_bin;
}

struct Cell {
  const double* data;  // degree, bound of the error, coefficients
  double a0, a1, b0, b1;
};

Cell cell_of(int bin, bool second) {
  const int row = bin / columns, column = bin % columns;
  Cell cell{};
  cell.b0 = detail::bessel_cell_inverse_w[row + 1];
  cell.b1 = detail::bessel_cell_inverse_w[row];
  constexpr double sixth[] = {0,   0x1.5555555555555p-3, 0x1.5555555555555p-2,
                              0.5, 0x1.5555555555555p-1, 0x1.aaaaaaaaaaaabp-1,
                              1};
  int index = 0;
  if (!second) {
    cell.a0 = sixth[column];
    cell.a1 = sixth[column + 1];
    index = 6 * row + column;
  } else if (column > 5) {
    cell.a0 = sixth[column - 5];
    cell.a1 = sixth[column - 4];
    index = row < fine_rows ? 10 * row + column - 1
                            : 10 * fine_rows + 6 * (row - fine_rows) + column - 5;
  } else if (column == 0) {
    cell.a1 = sixth[1];
    index = 10 * fine_rows + 6 * (row - fine_rows);
  } else {
    cell.a0 = std::ldexp(sixth[1], column - 6);
    cell.a1 = std::ldexp(sixth[1], column - 5);
    index = 10 * row + column - 1;
  }
  cell.data = second ? detail::bessel_cells_k + detail::bessel_cell_start_k[index]
                     : detail::bessel_cells_i + detail::bessel_cell_start_i[index];
  return cell;
}

/// For each bin itself, or scalar_bin for the cells next to u = 0, where K is not smooth in u.
const std::array<std::uint16_t, bins>& good_bins(bool second) {
  static const auto all = [] {
    std::array<std::array<std::uint16_t, bins>, 2> good{};
    for (const bool k : {false, true})
      for (int b = 0; b < bins; ++b) {
        const int row = b / columns, column = b % columns;
        const bool exists = !k                ? column < 6
                            : row < fine_rows ? column != 0
                                              : column == 0 || column > 5;
        const bool cell = b < scalar_bin && exists;
        const bool bad = cell && !(cell_of(b, k).data[1] < 0x1p-53);
        good[k ? 1 : 0][b] = static_cast<std::uint16_t>(bad ? scalar_bin : b);
      }
    return good;
  }();
  return all[second ? 1 : 0];
}

/// Working arrays of one thread.
struct Workspace {
  std::vector<double> memory = std::vector<double>(14 * (block_size + most_lanes));
  std::vector<std::uint32_t> places = std::vector<std::uint32_t>(3 * block_size);
  std::vector<std::uint16_t> bin = std::vector<std::uint16_t>(block_size);
  double* array(int i) { return memory.data() + i * (block_size + most_lanes); }
  std::uint32_t* place(int i) { return places.data() + i * block_size; }
};

Workspace& workspace() {
  static thread_local Workspace work;
  return work;
}

/// The points with w < 40, by cells, and those that are no numbers.
void narrow(BesselFunction f, const detail::BesselPoints& points, detail::BesselTask task,
            double* out) {
  Workspace& work = workspace();
  const auto& good = good_bins(task.second);
  const std::ptrdiff_t n = points.size;
  std::uint16_t* const bin = work.bin.data();
  std::uint32_t* const place = work.place(2);
  double* const vs = work.array(4);
  double* const xs = work.array(5);
  double* const values = work.array(6);
  const detail::BesselBlock block{
      vs, xs, work.array(7), work.array(8), work.array(9), work.array(10), values};
  // A counting sort. Four parts of the block take turns, each with counters of its own: one counter
  // would wait for itself.
  constexpr int parts = 4;
  std::array<std::array<std::int32_t, bins>, parts> next{};
  const std::ptrdiff_t part = n / parts;
  const auto classify = [&](std::ptrdiff_t i, std::array<std::int32_t, bins>& count) {
    bin[i] = good[bin_of(points.v[i], points.x[i], task.second)];
    ++count[bin[i]];
  };
  for (std::ptrdiff_t i = 0; i < part; ++i)
    for (int p = 0; p < parts; ++p) classify(i + p * part, next[p]);
  for (std::ptrdiff_t i = parts * part; i < n; ++i) classify(i, next[parts - 1]);
  std::array<std::int32_t, bins + 1> start;
  std::int32_t total = 0;
  for (int b = 0; b < bins; ++b) {
    start[b] = total;
    for (auto& count : next) {
      const std::int32_t size = count[b];
      count[b] = total;
      total += size;
    }
  }
  start[bins] = total;
  const auto put = [&](std::ptrdiff_t i, std::array<std::int32_t, bins>& counter) {
    const std::int32_t to = counter[bin[i]]++;
    place[to] = points.place[i];
    vs[to] = points.v[i];
    xs[to] = points.x[i];
  };
  for (std::ptrdiff_t i = 0; i < part; ++i)
    for (int p = 0; p < parts; ++p) put(i + p * part, next[p]);
  for (std::ptrdiff_t i = parts * part; i < n; ++i) put(i, next[parts - 1]);
  const std::ptrdiff_t vector_end = start[scalar_bin];
  // the last vector may reach behind: give it numbers
  for (std::ptrdiff_t i = n; i < n + most_lanes; ++i) vs[i] = xs[i] = 1;
  if (vector_end > 0) detail::bessel_heads(vector_end, block, task.second, task.scaled);
  const BesselMode mode = task.accurate ? BesselMode::accurate : BesselMode::fast;
  for (int b = 0; b < scalar_bin; ++b) {
    const std::ptrdiff_t begin = start[b], end = start[b + 1];
    if (begin == end) continue;
    const Cell cell = cell_of(b, task.second);
    detail::bessel_add_cell(begin, end, block, cell.data, cell.a0, cell.a1, cell.b0, cell.b1);
    if (!task.accurate) continue;
    for (std::ptrdiff_t i = begin; i < end; ++i) {
      // left out, rounding of the sum, of the leading terms
      const double size = std::fabs(values[i]), inverse_w = block.inverse_w[i];
      const double error = cell.data[1] + 0x1p-54 * inverse_w + 0x1p-75 * (1 / inverse_w + size);
      if (!(error <= 0x1.ap-55 * size)) values[i] = bessel(f, vs[i], xs[i], mode);
    }
  }
  for (std::ptrdiff_t i = vector_end; i < n; ++i) values[i] = bessel(f, vs[i], xs[i], mode);
  for (std::ptrdiff_t i = 0; i < n; ++i) out[place[i]] = values[i];
}

void log_block(BesselFunction f, std::ptrdiff_t n, const double* v, const double* x, double* out,
               BesselMode mode) {
  Workspace& work = workspace();
  const detail::BesselTask task{
      f == BesselFunction::log_k || f == BesselFunction::log_k_scaled,
      f == BesselFunction::log_i_scaled || f == BesselFunction::log_k_scaled,
      mode == BesselMode::accurate};
  detail::BesselPoints rest{work.array(0), work.array(1), work.place(0), 0};
  detail::BesselPoints weak{work.array(2), work.array(3), work.place(1), 0};
  detail::bessel_wide(n, v, x, out, task, rest, weak);
  if (rest.size > 0) narrow(f, rest, task, out);
  for (std::ptrdiff_t i = 0; i < weak.size; ++i)
    out[weak.place[i]] = bessel(f, weak.v[i], weak.x[i], mode);
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
  const double* const vs = numbers(v, v_step, work.array(11));
  const double* const xs = numbers(x, x_step, work.array(12));
  if constexpr (std::is_same_v<T, double>) {
    log_block(f, n, vs, xs, out, mode);
  } else {
    double* const values = work.array(13);
    log_block(f, n, vs, xs, values, mode);
    for (std::ptrdiff_t i = 0; i < n; ++i) out[i] = static_cast<T>(values[i]);
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
      // float is rounded once more, and exactly where the logarithm vanishes: accurate is needed
      const BesselMode mode = std::is_same_v<T, float> ? BesselMode::accurate : options.mode;
      log_block(f, end - begin, v.data() + at * v_step, v_step, x.data() + at * x_step, x_step,
                out.data() + at, mode);
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
