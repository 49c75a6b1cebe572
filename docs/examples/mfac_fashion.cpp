// What inverse-Hessian products are good for, on a small network: pruning, optimisation, and
// finding wrong labels.
//
//     example_mfac_fashion                          a minute's worth on synthetic images: a test
//     example_mfac_fashion FOLDER OUT [prune|optimise|influence]
//                                                   Fashion-MNIST's four IDX files in FOLDER
//
// scripts/mfac_fashion runs the latter. Writes OUT/*.csv and OUT/*.svg and prints the tables.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <halfulp/csv.hpp>
#include <halfulp/file.hpp>
#include <halfulp/mfac.hpp>
#include <halfulp/mfac_picture.hpp>
#include <halfulp/mfac_prune.hpp>
#include <halfulp/mfac_window.hpp>
#include <halfulp/random.hpp>
#include <halfulp/text.hpp>
#include <memory>
#include <numeric>
#include <string>

#include "network.hpp"

namespace {

namespace fs = std::filesystem;
namespace mfac = halfulp::mfac;
using example::Images;
using example::Network;
using Size = std::ptrdiff_t;
using Floats = std::vector<float>;
using Numbers = std::vector<double>;

struct Experiment {
  Images<float> train, validation, test;
  fs::path out;  ///< empty: no files
  bool quick = false;
};

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Spread {
  double mean = 0, deviation = 0;
};
Spread spread_of(const Numbers& values) {
  Spread out;
  const auto n = static_cast<double>(values.size());
  for (const double v : values) out.mean += v / n;
  for (const double v : values) out.deviation += (v - out.mean) * (v - out.mean);
  out.deviation = n > 1 ? std::sqrt(out.deviation / (n - 1)) : 0;
  return out;
}

/// Gradients of `m` single images, others for each seed and step.
mfac::Gradients some_gradients(const Network<float>& network, const Images<float>& images,
                               std::span<const float> weights, Size m, std::uint64_t seed,
                               int step) {
  const auto order =
      example::shuffled(images.size(), seed, 5000 + static_cast<std::uint32_t>(step));
  Floats rows(static_cast<std::size_t>(m * network.parameters()));
  network.sample_gradients(weights, images,
                           std::span<const Size>(order).first(static_cast<std::size_t>(m)), rows);
  return {std::span<const float>(rows), network.parameters()};
}

// ---- pruning ------------------------------------------------------------------------------------

struct Method {
  const char* name;
  mfac::Saliency saliency;
  mfac::Update update;
  bool again;  ///< in 16 steps, with new gradients for each
};

/// Test accuracy after pruning without any training afterwards. Returns whether the order that the
/// literature has was found at 90 %.
bool prune(const Experiment& experiment) {
  using mfac::Saliency;
  using mfac::Update;
  const std::vector<Method> methods = {
      {"magnitude", Saliency::magnitude, Update::none, false},
      {"diagonal Fisher", Saliency::diagonal, Update::none, false},
      {"M-FAC, independent", Saliency::inverse, Update::independent, false},
      {"M-FAC, joint", Saliency::inverse, Update::joint, false},
      {"diagonal Fisher, 16 steps", Saliency::diagonal, Update::none, true},
      {"M-FAC, independent, 16 steps", Saliency::inverse, Update::independent, true},
      {"M-FAC, joint, 16 steps", Saliency::inverse, Update::joint, true}};
  const bool quick = experiment.quick;
  const Numbers sparsities = quick ? Numbers{0.9} : Numbers{0.7, 0.8, 0.9, 0.95, 0.98};
  const int seeds = quick ? 1 : 3, epochs = quick ? 3 : 10, steps = quick ? 4 : 16;
  const Size m = quick ? 64 : 256;
  constexpr double damping = 1e-5;
  // accuracy[method][sparsity] of each seed
  std::vector<std::vector<Numbers>> accuracy(methods.size(),
                                             std::vector<Numbers>(sparsities.size()));
  Numbers dense;
  const double start = seconds();
  for (int seed = 1; seed <= seeds; ++seed) {
    const Network<float> network(quick ? example::Shape{.hidden = {20}} : example::Shape{});
    Floats trained = network.initial(static_cast<std::uint64_t>(seed));
    example::train(network, experiment.train, trained, example::sgd(0.9, 1e-4),
                   {.epochs = epochs, .rate = 0.03, .seed = static_cast<std::uint64_t>(seed)});
    dense.push_back(100 * network.accuracy(trained, experiment.test));
    const Numbers weights(trained.begin(), trained.end());
    mfac::PruneOptions options;
    options.fisher.damping = damping;
    for (const example::Part& part : network.parts())
      options.layers.push_back({part.rows, part.columns, !part.bias});
    const auto gradients_at = [&](std::span<const double> w, int step) {
      return some_gradients(network, experiment.train, Floats(w.begin(), w.end()), m,
                            static_cast<std::uint64_t>(seed), step);
    };
    const mfac::Gradients first = gradients_at(weights, 0);
    for (std::size_t s = 0; s < sparsities.size(); ++s)
      for (std::size_t k = 0; k < methods.size(); ++k) {
        options.sparsity = sparsities[s];
        options.saliency = methods[k].saliency;
        options.update = methods[k].update;
        const mfac::Pruned pruned =
            methods[k].again
                ? mfac::prune_gradually([&](std::span<double> w, std::span<const std::uint8_t>,
                                            int step) { return gradients_at(w, step); },
                                        weights, options, {.steps = steps})
                      .last
                : mfac::prune(first, weights, options);
        const Floats now(pruned.weights.begin(), pruned.weights.end());
        accuracy[k][s].push_back(100 * network.accuracy(now, experiment.test));
      }
    std::fprintf(stderr, "pruning: seed %d done after %.0f s\n", seed, seconds() - start);
  }
  const Spread whole = spread_of(dense);
  std::string markdown = "Test accuracy after pruning, %, no training afterwards; dense " +
                         halfulp::number_text(static_cast<float>(whole.mean)) + "\n\n| pruned, % |";
  halfulp::Table table;
  halfulp::mfac::Panel panel{
      "Fashion-MNIST, " + std::to_string(seeds) + " seeds", "pruned, %", "test accuracy, %", {}};
  Numbers percent;
  for (const double s : sparsities) percent.push_back(100 * s);
  table.names.emplace_back("sparsity");
  table.columns.push_back(sparsities);
  for (std::size_t k = 0; k < methods.size(); ++k) {
    markdown += std::string(" ") + methods[k].name + " |";
    halfulp::mfac::Curve curve{methods[k].name, percent, {}, {}};
    for (std::size_t s = 0; s < sparsities.size(); ++s) {
      const Spread here = spread_of(accuracy[k][s]);
      curve.y.push_back(here.mean);
      curve.deviation.push_back(here.deviation);
    }
    table.names.push_back(std::string(methods[k].name) + " mean");
    table.columns.push_back(curve.y);
    table.names.push_back(std::string(methods[k].name) + " deviation");
    table.columns.push_back(curve.deviation);
    panel.curves.push_back(std::move(curve));
  }
  markdown += "\n|";
  for (std::size_t k = 0; k <= methods.size(); ++k) markdown += "---:|";
  for (std::size_t s = 0; s < sparsities.size(); ++s) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), "\n| %g |", percent[s]);
    markdown += text.data();
    for (const auto& curve : panel.curves) {
      std::snprintf(text.data(), text.size(), " %.1f ± %.1f |", curve.y[s], curve.deviation[s]);
      markdown += text.data();
    }
  }
  std::printf("%s\n\n", markdown.c_str());
  const std::size_t at = quick ? 0 : 2;
  const auto& curves = panel.curves;
  // 64 gradients in 4 steps are enough for the last one only
  const bool ordered =
      curves[0].y[at] < curves[6].y[at] &&
      (quick || (curves[0].y[at] < curves[2].y[at] && curves[2].y[at] < curves[3].y[at] &&
                 curves[3].y[at] < curves[6].y[at]));
  if (!experiment.out.empty()) {
    halfulp::write_csv(experiment.out / "pruning.csv", table);
    halfulp::write_file_atomic(experiment.out / "pruning.md", markdown + "\n");
    halfulp::write_file_atomic(
        experiment.out / "pruning.svg",
        halfulp::mfac::draw_svg(
            {"Pruning a network of " +
                 std::to_string(Network<float>(example::Shape{}).parameters()) +
                 " weights without training it again",
             {"m = " + std::to_string(m) + " gradients of single images",
              "damping " + halfulp::number_text(damping), "bands: one standard deviation"},
             {panel}}));
  }
  return ordered;
}

