#include "detail/evidence.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "detail/blas_threads.hpp"
#include "halfulp/error.hpp"

namespace halfulp::detail {
namespace {

using Size = std::ptrdiff_t;

// A's triangle, in place: the factor R above, zeros below.
void triangularise(Columns& a) {
  const OneBlasThread one;
  std::vector<double> tau(std::min(a.rows, a.cols));
  LAPACKE_dgeqrf(LAPACK_COL_MAJOR, static_cast<lapack_int>(a.rows), static_cast<lapack_int>(a.cols),
                 a.values.data(), static_cast<lapack_int>(a.rows), tau.data());
  for (Size j = 0; j < a.cols; ++j)
    for (Size i = j + 1; i < a.rows; ++i) a(i, j) = 0;
}

}  // namespace

void RowCollector::add(const Columns& rows) {
  count_ += rows.rows;
  held_ += rows.rows;
  blocks_.push_back(rows);
  if (held_ > 3 * columns_ + 64) compress();
}

void RowCollector::compress() {
  Columns all(held_, columns_ + 1);
  Size first = 0;
  for (const Columns& block : blocks_) {
    for (Size j = 0; j <= columns_; ++j)
      std::copy_n(block.column(j), block.rows, all.column(j) + first);
    first += block.rows;
  }
  blocks_.clear();
  if (held_ > columns_ + 1) {
    triangularise(all);
    // The last column's part below the triangle of the others is what they do not reach.
    const double outside = all(columns_, columns_);
    rest_ += outside * outside;
    Columns kept(columns_, columns_ + 1);
    for (Size j = 0; j <= columns_; ++j) std::copy_n(all.column(j), columns_, kept.column(j));
    all = std::move(kept);
  }
  held_ = all.rows;
  blocks_.push_back(std::move(all));
}

DataGroup RowCollector::finish() {
  compress();
  Columns& all = blocks_[0];
  DataGroup group;
  group.rows = Columns(all.rows, columns_);
  std::copy_n(all.values.begin(), all.rows * columns_, group.rows.values.begin());
  group.data.assign(all.column(columns_), all.column(columns_) + all.rows);
  group.rest = rest_;
  group.count = count_;
  return group;
}

double regression_bytes(std::ptrdiff_t rows, std::ptrdiff_t weights) {
  // The stacked matrix, its triangle and the triangle's inverse.
  const auto p = static_cast<double>(weights);
  return 8 * ((static_cast<double>(rows) + p) * (p + 1) + 2 * p * p);
}

Regression regress(std::span<const DataGroup> groups, std::span<const double> log_variance,
                   std::span<const double> log_noise, bool slopes) {
  const auto p = std::ssize(log_variance);
  Size rows = 0;
  for (const DataGroup& g : groups) rows += g.rows.rows;
  std::vector<double> root(p);
  for (Size j = 0; j < p; ++j) root[j] = std::exp(log_variance[j] / 2);

  Columns stacked(rows + p, p + 1);
  double square = 0, log_density = 0;
  Size first = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const DataGroup& group = groups[g];
    const double scale = std::exp(-log_noise[g]);
    for (Size j = 0; j < p; ++j) {
      const double factor = root[j] * scale;
      const double* from = group.rows.column(j);
      double* to = stacked.column(j) + first;
      for (Size i = 0; i < group.rows.rows; ++i) to[i] = from[i] * factor;
    }
    for (Size i = 0; i < group.rows.rows; ++i) stacked(first + i, p) = group.data[i] * scale;
    first += group.rows.rows;
    square += group.rest * scale * scale;
    log_density -=
        static_cast<double>(group.count) * (log_noise[g] + 0.5 * std::log(2 * std::numbers::pi));
  }
  for (Size j = 0; j < p; ++j) stacked(rows + j, j) = 1;
  const Columns whitened = slopes ? stacked : Columns();
  triangularise(stacked);

  Regression result;
  result.r = Columns(p, p);
  for (Size j = 0; j < p; ++j) std::copy_n(stacked.column(j), p, result.r.column(j));
  result.weights.assign(stacked.column(p), stacked.column(p) + p);
  const OneBlasThread one;
  cblas_dtrsv(CblasColMajor, CblasUpper, CblasNoTrans, CblasNonUnit, static_cast<int>(p),
              result.r.values.data(), static_cast<int>(p), result.weights.data(), 1);
  square += stacked(p, p) * stacked(p, p);
  for (Size j = 0; j < p; ++j) log_density -= std::log(std::fabs(result.r(j, j)));
  result.log_evidence = log_density - 0.5 * square;
  if (!slopes) return result;

