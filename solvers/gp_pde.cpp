#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include "common.hpp"
#include "halfulp/checkpoint.hpp"
#include "halfulp/info.hpp"
#include "halfulp/pde_file.hpp"
#include "halfulp/pde_output.hpp"
#include "halfulp/threads.hpp"
#include "run_folder.hpp"
#include "terminal_progress.hpp"

namespace {

namespace pde = halfulp::gp_pde;
using nlohmann::json;

constexpr std::size_t longest_formula = 65536;  // bytes shown of one

std::string_view kind_text(pde::SideKind kind) {
  constexpr std::string_view names[] = {"dirichlet", "neumann",    "robin", "periodic",
                                        "none",      "derivative", "linear"};
  return names[static_cast<int>(kind)];
}

json sizes_json(const std::vector<std::ptrdiff_t>& sizes) {
  return sizes.empty() ? json("auto") : json(sizes);
}

void add_system_json(json& result, const pde::SystemProblem& problem) {
  for (const auto& field : problem.fields)
    result["fields"].push_back(
        {{"name", field.name},
         {"equation", field.equation.brief_text(longest_formula)},
         {"exact", field.exact ? json(field.exact->brief_text(longest_formula)) : json(nullptr)}});
  for (const auto& [name, value] : problem.forcing)
    result["forcings"][name] = value.brief_text(longest_formula);
  for (const auto& side : problem.sides) {
    json entry = {
        {"field", side.field}, {"side", side.side}, {"type", kind_text(side.condition.kind)}};
    if (side.condition.kind != pde::SideKind::periodic &&
        side.condition.kind != pde::SideKind::none)
      entry.update({{"a", side.condition.a},
                    {"b", side.condition.b},
                    {"g", side.condition.g.brief_text(longest_formula)}});
    result["bc"].push_back(entry);
  }
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
  if (file.system) add_system_json(result, *file.system);
  for (const auto& [name, coefficient] : file.terms)
    result["operator"].push_back(
        {{"derivative", name}, {"coefficient", coefficient.brief_text(longest_formula)}});
  if (!file.linear && !file.system) result["left"] = file.left.brief_text(longest_formula);
  result["right_hand_side"] = file.right_hand_side.brief_text(longest_formula);
  result["forcing"] = nullptr;
  if (file.right_hand_side.depends_on(problem.forcing_symbol)) {
    json forcing = {{"name", problem.forcing_symbol}};
    if (const auto* samples = std::get_if<pde::GridSamples>(&problem.forcing)) {
      forcing["kind"] = "array";
      for (const auto& axis : samples->axes) forcing["shape"].push_back(axis.size());
    } else {
      forcing["kind"] = file.forcing_automatic ? "auto" : "expression";
      forcing["expression"] =
          std::get<halfulp::Expression>(problem.forcing).brief_text(longest_formula);
    }
    result["forcing"] = forcing;
  }
  for (std::size_t i = 0; i < problem.axes.size() && !file.system; ++i)
    for (std::size_t end = 0; end < 2; ++end) {
      const auto add = [&](const pde::Side& side) {
        json entry = {{"side", problem.axes[i].name + (end == 0 ? "-" : "+")},
                      {"type", kind_text(side.kind)}};
        if (side.kind == pde::SideKind::derivative)
          entry["order"] = side.order;
        else if (side.kind == pde::SideKind::linear)
          entry["coefficients"] = side.coefficients;
        else if (side.kind != pde::SideKind::periodic && side.kind != pde::SideKind::none)
          entry.update({{"a", side.a}, {"b", side.b}});
        if (side.kind != pde::SideKind::periodic && side.kind != pde::SideKind::none)
          entry["g"] = side.g.brief_text(longest_formula);
        result["bc"].push_back(entry);
      };
      add(problem.sides[i][end]);
      for (const pde::Side& side : problem.sides[i][end].also) add(side);
    }
  result["exact"] =
      problem.exact ? json(problem.exact->brief_text(longest_formula)) : json(nullptr);
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
      {"slabs", options.slabs > 0 ? json(options.slabs) : json("auto")},
      {"memory", options.memory_limit}};
  json fields;
  for (const auto& field : file.output.fields) fields.push_back(field.name);
  if (file.gp_hm) {
    const pde::HmOptions& hm = *file.gp_hm;
    constexpr std::string_view hm_kernels[] = {"student-t", "gaussian", "matern", "se"};
    result["kernel"] = {{"type", hm_kernels[static_cast<int>(hm.kernel)]},
                        {"components", hm.components},
                        {"frequency_range", hm.frequency_range}};
    result["grid"] = {{"n", sizes_json(hm.points)}, {"nodes", "uniform"}};
    result["solver"] = {{"method", "gp-hm"},
                        {"optimiser", hm.optimiser == pde::HmOptimiser::adam ? "adam" : "lbfgs"},
                        {"iterations", hm.iterations},
                        {"learning_rate", hm.learning_rate},
                        {"final_learning_rate", hm.final_learning_rate},
                        {"boundary_weight", hm.boundary_weight},
                        {"jitter", hm.jitter},
                        {"tol", hm.tolerance},
                        {"threads", hm.threads},
                        {"memory", options.memory_limit}};
  }
  if (file.measurements) {
    const auto noise = [](const pde::Noise& n) { return n.learn ? json("learn") : json(n.level); };
    if (file.measurements->forcing) result["forcing"]["noise"] = noise(*file.measurements->forcing);
    if (const auto& o = file.measurements->observations)
      result["observations"] = {{"count", o->values.size()},
                                {"noise", o->deviations.empty() ? noise(o->noise) : json("given")}};
    result["kernel"]["refine"] = file.inference.refine ? "marginal-likelihood" : "none";
    result["solver"]["method"] = "posterior";
  }
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

// ---- pde solve --------------------------------------------------------------------------------

/// Set by the first interrupt; the solver then stops between phases and nothing is written. The
/// second one ends the program as usual.
volatile std::sig_atomic_t interrupted = 0;

void stop_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

struct Job {
  pde::PdeFile file;
  std::unique_ptr<pde::OutputFolder> folder;
  std::optional<FinishedRun> finished;  ///< in an earlier call, and its files are still there
};

/// How to solve, beside what all verbs share.
struct SolveOptions {
  std::vector<std::string> inputs;
  int repeats = 0;
  RunFolderOptions runs;
  std::string cache;          ///< folder; empty: none
  double cache_limit = 1024;  ///< MiB
};

/// What a finished run depends on. Not the number of threads: it changes no bit.
std::string run_key(const pde::PdeFile& file, const SolveOptions& solving, const Common& common) {
  return "program: " + halfulp::info().version + "\ninput: " + file.digest +
         "\nrepeat: " + std::to_string(solving.repeats) + "\nhex: " + (common.hex ? "1" : "0") +
         '\n';
}

/// Everything that can be refused is, before the first solve: all files are read, all folders
/// tried.
std::vector<Job> plan(const SolveOptions& solving, RunFolder& runs, const Common& common) {
  const std::vector<std::string>& inputs = solving.inputs;
  std::vector<Job> jobs;
  std::vector<std::string> folders;
  for (const std::string& input : inputs) {
    Job job{pde::read_pde_file(input), nullptr, {}};
    if (common.threads > 0) job.file.options.threads = common.threads;
    if (common.threads > 0 && job.file.gp_hm) job.file.gp_hm->threads = common.threads;
    job.file.options.cache = solving.cache;
    job.file.options.cache_limit = static_cast<std::size_t>(solving.cache_limit * (1 << 20));
    pde::check_output(job.file);
    const std::string& name = job.file.problem.name;
    const bool own = inputs.size() == 1 && !common.out.empty();
    if (!own && (name.empty() || name == "." || name == ".."))
      throw halfulp::DomainError("pde solve", "INPUT", input, "a file name that can name a folder");
    const std::filesystem::path folder =
        own ? std::filesystem::path(common.out)
            : std::filesystem::path(common.out.empty() ? "out" : common.out) / name;
    if (std::find(folders.begin(), folders.end(), folder.string()) != folders.end())
      throw halfulp::DomainError(
          "pde solve", "INPUT", input,
          "a name of its own: another input is written to " + folder.string());
    folders.push_back(folder.string());
    runs.remove_leftovers(name);
    job.finished = runs.finished(name, run_key(job.file, solving, common), folder);
    if (!job.finished) {
      runs.check(name);
      job.folder = std::make_unique<pde::OutputFolder>(folder);
      runs.note_staging(name, job.folder->staging());
    }
    jobs.push_back(std::move(job));
  }
  return jobs;
}

std::string cell(double value, const char* format, const Common& common) {
  if (common.hex) return halfulp::hex_text(value);
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

/// Columns: name, then numbers aligned to the right, then words.
void print_row(const std::vector<std::string>& cells, std::size_t name_width, bool hex) {
  const std::size_t width = hex ? 22 : 11;
  std::string line =
      cells[0] + std::string(name_width - std::min(name_width, cells[0].size()), ' ');
  for (std::size_t i = 1; i + 1 < cells.size(); ++i)
    line += ' ' + std::string(width - std::min(width, cells[i].size()), ' ') + cells[i];
  std::cout << line << "  " << cells.back() << '\n' << std::flush;
}

/// Solves `repeats` times more with the set-up kept.
template <class Solver>
void repeat(Solver& solver, int repeats, pde::Run& run) {
  std::vector<double> again;
  for (int i = 0; i < repeats; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto repeated = solver.solve();
    again.push_back(seconds_since(begin));
  }
  run.repeats = repeats;
  if (again.empty()) return;
  const auto middle = again.begin() + std::ssize(again) / 2;
  std::nth_element(again.begin(), middle, again.end());
  run.repeat_seconds = *middle;
}

/// Writes all of a problem's files. The folder could be written before the solve: that it cannot be
/// now is no bad input.
template <class Write>
std::string write_files(Job& job, const Write& write) {
  try {
    std::string report = write();
    job.folder->commit();
    return report;
  } catch (const halfulp::IoError& error) {
    throw std::runtime_error(error.what());
  }
}

/// The row of the table.
std::vector<std::string> row_of(const pde::PdeFile& file, const pde::Run& run,
                                const pde::Output& output, double residual, std::ptrdiff_t unknowns,
                                halfulp::Status status, const Common& common) {
  std::vector<std::string> row = {
      file.problem.name, std::to_string(unknowns),
      output.error ? cell(output.error->relative_l2, "%.2e", common) : "-",
      cell(residual, "%.2e", common), cell(run.seconds, "%.3f", common)};
  if (run.repeat_seconds)
    row.push_back(cell(*run.repeat_seconds, "%.5f", common));
  else if (run.repeats > 0)
    row.emplace_back("-");
  row.emplace_back(halfulp::to_string(status));
  return row;
}

/// solve_one for a system.
std::string solve_system(Job& job, int repeats, const Common& common, std::vector<std::string>& row,
                         bool& converged) {
  const pde::PdeFile& file = job.file;
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  pde::Options options = file.options;
  options.progress = [show = terminal.callback()](double fraction, const char* phase) {
    return interrupted == 0 && (!show || show(fraction, phase));
  };
  pde::Run run;
  const auto start = std::chrono::steady_clock::now();
  pde::SystemSolver solver(*file.system, options);
  pde::SystemSolution solution = solver.solve();
  run.seconds = seconds_since(start);
  repeat(solver, repeats, run);
  const auto begin = std::chrono::steady_clock::now();
  pde::Output output = pde::evaluate(file, solution);
  solution.timings.emplace_back("output grid", seconds_since(begin));
  if (!file.linear && output.error && solution.report.ok() &&
      !(output.error->relative_l2 <= 1e3 * solution.error_estimate)) {
    solution.report.status = halfulp::Status::stagnated;
    solution.warnings.emplace_back(
        "the solution that Newton's method found is not [exact]: nonlinear equations may have "
        "several; [solver] guess leads to another");
  }
  terminal.clear();
  for (const auto& warning : solution.warnings) common.warn(file.problem.name + ": " + warning);
  std::string report =
      write_files(job, [&] { return pde::write_output(*job.folder, file, solution, output, run); });
  converged = solution.report.ok();
  auto unknowns = std::ssize(solution.fields);
  for (const auto& axis : solution.fields[0].axes) unknowns *= axis.modes;
  row = row_of(file, run, output, solution.residual, unknowns, solution.report.status, common);
  return report;
}

/// Solves, measures and writes one problem; returns its report as text.
std::string solve_one(Job& job, const SolveOptions& solving, RunFolder& runs, const Common& common,
                      std::vector<std::string>& row, bool& converged) {
  const pde::PdeFile& file = job.file;
  const int repeats = solving.repeats;
  halfulp::TerminalProgress terminal(common.quiet || common.json);
  const auto progress = [show = terminal.callback()](double fraction, const char* phase) {
    return interrupted == 0 && (!show || show(fraction, phase));
  };
  pde::Run run;
  pde::Solution solution;
  pde::HmSolution learnt;
  pde::Posterior posterior;
  const auto start = std::chrono::steady_clock::now();
  if (file.gp_hm) {
    pde::HmOptions options = *file.gp_hm;
    options.progress = progress;
    options.checkpoint = runs.checkpoint(file.problem.name);
    learnt = pde::solve_gp_hm(file.problem, options);
    solution = pde::summary_of(learnt);
    run.seconds = seconds_since(start);
    run.gp_hm = &learnt;
  } else if (file.measurements) {
    pde::InferenceOptions options = file.inference;
    options.progress = progress;
    if (file.options.threads > 0) options.threads = file.options.threads;
    posterior = pde::infer(file.problem, *file.measurements, options);
    solution = pde::summary_of(posterior);
    run.seconds = seconds_since(start);
    run.posterior = &posterior;
  } else {
    pde::Options options = file.options;
    options.progress = progress;
    // Repeated solves would go on from the end.
    if (options.slabs != 1 && repeats == 0 && runs.active())
      options.checkpoint = runs.checkpoint(file.problem.name);
    pde::Solver solver(file.problem, options);
    solution = solver.solve();
    run.seconds = seconds_since(start);
    repeat(solver, repeats, run);
  }
  const auto sample = file.gp_hm          ? pde::sampler_of(learnt)
                      : file.measurements ? pde::sampler_of(posterior)
                                          : pde::sampler_of(solution);
  const auto begin = std::chrono::steady_clock::now();
  const pde::Output output = pde::evaluate(
      file, sample, file.measurements ? pde::deviation_of(posterior) : pde::Sampler());
  solution.timings.emplace_back("output grid", seconds_since(begin));
  if (!file.linear && !file.gp_hm && output.error && solution.report.ok() &&
      !(output.error->relative_l2 <= 1e3 * solution.error_estimate)) {
    solution.report.status = halfulp::Status::stagnated;
    solution.warnings.emplace_back(
        "the solution that Newton's method found is not [exact] u: a nonlinear equation may have "
        "several; [solver] guess leads to another");
  }
  terminal.clear();
  for (const auto& warning : solution.warnings)
    if (std::find(file.warnings.begin(), file.warnings.end(), warning) == file.warnings.end())
      common.warn(file.problem.name + ": " + warning);
  std::string report = write_files(
      job, [&] { return pde::write_output(*job.folder, file, solution, output, sample, run); });
  converged = solution.report.ok();
  std::ptrdiff_t unknowns = 1;
  for (const auto& axis : solution.axes) unknowns *= axis.modes;
  // Asked for, and not there: GP-HM and posteriors keep no set-up.
  if (file.gp_hm || file.measurements) run.repeats = repeats;
  if (file.measurements) unknowns = posterior.features;
  row = row_of(file, run, output, solution.residual, unknowns, solution.report.status, common);
  return report;
}

void solve(const SolveOptions& solving, const Common& common, Exit& exit) {
  common.require_cpu("pde solve");
  const int repeats = solving.repeats;
  const halfulp::ThreadScope threads(common.threads);
  RunFolder runs(solving.runs);
  std::vector<Job> jobs = plan(solving, runs, common);
  for (const Job& job : jobs)
    for (const auto& warning : job.file.warnings)
      common.warn(job.file.problem.name + ": " + warning);
  stop_on_interrupt();
  std::size_t name_width = 8;
  for (const Job& job : jobs) name_width = std::max(name_width, job.file.problem.name.size());
  if (!common.json) {
    std::vector<std::string> header = {"problem", "unknowns", "rel. error", "residual", "seconds"};
    if (repeats > 0) header.emplace_back("repeat");
    header.emplace_back("status");
    print_row(header, name_width, common.hex);
  }
  const std::filesystem::path first =
      jobs[0].finished ? jobs[0].finished->folder : jobs[0].folder->path();
  const std::string where = (jobs.size() == 1 ? first : first.parent_path() / "<problem>").string();
  std::vector<std::string> reports;
  bool all_converged = true, all_solved = true;
  for (Job& job : jobs) {
    std::vector<std::string> row;
    bool converged = false;
    const std::string& name = job.file.problem.name;
    try {
      if (job.finished) {
        row = job.finished->row;
        converged = job.finished->converged;
        reports.push_back(job.finished->report);
      } else {
        reports.push_back(job.file.system ? solve_system(job, repeats, common, row, converged)
                                          : solve_one(job, solving, runs, common, row, converged));
        try {
          runs.finish(name, run_key(job.file, solving, common),
                      {job.folder->path(), converged, row, reports.back(), job.folder->names()});
        } catch (const halfulp::IoError& error) {  // the problem is solved and written all the same
          common.warn(error.what());
        }
      }
    } catch (const halfulp::Cancelled&) {
      if (runs.active())
        std::cerr << "halfulp: interrupted: the same command with --resume goes on\n";
      throw;
    } catch (const halfulp::Error& error) {
      // What only the solver can find out spoils its own problem, not those after it.
      if (jobs.size() == 1) throw;
      all_solved = false;
      std::cerr << "halfulp: error: " << job.file.problem.name << ": "
                << halfulp::escape_text(error.what()) << '\n';
      nlohmann::ordered_json report = {{"input", job.file.file}, {"error", error.what()}};
      reports.push_back(
          report.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
      row = {job.file.problem.name, "-", "-", "-", "-"};
      if (repeats > 0) row.emplace_back("-");
      row.emplace_back("refused");
    }
    all_converged = all_converged && converged;
    job.folder.reset();
    if (!common.json) print_row(row, name_width, common.hex);
  }
  exit = !all_solved ? Exit::bad_input : all_converged ? Exit::done : Exit::not_converged;
  if (!common.json) {
    std::cout << "\nrel. error: relative L2 against the exact solution on the output grid, - where "
                 "none is known.\nFields, report.json and picture.svg in";
    std::cout << ' ' << halfulp::escape_text(where) << '\n';
    return;
  }
  if (reports.size() == 1) {
    std::cout << reports[0];
    return;
  }
  nlohmann::ordered_json problems;
  for (const std::string& report : reports)
    problems.push_back(nlohmann::ordered_json::parse(report));
  nlohmann::ordered_json options = common.options_json();
  options["inputs"] = solving.inputs;
  const nlohmann::ordered_json object = {{"schema", 1},
                                         {"command", "pde solve"},
                                         {"options", options},
                                         {"report", {{"converged", all_converged}}},
                                         {"result", {{"problems", problems}}}};
  std::cout << object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
}

}  // namespace

void add_gp_pde(CLI::App& app, const Common& common, Exit& exit) {
  auto* module = app.add_subcommand("pde", "Gaussian-process solvers for PDEs on boxes");
  module->require_subcommand(1);
  module->fallthrough();
  // One variable for all verbs: only one of them runs.
  const auto input = std::make_shared<std::string>();
  auto* verb = module->add_subcommand(
      "check", "parse and check a PDE file and say what would be solved; solves nothing");
  verb->fallthrough();
  verb->add_option("INPUT", *input, "PDE file (TOML), see docs/pde_file.md")->required();
  verb->footer("Sample:\n  halfulp pde check solvers/inputs/u1.toml");
  verb->callback([input, &common] { check(*input, common); });

  const auto solving = std::make_shared<SolveOptions>();
  auto* solver = module->add_subcommand(
      "solve", "solve PDE files; write fields, report.json and picture.svg, print a table");
  solver->fallthrough();
  solver->add_option("INPUT", solving->inputs, "PDE files (TOML), see docs/pde_file.md")
      ->required();
  solver
      ->add_option("--repeat", solving->repeats,
                   "solve again this many times with the set-up kept and report the median time")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  auto* cache = solver->add_option(
      "--cache", solving->cache,
      "folder where bases and factorisations are kept, for later calls to find; same results");
  solver
      ->add_option("--cache-limit", solving->cache_limit,
                   "its size in MiB; what was not used for longest goes first")
      ->check(CLI::Range(1.0, 1e9))
      ->needs(cache)
      ->capture_default_str();
  auto* folder = solver->add_option("--checkpoint", solving->runs.folder,
                                    "folder for what an interrupted call goes on from: states of "
                                    "gp-hm and of time slabs, finished problems");
  solver
      ->add_option("--checkpoint-every", solving->runs.every,
                   "seconds between two states of a problem; 0: after every step")
      ->check(CLI::Range(0.0, 1e9))
      ->needs(folder)
      ->capture_default_str();
  solver
      ->add_flag("--resume", solving->runs.resume,
                 "go on from what --checkpoint has, and keep the problems that are finished")
      ->needs(folder);
  solver->footer(
      "--out DIR: one input is written to DIR, several to DIR/<name>; default out/<name>.\n"
      "All of a problem's files appear together or not at all; docs/report.md describes them.\n"
      "Samples:\n"
      "  halfulp pde solve solvers/inputs/u1.toml --out out/u1\n"
      "  halfulp pde solve solvers/inputs/u6.toml --repeat 9 --json\n"
      "  halfulp pde solve solvers/inputs/u1-gp-hm.toml --checkpoint out/state --resume");
  solver->callback([solving, &common, &exit] { solve(*solving, common, exit); });
}
