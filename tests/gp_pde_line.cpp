// One dimension with precision = "double".
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>
#include <random>

#include "detail/panel_matrix.hpp"
#include "halfulp/error.hpp"
#include "halfulp/gp_pde.hpp"
#include "pde_cases.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using namespace pde_cases;

namespace {

Options in_double() {
  Options o;
  o.precision = Precision::double_;
  return o;
}

/// The paper's in one dimension, and others.
std::vector<Case> cases() {
  std::vector<Case> all{
      {"off the grid of frequencies", {"x"}, {{"0", "1"}}, "u_xx - f", "sin(123.4567*x)", {"DD"}},
      {"layer", {"x"}, {{"0", "1"}}, "u_xx + 1000*u_x - f", "exp(-1000*x) + x^2", {"DD"}},
      {"layers at both ends", {"x"}, {{"0", "1"}}, "u_xx - 1e4*u - f", "sin(40*x)", {"DR"}},
      {"helmholtz", {"x"}, {{"-1", "2"}}, "u_xx + 2500*u - f", "exp(x)*sin(77.7*x) + x^3", {"DN"}},
      {"variable",
       {"x"},
       {{"0", "2"}},
       "(1 + x^2)*u_xx + x*u_x - u - f",
       "exp(-x)*sin(40*x) + cos(150*x)",
       {"RD"}},
      {"first order", {"x"}, {{"0", "2"}}, "u_x + 3*u - f", "sin(60*x) + x", {"D-"}},
      {"periodic", {"x"}, {{"0", "2*pi"}}, "u_xx - u - f", "exp(sin(3*x)) + cos(50*x)", {"PP"}},
      {"free constant", {"x"}, {{"0", "2"}}, "u_xx - f", "cos(33*x) + x^2", {"NN"}},
      {"free constant, periodic", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "cos(33*x) + 1", {"PP"}},
      {"far from zero", {"x"}, {{"1000", "1002"}}, "u_xx - f", "sin(90*x)", {"ND"}},
      {"four bands",
       {"x"},
       {{"0", "1"}},
       "u_xx + 10*u_x - f",
       "sin(7*x) + 0.3*cos(63*x) + 0.1*x*sin(141*x) + 0.02*cos(290*x) + x^2",
       {"DN"}}};
  for (const Case& c : paper())
    if (c.axes.size() == 1) all.push_back(c);
  return all;
}

}  // namespace

TEST_CASE("problems in one dimension in double", "[gp_pde][double]") {
  for (const Case& t : cases()) {
    const Problem p = manufactured(t);
    Solver solver(p, in_double());
    const Solution first = solver.solve(), s = solver.solve();
    const double error = true_error(p, s);
    INFO(t.name << ": error " << error << ", floor " << s.floor_estimate << ", estimate "
                << s.error_estimate << ", residual " << s.residual << ", sides "
                << s.boundary_residual << ", modes " << s.axes[0].modes);
    CHECK(s.report.status == Status::converged);
    // Its slow homogeneous solution grows by e^10 from the side of the condition on u_x.
    const double growth = t.name == "four bands" ? 10 : 1;
    CHECK(error <= growth * limit("gp_pde_1d_double"));
    CHECK(error <= 3 * s.floor_estimate);
    CHECK(error <= s.error_estimate);
    CHECK(s.residual <= 1e-14);
    CHECK(s.boundary_residual <= 1e-12);
    const Solution extended = solve(p);
    CHECK(s.floor_estimate > 1.5 * extended.floor_estimate);  // in double, that is
    const auto grid = grid_of(p, 77);
    const int zero[] = {0};
    CHECK(first.on_grid(grid, zero) == s.on_grid(grid, zero));
    CHECK(extended.on_grid(grid, zero) != s.on_grid(grid, zero));
  }
}

TEST_CASE("the floor in double is near the error", "[gp_pde][double]") {
  // On the whole, over many problems: neither below a third nor a hundred times above.
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> unit;
  double logarithms = 0;
  const int trials = 20;
  for (int i = 0; i < trials; ++i) {
    const std::string w = std::to_string(20 + 400 * unit(random)),
                      v = std::to_string(1 + 10 * unit(random));
    const char* sides[] = {"DD", "DN", "RD", "NR"};
    const Problem p = manufactured({"random",
                                    {"x"},
                                    {{"0", std::to_string(1 + 3 * unit(random))}},
                                    "u_xx - f",
                                    "sin(" + w + "*x) + cos(" + v + "*x)",
                                    {sides[i % 4]}});
    const Solution s = solve(p, in_double());
    const double error = true_error(p, s);
    INFO(w << ' ' << v << ": error " << error << ", floor " << s.floor_estimate);
    CHECK(s.report.ok());
    CHECK(error <= 3 * s.floor_estimate);
    CHECK(s.floor_estimate <= 100 * error);
    logarithms += std::log(s.floor_estimate / error);
  }
  const double mean = std::exp(logarithms / trials);
  INFO("floor over error, geometric mean " << mean);
  CHECK(mean <= 8);
}

