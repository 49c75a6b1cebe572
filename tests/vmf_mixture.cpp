#include "halfulp/vmf_mixture.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "detail/vmf_mixture.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/random.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace vmf = halfulp::vmf;
using vmf::Concentration;
using vmf::Em;
using vmf::Mixture;
using vmf::MixtureOptions;

namespace {

using Numbers = std::vector<double>;

Numbers direction(std::size_t p, std::uint64_t seed) {
  Numbers mu(p);
  halfulp::RandomStream(seed).fill_normal(mu);
  const double norm = std::sqrt(std::inner_product(mu.begin(), mu.end(), mu.begin(), 0.0));
  for (double& m : mu) m /= norm;
  return mu;
}

/// n rows of each of the components, and a mixture they are from.
struct Sample {
  std::size_t p;
  Mixture mixture;
  Numbers points;
};
Sample sample(std::size_t p, const Numbers& kappa, std::size_t n) {
  Sample s{p, {}, {}};
  for (std::size_t j = 0; j < kappa.size(); ++j) {
    s.mixture.components.push_back({direction(p, 100 + j), kappa[j]});
    s.mixture.weights.push_back(1 / static_cast<double>(kappa.size()));
    Numbers rows(n * p);
    vmf::sample(s.mixture.components[j], j + 1, rows);
    s.points.insert(s.points.end(), rows.begin(), rows.end());
  }
  return s;
}

/// EM as in the books, in long double but for the functions of one number.
std::vector<long double> textbook(const Numbers& points, std::size_t p, Mixture m, int iterations) {
  const std::size_t n = points.size() / p, k = m.weights.size();
  std::vector<long double> trace;
  for (int t = 0; t <= iterations; ++t) {
    std::vector<long double> sums(k * p, 0.0L), weight(k, 0.0L);
    long double total = 0;
    for (std::size_t i = 0; i < n; ++i) {
      std::vector<long double> logs(k);
      for (std::size_t j = 0; j < k; ++j) {
        const auto& c = m.components[j];
        long double dot = 0;
        for (std::size_t q = 0; q < p; ++q)
          dot += static_cast<long double>(points[i * p + q]) * c.mu[q];
        logs[j] = std::log(static_cast<long double>(m.weights[j])) +
                  vmf::log_normaliser(static_cast<double>(p), c.kappa) + c.kappa * dot;
      }
      const long double most = *std::max_element(logs.begin(), logs.end());
      long double sum = 0;
      for (const long double l : logs) sum += std::exp(l - most);
      total += most + std::log(sum);
      for (std::size_t j = 0; j < k; ++j) {
        const long double r = std::exp(logs[j] - most) / sum;
        weight[j] += r;
        for (std::size_t q = 0; q < p; ++q) sums[j * p + q] += r * points[i * p + q];
      }
    }
    trace.push_back(total);
    for (std::size_t j = 0; j < k; ++j) {
      long double square = 0;
      for (std::size_t q = 0; q < p; ++q) square += sums[j * p + q] * sums[j * p + q];
      const long double length = std::sqrt(square);
      m.weights[j] = static_cast<double>(weight[j] / n);
      m.components[j].kappa = vmf::kappa_complement(static_cast<double>(p),
                                                    static_cast<double>(1 - length / weight[j]));
      for (std::size_t q = 0; q < p; ++q)
        m.components[j].mu[q] = static_cast<double>(sums[j * p + q] / length);
    }
  }
  return trace;
}

void check_monotone(const Numbers& trace, const std::vector<int>& reseeded) {
  for (std::size_t t = 1; t < trace.size(); ++t) {
    if (std::find(reseeded.begin(), reseeded.end(), static_cast<int>(t)) != reseeded.end())
      continue;
    INFO("iteration " << t);
    CHECK(trace[t] >= trace[t - 1] - 1e-12 * std::fabs(trace[t - 1]));
  }
}

bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}
void check_same(const Mixture& a, const Mixture& b) {
  CHECK(same_bits(a.weights, b.weights));
  REQUIRE(a.components.size() == b.components.size());
  for (std::size_t j = 0; j < a.components.size(); ++j) {
    CHECK(same_bits(a.components[j].mu, b.components[j].mu));
    CHECK(a.components[j].kappa == b.components[j].kappa);
  }
}

