// Does the host in place of a device show what a device would, and what it would hide?
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "detail/launch.cuh"
#include "device_check.hpp"
#include "halfulp/cuda/memory.hpp"

namespace cuda = halfulp::cuda;
using cuda::detail::launch;

namespace {

template <class T>
std::vector<T> to_host(const cuda::buffer<T>& memory) {
  std::vector<T> result(static_cast<std::size_t>(memory.size()));
  cuda::copy(memory, result);
  cuda::synchronize();
  return result;
}

/// Sums of blocks of 64: with all barriers, or without the one before or after values are written.
enum class Without { nothing, barrier_before, barrier_after };
constexpr int block = 64;

template <Without W>
__global__ void block_sum(int rounds, const double* x, double* sums) {
  __shared__ double part[block];
  const int t = static_cast<int>(threadIdx.x);
  double sum = 0;
  for (int round = 0; round < rounds; ++round) {
    if (W != Without::barrier_before) __syncthreads();
    part[t] = x[(static_cast<int>(blockIdx.x) * rounds + round) * block + t];
    if (W != Without::barrier_after) __syncthreads();
    for (int i = 0; i < block; ++i) sum += part[i];
  }
  sums[static_cast<int>(blockIdx.x) * block + t] = sum;
}

/// Blocks in which every thread got the right sum.
template <Without W>
int right_sums(int rounds) {
  constexpr int blocks = 6;
  std::vector<double> x(static_cast<std::size_t>(blocks * rounds * block));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i % 97);
  const cuda::buffer<double> dx{std::span<const double>(x)};
  cuda::buffer<double> sums(blocks * block);
  launch("block_sum", block_sum<W>, dim3(blocks), dim3(block), nullptr, rounds, dx.data(),
         sums.data());
  const std::vector<double> s = to_host(sums);
  int right = 0;
  for (int b = 0; b < blocks; ++b) {
    double sum = 0;
    for (int i = 0; i < rounds * block; ++i)
      sum += x[static_cast<std::size_t>(b * rounds * block + i)];
    bool good = true;
    for (int t = 0; t < block; ++t)
      good = good && s[static_cast<std::size_t>(b * block + t)] == sum;
    right += good;
  }
  return right;
}

/// Each thread reads what its neighbour below wrote: wrong only where the neighbour runs later.
__global__ void neighbour(double* out) {
  __shared__ double value[block];
  const int t = static_cast<int>(threadIdx.x);
  value[t] = t;
  out[static_cast<int>(blockIdx.x) * block + t] = value[t > 0 ? t - 1 : 0];
}

void check_barriers() {
  check(right_sums<Without::nothing>(1) == 6, "block sums of one round");
  check(right_sums<Without::nothing>(5) == 6, "block sums of five rounds");
  check(right_sums<Without::barrier_after>(1) == 0, "a barrier missing after the write is seen");
  check(right_sums<Without::barrier_before>(5) == 0, "a barrier missing before the write is seen");
  check(right_sums<Without::barrier_before>(1) == 6, "one round needs no barrier before the write");
  cuda::buffer<double> out(3 * block);
  launch("neighbour", neighbour, dim3(3), dim3(block), nullptr, out.data());
  int wrong_blocks = 0;
  const std::vector<double> r = to_host(out);
  for (std::size_t b = 0; b < 3; ++b) {
    int wrong = 0;
    for (std::size_t t = 1; t < block; ++t) wrong += std::isnan(r[b * block + t]);
    check(wrong == 0 || wrong == block - 1, "a block runs in one order");
    wrong_blocks += wrong > 0;
  }
  check(wrong_blocks == 1 || wrong_blocks == 2, "of three blocks one runs in the other order");
}

__global__ void two_barriers(int* reached) {
  if (threadIdx.x < 10)
    __syncthreads();
  else
    __syncthreads();
  atomicAdd(reached, 1);
}

__global__ void barrier_and_shuffle(int* reached) {
  if (threadIdx.x == 5)
    __syncthreads();
  else
    __syncwarp();
  atomicAdd(reached, 1);
}

/// Threads that have returned are not waited for.
__global__ void early_return(int* reached) {
  if (threadIdx.x % 3 == 0) return;
  __syncthreads();
  atomicAdd(reached, 1);
}

