#include "halfulp/random.hpp"

#include <Random123/philox.h>

#include <cmath>
#include <numbers>
#include <utility>

#include "detail/require.hpp"
#include "halfulp/threads.hpp"

namespace halfulp {
namespace {

enum Kind : std::uint32_t { uniforms, normals, integers };

constexpr std::ptrdiff_t fill_block = 4096;  // elements a task: about 20 microseconds

__extension__ typedef unsigned __int128 Wide;  // `using` would not silence -Wpedantic

/// Two 64-bit values.
using Pair = std::array<std::uint64_t, 2>;

Pair block(std::uint64_t seed, std::uint32_t stream, std::uint64_t index, Kind kind,
           std::uint32_t attempt = 0) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto word = philox({low(index), low(index >> 32), stream, kind + 256 * attempt},
                           {low(seed), low(seed >> 32)});
  return {word[0] | std::uint64_t{word[1]} << 32, word[2] | std::uint64_t{word[3]} << 32};
}

double to_uniform(std::uint64_t bits) {
  return static_cast<double>(bits >> 12 << 1 | 1) * 0x1p-53;  // exact: at most 53 bits
}

/// (cos 2 pi v, sin 2 pi v), the argument reduced exactly to |w| <= 1/8 first.
std::pair<double, double> cos_sin_turns(double v) {
  const double quarters = std::nearbyint(4 * v);
  const double angle = 2 * std::numbers::pi * (v - quarters / 4);
  const double c = std::cos(angle), s = std::sin(angle);
  switch (static_cast<int>(quarters) % 4) {
    case 0:
      return {c, s};
    case 1:
      return {-s, c};
    case 2:
      return {-c, -s};
    default:
      return {s, -c};
  }
}

std::pair<double, double> normal_pair(const Pair& bits) {
  const double radius = std::sqrt(-2 * std::log(to_uniform(bits[0])));
  const auto [c, s] = cos_sin_turns(to_uniform(bits[1]));
  return {radius * c, radius * s};
}

/// out[k] = element first + k of the sequence whose elements 2j and 2j + 1 are pair(j).
template <class MakePair>
void fill_pairs(std::span<double> out, std::uint64_t first, int threads, const MakePair& pair) {
  parallel_blocks(std::ssize(out), fill_block, threads,
                  [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                    std::uint64_t index = first + static_cast<std::uint64_t>(begin);
                    const std::uint64_t stop = first + static_cast<std::uint64_t>(end);
                    double* to = out.data() + begin;
                    if (index % 2 == 1 && index != stop) *to++ = pair(index++ / 2).second;
                    for (; stop - index >= 2; index += 2) {
                      const auto [even, odd] = pair(index / 2);
                      *to++ = even;
                      *to++ = odd;
                    }
                    if (index != stop) *to = pair(index / 2).first;
                  });
}

}  // namespace

std::array<std::uint32_t, 4> philox(const std::array<std::uint32_t, 4>& counter,
                                    const std::array<std::uint32_t, 2>& key) {
  const r123::Philox4x32::ctr_type c{{counter[0], counter[1], counter[2], counter[3]}};
  const r123::Philox4x32::key_type k{{key[0], key[1]}};
  const auto r = r123::Philox4x32{}(c, k);
  return {r[0], r[1], r[2], r[3]};
}

std::uint64_t RandomStream::bits(std::uint64_t index) const {
  return block(seed_, stream_, index / 2, uniforms)[index % 2];
}

double RandomStream::uniform(std::uint64_t index) const { return to_uniform(bits(index)); }

double RandomStream::normal(std::uint64_t index) const {
  const auto pair = normal_pair(block(seed_, stream_, index / 2, normals));
  return index % 2 == 0 ? pair.first : pair.second;
}

std::uint64_t RandomStream::below(std::uint64_t index, std::uint64_t n) const {
  detail::require(n > 0, "RandomStream::below", "n", n, "> 0");
  const std::uint64_t threshold = (0 - n) % n;  // 2^64 mod n: products below it would be a bias
  for (std::uint32_t attempt = 0;; ++attempt)
    for (const std::uint64_t bits : block(seed_, stream_, index, integers, attempt)) {
      const Wide product = static_cast<Wide>(bits) * n;
      if (static_cast<std::uint64_t>(product) >= threshold)
        return static_cast<std::uint64_t>(product >> 64);
    }
}

void RandomStream::fill_uniform(std::span<double> out, std::uint64_t first, int threads) const {
  fill_pairs(out, first, threads, [&](std::uint64_t index) {
    const Pair bits = block(seed_, stream_, index, uniforms);
    return std::pair(to_uniform(bits[0]), to_uniform(bits[1]));
  });
}

void RandomStream::fill_normal(std::span<double> out, std::uint64_t first, int threads) const {
  fill_pairs(out, first, threads, [&](std::uint64_t index) {
    return normal_pair(block(seed_, stream_, index, normals));
  });
}

void RandomStream::fill_below(std::span<std::uint64_t> out, std::uint64_t n, std::uint64_t first,
                              int threads) const {
  detail::require(n > 0, "RandomStream::fill_below", "n", n, "> 0");
  parallel_blocks(
      std::ssize(out), fill_block, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for (std::ptrdiff_t k = begin; k < end; ++k)
          out[static_cast<std::size_t>(k)] = below(first + static_cast<std::uint64_t>(k), n);
      });
}

}  // namespace halfulp
