#include "detail/vmf_expectation.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "detail/blas_threads.hpp"
#include "detail/vmf_rows_simd.hpp"
#include "detail/vmf_screen_simd.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr Size tile_rows = vmf_screen_rows;
/// Coordinates of the screen.
constexpr Size most_coordinates = 32;
/// With fewer numbers a row in double is as quickly read as one in 16 bits.
constexpr Size least_shortened = 48;
/// Looks at a row one by one, before all components are looked at at once.
Size most_looks(Size components) { return std::max<Size>(12, components / 3); }

std::size_t at(Size i) { return static_cast<std::size_t>(i); }
int blas(Size n) { return static_cast<int>(n); }

/// A multiple of a tile.
Size block_rows(Size p) {
  return std::clamp<Size>((Size{1} << 17) / p, tile_rows, 256) / tile_rows * tile_rows;
}

/// out = a b^T for `rows` rows of a and `columns` of b, each of p numbers.
void products(Size rows, Size columns, Size p, const double* a, const double* b, double* out) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blas(rows), blas(columns), blas(p), 1.0, a,
              blas(p), b, blas(p), 0.0, out, blas(columns));
}

/// Asks for an array that will be read next: its beginning, where it is long.
template <class T>
void prefetch(const T* x, Size n) {
  constexpr Size line = 64 / sizeof(T);
  for (Size i = 0; i < std::min(n, 256 * line); i += line) __builtin_prefetch(x + i, 0, 2);
}

double square_of(const double* x, Size n) { return cblas_ddot(blas(n), x, 1, x, 1); }

}  // namespace

void VmfRows::gather(std::span<const Size> index, double* to) const {
  for (std::size_t k = 0; k < index.size(); ++k) {
    const double scale = inverse_norm[at(index[k])];
    if (k + 1 < index.size()) prefetch(index[k + 1]);
    double* const out = to + static_cast<Size>(k) * p;
    points.visit([&](auto all) {
      const auto* const x = all.data() + index[k] * p;
      for (Size j = 0; j < p; ++j) out[j] = x[j] * scale;
    });
  }
}

void VmfRows::prefetch(Size i) const {
  points.visit([&](auto all) { detail::prefetch(all.data() + i * p, p); });
}

/// A row to be looked at in double, by components look_list[begin] ... look_list[end - 1].
struct VmfExpectation::Look {
  Size row, begin, end;
};

/// What one of a fixed number of workers has: rows are dealt to them by blocks.
struct VmfExpectation::Lane {
  VmfSums sums;
  dd log_likelihood = 0.0;
  Numbers row;                         ///< one that is read, where it must be converted
  Numbers x, part;                     ///< rows looked at at once, and their products
  std::vector<Size> rows;              ///< these
  AlignedArray<float> product, bound;  ///< of a tile
  std::vector<std::int32_t> list;
  Numbers value, uncertain;
  std::vector<Look> looks;
  std::vector<std::int32_t> look_list;
  std::vector<float> look_product;  ///< a . b of these
};

VmfExpectation::VmfExpectation(const VmfRows& rows, Size components, bool prune)
    : rows_(rows),
      k_(components),
      groups_((components + vmf_screen_group - 1) / vmf_screen_group),
      block_(block_rows(rows.p)),
      prune_(prune) {
  lanes_ = std::clamp<Size>((Size{1} << 25) / (k_ * rows.p), 1, 16);
  lanes_ = std::min(lanes_, (rows.n + block_ - 1) / block_);
  value_.assign(at(rows.n), 0.0);
  size_.assign(at(k_), 0.0);
  if (!prune) {
    restart();
    return;
  }
  make_coordinates();
  const Size tiles = (rows.n + tile_rows - 1) / tile_rows, room = groups_ * vmf_screen_group;
  coordinate_ = aligned_array<float>(tiles * tile_rows * q_);
  rest_ = aligned_array<float>(tiles * tile_rows);
  component_ = aligned_array<float>(room * q_);
  rounding_.assign(at(k_), 0.0);
  drift_single_.assign(at(room), 0.0F);
  constant_single_.assign(at(room), -1e30F);
  if (rows.p > least_shortened) {
    padded_ = (rows.p + vmf_short_padding - 1) / vmf_short_padding * vmf_short_padding;
    short_row_ = aligned_array<std::int16_t>(rows.n * padded_);
    short_component_ = aligned_array<std::int16_t>(k_ * padded_);
    row_unit_.resize(at(rows.n));
    row_lack_.resize(at(rows.n));
    component_unit_.resize(at(k_));
    component_lack_.resize(at(k_));
  }
  copy_rows();
  restart();
}

