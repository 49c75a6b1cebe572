#pragma once

/// HALFULP_HD marks a function that runs on host and device; without nvcc it is empty.
/// It is the only macro of the library's interface.
#if defined(__CUDACC__)
#define HALFULP_HD __host__ __device__
#else
#define HALFULP_HD
#endif
