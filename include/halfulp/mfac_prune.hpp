#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "halfulp/mfac.hpp"

/// Pruning: which weights of a trained model can be set to 0, and what the others become, so that
/// its loss rises least. About a minimum the loss rises by delta^T H delta/2, with the H of
/// halfulp/mfac.hpp:
///
///     min  delta^T H delta/2   with  delta_P = -w_P,   P the set that is pruned.
///
///     const halfulp::mfac::Gradients gradients(rows, d);          // at the weights w
///     const auto pruned = halfulp::mfac::prune(gradients, w, {.sparsity = 0.9,
///                                                             .fisher = {.damping = 1e-5}});
///     pruned.weights, pruned.mask, pruned.loss_increase
///
/// A weight that is masked stays exactly 0, and its coordinate is taken out of H: what is left is
/// the problem over the weights that may still change.
///
/// @source  LeCun, Denker, Solla (1989), the diagonal; Hassibi, Stork (1992), one weight with the
///          inverse; Frantar, Kurtic, Alistarh (2021), arXiv:2107.03356, section 3 and appendix,
///          the independent update of many
namespace halfulp::mfac {

/// What a weight is worth. The least are pruned, the first of equals.
enum class Saliency {
  magnitude,  ///< |w_j|; needs no gradients
  diagonal,   ///< w_j^2 H_jj/2
  inverse,    ///< w_j^2/(2 (H^-1)_jj), the rise if w_j alone is pruned and all others adapt
};

/// What becomes of the weights that stay.
enum class Update {
  none,
  /// delta = -sum_{j in P} w_j/(H^-1)_jj H^-1 e_j, the steps of each weight of P alone; then P is
  /// set to 0. Not the minimum, since the steps do not know of each other.
  independent,
  /// The minimum, delta = -H^-1[:, P] ((H^-1)_PP)^-1 w_P. With F the weights that stay it is
  /// delta_F = G_F^T (m lambda I + G_F G_F^T)^-1 G_P w_P, where nothing cancels and nothing is
  /// |P| x |P|.
  joint,
};

enum class Scope {
  global,  ///< weights of all layers compete
  layer,   ///< each layer gets the same sparsity
};

/// An array of weights, `rows` x `columns`, row after row.
struct Layer {
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t columns = 1;
  bool prunable = true;  ///< false, e.g. for biases: changed by updates, never pruned
};

/// In each group of `of` neighbours at most `keep` stay: {2, 4} is 2:4.
struct Pattern {
  std::ptrdiff_t keep = 0;
  std::ptrdiff_t of = 0;  ///< 0: no pattern
  enum class Along {
    row,     ///< neighbours are in one row, next to each other in memory
    column,  ///< neighbours are in one column, `columns` apart
  } along = Along::row;
};

struct PruneOptions {
  double sparsity = 0;  ///< part of the prunable weights that is 0 afterwards, in [0, 1], rounded
                        ///< to the nearest number of weights; with a pattern not looked at
  Saliency saliency = Saliency::inverse;
  Update update = Update::joint;
  Scope scope = Scope::global;
  Pattern pattern = {};
  std::vector<Layer> layers = {};  ///< of the weights, in their order; empty: one, d x 1
  /// Sizes of the diagonal blocks of H, in their order, of sum d; empty: as fisher.block says.
  /// Blocks and layers need not agree.
  std::vector<std::ptrdiff_t> blocks = {};
  Options fisher = {};  ///< damping, storage of sums, refinements, threads
};

struct Pruned {
  std::vector<double> weights;
  std::vector<std::uint8_t> mask;  ///< 0 where a weight is pruned, 1 elsewhere
  std::ptrdiff_t count = 0;        ///< of zeros in mask
  double sparsity = 0;             ///< count/prunable weights
  /// delta^T H delta/2 of all changes together; NaN without gradients. Exact for this H, whatever
  /// the update.
  double loss_increase = 0;
  double saliency = 0;  ///< sum over what was pruned: what the increase would be if none knew of
                        ///< another; of magnitude, sum w_j^2/2
  Diagnosis diagnosis;  ///< the worst of all products, and of all blocks
};

/// @param   weights  d
/// @param   mask     d, 0 for what is pruned already: such weights are taken as 0. Empty: none
/// @throws  ShapeError if sizes do not fit; DomainError if sparsity is not in [0, 1] or below that
///          of the mask, for weights that are not finite (by index), a pattern that does not divide
///          a layer, layers or blocks that are empty, no prunable weight, a magnitude `update` that
///          needs gradients; as Estimator; Cancelled
/// @accuracy  weights, mask and loss_increase: of the exact minimiser for the same set P, relative
///          in the 2-norm of delta, 50 cond(H) 2^-52
/// @cost    `inverse` one Estimator of the weights left before, with its diagonal; `joint` one of
///          the weights left afterwards, m^2 |F| flops; a copy of their columns of G. Same bits for
///          any number of threads
[[nodiscard]] Pruned prune(const Gradients& gradients, std::span<const double> weights,
                           const PruneOptions& options, std::span<const std::uint8_t> mask = {});
/// Without gradients: Saliency::magnitude and Update::none only.
[[nodiscard]] Pruned prune(std::span<const double> weights, const PruneOptions& options,
                           std::span<const std::uint8_t> mask = {});

// ---- many steps ---------------------------------------------------------------------------------

/// Sparsities s_1 ... s_T = the last one, from s_0 of the mask.
struct Schedule {
  int steps = 16;  ///< T >= 1
  enum class Kind {
    geometric,   ///< each step leaves the same part: 1 - s_t = (1 - s_0)^(1 - t/T) (1 - s_T)^(t/T)
    polynomial,  ///< s_t = s_T + (s_0 - s_T) (1 - t/T)^power
  } kind = Kind::geometric;
  double power = 3;  ///< >= 1; 3: Zhu, Gupta (2018)
};
/// @throws  DomainError if the schedule or a sparsity is none, or step is not in 0 ... steps
[[nodiscard]] double sparsity_at(const Schedule& schedule, double first, double last, int step);

/// Gradients at the weights, for step 1 ... T. It may train the weights before: what is masked is
/// set back to 0.
using GradientSource = std::function<Gradients(std::span<double> weights,
                                               std::span<const std::uint8_t> mask, int step)>;

struct PruneStep {
  double sparsity = 0;
  double loss_increase = 0;  ///< of this step
  Diagnosis diagnosis;
};
struct PrunedGradually {
  Pruned last;  ///< its loss_increase and saliency: sums over the steps; diagnosis: the worst
  std::vector<PruneStep> steps;
};
/// prune, again and again with new gradients. With a pattern the number that a group keeps falls
/// from `of` to `keep` in equal steps.
/// @throws  as prune, and what `source` throws
[[nodiscard]] PrunedGradually prune_gradually(const GradientSource& source,
                                              std::span<const double> weights,
                                              const PruneOptions& options, const Schedule& schedule,
                                              std::span<const std::uint8_t> mask = {});

[[nodiscard]] std::string_view to_string(Saliency saliency);
[[nodiscard]] std::string_view to_string(Update update);

}  // namespace halfulp::mfac
