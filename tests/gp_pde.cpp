#include "halfulp/gp_pde.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <random>

#include "halfulp/error.hpp"
#include "pde_cases.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using namespace pde_cases;

namespace {

GridSamples sampled_on(const Problem& p, std::vector<std::vector<double>> axes) {
  GridSamples g;
  g.axes = std::move(axes);
  std::vector<std::string> names;
  for (const Axis& axis : p.axes) names.push_back(axis.name);
  const Program<double> f(std::get<Expression>(p.forcing), names);
  std::size_t count = 1;
  for (const auto& axis : g.axes) count *= axis.size();
  g.values.resize(count);
  f.on_grid(g.axes, g.values);
  return g;
}

GridSamples sampled(const Problem& p, int n) { return sampled_on(p, grid_of(p, n)); }

// n points on an axis, ends included: c Chebyshev, g graded towards the lower end, r random.
std::vector<double> spaced(const Axis& axis, char kind, int n) {
  std::vector<double> x(n);
  std::mt19937_64 generator(17);
  std::uniform_real_distribution<double> uniform;
  for (int i = 0; i < n; ++i) {
    const double t = static_cast<double>(i) / (n - 1);
    x[i] = kind == 'c'   ? 0.5 - 0.5 * std::cos(3.141592653589793 * t)
           : kind == 'g' ? std::pow(t, 1.6)
           : kind == 'r' ? (i == 0 || i == n - 1 ? t : uniform(generator))
                         : t;
  }
  std::sort(x.begin(), x.end());
  for (double& value : x) value = axis.lower.hi + (axis.upper.hi - axis.lower.hi) * value;
  return x;
}

const std::vector<Case>& others() {
  static const std::vector<Case> cases{
      {"layer", {"x"}, {{"0", "1"}}, "u_xx + 1000*u_x - f", "exp(-1000*x) + x^2", {"DD"}},
      {"helmholtz", {"x"}, {{"-1", "2"}}, "u_xx + 2500*u - f", "exp(x)*sin(77.7*x) + x^3", {"DN"}},
      {"variable",
       {"x"},
       {{"0", "2"}},
       "(1 + x^2)*u_xx + x*u_x - u - f",
       "exp(-x)*sin(40*x) + cos(150*x)",
       {"RD"}},
      {"exponential", {"x"}, {{"0", "3"}}, "u_xx - f", "exp(8*x)/1e6 + sin(250*x)", {"DD"}},
      {"bump", {"x"}, {{"0", "1"}}, "u_xx - f", "exp(-500*(x - 0.5)^2)", {"DD"}},
      {"first order", {"x"}, {{"0", "2"}}, "u_x + 3*u - f", "sin(60*x) + x", {"D-"}},
      {"from the right", {"x"}, {{"0", "2"}}, "-u_x + 3*u - f", "sin(60*x) + x", {"-D"}},
      {"periodic", {"x"}, {{"0", "2*pi"}}, "u_xx - u - f", "exp(sin(3*x)) + cos(50*x)", {"PP"}},
      {"free constant", {"x"}, {{"0", "2"}}, "u_xx - f", "cos(33*x) + x^2", {"NN"}},
      {"heat",
       {"x", "t"},
       {{"0", "1"}, {"0", "0.5"}},
       "u_t - 0.1*u_xx - f",
       "sin(30*x)*exp(-t) + cos(50*t)*x",
       {"DN", "D-"}},
      {"mixed sides",
       {"x", "y"},
       {{"0", "1"}, {"0", "2"}},
       "u_xx + u_yy + 900*u - f",
       "sin(40*x + 30*y) + exp(x*y)",
       {"DR", "ND"}},
      {"plane wave",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "u_xx + u_yy + 2500*u",
       "sin(30*x + 40*y)",
       {"DD", "DD"}},
      {"convection",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "-0.01*(u_xx + u_yy) + u_x + 0.5*u_y - f",
       "sin(60*x)*cos(35*y) + x*y",
       {"DD", "DD"}},
      {"mixed derivative",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "u_xx + u_yy + u_xy - u - f",
       "sin(50*x)*cos(20*y)",
       {"DD", "DD"}},
      {"torus",
       {"x", "y"},
       {{"0", "2*pi"}, {"0", "2*pi"}},
       "u_xx + u_yy - f",
       "sin(20*x)*cos(11*y) + cos(3*y)",
       {"PP", "PP"}},
      {"free constant 2-D",
       {"x", "y"},
       {{"0", "1"}, {"0", "1"}},
       "u_xx + u_yy - f",
       "cos(20*x)*cos(11*y) + cos(3*y)",
       {"NN", "NN"}}};
  return cases;
}

}  // namespace

