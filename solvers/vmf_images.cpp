#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include "halfulp/csv.hpp"
#include "halfulp/image_features.hpp"
#include "halfulp/npy.hpp"
#include "terminal_progress.hpp"
#include "vmf.hpp"

namespace {

namespace vmf = halfulp::vmf;
using nlohmann::json;

struct FeatureOptions {
  std::string images;
  std::ptrdiff_t dim = 0;
  std::uint64_t first = 0, count = 0;
};

void run_features(const FeatureOptions& options, const Common& common) {
  common.require_cpu("vmf features");
  if (!ends_with(common.out, ".npy"))
    throw halfulp::DomainError("vmf features", "--out", common.out, "the name of an NPY file");
  const halfulp::IdxArray images = halfulp::read_idx(options.images);
  if (images.shape.size() != 3)
    throw halfulp::IoError(options.images, "array of rank " + std::to_string(images.shape.size()) +
                                               ", must be 3: images, rows, columns");
  const auto n = static_cast<std::uint64_t>(images.shape[0]);
  if (options.first > n || (options.count > 0 && options.count > n - options.first))
    throw halfulp::IoError(options.images, std::to_string(n) + " images, --first " +
                                               std::to_string(options.first) + " --count " +
                                               std::to_string(options.count) + " are not there");
  const std::uint64_t count = options.count > 0 ? options.count : n - options.first;
  const auto pixels = static_cast<std::uint64_t>(images.shape[1] * images.shape[2]);
  const std::vector<float> out = from_file(options.images, [&] {
    return halfulp::image_directions(
        std::span(images.values).subspan(options.first * pixels, count * pixels), images.shape[1],
        images.shape[2],
        {.dimension = options.dim, .seed = common.seed, .threads = common.threads});
  });
  const auto rows = static_cast<std::ptrdiff_t>(count);
  const std::ptrdiff_t p = options.dim > 0 ? options.dim : static_cast<std::ptrdiff_t>(pixels);
  halfulp::write_npy<float>(common.out, out, {rows, p});
}

// ---- a fit for each class -----------------------------------------------------------------------

struct ClassOptions {
  std::string points, labels, held_out, held_out_labels;
  std::uint64_t count = 0;
  bool normalise = false;
};

/// Labels of the points: an IDX file, or numbers as everywhere, whole and as many as the points.
std::vector<std::int64_t> read_labels(const std::string& file, std::ptrdiff_t n, bool first_only) {
  std::vector<double> values;
  if (ends_with(file, ".npy") || ends_with(file, ".csv")) {
    values = read_numbers(file);
  } else {
    const halfulp::IdxArray array = halfulp::read_idx(file);
    values.assign(array.values.begin(), array.values.end());
  }
  if (std::ssize(values) < n || (std::ssize(values) > n && !first_only))
    throw halfulp::IoError(file, std::to_string(values.size()) + " labels, must be " +
                                     std::to_string(n) + ", one a point");
  std::vector<std::int64_t> labels;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double v = values[static_cast<std::size_t>(i)];
    if (!(std::floor(v) == v && std::fabs(v) < 0x1p53))
      throw halfulp::IoError(file, "label " + std::to_string(i) + " = " + halfulp::number_text(v) +
                                       ", must be a whole number");
    labels.push_back(static_cast<std::int64_t>(v));
  }
  return labels;
}

std::vector<double> rows_of(const Points& points, const std::vector<std::int64_t>& labels,
                            std::int64_t label) {
  std::vector<double> rows;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] != label) continue;
    const auto from = points.values.begin() + static_cast<std::ptrdiff_t>(i) * points.p;
    rows.insert(rows.end(), from, from + points.p);
  }
  return rows;
}

struct ClassFit {
  std::int64_t label = 0;
  vmf::Fit fit;
  double seconds = 0;
  std::ptrdiff_t held_out = 0;
  double held_out_likelihood = 0;  ///< sum over its points
};

