#pragma once

#include <cstdio>
#include <exception>

#include "halfulp/cuda/memory.hpp"

/// What main() of a device benchmark returns: `body` goes on with the JSON object that is begun on
/// stdout. 77 without a device, 1 after an exception.
template <class Body>
int run_benchmark(const char* name, Body body) {
  try {
    if (halfulp::cuda::device_count() == 0) {
      std::fprintf(stderr, "SKIPPED: no CUDA device\n");
      return 77;
    }
    std::printf("{\"benchmark\": \"%s\", \"device\": \"%s\", ", name,
                halfulp::cuda::device_name().c_str());
    body();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_cuda_%s: %s\n", name, e.what());
    return 1;
  }
  return 0;
}
