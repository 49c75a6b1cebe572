#include "halfulp/mfac.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "../validation/oracle/mfac.hpp"
#include "budget.hpp"
#include "halfulp/error.hpp"

using Catch::Matchers::Contains;
namespace mfac = halfulp::mfac;
using mfac::Estimator;
using mfac::Gradients;
using mfac_mpfr::Case;
using mfac_mpfr::Numbers;
using mfac_mpfr::Real;
using mfac_mpfr::Reals;
using mfac_mpfr::Reference;
using mfac_mpfr::relative_error;

namespace {

double limit(const std::string& name) { return budget(HALFULP_BUDGETS, name, "double", "cpu"); }

mfac::Options damped(double lambda) {
  mfac::Options options;
  options.damping = lambda;
  return options;
}
Gradients gradients_of(const Case& c, mfac::Storage storage = mfac::Storage::float64) {
  return {std::span<const double>(c.g), static_cast<std::ptrdiff_t>(c.d), storage};
}
template <class T = double>
std::vector<T> product(const Estimator& e, const std::vector<T>& x, mfac::Diagnosis* d = nullptr) {
  std::vector<T> y(x.size());
  const auto diagnosis = e.inverse_product(std::span<const T>(x), std::span<T>(y));
  if (d != nullptr) *d = diagnosis;
  return y;
}
std::vector<float> singles(const Numbers& x) { return {x.begin(), x.end()}; }
bool finite(const Numbers& x) {
  return std::all_of(x.begin(), x.end(), [](double value) { return std::isfinite(value); });
}
bool same_bits(const Numbers& a, const Numbers& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}
Case random_case(std::size_t m, std::size_t d, double lambda, std::uint64_t seed = 5) {
  mfac_mpfr::Random random(seed);
  return {"random", m, d, lambda, random.normals(m * d)};
}

/// The worst of a kind, and where.
struct Worst {
  double value = 0;
  std::string where;
  void add(double v, const std::string& place) {
    if (v >= value) value = v, where = place;
  }
};
void check_worst(const Worst& worst, const std::string& name) {
  INFO(name << ": " << worst.value << " at " << worst.where);
  CHECK(worst.value <= limit(name));
}

}  // namespace

TEST_CASE("the oracle is the dense inverse", "[mfac]") {
  for (const auto& [m, d] : {std::pair<std::size_t, std::size_t>{6, 20}, {20, 9}, {1, 4}}) {
    const Case c = random_case(m, d, 1e-6);
    const mfac_mpfr::Dense dense(c.g, m, d, c.lambda);
    const Reference reference(c.g, m, d, c.lambda);
    const auto same = [](const Reals& a, const Reals& b) {
      Real error = 0, square = 0;
      for (std::size_t j = 0; j < a.size(); ++j)
        error += (a[j] - b[j]) * (a[j] - b[j]), square += b[j] * b[j];
      return sqrt(error / square) < 1e-60;
    };
    for (const auto& v : mfac_mpfr::vectors(c, false)) {
      INFO(v.name);
      CHECK(same(reference.product(v.x), dense.product(v.x)));
    }
    const Numbers x = mfac_mpfr::Random(3).normals(d);
    CHECK(same(reference.root_product(x), dense.root_product(x)));
    CHECK(abs(reference.log_determinant() - dense.log_determinant()) < 1e-60);
    Numbers unit(d);
    unit[d / 2] = 1;
    CHECK(abs(dense.product(unit)[0] - reference.element(0, d / 2)) <
          1e-60 * abs(reference.element(0, d / 2)));
  }
}

