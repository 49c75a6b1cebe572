#include "detail/mfac_rows_simd.hpp"

#include <hwy/cache_control.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "detail/mfac_gradients.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mfac_rows_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::mfac::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Numbers of a sum: of a vector of 64 bytes, in one part or several.
template <class T>
inline constexpr std::ptrdiff_t sum_lanes = 64 / static_cast<std::ptrdiff_t>(sizeof(T));
template <class T>
using Tag = hn::CappedTag<T, 64 / sizeof(T)>;
template <class T>
inline constexpr std::ptrdiff_t lanes = hn::MaxLanes(Tag<T>());
template <class T>
using V = hn::Vec<Tag<T>>;

/// Vectors that stay in registers.
#if HWY_MAX_BYTES >= 64 || HWY_ARCH_ARM_A64
inline constexpr bool many_registers = true;
#else
inline constexpr bool many_registers = false;
#endif

// What gradients are held as, by what a vector of it is when it is summed.
struct Float64 {
  using Type = double;
};
struct Float32 {
  using Type = float;
};
struct Bfloat16 {
  using Type = std::uint16_t;
};
struct Float16 {
  using Type = std::uint16_t;
};

HWY_INLINE V<double> load(Float64, Tag<double> tag, const double* from) {
  return hn::LoadU(tag, from);
}
HWY_INLINE V<double> load(Float32, Tag<double> tag, const float* from) {
  return hn::PromoteTo(tag, hn::LoadU(hn::Rebind<float, Tag<double>>(), from));
}
HWY_INLINE V<float> load(Float64, Tag<float> tag, const double* from) {
#if HWY_TARGET == HWY_SCALAR
  return hn::DemoteTo(tag, hn::LoadU(Tag<double>(), from));
#else
  const hn::Half<Tag<float>> half;
  const Tag<double> wide;
  return hn::Combine(tag, hn::DemoteTo(half, hn::LoadU(wide, from + lanes<double>)),
                     hn::DemoteTo(half, hn::LoadU(wide, from)));
#endif
}
HWY_INLINE V<float> load(Float32, Tag<float> tag, const float* from) {
  return hn::LoadU(tag, from);
}
template <class D>
HWY_INLINE hn::Vec<D> load_float(Bfloat16, D tag, const std::uint16_t* from) {
  const hn::Rebind<std::uint32_t, D> bits;
  const hn::Rebind<std::uint16_t, D> half;
  return hn::BitCast(tag, hn::ShiftLeft<16>(hn::PromoteTo(bits, hn::LoadU(half, from))));
}
template <class D>
HWY_INLINE hn::Vec<D> load_float(Float16, D tag, const std::uint16_t* from) {
  const hn::Rebind<std::uint16_t, D> bits;
  const hn::Rebind<hwy::float16_t, D> half;
  return hn::PromoteTo(tag, hn::BitCast(half, hn::LoadU(bits, from)));
}
template <class Held>
HWY_INLINE V<float> load(Held held, Tag<float> tag, const std::uint16_t* from) {
  return load_float(held, tag, from);
}
template <class Held>
HWY_INLINE V<double> load(Held held, Tag<double> tag, const std::uint16_t* from) {
  return hn::PromoteTo(tag, load_float(held, hn::Rebind<float, Tag<double>>(), from));
}

template <class T>
using Packed = std::conditional_t<sizeof(T) == 8, Float64, Float32>;

/// Numbers of a sum that are left when the second half has been added to the first, as is done
/// first, where each half is one vector.
template <class T>
inline constexpr std::ptrdiff_t kept_lanes = sum_lanes<T> == 2 * lanes<T> ? lanes<T> : sum_lanes<T>;

/// A sum's numbers, or the first `Count` of them that are left, halves first.
template <class T, std::ptrdiff_t Count = kept_lanes<T>>
HWY_INLINE double fold(const T* sum) {
  T numbers[Count];
  std::copy_n(sum, Count, numbers);
  for (std::ptrdiff_t half = Count / 2; half > 0; half /= 2)
    for (std::ptrdiff_t i = 0; i < half; ++i) numbers[i] += numbers[i + half];
  return double{numbers[0]};
}

/// out[r] += the numbers left of sum r of `count`, one after the other; four at a time, to the same
/// bits.
template <class T>
HWY_INLINE void add_folded(const T* sums, int count, double* out) {
  constexpr std::ptrdiff_t step = sum_lanes<T>;
  int r = 0;
#if HWY_MAX_BYTES >= 32
  const auto half = [&](auto tag, int i) {
    const T* const at = sums + (r + i) * step;
    if constexpr (kept_lanes<T> == step)
      return hn::Add(hn::Load(tag, at), hn::Load(tag, at + step / 2));
    else
      return hn::Load(tag, at);
  };
  const hn::CappedTag<double, 4> four;
  if constexpr (std::is_same_v<T, double>) {
    for (; r + 4 <= count; r += 4) {
      const auto quarters = [&](int i) {
        const auto a = half(four, i), b = half(four, i + 1);
        return hn::Add(hn::ConcatLowerLower(four, b, a), hn::ConcatUpperUpper(four, b, a));
      };
      const auto a = quarters(0), b = quarters(2);
      const auto sum = hn::Add(hn::ConcatEven(four, b, a), hn::ConcatOdd(four, b, a));
      hn::StoreU(hn::Add(hn::LoadU(four, out + r), sum), four, out + r);
    }
  } else {
    const hn::CappedTag<float, 8> eight;
    for (; r + 4 <= count; r += 4) {
      const auto quarters = [&](int i) {
        const auto a = half(eight, i), b = half(eight, i + 1);
        return hn::Add(hn::ConcatLowerLower(eight, b, a), hn::ConcatUpperUpper(eight, b, a));
      };
      // Pairs of floats are shuffled as one number.
      const hn::RepartitionToWide<decltype(eight)> pairs;
      const auto a = hn::BitCast(pairs, quarters(0)), b = hn::BitCast(pairs, quarters(2));
      const auto eighths = hn::Add(hn::BitCast(eight, hn::ConcatEven(pairs, b, a)),
                                   hn::BitCast(eight, hn::ConcatOdd(pairs, b, a)));
      const auto twice = hn::Add(eighths, hn::Shuffle2301(eighths));
      const auto sum = hn::PromoteTo(four, hn::LowerHalf(hn::ConcatEven(eight, twice, twice)));
      hn::StoreU(hn::Add(hn::LoadU(four, out + r), sum), four, out + r);
    }
  }
#endif
  for (; r < count; ++r) out[r] += fold(sums + r * step);
}

/// Bytes to look ahead within a row; behind its end are the numbers of the next tile, or none,
/// which does no harm.
inline constexpr std::ptrdiff_t distance = 256;
/// What lies ahead of number j of R rows, if j begins a line.
template <int R, class Type>
HWY_INLINE void prefetch_line(const Type* const* rows, std::ptrdiff_t j) {
  constexpr std::ptrdiff_t line = 64 / sizeof(Type);
  if (j % line != 0) return;
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
    hwy::Prefetch(rows[r] + j + distance / static_cast<std::ptrdiff_t>(sizeof(Type)));
}

/// The same vector, and in a register: compilers fold loads into each use, of which a processor
/// with few registers can do half as many.
template <class Vector>
HWY_INLINE Vector loaded(Vector v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));
#endif
  return v;
}

/// Calls body(from, j) for `n` numbers, the last few of them from a copy with zeros behind.
template <class Type, class Body>
HWY_INLINE void by_vectors(const Type* from, std::ptrdiff_t n, std::ptrdiff_t vector,
                           const Body& body) {
  const std::ptrdiff_t whole = n / mfac_step * mfac_step;
  for (std::ptrdiff_t j = 0; j < whole; j += vector) body(from + j, j);
  if (whole == n) return;
  alignas(64) Type rest[mfac_step] = {};
  std::copy_n(from + whole, n - whole, rest);
  for (std::ptrdiff_t j = 0; j < mfac_step; j += vector) body(rest + j, whole + j);
}

/// sum[r][q] += a_r b_q, of a vector of them.
template <int R, int Q, int Parts, bool Streamed, class T, class Held, class Other>
HWY_INLINE void add_products(Held held, const typename Held::Type* const* a, std::ptrdiff_t j,
                             const Other* b, std::ptrdiff_t stride, V<T> (&sum)[R][Q][Parts]) {
  if constexpr (Streamed) prefetch_line<R>(a, j);
  // Where registers are few, the fewer of the two kinds of vectors stay in them.
  constexpr bool keep_rows = many_registers || R <= Q;
  constexpr int kept_count = keep_rows ? R : Q, other_count = keep_rows ? Q : R;
#pragma GCC unroll 16
  for (int p = 0; p < Parts; ++p) {
    const auto row = [&](int r) { return loaded(load(held, Tag<T>(), a[r] + j + p * lanes<T>)); };
    const auto vector = [&](int q) {
      return loaded(load(Packed<Other>(), Tag<T>(), b + q * stride + p * lanes<T>));
    };
    V<T> kept[kept_count];
#pragma GCC unroll 16
    for (int i = 0; i < kept_count; ++i) kept[i] = keep_rows ? row(i) : vector(i);
#pragma GCC unroll 16
    for (int i = 0; i < other_count; ++i) {
      const V<T> x = keep_rows ? vector(i) : row(i);
#pragma GCC unroll 16
      for (int k = 0; k < kept_count; ++k) {
        V<T>& s = keep_rows ? sum[k][i][p] : sum[i][k][p];
        s = hn::MulAdd(kept[k], x, s);
      }
    }
  }
}

