#include "halfulp/pde_system.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "halfulp/error.hpp"
#include "pde_cases.hpp"

using namespace halfulp;
using namespace halfulp::gp_pde;
using pde_cases::limit;
using pde_cases::Mp;

namespace {

struct FieldCase {
  std::string name;
  std::string equation;  // may end in "- f", f its own forcing, made from the exact solutions
  std::string exact;
  std::vector<std::string> sides;  // an axis each: letters as in pde_cases
};

struct SystemCase {
  std::string name;
  std::vector<std::string> axes;
  std::vector<std::array<std::string, 2>> ends;
  std::vector<FieldCase> fields;
};

SystemProblem manufactured(const SystemCase& t) {
  SystemProblem p;
  p.name = t.name;
  for (std::size_t k = 0; k < t.axes.size(); ++k)
    p.axes.push_back({t.axes[k], parse_expression(t.ends[k][0], {}).constant(),
                      parse_expression(t.ends[k][1], {}).constant()});
  std::vector<std::string> symbols = t.axes;
  symbols.push_back("f");
  std::map<std::string, Expression> values{{"f", Expression()}};
  for (const FieldCase& field : t.fields) {
    const Expression u = parse_expression(field.exact, t.axes);
    const auto add = [&](const std::string& name, const Expression& value) {
      symbols.push_back(name);
      values[name] = value;
    };
    add(field.name, u);
    for (std::size_t k = 0; k < t.axes.size(); ++k) {
      add(field.name + "_" + t.axes[k], u.derivative(t.axes[k]));
      for (std::size_t j = k; j < t.axes.size(); ++j)
        add(field.name + "_" + t.axes[k] + t.axes[j],
            u.derivative(t.axes[k]).derivative(t.axes[j]));
    }
  }
  for (const FieldCase& field : t.fields) {
    const std::string forcing = "f_" + field.name;
    const Expression equation = parse_expression(field.equation, symbols);
    const Expression u = values[field.name];
    p.forcing[forcing] = equation.substitute(values);
    p.fields.push_back(
        {field.name, equation.substitute("f", Expression::symbol(forcing)), u, std::nullopt});
    for (std::size_t k = 0; k < t.axes.size(); ++k)
      for (int s = 0; s < 2; ++s) {
        Side side;
        switch (field.sides[k][s]) {
          case 'D':
            side.kind = SideKind::dirichlet;
            break;
          case 'N':
            side.kind = SideKind::neumann;
            side.a = 0;
            side.b = 1;
            break;
          case 'R':
            side.kind = SideKind::robin;
            side.a = 2;
            side.b = 1;
            break;
          case 'P':
            side.kind = SideKind::periodic;
            break;
          default:
            continue;
        }
        side.g = Expression(side.a) * u +
                 Expression(s == 0 ? -side.b : side.b) * u.derivative(t.axes[k]);
        p.sides.push_back({field.name, t.axes[k] + (s == 0 ? "-" : "+"), side});
      }
  }
  return p;
}

// Largest relative L2 error of a field on n points an axis, the exact solutions in 50 digits.
double true_error(const SystemProblem& p, const SystemSolution& s, int n = 60) {
  Problem one;
  one.axes = p.axes;
  double worst = 0;
  for (std::size_t i = 0; i < p.fields.size(); ++i) {
    one.exact = p.fields[i].exact;
    worst = std::max(worst, pde_cases::true_error(one, s.fields[i], n));
  }
  return worst;
}

void check_solved(const SystemCase& t, const std::string& budget) {
  const SystemProblem p = manufactured(t);
  const SystemSolution s = solve(p);
  const double error = true_error(p, s);
  INFO(t.name << ": error " << error << ", estimate " << s.error_estimate << ", residual "
              << s.residual << ", sides " << s.boundary_residual << ", condition " << s.condition
              << ", steps " << s.newton_steps << ", modes " << s.fields[0].axes[0].modes);
  for (const auto& [phase, seconds] : s.timings) UNSCOPED_INFO(phase << ' ' << seconds);
  CHECK(s.report.ok());
  CHECK(error <= limit(budget));
  CHECK(error <= s.error_estimate);
}

SystemCase oscillator(const std::string& w, const std::string& sides_u = "D-",
                      const std::string& sides_v = "D-") {
  return {"oscillator " + w,
          {"t"},
          {{"0", "3"}},
          {{"u", "u_t - v", "cos(" + w + "*t) + sin(" + w + "*t)/2", {sides_u}},
           {"v",
            "v_t + " + w + "^2*u",
            "-" + w + "*sin(" + w + "*t) + " + w + "*cos(" + w + "*t)/2",
            {sides_v}}}};
}

}  // namespace