TEST_CASE("products, entries and numbers agree with MPFR", "[mfac]") {
  Worst products, scaled, combinations, diagonal, elements, blocks, numbers, forms, influences,
      roots;
  Worst under, over, condition;
  for (const Case& c : mfac_mpfr::cases(false)) {
    const std::string place = c.name + ", m = " + std::to_string(c.m) +
                              ", d = " + std::to_string(c.d) +
                              ", lambda = " + std::to_string(c.lambda);
    const Reference reference(c.g, c.m, c.d, c.lambda);
    const double kappa = reference.condition(), unit = kappa * 0x1p-52;
    const Estimator e(gradients_of(c), damped(c.lambda));
    const auto known = e.diagnosis();
    condition.add(std::fabs(known.condition / kappa - 1), place);
    CHECK(known.condition >= kappa * (1 - 1e-12));
    CHECK((known.status == mfac::Conditioning::ill) == (unit > 1e-3));
    CHECK(known.pivot == -1);
    for (const auto& v : mfac_mpfr::vectors(c, false)) {
      const std::string at = place + ", " + v.name;
      mfac::Diagnosis d;
      const Numbers y = product(e, v.x, &d);
      const Reals expected = reference.product(v.x);
      const double error = relative_error(y, expected);
      products.add(error / unit, at);
      INFO(at);
      CHECK(d.error >= error);
      if (error > 0x1p-54 && !(unit > 1e-3)) over.add(d.error / error, at);
      if (v.name == "random" || v.name == "first row") {
        Numbers form(1), influence(c.m);
        e.quadratic_form(v.x, form);
        forms.add(relative_error(form[0], reference.quadratic_form(v.x)) / unit, at);
        e.influence(v.x, influence);
        influences.add(relative_error(influence, reference.influence(v.x)) / unit, at);
        if (c.m <= 16) {
          Numbers root(c.d);
          const auto r =
              e.inverse_root_product(std::span<const double>(v.x), std::span<double>(root));
          const double root_error = relative_error(root, reference.root_product(v.x));
          roots.add(root_error / unit, at);
          CHECK(r.error >= root_error);
        }
      }
    }
    Numbers a = mfac_mpfr::Random(11).normals(c.m), y(c.d);
    const auto d = e.inverse_combination(a, std::span<double>(y));
    const double error = relative_error(y, reference.combination(a));
    combinations.add(error / unit, place);
    CHECK(d.error >= error);

    Numbers out(c.d);
    const auto on_diagonal = e.inverse_diagonal(out);
    double worst = 0;
    for (std::size_t j = 0; j < c.d; ++j) {
      const double at = relative_error(out[j], reference.element(j, j));
      worst = std::fmax(worst, at);
      diagonal.add(at / unit, place + ", column " + std::to_string(j));
      CHECK((out[j] > 0 && out[j] <= 1 / c.lambda));
    }
    CHECK(on_diagonal.error >= worst);
    std::vector<std::ptrdiff_t> list;
    for (std::size_t i = 0; i < c.d; i += 11)
      list.push_back(static_cast<std::ptrdiff_t>((7 * i) % c.d));
    Numbers block(list.size() * list.size());
    e.inverse_block(list, block);
    for (std::size_t p = 0; p < list.size(); ++p)
      for (std::size_t q = 0; q < list.size(); ++q) {
        const Real expected =
            reference.element(static_cast<std::size_t>(list[p]), static_cast<std::size_t>(list[q]));
        const std::string at =
            place + ", " + std::to_string(list[p]) + ", " + std::to_string(list[q]);
        blocks.add(relative_error(block[p * list.size() + q], expected) / unit, at);
        elements.add(relative_error(e.inverse_element(list[p], list[q]), expected) / unit, at);
      }
    numbers.add(relative_error(e.log_determinant(), reference.log_determinant()) / unit, place);
    numbers.add(relative_error(e.inverse_trace(), reference.inverse_trace()) / unit, place);
    Numbers self(c.m);
    e.self_influence(self);
    for (std::size_t i = 0; i < c.m; i += 5) {
      const Numbers row(c.g.begin() + static_cast<std::ptrdiff_t>(i * c.d),
                        c.g.begin() + static_cast<std::ptrdiff_t>((i + 1) * c.d));
      forms.add(relative_error(self[i], reference.quadratic_form(row)) / unit,
                place + ", self-influence of " + std::to_string(i));
    }
  }
  check_worst(products, "mfac_product");
  check_worst(combinations, "mfac_product");
  check_worst(roots, "mfac_product");
  check_worst(diagonal, "mfac_diagonal");
  check_worst(elements, "mfac_element");
  check_worst(blocks, "mfac_element");
  check_worst(numbers, "mfac_number");
  check_worst(forms, "mfac_number");
  check_worst(influences, "mfac_number");
  check_worst(condition, "mfac_condition");
  check_worst(over, "mfac_overestimate");
}

TEST_CASE("self-influence of equal rows", "[mfac]") {
  // K is m lambda I and one number everywhere: what rounding takes of m lambda is all there is.
  Worst worst;
  for (const std::uint64_t seed : {15, 22})
    for (const double lambda : {1e-8, 1e-6, 1e-3, 0.3})
      for (const std::size_t m : {std::size_t{7}, std::size_t{43}, std::size_t{64}}) {
        const std::size_t d = 90;
        mfac_mpfr::Random random(seed);
        Numbers g(m * d);
        for (std::size_t j = 0; j < d; ++j) g[j] = random.normal();
        for (std::size_t j = d; j < g.size(); ++j) g[j] = g[j - d];
        const mfac::Estimator e(mfac::Gradients(g, static_cast<std::ptrdiff_t>(d)),
                                {.damping = lambda});
        Numbers self(m);
        e.self_influence(self);
        const Numbers row(g.begin(), g.begin() + static_cast<std::ptrdiff_t>(d));
        const Real expected = Reference(g, m, d, lambda).quadratic_form(row);
        for (const double value : self)
          worst.add(relative_error(value, expected) / (e.diagnosis().condition * 0x1p-52),
                    "m = " + std::to_string(m) + ", lambda = " + std::to_string(lambda));
      }
  check_worst(worst, "mfac_number");
}

TEST_CASE("an estimate where rows differ in length is near the error", "[mfac]") {
  for (const std::uint64_t seed : {1, 2, 3})
    for (const bool parallel : {false, true})
      for (const std::size_t m : {std::size_t{11}, std::size_t{30}, std::size_t{140}}) {
        const std::size_t d = 150;
        mfac_mpfr::Random random(seed);
        const double lambda = std::pow(10, -1 - 6 * random.uniform());
        const Numbers common = random.normals(d);
        Numbers g = random.normals(m * d);
        for (std::size_t i = 0; i < m; ++i) {
          const double length =
              std::ldexp(1.0, static_cast<int>(std::floor(41 * random.uniform())) - 30);
          for (std::size_t j = 0; j < d; ++j)
            g[i * d + j] = length * (parallel ? common[j] + 0.1 * g[i * d + j] : g[i * d + j]);
        }
        const mfac::Estimator e(mfac::Gradients(g, static_cast<std::ptrdiff_t>(d)),
                                {.damping = lambda, .precision = mfac::Precision::float64});
        const Reference reference(g, m, d, lambda);
        const auto first = g.begin() + static_cast<std::ptrdiff_t>((m / 3) * d);
        for (const Numbers& x :
             {random.normals(d), Numbers(first, first + static_cast<std::ptrdiff_t>(d))}) {
          Numbers y(d);
          const auto check = e.inverse_product(std::span<const double>(x), std::span<double>(y));
          const double error = relative_error(y, reference.product(x));
          CAPTURE(seed, parallel, m, lambda, check.condition, error);
          CHECK(check.error >= error);
          CHECK(check.error <= 1e4 * error);
        }
      }
}

