#include <algorithm>
#include <boost/math/policies/policy.hpp>
#include <boost/math/special_functions/erf.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "detail/require.hpp"
#include "detail/vmf.hpp"
#include "detail/vmf_numbers.hpp"
#include "detail/vmf_rows_simd.hpp"
#include "halfulp/kernel/dd.hpp"
#include "halfulp/kernel/vmf.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"
#include "halfulp/vmf.hpp"

namespace halfulp::vmf {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Squares between these have all their digits, and so have the products of such rows.
constexpr double least_square = 0x1p-900, most_square = 0x1p900;
/// Of products of unit vectors, and of sums of these.
double product_error(std::ptrdiff_t p) { return 0x1p-98 + 0x1p-107 * static_cast<double>(p); }
/// Rows with a smaller 1 - cosine are the axis: less is only the rounding of pairs of numbers.
constexpr double same_direction = 0x1p-160;
/// Shorter resultants are only rounding: their length is 0.
constexpr double least_length = 0x1p-75;

// ---- rows ---------------------------------------------------------------------------------------

struct Points {
  std::string_view function;
  detail::VmfNumbers x;
  std::ptrdiff_t n, p;
  bool normalise;
  std::span<const double> weights;
  double weight_unit;  ///< a power of two: in it, sums neither over- nor underflow
  int threads;

  /// Blocks are what threads take, and what sums are made of: a matter of p alone.
  [[nodiscard]] std::ptrdiff_t block_rows() const { return p < 32 ? 2048 : 256; }
  /// Tiles stay in the first cache while they are read twice.
  [[nodiscard]] std::ptrdiff_t tile_rows() const {
    return std::clamp<std::ptrdiff_t>(2048 / p, 4, detail::vmf_tile);
  }
};

Points make_points(std::string_view function, detail::VmfNumbers points, std::ptrdiff_t p,
                   const DataOptions& options) {
  detail::require(p >= 2, function, "p", p, ">= 2");
  const std::ptrdiff_t size = points.size(), n = size / p;
  if (size % p != 0)
    throw ShapeError(function, "points.size()", std::to_string(size),
                     "a multiple of p = " + std::to_string(p));
  const auto& weights = options.weights;
  if (!weights.empty()) detail::require_size(function, "weights", std::ssize(weights), n);
  double largest = weights.empty() ? 1 : 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    detail::require(weights[i] >= 0 && weights[i] <= kernel::largest, function,
                    "weights[" + std::to_string(i) + ']', weights[i], ">= 0 and finite");
    largest = std::fmax(largest, weights[i]);
  }
  detail::require(n > 0, function, "rows of points", n, "> 0");
  detail::require(largest > 0, function, "sum of weights", largest, "> 0");
  return {
      function,       points, n, p, options.normalise, weights, std::ldexp(1, std::ilogb(largest)),
      options.threads};
}

/// Multiplies a row by the power of two that brings its largest entry into [1, 2); returns the
/// exponent that was taken off. A row that is no direction becomes zeros.
int scale_row(double* x, std::ptrdiff_t p) {
  double largest = 0;
  for (std::ptrdiff_t j = 0; j < p; ++j)
    if (!(std::fabs(x[j]) <= largest)) largest = std::fabs(x[j]);
  if (!(largest > 0 && largest <= kernel::largest)) {
    std::fill_n(x, p, 0.0);
    return 0;
  }
  const int exponent = std::ilogb(largest);
  for (std::ptrdiff_t j = 0; j < p; ++j) x[j] = std::ldexp(x[j], -exponent);
  return exponent;
}

[[noreturn]] void refuse_row(const Points& points, std::ptrdiff_t row) {
  const std::string name = "points[" + std::to_string(row) + ']';
  std::vector<double> buffer;
  const double* const from = points.x.read(row * points.p, points.p, buffer);
  std::vector<double> x(from, from + points.p);
  for (std::size_t j = 0; j < x.size(); ++j)
    detail::require(std::isfinite(x[j]), points.function, name + '[' + std::to_string(j) + ']',
                    x[j], "finite");
  const int exponent = scale_row(x.data(), points.p);
  double square = 0;
  for (const double y : x) square += y * y;
  throw DomainError(points.function, '|' + name + '|', std::ldexp(std::sqrt(square), exponent),
                    points.normalise ? "> 0" : "1 (or set normalise)");
}

/// Some rows, with their squares and their products with an axis.
class Tile {
 public:
  explicit Tile(const Points& points) : points_(points) {}

