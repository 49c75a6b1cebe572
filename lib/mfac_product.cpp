#include "detail/mfac_product.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "detail/require.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac::detail {
namespace {

using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

constexpr double half_ulp = 0x1p-53;
constexpr double unit_extended = 0x1p-98;  // of sums and factors in double-double
constexpr double unit_sums = 0x1p-51;      // of sums over d in double
constexpr int most_refinements = 8;
constexpr double eigen_share = 4;  // rounding of a spectrum beside that of a factor
/// Squares of vectors between these can be added and multiplied without care.
constexpr double least_square = 0x1p-900, largest_square = 0x1p900;

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

template <class T>
constexpr double rounding_of() {
  return std::is_same_v<T, float> ? 0x1p-25 : half_ulp;
}

/// Products with a larger estimate are refined: 16 cond(H) 2^-52, and in any case what a float
/// would show.
template <class T>
double tolerance(const Core& core) {
  if (std::is_same_v<T, float>) return 0x1p-27;
  return std::clamp(16 * 0x1p-52 * core.condition(), 0x1p-46, 0x1p-27);
}

double square_of(std::span<const double> x) {
  double square = 0;
  for (const double value : x) square += value * value;
  return square;
}
double norm_of(std::span<const double> x) {
  const double square = square_of(x);
  if (square >= least_square && square <= largest_square) return std::sqrt(square);
  double largest = 0;
  for (const double value : x) largest = std::fmax(largest, std::fabs(value));
  if (!(largest > 0) || !std::isfinite(largest)) return largest;
  double sum = 0;
  for (const double value : x) sum += value / largest * (value / largest);
  return largest * std::sqrt(sum);
}

/// |factor y| over the block, with sums in blocks of fixed size.
template <class T>
double scaled_norm(const T* y, Size n, double factor, int threads) {
  constexpr Size block = 1 << 16;
  Numbers parts(at((n + block - 1) / block));
  parallel_blocks(n, block, threads, [&](Size begin, Size end) {
    double lanes[8] = {};
    Size j = begin;
    for (; j + 8 <= end; j += 8)
      for (Size l = 0; l < 8; ++l) {
        const double value = factor * static_cast<double>(y[j + l]);
        lanes[l] += value * value;
      }
    for (; j < end; ++j) {
      const double value = factor * static_cast<double>(y[j]);
      lanes[0] += value * value;
    }
    parts[at(begin / block)] = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                               ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  });
  return std::sqrt(tree_sum(parts, 1));
}

std::span<const double> column(const DdMatrix& a) {
  return {a.hi(0), static_cast<std::size_t>(a.rows())};
}

/// |G^T A^-1 dA a| <= this |dA|/|A| |a|.
double core_weight(const Core& core) { return core.rho() * (core.largest() + core.shift()); }

DdMatrix as_matrix(const double* x, Size n) {
  DdMatrix matrix(n, 1);
  std::copy_n(x, n, matrix.hi(0));
  return matrix;
}

// ---- multiples of rows
// ---------------------------------------------------------------------------

/// x, of the block alone, is t g_j to the last bit: which row, and t.
struct RowMultiple {
  Size row = -1;
  double factor = 0;
};

template <class T>
bool is_multiple(const Gradients& gradients, Columns columns, const T* x, Size row,
                 double& factor) {
  constexpr Size block = 4096;
  Numbers g(at(std::min(block, columns.end - columns.begin)));
  factor = 0;
  for (Size begin = columns.begin; begin < columns.end; begin += block) {
    const Size end = std::min(begin + block, columns.end);
    load(gradients, row, row + 1, begin, end, g.data(), block);
    for (Size j = 0; j < end - begin; ++j) {
      const double value = x[begin - columns.begin + j];
      if (g[at(j)] == 0) {
        if (value != 0) return false;
        continue;
      }
      if (factor == 0) factor = value / g[at(j)];
      if (factor == 0) return false;
      const dd product = kernel::two_prod(factor, g[at(j)]);
      if (!(product.hi == value && product.lo == 0)) return false;
    }
  }
  return factor != 0;
}

/// By the inequality of Cauchy and Schwarz, (g_j . x)^2 = |g_j|^2 |x|^2 for multiples only; the
/// numbers decide.
template <class T>
RowMultiple find_row(const Gradients& gradients, const Core& core, const T* x, const double* dots,
                     double square) {
  if (!(square > 0)) return {};
  const double norm = std::sqrt(square);
  for (Size j = 0; j < core.size(); ++j) {
    double factor = 0;
    if (std::fabs(dots[j]) >= (1 - 1e-3) * norm * std::sqrt(core.diagonal(j)) && dots[j] != 0 &&
        is_multiple(gradients, core.columns(), x, j, factor))
      return {j, factor};
  }
  return {};
}

// ---- one vector, with sums in double-double -----------------------------------------------------

/// x, or G^T a with x empty; of the block alone, and not so large or small that squares are lost.
struct RightSide {
  std::span<const double> x;
  std::span<const double> a;
};

struct Product {
  Numbers y;
  double relative = 0;
  double norm = 0;  ///< lambda |y|
};

class Refiner {
 public:
  Refiner(const Gradients& gradients, const Core& core, const Options& options, int threads)
      : gradients_(gradients),
        core_(core),
        lambda_(options.damping),
        m_(static_cast<double>(gradients.rows())),
        threads_(threads) {}

