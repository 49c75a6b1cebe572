#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "halfulp/progress.hpp"

/// Products with the inverse of a damped empirical Fisher matrix
///
///     H = lambda I + (1/m) sum_i g_i g_i^T = lambda I + G^T G/m,
///
/// where the gradients g_i, d numbers each, are the rows of G (m x d) and d may be 1e9: H itself,
/// d x d, is never formed. With the Cholesky factor of K = m lambda I + G G^T = L L^T, m x m,
///
///     H^-1 x = (x - G^T K^-1 G x)/lambda,        H^-1 G^T a = m G^T K^-1 a,
///
/// two passes over G for any x and one for a row of G or a combination of rows. The second form
/// loses nothing where the first cancels, and is used for every x that equals a row.
///
///     const halfulp::mfac::Estimator fisher(halfulp::mfac::Gradients(rows, d), {.damping = 1e-5});
///     const auto check = fisher.inverse_product(x, y);     // check.error: of y, relative
///
/// @source  Frantar, Kurtic, Alistarh (2021), NeurIPS, arXiv:2107.03356: H and the products, which
///          it computes by recursions; both are this factorisation in other words (docs/mfac.md)
namespace halfulp::mfac {

/// How gradients are held. Sums over them are in double whatever they are held in.
enum class Storage { float64, float32, bfloat16, float16 };
[[nodiscard]] std::string_view to_string(Storage storage);  ///< "fp64", "fp32", "bf16", "fp16"
/// @throws  DomainError for any other name
[[nodiscard]] Storage storage_from(std::string_view name);

/// m gradients of d numbers: the rows of G. Copies of a Gradients share their numbers.
class Gradients {
 public:
  /// A copy of `rows`, m d numbers, rounded to `storage`, to nearest and ties to even.
  /// @throws  ShapeError if rows.size() is no multiple of d; DomainError if d < 1, and for a number
  ///          that is not finite, or not once rounded, with its row
  Gradients(std::span<const double> rows, std::ptrdiff_t d, Storage storage = Storage::float64,
            int threads = 0);
  Gradients(std::span<const float> rows, std::ptrdiff_t d, Storage storage = Storage::float32,
            int threads = 0);
  /// m rows of zeros, to be set.
  static Gradients zeros(std::ptrdiff_t m, std::ptrdiff_t d, Storage storage);
  /// No copy: `rows` must outlive what is made of it. Numbers are not looked at here.
  static Gradients view(std::span<const double> rows, std::ptrdiff_t d);
  static Gradients view(std::span<const float> rows, std::ptrdiff_t d);
  /// An NPY file of shape (m, d), float16, float32 or float64, C order: read where it lies, piece
  /// by piece, each time it is needed, so that it may be larger than memory. It must not change
  /// meanwhile; what finds it shorter than it was throws IoError.
  /// @throws  IoError as read_npy_header; for another type, order, rank or byte order
  static Gradients map(const std::filesystem::path& file);

  /// The first `rows` of them, not a copy.
  /// @throws  DomainError unless 0 <= rows <= m; for a mapped file
  [[nodiscard]] Gradients first(std::ptrdiff_t rows) const;

  [[nodiscard]] std::ptrdiff_t rows() const;       ///< m
  [[nodiscard]] std::ptrdiff_t dimension() const;  ///< d
  [[nodiscard]] Storage storage() const;
  [[nodiscard]] double at(std::ptrdiff_t row, std::ptrdiff_t column) const;
  void row(std::ptrdiff_t row, std::span<double> out) const;
  /// @throws  DomainError for views and mapped files; as the constructor
  void set_row(std::ptrdiff_t row, std::span<const double> values);
  void set_row(std::ptrdiff_t row, std::span<const float> values);

  struct Data;  ///< lib/detail/mfac_gradients.hpp
  [[nodiscard]] const Data& data() const { return *data_; }

