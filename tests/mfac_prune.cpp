#include "halfulp/mfac_prune.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "../validation/oracle/mfac.hpp"
#include "budget.hpp"
#include "halfulp/error.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
using mfac::Gradients;
using mfac::PruneOptions;
using mfac::Saliency;
using mfac::Update;
using mfac_mpfr::Numbers;
using mfac_mpfr::Real;
using mfac_mpfr::Reals;
using mfac_mpfr::relative_error;
using Mask = std::vector<std::uint8_t>;
using Size = std::ptrdiff_t;

namespace {

const double budgeted = budget(HALFULP_BUDGETS, "mfac_prune", "double", "cpu");

/// Gradients and weights, and H in MPFR.
struct Model {
  std::string name;
  std::size_t m, d;
  double lambda;
  Numbers g, w;

  [[nodiscard]] Gradients gradients(mfac::Storage storage = mfac::Storage::float64) const {
    return {std::span<const double>(g), static_cast<Size>(d), storage};
  }
  /// H over the coordinates `index`, coupled where `block` is the same.
  [[nodiscard]] Reals hessian(const std::vector<std::size_t>& index,
                              const std::vector<int>& block = {}) const {
    const std::size_t n = index.size();
    Reals h(n * n);
    for (std::size_t a = 0; a < n; ++a)
      for (std::size_t b = 0; b < n; ++b) {
        if (!block.empty() && block[index[a]] != block[index[b]]) continue;
        Real sum = 0;
        for (std::size_t i = 0; i < m; ++i)
          sum += Real(g[i * d + index[a]]) * Real(g[i * d + index[b]]);
        h[a * n + b] = sum / m + (a == b ? Real(lambda) : Real(0));
      }
    return h;
  }
};

Model random_model(std::string name, std::size_t m, std::size_t d, double lambda,
                   std::uint64_t seed = 3) {
  mfac_mpfr::Random random(seed);
  Model model{std::move(name), m, d, lambda, random.normals(m * d), random.normals(d)};
  return model;
}

std::vector<Model> models() {
  std::vector<Model> all = {
      random_model("random", 8, 40, 1e-2), random_model("random", 8, 60, 1e-5),
      random_model("more rows than columns", 50, 30, 1e-3), random_model("one row", 1, 12, 1e-4)};
  Model parallel = random_model("nearly parallel", 12, 40, 1e-6);
  for (std::size_t i = 0; i < parallel.g.size(); ++i)
    parallel.g[i] = parallel.g[i % parallel.d] + 1e-4 * parallel.g[i];
  all.push_back(parallel);
  Model scaled = random_model("scaled rows, a zero one and one twice", 10, 50, 1e-3);
  for (std::size_t i = 0; i < scaled.m; ++i)
    for (std::size_t j = 0; j < scaled.d; ++j)
      scaled.g[i * scaled.d + j] *= i == 3 ? 0 : std::ldexp(1.0, static_cast<int>(2 * i) - 18);
  std::copy_n(scaled.g.begin() + 5 * 50, 50, scaled.g.begin() + 6 * 50);
  all.push_back(scaled);
  Model column = random_model("a large column", 8, 30, 1e-3);
  for (std::size_t i = 0; i < column.m; ++i) column.g[i * column.d + 7] *= 1e3;
  all.push_back(column);
  return all;
}

std::vector<std::size_t> where(const Mask& mask, std::uint8_t value) {
  std::vector<std::size_t> out;
  for (std::size_t j = 0; j < mask.size(); ++j)
    if (mask[j] == value) out.push_back(j);
  return out;
}

/// cond(H) in double is enough for a limit: by the largest row sum.
double condition(const Reals& h, std::size_t n, double lambda) {
  Real most = 0;
  for (std::size_t i = 0; i < n; ++i) {
    Real sum = 0;
    for (std::size_t j = 0; j < n; ++j) sum += abs(h[i * n + j]);
    most = std::max(most, sum);
  }
  return static_cast<double>(most) / lambda;
}

/// min delta^T H delta/2 with delta_P = -w_P by the KKT system, [[H, E], [E^T, 0]] with Gaussian
/// elimination and pivots: nothing of the library's formulas is in it.
Reals kkt(const Model& model, const std::vector<std::size_t>& pruned,
          const std::vector<std::size_t>& index, const std::vector<int>& block) {
  const std::size_t n = index.size(), p = pruned.size(), size = n + p;
  const Reals h = model.hessian(index, block);
  std::vector<Reals> a(size, Reals(size + 1));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) a[i][j] = h[i * n + j];
  for (std::size_t k = 0; k < p; ++k) {
    const auto place =
        static_cast<std::size_t>(std::find(index.begin(), index.end(), pruned[k]) - index.begin());
    a[n + k][place] = a[place][n + k] = 1;
    a[n + k][size] = -Real(model.w[pruned[k]]);
  }
  for (std::size_t c = 0; c < size; ++c) {
    std::size_t pivot = c;
    for (std::size_t r = c + 1; r < size; ++r)
      if (abs(a[r][c]) > abs(a[pivot][c])) pivot = r;
    std::swap(a[c], a[pivot]);
    for (std::size_t r = c + 1; r < size; ++r) {
      if (a[r][c] == 0) continue;
      const Real factor = a[r][c] / a[c][c];
      for (std::size_t j = c; j <= size; ++j) a[r][j] -= factor * a[c][j];
    }
  }
  Reals x(size);
  for (std::size_t i = size; i-- > 0;) {
    x[i] = a[i][size];
    for (std::size_t j = i + 1; j < size; ++j) x[i] -= a[i][j] * x[j];
    x[i] /= a[i][i];
  }
  x.resize(n);
  return x;
}

