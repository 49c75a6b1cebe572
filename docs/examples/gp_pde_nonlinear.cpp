// A nonlinear equation with two solutions: the guess chooses; the field is differentiated.
#include <cmath>
#include <cstdio>
#include <halfulp/gp_pde.hpp>

int main() {
  using namespace halfulp;
  // Bratu: u'' + exp(u) = 0, u(0) = u(1) = 0; u = -2 log(cosh((x - 1/2) t/2) / cosh(t/4)) where
  // t = sqrt(2) cosh(t/4), which has a small and a large root.
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}};
  p.equation = parse_expression("u_xx + exp(u)", {"u", "u_xx"});
  const gp_pde::Side end{.kind = gp_pde::SideKind::dirichlet, .g = 0.0};
  p.sides = {{end, end}};
  double worst = 0;
  for (const char* guess : {"0", "17*x*(1 - x)"}) {
    gp_pde::Options options;
    options.guess = parse_expression(guess, {"x"});
    const gp_pde::Solution u = gp_pde::solve(p, options);
    if (!u.report.ok()) return 3;
    double t = guess[0] == '0' ? 1.5 : 10.9;  // Newton's method for the root
    for (int i = 0; i < 50; ++i)
      t -= (t - std::sqrt(2.0) * std::cosh(t / 4)) / (1 - std::sqrt(2.0) / 4 * std::sinh(t / 4));
    const std::vector<std::vector<double>> points{{0.0, 0.2, 0.5, 0.9}};
    const auto value = u.on_grid(points, std::vector{0});
    const auto slope = u.on_grid(points, std::vector{1});
    for (std::size_t i = 0; i < points[0].size(); ++i) {
      const double s = (points[0][i] - 0.5) * t / 2;
      worst = std::max(worst, std::fabs(value[i] + 2 * std::log(std::cosh(s) / std::cosh(t / 4))));
      worst = std::max(worst, std::fabs(slope[i] + t * std::tanh(s)));
    }
    std::printf("u(1/2) = %.15f, u'(0) = %.15f, %d Newton steps, estimated error %.1e\n", value[2],
                slope[0], u.newton_steps, u.error_estimate);
  }
  std::printf("largest error of u and u': %.1e\n", worst);
  return worst < 1e-11 ? 0 : 3;
}
