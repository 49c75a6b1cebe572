#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "halfulp/checkpoint.hpp"
#include "halfulp/gp_pde.hpp"
#include "halfulp/progress.hpp"
#include "halfulp/report.hpp"

/// GP-HM, the method of Fang et al. (2024) as published: the peer that gp_pde is compared with.
///
/// The solution is a Gaussian process whose covariance is a product over the axes of
///
///     k(d) = sum_q w_q g(d; s_q) cos(2 pi mu_q d)
///     gaussian   g = exp(-e^s d^2)                                          ("GM")
///     student_t  g = (1 + a + a^2/3) exp(-a), a = sqrt(5) e^s |d|           ("StM", Matern-5/2)
///
/// It is represented by its values U on a uniform grid. With K_i = k_i + jitter I the covariances
/// of the axes, the derivatives there are those of the interpolant, U_xx = K_1'' K_1^-1 U and so
/// on, and U, w, s, mu and two precisions tau are learnt together: descent on
///
///     N_2/2 log|K_1| + N_1/2 log|K_2| + 1/2 <K_1^-1 U, U K_2^-1>
///       + lambda_b (tau_1/2 |u_b - g|^2 - N_b/2 log tau_1)
///       + tau_2/2 |F|^2 - N/2 log tau_2,          F the equation's left side at the N nodes,
///
/// in log w, s, mu, log tau and U, from w = 1/Q, s = 0, mu = F q/(Q-1), U = 0, tau = 1 (a flat
/// prior on log w: no term).
/// Gradients are analytic, by adjoints; a uniform grid makes K_i Toeplitz, so that a step costs
/// O(sum N_i^2 + N sum N_i). The last iterate is returned, never the best one by a test error.
///
///     gp_pde::HmOptions options{.kernel = gp_pde::HmKernel::gaussian, .iterations = 20000};
///     const gp_pde::HmSolution s = gp_pde::solve_gp_hm(problem, options);
///     // s.report, s.residual, s.on_grid(...), s.axes[0].frequency
///
/// The objective has no minimum where the equation can be fulfilled at all nodes (tau_2 grows
/// without bound as F goes to 0): what comes out depends on the number of iterations. The Gram
/// matrix with its jitter limits the accuracy; gp_pde.hpp does not have that limit.
namespace halfulp::gp_pde {

/// matern and se: one component with mu = 0 of student_t and gaussian (GP-Matern, GP-SE).
enum class HmKernel { student_t, gaussian, matern, se };
enum class HmOptimiser { adam, lbfgs };

struct HmSolution;

struct HmOptions {
  HmKernel kernel = HmKernel::student_t;
  int components = 30;          ///< Q, per axis; matern and se have one
  double frequency_range = 20;  ///< the first frequencies span [0, this], cycles per unit length
  std::vector<std::ptrdiff_t> points;  ///< per axis; empty: 400 in 1-D, 200 an axis in 2-D
  HmOptimiser optimiser = HmOptimiser::adam;
  std::ptrdiff_t iterations = 100000;  ///< steps of the optimiser
  std::vector<double>
      start;  ///< parameters to start from (HmObjective's order); empty: the paper's
  double learning_rate = 0.01;  ///< adam
  /// adam: the rate at the end, which it falls to geometrically over the second half of the
  /// iterations; 0: constant, as published (the last iterates then oscillate).
  double final_learning_rate = 0;
  int history = 20;              ///< lbfgs: pairs kept
  double boundary_weight = 200;  ///< lambda_b
  double jitter = 1e-6;
  double tolerance = 1e-2;          ///< on Report::residual; does not stop the optimiser
  std::ptrdiff_t checkpoints = 20;  ///< entries of the loss curve beside the last; calls of observe
  int threads = 0;                  ///< 0: OpenMP's default
  /// Seconds of this call; then the last iterate, which a checkpoint can go on from.
  double time_limit = std::numeric_limits<double>::infinity();
  Progress progress;  ///< asked for leave to go on about every 0.1 s
  /// Called with the iterate at the checkpoints, iteration i times iterations / checkpoints.
  std::function<void(const HmSolution&)> observe;
  /// State of the optimiser on disk: parameters, moments or pairs, loss curve. Written as often as
  /// asked for, when `progress` cancels, at the time limit and at the end. Of these options only
  /// tolerance, threads, time_limit and the callbacks may differ when it is resumed.
  Checkpoint checkpoint = {};
};

/// What was learnt on one axis: components in the order of their first frequencies.
struct HmAxis {
  std::vector<double> weight;     ///< w
  std::vector<double> scale;      ///< s
  std::vector<double> frequency;  ///< mu, cycles per unit length
};

struct HmLoss {
  std::ptrdiff_t iteration = 0;
  double loss = 0;
};

/// Values and derivatives of the learnt process, k(x*, x) K^-1 U.
struct HmSolution {
  /// As Solution::on_grid: orders[i] <= 2 derivatives along axis i, on a tensor grid, C order.
  [[nodiscard]] std::vector<double> on_grid(std::span<const std::vector<double>> axes,
                                            std::span<const int> orders) const;
  /// Spectral density along one axis at angular frequencies >= 0: the Fourier transform of k, w and
  /// -w together, so that its integral over w >= 0 is k(0).
  [[nodiscard]] std::vector<double> spectrum(std::ptrdiff_t axis,
                                             std::span<const double> frequencies) const;