/// Steps of a sum while which a line is sent ahead.
inline constexpr std::ptrdiff_t steps_of_line = 4;

/// sums[step (q R + r)] and the Parts vectors that begin there: of a_r b_q, each step-th vector of
/// n numbers, from 0 if `fresh`. lower: where the first half of the same sums is, to which this one
/// is added in place of being stored, or null. A function of its own: GCC keeps 12 sums and what
/// they take in 16 registers only in a loop that is alone.
template <int R, int Q, int Parts, bool Streamed, class T, class Held, class Other>
HWY_NOINLINE void form_sums(Held held, const typename Held::Type* const* a, std::ptrdiff_t n,
                            const Other* b, std::ptrdiff_t stride, T* sums, bool fresh, T* lower,
                            [[maybe_unused]] Ahead* ahead) {
  constexpr std::ptrdiff_t step = sum_lanes<T>;
  const Tag<T> tag;
  const typename Held::Type* rows[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) rows[r] = a[r];
  V<T> sum[R][Q][Parts];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 16
      for (int p = 0; p < Parts; ++p)
        sum[r][q][p] =
            fresh ? hn::Zero(tag) : hn::Load(tag, sums + (q * R + r) * step + p * lanes<T>);
  std::ptrdiff_t j = 0;
#if HWY_MAX_BYTES == 32
  if constexpr (!Streamed)
    if (ahead != nullptr) {
      const std::ptrdiff_t lines = n / (steps_of_line * step);
      const std::byte* line = ahead->next(lines);
      const std::ptrdiff_t size = line == nullptr ? 0 : 64;
      if (line == nullptr) line = reinterpret_cast<const std::byte*>(sums);
      for (std::ptrdiff_t i = 0; i < lines; ++i, line += size) {
        __builtin_prefetch(line, 0, 2);
#pragma GCC unroll 16
        for (std::ptrdiff_t s = 0; s < steps_of_line; ++s, j += step)
          add_products<R, Q, Parts, false, T>(held, rows, j, b + j, stride, sum);
      }
    }
#endif
  for (; j < n; j += step)
    add_products<R, Q, Parts, Streamed, T>(held, rows, j, b + j, stride, sum);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int q = 0; q < Q; ++q)
#pragma GCC unroll 16
      for (int p = 0; p < Parts; ++p) {
        const std::ptrdiff_t at = (q * R + r) * step + p * lanes<T>;
        if (lower == nullptr)
          hn::Store(sum[r][q][p], tag, sums + at);
        else
          hn::Store(hn::Add(hn::Load(tag, lower + at), sum[r][q][p]), tag, lower + at);
      }
}

/// Sums of a_r b_q for whole steps of numbers, from 0 if `fresh`; if these are the last, what is
/// left of them is where add_folded() takes it from. Parts: vectors of a sum that are formed in one
/// pass over the numbers.
template <int R, int Q, int Parts, bool Streamed, class T, class Held, class Other>
HWY_INLINE void add_sums(Held held, const typename Held::Type* const* a, std::ptrdiff_t n,
                         const Other* b, std::ptrdiff_t stride, T* sums, bool fresh, bool last,
                         Ahead* ahead) {
  for (std::ptrdiff_t pass = 0; pass < sum_lanes<T>; pass += Parts * lanes<T>) {
    const typename Held::Type* rows[R];
    for (int r = 0; r < R; ++r) rows[r] = a[r] + pass;
    const bool halves = Parts == 1 && kept_lanes<T> < sum_lanes<T>;
    form_sums<R, Q, Parts, Streamed>(held, rows, n, b + pass, stride, sums + pass, fresh,
                                     last && halves && pass > 0 ? sums : nullptr, ahead);
  }
  if constexpr (Parts > 1 && kept_lanes<T> < sum_lanes<T>)
    for (T* sum = sums; last && sum < sums + R * Q * sum_lanes<T>; sum += sum_lanes<T>)
      hn::Store(hn::Add(hn::Load(Tag<T>(), sum), hn::Load(Tag<T>(), sum + lanes<T>)), Tag<T>(),
                sum);
}

/// Where registers are few, numbers of 4 rows and 3 others that fit into the first cache, and
/// groups of others whose sums wait there for the next such numbers.
template <class Held, class Other>
inline constexpr std::ptrdiff_t cached_numbers =
    3072 / static_cast<std::ptrdiff_t>(std::max(sizeof(typename Held::Type), sizeof(Other)));
inline constexpr std::ptrdiff_t waiting_groups = 8;

/// out[out_stride q + r] += a_r . b_q for up to `groups` groups of Q; b has zeros behind the last
/// number. Calls between(i) before each of the groups.
template <int R, int Q, int Parts, bool Streamed, class T, class Held, class Other, class Between>
HWY_INLINE void add_groups(Held held, const typename Held::Type* const* a, int rows, const Other* b,
                           std::ptrdiff_t stride, std::ptrdiff_t groups, std::ptrdiff_t n,
                           double* out, std::ptrdiff_t out_stride, Ahead* ahead,
                           const Between& between) {
  constexpr std::ptrdiff_t step = sum_lanes<T>, size = R * Q * step;
  constexpr std::ptrdiff_t most = many_registers || Streamed ? 1 : waiting_groups;
  const std::ptrdiff_t whole = n / step * step;
  const std::ptrdiff_t some = many_registers || Streamed ? whole : cached_numbers<Held, Other>;
  alignas(64) T sums[most * size];
  const typename Held::Type* part[R];
  alignas(64) typename Held::Type rest[R][step];
  for (std::ptrdiff_t group = 0; group < groups; group += most) {
    const std::ptrdiff_t count = std::min(most, groups - group);
    std::ptrdiff_t j = 0;
    do {
      const std::ptrdiff_t here = std::min(some, whole - j);
      for (int r = 0; r < R; ++r) part[r] = a[r] + j;
      for (std::ptrdiff_t g = 0; g < count; ++g) {
        if (j == 0) between(group + g);
        add_sums<R, Q, Parts, Streamed>(held, part, here, b + (group + g) * Q * stride + j, stride,
                                        sums + g * size, j == 0, j + here == n, ahead);
      }
      j += here;
    } while (j < whole);
    if (whole < n) {
      for (int r = 0; r < R; ++r) {
        std::fill(std::copy_n(a[r] + whole, n - whole, rest[r]), rest[r] + step, 0);
        part[r] = rest[r];
      }
      for (std::ptrdiff_t g = 0; g < count; ++g)
        add_sums<R, Q, Parts, false>(held, part, step, b + (group + g) * Q * stride + whole, stride,
                                     sums + g * size, false, true, nullptr);
    }
    for (std::ptrdiff_t g = 0; g < count; ++g)
      for (int q = 0; q < Q; ++q)
        add_folded(sums + g * size + q * R * step, rows, out + ((group + g) * Q + q) * out_stride);
  }
}

/// The same for any number k of others.
template <int R, int Q, int Parts, bool Streamed, class T, class Held, class Other, class Between>
void add_dots_of(Held held, const typename Held::Type* const* a, int rows, const Other* b,
                 std::ptrdiff_t stride, std::ptrdiff_t k, std::ptrdiff_t n, double* out,
                 std::ptrdiff_t out_stride, Ahead* ahead, const Between& between,
                 std::ptrdiff_t group = 0) {
  const std::ptrdiff_t groups = k / Q, rest = k - Q * groups;
  if (groups > 0)
    add_groups<R, Q, Parts, Streamed, T>(held, a, rows, b, stride, groups, n, out, out_stride,
                                         ahead, [&](std::ptrdiff_t i) { between(group + i); });
  if constexpr (Q > 1)
    if (rest > 0)
      add_dots_of<R, Q - 1, Parts, Streamed, T>(held, a, rows, b + Q * groups * stride, stride,
                                                rest, n, out + Q * groups * out_stride, out_stride,
                                                ahead, between, group + groups);
}

template <class T, class Held>
void dots(const Held* const* a, int rows, const Held* b, std::ptrdiff_t stride, std::ptrdiff_t k,
          std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride, Ahead* ahead) {
  constexpr int Q = many_registers ? 6 : 3;
  add_dots_of<4, Q, 1, false, T>(Packed<Held>(), a, rows, b, stride, k, n, out, out_stride, ahead,
                                 [](std::ptrdiff_t) {});
}

/// Numbers of rows behind the last are those of the last, and for nothing.
template <int R, class Held>
struct SomeRows {
  using Type = typename Held::Type;
  const Type* begin[R];
  SomeRows(const Rows& all, std::ptrdiff_t first) {
    const auto* const numbers = reinterpret_cast<const Type*>(all.numbers);
    for (int r = 0; r < R; ++r) begin[r] = numbers + std::min(first + r, all.m - 1) * all.stride;
  }
};

