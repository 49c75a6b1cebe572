#include "halfulp/cuda/memory.hpp"

#include <cuda_runtime_api.h>

#include <limits>

#include "halfulp/error.hpp"

namespace halfulp::cuda {
namespace {

void check(cudaError_t code, const char* function) {
  if (code == cudaSuccess) return;
  cudaGetLastError();  // not to be reported a second time
  throw DeviceError(function, code, cudaGetErrorString(code));
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess) return count;
  cudaGetLastError();
  if (code == cudaErrorNoDevice || code == cudaErrorInsufficientDriver) return 0;
  throw DeviceError("cuda::device_count", code, cudaGetErrorString(code));
}

std::string device_name() {
  int device = 0;
  check(cudaGetDevice(&device), "cuda::device_name");
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, device), "cuda::device_name");
  return properties.name;
}

void synchronize(stream_handle stream) {
  check(cudaStreamSynchronize(stream), "cuda::synchronize");
}

namespace detail {

void* allocate(std::ptrdiff_t count, std::size_t element_size) {
  if (count < 0) throw DomainError("cuda::buffer", "size", std::to_string(count), ">= 0");
  if (count == 0) return nullptr;
  if (static_cast<std::size_t>(count) > std::numeric_limits<std::size_t>::max() / element_size)
    throw DeviceError("cuda::buffer", cudaErrorMemoryAllocation,
                      cudaGetErrorString(cudaErrorMemoryAllocation));
  void* memory = nullptr;
  check(cudaMalloc(&memory, static_cast<std::size_t>(count) * element_size), "cuda::buffer");
  return memory;
}

void release(void* memory) noexcept {
  // A failure here is an earlier one (a kernel's); the next call that may throw reports it.
  if (memory != nullptr) cudaFree(memory);
}

void copy_to_device(void* to, const void* from, std::size_t bytes, stream_handle stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "cuda::copy");
}

void copy_to_host(void* to, const void* from, std::size_t bytes, stream_handle stream) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "cuda::copy");
}

void require_same_size(const char* function, std::ptrdiff_t actual, std::ptrdiff_t expected) {
  if (actual != expected) throw ShapeError(function, "to", actual, expected);
}

}  // namespace detail
}  // namespace halfulp::cuda