  /// y += H^-1 (b - H y) from y = 0 on, until the estimate is below `target` and at least `least`
  /// times beyond the first. What does not converge is taken in double-double.
  Product refined(const RightSide& b, double target, int least) const {
    if (core_.extended_only()) return extended(b);
    Product p;
    double before = std::numeric_limits<double>::infinity();
    for (int step = 0;; ++step) {
      const Product change = step > 0 ? solved({residual(b, p.y), {}}) : solved(b);
      if (step == 0) p.y.assign(change.y.size(), 0.0);
      for (std::size_t j = 0; j < p.y.size(); ++j) p.y[j] += change.y[j];
      p.norm = scaled_norm(p.y.data(), std::ssize(p.y), lambda_, threads_);
      p.relative = half_ulp;
      if (change.norm > 0) p.relative += change.norm * change.relative / p.norm;
      const bool slow = change.norm > 0.3 * before;
      before = change.norm;
      if (step < least) continue;
      if (!core_.may_extend() || p.relative <= target) return p;
      if ((step > 0 && slow) || step == most_refinements) return extended(b);
    }
  }

  /// The same with the core in double-double.
  [[nodiscard]] Product extended(const RightSide& b) const {
    Product p{Numbers(at(core_.width())), half_ulp, 0};
    double error = 0;  // beside the last rounding, of lambda y
    const DdMatrix& r = core_.extended().factor.r;
    const auto solve = [&](DdMatrix c) {
      return halfulp::detail::solve_upper(r,
                                          halfulp::detail::solve_upper_transposed(r, std::move(c)));
    };
    if (core_.by_columns()) {
      DdMatrix x(core_.width(), 1);
      if (b.a.empty())
        x = as_matrix(b.x.data(), core_.width());
      else
        combine_extended(gradients_, core_.columns(), as_matrix(b.a.data(), gradients_.rows()),
                         threads_, [&](Size j, dd value) { x.set(j, 0, value); });
      const DdMatrix z = solve(std::move(x));
      for (Size j = 0; j < core_.width(); ++j) p.y[at(j)] = (z(j, 0) * m_).hi;
      p.relative += unit_extended * core_.core_condition();
    } else if (b.a.empty()) {
      DdMatrix a = project_extended(gradients_, core_.columns(), b.x, threads_);
      const RowMultiple row = find_row(gradients_, core_, b.x.data(), a.hi(0), square_of(b.x));
      if (row.row >= 0) {
        Numbers unit(at(gradients_.rows()));
        unit[at(row.row)] = row.factor;
        return extended({{}, unit});
      }
      a = solve(std::move(a));
      combine_extended(gradients_, core_.columns(), a, threads_,
                       [&](Size j, dd value) { p.y[at(j)] = ((b.x[at(j)] - value) / lambda_).hi; });
      error = unit_extended * (norm_of(b.x) + core_weight(core_) * norm_of(column(a)));
    } else {
      const DdMatrix z = solve(as_matrix(b.a.data(), gradients_.rows()));
      combine_extended(gradients_, core_.columns(), z, threads_,
                       [&](Size j, dd value) { p.y[at(j)] = (value * m_).hi; });
      error = unit_extended * core_weight(core_) * core_.shift() * norm_of(column(z));
    }
    p.norm = scaled_norm(p.y.data(), std::ssize(p.y), lambda_, threads_);
    if (p.norm > 0) p.relative += error / p.norm;
    return p;
  }

 private:
  /// b - H y, rounded once: G^T (a - G y/m) + x - lambda y.
  [[nodiscard]] Numbers residual(const RightSide& b, const Numbers& y) const {
    DdMatrix c = project_extended(gradients_, core_.columns(), y, threads_);
    for (Size i = 0; i < c.rows(); ++i) {
      const dd a = b.a.empty() ? dd(0.0) : dd(b.a[at(i)]);
      c.set(i, 0, a - c(i, 0) / m_);
    }
    Numbers r(y.size());
    combine_extended(gradients_, core_.columns(), c, threads_, [&](Size j, dd value) {
      const dd x = b.x.empty() ? dd(0.0) : dd(b.x[at(j)]);
      r[at(j)] = (value + (x - kernel::two_prod(lambda_, y[at(j)]))).hi;
    });
    return r;
  }

  /// H^-1 b with the core in double.
  [[nodiscard]] Product solved(const RightSide& b) const {
    Product p{Numbers(at(core_.width())), 0, 0};
    const double core_unit = core_.core_unit();
    if (core_.by_columns()) {
      if (b.a.empty())
        p.y.assign(b.x.begin(), b.x.end());
      else
        combine_extended(gradients_, core_.columns(), as_matrix(b.a.data(), gradients_.rows()),
                         threads_, [&](Size j, dd value) { p.y[at(j)] = value.hi; });
      core_.solve(1, p.y.data());
      for (double& value : p.y) value *= m_;
      p.norm = scaled_norm(p.y.data(), std::ssize(p.y), lambda_, threads_);
      p.relative = core_unit * core_.core_condition();
      return p;
    }
    Numbers a(b.a.begin(), b.a.end());
    if (b.a.empty()) {
      const DdMatrix c = project_extended(gradients_, core_.columns(), b.x, threads_);
      a.assign(c.hi(0), c.hi(0) + c.rows());
    }
    core_.solve(1, a.data());
    combine_extended(gradients_, core_.columns(), as_matrix(a.data(), std::ssize(a)), threads_,
                     [&](Size j, dd value) {
                       p.y[at(j)] =
                           b.a.empty() ? ((b.x[at(j)] - value) / lambda_).hi : (value * m_).hi;
                     });
    p.norm = scaled_norm(p.y.data(), std::ssize(p.y), lambda_, threads_);
    const double scale = b.a.empty() ? 1 : core_.shift();
    const double error = core_unit * core_weight(core_) * scale * norm_of(a);
    p.relative = p.norm > 0 ? half_ulp + error / p.norm : 0;
    return p;
  }

