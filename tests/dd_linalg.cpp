#include "detail/dd_linalg.hpp"

#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "detail/fourier_basis.hpp"
#include "detail/spectrum.hpp"
#include "detail/sylvester.hpp"

using namespace halfulp;
using namespace halfulp::detail;

namespace {

using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<0>,
                                         boost::multiprecision::et_off>;
const bool digits_set = (Mp::default_precision(60), true);

Mp mp(dd x) { return Mp(x.hi) + Mp(x.lo); }
const double u2 = std::ldexp(1.0, -106);

DdMatrix random_matrix(std::ptrdiff_t rows, std::ptrdiff_t cols, int seed) {
  std::mt19937_64 g(seed);
  std::normal_distribution<double> normal;
  DdMatrix a(rows, cols);
  for (std::ptrdiff_t j = 0; j < cols; ++j)
    for (std::ptrdiff_t i = 0; i < rows; ++i) a.set(i, j, dd(normal(g)) + normal(g) * 1e-17);
  return a;
}

double largest(const DdMatrix& a) {
  double m = 0;
  for (const double x : a.rounded()) m = std::max(m, std::fabs(x));
  return m;
}

}  // namespace

TEST_CASE("products in double-double agree with MPFR", "[dd_linalg]") {
  // Sizes around every vector length and column block.
  for (const std::ptrdiff_t m : {1, 2, 3, 7, 8, 9, 17, 33})
    for (const std::ptrdiff_t n : {1, 3, 4, 5, 9}) {
      const std::ptrdiff_t k = 29;
      const DdMatrix a = random_matrix(m, k, 1), b = random_matrix(k, n, 2);
      const DdMatrix c = multiply(a, b, 1), t = multiply_transposed(transpose(a), b, 2);
      for (std::ptrdiff_t j = 0; j < n; ++j)
        for (std::ptrdiff_t i = 0; i < m; ++i) {
          Mp sum = 0, size = 0;
          for (std::ptrdiff_t p = 0; p < k; ++p) {
            sum += mp(a(i, p)) * mp(b(p, j));
            size += abs(mp(a(i, p)) * mp(b(p, j)));
          }
          INFO(m << " x " << n << " at " << i << ", " << j);
          CHECK(static_cast<double>(abs(mp(c(i, j)) - sum) / size) <= 2 * k * u2);
          CHECK(static_cast<double>(abs(mp(t(i, j)) - sum) / size) <= 2 * k * u2);
        }
    }
}

TEST_CASE("same bits for any number of threads", "[dd_linalg][threads]") {
  const DdMatrix a = random_matrix(230, 190, 3), b = random_matrix(190, 301, 4);
  const DdMatrix c = multiply(a, b, 1);
  const PivotedQr f = pivoted_qr(a, 1e-25, 1000, 1);
  for (const int threads : {2, 3, 7}) {
    CHECK(multiply(a, b, threads).rounded() == c.rounded());
    const PivotedQr g = pivoted_qr(a, 1e-25, 1000, threads);
    CHECK(g.pivots == f.pivots);
    CHECK(g.q.rounded() == f.q.rounded());
  }
}

TEST_CASE("pivoted factorisation reveals the rank", "[dd_linalg]") {
  // Rank 6 plus a perturbation of 1e-20.
  DdMatrix a = multiply(random_matrix(40, 6, 5), random_matrix(6, 25, 6), 1);
  const DdMatrix noise = random_matrix(40, 25, 7);
  for (std::ptrdiff_t j = 0; j < 25; ++j)
    for (std::ptrdiff_t i = 0; i < 40; ++i) a.set(i, j, a(i, j) + noise(i, j) * 1e-20);
  const PivotedQr f = pivoted_qr(a, 1e-15, 25, 1);
  REQUIRE(f.rank == 6);
  const DdMatrix gram = multiply_transposed(f.q, f.q, 1);
  for (std::ptrdiff_t i = 0; i < 6; ++i)
    for (std::ptrdiff_t j = 0; j < 6; ++j)
      CHECK(std::fabs((gram(i, j) - dd(i == j ? 1.0 : 0.0)).hi) <= 1e-30);
  const DdMatrix qr = multiply(f.q, f.r, 1);
  for (std::ptrdiff_t j = 0; j < 6; ++j)
    for (std::ptrdiff_t i = 0; i < 40; ++i)
      CHECK(std::fabs((qr(i, j) - a(i, f.pivots[j])).hi) <= 1e-28);
  // R^-1 from both sides.
  const DdMatrix y = random_matrix(6, 2, 9);
  const DdMatrix left = solve_upper(f.r, multiply(f.r, y, 1));
  const DdMatrix right = transpose(solve_right_upper(multiply(transpose(y), f.r, 1), f.r, 1));
  const DdMatrix down = solve_upper_transposed(f.r, multiply_transposed(f.r, y, 1));
  for (std::ptrdiff_t j = 0; j < 2; ++j)
    for (std::ptrdiff_t i = 0; i < 6; ++i) {
      CHECK(std::fabs((left(i, j) - y(i, j)).hi) <= 1e-27);
      CHECK(std::fabs((right(i, j) - y(i, j)).hi) <= 1e-27);
      CHECK(std::fabs((down(i, j) - y(i, j)).hi) <= 1e-27);
    }
}

