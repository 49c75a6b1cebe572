#include "detail/mfac_rows.hpp"

#include <algorithm>
#include <vector>

#include "halfulp/threads.hpp"

namespace halfulp::mfac::detail {
namespace {

constexpr std::ptrdiff_t width = 2048;

/// Calls body(rows as doubles, begin, end) tile by tile, in order.
template <class Body>
void each_tile(const Gradients& gradients, Columns columns, const Progress& progress,
               const Body& body) {
  const Gradients::Data& data = gradients.data();
  std::vector<std::byte> buffer;
  std::vector<double> numbers(static_cast<std::size_t>(data.rows * width));
  for (std::ptrdiff_t begin = columns.begin; begin < columns.end; begin += width) {
    report_progress(progress,
                    static_cast<double>(begin - columns.begin) /
                        static_cast<double>(columns.end - columns.begin),
                    "products of gradients", "mfac::Estimator");
    const std::ptrdiff_t end = std::min(begin + width, columns.end);
    const Tile raw = tile(data, 0, data.rows, begin, end, buffer);
    for (std::ptrdiff_t i = 0; i < data.rows; ++i)
      for (std::ptrdiff_t j = 0; j < end - begin; ++j)
        numbers[static_cast<std::size_t>(i * width + j)] =
            number_at(data.storage, raw.numbers, i * raw.stride + j);
    body(numbers.data(), begin, end);
  }
}

template <class A, class B>
double dot(const A* a, const B* b, std::ptrdiff_t n) {
  double sum = 0;
  for (std::ptrdiff_t j = 0; j < n; ++j) sum += double{a[j]} * double{b[j]};
  return sum;
}

void add_gram(const double* tile, std::ptrdiff_t m, std::ptrdiff_t n, std::span<double> out) {
  for (std::ptrdiff_t j = 0; j < m; ++j)
    for (std::ptrdiff_t i = j; i < m; ++i)
      out[static_cast<std::size_t>(i + m * j)] += dot(tile + i * width, tile + j * width, n);
}

template <class T>
void add_projections(const double* tile, std::ptrdiff_t m, std::ptrdiff_t d, std::ptrdiff_t begin,
                     std::ptrdiff_t end, std::span<const T> x, std::ptrdiff_t k,
                     std::span<double> out, std::span<double> squares) {
  for (std::ptrdiff_t c = 0; c < k; ++c) {
    const T* const part = x.data() + c * d + begin;
    for (std::ptrdiff_t i = 0; i < m; ++i)
      out[static_cast<std::size_t>(c * m + i)] += dot(tile + i * width, part, end - begin);
    if (!squares.empty()) squares[static_cast<std::size_t>(c)] += dot(part, part, end - begin);
  }
}

void clear_triangle(std::ptrdiff_t m, std::span<double> out) {
  for (std::ptrdiff_t j = 0; j < m; ++j) std::fill_n(out.begin() + (j + m * j), m - j, 0.0);
}

}  // namespace

void gram(const Gradients& gradients, Columns columns, Accumulation, int threads,
          std::span<double> out, const Progress& progress) {
  (void)thread_count(threads);
  const std::ptrdiff_t m = gradients.rows();
  clear_triangle(m, out);
  each_tile(gradients, columns, progress,
            [&](const double* tile, std::ptrdiff_t begin, std::ptrdiff_t end) {
              add_gram(tile, m, end - begin, out);
            });
}

template <class T>
void project(const Gradients& gradients, Columns columns, std::span<const T> x, std::ptrdiff_t k,
             Accumulation, int threads, std::span<double> out, std::span<double> squares) {
  (void)thread_count(threads);
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  std::fill(out.begin(), out.begin() + k * m, 0.0);
  std::fill(squares.begin(), squares.end(), 0.0);
  each_tile(gradients, columns, {},
            [&](const double* tile, std::ptrdiff_t begin, std::ptrdiff_t end) {
              add_projections(tile, m, d, begin, end, x, k, out, squares);
            });
}

template <class T>
void combine(const Gradients& gradients, Columns columns, std::span<const double> a,
             std::ptrdiff_t k, double scale, std::span<const T> x, Accumulation, int threads,
             std::span<T> y) {
  (void)thread_count(threads);
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  each_tile(gradients, columns, {},
            [&](const double* tile, std::ptrdiff_t begin, std::ptrdiff_t end) {
              for (std::ptrdiff_t c = 0; c < k; ++c)
                for (std::ptrdiff_t j = begin; j < end; ++j) {
                  double sum = 0;
                  for (std::ptrdiff_t i = 0; i < m; ++i)
                    sum += a[static_cast<std::size_t>(c * m + i)] * tile[i * width + j - begin];
                  const auto at = static_cast<std::size_t>(c * d + j);
                  if (!x.empty()) sum += scale * double{x[at]};
                  y[at] = static_cast<T>(sum);
                }
            });
}

template <class T>
void gram_and_project(const Gradients& gradients, Columns columns, std::span<const T> x,
                      std::ptrdiff_t k, Accumulation, int threads, std::span<double> gram,
                      std::span<double> projections, std::span<double> squares,
                      const Progress& progress) {
  (void)thread_count(threads);
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  clear_triangle(m, gram);
  std::fill(projections.begin(), projections.begin() + k * m, 0.0);
  std::fill(squares.begin(), squares.end(), 0.0);
  each_tile(gradients, columns, progress,
            [&](const double* tile, std::ptrdiff_t begin, std::ptrdiff_t end) {
              add_gram(tile, m, end - begin, gram);
              add_projections(tile, m, d, begin, end, x, k, projections, squares);
            });
}

template void project(const Gradients&, Columns, std::span<const float>, std::ptrdiff_t,
                      Accumulation, int, std::span<double>, std::span<double>);
template void project(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t,
                      Accumulation, int, std::span<double>, std::span<double>);
template void combine(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t, double,
                      std::span<const float>, Accumulation, int, std::span<float>);
template void combine(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t, double,
                      std::span<const double>, Accumulation, int, std::span<double>);
template void gram_and_project(const Gradients&, Columns, std::span<const float>, std::ptrdiff_t,
                               Accumulation, int, std::span<double>, std::span<double>,
                               std::span<double>, const Progress&);
template void gram_and_project(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t,
                               Accumulation, int, std::span<double>, std::span<double>,
                               std::span<double>, const Progress&);

}  // namespace halfulp::mfac::detail
