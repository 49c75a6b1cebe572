// Long windows in time, cut into slabs: against exact solutions, against one window, and against
// themselves when cut by a checkpoint. An estimate must grow as errors do.
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"

namespace {

using namespace halfulp;
using gp_pde::SideKind;

struct Case {
  gp_pde::Problem problem;
  Expression exact;
};

Expression formula(const char* text) { return parse_expression(text, {"x", "t"}); }

/// Space-time: conditions from the exact solution on x-, x+ (kind given) and at t = 0.
Case in_space_time(const char* equation, const char* exact, double end, bool parabolic = true,
                   bool periodic = false) {
  Case c{{}, formula(exact)};
  gp_pde::Problem& p = c.problem;
  p.axes = {{"x", 0.0, 1.0}, {"t", 0.0, end}};
  p.equation = parse_expression(equation, {"x", "t", "u", "u_x", "u_xx", "u_t", "f"});
  std::map<std::string, Expression> by{{"u", c.exact},
                                       {"u_x", c.exact.derivative("x")},
                                       {"u_xx", c.exact.derivative("x").derivative("x")},
                                       {"u_t", c.exact.derivative("t")},
                                       {"f", Expression(0.0)}};
  // Every equation here ends in - f.
  p.forcing = p.equation.substitute(by);
  const gp_pde::Side known{.kind = SideKind::dirichlet, .g = c.exact};
  const gp_pde::Side wrap{.kind = SideKind::periodic, .g = 0.0};
  p.sides = {{known, parabolic ? known : gp_pde::Side{}}, {known, gp_pde::Side{}}};
  if (periodic) p.sides[0] = {wrap, wrap};
  return c;
}

Case in_time(const char* equation, const char* exact, double end) {
  Case c{{}, parse_expression(exact, {"t"})};
  c.problem.axes = {{"t", 0.0, end}};
  c.problem.equation = parse_expression(equation, {"t", "u", "u_t"});
  c.problem.sides = {{{{.kind = SideKind::dirichlet, .g = c.exact}, {}}}};
  return c;
}

std::vector<double> line(double lower, double upper, int n) {
  std::vector<double> points;
  for (int i = 0; i < n; ++i) points.push_back(lower + (upper - lower) * i / (n - 1));
  return points;
}

/// Relative L2 error on a grid over part of the window.
double error_of(const Case& c, const gp_pde::Solution& u, double begin, double end) {
  const bool plane = c.problem.axes.size() == 2;
  std::vector<std::vector<double>> grid;
  if (plane) grid.push_back(line(0, 1, 31));
  grid.push_back(line(begin, end, 157));
  const std::vector<double> values = u.on_grid(grid, std::vector<int>(grid.size(), 0));
  std::vector<std::vector<dd>> exact_grid;
  std::vector<std::string> names;
  for (std::size_t k = 0; k < grid.size(); ++k) {
    exact_grid.emplace_back(grid[k].begin(), grid[k].end());
    names.push_back(c.problem.axes[k].name);
  }
  std::vector<dd> exact(values.size());
  Program<dd>(c.exact, names).on_grid(exact_grid, exact);
  double sum = 0, size = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double difference = (exact[i] - values[i]).hi;
    sum += difference * difference;
    size += exact[i].hi * exact[i].hi;
  }
  return std::sqrt(sum / size);
}

gp_pde::Solution solved(const Case& c, std::ptrdiff_t slabs) {
  gp_pde::Options options;
  options.slabs = slabs;
  return gp_pde::solve(c.problem, options);
}

void check(const Case& c, std::ptrdiff_t slabs, double most) {
  const gp_pde::Solution u = solved(c, slabs);
  const double end = c.problem.axes.back().upper.hi, error = error_of(c, u, 0, end);
  INFO(u.report << ", error " << error << ", estimated " << u.error_estimate << ", "
                << u.slabs.size() << " slabs");
  CHECK(u.report.ok());
  CHECK(error <= most);
  CHECK(error <= u.error_estimate);
  CHECK(u.error_estimate <= 100 * most);
  if (slabs > 1) CHECK(static_cast<std::ptrdiff_t>(u.slabs.size()) == slabs);
  if (!u.slabs.empty()) {
    const gp_pde::SlabInfo& last = u.slabs.back();
    CHECK(error_of(c, u, last.begin, last.end) <= last.error_estimate);
  }
}

}  // namespace

