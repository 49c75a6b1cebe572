#include <type_traits>

#include "detail/bessel_fast.hpp"
#include "detail/bessel_single.hpp"
#include "detail/launch.cuh"
#include "halfulp/cuda/bessel.hpp"
#include "halfulp/error.hpp"

namespace halfulp::cuda {
namespace {

namespace host = halfulp::detail;

/// The tables of the fast mode once more, on the device.
template <class T, int N>
struct Numbers {
  T value[N];
};
template <class T, int N>
constexpr Numbers<T, N> copied(const T (&from)[N]) {
  Numbers<T, N> to{};
  for (int i = 0; i < N; ++i) to.value[i] = from[i];
  return to;
}
constexpr Numbers<host::BesselFastCell, host::bessel_cell_bins> cells_of(bool second) {
  Numbers<host::BesselFastCell, host::bessel_cell_bins> to{};
  for (int bin = 0; bin < host::bessel_cell_bins; ++bin)
    to.value[bin] = host::bessel_fast_cell(second, bin);
  return to;
}
__device__ constexpr auto device_log_inverse = copied(host::bessel_log_table[0]);
__device__ constexpr auto device_log_minus = copied(host::bessel_log_table[3]);
__device__ constexpr auto device_slope_inverse = copied(host::bessel_slope_table[0]);
__device__ constexpr auto device_slope_minus = copied(host::bessel_slope_table[1]);
__device__ constexpr auto device_cells_i = cells_of(false);
__device__ constexpr auto device_cells_k = cells_of(true);
__device__ constexpr auto device_numbers_i = copied(host::bessel_fast_cells_i);
__device__ constexpr auto device_numbers_k = copied(host::bessel_fast_cells_k);
__device__ constexpr auto device_single_tables = host::bessel_single_tables();

__device__ inline host::BesselFastTables device_tables() {
  return {device_log_inverse.value,
          device_log_minus.value,
          device_slope_inverse.value,
          device_slope_minus.value,
          {device_cells_i.value, device_cells_k.value},
          {device_numbers_i.value, device_numbers_k.value}};
}

// ---- points of one way together -----------------------------------------------------------------

constexpr int threads = 256, most_tile = 2048;
constexpr int sorted_bins = host::bessel_fast_bins - host::bessel_fast_first_cell;

/// out[i] = evaluate(bin, v[i v_step], x[i x_step]), a tile of points a block, those of one bin
/// after the other: so that the threads of a warp take one way. What is in a bin has no order, and
/// its value does not depend on its place. `out` may be v or x.
template <class T, class Evaluate>
__global__ void __launch_bounds__(threads, Evaluate::least_blocks)
    run_binned(std::ptrdiff_t n, int tile, const T* v, std::ptrdiff_t v_step, const T* x,
               std::ptrdiff_t x_step, T* out, Evaluate evaluate) {
  __shared__ T orders[most_tile], arguments[most_tile];
  __shared__ unsigned short bins[most_tile], sorted[most_tile];
  __shared__ int next[sorted_bins], part[32], wide;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
  for (std::ptrdiff_t first = static_cast<std::ptrdiff_t>(blockIdx.x) * tile; first < n;
       first += static_cast<std::ptrdiff_t>(gridDim.x) * tile) {
    const int size = static_cast<int>(n - first < tile ? n - first : tile);
    for (int b = thread; b < sorted_bins; b += threads) next[b] = 0;
    if (thread == 0) wide = 0;
    __syncthreads();
    int others = 0;
    for (int i = thread; i < size; i += threads) {
      orders[i] = v[(first + i) * v_step];
      arguments[i] = x[(first + i) * x_step];
      const int bin = evaluate.bin(orders[i], arguments[i]);
      bins[i] = static_cast<unsigned short>(bin);
      if (bin < host::bessel_fast_first_cell) continue;
      others = 1;
      atomicAdd(&next[bin - host::bessel_fast_first_cell], 1);
    }
    // Points of the series take one way but for their number of terms: where there are no others,
    // their order is good.
    const bool sort = __syncthreads_or(others) != 0;
    if (sort) {
      constexpr int share = (sorted_bins + 31) / 32;
      const int begin = thread * share;
      const int end = begin + share < sorted_bins ? begin + share : sorted_bins;
      if (thread < 32) {
        part[thread] = 0;
        for (int b = begin; b < end; ++b) part[thread] += next[b];
      }
      __syncthreads();
      if (thread < 32) {
        int before = 0;
        for (int k = 0; k < thread; ++k) before += part[k];
        for (int b = begin; b < end; ++b) {
          const int count = next[b];
          next[b] = before;
          before += count;
        }
      }
      __syncthreads();
      for (int i = thread; i - lane < size; i += threads) {  // whole warps
        const bool series = i < size && bins[i] < host::bessel_fast_first_cell;
        // those of the series from the back, counted by warps: one bin has most of them
        const unsigned mask = __ballot_sync(~0U, series);
        int base = 0;
        if (lane == 0 && mask != 0) base = atomicAdd(&wide, __popc(mask));
        base = __shfl_sync(~0U, base, 0);
        if (series)
          sorted[size - 1 - base - __popc(mask & ((1U << lane) - 1))] =
              static_cast<unsigned short>(i);
        else if (i < size)
          sorted[atomicAdd(&next[bins[i] - host::bessel_fast_first_cell], 1)] =
              static_cast<unsigned short>(i);
      }
      __syncthreads();
    }
    for (int k = thread; k < size; k += threads) {
      const int i = sort ? sorted[k] : k;
      orders[i] = static_cast<T>(evaluate(bins[i], orders[i], arguments[i]));
    }
    __syncthreads();
    for (int i = thread; i < size; i += threads) out[first + i] = orders[i];
  }
}

template <bool Second, bool Scaled>
struct Bins {
  /// A multiprocessor's, which limits the registers: double-double needs more of them.
  static constexpr int least_blocks = 2;
  __device__ int bin(double v, double x) const {
    return host::bessel_fast_bin(Second, Scaled, v, x);
  }
};
template <BesselFunction F>
using BinsOf = Bins<F == BesselFunction::log_k || F == BesselFunction::log_k_scaled ||
                        F == BesselFunction::log_k_dv,
                    F == BesselFunction::log_i_scaled || F == BesselFunction::log_k_scaled>;

template <BesselFunction F>
struct Accurate : BinsOf<F> {
  __device__ double operator()(int, double v, double x) const {
    return kernel::bessel_value<F>(v, x);
  }
};

/// All ratios and slopes of one kind: of the time to compile them one kernel is enough.
template <bool Second>
struct Ratios : Bins<Second, false> {
  BesselFunction f;
  explicit Ratios(BesselFunction function) : f(function) {}
  __device__ double operator()(int, double v, double x) const {
    if (kernel::bessel_is_special(v, x)) return kernel::bessel_special(f, v, x);
    return kernel::bessel_ratio(
        f, Second ? kernel::bessel_k_ratios(v, x) : kernel::bessel_i_ratios(v, x));
  }
};

template <BesselFunction F>
struct Fast : BinsOf<F> {
  static constexpr int least_blocks = 3;
  host::BesselFastNumbers numbers = host::bessel_fast_numbers();
  __device__ double operator()(int bin, double v, double x) const {
    return host::bessel_fast_value<F>(bin, v, x, device_tables(), numbers);
  }
};

/// By pairs of floats where they are enough, else by the fast mode, which has digits to spare but
/// where the logarithm is small beside what it is the difference of.
template <BesselFunction F>
struct Single : Fast<F> {
  host::BesselSingleNumbers single_numbers = host::bessel_single_numbers();
  __device__ int bin(float v, float x) const {
    return host::bessel_single_takes(v, x) ? 0 : Fast<F>::bin(v, x);
  }
  __device__ double operator()(int bin, float v, float x) const {
    constexpr bool second = F == BesselFunction::log_k || F == BesselFunction::log_k_scaled;
    constexpr bool scaled = F == BesselFunction::log_i_scaled || F == BesselFunction::log_k_scaled;
    if (host::bessel_single_takes(v, x)) {
      const float value =
          host::bessel_single<second, scaled>(v, x, device_single_tables, single_numbers);
      if (value == value) return value;
      bin = Fast<F>::bin(v, x);
    }
    const double value = Fast<F>::operator()(bin, v, x);
    return std::fabs(value) >= 0x1p-20 + 0x1p-30 * v ? value : kernel::bessel_value<F>(v, x);
  }
};

/// One element stands for all.
std::ptrdiff_t step(std::ptrdiff_t size) { return size == 1 ? 0 : 1; }

void require_sizes(std::ptrdiff_t v, std::ptrdiff_t x, std::ptrdiff_t out) {
  if (v != 1 && v != out) throw ShapeError("cuda::bessel", "v", v, out);
  if (x != 1 && x != out) throw ShapeError("cuda::bessel", "x", x, out);
}

template <class T, class Evaluate>
void launch(span<const T> v, span<const T> x, span<T> out, stream_handle stream,
            Evaluate evaluate) {
  const std::ptrdiff_t n = out.size();
  if (n == 0) return;
  // enough blocks for every multiprocessor, up to where a tile's bins are full
  constexpr std::ptrdiff_t enough = 1056, most_blocks = 1 << 20;
  const std::ptrdiff_t wanted = (n / enough + threads - 1) / threads * threads;
  const auto tile = static_cast<int>(wanted < threads     ? threads
                                     : wanted < most_tile ? wanted
                                                          : most_tile);
  const std::ptrdiff_t blocks = (n + tile - 1) / tile;
  detail::launch("cuda::bessel", run_binned<T, Evaluate>,
                 dim3(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks)),
                 dim3(threads), stream, n, tile, v.data(), step(v.size()), x.data(), step(x.size()),
                 out.data(), evaluate);
}

template <BesselFunction F, class T>
void logarithm(span<const T> v, span<const T> x, span<T> out, BesselMode mode,
               stream_handle stream) {
  if constexpr (std::is_same_v<T, float>) {
    launch(v, x, out, stream, Single<F>{});
  } else if (mode == BesselMode::fast) {
    launch(v, x, out, stream, Fast<F>{});
  } else {
    launch(v, x, out, stream, Accurate<F>{});
  }
}

template <class T>
void dispatch(BesselFunction f, span<const T> v, span<const T> x, span<T> out, BesselMode mode,
              stream_handle stream) {
  using enum BesselFunction;
  require_sizes(v.size(), x.size(), out.size());
  switch (f) {
    case log_i:
      return logarithm<log_i>(v, x, out, mode, stream);
    case log_k:
      return logarithm<log_k>(v, x, out, mode, stream);
    case log_i_scaled:
      return logarithm<log_i_scaled>(v, x, out, mode, stream);
    case log_k_scaled:
      return logarithm<log_k_scaled>(v, x, out, mode, stream);
    case log_i_dv:
      return launch(v, x, out, stream, Accurate<log_i_dv>{});
    case log_k_dv:
      return launch(v, x, out, stream, Accurate<log_k_dv>{});
    case i_ratio:
    case i_ratio_complement:
    case i_ratio_derivative:
    case log_i_dx:
      return launch(v, x, out, stream, Ratios<false>(f));
    case k_ratio:
    case k_ratio_complement:
    case k_ratio_derivative:
    case log_k_dx:
      return launch(v, x, out, stream, Ratios<true>(f));
  }
}

/// Points that are on the device at once.
constexpr std::ptrdiff_t most_points = 1 << 24;

template <class T>
void from_host(BesselFunction f, std::span<const T> v, std::span<const T> x, std::span<T> out,
               BesselMode mode, stream_handle stream) {
  const std::ptrdiff_t n = std::ssize(out);
  require_sizes(std::ssize(v), std::ssize(x), n);
  const std::ptrdiff_t size = n < most_points ? n : most_points;
  // a single one is copied once and stays
  buffer<T> orders(step(std::ssize(v)) * (size - 1) + 1), result(size);
  buffer<T> arguments(step(std::ssize(x)) * (size - 1) + 1);
  const auto send = [&](std::span<const T> from, buffer<T>& to, std::size_t at, std::size_t count) {
    if (from.size() == 1 && at > 0) return span<const T>(to);
    const span<T> part(to.data(), from.size() == 1 ? 1 : static_cast<std::ptrdiff_t>(count));
    copy<T>(from.size() == 1 ? from : from.subspan(at, count), part, stream);
    return span<const T>(part);
  };
  for (std::ptrdiff_t begin = 0; begin < n; begin += size) {
    const auto at = static_cast<std::size_t>(begin);
    const auto count = static_cast<std::size_t>(n - begin < size ? n - begin : size);
    const span<T> part(result.data(), static_cast<std::ptrdiff_t>(count));
    dispatch<T>(f, send(v, orders, at, count), send(x, arguments, at, count), part, mode, stream);
    copy<T>(part, out.subspan(at, count), stream);
    synchronize(stream);  // memory that is not pinned is free again
  }
}

}  // namespace

void bessel(BesselFunction f, span<const double> v, span<const double> x, span<double> out,
            BesselMode mode, stream_handle stream) {
  dispatch(f, v, x, out, mode, stream);
}
void bessel(BesselFunction f, span<const float> v, span<const float> x, span<float> out,
            BesselMode mode, stream_handle stream) {
  dispatch(f, v, x, out, mode, stream);
}
void bessel(BesselFunction f, std::span<const double> v, std::span<const double> x,
            std::span<double> out, BesselMode mode, stream_handle stream) {
  from_host(f, v, x, out, mode, stream);
}
void bessel(BesselFunction f, std::span<const float> v, std::span<const float> x,
            std::span<float> out, BesselMode mode, stream_handle stream) {
  from_host(f, v, x, out, mode, stream);
}

}  // namespace halfulp::cuda