void VmfExpectation::restart() {
  const Size numbers = k_ * rows_.p;
  eta_ = aligned_array<double>(numbers);
  constant_.assign(at(k_), 0.0);
  best_.assign(at(rows_.n), -1);
  sum_hi_.assign(at(numbers), 0.0);
  sum_lo_.assign(at(numbers), 0.0);
  alone_weight_.assign(at(k_), dd(0.0));
  if (!prune_) return;
  // r is 0 where eta is
  const Size tiles = (rows_.n + tile_rows - 1) / tile_rows;
  high_ = aligned_array<float>(tiles * tile_rows * groups_ * vmf_screen_group);
  low_.assign(at(rows_.n), 0.0);
  drift_.assign(at(k_), 0.0);
  creep_.assign(at(k_), 0.0);
}

/// Q: the leading right singular vectors of some of the rows, by subspace iteration. Any
/// orthonormal rows are right; these leave little of the data out.
void VmfExpectation::make_coordinates() {
  const Size p = rows_.p;
  const Size sample = std::min(rows_.n, std::clamp<Size>((Size{1} << 21) / p, 128, 2048));
  q_ = std::min({most_coordinates, p, sample});
  const OneBlasThread one;
  Numbers x(at(sample * p)), mix(at(sample * q_));
  for (Size i = 0; i < sample; ++i) {
    const Size row = i * rows_.n / sample;
    rows_.gather({&row, 1}, x.data() + i * p);
  }
  RandomStream(0).fill_normal(mix);
  basis_.resize(at(q_ * p));
  Numbers scale(at(q_));
  for (int step = 0; step < 3; ++step) {
    if (step > 0) products(sample, q_, p, x.data(), basis_.data(), mix.data());
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, blas(q_), blas(p), blas(sample), 1.0,
                mix.data(), blas(q_), x.data(), blas(p), 0.0, basis_.data(), blas(p));
    // rows of a row-major array are columns of LAPACK's
    LAPACKE_dgeqrf(LAPACK_COL_MAJOR, blas(p), blas(q_), basis_.data(), blas(p), scale.data());
    LAPACKE_dorgqr(LAPACK_COL_MAJOR, blas(p), blas(q_), blas(q_), basis_.data(), blas(p),
                   scale.data());
  }
}

/// The coordinates of all rows, and the rows in 16 bits.
void VmfExpectation::copy_rows() {
  const OneBlasThread one;
  parallel_blocks(rows_.n, block_, rows_.threads, [&](Size begin, Size end) {
    const Size here = end - begin;
    std::vector<Size> index(at(here));
    for (Size i = 0; i < here; ++i) index[at(i)] = begin + i;
    Numbers x(at(here * rows_.p)), a(at(here * q_));
    rows_.gather(index, x.data());
    products(here, q_, rows_.p, x.data(), basis_.data(), a.data());
    for (Size i = 0; i < here; ++i) {
      const Size row = begin + i;
      float* const to = coordinate_.get() + row / tile_rows * tile_rows * q_ + row % tile_rows;
      double square = 0;
      for (Size d = 0; d < q_; ++d) {
        const auto rounded = static_cast<float>(a[at(i * q_ + d)]);
        to[d * tile_rows] = rounded;
        square += static_cast<double>(rounded) * rounded;
      }
      // |x - Q^T a|^2 = 1 - |a|^2 + 2 a . (a - Q x), and a is Q x rounded
      rest_[at(row)] = static_cast<float>(std::sqrt(std::fmax(0, 1 - square) + 0x1p-22) * 1.000001);
      if (padded_ == 0) continue;
      const VmfShortRow short_row =
          vmf_shorten(rows_.p, x.data() + i * rows_.p, 1, short_row_.get() + row * padded_);
      row_unit_[at(row)] = short_row.unit;
      row_lack_[at(row)] = short_row.lack;
    }
  });
}

