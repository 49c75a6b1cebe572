#include "detail/mfac_factor.hpp"

#include <algorithm>
#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "halfulp/random.hpp"

namespace mfac = halfulp::mfac;
using mfac::detail::Factor;
using Numbers = std::vector<double>;
using Mp = boost::multiprecision::number<
    boost::multiprecision::mpfr_float_backend<80, boost::multiprecision::allocate_stack>,
    boost::multiprecision::et_off>;

namespace {

Numbers row_of(std::size_t d, std::size_t t, std::uint64_t seed = 1) {
  Numbers g(d);
  halfulp::RandomStream(seed, static_cast<std::uint32_t>(t)).fill_normal(g, 0, 1);
  return g;
}
double dot(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

/// Rows of a stream, and the factor that follows them.
struct Followed {
  Factor factor;
  std::deque<Numbers> rows;
  std::size_t m;
  Followed(std::size_t capacity, double shift)
      : factor(static_cast<std::ptrdiff_t>(capacity)), m(capacity) {
    factor.set_shift(shift);
  }
  void push(const Numbers& g) {
    if (rows.size() == m) rows.pop_front();
    Numbers products;
    for (const Numbers& row : rows) products.push_back(dot(row, g));
    rows.push_back(g);
    factor.push(products, dot(g, g));
  }
};

/// |L L^T - K|/|K| in long double, independent of Factor::residual: of some elements in a large
/// one.
double residual_of(const Factor& f, std::ptrdiff_t step = 1) {
  const std::ptrdiff_t n = f.count();
  std::vector<long double> l(static_cast<std::size_t>(n * n));
  for (std::ptrdiff_t i = 0; i < n; ++i)
    for (std::ptrdiff_t j = 0; j <= i; ++j)
      l[static_cast<std::size_t>(i * n + j)] = f.element(i, j);
  long double error = 0, size = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i)
    for (std::ptrdiff_t j = i % step; j <= i; j += step) {
      long double sum = 0;
      for (std::ptrdiff_t k = 0; k <= j; ++k)
        sum += l[static_cast<std::size_t>(i * n + k)] * l[static_cast<std::size_t>(j * n + k)];
      const long double exact = static_cast<long double>(f.gram(i, j)) + (i == j ? f.shift() : 0);
      error += (i == j ? 1 : 2) * (sum - exact) * (sum - exact);
      size += (i == j ? 1 : 2) * exact * exact;
    }
  return static_cast<double>(std::sqrt(error / size));
}

/// x with K x = b, from the factor's own products and shift, in MPFR.
std::vector<Mp> solved(const Factor& f, const Numbers& b) {
  const auto n = static_cast<std::size_t>(f.count());
  std::vector<Mp> k(n * n), x(b.begin(), b.end());
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j)
      k[i * n + j] = Mp(f.gram(static_cast<std::ptrdiff_t>(i), static_cast<std::ptrdiff_t>(j))) +
                     (i == j ? f.shift() : 0.0);
  for (std::size_t p = 0; p < n; ++p)
    for (std::size_t i = p + 1; i < n; ++i) {
      const Mp factor = k[i * n + p] / k[p * n + p];
      for (std::size_t j = p; j < n; ++j) k[i * n + j] -= factor * k[p * n + j];
      x[i] -= factor * x[p];
    }
  for (std::size_t i = n; i-- > 0;) {
    for (std::size_t j = i + 1; j < n; ++j) x[i] -= k[i * n + j] * x[j];
    x[i] /= k[i * n + i];
  }
  return x;
}
double error_of(const Numbers& x, const std::vector<Mp>& exact) {
  Mp error = 0, size = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    error += (x[i] - exact[i]) * (x[i] - exact[i]);
    size += exact[i] * exact[i];
  }
  return static_cast<double>(sqrt(error / size));
}

}  // namespace

TEST_CASE("a factor follows its window at every size", "[mfac]") {
  for (const std::size_t m : {1, 2, 3, 7, 8, 9, 16, 23, 40}) {
    Followed followed(m, 1e-3 * static_cast<double>(m));
    for (std::size_t t = 0; t < 3 * m + 20; ++t) {
      followed.push(row_of(2 * m + 1, t));
      Factor& f = followed.factor;
      INFO("m = " << m << ", step " << t);
      REQUIRE(f.count() == static_cast<std::ptrdiff_t>(std::min(m, t + 1)));
      REQUIRE(residual_of(f) < 3e-15);
      CHECK(f.residual() < 3e-15);
      CHECK(f.smallest_pivot() >= 1 - 1e-12);
      CHECK(f.lost().row == -1);
      // the products are where they belong
      const auto n = followed.rows.size();
      CHECK(f.gram(0, static_cast<std::ptrdiff_t>(n - 1)) ==
            dot(followed.rows.front(), followed.rows.back()));
    }
    CHECK(followed.factor.factorisations() == 0);
  }
}

