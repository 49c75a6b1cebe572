#include "halfulp/mfac_baselines.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../validation/oracle/mfac.hpp"
#include "halfulp/error.hpp"
#include "halfulp/mfac.hpp"

using Catch::Matchers::Contains;
namespace baseline = halfulp::mfac::baseline;
using baseline::Factorisation;
using baseline::Operator;
using halfulp::DomainError;
using halfulp::ShapeError;
using halfulp::Status;
using mfac_mpfr::Case;
using mfac_mpfr::Numbers;
using mfac_mpfr::Reals;
using mfac_mpfr::Reference;
using mfac_mpfr::relative_error;

namespace {

template <class T = double>
std::vector<T> cast(const Numbers& x) {
  return {x.begin(), x.end()};
}
Case random_case(std::size_t m, std::size_t d, double lambda, std::uint64_t seed = 5) {
  mfac_mpfr::Random random(seed);
  Case c{"random", m, d, lambda, random.normals(m * d)};
  for (double& value : c.g) value = static_cast<float>(value);
  return c;
}
template <class T>
Operator<T> operator_of(const std::vector<T>& g, std::size_t d, double lambda, int threads = 1) {
  return Operator<T>(g, static_cast<std::ptrdiff_t>(d), static_cast<T>(lambda), threads);
}
template <class T, class H>
std::vector<T> product(const H& h, const std::vector<T>& x) {
  std::vector<T> y(x.size());
  h.product(x, y);
  return y;
}
template <class T>
std::vector<T> row(const std::vector<T>& g, std::size_t i, std::size_t d) {
  const auto from = g.begin() + static_cast<std::ptrdiff_t>(i * d);
  return {from, from + static_cast<std::ptrdiff_t>(d)};
}
Numbers joined(const std::vector<mfac_mpfr::Vector>& vectors) {
  Numbers all;
  for (const auto& v : vectors) all.insert(all.end(), v.x.begin(), v.x.end());
  return all;
}
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

double norm(const Numbers& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}
double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}
void add(Numbers& y, double factor, const Numbers& x) {
  for (std::size_t j = 0; j < y.size(); ++j) y[j] += factor * x[j];
}
/// |a - b|/|b|.
double difference(Numbers a, const Numbers& b) {
  add(a, -1, b);
  return norm(a) / norm(b);
}
Case decaying_case(std::size_t m, std::size_t d, double lambda) {
  Case c = random_case(m, d, lambda);
  for (std::size_t i = 0; i < m * d; ++i) c.g[i] *= std::pow(10, -static_cast<double>(i / d) / 8);
  return c;
}

}  // namespace

TEST_CASE("baselines: H x is that of the dense matrix", "[mfac]") {
  // more columns than a block, and k = 1 and several
  const Case c = random_case(5, 9001, 0.25);
  const auto H = operator_of(c.g, c.d, c.lambda);
  CHECK(H.rows() == 5);
  CHECK(H.dimension() == 9001);
  const Numbers x = mfac_mpfr::Random(2).normals(2 * c.d), y = product(H, x);
  for (std::size_t v = 0; v < 2; ++v) {
    const Numbers part = row(x, v, c.d);
    Reals along(5), expected(c.d);
    for (std::size_t i = 0; i < c.m; ++i)
      for (std::size_t j = 0; j < c.d; ++j) along[i] += mfac_mpfr::Real(c.g[i * c.d + j]) * part[j];
    for (std::size_t j = 0; j < c.d; ++j) {
      expected[j] = mfac_mpfr::Real(part[j]) * c.lambda;
      for (std::size_t i = 0; i < c.m; ++i) expected[j] += along[i] * c.g[i * c.d + j] / 5;
    }
    CHECK(relative_error(row(y, v, c.d), expected) < 1e-14);
    CHECK(relative_error(product(H, part), expected) < 1e-14);
  }
}