  const Gradients& gradients_;
  const Core& core_;
  double lambda_, m_;
  int threads_;
};

/// The factor 2^e by which x is divided so that its squares can be taken.
int exponent_of(std::span<const double> x) {
  double largest = 0;
  for (const double value : x) largest = std::fmax(largest, std::fabs(value));
  return largest > 0 ? std::ilogb(largest) : 0;
}

template <class T>
void check_finite(const char* function, const T* x, Size n, Size first) {
  const T* const bad = std::find_if(x, x + n, [](T value) { return !std::isfinite(value); });
  if (bad != x + n)
    throw DomainError(function, "x[" + std::to_string(first + (bad - x)) + "]",
                      static_cast<double>(*bad), "finite");
}

/// The product with one vector of the block, wherever the fast way does not do.
template <class T>
Outcome careful(const char* function, const Refiner& refiner, const Core& core,
                const Options& options, std::span<const T> x, std::span<const double> a, Size first,
                T* y) {
  const Size n = core.width();
  Numbers right(x.begin(), x.end());
  if (a.empty()) {
    check_finite(function, x.data(), n, first);
  } else {
    right.assign(a.begin(), a.end());
  }
  const int exponent = exponent_of(right);
  for (double& value : right) value = std::ldexp(value, -exponent);
  if (std::all_of(right.begin(), right.end(), [](double value) { return value == 0; })) {
    std::fill_n(y, n, T{0});
    return {};
  }
  const RightSide b = a.empty() ? RightSide{right, {}} : RightSide{{}, right};
  const double target = std::is_same_v<T, float> ? 0x1p-32 : 0x1p-50;
  const Product p = refiner.refined(b, target, options.refinements);
  for (Size j = 0; j < n; ++j) y[j] = static_cast<T>(std::ldexp(p.y[at(j)], exponent));
  return {p.relative + (std::is_same_v<T, float> ? rounding_of<T>() : 0),
          std::ldexp(p.norm, exponent)};
}

// ---- several vectors ----------------------------------------------------------------------------

/// The estimate for y = (x or 0)/lambda + G^T b: |x| rounded in passes, b by the core and the
/// passes, and G x by |G| |x|, however small it is itself: G^T A^-1 is applied to that. All is
/// times lambda.
double relative_error(const Core& core, double core_unit, double x_norm, double b_norm,
                      double y_norm) {
  if (!(y_norm > 0)) return 0;
  const double sigma = std::sqrt(core.largest());
  const double core_part = core_unit * core_weight(core);
  const double pass_part = core.pass_unit() * sigma;
  return (core.pass_unit() * (1 + core.rho() * sigma) * x_norm + (core_part + pass_part) * b_norm) /
         y_norm;
}

template <class T>
void product_of_columns(const char* function, const Core& core, const Options& options,
                        const Refiner& refiner, std::span<const T> x, Size d, Size k,
                        std::span<T> y, std::span<Outcome> outcomes) {
  const Size n = core.width(), begin = core.columns().begin;
  const double m = core.shift() / options.damping;
  const double relative = core.core_unit() * core.core_condition();
  const bool refine = core.extended_only() || options.refinements > 0 ||
                      (core.may_extend() && relative > tolerance<T>(core));
  Numbers z(at(n * k));
  if (!refine) {
    for (Size c = 0; c < k; ++c) std::copy_n(x.data() + c * d + begin, n, z.data() + c * n);
    for (Size c = 0; c < k; ++c) check_finite(function, z.data() + c * n, n, c * d + begin);
    core.solve(k, z.data());
  }
  for (Size c = 0; c < k; ++c) {
    T* const out = y.data() + c * d + begin;
    const auto part = x.subspan(at(c * d + begin), at(n));
    if (!refine)
      for (Size j = 0; j < n; ++j) out[j] = static_cast<T>(m * z[at(c * n + j)]);
    const double norm = refine ? 0 : scaled_norm(out, n, options.damping, 1);
    if (refine || !std::isfinite(norm))
      outcomes[at(c)] = careful<T>(function, refiner, core, options, part, {}, c * d + begin, out);
    else
      outcomes[at(c)] = {relative + rounding_of<T>(), norm};
  }
}

template <class T>
void inverse_product(const char* function, const Gradients& gradients, const Core& core,
                     const Options& options, std::span<const T> x, Size k, std::span<T> y,
                     int threads, std::span<Outcome> outcomes, Projections known) {
  const Size d = gradients.dimension(), m = gradients.rows(), n = core.width();
  const Columns columns = core.columns();
  const Refiner refiner(gradients, core, options, threads);
  const auto take_care = [&](Size c, std::span<const double> a = {}) {
    outcomes[at(c)] =
        careful<T>(function, refiner, core, options,
                   a.empty() ? x.subspan(at(c * d + columns.begin), at(n)) : std::span<const T>{},
                   a, c * d + columns.begin, y.data() + c * d + columns.begin);
  };
  if (core.by_columns()) {
    product_of_columns<T>(function, core, options, refiner, x, d, k, y, outcomes);
    return;
  }
  if (core.extended_only() || options.refinements > 0) {
    for (Size c = 0; c < k; ++c) take_care(c);
    return;
  }
  if (known.dots.empty()) {
    known = {Numbers(at(k * m)), Numbers(at(k))};
    project(gradients, columns, x, k, options.products, threads, std::span(known.dots),
            std::span(known.squares));
  }
  // y = x/lambda + G^T b with b = -A^-1 G x/lambda; a multiple t g_j of a row is y = G^T b with
  // b = t m A^-1 e_j.
  Numbers b = known.dots;
  std::vector<RowMultiple> row(at(k));
  std::vector<char> by_itself(at(k));
  bool all_plain = true, all_rows = true;
  for (Size c = 0; c < k; ++c) {
    const double square = known.squares[at(c)];
    by_itself[at(c)] = !(square >= least_square && square <= largest_square);
    double* const part = b.data() + c * m;
    if (by_itself[at(c)] == 0)
      row[at(c)] = find_row(gradients, core, x.data() + c * d + columns.begin, part, square);
    if (row[at(c)].row >= 0) {
      std::fill_n(part, m, 0.0);
      part[row[at(c)].row] = row[at(c)].factor * static_cast<double>(m);
    } else if (by_itself[at(c)] == 0) {
      for (Size i = 0; i < m; ++i) part[i] /= -options.damping;
    } else {
      std::fill_n(part, m, 0.0);
    }
    all_plain = all_plain && row[at(c)].row < 0;
    all_rows = all_rows && row[at(c)].row >= 0;
  }
  const Numbers right = b;
  core.solve(k, b.data());
  const double inverse = 1 / options.damping;
  if (all_plain) {
    combine<T>(gradients, columns, b, k, inverse, x, options.products, threads, y);
  } else if (all_rows) {
    combine<T>(gradients, columns, b, k, 0, {}, options.products, threads, y);
  } else {
    for (Size c = 0; c < k; ++c) {
      const bool plain = row[at(c)].row < 0;
      combine<T>(gradients, columns, std::span(b).subspan(at(c * m), at(m)), 1, plain ? inverse : 0,
                 plain ? x.subspan(at(c * d), at(d)) : std::span<const T>{}, options.products,
                 threads, y.subspan(at(c * d), at(d)));
    }
  }
  for (Size c = 0; c < k; ++c) {
    if (by_itself[at(c)] != 0) {
      take_care(c);
      continue;
    }
    const std::span part = std::span(b).subspan(at(c * m), at(m));
    const bool plain = row[at(c)].row < 0;
    const double b_norm = options.damping * norm_of(part);  // times lambda, as all here
    // lambda^2 |y|^2 from m numbers: |x - G^T a|^2 = |x|^2 - a.Gx - m lambda |a|^2 with a = -lambda
    // b, and |G^T b|^2 = b.(A b) - m lambda |b|^2
    double along = 0;  // of factors that lambda has brought into range
    for (Size i = 0; i < m; ++i)
      along += options.damping * part[at(i)] * (options.damping * right[at(c * m + i)]);
    const double whole = plain ? known.squares[at(c)] : along;
    const double share = std::sqrt(core.shift()) * b_norm;
    const double square = (plain ? whole - along : along) - share * share;
    double norm = std::sqrt(std::fmax(square, 0.0));
    if (!(square > 1e-3 * whole))
      norm = scaled_norm(y.data() + c * d + columns.begin, n, options.damping, threads);
    const double relative =
        relative_error(core, core.core_unit(), plain ? std::sqrt(whole) : 0, b_norm, norm) +
        rounding_of<T>();
    outcomes[at(c)] = {relative, norm};
    if (core.may_extend() && relative - rounding_of<T>() > tolerance<T>(core)) {
      if (plain) {
        take_care(c);
      } else {
        Numbers a(at(m));
        a[at(row[at(c)].row)] = row[at(c)].factor;
        take_care(c, a);
      }
    }
  }
}

// ---- the square root ----------------------------------------------------------------------------

/// H^-1/2 = lambda^-1/2 (I - G^T M G) with M = U diag(f(s)) U^T over the eigenvalues s of S,
///     f(s) = (1 - 1/sqrt(1 + t))/s = 1/(m lambda (1 + sqrt(1 + t)) sqrt(1 + t)),   t = s/(m
///     lambda);
/// H^-1/2 G^T = sqrt(m) G^T A^-1/2; of a block by columns H^-1/2 = sqrt(m) A^-1/2.
/// `weight(s)` is f or (m lambda + s)^-1/2.
template <class Weight>
void apply_eigen(const Core& core, Weight weight, double* v) {
  const Eigen& e = core.eigen();
  const int n = static_cast<int>(core.size());
  Numbers t(at(n));
  cblas_dgemv(CblasColMajor, CblasTrans, n, n, 1.0, e.vectors.data(), n, v, 1, 0.0, t.data(), 1);
  for (Size i = 0; i < n; ++i) t[at(i)] *= weight(e.values[at(i)]);
  cblas_dgemv(CblasColMajor, CblasNoTrans, n, n, 1.0, e.vectors.data(), n, t.data(), 1, 0.0, v, 1);
}

template <class Weight>
DdMatrix apply_extended_eigen(const Core& core, Weight weight, const DdMatrix& v) {
  const auto& e = core.extended_eigen();
  DdMatrix t = halfulp::detail::multiply_transposed(e.vectors, v, 1);
  for (Size i = 0; i < t.rows(); ++i) {
    const dd value = e.values[at(i)];
    t.set(i, 0, t(i, 0) * weight(value.hi > 0 ? value : dd(0.0)));
  }
  return halfulp::detail::multiply(e.vectors, t, 1);
}

template <class Real>
auto root_weight(Real shift) {
  return [shift](Real s) {
    using std::sqrt;
    const Real root = sqrt(Real(1.0) + s / shift);
    return Real(1.0) / (shift * (Real(1.0) + root) * root);
  };
}
template <class Real>
auto inverse_root_weight(Real shift) {
  return [shift](Real s) {
    using std::sqrt;
    return Real(1.0) / sqrt(shift + s);
  };
}

/// One vector of the block in double-double.
Product extended_root_product(const Gradients& gradients, const Core& core, const Options& options,
                              std::span<const double> x, int threads) {
  const Size n = core.width();
  const auto m = static_cast<double>(gradients.rows());
  const dd shift = kernel::two_prod(m, options.damping), root = sqrt(dd(options.damping));
  Product p{Numbers(at(n)), extended_error(core), 0};
  if (core.by_columns()) {
    const DdMatrix v =
        apply_extended_eigen(core, inverse_root_weight(shift), as_matrix(x.data(), n));
    for (Size j = 0; j < n; ++j) p.y[at(j)] = (v(j, 0) * sqrt(dd(m))).hi;
  } else {
    const DdMatrix v = apply_extended_eigen(
        core, root_weight(shift), project_extended(gradients, core.columns(), x, threads));
    combine_extended(gradients, core.columns(), v, threads,
                     [&](Size j, dd value) { p.y[at(j)] = ((x[at(j)] - value) / root).hi; });
  }
  p.norm = scaled_norm(p.y.data(), n, root.hi, threads);
  return p;
}

template <class T>
void inverse_root_product(const char* function, const Gradients& gradients, const Core& core,
                          const Options& options, std::span<const T> x, Size k, std::span<T> y,
                          int threads, std::span<Outcome> outcomes) {
  const Size d = gradients.dimension(), m = gradients.rows(), n = core.width();
  const Columns columns = core.columns();
  const double root = std::sqrt(options.damping);
  const auto rows = static_cast<double>(m);
  for (Size c = 0; c < k; ++c)
    check_finite(function, x.data() + c * d + columns.begin, n, c * d + columns.begin);
  if (!core.extended_only()) {
    Numbers v(at(core.size() * k)), squares(at(k));
    if (core.by_columns()) {
      for (Size c = 0; c < k; ++c) {
        std::copy_n(x.data() + c * d + columns.begin, n, v.data() + c * n);
        apply_eigen(core, inverse_root_weight(core.shift()), v.data() + c * n);
        for (Size j = 0; j < n; ++j)
          y[at(c * d + columns.begin + j)] = static_cast<T>(std::sqrt(rows) * v[at(c * n + j)]);
      }
    } else {
      project(gradients, columns, x, k, options.products, threads, std::span(v),
              std::span(squares));
      for (Size c = 0; c < k; ++c) apply_eigen(core, root_weight(core.shift()), v.data() + c * m);
      for (double& value : v) value /= -root;
      combine<T>(gradients, columns, v, k, 1 / root, x, options.products, threads, y);
    }
    for (Size c = 0; c < k; ++c) {
      Outcome& out = outcomes[at(c)];
      out.norm = scaled_norm(y.data() + c * d + columns.begin, n, root, threads);
      if (core.by_columns()) {
        out.relative = eigen_share * core.core_unit() * core.core_condition();
      } else if (out.norm > 0) {
        const double b_norm = root * norm_of(std::span<const double>(v).subspan(at(c * m), at(m)));
        out.relative = relative_error(core, eigen_share * core.core_unit(),
                                      std::sqrt(squares[at(c)]), b_norm, out.norm);
      }
    }
  }
  for (Size c = 0; c < k; ++c) {
    Outcome& out = outcomes[at(c)];
    // a norm that over- or underflowed, or one too small beside |x|: again, scaled
    const bool again = core.extended_only() || !(out.norm > 0x1p-450 && out.norm < 0x1p450) ||
                       (core.may_extend() && out.relative > tolerance<T>(core));
    if (again) {
      const T* const in = x.data() + c * d + columns.begin;
      Numbers part(in, in + n);
      const int exponent = exponent_of(part);
      for (double& value : part) value = std::ldexp(value, -exponent);
      if (std::all_of(part.begin(), part.end(), [](double value) { return value == 0; })) {
        std::fill_n(y.data() + c * d + columns.begin, n, T{0});
        out = {};
        continue;
      }
      const Product p = extended_root_product(gradients, core, options, part, threads);
      for (Size j = 0; j < n; ++j)
        y[at(c * d + columns.begin + j)] = static_cast<T>(std::ldexp(p.y[at(j)], exponent));
      out = {p.relative, std::ldexp(p.norm, exponent)};
    }
    out.relative += rounding_of<T>();
  }
}

}  // namespace

