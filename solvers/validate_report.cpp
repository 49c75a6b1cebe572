#include "validate_report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "halfulp/error_picture.hpp"

namespace validation {
namespace {

using halfulp::hex_text;
using halfulp::number_text;
using nlohmann::json;

std::string fixed(double value) {
  char text[32];
  std::snprintf(text, sizeof text, std::fabs(value) < 1e5 ? "%.3f" : "%.2e", value);
  return text;
}

std::string short_error(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2e", value);
  return text;
}

std::string metric_of(const Entry& entry) {
  return entry.metric == Metric::ulp     ? "ulp"
         : entry.metric == Metric::mixed ? "mixed"
                                         : "conditioned";
}

/// The same for pictures with several libraries: their errors in ulps would be of no use next to 0.
std::string shared_metric_of(const Entry& entry) {
  return entry.metric == Metric::conditioned ? "conditioned" : "mixed";
}

constexpr const char* mixed_unit = "u max(1, |value|)";
constexpr const char* conditioned_unit = "u (1 + condition number) |value|";

std::string replay(const Entry& entry, const Point& p) {
  return "printf '" + entry.arguments[0] + ',' + entry.arguments[1] + "\\n" + hex_text(p.v) + ',' +
         hex_text(p.x) + "\\n' | halfulp " + entry.verb + " --hex --points /dev/stdin";
}

/// Under what share of the sampled measure failures are, at 95 %, given that none was seen.
std::string sentence(std::ptrdiff_t count) {
  return "0 failures in " + std::to_string(count) + " means under " +
         number_text(std::round(3e5 / static_cast<double>(count)) / 1e5) +
         " of the sampled measure at 95 %.";
}

std::string escape_markup(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '&')
      out += "&amp;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

std::string previous_text(const Outcome& outcome, const Result& result) {
  const auto found = outcome.previous.find(result.entry.verb);
  return found == outcome.previous.end() ? "" : fixed(found->second);
}

// ---- pictures of the HTML page ----------------------------------------------------------------

halfulp::DecadeAxis decades(const Axis& axis) { return {axis.name, axis.low, axis.high}; }

/// Errors over both arguments, at the seams and in the cells, and beside those of the peers.
std::string picture_of(const Result& result) {
  const Entry& entry = result.entry;
  const double limit = result.regions.back().limit;
  const bool conditioned = entry.metric == Metric::conditioned;
  halfulp::ErrorPicture picture;
  picture.title = entry.verb;
  picture.facts = {std::to_string(result.points.size()) + " points",
                   "limit " + number_text(limit) + " " + metric_of(entry),
                   "beyond the axes: at their ends"};
  picture.across = decades(entry.across);
  picture.up = decades(entry.up);
  picture.along = decades(entry.along);
  picture.unit = std::string(conditioned ? "u (1 + condition) |value|" : mixed_unit) + ", u = 2⁻⁵³";
  std::vector<halfulp::ErrorPicture::Seam> seams, cells;
  halfulp::ErrorPicture::Errors own{"halfulp", {}};
  for (const Point& p : result.points) {
    const double error = error_of(entry, p) / limit;
    picture.points.push_back({entry.across.value(p.v, p.x), entry.up.value(p.v, p.x), error});
    const std::string& region = result.region_names[static_cast<std::size_t>(p.region)];
    if (region == "seams" || region == "cells")
      (region == "seams" ? seams : cells).push_back({entry.along.value(p.v, p.x), error});
    own.values.push_back(conditioned ? p.conditioned : p.mixed);
  }
  if (!seams.empty()) picture.seams.emplace_back("seams", std::move(seams));
  if (!cells.empty()) picture.seams.emplace_back("cells", std::move(cells));
  std::sort(own.values.begin(), own.values.end());
  picture.distributions.push_back(std::move(own));
  for (const PeerResult& peer : result.peers)
    picture.distributions.push_back({peer.name + ", " + std::to_string(peer.failed) + " of " +
                                         std::to_string(peer.errors.size()) + " not finite",
                                     peer.errors});
  const std::string svg = halfulp::draw_svg(picture);
  return svg.substr(svg.find("<svg")) +
         (result.peers.empty() ? ""
                               : "<p>Peers: the points up to their largest arguments; logarithms "
                                 "and inverses are formed from what they have.</p>");
}

std::string special_table(const SpecialResult& result) {
  const SpecialValues& asked = result.asked;
  std::string text = "<details><summary>Special values of " + escape_markup(asked.name) + ": " +
                     std::to_string(result.values.size()) + " pairs, " +
                     std::to_string(result.violations) + " violations</summary><table><tr><th>" +
                     asked.arguments[0] + " \\ " + asked.arguments[1];
  for (const double x : asked.x) text += "<th>" + number_text(x);
  for (std::size_t i = 0; i < asked.v.size(); ++i) {
    text += "</tr><tr><td>" + number_text(asked.v[i]);
    for (std::size_t j = 0; j < asked.x.size(); ++j) {
      char value[32];
      std::snprintf(value, sizeof value, "%.4g", result.values[i * asked.x.size() + j]);
      text += std::string("<td>") + value;
    }
  }
  return text + "</tr></table></details>";
}

}  // namespace

bool Outcome::passed() const {
  const auto good = [](const auto& list, const auto& rule) {
    return std::all_of(list.begin(), list.end(), rule);
  };
  return good(results, [](const Result& r) { return r.regions.back().passed; }) &&
         good(measurements, [](const MeasurementResult& m) { return m.passed(); }) &&
         good(identities, [](const IdentityResult& i) { return i.count.violations == 0; }) &&
         good(special_values, [](const SpecialResult& s) { return s.violations == 0; });
}

double error_of(const Entry& entry, const Point& p) {
  return entry.metric == Metric::ulp     ? p.ulp
         : entry.metric == Metric::mixed ? p.mixed
                                         : p.conditioned;
}

std::vector<Point> worst_points(const Result& result, std::size_t count) {
  std::vector<Point> points = result.points;
  std::sort(points.begin(), points.end(), [&](const Point& a, const Point& b) {
    return error_of(result.entry, a) > error_of(result.entry, b);
  });
  if (points.size() > count)
    points.erase(points.begin() + static_cast<std::ptrdiff_t>(count), points.end());
  return points;
}

std::string text_report(const Outcome& outcome) {
  std::string text = outcome.environment + "\n";
  char line[256];
  if (!outcome.results.empty()) {
    std::snprintf(line, sizeof line, "\n%-36s %-15s %6s %9s %9s %9s %7s %9s\n", "function",
                  "worst region", "n", "max", "p99", "median", "limit", "previous");
    text += line;
  }
  for (const Result& result : outcome.results) {
    const Summary& all = result.regions.back();
    const auto worst =
        std::max_element(result.regions.begin(), result.regions.end() - 1,
                         [](const Summary& a, const Summary& b) { return a.worst < b.worst; });
    std::snprintf(line, sizeof line, "%-36s %-15s %6td %9s %9s %9s %7g %9s %s\n",
                  result.entry.verb.c_str(), worst->region.c_str(), all.count,
                  fixed(all.worst).c_str(), fixed(all.p99).c_str(), fixed(all.median).c_str(),
                  all.limit, previous_text(outcome, result).c_str(), all.passed ? "ok" : "FAILED");
    text += line;
    if (!all.passed) text += "    " + replay(result.entry, worst_points(result, 1)[0]) + '\n';
  }
  if (!outcome.measurements.empty()) {
    std::snprintf(line, sizeof line, "\n%-52s %-20s %9s %9s\n", "problem", "metric", "error",
                  "limit");
    text += line;
  }
  for (const MeasurementResult& m : outcome.measurements) {
    std::snprintf(line, sizeof line, "%-52s %-20s %9s %9s %s\n",
                  (m.asked.module + ' ' + m.asked.name).c_str(), m.asked.metric.c_str(),
                  short_error(m.error).c_str(), short_error(m.limit).c_str(),
                  m.passed() ? "ok" : "FAILED");
    text += line;
  }
  if (!outcome.identities.empty()) text += '\n';
  for (const IdentityResult& i : outcome.identities) {
    std::snprintf(line, sizeof line, "%-52s %8td pairs %6td violations\n", i.name.c_str(),
                  i.count.n, i.count.violations);
    text += line;
  }
  std::ptrdiff_t pairs = 0, violations = 0;
  for (const SpecialResult& s : outcome.special_values) {
    pairs += std::ssize(s.values);
    violations += s.violations;
    if (s.violations > 0) text += "special values of " + s.asked.name + ": FAILED\n";
  }
  if (pairs > 0) {
    std::snprintf(line, sizeof line, "%-52s %8td pairs %6td violations\n", "special values", pairs,
                  violations);
    text += line;
  }
  return text + '\n' + (outcome.passed() ? "passed" : "FAILED") + " in " + fixed(outcome.seconds) +
         " s\n";
}

json json_report(const Outcome& outcome) {
  json edges = json::array();
  for (const double edge : histogram_edges) edges.push_back(edge);
  json functions = json::array();
  for (const Result& result : outcome.results) {
    json regions = json::array();
    for (const Summary& s : result.regions)
      regions.push_back(
          {{"region", s.region},
           {"n", s.count},
           {"max", s.worst},
           {"p99.9", s.p999},
           {"p99", s.p99},
           {"median", s.median},
           {"bias", s.bias},
           {result.entry.metric == Metric::ulp ? "max_mixed" : "max_ulp", s.other_worst},
           {"histogram", s.histogram},
           {"limit", s.limit},
           {"passed", s.passed}});
    json worst = json::array();
    for (const Point& p : worst_points(result, 20))
      worst.push_back({{result.entry.arguments[0], hex_text(p.v)},
                       {result.entry.arguments[1], hex_text(p.x)},
                       {"computed", hex_text(p.value)},
                       {"reference", hex_text(p.reference)},
                       {"ulp", p.ulp},
                       {"mixed", p.mixed},
                       {"replay", replay(result.entry, p)}});
    json peers = json::array();
    for (const PeerResult& peer : result.peers)
      if (!peer.errors.empty())
        peers.push_back(
            {{"name", peer.name},
             {"n", peer.errors.size()},
             {"not_finite", peer.failed},
             {"median_" + shared_metric_of(result.entry), peer.errors[peer.errors.size() / 2]},
             {"p99_" + shared_metric_of(result.entry),
              peer.errors[peer.errors.size() * 99 / 100]}});
    const auto found = outcome.previous.find(result.entry.verb);
    functions.push_back(
        {{"name", result.entry.verb},
         {"type", result.entry.type},
         {"device", result.entry.device},
         {"budget", result.entry.budget},
         {"metric", metric_of(result.entry)},
         {"previous", found == outcome.previous.end() ? json() : json(found->second)},
         {"regions", regions},
         {"worst", worst},
         {"peers", peers}});
  }
  json checks = json::array();
  for (const IdentityResult& i : outcome.identities)
    checks.push_back({{"name", i.name}, {"n", i.count.n}, {"violations", i.count.violations}});
  json special = json::array();
  for (const SpecialResult& s : outcome.special_values)
    special.push_back(
        {{"name", s.asked.name}, {"pairs", s.values.size()}, {"violations", s.violations}});
  json measurements = json::array();
  for (const MeasurementResult& m : outcome.measurements)
    measurements.push_back({{"module", m.asked.module},
                            {"name", m.asked.name},
                            {"budget", m.asked.budget},
                            {"metric", m.asked.metric},
                            {"error", m.error},
                            {"limit", m.limit},
                            {"passed", m.passed()}});
  return {{"histogram_edges", edges},     {"functions", functions},
          {"measurements", measurements}, {"checks", checks},
          {"special_values", special},    {"table_checksum", outcome.table_checksum}};
}

std::string csv_report(const Outcome& outcome) {
  std::string text =
      "function,type,device,region,metric,n,max,p99.9,p99,median,bias,max_other_metric,limit,"
      "passed\n";
  for (const Result& result : outcome.results)
    for (const Summary& s : result.regions) {
      text += result.entry.verb + ',' + result.entry.type + ',' + result.entry.device + ',' +
              s.region + ',' + metric_of(result.entry) + ',' + std::to_string(s.count);
      for (const double value : {s.worst, s.p999, s.p99, s.median, s.bias, s.other_worst, s.limit})
        text += ',' + number_text(value);
      text += s.passed ? ",1\n" : ",0\n";
    }
  for (const MeasurementResult& m : outcome.measurements)
    text += m.asked.module + ",double,cpu,\"" + m.asked.name + "\"," + m.asked.metric + ",1," +
            number_text(m.error) + ",,,,,," + number_text(m.limit) + (m.passed() ? ",1\n" : ",0\n");
  return text;
}

std::string junit_report(const Outcome& outcome) {
  std::string cases;
  std::ptrdiff_t tests = 0, failures = 0;
  const auto add = [&](const std::string& group, const std::string& name, bool passed,
                       const std::string& message) {
    ++tests;
    cases += "  <testcase classname=\"" + escape_markup(group) + "\" name=\"" +
             escape_markup(name) + "\"";
    if (passed) {
      cases += "/>\n";
      return;
    }
    ++failures;
    cases += "><failure message=\"" + escape_markup(message) + "\"/></testcase>\n";
  };
  for (const Result& result : outcome.results)
    for (const Summary& s : result.regions)
      add(result.entry.verb, s.region, s.passed,
          fixed(s.worst) + " > " + number_text(s.limit) + ": " +
              replay(result.entry, worst_points(result, 1)[0]));
  for (const MeasurementResult& m : outcome.measurements)
    add(m.asked.module, m.asked.name, m.passed(),
        short_error(m.error) + " > " + short_error(m.limit));
  for (const IdentityResult& i : outcome.identities)
    add("identities", i.name, i.count.violations == 0,
        std::to_string(i.count.violations) + " violations");
  for (const SpecialResult& s : outcome.special_values)
    add("special values", s.asked.name, s.violations == 0,
        std::to_string(s.violations) + " violations");
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"halfulp validate\" "
         "tests=\"" +
         std::to_string(tests) + "\" failures=\"" + std::to_string(failures) + "\" time=\"" +
         fixed(outcome.seconds) + "\">\n" + cases + "</testsuite>\n";
}

std::string html_report(const Outcome& outcome) {
  std::string text =
      "<!doctype html><meta charset='utf-8'><title>halfulp validate</title><style>body{font:14px "
      "sans-serif;max-width:1200px;margin:2em auto}td,th{padding:2px "
      "8px;text-align:right}td:first-child,"
      "th:first-child{text-align:left}.bad{color:#d7301f;font-weight:bold}code{font-size:12px}</"
      "style>"
      "<h1>halfulp validate</h1><p>" +
      escape_markup(outcome.environment) + ", tables " + outcome.table_checksum + "</p>";
  const auto verdict = [](bool passed) {
    return passed ? "<td>ok</tr>" : "<td class='bad'>FAILED</tr>";
  };
  if (!outcome.measurements.empty())
    text += "<table><tr><th>problem<th>metric<th>error<th>limit<th></tr>";
  for (const MeasurementResult& m : outcome.measurements)
    text += "<tr><td>" + escape_markup(m.asked.module + ", " + m.asked.name) + "<td>" +
            m.asked.metric + "<td>" + short_error(m.error) + "<td>" + short_error(m.limit) +
            verdict(m.passed());
  if (!outcome.measurements.empty()) text += "</table>";
  if (!outcome.identities.empty()) {
    text += "<table><tr><th>check<th>n<th>violations</tr>";
    for (const IdentityResult& i : outcome.identities)
      text += "<tr><td>" + escape_markup(i.name) + "<td>" + std::to_string(i.count.n) + "<td>" +
              std::to_string(i.count.violations) + "</tr>";
    text += "</table>";
  }
  for (const SpecialResult& s : outcome.special_values) text += special_table(s);
  for (const Result& result : outcome.results) {
    const Entry& entry = result.entry;
    const std::string before = previous_text(outcome, result);
    text += "<h2>" + escape_markup(entry.verb) + "</h2><p>Budget " + entry.budget + ", in " +
            (entry.metric == Metric::ulp
                 ? "units in the last place of " + entry.type
                 : std::string(entry.metric == Metric::mixed ? mixed_unit : conditioned_unit) +
                       ", u = 2<sup>-53</sup>") +
            (before.empty() ? "" : "; worst in the earlier run: " + before) +
            ".</p><table><tr><th>region<th>n<th>max<th>p99.9<th>p99<th>median<th>bias<th>max, " +
            (entry.metric == Metric::ulp ? mixed_unit : "ulp") + "<th>limit<th></tr>";
    for (const Summary& s : result.regions)
      text += "<tr><td>" + s.region + "<td>" + std::to_string(s.count) + "<td>" + fixed(s.worst) +
              "<td>" + fixed(s.p999) + "<td>" + fixed(s.p99) + "<td>" + fixed(s.median) + "<td>" +
              fixed(s.bias) + "<td>" + fixed(s.other_worst) + "<td>" + number_text(s.limit) +
              verdict(s.passed);
    const Summary& all = result.regions.back();
    text += "</table><p>";
    if (all.passed) text += sentence(all.count);
    text += "</p><p>Histogram:";
    for (std::size_t i = 0; i < all.histogram.size(); ++i)
      text +=
          (i < std::size(histogram_edges) ? " to " + number_text(histogram_edges[i]) : " beyond") +
          ": " + std::to_string(all.histogram[i]) + (i + 1 < all.histogram.size() ? "," : ".");
    text += "</p>" + picture_of(result) + "<details><summary>The 20 worst points</summary><pre>";
    for (const Point& p : worst_points(result, 20))
      text += fixed(error_of(entry, p)) + "  " + entry.arguments[0] + ' ' + hex_text(p.v) + "  " +
              entry.arguments[1] + ' ' + hex_text(p.x) + "  computed " + hex_text(p.value) +
              "  reference " + hex_text(p.reference) + "\n       " +
              escape_markup(replay(entry, p)) + "\n";
    text += "</pre></details>";
  }
  return text;
}

}  // namespace validation
