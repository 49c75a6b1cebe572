#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "detail/mfac_factor.hpp"
#include "detail/mfac_rows_simd.hpp"
#include "detail/require.hpp"
#include "halfulp/mfac.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"

/// Products with H^-1 from a Factor and the two sums over rows, however these are held:
///
///     rows.project(x, k, out, squares)      out[c n + i] = g_i . x_c, squares[c] = x_c . x_c
///     rows.combine(a, k, scale, x, y)       y_c = scale x_c + sum_i a[c n + i] g_i
///     rows.equal(i, x)                      whether x is row i
///
/// with the rows in the order of the factor and H = lambda I + G^T G/m.
namespace halfulp::mfac::detail {

struct Damped {
  double damping;     ///< lambda, or the larger one of a factor with a lost pivot
  double normaliser;  ///< m
  int threads;
  [[nodiscard]] double shift() const { return damping * normaliser; }
  /// With this damping, from that of H.
  [[nodiscard]] double condition(double of_h, const Factor& factor) const {
    return factor.lost().row < 0 ? of_h : 1 + (of_h - 1) * (factor.shift() / factor.applied());
  }
};

/// The H that the factor stands for. With a larger damping no eigenvalue of H^-1 is larger, nor
/// below 0: but for rounding the error of a product is not above the product.
inline Damped damped(const Factor& factor, double damping, double normaliser, int threads) {
  return {factor.lost().row < 0 ? damping : factor.applied() / normaliser, normaliser, threads};
}

/// |x|, 2-norm: the same bits for any number of threads. NaN or infinite if a number is.
template <class T>
double norm_of(std::span<const T> x, int threads) {
  constexpr Storage storage = sizeof(T) == 8 ? Storage::float64 : Storage::float32;
  constexpr std::ptrdiff_t block = 1 << 15;
  const std::ptrdiff_t n = std::ssize(x);
  std::vector<double> squares(static_cast<std::size_t>((n + block - 1) / block));
  parallel_blocks(n, block, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    squares[static_cast<std::size_t>(begin / block)] =
        mfac_square(storage, reinterpret_cast<const std::byte*>(x.data() + begin), end - begin);
  });
  const double square = tree_sum(squares, 1);
  if (square > 0x1p-900 && square < HUGE_VAL) return std::sqrt(square);
  double largest = 0;  // NaN stays
  for (const T value : x)
    if (!(std::fabs(static_cast<double>(value)) <= largest))
      largest = std::fabs(static_cast<double>(value));
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  double sum = 0;
  for (const T value : x) sum += std::pow(static_cast<double>(value) / largest, 2);
  return largest * std::sqrt(sum);
}

/// Status and condition of the factor.
inline Diagnosis diagnose(Factor& factor) {
  Diagnosis d;
  d.condition = 1 + factor.largest() / factor.shift();
  d.error = std::fmin(1.0, d.condition * 0x1p-52);
  const Factor::LostPivot lost = factor.lost();
  d.pivot = lost.row;
  if (lost.row >= 0) {
    d.status = Conditioning::lost;
    d.pivot_value = lost.value;
    d.error = 1;
  } else if (d.condition * 0x1p-52 > 1e-3) {
    d.status = Conditioning::ill;
  }
  return d;
}

template <class T>
constexpr double rounding_of = sizeof(T) == 8 ? 0x1p-53 : 0x1p-24;

inline double norm2(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

/// sum |a_i| |g_i|: what a rounding of each a_i is to G^T a.
inline double terms_of(const Factor& factor, std::span<const double> a) {
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < factor.count(); ++i)
    sum += std::fabs(a[static_cast<std::size_t>(i)]) * std::sqrt(factor.gram(i, i));
  return sum;
}

/// An estimate of |G^T K^-1 E a| for a rounding E of K, in units of rounding, below `enough` if
/// that is easily had. With D the roots of K's diagonal, E is D times numbers of a few units times
/// D, so that D times one vector, neither smooth nor of mean 0, shows what G^T K^-1 makes of it; of
/// that |L^-1 ...| is a bound, and otherwise it takes a pass over the rows, into `scratch`.
template <class T, class Rows>
double seen_through(const Rows& rows, const Factor& factor, std::span<const double> a,
                    double enough, std::span<T> scratch, int threads) {
  const auto n = static_cast<std::size_t>(factor.count());
  std::vector<double> w(n);
  RandomStream(0x6d666163).fill_normal(w);
  double square = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::ptrdiff_t>(i);
    const double root = std::sqrt(factor.gram(row, row) + factor.applied());
    w[i] = root * (1 + 2 * w[i]);
    square += root * a[i] * (root * a[i]);
  }
  const double size = 8 * std::sqrt(square);
  factor.forward(w);
  const double bound = size * norm2(w);
  if (bound <= enough) return bound;
  factor.backward(w);
  rows.template combine<T>(w, 1, 0.0, {}, scratch);
  return std::fmin(bound, size * norm_of<T>(scratch, threads));
}