TEST_CASE("baselines: the exact ones agree with MPFR where H is well conditioned", "[mfac]") {
  for (const auto& [m, d] :
       {std::pair<std::size_t, std::size_t>{1, 7}, {8, 40}, {30, 12}, {12, 200}, {4, 5000}}) {
    const Case c = random_case(m, d, 1.0);
    const Reference reference(c.g, m, d, c.lambda);
    const auto H = operator_of(c.g, d, c.lambda);
    const baseline::Recursion<double> recursion(H);
    const baseline::Dynamic<double> dynamic(H);
    const baseline::Woodbury<double> cholesky(H), lu(H, Factorisation::lu);
    CHECK(recursion.status() == Status::converged);
    CHECK(dynamic.status() == Status::converged);
    CHECK(cholesky.status() == Status::converged);
    CHECK(lu.status() == Status::converged);
    CHECK(cholesky.pivot() == -1);
    const double limit = 16 * reference.condition() * 0x1p-52;
    INFO("m = " << m << ", d = " << d << ", limit = " << limit);
    const auto vectors = mfac_mpfr::vectors(c, false);
    for (const auto& v : vectors) {
      INFO(v.name);
      const Reals expected = reference.product(v.x);
      CHECK(relative_error(product(recursion, v.x), expected) <= limit);
      CHECK(relative_error(product(dynamic, v.x), expected) <= limit);
      CHECK(relative_error(product(cholesky, v.x), expected) <= limit);
      CHECK(relative_error(product(lu, v.x), expected) <= limit);
      Numbers in_place = v.x;
      CHECK(recursion.product(in_place, in_place) == Status::converged);
      CHECK(relative_error(in_place, expected) <= limit);
    }
    // all at once, three times over: more than share a pass
    Numbers x = joined(vectors);
    x.insert(x.end(), x.begin(), x.end());
    x.insert(x.end(), x.begin(), x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2));
    const Numbers y_recursion = product(recursion, x), y_dynamic = product(dynamic, x);
    const Numbers y_cholesky = product(cholesky, x), y_lu = product(lu, x);
    for (std::size_t v = 0; v < x.size() / d; ++v) {
      const Reals expected = reference.product(row(x, v, d));
      CHECK(relative_error(row(y_recursion, v, d), expected) <= limit);
      CHECK(relative_error(row(y_dynamic, v, d), expected) <= limit);
      CHECK(relative_error(row(y_cholesky, v, d), expected) <= limit);
      CHECK(relative_error(row(y_lu, v, d), expected) <= limit);
    }
    // q_i and v_i are the Cholesky factor's
    for (std::size_t i = 0; i < m; ++i) {
      const auto l = reference.factor()[i * m + i];
      const mfac_mpfr::Real q = l * l / c.lambda;
      const auto k = static_cast<std::ptrdiff_t>(i);
      CHECK(relative_error(recursion.q()[i], q) <= limit);
      CHECK(relative_error(dynamic.q(k), q) <= limit);
      CHECK(relative_error(cholesky.q(k), q) <= limit);
      Reals v(d);
      for (std::size_t j = 0; j < d; ++j) v[j] = reference.columns()[j * m + i] * l / c.lambda;
      const Numbers got(recursion.v().begin() + k * static_cast<std::ptrdiff_t>(d),
                        recursion.v().begin() + (k + 1) * static_cast<std::ptrdiff_t>(d));
      CHECK(relative_error(got, v) <= limit);
    }
    Numbers diagonal(d);
    recursion.diagonal(diagonal);
    for (std::size_t j = 0; j < d; j += 1 + d / 13) {
      CHECK(relative_error(diagonal[j], reference.element(j, j)) <= limit);
      const auto p = static_cast<std::ptrdiff_t>(j);
      CHECK(relative_error(recursion.element(p, p), reference.element(j, j)) <= limit);
      CHECK(std::fabs(recursion.element(0, p) - static_cast<double>(reference.element(0, j))) <=
            limit / c.lambda);
    }
  }
}

TEST_CASE("baselines: D and B are what the formulas say", "[mfac]") {
  const Case c = random_case(9, 60, 0.5);
  const auto H = operator_of(c.g, c.d, c.lambda);
  const baseline::Recursion<double> recursion(H);
  const baseline::Dynamic<double> dynamic(H);
  const auto D = dynamic.d_coefficients(), B = dynamic.b_coefficients();
  for (std::size_t i = 0; i < c.m; ++i) {
    Numbers v(c.d);  // v_i = sum_j B_ij g_j
    for (std::size_t j = 0; j <= i; ++j)
      for (std::size_t k = 0; k < c.d; ++k) v[k] += B[i * c.m + j] * c.g[j * c.d + k];
    for (std::size_t k = 0; k < c.d; ++k)
      CHECK(v[k] == Approx(recursion.v()[i * c.d + k]).epsilon(1e-9).margin(1e-9));
    for (std::size_t j = i; j < c.m; ++j) {  // D_ij = v_i . g_j
      double sum = 0;
      for (std::size_t k = 0; k < c.d; ++k) sum += recursion.v()[i * c.d + k] * c.g[j * c.d + k];
      CHECK(D[i * c.m + j] == Approx(sum).epsilon(1e-9).margin(1e-9));
    }
  }
}

TEST_CASE("baselines: blocks of H, each with a recursion of its own", "[mfac]") {
  const Case c = random_case(6, 50, 0.5);
  const auto H = operator_of(c.g, c.d, c.lambda, 2);
  const Numbers x = mfac_mpfr::Random(4).normals(c.d);
  for (const std::size_t block : {1, 7, 25, 49, 50, 80}) {
    const baseline::Recursion<double> recursion(H, static_cast<std::ptrdiff_t>(block));
    CHECK(recursion.blocks() == static_cast<std::ptrdiff_t>((c.d + block - 1) / block));
    const Numbers y = product(recursion, x);
    Numbers diagonal(c.d);
    recursion.diagonal(diagonal);
    for (std::size_t begin = 0; begin < c.d; begin += block) {
      const std::size_t n = std::min(block, c.d - begin);
      Numbers g, part(x.begin() + static_cast<std::ptrdiff_t>(begin),
                      x.begin() + static_cast<std::ptrdiff_t>(begin + n));
      for (std::size_t i = 0; i < c.m; ++i)
        for (std::size_t j = 0; j < n; ++j) g.push_back(c.g[i * c.d + begin + j]);
      const Reference reference(g, c.m, n, c.lambda);
      const Numbers got(y.begin() + static_cast<std::ptrdiff_t>(begin),
                        y.begin() + static_cast<std::ptrdiff_t>(begin + n));
      const double limit = 16 * reference.condition() * 0x1p-52;
      CHECK(relative_error(got, reference.product(part)) <= limit);
      CHECK(relative_error(diagonal[begin], reference.element(0, 0)) <= limit);
      if (n > 1 && block < c.d)
        CHECK(std::fabs(recursion.element(static_cast<std::ptrdiff_t>(begin),
                                          static_cast<std::ptrdiff_t>(begin + n - 1)) -
                        static_cast<double>(reference.element(0, n - 1))) <= limit / c.lambda);
    }
    if (block < c.d) CHECK(recursion.element(0, static_cast<std::ptrdiff_t>(c.d) - 1) == 0);
  }
}

