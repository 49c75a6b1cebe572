#pragma once

#include <boost/multiprecision/mpfr.hpp>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <random>
#include <string>
#include <utility>
#include <vector>

/// H = lambda I + G^T G/m and its inverse in MPFR with 100 digits (332 bits): `Dense` forms the d x
/// d matrix and factorises it; `Reference` solves with the m x m matrix m lambda I + G G^T, which
/// is the same number in exact arithmetic, and to 60 digits in this one (tests/mfac.cpp).
namespace mfac_mpfr {

using Real = boost::multiprecision::number<
    boost::multiprecision::mpfr_float_backend<100, boost::multiprecision::allocate_stack>,
    boost::multiprecision::et_off>;
using Numbers = std::vector<double>;
using Reals = std::vector<Real>;

/// Lower Cholesky factor of an n x n matrix, row by row.
inline void cholesky(Reals& a, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      Real sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? Real(sqrt(sum)) : Real(sum / a[j * n + j]);
    }
}
inline Reals solve_lower(const Reals& l, std::size_t n, Reals b) {
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < i; ++k) b[i] -= l[i * n + k] * b[k];
    b[i] /= l[i * n + i];
  }
  return b;
}
inline Reals solve(const Reals& l, std::size_t n, Reals b) {
  b = solve_lower(l, n, std::move(b));
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t k = i + 1; k < n; ++k) b[i] -= l[k * n + i] * b[k];
    b[i] /= l[i * n + i];
  }
  return b;
}
inline Real dot(const Reals& a, const Reals& b) {
  Real sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Eigenvalues and vectors (rows of `vectors`) of a symmetric matrix by cyclic Jacobi rotations.
inline void jacobi(Reals& a, std::size_t n, Reals& vectors) {
  vectors.assign(n * n, Real(0));
  for (std::size_t i = 0; i < n; ++i) vectors[i * n + i] = 1;
  for (int sweep = 0; sweep < 40; ++sweep) {
    Real off = 0, whole = 0;
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        whole += a[i * n + j] * a[i * n + j];
        if (i != j) off += a[i * n + j] * a[i * n + j];
      }
    if (off <= ldexp(whole, -520)) return;
    for (std::size_t p = 0; p + 1 < n; ++p)
      for (std::size_t q = p + 1; q < n; ++q) {
        if (a[p * n + q] == 0) continue;
        const Real theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
        const Real t = (theta >= 0 ? Real(1) : Real(-1)) / (abs(theta) + sqrt(theta * theta + 1));
        const Real c = 1 / sqrt(t * t + 1), s = t * c;
        for (std::size_t k = 0; k < n; ++k) {
          const Real x = a[k * n + p], y = a[k * n + q];
          a[k * n + p] = c * x - s * y;
          a[k * n + q] = s * x + c * y;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const Real x = a[p * n + k], y = a[q * n + k];
          a[p * n + k] = c * x - s * y;
          a[q * n + k] = s * x + c * y;
        }
        for (std::size_t k = 0; k < n; ++k) {
          const Real x = vectors[p * n + k], y = vectors[q * n + k];
          vectors[p * n + k] = c * x - s * y;
          vectors[q * n + k] = s * x + c * y;
        }
      }
  }
}

class Dense {
 public:
  Dense(const Numbers& g, std::size_t m, std::size_t d, double lambda) : d_(d), h_(d * d) {
    for (std::size_t i = 0; i < d; ++i)
      for (std::size_t j = 0; j < d; ++j) {
        for (std::size_t k = 0; k < m; ++k) h_[i * d + j] += Real(g[k * d + i]) * g[k * d + j];
        h_[i * d + j] /= m;
        if (i == j) h_[i * d + j] += lambda;
      }
    l_ = h_;
    cholesky(l_, d);
  }
  [[nodiscard]] Reals product(const Numbers& x) const {
    return solve(l_, d_, Reals(x.begin(), x.end()));
  }
  [[nodiscard]] Real log_determinant() const {
    Real sum = 0;
    for (std::size_t i = 0; i < d_; ++i) sum += 2 * log(l_[i * d_ + i]);
    return sum;
  }
  [[nodiscard]] Reals root_product(const Numbers& x) const {
    Reals a = h_, vectors;
    jacobi(a, d_, vectors);
    Reals y(d_);
    for (std::size_t k = 0; k < d_; ++k) {
      Real along = 0;
      for (std::size_t j = 0; j < d_; ++j) along += vectors[k * d_ + j] * x[j];
      along /= sqrt(a[k * d_ + k]);
      for (std::size_t j = 0; j < d_; ++j) y[j] += along * vectors[k * d_ + j];
    }
    return y;
  }

