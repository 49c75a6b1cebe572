#include "halfulp/gp_hm.hpp"

#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <random>

#include "detail/toeplitz.hpp"
#include "halfulp/error.hpp"
#include "halfulp/pde_file.hpp"
#include "halfulp/pde_output.hpp"

using namespace halfulp;
using gp_pde::HmKernel;
using gp_pde::HmOptions;
using gp_pde::SideKind;
using Vector = std::vector<double>;
using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<80>,
                                         boost::multiprecision::et_off>;
using Matrix = std::vector<std::vector<Mp>>;

namespace {

gp_pde::Problem problem(const std::string& equation, const std::string& forcing, int dimension) {
  gp_pde::Problem p;
  p.axes = {{"x", 0.0, 1.0}};
  std::vector<std::string> names{"x"};
  if (dimension == 2) {
    p.axes.push_back({"y", -0.5, 1.5});
    names.push_back("y");
  }
  std::vector<std::string> symbols = names;
  for (const char* s : {"u", "u_x", "u_y", "u_xx", "u_yy", "u_xy", "u_xxy", "u_xxx", "v", "f"})
    symbols.emplace_back(s);
  p.equation = parse_expression(equation, symbols);
  p.forcing = parse_expression(forcing, names);
  const gp_pde::Side dirichlet{SideKind::dirichlet, 1, 0, parse_expression("0.3", {})};
  const gp_pde::Side robin{SideKind::robin, 0.7, 0.4, parse_expression("0.2 + 0*x", {"x"})};
  p.sides.push_back({dirichlet, robin});
  if (dimension == 2) {
    p.sides[0][0].g = parse_expression("cos(y)", {"y"});
    p.sides.push_back({robin, gp_pde::Side{}});
  }
  return p;
}

const char* const line = "u_xx + (1 + x)*u_x + u*(u^2 - 1) - f";
const char* const plane = "u_xx + 0.5*u_yy + 0.3*u_xy + u_x*u - u_y + 0.1*u_xxy*u + u^3 - f";

HmOptions small(HmKernel kernel, int dimension) {
  HmOptions o;
  o.kernel = kernel;
  o.components = 3;
  o.frequency_range = 3;
  o.points = dimension == 1 ? std::vector<std::ptrdiff_t>{9} : std::vector<std::ptrdiff_t>{6, 5};
  o.jitter = 1e-2;
  return o;
}

/// Somewhere that is no special place.
Vector some_parameters(const gp_pde::HmObjective& objective) {
  Vector p = objective.start();
  for (std::size_t i = 0; i < p.size(); ++i) p[i] += 0.3 * std::sin(1.0 + 7.0 * double(i));
  return p;
}

// ---- an independent objective: dense Kronecker products in 80 digits, derivatives of the kernel
// by differences ----

Mp kernel_value(HmKernel kernel, const double* p, int q, const Mp& d) {
  const Mp pi = boost::math::constants::pi<Mp>();
  Mp sum = 0;
  const Mp r = abs(d);
  for (int i = 0; i < q; ++i) {
    const Mp w = exp(Mp(p[i])), rho = exp(Mp(p[q + i])), mu = p[2 * q + i];
    Mp g;
    if (kernel == HmKernel::gaussian || kernel == HmKernel::se) {
      g = exp(-rho * r * r);
    } else {
      const Mp a = sqrt(Mp(5)) * rho * r;
      g = (1 + a + a * a / 3) * exp(-a);
    }
    sum += w * g * cos(2 * pi * mu * r);
  }
  return sum;
}

Mp kernel_derivative(HmKernel kernel, const double* p, int q, const Mp& d, int order) {
  const auto k = [&](const Mp& at) { return kernel_value(kernel, p, q, at); };
  const Mp h("1e-20");
  if (order == 0) return k(d);
  if (order == 1) return (k(d + h) - k(d - h)) / (2 * h);
  return (k(d + h) - 2 * k(d) + k(d - h)) / (h * h);
}

Matrix kernel_matrix(HmKernel kernel, const double* p, int q, const Vector& x, int order,
                     double jitter) {
  Matrix m(x.size(), std::vector<Mp>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t j = 0; j < x.size(); ++j) {
      m[i][j] = kernel_derivative(kernel, p, q, Mp(x[i]) - Mp(x[j]), order);
      if (i == j && order == 0) m[i][j] += jitter;
    }
  return m;
}

Matrix kronecker(const Matrix& a, const Matrix& b) {
  const std::size_t n = a.size(), m = b.size();
  Matrix k(n * m, std::vector<Mp>(n * m));
  for (std::size_t i = 0; i < n * m; ++i)
    for (std::size_t j = 0; j < n * m; ++j) k[i][j] = a[i / m][j / m] * b[i % m][j % m];
  return k;
}

/// Gaussian elimination with pivoting: x = m^-1 b, and log |det m|.
std::vector<Mp> eliminate(Matrix m, std::vector<Mp> b, Mp& log_determinant) {
  const std::size_t n = b.size();
  log_determinant = 0;
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k + 1; i < n; ++i)
      if (abs(m[i][k]) > abs(m[pivot][k])) pivot = i;
    std::swap(m[k], m[pivot]);
    std::swap(b[k], b[pivot]);
    log_determinant += log(abs(m[k][k]));
    for (std::size_t i = k + 1; i < n; ++i) {
      const Mp f = m[i][k] / m[k][k];
      for (std::size_t j = k; j < n; ++j) m[i][j] -= f * m[k][j];
      b[i] -= f * b[k];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    for (std::size_t j = k + 1; j < n; ++j) b[k] -= m[k][j] * b[j];
    b[k] /= m[k][k];
  }
  return b;
}

