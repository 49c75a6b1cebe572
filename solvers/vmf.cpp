#include "vmf.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "halfulp/csv.hpp"
#include "halfulp/vmf_mixture.hpp"
#include "halfulp/vmf_picture.hpp"

namespace {

namespace vmf = halfulp::vmf;
using nlohmann::json;

struct Options {
  std::string points, weights, model, second_model, mu, table, picture, image;
  std::string correction = "none";
  bool normalise = false;
  std::optional<double> dim, kappa, kappa2, length, complement, cosine, survival, level;
  std::uint64_t count = 0, first = 0;
};

/// The value of an option that this use of the verb needs.
double needed(const std::optional<double>& value, const char* verb, const char* option) {
  if (!value) throw halfulp::DomainError(verb, option, "nothing", "given");
  return *value;
}

double dimension(const Options& options, const char* verb) {
  const double p = needed(options.dim, verb, "--dim");
  if (!(p >= 2 && std::isfinite(p))) throw halfulp::DomainError(verb, "--dim", p, ">= 2");
  return p;
}

/// A dimension that vectors are made of.
std::size_t whole_dimension(const Options& options, const char* verb) {
  const double p = dimension(options, verb);
  if (std::floor(p) != p || p > 1e9)
    throw halfulp::DomainError(verb, "--dim", p, "a whole number <= 1e9");
  return static_cast<std::size_t>(p);
}

double concentration(const std::optional<double>& value, const char* verb, const char* option) {
  const double kappa = needed(value, verb, option);
  if (!(kappa >= 0 && std::isfinite(kappa)))
    throw halfulp::DomainError(verb, option, kappa, ">= 0 and finite");
  return kappa;
}

/// One number: alone on a line, or in the object of --json under `name`.
void write_number(const Common& common, const std::string& command, const json& echo,
                  const std::string& name, double value) {
  if (common.json) {
    json options = common.options_json();
    options.update(echo);
    common.write_json(command, options, {{"status", "ok"}}, {{name, number_json(value)}});
    return;
  }
  common.write(common.number(value) + '\n');
}

// ---- fit ----------------------------------------------------------------------------------------

json fit_json(const vmf::Fit& fit, const vmf::Interval& interval, double level,
              const vmf::Uniformity& uniformity, std::ptrdiff_t n) {
  return {{"mu", fit.distribution.mu},
          {"kappa", number_json(fit.distribution.kappa)},
          {"log_likelihood", number_json(fit.log_likelihood)},
          {"standard_error", number_json(fit.kappa_error)},
          {"direction_error", number_json(fit.direction_error)},
          {"length", fit.resultant.length},
          {"complement", fit.resultant.complement},
          {"interval",
           {{"level", level},
            {"lower", number_json(interval.lower)},
            {"upper", number_json(interval.upper)}}},
          {"uniformity",
           {{"statistic", number_json(uniformity.statistic)},
            {"p_value", number_json(uniformity.p_value)}}},
          {"n", n},
          {"rows_with_weight", fit.resultant.count},
          {"weight", fit.resultant.weight},
          {"p", fit.distribution.mu.size()}};
}

void run_fit(const Options& options, const Common& common) {
  common.require_cpu("vmf fit");
  const Points points = read_points(options.points);
  const std::vector<double> weights =
      options.weights.empty() ? std::vector<double>() : read_numbers(options.weights);
  const double level = options.level.value_or(0.95);
  vmf::FitOptions fitting;
  fitting.data = {.weights = weights, .normalise = options.normalise, .threads = common.threads};
  if (options.correction == "marginal") fitting.correction = vmf::BiasCorrection::marginal;
  const auto p = static_cast<double>(points.p);
  const auto start = std::chrono::steady_clock::now();
  // Weights are arguments too: what is wrong with them is said of their own file.
  const vmf::Fit fit = [&] {
    try {
      return vmf::fit(points.values, points.p, fitting);
    } catch (const halfulp::DomainError& error) {
      const bool of_weights = error.argument().find("weight") != std::string::npos;
      throw halfulp::IoError(of_weights && !weights.empty() ? options.weights : options.points,
                             error.what());
    } catch (const halfulp::ShapeError& error) {
      const bool of_weights = error.argument().find("weight") != std::string::npos;
      throw halfulp::IoError(of_weights ? options.weights : options.points, error.what());
    }
  }();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const vmf::Interval interval = vmf::kappa_interval(fit.resultant, p, level);
  const vmf::Uniformity uniformity = vmf::uniformity(fit.resultant, p);
  const double found = fit.distribution.kappa;
  if (!(interval.lower <= found && found <= interval.upper))
    common.warn(options.points + ": kappa = " + halfulp::number_text(found) +
                " is outside of its " + halfulp::number_text(100 * level) +
                " % interval: few points for so many dimensions bias it upwards; --correction "
                "marginal takes that off");
  if (!options.picture.empty()) {
    vmf::Picture picture;
    picture.title =
        "von Mises-Fisher fit: " + std::filesystem::path(options.points).filename().string();
    picture.facts = {
        std::to_string(points.n) + " directions in " + std::to_string(points.p) + " dimensions",
        "kappa " + halfulp::number_text(static_cast<float>(fit.distribution.kappa))};
    picture.components = {{.weight = 1,
                           .kappa_error = fit.kappa_error,
                           .mean_length = fit.resultant.length,
                           .count = fit.resultant.weight,
                           .distribution = fit.distribution}};
    picture.points = points.values;
    if (!options.image.empty())
      std::tie(picture.image_rows, picture.image_columns) = image_size(options.image, points.p);
    halfulp::write_file_atomic(options.picture, vmf::draw_svg(picture));
  }
  if (common.json || ends_with(common.out, ".json")) {
    json echo = common.options_json();
    echo.update({{"points", options.points},
                 {"weights", options.weights},
                 {"normalise", options.normalise},
                 {"correction", options.correction},
                 {"level", level}});
    common.write_json("vmf fit", echo, {{"status", "ok"}, {"seconds", seconds}},
                      fit_json(fit, interval, level, uniformity, points.n));
    return;
  }
  const auto number = [&](double value) { return common.number(value); };
  std::string text =
      options.points + ": " + std::to_string(points.n) + " directions in " +
      std::to_string(points.p) + " dimensions" +
      (weights.empty() ? "" : ", weights that sum to " + number(fit.resultant.weight)) +
      "\n  kappa            " + number(fit.distribution.kappa) +
      (options.correction == "none" ? "" : "   (" + options.correction + " likelihood)") +
      "\n    standard error " + number(fit.kappa_error) + "\n    " +
      halfulp::number_text(100 * level) + " % interval  " + number(interval.lower) + " to " +
      number(interval.upper) + "\n  mu               " + vector_text(common, fit.distribution.mu) +
      "\n    standard error " + number(fit.direction_error) + " rad in each tangent direction" +
      "\n  mean length      " + number(fit.resultant.length) + "\n    1 - length     " +
      number(fit.resultant.complement) + "\n  log-likelihood   " + number(fit.log_likelihood) +
      "\n  uniform?         statistic " + number(uniformity.statistic) + ", p-value " +
      number(uniformity.p_value) + " (Rayleigh's test)\n";
  common.write(text);
}

// ---- kappa --------------------------------------------------------------------------------------

void run_kappa_table(const Options& options, const Common& common) {
  const halfulp::Table table = halfulp::read_csv(options.table);
  const auto has = [&](const char* name) {
    return std::find(table.names.begin(), table.names.end(), name) != table.names.end();
  };
  if (has("R") && has("complement"))
    throw halfulp::IoError(options.table, "has both columns R and complement, must have one");
  const bool from_complement = has("complement");
  const std::string name = from_complement ? "complement" : "R";
  const std::vector<double>&p = table.column("p"), &given = table.column(name);
  std::vector<double> kappa(p.size());
  if (from_complement)
    vmf::kappa_complement(p, given, kappa, common.threads);
  else
    vmf::kappa(p, given, kappa, common.threads);
  const auto bad = std::find_if(kappa.begin(), kappa.end(), [](double k) { return std::isnan(k); });
  if (bad != kappa.end()) {
    const auto i = static_cast<std::size_t>(bad - kappa.begin());
    common.warn(
        options.table + ": " +
        std::to_string(std::count_if(bad, kappa.end(), [](double k) { return std::isnan(k); })) +
        " rows have no kappa, the first is row " + std::to_string(i + 1) +
        ": p = " + halfulp::number_text(p[i]) + ", " + name + " = " +
        halfulp::number_text(given[i]) + "; p must be >= 2 and " + name + " in [0, 1]");
  }
  if (common.json) {
    json result;
    for (const char* key : {"p", name.c_str(), "kappa"}) result[key] = json::array();
    for (std::size_t i = 0; i < kappa.size(); ++i) {
      result["p"].push_back(number_json(p[i]));
      result[name].push_back(number_json(given[i]));
      result["kappa"].push_back(number_json(kappa[i]));
    }
    json echo = common.options_json();
    echo["points"] = options.table;
    common.write_json("vmf kappa", echo, {{"status", "ok"}, {"points", kappa.size()}}, result);
    return;
  }
  common.write(halfulp::csv_text({.names = {"p", name, "kappa"}, .columns = {p, given, kappa}},
                                 {.hex = common.hex}));
}

void run_kappa(const Options& options, const Common& common) {
  common.require_cpu("vmf kappa");
  if (!options.table.empty()) {
    if (options.dim || options.length || options.complement)
      throw halfulp::DomainError("vmf kappa", "--points", options.table,
                                 "given without --dim, --mean-length and --complement");
    run_kappa_table(options, common);
    return;
  }
  const double p = dimension(options, "vmf kappa");
  if (options.length.has_value() == options.complement.has_value())
    throw halfulp::DomainError("vmf kappa", "--mean-length and --complement",
                               options.length ? "both" : "nothing", "one of them");
  const bool direct = options.length.has_value();
  const double given = direct ? *options.length : *options.complement;
  if (!(given >= 0 && given <= 1))
    throw halfulp::DomainError("vmf kappa", direct ? "--mean-length" : "--complement", given,
                               "in [0, 1]");
  write_number(common, "vmf kappa", {{"dim", p}, {direct ? "mean_length" : "complement", given}},
               "kappa", direct ? vmf::kappa(p, given) : vmf::kappa_complement(p, given));
}

// ---- densities ----------------------------------------------------------------------------------

/// --model, or --mu and --kappa; with --dim instead of --mu the first axis.
vmf::Distribution distribution_of(const Options& options, const char* verb, bool allow_dim) {
  if (!options.model.empty()) {
    if (options.kappa || !options.mu.empty() || options.dim)
      throw halfulp::DomainError(verb, "--model", options.model,
                                 "given without --mu, --dim and --kappa");
    return read_model(options.model);
  }
  vmf::Distribution distribution;
  distribution.kappa = concentration(options.kappa, verb, "--kappa");
  if (!options.mu.empty()) {
    distribution.mu = read_numbers(options.mu);
    if (options.dim && *options.dim != static_cast<double>(distribution.mu.size()))
      throw halfulp::DomainError(verb, "--dim", *options.dim,
                                 "the length of --mu, " + std::to_string(distribution.mu.size()));
  } else if (allow_dim && options.dim) {
    distribution.mu.resize(whole_dimension(options, verb));
    distribution.mu[0] = 1;
  } else {
    throw halfulp::DomainError(verb, allow_dim ? "--mu or --dim" : "--mu", "nothing", "given");
  }
  return distribution;
}

void run_logpdf(const Options& options, const Common& common) {
  common.require_cpu("vmf logpdf");
  const Points points = read_points(options.points);
  const std::string& model = options.model.empty() ? options.mu : options.model;
  const vmf::DataOptions data = {.normalise = options.normalise, .threads = common.threads};
  std::vector<double> out(static_cast<std::size_t>(points.n));
  const auto check_dimension = [&](const std::vector<double>& mu) {
    if (points.p != std::ssize(mu))
      throw halfulp::IoError(options.points, std::to_string(points.p) + " columns, must be " +
                                                 std::to_string(mu.size()) + " as in " + model);
  };
  if (std::filesystem::is_directory(options.model)) {
    const vmf::Mixture mixture = vmf::load_mixture(options.model);
    check_dimension(mixture.components.at(0).mu);
    from_file(options.points, [&] { vmf::log_density(mixture, points.values, out, data); });
  } else {
    const vmf::Distribution distribution = distribution_of(options, "vmf logpdf", false);
    check_dimension(distribution.mu);
    from_file(model, [&] { vmf::log_density(distribution, points.values, out, data); });
  }
  // Rows that are no direction have no density; the library's check of all rows says which and why.
  if (std::any_of(out.begin(), out.end(), [](double v) { return std::isnan(v); }))
    from_file(options.points,
              [&] { static_cast<void>(vmf::resultant(points.values, points.p, data)); });
  if (common.json) {
    json values = json::array();
    for (const double v : out) values.push_back(number_json(v));
    json echo = common.options_json();
    echo.update({{"points", options.points}, {"normalise", options.normalise}});
    common.write_json("vmf logpdf", echo, {{"status", "ok"}, {"points", out.size()}},
                      {{"log_density", values}});
    return;
  }
  write_points(common, out, 1, {"log_density"});
}

void run_sample(const Options& options, const Common& common) {
  common.require_cpu("vmf sample");
  const vmf::Distribution distribution = distribution_of(options, "vmf sample", true);
  const std::size_t p = distribution.mu.size();
  constexpr double most = 1e12;  // numbers; far beyond any memory
  if (static_cast<double>(options.count) * static_cast<double>(p) > most)
    throw halfulp::DomainError("vmf sample", "--count", std::to_string(options.count),
                               "at most 1e12 numbers in all");
  std::vector<double> out(options.count * p);
  const std::string& source = options.model.empty() ? options.mu : options.model;
  const auto draw = [&] {
    vmf::sample(distribution, common.seed, out, options.first, common.threads);
  };
  if (source.empty())
    draw();
  else
    from_file(source, draw);
  const auto width = static_cast<std::ptrdiff_t>(p);
  if (common.json) {
    json rows = json::array();
    for (std::size_t i = 0; i < options.count; ++i)
      rows.push_back(std::vector<double>(out.begin() + static_cast<std::ptrdiff_t>(i * p),
                                         out.begin() + static_cast<std::ptrdiff_t>((i + 1) * p)));
    json echo = common.options_json();
    echo.update({{"count", options.count}, {"first", options.first}, {"p", p}});
    common.write_json("vmf sample", echo, {{"status", "ok"}}, {{"samples", rows}});
    return;
  }
  std::vector<std::string> names;
  if (!ends_with(common.out, ".npy"))
    for (std::size_t j = 1; j <= p; ++j) names.push_back("x" + std::to_string(j));
  write_points(common, out, width, names);
}

void run_entropy(const Options& options, const Common& common) {
  common.require_cpu("vmf entropy");
  const double p = dimension(options, "vmf entropy");
  const double kappa = concentration(options.kappa, "vmf entropy", "--kappa");
  write_number(common, "vmf entropy", {{"dim", p}, {"kappa", kappa}}, "entropy",
               vmf::entropy(p, kappa));
}

void run_kl(const Options& options, const Common& common) {
  common.require_cpu("vmf kl");
  if (!options.model.empty()) {
    if (options.second_model.empty())
      throw halfulp::DomainError("vmf kl", "B", "nothing", "given: two models");
    const vmf::Distribution a = read_model(options.model), b = read_model(options.second_model);
    const double value =
        from_file(options.model + ", " + options.second_model, [&] { return vmf::kl(a, b); });
    write_number(common, "vmf kl", {{"a", options.model}, {"b", options.second_model}}, "kl",
                 value);
    return;
  }
  const std::size_t p = whole_dimension(options, "vmf kl");
  const double cosine = needed(options.cosine, "vmf kl", "--cosine");
  if (!(std::fabs(cosine) <= 1))
    throw halfulp::DomainError("vmf kl", "--cosine", cosine, "in [-1, 1]");
  vmf::Distribution a{std::vector<double>(p), concentration(options.kappa, "vmf kl", "--kappa")};
  vmf::Distribution b{std::vector<double>(p), concentration(options.kappa2, "vmf kl", "--kappa2")};
  a.mu[0] = 1;
  b.mu[0] = cosine;
  b.mu[1] = std::sqrt((1 - cosine) * (1 + cosine));
  write_number(common, "vmf kl",
               {{"dim", p}, {"kappa", a.kappa}, {"kappa2", b.kappa}, {"cosine", cosine}}, "kl",
               vmf::kl(a, b));
}

void run_cosine(const Options& options, const Common& common) {
  common.require_cpu("vmf cosine");
  const double p = dimension(options, "vmf cosine");
  const double kappa = concentration(options.kappa, "vmf cosine", "--kappa");
  const int given =
      options.cosine.has_value() + options.survival.has_value() + options.complement.has_value();
  if (given != 1)
    throw halfulp::DomainError("vmf cosine", "--t, --complement and --survival",
                               given == 0 ? "nothing" : "more than one", "one of them");
  if (options.survival && !(*options.survival >= 0 && *options.survival <= 1))
    throw halfulp::DomainError("vmf cosine", "--survival", *options.survival, "in [0, 1]");
  if (options.cosine && !(std::fabs(*options.cosine) <= 1))
    throw halfulp::DomainError("vmf cosine", "--t", *options.cosine, "in [-1, 1]");
  if (options.complement && !(*options.complement >= 0 && *options.complement <= 2))
    throw halfulp::DomainError("vmf cosine", "--complement", *options.complement, "in [0, 2]");
  double complement = options.complement.value_or(0);
  if (options.survival) complement = vmf::cosine_quantile(p, kappa, *options.survival);
  if (options.cosine) complement = 1 - *options.cosine;
  const double t = options.cosine.value_or(1 - complement);
  const vmf::Cosine c =
      options.cosine ? vmf::cosine(p, kappa, t) : vmf::cosine_complement(p, kappa, complement);
  if (common.json) {
    json echo = common.options_json();
    echo.update({{"dim", p}, {"kappa", kappa}});
    common.write_json("vmf cosine", echo, {{"status", "ok"}},
                      {{"t", t},
                       {"complement", complement},
                       {"cdf", number_json(c.cdf)},
                       {"survival", number_json(c.survival)},
                       {"log_density", number_json(c.log_density)}});
    return;
  }
  common.write("t            " + common.number(t) + "\n1 - t        " + common.number(complement) +
               "\ncdf          " + common.number(c.cdf) + "\nsurvival     " +
               common.number(c.survival) + "\nlog density  " + common.number(c.log_density) + '\n');
}

}  // namespace

