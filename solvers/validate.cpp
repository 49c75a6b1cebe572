#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>
#include <vector>

#include "common.hpp"
#include "halfulp/bessel.hpp"
#include "halfulp/csv.hpp"
#include "halfulp/info.hpp"
#include "halfulp/random.hpp"

// Measures the library on this machine against the reference tables of validation/data and holds it
// to validation/budgets.csv. A module is entries of one table below.
namespace {

using halfulp::BesselFunction;
using halfulp::hex_text;
using halfulp::number_text;
using nlohmann::json;
using Values = std::vector<double>;

/// What is measured: one function of two arguments with its reference table and budget.
struct Entry {
  std::string module;
  std::string table;   // validation/data/<table>.csv: columns region, v, x, hi, lo
  std::string budget;  // row of validation/budgets.csv
  bool mixed;          // the budget is of |error|/(u max(1, |value|)), not of ulps
  std::string verb;    // replays a point: halfulp <verb> --points FILE
  std::function<void(const Values& v, const Values& x, Values& out, int threads)> evaluate;
};

/// Something that must hold everywhere: counts how often it does not.
struct Identity {
  std::string module;
  std::string name;
  std::function<std::ptrdiff_t(std::ptrdiff_t n, const Common& common)> violations;
};

const char* const bessel_regions[] = {
    "box",       "small",          "small_log",     "transition", "zeros_i",
    "zeros_k",   "zeros_k_scaled", "half_integers", "order_zero", "large_order",
    "extreme_x", "seams",          "tiny_order",    "cells",      "small_cells"};

std::vector<Entry> entries() {
  struct Name {
    BesselFunction function;
    const char* table;
    const char* verb;
  };
  const Name names[] = {
      {BesselFunction::log_i, "log_i", "log-i"},
      {BesselFunction::log_k, "log_k", "log-k"},
      {BesselFunction::log_i_scaled, "log_i_scaled", "log-i-scaled"},
      {BesselFunction::log_k_scaled, "log_k_scaled", "log-k-scaled"},
      {BesselFunction::i_ratio, "i_ratio", "ratio-i"},
      {BesselFunction::i_ratio_complement, "i_ratio_complement", "ratio-i-complement"},
      {BesselFunction::i_ratio_derivative, "i_ratio_derivative", "ratio-i-dx"},
      {BesselFunction::k_ratio, "k_ratio", "ratio-k"},
      {BesselFunction::k_ratio_complement, "k_ratio_complement", "ratio-k-complement"},
      {BesselFunction::k_ratio_derivative, "k_ratio_derivative", "ratio-k-dx"},
      {BesselFunction::log_i_dx, "log_i_dx", "log-i-dx"},
      {BesselFunction::log_k_dx, "log_k_dx", "log-k-dx"},
      {BesselFunction::log_i_dv, "log_i_dv", "log-i-dv"},
      {BesselFunction::log_k_dv, "log_k_dv", "log-k-dv"},
  };
  std::vector<Entry> all;
  for (const Name& name : names)
    for (const auto mode : {halfulp::BesselMode::accurate, halfulp::BesselMode::fast}) {
      const bool fast = mode == halfulp::BesselMode::fast;
      if (fast && name.function > BesselFunction::log_k_scaled) continue;
      const std::string table = std::string("bessel_") + name.table;
      all.push_back(
          {"bessel", table, fast ? "bessel_log_fast" : table, fast,
           std::string("bessel ") + name.verb + (fast ? " --mode fast" : ""),
           [f = name.function, mode](const Values& v, const Values& x, Values& out, int threads) {
             halfulp::bessel(f, v, x, out, {.mode = mode, .threads = threads});
           }});
    }
  return all;
}

/// Log-uniform points, the same for any number of threads.
void sample(std::ptrdiff_t n, std::uint64_t seed, Values& v, Values& x) {
  v.resize(static_cast<std::size_t>(n));
  x.resize(v.size());
  halfulp::RandomStream(seed, 0).fill_uniform(v);
  halfulp::RandomStream(seed, 1).fill_uniform(x);
  for (auto& value : v) value = std::exp(std::log(1e-6) + std::log(1e12) * value);
  for (auto& value : x) value = std::exp(std::log(1e-8) + std::log(1e15) * value);
}

Values batch(BesselFunction f, const Values& v, const Values& x, int threads) {
  Values out(v.size());
  halfulp::bessel(f, v, x, out, {.threads = threads});
  return out;
}

std::vector<Identity> identities() {
  const auto monotone = [](BesselFunction f, bool in_v, int direction) {
    return [=](std::ptrdiff_t n, const Common& common) {
      Values v, x;
      sample(n, common.seed, v, x);
      const Values before = batch(f, v, x, common.threads);
      const halfulp::RandomStream random(common.seed, 2);
      std::uint64_t index = 0;
      for (auto& value : in_v ? v : x) value *= 1 + std::exp(-36 * random.uniform(index++));
      const Values after = batch(f, v, x, common.threads);
      std::ptrdiff_t count = 0;
      for (std::size_t i = 0; i < before.size(); ++i) {
        const double ulp = std::nextafter(std::fabs(before[i]), HUGE_VAL) - std::fabs(before[i]);
        count += !(direction * (after[i] - before[i]) >= -ulp) ? 1 : 0;
      }
      return count;
    };
  };
  return {
      {"bessel", "log I falls in v", monotone(BesselFunction::log_i, true, -1)},
      {"bessel", "log I rises in x", monotone(BesselFunction::log_i, false, 1)},
      {"bessel", "log K rises in v", monotone(BesselFunction::log_k, true, 1)},
      {"bessel", "log K falls in x", monotone(BesselFunction::log_k, false, -1)},
      {"bessel", "Wronskian: x I K (ratio K + ratio I) = 1",
       [](std::ptrdiff_t n, const Common& common) {
         Values v, x;
         sample(n / 10, common.seed, v, x);
         const Values i = batch(BesselFunction::log_i, v, x, common.threads);
         const Values k = batch(BesselFunction::log_k, v, x, common.threads);
         const Values ri = batch(BesselFunction::i_ratio, v, x, common.threads);
         const Values rk = batch(BesselFunction::k_ratio, v, x, common.threads);
         std::ptrdiff_t count = 0;
         for (std::size_t j = 0; j < v.size(); ++j) {
           const double sum = std::log(x[j]) + std::log(ri[j] + rk[j]) + i[j] + k[j];
           const double size = 1 + std::fabs(i[j]) + std::fabs(std::log(x[j]));
           count += !(std::fabs(sum) <= 8 * 0x1p-53 * size) ? 1 : 0;
         }
         return count;
       }},
  };
}

struct Point {
  int region;
  double v, x, value, reference, ulp, mixed;
};

struct Summary {
  std::string region;
  std::ptrdiff_t count = 0;
  double limit = 0, worst = 0, p999 = 0, p99 = 0, median = 0, bias = 0;
  std::vector<std::ptrdiff_t> histogram = std::vector<std::ptrdiff_t>(8);
  bool passed = true;
};

struct Result {
  Entry entry;
  std::vector<Point> points;
  std::vector<Summary> regions;  // the last of all together
};

constexpr double histogram_edges[] = {0.25, 0.5, 0.75, 1, 2, 4, 16};

double budget(const std::filesystem::path& file, const std::string& name) {
  std::ifstream in(file);
  if (!in) throw halfulp::IoError(file.string(), "cannot be read");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name + ',')) continue;
    const auto number = halfulp::parse_number(line.substr(line.rfind(',') + 1));
    if (number) return *number;
  }
  throw halfulp::IoError(file.string(), "has no row " + name);
}