TEST_CASE("baselines: a replaced row", "[mfac]") {
  Case c = random_case(7, 90, 0.1);
  baseline::Dynamic<double> dynamic(operator_of(c.g, c.d, c.lambda));
  mfac_mpfr::Random random(8);
  for (const std::size_t i : {3, 0, 6}) {
    const Numbers values = random.normals(c.d);
    std::copy(values.begin(), values.end(), c.g.begin() + static_cast<std::ptrdiff_t>(i * c.d));
    dynamic.replace(static_cast<std::ptrdiff_t>(i), values);
    const Reference reference(c.g, c.m, c.d, c.lambda);
    CHECK(relative_error(product(dynamic, values), reference.product(values)) <=
          16 * reference.condition() * 0x1p-52);
  }
}

TEST_CASE("baselines: in float a row of G loses its digits, but not in Estimator", "[mfac]") {
  const Case c = random_case(32, 400, 1e-5);
  const std::vector<float> g = cast<float>(c.g);
  const auto H = operator_of(g, c.d, 1e-5);
  const Reference reference(c.g, c.m, c.d, static_cast<double>(H.damping()));
  const baseline::Recursion<float> recursion(H);
  const baseline::Dynamic<float> dynamic(H);
  const baseline::Woodbury<float> woodbury(H);
  halfulp::mfac::Options options;
  options.damping = static_cast<double>(H.damping());
  const halfulp::mfac::Estimator estimator(
      halfulp::mfac::Gradients(std::span<const float>(g), static_cast<std::ptrdiff_t>(c.d)),
      options);
  for (const std::size_t i : {0, 13, 31}) {
    const std::vector<float> x = row(g, i, c.d);
    const Reals expected = reference.product(row(c.g, i, c.d));
    CHECK(relative_error(product(recursion, x), expected) > 1e-3);
    CHECK(relative_error(product(dynamic, x), expected) > 1e-3);
    CHECK(relative_error(product(woodbury, x), expected) > 1e-3);
    std::vector<float> y(c.d);
    estimator.inverse_product(std::span<const float>(x), std::span<float>(y));
    CHECK(relative_error(y, expected) < 1e-6);
  }
  // nothing cancels where x is random
  const std::vector<float> x = cast<float>(mfac_mpfr::Random(1).normals(c.d));
  CHECK(relative_error(product(woodbury, x), reference.product(Numbers(x.begin(), x.end()))) <
        1e-5);
}

TEST_CASE("baselines: what failed says so", "[mfac]") {
  // rows that are equal but for rounding, and a damping far below it
  Case c = random_case(1, 200, 1e-9);
  std::vector<float> g;
  mfac_mpfr::Random random(3);
  for (int i = 0; i < 40; ++i)
    for (const double value : c.g)
      g.push_back(static_cast<float>(value * (1 + 1e-7 * random.normal())));
  const auto H = operator_of(g, c.d, c.lambda);
  const baseline::Woodbury<float> cholesky(H);
  CHECK(cholesky.status() == Status::not_positive_definite);
  CHECK(cholesky.pivot() > 0);
  CHECK(cholesky.pivot() < 40);
  CHECK(std::isnan(cholesky.q(0)));
  const std::vector<float> x = row(g, 0, c.d);
  std::vector<float> y(c.d);
  CHECK(cholesky.product(x, y) == Status::not_positive_definite);
  CHECK(std::all_of(y.begin(), y.end(), [](float value) { return std::isnan(value); }));
  const baseline::Dynamic<float> dynamic(H);
  CHECK(dynamic.status() != Status::converged);
  CHECK(dynamic.product(x, y) != Status::converged);
  const baseline::Recursion<float> recursion(H);
  CHECK(recursion.status() != Status::converged);

  std::vector<float> large(20, 1e30F);  // whose squares overflow
  const auto overflowing = operator_of(large, 10, 1.0);
  CHECK(baseline::Woodbury<float>(overflowing).status() == Status::not_finite);
  CHECK(baseline::Dynamic<float>(overflowing).status() == Status::not_finite);
  CHECK(baseline::Recursion<float>(overflowing).status() == Status::not_finite);
}

TEMPLATE_TEST_CASE("baselines: same bits for any number of threads", "[mfac]", float, double) {
  using T = TestType;
  const Case c = random_case(11, 21001, 0.1);
  const std::vector<T> g = cast<T>(c.g), x = cast<T>(mfac_mpfr::Random(9).normals(2 * c.d));
  const std::vector<T> first = row(x, 0, c.d);
  std::vector<std::vector<T>> expected;
  for (const int threads : {1, 2, 3}) {
    const auto H = operator_of(g, c.d, c.lambda, threads);
    const baseline::Recursion<T> whole(H), many(H, 777), few(H, 3000);
    std::vector<T> diagonal(c.d);
    many.diagonal(diagonal);
    const baseline::Dynamic<T> dynamic(H);
    const baseline::Woodbury<T> woodbury(H), lu(H, Factorisation::lu);
    const std::vector<std::vector<T>> got = {product(H, x),
                                             product(whole, x),
                                             product(whole, first),
                                             product(many, x),
                                             diagonal,
                                             product(dynamic, x),
                                             product(dynamic, first),
                                             product(woodbury, x),
                                             product(woodbury, first),
                                             product(lu, x),
                                             product(few, x)};
    if (threads == 1) expected = got;
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO(i << ", " << threads << " threads");
      CHECK(same_bits(got[i], expected[i]));
    }
  }
}

