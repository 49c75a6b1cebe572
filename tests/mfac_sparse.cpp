#include "halfulp/mfac_sparse.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <vector>

#include "../validation/oracle/mfac.hpp"
#include "halfulp/error.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
using mfac::SparseOptions;
using mfac::SparseWindow;
using mfac::Storage;
using mfac_mpfr::Numbers;
using mfac_mpfr::Reference;
using mfac_mpfr::relative_error;

namespace {

SparseOptions options_of(std::ptrdiff_t k, Storage storage, double damping = 1e-4) {
  SparseOptions options;
  options.damping = damping;
  options.k = k;
  options.storage = storage;
  return options;
}
std::vector<float> gradient(std::size_t d, std::size_t t) {
  const Numbers g = mfac_mpfr::Random(40 + t).normals(d);
  return {g.begin(), g.end()};
}

}  // namespace

TEST_CASE("the largest numbers are kept and the rest is fed back", "[mfac]") {
  // beyond one block of 2^16 columns, with ties
  const std::size_t d = 70000, k = 700;
  SparseWindow window(3, 70000, options_of(700, Storage::float32));
  std::vector<float> error(d, 0.0F);
  Numbers row(d);
  for (std::size_t t = 0; t < 5; ++t) {
    std::vector<float> g = gradient(d, t), a(d);
    if (t == 2)
      for (float& value : g) value = value > 0 ? 50.0F : -50.0F;
    window.add(g);
    for (std::size_t j = 0; j < d; ++j) a[j] = error[j] + g[j];
    std::vector<std::size_t> order(d);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) {
      return std::fabs(a[i]) > std::fabs(a[j]);
    });
    Numbers expected(d, 0.0);
    error = a;
    for (std::size_t i = 0; i < k; ++i) expected[order[i]] = a[order[i]], error[order[i]] = 0;
    window.row(window.count() - 1, row);
    CHECK(row == expected);
    CHECK(std::equal(error.begin(), error.end(), window.error().begin()));
  }
}

TEST_CASE("sparse products agree with MPFR after every step", "[mfac]") {
  double worst = 0;
  for (const Storage storage : {Storage::float32, Storage::bfloat16})
    for (const std::ptrdiff_t k : {1, 7, 40}) {
      SparseWindow window(6, 40, options_of(k, storage));
      Numbers y(40), row(40);
      for (std::size_t t = 0; t < 16; ++t) {
        window.add(gradient(40, t));
        Numbers rows;
        for (std::ptrdiff_t i = 0; i < window.count(); ++i) {
          window.row(i, row);
          CHECK(std::count_if(row.begin(), row.end(), [](double v) { return v != 0; }) <= k);
          rows.insert(rows.end(), row.begin(), row.end());
        }
        const Reference reference(rows, static_cast<std::size_t>(window.count()), 40, 1e-4);
        const double unit = reference.condition() * 0x1p-52;
        window.inverse_newest(std::span<double>(y));
        worst = std::max(worst, relative_error(y, reference.product(row)) / unit);
        const Numbers x = mfac_mpfr::Random(900 + t).normals(40);
        window.inverse_product(std::span<const double>(x), std::span<double>(y));
        worst = std::max(worst, relative_error(y, reference.product(x)) / unit);
      }
    }
  INFO(worst);
  CHECK(worst <= 50);
}

TEST_CASE("memory of a sparse window, and its bits", "[mfac]") {
  const std::ptrdiff_t m = 256, d = 4000000;
  const double dense = 4.0 * static_cast<double>(m) * static_cast<double>(d);
  const SparseWindow window(m, d, options_of(d / 100, Storage::bfloat16));
  CHECK(dense / static_cast<double>(window.memory_bytes()) > 50);
  std::vector<Numbers> results;
  for (const int threads : {1, 4}) {
    SparseOptions options = options_of(3000, Storage::bfloat16);
    options.threads = threads;
    SparseWindow few(4, 200000, options);
    Numbers y(200000);
    for (std::size_t t = 0; t < 6; ++t) few.add(gradient(200000, t));
    few.inverse_newest(std::span<double>(y));
    results.push_back(y);
  }
  CHECK(results[0] == results[1]);
}

TEST_CASE("what a sparse window refuses", "[mfac]") {
  using halfulp::DomainError;
  CHECK_THROWS_AS(SparseWindow(3, 5, options_of(6, Storage::float32)), DomainError);
  CHECK_THROWS_AS(SparseWindow(3, 5, options_of(2, Storage::float64)), DomainError);
  CHECK_THROWS_AS(SparseWindow(3, 5, options_of(2, Storage::float32, 0)), DomainError);
  SparseWindow window(3, 4, options_of(2, Storage::bfloat16));
  Numbers y(4);
  CHECK_THROWS_AS(window.inverse_newest(std::span<double>(y)), DomainError);
  const std::vector<float> bad{1, 2, NAN, 3}, two{1, 2};
  CHECK_THAT(message_of<DomainError>([&] { window.add(bad); }),
             Contains("gradient[2] = nan, must be finite"));
  CHECK_THROWS_AS(window.add(two), halfulp::ShapeError);
  CHECK(window.count() == 0);
}
