#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "halfulp/bessel.hpp"

/// Where Bessel functions are measured: seeded points of regions with names.
namespace bessel_points {

/// splitmix64: the same points everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double log_uniform(double a, double b) { return a * std::exp(std::log(b / a) * uniform()); }

 private:
  std::uint64_t state_;
};

struct Point {
  double v, x;
};

enum class Region {
  box,         // log-uniform v in [1e-6, 1e6], x in [1e-8, 1e7]
  small,       // uniform in [0, 38]^2
  small_log,   // log-uniform in [1e-3, 40]^2
  transition,  // v ~ x
  zeros_i,     // log I = 0 and its neighbours
  zeros_k,     // log K = 0
  zeros_k_scaled,
  half_integers,
  order_zero,
  large_order,   // v in [1e6, 1e15]
  extreme_x,     // subnormal and huge
  seams,         // where the number of terms or the method changes
  tiny_order,    // v in [1e-300, 1e-6]
  cells,         // next to the corners of the batch engine's cells and of its ranges of terms
  small_cells,   // the same for the smallest w and, for K, next to x = 0
  floats,        // as box, small and transition, orders and arguments of single precision
  tail_columns,  // the smallest w of the series, next to the ends of its last terms' columns in t
  cell_corners,  // inside the cells' corners at their least w, where coefficients count most
};
inline constexpr std::string_view names[] = {
    "box",       "small",          "small_log",     "transition", "zeros_i",
    "zeros_k",   "zeros_k_scaled", "half_integers", "order_zero", "large_order",
    "extreme_x", "seams",          "tiny_order",    "cells",      "small_cells",
    "floats",    "tail_columns",   "cell_corners"};
inline constexpr int regions = 18;

/// x where the function changes sign, to the last bit but for rounding errors of the function.
template <class Function>
double zero(Function f, bool increasing) {
  double low = 1e-12, high = 2e16;
  for (int i = 0; i < 400; ++i) {
    const double middle = high / low > 1.5 ? std::sqrt(low * high) : low + (high - low) / 2;
    if (middle == low || middle == high) break;
    ((f(middle) > 0) == increasing ? high : low) = middle;
  }
  return low;
}

inline double zero_order(Random& random) {
  const double v = random.bits() % 3 == 0   ? random.log_uniform(1e-6, 1)
                   : random.bits() % 2 == 0 ? random.log_uniform(1, 200)
                                            : random.log_uniform(1, 1e6);
  return random.bits() % 8 == 0 ? std::fmax(0.5, std::round(2 * v) / 2) : v;
}

inline double shifted(double x, Random& random) {
  const int steps = (static_cast<int>(random.bits() % 7) - 3) * (random.bits() % 4 == 0 ? 1000 : 1);
  return x + steps * (std::nextafter(x, HUGE_VAL) - x);
}

