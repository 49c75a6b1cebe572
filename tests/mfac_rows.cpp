#include "detail/mfac_rows.hpp"

#include <hwy/targets.h>

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/random.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
namespace detail = mfac::detail;
using detail::Columns;
using mfac::Accumulation;
using mfac::Gradients;
using mfac::Storage;

namespace {

using Numbers = std::vector<double>;
using Wide = long double;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
constexpr Storage storages[] = {Storage::float64, Storage::float32, Storage::bfloat16,
                                Storage::float16};

Numbers normal(std::size_t n, std::uint64_t seed) {
  Numbers x(n);
  halfulp::RandomStream(seed).fill_normal(x);
  return x;
}

template <class T>
std::vector<T> rounded(const Numbers& x) {
  std::vector<T> y(x.size());
  std::transform(x.begin(), x.end(), y.begin(), [](double v) { return static_cast<T>(v); });
  return y;
}

template <class T>
std::span<const T> all(const std::vector<T>& x) {
  return x;
}

bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

/// A type of 16 bits, from its definition: numbers of so many digits, the least exponent, its bits.
struct Half {
  Storage storage;
  int digits;    ///< after the binary point
  int exponent;  ///< of the least normal number
};
constexpr Half halves[] = {{Storage::bfloat16, 7, -126}, {Storage::float16, 10, -14}};

/// Number i of the finite ones that are not negative, in order.
double definition(const Half& half, int i) {
  const int of_digits = i % (1 << half.digits), of_exponent = i >> half.digits;
  if (of_exponent == 0) return std::ldexp(of_digits, half.exponent - half.digits);
  return std::ldexp((1 << half.digits) + of_digits, half.exponent - half.digits + of_exponent - 1);
}
int finite_numbers(const Half& half) { return (1 << 15) - (1 << half.digits); }

Numbers held(const Numbers& values, Storage storage) {
  const Gradients g(all(values), std::ssize(values), storage);
  Numbers out(values.size());
  g.row(0, out);
  return out;
}

void all_targets(const auto& body) {
  const auto supported = hwy::SupportedTargets() & HWY_TARGETS;
  for (std::int64_t left = supported; left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    INFO(hwy::TargetName(target));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(target);
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
}

/// What is computed, from its definition, and the sums of magnitudes, which errors go with.
struct Reference {
  std::vector<Wide> gram, projections, squares, combinations;
  std::vector<Wide> gram_size, projection_size, square_size, combination_size;
};
struct Case {
  std::ptrdiff_t m, d, k;
  Columns columns;
  Numbers rows, x, a;
  double scale = 0.75;
};
Case make_case(std::ptrdiff_t m, std::ptrdiff_t d, std::ptrdiff_t k, Columns columns,
               std::uint64_t seed) {
  const auto size = [](std::ptrdiff_t n) { return static_cast<std::size_t>(n); };
  return {m,
          d,
          k,
          columns,
          normal(size(m * d), seed),
          normal(size(k * d), seed + 1),
          normal(size(k * m), seed + 2)};
}
Reference reference(const Case& c, const Gradients& gradients, const Numbers& x) {
  Numbers g(c.rows.size());
  const auto d = static_cast<std::size_t>(c.d), m = static_cast<std::size_t>(c.m),
             k = static_cast<std::size_t>(c.k);
  for (std::size_t i = 0; i < m; ++i)
    gradients.row(static_cast<std::ptrdiff_t>(i), std::span(g).subspan(i * d, d));
  Reference r;
  const auto dot = [&](const double* a, const double* b, std::vector<Wide>& out,
                       std::vector<Wide>& size) {
    Wide sum = 0, magnitude = 0;
    for (std::ptrdiff_t j = c.columns.begin; j < c.columns.end; ++j) {
      sum += Wide{a[j]} * b[j];
      magnitude += std::fabs(Wide{a[j]} * b[j]);
    }
    out.push_back(sum);
    size.push_back(magnitude);
  };
  for (std::size_t j = 0; j < m; ++j) {
    r.gram.resize(r.gram.size() + j);  // above the diagonal
    r.gram_size.resize(r.gram.size());
    for (std::size_t i = j; i < m; ++i) dot(&g[i * d], &g[j * d], r.gram, r.gram_size);
  }
  for (std::size_t q = 0; q < k; ++q) {
    dot(&x[q * d], &x[q * d], r.squares, r.square_size);
    for (std::size_t i = 0; i < m; ++i) dot(&g[i * d], &x[q * d], r.projections, r.projection_size);
  }
  for (std::size_t q = 0; q < k; ++q)
    for (std::size_t j = 0; j < d; ++j) {
      Wide sum = Wide{c.scale} * x[q * d + j], magnitude = std::fabs(sum);
      for (std::size_t i = 0; i < m; ++i) {
        sum += Wide{c.a[q * m + i]} * g[i * d + j];
        magnitude += std::fabs(Wide{c.a[q * m + i]} * g[i * d + j]);
      }
      r.combinations.push_back(sum);
      r.combination_size.push_back(magnitude);
    }
  return r;
}

/// The largest error over u times the sum of magnitudes.
double worst(const auto& values, const std::vector<Wide>& reference, const std::vector<Wide>& size,
             double u) {
  REQUIRE(values.size() == reference.size());
  double most = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Wide error = std::fabs(Wide{values[i]} - reference[i]);
    if (!(error <= 1e300L)) return infinity;
    if (error > 0) most = std::max(most, static_cast<double>(error / (u * size[i])));
  }
  return most;
}

/// Sums of a tile are sums of `lanes` numbers each, at most width/8 terms in each of 8 (16 in
/// float, 4096 terms in all); tiles follow each other in 64 lanes, then a tree.
double bound(std::ptrdiff_t columns, std::ptrdiff_t width) {
  const double tiles = std::ceil(static_cast<double>(columns) / static_cast<double>(width));
  return static_cast<double>(std::min(columns, width)) / 8 + 1 + 4 + std::ceil(tiles / 64) + 6;
}

template <class T>
void check_case(const Case& c, Storage storage, Accumulation accumulation, int threads) {
  INFO("m " << c.m << ", d " << c.d << ", k " << c.k << ", columns " << c.columns.begin << " ... "
            << c.columns.end << ", " << mfac::to_string(storage) << ", "
            << (accumulation == Accumulation::float32 ? "float" : "double") << ", T of "
            << sizeof(T));
  const Gradients g(all(c.rows), c.d, storage);
  const std::vector<T> x = rounded<T>(c.x);
  const Reference r = reference(c, g, Numbers(x.begin(), x.end()));
  const auto m = static_cast<std::size_t>(c.m), k = static_cast<std::size_t>(c.k);
  const bool in_float = accumulation == Accumulation::float32 && storage != Storage::float64;
  const double u = in_float ? 0x1p-24 : 0x1p-53;
  const double most = bound(c.columns.end - c.columns.begin, 4096);

  Numbers gram(m * m, -7), projections(k * m, no_number), squares(k, no_number);
  detail::gram(g, c.columns, accumulation, threads, gram);
  const auto check_gram = [&] {
    std::vector<Wide> expected = r.gram;
    for (std::size_t j = 0; j < m; ++j)
      for (std::size_t i = 0; i < j; ++i) expected[i + m * j] = -7;  // not touched
    CHECK(worst(gram, expected, r.gram_size, u) <= most);
  };
  const auto check_projections = [&] {
    CHECK(worst(projections, r.projections, r.projection_size, u) <= most);
    CHECK(worst(squares, r.squares, r.square_size, 0x1p-53) <= most);
  };
  check_gram();
  detail::project(g, c.columns, all(x), c.k, accumulation, threads, projections, squares);
  check_projections();
  const Numbers before = projections;
  detail::project(g, c.columns, all(x), c.k, accumulation, threads, projections);
  CHECK(same_bits(projections, before));
  const Numbers gram_before = gram;
  std::fill(gram.begin(), gram.end(), -7);
  std::fill(projections.begin(), projections.end(), no_number);
  std::fill(squares.begin(), squares.end(), no_number);
  detail::gram_and_project(g, c.columns, all(x), c.k, accumulation, threads, gram, projections,
                           squares, {});
  CHECK(same_bits(gram, gram_before));
  check_projections();

  std::vector<T> y(x.size(), T{-7});
  detail::combine(g, c.columns, all(c.a), c.k, c.scale, all(x), accumulation, threads,
                  std::span(y));
  std::vector<Wide> expected = r.combinations, size = r.combination_size;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const auto column = static_cast<std::ptrdiff_t>(i % static_cast<std::size_t>(c.d));
    if (column < c.columns.begin || column >= c.columns.end) expected[i] = -7;
    // rounding to T as well
    size[i] = size[i] * u * static_cast<double>(in_float ? 64 + c.m / 64 + 4 : c.m + 2) +
              (sizeof(T) == 4 ? std::fabs(expected[i]) * 0x1p-24L : 0);
  }
  CHECK(worst(y, expected, size, 1) <= 1);
  // in place
  std::vector<T> z = x;
  detail::combine(g, c.columns, all(c.a), c.k, c.scale, all(z), accumulation, threads,
                  std::span(z));
  bool equal = true;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const auto column = static_cast<std::ptrdiff_t>(i % static_cast<std::size_t>(c.d));
    equal &= z[i] == (column < c.columns.begin || column >= c.columns.end ? x[i] : y[i]);
  }
  CHECK(equal);
}

}  // namespace

