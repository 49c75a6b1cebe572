#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "halfulp/bessel.hpp"

/// The von Mises-Fisher distribution on the unit sphere of R^p: density
///
///     f(x) = C_p(kappa) exp(kappa mu . x),   C_p(kappa) = kappa^v / ((2 pi)^(v+1) I_v(kappa)),
///
/// v = p/2 - 1, with respect to the surface measure; mean direction mu, |mu| = 1, and concentration
/// kappa >= 0 (0: uniform). Mean resultant length: |E x| = A_p(kappa) = I_{v+1}(kappa)/I_v(kappa).
///
///     const halfulp::vmf::Fit fit = halfulp::vmf::fit(points, 784);   // n x 784 numbers
///     fit.distribution.kappa;                                         // and fit.kappa_error
///     halfulp::vmf::sample(fit.distribution, 42, samples);            // seed 42
///
/// Points: n rows of p numbers, one row after the other (the bytes of a NumPy array (n, p)). They
/// are directions: a row whose norm differs from 1 by more than 1e-6 is refused, smaller
/// differences are divided away, or any norm where `normalise` says so. Dimensions p are real
/// numbers >= 2 where they are only a parameter. The functions of numbers give NaN where p < 2,
/// kappa < 0 or a value is NaN.
/// @source  Mardia, Jupp (2000), Directional Statistics, 9.3.2 and 10; Plesner, Sorensen, Hauberg
///          (2024), arXiv 2409.08729, the purpose
namespace halfulp::vmf {

struct Distribution {
  std::vector<double> mu;  ///< unit vector of p >= 2 entries
  double kappa = 0;        ///< >= 0
};

// ---- functions of p and kappa -------------------------------------------------------------------

/// log C_p(kappa), any kappa in [0, inf); 1/C_p(0) is the surface of the sphere.
/// @accuracy  budget `vmf_log_normaliser`
[[nodiscard]] double log_normaliser(double p, double kappa);
/// log C_p(kappa) + kappa, the logarithm of the density's maximum, which does not cancel for large
/// kappa.
/// @accuracy  budget `vmf_log_normaliser_scaled`
[[nodiscard]] double log_normaliser_scaled(double p, double kappa);

/// A_p(kappa), 1 - A_p(kappa) and A_p'(kappa).
/// @accuracy  budgets `bessel_i_ratio`, `_complement`, `_derivative`
[[nodiscard]] BesselRatio mean_length(double p, double kappa);

/// The differential entropy -E log f = -log C_p(kappa) - kappa A_p(kappa), natural logarithm.
/// @accuracy  budget `vmf_entropy`
[[nodiscard]] double entropy(double p, double kappa);

/// Kullback-Leibler divergence E_a log(f_a/f_b); >= 0, without cancellation next to 0.
/// @throws    ShapeError if the dimensions differ; DomainError as log_density
/// @accuracy  budget `vmf_kl`
[[nodiscard]] double kl(const Distribution& a, const Distribution& b);

/// The concentration whose mean resultant length is `length`: kappa with A_p(kappa) = length, the
/// maximum likelihood estimate. Explicit: no iteration.
/// @param     length  in [0, 1]; 0 gives 0, 1 gives inf, outside NaN
/// @accuracy  budget `vmf_kappa`, in units of u (1 + condition number)
[[nodiscard]] double kappa(double p, double length);
/// Likewise from 1 - length, which keeps its digits where the length is next to 1.
[[nodiscard]] double kappa_complement(double p, double complement);

/// out[i] = kappa(p[i], length[i]); a single p stands for all. Same bits for any number of threads.
/// @throws    ShapeError if a size is not out.size() (or 1, of p)
/// @cost      docs/vmf.md has nanoseconds an element
void kappa(std::span<const double> p, std::span<const double> length, std::span<double> out,
           int threads = 0);
void kappa_complement(std::span<const double> p, std::span<const double> complement,
                      std::span<double> out, int threads = 0);

// ---- the cosine mu . x --------------------------------------------------------------------------

/// Distribution of the cosine t = mu . x, density proportional to (1 - t^2)^((p-3)/2) exp(kappa t)
/// on [-1, 1]. `log_density` is with respect to t.
struct Cosine {
  double cdf, survival, log_density;
};
/// P(mu . x <= t), P(mu . x > t), each with its own digits, and the log-density at t. The
/// probabilities of t < -1 and t > 1 are 0 and 1.
/// @accuracy  budgets `vmf_cosine`, relative, and `vmf_cosine_log_density`; kappa <= 1e290
/// @cost      10 microseconds or so
/// @source    lib/vmf_cosine.cpp: Gauss's rule, the leading factor in double-double
[[nodiscard]] Cosine cosine(double p, double kappa, double t);
/// The angle's cosine as 1 - t, which keeps its digits where kappa is large and t next to 1.
[[nodiscard]] Cosine cosine_complement(double p, double kappa, double one_minus_t);
/// 1 - t, t with P(mu . x > t) = survival (the cap of this probability around mu); in [0, 2].
/// @param     survival  in [0, 1], outside NaN
/// @accuracy  budget `vmf_cosine_quantile`, in units of u (1 + condition number); a result below
///            2^-1022 is rounded more
/// @cost      10 to 30 evaluations of the distribution
[[nodiscard]] double cosine_quantile(double p, double kappa, double survival);

// ---- data ---------------------------------------------------------------------------------------

struct DataOptions {
  std::span<const double> weights = {};  ///< n frequencies >= 0, not all 0; empty: all 1. Rows of
                                         ///< weight 0 do not count, but must be directions too
  bool normalise = false;                ///< rows of any norm but 0
  int threads = 0;                       ///< 0: OpenMP's default
};

/// out[i] = log f(x_i): kappa (mu . x_i - 1) + log_normaliser_scaled for mu and x_i divided by
/// their norms, the difference of the cosine from 1 without cancellation. Weights are not used.
/// @param     points  out.size() rows of mu.size() numbers; must not overlap out
/// @throws    DomainError if |mu| differs from 1 by more than 1e-6 or kappa is not >= 0 and finite;
///            ShapeError. A row that is no direction gives NaN in its place
/// @accuracy  budget `vmf_log_density`, relative to max(1, |log f|), also where kappa (1 - mu . x)
///            and log_normaliser_scaled cancel
/// @cost      the time to read the points; same bits for any number of threads
void log_density(const Distribution& distribution, std::span<const double> points,
                 std::span<double> out, const DataOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
void log_density(const Distribution& distribution, std::span<const float> points,
                 std::span<double> out, const DataOptions& options = {});
/// sum w_i log f(x_i), from the sum of w_i (1 - mu . x_i).
/// @throws    as fit for bad rows
[[nodiscard]] double log_likelihood(const Distribution& distribution,
                                    std::span<const double> points,
                                    const DataOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
[[nodiscard]] double log_likelihood(const Distribution& distribution, std::span<const float> points,
                                    const DataOptions& options = {});

/// sum w x/|x|, its length R over sum w, and what that lacks to 1, all with the digits of the given
/// numbers: R however much the rows cancel, 1 - R however little they differ.
/// Where R is below 2^-75, all that is left of sums with twice the digits, it is 0; where all rows
/// are within 2^-80 of one direction, 1 - R is 0.
struct Resultant {
  std::vector<double> direction;  ///< unit vector; empty where the length is 0
  double length = 0, complement = 1;
  double weight = 0;         ///< sum w, n without weights
  std::ptrdiff_t count = 0;  ///< rows with w > 0
};
/// @throws  DomainError naming the row: not finite, zero, or not of norm 1 (unless normalised);
///          naming the weight: negative, not finite; ShapeError if sizes do not fit
/// @accuracy  budget `vmf_resultant`, relative
/// @cost    a pass over the points, a second one where 1 - R is below about 2^-36; some pages a
///          thread and 2 p numbers for every 256 rows. Same bits for any number of threads
[[nodiscard]] Resultant resultant(std::span<const double> points, std::ptrdiff_t p,
                                  const DataOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
[[nodiscard]] Resultant resultant(std::span<const float> points, std::ptrdiff_t p,
                                  const DataOptions& options = {});

enum class BiasCorrection {
  none,      ///< maximum likelihood
  marginal,  ///< maximum of the marginal likelihood of the resultant's length: R A(n R k) = A(k),
             ///< and 0 where n R^2 <= 1
};

struct FitOptions {
  DataOptions data = {};
  BiasCorrection correction = BiasCorrection::none;
};

/// A fit with its errors. Standard errors are asymptotic, with n the sum of weights.
struct Fit {
  Distribution distribution;
  Resultant resultant;
  double kappa_error = 0;      ///< standard error of kappa: 1/sqrt(n A'(kappa)); where that is
                               ///< not small beside kappa, kappa_interval says more
  double direction_error = 0;  ///< of mu, an angle in any tangent direction, radians:
                               ///< 1/sqrt(n kappa A(kappa)); beyond 1 it says: none
  double log_likelihood = 0;
};
/// Maximum likelihood: mu the direction of the resultant, kappa by A_p(kappa) = its mean length.
/// @throws  as resultant; DomainError if fewer than two rows have weight, if R <= 2^-53 (less than
///          the rounding of the points, every mu is as good) or 1 - R = 0 (all rows agree: kappa =
///          inf)
/// @source  Mardia, Jupp (2000), 10.3.1; Schou (1978), Biometrika 65, 369 (marginal)
[[nodiscard]] Fit fit(std::span<const double> points, std::ptrdiff_t p,
                      const FitOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
[[nodiscard]] Fit fit(std::span<const float> points, std::ptrdiff_t p,
                      const FitOptions& options = {});

struct Interval {
  double lower, upper;
};
/// Confidence interval for kappa from n directions of mean resultant length R: where the marginal
/// likelihood ratio of R, twice the logarithm of C(k)^n/C(n R k) below its largest value, stays
/// below the quantile of chi^2 with one degree of freedom. `lower` is 0 where that is so at 0.
/// @param   resultant  1 - R > 0; R = 0 is no less than any other
/// @param   level      in (0, 1)
/// @throws  DomainError
[[nodiscard]] Interval kappa_interval(const Resultant& resultant, double p, double level = 0.95);

/// Rayleigh's test of uniformity with the correction that leaves an error O(1/n^2).
struct Uniformity {
  double statistic;  ///< (1 - 1/(2n)) S + S^2/(2n (p + 2)), S = n p R^2; chi^2_p if uniform
  double p_value;
};
/// @throws  DomainError, also if the sum of weights is below 1
/// @source  Mardia, Jupp (2000), eqs. 10.4.5 and 10.4.6
[[nodiscard]] Uniformity uniformity(const Resultant& resultant, double p);

// ---- samples ------------------------------------------------------------------------------------

/// Exact samples, out.size()/p rows: rejection for the cosine (p = 3: its inverse), a uniform
/// tangent, a Householder reflection to mu. Row i depends on (seed, first + i) alone: the same bits
/// for any number of threads, in parts, and on every instruction set. Norms are 1 to a few units in
/// the last place, also where that of mu is not quite; next to mu what is added to mu has its own
/// digits, and with mu on an axis one sees them for any kappa.
/// @throws  DomainError as log_density; ShapeError if out.size() is no multiple of p
/// @cost    O(p) a row, docs/vmf.md has samples a second; p + 16 numbers a thread
/// @source  Wood (1994), Comm. Statist. Simulation 23, 157, the envelope; Ulrich (1984), Appl.
///          Statist. 33, 158; lib/detail/vmf_sample.hpp, the formulas and the counters
void sample(const Distribution& distribution, std::uint64_t seed, std::span<double> out,
            std::uint64_t first = 0, int threads = 0);

}  // namespace halfulp::vmf