void VmfExpectation::lower_gaps(const double* mean, std::span<double> gap) const {
  const Size p = rows_.p;
  const std::int32_t list[1] = {0};
  const auto look = [&](Size i, Numbers& buffer) {
    double cosine;
    vmf_products_of(p, rows_.row(i, buffer), mean, 1, list, &cosine);
    const double away = 1 - cosine * rows_.inverse_norm[at(i)];
    gap[at(i)] = std::fmin(gap[at(i)], away < 0x1p-48 ? 0 : away);
  };
  if (!prune_) {
    parallel_blocks(rows_.n, 512, rows_.threads, [&](Size begin, Size end) {
      Numbers buffer;
      for (Size i = begin; i < end; ++i) look(i, buffer);
    });
    return;
  }
  // the mean as the one component of a screen, with bounds of its cosines
  constexpr Size room = vmf_screen_group;
  Numbers inside(at(q_));
  {
    const OneBlasThread one;
    products(1, q_, p, mean, basis_.data(), inside.data());
  }
  const auto component = aligned_array<float>(room * q_);
  for (Size d = 0; d < q_; ++d) component[at(d * room)] = static_cast<float>(inside[at(d)]);
  const double rest = std::sqrt(std::fmax(0, 1 - square_of(inside.data(), q_)) + 1e-12);
  const auto drift = aligned_array<float>(room), constant = aligned_array<float>(room, -1e30F);
  drift[0] = static_cast<float>(rest * 1.000001);
  constant[0] = static_cast<float>(0x1p-23 * static_cast<double>(q_ + 2) + 0x1p-19);
  const auto none = aligned_array<float>(room * tile_rows);
  const auto short_mean = aligned_array<std::int16_t>(std::max<Size>(padded_, 1));
  VmfShortRow mean_row{};
  if (padded_ > 0) mean_row = vmf_shorten(p, mean, 1, short_mean.get());
  parallel_blocks(rows_.n, 32 * tile_rows, rows_.threads, [&](Size begin, Size end) {
    const auto product = aligned_array<float>(room * tile_rows);
    const auto bound = aligned_array<float>(room * tile_rows);
    Numbers buffer;
    for (Size first = begin; first < end; first += tile_rows) {
      vmf_screen({q_, 1, coordinate_.get() + first * q_, component.get(), constant.get(),
                  drift.get(), rest_.get() + first, none.get(), product.get(), bound.get()});
      for (Size r = 0; r < std::min(tile_rows, end - first); ++r) {
        const Size i = first + r;
        const double cosine = 1 - gap[at(i)];
        if (static_cast<double>(bound[at(r)]) < cosine) continue;
        if (padded_ > 0) {
          double rough;
          vmf_short_products(padded_, short_row_.get() + i * padded_, short_mean.get(), 1, list,
                             &rough);
          const double lack = row_lack_[at(i)];
          const double most = rough * (row_unit_[at(i)] * mean_row.unit) +
                              (lack + (1 + lack) * mean_row.lack) * (1 + 1e-9) + 1e-12;
          if (most < cosine) continue;
        }
        look(i, buffer);
      }
    }
  });
}

int VmfExpectation::best(Size i) const { return best_[at(i)] >= 0 ? best_[at(i)] : ~best_[at(i)]; }

float* VmfExpectation::high(Size i, Size component) {
  const Size room = groups_ * vmf_screen_group, tile = i / tile_rows;
  return high_.get() + (tile * room + component) * tile_rows + i % tile_rows;
}

double VmfExpectation::drift(Size i, Size component) const {
  return static_cast<double>(rest_[at(i)]) * drift_[at(component)] + creep_[at(component)];
}