TEST_CASE("other forcings with one plan in double", "[gp_pde][double]") {
  const Problem p = manufactured(paper()[0]);
  Solver solver(p, in_double());
  const Solution first = solver.solve();
  const auto solved = [&](const char* text) {
    Problem q = p;
    q.exact = parse_expression(text, {"x"});
    q.forcing = q.exact->derivative("x").derivative("x");
    const Solution s = solver.solve(q.forcing);
    return std::pair(s, true_error(q, s));
  };
  // The sides' data stay, zero at both ends: as do these.
  for (const char* text : {"sin(100*x)", "0.01*sin(100*x)", "sin(x) + 3*sin(99*x)"}) {
    const auto [s, error] = solved(text);
    INFO(text << ": error " << error << ", floor " << s.floor_estimate);
    CHECK(s.report.ok());
    CHECK(error <= 3 * s.floor_estimate);
    CHECK(s.axes[0].modes == first.axes[0].modes);
  }
  // Beside the band of these few modes, within that of the plan in double-double.
  {
    const auto [s, error] = solved("sin(107*x)");
    INFO("107: error " << error << ", estimate " << s.error_estimate);
    CHECK(s.report.ok());
    CHECK(error <= 1e-15);
    CHECK(error <= s.error_estimate);
    CHECK(s.axes[0].modes > first.axes[0].modes);
  }
  {
    const auto [s, error] = solved("sin(170*x)");
    CHECK_FALSE(s.report.ok());
    CHECK(std::min(1.0, error) <= s.error_estimate);
  }
  CHECK_FALSE(solver
                  .solve(parse_expression("1/x", {"x"}) * Expression(0.0) +
                         parse_expression("log(x - 3)", {"x"}))
                  .report.ok());
  const auto grid = grid_of(p, 40);
  const int zero[] = {0};
  CHECK(solver.solve().on_grid(grid, zero) == first.on_grid(grid, zero));
  // Only the first solve takes a spectrum.
  CHECK_FALSE(first.axes[0].spectrum.empty());
  CHECK(solver.solve().axes[0].spectrum.empty());
}

TEST_CASE("what double does not reach is solved in double-double", "[gp_pde][double]") {
  const Problem p =
      manufactured({"fast", {"x"}, {{"0", "2*pi"}}, "u_xx - f", "sin(10000*x)", {"DD"}});
  Solver solver(p, in_double());
  const Solution first = solver.solve(), s = solver.solve();
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_1d"));
  const auto grid = grid_of(p, 40);
  const int zero[] = {0};
  CHECK(first.on_grid(grid, zero) == s.on_grid(grid, zero));
  // And so is what is not solved at all: it does not pass for solved.
  const Problem resonance =
      manufactured({"resonance", {"x"}, {{"0", "1"}}, "u_xx + pi^2*u - f", "0*x + 1", {"DD"}});
  CHECK_FALSE(solve(resonance, in_double()).report.ok());
  const Problem kink =
      manufactured({"kink", {"x"}, {{"-1", "1"}}, "u_xx - f", "abs(x - 0.1)^3", {"DD"}});
  const Solution k = solve(kink, in_double());
  CHECK_FALSE(k.report.ok());
  CHECK(true_error(kink, k) <= k.error_estimate);
}

TEST_CASE("derivatives in double", "[gp_pde][double]") {
  const Problem p = manufactured(paper()[4]);
  const Solution s = solve(p, in_double());
  const auto grid = grid_of(p, 50);
  Expression e = *p.exact;
  for (int order = 0; order <= 2; ++order, e = e.derivative("x")) {
    const Program<Mp> exact(e, {"x"});
    const int orders[] = {order};
    const auto u = s.on_grid(grid, orders);
    Mp error = 0, size = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
      const std::vector<Mp> x{Mp(grid[0][i])};
      const Mp v = exact(std::span<const Mp>(x));
      error += (v - u[i]) * (v - u[i]);
      size += v * v;
    }
    INFO("order " << order << ": error " << static_cast<double>(sqrt(error / size)));
    CHECK(static_cast<double>(sqrt(error / size)) <= limit("gp_pde_1d_double"));
  }
}