double worst_product_error(const Core& core) {
  if (core.extended_only()) return extended_error(core);
  if (core.may_extend()) return tolerance<double>(core) + half_ulp;
  const double kappa = core.condition();
  if (core.by_columns()) return core.core_unit() * core.core_condition();
  return kappa *
         (core.pass_unit() + core.core_unit() * (1 + core.rho() * std::sqrt(core.largest())));
}

double extended_error(const Core& core) {
  return half_ulp + unit_extended * core.condition() *
                        (core.by_columns() ? 1 : 1 + core.rho() * std::sqrt(core.largest()));
}
double extended_entry_error(const Core& core, double norms, double value) {
  const double error = unit_extended * core.core_condition() * norms;
  return half_ulp + (error > 0 ? error / std::fabs(value) : 0);
}

template <class T>
void product(const char* function, const Gradients& gradients, const Core& core,
             const Options& options, Power power, std::span<const T> x, Size k, std::span<T> y,
             int threads, std::span<Outcome> outcomes, Projections known) {
  if (power == Power::inverse)
    inverse_product<T>(function, gradients, core, options, x, k, y, threads, outcomes,
                       std::move(known));
  else
    inverse_root_product<T>(function, gradients, core, options, x, k, y, threads, outcomes);
}

template <class T>
void combination(const Gradients& gradients, const Core& core, const Options& options,
                 std::span<const double> a, Size k, std::span<T> y, int threads,
                 std::span<Outcome> outcomes) {
  const Size d = gradients.dimension(), m = gradients.rows(), n = core.width();
  const Columns columns = core.columns();
  const Refiner refiner(gradients, core, options, threads);
  const auto take_care = [&](Size c) {
    outcomes[at(c)] = careful<T>("", refiner, core, options, {}, a.subspan(at(c * m), at(m)), 0,
                                 y.data() + c * d + columns.begin);
  };
  if (core.extended_only() || options.refinements > 0 || core.by_columns()) {
    for (Size c = 0; c < k; ++c) take_care(c);
    return;
  }
  // y = G^T b with b = m A^-1 a
  Numbers b(a.begin(), a.end());
  core.solve(k, b.data());
  for (double& value : b) value *= static_cast<double>(m);
  combine<T>(gradients, columns, b, k, 0, {}, options.products, threads, y);
  for (Size c = 0; c < k; ++c) {
    const double norm = scaled_norm(y.data() + c * d + columns.begin, n, options.damping, threads);
    const double b_norm = options.damping * norm_of(std::span(b).subspan(at(c * m), at(m)));
    const double relative = relative_error(core, core.core_unit(), 0, b_norm, norm);
    outcomes[at(c)] = {relative + rounding_of<T>(), norm};
    const bool odd = !(norm > 0x1p-450 && norm < 0x1p450);
    if (core.may_extend() && (relative > tolerance<T>(core) || odd)) take_care(c);
  }
}

