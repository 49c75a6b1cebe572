#include "detail/fft.hpp"

#include <fftw3.h>

#include <mutex>

namespace halfulp::detail {

std::vector<std::complex<double>> real_fft(std::span<const double> x) {
  // The planner is the only part of FFTW that is not thread-safe. ESTIMATE: the same plan, hence
  // the same bits, in every run.
  static std::mutex planner;
  std::vector<double> in(x.begin(), x.end());
  std::vector<std::complex<double>> out(x.size() / 2 + 1);
  fftw_plan plan;
  {
    const std::lock_guard lock(planner);
    plan = fftw_plan_dft_r2c_1d(static_cast<int>(in.size()), in.data(),
                                reinterpret_cast<fftw_complex*>(out.data()), FFTW_ESTIMATE);
  }
  fftw_execute(plan);
  const std::lock_guard lock(planner);
  fftw_destroy_plan(plan);
  return out;
}

}  // namespace halfulp::detail
