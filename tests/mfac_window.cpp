#include "halfulp/mfac_window.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../validation/oracle/mfac.hpp"
#include "budget.hpp"
#include "halfulp/error.hpp"
#include "scratch.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
using mfac::Conditioning;
using mfac::Diagnosis;
using mfac::Normalisation;
using mfac::Storage;
using mfac::Window;
using mfac::WindowOptions;
using mfac_mpfr::Numbers;
using mfac_mpfr::Reals;
using mfac_mpfr::Reference;
using mfac_mpfr::relative_error;

namespace {

double limit(const char* name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

WindowOptions options_of(double damping, Storage storage = Storage::float64,
                         Normalisation normalisation = Normalisation::count) {
  WindowOptions options;
  options.damping = damping;
  options.storage = storage;
  options.normalisation = normalisation;
  return options;
}

/// Gradient number t of a stream, and its name.
struct Stream {
  std::string name;
  std::size_t d;
  double lambda;
  Numbers (*gradient)(std::size_t d, std::size_t t);
};

Numbers ordinary(std::size_t d, std::size_t t) { return mfac_mpfr::Random(100 + t).normals(d); }
Numbers stalled(std::size_t d, std::size_t) { return mfac_mpfr::Random(7).normals(d); }
/// Equal for a while, then others.
Numbers pausing(std::size_t d, std::size_t t) {
  return mfac_mpfr::Random(t / 5 % 2 == 0 ? 7 : 100 + t).normals(d);
}
Numbers parallel(std::size_t d, std::size_t t) {
  Numbers g = stalled(d, 0), other = ordinary(d, t);
  for (std::size_t j = 0; j < d; ++j) g[j] += 1e-4 * other[j];
  return g;
}
Numbers scaled(std::size_t d, std::size_t t) {
  Numbers g = ordinary(d, t);
  for (double& value : g) value = std::ldexp(value, static_cast<int>(t * 7 % 41) - 30);
  return g;
}
Numbers with_zeros(std::size_t d, std::size_t t) {
  return t % 3 == 1 ? Numbers(d, 0.0) : ordinary(d, t % 4);
}

struct Worst {
  double value = 0;
  std::string where;
  void add(double v, const std::string& place) {
    if (!(v <= value)) value = v, where = place;
  }
};

/// What is in the window, as it is stored; with rows of zeros up to its size if it is divided by
/// that.
Reference reference_of(const Window& window) {
  const auto d = static_cast<std::size_t>(window.dimension());
  Numbers rows;
  for (std::ptrdiff_t i = 0; i < window.count(); ++i) {
    Numbers row(d);
    window.row(i, row);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  const auto m = static_cast<std::size_t>(window.normaliser());
  rows.resize(m * d, 0.0);
  return {rows, m, d, window.options().damping};
}

/// cond(H) in long double, from the rows: its largest eigenvalue is not sensitive.
double condition_of(const Window& window) {
  const auto n = static_cast<std::size_t>(window.count());
  const auto d = static_cast<std::size_t>(window.dimension());
  std::vector<Numbers> rows(n, Numbers(d));
  for (std::size_t i = 0; i < n; ++i) window.row(static_cast<std::ptrdiff_t>(i), rows[i]);
  std::vector<long double> v(d), next(d);
  for (std::size_t j = 0; j < d; ++j) v[j] = 1 + 0.1L * static_cast<long double>(j % 7);
  long double value = 0;
  for (int step = 0; step < 400; ++step) {
    long double size = 0, square = 0;
    std::fill(next.begin(), next.end(), 0.0L);
    for (const Numbers& row : rows) {
      long double along = 0;
      for (std::size_t j = 0; j < d; ++j) along += row[j] * v[j];
      for (std::size_t j = 0; j < d; ++j) next[j] += along * row[j];
    }
    for (std::size_t j = 0; j < d; ++j) size += v[j] * v[j], square += next[j] * next[j];
    if (square == 0) break;
    value = std::sqrt(square / size);
    for (std::size_t j = 0; j < d; ++j) v[j] = next[j] / std::sqrt(square);
  }
  return static_cast<double>(
      1 + value / (static_cast<long double>(window.options().damping) * window.normaliser()));
}

/// After every step: the newest gradient, an older one, a vector that is none, one that nearly is a
/// combination of gradients, a combination. Errors are in units of cond(H) 2^-52.
struct Errors {
  Worst product, combination, estimate;
  double most_careful = 0;  ///< estimate over error, where the error is not tiny
  int steps = 0;
};

template <class T = double>
void run(const Stream& stream, std::ptrdiff_t m, std::size_t adds, const WindowOptions& options,
         Errors& errors, bool all = true) {
  const std::size_t d = stream.d;
  Window window(m, static_cast<std::ptrdiff_t>(d), options);
  const double rounding = sizeof(T) == 8 ? 0 : 0x1p-24;
  for (std::size_t t = 0; t < adds; ++t) {
    const Numbers gradient = stream.gradient(d, t);
    const std::vector<T> given(gradient.begin(), gradient.end());
    std::vector<T> y(d);
    const std::string place =
        stream.name + ", m = " + std::to_string(m) + ", step " + std::to_string(t) + ", ";
    const auto direction = window.step(std::span<const T>(given), std::span<T>(y));
    const Reference reference = reference_of(window);
    const double condition = condition_of(window), unit = condition * 0x1p-52;
    const auto rows = static_cast<std::size_t>(window.normaliser());
    const auto count = static_cast<std::size_t>(window.count());
    const auto check = [&](const char* what, const Diagnosis& diagnosis, const Reals& expected,
                           double given = 1) {
      const double error = relative_error(y, expected);
      if (unit > 1e-3) {
        CHECK(diagnosis.status != Conditioning::good);
      } else {
        errors.product.add((error - rounding) / (unit * given), place + what);
      }
      // condition: an estimate from below
      CHECK(diagnosis.condition <= condition * (1 + 1e-3));
      CHECK(diagnosis.condition >= condition * 0.5);
      if (error > 0) errors.estimate.add(error / diagnosis.error, place + what);
      if (error > 1e-14)
        errors.most_careful = std::max(errors.most_careful, diagnosis.error / error);
    };
    Numbers newest(d);
    window.row(window.count() - 1, newest);
    check("newest", direction, reference.product(newest));
    Numbers x = mfac_mpfr::Random(5000 + t).normals(d);
    const auto product = [&](const char* what) {
      const std::vector<T> xt(x.begin(), x.end());
      const auto diagnosis = window.inverse_product(std::span<const T>(xt), std::span<T>(y));
      check(what, diagnosis, reference.product(Numbers(xt.begin(), xt.end())));
    };
    product("another");
    ++errors.steps;
    if (!all) continue;
    window.row(static_cast<std::ptrdiff_t>(t * 5 % count), x);
    product("a row");
    // A row that is nearly one, a sum of rows
    for (std::size_t j = 0; j < d; ++j) x[j] *= 1 + 1e-9 * static_cast<double>(j % 5);
    product("nearly a row");
    Numbers a(rows, 0.0);
    for (std::size_t i = 0; i < count; ++i) a[i] = std::sin(static_cast<double>(3 * i + t + 1));
    const auto diagnosis =
        window.inverse_combination(std::span<const double>(a.data(), count), std::span<T>(y));
    // relative to the gradients that cancel in G^T a: a rounding of a does as much
    double terms = 0, sum = 0;
    Numbers total(d, 0.0), row(d);
    for (std::size_t i = 0; i < count; ++i) {
      window.row(static_cast<std::ptrdiff_t>(i), row);
      double square = 0;
      for (std::size_t j = 0; j < d; ++j) square += row[j] * row[j], total[j] += a[i] * row[j];
      terms += std::fabs(a[i]) * std::sqrt(square);
    }
    for (std::size_t j = 0; j < d; ++j) sum += total[j] * total[j];
    if (sum > 0)
      check("combination", diagnosis, reference.combination(a),
            std::fmax(1.0, terms / std::sqrt(sum)));
  }
}

const std::vector<Stream>& streams() {
  static const std::vector<Stream> all = {
      {"ordinary", 40, 1e-5, ordinary},   {"stalled", 40, 1e-8, stalled},
      {"pausing", 24, 1e-8, pausing},     {"parallel", 30, 1e-8, parallel},
      {"scaled", 40, 1e-6, scaled},       {"with zeros", 20, 1e-4, with_zeros},
      {"few numbers", 5, 1e-6, ordinary}, {"few, stalled", 3, 1e-8, stalled},
      {"one number", 1, 1e-3, ordinary},
  };
  return all;
}

void check_errors(const Errors& errors, double most = limit("mfac_window")) {
  INFO(errors.steps << " steps; worst error " << errors.product.value << " cond(H) 2^-52 at "
                    << errors.product.where << "; largest error over its estimate "
                    << errors.estimate.value << " at " << errors.estimate.where
                    << "; most careful estimate " << errors.most_careful);
  CHECK(errors.steps > 0);
  CHECK(errors.product.value <= most);
  CHECK(errors.estimate.value <= 1);
}

}  // namespace

TEST_CASE("a window is right after every step", "[mfac]") {
  for (const Normalisation normalisation : {Normalisation::count, Normalisation::window}) {
    Errors errors;
    for (const Stream& stream : streams())
      run(stream, 8, 20, options_of(stream.lambda, Storage::float64, normalisation), errors);
    run(streams()[0], 1, 5, options_of(1e-5, Storage::float64, normalisation), errors);
    run(streams()[2], 3, 12, options_of(1e-8, Storage::float64, normalisation), errors);
    check_errors(errors);
  }
}

TEST_CASE("a window of 16 over 400 gradients", "[mfac]") {
  for (const Normalisation normalisation : {Normalisation::count, Normalisation::window}) {
    Errors errors;
    for (const std::size_t s : {0, 1, 2})
      run({streams()[s].name, 18, streams()[s].lambda, streams()[s].gradient}, 16,
          s == 2 ? 60 : 400, options_of(streams()[s].lambda, Storage::float64, normalisation),
          errors, false);
    check_errors(errors);
  }
}

TEST_CASE("equal gradients: roundings do not add up, and the estimate knows", "[mfac]") {
  // the substitutions alone cost half a window's roundings, and a rounding of K seen through
  // 1/(2 sqrt(m lambda)) would be sqrt(cond(H)) times what it is
  const auto alternating = [](std::size_t d, std::size_t t) {
    return mfac_mpfr::Random(7 + t % 2).normals(d);
  };
  for (const std::size_t d : {2, 53})
    for (const std::size_t m : {12, 40}) {
      Window window(static_cast<std::ptrdiff_t>(m), static_cast<std::ptrdiff_t>(d),
                    options_of(1e-8));
      Numbers y(d);
      for (std::size_t t = 0; t < m + 20; ++t) {
        const Numbers g = t < m ? alternating(d, t) : stalled(d, t);
        const auto said = window.step(std::span<const double>(g), std::span<double>(y));
        if (t + 24 < m) continue;
        const double error = relative_error(y, reference_of(window).product(g));
        const double unit = condition_of(window) * 0x1p-52;
        INFO("d = " << d << ", m = " << m << ", step " << t << ": " << error / unit);
        CHECK(error <= 8 * unit);
        CHECK(error <= said.error);
        CHECK(said.error <= 64 * unit);
      }
    }
}

TEST_CASE("gradients of zeros have no error", "[mfac]") {
  Window window(4, 9, options_of(1e-3));
  Numbers y(9);
  for (std::size_t t = 0; t < 12; ++t) {
    const Numbers g = t % 3 == 0 ? Numbers(9) : ordinary(9, t);
    const auto said = window.step(std::span<const double>(g), std::span<double>(y));
    CHECK(said.error < 1e-9);
    if (t % 3 == 0) {
      CHECK(y == g);
      CHECK(said.error == 0);
    }
  }
}

TEST_CASE("gradients that jump by 1e10 in a few coordinates: numbers and a status", "[mfac]") {
  // K has rank d < m, and its other eigenvalues, M lambda, are far below its rounding
  for (const std::size_t d : {2, 5}) {
    Window window(12, static_cast<std::ptrdiff_t>(d), options_of(1e-7));
    Numbers y(d), x = mfac_mpfr::Random(3).normals(d);
    bool lost = false;
    for (std::size_t t = 0; t < 120; ++t) {
      Numbers g = ordinary(d, t);
      if (t % 3 != 0 && t < 90)
        for (double& value : g) value *= 1e10;
      double largest = 0;
      for (const double value : g) largest = std::fmax(largest, std::fabs(value));
      const auto check = [&](const Diagnosis& said, double most) {
        INFO("d = " << d << ", step " << t);
        for (const double value : y) CHECK(std::fabs(value) <= most);
        if (said.condition * 0x1p-52 > 1e-3) CHECK(said.status != Conditioning::good);
        if (said.status == Conditioning::lost) {
          lost = true;
          CHECK(said.error >= 1);
          CHECK((said.pivot >= 0 && said.pivot < window.count()));
          CHECK(said.pivot_value < 0.5);
        }
      };
      // |H^-1 x| <= |x|/lambda
      check(window.step(std::span<const double>(g), std::span<double>(y)), 10 * largest / 1e-7);
      check(window.inverse_product(std::span<const double>(x), std::span<double>(y)), 1e9);
    }
    CHECK(lost);
    // the last of them has gone: right again
    const double error = relative_error(y, reference_of(window).product(x));
    CHECK(window.diagnosis().status == Conditioning::good);
    CHECK(error <= limit("mfac_window") * condition_of(window) * 0x1p-52);
  }
}

TEST_CASE("gradients in few digits", "[mfac]") {
  // right for the gradients as they are stored; vectors in double, then in float
  for (const Storage storage : {Storage::float32, Storage::bfloat16, Storage::float16}) {
    Errors errors, single;
    for (const std::size_t s : {0, 1, 3, 5}) {
      const Stream& stream = streams()[s];
      run(stream, 8, 12, options_of(stream.lambda, storage), errors);
      run<float>(stream, 8, 12, options_of(stream.lambda, storage), single);
    }
    check_errors(errors);
    check_errors(single);
  }
}

TEST_CASE("the direction of the newest gradient in float", "[mfac]") {
  // the brief's figure: float storage, 3e-8 of the exact direction, in the 2-norm
  const std::size_t d = 400;
  Window window(32, 400, options_of(1e-5, Storage::float32));
  std::vector<float> given(d);
  Numbers y(d), newest(d);
  for (std::size_t t = 0; t < 40; ++t) {
    const Numbers gradient = ordinary(d, t);
    std::copy(gradient.begin(), gradient.end(), given.begin());
    window.add(std::span<const float>(given));
    if (t % 13 != 12) continue;
    window.inverse_newest(std::span<double>(y));
    window.row(window.count() - 1, newest);
    CHECK(relative_error(y, reference_of(window).product(newest)) < 1e-10);
    std::vector<float> single(d);
    window.inverse_newest(std::span<float>(single));
    CHECK(relative_error(single, reference_of(window).product(newest)) < 3e-8);
  }
}

TEST_CASE("the curvature along the newest gradient", "[mfac]") {
  Window window(5, 12, options_of(1e-3));
  CHECK_THROWS_AS(window.newest_curvature(), halfulp::DomainError);
  for (std::size_t t = 0; t < 9; ++t) {
    const Numbers gradient = ordinary(12, t);
    window.add(std::span<const double>(gradient));
    const double expected = static_cast<double>(reference_of(window).quadratic_form(gradient));
    CHECK(window.newest_curvature() == Approx(expected).epsilon(1e-10));
  }
}

TEST_CASE("another damping", "[mfac]") {
  Window window(6, 15, options_of(1e-2));
  Numbers y(15);
  for (std::size_t t = 0; t < 9; ++t) {
    const Numbers g = ordinary(15, t);
    window.add(std::span<const double>(g));
  }
  const Numbers x = mfac_mpfr::Random(3).normals(15);
  for (const double damping : {1e-6, 3.0, 1e-2}) {
    window.set_damping(damping);
    CHECK(window.options().damping == damping);
    window.inverse_product(std::span<const double>(x), std::span<double>(y));
    const Reference reference = reference_of(window);
    CHECK(relative_error(y, reference.product(x)) <=
          limit("mfac_window") * reference.condition() * 0x1p-52);
    CHECK(window.smallest_pivot() >= 1 - 1e-9);
    CHECK(window.factor_residual() < 1e-14);
  }
}

TEST_CASE("many vectors at once, and in place", "[mfac]") {
  const std::size_t d = 50, k = 7;
  Window window(9, 50, options_of(1e-4));
  for (std::size_t t = 0; t < 12; ++t) {
    const Numbers g = ordinary(d, t);
    window.add(std::span<const double>(g));
  }
  Numbers x = mfac_mpfr::Random(3).normals(k * d), row(d);
  window.row(4, row);
  std::copy(row.begin(), row.end(), x.begin() + 2 * d);
  std::fill_n(x.begin() + 3 * d, d, 0.0);
  for (std::size_t j = 0; j < d; ++j) x[4 * d + j] = row[j] * (1 + 1e-8 * static_cast<double>(j));
  Numbers y(k * d), z = x;
  window.inverse_product(std::span<const double>(x), std::span<double>(y));
  window.inverse_product(std::span<const double>(z), std::span<double>(z));
  CHECK(std::memcmp(y.data(), z.data(), y.size() * sizeof(double)) == 0);
  const Reference reference = reference_of(window);
  for (std::size_t c = 0; c < k; ++c) {
    const Numbers one(x.begin() + static_cast<std::ptrdiff_t>(c * d),
                      x.begin() + static_cast<std::ptrdiff_t>(c * d + d));
    const Numbers out(y.begin() + static_cast<std::ptrdiff_t>(c * d),
                      y.begin() + static_cast<std::ptrdiff_t>(c * d + d));
    INFO(c);
    CHECK(relative_error(out, reference.product(one)) <=
          limit("mfac_window") * reference.condition() * 0x1p-52);
  }
}

TEST_CASE("the same bits for any number of threads, and from a file", "[mfac]") {
  const Scratch scratch;
  const std::size_t d = 9000;
  for (const Storage storage : {Storage::float64, Storage::float32, Storage::bfloat16}) {
    std::vector<Numbers> results;
    for (const int threads : {1, 2, 5}) {
      WindowOptions options = options_of(1e-3, storage);
      options.threads = threads;
      Window window(11, static_cast<std::ptrdiff_t>(d), options);
      Numbers all, y(d);
      for (std::size_t t = 0; t < 30; ++t) {
        const Numbers g = ordinary(d, t);
        window.step(std::span<const double>(g), std::span<double>(y));
        all.insert(all.end(), y.begin(), y.end());
        if (threads == 2 && (t == 6 || t == 21)) {  // filling, and full
          window.save(scratch / "window");
          window = Window::load(scratch / "window", 3);
          CHECK(window.options().storage == storage);
          CHECK(window.count() == std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(t) + 1, 11));
        }
      }
      results.push_back(all);
    }
    for (const Numbers& each : results)
      CHECK(std::memcmp(each.data(), results[0].data(), each.size() * sizeof(double)) == 0);
  }
  const std::string bytes = get(scratch / "window");
  for (const std::size_t at :
       {std::size_t{0}, std::size_t{40}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    put(scratch / "damaged", damaged);
    CHECK_THROWS_AS(Window::load(scratch / "damaged"), halfulp::IoError);
  }
  put(scratch / "damaged", bytes.substr(0, bytes.size() / 2));
  CHECK_THROWS_AS(Window::load(scratch / "damaged"), halfulp::IoError);
  CHECK_THROWS_AS(Window::load(scratch / "none"), halfulp::IoError);
}

TEST_CASE("an empty window again", "[mfac]") {
  Window window(4, 10, options_of(1e-3)), fresh(4, 10, options_of(1e-3));
  Numbers y(10), z(10);
  for (std::size_t t = 0; t < 7; ++t) {
    const Numbers g = ordinary(10, t);
    window.step(std::span<const double>(g), std::span<double>(y));
  }
  window.clear();
  CHECK(window.count() == 0);
  for (std::size_t t = 20; t < 26; ++t) {
    const Numbers g = ordinary(10, t);
    window.step(std::span<const double>(g), std::span<double>(y));
    fresh.step(std::span<const double>(g), std::span<double>(z));
    CHECK(y == z);
  }
}

TEST_CASE("bad input leaves a window as it was", "[mfac]") {
  using halfulp::DomainError;
  using halfulp::ShapeError;
  const auto made = [](std::ptrdiff_t m, std::ptrdiff_t d, double damping) {
    return message_of<DomainError>([&] { Window(m, d, options_of(damping)); });
  };
  CHECK(made(0, 3, 1) == "halfulp::mfac::Window: m = 0, must be in 1 ... 2^20");
  CHECK(made(3, 0, 1) == "halfulp::mfac::Window: d = 0, must be >= 1");
  for (const double damping : {0.0, -1.0, HUGE_VAL, std::nan("")})
    CHECK_THAT(made(3, 3, damping), Contains("mfac::Window: damping = "));
  Window window(3, 4, options_of(1e-2, Storage::float16));
  Numbers x{1, 2, 3, 4}, y(4), before(4), after(4);
  CHECK_THAT(message_of<DomainError>(
                 [&] { window.inverse_product(std::span<const double>(x), std::span<double>(y)); }),
             Contains("inverse_product: count() = 0, must be >= 1"));
  CHECK_THROWS_AS(window.inverse_newest(std::span<double>(y)), DomainError);
  CHECK_THROWS_AS(window.gradients(), DomainError);
  CHECK_THROWS_AS(window.diagnosis(), DomainError);
  for (std::size_t t = 0; t < 5; ++t) {
    const Numbers g = ordinary(4, t);
    window.add(std::span<const double>(g));
  }
  window.inverse_newest(std::span<double>(before));
  const auto refused = [&](Numbers g, const std::string& text) {
    CHECK_THAT(message_of<DomainError>([&] { window.add(std::span<const double>(g)); }),
               Contains(text));
    CHECK(window.count() == 3);
    window.inverse_newest(std::span<double>(after));
    CHECK(before == after);
  };
  refused({1, std::nan(""), 3, 4}, "mfac::Window::add: gradient[1] = nan, must be finite");
  refused({1, 2, HUGE_VAL, 4}, "gradient[2] = inf, must be finite");
  refused({1, 2, 3, 70000}, "gradient[3] = 70000, must be finite in fp16");
  refused({1, 2, 3, 1e200}, "|gradient| = 1");
  const Numbers three(3);
  CHECK_THROWS_AS(window.add(std::span<const double>(three)), ShapeError);
  CHECK_THROWS_AS(window.inverse_product(std::span<const double>(three), std::span<double>(y)),
                  ShapeError);
  Numbers out(3);
  CHECK_THROWS_AS(window.step(std::span<const double>(x), std::span<double>(out)), ShapeError);
  CHECK_THROWS_AS(window.inverse_combination(std::span<const double>(x), std::span<double>(y)),
                  ShapeError);
  x[2] = std::nan("");
  CHECK_THAT(message_of<DomainError>(
                 [&] { window.inverse_product(std::span<const double>(x), std::span<double>(y)); }),
             Contains("x[2] = nan, must be finite"));
  CHECK_THROWS_AS(window.set_damping(0), DomainError);
  window.inverse_newest(std::span<double>(after));
  CHECK(before == after);
  // where nothing is left of the damping: a status, and numbers
  Window lost(4, 3, options_of(1e-30));
  const Numbers g{1, 2, 3};
  Diagnosis diagnosis;
  for (int t = 0; t < 6; ++t)
    diagnosis = lost.step(std::span<const double>(g), std::span<double>(out));
  CHECK(diagnosis.status != Conditioning::good);
  CHECK(std::all_of(out.begin(), out.end(), [](double v) { return std::isfinite(v); }));
}
