#include "detail/launch.cuh"
#include "halfulp/cuda/dd.hpp"
#include "halfulp/error.hpp"

namespace halfulp::cuda {
namespace {

template <DdFunction F>
struct Apply {
  const dd* x;
  const dd* y;
  dd* out;
  __device__ void operator()(std::ptrdiff_t i) const {
    if constexpr (is_binary(F))
      out[i] = kernel::apply<F>(x[i], y[i]);
    else
      out[i] = kernel::apply<F>(x[i], dd());
  }
};

}  // namespace

void dd_apply(DdFunction f, span<const dd> x, span<const dd> y, span<dd> out,
              stream_handle stream) {
  if (out.size() != x.size()) throw ShapeError("cuda::dd_apply", "out", out.size(), x.size());
  const std::ptrdiff_t needed = is_binary(f) ? x.size() : 0;
  if (y.size() != needed) throw ShapeError("cuda::dd_apply", "y", y.size(), needed);
  kernel::dispatch(f, [&]<DdFunction F>() {
    detail::for_each_index("cuda::dd_apply", x.size(), stream,
                           Apply<F>{x.data(), y.data(), out.data()});
  });
}

}  // namespace halfulp::cuda
