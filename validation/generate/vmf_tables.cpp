// Writes include/halfulp/kernel/vmf_tables.hpp: what the concentration of a mean resultant length
// lacks after its leading term, as a series and as polynomials on cells.
// From rational arithmetic and Arb; validation/CMakeLists.txt compares the file that stands there
// with what this writes.
//
// With m = (p - 1)/2, T = (1 - R^2)/(1 + R^2) and W = T/m the root of A_p(kappa) = R is
//     kappa = R/(1 - R^2) (2 m + T G(T, W)),
// and Riccati's equation A' = 1 - A^2 - (2 m/kappa) A becomes one for G:
//     (G - 1)(2 + W G) = (1 - T^2) W G (G + T dG/dT + W dG/dW).
#include <arb_hypgeom.h>
#include <fmpq_poly.h>

#include <algorithm>
#include <cstdlib>

#include "cells.hpp"

namespace {

using cells::Ball, cells::precision;

constexpr int terms = 12;
constexpr int rows = 20;  // W from 2^(1 - k/3) to 2^(1 - (k + 1)/3)
constexpr double columns[] = {0, 0.0625, 0.125, 0.25, 0.5, 0.75, 1};  // of (T - W/2)/(1 - W/2)
constexpr int column_count = 6;
constexpr double tolerance = 0x1p-56;  // of kappa, relative

class Polynomial {
 public:
  Polynomial() { fmpq_poly_init(v); }
  Polynomial(const Polynomial& other) : Polynomial() { fmpq_poly_set(v, other.v); }
  Polynomial& operator=(const Polynomial& other) {
    fmpq_poly_set(v, other.v);
    return *this;
  }
  ~Polynomial() { fmpq_poly_clear(v); }
  fmpq_poly_t v;
};

/// G = sum g_k(s) W^k, s = T^2, by
/// 2 g_k = sum_{i+j=k-1} g_i ((1 - s)((1 + j) g_j + 2 s g_j') - g_j + [j = 0]).
std::vector<Polynomial> series() {
  std::vector<Polynomial> g(1);
  fmpq_poly_set_si(g[0].v, 1);
  Polynomial falling;  // 1 - s
  fmpq_poly_set_coeff_si(falling.v, 0, 1);
  fmpq_poly_set_coeff_si(falling.v, 1, -1);
  for (int k = 1; k <= terms + 10; ++k) {
    Polynomial sum, part, term;
    for (int j = 0; j < k; ++j) {
      fmpq_poly_derivative(part.v, g[j].v);
      fmpq_poly_shift_left(part.v, part.v, 1);
      fmpq_poly_scalar_mul_si(part.v, part.v, 2);
      fmpq_poly_scalar_mul_si(term.v, g[j].v, 1 + j);
      fmpq_poly_add(part.v, part.v, term.v);
      fmpq_poly_mul(part.v, part.v, falling.v);
      fmpq_poly_sub(part.v, part.v, g[j].v);
      if (j == 0) fmpq_poly_add(part.v, part.v, g[0].v);
      fmpq_poly_mul(part.v, part.v, g[k - 1 - j].v);
      fmpq_poly_add(sum.v, sum.v, part.v);
    }
    fmpq_poly_scalar_div_si(sum.v, sum.v, 2);
    g.push_back(sum);
  }
  return g;
}

double coefficient(const Polynomial& g, int j) {
  fmpq_t q;
  fmpq_init(q);
  fmpq_poly_get_coeff_fmpq(q, g.v, j);
  Ball ball;
  arb_set_fmpq(ball.v, q, precision);
  fmpq_clear(q);
  return arf_get_d(arb_midref(ball.v), ARF_RND_NEAR);
}

/// The largest |g(s)| over s in [0, 1], from 1001 points.
double largest(const Polynomial& g) {
  double most = 0;
  for (int i = 0; i <= 1000; ++i) {
    Ball s(i), value;
    arb_div_si(s.v, s.v, 1000, precision);
    arb_zero(value.v);
    for (slong j = fmpq_poly_length(g.v) - 1; j >= 0; --j) {
      arb_mul(value.v, value.v, s.v, precision);
      fmpq_t q;
      fmpq_init(q);
      fmpq_poly_get_coeff_fmpq(q, g.v, j);
      Ball c;
      arb_set_fmpq(c.v, q, precision);
      fmpq_clear(q);
      arb_add(value.v, value.v, c.v, precision);
    }
    most = std::max(most, std::fabs(arf_get_d(arb_midref(value.v), ARF_RND_UP)));
  }
  return most;
}

/// Up to which W k terms are enough: kappa lacks W/2 times what follows.
std::vector<double> limits(const std::vector<Polynomial>& g) {
  std::vector<double> size, limit;
  for (const Polynomial& each : g) size.push_back(largest(each));
  for (int k = 0; k <= terms; ++k) {
    double low = 0, high = 1;
    for (int i = 0; i < 60; ++i) {
      const double w = 0.5 * (low + high);
      double rest = 0;
      for (std::size_t j = k + 1; j < size.size(); ++j)
        rest += size[j] * std::pow(w, static_cast<double>(j) + 1);
      (0.5 * rest <= tolerance ? low : high) = w;
    }
    limit.push_back(static_cast<double>(static_cast<float>(low * 0.9999)));
  }
  return limit;
}

/// G/2 at theta = (T - W/2)/(1 - W/2).
void half_remainder(arb_t out, const arb_t theta, const arb_t w) {
  const Ball one(1), two(2);
  Ball t, m, v, r, spread, kappa, a, slope, step;
  arb_mul_2exp_si(t.v, w, -1);
  arb_sub(step.v, one.v, t.v, precision);
  arb_addmul(t.v, step.v, theta, precision);
  arb_div(m.v, t.v, w, precision);
  arb_set_d(v.v, -0.5);
  arb_add(v.v, v.v, m.v, precision);
  arb_sub(r.v, one.v, t.v, precision);  // R^2 = (1 - T)/(1 + T)
  arb_add(step.v, one.v, t.v, precision);
  arb_div(r.v, r.v, step.v, precision);
  arb_sqrt(r.v, r.v, precision);
  arb_mul(spread.v, r.v, step.v, precision);  // R/(1 - R^2) = R (1 + T)/(2 T)
  arb_div(spread.v, spread.v, t.v, precision);
  arb_mul_2exp_si(spread.v, spread.v, -1);
  arb_mul_2exp_si(m.v, m.v, 1);
  arb_add(kappa.v, m.v, t.v, precision);
  arb_mul(kappa.v, kappa.v, spread.v, precision);
  for (int i = 0; i < 40; ++i) {
    arb_get_mid_arb(kappa.v, kappa.v);
    arb_hypgeom_bessel_i(slope.v, v.v, kappa.v, precision);
    arb_add(step.v, v.v, one.v, precision);
    arb_hypgeom_bessel_i(a.v, step.v, kappa.v, precision);
    arb_div(a.v, a.v, slope.v, precision);
    arb_div(slope.v, m.v, kappa.v, precision);  // 1 - A (2 m/kappa + A)
    arb_add(slope.v, slope.v, a.v, precision);
    arb_mul(slope.v, slope.v, a.v, precision);
    arb_sub(slope.v, one.v, slope.v, precision);
    arb_sub(step.v, r.v, a.v, precision);
    arb_div(step.v, step.v, slope.v, precision);
    arb_add(kappa.v, kappa.v, step.v, precision);
    if (arf_cmpabs_2exp_si(arb_midref(step.v), -100) < 0) break;
  }
  arb_div(kappa.v, kappa.v, spread.v, precision);
  arb_sub(kappa.v, kappa.v, m.v, precision);
  arb_div(out, kappa.v, t.v, precision);
  arb_mul_2exp_si(out, out, -1);
}

/// The upper end of row k, as the double that the code computes with.
double upper(int k) {
  Ball w;
  arb_set_si(w.v, 3 - k);
  arb_div_si(w.v, w.v, 3, precision);
  const Ball two(2);
  arb_pow(w.v, two.v, w.v, precision);
  return arf_get_d(arb_midref(w.v), ARF_RND_NEAR);
}

void add_row(int row, cells::Table& table) {
  const Ball b0(upper(row + 1)), b1(upper(row));
  for (int k = 0; k < column_count; ++k) {
    const Ball a0(columns[k]), a1(columns[k + 1]);
    const std::vector<Ball> f = cells::coefficients(a0.v, a1.v, b0.v, b1.v, half_remainder);
    // kappa = R (1 + T) (1/W + G/2)
    table.add(f, cells::shape_of(cells::sizes(f, upper(row)), tolerance));
  }
}

void print_series(const std::vector<Polynomial>& g) {
  std::printf(
      "\n/// g_k(s) = sum_j vmf_kappa_series(k (k + 1)/2 - 1 + j) s^j, j = 0..k, k = 1..%d.\n"
      "inline constexpr int vmf_kappa_terms = %d;\n"
      "HALFULP_HD inline double vmf_kappa_series(int i) {\n  static constexpr double table[%d] = "
      "{\n",
      terms, terms, terms * (terms + 3) / 2);
  for (int k = 1; k <= terms; ++k) {
    std::printf("    ");
    for (int j = 0; j <= k; ++j) std::printf("%a, ", coefficient(g[k], j));
    std::printf("\n");
  }
  std::printf(
      "  };\n  return table[i];\n}\n\n/// Up to which W k terms are enough, for W up to that of "
      "the "
      "cells.\nHALFULP_HD inline double vmf_kappa_limit(int k) {\n  static constexpr double "
      "table[%d] "
      "= {\n    ",
      terms + 1);
  for (const double limit : limits(g)) std::printf("%a, ", limit);
  std::printf("};\n  return table[k];\n}\n");
}

}  // namespace

