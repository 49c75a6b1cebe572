#pragma once

#include "halfulp/cuda/memory.hpp"
#include "halfulp/kernel/dd_function.hpp"

/// Double-double operations on arrays in device memory.
namespace halfulp::cuda {

/// out[i] = f(x[i]) or f(x[i], y[i]) for every i, on the device.
/// @param  x, y   arguments; y is empty for a function of one argument
/// @param  out    as many as x; may be x or y themselves
/// @throws        ShapeError if the sizes differ; DeviceError if the launch fails
/// @accuracy      budgets `dd_<name(f)>`, as on the host; the last bits may differ from the host's
/// @cost          one launch; no allocation, no synchronisation
void dd_apply(DdFunction f, span<const dd> x, span<const dd> y, span<dd> out,
              stream_handle stream = nullptr);

}  // namespace halfulp::cuda