/// Part `part` of `parts` of R rows from row `first` on, or, behind the last, of the first rows of
/// the next tile, while others are worked on.
template <int R, class Type>
HWY_INLINE void prefetch_part(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t part,
                              std::ptrdiff_t parts) {
  constexpr std::ptrdiff_t line = 64 / sizeof(Type);
  const auto* numbers = reinterpret_cast<const Type*>(rows.numbers);
  std::ptrdiff_t n = rows.n;
  if (first >= rows.m) {
    first = 0;
    numbers += n;
    n = std::min(n, rows.ahead);
  }
  const std::ptrdiff_t lines = (n + line - 1) / line, all = lines * R;
  for (std::ptrdiff_t at = all * part / parts; at < all * (part + 1) / parts; ++at) {
    const std::ptrdiff_t i = std::min(first + at / lines, rows.m - 1);
    hwy::Prefetch(numbers + i * rows.stride + at % lines * line);
  }
}

/// Calls body with the type of what `storage` says.
template <class Body>
HWY_INLINE void by_storage(Storage storage, const Body& body) {
  switch (storage) {
    case Storage::float64:
      return body(Float64());
    case Storage::float32:
      return body(Float32());
    case Storage::bfloat16:
      return body(Bfloat16());
    case Storage::float16:
      return body(Float16());
  }
}

/// More right-hand sides than this, and a tile is worked on for longer than it takes to arrive.
inline constexpr std::ptrdiff_t most_streamed = 3;

template <int R, int Q, int Parts, bool Streamed, class Held, class T>
void project_rows(Held held, const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last,
                  const T* b, std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  const std::ptrdiff_t groups = (k + Q - 1) / Q;
  for (std::ptrdiff_t i = first; i < last; i += R) {
    SomeRows<R, Held> some(rows, i);
    const int count = static_cast<int>(std::min<std::ptrdiff_t>(R, last - i));
    for (std::ptrdiff_t j = 0; j < rows.n; j += mfac_most_terms) {
      add_dots_of<R, Q, Parts, Streamed, T>(
          held, some.begin, count, b + j, stride, k, std::min(mfac_most_terms, rows.n - j), out + i,
          rows.m, ahead, [&](std::ptrdiff_t group) {
            if (!Streamed && ahead == nullptr)
              prefetch_part<R, typename Held::Type>(rows, i + R, group, groups);
          });
      for (auto& row : some.begin) row += mfac_most_terms;
    }
  }
}

template <class T>
void project(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const T* b,
             std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  by_storage(rows.storage, [&](auto held) {
    constexpr int parts = static_cast<int>(sum_lanes<T> / lanes<T>);
    const auto run = [&]<int R, int Q, int Parts, bool Streamed>() {
      project_rows<R, Q, Parts, Streamed>(held, rows, first, last, b, stride, k, out, ahead);
    };
    if constexpr (many_registers && parts <= 2) {
      if (k == 1) return run.template operator()<8, 1, parts, true>();
      if (k <= most_streamed) return run.template operator()<8, 3, 1, true>();
      run.template operator()<4, 6, 1, false>();
    } else {
      if (k == 1 && parts <= 2) return run.template operator()<4, 1, std::min(parts, 2), true>();
      if (k <= most_streamed) return run.template operator()<4, 2, 1, false>();
      run.template operator()<4, 3, 1, false>();
    }
  });
}

#if HWY_MAX_BYTES == 32
/// A panel: two vectors of rows. The lanes of a sum are in the order in which fold() adds them, so
/// that each is added to its neighbour, then the pairs, and so on.
template <class T>
inline constexpr std::ptrdiff_t panel_rows = 2 * lanes<T>;
/// Numbers of a lane of a panel: one line more, so that lanes do not begin at the same place of a
/// page.
template <class T>
constexpr std::ptrdiff_t lane_size(std::ptrdiff_t n) {
  return ((n + mfac_step - 1) / mfac_step * mfac_step / sum_lanes<T> + 1) * panel_rows<T>;
}
/// Where lane `lane` is in that order: its bits reversed.
template <class T>
constexpr std::ptrdiff_t place_of(std::ptrdiff_t lane) {
  std::ptrdiff_t place = 0;
  for (std::ptrdiff_t bit = 1; bit < sum_lanes<T>; bit *= 2, lane /= 2)
    place = 2 * place + lane % 2;
  return place;
}

/// A vector of numbers of as many rows each, transposed.
HWY_INLINE void transpose(V<double> (&x)[4]) {
  const Tag<double> tag;
  const auto a = hn::ConcatLowerLower(tag, x[2], x[0]), b = hn::ConcatLowerLower(tag, x[3], x[1]);
  const auto c = hn::ConcatUpperUpper(tag, x[2], x[0]), d = hn::ConcatUpperUpper(tag, x[3], x[1]);
  x[0] = hn::InterleaveLower(tag, a, b);
  x[1] = hn::InterleaveUpper(tag, a, b);
  x[2] = hn::InterleaveLower(tag, c, d);
  x[3] = hn::InterleaveUpper(tag, c, d);
}
HWY_INLINE void transpose(V<float> (&x)[8]) {
  const Tag<float> tag;
  V<float> half[8];
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    half[i] = hn::ConcatLowerLower(tag, x[i + 4], x[i]);
    half[i + 4] = hn::ConcatUpperUpper(tag, x[i + 4], x[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 8; i += 4) {
    const auto a = hn::InterleaveLower(tag, half[i], half[i + 2]);
    const auto b = hn::InterleaveLower(tag, half[i + 1], half[i + 3]);
    const auto c = hn::InterleaveUpper(tag, half[i], half[i + 2]);
    const auto d = hn::InterleaveUpper(tag, half[i + 1], half[i + 3]);
    x[i] = hn::InterleaveLower(tag, a, b);
    x[i + 1] = hn::InterleaveUpper(tag, a, b);
    x[i + 2] = hn::InterleaveLower(tag, c, d);
    x[i + 3] = hn::InterleaveUpper(tag, c, d);
  }
}

/// Numbers from number j on, one of each lane, of the rows of a panel; to: `offset` behind these.
template <class T, class Held>
HWY_INLINE void pack_numbers(Held held, const typename Held::Type* const* rows, std::ptrdiff_t j,
                             T* const* to, std::ptrdiff_t offset) {
  constexpr std::ptrdiff_t size = lanes<T>;
#pragma GCC unroll 16
  for (std::ptrdiff_t part = 0; part < sum_lanes<T>; part += size)
#pragma GCC unroll 16
    for (std::ptrdiff_t first = 0; first < panel_rows<T>; first += size) {
      V<T> x[size];
#pragma GCC unroll 16
      for (std::ptrdiff_t r = 0; r < size; ++r)
        x[r] = load(held, Tag<T>(), rows[first + r] + j + part);
      transpose(x);
#pragma GCC unroll 16
      for (std::ptrdiff_t r = 0; r < size; ++r)
        hn::Store(x[r], Tag<T>(), to[part + r] + offset + first);
    }
}

template <class T>
void pack(const Rows& rows, std::ptrdiff_t first, T* panel) {
  by_storage(rows.storage, [&](auto held) {
    using Held = decltype(held);
    constexpr auto R = static_cast<int>(panel_rows<T>);
    SomeRows<R, Held> some(rows, first);
    const std::ptrdiff_t whole = rows.n / mfac_step * mfac_step;
    T* to[sum_lanes<T>];
    for (std::ptrdiff_t lane = 0; lane < sum_lanes<T>; ++lane)
      to[lane] = panel + place_of<T>(lane) * lane_size<T>(rows.n);
    std::ptrdiff_t j = 0;
    for (; j < whole; j += sum_lanes<T>)
      pack_numbers(held, some.begin, j, to, j / sum_lanes<T> * panel_rows<T>);
    if (whole == rows.n) return;
    alignas(64) typename Held::Type rest[R][mfac_step] = {};
    for (int r = 0; r < R; ++r) {
      std::copy_n(some.begin[r] + whole, rows.n - whole, rest[r]);
      some.begin[r] = rest[r];
    }
    for (; j < whole + mfac_step; j += sum_lanes<T>)
      pack_numbers(held, some.begin, j - whole, to, j / sum_lanes<T> * panel_rows<T>);
  });
}

/// The sums of one lane, R rows of panel b against C vectors of panel a, added to those of the
/// lanes before as fold() does, as soon as both are there: `sums` holds those that wait.
template <int R, int C, class T>
HWY_NOINLINE void add_lane(const T* a, const T* b, std::ptrdiff_t numbers, unsigned place,
                           T* sums) {
  const Tag<T> tag;
  V<T> sum[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) sum[r][c] = hn::Zero(tag);
  for (std::ptrdiff_t j = 0; j < numbers; ++j, a += panel_rows<T>, b += panel_rows<T>) {
    V<T> x[C];
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) x[c] = loaded(hn::Load(tag, a + c * lanes<T>));
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V<T> y = loaded(hn::Set(tag, b[r]));
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c) sum[r][c] = hn::MulAdd(x[c], y, sum[r][c]);
    }
  }
  constexpr std::ptrdiff_t size = R * C * lanes<T>;
  sums += std::popcount(place) * size;
  for (; place % 2 != 0; place /= 2) {
    sums -= size;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int c = 0; c < C; ++c)
        sum[r][c] = hn::Add(hn::Load(tag, sums + (r * C + c) * lanes<T>), sum[r][c]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
    for (int c = 0; c < C; ++c) hn::Store(sum[r][c], tag, sums + (r * C + c) * lanes<T>);
}