Mp reference_objective(const gp_pde::Problem& p, const HmOptions& o,
                       const gp_pde::HmObjective& objective, const Vector& parameters) {
  const auto& nodes = objective.nodes();
  const std::size_t d = nodes.size();
  const int q =
      o.kernel == HmKernel::student_t || o.kernel == HmKernel::gaussian ? o.components : 1;
  std::size_t n = 1;
  for (const auto& x : nodes) n *= x.size();
  std::vector<Mp> u(parameters.begin(), parameters.begin() + std::ptrdiff_t(n));
  const Mp log_tau1 = parameters[n], log_tau2 = parameters[n + 1];
  const auto matrix = [&](const std::vector<int>& orders) {
    Matrix all{{Mp(1)}};
    for (std::size_t k = 0; k < d; ++k)
      all = kronecker(all, kernel_matrix(o.kernel, &parameters[n + 2 + 3 * q * k], q, nodes[k],
                                         orders[k], o.jitter));
    return all;
  };
  Mp log_determinant;
  const std::vector<Mp> alpha = eliminate(matrix(std::vector<int>(d, 0)), u, log_determinant);
  const auto derivative = [&](const std::vector<int>& orders) {
    const Matrix m = matrix(orders);
    std::vector<Mp> v(n);
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) v[i] += m[i][j] * alpha[j];
    return v;
  };
  std::map<std::string, std::vector<Mp>> fields{{"u", u}};
  std::vector<std::string> inputs;
  for (const auto& axis : p.axes) inputs.push_back(axis.name);
  inputs.push_back("f");
  for (const std::string& symbol : p.equation.symbols()) {
    if (symbol[0] != 'u') continue;
    inputs.push_back(symbol);
    if (symbol == "u") continue;
    std::vector<int> orders(d, 0);
    for (const char c : symbol.substr(2)) ++orders[c == 'x' ? 0 : 1];
    fields[symbol] = derivative(orders);
  }
  // F in double is enough for the comparison; everything ill-conditioned was done in 80 digits.
  const Program<double> equation(p.equation, inputs);
  const Program<double> forcing(
      std::get<Expression>(p.forcing),
      d == 1 ? std::vector<std::string>{"x"} : std::vector<std::string>{"x", "y"});
  Mp loss = log_determinant / 2, gap = 0, boundary = 0;
  std::size_t boundary_values = 0;
  for (std::size_t i = 0; i < n; ++i) {
    loss += u[i] * alpha[i] / 2;
    Vector at;
    if (d == 1)
      at = {nodes[0][i]};
    else
      at = {nodes[0][i / nodes[1].size()], nodes[1][i % nodes[1].size()]};
    Vector in = at;
    in.push_back(forcing(std::span<const double>(at)));
    for (std::size_t k = d + 1; k < inputs.size(); ++k)
      in.push_back(fields[inputs[k]][i].convert_to<double>());
    const Mp f = equation(std::span<const double>(in));
    gap += f * f;
  }
  for (std::size_t k = 0; k < d; ++k)
    for (int s = 0; s < 2; ++s) {
      const gp_pde::Side& side = p.sides[k][s];
      if (side.kind == SideKind::none) continue;
      std::vector<int> orders(d, 0);
      orders[k] = 1;
      const std::vector<Mp> slope = derivative(orders);
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t m = d == 2 ? nodes[1].size() : 1;
        const std::size_t index = k == 0 ? i / m : i % m;
        if (index != (s == 0 ? 0 : nodes[k].size() - 1)) continue;
        const double other = d == 1 ? 0 : nodes[1 - k][k == 0 ? i % m : i / m];
        const Program<double> g(side.g, {k == 0 ? "y" : "x"});
        const Mp r =
            side.kind == SideKind::dirichlet
                ? u[i] - g({&other, 1})
                : side.a * u[i] + side.b * (s == 0 ? -slope[i] : slope[i]) - g({&other, 1});
        boundary += r * r;
        ++boundary_values;
      }
    }
  loss += exp(log_tau2) * gap / 2 - Mp(double(n)) * log_tau2 / 2;
  loss += o.boundary_weight *
          (exp(log_tau1) * boundary / 2 - Mp(double(boundary_values)) * log_tau1 / 2);
  return loss;
}

