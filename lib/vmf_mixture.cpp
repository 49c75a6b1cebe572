#include "halfulp/vmf_mixture.hpp"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>

#include "detail/blas_threads.hpp"
#include "detail/require.hpp"
#include "detail/vmf.hpp"
#include "detail/vmf_expectation.hpp"
#include "detail/vmf_mixture.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "halfulp/random.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::vmf {
namespace {

using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

constexpr double infinity = std::numeric_limits<double>::infinity();
/// Smaller parts are given a new place.
constexpr double least_part = 1e-9;

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

// ---- rows ---------------------------------------------------------------------------------------

using Data = detail::VmfRows;
using Parameters = detail::VmfParameters;
using Sums = detail::VmfSums;
using Expectation = detail::VmfExpectation;

/// The rows as vmf::resultant checks them, and their norms.
Data make_data(std::string_view function, detail::VmfNumbers points, Size p,
               const DataOptions& options) {
  // all that is said of bad rows and weights
  const Resultant all = points.visit([&](auto x) { return resultant(x, p, options); });
  Data data;
  data.function = function;
  data.points = points;
  data.n = points.size() / p;
  data.p = p;
  data.weight.assign(options.weights.begin(), options.weights.end());
  data.total = all.weight;
  data.counted = all.count;
  data.threads = thread_count(options.threads);  // before OneBlasThread, which sets OpenMP's too
  data.inverse_norm.resize(at(data.n));
  parallel_blocks(data.n, 1024, options.threads, [&](Size begin, Size end) {
    Numbers buffer;
    for (Size i = begin; i < end; ++i) {
      const double norm = cblas_dnrm2(static_cast<int>(p), data.row(i, buffer), 1);
      detail::require(norm > 0x1p-1000 && norm < 0x1p1000, function,
                      "|points[" + std::to_string(i) + "]|", norm, "between 2^-1000 and 2^1000");
      data.inverse_norm[at(i)] = 1 / norm;
    }
  });
  return data;
}

// ---- starts -------------------------------------------------------------------------------------

/// k-means++ on the sphere: K rows, each drawn with probability weight (1 - cos to the nearest).
Numbers draw_means(const Data& data, Size components, std::uint64_t seed, int run,
                   const Expectation& rows) {
  const RandomStream random(seed, static_cast<std::uint32_t>(run));
  Numbers means(at(components * data.p)), gap(at(data.n), 1.0), share(at(data.n));
  for (Size k = 0; k < components; ++k) {
    for (Size i = 0; i < data.n; ++i) share[at(i)] = data.weight_of(i) * gap[at(i)];
    const double total = tree_sum(share, data.threads);
    detail::require(total > 0, data.function, "components", components,
                    "<= " + std::to_string(k) + ", the number of different rows");
    double left = random.uniform(static_cast<std::uint64_t>(k)) * total;
    Size chosen = -1;
    for (Size i = 0; i < data.n; ++i) {
      if (share[at(i)] <= 0) continue;
      chosen = i;
      left -= share[at(i)];
      if (left < 0) break;
    }
    double* const mean = means.data() + k * data.p;
    data.gather({&chosen, 1}, mean);
    rows.lower_gaps(mean, gap);
  }
  return means;
}

/// K unit rows from rows of any norm but 0.
Numbers unit_means(std::string_view function, std::string_view argument,
                   std::span<const double> given, Size components, Size p) {
  detail::require_size(function, argument, std::ssize(given), components * p);
  Numbers means(given.begin(), given.end());
  for (Size k = 0; k < components; ++k) {
    double* const mean = means.data() + k * p;
    const std::string name = std::string(argument) + '[' + std::to_string(k) + ']';
    for (Size j = 0; j < p; ++j)
      detail::require(std::isfinite(mean[j]), function, name + '[' + std::to_string(j) + ']',
                      mean[j], "finite");
    const double norm = cblas_dnrm2(static_cast<int>(p), mean, 1);
    detail::require(norm > 0, function, '|' + name + '|', norm, "> 0");
    for (Size j = 0; j < p; ++j) mean[j] /= norm;
  }
  return means;
}

// ---- the M step ---------------------------------------------------------------------------------

struct State {
  Numbers mean;  ///< K unit rows
  Numbers kappa, part;
  Numbers weight;  ///< sum w r of each
};

double root_kappa(double p, double length, double lack, double most) {
  const double k = lack < 0.5 ? kappa_complement(p, std::fmax(lack, 0.0)) : kappa(p, length);
  return std::fmin(k, most);
}

State maximise(const Data& data, const Sums& sums, Concentration concentration, double max_kappa) {
  const Size k = std::ssize(sums.weight), p = data.p;
  State state{sums.direction, Numbers(at(k)), Numbers(at(k)), sums.weight};
  const double total = std::accumulate(sums.weight.begin(), sums.weight.end(), 0.0);
  double lengths = 0;
  Numbers length(at(k));
  for (Size j = 0; j < k; ++j) {
    double* const mean = state.mean.data() + j * p;
    length[at(j)] = cblas_dnrm2(static_cast<int>(p), mean, 1);
    lengths += length[at(j)];
    if (length[at(j)] > 0)
      for (Size q = 0; q < p; ++q) mean[q] /= length[at(j)];
    else
      mean[0] = 1;  // any is as good
  }
  for (Size j = 0; j < k; ++j) {
    const bool shared = concentration == Concentration::shared;
    const double weight = shared ? total : sums.weight[at(j)];
    const double r = weight > 0 ? std::fmin((shared ? lengths : length[at(j)]) / weight, 1) : 0;
    state.kappa[at(j)] = root_kappa(static_cast<double>(p), r, 1 - r, max_kappa);
    state.part[at(j)] = sums.weight[at(j)] / total;
  }
  return state;
}

Parameters parameters_of(const State& state, Size p) {
  const Size k = std::ssize(state.kappa);
  Parameters parameters{state.mean, Numbers(at(k))};
  for (Size j = 0; j < k; ++j) {
    const double kappa = state.kappa[at(j)];
    for (Size q = j * p; q < (j + 1) * p; ++q) parameters.eta[at(q)] *= kappa;
    parameters.constant[at(j)] =
        std::log(state.part[at(j)]) + log_normaliser_scaled(static_cast<double>(p), kappa) - kappa;
  }
  return parameters;
}

double effective_concentration(const Data& data, const State& state) {
  double lengths = 0;
  const auto p = static_cast<double>(data.p);
  for (std::size_t j = 0; j < state.kappa.size(); ++j)
    lengths += state.part[j] * mean_length(p, state.kappa[j]).value;
  return kappa(p, std::fmin(lengths, 1 - 0x1p-30));
}

/// Components with next to no part get the rows that the mixture explains worst.
bool place_again(const Data& data, Expectation& rows, State& state, double max_kappa) {
  const Size k = std::ssize(state.kappa);
  std::vector<Size> lost;
  for (Size j = 0; j < k; ++j)
    if (!(state.part[at(j)] >= least_part)) lost.push_back(j);
  if (lost.empty()) return false;
  std::vector<Size> order;
  for (Size i = 0; i < data.n; ++i)
    if (data.weight_of(i) > 0) order.push_back(i);
  const Size needed = std::min(std::ssize(lost), std::ssize(order));
  std::partial_sort(order.begin(), order.begin() + needed, order.end(), [&](Size a, Size b) {
    return std::pair(rows.value(a), a) < std::pair(rows.value(b), b);
  });
  const double common = std::fmin(effective_concentration(data, state), max_kappa);
  for (Size q = 0; q < needed; ++q) {
    const Size j = lost[at(q)];
    data.gather({&order[at(q)], 1}, state.mean.data() + j * data.p);
    state.kappa[at(j)] = common;
    state.part[at(j)] = std::fmax(data.weight_of(order[at(q)]) / data.total, least_part);
  }
  const double total = std::accumulate(state.part.begin(), state.part.end(), 0.0);
  for (double& part : state.part) part /= total;
  return true;
}

/// Sums of the start: from responsibilities, or each row to the nearest mean.
Sums first_sums(const Data& data, Size components, Expectation& rows, std::span<const double> means,
                std::span<const double> responsibilities) {
  const Size p = data.p;
  if (responsibilities.empty())
    return rows.evaluate({Numbers(means.begin(), means.end()), Numbers(at(components))}, true);
  Sums sums{Numbers(at(components * p)), Numbers(at(components))};
  Numbers x(at(p));
  for (Size i = 0; i < data.n; ++i) {
    data.gather({&i, 1}, x.data());
    double sum = 0;
    for (Size j = 0; j < components; ++j) {
      const double r = responsibilities[at(i * components + j)];
      const std::string name =
          "options.start.responsibilities[" + std::to_string(i) + "][" + std::to_string(j) + ']';
      detail::require(r >= 0 && r <= 1 + 1e-6, data.function, name, r, "in [0, 1]");
      sum += r;
      cblas_daxpy(static_cast<int>(p), r * data.weight_of(i), x.data(), 1,
                  sums.direction.data() + j * p, 1);
      sums.weight[at(j)] += r * data.weight_of(i);
    }
    detail::require(std::fabs(sum - 1) <= 1e-6, data.function,
                    "sum of options.start.responsibilities[" + std::to_string(i) + ']', sum, "1");
  }
  return sums;
}

void check_mixture(std::string_view function, const Mixture& mixture, Size p) {
  const Size k = std::ssize(mixture.components);
  detail::require(k >= 1, function, "mixture.components.size()", k, ">= 1");
  detail::require_size(function, "mixture.weights", std::ssize(mixture.weights), k);
  double sum = 0;
  for (Size j = 0; j < k; ++j) {
    const std::string name = '[' + std::to_string(j) + ']';
    const Distribution& component = mixture.components[at(j)];
    detail::require_distribution(function, "mixture.components" + name, component);
    detail::require(mixture.weights[at(j)] > 0, function, "mixture.weights" + name,
                    mixture.weights[at(j)], "> 0");
    detail::require_size(function, "mixture.components" + name + ".mu", std::ssize(component.mu),
                         p);
    sum += mixture.weights[at(j)];
  }
  detail::require(std::fabs(sum - 1) <= 1e-6, function, "sum of mixture.weights", sum, "1");
}

void require_components(const Data& data, Size components) {
  detail::require(components >= 1, data.function, "components", components, ">= 1");
  detail::require(components <= data.counted, data.function, "components", components,
                  "<= " + std::to_string(data.counted) + ", the number of rows with weight");
}

State start_state(const Data& data, Size components, const MixtureOptions& options, int run,
                  Expectation& rows) {
  const auto& start = options.start;
  if (start.mixture != nullptr) {
    const Mixture& mixture = *start.mixture;
    check_mixture(data.function, mixture, data.p);
    detail::require_size(data.function, "options.start.mixture.components",
                         std::ssize(mixture.components), components);
    State state;
    state.part = mixture.weights;
    for (const Distribution& d : mixture.components) {
      state.mean.insert(state.mean.end(), d.mu.begin(), d.mu.end());
      state.kappa.push_back(std::fmin(d.kappa, options.max_kappa));
    }
    state.weight.assign(at(components), 0.0);
    return state;
  }
  if (!start.responsibilities.empty()) {
    detail::require_size(data.function, "options.start.responsibilities",
                         std::ssize(start.responsibilities), data.n * components);
    return maximise(data, first_sums(data, components, rows, {}, start.responsibilities),
                    options.concentration, options.max_kappa);
  }
  const Numbers means = start.means.empty() ? draw_means(data, components, options.seed, run, rows)
                                            : unit_means(data.function, "options.start.means",
                                                         start.means, components, data.p);
  // the first concentration is shared: no component begins as a spike on one row
  State state = maximise(data, first_sums(data, components, rows, means, {}), Concentration::shared,
                         options.max_kappa);
  for (Size j = 0; j < components; ++j)
    if (!(state.part[at(j)] >= least_part)) {  // a mean that no row is nearest to stays where it is
      std::copy_n(means.begin() + j * data.p, data.p, state.mean.begin() + j * data.p);
      state.part[at(j)] = 1 / data.total;
    }
  const double total = std::accumulate(state.part.begin(), state.part.end(), 0.0);
  for (double& part : state.part) part /= total;
  return state;
}

MixtureFit run_em(const Data& data, Size components, const MixtureOptions& options, int run,
                  Expectation& rows) {
  MixtureFit fit;
  fit.run = run;
  fit.report.status = Status::max_iterations;
  fit.report.tolerance = options.tolerance;
  rows.restart();
  const bool hard = options.em == Em::hard;
  State state = start_state(data, components, options, run, rows);
  Sums sums;
  for (int iteration = 0;; ++iteration) {
    report_progress(options.progress,
                    (run + std::min(1.0, static_cast<double>(iteration) / options.max_iterations)) /
                        options.runs,
                    "EM", data.function);
    sums = rows.evaluate(parameters_of(state, data.p), hard);
    fit.trace.push_back(sums.log_likelihood);
    fit.report.iterations = iteration;
    fit.report.residual =
        iteration == 0 ? infinity
                       : (fit.trace[at(iteration)] - fit.trace[at(iteration - 1)]) / data.total;
    if (!std::isfinite(sums.log_likelihood)) {
      fit.report.status = Status::not_finite;
      break;
    }
    const bool after_jump = !fit.reseeded.empty() && fit.reseeded.back() == iteration;
    State next = maximise(data, sums, options.concentration, options.max_kappa);
    const bool empty = std::any_of(next.part.begin(), next.part.end(),
                                   [](double part) { return !(part >= least_part); });
    if (!empty && !after_jump && iteration > 0 && fit.report.residual <= options.tolerance) {
      fit.report.status = Status::converged;
      break;
    }
    if (iteration == options.max_iterations) break;
    if (empty) {
      rows.evaluate(parameters_of(state, data.p), hard, true);  // what each row has
      place_again(data, rows, next, options.max_kappa);
      fit.reseeded.push_back(iteration + 1);
    }
    state = std::move(next);
  }
  fit.log_likelihood = fit.trace.back();
  fit.counts = sums.weight;
  fit.mixture.weights = state.part;
  for (Size j = 0; j < components; ++j) {
    const auto mean = state.mean.begin() + j * data.p;
    fit.mixture.components.push_back({Numbers(mean, mean + data.p), state.kappa[at(j)]});
  }
  return fit;
}

/// body(i, logs) for every row, logs[j] = log pi_j f_j(x_i).
template <class Body>
void for_rows(std::string_view function, const Mixture& mixture, detail::VmfNumbers points,
              const DataOptions& options, Body body) {
  const Size p = detail::check_mixture(function, mixture), k = std::ssize(mixture.components);
  if (points.size() % p != 0)
    throw ShapeError(function, "points.size()", std::to_string(points.size()),
                     "a multiple of p = " + std::to_string(p));
  const Size n = points.size() / p;
  constexpr Size block = 1024;
  const DataOptions alone{.normalise = options.normalise, .threads = 1};
  parallel_blocks(n, block, options.threads, [&](Size begin, Size end) {
    Numbers logs(at(k * block));
    for (Size j = 0; j < k; ++j) {
      const std::span<double> out(logs.data() + j * block, at(end - begin));
      points.visit([&](auto all) {
        const auto rows = all.subspan(at(begin * p), at((end - begin) * p));
        vmf::log_density(mixture.components[at(j)], rows, out, alone);
      });
      const double part = std::log(mixture.weights[at(j)]);
      for (double& value : out) value += part;
    }
    Numbers row(at(k));
    for (Size i = 0; i < end - begin; ++i) {
      for (Size j = 0; j < k; ++j) row[at(j)] = logs[at(j * block + i)];
      if (std::isnan(row[0]))  // says why
        points.visit([&](auto all) {
          static_cast<void>(resultant(all, p, {.normalise = options.normalise}));
        });
      body(begin + i, row);
    }
  });
}

/// log sum exp; the numbers become their shares of the sum.
double normalise_logs(std::span<double> logs) {
  const double most = *std::max_element(logs.begin(), logs.end());
  double sum = 0;
  for (double& value : logs) sum += value = std::exp(value - most);
  for (double& value : logs) value /= sum;
  return most + std::log(sum);
}

void log_density_of(const Mixture& mixture, detail::VmfNumbers points, std::span<double> out,
                    const DataOptions& options) {
  constexpr std::string_view function = "vmf::log_density";
  const Size p = detail::check_mixture(function, mixture);
  detail::require_size(function, "points", points.size(), std::ssize(out) * p);
  for_rows(function, mixture, points, options,
           [&](Size i, std::span<double> logs) { out[at(i)] = normalise_logs(logs); });
}

void posterior_of(const Mixture& mixture, detail::VmfNumbers points, std::span<double> out,
                  const DataOptions& options) {
  constexpr std::string_view function = "vmf::posterior";
  const Size p = detail::check_mixture(function, mixture), k = std::ssize(mixture.components);
  detail::require_size(function, "out", std::ssize(out), points.size() / p * k);
  for_rows(function, mixture, points, options, [&](Size i, std::span<double> logs) {
    normalise_logs(logs);
    std::copy(logs.begin(), logs.end(), out.begin() + i * k);
  });
}

std::vector<std::int32_t> assignment_of(const Mixture& mixture, detail::VmfNumbers points,
                                        const DataOptions& options) {
  constexpr std::string_view function = "vmf::assignment";
  const Size p = detail::check_mixture(function, mixture);
  std::vector<std::int32_t> best(at(points.size() / p));
  for_rows(function, mixture, points, options, [&](Size i, std::span<const double> logs) {
    best[at(i)] =
        static_cast<std::int32_t>(std::max_element(logs.begin(), logs.end()) - logs.begin());
  });
  return best;
}

KMeans spherical_kmeans_of(detail::VmfNumbers points, Size p, Size components,
                           const KMeansOptions& options) {
  constexpr std::string_view function = "vmf::spherical_kmeans";
  detail::require(options.tolerance >= 0, function, "options.tolerance", options.tolerance, ">= 0");
  detail::require(options.max_iterations >= 1, function, "options.max_iterations",
                  options.max_iterations, ">= 1");
  detail::require(options.runs >= 1, function, "options.runs", options.runs, ">= 1");
  const Data data = make_data(function, points, p, options.data);
  require_components(data, components);
  const int runs = options.means.empty() ? options.runs : 1;
  KMeans best;
  Expectation rows(data, components, true);
  for (int run = 0; run < runs; ++run) {
    rows.restart();
    KMeans found;
    found.run = run;
    found.report.status = Status::max_iterations;
    found.report.tolerance = options.tolerance;
    found.means = options.means.empty()
                      ? draw_means(data, components, options.seed, run, rows)
                      : unit_means(function, "options.means", options.means, components, p);
    for (int iteration = 0;; ++iteration) {
      report_progress(
          options.progress,
          (run + std::min(1.0, static_cast<double>(iteration) / options.max_iterations)) / runs,
          "k-means", function);
      const Sums sums = rows.evaluate({found.means, Numbers(at(components))}, true);
      found.trace.push_back(sums.log_likelihood);
      found.counts = sums.weight;
      found.report.iterations = iteration;
      found.report.residual =
          iteration == 0
              ? infinity
              : (found.trace[at(iteration)] - found.trace[at(iteration - 1)]) / data.total;
      const bool empty = std::any_of(sums.weight.begin(), sums.weight.end(),
                                     [](double weight) { return !(weight > 0); });
      const bool after_jump = !found.reseeded.empty() && found.reseeded.back() == iteration;
      if (!empty && !after_jump && iteration > 0 && found.report.residual <= options.tolerance) {
        found.report.status = Status::converged;
        break;
      }
      if (iteration == options.max_iterations) break;
      State next = maximise(data, sums, Concentration::shared, 1);
      if (empty) {
        rows.evaluate({found.means, Numbers(at(components))}, true, true);
        place_again(data, rows, next, 1);
        found.reseeded.push_back(iteration + 1);
      }
      found.means = std::move(next.mean);
    }
    found.objective = found.trace.back();
    for (Size i = 0; i < data.n; ++i) found.assignment.push_back(rows.best(i));
    if (run == 0 || found.objective > best.objective) best = std::move(found);
  }
  return best;
}

}  // namespace

