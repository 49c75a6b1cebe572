#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <set>
#include <sstream>

#include "halfulp/csv.hpp"
#ifdef HALFULP_WITH_CUDA
#include "halfulp/cuda/memory.hpp"
#endif
#include "halfulp/info.hpp"
#include "validate_report.hpp"
#include "validation.hpp"

// Measures the library on this machine against the reference tables of validation/data and holds it
// to validation/budgets.csv.
namespace {

using namespace validation;
using nlohmann::json;

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

/// The comment `# region: 0 box 1 small ...` of a table.
std::vector<std::string> region_names(const std::filesystem::path& file) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line) && line.starts_with('#');) {
    if (!line.starts_with("# region:")) continue;
    std::istringstream words(line.substr(9));
    std::vector<std::string> names;
    for (std::string index, name; words >> index >> name;) names.push_back(name);
    return names;
  }
  throw halfulp::IoError(file.string(), "has no line '# region: 0 NAME ...'");
}

Summary summarise(const Result& result, int region, double limit) {
  Summary s;
  s.region = region < 0 ? "all" : result.region_names[static_cast<std::size_t>(region)];
  s.limit = limit;
  Values errors;
  for (const Point& p : result.points) {
    if (region >= 0 && p.region != region) continue;
    const double error = error_of(result.entry, p);
    errors.push_back(error);
    s.other_worst = std::fmax(s.other_worst, result.entry.metric == Metric::ulp ? p.mixed : p.ulp);
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

/// One unit in the last place of the type at a value.
double ulp_at(double value, const std::string& type) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return type == "float" ? std::ldexp(1.0, std::max(exponent - 24, -149))
                         : std::ldexp(1.0, std::max(exponent - 53, -1074));
}

Result measure(const Entry& entry, const std::filesystem::path& data, int threads) {
  const auto file = data / "data" / (entry.table + ".csv");
  const halfulp::Table table = halfulp::read_csv(file);
  const double limit = budget(data / "budgets.csv", entry.budget);
  Result result{entry, region_names(file), {}, {}, {}};
  const Values& all_v = table.column(entry.arguments[0]);
  const Values& all_x = table.column(entry.arguments[1]);
  const Values &hi = table.column("hi"), &lo = table.column("lo"), &region = table.column("region");
  const Values none;
  const bool conditioned = entry.metric == Metric::conditioned;
  const Values& condition = conditioned ? table.column("condition") : none;
  const bool single = entry.type == "float";
  const auto is_float = [](double a) { return static_cast<double>(static_cast<float>(a)) == a; };
  std::vector<std::size_t> rows;
  Values v, x;
  for (std::size_t i = 0; i < all_v.size(); ++i) {
    if (all_v[i] > entry.most_v) continue;
    if (std::fabs(hi[i]) < entry.least_share * std::hypot(all_v[i], all_x[i])) continue;
    if (single && !(is_float(all_v[i]) && is_float(all_x[i]) &&
                    std::fabs(hi[i]) <= std::numeric_limits<float>::max()))
      continue;
    if (!(region[i] >= 0 && region[i] < static_cast<double>(result.region_names.size())))
      throw halfulp::IoError(file.string(), "has a region without a name");
    rows.push_back(i);
    v.push_back(all_v[i]);
    x.push_back(all_x[i]);
  }
  if (rows.empty()) throw halfulp::IoError(file.string(), "has no row for " + entry.verb);
  Values value(v.size());
  entry.evaluate(v, x, value, threads);
  const auto mixed_error = [&](double computed, std::size_t row) {
    if (!std::isfinite(computed)) return HUGE_VAL;
    return std::fabs((computed - hi[row]) - lo[row]) / std::fmax(1, std::fabs(hi[row])) * 0x1p53;
  };
  // the unit of subnormal values is that of rounding them
  const auto conditioned_error = [&](double computed, std::size_t row) {
    if (!std::isfinite(computed)) return HUGE_VAL;
    const double unit = std::fmax(0x1p-53 * std::fabs(hi[row]), 0x1p-1074);
    return std::fabs((computed - hi[row]) - lo[row]) / unit / (1 + condition[row]);
  };
  int regions = 0;
  for (std::size_t k = 0; k < rows.size(); ++k) {
    const std::size_t i = rows[k];
    Point p{static_cast<int>(region[i]),
            v[k],
            x[k],
            value[k],
            hi[i],
            HUGE_VAL,
            mixed_error(value[k], i),
            conditioned ? conditioned_error(value[k], i) : 0};
    if (std::isfinite(value[k]))
      p.ulp = std::fabs((value[k] - hi[i]) - lo[i]) / ulp_at(hi[i], entry.type);
    regions = std::max(regions, p.region + 1);
    result.points.push_back(p);
  }
  for (int r = 0; r < regions; ++r) {
    const Summary s = summarise(result, r, limit);
    if (s.count > 0) result.regions.push_back(s);
  }
  result.regions.push_back(summarise(result, -1, limit));
  for (const Peer& peer : entry.peers) {
    PeerResult other{peer.name, {}, 0};
    for (std::size_t k = 0; k < rows.size(); ++k) {
      if (v[k] > peer.most_v || x[k] > peer.most_x) continue;
      const double computed = peer.evaluate(v[k], x[k]);
      other.errors.push_back(conditioned ? conditioned_error(computed, rows[k])
                                         : mixed_error(computed, rows[k]));
      other.failed += std::isfinite(other.errors.back()) ? 0 : 1;
    }
    std::sort(other.errors.begin(), other.errors.end());
    result.peers.push_back(std::move(other));
  }
  return result;
}

SpecialResult measure(const SpecialValues& asked) {
  SpecialResult result{asked, {}, 0};
  for (const double v : asked.v)
    for (const double x : asked.x) {
      const double y = asked.evaluate(v, x);
      const auto expected = asked.expected(v, x);
      const bool good =
          !expected ? std::isfinite(y)
          : std::isnan(*expected)
              ? std::isnan(y)
              : std::fabs(y - *expected) <= ulp_at(*expected, "double") || y == *expected;
      result.values.push_back(y);
      result.violations += good ? 0 : 1;
    }
  return result;
}

/// FNV-1a of the tables that were used.
std::string checksum(const std::filesystem::path& data, const std::set<std::string>& tables) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const auto& table : tables) {
    std::ifstream in(data / "data" / (table + ".csv"), std::ios::binary);
    for (char c = 0; in.get(c);) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

/// Worst error of each function in the JSON of an earlier run.
std::map<std::string, double> read_previous(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw halfulp::IoError(file, "cannot be read");
  const json object = json::parse(in, nullptr, false);
  std::map<std::string, double> worst;
  const auto* functions = object.is_object() && object.contains("result") &&
                                  object["result"].is_object() &&
                                  object["result"].contains("functions")
                              ? &object["result"]["functions"]
                              : nullptr;
  if (functions == nullptr || !functions->is_array())
    throw halfulp::IoError(file, "is not what 'halfulp validate --json' writes");
  try {
    for (const json& f : *functions) {
      const json& last = f.at("regions").back().at("max");
      worst[f.at("name")] = last.is_number() ? last.get<double>() : HUGE_VAL;
    }
  } catch (const json::exception&) {
    throw halfulp::IoError(file, "is not what 'halfulp validate --json' writes");
  }
  return worst;
}

struct Options {
  std::string module;
  std::string data;
  std::string html, csv, junit, previous;
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
  // where there is a device its functions are measured too; --device cuda wants one
#ifdef HALFULP_WITH_CUDA
  if (common.device == "cuda" && halfulp::cuda::device_count() == 0)
    throw halfulp::DeviceError("validate", 0, "there is no CUDA device");
#else
  common.require_cpu("validate");
#endif
  const auto began = std::chrono::steady_clock::now();
  const auto data = data_folder(options.data);
  Registry registry;
  register_bessel(registry);
  register_gp_pde(registry);
  register_mfac(registry);
  register_vmf(registry);
  const auto wanted = [&](const auto& item) {
    return options.module.empty() || item.module == options.module;
  };
  Outcome outcome;
  if (!options.previous.empty()) outcome.previous = read_previous(options.previous);
  std::set<std::string> tables;
  for (const Entry& entry : registry.entries)
    if (wanted(entry)) {
      outcome.results.push_back(measure(entry, data, common.threads));
      tables.insert(entry.table);
    }
  outcome.table_checksum = checksum(data, tables);
  for (const Measurement& m : registry.measurements)
    if (wanted(m))
      outcome.measurements.push_back({m, m.error(common), budget(data / "budgets.csv", m.budget)});
  for (const Identity& identity : registry.identities)
    if (wanted(identity))
      outcome.identities.push_back({identity.name, identity.check(options.samples, common)});
  for (const SpecialValues& special : registry.special_values)
    if (wanted(special)) outcome.special_values.push_back(measure(special));
  const halfulp::Info info = halfulp::info();
  outcome.environment =
      "halfulp " + info.version + ", " + info.compiler + ", " + info.build + ", instruction sets";
  for (const auto& set : info.instruction_sets) outcome.environment += ' ' + set;
  outcome.environment += ", seed " + std::to_string(common.seed);
  outcome.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  if (!options.html.empty()) halfulp::write_file_atomic(options.html, html_report(outcome));
  if (!options.csv.empty()) halfulp::write_file_atomic(options.csv, csv_report(outcome));
  if (!options.junit.empty()) halfulp::write_file_atomic(options.junit, junit_report(outcome));
  if (!outcome.passed()) exit = Exit::failure;
  if (!common.json) return common.write(text_report(outcome));
  json echo = common.options_json();
  echo["module"] = options.module;
  common.write_json("validate", echo,
                    {{"status", outcome.passed() ? "passed" : "failed"},
                     {"seconds", outcome.seconds},
                     {"environment", outcome.environment}},
                    json_report(outcome));
}

}  // namespace

