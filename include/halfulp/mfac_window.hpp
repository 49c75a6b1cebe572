#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "halfulp/mfac.hpp"

/// The inverse of a damped empirical Fisher matrix over the last m gradients of a stream:
///
///     H = lambda I + (1/M) sum_i g_i g_i^T,   M = m, or the number of gradients while m have not
///                                             come yet,
///
/// kept up to date as gradients come and go.
///
///     halfulp::mfac::Window window(1024, d, {.damping = 1e-5});
///     const auto check = window.step(gradient, direction);     // direction = H^-1 gradient
///
/// A new gradient costs one pass over the window for its products with the others, and O(m^2): the
/// Cholesky factor of K = M lambda I + G G^T gains a row by a forward substitution and loses its
/// first one by a positive update of rank one of what is left. Nothing is ever subtracted from K,
/// so that the factor stays what a new factorisation would give, however long the stream.
namespace halfulp::mfac {

/// What the sum of g_i g_i^T is divided by while the window is not full.
enum class Normalisation {
  count,   ///< the number of gradients in it: H is their mean from the first one on. M lambda
           ///< changes with every gradient, and K is factorised when a product is asked for
  window,  ///< its size m: as if all that have not come were zero
};

struct WindowOptions {
  double damping = 0;  ///< lambda > 0
  Storage storage = Storage::float32;
  Normalisation normalisation = Normalisation::count;
  int threads = 0;
};

/// Vectors are of d numbers. Rows are numbered from the oldest gradient, 0, to the newest.
///
/// Methods that compute a product ask for at least one gradient: DomainError otherwise; ShapeError
/// if sizes do not fit. A call that throws either leaves the window as it was.
/// @throws    DomainError if m or d < 1, m > 2^20, lambda is not > 0 and finite, or m lambda is not
/// @accuracy  budget `mfac_window`: relative, 2-norm, of the gradients as they are stored, after
///            every step, over cond(H) 2^-52; with T = float, a rounding to float more. Where a
///            pivot of K is lost, rounding being larger than the damping, H has a larger one that
///            is not lost, until the row of that pivot or what it was lost to has gone: `status` is
///            `lost`, and the error not above 1 and a rounding
/// @cost      memory: m d numbers as they are stored and 2 m (m + 16) doubles. Same bits for any
///            number of threads; the m x m part runs on one. Where the first estimate of an error
///            is above 4 cond(H) 2^-52 and 2^-38, a pass more for a better one
/// @source    Frantar, Kurtic, Alistarh (2021), arXiv:2107.03356, 3.2, whose dynamic algorithm
///            recomputes m x m arrays, O(m^3), for each gradient
class Window {
 public:
  Window(std::ptrdiff_t m, std::ptrdiff_t d, const WindowOptions& options);
  ~Window();
  Window(Window&&) noexcept;
  Window& operator=(Window&&) noexcept;

  [[nodiscard]] std::ptrdiff_t size() const;       ///< m
  [[nodiscard]] std::ptrdiff_t dimension() const;  ///< d
  [[nodiscard]] std::ptrdiff_t count() const;      ///< gradients in the window, <= m
  [[nodiscard]] const WindowOptions& options() const;
  [[nodiscard]] double normaliser() const;  ///< M; 1 for `count` without gradients
  /// The gradients as they are stored, in no particular order: for an Estimator, which has the
  /// diagonal, elements and more. Not a copy: the next gradient changes it.
  /// @throws  DomainError without gradients
  [[nodiscard]] Gradients gradients() const;
  void row(std::ptrdiff_t row, std::span<double> out) const;  ///< one of them, rounded as stored

  /// The next gradient, rounded to `storage`; it takes the place of the oldest in a full window.
  /// @throws  DomainError for a number that is not finite, or not once rounded, with its index, and
  ///          if its square overflows
  /// @cost    one pass over the window and O(m^2)
  void add(std::span<const double> gradient);
  void add(std::span<const float> gradient);
  /// add(gradient), then inverse_newest(out): two passes in all.
  Diagnosis step(std::span<const double> gradient, std::span<double> out);
  Diagnosis step(std::span<const float> gradient, std::span<float> out);

  /// y = H^-1 x for k vectors; x and y may be the same. Two passes; where x is nearly a combination
  /// of the gradients, two more for each step of refinement; a gradient in the window itself is
  /// recognised, and treated as inverse_newest does.
  Diagnosis inverse_product(std::span<const double> x, std::span<double> y);
  Diagnosis inverse_product(std::span<const float> x, std::span<float> y);
  /// y = H^-1 g for the newest gradient as it is stored, M G^T K^-1 e: one pass.
  Diagnosis inverse_newest(std::span<double> y);
  Diagnosis inverse_newest(std::span<float> y);
  /// y = H^-1 G^T a, a of count() numbers, the oldest gradient's first: one pass.
  Diagnosis inverse_combination(std::span<const double> a, std::span<double> y);
  Diagnosis inverse_combination(std::span<const double> a, std::span<float> y);
  /// g^T H^-1 g for the newest gradient, in [0, M); no pass.
  [[nodiscard]] double newest_curvature();

  /// Of the factorisation: its error is for the worst x. The condition is an estimate from below
  /// by power iterations, within a few per cent as a rule; `pivot` counts rows from the oldest.
  Diagnosis diagnosis();
  /// |L L^T - K|/|K| in the Frobenius norm. @cost  m^3 flops
  [[nodiscard]] double factor_residual();
  /// The least L_ii^2/(M lambda), which is >= 1 without rounding.
  [[nodiscard]] double smallest_pivot();
  /// How often K was factorised anew: while `count` fills, after set_damping, and when a pivot was
  /// below half of what it must be.
  [[nodiscard]] std::int64_t factorisations() const;

  /// Another lambda; K is factorised with the next product.
  void set_damping(double damping);
  void clear();  ///< no gradients

  /// The whole state: a window that was loaded goes on with the bits of the one that was saved, on
  /// one kind of processor. Written as write_file_atomic does, with a checksum.
  /// @throws  IoError
  void save(const std::filesystem::path& file) const;
  /// @throws  IoError also for a file that is damaged or no window's
  static Window load(const std::filesystem::path& file, int threads = 0);

 private:
  struct State;
  explicit Window(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace halfulp::mfac