std::vector<HmKernel> all_kernels() {
  return {HmKernel::student_t, HmKernel::gaussian, HmKernel::matern, HmKernel::se};
}

/// u'' = f with u = sin(20 x) on [0, 1].
gp_pde::Problem wave() {
  gp_pde::Problem p = problem("u_xx - f", "-400*sin(20*x)", 1);
  p.exact = parse_expression("sin(20*x)", {"x"});
  for (gp_pde::Side& side : p.sides[0]) side = {SideKind::dirichlet, 1, 0, *p.exact};
  return p;
}

HmOptions wave_options() {
  HmOptions o;
  o.components = 6;
  o.frequency_range = 5;
  o.points = {50};
  o.iterations = 15000;
  o.final_learning_rate = 1e-4;
  return o;
}

double relative_error(const gp_pde::HmSolution& s, const Expression& exact) {
  Vector x;
  for (int i = 0; i <= 200; ++i) x.push_back(i / 200.0);
  const std::vector<Vector> grid{x};
  const Vector u = s.on_grid(grid, std::vector<int>{0});
  const Program<double> program(exact, {"x"});
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double e = program({&x[i], 1});
    error += (u[i] - e) * (u[i] - e);
    scale += e * e;
  }
  return std::sqrt(error / scale);
}

}  // namespace

TEST_CASE("Toeplitz matrices: factor, solves, products, sums over diagonals", "[gp_hm]") {
  namespace la = halfulp::detail;
  std::mt19937_64 random(3);
  std::normal_distribution<double> normal;
  for (const std::ptrdiff_t n : {1, 2, 5, 40}) {
    CAPTURE(n);
    const auto dense = [&](const Vector& t, bool odd, std::ptrdiff_t i, std::ptrdiff_t j) {
      return i >= j ? (odd && i == j ? 0 : t[i - j]) : odd ? -t[j - i] : t[j - i];
    };
    Vector t(n);
    for (std::ptrdiff_t l = 0; l < n; ++l)
      t[l] = std::cos(0.7 * double(l)) * std::exp(-0.02 * double(l * l)) + (l == 0 ? 1e-4 : 0);
    la::ToeplitzCholesky factor;
    REQUIRE(factor.factor(t));
    Matrix m(n, std::vector<Mp>(n));
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (std::ptrdiff_t j = 0; j < n; ++j) m[i][j] = dense(t, false, i, j);
    Mp log_determinant;
    Vector x(n * 3), y(n * 3);
    for (double& v : x) v = normal(random);
    std::vector<Mp> b(n);
    for (std::ptrdiff_t i = 0; i < n; ++i) b[i] = x[i * 3 + 1];
    const std::vector<Mp> solved = eliminate(m, b, log_determinant);
    CHECK(factor.log_determinant() == Approx(log_determinant.convert_to<double>()).epsilon(1e-9));
    Vector three = x, one(n), right(3 * n);
    factor.solve_left(three.data(), 3, 2);
    for (std::ptrdiff_t i = 0; i < n; ++i)
      for (int c = 0; c < 3; ++c) right[c * n + i] = x[i * 3 + c];
    factor.solve_right(right.data(), 3, 1);
    for (std::ptrdiff_t i = 0; i < n; ++i) one[i] = x[i * 3 + 1];
    factor.solve_left(one.data(), 1, 1);
    double largest = 0;
    for (const Mp& v : solved) largest = std::max(largest, std::fabs(v.convert_to<double>()));
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      const double expected = solved[i].convert_to<double>();
      // The condition number is below 3e5.
      CHECK(std::fabs(three[i * 3 + 1] - expected) <= 1e-10 * largest);
      CHECK(std::fabs(right[n + i] - expected) <= 1e-10 * largest);
      CHECK(std::fabs(one[i] - expected) <= 1e-10 * largest);
    }
    const Vector sums = factor.inverse_diagonal_sums();
    Vector reference(n);
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      std::vector<Mp> e(n);
      e[j] = 1;
      const std::vector<Mp> column = eliminate(m, e, log_determinant);
      for (std::ptrdiff_t i = j; i < n; ++i) reference[i - j] += column[i].convert_to<double>();
    }
    for (std::ptrdiff_t l = 0; l < n; ++l)
      CHECK(std::fabs(sums[l] - reference[l]) <= 1e-9 * std::fabs(reference[0]));

    for (const bool odd : {false, true})
      for (const bool transpose : {false, true}) {
        const la::Toeplitz toeplitz(t, odd);
        for (const std::ptrdiff_t columns : {1, 3}) {
          std::fill(y.begin(), y.end(), 1.0);
          toeplitz.multiply_left(transpose, x.data(), columns, 2.0, y.data(), 2);
          for (std::ptrdiff_t i = 0; i < n; ++i)
            for (std::ptrdiff_t c = 0; c < columns; ++c) {
              double expected = 2;
              for (std::ptrdiff_t j = 0; j < n; ++j)
                expected +=
                    (transpose ? dense(t, odd, j, i) : dense(t, odd, i, j)) * x[j * columns + c];
              CHECK(y[i * columns + c] == Approx(expected).epsilon(1e-12).margin(1e-12));
            }
        }
        toeplitz.multiply_right(transpose, x.data(), 3, 0.0, y.data(), 1);
        for (std::ptrdiff_t r = 0; r < 3; ++r)
          for (std::ptrdiff_t j = 0; j < n; ++j) {
            double expected = 0;
            for (std::ptrdiff_t i = 0; i < n; ++i)
              expected += x[r * n + i] * (transpose ? dense(t, odd, j, i) : dense(t, odd, i, j));
            CHECK(y[r * n + j] == Approx(expected).epsilon(1e-12).margin(1e-12));
          }
        for (const std::ptrdiff_t columns : {1, 3}) {
          Vector out(n, 0.5), other(x.rbegin(), x.rend());
          la::add_diagonal_sums(transpose, odd, n, columns, x.data(), other.data(), 2.0, out, 1);
          Vector expected(n, 0.5);
          for (std::ptrdiff_t i = 0; i < n; ++i)
            for (std::ptrdiff_t j = 0; j < n; ++j) {
              double product = 0;
              for (std::ptrdiff_t c = 0; c < columns; ++c)
                product += transpose ? x[c * n + i] * other[c * n + j]
                                     : x[i * columns + c] * other[j * columns + c];
              if (i != j || !odd) expected[std::abs(i - j)] += (odd && i < j ? -2 : 2) * product;
            }
          for (std::ptrdiff_t l = 0; l < n; ++l)
            CHECK(out[l] == Approx(expected[l]).epsilon(1e-11).margin(1e-11));
        }
      }
  }
  la::ToeplitzCholesky factor;
  CHECK_FALSE(factor.factor(Vector{1, 2}));
  CHECK_FALSE(factor.factor(Vector{1, 1}));
  CHECK_FALSE(factor.factor(Vector{-1}));
  CHECK_FALSE(factor.factor(Vector{1, std::nan("")}));
}

