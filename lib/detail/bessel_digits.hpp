#pragma once

#include "halfulp/kernel/dd.hpp"

namespace halfulp::detail {

enum class BesselKind { first, second };

/// log I_v(x) or log K_v(x), plus or minus x where scaled, in 256 bits: for the neighbourhood of
/// the curves where the logarithm vanishes and double-double has no digits left.
/// v >= 0 and, for the second kind, x >= 1/4; both below 2^400.
[[nodiscard]] dd log_bessel_digits(BesselKind kind, double v, double x, bool scaled);

}  // namespace halfulp::detail
