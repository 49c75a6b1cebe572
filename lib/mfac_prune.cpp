#include "halfulp/mfac_prune.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;
using Mask = std::vector<std::uint8_t>;

constexpr std::string_view name = "mfac::prune";

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

/// Coordinates [begin, end).
struct Range {
  Size begin = 0, end = 0;
};

/// The problem with all sizes known.
struct Problem {
  const Gradients* gradients = nullptr;  ///< null: magnitudes alone
  const PruneOptions* options = nullptr;
  Size d = 0;
  std::vector<Layer> layers;
  std::vector<Range> blocks;
  Size prunable = 0;
  Numbers weights;  ///< 0 where masked
  Mask mask;
};

bool needs_inverse(const PruneOptions& options) {
  return options.saliency == Saliency::inverse || options.update == Update::independent;
}

void check_pattern(const Pattern& pattern, const std::vector<Layer>& layers) {
  if (pattern.of == 0 && pattern.keep == 0) return;
  detail::require(pattern.of >= 1, name, "options.pattern.of", pattern.of, ">= 1");
  detail::require(pattern.keep >= 0 && pattern.keep <= pattern.of, name, "options.pattern.keep",
                  pattern.keep, "in 0 ... of = " + std::to_string(pattern.of));
  const bool in_rows = pattern.along == Pattern::Along::row;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    if (!layers[l].prunable) continue;
    const Size extent = in_rows ? layers[l].columns : layers[l].rows;
    detail::require(extent % pattern.of == 0, name,
                    "options.layers[" + std::to_string(l) + "]." + (in_rows ? "columns" : "rows"),
                    extent, "a multiple of pattern.of = " + std::to_string(pattern.of));
  }
}

std::vector<Range> blocks_of(const PruneOptions& options, Size d) {
  std::vector<Range> blocks;
  const Size each = options.fisher.block;
  detail::require(each >= 0, name, "options.fisher.block", each, ">= 0");
  if (options.blocks.empty()) {
    const Size step = each > 0 ? each : d;
    for (Size begin = 0; begin < d; begin += step)
      blocks.push_back({begin, std::min(begin + step, d)});
    return blocks;
  }
  detail::require(each == 0, name, "options.fisher.block", each,
                  "0 where options.blocks are given");
  Size begin = 0;
  for (std::size_t b = 0; b < options.blocks.size(); ++b) {
    const Size size = options.blocks[b];
    detail::require(size >= 1 && size <= d - begin, name,
                    "options.blocks[" + std::to_string(b) + "]", size,
                    "in 1 ... " + std::to_string(d - begin) + ", what is left of d");
    blocks.push_back({begin, begin + size});
    begin += size;
  }
  detail::require_size(name, "the sum of options.blocks", begin, d);
  return blocks;
}

Problem make_problem(const Gradients* gradients, std::span<const double> weights,
                     const PruneOptions& options, std::span<const std::uint8_t> mask) {
  Problem problem;
  problem.gradients = gradients;
  problem.options = &options;
  problem.d = std::ssize(weights);
  detail::require(problem.d >= 1, name, "weights.size()", problem.d, ">= 1");
  if (gradients != nullptr) {
    detail::require_size(name, "weights", problem.d, gradients->dimension());
    detail::require(gradients->rows() >= 1, name, "gradients.rows()", gradients->rows(), ">= 1");
    const double damping = options.fisher.damping;
    detail::require(damping > 0 && std::isfinite(damping), name, "options.fisher.damping", damping,
                    "> 0 and finite");
  } else {
    detail::require(options.saliency == Saliency::magnitude, name, "options.saliency",
                    to_string(options.saliency), "magnitude where there are no gradients");
    detail::require(options.update == Update::none, name, "options.update",
                    to_string(options.update), "none where there are no gradients");
  }
  detail::require_finite(name, "weights", weights);
  if (!mask.empty()) detail::require_size(name, "mask", std::ssize(mask), problem.d);
  detail::require(options.sparsity >= 0 && options.sparsity <= 1, name, "options.sparsity",
                  options.sparsity, "in [0, 1]");
  problem.layers = options.layers;
  if (problem.layers.empty()) {
    // one row, so that a pattern along rows is one of neighbours in memory
    problem.layers.push_back({1, problem.d, true});
  }
  Size total = 0;
  for (std::size_t l = 0; l < problem.layers.size(); ++l) {
    const Layer& layer = problem.layers[l];
    const std::string which = "options.layers[" + std::to_string(l) + "]";
    detail::require(layer.rows >= 1, name, which + ".rows", layer.rows, ">= 1");
    const Size left = problem.d - total;
    detail::require(layer.columns >= 1 && layer.columns <= left / layer.rows, name,
                    which + ".columns", layer.columns,
                    ">= 1 and such that the layers have at most the " + std::to_string(problem.d) +
                        " weights there are");
    total += layer.rows * layer.columns;
    if (layer.prunable) problem.prunable += layer.rows * layer.columns;
  }
  detail::require_size(name, "the sum of options.layers", total, problem.d);
  detail::require(problem.prunable >= 1, name, "prunable weights", problem.prunable, ">= 1");
  check_pattern(options.pattern, problem.layers);
  problem.blocks = blocks_of(options, problem.d);
  problem.weights.assign(weights.begin(), weights.end());
  problem.mask.assign(at(problem.d), 1);
  Size offset = 0;
  for (const Layer& layer : problem.layers) {
    const Size end = offset + layer.rows * layer.columns;
    for (Size j = offset; j < end && !mask.empty(); ++j) {
      if (mask[at(j)] != 0) continue;
      detail::require(layer.prunable, name, "mask[" + std::to_string(j) + "]", 0,
                      "1 in a layer that is not prunable");
      problem.mask[at(j)] = 0;
      problem.weights[at(j)] = 0;
    }
    offset = end;
  }
  return problem;
}

