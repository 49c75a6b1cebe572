#include "halfulp/mfac_optimizer.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/random.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
using mfac::Method;
using mfac::Optimizer;
using mfac::OptimizerOptions;
using Numbers = std::vector<double>;

namespace {

Numbers normals(std::size_t d, std::uint32_t stream) {
  Numbers x(d);
  halfulp::RandomStream(3, stream).fill_normal(x, 0, 1);
  return x;
}
OptimizerOptions with(Method method, double rate) {
  OptimizerOptions options;
  options.method = method;
  options.rate = rate;
  options.size = 6;
  options.window.damping = 1e-2;
  options.window.storage = mfac::Storage::float64;
  return options;
}
mfac::StepReport step(Optimizer<double>& o, const Numbers& g, Numbers& x) {
  return o.step(std::span<const double>(g), std::span<double>(x));
}
double distance(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += (a[j] - b[j]) * (a[j] - b[j]);
  return std::sqrt(sum);
}

}  // namespace

TEST_CASE("SGD and Adam are the textbook's", "[mfac]") {
  const std::size_t d = 30;
  for (const bool in_gradient : {false, true}) {
    OptimizerOptions options = with(Method::sgd, 0.05);
    options.momentum = 0.9;
    options.decay = 0.01;
    options.decay_in_gradient = in_gradient;
    Optimizer<double> sgd(30, options);
    options.method = Method::adam;
    Optimizer<double> adam(30, options);
    Numbers x = normals(d, 0), y = x;
    std::vector<long double> a(x.begin(), x.end()), b(d), c = a, m(d), v(d);
    for (std::uint32_t t = 1; t <= 50; ++t) {
      const Numbers g = normals(d, t);
      step(sgd, g, x);
      step(adam, g, y);
      for (std::size_t j = 0; j < d; ++j) {
        const long double keep = in_gradient ? 1 : 1 - 0.05L * 0.01L;
        b[j] = 0.9L * b[j] + g[j] + (in_gradient ? 0.01L * a[j] : 0);
        a[j] = keep * a[j] - 0.05L * b[j];
        const long double gc = g[j] + (in_gradient ? 0.01L * c[j] : 0);
        m[j] = 0.9L * m[j] + 0.1L * gc;
        v[j] = 0.999L * v[j] + 0.001L * gc * gc;
        c[j] = keep * c[j] - 0.05L * (m[j] / (1 - std::pow(0.9L, t))) /
                                 (std::sqrt(v[j] / (1 - std::pow(0.999L, t))) + 1e-8L);
      }
    }
    for (std::size_t j = 0; j < d; ++j) {
      CHECK(x[j] == Approx(static_cast<double>(a[j])).epsilon(1e-12).margin(1e-12));
      CHECK(y[j] == Approx(static_cast<double>(c[j])).epsilon(1e-12).margin(1e-12));
    }
  }
}

TEST_CASE("the preconditioned step is the window's", "[mfac]") {
  OptimizerOptions options = with(Method::mfac, 0.1);
  options.momentum = 0.5;
  options.decay = 0.2;
  options.warm_up = 3;
  options.warm_up_rate = 0.01;
  Optimizer<double> optimizer(20, options);
  mfac::Window window(6, 20, options.window);
  Numbers x = normals(20, 0), expected = x, b(20, 0.0), u(20);
  for (std::uint32_t t = 1; t <= 15; ++t) {
    const Numbers g = normals(20, t);
    const auto report = step(optimizer, g, x);
    const auto check = window.step(std::span<const double>(g), std::span<double>(u));
    const double rate = t <= 3 ? 0.01 : 0.1;
    CHECK(report.warming_up == (t <= 3));
    CHECK(report.step == t);
    if (t > 3) CHECK(report.diagnosis.condition == Approx(check.condition).epsilon(0.1));
    for (std::size_t j = 0; j < 20; ++j) {
      const double direction = t <= 3 ? g[j] : b[j] = 0.5 * b[j] + u[j];
      expected[j] = (1 - rate * 0.2) * expected[j] - rate * direction;
    }
    CHECK(distance(x, expected) < 1e-12);
    CHECK(optimizer.window()->count() == window.count());
  }
}

TEST_CASE("the norm of a step is bounded", "[mfac]") {
  OptimizerOptions options = with(Method::mfac, 10);
  options.max_step = 0.3;
  Optimizer<double> optimizer(20, options);
  options.max_step = 0;
  options.trust_ratio = 0.01;
  Optimizer<double> trusting(20, options);
  Numbers x = normals(20, 0), y = x;
  for (std::uint32_t t = 1; t <= 9; ++t) {
    const Numbers g = normals(20, t), before = x, there = y;
    const auto one = step(optimizer, g, x), two = step(trusting, g, y);
    CHECK(one.scale < 1);
    CHECK(one.step_norm == Approx(0.3));
    CHECK(distance(x, before) == Approx(0.3));
    CHECK(distance(y, there) == Approx(0.01 * distance(there, Numbers(20, 0.0))));
    CHECK(two.scale < 1);
  }
}