template <class T>
void panel_products(const T* a, int rows, const T* b, int others, std::ptrdiff_t n, double* out,
                    std::ptrdiff_t out_stride) {
  constexpr std::ptrdiff_t R = panel_rows<T>, half = R / 2, some = 4;
  constexpr int most = std::bit_width(static_cast<unsigned>(sum_lanes<T>)) - 1;  // not yet added
  const std::ptrdiff_t lane = lane_size<T>(n), numbers = lane / R - 1;
  // Of a panel against itself, what the second half of b makes of the first of a is known by then.
  const bool halved = a == b && half > some && others > half;
  const std::ptrdiff_t full = halved ? half : others;
  alignas(64) T sums[R / some][most * some * R];
  for (unsigned place = 0; place < sum_lanes<T>; ++place, a += lane, b += lane) {
    for (std::ptrdiff_t c = 0; c < full; c += some)
      add_lane<some, 2>(a, b + c, numbers, place, sums[c / some]);
    if (halved) add_lane<half, 1>(a + half, b + half, numbers, place, sums[half / some]);
  }
  for (std::ptrdiff_t c = 0; c < full; ++c)
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      out[out_stride * c + r] += double{sums[c / some][c % some * R + r]};
  for (std::ptrdiff_t c = full; c < others; ++c)
    for (std::ptrdiff_t r = half; r < rows; ++r)
      out[out_stride * c + r] += double{sums[half / some][(c - half) * half + r - half]};
}
#endif

/// sum_c += sum over R rows of a[c][r] g_r, of `n` numbers, a multiple of a vector.
template <int R, int K, bool Streamed, class Held, class T>
HWY_INLINE void add_rows(Held held, const typename Held::Type* const* g, const T* a,
                         std::ptrdiff_t a_stride, std::ptrdiff_t n, T* sum, std::ptrdiff_t stride) {
  const Tag<T> tag;
  V<T> factor[K][R];
#pragma GCC unroll 16
  for (int c = 0; c < K; ++c)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) factor[c][r] = hn::Set(tag, a[c * a_stride + r]);
  for (std::ptrdiff_t j = 0; j < n; j += lanes<T>) {
    if constexpr (Streamed) prefetch_line<R>(g, j);
    V<T> s[K];
#pragma GCC unroll 16
    for (int c = 0; c < K; ++c) s[c] = hn::LoadU(tag, sum + c * stride + j);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const V<T> x = load(held, tag, g[r] + j);
#pragma GCC unroll 16
      for (int c = 0; c < K; ++c) s[c] = hn::MulAdd(factor[c][r], x, s[c]);
    }
#pragma GCC unroll 16
    for (int c = 0; c < K; ++c) hn::StoreU(s[c], tag, sum + c * stride + j);
  }
}

template <int R, int K, bool Streamed, class Held, class T, class Between>
void add_rows_of(Held held, const typename Held::Type* const* g, const T* a,
                 std::ptrdiff_t a_stride, std::ptrdiff_t k, std::ptrdiff_t n, T* sum,
                 std::ptrdiff_t stride, const Between& between, std::ptrdiff_t group = 0) {
  for (; k >= K; k -= K, a += K * a_stride, sum += K * stride) {
    between(group++);
    add_rows<R, K, Streamed>(held, g, a, a_stride, n, sum, stride);
  }
  if constexpr (K > 1)
    if (k > 0)
      add_rows_of<R, K - 1, Streamed>(held, g, a, a_stride, k, n, sum, stride, between, group);
}

template <int R, int K, bool Streamed, class Held, class T>
void combine_rows(Held held, const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last,
                  const T* a, std::ptrdiff_t a_stride, std::ptrdiff_t k, T* sum,
                  std::ptrdiff_t stride) {
  static_assert(mfac_combine_rows % R == 0);
  const std::ptrdiff_t whole = rows.n / mfac_step * mfac_step, groups = (k + K - 1) / K;
  for (std::ptrdiff_t i = first; i < last; i += R) {
    SomeRows<R, Held> some(rows, i);
    add_rows_of<R, K, Streamed>(
        held, some.begin, a + i, a_stride, k, whole, sum, stride, [&](std::ptrdiff_t group) {
          if constexpr (!Streamed)
            prefetch_part<R, typename Held::Type>(rows, i + R, group, groups);
        });
    if (whole < rows.n) {
      alignas(64) typename Held::Type rest[R][mfac_step] = {};
      for (int r = 0; r < R; ++r) {
        std::copy_n(some.begin[r] + whole, rows.n - whole, rest[r]);
        some.begin[r] = rest[r];
      }
      add_rows_of<R, K, false>(held, some.begin, a + i, a_stride, k, mfac_step, sum + whole, stride,
                               [](std::ptrdiff_t) {});
    }
  }
}

/// sum_c += sum over rows of a[c][i] g_i for K of c and C vectors of numbers, whose sums stay in
/// registers meanwhile; from 0 if `fresh`. g: number of the first row.
template <int K, int C, class Held, class T>
HWY_INLINE void add_block(Held held, const typename Held::Type* g, std::ptrdiff_t g_stride,
                          std::ptrdiff_t rows, const T* a, std::ptrdiff_t a_stride, T* sum,
                          std::ptrdiff_t stride, bool fresh) {
  const Tag<T> tag;
  V<T> s[K][C];
#pragma GCC unroll 16
  for (int c = 0; c < K; ++c)
#pragma GCC unroll 16
    for (int q = 0; q < C; ++q)
      s[c][q] = fresh ? hn::Zero(tag) : hn::LoadU(tag, sum + c * stride + q * lanes<T>);
  for (std::ptrdiff_t i = 0; i < rows; ++i, g += g_stride) {
    V<T> x[C];
#pragma GCC unroll 16
    for (int q = 0; q < C; ++q) x[q] = loaded(load(held, tag, g + q * lanes<T>));
#pragma GCC unroll 16
    for (int c = 0; c < K; ++c) {
      const V<T> factor = hn::Set(tag, a[c * a_stride + i]);
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q) s[c][q] = hn::MulAdd(factor, x[q], s[c][q]);
    }
  }
#pragma GCC unroll 16
  for (int c = 0; c < K; ++c)
#pragma GCC unroll 16
    for (int q = 0; q < C; ++q) hn::StoreU(s[c][q], tag, sum + c * stride + q * lanes<T>);
}

template <int K, int C, class Held, class T, class Between>
HWY_INLINE void add_blocks(Held held, const typename Held::Type* g, std::ptrdiff_t g_stride,
                           std::ptrdiff_t rows, const T* a, std::ptrdiff_t a_stride,
                           std::ptrdiff_t k, T* sum, std::ptrdiff_t stride, bool fresh,
                           const Between& between) {
  std::ptrdiff_t c = 0;
  for (; c + K <= k; c += K) {
    between(c);
    add_block<K, C>(held, g, g_stride, rows, a + c * a_stride, a_stride, sum + c * stride, stride,
                    fresh);
  }
  if constexpr (K > 1)
    if (c < k)
      add_blocks<K - 1, C>(held, g, g_stride, rows, a + c * a_stride, a_stride, k - c,
                           sum + c * stride, stride, fresh,
                           [&](std::ptrdiff_t at) { between(c + at); });
}

/// Some columns of all rows after the other, against groups of factors.
template <int K, int C, class Held, class T>
void combine_columns(Held held, const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last,
                     const T* a, std::ptrdiff_t a_stride, std::ptrdiff_t k, T* sum,
                     std::ptrdiff_t stride, bool fresh) {
  using Type = typename Held::Type;
  const auto* const g = reinterpret_cast<const Type*>(rows.numbers) + first * rows.stride;
  const std::ptrdiff_t count = last - first, step = C * lanes<T>;
  const auto add = [&]<int Columns>(std::ptrdiff_t j) {
    // The same rows of the next columns, a part at a time.
    constexpr std::ptrdiff_t line = 64 / sizeof(Type);
    const std::ptrdiff_t next = j + Columns * lanes<T>;
    const std::ptrdiff_t end = std::min(next + step, rows.n + rows.ahead);
    add_blocks<K, Columns>(held, g + j, rows.stride, count, a + first, a_stride, k, sum + j, stride,
                           fresh, [&](std::ptrdiff_t c) {
                             const std::ptrdiff_t until = count * std::min(c + K, k) / k;
                             for (std::ptrdiff_t i = count * c / k; i < until; ++i)
                               for (std::ptrdiff_t at = next; at < end; at += line)
                                 __builtin_prefetch(g + i * rows.stride + at, 0, 2);
                           });
  };
  std::ptrdiff_t j = 0;
  for (; j + step <= rows.n; j += step) add.template operator()<C>(j);
  for (; j + mfac_step <= rows.n; j += mfac_step)
    add.template operator()<static_cast<int>(mfac_step / lanes<T>)>(j);
  if (j == rows.n) return;
  constexpr std::ptrdiff_t some = 64;
  for (std::ptrdiff_t begin = 0; begin < count; begin += some) {
    alignas(64) Type rest[some][mfac_step] = {};
    const std::ptrdiff_t here = std::min(some, count - begin);
    for (std::ptrdiff_t i = 0; i < here; ++i)
      std::copy_n(g + (begin + i) * rows.stride + j, rows.n - j, rest[i]);
    add_blocks<K, static_cast<int>(mfac_step / lanes<T>)>(
        held, rest[0], mfac_step, here, a + first + begin, a_stride, k, sum + j, stride,
        fresh && begin == 0, [](std::ptrdiff_t) {});
  }
}

