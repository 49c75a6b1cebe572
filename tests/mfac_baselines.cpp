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
  const Case c = random_case(11, 40001, 0.1);
  const std::vector<T> g = cast<T>(c.g), x = cast<T>(mfac_mpfr::Random(9).normals(2 * c.d));
  const std::vector<T> first = row(x, 0, c.d);
  std::vector<std::vector<T>> expected;
  for (const int threads : {1, 2, 3}) {
    const auto H = operator_of(g, c.d, c.lambda, threads);
    const baseline::Recursion<T> whole(H), many(H, 777);
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
                                             product(lu, x)};
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
