#include "detail/launch.cuh"
#include "halfulp/cuda/bessel.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/bessel_function.hpp"

namespace halfulp::cuda {
namespace {

template <BesselFunction F, class T>
struct Apply {
  const T* v;
  const T* x;
  T* out;
  std::ptrdiff_t v_step;
  __device__ void operator()(std::ptrdiff_t i) const {
    out[i] = static_cast<T>(kernel::bessel_value<F>(v[i * v_step], x[i]));
  }
};

template <BesselFunction F, class T>
void launch(span<const T> v, span<const T> x, span<T> out, stream_handle stream) {
  detail::for_each_index(
      "cuda::bessel", x.size(), stream,
      Apply<F, T>{v.data(), x.data(), out.data(), v.size() == 1 ? std::ptrdiff_t{0} : 1});
}

template <class T>
void dispatch(BesselFunction f, span<const T> v, span<const T> x, span<T> out,
              stream_handle stream) {
  using enum BesselFunction;
  if (out.size() != x.size()) throw ShapeError("cuda::bessel", "out", out.size(), x.size());
  if (v.size() != 1 && v.size() != x.size())
    throw ShapeError("cuda::bessel", "v", v.size(), x.size());
  switch (f) {
    case log_i:
      return launch<log_i>(v, x, out, stream);
    case log_k:
      return launch<log_k>(v, x, out, stream);
    case log_i_scaled:
      return launch<log_i_scaled>(v, x, out, stream);
    case log_k_scaled:
      return launch<log_k_scaled>(v, x, out, stream);
    case i_ratio:
      return launch<i_ratio>(v, x, out, stream);
    case i_ratio_complement:
      return launch<i_ratio_complement>(v, x, out, stream);
    case i_ratio_derivative:
      return launch<i_ratio_derivative>(v, x, out, stream);
    case k_ratio:
      return launch<k_ratio>(v, x, out, stream);
    case k_ratio_complement:
      return launch<k_ratio_complement>(v, x, out, stream);
    case k_ratio_derivative:
      return launch<k_ratio_derivative>(v, x, out, stream);
    case log_i_dx:
      return launch<log_i_dx>(v, x, out, stream);
    case log_k_dx:
      return launch<log_k_dx>(v, x, out, stream);
    case log_i_dv:
      return launch<log_i_dv>(v, x, out, stream);
    case log_k_dv:
      return launch<log_k_dv>(v, x, out, stream);
  }
}

}  // namespace

void bessel(BesselFunction f, span<const double> v, span<const double> x, span<double> out,
            stream_handle stream) {
  dispatch(f, v, x, out, stream);
}
void bessel(BesselFunction f, span<const float> v, span<const float> x, span<float> out,
            stream_handle stream) {
  dispatch(f, v, x, out, stream);
}

}  // namespace halfulp::cuda