TEST_CASE("solutions agree with MPFR", "[mfac]") {
  double worst = 0;
  for (const std::size_t m : {1, 5, 8, 19}) {
    Followed followed(m, 1e-5);
    for (std::size_t t = 0; t < 2 * m + 5; ++t) {
      followed.push(row_of(25, t));
      Factor& f = followed.factor;
      const auto n = followed.rows.size();
      const double unit = (1 + f.trace() / f.shift()) * 0x1p-52;
      Numbers b = row_of(n, t, 9), x = b, unit_vector(n, 0.0), y(n);
      f.solve(x);
      worst = std::max(worst, error_of(x, solved(f, b)) / unit);
      unit_vector.back() = 1;
      f.solve_newest(y);
      worst = std::max(worst, error_of(y, solved(f, unit_vector)) / unit);
      x = b;
      f.forward(x);
      f.backward(x);
      Numbers z = b;
      f.solve(z);
      CHECK(x == z);
    }
  }
  INFO(worst);
  CHECK(worst < 4);
}

TEST_CASE("3,000 steps of a window of 64", "[mfac]") {
  Followed followed(64, 64e-8);
  double worst = 0;
  for (std::size_t t = 0; t < 3000; ++t) {
    Numbers g = row_of(30, t);  // rank 30: half of the eigenvalues of K are its shift
    for (double& value : g) value = std::ldexp(value, static_cast<int>(t % 11) - 5);
    followed.push(g);
    if (t % 50 == 0) worst = std::max(worst, residual_of(followed.factor));
    REQUIRE(followed.factor.smallest_pivot() > 0.9);
  }
  INFO(worst);
  CHECK(worst <= 1e-14);
  CHECK(followed.factor.factorisations() == 0);
}

TEST_CASE("steps of a window of 1024", "[mfac]") {
  // 3,000 of them: bench_mfac_window, and the tag below
  Factor f(1024);
  f.set_shift(1024e-5);
  const std::size_t d = 16;
  std::deque<Numbers> rows;
  double worst = 0;
  for (std::size_t t = 0; t < 1300; ++t) {
    if (rows.size() == 1024) rows.pop_front();
    const Numbers g = row_of(d, t);
    Numbers products;
    for (const Numbers& row : rows) products.push_back(dot(row, g));
    rows.push_back(g);
    f.push(products, dot(g, g));
    if (t == 1023 || t == 1299) worst = std::max(worst, f.residual());
  }
  worst = std::max(worst, residual_of(f, 64));
  INFO(worst);
  CHECK(worst <= 1e-14);
}

TEST_CASE("equal rows, and rows of zeros", "[mfac]") {
  Followed followed(8, 8e-8);
  for (std::size_t t = 0; t < 40; ++t) {
    followed.push(t % 9 == 4 ? Numbers(10, 0.0) : row_of(10, 3));
    CHECK(residual_of(followed.factor) < 3e-15);
    CHECK(followed.factor.smallest_pivot() > 1 - 1e-5);
  }
  CHECK(followed.factor.lost().row == -1);
}

TEST_CASE("a pivot below its bound is found, said, and forgotten with its row", "[mfac]") {
  Factor f(4);
  f.set_shift(1e-20);  // below the rounding of the products
  const Numbers ones{1.0, 1.0, 1.0};
  f.push({}, 1);
  CHECK(f.lost().row == -1);
  f.push(std::span(ones).first(1), 1);  // 1 - 1 + 1e-20 is 0 in double
  CHECK(f.lost().row == 1);
  CHECK(f.lost().value < 0.5);
  CHECK(f.factorisations() == 1);
  Numbers x{1, 2};
  f.solve(x);
  CHECK((std::isfinite(x[0]) && std::isfinite(x[1])));
  // rows of another direction: the bad pair leaves
  const Numbers zeros{0.0, 0.0, 0.0};
  f.push(std::span(zeros).first(2), 1);
  f.push(zeros, 1);
  CHECK(f.lost().row == 1);
  f.push(zeros, 1);
  CHECK(f.lost().row == 0);
  f.push(zeros, 1);
  CHECK(f.lost().row == -1);
  f.refresh();
  CHECK(f.lost().row == -1);
  CHECK(f.applied() == f.shift());
  CHECK(residual_of(f) < 1e-15);
  // products that no vectors have: the pivot would be negative
  Factor g(3);
  g.set_shift(1e-3);
  g.push({}, 1);
  const Numbers larger{1.5};
  g.push(larger, 1);
  CHECK(g.lost().row == 1);
  CHECK(g.lost().value == Approx((1 + 1e-3 - 2.25 / (1 + 1e-3)) / 1e-3));
}

