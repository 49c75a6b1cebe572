// The forcing is a C++ function, not a formula: sampled as finely as it needs, then solved.
#include <cmath>
#include <cstdio>
#include <halfulp/gp_pde.hpp>

int main() {
  using namespace halfulp;
  // u'' = f, u(0) = 0, u(1) = exp(-1/2) sin(40): f as some program computes it.
  const auto f = [](std::span<const double> x) {
    const double s = std::sin(40 * x[0]), c = std::cos(40 * x[0]);
    return std::exp(-0.5 * x[0]) * ((0.25 - 1600) * s - 40 * c);
  };
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}};
  p.equation = parse_expression("u_xx - f", {"u_xx", "f"});
  p.forcing = gp_pde::sample_function(p.axes, f);
  p.sides = {
      {{{.kind = gp_pde::SideKind::dirichlet, .g = 0.0},
        {.kind = gp_pde::SideKind::dirichlet, .g = parse_expression("exp(-1/2)*sin(40)", {})}}}};
  const gp_pde::Solution u = gp_pde::solve(p);

  std::vector<double> x;
  for (int i = 0; i <= 1000; ++i) x.push_back(i / 1000.0);
  const std::vector<double> values = u.on_grid(std::vector<std::vector<double>>{x}, std::vector{0});
  double error = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(-0.5 * x[i]) * std::sin(40 * x[i]);
    error += (values[i] - exact) * (values[i] - exact);
    size += exact * exact;
  }
  error = std::sqrt(error / size);
  std::printf("error %.1e, estimated %.1e\n", error, u.error_estimate);
  return u.report.ok() && error < u.error_estimate ? 0 : 3;
}
