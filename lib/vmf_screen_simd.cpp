#include "detail/vmf_screen_simd.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vmf_screen_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using Single = hn::CappedTag<float, 16>;
using Double = hn::ScalableTag<double>;
using Short = hn::CappedTag<std::int16_t, 32>;
using Long = hn::RepartitionToWide<Short>;

constexpr std::ptrdiff_t tile = vmf_screen_rows;
constexpr int group = static_cast<int>(vmf_screen_group);

void screen(const VmfScreen& s) {
  const Single f;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(f));
  for (std::ptrdiff_t g = 0; g < s.groups; ++g) {
    const float* const component = s.component + g * group * s.dimension;
    for (std::ptrdiff_t i = 0; i < tile; i += lanes) {
      hn::Vec<Single> sum[group];
      for (int c = 0; c < group; ++c) sum[c] = hn::Zero(f);
      for (std::ptrdiff_t d = 0; d < s.dimension; ++d) {
        const auto row = hn::Load(f, s.row + tile * d + i);
        for (int c = 0; c < group; ++c)
          sum[c] = hn::MulAdd(row, hn::Set(f, component[group * d + c]), sum[c]);
      }
      const auto rest = hn::Load(f, s.rest + i);
      for (int c = 0; c < group; ++c) {
        const std::ptrdiff_t j = g * group + c, at = tile * j + i;
        const auto allowed = hn::MulAdd(rest, hn::Set(f, s.drift[j]), hn::Set(f, s.constant[j]));
        hn::Store(sum[c], f, s.product + at);
        hn::Store(hn::Add(sum[c], hn::Add(allowed, hn::Load(f, s.high + at))), f, s.bound + at);
      }
    }
  }
}

std::uint32_t screen_above(std::ptrdiff_t components, const float* bound, const float* limit) {
  const Single f;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(f));
  std::uint32_t above = 0;
  for (std::ptrdiff_t i = 0; i < tile; i += lanes) {
    auto most = hn::Load(f, bound + i);
    for (std::ptrdiff_t j = 1; j < components; ++j)
      most = hn::Max(most, hn::Load(f, bound + tile * j + i));
    std::uint8_t bits[8] = {};
    hn::StoreMaskBits(f, hn::Gt(most, hn::Load(f, limit + i)), bits);
    above |= static_cast<std::uint32_t>(bits[0] | bits[1] << 8) << i;
  }
  return above;
}

/// The tail of an array, then zeros.
template <class Tag>
HWY_INLINE hn::Vec<Tag> load_some(Tag tag, const double* x, std::ptrdiff_t n) {
  alignas(64) double numbers[HWY_MAX_BYTES / sizeof(double)] = {};
  std::copy_n(x, n, numbers);
  return hn::Load(tag, numbers);
}

VmfShortRow shorten(std::ptrdiff_t p, const double* x, double scale, std::int16_t* out) {
  const Double d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const std::ptrdiff_t padded = (p + vmf_short_padding - 1) / vmf_short_padding * vmf_short_padding;
  double largest = 0, chunk_norm = 0;
  for (std::ptrdiff_t begin = 0; begin < p; begin += vmf_short_chunk) {
    const std::ptrdiff_t end = std::min(begin + vmf_short_chunk, p);
    auto most = hn::Zero(d), squares = hn::Zero(d);
    std::ptrdiff_t j = begin;
    const auto take = [&](hn::Vec<Double> v) {
      most = hn::Max(most, hn::Abs(v));
      squares = hn::MulAdd(v, v, squares);
    };
    for (; j + lanes <= end; j += lanes) take(hn::LoadU(d, x + j));
    if (j < end) take(load_some(d, x + j, end - j));
    largest = std::fmax(largest, hn::GetLane(hn::MaxOfLanes(d, most)));
    chunk_norm = std::fmax(chunk_norm, std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares))));
  }
  if (!(largest * scale > 1e-290)) {
    std::fill_n(out, padded, std::int16_t{0});
    return {0, std::sqrt(static_cast<double>(p)) * largest * scale};
  }
  // Two rows whose norms are below 2^15.5 over any chunk have products that fit. The rounding of a
  // number is at most 1/2, of 1024 of them at most 16.
  const double steps = std::fmin(32766 / largest, 46320 / chunk_norm);
  const auto factor = hn::Set(d, steps);
  auto squares = hn::Zero(d);
  alignas(64) double whole[HWY_MAX_BYTES / sizeof(double)];
  for (std::ptrdiff_t j = 0; j < p; j += lanes) {
    const std::ptrdiff_t here = std::min(lanes, p - j);
    const auto v = hn::Mul(here == lanes ? hn::LoadU(d, x + j) : load_some(d, x + j, here), factor);
    const auto near = hn::Round(v);
    const auto rest = hn::Sub(v, near);
    squares = hn::MulAdd(rest, rest, squares);
    hn::Store(near, d, whole);
    for (std::ptrdiff_t q = 0; q < here; ++q) out[j + q] = static_cast<std::int16_t>(whole[q]);
  }
  std::fill(out + p, out + padded, std::int16_t{0});
  const double lack = std::sqrt(hn::GetLane(hn::SumOfLanes(d, squares)));
  // with the roundings of steps, of v and of the sum
  return {scale / steps,
          (lack * (1 + 1e-9) + 0x1p-50 * chunk_norm * steps * std::sqrt(static_cast<double>(p))) *
              scale / steps};
}