TEST_CASE("the blocked factorisation is orthonormal to the last digits", "[dd_linalg]") {
  // Columns from well apart to dependent up to 1e-20.
  DdMatrix a = random_matrix(150, 70, 10);
  for (std::ptrdiff_t j = 1; j < 70; ++j)
    for (std::ptrdiff_t i = 0; i < 150; ++i)
      a.set(i, j, a(i, j - 1) + a(i, j) * std::pow(10.0, -20.0 * static_cast<double>(j) / 70));
  for (const int threads : {1, 2}) {
    const BlockQr f = block_qr(a, threads);
    const DdMatrix gram = multiply_transposed(f.q, f.q, 1), product = multiply(f.q, f.r, 1);
    for (std::ptrdiff_t j = 0; j < 70; ++j) {
      for (std::ptrdiff_t i = 0; i < 70; ++i)
        REQUIRE(std::fabs((gram(i, j) - dd(i == j ? 1.0 : 0.0)).hi) <= 1e-29);
      for (std::ptrdiff_t i = 0; i < 150; ++i)
        REQUIRE(std::fabs((product(i, j) - a(i, j)).hi) <= 1e-29);
    }
  }
}

TEST_CASE("Gauss-Legendre rules are exact for polynomials", "[dd_linalg]") {
  for (const std::ptrdiff_t n : {2, 4, 10, 64, 500, 4000, 20000}) {
    std::vector<dd> x, w;
    gauss_legendre_half(n, x, w);
    REQUIRE(static_cast<std::ptrdiff_t>(x.size()) == n / 2);
    for (const std::ptrdiff_t degree : {std::ptrdiff_t{0}, n, 2 * n - 2}) {
      Mp sum = 0;
      for (std::size_t i = 0; i < x.size(); ++i)
        sum += 2 * mp(w[i]) * pow(mp(x[i]), static_cast<int>(degree));
      INFO("n = " << n << ", degree " << degree);
      CHECK(static_cast<double>(abs(sum * (degree + 1) / 2 - 1)) <= 2000 * n * u2);
    }
  }
}