/// y = m G^T a, a near K^-1 b: loses nothing where H^-1 (G^T b) would cancel. Returns an estimate
/// of the relative error of y.
template <class T, class Rows>
double push_through(const Rows& rows, const Factor& factor, const Damped& h, double condition,
                    std::vector<double>& a, std::span<const double> b, std::span<T> y) {
  const bool whole = factor.lost().row < 0;
  // Where much cancels in G^T a, as it does for equal gradients, most of b is along eigenvectors of
  // K with the least eigenvalues. The substitutions cost m roundings of a then; one is left of
  // them.
  if (whole && condition > 256 && h.shift() * norm2(a) > norm2(b) / 4) factor.refine(b, a);
  double along = 0;  // |G^T a|^2 = a.b - m lambda |a|^2
  for (std::size_t i = 0; i < a.size(); ++i) along += a[i] * (b[i] - h.shift() * a[i]);
  const double size = std::sqrt(std::fmax(along, 0.0));
  // A rounding of K, seen through G^T K^-1: no more than 1/(2 sqrt(m lambda)). A better estimate
  // where that is much.
  const double most = condition * std::sqrt(h.shift()) * norm2(a) / 2;
  const double enough = 0x1p14 * size;
  double through = most;
  if (whole && most > std::fmin(4 * condition, 0x1p24) * size && most > enough)
    through = std::fmin(most, seen_through<T>(rows, factor, a, enough, y, h.threads));
  const double terms = terms_of(factor, a);
  for (double& value : a) value *= h.normaliser;
  rows.template combine<T>(a, 1, 0.0, {}, y);
  if (terms == 0) return sizeof(T) == 8 ? 0 : rounding_of<T>;
  const double unit = 0x1p-52 * h.normaliser / norm_of<T>(y, h.threads);
  double error = unit * (4 * terms + through);
  if (!(error <= 0x1p-4)) error = unit * (4 * terms + most);  // first order is not enough here
  return error + (sizeof(T) == 8 ? 0 : rounding_of<T>);
}

/// What is said of products with a lost pivot, whose rounding is `error`.
inline double error_said(const Diagnosis& diagnosis, double error) {
  return diagnosis.status == Conditioning::lost ? 1 + error : error;
}

/// y = m G^T a, a = K^-1 b.
template <class T, class Rows>
Diagnosis pushed_through(const Rows& rows, Factor& factor, const Damped& h,
                         std::span<const double> b, std::vector<double> a, std::span<T> y) {
  Diagnosis diagnosis = diagnose(factor);
  const double condition = h.condition(diagnosis.condition, factor);
  diagnosis.error = error_said(diagnosis, push_through<T>(rows, factor, h, condition, a, b, y));
  return diagnosis;
}

/// y = H^-1 g for the newest row g.
template <class T, class Rows>
Diagnosis inverse_newest(const Rows& rows, Factor& factor, const Damped& h, std::span<T> y) {
  std::vector<double> b(static_cast<std::size_t>(factor.count())), a(b);
  b.back() = 1;
  factor.solve_newest(a);
  return pushed_through<T>(rows, factor, h, b, std::move(a), y);
}

