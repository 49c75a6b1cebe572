#include "halfulp/pde_output.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "detail/pde_system_output.hpp"
#include "detail/require.hpp"
#include "halfulp/csv.hpp"
#include "halfulp/file.hpp"
#include "halfulp/info.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t longest_formula = 65536;  // bytes shown of one

// ---- evaluation -------------------------------------------------------------------------------

std::vector<std::vector<double>> output_axes(const PdeFile& file) {
  std::vector<std::vector<double>> axes;
  for (std::size_t d = 0; d < file.problem.axes.size(); ++d) {
    const Axis& axis = file.problem.axes[d];
    const std::ptrdiff_t n = file.output.points[d];
    std::vector<double> points;
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const dd t = dd(static_cast<double>(i)) / dd(static_cast<double>(n - 1));
      points.push_back(i + 1 == n ? axis.upper.hi
                                  : (axis.lower + t * (axis.upper - axis.lower)).hi);
    }
    axes.push_back(std::move(points));
  }
  return axes;
}

std::size_t size_of(std::span<const std::vector<double>> axes) {
  std::size_t size = 1;
  for (const auto& points : axes) size *= points.size();
  return size;
}

std::vector<std::vector<dd>> widened(std::span<const std::vector<double>> axes) {
  std::vector<std::vector<dd>> out;
  for (const auto& points : axes) out.emplace_back(points.begin(), points.end());
  return out;
}

std::vector<std::string> names_of(const Problem& problem) {
  std::vector<std::string> names;
  for (const Axis& axis : problem.axes) names.push_back(axis.name);
  return names;
}

/// u -> {0, 0}, u_xxy -> {2, 1}; nothing if the symbol is no derivative of u.
std::optional<std::vector<int>> orders_of(std::string_view symbol, const Problem& problem) {
  std::vector<int> orders(problem.axes.size(), 0);
  if (symbol == "u") return orders;
  if (symbol.substr(0, 2) != "u_") return std::nullopt;
  for (symbol.remove_prefix(2); !symbol.empty();) {
    const auto axis = std::find_if(problem.axes.begin(), problem.axes.end(), [&](const Axis& a) {
      return !a.name.empty() && symbol.substr(0, a.name.size()) == a.name;
    });
    if (axis == problem.axes.end()) return std::nullopt;
    ++orders[static_cast<std::size_t>(axis - problem.axes.begin())];
    symbol.remove_prefix(axis->name.size());
  }
  return orders;
}

bool uses_forcing(const Problem& problem) {
  return problem.equation.depends_on(problem.forcing_symbol);
}

const GridSamples* samples_of(const Problem& problem) {
  return uses_forcing(problem) ? std::get_if<GridSamples>(&problem.forcing) : nullptr;
}

/// Root mean square and largest magnitude, scaled against overflow.
struct Size {
  double rms = 0;
  double max = 0;
};

Size size_of_values(std::span<const double> values) {
  Size size;
  for (const double v : values) {
    if (std::isnan(v)) return {v, v};
    size.max = std::max(size.max, std::fabs(v));
  }
  if (size.max == 0 || std::isinf(size.max)) return {size.max, size.max};
  dd sum = 0;
  for (const double v : values) {
    const double scaled = v / size.max;
    sum += dd(scaled) * dd(scaled);
  }
  size.rms = size.max * std::sqrt(sum.hi / static_cast<double>(values.size()));
  return size;
}

Norms norms_of(std::span<const double> values, double scale) {
  const Size size = size_of_values(values);
  return {scale == 0 ? size.rms : size.rms / scale, size.rms, size.max, scale};
}

/// Values of the solution's derivatives, each computed once.
class Derivatives {
 public:
  Derivatives(const Sampler& sample, std::span<const std::vector<double>> axes)
      : sample_(sample), axes_(axes) {}

  const std::vector<double>& operator()(const std::vector<int>& orders) {
    auto [entry, fresh] = values_.try_emplace(orders);
    if (fresh) {
      entry->second = sample_(axes_, orders);
      detail::require_size("evaluate", "sample(axes, orders)", std::ssize(entry->second),
                           static_cast<std::ptrdiff_t>(size_of(axes_)));
    }
    return entry->second;
  }

 private:
  const Sampler& sample_;
  std::span<const std::vector<double>> axes_;
  std::map<std::vector<int>, std::vector<double>> values_;
};

/// The equation's left side and the root mean square of its largest part.
struct Residual {
  std::vector<double> values;
  double scale = 0;
};

Residual residual_on(const Problem& problem, std::span<const std::vector<double>> axes,
                     Derivatives& derivatives, int threads) {
  const std::size_t dimensions = axes.size(), size = size_of(axes);
  // Parts of a linear equation: one a derivative, and what is left without u.
  std::vector<Expression> formulas = {problem.equation};
  std::vector<std::string> inputs = names_of(problem);
  std::vector<const std::vector<double>*> fields;
  std::map<std::string, Expression> without_u;
  for (const std::string& symbol : problem.equation.symbols()) {
    if (const auto orders = orders_of(symbol, problem)) {
      inputs.push_back(symbol);
      fields.push_back(&derivatives(*orders));
      formulas.push_back(problem.equation.derivative(symbol) * Expression::symbol(symbol));
      without_u.emplace(symbol, Expression(0.0));
    }
  }
  formulas.push_back(problem.equation.substitute(without_u));
  std::vector<dd> forcing;
  if (uses_forcing(problem)) {
    inputs.push_back(problem.forcing_symbol);
    if (const auto* samples = std::get_if<GridSamples>(&problem.forcing)) {
      forcing.assign(samples->values.begin(), samples->values.end());
    } else {
      forcing.resize(size);
      Program<dd>(std::get<Expression>(problem.forcing), names_of(problem))
          .on_grid(widened(axes), forcing, threads);
    }
  }
  const Program<dd> program(formulas, inputs);
  const std::size_t parts = formulas.size() - 1;
  std::vector<std::vector<double>> values(formulas.size(), std::vector<double>(size));
  parallel_blocks(static_cast<std::ptrdiff_t>(size), 1024, threads,
                  [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                    std::vector<dd> in(inputs.size()), out(formulas.size());
                    for (std::ptrdiff_t p = begin; p < end; ++p) {
                      const auto at = static_cast<std::size_t>(p);
                      std::size_t rest = at;
                      for (std::size_t d = dimensions; d-- > 0;) {
                        in[d] = axes[d][rest % axes[d].size()];
                        rest /= axes[d].size();
                      }
                      for (std::size_t k = 0; k < fields.size(); ++k) {
                        in[dimensions + k] = (*fields[k])[at];
                      }
                      if (!forcing.empty()) in.back() = forcing[at];
                      program(in, out);
                      for (std::size_t k = 0; k < out.size(); ++k) values[k][at] = out[k].hi;
                    }
                  });
  Residual residual{std::move(values[0]), 0};
  for (std::size_t k = 1; k <= parts; ++k) {
    const double rms = size_of_values(values[k]).rms;
    if (!(rms <= residual.scale)) residual.scale = rms;  // NaN stays
    if (std::isnan(rms)) break;
  }
  return residual;
}

