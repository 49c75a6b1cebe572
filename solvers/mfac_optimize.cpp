#include <chrono>
#include <cmath>
#include <memory>

#include "../docs/examples/network.hpp"
#include "halfulp/csv.hpp"
#include "halfulp/mfac_optimizer.hpp"
#include "halfulp/mfac_picture.hpp"
#include "halfulp/npy.hpp"
#include "mfac.hpp"
#include "terminal_progress.hpp"

// A small classifier trained on the user's rows and labels: the network is that of the examples.
namespace {

namespace fs = std::filesystem;
namespace mfac = halfulp::mfac;
using nlohmann::json;
using Size = std::ptrdiff_t;
using Images = example::Images<float>;

struct Options {
  std::string points, labels, test_points, test_labels, hidden = "40,20", method = "mfac";
  std::optional<double> damping, rate, momentum, decay;
  Size size = 64, batch = 128;
  int epochs = 4;
};

/// Mean and deviation of all numbers: what inputs are shifted and divided by.
struct Scale {
  double mean = 0, deviation = 1;
};

Scale scale_of(const Points& points) {
  double sum = 0, squares = 0;
  for (const double v : points.values) sum += v;
  Scale scale{sum / static_cast<double>(points.values.size()), 1};
  for (const double v : points.values) squares += (v - scale.mean) * (v - scale.mean);
  scale.deviation = std::sqrt(squares / static_cast<double>(points.values.size()));
  if (!(scale.deviation > 0)) scale.deviation = 1;
  return scale;
}

Points read_inputs(const std::string& file) {
  Points points = read_points(file);
  if (points.n < 1 || points.p < 1) throw halfulp::IoError(file, "no rows, must be one or more");
  for (std::size_t i = 0; i < points.values.size(); ++i)
    if (!std::isfinite(points.values[i]))
      throw halfulp::IoError(file, "row " + std::to_string(static_cast<Size>(i) / points.p) +
                                       " has " + halfulp::number_text(points.values[i]) +
                                       ", must be finite");
  return points;
}

Images images_of(const Points& points, const Scale& scale, const std::string& file) {
  Images images{1, points.p, {}, {}};
  images.pixels.reserve(points.values.size());
  for (const double v : points.values)
    images.pixels.push_back(static_cast<float>((v - scale.mean) / scale.deviation));
  const std::vector<double> labels = read_numbers(file);
  if (std::ssize(labels) != points.n)
    throw halfulp::IoError(file, std::to_string(labels.size()) + " labels, must be " +
                                     std::to_string(points.n) + ", one for each row");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (!(labels[i] >= 0 && labels[i] <= 255 && std::floor(labels[i]) == labels[i]))
      throw halfulp::IoError(file, "label " + std::to_string(i) + " = " +
                                       halfulp::number_text(labels[i]) +
                                       ", must be a whole number from 0 to 255");
    images.labels.push_back(static_cast<std::uint8_t>(labels[i]));
  }
  return images;
}

std::vector<Size> hidden_of(const std::string& text) {
  std::vector<Size> sizes;
  for (std::size_t begin = 0; begin <= text.size() && !text.empty();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const double value =
        halfulp::parse_number(std::string_view(text).substr(begin, end - begin)).value_or(0);
    if (!(value >= 1 && value <= 1e6) || std::floor(value) != value)
      throw halfulp::DomainError("mfac optimize", "--hidden", text,
                                 "widths of hidden layers between commas");
    sizes.push_back(static_cast<Size>(value));
    begin = end + 1;
  }
  return sizes;
}

/// One row an epoch.
struct Curves {
  std::vector<double> epoch, loss, accuracy, test_loss, test_accuracy;
};

