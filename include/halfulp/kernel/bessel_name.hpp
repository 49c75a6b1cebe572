#pragma once

namespace halfulp {

/// The functions of halfulp/bessel.hpp by name.
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

}  // namespace halfulp