TEST_CASE("an estimate is never below the error, on other seeds", "[mfac]") {
  Worst over;
  for (std::uint64_t seed = 100; seed < 102; ++seed)
    for (const Case& c : mfac_mpfr::cases(false, seed)) {
      if (c.m * c.m * c.d > 100000) continue;
      const Reference reference(c.g, c.m, c.d, c.lambda);
      for (const mfac::Precision precision :
           {mfac::Precision::automatic, mfac::Precision::float64}) {
        mfac::Options options = damped(c.lambda);
        options.precision = precision;
        const Estimator e(gradients_of(c), options);
        if (precision == mfac::Precision::float64 && e.diagnosis().error > 0.1) continue;
        for (const auto& v : mfac_mpfr::vectors(c, false, seed)) {
          mfac::Diagnosis said;
          const Numbers y = product(e, v.x, &said);
          const double error = relative_error(y, reference.product(v.x));
          INFO(c.name << ", m = " << c.m << ", lambda = " << c.lambda << ", " << v.name << ", seed "
                      << seed << ": " << error << ", said " << said.error);
          CHECK(error <= said.error);
        }
      }
    }
}

TEST_CASE("influences and forms: estimates, and vectors of any size", "[mfac]") {
  for (const Case& c : mfac_mpfr::cases(false, 200)) {
    if (c.m * c.m * c.d > 100000 || c.name == "far away") continue;
    const Reference reference(c.g, c.m, c.d, c.lambda);
    const double kappa = reference.condition();
    for (const mfac::Precision precision : {mfac::Precision::automatic, mfac::Precision::float64}) {
      mfac::Options options = damped(c.lambda);
      options.precision = precision;
      const Estimator e(gradients_of(c), options);
      if (precision == mfac::Precision::float64 && e.diagnosis().error > 0.1) continue;
      Numbers all, forms, of_all;
      for (const auto& v : mfac_mpfr::vectors(c, false, 200))
        for (const int exponent : {0, v.name == "random" ? -500 : 470}) {
          Numbers x = v.x;
          for (double& value : x) value = std::ldexp(value, exponent);
          Numbers out(c.m), form(1);
          const auto said = e.influence(x, out);
          const double error = relative_error(out, reference.influence(x));
          INFO(c.name << ", m = " << c.m << ", lambda = " << c.lambda << ", " << v.name
                      << " times 2^" << exponent << ": " << error << ", said " << said.error);
          CHECK((error <= said.error || error == HUGE_VAL));
          if (v.name != "orthogonal" && exponent == 0 && precision == mfac::Precision::automatic)
            CHECK(error <= limit("mfac_number") * kappa * 0x1p-52 + 0x1p-50);
          const auto of_form = e.quadratic_form(x, form);
          const double form_error = relative_error(form[0], reference.quadratic_form(x));
          INFO("form: " << form_error << ", said " << of_form.error);
          if (exponent == 0) CHECK(form_error <= of_form.error);
          if (exponent != 0) continue;
          all.insert(all.end(), x.begin(), x.end());
          forms.push_back(form[0]);
        }
      // batches share their passes and nothing else
      of_all.resize(forms.size());
      e.quadratic_form(all, of_all);
      for (std::size_t i = 0; i < forms.size(); ++i)
        CHECK(of_all[i] == Approx(forms[i]).epsilon(std::fmin(0.01, 1e-11 + 1e-15 * kappa)));
    }
  }
}

TEST_CASE("the estimate for a diagonal whose columns are easy", "[mfac]") {
  // rank 2: K has m - 2 eigenvalues m lambda, and nothing of G in their vectors
  for (const Case& c : mfac_mpfr::cases(false)) {
    if (c.name != "rank 2" || c.lambda < 1e-9) continue;
    const Estimator e(gradients_of(c), damped(c.lambda));
    Numbers out(c.d);
    const double said = e.inverse_diagonal(out).error;
    INFO("lambda = " << c.lambda << ": " << said);
    CHECK(said <= 0x1p-45 * std::sqrt(e.diagnosis().condition));
  }
}

TEST_CASE("entries of columns of zeros are the inverse damping", "[mfac]") {
  for (const double lambda : {0.0019328422, 1e-3, 0.7}) {
    Case c = random_case(31, 20, lambda);  // H itself is factorised
    for (std::size_t i = 0; i < c.m; ++i) c.g[i * c.d + 6] = 0;
    const Estimator e(gradients_of(c), damped(lambda));
    Numbers out(c.d);
    e.inverse_diagonal(out);
    for (const double value : out) CHECK((value > 0 && value <= 1 / lambda));
    CHECK(e.inverse_element(6, 6) <= 1 / lambda);
  }
}

