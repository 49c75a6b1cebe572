// Writes lib/detail/bessel_cells.hpp: what is left of log I and log K after the leading terms of
// the uniform expansions, as polynomials on cells for 1/4 <= w < 40, and a table for logarithms.
// From Arb; validation/CMakeLists.txt compares the file that stands there with what this writes.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../oracle/bessel_arb.hpp"

namespace {

using bessel_arb::Ball;

constexpr slong precision = 220;
constexpr int most_degree = 20;  // total
constexpr int nodes = 26;
constexpr int rows = 22;       // w from 2^((k - 6)/3) to 2^((k - 5)/3)
constexpr int fine_rows = 15;  // of the second kind, below w = 8
constexpr int halvings = 9;    // of their first column

/// S at t = v/w (first kind) or u = x/w (second), W = 1/w.
void remainder(arb_t out, bool second, const arb_t a, const arb_t inverse_w) {
  Ball other, v, x, w, slope, t;
  arb_sqr(other.v, a, precision);
  arb_sub_si(other.v, other.v, 1, precision);
  arb_neg(other.v, other.v);
  arb_sqrt(other.v, other.v, precision);
  arb_div(v.v, second ? other.v : a, inverse_w, precision);
  arb_div(x.v, second ? a : other.v, inverse_w, precision);
  arb_inv(w.v, inverse_w, precision);
  arb_add(slope.v, v.v, w.v, precision);
  arb_div(slope.v, slope.v, x.v, precision);
  arb_log(slope.v, slope.v, precision);
  arb_mul(slope.v, slope.v, v.v, precision);
  arb_sub(w.v, w.v, slope.v, precision);  // the leading term
  bessel_arb::detail::log_bessel(out, second, v.v, x.v, false, 150);
  if (second)
    arb_add(out, out, w.v, precision);
  else
    arb_sub(out, out, w.v, precision);
  arb_const_pi(t.v, precision);  // log(2 pi w)/2 or log(2 w/pi)/2
  if (second) arb_inv(t.v, t.v, precision);
  arb_mul_2exp_si(t.v, t.v, 1);
  arb_div(t.v, t.v, inverse_w, precision);
  arb_log(t.v, t.v, precision);
  arb_mul_2exp_si(t.v, t.v, -1);
  arb_add(out, out, t.v, precision);
}

/// Chebyshev coefficients of the values at the nodes of the first kind, stride apart.
void transform(std::vector<Ball>& f, std::size_t begin, std::size_t stride) {
  std::vector<Ball> c(nodes);
  Ball angle, term;
  for (int m = 0; m < nodes; ++m) {
    for (int p = 0; p < nodes; ++p) {
      arb_set_si(angle.v, m * (2 * p + 1));
      arb_div_si(angle.v, angle.v, 2 * nodes, precision);
      arb_cos_pi(term.v, angle.v, precision);
      arb_addmul(c[m].v, term.v, f[begin + p * stride].v, precision);
    }
    arb_mul_si(c[m].v, c[m].v, m == 0 ? 1 : 2, precision);
    arb_div_si(c[m].v, c[m].v, nodes, precision);
  }
  for (int m = 0; m < nodes; ++m) f[begin + m * stride] = c[m];
}

/// The coefficients of Chebyshev's polynomials in powers.
std::vector<std::vector<long>> chebyshev() {
  std::vector<std::vector<long>> t(most_degree + 1, std::vector<long>(most_degree + 1, 0));
  t[0][0] = 1;
  t[1][1] = 1;
  for (int n = 2; n <= most_degree; ++n)
    for (int k = 0; k <= most_degree; ++k)
      t[n][k] = (k > 0 ? 2 * t[n - 1][k - 1] : 0) - t[n - 2][k];
  return t;
}

/// The degree, the least that leaves out less than 2^-58; a bound of what is left out; then powers
/// a^i b^j, i + j <= degree; i from the highest down, then j from the highest down, as the two
/// Horner schemes read them; a from [a0, a1] and b from [b0, b1] scaled to [-1, 1].
int print_cell(bool second, const arb_t a0, const arb_t a1, const arb_t b0, const arb_t b1) {
  static const auto power = chebyshev();
  std::vector<Ball> f(nodes * nodes), a(nodes), b(nodes);
  Ball angle, half, middle;
  for (int p = 0; p < nodes; ++p) {
    arb_set_si(angle.v, 2 * p + 1);
    arb_div_si(angle.v, angle.v, 2 * nodes, precision);
    arb_cos_pi(angle.v, angle.v, precision);
    for (const bool first : {true, false}) {
      arb_sub(half.v, first ? a1 : b1, first ? a0 : b0, precision);
      arb_add(middle.v, first ? a1 : b1, first ? a0 : b0, precision);
      arb_addmul(middle.v, half.v, angle.v, precision);
      arb_mul_2exp_si(first ? a[p].v : b[p].v, middle.v, -1);
    }
  }
  for (int p = 0; p < nodes; ++p)
    for (int q = 0; q < nodes; ++q) remainder(f[p * nodes + q].v, second, a[p].v, b[q].v);
  for (int p = 0; p < nodes; ++p) transform(f, p * nodes, 1);
  for (int q = 0; q < nodes; ++q) transform(f, q, nodes);
  int degree = 1;
  Ball rest;
  for (;; ++degree) {
    arb_zero(rest.v);
    for (int m = 0; m < nodes; ++m)
      for (int n = 0; n < nodes; ++n) {
        if (m + n <= degree) continue;
        arb_abs(angle.v, f[m * nodes + n].v);
        arb_add(rest.v, rest.v, angle.v, precision);
      }
    if (degree == most_degree || arf_cmp_d(arb_midref(rest.v), 0x1p-58) < 0) break;
  }
  std::printf("    %d, %a,\n", degree, arf_get_d(arb_midref(rest.v), ARF_RND_UP));
  for (int i = degree; i >= 0; --i) {
    std::printf("   ");
    for (int j = degree - i; j >= 0; --j) {
      Ball sum;
      for (int m = i; m <= degree; ++m)
        for (int n = j; m + n <= degree; ++n) {
          arb_set_si(angle.v, power[m][i] * power[n][j]);
          arb_addmul(sum.v, angle.v, f[m * nodes + n].v, precision);
        }
      std::printf(" %a,", arf_get_d(arb_midref(sum.v), ARF_RND_NEAR));
    }
    std::printf("\n");
  }
  return 2 + (degree + 1) * (degree + 2) / 2;
}

/// The lower end of row k in W = 1/w, as the double that the code computes with.
double inverse_w(int k) {
  Ball w;
  arb_set_si(w.v, 6 - k);
  arb_div_si(w.v, w.v, 3, precision);
  const Ball two(2);
  arb_pow(w.v, two.v, w.v, precision);
  return arf_get_d(arb_midref(w.v), ARF_RND_NEAR);
}

constexpr double sixth[] = {0,   0x1.5555555555555p-3, 0x1.5555555555555p-2,
                            0.5, 0x1.5555555555555p-1, 0x1.aaaaaaaaaaaabp-1,
                            1};

/// The cells of a row; adds where each ends to `ends`.
void print_row(bool second, int row, std::vector<int>& ends) {
  const auto print = [&](double a0, double a1) {
    const Ball low(a0), high(a1), b0(inverse_w(row + 1)), b1(inverse_w(row));
    ends.push_back(ends.back() + print_cell(second, low.v, high.v, b0.v, b1.v));
  };
  double first = sixth[1];  // the end of the first column
  if (second && row < fine_rows) first = sixth[1] / (1 << halvings);
  print(0, first);
  for (; first < sixth[1]; first *= 2) print(first, 2 * first);
  for (int k = 1; k < 6; ++k) print(sixth[k], sixth[k + 1]);
}

void print_log_table() {
  constexpr int size = 16;
  std::printf(
      "\n/// For the mantissas from 1 + i/16 to 1 + (i + 1)/16, c = 1/the middle: 2^1023 c, "
      "-log(c)/2 "
      "as a\n/// multiple of 2^-41 and the rest of it, and -log(c)/4.\n"
      "inline constexpr double bessel_log_table[4][%d] = {\n",
      size);
  std::vector<double> column[4];
  for (int i = 0; i < size; ++i) {
    const double c = 32 / (33.0 + 2 * i);
    Ball value(c), rest;
    arb_log(value.v, value.v, precision);
    arb_mul_2exp_si(value.v, value.v, -1);
    arb_neg(value.v, value.v);
    const double leading =
        std::nearbyint(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) * 0x1p41) * 0x1p-41;
    arb_set_d(rest.v, leading);
    arb_sub(rest.v, value.v, rest.v, precision);
    column[0].push_back(std::ldexp(c, 1023));
    column[1].push_back(leading);
    column[2].push_back(arf_get_d(arb_midref(rest.v), ARF_RND_NEAR));
    column[3].push_back(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) / 2);
  }
  for (const auto& values : column) {
    std::printf("    {");
    for (std::size_t i = 0; i < values.size(); ++i)
      std::printf("%s%a", i == 0 ? "" : ", ", values[i]);
    std::printf("},\n");
  }
  std::printf("};\n");
}

}  // namespace