// ---- optimisation -------------------------------------------------------------------------------

/// v = momentum v + H^-1 g over the last m gradients; w -= rate (v + decay w).
example::Step window_step(Size m, Size d, double damping, double momentum, double decay) {
  struct State {
    mfac::Window window;
    Floats direction, velocity;
  };
  mfac::WindowOptions options;
  options.damping = damping;
  options.normalisation = mfac::Normalisation::window;
  const auto state = std::make_shared<State>(State{mfac::Window(m, d, options),
                                                   Floats(static_cast<std::size_t>(d)),
                                                   Floats(static_cast<std::size_t>(d))});
  return [=](std::span<const float> gradient, std::span<float> weights, double rate) {
    static_cast<void>(state->window.step(gradient, state->direction));
    for (std::size_t j = 0; j < weights.size(); ++j) {
      float& v = state->velocity[j];
      v = static_cast<float>(momentum) * v + state->direction[j];
      weights[j] -= static_cast<float>(rate) * (v + static_cast<float>(decay) * weights[j]);
    }
  };
}

struct Optimiser {
  const char* name;
  Numbers rates;  ///< tried on the validation images
  std::function<example::Step()> make;
};

bool optimise(const Experiment& experiment) {
  const bool quick = experiment.quick;
  const Network<float> network(quick ? example::Shape{.hidden = {20}} : example::Shape{});
  const Size m = quick ? 16 : 64, d = network.parameters();
  const int seeds = quick ? 1 : 5, epochs = quick ? 3 : 4;
  constexpr double decay = 1e-4;
  std::vector<Optimiser> optimisers = {
      {"SGD, momentum 0.9", {0.01, 0.03, 0.1}, [=] { return example::sgd(0.9, decay); }},
      {"Adam", {0.001, 0.002, 0.005}, [=] { return example::adam(decay); }}};
  const double damping = quick ? 1 : 0.01;
  optimisers.push_back(
      {"M-FAC", {3e-4, 1e-3, 3e-3}, [=] { return window_step(m, d, damping, 0.9, decay); }});
  if (quick)
    for (Optimiser& one : optimisers) one.rates = {one.name[0] == 'M' ? 0.03 : one.rates[1]};
  struct Run {
    Numbers loss, accuracy;
    double seconds = 0;
  };
  const auto run = [&](const Optimiser& one, double rate, std::uint64_t seed,
                       const Images<float>& held_out) {
    Floats weights = network.initial(seed);
    Run out;
    const double start = seconds();
    example::train(network, experiment.train, weights, one.make(),
                   {.epochs = epochs,
                    .batch = quick ? 32 : 128,
                    .rate = rate,
                    .seed = seed,
                    .mask = {},
                    .after_epoch = [&](int, std::span<const float> now, double loss) {
                      out.loss.push_back(loss);
                      out.accuracy.push_back(100 * network.accuracy(now, held_out));
                    }});
    out.seconds = seconds() - start;
    return out;
  };
  halfulp::mfac::Panel losses{"training loss", "epoch", "mean of the epoch", {}};
  halfulp::mfac::Panel accuracies{"test accuracy", "epoch", "%", {}};
  std::string markdown =
      "| optimiser | rate | training loss | test accuracy, % | seconds a run |\n"
      "|---|---:|---:|---:|---:|\n";
  halfulp::Table table;
  bool learnt = true;
  Numbers epoch;
  for (int e = 1; e <= epochs; ++e) epoch.push_back(e);
  table.names.emplace_back("epoch");
  table.columns.push_back(epoch);
  for (const Optimiser& one : optimisers) {
    double best_rate = one.rates[0], best = -1;
    for (const double rate : one.rates) {  // a seed that is not among the five
      const double found =
          one.rates.size() > 1 ? run(one, rate, 99, experiment.validation).accuracy.back() : 0;
      std::fprintf(stderr, "%s, rate %g: %.2f on the validation images\n", one.name, rate, found);
      if (found > best) best = found, best_rate = rate;
    }
    std::vector<Run> runs;
    for (int seed = 1; seed <= seeds; ++seed)
      runs.push_back(run(one, best_rate, static_cast<std::uint64_t>(seed), experiment.test));
    const std::string name = std::string(one.name) + ", rate " + halfulp::number_text(best_rate);
    halfulp::mfac::Curve loss{name, epoch, {}, {}}, accuracy = loss;
    for (std::size_t e = 0; e < epoch.size(); ++e) {
      Numbers l, a;
      for (const Run& each : runs) l.push_back(each.loss[e]), a.push_back(each.accuracy[e]);
      loss.y.push_back(spread_of(l).mean);
      loss.deviation.push_back(spread_of(l).deviation);
      accuracy.y.push_back(spread_of(a).mean);
      accuracy.deviation.push_back(spread_of(a).deviation);
    }
    Numbers times;
    for (const Run& each : runs) times.push_back(each.seconds);
    std::array<char, 200> text{};
    std::snprintf(text.data(), text.size(), "| %s | %g | %.4f ± %.4f | %.2f ± %.2f | %.1f |\n",
                  one.name, best_rate, loss.y.back(), loss.deviation.back(), accuracy.y.back(),
                  accuracy.deviation.back(), *std::min_element(times.begin(), times.end()));
    markdown += text.data();
    learnt = learnt && accuracy.y.back() > (quick ? 50 : 80);
    for (const auto& [what, curve] :
         {std::pair<const char*, const halfulp::mfac::Curve*>{"loss", &loss},
          {"accuracy", &accuracy}}) {
      table.names.push_back(std::string(one.name) + " " + what);
      table.columns.push_back(curve->y);
      table.names.push_back(std::string(one.name) + " " + what + " deviation");
      table.columns.push_back(curve->deviation);
    }
    losses.curves.push_back(std::move(loss));
    accuracies.curves.push_back(std::move(accuracy));
  }
  std::printf("%s\n", markdown.c_str());
  if (!experiment.out.empty()) {
    halfulp::write_csv(experiment.out / "optimisers.csv", table);
    halfulp::write_file_atomic(experiment.out / "optimisers.md", markdown);
    halfulp::write_file_atomic(
        experiment.out / "optimisers.svg",
        halfulp::mfac::draw_svg(
            {"Optimisers on Fashion-MNIST, last iterates",
             {std::to_string(seeds) + " seeds",
              std::to_string(epochs) + " epochs of batches of 128",
              "window m = " + std::to_string(m) + ", damping 0.01",
              "rates chosen on 10000 validation images", "bands: one standard deviation"},
             {losses, accuracies}}));
  }
  return learnt;
}

