#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

/// The vector half of vmf::sample. Nothing here is fused or depends on the number of lanes, so that
/// every instruction set gives the same bits.
///
/// Random bits are Philox4x32-10 as in halfulp/random.hpp: key {seed low word, seed high word},
/// counter {row low, row high, block, kind + 256 attempt}, kinds 3 (cosine) and 4 (tangent).
///
/// With a = (p - 1)/2, b = a/(kappa + hypot(kappa, a)) and a sample z of the symmetric Beta(a, a),
/// w = 1 - t is proposed as
///
///     w = 2 b z/((1 - z) + b z),   2 - w = 2 (1 - z)/((1 - z) + b z)
///
/// and kept with probability exp(2 a (d + log(1 - d))), d = kappa (w0 - w)/(p - 1),
/// w0 = 2 b/(1 + b): Wood's envelope, without a difference that cancels. For z, Ulrich's
/// 1 - 2 z = r cos h, 1 - r^2 = u^(2/(p - 2)), h uniform, so that
/// 2 z = (1 - r) + 2 r sin(h/2)^2. For p = 3, w = -log(1 - u (1 - exp(-2 kappa)))/kappa.
/// @source  Ulrich (1984), Appl. Statist. 33, 158; Wood (1994), Comm. Statist. Simulation 23, 157;
///          Box, Muller (1958), the tangent
namespace halfulp::detail {

/// What is the same for all rows.
struct VmfSampler {
  std::uint64_t seed;
  std::ptrdiff_t p;
  double kappa;
  double b, peak;      // b and w0
  double slope;        // kappa/(p - 1)
  double power;        // 2/(p - 2)
  double fall;         // 1 - exp(-2 kappa)
  double head;         // mu[0]
  const double* tail;  // mu[1], ..., aligned to 64 bytes and zeros up to a multiple of 16
  double scale;        // 1/(1 + |mu[0]|)
};

/// Up to this p the tangents of several rows are made at once, a row a lane.
inline constexpr std::ptrdiff_t vmf_narrow = 24;

/// w[i] = 1 - t and rest[i] = 1 + t of row first + i.
void vmf_cosines(const VmfSampler& sampler, std::uint64_t first, std::ptrdiff_t n, double* w,
                 double* rest);

/// n rows of x = t mu + sqrt((1 - t)(1 + t)) times a uniform tangent. `work` has room for p + 16
/// numbers, aligned to 64 bytes.
void vmf_rows(const VmfSampler& sampler, std::uint64_t first, std::ptrdiff_t n, const double* w,
              const double* rest, double* work, double* out);

/// Elementary functions of the sampler, for tests: out[i] = f(x[i]), of cos_arc and sin_arc with
/// angle pi x/2, |x| < 1/2.
enum class VmfElementary { log, log1p, exp, expm1, cos_arc, sin_arc };
void vmf_elementary(VmfElementary f, std::span<const double> x, std::span<double> out);

}  // namespace halfulp::detail
