#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "halfulp/mfac.hpp"

/// The vector half of the sums over gradients, on tiles: `n` numbers of each of some rows.
///
/// A sum over the numbers of a row is 8 sums in double, or 16 in float, of every 8th or 16th
/// number, which are then added, halves first, and to the sum in double: the same bits whatever the
/// size of a vector is, where there is a fused multiply-add (all of AVX2, AVX-512, NEON). T: float
/// or double.
namespace halfulp::mfac::detail {

/// Arrays of T have room for a multiple of so many numbers, and zeros behind the last.
inline constexpr std::ptrdiff_t mfac_step = 16;
/// Products that are summed in T before the total goes to the sum in double.
inline constexpr std::ptrdiff_t mfac_most_terms = 4096;
/// Rows that mfac_dots takes, and what factors of mfac_combine are padded to, by zeros.
inline constexpr std::ptrdiff_t mfac_dots_rows = 4;
inline constexpr std::ptrdiff_t mfac_combine_rows = 8;

/// to_j = scale from_j rounded to T, and zeros up to a multiple of mfac_step.
/// @return  from fewer digits to float the largest |to_j|, NaN or infinite if any is; otherwise 0
template <class T>
double mfac_convert(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale, T* to);

/// The largest |from_j|; NaN or infinite if any is.
[[nodiscard]] double mfac_largest(Storage storage, const std::byte* from, std::ptrdiff_t n);
/// The sum of squares.
[[nodiscard]] double mfac_square(Storage storage, const std::byte* from, std::ptrdiff_t n);

/// Pieces of memory in the order in which they will be used, for it to send them while others are
/// worked on: a few lines at a time, and none more than `most` pieces before its use.
class Ahead {
 public:
  explicit Ahead(std::ptrdiff_t most) : most_(most) {}

  void add(const std::byte* from, std::ptrdiff_t bytes) { pieces_.push_back({from, bytes}); }
  /// So many more pieces are being used, or are not needed.
  void use(std::ptrdiff_t count) { used_ += count; }
  /// The next lines, which may end behind the piece; null if there are none for now.
  const std::byte* next(std::ptrdiff_t lines) {
    if (piece_ < used_) {
      piece_ = used_;
      sent_ = 0;
    }
    if (piece_ >= std::min(static_cast<std::ptrdiff_t>(pieces_.size()), used_ + most_))
      return nullptr;
    const Piece& piece = pieces_[static_cast<std::size_t>(piece_)];
    const std::byte* const from = piece.from + sent_;
    sent_ += 64 * lines;
    if (sent_ >= piece.bytes) {
      ++piece_;
      sent_ = 0;
    }
    return from;
  }

