// bench_chebyshev [--repeats N] FILE.toml...: classical polynomial spectral methods on PDE files,
// the peers of gp_pde: one JSON object a line, file and method, as bench_gp_pde prints them.
//
// - 1-D, a u'' = f, Dirichlet: Chebyshev coefficients by FFTW, integrated twice, O(N log N)
//   (Greengard 1991, SIAM J. Numer. Anal. 28).
// - 1-D, any equation of order two, linear or (by Newton's method) not: Chebyshev collocation, LU.
// - 2-D, a u_xx + b u_yy + c u = f, Dirichlet: Legendre-Galerkin in Shen's basis (Shen 1994, SIAM
// J.
//   Sci. Comput. 15), whose stiffness is the identity and whose mass matrix is tridiagonal within a
//   parity; fast diagonalisation, every product folded by parity.
// - 2-D, any equation that is a sum over the axes, with Dirichlet, Neumann, Robin or inflow sides:
//   Chebyshev collocation, fast diagonalisation, real Schur forms where eigenvalues are complex;
//   nonlinear terms by Newton's method with GMRES on that solve.
//
// N is the smallest that comes within a factor two of the method's best error. setup: what depends
// on the operator only, and the formulas compiled. data: forcing and boundary data. solve: from
// these to values on the output grid. Medians.
#include <cblas.h>
#include <fftw3.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iostream>
#include <memory>
#include <numbers>
#include <numeric>
#include <stdexcept>

#include "case.hpp"
#include "detail/gmres.hpp"

namespace {

namespace pde = halfulp::gp_pde;
using halfulp::Expression;
using halfulp::Program;
using Vector = std::vector<double>;
using Size = std::ptrdiff_t;

/// The file asks for something that a method does not solve.
struct Unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A formula at scattered points: arguments[i] has the values of its i-th input.
void at_points(const Program<double>& program,
               const std::vector<std::span<const double>>& arguments, Vector& out) {
  Vector point(arguments.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t k = 0; k < point.size(); ++k) point[k] = arguments[k][i];
    out[i] = program(point);
  }
}

struct Matrix {  // row-major
  Size rows = 0, cols = 0;
  Vector data;
  Matrix() = default;
  Matrix(Size r, Size c) : rows(r), cols(c), data(r * c) {}
  double& operator()(Size i, Size j) { return data[i * cols + j]; }
  double operator()(Size i, Size j) const { return data[i * cols + j]; }
};

/// a b, either transposed on request
Matrix product(const Matrix& a, const Matrix& b, bool ta = false, bool tb = false) {
  Matrix c(ta ? a.cols : a.rows, tb ? b.rows : b.cols);
  const Size inner = ta ? a.rows : a.cols;
  cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans,
              static_cast<int>(c.rows), static_cast<int>(c.cols), static_cast<int>(inner), 1.0,
              a.data.data(), static_cast<int>(a.cols), b.data.data(), static_cast<int>(b.cols), 0.0,
              c.data.data(), static_cast<int>(c.cols));
  return c;
}

Vector times(const Matrix& a, const Vector& x, bool transposed = false) {
  Vector y(transposed ? a.cols : a.rows);
  cblas_dgemv(CblasRowMajor, transposed ? CblasTrans : CblasNoTrans, static_cast<int>(a.rows),
              static_cast<int>(a.cols), 1.0, a.data.data(), static_cast<int>(a.cols), x.data(), 1,
              0.0, y.data(), 1);
  return y;
}

void add_outer(Matrix& a, double factor, const Vector& x, const Vector& y) {
  for (Size i = 0; i < a.rows; ++i)
    for (Size j = 0; j < a.cols; ++j) a(i, j) += factor * x[i] * y[j];
}

/// LU with partial pivoting.
struct Lu {
  Matrix lu;
  std::vector<lapack_int> pivots;
  explicit Lu(Matrix a) : lu(std::move(a)), pivots(lu.rows) {
    const auto n = static_cast<lapack_int>(lu.rows);
    if (LAPACKE_dgetrf(LAPACK_ROW_MAJOR, n, n, lu.data.data(), n, pivots.data()) != 0)
      throw Unsupported("a singular matrix");
  }
  void solve(Matrix& b) const {
    LAPACKE_dgetrs(LAPACK_ROW_MAJOR, 'N', static_cast<lapack_int>(lu.rows),
                   static_cast<lapack_int>(b.cols), lu.data.data(),
                   static_cast<lapack_int>(lu.rows), pivots.data(), b.data.data(),
                   static_cast<lapack_int>(b.cols));
  }
};

/// [lower, upper] as lower + half (1 + xi), from the nearer end, so that the ends are exact.
struct Interval {
  double lower, upper, half;
  explicit Interval(const pde::Axis& axis)
      : lower(axis.lower.hi), upper(axis.upper.hi), half((axis.upper - axis.lower).hi / 2) {}
  [[nodiscard]] Vector physical(const Vector& xi) const {
    Vector x;
    x.reserve(xi.size());
    for (const double t : xi) x.push_back(t < 0 ? lower + half * (1 + t) : upper - half * (1 - t));
    return x;
  }
  [[nodiscard]] Vector reference(const Vector& x) const {
    Vector xi;
    xi.reserve(x.size());
    for (const double v : x)
      xi.push_back(std::clamp(((v - lower) - (upper - v)) / (upper - lower), -1.0, 1.0));
    return xi;
  }
};

/// The file as the methods below need it.
struct Case {
  pde::PdeFile file;
  std::vector<std::string> names;
  std::vector<Interval> intervals;
  std::vector<Vector> grid;  ///< output