/// The same where a copy of some rows of some columns, as float unless more digits are held and
/// summed, is worth its while: it stays in the caches with the factors, wherever rows begin.
template <int K, int C, class Held, class T>
void combine_copied(Held held, const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last,
                    const T* a, std::ptrdiff_t a_stride, std::ptrdiff_t k, T* sum,
                    std::ptrdiff_t stride, bool fresh) {
  using Type = typename Held::Type;
  constexpr std::ptrdiff_t some = 64, step = C * lanes<T>;
  using Copy = std::conditional_t<sizeof(T) == 8 && sizeof(Type) == 8, double, float>;
  constexpr std::ptrdiff_t width = 384 / static_cast<std::ptrdiff_t>(sizeof(Copy));
  static_assert(width % mfac_step == 0 && mfac_step % step == 0);
  alignas(64) Copy copy[some][width];
  for (std::ptrdiff_t i = first; i < last; i += some) {
    const std::ptrdiff_t count = std::min(some, last - i);
    for (std::ptrdiff_t begin = 0; begin < rows.n; begin += width) {
      const Type* const g = reinterpret_cast<const Type*>(rows.numbers) + i * rows.stride + begin;
      const std::ptrdiff_t n = std::min(width, rows.n - begin);
      const std::ptrdiff_t end = (n + mfac_step - 1) / mfac_step * mfac_step;
      for (std::ptrdiff_t r = 0; r < count; ++r)
        by_vectors(g + r * rows.stride, n, lanes<Copy>, [&](const Type* from, std::ptrdiff_t j) {
          hn::Store(load(held, Tag<Copy>(), from), Tag<Copy>(), copy[r] + j);
        });
      // The same rows of the next columns, a part at a time.
      constexpr std::ptrdiff_t line = 64 / sizeof(Type);
      const std::ptrdiff_t parts = end / step * k;
      const std::ptrdiff_t ahead = std::min(2 * width, rows.n + rows.ahead - begin);
      for (std::ptrdiff_t j = 0; j < end; j += step)
        add_blocks<K, C>(Packed<Copy>(), copy[0] + j, width, count, a + i, a_stride, k,
                         sum + begin + j, stride, fresh && i == first, [&](std::ptrdiff_t c) {
                           const std::ptrdiff_t part = j / step * k + c;
                           const std::ptrdiff_t until = count * std::min(part + K, parts) / parts;
                           for (std::ptrdiff_t r = count * part / parts; r < until; ++r)
                             for (std::ptrdiff_t at = width; at < ahead; at += line)
                               __builtin_prefetch(g + r * rows.stride + at, 0, 2);
                         });
    }
  }
}

#if HWY_MAX_BYTES == 32
/// y_c = scale x_c + sum over all rows of a[K i + c] g_i for K vectors and as many numbers as a sum
/// has, whose sums stay in registers: in double to the end, in float for mfac_float_rows.
template <int K, class T, class Y, class Copy>
HWY_NOINLINE void combine_block(const Copy* g, std::ptrdiff_t m, const T* a, const double* inverses,
                                double scale, const Y* x, std::ptrdiff_t x_stride, Y* y,
                                std::ptrdiff_t y_stride) {
  constexpr std::ptrdiff_t step = sum_lanes<T>;
  constexpr int C = static_cast<int>(step / lanes<T>);
  constexpr int D = static_cast<int>(step / lanes<double>);  // vectors of double of a sum
  const Tag<T> tag;
  const Tag<double> wide;
  const hn::Rebind<Y, Tag<double>> result;
  V<T> s[K][C];
  const auto add = [&](std::ptrdiff_t rows) {
#pragma GCC unroll 16
    for (int c = 0; c < K; ++c)
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q) s[c][q] = hn::Zero(tag);
    for (; rows > 0; --rows, g += step, a += K) {
      V<T> v[C];
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q) v[q] = loaded(load(Packed<Copy>(), tag, g + q * lanes<T>));
#pragma GCC unroll 16
      for (int c = 0; c < K; ++c) {
        const V<T> factor = loaded(hn::Set(tag, a[c]));
#pragma GCC unroll 16
        for (int q = 0; q < C; ++q) s[c][q] = hn::MulAdd(factor, v[q], s[c][q]);
      }
    }
  };
  alignas(64) double totals[K][step];
  const auto total = [&](int c, int q, bool first) {
    if constexpr (sizeof(T) == 8) {
      return s[c][q];
    } else {
      const V<float> both = s[c][q / 2];
      const auto half = q % 2 == 0 ? hn::LowerHalf(both) : hn::UpperHalf(hn::Half<Tag<T>>(), both);
      return hn::MulAdd(hn::Set(wide, inverses[c]), hn::PromoteTo(wide, half),
                        first ? hn::Zero(wide) : hn::Load(wide, totals[c] + q * lanes<double>));
    }
  };
  const auto by_doubles = [&](const auto& body) {
#pragma GCC unroll 16
    for (int c = 0; c < K; ++c)
#pragma GCC unroll 16
      for (int q = 0; q < D; ++q) body(c, q);
  };
  const auto results = [&](bool first) {
    const auto factor = hn::Set(wide, scale);
    const auto store = [&](int c, int q, V<double> sum) {
      Y* const to = y + c * y_stride + q * lanes<double>;
      if constexpr (sizeof(Y) == 4)
        hn::StoreU(hn::DemoteTo(result, sum), result, to);
      else
        hn::StoreU(sum, result, to);
    };
    if (x == nullptr) return by_doubles([&](int c, int q) { store(c, q, total(c, q, first)); });
    by_doubles([&](int c, int q) {
      const V<double> addend = load(Packed<Y>(), wide, x + c * x_stride + q * lanes<double>);
      store(c, q, hn::MulAdd(factor, addend, total(c, q, first)));
    });
  };
  constexpr std::ptrdiff_t most = mfac_float_rows;
  if (sizeof(T) == 8 || m <= most) {
    add(m);
    return results(true);
  }
  for (std::ptrdiff_t i = 0; i + most < m; i += most) {
    add(most);
    by_doubles(
        [&](int c, int q) { hn::Store(total(c, q, i == 0), wide, totals[c] + q * lanes<double>); });
  }
  add(m - (m - 1) / most * most);
  results(false);
}

template <class T, class Y>
void combine_packed(const Rows& rows, const T* factors, const double* inverses, std::ptrdiff_t k,
                    T* room, double scale, const Y* x, std::ptrdiff_t x_stride, Y* y,
                    std::ptrdiff_t y_stride) {
  constexpr std::ptrdiff_t step = sum_lanes<T>, width = mfac_copied;
  by_storage(rows.storage, [&](auto held) {
    using Type = typename decltype(held)::Type;
    // As float unless more digits are held.
    using Copy = std::conditional_t<sizeof(T) == 8 && sizeof(Type) == 8, double, float>;
    auto* const copy = reinterpret_cast<Copy*>(room);
    const std::ptrdiff_t groups = mfac_groups(k);
    for (std::ptrdiff_t begin = 0; begin < rows.n; begin += width) {
      const auto* const g = reinterpret_cast<const Type*>(rows.numbers) + begin;
      const std::ptrdiff_t n = std::min(width, rows.n - begin);
      for (std::ptrdiff_t i = 0; i < rows.m; ++i)
        by_vectors(g + i * rows.stride, n, step, [&](const Type* from, std::ptrdiff_t j) {
#pragma GCC unroll 16
          for (std::ptrdiff_t p = 0; p < step; p += lanes<Copy>)
            hn::Store(load(held, Tag<Copy>(), from + p), Tag<Copy>(),
                      copy + j * rows.m + i * step + p);
        });
      // The same rows of the next columns, and vectors, a part at a time.
      constexpr std::ptrdiff_t line = 64 / sizeof(Type), y_line = 64 / sizeof(Y);
      const std::ptrdiff_t parts = (n + step - 1) / step * groups;
      const std::ptrdiff_t ahead = std::min(n + width, rows.n + rows.ahead - begin);
      std::ptrdiff_t part = 0;
      for (std::ptrdiff_t j = 0; j < n; j += step) {
        const T* a = factors;
        for (std::ptrdiff_t group = 0; group < groups; ++group, ++part) {
          for (std::ptrdiff_t r = rows.m * part / parts; r < rows.m * (part + 1) / parts; ++r)
            for (std::ptrdiff_t at = n; at < ahead; at += line)
              __builtin_prefetch(g + r * rows.stride + at, 0, 2);
          if (x != nullptr)
            for (std::ptrdiff_t c = k * part / parts; c < k * (part + 1) / parts; ++c)
              for (std::ptrdiff_t at = n; at < n + width; at += y_line)
                __builtin_prefetch(x + c * x_stride + begin + at, 0, 2);
          const std::ptrdiff_t c = k * group / groups;
          const Y* addend = x == nullptr ? nullptr : x + c * x_stride + begin + j;
          std::ptrdiff_t addend_stride = x_stride;
          const auto add = [&](auto K) {
            alignas(64) Y rest[K][step];
            if (x != nullptr && j + step > n) {
              for (int i = 0; i < K; ++i)
                std::fill(std::copy_n(addend + i * x_stride, n - j, rest[i]), rest[i] + step, Y{0});
              addend = rest[0];
              addend_stride = step;
            }
            combine_block<K>(copy + j * rows.m, rows.m, a, inverses + c, scale, addend,
                             addend_stride, y + c * y_stride + begin + j, y_stride);
            a += K * rows.m;
          };
          switch (k * (group + 1) / groups - c) {
            case 3:
              add(std::integral_constant<int, 3>());
              break;
            case 4:
              add(std::integral_constant<int, 4>());
              break;
            case 5:
              add(std::integral_constant<int, 5>());
              break;
            case 6:
              add(std::integral_constant<int, 6>());
              break;
          }
        }
      }
    }
  });
}
#endif

