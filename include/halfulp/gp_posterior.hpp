#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "halfulp/gp_pde.hpp"

/// Linear PDEs from noisy data: what is known of u after seeing noisy forcing, noisy observations
/// of u, and conditions on sides - as a mean, a standard deviation, samples.
///
/// The prior is that of gp_pde.hpp, a Gaussian process with a spectral mixture,
///
///     k(x - x') = sum_c v_c prod_k r_c,k(x_k - x'_k),
///
/// r_c,k the covariance of a band with a centre mu and a width rho along axis k,
/// exp(-rho^2 d^2 / 2) cos(mu d) (Gaussian) or its Student-t counterpart with five degrees of
/// freedom (Matern-5/2 times cos). Data are linear in u: L u at the forcing's points, u at the
/// observed points, a u + b du/dn on the sides, each with independent normal errors. Variances v_c,
/// centres, widths and unknown noises are those that maximise the density of the data (the marginal
/// likelihood), with a flat prior on their logarithms: bands that the data do not ask for vanish.
///
///     Problem p = ...;                               // forcing: GridSamples that were measured
///     Measurements m;
///     m.forcing = Noise{.learn = true};
///     m.observations = {{{0.2, 0.7}}, {1.1, -0.3}, {}, {.level = 0.05}};
///     const Posterior post = infer(p, m);
///     auto mean = post.mean(grid, orders), deviation = post.deviation(grid, orders);
///
/// Without noise anywhere use gp_pde::Solver: it is exact, and faster.
namespace halfulp::gp_pde {

/// Standard deviation of independent normal errors, in the units of what was measured.
struct Noise {
  double level = 0;    ///< > 0; where it is learnt, where to start (0: from the data)
  bool learn = false;  ///< by marginal likelihood
};

/// Values of u at points of the domain, scattered.
struct Observations {
  std::vector<std::vector<double>> points;  ///< [axis][i]
  std::vector<double> values;
  std::vector<double> deviations;  ///< one a point, > 0; empty: `noise` for all
  Noise noise;                     ///< where `deviations` is empty
};

/// What is known with errors. Conditions of Problem::sides are exact; sides that have none (kind
/// none) are left to the observations.
struct Measurements {
  /// Of the forcing's samples or, where it is a formula, of its values at the nodes of
  /// InferenceOptions: how far the equation is believed. Nothing: exact.
  std::optional<Noise> forcing;
  std::optional<Observations> observations;
};

/// One product of bands of the prior's spectrum.
struct Component {
  double variance = 0;         ///< v_c
  std::vector<double> centre;  ///< mu per axis, angular frequency, >= 0
  std::vector<double> width;   ///< rho per axis, > 0
};

struct InferenceOptions {
  KernelType kernel = KernelType::gaussian;  ///< gaussian, student_t, matern (one band about 0)
  std::vector<std::vector<Band>>
      bands;                     ///< per axis: where to start; empty: from the data's spectrum
  bool refine = true;            ///< learn centres and widths too; else variances and noises alone
  std::vector<Component> prior;  ///< given: used as it is, and only noises are learnt
  std::vector<std::ptrdiff_t>
      nodes_per_axis;  ///< where a forcing formula is imposed; empty: chosen
  Nodes nodes = Nodes::gauss;
  std::ptrdiff_t max_features = 2400;  ///< Fourier features; more is a DomainError
  int max_iterations = 200;            ///< of the optimiser
  int threads = 0;                     ///< for formulas; the bits do not depend on it
  std::size_t memory_limit = std::size_t{8} << 30;
  std::function<bool(double fraction, const char* phase)> progress;
};

/// How well one kind of data is fitted.
struct DataSummary {
  std::string name;          ///< "forcing", "observations", "sides"
  std::ptrdiff_t count = 0;  ///< of data
  double noise = 0;          ///< used: given, learnt, or what stands for exact
  bool learnt = false;
  double freedom = 0;  ///< count less the degrees of freedom that the fit has spent on them
  double chi2 = 0;     ///< squared misfits over noise^2, over `freedom`: 1 where the noise is right
};

class Posterior {
 public:
  /// Mean and standard deviation of a derivative of u on a tensor grid in C order; orders[i]
  /// derivatives along axis i, up to two.
  /// @throws ShapeError, DomainError  as Solution::on_grid
  [[nodiscard]] std::vector<double> mean(std::span<const std::vector<double>> axes,
                                         std::span<const int> orders) const;
  /// @cost  O(p^2) a point for p features
  [[nodiscard]] std::vector<double> deviation(std::span<const std::vector<double>> axes,
                                              std::span<const int> orders) const;
  /// Joint draws, `count` fields one after the other. Draw k is a function of (seed, k) alone.
  [[nodiscard]] std::vector<double> samples(std::span<const std::vector<double>> axes,
                                            std::span<const int> orders, std::ptrdiff_t count,
                                            std::uint64_t seed) const;

