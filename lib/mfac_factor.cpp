#include "detail/mfac_factor.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <string>
#include <tuple>

#include "detail/blas_threads.hpp"
#include "detail/mfac_factor_simd.hpp"
#include "detail/require.hpp"
#include "halfulp/kernel/dd.hpp"

namespace halfulp::mfac::detail {
namespace {

using halfulp::detail::ByteReader;
using halfulp::detail::ByteWriter;
using halfulp::detail::require_size;

std::size_t at_index(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }

std::ptrdiff_t round_up(std::ptrdiff_t n) { return (n + 7) / 8 * 8; }

/// Columns that are a multiple of a page apart would share the same few places of the cache.
std::ptrdiff_t padded(std::ptrdiff_t rows) {
  const std::ptrdiff_t n = round_up(rows);
  return n % 64 == 0 ? n + 8 : n;
}

}  // namespace

Factor::Factor(std::ptrdiff_t capacity)
    : capacity_(capacity), slots_(round_up(capacity) + 8), stride_(padded(capacity + 7)) {
  gram_ = zeros(slots_ * stride_);
  factor_ = zeros(slots_ * stride_);
  square_.assign(at_index(slots_), 0.0);
  direction_.assign(at_index(slots_), 0.0);
}

Factor::Array Factor::zeros(std::ptrdiff_t n) {
  Array array = hwy::AllocateAligned<double>(at_index(n));
  if (!array) throw std::bad_alloc();
  std::fill_n(array.get(), n, 0.0);
  return array;
}

double* Factor::column(const Array& matrix, Row j) const {
  return matrix.get() + static_cast<std::ptrdiff_t>(slot(j)) * stride_;
}

std::ptrdiff_t Factor::length() const {
  return round_up(std::max<std::ptrdiff_t>(end_ - block_of(begin_), 1)) + 8;
}

Factor::Array Factor::widened(std::span<const double> x) const {
  Array wide = zeros(length());
  std::copy(x.begin(), x.end(), wide.get() + (begin_ - block_of(begin_)));
  return wide;
}

void Factor::narrow(const Array& from, std::span<double> x) const {
  std::copy_n(from.get() + (begin_ - block_of(begin_)), x.size(), x.begin());
}

void Factor::check(std::span<const double> x, const char* function) const {
  require_size(function, "x", std::ssize(x), count());
}

void Factor::start_column(const Array& matrix, Row j) const {
  std::fill_n(column(matrix, j), stride_, 0.0);
}

void Factor::set_shift(double shift) {
  if (shift == shift_) return;
  shift_ = applied_ = shift;
  lost_ = -1;
  stale_ = count() > 0;
}

void Factor::clear() {
  begin_ = end_ = 0;
  stale_ = false;
  lost_ = -1;
  applied_ = shift_;
  largest_ = 0;
  std::fill(direction_.begin(), direction_.end(), 0.0);
}

void Factor::push(std::span<const double> products, double square) {
  const bool full = count() == capacity_;
  require_size("mfac::detail::Factor::push", "products", std::ssize(products),
               count() - (full ? 1 : 0));
  Array left_out;
  if (full) {
    const Row oldest = begin_++;
    direction_[slot(oldest)] = 0;
    left_out = zeros(length());
    for (Row i = begin_; i < end_; ++i)
      left_out[at_index(i - block_of(begin_))] = at(factor_, i, oldest);
  }
  start_column(gram_, end_);
  double along = 0;
  for (Row j = begin_; j < end_; ++j) {
    const double product = products[at_index(j - begin_)];
    at(gram_, end_, j) = product;
    along += product * direction_[slot(j)];
  }
  at(gram_, end_, end_) = square;
  square_[slot(end_)] = square;
  direction_[slot(end_)] = largest_ > 0 ? along / largest_ : 0;
  // The row of the lost pivot has gone, or most of what it was lost to: s again.
  if (lost_ >= 0 && (lost_ < begin_ || trace() < lost_trace_ / 4)) stale_ = true;
  if (stale_) {
    ++end_;
    return;
  }
  const Array k = widened(products);
  sweep(k.get(), full ? left_out.get() : nullptr);
  const bool kept = append(k.get());
  ++end_;
  if (kept) return;
  stale_ = true;
  refresh();
}

void Factor::sweep(double* k, double* v) {
  if (v == nullptr) return subtract_columns(k);
  const Row origin = block_of(begin_), last = origin + round_up(end_ - origin);
  for (Row block = origin; block < end_; block += 8) {
    const Row behind = block + 8, stop = std::min(behind, end_);
    for (Row first = std::max(block, begin_); first < stop;) {
      double c[factor_rotations], s[factor_rotations], w[factor_rotations];
      const int count = static_cast<int>(std::min<Row>(factor_rotations, stop - first));
      for (int q = 0; q < count; ++q) {
        const Row j = first + q;
        double* const values = column(factor_, j) - block;  // element i at values[i]
        double& vj = v[j - origin];
        const double pivot = std::sqrt(values[j] * values[j] + vj * vj);
        c[q] = values[j] / pivot;
        s[q] = vj / pivot;
        values[j] = pivot;
        w[q] = k[j - origin] /= pivot;
        for (Row i = j + 1; i < behind; ++i) {
          const double old = values[i];
          double& vi = v[i - origin];
          values[i] = c[q] * old + s[q] * vi;
          vi = c[q] * vi - s[q] * old;
          k[i - origin] -= w[q] * values[i];
        }
      }
      if (behind < last)
        factor_rotate(column(factor_, first) + 8, stride_, count, last - behind, c, s, w,
                      v + (behind - origin), k + (behind - origin));
      first += count;
    }
  }
}

void Factor::subtract_columns(double* k) const {
  const Row origin = block_of(begin_), last = origin + round_up(end_ - origin);
  for (Row block = origin; block < end_; block += 8) {
    const Row behind = block + 8, first = std::max(block, begin_), stop = std::min(behind, end_);
    for (Row j = first; j < stop; ++j) {
      const double* const values = column(factor_, j) - block;
      const double w = k[j - origin] /= values[j];
      for (Row i = j + 1; i < stop; ++i) k[i - origin] -= w * values[i];
    }
    if (behind < last)
      factor_subtract(column(factor_, first) + 8, stride_, static_cast<int>(stop - first),
                      last - behind, k + (first - origin), k + (behind - origin));
  }
}

void Factor::substitute_back(double* x) const {
  const Row origin = block_of(begin_), last = origin + round_up(end_ - origin);
  for (Row block = block_of(end_ - 1); block >= origin; block -= 8) {
    const Row behind = block + 8, first = std::max(block, begin_), stop = std::min(behind, end_);
    double dots[factor_columns] = {};
    if (behind < last)
      factor_dots(column(factor_, first) + 8, stride_, static_cast<int>(stop - first),
                  last - behind, x + (behind - origin), dots);
    for (Row j = stop - 1; j >= first; --j) {
      const double* const values = column(factor_, j) - block;
      double sum = x[j - origin] - dots[j - first];
      for (Row i = j + 1; i < stop; ++i) sum -= values[i] * x[i - origin];
      x[j - origin] = sum / values[j];
    }
  }
}

bool Factor::append(const double* k) {
  const Row origin = block_of(begin_);
  double square = 0;
  if (end_ > begin_) factor_dots(k, 0, 1, round_up(end_ - origin), k, &square);
  const double pivot = at(gram_, end_, end_) + applied_ - square;
  if (!(pivot > applied_ / 2)) return false;
  start_column(factor_, end_);
  for (Row j = begin_; j < end_; ++j) at(factor_, end_, j) = k[j - origin];
  at(factor_, end_, end_) = std::sqrt(pivot);
  return true;
}

void Factor::refresh() {
  if (stale_) refactor();
}

void Factor::refactor() {
  stale_ = false;
  ++factorisations_;
  lost_ = -1;
  applied_ = shift_;
  if (count() == 0 || factorise(shift_)) return;
  std::tie(lost_, lost_value_) = first_lost();
  lost_trace_ = trace();
  // Rounding is of the order of sqrt(m) 2^-53 |K|.
  applied_ = std::fmax(shift_, 0x1p-44 * lost_trace_);
  while (!factorise(applied_)) applied_ *= 16;
}

bool Factor::factorise(double t) {
  const std::ptrdiff_t n = count();
  std::vector<double> k = dense(gram_);
  for (std::ptrdiff_t i = 0; i < n; ++i) k[at_index(i * (n + 1))] += t;
  const auto order = static_cast<lapack_int>(n);
  lapack_int info = 0;
  {
    const halfulp::detail::OneBlasThread one;
    info = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', order, k.data(), order);
  }
  if (info != 0) return false;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double pivot = k[at_index(i * (n + 1))];
    if (!(pivot * pivot > t / 2)) return false;
  }
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    const Row row = begin_ + j;
    start_column(factor_, row);
    std::copy_n(k.data() + j * (n + 1), n - j, column(factor_, row) + (row - block_of(row)));
  }
  return true;
}

