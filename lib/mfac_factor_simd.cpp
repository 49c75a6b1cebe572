#include "detail/mfac_factor_simd.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mfac_factor_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::mfac::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<double, 8>;
using V = hn::Vec<D>;

/// Vectors of 8 numbers.
constexpr int parts = static_cast<int>(8 / hn::MaxLanes(D()));

template <int Count>
void rotate_columns(double* HWY_RESTRICT columns, std::ptrdiff_t stride, std::ptrdiff_t n,
                    const double* c, const double* s, const double* w, double* HWY_RESTRICT v,
                    double* HWY_RESTRICT k) {
  const D d;
  V cosine[Count], sine[Count], factor[Count];
  for (int q = 0; q < Count; ++q) {
    cosine[q] = hn::Set(d, c[q]);
    sine[q] = hn::Set(d, s[q]);
    factor[q] = hn::Set(d, w[q]);
  }
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(d))) {
    V vi = hn::Load(d, v + i), ki = hn::Load(d, k + i);
    for (int q = 0; q < Count; ++q) {
      double* const at = columns + q * stride + i;
      const V old = hn::Load(d, at);
      const V fresh = hn::MulAdd(cosine[q], old, hn::Mul(sine[q], vi));
      vi = hn::NegMulAdd(sine[q], old, hn::Mul(cosine[q], vi));
      ki = hn::NegMulAdd(factor[q], fresh, ki);
      hn::Store(fresh, d, at);
    }
    hn::Store(vi, d, v + i);
    hn::Store(ki, d, k + i);
  }
}

void rotate(double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n, const double* c,
            const double* s, const double* w, double* v, double* k) {
  if (count == 4) return rotate_columns<4>(columns, stride, n, c, s, w, v, k);
  if (count == 3) return rotate_columns<3>(columns, stride, n, c, s, w, v, k);
  if (count == 2) return rotate_columns<2>(columns, stride, n, c, s, w, v, k);
  rotate_columns<1>(columns, stride, n, c, s, w, v, k);
}

template <int Count>
void subtract_columns(const double* HWY_RESTRICT columns, std::ptrdiff_t stride, std::ptrdiff_t n,
                      const double* w, double* HWY_RESTRICT k) {
  const D d;
  for (std::ptrdiff_t i = 0; i < n; i += static_cast<std::ptrdiff_t>(hn::Lanes(d))) {
    V ki = hn::Load(d, k + i);
    for (int q = 0; q < Count; ++q)
      ki = hn::NegMulAdd(hn::Set(d, w[q]), hn::Load(d, columns + q * stride + i), ki);
    hn::Store(ki, d, k + i);
  }
}

void subtract(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
              const double* w, double* k) {
  if (count == 8) return subtract_columns<8>(columns, stride, n, w, k);
  for (int q = 0; q < count; ++q) subtract_columns<1>(columns + q * stride, stride, n, w + q, k);
}

template <int Count>
void dot_columns(const double* HWY_RESTRICT columns, std::ptrdiff_t stride, std::ptrdiff_t n,
                 const double* HWY_RESTRICT x, double* out) {
  const D d;
  constexpr auto lanes = static_cast<std::ptrdiff_t>(hn::MaxLanes(d));
  V sum[Count * parts];
  for (V& each : sum) each = hn::Zero(d);
  for (std::ptrdiff_t i = 0; i < n; i += 8)
    for (int p = 0; p < parts; ++p) {
      const V xi = hn::Load(d, x + i + p * lanes);
      for (int q = 0; q < Count; ++q)
        sum[q * parts + p] =
            hn::MulAdd(hn::Load(d, columns + q * stride + i + p * lanes), xi, sum[q * parts + p]);
    }
  for (int q = 0; q < Count; ++q) {
    alignas(64) double part[8];
    for (int p = 0; p < parts; ++p) hn::Store(sum[q * parts + p], d, part + p * lanes);
    for (int step = 4; step > 0; step /= 2)
      for (int j = 0; j < step; ++j) part[j] += part[j + step];
    out[q] = part[0];
  }
}

void dots(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
          const double* x, double* out) {
  int q = 0;
  for (; q + 4 <= count; q += 4) dot_columns<4>(columns + q * stride, stride, n, x, out + q);
  for (; q < count; ++q) dot_columns<1>(columns + q * stride, stride, n, x, out + q);
}

}  // namespace halfulp::mfac::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::mfac::detail {

HWY_EXPORT(rotate);
HWY_EXPORT(subtract);
HWY_EXPORT(dots);

void factor_rotate(double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                   const double* c, const double* s, const double* w, double* v, double* k) {
  HWY_DYNAMIC_DISPATCH(rotate)(columns, stride, count, n, c, s, w, v, k);
}
void factor_subtract(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                     const double* w, double* k) {
  HWY_DYNAMIC_DISPATCH(subtract)(columns, stride, count, n, w, k);
}
void factor_dots(const double* columns, std::ptrdiff_t stride, int count, std::ptrdiff_t n,
                 const double* x, double* out) {
  HWY_DYNAMIC_DISPATCH(dots)(columns, stride, count, n, x, out);
}

}  // namespace halfulp::mfac::detail
#endif  // HWY_ONCE