void run_optimize(const Options& options, const Common& common) {
  common.require_cpu("mfac optimize");
  if (options.test_points.empty() != options.test_labels.empty())
    throw halfulp::DomainError("mfac optimize", "--test-x and --test-labels", "one",
                               "both or neither");
  const Points points = read_inputs(options.points);
  const Scale scale = scale_of(points);
  const Images images = images_of(points, scale, options.labels);
  Images held_out;
  if (!options.test_points.empty()) {
    const Points rows = read_inputs(options.test_points);
    if (rows.p != points.p)
      throw halfulp::IoError(options.test_points, std::to_string(rows.p) + " columns, must be " +
                                                      std::to_string(points.p) + " as in " +
                                                      options.points);
    held_out = images_of(rows, scale, options.test_labels);
  }
  if (options.batch > points.n)
    throw halfulp::DomainError("mfac optimize", "--batch", std::to_string(options.batch),
                               "<= " + std::to_string(points.n) + ", the number of rows");
  std::uint8_t most = 1;
  for (const Images* set : {&images, static_cast<const Images*>(&held_out)})
    for (const std::uint8_t label : set->labels) most = std::max(most, label);
  example::Shape shape;
  shape.rows = 1;
  shape.columns = points.p;
  shape.hidden = hidden_of(options.hidden);
  shape.classes = most + 1;
  const example::Network<float> network(shape, common.threads);

  mfac::OptimizerOptions chosen;
  chosen.method = mfac::method_from(options.method);
  const double rate = options.rate.value_or(options.method == "sgd" ? 0.03 : 1e-3);
  chosen.rate = rate;
  chosen.momentum = options.momentum.value_or(options.method == "adam" ? 0 : 0.9);
  chosen.decay = options.decay.value_or(0);
  chosen.size = options.size;
  chosen.window.damping = options.damping.value_or(0.01);
  chosen.window.normalisation = mfac::Normalisation::window;
  chosen.threads = common.threads;
  mfac::Optimizer<float> optimizer(network.parameters(), chosen);

  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const halfulp::Progress progress = terminal.callback();
  const Size steps = options.epochs * (points.n / options.batch);
  Size done = 0;
  mfac::Diagnosis worst;
  const example::Step step = [&](std::span<const float> gradient, std::span<float> weights,
                                 double now) {
    halfulp::report_progress(progress, static_cast<double>(done) / static_cast<double>(steps),
                             "training", "mfac optimize");
    ++done;
    optimizer.set_rate(std::fmax(now, 1e-6 * rate));
    const mfac::StepReport report = optimizer.step(gradient, weights);
    worst.condition = std::fmax(worst.condition, report.diagnosis.condition);
    worst.error = std::fmax(worst.error, report.diagnosis.error);
    worst.status = std::max(worst.status, report.diagnosis.status);
  };
  std::vector<float> weights = network.initial(common.seed);
  Curves curves;
  example::Training training;
  training.epochs = options.epochs;
  training.batch = options.batch;
  training.rate = rate;
  training.seed = common.seed;
  training.after_epoch = [&](int epoch, std::span<const float> now, double train_loss) {
    curves.epoch.push_back(epoch);
    curves.loss.push_back(train_loss);
    curves.accuracy.push_back(network.accuracy(now, images));
    if (held_out.labels.empty()) return;
    double loss = 0;
    curves.test_accuracy.push_back(network.accuracy(now, held_out, &loss));
    curves.test_loss.push_back(loss);
  };
  const auto start = std::chrono::steady_clock::now();
  example::train(network, images, weights, step, training);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  terminal.clear();
  warn_of(common, options.points, worst);

  halfulp::Table table{{"epoch", "loss", "accuracy"}, {curves.epoch, curves.loss, curves.accuracy}};
  if (!held_out.labels.empty()) {
    table.names.insert(table.names.end(), {"test_loss", "test_accuracy"});
    table.columns.push_back(curves.test_loss);
    table.columns.push_back(curves.test_accuracy);
  }
  json echo = common.options_json();
  echo.update({{"points", options.points},
               {"labels", options.labels},
               {"n", points.n},
               {"p", points.p},
               {"hidden", options.hidden},
               {"parameters", network.parameters()},
               {"method", options.method},
               {"rate", rate},
               {"momentum", chosen.momentum},
               {"decay", chosen.decay},
               {"damping", chosen.window.damping},
               {"size", options.size},
               {"batch", options.batch},
               {"epochs", options.epochs}});
  json report = diagnosis_json(worst);
  report["seconds"] = seconds;
  report["steps"] = done;
  json result;
  for (std::size_t c = 0; c < table.names.size(); ++c) {
    result[table.names[c]] = json::array();
    for (const double v : table.columns[c]) result[table.names[c]].push_back(number_json(v));
  }
  const nlohmann::ordered_json object = {{"schema", 1},
                                         {"command", "mfac optimize"},
                                         {"options", echo},
                                         {"report", report},
                                         {"result", result}};
  if (!common.out.empty()) {
    const fs::path folder = common.out;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error || !fs::is_directory(folder))
      throw halfulp::IoError(common.out, error ? error.message() : "not a folder");
    halfulp::write_npy<float>(folder / "weights.npy", weights, {std::ssize(weights)});
    halfulp::write_file_atomic(folder / "curves.csv",
                               halfulp::csv_text(table, {.hex = common.hex}));
    halfulp::write_file_atomic(folder / "report.json", object.dump(2) + '\n');
    mfac::Picture picture{
        "Training with " + options.method,
        {std::to_string(points.n) + " rows of " + std::to_string(points.p) + " numbers",
         std::to_string(network.parameters()) + " weights",
         "batches of " + std::to_string(options.batch)},
        {{"loss", "epoch", "mean of the epoch", {{"training", curves.epoch, curves.loss, {}}}},
         {"accuracy", "epoch", "part right", {{"training", curves.epoch, curves.accuracy, {}}}}}};
    if (!held_out.labels.empty()) {
      picture.panels[0].curves.push_back({"held out", curves.epoch, curves.test_loss, {}});
      picture.panels[1].curves.push_back({"held out", curves.epoch, curves.test_accuracy, {}});
    }
    halfulp::write_file_atomic(folder / "picture.svg", mfac::draw_svg(picture));
  }
  if (common.json) {
    std::cout << object.dump(2) + '\n';
    return;
  }
  std::cout << halfulp::csv_text(table, {.hex = common.hex});
  if (!common.out.empty())
    std::cout << "weights.npy, curves.csv, report.json and picture.svg in "
              << halfulp::escape_text(common.out) << '\n';
}

}  // namespace