TEST_CASE("noise in the place of pivots does not grow", "[mfac]") {
  // 2 numbers a row, scales 1 and 1e10: K has rank 2 and a shift far below its rounding. A factor
  // of noise doubles from row to row.
  Followed followed(12, 1e-7);
  for (std::size_t t = 0; t < 120; ++t) {
    Numbers g = row_of(2, t);
    if (t % 3 != 0 && t < 90)
      for (double& value : g) value *= 1e10;
    followed.push(g);
    Factor& f = followed.factor;
    f.refresh();
    INFO("step " << t);
    for (std::ptrdiff_t i = 0; i < f.count(); ++i)
      for (std::ptrdiff_t j = 0; j <= i; ++j)
        CHECK(std::fabs(f.element(i, j)) <= std::sqrt(f.gram(i, i) + f.applied()) * (1 + 1e-12));
    CHECK((f.lost().row >= 0) == (f.applied() > f.shift()));
    CHECK(f.applied() <= std::fmax(f.shift(), 0x1p-36 * f.trace()));
  }
  // and is forgotten once what it was lost to has gone
  CHECK(followed.factor.lost().row == -1);
  CHECK(residual_of(followed.factor) < 1e-14);
}

TEST_CASE("another shift", "[mfac]") {
  Followed followed(12, 1e-2);
  for (std::size_t t = 0; t < 20; ++t) followed.push(row_of(30, t));
  Factor& f = followed.factor;
  f.set_shift(1e-2);
  f.refresh();
  CHECK(f.factorisations() == 0);
  f.set_shift(5.0);
  followed.push(row_of(30, 20));
  f.refresh();
  CHECK(f.factorisations() == 1);
  CHECK(residual_of(f) < 3e-15);
  followed.push(row_of(30, 21));
  CHECK(residual_of(f) < 3e-15);
  CHECK(f.factorisations() == 1);
}

TEST_CASE("an estimate of the largest eigenvalue", "[mfac]") {
  for (const std::size_t d : {3, 20, 200}) {
    Followed followed(24, 1e-2);
    for (std::size_t t = 0; t < 90; ++t) {
      Numbers g = row_of(d, t);
      if (t == 50)
        for (double& value : g) value *= 100;
      followed.push(g);
      const double estimate = followed.factor.largest();
      const auto n = static_cast<std::ptrdiff_t>(followed.rows.size());
      std::vector<long double> v(static_cast<std::size_t>(n), 1.0L), w(v.size());
      long double value = 0;
      for (std::size_t i = 0; i < v.size(); ++i) v[i] += 0.1L * static_cast<long double>(i % 5);
      for (int step = 0; step < 200; ++step) {
        long double square = 0;
        for (std::ptrdiff_t i = 0; i < n; ++i) {
          w[static_cast<std::size_t>(i)] = 0;
          for (std::ptrdiff_t j = 0; j < n; ++j)
            w[static_cast<std::size_t>(i)] +=
                followed.factor.gram(i, j) * v[static_cast<std::size_t>(j)];
          square += w[static_cast<std::size_t>(i)] * w[static_cast<std::size_t>(i)];
        }
        value = std::sqrt(square);
        for (std::size_t i = 0; i < v.size(); ++i) v[i] = w[i] / value;
      }
      INFO("d = " << d << ", step " << t);
      CHECK(estimate <= static_cast<double>(value) * (1 + 1e-3));
      CHECK(estimate >= static_cast<double>(value) * 0.75);
    }
  }
  Factor zeros(3);
  CHECK(zeros.largest() == 0);
  zeros.push({}, 0);
  CHECK(zeros.largest() == 0);
}

TEST_CASE("a factor goes on from its bytes", "[mfac]") {
  Followed a(10, 1e-3);
  for (std::size_t t = 0; t < 27; ++t) a.push(row_of(14, t));
  (void)a.factor.largest();
  halfulp::detail::ByteWriter writer;
  a.factor.save(writer);
  halfulp::detail::ByteReader reader(writer.bytes());
  Followed b(10, 1e-3);
  b.rows = a.rows;
  b.factor = Factor::load(reader);
  reader.finish();
  for (std::size_t t = 27; t < 60; ++t) {
    a.push(row_of(14, t));
    b.push(row_of(14, t));
    Numbers x = row_of(10, t, 3), y = x;
    a.factor.solve(x);
    b.factor.solve(y);
    CHECK(std::memcmp(x.data(), y.data(), sizeof(double) * x.size()) == 0);
    CHECK(a.factor.largest() == b.factor.largest());
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{20}, writer.bytes().size() - 8}) {
    const std::string part = writer.bytes().substr(0, size);
    halfulp::detail::ByteReader cut(part);
    CHECK_THROWS_AS(Factor::load(cut), halfulp::detail::ByteReader::Damaged);
  }
}
