#pragma once

#include <arb.h>
#include <arb_hypgeom.h>

#include <cmath>
#include <vector>

/// Enclosures of log I, log K, their ratios and derivatives: Arb's own Bessel functions, and from
/// hypot(v, x) = 400 on Olver's expansion with a bound of its remainder. Nothing here is shared
/// with the library: the expansion is that of I and K themselves, by Olver's recurrence.
/// @source  DLMF 10.41.3-10.41.4, 10.41.9-10.41.10 (U_k); error bounds: Olver (1997), ch. 10, 7
namespace bessel_arb {

class Ball {
 public:
  Ball() { arb_init(v); }
  explicit Ball(double x) : Ball() { arb_set_d(v, x); }
  Ball(const Ball& other) : Ball() { arb_set(v, other.v); }
  Ball& operator=(const Ball& other) {
    arb_set(v, other.v);
    return *this;
  }
  ~Ball() { arb_clear(v); }
  arb_t v;
};

enum class Function {
  log_i,
  log_k,
  log_i_scaled,
  log_k_scaled,
  i_ratio,
  i_complement,
  i_derivative,
  k_ratio,
  k_complement,
  k_derivative,
  log_i_dx,
  log_k_dx,
  log_i_dv,
  log_k_dv,
};

namespace detail {

constexpr int terms = 70;

/// U_k(p) = sum_j u[k][j] p^(k + 2 j).
inline const std::vector<std::vector<Ball>>& olver_polynomials() {
  static const auto all = [] {
    constexpr slong precision = 1200;
    std::vector<std::vector<Ball>> u(1, std::vector<Ball>(1, Ball(1)));
    for (int k = 0; k <= terms; ++k) {
      std::vector<Ball> next(static_cast<std::size_t>(k) + 2);
      Ball t;
      for (int j = 0; j <= k; ++j) {
        const Ball& c = u[k][j];
        const slong power = k + 2 * j;
        arb_mul_si(t.v, c.v, power, precision);  // p^2 (1 - p^2) U'/2
        arb_mul_2exp_si(t.v, t.v, -1);
        arb_add(next[j].v, next[j].v, t.v, precision);
        arb_sub(next[j + 1].v, next[j + 1].v, t.v, precision);
        arb_div_si(t.v, c.v, 8 * (power + 1), precision);  // integral of (1 - 5 p^2) U/8
        arb_add(next[j].v, next[j].v, t.v, precision);
        arb_mul_si(t.v, c.v, 5, precision);
        arb_div_si(t.v, t.v, 8 * (power + 3), precision);
        arb_sub(next[j + 1].v, next[j + 1].v, t.v, precision);
      }
      u.push_back(next);
    }
    return u;
  }();
  return all;
}

inline void log_expansion(arb_t out, bool second, const arb_t v, const arb_t x, bool scaled,
                          slong precision) {
  const auto& u = olver_polynomials();
  Ball w, t, t2, inverse_w, sum, p, lead, log_part, error;
  arb_hypot(w.v, v, x, precision);
  arb_div(t.v, v, w.v, precision);
  arb_sqr(t2.v, t.v, precision);
  arb_inv(inverse_w.v, w.v, precision);
  if (second) arb_neg(inverse_w.v, inverse_w.v);
  for (int k = terms; k >= 0; --k) {
    arb_zero(p.v);
    for (int j = k; j >= 0; --j) {
      arb_mul(p.v, p.v, t2.v, precision);
      arb_add(p.v, p.v, u[k][j].v, precision);
    }
    arb_mul(sum.v, sum.v, inverse_w.v, precision);
    arb_add(sum.v, sum.v, p.v, precision);
  }
  // The variation of U_n over any part of [0, 1] is at most the sum of its |coefficients|; in w
  // instead of v the powers of p are spent. 8 >= 2 exp(2 V(U_1)/v) for both solutions' factors.
  for (int j = terms + 1; j >= 0; --j) {
    arb_abs(p.v, u[terms + 1][j].v);
    arb_add(error.v, error.v, p.v, 64);
  }
  arb_abs(p.v, inverse_w.v);
  arb_pow_ui(p.v, p.v, terms + 1, 64);
  arb_mul(error.v, error.v, p.v, 64);
  arb_mul_2exp_si(error.v, error.v, 3);
  arb_add_error(sum.v, error.v);
  arb_log(sum.v, sum.v, precision);
  arb_add(p.v, v, w.v, precision);
  arb_div(p.v, p.v, x, precision);
  arb_log(p.v, p.v, precision);
  arb_mul(p.v, p.v, v, precision);
  if (scaled) {
    arb_add(t.v, w.v, x, precision);
    arb_sqr(lead.v, v, precision);
    arb_div(lead.v, lead.v, t.v, precision);
  } else {
    arb_set(lead.v, w.v);
  }
  arb_sub(lead.v, lead.v, p.v, precision);
  if (second) arb_neg(lead.v, lead.v);
  arb_const_pi(p.v, precision);
  if (second)
    arb_div(log_part.v, p.v, w.v, precision);
  else
    arb_mul(log_part.v, p.v, w.v, precision);
  arb_mul_2exp_si(log_part.v, log_part.v, second ? -1 : 1);
  arb_log(log_part.v, log_part.v, precision);
  arb_mul_2exp_si(log_part.v, log_part.v, -1);
  if (!second) arb_neg(log_part.v, log_part.v);
  arb_add(lead.v, lead.v, log_part.v, precision);
  arb_add(out, lead.v, sum.v, precision);
}

inline void log_direct(arb_t out, bool second, const arb_t v, const arb_t x, bool scaled,
                       slong precision) {
  if (second)
    arb_hypgeom_bessel_k_scaled(out, v, x, precision);
  else
    arb_hypgeom_bessel_i_scaled(out, v, x, precision);
  arb_log(out, out, precision);
  if (scaled) return;
  if (second)
    arb_sub(out, out, x, precision);
  else
    arb_add(out, out, x, precision);
}

/// To `bits` relative bits; false where that is out of reach.
inline bool log_bessel(arb_t out, bool second, const arb_t v, const arb_t x, bool scaled,
                       slong bits) {
  Ball w;
  arb_hypot(w.v, v, x, 64);
  if (arf_cmp_d(arb_midref(w.v), 400) > 0)
    for (slong precision = bits + 100; precision < 2400; precision *= 2) {
      log_expansion(out, second, v, x, scaled, precision);
      if (arb_rel_accuracy_bits(out) >= bits) return true;
    }
  for (slong precision = bits + 120; precision < 40000; precision *= 2) {
    log_direct(out, second, v, x, scaled, precision);
    if (arb_rel_accuracy_bits(out) >= bits) return true;
  }
  return false;
}

}  // namespace detail

/// The function at doubles v >= 0, x > 0, to 80 bits at least (the logarithms to 130).
inline bool evaluate(arb_t out, Function f, double v, double x) {
  using enum Function;
  const Ball order(v), argument(x);
  if (f <= log_k_scaled)
    return detail::log_bessel(out, f == log_k || f == log_k_scaled, order.v, argument.v,
                              f == log_i_scaled || f == log_k_scaled, 130);
  const bool second =
      f == k_ratio || f == k_complement || f == k_derivative || f == log_k_dx || f == log_k_dv;
  for (slong bits = 260; bits < 1500; bits += 240) {
    const slong precision = bits + 100;
    Ball above, below, a, b;
    if (f >= log_i_dv) {  // central difference, step 2^-90
      constexpr slong step = 90;
      arb_one(a.v);
      arb_mul_2exp_si(a.v, a.v, -step);
      arb_add(above.v, order.v, a.v, 3000);
      arb_sub(below.v, order.v, a.v, 3000);
      if (!detail::log_bessel(a.v, second, above.v, argument.v, true, bits)) return false;
      if (!detail::log_bessel(b.v, second, below.v, argument.v, true, bits)) return false;
      arb_sub(out, a.v, b.v, precision);
      arb_mul_2exp_si(out, out, step - 1);
    } else {
      arb_add_si(above.v, order.v, 1, 3000);
      if (!detail::log_bessel(a.v, second, above.v, argument.v, true, bits)) return false;
      if (!detail::log_bessel(b.v, second, order.v, argument.v, true, bits)) return false;
      arb_sub(a.v, a.v, b.v, precision);
      arb_exp(a.v, a.v, precision);
      if (f == i_ratio || f == k_ratio) {
        arb_set(out, a.v);
      } else if (f == i_complement || f == k_complement) {
        arb_sub_si(out, a.v, 1, precision);
        if (f == i_complement) arb_neg(out, out);
      } else {
        arb_div(b.v, order.v, argument.v, precision);
        if (f == log_i_dx) {
          arb_add(out, b.v, a.v, precision);
        } else if (f == log_k_dx) {
          arb_sub(out, b.v, a.v, precision);
        } else {  // Riccati: +-(1 - r^2) - (2 v + 1) r/x
          arb_mul_2exp_si(b.v, order.v, 1);
          arb_add_si(b.v, b.v, 1, 3000);
          arb_div(b.v, b.v, argument.v, precision);
          arb_mul(b.v, b.v, a.v, precision);
          arb_sqr(a.v, a.v, precision);
          arb_sub_si(a.v, a.v, 1, precision);
          if (second) arb_neg(a.v, a.v);
          arb_add(a.v, a.v, b.v, precision);
          arb_neg(out, a.v);
        }
      }
    }
    if (arb_rel_accuracy_bits(out) >= 80) return true;
  }
  return false;
}

/// |computed - reference| in units in the last place of the reference.
inline double ulps(double computed, const arb_t reference) {
  const double nearest = arf_get_d(arb_midref(reference), ARF_RND_NEAR);
  if (!std::isfinite(computed) || !std::isfinite(nearest))
    return computed == nearest ? 0 : HUGE_VAL;
  Ball difference(computed);
  arb_sub(difference.v, difference.v, reference, 200);
  int exponent = 0;
  std::frexp(nearest, &exponent);
  exponent = exponent - 53 > -1074 && nearest != 0 ? exponent - 53 : -1074;
  arb_mul_2exp_si(difference.v, difference.v, -exponent);
  return std::fabs(arf_get_d(arb_midref(difference.v), ARF_RND_NEAR));
}

/// |computed - reference| in units of u max(1, |reference|), u = 2^-53.
inline double mixed(double computed, const arb_t reference) {
  const double nearest = arf_get_d(arb_midref(reference), ARF_RND_NEAR);
  if (!std::isfinite(computed) || !std::isfinite(nearest))
    return computed == nearest ? 0 : HUGE_VAL;
  Ball difference(computed);
  arb_sub(difference.v, difference.v, reference, 200);
  const double size = std::fmax(1.0, std::fabs(nearest));
  return std::fabs(arf_get_d(arb_midref(difference.v), ARF_RND_NEAR)) / size * 0x1p53;
}

}  // namespace bessel_arb