TEST_CASE("same bits in double for any threads, with and without a cache", "[gp_pde][double]") {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / "halfulp-test-gp-pde-line";
  std::filesystem::remove_all(folder);
  const Problem p = manufactured(paper()[2]);
  const auto grid = grid_of(p, 33);
  const int zero[] = {0};
  std::vector<double> bits;
  for (const int threads : {1, 2, 3, 7})
    for (const bool cached : {false, true}) {
      Options o = in_double();
      o.threads = threads;
      if (cached) o.cache = folder;
      const Solution s = solve(p, o);
      if (bits.empty()) bits = s.on_grid(grid, zero);
      INFO(threads << " threads, " << (cached ? "a cache" : "no cache"));
      CHECK(s.on_grid(grid, zero) == bits);
      CHECK((s.cache_hits > 0) == (cached && threads > 1));
    }
  std::filesystem::remove_all(folder);
}

TEST_CASE("products with a panel matrix", "[gp_pde][double]") {
  std::mt19937_64 random(11);
  std::normal_distribution<double> normal;
  for (const auto& [m, n] : {std::pair{1, 1}, {3, 8}, {32, 7}, {33, 64}, {100, 250}, {0, 3}}) {
    detail::DdMatrix a(m, n);
    std::vector<double> x(n);
    for (int j = 0; j < n; ++j) {
      x[j] = normal(random) * std::pow(10.0, static_cast<int>(random() % 7) - 3);
      for (int i = 0; i < m; ++i) a.set(i, j, dd(normal(random), 1e-18 * normal(random)));
    }
    const detail::PanelMatrix panel(a);
    REQUIRE(panel.padded() >= m);
    std::vector<double> y(panel.padded(), std::nan(""));
    panel.multiply(x.data(), y.data());
    // Sums of eight terms, and these added with what each addition loses: a unit of every partial
    // sum, of the products where they are rounded themselves, and of the result.
    constexpr double unit = std::numeric_limits<double>::epsilon() / 2;
    for (int i = 0; i < m; ++i) {
      Mp sum = 0;
      double part = 0, sizes = std::fabs(y[i]);
      for (int j = 0; j < n; ++j) {
        const double term = a(i, j).hi * x[j];
        sum += Mp(a(i, j).hi) * Mp(x[j]);
        part = j % 8 == 0 ? term : part + term;
        sizes += std::fabs(part) + std::fabs(term);
      }
      const auto error = static_cast<double>(abs(Mp(sum - y[i])));
      INFO(m << " x " << n << ", " << i << ": " << error << " of " << unit * sizes);
      CHECK(error <= 1.001 * unit * sizes);
    }
  }
}

TEST_CASE("sines and cosines of many angles", "[gp_pde][double]") {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> unit(-1, 1);
  std::vector<double> x{0.0,  -0.0, 1e-300, -1e-9, 8e5, -8e5, 8.1e5, 1e22, 0x1.921fb54442d18p+0,
                        355., 1e5};
  while (x.size() < 30011) {
    const double size = std::pow(10.0, 7.5 * (unit(random) + 1) - 9);
    // every third near a zero of sine or cosine
    x.push_back(x.size() % 3 == 0 ? std::nearbyint(unit(random) * 5e5) * 1.5707963267948966
                                  : unit(random) * size);
  }
  std::vector<double> s(x.size()), c = x;
  halfulp::detail::sine(std::ssize(x), x.data(), s.data());
  halfulp::detail::cosine(std::ssize(c), c.data(), c.data());  // in place
  CHECK((s[0] == 0 && !std::signbit(s[0]) && std::signbit(s[1])));
  double worst = 0, at = 0;
  for (std::size_t i = 2; i < x.size(); ++i)
    for (const bool cosine : {false, true}) {
      // Angles need no more digits than 50 + those of the largest.
      const Mp exact = cosine ? cos(Mp(x[i])) : sin(Mp(x[i]));
      const auto rounded = static_cast<double>(exact);
      const double ulp = std::ldexp(1.0, std::max(-1074, std::ilogb(rounded) - 52));
      const double error = std::fabs(static_cast<double>((exact - (cosine ? c : s)[i]) / ulp));
      if (error > worst) worst = error, at = x[i];
    }
  INFO(worst << " ulp at " << at);
  CHECK(worst <= limit("sine_of_many"));
  // The same alone and among others, wherever it stands.
  for (std::size_t i = 0; i < 2000; ++i) {
    double alone = 0;
    halfulp::detail::sine(1, &x[i], &alone);
    CHECK(alone == s[i]);
  }
  const double inf = std::numeric_limits<double>::infinity();
  const double bad[] = {inf, -inf, std::nan(""), 1.0};
  double out[4];
  halfulp::detail::sine(4, bad, out);
  CHECK(
      (std::isnan(out[0]) && std::isnan(out[1]) && std::isnan(out[2]) && out[3] == std::sin(1.0)));
}