MixtureFit fit_mixture(std::span<const double> points, std::ptrdiff_t p, std::ptrdiff_t components,
                       const MixtureOptions& options) {
  return detail::fit_mixture(detail::VmfNumbers(points), p, components, options, true);
}
MixtureFit fit_mixture(std::span<const float> points, std::ptrdiff_t p, std::ptrdiff_t components,
                       const MixtureOptions& options) {
  return detail::fit_mixture(detail::VmfNumbers(points), p, components, options, true);
}

void log_density(const Mixture& mixture, std::span<const double> points, std::span<double> out,
                 const DataOptions& options) {
  log_density_of(mixture, detail::VmfNumbers(points), out, options);
}
void log_density(const Mixture& mixture, std::span<const float> points, std::span<double> out,
                 const DataOptions& options) {
  log_density_of(mixture, detail::VmfNumbers(points), out, options);
}

void posterior(const Mixture& mixture, std::span<const double> points, std::span<double> out,
               const DataOptions& options) {
  posterior_of(mixture, detail::VmfNumbers(points), out, options);
}
void posterior(const Mixture& mixture, std::span<const float> points, std::span<double> out,
               const DataOptions& options) {
  posterior_of(mixture, detail::VmfNumbers(points), out, options);
}

std::vector<std::int32_t> assignment(const Mixture& mixture, std::span<const double> points,
                                     const DataOptions& options) {
  return assignment_of(mixture, detail::VmfNumbers(points), options);
}
std::vector<std::int32_t> assignment(const Mixture& mixture, std::span<const float> points,
                                     const DataOptions& options) {
  return assignment_of(mixture, detail::VmfNumbers(points), options);
}