  /// The square of a row that is no direction becomes NaN.
  void read(std::ptrdiff_t begin, std::ptrdiff_t end, detail::ConstPairArray axis) {
    begin_ = begin;
    n_ = end - begin;
    x_ = points_.x.read(begin * points_.p, n_ * points_.p, converted_);
    detail::vmf_products(n_, points_.p, x_, axis, pairs(square), pairs(product),
                         !points_.normalise);
    double* const squares = pairs(square).hi;
    bool scaled = false;
    for (std::ptrdiff_t i = 0; i < n_; ++i) {
      if (points_.normalise)
        scaled = scaled || !(squares[i] >= least_square && squares[i] <= most_square);
      else if (!(std::fabs(std::sqrt(squares[i]) - 1) <= detail::direction_tolerance))
        squares[i] = nan;
    }
    if (!scaled) return;
    copy_.assign(x_, x_ + n_ * points_.p);
    for (std::ptrdiff_t i = 0; i < n_; ++i)
      if (!(squares[i] >= least_square && squares[i] <= most_square))
        scale_row(copy_.data() + i * points_.p, points_.p);
    x_ = copy_.data();
    detail::vmf_products(n_, points_.p, x_, axis, pairs(square), pairs(product), false);
    for (std::ptrdiff_t i = 0; i < n_; ++i)
      if (!(squares[i] >= least_square)) squares[i] = nan;
  }

  void require_directions() const {
    for (std::ptrdiff_t i = 0; i < n_; ++i)
      if (std::isnan(numbers_[square][0][i])) refuse_row(points_, begin_ + i);
  }

  /// sum += w x/|x| over the rows.
  void add_to(detail::PairArray sum) {
    set_weights();
    detail::vmf_factors(n_, weight_, pairs(square), pairs(complement));
    detail::vmf_add_rows(n_, points_.p, x_, pairs(complement), sum);
  }

  void set_weights() {
    const auto& weights = points_.weights;
    for (std::ptrdiff_t i = 0; i < n_; ++i)
      weight_[i] =
          weights.empty() ? 1 : weights[static_cast<std::size_t>(begin_ + i)] / points_.weight_unit;
  }

  /// 1 - cosines to the axis that the rows were read with; `deviations`: with all their digits
  /// however small they are, else to about 2^-102.
  void find_complements(detail::ConstPairArray axis, bool deviations) {
    const detail::ConstPairArray a = pairs(product), q = pairs(square);
    const detail::PairArray c = pairs(complement);
    detail::vmf_complements(n_, a, q, c);
    if (!deviations) return;
    for (std::ptrdiff_t i = 0; i < n_; ++i) {
      if (!(c.hi[i] < 0.5)) continue;
      const dd sine_square =
          detail::vmf_deviation(points_.p, x_ + i * points_.p, axis, {a.hi[i], a.lo[i]}) /
          dd(q.hi[i], q.lo[i]);
      const dd exact = sine_square / (2.0 - dd(c.hi[i], c.lo[i]));
      c.hi[i] = exact.hi < same_direction ? 0 : exact.hi;
      c.lo[i] = exact.hi < same_direction ? 0 : exact.lo;
    }
  }

  [[nodiscard]] std::ptrdiff_t size() const { return n_; }
  /// In the unit of weights; after add_to or set_weights.
  [[nodiscard]] double weight(std::ptrdiff_t i) const { return weight_[i]; }
  [[nodiscard]] detail::ConstPairArray complements() const { return pairs(complement); }

 private:
  enum { square, product, complement };
  [[nodiscard]] detail::PairArray pairs(int i) { return {numbers_[i][0], numbers_[i][1]}; }
  [[nodiscard]] detail::ConstPairArray pairs(int i) const {
    return {numbers_[i][0], numbers_[i][1]};
  }

  Points points_;
  std::ptrdiff_t begin_ = 0, n_ = 0;
  const double* x_ = nullptr;
  std::vector<double> converted_, copy_;
  alignas(64) double numbers_[3][2][detail::vmf_tile] = {};
  alignas(64) double weight_[detail::vmf_tile] = {};
};

