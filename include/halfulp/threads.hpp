#pragma once

#include <cstddef>
#include <functional>
#include <span>

/// Threads, and reductions whose bits do not depend on how many there are.
///
/// `threads` means everywhere: 0 for OpenMP's default (OMP_NUM_THREADS, else every core), else how
/// many at most. A loop started inside another runs on the thread it is on.
namespace halfulp {

/// The number that `threads` stands for, at least 1.
/// @throws  DomainError if threads < 0 or threads > 1024
[[nodiscard]] int thread_count(int threads = 0);

/// While it lives, 0 stands for `threads` in loops that the constructing thread starts; other
/// threads of the program are not affected. Destroy it on the same thread.
class ThreadScope {
 public:
  explicit ThreadScope(int threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

/// Calls body(i) once for each i in [0, n), on several threads and in no particular order.
/// If calls throw, the exception of the smallest i that throws comes out, whatever the number of
/// threads; every smaller i has then been called, larger ones perhaps not.
/// @cost  about 0.1 microseconds an i beside the body: give cheap bodies to parallel_blocks
void parallel_for(std::ptrdiff_t n, int threads, const std::function<void(std::ptrdiff_t)>& body);

/// Calls body(begin, end) for [0, block), [block, 2 block), ... up to n; else as parallel_for. The
/// blocks are the same for any number of threads.
/// @throws  DomainError if block < 1 or n < 0
void parallel_blocks(std::ptrdiff_t n, std::ptrdiff_t block, int threads,
                     const std::function<void(std::ptrdiff_t, std::ptrdiff_t)>& body);

/// Sum in an order fixed by the length alone: 8 interleaved sums in blocks of 1024, then pairs of
/// neighbours. The same bits for any number of threads and on any machine.
/// @return    0 for no values; NaN if any is NaN
/// @accuracy  |error| <= (131 + log2(n / 1024)) 2^-53 times the sum of magnitudes, to first
///            order in 2^-53, for n > 1024
/// @cost      O(n); allocates n / 1024 doubles
/// @source    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 4.1 and eq. (4.4)
[[nodiscard]] double tree_sum(std::span<const double> values, int threads = 0);

/// Sum of the products a[i] b[i] in the same order; products and sums are rounded separately.
/// @throws    ShapeError if the sizes differ
/// @accuracy  as tree_sum with one rounding more, relative to the sum of |a[i] b[i]|
[[nodiscard]] double tree_dot(std::span<const double> a, std::span<const double> b,
                              int threads = 0);

}  // namespace halfulp
