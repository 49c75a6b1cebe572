#include "halfulp/threads.hpp"

#include <atomic>
#include <bit>
#include <catch2/catch.hpp>
#include <chrono>
#include <cmath>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/random.hpp"
#include "scratch.hpp"

using namespace halfulp;

namespace {

std::vector<double> wild(std::size_t n, std::uint64_t seed) {
  std::vector<double> values(n), exponents(n);
  RandomStream(seed, 0).fill_normal(values);
  RandomStream(seed, 1).fill_uniform(exponents);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = std::ldexp(values[i], static_cast<int>(60 * exponents[i]) - 30);
  return values;
}

std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }

}  // namespace

TEST_CASE("thread counts and their scope", "[threads]") {
  CHECK(thread_count(5) == 5);
  CHECK(thread_count(0) >= 1);
  CHECK(message_of<DomainError>([] { (void)thread_count(-1); }) ==
        "halfulp::thread_count: threads = -1, must be in 0 ... 1024");
  CHECK_THROWS_AS(thread_count(1000000), DomainError);
  const int before = thread_count();
  {
    const ThreadScope three(3);
    CHECK(thread_count() == 3);
    {
      const ThreadScope one(1);
      CHECK(thread_count() == 1);
    }
    CHECK(thread_count() == 3);
    int elsewhere = 0;
    std::thread([&] { elsewhere = thread_count(); }).join();
    CHECK(elsewhere == before);
  }
  CHECK(thread_count() == before);
}

TEST_CASE("each index once, on several threads", "[threads]") {
  for (const int threads : {0, 1, 2, 3, 7, 16})
    for (const std::ptrdiff_t n : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
      parallel_for(n, threads, [&](std::ptrdiff_t i) { ++calls[static_cast<std::size_t>(i)]; });
      for (const auto& c : calls) REQUIRE(c == 1);
    }
  CHECK_NOTHROW(parallel_for(-3, 2, [](std::ptrdiff_t) { throw 1; }));
  std::mutex mutex;
  std::set<std::thread::id> ids;
  parallel_for(64, 4, [&](std::ptrdiff_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  CHECK(ids.size() > 1);
  CHECK(ids.size() <= 4);
}

TEST_CASE("blocks cover the range and do not depend on threads", "[threads]") {
  for (const int threads : {1, 2, 7})
    for (const std::ptrdiff_t n : {0, 1, 9, 10, 11, 99}) {
      std::mutex mutex;
      std::set<std::pair<std::ptrdiff_t, std::ptrdiff_t>> seen, expected;
      parallel_blocks(n, 10, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        const std::lock_guard lock(mutex);
        seen.emplace(begin, end);
      });
      for (std::ptrdiff_t b = 0; b < n; b += 10) expected.emplace(b, std::min(b + 10, n));
      CHECK(seen == expected);
    }
  const auto nothing = [](std::ptrdiff_t, std::ptrdiff_t) {};
  CHECK_THROWS_AS(parallel_blocks(1, 0, 1, nothing), DomainError);
  CHECK_THROWS_AS(parallel_blocks(-1, 1, 1, nothing), DomainError);
  CHECK_NOTHROW(parallel_blocks(5, PTRDIFF_MAX, 1, nothing));
}

TEST_CASE("the exception of the smallest index comes out", "[threads]") {
  for (const int threads : {1, 2, 3, 7, 16})
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::vector<std::atomic<int>> calls(200);
      const std::string message = message_of<std::runtime_error>([&] {
        parallel_for(200, threads, [&](std::ptrdiff_t i) {
          ++calls[static_cast<std::size_t>(i)];
          // the later ones fail sooner
          if (i == 37) std::this_thread::sleep_for(std::chrono::microseconds(200));
          if (i == 37 || i > 40) throw std::runtime_error("index " + std::to_string(i));
        });
      });
      REQUIRE(message == "index 37");
      for (std::size_t i = 0; i <= 37; ++i) REQUIRE(calls[i] == 1);
    }
  // and from a loop inside a loop
  CHECK(message_of<DomainError>([] {
          parallel_for(4, 2, [](std::ptrdiff_t i) {
            parallel_for(4, 2, [i](std::ptrdiff_t j) {
              if (i >= 1 && j >= 2) throw DomainError("f", "ij", double(10 * i + j), "small");
            });
          });
        }) == "halfulp::f: ij = 12, must be small");
}

TEST_CASE("sums have the same bits for any number of threads", "[threads]") {
  for (const std::size_t n :
       {0u, 1u, 2u, 7u, 8u, 9u, 1023u, 1024u, 1025u, 32768u, 32769u, 65537u, 300007u}) {
    const auto a = wild(n, 1), b = wild(n, 2);
    const double sum = tree_sum(a, 1), dot = tree_dot(a, b, 1);
    for (const int threads : {0, 2, 3, 7, 16}) {
      INFO(n << " values, " << threads << " threads");
      REQUIRE(bits(tree_sum(a, threads)) == bits(sum));
      REQUIRE(bits(tree_dot(a, b, threads)) == bits(dot));
    }
    // the same from an odd address: alignment must not matter either
    std::vector<double> shifted(n + 1);
    std::copy(a.begin(), a.end(), shifted.begin() + 1);
    REQUIRE(bits(tree_sum(std::span(shifted).subspan(1), 2)) == bits(sum));
  }
}

TEST_CASE("sums follow the documented order and meet their bound", "[threads]") {
  // the order written down again, without blocks of tasks or lambdas
  const auto values = wild(5000, 9);
  std::vector<double> sums;
  for (std::size_t begin = 0; begin < values.size(); begin += 1024) {
    double lane[8] = {};
    for (std::size_t i = begin; i < std::min(begin + 1024, values.size()); ++i)
      lane[(i - begin) % 8] += values[i];
    sums.push_back(((lane[0] + lane[1]) + (lane[2] + lane[3])) +
                   ((lane[4] + lane[5]) + (lane[6] + lane[7])));
  }
  REQUIRE(sums.size() == 5);
  CHECK(tree_sum(values) == ((sums[0] + sums[1]) + (sums[2] + sums[3])) + sums[4]);

  for (const std::size_t n : {2000u, 300007u}) {
    const auto a = wild(n, 3), b = wild(n, 4);
    // long double: 11 bits more, so its own error is below a tenth of the bound
    long double sum = 0, magnitude = 0, dot = 0, dot_magnitude = 0;
    for (std::size_t i = 0; i < n; ++i) {
      sum += static_cast<long double>(a[i]);
      magnitude += std::abs(static_cast<long double>(a[i]));
      const long double product = static_cast<long double>(a[i]) * static_cast<long double>(b[i]);
      dot += product;
      dot_magnitude += std::abs(product);
    }
    const auto bound = static_cast<long double>((132 + std::log2(double(n) / 1024)) * 0x1p-53);
    CHECK(std::abs(static_cast<long double>(tree_sum(a)) - sum) <= bound * magnitude);
    CHECK(std::abs(static_cast<long double>(tree_dot(a, b)) - dot) <= bound * dot_magnitude);
  }
  CHECK(tree_sum(std::vector<double>(1 << 20, 0.1)) == Approx(104857.6).epsilon(1e-14));
  auto holed = wild(5000, 6);
  holed[4321] = std::nan("");
  CHECK(std::isnan(tree_sum(holed)));
  CHECK(tree_sum({}) == 0);
  CHECK(message_of<ShapeError>([] {
          (void)tree_dot(std::vector<double>(3), std::vector<double>(4));
        }) == "halfulp::tree_dot: b.size() = 4, must be 3");
}
