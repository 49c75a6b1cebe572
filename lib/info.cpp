#include "halfulp/info.hpp"

#include <fftw3.h>
#include <hwy/base.h>
#include <hwy/targets.h>
#include <omp.h>
#include <openblas_config.h>

namespace halfulp {

Info info() {
  Info result;
  result.version = HALFULP_VERSION;
#if defined(__clang__)
  result.compiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
  result.compiler = "GCC " __VERSION__;
#endif
#if defined(NDEBUG)
  result.build = "release";
#else
  result.build = "debug";
#endif
  for (std::int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1)
    result.instruction_sets.emplace_back(hwy::TargetName(rest & -rest));
  result.threads = omp_get_max_threads();
  result.libraries = {
      {"FFTW", fftw_version},
      {"Highway", HALFULP_HIGHWAY_VERSION},
      {"OpenBLAS", OPENBLAS_VERSION},
      {"OpenMP", std::to_string(_OPENMP)},
  };
  return result;
}

}  // namespace halfulp
