// Writes include/halfulp/kernel/bessel_tables.hpp: exact rationals and Arb enclosures, each rounded
// once. validation/CMakeLists.txt compares the file that stands there with what this writes.
#include <arb.h>
#include <arb_poly.h>
#include <flint/fmpq_poly.h>

#include <cstdio>
#include <vector>

namespace {

constexpr slong precision = 600;
constexpr int terms = 24;
constexpr int gamma_terms = 32;
constexpr int nodes = 52;

class Arb {
 public:
  Arb() { arb_init(v); }
  ~Arb() { arb_clear(v); }
  Arb(const Arb&) = delete;
  Arb& operator=(const Arb&) = delete;
  arb_t v;
};

/// The nearest double, and the nearest to what it leaves.
void print_pair(const arb_t value) {
  Arb rest;
  const double high = arf_get_d(arb_midref(value), ARF_RND_NEAR);
  arb_set_d(rest.v, high);
  arb_sub(rest.v, value, rest.v, precision);
  std::printf("    {%a, %a},\n", high, arf_get_d(arb_midref(rest.v), ARF_RND_NEAR));
}

/// Function-local tables are what device code can read, too.
void begin_table(const char* name, const char* count_name, int count, int size) {
  if (count_name != nullptr) std::printf("inline constexpr int %s = %d;\n", count_name, count);
  std::printf("HALFULP_HD inline dd %s(int i) {\n  static constexpr double table[%d][2] = {\n",
              name, size);
}
void end_table() { std::printf("  };\n  return {table[i][0], table[i][1]};\n}\n\n"); }

/// Coefficients in T = (v/w)^2 of s_1 .. s_terms: with W = 1/w and y = x I'/I = sum c_k W^k,
/// x y' + y^2 = w^2 gives the c_k, all of them but the first divisible by 1 - T; then
/// k s_k + 2 T s_k' = -c_k/(1 - T).
void print_logarithm_series() {
  std::vector<fmpq_poly_struct> c(terms + 1);
  for (auto& p : c) fmpq_poly_init(&p);
  fmpq_poly_t one_minus_t, sum, product;
  fmpq_poly_init(one_minus_t);
  fmpq_poly_init(sum);
  fmpq_poly_init(product);
  fmpq_poly_set_coeff_si(one_minus_t, 0, 1);
  fmpq_poly_set_coeff_si(one_minus_t, 1, -1);
  fmpq_poly_scalar_div_si(&c[0], one_minus_t, -2);
  for (int k = 0; k < terms; ++k) {
    fmpq_poly_derivative(sum, &c[k]);
    fmpq_poly_shift_left(sum, sum, 1);
    fmpq_poly_scalar_mul_si(sum, sum, 2);
    fmpq_poly_scalar_mul_si(product, &c[k], k);
    fmpq_poly_add(sum, sum, product);
    fmpq_poly_mul(sum, sum, one_minus_t);
    for (int i = 0; i <= k; ++i) {
      fmpq_poly_mul(product, &c[i], &c[k - i]);
      fmpq_poly_sub(sum, sum, product);
    }
    fmpq_poly_scalar_div_si(&c[k + 1], sum, 2);
  }
  std::printf(
      "/// s_k(T) = sum_j bessel_log_series(k (k + 1)/2 - 1 + j) T^j, j = 0..k, k = 1..%d.\n",
      terms);
  begin_table("bessel_log_series", "bessel_log_terms", terms, terms * (terms + 3) / 2);
  fmpq_t coefficient;
  fmpq_init(coefficient);
  for (int k = 1; k <= terms; ++k) {
    fmpq_poly_div(product, &c[k], one_minus_t);
    for (int j = 0; j <= k; ++j) {
      fmpq_poly_get_coeff_fmpq(coefficient, product, j);
      fmpz_mul_si(fmpq_denref(coefficient), fmpq_denref(coefficient), -(k + 2 * j));
      Arb value;
      arb_set_fmpq(value.v, coefficient, precision);
      print_pair(value.v);
    }
  }
  end_table();
  fmpq_clear(coefficient);
  for (auto& p : c) fmpq_poly_clear(&p);
  fmpq_poly_clear(one_minus_t);
  fmpq_poly_clear(sum);
  fmpq_poly_clear(product);
}

/// Taylor coefficients of 1/Gamma(1 + z) from z^1 on.
void print_reciprocal_gamma() {
  arb_poly_t argument, value;
  arb_poly_init(argument);
  arb_poly_init(value);
  arb_poly_set_coeff_si(argument, 0, 1);
  arb_poly_set_coeff_si(argument, 1, 1);
  arb_poly_rgamma_series(value, argument, gamma_terms + 1, precision);
  std::printf("/// 1/Gamma(1 + z) = 1 + sum_k bessel_rgamma(k - 1) z^k.\n");
  begin_table("bessel_rgamma", "bessel_rgamma_terms", gamma_terms, gamma_terms);
  for (int k = 1; k <= gamma_terms; ++k) print_pair(arb_poly_get_coeff_ptr(value, k));
  end_table();
  arb_poly_clear(argument);
  arb_poly_clear(value);
}

/// Nodes of the trapezoidal rule: cosh(j h) - 1 and sinh(j h), j = 1..nodes.
void print_nodes() {
  constexpr double step = 0x1.6p-4;
  std::printf(
      "/// cosh(j h) - 1, then sinh(j h), for index j - 1, h = bessel_k_step.\n"
      "inline constexpr double bessel_k_step = %a;\n",
      step);
  for (const bool is_cosh : {true, false}) {
    begin_table(is_cosh ? "bessel_k_cosh" : "bessel_k_sinh", is_cosh ? "bessel_k_nodes" : nullptr,
                nodes, nodes);
    for (int j = 1; j <= nodes; ++j) {
      Arb value;
      arb_set_d(value.v, j * step);
      if (is_cosh) {
        arb_cosh(value.v, value.v, precision);
        arb_sub_si(value.v, value.v, 1, precision);
      } else {
        arb_sinh(value.v, value.v, precision);
      }
      print_pair(value.v);
    }
    end_table();
  }
}

}  // namespace

int main() {
  std::printf(
      "#pragma once\n\n#include \"halfulp/kernel/dd.hpp\"\n\n"
      "// Written by validation/generate/bessel_tables.cpp; a test compares every bit.\n"
      "// Pairs hi, lo: the nearest double, and the nearest to the rest.\n"
      "// clang-format off\n\n"
      "namespace halfulp::kernel {\n\n");
  print_logarithm_series();
  print_reciprocal_gamma();
  print_nodes();
  std::printf("}  // namespace halfulp::kernel\n");
  flint_cleanup();
}