template <class T>
void combine(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const T* a,
             std::ptrdiff_t a_stride, std::ptrdiff_t k, T* sum, std::ptrdiff_t stride, bool fresh) {
  if (fresh && k <= most_streamed)
    for (std::ptrdiff_t c = 0; c < k; ++c)
      std::fill_n(sum + c * stride, (rows.n + mfac_step - 1) / mfac_step * mfac_step, T{0});
  by_storage(rows.storage, [&](auto held) {
    constexpr int R = many_registers ? 8 : 4;
    if (k == 1)
      combine_rows<8, 1, true>(held, rows, first, last, a, a_stride, k, sum, stride);
    else if (k <= most_streamed)
      combine_rows<R, 3, true>(held, rows, first, last, a, a_stride, k, sum, stride);
    else if constexpr (many_registers)
      combine_columns<4, 6>(held, rows, first, last, a, a_stride, k, sum, stride, fresh);
    else
      combine_copied<4, 2>(held, rows, first, last, a, a_stride, k, sum, stride, fresh);
  });
}

/// Forward substitution for C vectors of columns, 4 rows at a time: what comes before them in
/// registers, then the block on the diagonal.
template <int C, class Held, class Between>
HWY_INLINE void solve_block(Held held, const typename Held::Type* g, std::ptrdiff_t g_stride,
                            std::ptrdiff_t m, const double* factor, double* w, double* squares,
                            const Between& between) {
  constexpr int R = mfac_solve_rows;
  constexpr std::ptrdiff_t stride = mfac_solve_columns;
  const Tag<double> tag;
  for (std::ptrdiff_t i = 0; i < m; i += R) {
    between(i);
    V<double> s[R][C];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q)
        s[r][q] = load(held, tag, g + std::min(i + r, m - 1) * g_stride + q * lanes<double>);
    for (std::ptrdiff_t k = 0; k < i; ++k, factor += R) {
      V<double> x[C];
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q) x[q] = hn::LoadU(tag, w + k * stride + q * lanes<double>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const V<double> f = hn::Set(tag, factor[r]);
#pragma GCC unroll 16
        for (int q = 0; q < C; ++q) s[r][q] = hn::NegMulAdd(f, x[q], s[r][q]);
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int t = 0; t < r; ++t) {
        const V<double> f = hn::Set(tag, factor[R * r + t]);
#pragma GCC unroll 16
        for (int q = 0; q < C; ++q) s[r][q] = hn::NegMulAdd(f, s[t][q], s[r][q]);
      }
      const V<double> f = hn::Set(tag, factor[R * r + r]);
#pragma GCC unroll 16
      for (int q = 0; q < C; ++q) s[r][q] = hn::Mul(f, s[r][q]);
    }
    factor += R * R;
#pragma GCC unroll 16
    for (int q = 0; q < C; ++q) {
      V<double> square = hn::LoadU(tag, squares + q * lanes<double>);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        hn::StoreU(s[r][q], tag, w + (i + r) * stride + q * lanes<double>);
        square = hn::MulAdd(s[r][q], s[r][q], square);
      }
      hn::StoreU(square, tag, squares + q * lanes<double>);
    }
  }
}

template <class T>
double convert(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale, T* to);

void solve(const Rows& rows, const double* factor, double* w, double* squares) {
  constexpr int C = many_registers ? 6 : 2;
  constexpr std::ptrdiff_t columns = mfac_solve_columns, step = C * lanes<double>;
  static_assert(columns % step == 0 && columns % mfac_step == 0);
  std::fill_n(squares, columns, 0.0);
  if (rows.n == columns) {
    by_storage(rows.storage, [&](auto held) {
      using Type = typename decltype(held)::Type;
      constexpr std::ptrdiff_t line = 64 / sizeof(Type);
      const auto* const g = reinterpret_cast<const Type*>(rows.numbers);
      const std::ptrdiff_t end = columns + std::min(columns, rows.ahead);
      for (std::ptrdiff_t j = 0; j < columns; j += step)
        solve_block<C>(held, g + j, rows.stride, rows.m, factor, w + j, squares + j,
                       [&](std::ptrdiff_t i) {  // the same rows of the next columns
                         if (j == 0)
                           for (std::ptrdiff_t r = i; r < std::min(i + 4, rows.m); ++r)
                             for (std::ptrdiff_t at = columns; at < end; at += line)
                               __builtin_prefetch(g + r * rows.stride + at, 0, 2);
                       });
    });
    return;
  }
  // Fewer columns are copied to where the results will be.
  for (std::ptrdiff_t i = 0; i < rows.m; ++i)
    convert(rows.storage, rows.numbers + i * rows.stride * item_size(rows.storage), rows.n, 1.0,
            w + i * columns);
  constexpr int vectors = static_cast<int>(8 / lanes<double>);
  for (std::ptrdiff_t j = 0; j < rows.n; j += 8)
    solve_block<vectors>(Float64(), w + j, columns, rows.m, factor, w + j, squares + j,
                         [](std::ptrdiff_t) {});
}

template <class T>
double convert(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale, T* to) {
  double result = 0;
  by_storage(storage, [&](auto held) {
    using Held = decltype(held);
    const auto* const numbers = reinterpret_cast<const typename Held::Type*>(from);
    if constexpr (std::is_same_v<T, float> && std::is_same_v<Held, Float64>) {
      // Scaled before it is rounded: it may be out of the range of float.
      const auto factor = hn::Set(Tag<double>(), scale);
      const hn::Rebind<float, Tag<double>> narrow;
      by_vectors(numbers, n, lanes<double>, [&](const double* x, std::ptrdiff_t j) {
        hn::StoreU(hn::DemoteTo(narrow, hn::Mul(factor, load(held, Tag<double>(), x))), narrow,
                   to + j);
      });
    } else {
      const V<T> factor = hn::Set(Tag<T>(), static_cast<T>(scale));
      const hn::RebindToSigned<Tag<T>> bits;
      auto most = hn::Zero(bits);  // magnitudes are in order as integers, NaN last
      by_vectors(numbers, n, lanes<T>, [&](const auto* x, std::ptrdiff_t j) {
        const V<T> v = hn::Mul(factor, load(held, Tag<T>(), x));
        if constexpr (std::is_same_v<T, float>) most = hn::Max(most, hn::BitCast(bits, hn::Abs(v)));
        hn::StoreU(v, Tag<T>(), to + j);
      });
      if constexpr (std::is_same_v<T, float>)
        result = hn::GetLane(hn::BitCast(Tag<T>(), hn::MaxOfLanes(bits, most)));
    }
  });
  return result;
}

template <class T, class Held>
double largest_of(Held held, const typename Held::Type* numbers, std::ptrdiff_t n) {
  // Magnitudes are in order as integers, NaN last.
  const Tag<T> tag;
  const hn::RebindToSigned<Tag<T>> bits;
  auto most = hn::Zero(bits);
  by_vectors(numbers, n, lanes<T>, [&](const auto* x, std::ptrdiff_t) {
    most = hn::Max(most, hn::BitCast(bits, hn::Abs(load(held, tag, x))));
  });
  return hn::GetLane(hn::BitCast(tag, hn::MaxOfLanes(bits, most)));
}

double largest(Storage storage, const std::byte* from, std::ptrdiff_t n) {
  double result = 0;
  by_storage(storage, [&](auto held) {
    using Held = decltype(held);
    using T = std::conditional_t<std::is_same_v<Held, Float64>, double, float>;
    result = largest_of<T>(held, reinterpret_cast<const typename Held::Type*>(from), n);
  });
  return result;
}

