// Included once a target by files that include <hwy/foreach_target.h>: no guard but this one.
#if defined(HALFULP_VECTOR_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef HALFULP_VECTOR_INL_HPP
#undef HALFULP_VECTOR_INL_HPP
#else
#define HALFULP_VECTOR_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<double>;
using V = hn::Vec<D>;
using DU = hn::RebindToUnsigned<D>;

struct Pair {
  V hi, lo;
};

/// a - b.
HWY_INLINE Pair difference_exact(V a, V b) {
  const V s = hn::Sub(a, b);
  const V t = hn::Sub(s, a);
  return {s, hn::Sub(hn::Sub(a, hn::Sub(s, t)), hn::Add(b, t))};
}
/// a + b, |a| >= |b|.
HWY_INLINE Pair sum_ordered(V a, V b) {
  const V s = hn::Add(a, b);
  return {s, hn::Sub(b, hn::Sub(s, a))};
}
#if HWY_NATIVE_FMA
HWY_INLINE Pair product_exact(V a, V b) {
  const V p = hn::Mul(a, b);
  return {p, hn::MulSub(a, b, p)};
}
/// c - a b for c near a b: rounded once.
HWY_INLINE V minus_product(V c, V a, V b) { return hn::NegMulAdd(a, b, c); }
#else
// Dekker: no fused multiply-add on this target.
HWY_INLINE Pair product_exact(V a, V b) {
  const D d;
  const V split = hn::Set(d, 134217729.0), p = hn::Mul(a, b);
  const V ta = hn::Mul(split, a), tb = hn::Mul(split, b);
  const V ah = hn::Sub(ta, hn::Sub(ta, a)), bh = hn::Sub(tb, hn::Sub(tb, b));
  const V al = hn::Sub(a, ah), bl = hn::Sub(b, bh);
  V e = hn::Sub(hn::Mul(ah, bh), p);
  e = hn::Add(e, hn::Mul(ah, bl));
  e = hn::Add(e, hn::Mul(al, bh));
  return {p, hn::Add(e, hn::Mul(al, bl))};
}
HWY_INLINE V minus_product(V c, V a, V b) {
  const Pair p = product_exact(a, b);
  return hn::Sub(hn::Sub(c, p.hi), p.lo);
}
#endif

// AVX-512: targets of x86 have the smaller numbers the more they can.
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
/// table[index mod 16]: one instruction where a gather takes twenty.
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  return V{_mm512_permutex2var_pd(hn::LoadU(d, table).raw, index.raw, hn::LoadU(d, table + 8).raw)};
}
HWY_INLINE hn::Vec<hn::ScalableTag<float>> look_up(const float* table,
                                                   hn::Vec<hn::ScalableTag<std::int32_t>> index) {
  const hn::ScalableTag<float> d;
  return hn::TableLookupLanes(hn::LoadU(d, table), hn::IndicesFromVec(d, index));
}
/// a/b for a >= b, to 2^-13, and at least 1: by a little less it would be of another interval of a
/// table, whose terms do not vanish with log(a/b).
HWY_INLINE V rough_quotient(V a, V b) {
  const D d;
  return hn::Max(hn::Mul(a, V{_mm512_rcp14_pd(b.raw)}), hn::Set(d, 1.0));
}
/// x = m 2^e with m in [1, 2), for a normal x > 0.
HWY_INLINE V exponent_of(V x) { return V{_mm512_getexp_pd(x.raw)}; }
HWY_INLINE V mantissa_of(V x) {
  return V{_mm512_getmant_pd(x.raw, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero)};
}
#else
HWY_INLINE V look_up(const double* table, hn::Vec<DU> index) {
  const D d;
  const DU du;
  const auto at = hn::And(index, hn::Set(du, 15ULL));
#if HWY_TARGET == HWY_AVX2
  // sooner there than by a gather
  alignas(32) std::uint64_t places[4];
  hn::Store(at, du, places);
  return V{_mm256_setr_pd(table[places[0]], table[places[1]], table[places[2]], table[places[3]])};
#else
  return hn::GatherIndex(d, table, hn::BitCast(hn::RebindToSigned<D>(), at));
#endif
}
HWY_INLINE V rough_quotient(V a, V b) { return hn::Div(a, b); }
/// x = m 2^e with m in [1, 2), for a normal x > 0.
HWY_INLINE V exponent_of(V x) {
  const D d;
  const DU du;
  // e + 1023 as the low bits of 2^52 + e + 1023
  const auto biased =
      hn::Or(hn::ShiftRight<52>(hn::BitCast(du, x)), hn::Set(du, 0x4330000000000000ULL));
  return hn::Sub(hn::BitCast(d, biased), hn::Set(d, 0x1p52 + 1023));
}
HWY_INLINE V mantissa_of(V x) {
  const DU du;
  const auto fraction = hn::And(hn::BitCast(du, x), hn::Set(du, 0x000fffffffffffffULL));
  return hn::BitCast(D(), hn::Or(fraction, hn::Set(du, 0x3ff0000000000000ULL)));
}
#endif

/// Bit i of the mask's lane i.
template <class M>
HWY_INLINE std::uint64_t mask_bits(M mask) {
  const D d;
  std::uint8_t bytes[8] = {};
  hn::StoreMaskBits(d, mask, bytes);
  std::uint64_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  return bits;
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // toggle