Real energy(const Reals& h, const Reals& delta) {
  const std::size_t n = delta.size();
  Real sum = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) sum += delta[i] * h[i * n + j] * delta[j];
  return sum / 2;
}

/// The inverse of H as columns.
std::vector<Reals> inverse(const Reals& h, std::size_t n) {
  Reals l = h;
  mfac_mpfr::cholesky(l, n);
  std::vector<Reals> columns;
  for (std::size_t j = 0; j < n; ++j) {
    Reals unit(n);
    unit[j] = 1;
    columns.push_back(mfac_mpfr::solve(l, n, unit));
  }
  return columns;
}

std::vector<std::size_t> everything(std::size_t d) {
  std::vector<std::size_t> index(d);
  std::iota(index.begin(), index.end(), std::size_t{0});
  return index;
}

bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

PruneOptions options_of(const Model& model, double sparsity, Update update,
                        Saliency saliency = Saliency::inverse) {
  PruneOptions options;
  options.sparsity = sparsity;
  options.saliency = saliency;
  options.update = update;
  options.fisher.damping = model.lambda;
  return options;
}

/// What was pruned has to be exactly 0, all else must agree with `delta`.
void check_change(const Model& model, const mfac::Pruned& pruned,
                  const std::vector<std::size_t>& index, const Reals& delta, double limit) {
  Numbers change;
  Reals expected;
  for (std::size_t k = 0; k < index.size(); ++k) {
    const std::size_t j = index[k];
    if (pruned.mask[j] == 0) {
      CHECK(pruned.weights[j] == 0);
      CHECK_FALSE(std::signbit(pruned.weights[j]));
    } else {
      change.push_back(pruned.weights[j]);
      expected.push_back(Real(model.w[j]) + delta[k]);
    }
  }
  if (!change.empty()) CHECK(relative_error(change, expected) <= limit);
}

}  // namespace