TEST_CASE("floats stored, double used: rows and random vectors", "[mfac]") {
  Worst rows, others, rounded;
  for (const Case& c : mfac_mpfr::cases(true)) {
    const Reference reference(c.g, c.m, c.d, c.lambda);
    const Estimator e(gradients_of(c, mfac::Storage::float32), damped(c.lambda));
    for (const auto& v : mfac_mpfr::vectors(c, true)) {
      const std::string at = c.name + ", lambda = " + std::to_string(c.lambda) + ", " + v.name;
      const Reals expected = reference.product(v.x);
      const double error = relative_error(product(e, v.x), expected);
      if (v.name == "random" || v.name == "first row" || v.name == "last row") rows.add(error, at);
      others.add(error / (reference.condition() * 0x1p-52), at);
      // x and y in float: y can be no better than rounded
      const std::vector<float> y = product(e, singles(v.x));
      std::vector<float> best(y.size());
      for (std::size_t j = 0; j < y.size(); ++j) best[j] = static_cast<float>(expected[j]);
      rounded.add(relative_error(y, expected) / std::fmax(0x1p-26, relative_error(best, expected)),
                  at);
    }
  }
  check_worst(rows, "mfac_float_storage");
  check_worst(others, "mfac_product");
  INFO(rounded.where);
  CHECK(rounded.value <= 1.05);
}

TEST_CASE("16 bits stored: the products are those of the rounded gradients", "[mfac]") {
  Case c = random_case(12, 90, 1e-5);
  for (const auto storage : {mfac::Storage::bfloat16, mfac::Storage::float16}) {
    const Gradients g = gradients_of(c, storage);
    Case rounded = c;
    for (std::size_t i = 0; i < c.m; ++i)
      g.row(static_cast<std::ptrdiff_t>(i), std::span(rounded.g).subspan(i * c.d, c.d));
    const Reference reference(rounded.g, c.m, c.d, c.lambda);
    const Estimator e(g, damped(c.lambda));
    for (const auto& v : mfac_mpfr::vectors(rounded, false))
      CHECK(relative_error(product(e, v.x), reference.product(v.x)) <=
            limit("mfac_product") * 0x1p-52 * reference.condition());
  }
}

TEST_CASE("several vectors, in place, of all kinds", "[mfac]") {
  const Case c = random_case(16, 150, 1e-4);
  const Estimator e(gradients_of(c), damped(c.lambda));
  Numbers x, expected;
  for (const auto& v : mfac_mpfr::vectors(c, false)) {
    x.insert(x.end(), v.x.begin(), v.x.end());
    for (const Real& value : Reference(c.g, c.m, c.d, c.lambda).product(v.x))
      expected.push_back(static_cast<double>(value));
  }
  x.resize(x.size() + c.d);  // zeros
  expected.resize(x.size());
  const Numbers y = product(e, x);
  Numbers in_place = x;
  e.inverse_product(std::span<const double>(in_place), std::span<double>(in_place));
  CHECK(same_bits(y, in_place));
  Numbers once(x.size());
  const auto d = mfac::inverse_product(gradients_of(c), x, once, damped(c.lambda));
  CHECK(d.condition == e.diagnosis().condition);
  for (std::size_t k = 0; k < x.size() / c.d; ++k) {
    INFO("vector " << k);
    const auto part = [&](const Numbers& all) {
      const auto from = all.begin() + static_cast<std::ptrdiff_t>(k * c.d);
      return Numbers(from, from + static_cast<std::ptrdiff_t>(c.d));
    };
    const Reals reference = [&] {
      const Numbers numbers = part(expected);
      return Reals(numbers.begin(), numbers.end());
    }();
    const double allowed = limit("mfac_product") * 0x1p-52 * e.diagnosis().condition;
    CHECK(relative_error(part(y), reference) <= allowed);
    CHECK(relative_error(part(once), reference) <= allowed);
  }
  CHECK(same_bits(Numbers(y.end() - static_cast<std::ptrdiff_t>(c.d), y.end()), Numbers(c.d)));
}

TEST_CASE("vectors of any size", "[mfac]") {
  for (const double lambda : {1e-3, 1e3}) {
    const Case c = random_case(10, 80, lambda);
    const Estimator e(gradients_of(c), damped(c.lambda));
    for (const auto& v : mfac_mpfr::vectors(c, false)) {
      const Numbers y = product(e, v.x);
      for (const int exponent : {-1000, -600, -480, 480, 700, 900}) {
        Numbers x = v.x;
        for (double& value : x) value = std::ldexp(value, exponent);
        const Reals expected = Reference(c.g, c.m, c.d, c.lambda).product(x);
        INFO(v.name << " times 2^" << exponent);
        mfac::Diagnosis d;
        const Numbers z = product(e, x, &d);
        CHECK(relative_error(z, expected) <=
              limit("mfac_product") * 0x1p-52 * e.diagnosis().condition);
        CHECK(d.error < 1e-6);
        Numbers root(c.d);
        e.inverse_root_product(std::span<const double>(x), std::span<double>(root));
        CHECK(finite(root));
      }
    }
  }
}

