// Sums over gradients beside what the machine can do, all in one run: Gram matrices beside GEMM of
// OpenBLAS in the same precision and with as many threads, of square matrices, which is the most it
// does, and of the gradients themselves where they are held in that precision, and there also
// beside its SYRK; products beside reading the gradients
// from memory twice and beside the bandwidth of STREAM's triad. Times are the least of several
// rounds in which all take turns; ratios are what to look at where others use the machine as well.
// With one thread, time is that of the processor. Prints one JSON object.
//
//   bench_mfac_rows [--threads N] [--rounds N] [--dimension D --rows M]...
//     1 thread, 8 rounds, (1e5, 256), (1e6, 64) and (2^20, 64) unless said
#include "detail/mfac_rows.hpp"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "halfulp/info.hpp"
#include "halfulp/random.hpp"
#include "halfulp/threads.hpp"

extern "C" {
char* openblas_get_corename();
void openblas_set_num_threads(int);
void cblas_dgemm(int, int, int, int, int, int, double, const double*, int, const double*, int,
                 double, double*, int);
void cblas_sgemm(int, int, int, int, int, int, float, const float*, int, const float*, int, float,
                 float*, int);
void cblas_dsyrk(int, int, int, int, int, double, const double*, int, double, double*, int);
void cblas_ssyrk(int, int, int, int, int, float, const float*, int, float, float*, int);
}