  explicit Case(const char* path) : file(pde::read_pde_file(path)) {
    const pde::Problem& p = file.problem;
    if (p.axes.size() > 2) throw Unsupported("three dimensions");
    if (!p.exact) throw Unsupported("no exact solution");
    if (!std::holds_alternative<Expression>(p.forcing)) throw Unsupported("forcing from an array");
    for (const auto& axis : p.axes) {
      names.push_back(axis.name);
      intervals.emplace_back(axis);
    }
    grid = output_grid(file);
    for (const auto& sides : p.sides)
      for (const pde::Side& side : sides)
        if (side.kind == pde::SideKind::periodic) throw Unsupported("periodic sides");
    source = file.linear ? forced(file.right_hand_side) : Expression();
    left = file.linear ? Expression() : forced(file.left) - forced(file.right_hand_side);
    source_program_.emplace_back(source, names);
    for (const auto& sides : p.sides)
      side_programs_.push_back(
          {Program<double>(sides[0].g, names), Program<double>(sides[1].g, names)});
  }

  [[nodiscard]] Size dimension() const { return std::ssize(names); }
  [[nodiscard]] const pde::Side& side(Size k, int s) const { return file.problem.sides[k][s]; }
  /// Orders of a derivative's name: u_xy -> {1, 1}.
  [[nodiscard]] std::vector<int> orders(std::string name) const {
    std::vector<int> found(names.size());
    name = name.size() > 2 ? name.substr(2) : "";
    while (!name.empty()) {
      bool known = false;
      for (std::size_t k = 0; k < names.size() && !known; ++k)
        if (name.starts_with(names[k])) {
          ++found[k];
          name.erase(0, names[k].size());
          known = true;
        }
      if (!known) throw Unsupported("derivative names");
    }
    return found;
  }
  [[nodiscard]] static Matrix values(const Program<double>& program,
                                     const std::vector<Vector>& axes) {
    Matrix out(std::ssize(axes[0]), axes.size() > 1 ? std::ssize(axes[1]) : 1);
    program.on_grid(axes, out.data);
    return out;
  }
  [[nodiscard]] Matrix values(const Expression& e, const std::vector<Vector>& axes) const {
    return values(Program<double>(e, names), axes);
  }
  /// What the operator applied to u equals, at points.
  [[nodiscard]] Matrix source_values(const std::vector<Vector>& axes) const {
    return values(source_program_[0], axes);
  }
  /// g of a side along the other axis (one value in 1-D).
  [[nodiscard]] Vector side_data(Size k, int s, const Vector& along) const {
    std::vector<Vector> axes(names.size(), along);
    axes[k] = {s == 0 ? intervals[k].lower : intervals[k].upper};
    return values(side_programs_[k][s], axes).data;
  }
  /// Constant coefficients by orders; Unsupported where one varies.
  [[nodiscard]] std::vector<std::pair<std::vector<int>, double>> constant_terms() const {
    if (!file.linear) throw Unsupported("a nonlinear equation");
    std::vector<std::pair<std::vector<int>, double>> terms;
    for (const auto& [name, coefficient] : file.terms) {
      if (!coefficient.symbols().empty()) throw Unsupported("coefficients that vary");
      terms.emplace_back(orders(name), coefficient.constant().hi);
    }
    return terms;
  }

  Expression source;  ///< linear: what the operator applied to u equals
  Expression left;    ///< nonlinear: = 0

 private:
  [[nodiscard]] Expression forced(const Expression& e) const {
    return e.substitute(file.problem.forcing_symbol, std::get<Expression>(file.problem.forcing));
  }
  std::vector<Program<double>> source_program_;
  std::vector<std::array<Program<double>, 2>> side_programs_;
};

// ---- one dimension ----

class Integration {
 public:
  static constexpr const char* label = "Chebyshev integration";
  static constexpr Size largest = 8192;

  Integration(const Case& c, Size n) : case_(c), interval_(c.intervals[0]), n_(n) {
    const auto terms = c.constant_terms();
    if (c.dimension() != 1 || terms.size() != 1 || terms[0].first[0] != 2)
      throw Unsupported("only a u_xx = f");
    for (int s = 0; s < 2; ++s)
      if (c.side(0, s).kind != pde::SideKind::dirichlet) throw Unsupported("only Dirichlet ends");
    scale_ = interval_.half * interval_.half / terms[0].second;
    Vector xi(n + 1);
    for (Size k = 0; k <= n; ++k)
      xi[k] = std::sin(std::numbers::pi * static_cast<double>(n - 2 * k) / (2.0 * double(n)));
    nodes_ = {interval_.physical(xi)};
    const Vector points = interval_.reference(c.grid[0]);
    evaluation_ = Matrix(std::ssize(points), n + 3);
    for (Size i = 0; i < evaluation_.rows; ++i)
      for (Size k = 0; k < n + 3; ++k)
        evaluation_(i, k) = std::cos(static_cast<double>(k) * std::acos(points[i]));
    buffer_.resize(n + 1);
    plan_.reset(fftw_plan_r2r_1d(static_cast<int>(n + 1), buffer_.data(), buffer_.data(),
                                 FFTW_REDFT00, FFTW_ESTIMATE));
  }

  void data() {
    forcing_ = case_.source_values(nodes_).data;
    for (int s = 0; s < 2; ++s) ends_[s] = case_.side_data(0, s, {})[0];
  }

  Vector solve() {
    buffer_ = forcing_;
    fftw_execute_r2r(plan_.get(), buffer_.data(), buffer_.data());
    Vector a(buffer_);
    for (double& v : a) v /= static_cast<double>(n_);
    a.front() /= 2;
    a.back() /= 2;
    Vector b = integrate(integrate(std::move(a)));
    double even = 0, odd = 0;
    for (std::size_t k = 0; k < b.size(); ++k) (k % 2 == 0 ? even : odd) += (b[k] *= scale_);
    b[0] += (ends_[0] + ends_[1]) / 2 - even;
    b[1] += (ends_[1] - ends_[0]) / 2 - odd;
    return times(evaluation_, b);
  }

 private:
  static Vector integrate(Vector a) {
    const auto n = a.size();
    a.resize(n + 2);
    a[0] *= 2;
    Vector b(n + 1);
    for (std::size_t k = 1; k <= n; ++k)
      b[k] = (a[k - 1] - a[k + 1]) / (2.0 * static_cast<double>(k));
    return b;
  }
  struct Destroy {
    void operator()(fftw_plan plan) const { fftw_destroy_plan(plan); }
  };
  const Case& case_;
  Interval interval_;
  Size n_;
  double scale_;
  std::vector<Vector> nodes_;
  Matrix evaluation_;
  Vector buffer_, forcing_;
  std::array<double, 2> ends_{};
  std::unique_ptr<std::remove_pointer_t<fftw_plan>, Destroy> plan_;
};

