#pragma once

#include "halfulp/cuda/memory.hpp"
#include "halfulp/kernel/bessel_name.hpp"

/// Modified Bessel functions on arrays in device memory: halfulp/bessel.hpp says what they are.
namespace halfulp::cuda {

/// out[i] = f(v[i], x[i]) for every i, on the device; a single v stands for all. Special values as
/// on the host.
/// @param  out    as many as x; may be v or x themselves
/// @throws        ShapeError if the sizes do not fit; DeviceError if the launch fails
/// @accuracy      the budgets `bessel_*` of the host, except that the logarithms keep them only
/// down
///                to |log| of about 2^-45 hypot(v, x): there is no path in more digits
/// @cost          one launch; no allocation, no synchronisation. Neighbouring elements of similar
///                v and x run fastest: warps follow one formula
void bessel(BesselFunction f, span<const double> v, span<const double> x, span<double> out,
            stream_handle stream = nullptr);
/// Likewise, computed in double and rounded once more.
void bessel(BesselFunction f, span<const float> v, span<const float> x, span<float> out,
            stream_handle stream = nullptr);

}  // namespace halfulp::cuda
