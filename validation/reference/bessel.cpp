// Writes the reference tables validation/data/bessel_<function>.csv: seeded points of every region,
// and the value as hi + lo. Values are Arb's; wherever the second oracle reaches, the two must
// agree.
//
//   reference_bessel FOLDER [LAST]     LAST: only so many points of a region, to compare with the
//   start
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "../oracle/bessel_arb.hpp"
#include "../oracle/bessel_mpfr.hpp"
#include "../oracle/bessel_points.hpp"

namespace {

using bessel_arb::Ball;
using bessel_arb::Function;
using bessel_points::Region;

constexpr const char* names[] = {"log_i",
                                 "log_k",
                                 "log_i_scaled",
                                 "log_k_scaled",
                                 "i_ratio",
                                 "i_ratio_complement",
                                 "i_ratio_derivative",
                                 "k_ratio",
                                 "k_ratio_complement",
                                 "k_ratio_derivative",
                                 "log_i_dx",
                                 "log_k_dx",
                                 "log_i_dv",
                                 "log_k_dv"};

bool applies(Function f, Region region) {
  switch (region) {
    case Region::zeros_i:
      return f == Function::log_i;
    case Region::zeros_k:
      return f == Function::log_k;
    case Region::zeros_k_scaled:
      return f == Function::log_k_scaled;
    case Region::order_zero:
      return f < Function::log_i_dv;
    case Region::extreme_x:
    case Region::tail_columns:
    case Region::cell_corners:
      return f <= Function::log_k_scaled;
    default:
      return true;
  }
}

bool agree(const Ball& value, Function f, double v, double x) {
  if (f > Function::log_k || std::hypot(v, x) > 600 || x < 0.01) return true;
  const auto other = f == Function::log_k ? bessel_mpfr::log_k(v, x) : bessel_mpfr::log_i(v, x);
  bessel_mpfr::Real middle;
  arf_get_mpfr(middle.backend().data(), arb_midref(value.v), MPFR_RNDN);
  return abs(other - middle) <= ldexp(fmax(abs(middle), bessel_mpfr::Real(1)), -115);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: reference_bessel FOLDER [LAST]\n");
    return 2;
  }
  const int last = argc > 2 ? std::atoi(argv[2]) : 1 << 20;
  for (int k = 0; k < 14; ++k) {
    const auto f = static_cast<Function>(k);
    const auto path = std::filesystem::path(argv[1]) / (std::string("bessel_") + names[k] + ".csv");
    std::FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) return std::perror(path.c_str()), 2;
    std::fprintf(file,
                 "# Written by validation/reference/bessel.cpp: Arb %s, seed 2000 + region. Value "
                 "= hi + lo.\n"
                 "# region:",
                 arb_version);
    for (int r = 0; r < bessel_points::regions; ++r)
      std::fprintf(file, " %d %s", r, std::string(bessel_points::names[r]).c_str());
    std::fprintf(file, "\nregion,v,x,hi,lo\n");
    for (int r = 0; r < bessel_points::regions; ++r) {
      const auto region = static_cast<Region>(r);
      if (!applies(f, region)) continue;
      bessel_points::Random random(2000 + static_cast<unsigned>(r));
      const int count = region == Region::floats                          ? 100
                        : region >= Region::cells && f <= Function::log_k ? 1200
                        : f <= Function::log_k                            ? 60
                                                                          : 25;
      for (int i = 0; i < count && i < last; ++i) {
        const auto p = sample(region, random);
        Ball value, rest;
        if (!bessel_arb::evaluate(value.v, f, p.v, p.x) || !agree(value, f, p.v, p.x)) {
          std::fprintf(stderr, "%s(%a, %a): the oracles do not agree\n", names[k], p.v, p.x);
          return 1;
        }
        const double hi = arf_get_d(arb_midref(value.v), ARF_RND_NEAR);
        arb_set_d(rest.v, hi);
        arb_sub(rest.v, value.v, rest.v, 300);
        std::fprintf(file, "%d,%a,%a,%a,%a\n", r, p.v, p.x, hi,
                     arf_get_d(arb_midref(rest.v), ARF_RND_NEAR));
      }
    }
    if (std::fclose(file) != 0) return std::perror(path.c_str()), 2;
  }
  flint_cleanup();
}
