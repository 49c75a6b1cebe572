#include "halfulp/random.hpp"

#include <mpfr.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numbers>
#include <set>
#include <vector>

#include "halfulp/error.hpp"
#include "scratch.hpp"

using namespace halfulp;

namespace {

/// sqrt(n) times the largest distance of the empirical distribution from `cdf`.
template <class Cdf>
double kolmogorov(std::vector<double> sample, const Cdf& cdf) {
  std::sort(sample.begin(), sample.end());
  const auto n = static_cast<double>(sample.size());
  double distance = 0;
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const double p = cdf(sample[i]), below = static_cast<double>(i) / n;
    distance = std::max({distance, p - below, below + 1 / n - p});
  }
  return std::sqrt(n) * distance;
}

double normal_cdf(double z) { return std::erfc(-z / std::numbers::sqrt2) / 2; }

/// The mean of f over a sample of n draws, in units of its own standard error, from `expected`.
template <class F>
double moment_deviation(const std::vector<double>& sample, double expected, double variance, F f) {
  long double sum = 0;
  for (const double x : sample) sum += static_cast<long double>(f(x));
  const auto n = static_cast<double>(sample.size());
  return (static_cast<double>(sum) / n - expected) / std::sqrt(variance / n);
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

}  // namespace

TEST_CASE("Philox4x32-10 agrees with the vectors that Random123 publishes", "[random]") {
  using Counter = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Counter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        Counter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Counter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("elements are the documented function of seed, stream and index", "[random]") {
  const std::uint64_t seed = 0x0123456789abcdef, index = 0xfedcba9876543210;
  const RandomStream random(seed, 0xdeadbeef);
  const auto words = [&](std::uint32_t kind) {
    return philox({static_cast<std::uint32_t>(index / 2), 0x7f6e5d4c, 0xdeadbeef, kind},
                  {0x89abcdef, 0x01234567});
  };
  const auto joined = [](std::uint32_t low, std::uint32_t high) {
    return static_cast<std::uint64_t>(high) << 32 | low;
  };
  const auto uniform = [&](std::uint64_t bits) {
    return std::ldexp(static_cast<double>(bits >> 12) + 0.5, -52);
  };
  const auto u = words(0);
  CHECK(random.bits(index) == joined(u[0], u[1]));
  CHECK(random.bits(index + 1) == joined(u[2], u[3]));
  CHECK(random.uniform(index) == uniform(joined(u[0], u[1])));
  CHECK(RandomStream(0).bits(0) == 0xe169c58d6627e8d5);  // the first published vector

  const auto z = words(1);
  const auto a = static_cast<long double>(uniform(joined(z[0], z[1])));
  const auto b = static_cast<long double>(uniform(joined(z[2], z[3])));
  const long double radius = std::sqrt(-2 * std::log(a));
  const long double angle = 2 * std::numbers::pi_v<long double> * b;
  CHECK(random.normal(index) ==
        Approx(static_cast<double>(radius * std::cos(angle))).epsilon(1e-15));
  CHECK(random.normal(index + 1) ==
        Approx(static_cast<double>(radius * std::sin(angle))).epsilon(1e-15));
}

TEST_CASE("normals are accurate in every octant", "[random]") {
  // Box-Muller in 200 bits on the same uniforms
  mpfr_t radius, turn, value;
  mpfr_inits2(200, radius, turn, value, static_cast<mpfr_ptr>(nullptr));
  const auto uniform = [](std::uint32_t low, std::uint32_t high) {
    return std::ldexp(
        static_cast<double>((static_cast<std::uint64_t>(high) << 32 | low) >> 12) + 0.5, -52);
  };
  const RandomStream random(11);
  double worst = 0;
  for (std::uint64_t k = 0; k < 20000; ++k) {
    const auto w = philox({static_cast<std::uint32_t>(k), 0, 0, 1}, {11, 0});
    mpfr_set_d(radius, uniform(w[0], w[1]), MPFR_RNDN);
    mpfr_log(radius, radius, MPFR_RNDN);
    mpfr_mul_si(radius, radius, -2, MPFR_RNDN);
    mpfr_sqrt(radius, radius, MPFR_RNDN);
    mpfr_set_d(turn, uniform(w[2], w[3]), MPFR_RNDN);
    for (const std::uint64_t half : {0u, 1u}) {
      half == 0 ? mpfr_cosu(value, turn, 1, MPFR_RNDN) : mpfr_sinu(value, turn, 1, MPFR_RNDN);
      mpfr_mul(value, value, radius, MPFR_RNDN);
      const double rounded = mpfr_get_d(value, MPFR_RNDN);
      mpfr_sub_d(value, value, random.normal(2 * k + half), MPFR_RNDN);
      worst = std::max(worst, std::abs(mpfr_get_d(value, MPFR_RNDN) / rounded));
    }
  }
  mpfr_clears(radius, turn, value, static_cast<mpfr_ptr>(nullptr));
  CAPTURE(worst / 0x1p-53);
  CHECK(worst < 5 * 0x1p-53);
}

TEST_CASE("uniforms stay inside and pass for uniform", "[random]") {
  // the extreme bits give the extreme uniforms: 2^-53 and 1 - 2^-53, both exact
  std::vector<double> u(200000);
  RandomStream(1, 2).fill_uniform(u);
  CHECK(*std::min_element(u.begin(), u.end()) > 0);
  CHECK(*std::max_element(u.begin(), u.end()) < 1);
  for (const double x : u) REQUIRE(std::fmod(x * 0x1p53, 2) == 1);
  CHECK(kolmogorov(u, [](double x) { return x; }) < 1.63);  // 1 % level
  for (const int power : {1, 2, 3, 4}) {
    const double mean = 1.0 / (power + 1), variance = 1.0 / (2 * power + 1) - mean * mean;
    CHECK(std::abs(moment_deviation(u, mean, variance,
                                    [&](double x) { return std::pow(x, power); })) < 3);
  }
  double lag = 0;
  for (std::size_t i = 0; i + 1 < u.size(); ++i) lag += (u[i] - 0.5) * (u[i + 1] - 0.5);
  CHECK(std::abs(lag * 12 / std::sqrt(static_cast<double>(u.size()))) < 3);
}

TEST_CASE("normals pass for normal", "[random]") {
  std::vector<double> z(200000);
  RandomStream(3).fill_normal(z);
  CHECK(kolmogorov(z, normal_cdf) < 1.63);
  const auto power = [](int k) { return [k](double x) { return std::pow(x, k); }; };
  CHECK(std::abs(moment_deviation(z, 0, 1, power(1))) < 3);
  CHECK(std::abs(moment_deviation(z, 1, 2, power(2))) < 3);
  CHECK(std::abs(moment_deviation(z, 0, 15, power(3))) < 3);
  CHECK(std::abs(moment_deviation(z, 3, 96, power(4))) < 3);
  double pairs = 0, squares = 0;  // the two of a pair are independent, not only uncorrelated
  for (std::size_t i = 0; i < z.size(); i += 2) {
    pairs += z[i] * z[i + 1];
    squares += (z[i] * z[i] - 1) * (z[i + 1] * z[i + 1] - 1);
  }
  const double n = static_cast<double>(z.size()) / 2;
  CHECK(std::abs(pairs) / std::sqrt(n) < 3);
  CHECK(std::abs(squares) / std::sqrt(4 * n) < 3);
}

TEST_CASE("integers below n have no bias", "[random]") {
  const RandomStream random(5);
  for (const std::uint64_t n : {2u, 3u, 7u, 100u}) {
    std::vector<std::uint64_t> draws(100000);
    random.fill_below(draws, n);
    std::vector<double> counts(n);
    for (const auto d : draws) {
      REQUIRE(d < n);
      ++counts[d];
    }
    const double expected = static_cast<double>(draws.size()) / static_cast<double>(n);
    double chi2 = 0;
    for (const double c : counts) chi2 += (c - expected) * (c - expected) / expected;
    const double freedom = static_cast<double>(n) - 1;
    CHECK((chi2 - freedom) / std::sqrt(2 * freedom) < 3.5);
  }
  // n = 3 * 2^62: a quarter of the products are rejected, and bits modulo n would fall into the
  // lowest third twice as often
  const std::uint64_t n = std::uint64_t{3} << 62;
  std::array<int, 3> thirds{};
  for (std::uint64_t i = 0; i < 30000; ++i) {
    const auto d = random.below(i, n);
    REQUIRE(d < n);
    ++thirds[d >> 62];
  }
  for (const int count : thirds) CHECK(std::abs(count - 10000) < 300);
  CHECK(random.below(9, 1) == 0);
  CHECK(message_of<DomainError>([&] { (void)random.below(0, 0); }) ==
        "halfulp::RandomStream::below: n = 0, must be > 0");
}

TEST_CASE("filling gives the elements, for any threads and any part", "[random]") {
  const RandomStream random(17, 4);
  for (const std::size_t size : {0u, 1u, 2u, 3u, 4095u, 4096u, 4097u, 50001u})
    for (const std::uint64_t first :
         {std::uint64_t{0}, std::uint64_t{1}, (std::uint64_t{1} << 40) + 3}) {
      std::vector<double> u(size), z(size);
      std::vector<std::uint64_t> k(size);
      for (std::size_t i = 0; i < size; ++i) {
        u[i] = random.uniform(first + i);
        z[i] = random.normal(first + i);
        k[i] = random.below(first + i, 1000);
      }
      for (const int threads : {1, 2, 3, 7, 16}) {
        INFO(size << " from " << first << ", " << threads << " threads");
        std::vector<double> out(size);
        random.fill_uniform(out, first, threads);
        REQUIRE(same_bits(out, u));
        random.fill_normal(out, first, threads);
        REQUIRE(same_bits(out, z));
        std::vector<std::uint64_t> integers(size);
        random.fill_below(integers, 1000, first, threads);
        REQUIRE(integers == k);
      }
    }
}

TEST_CASE("seeds, streams, kinds and indices do not repeat each other", "[random]") {
  std::set<std::uint64_t> seen;
  std::size_t drawn = 0;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
    for (const std::uint32_t stream : {0u, 1u, 2u, 0x80000000u})
      for (const std::uint64_t first : {std::uint64_t{0}, std::uint64_t{1} << 33})
        for (std::uint64_t i = 0; i < 1000; ++i, ++drawn)
          seen.insert(RandomStream(seed, stream).bits(first + i));
  CHECK(seen.size() == drawn);
}