template <class Kernel>
std::string failure(Kernel kernel, int expected) {
  cuda::buffer<int> reached(1);
  cudaMemsetAsync(reached.data(), 0, sizeof(int), nullptr);
  std::string text;
  try {
    launch("self_test", kernel, dim3(1), dim3(48), nullptr, reached.data());
  } catch (const halfulp::DeviceError& e) {
    check(e.code() == cudaErrorLaunchFailure, "code of a failed launch");
    text = e.what();
  }
  check(cudaGetLastError() == cudaSuccess, "a reported failure is not reported again");
  check(to_host(reached)[0] == expected, "threads beyond the barrier");
  return text;
}

void check_unreached() {
  const auto has = [](const std::string& text, const char* part) {
    check(text.find(part) != std::string::npos, '"' + text + "\" has \"" + part + '"');
  };
  const std::string two = failure(two_barriers, 0);
  has(two, "a barrier that not all threads reach: in block (0, 0, 0): 10 wait at self_test.cpp:");
  has(two, ", 38 wait at self_test.cpp:");
  has(failure(barrier_and_shuffle, 16), "31 wait at self_test.cpp:");
  check(failure(early_return, 32).empty(), "threads that returned are not waited for");
}

__global__ void shuffles(int* of_int, double* of_double) {
  const int t = static_cast<int>(threadIdx.x), all = static_cast<int>(blockDim.x);
  const unsigned full = 0xffffffff;
  int row = 0;
  const auto put = [&](int value) { of_int[row++ * all + t] = value; };
  put(__shfl_sync(full, t, 3));
  put(__shfl_down_sync(full, t, 2));
  put(__shfl_up_sync(full, t, 2));
  put(__shfl_xor_sync(full, t, 5));
  put(__shfl_down_sync(full, t, 1, 8));
  put(static_cast<int>(__ballot_sync(full, t % 5 == 0)));
  // halves of a warp, each by itself, and not equally often
  const bool upper = t % 32 >= 16;
  int sum = t;
  for (int step = 8; step > 0; step /= 2)
    sum += __shfl_xor_sync(upper ? 0xffff0000u : 0x0000ffffu, sum, step);
  if (upper) sum = __shfl_sync(0xffff0000u, sum, 16);
  __syncwarp();
  put(sum);
  double total = 0.5 * t;
  for (int step = 16; step > 0; step /= 2) total += __shfl_down_sync(full, total, step);
  of_double[t] = total;
}

void check_shuffles() {
  constexpr int all = 64;
  cuda::buffer<int> of_int(7 * all);
  cuda::buffer<double> of_double(all);
  launch("shuffles", shuffles, dim3(1), dim3(all), nullptr, of_int.data(), of_double.data());
  const std::vector<int> r = to_host(of_int);
  const std::vector<double> d = to_host(of_double);
  for (int t = 0; t < all; ++t) {
    const int lane = t % 32, first = t - lane;
    unsigned fifths = 0;
    for (int l = 0; l < 32; ++l) fifths |= static_cast<unsigned>((first + l) % 5 == 0) << l;
    const int half = t - t % 16;
    const int expected[] = {first + 3,          lane + 2 < 32 ? t + 2 : t, lane >= 2 ? t - 2 : t,
                            first + (lane ^ 5), t % 8 < 7 ? t + 1 : t,     static_cast<int>(fifths),
                            16 * half + 120};
    for (int row = 0; row < 7; ++row)
      check(r[static_cast<std::size_t>(row * all + t)] == expected[row],
            "shuffle " + std::to_string(row) + " of thread " + std::to_string(t));
  }
  check(d[0] == 0.5 * 31 * 16 && d[32] == 0.5 * (32 * 32 + 31 * 16), "sums of warps");
}

__global__ void count(std::ptrdiff_t n, int* visits, int* total, double* weight, int* by_row) {
  const auto stride = static_cast<std::ptrdiff_t>(gridDim.x) * blockDim.x;
  for (std::ptrdiff_t i = static_cast<std::ptrdiff_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n;
       i += stride) {
    visits[i] = visits[i] == -1 ? 1 : visits[i] + 1;  // -1: not written before
    atomicAdd(total, 1);
    atomicAdd(weight, 0.25);
    atomicAdd(&by_row[i % 3], 1);
  }
}

