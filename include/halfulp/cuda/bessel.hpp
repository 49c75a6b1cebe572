#pragma once

#include <span>

#include "halfulp/cuda/memory.hpp"
#include "halfulp/kernel/bessel_name.hpp"

/// Modified Bessel functions on arrays in device memory: halfulp/bessel.hpp says what they are.
///
///     cuda::buffer<double> v(orders), x(arguments), out(x.size());
///     cuda::bessel(BesselFunction::log_i, v, x, out, BesselMode::fast);
///
/// Points are sorted by formula inside a block of threads, so their order in the arrays does not
/// matter much; the values do not depend on it.
namespace halfulp::cuda {

/// out[i] = f(v[i], x[i]) for every i, on the device; a single v or a single x stands for all.
/// Special values as on the host.
/// @param  out    may be v or x themselves, but must not overlap them otherwise
/// @param  mode   of the logarithms; the other functions have one accuracy
/// @throws        ShapeError if a size is neither 1 nor out.size(); DeviceError if the launch fails
/// @accuracy      the budgets `bessel_*` of the host, except that the accurate logarithms keep them
///                only down to |log| of about 2^-45 hypot(v, x), there being no path in more
///                digits; `bessel_log_fast` in the fast mode
/// @cost          one launch; no allocation, no synchronisation
void bessel(BesselFunction f, span<const double> v, span<const double> x, span<double> out,
            BesselMode mode = BesselMode::accurate, stream_handle stream = nullptr);
/// Likewise in single precision, which has one accuracy whatever the mode.
/// @accuracy  budget `bessel_float`
void bessel(BesselFunction f, span<const float> v, span<const float> x, span<float> out,
            BesselMode mode = BesselMode::accurate, stream_handle stream = nullptr);

/// Likewise for arrays of the host, which are copied to the device and back, 16 million points at a
/// time. Waits for the stream.
/// @throws  DeviceError also if the device has not the memory
void bessel(BesselFunction f, std::span<const double> v, std::span<const double> x,
            std::span<double> out, BesselMode mode = BesselMode::accurate,
            stream_handle stream = nullptr);
void bessel(BesselFunction f, std::span<const float> v, std::span<const float> x,
            std::span<float> out, BesselMode mode = BesselMode::accurate,
            stream_handle stream = nullptr);

}  // namespace halfulp::cuda
