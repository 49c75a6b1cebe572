#include "detail/vmf_simd.hpp"

#include <algorithm>
#include <bit>
#include <limits>

#include "halfulp/kernel/dd.hpp"
#include "halfulp/kernel/vmf_tables.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "vmf_simd.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include "detail/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

/// W/2 times the sum of the series, for each point with the terms that its own W asks for. Vectors
/// together: the chains of additions are long.
constexpr int together = 4;
HWY_INLINE void add_series(int terms, int least, const V* t, const V* w, V* sum) {
  const D d;
  V s[together], t2[together];
  for (int i = 0; i < together; ++i) {
    s[i] = hn::Zero(d);
    t2[i] = hn::Mul(t[i], t[i]);
  }
  for (int k = terms; k >= 1; --k) {
    const int row = k * (k + 1) / 2 - 1;
    V p[together];
    for (V& each : p) each = hn::Set(d, kernel::vmf_kappa_series(row + k));
    for (int j = k - 1; j >= 0; --j) {
      const V next = hn::Set(d, kernel::vmf_kappa_series(row + j));
      for (int i = 0; i < together; ++i) p[i] = hn::MulAdd(p[i], t2[i], next);
    }
    if (k > least) {
      const V limit = hn::Set(d, kernel::vmf_kappa_limit(k - 1));
      for (int i = 0; i < together; ++i) p[i] = hn::IfThenElseZero(hn::Gt(w[i], limit), p[i]);
    }
    for (int i = 0; i < together; ++i) s[i] = hn::Mul(hn::Add(s[i], p[i]), w[i]);
  }
  for (int i = 0; i < together; ++i) {
    const V half = hn::Mul(w[i], hn::Set(d, 0.5));
    sum[i] = hn::MulAdd(half, s[i], half);
  }
}

/// The row and column of a cell as one number.
HWY_INLINE V bin_of(V w, V theta) {
  const D d;
  const V one = hn::Set(d, 1.0);
  const auto step = [&](auto mask) { return hn::IfThenElseZero(mask, one); };
  // rows fall by 2^(1/3) from 2; what rounding puts into the next cell is at its edge
  const V m = mantissa_of(w);
  V row = hn::NegMulAdd(exponent_of(w), hn::Set(d, 3.0), hn::Set(d, 2.0));
  row = hn::Sub(row, hn::Add(step(hn::Ge(m, hn::Set(d, 0x1.428a2f98d728bp+0))),
                             step(hn::Ge(m, hn::Set(d, 0x1.965fea53d6e3dp+0)))));
  row = hn::Min(hn::Max(row, hn::Zero(d)), hn::Set(d, kernel::vmf_cell_rows - 1));
  V column = hn::Zero(d);
  for (int k = 1; k < kernel::vmf_cell_columns; ++k)
    column = hn::Add(column, step(hn::Ge(theta, hn::Set(d, kernel::vmf_cell_column(k)))));
  return hn::MulAdd(row, hn::Set(d, kernel::vmf_cell_columns), column);
}

