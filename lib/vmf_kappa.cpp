#include <array>
#include <span>

#include "detail/block.hpp"
#include "detail/require.hpp"
#include "detail/vmf_simd.hpp"
#include "halfulp/kernel/vmf_tables.hpp"
#include "halfulp/threads.hpp"
#include "halfulp/vmf.hpp"

namespace halfulp::vmf {
namespace {

constexpr int bins = kernel::vmf_cell_rows * kernel::vmf_cell_columns;

std::array<detail::BesselCell, bins> make_cells() {
  std::array<detail::BesselCell, bins> cells{};
  for (int bin = 0; bin < bins; ++bin) {
    const int row = bin / kernel::vmf_cell_columns, column = bin % kernel::vmf_cell_columns;
    const double* const data = kernel::vmf_cell(row, column);
    detail::BesselCell& cell = cells[static_cast<std::size_t>(bin)];
    cell.rows = static_cast<int>(data[0]);
    cell.bound = data[1];
    cell.coefficients = data + 2;
    const double* c = cell.coefficients;
    for (int i = 0; i < cell.rows; ++i) {
      cell.length[i] = static_cast<std::uint8_t>(*c++);
      c += cell.length[i];
    }
    // [low, high] to [-1, 1]
    const auto scale = [](double low, double high, double* by, double* shift) {
      by[0] = 2 / (high - low);
      shift[0] = -(high + low) / (high - low);
    };
    scale(kernel::vmf_cell_column(column), kernel::vmf_cell_column(column + 1), cell.a_scale,
          cell.a_shift);
    scale(kernel::vmf_cell_row(row + 1), kernel::vmf_cell_row(row), cell.b_scale, cell.b_shift);
  }
  return cells;
}

using Workspace = detail::BlockWorkspace<6, 1, 2>;

Workspace& workspace() {
  static thread_local Workspace work;
  return work;
}

void kappa_block(std::ptrdiff_t n, const double* p, bool one_p, const double* length,
                 bool complement, double* out) {
  static const std::array<detail::BesselCell, bins> cells = make_cells();
  Workspace& work = workspace();
  detail::BesselNarrow points{};
  points.points.place = work.places(0);
  points.hi = work.numbers(0);
  points.t = work.numbers(1);
  points.inverse_w = work.numbers(2);
  points.bin = work.indices(0);
  points.order = work.indices(1);
  points.ordered_t = work.numbers(3);
  points.ordered_inverse_w = work.numbers(4);
  points.ordered_sum = work.numbers(5);
  detail::vmf_kappa_wide(n, p, one_p, length, complement, out, points);
  if (points.points.size == 0) return;
  if (points.points.size == 1) {
    points.order[0] = 0;
    points.ordered_t = points.t;
    points.ordered_inverse_w = points.inverse_w;
    detail::bessel_add_cell(0, 1, points, cells[static_cast<std::size_t>(points.bin[0])], false);
  } else {
    const auto start = detail::sort_by_bins<bins>(points);
    for (int bin = 0; bin < bins; ++bin)
      if (start[bin] < start[bin + 1])
        detail::bessel_add_cell(start[bin], start[bin + 1], points,
                                cells[static_cast<std::size_t>(bin)], false);
  }
  for (std::ptrdiff_t k = 0; k < points.points.size; ++k) {
    const std::int32_t i = points.order[k];
    out[points.points.place[i]] = points.hi[i] * (1 + points.ordered_sum[k]);
  }
}

void kappa_batch(std::span<const double> p, std::span<const double> length, bool complement,
                 std::span<double> out, int threads) {
  const std::ptrdiff_t n = std::ssize(out);
  const char* const function = complement ? "vmf::kappa_complement" : "vmf::kappa";
  if (p.size() != 1) detail::require_size(function, "p", std::ssize(p), n);
  detail::require_size(function, complement ? "complement" : "length", std::ssize(length), n);
  const bool one_p = p.size() == 1;
  parallel_blocks(n, detail::block_size, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    const auto at = static_cast<std::size_t>(begin);
    kappa_block(end - begin, p.data() + (one_p ? 0 : at), one_p, length.data() + at, complement,
                out.data() + at);
  });
}

}  // namespace

double kappa(double p, double length) {
  double out = 0;
  kappa_block(1, &p, true, &length, false, &out);
  return out;
}

double kappa_complement(double p, double complement) {
  double out = 0;
  kappa_block(1, &p, true, &complement, true, &out);
  return out;
}

void kappa(std::span<const double> p, std::span<const double> length, std::span<double> out,
           int threads) {
  kappa_batch(p, length, false, out, threads);
}

void kappa_complement(std::span<const double> p, std::span<const double> complement,
                      std::span<double> out, int threads) {
  kappa_batch(p, complement, true, out, threads);
}

}  // namespace halfulp::vmf