void add_mfac_optimize(CLI::App& module, const Common& common, Exit& exit) {
  static_cast<void>(exit);
  const auto options = std::make_shared<Options>();
  auto* verb = module.add_subcommand(
      "optimize", "a small network trained on rows and labels, by M-FAC, SGD or Adam");
  verb->fallthrough();
  verb->callback([options, &common] { run_optimize(*options, common); });
  verb->add_option("X", options->points, "inputs, one a row: NPY (n, p), or numbers as text")
      ->required();
  verb->add_option("L", options->labels, "classes, whole numbers from 0")->required();
  verb->add_option("--test-x", options->test_points, "rows that are held out");
  verb->add_option("--test-labels", options->test_labels, "their classes");
  verb->add_option("--hidden", options->hidden, "widths of the hidden layers; empty: none")
      ->capture_default_str();
  verb->add_option("--method", options->method, "mfac, sgd or adam")
      ->check(CLI::IsMember({"mfac", "sgd", "adam"}))
      ->capture_default_str();
  add_number(*verb, "--rate", options->rate,
             "learning rate, which falls to 0 along half a cosine; 0.03 for sgd, else 0.001");
  add_number(*verb, "--damping", options->damping, "lambda > 0 of mfac; 0.01 unless said");
  verb->add_option("--size", options->size, "gradients in the window of mfac")
      ->check(CLI::Range(Size{1}, largest_size))
      ->capture_default_str();
  add_number(*verb, "--momentum", options->momentum, "in [0, 1); 0.9, for adam 0, unless said");
  add_number(*verb, "--decay", options->decay, "decoupled decay of weights; 0 unless said");
  verb->add_option("--epochs", options->epochs)
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--batch", options->batch)
      ->check(CLI::Range(Size{1}, largest_size))
      ->capture_default_str();
}