TEST_CASE("the joint update is the constrained minimum", "[mfac_prune]") {
  for (const Model& model : models())
    for (const double sparsity : {0.1, 0.5, 0.9, 1.0}) {
      INFO(model.name << ", d = " << model.d << ", sparsity " << sparsity);
      const auto options = options_of(model, sparsity, Update::joint);
      const auto pruned = mfac::prune(model.gradients(), model.w, options);
      const auto index = everything(model.d);
      const Reals h = model.hessian(index);
      const double unit = condition(h, model.d, model.lambda) * 0x1p-52;
      CHECK(pruned.count == std::llround(sparsity * static_cast<double>(model.d)));
      const Reals delta = kkt(model, where(pruned.mask, 0), index, {});
      check_change(model, pruned, index, delta, budgeted * unit);
      // Stationary in what stays: errors of delta count twice over.
      CHECK(relative_error(pruned.loss_increase, energy(h, delta)) <= budgeted * unit);
      CHECK(pruned.diagnosis.condition >= 1);
    }
}

TEST_CASE("saliencies choose what MPFR would, and one weight is exact", "[mfac_prune]") {
  for (const Model& model : models()) {
    INFO(model.name << ", d = " << model.d);
    const auto index = everything(model.d);
    const Reals h = model.hessian(index);
    const double limit = budgeted * condition(h, model.d, model.lambda) * 0x1p-52;
    const auto columns = inverse(h, model.d);
    for (const Saliency saliency : {Saliency::magnitude, Saliency::diagonal, Saliency::inverse}) {
      Reals value(model.d);
      for (std::size_t j = 0; j < model.d; ++j) {
        const Real square = Real(model.w[j]) * model.w[j] / 2;
        value[j] = saliency == Saliency::magnitude  ? square
                   : saliency == Saliency::diagonal ? Real(square * h[j * model.d + j])
                                                    : Real(square / columns[j][j]);
      }
      auto order = index;
      std::sort(order.begin(), order.end(),
                [&](std::size_t a, std::size_t b) { return value[a] < value[b]; });
      for (const std::size_t count : {std::size_t{1}, model.d / 3, model.d - 1}) {
        const double sparsity = static_cast<double>(count) / static_cast<double>(model.d);
        const auto pruned = mfac::prune(model.gradients(), model.w,
                                        options_of(model, sparsity, Update::none, saliency));
        auto expected =
            std::vector<std::size_t>(order.begin(), order.begin() + static_cast<Size>(count));
        std::sort(expected.begin(), expected.end());
        CHECK(where(pruned.mask, 0) == expected);
        Real sum = 0;
        Reals delta(model.d);
        for (const std::size_t j : expected) sum += value[j], delta[j] = -Real(model.w[j]);
        CHECK(relative_error(pruned.saliency, sum) <= std::max(limit, 1e-14));
        CHECK(relative_error(pruned.loss_increase, energy(h, delta)) <= 1e-13);
        for (const std::size_t j : index)
          CHECK(pruned.weights[j] == (pruned.mask[j] == 0 ? 0 : model.w[j]));
      }
    }
    // One weight: independent, joint and the saliency are one thing.
    const double one = 1 / static_cast<double>(model.d);
    const auto joint =
        mfac::prune(model.gradients(), model.w, options_of(model, one, Update::joint));
    const auto independent =
        mfac::prune(model.gradients(), model.w, options_of(model, one, Update::independent));
    CHECK(joint.count == 1);
    CHECK(joint.mask == independent.mask);
    CHECK(joint.saliency == Approx(joint.loss_increase).epsilon(std::max(limit, 1e-12)));
    for (std::size_t j = 0; j < model.d; ++j)
      CHECK(std::fabs(joint.weights[j] - independent.weights[j]) <= limit * 10);
  }
}