TEST_CASE("the basis is orthonormal and holds what lies in its bands", "[dd_linalg][basis]") {
  const std::vector<gp_pde::Band> bands{{0, 0}, {50, 60}};
  const FourierBasis basis(dd(-0.5), dd(1.7), bands, {});
  const auto& x = basis.nodes();
  DdMatrix weighted = basis.at_nodes();
  DdMatrix f(weighted.rows(), 1), df(weighted.rows(), 1);
  for (std::ptrdiff_t i = 0; i < weighted.rows(); ++i) {
    for (std::ptrdiff_t j = 0; j < weighted.cols(); ++j)
      weighted.set(i, j, weighted(i, j) * basis.weights()[i]);
    const Mp t = mp(x[i]);
    const Mp value = t * t * sin(Mp(55) * t) + exp(t);
    const Mp slope = 2 * t * sin(Mp(55) * t) + 55 * t * t * cos(Mp(55) * t) + exp(t);
    f.set(i, 0,
          dd(static_cast<double>(value)) + static_cast<double>(value - static_cast<double>(value)));
    df.set(
        i, 0,
        dd(static_cast<double>(slope)) + static_cast<double>(slope - static_cast<double>(slope)));
  }
  const DdMatrix gram = multiply_transposed(basis.at_nodes(), weighted, 1);
  for (std::ptrdiff_t i = 0; i < gram.rows(); ++i)
    for (std::ptrdiff_t j = 0; j < gram.cols(); ++j)
      REQUIRE(std::fabs((gram(i, j) - dd(i == j ? 1.0 : 0.0)).hi) <= 1e-29);
  const DdMatrix c = multiply_transposed(weighted, f, 1);
  const DdMatrix features = basis.to_features(c);
  const DdMatrix by_features = multiply(basis.features_at(x, 0), features, 1);
  const DdMatrix by_basis = multiply(basis.evaluate(x, 0), c, 1);
  const DdMatrix slope = multiply(basis.features_at(x, 1), features, 1);
  for (std::ptrdiff_t i = 0; i < f.rows(); ++i) {
    CHECK(std::fabs((by_features(i, 0) - f(i, 0)).hi) <= 2e-15);
    CHECK(std::fabs((by_basis(i, 0) - f(i, 0)).hi) <= 2e-15);
    CHECK(std::fabs((slope(i, 0) - df(i, 0)).hi) <= 1e-12);
  }
}

TEST_CASE("Sylvester equations are solved beyond double", "[dd_linalg][sylvester]") {
  const std::ptrdiff_t n = 24, m = 17;
  const DdMatrix x = random_matrix(n, m, 11);
  // Symmetric positive with condition 1e9; and a general one.
  DdMatrix spread = random_matrix(n, n, 12);
  DdMatrix a = multiply_transposed(spread, spread, 1), b = random_matrix(m, m, 13);
  for (std::ptrdiff_t i = 0; i < n; ++i) a.set(i, i, a(i, i) + std::pow(10.0, i * 9.0 / n));
  DdMatrix b_symmetric = multiply_transposed(b, b, 1);
  for (std::ptrdiff_t i = 0; i < m; ++i) b.set(i, i, b(i, i) + 20.0);
  SylvesterSolver::Mixed none, mixed{dd(0.5), random_matrix(n, n, 14), random_matrix(m, m, 15)};
  for (int kind = 0; kind < 3; ++kind) {
    const DdMatrix& right = kind == 0 ? b_symmetric : b;
    DdMatrix r = multiply(a, x, 1);
    const DdMatrix xb = multiply(x, transpose(right), 1);
    const DdMatrix cross = multiply(multiply(mixed.d, x, 1), transpose(mixed.e), 1);
    for (std::ptrdiff_t j = 0; j < m; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        r.set(i, j, r(i, j) + xb(i, j) + (kind == 2 ? mixed.factor * cross(i, j) : dd(0.0)));
    const SylvesterSolver solver(a, right, kind == 2 ? mixed : none, false, 1);
    const DdMatrix y = solver.solve(r).x;
    double worst = 0;
    for (std::ptrdiff_t j = 0; j < m; ++j)
      for (std::ptrdiff_t i = 0; i < n; ++i)
        worst = std::max(worst, std::fabs((y(i, j) - x(i, j)).hi));
    INFO("kind " << kind << ", condition " << solver.condition());
    CHECK(worst <= 1e-18 * largest(x));
  }
}

TEST_CASE("tones fifteen orders apart are told from each other", "[dd_linalg][spectrum]") {
  const int n = 2048;
  std::vector<double> samples(n);
  for (int i = 0; i < n; ++i) {
    const double t = 2 * 3.14159265358979323846 * i / n;
    samples[i] = std::sin(200.3 * t) + 1e-12 * std::cos(400.5 * t);
  }
  const auto amplitude = windowed_spectrum(samples);
  const auto bands = find_bands(amplitude, 1e-13, 1.0);
  REQUIRE(bands.size() == 2);
  CHECK(bands[0].lower == Approx(200).margin(1));
  CHECK(bands[1].lower == Approx(400.5).margin(2));
  const auto merged = merge_bands({{5, 6}, {0, 1}, {6.5, 9}}, 1);
  REQUIRE(merged.size() == 2);
  CHECK(merged[1].upper == 9);
}