 private:
  struct Piece {
    const std::byte* from;
    std::ptrdiff_t bytes;
  };
  std::vector<Piece> pieces_;
  std::ptrdiff_t most_, used_ = 0, piece_ = 0, sent_ = 0;
};

/// out[out_stride c + i] += a_i . b_c for i < rows of 4 rows and k of b, n numbers each: a multiple
/// of mfac_step. ahead: what is sent meanwhile, where registers are few. Sums are formed in T:
/// double of double or float, or float of float.
template <class T, class Held>
void mfac_dots(const Held* const* a, int rows, const Held* b, std::ptrdiff_t stride,
               std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
               Ahead* ahead);

/// Gradients: `n` numbers of each of m rows.
struct Rows {
  Storage storage;
  const std::byte* numbers;
  std::ptrdiff_t stride;
  std::ptrdiff_t m;
  std::ptrdiff_t n;
  std::ptrdiff_t ahead;  ///< numbers behind the n of each row that will be taken next
};

/// Rows that mfac_pack puts side by side, or 0 where a processor has registers enough to multiply
/// rows as they lie. Where it has few, a vector is a lane of the sums of several rows: all numbers
/// of a lane stay in the first cache, and lanes are added without shuffles; the same bits.
template <class T>
[[nodiscard]] std::ptrdiff_t mfac_panel_rows();
/// Numbers of a panel of rows with n numbers each: the lanes of a sum, of each a line more than
/// there are, so that lanes do not begin at the same place of a page.
template <class T>
[[nodiscard]] std::ptrdiff_t mfac_panel_size(std::ptrdiff_t n) {
  constexpr std::ptrdiff_t lanes = 64 / static_cast<std::ptrdiff_t>(sizeof(T));
  return ((n + mfac_step - 1) / mfac_step * mfac_step + lanes) * mfac_panel_rows<T>();
}
/// Up to a panel of rows from row `first` on, lane by lane of a sum, in it number by number, and of
/// each number row by row.
template <class T>
void mfac_pack(const Rows& rows, std::ptrdiff_t first, T* panel);
/// out[out_stride c + r] += a_r . b_c for `rows` of panel a and `others` of panel b, n numbers
/// each; of a panel with itself perhaps only for r >= c.
template <class T>
void mfac_panel_products(const T* a, int rows, const T* b, int others, std::ptrdiff_t n,
                         double* out, std::ptrdiff_t out_stride);

/// Lets the memory send numbers [from, to) of rows [first, last) while others are worked on: a
/// processor looks ahead within a row, not to the next one.
void mfac_prefetch(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, std::ptrdiff_t from,
                   std::ptrdiff_t to);

/// out[m c + i] += g_i . b_c for rows first <= i < last and k of b. ahead: what is sent meanwhile,
/// or null for the rows that follow.
template <class T>
void mfac_project(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const T* b,
                  std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead);

/// sum_c += sum_i a[a_stride c + i] g_i over rows first <= i < last, a multiple of
/// mfac_combine_rows apart unless it is the end, one after the other: the same bits for any size of
/// a tile. fresh: = in place of +=, and zeros up to a multiple of mfac_step.
template <class T>
void mfac_combine(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const T* a,
                  std::ptrdiff_t a_stride, std::ptrdiff_t k, T* sum, std::ptrdiff_t stride,
                  bool fresh);

/// Rows whose sum is formed in float before it goes to the sum in double.
inline constexpr std::ptrdiff_t mfac_float_rows = 64;
/// Columns that mfac_combine_packed copies at a time: m times as many numbers.
inline constexpr std::ptrdiff_t mfac_copied = 48;
/// Groups of k >= 3 vectors, of 3 to 6 each, as many as sums have registers: group i begins with
/// vector k i / groups.
constexpr std::ptrdiff_t mfac_groups(std::ptrdiff_t k) { return (k + 5) / 6; }
/// y_c = scale x_c + sum over all rows of a_ci g_i, rounded to Y; x may be null, and y has room for
/// a multiple of mfac_step. Sums are what mfac_combine and, of float, mfac_add_scaled make of them,
/// with `inverses` of each vector. factors: group by group, row by row. Where mfac_panel_rows() is
/// not 0.
template <class T, class Y>
void mfac_combine_packed(const Rows& rows, const T* factors, const double* inverses,
                         std::ptrdiff_t k, T* copy, double scale, const Y* x,
                         std::ptrdiff_t x_stride, Y* y, std::ptrdiff_t y_stride);
/// to_j = from_j, past the caches if `stream`.
template <class T>
void mfac_copy(const T* from, std::ptrdiff_t n, T* to, bool stream);

/// Columns of W = L^-1 G at a time, and rows: what L is padded to.
inline constexpr std::ptrdiff_t mfac_solve_columns = 48;
inline constexpr std::ptrdiff_t mfac_solve_rows = 4;
/// L as mfac_solve reads it: of each 4 rows their entries column by column, those left of the block
/// on the diagonal; then the rows of that block, with the inverses of the diagonal of L; rows
/// behind the last are zero. `factor` is n x n, column-major.
[[nodiscard]] std::vector<double> mfac_solve_factor(const double* factor, std::ptrdiff_t n);
/// w[48 i + j] = W_ij for the rows.n <= 48 columns of `rows`, and squares_j = sum_i W_ij^2. Room
/// for 48 of both, and for rows up to a multiple of 4. Forward substitution: one column's bits do
/// not depend on where it stands.
void mfac_solve(const Rows& rows, const double* factor, double* w, double* squares);

/// y_j = sum_j + scale x_j, where x may be null; past the caches if `stream`.
template <class T>
void mfac_finish(const double* sum, std::ptrdiff_t n, double scale, const T* x, T* y, bool stream);
/// total_j += scale sum_j, n a multiple of mfac_step.
void mfac_add_scaled(const float* sum, std::ptrdiff_t n, double scale, double* total);

}  // namespace halfulp::mfac::detail