inline Point sample(Region region, Random& random) {
  constexpr auto fast = halfulp::BesselMode::fast;
  double v = 0, x = 0;
  switch (region) {
    case Region::box:
      return {random.log_uniform(1e-6, 1e6), random.log_uniform(1e-8, 1e7)};
    case Region::small:
      return {38 * random.uniform(), 38 * (1 - random.uniform())};
    case Region::small_log:
      return {random.log_uniform(1e-3, 40), random.log_uniform(1e-3, 40)};
    case Region::transition:
      v = random.log_uniform(1, 1e6);
      return {v, v * (1 + (random.uniform() - 0.5) * random.log_uniform(1e-9, 0.5))};
    case Region::zeros_i:
      v = zero_order(random);
      x = zero([&](double t) { return halfulp::log_bessel_i(v, t, fast); }, true);
      return {v, shifted(x, random)};
    case Region::zeros_k:
      v = zero_order(random);
      x = zero([&](double t) { return halfulp::log_bessel_k(v, t, fast); }, false);
      return {v, shifted(x, random)};
    case Region::zeros_k_scaled:
      v = zero_order(random);
      x = zero([&](double t) { return halfulp::log_bessel_k_scaled(v, t, fast); }, false);
      return {v, shifted(x, random)};
    case Region::half_integers:
      v = 0.5 * static_cast<double>(random.bits() % 400);
      if (random.bits() % 3 == 0) v = std::nextafter(v, random.bits() % 2 == 0 ? 0 : HUGE_VAL);
      return {v, random.log_uniform(1e-8, 1e4)};
    case Region::order_zero:
      return {0, random.log_uniform(1e-8, 1e4)};
    case Region::large_order:
      return {random.log_uniform(1e6, 1e15), random.log_uniform(1e-8, 1e16)};
    case Region::extreme_x:
      v = random.log_uniform(1e-6, 1e15);
      x = random.bits() % 2 == 0 ? random.log_uniform(1e7, 1e300)
                                 : random.log_uniform(1e-300, 1e-8);
      return {v, x < 1 && random.bits() % 2 == 0 ? x * 1e-18 : x};
    case Region::seams: {
      constexpr double w[] = {36,   39.3,   44.94, 52.94, 64.9, 83.5, 115.1, 174.5, 304,  654,
                              1985, 1.11e4, 38.3,  41.3,  45.3, 50.5, 57.4,  66.9,  80.6, 101};
      if (random.bits() % 4 == 0) {
        x = (random.bits() % 2 == 0 ? 2 : 17) * (1 + 1e-9 * (random.uniform() - 0.5));
        return {30 * random.uniform(), x};
      }
      const double radius = w[random.bits() % 20] * (1 + 1e-3 * (random.uniform() - 0.5));
      const double angle = 1.5707963267948966 * random.uniform();
      return {radius * std::sin(angle), radius * std::cos(angle)};
    }
    case Region::cells: {
      const auto near = [&](double a) { return a * (1 + 2e-3 * (random.uniform() - 0.5)); };
      const int row = static_cast<int>(random.bits() % 30);
      const double w = near(row < 20 ? 0.5 * std::cbrt(std::ldexp(1.0, row))
                                     : 40 * std::sqrt(std::ldexp(1.0, row - 20)));
      const int column = static_cast<int>(random.bits() % 18);
      double a = column < 13 ? (column % 7) / 6.0 : std::ldexp(1.0 / 6, 12 - column);
      a = std::fmin(1 - 1e-3 * random.uniform(), a == 0 ? 1e-3 * random.uniform() : near(a));
      const double b = std::sqrt((1 - a) * (1 + a));
      return column < 7 ? Point{a * w, b * w} : Point{b * w, a * w};
    }
    case Region::floats: {
      const auto r = random.bits() % 3;
      const Point p = sample(r == 0   ? Region::box
                             : r == 1 ? Region::small
                                      : Region::transition,
                             random);
      // volatile: GCC 12.2 leaves out the two conversions where it vectorises them
      const volatile float v_float = static_cast<float>(p.v), x_float = static_cast<float>(p.x);
      return {v_float, x_float};
    }
    case Region::small_cells: {
      const auto near = [&](double a) { return a * (1 + 2e-3 * (random.uniform() - 0.5)); };
      const bool low = random.bits() % 3 == 0;
      const auto row = static_cast<int>(random.bits() % (low ? 5 : 16));
      const double w = near(0.25 * std::cbrt(std::ldexp(1.0, row)));
      double a = low ? static_cast<double>(random.bits() % 7) / 6
                     : std::ldexp(1.0 / 6, -static_cast<int>(random.bits() % 12));
      a = std::fmin(1 - 1e-3 * random.uniform(), a == 0 ? 1e-3 * random.uniform() : near(a));
      const double b = std::sqrt((1 - a) * (1 + a));
      return low && random.bits() % 2 == 0 ? Point{a * w, b * w} : Point{b * w, a * w};
    }
    case Region::tail_columns: {
      // denser where the terms count most: they fall with w^7 or faster
      const double u = random.uniform();
      const double w = 40.3 * std::pow(60 / 40.3, u * u * u);
      const double s = std::sin(1.5707963267948966 * random.uniform());
      const double t = (static_cast<double>(random.bits() % 16) + s * s) / 16;
      return {t * w, std::sqrt((1 - t) * (1 + t)) * w};
    }
    case Region::cell_corners: {
      const bool second = random.bits() % 3 != 0;  // these have twice the cells
      const auto row = static_cast<int>(random.bits() % 22);
      const double w = 0.25 * std::cbrt(std::ldexp(1.0, row)) * (1 + 2e-3 * random.uniform());
      const int halvings = second && row < 15 ? 9 : 0;
      const int column = static_cast<int>(random.bits() % (halvings + 6)) - halvings;
      double low = column / 6.0, high = (column + 1) / 6.0;
      if (column < 0 || (column == 0 && halvings > 0)) {
        high = std::ldexp(1.0 / 6, column);
        low = column == -halvings ? 0 : high / 2;
      }
      const double step = 0.02 * (high - low) * (1 - random.uniform());
      const double a = random.bits() % 2 == 0 ? low + step : high - step;
      const double b = std::sqrt((1 - a) * (1 + a));
      return second ? Point{b * w, a * w} : Point{a * w, b * w};
    }
    case Region::tiny_order:
      return {random.log_uniform(1e-300, 1e-6), random.log_uniform(1e-8, 400)};
  }
  return {v, x};
}

}  // namespace bessel_points
