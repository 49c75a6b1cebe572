#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Images as directions: IDX files, and random convolution features of any number of dimensions.
/// The data of the experiments with von Mises-Fisher distributions.
namespace halfulp {

/// An array of bytes, the last index running fastest.
struct IdxArray {
  std::vector<std::ptrdiff_t> shape;
  std::vector<std::uint8_t> values;
};
/// Reads an IDX file of unsigned bytes, the format of MNIST: 00 00 08, the rank, the sizes as
/// big-endian 32-bit integers, the bytes.
/// @throws  IoError naming the file and what is wrong with it
[[nodiscard]] IdxArray read_idx(const std::filesystem::path& path);
/// Likewise from memory; `name` stands for the file in messages.
[[nodiscard]] IdxArray parse_idx(std::string_view bytes, const std::string& name);

struct ImageOptions {
  std::ptrdiff_t dimension = 0;  ///< of the features; 0: the pixels themselves
  std::uint64_t seed = 0;        ///< of the filters
  int threads = 0;
};

/// Unit vectors, one an image. Features: dimension/64 filters of 5 x 5 normal numbers, their mean
/// taken off; the valid convolution of each; its positive part; means over 8 x 8 parts of the
/// image. Single precision; the same bits for any number of threads.
/// @param   images  n x rows x columns brightnesses
/// @throws  DomainError if dimension is no multiple of 64, the image smaller than 12 x 12, or an
///          image (named) has no feature but 0; ShapeError if images are not whole
/// @cost    25 multiplications a pixel and filter
[[nodiscard]] std::vector<float> image_directions(std::span<const std::uint8_t> images,
                                                  std::ptrdiff_t rows, std::ptrdiff_t columns,
                                                  const ImageOptions& options = {});

}  // namespace halfulp