/// Takes the next parameters, and adds up how far r of each component may have moved.
void VmfExpectation::move(const VmfParameters& next) {
  const Size p = rows_.p;
  const OneBlasThread one;
  parallel_for(k_, rows_.threads, [&](Size j) {
    const double* const eta = next.eta.data() + j * p;
    size_[at(j)] = std::sqrt(square_of(eta, p));
    if (!prune_) return;
    Numbers step(eta, eta + p), inside(at(q_)), b(at(q_));
    for (Size q = 0; q < p; ++q) step[at(q)] -= eta_[at(j * p + q)];
    products(1, q_, p, step.data(), basis_.data(), inside.data());
    products(1, q_, p, eta, basis_.data(), b.data());
    const double square = square_of(step.data(), p), within = square_of(inside.data(), q_);
    drift_[at(j)] += std::sqrt(std::fmax(0, square - within) + 1e-13 * square) * (1 + 1e-12);
    const double size = size_[at(j)];
    // what of a step falls on a's rounding; b's rounding, now and before; that of the products in
    // double
    creep_[at(j)] += 0x1p-22 * (std::sqrt(square) + size) +
                     0x1p-52 * static_cast<double>(p) * (size + std::fabs(next.constant[at(j)]));
    rounding_[at(j)] = 0x1p-23 * static_cast<double>(q_ + 2) * size;
    for (Size d = 0; d < q_; ++d)
      component_[at((j / vmf_screen_group * q_ + d) * vmf_screen_group + j % vmf_screen_group)] =
          static_cast<float>(b[at(d)]);
    if (padded_ == 0) return;
    const VmfShortRow short_row = vmf_shorten(p, eta, 1, short_component_.get() + j * padded_);
    component_unit_[at(j)] = short_row.unit;
    component_lack_[at(j)] = short_row.lack;
  });
  std::copy(next.eta.begin(), next.eta.end(), eta_.get());
  constant_ = next.constant;
  if (!prune_) return;
  reference_ = *std::max_element(next.constant.begin(), next.constant.end());
  for (Size j = 0; j < k_; ++j) {
    const double constant = next.constant[at(j)] - reference_;
    // the bound is a sum of four numbers in single precision, of which none is larger than these
    const double slack =
        0x1p-20 * (std::fabs(constant) + size_[at(j)] + drift_[at(j)] + creep_[at(j)]);
    constant_single_[at(j)] =
        static_cast<float>(constant + rounding_[at(j)] + creep_[at(j)] + slack);
    drift_single_[at(j)] = static_cast<float>(drift_[at(j)] * 1.000001);
  }
}

VmfSums VmfExpectation::evaluate(const VmfParameters& parameters, bool hard, bool all) {
  hard_ = hard;
  needed_ = hard ? 0 : 60 * 0.6931471805599453 + std::log(k_);
  move(parameters);
  const std::vector<std::int32_t> before = best_;
  VmfSums sums = add(all || !prune_);
  exchange(before);
  Numbers likelihood(at(k_));
  parallel_for(k_, rows_.threads, [&](Size j) {
    const dd weight = alone_weight_[at(j)];
    dd product = weight * parameters.constant[at(j)];
    for (Size q = j * rows_.p; q < (j + 1) * rows_.p; ++q) {
      product += kernel::two_prod(parameters.eta[at(q)], sum_hi_[at(q)]);
      sums.direction[at(q)] += sum_hi_[at(q)];
    }
    sums.weight[at(j)] += weight.hi;
    likelihood[at(j)] = product.hi;
  });
  for (const double part : likelihood) sums.log_likelihood += part;
  return sums;
}

/// Sums of the rows that do not belong to one component alone.
VmfSums VmfExpectation::add(bool all) {
  const Size p = rows_.p, blocks = (rows_.n + block_ - 1) / block_;
  std::vector<Lane> lanes(at(lanes_));
  const OneBlasThread one;
  parallel_for(lanes_, rows_.threads, [&](Size l) {
    Lane& lane = lanes[at(l)];
    lane.sums.direction.assign(at(k_ * p), 0.0);
    lane.sums.weight.assign(at(k_), 0.0);
    lane.product = aligned_array<float>(groups_ * vmf_screen_group * tile_rows);
    lane.bound = aligned_array<float>(groups_ * vmf_screen_group * tile_rows);
    lane.list.resize(at(k_));
    lane.value.resize(at(k_));
    lane.uncertain.resize(at(k_));
    for (Size b = l; b < blocks; b += lanes_) {
      const Size begin = b * block_, end = std::min(begin + block_, rows_.n);
      if (!all) {
        screen(lane, begin, end);
        continue;
      }
      for (Size i = begin; i < end; ++i) lane.rows.push_back(i);
      take_rows_at_once(lane);
    }
    take_rows_at_once(lane);
    lane.sums.log_likelihood = lane.log_likelihood.hi;
  });
  for (Size width = 1; width < lanes_; width *= 2)
    for (Size l = 0; l + width < lanes_; l += 2 * width) {
      VmfSums &a = lanes[at(l)].sums, &b = lanes[at(l + width)].sums;
      parallel_blocks(k_ * p, 1 << 14, rows_.threads, [&](Size begin, Size end) {
        for (Size q = begin; q < end; ++q) a.direction[at(q)] += b.direction[at(q)];
      });
      for (std::size_t q = 0; q < a.weight.size(); ++q) a.weight[q] += b.weight[q];
      a.log_likelihood += b.log_likelihood;
    }
  return std::move(lanes[0].sums);
}