/// One axis: Chebyshev points from the lower end, differentiation, interpolation to the output.
struct Chebyshev {
  std::vector<Matrix> d;  ///< d[k]: derivative of order k with respect to x, k = 0 empty
  Vector nodes;
  Matrix evaluation;

  Chebyshev(const Interval& interval, Size n, const Vector& points) : d(3) {
    Vector xi(n + 1), theta(n + 1);
    for (Size k = 0; k <= n; ++k) {
      theta[k] = std::numbers::pi * static_cast<double>(n - k) / double(n);
      xi[k] = std::sin(std::numbers::pi * static_cast<double>(2 * k - n) / (2.0 * double(n)));
    }
    nodes = interval.physical(xi);
    d[1] = Matrix(n + 1, n + 1);
    const auto sign = [n](Size k) {
      return (k == 0 || k == n ? 2.0 : 1.0) * (k % 2 == 0 ? 1.0 : -1.0);
    };
    for (Size i = 0; i <= n; ++i) {
      double sum = 0;
      for (Size j = 0; j <= n; ++j) {
        if (i == j) continue;
        // xi_i - xi_j without cancellation
        const double gap =
            2 * std::sin((theta[i] + theta[j]) / 2) * std::sin((theta[j] - theta[i]) / 2);
        sum += d[1](i, j) = sign(i) / sign(j) / gap / interval.half;
      }
      d[1](i, i) = -sum;
    }
    d[2] = product(d[1], d[1]);
    evaluation = Matrix(std::ssize(points), n + 1);
    const Vector at = interval.reference(points);
    for (Size i = 0; i < evaluation.rows; ++i) {
      double sum = 0;
      Size hit = -1;
      for (Size k = 0; k <= n; ++k) {
        if (at[i] == xi[k]) hit = k;
        const double w = (k == 0 || k == n ? 0.5 : 1.0) * (k % 2 == 0 ? 1.0 : -1.0);
        sum += evaluation(i, k) = w / (at[i] - xi[k]);
      }
      for (Size k = 0; k <= n; ++k)
        evaluation(i, k) = hit >= 0 ? double(k == hit) : evaluation(i, k) / sum;
    }
  }
};

class Collocation1D {
 public:
  static constexpr const char* label = "Chebyshev collocation";
  static constexpr Size largest = 1400;

  Collocation1D(const Case& c, Size n) : case_(c), axis_(c.intervals[0], n, c.grid[0]), n_(n) {
    if (c.dimension() != 1) throw Unsupported("only one dimension");
    grid_ = {axis_.nodes};
    if (!c.file.linear) {
      symbols_ = c.names;
      for (const auto& symbol : c.left.symbols())
        if (symbol.starts_with("u")) {
          symbols_.push_back(symbol);
          orders_.push_back(c.orders(symbol)[0]);
        }
      left_ = std::make_unique<Program<double>>(c.left, symbols_);
      for (std::size_t k = 0; k < orders_.size(); ++k)
        partial_.emplace_back(c.left.derivative(symbols_[k + 1]), symbols_);
      order_ = *std::max_element(orders_.begin(), orders_.end());
      return;
    }
    Matrix a(n + 1, n + 1);
    for (const auto& [name, coefficient] : c.file.terms) {
      const int order = c.orders(name)[0];
      order_ = std::max(order_, order);
      const Vector v = c.values(coefficient, grid_).data;
      for (Size i = 0; i <= n; ++i)
        for (Size j = 0; j <= n; ++j)
          a(i, j) += v[i] * (order > 0 ? axis_.d[order](i, j) : double(i == j));
    }
    put_conditions(a);
    lu_ = std::make_unique<Lu>(std::move(a));
  }

  void data() {
    right_ = case_.file.linear ? case_.source_values(grid_) : Matrix(n_ + 1, 1);
    for (int s = 0; s < 2; ++s)
      if (row_of(s) >= 0) right_(row_of(s), 0) = case_.side_data(0, s, {})[0];
  }

  Vector solve() {
    Matrix u = right_;
    if (lu_) {
      lu_->solve(u);
      return times(axis_.evaluation, u.data);
    }
    u = Matrix(n_ + 1, 1);
    double last = 0;
    for (int it = 0; it < 40; ++it) {
      std::vector<Vector> values{axis_.nodes};
      for (const int order : orders_)
        values.push_back(order == 0 ? u.data : times(axis_.d[order], u.data));
      std::vector<std::span<const double>> arguments(values.begin(), values.end());
      Matrix rest(n_ + 1, 1);
      at_points(*left_, arguments, rest.data);
      Matrix a(n_ + 1, n_ + 1);
      Vector slope(n_ + 1);
      for (std::size_t k = 0; k < orders_.size(); ++k) {
        at_points(partial_[k], arguments, slope);
        for (Size i = 0; i <= n_; ++i)
          for (Size j = 0; j <= n_; ++j)
            a(i, j) += slope[i] * (orders_[k] > 0 ? axis_.d[orders_[k]](i, j) : double(i == j));
      }
      for (int s = 0; s < 2; ++s)
        if (const Size i = row_of(s); i >= 0)
          rest(i, 0) = times(condition(s), u.data)[0] - right_(i, 0);
      put_conditions(a);
      Lu(std::move(a)).solve(rest);
      double change = 0, size = 0;
      for (Size i = 0; i <= n_; ++i) {
        u(i, 0) -= rest(i, 0);
        change = std::max(change, std::fabs(rest(i, 0)));
        size = std::max(size, std::fabs(u(i, 0)));
      }
      if (!(change > 1e-9 * size) || (it > 3 && change > 0.5 * last && change < 1e-6 * size)) break;
      last = change;
    }
    return times(axis_.evaluation, u.data);
  }

