#include "halfulp/threads.hpp"

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <mutex>
#include <vector>

#include "detail/require.hpp"

namespace halfulp {
namespace {

constexpr std::ptrdiff_t tree_block = 1024;
constexpr std::ptrdiff_t lanes = 8;  // two AVX registers, or one of AVX-512

/// Sum of term(i) over [begin, end), lane i mod 8 by lane, then the lanes in pairs.
template <class Term>
double block_sum(std::ptrdiff_t begin, std::ptrdiff_t end, const Term& term) {
  std::array<double, lanes> sum{};
  std::ptrdiff_t i = begin;
  for (; i + lanes <= end; i += lanes)
    for (std::ptrdiff_t k = 0; k < lanes; ++k) sum[static_cast<std::size_t>(k)] += term(i + k);
  for (std::ptrdiff_t k = 0; i + k < end; ++k) sum[static_cast<std::size_t>(k)] += term(i + k);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

template <class Term>
double reduce(std::ptrdiff_t n, int threads, const Term& term) {
  if (n <= tree_block) return block_sum(0, n, term);
  std::vector<double> sums(static_cast<std::size_t>((n + tree_block - 1) / tree_block));
  // 32 blocks a task: 32 Ki terms, some microseconds
  parallel_blocks(std::ssize(sums), 32, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t b = begin; b < end; ++b)
      sums[static_cast<std::size_t>(b)] =
          block_sum(b * tree_block, std::min((b + 1) * tree_block, n), term);
  });
  for (std::size_t width = 1; width < sums.size(); width *= 2)
    for (std::size_t i = 0; i + width < sums.size(); i += 2 * width) sums[i] += sums[i + width];
  return sums[0];
}

}  // namespace

int thread_count(int threads) {
  // libgomp ends the program when the system refuses it a thread: absurd numbers stop here.
  detail::require(threads >= 0 && threads <= 1024, "thread_count", "threads", threads,
                  "in 0 ... 1024");
  return threads > 0 ? threads : omp_get_max_threads();
}

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
  omp_set_num_threads(thread_count(threads));
}

ThreadScope::~ThreadScope() { omp_set_num_threads(before_); }

void parallel_for(std::ptrdiff_t n, int threads, const std::function<void(std::ptrdiff_t)>& body) {
  const auto team = static_cast<int>(
      std::min<std::ptrdiff_t>(thread_count(threads), std::max<std::ptrdiff_t>(n, 1)));
  if (team == 1) {
    for (std::ptrdiff_t i = 0; i < n; ++i) body(i);
    return;
  }
  // Calls beyond a failed index are skipped, calls before it never: the smallest one always wins.
  std::atomic<std::ptrdiff_t> failed{n};
  std::exception_ptr exception;
  std::mutex mutex;
#pragma omp parallel for schedule(dynamic) num_threads(team)
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    if (i > failed.load(std::memory_order_relaxed)) continue;
    try {
      body(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (i < failed.load(std::memory_order_relaxed)) {
        failed.store(i, std::memory_order_relaxed);
        exception = std::current_exception();
      }
    }
  }
  if (exception) std::rethrow_exception(exception);
}

void parallel_blocks(std::ptrdiff_t n, std::ptrdiff_t block, int threads,
                     const std::function<void(std::ptrdiff_t, std::ptrdiff_t)>& body) {
  detail::require(n >= 0, "parallel_blocks", "n", n, ">= 0");
  detail::require(block >= 1, "parallel_blocks", "block", block, ">= 1");
  const std::ptrdiff_t blocks = n / block + (n % block > 0 ? 1 : 0);
  parallel_for(blocks, threads, [&](std::ptrdiff_t b) {
    const std::ptrdiff_t begin = b * block;
    body(begin, begin + std::min(block, n - begin));
  });
}

double tree_sum(std::span<const double> values, int threads) {
  const double* x = values.data();
  return reduce(std::ssize(values), threads, [x](std::ptrdiff_t i) { return x[i]; });
}

double tree_dot(std::span<const double> a, std::span<const double> b, int threads) {
  detail::require_size("tree_dot", "b", std::ssize(b), std::ssize(a));
  const double *x = a.data(), *y = b.data();
  return reduce(std::ssize(a), threads, [x, y](std::ptrdiff_t i) { return x[i] * y[i]; });
}

}  // namespace halfulp