/// Rows [begin, end), which begin with a tile, from their bounds.
void VmfExpectation::screen(Lane& lane, Size begin, Size end) {
  const Size room = groups_ * vmf_screen_group;
  for (Size first = begin; first < end; first += tile_rows) {
    const Size tile = first / tile_rows;
    vmf_screen({q_, groups_, coordinate_.get() + tile * tile_rows * q_, component_.get(),
                constant_single_.data(), drift_single_.data(), rest_.get() + first,
                high_.get() + tile * room * tile_rows, lane.product.get(), lane.bound.get()});
    alignas(64) float limit[tile_rows];
    for (Size r = 0; r < tile_rows; ++r) {
      const Size i = first + r;
      limit[r] = std::numeric_limits<float>::infinity();
      if (i >= end) continue;
      const std::int32_t j = best_[at(i)];
      // several components: it is looked at in any case
      limit[r] = j < 0 ? -std::numeric_limits<float>::infinity()
                       : limit_of(constant_[at(j)] - rounding_[at(j)] +
                                  static_cast<double>(lane.product[at(j * tile_rows + r)]) +
                                  low_[at(i)] - drift(i, j));
    }
    const std::uint32_t above = vmf_screen_above(room, lane.bound.get(), limit);
    Size chosen[tile_rows], count = 0;
    for (Size r = 0; r < tile_rows; ++r)
      if ((above >> r & 1) != 0) chosen[count++] = r;
    for (Size c = 0; c < count; ++c) {
      if (padded_ > 0 && c + 1 < count)
        prefetch(short_row_.get() + (first + chosen[c + 1]) * padded_, padded_);
      look(lane, chosen[c], first + chosen[c]);
    }
  }
  for (std::size_t c = 0; c < lane.looks.size(); ++c) {
    if (c + 1 < lane.looks.size()) rows_.prefetch(lane.looks[c + 1].row);
    look_again(lane, lane.looks[c]);
  }
  lane.looks.clear();
  lane.look_list.clear();
  lane.look_product.clear();
}

/// Remembers that component j's log-density in row i is at most `value`; `product` is a . b_j.
void VmfExpectation::set_high(Size i, Size j, double value, float product) {
  const double r = value - constant_[at(j)] - static_cast<double>(product) + rounding_[at(j)];
  *high(i, j) = static_cast<float>(r - drift(i, j));
}

/// Components whose log-density stays below this do not count beside one of log-density `low`.
float VmfExpectation::limit_of(double low) const {
  const double least = low - reference_ - needed_;
  return static_cast<float>(least - 1e-6 * std::fabs(least));
}

/// Log-densities of row i, as it was read, in some components.
void VmfExpectation::log_densities(Size i, const double* row, Size count, const std::int32_t* list,
                                   double* out) const {
  vmf_products_of(rows_.p, row, eta_.get(), count, list, out);
  for (Size c = 0; c < count; ++c)
    out[c] = out[c] * rows_.inverse_norm[at(i)] + constant_[at(list[c])];
}

/// The same from the copies in 16 bits, and how far they are from that at most.
void VmfExpectation::rough_log_densities(Size i, Size count, const std::int32_t* list, double* out,
                                         double* uncertain) const {
  const double unit = row_unit_[at(i)], lack = row_lack_[at(i)];
  vmf_short_products(padded_, short_row_.get() + i * padded_, short_component_.get(), count, list,
                     out);
  for (Size c = 0; c < count; ++c) {
    const std::size_t j = at(list[c]);
    out[c] = out[c] * (unit * component_unit_[j]) + constant_[j];
    uncertain[c] = (lack * size_[j] + (1 + lack) * component_lack_[j]) * (1 + 1e-9);
  }
}

