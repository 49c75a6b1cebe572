#include "halfulp/bessel.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "common.hpp"
#include "halfulp/csv.hpp"
#ifdef HALFULP_WITH_CUDA
#include "halfulp/cuda/bessel.hpp"
#endif

namespace {

using halfulp::BesselFunction;
using halfulp::BesselMode;
using nlohmann::json;

const std::map<std::string, BesselFunction> functions = {
    {"log-i", BesselFunction::log_i},
    {"log-k", BesselFunction::log_k},
    {"log-i-scaled", BesselFunction::log_i_scaled},
    {"log-k-scaled", BesselFunction::log_k_scaled},
    {"ratio-i", BesselFunction::i_ratio},
    {"ratio-i-complement", BesselFunction::i_ratio_complement},
    {"ratio-i-dx", BesselFunction::i_ratio_derivative},
    {"ratio-k", BesselFunction::k_ratio},
    {"ratio-k-complement", BesselFunction::k_ratio_complement},
    {"ratio-k-dx", BesselFunction::k_ratio_derivative},
    {"log-i-dx", BesselFunction::log_i_dx},
    {"log-k-dx", BesselFunction::log_k_dx},
    {"log-i-dv", BesselFunction::log_i_dv},
    {"log-k-dv", BesselFunction::log_k_dv},
};

struct Options {
  std::string function;
  std::string points;
  std::string mode = "accurate";
  bool single = false;
};

/// JSON has no inf and no nan: they are written as text.
json number_json(double value) {
  return std::isfinite(value) ? json(value) : json(halfulp::number_text(value));
}

template <class T>
std::vector<double> evaluate(const Options& options, const Common& common,
                             const std::vector<double>& v, const std::vector<double>& x) {
  const std::vector<T> order(v.begin(), v.end()), argument(x.begin(), x.end());
  std::vector<T> out(v.size());
  const BesselFunction f = functions.at(options.function);
  const BesselMode mode = options.mode == "fast" ? BesselMode::fast : BesselMode::accurate;
#ifdef HALFULP_WITH_CUDA
  if (common.device == "cuda") {
    halfulp::cuda::bessel(f, std::span<const T>(order), std::span<const T>(argument),
                          std::span<T>(out), mode);
    return {out.begin(), out.end()};
  }
#else
  common.require_cpu("bessel");
#endif
  halfulp::bessel(f, std::span<const T>(order), std::span<const T>(argument), std::span<T>(out),
                  {.mode = mode, .threads = common.threads});
  return {out.begin(), out.end()};
}

void run(const Options& options, const Common& common) {
  const halfulp::Table table = halfulp::read_csv(options.points);
  const std::vector<double>& v = table.column("v");
  const std::vector<double>& x = table.column("x");
  const bool logarithm = functions.at(options.function) <= BesselFunction::log_k_scaled;
  if (options.mode == "fast" && logarithm) {
    const auto beyond = std::count_if(v.begin(), v.end(), [](double order) { return order > 1e6; });
    if (beyond > 0)
      common.warn("bessel: " + std::to_string(beyond) +
                  " orders above 1e6, where the error of --mode fast is not bounded");
  }
  const std::vector<double> value = options.single ? evaluate<float>(options, common, v, x)
                                                   : evaluate<double>(options, common, v, x);
  if (common.json) {
    json result = {{"v", json::array()}, {"x", json::array()}, {"value", json::array()}};
    for (std::size_t i = 0; i < value.size(); ++i) {
      result["v"].push_back(number_json(v[i]));
      result["x"].push_back(number_json(x[i]));
      result["value"].push_back(number_json(value[i]));
    }
    json echo = common.options_json();
    echo.update({{"function", options.function},
                 {"points", options.points},
                 {"mode", options.mode},
                 {"float", options.single}});
    common.write_json("bessel", echo, {{"status", "ok"}, {"points", value.size()}}, result);
    return;
  }
  common.write(halfulp::csv_text({.names = {"v", "x", "value"}, .columns = {v, x, value}},
                                 {.hex = common.hex}));
}

}  // namespace

void add_bessel(CLI::App& app, const Common& common, Exit&) {
  auto* verb = app.add_subcommand(
      "bessel", "log I, log K, ratios and derivatives at the points of a table with columns v, x");
  auto options = std::make_shared<Options>();
  std::vector<std::string> names;
  names.reserve(functions.size());
  for (const auto& [name, function] : functions) names.push_back(name);
  verb->add_option("FN", options->function, "the function")
      ->required()
      ->check(CLI::IsMember(names));
  verb->add_option("--points", options->points, "CSV with columns v and x")
      ->required()
      ->check(CLI::ExistingFile);
  verb->add_option(
          "--mode", options->mode,
          "accurate: units in the last place of the logarithm; fast: relative to max(1, |log|)")
      ->check(CLI::IsMember({"accurate", "fast"}))
      ->capture_default_str();
  verb->add_flag("--float", options->single,
                 "single precision: points and values rounded to float");
  verb->callback([options, &common] { run(*options, common); });
}