namespace {

namespace mfac = halfulp::mfac;
namespace detail = mfac::detail;
using mfac::Accumulation;
using mfac::Gradients;
using mfac::Storage;
using nlohmann::json;
constexpr auto in_double = Accumulation::float64, in_float = Accumulation::float32;

int threads = 1, rounds = 8;

double clock_seconds() {
  if (threads == 1) {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The least times of several things, which take turns.
class Race {
 public:
  void add(const std::string& name, std::function<void()> run) {
    entries_.emplace_back(name, std::move(run));
  }
  std::map<std::string, double> run() const {
    std::map<std::string, double> best;
    for (int round = 0; round < rounds; ++round)
      for (const auto& [name, run] : entries_) {
        const double start = clock_seconds();
        run();
        const double time = clock_seconds() - start;
        const auto [at, first] = best.emplace(name, time);
        if (!first) at->second = std::min(at->second, time);
      }
    return best;
  }

 private:
  std::vector<std::pair<std::string, std::function<void()>>> entries_;
};

/// Reads all numbers once, as a compiler's own vectors do.
double read(const std::byte* from, std::ptrdiff_t bytes) {
  const std::ptrdiff_t block = std::ptrdiff_t{1} << 22;
  std::vector<std::uint64_t> sums(static_cast<std::size_t>((bytes + block - 1) / block));
  halfulp::parallel_blocks(bytes, block, threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    const auto* const words = reinterpret_cast<const std::uint64_t*>(from + begin);
    std::uint64_t sum[8] = {};
    for (std::ptrdiff_t i = 0; i + 8 <= (end - begin) / 8; i += 8)
      for (int j = 0; j < 8; ++j) sum[j] += words[i + j];
    for (const std::uint64_t each : sum) sums[static_cast<std::size_t>(begin / block)] += each;
  });
  std::uint64_t sum = 0;
  for (const std::uint64_t each : sums) sum += each;
  return static_cast<double>(sum);
}

/// STREAM's triad, a = b + 3 c, on numbers that no cache holds: 24 bytes of each.
class Triad {
 public:
  static constexpr std::ptrdiff_t numbers = std::ptrdiff_t{1} << 24;
  void operator()() {
    halfulp::parallel_blocks(numbers, std::ptrdiff_t{1} << 19, threads,
                             [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                               for (std::ptrdiff_t i = begin; i < end; ++i)
                                 a_[i] = b_[i] + 3.0 * c_[i];
                             });
  }

 private:
  std::vector<double> values_ = std::vector<double>(3 * numbers, 1.0);
  double *a_ = values_.data(), *b_ = a_ + numbers, *c_ = b_ + numbers;
};

json gradients_case(std::ptrdiff_t m, std::ptrdiff_t d, Storage storage) {
  const auto size = [](std::ptrdiff_t n) { return static_cast<std::size_t>(n); };
  Gradients g = Gradients::zeros(m, d, storage);
  std::vector<double> row(size(d));
  for (std::ptrdiff_t i = 0; i < m; ++i) {
    halfulp::RandomStream(static_cast<std::uint64_t>(i)).fill_uniform(row);
    g.set_row(i, std::span<const double>(row));
  }
  constexpr int most = 32;
  const std::vector<int> numbers{1, 2, 4, 8, 16, most};
  std::vector<float> x(size(most * d), 0.5F), y(size(most * d));
  std::vector<double> p(size(most * m), 0.1), gram(size(m * m));
  volatile double sink = 0;
  const std::ptrdiff_t bytes = m * g.data().stride * detail::item_size(storage);

  constexpr int n = 1024, row_major = 101, no = 111, yes = 112, lower = 122;
  std::vector<double> a(n * n, 0.5), c(n * n);
  std::vector<float> af(n * n, 0.5F), cf(n * n);
  const std::span<const float> xs(x);
  Race race;
  race.add("read", [&] { sink = read(g.data().numbers, bytes); });
  Triad triad;
  race.add("triad", [&] { triad(); });
  race.add("dgemm", [&] {
    cblas_dgemm(row_major, no, yes, n, n, n, 1, a.data(), n, a.data(), n, 0, c.data(), n);
  });
  race.add("sgemm", [&] {
    cblas_sgemm(row_major, no, yes, n, n, n, 1, af.data(), n, af.data(), n, 0, cf.data(), n);
  });
  // the BLAS on the gradients where they lie
  const int rows = static_cast<int>(m), columns = static_cast<int>(d);
  const int stride = static_cast<int>(g.data().stride);
  const std::string own = storage == Storage::float64   ? "double"
                          : storage == Storage::float32 ? "float"
                                                        : "";
  if (own == "double") {
    const auto* const numbers_of = reinterpret_cast<const double*>(g.data().numbers);
    race.add("gemm", [&, numbers_of] {
      cblas_dgemm(row_major, no, yes, rows, rows, columns, 1, numbers_of, stride, numbers_of,
                  stride, 0, gram.data(), rows);
    });
    race.add("syrk", [&, numbers_of] {
      cblas_dsyrk(row_major, lower, no, rows, columns, 1, numbers_of, stride, 0, gram.data(), rows);
    });
  } else if (own == "float") {
    const auto* const numbers_of = reinterpret_cast<const float*>(g.data().numbers);
    race.add("gemm", [&, numbers_of] {
      cblas_sgemm(row_major, no, yes, rows, rows, columns, 1, numbers_of, stride, numbers_of,
                  stride, 0, cf.data(), rows);
    });
    race.add("syrk", [&, numbers_of] {
      cblas_ssyrk(row_major, lower, no, rows, columns, 1, numbers_of, stride, 0, cf.data(), rows);
    });
  }
  for (const auto accumulation : {in_double, in_float}) {
    const std::string suffix = accumulation == in_double ? " double" : " float";
    race.add("gram" + suffix, [&, accumulation] {
      detail::gram(g, {0, d}, accumulation, threads, gram);
    });
    for (const int k : numbers) {
      race.add("project " + std::to_string(k) + suffix, [&, accumulation, k] {
        detail::project<float>(g, {0, d}, xs.first(size(k * d)), k, accumulation, threads, p);
      });
      race.add("combine " + std::to_string(k) + suffix, [&, accumulation, k] {
        detail::combine<float>(g, {0, d}, p, k, 0.5, xs.first(size(k * d)), accumulation, threads,
                               y);
      });
    }
  }
  const auto time = race.run();
  const double work = static_cast<double>(m) * static_cast<double>(d), unit = 2e-9 * n * n * n;
  json out{{"d", d},
           {"m", m},
           {"storage", mfac::to_string(storage)},
           {"read_gb_s", 1e-9 * static_cast<double>(bytes) / time.at("read")},
           {"triad_gb_s", 24e-9 * Triad::numbers / time.at("triad")},
           {"dgemm_gflop_s", unit / time.at("dgemm")},
           {"sgemm_gflop_s", unit / time.at("sgemm")}};
  for (const std::string type : {"double", "float"}) {
    const auto product = [&](int k) {
      return time.at("project " + std::to_string(k) + ' ' + type) +
             time.at("combine " + std::to_string(k) + ' ' + type);
    };
    json one;
    one["gram_gflop_s"] = 1e-9 * work * static_cast<double>(m) / time.at("gram " + type);
    one["gram_of_gemm"] = one["gram_gflop_s"].get<double>() /
                          out[type == "double" ? "dgemm_gflop_s" : "sgemm_gflop_s"].get<double>();
    if (type == own) {
      one["gram_of_same_gemm"] = 0.5 * time.at("gemm") / time.at("gram " + type);
      one["gram_of_syrk"] = time.at("syrk") / time.at("gram " + type);
    }
    one["product_of_two_reads"] = 2 * time.at("read") / product(1);
    one["product_of_triad"] =
        2e-9 * static_cast<double>(bytes) / product(1) / out["triad_gb_s"].get<double>();
    for (const int k : numbers)
      one["k"][std::to_string(k)] = {{"times_one", product(k) / product(1)},
                                     {"gflop_s", 4e-9 * work * k / product(k)}};
    out[type] = one;
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::pair<std::ptrdiff_t, std::ptrdiff_t>> sizes;
  for (int i = 1; i < argc; i += 2) {
    const std::string option = argv[i];
    const long value = i + 1 < argc ? std::max(1L, std::atol(argv[i + 1])) : 0;
    if (value > 0 && option == "--threads") {
      threads = static_cast<int>(value);
    } else if (value > 0 && option == "--rounds") {
      rounds = static_cast<int>(value);
    } else if (value > 0 && option == "--dimension") {
      sizes.emplace_back(64, value);
    } else if (value > 0 && option == "--rows" && !sizes.empty()) {
      sizes.back().first = value;
    } else {
      std::cerr << "bench_mfac_rows [--threads N] [--rounds N] [--dimension D --rows M]...\n";
      return 2;
    }
  }
  if (sizes.empty()) sizes = {{256, 100000}, {64, 1000000}, {64, 1 << 20}};
  openblas_set_num_threads(threads);
  json rows = json::array();
  for (const auto& [m, d] : sizes)
    for (const auto storage :
         {Storage::float32, Storage::float64, Storage::bfloat16, Storage::float16})
      if (storage == Storage::float32 || m == 64) rows.push_back(gradients_case(m, d, storage));
  std::cout << json{{"schema", 1},
                    {"compiler", halfulp::info().compiler},
                    {"instruction_sets", halfulp::info().instruction_sets},
                    {"blas", std::string("OpenBLAS ") + openblas_get_corename()},
                    {"threads", threads},
                    {"rows", rows}}
                   .dump(1)
            << '\n';
}