TEST_CASE("baselines: progress, and a stop", "[mfac]") {
  const Case c = random_case(8, 100, 1.0);
  const auto H = operator_of(c.g, c.d, c.lambda);
  double last = -1;
  int calls = 0;
  const halfulp::Progress watch = [&](double fraction, const char*) {
    CHECK(fraction >= last);
    last = fraction;
    ++calls;
    return true;
  };
  const baseline::Recursion<double> recursion(H, 0, watch);
  CHECK(calls == 8);
  const halfulp::Progress stop = [](double, const char*) { return false; };
  CHECK_THROWS_AS(baseline::Recursion<double>(H, 0, stop), halfulp::Cancelled);
  CHECK_THROWS_AS(baseline::Recursion<double>(H, 1, stop), halfulp::Cancelled);
  CHECK_THROWS_AS(baseline::Dynamic<double>(H, stop), halfulp::Cancelled);
  CHECK_THROWS_AS(baseline::Woodbury<double>(H, Factorisation::lu, stop), halfulp::Cancelled);
}

TEST_CASE("baselines: bad input", "[mfac]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Numbers g(12, 1.0);
  CHECK_THROWS_WITH(Operator<double>(g, 0, 1.0), Contains("Operator: d = 0"));
  CHECK_THROWS_AS(Operator<double>(g, 5, 1.0), ShapeError);
  CHECK_THROWS_WITH(Operator<double>(g, 4, 0.0), Contains("damping = 0, must be > 0"));
  CHECK_THROWS_AS(Operator<double>(g, 4, nan), DomainError);
  CHECK_THROWS_AS(Operator<double>(g, 4, 1.0, -1), DomainError);
  CHECK_THROWS_AS(Operator<double>({}, 4, 1.0), DomainError);
  g[6] = nan;
  CHECK_THROWS_WITH(Operator<double>(g, 4, 1.0), Contains("rows[1, 2] = nan, must be finite"));
  g[6] = 2;
  const Operator<double> H(g, 4, 1.0);
  CHECK_THROWS_WITH(baseline::Recursion<double>(H, -1), Contains("block = -1, must be >= 0"));
  const baseline::Recursion<double> recursion(H);
  baseline::Dynamic<double> dynamic(H);
  const baseline::Woodbury<double> woodbury(H), lu(H, Factorisation::lu);
  const auto each = [&](const auto& h) {
    Numbers x(4), y(4), small(3), odd(5), bad = {0, 0, nan, 0};
    CHECK_THROWS_AS(h.product(odd, odd), ShapeError);
    CHECK_THROWS_AS(h.product(x, small), ShapeError);
    CHECK_THROWS_WITH(h.product(bad, y), Contains("x[2] = nan, must be finite"));
    Numbers none;
    CHECK_NOTHROW(h.product(none, none));
  };
  each(H), each(recursion), each(dynamic), each(woodbury);
  Numbers three(3), four(4);
  CHECK_THROWS_AS(recursion.diagonal(three), ShapeError);
  CHECK_THROWS_AS(recursion.element(4, 0), DomainError);
  CHECK_THROWS_AS(recursion.element(0, -1), DomainError);
  CHECK_THROWS_AS(dynamic.q(3), DomainError);
  CHECK_THROWS_AS(woodbury.q(-1), DomainError);
  CHECK_THROWS_WITH(lu.q(0), Contains("factorisation = lu, must be cholesky"));
  CHECK_THROWS_AS(dynamic.replace(3, four), DomainError);
  CHECK_THROWS_AS(dynamic.replace(0, three), ShapeError);
  four[1] = nan;
  CHECK_THROWS_WITH(dynamic.replace(0, four), Contains("values[1] = nan"));
}

TEST_CASE("baselines: conjugate gradients", "[mfac]") {
  const Case c = random_case(12, 9000, 1e-2);
  const Reference reference(c.g, c.m, c.d, c.lambda);
  const auto H = operator_of(c.g, c.d, c.lambda);
  baseline::IterationOptions options;
  for (const double tolerance : {1e-4, 1e-8, 1e-12}) {
    options.tolerance = tolerance;
    const Numbers x = mfac_mpfr::Random(6).normals(c.d);
    Numbers y(c.d);
    const auto trace = baseline::conjugate_gradients<double>(H, x, y, options);
    CHECK(trace.report.status == Status::converged);
    CHECK(trace.report.residual <= tolerance);
    CHECK(trace.report.tolerance == tolerance);
    CHECK(trace.report.iterations <= 2 * 13);  // 13 eigenvalues, and rounding
    CHECK(trace.residuals.size() == static_cast<std::size_t>(trace.report.iterations));
    CHECK(trace.residuals.back() == trace.report.residual);
    CHECK(trace.true_residual <= 2 * tolerance + 1e-11);
    // |y - H^-1 x| <= |r|/lambda
    Numbers expected;
    for (const auto& value : reference.product(x)) expected.push_back(static_cast<double>(value));
    add(expected, -1, y);
    CHECK(norm(expected) <= (2 * tolerance + 1e-12) * norm(x) / c.lambda);
    Numbers in_place = x;
    const auto again = baseline::conjugate_gradients<double>(H, in_place, in_place, options);
    CHECK(same_bits(in_place, y));
    CHECK(again.true_residual == trace.true_residual);
  }
  const Numbers x = row(c.g, 3, c.d), zero(c.d);
  Numbers y(c.d, 7.0);
  options.tolerance = 1e-10;
  options.max_iterations = 2;
  auto trace = baseline::conjugate_gradients<double>(H, x, y, options);
  CHECK(trace.report.status == Status::max_iterations);
  CHECK(trace.report.iterations == 2);
  CHECK(trace.true_residual == Approx(trace.report.residual).epsilon(1e-6));
  trace = baseline::conjugate_gradients<double>(H, zero, y, options);
  CHECK(trace.report.status == Status::converged);
  CHECK(trace.report.iterations == 0);
  CHECK(y == zero);
  options.progress = [](double, const char*) { return false; };
  CHECK_THROWS_AS(baseline::conjugate_gradients<double>(H, x, y, options), halfulp::Cancelled);
}

