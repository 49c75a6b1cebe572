#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "detail/half.hpp"
#include "detail/input_file.hpp"
#include "halfulp/mfac.hpp"

namespace halfulp::mfac {

/// Numbers in memory, or in a file, which is read by pieces: a mapping would end the program when
/// the file is cut short, and would count against a limit of address space as a whole.
struct Gradients::Data {
  Storage storage = Storage::float64;
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t dimension = 0;
  std::ptrdiff_t stride = 0;           ///< numbers from the begin of a row to that of the next
  const std::byte* numbers = nullptr;  ///< null in a file
  std::shared_ptr<std::byte> owner;    ///< null for a view and in a file
  std::unique_ptr<const halfulp::detail::InputFile> file;
  std::uint64_t offset = 0;  ///< of the first number in the file

  [[nodiscard]] bool writable() const { return owner != nullptr; }
};

namespace detail {

[[nodiscard]] constexpr std::ptrdiff_t item_size(Storage storage) {
  return storage == Storage::float64 ? 8 : storage == Storage::float32 ? 4 : 2;
}

/// Some numbers of each of some rows.
struct Tile {
  const std::byte* numbers = nullptr;
  std::ptrdiff_t stride = 0;  ///< in numbers
};

/// Columns [begin, end) of rows [first, last), where they lie; those of a file are read into
/// `buffer`, which lives as long as the tile is used.
/// @throws  IoError if the file has become shorter
[[nodiscard]] Tile tile(const Gradients::Data& data, std::ptrdiff_t first, std::ptrdiff_t last,
                        std::ptrdiff_t begin, std::ptrdiff_t end, std::vector<std::byte>& buffer);

/// To nearest, ties to even; beyond the range to infinity.
[[nodiscard]] std::uint16_t to_bfloat16(double value);
[[nodiscard]] std::uint16_t to_bfloat16(float value);
[[nodiscard]] std::uint16_t to_float16(double value);
[[nodiscard]] std::uint16_t to_float16(float value);
[[nodiscard]] float from_bfloat16(std::uint16_t bits);
using halfulp::detail::from_float16;

/// Number i of an array held as `storage`.
[[nodiscard]] double number_at(Storage storage, const std::byte* numbers, std::ptrdiff_t i);

}  // namespace detail
}  // namespace halfulp::mfac