// ---- columns of G -------------------------------------------------------------------------------

std::vector<Size> kept_in(const Mask& mask, Range range) {
  std::vector<Size> kept;
  for (Size j = range.begin; j < range.end; ++j)
    if (mask[at(j)] != 0) kept.push_back(j);
  return kept;
}

/// Views and mapped files were not looked at before.
void check_row(Size i, const Numbers& row) {
  for (std::size_t j = 0; j < row.size(); ++j)
    if (!std::isfinite(row[j]))
      throw DomainError(name, "gradients[" + std::to_string(i) + ", " + std::to_string(j) + "]",
                        row[j], "finite");
}

template <class T>
void copy_columns(const Gradients& from, std::span<const Size> columns, int threads,
                  Gradients& to) {
  constexpr Size rows = 16;  // that share a buffer
  parallel_blocks(from.rows(), rows, threads, [&](Size begin, Size end) {
    Numbers row(at(from.dimension()));
    std::vector<T> part(columns.size());
    for (Size i = begin; i < end; ++i) {
      from.row(i, row);
      check_row(i, row);
      for (std::size_t k = 0; k < columns.size(); ++k)
        part[k] = static_cast<T>(row[at(columns[k])]);
      to.set_row(i, std::span<const T>(part));
    }
  });
}

/// The columns of G in their order, in the same storage; G itself where that is all of them.
Gradients restricted(const Gradients& gradients, std::span<const Size> columns, int threads) {
  if (std::ssize(columns) == gradients.dimension()) return gradients;
  Gradients out = Gradients::zeros(gradients.rows(), std::ssize(columns), gradients.storage());
  if (gradients.storage() == Storage::float64)
    copy_columns<double>(gradients, columns, threads, out);
  else
    copy_columns<float>(gradients, columns, threads, out);
  return out;
}

/// out[b m + i] = sum over block b of g_ij x_j.
Numbers block_products(const Problem& problem, const Numbers& x) {
  const Size m = problem.gradients->rows();
  Numbers out(problem.blocks.size() * at(m));
  constexpr Size rows = 16;
  parallel_blocks(m, rows, problem.options->fisher.threads, [&](Size begin, Size end) {
    Numbers row(at(problem.d));
    for (Size i = begin; i < end; ++i) {
      problem.gradients->row(i, row);
      check_row(i, row);
      for (std::size_t b = 0; b < problem.blocks.size(); ++b) {
        const Range range = problem.blocks[b];
        const auto part = [&](const Numbers& all) {
          return std::span<const double>(all).subspan(at(range.begin), at(range.end - range.begin));
        };
        out[b * at(m) + at(i)] = tree_dot(part(row), part(x), 1);
      }
    }
  });
  return out;
}

