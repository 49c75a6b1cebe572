// One operator, many right-hand sides: the set-up is made once.
#include <cmath>
#include <cstdio>
#include <halfulp/gp_pde.hpp>

int main() {
  using namespace halfulp;
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}, {"y", 0, 1}};
  p.equation = parse_expression("u_xx + u_yy - f", {"u_xx", "u_yy", "f"});
  const gp_pde::Side wall{.kind = gp_pde::SideKind::dirichlet, .g = 0.0};
  p.sides = {{wall, wall}, {wall, wall}};
  // The bands come from the first forcing: give one that has all the frequencies to come.
  const auto mode = [](int m) {
    return parse_expression("sin(m*pi*x)*sin(3*pi*y)", {"x", "y"}, {{"m", double(m)}});
  };
  p.forcing = mode(1) + mode(12);
  // In double, from operators that are combined in double-double: a solve is some products.
  gp_pde::Options options;
  options.precision = gp_pde::Precision::double_;
  gp_pde::Solver solver(p, options);
  (void)solver.solve();

  double worst = 0;
  const double pi = std::acos(-1.0);
  for (int m = 1; m <= 12; ++m) {
    const gp_pde::Solution u = solver.solve(mode(m));
    if (!u.report.ok()) return 3;
    const std::vector<std::vector<double>> points{{0.1, 0.35, 0.7}, {0.2, 0.55}};
    const std::vector<double> values = u.on_grid(points, std::vector{0, 0});
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 2; ++j) {
        const double exact = -std::sin(m * pi * points[0][i]) * std::sin(3 * pi * points[1][j]) /
                             (pi * pi * (m * m + 9));
        worst = std::max(worst, std::fabs(values[2 * i + j] - exact) * pi * pi * (m * m + 9));
      }
  }
  std::printf("12 right-hand sides, largest error %.1e of the largest value\n", worst);
  return worst < 1e-12 ? 0 : 3;
}
