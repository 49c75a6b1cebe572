#pragma once

#include <cstddef>

#include "detail/bessel_simd.hpp"

/// The vector half of a batch of concentrations.
namespace halfulp::detail {

/// out[i] = the concentration for p[i], or p[0] where `one_p`, and length[i], or 1 - length[i]
/// where `complement`, as long as the series does it. The others are added to `narrow` for the
/// cells of kernel/vmf_tables.hpp: `place`; `hi` the leading term, which times 1 + the cell's sum
/// is the result; `t` and `inverse_w` the cell's variables theta and W; `bin`.
void vmf_kappa_wide(std::ptrdiff_t n, const double* p, bool one_p, const double* length,
                    bool complement, double* out, BesselNarrow& narrow);

}  // namespace halfulp::detail