TEST_CASE("names of storages", "[mfac]") {
  for (const Storage storage : storages)
    CHECK(mfac::storage_from(mfac::to_string(storage)) == storage);
  CHECK(mfac::to_string(Storage::bfloat16) == "bf16");
  CHECK_THROWS_WITH(mfac::storage_from("fp8\x01"),
                    "halfulp::mfac::storage_from: name = 'fp8\\x01', must be fp64, fp32, bf16 or "
                    "fp16");
}

TEST_CASE("numbers of 16 bits: all of them, and halfway between", "[mfac]") {
  for (const Half& half : halves) {
    INFO(mfac::to_string(half.storage));
    const int count = finite_numbers(half);
    Numbers in, out;
    const auto expect = [&](double value, double becomes) {
      for (const double sign : {1.0, -1.0}) {
        in.push_back(sign * value);
        out.push_back(sign * becomes);
      }
    };
    for (int i = 0; i < count; ++i) {
      const double here = definition(half, i);
      expect(here, here);
      if (i + 1 == count) break;
      const double next = definition(half, i + 1), middle = (here + next) / 2;
      expect(middle, i % 2 == 0 ? here : next);
      expect(std::nextafter(middle, 0.0), here);
      expect(std::nextafter(middle, infinity), next);
    }
    expect(0x1p-1074, 0);
    expect(1e-200, 0);
    const double largest = definition(half, count - 1),
                 unit = largest - definition(half, count - 2);
    expect(std::nextafter(largest + unit / 2, 0.0), largest);
    const Numbers from_double = held(in, half.storage);
    CHECK(same_bits(from_double, out));
    // floats: where a double next to the middle is none, it is the middle
    const std::vector<float> narrow = rounded<float>(in);
    const Numbers again(narrow.begin(), narrow.end());
    std::vector<float> kept;
    Numbers becomes;
    for (std::size_t i = 0; i < in.size(); ++i)
      if (again[i] == in[i]) {
        kept.push_back(narrow[i]);
        becomes.push_back(out[i]);
      }
    CHECK(kept.size() > in.size() / 3);
    const Gradients g(all(kept), std::ssize(kept), half.storage);
    Numbers from_float(kept.size());
    g.row(0, from_float);
    CHECK(same_bits(from_float, becomes));

    for (const double beyond : {largest + unit / 2, 2 * largest, 1e300})
      CHECK_THROWS_AS(held({0.0, beyond}, half.storage), halfulp::DomainError);
  }
}

