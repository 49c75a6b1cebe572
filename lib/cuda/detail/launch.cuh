#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "halfulp/error.hpp"

namespace halfulp::cuda::detail {

/// Throws DeviceError unless the call succeeded.
inline void check(cudaError_t code, const char* function) {
  if (code != cudaSuccess) throw DeviceError(function, code, cudaGetErrorString(code));
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
  run_indices<<<static_cast<unsigned>(blocks < most_blocks ? blocks : most_blocks), threads, 0,
                stream>>>(n, body);
  check(cudaGetLastError(), function);
}

}  // namespace halfulp::cuda::detail
