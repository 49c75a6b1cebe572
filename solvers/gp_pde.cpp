#include <memory>
#include <sstream>

#include "common.hpp"
#include "halfulp/pde_file.hpp"
#include "terminal_progress.hpp"

namespace {

namespace pde = halfulp::gp_pde;
using nlohmann::json;

std::string_view kind_text(pde::SideKind kind) {
  constexpr std::string_view names[] = {"dirichlet", "neumann", "robin", "periodic", "none"};
  return names[static_cast<int>(kind)];
}

json sizes_json(const std::vector<std::ptrdiff_t>& sizes) {
  return sizes.empty() ? json("auto") : json(sizes);
}

/// What was understood, for programs.
json check_json(const pde::PdeFile& file) {
  const pde::Problem& problem = file.problem;
  json result = {{"file", file.file}, {"name", problem.name}, {"equation", file.equation_text}};
  for (const auto& axis : problem.axes)
    result["domain"].push_back(
        {{"name", axis.name}, {"lower", axis.lower.hi}, {"upper", axis.upper.hi}});
  result["params"] = json::object();
  for (const auto& [name, value] : file.parameters) result["params"][name] = value.hi;
  for (const auto& [name, coefficient] : file.terms)
    result["operator"].push_back({{"derivative", name}, {"coefficient", coefficient.text()}});
  result["right_hand_side"] = file.right_hand_side.text();
  result["forcing"] = nullptr;
  if (file.right_hand_side.depends_on(problem.forcing_symbol)) {
    json forcing = {{"name", problem.forcing_symbol}};
    if (const auto* samples = std::get_if<pde::GridSamples>(&problem.forcing)) {
      forcing["kind"] = "array";
      for (const auto& axis : samples->axes) forcing["shape"].push_back(axis.size());
    } else {
      forcing["kind"] = file.forcing_automatic ? "auto" : "expression";
      forcing["expression"] = std::get<halfulp::Expression>(problem.forcing).text();
    }
    result["forcing"] = forcing;
  }
  for (std::size_t i = 0; i < problem.axes.size(); ++i)
    for (std::size_t end = 0; end < 2; ++end) {
      const pde::Side& side = problem.sides[i][end];
      json entry = {{"side", problem.axes[i].name + (end == 0 ? "-" : "+")},
                    {"type", kind_text(side.kind)}};
      if (side.kind != pde::SideKind::periodic && side.kind != pde::SideKind::none)
        entry.update({{"a", side.a}, {"b", side.b}, {"g", side.g.text()}});
      result["bc"].push_back(entry);
    }
  result["exact"] = problem.exact ? json(problem.exact->text()) : json(nullptr);
  const auto& options = file.options;
  constexpr std::string_view kernels[] = {"gaussian", "student-t", "matern", "periodic"};
  json bands = options.bands.empty() ? json("auto") : json::object();
  for (std::size_t i = 0; i < options.bands.size(); ++i)
    for (const auto& band : options.bands[i])
      bands[problem.axes[i].name].push_back({band.lower, band.upper});
  result["kernel"] = {{"type", kernels[static_cast<int>(options.kernel)]}, {"bands", bands}};
  constexpr std::string_view nodes[] = {"gauss", "chebyshev", "uniform"};
  result["grid"] = {{"n", sizes_json(options.nodes_per_axis)},
                    {"nodes", nodes[static_cast<int>(options.nodes)]}};
  constexpr std::string_view methods[] = {"auto", "galerkin", "collocation"};
  result["solver"] = {
      {"method", methods[static_cast<int>(options.method)]},
      {"setup_precision", options.setup_precision == pde::Precision::dd ? "dd" : "double"},
      {"tol", options.tolerance > 0 ? json(options.tolerance) : json("auto")},
      {"threads", options.threads},
      {"max_modes", options.max_modes},
      {"memory", options.memory_limit}};
  json fields;
  for (const auto& field : file.output.fields) fields.push_back(field.name);
  result["output"] = {
      {"points", file.output.points}, {"fields", fields}, {"formats", file.output.formats}};
  result["warnings"] = file.warnings;
  return result;
}

void check(const std::string& input, const Common& common) {
  common.require_cpu("pde check");
  const pde::PdeFile file = pde::read_pde_file(input);
  for (const auto& warning : file.warnings) common.warn(warning);
  if (common.json) {
    json options = common.options_json();
    options["input"] = input;
    common.write_json("pde check", options, {{"status", "ok"}, {"warnings", file.warnings.size()}},
                      check_json(file));
  } else {
    common.write(pde::describe(file));
  }
}

void solve(const std::string& input, const Common& common, Exit& exit) {
  common.require_cpu("pde solve");
  pde::PdeFile file = pde::read_pde_file(input);
  for (const auto& warning : file.warnings) common.warn(warning);
  if (common.threads != 0) file.options.threads = common.threads;
  halfulp::TerminalProgress progress(common.quiet);
  file.options.progress = progress.callback();
  const pde::Solution solution = pde::solve(file.problem, file.options);
  progress.clear();
  for (const auto& warning : solution.warnings) common.warn(warning);
  std::ostringstream report;
  report << solution.report;
  if (common.json) {
    json options = common.options_json();
    options["input"] = input;
    common.write_json("pde solve", options,
                      {{"status", std::string(to_string(solution.report.status))},
                       {"iterations", solution.report.iterations},
                       {"residual", solution.report.residual},
                       {"tolerance", solution.report.tolerance}},
                      {{"residual", solution.residual},
                       {"boundary_residual", solution.boundary_residual},
                       {"error_estimate", solution.error_estimate},
                       {"floor_estimate", solution.floor_estimate},
                       {"condition", solution.condition},
                       {"warnings", solution.warnings}});
  } else {
    common.write(file.problem.name + ": " + report.str() + "\n  residual           " +
                 common.number(solution.residual) + "\n  boundary residual  " +
                 common.number(solution.boundary_residual) + "\n  error estimate     " +
                 common.number(solution.error_estimate) + "\n  floor of the data  " +
                 common.number(solution.floor_estimate) + '\n');
  }
  if (!solution.report.ok()) exit = Exit::not_converged;
}

}  // namespace

void add_gp_pde(CLI::App& app, const Common& common, Exit& exit) {
  auto* module = app.add_subcommand("pde", "Gaussian-process solvers for linear PDEs on boxes");
  module->require_subcommand(1);
  module->fallthrough();
  // One variable for all verbs: only one of them runs.
  const auto input = std::make_shared<std::string>();
  const auto add = [&](const char* name, const char* what, const char* sample) {
    auto* verb = module->add_subcommand(name, what);
    verb->fallthrough();
    verb->add_option("INPUT", *input, "PDE file (TOML), see docs/pde_file.md")->required();
    verb->footer(std::string("Sample:\n  halfulp pde ") + sample);
    return verb;
  };
  add("check", "parse and check a PDE file and say what would be solved; solves nothing",
      "check solvers/inputs/u1.toml")
      ->callback([input, &common] { check(*input, common); });
  add("solve", "solve the problem of a PDE file", "solve solvers/inputs/u1.toml --out out/u1")
      ->callback([input, &common, &exit] { solve(*input, common, exit); });
}