Summary summarise(const std::vector<Point>& points, const Entry& entry, int region, double limit) {
  Summary s;
  s.region = region < 0 ? "all" : bessel_regions[region];
  s.limit = limit;
  Values errors;
  for (const Point& p : points) {
    if (region >= 0 && p.region != region) continue;
    const double error = entry.mixed ? p.mixed : p.ulp;
    errors.push_back(error);
    s.bias += (p.value >= p.reference ? 1 : -1) * (std::isfinite(error) ? error : 0);
    std::size_t bin = 0;
    while (bin < std::size(histogram_edges) && !(error <= histogram_edges[bin])) ++bin;
    ++s.histogram[bin];
  }
  s.count = std::ssize(errors);
  if (errors.empty()) return s;
  std::sort(errors.begin(), errors.end());
  const auto quantile = [&](double q) {
    return errors[static_cast<std::size_t>(q * static_cast<double>(errors.size() - 1))];
  };
  s.worst = errors.back();
  s.p999 = quantile(0.999);
  s.p99 = quantile(0.99);
  s.median = quantile(0.5);
  s.bias /= static_cast<double>(errors.size());
  s.passed = s.worst <= limit;
  return s;
}

Result measure(const Entry& entry, const std::filesystem::path& data, int threads) {
  const halfulp::Table table = halfulp::read_csv(data / "data" / (entry.table + ".csv"));
  const double limit = budget(data / "budgets.csv", entry.budget);
  const Values &v = table.column("v"), &x = table.column("x"), &hi = table.column("hi");
  const Values &lo = table.column("lo"), &region = table.column("region");
  Values value(v.size());
  entry.evaluate(v, x, value, threads);
  Result result{entry, {}, {}};
  int regions = 0;
  for (std::size_t i = 0; i < v.size(); ++i) {
    if (entry.mixed && v[i] > 1e6) continue;  // the domain of the fast mode
    Point p{static_cast<int>(region[i]), v[i], x[i], value[i], hi[i], HUGE_VAL, HUGE_VAL};
    if (std::isfinite(value[i])) {
      const double error = std::fabs((value[i] - hi[i]) - lo[i]);
      int exponent = 0;
      std::frexp(hi[i], &exponent);
      p.ulp = error / std::ldexp(1.0, std::max(exponent - 53, -1074));
      p.mixed = error / std::fmax(1, std::fabs(hi[i])) * 0x1p53;
    }
    regions = std::max(regions, p.region + 1);
    result.points.push_back(p);
  }
  for (int r = 0; r < regions; ++r) {
    const Summary s = summarise(result.points, entry, r, limit);
    if (s.count > 0) result.regions.push_back(s);
  }
  result.regions.push_back(summarise(result.points, entry, -1, limit));
  return result;
}

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", value);
  return text;
}

