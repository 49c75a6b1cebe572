// Writes lib/detail/bessel_cells.hpp: what is left of log I and log K after the leading terms of
// the uniform expansions, times w, as polynomials on cells for 1/4 <= w < 40, and a table for
// logarithms.
// From Arb; validation/CMakeLists.txt compares the file that stands there with what this writes.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "../oracle/bessel_arb.hpp"

namespace {

using bessel_arb::Ball;

constexpr slong precision = 220;
constexpr int most_degree = 20;  // in each variable
constexpr int nodes = 26;
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

/// Which products T_m(a) T_n(b) a polynomial has, n < length[m], ever fewer; and a bound of what S
/// loses by the others.
struct Shape {
  std::vector<int> length;
  double bound;
};

/// Leaves out the smallest as long as the bound stays below the tolerance.
Shape shape_of(const std::vector<double>& size, double tolerance) {
  Shape shape{std::vector<int>(most_degree + 1, most_degree + 1), 0};
  for (int m = 0; m < nodes; ++m)
    for (int n = 0; n < nodes; ++n)
      if (m > most_degree || n > most_degree) shape.bound += size[m * nodes + n];
  if (shape.bound >= 0x1p-54) return {{1}, 1};  // nothing to compute with
  tolerance = std::fmax(tolerance, 2 * shape.bound);
  for (;;) {
    std::vector<int>& length = shape.length;
    int best = -1;
    double least = tolerance - shape.bound;
    for (int m = 0; m < static_cast<int>(length.size()); ++m) {
      if (m + 1 < static_cast<int>(length.size()) && length[m + 1] == length[m]) continue;
      const double c = size[m * nodes + length[m] - 1];
      if (c >= least) continue;
      least = c;
      best = m;
    }
    if (best < 0) return shape;
    shape.bound += least;
    if (--length[best] == 0) length.pop_back();
  }
}

/// A line with the number of powers of a and the bound; then for each power of a from the highest
/// down the number of powers of b with it and their coefficients from the highest down, as the two
/// Horner schemes read them; a from [a0, a1] and b from [b0, b1] scaled to [-1, 1]. If accurate,
/// then what is left of the coefficients of 1, b and a.
std::string cell_text(const std::vector<Ball>& f, const Shape& shape, bool accurate) {
  static const auto power = chebyshev();
  const int rows = static_cast<int>(shape.length.size());
  char buffer[100];
  const auto print = [&](const char* format, auto... values) {
    std::snprintf(buffer, sizeof buffer, format, values...);
    return std::string(buffer);
  };
  const auto coefficient = [&](int i, int j) {
    Ball sum, factor;
    for (int m = i; m < rows; ++m)
      for (int n = j; n < shape.length[m]; ++n) {
        arb_set_si(factor.v, power[m][i] * power[n][j]);
        arb_addmul(sum.v, factor.v, f[m * nodes + n].v, precision);
      }
    return sum;
  };
  const auto nearest = [](const Ball& x) { return arf_get_d(arb_midref(x.v), ARF_RND_NEAR); };
  std::string text = print("    %d, %a,\n", rows, shape.bound);
  for (int i = rows - 1; i >= 0; --i) {
    text += print("    %d,", shape.length[i]);
    for (int j = shape.length[i] - 1; j >= 0; --j)
      text += print(" %a,", nearest(coefficient(i, j)));
    text += "\n";
  }
  if (!accurate) return text;
  text += "   ";
  for (const auto& [i, j] : {std::pair(0, 0), {0, 1}, {1, 0}}) {
    Ball rest = coefficient(i, j);
    const Ball rounded(nearest(rest));
    arb_sub(rest.v, rest.v, rounded.v, precision);
    text += print(" %a,", nearest(rest));
  }
  return text + "\n";
}

/// Cells in the order of the file, and where each begins.
struct Table {
  bool accurate;
  std::string text;
  std::vector<int> start = {0};
  void add(const std::vector<Ball>& f, const Shape& shape) {
    text += cell_text(f, shape, accurate);
    int numbers = accurate ? 5 : 2;
    for (const int length : shape.length) numbers += 1 + length;
    start.push_back(start.back() + numbers);
  }
};
struct Tables {
  Table fast{false, {}}, accurate{true, {}};
};

void add_cell(bool second, const arb_t a0, const arb_t a1, const arb_t b0, const arb_t b1,
              Tables& tables) {
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
  const double most = arf_get_d(arb_midref(b1), ARF_RND_UP);
  std::vector<double> size;
  for (const Ball& c : f) size.push_back(most * std::fabs(arf_get_d(arb_midref(c.v), ARF_RND_UP)));
  tables.fast.add(f, shape_of(size, 0x1.6p-56));
  tables.accurate.add(f, shape_of(size, 0x1.6p-63));
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

/// For slopes with c = 1 in the first interval, so that the logarithm of 1 + d is d to its last
/// digits, and in another c where log I and log K vanish for large v.
void print_log_table(bool slopes) {
  constexpr int size = 16;
  if (slopes)
    std::printf(
        "\n/// The same with other c in the first interval and the eleventh: 2^1023 c, -log(c) as "
        "a multiple of 2^-40 "
        "and "
        "the rest of\n/// it.\n");
  else
    std::printf(
        "\n/// For the mantissas from 1 + i/16 to 1 + (i + 1)/16, c = 1/the middle, "
        "-log(c)/2 as a\n/// multiple of 2^-41 and the rest of it, and -log(c)/4.\n");
  const std::size_t columns = slopes ? 3 : 4;
  std::printf("inline constexpr double bessel_%s_table[%zu][%d] = {\n", slopes ? "slope" : "log",
              columns, size);
  std::vector<std::vector<double>> column(columns);
  for (int i = 0; i < size; ++i) {
    double c = 32 / (33.0 + 2 * i);
    if (slopes && i == 0) c = 1;
    if (slopes && i == 10) c = 1 / 1.6595250711;  // 2 of it is (v + w)/x where w = v asinh(v/x)
    Ball value(c), rest;
    arb_log(value.v, value.v, precision);
    arb_neg(value.v, value.v);
    if (!slopes) arb_mul_2exp_si(value.v, value.v, -1);
    const double unit = slopes ? 0x1p-40 : 0x1p-41;
    const double leading =
        std::nearbyint(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) / unit) * unit;
    arb_set_d(rest.v, leading);
    arb_sub(rest.v, value.v, rest.v, precision);
    column[0].push_back(slopes ? std::ldexp(c, 1023) : c);
    column[1].push_back(leading);
    column[2].push_back(arf_get_d(arb_midref(rest.v), ARF_RND_NEAR));
    if (!slopes) column[3].push_back(arf_get_d(arb_midref(value.v), ARF_RND_NEAR) / 2);
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
  Tables tables[2];
  for (int i = 1; i < argc; ++i)
    for (const bool second : {false, true}) add_row(second, std::atoi(argv[i]), tables[0]);
  if (argc > 1) {
    std::printf("%s%s", tables[0].fast.text.c_str(), tables[0].accurate.text.c_str());
    for (const bool slopes : {false, true}) print_log_table(slopes);
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
  for (const bool slopes : {false, true}) print_log_table(slopes);
  std::printf("\n}  // namespace halfulp::detail\n");
  flint_cleanup();
}