/// From so many points on, nothing but the fields asked for is formed on all of them.
constexpr std::size_t many_points = std::size_t{1} << 19;

/// u - exact on a grid of any size, a few rows at a time. `values` is filled if it is not null.
Norms error_norms(const Problem& problem, std::span<const std::vector<double>> axes,
                  std::span<const double> u, int threads, std::vector<double>* values) {
  const Program<dd> exact(*problem.exact, names_of(problem));
  const std::size_t rows = axes[0].size(), inner = u.size() / rows;
  const std::size_t step = std::max<std::size_t>(1, (std::size_t{1} << 18) / inner);
  // Extended range instead of scaling: squares of any double fit.
  struct Sums {
    long double error = 0, exact = 0;
    double max = 0;
  };
  const std::size_t parts = (rows + step - 1) / step;
  std::vector<Sums> sums(parts);
  parallel_for(static_cast<std::ptrdiff_t>(parts), threads, [&](std::ptrdiff_t part) {
    const std::size_t first = static_cast<std::size_t>(part) * step;
    const std::size_t count = std::min(step, rows - first);
    auto points = widened(axes);
    points[0].assign(axes[0].begin() + static_cast<std::ptrdiff_t>(first),
                     axes[0].begin() + static_cast<std::ptrdiff_t>(first + count));
    std::vector<dd> e(count * inner);
    exact.on_grid(points, e, 1);
    Sums& s = sums[static_cast<std::size_t>(part)];
    for (std::size_t i = 0; i < e.size(); ++i) {
      const double error = (u[first * inner + i] - e[i].hi) - e[i].lo;
      if (values) (*values)[first * inner + i] = error;
      s.error += static_cast<long double>(error) * error;
      s.exact += static_cast<long double>(e[i].hi) * e[i].hi;
      const double size = std::fabs(error);
      if (!(size <= s.max)) s.max = size;  // NaN stays
    }
  });
  Sums all;
  for (const Sums& s : sums) {
    all.error += s.error;
    all.exact += s.exact;
    if (!(s.max <= all.max)) all.max = s.max;
  }
  const auto n = static_cast<long double>(u.size());
  Norms norms;
  norms.l2 = static_cast<double>(std::sqrt(all.error / n));
  norms.scale = static_cast<double>(std::sqrt(all.exact / n));
  norms.relative_l2 = norms.scale == 0 ? norms.l2 : norms.l2 / norms.scale;
  norms.max = all.max;
  return norms;
}

/// About `most` points of a grid, every so many along each axis.
std::vector<std::vector<double>> thinned(std::span<const std::vector<double>> axes, double most) {
  const double factor =
      std::pow(static_cast<double>(size_of(axes)) / most, 1.0 / static_cast<double>(axes.size()));
  // An odd step: an even one may stay on the nodes of a sine.
  const auto step = static_cast<std::size_t>(std::max(1.0, std::ceil(factor))) | 1;
  std::vector<std::vector<double>> out;
  for (const auto& points : axes) {
    std::vector<double> some;
    for (std::size_t i = step / 2; i < points.size(); i += step) some.push_back(points[i]);
    out.push_back(std::move(some));
  }
  return out;
}