TEST_CASE("the paper's problems, without being told a frequency", "[gp_pde]") {
  for (const Case& t : paper()) {
    const Problem p = manufactured(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
                << s.residual << ", sides " << s.boundary_residual);
    CHECK(s.report.status == Status::converged);
    CHECK(error <= limit(t.axes.size() == 1 ? "gp_pde_1d" : "gp_pde_2d"));
    CHECK(error <= s.error_estimate);
  }
}

TEST_CASE("operators, sides and data of many kinds", "[gp_pde]") {
  for (const Case& t : others()) {
    const Problem p = manufactured(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
                << s.residual << ", sides " << s.boundary_residual);
    CHECK(s.report.status == Status::converged);
    CHECK(error <= limit("gp_pde_others"));
    CHECK(error <= s.error_estimate);
  }
}

TEST_CASE("frequencies from 5 to 300, several bands, random domains", "[gp_pde]") {
  std::mt19937_64 random(20261122);
  std::uniform_real_distribution<double> unit;
  const auto number = [](double x) {
    char text[40];
    std::snprintf(text, sizeof text, "%.15g", x);
    return std::string(text);
  };
  for (int trial = 0; trial < 12; ++trial) {
    Case t{"random " + std::to_string(trial), {"x"}, {}, "u_xx - f", "", {}};
    const double lower = -2 + 3 * unit(random), length = 0.5 + 4 * unit(random);
    t.ends = {{number(lower), number(lower + length)}};
    const int bands = 2 + static_cast<int>(3 * unit(random));
    for (int b = 0; b < bands; ++b) {
      const double w = 5 * std::pow(60.0, unit(random));
      t.exact += (b == 0 ? "" : " + ") + number(0.1 + unit(random)) +
                 (unit(random) < 0.5 ? "*sin(" : "*x*cos(") + number(w) + "*x + " +
                 number(unit(random)) + ")";
    }
    if (unit(random) < 0.5) t.exact += " + " + number(unit(random)) + "*x^3 - x";
    if (unit(random) < 0.5) t.exact += " + exp(" + number(-2 + 4 * unit(random)) + "*x)";
    const char* sides[] = {"DD", "DN", "RD", "NR"};
    t.sides = {sides[trial % 4]};
    const Problem p = manufactured(t);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << " " << t.exact << " on [" << t.ends[0][0] << ", " << t.ends[0][1] << "] "
                << t.sides[0] << ": error " << error << ", residual " << s.residual);
    CHECK(s.report.status == Status::converged);
    CHECK(error <= limit("gp_pde_1d"));
  }
}

TEST_CASE("a forcing known by samples", "[gp_pde]") {
  for (const Case& t : {paper()[0], paper()[4], paper()[6], others()[1], others()[9]}) {
    Problem p = manufactured(t);
    p.forcing = sampled(p, 500);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", estimate " << s.error_estimate);
    CHECK(s.report.status == Status::converged);
    CHECK(error <= limit("gp_pde_samples"));
    CHECK(error <= s.error_estimate);
  }
}