KMeans spherical_kmeans(std::span<const double> points, std::ptrdiff_t p, std::ptrdiff_t components,
                        const KMeansOptions& options) {
  return spherical_kmeans_of(detail::VmfNumbers(points), p, components, options);
}
KMeans spherical_kmeans(std::span<const float> points, std::ptrdiff_t p, std::ptrdiff_t components,
                        const KMeansOptions& options) {
  return spherical_kmeans_of(detail::VmfNumbers(points), p, components, options);
}

}  // namespace halfulp::vmf

namespace halfulp::detail {

std::ptrdiff_t check_mixture(std::string_view function, const vmf::Mixture& mixture) {
  const std::ptrdiff_t p = mixture.components.empty() ? 2 : std::ssize(mixture.components[0].mu);
  vmf::check_mixture(function, mixture, p);
  return p;
}

vmf::MixtureFit fit_mixture(VmfNumbers points, std::ptrdiff_t p, std::ptrdiff_t components,
                            const vmf::MixtureOptions& options, bool prune) {
  using namespace vmf;
  constexpr std::string_view function = "vmf::fit_mixture";
  require(options.max_kappa > 0 && options.max_kappa <= 1e15, function, "options.max_kappa",
          options.max_kappa, "in (0, 1e15]");
  require(options.tolerance >= 0, function, "options.tolerance", options.tolerance, ">= 0");
  require(options.max_iterations >= 1, function, "options.max_iterations", options.max_iterations,
          ">= 1");
  require(options.runs >= 1, function, "options.runs", options.runs, ">= 1");
  const MixtureStart& start = options.start;
  const int starts = (start.means.empty() ? 0 : 1) + (start.responsibilities.empty() ? 0 : 1) +
                     (start.mixture != nullptr ? 1 : 0);
  require(starts <= 1, function, "starts that are given", starts, "at most 1");
  const Data data = make_data(function, points, p, options.data);
  require_components(data, components);
  MixtureOptions each = options;
  if (starts > 0) each.runs = 1;
  MixtureFit best;
  VmfExpectation rows(data, components, prune);
  for (int run = 0; run < each.runs; ++run) {
    MixtureFit fit = run_em(data, components, each, run, rows);
    if (run == 0 || fit.log_likelihood > best.log_likelihood) best = std::move(fit);
  }
  const Size kappas = options.concentration == Concentration::shared ? 1 : components;
  best.parameters = components * (p - 1) + kappas + components - 1;
  const auto count = static_cast<double>(best.parameters);
  best.aic = 2 * count - 2 * best.log_likelihood;
  best.bic = count * std::log(data.total) - 2 * best.log_likelihood;
  return best;
}

}  // namespace halfulp::detail
