#include "halfulp/vmf_mixture.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <tuple>
#include <utility>

#include "halfulp/npy.hpp"
#include "halfulp/random.hpp"
#include "halfulp/vmf_picture.hpp"
#include "terminal_progress.hpp"
#include "vmf.hpp"

namespace {

namespace vmf = halfulp::vmf;
namespace fs = std::filesystem;
using nlohmann::json;

struct Options {
  std::string points, weights, start = "kmeans++", image;
  std::ptrdiff_t components = 0;
  bool hard = false, shared = false, normalise = false;
  int restarts = 1, iterations = 500;
  std::optional<double> tolerance, kappa_limit;
};

/// What both verbs report of a component.
struct Row {
  double weight, kappa, kappa_error, mean_length, count;
};

struct Outcome {
  std::string command;
  halfulp::Report report;
  std::vector<Row> rows;
  std::vector<double> means;  ///< K rows of p numbers
  std::vector<double> trace;
  std::vector<std::int32_t> assignment;
  std::vector<int> reseeded;
  std::string trace_label;
  json result;  ///< what only this verb has
  std::vector<std::pair<std::string, double>> facts;
  double seconds = 0;
};

struct Input {
  Points points;
  /// In place of points.values where the file is in single precision: half the memory.
  std::vector<float> single;
  std::vector<double> weights;
  std::vector<double> start;  ///< means to begin with; empty: k-means++

  explicit Input(const Options& options) {
    if (in_single_precision(options)) {
      auto array = halfulp::read_npy<float>(options.points);
      points.n = array.shape[0];
      points.p = array.shape[1];
      single = std::move(array.values);
    } else {
      points = read_points(options.points);
    }
    if (!options.weights.empty()) weights = read_numbers(options.weights);
  }

  /// f(the points as a span of their type).
  template <class F>
  auto visit(F f) const {
    return single.empty() ? f(std::span<const double>(points.values))
                          : f(std::span<const float>(single));
  }