/// A unit vector with twice the digits.
class Axis {
 public:
  /// x/|x|, where |x| neither over- nor underflows.
  Axis(std::span<const double> hi, std::span<const double> lo)
      : hi_(hi.begin(), hi.end()), lo_(lo.begin(), lo.end()) {
    lo_.resize(hi_.size());
    dd square = 0;
    for (std::size_t j = 0; j < hi_.size(); ++j) square += dd(hi_[j], lo_[j]) * dd(hi_[j], lo_[j]);
    const dd norm = sqrt(square);
    for (std::size_t j = 0; j < hi_.size(); ++j) {
      const dd x = dd(hi_[j], lo_[j]) / norm;
      hi_[j] = x.hi;
      lo_[j] = x.lo;
    }
  }
  [[nodiscard]] detail::ConstPairArray pairs() const { return {hi_.data(), lo_.data()}; }
  [[nodiscard]] const std::vector<double>& rounded() const { return hi_; }

 private:
  std::vector<double> hi_, lo_;
};

// ---- sums over rows, by blocks and then by a tree, whatever the threads -------------------------

/// add(i, j) adds the j-th part to the i-th; the sum is then in part 0.
template <class Add>
void sum_tree(std::ptrdiff_t parts, Add add) {
  for (std::ptrdiff_t width = 1; width < parts; width *= 2)
    for (std::ptrdiff_t i = 0; i + width < parts; i += 2 * width) add(i, i + width);
}

dd sum_tree(std::vector<dd>& parts) {
  sum_tree(std::ssize(parts), [&](std::ptrdiff_t i, std::ptrdiff_t j) {
    parts[static_cast<std::size_t>(i)] += parts[static_cast<std::size_t>(j)];
  });
  return parts.empty() ? dd(0) : parts[0];
}

/// body(tile, block, first row) for every tile of rows, those of a block in order.
template <class Body>
void for_tiles(const Points& points, detail::ConstPairArray axis, Body body) {
  const std::ptrdiff_t rows = points.block_rows();
  parallel_blocks(points.n, rows, points.threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    Tile tile(points);
    for (std::ptrdiff_t i = begin; i < end; i += points.tile_rows()) {
      tile.read(i, std::min(i + points.tile_rows(), end), axis);
      body(tile, begin / rows, i);
    }
  });
}

std::ptrdiff_t block_count(const Points& points) {
  return (points.n + points.block_rows() - 1) / points.block_rows();
}

/// sum w (1 - axis . x/|x|), in the unit of weights.
dd sum_complements(const Points& points, const Axis& axis, bool deviations) {
  std::vector<dd> parts(static_cast<std::size_t>(block_count(points)));
  for_tiles(points, axis.pairs(), [&](Tile& tile, std::ptrdiff_t block, std::ptrdiff_t) {
    tile.require_directions();
    tile.set_weights();
    tile.find_complements(axis.pairs(), deviations);
    const auto c = tile.complements();
    for (std::ptrdiff_t i = 0; i < tile.size(); ++i)
      parts[static_cast<std::size_t>(block)] += dd(c.hi[i], c.lo[i]) * tile.weight(i);
  });
  return sum_tree(parts);
}

/// sum w in the unit of weights.
dd sum_weights(const Points& points) {
  if (points.weights.empty()) return static_cast<double>(points.n);
  constexpr std::ptrdiff_t block = 1024;
  std::vector<dd> parts;
  for (std::ptrdiff_t i = 0; i < points.n; i += block) {
    dd sum = 0;
    for (std::ptrdiff_t j = i; j < std::min(i + block, points.n); ++j)
      sum += points.weights[static_cast<std::size_t>(j)] / points.weight_unit;
    parts.push_back(sum);
  }
  return sum_tree(parts);
}

