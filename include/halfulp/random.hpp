#pragma once

#include <array>
#include <cstdint>
#include <span>

/// Random numbers that are a function of (seed, stream, index): no state, so any element can be had
/// in any order, on any thread, again.
///
///     const halfulp::RandomStream random(42);           // seed; stream 0
///     double u = random.uniform(7);                     // the eighth uniform, always the same
///     random.fill_normal(samples);                      // in parallel; same bits for any threads
namespace halfulp {

/// The bijection behind it: Philox4x32 with ten rounds.
/// @source  Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC
/// 2011, 3.3;
///          agrees with Random123 (philox4x32, ten rounds)
[[nodiscard]] std::array<std::uint32_t, 4> philox(const std::array<std::uint32_t, 4>& counter,
                                                  const std::array<std::uint32_t, 2>& key);

/// A family of independent sequences keyed by (seed, stream); copies are the same family.
///
/// Bits come from philox with key = {seed low word, seed high word} and counter =
/// {block low, block high, stream, kind + 256 attempt}: kind 0 for bits and uniforms, 1 for
/// normals, 2 for integers, so the three do not share bits (3 and 4 are of vmf::sample). Two 64-bit
/// values make a block (words 0, 1 and words 2, 3, the first word low): element i of bits, uniforms
/// and normals is in block i / 2.
class RandomStream {
 public:
  /// @param  stream  e.g. one a task or a replicate; streams of one seed never share a block
  explicit RandomStream(std::uint64_t seed, std::uint32_t stream = 0)
      : seed_(seed), stream_(stream) {}

  [[nodiscard]] std::uint64_t seed() const { return seed_; }
  [[nodiscard]] std::uint32_t stream() const { return stream_; }

  /// 64 random bits.
  [[nodiscard]] std::uint64_t bits(std::uint64_t index) const;

  /// Uniform in (0, 1): an odd multiple of 2^-53 made of the upper 52 of bits(index), so that 0, 1
  /// and 1/2 never occur and u and 1 - u are equally likely.
  [[nodiscard]] double uniform(std::uint64_t index) const;

  /// Standard normal, |z| < 8.6. Elements 2k and 2k + 1 are a pair of the Box-Muller transform.
  /// The same bits wherever log, sin and cos of the C library are the same.
  /// @source  Box, Muller (1958)
  [[nodiscard]] double normal(std::uint64_t index) const;

  /// Uniform in 0, 1, ..., n - 1 without bias.
  /// @throws  DomainError if n = 0
  /// @source  Lemire (2019), "Fast random integer generation in an interval", algorithm 5
  [[nodiscard]] std::uint64_t below(std::uint64_t index, std::uint64_t n) const;

  /// out[k] = uniform(first + k), and likewise for the others; bits that do not depend on threads.
  /// @param  threads  0: OpenMP's default
  void fill_uniform(std::span<double> out, std::uint64_t first = 0, int threads = 0) const;
  void fill_normal(std::span<double> out, std::uint64_t first = 0, int threads = 0) const;
  void fill_below(std::span<std::uint64_t> out, std::uint64_t n, std::uint64_t first = 0,
                  int threads = 0) const;

 private:
  std::uint64_t seed_;
  std::uint32_t stream_;
};

}  // namespace halfulp