TEST_CASE("sums decode all numbers of 16 bits", "[mfac]") {
  // a column each, times one: what the vectors make of it, on each instruction set
  for (const Half& half : halves) {
    Numbers values;
    for (int i = 0; i < finite_numbers(half); ++i)
      for (const double sign : {1.0, -1.0}) values.push_back(sign * definition(half, i));
    const Gradients g(all(values), std::ssize(values), half.storage);
    const Numbers one{1};
    all_targets([&](std::int64_t) {
      for (const auto accumulation : {Accumulation::float64, Accumulation::float32}) {
        INFO(mfac::to_string(half.storage));
        Numbers y(values.size());
        detail::combine<double>(g, {0, g.dimension()}, one, 1, 0.0, {}, accumulation, 1, y);
        CHECK(y == values);
      }
    });
  }
}

TEST_CASE("rounding to float, and what is refused", "[mfac]") {
  const Numbers values{0.1, 0x1.0000008p0, 0x1.0000018p0, 1e-46, 0x1p-149, -0.0, 0x1.fffffefp127};
  const Numbers narrow = held(values, Storage::float32);
  for (std::size_t i = 0; i < values.size(); ++i)
    CHECK(narrow[i] == double{static_cast<float>(values[i])});
  CHECK(std::signbit(narrow[5]));
  const auto made = [](const Numbers& rows, std::ptrdiff_t d, Storage storage) {
    (void)Gradients(all(rows), d, storage, 2);
  };
  CHECK_THROWS_WITH(made({1, 2, 3, no_number}, 2, Storage::float64),
                    "halfulp::mfac::Gradients: rows[1, 1] = nan, must be finite");
  CHECK_THROWS_WITH(made({1, 2, -infinity, 4, no_number, 6}, 2, Storage::float16),
                    "halfulp::mfac::Gradients: rows[1, 0] = -inf, must be finite");
  CHECK_THROWS_WITH(made({1, 2, 3, 65520}, 2, Storage::float16),
                    "halfulp::mfac::Gradients: rows[1, 1] = 65520, must be finite in fp16");
  CHECK_THROWS_WITH(made({1e39, 2}, 2, Storage::float32), Contains("finite in fp32"));
  CHECK_NOTHROW(made({65519, 2}, 2, Storage::float16));
  CHECK_THROWS_WITH(made({1, 2, 3}, 2, Storage::float64), Contains("a multiple of d = 2"));
  CHECK_THROWS_AS(made({1, 2, 3}, 2, Storage::float64), halfulp::ShapeError);
  CHECK_THROWS_AS(made({1, 2, 3}, 0, Storage::float64), halfulp::DomainError);
  CHECK_THROWS_AS(Gradients::view(all(values), -1), halfulp::DomainError);
  CHECK_THROWS_AS(Gradients::view(all(values), 2), halfulp::ShapeError);
  CHECK_THROWS_AS(Gradients::zeros(-1, 2, Storage::float16), halfulp::DomainError);
  CHECK_THROWS_AS(Gradients::zeros(1, 0, Storage::float16), halfulp::DomainError);
  // the first bad number of the first bad row, for any number of threads
  Numbers many = normal(200000, 1);
  many[150001] = no_number;
  many[190000] = infinity;
  for (const int threads : {1, 2, 3, 8})
    CHECK_THROWS_WITH(Gradients(all(many), 1000, Storage::bfloat16, threads),
                      Contains("rows[150, 1] = nan"));
}