TEST_CASE("objective against dense Kronecker products in 80 digits", "[gp_hm]") {
  for (const int dimension : {1, 2})
    for (const HmKernel kernel : all_kernels()) {
      CAPTURE(dimension, static_cast<int>(kernel));
      const gp_pde::Problem p =
          dimension == 1 ? problem(line, "cos(3*x)", 1) : problem(plane, "sin(2*x)*y", 2);
      const HmOptions o = small(kernel, dimension);
      gp_pde::HmObjective objective(p, o);
      Vector at = some_parameters(objective), gradient(at.size());
      // mu of matern and se is no parameter.
      if (kernel == HmKernel::matern || kernel == HmKernel::se)
        for (int k = 0; k < dimension; ++k) at[at.size() - 1 - 3 * std::size_t(k)] = 0;
      const double reference = reference_objective(p, o, objective, at).convert_to<double>();
      const double loss = objective(at, gradient);
      CHECK(std::fabs(loss - reference) <= 1e-11 * std::fabs(reference));
    }
}

TEST_CASE("gradient against differences", "[gp_hm]") {
  for (const int dimension : {1, 2})
    for (const HmKernel kernel : all_kernels()) {
      CAPTURE(dimension, static_cast<int>(kernel));
      const bool mixture = kernel == HmKernel::student_t || kernel == HmKernel::gaussian;
      gp_pde::HmObjective objective(
          dimension == 1 ? problem(line, "cos(3*x)", 1) : problem(plane, "sin(2*x)*y", 2),
          small(kernel, dimension));
      const Vector at = some_parameters(objective);
      Vector gradient(at.size()), ignored(at.size());
      static_cast<void>(objective(at, gradient));
      for (std::size_t i = 0; i < at.size(); ++i) {
        const auto difference = [&](double t) {
          Vector up = at, down = at;
          up[i] += t;
          down[i] -= t;
          return (objective(up, ignored) - objective(down, ignored)) / (2 * t);
        };
        const double h = 1e-4, expected = (4 * difference(h) - difference(2 * h)) / 3;
        CAPTURE(i);
        if (!mixture && (i + 1 == at.size() || (dimension == 2 && i + 4 == at.size())))
          CHECK(gradient[i] == 0);
        else
          CHECK(std::fabs(gradient[i] - expected) <= 1e-7 * (1 + std::fabs(expected)));
      }
    }
}

TEST_CASE("start of the paper", "[gp_hm]") {
  HmOptions o;
  o.points = {10};
  const gp_pde::HmObjective objective(wave(), o);
  const Vector p = objective.start();
  REQUIRE(p.size() == 10 + 2 + 90);
  for (int i = 0; i < 12; ++i) CHECK(p[i] == 0);
  for (int q = 0; q < 30; ++q) {
    CHECK(p[12 + q] == Approx(std::log(1.0 / 30)));
    CHECK(p[42 + q] == 0);
    CHECK(p[72 + q] == Approx(20.0 * q / 29));
  }
}