 private:
  /// But not where pictures draw the points, which they take in double.
  static bool in_single_precision(const Options& options) {
    if (!ends_with(options.points, ".npy") || options.components == 1) return false;
    const halfulp::NpyHeader header = halfulp::read_npy_header(options.points);
    return header.type == halfulp::NpyType::float32 && header.shape.size() == 2 &&
           header.shape[1] > 3;
  }
};

/// Errors of the library with the file they are about.
template <class F>
auto explained(const Options& options, const Input& input, F f) {
  const auto of = [&](const std::string& argument) -> const std::string& {
    const bool of_weights = argument.find("weights") != std::string::npos && !input.weights.empty();
    const bool of_start = argument.find("start") != std::string::npos && !input.start.empty() &&
                          options.start != "random";
    return of_weights ? options.weights : of_start ? options.start : options.points;
  };
  try {
    return f();
  } catch (const halfulp::DomainError& error) {
    throw halfulp::IoError(of(error.argument()), error.what());
  } catch (const halfulp::ShapeError& error) {
    throw halfulp::IoError(of(error.argument()), error.what());
  }
}

/// K rows drawn without replacement, in the order in which they were drawn.
std::vector<double> random_rows(const Input& input, std::ptrdiff_t components, std::uint64_t seed) {
  const Points& points = input.points;
  std::vector<std::ptrdiff_t> order(static_cast<std::size_t>(points.n));
  std::iota(order.begin(), order.end(), std::ptrdiff_t{0});
  const halfulp::RandomStream random(seed);
  std::vector<double> rows;
  for (std::ptrdiff_t k = 0; k < std::min(components, points.n); ++k) {
    const auto place = static_cast<std::uint64_t>(k);
    std::swap(order[place],
              order[place + random.below(place, static_cast<std::uint64_t>(points.n) - place)]);
    input.visit([&](auto values) {
      const auto from = values.begin() + order[place] * points.p;
      rows.insert(rows.end(), from, from + points.p);
    });
  }
  return rows;
}

void choose_start(const Options& options, const Common& common, Input& input) {
  if (options.start == "kmeans++") return;
  if (options.restarts != 1)
    throw halfulp::DomainError("vmf", "--restarts", std::to_string(options.restarts),
                               "1 with --start " + options.start);
  if (options.start == "random") {
    input.start = random_rows(input, options.components, common.seed);
    return;
  }
  const Points means = read_points(options.start);
  if (means.n != options.components || means.p != input.points.p)
    throw halfulp::IoError(options.start, std::to_string(means.n) + " rows of " +
                                              std::to_string(means.p) + ", must be " +
                                              std::to_string(options.components) + " of " +
                                              std::to_string(input.points.p));
  input.start = means.values;
}

json report_json(const Options& options, const Common& common, const Input& input,
                 const Outcome& outcome) {
  json echo = common.options_json();
  echo.update({{"points", options.points},
               {"weights", options.weights},
               {"components", options.components},
               {"normalise", options.normalise},
               {"start", options.start},
               {"restarts", options.restarts},
               {"iterations", options.iterations}});
  json result = outcome.result;
  for (const char* key : {"weights", "kappa", "standard_error", "mean_length", "counts", "trace"})
    result[key] = json::array();
  for (const Row& row : outcome.rows) {
    result["weights"].push_back(number_json(row.weight));
    result["kappa"].push_back(number_json(row.kappa));
    result["standard_error"].push_back(number_json(row.kappa_error));
    result["mean_length"].push_back(number_json(row.mean_length));
    result["counts"].push_back(number_json(row.count));
  }
  for (const double v : outcome.trace) result["trace"].push_back(number_json(v));
  result.update({{"reseeded", outcome.reseeded},
                 {"n", input.points.n},
                 {"p", input.points.p},
                 {"seconds", outcome.seconds}});
  const halfulp::Report& report = outcome.report;
  return nlohmann::json{{"options", echo},
                        {"report",
                         {{"status", std::string(halfulp::to_string(report.status))},
                          {"iterations", report.iterations},
                          {"residual", number_json(report.residual)},
                          {"tolerance", report.tolerance}}},
                        {"result", result}};
}

std::string picture_of(const Options& options, const Input& input, const Outcome& outcome) {
  vmf::Picture picture;
  picture.title = outcome.command + ": " + fs::path(options.points).filename().string();
  picture.facts = {std::to_string(input.points.n) + " directions in " +
                       std::to_string(input.points.p) + " dimensions",
                   std::to_string(outcome.rows.size()) + " components"};
  for (const auto& [name, value] : outcome.facts)
    picture.facts.push_back(name + ' ' + halfulp::number_text(static_cast<float>(value)));
  if (!outcome.report.ok())
    picture.alarm = "Not converged: " + std::string(halfulp::to_string(outcome.report.status)) +
                    " after " + std::to_string(outcome.report.iterations) + " iterations";
  const auto p = static_cast<std::size_t>(input.points.p);
  for (std::size_t k = 0; k < outcome.rows.size(); ++k) {
    const Row& row = outcome.rows[k];
    const auto from = outcome.means.begin() + static_cast<std::ptrdiff_t>(k * p);
    picture.components.push_back(
        {.weight = row.weight,
         .kappa_error = std::isfinite(row.kappa_error) ? row.kappa_error : 0,
         .mean_length = row.mean_length,
         .count = row.count,
         .distribution = {{from, from + static_cast<std::ptrdiff_t>(p)}, row.kappa}});
  }
  picture.points = input.points.values;
  picture.weights = input.weights;
  picture.trace = outcome.trace;
  picture.trace_label = outcome.trace_label;
  if (!options.image.empty())
    std::tie(picture.image_rows, picture.image_columns) = image_size(options.image, input.points.p);
  return vmf::draw_svg(picture);
}

std::string text_of(const Options& options, const Common& common, const Input& input,
                    const Outcome& outcome) {
  std::string text = options.points + ": " + std::to_string(input.points.n) + " directions in " +
                     std::to_string(input.points.p) + " dimensions, " +
                     std::to_string(outcome.rows.size()) + " components\n  " +
                     std::string(halfulp::to_string(outcome.report.status)) + " after " +
                     std::to_string(outcome.report.iterations) + " iterations, " +
                     halfulp::number_text(static_cast<float>(outcome.seconds)) + " s\n";
  for (const auto& [name, value] : outcome.facts)
    text += "  " + name + ' ' + common.number(value) + '\n';
  const auto column = [&](std::string cell, std::size_t width) {
    return cell.size() < width ? std::string(width - cell.size(), ' ') + cell : " " + cell;
  };
  text += column("no.", 6) + column("weight", 24) + column("kappa", 24) +
          column("mean length", 24) + column("count", 24) + '\n';
  for (std::size_t k = 0; k < outcome.rows.size(); ++k) {
    const Row& row = outcome.rows[k];
    text += column(std::to_string(k), 6);
    for (const double v : {row.weight, row.kappa, row.mean_length, row.count})
      text += column(common.number(v), 24);
    text += '\n';
  }
  return text;
}

/// Folder with what was found: all but the model itself, which the caller writes.
void write_folder(const Options& options, const Common& common, const Input& input,
                  const Outcome& outcome, const json& report) {
  const fs::path folder = common.out;
  halfulp::write_npy<std::int32_t>(folder / "assignment.npy", outcome.assignment, {input.points.n});
  halfulp::write_file_atomic(folder / "picture.svg", picture_of(options, input, outcome));
  nlohmann::ordered_json object = {{"schema", 1}, {"command", outcome.command}};
  object.update(nlohmann::ordered_json(report));
  halfulp::write_file_atomic(
      folder / "report.json",
      object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
}

void make_folder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder))
    throw halfulp::IoError(folder, error ? error.message() : "not a folder");
}