void run_classes(const ClassOptions& options, const Common& common) {
  common.require_cpu("vmf classes");
  const vmf::DataOptions data = {.normalise = options.normalise, .threads = common.threads};
  std::vector<ClassFit> classes;
  std::ptrdiff_t p = 0, n = 0;
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const auto show = terminal.callback();
  {
    const Points points = read_points(options.points);
    p = points.p, n = points.n;
    const auto labels = read_labels(options.labels, points.n, options.count > 0);
    if (options.count > 0 && static_cast<std::ptrdiff_t>(options.count) != points.n)
      throw halfulp::IoError(options.points, std::to_string(points.n) + " points, --count says " +
                                                 std::to_string(options.count));
    // Of all rows at once, so that a bad one is named by its place in the file.
    from_file(options.points, [&] { static_cast<void>(vmf::resultant(points.values, p, data)); });
    std::map<std::int64_t, std::ptrdiff_t> counts;
    for (const std::int64_t label : labels) ++counts[label];
    if (counts.size() > 10000)
      throw halfulp::IoError(options.labels,
                             std::to_string(counts.size()) + " classes, must be at most 10000");
    for (const auto& entry : counts) {
      if (show)
        show(static_cast<double>(classes.size()) / static_cast<double>(counts.size()), "fits");
      const std::vector<double> rows = rows_of(points, labels, entry.first);
      const auto start = std::chrono::steady_clock::now();
      ClassFit one;
      one.label = entry.first;
      one.fit = from_file(options.points + ": class " + std::to_string(entry.first),
                          [&] { return vmf::fit(rows, p, {.data = data}); });
      one.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      classes.push_back(std::move(one));
    }
  }
  // Held out: the likelihood of each class's own model, and the class of the largest posterior.
  std::ptrdiff_t right = 0, held_out = 0;
  if (!options.held_out.empty()) {
    const Points points = read_points(options.held_out);
    if (points.p != p)
      throw halfulp::IoError(options.held_out, std::to_string(points.p) + " columns, must be " +
                                                   std::to_string(p) + " as in " + options.points);
    const auto labels = read_labels(options.held_out_labels, points.n, options.count > 0);
    held_out = points.n;
    std::vector<double> best(labels.size(), -std::numeric_limits<double>::infinity());
    std::vector<std::int64_t> winner(labels.size(), -1);
    std::vector<double> density(labels.size());
    for (ClassFit& one : classes) {
      from_file(options.held_out, [&] {
        static_cast<void>(vmf::resultant(points.values, p, data));
        vmf::log_density(one.fit.distribution, points.values, density, data);
      });
      const double prior = std::log(one.fit.resultant.weight / static_cast<double>(n));
      for (std::size_t i = 0; i < labels.size(); ++i) {
        if (labels[i] == one.label) {
          ++one.held_out;
          one.held_out_likelihood += density[i];
        }
        if (density[i] + prior > best[i]) best[i] = density[i] + prior, winner[i] = one.label;
      }
    }
    for (std::size_t i = 0; i < labels.size(); ++i) right += winner[i] == labels[i];
  }
  terminal.clear();
  const auto dimensions = static_cast<double>(p);
  halfulp::Table table{{"class", "n", "p", "R", "complement", "kappa", "standard_error",
                        "log_likelihood_per_dimension", "seconds"},
                       std::vector<std::vector<double>>(9)};
  if (held_out > 0)
    for (const char* name : {"held_out_n", "held_out_log_likelihood_per_dimension"}) {
      table.names.emplace_back(name);
      table.columns.emplace_back();
    }
  for (const ClassFit& one : classes) {
    const vmf::Fit& f = one.fit;
    const std::array<double, 11> row = {
        static_cast<double>(one.label),
        static_cast<double>(f.resultant.count),
        dimensions,
        f.resultant.length,
        f.resultant.complement,
        f.distribution.kappa,
        f.kappa_error,
        f.log_likelihood / f.resultant.weight / dimensions,
        one.seconds,
        static_cast<double>(one.held_out),
        one.held_out_likelihood / static_cast<double>(one.held_out) / dimensions};
    for (std::size_t k = 0; k < table.columns.size(); ++k) table.columns[k].push_back(row[k]);
  }
  const double accuracy = static_cast<double>(right) / static_cast<double>(held_out);
  if (common.json) {
    json rows = json::array();
    for (std::size_t i = 0; i < classes.size(); ++i) {
      json row;
      for (std::size_t k = 0; k < table.names.size(); ++k)
        row[table.names[k]] = number_json(table.columns[k][i]);
      rows.push_back(row);
    }
    json echo = common.options_json();
    echo.update({{"points", options.points},
                 {"labels", options.labels},
                 {"held_out", options.held_out},
                 {"held_out_labels", options.held_out_labels},
                 {"normalise", options.normalise}});
    json result = {{"classes", rows}, {"n", n}, {"p", p}};
    if (held_out > 0) result.update({{"held_out_n", held_out}, {"held_out_accuracy", accuracy}});
    common.write_json("vmf classes", echo, {{"status", "ok"}}, result);
    return;
  }
  common.write(halfulp::csv_text(table, {.hex = common.hex}));
  if (held_out > 0 && !common.quiet)
    std::cerr << "halfulp: class of the largest posterior right for " << right << " of " << held_out
              << " held out, " << halfulp::number_text(100 * accuracy) << " %\n";
}

}  // namespace

void add_vmf_images(CLI::App& module, const Common& common, Exit&) {
  const auto features = std::make_shared<FeatureOptions>();
  auto* verb = module.add_subcommand(
      "features", "images of an IDX file as directions: pixels, or random convolution features");
  verb->fallthrough();
  verb->add_option("IMAGES", features->images, "IDX file of unsigned bytes (n, rows, columns)")
      ->required();
  verb->add_option("--dim", features->dim,
                   "dimensions of the features, a multiple of 64; 0: the pixels")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_option("--first", features->first, "index of the first image")->capture_default_str();
  verb->add_option("--count", features->count, "how many images; 0: all")->capture_default_str();
  verb->footer("Sample:\n  halfulp vmf features images.idx --dim 2048 --seed 1 --out X.npy");
  verb->callback([features, &common] { run_features(*features, common); });

  const auto classes = std::make_shared<ClassOptions>();
  auto* fits = module.add_subcommand(
      "classes", "a fit for each class, with the likelihood of data that was held out");
  fits->fallthrough();
  fits->add_option("X", classes->points, "points, one a row")->required();
  fits->add_option("--labels", classes->labels, "class of each row: IDX, NPY (n,) or CSV")
      ->required();
  auto* held_out = fits->add_option("--held-out", classes->held_out, "other points");
  auto* held_out_labels =
      fits->add_option("--held-out-labels", classes->held_out_labels, "their classes");
  held_out->needs(held_out_labels);
  held_out_labels->needs(held_out);
  fits->add_option("--count", classes->count,
                   "the points are the first so many that the labels are of; 0: all")
      ->capture_default_str();
  fits->add_flag("--normalise", classes->normalise, "divide each row by its norm");
  fits->footer(
      "Prints a CSV table, a row a class.\nSample:\n"
      "  halfulp vmf classes X.npy --labels y.idx --held-out T.npy --held-out-labels t.idx");
  fits->callback([classes, &common] { run_classes(*classes, common); });
}
