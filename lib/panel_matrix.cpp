#include "detail/panel_matrix.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "panel_matrix.cpp"
#include <hwy/foreach_target.h>
// foreach_target.h must come first
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace halfulp::detail::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using D = hn::ScalableTag<double>;
using V = hn::Vec<D>;

constexpr std::ptrdiff_t block = 8;  // terms that are summed without their errors

/// `rows` sums: four vectors at a time, so that four chains of additions run side by side.
void panel_product(std::ptrdiff_t columns, const double* a, const double* x, double* y) {
  const D d;
  const auto lanes = static_cast<std::ptrdiff_t>(hn::Lanes(d));
  constexpr int together = 4;
  static_assert(PanelMatrix::height % (together * hn::MaxLanes(D())) == 0);
  for (std::ptrdiff_t row = 0; row < PanelMatrix::height; row += together * lanes) {
    V sum[together], rest[together];
    for (int k = 0; k < together; ++k) sum[k] = rest[k] = hn::Zero(d);
    for (std::ptrdiff_t first = 0; first < columns; first += block) {
      const std::ptrdiff_t last = std::min(first + block, columns);
      V part[together];
      for (V& p : part) p = hn::Zero(d);
      for (std::ptrdiff_t j = first; j < last; ++j) {
        const V factor = hn::Set(d, x[j]);
        const double* column = a + j * PanelMatrix::height + row;
        for (int k = 0; k < together; ++k)
          part[k] = hn::MulAdd(hn::LoadU(d, column + k * lanes), factor, part[k]);
      }
      for (int k = 0; k < together; ++k) {
        const V s = hn::Add(sum[k], part[k]), t = hn::Sub(s, sum[k]);
        rest[k] = hn::Add(rest[k], hn::Add(hn::Sub(sum[k], hn::Sub(s, t)), hn::Sub(part[k], t)));
        sum[k] = s;
      }
    }
    for (int k = 0; k < together; ++k) hn::StoreU(hn::Add(sum[k], rest[k]), d, y + row + k * lanes);
  }
}

}  // namespace halfulp::detail::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfulp::detail {

HWY_EXPORT(panel_product);

PanelMatrix::PanelMatrix(const DdMatrix& a) : rows_(a.rows()), cols_(a.cols()) {
  if (rows_ == 0 || cols_ == 0) return;
  values_ = aligned_array<double>(padded() * cols_);
  for (std::ptrdiff_t j = 0; j < cols_; ++j)
    for (std::ptrdiff_t i = 0; i < rows_; ++i)
      values_[(i / height * cols_ + j) * height + i % height] = a(i, j).hi;
}

void PanelMatrix::multiply(const double* x, double* y) const {
  if (cols_ == 0) std::fill_n(y, padded(), 0.0);
  for (std::ptrdiff_t i = 0; i < rows_ && cols_ > 0; i += height)
    HWY_DYNAMIC_DISPATCH(panel_product)(cols_, values_.get() + i * cols_, x, y + i);
}

}  // namespace halfulp::detail
#endif