/// Is the thread number `wanted` in the block?
__global__ void any(int wanted, int* out) {
  const int here = static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x);
  out[here] = __syncthreads_or(here == wanted);
}

__global__ void indices(unsigned* out) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[b * (blockDim.x * blockDim.y * blockDim.z) + thread] = thread + 1000 * b;
}

void check_grids() {
  constexpr std::ptrdiff_t n = 1000;
  cuda::buffer<int> visits(n), total(1), by_row(3);
  cuda::buffer<double> weight(1);
  cudaMemsetAsync(total.data(), 0, sizeof(int), nullptr);
  cudaMemsetAsync(by_row.data(), 0, 3 * sizeof(int), nullptr);
  cudaMemsetAsync(weight.data(), 0, sizeof(double), nullptr);
  launch("count", count, dim3(3), dim3(33), nullptr, n, visits.data(), total.data(), weight.data(),
         by_row.data());
  bool once = true;
  for (const int v : to_host(visits)) once = once && v == 1;
  check(once, "a grid-stride loop visits each index once");
  check(to_host(total)[0] == n && to_host(weight)[0] == 0.25 * n, "atomic sums");
  check(to_host(by_row) == std::vector<int>({334, 333, 333}), "atomic sums of three");
  cuda::buffer<int> found(3 * 40);
  launch("any", any, dim3(3), dim3(40), nullptr, 77, found.data());
  const std::vector<int> f = to_host(found);
  for (std::size_t i = 0; i < f.size(); ++i)
    check((f[i] != 0) == (i / 40 == 1), "a condition of one thread, seen by its block");
  cuda::buffer<unsigned> out(3 * 2 * 2 * 4 * 3 * 2);
  launch("indices", indices, dim3(3, 2, 2), dim3(4, 3, 2), nullptr, out.data());
  const std::vector<unsigned> r = to_host(out);
  bool good = true;
  for (unsigned i = 0; i < r.size(); ++i) good = good && r[i] == i % 24 + 1000 * (i / 24);
  check(good, "indices in three dimensions");
}

__global__ void unwritten(double* out) {
  __shared__ double never[4];
  __shared__ int whole;
  out[blockIdx.x] = never[blockIdx.x] + whole;
  never[blockIdx.x] = 1;
  whole = 1;
}

void check_memory() {
  cuda::buffer<double> fresh(3), out(4);
  cuda::buffer<float> single(3);
  for (const double v : to_host(fresh)) check(std::isnan(v), "fresh memory is NaN");
  for (const float v : to_host(single)) check(std::isnan(v), "fresh memory is NaN in float");
  launch("unwritten", unwritten, dim3(4), dim3(1), nullptr, out.data());
  for (const double v : to_host(out)) check(std::isnan(v), "shared memory is NaN in every block");
  double host[4] = {};
  check(cudaMemcpyAsync(fresh.data(), host, 4 * sizeof(double), cudaMemcpyHostToDevice, nullptr) ==
            cudaErrorInvalidValue,
        "a copy beyond the allocation");
  check(
      cudaMemcpyAsync(host, host + 1, 8, cudaMemcpyDeviceToHost, nullptr) == cudaErrorInvalidValue,
      "host memory said to be the device's");
  check(cudaFree(host) == cudaErrorInvalidValue, "host memory freed as the device's");
  check(cudaGetLastError() == cudaErrorInvalidValue && cudaGetLastError() == cudaSuccess,
        "the last error is kept until it is asked for");
  void* memory = nullptr;
  check(cudaMalloc(&memory, std::size_t{1} << 50) == cudaErrorMemoryAllocation && !memory,
        "more memory than there is");
  cudaGetLastError();
}

void check_launches() {
  cuda::buffer<double> out(1);
  for (const dim3 bad : {dim3(0), dim3(1025), dim3(32, 33), dim3(1, 1, 65)}) {
    int code = 0;
    try {
      launch("unwritten", unwritten, dim3(1), bad, nullptr, out.data());
    } catch (const halfulp::DeviceError& e) {
      code = e.code();
    }
    check(code == cudaErrorInvalidConfiguration, "a block that no device takes");
  }
}

}  // namespace

int main() {
  try {
    std::printf("device: %s\n", cuda::device_name().c_str());
    check_barriers();
    check_unreached();
    check_shuffles();
    check_grids();
    check_memory();
    check_launches();
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