std::pair<Factor::Row, double> Factor::first_lost() const {
  const std::ptrdiff_t n = count();
  std::vector<double> l(at_index(n * n));  // by rows
  for (std::ptrdiff_t i = 0; i < n; ++i)
    for (std::ptrdiff_t j = 0; j <= i; ++j) {
      double value = at(gram_, begin_ + i, begin_ + j) + (i == j ? shift_ : 0);
      for (std::ptrdiff_t k = 0; k < j; ++k)
        value -= l[at_index(i * n + k)] * l[at_index(j * n + k)];
      if (i == j && !(value > shift_ / 2)) return {begin_ + i, value / shift_};
      l[at_index(i * n + j)] = i == j ? std::sqrt(value) : value / l[at_index(j * (n + 1))];
    }
  // LAPACK's order of sums lost one that this order keeps: the last row stands for it.
  return {end_ - 1, 0.0};
}

void Factor::solve(std::span<double> x) const {
  check(x, "mfac::detail::Factor::solve");
  const Array wide = widened(x);
  subtract_columns(wide.get());
  substitute_back(wide.get());
  narrow(wide, x);
}

void Factor::forward(std::span<double> x) const {
  check(x, "mfac::detail::Factor::forward");
  const Array wide = widened(x);
  subtract_columns(wide.get());
  narrow(wide, x);
}