double square(Storage storage, const std::byte* from, std::ptrdiff_t n) {
  alignas(64) double sums[8] = {};
  by_storage(storage, [&](auto held) {
    const auto* const numbers = reinterpret_cast<const typename decltype(held)::Type*>(from);
    constexpr int parts = static_cast<int>(8 / lanes<double>);
    V<double> sum[parts];
    for (int p = 0; p < parts; ++p) sum[p] = hn::Zero(Tag<double>());
    by_vectors(numbers, n, 8, [&](const auto* x, std::ptrdiff_t) {
      for (int p = 0; p < parts; ++p) {
        const V<double> v = load(held, Tag<double>(), x + p * lanes<double>);
        sum[p] = hn::MulAdd(v, v, sum[p]);
      }
    });
    for (int p = 0; p < parts; ++p) hn::Store(sum[p], Tag<double>(), sums + p * lanes<double>);
  });
  return fold<double, 8>(sums);
}

template <class T>
void finish(const double* sum, std::ptrdiff_t n, double scale, const T* x, T* y, bool stream) {
  const Tag<double> tag;
  const hn::Rebind<T, Tag<double>> result;
  const auto factor = hn::Set(tag, scale);
  const auto value = [&](const double* from, const T* addend) {
    const auto v = hn::LoadU(tag, from);
    if constexpr (std::is_same_v<T, float>)
      return hn::DemoteTo(
          result, addend == nullptr
                      ? v
                      : hn::MulAdd(factor, hn::PromoteTo(tag, hn::LoadU(result, addend)), v));
    else
      return addend == nullptr ? v : hn::MulAdd(factor, hn::LoadU(tag, addend), v);
  };
  const auto one = [&](std::ptrdiff_t j) { return value(sum + j, x == nullptr ? x : x + j); };
  // A few numbers, through copies of a whole vector.
  const auto few = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    if (begin == end) return;
    alignas(64) double sums[mfac_step] = {};
    alignas(64) T addends[mfac_step] = {}, results[mfac_step];
    std::copy(sum + begin, sum + end, sums);
    if (x != nullptr) std::copy(x + begin, x + end, addends);
    for (std::ptrdiff_t j = 0; j < end - begin; j += lanes<double>)
      hn::Store(value(sums + j, x == nullptr ? nullptr : addends + j), result, results + j);
    std::copy_n(results, end - begin, y + begin);
  };
  std::ptrdiff_t j = 0;
  if (stream) {
    constexpr auto vector = static_cast<std::uintptr_t>(lanes<double>) * sizeof(T);
    const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(y) % vector;
    j = std::min(n, static_cast<std::ptrdiff_t>((vector - past) % vector / sizeof(T)));
    few(0, j);
    for (; j + lanes<double> <= n; j += lanes<double>) hn::Stream(one(j), result, y + j);
  } else {
    for (; j + lanes<double> <= n; j += lanes<double>) hn::StoreU(one(j), result, y + j);
  }
  few(j, n);
}

template <class T>
void copy(const T* from, std::ptrdiff_t n, T* to, bool stream) {
  constexpr std::ptrdiff_t size = lanes<T>;
  const Tag<T> tag;
  std::ptrdiff_t j = 0;
  if (stream) {
    const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(to) % (size * sizeof(T));
    j = std::min(
        n, static_cast<std::ptrdiff_t>((size * sizeof(T) - past) % (size * sizeof(T)) / sizeof(T)));
    std::copy_n(from, j, to);
    for (; j + size <= n; j += size) hn::Stream(hn::LoadU(tag, from + j), tag, to + j);
  }
  std::copy(from + j, from + n, to + j);
}

void add_scaled(const float* sum, std::ptrdiff_t n, double scale, double* total) {
  const Tag<double> tag;
  const auto factor = hn::Set(tag, scale);
  for (std::ptrdiff_t j = 0; j < n; j += lanes<double>)
    hn::StoreU(hn::MulAdd(factor, load(Float32(), tag, sum + j), hn::LoadU(tag, total + j)), tag,
               total + j);
}

// HWY_EXPORT takes no templates.
void dots_double(const double* const* a, int rows, const double* b, std::ptrdiff_t stride,
                 std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                 Ahead* ahead) {
  dots<double>(a, rows, b, stride, k, n, out, out_stride, ahead);
}
void dots_mixed(const float* const* a, int rows, const float* b, std::ptrdiff_t stride,
                std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                Ahead* ahead) {
  dots<double>(a, rows, b, stride, k, n, out, out_stride, ahead);
}
void dots_float(const float* const* a, int rows, const float* b, std::ptrdiff_t stride,
                std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                Ahead* ahead) {
  dots<float>(a, rows, b, stride, k, n, out, out_stride, ahead);
}
void project_double(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const double* b,
                    std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  project(rows, first, last, b, stride, k, out, ahead);
}
void project_float(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const float* b,
                   std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  project(rows, first, last, b, stride, k, out, ahead);
}
void combine_double(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const double* a,
                    std::ptrdiff_t a_stride, std::ptrdiff_t k, double* sum, std::ptrdiff_t stride,
                    bool fresh) {
  combine(rows, first, last, a, a_stride, k, sum, stride, fresh);
}
void combine_float(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const float* a,
                   std::ptrdiff_t a_stride, std::ptrdiff_t k, float* sum, std::ptrdiff_t stride,
                   bool fresh) {
  combine(rows, first, last, a, a_stride, k, sum, stride, fresh);
}
double convert_double(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale,
                      double* to) {
  return convert(storage, from, n, scale, to);
}
double convert_float(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale,
                     float* to) {
  return convert(storage, from, n, scale, to);
}
void finish_double(const double* sum, std::ptrdiff_t n, double scale, const double* x, double* y,
                   bool stream) {
  finish(sum, n, scale, x, y, stream);
}
void finish_float(const double* sum, std::ptrdiff_t n, double scale, const float* x, float* y,
                  bool stream) {
  finish(sum, n, scale, x, y, stream);
}

