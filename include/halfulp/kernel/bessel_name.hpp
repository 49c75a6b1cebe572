#pragma once

namespace halfulp {

/// The functions of halfulp/bessel.hpp by name, and their two accuracies.
enum class BesselFunction {
  log_i,
  log_k,
  log_i_scaled,
  log_k_scaled,
  i_ratio,
  i_ratio_complement,
  i_ratio_derivative,
  k_ratio,
  k_ratio_complement,
  k_ratio_derivative,
  log_i_dx,
  log_k_dx,
  log_i_dv,
  log_k_dv,
};

enum class BesselMode {
  accurate,  ///< error in units in the last place of the logarithm itself, near its zeros too
  fast,      ///< error relative to max(1, |logarithm|), for v <= 1e6
};

}  // namespace halfulp