TEST_CASE("Adam, step by step", "[gp_hm]") {
  HmOptions o = wave_options();
  o.iterations = 7;
  o.checkpoints = 7;
  o.final_learning_rate = 0;
  const auto solution = gp_pde::solve_gp_hm(wave(), o);
  gp_pde::HmObjective objective(wave(), o);
  Vector p = objective.start(), g(p.size()), m(p.size()), v(p.size());
  REQUIRE(solution.losses.size() == 8);
  for (int t = 1; t <= 8; ++t) {
    const double loss = objective(p, g);
    CHECK(solution.losses[t - 1].iteration == t - 1);
    CHECK(solution.losses[t - 1].loss == Approx(loss).epsilon(1e-9));
    for (std::size_t i = 0; i < p.size(); ++i) {
      m[i] = 0.9 * m[i] + 0.1 * g[i];
      v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
      p[i] -= 0.01 * (m[i] / (1 - std::pow(0.9, t))) /
              (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-8);
    }
  }
  CHECK(solution.report.status == Status::max_iterations);
  CHECK(solution.iteration == 7);
}

TEST_CASE("mixtures learn the frequency and solve, plain kernels do not follow", "[gp_hm]") {
  HmOptions o = wave_options();
  o.kernel = HmKernel::se;
  const auto plain = gp_pde::solve_gp_hm(wave(), o);
  CHECK(plain.axes[0].frequency == Vector{0});
  for (const HmKernel kernel : {HmKernel::student_t, HmKernel::gaussian}) {
    CAPTURE(static_cast<int>(kernel));
    o.kernel = kernel;
    const auto s = gp_pde::solve_gp_hm(wave(), o);
    CHECK(s.report.ok());
    CHECK(s.residual < 1e-4);
    CHECK(relative_error(s, *wave().exact) < 1e-4);
    CHECK(relative_error(s, *wave().exact) < 0.02 * relative_error(plain, *wave().exact));
    Vector w;
    for (int i = 0; i < 600; ++i) w.push_back(0.1 * i);
    const Vector density = s.spectrum(0, w);
    const auto peak = std::max_element(density.begin(), density.end()) - density.begin();
    CHECK(w[peak] == Approx(20).margin(1.5));
  }
}

TEST_CASE("L-BFGS finds a minimum where there is one", "[gp_hm]") {
  // F cannot vanish, and there is no condition that could be fulfilled: bounded from below.
  gp_pde::Problem p = problem("1 + u^2 + u_x^2 - 0*f", "0", 1);
  for (gp_pde::Side& side : p.sides[0]) side.kind = SideKind::none;
  HmOptions o = small(HmKernel::gaussian, 1);
  o.optimiser = gp_pde::HmOptimiser::lbfgs;
  o.iterations = 400;
  o.start = some_parameters(gp_pde::HmObjective(p, o));
  const auto s = gp_pde::solve_gp_hm(p, o);
  gp_pde::HmObjective objective(p, o);
  Vector before(o.start.size()), after(o.start.size());
  const double first = objective(o.start, before), last = objective(s.parameters, after);
  CHECK(last < first);
  CHECK(last == s.loss);
  double largest_before = 0, largest_after = 0;
  for (const double g : before) largest_before = std::max(largest_before, std::fabs(g));
  for (const double g : after) largest_after = std::max(largest_after, std::fabs(g));
  CHECK(largest_before > 1);
  CHECK(largest_after < 1e-3);
  // F = 1 at its least: log tau_2 = 0, the equation's part of the objective N/2.
  CHECK(s.equation_precision == Approx(1).epsilon(1e-2));
}

TEST_CASE("L-BFGS goes on where Adam stopped, downhill", "[gp_hm]") {
  HmOptions o = wave_options();
  o.iterations = 1000;
  o.final_learning_rate = 0;
  const auto start = gp_pde::solve_gp_hm(wave(), o);
  o.start = start.parameters;
  o.optimiser = gp_pde::HmOptimiser::lbfgs;
  o.iterations = 100;
  const auto s = gp_pde::solve_gp_hm(wave(), o);
  CHECK(s.losses.front().loss == start.loss);
  for (std::size_t i = 1; i < s.losses.size(); ++i) CHECK(s.losses[i].loss < s.losses[i - 1].loss);
  CHECK(s.node_residual < start.node_residual);
}

