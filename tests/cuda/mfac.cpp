// Products with an inverse Fisher matrix on the device against H itself, dense and factorised in
// double-double, or for many columns against Woodbury's formula in double-double.
#include "halfulp/cuda/mfac.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "budget.hpp"
#include "device_check.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/dd.hpp"
#include "split_mix.hpp"

namespace cuda = halfulp::cuda;
using cuda::mfac::Accumulation;
using halfulp::dd;
using halfulp::kernel::two_prod;
using halfulp::mfac::Conditioning;
using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

namespace {

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

// ---- gradients ----------------------------------------------------------------------------------

struct Problem {
  std::string name;
  Size m, d;
  double damping;
  Numbers g;  ///< numbers of float
};

enum class Kind { random, parallel, zero_rows, dominating, scaled };

Problem problem(Kind kind, Size m, Size d, double damping) {
  const char* const names[] = {"random", "nearly parallel", "zero and equal rows",
                               "a column that dominates", "scaled rows"};
  Problem p{std::string(names[static_cast<int>(kind)]) + ", m = " + std::to_string(m) +
                ", d = " + std::to_string(d),
            m, d, damping, Numbers(at(m * d))};
  SplitMix random;
  Numbers first(at(d));
  for (double& value : first) value = 2 * random.uniform() - 1;
  for (Size i = 0; i < m; ++i)
    for (Size j = 0; j < d; ++j) {
      double value = 2 * random.uniform() - 1;
      if (kind == Kind::parallel) value = first[at(j)] + 1e-3 * value;
      if (kind == Kind::zero_rows) value = i % 3 == 0 ? 0 : i % 3 == 1 ? first[at(j)] : value;
      if (kind == Kind::dominating && j == d / 2) value *= 1e4;
      if (kind == Kind::scaled) value = std::ldexp(value, static_cast<int>(i % 20) - 15);
      p.g[at(i * d + j)] = static_cast<float>(value);
    }
  return p;
}

Numbers random_numbers(Size n) {
  SplitMix random;
  Numbers x(at(n));
  for (double& value : x) value = static_cast<float>(2 * random.uniform() - 1);
  return x;
}

// ---- the reference ------------------------------------------------------------------------------

/// A = m lambda I + G^T G, or G G^T where there are many columns, and its Cholesky factor.
class Reference {
 public:
  explicit Reference(const Problem& p)
      : p_(p), dense_(p.d <= 128), n_(dense_ ? p.d : p.m), l_(at(n_ * n_)), gram_(l_.size()) {
    const Size along = dense_ ? p.m : p.d;
    for (Size i = 0; i < n_; ++i)
      for (Size j = 0; j <= i; ++j) {
        dd sum = 0;
        for (Size k = 0; k < along; ++k) sum += two_prod(entry(i, k), entry(j, k));
        l_[at(i * n_ + j)] = i == j ? sum + shift() : sum;
        keep(i, j, sum.hi);
      }
    largest_ = power();
    for (Size i = 0; i < n_; ++i)
      for (Size j = 0; j <= i; ++j) {
        dd sum = l_[at(i * n_ + j)];
        for (Size k = 0; k < j; ++k) sum -= l_[at(i * n_ + k)] * l_[at(j * n_ + k)];
        l_[at(i * n_ + j)] = i == j ? sqrt(sum) : sum / l_[at(j * n_ + j)];
      }
  }

  /// From below.
  [[nodiscard]] double condition() const { return 1 + largest_ / shift().hi; }

  [[nodiscard]] std::vector<dd> product(const double* x) const {
    std::vector<dd> y(x, x + p_.d);
    if (dense_) {
      solve(y);
      for (dd& value : y) value = value * static_cast<double>(p_.m);
      return y;
    }
    std::vector<dd> a(at(p_.m));
    for (Size i = 0; i < p_.m; ++i)
      for (Size j = 0; j < p_.d; ++j) a[at(i)] += two_prod(p_.g[at(i * p_.d + j)], x[j]);
    solve(a);
    for (Size i = 0; i < p_.m; ++i)
      for (Size j = 0; j < p_.d; ++j) y[at(j)] -= a[at(i)] * p_.g[at(i * p_.d + j)];
    for (dd& value : y) value = value / p_.damping;
    return y;
  }

