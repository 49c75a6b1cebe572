#pragma once

#include <cblas.h>

#include <cmath>
#include <vector>

namespace halfulp::detail {

/// y with A y = r, A given by its product with a vector; restarted never, orthogonalised twice.
/// Stops at `most` products or when the residual has fallen by `tolerance`; `reduction` becomes by
/// how much it has. The preconditioner is the caller's: apply(y) = A P^-1 y, and P^-1 y is the
/// solution.
/// @source  Saad, Schultz (1986), SIAM J. Sci. Stat. Comput. 7, 856-869
template <class Apply>
[[nodiscard]] std::vector<double> gmres(const std::vector<double>& r, Apply&& apply,
                                        double tolerance, int most, double* reduction = nullptr) {
  const auto n = static_cast<int>(r.size());
  const double beta = cblas_dnrm2(n, r.data(), 1);
  std::vector<double> sum(r.size());
  if (reduction) *reduction = 0;
  if (!(beta > 0)) return sum;
  std::vector<std::vector<double>> basis{r}, h;
  cblas_dscal(n, 1 / beta, basis[0].data(), 1);
  std::vector<double> cs, sn, g{beta};
  int k = 0;
  for (; k < most && std::fabs(g.back()) > tolerance * beta; ++k) {
    std::vector<double> w = apply(basis[k]);
    std::vector<double> column(k + 2);
    for (int pass = 0; pass < 2; ++pass)
      for (int i = 0; i <= k; ++i) {
        const double s = cblas_ddot(n, w.data(), 1, basis[i].data(), 1);
        column[i] += s;
        cblas_daxpy(n, -s, basis[i].data(), 1, w.data(), 1);
      }
    const double size = cblas_dnrm2(n, w.data(), 1);
    column[k + 1] = size;
    for (int i = 0; i < k; ++i) {
      const double t = cs[i] * column[i] + sn[i] * column[i + 1];
      column[i + 1] = -sn[i] * column[i] + cs[i] * column[i + 1];
      column[i] = t;
    }
    const double radius = std::hypot(column[k], column[k + 1]);
    if (!(radius > 0)) break;
    cs.push_back(column[k] / radius);
    sn.push_back(column[k + 1] / radius);
    column[k] = radius;
    const double gk = g.back();
    g.back() = cs.back() * gk;
    g.push_back(-sn.back() * gk);
    h.push_back(std::move(column));
    if (!(size > 0)) {
      ++k;
      break;
    }
    cblas_dscal(n, 1 / size, w.data(), 1);
    basis.push_back(std::move(w));
  }
  if (reduction) *reduction = std::fabs(g.back()) / beta;
  std::vector<double> y(k);
  for (int i = k - 1; i >= 0; --i) {
    double s = g[i];
    for (int j = i + 1; j < k; ++j) s -= h[j][i] * y[j];
    y[i] = s / h[i][i];
  }
  for (int i = 0; i < k; ++i) cblas_daxpy(n, y[i], basis[i].data(), 1, sum.data(), 1);
  return sum;
}

}  // namespace halfulp::detail
