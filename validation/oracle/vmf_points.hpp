#pragma once

#include <cmath>
#include <string_view>

#include "bessel_points.hpp"
#include "vmf_arb.hpp"

/// Where the von Mises-Fisher functions are measured: seeded points of regions with names. Zeros
/// and seams are found by the oracle, so that the points do not depend on the library.
namespace vmf_points {

using bessel_points::Random;
using vmf_arb::Function;
using vmf_arb::Given;

/// Dimensions of the literature's data sets and powers of two between them.
inline constexpr double dimensions[] = {2,    3,    4,    5,     7,   10,  16,   33,
                                        64,   100,  128,  256,   512, 784, 1000, 1024,
                                        2048, 4096, 8192, 32768, 1e5, 1e6};

/// One of the list, or an integer, or any real number in [2, 1e6].
inline double dimension(Random& random) {
  const auto kind = random.bits() % 3;
  if (kind == 0) return dimensions[random.bits() % 22];
  const double p = random.log_uniform(2, 1e6);
  return kind == 1 ? std::floor(p) : p;
}

/// 2, or one of the doubles that follow.
inline double next_to_two(Random& random) {
  return random.bits() % 2 == 0 ? 2 : 2 + static_cast<double>(random.bits() % 8) * 0x1p-51;
}

// ---- the concentration of a mean length -------------------------------------------------------

struct Length {
  double p, value;  ///< R, or 1 - R where that is given
};

enum class LengthRegion {
  random,   // log-uniform in R to 1e-8 and in 1 - R to 1e-12
  uniform,  // in R
  ends,     // R or 1 - R down to the smallest numbers
  circle,   // p = 2 and the doubles that follow
  few,      // p in [2, 10]
  many,     // p in [1e4, 1e6]
  // with m = (p - 1)/2, T = (1 - R^2)/(1 + R^2), W = T/m in (0, 2]:
  seams,  // in W where the method or the number of terms changes; p/2 - 1 and kappa at distance 36
  edge,   // p = 2, where W = 2 T is largest
  cells,  // those of the polynomials in W and T
  corners,  // theirs, from inside: one after the other, four of a cell
};
inline constexpr std::string_view length_names[] = {
    "random", "uniform", "ends", "circle", "few", "many", "seams", "edge", "cells", "corners"};
inline constexpr int length_regions = 10;
inline constexpr int corners = 4 * 20 * 6;

/// R and 1 - R from T = (1 - R^2)/(1 + R^2), and the one of the two that is asked for.
inline double of_t(double t, Given given) {
  const double r = std::sqrt((1 - t) / (1 + t));
  return given == Given::length ? r : 2 * t / ((1 + t) * (1 + r));
}

/// x (1 +- up to `most`), log-uniformly close.
inline double near(double x, double most, Random& random) {
  const double by = random.log_uniform(1e-16, most);
  return x * (1 + (random.bits() % 2 == 0 ? by : -by));
}

/// `given` near the end 0 of its range or, as 1 - small, near the other.
inline double near_end(double small, bool zero) { return zero ? small : 1 - small; }

/// @param  index  of the point in its region
inline Length sample(LengthRegion region, Given given, Random& random, int index) {
  const bool is_length = given == Given::length;
  const bool low = random.bits() % 2 == 0;  // R next to 0
  // log-uniform in R to 1e-8 or in 1 - R to 1e-12
  const auto either = [&] {
    return near_end(low ? random.log_uniform(1e-8, 1) : random.log_uniform(1e-12, 1),
                    low == is_length);
  };
  double p = 0;
  switch (region) {
    case LengthRegion::random:
      p = dimension(random);
      return {p, either()};
    case LengthRegion::uniform:
      p = dimension(random);
      return {p, 1 - random.uniform()};
    case LengthRegion::ends: {
      p = dimension(random);
      const double step = static_cast<double>(1 + random.bits() % 50);
      if (random.bits() % 2 == 0) return {p, 1 - step * 0x1p-53};
      if (is_length && random.bits() % 4 == 0) return {p, step * 0x1p-1074};
      // of 1 - R = 1e-300 kappa is 5e305 at most
      return {p, random.log_uniform(is_length ? 1e-307 : 1e-300, 1e-8)};
    }
    case LengthRegion::circle:
      p = next_to_two(random);
      return {p, random.bits() % 2 == 0 ? either() : 1 - random.uniform()};
    case LengthRegion::few:
      p = random.bits() % 2 == 0 ? 2 + static_cast<double>(random.bits() % 9)
                                 : 2 + 8 * random.uniform();
      return {p, random.bits() % 2 == 0 ? either() : 1 - random.uniform()};
    case LengthRegion::many:
      p = random.log_uniform(1e4, 1e6);
      if (random.bits() % 2 == 0) p = std::floor(p);
      return {p, random.bits() % 2 == 0 ? either() : 1 - random.uniform()};
    case LengthRegion::seams: {
      if (low) {
        // where the cells begin, and where the series takes one term more
        constexpr double least_cell = 0.019686266203;
        constexpr double terms[] = {7.45e-9, 3.81e-6, 7.5e-5,   4.2e-4,  1.27e-3,  2.75e-3, 4.81e-3,
                                    7.33e-3, 1.02e-2, 1.315e-2, 1.62e-2, 1.918e-2, 2.206e-2};
        const bool cell = random.bits() % 2 == 0;
        const double w =
            near(cell ? least_cell : terms[random.bits() % 13], cell ? 1e-9 : 2e-2, random);
        const double m = random.log_uniform(0.5, std::fmin(1 / w, 5e5));
        return {2 * m + 1, of_t(w * m, given)};
      }
      const double v = 36 * random.uniform();
      const double kappa = near(std::sqrt((36 - v) * (36 + v)), 1e-3, random);
      vmf_arb::Ball value;
      p = 2 * v + 2;
      vmf_arb::evaluate(value.v, is_length ? Function::length : Function::complement, p, kappa);
      return {p, arf_get_d(arb_midref(value.v), ARF_RND_NEAR)};
    }
    case LengthRegion::edge: {
      p = next_to_two(random);
      const auto kind = random.bits() % 3;
      if (kind == 0) return {p, of_t(random.uniform(), given)};
      if (kind == 1) return {p, of_t(random.log_uniform(1e-16, 1), given)};
      const double r = random.log_uniform(1e-10, 1);  // T next to 1
      return {p, is_length ? r : 1 - r};
    }
    case LengthRegion::cells:
    case LengthRegion::corners: {
      double w = random.log_uniform(0.0197, 2), share = random.uniform();
      if (region == LengthRegion::corners) {
        constexpr double columns[] = {0, 0.0625, 0.125, 0.25, 0.5, 0.75, 1};
        const int column = index / 4 % 6, row = index / 24 % 20;
        const double inside = random.log_uniform(1e-9, 1e-3),
                     across = random.log_uniform(1e-9, 1e-3);
        w = 2 * std::cbrt(std::ldexp(1.0, -row)) *
            (index % 2 == 0 ? 1 - inside : std::cbrt(0.5) * (1 + inside));
        const double low = columns[column], high = columns[column + 1];
        share = index % 4 < 2 ? low + (high - low) * across : high - (high - low) * across;
      }
      const double t = 0.5 * w + share * (1 - 0.5 * w);
      return {std::fmax(2, 2 * t / w + 1), of_t(t, given)};
    }
  }
  return {2, 0.5};
}

// ---- the functions of kappa -------------------------------------------------------------------

struct Concentration {
  double p, kappa;
};

enum class Region {
  box,         // kappa log-uniform in [1e-8, 1e9]
  small,       // uniform: p in [2, 80], kappa in [0, 40]
  extremes,    // 0, subnormal, tiny and huge kappa
  zeros,       // next to where the result is 0
  seams,       // where the method or the number of terms changes
  transition,  // kappa ~ p/2
  integers,    // p = 2, ..., 200
  circle,      // p = 2 and the doubles that follow
  million,     // p in [1e5, 1e6]
};
inline constexpr std::string_view names[] = {
    "box", "small", "extremes", "zeros", "seams", "transition", "integers", "circle", "million"};
inline constexpr int regions = 9;

/// Sign of the function by 60 bits of an enclosure.
inline bool positive(Function f, double p, double kappa) {
  vmf_arb::Ball value;
  vmf_arb::detail::enclose(value.v, f, p, kappa, vmf_arb::detail::bits_for(kappa) - 100);
  return arf_sgn(arb_midref(value.v)) > 0;
}

/// The last kappa before the function changes its sign.
inline double zero(Function f, double p) {
  const bool first = positive(f, p, 0);
  double low = 1e-12, high = 1e12;
  for (int i = 0; i < 200; ++i) {
    const double middle = high / low > 1.5 ? std::sqrt(low * high) : low + (high - low) / 2;
    if (middle == low || middle == high) break;
    (positive(f, p, middle) == first ? low : high) = middle;
  }
  return low;
}

/// The dimension whose sphere has the surface 1, below which log C < 0 at kappa = 0.
inline double unit_sphere() {
  double low = 18, high = 20;
  for (int i = 0; i < 60; ++i) {
    const double middle = low + (high - low) / 2;
    (positive(Function::log_normaliser, middle, 0) ? high : low) = middle;
  }
  return low;
}

inline Concentration sample(Region region, Function f, Random& random) {
  double p = 0, kappa = 0;
  switch (region) {
    case Region::box:
      p = dimension(random);
      return {p, random.log_uniform(1e-8, 1e9)};
    case Region::small:
      return {2 + 78 * random.uniform(), 40 * random.uniform()};
    case Region::extremes: {
      p = dimension(random);
      const auto kind = random.bits() % 8;
      if (kind == 0) return {p, 0};
      if (kind == 1) return {p, static_cast<double>(1 + random.bits() % 50) * 0x1p-1074};
      if (kind == 2) return {p, 1e300};
      if (kind == 3) return {p, random.log_uniform(1e18, 1e300)};
      if (kind < 6) return {p, random.log_uniform(1e-300, 1e-8)};
      return {p, random.log_uniform(1e9, 1e18)};
    }
    case Region::zeros: {
      const double unit = unit_sphere();
      if (random.bits() % 4 == 0) {
        p = unit * (1 + random.log_uniform(1e-16, 1e-2) * (random.bits() % 2 == 0 ? 1 : -1));
        return {p, random.bits() % 4 == 0 ? 0 : random.log_uniform(1e-12, 1e-1)};
      }
      p = f == Function::log_normaliser ? unit * random.log_uniform(1.01, 5e4)
                                        : random.log_uniform(2, 0.99 * unit);
      if (random.bits() % 2 == 0) p = std::floor(p);
      return {p, bessel_points::shifted(zero(f, p), random)};
    }
    case Region::seams: {
      constexpr double w[] = {36,  36,   36,     39.3, 44.94, 52.94, 64.9, 83.5, 115.1, 174.5, 304,
                              654, 1985, 1.11e4, 38.3, 41.3,  45.3,  50.5, 57.4, 66.9,  80.6,  101};
      const double radius = near(w[random.bits() % 22], 1e-3, random);
      const double angle = 1.5707963267948966 * random.uniform();
      return {2 + 2 * radius * std::sin(angle), radius * std::cos(angle)};
    }
    case Region::transition:
      p = random.log_uniform(4, 1e6);
      return {p, 0.5 * p * (1 + (random.uniform() - 0.5) * random.log_uniform(1e-9, 1))};
    case Region::integers:
      return {2 + static_cast<double>(random.bits() % 199), random.log_uniform(1e-8, 1e4)};
    case Region::circle:
      return {next_to_two(random), random.log_uniform(1e-8, 1e6)};
    case Region::million:
      p = random.log_uniform(1e5, 1e6);
      return {random.bits() % 2 == 0 ? std::floor(p) : p, random.log_uniform(1e-3, 1e9)};
  }
  return {p, kappa};
}

}  // namespace vmf_points