bool same_grid(std::span<const std::vector<double>> a, std::span<const std::vector<double>> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// ---- report -----------------------------------------------------------------------------------

/// Finite numbers as numbers; JSON has no others.
Json number(double value) {
  if (std::isfinite(value)) return value;
  return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
}

Json norms_json(const Norms& norms) {
  return {{"relative_l2", number(norms.relative_l2)},
          {"l2", number(norms.l2)},
          {"max", number(norms.max)},
          {"scale", number(norms.scale)}};
}

std::string_view side_kind(SideKind kind) {
  constexpr std::array<std::string_view, 7> names = {"dirichlet", "neumann",    "robin", "periodic",
                                                     "none",      "derivative", "linear"};
  return names[static_cast<std::size_t>(kind)];
}

void add_system(Json& json, const SystemProblem& problem) {
  json["fields"] = Json::array();
  for (const SystemField& field : problem.fields)
    json["fields"].push_back(
        {{"name", field.name},
         {"equation", field.equation.brief_text(longest_formula)},
         {"exact", field.exact ? Json(field.exact->brief_text(longest_formula)) : Json(nullptr)}});
  json["sides"] = Json::array();
  for (const SystemSide& given : problem.sides) {
    const Side& side = given.condition;
    Json entry = {{"field", given.field}, {"side", given.side}, {"type", side_kind(side.kind)}};
    if (side.kind != SideKind::periodic && side.kind != SideKind::none) {
      entry["a"] = side.a;
      entry["b"] = side.b;
      entry["g"] = side.g.brief_text(longest_formula);
    }
    json["sides"].push_back(entry);
  }
  json["forcing"] = Json::array();
  for (const auto& [name, value] : problem.forcing)
    json["forcing"].push_back({{"name", name},
                               {"kind", "expression"},
                               {"expression", value.brief_text(longest_formula)}});
}

Json problem_json(const PdeFile& file, std::span<const std::vector<double>> axes) {
  const Problem& problem = file.problem;
  Json json = {{"name", problem.name}, {"file", file.file}, {"equation", file.equation_text}};
  for (std::size_t d = 0; d < problem.axes.size(); ++d) {
    const Axis& axis = problem.axes[d];
    json["domain"].push_back({{"name", axis.name},
                              {"lower", axis.lower.hi},
                              {"upper", axis.upper.hi},
                              {"points", axes[d].size()}});
  }
  json["parameters"] = Json::object();
  for (const auto& [name, value] : file.parameters) json["parameters"][name] = number(value.hi);
  if (file.system) {
    add_system(json, *file.system);
    return json;
  }
  for (std::size_t d = 0; d < problem.sides.size(); ++d) {
    for (std::size_t end = 0; end < 2; ++end) {
      const auto add = [&](const Side& side) {
        Json entry = {{"side", problem.axes[d].name + (end == 0 ? "-" : "+")},
                      {"type", side_kind(side.kind)}};
        if (side.kind == SideKind::derivative)
          entry["order"] = side.order;
        else if (side.kind == SideKind::linear)
          entry["coefficients"] = side.coefficients;
        else if (side.kind != SideKind::periodic && side.kind != SideKind::none)
          entry.update({{"a", side.a}, {"b", side.b}});
        if (side.kind != SideKind::periodic && side.kind != SideKind::none)
          entry["g"] = side.g.brief_text(longest_formula);
        json["sides"].push_back(entry);
      };
      add(problem.sides[d][end]);
      for (const Side& side : problem.sides[d][end].also) add(side);
    }
  }
  json["forcing"] = nullptr;
  if (uses_forcing(problem)) {
    Json forcing = {{"name", problem.forcing_symbol}};
    if (const auto* samples = std::get_if<GridSamples>(&problem.forcing)) {
      forcing["kind"] = "array";
      for (const auto& points : samples->axes) forcing["shape"].push_back(points.size());
    } else {
      forcing["kind"] = "expression";
      forcing["expression"] = std::get<Expression>(problem.forcing).brief_text(longest_formula);
    }
    json["forcing"] = forcing;
  }
  json["exact"] = problem.exact ? Json(problem.exact->brief_text(longest_formula)) : Json(nullptr);
  return json;
}

Json gp_hm_options(const PdeFile& file) {
  const HmOptions& options = *file.gp_hm;
  constexpr std::array<std::string_view, 4> kernels = {"student-t", "gaussian", "matern", "se"};
  return {{"input", file.file},
          {"kernel", kernels[static_cast<std::size_t>(options.kernel)]},
          {"nodes", "uniform"},
          {"method", "gp-hm"},
          {"components", options.components},
          {"frequency_range", options.frequency_range},
          {"optimiser", options.optimiser == HmOptimiser::adam ? "adam" : "lbfgs"},
          {"iterations", options.iterations},
          {"learning_rate", options.learning_rate},
          {"final_learning_rate", options.final_learning_rate},
          {"boundary_weight", options.boundary_weight},
          {"jitter", options.jitter},
          {"tolerance", options.tolerance},
          {"threads", options.threads},
          {"memory_limit", file.options.memory_limit}};
}

Json gp_hm_json(const HmSolution& solution) {
  Json json = {{"loss", number(solution.loss)},
               {"node_residual", number(solution.node_residual)},
               {"boundary_precision", number(solution.boundary_precision)},
               {"equation_precision", number(solution.equation_precision)}};
  json["axes"] = Json::array();
  for (const HmAxis& axis : solution.axes) {
    Json components = Json::array();
    for (std::size_t q = 0; q < axis.weight.size(); ++q)
      components.push_back({{"weight", number(axis.weight[q])},
                            {"scale", number(axis.scale[q])},
                            {"frequency", number(axis.frequency[q])}});
    json["axes"].push_back(components);
  }
  json["losses"] = Json::array();
  for (const HmLoss& entry : solution.losses)
    json["losses"].push_back({entry.iteration, number(entry.loss)});
  return json;
}

Json posterior_json(const Posterior& posterior) {
  Json json = {{"log_evidence", number(posterior.log_evidence)},
               {"features", posterior.features},
               {"evaluations", posterior.report.iterations}};
  json["data"] = Json::array();
  for (const DataSummary& d : posterior.data)
    json["data"].push_back({{"name", d.name},
                            {"count", d.count},
                            {"noise", number(d.noise)},
                            {"learnt", d.learnt},
                            {"freedom", number(d.freedom)},
                            {"chi2", number(d.chi2)}});
  double variance = 0;
  for (const Component& c : posterior.prior) variance += c.variance;
  json["amplitude"] = number(std::sqrt(variance));
  json["components"] = Json::array();
  for (const Component& c : posterior.prior) {
    Json centre = Json::array(), width = Json::array();
    for (const double v : c.centre) centre.push_back(number(v));
    for (const double v : c.width) width.push_back(number(v));
    json["components"].push_back(
        {{"variance", number(c.variance)}, {"centre", centre}, {"width", width}});
  }
  return json;
}

std::ptrdiff_t unknowns_of(const Solution& solution) {
  std::ptrdiff_t unknowns = 1;
  for (const AxisInfo& axis : solution.axes) unknowns *= axis.modes;
  return solution.axes.empty() ? 0 : unknowns;
}

std::string cpu_model() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size())
      return escape_text(line.substr(colon + 2));
  }
  return "unknown";
}

// ---- files ------------------------------------------------------------------------------------

std::string reason(int code) { return std::generic_category().message(code); }

std::vector<std::ptrdiff_t> shape_of(std::span<const std::vector<double>> axes) {
  std::vector<std::ptrdiff_t> shape;
  for (const auto& points : axes) shape.push_back(std::ssize(points));
  return shape;
}

Table table_of(const PdeFile& file, const Output& output) {
  Table table;
  const std::size_t size = size_of(output.axes);
  std::size_t inner = size;
  for (std::size_t d = 0; d < output.axes.size(); ++d) {
    const auto& points = output.axes[d];
    inner /= points.size();
    std::vector<double> column(size);
    for (std::size_t p = 0; p < size; ++p) column[p] = points[p / inner % points.size()];
    table.names.push_back(file.problem.axes[d].name);
    table.columns.push_back(std::move(column));
  }
  for (const Field& field : output.fields) {
    table.names.push_back(field.name);
    table.columns.push_back(field.values);
  }
  return table;
}