namespace {

/// One quadratic form, with sums over d in double-double, and the core too if `extended`.
double careful_form(const Gradients& gradients, const Core& core, double lambda,
                    std::span<const double> x, bool extended, int threads) {
  const Size n = core.width(), m = gradients.rows();
  const int size = static_cast<int>(core.size());
  const auto rows = static_cast<double>(m);
  Numbers part(x.begin(), x.end());
  const int exponent = exponent_of(part);
  for (double& value : part) value = std::ldexp(value, -exponent);
  double value = 0;
  if (core.by_columns()) {
    if (extended) {
      const DdMatrix w = halfulp::detail::solve_upper_transposed(core.extended().factor.r,
                                                                 as_matrix(part.data(), n));
      value = rows * halfulp::detail::dot(n, w.hi(0), w.lo(0), w.hi(0), w.lo(0)).hi;
    } else {
      core.solve_lower(1, part.data());
      value = rows * cblas_ddot(size, part.data(), 1, part.data(), 1);
    }
  } else {
    DdMatrix a = project_extended(gradients, core.columns(), part, threads);
    if (extended) {
      const DdMatrix& factor = core.extended().factor.r;
      a = halfulp::detail::solve_upper(
          factor, halfulp::detail::solve_upper_transposed(factor, std::move(a)));
    } else {
      core.solve(1, a.hi(0));
      std::fill_n(a.lo(0), m, 0.0);
    }
    Numbers r(at(n));
    combine_extended(gradients, core.columns(), a, threads,
                     [&](Size j, dd sum) { r[at(j)] = (part[at(j)] - sum).hi; });
    const double rest = scaled_norm(r.data(), n, 1, threads);
    value = rest * rest / lambda + rows * cblas_ddot(size, a.hi(0), 1, a.hi(0), 1);
  }
  return std::ldexp(value, 2 * exponent);
}

}  // namespace