void Factor::backward(std::span<double> x) const {
  check(x, "mfac::detail::Factor::backward");
  const Array wide = widened(x);
  substitute_back(wide.get());
  narrow(wide, x);
}

void Factor::refine(std::span<const double> b, std::span<double> a) const {
  check(a, "mfac::detail::Factor::refine");
  const std::ptrdiff_t n = count();
  std::vector<double> residual(at_index(n));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    dd sum = dd(b[at_index(i)]) - kernel::two_prod(applied_, a[at_index(i)]);
    for (std::ptrdiff_t j = 0; j < n; ++j) sum = sum - kernel::two_prod(gram(i, j), a[at_index(j)]);
    residual[at_index(i)] = sum.hi;
  }
  solve(residual);
  double before = 0, change = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    before = std::fmax(before, std::fabs(a[at_index(i)]));
    change = std::fmax(change, std::fabs(residual[at_index(i)]));
  }
  if (!(change <= before / 2)) return;
  for (std::ptrdiff_t i = 0; i < n; ++i) a[at_index(i)] += residual[at_index(i)];
}

void Factor::solve_newest(std::span<double> x) const {
  check(x, "mfac::detail::Factor::solve_newest");
  std::fill(x.begin(), x.end(), 0.0);
  x.back() = 1 / at(factor_, end_ - 1, end_ - 1);
  backward(x);
}