 private:
  // Row that the condition of a side takes; -1 where there is none.
  [[nodiscard]] Size row_of(int s) const {
    return case_.side(0, s).kind == pde::SideKind::none ? -1 : (s == 0 ? 0 : n_);
  }
  [[nodiscard]] Matrix condition(int s) const {
    const pde::Side& side = case_.side(0, s);
    Matrix row(1, n_ + 1);
    const Size end = s == 0 ? 0 : n_;
    for (Size j = 0; j <= n_; ++j)
      row(0, j) = side.b * (s == 0 ? -1 : 1) * axis_.d[1](end, j) + (j == end ? side.a : 0.0);
    return row;
  }
  void put_conditions(Matrix& a) const {
    for (int s = 0; s < 2; ++s) {
      const Size i = row_of(s);
      if (i < 0) continue;
      const Matrix row = condition(s);
      std::copy(row.data.begin(), row.data.end(), a.data.begin() + i * a.cols);
    }
  }
  const Case& case_;
  Chebyshev axis_;
  Size n_;
  int order_ = 0;
  std::vector<Vector> grid_;
  Matrix right_;
  std::unique_ptr<Lu> lu_;
  std::vector<std::string> symbols_;
  std::vector<int> orders_;
  std::unique_ptr<Program<double>> left_;
  std::vector<Program<double>> partial_;
};

// ---- two dimensions ----

/// The positive half of the n Gauss-Legendre nodes, n even, from 1 downwards.
void gauss(Size n, Vector& x, Vector& weights) {
  for (Size i = 1; i <= n / 2; ++i) {
    double t = std::cos(std::numbers::pi * (double(i) - 0.25) / (double(n) + 0.5)), slope = 1;
    for (int it = 0; it < 6; ++it) {
      double previous = 1, current = t;
      for (Size j = 1; j < n; ++j) {
        const double next =
            (double(2 * j + 1) * t * current - double(j) * previous) / double(j + 1);
        previous = current;
        current = next;
      }
      slope = double(n) * (previous - t * current) / (1 - t * t);
      const double step = current / slope;
      t -= step;
      if (std::fabs(step) < 1e-16) break;
    }
    x.push_back(t);
    weights.push_back(2 / ((1 - t * t) * slope * slope));
  }
}

/// One axis and parity: L_k - L_{k+2}, k < n, scaled to stiffness I, with the mass diagonalised.
struct ShenFactor {
  Vector lam, mass_with_lift, lift, lift_nodes, unscale;
  Matrix modes, test, evaluation, legendre;  // evaluation: points x modes

  ShenFactor(Size n, int parity, const Vector& nodes, const Vector& weights, const Vector& points) {
    const Size r = (n - parity + 1) / 2;
    Vector scale(r), off(std::max<Size>(1, r - 1));
    lam.resize(r);
    for (Size i = 0; i < r; ++i) {
      const double k = double(parity + 2 * i);
      scale[i] = 1 / std::sqrt(4 * k + 6);
      lam[i] = (2 / (2 * k + 1) + 2 / (2 * k + 5)) * scale[i] * scale[i];
    }
    for (Size i = 0; i + 1 < r; ++i)
      off[i] = -2 / (2 * double(parity + 2 * i) + 5) * scale[i] * scale[i + 1];
    modes = Matrix(r, r);
    if (LAPACKE_dstevd(LAPACK_ROW_MAJOR, 'V', static_cast<lapack_int>(r), lam.data(), off.data(),
                       modes.data.data(), static_cast<lapack_int>(r)) != 0)
      throw Unsupported("no eigenvectors");
    const auto m = std::ssize(nodes), p = std::ssize(points);
    Matrix at_nodes(r, m), at_points(r, p);
    legendre = Matrix(r, m);
    const auto fill = [&](const Vector& x, Matrix& basis, bool keep) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        double a = 1, b = x[i];  // L_k, L_{k+1}
        for (Size k = 0; k < n; ++k) {
          const double c = (double(2 * k + 3) * x[i] * b - double(k + 1) * a) / double(k + 2);
          if (k % 2 == parity) {
            basis(k / 2, Size(i)) = (a - c) * scale[k / 2];
            if (keep) legendre(k / 2, Size(i)) = a * (double(2 * k + 1) / 2) * weights[i];
          }
          a = b;
          b = c;
        }
      }
    };
    fill(nodes, at_nodes, true);
    fill(points, at_points, false);
    test = product(modes, at_nodes, true);
    for (Size i = 0; i < r; ++i)
      for (Size j = 0; j < m; ++j) test(i, j) *= weights[j];
    evaluation = product(at_points, modes, true);
    // (h, phi): h = 1 meets only k = 0, h = x only k = 1.
    for (Size i = 0; i < r; ++i)
      mass_with_lift.push_back(modes(0, i) * scale[0] * (parity == 0 ? 2.0 : 2.0 / 3.0));
    lift = parity == 0 ? Vector(p, 1.0) : points;
    lift_nodes = parity == 0 ? Vector(m, 1.0) : nodes;
    for (const double s : scale) unscale.push_back(1 / s);
  }

  /// Modal coefficients of a folded edge function that vanishes at the ends: running sums of its
  /// Legendre coefficients.
  [[nodiscard]] Vector edge(const Vector& folded) const {
    Vector v = times(legendre, folded);
    std::partial_sum(v.begin(), v.end(), v.begin());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] *= unscale[i];
    return times(modes, v, true);
  }
};

class LegendreGalerkin {
 public:
  static constexpr const char* label = "Legendre-Galerkin";
  static constexpr Size largest = 800;