bool wants(const PdeFile& file, std::string_view format) {
  const auto& formats = file.output.formats;
  return std::find(formats.begin(), formats.end(), format) != formats.end();
}

// ---- numbers for the picture ------------------------------------------------------------------

std::string short_text(double value, int digits) {
  if (!std::isfinite(value)) return number_text(value);
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::general, digits);
  return {buffer.data(), end};
}

std::string seconds_text(double seconds) {
  if (!(seconds >= 0)) return "-";
  if (seconds < 0.9995) return short_text(seconds * 1e3, 3) + " ms";
  return short_text(seconds, 3) + " s";
}

}  // namespace

Sampler sampler_of(const Solution& solution) {
  return [&solution](std::span<const std::vector<double>> axes, std::span<const int> orders) {
    constexpr std::size_t most = 16384;
    if (axes.empty() || axes[0].size() <= most) return solution.on_grid(axes, orders);
    std::vector<std::vector<double>> part(axes.begin(), axes.end());
    std::vector<double> values;
    values.reserve(size_of(axes));
    for (auto first = axes[0].begin(); first != axes[0].end();) {
      const auto last = first + std::min<std::ptrdiff_t>(most, axes[0].end() - first);
      part[0].assign(first, last);
      const std::vector<double> here = solution.on_grid(part, orders);
      values.insert(values.end(), here.begin(), here.end());
      first = last;
    }
    return values;
  };
}

void check_output(const PdeFile& file) {
  if (file.system) return check_system_output(file);
  const Problem& problem = file.problem;
  detail::require_size("check_output", "points", std::ssize(file.output.points),
                       std::ssize(problem.axes));
  double points = 1;
  for (const std::ptrdiff_t n : file.output.points) {
    detail::require(n >= 2, "check_output", "points", n, ">= 2");
    points *= static_cast<double>(n);
  }
  // What is held at once: the fields, the derivatives and parts of the residual, the exact solution
  // and the forcing in double-double.
  const auto derivatives = problem.equation.symbols().size();
  const bool whole_residual =
      std::any_of(file.output.fields.begin(), file.output.fields.end(),
                  [](const OutputField& f) { return f.kind == FieldKind::residual; });
  const bool many = points > static_cast<double>(many_points) && !whole_residual;
  const double bytes = points * 8 *
                       (static_cast<double>(file.output.fields.size()) +
                        (many ? 2.0 : 2 * static_cast<double>(derivatives) + 8));
  if (!(bytes <= static_cast<double>(file.options.memory_limit))) {
    throw DomainError(
        "check_output", "points", short_text(points, 6) + " in all",
        "fewer: they need " + short_text(bytes / double{1 << 30}, 3) + " GiB and the limit is " +
            short_text(static_cast<double>(file.options.memory_limit) / double{1 << 30}, 3) +
            " GiB");
  }
  for (const std::string& format : file.output.formats) {
    constexpr std::array<std::string_view, 4> known = {"npy", "vti", "csv", "h5"};
    detail::require(std::find(known.begin(), known.end(), format) != known.end(), "check_output",
                    "formats", std::string_view(format), "npy, vti, csv or h5");
    detail::require(format != "h5" || have_hdf5(), "check_output", "formats",
                    std::string_view(format), "another one: this build has no HDF5");
  }
  detail::require(!file.output.fields.empty() && file.output.fields[0].name == "u", "check_output",
                  "fields",
                  file.output.fields.empty() ? std::string_view("none")
                                             : std::string_view(file.output.fields[0].name),
                  "u first");
  const GridSamples* samples = samples_of(problem);
  const bool elsewhere = samples && !same_grid(samples->axes, output_axes(file));
  for (const OutputField& field : file.output.fields) {
    const std::string_view name = field.name;
    detail::require(field.kind != FieldKind::error || problem.exact.has_value(), "check_output",
                    "fields", name, "left out: the exact solution is not known");
    detail::require(field.kind != FieldKind::forcing || uses_forcing(problem), "check_output",
                    "fields", name, "left out: the equation has no forcing");
    detail::require(
        !elsewhere || (field.kind != FieldKind::residual && field.kind != FieldKind::forcing),
        "check_output", "fields", name,
        "left out: the forcing is known on the points of its array only, and those are "
        "not the output points");
    detail::require(field.kind != FieldKind::deviation || file.measurements.has_value(),
                    "check_output", "fields", name, "left out: no data are noisy");
    detail::require(
        field.kind != FieldKind::derivative || field.orders.size() == problem.axes.size(),
        "check_output", "fields", name, "a derivative along the axes of the domain");
  }
}

namespace {

/// evaluate() for many points: the error a few rows at a time, the residual on some of the points.
Output evaluate_many(const PdeFile& file, const Sampler& sample, const Sampler& deviation,
                     Output output) {
  const Problem& problem = file.problem;
  const std::vector<int> zero(output.axes.size(), 0);
  for (const OutputField& field : file.output.fields) {
    Field out{field.name, {}};
    if (field.kind == FieldKind::derivative) {
      out.values = sample(output.axes, field.orders);
    } else if (field.kind == FieldKind::deviation) {
      out.values = deviation(output.axes, field.orders);
    } else if (field.kind == FieldKind::forcing) {
      std::vector<dd> forcing(size_of(output.axes));
      Program<dd>(std::get<Expression>(problem.forcing), names_of(problem))
          .on_grid(widened(output.axes), forcing, file.options.threads);
      for (const dd value : forcing) out.values.push_back(value.hi);
    } else if (field.kind == FieldKind::error) {
      out.values.resize(size_of(output.axes));
    }
    output.fields.push_back(std::move(out));
  }
  if (problem.exact) {
    const auto asked = std::find_if(file.output.fields.begin(), file.output.fields.end(),
                                    [](const auto& f) { return f.kind == FieldKind::error; });
    const bool wanted = asked != file.output.fields.end();
    output.error =
        error_norms(problem, output.axes, output.fields[0].values, file.options.threads,
                    wanted ? &output.fields[asked - file.output.fields.begin()].values : nullptr);
  }
  output.residual_axes = thinned(output.axes, 1 << 15);
  Derivatives derivatives(sample, output.residual_axes);
  Residual residual = residual_on(problem, output.residual_axes, derivatives, file.options.threads);
  output.residual = norms_of(residual.values, residual.scale);
  output.residual_values = std::move(residual.values);
  return output;
}

}  // namespace