TEST_CASE("blocks are matrices of their own", "[mfac]") {
  const Case c = random_case(12, 101, 1e-5);
  for (const std::ptrdiff_t block : {1, 7, 12, 13, 40, 100, 101, 1000}) {
    mfac::Options options = damped(c.lambda);
    options.block = block;
    const Estimator e(gradients_of(c), options);
    const Numbers x(c.g.begin(), c.g.begin() + static_cast<std::ptrdiff_t>(c.d));
    const Numbers y = product(e, x);
    Numbers once(c.d), diagonal(c.d), root(c.d), h(c.d), form(1),
        a = mfac_mpfr::Random(2).normals(c.m), combined(c.d), influence(c.m);
    mfac::inverse_product(gradients_of(c), x, once, options);
    e.inverse_diagonal(diagonal);
    e.inverse_root_product(std::span<const double>(x), std::span<double>(root));
    e.product(y, h);
    e.quadratic_form(x, form);
    e.inverse_combination(a, std::span<double>(combined));
    e.influence(x, influence);
    Real quadratic = 0, determinant = 0, trace = 0;
    Reals influences(c.m);
    double largest = 1;
    for (std::size_t begin = 0; begin < c.d; begin += static_cast<std::size_t>(block)) {
      const std::size_t end = std::min(begin + static_cast<std::size_t>(block), c.d);
      const auto part = [&](const Numbers& all) {
        return Numbers(all.begin() + static_cast<std::ptrdiff_t>(begin),
                       all.begin() + static_cast<std::ptrdiff_t>(end));
      };
      Numbers g;
      for (std::size_t i = 0; i < c.m; ++i)
        for (std::size_t j = begin; j < end; ++j) g.push_back(c.g[i * c.d + j]);
      const Reference reference(g, c.m, end - begin, c.lambda);
      const double unit = reference.condition() * 0x1p-52;
      largest = std::fmax(largest, reference.condition());
      INFO("block " << block << " from " << begin);
      CHECK(relative_error(part(y), reference.product(part(x))) <= limit("mfac_product") * unit);
      CHECK(relative_error(part(once), reference.product(part(x))) <= limit("mfac_product") * unit);
      CHECK(relative_error(part(combined), reference.combination(a)) <=
            limit("mfac_product") * unit);
      CHECK(relative_error(part(root), reference.root_product(part(x))) <=
            limit("mfac_product") * unit);
      CHECK(relative_error(diagonal[begin], reference.element(0, 0)) <=
            limit("mfac_diagonal") * unit);
      CHECK(relative_error(e.inverse_element(static_cast<std::ptrdiff_t>(begin),
                                             static_cast<std::ptrdiff_t>(end - 1)),
                           reference.element(0, end - begin - 1)) <= limit("mfac_element") * unit);
      if (end < c.d)
        CHECK(e.inverse_element(static_cast<std::ptrdiff_t>(begin),
                                static_cast<std::ptrdiff_t>(end)) == 0);
      const Reals xs = [&] {
        const Numbers numbers = part(x);
        return Reals(numbers.begin(), numbers.end());
      }();
      quadratic += mfac_mpfr::dot(xs, reference.product(xs));
      const Reals more = reference.project(reference.product(xs));
      for (std::size_t i = 0; i < c.m; ++i) influences[i] += more[i];
      determinant += reference.log_determinant();
      trace += reference.inverse_trace();
    }
    const double unit = largest * 0x1p-52;
    CHECK(relative_error(form[0], quadratic) <= limit("mfac_number") * unit);
    CHECK(relative_error(influence, influences) <= limit("mfac_number") * unit);
    CHECK(relative_error(e.log_determinant(), determinant) <= limit("mfac_number") * unit);
    CHECK(relative_error(e.inverse_trace(), trace) <= limit("mfac_number") * unit);
    CHECK(e.diagnosis().condition == Approx(largest).epsilon(limit("mfac_condition")));
    Numbers self(c.m);
    e.self_influence(self);
    CHECK(relative_error(self[0], quadratic) <= limit("mfac_number") * unit);
    const Reals xs(x.begin(), x.end());
    CHECK(relative_error(h, xs) <= 4 * unit);
    // entries of several blocks at once, one of them twice
    const std::vector<std::ptrdiff_t> list = {100, 3, 40, 3, 41, 0};
    Numbers entries(36);
    e.inverse_block(list, entries);
    for (std::size_t p = 0; p < 6; ++p)
      for (std::size_t q = 0; q < 6; ++q)
        CHECK(entries[p * 6 + q] ==
              Approx(e.inverse_element(list[p], list[q])).epsilon(1e-9).margin(0));
  }
}

