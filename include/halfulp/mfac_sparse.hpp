#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "halfulp/mfac_window.hpp"

/// A window of gradients of which only the largest numbers are kept, the rest being added to the
/// next gradient before it is cut down in its turn: nothing is lost for good.
///
///     a = e + g,     row = the k largest |a_j|, as they are stored,     e := a - row
///
/// H = lambda I + (1/M) sum row_i row_i^T is that of Window for these rows.
/// @source  Modoranu, Kalinov, Kurtic, Frantar, Alistarh (2023), arXiv:2306.06098
namespace halfulp::mfac {

struct SparseOptions {
  double damping = 0;    ///< lambda > 0
  std::ptrdiff_t k = 0;  ///< numbers kept of a gradient, in 1 ... d
  /// Of the numbers kept: float32 or bfloat16, rounded to nearest; what is rounded off stays in e.
  Storage storage = Storage::bfloat16;
  Normalisation normalisation = Normalisation::count;
  int threads = 0;
};

/// @throws    DomainError, ShapeError as Window; for another storage; unless 1 <= k <= d
/// @accuracy  as Window, of the rows as they are stored
/// @cost      memory_bytes(); a product O(m k + d + m^2). Same bits for any number of threads
class SparseWindow {
 public:
  SparseWindow(std::ptrdiff_t m, std::ptrdiff_t d, const SparseOptions& options);
  ~SparseWindow();
  SparseWindow(SparseWindow&&) noexcept;
  SparseWindow& operator=(SparseWindow&&) noexcept;

  [[nodiscard]] std::ptrdiff_t size() const;
  [[nodiscard]] std::ptrdiff_t dimension() const;
  [[nodiscard]] std::ptrdiff_t count() const;
  [[nodiscard]] double normaliser() const;
  [[nodiscard]] const SparseOptions& options() const;
  /// Row i from the oldest, with its zeros.
  void row(std::ptrdiff_t row, std::span<double> out) const;
  /// e, what has been left out so far.
  [[nodiscard]] std::span<const float> error() const;
  /// What the window holds: k indices of 16 bits and numbers a row, where each 2^16 columns begin,
  /// e, and the m x m part.
  [[nodiscard]] std::size_t memory_bytes() const;

  /// The next gradient. Of equal magnitudes those with the smaller indices are kept.
  void add(std::span<const float> gradient);
  Diagnosis inverse_product(std::span<const double> x, std::span<double> y);
  Diagnosis inverse_product(std::span<const float> x, std::span<float> y);
  /// y = H^-1 times the newest row.
  Diagnosis inverse_newest(std::span<double> y);
  Diagnosis inverse_newest(std::span<float> y);
  Diagnosis diagnosis();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halfulp::mfac
