#pragma once

#include <cmath>
#include <random>
#include <vector>

#include "halfulp/kernel/dd_function.hpp"

/// Where each double-double function is tested, and seeded arguments from there: the same on host
/// and device.
namespace dd_cases {

using halfulp::dd;
using halfulp::DdFunction;

struct Range {
  enum Kind {
    uniform,        // between a and b
    binary,         // +-2^t, t between a and b
    positive,       // 2^t, t between a and b
    half_turns,     // k pi/2 (1 +- 2^-t), |k| <= a, t between 1 and b
    near_one,       // +-(1 +- 2^-t), t between a and b
    above_one,      // 1 + 2^-t
    below_one,      // +-(1 - 2^-t)
    whole,          // integers between a and b
    minus_x,        // y = -x (1 +- 2^-t), t between a and b
    reciprocal_log  // y = +-2^t/log x, t between a and b
  } kind = uniform;
  double a = 0, b = 0;
};

struct Case {
  DdFunction f;
  Range x, y = {};
};

inline const std::vector<Case>& cases() {
  using enum DdFunction;
  using R = Range;
  static const std::vector<Case> all = {
      {negate, {R::binary, -300, 300}},
      {DdFunction::fabs, {R::binary, -300, 300}},
      {DdFunction::sqrt, {R::positive, -900, 1020}},
      {DdFunction::cbrt, {R::binary, -900, 1020}},
      {DdFunction::exp, {R::uniform, -670, 709}},
      {DdFunction::exp, {R::binary, -110, 6}},
      {DdFunction::expm1, {R::uniform, -1, 1}},
      {DdFunction::expm1, {R::binary, -300, 9}},
      {DdFunction::log, {R::positive, -1020, 1023}},
      {DdFunction::log, {R::uniform, 0.25, 4}},
      {DdFunction::log, {R::above_one, 3, 110}},
      {DdFunction::log1p, {R::uniform, -0.999, 3}},
      {DdFunction::log1p, {R::binary, -300, -0.01}},
      {DdFunction::log1p, {R::positive, 0, 1000}},
      {DdFunction::log2, {R::positive, -900, 1023}},
      {DdFunction::log2, {R::uniform, 0.25, 4}},
      {DdFunction::log10, {R::positive, -900, 1023}},
      {DdFunction::log10, {R::uniform, 0.25, 4}},
      {DdFunction::sin, {R::uniform, -7, 7}},
      {DdFunction::sin, {R::uniform, -1e5, 1e5}},
      {DdFunction::sin, {R::binary, -300, 1}},
      {DdFunction::sin, {R::half_turns, 1e5, 110}},
      {DdFunction::sin, {R::binary, 17, 1023}},
      {DdFunction::cos, {R::uniform, -7, 7}},
      {DdFunction::cos, {R::uniform, -1e5, 1e5}},
      {DdFunction::cos, {R::half_turns, 1e5, 110}},
      {DdFunction::cos, {R::binary, 17, 1023}},
      {DdFunction::tan, {R::uniform, -7, 7}},
      {DdFunction::tan, {R::binary, -300, 17}},
      {DdFunction::tan, {R::half_turns, 1e5, 30}},
      {DdFunction::asin, {R::uniform, -1, 1}},
      {DdFunction::asin, {R::binary, -300, -1}},
      {DdFunction::asin, {R::below_one, 1, 106}},
      {DdFunction::acos, {R::uniform, -1, 1}},
      {DdFunction::acos, {R::below_one, 1, 106}},
      {DdFunction::atan, {R::uniform, -3, 3}},
      {DdFunction::atan, {R::binary, -300, 300}},
      {DdFunction::sinh, {R::uniform, -2, 2}},
      {DdFunction::sinh, {R::binary, -300, 9.4}},
      {DdFunction::cosh, {R::binary, -60, 9.4}},
      {DdFunction::tanh, {R::uniform, -2, 2}},
      {DdFunction::tanh, {R::binary, -300, 8}},
      {DdFunction::asinh, {R::binary, -300, 1020}},
      {DdFunction::asinh, {R::uniform, -3, 3}},
      {DdFunction::acosh, {R::positive, 0.001, 1020}},
      {DdFunction::acosh, {R::above_one, 1, 106}},
      {DdFunction::atanh, {R::uniform, -1, 1}},
      {DdFunction::atanh, {R::binary, -300, -1}},
      {DdFunction::atanh, {R::below_one, 1, 106}},
      {DdFunction::floor, {R::binary, -5, 110}},
      {DdFunction::floor, {R::whole, -100, 100}},
      {DdFunction::ceil, {R::binary, -5, 110}},
      {DdFunction::ceil, {R::whole, -100, 100}},
      {DdFunction::round, {R::binary, -5, 110}},
      {DdFunction::round, {R::whole, -100, 100}},
      {DdFunction::trunc, {R::binary, -5, 110}},
      {DdFunction::trunc, {R::whole, -100, 100}},
      {DdFunction::erf, {R::uniform, -7, 7}},
      {DdFunction::erf, {R::binary, -300, 3}},
      {DdFunction::erfc, {R::uniform, -7, 7}},
      {DdFunction::erfc, {R::uniform, 5, 25}},
      {DdFunction::erfc, {R::binary, -100, -1}},
      {add, {R::binary, -30, 30}, {R::binary, -30, 30}},
      {add, {R::binary, -2, 2}, {R::minus_x, 0, 106}},
      {subtract, {R::binary, -30, 30}, {R::binary, -30, 30}},
      {subtract, {R::uniform, 1, 2}, {R::uniform, 1, 2}},
      {multiply, {R::binary, -300, 300}, {R::binary, -300, 300}},
      {multiply, {R::uniform, 1, 2}, {R::uniform, 1, 2}},
      {divide, {R::binary, -300, 300}, {R::binary, -300, 300}},
      {divide, {R::uniform, 1, 2}, {R::uniform, 1, 2}},
      {add_double, {R::binary, -30, 30}, {R::binary, -30, 30}},
      {add_double, {R::binary, -2, 2}, {R::minus_x, 0, 106}},
      {multiply_double, {R::binary, -300, 300}, {R::binary, -300, 300}},
      {multiply_double, {R::uniform, 1, 2}, {R::uniform, 1, 2}},
      {divide_double, {R::binary, -300, 300}, {R::binary, -300, 300}},
      {divide_double, {R::uniform, 1, 2}, {R::uniform, 1, 2}},
      {DdFunction::pow, {R::positive, -3, 3}, {R::uniform, -200, 200}},
      {DdFunction::pow, {R::positive, -300, 300}, {R::uniform, -2, 2}},
      {DdFunction::pow, {R::positive, -90, 90}, {R::whole, -7, 7}},
      {DdFunction::pow, {R::uniform, -2, 2}, {R::whole, -300, 300}},
      {DdFunction::pow, {R::above_one, 1, 60}, {R::reciprocal_log, -20, 9}},
      {DdFunction::atan2, {R::binary, -50, 50}, {R::binary, -50, 50}},
      {DdFunction::atan2, {R::uniform, -1, 1}, {R::uniform, -1, 1}},
      {DdFunction::hypot, {R::binary, -900, 1022}, {R::binary, -900, 1022}},
      {DdFunction::hypot, {R::uniform, -1, 1}, {R::uniform, -1, 1}},
      {DdFunction::fmod, {R::uniform, -100, 100}, {R::uniform, -10, 10}},
      {DdFunction::fmod, {R::binary, 0, 50}, {R::binary, 0, 3}},
      {DdFunction::mod, {R::uniform, -100, 100}, {R::uniform, -10, 10}},
      {DdFunction::min, {R::uniform, -1, 1}, {R::uniform, -1, 1}},
      {DdFunction::max, {R::uniform, -1, 1}, {R::uniform, -1, 1}},
  };
  return all;
}

struct Arguments {
  std::vector<dd> x, y;  // y empty for functions of one argument
};

/// count pairs; the low parts are full, at their bound, tiny or zero.
inline Arguments draw(const Case& c, int count, unsigned seed) {
  std::mt19937_64 bits(seed);
  const auto unit = [&] { return static_cast<double>(bits() >> 11) * 0x1p-53; };
  const auto sign = [&] { return bits() & 1 ? 1.0 : -1.0; };
  const auto with_low = [&](double hi) {
    const double bound = std::nextafter(std::fabs(hi), HUGE_VAL) - std::fabs(hi);
    double lo = (unit() - 0.5) * bound;
    switch (bits() % 8) {
      case 0:
        lo = 0;
        break;
      case 1:
        lo *= 0x1p-50;
        break;
      case 2:
        lo = sign() * bound / 2 * (1 - 0x1p-40);
        break;
    }
    return halfulp::kernel::quick_two_sum(hi, lo);
  };
  const auto one = [&](const Range& r, dd x) -> dd {
    const double t = r.a + (r.b - r.a) * unit();
    const double small = std::exp2(-t);
    switch (r.kind) {
      case Range::uniform:
        return with_low(t);
      case Range::binary:
        return with_low(sign() * std::exp2(t));
      case Range::positive:
        return with_low(std::exp2(t));
      case Range::half_turns: {
        const double k = std::floor(r.a * std::exp2(-17 * unit())) * sign();
        return halfulp::kernel::half_pi() * k *
               (1.0 + dd(sign() * std::exp2(-1 - (r.b - 1) * unit())));
      }
      case Range::near_one:
        return sign() * (1.0 + dd(sign() * small));
      case Range::above_one:
        return 1.0 + dd(small);
      case Range::below_one:
        return sign() * (1.0 - dd(small));
      case Range::whole:
        return std::round(t);
      case Range::minus_x:
        return -x * (1.0 + dd(sign() * small));
      case Range::reciprocal_log:
        return with_low(sign() / small / std::log1p((x - 1.0).hi));
    }
    return 0;
  };
  Arguments a;
  for (int i = 0; i < count; ++i) {
    a.x.push_back(one(c.x, 0));
    if (is_binary(c.f)) a.y.push_back(one(c.y, a.x.back()));
  }
  return a;
}

/// What an error is measured against: |value|, except near the zeros of sin, cos and tan, where the
/// documented error is absolute, and for remainders, where it is relative to the divisor.
inline double scale(DdFunction f, double value, dd x, dd y) {
  const double size = std::fabs(value);
  const double ax = std::fabs(x.hi);
  switch (f) {
    case DdFunction::sin:
    case DdFunction::cos:
    case DdFunction::tan:
      return std::fmax(size, ax < 0x1p40 ? 0x1p-53 * ax : 0x1p-30);
    case DdFunction::fmod:
    case DdFunction::mod:
      return std::fabs(y.hi);
    default:
      return size;
  }
}

/// The unit of the budgets: arithmetic in u^2 = 2^-106, as kernel/dd.hpp states it, functions in
/// 2^-104.
inline double unit(DdFunction f) {
  const bool arithmetic = f <= DdFunction::sqrt || (f >= DdFunction::add && f < DdFunction::pow);
  return arithmetic ? 0x1p-106 : 0x1p-104;
}

}  // namespace dd_cases