 private:
  std::size_t d_;
  Reals h_, l_;
};

class Reference {
 public:
  Reference(const Numbers& g, std::size_t m, std::size_t d, double lambda)
      : m_(m), d_(d), lambda_(lambda), g_(g.begin(), g.end()), gram_(m * m) {
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j <= i; ++j) {
        Real sum = 0;
        for (std::size_t k = 0; k < d; ++k) sum += g_[i * d + k] * g_[j * d + k];
        gram_[i * m + j] = gram_[j * m + i] = sum;
      }
    l_ = gram_;
    for (std::size_t i = 0; i < m; ++i) l_[i * m + i] += lambda_ * m;
    cholesky(l_, m);
  }

  [[nodiscard]] Reals project(const Reals& x) const {
    Reals c(m_);
    for (std::size_t i = 0; i < m_; ++i)
      for (std::size_t j = 0; j < d_; ++j) c[i] += g_[i * d_ + j] * x[j];
    return c;
  }
  /// G^T a.
  [[nodiscard]] Reals combine(const Reals& a) const {
    Reals y(d_);
    for (std::size_t i = 0; i < m_; ++i)
      for (std::size_t j = 0; j < d_; ++j) y[j] += g_[i * d_ + j] * a[i];
    return y;
  }
  [[nodiscard]] Reals product(const Reals& x) const {
    const Reals along = combine(solve(l_, m_, project(x)));
    Reals y(d_);
    for (std::size_t j = 0; j < d_; ++j) y[j] = (x[j] - along[j]) / lambda_;
    return y;
  }
  [[nodiscard]] Reals product(const Numbers& x) const { return product(Reals(x.begin(), x.end())); }
  [[nodiscard]] Reals combination(const Numbers& a) const {
    return product(combine(Reals(a.begin(), a.end())));
  }
  [[nodiscard]] Reals influence(const Numbers& x) const { return project(product(x)); }
  [[nodiscard]] Real quadratic_form(const Numbers& x) const {
    return dot(Reals(x.begin(), x.end()), product(x));
  }
  /// Columns L^-1 G e_j, one after the other.
  [[nodiscard]] const Reals& columns() const {
    if (columns_.empty()) {
      columns_.reserve(m_ * d_);
      for (std::size_t j = 0; j < d_; ++j) {
        Reals column(m_);
        for (std::size_t i = 0; i < m_; ++i) column[i] = g_[i * d_ + j];
        for (const Real& value : solve_lower(l_, m_, std::move(column))) columns_.push_back(value);
      }
    }
    return columns_;
  }
  [[nodiscard]] Real element(std::size_t i, std::size_t j) const {
    const Reals& w = columns();
    Real sum = i == j ? 1 : 0;
    for (std::size_t k = 0; k < m_; ++k) sum -= w[i * m_ + k] * w[j * m_ + k];
    return sum / lambda_;
  }
  [[nodiscard]] Real log_determinant() const {
    Real sum = d_ * log(lambda_) - m_ * log(lambda_ * m_);
    for (std::size_t i = 0; i < m_; ++i) sum += 2 * log(l_[i * m_ + i]);
    return sum;
  }
  [[nodiscard]] Real inverse_trace() const {
    Real sum = 0;
    for (std::size_t j = 0; j < d_; ++j) sum += element(j, j);
    return sum;
  }
  /// H^-1/2 x = lambda^-1/2 (x + sum ((1 + s/(m lambda))^-1/2 - 1) (v . x) v), v = G^T u/sqrt(s),
  /// over the eigenvalues s > 0 and vectors u of G G^T.
  [[nodiscard]] Reals root_product(const Numbers& x) const {
    if (vectors_.empty()) {
      values_ = gram_;
      jacobi(values_, m_, vectors_);
    }
    Reals y(x.begin(), x.end());
    const Reals c = project(y);
    for (std::size_t k = 0; k < m_; ++k) {
      const Real s = values_[k * m_ + k];
      if (s <= ldexp(lambda_, -200)) continue;
      Real along = 0;
      for (std::size_t i = 0; i < m_; ++i) along += vectors_[k * m_ + i] * c[i];
      along *= (1 / sqrt(1 + s / (lambda_ * m_)) - 1) / s;
      for (std::size_t i = 0; i < m_; ++i) {
        const Real a = along * vectors_[k * m_ + i];
        for (std::size_t j = 0; j < d_; ++j) y[j] += a * g_[i * d_ + j];
      }
    }
    for (Real& value : y) value /= sqrt(lambda_);
    return y;
  }
  /// 1 + sigma_max^2/(m lambda).
  [[nodiscard]] double condition() const {
    Reals v(m_, Real(1)), next(m_);
    for (std::size_t i = 0; i < m_; ++i) v[i] += Real(static_cast<double>(i % 7)) / 10;
    Real value = 0;
    for (int step = 0; step < 60; ++step) {
      for (std::size_t i = 0; i < m_; ++i) {
        next[i] = 0;
        for (std::size_t j = 0; j < m_; ++j) next[i] += gram_[i * m_ + j] * v[j];
      }
      value = sqrt(dot(next, next) / dot(v, v));
      if (value == 0) break;
      const Real norm = sqrt(dot(next, next));
      for (std::size_t i = 0; i < m_; ++i) v[i] = next[i] / norm;
    }
    return static_cast<double>(1 + value / (lambda_ * m_));
  }
  [[nodiscard]] const Reals& factor() const { return l_; }  ///< of m lambda I + G G^T, by rows

 private:
  std::size_t m_, d_;
  Real lambda_;
  Reals g_, gram_, l_;
  mutable Reals columns_, values_, vectors_;
};

