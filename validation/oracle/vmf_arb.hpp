#pragma once

#include <algorithm>
#include <optional>

#include "bessel_arb.hpp"

/// Enclosures of the von Mises-Fisher functions of p and kappa, and of the concentration as the
/// root of A_p(kappa) = R, certified by a change of sign. From Arb's log I alone: nothing is shared
/// with the library.
namespace vmf_arb {

using bessel_arb::Ball;

enum class Function {
  log_normaliser,
  log_normaliser_scaled,
  entropy,
  length,      // A_p = I_{p/2}/I_{p/2-1}
  complement,  // 1 - A_p
  derivative,  // A_p'
};

namespace detail {

/// v = p/2 - 1, which is a double for every double p >= 2.
inline Ball order(double p) { return Ball(0.5 * p - 1); }

/// log(e^-kappa I_{v + more}(kappa)), kappa > 0.
inline bool log_i(arb_t out, double p, int more, const arb_t kappa, slong bits) {
  Ball v = order(p);
  arb_add_si(v.v, v.v, more, 4000);
  return bessel_arb::detail::log_bessel(out, false, v.v, kappa, true, bits);
}

/// log A_p(kappa) as a difference of two logarithms of `bits` bits each.
inline bool log_length(arb_t out, double p, const arb_t kappa, slong bits) {
  Ball above, at;
  if (!log_i(above.v, p, 1, kappa, bits) || !log_i(at.v, p, 0, kappa, bits)) return false;
  arb_sub(out, above.v, at.v, bits + 100);
  return true;
}

/// log of the sphere's surface, 2 pi^(p/2)/Gamma(p/2).
inline void log_surface(arb_t out, double p, slong precision) {
  Ball half(0.5 * p), t;
  arb_const_pi(t.v, precision);
  arb_log(t.v, t.v, precision);
  arb_mul(out, t.v, half.v, precision);
  arb_const_log2(t.v, precision);
  arb_add(out, out, t.v, precision);
  arb_lgamma(t.v, half.v, precision);
  arb_sub(out, out, t.v, precision);
}

inline bool enclose(arb_t out, Function f, double p, double kappa, slong bits) {
  const slong precision = bits + 100;
  const Ball k(kappa), v = order(p);
  Ball a, b;
  if (kappa == 0) {
    if (f == Function::length) return arb_zero(out), true;
    if (f == Function::complement) return arb_one(out), true;
    if (f == Function::derivative) {
      arb_set_d(out, p);
      arb_inv(out, out, precision);
      return true;
    }
    log_surface(out, p, precision);
    if (f != Function::entropy) arb_neg(out, out);
    return true;
  }
  if (f == Function::length || f == Function::complement || f == Function::derivative) {
    if (!log_length(a.v, p, k.v, bits)) return false;
    if (f == Function::complement) {
      arb_expm1(out, a.v, precision);
      arb_neg(out, out);
      return true;
    }
    arb_exp(out, a.v, precision);
    if (f == Function::length) return true;
    arb_set_d(b.v, p);  // Riccati: 1 - A^2 - (p - 1) A/kappa
    arb_sub_si(b.v, b.v, 1, precision);
    arb_mul(b.v, b.v, out, precision);
    arb_div(b.v, b.v, k.v, precision);
    arb_expm1(out, a.v, precision);
    arb_add_si(a.v, out, 2, precision);
    arb_mul(out, out, a.v, precision);
    arb_add(out, out, b.v, precision);
    arb_neg(out, out);
    return true;
  }
  // v log kappa - (v + 1) log(2 pi) - log(e^-kappa I_v)
  if (!log_i(b.v, p, 0, k.v, bits)) return false;
  arb_log(out, k.v, precision);
  arb_mul(out, out, v.v, precision);
  arb_sub(out, out, b.v, precision);
  arb_const_pi(a.v, precision);
  arb_mul_2exp_si(a.v, a.v, 1);
  arb_log(a.v, a.v, precision);
  arb_add_si(b.v, v.v, 1, precision);
  arb_mul(a.v, a.v, b.v, precision);
  arb_sub(out, out, a.v, precision);
  if (f == Function::log_normaliser) arb_sub(out, out, k.v, precision);
  if (f == Function::entropy) {  // -(log C + kappa) + kappa (1 - A)
    if (!log_length(a.v, p, k.v, bits)) return false;
    arb_expm1(a.v, a.v, precision);
    arb_mul(a.v, a.v, k.v, precision);
    arb_add(out, out, a.v, precision);
    arb_neg(out, out);
  }
  return true;
}

/// Bits to begin with: what cancels for large and for small kappa.
inline slong bits_for(double kappa) {
  int exponent = 0;
  std::frexp(kappa, &exponent);
  return 200 + std::abs(exponent);
}

}  // namespace detail

/// The function at doubles p >= 2, kappa >= 0 finite, to 110 relative bits.
inline bool evaluate(arb_t out, Function f, double p, double kappa) {
  for (slong bits = detail::bits_for(kappa); bits < 4000; bits += bits / 2) {
    if (!detail::enclose(out, f, p, kappa, bits)) return false;
    if (arb_rel_accuracy_bits(out) >= 110) return true;
  }
  return false;
}

/// What a concentration solves: A_p(kappa) = value, or 1 - A_p(kappa) = value.
enum class Given { length, complement };

namespace detail {

/// A - R, or with the complement c - (1 - A): rises with kappa.
inline bool defect(arb_t out, double p, Given given, double value, const arb_t kappa, slong bits) {
  Ball target(value);
  if (!log_length(out, p, kappa, bits)) return false;
  if (given == Given::complement)
    arb_expm1(out, out, bits + 100);
  else
    arb_exp(out, out, bits + 100), arb_neg(target.v, target.v);
  arb_add(out, out, target.v, bits + 100);
  return true;
}

/// Newton's steps from the exact midpoint in `kappa` until they are below 2^-120 of it. A_p is
/// concave, so that every step but the first rises.
inline bool newton(arb_t kappa, double p, Given given, double value, slong bits) {
  const slong precision = bits + 100;
  const Ball n(p - 1);
  for (int i = 0; i < 60; ++i) {
    Ball a, slope, step, t;
    if (!log_length(a.v, p, kappa, bits)) return false;
    arb_expm1(t.v, a.v, precision);  // A - 1
    arb_add_si(a.v, t.v, 1, precision);
    arb_add_si(slope.v, t.v, 2, precision);
    arb_mul(slope.v, slope.v, t.v, precision);
    arb_div(step.v, a.v, kappa, precision);
    arb_mul(step.v, step.v, n.v, precision);
    arb_add(slope.v, slope.v, step.v, precision);
    arb_neg(slope.v, slope.v);
    if (!defect(a.v, p, given, value, kappa, bits)) return false;
    arb_div(step.v, a.v, slope.v, precision);
    arb_sub(kappa, kappa, step.v, precision);
    if (!arb_is_finite(kappa)) return false;
    arb_get_mid_arb(kappa, kappa);
    arb_set_round(kappa, kappa, precision);
    arb_get_mid_arb(kappa, kappa);
    arb_div(step.v, step.v, kappa, 64);
    arf_t size;
    arf_init(size);
    arb_get_abs_ubound_arf(size, step.v, 64);
    const bool small = arf_cmpabs_2exp_si(size, -120) < 0;
    arf_clear(size);
    if (small) return true;
  }
  return false;
}

/// Whether the defect's sign at kappa (1 + side 2^-110) is that of `side`, beyond doubt.
inline bool certain(const arb_t kappa, double p, Given given, double value, int side, slong bits) {
  Ball at, d;
  arb_mul_2exp_si(at.v, kappa, -110);
  if (side < 0) arb_neg(at.v, at.v);
  arb_add(at.v, at.v, kappa, 4000);  // exact
  if (!defect(d.v, p, given, value, at.v, bits)) return false;
  return side > 0 ? arb_is_positive(d.v) : arb_is_negative(d.v);
}

}  // namespace detail

/// An enclosure of kappa to 2^-110 of itself, value in (0, 1): the defect is negative at its lower
/// end and positive at its upper one.
inline bool concentration(arb_t out, double p, Given given, double value) {
  int exponent = 0;
  std::frexp(given == Given::length && value > 0.5 ? 1 - value : value, &exponent);
  for (slong bits = 260 + 2 * std::abs(exponent); bits < 8000; bits += bits / 2) {
    // R (p - R^2)/(1 - R^2)
    Ball r(value), square, t(p);
    if (given == Given::complement) arb_sub_si(r.v, r.v, 1, bits), arb_neg(r.v, r.v);
    arb_sqr(square.v, r.v, bits);
    arb_sub(t.v, t.v, square.v, bits);
    arb_mul(t.v, t.v, r.v, bits);
    arb_sub_si(square.v, square.v, 1, bits);
    arb_neg(square.v, square.v);
    arb_div(out, t.v, square.v, bits);
    arb_get_mid_arb(out, out);
    if (!detail::newton(out, p, given, value, bits)) continue;
    if (!detail::certain(out, p, given, value, -1, bits) ||
        !detail::certain(out, p, given, value, 1, bits))
      continue;
    arb_mul_2exp_si(t.v, out, -110);
    arb_add_error(out, t.v);
    return true;
  }
  return false;
}

/// Condition number of the root: value/(kappa A'(kappa)).
inline double condition(double p, double value, const arb_t kappa) {
  Ball slope;
  const double k = arf_get_d(arb_midref(kappa), ARF_RND_NEAR);
  if (!evaluate(slope.v, Function::derivative, p, k)) return HUGE_VAL;
  arb_mul(slope.v, slope.v, kappa, 200);
  return value / arf_get_d(arb_midref(slope.v), ARF_RND_NEAR);
}

/// KL(a, b) of concentrations and the half squared chord (1 - mu_a . mu_b) between the unit
/// directions: log C_a - log C_b + (kappa_a - kappa_b + kappa_b half_chord) A(kappa_a).
inline bool divergence(arb_t out, double p, double kappa_a, double kappa_b,
                       const arb_t half_chord) {
  for (slong bits = detail::bits_for(kappa_a) + detail::bits_for(kappa_b) - 100; bits < 8000;
       bits *= 2) {
    Ball a, b;
    using enum Function;
    arb_zero(out);
    if (kappa_a != kappa_b) {
      if (!detail::enclose(a.v, log_normaliser, p, kappa_a, bits)) return false;
      if (!detail::enclose(b.v, log_normaliser, p, kappa_b, bits)) return false;
      arb_sub(out, a.v, b.v, bits);
    }
    arb_set_d(b.v, kappa_b);
    arb_mul(b.v, b.v, half_chord, bits);
    const Ball ka(kappa_a), kb(kappa_b);
    arb_add(b.v, b.v, ka.v, bits);
    arb_sub(b.v, b.v, kb.v, bits);
    if (!detail::enclose(a.v, length, p, kappa_a, bits)) return false;
    arb_addmul(out, a.v, b.v, bits);
    if (arb_rel_accuracy_bits(out) >= 80 || arb_is_zero(out)) return true;
  }
  return false;
}

}  // namespace vmf_arb
