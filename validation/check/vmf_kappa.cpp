// check_vmf_kappa FILE.csv ...: how far printed concentrations are from A_p(kappa) = R.
//
// The tables are what `halfulp vmf kappa --points` and `halfulp vmf classes` print: columns p,
// kappa, and R or complement, 1 - R. The residual is A_p(kappa) - R in ulp of R, or 1 - A_p(kappa)
// less the complement in ulp of that if there is no R; the error of kappa is from the complement
// where there is one, which has more digits. A_p comes from its continued fraction
//
//     I_{v+1}(x)/I_v(x) = 1/(b_1 + 1/(b_2 + ...)),   b_k = 2 (v + k)/x,   v = p/2 - 1
//
// (DLMF 10.33.1) in MPFR with 70 digits: all terms are positive, so that two neighbouring
// convergents enclose it. Exit code 1 if a concentration is off by more than 4 u (1 + condition
// number), u = 2^-53.
#include <algorithm>
#include <boost/multiprecision/mpfr.hpp>
#include <cmath>
#include <cstdio>
#include <exception>
#include <limits>
#include <string>

#include "halfulp/csv.hpp"

namespace {

using Real = boost::multiprecision::number<boost::multiprecision::mpfr_float_backend<70>,
                                           boost::multiprecision::et_off>;

/// The convergent with this many terms.
Real convergent(const Real& v, const Real& x, long terms) {
  Real tail = 0;
  for (long k = terms; k >= 1; --k) tail = 1 / (2 * (v + k) / x + tail);
  return tail;
}

Real mean_length(double p, double kappa) {
  const Real v = Real(p) / 2 - 1, x = kappa;
  for (long terms = 64;; terms *= 2) {
    const Real a = convergent(v, x, terms), b = convergent(v, x, terms + 1);
    if (abs(a - b) <= ldexp(1 - a, -180)) return a;
    if (terms > 1L << 26) throw std::runtime_error("the continued fraction does not converge");
  }
}

double ulp(double value) {
  return std::nextafter(value, std::numeric_limits<double>::infinity()) - value;
}

bool has(const halfulp::Table& table, const char* name) {
  return std::find(table.names.begin(), table.names.end(), name) != table.names.end();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: check_vmf_kappa FILE.csv ...\n");
    return 2;
  }
  constexpr double u = 0x1p-53, budget = 4;
  double worst = 0;
  std::ptrdiff_t rows = 0;
  try {
    std::printf("p,kappa,residual_ulp,kappa_error_ulp,kappa_error_in_budget_units\n");
    for (int file = 1; file < argc; ++file) {
      const halfulp::Table table = halfulp::read_csv(argv[file]);
      const bool from_complement = has(table, "complement");
      const auto& p = table.column("p");
      const auto& kappa = table.column("kappa");
      const auto& given = table.column(from_complement ? "complement" : "R");
      for (std::size_t i = 0; i < p.size(); ++i) {
        const Real k = kappa[i], length = mean_length(p[i], kappa[i]);
        const Real found = from_complement ? Real(1 - length) : length;
        const Real slope = 1 - length * length - (Real(p[i]) - 1) / k * length;
        const Real residual = found - given[i];
        const double error = static_cast<double>(abs(residual) / slope / k);  // relative, of kappa
        const double condition = static_cast<double>(found / (k * slope));
        const double units = error / (u * (1 + condition));
        const double shown = has(table, "R") ? table.column("R")[i] : given[i];
        const Real apart = (has(table, "R") ? length : found) - shown;
        std::printf("%.17g,%.17g,%.3f,%.3f,%.3f\n", p[i], kappa[i],
                    static_cast<double>(apart) / ulp(shown), error * kappa[i] / ulp(kappa[i]),
                    units);
        if (!(units <= worst)) worst = units;
        ++rows;
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_vmf_kappa: %s\n", error.what());
    return 2;
  }
  std::fprintf(stderr, "%td concentrations, the worst %.3f u (1 + condition number), budget %g\n",
               rows, worst, budget);
  return worst <= budget ? 0 : 1;
}