TEST_CASE("the independent update is the sum of single steps", "[mfac_prune]") {
  for (const Model& model : models()) {
    INFO(model.name << ", d = " << model.d);
    const auto pruned =
        mfac::prune(model.gradients(), model.w, options_of(model, 0.4, Update::independent));
    const auto index = everything(model.d);
    const Reals h = model.hessian(index);
    const double limit = budgeted * condition(h, model.d, model.lambda) * 0x1p-52;
    const auto columns = inverse(h, model.d);
    Reals delta(model.d);
    for (const std::size_t j : where(pruned.mask, 0))
      for (std::size_t k = 0; k < model.d; ++k)
        delta[k] -= Real(model.w[j]) / columns[j][j] * columns[j][k];
    for (const std::size_t j : where(pruned.mask, 0)) delta[j] = -Real(model.w[j]);
    check_change(model, pruned, index, delta, limit);
    CHECK(relative_error(pruned.loss_increase, energy(h, delta)) <= 2 * limit);
    // Never below the minimum for the same set.
    const auto joint =
        mfac::prune(model.gradients(), model.w, options_of(model, 0.4, Update::joint));
    CHECK(joint.mask == pruned.mask);
    CHECK(joint.loss_increase <= pruned.loss_increase * (1 + 1e-12));
  }
}

TEST_CASE("masked weights leave the problem, and blocks do not couple", "[mfac_prune]") {
  const Model model = random_model("blocks", 9, 36, 1e-3);
  const std::vector<Size> sizes = {5, 20, 1, 10};
  std::vector<int> block;
  for (std::size_t b = 0; b < sizes.size(); ++b)
    block.insert(block.end(), static_cast<std::size_t>(sizes[b]), static_cast<int>(b));
  Mask mask(36, 1);
  for (const std::size_t j : {0U, 7U, 8U, 25U, 30U}) mask[j] = 0;
  Model masked = model;
  for (std::size_t j = 0; j < 36; ++j)
    if (mask[j] == 0) masked.w[j] = 0;
  const auto index = where(mask, 1);
  const double unit = condition(model.hessian(index), index.size(), 1e-3) * 0x1p-52;
  for (const bool blocks : {false, true})
    for (const Update update : {Update::joint, Update::independent}) {
      INFO("blocks " << blocks << ", " << mfac::to_string(update));
      auto options = options_of(model, 0.5, update);
      if (blocks) options.blocks = sizes;
      const auto pruned = mfac::prune(model.gradients(), model.w, options, mask);
      CHECK(pruned.count == 18);
      CHECK(pruned.sparsity == 0.5);
      for (std::size_t j = 0; j < 36; ++j)
        if (mask[j] == 0) CHECK((pruned.mask[j] == 0 && pruned.weights[j] == 0));
      const auto& coupling = blocks ? block : std::vector<int>{};
      const Reals h = model.hessian(index, coupling);
      std::vector<std::size_t> now;
      for (const std::size_t j : index)
        if (pruned.mask[j] == 0) now.push_back(j);
      Reals delta;
      if (update == Update::joint) {
        delta = kkt(masked, now, index, coupling);
      } else {
        const auto columns = inverse(h, index.size());
        delta.resize(index.size());
        for (std::size_t a = 0; a < index.size(); ++a)
          if (pruned.mask[index[a]] == 0)
            for (std::size_t k = 0; k < index.size(); ++k)
              delta[k] -= Real(model.w[index[a]]) / columns[a][a] * columns[a][k];
        for (std::size_t a = 0; a < index.size(); ++a)
          if (pruned.mask[index[a]] == 0) delta[a] = -Real(model.w[index[a]]);
      }
      check_change(masked, pruned, index, delta, budgeted * unit);
      CHECK(relative_error(pruned.loss_increase, energy(h, delta)) <= 100 * unit);
    }
  // Blocks of one size, both ways of saying it.
  auto uniform = options_of(model, 0.5, Update::joint);
  uniform.fisher.block = 10;
  auto listed = options_of(model, 0.5, Update::joint);
  listed.blocks = {10, 10, 10, 6};
  CHECK(same_bits(mfac::prune(model.gradients(), model.w, uniform, mask).weights,
                  mfac::prune(model.gradients(), model.w, listed, mask).weights));
}

