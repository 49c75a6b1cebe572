#pragma once

#include <mutex>

extern "C" {
int openblas_get_num_threads();
void openblas_set_num_threads(int);
}

namespace halfulp::detail {

/// One BLAS thread while any of these lives: OpenBLAS's results depend on its number of threads,
/// and ours must not. Work is divided above BLAS instead. The setting is the process', so that the
/// first one takes it and the last one gives it back.
class OneBlasThread {
 public:
  OneBlasThread() {
    const std::lock_guard lock(mutex);
    if (users++ > 0) return;
    before = openblas_get_num_threads();
    openblas_set_num_threads(1);
  }
  ~OneBlasThread() {
    const std::lock_guard lock(mutex);
    if (--users == 0) openblas_set_num_threads(before);
  }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  static inline std::mutex mutex;
  static inline int users = 0;
  static inline int before = 1;
};

}  // namespace halfulp::detail