double Factor::largest() {
  const std::ptrdiff_t n = count();
  if (n == 0) return 0;
  const Row origin = block_of(begin_), last = origin + round_up(end_ - origin);
  Row top = begin_;
  for (Row j = begin_; j < end_; ++j)
    if (square_[slot(j)] > square_[slot(top)]) top = j;
  const double most = square_[slot(top)];
  if (!(most > 0)) return 0;
  // A lower bound below that of one row alone: the direction is of no use.
  bool cold = largest_ < most;
  Array x = zeros(length());
  for (Row j = begin_; j < end_ && !cold; ++j) x[at_index(j - origin)] = direction_[slot(j)];
  if (cold)
    for (Row j = begin_; j < end_; ++j)
      x[at_index(j - origin)] = (j > top ? at(gram_, j, top) : at(gram_, top, j)) / most;
  double estimate = most;
  for (int step = 0; step < (cold ? 16 : 4); ++step) {
    double square = 0;
    factor_dots(x.get(), 0, 1, last - origin, x.get(), &square);
    if (!(square > 0)) break;
    const double scale = 1 / std::sqrt(square);
    for (Row j = origin; j < last; ++j) x[at_index(j - origin)] *= scale;
    Array y = zeros(length());
    for (Row block = origin; block < end_; block += 8) {
      const Row behind = block + 8, first = std::max(block, begin_), stop = std::min(behind, end_);
      double minus[factor_columns] = {}, dots[factor_columns] = {};
      for (Row j = first; j < stop; ++j) minus[j - first] = -x[at_index(j - origin)];
      if (behind < last) {
        const auto columns = static_cast<int>(stop - first);
        const double* const values = column(gram_, first) + 8;
        factor_dots(values, stride_, columns, last - behind, x.get() + (behind - origin), dots);
        factor_subtract(values, stride_, columns, last - behind, minus,
                        y.get() + (behind - origin));
      }
      for (Row j = first; j < stop; ++j) {
        double sum = dots[j - first] + at(gram_, j, j) * x[at_index(j - origin)];
        for (Row i = j + 1; i < stop; ++i) {
          sum += at(gram_, i, j) * x[at_index(i - origin)];
          y[at_index(i - origin)] += at(gram_, i, j) * x[at_index(j - origin)];
        }
        y[at_index(j - origin)] += sum;
      }
    }
    for (Row j = origin; j < last; ++j) y[at_index(j - origin)] /= most;  // squares stay in range
    double norm = 0, rayleigh = 0;
    factor_dots(y.get(), 0, 1, last - origin, y.get(), &norm);
    factor_dots(y.get(), 0, 1, last - origin, x.get(), &rayleigh);
    norm = std::sqrt(norm);
    if (step == 0 && norm * most < 0.7 * largest_) cold = true;  // what it followed has left
    estimate = std::max(estimate, norm * most);
    std::swap(x, y);
    if (norm <= 1.003 * rayleigh) break;
  }
  largest_ = estimate;
  for (Row j = begin_; j < end_; ++j) direction_[slot(j)] = x[at_index(j - origin)];
  return estimate;
}

double Factor::trace() const {
  double sum = 0;
  for (Row j = begin_; j < end_; ++j) sum += square_[slot(j)];
  return sum;
}

double Factor::gram(std::ptrdiff_t i, std::ptrdiff_t j) const {
  return at(gram_, begin_ + std::max(i, j), begin_ + std::min(i, j));
}

double Factor::element(std::ptrdiff_t i, std::ptrdiff_t j) const {
  return i < j ? 0 : at(factor_, begin_ + i, begin_ + j);
}

Factor::LostPivot Factor::lost() const {
  if (lost_ < begin_) return {};
  return {static_cast<std::ptrdiff_t>(lost_ - begin_), lost_value_};
}

double Factor::smallest_pivot() const {
  double least = HUGE_VAL;
  for (Row j = begin_; j < end_; ++j) least = std::fmin(least, at(factor_, j, j));
  return count() == 0 ? 1 : least * least / shift_;
}

