// Uses an installed halfulp::cuda from a project that knows no CUDA.
#include <cmath>
#include <halfulp/cuda/dd.hpp>
#include <iostream>
#include <vector>

int main() {
  using namespace halfulp;
  if (cuda::device_count() == 0) {
    std::cout << "linked; no device\n";
    return 0;
  }
  const std::vector<dd> x{dd(1.0), dd(2.0)};
  std::vector<dd> y(2);
  cuda::buffer<dd> in(x), out(2);
  cuda::dd_apply(DdFunction::exp, in, {}, out);
  cuda::copy(out, std::span<dd>(y));
  cuda::synchronize();
  std::cout << cuda::device_name() << ": exp(1) = " << y[0].hi << '\n';
  return std::fabs(y[0].hi - std::exp(1.0)) < 1e-15 ? 0 : 1;
}
