#include "detail/mfac_extended.hpp"

#include <algorithm>

#include "halfulp/threads.hpp"

namespace halfulp::mfac::detail {
namespace {

using Size = std::ptrdiff_t;

constexpr Size width = 2048;       // columns of a tile
constexpr Size chunk_rows = 1024;  // rows at a time, where H itself is formed

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

}  // namespace

void load(const Gradients& gradients, Size first, Size last, Size begin, Size end, double* out,
          Size stride) {
  const Gradients::Data& data = gradients.data();
  std::vector<std::byte> buffer;
  const Tile raw = tile(data, first, last, begin, end, buffer);
  for (Size i = 0; i < last - first; ++i) {
    const std::byte* const row = raw.numbers + i * raw.stride * item_size(data.storage);
    double* const to = out + i * stride;
    switch (data.storage) {
      case Storage::float64:
        std::copy_n(reinterpret_cast<const double*>(row), end - begin, to);
        break;
      case Storage::float32:
        std::copy_n(reinterpret_cast<const float*>(row), end - begin, to);
        break;
      default:
        for (Size j = 0; j < end - begin; ++j) to[j] = number_at(data.storage, row, j);
    }
  }
}

void load_column(const Gradients& gradients, Size j, double* out) {
  load(gradients, 0, gradients.rows(), j, j + 1, out, 1);
}

DdMatrix gram_extended(const Gradients& gradients, Columns columns, bool by_columns, int threads) {
  const Size m = gradients.rows(), d = columns.end - columns.begin;
  const Size n = by_columns ? d : m;
  DdMatrix sum(n, n);
  const auto add = [&](const DdMatrix& tile) {
    const DdMatrix part = multiply_transposed(tile, tile, threads);
    for (Size j = 0; j < n; ++j)
      for (Size i = 0; i < n; ++i) sum.set(i, j, sum(i, j) + part(i, j));
  };
  if (by_columns) {
    std::vector<double> rows(at(std::min(chunk_rows, m) * d));
    for (Size first = 0; first < m; first += chunk_rows) {
      const Size last = std::min(first + chunk_rows, m);
      load(gradients, first, last, columns.begin, columns.end, rows.data(), d);
      DdMatrix tile(last - first, d);
      for (Size i = 0; i < last - first; ++i)
        for (Size j = 0; j < d; ++j) tile.hi(j)[i] = rows[at(i * d + j)];
      add(tile);
    }
    return sum;
  }
  for (Size begin = columns.begin; begin < columns.end; begin += width) {
    const Size end = std::min(begin + width, columns.end);
    DdMatrix tile(end - begin, m);
    load(gradients, 0, m, begin, end, tile.hi(0), end - begin);
    add(tile);
  }
  return sum;
}

DdMatrix project_extended(const Gradients& gradients, Columns columns, std::span<const double> x,
                          int threads) {
  const Size m = gradients.rows(), d = columns.end - columns.begin;
  const Size tiles = (d + width - 1) / width;
  const std::vector<double> zeros(at(width));
  DdMatrix parts(m, tiles);
  parallel_for(tiles, threads, [&](Size t) {
    const Size begin = columns.begin + t * width, end = std::min(begin + width, columns.end);
    std::vector<double> rows(at(m * (end - begin)));
    load(gradients, 0, m, begin, end, rows.data(), end - begin);
    for (Size i = 0; i < m; ++i)
      parts.set(i, t,
                halfulp::detail::dot(end - begin, rows.data() + i * (end - begin), zeros.data(),
                                     x.data() + t * width, zeros.data()));
  });
  DdMatrix sum(m, 1);
  for (Size t = 0; t < tiles; ++t)
    for (Size i = 0; i < m; ++i) sum.set(i, 0, sum(i, 0) + parts(i, t));
  return sum;
}

void combine_extended(const Gradients& gradients, Columns columns, const DdMatrix& b, int threads,
                      const std::function<void(Size, dd)>& use) {
  const Size m = gradients.rows(), d = columns.end - columns.begin;
  const std::vector<double> zeros(at(width));
  parallel_blocks(d, width, threads, [&](Size begin, Size end) {
    const Size size = end - begin;
    std::vector<double> rows(at(m * size)), hi(at(size)), lo(at(size));
    load(gradients, 0, m, columns.begin + begin, columns.begin + end, rows.data(), size);
    for (Size i = 0; i < m; ++i)
      halfulp::detail::axpy(size, b(i, 0), rows.data() + i * size, zeros.data(), hi.data(),
                            lo.data());
    for (Size j = 0; j < size; ++j) use(begin + j, dd(hi[at(j)], lo[at(j)]));
  });
}

ExtendedCholesky cholesky_extended(DdMatrix a, dd shift, int threads) {
  const Size n = a.rows();
  ExtendedCholesky f{std::move(a)};
  DdMatrix& r = f.r;
  for (Size i = 0; i < n; ++i) {
    const dd pivot = r(i, i) + shift - halfulp::detail::dot(i, r.hi(i), r.lo(i), r.hi(i), r.lo(i));
    for (Size k = i + 1; k < n; ++k) r.set(k, i, 0.0);
    if (!(pivot > shift * 0.5)) {
      if (f.lost < 0) f.lost = i, f.lost_value = (pivot / shift).hi;
      r.set(i, i, sqrt(shift));
      for (Size j = i + 1; j < n; ++j) r.set(i, j, 0.0);
      continue;
    }
    const dd root = sqrt(pivot), inverse = dd(1.0) / root;
    r.set(i, i, root);
    parallel_blocks(n - i - 1, 64, threads, [&](Size begin, Size end) {
      for (Size j = i + 1 + begin; j < i + 1 + end; ++j)
        r.set(i, j,
              (r(i, j) - halfulp::detail::dot(i, r.hi(i), r.lo(i), r.hi(j), r.lo(j))) * inverse);
    });
  }
  return f;
}

}  // namespace halfulp::mfac::detail