// ---- wrong labels -------------------------------------------------------------------------------

bool influence(const Experiment& experiment) {
  const bool quick = experiment.quick;
  const Network<float> network(quick ? example::Shape{.hidden = {20}} : example::Shape{});
  const Size n = std::min<Size>(experiment.train.size(), quick ? 1000 : 5000), flipped = n / 10;
  const Size m = quick ? 50 : 250, d = network.parameters();
  const int seeds = quick ? 1 : 3, epochs = quick ? 4 : 10;
  const std::vector<const char*> names = {"loss", "gradient norm", "self-influence",
                                          "influence on validation loss"};
  std::vector<Numbers> precision(names.size());
  for (int seed = 1; seed <= seeds; ++seed) {
    const auto key = static_cast<std::uint64_t>(seed);
    Images<float> images = experiment.train.part(0, n);
    const auto order = example::shuffled(n, key, 9000);
    std::vector<std::uint8_t> wrong(static_cast<std::size_t>(n));
    const halfulp::RandomStream random(key, 9001);
    for (Size i = 0; i < flipped; ++i) {
      const auto at = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
      const auto shift = 1 + random.below(static_cast<std::uint64_t>(i), 9);
      images.labels[at] = static_cast<std::uint8_t>((images.labels[at] + shift) % 10);
      wrong[at] = 1;
    }
    Floats weights = network.initial(key);
    example::train(network, images, weights, example::sgd(0.9, 1e-4),
                   {.epochs = epochs, .rate = 0.03, .seed = key});
    const mfac::Gradients rows = some_gradients(network, images, weights, m, key, 0);
    mfac::Options damped;
    damped.damping = 1e-2;
    damped.precision = mfac::Precision::float64;  // a ranking needs no more
    const mfac::Estimator fisher(rows, damped);
    Floats gradient(static_cast<std::size_t>(d));
    std::vector<Size> all(static_cast<std::size_t>(experiment.validation.size()));
    std::iota(all.begin(), all.end(), Size{0});
    network.gradient(weights, experiment.validation, all, gradient);
    Numbers direction(gradient.begin(), gradient.end());
    static_cast<void>(
        fisher.inverse_product(std::span<const double>(direction), std::span<double>(direction)));
    std::vector<Numbers> score(names.size(), Numbers(static_cast<std::size_t>(n)));
    std::vector<std::uint8_t> classes(static_cast<std::size_t>(n));
    network.evaluate(weights, images, score[0], classes);
    constexpr Size chunk = 500;
    for (Size first = 0; first < n; first += chunk) {
      const Size count = std::min(chunk, n - first);
      std::vector<Size> index(static_cast<std::size_t>(count));
      std::iota(index.begin(), index.end(), first);
      Floats g(static_cast<std::size_t>(count * d));
      network.sample_gradients(weights, images, index, g);
      const Numbers x(g.begin(), g.end());
      const auto part = [&](std::size_t k) {
        return std::span(score[k]).subspan(static_cast<std::size_t>(first),
                                           static_cast<std::size_t>(count));
      };
      // all at once; Estimator::quadratic_form would have more digits, one after the other
      Numbers y(x.size());
      static_cast<void>(fisher.inverse_product(std::span<const double>(x), std::span<double>(y)));
      for (Size i = 0; i < count; ++i) {
        const double* const row = x.data() + i * d;
        part(1)[static_cast<std::size_t>(i)] = std::inner_product(row, row + d, row, 0.0);
        part(2)[static_cast<std::size_t>(i)] =
            std::inner_product(row, row + d, y.data() + i * d, 0.0);
        // harmful where a step against the image's loss raises the validation loss
        part(3)[static_cast<std::size_t>(i)] =
            -std::inner_product(row, row + d, direction.begin(), 0.0);
      }
    }
    for (std::size_t k = 0; k < names.size(); ++k) {
      std::vector<Size> rank(static_cast<std::size_t>(n));
      std::iota(rank.begin(), rank.end(), Size{0});
      std::stable_sort(rank.begin(), rank.end(), [&](Size a, Size b) {
        return score[k][static_cast<std::size_t>(a)] > score[k][static_cast<std::size_t>(b)];
      });
      Size found = 0;
      for (Size i = 0; i < flipped; ++i)
        found += wrong[static_cast<std::size_t>(rank[static_cast<std::size_t>(i)])];
      precision[k].push_back(static_cast<double>(found) / static_cast<double>(flipped));
    }
  }
  std::string markdown = "| ranked by | precision at 10 % |\n|---|---:|\n";
  for (std::size_t k = 0; k < names.size(); ++k) {
    const Spread here = spread_of(precision[k]);
    std::array<char, 120> text{};
    std::snprintf(text.data(), text.size(), "| %s | %.3f ± %.3f |\n", names[k], here.mean,
                  here.deviation);
    markdown += text.data();
  }
  std::printf("%s\n", markdown.c_str());
  if (!experiment.out.empty())
    halfulp::write_file_atomic(experiment.out / "influence.md", markdown);
  return spread_of(precision[2]).mean > 0.3;  // by chance: 0.1
}

