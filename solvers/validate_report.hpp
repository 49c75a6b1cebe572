#pragma once

#include <map>
#include <string>
#include <vector>

#include "validation.hpp"

/// What was measured, and its reports: text, JSON, CSV, JUnit and one HTML page.
namespace validation {

/// Histogram of errors over the limit's unit; the last bin is what lies beyond.
inline constexpr double histogram_edges[] = {0.25, 0.5, 0.75, 1, 2, 4, 16};

struct Point {
  int region;
  double v, x, value, reference;
  double ulp, mixed;  ///< infinite where the value is not finite
  double conditioned = 0;
};

struct Summary {
  std::string region;
  std::ptrdiff_t count = 0;
  double limit = 0, worst = 0, p999 = 0, p99 = 0, median = 0, bias = 0;
  double other_worst = 0;  ///< in the other of the two metrics
  std::vector<std::ptrdiff_t> histogram =
      std::vector<std::ptrdiff_t>(std::size(histogram_edges) + 1);
  bool passed = true;
};

struct PeerResult {
  std::string name;
  Values errors;  ///< sorted, conditioned where the entry is, else mixed; infinite where it failed
  std::ptrdiff_t failed = 0;
};

struct Result {
  Entry entry;
  std::vector<std::string> region_names;
  std::vector<Point> points;
  std::vector<Summary> regions;  ///< the last of all together
  std::vector<PeerResult> peers;
};

struct SpecialResult {
  SpecialValues asked;
  Values values;  ///< row by row, v the row
  std::ptrdiff_t violations = 0;
};

struct IdentityResult {
  std::string name;
  Count count;
};

struct MeasurementResult {
  Measurement asked;
  double error = 0, limit = 0;
  [[nodiscard]] bool passed() const { return error <= limit; }
};

struct Outcome {
  std::string environment;
  std::string table_checksum;
  std::vector<Result> results;
  std::vector<MeasurementResult> measurements;
  std::vector<IdentityResult> identities;
  std::vector<SpecialResult> special_values;
  std::map<std::string, double> previous;  ///< by verb: worst in an earlier run
  double seconds = 0;
  [[nodiscard]] bool passed() const;
};

/// In the metric of the entry's budget.
[[nodiscard]] double error_of(const Entry& entry, const Point& p);
[[nodiscard]] std::vector<Point> worst_points(const Result& result, std::size_t count);

[[nodiscard]] std::string text_report(const Outcome& outcome);
[[nodiscard]] nlohmann::json json_report(const Outcome& outcome);
[[nodiscard]] std::string csv_report(const Outcome& outcome);
[[nodiscard]] std::string junit_report(const Outcome& outcome);
[[nodiscard]] std::string html_report(const Outcome& outcome);

}  // namespace validation