/// Without arguments the whole header; with numbers of rows the cells of these and the table of
/// logarithms, to compare with a part.
int main(int argc, char** argv) {
  std::vector<int> start[2] = {{0}, {0}};
  for (int i = 1; i < argc; ++i)
    for (const bool second : {false, true}) print_row(second, std::atoi(argv[i]), start[0]);
  if (argc > 1) {
    print_log_table();
    return 0;
  }
  std::printf(
      "#pragma once\n\n"
      "// Written by validation/generate/bessel_cells.cpp; a test compares every bit.\n"
      "// clang-format off\n\n"
      "namespace halfulp::detail {\n\n"
      "inline constexpr int bessel_cell_rows = %d, bessel_cell_fine_rows = %d, "
      "bessel_cell_halvings = %d;\n\n"
      "/// 1/w at the ends of the rows, falling.\n"
      "inline constexpr double bessel_cell_inverse_w[%d] = {",
      rows, fine_rows, halvings, rows + 1);
  for (int k = 0; k <= rows; ++k) std::printf("%s%a", k == 0 ? "" : ", ", inverse_w(k));
  std::printf(
      "};\n\n/// First kind: six cells of t = v/w a row.\n"
      "inline constexpr double bessel_cells_i[] = {\n");
  for (int row = 0; row < rows; ++row) print_row(false, row, start[0]);
  std::printf(
      "};\n\n/// Second kind: six cells of u = x/w a row, the first of them in the rows below w = "
      "8 cut\n/// at u = 1/%d, doubling. A bound above 2^-53: u^(2 v) is not smooth enough.\n"
      "inline constexpr double bessel_cells_k[] = {\n",
      6 << halvings);
  for (int row = 0; row < rows; ++row) print_row(true, row, start[1]);
  std::printf("};\n\n/// Where the cells begin.\n");
  for (int kind = 0; kind < 2; ++kind) {
    std::printf("inline constexpr int bessel_cell_start_%c[] = {", kind == 0 ? 'i' : 'k');
    for (const int place : start[kind]) std::printf("%d, ", place);
    std::printf("};\n");
  }
  print_log_table();
  std::printf("\n}  // namespace halfulp::detail\n");
  flint_cleanup();
}