Output evaluate(const PdeFile& file, const Sampler& sample, const Sampler& deviation) {
  check_output(file);
  const Problem& problem = file.problem;
  Output output;
  output.axes = output_axes(file);
  const std::size_t size = size_of(output.axes);
  const bool whole_residual =
      std::any_of(file.output.fields.begin(), file.output.fields.end(),
                  [](const OutputField& f) { return f.kind == FieldKind::residual; });
  if (size > many_points && !whole_residual && !samples_of(problem))
    return evaluate_many(file, sample, deviation, std::move(output));
  Derivatives derivatives(sample, output.axes);
  const std::vector<double> u = derivatives(std::vector<int>(output.axes.size(), 0));

  if (problem.exact) {
    std::vector<dd> exact(size);
    Program<dd>(*problem.exact, names_of(problem))
        .on_grid(widened(output.axes), exact, file.options.threads);
    output.error_values.resize(size);
    std::vector<double> magnitude(size);
    for (std::size_t p = 0; p < size; ++p) {
      output.error_values[p] = (dd(u[p]) - exact[p]).hi;
      magnitude[p] = exact[p].hi;
    }
    output.error = norms_of(output.error_values, size_of_values(magnitude).rms);
  }

  const GridSamples* samples = samples_of(problem);
  output.residual_axes = samples ? samples->axes : output.axes;
  Derivatives at_samples(sample, output.residual_axes);
  const bool same = same_grid(output.residual_axes, output.axes);
  Residual residual = residual_on(problem, output.residual_axes, same ? derivatives : at_samples,
                                  file.options.threads);
  output.residual = norms_of(residual.values, residual.scale);
  output.residual_values = std::move(residual.values);

  for (const OutputField& field : file.output.fields) {
    Field out{field.name, {}};
    if (field.kind == FieldKind::derivative) {
      out.values = derivatives(field.orders);
    } else if (field.kind == FieldKind::deviation) {
      out.values = deviation(output.axes, field.orders);
    } else if (field.kind == FieldKind::error) {
      out.values = output.error_values;
    } else if (field.kind == FieldKind::residual) {
      out.values = output.residual_values;
    } else if (samples) {
      out.values = samples->values;
    } else {
      std::vector<dd> forcing(size);
      Program<dd>(std::get<Expression>(problem.forcing), names_of(problem))
          .on_grid(widened(output.axes), forcing, file.options.threads);
      for (const dd value : forcing) out.values.push_back(value.hi);
    }
    output.fields.push_back(std::move(out));
  }
  return output;
}

Solution summary_of(const Posterior& posterior) {
  Solution s;
  s.report = posterior.report;
  s.residual = posterior.residual;
  s.residual_scale = posterior.residual_scale;
  s.boundary_residual = posterior.boundary_residual;
  s.error_estimate = posterior.error_estimate;
  s.floor_estimate = posterior.error_estimate;
  s.condition = posterior.condition;
  s.axes = posterior.axes;
  s.timings = posterior.timings;
  s.warnings = posterior.warnings;
  return s;
}

Solution summary_of(const HmSolution& solution) {
  constexpr double two_pi = 2 * std::numbers::pi;
  Solution s;
  s.report = solution.report;
  s.residual = solution.residual;
  s.residual_scale = solution.residual_scale;
  s.boundary_residual = solution.boundary_residual;
  s.timings = solution.timings;
  s.warnings = solution.warnings;
  for (std::size_t k = 0; k < solution.axes.size(); ++k) {
    const HmAxis& learnt = solution.axes[k];
    AxisInfo info;
    info.nodes = info.modes = solution.points[k];
    info.features = std::ssize(learnt.weight);
    const double strongest = *std::max_element(learnt.weight.begin(), learnt.weight.end());
    // The spectrum between the peaks, and at them however narrow they are.
    double last = 1;
    std::vector<double>& frequency = info.spectrum_frequency;
    for (std::size_t q = 0; q < learnt.weight.size(); ++q) {
      if (!(learnt.weight[q] >= 1e-3 * strongest)) continue;
      const double centre = two_pi * std::fabs(learnt.frequency[q]);
      const double width = solution.spectral_width(static_cast<std::ptrdiff_t>(k), q);
      if (!std::isfinite(centre) || !std::isfinite(width)) continue;
      info.bands.push_back({std::max(0.0, centre - width), centre + width});
      for (const double t : {-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0})
        if (centre + t * width >= 0) frequency.push_back(centre + t * width);
      last = std::max(last, centre + 4 * width);
    }
    std::sort(info.bands.begin(), info.bands.end(),
              [](const Band& a, const Band& b) { return a.lower < b.lower; });
    constexpr int count = 1000;
    for (int i = 0; i <= count; ++i) frequency.push_back(1.25 * last * i / count);
    std::sort(frequency.begin(), frequency.end());
    frequency.erase(std::unique(frequency.begin(), frequency.end()), frequency.end());
    info.spectrum = solution.spectrum(static_cast<std::ptrdiff_t>(k), frequency);
    const double largest = *std::max_element(info.spectrum.begin(), info.spectrum.end());
    for (double& value : info.spectrum) value = largest > 0 ? std::sqrt(value / largest) : 0;
    s.axes.push_back(std::move(info));
  }
  return s;
}

