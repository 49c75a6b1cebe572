#include "mfac.hpp"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>

#include "halfulp/csv.hpp"
#include "halfulp/mfac_window.hpp"
#include "halfulp/npy.hpp"
#include "terminal_progress.hpp"

namespace {

namespace mfac = halfulp::mfac;
using nlohmann::json;
using Size = std::ptrdiff_t;

struct Options {
  std::string gradients, x, storage, sums = "fp64", precision = "auto", points;
  std::string normalisation, load, save;
  std::optional<double> damping;
  Size block = 0, row = -1, column = -1, size = 0;
  int refinements = 0;
  bool root = false;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// k vectors of d numbers, of shape (k, d) or (d,).
struct Vectors {
  std::vector<double> values;
  std::vector<Size> shape;
};

Vectors read_vectors(const std::string& file, Size d) {
  Vectors x;
  if (ends_with(file, ".npy")) {
    auto array = halfulp::read_npy<double>(file, {.memory_limit = std::size_t{1} << 40});
    x = {std::move(array.values), std::move(array.shape)};
  } else {
    Points rows = read_points(file);
    x = {std::move(rows.values), {rows.n, rows.p}};
    if (rows.p == 1 && d != 1) x.shape = {rows.n};  // one number a line
  }
  std::string shape = "(";
  for (std::size_t i = 0; i < x.shape.size(); ++i)
    shape += (i > 0 ? ", " : "") + std::to_string(x.shape[i]);
  shape += x.shape.size() == 1 ? ",)" : ")";
  if (x.shape.empty() || x.shape.size() > 2 || x.shape.back() != d)
    throw halfulp::IoError(file, "shape " + shape + ", must be (k, " + std::to_string(d) +
                                     ") or (" + std::to_string(d) +
                                     ",), as many columns as the gradients have");
  return x;
}

mfac::Options library_options(const Options& options, const Common& common,
                              const halfulp::Progress& progress) {
  if (!options.damping) throw halfulp::DomainError("mfac", "--damping", "nothing", "given");
  mfac::Options out;
  out.damping = *options.damping;
  out.block = options.block;
  if (options.sums == "fp32") out.gram = out.products = mfac::Accumulation::float32;
  if (options.precision == "fp64") out.precision = mfac::Precision::float64;
  out.refinements = options.refinements;
  out.threads = common.threads;
  out.progress = progress;
  return out;
}

json options_json(const Options& options, const Common& common, const mfac::Gradients& gradients) {
  json echo = common.options_json();
  echo.update({{"gradients", options.gradients},
               {"m", gradients.rows()},
               {"d", gradients.dimension()},
               {"damping", options.damping.value_or(0)},
               {"block", options.block},
               {"storage", std::string(mfac::to_string(gradients.storage()))},
               {"sums", options.sums},
               {"precision", options.precision},
               {"refinements", options.refinements}});
  return echo;
}

/// Writes values to --out, or as text, or with --json in its object; what is known of them to
/// standard output or the object.
void write_values(const Options& options, const Common& common, const mfac::Gradients& gradients,
                  const std::string& command, const std::string& name, const Vectors& values,
                  const mfac::Diagnosis& diagnosis, double seconds) {
  warn_of(common, options.gradients, diagnosis);
  const bool array = !common.out.empty() && !ends_with(common.out, ".json");
  const Size columns = values.shape.size() == 1 ? 1 : values.shape[1];
  if (array && ends_with(common.out, ".npy")) {
    halfulp::write_npy<double>(common.out, values.values, values.shape);
  } else if (array || !common.json) {
    std::vector<std::string> names{name};
    if (columns > 1) names.clear();
    for (Size j = 1; columns > 1 && j <= columns; ++j) names.push_back(name + std::to_string(j));
    write_points(common, values.values, columns, names);
  }
  if (common.json || ends_with(common.out, ".json")) {
    json report = diagnosis_json(diagnosis);
    report["seconds"] = seconds;
    json result = {{"shape", values.shape}};
    if (!array) {
      result[name] = json::array();
      for (const double v : values.values) result[name].push_back(number_json(v));
    }
    const nlohmann::ordered_json object = {{"schema", 1},
                                           {"command", command},
                                           {"options", options_json(options, common, gradients)},
                                           {"report", report},
                                           {"result", result}};
    const std::string text = object.dump(2) + '\n';
    if (array)
      std::cout << text;
    else
      common.write(text);
    return;
  }
  if (!array) return;
  std::cout << options.gradients + ": " + std::to_string(gradients.rows()) + " gradients of " +
                   std::to_string(gradients.dimension()) + " numbers in " +
                   std::string(mfac::to_string(gradients.storage())) + ", damping " +
                   common.number(*options.damping) + "\n  condition        " +
                   common.number(diagnosis.condition) + "\n  estimated error  " +
                   common.number(diagnosis.error) + "\n  status           " +
                   std::string(mfac::to_string(diagnosis.status)) + '\n' +
                   halfulp::escape_text(common.out) + '\n';
}

/// Errors about x come out with its file's name, the others with that of the gradients.
template <class F>
auto explained(const Options& options, F f) {
  try {
    return f();
  } catch (const halfulp::DomainError& error) {
    if (error.argument().starts_with("options") || error.argument() == "damping") throw;
    const bool of_x = error.argument().starts_with("x");
    throw halfulp::IoError(of_x ? options.x : options.gradients, error.what());
  }
}

void run_ihvp(const Options& options, const Common& common) {
  common.require_cpu("mfac ihvp");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const mfac::Options computing = library_options(options, common, terminal.callback());
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  Vectors x = read_vectors(options.x, gradients.dimension());
  const auto start = std::chrono::steady_clock::now();
  const mfac::Diagnosis diagnosis = explained(options, [&] {
    if (!options.root) return mfac::inverse_product(gradients, x.values, x.values, computing);
    return mfac::Estimator(gradients, computing).inverse_root_product(x.values, x.values);
  });
  terminal.clear();
  write_values(options, common, gradients, "mfac ihvp", "y", x, diagnosis, seconds_since(start));
}

void run_diag(const Options& options, const Common& common) {
  common.require_cpu("mfac diag");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const mfac::Options computing = library_options(options, common, terminal.callback());
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  Vectors out;
  out.values.resize(static_cast<std::size_t>(gradients.dimension()));
  out.shape = {gradients.dimension()};
  const auto start = std::chrono::steady_clock::now();
  const mfac::Diagnosis diagnosis = explained(
      options, [&] { return mfac::Estimator(gradients, computing).inverse_diagonal(out.values); });
  terminal.clear();
  write_values(options, common, gradients, "mfac diag", "diagonal", out, diagnosis,
               seconds_since(start));
}

Size index_of(const std::string& file, double value, Size d, const char* name) {
  if (!(value >= 0 && value < static_cast<double>(d) && std::floor(value) == value))
    throw halfulp::IoError(file, std::string(name) + " = " + halfulp::number_text(value) +
                                     ", must be a whole number from 0 to " + std::to_string(d - 1));
  return static_cast<Size>(value);
}

void run_element(const Options& options, const Common& common) {
  common.require_cpu("mfac element");
  const mfac::Options computing = library_options(options, common, {});
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  const Size d = gradients.dimension();
  if (options.points.empty() == (options.row < 0 || options.column < 0))
    throw halfulp::DomainError("mfac element", "I and J or --points",
                               options.points.empty() ? "nothing" : "both", "one of them");
  std::vector<double> i{static_cast<double>(options.row)}, j{static_cast<double>(options.column)};
  if (!options.points.empty()) {
    const halfulp::Table table = halfulp::read_csv(options.points);
    i = table.column("i");
    j = table.column("j");
  }
  std::vector<double> values(i.size());
  const mfac::Diagnosis diagnosis = explained(options, [&] {
    const mfac::Estimator estimator(gradients, computing);
    const std::string& file = options.points.empty() ? options.gradients : options.points;
    for (std::size_t k = 0; k < i.size(); ++k)
      values[k] =
          estimator.inverse_element(index_of(file, i[k], d, "i"), index_of(file, j[k], d, "j"));
    return estimator.diagnosis();
  });
  warn_of(common, options.gradients, diagnosis);
  if (common.json) {
    json result;
    for (const char* key : {"i", "j", "value"}) result[key] = json::array();
    for (std::size_t k = 0; k < i.size(); ++k) {
      result["i"].push_back(i[k]);
      result["j"].push_back(j[k]);
      result["value"].push_back(number_json(values[k]));
    }
    common.write_json("mfac element", options_json(options, common, gradients),
                      diagnosis_json(diagnosis), result);
    return;
  }
  if (options.points.empty())
    common.write(common.number(values[0]) + '\n');
  else
    common.write(halfulp::csv_text({.names = {"i", "j", "value"}, .columns = {i, j, values}},
                                   {.hex = common.hex}));
}

void run_influence(const Options& options, const Common& common) {
  common.require_cpu("mfac influence");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const mfac::Options computing = library_options(options, common, terminal.callback());
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  Vectors out;
  const Size m = gradients.rows();
  const auto start = std::chrono::steady_clock::now();
  mfac::Diagnosis diagnosis;
  if (options.x.empty()) {
    out.values.resize(static_cast<std::size_t>(m));
    out.shape = {m};
    diagnosis = explained(options, [&] {
      const mfac::Estimator estimator(gradients, computing);
      estimator.self_influence(out.values);
      return estimator.diagnosis();
    });
  } else {
    const Vectors x = read_vectors(options.x, gradients.dimension());
    out.shape = x.shape;
    out.shape.back() = m;
    const Size k = x.shape.size() == 1 ? 1 : x.shape[0];
    out.values.resize(static_cast<std::size_t>(k * m));
    diagnosis = explained(options, [&] {
      return mfac::Estimator(gradients, computing).influence(x.values, out.values);
    });
  }
  terminal.clear();
  write_values(options, common, gradients, "mfac influence", "influence", out, diagnosis,
               seconds_since(start));
}

void run_summary(const Options& options, const Common& common) {
  common.require_cpu("mfac summary");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const mfac::Options computing = library_options(options, common, terminal.callback());
  const mfac::Gradients gradients =
      read_gradients(options.gradients, options.storage, common.threads);
  const auto [diagnosis, log_determinant, trace] = explained(options, [&] {
    const mfac::Estimator estimator(gradients, computing);
    return std::tuple(estimator.diagnosis(), estimator.log_determinant(),
                      estimator.inverse_trace());
  });
  terminal.clear();
  warn_of(common, options.gradients, diagnosis);
  if (common.json) {
    common.write_json(
        "mfac summary", options_json(options, common, gradients), diagnosis_json(diagnosis),
        {{"log_determinant", number_json(log_determinant)}, {"inverse_trace", number_json(trace)}});
    return;
  }
  common.write(options.gradients + ": " + std::to_string(gradients.rows()) + " gradients of " +
               std::to_string(gradients.dimension()) + " numbers\n  condition of H    " +
               common.number(diagnosis.condition) + "\n  log-determinant   " +
               common.number(log_determinant) + "\n  trace of inverse  " + common.number(trace) +
               "\n  error at worst    " + common.number(diagnosis.error) +
               "\n  status            " + std::string(mfac::to_string(diagnosis.status)) + '\n');
}

/// The rows of G one after the other through a window; after each the product with it, or with X.
void run_window(const Options& options, const Common& common) {
  common.require_cpu("mfac window");
  if (!options.damping) throw halfulp::DomainError("mfac window", "--damping", "nothing", "given");
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  // as the file has it: the window rounds
  const mfac::Gradients stream = read_gradients(options.gradients, "", common.threads);
  const Size d = stream.dimension(), steps = stream.rows();
  if (steps < 1)
    throw halfulp::IoError(options.gradients, "no rows, must be one or more gradients");
  mfac::WindowOptions computing;
  computing.damping = *options.damping;
  computing.storage =
      options.storage.empty() ? stream.storage() : mfac::storage_from(options.storage);
  computing.normalisation =
      options.normalisation == "window" ? mfac::Normalisation::window : mfac::Normalisation::count;
  computing.threads = common.threads;
  if (options.load.empty() && options.size < 1)
    throw halfulp::DomainError("mfac window", "--size", options.size, ">= 1, or --load given");
  mfac::Window window = options.load.empty() ? mfac::Window(options.size, d, computing)
                                             : mfac::Window::load(options.load, common.threads);
  if (window.dimension() != d)
    throw halfulp::IoError(options.gradients, std::to_string(d) + " columns, must be " +
                                                  std::to_string(window.dimension()) + " as in " +
                                                  options.load);
  if (!options.load.empty()) {
    // What is asked for beside the file must be what is in it; the damping is for the user to
    // change.
    const auto same = [&](const char* option, const std::string& asked, const std::string& held) {
      if (!asked.empty() && asked != held)
        throw halfulp::DomainError("mfac window", option, asked,
                                   held + " as in " + options.load + ", or left out");
    };
    same("--size", options.size > 0 ? std::to_string(options.size) : "",
         std::to_string(window.size()));
    same("--storage", options.storage, std::string(mfac::to_string(window.options().storage)));
    same("--normalisation", options.normalisation,
         window.options().normalisation == mfac::Normalisation::count ? "count" : "window");
    if (window.options().damping != *options.damping) window.set_damping(*options.damping);
  }
  Vectors x;
  if (!options.x.empty()) x = read_vectors(options.x, d);
  if (x.shape.size() == 2 && x.shape[0] != 1)
    throw halfulp::IoError(options.x,
                           std::to_string(x.shape[0]) + " rows, must be one vector for a window");
  Vectors out;
  out.shape = {steps, d};
  out.values.resize(static_cast<std::size_t>(steps * d));
  std::vector<double> gradient(static_cast<std::size_t>(d));
  mfac::Diagnosis worst;
  const auto start = std::chrono::steady_clock::now();
  const halfulp::Progress progress = terminal.callback();
  for (Size t = 0; t < steps; ++t) {
    halfulp::report_progress(progress, static_cast<double>(t) / static_cast<double>(steps),
                             "gradients", "mfac window");
    stream.row(t, gradient);
    const std::span<double> y(out.values.data() + t * d, static_cast<std::size_t>(d));
    const mfac::Diagnosis found = [&] {
      try {
        if (x.values.empty()) return window.step(gradient, y);
        window.add(gradient);
      } catch (const halfulp::DomainError& error) {
        throw halfulp::IoError(options.gradients, "row " + std::to_string(t) + ": " + error.what());
      }
      return from_file(options.x, [&] { return window.inverse_product(x.values, y); });
    }();
    worst.condition = std::fmax(worst.condition, found.condition);
    worst.error = std::fmax(worst.error, found.error);
    if (found.pivot >= 0 && worst.pivot < 0) {
      worst.pivot = found.pivot;
      worst.pivot_value = found.pivot_value;
    }
    worst.status = std::max(worst.status, found.status);
  }
  terminal.clear();
  if (!options.save.empty()) window.save(options.save);
  write_values(options, common, stream, "mfac window", "y", out, worst, seconds_since(start));
}

}  // namespace

void add_mfac(CLI::App& app, const Common& common, Exit& exit) {
  auto* module = app.add_subcommand(
      "mfac", "products with inverses of H = lambda I + G^T G/m, m gradients the rows of G");
  module->require_subcommand(1);
  module->fallthrough();
  // One set of variables for all verbs: only one of them runs.
  const auto options = std::make_shared<Options>();
  const auto add_bare = [&](const char* name, const char* help,
                            void (*run)(const Options&, const Common&)) {
    auto* verb = module->add_subcommand(name, help);
    verb->fallthrough();
    verb->callback([options, &common, run] { run(*options, common); });
    verb->add_option(
            "G", options->gradients,
            "gradients, one a row: NPY (m, d), mapped into memory where it is float16, float32 or "
            "float64, or a table of numbers as text")
        ->required();
    add_number(*verb, "--damping", options->damping, "lambda > 0")->required();
    verb->add_option("--storage", options->storage,
                     "how gradients are held: fp64, fp32, bf16 or fp16; as the file has them "
                     "unless said")
        ->check(CLI::IsMember({"fp64", "fp32", "bf16", "fp16"}));
    return verb;
  };
  const auto add = [&](const char* name, const char* help,
                       void (*run)(const Options&, const Common&)) {
    auto* verb = add_bare(name, help, run);
    verb->add_option("--block", options->block,
                     "H is block-diagonal, blocks of this many coordinates; 0: it is one block")
        ->check(CLI::Range(Size{0}, largest_size))
        ->capture_default_str();
    verb->add_option("--sums", options->sums, "sums over coordinates: fp64 or fp32")
        ->check(CLI::IsMember({"fp64", "fp32"}))
        ->capture_default_str();
    verb->add_option("--precision", options->precision,
                     "auto: refined, or in double-double, where double is not enough; fp64: never")
        ->check(CLI::IsMember({"auto", "fp64"}))
        ->capture_default_str();
    verb->add_option("--refine", options->refinements, "least number of refinements of a product")
        ->check(CLI::Range(0, 100))
        ->capture_default_str();
    return verb;
  };
  const auto add_x = [&](CLI::App* verb) {
    return verb->add_option(
        "X", options->x, "vectors, one a row: NPY (k, d) or (d,), or a table of numbers as text");
  };
  auto* ihvp = add("ihvp", "H^-1 x for each row x of X; the result is shaped like X", run_ihvp);
  add_x(ihvp)->required();
  ihvp->add_flag("--root", options->root, "H^-1/2 x instead");
  add("diag", "the diagonal of H^-1", run_diag);
  auto* element = add("element", "elements of H^-1", run_element);
  element->add_option("I", options->row, "row, from 0")->check(CLI::Range(Size{0}, largest_size));
  element->add_option("J", options->column, "column, from 0")
      ->check(CLI::Range(Size{0}, largest_size));
  element->add_option("--points", options->points, "a table with columns i,j instead");
  add_x(add("influence",
            "g_i^T H^-1 x of all gradients for each row x of X; without X: g_i^T H^-1 g_i",
            run_influence));
  auto* window = add_bare("window",
                          "H^-1 g for each row g of G as it comes into a window of the last ones, "
                          "or H^-1 x after each",
                          run_window);
  window->add_option("--x", options->x, "one vector: NPY (d,), or numbers as text");
  window->add_option("--size", options->size, "gradients in the window")
      ->check(CLI::Range(1, 1 << 20));
  window
      ->add_option("--normalisation", options->normalisation,
                   "what the sum of g g^T is divided by while the window fills: the count of "
                   "gradients in it (count, unless said), or the size of the window (window)")
      ->check(CLI::IsMember({"count", "window"}));
  window->add_option("--load", options->load, "a window that --save wrote, to go on with");
  window->add_option("--save", options->save, "file for the window after the last row");
  add_mfac_prune(*module, common, exit);
  add_mfac_optimize(*module, common, exit);
  add("summary", "condition, log-determinant and trace of the inverse of H", run_summary);
}
