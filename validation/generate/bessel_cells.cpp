// Writes lib/detail/bessel_cells.hpp: what is left of log I and log K after the leading terms of
// the uniform expansions, times w, as polynomials on cells for 1/4 <= w < 40; polynomials for
// smaller w; and tables for logarithms.
// From Arb; validation/CMakeLists.txt compares the file that stands there with what this writes.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "cells.hpp"
#include "halfulp/kernel/bessel.hpp"

namespace {

using cells::Ball, cells::most_degree, cells::precision, cells::Table;

constexpr int rows = 22;       // w from 2^((k - 6)/3) to 2^((k - 5)/3)
constexpr int fine_rows = 15;  // of the second kind, below w = 8
constexpr int halvings = 9;    // of their first column

/// S/W at t = v/w (first kind) or u = x/w (second), W = 1/w.
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
  arb_div(out, out, inverse_w, precision);
}

struct Tables {
  Table fast{false, {}}, accurate{true, {}};
};

void add_cell(bool second, const arb_t a0, const arb_t a1, const arb_t b0, const arb_t b1,
              Tables& tables) {
  const std::vector<Ball> f = cells::coefficients(
      a0, a1, b0, b1,
      [second](arb_t out, const arb_t a, const arb_t b) { remainder(out, second, a, b); });
  const std::vector<double> size = cells::sizes(f, arf_get_d(arb_midref(b1), ARF_RND_UP));
  tables.fast.add(f, cells::shape_of(size, 0x1.6p-56));
  tables.accurate.add(f, cells::shape_of(size, 0x1.6p-63));
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

/// The cells of a row.
void add_row(bool second, int row, Tables& tables) {
  const auto add = [&](double a0, double a1) {
    const Ball low(a0), high(a1), b0(inverse_w(row + 1)), b1(inverse_w(row));
    add_cell(second, low.v, high.v, b0.v, b1.v, tables);
  };
  double first = sixth[1];  // the end of the first column
  if (second && row < fine_rows) first = sixth[1] / (1 << halvings);
  add(0, first);
  for (; first < sixth[1]; first *= 2) add(first, 2 * first);
  for (int k = 1; k < 6; ++k) add(sixth[k], sixth[k + 1]);
}

/// G(v, q) = 0F1(; v + 1; q)/Gamma(v + 1), which is (x/2)^-v I_v(x) at q = (x/2)^2.
void entire_part(arb_t out, const arb_t v, const arb_t q) {
  Ball above;
  arb_add_si(above.v, v, 1, precision);
  arb_hypgeom_0f1(out, above.v, q, 1, precision);
}

/// (pi v/sin pi v) times (G(-v) - G(v))/(2 v) or, if even, (G(-v) + G(v))/2, less 1.
void temme_part(arb_t out, bool even, const arb_t v, const arb_t q) {
  Ball plus, minus, factor, angle;
  entire_part(plus.v, v, q);
  arb_neg(factor.v, v);
  entire_part(minus.v, factor.v, q);
  if (even)
    arb_add(out, minus.v, plus.v, precision);
  else
    arb_sub(out, minus.v, plus.v, precision);
  arb_const_pi(factor.v, precision);
  if (even) arb_mul(factor.v, factor.v, v, precision);
  arb_sin_pi(angle.v, v, precision);
  arb_div(factor.v, factor.v, angle.v, precision);
  arb_mul(out, out, factor.v, precision);
  arb_mul_2exp_si(out, out, -1);
  if (even) arb_sub_si(out, out, 1, precision);
}

/// The four polynomials for x < 1/4, q = (x/2)^2, in the order of the file.
void print_tiny() {
  Table table{false, {}};
  const auto add = [&](double most_a, auto value) {
    const Ball low(0), a(most_a), b(0x1p-6);
    const std::vector<Ball> f = cells::coefficients(low.v, a.v, low.v, b.v, value);
    table.add(f, cells::shape_of(cells::sizes(f, 1), 0x1p-56));
  };
  constexpr double most = 0.25;
  add(most, [](arb_t out, const arb_t v, const arb_t) {
    Ball above;
    arb_add_si(above.v, v, 1, precision);
    arb_lgamma(out, above.v, precision);
    arb_div(out, out, v, precision);
  });
  add(most, [](arb_t out, const arb_t v, const arb_t q) {
    Ball limit;
    const Ball zero(0);
    entire_part(out, v, q);
    entire_part(limit.v, v, zero.v);
    arb_div(out, out, limit.v, precision);
    arb_log(out, out, precision);
    arb_div(out, out, q, precision);
  });
  for (const bool even : {false, true})
    add(most, [even](arb_t out, const arb_t square, const arb_t q) {
      Ball v;
      arb_sqrt(v.v, square, precision);
      temme_part(out, even, v.v, q);
    });
  std::printf(
      "/// Four cells as the fast ones, the second variable q = (x/2)^2 < 1/64; with G = (x/2)^-v "
      "I_v(x):\n/// log(Gamma(1 + v))/v and log(Gamma(1 + v) G)/q by v < 1/4; then (pi v/sin pi v) "
      "(G(-v) - G(v))/(2 v) and\n/// (pi v/sin pi v) (G(-v) + G(v))/2 - 1 by v^2 < 1/4.\n"
      "inline constexpr double bessel_tiny[] = {\n%s};\n"
      "inline constexpr int bessel_tiny_start[] = {",
      table.text.c_str());
  for (const int place : table.start) std::printf("%d, ", place);
  std::printf("};\n\n");
}

constexpr int tail_columns = 16;                             // of t = v/w
constexpr double tail_inverse_w[2] = {1.0 / 55, 1 / 40.25};  // where the polynomials are fitted

/// The sum of s_k(t^2) z^(k - n) for k >= n, z = 1/w or, for the second kind, -1/w: 24 terms are as
/// good as all.
void series_rest(arb_t out, bool second, int n, const arb_t t, const arb_t inverse_w) {
  Ball z, square, s, c;
  arb_sqr(square.v, t, precision);
  arb_set(z.v, inverse_w);
  if (second) arb_neg(z.v, z.v);
  arb_zero(out);
  for (int k = 24; k >= n; --k) {
    arb_zero(s.v);
    for (int j = k; j >= 0; --j) {
      const halfulp::dd stored = halfulp::kernel::bessel_log_series(k * (k + 1) / 2 - 1 + j);
      const Ball hi(stored.hi), lo(stored.lo);
      arb_add(c.v, hi.v, lo.v, precision);
      arb_mul(s.v, s.v, square.v, precision);
      arb_add(s.v, s.v, c.v, precision);
    }
    arb_mul(out, out, z.v, precision);
    arb_add(out, out, s.v, precision);
  }
}

/// The least size of log I, log K and the scaled ones in a column for w > 40.
double least_log(int column) {
  double least = HUGE_VAL;
  for (const double inverse_w : {tail_inverse_w[1], 1.0 / 60, 1.0 / 90, 1.0 / 140, 1.0 / 220})
    for (int kind = 0; kind < 4; ++kind) {
      double low = HUGE_VAL, high = -HUGE_VAL;
      for (int i = 0; i <= 32; ++i) {
        // t = 1 is left out, where atanh is infinite
        const double t = (column + i / 32.0 - 1e-9 * (i / 16 - 1)) / tail_columns;
        const double x = kind / 2 == 1 ? std::sqrt(1 - t * t) : 0;
        const double leading = (1 - x - t * std::atanh(t)) / inverse_w;
        const double value = kind % 2 == 0 ? leading + 0.5 * std::log(inverse_w / (2 * M_PI))
                                           : -leading + 0.5 * std::log(inverse_w * M_PI / 2);
        low = std::fmin(low, value);
        high = std::fmax(high, value);
      }
      least =
          std::fmin(least, low < 0 && high > 0 ? 0 : std::fmin(std::fabs(low), std::fabs(high)));
    }
  return least;
}

/// The coefficients of 1/w and its powers from those of b, [0, n): b = (1/w - middle)/half goes
/// from -1 to 1 where the polynomials are fitted.
std::vector<Ball> in_inverse_w(const std::vector<Ball>& of_b) {
  Ball middle, half, product;
  arb_set_d(middle.v, tail_inverse_w[0]);
  arb_set_d(half.v, tail_inverse_w[1]);
  arb_sub(product.v, half.v, middle.v, precision);
  arb_add(middle.v, middle.v, half.v, precision);
  arb_mul_2exp_si(middle.v, middle.v, -1);
  arb_mul_2exp_si(half.v, product.v, -1);
  std::vector<Ball> c(of_b.size());
  for (std::size_t j = of_b.size(); j-- > 0;) {  // c = c (1/w - middle)/half + of_b[j]
    for (std::size_t k = c.size(); k-- > 0;) {
      arb_mul(product.v, c[k].v, middle.v, precision);
      arb_neg(c[k].v, product.v);
      if (k > 0) arb_add(c[k].v, c[k].v, c[k - 1].v, precision);
      arb_div(c[k].v, c[k].v, half.v, precision);
    }
    arb_add(c[0].v, c[0].v, of_b[j].v, precision);
  }
  return c;
}

/// What is left of the series from s_n on, n = 7 (fast) or 9 (accurate), for both kinds.
void print_tail(bool accurate) {
  const int n = accurate ? 9 : 7;
  const cells::Shape shape{accurate ? std::vector{3, 3, 3, 2, 2, 1} : std::vector{3, 3, 3, 2, 1, 1},
                           0};
  const int powers = static_cast<int>(shape.length.size());
  const Ball b0(tail_inverse_w[0]), b1(tail_inverse_w[1]);
  std::vector<std::vector<float>> numbers[2];  // by columns
  for (const bool second : {false, true})
    for (int column = 0; column < tail_columns; ++column) {
      const auto value = [second, n](arb_t out, const arb_t t, const arb_t inverse_w) {
        series_rest(out, second, n, t, inverse_w);
      };
      const Ball a0(column / 16.0), a1((column + 1) / 16.0);
      const auto f = cells::coefficients(a0.v, a1.v, b0.v, b1.v, value);
      std::vector<float>& here = numbers[second ? 1 : 0].emplace_back();
      for (int i = powers - 1; i >= 0; --i) {
        std::vector<Ball> row;
        for (int j = 0; j < shape.length[i]; ++j)
          row.push_back(cells::power_coefficient(f, shape, i, j));
        row = in_inverse_w(row);
        for (int j = shape.length[i] - 1; j >= 0; --j)
          here.push_back(static_cast<float>(
              std::ldexp(arf_get_d(arb_midref(row[j].v), ARF_RND_NEAR), i)));  // a = 2 (a/2)
      }
      // what is lost, on a grid that the nodes know nothing of
      const double least = least_log(column);
      const double limit = accurate ? std::exp2(-57) * std::fmax(0.0625, least)
                                    : std::exp2(-54.5) * std::fmax(1, least);
      for (int p = 0; p <= 20; ++p)
        for (int q = 1; q <= 60; ++q) {
          const double a = 0.05 * p - 0.5, inverse_w = tail_inverse_w[1] * q / 60;
          double sum = 0;
          const float* c = here.data();
          for (int i = powers - 1; i >= 0; --i) {
            double row = 0;
            for (int j = 0; j < shape.length[i]; ++j) row = row * inverse_w + *c++;
            sum = sum * a + row;
          }
          Ball exact;
          const Ball t((column + 0.5 + a) / 16), w(inverse_w);
          value(exact.v, t.v, w.v);
          const double lost = sum - arf_get_d(arb_midref(exact.v), ARF_RND_NEAR);
          if (!(std::fabs(lost) * std::pow(inverse_w, n) <= limit)) {
            std::fprintf(stderr, "tail: column %d, 1/w = 1/%g: loses %g, allowed %g\n", column,
                         1 / inverse_w, lost * std::pow(inverse_w, n), limit);
            std::exit(1);
          }
        }
    }
  if (!accurate)
    std::printf(
        "/// The series from s_7 (fast) or s_9 on, over that power of z = 1/w (first kind) or "
        "-1/w, for "
        "w > 40.25:\n/// powers of a = 16 t - column - 1/2, t = v/w, from the highest down, each "
        "with "
        "`length` powers of\n/// 1/w from the highest down, a number for each of 16 columns.\n");
  const char* const name = accurate ? "" : "fast_";
  std::printf("inline constexpr int bessel_%stail_length[] = {", name);
  for (int i = powers - 1; i >= 0; --i)
    std::printf("%s%d", i < powers - 1 ? ", " : "", shape.length[i]);
  std::printf("};\ninline constexpr float bessel_%stail[2][%zu][%d] = {\n", name,
              numbers[0][0].size(), tail_columns);
  for (const auto& columns : numbers) {
    std::printf("    {\n");
    for (std::size_t i = 0; i < columns[0].size(); ++i)
      for (int column = 0; column < tail_columns; ++column)
        std::printf("%s%af%s", column == 0 ? "        {" : ", ", columns[column][i],
                    column == tail_columns - 1 ? "},\n" : "");
    std::printf("    },\n");
  }
  std::printf("};\n\n");
}

/// A double c next to `near` whose logarithm is -leading to 2^-74, leading a multiple of 2^-40, as
/// Gal and Bachelis (1991) chose them.
double accurate_point(double near, double* leading) {
  constexpr double unit = 0x1p-40;
  Ball value(near), step, c, rest;
  arb_log(value.v, value.v, precision);
  double k = std::nearbyint(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) / -unit);
  arb_set_d(value.v, -k * unit);
  arb_exp(value.v, value.v, precision);
  arb_set_d(step.v, -unit);
  arb_exp(step.v, step.v, precision);
  for (;; ++k) {
    const double rounded = arf_get_d(arb_midref(value.v), ARF_RND_NEAR);
    arb_set_d(c.v, rounded);
    arb_sub(rest.v, value.v, c.v, precision);
    if (std::fabs(arf_get_d(arb_midref(rest.v), ARF_RND_UP)) < 0x1p-75) {
      *leading = k * unit;
      return rounded;
    }
    arb_mul(value.v, value.v, step.v, precision);
  }
}

