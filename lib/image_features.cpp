#include "halfulp/image_features.hpp"

#include <algorithm>
#include <cmath>

#include "detail/require.hpp"
#include "halfulp/file.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"

namespace halfulp {
namespace {

constexpr std::string_view name = "image_directions";
constexpr std::ptrdiff_t tap = 5;    // filters are tap x tap
constexpr std::ptrdiff_t parts = 8;  // features of a filter are parts x parts

/// Means over parts x parts of the positive part of one filter's response.
void filter_features(const float* image, std::ptrdiff_t rows, std::ptrdiff_t columns,
                     const float* filter, float* response, float* out) {
  const std::ptrdiff_t high = rows - tap + 1, wide = columns - tap + 1;
  for (std::ptrdiff_t part = 0; part < parts; ++part) {
    const std::ptrdiff_t top = part * high / parts, bottom = (part + 1) * high / parts;
    float* sums = out + part * parts;
    std::fill(sums, sums + parts, 0.0f);
    for (std::ptrdiff_t r = top; r < bottom; ++r) {
      std::fill(response, response + wide, 0.0f);
      for (std::ptrdiff_t i = 0; i < tap; ++i) {
        for (std::ptrdiff_t j = 0; j < tap; ++j) {
          const float w = filter[i * tap + j];
          const float* line = image + (r + i) * columns + j;
          for (std::ptrdiff_t c = 0; c < wide; ++c) response[c] += w * line[c];
        }
      }
      for (std::ptrdiff_t k = 0; k < parts; ++k)
        for (std::ptrdiff_t c = k * wide / parts; c < (k + 1) * wide / parts; ++c)
          sums[k] += std::max(response[c], 0.0f);
    }
    for (std::ptrdiff_t k = 0; k < parts; ++k) {
      const std::ptrdiff_t left = k * wide / parts, right = (k + 1) * wide / parts;
      sums[k] /= static_cast<float>((bottom - top) * (right - left));
    }
  }
}

void normalise(std::span<float> row, std::ptrdiff_t image) {
  double square = 0;
  for (const float v : row) square += static_cast<double>(v) * v;
  if (!(square > 0))
    throw DomainError(name, "images[" + std::to_string(image) + "]", "blank",
                      "an image with a feature that is not 0");
  const double norm = std::sqrt(square);
  for (float& v : row) v = static_cast<float>(v / norm);
}

}  // namespace

IdxArray parse_idx(std::string_view bytes, const std::string& file) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
  if (bytes.size() < 4 || byte(0) != 0 || byte(1) != 0)
    throw IoError(file, byte(0) == 0x1f && bytes.size() > 1 && byte(1) == 0x8b
                            ? "compressed by gzip, expected an IDX file: unpack it first"
                            : "not an IDX file: must begin with two zero bytes");
  if (byte(2) != 8)
    throw IoError(file, "IDX type " + std::to_string(byte(2)) + ", must be 8, unsigned bytes");
  const std::size_t rank = byte(3), header = 4 + 4 * rank;
  if (rank == 0 || bytes.size() < header)
    throw IoError(file, "IDX of rank " + std::to_string(rank) + " in " +
                            std::to_string(bytes.size()) + " bytes, truncated header");
  IdxArray array;
  double size = 1;  // exact where it matters: a size that the file can have
  for (std::size_t k = 0; k < rank; ++k) {
    std::uint32_t extent = 0;
    for (std::size_t i = 0; i < 4; ++i) extent = extent << 8 | byte(4 + 4 * k + i);
    array.shape.push_back(extent);
    size *= extent;
  }
  if (size != static_cast<double>(bytes.size() - header))
    throw IoError(file, "has " + std::to_string(bytes.size() - header) +
                            " bytes after the header, must have " + number_text(size));
  array.values.assign(bytes.begin() + static_cast<std::ptrdiff_t>(header), bytes.end());
  return array;
}

IdxArray read_idx(const std::filesystem::path& path) {
  return parse_idx(read_file(path, std::size_t{4} << 30), path.string());
}

std::vector<float> image_directions(std::span<const std::uint8_t> images, std::ptrdiff_t rows,
                                    std::ptrdiff_t columns, const ImageOptions& options) {
  detail::require(rows >= 1, name, "rows", rows, ">= 1");
  detail::require(columns >= 1, name, "columns", columns, ">= 1");
  const std::ptrdiff_t pixels = rows * columns;
  if (std::ssize(images) % pixels != 0)
    throw ShapeError(name, "images.size()", std::to_string(images.size()),
                     "a multiple of rows * columns = " + std::to_string(pixels));
  const std::ptrdiff_t n = std::ssize(images) / pixels;
  const std::ptrdiff_t dimension = options.dimension;
  const auto pixel = [&](std::ptrdiff_t i) {
    return static_cast<float>(images[static_cast<std::size_t>(i)]);
  };
  if (dimension == 0) {
    std::vector<float> out(images.size());
    parallel_for(n, options.threads, [&](std::ptrdiff_t i) {
      for (std::ptrdiff_t j = 0; j < pixels; ++j)
        out[static_cast<std::size_t>(i * pixels + j)] = pixel(i * pixels + j);
      normalise(std::span(out).subspan(static_cast<std::size_t>(i * pixels),
                                       static_cast<std::size_t>(pixels)),
                i);
    });
    return out;
  }
  constexpr std::ptrdiff_t each = parts * parts;
  detail::require(dimension > 0 && dimension % each == 0, name, "dimension", dimension,
                  "a multiple of 64");
  detail::require(rows >= tap + parts - 1, name, "rows", rows, ">= 12");
  detail::require(columns >= tap + parts - 1, name, "columns", columns, ">= 12");
  const std::ptrdiff_t filters = dimension / each;
  constexpr std::ptrdiff_t taps = tap * tap;
  std::vector<double> normal(static_cast<std::size_t>(filters * taps));
  RandomStream(options.seed).fill_normal(normal, 0, options.threads);
  std::vector<float> filter(normal.size());
  for (std::size_t f = 0; f < normal.size(); f += taps) {
    double mean = 0;
    for (std::size_t i = 0; i < taps; ++i) mean += normal[f + i] / taps;
    for (std::size_t i = 0; i < taps; ++i) filter[f + i] = static_cast<float>(normal[f + i] - mean);
  }
  std::vector<float> out(static_cast<std::size_t>(n * dimension));
  parallel_for(n, options.threads, [&](std::ptrdiff_t i) {
    std::vector<float> image(static_cast<std::size_t>(pixels)),
        response(static_cast<std::size_t>(columns));
    for (std::ptrdiff_t j = 0; j < pixels; ++j)
      image[static_cast<std::size_t>(j)] = pixel(i * pixels + j);
    float* row = out.data() + i * dimension;
    for (std::ptrdiff_t f = 0; f < filters; ++f)
      filter_features(image.data(), rows, columns, filter.data() + f * taps, response.data(),
                      row + f * each);
    normalise({row, static_cast<std::size_t>(dimension)}, i);
  });
  return out;
}

}  // namespace halfulp
