#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <utility>

#include "halfulp/error.hpp"

namespace halfulp::cuda::detail {

/// Throws DeviceError unless the call succeeded.
inline void check(cudaError_t code, const char* function) {
  if (code != cudaSuccess) throw DeviceError(function, code, cudaGetErrorString(code));
}

/// Queues kernel(arguments...) on `grid` blocks of `block` threads, without dynamic shared memory.
/// Not `<<<>>>`, which only nvcc parses: tests/cuda/host compiles the same sources for the host.
template <class... Formal, class... Actual>
void launch(const char* function, void (*kernel)(Formal...), dim3 grid, dim3 block,
            cudaStream_t stream, Actual&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.stream = stream;
  const cudaError_t code = cudaLaunchKernelEx(&config, kernel, std::forward<Actual>(arguments)...);
  const cudaError_t last = cudaGetLastError();  // also clears it: not to be reported a second time
  check(code != cudaSuccess ? code : last, function);
}

template <class Body>
__global__ void run_indices(std::ptrdiff_t n, Body body) {
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(gridDim.x) * blockDim.x;
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += stride)
    body(i);
}

/// Queues body(i) for i = 0 .. n-1.
template <class Body>
void for_each_index(const char* function, std::ptrdiff_t n, cudaStream_t stream, Body body) {
  if (n == 0) return;
  constexpr std::ptrdiff_t threads = 128, most_blocks = 1 << 20;
  const std::ptrdiff_t blocks = (n + threads - 1) / threads;
  detail::launch(function, run_indices<Body>,
                 dim3(static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks)),
                 dim3(threads), stream, n, body);
}

}  // namespace halfulp::cuda::detail