std::string bytes_of(const std::filesystem::path& file) {
  return halfulp::read_file(file, std::size_t{1} << 30);
}

}  // namespace

TEST_CASE("EM is the textbook's, rows left out or not", "[vmf_mixture]") {
  struct Case {
    std::size_t p;
    Numbers kappa;
  };
  for (const Case& c :
       {Case{3, {1, 5, 20}}, Case{2, {4, 0.5}}, Case{25, {30, 60, 90, 20, 40}},
        Case{60, {150, 80, 200}},
        Case{200, {1000, 3000, 500, 800, 700, 400, 2000, 900, 1500, 600, 1000, 500}}}) {
    const Sample s = sample(c.p, c.kappa, 150);
    const auto k = static_cast<std::ptrdiff_t>(c.kappa.size());
    Mixture start = s.mixture;  // means a bit off
    for (std::size_t j = 0; j < start.components.size(); ++j) {
      Numbers& mu = start.components[j].mu;
      const Numbers other = direction(c.p, 900 + j);
      double square = 0;
      for (std::size_t q = 0; q < c.p; ++q) mu[q] += 0.4 * other[q], square += mu[q] * mu[q];
      for (double& m : mu) m /= std::sqrt(square);
      start.components[j].kappa *= 0.3;
    }
    MixtureOptions options;
    options.max_iterations = 25;
    options.tolerance = 0;
    options.start.mixture = &start;
    const auto p = static_cast<std::ptrdiff_t>(c.p);
    const halfulp::detail::VmfNumbers numbers(s.points);
    const auto fit = halfulp::detail::fit_mixture(numbers, p, k, options, true);
    const auto all = halfulp::detail::fit_mixture(numbers, p, k, options, false);
    const auto book = textbook(s.points, c.p, start, static_cast<int>(fit.trace.size()) - 1);
    REQUIRE(fit.reseeded.empty());
    REQUIRE(fit.trace.size() >= 3);
    for (std::size_t t = 0; t < fit.trace.size(); ++t) {
      INFO("p = " << c.p << ", iteration " << t);
      const double size = std::fabs(fit.trace[t]) + static_cast<double>(s.points.size());
      CHECK(std::fabs(fit.trace[t] - static_cast<double>(book[t])) <= 1e-12 * size);
      if (t < all.trace.size()) CHECK(std::fabs(fit.trace[t] - all.trace[t]) <= 1e-13 * size);
    }
    check_monotone(fit.trace, fit.reseeded);
  }
}

TEST_CASE("known mixtures are found again", "[vmf_mixture]") {
  const Sample s = sample(30, {100, 200, 400, 150}, 500);
  for (const Em em : {Em::soft, Em::hard})
    for (const Concentration concentration : {Concentration::free, Concentration::shared}) {
      MixtureOptions options;
      options.em = em;
      options.concentration = concentration;
      options.seed = 3;
      options.runs = 3;
      const auto fit = vmf::fit_mixture(s.points, 30, 4, options);
      CHECK(fit.report.ok());
      check_monotone(fit.trace, fit.reseeded);
      CHECK(fit.parameters == 4 * 29 + (concentration == Concentration::free ? 4 : 1) + 3);
      const auto label = vmf::assignment(fit.mixture, s.points);
      for (std::size_t j = 0; j < 4; ++j) {  // each true component is one of the found
        const std::int32_t mine = label[500 * j];
        CHECK(std::count(label.begin() + static_cast<std::ptrdiff_t>(500 * j),
                         label.begin() + static_cast<std::ptrdiff_t>(500 * (j + 1)), mine) >= 495);
        const auto& found = fit.mixture.components[static_cast<std::size_t>(mine)];
        const auto& mu = s.mixture.components[j].mu;
        CHECK(std::inner_product(mu.begin(), mu.end(), found.mu.begin(), 0.0) > 0.995);
        if (concentration == Concentration::free)
          CHECK(found.kappa == Approx(s.mixture.components[j].kappa).epsilon(0.1));
      }
      const double sum = std::accumulate(fit.counts.begin(), fit.counts.end(), 0.0);
      CHECK(sum == Approx(2000));
      CHECK(fit.aic == Approx(2.0 * static_cast<double>(fit.parameters) - 2 * fit.log_likelihood));
    }
}

