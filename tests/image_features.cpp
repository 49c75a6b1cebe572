#include "halfulp/image_features.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>

#include "halfulp/error.hpp"
#include "halfulp/random.hpp"

using halfulp::image_directions;

namespace {

std::vector<std::uint8_t> images(std::size_t n, std::size_t pixels) {
  std::vector<std::uint8_t> out(n * pixels);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<std::uint8_t>((i * 2654435761u) >> 13);
  return out;
}

}  // namespace

TEST_CASE("pixels are divided by their norm", "[image_features]") {
  const std::vector<std::uint8_t> image = {3, 4, 0, 0, 0, 7};
  CHECK(image_directions(image, 1, 3) == std::vector<float>{0.6f, 0.8f, 0, 0, 0, 1});
}

TEST_CASE("features are means of the positive part of convolutions", "[image_features]") {
  constexpr int rows = 17, columns = 13, filters = 3, n = 5;
  const auto data = images(n, rows * columns);
  const auto out = image_directions(data, rows, columns, {.dimension = 64 * filters, .seed = 9});
  REQUIRE(out.size() == static_cast<std::size_t>(n * 64 * filters));
  // By the definition, in double precision and in another order.
  double worst = 0;
  for (int i = 0; i < n; ++i) {
    std::vector<double> row;
    for (int f = 0; f < filters; ++f) {
      double filter[25], mean = 0;
      for (int k = 0; k < 25; ++k) {
        filter[k] = halfulp::RandomStream(9).normal(static_cast<std::uint64_t>(25 * f + k));
        mean += filter[k] / 25;
      }
      const int high = rows - 4, wide = columns - 4;
      for (int a = 0; a < 8; ++a) {
        for (int b = 0; b < 8; ++b) {
          double sum = 0;
          int count = 0;
          for (int r = 0; r < high; ++r) {
            for (int c = 0; c < wide; ++c) {
              if (r < a * high / 8 || r >= (a + 1) * high / 8 || c < b * wide / 8 ||
                  c >= (b + 1) * wide / 8)
                continue;
              double response = 0;
              for (int k = 0; k < 25; ++k)
                response += (filter[k] - mean) *
                            data[static_cast<std::size_t>(i * rows * columns +
                                                          (r + k / 5) * columns + c + k % 5)];
              sum += std::fmax(response, 0);
              ++count;
            }
          }
          row.push_back(sum / count);
        }
      }
    }
    double square = 0;
    for (const double v : row) square += v * v;
    for (std::size_t j = 0; j < row.size(); ++j)
      worst = std::fmax(worst, std::fabs(row[j] / std::sqrt(square) -
                                         out[static_cast<std::size_t>(i) * row.size() + j]));
  }
  CHECK(worst < 1e-6);
  CHECK(worst > 0);
  CHECK(image_directions(data, rows, columns,
                         {.dimension = 64 * filters, .seed = 9, .threads = 3}) == out);
  CHECK(image_directions(data, rows, columns, {.dimension = 64 * filters, .seed = 10}) != out);
}

TEST_CASE("images and files that are none are refused", "[image_features]") {
  const auto data = images(2, 144);
  CHECK_THROWS_AS(image_directions(data, 12, 12, {.dimension = 63}), halfulp::DomainError);
  CHECK_THROWS_AS(image_directions(data, 12, 12, {.dimension = -64}), halfulp::DomainError);
  CHECK_THROWS_AS(image_directions(data, 6, 24, {.dimension = 64}), halfulp::DomainError);
  CHECK_THROWS_AS(image_directions(data, 12, 11), halfulp::ShapeError);
  CHECK_THROWS_AS(image_directions(data, 0, 12), halfulp::DomainError);
  std::vector<std::uint8_t> blank = data;
  for (std::size_t i = 144; i < 288; ++i) blank[i] = 0;
  CHECK_THROWS_WITH(image_directions(blank, 12, 12), Catch::Contains("images[1] = blank"));
  // Of a constant image a filter with mean 0 leaves rounding, if anything.
  const auto idx = [](std::string bytes) { return halfulp::parse_idx(bytes, "file"); };
  const std::string good(
      "\0\0\x08\x02\0\0\0\x02\0\0\0\x03"
      "abcdef",
      18);
  CHECK(idx(good).shape == std::vector<std::ptrdiff_t>{2, 3});
  CHECK(idx(good).values == std::vector<std::uint8_t>{'a', 'b', 'c', 'd', 'e', 'f'});
  for (const std::string& bad :
       {std::string(), good.substr(0, 3), good.substr(0, 11), good.substr(0, 17), good + "g",
        "x" + good.substr(1), std::string("\0\0\x0d", 3) + good.substr(3),
        std::string("\x1f\x8b\x08\x02", 4) + good.substr(4),
        std::string("\0\0\x08\0", 4) + good.substr(4),
        std::string("\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", 12) + "abcdef"})
    CHECK_THROWS_AS(idx(bad), halfulp::IoError);
}
