#pragma once

// Polynomials in two variables on rectangular cells from values in ball arithmetic, and their text
// in the stored tables.
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "../oracle/bessel_arb.hpp"

namespace cells {

using bessel_arb::Ball;

inline constexpr slong precision = 220;
inline constexpr int most_degree = 20;  // in each variable
inline constexpr int nodes = 26;

/// Chebyshev coefficients of the values at the nodes of the first kind, stride apart.
inline void transform(std::vector<Ball>& f, std::size_t begin, std::size_t stride) {
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

/// Chebyshev coefficients of value(out, a, b) for a in [a0, a1] and b in [b0, b1].
template <class Value>
std::vector<Ball> coefficients(const arb_t a0, const arb_t a1, const arb_t b0, const arb_t b1,
                               Value value) {
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
    for (int q = 0; q < nodes; ++q) value(f[p * nodes + q].v, a[p].v, b[q].v);
  for (int p = 0; p < nodes; ++p) transform(f, p * nodes, 1);
  for (int q = 0; q < nodes; ++q) transform(f, q, nodes);
  return f;
}

/// Their sizes, times `most`: what they add at most to the result.
inline std::vector<double> sizes(const std::vector<Ball>& f, double most) {
  std::vector<double> size;
  for (const Ball& c : f) size.push_back(most * std::fabs(arf_get_d(arb_midref(c.v), ARF_RND_UP)));
  return size;
}

/// The coefficients of Chebyshev's polynomials in powers.
inline std::vector<std::vector<long>> chebyshev() {
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
inline Shape shape_of(const std::vector<double>& size, double tolerance) {
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

/// The coefficient of a^i b^j of a polynomial of that shape.
inline Ball power_coefficient(const std::vector<Ball>& f, const Shape& shape, int i, int j) {
  static const auto power = chebyshev();
  Ball sum, factor;
  for (int m = i; m < static_cast<int>(shape.length.size()); ++m)
    for (int n = j; n < shape.length[m]; ++n) {
      arb_set_si(factor.v, power[m][i] * power[n][j]);
      arb_addmul(sum.v, factor.v, f[m * nodes + n].v, precision);
    }
  return sum;
}

/// A line with the number of powers of a and the bound; then for each power of a from the highest
/// down the number of powers of b with it and their coefficients from the highest down, as the two
/// Horner schemes read them; a from [a0, a1] and b from [b0, b1] scaled to [-1, 1]. If accurate,
/// then what is left of the coefficients of 1, b and a.
inline std::string cell_text(const std::vector<Ball>& f, const Shape& shape, bool accurate) {
  const int rows = static_cast<int>(shape.length.size());
  char buffer[100];
  const auto print = [&](const char* format, auto... values) {
    std::snprintf(buffer, sizeof buffer, format, values...);
    return std::string(buffer);
  };
  const auto nearest = [](const Ball& x) { return arf_get_d(arb_midref(x.v), ARF_RND_NEAR); };
  std::string text = print("    %d, %a,\n", rows, shape.bound);
  for (int i = rows - 1; i >= 0; --i) {
    text += print("    %d,", shape.length[i]);
    for (int j = shape.length[i] - 1; j >= 0; --j)
      text += print(" %a,", nearest(power_coefficient(f, shape, i, j)));
    text += "\n";
  }
  if (!accurate) return text;
  text += "   ";
  for (const auto& [i, j] : {std::pair(0, 0), {0, 1}, {1, 0}}) {
    Ball rest = power_coefficient(f, shape, i, j);
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

}  // namespace cells