TEST_CASE("Allen-Cahn in one dimension, Poisson in two", "[gp_hm]") {
  gp_pde::Problem p = wave();
  p.equation = parse_expression("u_xx + u*(u^2 - 1) - f", {"u", "u_xx", "f"});
  p.forcing = parse_expression("-400*sin(20*x) + sin(20*x)*(sin(20*x)^2 - 1)", {"x"});
  CHECK(relative_error(gp_pde::solve_gp_hm(p, wave_options()), *p.exact) < 1e-4);

  p = problem("u_xx + u_yy - f", "-800*sin(20*x)*sin(20*y)", 2);
  p.axes[0].upper = p.axes[1].upper = 3.14;
  p.axes[1].lower = 0.0;
  p.exact = parse_expression("sin(20*x)*sin(20*y)", {"x", "y"});
  for (auto& axis : p.sides)
    for (gp_pde::Side& side : axis) side = {SideKind::dirichlet, 1, 0, *p.exact};
  HmOptions o = wave_options();
  o.points = {40, 40};
  o.components = 8;
  o.frequency_range = 4;
  o.iterations = 2000;
  const auto s = gp_pde::solve_gp_hm(p, o);
  Vector x;
  for (int i = 0; i <= 60; ++i) x.push_back(3.14 * i / 60.0);
  const std::vector<Vector> grid{x, x};
  const Vector u = s.on_grid(grid, std::vector<int>{0, 0});
  double worst = 0;
  for (int i = 0; i <= 60; ++i)
    for (int j = 0; j <= 60; ++j)
      worst = std::max(worst, std::fabs(u[i * 61 + j] - std::sin(20 * x[i]) * std::sin(20 * x[j])));
  CHECK(worst < 3e-2);
  CHECK(s.residual < 1e-2);
}