std::vector<double> Factor::dense(const Array& matrix) const {
  const std::ptrdiff_t n = count();
  std::vector<double> out(at_index(n * n), 0.0);
  for (std::ptrdiff_t j = 0; j < n; ++j)
    std::copy_n(column(matrix, begin_ + j) + (begin_ + j - block_of(begin_ + j)), n - j,
                out.data() + j * (n + 1));
  return out;
}

double Factor::residual() const {
  const std::ptrdiff_t n = count();
  if (n == 0) return 0;
  std::vector<double> k = dense(gram_);
  double most = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) most = std::max(most, k[at_index(i * (n + 1))] += shift_);
  const std::vector<double> l = dense(factor_);
  const auto norm = [&](const std::vector<double>& a) {
    double square = 0;
    for (std::ptrdiff_t j = 0; j < n; ++j)
      for (std::ptrdiff_t i = j; i < n; ++i) {
        const double value = a[at_index(i + n * j)] / most;
        square += (i == j ? 1 : 2) * value * value;
      }
    return std::sqrt(square);
  };
  const double size = norm(k);
  const halfulp::detail::OneBlasThread one;
  const int order = static_cast<int>(n);
  cblas_dsyrk(CblasColMajor, CblasLower, CblasNoTrans, order, order, -1.0, l.data(), order, 1.0,
              k.data(), order);
  return norm(k) / size;
}

void Factor::save(ByteWriter& writer) const {
  writer.put(static_cast<std::int64_t>(capacity_));
  writer.put(begin_);
  writer.put(end_);
  writer.put(shift_);
  writer.put(static_cast<std::uint8_t>(stale_));
  writer.put(largest_);
  writer.put(factorisations_);
  std::vector<double> direction;
  for (Row j = begin_; j < end_; ++j) direction.push_back(direction_[slot(j)]);
  writer.put_array(direction);
  writer.put(applied_);
  writer.put(lost_);
  writer.put(lost_value_);
  writer.put(lost_trace_);
  for (const Array* matrix : {&gram_, &factor_})
    for (Row j = begin_; j < end_; ++j)
      writer.put_array(std::span<const double>(&at(*matrix, j, j), at_index(end_ - j)));
}

Factor Factor::load(ByteReader& reader) {
  using Damaged = ByteReader::Damaged;
  const auto capacity = reader.get<std::int64_t>();
  const auto begin = reader.get<Row>(), end = reader.get<Row>();
  if (capacity < 1 || capacity > (1 << 20) || begin < 0 || end < begin || end - begin > capacity)
    throw Damaged("a window of no possible size");
  Factor factor(capacity);
  factor.begin_ = begin;
  factor.end_ = end;
  factor.shift_ = reader.get<double>();
  factor.stale_ = reader.get<std::uint8_t>() != 0;
  factor.largest_ = reader.get<double>();
  factor.factorisations_ = reader.get<std::int64_t>();
  const auto check = [](const std::vector<double>& values, std::int64_t n) {
    if (std::ssize(values) != n) throw Damaged("an array of another size than it must have");
    return values;
  };
  const std::vector<double> direction = check(reader.get_array<double>(), end - begin);
  for (Row j = begin; j < end; ++j)
    factor.direction_[factor.slot(j)] = direction[at_index(j - begin)];
  factor.applied_ = reader.get<double>();
  factor.lost_ = reader.get<Row>();
  factor.lost_value_ = reader.get<double>();
  factor.lost_trace_ = reader.get<double>();
  if (factor.lost_ >= end) throw Damaged("a lost pivot of no row");
  for (const Array* matrix : {&factor.gram_, &factor.factor_})
    for (Row j = begin; j < end; ++j) {
      const std::vector<double> values = check(reader.get_array<double>(), end - j);
      std::copy(values.begin(), values.end(), &factor.at(*matrix, j, j));
    }
  for (Row j = begin; j < end; ++j) factor.square_[factor.slot(j)] = factor.at(factor.gram_, j, j);
  return factor;
}

}  // namespace halfulp::mfac::detail