std::vector<Point> worst_points(const Result& result, std::size_t count) {
  std::vector<Point> points = result.points;
  const bool mixed = result.entry.mixed;
  std::sort(points.begin(), points.end(), [mixed](const Point& a, const Point& b) {
    return mixed ? a.mixed > b.mixed : a.ulp > b.ulp;
  });
  if (points.size() > count)
    points.erase(points.begin() + static_cast<std::ptrdiff_t>(count), points.end());
  return points;
}

std::string replay(const Entry& entry, const Point& p) {
  return "printf 'v,x\\n" + hex_text(p.v) + ',' + hex_text(p.x) + "\\n' | halfulp " + entry.verb +
         " --hex --points /dev/stdin";
}

/// The map of errors over (v, x), both on log scales.
std::string map_svg(const Result& result) {
  constexpr double width = 640, height = 360, left = -12, right = 17, bottom = -30, top = 20;
  std::string svg =
      "<svg viewBox='0 0 640 360' width='640' height='360'><rect width='640' "
      "height='360' fill='#f6f6f6'/>";
  for (const Point& p : result.points) {
    const double a = std::clamp(std::log10(std::fmax(p.v, 1e-300)), left, right);
    const double b = std::clamp(std::log10(p.x), bottom, top);
    const double error = (result.entry.mixed ? p.mixed : p.ulp) / result.regions.back().limit;
    const char* colour = error <= 0.25  ? "#9ecae1"
                         : error <= 0.5 ? "#4292c6"
                         : error <= 1   ? "#08519c"
                                        : "#d7301f";
    char text[160];
    std::snprintf(text, sizeof text, "<circle cx='%.1f' cy='%.1f' r='2' fill='%s'/>",
                  (a - left) / (right - left) * width,
                  height - (b - bottom) / (top - bottom) * height, colour);
    svg += text;
  }
  return svg +
         "</svg><p>Across: log<sub>10</sub> v from -12 to 17; up: log<sub>10</sub> x from -30 to "
         "20. Light to dark: up to 1/4, 1/2, 1 of the limit; red: beyond.</p>";
}