/// Looks at row i, the r-th of the tile in the lane, roughly: most often it belongs to one
/// component then, else it is kept for a look in double.
void VmfExpectation::look(Lane& lane, Size r, Size i) {
  std::int32_t* const list = lane.list.data();
  double *const value = lane.value.data(), *const uncertain = lane.uncertain.data();
  const auto product = [&](Size j) { return lane.product[at(j * tile_rows + r)]; };
  const auto bound = [&](Size j) { return lane.bound[at(j * tile_rows + r)]; };
  // first one component, for a limit that rules out many
  std::int32_t top = best_[at(i)];
  if (top < 0) {
    top = 0;
    for (std::int32_t j = 1; j < k_; ++j)
      if (bound(j) > bound(top)) top = j;
  }
  list[0] = top;
  double low = 0, spread = 0;
  if (padded_ > 0)
    rough_log_densities(i, 1, list, &low, &spread);
  else
    log_densities(i, rows_.row(i, lane.row), 1, list, &low);
  const double high = low + spread;
  low -= spread;
  const std::int32_t first = top;
  const float limit = limit_of(low);
  Size count = 0;
  for (std::int32_t j = 0; j < k_; ++j)
    if (j != first && bound(j) > limit) list[count++] = j;
  if (padded_ > 0) {
    rough_log_densities(i, count, list, value, uncertain);
    for (Size c = 0; c < count; ++c) {
      const std::int32_t j = list[c];
      set_high(i, j, value[c] + uncertain[c], product(j));
      if (value[c] - uncertain[c] > low) {
        low = value[c] - uncertain[c];
        top = j;
      }
      value[c] += uncertain[c];
    }
    if (top != first) {
      set_high(i, first, high, product(first));
      list[count] = first;
      value[count++] = high;
    }
    const float least = limit_of(low);
    Size left = 0;
    for (Size c = 0; c < count; ++c)
      if (list[c] != top && static_cast<float>(value[c] - reference_) > least)
        list[left++] = list[c];
    count = left;
  }
  if (count == 0) {
    belongs_to(i, top, low, product(top));
  } else if (count >= most_looks(k_)) {
    lane.rows.push_back(i);
    if (std::ssize(lane.rows) == block_) take_rows_at_once(lane);
  } else {
    // in the order of components: the first one of equals is the best
    list[count++] = top;
    std::sort(list, list + count);
    const Size begin = std::ssize(lane.look_list);
    lane.looks.push_back({i, begin, begin + count});
    for (Size c = 0; c < count; ++c) {
      lane.look_list.push_back(list[c]);
      lane.look_product.push_back(product(list[c]));
    }
  }
}

/// Looks at a row in double, by the components that are left.
void VmfExpectation::look_again(Lane& lane, const Look& look) {
  const Size i = look.row, count = look.end - look.begin;
  const std::int32_t* const list = lane.look_list.data() + look.begin;
  const float* const product = lane.look_product.data() + look.begin;
  double* const value = lane.value.data();
  const double* const row = rows_.row(i, lane.row);
  log_densities(i, row, count, list, value);
  const Size first = std::max_element(value, value + count) - value;
  const double most = value[first];
  int near = -1;
  for (Size c = 0; c < count; ++c) {
    set_high(i, list[c], value[c], product[c]);
    near += value[c] >= most - needed_ ? 1 : 0;
  }
  if (hard_ || near == 0) {
    belongs_to(i, list[first], most, product[first]);
    return;
  }
  best_[at(i)] = ~list[first];
  double sum = 0;
  for (Size c = 0; c < count; ++c) sum += value[c] = std::exp(value[c] - most);
  const double weight = rows_.weight_of(i), scale = rows_.inverse_norm[at(i)];
  lane.log_likelihood += weight * (most + std::log(sum));
  for (Size c = 0; c < count; ++c) {
    if (value[c] < 0x1p-70) continue;
    const double share = value[c] * (weight / sum);
    lane.sums.weight[at(list[c])] += share;
    vmf_add_scaled(rows_.p, share * scale, row, lane.sums.direction.data() + list[c] * rows_.p);
  }
}

/// All components' products with rows by matrix multiplication.
void VmfExpectation::take_rows_at_once(Lane& lane) {
  const Size here = std::ssize(lane.rows), p = rows_.p;
  if (here == 0) return;
  lane.x.resize(at(block_ * p));
  lane.part.resize(at(block_ * k_));
  rows_.gather(lane.rows, lane.x.data());
  products(here, k_, p, lane.x.data(), eta_.get(), lane.part.data());
  bool some = false;
  for (Size i = 0; i < here; ++i)
    some = take_whole_row(lane.rows[at(i)], lane.part.data() + i * k_, lane) || some;
  lane.rows.clear();
  if (!some) return;
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, blas(k_), blas(p), blas(here), 1.0,
              lane.part.data(), blas(k_), lane.x.data(), blas(p), 1.0, lane.sums.direction.data(),
              blas(p));
}