void copy_double(const double* from, std::ptrdiff_t n, double* to, bool stream) {
  copy(from, n, to, stream);
}
void copy_float(const float* from, std::ptrdiff_t n, float* to, bool stream) {
  copy(from, n, to, stream);
}
#if HWY_MAX_BYTES == 32
std::ptrdiff_t panel_rows_double() { return panel_rows<double>; }
std::ptrdiff_t panel_rows_float() { return panel_rows<float>; }
void pack_double(const Rows& rows, std::ptrdiff_t first, double* panel) {
  pack(rows, first, panel);
}
void pack_float(const Rows& rows, std::ptrdiff_t first, float* panel) { pack(rows, first, panel); }
void panel_products_double(const double* a, int rows, const double* b, int others, std::ptrdiff_t n,
                           double* out, std::ptrdiff_t out_stride) {
  panel_products(a, rows, b, others, n, out, out_stride);
}
void panel_products_float(const float* a, int rows, const float* b, int others, std::ptrdiff_t n,
                          double* out, std::ptrdiff_t out_stride) {
  panel_products(a, rows, b, others, n, out, out_stride);
}
void combine_packed_double_double(const Rows& rows, const double* factors, const double* inverses,
                                  std::ptrdiff_t k, double* copy, double scale, const double* x,
                                  std::ptrdiff_t x_stride, double* y, std::ptrdiff_t y_stride) {
  combine_packed(rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
void combine_packed_double_float(const Rows& rows, const double* factors, const double* inverses,
                                 std::ptrdiff_t k, double* copy, double scale, const float* x,
                                 std::ptrdiff_t x_stride, float* y, std::ptrdiff_t y_stride) {
  combine_packed(rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
void combine_packed_float_double(const Rows& rows, const float* factors, const double* inverses,
                                 std::ptrdiff_t k, float* copy, double scale, const double* x,
                                 std::ptrdiff_t x_stride, double* y, std::ptrdiff_t y_stride) {
  combine_packed(rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
void combine_packed_float_float(const Rows& rows, const float* factors, const double* inverses,
                                std::ptrdiff_t k, float* copy, double scale, const float* x,
                                std::ptrdiff_t x_stride, float* y, std::ptrdiff_t y_stride) {
  combine_packed(rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
#else
std::ptrdiff_t panel_rows_double() { return 0; }
std::ptrdiff_t panel_rows_float() { return 0; }
void pack_double(const Rows&, std::ptrdiff_t, double*) {}
void pack_float(const Rows&, std::ptrdiff_t, float*) {}
void panel_products_double(const double*, int, const double*, int, std::ptrdiff_t, double*,
                           std::ptrdiff_t) {}
void combine_packed_double_double(const Rows&, const double*, const double*, std::ptrdiff_t,
                                  double*, double, const double*, std::ptrdiff_t, double*,
                                  std::ptrdiff_t) {}
void combine_packed_double_float(const Rows&, const double*, const double*, std::ptrdiff_t, double*,
                                 double, const float*, std::ptrdiff_t, float*, std::ptrdiff_t) {}
void combine_packed_float_double(const Rows&, const float*, const double*, std::ptrdiff_t, float*,
                                 double, const double*, std::ptrdiff_t, double*, std::ptrdiff_t) {}
void combine_packed_float_float(const Rows&, const float*, const double*, std::ptrdiff_t, float*,
                                double, const float*, std::ptrdiff_t, float*, std::ptrdiff_t) {}
void panel_products_float(const float*, int, const float*, int, std::ptrdiff_t, double*,
                          std::ptrdiff_t) {}
#endif

}  // namespace halfulp::mfac::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::mfac::detail {

HWY_EXPORT(dots_double);
HWY_EXPORT(dots_mixed);
HWY_EXPORT(dots_float);
HWY_EXPORT(project_double);
HWY_EXPORT(project_float);
HWY_EXPORT(panel_rows_double);
HWY_EXPORT(panel_rows_float);
HWY_EXPORT(pack_double);
HWY_EXPORT(pack_float);
HWY_EXPORT(panel_products_double);
HWY_EXPORT(panel_products_float);
HWY_EXPORT(combine_packed_double_double);
HWY_EXPORT(combine_packed_double_float);
HWY_EXPORT(combine_packed_float_double);
HWY_EXPORT(combine_packed_float_float);
HWY_EXPORT(copy_double);
HWY_EXPORT(copy_float);
HWY_EXPORT(combine_double);
HWY_EXPORT(combine_float);
HWY_EXPORT(convert_double);
HWY_EXPORT(convert_float);
HWY_EXPORT(finish_double);
HWY_EXPORT(finish_float);
HWY_EXPORT(solve);
HWY_EXPORT(largest);
HWY_EXPORT(square);
HWY_EXPORT(add_scaled);

template <>
void mfac_dots<double>(const double* const* a, int rows, const double* b, std::ptrdiff_t stride,
                       std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                       Ahead* ahead) {
  HWY_DYNAMIC_DISPATCH(dots_double)(a, rows, b, stride, k, n, out, out_stride, ahead);
}
template <>
void mfac_dots<double>(const float* const* a, int rows, const float* b, std::ptrdiff_t stride,
                       std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                       Ahead* ahead) {
  HWY_DYNAMIC_DISPATCH(dots_mixed)(a, rows, b, stride, k, n, out, out_stride, ahead);
}
template <>
void mfac_dots<float>(const float* const* a, int rows, const float* b, std::ptrdiff_t stride,
                      std::ptrdiff_t k, std::ptrdiff_t n, double* out, std::ptrdiff_t out_stride,
                      Ahead* ahead) {
  HWY_DYNAMIC_DISPATCH(dots_float)(a, rows, b, stride, k, n, out, out_stride, ahead);
}
template <>
void mfac_project(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const double* b,
                  std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  HWY_DYNAMIC_DISPATCH(project_double)(rows, first, last, b, stride, k, out, ahead);
}
template <>
void mfac_project(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const float* b,
                  std::ptrdiff_t stride, std::ptrdiff_t k, double* out, Ahead* ahead) {
  HWY_DYNAMIC_DISPATCH(project_float)(rows, first, last, b, stride, k, out, ahead);
}
template <>
std::ptrdiff_t mfac_panel_rows<double>() {
  return HWY_DYNAMIC_DISPATCH(panel_rows_double)();
}
template <>
void mfac_pack(const Rows& rows, std::ptrdiff_t first, double* panel) {
  HWY_DYNAMIC_DISPATCH(pack_double)(rows, first, panel);
}
template <>
void mfac_panel_products(const double* a, int rows, const double* b, int others, std::ptrdiff_t n,
                         double* out, std::ptrdiff_t out_stride) {
  HWY_DYNAMIC_DISPATCH(panel_products_double)(a, rows, b, others, n, out, out_stride);
}
template <>
std::ptrdiff_t mfac_panel_rows<float>() {
  return HWY_DYNAMIC_DISPATCH(panel_rows_float)();
}
template <>
void mfac_pack(const Rows& rows, std::ptrdiff_t first, float* panel) {
  HWY_DYNAMIC_DISPATCH(pack_float)(rows, first, panel);
}
template <>
void mfac_panel_products(const float* a, int rows, const float* b, int others, std::ptrdiff_t n,
                         double* out, std::ptrdiff_t out_stride) {
  HWY_DYNAMIC_DISPATCH(panel_products_float)(a, rows, b, others, n, out, out_stride);
}
template <>
void mfac_combine_packed(const Rows& rows, const double* factors, const double* inverses,
                         std::ptrdiff_t k, double* copy, double scale, const double* x,
                         std::ptrdiff_t x_stride, double* y, std::ptrdiff_t y_stride) {
  HWY_DYNAMIC_DISPATCH(combine_packed_double_double)
  (rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
template <>
void mfac_combine_packed(const Rows& rows, const double* factors, const double* inverses,
                         std::ptrdiff_t k, double* copy, double scale, const float* x,
                         std::ptrdiff_t x_stride, float* y, std::ptrdiff_t y_stride) {
  HWY_DYNAMIC_DISPATCH(combine_packed_double_float)
  (rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
template <>
void mfac_combine_packed(const Rows& rows, const float* factors, const double* inverses,
                         std::ptrdiff_t k, float* copy, double scale, const double* x,
                         std::ptrdiff_t x_stride, double* y, std::ptrdiff_t y_stride) {
  HWY_DYNAMIC_DISPATCH(combine_packed_float_double)
  (rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
template <>
void mfac_combine_packed(const Rows& rows, const float* factors, const double* inverses,
                         std::ptrdiff_t k, float* copy, double scale, const float* x,
                         std::ptrdiff_t x_stride, float* y, std::ptrdiff_t y_stride) {
  HWY_DYNAMIC_DISPATCH(combine_packed_float_float)
  (rows, factors, inverses, k, copy, scale, x, x_stride, y, y_stride);
}
template <>
void mfac_copy(const double* from, std::ptrdiff_t n, double* to, bool stream) {
  HWY_DYNAMIC_DISPATCH(copy_double)(from, n, to, stream);
}
template <>
void mfac_copy(const float* from, std::ptrdiff_t n, float* to, bool stream) {
  HWY_DYNAMIC_DISPATCH(copy_float)(from, n, to, stream);
}
template <>
void mfac_combine(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const double* a,
                  std::ptrdiff_t a_stride, std::ptrdiff_t k, double* sum, std::ptrdiff_t stride,
                  bool fresh) {
  HWY_DYNAMIC_DISPATCH(combine_double)(rows, first, last, a, a_stride, k, sum, stride, fresh);
}
template <>
void mfac_combine(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, const float* a,
                  std::ptrdiff_t a_stride, std::ptrdiff_t k, float* sum, std::ptrdiff_t stride,
                  bool fresh) {
  HWY_DYNAMIC_DISPATCH(combine_float)(rows, first, last, a, a_stride, k, sum, stride, fresh);
}
template <>
double mfac_convert(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale,
                    double* to) {
  return HWY_DYNAMIC_DISPATCH(convert_double)(storage, from, n, scale, to);
}
template <>
double mfac_convert(Storage storage, const std::byte* from, std::ptrdiff_t n, double scale,
                    float* to) {
  return HWY_DYNAMIC_DISPATCH(convert_float)(storage, from, n, scale, to);
}
template <>
void mfac_finish(const double* sum, std::ptrdiff_t n, double scale, const double* x, double* y,
                 bool stream) {
  HWY_DYNAMIC_DISPATCH(finish_double)(sum, n, scale, x, y, stream);
}
template <>
void mfac_finish(const double* sum, std::ptrdiff_t n, double scale, const float* x, float* y,
                 bool stream) {
  HWY_DYNAMIC_DISPATCH(finish_float)(sum, n, scale, x, y, stream);
}
void mfac_prefetch(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t last, std::ptrdiff_t from,
                   std::ptrdiff_t to) {
  const std::ptrdiff_t size = item_size(rows.storage);
  for (std::ptrdiff_t i = first; i < last; ++i)
    for (std::ptrdiff_t j = from; j < to; j += 64 / size)
      __builtin_prefetch(rows.numbers + (i * rows.stride + j) * size, 0, 2);  // second cache
}
void mfac_solve(const Rows& rows, const double* factor, double* w, double* squares) {
  HWY_DYNAMIC_DISPATCH(solve)(rows, factor, w, squares);
}
std::vector<double> mfac_solve_factor(const double* factor, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t R = mfac_solve_rows;
  std::vector<double> out;
  const auto element = [&](std::ptrdiff_t i, std::ptrdiff_t j) {
    if (i >= n || j >= n || j > i) return 0.0;
    return i == j ? 1 / factor[i + i * n] : factor[i + j * n];
  };
  for (std::ptrdiff_t i = 0; i < n; i += R) {
    for (std::ptrdiff_t j = 0; j < i; ++j)
      for (std::ptrdiff_t r = 0; r < R; ++r) out.push_back(element(i + r, j));
    for (std::ptrdiff_t r = 0; r < R; ++r)
      for (std::ptrdiff_t j = 0; j < R; ++j) out.push_back(element(i + r, i + j));
  }
  return out;
}
double mfac_largest(Storage storage, const std::byte* from, std::ptrdiff_t n) {
  return HWY_DYNAMIC_DISPATCH(largest)(storage, from, n);
}
double mfac_square(Storage storage, const std::byte* from, std::ptrdiff_t n) {
  return HWY_DYNAMIC_DISPATCH(square)(storage, from, n);
}
void mfac_add_scaled(const float* sum, std::ptrdiff_t n, double scale, double* total) {
  HWY_DYNAMIC_DISPATCH(add_scaled)(sum, n, scale, total);
}

}  // namespace halfulp::mfac::detail
#endif  // HWY_ONCE
