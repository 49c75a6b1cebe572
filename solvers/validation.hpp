#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common.hpp"

/// What `halfulp validate` measures. A module registers itself in one function, with entries of the
/// kinds below; measuring, reports and exit codes are the same for all.
namespace validation {

using Values = std::vector<double>;

/// What an error is measured in; u = 2^-53.
enum class Metric {
  ulp,          ///< units in the last place of the value
  mixed,        ///< u max(1, |value|)
  conditioned,  ///< u (1 + c) |value|, c the condition number in the table's column `condition`
};

/// Two arguments of a function and what they are called, in tables and in reports.
using Arguments = std::array<std::string, 2>;

/// One axis of a picture of the HTML page: a number of the two arguments.
struct Axis {
  std::string name;
  double low, high;                                 ///< decades
  std::function<double(double v, double x)> value;  ///< log10
};

/// Another library's function, on the same points up to where it takes seconds for a value.
struct Peer {
  std::string name;
  std::function<double(double v, double x)> evaluate;  ///< NaN where it fails
  double most_v = 1e4, most_x = 1e5;
};

/// A function of two arguments against a stored table of reference values.
struct Entry {
  std::string module;
  std::string verb;             ///< replays a point: halfulp <verb> --points FILE
  std::string type = "double";  ///< or "float": rows whose arguments are, in ulps of float
  std::string device = "cpu";   ///< or "cuda"
  std::string table;            ///< validation/data/<table>.csv: columns region, arguments, hi, lo
  Arguments arguments = {"v", "x"};
  std::string budget;           ///< row of validation/budgets.csv
  Metric metric = Metric::ulp;  ///< of the budget
  double most_v = HUGE_VAL;     ///< rows beyond are outside of the domain, and those with a
  double least_share = 0;       ///< |value| below this times hypot(v, x)
  std::function<void(const Values& v, const Values& x, Values& out, int threads)> evaluate;
  std::vector<Peer> peers;
  // of the error map, and of errors at seams
  Axis across = {"v", -12, 17, [](double v, double) { return std::log10(std::fmax(v, 1e-300)); }};
  Axis up = {"x", -14, 17, [](double, double x) { return std::log10(x); }};
  Axis along = {"√(v² + x²)", -0.5, 4.5,
                [](double v, double x) { return std::log10(std::hypot(v, x)); }};
};

/// Something that must hold everywhere: how often it was looked at, how often it did not.
struct Count {
  std::ptrdiff_t n = 0, violations = 0;
};
struct Identity {
  std::string module, name;
  std::function<Count(std::ptrdiff_t samples, const Common& common)> check;
};

/// Values at the ends of the domain and other special arguments, all pairs of them.
struct SpecialValues {
  std::string module, name;
  Values v, x;
  std::function<double(double v, double x)> evaluate;
  /// What must come out; none: any finite number.
  std::function<std::optional<double>(double v, double x)> expected;
  Arguments arguments = {"v", "x"};
};

/// One error that a module measures by itself, against its budget.
struct Measurement {
  std::string module, name, budget;
  std::string metric;  ///< what the number is
  std::function<double(const Common& common)> error;
};

struct Registry {
  std::vector<Entry> entries;
  std::vector<Identity> identities;
  std::vector<SpecialValues> special_values;
  std::vector<Measurement> measurements;
};

void register_bessel(Registry& registry);
void register_gp_pde(Registry& registry);
void register_mfac(Registry& registry);
void register_vmf(Registry& registry);

}  // namespace validation
