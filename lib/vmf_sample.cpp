#include "detail/vmf_sample.hpp"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <new>
#include <string>

#include "detail/require.hpp"
#include "detail/vmf.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/threads.hpp"
#include "halfulp/vmf.hpp"

namespace halfulp::vmf {
namespace {

constexpr std::ptrdiff_t most_rows = 512;       // of a task
constexpr std::ptrdiff_t task_numbers = 32768;  // about 60 microseconds

using Numbers = hwy::AlignedFreeUniquePtr<double[]>;

Numbers numbers(std::ptrdiff_t n) {
  Numbers array = hwy::AllocateAligned<double>(static_cast<std::size_t>(n));
  if (!array) throw std::bad_alloc();
  return array;
}

/// kappa + hypot(kappa, a) over a, without overflow: 1/b.
double inverse_b(double kappa, double a) {
  const double k = kappa / a;
  return k < 1 ? k + std::sqrt(1 + k * k) : k * (1 + std::sqrt(1 + 1 / k / k));
}

}  // namespace

void sample(const Distribution& distribution, std::uint64_t seed, std::span<double> out,
            std::uint64_t first, int threads) {
  detail::require_distribution("vmf::sample", "distribution", distribution);
  const std::ptrdiff_t p = std::ssize(distribution.mu), n = std::ssize(out) / p;
  if (std::ssize(out) % p != 0)
    throw ShapeError("vmf::sample", "out.size()", std::to_string(out.size()),
                     "a multiple of mu.size() = " + std::to_string(p));
  // the norm of mu may differ from 1, that of a sample may not
  dd square = 0;
  for (const double m : distribution.mu) square += kernel::two_prod(m, m);
  const dd inverse = 1.0 / sqrt(square);
  const auto unit = [&](std::ptrdiff_t i) {
    return (inverse * distribution.mu[static_cast<std::size_t>(i)]).hi;
  };
  const std::ptrdiff_t padded = p / 16 * 16 + 16;
  const Numbers tail = numbers(padded);
  std::fill(tail.get(), tail.get() + padded, 0.0);
  for (std::ptrdiff_t i = 1; i < p; ++i) tail[static_cast<std::size_t>(i - 1)] = unit(i);

  const double kappa = distribution.kappa, degrees = static_cast<double>(p - 1);
  const double b = 1 / inverse_b(kappa, degrees / 2);
  const detail::VmfSampler sampler{
      .seed = seed,
      .p = p,
      .kappa = kappa,
      .b = b,
      .peak = 2 * b / (1 + b),
      .slope = kappa / degrees,
      .power = p > 2 ? 2 / static_cast<double>(p - 2) : 0,
      .fall = kappa < 400 ? -expm1(dd(-2 * kappa)).hi : 1,
      .head = unit(0),
      .tail = tail.get(),
      .scale = 1 / (1 + std::fabs(unit(0))),
  };
  const std::ptrdiff_t block = std::clamp<std::ptrdiff_t>(task_numbers / p, 1, most_rows);
  parallel_blocks(n, block, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    std::array<double, most_rows> w, rest;
    static thread_local Numbers work;
    static thread_local std::ptrdiff_t size = 0;
    if (size < padded) {
      work = numbers(padded);
      size = padded;
    }
    const std::uint64_t row = first + static_cast<std::uint64_t>(begin);
    detail::vmf_cosines(sampler, row, end - begin, w.data(), rest.data());
    detail::vmf_rows(sampler, row, end - begin, w.data(), rest.data(), work.get(),
                     out.data() + begin * p);
  });
}

}  // namespace halfulp::vmf
