#pragma once

#include "halfulp/kernel/dd.hpp"
#include "halfulp/kernel/dd_math.hpp"

/// The double-double operations by number, so that launches, tests and benchmarks can list them.
namespace halfulp {

/// One argument x up to erfc; two arguments x, y from add on. The *_double operations use y.hi
/// only.
enum class DdFunction {
  negate,
  fabs,
  sqrt,
  cbrt,
  exp,
  expm1,
  log,
  log1p,
  log2,
  log10,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  floor,
  ceil,
  round,
  trunc,
  erf,
  erfc,
  add,
  subtract,
  multiply,
  divide,
  add_double,
  multiply_double,
  divide_double,
  pow,
  atan2,
  hypot,
  fmod,
  mod,
  min,
  max,
};

inline constexpr int dd_function_count = static_cast<int>(DdFunction::max) + 1;

/// Name as in the enumeration, e.g. "exp".
[[nodiscard]] constexpr const char* name(DdFunction f) {
  constexpr const char* names[dd_function_count] = {"negate",        "fabs",
                                                    "sqrt",          "cbrt",
                                                    "exp",           "expm1",
                                                    "log",           "log1p",
                                                    "log2",          "log10",
                                                    "sin",           "cos",
                                                    "tan",           "asin",
                                                    "acos",          "atan",
                                                    "sinh",          "cosh",
                                                    "tanh",          "asinh",
                                                    "acosh",         "atanh",
                                                    "floor",         "ceil",
                                                    "round",         "trunc",
                                                    "erf",           "erfc",
                                                    "add",           "subtract",
                                                    "multiply",      "divide",
                                                    "add_double",    "multiply_double",
                                                    "divide_double", "pow",
                                                    "atan2",         "hypot",
                                                    "fmod",          "mod",
                                                    "min",           "max"};
  return names[static_cast<int>(f)];
}

[[nodiscard]] HALFULP_HD constexpr bool is_binary(DdFunction f) { return f >= DdFunction::add; }

namespace kernel {

/// F(x) or F(x, y).
template <DdFunction F>
HALFULP_HD inline dd apply(dd x, [[maybe_unused]] dd y) {
  if constexpr (F == DdFunction::negate) return -x;
  if constexpr (F == DdFunction::fabs) return halfulp::fabs(x);
  if constexpr (F == DdFunction::sqrt) return halfulp::sqrt(x);
  if constexpr (F == DdFunction::cbrt) return halfulp::cbrt(x);
  if constexpr (F == DdFunction::exp) return halfulp::exp(x);
  if constexpr (F == DdFunction::expm1) return halfulp::expm1(x);
  if constexpr (F == DdFunction::log) return halfulp::log(x);
  if constexpr (F == DdFunction::log1p) return halfulp::log1p(x);
  if constexpr (F == DdFunction::log2) return halfulp::log2(x);
  if constexpr (F == DdFunction::log10) return halfulp::log10(x);
  if constexpr (F == DdFunction::sin) return halfulp::sin(x);
  if constexpr (F == DdFunction::cos) return halfulp::cos(x);
  if constexpr (F == DdFunction::tan) return halfulp::tan(x);
  if constexpr (F == DdFunction::asin) return halfulp::asin(x);
  if constexpr (F == DdFunction::acos) return halfulp::acos(x);
  if constexpr (F == DdFunction::atan) return halfulp::atan(x);
  if constexpr (F == DdFunction::sinh) return halfulp::sinh(x);
  if constexpr (F == DdFunction::cosh) return halfulp::cosh(x);
  if constexpr (F == DdFunction::tanh) return halfulp::tanh(x);
  if constexpr (F == DdFunction::asinh) return halfulp::asinh(x);
  if constexpr (F == DdFunction::acosh) return halfulp::acosh(x);
  if constexpr (F == DdFunction::atanh) return halfulp::atanh(x);
  if constexpr (F == DdFunction::floor) return halfulp::floor(x);
  if constexpr (F == DdFunction::ceil) return halfulp::ceil(x);
  if constexpr (F == DdFunction::round) return halfulp::round(x);
  if constexpr (F == DdFunction::trunc) return halfulp::trunc(x);
  if constexpr (F == DdFunction::erf) return halfulp::erf(x);
  if constexpr (F == DdFunction::erfc) return halfulp::erfc(x);
  if constexpr (F == DdFunction::add) return x + y;
  if constexpr (F == DdFunction::subtract) return x - y;
  if constexpr (F == DdFunction::multiply) return x * y;
  if constexpr (F == DdFunction::divide) return x / y;
  if constexpr (F == DdFunction::add_double) return x + y.hi;
  if constexpr (F == DdFunction::multiply_double) return x * y.hi;
  if constexpr (F == DdFunction::divide_double) return x / y.hi;
  if constexpr (F == DdFunction::pow) return halfulp::pow(x, y);
  if constexpr (F == DdFunction::atan2) return halfulp::atan2(x, y);
  if constexpr (F == DdFunction::hypot) return halfulp::hypot(x, y);
  if constexpr (F == DdFunction::fmod) return halfulp::fmod(x, y);
  if constexpr (F == DdFunction::mod) return halfulp::mod(x, y);
  if constexpr (F == DdFunction::min) return halfulp::min(x, y);
  if constexpr (F == DdFunction::max) return halfulp::max(x, y);
}

/// call(integral constant F) for the function f: run-time choice of a compile-time function.
template <class Call, int I = 0>
void dispatch(DdFunction f, Call&& call) {
  if constexpr (I < dd_function_count) {
    constexpr auto F = static_cast<DdFunction>(I);
    if (f == F)
      call.template operator()<F>();
    else
      dispatch<Call, I + 1>(f, static_cast<Call&&>(call));
  }
}

}  // namespace kernel

/// F on the host, one value.
[[nodiscard]] inline dd apply(DdFunction f, dd x, dd y = 0) {
  dd result;
  kernel::dispatch(f, [&]<DdFunction F>() { result = kernel::apply<F>(x, y); });
  return result;
}

}  // namespace halfulp