TEST_CASE("layers, scopes and patterns", "[mfac_prune]") {
  // 4 x 8, a bias of 4, 2 x 4
  Model model = random_model("layers", 6, 44, 1e-2);
  for (std::size_t j = 36; j < 44; ++j) model.w[j] *= 100;  // by magnitude the last layer stays
  auto options = options_of(model, 0.5, Update::joint, Saliency::magnitude);
  options.layers = {{4, 8, true}, {4, 1, false}, {2, 4, true}};
  const auto zeros = [](const mfac::Pruned& pruned, Size begin, Size end) {
    return std::count(pruned.mask.begin() + begin, pruned.mask.begin() + end, std::uint8_t{0});
  };
  const auto global = mfac::prune(model.gradients(), model.w, options);
  CHECK(zeros(global, 0, 32) == 20);
  CHECK(zeros(global, 32, 36) == 0);
  CHECK(zeros(global, 36, 44) == 0);
  CHECK(global.sparsity == 0.5);
  CHECK(global.weights[33] != model.w[33]);  // a bias adapts
  options.scope = mfac::Scope::layer;
  const auto each = mfac::prune(model.gradients(), model.w, options);
  CHECK(zeros(each, 0, 32) == 16);
  CHECK(zeros(each, 32, 36) == 0);
  CHECK(zeros(each, 36, 44) == 4);

  options.saliency = Saliency::inverse;
  for (const mfac::Pattern pattern : {mfac::Pattern{2, 4, mfac::Pattern::Along::row},
                                      {1, 4, mfac::Pattern::Along::row},
                                      {1, 2, mfac::Pattern::Along::column},
                                      {2, 2, mfac::Pattern::Along::column}}) {
    options.pattern = pattern;
    const auto pruned = mfac::prune(model.gradients(), model.w, options);
    CHECK(zeros(pruned, 32, 36) == 0);
    Size offset = 0;
    for (const auto& layer : options.layers) {
      const bool row = pattern.along == mfac::Pattern::Along::row;
      for (Size r = 0; layer.prunable && r < layer.rows; r += row ? 1 : pattern.of)
        for (Size c = 0; c < layer.columns; c += row ? pattern.of : 1) {
          Size kept = 0;
          for (Size k = 0; k < pattern.of; ++k)
            kept += pruned.mask[static_cast<std::size_t>(
                offset + (row ? r : r + k) * layer.columns + (row ? c + k : c))];
          CHECK(kept == pattern.keep);
        }
      offset += layer.rows * layer.columns;
    }
  }
  options.layers = {};
  options.pattern = {2, 4};
  const auto plain = mfac::prune(model.gradients(), model.w, options);
  for (Size j = 0; j < 44; j += 4) CHECK(zeros(plain, j, j + 4) == 2);
  // 4:8 leaves a choice that 2:4 does not
  options.pattern = {4, 8};
  Model longer = random_model("4:8", 6, 48, 1e-2);
  const auto fine = mfac::prune(longer.gradients(), longer.w, [&] {
    auto o = options;
    o.pattern = {2, 4};
    return o;
  }());
  const auto coarse = mfac::prune(longer.gradients(), longer.w, options);
  CHECK(coarse.saliency <= fine.saliency);
  // A group that has masked weights needs fewer new ones.
  Mask mask(48, 1);
  mask[0] = mask[1] = mask[2] = mask[8] = 0;
  options.pattern = {2, 4};
  const auto again = mfac::prune(longer.gradients(), longer.w, options, mask);
  CHECK(zeros(again, 0, 4) == 3);
  CHECK(zeros(again, 4, 8) == 2);
  CHECK((zeros(again, 8, 12) == 2 && again.mask[8] == 0));
}