TEST_CASE("rows are set and got", "[mfac]") {
  for (const Storage storage : storages) {
    Gradients g = Gradients::zeros(3, 5000, storage);
    Gradients shared = g;
    CHECK(g.rows() == 3);
    CHECK(g.dimension() == 5000);
    CHECK(g.storage() == storage);
    const Numbers row = normal(5000, 3);
    g.set_row(1, all(row));
    Numbers out(5000);
    shared.row(1, out);
    const Numbers kept = held(row, storage);
    CHECK(out == kept);
    CHECK(g.at(1, 4999) == kept[4999]);
    CHECK(g.at(0, 4999) == 0);
    CHECK(g.at(2, 0) == 0);
    const auto narrow = rounded<float>(row);
    g.set_row(2, all(narrow));
    CHECK(g.at(2, 17) == held({double{narrow[17]}}, storage)[0]);
    // a row that is refused is not written in part
    Numbers bad = normal(5000, 4);
    bad[4321] = no_number;
    CHECK_THROWS_WITH(g.set_row(1, all(bad)), Contains("rows[1, 4321] = nan"));
    g.row(1, out);
    CHECK(out == kept);
    CHECK_THROWS_AS(g.set_row(3, all(row)), halfulp::DomainError);
    CHECK_THROWS_AS(g.set_row(-1, all(row)), halfulp::DomainError);
    CHECK_THROWS_AS(g.set_row(0, all(row).first(4999)), halfulp::ShapeError);
    CHECK_THROWS_AS(g.at(0, 5000), halfulp::DomainError);
    CHECK_THROWS_AS(g.at(3, 0), halfulp::DomainError);
    CHECK_THROWS_AS(g.row(0, std::span(out).first(1)), halfulp::ShapeError);
  }
  const Numbers numbers{1, 2, 3, 4};
  Gradients view = Gradients::view(all(numbers), 2);
  CHECK(view.at(1, 0) == 3);
  CHECK_THROWS_WITH(view.set_row(0, all(numbers).first(2)), Contains("a view"));
}

