#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "halfulp/error.hpp"

/// Time of queued work by CUDA events: the median of nine runs after one that loads the kernel.
class EventTimer {
 public:
  EventTimer() {
    check(cudaEventCreate(&begin_));
    check(cudaEventCreate(&end_));
  }
  ~EventTimer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  EventTimer(const EventTimer&) = delete;
  EventTimer& operator=(const EventTimer&) = delete;

  /// Seconds that `queue` takes on the default stream.
  template <class Queue>
  double median(Queue queue) {
    constexpr int repetitions = 9;
    queue();
    std::vector<double> seconds;
    for (int r = 0; r < repetitions; ++r) {
      check(cudaEventRecord(begin_));
      queue();
      check(cudaEventRecord(end_));
      check(cudaEventSynchronize(end_));
      float ms = 0;
      check(cudaEventElapsedTime(&ms, begin_, end_));
      seconds.push_back(1e-3 * ms);
    }
    std::nth_element(seconds.begin(), seconds.begin() + repetitions / 2, seconds.end());
    return seconds[repetitions / 2];
  }

  static void check(cudaError_t code) {
    if (code != cudaSuccess)
      throw halfulp::DeviceError("benchmark", code, cudaGetErrorString(code));
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};