Resultant sum_directions(const Points& points) {
  const std::ptrdiff_t blocks = block_count(points), p = points.p;
  std::vector<double> sums(static_cast<std::size_t>(2 * p * blocks));
  const auto sum_of = [&](std::ptrdiff_t block) {
    double* const hi = sums.data() + 2 * p * block;
    return detail::PairArray{hi, hi + p};
  };
  for_tiles(points, {nullptr, nullptr}, [&](Tile& tile, std::ptrdiff_t block, std::ptrdiff_t) {
    tile.require_directions();
    tile.add_to(sum_of(block));
  });
  sum_tree(blocks, [&](std::ptrdiff_t i, std::ptrdiff_t j) {
    const auto a = sum_of(i), b = sum_of(j);
    for (std::ptrdiff_t k = 0; k < p; ++k) {
      const dd sum = dd(a.hi[k], a.lo[k]) + dd(b.hi[k], b.lo[k]);
      a.hi[k] = sum.hi;
      a.lo[k] = sum.lo;
    }
  });

  const dd weight = sum_weights(points);
  Resultant result;
  result.weight = weight.hi * points.weight_unit;
  detail::require(result.weight <= kernel::largest, points.function, "sum of weights",
                  result.weight, "finite");
  result.count = points.weights.empty()
                     ? points.n
                     : std::ranges::count_if(points.weights, [](double w) { return w > 0; });
  const std::span<double> hi(sum_of(0).hi, static_cast<std::size_t>(p)),
      lo(sum_of(0).lo, hi.size());
  // in units of the weight: nothing below over- or underflows
  dd square = 0;
  for (std::size_t j = 0; j < hi.size(); ++j) {
    const dd mean = dd(hi[j], lo[j]) / weight;
    hi[j] = mean.hi;
    lo[j] = mean.lo;
    square += mean * mean;
  }
  dd length = sqrt(square);
  if (length.hi < least_length) return result;
  const Axis axis(hi, lo);
  result.direction = axis.rounded();
  dd complement = 1.0 - length;
  if (complement.hi < 0x1p60 * product_error(p)) {  // less than 60 bits of it are right
    complement = sum_complements(points, axis, true) / weight;
    length = 1.0 - complement;
  }
  result.length = length.hi;
  result.complement = complement.hi;
  return result;
}

// ---- density ------------------------------------------------------------------------------------

class Density {
 public:
  Density(std::string_view function, const Distribution& distribution)
      : kappa_(distribution.kappa), axis_(checked(function, distribution), {}) {
    const std::ptrdiff_t p = std::ssize(distribution.mu);
    top_ = kernel::vmf_log_normaliser(0.5 * static_cast<double>(p) - 1, kappa_, true);
    deviations_ = kappa_ * product_error(p) > 0x1p-56;
  }
  [[nodiscard]] const Axis& axis() const { return axis_; }
  /// Whether 1 - cosines from sums are not enough.
  [[nodiscard]] bool deviations() const { return deviations_; }

  void evaluate(const Tile& tile, double* out) const {
    const auto c = tile.complements();
    if (kappa_ < 0x1p900) {
      detail::vmf_log_densities(tile.size(), c, kappa_, top_, out);
    } else {
      for (std::ptrdiff_t i = 0; i < tile.size(); ++i) out[i] = sum(1, dd(c.hi[i], c.lo[i]));
    }
  }

  /// weight (log C + kappa) - kappa complement.
  [[nodiscard]] double sum(dd weight, dd complement) const {
    const double lead = kappa_ * complement.hi;
    // the product's low half must not overflow, and the high half may
    if (kappa_ < 0x1p900) return (weight * top_ - complement * kappa_).hi;
    if (!(lead < 0x1p900)) return -lead;
    return (weight * top_ - ldexp(complement, 600) * std::ldexp(kappa_, -600)).hi;
  }

 private:
  static const std::vector<double>& checked(std::string_view function,
                                            const Distribution& distribution) {
    detail::require_distribution(function, "distribution", distribution);
    return distribution.mu;
  }

  double kappa_;
  Axis axis_;
  dd top_;
  bool deviations_ = false;
};

// ---- marginal likelihood of the length ----------------------------------------------------------

struct Evaluation {
  double value, slope;
};

/// The root of a function that rises from negative to positive in [low, high], from `start`:
/// Newton's method in 1/k, in which these functions are all but straight where k is large, kept
/// between what is known to be below and above.
template <class F>
double rising_root(double low, double high, double start, F f) {
  double k = start;
  for (int step = 0; step < 200; ++step) {
    if (!(k > low && k < high))
      k = low > 0 && high > 4 * low ? std::sqrt(low) * std::sqrt(high) : low + 0.5 * (high - low);
    if (!(k > low && k < high)) return k;  // neighbours
    const Evaluation e = f(k);
    if (e.value == 0) return k;
    (e.value < 0 ? low : high) = k;
    const double relative = e.value / (k * e.slope);  // 1/k' = (1 + relative)/k
    if (std::fabs(relative) <= 0x1p-53) return k;
    k = relative > -0.5 ? k / (1 + relative) : low;
  }
  return k;
}

/// l(k) = n log C(k) - log C(n R k), the marginal log-likelihood of R but for what has no k in it.
/// l'(k) = n (R A(n R k) - A(k)).
class Marginal {
 public:
  Marginal(double p, double n, double length, double complement)
      : p_(p), n_(n), length_(length), complement_(complement) {}