TEST_CASE("without gradients only magnitudes; equals go by their place", "[mfac_prune]") {
  const Numbers w = {1, -2, 1, 1, 0, 3, -1, 5e-324};
  PruneOptions options;
  options.saliency = Saliency::magnitude;
  options.update = Update::none;
  options.sparsity = 0.5;
  const auto pruned = mfac::prune(w, options);
  CHECK(pruned.mask == Mask{0, 1, 0, 1, 0, 1, 1, 0});
  CHECK(pruned.weights == Numbers{0, -2, 0, 1, 0, 3, -1, 0});
  CHECK(std::isnan(pruned.loss_increase));
  options.sparsity = 2.0 / 8;  // 0 is below the smallest number, although both squares are 0
  CHECK(mfac::prune(w, options).mask == Mask{1, 1, 1, 1, 0, 1, 1, 0});
  options.sparsity = 1.0 / 8;
  CHECK(mfac::prune(w, options).mask == Mask{1, 1, 1, 1, 0, 1, 1, 1});
}

TEST_CASE("the same bits for any number of threads; storage is kept", "[mfac_prune]") {
  const Model model = random_model("threads", 40, 3000, 1e-3);
  for (const mfac::Storage storage : {mfac::Storage::float64, mfac::Storage::float32,
                                      mfac::Storage::bfloat16, mfac::Storage::float16}) {
    const Gradients gradients = model.gradients(storage);
    for (const Update update : {Update::independent, Update::joint}) {
      auto options = options_of(model, 0.7, update);
      options.fisher.threads = 1;
      const auto first = mfac::prune(gradients, model.w, options);
      for (const int threads : {2, 5}) {
        options.fisher.threads = threads;
        const auto again = mfac::prune(gradients, model.w, options);
        CHECK(same_bits(again.weights, first.weights));
        CHECK(again.mask == first.mask);
        CHECK(again.loss_increase == first.loss_increase);
        CHECK(again.saliency == first.saliency);
      }
      // Rounded gradients in double are the same problem.
      Numbers rounded(model.g.size());
      for (std::size_t i = 0; i < model.m; ++i)
        gradients.row(static_cast<Size>(i), std::span(rounded).subspan(i * model.d, model.d));
      const Gradients twin(std::span<const double>(rounded), static_cast<Size>(model.d));
      const auto exact = mfac::prune(twin, model.w, options);
      CHECK(exact.mask == first.mask);
      CHECK(exact.loss_increase == Approx(first.loss_increase).epsilon(1e-10));
    }
  }
}

TEST_CASE("schedules", "[mfac_prune]") {
  mfac::Schedule schedule;
  schedule.steps = 4;
  CHECK(mfac::sparsity_at(schedule, 0, 0.9375, 0) == 0);
  CHECK(mfac::sparsity_at(schedule, 0, 0.9375, 1) == Approx(0.5));
  CHECK(mfac::sparsity_at(schedule, 0, 0.9375, 3) == Approx(0.875));
  CHECK(mfac::sparsity_at(schedule, 0, 0.9375, 4) == 0.9375);
  CHECK(mfac::sparsity_at(schedule, 0.5, 0.96875, 2) == Approx(0.875));
  schedule.kind = mfac::Schedule::Kind::polynomial;
  CHECK(mfac::sparsity_at(schedule, 0, 0.8, 2) == Approx(0.7));
  CHECK(mfac::sparsity_at(schedule, 0.4, 0.8, 0) == Approx(0.4));
  schedule.power = 1;
  CHECK(mfac::sparsity_at(schedule, 0.2, 0.8, 1) == Approx(0.35));
}