TEST_CASE("the same bits for any number of threads", "[mfac]") {
  for (const std::ptrdiff_t block : {0, 5, 30, 5000})
    for (const bool extended : {false, true}) {
      Case c = random_case(20, 12000, 1e-4);
      if (block > 0) c = random_case(20, 400, 1e-4);
      if (extended) {
        for (std::size_t i = c.d; i < c.g.size(); ++i) c.g[i] = c.g[i % c.d] + 1e-5 * c.g[i];
        c.lambda = 1e-9;
      }
      const auto all = [&](int threads) {
        mfac::Options options = damped(c.lambda);
        options.threads = threads;
        options.block = block;
        const Estimator e(gradients_of(c, mfac::Storage::float32), options);
        Numbers out, part(2 * c.d), x = mfac_mpfr::Random(1).normals(2 * c.d);
        std::copy_n(c.g.begin(), c.d, x.begin());
        const auto keep = [&](const mfac::Diagnosis& d) {
          out.insert(out.end(), part.begin(), part.end());
          out.push_back(d.error);
          out.push_back(d.condition);
        };
        keep(e.inverse_product(std::span<const double>(x), std::span<double>(part)));
        keep(mfac::inverse_product(e.gradients(), x, part, options));
        if (!extended || block > 0)
          keep(e.inverse_root_product(std::span<const double>(x), std::span<double>(part)));
        part.resize(c.d);
        keep(e.inverse_combination(std::span<const double>(x).first(c.m), std::span<double>(part)));
        if (!extended || block > 0) keep(e.inverse_diagonal(part));
        part.resize(2);
        keep(e.quadratic_form(x, part));
        part.resize(2 * c.m);
        keep(e.influence(x, part));
        part.resize(c.m);
        e.self_influence(part);
        out.insert(out.end(), part.begin(), part.end());
        out.push_back(e.log_determinant());
        out.push_back(e.inverse_trace());
        out.push_back(e.inverse_element(1, 3));
        return out;
      };
      const Numbers one = all(1);
      CHECK(finite(one));
      for (const int threads : {2, 3, 8}) {
        INFO("block " << block << ", threads " << threads << ", extended " << extended);
        CHECK(same_bits(all(threads), one));
      }
    }
}

TEST_CASE("what is lost is said", "[mfac]") {
  // rows equal but for 1e-6, lambda 1e-12: double cannot tell K from a singular matrix
  Case c = random_case(12, 60, 1e-14);
  for (std::size_t i = c.d; i < c.g.size(); ++i) c.g[i] = 1e3 * c.g[i % c.d] * (1 + 1e-9 * c.g[i]);
  for (std::size_t i = 0; i < c.d; ++i) c.g[i] *= 1e3;
  const Reference reference(c.g, c.m, c.d, c.lambda);
  mfac::Options options = damped(c.lambda);
  options.precision = mfac::Precision::float64;
  const Estimator plain(gradients_of(c), options);
  const auto known = plain.diagnosis();
  CHECK(known.status == mfac::Conditioning::lost);
  CHECK(known.pivot >= 1);
  CHECK(known.pivot_value <= 0.5);
  CHECK(known.condition * 0x1p-52 > 1e-3);
  for (const auto& v : mfac_mpfr::vectors(c, false)) {
    mfac::Diagnosis d;
    const Numbers y = product(plain, v.x, &d);
    INFO(v.name);
    CHECK(finite(y));
    CHECK(d.status == mfac::Conditioning::lost);
    if (v.name != "nearly a row")
      CHECK(d.error >= 0.1 * std::fmin(1, relative_error(y, reference.product(v.x))));
  }
  // in double-double it can
  const Estimator e(gradients_of(c), damped(c.lambda));
  CHECK(e.diagnosis().status == mfac::Conditioning::ill);
  CHECK(e.diagnosis().pivot == -1);
  for (const auto& v : mfac_mpfr::vectors(c, false)) {
    mfac::Diagnosis d;
    const Numbers y = product(e, v.x, &d);
    INFO(v.name);
    CHECK(finite(y));
    CHECK(relative_error(y, reference.product(v.x)) <= d.error);
  }
  // and where it cannot either: equal rows
  std::copy_n(c.g.begin(), c.d, c.g.begin() + static_cast<std::ptrdiff_t>(c.d));
  std::copy_n(c.g.begin(), c.d, c.g.end() - static_cast<std::ptrdiff_t>(c.d));
  const Estimator beyond(gradients_of(c), damped(1e-60));
  CHECK(beyond.diagnosis().status != mfac::Conditioning::good);
  for (const auto& v : mfac_mpfr::vectors(c, false)) {
    mfac::Diagnosis d;
    CHECK(finite(product(beyond, v.x, &d)));
    if (v.name != "random" && v.name != "unit vector") CHECK(d.error > 0.01);
  }
}

TEST_CASE("sums in float are as good as they say", "[mfac]") {
  for (const double lambda : {1e-3, 1.0}) {
    const Case c = random_case(16, 3000, lambda);
    const Reference reference(c.g, c.m, c.d, c.lambda);
    mfac::Options options = damped(lambda);
    options.gram = options.products = mfac::Accumulation::float32;
    const Estimator e(gradients_of(c, mfac::Storage::float32), options);
    Case stored = c;
    for (double& value : stored.g) value = static_cast<float>(value);
    const Reference exact(stored.g, c.m, c.d, c.lambda);
    const Numbers x = mfac_mpfr::Random(4).normals(c.d);
    mfac::Diagnosis d;
    const Numbers y = product(e, x, &d);
    const double error = relative_error(y, exact.product(x));
    CHECK(error <= d.error);
    CHECK(d.error < 1e-3);
  }
}

