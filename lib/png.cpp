#include "detail/png.hpp"

#include <algorithm>
#include <string_view>

namespace halfulp::detail {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int k = 0; k < 8; ++k) c = (c & 1) ? 0xedb88320u ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  return table;
}();

std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t c = 0xffffffffu;
  for (const char byte : bytes)
    c = crc_table[(c ^ static_cast<std::uint8_t>(byte)) & 0xff] ^ (c >> 8);
  return c ^ 0xffffffffu;
}

std::uint32_t adler32(std::string_view bytes) {
  std::uint32_t a = 1, b = 0;
  for (const char byte : bytes) {
    a = (a + static_cast<std::uint8_t>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

void append_big_endian(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

void append_chunk(std::string& out, std::string_view type, std::string_view data) {
  append_big_endian(out, static_cast<std::uint32_t>(data.size()));
  std::string body(type);
  body += data;
  out += body;
  append_big_endian(out, crc32(body));
}

/// zlib stream of stored blocks (RFC 1950, RFC 1951 section 3.2.4).
std::string deflate_stored(std::string_view data) {
  constexpr std::size_t block = 65535;
  std::string out = "\x78\x01";
  for (std::size_t at = 0; at < data.size() || at == 0; at += block) {
    const auto piece = data.substr(at, block);
    const auto size = static_cast<std::uint16_t>(piece.size());
    const auto complement = static_cast<std::uint16_t>(~size);
    out += static_cast<char>(at + block >= data.size() ? 1 : 0);
    out += static_cast<char>(size & 0xff);
    out += static_cast<char>(size >> 8);
    out += static_cast<char>(complement & 0xff);
    out += static_cast<char>(complement >> 8);
    out += piece;
  }
  append_big_endian(out, adler32(data));
  return out;
}

}  // namespace

std::string encode_png(std::ptrdiff_t width, std::ptrdiff_t height,
                       std::span<const std::uint8_t> indices, std::span<const Rgb> palette) {
  std::string header;
  append_big_endian(header, static_cast<std::uint32_t>(width));
  append_big_endian(header, static_cast<std::uint32_t>(height));
  header += '\x08';        // bits a sample
  header += '\x03';        // palette
  header.append(3, '\0');  // deflate, adaptive filters, no interlace
  std::string colours;
  for (const Rgb& colour : palette) {
    for (const std::uint8_t channel : colour) colours += static_cast<char>(channel);
  }
  std::string rows;
  rows.reserve(static_cast<std::size_t>((width + 1) * height));
  for (std::ptrdiff_t row = 0; row < height; ++row) {
    rows += '\0';  // filter: none
    const auto line =
        indices.subspan(static_cast<std::size_t>(row * width), static_cast<std::size_t>(width));
    std::transform(line.begin(), line.end(), std::back_inserter(rows),
                   [](std::uint8_t index) { return static_cast<char>(index); });
  }
  std::string out = "\x89PNG\r\n\x1a\n";
  append_chunk(out, "IHDR", header);
  append_chunk(out, "PLTE", colours);
  append_chunk(out, "IDAT", deflate_stored(rows));
  append_chunk(out, "IEND", {});
  return out;
}

std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<std::uint8_t>(bytes[i + k]) : 0u);
    }
    const std::size_t used = std::min<std::size_t>(3, bytes.size() - i);
    for (std::size_t k = 0; k < 4; ++k) {
      out += k <= used ? digits[group >> (18 - 6 * k) & 63] : '=';
    }
  }
  return out;
}

}  // namespace halfulp::detail
