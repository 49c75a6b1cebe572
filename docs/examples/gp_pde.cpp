// Solves a Poisson problem whose forcing oscillates, without being told its frequency.
// [readme]
#include <halfulp/gp_pde.hpp>
#include <iostream>

int main() {
  using namespace halfulp;
  gp_pde::Problem problem;
  problem.axes = {{"x", 0, 1}, {"y", 0, 1}};
  problem.equation = parse_expression("u_xx + u_yy - f", {"u_xx", "u_yy", "f"});
  problem.forcing = parse_expression("sin(20*pi*x)*exp(y)", {"x", "y"});
  const gp_pde::Side wall{.kind = gp_pde::SideKind::dirichlet, .g = 0.0};
  problem.sides = {{wall, wall}, {wall, wall}};
  const gp_pde::Solution u = gp_pde::solve(problem);
  std::cout << u.report << ", estimated error " << u.error_estimate << '\n';
  return u.report.ok() ? 0 : 3;
}
// [readme]