std::string escape_html(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

std::string html(const std::vector<Result>& results, const json& checks,
                 const std::string& environment) {
  std::string text =
      "<!doctype html><meta charset='utf-8'><title>halfulp validate</title><style>body{font:14px "
      "sans-serif;max-width:1000px;margin:2em auto}td,th{padding:2px "
      "8px;text-align:right}td:first-child,"
      "th:first-child{text-align:left}.bad{color:#d7301f;font-weight:bold}code{font-size:12px}</"
      "style>"
      "<h1>halfulp validate</h1><p>" +
      escape_html(environment) + "</p><table><tr><th>check<th>n<th>violations</tr>";
  for (const auto& check : checks)
    text += "<tr><td>" + escape_html(check["name"]) + "<td>" +
            std::to_string(check["n"].get<long>()) + "<td>" +
            std::to_string(check["violations"].get<long>()) + "</tr>";
  text += "</table>";
  for (const Result& result : results) {
    const Entry& entry = result.entry;
    text +=
        "<h2>" + escape_html(entry.verb) + "</h2><p>Budget " + entry.budget + ", in " +
        (entry.mixed ? "u max(1, |value|), u = 2<sup>-53</sup>" : "units in the last place") +
        ".</p><table><tr><th>region<th>n<th>max<th>p99.9<th>p99<th>median<th>bias<th>limit<th></"
        "tr>";
    for (const Summary& s : result.regions)
      text += "<tr><td>" + s.region + "<td>" + std::to_string(s.count) + "<td>" + fixed(s.worst) +
              "<td>" + fixed(s.p999) + "<td>" + fixed(s.p99) + "<td>" + fixed(s.median) + "<td>" +
              fixed(s.bias) + "<td>" + number_text(s.limit) +
              (s.passed ? "<td>ok</tr>" : "<td class='bad'>FAILED</tr>");
    const Summary& all = result.regions.back();
    text += "</table><p>0 failures in " + std::to_string(all.count) + " means under " +
            number_text(std::round(3e5 / static_cast<double>(all.count)) / 1e5) +
            " of the sampled measure at 95 %.</p><p>Histogram:";
    for (std::size_t i = 0; i < all.histogram.size(); ++i)
      text +=
          (i < std::size(histogram_edges) ? " to " + number_text(histogram_edges[i]) : " beyond") +
          ": " + std::to_string(all.histogram[i]) + (i + 1 < all.histogram.size() ? "," : ".");
    text += "</p>" + map_svg(result) + "<details><summary>The 20 worst points</summary><pre>";
    for (const Point& p : worst_points(result, 20))
      text += fixed(entry.mixed ? p.mixed : p.ulp) + "  v " + hex_text(p.v) + "  x " +
              hex_text(p.x) + "  computed " + hex_text(p.value) + "  reference " +
              hex_text(p.reference) + "\n       " + escape_html(replay(entry, p)) + "\n";
    text += "</pre></details>";
  }
  return text;
}

struct Options {
  std::string module;
  std::string data;
  std::string html;
  std::ptrdiff_t samples = 1000000;
};

/// --data, else what is installed beside the program, else the folder it was built from.
std::filesystem::path data_folder(const std::string& given) {
  if (!given.empty()) return given;
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  auto installed = program.parent_path().parent_path() / "share" / "halfulp" / "validation";
  if (!error && std::filesystem::exists(installed / "budgets.csv")) return installed;
  return HALFULP_VALIDATION_FOLDER;
}

void validate(const Options& options, const Common& common, Exit& exit) {
  common.require_cpu("validate");
  const auto began = std::chrono::steady_clock::now();
  const auto data = data_folder(options.data);
  std::vector<Result> results;
  bool passed = true;
  for (const Entry& entry : entries()) {
    if (!options.module.empty() && entry.module != options.module) continue;
    results.push_back(measure(entry, data, common.threads));
    passed = passed && results.back().regions.back().passed;
  }
  json checks = json::array();
  for (const Identity& identity : identities()) {
    if (!options.module.empty() && identity.module != options.module) continue;
    const auto count = identity.violations(options.samples, common);
    checks.push_back({{"name", identity.name}, {"n", options.samples}, {"violations", count}});
    passed = passed && count == 0;
  }
  const halfulp::Info info = halfulp::info();
  std::string environment =
      "halfulp " + info.version + ", " + info.compiler + ", " + info.build + ", instruction sets";
  for (const auto& set : info.instruction_sets) environment += ' ' + set;
  environment += ", seed " + std::to_string(common.seed);
  if (!options.html.empty())
    halfulp::write_file_atomic(options.html, html(results, checks, environment));
  if (!passed) exit = Exit::failure;
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (common.json) {
    json edges = json::array();
    for (const double edge : histogram_edges) edges.push_back(edge);
    json functions = json::array();
    for (const Result& result : results) {
      json regions = json::array();
      for (const Summary& s : result.regions)
        regions.push_back({{"region", s.region},
                           {"n", s.count},
                           {"max", s.worst},
                           {"p99.9", s.p999},
                           {"p99", s.p99},
                           {"median", s.median},
                           {"bias", s.bias},
                           {"histogram", s.histogram},
                           {"limit", s.limit},
                           {"passed", s.passed}});
      json worst = json::array();
      for (const Point& p : worst_points(result, 20))
        worst.push_back({{"v", hex_text(p.v)},
                         {"x", hex_text(p.x)},
                         {"computed", hex_text(p.value)},
                         {"reference", hex_text(p.reference)},
                         {"ulp", p.ulp},
                         {"mixed", p.mixed},
                         {"replay", replay(result.entry, p)}});
      functions.push_back({{"name", result.entry.verb},
                           {"budget", result.entry.budget},
                           {"metric", result.entry.mixed ? "mixed" : "ulp"},
                           {"regions", regions},
                           {"worst", worst}});
    }
    json echo = common.options_json();
    echo["module"] = options.module;
    common.write_json("validate", echo,
                      {{"status", passed ? "passed" : "failed"},
                       {"seconds", seconds},
                       {"environment", environment}},
                      {{"histogram_edges", edges}, {"functions", functions}, {"checks", checks}});
    return;
  }
  std::ostringstream text;
  text << environment << "\n\n";
  char line[256];
  std::snprintf(line, sizeof line, "%-36s %-15s %6s %9s %9s %9s %7s\n", "function", "worst region",
                "n", "max", "p99", "median", "limit");
  text << line;
  for (const Result& result : results) {
    const Summary& all = result.regions.back();
    const auto worst =
        std::max_element(result.regions.begin(), result.regions.end() - 1,
                         [](const Summary& a, const Summary& b) { return a.worst < b.worst; });
    std::snprintf(line, sizeof line, "%-36s %-15s %6td %9.3f %9.3f %9.3f %7g %s\n",
                  result.entry.verb.c_str(), worst->region.c_str(), all.count, all.worst, all.p99,
                  all.median, all.limit, all.passed ? "ok" : "FAILED");
    text << line;
    if (!all.passed) text << "    " << replay(result.entry, worst_points(result, 1)[0]) << '\n';
  }
  text << '\n';
  for (const auto& check : checks) {
    std::snprintf(line, sizeof line, "%-52s %8ld pairs %6ld violations\n",
                  check["name"].get<std::string>().c_str(), check["n"].get<long>(),
                  check["violations"].get<long>());
    text << line;
  }
  text << '\n' << (passed ? "passed" : "FAILED") << " in " << fixed(seconds) << " s\n";
  common.write(text.str());
}

}  // namespace

void add_validate(CLI::App& app, const Common& common, Exit& exit) {
  auto* verb = app.add_subcommand("validate",
                                  "measure errors against the reference tables and budgets, now");
  auto options = std::make_shared<Options>();
  verb->add_option("MODULE", options->module, "one module instead of all")
      ->check(CLI::IsMember({"bessel"}));
  verb->add_option("--html", options->html, "write a report to this file");
  verb->add_option("--data", options->data, "folder with budgets.csv and data/")
      ->check(CLI::ExistingDirectory);
  verb->add_option("--samples", options->samples, "random pairs for each identity")
      ->check(CLI::Range(std::ptrdiff_t{10}, std::ptrdiff_t{1} << 30))
      ->capture_default_str();
  verb->callback([options, &common, &exit] { validate(*options, common, exit); });
}