TEST_CASE("linear systems in one dimension", "[pde_system]") {
  const std::vector<SystemCase> cases{
      oscillator("5"),
      oscillator("47"),
      oscillator("300"),
      oscillator("47", "DD", "--"),
      oscillator("47", "D-", "-D"),
      {"forced, damped",
       {"t"},
       {{"0", "5"}},
       {{"u", "u_t - v - f", "exp(-t)*sin(40*t)", {"D-"}},
        {"v", "v_t + 2*v + 900*u - f", "cos(33*t) + t", {"D-"}}}},
      {"coupled Poisson",
       {"x"},
       {{"0", "2*pi"}},
       {{"u", "u_xx + v - f", "sin(100*x)", {"DD"}},
        {"v", "v_xx - u - f", "sin(6*x)*cos(50*x)", {"DD"}}}},
      {"beam",
       {"x"},
       {{"0", "1"}},
       {{"w", "w_xx - m", "sin(20*x)*exp(x)", {"DD"}},
        {"m", "m_xx - f", "(1 - 400)*sin(20*x)*exp(x) + 40*cos(20*x)*exp(x)", {"DD"}}}},
      {"four fields of first order",
       {"x"},
       {{"0", "2"}},
       {{"a", "a_x - b - f", "sin(30*x)", {"D-"}},
        {"b", "b_x - c - f", "cos(20*x)", {"-D"}},
        {"c", "c_x - d - f", "exp(-x)", {"D-"}},
        {"d", "d_x + a - f", "x^2 + sin(9*x)", {"-D"}}}},
      {"reaction-diffusion, sides mixed",
       {"x"},
       {{"0", "1"}},
       {{"u", "u_xx - 3*u + 2*v - f", "cos(25*x) + x", {"NR"}},
        {"v", "0.01*v_xx - v + u - f", "exp(-x)*sin(40*x)", {"RD"}}}},
      {"periodic",
       {"x"},
       {{"0", "2*pi"}},
       {{"u", "u_xx - u + v - f", "exp(sin(3*x))", {"PP"}},
        {"v", "v_xx - 2*v - u_x - f", "cos(50*x)", {"PP"}}}},
      {"one periodic",
       {"x"},
       {{"0", "2*pi"}},
       {{"u", "u_xx - u + v - f", "exp(sin(3*x))", {"PP"}},
        {"v", "v_xx - 2*v + x*u - f", "x*cos(20*x)", {"DN"}}}},
      {"variable coefficients",
       {"x"},
       {{"0", "2"}},
       {{"u", "(1 + x^2)*u_xx + x*v_x - f", "sin(40*x)", {"DD"}},
        {"v", "v_xx - exp(x)*u - v - f", "cos(30*x)*x", {"DN"}}}},
      {"an algebraic equation",
       {"x"},
       {{"0", "1"}},
       {{"u", "u_xx + q - f", "sin(30*x)", {"DD"}}, {"q", "q - u_x", "30*cos(30*x)", {"--"}}}}};
  for (const SystemCase& t : cases) check_solved(t, "gp_pde_system_1d");
}