/// Prints and writes; `write_model` writes into the folder of --out.
void finish(const Options& options, const Common& common, Exit& exit, const Input& input,
            const Outcome& outcome, const std::function<void(const fs::path&)>& write_model) {
  const json report = report_json(options, common, input, outcome);
  if (!common.out.empty()) {
    make_folder(common.out);
    write_model(common.out);
    write_folder(options, common, input, outcome, report);
  }
  if (!outcome.reseeded.empty())
    common.warn(options.points + ": " + std::to_string(outcome.reseeded.size()) +
                " iterations gave an empty component a new place");
  if (!outcome.report.ok()) exit = Exit::not_converged;
  if (common.json) {
    nlohmann::ordered_json object = {{"schema", 1}, {"command", outcome.command}};
    object.update(nlohmann::ordered_json(report));
    std::cout << object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << '\n';
    return;
  }
  std::cout << text_of(options, common, input, outcome);
  if (!common.out.empty())
    std::cout << "model, assignment.npy, report.json and picture.svg in "
              << halfulp::escape_text(common.out) << '\n';
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void check(const Options& options, const Input& input) {
  // Before hours of work, not after.
  if (!options.image.empty()) static_cast<void>(image_size(options.image, input.points.p));
}

void run_mixture(const Options& options, const Common& common, Exit& exit) {
  common.require_cpu("vmf mixture");
  Input input(options);
  check(options, input);
  choose_start(options, common, input);
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  vmf::MixtureOptions fitting;
  fitting.data = {
      .weights = input.weights, .normalise = options.normalise, .threads = common.threads};
  fitting.em = options.hard ? vmf::Em::hard : vmf::Em::soft;
  fitting.concentration = options.shared ? vmf::Concentration::shared : vmf::Concentration::free;
  fitting.max_kappa = options.kappa_limit.value_or(fitting.max_kappa);
  fitting.tolerance = options.tolerance.value_or(fitting.tolerance);
  fitting.max_iterations = options.iterations;
  fitting.runs = options.restarts;
  fitting.seed = common.seed;
  fitting.start.means = input.start;
  fitting.progress = terminal.callback();
  const auto start = std::chrono::steady_clock::now();
  const vmf::MixtureFit fit = explained(options, input, [&] {
    return input.visit([&](auto values) {
      return vmf::fit_mixture(values, input.points.p, options.components, fitting);
    });
  });
  Outcome outcome;
  outcome.command = "vmf mixture";
  outcome.trace_label = "log-likelihood";
  outcome.seconds = seconds_since(start);
  terminal.clear();
  outcome.report = fit.report;
  outcome.trace = fit.trace;
  outcome.reseeded = fit.reseeded;
  const vmf::DataOptions data = {.normalise = options.normalise, .threads = common.threads};
  outcome.assignment =
      input.visit([&](auto values) { return vmf::assignment(fit.mixture, values, data); });
  const auto p = static_cast<double>(input.points.p);
  for (std::size_t k = 0; k < fit.mixture.components.size(); ++k) {
    const vmf::Distribution& d = fit.mixture.components[k];
    const halfulp::BesselRatio length = vmf::mean_length(p, d.kappa);
    outcome.rows.push_back({fit.mixture.weights[k], d.kappa,
                            1 / std::sqrt(fit.counts[k] * length.derivative), length.value,
                            fit.counts[k]});
    outcome.means.insert(outcome.means.end(), d.mu.begin(), d.mu.end());
  }
  outcome.result = {{"log_likelihood", number_json(fit.log_likelihood)},
                    {"aic", number_json(fit.aic)},
                    {"bic", number_json(fit.bic)},
                    {"parameters", fit.parameters},
                    {"run", fit.run},
                    {"em", options.hard ? "hard" : "soft"},
                    {"concentration", options.shared ? "shared" : "free"},
                    {"kappa_limit", fitting.max_kappa}};
  outcome.facts = {{"log-likelihood", fit.log_likelihood}, {"AIC", fit.aic}, {"BIC", fit.bic}};
  finish(options, common, exit, input, outcome, [&](const fs::path& folder) {
    vmf::save_mixture(fit.mixture, folder, json(outcome.result).dump());
  });
}

/// Of the rows that are assigned to k.
vmf::Resultant resultant_of(const Input& input, const std::vector<std::int32_t>& assignment,
                            std::ptrdiff_t k, vmf::DataOptions options) {
  return input.visit([&]<class T>(std::span<const T> values) -> vmf::Resultant {
    std::vector<T> rows;
    std::vector<double> weights;
    rows.reserve(static_cast<std::size_t>(std::ranges::count(assignment, k) * input.points.p));
    for (std::size_t i = 0; i < assignment.size(); ++i) {
      if (assignment[i] != k) continue;
      const auto from = values.begin() + static_cast<std::ptrdiff_t>(i) * input.points.p;
      rows.insert(rows.end(), from, from + input.points.p);
      if (!input.weights.empty()) weights.push_back(input.weights[i]);
    }
    if (rows.empty()) return {};
    options.weights = weights;
    return vmf::resultant(std::span<const T>(rows), input.points.p, options);
  });
}

void run_kmeans(const Options& options, const Common& common, Exit& exit) {
  common.require_cpu("vmf kmeans");
  Input input(options);
  check(options, input);
  choose_start(options, common, input);
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  vmf::KMeansOptions fitting;
  fitting.data = {
      .weights = input.weights, .normalise = options.normalise, .threads = common.threads};
  fitting.tolerance = options.tolerance.value_or(fitting.tolerance);
  fitting.max_iterations = options.iterations;
  fitting.runs = options.restarts;
  fitting.seed = common.seed;
  fitting.means = input.start;
  fitting.progress = terminal.callback();
  const auto start = std::chrono::steady_clock::now();
  const vmf::KMeans found = explained(options, input, [&] {
    return input.visit([&](auto values) {
      return vmf::spherical_kmeans(values, input.points.p, options.components, fitting);
    });
  });
  Outcome outcome;
  outcome.command = "vmf kmeans";
  outcome.trace_label = "sum of cosines";
  outcome.seconds = seconds_since(start);
  terminal.clear();
  outcome.report = found.report;
  outcome.trace = found.trace;
  outcome.reseeded = found.reseeded;
  outcome.assignment = found.assignment;
  outcome.means = found.means;
  // How concentrated each part is: the mean length and the fitted kappa of its rows.
  const auto p = static_cast<double>(input.points.p);
  const double total = std::accumulate(found.counts.begin(), found.counts.end(), 0.0);
  for (std::ptrdiff_t k = 0; k < options.components; ++k) {
    const vmf::Resultant r = resultant_of(
        input, found.assignment, k, {.normalise = options.normalise, .threads = common.threads});
    if (r.count == 0) {
      outcome.rows.push_back({0, 0, 0, 0, 0});
      continue;
    }
    const double kappa = std::min(vmf::kappa_complement(p, r.complement), 1e15);
    const double count = found.counts[static_cast<std::size_t>(k)];
    outcome.rows.push_back({count / total, kappa,
                            1 / std::sqrt(count * vmf::mean_length(p, kappa).derivative), r.length,
                            count});
  }
  outcome.result = {
      {"objective", found.objective}, {"mean_cosine", found.objective / total}, {"run", found.run}};
  outcome.facts = {{"mean cosine", found.objective / total}};
  finish(options, common, exit, input, outcome, [&](const fs::path& folder) {
    halfulp::write_npy<double>(folder / "means.npy", found.means,
                               {options.components, input.points.p});
  });
}

}  // namespace