TEST_CASE("baselines: in float conjugate gradients end at the rounding", "[mfac]") {
  const Case c = random_case(32, 400, 1e-5);
  const std::vector<float> g = cast<float>(c.g), x = row(g, 0, c.d);
  const auto H = operator_of(g, c.d, 1e-5);
  std::vector<float> y(c.d);
  baseline::IterationOptions options;
  options.tolerance = 1e-6;
  const auto trace = baseline::conjugate_gradients<float>(H, x, y, options);
  CHECK(std::isfinite(trace.true_residual));
  CHECK(trace.true_residual > 1e-7);
  // squares that overflow, and that underflow
  const std::vector<float> large(c.d, 1e30F), small(c.d, 1e-30F);
  CHECK(baseline::conjugate_gradients<float>(H, large, y).report.status == Status::not_finite);
  const auto lost = baseline::conjugate_gradients<float>(H, small, y);
  CHECK(lost.report.status == Status::stagnated);
  CHECK(lost.true_residual == 1);
  options.tolerance = 0;  // until nothing is left
  const std::vector<float> flat(c.d), unit = row(g, 1, c.d);
  const auto last =
      baseline::conjugate_gradients<float>(operator_of(flat, c.d, 0.3), unit, y, options);
  CHECK(last.report.status != Status::max_iterations);
}

TEST_CASE("baselines: a preconditioner from a sketch of the spectrum", "[mfac]") {
  const Case c = decaying_case(48, 300, 1e-7);
  const auto H = operator_of(c.g, c.d, c.lambda);
  const Numbers x = mfac_mpfr::Random(6).normals(c.d);
  Numbers y(c.d), z(c.d);
  baseline::IterationOptions options;
  options.tolerance = 1e-10;
  const auto plain = baseline::conjugate_gradients<double>(H, x, y, options);
  int before = plain.report.iterations;
  for (const std::ptrdiff_t rank : {16, 32, 48}) {
    const baseline::NystromPreconditioner<double> preconditioner(H, rank, 1);
    const auto trace = baseline::conjugate_gradients<double>(H, preconditioner, x, z, options);
    INFO("rank " << rank << ": " << trace.report.iterations << " iterations, " << before);
    CHECK(trace.report.ok());
    CHECK(trace.true_residual < 1e-8);
    CHECK(trace.report.iterations < before);
    before = trace.report.iterations;
    const Reference reference(c.g, c.m, c.d, c.lambda);
    CHECK(relative_error(z, reference.product(x)) < 1e-6);
  }
  CHECK(before <= 3);
}

TEST_CASE("baselines: the sketch is exact from the rank of G on", "[mfac]") {
  const Case c = random_case(9, 60, 0.5);
  const auto H = operator_of(c.g, c.d, c.lambda);
  Reals gram(c.m * c.m), vectors;
  for (std::size_t i = 0; i < c.m; ++i)
    for (std::size_t j = 0; j < c.m; ++j)
      for (std::size_t k = 0; k < c.d; ++k)
        gram[i * c.m + j] += mfac_mpfr::Real(c.g[i * c.d + k]) * c.g[j * c.d + k];
  mfac_mpfr::jacobi(gram, c.m, vectors);
  Numbers exact;
  for (std::size_t i = 0; i < c.m; ++i)
    exact.push_back(static_cast<double>(gram[i * c.m + i]) / static_cast<double>(c.m));
  std::sort(exact.rbegin(), exact.rend());
  const Reference reference(c.g, c.m, c.d, c.lambda);
  for (const std::size_t rank : {9, 20, 60}) {
    const baseline::NystromPreconditioner<double> p(H, static_cast<std::ptrdiff_t>(rank));
    CHECK(p.dimension() == 60);
    REQUIRE(p.eigenvalues().size() == rank);
    REQUIRE(p.vectors().size() == rank * c.d);
    CHECK(std::is_sorted(p.eigenvalues().rbegin(), p.eigenvalues().rend()));
    for (std::size_t i = 0; i < rank; ++i)
      CHECK(std::fabs(p.eigenvalues()[i] - (i < c.m ? exact[i] : 0)) <= 1e-10 * exact[0]);
    const Numbers u(p.vectors().begin(), p.vectors().end());
    for (std::size_t i = 0; i < rank; ++i)
      for (std::size_t j = 0; j <= i; ++j)
        CHECK(std::fabs(dot(row(u, i, c.d), row(u, j, c.d)) - (i == j)) < 1e-13);
    const Numbers x = mfac_mpfr::Random(8).normals(c.d);
    Numbers y(c.d);
    p.apply(x, y);
    if (rank == 9) {
      Numbers expected = x;  // the formula
      for (std::size_t i = 0; i < rank; ++i)
        add(expected,
            dot(row(u, i, c.d), x) *
                ((p.eigenvalues()[8] + c.lambda) / (p.eigenvalues()[i] + c.lambda) - 1),
            row(u, i, c.d));
      CHECK(difference(y, expected) < 1e-13);
    } else {  // P^-1 = lambda H^-1, since the last eigenvalue is 0
      for (double& value : y) value /= c.lambda;
      CHECK(relative_error(y, reference.product(x)) < 1e-9);
    }
  }
  const Numbers zeros(2 * c.d);
  const baseline::NystromPreconditioner<double> p(operator_of(zeros, c.d, c.lambda), 3);
  CHECK(p.shift() == 0);
  const Numbers x = mfac_mpfr::Random(8).normals(c.d);
  Numbers y(c.d);
  p.apply(x, y);
  CHECK(y == x);
}