TEST_CASE("a clamped beam has its conditions on one field", "[pde_system]") {
  SystemProblem p = manufactured(
      {"clamped",
       {"x"},
       {{"0", "1"}},
       {{"w", "w_xx - m", "sin(20*x)*exp(x)", {"DD"}},
        {"m", "m_xx - f", "(1 - 400)*sin(20*x)*exp(x) + 40*cos(20*x)*exp(x)", {"--"}}}});
  for (int s = 0; s < 2; ++s) {
    Side slope{SideKind::neumann, 0, 1, {}};
    slope.g = Expression(s == 0 ? -1.0 : 1.0) * p.fields[0].exact->derivative("x");
    p.sides.push_back({"w", s == 0 ? "x-" : "x+", slope});
  }
  const SystemSolution s = solve(p);
  CHECK(s.report.ok());
  CHECK(true_error(p, s) <= limit("gp_pde_system_1d"));
}

TEST_CASE("singular systems are not trusted", "[pde_system]") {
  // w = pi: sin(pi x) solves the homogeneous problem, in u and v.
  const std::vector<SystemCase> cases{
      {"resonance of first order",
       {"x"},
       {{"0", "1"}},
       {{"u", "u_x - v - f", "x^2*(1 - x)", {"DD"}},
        {"v", "v_x + pi^2*u - f", "cos(3*x)", {"--"}}}},
      {"resonance at 40 pi",
       {"x"},
       {{"0", "1"}},
       {{"u", "u_x - v - f", "x^2*(1 - x)", {"DD"}},
        {"v", "v_x + (40*pi)^2*u - f", "cos(3*x)", {"--"}}}},
      {"coupled resonance",  // the sum of both has the symbol of u_xx + pi^2 u
       {"x"},
       {{"0", "1"}},
       {{"u", "u_xx + 5*u + (pi^2 - 5)*v - f", "exp(x)", {"DD"}},
        {"v", "v_xx + 5*v + (pi^2 - 5)*u - f", "sin(2*x)", {"DD"}}}},
      {"a free constant",
       {"x"},
       {{"0", "1"}},
       {{"u", "u_xx + v_x - f", "exp(x)", {"DD"}}, {"v", "v_xx - u - f", "sin(2*x)", {"NN"}}}}};
  for (const SystemCase& t : cases) {
    const SystemSolution s = solve(manufactured(t));
    INFO(t.name << ": estimate " << s.error_estimate << ", condition " << s.condition);
    CHECK_FALSE(s.report.ok());
    CHECK(s.error_estimate >= 1);
  }
}

TEST_CASE("systems that are refused", "[pde_system]") {
  const auto refused = [](const SystemCase& t, const std::string& text) {
    INFO(t.name);
    CHECK_THROWS_WITH(SystemSolver(manufactured(t)), Catch::Contains(text));
  };
  refused({"too few",
           {"x"},
           {{"0", "1"}},
           {{"u", "u_x - v", "x", {"D-"}}, {"v", "v_x + u", "x", {"--"}}}},
          "1 condition, must be as many in all as the order of the system, which is 2");
  refused({"too many",
           {"x"},
           {{"0", "1"}},
           {{"u", "u_x - v", "x", {"DD"}}, {"v", "v_x + u", "x", {"D-"}}}},
          "3 conditions");
  refused({"dependent",
           {"x"},
           {{"0", "1"}},
           {{"u", "u_x + v_x", "x", {"D-"}}, {"v", "2*v_x + 2*u_x", "x", {"D-"}}}},
          "determinant of the system's symbol vanishes");
  refused({"unused field",
           {"x"},
           {{"0", "1"}},
           {{"u", "u_x", "x", {"D-"}}, {"v", "u_xx", "x", {"D-"}}}},
          "problem.fields.v = in no equation");
  SystemProblem p = manufactured(oscillator("5"));
  p.sides[0].field = "w";
  CHECK_THROWS_WITH(SystemSolver(p), Catch::Contains("w, must be the name of a field"));
  p = manufactured(oscillator("5"));
  p.sides[0].side = "x-";
  CHECK_THROWS_AS(SystemSolver(p), DomainError);
  p = manufactured(oscillator("5"));
  p.fields[1].name = "u_t";
  CHECK_THROWS_AS(SystemSolver(p), DomainError);
  p = manufactured(oscillator("5"));
  p.fields[1].equation = parse_expression("v_t + q", {"v_t", "q"});
  CHECK_THROWS_WITH(SystemSolver(p), Catch::Contains("problem.fields.v.equation"));
}
