#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "halfulp/random.hpp"
#include "network.hpp"

using example::Images;
using example::Network;
using example::Shape;
using Index = std::vector<std::ptrdiff_t>;

namespace {

Images<double> in_double(const Images<float>& images) {
  return {images.rows, images.columns, {images.pixels.begin(), images.pixels.end()}, images.labels};
}

Index first(std::size_t n) {
  Index index(n);
  std::iota(index.begin(), index.end(), std::ptrdiff_t{0});
  return index;
}

/// The mean cross-entropy in long double with loops of its own, for a network without convolution.
long double plain_loss(const Network<double>& network, const std::vector<long double>& w,
                       const Images<double>& images, std::size_t n) {
  long double total = 0;
  const auto pixels = static_cast<std::size_t>(images.pixels_each());
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<long double> x(
        images.pixels.begin() + static_cast<std::ptrdiff_t>(i * pixels),
        images.pixels.begin() + static_cast<std::ptrdiff_t>((i + 1) * pixels));
    const auto& parts = network.parts();
    for (std::size_t p = 0; p < parts.size(); p += 2) {
      std::vector<long double> y;
      for (std::ptrdiff_t r = 0; r < parts[p].rows; ++r) {
        long double sum = w[static_cast<std::size_t>(parts[p + 1].offset + r)];
        for (std::ptrdiff_t c = 0; c < parts[p].columns; ++c)
          sum += w[static_cast<std::size_t>(parts[p].offset + r * parts[p].columns + c)] *
                 x[static_cast<std::size_t>(c)];
        y.push_back(p + 2 < parts.size() ? std::max(sum, 0.0L) : sum);
      }
      x = y;
    }
    long double sum = 0;
    for (const long double v : x) sum += std::exp(v);
    total += std::log(sum) - x[images.labels[i]];
  }
  return total / static_cast<long double>(n);
}

std::vector<double> started(const Network<double>& network) {
  auto w = network.initial(5);
  const halfulp::RandomStream random(9);
  for (std::size_t j = 0; j < w.size(); ++j) w[j] += 0.05 * random.normal(j);
  return w;
}

}  // namespace

TEST_CASE("gradients of the network are those of finite differences", "[example_network]") {
  const std::size_t n = 70;  // more than a block
  const auto images = in_double(example::synthetic_images(70, 3));
  const Index index = first(n);
  const halfulp::RandomStream random(1);
  for (const std::ptrdiff_t filters : {0, 3}) {
    Shape shape;
    shape.filters = filters;
    shape.hidden = {13, 7};
    const Network<double> network(shape);
    const auto w = started(network);
    std::vector<double> g(w.size()), unused(w.size());
    const double loss = network.gradient(w, images, index, g);
    const std::vector<long double> wide(w.begin(), w.end());
    if (filters == 0)
      CHECK(loss ==
            Approx(static_cast<double>(plain_loss(network, wide, images, n))).epsilon(1e-14));
    double worst = 0, largest = 0;
    for (std::uint64_t k = 0; k < 60; ++k) {
      // each part has its turn, biases too
      const auto& part = network.parts()[k % network.parts().size()];
      const auto size = static_cast<std::uint64_t>(part.rows * part.columns);
      const std::size_t j = static_cast<std::size_t>(part.offset) + random.below(k, size);
      double difference = 0;
      if (filters == 0) {
        const long double step = 1e-7L;
        auto up = wide, down = wide;
        up[j] += step;
        down[j] -= step;
        difference = static_cast<double>(
            (plain_loss(network, up, images, n) - plain_loss(network, down, images, n)) /
            (2 * step));
      } else {
        const double step = 1e-6;
        auto up = w, down = w;
        up[j] += step;
        down[j] -= step;
        difference = (network.gradient(up, images, index, unused) -
                      network.gradient(down, images, index, unused)) /
                     (2 * step);
      }
      worst = std::max(worst, std::fabs(difference - g[j]));
      largest = std::max(largest, std::fabs(g[j]));
    }
    CHECK(largest > 1e-3);
    CHECK(worst <= (filters == 0 ? 1e-10 : 1e-8));
    // Rows of single images have the gradient of the batch as their mean.
    std::vector<double> rows(n * w.size());
    network.sample_gradients(w, images, index, rows);
    double off = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      double sum = 0;
      for (std::size_t i = 0; i < n; ++i) sum += rows[i * w.size() + j];
      off = std::max(off, std::fabs(sum / static_cast<double>(n) - g[j]));
    }
    CHECK(off <= 1e-14);
    std::vector<double> one(w.size());
    network.gradient(w, images, std::span<const std::ptrdiff_t>(index).subspan(66, 1), one);
    for (std::size_t j = 0; j < w.size(); ++j)
      if (std::fabs(one[j] - rows[66 * w.size() + j]) > 1e-13) FAIL("row 66, weight " << j);
    // float agrees as well as it can
    const Network<float> single(shape);
    const auto narrow = example::synthetic_images(70, 3);
    const std::vector<float> narrow_w(w.begin(), w.end());
    std::vector<float> h(w.size());
    single.gradient(narrow_w, narrow, index, h);
    double error = 0, square = 0;
    for (std::size_t j = 0; j < w.size(); ++j) {
      error += (h[j] - g[j]) * (h[j] - g[j]);
      square += g[j] * g[j];
    }
    CHECK(std::sqrt(error / square) <= 1e-5);
  }
}

TEST_CASE("training is the same for any number of threads, and learns", "[example_network]") {
  const auto images = example::synthetic_images(1200, 2);
  const auto others = example::synthetic_images(400, 2, 1200);
  std::vector<float> expected;
  for (const int threads : {1, 2, 5}) {
    const Network<float> network(Shape{.hidden = {16}}, threads);
    auto w = network.initial(4);
    const double before = network.accuracy(w, others);
    example::train(network, images, w, example::sgd(0.9, 1e-4), {.epochs = 3, .rate = 0.03});
    if (threads == 1) {
      expected = w;
      CHECK(before < 0.35);
      CHECK(network.accuracy(w, others) > 0.6);
    }
    CHECK(std::memcmp(w.data(), expected.data(), w.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("masked weights stay 0 in training", "[example_network]") {
  const auto images = example::synthetic_images(300, 2);
  const Network<float> network(Shape{.hidden = {8}});
  auto w = network.initial(4);
  std::vector<std::uint8_t> mask(w.size(), 1);
  for (std::size_t j = 0; j < mask.size(); j += 3) mask[j] = 0;
  example::train(network, images, w, example::adam(0), {.epochs = 1, .rate = 1e-3, .mask = mask});
  for (std::size_t j = 0; j < w.size(); ++j)
    if ((w[j] == 0) != (mask[j] == 0)) FAIL("weight " << j);
}
