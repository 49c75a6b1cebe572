#include "halfulp/mfac_prune.hpp"

#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include "halfulp/npy.hpp"
#include "mfac.hpp"
#include "terminal_progress.hpp"

namespace {

namespace fs = std::filesystem;
namespace mfac = halfulp::mfac;
using nlohmann::json;
using Size = std::ptrdiff_t;

struct Options {
  std::string gradients, weights, mask, storage, saliency = "inverse", update = "joint";
  std::string scope = "global", pattern, along = "row", layers;
  std::optional<double> damping, sparsity;
  Size block = 0;
};

/// "784x40,40,40x20": a layer each; a bias, which is not pruned, where a number stands alone.
std::vector<mfac::Layer> layers_of(const std::string& text) {
  std::vector<mfac::Layer> layers;
  const auto whole = [&](std::string_view part) {
    const auto value = halfulp::parse_number(part);
    if (!value || !(*value >= 1 && *value <= 1e15) || std::floor(*value) != *value)
      throw halfulp::DomainError("mfac prune", "--layers", text,
                                 "sizes ROWSxCOLUMNS, or a number for what is not pruned, between "
                                 "commas");
    return static_cast<Size>(*value);
  };
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string_view part = std::string_view(text).substr(begin, end - begin);
    const std::size_t x = part.find('x');
    if (x == std::string_view::npos)
      layers.push_back({.rows = whole(part), .prunable = false});
    else
      layers.push_back({.rows = whole(part.substr(0, x)), .columns = whole(part.substr(x + 1))});
    begin = end + 1;
  }
  return layers;
}

mfac::Pattern pattern_of(const Options& options) {
  mfac::Pattern pattern;
  if (options.pattern.empty()) return pattern;
  const std::size_t colon = options.pattern.find(':');
  const auto count = [&](std::string_view part) {
    const double value = halfulp::parse_number(part).value_or(-1);
    if (colon == std::string::npos || !(value >= 0 && value <= 1e6) || std::floor(value) != value)
      throw halfulp::DomainError("mfac prune", "--pattern", options.pattern,
                                 "N:M, N of M neighbours stay");
    return static_cast<Size>(value);
  };
  const std::string_view text = options.pattern;
  pattern.keep = count(text.substr(0, colon));
  pattern.of = count(text.substr(colon + 1));
  pattern.along = options.along == "row" ? mfac::Pattern::Along::row : mfac::Pattern::Along::column;
  return pattern;
}

std::vector<std::uint8_t> read_mask(const std::string& file, std::size_t d) {
  if (file.empty()) return {};
  const std::vector<double> numbers = read_numbers(file);
  if (numbers.size() != d)
    throw halfulp::IoError(file, std::to_string(numbers.size()) + " numbers, must be " +
                                     std::to_string(d) + " as the weights");
  std::vector<std::uint8_t> mask(d);
  for (std::size_t j = 0; j < d; ++j) {
    if (numbers[j] != 0 && numbers[j] != 1)
      throw halfulp::IoError(file, "entry " + std::to_string(j) + " = " +
                                       halfulp::number_text(numbers[j]) + ", must be 0 or 1");
    mask[j] = numbers[j] != 0;
  }
  return mask;
}