/// H_jj = lambda + sum_i g_ij^2/m.
Numbers diagonal(const Problem& problem) {
  const Gradients& gradients = *problem.gradients;
  Numbers sums(at(problem.d)), row(at(problem.d));
  for (Size i = 0; i < gradients.rows(); ++i) {
    gradients.row(i, row);
    check_row(i, row);
    for (std::size_t j = 0; j < sums.size(); ++j) sums[j] += row[j] * row[j];
  }
  for (double& sum : sums)
    sum = problem.options->fisher.damping + sum / static_cast<double>(gradients.rows());
  return sums;
}

void take_worst(Diagnosis& worst, const Diagnosis& one) {
  if (one.status > worst.status) worst.status = one.status;
  worst.condition = std::max(worst.condition, one.condition);
  worst.error = std::max(worst.error, one.error);
  if (worst.pivot < 0 && one.pivot >= 0) {
    worst.pivot = one.pivot;
    worst.pivot_value = one.pivot_value;
  }
}

// ---- which --------------------------------------------------------------------------------------

/// Candidates by their saliency, equals by their place.
void sort_least_first(std::vector<Size>& candidates, const Numbers& saliency, Size least) {
  const auto before = [&](Size a, Size b) {
    return saliency[at(a)] != saliency[at(b)] ? saliency[at(a)] < saliency[at(b)] : a < b;
  };
  if (least < std::ssize(candidates))
    std::nth_element(candidates.begin(), candidates.begin() + least, candidates.end(), before);
}

/// Of `candidates`, those of [0, all) that are masked included, so many that `target` are masked.
void choose(std::vector<Size> candidates, Size target, const Numbers& saliency, const Mask& mask,
            std::vector<Size>& chosen) {
  const Size before = std::ssize(candidates);
  std::erase_if(candidates, [&](Size j) { return mask[at(j)] == 0; });
  const Size masked = before - std::ssize(candidates);
  const Size more = target - masked;
  if (more <= 0) return;
  sort_least_first(candidates, saliency, more);
  chosen.insert(chosen.end(), candidates.begin(), candidates.begin() + more);
}

Size target_count(double sparsity, Size of) {
  return static_cast<Size>(std::llround(sparsity * static_cast<double>(of)));
}

void choose_by_pattern(const Layer& layer, Size offset, const Pattern& pattern,
                       const Numbers& saliency, const Mask& mask, std::vector<Size>& chosen) {
  const bool in_rows = pattern.along == Pattern::Along::row;
  const Size lines = in_rows ? layer.rows : layer.columns;
  const Size length = in_rows ? layer.columns : layer.rows;
  const Size line_step = in_rows ? layer.columns : 1, step = in_rows ? 1 : layer.columns;
  std::vector<Size> group(at(pattern.of));
  for (Size line = 0; line < lines; ++line)
    for (Size first = 0; first < length; first += pattern.of) {
      for (Size k = 0; k < pattern.of; ++k)
        group[at(k)] = offset + line * line_step + (first + k) * step;
      choose(group, pattern.of - pattern.keep, saliency, mask, chosen);
    }
}

