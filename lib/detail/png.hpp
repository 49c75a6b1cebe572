#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace halfulp::detail {

using Rgb = std::array<std::uint8_t, 3>;

/// A palette image (PNG colour type 3, 8 bits) in stored deflate blocks: no compressor, and so the
/// same bytes everywhere. Size: width * height plus about 900 bytes.
/// @param  indices  row-major, top row first
/// @param  palette  at most 256 colours
[[nodiscard]] std::string encode_png(std::ptrdiff_t width, std::ptrdiff_t height,
                                     std::span<const std::uint8_t> indices,
                                     std::span<const Rgb> palette);

[[nodiscard]] std::string encode_base64(std::string_view bytes);

}  // namespace halfulp::detail