double quadratic_form(const Gradients& gradients, const Core& core, const Options& options,
                      std::span<const double> x, Size k, int threads, std::span<double> out) {
  const Size d = gradients.dimension(), m = gradients.rows(), n = core.width();
  const Columns columns = core.columns();
  const double kappa = core.condition();
  // Rows: x^T H^-1 x = min over a of |x - G^T a|^2/lambda + m |a|^2, which a = A^-1 G x attains: an
  // error of a counts by its square, no term is negative, and |x - G^T a| is not above
  // sqrt(lambda times the form), |x| not above sqrt(cond(H)) times that. Columns: m |L^-1 x|^2.
  const double of_core = core.core_unit() * kappa, of_sums = unit_sums * kappa;
  const double relative = core.by_columns() ? core.core_unit() * core.core_condition()
                                            : of_core * of_core + of_sums * of_sums +
                                                  16 * unit_sums * (1 + std::sqrt(kappa));
  const bool extended = core.extended_only() ||
                        (core.may_extend() && of_core * of_core > 0x1p-48 * kappa) ||
                        (core.may_extend() && core.by_columns() && relative > 0x1p-48 * kappa);
  const auto part_of_block = [&](Size c) { return x.subspan(at(c * d + columns.begin), at(n)); };
  const auto carefully = [&](Size c) {
    out[at(c)] =
        careful_form(gradients, core, options.damping, part_of_block(c), extended, threads);
  };
  if (extended || (!core.by_columns() && n < d)) {
    for (Size c = 0; c < k; ++c) carefully(c);
    return extended ? 8 * extended_error(core) : relative;
  }
  double worst = 0;
  // So many vectors share two passes: their rests x - G^T a lie side by side.
  const Size chunk = std::clamp<Size>((Size{1} << 24) / d, 1, 32);
  for (Size first = 0; first < k; first += chunk) {
    const Size count = std::min(chunk, k - first);
    if (core.by_columns()) {
      Numbers w(at(n * count));
      for (Size c = 0; c < count; ++c)
        std::copy_n(part_of_block(first + c).begin(), n, w.begin() + c * n);
      core.solve_lower(count, w.data());
      for (Size c = 0; c < count; ++c) {
        const double square =
            cblas_ddot(static_cast<int>(n), w.data() + c * n, 1, w.data() + c * n, 1);
        out[at(first + c)] = static_cast<double>(m) * square;
        if (!(square >= least_square && square <= largest_square)) carefully(first + c);
      }
    } else {
      const auto given = x.subspan(at(first * d), at(count * d));
      Numbers a(at(m * count)), squares(at(count)), rest(at(count * d));
      project(gradients, columns, given, count, Accumulation::float64, threads, std::span(a),
              std::span(squares));
      core.solve(count, a.data());
      for (double& value : a) value = -value;
      combine<double>(gradients, columns, a, count, 1, given, Accumulation::float64, threads,
                      std::span(rest));
      for (Size c = 0; c < count; ++c) {
        const double norm = scaled_norm(rest.data() + c * d, d, 1, threads);
        const double of_a =
            cblas_ddot(static_cast<int>(m), a.data() + c * m, 1, a.data() + c * m, 1);
        const double form = norm * norm / options.damping + static_cast<double>(m) * of_a;
        out[at(first + c)] = form;
        const double square = squares[at(c)];
        if (!(square >= least_square && square <= largest_square)) {
          carefully(first + c);
          worst = std::fmax(worst, square > 0 ? relative : 0);
          continue;
        }
        const double rounded =
            (std::sqrt(square) + std::sqrt(core.largest() * of_a)) * norm / options.damping;
        worst = std::fmax(worst, (of_core * of_core * static_cast<double>(m) * of_a +
                                  unit_sums * unit_sums * kappa * square / options.damping +
                                  16 * unit_sums * (form + rounded)) /
                                     form);
      }
    }
  }
  return core.by_columns() ? relative : worst;
}