  /// residual: RMS deviation of u over RMS mean. converged: the optimiser has converged, no data
  /// contradict their noise (chi2 of each within five deviations, and 5 %, above 1), the deviation
  /// is smaller than the mean, and observations are not hardly more than the conditions they stand
  /// for. Otherwise stagnated (max_iterations where the optimiser has not converged).
  Report report;
  double log_evidence = 0;       ///< log density of all data under the learnt prior
  double error_estimate = 0;     ///< RMS deviation of u over RMS mean: expected relative L2 error
  double residual = 0;           ///< RMS of L mean - f at the forcing's points, over residual_scale
  double residual_scale = 0;     ///< RMS of f, or of the largest term where f = 0
  double boundary_residual = 0;  ///< largest misfit of a side's condition over the RMS of u
  double condition = 0;          ///< of the triangle R, estimated from its diagonal
  std::ptrdiff_t features = 0;
  std::vector<Component> prior;  ///< learnt, largest variance first
  std::vector<DataSummary> data;
  std::vector<AxisInfo> axes;  ///< bands: centre -+ width of what was not pruned
  Timings timings;
  std::vector<std::string> warnings;

  struct Impl;
  std::shared_ptr<const Impl> impl;
};

/// Posterior of u given the problem's data and measurements.
///
/// @throws DomainError  a nonlinear equation, three dimensions, or data outside of what the
///                      docstrings above admit, naming it; more features or memory than the options
///                      allow, with what it would need
/// @throws ShapeError   arrays that do not match
/// @throws Cancelled    options.progress returned false
/// @accuracy            budgets `gp_posterior_*` in validation/budgets.csv: against regression in
///                      function space in 60 digits; coverage of the 95 % intervals by simulation
/// @cost                O(p^3) for each evaluation of the likelihood, p features, after one
///                      orthogonal compression of the data; a few dozen evaluations. Tensor grids
///                      of forcing data are compressed axis by axis where the coefficients are
///                      constant.
/// @source              Fang et al. (2024), ICLR, arXiv 2311.04465; Rasmussen, Williams (2006), 2.2
///                      and 5.4; Wilson, Adams (2013), ICML
[[nodiscard]] Posterior infer(const Problem& problem, const Measurements& measurements,
                              const InferenceOptions& options = {});

/// Log density of the data and its derivatives, as the optimiser sees them, for given components
/// and noises (one a kind of data, in the order forcing, observations; 0: as given). For tests, and
/// for other optimisers.
struct Evidence {
  double value = 0;
  std::vector<double> variance;             ///< d value / d log v_c
  std::vector<std::vector<double>> centre;  ///< [component][axis] d value / d mu
  std::vector<std::vector<double>> width;   ///< [component][axis] d value / d log rho
  std::vector<double> noise;                ///< d value / d log noise, in the order of names
  std::vector<std::string> names;           ///< of the kinds of data
};
[[nodiscard]] Evidence evidence(const Problem& problem, const Measurements& measurements,
                                const std::vector<Component>& prior,
                                const InferenceOptions& options = {});

}  // namespace halfulp::gp_pde