void run_prune(const Options& options, const Common& common) {
  common.require_cpu("mfac prune");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const std::vector<double> weights = read_numbers(options.weights);
  const std::vector<std::uint8_t> mask = read_mask(options.mask, weights.size());
  mfac::PruneOptions pruning;
  pruning.pattern = pattern_of(options);
  if (!options.sparsity && pruning.pattern.of == 0)
    throw halfulp::DomainError("mfac prune", "--sparsity or --pattern", "nothing", "given");
  if (options.sparsity && pruning.pattern.of > 0)
    throw halfulp::DomainError("mfac prune", "--sparsity and --pattern", "both", "one of them");
  pruning.sparsity = options.sparsity.value_or(0);
  const std::map<std::string, mfac::Saliency> saliencies{{"magnitude", mfac::Saliency::magnitude},
                                                         {"diagonal", mfac::Saliency::diagonal},
                                                         {"inverse", mfac::Saliency::inverse}};
  const std::map<std::string, mfac::Update> updates{{"none", mfac::Update::none},
                                                    {"independent", mfac::Update::independent},
                                                    {"joint", mfac::Update::joint}};
  pruning.saliency = saliencies.at(options.saliency);
  pruning.update = updates.at(options.update);
  pruning.scope = options.scope == "global" ? mfac::Scope::global : mfac::Scope::layer;
  if (!options.layers.empty()) pruning.layers = layers_of(options.layers);
  if (!options.damping) throw halfulp::DomainError("mfac prune", "--damping", "nothing", "given");
  pruning.fisher.damping = *options.damping;
  pruning.fisher.block = options.block;
  pruning.fisher.threads = common.threads;
  pruning.fisher.progress = terminal.callback();
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  const auto start = std::chrono::steady_clock::now();
  const mfac::Pruned pruned = [&] {
    try {
      return mfac::prune(gradients, weights, pruning, mask);
    } catch (const halfulp::DomainError& error) {
      if (error.argument().starts_with("weights"))
        throw halfulp::IoError(options.weights, error.what());
      if (error.argument().starts_with("mask")) throw halfulp::IoError(options.mask, error.what());
      if (error.argument().find("gradients") != std::string::npos ||
          error.argument().starts_with("rows"))
        throw halfulp::IoError(options.gradients, error.what());
      throw;
    } catch (const halfulp::ShapeError& error) {
      if (error.argument().starts_with("mask")) throw halfulp::IoError(options.mask, error.what());
      if (error.argument().starts_with("weights"))
        throw halfulp::IoError(options.weights, error.what());
      throw;
    }
  }();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  terminal.clear();
  warn_of(common, options.gradients, pruned.diagnosis);
  const bool array = ends_with(common.out, ".npy");
  const auto d = static_cast<Size>(weights.size());
  if (array) {
    halfulp::write_npy<double>(common.out, pruned.weights, {d});
    const std::vector<std::int32_t> kept(pruned.mask.begin(), pruned.mask.end());
    fs::path beside = common.out;
    beside.replace_extension(".mask.npy");
    halfulp::write_npy<std::int32_t>(beside, kept, {d});
  }
  if (common.json || ends_with(common.out, ".json")) {
    json echo = common.options_json();
    echo.update({{"gradients", options.gradients},
                 {"m", gradients.rows()},
                 {"d", d},
                 {"weights", options.weights},
                 {"mask", options.mask},
                 {"damping", *options.damping},
                 {"block", options.block},
                 {"sparsity", pruning.sparsity},
                 {"saliency", options.saliency},
                 {"update", options.update},
                 {"scope", options.scope},
                 {"pattern", options.pattern},
                 {"along", options.along},
                 {"layers", options.layers}});
    json report = diagnosis_json(pruned.diagnosis);
    report["seconds"] = seconds;
    json result = {{"count", pruned.count},
                   {"sparsity", pruned.sparsity},
                   {"loss_increase", number_json(pruned.loss_increase)},
                   {"saliency", number_json(pruned.saliency)}};
    if (!array) {
      result["weights"] = pruned.weights;
      result["mask"] = pruned.mask;
    }
    const nlohmann::ordered_json object = {{"schema", 1},
                                           {"command", "mfac prune"},
                                           {"options", echo},
                                           {"report", report},
                                           {"result", result}};
    if (array)
      std::cout << object.dump(2) + '\n';
    else
      common.write(object.dump(2) + '\n');
    return;
  }
  if (!array) {
    write_points(common, pruned.weights, 1, {"weight"});
    return;
  }
  std::cout << options.weights + ": " + std::to_string(pruned.count) + " of " + std::to_string(d) +
                   " weights pruned, " + common.number(100 * pruned.sparsity) +
                   " % of what can be\n  rise of the loss  " + common.number(pruned.loss_increase) +
                   "   (second order)\n  condition of H    " +
                   common.number(pruned.diagnosis.condition) + "\n  estimated error   " +
                   common.number(pruned.diagnosis.error) + '\n' + halfulp::escape_text(common.out) +
                   ", and the mask beside it\n";
}

}  // namespace

void add_mfac_prune(CLI::App& module, const Common& common, Exit& exit) {
  static_cast<void>(exit);
  const auto options = std::make_shared<Options>();
  auto* verb = module.add_subcommand(
      "prune", "weights of a model set to 0, the others moved so that its loss rises least");
  verb->fallthrough();
  verb->callback([options, &common] { run_prune(*options, common); });
  verb->add_option("G", options->gradients,
                   "gradients of samples at the weights, one a row: NPY "
                   "(m, d), or numbers as text")
      ->required();
  verb->add_option("W", options->weights, "weights: NPY (d,), or numbers as text")->required();
  add_number(*verb, "--damping", options->damping, "lambda > 0")->required();
  add_number(*verb, "--sparsity", options->sparsity,
             "part of the weights that is 0 afterwards, in [0, 1]");
  verb->add_option("--mask", options->mask, "1 for weights there are, 0 for those pruned already");
  verb->add_option("--saliency", options->saliency, "what is pruned first")
      ->check(CLI::IsMember({"magnitude", "diagonal", "inverse"}))
      ->capture_default_str();
  verb->add_option("--update", options->update, "what becomes of the weights that stay")
      ->check(CLI::IsMember({"none", "independent", "joint"}))
      ->capture_default_str();
  verb->add_option("--layers", options->layers,
                   "e.g. 784x40,40,40x10,10: arrays of weights, and biases, which are not pruned");
  verb->add_option("--scope", options->scope, "one ranking for all layers, or each with its own")
      ->check(CLI::IsMember({"global", "layer"}))
      ->capture_default_str();
  verb->add_option("--pattern", options->pattern, "N:M: of M neighbours N stay, e.g. 2:4");
  verb->add_option("--along", options->along, "where neighbours of a pattern are")
      ->check(CLI::IsMember({"row", "column"}))
      ->capture_default_str();
  verb->add_option("--block", options->block, "as in ihvp")
      ->check(CLI::Range(Size{0}, largest_size))
      ->capture_default_str();
  verb->add_option("--storage", options->storage, "as in ihvp")
      ->check(CLI::IsMember({"fp64", "fp32", "bf16", "fp16"}));
}
