#include <boost/multiprecision/mpfr.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "detail/dd_eigen.hpp"

using namespace halfulp;
using namespace halfulp::detail;

namespace {

using Mp = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<0>,
                                         boost::multiprecision::et_off>;
const bool digits_set = (Mp::default_precision(60), true);
const double u2 = std::ldexp(1.0, -106);

using MpMatrix = std::vector<std::vector<Mp>>;  // [row][column]

Mp mp(dd x) { return Mp(x.hi) + Mp(x.lo); }

// V diag(values) V^T with V a product of Householder reflections, in MPFR.
MpMatrix with_eigenvalues(const std::vector<Mp>& values, int seed) {
  const std::size_t n = values.size();
  std::mt19937_64 g(seed);
  std::normal_distribution<double> normal;
  MpMatrix a(n, std::vector<Mp>(n));
  for (std::size_t i = 0; i < n; ++i) a[i][i] = values[i];
  for (int round = 0; round < 3; ++round) {
    std::vector<Mp> w(n), aw(n);
    Mp ww = 0;
    for (auto& x : w) {
      x = normal(g);
      ww += x * x;
    }
    Mp waw = 0;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) aw[i] += a[i][j] * w[j];
      waw += w[i] * aw[i];
    }
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j)
        a[i][j] += -2 * (w[i] * aw[j] + aw[i] * w[j]) / ww + 4 * waw * w[i] * w[j] / (ww * ww);
  }
  return a;
}

DdMatrix rounded(const MpMatrix& a) {
  const auto n = static_cast<std::ptrdiff_t>(a.size());
  DdMatrix out(n, n);
  for (std::ptrdiff_t i = 0; i < n; ++i)
    for (std::ptrdiff_t j = 0; j <= i; ++j) {
      const auto hi = static_cast<double>(a[i][j]);
      const dd v(hi, static_cast<double>(a[i][j] - hi));
      out.set(i, j, v);
      out.set(j, i, v);
    }
  return out;
}

struct Errors {
  double residual = 0;       // |A v - lambda v| / |A|
  double orthogonality = 0;  // |V^T V - I|
  double values = 0;         // against those asked for, / |A|
};

Errors errors_of(const DdMatrix& a, const SymmetricEigen& e, std::vector<Mp> values) {
  const std::ptrdiff_t n = a.rows();
  Errors out;
  Mp size = 0;
  for (const Mp& v : values) size = std::max<Mp>(size, abs(v));
  std::sort(values.begin(), values.end());
  const auto update = [](double& worst, const Mp& v) {
    worst = std::max(worst, static_cast<double>(abs(v)));
  };
  for (std::ptrdiff_t k = 0; k < n; ++k) {
    update(out.values, (mp(e.values[k]) - values[k]) / size);
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      Mp r = -mp(e.values[k]) * mp(e.vectors(i, k)), dot = i == k ? -1 : 0;
      for (std::ptrdiff_t j = 0; j < n; ++j) {
        r += mp(a(i, j)) * mp(e.vectors(j, k));
        dot += mp(e.vectors(j, i)) * mp(e.vectors(j, k));
      }
      update(out.residual, r / size);
      update(out.orthogonality, dot);
    }
  }
  return out;
}

void check(const std::vector<Mp>& values, int seed) {
  const DdMatrix a = rounded(with_eigenvalues(values, seed));
  const SymmetricEigen e = symmetric_eigen(a, 1);
  const Errors err = errors_of(a, e, values);
  const double limit = 8 * static_cast<double>(values.size()) * u2;
  INFO("rounds " << e.rounds << ", last change " << e.last_change);
  // In units of what n terms round: double-double is too fine for Catch to print.
  CHECK(err.residual / limit <= 1);
  CHECK(err.orthogonality / limit <= 1);
  CHECK(err.values / limit <= 1);
  CHECK(std::is_sorted(e.values.begin(), e.values.end()));
}

}  // namespace

TEST_CASE("eigenpairs in double-double against MPFR", "[eigen]") {
  SECTION("well apart") {
    std::vector<Mp> values;
    for (int i = 0; i < 24; ++i) values.push_back(Mp(i * i + 1) / 7 - 3);
    check(values, 1);
  }
  SECTION("nine decades, as a stiffness matrix has them") {
    std::vector<Mp> values;
    for (int i = 0; i < 24; ++i) values.push_back(-pow(Mp(10), Mp(9 * i) / 23) / 4);
    check(values, 2);
  }
  SECTION("clusters that double cannot separate") {
    std::vector<Mp> values;
    for (int i = 0; i < 5; ++i) values.push_back(1 + i * pow(Mp(10), -20));
    for (int i = 0; i < 4; ++i) values.push_back(100 + i * pow(Mp(10), -14));
    for (int i = 0; i < 8; ++i) values.push_back(1000 + 37 * i);
    check(values, 3);
  }
  SECTION("equal eigenvalues") {
    std::vector<Mp> values(6, Mp(2));
    for (int i = 0; i < 8; ++i) values.push_back(5 + i / 2);
    check(values, 4);
  }
  SECTION("multiples of the identity, one by one, none at all") {
    check(std::vector<Mp>(5, Mp(3)), 5);
    check({Mp(-4)}, 6);
    CHECK(symmetric_eigen(DdMatrix(0, 0), 1).values.empty());
  }
}

TEST_CASE("vectors of a separated cluster are right one by one", "[eigen]") {
  // diag(0, 1e-18) in a known frame, beside others: the frame must come back.
  const int n = 10;
  std::vector<Mp> values{Mp(0), pow(Mp(10), -18)};
  for (int i = 2; i < n; ++i) values.push_back(Mp(i));
  const DdMatrix a = rounded(with_eigenvalues(values, 7));
  const SymmetricEigen e = symmetric_eigen(a, 1);
  const Errors err = errors_of(a, e, values);
  // |v_0^T A v_1| over the gap is the angle by which the two are mixed.
  CHECK(err.residual <= 1e-30);
  CHECK(std::fabs((e.values[1] - e.values[0]).hi - 1e-18) <= 1e-12 * 1e-18);
}

TEST_CASE("the same bits for any number of threads", "[eigen]") {
  std::vector<Mp> values;
  for (int i = 0; i < 40; ++i) values.push_back(Mp(i) / 3);
  const DdMatrix a = rounded(with_eigenvalues(values, 8));
  const SymmetricEigen one = symmetric_eigen(a, 1), four = symmetric_eigen(a, 4);
  CHECK(one.vectors.rounded() == four.vectors.rounded());
}

TEST_CASE("a matrix that is not finite is refused", "[eigen]") {
  DdMatrix a(2, 2);
  a.set(0, 0, std::nan(""));
  CHECK_THROWS(symmetric_eigen(a, 1));
}