/// |y - reference|/|reference|.
template <class T>
double relative_error(const std::vector<T>& y, const Reals& reference) {
  Real error = 0, square = 0;
  for (std::size_t j = 0; j < y.size(); ++j) {
    const Real difference = Real(y[j]) - reference[j];
    error += difference * difference;
    square += reference[j] * reference[j];
  }
  if (square == 0) return error == 0 ? 0 : HUGE_VAL;
  const double result = static_cast<double>(sqrt(error / square));
  return std::isfinite(result) ? result : HUGE_VAL;
}
inline double relative_error(double y, const Real& reference) {
  if (reference == 0) return y == 0 ? 0 : HUGE_VAL;
  const double result = static_cast<double>(abs((Real(y) - reference) / reference));
  return std::isfinite(result) ? result : HUGE_VAL;
}

// ---- cases --------------------------------------------------------------------------------------

struct Case {
  std::string name;
  std::size_t m, d;
  double lambda;
  Numbers g;
};
struct Vector {
  std::string name;
  Numbers x;
};

/// Standard normal numbers, the same everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  double uniform() { return (static_cast<double>(engine_() >> 12) + 0.5) * 0x1p-52; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  Numbers normals(std::size_t n) {
    Numbers x(n);
    for (double& value : x) value = normal();
    return x;
  }

 private:
  std::mt19937_64 engine_;
};

/// `single`: all numbers are floats.
inline std::vector<Case> cases(bool single, std::uint64_t seed = 1) {
  std::vector<Case> all;
  Random random(seed);
  const auto add = [&](std::string name, std::size_t m, std::size_t d, double lambda, Numbers g) {
    if (single)
      for (double& value : g) value = static_cast<float>(value);
    all.push_back({std::move(name), m, d, lambda, std::move(g)});
  };
  for (const double lambda : {1e-8, 1e-5, 1e-2, 1.0}) {
    add("random", 8, 40, lambda, random.normals(8 * 40));
    add("random", 32, 400, lambda, random.normals(32 * 400));
  }
  add("random", 64, 200, 1e-6, random.normals(64 * 200));
  const auto parallel = [&](std::size_t m, std::size_t d, double spread) {
    const Numbers base = random.normals(d);
    Numbers g(m * d);
    for (std::size_t i = 0; i < m * d; ++i) g[i] = base[i % d] + spread * random.normal();
    return g;
  };
  for (const double lambda : {1e-10, 1e-8, 1e-5, 1e-3})
    for (const double spread : {1e-6, 1e-3, 1e-1})
      add("parallel " + std::to_string(spread), 16, 100, lambda, parallel(16, 100, spread));
  add("parallel 1e-4", 32, 400, 1e-8, parallel(32, 400, 1e-4));
  for (const double lambda : {1e-10, 1e-8, 1e-4}) {
    const std::size_t m = 24, d = 120;
    const Numbers basis = random.normals(2 * d);
    Numbers g(m * d);
    for (std::size_t i = 0; i < m; ++i) {
      const double a = i % 6 == 0 ? 0 : i % 3, b = i % 6 == 0 ? 0 : i % 2;  // zero and equal rows
      for (std::size_t j = 0; j < d; ++j) g[i * d + j] = a * basis[j] + b * basis[d + j];
    }
    add("rank 2", m, d, lambda, g);
  }
  for (const double lambda : {1e-8, 1e-4, 1e-1}) {
    add("m > d", 64, 40, lambda, random.normals(64 * 40));
    add("m > d, parallel", 60, 40, lambda, parallel(60, 40, 1e-4));
  }
  for (const double lambda : {1e-8, 1e-4}) {
    const std::size_t m = 20, d = 150;
    Numbers g = random.normals(m * d);
    for (std::size_t i = 0; i < m; ++i) {
      const double scale = std::ldexp(1.0, static_cast<int>(std::lround(-30 + 40.0 * i / (m - 1))));
      for (std::size_t j = 0; j < d; ++j) g[i * d + j] *= scale;
    }
    add("scaled rows", m, d, lambda, g);
  }
  for (const double size : {1e3, 1e6}) {
    const std::size_t m = 16, d = 120;
    Numbers g = random.normals(m * d);
    for (std::size_t i = 0; i < m; ++i) g[i * d + 17] *= size, g[i * d + 90] *= size / 10;
    add("dominating columns", m, d, 1e-3, g);
  }
  add("one row", 1, 50, 1e-6, random.normals(50));
  add("one column", 30, 1, 1e-6, random.normals(30));
  add("zeros", 5, 40, 1e-3, Numbers(200));
  if (!single)  // squares of G^T A^-1 G x/lambda are out of range
    for (const int exponent : {-210, 190}) {
      Numbers g = random.normals(12 * 60);
      for (double& value : g) value = std::ldexp(value, exponent);
      add("far away", 12, 60, std::ldexp(1e-2, 2 * exponent), g);
    }
  return all;
}