/// Turns the row's products into its weights for the sums, zeros if it belongs to one component
/// alone; whether it does not.
bool VmfExpectation::take_whole_row(Size i, double* part, Lane& lane) {
  const auto product = [&](Size j) {
    // as vmf_screen has it, to within what rounding_ allows for
    const float* const a = coordinate_.get() + i / tile_rows * tile_rows * q_ + i % tile_rows;
    const float* const b =
        component_.get() + j / vmf_screen_group * q_ * vmf_screen_group + j % vmf_screen_group;
    float sum = 0;
    for (Size d = 0; d < q_; ++d) sum += a[d * tile_rows] * b[d * vmf_screen_group];
    return sum;
  };
  Size first = 0;
  double most = -infinity, second = -infinity;
  for (Size j = 0; j < k_; ++j) {
    part[j] += constant_[at(j)];
    if (prune_) set_high(i, j, part[j], product(j));
    if (part[j] > most) {
      second = most;
      most = part[j];
      first = j;
    } else if (part[j] > second) {
      second = part[j];
    }
  }
  value_[at(i)] = most;
  if (hard_ || most - second > needed_) {
    belongs_to(i, first, most, prune_ ? product(first) : 0);
    std::fill_n(part, k_, 0.0);
    return false;
  }
  best_[at(i)] = static_cast<std::int32_t>(~first);
  double sum = 0;
  for (Size j = 0; j < k_; ++j) sum += part[j] = std::exp(part[j] - most);
  const double weight = rows_.weight_of(i), log_density = most + std::log(sum);
  value_[at(i)] = log_density;
  lane.log_likelihood += weight * log_density;
  for (Size j = 0; j < k_; ++j) {
    part[j] *= weight / sum;
    lane.sums.weight[at(j)] += part[j];
  }
  return true;
}

/// Row i belongs to component j alone, whose log-density is at least `low`; `product` is a . b_j.
void VmfExpectation::belongs_to(Size i, Size j, double low, float product) {
  best_[at(i)] = static_cast<std::int32_t>(j);
  if (!prune_) return;
  low_[at(i)] =
      low - constant_[at(j)] - static_cast<double>(product) - rounding_[at(j)] + drift(i, j);
  *high(i, j) = -std::numeric_limits<float>::infinity();
}

/// Rows that came to a component alone and that left one, in the order of rows.
void VmfExpectation::exchange(std::span<const std::int32_t> before) {
  struct Change {
    Size row;
    double sign;
  };
  std::vector<std::vector<Change>> changes(at(k_));
  for (Size i = 0; i < rows_.n; ++i) {
    const std::int32_t old = before[at(i)], now = best_[at(i)];
    if (old == now) continue;
    if (old >= 0) changes[at(old)].push_back({i, -1});
    if (now >= 0) changes[at(now)].push_back({i, 1});
  }
  const Size p = rows_.p, rows_at_once = vmf_tile;
  parallel_for(k_, rows_.threads, [&](Size j) {
    const auto& list = changes[at(j)];
    Numbers x(at(std::min(rows_at_once, std::max<Size>(std::ssize(list), 1)) * p));
    alignas(64) double factor[2][vmf_tile] = {};
    for (Size begin = 0; begin < std::ssize(list); begin += rows_at_once) {
      const Size here = std::min(rows_at_once, std::ssize(list) - begin);
      std::array<Size, vmf_tile> index;
      for (Size q = 0; q < here; ++q) {
        const Change& change = list[at(begin + q)];
        index[at(q)] = change.row;
        factor[0][q] = change.sign * rows_.weight_of(change.row);
        alone_weight_[at(j)] += factor[0][q];
      }
      rows_.gather({index.data(), at(here)}, x.data());
      vmf_add_rows(here, p, x.data(), {factor[0], factor[1]},
                   {sum_hi_.data() + j * p, sum_lo_.data() + j * p});
    }
  });
}

}  // namespace halfulp::detail