TEST_CASE("many steps: gradients at the weights, masks only grow", "[mfac_prune]") {
  // A quadratic loss (w - w0)^T A (w - w0)/2 + c with rows of A^1/2 as gradients: H is the same
  // everywhere, so that each step minimises the true loss.
  const Model model = random_model("quadratic", 30, 40, 1e-4);
  const auto index = everything(model.d);
  for (const auto kind : {mfac::Schedule::Kind::geometric, mfac::Schedule::Kind::polynomial}) {
    std::vector<double> sparsities;
    Mask before(model.d, 1);
    int calls = 0;
    const auto source = [&](std::span<double> weights, std::span<const std::uint8_t> mask,
                            int step) {
      CHECK(step == ++calls);
      for (std::size_t j = 0; j < model.d; ++j) {
        if (before[j] == 0) CHECK(mask[j] == 0);
        if (mask[j] == 0) CHECK(weights[j] == 0);
      }
      before.assign(mask.begin(), mask.end());
      if (step == 3) weights[where(before, 0).front()] = 7;  // set back to 0
      return model.gradients();
    };
    mfac::Schedule schedule;
    schedule.steps = 8;
    schedule.kind = kind;
    const auto options = options_of(model, 0.75, Update::joint);
    const auto result = mfac::prune_gradually(source, model.w, options, schedule);
    CHECK(calls == 8);
    REQUIRE(result.steps.size() == 8);
    CHECK(result.last.count == 30);
    double sum = 0;
    for (std::size_t t = 0; t < 8; ++t) {
      CHECK(result.steps[t].sparsity ==
            Approx(mfac::sparsity_at(schedule, 0, 0.75, static_cast<int>(t + 1))).margin(0.013));
      sum += result.steps[t].loss_increase;
    }
    CHECK(result.last.loss_increase == Approx(sum));
    for (std::size_t j = 0; j < model.d; ++j)
      if (result.last.mask[j] == 0) CHECK(result.last.weights[j] == 0);
    // Minima of a fixed H one after the other: energies add up, H being the metric of projections.
    const Reals h = model.hessian(index);
    Reals delta(model.d);
    for (std::size_t j = 0; j < model.d; ++j)
      delta[j] = Real(result.last.weights[j]) - Real(model.w[j]);
    CHECK(result.last.loss_increase == Approx(static_cast<double>(energy(h, delta))).epsilon(1e-9));
    const auto once = mfac::prune(model.gradients(), model.w, options);
    CHECK(result.last.loss_increase < once.loss_increase);
  }
  // A pattern: groups lose one weight after the other.
  auto options = options_of(model, 0, Update::joint);
  options.pattern = {1, 4};
  std::vector<Size> counts;
  mfac::Schedule schedule;
  schedule.steps = 3;
  const auto result = mfac::prune_gradually(
      [&](std::span<double>, std::span<const std::uint8_t> mask, int) {
        counts.push_back(std::count(mask.begin(), mask.end(), std::uint8_t{0}));
        return model.gradients();
      },
      model.w, options, schedule);
  CHECK(counts == std::vector<Size>{0, 10, 20});
  CHECK(result.last.count == 30);
}