TEST_CASE("fields of a solution", "[gp_hm]") {
  for (const HmKernel kernel : {HmKernel::student_t, HmKernel::gaussian}) {
    gp_pde::HmObjective objective(problem(plane, "sin(2*x)*y", 2), small(kernel, 2));
    const Vector at = some_parameters(objective);
    const auto s = objective.solution(at);
    const double h = 1e-3;
    const auto value = [&](double x, double y, int dx, int dy) {
      const std::vector<Vector> grid{{x}, {y}};
      return s.on_grid(grid, std::vector<int>{dx, dy})[0];
    };
    const double x = 0.37, y = 0.81;
    for (int dy = 0; dy < 3; ++dy) {
      const auto f = [&](double t) { return value(x + t, y, 0, dy); };
      CHECK(value(x, y, 1, dy) ==
            Approx((8 * (f(h) - f(-h)) - f(2 * h) + f(-2 * h)) / (12 * h)).epsilon(1e-6));
      CHECK(value(x, y, 2, dy) ==
            Approx((16 * (f(h) + f(-h)) - f(2 * h) - f(-2 * h) - 30 * f(0)) / (12 * h * h))
                .epsilon(1e-5));
    }
    // The spectral density integrates to k(0) and its transform is k.
    for (std::ptrdiff_t axis = 0; axis < 2; ++axis) {
      Vector w;
      for (int i = 0; i < 400000; ++i) w.push_back(1e-3 * (i + 0.5));
      const Vector density = s.spectrum(axis, w);
      for (const double d : {0.0, 0.3}) {
        double sum = 0;
        for (std::size_t i = 0; i < w.size(); ++i) sum += 1e-3 * density[i] * std::cos(w[i] * d);
        const double* p = at.data() + 32 + 9 * axis;
        CHECK(sum == Approx(kernel_value(kernel, p, 3, d).convert_to<double>()).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("same bits for any number of threads", "[gp_hm]") {
  gp_pde::Problem p = problem("u_xx + u_yy + u^3 - f", "sin(2*x)*y", 2);
  HmOptions o = small(HmKernel::student_t, 2);
  o.points = {150, 140};  // several blocks of 128
  o.iterations = 3;
  std::vector<gp_pde::HmSolution> solutions;
  for (const int threads : {1, 3}) {
    o.threads = threads;
    solutions.push_back(gp_pde::solve_gp_hm(p, o));
  }
  CHECK(solutions[0].loss == solutions[1].loss);
  CHECK(solutions[0].axes[0].frequency == solutions[1].axes[0].frequency);
  const std::vector<Vector> grid{{0.1, 0.7}, {0.2, 1.1}};
  const std::vector<int> orders{0, 1};
  CHECK(solutions[0].on_grid(grid, orders) == solutions[1].on_grid(grid, orders));
}

TEST_CASE("what is observed is what an interrupted run ends with", "[gp_hm]") {
  HmOptions o = wave_options();
  o.final_learning_rate = 0;
  o.iterations = 40;
  o.checkpoints = 4;
  std::vector<std::pair<std::ptrdiff_t, double>> seen;
  o.observe = [&](const gp_pde::HmSolution& s) { seen.emplace_back(s.iteration, s.loss); };
  const auto all = gp_pde::solve_gp_hm(wave(), o);
  REQUIRE(seen.size() == 4);
  CHECK(seen[3].first == 30);
  CHECK(all.losses.size() == 5);
  CHECK(all.losses[4].loss == all.loss);
  o.observe = nullptr;
  o.iterations = 20;
  const auto half = gp_pde::solve_gp_hm(wave(), o);
  CHECK(seen[2].first == 20);
  CHECK(seen[2].second == half.loss);
  o.iterations = 1000000000;
  o.checkpoints = 0;
  o.time_limit = 0.05;
  const auto limited = gp_pde::solve_gp_hm(wave(), o);
  CHECK(limited.iteration > 0);
  CHECK(limited.losses.size() == 1);
  CHECK(limited.report.status == Status::max_iterations);
  o.progress = [](double, const char*) { return false; };
  CHECK_THROWS_AS(gp_pde::solve_gp_hm(wave(), o), Cancelled);
}

TEST_CASE("what cannot be factored or is not finite is reported", "[gp_hm]") {
  HmOptions o = wave_options();
  o.jitter = 0;
  o.components = 1;
  o.frequency_range = 0;
  o.kernel = HmKernel::gaussian;
  o.iterations = 10;
  gp_pde::HmObjective objective(wave(), o);
  Vector p = objective.start(), gradient(p.size());
  CHECK(objective(p, gradient) == std::numeric_limits<double>::infinity());
  CHECK_THROWS_AS(objective.solution(p), DomainError);
  CHECK_THROWS_AS(gp_pde::solve_gp_hm(wave(), o), DomainError);

  o = wave_options();
  o.iterations = 100;
  o.learning_rate = 1e3;  // overflows sooner or later; the iterate before is returned
  const auto s = gp_pde::solve_gp_hm(wave(), o);
  const std::vector<Vector> grid{{0.5}};
  CHECK(std::isfinite(s.on_grid(grid, std::vector<int>{0})[0]));
  CHECK_FALSE(s.report.ok());
}

TEST_CASE("bad problems and options are refused by name", "[gp_hm]") {
  const auto message = [](const gp_pde::Problem& p, const HmOptions& o) -> std::string {
    try {
      static_cast<void>(gp_pde::HmObjective(p, o));
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  using Catch::Contains;
  const auto with = [](auto change) {
    HmOptions o = wave_options();
    change(o);
    return o;
  };
  CHECK_THAT(message(wave(), with([](auto& o) { o.components = 0; })), Contains("components"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.jitter = -1; })), Contains("jitter"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.jitter = std::nan(""); })), Contains("jitter"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.learning_rate = 0; })),
             Contains("learning_rate"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.points = {1}; })), Contains("points[0]"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.points = {9, 9}; })), Contains("points"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.iterations = -1; })), Contains("iterations"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.boundary_weight = 0; })),
             Contains("boundary_weight"));
  CHECK_THAT(message(wave(), with([](auto& o) { o.time_limit = 0; })), Contains("time_limit"));
  CHECK_THAT(message(problem("u_xxx - f", "0", 1), wave_options()), Contains("u_xxx"));
  CHECK_THAT(message(problem("u_xx - v", "0", 1), wave_options()), Contains("v"));
  CHECK_THAT(message(problem("f - x", "0", 1), wave_options()), Contains("no u"));
  CHECK_THAT(message(problem("u_xx - f", "1/x", 1), wave_options()), Contains("forcing"));
  gp_pde::Problem p = wave();
  p.sides[0][0].kind = p.sides[0][1].kind = SideKind::periodic;
  CHECK_THAT(message(p, wave_options()), Contains("periodic"));
  p = wave();
  p.sides.clear();
  CHECK_THAT(message(p, wave_options()), Contains("sides"));
  p = wave();
  p.axes[0].upper = p.axes[0].lower;
  CHECK_THAT(message(p, wave_options()), Contains("lower < upper"));
  p = wave();
  p.forcing = gp_pde::GridSamples{{{0, 0.5, 1}}, {1, 2, 3}};
  CHECK_THAT(message(p, wave_options()), Contains("forcing.axes.x"));
  p.forcing = gp_pde::GridSamples{{{0, 0.4, 1}}, {1, 2, 3}};
  CHECK_THAT(message(p, with([](auto& o) { o.points = {3}; })), Contains("forcing.axes.x[1]"));
}

namespace {

const std::string wave_file = R"toml([domain]
x = [0, 1]
[equation]
expr = "u_xx + u*(u^2 - 1) - f"
[exact]
u = "sin(20*x)"
[forcing]
f = "auto"
[bc]
"x-,x+" = { type = "dirichlet", g = "exact" }
[kernel]
type = "gaussian"
[grid]
n = 50
[solver]
method = "gp-hm"
components = 6
frequency_range = "10/2"
iterations = 200
optimiser = "lbfgs"
learning_rate = 0.02
final_learning_rate = 1e-4
boundary_weight = 100
jitter = 1e-7
tol = 1e-3
threads = 2
)toml";