  [[nodiscard]] std::vector<dd> combination(const double* a) const {
    std::vector<dd> weights(a, a + p_.m), y(at(p_.d));
    if (!dense_) solve(weights);
    for (Size i = 0; i < p_.m; ++i)
      for (Size j = 0; j < p_.d; ++j) y[at(j)] += weights[at(i)] * p_.g[at(i * p_.d + j)];
    if (dense_) solve(y);
    for (dd& value : y) value = value * static_cast<double>(p_.m);
    return y;
  }

 private:
  [[nodiscard]] dd shift() const { return two_prod(static_cast<double>(p_.m), p_.damping); }
  [[nodiscard]] double entry(Size i, Size k) const {
    return dense_ ? p_.g[at(k * p_.d + i)] : p_.g[at(i * p_.d + k)];
  }
  void keep(Size i, Size j, double value) { gram_[at(i * n_ + j)] = gram_[at(j * n_ + i)] = value; }
  [[nodiscard]] double power() const {
    Numbers x(at(n_), 1.0), y(at(n_));
    double quotient = 0;
    for (int step = 0; step < 100; ++step) {
      double square = 0, along = 0;
      for (const double value : x) square += value * value;
      for (double& value : x) value /= std::sqrt(square);
      for (Size i = 0; i < n_; ++i) {
        y[at(i)] = 0;
        for (Size j = 0; j < n_; ++j) y[at(i)] += gram_[at(i * n_ + j)] * x[at(j)];
        along += x[at(i)] * y[at(i)];
      }
      quotient = along;
      if (!(along > 0)) return 0;
      std::swap(x, y);
    }
    return quotient;
  }
  void solve(std::vector<dd>& b) const {
    for (Size i = 0; i < n_; ++i) {
      for (Size k = 0; k < i; ++k) b[at(i)] -= l_[at(i * n_ + k)] * b[at(k)];
      b[at(i)] = b[at(i)] / l_[at(i * n_ + i)];
    }
    for (Size i = n_; i-- > 0;) {
      for (Size k = i + 1; k < n_; ++k) b[at(i)] -= l_[at(k * n_ + i)] * b[at(k)];
      b[at(i)] = b[at(i)] / l_[at(i * n_ + i)];
    }
  }

  const Problem& p_;
  bool dense_;
  Size n_;
  double largest_ = 0;
  std::vector<dd> l_;
  Numbers gram_;
};

/// |y - reference|/|reference|, NaN where y is not finite.
template <class T>
double error_of(const T* y, const std::vector<dd>& reference) {
  double error = 0, square = 0;
  for (std::size_t j = 0; j < reference.size(); ++j) {
    const double e = (reference[j] - static_cast<double>(y[j])).hi;
    error += e * e;
    square += reference[j].hi * reference[j].hi;
  }
  return error == 0 ? 0 : std::sqrt(error / square);
}

// ---- on the device ------------------------------------------------------------------------------

/// Numbers on the device, `offset` of them from where an allocation begins.
template <class T>
class Array {
 public:
  explicit Array(Size size, Size offset = 0) : memory_(size + offset), offset_(offset) {}
  Array(const Numbers& values, Size offset) : Array(std::ssize(values), offset) {
    const std::vector<T> rounded(values.begin(), values.end());
    cuda::copy<T>(rounded, span());
    cuda::synchronize();
  }
  [[nodiscard]] cuda::span<T> span() {
    return cuda::span<T>(memory_.data() + offset_, memory_.size() - offset_);
  }
  [[nodiscard]] cuda::span<const T> view() { return span(); }
  [[nodiscard]] std::vector<T> values() {
    std::vector<T> result(at(memory_.size() - offset_));
    cuda::copy(view(), result);
    cuda::synchronize();
    return result;
  }