TEST_CASE("baselines: LiSSA of one row is a Neumann series", "[mfac]") {
  const Case c = random_case(1, 30, 2.0);
  const auto H = operator_of(c.g, c.d, c.lambda);
  const Numbers x = mfac_mpfr::Random(6).normals(c.d);
  const Reals exact = Reference(c.g, 1, c.d, c.lambda).product(x);
  const double square = dot(c.g, c.g), along = dot(c.g, x) / square;
  Numbers y(c.d);
  double before = 1;
  for (const std::ptrdiff_t depth : {1, 8, 32, 128, 512}) {
    baseline::LissaOptions options;
    options.depth = depth;
    const auto result = baseline::lissa<double>(H, x, y, options);
    CHECK(result.status == Status::converged);
    CHECK(result.scale == Approx(c.lambda + square));
    CHECK(result.deviation == 0);
    REQUIRE(result.norms.size() == static_cast<std::size_t>(depth + 1));
    CHECK(result.norms.front() == Approx(norm(x) / result.scale));
    CHECK(result.norms.back() == Approx(norm(y)));
    // (I - (I - H/s)^(depth + 1)) H^-1 x, where H g = s g
    Numbers expected = x;
    add(expected, -along, c.g);
    const double left = std::pow(1 - c.lambda / result.scale, static_cast<double>(depth + 1));
    for (double& value : expected) value *= (1 - left) / c.lambda;
    add(expected, along / result.scale, c.g);
    CHECK(difference(y, expected) < 1e-12);
    const double error = relative_error(y, exact);
    CHECK(error < before);
    before = error;
  }
  CHECK(before < 1e-10);
}

TEST_CASE("baselines: LiSSA's mean, deviation and divergence", "[mfac]") {
  const Case c = random_case(6, 20, 3.0);
  const auto H = operator_of(c.g, c.d, c.lambda);
  const Numbers x = mfac_mpfr::Random(6).normals(c.d);
  baseline::LissaOptions options;
  options.depth = 300;  // more than are done between reports
  options.repeats = 400;
  options.batch = 2;
  Numbers y(c.d), expected = x;
  const auto result = baseline::lissa<double>(H, x, y, options);
  for (std::ptrdiff_t step = 0; step < options.depth; ++step) {
    Numbers next = x;
    add(next, 1, expected);
    add(next, -1 / result.scale, product(H, expected));
    expected = next;
  }
  for (double& value : expected) value /= result.scale;
  Numbers off = y;
  add(off, -1, expected);
  CHECK(result.status == Status::converged);
  CHECK(norm(off) < 2 * result.deviation);
  CHECK(norm(off) > 0.5 * result.deviation);
  CHECK(result.deviation < 0.1 * norm(expected));
  const double deviation = result.deviation;
  options.repeats = 100;
  CHECK(baseline::lissa<double>(H, x, y, options).deviation == Approx(2 * deviation).epsilon(0.3));
  Numbers z(c.d), again(c.d);
  options.repeats = 1;
  options.seed = 1;
  baseline::lissa<double>(H, x, y, options);
  baseline::lissa<double>(H, x, again, options);
  options.seed = 2;
  baseline::lissa<double>(H, x, z, options);
  CHECK(same_bits(y, again));
  CHECK(y != z);
  options.scale = 1;
  options.depth = 5000;
  const auto diverged = baseline::lissa<double>(H, x, y, options);
  CHECK(diverged.status == Status::not_finite);
  CHECK(diverged.scale == 1);
  CHECK(std::isnan(y[0]));
  options.progress = [](double, const char*) { return false; };
  CHECK_THROWS_AS(baseline::lissa<double>(H, x, y, options), halfulp::Cancelled);
}

TEST_CASE("baselines: DataInf is its formula", "[mfac]") {
  const Case c = random_case(7, 6000, 0.3);
  const auto H = operator_of(c.g, c.d, c.lambda);
  const Numbers x = mfac_mpfr::Random(6).normals(c.d);
  const std::vector<std::ptrdiff_t> several = {100, 5000, 1, 899};
  for (const bool authors : {false, true})
    for (const bool one : {false, true}) {
      const std::vector<std::ptrdiff_t> layers =
          one ? std::vector<std::ptrdiff_t>{static_cast<std::ptrdiff_t>(c.d)} : several;
      Numbers expected;
      std::ptrdiff_t begin = 0;
      for (const std::ptrdiff_t n : layers) {
        const auto part = [&](const Numbers& from, std::size_t i) {
          const auto start = from.begin() + static_cast<std::ptrdiff_t>(i * c.d) + begin;
          return Numbers(start, start + n);
        };
        double lambda = c.lambda;
        if (authors) {
          lambda = 0;
          for (std::size_t i = 0; i < c.m; ++i)
            lambda += dot(part(c.g, i), part(c.g, i)) / static_cast<double>(c.m);
          lambda *= 0.1 / static_cast<double>(n);
        }
        Numbers sum(static_cast<std::size_t>(n));
        for (std::size_t i = 0; i < c.m; ++i) {  // the mean of (lambda I + g_i g_i^T)^-1 x
          const Numbers g = part(c.g, i);
          Numbers y = part(x, 0);
          add(y, -dot(g, y) / (lambda + dot(g, g)), g);
          add(sum, 1 / lambda / static_cast<double>(c.m), y);
        }
        expected.insert(expected.end(), sum.begin(), sum.end());
        begin += n;
      }
      baseline::DataInfOptions options;
      options.authors_damping = authors;
      if (!one) options.layers = layers;
      Numbers y(c.d), in_place = x;
      baseline::datainf<double>(H, x, y, options);
      CHECK(difference(y, expected) < 1e-13);
      baseline::datainf<double>(H, in_place, in_place, options);
      CHECK(same_bits(y, in_place));
    }
  // of one row the mean of the inverses is the inverse, of several it is not
  Numbers y(c.d);
  const Numbers first = row(c.g, 0, c.d);
  baseline::datainf<double>(operator_of(first, c.d, c.lambda), x, y);
  CHECK(relative_error(y, Reference(first, 1, c.d, c.lambda).product(x)) < 1e-13);
  baseline::datainf<double>(H, first, y);
  CHECK(relative_error(y, Reference(c.g, c.m, c.d, c.lambda).product(first)) > 1e3);
}