TEST_CASE("sums over gradients are right for all sizes", "[mfac]") {
  std::uint64_t seed = 1;
  for (const std::ptrdiff_t m : {1, 2, 3, 7, 8, 9, 33, 61, 64})
    for (const std::ptrdiff_t d : {1, 7, 15, 16, 17, 100, 511, 512, 513, 1023, 1025}) {
      const std::ptrdiff_t k = 1 + static_cast<std::ptrdiff_t>(seed % 7);
      const Case c = make_case(m, d, k, {0, d}, seed);
      const Storage storage = storages[seed % 4];
      const auto accumulation = seed % 3 == 0 ? Accumulation::float32 : Accumulation::float64;
      if (seed++ % 2 == 0)
        check_case<double>(c, storage, accumulation, 1);
      else
        check_case<float>(c, storage, accumulation, 1);
    }
}

TEST_CASE("sums over gradients are right for all types", "[mfac]") {
  for (const Storage storage : storages)
    for (const auto accumulation : {Accumulation::float64, Accumulation::float32})
      for (const std::ptrdiff_t k : {0, 1, 2, 4, 13, 33}) {
        const Case c = make_case(19, 2100, k, {k, 2100 - 3 * k}, 77);
        check_case<double>(c, storage, accumulation, 1);
        check_case<float>(c, storage, accumulation, 1);
      }
}

TEST_CASE("sums over many tiles and rows", "[mfac]") {
  check_case<double>(make_case(3, 300000, 2, {0, 300000}, 1), Storage::float32,
                     Accumulation::float64, 2);
  check_case<float>(make_case(2, 300001, 1, {5, 300001}, 2), Storage::float32,
                    Accumulation::float32, 2);
  // threads share tiles
  check_case<double>(make_case(523, 530, 1, {0, 530}, 3), Storage::float32, Accumulation::float64,
                     3);
  check_case<double>(make_case(523, 100, 5, {0, 100}, 4), Storage::bfloat16, Accumulation::float32,
                     3);
}

TEST_CASE("many right-hand sides with few rows", "[mfac]") {
  check_case<double>(make_case(3, 130, 70, {0, 130}, 5), Storage::float32, Accumulation::float64,
                     2);
  check_case<float>(make_case(5, 700, 65, {0, 700}, 6), Storage::float16, Accumulation::float32, 2);
}

TEST_CASE("sums have the same bits for any number of threads and size of vectors", "[mfac]") {
  struct Result {
    Numbers gram, projections, squares, y;
    bool operator==(const Result&) const = default;
  };
  for (const std::ptrdiff_t m : {std::ptrdiff_t{37}, std::ptrdiff_t{520}})
    for (const Storage storage : storages)
      for (const auto accumulation : {Accumulation::float64, Accumulation::float32})
        for (const std::ptrdiff_t k : {1, 3, 7}) {
          if (m > 500 && (k != 7 || storage == Storage::float16)) continue;
          INFO("m " << m << ", k " << k << ", " << mfac::to_string(storage));
          const std::ptrdiff_t d = m > 500 ? 1500 : 40000 / m * 20;
          const Case c = make_case(m, d, k, {3, d}, 9);
          const Gradients g(all(c.rows), d, storage);
          const auto run = [&](int threads) {
            Result r{Numbers(static_cast<std::size_t>(m * m)),
                     Numbers(static_cast<std::size_t>(k * m)), Numbers(static_cast<std::size_t>(k)),
                     c.x};
            detail::gram(g, c.columns, accumulation, threads, r.gram);
            detail::project(g, c.columns, all(c.x), k, accumulation, threads, r.projections,
                            r.squares);
            detail::combine(g, c.columns, all(c.a), k, c.scale, all(c.x), accumulation, threads,
                            std::span(r.y));
            return r;
          };
          const Result one = run(1);
          for (const int threads : {2, 3, 8}) CHECK((run(threads) == one));
          if (m > 500) continue;
          // All that multiply and add in one step: AVX2, AVX-512, NEON.
          Result first;
          all_targets([&](std::int64_t target) {
            const std::string name = hwy::TargetName(target);
            if (!name.starts_with("AVX") && !name.starts_with("NEON")) return;
            const Result here = run(2);
            if (first.gram.empty()) first = here;
            CHECK((here == first));
          });
        }
}