void add_vmf(CLI::App& app, const Common& common, Exit& exit) {
  auto* module = app.add_subcommand("vmf", "von Mises-Fisher distributions on spheres");
  module->require_subcommand(1);
  module->fallthrough();
  // One set of variables for all verbs: only one of them runs.
  const auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, const char* help,
                       void (*run)(const Options&, const Common&)) {
    auto* verb = module->add_subcommand(name, help);
    verb->fallthrough();
    verb->callback([options, &common, run] { run(*options, common); });
    return verb;
  };
  const auto add_points = [&](CLI::App* verb) {
    verb->add_option("X", options->points,
                     "points, one a row: NPY (n, p), or a table of numbers as text")
        ->required();
    verb->add_flag("--normalise", options->normalise, "divide each row by its norm");
  };
  const auto add_dim = [&](CLI::App* verb) {
    add_number(*verb, "--dim", options->dim, "dimension p of the space, >= 2");
  };
  const auto add_kappa = [&](CLI::App* verb) {
    add_number(*verb, "--kappa", options->kappa, "concentration, >= 0");
  };

  auto* fit =
      add("fit", "maximum likelihood: mean direction, concentration, their errors", run_fit);
  add_points(fit);
  fit->add_option("--weights", options->weights, "frequencies >= 0, one a row of X");
  fit->add_option("--correction", options->correction,
                  "none: maximum likelihood; marginal: that of the resultant's length, less biased")
      ->check(CLI::IsMember({"none", "marginal"}))
      ->capture_default_str();
  add_number(*fit, "--level", options->level, "level of the interval for kappa [0.95]");
  fit->add_option("--picture", options->picture, "SVG of the fit beside the data");
  fit->add_option("--image", options->image, "ROWSxCOLUMNS: the picture shows mu as an image");
  fit->footer(
      "--out FILE: text, or the object of --json where the name ends in .json, a model that other\n"
      "verbs read.\nSamples:\n  halfulp vmf fit X.npy --out fit.json --picture fit.svg\n"
      "  halfulp vmf fit X.npy --weights W.npy --normalise --json");

  auto* kappa = add("kappa", "the concentration whose mean resultant length is given", run_kappa);
  add_dim(kappa);
  add_number(*kappa, "--mean-length", options->length, "mean resultant length R, in [0, 1]");
  add_number(*kappa, "--complement", options->complement, "1 - R, for lengths next to 1");
  kappa->add_option("--points", options->table,
                    "CSV with the columns p and R, or p and complement");
  kappa->footer(
      "Samples:\n  halfulp vmf kappa --dim 32768 --mean-length 0.7\n"
      "  halfulp vmf kappa --points lengths.csv --out kappa.csv");

  auto* logpdf = add("logpdf", "logarithm of the density at each point", run_logpdf);
  add_points(logpdf);
  logpdf->add_option("--mu", options->mu, "mean direction: NPY (p,) or text");
  add_kappa(logpdf);
  logpdf->add_option("--model", options->model,
                     "what fit or mixture wrote (a file, a folder), instead of --mu and --kappa");
  logpdf->footer("Sample:\n  halfulp vmf logpdf X.npy --model fit.json --out values.npy");

  auto* sample = add("sample", "exact random samples", run_sample);
  sample->add_option("--mu", options->mu, "mean direction: NPY (p,) or text");
  add_dim(sample);
  add_kappa(sample);
  sample->add_option("--model", options->model, "what fit wrote, instead of --mu and --kappa");
  sample->add_option("--count", options->count, "how many")->required();
  sample
      ->add_option("--first", options->first,
                   "index of the first: the samples of a seed can be had in parts")
      ->capture_default_str();
  sample->footer(
      "With --dim alone the mean direction is the first axis. --out X.npy: array (n, p); else "
      "CSV.\n"
      "Sample:\n  halfulp vmf sample --dim 3 --kappa 10 --count 1000 --seed 1 --out X.npy");

  auto* entropy = add("entropy", "differential entropy", run_entropy);
  add_dim(entropy);
  add_kappa(entropy);
  entropy->footer("Sample:\n  halfulp vmf entropy --dim 3 --kappa 10");

  auto* kl = add("kl", "Kullback-Leibler divergence from one to another", run_kl);
  kl->add_option("A", options->model, "the first model, as fit writes it");
  kl->add_option("B", options->second_model, "the second");
  add_dim(kl);
  add_kappa(kl);
  add_number(*kl, "--kappa2", options->kappa2, "concentration of the second");
  add_number(*kl, "--cosine", options->cosine, "cosine between the mean directions");
  kl->footer(
      "Samples:\n  halfulp vmf kl a.json b.json\n"
      "  halfulp vmf kl --dim 100 --kappa 50 --kappa2 60 --cosine 0.9");

  auto* cosine = add("cosine", "distribution of the cosine between a point and mu", run_cosine);
  add_dim(cosine);
  add_kappa(cosine);
  add_number(*cosine, "--t", options->cosine, "the cosine");
  add_number(*cosine, "--complement", options->complement, "1 - t, for cosines next to 1");
  add_number(*cosine, "--survival", options->survival,
             "a probability: gives the cosine exceeded with it");
  cosine->footer("Sample:\n  halfulp vmf cosine --dim 784 --kappa 1000 --survival 0.95");

  add_vmf_mixture(*module, common, exit);
  add_vmf_images(*module, common, exit);
}