/// y_c = H^-1 x_c for k vectors, x may be y.
///
/// (x - G^T a)/lambda with K a = G x cancels where x is nearly a combination of rows. The defect of
/// what came out, t = G y - m a, is zero for the true y; with delta = K^-1 t the correction
/// y -= G^T delta, a += lambda delta is a step of refinement of K a = G x whose residual is formed
/// from the rows, not from K, and whose rounding is relative to y: two passes, taken only where
/// |x|/lambda is much larger than |y|. A row itself is pushed through.
template <class T, class Rows>
Diagnosis inverse_product(const Rows& rows, Factor& factor, const Damped& h,
                          std::string_view function, std::span<const T> x, std::span<T> y) {
  const std::ptrdiff_t n = factor.count(), d = rows.dimension();
  if (d == 0 || std::ssize(x) % d != 0 || x.empty())
    throw ShapeError(function, "x.size()", std::to_string(x.size()),
                     "a multiple of d = " + std::to_string(d) + ", > 0");
  halfulp::detail::require_size(function, "y", std::ssize(y), std::ssize(x));
  const std::ptrdiff_t k = std::ssize(x) / d;
  const auto part = [&](auto values, std::ptrdiff_t c, std::ptrdiff_t size) {
    return values.subspan(static_cast<std::size_t>(c * size), static_cast<std::size_t>(size));
  };
  std::vector<double> a(static_cast<std::size_t>(n * k)), norms(static_cast<std::size_t>(k));
  std::vector<std::ptrdiff_t> same(static_cast<std::size_t>(k), -1);
  rows.template project<T>(x, k, a, norms);
  for (std::ptrdiff_t c = 0; c < k; ++c) {
    double& norm = norms[static_cast<std::size_t>(c)];
    const double square = norm;
    norm = square > 0x1p-900 && square < HUGE_VAL ? std::sqrt(square)
                                                  : norm_of<T>(part(x, c, d), h.threads);
    if (!std::isfinite(norm)) halfulp::detail::require_finite<T>(function, "x", x, d);
    for (std::ptrdiff_t i = n - 1; i >= 0; --i) {
      const double own = factor.gram(i, i), bound = 1e-10 * own;
      if (own > 0 && std::fabs(a[static_cast<std::size_t>(c * n + i)] - own) <= bound &&
          std::fabs(square - own) <= bound && rows.equal(i, x.data() + c * d)) {
        same[static_cast<std::size_t>(c)] = i;
        break;
      }
    }
  }
  Diagnosis diagnosis = diagnose(factor);
  const double condition = h.condition(diagnosis.condition, factor);
  parallel_for(k, h.threads,
               [&](std::ptrdiff_t c) { factor.solve(part(std::span<double>(a), c, n)); });
  std::vector<double> scaled(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) scaled[i] = -a[i] / h.damping;
  rows.template combine<T>(scaled, k, 1 / h.damping, x, y);

  double worst = 0;
  for (std::ptrdiff_t c = 0; c < k; ++c) {
    const std::span<T> out = part(y, c, d);
    if (same[static_cast<std::size_t>(c)] >= 0) {
      std::vector<double> b(static_cast<std::size_t>(n), 0.0);
      b[static_cast<std::size_t>(same[static_cast<std::size_t>(c)])] = 1;
      std::vector<double> solved = b;
      factor.solve(solved);
      worst = std::fmax(worst, push_through<T>(rows, factor, h, condition, solved, b, out));
      continue;
    }
    const double given = norms[static_cast<std::size_t>(c)] / h.damping;
    if (given == 0) continue;
    const std::span<double> ac = part(std::span<double>(a), c, n);
    double norm = norm_of<T>(out, h.threads);
    // |x|, G x (through G^T K^-1, |G| of it no more than sqrt(cond(H))/2), a and sums over rows
    // rounded, and K
    const double terms = (1 + std::sqrt(static_cast<double>(n))) * terms_of(factor, ac) / h.damping;
    double error = 0x1p-53 *
                   ((2 + std::sqrt(condition)) * given + terms +
                    condition * std::sqrt(h.shift()) / 2 * norm2(ac) / h.damping) /
                   norm;
    if (given > 16 * norm || !(error < 64 * 0x1p-53 * condition)) {
      std::vector<double> t(static_cast<std::size_t>(n)), delta(t.size());
      double before = HUGE_VAL;
      for (int step = 0; step < 12; ++step) {
        rows.template project<T>(std::span<const T>(out), 1, t, {});
        for (std::size_t i = 0; i < t.size(); ++i) t[i] -= h.normaliser * ac[i];
        delta = t;
        factor.solve(delta);
        double square = 0;  // |G^T delta|^2
        for (std::size_t i = 0; i < t.size(); ++i)
          square += delta[i] * (t[i] - h.shift() * delta[i]);
        const double change = std::sqrt(std::fmax(square, 0.0));
        if (!(change <= before / 2)) break;  // rounding by now, or no convergence
        for (std::size_t i = 0; i < t.size(); ++i) {
          ac[i] += h.damping * delta[i];
          t[i] = -delta[i];
        }
        rows.template combine<T>(t, 1, 1.0, std::span<const T>(out), out);
        before = change;
        norm = norm_of<T>(out, h.threads);
        if (change <= 2 * rounding_of<T> * norm) break;
      }
      // x itself, and x - G^T a, were rounded: H^-1 of a rounding of x
      error = 0x1p-52 * ((given + terms) / norm + std::sqrt(condition)) +
              std::fmin(before, HUGE_VAL) / norm * std::fmin(1.0, 0x1p-50 * condition);
    }
    worst = std::fmax(worst, error + (sizeof(T) == 8 ? 0 : rounding_of<T>));
  }
  diagnosis.error = error_said(diagnosis, worst);
  return diagnosis;
}

}  // namespace halfulp::mfac::detail