TEST_CASE("one component is the plain fit; weights are repetitions", "[vmf_mixture]") {
  const Sample s = sample(7, {6, 30}, 60);
  const auto one = vmf::fit_mixture(s.points, 7, 1);
  const auto fit = vmf::fit(s.points, 7);
  CHECK(one.mixture.components[0].kappa == Approx(fit.distribution.kappa).epsilon(1e-13));
  CHECK(one.log_likelihood == Approx(fit.log_likelihood).epsilon(1e-12));
  Numbers weights(120, 1.0), twice = s.points;
  for (std::size_t i = 0; i < 40; ++i) {
    weights[i] = 2;
    twice.insert(twice.end(), s.points.begin() + static_cast<std::ptrdiff_t>(7 * i),
                 s.points.begin() + static_cast<std::ptrdiff_t>(7 * i + 7));
  }
  MixtureOptions options;
  options.start.mixture = &s.mixture;
  const auto repeated = vmf::fit_mixture(twice, 7, 2, options);
  options.data.weights = weights;
  const auto weighted = vmf::fit_mixture(s.points, 7, 2, options);
  CHECK(weighted.log_likelihood == Approx(repeated.log_likelihood).epsilon(1e-12));
  CHECK(weighted.mixture.components[1].kappa ==
        Approx(repeated.mixture.components[1].kappa).epsilon(1e-10));
}

TEST_CASE("the same bits for any number of threads, and runs that are better", "[vmf_mixture]") {
  const Sample s = sample(12, {20, 40, 10, 5, 60}, 700);
  MixtureOptions options;
  options.seed = 5;
  options.data.threads = 1;
  const auto first = vmf::fit_mixture(s.points, 12, 5, options);
  for (const int threads : {2, 3, 7}) {
    options.data.threads = threads;
    const auto again = vmf::fit_mixture(s.points, 12, 5, options);
    check_same(again.mixture, first.mixture);
    CHECK(same_bits(again.trace, first.trace));
  }
  options.runs = 6;
  const auto best = vmf::fit_mixture(s.points, 12, 5, options);
  CHECK(best.log_likelihood >= first.log_likelihood);
  CHECK(best.run < 6);
}

TEST_CASE("densities and posteriors of a mixture", "[vmf_mixture]") {
  const Sample s = sample(5, {3, 10, 300}, 40);
  const std::size_t n = s.points.size() / 5;
  Numbers density(n), posterior(3 * n);
  vmf::log_density(s.mixture, s.points, density);
  vmf::posterior(s.mixture, s.points, posterior);
  const auto label = vmf::assignment(s.mixture, s.points);
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0, largest = 0;
    Numbers one(1);
    for (std::size_t j = 0; j < 3; ++j) {
      const std::span<const double> row(s.points.data() + 5 * i, 5);
      vmf::log_density(s.mixture.components[j], row, one);
      CHECK(posterior[3 * i + j] == Approx(std::exp(one[0] - density[i]) * s.mixture.weights[j])
                                        .epsilon(1e-12)
                                        .margin(1e-300));
      sum += posterior[3 * i + j];
      largest = std::max(largest, posterior[3 * i + j]);
    }
    CHECK(sum == Approx(1).epsilon(1e-14));
    CHECK(posterior[3 * i + static_cast<std::size_t>(label[i])] == largest);
  }
}

TEST_CASE("no component is empty in the end", "[vmf_mixture]") {
  const Sample s = sample(4, {50, 80}, 100);
  Numbers means(6 * 4);  // four of the six far from every row
  for (std::size_t j = 0; j < 6; ++j) {
    const Numbers& mu = s.mixture.components[j % 2].mu;
    for (std::size_t q = 0; q < 4; ++q)
      means[4 * j + q] = j < 2 ? mu[q] : -mu[q] * (1 + 0.1 * double(j));
  }
  MixtureOptions options;
  options.start.means = means;
  const auto fit = vmf::fit_mixture(s.points, 4, 6, options);
  for (const double count : fit.counts) CHECK(count > 0.5);
  check_monotone(fit.trace, fit.reseeded);
  vmf::KMeansOptions k;
  k.means = means;
  const auto found = vmf::spherical_kmeans(s.points, 4, 6, k);
  CHECK(!found.reseeded.empty());
  for (const double count : found.counts) CHECK(count >= 1);
  check_monotone(found.trace, found.reseeded);
  // all rows equal but one: kappa stays at its bound
  Numbers same;
  for (int i = 0; i < 9; ++i) same.insert(same.end(), {0.6, 0.8, 0});
  same.insert(same.end(), {0, 0, 1});
  options = {};
  options.max_kappa = 1e6;
  const auto spikes = vmf::fit_mixture(same, 3, 2, options);
  CHECK(spikes.mixture.components[0].kappa == 1e6);
  CHECK(std::isfinite(spikes.log_likelihood));
  CHECK_THROWS_WITH(vmf::fit_mixture(same, 3, 3), Contains("the number of different rows"));
}

