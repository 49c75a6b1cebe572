#pragma once

#include <cstddef>
#include <memory>

#include "halfulp/cuda/memory.hpp"
#include "halfulp/mfac.hpp"

/// Products with the inverse of a damped empirical Fisher matrix H = lambda I + G^T G/m, with the m
/// gradients, the rows of G, in device memory: halfulp/mfac.hpp says what it is.
///
///     cuda::mfac::Estimator fisher(gradients, d, {.damping = 1e-5}, stream);
///     fisher.inverse_product(x, y);                   // queued: y = H^-1 x
///     fisher.inverse_row(m - 1, step);                // H^-1 of the newest gradient
///     const auto check = fisher.last_product();       // waits; check.error: of `step`, relative
///
/// With K = m lambda I + G G^T,
///
///     H^-1 x = (x - G^T K^-1 G x)/lambda,        H^-1 G^T a = m G^T K^-1 a.
///
/// The first cancels where x is a row of G or nearly so; the second does not, and costs one pass
/// instead of two. Unlike the host's, this class does not look for rows among the x: who has a row
/// or a combination of rows says so.
namespace halfulp::cuda::mfac {

using halfulp::mfac::Accumulation;
using halfulp::mfac::Diagnosis;

struct Options {
  double damping = 0;  ///< lambda in [2^-500, 2^500]
  /// Of products; K is summed in double in any case. In float32 a sum of at most 2048 products, or
  /// in the second pass of 64, is formed in float, and these are added in double; the range is that
  /// of float. For many right-hand sides at once, where arithmetic is the limit and not memory.
  /// Gradients in double are summed in double all the same.
  Accumulation products = Accumulation::float64;
};

/// K, its inverse, and what can be asked of them. All vectors are of d numbers in device memory; k
/// vectors are rows of a k x d array.
///
/// Products are queued on the stream of the constructor: they allocate nothing and wait for
/// nothing. They share work space, so that one estimator is for one host thread at a time. Numbers
/// of x are not looked at: what is not finite gives NaN, and an infinite error.
class Estimator {
 public:
  /// Forms K, m x m, on the device and inverts it on the host: waits for the stream.
  /// @param  gradients  m rows of d numbers; not copied, and must stay as they are
  /// @throws            ShapeError if gradients.size() is no multiple of d; DomainError if d < 1 or
  ///                    m = 0, if damping is not in [2^-500, 2^500], and for a row that is not
  ///                    finite or whose square is not below 2^1000/m; DeviceError
  /// @cost              m^2 d flops in double and a pass over G for each 64 rows; m^3 flops on one
  ///                    thread of the host. Device memory: 16 m^2 bytes and work space of 70 MiB at
  ///                    most, or of a thousandth of G where that is more; until the constructor
  ///                    returns 32 MiB, or 4 m^2 bytes, besides
  Estimator(span<const float> gradients, std::ptrdiff_t d, const Options& options,
            stream_handle stream = nullptr);
  Estimator(span<const double> gradients, std::ptrdiff_t d, const Options& options,
            stream_handle stream = nullptr);
  ~Estimator();
  Estimator(Estimator&&) noexcept;
  Estimator& operator=(Estimator&&) noexcept;

  [[nodiscard]] std::ptrdiff_t rows() const;       ///< m
  [[nodiscard]] std::ptrdiff_t dimension() const;  ///< d
  /// Of the factorisation, as of the host's class with Precision::float64; its error is for the
  /// worst x.
  [[nodiscard]] Diagnosis diagnosis() const;

  /// y = H^-1 x for k vectors. x and y may be the same, but must not overlap otherwise.
  /// @throws    ShapeError if sizes do not fit; DeviceError if a launch fails
  /// @accuracy  budget `mfac_product` of the backend `cuda`, and the rounding to the type of y; not
  ///            for an x of which lambda y is a small remainder. `mfac_underestimate` of the error
  ///            said, for any x. Neither with sums in float
  /// @cost      two passes over G for each 32 vectors. The numbers of a pass are read 16 bytes at a
  ///            time where G, x and y and their rows begin at multiples of 16 bytes. The bits of a
  ///            vector depend neither on that, nor on how many multiprocessors there are, nor on
  ///            the other vectors
  void inverse_product(span<const float> x, span<float> y);
  void inverse_product(span<const double> x, span<double> y);
  /// y = H^-1 G^T a, a of m numbers (k rows of m): natural gradients, minSR; one pass for each 32.
  void inverse_combination(span<const double> a, span<float> y);
  void inverse_combination(span<const double> a, span<double> y);
  /// y = H^-1 g_row, one pass.
  /// @throws  DomainError unless 0 <= row < m
  void inverse_row(std::ptrdiff_t row, span<float> y);
  void inverse_row(std::ptrdiff_t row, span<double> y);

  /// `diagnosis`, with the estimate of the error of what was queued last, the largest of its k.
  /// Waits for the stream. Infinite where y is not finite, or its square not between 2^-900 and
  /// 2^900.
  [[nodiscard]] Diagnosis last_product() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halfulp::cuda::mfac