  LegendreGalerkin(const Case& c, Size n) : case_(c) {
    const auto terms = c.constant_terms();
    if (c.dimension() != 2) throw Unsupported("only two dimensions");
    double second[2] = {0, 0};
    for (const auto& [orders, value] : terms) {
      if (orders == std::vector{0, 0})
        reaction_ = value;
      else if (orders == std::vector{2, 0} || orders == std::vector{0, 2})
        second[orders[0] == 2 ? 0 : 1] = value;
      else
        throw Unsupported("only a u_xx + b u_yy + c u = f");
    }
    if (second[0] == 0 || second[1] == 0) throw Unsupported("only a u_xx + b u_yy + c u = f");
    for (Size k = 0; k < 2; ++k)
      for (int s = 0; s < 2; ++s)
        if (c.side(k, s).kind != pde::SideKind::dirichlet)
          throw Unsupported("only Dirichlet sides");
    for (Size k = 0; k < 2; ++k)
      stretch_[k] = second[k] / (c.intervals[k].half * c.intervals[k].half);
    n += n % 2;
    Vector half, weights;
    gauss(n + 2, half, weights);
    xi_ = half;
    for (auto it = half.rbegin(); it != half.rend(); ++it) xi_.push_back(-*it);
    for (Size k = 0; k < 2; ++k) {
      nodes_.push_back(c.intervals[k].physical(xi_));
      if (k == 1 && c.grid[0].size() == c.grid[1].size()) {
        factors_[1] = factors_[0];  // the reference interval is the same
        break;
      }
      Vector points = c.intervals[k].reference(c.grid[k]);
      std::reverse(points.begin(), points.end());
      points.resize((points.size() + 1) / 2);
      for (int p = 0; p < 2; ++p)
        factors_[k].push_back(std::make_shared<ShenFactor>(n, p, half, weights, points));
    }
  }

  void data() {
    forcing_ = case_.source_values(nodes_);
    for (Size k = 0; k < 2; ++k)
      for (int s = 0; s < 2; ++s) {
        // From the upper end downwards, as the nodes are.
        sides_[k][1 - s] = case_.side_data(k, s, nodes_[1 - k]);
        const Interval& other = case_.intervals[1 - k];
        if (k == 0) corners_[1 - s] = case_.side_data(0, s, {other.upper, other.lower});
      }
  }

  Vector solve() {
    const Size m = std::ssize(xi_) / 2,
               count[2] = {std::ssize(case_.grid[0]), std::ssize(case_.grid[1])};
    Matrix out(count[0], count[1]);
    // Values that are even or odd about the centre, on the positive half, doubled.
    const auto fold = [m](const Vector& v, int parity) {
      Vector f(m);
      for (Size i = 0; i < m; ++i) f[i] = v[i] + (parity == 0 ? 1 : -1) * v[2 * m - 1 - i];
      return f;
    };
    for (int p = 0; p < 2; ++p)
      for (int q = 0; q < 2; ++q) {
        const ShenFactor &fx = *factors_[0][p], &fy = *factors_[1][q];
        const double sp = p == 0 ? 1 : -1, sq = q == 0 ? 1 : -1;
        Matrix f(m, m);
        for (Size i = 0; i < m; ++i)
          for (Size j = 0; j < m; ++j)
            f(i, j) =
                forcing_(i, j) + sq * forcing_(i, 2 * m - 1 - j) +
                sp * (forcing_(2 * m - 1 - i, j) + sq * forcing_(2 * m - 1 - i, 2 * m - 1 - j));
        const double corner =
            (corners_[0][0] + sq * corners_[0][1] + sp * (corners_[1][0] + sq * corners_[1][1])) /
            4;
        const auto edge = [&](Size k, double sign, int parity, const ShenFactor& along) {
          Vector g(sides_[k][0]);
          for (std::size_t i = 0; i < g.size(); ++i) g[i] = (g[i] + sign * sides_[k][1][i]) / 2;
          g = fold(g, parity);
          for (Size i = 0; i < m; ++i) g[i] -= 2 * corner * along.lift_nodes[i];
          return along.edge(g);
        };
        const Vector gx = edge(0, sp, q, fy), gy = edge(1, sq, p, fx);
        Matrix right = product(product(fx.test, f), fy.test, false, true);
        const Vector &ex = fx.mass_with_lift, &ey = fy.mass_with_lift;
        for (Size i = 0; i < right.rows; ++i)
          for (Size j = 0; j < right.cols; ++j) {
            const double x = fx.lam[i], y = fy.lam[j];
            right(i, j) += ex[i] * (stretch_[1] - reaction_ * y) * gx[j] +
                           (stretch_[0] - reaction_ * x) * gy[i] * ey[j] -
                           reaction_ * corner * ex[i] * ey[j];
            right(i, j) /= reaction_ * x * y - stretch_[0] * y - stretch_[1] * x;
          }
        Matrix field = product(product(fx.evaluation, right), fy.evaluation, false, true);
        Vector across = times(fy.evaluation, gx);
        for (std::size_t j = 0; j < across.size(); ++j) across[j] += corner * fy.lift[j];
        add_outer(field, 1, fx.lift, across);
        add_outer(field, 1, times(fx.evaluation, gy), fy.lift);
        // Points ascend; those of the factors descend from the upper end.
        for (Size i = 0; i < field.rows; ++i)
          for (Size j = 0; j < field.cols; ++j) {
            const Size i2 = count[0] - 1 - i, j2 = count[1] - 1 - j;
            const double v = field(i, j);
            out(i2, j2) += v;
            if (i != i2) out(i, j2) += sp * v;
            if (j != j2) out(i2, j) += sq * v;
            if (i != i2 && j != j2) out(i, j) += sp * sq * v;
          }
      }
    return std::move(out.data);
  }

 private:
  const Case& case_;
  double stretch_[2] = {0, 0}, reaction_ = 0;
  Vector xi_;
  std::vector<Vector> nodes_;
  std::array<std::vector<std::shared_ptr<const ShenFactor>>, 2> factors_;
  Matrix forcing_;
  std::array<std::array<Vector, 2>, 2> sides_;
  std::array<Vector, 2> corners_;
};

class Collocation2D {
 public:
  static constexpr const char* label = "Chebyshev collocation";
  static constexpr Size largest = 500;