TEST_CASE("spherical k-means", "[vmf_mixture]") {
  const Sample s = sample(20, {100, 200, 150}, 200);
  vmf::KMeansOptions options;
  options.runs = 4;
  const auto found = vmf::spherical_kmeans(s.points, 20, 3, options);
  CHECK(found.report.ok());
  check_monotone(found.trace, found.reseeded);
  double objective = 0;
  for (std::size_t i = 0; i < 600; ++i) {
    double best = -2;
    std::int32_t nearest = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      const double c =
          std::inner_product(found.means.begin() + static_cast<std::ptrdiff_t>(20 * j),
                             found.means.begin() + static_cast<std::ptrdiff_t>(20 * j + 20),
                             s.points.begin() + static_cast<std::ptrdiff_t>(20 * i), 0.0);
      if (c > best) best = c, nearest = static_cast<std::int32_t>(j);
    }
    objective += best;
    CHECK(found.assignment[i] == nearest);
    CHECK(found.assignment[i] == found.assignment[200 * (i / 200)]);
  }
  CHECK(found.objective == Approx(objective).epsilon(1e-13));
}

TEST_CASE("points in single precision give the bits of their doubles", "[vmf_mixture]") {
  struct Case {
    std::size_t p;
    double kappa;
    std::size_t components;
  };
  // above 48 rows are copied to 16 bits; of 14 components, many rows are looked at by all at once
  for (const Case& c : {Case{2, 30, 3}, Case{7, 10, 14}, Case{48, 150, 5}, Case{64, 200, 14},
                        Case{784, 1500, 14}}) {
    Numbers kappa(c.components, c.kappa);
    kappa[1] *= 0.2;
    const Sample s = sample(c.p, kappa, 300 / c.components);
    const auto p = static_cast<std::ptrdiff_t>(c.p), k = static_cast<std::ptrdiff_t>(c.components);
    const std::size_t n = s.points.size() / c.p;
    Numbers weights(n);
    for (std::size_t i = 0; i < n; ++i) weights[i] = static_cast<double>(i * i % 7) / 3;
    for (const bool longer : {false, true}) {  // with weights and to be normalised
      std::vector<float> single(s.points.begin(), s.points.end());
      for (std::size_t i = 0; longer && i < single.size(); ++i) {
        const std::size_t row = i / c.p;
        single[i] *= 0.3F + static_cast<float>(row);
      }
      const Numbers wide(single.begin(), single.end());
      const vmf::DataOptions data = {
          .weights = longer ? std::span<const double>(weights) : std::span<const double>(),
          .normalise = longer,
          .threads = 1};
      vmf::DataOptions other = data;
      INFO("p = " << p << ", longer " << longer);
      for (const Em em : {Em::soft, Em::hard}) {
        MixtureOptions options;
        options.data = data;
        options.em = em;
        options.seed = 3;
        options.runs = 2;
        options.max_iterations = 6;
        const auto reference = vmf::fit_mixture(wide, p, k, options);
        CHECK(reference.trace.size() >= 3);
        for (const int threads : {1, 3}) {
          options.data.threads = threads;
          const auto fit = vmf::fit_mixture(single, p, k, options);
          CHECK(same_bits(fit.trace, reference.trace));
          CHECK(same_bits(fit.counts, reference.counts));
          CHECK(fit.run == reference.run);
          check_same(fit.mixture, reference.mixture);
        }
      }
      vmf::KMeansOptions options;
      options.data = data;
      options.runs = 2;
      const auto reference = vmf::spherical_kmeans(wide, p, k, options);
      for (const int threads : {1, 3}) {
        options.data.threads = other.threads = threads;
        const auto found = vmf::spherical_kmeans(single, p, k, options);
        CHECK(same_bits(found.means, reference.means));
        CHECK(same_bits(found.trace, reference.trace));
        CHECK(found.assignment == reference.assignment);
      }

      const auto a = vmf::resultant(wide, p, data), b = vmf::resultant(single, p, other);
      CHECK(same_bits(b.direction, a.direction));
      CHECK(b.length == a.length);
      CHECK(b.complement == a.complement);
      CHECK(b.count == a.count);
      CHECK(vmf::fit(single, p, {.data = other}).distribution.kappa ==
            vmf::fit(wide, p, {.data = data}).distribution.kappa);
      const auto& one = s.mixture.components[0];
      CHECK(vmf::log_likelihood(one, single, other) == vmf::log_likelihood(one, wide, data));
      Numbers x(n), y(n), xs(n * c.components), ys(n * c.components);
      vmf::log_density(one, wide, x, data);
      vmf::log_density(one, single, y, other);
      CHECK(same_bits(x, y));
      vmf::log_density(s.mixture, wide, x, data);
      vmf::log_density(s.mixture, single, y, other);
      CHECK(same_bits(x, y));
      vmf::posterior(s.mixture, wide, xs, data);
      vmf::posterior(s.mixture, single, ys, other);
      CHECK(same_bits(xs, ys));
      CHECK(vmf::assignment(s.mixture, single, other) == vmf::assignment(s.mixture, wide, data));
    }
  }
}

