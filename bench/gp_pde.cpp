// bench_gp_pde [--repeats N] FILE.toml...: times of set-up, solve and evaluation on the output
// grid, medians, with the error beside them: one JSON object a line and file.
//
// setup: inferring bands, basis, factors (once an operator). solve: Solver::solve() with the set-up
// kept: evaluating forcing and boundary data, coefficients. evaluate: u on the output grid.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "halfulp/pde_file.hpp"

namespace {

namespace pde = halfulp::gp_pde;
using halfulp::dd;

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

std::vector<std::vector<double>> output_grid(const pde::PdeFile& file) {
  std::vector<std::vector<double>> grid;
  for (std::size_t i = 0; i < file.problem.axes.size(); ++i) {
    const auto& axis = file.problem.axes[i];
    const std::ptrdiff_t n = file.output.points[i];
    auto& points = grid.emplace_back();
    for (std::ptrdiff_t k = 0; k < n; ++k)
      points.push_back(
          (axis.lower + (axis.upper - axis.lower) * (static_cast<double>(k) / double(n - 1))).hi);
    points.back() = axis.upper.hi;
  }
  return grid;
}

/// Relative L2 error against the exact solution in double-double.
double relative_error(const pde::Problem& problem, const std::vector<std::vector<double>>& grid,
                      const std::vector<double>& values) {
  std::vector<std::string> names;
  std::vector<std::vector<dd>> axes;
  for (std::size_t i = 0; i < grid.size(); ++i) {
    names.push_back(problem.axes[i].name);
    axes.emplace_back(grid[i].begin(), grid[i].end());
  }
  std::vector<dd> exact(values.size());
  halfulp::Program<dd>(*problem.exact, names).on_grid(axes, exact);
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    error += std::pow((exact[i] - values[i]).hi, 2);
    scale += std::pow(exact[i].hi, 2);
  }
  return std::sqrt(error / scale);
}

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
    // The first solve may finish what the constructor left for later: the second one is the repeat.
    Stopwatch again;
    solution = solver.solve();
    solve.push_back(again.seconds());
    setup.push_back(std::max(0.0, first - solve.back()));
    Stopwatch grid_watch;
    values = solution.on_grid(grid, orders);
    evaluate.push_back(grid_watch.seconds());
    if (i > 0) continue;
    result["status"] = to_string(solution.report.status);
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
  int repeats = 7, begin = 1;
  if (argc > 2 && std::string_view(argv[1]) == "--repeats") {
    repeats = std::max(1, std::atoi(argv[2]));
    begin = 3;
  }
  if (begin >= argc) {
    std::cerr << "usage: bench_gp_pde [--repeats N] FILE.toml...\n";
    return 2;
  }
  try {
    for (int i = begin; i < argc; ++i) measure(argv[i], repeats);
  } catch (const std::exception& error) {
    std::cerr << "bench_gp_pde: " << error.what() << '\n';
    return 1;
  }
}