TEST_CASE("samples on axes of any spacing", "[gp_pde]") {
  struct Sampling {
    Case problem;
    std::vector<std::pair<char, int>> axes;
  };
  const std::vector<Sampling> samplings{
      {{"87", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(87*x) + x^2/10", {"DD"}}, {{'r', 1000}}},
      {{"graded", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(6*x)*cos(50*x)", {"DD"}}, {{'g', 900}}},
      {{"few", {"x"}, {{"0", "1"}}, "u_xx - f", "exp(x)*sin(3*x)", {"DD"}}, {{'c', 48}}},
      {{"few, uniform", {"x"}, {{"0", "1"}}, "u_xx - f", "exp(x)*sin(3*x)", {"DN"}}, {{'u', 48}}},
      {{"Chebyshev",
        {"x", "y"},
        {{"0", "2*pi"}, {"0", "pi"}},
        "u_xx + u_yy - f",
        "sin(20*x)*cos(15*y)",
        {"DD", "DD"}},
       {{'c', 120}, {'c', 110}}},
      {{"graded",
        {"x", "y"},
        {{"0", "1"}, {"0", "1"}},
        "u_xx + u_yy - f",
        "sin(12*x)*exp(y)",
        {"DD", "NR"}},
       {{'g', 80}, {'g', 70}}},
      {{"random",
        {"x", "y"},
        {{"0", "1"}, {"0", "2"}},
        "-u_xx - u_yy + 2*u_x + u - f",
        "sin(20*x)*sin(10*y) + x*y",
        {"DD", "DD"}},
       {{'r', 150}, {'u', 60}}}};
  for (const Sampling& t : samplings) {
    Problem p = manufactured(t.problem);
    std::vector<std::vector<double>> axes;
    for (std::size_t k = 0; k < t.axes.size(); ++k)
      axes.push_back(spaced(p.axes[k], t.axes[k].first, t.axes[k].second));
    p.forcing = sampled_on(p, axes);
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO(t.problem.name << ": error " << error << ", estimate " << s.error_estimate);
    CHECK(s.report.status == Status::converged);
    CHECK(error <= limit("gp_pde_samples"));
    CHECK(error <= s.error_estimate);
  }
  // Too few samples for their frequency, and a kink: said to be so, whatever the spacing.
  for (const char kind : {'u', 'c', 'g', 'r'}) {
    Problem fast = manufactured({"fast",
                                 {"x", "y"},
                                 {{"0", "1"}, {"0", "1"}},
                                 "u_xx + u_yy - f",
                                 "sin(200*x)*sin(3*y)",
                                 {"DD", "DD"}});
    fast.forcing =
        sampled_on(fast, {spaced(fast.axes[0], kind, 60), spaced(fast.axes[1], kind, 60)});
    const Solution s = solve(fast);
    INFO(kind << ": error " << true_error(fast, s) << ", estimate " << s.error_estimate);
    CHECK_FALSE(s.report.ok());
    // An estimate of one or more says that no digit is known.
    CHECK(std::min(1.0, true_error(fast, s)) <= s.error_estimate);
    Problem kink =
        manufactured({"kink", {"x"}, {{"0", "1"}}, "u_xx - f", "abs(x - 0.3)^3", {"DD"}});
    kink.forcing = sampled_on(kink, {spaced(kink.axes[0], kind, 300)});
    const Solution k = solve(kink);
    INFO("kink " << kind << ": error " << true_error(kink, k) << ", estimate " << k.error_estimate);
    CHECK_FALSE(k.report.ok());
    CHECK(true_error(kink, k) <= k.error_estimate);
  }
}

TEST_CASE("noisy samples", "[gp_pde]") {
  Problem p =
      manufactured({"noisy", {"x"}, {{"0", "1"}}, "u_xx - f", "sin(20*x) + cos(3*x)", {"DD"}});
  const GridSamples clean = sampled(p, 400);
  std::mt19937_64 generator(3);
  std::normal_distribution<double> normal;
  for (const double noise : {1e-14, 1e-12, 1e-6}) {
    GridSamples g = clean;
    for (double& v : g.values) v += 400 * noise * normal(generator);
    p.forcing = g;
    const Solution s = solve(p);
    const double error = true_error(p, s);
    INFO("noise " << noise << ": error " << error << ", estimate " << s.error_estimate);
    CHECK(error <= 3 * noise);
    CHECK(error <= s.error_estimate);
    CHECK(s.error_estimate <= 1000 * noise);
    CHECK(s.report.ok() == (noise < 1e-9));
  }
}

TEST_CASE("frequencies that nothing resolves", "[gp_pde]") {
  for (const char* equation : {"1e-300*u_xx + u - f", "1e-14*u_xx + u - f"}) {
    const Problem p = manufactured({"fast", {"x"}, {{"0", "1"}}, equation, "x", {"DD"}});
    const Solution s = solve(p);
    INFO(equation << ": error " << true_error(p, s) << ", estimate " << s.error_estimate);
    CHECK(true_error(p, s) <= s.error_estimate);
  }
  const Problem spike = manufactured(
      {"spike", {"x"}, {{"0", "1"}}, "u_xx - f", "x + exp(-(1e6*(x - 0.51))^2)", {"DD"}});
  const Solution s = solve(spike);
  CHECK_FALSE(s.report.ok());
  CHECK(s.error_estimate >= 1);
}

TEST_CASE("what is not resolved is said to be so", "[gp_pde]") {
  // A kink in the second derivative, a step in the forcing, and too few nodes for the frequency.
  for (const char* exact : {"abs(x - 0.1)^3", "step(x - 0.3)*(x - 0.3)^2"}) {
    const Problem p = manufactured({"kink", {"x"}, {{"-1", "1"}}, "u_xx - f", exact, {"DD"}});
    const Solution s = solve(p);
    INFO(exact << ": error " << true_error(p, s) << ", estimate " << s.error_estimate);
    CHECK_FALSE(s.report.ok());
    CHECK_FALSE(s.warnings.empty());
    CHECK(true_error(p, s) <= s.error_estimate);
  }
  for (const Case& t : {paper()[1], others()[10]}) {
    const Problem p = manufactured(t);
    Options few;
    few.nodes_per_axis.assign(t.axes.size(), 24);  // fewer than modes
    const Solution s = solve(p, few);
    INFO(t.name << ": error " << true_error(p, s) << ", residual " << s.report.residual);
    CHECK_FALSE(s.report.ok());
    CHECK(s.report.residual > 1e-6);
  }
  Problem coarse = manufactured(paper()[3]);
  coarse.forcing = sampled(coarse, 400);  // two points a wave
  CHECK_FALSE(solve(coarse).report.ok());
  Options wrong_band;
  wrong_band.bands = {{{0, 20}}};
  CHECK_FALSE(solve(manufactured(paper()[0]), wrong_band).report.ok());
}

TEST_CASE("the plain Matern prior knows no frequency", "[gp_pde]") {
  Options matern, student;
  matern.kernel = KernelType::matern;
  student.kernel = KernelType::student_t;
  const Problem high = manufactured(paper()[0]);
  CHECK_FALSE(solve(high, matern).report.ok());
  CHECK(true_error(high, solve(high, student)) <= limit("gp_pde_1d"));
  const Problem low =
      manufactured({"low", {"x"}, {{"0", "1"}}, "u_xx - f", "exp(x)*sin(3*x)", {"DD"}});
  CHECK(true_error(low, solve(low, matern)) <= limit("gp_pde_1d"));
}

TEST_CASE("a frequency beyond the first sampling is not taken for its alias", "[gp_pde]") {
  const Problem p =
      manufactured({"long", {"x"}, {{"0", "9"}}, "u_xx - f", "sin(1000*x) + cos(5.5*x)", {"DD"}});
  const Solution s = solve(p);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_1d"));
}

TEST_CASE("a long axis", "[gp_pde]") {
  const Problem p =
      manufactured({"long", {"x"}, {{"0", "50"}}, "u_xx - f", "sin(300*x) + x^2/100", {"DN"}});
  const Solution s = solve(p);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_1d"));
}

TEST_CASE("ten thousand waves", "[gp_pde]") {
  Problem p = manufactured({"fast", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(10000*x)", {"DD"}});
  Solution s = solve(p);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_1d"));
  p = manufactured({"fast and slow", {"x"}, {{"0", "9"}}, "u_xx - f", "sin(8000*x) + x^2", {"ND"}});
  s = solve(p);
  const double error = true_error(p, s);
  INFO("error " << error << ", estimate " << s.error_estimate);
  CHECK(error <= 1e-10);
  CHECK(error <= s.error_estimate);
}

TEST_CASE("a resonance is reported", "[gp_pde]") {
  // u'' + pi^2 u = 1 with u = 0 at both ends of [0, 1] has no solution; at 10 pi, with f = x and f
  // = sin(3 pi x), the solution is not unique, though a smooth one fits the data.
  const std::vector<std::pair<std::string, std::string>> cases{
      {"u_xx + pi^2*u - f", "1"},
      {"u_xx + pi^2*u - f", "sin(3*pi*x)"},
      {"u_xx + 100*pi^2*u - f", "2 + 100*pi^2*x*(x - 1)"}};
  for (const auto& [equation, forcing] : cases) {
    Problem p = manufactured({"resonance", {"x"}, {{"0", "1"}}, equation, "0*x", {"DD"}});
    p.forcing = parse_expression(forcing, {"x"});
    const Solution s = solve(p);
    INFO(equation << " with f = " << forcing << ": condition " << s.condition);
    CHECK_FALSE(s.report.ok());
    CHECK(s.error_estimate >= 1);
  }
}

TEST_CASE("a spike between the samples is not overlooked", "[gp_pde]") {
  Problem p = manufactured({"spike", {"x"}, {{"0", "1"}}, "u_xx - f", "0*x", {"DD"}});
  p.forcing = parse_expression("sin(7*x) + 1e5*exp(-((x - 0.43217)/1e-4)^2)", {"x"});
  CHECK_FALSE(solve(p).report.ok());
}

TEST_CASE("a spike of a coefficient between the nodes is not overlooked", "[gp_pde]") {
  for (const char* equation : {"u_xx - 1e6*exp(-((x - 0.3013)/1e-4)^2)*u - f",
                               "u_xx - 1e7*exp(-((x - 0.3013)/1e-4)^2)*u^3 - f"}) {
    Problem p = manufactured({"spike", {"x"}, {{"0", "1"}}, equation, "0*x", {"DD"}});
    p.forcing = parse_expression("-1", {"x"});
    const Solution s = solve(p);
    INFO(equation);
    CHECK_FALSE(s.report.ok());
    CHECK(s.error_estimate >= 1);
    CHECK_FALSE(s.warnings.empty());
  }
}

TEST_CASE("aliases of several tones", "[gp_pde]") {
  const Problem p = manufactured({"tones",
                                  {"x"},
                                  {{"0", "50"}},
                                  "-u_xx + 13*u_x + 5*u - f",
                                  "0.003*sin(45.8*x) + 2.5*cos(123.8*x) + cos(21.9*x)",
                                  {"DN"}});
  const Solution s = solve(p);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_1d"));
}

TEST_CASE("same bits for any number of threads", "[gp_pde][threads]") {
  for (const Case& t : {paper()[2], paper()[6], others()[10]}) {
    const Problem p = manufactured(t);
    const auto grid = grid_of(p, 33);
    const std::vector<int> zero(t.axes.size(), 0);
    std::vector<double> first;
    for (const int threads : {1, 2, 3, 7}) {
      Options o;
      o.threads = threads;
      const Solution s = solve(p, o);
      const auto u = s.on_grid(grid, zero);
      if (first.empty()) first = u;
      INFO(t.name << " with " << threads << " threads");
      CHECK(u == first);
    }
  }
}

TEST_CASE("a plan is reused", "[gp_pde]") {
  const Case t = paper()[6];
  const Problem p = manufactured(t);
  Solver solver(p);
  const Solution first = solver.solve(), again = solver.solve();
  const auto grid = grid_of(p, 20);
  const std::vector<int> zero{0, 0};
  CHECK(first.on_grid(grid, zero) == again.on_grid(grid, zero));
  // Linear: twice the forcing with the same sides is the solution plus that of zero sides.
  const Expression f = std::get<Expression>(p.forcing);
  const Solution twice = solver.solve(Expression(2.0) * f), none = solver.solve(Expression(0.0));
  const auto u = first.on_grid(grid, zero), v = twice.on_grid(grid, zero),
             w = none.on_grid(grid, zero);
  double worst = 0;
  for (std::size_t i = 0; i < u.size(); ++i)
    worst = std::max(worst, std::fabs(v[i] + w[i] - 2 * u[i]));
  CHECK(worst <= 1e-11);
  // Forcing outside of the plan's bands is not passed off as solved.
  CHECK_FALSE(solver.solve(parse_expression("sin(170*x)", {"x", "y"})).report.ok());
}

TEST_CASE("formulas and samples take turns in one plan", "[gp_pde]") {
  for (const int which : {0, 6})
    for (const Precision precision : {Precision::dd, Precision::double_}) {
      const Problem p = manufactured(paper()[which]);
      Options o;
      o.precision = precision;
      Solver solver(p, o);
      const Solution planned = solver.solve();
      const Solution formula = solver.solve(p.forcing);
      for (const int n : {400, 500}) {
        const Solution s = solver.solve(sampled(p, n));
        const double error = true_error(p, s);
        INFO(p.name << " " << n << ": error " << error << ", estimate " << s.error_estimate);
        CHECK(s.report.ok());
        CHECK(error <= limit("gp_pde_samples"));
        CHECK(error <= s.error_estimate);
      }
      // Noisy ones are not passed off as solved.
      GridSamples noisy = sampled(p, 400);
      std::mt19937_64 generator(4);
      std::normal_distribution<double> normal;
      for (double& v : noisy.values) v *= 1 + 1e-3 * normal(generator);
      CHECK_FALSE(solver.solve(noisy).report.ok());
      const Solution again = solver.solve(p.forcing);
      CHECK(again.report.ok());
      const auto grid = grid_of(p, 20);
      const std::vector<int> zero(p.axes.size(), 0);
      CHECK(again.on_grid(grid, zero) == formula.on_grid(grid, zero));
    }
}

TEST_CASE("derivatives of the solution", "[gp_pde]") {
  const Problem p = manufactured(others()[10]);
  const Solution s = solve(p);
  const auto grid = grid_of(p, 25);
  for (const auto& order : std::vector<std::vector<int>>{{1, 0}, {0, 1}, {1, 1}, {2, 0}, {0, 2}}) {
    Expression e = *p.exact;
    for (int k = 0; k < 2; ++k)
      for (int i = 0; i < order[k]; ++i) e = e.derivative(p.axes[k].name);
    const Program<Mp> exact(e, {"x", "y"});
    const auto u = s.on_grid(grid, order);
    Mp error = 0, size = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
      const std::vector<Mp> x{Mp(grid[0][i / 25]), Mp(grid[1][i % 25])};
      const Mp v = exact(std::span<const Mp>(x));
      error += (v - u[i]) * (v - u[i]);
      size += v * v;
    }
    INFO("orders " << order[0] << order[1] << ": error "
                   << static_cast<double>(sqrt(error / size)));
    CHECK(static_cast<double>(sqrt(error / size)) <= limit("gp_pde_derivatives"));
  }
}

TEST_CASE("bad problems and options are refused by name", "[gp_pde][bad]") {
  const auto message = [](const auto& change) {
    Problem p = manufactured(paper()[6]);
    Options o;
    change(p, o);
    try {
      Solver solver(p, o);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing thrown");
  };
  using Change = std::function<void(Problem&, Options&)>;
  const std::vector<std::pair<std::string, Change>> cases{
      {"axes.size()", [](Problem& p, Options&) { p.axes.clear(); }},
      {"sides.size()", [](Problem& p, Options&) { p.sides.pop_back(); }},
      {"lower < upper", [](Problem& p, Options&) { p.axes[0].upper = p.axes[0].lower; }},
      {"finite", [](Problem& p, Options&) { p.axes[1].upper = std::nan(""); }},
      {"conditions", [](Problem& p, Options&) { p.sides[0][1].kind = SideKind::none; }},
      {"periodic on both", [](Problem& p, Options&) { p.sides[0][1].kind = SideKind::periodic; }},
      {"not both zero",
       [](Problem& p, Options&) {
         p.sides[0][1].kind = SideKind::robin;
         p.sides[0][1].a = p.sides[0][1].b = 0;
       }},
      {"hyperbolic",
       [](Problem& p, Options&) {
         p.equation = parse_expression("u_xx - u_yy - f", symbols({"x", "y"}));
       }},
      {"of one sign",
       [](Problem& p, Options&) {
         p.equation = parse_expression("(x - 1)*u_xx + u_yy - f", symbols({"x", "y"}));
       }},
      {"condition on u",
       [](Problem& p, Options&) {
         p.equation = parse_expression("(1 + x)*u_xx + u_yy - f", symbols({"x", "y"}));
         for (auto& sides : p.sides)
           for (Side& side : sides) side.kind = SideKind::neumann;
       }},
      {"max_newton", [](Problem&, Options& o) { o.max_newton = 0; }},
      {"ill-posed",
       [](Problem& p, Options&) {
         p.equation = parse_expression("u_x + u_y - f", symbols({"x", "y"}));
         p.sides[0][1].kind = SideKind::none;
         p.sides[1][0].kind = SideKind::none;
       }},
      {"method", [](Problem&, Options& o) { o.method = Method::collocation; }},
      {"kernel", [](Problem&, Options& o) { o.kernel = KernelType::periodic; }},
      {"tolerance", [](Problem&, Options& o) { o.tolerance = -1; }},
      {"tolerance", [](Problem&, Options& o) { o.tolerance = std::nan(""); }},
      {"max_modes", [](Problem&, Options& o) { o.max_modes = 0; }},
      {"threads", [](Problem&, Options& o) { o.threads = -1; }},
      {"bands",
       [](Problem&, Options& o) {
         o.bands = {{{0, 1}}};
       }},
      {"nodes_per_axis", [](Problem&, Options& o) { o.nodes_per_axis = {10}; }},
      {"nodes_per_axis",
       [](Problem&, Options& o) {
         o.nodes_per_axis = {0, 10};
       }},
      {"memory_limit", [](Problem&, Options& o) {
         o.nodes_per_axis = {1000000, 1000000};
       }}};
  for (const auto& [expected, change] : cases) {
    const std::string text = message(change);
    INFO(text);
    CHECK(text.find(expected) != std::string::npos);
  }
  Problem p = manufactured(paper()[0]);
  GridSamples g = sampled(p, 200);
  g.values[17] = std::nan("");
  p.forcing = g;
  CHECK_THROWS_WITH(solve(p), Catch::Contains("forcing.values[17]"));
  g.values.pop_back();
  p.forcing = g;
  CHECK_THROWS_AS(solve(p), ShapeError);
  p.forcing = GridSamples{{{3, 3.1, 3.2, 3.3, 3.4}}, {1, 2, 3, 4, 5}};
  CHECK_THROWS_WITH(solve(p), Catch::Contains("from one end"));
}

TEST_CASE("what is not converged says why", "[gp_pde]") {
  for (const char* exact : {"tanh(300*(x - 0.4))", "abs(x - 1/3)^3"}) {
    const Solution s =
        solve(manufactured({"rough", {"x"}, {{"0", "1"}}, "u_xx - f", exact, {"DD"}}));
    INFO(exact);
    CHECK_FALSE(s.report.ok());
    CHECK_FALSE(s.warnings.empty());
  }
}

TEST_CASE("progress can cancel", "[gp_pde]") {
  Options o;
  int calls = 0;
  o.progress = [&](double, const char*) { return ++calls < 2; };
  CHECK_THROWS_AS(solve(manufactured(paper()[0]), o), Cancelled);
  CHECK(calls == 2);
}
