// Writes the reference tables validation/data/vmf_<function>.csv: seeded points of every region and
// the value as hi + lo; of concentrations also the condition number of the root. Values are Arb's;
// the second oracle, the distribution's integral in MPFR, must agree on every row.
//
//   reference_vmf FOLDER [LAST]     LAST: only so many points of a region, to compare with the
//   start
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "../oracle/vmf_arb.hpp"
#include "../oracle/vmf_mpfr.hpp"
#include "../oracle/vmf_points.hpp"

namespace {

using vmf_arb::Ball;
using vmf_arb::Function;
using vmf_arb::Given;
using vmf_mpfr::Real;

Real middle(const Ball& value) {
  Real r;
  arf_get_mpfr(r.backend().data(), arb_midref(value.v), MPFR_RNDN);
  return r;
}

bool agree(const Ball& value, Function f, double p, double kappa) {
  if (kappa == 0) return true;  // Gamma functions in both
  const vmf_mpfr::Moments m = vmf_mpfr::moments(p, kappa);
  const Real other = f == Function::log_normaliser_scaled ? m.log_normaliser_scaled
                     : f == Function::log_normaliser
                         ? Real(m.log_normaliser_scaled - kappa)
                         : Real(kappa * m.complement - m.log_normaliser_scaled);
  const Real size = fmax(Real(1), abs(m.log_normaliser_scaled));
  return abs(other - middle(value)) <= ldexp(size, -110) + ldexp(abs(middle(value)), -110);
}

/// The second oracle's mean length at the root is what was given, to 2^-105 of what kappa's last
/// bits move it by.
bool agree(const Ball& kappa, Given given, double p, double value, double condition) {
  const vmf_mpfr::Moments m = vmf_mpfr::moments(p, middle(kappa));
  const Real other = given == Given::length ? m.length : m.complement;
  return abs(other - value) <= ldexp(Real(value) * (1 + 1 / condition), -105);
}

std::FILE* open(const std::string& folder, const std::string& name) {
  const auto path = std::filesystem::path(folder) / ("vmf_" + name + ".csv");
  std::FILE* file = std::fopen(path.c_str(), "w");
  if (file == nullptr) std::perror(path.c_str()), std::exit(2);
  return file;
}

template <std::size_t n>
void header(std::FILE* file, const std::string_view (&names)[n], const char* columns) {
  std::fprintf(
      file,
      "# Written by validation/reference/vmf.cpp: Arb %s, seed 4000 + region. Value = hi + "
      "lo.\n# region:",
      arb_version);
  for (std::size_t r = 0; r < n; ++r)
    std::fprintf(file, " %d %s", static_cast<int>(r), std::string(names[r]).c_str());
  std::fprintf(file, "\n%s\n", columns);
}

/// hi and lo.
void parts(const Ball& value, double& hi, double& lo) {
  hi = arf_get_d(arb_midref(value.v), ARF_RND_NEAR);
  Ball rest(hi);
  arb_sub(rest.v, value.v, rest.v, 1200);
  lo = arf_get_d(arb_midref(rest.v), ARF_RND_NEAR);
}

[[noreturn]] void disagree(const std::string& name, double p, double x) {
  std::fprintf(stderr, "%s(%a, %a): the oracles do not agree\n", name.c_str(), p, x);
  std::exit(1);
}

void write_function(const std::string& folder, const std::string& name, Function f, int last) {
  std::FILE* file = open(folder, name);
  header(file, vmf_points::names, "region,p,kappa,hi,lo");
  for (int r = 0; r < vmf_points::regions; ++r) {
    bessel_points::Random random(4000 + static_cast<unsigned>(r));
    for (int i = 0; i < 60 && i < last; ++i) {
      const auto at = sample(static_cast<vmf_points::Region>(r), f, random);
      Ball value;
      if (!vmf_arb::evaluate(value.v, f, at.p, at.kappa) || !agree(value, f, at.p, at.kappa))
        disagree(name, at.p, at.kappa);
      double hi = 0, lo = 0;
      parts(value, hi, lo);
      std::fprintf(file, "%d,%a,%a,%a,%a\n", r, at.p, at.kappa, hi, lo);
    }
  }
  if (std::fclose(file) != 0) std::perror(name.c_str()), std::exit(2);
}

void write_concentration(const std::string& folder, const std::string& name, Given given,
                         int last) {
  using vmf_points::LengthRegion;
  std::FILE* file = open(folder, name);
  header(file, vmf_points::length_names,
         given == Given::length ? "region,p,R,hi,lo,condition"
                                : "region,p,complement,hi,lo,condition");
  for (int r = 0; r < vmf_points::length_regions; ++r) {
    const auto region = static_cast<LengthRegion>(r);
    bessel_points::Random random(4000 + static_cast<unsigned>(r));
    const int count = region == LengthRegion::corners ? vmf_points::corners
                      : region == LengthRegion::cells ? 300
                      : region == LengthRegion::random || region == LengthRegion::edge ||
                              region == LengthRegion::seams
                          ? 160
                          : 60;
    for (int i = 0; i < count && i < last; ++i) {
      const auto at = sample(region, given, random, i);
      Ball kappa;
      if (!vmf_arb::concentration(kappa.v, at.p, given, at.value)) disagree(name, at.p, at.value);
      const double condition = vmf_arb::condition(at.p, at.value, kappa.v);
      if (!agree(kappa, given, at.p, at.value, condition)) disagree(name, at.p, at.value);
      double hi = 0, lo = 0;
      parts(kappa, hi, lo);
      std::fprintf(file, "%d,%a,%a,%a,%a,%.6g\n", r, at.p, at.value, hi, lo, condition);
    }
  }
  if (std::fclose(file) != 0) std::perror(name.c_str()), std::exit(2);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: reference_vmf FOLDER [LAST]\n");
    return 2;
  }
  const int last = argc > 2 ? std::atoi(argv[2]) : 1 << 20;
  write_function(argv[1], "log_normaliser", Function::log_normaliser, last);
  write_function(argv[1], "log_normaliser_scaled", Function::log_normaliser_scaled, last);
  write_function(argv[1], "entropy", Function::entropy, last);
  write_concentration(argv[1], "kappa", Given::length, last);
  write_concentration(argv[1], "kappa_complement", Given::complement, last);
  flint_cleanup();
}
