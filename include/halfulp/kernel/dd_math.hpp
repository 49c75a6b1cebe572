#pragma once

#include <cmath>
#include <limits>

#include "halfulp/hd.hpp"
#include "halfulp/kernel/dd.hpp"

/// Elementary functions, erf and rounding for double-double, host and device, found by ADL.
///
/// Special values are those of `<cmath>`: NaN outside the domain, infinities at poles and overflow,
/// odd functions keep the sign of zero. Nothing throws, sets errno or allocates.
/// Where low parts fall under 2^-1074 (|result| or |argument| < 2^-969) the error is that of the
/// double in the leading part.
/// Tables are values at exactly representable points, rounded to double-double.
/// @accuracy  budgets `dd_<function>` in validation/budgets.csv, in units of 2^-104
/// @source    Tang (1989-1992), table-driven exp, log, sin; Payne, Hanek (1983), reduction;
///            Chiarella, Reichel (1968), erfc by the trapezoidal rule
namespace halfulp {

namespace kernel {

HALFULP_HD constexpr dd pi() { return {0x1.921fb54442d18p+1, 0x1.1a62633145c07p-53}; }
HALFULP_HD constexpr dd half_pi() { return {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54}; }
HALFULP_HD constexpr dd e() { return {0x1.5bf0a8b145769p+1, 0x1.4d57ee2b1013ap-53}; }
HALFULP_HD constexpr dd ln2() { return {0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56}; }
HALFULP_HD constexpr dd log2_e() { return {0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56}; }
HALFULP_HD constexpr dd log10_e() { return {0x1.bcb7b1526e50ep-2, 0x1.95355baaafad3p-57}; }
HALFULP_HD constexpr dd log10_2() { return {0x1.34413509f79ffp-2, -0x1.9dc1da994fd21p-59}; }

inline constexpr double infinity = std::numeric_limits<double>::infinity();
inline constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Nearest integer for |x| < 2^51, without a library call.
HALFULP_HD inline double nearest_small(double x) {
  constexpr double shift = 0x1.8p52;
  return (x + shift) - shift;
}

/// 2^n for -1022 <= n <= 1023.
HALFULP_HD inline double pow2(int n) {
  return __builtin_bit_cast(double, static_cast<long long>(n + 1023) << 52);
}

/// a 2^n for normal results and exponents beyond pow2's, overflow to infinity.
HALFULP_HD inline dd scale(dd a, int n) {
  if (n >= -900 && n <= 900) {
    const double f = pow2(n);
    return {a.hi * f, a.lo * f};
  }
  const dd r = ldexp(a, n);
  return isfinite(r) ? r : dd(r.hi);
}

/// exp(s) - 1 for |s| <= 1/128: Taylor, the terms from s^7 on in double (they are < 2^-54 s).
HALFULP_HD inline dd expm1_taylor(dd s) {
  const double t = s.hi;
  const double tail =
      t * (0x1.a01a01a01a01ap-13 +
           t * (0x1.a01a01a01a01ap-16 +
                t * (0x1.71de3a556c734p-19 +
                     t * (0x1.27e4fb7789f5cp-22 +
                          t * (0x1.ae64567f544e4p-26 + t * 0x1.1eed8eff8d898p-29)))));
  dd p = dd(0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65) + tail;
  p = dd(0x1.1111111111111p-7, 0x1.1111111111111p-63) + s * p;
  p = dd(0x1.5555555555555p-5, 0x1.5555555555555p-59) + s * p;
  p = dd(0x1.5555555555555p-3, 0x1.5555555555555p-57) + s * p;
  p = 0.5 + s * p;
  return s + (s * s) * p;
}

/// exp(x + rest) 2^n without intermediate overflow, |rest| < 2^-90: x = k log 2 + j/64 + s,
/// exp(j/64) from a table.
HALFULP_HD inline dd exp_scaled(dd x, int n, double rest = 0) {
  static constexpr double table[47][2] = {
      {0x1.656f00bf5796ap-1, 0x1.93e6dd6872d13p-55},
      {0x1.6b0ff72deb89dp-1, -0x1.dabf5975c0c02p-57},
      {0x1.70c79eba33c07p-1, -0x1.58b71227465a1p-55},
      {0x1.769652df22f7ep-1, 0x1.3445f7544e0efp-57},
      {0x1.7c7c70887763cp-1, -0x1.09aa682553231p-60},
      {0x1.827a561889716p-1, -0x1.6b2eab63020c1p-57},
      {0x1.8890636e31f54p-1, 0x1.d9c29d8d982edp-56},
      {0x1.8ebef9eac820bp-1, -0x1.797d4686c5393p-57},
      {0x1.95067c78379f2p-1, 0x1.f483a3e8cd60fp-55},
      {0x1.9b674f8f2f3d8p-1, -0x1.51bfdbb129094p-55},
      {0x1.a1e1d93d687d0p-1, 0x1.e3a6bdaece8f9p-58},
      {0x1.a876812c0877cp-1, -0x1.fd36226fadd44p-56},
      {0x1.af25b0a61a7b5p-1, -0x1.676a52a1a618bp-55},
      {0x1.b5efd29f24c26p-1, 0x1.3d5fd7d70a5edp-56},
      {0x1.bcd553b9d7b62p-1, 0x1.6ad4c353465b0p-61},
      {0x1.c3d6a24ed8222p-1, -0x1.e1e0a76cb0685p-55},
      {0x1.caf42e73a4c7ep-1, -0x1.b5beee8bcee31p-55},
      {0x1.d22e6a0197c03p-1, -0x1.32ae7bdaf1116p-55},
      {0x1.d985c89d041a3p-1, 0x1.8798de3138a56p-57},
      {0x1.e0fabfbc702a4p-1, -0x1.8d0e700fcfb65p-56},
      {0x1.e88dc6afecfc0p-1, -0x1.38e62149c16e2p-55},
      {0x1.f03f56a88b5d8p-1, -0x1.bad3fd501a227p-55},
      {0x1.f80feabfeefa5p-1, -0x1.b60bbd08aac55p-55},
      {0x1p+0, 0x0.0p+0},
      {0x1.04080ab55de39p+0, 0x1.7ab864b3e9045p-56},
      {0x1.08205601127edp+0, -0x1.9c7d0bdf15160p-54},
      {0x1.0c49236829e8cp+0, -0x1.eb6980ce14da7p-55},
      {0x1.1082b577d34edp+0, 0x1.f56c680678897p-54},
      {0x1.14cd4fc989cd6p+0, 0x1.1557a8671b89ep-54},
      {0x1.192937074e0cdp+0, 0x1.a24f46336ea04p-54},
      {0x1.1d96b0eff0e79p+0, 0x1.e8ac7a4d3206cp-55},
      {0x1.2216045b6f5cdp+0, -0x1.8c4a5df1ec7e5p-58},
      {0x1.26a7793f60164p+0, 0x1.5aeb9860044d0p-55},
      {0x1.2b4b58b372c79p+0, 0x1.404dd9f031676p-54},
      {0x1.3001ecf601af7p+0, 0x1.7ab912c69ffebp-61},
      {0x1.34cb8170b5835p+0, 0x1.6a7062465be33p-55},
      {0x1.39a862bd3c106p+0, 0x1.7dd1a79cbd0fcp-54},
      {0x1.3e98deaa11dccp+0, -0x1.5722108fefcffp-54},
      {0x1.439d443f5f159p+0, -0x1.1c5b2e8735a43p-56},
      {0x1.48b5e3c3e8186p+0, 0x1.9d9ef0eda6eabp-54},
      {0x1.4de30ec211e60p+0, 0x1.3b5223eca1712p-56},
      {0x1.5325180cfacf7p+0, 0x1.b28b660a648dap-54},
      {0x1.587c53c5a7af0p+0, 0x1.3b0e93c017937p-55},
      {0x1.5de9176045ff5p+0, 0x1.da89923298baap-55},
      {0x1.636bb9a983258p+0, 0x1.349cc31f7248dp-54},
      {0x1.690492cbf9433p+0, -0x1.812833f7d6e43p-55},
      {0x1.6eb3fc55b1e76p+0, -0x1.2d8a6cc888d03p-54},
  };
  constexpr double ln2_a = 0x1.62e42fefa0000p-1;  // 38 bits: k ln2_a is exact
  constexpr double ln2_b = 0x1.cf79abc9e0000p-40;
  constexpr double ln2_c = 0x1.d9cc01f97b57ap-79;
  if (!(std::fabs(x.hi) < 1500)) return x.hi > 0 ? infinity : x.hi < 0 ? dd(0) : nan;
  const double k = nearest_small(x.hi * 0x1.71547652b82fep+0);
  dd r = two_sum(x.hi, -k * ln2_a) + x.lo;
  r = r - k * ln2_b;
  r = r - k * ln2_c;
  const double j = nearest_small(64 * r.hi);
  const dd p = expm1_taylor(r - j / 64) + rest;
  const double* t = table[static_cast<int>(j) + 23];
  const dd e(t[0], t[1]);
  return scale(e + e * p, static_cast<int>(k) + n);
}

/// log(1 + f) for |f| < 1/80: f - s (f - R), s = f/(2 + f), R = sum 2 s^(2i)/(2i+1); the rounding
/// of the quotient is damped by f.
HALFULP_HD inline dd log1p_small(dd f) {
  const dd s = f / (2.0 + f);
  const dd s2 = s * s;
  const double t = s2.hi;
  const double tail =
      t * (0x1.c71c71c71c71cp-3 +
           t * (0x1.745d1745d1746p-3 + t * (0x1.3b13b13b13b14p-3 + t * 0x1.1111111111111p-3)));
  dd r = dd(0x1.2492492492492p-2, 0x1.2492492492492p-56) + tail;
  r = dd(0x1.999999999999ap-2, -0x1.999999999999ap-56) + s2 * r;
  r = dd(0x1.5555555555555p-1, 0x1.5555555555555p-55) + s2 * r;
  return f - s * (f - s2 * r);
}

/// x = m 2^n with m in [1/sqrt 2, sqrt 2), x finite and positive; returns n.
HALFULP_HD inline int split_exponent(dd x, dd& m) {
  int shift = 0;
  if (x.hi < 0x1p-700) {
    x = {x.hi * 0x1p400, x.lo * 0x1p400};
    shift = 400;
  }
  const long long bits = __builtin_bit_cast(long long, x.hi);
  int n = static_cast<int>(bits >> 52) - 1023;
  m.hi = __builtin_bit_cast(double, (bits & 0xfffffffffffffLL) | 0x3ff0000000000000LL);
  if (m.hi > 0x1.6a09e667f3bcdp+0) {
    m.hi /= 2;
    ++n;
  }
  const int half = n / 2;
  m.lo = x.lo * pow2(-half) * pow2(half - n);
  return n - shift;
}

/// x = m 2^exponent with m in [1/sqrt 2, sqrt 2); returns log m. x finite and positive.
HALFULP_HD inline dd log_reduced(dd x, int& exponent) {
  // c = 64/j rounded, -log c; j = 45..91 is the nearest integer to 64 m
  static constexpr double table[47][3] = {
      {0x1.6c16c16c16c17p+0, -0x1.68ac83e9c6a15p-2, 0x1.acd8a9145ff44p-57},
      {0x1.642c8590b2164p+0, -0x1.522ae0738a3d7p-2, -0x1.3840b263acb43p-56},
      {0x1.5c9882b931057p+0, -0x1.3c25277333183p-2, -0x1.152d81af5713ap-56},
      {0x1.5555555555555p+0, -0x1.269621134db91p-2, -0x1.e0efadd9db02ap-56},
      {0x1.4e5e0a72f0539p+0, -0x1.1178e8227e47ap-2, -0x1.b8ce2d07f1cb7p-56},
      {0x1.47ae147ae147bp+0, -0x1.f991c6cb3b37ap-3, -0x1.ecca0cdf30143p-58},
      {0x1.4141414141414p+0, -0x1.d1037f2655e7bp-3, 0x1.3f3adb7b71cbcp-58},
      {0x1.3b13b13b13b14p+0, -0x1.a93ed3c8ad9e5p-3, -0x1.bcafa9de97202p-57},
      {0x1.3521cfb2b78c1p+0, -0x1.823c16551a3c0p-3, -0x1.6dcd318f4187ep-57},
      {0x1.2f684bda12f68p+0, -0x1.5bf406b543db0p-3, 0x1.1f5b44c0df7f7p-61},
      {0x1.29e4129e4129ep+0, -0x1.365fcb0159014p-3, -0x1.bea08d2dca256p-57},
      {0x1.2492492492492p+0, -0x1.1178e8227e47ap-3, 0x1.0e63a5f01c693p-58},
      {0x1.1f7047dc11f70p+0, -0x1.da7276384469ep-4, -0x1.401fa71733017p-58},
      {0x1.1a7b9611a7b96p+0, -0x1.9335e5d594988p-4, 0x1.478a85704ccb7p-58},
      {0x1.15b1e5f75270dp+0, -0x1.4d3115d207eacp-4, -0x1.da7d0b1e10b2fp-60},
      {0x1.1111111111111p+0, -0x1.08598b59e3a06p-4, 0x1.dd7009902bf32p-58},
      {0x1.0c9714fbcda3bp+0, -0x1.894aa149fb34bp-5, 0x1.2ba0b44cfaee5p-59},
      {0x1.0842108421084p+0, -0x1.0415d89e74440p-5, -0x1.c05cf1d753621p-59},
      {0x1.0410410410410p+0, -0x1.0205658935837p-6, -0x1.27c8e8416e717p-60},
      {0x1p+0, 0x0.0p+0, 0x0.0p+0},
      {0x1.f81f81f81f820p-1, 0x1.fc0a8b0fc03c4p-7, -0x1.83092c5964281p-62},
      {0x1.f07c1f07c1f08p-1, 0x1.f829b0e7832f8p-6, 0x1.33e3f04f1ef25p-60},
      {0x1.e9131abf0b767p-1, 0x1.77458f632dcffp-5, 0x1.8d3ca87b92968p-63},
      {0x1.e1e1e1e1e1e1ep-1, 0x1.f0a30c01162a8p-5, 0x1.85f325c5bbacdp-59},
      {0x1.dae6076b981dbp-1, 0x1.341d7961bd1d0p-4, -0x1.3599f227becbbp-58},
      {0x1.d41d41d41d41dp-1, 0x1.6f0d28ae56b4ep-4, -0x1.20db323097324p-59},
      {0x1.cd85689039b0bp-1, 0x1.a926d3a4ad562p-4, -0x1.d7a16eab1e2adp-59},
      {0x1.c71c71c71c71cp-1, 0x1.e27076e2af2eap-4, -0x1.61578001e015ap-60},
      {0x1.c0e070381c0e0p-1, 0x1.0d77e7cd08e5bp-3, 0x1.9a5dc5e9030adp-57},
      {0x1.bacf914c1bad0p-1, 0x1.29552f81ff521p-3, 0x1.301771c407dc0p-57},
      {0x1.b4e81b4e81b4fp-1, 0x1.44d2b6ccb7d1cp-3, 0x1.7d3d950f87e23p-59},
      {0x1.af286bca1af28p-1, 0x1.5ff3070a793d6p-3, -0x1.bc60efafc6f6cp-58},
      {0x1.a98ef606a63bep-1, 0x1.7ab890210d907p-3, -0x1.1072534a57e7dp-57},
      {0x1.a41a41a41a41ap-1, 0x1.9525a9cf456b6p-3, -0x1.26fb3e2b1d1dap-57},
      {0x1.9ec8e951033d9p-1, 0x1.af3c94e80bff3p-3, 0x1.a3398064df33ep-57},
      {0x1.999999999999ap-1, 0x1.c8ff7c79a9a20p-3, -0x1.4f689f8434011p-57},
      {0x1.948b0fcd6e9e0p-1, 0x1.e27076e2af2e8p-3, -0x1.61578001e015ep-59},
      {0x1.8f9c18f9c18fap-1, 0x1.fb9186d5e3e29p-3, 0x1.355519b0de535p-57},
      {0x1.8acb90f6bf3aap-1, 0x1.0a324e27390e2p-2, 0x1.bdcfde8061c03p-56},
      {0x1.8618618618618p-1, 0x1.1675cababa60fp-2, 0x1.ce63eab883727p-61},
      {0x1.8181818181818p-1, 0x1.22941fbcf7966p-2, -0x1.dbd7ac258a2bdp-58},
      {0x1.7d05f417d05f4p-1, 0x1.2e8e2bae11d31p-2, -0x1.1e99b72bd7bf2p-57},
      {0x1.78a4c8178a4c8p-1, 0x1.3a64c556945eap-2, 0x1.cbcd735d03424p-60},
      {0x1.745d1745d1746p-1, 0x1.4618bc21c5ec2p-2, -0x1.7a42642661c62p-61},
      {0x1.702e05c0b8170p-1, 0x1.51aad872df82ep-2, -0x1.d8db0a7cc1543p-56},
      {0x1.6c16c16c16c17p-1, 0x1.5d1bdbf5809cap-2, -0x1.7dc9c7c23801fp-56},
      {0x1.6816816816817p-1, 0x1.686c81e9b14adp-2, 0x1.710af840538e3p-56},
  };
  dd m;
  exponent = split_exponent(x, m);
  const double* t = table[static_cast<int>(nearest_small(64 * m.hi)) - 45];
  const dd p = two_prod(m.hi, t[0]);
  const dd f = (two_sum(p.hi, -1.0) + p.lo) + two_prod(m.lo, t[0]);
  return dd(t[1], t[2]) + log1p_small(f);
}

/// r = x - n pi/64 for |x| < 2^44, |r| <= pi/128 (1 + 2^-50); n modulo 128. The error is a few
/// 2^-106 |r| + 2^-157 |x|.
HALFULP_HD inline int reduce_pi64(dd x, dd& r) {
  const double q = nearest_small(x.hi * 0x1.45f306dc9c883p+4);
  dd p = two_prod(q, 0x1.921fb54442d18p-5);
  r = two_sum(x.hi, -p.hi) + x.lo;
  r = r - p.lo;
  r = r - two_prod(q, 0x1.1a62633145c07p-59);
  r = r - two_prod(q, -0x1.f1976b7ed8fbcp-115);
  r = r - q * 0x1.4cf98e804177dp-169;
  return static_cast<int>(static_cast<long long>(q) & 127);
}

/// x = M 2^E, M an integer of 53 bits: adds x (2/pi) modulo 4 to a fixed-point number of 192 bits
/// (most significant word first, two bits before the point), error < 2^-137.
HALFULP_HD inline void add_quarter_turns(double x, unsigned (&sum)[6]) {
  static constexpr unsigned two_over_pi[40] = {
      0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab,
      0xdebbc561, 0xb7246e3a, 0x424dd2e0, 0x06492eea, 0x09d1921c, 0xfe1deb1c, 0xb129a73e,
      0xe88235f5, 0x2ebb4484, 0xe99c7026, 0xb45f7e41, 0x3991d639, 0x835339f4, 0x9c845f8b,
      0xbdf9283b, 0x1ff897ff, 0xde05980f, 0xef2f118b, 0x5a0a6d1f, 0x6d367ecf, 0x27cb09b7,
      0x4f463f66, 0x9e5fea2d, 0x7527bac7, 0xebe5f17b, 0x3d0739f7, 0x8a5292ea, 0x6bfb5fb1,
      0x1f8d5d08, 0x56033046, 0xfc7b6bab, 0xf0cfbc20, 0x9af4361d};
  const long long bits = __builtin_bit_cast(long long, x);
  const int biased = static_cast<int>((bits >> 52) & 0x7ff);
  if (biased < 1023 - 140) return;
  const unsigned long long m = (bits & 0xfffffffffffffLL) | 0x10000000000000LL;
  const unsigned long long limb[2] = {m & 0xffffffffu, m >> 32};
  // the window starts at the bit of 2/pi that weighs 2^(1 - E); bits before the table are zero
  const int start = biased - 1023 - 52 - 2 + 64 * 32;
  const int first = start / 32 - 64, shift = start % 32;
  unsigned product[6] = {};
  for (int j = 0; j < 2; ++j) {
    unsigned long long carry = 0;
    for (int i = 5; i >= j; --i) {
      const int w = first + i;
      const unsigned long long left = w >= 0 ? two_over_pi[w] : 0u;
      const unsigned long long right = w + 1 >= 0 ? two_over_pi[w + 1] : 0u;
      const unsigned long long window = ((left << 32 | right) >> (32 - shift)) & 0xffffffffu;
      carry += window * limb[j] + product[i - j];
      product[i - j] = static_cast<unsigned>(carry);
      carry >>= 32;
    }
  }
  long long carry = 0;
  for (int i = 5; i >= 0; --i) {
    carry += bits < 0 ? static_cast<long long>(sum[i]) - product[i]
                      : static_cast<long long>(sum[i]) + product[i];
    sum[i] = static_cast<unsigned>(carry);
    carry >>= 32;
  }
}

/// reduce_pi64 for any finite x, by integer arithmetic (Payne, Hanek). The error is 5 u^2 |r| +
/// 2^-136.
HALFULP_HD inline int reduce_pi64_large(dd x, dd& r) {
  unsigned sum[6] = {};
  add_quarter_turns(x.hi, sum);
  add_quarter_turns(x.lo, sum);
  const unsigned n = (sum[0] + (1u << 24)) >> 25;
  const double head = static_cast<int>(sum[0] - (n << 25));
  dd f = dd(sum[3] * 0x1p-126 + sum[4] * 0x1p-158) + sum[2] * 0x1p-94;
  f = f + sum[1] * 0x1p-62;
  f = f + head * 0x1p-30;
  r = f * half_pi();
  return static_cast<int>(n & 127);
}

/// sin and cos of j pi/64 + r, j = -16..16, |r| < 1/40.
HALFULP_HD inline void sincos_reduced(int j, dd r, dd& s, dd& c) {
  // sin, cos of j pi/64
  static constexpr double table[17][4] = {
      {0x0.0p+0, 0x0.0p+0, 0x1p+0, 0x0.0p+0},
      {0x1.91f65f10dd814p-5, -0x1.912bd0d569a90p-61, 0x1.ff621e3796d7ep-1, -0x1.c57bc2e24aa15p-57},
      {0x1.917a6bc29b42cp-4, -0x1.e2718d26ed688p-60, 0x1.fd88da3d12526p-1, -0x1.87df6378811c7p-55},
      {0x1.2c8106e8e613ap-3, 0x1.13000a89a11e0p-58, 0x1.fa7557f08a517p-1, -0x1.7a0a8ca13571fp-55},
      {0x1.8f8b83c69a60bp-3, -0x1.26d19b9ff8d82p-57, 0x1.f6297cff75cb0p-1, 0x1.562172a361fd3p-56},
      {0x1.f19f97b215f1bp-3, -0x1.42deef11da2c4p-57, 0x1.f0a7efb9230d7p-1, 0x1.52c7adc6b4989p-56},
      {0x1.294062ed59f06p-2, -0x1.5d28da2c4612dp-56, 0x1.e9f4156c62ddap-1, 0x1.760b1e2e3f81ep-55},
      {0x1.58f9a75ab1fddp-2, -0x1.efdc0d58cf620p-62, 0x1.e212104f686e5p-1, -0x1.014c76c126527p-55},
      {0x1.87de2a6aea963p-2, -0x1.72cedd3d5a610p-57, 0x1.d906bcf328d46p-1, 0x1.457e610231ac2p-56},
      {0x1.b5d1009e15cc0p-2, 0x1.5b362cb974183p-57, 0x1.ced7af43cc773p-1, -0x1.e7b6bb5ab58aep-58},
      {0x1.e2b5d3806f63bp-2, 0x1.e0d891d3c6841p-58, 0x1.c38b2f180bdb1p-1, -0x1.6e0b1757c8d07p-56},
      {0x1.073879922ffeep-1, -0x1.a5a014347406cp-55, 0x1.b728345196e3ep-1, -0x1.bc69f324e6d61p-55},
      {0x1.1c73b39ae68c8p-1, 0x1.b25dd267f6600p-55, 0x1.a9b66290ea1a3p-1, 0x1.9f630e8b6dac8p-60},
      {0x1.30ff7fce17035p-1, -0x1.efcc626f74a6fp-57, 0x1.9b3e047f38741p-1, -0x1.30ee286712474p-55},
      {0x1.44cf325091dd6p-1, 0x1.8076a2cfdc6b3p-57, 0x1.8bc806b151741p-1, -0x1.2c5e12ed1336dp-55},
      {0x1.57d69348ceca0p-1, -0x1.75720992bfbb2p-55, 0x1.7b5df226aafafp-1, -0x1.0f537acdf0ad7p-56},
      {0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55, 0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55},
  };
  const dd r2 = r * r;
  const double t = r2.hi;
  const double sin_tail =
      t * (0x1.71de3a556c734p-19 + t * (-0x1.ae64567f544e4p-26 + t * 0x1.6124613a86d09p-33));
  dd p = dd(-0x1.a01a01a01a01ap-13, -0x1.a01a01a01a01ap-73) + sin_tail;
  p = dd(0x1.1111111111111p-7, 0x1.1111111111111p-63) + r2 * p;
  p = dd(-0x1.5555555555555p-3, -0x1.5555555555555p-57) + r2 * p;
  const dd sin_r = r + (r * r2) * p;
  const double cos_tail =
      t * (0x1.a01a01a01a01ap-16 +
           t * (-0x1.27e4fb7789f5cp-22 + t * (0x1.1eed8eff8d898p-29 + t * -0x1.93974a8c07c9dp-37)));
  p = dd(-0x1.6c16c16c16c17p-10, 0x1.f49f49f49f49fp-65) + cos_tail;
  p = dd(0x1.5555555555555p-5, 0x1.5555555555555p-59) + r2 * p;
  const dd cos_r1 = r2 * (-0.5 + r2 * p);  // cos r - 1
  if (j == 0) {
    s = sin_r;
    c = 1.0 + cos_r1;
    return;
  }
  const double* entry = table[j < 0 ? -j : j];
  const dd a = j < 0 ? dd(-entry[0], -entry[1]) : dd(entry[0], entry[1]);
  const dd b(entry[2], entry[3]);
  s = a + (a * cos_r1 + b * sin_r);
  c = b + (b * cos_r1 - a * sin_r);
}

}  // namespace kernel

HALFULP_HD inline dd exp(dd x) { return kernel::exp_scaled(x, 0); }

/// exp(x) - 1, to full relative accuracy at 0.
HALFULP_HD inline dd expm1(dd x) {
  static constexpr double table[47][2] = {
      {-0x1.3521fe8150d2bp-2, -0x1.b0648a5e34bb6p-57},
      {-0x1.29e011a428ec6p-2, -0x1.dabf5975c0c02p-57},
      {-0x1.1e70c28b987f3p-2, 0x1.4e91dbb1734bdp-56},
      {-0x1.12d35a41ba104p-2, 0x1.3445f7544e0efp-57},
      {-0x1.07071eef11388p-2, -0x1.09aa682553231p-60},
      {-0x1.f616a79dda3a8p-3, -0x1.6b2eab63020c1p-57},
      {-0x1.ddbe7247382afp-3, -0x1.31eb13933e894p-59},
      {-0x1.c5041854df7d4p-3, -0x1.797d4686c5393p-57},
      {-0x1.abe60e1f21836p-3, -0x1.6f8b82e653e2dp-60},
      {-0x1.9262c1c3430a1p-3, -0x1.46ff6ec4a4251p-57},
      {-0x1.78789b0a5e0c0p-3, 0x1.e3a6bdaece8f9p-58},
      {-0x1.5e25fb4fde211p-3, 0x1.64eec82915df3p-63},
      {-0x1.43693d679612dp-3, -0x1.9da94a869862ap-57},
      {-0x1.2840b5836cf67p-3, -0x1.85405051eb425p-57},
      {-0x1.0caab118a1278p-3, 0x1.6ad4c353465b0p-61},
      {-0x1.e14aed893eef4p-4, 0x1.e1f58934f97afp-59},
      {-0x1.a85e8c62d9c13p-4, -0x1.adf7745e77188p-58},
      {-0x1.6e8caff341feap-4, -0x1.9573ded7888b2p-58},
      {-0x1.33d1bb17df2e7p-4, -0x1.e19c873b1d6a8p-59},
      {-0x1.f0540438fd5c3p-5, -0x1.a1ce01f9f6ca7p-61},
      {-0x1.7723950130405p-5, 0x1.c677ad8fa478dp-61},
      {-0x1.f8152aee9450ep-6, 0x1.4b00abf977627p-61},
      {-0x1.fc055004416dbp-7, -0x1.82ef422ab152ap-61},
      {0x0.0p+0, 0x0.0p+0},
      {0x1.0202ad5778e46p-6, -0x1.51e6d305beec6p-62},
      {0x1.040ac0224fd93p-5, 0x1.c17a107575019p-61},
      {0x1.89246d053d178p-5, 0x1.4967f31eb2595p-59},
      {0x1.082b577d34ed8p-4, -0x1.5272ff30eed1bp-59},
      {0x1.4cd4fc989cd64p-4, 0x1.557a8671b89e7p-58},
      {0x1.92937074e0cd7p-4, -0x1.db0b9cc915fc5p-58},
      {0x1.d96b0eff0e794p-4, -0x1.75385b2cdf93dp-59},
      {0x1.10b022db7ae68p-3, -0x1.8c4a5df1ec7e5p-58},
      {0x1.353bc9fb00b21p-3, 0x1.6bae618011342p-57},
      {0x1.5a5ac59b963cbp-3, -0x1.fd91307e74c50p-57},
      {0x1.800f67b00d7b8p-3, 0x1.7ab912c69ffebp-61},
      {0x1.a65c0b85ac1a9p-3, 0x1.a9c189196f8cdp-57},
      {0x1.cd4315e9e0833p-3, -0x1.172c31a1781f1p-61},
      {0x1.f4c6f5508ee5dp-3, 0x1.46ef7b808180ap-57},
      {0x1.0e7510fd7c564p-2, -0x1.1c5b2e8735a43p-56},
      {0x1.22d78f0fa061ap-2, -0x1.89843c4964554p-56},
      {0x1.378c3b0847980p-2, 0x1.3b5223eca1712p-56},
      {0x1.4c946033eb3dep-2, -0x1.35d267d66dc96p-56},
      {0x1.61f14f169ebc1p-2, -0x1.89e2d87fd0d92p-56},
      {0x1.77a45d8117fd5p-2, -0x1.2bb36e6b3a2afp-58},
      {0x1.8daee6a60c961p-2, 0x1.a4e618fb92468p-57},
      {0x1.a4124b2fe50cbp-2, 0x1.fb5f3020a46f5p-57},
      {0x1.bacff156c79d7p-2, -0x1.6c5366444681ap-57},
  };
  if (!(std::fabs(x.hi) < 0.34)) {
    if (x.hi < -80) return dd(-1);
    const dd e = exp(x);
    return isfinite(e) ? e - 1.0 : e;
  }
  const double j = kernel::nearest_small(64 * x.hi);
  const dd p = kernel::expm1_taylor(x - j / 64);
  if (j == 0) return x.hi == 0 ? x : p;
  const double* t = table[static_cast<int>(j) + 23];
  const dd e(t[0], t[1]);
  return e + (1.0 + e) * p;
}

/// Natural logarithm; -inf at 0, NaN below.
HALFULP_HD inline dd log(dd x) {
  constexpr double ln2_a = 0x1.62e42fefa2000p-1;  // 40 bits: n ln2_a is exact
  if (!(x.hi > 0) || !isfinite(x)) return {std::log(x.hi), 0};
  int n;
  const dd y = kernel::log_reduced(x, n);
  if (n == 0) return y;
  return n * ln2_a + (y + n * dd(0x1.9ef35793c7673p-41, 0x1.f97b57a079a19p-103));
}

/// log(1 + x), to full relative accuracy at 0.
HALFULP_HD inline dd log1p(dd x) {
  if (!(x.hi > -1) || !isfinite(x)) {
    if (x.hi == -1 && x.lo > 0) return log(dd(x.lo));
    return {std::log1p(x.hi), 0};
  }
  if (std::fabs(x.hi) < 0.0125) return x.hi == 0 ? x : kernel::log1p_small(x);
  const dd u = 1.0 + x;
  const dd lost = (1.0 - u) + x;  // what rounding 1 + x dropped
  return log(u) + lost.hi / u.hi;
}

HALFULP_HD inline dd log2(dd x) {
  if (!(x.hi > 0) || !isfinite(x)) return {std::log2(x.hi), 0};
  int n;
  const dd y = kernel::log_reduced(x, n);
  return n + y * kernel::log2_e();
}

HALFULP_HD inline dd log10(dd x) {
  if (!(x.hi > 0) || !isfinite(x)) return {std::log10(x.hi), 0};
  return log(x) * kernel::log10_e();
}

/// s = sin x and c = cos x together, at the price of one, for any finite x.
/// Near a zero at n pi/2 the error stays relative down to results of 2^-53 |x| (2^-30 for
/// |x| > 2^40) and is absolute beyond: 2^-157 |x| (2^-136).
HALFULP_HD inline void sincos(dd x, dd& s, dd& c) {
  if (!isfinite(x)) {
    s = c = dd(x.hi - x.hi);
    return;
  }
  if (x.hi == 0) {
    s = x;
    c = dd(1);
    return;
  }
  dd r;
  const int n =
      std::fabs(x.hi) < 0x1p40 ? kernel::reduce_pi64(x, r) : kernel::reduce_pi64_large(x, r);
  const int quadrant = (n + 16) >> 5;
  dd a, b;
  kernel::sincos_reduced(n - 32 * quadrant, r, a, b);
  switch (quadrant & 3) {
    case 0:
      s = a, c = b;
      break;
    case 1:
      s = b, c = -a;
      break;
    case 2:
      s = -a, c = -b;
      break;
    default:
      s = -b, c = a;
  }
}

HALFULP_HD inline dd sin(dd x) {
  dd s, c;
  sincos(x, s, c);
  return s;
}

HALFULP_HD inline dd cos(dd x) {
  dd s, c;
  sincos(x, s, c);
  return c;
}

HALFULP_HD inline dd tan(dd x) {
  dd s, c;
  sincos(x, s, c);
  return x.hi == 0 ? x : s / c;
}

/// Largest integer <= x.
HALFULP_HD inline dd floor(dd x) {
  const double hi = std::floor(x.hi);
  if (hi != x.hi || x.lo == 0) return {hi, 0};
  return kernel::quick_two_sum(hi, std::floor(x.lo));
}

/// Smallest integer >= x.
HALFULP_HD inline dd ceil(dd x) {
  const double hi = std::ceil(x.hi);
  if (hi != x.hi || x.lo == 0) return {hi, 0};
  return kernel::quick_two_sum(hi, std::ceil(x.lo));
}

/// Integer part.
HALFULP_HD inline dd trunc(dd x) { return x.hi < 0 ? ceil(x) : floor(x); }

/// Nearest integer, halves away from zero.
HALFULP_HD inline dd round(dd x) {
  const dd n = trunc(x);
  const dd rest = fabs(x - n);
  if (!(rest >= dd(0.5))) return n;
  return x.hi < 0 ? n - 1.0 : n + 1.0;
}

namespace kernel {

/// a + b + c + ... held in three doubles of decreasing size; about 2^-155 relative after add().
struct Triple {
  double a = 0, b = 0, c = 0;
  HALFULP_HD void add(double x) {
    dd s = two_sum(a, x);
    const dd t = two_sum(b, s.lo);
    const double w = c + t.lo;
    s = quick_two_sum(s.hi, t.hi);
    const dd v = quick_two_sum(s.lo, w);
    a = s.hi;
    b = v.hi;
    c = v.lo;
  }
  HALFULP_HD void add(dd x) {
    add(x.hi);
    add(x.lo);
  }
};

/// x = m 2^exponent; log m to about 2^-117 relative, so that pow may multiply it by 700.
/// log(1 + f) = f - f^2/2 + f^3 q(f): only the first two terms need more than double-double.
HALFULP_HD inline Triple log_reduced_triple(dd x, int& exponent) {
  // c = 64/j rounded, -log c in three parts; j = 45..91 is the nearest integer to 64 m
  static constexpr double table[47][4] = {
      {0x1.6c16c16c16c17p+0, -0x1.68ac83e9c6a15p-2, 0x1.acd8a9145ff44p-57, 0x1.15a21fe0b1c6ep-111},
      {0x1.642c8590b2164p+0, -0x1.522ae0738a3d7p-2, -0x1.3840b263acb43p-56,
       -0x1.888231891aabep-111},
      {0x1.5c9882b931057p+0, -0x1.3c25277333183p-2, -0x1.152d81af5713ap-56, 0x1.1154214fcfa36p-110},
      {0x1.5555555555555p+0, -0x1.269621134db91p-2, -0x1.e0efadd9db02ap-56,
       -0x1.385461e921b99p-111},
      {0x1.4e5e0a72f0539p+0, -0x1.1178e8227e47ap-2, -0x1.b8ce2d07f1cb7p-56, 0x1.a01c44ae02789p-110},
      {0x1.47ae147ae147bp+0, -0x1.f991c6cb3b37ap-3, -0x1.ecca0cdf30143p-58, 0x1.64f89bb123836p-113},
      {0x1.4141414141414p+0, -0x1.d1037f2655e7bp-3, 0x1.3f3adb7b71cbcp-58, -0x1.e03fc22bd8feep-114},
      {0x1.3b13b13b13b14p+0, -0x1.a93ed3c8ad9e5p-3, -0x1.bcafa9de97202p-57,
       -0x1.ccdcee3115f1fp-111},
      {0x1.3521cfb2b78c1p+0, -0x1.823c16551a3c0p-3, -0x1.6dcd318f4187ep-57,
       -0x1.f481eacf6db47p-113},
      {0x1.2f684bda12f68p+0, -0x1.5bf406b543db0p-3, 0x1.1f5b44c0df7f7p-61, 0x1.25a7abe3c6680p-115},
      {0x1.29e4129e4129ep+0, -0x1.365fcb0159014p-3, -0x1.bea08d2dca256p-57, 0x1.bf1efc9fe606ep-111},
      {0x1.2492492492492p+0, -0x1.1178e8227e47ap-3, 0x1.0e63a5f01c693p-58, -0x1.03c776a3fb0efp-112},
      {0x1.1f7047dc11f70p+0, -0x1.da7276384469ep-4, -0x1.401fa71733017p-58, 0x1.0554118a2fe2ep-112},
      {0x1.1a7b9611a7b96p+0, -0x1.9335e5d594988p-4, 0x1.478a85704ccb7p-58, -0x1.112e6b065fe5ep-113},
      {0x1.15b1e5f75270dp+0, -0x1.4d3115d207eacp-4, -0x1.da7d0b1e10b2fp-60,
       -0x1.7d34a76de4fddp-114},
      {0x1.1111111111111p+0, -0x1.08598b59e3a06p-4, 0x1.dd7009902bf32p-58, 0x1.53ed0393a700ep-112},
      {0x1.0c9714fbcda3bp+0, -0x1.894aa149fb34bp-5, 0x1.2ba0b44cfaee5p-59, 0x1.0afcb9f93ac8bp-114},
      {0x1.0842108421084p+0, -0x1.0415d89e74440p-5, -0x1.c05cf1d753621p-59,
       -0x1.3bc1c184cef09p-114},
      {0x1.0410410410410p+0, -0x1.0205658935837p-6, -0x1.27c8e8416e717p-60, 0x1.19642aac13124p-116},
      {0x1p+0, 0x0.0p+0, 0x0.0p+0, 0x0.0p+0},
      {0x1.f81f81f81f820p-1, 0x1.fc0a8b0fc03c4p-7, -0x1.83092c5964281p-62, -0x1.52414fc416fd7p-116},
      {0x1.f07c1f07c1f08p-1, 0x1.f829b0e7832f8p-6, 0x1.33e3f04f1ef25p-60, -0x1.814544147acc9p-114},
      {0x1.e9131abf0b767p-1, 0x1.77458f632dcffp-5, 0x1.8d3ca87b92968p-63, 0x1.07937ee036553p-117},
      {0x1.e1e1e1e1e1e1ep-1, 0x1.f0a30c01162a8p-5, 0x1.85f325c5bbacdp-59, -0x1.d9cb2e2cb3228p-118},
      {0x1.dae6076b981dbp-1, 0x1.341d7961bd1d0p-4, -0x1.3599f227becbbp-58, -0x1.47ef2f89ad244p-115},
      {0x1.d41d41d41d41dp-1, 0x1.6f0d28ae56b4ep-4, -0x1.20db323097324p-59, 0x1.919ca183deca2p-113},
      {0x1.cd85689039b0bp-1, 0x1.a926d3a4ad562p-4, -0x1.d7a16eab1e2adp-59, 0x1.99a9f67e22ed2p-116},
      {0x1.c71c71c71c71cp-1, 0x1.e27076e2af2eap-4, -0x1.61578001e015ap-60, 0x1.55db94ebc402dp-116},
      {0x1.c0e070381c0e0p-1, 0x1.0d77e7cd08e5bp-3, 0x1.9a5dc5e9030adp-57, -0x1.71dbd9a581397p-111},
      {0x1.bacf914c1bad0p-1, 0x1.29552f81ff521p-3, 0x1.301771c407dc0p-57, -0x1.977b021b7c785p-111},
      {0x1.b4e81b4e81b4fp-1, 0x1.44d2b6ccb7d1cp-3, 0x1.7d3d950f87e23p-59, 0x1.950595f322e9bp-113},
      {0x1.af286bca1af28p-1, 0x1.5ff3070a793d6p-3, -0x1.bc60efafc6f6cp-58, -0x1.140655471953ep-113},
      {0x1.a98ef606a63bep-1, 0x1.7ab890210d907p-3, -0x1.1072534a57e7dp-57, 0x1.aa47fe1494d87p-111},
      {0x1.a41a41a41a41ap-1, 0x1.9525a9cf456b6p-3, -0x1.26fb3e2b1d1dap-57, 0x1.899417da79eedp-117},
      {0x1.9ec8e951033d9p-1, 0x1.af3c94e80bff3p-3, 0x1.a3398064df33ep-57, -0x1.e34c4b23a32d1p-111},
      {0x1.999999999999ap-1, 0x1.c8ff7c79a9a20p-3, -0x1.4f689f8434011p-57, 0x1.a24ae3b2f53a0p-111},
      {0x1.948b0fcd6e9e0p-1, 0x1.e27076e2af2e8p-3, -0x1.61578001e015ep-59, 0x1.55db94ebc4023p-115},
      {0x1.8f9c18f9c18fap-1, 0x1.fb9186d5e3e29p-3, 0x1.355519b0de535p-57, 0x1.682480b088ab6p-113},
      {0x1.8acb90f6bf3aap-1, 0x1.0a324e27390e2p-2, 0x1.bdcfde8061c03p-56, 0x1.faa3780d6bef8p-110},
      {0x1.8618618618618p-1, 0x1.1675cababa60fp-2, 0x1.ce63eab883727p-61, 0x1.1f833e825228bp-119},
      {0x1.8181818181818p-1, 0x1.22941fbcf7966p-2, -0x1.dbd7ac258a2bdp-58, 0x1.3d2e9aad37a78p-112},
      {0x1.7d05f417d05f4p-1, 0x1.2e8e2bae11d31p-2, -0x1.1e99b72bd7bf2p-57, -0x1.464244294826fp-111},
      {0x1.78a4c8178a4c8p-1, 0x1.3a64c556945eap-2, 0x1.cbcd735d03424p-60, -0x1.485c31181fd5fp-119},
      {0x1.745d1745d1746p-1, 0x1.4618bc21c5ec2p-2, -0x1.7a42642661c62p-61, 0x1.05772cd24c009p-116},
      {0x1.702e05c0b8170p-1, 0x1.51aad872df82ep-2, -0x1.d8db0a7cc1543p-56, -0x1.f7158586541a0p-110},
      {0x1.6c16c16c16c17p-1, 0x1.5d1bdbf5809cap-2, -0x1.7dc9c7c23801fp-56, 0x1.487ce02d29ad1p-110},
      {0x1.6816816816817p-1, 0x1.686c81e9b14adp-2, 0x1.710af840538e3p-56, -0x1.75348484b8f33p-110},
  };
  dd m;
  exponent = split_exponent(x, m);
  const double* t = table[static_cast<int>(nearest_small(64 * m.hi)) - 45];
  const dd p = two_prod(m.hi, t[0]), q = two_prod(m.lo, t[0]);
  Triple f{p.hi - 1, 0, 0};
  f.add(p.lo);
  f.add(q);
  const double g = f.a;
  const double tail =
      g * (-0x1.999999999999ap-4 +
           g * (0x1.745d1745d1746p-4 +
                g * (-0x1.5555555555555p-4 +
                     g * (0x1.3b13b13b13b14p-4 +
                          g * (-0x1.2492492492492p-4 +
                               g * (0x1.1111111111111p-4 +
                                    g * (-0x1p-4 + g * (0x1.e1e1e1e1e1e1ep-5 -
                                                        g * 0x1.c71c71c71c71cp-5))))))));
  const dd h(f.a, f.b);
  dd r = dd(0x1.c71c71c71c71cp-4, 0x1.c71c71c71c71cp-58) + tail;
  r = h * r - 0.125;
  r = h * r + dd(0x1.2492492492492p-3, 0x1.2492492492492p-57);
  r = h * r - dd(0x1.5555555555555p-3, 0x1.5555555555555p-57);
  r = h * r + dd(0x1.999999999999ap-3, -0x1.999999999999ap-57);
  r = h * r - 0.25;
  r = h * r + dd(0x1.5555555555555p-2, 0x1.5555555555555p-56);
  const dd square = two_prod(f.a, f.a);
  const dd cross = two_prod(f.a, f.b);
  Triple sum{t[1], t[2], t[3]};
  sum.add(f.a);
  sum.add(-square.hi / 2);
  sum.add(f.b);
  sum.add(-square.lo / 2);
  sum.add(h * h * h * r);
  sum.add(-cross);
  sum.add(f.c - (f.a * f.c + f.b * f.b / 2));
  return sum;
}

/// x^y for finite x > 0 and finite y: 2^(n y) m^y, the exponent kept to 2^-107 absolute.
HALFULP_HD inline dd pow_positive(dd x, dd y) {
  if (x == dd(1)) return dd(1);
  if (std::fabs(y.hi) > 0x1p120)  // |y log x| > 2^13
    return (x > dd(1)) == (y.hi > 0) ? infinity : dd(0);
  int n;
  const Triple l = log_reduced_triple(x, n);
  // the size of the result first: beyond the range nothing below may overflow
  const double size = y.hi * (n + l.a * 0x1.71547652b82fep+0);
  if (!(std::fabs(size) < 1100)) return size > 0 ? infinity : dd(0);
  const double k = nearest_small(y.hi * n);
  // y n is exact in three doubles; its fraction times log 2 joins y log m
  const dd yn = two_prod(y.hi, n), yn2 = two_prod(y.lo, n);
  Triple fraction{yn.hi - k, 0, 0};
  fraction.add(yn.lo);
  fraction.add(yn2);
  Triple z;
  z.add(two_prod(y.hi, l.a));
  z.add(two_prod(fraction.a, 0x1.62e42fefa39efp-1));
  z.add(two_prod(y.hi, l.b));
  z.add(two_prod(y.lo, l.a));
  z.add(two_prod(fraction.a, 0x1.abc9e3b39803fp-56));
  z.add(two_prod(fraction.b, 0x1.62e42fefa39efp-1));
  z.add((y.hi * l.c + y.lo * l.b) +
        (fraction.a * 0x1.7b57a079a1934p-111 + fraction.b * 0x1.abc9e3b39803fp-56 +
         fraction.c * 0x1.62e42fefa39efp-1));
  return exp_scaled(dd(z.a, z.b), static_cast<int>(k), z.c);
}

/// x^y for finite x != 0 and y; odd says whether y is an odd integer.
HALFULP_HD inline dd pow_signed(dd x, dd y, bool odd) {
  const dd r = pow_positive(fabs(x), y);
  return x.hi < 0 && odd ? -r : r;
}

}  // namespace kernel

/// x^n by repeated squaring; the error grows as |n|.
HALFULP_HD inline dd pow(dd x, int n) {
  if (!isfinite(x) || x.hi == 0) return dd(std::pow(x.hi, n));
  if (n == 1) return x;
  unsigned k = n < 0 ? 0u - static_cast<unsigned>(n) : static_cast<unsigned>(n);
  dd r = 1, p = x;
  for (; k != 0; k >>= 1) {
    if (k & 1) r = r * p;
    if (k > 1) p = p * p;
  }
  if (n < 0) r = 1.0 / r;
  // overflow or underflow on the way, or of the result
  return isnan(r) || r.hi == 0 ? kernel::pow_signed(x, dd(n), n % 2 != 0) : r;
}

/// x^y. Exact where x and y are integers and the result is below 2^100, and for powers of two;
/// integers y in [-2, 4] by multiplication.
HALFULP_HD inline dd pow(dd x, dd y) {
  const bool whole = y == floor(y);
  const dd half_y(0.5 * y.hi, 0.5 * y.lo);
  const bool odd = whole && !(half_y == floor(half_y));
  if (x.hi == 0 || !isfinite(x) || !isfinite(y)) {
    if (isnan(y)) return x == dd(1) ? x : y;
    const double r = std::pow(std::fabs(x.hi), y.hi);
    return dd(odd && std::copysign(1.0, x.hi) < 0 ? -r : r);
  }
  if (whole && y.hi >= -2 && y.hi <= 4) return pow(x, static_cast<int>(y.hi));
  if (x.hi < 0 && !whole) return dd(kernel::nan);
  const dd r = kernel::pow_signed(x, y, odd);
  return whole && y.hi > 0 && std::fabs(r.hi) < 0x1p100 && x == floor(x) ? round(r) : r;
}
HALFULP_HD inline dd pow(dd x, double y) { return pow(x, dd(y)); }

/// Angle of the point (x, y) in [-pi, pi]: the double angle plus one exact correction,
/// atan2(y, x) = t + (y cos t - x sin t)/(x cos t + y sin t).
HALFULP_HD inline dd atan2(dd y, dd x) {
  const double ax = std::fabs(x.hi), ay = std::fabs(y.hi);
  if (!isfinite(x) || !isfinite(y) || ax == 0 || ay == 0) {
    const double t = std::atan2(y.hi, x.hi);
    if (t != t || t == 0) return dd(t);
    const double eighths = kernel::nearest_small(t * 0x1.45f306dc9c883p+0);  // a multiple of pi/4
    return kernel::pi() * (eighths / 4);
  }
  int nx = 0, ny = 0;
  std::frexp(ax, &nx);
  std::frexp(ay, &ny);
  if (x.hi > 0 && ny - nx < -60) return ldexp(ldexp(y, -ny) / ldexp(x, -nx), ny - nx);
  const int n = nx > ny ? nx : ny;
  x = ldexp(x, -n);
  y = ldexp(y, -n);
  const double t = std::atan2(y.hi, x.hi);
  dd s, c;
  sincos(dd(t), s, c);
  const dd across = y * c - x * s;
  return dd(t) + across.hi / (x.hi * c.hi + y.hi * s.hi);
}

HALFULP_HD inline dd atan(dd x) { return x.hi == 0 ? x : atan2(x, dd(1)); }

/// NaN for |x| > 1.
HALFULP_HD inline dd asin(dd x) {
  if (!(fabs(x) <= dd(1))) return dd(kernel::nan);
  if (x.hi == 0) return x;
  if (std::fabs(x.hi) > 0.5) return atan2(x, sqrt((1.0 - x) * (1.0 + x)));
  const double t = std::asin(x.hi);
  dd s, c;
  sincos(dd(t), s, c);
  return dd(t) + (x - s).hi / c.hi;
}

/// NaN for |x| > 1; full relative accuracy at 1.
HALFULP_HD inline dd acos(dd x) {
  if (!(fabs(x) <= dd(1))) return dd(kernel::nan);
  return atan2(sqrt((1.0 - x) * (1.0 + x)), x);
}

HALFULP_HD inline dd sinh(dd x) {
  if (x.hi == 0) return x;
  const dd a = fabs(x);
  dd r;
  if (a.hi < 0.34) {
    const dd e = expm1(a);
    r = 0.5 * (e + e / (1.0 + e));
  } else {
    r = kernel::exp_scaled(a, -1);
    if (a.hi < 40) r = r - 0.25 / r;
  }
  return x.hi < 0 ? -r : r;
}

HALFULP_HD inline dd cosh(dd x) {
  const dd a = fabs(x);
  const dd r = kernel::exp_scaled(a, -1);
  return a.hi < 40 ? r + 0.25 / r : r;
}

HALFULP_HD inline dd tanh(dd x) {
  if (x.hi == 0) return x;
  const dd a = fabs(x);
  if (a.hi > 40) return dd(x.hi < 0 ? -1 : 1);
  const dd e = expm1(2.0 * a);
  const dd r = e / (e + 2.0);
  return x.hi < 0 ? -r : r;
}

HALFULP_HD inline dd asinh(dd x) {
  if (x.hi == 0 || !isfinite(x)) return x;
  const dd a = fabs(x);
  const dd r =
      a.hi > 0x1p60 ? log(a) + kernel::ln2() : log1p(a + a * a / (1.0 + sqrt(1.0 + a * a)));
  return x.hi < 0 ? -r : r;
}

/// NaN for x < 1; full relative accuracy at 1.
HALFULP_HD inline dd acosh(dd x) {
  if (!(x >= dd(1))) return dd(kernel::nan);
  if (!isfinite(x)) return x;
  if (x.hi > 0x1p60) return log(x) + kernel::ln2();
  const dd t = x - 1.0;
  return log1p(t + sqrt(t * (t + 2.0)));
}

/// NaN for |x| > 1.
HALFULP_HD inline dd atanh(dd x) {
  if (x.hi == 0) return x;
  const dd a = fabs(x);
  if (!(a <= dd(1))) return dd(kernel::nan);
  if (a == dd(1)) return dd(x.hi * kernel::infinity);
  const dd r = 0.5 * log1p(2.0 * a / (1.0 - a));
  return x.hi < 0 ? -r : r;
}

/// Real cube root: Newton's step and its quadratic term on the double root.
HALFULP_HD inline dd cbrt(dd x) {
  if (x.hi == 0 || !isfinite(x)) return x;
  int n = 0;
  std::frexp(x.hi, &n);
  n = n / 3;
  x = ldexp(x, -3 * n);
  const double y = std::cbrt(x.hi);
  const dd square = kernel::two_prod(y, y);
  const dd d = (x - square * y) / (3.0 * square);
  return ldexp(y + (d - d.hi * d.hi / y), n);
}

/// sqrt(x^2 + y^2) without overflow or underflow of the squares.
HALFULP_HD inline dd hypot(dd x, dd y) {
  if (!isfinite(x) || !isfinite(y)) return dd(std::hypot(x.hi, y.hi));
  const double ax = std::fabs(x.hi), ay = std::fabs(y.hi);
  const double big = ax > ay ? ax : ay;
  if (big == 0) return dd(0);
  int n = 0;
  std::frexp(big, &n);
  x = ldexp(x, -n);
  y = ldexp(y, -n);
  const dd r = ldexp(sqrt(x * x + y * y), n);
  return isfinite(r) ? r : dd(r.hi);
}

namespace kernel {

/// exp(-x^2) with the square to 2^-150 of itself: x^2 in double-double would cost 700 units.
HALFULP_HD inline dd exp_minus_square(dd x) {
  const dd p = two_prod(x.hi, x.hi), q = two_prod(2 * x.hi, x.lo);
  const dd s = two_sum(p.lo, q.hi);
  const dd square = quick_two_sum(p.hi, s.hi);
  const double rest = s.lo + (q.lo + x.lo * x.lo);
  const dd r = exp(-square);
  return r - r * rest;
}

/// erf(x) = 2 x exp(-x^2)/sqrt(pi) sum (2 x^2)^n/(2n+1)!!, DLMF 7.6.2, |x| <= 1; terms all
/// positive.
HALFULP_HD inline dd erf_series(dd x) {
  const dd t = 2.0 * (x * x);
  double tail = 0;
  for (int k = 65; k > 37; k -= 2) tail = t.hi / k * (1 + tail);
  dd sum = 1.0 + dd(tail);
  for (int k = 37; k >= 3; k -= 2) sum = 1.0 + t / static_cast<double>(k) * sum;
  return x * exp_minus_square(x) * sum * dd(0x1.20dd750429b6dp+0, 0x1.1ae3a914fed80p-56);
}

/// erfc(x), 1/2 <= x < 28: the trapezoidal rule with step h for the integral of
/// exp(-t^2)/(t^2 + x^2), exact up to exp(-(pi/h)^2), plus the residue of the pole at t = i x while
/// x < pi/h.
HALFULP_HD inline dd erfc_trapezoid(dd x) {
  constexpr double h = 0.34375;
  static constexpr double table[26][2] = {
      // exp(-(n h)^2), n = 1..26
      {0x1.c6f00f5fd3d7fp-1, -0x1.ca4c29db2b71cp-55},
      {0x1.3f26fc3a423a1p-1, 0x1.8b36154e2d2e1p-55},
      {0x1.618a1d3bed529p-2, 0x1.2edd37e73e54dp-56},
      {0x1.3533a6159f0c4p-3, -0x1.349869c1290e7p-58},
      {0x1.ab03092a9353ep-5, 0x1.9debb5f9023fbp-59},
      {0x1.d1969167c47a6p-7, -0x1.505a2c562b481p-62},
      {0x1.90ccd8cf7ade9p-9, -0x1.335ef811bb2ccp-64},
      {0x1.1068222437d65p-11, 0x1.5fce98a3105e2p-65},
      {0x1.245963dc918c7p-14, -0x1.73913a0a5e77bp-68},
      {0x1.ef6d5dc130f34p-18, -0x1.f2ed4b8ebcfa3p-72},
      {0x1.4b6e1584a8971p-21, -0x1.87dd6f62b70f9p-77},
      {0x1.5e1ac6dedefcap-25, -0x1.c02a1a76710d0p-81},
      {0x1.23fd68479eb54p-29, 0x1.ac3f8221eb6e1p-83},
      {0x1.808806e465fddp-34, -0x1.6740991d7e7a2p-88},
      {0x1.8fd0cab75acbfp-39, 0x1.26cf7ed986fb3p-93},
      {0x1.4835bd010a41bp-44, 0x1.7ab2b43c666b5p-99},
      {0x1.a970798776731p-50, -0x1.e4f9872820c96p-105},
      {0x1.b36631cfedfd5p-56, 0x1.dbb2c353600b1p-113},
      {0x1.5fcdfe28b2b0ap-62, 0x1.c8120d0b0286ap-116},
      {0x1.c0dbccd3eacc1p-69, -0x1.08a9c16a36fbbp-123},
      {0x1.c4261fea6820ap-76, 0x1.828897eee618fp-133},
      {0x1.679920e65d86ep-83, -0x1.ba97a3309dafdp-138},
      {0x1.c397dd170e1d2p-91, 0x1.28d27ddb198e2p-145},
      {0x1.bfc185a84a1f3p-99, -0x1.5874a2869fbb4p-153},
      {0x1.5e825521d18a3p-107, -0x1.f8dcf5a99d83ap-161},
      {0x1.b1433d68c205bp-116, 0x1.312d68fd3f470p-170},
  };
  const dd x2 = x * x;
  double tail = 0;
  for (int n = 26; n > 18; --n) tail += table[n - 1][0] / (n * n * (h * h) + x2.hi);
  dd sum = tail;
  for (int n = 18; n > 0; --n)
    sum = sum + dd(table[n - 1][0], table[n - 1][1]) / (n * n * (h * h) + x2);
  sum = 0.5 / x2 + sum;
  const dd r = x * exp_minus_square(x) * sum * dd(0x1.c02e296f573b4p-3, -0x1.7322a4f39fa77p-57);
  if (x.hi > 0x1.247426bd47de3p+3) return r;
  return r - 2.0 / expm1(x * dd(0x1.247426bd47de3p+4, 0x1.c11e37d528014p-52));
}

}  // namespace kernel

/// 1 - erf(x), full relative accuracy for large x.
HALFULP_HD inline dd erfc(dd x) {
  if (x.hi != x.hi) return x;
  if (x.hi > 28) return dd(0);
  if (x.hi >= 0.5) return kernel::erfc_trapezoid(x);
  if (x.hi >= -1) return 1.0 - kernel::erf_series(x);
  return x.hi < -9 ? dd(2) : 2.0 - kernel::erfc_trapezoid(-x);
}

/// erf(x) = 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
HALFULP_HD inline dd erf(dd x) {
  if (x.hi != x.hi || x.hi == 0) return x;
  if (std::fabs(x.hi) <= 1) return kernel::erf_series(x);
  const dd a = fabs(x);
  const dd r = a.hi > 9 ? dd(1) : 1.0 - kernel::erfc_trapezoid(a);
  return x.hi < 0 ? -r : r;
}

/// Remainder of a/b with the sign of a; error a few 2^-106 |b|.
HALFULP_HD inline dd fmod(dd a, dd b) {
  if (!isfinite(a) || b.hi == 0 || b.hi != b.hi) return dd(std::fmod(a.hi, b.hi));
  const dd m = fabs(b);
  dd r = fabs(a);
  if (!isfinite(b) || r < m) return a;
  // long division, at most 50 bits of the quotient at a time; r may overshoot below zero
  while (r >= m || r.hi < 0) {
    int nr = 0, nm = 0;
    std::frexp(r.hi, &nr);
    std::frexp(m.hi, &nm);
    const int n = nr - nm > 50 ? nr - nm - 50 : 0;
    const int down = nr > 900 ? -200 : 0;  // two_prod must not overflow
    const dd step = ldexp(m, n + down);
    r = ldexp(r, down);
    double q = std::floor(r.hi / step.hi);
    if (q == 0) q = 1;
    const dd p = kernel::two_prod(q, step.hi);
    r = (kernel::two_sum(r.hi, -p.hi) + r.lo) - p.lo;
    r = ldexp(r - kernel::two_prod(q, step.lo), -down);
  }
  return a.hi < 0 ? -r : r;
}

/// a - b floor(a/b): the remainder with the sign of b.
HALFULP_HD inline dd mod(dd a, dd b) {
  const dd r = fmod(a, b);
  if (!isfinite(b)) return isnan(r) || r.hi == 0 || (r.hi < 0) == (b.hi < 0) ? r : b;
  return r.hi != 0 && (r.hi < 0) != (b.hi < 0) ? r + b : r;
}

/// The smaller and the larger of two numbers; NaN if one is NaN.
HALFULP_HD inline dd min(dd a, dd b) { return b < a || isnan(b) ? b : a; }
HALFULP_HD inline dd max(dd a, dd b) { return a < b || isnan(b) ? b : a; }
/// As in `<cmath>`: a NaN is no number and loses.
HALFULP_HD inline dd fmin(dd a, dd b) { return b < a || isnan(a) ? b : a; }
HALFULP_HD inline dd fmax(dd a, dd b) { return a < b || isnan(a) ? b : a; }
/// |x| with the sign of y, that of zero included.
HALFULP_HD inline dd copysign(dd x, dd y) {
  return (std::copysign(1.0, x.hi) < 0) == (std::copysign(1.0, y.hi) < 0) ? x : -x;
}

}  // namespace halfulp