TEST_CASE("advection over a hundred periods", "[slabs]") {
  check(in_space_time("u_t + u_x - f", "sin(2*pi*(x - t))", 100, false), 0, 1e-15);
  check(in_space_time("u_t + u_x - f", "sin(2*pi*(x - t))", 20, false, true), 5, 1e-15);
}

TEST_CASE("heat: one window and slabs agree", "[slabs]") {
  const Case c =
      in_space_time("u_t - u_xx/10 - f", "exp(-pi^2*t/10)*sin(pi*x) + sin(12*t)*cos(3*x)", 3);
  check(c, 1, 1e-15);
  check(c, 6, 1e-15);
  check(c, 0, 1e-15);
}

TEST_CASE("Burgers and Allen-Cahn, Newton's method slab by slab", "[slabs]") {
  check(in_space_time("u_t + u*u_x - 0.05*u_xx - f", "1 + sin(6*x - 4*t)/2", 3), 3, 1e-14);
  check(in_space_time("u_t - u_xx/20 + u^3 - u - f", "tanh(sin(3*x - t))", 2), 2, 1e-11);
}

TEST_CASE("ordinary equations from an initial value", "[slabs]") {
  // Stable, unstable (errors grow e^20 times), and the logistic equation.
  check(in_time("u_t + u - cos(40*t) + 40*sin(40*t)", "cos(40*t)", 60), 20, 1e-14);
  check(in_time("u_t - u", "exp(t)", 20), 8, 1e-14);
  check(in_time("u_t - u*(1 - u)", "1/(1 + 9*exp(-t))", 30), 10, 1e-11);
  // Coefficients that vary in time: an operator for each slab.
  check(in_time("u_t - 3*cos(3*t)*u", "exp(sin(3*t))", 30), 10, 1e-11);
}

TEST_CASE("an estimate grows as the error does", "[slabs]") {
  // Around u = 0 errors grow e^t times, and u itself stays of size 1: with few modes the first
  // slabs' errors are what the last ones' are made of.
  const Case c = in_time("u_t - u - cos(t) + sin(t)", "sin(t)", 16);
  gp_pde::Options options;
  options.slabs = 4;
  options.bands = {{{0, 1}}};
  options.max_modes = 36;
  const gp_pde::Solution u = gp_pde::solve(c.problem, options);
  REQUIRE(u.slabs.size() == 4);
  const double first = error_of(c, u, 0, 4), last = error_of(c, u, 12, 16);
  INFO("errors " << first << " " << last << ", estimates " << u.slabs[0].error_estimate << " "
                 << u.slabs[3].error_estimate);
  CHECK(last > 1e3 * first);
  for (const gp_pde::SlabInfo& slab : u.slabs)
    CHECK(error_of(c, u, slab.begin, slab.end) <= slab.error_estimate);
  CHECK(error_of(c, u, 0, 16) <= u.error_estimate);
}

TEST_CASE("derivatives and grids across slabs", "[slabs]") {
  const Case c = in_space_time("u_t + u_x - f", "sin(2*pi*(x - t))", 6, false);
  const gp_pde::Solution u = solved(c, 3);
  const double pi = std::acos(-1.0);
  const std::vector<std::vector<double>> grid{{0.3}, {5.9, 0.0, 2.0, 1.999999, 4.0, 6.0}};
  const auto rate = u.on_grid(grid, std::vector{0, 1});
  for (std::size_t i = 0; i < grid[1].size(); ++i)
    CHECK(rate[i] == Approx(-2 * pi * std::cos(2 * pi * (0.3 - grid[1][i]))).margin(1e-11));
}