  Collocation2D(const Case& c, Size n) : case_(c) {
    if (c.dimension() != 2) throw Unsupported("only two dimensions");
    double coefficient[2][3] = {};
    if (c.file.linear) {
      for (const auto& [orders, value] : c.constant_terms()) {
        if (orders[0] > 0 && orders[1] > 0) throw Unsupported("mixed derivatives");
        const Size k = orders[1] > 0 ? 1 : 0;
        coefficient[k][orders[k]] += value;
      }
    } else {
      prepare_nonlinear(coefficient);
    }
    for (Size k = 0; k < 2; ++k) {
      axes_.emplace_back(c.intervals[k], n, c.grid[k]);
      set_up(k, coefficient[k], n);
    }
    schur_ = !factors_[0].real || !factors_[1].real;
    for (Factor& f : factors_) {
      if (schur_) {
        make_schur(f);
        continue;
      }
      Matrix identity(f.vectors.rows, f.vectors.rows);
      for (Size i = 0; i < identity.rows; ++i) identity(i, i) = 1;
      Lu(f.vectors).solve(identity);
      f.inverse = std::move(identity);
    }
  }

  void data() {
    const std::vector<Vector> grid{axes_[0].nodes, axes_[1].nodes};
    forcing_ = case_.file.linear ? case_.source_values(grid)
                                 : Matrix(std::ssize(grid[0]), std::ssize(grid[1]));
    for (Size k = 0; k < 2; ++k) {
      const Factor& f = factors_[k];
      sides_[k] = Matrix(std::ssize(f.known), std::ssize(axes_[1 - k].nodes));
      for (std::size_t i = 0; i < f.known.size(); ++i) {
        const Vector g = case_.side_data(k, f.side[i], axes_[1 - k].nodes);
        std::copy(g.begin(), g.end(), sides_[k].data.begin() + Size(i) * sides_[k].cols);
      }
    }
  }

  Vector solve() {
    Matrix u;
    if (case_.file.linear) {
      // Conditions enter through the rows of the points that they determine.
      Matrix zero(forcing_.rows, forcing_.cols);
      put_sides(zero);
      Matrix right = inner(forcing_);
      subtract_operator(right, zero);
      u = expand(separable(std::move(right)), zero);
    } else {
      u = newton();
    }
    return product(product(axes_[0].evaluation, u), axes_[1].evaluation, false, true).data;
  }

 private:
  /// One axis: points inside, points whose values the conditions give, and the operator between
  /// the former with the latter eliminated.
  struct Factor {
    std::vector<Size> inside, known;
    std::vector<int> side;
    Matrix full;               ///< operator, all points
    Matrix known_from_data;    ///< u_known = this g ...
    Matrix known_from_inside;  ///< ... + this u_inside
    Matrix vectors, inverse, schur;
    Vector values;
    bool real = true;
  };

  void set_up(Size k, const double* coefficient, Size n) {
    const Chebyshev& axis = axes_[k];
    Factor& f = factors_[k];
    for (int s = 0; s < 2; ++s)
      if (case_.side(k, s).kind != pde::SideKind::none) {
        f.known.push_back(s == 0 ? 0 : n);
        f.side.push_back(s);
      }
    const Size order = coefficient[2] != 0 ? 2 : coefficient[1] != 0 ? 1 : 0;
    if (order == 0 || Size(f.known.size()) != order) throw Unsupported("conditions of this kind");
    for (Size i = 0; i <= n; ++i)
      if (std::find(f.known.begin(), f.known.end(), i) == f.known.end()) f.inside.push_back(i);
    f.full = Matrix(n + 1, n + 1);
    for (Size i = 0; i <= n; ++i)
      for (Size j = 0; j <= n; ++j)
        f.full(i, j) = coefficient[2] * axis.d[2](i, j) + coefficient[1] * axis.d[1](i, j) +
                       (i == j ? coefficient[0] : 0.0);
    const auto known = std::ssize(f.known), inside = std::ssize(f.inside);
    Matrix rows(known, n + 1), own(known, known);
    for (Size i = 0; i < known; ++i) {
      const pde::Side& side = case_.side(k, f.side[i]);
      for (Size j = 0; j <= n; ++j)
        rows(i, j) = side.b * (f.side[i] == 0 ? -1 : 1) * axis.d[1](f.known[i], j) +
                     (j == f.known[i] ? side.a : 0.0);
      for (Size j = 0; j < known; ++j) own(i, j) = rows(i, f.known[j]);
    }
    f.known_from_data = Matrix(known, known);
    for (Size i = 0; i < known; ++i) f.known_from_data(i, i) = 1;
    Lu(own).solve(f.known_from_data);
    Matrix others(known, inside);
    for (Size i = 0; i < known; ++i)
      for (Size j = 0; j < inside; ++j) others(i, j) = -rows(i, f.inside[j]);
    f.known_from_inside = product(f.known_from_data, others);
    Matrix a(inside, inside), edge(inside, known);
    for (Size i = 0; i < inside; ++i) {
      for (Size j = 0; j < inside; ++j) a(i, j) = f.full(f.inside[i], f.inside[j]);
      for (Size j = 0; j < known; ++j) edge(i, j) = f.full(f.inside[i], f.known[j]);
    }
    const Matrix through = product(edge, f.known_from_inside);
    for (std::size_t i = 0; i < a.data.size(); ++i) a.data[i] += through.data[i];
    const auto r = static_cast<lapack_int>(inside);
    f.schur = a;
    f.vectors = Matrix(inside, inside);
    f.values.resize(inside);
    Vector imaginary(inside);
    LAPACKE_dgeev(LAPACK_ROW_MAJOR, 'N', 'V', r, a.data.data(), r, f.values.data(),
                  imaginary.data(), nullptr, r, f.vectors.data.data(), r);
    for (const double v : imaginary) f.real = f.real && v == 0;
    f.real = f.real && order == 2;
  }

  static void make_schur(Factor& f) {
    const auto r = static_cast<lapack_int>(f.schur.rows);
    lapack_int dimension = 0;
    Vector wr(r), wi(r);
    LAPACKE_dgees(LAPACK_ROW_MAJOR, 'V', 'N', nullptr, r, f.schur.data.data(), r, &dimension,
                  wr.data(), wi.data(), f.vectors.data.data(), r);
  }