std::string changed(const std::string& from, const std::string& to) {
  std::string text = wave_file;
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("method gp-hm in PDE files", "[gp_hm]") {
  const auto file = gp_pde::parse_pde_file(wave_file);
  REQUIRE(file.gp_hm);
  const HmOptions& o = *file.gp_hm;
  CHECK(o.kernel == HmKernel::gaussian);
  CHECK(o.points == std::vector<std::ptrdiff_t>{50});
  CHECK(o.components == 6);
  CHECK(o.frequency_range == 5);
  CHECK(o.iterations == 200);
  CHECK(o.optimiser == gp_pde::HmOptimiser::lbfgs);
  CHECK(o.learning_rate == 0.02);
  CHECK(o.final_learning_rate == 1e-4);
  CHECK(o.boundary_weight == 100);
  CHECK(o.jitter == 1e-7);
  CHECK(o.tolerance == 1e-3);
  CHECK(o.threads == 2);
  CHECK(gp_pde::describe(file).find("method gp-hm, 200 steps of L-BFGS") != std::string::npos);

  // What is not said is as published.
  const auto plain = gp_pde::parse_pde_file(R"toml([domain]
x = [0, 1]
[equation]
expr = "u_xx - 1"
[bc]
"x-,x+" = { type = "dirichlet" }
[solver]
method = "gp-hm"
)toml");
  REQUIRE(plain.gp_hm);
  CHECK(plain.gp_hm->kernel == HmKernel::student_t);
  CHECK(plain.gp_hm->iterations == 100000);
  CHECK(plain.gp_hm->learning_rate == 0.01);
  CHECK(plain.gp_hm->final_learning_rate == 0);
  CHECK(plain.gp_hm->boundary_weight == 200);
  CHECK(plain.gp_hm->jitter == 1e-6);

  const auto message = [](const std::string& text) -> std::string {
    try {
      static_cast<void>(gp_pde::parse_pde_file(text));
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  using Catch::Contains;
  CHECK_THAT(message(changed("method = \"gp-hm\"", "method = \"auto\"")),
             Contains("is one of method = \"gp-hm\""));
  CHECK_THAT(message(changed("components = 6", "components = 0")), Contains("components"));
  CHECK_THAT(message(changed("jitter = 1e-7", "jitter = -1")), Contains("must be >= 0"));
  CHECK_THAT(message(changed("\"lbfgs\"", "\"newton\"")), Contains("optimiser"));
  CHECK_THAT(message(changed("n = 50", "n = 50\nnodes = \"gauss\"")),
             Contains("\"uniform\" nodes only"));
  CHECK_THAT(message(changed("n = 50", "n = 9000")), Contains("at most 8192"));
  CHECK_THAT(message(changed("\"gaussian\"", "\"periodic\"")), Contains("student-t"));
  CHECK_THAT(message(changed("type = \"gaussian\"", "bands = \"auto\"")), Contains("bands"));
  CHECK_THAT(message(changed("threads = 2", "max_modes = 100")), Contains("max_modes"));
  std::string periodic = changed("type = \"dirichlet\", g = \"exact\"", "type = \"periodic\"");
  CHECK_THAT(message(periodic), Contains("gp_pde::solve_gp_hm") && Contains("periodic"));
}

TEST_CASE("report and picture of gp-hm", "[gp_hm]") {
  auto file = gp_pde::parse_pde_file(changed("\"lbfgs\"", "\"adam\""));
  const auto s = gp_pde::solve_gp_hm(file.problem, *file.gp_hm);
  const auto summary = gp_pde::summary_of(s);
  REQUIRE(summary.axes.size() == 1);
  const gp_pde::AxisInfo& axis = summary.axes[0];
  CHECK(axis.modes == 50);
  CHECK(axis.features == 6);
  REQUIRE(!axis.bands.empty());
  for (const auto& band : axis.bands) CHECK((band.lower >= 0 && band.lower < band.upper));
  CHECK(std::is_sorted(axis.spectrum_frequency.begin(), axis.spectrum_frequency.end()));
  CHECK(*std::max_element(axis.spectrum.begin(), axis.spectrum.end()) == 1);
  gp_pde::Run run;
  run.gp_hm = &s;
  const auto sample = gp_pde::sampler_of(s);
  const auto output = gp_pde::evaluate(file, sample);
  REQUIRE(output.error);
  CHECK(output.error->relative_l2 == Approx(relative_error(s, *file.problem.exact)).epsilon(0.1));
  const std::string report = gp_pde::report_json(file, summary, output, run, {});
  for (const char* key : {"\"method\": \"gp-hm\"", "\"losses\"", "\"gp_hm\"", "\"frequency\"",
                          "\"error_estimate\": null"})
    CHECK(report.find(key) != std::string::npos);
  const auto picture = gp_pde::picture_of(file, summary, output, sample, run);
  CHECK(std::find(picture.facts.begin(), picture.facts.end(), "200 steps") != picture.facts.end());
  CHECK(draw_svg(picture).size() > 1000);
}