TEST_CASE("baselines: L-BFGS is the recursion of two loops, and H^-1 on conjugate directions",
          "[mfac]") {
  const Case c = random_case(6, 14, 0.5);
  const auto H = operator_of(c.g, c.d, c.lambda);
  mfac_mpfr::Random random(6);
  const std::size_t p = 5;
  const Numbers s = random.normals(p * c.d), z = product(H, s), x = random.normals(c.d);
  for (const double gamma : {0.0, 0.7}) {
    const baseline::CompactLbfgs<double> lbfgs(s, z, 14, gamma), of_operator(H, s, gamma);
    CHECK(lbfgs.pairs() == 5);
    const double used = gamma > 0 ? gamma
                                  : dot(row(s, p - 1, c.d), row(z, p - 1, c.d)) /
                                        dot(row(z, p - 1, c.d), row(z, p - 1, c.d));
    CHECK(lbfgs.gamma() == Approx(used).epsilon(1e-13));
    Numbers q = x, alpha(p);
    for (std::size_t i = p; i-- > 0;) {
      alpha[i] = dot(row(s, i, c.d), q) / dot(row(s, i, c.d), row(z, i, c.d));
      add(q, -alpha[i], row(z, i, c.d));
    }
    for (double& value : q) value *= used;
    for (std::size_t i = 0; i < p; ++i)
      add(q, alpha[i] - dot(row(z, i, c.d), q) / dot(row(s, i, c.d), row(z, i, c.d)),
          row(s, i, c.d));
    CHECK(difference(product(lbfgs, x), q) < 1e-11);
    CHECK(difference(product(of_operator, x), q) < 1e-11);
    // the secant condition
    CHECK(difference(product(lbfgs, row(z, p - 1, c.d)), row(s, p - 1, c.d)) < 1e-11);
  }

  Numbers conjugate, images;
  for (std::size_t i = 0; i < c.d; ++i) {
    Numbers direction = random.normals(c.d);
    for (int twice = 0; twice < 2; ++twice)
      for (std::size_t j = 0; j < i; ++j)
        add(direction,
            -dot(direction, row(images, j, c.d)) / dot(row(conjugate, j, c.d), row(images, j, c.d)),
            row(conjugate, j, c.d));
    const Numbers image = product(H, direction);
    conjugate.insert(conjugate.end(), direction.begin(), direction.end());
    images.insert(images.end(), image.begin(), image.end());
    const baseline::CompactLbfgs<double> lbfgs(H, conjugate);
    const Numbers back = product(lbfgs, images);
    for (std::size_t j = 0; j <= i; ++j)
      CHECK(difference(row(back, j, c.d), row(conjugate, j, c.d)) < 1e-10);
  }
  const baseline::CompactLbfgs<double> lbfgs(H, conjugate);
  CHECK(relative_error(product(lbfgs, x), Reference(c.g, c.m, c.d, c.lambda).product(x)) < 1e-10);
}

TEMPLATE_TEST_CASE("baselines: same bits of the iterative ones for any number of threads", "[mfac]",
                   float, double) {
  using T = TestType;
  const Case c = random_case(11, 13001, 0.1);
  const std::vector<T> g = cast<T>(c.g), x = cast<T>(mfac_mpfr::Random(9).normals(c.d));
  const std::vector<T> s = cast<T>(mfac_mpfr::Random(10).normals(3 * c.d));
  std::vector<std::vector<T>> expected;
  Numbers traces;
  for (const int threads : {1, 2, 3}) {
    const auto H = operator_of(g, c.d, c.lambda, threads);
    std::vector<std::vector<T>> got(6, std::vector<T>(c.d));
    baseline::IterationOptions options;
    options.max_iterations = 4;
    const baseline::NystromPreconditioner<T> preconditioner(H, 5, 3);
    const auto plain = baseline::conjugate_gradients<T>(H, x, got[0], options);
    const auto trace = baseline::conjugate_gradients<T>(H, preconditioner, x, got[1], options);
    baseline::LissaOptions lissa;
    lissa.depth = 8;
    const auto once = baseline::lissa<T>(H, x, got[2], lissa);
    lissa.repeats = 5;
    const auto mean = baseline::lissa<T>(H, x, got[3], lissa);
    const std::vector<std::ptrdiff_t> layers = {20, 12981};
    baseline::DataInfOptions datainf;
    datainf.layers = layers;
    baseline::datainf<T>(H, x, got[4], datainf);
    got[5] = product(baseline::CompactLbfgs<T>(H, s), x);
    got.push_back({preconditioner.vectors().begin(), preconditioner.vectors().end()});
    const Numbers now = {plain.true_residual, trace.true_residual, once.norms.back(),
                         mean.deviation, mean.norms[7]};
    if (threads == 1) expected = got, traces = now;
    CHECK(same_bits(now, traces));
    for (std::size_t i = 0; i < got.size(); ++i) {
      INFO(i << ", " << threads << " threads");
      CHECK(same_bits(got[i], expected[i]));
    }
  }
}

