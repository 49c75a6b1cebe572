#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "halfulp/progress.hpp"
#include "halfulp/report.hpp"
#include "halfulp/vmf.hpp"

/// Mixtures of von Mises-Fisher distributions, density
///
///     f(x) = sum_j pi_j C_p(kappa_j) exp(kappa_j mu_j . x),   pi_j > 0, sum pi_j = 1,
///
/// fitted by EM, and spherical k-means.
///
///     const auto fit = halfulp::vmf::fit_mixture(points, 784, 10, {.seed = 42});
///     if (!fit.report.ok()) std::cerr << fit.report << '\n';
///     const auto cluster = halfulp::vmf::assignment(fit.mixture, points);    // n numbers in 0...9
///     halfulp::vmf::save_mixture(fit.mixture, "clothes");                    // a folder
///
/// Points, their weights and `normalise` are as in halfulp/vmf.hpp. All is in logarithms, with
/// log C_p + kappa for log C_p, so that no dimension over- or underflows; nothing is p x p.
///
/// An iteration does not look at every row. A row that belongs to one component alone remembers how
/// high the others may be, and is looked at again when one of them could be above log(2^-60/K) of
/// it: what is left out of a row is below 2^-60 of its density. Bounds are of what a row and a
/// component have outside of 32 directions that hold most of the data, and move with what
/// parameters change there; inside, products of 32 numbers follow every change. First looks are at
/// copies of the rows in 16 bits, with bounds of their error; what counts is computed in double
/// from the points themselves. The sums of rows that belong to one component alone are kept in
/// pairs of doubles and changed by the rows that come and go, so that they hold what a new sum
/// would; the others are summed anew.
///
/// @cost    memory: n (p/4 + K/2 + 22) doubles beside the points, which stay in their precision,
///          and up to 2^25 numbers of partial sums, or 4 K p if more. Figures: docs/vmf.md
/// @source  Banerjee, Dhillon, Ghosh, Sra (2005), J. Mach. Learn. Res. 6, 1345, the EM algorithms;
///          Elkan (2003), ICML, 147, bounds that move with the means, for k-means
namespace halfulp::vmf {

struct Mixture {
  std::vector<double> weights;           ///< pi, > 0, of sum 1
  std::vector<Distribution> components;  ///< as many, all of one dimension
};

enum class Em {
  soft,  ///< maximum likelihood
  hard,  ///< each row belongs to its likeliest component: maximum of the likelihood with that
};

enum class Concentration {
  free,    ///< a kappa for each component
  shared,  ///< one for all
};

/// Where to begin; at most one is given. With none: rows drawn by k-means++ are the means, the next
/// row with a probability proportional to weight times 1 - cos to the nearest mean so far.
/// From means, each row is given to the nearest one, and the first concentration is shared, so
/// that no component begins as a spike on a single row.
struct MixtureStart {
  std::span<const double> means = {};             ///< K rows of p numbers, any norm but 0
  std::span<const double> responsibilities = {};  ///< n rows of K numbers >= 0, of sum 1
  const Mixture* mixture = nullptr;
};

struct MixtureOptions {
  DataOptions data = {};
  Em em = Em::soft;
  Concentration concentration = Concentration::free;
  /// Upper bound of every kappa, in (0, 1e15]: without one the likelihood has no maximum, since a
  /// component may shrink to one row.
  double max_kappa = 1e8;
  double tolerance = 1e-6;   ///< of what an iteration gains in the mean log-likelihood of a row
  int max_iterations = 500;  ///< >= 1, of each run
  int runs = 1;              ///< from starts of their own; the likeliest result is kept
  std::uint64_t seed = 0;    ///< of the k-means++ starts
  MixtureStart start = {};   ///< with it, one run
  Progress progress = {};    ///< called once an iteration
};

/// A fitted mixture. Iteration t computes the log-likelihood of its parameters, trace[t], and the
/// next parameters; the last one computes the log-likelihood only.
///
/// A component whose part falls below 1e-9 is given a new place: the row that the mixture explains
/// worst, with the part of one row and a kappa that is common to all components. `reseeded` has the
/// iterations whose parameters were changed so: trace[t] may be lower than trace[t - 1] there, and
/// nowhere else, up to rounding.
struct MixtureFit {
  Mixture mixture;
  double log_likelihood = 0;      ///< sum w_i log f(x_i); hard: sum w_i max_j log(pi_j f_j(x_i))
  std::vector<double> trace;      ///< its values, of the run that was kept
  Report report;                  ///< residual: the last gain in the mean log-likelihood
  std::ptrdiff_t parameters = 0;  ///< K (p - 1) of means, K or 1 of kappa, K - 1 of parts
  double aic = 0;                 ///< 2 parameters - 2 log-likelihood
  double bic = 0;                 ///< parameters log(sum w) - 2 log-likelihood
  std::vector<double> counts;     ///< sum w_i r_ij, of each component
  std::vector<int> reseeded;
  int run = 0;  ///< which one was kept
};

/// Fits a mixture of K components by EM.
/// @param     points      n rows of p numbers
/// @param     components  K in 1 ... n
/// @throws    DomainError as vmf::resultant for the rows and weights; if K < 1, K > the number of
///            rows with weight, or rows differ in fewer than K places; for options and start, by
///            name; ShapeError if sizes do not fit; Cancelled
/// @accuracy  the kappa of each component as vmf::kappa, up to the rounding of the rows' norms:
///            relative 2^-52/(1 - R); R = 1 gives max_kappa
///            log-likelihoods to about 2^-52 kappa for each row
/// @cost      same bits for any number of threads
[[nodiscard]] MixtureFit fit_mixture(std::span<const double> points, std::ptrdiff_t p,
                                     std::ptrdiff_t components, const MixtureOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
[[nodiscard]] MixtureFit fit_mixture(std::span<const float> points, std::ptrdiff_t p,
                                     std::ptrdiff_t components, const MixtureOptions& options = {});

// ---- a mixture and rows -------------------------------------------------------------------------
// These throw DomainError if the mixture is none (a weight not > 0, their sum not 1 within 1e-6,
// components as vmf::log_density, dimensions that differ), as vmf::resultant for the rows, and
// ShapeError if sizes do not fit. Weights of rows are not looked at. Of points in single precision
// they give the bits of the points converted to double.

/// out[i] = log f(x_i).
void log_density(const Mixture& mixture, std::span<const double> points, std::span<double> out,
                 const DataOptions& options = {});
void log_density(const Mixture& mixture, std::span<const float> points, std::span<double> out,
                 const DataOptions& options = {});
/// out[i K + j] = pi_j f_j(x_i)/f(x_i), the probability that row i comes from component j.
void posterior(const Mixture& mixture, std::span<const double> points, std::span<double> out,
               const DataOptions& options = {});
void posterior(const Mixture& mixture, std::span<const float> points, std::span<double> out,
               const DataOptions& options = {});
/// The likeliest component of each row, the first one of equals.
[[nodiscard]] std::vector<std::int32_t> assignment(const Mixture& mixture,
                                                   std::span<const double> points,
                                                   const DataOptions& options = {});
[[nodiscard]] std::vector<std::int32_t> assignment(const Mixture& mixture,
                                                   std::span<const float> points,
                                                   const DataOptions& options = {});

// ---- spherical k-means --------------------------------------------------------------------------

struct KMeansOptions {
  DataOptions data = {};
  double tolerance = 1e-7;  ///< of what an iteration gains in the mean cosine of a row
  int max_iterations = 500;
  int runs = 1;
  std::uint64_t seed = 0;
  std::span<const double> means = {};  ///< to begin with, K rows of p numbers; empty: k-means++
  Progress progress = {};
};

/// Unit vectors c_j that maximise the objective sum_i w_i max_j c_j . x_i, locally.
struct KMeans {
  std::vector<double> means;  ///< K rows of p numbers
  double objective = 0;
  std::vector<double> trace;             ///< its values; monotone but where reseeded
  Report report;                         ///< residual: the last gain in the mean cosine
  std::vector<std::int32_t> assignment;  ///< the nearest mean of each row, the first one of equals
  std::vector<double> counts;            ///< sum w of each
  std::vector<int> reseeded;             ///< as in MixtureFit; a part is empty when no row is in it
  int run = 0;
};

/// @throws  as fit_mixture
/// @source  Dhillon, Modha (2001), Machine Learning 42, 143
[[nodiscard]] KMeans spherical_kmeans(std::span<const double> points, std::ptrdiff_t p,
                                      std::ptrdiff_t components, const KMeansOptions& options = {});
/// The same, of points in single precision: the bits of the points converted to double.
[[nodiscard]] KMeans spherical_kmeans(std::span<const float> points, std::ptrdiff_t p,
                                      std::ptrdiff_t components, const KMeansOptions& options = {});

// ---- files --------------------------------------------------------------------------------------

/// Writes a mixture into a folder, which is made: `means.npy`, K rows of p numbers, and then
/// `mixture.json`,
///
///     {"format": "halfulp vmf mixture", "version": 1, "dimension": p, "components": K,
///      "weights": […], "kappa": […], "means": "means.npy", "means_digest": "…", "facts": {…}}
///
/// Each file is written as write_file_atomic does. A reader, or a crash, between the two finds
/// means of another digest than the JSON has, which load_mixture refuses.
/// @param   facts  a JSON object of the caller's, e.g. of the fit; empty: {}
/// @throws  as log_density for the mixture; DomainError if facts is no JSON object; IoError
void save_mixture(const Mixture& mixture, const std::filesystem::path& folder,
                  std::string_view facts = {});
/// The same bits as were saved.
/// @throws  IoError naming the file and what is wrong: missing, truncated, not JSON, another format
///          or version, a value that is missing, of the wrong type or out of its range, shapes that
///          differ, means of another digest
[[nodiscard]] Mixture load_mixture(const std::filesystem::path& folder);

}  // namespace halfulp::vmf