  /// A(k) - R A(n R k), which is -l'/n, and its derivative; near A = 1 from what all lack to 1.
  [[nodiscard]] Evaluation fall(double k) const {
    const BesselRatio one = mean_length(p_, k), all = mean_length(p_, n_ * length_ * k);
    const double value = one.value > 0.5 ? (complement_ - one.complement) + length_ * all.complement
                                         : one.value - length_ * all.value;
    return {value, one.derivative - n_ * length_ * length_ * all.derivative};
  }

  /// Where l is largest.
  [[nodiscard]] double best() const {
    // n R^2 - 1, exactly rounded
    const dd excess = kernel::two_prod(length_, length_) * n_ - 1.0;
    if (!(excess.hi > 0)) return 0;
    const double most = complement_ < 0.5 ? kappa_complement(p_, complement_) : kappa(p_, length_);
    // A(k) <= k/p and A(x) >= x/(p/2 + hypot(x, p/2))
    const double least = p_ * std::sqrt(excess.hi / n_);
    const double start = complement_ < 0.5 ? most * ((n_ - 1) / n_) : 0.5 * (least + most);
    return rising_root(0.99 * least, most, start, [this](double k) { return fall(k); });
  }

  /// l(k) without its terms of the size of n k.
  [[nodiscard]] dd log(double k) const {
    const double v = 0.5 * p_ - 1;
    return kernel::vmf_log_normaliser(v, k, true) * n_ -
           kernel::vmf_log_normaliser(v, n_ * length_ * k, true) -
           kernel::two_prod(n_, k) * complement_;
  }

 private:
  double p_, n_, length_, complement_;
};

void require_resultant(std::string_view function, const Resultant& resultant, double p) {
  detail::require(p >= 2 && p <= kernel::largest, function, "p", p, ">= 2 and finite");
  const double length = resultant.length, complement = resultant.complement;
  detail::require(length >= 0 && length <= 1, function, "resultant.length", length, "in [0, 1]");
  detail::require(std::fabs((1 - length) - complement) <= 0x1p-50, function, "resultant.complement",
                  complement, "1 - length");
  detail::require(resultant.weight > 0 && resultant.weight <= kernel::largest, function,
                  "resultant.weight", resultant.weight, "> 0 and finite");
}

// ---- densities and fits of points ---------------------------------------------------------------

void log_density_of(const Distribution& distribution, detail::VmfNumbers points,
                    std::span<double> out, const DataOptions& options) {
  constexpr std::string_view function = "vmf::log_density";
  const Density density(function, distribution);
  const std::ptrdiff_t p = std::ssize(distribution.mu);
  detail::require_size(function, "points", points.size(), std::ssize(out) * p);
  if (out.empty()) return;
  DataOptions unweighted = options;
  unweighted.weights = {};
  const Points rows = make_points(function, points, p, unweighted);
  for_tiles(rows, density.axis().pairs(), [&](Tile& tile, std::ptrdiff_t, std::ptrdiff_t first) {
    alignas(64) double values[detail::vmf_tile];
    tile.find_complements(density.axis().pairs(), density.deviations());
    density.evaluate(tile, values);
    std::copy_n(values, tile.size(), out.data() + first);
  });
}

double log_likelihood_of(const Distribution& distribution, detail::VmfNumbers points,
                         const DataOptions& options) {
  constexpr std::string_view function = "vmf::log_likelihood";
  const Density density(function, distribution);
  const Points rows = make_points(function, points, std::ssize(distribution.mu), options);
  const dd complement = sum_complements(rows, density.axis(), density.deviations());
  return density.sum(sum_weights(rows), complement) * rows.weight_unit;
}

Resultant resultant_of(detail::VmfNumbers points, std::ptrdiff_t p, const DataOptions& options) {
  return sum_directions(make_points("vmf::resultant", points, p, options));
}

Fit fit_of(detail::VmfNumbers points, std::ptrdiff_t p, const FitOptions& options) {
  constexpr std::string_view function = "vmf::fit";
  Fit fit;
  fit.resultant = sum_directions(make_points(function, points, p, options.data));
  const Resultant& r = fit.resultant;
  detail::require(r.count >= 2, function, "rows with weight", r.count, ">= 2");
  detail::require(r.length > 0x1p-53, function, "mean resultant length", r.length,
                  "> 2^-53: every mean direction is as good");
  detail::require(r.complement > 0, function, "1 - mean resultant length", r.complement,
                  "> 0: all rows agree, kappa = inf");
  const auto dimension = static_cast<double>(p);
  double k = 0;
  if (options.correction == BiasCorrection::marginal)
    k = Marginal(dimension, r.weight, r.length, r.complement).best();
  else
    k = r.complement < 0.5 ? kappa_complement(dimension, r.complement) : kappa(dimension, r.length);
  const BesselRatio ratio = mean_length(dimension, k);
  fit.distribution = {r.direction, k};
  fit.kappa_error = 1 / std::sqrt(r.weight * ratio.derivative);
  fit.direction_error = 1 / std::sqrt(r.weight * k * ratio.value);
  const dd mean =
      kernel::vmf_log_normaliser(0.5 * dimension - 1, k, true) - kernel::two_prod(k, r.complement);
  fit.log_likelihood = (mean * r.weight).hi;
  return fit;
}

}  // namespace

