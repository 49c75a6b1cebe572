#pragma once

#include <hwy/aligned_allocator.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "detail/sealed.hpp"

namespace halfulp::mfac::detail {

/// K = s I + G G^T = L L^T of the last `capacity` rows of a stream, from their products g_i . g_j.
///
/// Where a pivot of K is below half of what it must be, rounding being larger than s, L is that of
/// K' = t I + G G^T with a t > s that rounding leaves alone, until the row of that pivot has gone:
/// `applied` is t then. Rows of noise would grow in L without bound; of K'^-1 all that can be said
/// is that it is not above K^-1.
///
/// Rows are numbered as they come, and everything is in this order, the oldest row first. Leaving
/// the oldest row out is a positive update of rank one of what is left of L, by rotations; a new
/// row is one forward substitution, done in the same sweep; its pivot is at least s, so that no
/// step subtracts from the matrix. Element (i, j) of L and of G G^T is at place i - 8 floor(j/8) of
/// column j, wherever the window has got to: nothing is ever moved, and rows of all columns are
/// aligned alike. Columns are a ring, eight of a block next to each other.
///
/// @cost    replacing the oldest row 3.5 m^2 flops, one sweep over L; a solution m^2 flops a
///          triangle; memory 2 m (m + 16) doubles. On one thread: a sweep is shorter than threads
///          take to meet m/4 times
/// @source  Golub, Van Loan, Matrix Computations, 4th ed., 6.5.4 (rank-one change of a Cholesky
///          factor)
class Factor {
 public:
  explicit Factor(std::ptrdiff_t capacity);

  [[nodiscard]] std::ptrdiff_t capacity() const { return capacity_; }
  [[nodiscard]] std::ptrdiff_t count() const { return static_cast<std::ptrdiff_t>(end_ - begin_); }
  [[nodiscard]] double shift() const { return shift_; }
  /// s > 0. Another one than before: the next `refresh` factorises anew.
  void set_shift(double shift);
  /// t, or s where no pivot is lost.
  [[nodiscard]] double applied() const { return applied_; }

  /// The next row; the oldest one goes first if the window is full. `products`: with the rows that
  /// stay; `square`: with itself. L follows, unless it waits for `refresh` anyway.
  void push(std::span<const double> products, double square);
  void clear();
  /// Makes L that of K, if it is not. Needed before all that follows.
  void refresh();
  /// From G G^T, whatever L is.
  void refactor();

  /// x := K^-1 x, of count() numbers.
  void solve(std::span<double> x) const;
  /// x := L^-1 x.
  void forward(std::span<double> x) const;
  /// x := L^-T x.
  void backward(std::span<double> x) const;
  /// a += K^-1 (b - K a), the residual in double-double, for a near K^-1 b: what is left is the
  /// rounding of a, and of the products in K. Not where that would be no refinement. 20 m^2 flops.
  void refine(std::span<const double> b, std::span<double> a) const;
  /// K^-1 e for the last unit vector e: the backward substitution alone.
  void solve_newest(std::span<double> x) const;

  /// An estimate of the largest eigenvalue of G G^T: a lower bound up to rounding, within a few
  /// per cent in all but contrived cases. Remembers its vector, so that the next one is cheap.
  [[nodiscard]] double largest();
  /// The trace of G G^T.
  [[nodiscard]] double trace() const;
  [[nodiscard]] double gram(std::ptrdiff_t i, std::ptrdiff_t j) const;     ///< g_i . g_j
  [[nodiscard]] double element(std::ptrdiff_t i, std::ptrdiff_t j) const;  ///< L_ij, 0 for i < j

  struct LostPivot {
    std::ptrdiff_t row = -1;
    double value = 0;  ///< its square over s
  };
  /// The first row whose pivot, squared, was not above s/2.
  [[nodiscard]] LostPivot lost() const;
  /// The least L_ii^2/s, 1 without rows.
  [[nodiscard]] double smallest_pivot() const;
  /// |L L^T - K|/|K|, Frobenius norms; m^3 flops.
  [[nodiscard]] double residual() const;
  /// How often L was computed from K rather than updated.
  [[nodiscard]] std::int64_t factorisations() const { return factorisations_; }

  [[nodiscard]] std::size_t memory_bytes() const {
    return static_cast<std::size_t>(2 * slots_ * (stride_ + 1)) * sizeof(double);
  }

  void save(halfulp::detail::ByteWriter& writer) const;
  /// @throws  ByteReader::Damaged
  static Factor load(halfulp::detail::ByteReader& reader);

 private:
  using Array = hwy::AlignedFreeUniquePtr<double[]>;
  using Row = std::int64_t;  ///< the number of a row since the stream began
  static Array zeros(std::ptrdiff_t n);
  static Row block_of(Row row) { return row / 8 * 8; }
  [[nodiscard]] std::size_t slot(Row row) const { return static_cast<std::size_t>(row % slots_); }
  [[nodiscard]] double* column(const Array& matrix, Row j) const;
  [[nodiscard]] double& at(const Array& matrix, Row i, Row j) const {
    return column(matrix, j)[i - block_of(j)];
  }
  // Vectors over the rows of the window begin at block_of(begin_), with zeros around them.
  [[nodiscard]] std::ptrdiff_t length() const;
  [[nodiscard]] Array widened(std::span<const double> x) const;
  void narrow(const Array& from, std::span<double> x) const;
  void check(std::span<const double> x, const char* function) const;
  void start_column(const Array& matrix, Row j) const;
  /// k := L^-1 k; with v, L := the factor of L L^T + v v^T before.
  void sweep(double* k, double* v);
  void subtract_columns(double* k) const;
  void substitute_back(double* x) const;
  /// Row end_ of L, from k = L^-1 products; false if its pivot is lost.
  bool append(const double* k);
  /// Whether L is that of t I + G G^T, all pivots above half of what they must be.
  bool factorise(double t);
  /// The first row of K without a pivot.
  [[nodiscard]] std::pair<Row, double> first_lost() const;
  [[nodiscard]] std::vector<double> dense(const Array& matrix) const;

  std::ptrdiff_t capacity_;
  Row slots_;
  std::ptrdiff_t stride_;
  Row begin_ = 0, end_ = 0;  ///< the window
  double shift_ = 1, applied_ = 1;
  bool stale_ = false;
  Array gram_, factor_;
  std::vector<double> square_;     ///< by slot: the diagonal of G G^T
  std::vector<double> direction_;  ///< by slot: of `largest`
  double largest_ = 0;
  Row lost_ = -1;  ///< a row's number
  double lost_value_ = 0, lost_trace_ = 0;
  std::int64_t factorisations_ = 0;
};

}  // namespace halfulp::mfac::detail