TEST_CASE("refinement gives products to the last digits", "[mfac]") {
  for (const Case& c : mfac_mpfr::cases(false)) {
    if (c.d > 150 || c.m > 20) continue;
    const Reference reference(c.g, c.m, c.d, c.lambda);
    if (reference.condition() > 1e13) continue;
    mfac::Options options = damped(c.lambda);
    options.refinements = 1;
    const Estimator e(gradients_of(c), options);
    for (const auto& v : mfac_mpfr::vectors(c, false)) {
      INFO(c.name << ", lambda = " << c.lambda << ", " << v.name);
      mfac::Diagnosis d;
      const double error = relative_error(product(e, v.x, &d), reference.product(v.x));
      // of cond(H)^(3/2) 2^-104 nothing is seen up to 1e10 or so
      CHECK(error <= 0x1p-51 + 0x1p-103 * std::pow(reference.condition(), 1.5));
      CHECK(d.error >= error);
      CHECK(d.error <= 1e-9);
    }
  }
}

TEST_CASE("the paper's recursion and its D-B algorithm are this factorisation", "[mfac]") {
  // arXiv:2107.03356: v_i = g_i/lambda - sum_{k<i} v_k (v_k . g_i)/q_k, q_i = m + g_i . v_i, and
  // D_ij = g_i . g_j/lambda - sum_{k<i} D_ki D_kj/(m + D_kk), in 100 digits
  const Case c = random_case(9, 31, 1e-3);
  const std::size_t m = c.m, d = c.d;
  const Real lambda = c.lambda;
  std::vector<Reals> v, rows;
  Reals q;
  for (std::size_t i = 0; i < m; ++i) {
    Reals g(c.g.begin() + static_cast<std::ptrdiff_t>(i * d),
            c.g.begin() + static_cast<std::ptrdiff_t>((i + 1) * d));
    Reals next = g;
    for (Real& value : next) value /= lambda;
    for (std::size_t k = 0; k < i; ++k) {
      const Real share = mfac_mpfr::dot(v[k], g) / q[k];
      for (std::size_t j = 0; j < d; ++j) next[j] -= v[k][j] * share;
    }
    q.push_back(m + mfac_mpfr::dot(g, next));
    v.push_back(next);
    rows.push_back(g);
  }
  std::vector<Reals> big(m, Reals(m));
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = i; j < m; ++j) {
      big[i][j] = mfac_mpfr::dot(rows[i], rows[j]) / lambda;
      for (std::size_t k = 0; k < i; ++k) big[i][j] -= big[k][i] * big[k][j] / (m + big[k][k]);
    }
  const Reference reference(c.g, m, d, c.lambda);
  const Reals& l = reference.factor();
  const Reals& w = reference.columns();
  const auto equal = [](const Real& a, const Real& b) {
    return abs(a - b) <= 1e-60 * (1 + abs(b));
  };
  for (std::size_t i = 0; i < m; ++i) {
    CHECK(equal(q[i], l[i * m + i] * l[i * m + i] / lambda));
    for (std::size_t j = 0; j < d; ++j) CHECK(equal(v[i][j], l[i * m + i] / lambda * w[j * m + i]));
    for (std::size_t j = i; j < m; ++j)
      CHECK(equal(big[i][j], l[i * m + i] * l[j * m + i] / lambda - (i == j ? Real(m) : Real(0))));
  }
  // and x/lambda - sum v_i (v_i . x)/q_i is the product
  const Numbers x = mfac_mpfr::Random(3).normals(d);
  Reals y(x.begin(), x.end());
  for (std::size_t i = 0; i < m; ++i) {
    const Real share = mfac_mpfr::dot(v[i], Reals(x.begin(), x.end())) / q[i] * lambda;
    for (std::size_t j = 0; j < d; ++j) y[j] -= v[i][j] * share;
  }
  for (Real& value : y) value /= lambda;
  const Estimator e(gradients_of(c), damped(c.lambda));
  CHECK(relative_error(product(e, x), y) <=
        limit("mfac_product") * 0x1p-52 * e.diagnosis().condition);
}