  // Misfits from the rows themselves.
  std::vector<double> residual(whitened.column(p), whitened.column(p) + rows);
  if (rows > 0)
    cblas_dgemv(CblasColMajor, CblasNoTrans, static_cast<int>(rows), static_cast<int>(p), -1.0,
                whitened.values.data(), static_cast<int>(rows + p), result.weights.data(), 1, 1.0,
                residual.data(), 1);
  Columns inverse = result.r;
  LAPACKE_dtrtri(LAPACK_COL_MAJOR, 'U', 'N', static_cast<lapack_int>(p), inverse.values.data(),
                 static_cast<lapack_int>(p));
  // d log_evidence / d log s_j = (z_j^2 - (1 - ((R^T R)^-1)_jj)) / 2
  result.slope_weights.assign(p, 0);
  for (Size j = 0; j < p; ++j)
    for (Size i = 0; i <= j; ++i) result.slope_weights[i] += inverse(i, j) * inverse(i, j);
  for (Size j = 0; j < p; ++j)
    result.slope_weights[j] =
        0.5 * (result.weights[j] * result.weights[j] - 1 + result.slope_weights[j]);
  first = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const Size n = groups[g].rows.rows;
    double misfit = groups[g].rest * std::exp(-2 * log_noise[g]);
    for (Size i = 0; i < n; ++i) misfit += residual[first + i] * residual[first + i];
    Columns part(n, p);
    for (Size j = 0; j < p; ++j) std::copy_n(whitened.column(j) + first, n, part.column(j));
    if (n > 0)
      cblas_dtrmm(CblasColMajor, CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit,
                  static_cast<int>(n), static_cast<int>(p), 1.0, inverse.values.data(),
                  static_cast<int>(p), part.values.data(), static_cast<int>(n));
    double explained = 0;
    for (const double v : part.values) explained += v * v;
    result.misfit.push_back(misfit);
    result.explained.push_back(explained);
    result.slope_noise.push_back(misfit - (static_cast<double>(groups[g].count) - explained));
    first += n;
  }
  return result;
}

BoxMinimum minimise_on_box(
    const std::function<double(std::span<const double> x, std::span<double> gradient)>& f,
    std::vector<double> x, std::span<const double> lower, std::span<const double> upper,
    double tolerance, double negligible, double step, int most_iterations) {
  const auto n = std::ssize(x);
  BoxMinimum result;
  for (Size i = 0; i < n; ++i) x[i] = std::clamp(x[i], lower[i], upper[i]);
  std::vector<double> gradient(n), trial(n), trial_gradient(n), direction(n);
  std::vector<double> inverse;  // of the Hessian, n x n
  std::vector<char> active(n, 0), last_active;
  const auto reset = [&](double scale) {
    inverse.assign(n * n, 0.0);
    for (Size i = 0; i < n; ++i) inverse[i * n + i] = scale;
  };
  double value = f(x, gradient);
  reset(1.0);
  bool fresh = true;
  int small = 0;  // steps in a row that gained next to nothing
  for (; result.iterations < most_iterations; ++result.iterations) {
    result.slope = 0;
    for (Size i = 0; i < n; ++i) {
      active[i] = (x[i] <= lower[i] && gradient[i] > 0) || (x[i] >= upper[i] && gradient[i] < 0);
      if (!active[i]) result.slope = std::max(result.slope, std::fabs(gradient[i]));
    }
    if (!(result.slope > tolerance)) {
      result.converged = std::isfinite(value);
      break;
    }
    if (active != last_active && !fresh) {
      reset(1.0);
      fresh = true;
    }
    last_active = active;
    double slope = 0;
    for (Size i = 0; i < n; ++i) {
      direction[i] = 0;
      if (active[i]) continue;
      for (Size j = 0; j < n; ++j)
        if (!active[j]) direction[i] -= inverse[i * n + j] * gradient[j];
      slope += direction[i] * gradient[i];
    }
    double longest = 0;
    for (const double d : direction) longest = std::max(longest, std::fabs(d));
    const double shrink = longest > step ? step / longest : 1;
    double t = shrink, next = value;
    bool accepted = false;
    for (int k = 0; k < 30; ++k, t *= 0.4) {
      for (Size i = 0; i < n; ++i)
        trial[i] = std::clamp(x[i] + t * direction[i], lower[i], upper[i]);
      next = f(trial, trial_gradient);
      if (std::isfinite(next) && next <= value + 1e-4 * t * slope) {
        accepted = true;
        break;
      }
    }
    if (!accepted) {
      if (fresh) {  // even downhill nothing is gained: rounding
        result.converged = result.slope <= 1e3 * tolerance || small > 0;
        break;
      }
      reset(1.0);
      fresh = true;
      continue;
    }
    std::vector<double> s(n), y(n);
    double sy = 0, yy = 0;
    for (Size i = 0; i < n; ++i) {
      s[i] = trial[i] - x[i];
      y[i] = trial_gradient[i] - gradient[i];
      sy += s[i] * y[i];
      yy += y[i] * y[i];
    }
    const double gained = value - next;
    x = trial;
    gradient = trial_gradient;
    value = next;
    if (sy > 1e-12 * yy && sy > 0) {
      if (fresh) reset(sy / yy);
      std::vector<double> hy(n, 0.0);
      double yhy = 0;
      for (Size i = 0; i < n; ++i) {
        for (Size j = 0; j < n; ++j) hy[i] += inverse[i * n + j] * y[j];
        yhy += y[i] * hy[i];
      }
      for (Size i = 0; i < n; ++i)
        for (Size j = 0; j < n; ++j)
          inverse[i * n + j] +=
              (1 + yhy / sy) * s[i] * s[j] / sy - (hy[i] * s[j] + s[i] * hy[j]) / sy;
      fresh = false;
    }
    small = gained < negligible ? small + 1 : 0;
    if (small == 3) {
      result.converged = true;
      break;
    }
  }
  result.x = std::move(x);
  result.value = value;
  return result;
}

}  // namespace halfulp::detail