template <int Count>
HWY_INLINE void short_products_of(std::ptrdiff_t padded, const std::int16_t* row,
                                  const std::int16_t* component, const std::int32_t* list,
                                  double* out) {
  const Short s;
  const Long l;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(s));
  const std::int16_t* other[Count];
  for (int c = 0; c < Count; ++c) {
    other[c] = component + list[c] * padded;
    out[c] = 0;
  }
  for (std::ptrdiff_t begin = 0; begin < padded; begin += vmf_short_chunk) {
    const std::ptrdiff_t end = std::min(begin + vmf_short_chunk, padded);
    hn::Vec<Long> sum[Count], rest[Count];
    for (int c = 0; c < Count; ++c) sum[c] = rest[c] = hn::Zero(l);
    for (std::ptrdiff_t j = begin; j < end; j += lanes) {
      const auto v = hn::Load(s, row + j);
      for (int c = 0; c < Count; ++c)
        sum[c] = hn::ReorderWidenMulAccumulate(l, v, hn::Load(s, other[c] + j), sum[c], rest[c]);
    }
    for (int c = 0; c < Count; ++c)
      out[c] += hn::GetLane(hn::SumOfLanes(l, hn::Add(sum[c], rest[c])));
  }
}

void short_products(std::ptrdiff_t padded, const std::int16_t* row, const std::int16_t* component,
                    std::ptrdiff_t count, const std::int32_t* list, double* out) {
  std::ptrdiff_t i = 0;
  for (; i + 4 <= count; i += 4) short_products_of<4>(padded, row, component, list + i, out + i);
  if (i + 2 <= count) {
    short_products_of<2>(padded, row, component, list + i, out + i);
    i += 2;
  }
  if (i < count) short_products_of<1>(padded, row, component, list + i, out + i);
}

template <int Count>
HWY_INLINE void some_products(std::ptrdiff_t p, const double* row, const double* component,
                              const std::int32_t* list, double* out) {
  const Double d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const double* other[Count];
  hn::Vec<Double> a[Count], b[Count];
  for (int c = 0; c < Count; ++c) {
    other[c] = component + list[c] * p;
    a[c] = b[c] = hn::Zero(d);
  }
  std::ptrdiff_t j = 0;
  for (; j + 2 * lanes <= p; j += 2 * lanes) {
    const auto v = hn::LoadU(d, row + j), w = hn::LoadU(d, row + j + lanes);
    for (int c = 0; c < Count; ++c) {
      a[c] = hn::MulAdd(v, hn::LoadU(d, other[c] + j), a[c]);
      b[c] = hn::MulAdd(w, hn::LoadU(d, other[c] + j + lanes), b[c]);
    }
  }
  for (int c = 0; c < Count; ++c) {
    out[c] = hn::GetLane(hn::SumOfLanes(d, hn::Add(a[c], b[c])));
    for (std::ptrdiff_t q = j; q < p; ++q) out[c] += row[q] * other[c][q];
  }
}

void products_of(std::ptrdiff_t p, const double* row, const double* component, std::ptrdiff_t count,
                 const std::int32_t* list, double* out) {
  std::ptrdiff_t i = 0;
  for (; i + 4 <= count; i += 4) some_products<4>(p, row, component, list + i, out + i);
  if (i + 2 <= count) {
    some_products<2>(p, row, component, list + i, out + i);
    i += 2;
  }
  if (i < count) some_products<1>(p, row, component, list + i, out + i);
}

void add_scaled(std::ptrdiff_t p, double factor, const double* x, double* sum) {
  const Double d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  std::ptrdiff_t j = 0;
  for (; j + lanes <= p; j += lanes)
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d, x + j), hn::LoadU(d, sum + j)), d, sum + j);
  for (; j < p; ++j) sum[j] += factor * x[j];
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(screen);
HWY_EXPORT(screen_above);
HWY_EXPORT(shorten);
HWY_EXPORT(short_products);
HWY_EXPORT(products_of);
HWY_EXPORT(add_scaled);

void vmf_screen(const VmfScreen& screen) { HWY_DYNAMIC_DISPATCH(screen)(screen); }
std::uint32_t vmf_screen_above(std::ptrdiff_t components, const float* bound, const float* limit) {
  return HWY_DYNAMIC_DISPATCH(screen_above)(components, bound, limit);
}
VmfShortRow vmf_shorten(std::ptrdiff_t p, const double* x, double scale, std::int16_t* out) {
  return HWY_DYNAMIC_DISPATCH(shorten)(p, x, scale, out);
}
void vmf_short_products(std::ptrdiff_t padded, const std::int16_t* row,
                        const std::int16_t* component, std::ptrdiff_t count,
                        const std::int32_t* list, double* out) {
  HWY_DYNAMIC_DISPATCH(short_products)(padded, row, component, count, list, out);
}
void vmf_products_of(std::ptrdiff_t p, const double* row, const double* component,
                     std::ptrdiff_t count, const std::int32_t* list, double* out) {
  HWY_DYNAMIC_DISPATCH(products_of)(p, row, component, count, list, out);
}
void vmf_add_scaled(std::ptrdiff_t p, double factor, const double* x, double* sum) {
  HWY_DYNAMIC_DISPATCH(add_scaled)(p, factor, x, sum);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
