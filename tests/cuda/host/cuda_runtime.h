#pragma once

// The language of kernels, on the host. What it has of CUDA means what it means there; what it has
// not does not compile.

#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block runs at a time. By the tag shared.ld finds these variables: they are filled before each
// block.
#define __shared__ static __attribute__((abi_tag("shared")))

/// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_host {

/// Where a kernel waits.
struct Place {
  const char* file;
  int line;
};

cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel);
/// Waits for all threads of the block that have not returned.
void wait_for_block(Place place);
/// Likewise; was it true for any of them?
bool any_of_block(bool predicate, Place place);
/// Waits for the lanes of `mask` that have not returned; the value of lane `source` then, or for
/// source = ballot one bit a lane: is its value 0?
std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, Place place);
constexpr int ballot = -1;
/// Of the thread that runs, within its warp.
int lane();

template <class T>
T shuffle(unsigned mask, T value, int source, Place place) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source, place);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cuda_on_host

// The defaults are where the kernel calls: nobody passes them.
inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_on_host::wait_for_block({file, line});
}

/// Is it nonzero for any thread of the block?
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(),
                            int line = __builtin_LINE()) {
  return cuda_on_host::any_of_block(predicate != 0, {file, line});
}

inline void __syncwarp(unsigned mask = 0xffffffff, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
  cuda_on_host::exchange(mask, 0, cuda_on_host::ballot, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return static_cast<unsigned>(
      cuda_on_host::exchange(mask, predicate != 0, cuda_on_host::ballot, {file, line}));
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int first = cuda_on_host::lane() & ~(width - 1);
  return cuda_on_host::shuffle(mask, value, first + (source & (width - 1)), {file, line});
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = cuda_on_host::lane(), source = lane + static_cast<int>(delta);
  const bool inside = source < (lane & ~(width - 1)) + width;
  return cuda_on_host::shuffle(mask, value, inside ? source : lane, {file, line});
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = cuda_on_host::lane(), source = lane - static_cast<int>(delta);
  const bool inside = source >= (lane & ~(width - 1));
  return cuda_on_host::shuffle(mask, value, inside ? source : lane, {file, line});
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize,
                  const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  const int lane = cuda_on_host::lane(), source = lane ^ bits;
  const bool inside = source < (lane & ~(width - 1)) + width;
  return cuda_on_host::shuffle(mask, value, inside ? source : lane, {file, line});
}

// Threads change only where they wait: a plain sum is atomic.
template <class T>
T atomicAdd(T* sum, std::type_identity_t<T> value) {
  const T old = *sum;
  *sum += value;
  return old;
}

template <class T>
T __ldg(const T* place) {
  return *place;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

using std::fma;
inline double rsqrt(double x) { return 1 / std::sqrt(x); }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

template <class T>
cudaError_t cudaMalloc(T** memory, std::size_t bytes) {
  void* allocated = nullptr;
  const cudaError_t code = cudaMalloc(&allocated, bytes);
  *memory = static_cast<T*>(allocated);
  return code;
}

template <class... Formal, class... Actual>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Formal...),
                               Actual&&... arguments) {
  return [&](Formal... formal) {
    return cuda_on_host::run(*config, [&] { kernel(formal...); });
  }(std::forward<Actual>(arguments)...);
}
