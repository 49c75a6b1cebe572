#include <algorithm>
#include <cmath>
#include <cstdint>

#include "halfulp/expression_program.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "sine_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

// Sine and cosine of many angles. x = n pi/2 + r with pi/2 in parts of 33 bits, so that n times the
// first two is exact; then the Taylor series of r in [-pi/4, pi/4], r a sum of two doubles. Sums
// and products only, each rounded by itself: the same bits on every instruction set.
HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<double>;
using V = hn::Vec<D>;
using DU = hn::RebindToUnsigned<D>;

/// n has 19 bits.
constexpr double largest_angle = 8e5;
/// Rests below this have cancelled more than the parts of pi/2 have bits for.
constexpr double smallest_rest = 0x1p-24;

/// sin(x + quarter pi/2); `doubtful` where that is left to the library.
HWY_INLINE V sine(V x, std::uint64_t quarter, hn::Mask<D>& doubtful) {
  const D d;
  const DU du;
  const auto number = [d](double v) { return hn::Set(d, v); };
  const V magic = number(0x1.8p52);
  const V shifted = hn::Add(hn::Mul(x, number(0x1.45f306dc9c883p-1)), magic);
  const V n = hn::Sub(shifted, magic);
  V a = hn::Sub(x, hn::Mul(n, number(0x1.921fb544p+0)));
  V w = hn::Mul(n, number(0x1.0b4611a6p-34));
  const V b = hn::Sub(a, w);
  w = hn::Sub(hn::Mul(n, number(0x1.3198a2e037073p-69)), hn::Sub(hn::Sub(a, b), w));
  const V r = hn::Sub(b, w), rest = hn::Sub(hn::Sub(b, r), w);

  const V size = hn::Abs(x);
  doubtful = hn::Or(hn::Not(hn::Le(size, number(largest_angle))),
                    hn::And(hn::Lt(hn::Abs(r), number(smallest_rest)), hn::Ge(size, number(0.5))));

  const V z = hn::Mul(r, r);
  // 1 / k! with alternating signs, highest first
  constexpr double odd[] = {
      1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
      1.0 / 362880,          -1.0 / 5040,          1.0 / 120};
  constexpr double even[] = {
      1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
      1.0 / 40320,          -1.0 / 720,         1.0 / 24};
  V p = number(odd[0]), q = number(even[0]);
  for (int k = 1; k < 7; ++k) {
    p = hn::Add(hn::Mul(p, z), number(odd[k]));
    q = hn::Add(hn::Mul(q, z), number(even[k]));
  }
  const V cube = hn::Mul(z, r), half = hn::Mul(z, number(0.5));
  // r - r^3/6 + ..., with rest (1 - r^2/2)
  const V s = hn::Sub(
      r, hn::Sub(hn::Sub(hn::Mul(z, hn::Sub(hn::Mul(rest, number(0.5)), hn::Mul(cube, p))), rest),
                 hn::Mul(cube, number(-1.0 / 6))));
  // 1 - r^2/2 + ..., with -r rest
  const V one = number(1), top = hn::Sub(one, half);
  const V c = hn::Add(top, hn::Add(hn::Sub(hn::Sub(one, top), half),
                                   hn::Sub(hn::Mul(z, hn::Mul(z, q)), hn::Mul(r, rest))));

  const auto turns = hn::Add(hn::BitCast(du, shifted), hn::Set(du, quarter));
  const auto odd_turns = hn::RebindMask(d, hn::Eq(hn::And(turns, hn::Set(du, 1)), hn::Set(du, 1)));
  const auto sign = hn::And(hn::ShiftLeft<62>(turns), hn::Set(du, 0x8000000000000000ULL));
  const V value = hn::IfThenElse(odd_turns, c, s);
  const V signed_value = hn::BitCast(d, hn::Xor(hn::BitCast(du, value), sign));
  // Small angles keep the sign of zero.
  return hn::IfThenElse(hn::Lt(size, number(0x1p-27)), quarter == 0 ? x : one, signed_value);
}

void sines(std::ptrdiff_t n, const double* x, std::uint64_t quarter, double* out) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  HWY_ALIGN double angle[HWY_MAX_BYTES / sizeof(double)] = {};
  HWY_ALIGN double value[HWY_MAX_BYTES / sizeof(double)];
  for (std::ptrdiff_t i = 0; i < n; i += lanes) {
    const std::ptrdiff_t count = std::min(lanes, n - i);
    hn::Mask<D> doubtful;
    if (count < lanes) std::copy_n(x + i, count, angle);
    const V a = count == lanes ? hn::LoadU(d, x + i) : hn::Load(d, angle);
    const V v = sine(a, quarter, doubtful);
    if (count == lanes && hn::AllFalse(d, doubtful)) {
      hn::StoreU(v, d, out + i);
      continue;
    }
    hn::Store(a, d, angle);
    hn::Store(v, d, value);
    for (std::ptrdiff_t k = 0; k < count; ++k) {
      // As the vector decides it, lane by lane.
      hn::Mask<D> alone;
      (void)sine(hn::Set(d, angle[k]), quarter, alone);
      out[i + k] = hn::AllFalse(d, alone) ? value[k]
                   : quarter == 0         ? std::sin(angle[k])
                                          : std::cos(angle[k]);
    }
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(sines);

void sine(std::ptrdiff_t n, const double* x, double* out) {
  HWY_DYNAMIC_DISPATCH(sines)(n, x, 0, out);
}
void cosine(std::ptrdiff_t n, const double* x, double* out) {
  HWY_DYNAMIC_DISPATCH(sines)(n, x, 1, out);
}

}  // namespace halfulp::detail
#endif