/// Without arguments the whole header; with numbers of rows the cells of these and the series, to
/// compare with a part.
int main(int argc, char** argv) {
  cells::Table table{false, {}};
  const std::vector<Polynomial> g = series();
  for (int i = 1; i < argc; ++i) add_row(std::atoi(argv[i]), table);
  if (argc > 1) {
    std::printf("%s", table.text.c_str());
    print_series(g);
    return 0;
  }
  for (int row = 0; row < rows; ++row) add_row(row, table);
  std::printf(
      "#pragma once\n\n#include \"halfulp/hd.hpp\"\n\n"
      "// Written by validation/generate/vmf_tables.cpp; a test compares every bit.\n"
      "// clang-format off\n\nnamespace halfulp::kernel {\n");
  print_series(g);
  std::printf(
      "\ninline constexpr int vmf_cell_rows = %d, vmf_cell_columns = %d;\n\n"
      "/// The ends of the rows in W, falling, and those of the columns in (T - W/2)/(1 - W/2).\n"
      "HALFULP_HD inline double vmf_cell_row(int k) {\n  static constexpr double table[%d] = {",
      rows, column_count, rows + 1);
  for (int k = 0; k <= rows; ++k) std::printf("%a, ", upper(k));
  std::printf(
      "};\n  return table[k];\n}\nHALFULP_HD inline double vmf_cell_column(int k) {\n  static "
      "constexpr "
      "double table[%d] = {",
      column_count + 1);
  for (const double c : columns) std::printf("%a, ", c);
  std::printf(
      "};\n  return table[k];\n}\n\n"
      "/// A cell: how many powers of the first variable, a bound of the error of kappa; then for "
      "each "
      "from the highest\n/// down how many powers of the second, and their coefficients from the "
      "highest down. Both variables are scaled\n/// to [-1, 1]; the value is G/2.\n"
      "HALFULP_HD inline const double* vmf_cell(int row, int column) {\n"
      "  static constexpr double table[] = {\n%s  };\n  static constexpr int start[] = {",
      table.text.c_str());
  for (const int place : table.start) std::printf("%d, ", place);
  std::printf(
      "};\n  return table + start[row * vmf_cell_columns + column];\n}\n\n}  // namespace "
      "halfulp::kernel\n");
  flint_cleanup();
}