/// Right-hand sides that cancel in one way or another, and some that do not.
inline std::vector<Vector> vectors(const Case& c, bool single, std::uint64_t seed = 7) {
  std::vector<Vector> all;
  Random random(seed);
  const auto add = [&](std::string name, Numbers x) {
    if (single)
      for (double& value : x) value = static_cast<float>(value);
    all.push_back({std::move(name), std::move(x)});
  };
  const auto row = [&](std::size_t i) {
    const auto from = c.g.begin() + static_cast<std::ptrdiff_t>(i * c.d);
    return Numbers(from, from + static_cast<std::ptrdiff_t>(c.d));
  };
  add("random", random.normals(c.d));
  add("first row", row(0));
  add("last row", row(c.m - 1));
  Numbers x = row(c.m / 2);
  for (double& value : x) value *= -3;
  add("-3 row", x);
  x = row(c.m - 1);
  for (double& value : x) value *= 1 + 1e-9 * random.normal();
  add("nearly a row", x);
  x.assign(c.d, 0.0);
  for (std::size_t i = 0; i < c.m; ++i) {
    const double a = random.normal();
    for (std::size_t j = 0; j < c.d; ++j) x[j] += a * c.g[i * c.d + j];
  }
  add("combination", x);
  x = random.normals(c.d);
  for (int step = 0; step < 200; ++step) {
    Numbers next(c.d);
    for (std::size_t i = 0; i < c.m; ++i) {
      double dot = 0;
      for (std::size_t j = 0; j < c.d; ++j) dot += c.g[i * c.d + j] * x[j];
      for (std::size_t j = 0; j < c.d; ++j) next[j] += dot * c.g[i * c.d + j];
    }
    double largest = 0, square = 0;
    for (const double value : next) largest = std::fmax(largest, std::fabs(value));
    if (largest == 0) break;
    for (const double value : next) square += value / largest * (value / largest);
    for (std::size_t j = 0; j < c.d; ++j) x[j] = next[j] / largest / std::sqrt(square);
  }
  add("largest eigenvector", x);
  x.assign(c.d, 0.0);
  x[c.d / 2] = 1;
  add("unit vector", x);
  // Rounding of G x is all there is of it.
  if (c.m < c.d) {
    x = random.normals(c.d);
    std::vector<Numbers> basis;
    for (std::size_t i = 0; i <= c.m; ++i) {
      Numbers v = i < c.m ? row(i) : x;
      for (int round = 0; round < 2; ++round)
        for (const Numbers& b : basis) {
          double along = 0;
          for (std::size_t j = 0; j < c.d; ++j) along += b[j] * v[j];
          for (std::size_t j = 0; j < c.d; ++j) v[j] -= along * b[j];
        }
      double largest = 0, square = 0;
      for (const double value : v) largest = std::fmax(largest, std::fabs(value));
      if (!(largest > 0)) continue;
      for (const double value : v) square += value / largest * (value / largest);
      for (double& value : v) value /= largest * std::sqrt(square);
      basis.push_back(v);
    }
    add("orthogonal", basis.back());
  }
  return all;
}

}  // namespace mfac_mpfr