 private:
  cuda::buffer<T> memory_;
  Size offset_;
};

template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;

/// The largest of what was measured, and where.
struct Worst {
  double value = 0;
  std::string where = "nothing";
  void add(double other, const std::string& here) {
    if (!(other <= value)) value = other, where = here;  // NaN is the largest
  }
};
struct Measured {
  Worst product, row, ratio;
};
Measured measured[2];  ///< sums in double, in float

template <class G, class T>
void check_products(const Problem& p, const Reference& reference, Size k, Accumulation accumulation,
                    Size offset) {
  const std::string here = p.name + ", k = " + std::to_string(k) +
                           (std::is_same_v<G, float> ? ", float" : ", double") +
                           (std::is_same_v<T, float> ? " times float" : " times double") +
                           (offset > 0 ? ", unaligned" : "");
  Array<G> g(p.g, offset);
  cuda::mfac::Estimator fisher(g.view(), p.d, {p.damping, accumulation});
  const bool single = accumulation == Accumulation::float32 && std::is_same_v<G, float>;
  Measured& all = measured[single ? 1 : 0];
  const double condition = reference.condition();
  const auto diagnosis = fisher.diagnosis();
  check(fisher.rows() == p.m && fisher.dimension() == p.d, here + ": shape");
  check(diagnosis.condition >= condition * (1 - 1e-9) && diagnosis.condition <= 1.2 * condition,
        here + ": condition " + std::to_string(diagnosis.condition / condition) + " times");
  check(diagnosis.status == Conditioning::good, here + ": status");

  const auto compare = [&](const std::vector<T>& y, Size count, auto exact, Worst& worst,
                           const std::string& what) {
    const auto said = fisher.last_product();
    double largest = 0;
    for (Size c = 0; c < count; ++c) {
      const double error = error_of(y.data() + c * p.d, exact(c));
      if (!(error <= largest)) largest = error;
    }
    worst.add(std::fmax(0, largest - rounding<T>) / (condition * (single ? 0x1p-24 : 0x1p-52)),
              what);
    all.ratio.add(largest / said.error, what);
    check(largest <= said.error && (single || said.error < 1) &&
              said.condition == diagnosis.condition,
          what + ": error " + std::to_string(largest / said.error) + " of what was said");
    check(std::isfinite(largest), what + ": finite");
  };

  Array<T> x(random_numbers(k * p.d), offset), y(k * p.d, offset);
  const Numbers vectors = random_numbers(k * p.d);
  fisher.inverse_product(x.view(), y.span());
  const std::vector<T> result = y.values();
  compare(
      result, k, [&](Size c) { return reference.product(vectors.data() + c * p.d); }, all.product,
      here);
  // once more, to the same bits, and into x
  fisher.inverse_product(x.view(), x.span());
  check(x.values() == result, here + ": the same bits in place");

  const Numbers weights = random_numbers(k * p.m);
  Array<double> a(weights, 0);
  Array<T> combined(k * p.d, offset), one(p.d, offset);
  fisher.inverse_combination(a.view(), combined.span());
  compare(
      combined.values(), k, [&](Size c) { return reference.combination(weights.data() + c * p.m); },
      all.row, here + ", combination");
  const Size row = p.m - 1;
  fisher.inverse_row(row, one.span());
  Numbers unit(at(p.m));
  unit[at(row)] = 1;
  compare(
      one.values(), 1, [&](Size) { return reference.combination(unit.data()); }, all.row,
      here + ", row");
}

/// A row of G as any other x: x/lambda cancels, and the error said must show it.
void check_cancelling(const Problem& p, const Reference& reference, Worst& ratio) {
  Array<double> g(p.g, 0), x(Numbers(p.g.end() - p.d, p.g.end()), 0), y(p.d);
  cuda::mfac::Estimator fisher(g.view(), p.d, {.damping = p.damping});
  Numbers unit(at(p.m));
  unit.back() = 1;
  const std::vector<dd> exact = reference.combination(unit.data());
  fisher.inverse_product(x.view(), y.span());
  const double said = fisher.last_product().error;
  const double error = error_of(y.values().data(), exact);
  ratio.add(error / said, p.name + ", a row as any x");
  check(error <= said, p.name + ": error of a row as any x");
  fisher.inverse_row(p.m - 1, y.span());
  const double row_said = fisher.last_product().error;
  const double row_error = error_of(y.values().data(), exact);
  ratio.add(row_error / row_said, p.name + ", a row as a row");
  check(row_error <= row_said, p.name + ": error of a row as a row");
  std::printf("%s, cond(H) = %.1e: a row as any x %.1e, said %.1e; as a row %.1e, said %.1e\n",
              p.name.c_str(), reference.condition(), error, said, row_error, row_said);
}

void check_sizes(bool quick) {
  for (const Size d : {1, 31, 32, 33, 1000, 5000, 100003}) {
    if (quick && d > 5000) continue;
    const Size m = d == 33 ? 65 : d == 32 ? 1 : d == 1000 ? 33 : d == 31 ? 31 : d == 1 ? 5 : 3;
    const Problem p = problem(Kind::random, m, d, 1e-3);
    const Reference reference(p);
    check_products<float, float>(p, reference, 1, Accumulation::float64, 0);
    check_products<double, double>(p, reference, 3, Accumulation::float64, 1);
    check_products<float, float>(p, reference, 3, Accumulation::float32, 0);
    if (d > 1000) continue;
    check_products<float, double>(p, reference, 32, Accumulation::float64, 0);
    check_products<double, float>(p, reference, 33, Accumulation::float32, 0);
    check_products<float, double>(p, reference, 1, Accumulation::float32, 1);
  }
  const Problem tall = problem(Kind::random, quick ? 70 : 200, 36, 1e-2);
  const Reference reference(tall);
  check_products<float, double>(tall, reference, 3, Accumulation::float64, 0);
}

void check_kinds() {
  for (const auto& [kind, damping] :
       {std::pair{Kind::parallel, 1e-8}, std::pair{Kind::parallel, 1e-5},
        std::pair{Kind::zero_rows, 1e-6}, std::pair{Kind::dominating, 1e-4},
        std::pair{Kind::scaled, 1e-9}})
    for (const Size m : {7, 40})
      for (const Size d : {40, 300}) {
        const Problem p = problem(kind, m, d, damping);
        const Reference reference(p);
        check_products<float, float>(p, reference, 3, Accumulation::float64, 0);
        check_products<float, double>(p, reference, 1, Accumulation::float64, 0);
        if (kind == Kind::parallel) check_cancelling(p, reference, measured[0].ratio);
      }
}

/// A product's bits depend neither on where arrays begin nor on how many there are.
void check_bits() {
  const Problem p = problem(Kind::random, 37, 1100, 1e-4);
  const Numbers x = random_numbers(33 * p.d);
  std::vector<double> first;
  for (const Size offset : {0, 1, 2})
    for (const Size k : {1, 2, 9, 24, 33}) {
      Array<float> g(p.g, offset);
      Array<double> dx(Numbers(x.begin(), x.begin() + k * p.d), offset), y(k * p.d, offset);
      cuda::mfac::Estimator fisher(g.view(), p.d, {.damping = p.damping});
      fisher.inverse_product(dx.view(), y.span());
      const std::vector<double> result = y.values();
      if (first.size() < result.size()) {
        check(std::equal(first.begin(), first.end(), result.begin()),
              "the bits of a vector beside " + std::to_string(k) + " others");
        first = result;
      }
      check(std::equal(result.begin(), result.end(), first.begin()),
            "the same bits for k = " + std::to_string(k) + " at " + std::to_string(offset));
    }
}

// ---- what is not as it should be ----------------------------------------------------------------

template <class Exception>
void check_throws(const std::string& part, const std::function<void()>& call) {
  std::string text = "nothing";
  try {
    call();
  } catch (const Exception& e) {
    text = e.what();
  } catch (const std::exception& e) {
    text = std::string("another exception: ") + e.what();
  }
  check(text.find(part) != std::string::npos, '"' + text + "\" has \"" + part + '"');
}

void check_refusals() {
  using halfulp::DomainError, halfulp::ShapeError;
  Problem p = problem(Kind::random, 5, 12, 1e-3);
  const auto estimator = [&](double damping = 1e-3, Size d = 12) {
    Array<float> g(p.g, 0);
    cuda::mfac::Estimator(g.view(), d, {.damping = damping});
  };
  check_throws<DomainError>("cuda::mfac::Estimator: damping = 0", [&] { estimator(0); });
  check_throws<DomainError>("damping = nan", [&] { estimator(std::nan("")); });
  check_throws<DomainError>("d = 0, must be >= 1", [&] { estimator(1, 0); });
  check_throws<ShapeError>("gradients.size() = 60, must be a multiple of 7",
                           [&] { estimator(1, 7); });
  check_throws<DomainError>("gradients.size() = 0, must be > 0", [&] {
    cuda::mfac::Estimator(cuda::span<const double>(), 3, {.damping = 1});
  });
  p.g[3 * 12 + 7] = std::nan("");
  check_throws<DomainError>("gradients[3, 7] = nan, must be finite", [&] { estimator(); });
  p.g[3 * 12 + 7] = 1;
  p.g[4 * 12 + 2] = -std::numeric_limits<double>::infinity();
  check_throws<DomainError>("gradients[4, 2] = -inf, must be finite", [&] { estimator(); });
  p.g[4 * 12 + 2] = 1;
  p.g[2 * 12] = 1e160;
  check_throws<DomainError>("|gradients[2]|^2 = ", [&] {
    Array<double> g(p.g, 0);
    cuda::mfac::Estimator(g.view(), 12, {.damping = 1});
  });
  p.g[2 * 12] = 1;

  Array<float> g(p.g, 0);
  cuda::mfac::Estimator made(g.view(), 12, {.damping = 1e-3});
  cuda::mfac::Estimator fisher = std::move(made);
  Array<double> x(random_numbers(24), 0), y(24), a(random_numbers(10), 0);
  const cuda::span<double> part(y.span().data(), 23);
  check_throws<ShapeError>("inverse_product: y.size() = 23, must be 24",
                           [&] { fisher.inverse_product(x.view(), part); });
  check_throws<ShapeError>("x.size() = 23, must be a multiple of 12",
                           [&] { fisher.inverse_product(part, y.span()); });
  check_throws<ShapeError>("inverse_combination: y.size() = 23, must be 24",
                           [&] { fisher.inverse_combination(a.view(), part); });
  check_throws<ShapeError>("a.size() = 9, must be a multiple of 5", [&] {
    fisher.inverse_combination(cuda::span<const double>(a.view().data(), 9), y.span());
  });
  for (const Size row : {-1, 5})
    check_throws<DomainError>("inverse_row: row = " + std::to_string(row) + ", must be >= 0", [&] {
      fisher.inverse_row(row, cuda::span<double>(y.span().data(), 12));
    });
  check_throws<ShapeError>("inverse_row: y.size() = 24, must be 12",
                           [&] { fisher.inverse_row(0, y.span()); });
  fisher.inverse_product(cuda::span<const double>(), cuda::span<double>());
  check(fisher.last_product().error == 0, "no vectors, no error");
}

void check_special_vectors() {
  const Problem p = problem(Kind::random, 5, 12, 1e-3);
  Array<float> g(p.g, 0);
  cuda::mfac::Estimator fisher(g.view(), p.d, {.damping = p.damping});
  for (const double value : {0.0, std::nan(""), HUGE_VAL, 1e300, 1e-300}) {
    Numbers numbers = random_numbers(2 * p.d);
    for (Size j = 0; j < p.d; ++j) numbers[at(p.d + j)] = j == 3 ? value : 0;
    Array<double> x(numbers, 0), y(2 * p.d);
    fisher.inverse_product(x.view(), y.span());
    const std::vector<double> result = y.values();
    const double error = fisher.last_product().error;
    check(std::isfinite(result[0]), "a vector beside one with " + std::to_string(value));
    if (value == 0)
      check(result[at(p.d)] == 0 && error < 1e-9, "zero times anything");
    else
      check(error == HUGE_VAL, "no error is claimed for " + std::to_string(value));
  }
}

/// What is said is of all vectors, also of those of an earlier pass, and of x alone without rows.
void check_errors_said() {
  const Problem p = problem(Kind::random, 5, 12, 1e-3);
  Array<float> g(p.g, 0), zeros(Numbers(at(2 * p.d)), 0);
  cuda::mfac::Estimator fisher(g.view(), p.d, {.damping = p.damping});
  Numbers numbers = random_numbers(33 * p.d);
  numbers[0] = std::nan("");
  Array<double> x(numbers, 0), y(33 * p.d);
  fisher.inverse_product(x.view(), y.span());
  check(fisher.last_product().error == HUGE_VAL, "the error of the first of two passes");
  cuda::mfac::Estimator scaling(zeros.view(), p.d, {.damping = 3});
  const cuda::span<double> one(y.span().data(), p.d);
  scaling.inverse_product(cuda::span<const double>(x.view().data() + p.d, p.d), one);
  check(std::fabs(scaling.last_product().error - (0x1p-53 + 0x1p-51)) < 0x1p-70,
        "the error without rows");
}

/// Rounding larger than the damping: a status, and finite numbers.
void check_lost() {
  Problem p = problem(Kind::random, 6, 64, 1e-18);
  for (const Size i : {0, 4})
    for (Size j = 0; j < p.d; ++j) p.g[at(i * p.d + j)] = 1;  // their squares and pivots are exact
  Array<double> g(p.g, 0), x(random_numbers(p.d), 0), y(p.d);
  cuda::mfac::Estimator fisher(g.view(), p.d, {.damping = p.damping});
  const auto diagnosis = fisher.diagnosis();
  check(diagnosis.status == Conditioning::lost && diagnosis.pivot == 4 &&
            diagnosis.pivot_value <= 0.5,
        "a lost pivot is said");
  fisher.inverse_product(x.view(), y.span());
  double largest = 0;
  for (const double value : y.values())
    if (!(std::fabs(value) <= largest)) largest = std::fabs(value);
  // of what is across all rows H^-1 is 1/lambda
  check(largest <= 10 / p.damping && largest > 1e-2 / p.damping, "finite without the pivot");
  cuda::mfac::Estimator ill(g.view(), p.d, {.damping = 1e-12});
  check(ill.diagnosis().status == Conditioning::ill, "few digits are left");
}

void print(const char* sums, const char* unit, const Measured& m) {
  std::printf("sums in %s: H^-1 x %.3g %s (%s)\n", sums, m.product.value, unit,
              m.product.where.c_str());
  std::printf("sums in %s: H^-1 G^T a %.3g %s (%s)\n", sums, m.row.value, unit,
              m.row.where.c_str());
  std::printf("sums in %s: error over estimate %.3g (%s)\n", sums, m.ratio.value,
              m.ratio.where.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  const bool quick = argc > 1 && std::strcmp(argv[1], "--quick") == 0;
  try {
    if (cuda::device_count() == 0) {
      std::printf("SKIPPED: no CUDA device, inverse Fisher matrices were not tested\n");
      return 77;
    }
    check_sizes(quick);
    check_kinds();
    check_bits();
    check_refusals();
    check_special_vectors();
    check_errors_said();
    check_lost();
    check(measured[0].product.value <= budget(HALFULP_BUDGETS, "mfac_product", "double", "cuda") &&
              measured[0].row.value <= budget(HALFULP_BUDGETS, "mfac_product", "double", "cuda"),
          "products within their budget");
    check(
        measured[0].ratio.value <= budget(HALFULP_BUDGETS, "mfac_underestimate", "double", "cuda"),
        "errors said are bounds");
    print("double", "cond(H) 2^-52", measured[0]);
    print("float", "cond(H) 2^-24", measured[1]);
  } catch (const std::exception& e) {
    std::printf("FAILED: %s\n", e.what());
    return 1;
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