// ---- public -------------------------------------------------------------------------------------

void log_density(const Distribution& distribution, std::span<const double> points,
                 std::span<double> out, const DataOptions& options) {
  log_density_of(distribution, detail::VmfNumbers(points), out, options);
}
void log_density(const Distribution& distribution, std::span<const float> points,
                 std::span<double> out, const DataOptions& options) {
  log_density_of(distribution, detail::VmfNumbers(points), out, options);
}

double log_likelihood(const Distribution& distribution, std::span<const double> points,
                      const DataOptions& options) {
  return log_likelihood_of(distribution, detail::VmfNumbers(points), options);
}
double log_likelihood(const Distribution& distribution, std::span<const float> points,
                      const DataOptions& options) {
  return log_likelihood_of(distribution, detail::VmfNumbers(points), options);
}

Resultant resultant(std::span<const double> points, std::ptrdiff_t p, const DataOptions& options) {
  return resultant_of(detail::VmfNumbers(points), p, options);
}
Resultant resultant(std::span<const float> points, std::ptrdiff_t p, const DataOptions& options) {
  return resultant_of(detail::VmfNumbers(points), p, options);
}

Fit fit(std::span<const double> points, std::ptrdiff_t p, const FitOptions& options) {
  return fit_of(detail::VmfNumbers(points), p, options);
}
Fit fit(std::span<const float> points, std::ptrdiff_t p, const FitOptions& options) {
  return fit_of(detail::VmfNumbers(points), p, options);
}

Interval kappa_interval(const Resultant& resultant, double p, double level) {
  constexpr std::string_view function = "vmf::kappa_interval";
  require_resultant(function, resultant, p);
  detail::require(resultant.complement > 0, function, "resultant.complement", resultant.complement,
                  "> 0: all rows agree");
  detail::require(level > 0 && level < 1, function, "level", level, "in (0, 1)");
  const double n = resultant.weight;
  const double root = boost::math::erf_inv(level), half_quantile = root * root;
  const Marginal marginal(p, n, resultant.length, resultant.complement);
  const double best = marginal.best();
  const dd top = marginal.log(best);
  // what l has fallen by, beyond what it may; its slope is n (A(k) - R A(n R k))
  const auto fallen = [&](double k) { return ((top - marginal.log(k)) - half_quantile).hi; };
  const auto above = [&](double k) { return Evaluation{fallen(k), n * marginal.fall(k).value}; };
  const auto below = [&](double k) { return Evaluation{-fallen(k), -n * marginal.fall(k).value}; };
  // half the width as l were a parabola
  const double width = std::sqrt(2 * half_quantile / (n * marginal.fall(best).slope));
  double high = best + (width < 1e300 ? width : p);
  while (fallen(high) < 0) high += 2 * (high - best);
  const double upper = rising_root(best, high, best + 0.9 * (high - best), above);
  if (!(best > 0) || fallen(0) <= 0) return {0, upper};
  return {rising_root(0, best, best - width, below), upper};
}

Uniformity uniformity(const Resultant& resultant, double p) {
  constexpr std::string_view function = "vmf::uniformity";
  require_resultant(function, resultant, p);
  const double n = resultant.weight;
  detail::require(n >= 1, function, "resultant.weight", n, ">= 1");
  const double s = n * p * resultant.length * resultant.length;
  const double statistic = (1 - 0.5 / n) * s + s * s / (2 * n * (p + 2));
  namespace policies = boost::math::policies;
  constexpr policies::policy<policies::domain_error<policies::ignore_error>,
                             policies::overflow_error<policies::ignore_error>,
                             policies::evaluation_error<policies::ignore_error>>
      quiet;
  return {statistic, boost::math::gamma_q(0.5 * p, 0.5 * statistic, quiet)};
}

}  // namespace halfulp::vmf