TEST_CASE("bad input to pruning is refused by name", "[mfac_prune]") {
  const Model model = random_model("bad", 4, 12, 1e-3);
  const auto message = [&](auto change) {
    Numbers w = model.w;
    Mask mask;
    PruneOptions options = options_of(model, 0.5, Update::joint);
    change(options, w, mask);
    const std::string domain = message_of<halfulp::DomainError>(
        [&] { static_cast<void>(mfac::prune(model.gradients(), w, options, mask)); });
    if (domain.find("another exception") == std::string::npos) return domain;
    return message_of<halfulp::ShapeError>(
        [&] { static_cast<void>(mfac::prune(model.gradients(), w, options, mask)); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(message([&](auto& o, auto&, auto&) { o.sparsity = 1.5; }) ==
        "halfulp::mfac::prune: options.sparsity = 1.5, must be in [0, 1]");
  CHECK(message([&](auto& o, auto&, auto&) { o.sparsity = nan; }) ==
        "halfulp::mfac::prune: options.sparsity = nan, must be in [0, 1]");
  CHECK(message([&](auto& o, auto&, auto&) { o.fisher.damping = 0; }) ==
        "halfulp::mfac::prune: options.fisher.damping = 0, must be > 0 and finite");
  CHECK(message([&](auto&, auto& w, auto&) { w[3] = nan; }) ==
        "halfulp::mfac::prune: weights[3] = nan, must be finite");
  CHECK(message([&](auto&, auto& w, auto&) { w.pop_back(); }) ==
        "halfulp::mfac::prune: weights.size() = 11, must be 12");
  CHECK(message([&](auto&, auto&, auto& mask) { mask.resize(5); }) ==
        "halfulp::mfac::prune: mask.size() = 5, must be 12");
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.layers = {{3, 3, true}};
             }),
             Contains("the sum of options.layers") && Contains("= 9, must be 12"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.layers = {{3, 4, false}};
             }),
             Contains("prunable weights = 0"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.layers = {{2, 4, true}, {std::numeric_limits<Size>::max(), 2, true}};
             }),
             Contains("options.layers[1].columns = 2"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.layers = {{0, 4, true}};
             }),
             Contains("options.layers[0].rows = 0, must be >= 1"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.pattern = {2, 5};
             }),
             Contains("options.layers[0].columns = 12, must be a multiple of pattern.of = 5"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.pattern = {5, 4};
             }),
             Contains("options.pattern.keep = 5, must be in 0 ... of = 4"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.blocks = {5, 8};
             }),
             Contains("options.blocks[1] = 8, must be in 1 ... 7"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) { o.blocks = {5}; }),
             Contains("the sum of options.blocks") && Contains("= 5, must be 12"));
  CHECK_THAT(message([&](auto& o, auto&, auto&) {
               o.blocks = {12};
               o.fisher.block = 3;
             }),
             Contains("options.fisher.block = 3"));
  CHECK_THAT(message([&](auto& o, auto&, auto& mask) {
               o.layers = {{2, 4, true}, {4, 1, false}};
               mask.assign(12, 1);
               mask[9] = 0;
             }),
             Contains("mask[9] = 0, must be 1 in a layer that is not prunable"));
  PruneOptions none;
  none.saliency = Saliency::diagonal;
  none.update = Update::none;
  CHECK(message_of<halfulp::DomainError>([&] { static_cast<void>(mfac::prune(model.w, none)); }) ==
        "halfulp::mfac::prune: options.saliency = diagonal, must be magnitude where there are no "
        "gradients");
  none.saliency = Saliency::magnitude;
  none.update = Update::joint;
  CHECK_THAT(
      message_of<halfulp::DomainError>([&] { static_cast<void>(mfac::prune(model.w, none)); }),
      Contains("options.update = joint"));
  // A row that is not finite is named by the estimator or here, never pruned with.
  Model bad = model;
  bad.g[2 * 12 + 5] = nan;
  for (const Saliency saliency : {Saliency::magnitude, Saliency::diagonal, Saliency::inverse})
    for (const Update update : {Update::none, Update::independent, Update::joint}) {
      INFO(mfac::to_string(saliency) << ", " << mfac::to_string(update));
      const Gradients view = Gradients::view(std::span<const double>(bad.g), 12);
      CHECK_THAT(
          message_of<halfulp::DomainError>([&] {
            static_cast<void>(mfac::prune(view, bad.w, options_of(bad, 0.5, update, saliency)));
          }),
          Contains("2"));
    }
  mfac::Schedule schedule;
  schedule.steps = 0;
  CHECK_THAT(message_of<halfulp::DomainError>(
                 [&] { static_cast<void>(mfac::sparsity_at(schedule, 0, 0.5, 0)); }),
             Contains("schedule.steps = 0, must be >= 1"));
  schedule.steps = 2;
  CHECK_THAT(message_of<halfulp::DomainError>(
                 [&] { static_cast<void>(mfac::sparsity_at(schedule, 0.6, 0.5, 0)); }),
             Contains("last = 0.5"));
  PruneOptions options = options_of(model, 0.5, Update::joint);
  options.fisher.progress = [](double, const char*) { return false; };
  CHECK_THROWS_AS(mfac::prune(model.gradients(), model.w, options), halfulp::Cancelled);
}