void influence(const Gradients& gradients, const Core& core, const Options& options,
               std::span<const double> x, Size k, int threads, std::span<double> out,
               std::span<Outcome> outcomes) {
  const Size d = gradients.dimension(), m = gradients.rows(), n = core.width();
  const Columns columns = core.columns();
  const auto rows = static_cast<double>(m);
  const double sigma = std::sqrt(core.largest());
  const double smallest = (core.largest() + core.shift()) / core.core_condition();  // of A
  const auto out_of = [&](Size c) { return out.subspan(at(c * m), at(m)); };
  // G x is rounded by |G| |x|, however small it is itself.
  const auto estimate = [&](double unit_core, double unit_sum, double x_norm, double norm) {
    const double of_sum = unit_sum * rows * sigma * x_norm / smallest;
    return norm > 0 ? unit_core * core.core_condition() + of_sum / norm : 0;
  };
  const auto carefully = [&](Size c) {
    const auto given = x.subspan(at(c * d + columns.begin), at(n));
    Numbers part(given.begin(), given.end());
    const int exponent = exponent_of(part);
    for (double& value : part) value = std::ldexp(value, -exponent);
    DdMatrix result(m, 1);
    double y_error = 0;
    if (core.by_columns()) {
      const Product p = Refiner(gradients, core, options, threads).refined({part, {}}, 0x1p-50, 0);
      result = project_extended(gradients, columns, p.y, threads);
      y_error = p.relative * p.norm / options.damping;
    } else {
      const DdMatrix& r = core.extended().factor.r;
      result = halfulp::detail::solve_upper(
          r, halfulp::detail::solve_upper_transposed(
                 r, project_extended(gradients, columns, part, threads)));
      for (Size i = 0; i < m; ++i) result.set(i, 0, result(i, 0) * rows);
    }
    const double norm = norm_of(column(result)), x_norm = norm_of(part);
    for (Size i = 0; i < m; ++i) out[at(c * m + i)] = std::ldexp(result(i, 0).hi, exponent);
    double relative = half_ulp;
    if (norm > 0)
      relative += core.by_columns() ? sigma * y_error / norm
                                    : estimate(unit_extended, unit_extended, x_norm, norm);
    outcomes[at(c)] = {relative, std::ldexp(norm, exponent)};
  };
  if (core.by_columns() || core.extended_only()) {
    for (Size c = 0; c < k; ++c) carefully(c);
    return;
  }
  // G H^-1 x = m A^-1 G x
  const auto plainly = [&](std::span<const double> given, Size count, std::span<double> result,
                           std::span<double> squares) {
    project(gradients, columns, given, count, options.products, threads, result, squares);
    core.solve(count, result.data());
    for (double& value : result) value *= rows;
  };
  Numbers squares(at(k));
  plainly(x, k, out, std::span(squares));
  for (Size c = 0; c < k; ++c) {
    double square = squares[at(c)];
    int exponent = 0;
    if (!(square >= least_square && square <= largest_square)) {  // again, scaled
      Numbers part(at(d));
      const auto given = x.subspan(at(c * d + columns.begin), at(n));
      std::copy(given.begin(), given.end(), part.begin() + columns.begin);
      exponent = exponent_of(part);
      for (double& value : part) value = std::ldexp(value, -exponent);
      plainly(part, 1, out_of(c), std::span(&square, 1));
    }
    const double norm = norm_of(out_of(c));
    const double relative = estimate(core.core_unit(), core.pass_unit(), std::sqrt(square), norm);
    outcomes[at(c)] = {relative, std::ldexp(norm, exponent)};
    for (double& value : out_of(c)) value = std::ldexp(value, exponent);
    if (core.may_extend() && relative > tolerance<double>(core)) carefully(c);
  }
}

