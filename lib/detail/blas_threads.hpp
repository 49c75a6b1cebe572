#pragma once

extern "C" {
int openblas_get_num_threads();
void openblas_set_num_threads(int);
}

namespace halfulp::detail {

/// One BLAS thread while it lives: OpenBLAS's results depend on its number of threads, and ours
/// must not. Work is divided above BLAS instead.
class OneBlasThread {
 public:
  OneBlasThread() : before_(openblas_get_num_threads()) { openblas_set_num_threads(1); }
  ~OneBlasThread() { openblas_set_num_threads(before_); }
  OneBlasThread(const OneBlasThread&) = delete;
  OneBlasThread& operator=(const OneBlasThread&) = delete;

 private:
  int before_;
};

}  // namespace halfulp::detail