void kappa_wide(std::ptrdiff_t n, const double* p, bool one_p, const double* length,
                bool complement, double* out, BesselNarrow& narrow) {
  const D d;
  const hn::Rebind<std::int32_t, D> di;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  constexpr std::ptrdiff_t most_lanes = 8;
  HWY_ALIGN double last[3][together * most_lanes] = {};
  HWY_ALIGN double lead_of[together * most_lanes], theta_of[together * most_lanes],
      w_of[together * most_lanes];
  HWY_ALIGN std::int32_t bin_number[together * most_lanes];
  const V one = hn::Set(d, 1.0), two = hn::Set(d, 2.0), zero = hn::Zero(d);
  const V lowest = hn::Set(d, kernel::vmf_cell_row(kernel::vmf_cell_rows));
  for (std::ptrdiff_t begin = 0; begin < n; begin += together * lanes) {
    const double *tile_p = one_p ? p : p + begin, *tile_length = length + begin;
    double* tile_out = out + begin;
    const std::ptrdiff_t size = std::min(n - begin, together * lanes);
    if (size < together * lanes) {
      for (std::ptrdiff_t i = 0; i < together * lanes; ++i) {
        const std::ptrdiff_t k = i < size ? i : 0;
        if (!one_p) last[0][i] = tile_p[k];
        last[1][i] = tile_length[k];
      }
      tile_length = last[1], tile_out = last[2];
      if (!one_p) tile_p = last[0];
    }
    V t[together], w[together], lead[together], sum[together];
    V most = zero, least = lowest;
    std::uint64_t others = 0;
    for (int k = 0; k < together; ++k) {
      const V given = hn::LoadU(d, tile_length + k * lanes);
      const V dimension = one_p ? hn::Set(d, *tile_p) : hn::LoadU(d, tile_p + k * lanes);
      const V other = hn::Sub(one, given);
      const V r = complement ? other : given, c = complement ? given : other;
      // 1 - R^2, from the one of R and 1 - R that is exact
      const V rest =
          hn::IfThenElse(hn::Lt(r, c), hn::NegMulAdd(r, r, one), hn::Mul(c, hn::Add(one, r)));
      const V two_m = hn::Sub(dimension, one);
      t[k] = hn::Div(rest, hn::MulAdd(r, r, one));
      w[k] = hn::Div(hn::Mul(two, t[k]), two_m);
      lead[k] = hn::Mul(hn::Div(r, rest), two_m);
      // outside the domain, and NaN: NaN
      const auto good =
          hn::And(hn::And(hn::Ge(given, zero), hn::Le(given, one)),
                  hn::And(hn::Ge(dimension, two), hn::Le(dimension, hn::Set(d, kernel::largest))));
      lead[k] = hn::IfThenElse(good, lead[k], hn::Set(d, no_number));
      const auto narrow_mask = hn::And(good, hn::Gt(w[k], lowest));
      others |= mask_bits(narrow_mask) << (k * lanes);
      const V wide_w = hn::IfThenElse(hn::And(good, hn::Le(w[k], lowest)), w[k], zero);
      most = hn::Max(most, wide_w);
      least = hn::Min(least, wide_w);
    }
    const std::uint64_t mine = ~std::uint64_t{0} >> (64 - size);
    others &= mine;
    if (others != mine) {
      const double highest = hn::GetLane(hn::MaxOfLanes(d, most));
      const double lowest_w = hn::GetLane(hn::MinOfLanes(d, least));
      int terms = kernel::vmf_kappa_terms, sure = 0;
      while (terms > 0 && highest <= kernel::vmf_kappa_limit(terms - 1)) --terms;
      while (sure < terms && lowest_w > kernel::vmf_kappa_limit(sure)) ++sure;
      add_series(terms, sure, t, w, sum);
      for (int k = 0; k < together; ++k)
        hn::StoreU(hn::Mul(lead[k], hn::Add(sum[k], one)), d, tile_out + k * lanes);
      if (tile_out == last[2]) std::copy(last[2], last[2] + size, out + begin);
    }
    if (others == 0) continue;
    for (int k = 0; k < together; ++k) {
      const V half = hn::Mul(w[k], hn::Set(d, 0.5));
      // at p = 2, R = 0 it is 0/0
      const V width = hn::Max(hn::Sub(one, half), hn::Set(d, 0x1p-60));
      const V theta = hn::Div(hn::Max(hn::Sub(t[k], half), zero), width);
      hn::StoreU(lead[k], d, lead_of + k * lanes);
      hn::StoreU(theta, d, theta_of + k * lanes);
      hn::StoreU(w[k], d, w_of + k * lanes);
      hn::StoreU(hn::DemoteTo(di, bin_of(w[k], theta)), di, bin_number + k * lanes);
    }
    for (; others != 0; others &= others - 1) {
      const int i = std::countr_zero(others);
      const std::ptrdiff_t to = narrow.points.size++;
      narrow.points.place[to] = static_cast<std::uint32_t>(begin + i);
      narrow.hi[to] = lead_of[i];
      narrow.t[to] = theta_of[i];
      narrow.inverse_w[to] = w_of[i];
      narrow.bin[to] = bin_number[i];
    }
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(kappa_wide);

void vmf_kappa_wide(std::ptrdiff_t n, const double* p, bool one_p, const double* length,
                    bool complement, double* out, BesselNarrow& narrow) {
  HWY_DYNAMIC_DISPATCH(kappa_wide)(n, p, one_p, length, complement, out, narrow);
}

}  // namespace halfulp::detail
#endif  // HWY_ONCE