TEST_CASE("cut after any slab, the same bits", "[slabs][checkpoint]") {
  const bool plane = GENERATE(false, true);
  const Case c = plane ? in_space_time("u_t + u_x - f", "sin(2*pi*(x - t))", 6, false)
                       : in_time("u_t - u*(1 - u)", "1/(1 + 9*exp(-t))", 9);
  gp_pde::Options options;
  options.slabs = 3;
  std::vector<std::vector<double>> grid{line(0, c.problem.axes.back().upper.hi, 33)};
  if (plane) grid.insert(grid.begin(), line(0, 1, 17));
  const std::vector<int> zero(grid.size(), 0);
  const gp_pde::Solution whole = gp_pde::solve(c.problem, options);
  const auto values = whole.on_grid(grid, zero);
  std::vector<std::string> states;
  options.checkpoint = {.every = 0,
                        .store = [&](std::string_view state) { states.emplace_back(state); }};
  (void)gp_pde::solve(c.problem, options);
  REQUIRE(states.size() == 3);
  options.checkpoint = {};
  for (const std::string& state : states) {
    options.checkpoint.state = state;
    const gp_pde::Solution rest = gp_pde::solve(c.problem, options);
    CHECK(rest.on_grid(grid, zero) == values);
    CHECK(rest.error_estimate == whole.error_estimate);
    CHECK(rest.residual == whole.residual);
    CHECK(rest.slabs.back().error_estimate == whole.slabs.back().error_estimate);
  }
  options.slabs = 5;
  CHECK_THROWS_AS(gp_pde::solve(c.problem, options), DomainError);  // another computation's state
}

TEST_CASE("what cannot be cut is refused", "[slabs]") {
  gp_pde::Options options;
  options.slabs = 3;
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}};
  p.equation = parse_expression("u_xx - 1", {"u_xx"});
  const gp_pde::Side end{.kind = SideKind::dirichlet, .g = 0.0};
  p.sides = {{end, end}};
  CHECK_THROWS_AS(gp_pde::solve(p, options), DomainError);
  options.slabs = 0;  // none: one window
  CHECK(gp_pde::solve(p, options).slabs.empty());
  options.slabs = -1;
  CHECK_THROWS_AS(gp_pde::solve(p, options), DomainError);
}

TEST_CASE("a function of the user's as forcing", "[slabs][function]") {
  const std::vector<gp_pde::Axis> axes{{"x", 0, 1}, {"y", 0, 2}};
  const auto samples = gp_pde::sample_function(
      axes, [](std::span<const double> p) { return std::sin(900 * p[0]) * std::exp(p[1]); });
  CHECK(samples.axes[0].size() > 201);
  CHECK(samples.axes[1].size() == 201);
  CHECK(samples.values.size() == samples.axes[0].size() * 201);
  CHECK(samples.axes[1].back() == 2);
  CHECK_THROWS_AS(gp_pde::sample_function(
                      axes, [](std::span<const double> p) { return 1 / (p[0] - 0.5); }, 201),
                  DomainError);
  // Frequencies between the samples' limit and its multiples are not taken for lower ones.
  const std::vector<gp_pde::Axis> one{{"x", 0, 1}};
  for (double w = 300; w < 30000; w *= 1.37) {
    const auto fast =
        gp_pde::sample_function(one, [w](std::span<const double> q) { return std::sin(w * q[0]); });
    INFO("frequency " << w << ", " << fast.axes[0].size() << " samples");
    CHECK((static_cast<double>(fast.axes[0].size()) > w / 3.15 || fast.axes[0].size() == 6401));
  }
  CHECK_THROWS_AS(gp_pde::sample_function(
                      one,
                      [](std::span<const double> q) {
                        const double s = (q[0] - 0.50123) / 1e-4;
                        return std::sin(q[0]) + 9 * std::exp(-s * s);
                      },
                      201),
                  DomainError);
  // What no sampling resolves is found out by the solver.
  gp_pde::Problem p;
  p.axes = {{"x", 0, 1}};
  p.equation = parse_expression("u_xx - f", {"u_xx", "f"});
  p.forcing = gp_pde::sample_function(
      p.axes, [](std::span<const double> q) { return q[0] < 0.4 ? 0.0 : 1.0; }, 801);
  const gp_pde::Side end{.kind = SideKind::dirichlet, .g = 0.0};
  p.sides = {{end, end}};
  CHECK(!gp_pde::solve(p).report.ok());
}
