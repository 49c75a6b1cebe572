// bench_gp_pde [--repeats N] FILE.toml...: times of set-up, solve and evaluation on the output
// grid, medians, with the error beside them: one JSON object a line and file.
//
// setup: inferring bands, basis, factors (once an operator). solve: Solver::solve() with the set-up
// kept: evaluating forcing and boundary data, coefficients. evaluate: u on the output grid.
#include <iostream>

#include "case.hpp"

namespace {

namespace pde = halfulp::gp_pde;

void measure(const char* path, int repeats) {
  const pde::PdeFile file = pde::read_pde_file(path);
  const auto grid = output_grid(file);
  const std::vector<int> orders(grid.size(), 0);
  std::vector<double> setup, solve, evaluate, values;
  nlohmann::ordered_json result{{"problem", file.problem.name}};
  for (int i = 0; i < repeats; ++i) {
    Stopwatch watch;
    pde::Solver solver(file.problem, file.options);
    auto solution = solver.solve();
    const double first = watch.seconds();
    values = solution.on_grid(grid, orders);  // as a user of the first solution would
    // The first solve plans; of two repeats the second is warm, as a repeated solve is.
    double repeat = 0, on_grid = 0;
    for (int again = 0; again < 2; ++again) {
      Stopwatch solve_watch;
      solution = solver.solve();
      repeat = solve_watch.seconds();
      Stopwatch grid_watch;
      values = solution.on_grid(grid, orders);
      on_grid = grid_watch.seconds();
    }
    solve.push_back(repeat);
    evaluate.push_back(on_grid);
    setup.push_back(std::max(0.0, first - repeat));
    if (i > 0) continue;
    result["status"] = to_string(solution.report.status);
    result["floor"] = solution.floor_estimate;
    result["estimate"] = solution.error_estimate;
    result["residual"] = solution.residual;
    result["boundary"] = solution.boundary_residual;
    for (const auto& axis : solution.axes) result["modes"].push_back(axis.modes);
  }
  if (file.problem.exact) result["error"] = relative_error(file.problem, grid, values);
  result["setup"] = median(setup);
  result["solve"] = median(solve);
  result["evaluate"] = median(evaluate);
  std::cout << result.dump() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  if (arguments.files.empty()) {
    std::cerr << "usage: bench_gp_pde [--repeats N] FILE.toml...\n";
    return 2;
  }
  try {
    for (const char* file : arguments.files) measure(file, arguments.repeats);
  } catch (const std::exception& error) {
    std::cerr << "bench_gp_pde: " << error.what() << '\n';
    return 1;
  }
}