TEST_CASE("baselines: bad input of the iterative ones", "[mfac]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Numbers g(12, 1.0);
  const Operator<double> H(g, 4, 1.0);
  Numbers x(4, 1.0), y(4), small(3), bad = {0, 0, nan, 0};
  {
    baseline::IterationOptions o;
    const auto solve = [&](Numbers& from, Numbers& to) {
      return baseline::conjugate_gradients<double>(H, from, to, o);
    };
    CHECK_THROWS_AS(solve(small, y), ShapeError);
    CHECK_THROWS_AS(solve(x, small), ShapeError);
    CHECK_THROWS_WITH(solve(bad, y), Contains("x[2] = nan"));
    o.tolerance = nan;
    CHECK_THROWS_WITH(solve(x, y), Contains("tolerance = nan, must be >= 0"));
    o.tolerance = 0;
    o.max_iterations = 0;
    CHECK_THROWS_WITH(solve(x, y), Contains("max_iterations = 0, must be >= 1"));
  }
  CHECK_THROWS_AS(baseline::NystromPreconditioner<double>(H, 0), DomainError);
  CHECK_THROWS_WITH(baseline::NystromPreconditioner<double>(H, 5), Contains("rank = 5, must be"));
  const std::vector<float> large(8, 1e30F);
  CHECK_THROWS_WITH(baseline::NystromPreconditioner<float>(operator_of(large, 4, 1.0), 2),
                    Contains("must be finite"));
  const baseline::NystromPreconditioner<double> p(H, 2);
  CHECK_THROWS_AS(p.apply(small, y), ShapeError);
  CHECK_THROWS_AS(p.apply(x, small), ShapeError);
  CHECK_THROWS_AS(p.apply(bad, y), DomainError);
  const Operator<double> other(g, 3, 1.0);
  CHECK_THROWS_AS(baseline::conjugate_gradients<double>(other, p, small, small), ShapeError);
  {
    const auto refuse = [&](const baseline::LissaOptions& o, const char* message) {
      CHECK_THROWS_WITH(baseline::lissa<double>(H, x, y, o), Contains(message));
    };
    baseline::LissaOptions o;
    CHECK_THROWS_AS(baseline::lissa<double>(H, small, y, o), ShapeError);
    CHECK_THROWS_AS(baseline::lissa<double>(H, x, small, o), ShapeError);
    CHECK_THROWS_AS(baseline::lissa<double>(H, bad, y, o), DomainError);
    o.scale = -1, refuse(o, "scale = -1"), o.scale = 0;
    o.depth = 0, refuse(o, "depth = 0"), o.depth = 1;
    o.repeats = 0, refuse(o, "repeats = 0"), o.repeats = 1;
    o.batch = 0, refuse(o, "batch = 0");
  }
  {
    baseline::DataInfOptions o;
    const auto run = [&](Numbers& from, Numbers& to) { baseline::datainf<double>(H, from, to, o); };
    CHECK_THROWS_AS(run(small, y), ShapeError);
    CHECK_THROWS_AS(run(x, small), ShapeError);
    CHECK_THROWS_AS(run(bad, y), DomainError);
    for (const std::vector<std::ptrdiff_t>& layers :
         {std::vector<std::ptrdiff_t>{3}, {3, 2}, {5}}) {
      o.layers = layers;
      CHECK_THROWS_AS(run(x, y), ShapeError);
    }
    const std::vector<std::ptrdiff_t> empty = {4, 0};
    o.layers = empty;
    CHECK_THROWS_WITH(run(x, y), Contains("layers[1] = 0, must be >= 1"));
    o = {};
    o.authors_damping = true;
    const Numbers zeros(8);
    CHECK_THROWS_WITH(baseline::datainf<double>(Operator<double>(zeros, 4, 1.0), x, y, o),
                      Contains("layers[0]"));
  }
  using baseline::CompactLbfgs;
  const Numbers s = {1, 0, 0, 1}, z = {2, 1, 1, 3};
  CHECK_NOTHROW(CompactLbfgs<double>(s, z, 2));
  CHECK_THROWS_AS(CompactLbfgs<double>(s, z, 0), DomainError);
  CHECK_THROWS_AS(CompactLbfgs<double>(s, z, 3), ShapeError);
  CHECK_THROWS_AS(CompactLbfgs<double>(s, x, 2, -1.0), DomainError);
  CHECK_THROWS_AS(CompactLbfgs<double>(s, small, 2), ShapeError);
  CHECK_THROWS_AS(CompactLbfgs<double>({}, {}, 2), DomainError);
  CHECK_THROWS_WITH(CompactLbfgs<double>(bad, z, 2), Contains("s[1, 0] = nan"));
  CHECK_THROWS_WITH(CompactLbfgs<double>(s, bad, 2), Contains("z[1, 0] = nan"));
  const Numbers down = {2, 1, 1, -3};
  CHECK_THROWS_WITH(CompactLbfgs<double>(s, down, 2), Contains("s . z of pair 1 = -3"));
  const CompactLbfgs<double> lbfgs(s, z, 2);
  CHECK_THROWS_AS(lbfgs.product(small, small), ShapeError);
  CHECK_THROWS_AS(lbfgs.product(bad, y), DomainError);
}