  void prepare_nonlinear(double (&coefficient)[2][3]) {
    symbols_ = case_.names;
    for (const auto& symbol : case_.left.symbols())
      if (symbol.starts_with("u")) {
        symbols_.push_back(symbol);
        orders_.push_back(case_.orders(symbol));
      }
    left_ = std::make_unique<Program<double>>(case_.left, symbols_);
    for (std::size_t k = 0; k < orders_.size(); ++k) {
      const Expression slope = case_.left.derivative(symbols_[k + 2]);
      partial_.emplace_back(slope, symbols_);
      if (orders_[k][0] > 0 && orders_[k][1] > 0) throw Unsupported("mixed derivatives");
      const Size axis = orders_[k][1] > 0 ? 1 : 0;
      // The constant-coefficient part preconditions the rest.
      if (slope.symbols().empty()) coefficient[axis][orders_[k][axis]] = slope.constant().hi;
    }
  }

  [[nodiscard]] Matrix inner(const Matrix& all) const {
    Matrix part(std::ssize(factors_[0].inside), std::ssize(factors_[1].inside));
    for (Size i = 0; i < part.rows; ++i)
      for (Size j = 0; j < part.cols; ++j)
        part(i, j) = all(factors_[0].inside[i], factors_[1].inside[j]);
    return part;
  }

  /// Boundary values from the data alone (u = 0 inside).
  void put_sides(Matrix& u) const {
    for (Size k = 0; k < 2; ++k) {
      const Factor &f = factors_[k], &other = factors_[1 - k];
      const Matrix value = product(f.known_from_data, sides_[k]);
      for (Size i = 0; i < value.rows; ++i)
        for (const Size j : other.inside)
          (k == 0 ? u(f.known[i], j) : u(j, f.known[i])) = value(i, j);
    }
  }

  /// right -= (operator applied to what is on the sides), inside
  void subtract_operator(Matrix& right, const Matrix& u) const {
    const Factor &x = factors_[0], &y = factors_[1];
    for (Size i = 0; i < right.rows; ++i)
      for (Size j = 0; j < right.cols; ++j) {
        for (const Size p : x.known) right(i, j) -= x.full(x.inside[i], p) * u(p, y.inside[j]);
        for (const Size p : y.known) right(i, j) -= y.full(y.inside[j], p) * u(x.inside[i], p);
      }
  }

  /// A X + X B^T = R inside
  [[nodiscard]] Matrix separable(Matrix r) const {
    const Factor &x = factors_[0], &y = factors_[1];
    if (!schur_) {
      Matrix c = product(product(x.inverse, r), y.inverse, false, true);
      for (Size i = 0; i < c.rows; ++i)
        for (Size j = 0; j < c.cols; ++j) c(i, j) /= x.values[i] + y.values[j];
      return product(product(x.vectors, c), y.vectors, false, true);
    }
    Matrix c = product(product(x.vectors, r, true), y.vectors);
    double scale = 1;
    LAPACKE_dtrsyl(LAPACK_ROW_MAJOR, 'N', 'T', 1, static_cast<lapack_int>(c.rows),
                   static_cast<lapack_int>(c.cols), x.schur.data.data(),
                   static_cast<lapack_int>(c.rows), y.schur.data.data(),
                   static_cast<lapack_int>(c.cols), c.data.data(), static_cast<lapack_int>(c.cols),
                   &scale);
    for (double& v : c.data) v /= scale;
    return product(product(x.vectors, c), y.vectors, false, true);
  }

  /// Values at all points from those inside; `sides` has what the data add.
  [[nodiscard]] Matrix expand(const Matrix& part, const Matrix& sides) const {
    const Factor &x = factors_[0], &y = factors_[1];
    Matrix u = sides;
    for (Size i = 0; i < part.rows; ++i)
      for (Size j = 0; j < part.cols; ++j) u(x.inside[i], y.inside[j]) = part(i, j);
    const Matrix along = product(x.known_from_inside, part);
    for (Size i = 0; i < along.rows; ++i)
      for (Size j = 0; j < along.cols; ++j) u(x.known[i], y.inside[j]) += along(i, j);
    // The corners follow from the sides of the second axis.
    for (const Size p : x.known) {
      Vector inside;
      inside.reserve(y.inside.size());
      for (const Size j : y.inside) inside.push_back(u(p, j));
      const Vector from = times(y.known_from_inside, inside);
      for (std::size_t i = 0; i < y.known.size(); ++i) {
        double value = from[i];
        for (std::size_t j = 0; j < y.known.size(); ++j)
          value += y.known_from_data(Size(i), Size(j)) * sides_[1](Size(j), p);
        u(p, y.known[i]) = value;
      }
    }
    const Matrix down = product(part, y.known_from_inside, false, true);
    for (Size i = 0; i < down.rows; ++i)
      for (Size j = 0; j < down.cols; ++j) u(x.inside[i], y.known[j]) += down(i, j);
    return u;
  }

  [[nodiscard]] std::vector<Matrix> derivatives(const Matrix& u) const {
    std::vector<Matrix> out;
    for (const auto& order : orders_) {
      Matrix v = order[0] > 0 ? product(axes_[0].d[order[0]], u) : u;
      out.push_back(order[1] > 0 ? product(v, axes_[1].d[order[1]], false, true) : std::move(v));
    }
    return out;
  }