Numbers self_influence(const Gradients& gradients, const Core& core, const Options& options) {
  const Size m = gradients.rows(), n = core.size();
  const auto rows = static_cast<double>(m);
  const int size = static_cast<int>(n);
  Numbers out(at(m));
  if (core.by_columns()) {  // m |L^-1 g_i|^2
    for (Size i = 0; i < m; ++i) {
      DdMatrix g(n, 1);
      load(gradients, i, i + 1, core.columns().begin, core.columns().end, g.hi(0), n);
      if (core.extended_only()) {
        const DdMatrix w = halfulp::detail::solve_upper_transposed(core.extended().factor.r, g);
        out[at(i)] = rows * halfulp::detail::dot(n, w.hi(0), w.lo(0), w.hi(0), w.lo(0)).hi;
      } else {
        core.solve_lower(1, g.hi(0));
        out[at(i)] = rows * cblas_ddot(size, g.hi(0), 1, g.hi(0), 1);
      }
    }
    return out;
  }
  if (core.extended_only()) {  // m (A^-1 S)_ii
    const Extended& e = core.extended();
    const DdMatrix a = halfulp::detail::solve_upper(
        e.factor.r, halfulp::detail::solve_upper_transposed(e.factor.r, e.gram));
    for (Size i = 0; i < n; ++i) out[at(i)] = (a(i, i) * rows).hi;
    return out;
  }
  // The quadratic form of x = G^T e_i: with b = m lambda A^-1 e_i and a = A^-1 S e_i = e_i - b it
  // is b^T S b/lambda + m |a|^2.
  Numbers s(at(n * n)), b(at(n * n)), a(at(n * n)), sb(at(n * n));
  for (Size j = 0; j < n; ++j) {
    for (Size i = 0; i < n; ++i) s[at(i + j * n)] = core.gram(i, j);
    b[at(j + j * n)] = core.shift();
  }
  a = s;
  core.solve(n, b.data());
  core.solve(n, a.data());
  cblas_dsymm(CblasColMajor, CblasLeft, CblasLower, size, size, 1.0, s.data(), size, b.data(), size,
              0.0, sb.data(), size);
  for (Size i = 0; i < n; ++i)
    out[at(i)] = cblas_ddot(size, b.data() + i * n, 1, sb.data() + i * n, 1) / options.damping +
                 rows * cblas_ddot(size, a.data() + i * n, 1, a.data() + i * n, 1);
  return out;
}

template void product(const char*, const Gradients&, const Core&, const Options&, Power,
                      std::span<const float>, Size, std::span<float>, int, std::span<Outcome>,
                      Projections);
template void product(const char*, const Gradients&, const Core&, const Options&, Power,
                      std::span<const double>, Size, std::span<double>, int, std::span<Outcome>,
                      Projections);
template void combination(const Gradients&, const Core&, const Options&, std::span<const double>,
                          Size, std::span<float>, int, std::span<Outcome>);
template void combination(const Gradients&, const Core&, const Options&, std::span<const double>,
                          Size, std::span<double>, int, std::span<Outcome>);

}  // namespace halfulp::mfac::detail