Experiment real(const fs::path& data, const fs::path& out) {
  const Images<float> all =
      example::read_images(data / "train-images-idx3-ubyte", data / "train-labels-idx1-ubyte");
  fs::create_directories(out);
  return {all.part(0, 50000), all.part(50000, 10000),
          example::read_images(data / "t10k-images-idx3-ubyte", data / "t10k-labels-idx1-ubyte"),
          out, false};
}

Experiment synthetic() {
  return {example::synthetic_images(2000, 1),
          example::synthetic_images(500, 1, 2000),
          example::synthetic_images(1000, 1, 2500),
          {},
          true};
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc == 2 || argc > 4) {
    std::fprintf(stderr, "usage: example_mfac_fashion [FOLDER OUT [prune|optimise|influence]]\n");
    return 2;
  }
  const Experiment experiment = argc > 1 ? real(argv[1], argv[2]) : synthetic();
  const std::string only = argc > 3 ? argv[3] : "";
  const auto wanted = [&](const char* name) { return only.empty() || only == name; };
  bool good = true;
  if (wanted("prune")) good = prune(experiment) && good;
  if (wanted("optimise")) good = optimise(experiment) && good;
  if (wanted("influence")) good = influence(experiment) && good;
  return good ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "example_mfac_fashion: %s\n", error.what());
  return 1;
}