  [[nodiscard]] Matrix newton() const {
    const Vector &x = axes_[0].nodes, &y = axes_[1].nodes;
    const Size n = std::ssize(x), m = std::ssize(y);
    std::vector<Vector> at(2, Vector(n * m));
    for (Size i = 0; i < n; ++i)
      for (Size j = 0; j < m; ++j) {
        at[0][i * m + j] = x[i];
        at[1][i * m + j] = y[j];
      }
    Matrix data(n, m);
    put_sides(data);
    Matrix part(std::ssize(factors_[0].inside), std::ssize(factors_[1].inside));
    Matrix u = expand(part, data);
    double last = 0;
    for (int it = 0; it < 40; ++it) {
      const std::vector<Matrix> fields = derivatives(u);
      std::vector<std::span<const double>> arguments{at[0], at[1]};
      for (const Matrix& f : fields) arguments.emplace_back(f.data);
      Matrix rest(n, m);
      at_points(*left_, arguments, rest.data);
      std::vector<Matrix> slope(orders_.size(), Matrix(n, m));
      for (std::size_t k = 0; k < orders_.size(); ++k)
        at_points(partial_[k], arguments, slope[k].data);
      const auto apply = [&](const Vector& v) {
        Matrix w(part.rows, part.cols);
        w.data = v;
        const std::vector<Matrix> d = derivatives(homogeneous(separable(std::move(w))));
        Matrix sum(n, m);
        for (std::size_t k = 0; k < d.size(); ++k)
          for (std::size_t i = 0; i < sum.data.size(); ++i)
            sum.data[i] += slope[k].data[i] * d[k].data[i];
        return inner(sum).data;
      };
      Matrix w(part.rows, part.cols);
      w.data = halfulp::detail::gmres(inner(rest).data, apply, 1e-8, 100);
      const Matrix step = separable(std::move(w));
      double change = 0, size = 0;
      for (std::size_t i = 0; i < part.data.size(); ++i) {
        part.data[i] -= step.data[i];
        change = std::max(change, std::fabs(step.data[i]));
        size = std::max(size, std::fabs(part.data[i]));
      }
      u = expand(part, data);
      if (!(change > 1e-9 * size) || (it > 3 && change > 0.5 * last && change < 1e-6 * size)) break;
      last = change;
    }
    return u;
  }

  /// Values at all points of a correction, which has no data on the sides.
  [[nodiscard]] Matrix homogeneous(const Matrix& part) const {
    const Factor &x = factors_[0], &y = factors_[1];
    Matrix rows(x.known_from_inside.rows + part.rows, part.cols);
    Matrix u(std::ssize(axes_[0].nodes), std::ssize(axes_[1].nodes));
    const auto put = [&u, &x](Size i, bool known, const Matrix& from, const Factor& f, bool edge) {
      const Size at = known ? x.known[i] : x.inside[i];
      for (Size j = 0; j < from.cols; ++j) u(at, edge ? f.known[j] : f.inside[j]) = from(i, j);
    };
    const Matrix along = product(x.known_from_inside, part);
    const Matrix across = product(part, y.known_from_inside, false, true);
    const Matrix corner = product(along, y.known_from_inside, false, true);
    for (Size i = 0; i < part.rows; ++i) {
      put(i, false, part, y, false);
      put(i, false, across, y, true);
    }
    for (Size i = 0; i < along.rows; ++i) {
      put(i, true, along, y, false);
      put(i, true, corner, y, true);
    }
    return u;
  }

  const Case& case_;
  std::vector<Chebyshev> axes_;
  Factor factors_[2];
  bool schur_ = false;
  Matrix forcing_;
  std::array<Matrix, 2> sides_;
  std::vector<std::string> symbols_;
  std::vector<std::vector<int>> orders_;
  std::unique_ptr<Program<double>> left_;
  std::vector<Program<double>> partial_;
};

// ---- measuring ----

template <class Method>
double error_at(const Case& c, Size n) {
  Method method(c, n);
  method.data();
  return relative_error(c.file.problem, c.grid, method.solve());
}

/// The smallest N within a factor two of the best error; stops when larger ones no longer help.
template <class Method>
std::pair<Size, double> choose(const Case& c) {
  std::vector<std::pair<Size, double>> errors;
  double best = std::numeric_limits<double>::infinity();
  int since = 0;
  for (Size n = 24; n <= Method::largest; n = 2 * static_cast<Size>(std::ceil(double(n) * 0.55))) {
    const double error = error_at<Method>(c, n);
    errors.emplace_back(n, error);
    since = error < 0.5 * best ? 0 : since + 1;
    if (error < best) best = error;
    if (best < 1e-6 && since >= 4) break;
  }
  if (!(best < 1)) throw Unsupported("no convergence");
  return *std::find_if(errors.begin(), errors.end(),
                       [best](const auto& entry) { return entry.second <= 2 * best; });
}

template <class Method>
void measure(const Case& c, int repeats) {
  try {
    const auto [n, error] = choose<Method>(c);
    Vector setup, data, solve;
    for (int i = 0; i < repeats; ++i) {
      Stopwatch watch;
      Method method(c, n);
      setup.push_back(watch.seconds());
      for (int again = 0; again < 2; ++again) {  // the second is warm, as a repeated solve is
        Stopwatch data_watch;
        method.data();
        const double ready = data_watch.seconds();
        Stopwatch solve_watch;
        const Vector values = method.solve();
        if (again == 0) continue;
        solve.push_back(solve_watch.seconds());
        data.push_back(ready);
      }
    }
    std::cout << nlohmann::ordered_json{{"problem", c.file.problem.name},
                                        {"method", Method::label},
                                        {"n", n},
                                        {"unknowns", c.dimension() == 1 ? n : n * n},
                                        {"error", error},
                                        {"setup", median(setup)},
                                        {"data", median(data)},
                                        {"solve", median(solve)}}
                     .dump()
              << std::endl;
  } catch (const Unsupported& reason) {
    std::cerr << c.file.problem.name << ": " << Method::label << ": " << reason.what() << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Arguments arguments(argc, argv);
  if (arguments.files.empty()) {
    std::cerr << "usage: bench_chebyshev [--repeats N] FILE.toml...\n";
    return 2;
  }
  for (const char* file : arguments.files) try {
      const Case c(file);
      measure<Integration>(c, arguments.repeats);
      measure<Collocation1D>(c, arguments.repeats);
      measure<LegendreGalerkin>(c, arguments.repeats);
      measure<Collocation2D>(c, arguments.repeats);
    } catch (const Unsupported& reason) {
      std::cerr << file << ": " << reason.what() << '\n';
    } catch (const std::exception& error) {
      std::cerr << "bench_chebyshev: " << error.what() << '\n';
      return 1;
    }
}