TEST_CASE("bad input is named", "[mfac]") {
  const Case c = random_case(4, 10, 1e-3);
  const Gradients g = gradients_of(c);
  const auto message = [](auto f) -> std::string {
    try {
      f();
    } catch (const halfulp::Error& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double lambda : {0.0, -1.0, nan, std::numeric_limits<double>::infinity()})
    CHECK_THAT(message([&] { Estimator(g, damped(lambda)); }),
               Contains("mfac::Estimator: damping = ") && Contains("must be > 0"));
  CHECK_THAT(message([&] { Estimator(Gradients(std::span<const double>(), 10), damped(1)); }),
             Contains("gradients.rows() = 0, must be > 0"));
  mfac::Options options = damped(1);
  options.block = -1;
  CHECK_THAT(message([&] { Estimator(g, options); }), Contains("block = -1, must be >= 0"));
  options = damped(1);
  options.refinements = -2;
  CHECK_THAT(message([&] { Estimator(g, options); }), Contains("refinements = -2"));

  for (const std::ptrdiff_t block : {0, 3}) {
    Numbers rows = c.g;
    rows[2 * 10 + 7] = nan;
    options = damped(1);
    options.block = block;
    CHECK_THAT(
        message([&] { Estimator(Gradients::view(std::span<const double>(rows), 10), options); }),
        Contains("gradients[2, 7] = nan, must be finite"));
    rows[2 * 10 + 7] = 1e200;
    CHECK_THAT(
        message([&] { Estimator(Gradients::view(std::span<const double>(rows), 10), options); }),
        Contains("|gradients[2]|^2 = "));
    Numbers y(10);
    CHECK_THAT(message([&] {
                 rows[27] = nan;
                 mfac::inverse_product(Gradients::view(std::span<const double>(rows), 10), y, y,
                                       options);
               }),
               Contains("mfac::inverse_product: gradients[2, 7] = nan"));

    const Estimator e(g, options);
    Numbers x(20, 1.0), out(20);
    x[14] = nan;
    CHECK_THAT(
        message([&] { e.inverse_product(std::span<const double>(x), std::span<double>(out)); }),
        Contains("mfac::Estimator::inverse_product: x[1, 4] = nan, must be finite"));
    CHECK_THAT(message([&] { mfac::inverse_product(g, x, out, options); }),
               Contains("mfac::inverse_product: x[1, 4] = nan"));
    x[14] = std::numeric_limits<double>::infinity();
    std::vector<float> xf = singles(x), yf(20);
    CHECK_THAT(
        message([&] { e.inverse_product(std::span<const float>(xf), std::span<float>(yf)); }),
        Contains("x[1, 4] = inf, must be finite"));
    CHECK_THAT(message([&] {
                 e.inverse_root_product(std::span<const double>(x), std::span<double>(out));
               }),
               Contains("x[1, 4] = inf, must be finite"));
    CHECK_THAT(message([&] { e.product(x, out); }), Contains("x[1, 4] = inf, must be finite"));
    CHECK_THAT(message([&] { e.quadratic_form(x, std::span(out).first(2)); }),
               Contains("x[1, 4] = inf"));
    CHECK_THAT(message([&] { e.influence(x, std::span(out).first(8)); }),
               Contains("x[1, 4] = inf"));
    Numbers a(4, nan);
    CHECK_THAT(message([&] { e.inverse_combination(a, std::span(out).first(10)); }),
               Contains("a[0] = nan, must be finite"));
    x.resize(15);
    CHECK_THROWS_AS(e.inverse_product(std::span<const double>(x), std::span<double>(out)),
                    halfulp::ShapeError);
    x.resize(20);
    CHECK_THROWS_AS(e.inverse_product(std::span<const double>(x), std::span(out).first(10)),
                    halfulp::ShapeError);
    CHECK_THROWS_AS(e.inverse_diagonal(out), halfulp::ShapeError);
    CHECK_THROWS_AS(e.self_influence(out), halfulp::ShapeError);
    CHECK_THROWS_AS(e.quadratic_form(x, out), halfulp::ShapeError);
    CHECK_THAT(message([&] { (void)e.inverse_element(0, 10); }),
               Contains("j = 10, must be in 0 ... 9"));
    const std::vector<std::ptrdiff_t> list = {1, -1};
    CHECK_THAT(message([&] { e.inverse_block(list, std::span(out).first(4)); }),
               Contains("indices[1] = -1, must be in 0 ... 9"));
  }
}

TEST_CASE("roots of nearly parallel gradients are as good as they say", "[mfac]") {
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const std::size_t m = seed % 2 == 0 ? 30 : 40, d = m + 4;
    mfac_mpfr::Random random(700 + seed);
    const Numbers one = random.normals(d), others = random.normals(m * d), x = random.normals(d);
    const double distance = std::pow(10, -7 + static_cast<double>(seed) / 5);
    Case c{"nearly parallel", m, d, 1e-8, Numbers(m * d)};
    for (std::size_t i = 0; i < m * d; ++i) c.g[i] = one[i % d] + distance * others[i];
    const Estimator e(gradients_of(c), damped(c.lambda));
    Numbers root(d);
    const auto r = e.inverse_root_product(std::span<const double>(x), std::span<double>(root));
    const Reference reference(c.g, m, d, c.lambda);
    const double error = relative_error(root, reference.root_product(x));
    INFO("seed " << seed);
    CHECK(r.error >= error);
    CHECK(error <= limit("mfac_product") * reference.condition() * 0x1p-52);
  }
}

TEST_CASE("a product that no number can hold is refused", "[mfac]") {
  const Case c = random_case(10, 40, 1e-8);
  const Estimator e(gradients_of(c), damped(c.lambda));
  Numbers x(c.d, 1.0), y(c.d);
  x[0] = 1e308;
  CHECK_THROWS_WITH(e.inverse_product(std::span<const double>(x), std::span<double>(y)),
                    Contains("y[0]") && Contains("x is too large"));
  std::vector<float> single(c.d, 1e35F), out(c.d);
  CHECK_THROWS_AS(e.inverse_product(std::span<const float>(single), std::span<float>(out)),
                  halfulp::DomainError);
  x[0] = 1e290;
  CHECK(e.inverse_product(std::span<const double>(x), std::span<double>(y)).error < 1e-10);
}

TEST_CASE("a construction can be watched and stopped", "[mfac]") {
  const Case c = random_case(4, 100, 1e-3);
  for (const std::ptrdiff_t block : {0, 2}) {
    mfac::Options options = damped(1);
    options.block = block;
    int calls = 0;
    options.progress = [&](double fraction, const char*) {
      CHECK((fraction >= 0 && fraction <= 1));
      return ++calls < 1;
    };
    CHECK_THROWS_AS(Estimator(gradients_of(c), options), halfulp::Cancelled);
    CHECK(calls == 1);
  }
}