std::string report_json(const PdeFile& file, const Solution& solution, const Output& output,
                        const Run& run, std::span<const std::string> files) {
  Json json = {{"schema", 1}, {"command", run.command}};
  const Options& options = file.options;
  constexpr std::array<std::string_view, 4> kernels = {"gaussian", "student-t", "matern",
                                                       "periodic"};
  constexpr std::array<std::string_view, 3> nodes = {"gauss", "chebyshev", "uniform"};
  constexpr std::array<std::string_view, 3> methods = {"auto", "galerkin", "collocation"};
  json["options"] = {
      {"input", file.file},
      {"kernel", kernels[static_cast<std::size_t>(options.kernel)]},
      {"bands", options.bands.empty() ? "auto" : "given"},
      {"nodes", nodes[static_cast<std::size_t>(options.nodes)]},
      {"method", methods[static_cast<std::size_t>(options.method)]},
      {"setup_precision", options.setup_precision == Precision::dd ? "dd" : "double"},
      {"precision", options.precision == Precision::dd ? "dd" : "double"},
      {"tolerance", options.tolerance > 0 ? Json(options.tolerance) : Json("auto")},
      {"max_modes", options.max_modes},
      {"slabs", options.slabs > 0 ? Json(options.slabs) : Json("auto")},
      {"threads", options.threads},
      {"memory_limit", options.memory_limit}};
  if (file.gp_hm) json["options"] = gp_hm_options(file);
  if (file.measurements) {
    json["options"]["method"] = "posterior";
    json["options"]["refine"] = file.inference.refine ? "marginal-likelihood" : "none";
    json["options"]["max_features"] = file.inference.max_features;
    json["options"]["samples"] = file.output.samples;
    json["options"]["seed"] = file.output.seed;
    for (const char* key : {"setup_precision", "precision", "tolerance", "max_modes"})
      json["options"].erase(key);
  }
  json["report"] = {{"status", to_string(solution.report.status)},
                    {"converged", solution.report.ok()},
                    {"iterations", solution.report.iterations},
                    {"residual", number(solution.report.residual)},
                    {"tolerance", number(solution.report.tolerance)}};

  Json& result = json["result"];
  result["problem"] = problem_json(file, output.axes);
  result["unknowns"] =
      unknowns_of(solution) * (file.system ? std::ssize(file.system->fields) : std::ptrdiff_t{1});
  result["axes"] = Json::array();
  for (std::size_t d = 0; d < solution.axes.size(); ++d) {
    const AxisInfo& axis = solution.axes[d];
    Json bands = Json::array();
    for (const Band& band : axis.bands) bands.push_back({number(band.lower), number(band.upper)});
    result["axes"].push_back(
        {{"name", d < file.problem.axes.size() ? file.problem.axes[d].name : ""},
         {"modes", axis.modes},
         {"features", axis.features},
         {"nodes", axis.nodes},
         {"smallest_pivot", number(axis.smallest_pivot)},
         {"bands", bands}});
  }
  if (!solution.slabs.empty()) {
    result["slabs"] = Json::array();
    for (const SlabInfo& slab : solution.slabs)
      result["slabs"].push_back({{"begin", number(slab.begin)},
                                 {"end", number(slab.end)},
                                 {"residual", number(slab.residual)},
                                 {"boundary_residual", number(slab.boundary_residual)},
                                 {"error_estimate", number(slab.error_estimate)},
                                 {"newton_steps", slab.newton_steps}});
  }
  result["newton_steps"] = solution.newton_steps;
  result["condition"] = number(solution.condition);
  result["residual"] = number(solution.residual);
  result["residual_scale"] = number(solution.residual_scale);
  result["boundary_residual"] = number(solution.boundary_residual);
  result["residual_on_grid"] = norms_json(output.residual);
  const bool at_samples = !same_grid(output.residual_axes, output.axes);
  result["residual_on_grid"]["grid"] = !at_samples                ? "output"
                                       : samples_of(file.problem) ? "forcing"
                                                                  : "thinned";
  result["error"] = output.error ? norms_json(*output.error) : Json(nullptr);
  for (const OutputPart& part : output.parts)
    result["fields"].push_back({{"name", part.name},
                                {"residual", number(part.solver_residual)},
                                {"boundary_residual", number(part.boundary_residual)},
                                {"residual_on_grid", norms_json(part.residual)},
                                {"error", part.error ? norms_json(*part.error) : Json(nullptr)},
                                {"error_estimate", number(part.error_estimate)}});
  result["error_estimate"] = number(solution.error_estimate);
  result["floor_estimate"] = number(solution.floor_estimate);
  result["seconds"] = number(run.seconds);
  result["timings"] = Json::object();
  for (const auto& [phase, seconds] : solution.timings) result["timings"][phase] = number(seconds);
  if (!options.cache.empty())
    result["cache"] = {{"hits", solution.cache_hits}, {"misses", solution.cache_misses}};
  result["repeats"] = run.repeats;
  result["repeat_solve"] = run.repeat_seconds ? number(*run.repeat_seconds) : Json(nullptr);
  if (run.posterior) {
    result["posterior"] = posterior_json(*run.posterior);
    result["unknowns"] = run.posterior->features;
    result["floor_estimate"] = nullptr;
  }
  if (run.gp_hm) {
    result["gp_hm"] = gp_hm_json(*run.gp_hm);
    for (const char* unknown : {"condition", "error_estimate", "floor_estimate"})
      result[unknown] = nullptr;
  }
  result["warnings"] = file.warnings;
  for (const std::string& warning : solution.warnings)
    if (std::find(file.warnings.begin(), file.warnings.end(), warning) == file.warnings.end())
      result["warnings"].push_back(warning);
  result["files"] = Json::array();
  for (const std::string& name : files) result["files"].push_back(name);

  const Info machine = info();
  json["environment"] = {
      {"version", machine.version},
      {"compiler", machine.compiler},
      {"build", machine.build},
      {"instruction_set",
       machine.instruction_sets.empty() ? "baseline" : machine.instruction_sets[0]},
      {"cpu", cpu_model()},
      {"threads", options.threads > 0 ? options.threads : machine.threads}};
  if (!run.date.empty()) json["environment"]["date"] = run.date;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

namespace {

/// Three dimensions are drawn on the plane across the third axis where u is largest.
void add_slice(Picture& picture, const PdeFile& file, const Output& output, const Sampler& sample) {
  const Axis& axis = file.problem.axes[2];
  std::vector<std::vector<double>> coarse;
  for (const auto& points : output.axes) {
    const double lower = points.front(), width = points.back() - lower;
    std::vector<double> some;
    for (int i = 0; i < 12; ++i) {
      const double t = 0.5 + 0.6180339887498949 * (i + 1);  // off the nodes of sines
      some.push_back(lower + width * (t - std::floor(t)));
    }
    std::sort(some.begin(), some.end());
    coarse.push_back(std::move(some));
  }
  const std::vector<double> u = sample(coarse, std::vector<int>(3, 0));
  double best = -1, at = axis.lower.hi;
  for (std::size_t k = 0; k < coarse[2].size(); ++k) {
    double sum = 0;
    for (std::size_t i = k; i < u.size(); i += coarse[2].size()) sum += std::fabs(u[i]);
    if (sum > best) {
      best = sum;
      at = coarse[2][k];
    }
  }
  picture.title += ", " + axis.name + " = " + short_text(at, 3);
  picture.sample = [&sample, at](std::span<const std::vector<double>> axes) {
    return sample(std::vector<std::vector<double>>{axes[0], axes[1], {at}}, std::vector<int>(3, 0));
  };
  std::vector<std::vector<double>> plane;
  for (std::size_t k = 0; k < 2; ++k) {
    std::vector<double> points(200);
    const double lower = output.axes[k].front(), width = output.axes[k].back() - lower;
    for (int i = 0; i < 200; ++i) points[i] = lower + width * i / 199;
    plane.push_back(std::move(points));
  }
  plane.push_back({at});
  std::vector<double> values;
  if (output.error) {
    values.resize(size_of(plane));
    (void)error_norms(file.problem, plane, sample(plane, std::vector<int>(3, 0)),
                      file.options.threads, &values);
  } else {
    Derivatives derivatives(sample, plane);
    values = residual_on(file.problem, plane, derivatives, file.options.threads).values;
    if (output.residual.scale > 0)
      for (double& v : values) v /= output.residual.scale;
  }
  plane.pop_back();
  picture.error = {output.error ? "|u − exact|" : "|residual| / scale", std::move(plane),
                   std::move(values)};
}

}  // namespace

Picture picture_of(const PdeFile& file, const Solution& solution, const Output& output,
                   const Sampler& sample, const Run& run) {
  Picture picture;
  picture.title = file.problem.name;
  picture.equation = file.equation_text + " = 0";
  const Report& report = solution.report;
  picture.facts.emplace_back(to_string(report.status));
  if (output.error) {
    picture.facts.push_back("relative L2 error " + short_text(output.error->relative_l2, 3));
  } else if (!run.gp_hm) {
    // No estimate is better than what rounding the data does.
    picture.facts.push_back(
        "estimated relative L2 error " +
        short_text(std::max(solution.error_estimate, solution.floor_estimate), 2));
  }
  if (run.posterior) {
    if (output.error)
      picture.facts.push_back("deviation " + short_text(solution.error_estimate, 2));
    for (const DataSummary& d : run.posterior->data)
      if (d.name != "sides" && (d.learnt || d.chi2 > 0))
        picture.facts.push_back("noise of " + d.name + " " + short_text(d.noise, 3) +
                                (d.learnt ? " (learnt)" : ""));
  }
  picture.facts.push_back("residual " + short_text(solution.residual, 3));
  std::string modes;
  for (const AxisInfo& axis : solution.axes) {
    modes += (modes.empty() ? "" : " × ") + std::to_string(axis.modes);
  }
  picture.facts.push_back(modes + (run.gp_hm ? " points" : " modes"));
  if (run.gp_hm) picture.facts.push_back(std::to_string(report.iterations) + " steps");
  picture.facts.push_back(seconds_text(run.seconds));
  if (!report.ok() && run.posterior) {
    picture.alarm = "Not to be trusted: " + (run.posterior->warnings.empty()
                                                 ? std::string(to_string(report.status))
                                                 : run.posterior->warnings.back());
  } else if (!report.ok()) {
    const bool distance =
        report.residual > solution.residual && report.residual > solution.boundary_residual;
    picture.alarm = "Not converged: " + std::string(to_string(report.status)) +
                    (distance ? ", distance to a second discretisation " : ", residual ") +
                    short_text(report.residual, 3) + ", tolerance " +
                    short_text(report.tolerance, 3);
  }
  const std::size_t dimensions = file.problem.axes.size();
  for (std::size_t d = 0; d < std::min<std::size_t>(dimensions, 2); ++d) {
    const Axis& axis = file.problem.axes[d];
    PictureAxis out;
    out.name = axis.name;
    out.lower = axis.lower.hi;
    out.upper = axis.upper.hi;
    if (d < solution.axes.size()) {
      for (const Band& band : solution.axes[d].bands)
        out.bands.emplace_back(band.lower, band.upper);
      out.frequency = solution.axes[d].spectrum_frequency;
      out.amplitude = solution.axes[d].spectrum;
    }
    picture.axes.push_back(std::move(out));
  }
  if (dimensions == 3) {
    add_slice(picture, file, output, sample);
    return picture;
  }
  picture.sample = [&sample, dimensions](std::span<const std::vector<double>> axes) {
    return sample(axes, std::vector<int>(dimensions, 0));
  };
  if (run.posterior) {
    const std::vector<int> zero(dimensions, 0);
    if (dimensions == 1)
      picture.deviation = [posterior = run.posterior,
                           zero](std::span<const std::vector<double>> axes) {
        return posterior->deviation(axes, zero);
      };
    if (file.measurements && file.measurements->observations) {
      picture.points = file.measurements->observations->points;
      picture.observed = file.measurements->observations->values;
    }
  }
  const auto deviation = std::find_if(
      file.output.fields.begin(), file.output.fields.end(),
      [](const OutputField& f) { return f.kind == FieldKind::deviation && f.name == "std"; });
  if (run.posterior && dimensions == 2 && deviation != file.output.fields.end()) {
    picture.error = {
        "standard deviation", output.axes,
        output.fields[static_cast<std::size_t>(deviation - file.output.fields.begin())].values};
  } else if (output.error && !output.error_values.empty()) {
    picture.error = {"|u − exact|", output.axes, output.error_values};
  } else {
    picture.error = {"|residual| / scale", output.residual_axes, output.residual_values};
    if (output.residual.scale > 0) {
      for (double& v : picture.error.values) v /= output.residual.scale;
    }
  }
  return picture;
}

OutputFolder::OutputFolder(const fs::path& folder) {
  folder_ = folder.lexically_normal();
  if (folder_.empty()) folder_ = ".";
  if (!folder_.has_filename() && folder_.has_relative_path()) folder_ = folder_.parent_path();
  std::error_code error;
  const fs::file_status status = fs::status(folder_, error);
  if (error && status.type() != fs::file_type::not_found)  // a name that is too long, say
    throw IoError(folder_.string(), "cannot be written: " + error.message());
  exists_ = fs::exists(status);
  if (exists_ && !fs::is_directory(status)) throw IoError(folder_.string(), "is not a folder");

  // Staging lies on the same file system: inside the folder, or beside the one to be made.
  const fs::path home = exists_ ? folder_ : folder_.has_parent_path() ? folder_.parent_path() : ".";
  const auto remove_created = [&] {
    for (auto it = created_.rbegin(); it != created_.rend(); ++it) fs::remove(*it, error);
  };
  std::vector<fs::path> missing;
  for (fs::path p = home; !p.empty() && !fs::exists(p, error); p = p.parent_path()) {
    missing.insert(missing.begin(), p);
  }
  for (const fs::path& p : missing) {
    if (::mkdir(p.c_str(), 0777) != 0) {
      const int code = errno;
      if (code == EEXIST) continue;  // another process was faster
      remove_created();
      throw IoError(folder_.string(), "cannot be created: " + p.string() + ": " + reason(code));
    }
    created_.push_back(p);
  }
  std::string pattern = (home / ".halfulp-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    const int code = errno;
    remove_created();
    throw IoError(folder_.string(), "cannot be written: " + reason(code));
  }
  staging_ = pattern;
}

OutputFolder::~OutputFolder() {
  std::error_code error;
  if (staging_.empty()) return;
  fs::remove_all(staging_, error);
  for (auto it = created_.rbegin(); it != created_.rend(); ++it) fs::remove(*it, error);
}

fs::path OutputFolder::stage(const std::string& name) {
  detail::require(!name.empty() && name != "." && name != ".." &&
                      name.find('/') == std::string::npos && name.find('\0') == std::string::npos,
                  "OutputFolder", "name", std::string_view(name), "a plain file name");
  if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
  return staging_ / name;
}

void OutputFolder::write(const std::string& name, std::string_view bytes) {
  write_file_atomic(stage(name), bytes);
}

void OutputFolder::commit() {
  std::error_code error;
  if (!exists_) {
    // mkdtemp's mode is 0700: give it what mkdir would have given.
    const mode_t mask = ::umask(0);
    ::umask(mask);
    ::chmod(staging_.c_str(), 0777 & ~mask);
    // An empty folder made meanwhile is replaced; one with files fails here.
    fs::rename(staging_, folder_, error);
    if (error) throw IoError(folder_.string(), "cannot be put in place: " + error.message());
  } else {
    const fs::path old = staging_ / ".old";
    if (::mkdir(old.c_str(), 0700) != 0) {
      throw IoError(folder_.string(), "cannot be written: " + reason(errno));
    }
    std::vector<std::string> moved, saved;
    for (const std::string& name : names_) {
      const fs::path target = folder_ / name;
      if (fs::is_directory(fs::symlink_status(target, error))) {
        error = std::make_error_code(std::errc::is_a_directory);
      } else {
        fs::rename(target, old / name, error);
        const bool absent = error == std::errc::no_such_file_or_directory;
        if (!error) saved.push_back(name);
        if (absent) error.clear();
        if (!error) fs::rename(staging_ / name, target, error);
        if (!error) moved.push_back(name);
      }
      if (!error) continue;
      const std::string why = error.message();
      for (const std::string& done : moved) fs::remove(folder_ / done, error);
      for (const std::string& done : saved) fs::rename(old / done, folder_ / done, error);
      throw IoError(target.string(), "cannot be put in place: " + why);
    }
    fs::remove_all(staging_, error);
  }
  staging_.clear();
  created_.clear();
}

void write_fields(OutputFolder& folder, const PdeFile& file, const Output& output) {
  const auto names = names_of(file.problem);
  const auto shape = shape_of(output.axes);
  for (std::size_t d = 0; d < output.axes.size(); ++d) {
    write_npy<double>(folder.stage(names[d] + ".npy"), output.axes[d], {shape[d]});
  }
  for (const Field& field : output.fields) {
    write_npy<double>(folder.stage(field.name + ".npy"), field.values, shape);
  }
  const std::string& name = file.problem.name;
  if (wants(file, "vti")) folder.write(name + ".vti", vti_text(output.axes, output.fields));
  if (wants(file, "csv")) folder.write(name + ".csv", csv_text(table_of(file, output)));
  if (wants(file, "h5")) write_hdf5(folder.stage(name + ".h5"), names, output.axes, output.fields);
}

std::string write_output(OutputFolder& folder, const PdeFile& file, const Solution& solution,
                         const Output& output, const Sampler& sample, const Run& run) {
  write_fields(folder, file, output);
  if (run.posterior && file.output.samples > 0) {
    const std::vector<int> zero(output.axes.size(), 0);
    auto draws = shape_of(output.axes);
    draws.insert(draws.begin(), file.output.samples);
    write_npy<double>(
        folder.stage("samples.npy"),
        run.posterior->samples(output.axes, zero, file.output.samples, file.output.seed), draws);
  }
  folder.write("picture.svg", draw_svg(picture_of(file, solution, output, sample, run)));
  std::vector<std::string> files = folder.names();
  files.emplace_back("report.json");
  std::string report = report_json(file, solution, output, run, files);
  folder.write("report.json", report);
  return report;
}

}  // namespace halfulp::gp_pde