void add_vmf_mixture(CLI::App& module, const Common& common, Exit& exit) {
  const auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, const char* help,
                       void (*run)(const Options&, const Common&, Exit&)) {
    auto* verb = module.add_subcommand(name, help);
    verb->fallthrough();
    verb->callback([options, &common, &exit, run] { run(*options, common, exit); });
    verb->add_option("X", options->points,
                     "points, one a row: NPY (n, p), or a table of numbers as text")
        ->required();
    verb->add_option("--components", options->components, "how many, K")->required();
    verb->add_option("--weights", options->weights, "frequencies >= 0, one a row of X");
    verb->add_flag("--normalise", options->normalise, "divide each row by its norm");
    verb->add_option("--start", options->start,
                     "kmeans++, random (rows), or a file with K rows to begin with as means")
        ->capture_default_str();
    verb->add_option("--restarts", options->restarts,
                     "runs from different k-means++ starts, the best is kept")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    verb->add_option("--iterations", options->iterations, "at most so many in a run")
        ->check(CLI::Range(1, 1000000000))
        ->capture_default_str();
    verb->add_option("--image", options->image,
                     "ROWSxCOLUMNS: the picture shows mean directions as images");
    return verb;
  };
  auto* mixture =
      add("mixture", "mixture by EM: weights, mean directions, concentrations", run_mixture);
  add_number(*mixture, "--tolerance", options->tolerance,
             "stop when an iteration gains less in the mean log-likelihood of a row [1e-6]");
  mixture->add_flag("--hard", options->hard, "each row belongs to its likeliest component");
  mixture->add_flag("--shared-kappa", options->shared, "one concentration for all components");
  add_number(*mixture, "--kappa-limit", options->kappa_limit,
             "upper bound of every concentration [1e8]");
  mixture->footer(
      "--out DIR: the model (mixture.json, means.npy), assignment.npy, report.json, picture.svg.\n"
      "Sample:\n  halfulp vmf mixture X.npy --components 10 --restarts 5 --out clusters");
  auto* kmeans = add("kmeans", "spherical k-means", run_kmeans);
  add_number(*kmeans, "--tolerance", options->tolerance,
             "stop when an iteration gains less in the mean cosine of a row [1e-7]");
  kmeans->footer(
      "--out DIR: means.npy, assignment.npy, report.json, picture.svg.\n"
      "Sample:\n  halfulp vmf kmeans X.npy --components 10 --out clusters");
}