 private:
  explicit Gradients(std::shared_ptr<Data> data) : data_(std::move(data)) {}
  std::shared_ptr<Data> data_;
};

/// In which arithmetic sums over d are formed. float32: sums of at most 4096 products in float,
/// whose totals are added in double; about twice as fast where memory is not the limit. Scaled by
/// powers of two, so that the range is that of double. Gradients held in float64 are summed in
/// double all the same.
enum class Accumulation { float64, float32 };

/// What is done where rounding in double costs more than cond(H) 2^-52: H is as it is, yet K may
/// have lost its small eigenvalues, x - G^T K^-1 G x most of its digits.
enum class Precision {
  automatic,  ///< products are refined with residuals in double-double, and where that cannot help,
              ///< K is formed and factorised in double-double: one pass at a twentieth of the speed
  float64,    ///< nothing: the error is reported as it is
};

struct Options {
  double damping = 0;  ///< lambda in [2^-500, 2^500]
  /// > 0: H is block-diagonal, blocks of this many coordinates, the last one of what is left; all
  /// else is as if each were an H of its own.
  std::ptrdiff_t block = 0;
  Accumulation gram = Accumulation::float64;
  Accumulation products = Accumulation::float64;
  Precision precision = Precision::automatic;  ///< float64 with sums in float32
  /// Least number of steps of refinement of each product, y += H^-1 (x - H y) with the residual in
  /// double-double: four passes each, two of them slow.
  int refinements = 0;
  int threads = 0;
  Progress progress = {};
};

/// What is known of a product beside its value. A warning, not an error: where status is not
/// `good` the numbers are finite, and as good as `error` says.
enum class Conditioning {
  good,
  ill,   ///< cond(H) 2^-52 > 1e-3: few digits are left
  lost,  ///< a pivot of K was not above m lambda/2, rounding being larger than the damping: it was
         ///< set to m lambda, its column below to 0 (a Window: see there)
};
[[nodiscard]] std::string_view to_string(Conditioning conditioning);

struct Diagnosis {
  Conditioning status = Conditioning::good;
  double condition = 1;  ///< of H, 1 + sigma_max(G)^2/(m lambda), from above; the largest block's
  double error = 0;      ///< estimate of |y - H^-1 x|/|H^-1 x|, 2-norms; the largest of the k
  std::ptrdiff_t pivot = -1;  ///< the first row of K whose pivot was lost
  double pivot_value = 0;     ///< that pivot over m lambda, which is >= 1 without rounding
};

/// The factorisation of a fixed G, and what can be asked of it.
///
/// All vectors are of d numbers; k vectors are rows of a k x d array. Where a block of H is no
/// larger than m it is factorised itself instead of K.
/// @throws    DomainError if damping is not in [2^-500, 2^500], m = 0, block < 0 or refinements <
/// 0,
///            for a row of G that is not finite or whose square is not below 2^1000/m; Cancelled.
///            Each method: ShapeError if sizes do not fit; DomainError for an x that is not finite,
///            with its index, or so large that its product is not
/// @accuracy  budgets `mfac_product`, `mfac_diagonal`, `mfac_element`, `mfac_number`: relative to
///            cond(H) 2^-52, of the gradients as they are stored; `mfac_float_storage`: rows of G
///            and random vectors with gradients in float and x and y in double;
///            `mfac_underestimate` and `mfac_overestimate`: Diagnosis::error. None of them with
///            sums in float32
/// @cost      construction m^2 d flops and one pass over G; a product of k vectors 4 m d k flops,
///            two passes; more where Precision says so. Same bits for any number of threads. Const
///            methods may be called from several threads at once
class Estimator {
 public:
  Estimator(Gradients gradients, const Options& options);
  ~Estimator();
  Estimator(Estimator&&) noexcept;
  Estimator& operator=(Estimator&&) noexcept;

  [[nodiscard]] const Gradients& gradients() const;
  [[nodiscard]] const Options& options() const;
  /// Of the factorisation; its error is for the worst x.
  [[nodiscard]] Diagnosis diagnosis() const;

  /// y = H^-1 x for k vectors. x and y may be the same.
  Diagnosis inverse_product(std::span<const double> x, std::span<double> y) const;
  Diagnosis inverse_product(std::span<const float> x, std::span<float> y) const;
  /// y = H^-1 G^T a, a of m numbers (k rows of m): natural gradients, minSR; one pass.
  Diagnosis inverse_combination(std::span<const double> a, std::span<double> y) const;
  Diagnosis inverse_combination(std::span<const double> a, std::span<float> y) const;
  /// y = H^-1/2 x, with the symmetric root.
  Diagnosis inverse_root_product(std::span<const double> x, std::span<double> y) const;
  Diagnosis inverse_root_product(std::span<const float> x, std::span<float> y) const;
  /// H x, two passes.
  void product(std::span<const double> x, std::span<double> y) const;

  /// out[j] = (H^-1)_jj, in (0, 1/lambda].
  Diagnosis inverse_diagonal(std::span<double> out) const;
  /// (H^-1)_ij.
  /// @cost  O(m) after the first call, which solves for all columns and keeps them, 8 m d bytes;
  ///        O(m^2) where everything is in double-double
  [[nodiscard]] double inverse_element(std::ptrdiff_t i, std::ptrdiff_t j) const;
  /// (H^-1)[indices, indices], s x s.
  Diagnosis inverse_block(std::span<const std::ptrdiff_t> indices, std::span<double> out) const;

  [[nodiscard]] double log_determinant() const;  ///< of H
  [[nodiscard]] double inverse_trace() const;    ///< of H^-1
  /// x^T H^-1 x, of each of k vectors.
  Diagnosis quadratic_form(std::span<const double> x, std::span<double> out) const;

  /// out[i] = g_i^T H^-1 x: the influence of row i on a loss of gradient x, up to its sign; one
  /// pass.
  Diagnosis influence(std::span<const double> x, std::span<double> out) const;
  /// out[i] = g_i^T H^-1 g_i = m (1 - m lambda (K^-1)_ii), in [0, m) for one block; no pass,
  /// m^3 flops, for rows that nearly coincide in double-double.
  void self_influence(std::span<double> out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// y = H^-1 x for k vectors in two passes over G in all, the factorisation included: for gradients
/// larger than memory. As Estimator otherwise.
Diagnosis inverse_product(const Gradients& gradients, std::span<const double> x,
                          std::span<double> y, const Options& options);

}  // namespace halfulp::mfac
