#include "halfulp/dd.hpp"

#include <mpfr.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <map>
#include <string>

#include "budget.hpp"
#include "dd_cases.hpp"
#include "halfulp/error.hpp"
#include "halfulp/text.hpp"

using halfulp::dd;
using halfulp::DdFunction;
using halfulp::hex_text;
using halfulp::number_text;

namespace {

/// A number of 400 bits: a sum hi + lo of the samples is exact in it.
class Mp {
 public:
  explicit Mp(mpfr_prec_t bits = 400) { mpfr_init2(v, bits); }
  explicit Mp(dd x, mpfr_prec_t bits = 400) : Mp(bits) {
    mpfr_set_d(v, x.hi, MPFR_RNDN);
    mpfr_add_d(v, v, x.lo, MPFR_RNDN);
  }
  Mp(const Mp&) = delete;
  Mp& operator=(const Mp&) = delete;
  ~Mp() { mpfr_clear(v); }
  mpfr_t v;
};

/// The function's value by MPFR, to 400 bits.
void reference(DdFunction f, dd a, dd b, Mp& r) {
  const Mp x(a), y(b);
  const auto rnd = MPFR_RNDN;
  switch (f) {
    case DdFunction::negate:
      mpfr_neg(r.v, x.v, rnd);
      break;
    case DdFunction::fabs:
      mpfr_abs(r.v, x.v, rnd);
      break;
    case DdFunction::sqrt:
      mpfr_sqrt(r.v, x.v, rnd);
      break;
    case DdFunction::cbrt:
      mpfr_cbrt(r.v, x.v, rnd);
      break;
    case DdFunction::exp:
      mpfr_exp(r.v, x.v, rnd);
      break;
    case DdFunction::expm1:
      mpfr_expm1(r.v, x.v, rnd);
      break;
    case DdFunction::log:
      mpfr_log(r.v, x.v, rnd);
      break;
    case DdFunction::log1p:
      mpfr_log1p(r.v, x.v, rnd);
      break;
    case DdFunction::log2:
      mpfr_log2(r.v, x.v, rnd);
      break;
    case DdFunction::log10:
      mpfr_log10(r.v, x.v, rnd);
      break;
    case DdFunction::sin:
      mpfr_sin(r.v, x.v, rnd);
      break;
    case DdFunction::cos:
      mpfr_cos(r.v, x.v, rnd);
      break;
    case DdFunction::tan:
      mpfr_tan(r.v, x.v, rnd);
      break;
    case DdFunction::asin:
      mpfr_asin(r.v, x.v, rnd);
      break;
    case DdFunction::acos:
      mpfr_acos(r.v, x.v, rnd);
      break;
    case DdFunction::atan:
      mpfr_atan(r.v, x.v, rnd);
      break;
    case DdFunction::sinh:
      mpfr_sinh(r.v, x.v, rnd);
      break;
    case DdFunction::cosh:
      mpfr_cosh(r.v, x.v, rnd);
      break;
    case DdFunction::tanh:
      mpfr_tanh(r.v, x.v, rnd);
      break;
    case DdFunction::asinh:
      mpfr_asinh(r.v, x.v, rnd);
      break;
    case DdFunction::acosh:
      mpfr_acosh(r.v, x.v, rnd);
      break;
    case DdFunction::atanh:
      mpfr_atanh(r.v, x.v, rnd);
      break;
    case DdFunction::floor:
      mpfr_rint_floor(r.v, x.v, rnd);
      break;
    case DdFunction::ceil:
      mpfr_rint_ceil(r.v, x.v, rnd);
      break;
    case DdFunction::round:
      mpfr_rint_round(r.v, x.v, rnd);
      break;
    case DdFunction::trunc:
      mpfr_rint_trunc(r.v, x.v, rnd);
      break;
    case DdFunction::erf:
      mpfr_erf(r.v, x.v, rnd);
      break;
    case DdFunction::erfc:
      mpfr_erfc(r.v, x.v, rnd);
      break;
    case DdFunction::add:
      mpfr_add(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::subtract:
      mpfr_sub(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::multiply:
      mpfr_mul(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::divide:
      mpfr_div(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::add_double:
      mpfr_add_d(r.v, x.v, b.hi, rnd);
      break;
    case DdFunction::multiply_double:
      mpfr_mul_d(r.v, x.v, b.hi, rnd);
      break;
    case DdFunction::divide_double:
      mpfr_div_d(r.v, x.v, b.hi, rnd);
      break;
    case DdFunction::pow:
      mpfr_pow(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::atan2:
      mpfr_atan2(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::hypot:
      mpfr_hypot(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::fmod:
      mpfr_fmod(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::mod: {
      Mp q;
      mpfr_div(q.v, x.v, y.v, rnd);
      mpfr_floor(q.v, q.v);
      mpfr_fms(r.v, q.v, y.v, x.v, rnd);
      mpfr_neg(r.v, r.v, rnd);
      break;
    }
    case DdFunction::min:
      mpfr_min(r.v, x.v, y.v, rnd);
      break;
    case DdFunction::max:
      mpfr_max(r.v, x.v, y.v, rnd);
      break;
  }
}

std::string hex(dd x) { return hex_text(x.hi) + " + " + hex_text(x.lo); }

struct Worst {
  double error = 0;
  dd x, y, value;
  int skipped = 0;
};

/// The largest error of f over its cases, in units of the budget. Samples whose value leaves the
/// range where lo is a normal number are skipped and counted.
Worst measure(DdFunction f, int count, unsigned seed) {
  Worst worst;
  Mp ref, got;
  for (const auto& c : dd_cases::cases()) {
    if (c.f != f) continue;
    const auto a = dd_cases::draw(c, count, seed++);
    for (std::size_t i = 0; i < a.x.size(); ++i) {
      const dd x = a.x[i], y = a.y.empty() ? dd(0) : a.y[i];
      reference(f, x, y, ref);
      const double value = mpfr_get_d(ref.v, MPFR_RNDN);
      const double size = std::fabs(value);
      if (!(size < 0x1p1023) || (size < 0x1p-900 && size != 0) || mpfr_nan_p(ref.v)) {
        ++worst.skipped;
        continue;
      }
      const dd result = halfulp::apply(f, x, y);
      mpfr_set_d(got.v, result.hi, MPFR_RNDN);
      mpfr_add_d(got.v, got.v, result.lo, MPFR_RNDN);
      mpfr_sub(got.v, got.v, ref.v, MPFR_RNDN);
      const double difference = std::fabs(mpfr_get_d(got.v, MPFR_RNDN));
      const double error =
          difference == 0 ? 0 : difference / dd_cases::scale(f, value, x, y) / dd_cases::unit(f);
      if (!(error <= worst.error)) worst = {error, x, y, result, worst.skipped};
    }
  }
  return worst;
}

void check_budgets(int count, bool print) {
  for (int k = 0; k < halfulp::dd_function_count; ++k) {
    const auto f = static_cast<DdFunction>(k);
    const double limit = budget(HALFULP_BUDGETS, std::string("dd_") + name(f), "dd", "cpu");
    const auto worst = measure(f, count, 1000 * static_cast<unsigned>(k) + 1);
    INFO(name(f) << ": worst error " << worst.error << " (budget " << limit
                 << ") at x = " << hex(worst.x) << ", y = " << hex(worst.y) << ": "
                 << hex(worst.value) << ", " << worst.skipped << " samples out of range");
    if (print) std::printf("%-16s %.3f of %g\n", name(f), worst.error, limit);
    CHECK(worst.error <= limit);
  }
}

bool same_kind(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (std::isinf(a) || std::isinf(b) || a == 0 || b == 0)
    return a == b && std::signbit(a) == std::signbit(b);
  return std::fabs(a - b) <= 4e-15 * std::fabs(b) + 0x1p-1073;
}

}  // namespace

static_assert(dd(1) + dd(2) == dd(3) && dd(1) < dd(1, 0x1p-60) && dd(2) >= 2 && dd(1) != dd(2));

TEST_CASE("every dd operation is within its budget against MPFR", "[dd][table]") {
  check_budgets(400, false);
}

// The worst of many points, from which limits are set: test_dd "[dd-long]".
TEST_CASE("dd budgets, many points", "[.][dd-long]") { check_budgets(100000, true); }

TEST_CASE("the sampled cases reach every dd function", "[dd]") {
  for (int k = 0; k < halfulp::dd_function_count; ++k) {
    const auto f = static_cast<DdFunction>(k);
    INFO(name(f));
    int covered = 0;
    for (const auto& c : dd_cases::cases()) covered += c.f == f;
    CHECK(covered > 0);
    CHECK(measure(f, 50, 7).skipped <= 50 * covered / 2);
  }
}

TEST_CASE("dd functions treat special values as <cmath> does", "[dd]") {
  using Unary = double (*)(double);
  using Binary = double (*)(double, double);
  const double inf = HUGE_VAL, nan = std::nan("");
  const double special[] = {0.0,
                            -0.0,
                            inf,
                            -inf,
                            nan,
                            1,
                            -1,
                            0.5,
                            -0.5,
                            2,
                            -2,
                            3,
                            -3,
                            0x1p-1074,
                            -0x1p-1074,
                            0x1p-1022,
                            0x1.8p900,
                            -0x1.8p900,
                            0x1.fffffffffffffp1023,
                            -0x1.fffffffffffffp1023,
                            700,
                            -700,
                            720,
                            -760};
  const std::map<DdFunction, Unary> unary = {
      {DdFunction::fabs, std::fabs},   {DdFunction::sqrt, std::sqrt},
      {DdFunction::cbrt, std::cbrt},   {DdFunction::exp, std::exp},
      {DdFunction::expm1, std::expm1}, {DdFunction::log, std::log},
      {DdFunction::log1p, std::log1p}, {DdFunction::log2, std::log2},
      {DdFunction::log10, std::log10}, {DdFunction::sin, std::sin},
      {DdFunction::cos, std::cos},     {DdFunction::tan, std::tan},
      {DdFunction::asin, std::asin},   {DdFunction::acos, std::acos},
      {DdFunction::atan, std::atan},   {DdFunction::sinh, std::sinh},
      {DdFunction::cosh, std::cosh},   {DdFunction::tanh, std::tanh},
      {DdFunction::asinh, std::asinh}, {DdFunction::acosh, std::acosh},
      {DdFunction::atanh, std::atanh}, {DdFunction::floor, std::floor},
      {DdFunction::ceil, std::ceil},   {DdFunction::round, std::round},
      {DdFunction::trunc, std::trunc}, {DdFunction::erf, std::erf},
      {DdFunction::erfc, std::erfc}};
  for (const auto& [f, expected] : unary)
    for (const double x : special) {
      const dd r = halfulp::apply(f, x);
      INFO(name(f) << '(' << hex_text(x) << ") = " << hex(r) << ", not " << expected(x));
      CHECK((same_kind(r.hi, expected(x)) && (r.lo == 0 || std::isfinite(r.hi))));
    }
  const std::map<DdFunction, Binary> binary = {{DdFunction::pow, std::pow},
                                               {DdFunction::atan2, std::atan2},
                                               {DdFunction::hypot, std::hypot},
                                               {DdFunction::fmod, std::fmod}};
  for (const auto& [f, expected] : binary)
    for (const double x : special)
      for (const double y : special) {
        const dd r = halfulp::apply(f, x, y);
        INFO(name(f) << '(' << hex_text(x) << ", " << hex_text(y) << ") = " << hex(r) << ", not "
                     << expected(x, y));
        CHECK((same_kind(r.hi, expected(x, y)) && (r.lo == 0 || std::isfinite(r.hi))));
      }
}

TEST_CASE("dd results are exact where they can be", "[dd]") {
  CHECK(pow(dd(3), dd(5)) == dd(243));
  CHECK(pow(dd(10), dd(30)) == halfulp::dd_from_string("1e30"));
  CHECK(pow(dd(2), dd(-1000)) == dd(0x1p-1000));
  CHECK(pow(dd(-3), 3) == dd(-27));
  CHECK(pow(dd(0x1p-300), 7) == dd(0));
  CHECK(pow(dd(0x1p300), -7) == dd(0));
  CHECK(pow(dd(-0x1p300), 7) == dd(-HUGE_VAL));
  CHECK(log2(dd(0x1p-77)) == dd(-77));
  CHECK(exp(dd(0)) == dd(1));
  CHECK(asin(dd(1)) == halfulp::kernel::half_pi());
  CHECK(atan2(dd(0), dd(-1)) == halfulp::kernel::pi());
  CHECK(floor(dd(3, -0x1p-80)) == dd(2));
  CHECK(ceil(dd(3, 0x1p-80)) == dd(4));
  CHECK(round(dd(0.5, -0x1p-80)) == dd(0));
  CHECK(round(dd(-2.5)) == dd(-3));
  CHECK(mod(dd(-7), dd(3)) == dd(2));
  CHECK(mod(dd(7), dd(-3)) == dd(-2));
  CHECK(fmod(dd(0x1p1000), dd(3)) == dd(1));
  CHECK(isnan(min(dd(1), dd(std::nan("")))));
  CHECK(fmin(dd(1), dd(std::nan(""))) == dd(1));
}

TEST_CASE("dd constants are MPFR's", "[dd]") {
  const auto split = [](const Mp& m) {
    const double hi = mpfr_get_d(m.v, MPFR_RNDN);
    Mp rest;
    mpfr_sub_d(rest.v, m.v, hi, MPFR_RNDN);
    return dd(hi, mpfr_get_d(rest.v, MPFR_RNDN));
  };
  Mp m;
  mpfr_const_pi(m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::pi());
  CHECK(split(m) == 2.0 * halfulp::kernel::half_pi());
  mpfr_const_log2(m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::ln2());
  mpfr_ui_div(m.v, 1, m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::log2_e());
  mpfr_set_ui(m.v, 2, MPFR_RNDN);
  mpfr_log10(m.v, m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::log10_2());
  mpfr_set_ui(m.v, 1, MPFR_RNDN);
  mpfr_exp(m.v, m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::e());
  mpfr_log10(m.v, m.v, MPFR_RNDN);
  CHECK(split(m) == halfulp::kernel::log10_e());
}

TEST_CASE("dd numbers as text agree with MPFR", "[dd][text]") {
  std::mt19937_64 bits(11);
  std::string worst;
  for (int i = 0; i < 2000; ++i) {
    std::string text = bits() & 1 ? "-" : "";
    const int digits = 1 + static_cast<int>(bits() % 60);
    for (int k = 0; k < digits; ++k) {
      if (k == 1) text += '.';
      text += static_cast<char>('0' + bits() % 10);
    }
    if (i % 3) text += 'e' + std::to_string(static_cast<int>(bits() % 500) - 250);
    Mp exact(4000), rest(4000);
    mpfr_set_str(exact.v, text.c_str(), 10, MPFR_RNDN);
    const double hi = mpfr_get_d(exact.v, MPFR_RNDN);
    mpfr_sub_d(rest.v, exact.v, hi, MPFR_RNDN);
    const dd expected(hi, mpfr_get_d(rest.v, MPFR_RNDN));
    const dd got = halfulp::dd_from_string(text);
    if (got != expected) worst = text + " read as " + hex(got);

    const int shown = 1 + static_cast<int>(bits() % 40);
    const std::string ours = halfulp::to_string(got, shown);
    const Mp value(got, 4000);
    char buffer[128];
    mpfr_snprintf(buffer, sizeof buffer, "%.*Re", shown - 1, value.v);
    Mp a(4000), b(4000);
    mpfr_set_str(a.v, buffer, 10, MPFR_RNDN);
    mpfr_set_str(b.v, ours.c_str(), 10, MPFR_RNDN);
    if (!mpfr_equal_p(a.v, b.v)) worst = hex(got) + " written as " + ours + ", not " + buffer;

    const dd back = halfulp::dd_from_string(halfulp::to_string(got, 33));
    if (!(fabs(back - got).hi <= 0x1p-106 * std::fabs(got.hi)))
      worst = hex(got) + " comes back as " + hex(back);
  }
  INFO(worst);
  CHECK(worst.empty());

  CHECK(halfulp::to_string(dd(1) / 3.0) == "0.33333333333333333333333333333333");
  CHECK(halfulp::to_string(dd(100)) == "100");
  CHECK(halfulp::to_string(dd(-0x1p-1074), 3) == "-4.94e-324");
  CHECK(halfulp::to_string(dd(999.5), 3) == "1e3");
  CHECK(halfulp::to_string(dd(0.00012), 3) == "0.00012");
  CHECK(halfulp::to_string(dd(1.2e-6), 3) == "1.2e-6");
  CHECK(halfulp::to_string(dd(HUGE_VAL)) == "inf");
  CHECK(halfulp::to_string(halfulp::kernel::pi(), 20) == "3.1415926535897932385");
  CHECK(halfulp::dd_from_string("0x1.8p+3") == dd(12));
  CHECK(halfulp::dd_from_string("-0x1.00000000000000000000000001p0") == dd(-1, -0x1p-104));
  CHECK(halfulp::dd_from_string("0x0.00000000000000000000000000000000000000012p0").hi ==
        0x1.2p-160);
  CHECK(halfulp::dd_from_string("1e400").hi == HUGE_VAL);
  CHECK(halfulp::dd_from_string("1e-400") == dd(0));
  CHECK(halfulp::dd_from_string("+.5e1") == dd(5));
  for (const char* bad : {"", " 1", "1 ", "1e", "0x", "1.2.3", "--1", "one"}) {
    INFO(bad);
    CHECK_THROWS_AS(halfulp::dd_from_string(bad), halfulp::DomainError);
  }
  CHECK_THROWS_AS(halfulp::to_string(dd(1), 0), halfulp::DomainError);
}