/// What is to be pruned now, in increasing order.
std::vector<Size> chosen_now(const Problem& problem, const Numbers& saliency) {
  const PruneOptions& options = *problem.options;
  std::vector<Size> chosen, all;
  Size offset = 0;
  for (const Layer& layer : problem.layers) {
    const Size size = layer.rows * layer.columns;
    if (layer.prunable) {
      if (options.pattern.of > 0) {
        choose_by_pattern(layer, offset, options.pattern, saliency, problem.mask, chosen);
      } else {
        if (options.scope == Scope::layer) all.clear();
        for (Size j = offset; j < offset + size; ++j) all.push_back(j);
        if (options.scope == Scope::layer)
          choose(all, target_count(options.sparsity, size), saliency, problem.mask, chosen);
      }
    }
    offset += size;
  }
  if (options.pattern.of == 0 && options.scope == Scope::global)
    choose(all, target_count(options.sparsity, problem.prunable), saliency, problem.mask, chosen);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

// ---- the whole ----------------------------------------------------------------------------------

/// An estimator of the weights left in one block.
struct Part {
  std::vector<Size> columns;
  std::unique_ptr<Estimator> estimator;
};

Options part_options(const Problem& problem, double begin, double end) {
  Options options = problem.options->fisher;
  options.block = 0;
  options.progress = part_of(options.progress, begin, end);
  return options;
}

Pruned run(Problem problem) {
  const PruneOptions& options = *problem.options;
  const int threads = options.fisher.threads;
  const auto d = at(problem.d);
  const auto share = [&](std::size_t b) {
    return static_cast<double>(b) / static_cast<double>(problem.blocks.size());
  };
  Pruned out;
  // Saliencies, and the inverse's diagonal where it is asked for.
  Numbers saliency(d), inverse_diagonal;
  std::vector<Part> parts;
  const double half = options.update == Update::joint ? 0.5 : 1;  // of the work, for reports
  if (needs_inverse(options)) {
    inverse_diagonal.assign(d, 1.0);
    for (std::size_t b = 0; b < problem.blocks.size(); ++b) {
      Part part;
      part.columns = kept_in(problem.mask, problem.blocks[b]);
      if (part.columns.empty()) continue;
      part.estimator =
          std::make_unique<Estimator>(restricted(*problem.gradients, part.columns, threads),
                                      part_options(problem, half * share(b), half * share(b + 1)));
      Numbers values(part.columns.size());
      take_worst(out.diagnosis, part.estimator->inverse_diagonal(values));
      for (std::size_t k = 0; k < values.size(); ++k)
        inverse_diagonal[at(part.columns[k])] = values[k];
      if (options.update == Update::independent) parts.push_back(std::move(part));
    }
  }
  const Numbers forward = options.saliency == Saliency::diagonal ? diagonal(problem) : Numbers{};
  for (std::size_t j = 0; j < d; ++j) {
    const double w = problem.weights[j];
    saliency[j] = options.saliency == Saliency::magnitude  ? 0.5 * w * w
                  : options.saliency == Saliency::diagonal ? 0.5 * w * w * forward[j]
                                                           : 0.5 * w * w / inverse_diagonal[j];
  }
  std::vector<Size> chosen;
  if (options.saliency == Saliency::magnitude) {
    // the order of |w|, which has no underflow
    Numbers magnitude(d);
    for (std::size_t j = 0; j < d; ++j) magnitude[j] = std::fabs(problem.weights[j]);
    chosen = chosen_now(problem, magnitude);
  } else {
    chosen = chosen_now(problem, saliency);
  }

  // The change.
  Numbers delta(d), taken(d);
  out.mask = problem.mask;
  Numbers of_chosen;
  for (const Size j : chosen) {
    delta[at(j)] = -problem.weights[at(j)];
    taken[at(j)] = problem.weights[at(j)];
    out.mask[at(j)] = 0;
    of_chosen.push_back(saliency[at(j)]);
  }
  out.saliency = tree_sum(of_chosen, threads);
  if (options.update == Update::independent) {
    for (const Part& part : parts) {
      Numbers x(part.columns.size());
      bool any = false;
      for (std::size_t k = 0; k < x.size(); ++k) {
        const std::size_t j = at(part.columns[k]);
        x[k] = taken[j] / inverse_diagonal[j];
        any = any || x[k] != 0;
      }
      if (!any) continue;
      take_worst(out.diagnosis, part.estimator->inverse_product(x, x));
      for (std::size_t k = 0; k < x.size(); ++k) {
        const std::size_t j = at(part.columns[k]);
        if (out.mask[j] != 0) delta[j] = -x[k];
      }
    }
  } else if (options.update == Update::joint && !chosen.empty()) {
    const Size m = problem.gradients->rows();
    const Numbers products = block_products(problem, taken);
    for (std::size_t b = 0; b < problem.blocks.size(); ++b) {
      Numbers a(products.begin() + static_cast<Size>(b) * m,
                products.begin() + static_cast<Size>(b + 1) * m);
      if (std::all_of(a.begin(), a.end(), [](double v) { return v == 0; })) continue;
      for (double& v : a) v /= static_cast<double>(m);
      const std::vector<Size> stay = kept_in(out.mask, problem.blocks[b]);
      if (stay.empty()) continue;
      const Estimator estimator(
          restricted(*problem.gradients, stay, threads),
          part_options(problem, half + (1 - half) * share(b), half + (1 - half) * share(b + 1)));
      Numbers y(stay.size());
      take_worst(out.diagnosis,
                 estimator.inverse_combination(std::span<const double>(a), std::span<double>(y)));
      for (std::size_t k = 0; k < y.size(); ++k) delta[at(stay[k])] = y[k];
    }
  }

  // Where an update is so large that it is no number there would be no use in going on silently.
  for (const double change : delta)
    detail::require(std::isfinite(change), name, "delta", change,
                    "finite: weights or gradients are too large");
  out.weights = std::move(problem.weights);
  for (std::size_t j = 0; j < d; ++j) {
    out.weights[j] = out.mask[j] == 0 ? 0 : out.weights[j] + delta[j];
    if (out.mask[j] == 0) ++out.count;
  }
  out.sparsity = static_cast<double>(out.count) / static_cast<double>(problem.prunable);
  if (problem.gradients == nullptr) {
    out.loss_increase = std::numeric_limits<double>::quiet_NaN();
  } else {
    const Numbers along = block_products(problem, delta);
    out.loss_increase =
        0.5 * (options.fisher.damping * tree_dot(delta, delta, threads) +
               tree_dot(along, along, threads) / static_cast<double>(problem.gradients->rows()));
  }
  return out;
}

}  // namespace

