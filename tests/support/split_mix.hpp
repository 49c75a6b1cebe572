#pragma once

#include <cmath>
#include <cstdint>

/// The same points everywhere: splitmix64.
class SplitMix {
 public:
  double uniform() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
  double log_uniform(double a, double b) { return a * std::exp(std::log(b / a) * uniform()); }

 private:
  std::uint64_t state_ = 1;
};