void add_validate(CLI::App& app, const Common& common, Exit& exit) {
  auto* verb = app.add_subcommand("validate",
                                  "measure errors against the reference tables and budgets, now");
  auto options = std::make_shared<Options>();
  verb->add_option("MODULE", options->module, "one module instead of all")
      ->check(CLI::IsMember({"bessel", "gp_pde", "mfac", "vmf"}));
  verb->add_option("--html", options->html, "write a report to this file");
  verb->add_option("--csv", options->csv, "write the rows of the report to this file");
  verb->add_option("--junit", options->junit, "write verdicts in JUnit's format to this file");
  verb->add_option("--previous", options->previous,
                   "JSON of an earlier run, whose errors are shown beside");
  verb->add_option("--data", options->data, "folder with budgets.csv and data/")
      ->check(CLI::ExistingDirectory);
  verb->add_option("--samples", options->samples, "random pairs for each identity")
      ->check(CLI::Range(std::ptrdiff_t{10}, std::ptrdiff_t{1} << 30))
      ->capture_default_str();
  verb->footer(
      "Samples:\n"
      "  halfulp validate bessel --html report.html\n"
      "  halfulp validate --json --out now.json --previous before.json\n"
      "Exit codes: 0 within all budgets, 1 not, 2 could not run.");
  verb->callback([options, &common, &exit] { validate(*options, common, exit); });
}