/// The points of slopes: c = 1 in the first interval, so that the logarithm of 1 + d is d to its
/// last digits, and in another c where log I and log K vanish for large v.
void print_slope_table() {
  std::printf(
      "\n/// For the mantissas z from 1 + i/16 to 1 + (i + 1)/16, c next to 1/z: 2^1022 c, and "
      "-log(c) to "
      "2^-74, a multiple of 2^-40;\n/// c = 1 in the first interval.\n"
      "inline constexpr double bessel_slope_table[2][16] = {\n");
  double point[2][16];
  for (int i = 0; i < 16; ++i) {
    double near = 32 / (33.0 + 2 * i);
    if (i == 10) near = 1 / 1.6595250711;  // 2 of it is (v + w)/x where w = v asinh(v/x)
    point[0][i] = std::ldexp(1.0, 1022);
    point[1][i] = 0;
    if (i > 0) point[0][i] = std::ldexp(accurate_point(near, &point[1][i]), 1022);
  }
  for (const auto& row : point)
    for (int i = 0; i < 16; ++i)
      std::printf("%s%a%s", i == 0 ? "    {" : ", ", row[i], i == 15 ? "},\n" : "");
  std::printf("};\n");
}

void print_log_table() {
  constexpr int size = 16;
  std::printf(
      "\n/// For the mantissas from 1 + i/16 to 1 + (i + 1)/16, c = 1/the middle, "
      "-log(c)/4 as a\n/// multiple of 2^-42 and the rest of it, and in one.\n"
      "inline constexpr double bessel_log_table[4][16] = {\n");
  std::vector<std::vector<double>> column(4);
  for (int i = 0; i < size; ++i) {
    const double c = 32 / (33.0 + 2 * i);
    Ball value(c), rest;
    arb_log(value.v, value.v, precision);
    arb_neg(value.v, value.v);
    arb_mul_2exp_si(value.v, value.v, -2);
    constexpr double unit = 0x1p-42;
    const double leading =
        std::nearbyint(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) / unit) * unit;
    arb_set_d(rest.v, leading);
    arb_sub(rest.v, value.v, rest.v, precision);
    column[0].push_back(c);
    column[1].push_back(leading);
    column[2].push_back(arf_get_d(arb_midref(rest.v), ARF_RND_NEAR));
    column[3].push_back(arf_get_d(arb_midref(value.v), ARF_RND_NEAR));
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

/// Without arguments the whole header; with numbers of rows the cells of these and all that is no
/// cell, to compare with a part.
int main(int argc, char** argv) {
  Tables tables[2];
  for (int i = 1; i < argc; ++i)
    for (const bool second : {false, true}) add_row(second, std::atoi(argv[i]), tables[0]);
  if (argc > 1) {
    std::printf("%s%s", tables[0].fast.text.c_str(), tables[0].accurate.text.c_str());
    print_tiny();
    for (const bool accurate : {false, true}) print_tail(accurate);
    print_log_table();
    print_slope_table();
    return 0;
  }
  for (const bool second : {false, true})
    for (int row = 0; row < rows; ++row) add_row(second, row, tables[second ? 1 : 0]);
  std::printf(
      "#pragma once\n\n"
      "// Written by validation/generate/bessel_cells.cpp; a test compares every bit.\n"
      "// clang-format off\n\n"
      "namespace halfulp::detail {\n\n"
      "inline constexpr int bessel_cell_rows = %d, bessel_cell_fine_rows = %d, "
      "bessel_cell_halvings = %d,\n                     bessel_cell_most_degree = %d;\n\n"
      "/// 1/w at the ends of the rows, falling.\n"
      "inline constexpr double bessel_cell_inverse_w[%d] = {",
      rows, fine_rows, halvings, most_degree, rows + 1);
  for (int k = 0; k <= rows; ++k) std::printf("%s%a", k == 0 ? "" : ", ", inverse_w(k));
  std::printf(
      "};\n\n/// A cell: how many powers of the first variable, a bound of the error; then for "
      "each "
      "from the highest\n/// down how many powers of the second, and their coefficients from the "
      "highest down; then, but for\n/// the fast ones, what is left of those of 1, of the second "
      "and of "
      "the first variable.\n/// First kind: six cells of t = v/w a row. Second kind: six of u = "
      "x/w, in "
      "the rows below w = 8 the first\n/// of them cut at u = 1/%d, doubling. A bound of 1: u^(2 "
      "v) "
      "is not smooth enough.\n",
      6 << halvings);
  for (const bool fast : {true, false})
    for (const bool second : {false, true}) {
      const Table& table = fast ? tables[second ? 1 : 0].fast : tables[second ? 1 : 0].accurate;
      const char* const name = fast ? "fast_" : "";
      const char kind = second ? 'k' : 'i';
      std::printf("inline constexpr double bessel_%scells_%c[] = {\n%s};\n", name, kind,
                  table.text.c_str());
      std::printf("inline constexpr int bessel_%scell_start_%c[] = {", name, kind);
      for (const int place : table.start) std::printf("%d, ", place);
      std::printf("};\n\n");
    }
  print_tiny();
  for (const bool accurate : {false, true}) print_tail(accurate);
  print_log_table();
  print_slope_table();
  std::printf("\n}  // namespace halfulp::detail\n");
  flint_cleanup();
}