TEST_CASE("an ill-conditioned quadratic", "[mfac]") {
  // f = sum c_j x_j^2/2, c from 1 to 1e-3, noisy gradients: with the best of some rates f falls
  const std::size_t d = 40;
  const auto loss = [&](Method method, double rate) {
    OptimizerOptions options = with(method, rate);
    options.size = 64;
    options.window.damping = 1e-4;
    Optimizer<double> optimizer(40, options);
    Numbers x(d, 1.0), g(d);
    double f = 0;
    for (std::uint32_t t = 0; t < 300; ++t) {
      const Numbers noise = normals(d, t + 1);
      f = 0;
      for (std::size_t j = 0; j < d; ++j) {
        const double c = std::pow(10.0, -3.0 * static_cast<double>(j) / static_cast<double>(d - 1));
        g[j] = c * x[j] + 0.1 * std::sqrt(c) * noise[j];  // its variance has the shape of H
        f += c * x[j] * x[j] / 2;
      }
      step(optimizer, g, x);
    }
    return std::isfinite(f) ? f : HUGE_VAL;
  };
  double sgd = HUGE_VAL, preconditioned = HUGE_VAL;
  for (int e = -8; e <= 0; ++e) {
    sgd = std::min(sgd, loss(Method::sgd, std::pow(4.0, e)));
    preconditioned = std::min(preconditioned, loss(Method::mfac, std::pow(4.0, e)));
  }
  INFO("sgd " << sgd << ", preconditioned " << preconditioned);
  CHECK(preconditioned < 0.6);  // from 3
  CHECK(sgd < 0.6);
}

TEST_CASE("the same bits of an optimiser for any number of threads", "[mfac]") {
  for (const Method method : {Method::mfac, Method::adam, Method::sgd}) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 3}) {
      OptimizerOptions options = with(method, 0.01);
      options.momentum = 0.9;
      options.threads = threads;
      Optimizer<float> optimizer(40000, options);
      std::vector<float> x(40000, 1.0F);
      for (std::uint32_t t = 0; t < 8; ++t) {
        const Numbers n = normals(40000, t);
        const std::vector<float> g(n.begin(), n.end());
        optimizer.step(std::span<const float>(g), std::span<float>(x));
      }
      results.push_back(x);
    }
    CHECK(results[0] == results[1]);
  }
}

TEST_CASE("what an optimiser refuses", "[mfac]") {
  using halfulp::DomainError;
  const auto made = [](auto change) {
    OptimizerOptions options = with(Method::mfac, 0.1);
    change(options);
    return message_of<DomainError>([&] { Optimizer<double>(5, options); });
  };
  CHECK_THAT(made([](auto& o) { o.rate = 0; }), Contains("mfac::Optimizer: rate = 0, must be > 0"));
  CHECK_THAT(made([](auto& o) { o.momentum = 1; }), Contains("momentum = 1, must be in [0, 1)"));
  CHECK_THAT(made([](auto& o) { o.decay = -1; }), Contains("decay"));
  CHECK_THAT(made([](auto& o) { o.max_step = std::nan(""); }), Contains("max_step"));
  CHECK_THAT(made([](auto& o) { o.beta2 = 1; }), Contains("beta2"));
  CHECK_THAT(made([](auto& o) { o.window.damping = 0; }), Contains("damping = 0"));
  CHECK_THAT(made([](auto& o) { o.size = 0; }), Contains("m = 0"));
  CHECK(mfac::method_from("adam") == Method::adam);
  CHECK_THROWS_AS(mfac::method_from("lbfgs"), DomainError);
  for (const Method method : {Method::mfac, Method::adam, Method::sgd}) {
    Optimizer<double> optimizer(4, with(method, 0.1));
    Numbers x{1, 2, 3, 4};
    const Numbers bad{1, std::nan(""), 2, 3}, good{1, 1, 2, 2}, before = x;
    CHECK_THAT(message_of<DomainError>([&] { step(optimizer, bad, x); }),
               Contains("mfac::Optimizer::step: gradient[1] = nan, must be finite"));
    CHECK(x == before);
    Numbers three(3);
    CHECK_THROWS_AS(step(optimizer, good, three), halfulp::ShapeError);
    CHECK(step(optimizer, good, x).step == 1);
  }
}