std::string_view to_string(Saliency saliency) {
  return saliency == Saliency::magnitude  ? "magnitude"
         : saliency == Saliency::diagonal ? "diagonal"
                                          : "inverse";
}

std::string_view to_string(Update update) {
  return update == Update::none ? "none" : update == Update::independent ? "independent" : "joint";
}

Pruned prune(const Gradients& gradients, std::span<const double> weights,
             const PruneOptions& options, std::span<const std::uint8_t> mask) {
  return run(make_problem(&gradients, weights, options, mask));
}

Pruned prune(std::span<const double> weights, const PruneOptions& options,
             std::span<const std::uint8_t> mask) {
  return run(make_problem(nullptr, weights, options, mask));
}

double sparsity_at(const Schedule& schedule, double first, double last, int step) {
  constexpr std::string_view function = "mfac::sparsity_at";
  detail::require(schedule.steps >= 1, function, "schedule.steps", schedule.steps, ">= 1");
  detail::require(schedule.power >= 1 && std::isfinite(schedule.power), function, "schedule.power",
                  schedule.power, ">= 1 and finite");
  detail::require(first >= 0 && first <= 1, function, "first", first, "in [0, 1]");
  detail::require(last >= first && last <= 1, function, "last", last, "in [first, 1]");
  detail::require(step >= 0 && step <= schedule.steps, function, "step", step,
                  "in 0 ... schedule.steps = " + std::to_string(schedule.steps));
  if (step == schedule.steps) return last;
  const double part = static_cast<double>(step) / schedule.steps;
  if (schedule.kind == Schedule::Kind::polynomial)
    return last + (first - last) * std::pow(1 - part, schedule.power);
  return 1 - std::pow(1 - first, 1 - part) * std::pow(1 - last, part);
}

PrunedGradually prune_gradually(const GradientSource& source, std::span<const double> weights,
                                const PruneOptions& options, const Schedule& schedule,
                                std::span<const std::uint8_t> mask) {
  // All that can be said of the arguments before the first gradients are asked for.
  const Problem problem = make_problem(
      nullptr, weights,
      [&] {
        PruneOptions checked = options;
        checked.saliency = Saliency::magnitude;
        checked.update = Update::none;
        return checked;
      }(),
      mask);
  const auto masked =
      static_cast<double>(std::count(problem.mask.begin(), problem.mask.end(), std::uint8_t{0}));
  const double first = masked / static_cast<double>(problem.prunable);
  PrunedGradually out;
  out.last.weights = problem.weights;
  out.last.mask = problem.mask;
  double increase = 0, saliency = 0;
  Diagnosis worst;
  for (int step = 1; step <= schedule.steps; ++step) {
    PruneOptions now = options;
    now.sparsity = sparsity_at(schedule, std::min(first, options.sparsity), options.sparsity, step);
    if (options.pattern.of > 0) {
      const Size fewer = options.pattern.of - options.pattern.keep;
      now.pattern.keep = options.pattern.of - (fewer * step + schedule.steps - 1) / schedule.steps;
    }
    now.fisher.progress =
        part_of(options.fisher.progress, static_cast<double>(step - 1) / schedule.steps,
                static_cast<double>(step) / schedule.steps);
    const Gradients gradients = source(out.last.weights, out.last.mask, step);
    out.last = prune(gradients, out.last.weights, now, Mask(out.last.mask));
    increase += out.last.loss_increase;
    saliency += out.last.saliency;
    take_worst(worst, out.last.diagnosis);
    out.steps.push_back({out.last.sparsity, out.last.loss_increase, out.last.diagnosis});
  }
  out.last.loss_increase = increase;
  out.last.saliency = saliency;
  out.last.diagnosis = worst;
  return out;
}

}  // namespace halfulp::mfac
