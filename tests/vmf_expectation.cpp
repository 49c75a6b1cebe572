#include "detail/vmf_expectation.hpp"

#include <hwy/targets.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "detail/aligned.hpp"
#include "detail/vmf_screen_simd.hpp"
#include "halfulp/random.hpp"

namespace detail = halfulp::detail;

namespace {

using Numbers = std::vector<double>;

/// body() with every instruction set that is here, then one set after the other taken away.
template <class Body>
void on_all_targets(Body body) {
  const auto supported = hwy::SupportedTargets();
  for (auto targets = supported; targets != 0; targets &= targets - 1) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO("targets " << targets);
    body();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

Numbers normals(std::size_t n, std::uint64_t seed) {
  Numbers x(n);
  halfulp::RandomStream(seed).fill_normal(x);
  return x;
}

/// Rows of norm 1, some of them spikes, zeros or in one half only.
Numbers rows_of_kinds(std::size_t n, std::size_t p) {
  Numbers x = normals(n * p, p);
  for (std::size_t i = 0; i < n; ++i) {
    double* const row = x.data() + i * p;
    if (i % 5 == 1)
      for (std::size_t q = 0; q < p; ++q) row[q] *= q == i % p ? 1e6 : 1e-9;
    if (i % 5 == 2)
      for (std::size_t q = (p + 1) / 2; q < p; ++q) row[q] = 0;
    if (i % 5 == 3)
      for (std::size_t q = 0; q < p; ++q) row[q] = row[q] < 0 ? -1 : 1;
    const double norm = std::sqrt(std::inner_product(row, row + p, row, 0.0));
    for (std::size_t q = 0; q < p; ++q) row[q] /= norm;
  }
  return x;
}

struct Problem {
  Numbers points;
  detail::VmfRows rows;
  Problem(std::size_t n, std::size_t p) : points(rows_of_kinds(n, p)) {
    rows.function = "test";
    rows.points = detail::VmfNumbers(points);
    rows.n = static_cast<std::ptrdiff_t>(n);
    rows.p = static_cast<std::ptrdiff_t>(p);
    rows.inverse_norm.assign(n, 1.0);
    rows.total = static_cast<double>(n);
    rows.counted = rows.n;
  }
};

}  // namespace

TEST_CASE("rows in 16 bits are as near as they say, and their products exact",
          "[vmf_expectation]") {
  on_all_targets([] {
    for (const std::size_t p : {1, 31, 32, 33, 500, 1024, 1025, 5000}) {
      constexpr std::size_t n = 10;
      const Numbers x = rows_of_kinds(n, p);
      const auto padded = static_cast<std::ptrdiff_t>((p + 31) / 32 * 32);
      const auto copy =
          detail::aligned_array<std::int16_t>(static_cast<std::ptrdiff_t>(n) * padded);
      for (std::size_t i = 0; i < n; ++i) {
        const double scale = i % 2 == 0 ? 1 : 1e4;
        std::int16_t* const row = copy.get() + static_cast<std::ptrdiff_t>(i) * padded;
        const auto found =
            detail::vmf_shorten(static_cast<std::ptrdiff_t>(p), x.data() + i * p, scale, row);
        long double square = 0;
        for (std::size_t q = 0; q < p; ++q) {
          const long double lack = static_cast<long double>(found.unit) * row[q] -
                                   static_cast<long double>(scale) * x[i * p + q];
          square += lack * lack;
        }
        INFO("p = " << p << ", row " << i);
        CHECK(std::sqrt(square) <= found.lack);
        CHECK(found.lack <= 2e-3 * scale);
        for (std::ptrdiff_t q = static_cast<std::ptrdiff_t>(p); q < padded; ++q) CHECK(row[q] == 0);
      }
      for (const std::size_t count : {1, 2, 3, 7, 10}) {
        std::vector<std::int32_t> list(count);
        for (std::size_t c = 0; c < count; ++c)
          list[c] = static_cast<std::int32_t>((3 * c + 1) % n);
        Numbers out(count);
        for (std::size_t i = 0; i < n; ++i) {
          const std::int16_t* const row = copy.get() + static_cast<std::ptrdiff_t>(i) * padded;
          detail::vmf_short_products(padded, row, copy.get(), static_cast<std::ptrdiff_t>(count),
                                     list.data(), out.data());
          for (std::size_t c = 0; c < count; ++c) {
            std::int64_t sum = 0;
            for (std::ptrdiff_t q = 0; q < padded; ++q)
              sum += std::int64_t{row[q]} * copy[static_cast<std::size_t>(list[c] * padded + q)];
            CHECK(out[c] == static_cast<double>(sum));
          }
        }
      }
    }
  });
}

TEST_CASE("products and sums of rows", "[vmf_expectation]") {
  on_all_targets([] {
    for (const std::size_t p : {1, 7, 16, 33, 784}) {
      const Numbers row = normals(p, 1), component = normals(6 * p, 2);
      const std::vector<std::int32_t> list{5, 0, 3, 1, 2, 4, 4};
      for (std::size_t count = 1; count <= list.size(); ++count) {
        Numbers out(count);
        detail::vmf_products_of(static_cast<std::ptrdiff_t>(p), row.data(), component.data(),
                                static_cast<std::ptrdiff_t>(count), list.data(), out.data());
        for (std::size_t c = 0; c < count; ++c) {
          long double sum = 0, size = 0;
          for (std::size_t q = 0; q < p; ++q) {
            const long double term = static_cast<long double>(row[q]) *
                                     component[static_cast<std::size_t>(list[c]) * p + q];
            sum += term;
            size += std::fabs(term);
          }
          CHECK(std::fabs(out[c] - sum) <= 0x1p-53L * (p + 4) * size);
        }
      }
      Numbers sum = component;
      detail::vmf_add_scaled(static_cast<std::ptrdiff_t>(p), 0.3, row.data(), sum.data());
      for (std::size_t q = 0; q < p; ++q)
        CHECK(sum[q] == Approx(component[q] + 0.3 * row[q]).epsilon(1e-15).margin(1e-15));
    }
  });
}

// What is left out of a row is below 2^-60/K of its density: sums with and without bounds agree to
// rounding, whatever the parameters do between iterations.
TEST_CASE("bounds rule nothing out that counts", "[vmf_expectation]") {
  struct Case {
    std::size_t n, p, k;
    double kappa;
  };
  for (const Case& c :
       {Case{200, 2, 3, 20}, Case{300, 30, 9, 100}, Case{250, 40, 5, 300}, Case{333, 100, 24, 500},
        Case{120, 1100, 7, 4000}, Case{90, 2500, 8, 3e4}}) {
    const Problem problem(c.n, c.p);
    on_all_targets([&] {
      const auto k = static_cast<std::ptrdiff_t>(c.k);
      detail::VmfExpectation bounded(problem.rows, k, true);
      for (int step = 0; step < 12; ++step) {
        detail::VmfParameters parameters;
        parameters.eta.resize(c.k * c.p);
        // small steps, then a jump of one component, then of the scale of all
        const double kappa = step < 9 ? c.kappa : 3 * c.kappa;
        for (std::size_t j = 0; j < c.k; ++j) {
          const Numbers other = normals(c.p, 77 + j + (step == 6 && j == 0 ? 1000 : 0));
          const double turn = 0.02 * step / std::sqrt(static_cast<double>(c.p));
          for (std::size_t q = 0; q < c.p; ++q)
            parameters.eta[j * c.p + q] =
                kappa * (problem.points[3 * j * c.p + q] + turn * other[q]);
          parameters.constant.push_back(-kappa - 0.3 * static_cast<double>(j));
        }
        const bool hard = step == 0 || step == 7;
        const auto sums = bounded.evaluate(parameters, hard);
        detail::VmfExpectation plain(problem.rows, k, false);
        const auto all = plain.evaluate(parameters, hard);
        INFO("p = " << c.p << ", step " << step);
        const double size = kappa * static_cast<double>(c.n);
        CHECK(std::fabs(sums.log_likelihood - all.log_likelihood) <= 1e-14 * size);
        for (std::size_t j = 0; j < c.k; ++j)
          CHECK(std::fabs(sums.weight[j] - all.weight[j]) <= 1e-14 * size);
        double worst = 0;
        for (std::size_t q = 0; q < sums.direction.size(); ++q)
          worst = std::fmax(worst, std::fabs(sums.direction[q] - all.direction[q]));
        CHECK(worst <= 1e-14 * size);
        for (std::ptrdiff_t i = 0; i < problem.rows.n; ++i)
          if (bounded.best(i) != plain.best(i)) FAIL_CHECK("row " << i);
      }
    });
  }
}
