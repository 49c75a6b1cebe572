// A long window in time: slab after slab, with a checkpoint that an interrupted run goes on from.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <halfulp/gp_pde.hpp>

int main() {
  using namespace halfulp;
  // u_t + u_x = 0: a wave that enters at x = 0 and has passed 100 times at the end.
  const Expression wave = parse_expression("sin(2*pi*(x - t))", {"x", "t"});
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}, {"t", 0, 100}};
  p.equation = parse_expression("u_t + u_x", {"u_t", "u_x"});
  const gp_pde::Side known{.kind = gp_pde::SideKind::dirichlet, .g = wave}, free{};
  p.sides = {{known, free}, {known, free}};
  gp_pde::Options options;
  options.slabs = 0;  // as many as it takes
  const auto path = std::filesystem::temp_directory_path() / "halfulp_example_slabs";
  options.checkpoint = {.path = path, .every = 10, .resume = true};
  const gp_pde::Solution u = gp_pde::solve(p, options);
  for (const char* suffix : {"", ".previous"}) std::filesystem::remove(path.string() + suffix);

  const std::vector<std::vector<double>> points{{0.125, 0.375, 0.75}, {0.5, 37.25, 99.875, 100}};
  const std::vector<double> values = u.on_grid(points, std::vector{0, 0});
  double worst = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 4; ++j) {
      const double phase = std::remainder(points[0][i] - points[1][j], 1);  // exact
      worst = std::max(worst, std::fabs(values[4 * i + j] - std::sin(2 * std::acos(-1.0) * phase)));
    }
  std::printf("%zu slabs, error %.1e, estimated %.1e\n", u.slabs.size(), worst, u.error_estimate);
  return u.report.ok() && worst < 1e-15 ? 0 : 3;
}
