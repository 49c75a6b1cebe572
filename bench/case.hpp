#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "halfulp/pde_file.hpp"

/// What the benchmarks of PDE files have in common: clock, output grid, error.

class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// PROGRAM [--repeats N] FILE.toml...
struct Arguments {
  int repeats = 7;
  std::vector<const char*> files;
  Arguments(int argc, char** argv) : files(argv + 1, argv + argc) {
    if (files.size() < 2 || std::string_view(files[0]) != "--repeats") return;
    repeats = std::max(1, std::atoi(files[1]));
    files.erase(files.begin(), files.begin() + 2);
  }
};

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

inline std::vector<std::vector<double>> output_grid(const halfulp::gp_pde::PdeFile& file) {
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
inline double relative_error(const halfulp::gp_pde::Problem& problem,
                             const std::vector<std::vector<double>>& grid,
                             const std::vector<double>& values) {
  using halfulp::dd;
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