TEST_CASE("sums are right on each instruction set", "[mfac]") {
  all_targets([&](std::int64_t) {
    for (const Storage storage : storages)
      for (const auto accumulation : {Accumulation::float64, Accumulation::float32})
        for (const std::ptrdiff_t k : {1, 2, 5}) {
          const Case c = make_case(13, 1000, k, {1, 998}, 21);
          check_case<double>(c, storage, accumulation, 1);
          check_case<float>(c, storage, accumulation, 1);
        }
  });
}

TEST_CASE("accumulation in float keeps to the range of double", "[mfac]") {
  // Squares, or products with x and a, are far beyond what float holds.
  for (const double size : {1e-44, 1e-38, 1e-25, 1.0, 1e25, 1e37})
    for (const double x_size : {1e-140, 1.0, 1e140})
      for (const std::ptrdiff_t k : {2, 8}) {
        INFO(size << ", " << x_size << ", " << k);
        Case c = make_case(9, 600, k, {0, 600}, 31);
        for (std::size_t i = 0; i < c.rows.size(); ++i)
          c.rows[i] =
              static_cast<float>(c.rows[i] * size * std::ldexp(1.0, -static_cast<int>(i / 600)));
        for (double& v : c.x) v *= x_size;
        for (double& v : c.a) v *= x_size;
        check_case<double>(c, Storage::float32, Accumulation::float32, 2);
      }
}

TEST_CASE("numbers that are not finite show in the diagonal", "[mfac]") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const auto accumulation : {Accumulation::float64, Accumulation::float32})
      for (const std::size_t at : {3 * 700 + 650, 3 * 700 + 699, 3 * 700}) {
        auto rows = rounded<float>(normal(5 * 700, 41));
        rows[at] = bad;
        Numbers gram(25);
        detail::gram(Gradients::view(all(rows), 700), {0, 700}, accumulation, 1, gram);
        for (std::size_t i = 0; i < 5; ++i) CHECK(std::isfinite(gram[6 * i]) == (i != 3));
        CHECK(std::isfinite(gram[4 + 5 * 2]));
      }
}

TEST_CASE("gradients of float16 in a file", "[mfac]") {
  const Scratch scratch;
  const std::ptrdiff_t m = 5, d = 5000;
  const Gradients memory(all(make_case(m, d, 1, {0, d}, 52).rows), d, Storage::float16);
  std::string header = "{'descr': '<f2', 'fortran_order': False, 'shape': (5, 5000), }";
  header.resize(117, ' ');
  std::string bytes = "\x93NUMPY\x01" + std::string("\0\x76\0", 3) + header + '\n';
  for (std::ptrdiff_t i = 0; i < m; ++i)
    for (std::ptrdiff_t j = 0; j < d; ++j) {
      const std::uint16_t bits = detail::to_float16(memory.at(i, j));
      bytes += {static_cast<char>(bits & 0xff), static_cast<char>(bits >> 8)};
    }
  halfulp::write_file_atomic(scratch / "g.npy", bytes);
  const Gradients file = Gradients::map(scratch / "g.npy");
  CHECK(file.storage() == Storage::float16);
  Numbers expected(25), gram(25);
  detail::gram(memory, {0, d}, Accumulation::float64, 1, expected);
  detail::gram(file, {0, d}, Accumulation::float64, 2, gram);
  CHECK(same_bits(gram, expected));
}