TEST_CASE("rows in single precision are refused in the same words", "[vmf_mixture]") {
  const Sample s = sample(5, {5, 50}, 10);
  const std::vector<float> good(s.points.begin(), s.points.end());
  const auto words = [](auto f) {
    try {
      static_cast<void>(f());
    } catch (const halfulp::Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto check = [&](const std::vector<float>& single, std::ptrdiff_t p, bool normalise,
                         const std::string& piece) {
    const Numbers wide(single.begin(), single.end());
    const std::string expected = words([&] { return vmf::resultant(wide, p, {{}, normalise}); });
    INFO(expected);
    CHECK(expected.find(piece) != std::string::npos);
    CHECK(words([&] { return vmf::resultant(single, p, {{}, normalise}); }) == expected);
    MixtureOptions options;
    options.data.normalise = normalise;
    vmf::KMeansOptions means;
    means.data.normalise = normalise;
    CHECK(words([&] { return vmf::fit_mixture(single, p, 2, options); }) ==
          words([&] { return vmf::fit_mixture(wide, p, 2, options); }));
    CHECK(words([&] { return vmf::fit_mixture(single, p, 2, options); }).find(piece) !=
          std::string::npos);
    CHECK(words([&] { return vmf::spherical_kmeans(single, p, 2, means); }) ==
          words([&] { return vmf::spherical_kmeans(wide, p, 2, means); }));
    CHECK(words([&] { return vmf::assignment(s.mixture, single, options.data); }) ==
          words([&] { return vmf::assignment(s.mixture, wide, options.data); }));
  };
  std::vector<float> bad = good;
  bad[5 * 4 + 1] = std::nanf("");
  for (const bool normalise : {false, true}) check(bad, 5, normalise, "points[4][1] = nan");
  bad = good;
  bad[5 * 7 + 2] = INFINITY;
  check(bad, 5, true, "points[7][2] = inf");
  bad = good;
  for (std::size_t q = 0; q < 5; ++q) bad[15 + q] = 0;
  for (const bool normalise : {false, true}) check(bad, 5, normalise, "|points[3]|");
  bad = good;
  bad[0] += 0.5F;
  check(bad, 5, false, "|points[0]|");
  check(good, 7, false, "multiple of p = 7");
  check({}, 5, false, "rows of points");
  // the smallest numbers there are have a direction, too
  for (float& x : bad) x = x < 0 ? -0x1p-149F : 0x1p-149F;
  const Numbers wide(bad.begin(), bad.end());
  CHECK(vmf::resultant(bad, 5, {{}, true}).length == vmf::resultant(wide, 5, {{}, true}).length);
}

TEST_CASE("bad input is refused by name", "[vmf_mixture]") {
  Sample s = sample(3, {5, 50}, 10);
  using halfulp::DomainError;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 0), Contains("components = 0, must be >= 1"));
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 21), Contains("components = 21, must be <= 20"));
  CHECK_THROWS_AS(vmf::fit_mixture(s.points, 7, 2), halfulp::ShapeError);
  MixtureOptions options;
  options.max_kappa = 0;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2, options), Contains("options.max_kappa"));
  options = {};
  options.max_iterations = 0;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2, options), Contains("options.max_iterations"));
  options = {};
  const Numbers means = {1, 0, 0, 0, 0, 0};
  options.start.means = means;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2, options),
                    Contains("|options.start.means[1]|"));
  options.start.mixture = &s.mixture;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2, options), Contains("at most 1"));
  options = {};
  Numbers r(40, 0.5);
  r[7] = 0.6;
  options.start.responsibilities = r;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2, options), Contains("responsibilities[3]"));
  const Numbers kept = s.points;
  s.points[3 * 4 + 1] = std::nan("");
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2), Contains("points[4][1] = nan"));
  s.points = kept;
  for (int q = 0; q < 3; ++q) s.points[static_cast<std::size_t>(15 + q)] = 0;
  CHECK_THROWS_WITH(vmf::fit_mixture(s.points, 3, 2), Contains("|points[5]|"));
  s.points = kept;
  s.points[0] *= 3;
  CHECK_THROWS_AS(vmf::fit_mixture(s.points, 3, 2), DomainError);
  options = {};
  options.data.normalise = true;
  CHECK(vmf::fit_mixture(s.points, 3, 2, options).counts.size() == 2);
  options = {};
  options.progress = [](double, const char*) { return false; };
  CHECK_THROWS_AS(vmf::fit_mixture(kept, 3, 2, options), halfulp::Cancelled);
  Mixture bad = s.mixture;
  bad.weights[0] = 0.7;
  Numbers out(20);
  CHECK_THROWS_WITH(vmf::log_density(bad, kept, out), Contains("sum of mixture.weights"));
  bad = {};
  CHECK_THROWS_AS(vmf::assignment(bad, kept), DomainError);
  CHECK_THROWS_WITH(vmf::log_density(s.mixture, s.points, out), Contains("|points[0]|"));
}