  /// Standard deviation of a component's spectrum, angular frequency (for a Student-t: with nu =
  /// 5).
  [[nodiscard]] double spectral_width(std::ptrdiff_t axis, std::size_t component) const;

  /// residual: `residual` or `boundary_residual`, the larger. converged: within the tolerance.
  /// Otherwise max_iterations; not_positive_definite or not_finite if a step could not be
  /// evaluated, the iterate before it being the result.
  Report report;
  std::ptrdiff_t iteration = 0;  ///< of this iterate
  double loss = 0;
  /// RMS of F half-way between the nodes (at the nodes where the forcing is samples), over
  /// residual_scale.
  double residual = 0;
  double residual_scale = 0;     ///< largest RMS of F's terms: of derivatives and of F at u = 0
  double node_residual = 0;      ///< RMS of F at the nodes, over residual_scale
  double boundary_residual = 0;  ///< RMS of the conditions' residual over that of their data, or u
  double boundary_precision = 1, equation_precision = 1;  ///< tau_1, tau_2
  std::vector<std::ptrdiff_t> points;                     ///< nodes, per axis
  std::vector<HmAxis> axes;
  std::vector<double> parameters;  ///< all of them, in HmObjective's order
  std::vector<HmLoss> losses;      ///< in order; the last entry is this iterate
  std::ptrdiff_t resumed_at = -1;  ///< iteration of the state that was gone on from; -1: none
  std::vector<std::string> warnings;
  Timings timings;

  struct Impl;
  std::shared_ptr<const Impl> impl;
};

/// The objective above, to be minimised, with its gradient; for optimisers of one's own. Keeps its
/// working memory between calls: one thread at a time.
///
/// Parameters: U (C order), log tau_1, log tau_2, then for each axis log w (Q), s (Q), mu (Q).
///
/// @throws DomainError  other than one or two axes; a periodic side; an unknown symbol or a
///                      derivative of order above two along an axis in problem.equation; data that
///                      are not finite; options out of range
/// @throws ShapeError   sides or points not one an axis; forcing samples not on the nodes
class HmObjective {
 public:
  HmObjective(const Problem& problem, const HmOptions& options);
  ~HmObjective();
  HmObjective(const HmObjective&) = delete;
  HmObjective& operator=(const HmObjective&) = delete;
  [[nodiscard]] std::ptrdiff_t size() const;        ///< number of parameters
  [[nodiscard]] std::vector<double> start() const;  ///< options.start, or the paper's
  [[nodiscard]] const std::vector<std::vector<double>>& nodes() const;  ///< per axis
  /// @param  gradient  size() values; zero for mu of matern and se
  /// @return           +inf where a covariance is not numerically positive definite (the gradient
  ///                   is then not set)
  /// @cost             O(sum N_i^2 + N sum N_i + Q sum N_i); same bits for any number of threads
  [[nodiscard]] double operator()(std::span<const double> parameters, std::span<double> gradient);
  /// Lines `name: value` of all that the optimiser's iterates depend on: the equation, its data at
  /// the nodes, options. Checkpoints of other text are refused.
  [[nodiscard]] std::string identity() const;
  /// The iterate as a solution: its residuals, kernel and fields; no losses and timings.
  /// @throws DomainError where a covariance is not numerically positive definite
  [[nodiscard]] HmSolution solution(std::span<const double> parameters);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Runs the optimiser.
/// @throws    as HmObjective; Cancelled if options.progress returns false; IoError where
///            options.checkpoint refuses a state or cannot write one
/// @accuracy  measured: `bench/results/gp_hm.json`, the paper's problems and figures
/// @cost      options.iterations (lbfgs: a little more) evaluations of HmObjective
/// @source    Fang et al. (2024), ICLR, arXiv 2311.04465; Kingma, Ba (2015), arXiv 1412.6980,
///            algorithm 1; Nocedal, Wright (2006), algorithms 7.4, 3.5, 3.6
[[nodiscard]] HmSolution solve_gp_hm(const Problem& problem, const HmOptions& options = {});

}  // namespace halfulp::gp_pde