TEST_CASE("gradients in a file", "[mfac]") {
  const Scratch scratch;
  const auto path = scratch / "g.npy";
  const std::ptrdiff_t m = 11, d = 9000;
  const Case c = make_case(m, d, 3, {100, 8990}, 51);
  const auto check = [&]<class T>(T) {
    const auto rows = rounded<T>(c.rows);
    halfulp::write_npy<T>(path, rows, {m, d});
    const Gradients file = Gradients::map(path), memory(all(rows), d);
    CHECK(file.rows() == m);
    CHECK(file.dimension() == d);
    CHECK(file.storage() == memory.storage());
    CHECK(file.at(10, 8999) == double{rows.back()});
    Numbers row(static_cast<std::size_t>(d)), expected(row);
    file.row(4, row);
    memory.row(4, expected);
    CHECK(row == expected);
    const auto all_of = [&](const Gradients& g, int threads) {
      Numbers out(static_cast<std::size_t>(m * m + 2 * 3 * m + 3 * d), 0);
      const std::span<double> gram = std::span(out).first(static_cast<std::size_t>(m * m)),
                              one = std::span(out).subspan(gram.size(),
                                                           static_cast<std::size_t>(3 * m)),
                              two = std::span(out).subspan(gram.size() + one.size(), one.size()),
                              y = std::span(out).subspan(gram.size() + 2 * one.size());
      detail::gram(g, c.columns, Accumulation::float64, threads, gram);
      detail::project(g, c.columns, all(c.x), 3, Accumulation::float64, threads, one);
      Numbers squares(3);
      detail::gram_and_project(g, c.columns, all(c.x), 3, Accumulation::float64, threads, gram, two,
                               squares, {});
      detail::combine(g, c.columns, all(c.a), 3, c.scale, all(c.x), Accumulation::float64, threads,
                      y);
      return out;
    };
    const Numbers expected_sums = all_of(memory, 1);
    for (const int threads : {1, 3}) CHECK(same_bits(all_of(file, threads), expected_sums));
    Gradients writable = file;
    CHECK_THROWS_WITH(writable.set_row(0, all(row)), Contains("a mapped file"));
    // cut short while it is open
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - sizeof(T));
    CHECK_THROWS_AS(file.at(10, 8999), halfulp::IoError);
    Numbers gram(static_cast<std::size_t>(m * m));
    CHECK_THROWS_WITH(detail::gram(file, {0, d}, Accumulation::float64, 2, gram),
                      Contains("g.npy") && Contains("shorter"));
    CHECK_THROWS_AS(Gradients::map(path), halfulp::IoError);
  };
  check(float{});
  check(double{});

  CHECK_THROWS_AS(Gradients::map(scratch / "none.npy"), halfulp::IoError);
  const std::vector<std::int32_t> integers(6);
  halfulp::write_npy<std::int32_t>(path, integers, {2, 3});
  CHECK_THROWS_WITH(Gradients::map(path), Contains("integers"));
  const Numbers numbers(6, 1.0);
  halfulp::write_npy<double>(path, numbers, {6});
  CHECK_THROWS_WITH(Gradients::map(path), Contains("1 dimensions"));
  halfulp::write_npy<double>(path, numbers, {1, 2, 3});
  CHECK_THROWS_WITH(Gradients::map(path), Contains("3 dimensions"));
  halfulp::write_npy<double>(path, numbers, {2, 3}, {.order = halfulp::Order::fortran});
  CHECK_THROWS_WITH(Gradients::map(path), Contains("Fortran order"));
  halfulp::write_npy<double>(path, Numbers(), {2, 0});
  CHECK_THROWS_WITH(Gradients::map(path), Contains("rows of 0 numbers"));
  std::string bytes("\x93NUMPY\x01\x00\x46\x00", 10);
  std::string header = "{'descr': '>f8', 'fortran_order': False, 'shape': (1, 1), }";
  header.resize(0x45, ' ');
  put(path, bytes + header + '\n' + std::string(8, '\0'));
  CHECK_THROWS_WITH(Gradients::map(path), Contains("big-endian"));
}

TEST_CASE("long sums report and can be stopped", "[mfac]") {
  const Case c = make_case(4, 100000, 1, {0, 100000}, 61);
  const Gradients g(all(c.rows), c.d, Storage::float32);
  Numbers gram(16), projections(4), squares(1);
  for (const int threads : {1, 3}) {
    int calls = 0;
    double last = 0;
    detail::gram(g, c.columns, Accumulation::float64, threads, gram, [&](double f, const char*) {
      ++calls;
      CHECK(f >= last);
      CHECK(f <= 1);
      last = f;
      return true;
    });
    CHECK(calls >= 1);
    const auto stop = [&](double, const char*) { return false; };
    CHECK_THROWS_AS(detail::gram(g, c.columns, Accumulation::float64, threads, gram, stop),
                    halfulp::Cancelled);
    CHECK_THROWS_AS(detail::gram_and_project(g, c.columns, all(c.x), 1, Accumulation::float64,
                                             threads, gram, projections, squares, stop),
                    halfulp::Cancelled);
  }
}