TEST_CASE("mixtures on disk", "[vmf_mixture]") {
  const Scratch scratch;
  const Sample s = sample(6, {1e-3, 17, 1.0 / 3}, 1);
  const auto folder = scratch / "model";
  vmf::save_mixture(s.mixture, folder, R"({"seed": 3})");
  check_same(vmf::load_mixture(folder), s.mixture);
  CHECK_THROWS_AS(vmf::save_mixture(s.mixture, folder, "[1]"), halfulp::DomainError);
  const std::string json = bytes_of(folder / "mixture.json"),
                    means = bytes_of(folder / "means.npy");
  // every truncation, and a hundred changed bytes: refused, or the same mixture
  const auto try_load = [&](const std::string& what) {
    INFO(what);
    try {
      const Mixture loaded = vmf::load_mixture(folder);
      CHECK(loaded.components.size() == 3);
      return true;
    } catch (const halfulp::IoError&) {
      return false;
    }
  };
  for (std::size_t n = 0; n < json.size() - 2; n += 7) {
    put(folder / "mixture.json", json.substr(0, n));
    CHECK_FALSE(try_load("mixture.json cut at " + std::to_string(n)));
  }
  put(folder / "mixture.json", json);
  for (std::size_t n = 0; n < means.size(); n += 11) {
    put(folder / "means.npy", means.substr(0, n));
    CHECK_FALSE(try_load("means.npy cut at " + std::to_string(n)));
  }
  const halfulp::RandomStream random(8);
  for (std::uint64_t i = 0; i < 100; ++i) {
    std::string changed = means;
    const std::size_t where = 128 + random.below(i, changed.size() - 128);
    changed[where] = static_cast<char>(changed[where] ^ (1 << random.below(1000 + i, 8)));
    put(folder / "means.npy", changed);
    CHECK_FALSE(try_load("means.npy changed at " + std::to_string(where)));
    put(folder / "means.npy", means);
    changed = json;
    changed[random.below(2000 + i, changed.size())] ^= static_cast<char>(1 + random.below(i, 60));
    put(folder / "mixture.json", changed);
    static_cast<void>(try_load("mixture.json changed"));  // no crash, no other error
  }
  put(folder / "mixture.json", json);
  check_same(vmf::load_mixture(folder), s.mixture);
  CHECK_THROWS_AS(vmf::load_mixture(scratch / "nothing"), halfulp::IoError);
}
