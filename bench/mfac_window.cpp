// The m x m part of a step of a sliding window - the oldest row out, a new one in, a solution -
// against what a rebuild begins with, the LU factorisation of K, and all of it: the inverse of the
// triangle too. One thread each, the least of many times. Prints one JSON object.
//
//   bench_mfac_window [--steps N]    N steps after the window is full, 3000 unless said
#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "detail/blas_threads.hpp"
#include "detail/mfac_factor.hpp"
#include "halfulp/random.hpp"

namespace {

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int main(int argc, char** argv) {
  int steps = 3000;
  if (argc == 3 && std::string(argv[1]) == "--steps") steps = std::max(1, std::atoi(argv[2]));
  const halfulp::detail::OneBlasThread one;
  using nlohmann::json;
  json rows = json::array();
  for (const int m : {128, 512, 1024}) {
    const int d = 64;
    halfulp::mfac::detail::Factor factor(m);
    factor.set_shift(m * 1e-5);
    std::vector<double> g(static_cast<std::size_t>(m) * d), x(d), all(static_cast<std::size_t>(m));
    double push = HUGE_VAL, solve = HUGE_VAL, residual = 0;
    for (int t = 0; t < m + steps; ++t) {
      halfulp::RandomStream(1, static_cast<std::uint32_t>(t)).fill_normal(x, 0, 1);
      for (double& value : x) value = std::ldexp(value, t % 7 - 3);
      cblas_dgemv(CblasRowMajor, CblasNoTrans, m, d, 1, g.data(), d, x.data(), 1, 0, all.data(), 1);
      std::copy(x.begin(), x.end(), g.begin() + static_cast<std::ptrdiff_t>(t % m) * d);
      std::vector<double> products;
      for (int s = std::max(0, t - m + 1); s < t; ++s)
        products.push_back(all[static_cast<std::size_t>(s % m)]);
      const double square = cblas_ddot(d, x.data(), 1, x.data(), 1), began = seconds();
      factor.push(products, square);
      const double pushed = seconds();
      std::vector<double> a(static_cast<std::size_t>(factor.count()));
      factor.solve_newest(a);
      const double ended = seconds();
      if (t < m) continue;
      push = std::fmin(push, pushed - began);
      solve = std::fmin(solve, ended - pushed);
      if (t % 100 == 0 || t + 1 == m + steps) residual = std::fmax(residual, factor.residual());
    }
    const std::size_t n = static_cast<std::size_t>(m);
    std::vector<double> k(n * n), work;
    std::vector<lapack_int> pivots(n);
    for (int j = 0; j < m; ++j)
      for (int i = 0; i < m; ++i)
        k[static_cast<std::size_t>(i) + n * static_cast<std::size_t>(j)] =
            factor.gram(i, j) + (i == j ? factor.shift() : 0);
    double lu = HUGE_VAL, rebuild = HUGE_VAL, cholesky = HUGE_VAL;
    for (int repeat = 0; repeat < 9; ++repeat) {
      work = k;
      double began = seconds();
      LAPACKE_dgetrf_work(LAPACK_COL_MAJOR, m, m, work.data(), m, pivots.data());
      lu = std::fmin(lu, seconds() - began);
      LAPACKE_dtrtri_work(LAPACK_COL_MAJOR, 'L', 'U', m, work.data(), m);
      rebuild = std::fmin(rebuild, seconds() - began);
      work = k;
      began = seconds();
      LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', m, work.data(), m);
      cholesky = std::fmin(cholesky, seconds() - began);
    }
    rows.push_back({{"m", m},
                    {"steps", steps},
                    {"replace_ms", push * 1e3},
                    {"solve_newest_ms", solve * 1e3},
                    {"largest_residual", residual},
                    {"factorisations", factor.factorisations()},
                    {"lu_ms", lu * 1e3},
                    {"lu_and_inverse_ms", rebuild * 1e3},
                    {"cholesky_ms", cholesky * 1e3},
                    {"lu_over_step", lu / (push + solve)},
                    {"rebuild_over_step", rebuild / (push + solve)}});
  }
  std::cout << json{{"schema", 1}, {"threads", 1}, {"rows", rows}}.dump(1) << '\n';
}
