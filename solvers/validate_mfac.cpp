#include <algorithm>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "halfulp/mfac.hpp"
#include "halfulp/mfac_prune.hpp"
#include "halfulp/mfac_window.hpp"
#include "halfulp/random.hpp"
#include "validation.hpp"

namespace validation {
namespace {

namespace mfac = halfulp::mfac;
using halfulp::RandomStream;

mfac::Options options_of(double damping, const Common& common, std::ptrdiff_t block = 0) {
  mfac::Options options;
  options.damping = damping;
  options.block = block;
  options.threads = common.threads;
  return options;
}

// ---- exact cases --------------------------------------------------------------------------------
//
// G and y of small integers, m a power of two and m lambda = 2^-s: x = H y has no rounding, and y
// is H^-1 x exactly. Such an x lies almost in the rows of G, where x - G^T K^-1 G x cancels.

enum class Rows { random, nearly_parallel, repeated };

struct Exact {
  std::ptrdiff_t m, d;
  double damping;
  Values g, x, y;
};

/// @param  size   of the entries of G; s: m lambda = 2^-s
/// @param  block  of H, 0: one
Exact exact_case(Rows rows, std::ptrdiff_t m, std::ptrdiff_t d, int size, int s,
                 std::ptrdiff_t block, std::uint64_t seed) {
  Exact c{m, d, std::ldexp(1.0, -s) / static_cast<double>(m), {}, {}, {}};
  const RandomStream random(seed, 20);
  const auto at = [](std::ptrdiff_t i) { return static_cast<std::size_t>(i); };
  std::uint64_t next = 0;
  const auto integer = [&](int most) {
    return static_cast<double>(random.below(next++, 2 * static_cast<std::uint64_t>(most) + 1)) -
           most;
  };
  Values base(at(d));
  for (double& value : base) value = integer(size);
  c.g.resize(at(m * d));
  for (std::ptrdiff_t i = 0; i < m; ++i)
    for (std::ptrdiff_t j = 0; j < d; ++j) {
      double& value = c.g[at(i * d + j)];
      if (rows == Rows::random) value = integer(size);
      if (rows == Rows::nearly_parallel) value = base[at(j)] + integer(1);
      if (rows == Rows::repeated)
        value = i % 5 == 4 ? 0 : i >= 3 ? c.g[at(i % 3 * d + j)] : integer(size);
    }
  c.y.resize(at(d));
  c.x.resize(at(d));
  for (double& value : c.y) value = integer(size);
  for (std::ptrdiff_t begin = 0; begin<d; begin += block> 0 ? block : d) {
    const std::ptrdiff_t end = std::min(d, begin + (block > 0 ? block : d));
    std::vector<std::int64_t> sum(at(end - begin));
    for (std::ptrdiff_t i = 0; i < m; ++i) {
      std::int64_t dot = 0;
      for (std::ptrdiff_t j = begin; j < end; ++j)
        dot += static_cast<std::int64_t>(c.g[at(i * d + j)] * c.y[at(j)]);
      for (std::ptrdiff_t j = begin; j < end; ++j)
        sum[at(j - begin)] += dot * static_cast<std::int64_t>(c.g[at(i * d + j)]);
    }
    for (std::ptrdiff_t j = begin; j < end; ++j) {
      const std::int64_t whole = (sum[at(j - begin)] << s) + static_cast<std::int64_t>(c.y[at(j)]);
      c.x[at(j)] = std::ldexp(static_cast<double>(whole), -s) / static_cast<double>(m);
    }
  }
  return c;
}

double relative_error(const Values& y, const Values& exact) {
  double error = 0, square = 0;
  for (std::size_t j = 0; j < y.size(); ++j) {
    error += (y[j] - exact[j]) * (y[j] - exact[j]);
    square += exact[j] * exact[j];
  }
  return std::sqrt(error / square);
}

/// The worst relative error of a product over cond(H) 2^-52.
double product_error(const Common& common, mfac::Storage storage, std::ptrdiff_t block) {
  double worst = 0;
  std::uint64_t seed = common.seed;
  for (const Rows rows : {Rows::random, Rows::nearly_parallel, Rows::repeated})
    for (const std::ptrdiff_t m : {8, 32})
      for (const std::ptrdiff_t d : {20, 300})
        for (const int s : {0, 10, 25}) {
          const Exact c = exact_case(rows, m, d, 7, s, block, ++seed);
          const mfac::Estimator e(mfac::Gradients(std::span<const double>(c.g), d, storage),
                                  options_of(c.damping, common, block));
          Values y(c.y.size());
          const auto known = e.inverse_product(std::span<const double>(c.x), std::span<double>(y));
          worst = std::fmax(worst, relative_error(y, c.y) / (known.condition * 0x1p-52));
        }
  return worst;
}

/// The least ratio of estimate to error, inverted: > 1 where an error is larger than was said.
double underestimate(const Common& common) {
  double worst = 0;
  std::uint64_t seed = common.seed + 1000;
  for (const Rows rows : {Rows::random, Rows::nearly_parallel, Rows::repeated})
    for (const int s : {0, 10, 25}) {
      const Exact c = exact_case(rows, 16, 200, 7, s, 0, ++seed);
      const mfac::Estimator e(mfac::Gradients(std::span<const double>(c.g), c.d),
                              options_of(c.damping, common));
      Values y(c.y.size());
      const auto known = e.inverse_product(std::span<const double>(c.x), std::span<double>(y));
      worst = std::fmax(worst, relative_error(y, c.y) / known.error);
    }
  return worst;
}

/// m rows of a Hadamard matrix beside m columns of zeros: H is lambda + 1 on the first m
/// coordinates and lambda on the others.
mfac::Gradients hadamard(std::ptrdiff_t m) {
  Values g(static_cast<std::size_t>(2 * m * m));
  for (std::ptrdiff_t i = 0; i < m; ++i)
    for (std::ptrdiff_t j = 0; j < m; ++j)
      g[static_cast<std::size_t>(i * 2 * m + j)] =
          __builtin_popcountll(static_cast<unsigned long long>(i & j)) % 2 == 0 ? 1 : -1;
  return {std::span<const double>(g), 2 * m};
}

/// Diagonal, elements, determinant, trace, root, forms and influences of that matrix, over
/// cond(H) 2^-52.
double hadamard_error(const Common& common) {
  double worst = 0;
  const std::ptrdiff_t m = 64;
  for (const double damping : {1e-12, 1e-8, 1e-3, 1.0}) {
    const mfac::Estimator e(hadamard(m), options_of(damping, common));
    const double unit = (1 + 1 / damping) * 0x1p-52, large = 1 / (1 + damping);
    const auto add = [&](double value, double exact) {
      const double error = std::fabs(value - exact) / std::fabs(exact);
      worst = std::fmax(worst, std::isfinite(error) ? error / unit : HUGE_VAL);
    };
    Values diagonal(static_cast<std::size_t>(2 * m));
    e.inverse_diagonal(diagonal);
    for (std::ptrdiff_t j = 0; j < 2 * m; ++j) {
      add(diagonal[static_cast<std::size_t>(j)], j < m ? large : 1 / damping);
      add(e.inverse_element(j, j), j < m ? large : 1 / damping);
    }
    const auto rows = static_cast<double>(m);
    add(e.inverse_trace(), rows * large + rows / damping);
    add(e.log_determinant(), rows * std::log1p(damping) + rows * std::log(damping));
    Values row(diagonal.size()), root(diagonal.size()), form(1), self(static_cast<std::size_t>(m));
    e.gradients().row(3, row);
    e.inverse_root_product(std::span<const double>(row), std::span<double>(root));
    for (std::size_t j = 0; j < static_cast<std::size_t>(m); ++j)
      add(root[j], row[j] / std::sqrt(1 + damping));
    e.quadratic_form(row, form);
    add(form[0], rows * large);
    e.self_influence(self);
    for (const double value : self) add(value, rows * large);
  }
  return worst;
}

// ---- windows ------------------------------------------------------------------------------------
//
// Again small integers: with rows of the window and y, M H y = M lambda y + sum g (g . y) has no
// rounding, and H^-1 of it is M y exactly. Of gradients that are all equal, or rows of a Hadamard
// matrix in turn (d a power of two, 8 at least), H^-1 of the newest one is known too.

enum class Stream { random, nearly_parallel, equal, hadamard };

Values gradient_of(Stream stream, std::ptrdiff_t d, std::uint64_t t, std::uint64_t seed) {
  const RandomStream random(seed, 24);
  const auto size = static_cast<std::uint64_t>(d);
  Values g(size);
  for (std::uint64_t j = 0; j < size; ++j) {
    const auto integer = [&](std::uint64_t row, std::uint64_t most) {
      return static_cast<double>(random.below(row * size + j, 2 * most + 1)) -
             static_cast<double>(most);
    };
    if (stream == Stream::random) g[j] = t % 7 == 5 ? 0 : integer(t + 1, 7);
    if (stream == Stream::nearly_parallel) g[j] = integer(0, 7) + integer(t + 1, 1);
    if (stream == Stream::equal) g[j] = integer(0, 7);
    if (stream == Stream::hadamard) g[j] = __builtin_popcountll((t % 4 + 1) & j) % 2 == 0 ? 1 : -1;
  }
  return g;
}

struct WindowErrors {
  double product = 0;  ///< over cond(H) 2^-52
  double said = 0;     ///< over its estimate
};

void measure_window(Stream stream, std::ptrdiff_t m, std::ptrdiff_t d, std::uint64_t steps,
                    mfac::Normalisation normalisation, mfac::Storage storage, int s,
                    std::uint64_t seed, const Common& common, WindowErrors& worst) {
  mfac::WindowOptions options;
  options.damping = std::ldexp(1.0, -s) / static_cast<double>(m);
  options.storage = storage;
  options.normalisation = normalisation;
  options.threads = common.threads;
  mfac::Window window(m, d, options);
  std::vector<Values> rows;
  Values out(static_cast<std::size_t>(d));
  const auto add = [&](const mfac::Diagnosis& known, const Values& exact) {
    const double error = relative_error(out, exact);
    worst.product = std::fmax(
        worst.product, std::isfinite(error) ? error / (known.condition * 0x1p-52) : HUGE_VAL);
    if (error > 0) worst.said = std::fmax(worst.said, error / known.error);
  };
  const Values y = gradient_of(Stream::random, d, 1, seed + 1);
  for (std::uint64_t t = 0; t < steps; ++t) {
    rows.push_back(gradient_of(stream, d, t, seed));
    if (std::ssize(rows) > m) rows.erase(rows.begin());
    const mfac::Diagnosis newest =
        window.step(std::span<const double>(rows.back()), std::span<double>(out));
    const double number = window.normaliser();
    if (stream == Stream::equal || stream == Stream::hadamard) {
      double square = 0;
      for (const double value : rows.back()) square += value * value;
      const auto same = static_cast<double>(std::count(rows.begin(), rows.end(), rows.back()));
      Values exact = rows.back();
      for (double& value : exact) value /= options.damping + square * same / number;
      add(newest, exact);
    }
    Values x(y.size()), exact(y.size());
    for (std::size_t j = 0; j < y.size(); ++j) {
      x[j] = number * options.damping * y[j];
      exact[j] = number * y[j];
    }
    for (const Values& g : rows) {
      double dot = 0;
      for (std::size_t j = 0; j < y.size(); ++j) dot += g[j] * y[j];
      for (std::size_t j = 0; j < y.size(); ++j) x[j] += dot * g[j];
    }
    add(window.inverse_product(std::span<const double>(x), std::span<double>(out)), exact);
  }
}

WindowErrors window_errors(const Common& common) {
  using mfac::Normalisation;
  using mfac::Storage;
  WindowErrors worst;
  std::uint64_t seed = common.seed;
  for (const Stream stream :
       {Stream::random, Stream::nearly_parallel, Stream::equal, Stream::hadamard})
    for (const Normalisation normalisation : {Normalisation::count, Normalisation::window}) {
      for (const std::ptrdiff_t d : {8, 32})
        for (const int s : {0, 10, 25})
          measure_window(stream, 8, d, 20, normalisation, Storage::float64, s, ++seed, common,
                         worst);
      measure_window(stream, 16, 32, 400, normalisation, Storage::float32, 20, ++seed, common,
                     worst);
      measure_window(stream, 64, 32, 100, normalisation, Storage::bfloat16, 20, ++seed, common,
                     worst);
    }
  return worst;
}

// ---- pruning ------------------------------------------------------------------------------------
//
// Against the dense H in 100 digits: w_j^2/(2 (H^-1)_jj), and H_FF delta_F = H_FP w_P for what
// stays.

using Real = boost::multiprecision::number<boost::multiprecision::cpp_bin_float<100>,
                                           boost::multiprecision::et_off>;
using Reals = std::vector<Real>;

/// Solves A x = b for columns b, with A and the columns in rows of n numbers.
std::vector<Reals> solve_dense(Reals a, std::size_t n, std::vector<Reals> columns) {
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j <= i; ++j) {
      Real sum = a[i * n + j];
      for (std::size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      a[i * n + j] = i == j ? Real(sqrt(sum)) : Real(sum / a[j * n + j]);
    }
  for (Reals& b : columns) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
      b[i] /= a[i * n + i];
    }
    for (std::size_t i = n; i-- > 0;) {
      for (std::size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
      b[i] /= a[i * n + i];
    }
  }
  return columns;
}

double relative_error(double value, const Real& exact) {
  const auto error = static_cast<double>(abs((Real(value) - exact) / exact));
  return std::isfinite(error) ? error : HUGE_VAL;
}

/// Of saliencies, weights and the rise of the loss, the largest, over cond(H) 2^-52; infinite for a
/// weight that has no business among those pruned.
double prune_error(std::size_t m, std::size_t d, double damping, double spread, double sparsity,
                   std::uint64_t seed, const Common& common) {
  Values g(m * d), w(d);
  RandomStream(seed, 25).fill_normal(g);
  RandomStream(seed, 26).fill_normal(w);
  for (std::size_t i = d; i < m * d && spread > 0; ++i) g[i] = g[i % d] + spread * g[i];
  Reals h(d * d);
  for (std::size_t i = 0; i < d; ++i)
    for (std::size_t j = 0; j < d; ++j) {
      for (std::size_t k = 0; k < m; ++k) h[i * d + j] += Real(g[k * d + i]) * g[k * d + j];
      h[i * d + j] /= m;
      if (i == j) h[i * d + j] += damping;
    }
  std::vector<Reals> units(d, Reals(d));
  for (std::size_t j = 0; j < d; ++j) units[j][j] = 1;
  const std::vector<Reals> inverse = solve_dense(h, d, units);
  mfac::PruneOptions options;
  options.sparsity = sparsity;
  options.fisher = options_of(damping, common);
  const mfac::Pruned pruned = mfac::prune(
      mfac::Gradients(std::span<const double>(g), static_cast<std::ptrdiff_t>(d)), w, options);
  Reals delta(d);
  Real saliency = 0, most = 0, least = -1;
  std::vector<std::size_t> stay;
  for (std::size_t j = 0; j < d; ++j) {
    const Real own = Real(w[j]) * w[j] / 2 / inverse[j][j];
    if (pruned.mask[j] != 0) {
      stay.push_back(j);
      if (least < 0 || own < least) least = own;
      continue;
    }
    if (pruned.weights[j] != 0) return HUGE_VAL;
    delta[j] = -Real(w[j]);
    saliency += own;
    if (own > most) most = own;
  }
  if (most > least) return HUGE_VAL;
  const std::size_t n = stay.size();
  Reals of_stay(n * n), right(n);
  for (std::size_t a = 0; a < n; ++a) {
    for (std::size_t b = 0; b < n; ++b) of_stay[a * n + b] = h[stay[a] * d + stay[b]];
    for (std::size_t j = 0; j < d; ++j)
      if (pruned.mask[j] == 0) right[a] -= h[stay[a] * d + j] * delta[j];
  }
  const Reals change = solve_dense(of_stay, n, {right})[0];
  Real error = 0, square = 0, rise = 0;
  for (std::size_t a = 0; a < n; ++a) {
    delta[stay[a]] = change[a];
    const Real exact = Real(w[stay[a]]) + change[a], off = Real(pruned.weights[stay[a]]) - exact;
    error += off * off;
    square += exact * exact;
  }
  for (std::size_t i = 0; i < d; ++i)
    for (std::size_t j = 0; j < d; ++j) rise += delta[i] * h[i * d + j] * delta[j] / 2;
  const double worst = std::fmax(static_cast<double>(sqrt(error / square)),
                                 std::fmax(relative_error(pruned.saliency, saliency),
                                           relative_error(pruned.loss_increase, rise)));
  return worst / (pruned.diagnosis.condition * 0x1p-52);
}

double worst_prune_error(const Common& common) {
  double worst = 0;
  std::uint64_t seed = common.seed;
  for (const double sparsity : {0.3, 0.8})
    for (const double damping : {1e-2, 1e-6}) {
      for (const double spread : {0.0, 1e-4})
        worst = std::fmax(worst, prune_error(8, 24, damping, spread, sparsity, ++seed, common));
      worst = std::fmax(worst, prune_error(30, 16, damping, 0, sparsity, ++seed, common));
    }
  return worst;
}

// ---- identities ---------------------------------------------------------------------------------

struct Sample {
  mfac::Gradients gradients;
  double damping;
  std::ptrdiff_t block;
};

Sample sample(std::size_t i, const Common& common) {
  const RandomStream random(common.seed + i, 21);
  const auto m = static_cast<std::ptrdiff_t>(1 + random.below(0, 16));
  const auto d = static_cast<std::ptrdiff_t>(1 + random.below(1, 60));
  const double damping = std::exp(-15 * random.uniform(2));
  const auto block =
      static_cast<std::ptrdiff_t>(random.below(3, 2) == 0 ? 0 : 1 + random.below(4, 30));
  Values g(static_cast<std::size_t>(m * d));
  random.fill_normal(g);
  return {{std::span<const double>(g), d}, damping, block};
}

/// How often `good` is false, of 1000 random cases or more.
template <class F>
Count count(std::ptrdiff_t n, const Common& common, F good) {
  Count result{std::max<std::ptrdiff_t>(1000, n / 1000), 0};
  for (std::ptrdiff_t i = 0; i < result.n; ++i) {
    const Sample s = sample(static_cast<std::size_t>(i), common);
    const mfac::Estimator e(s.gradients, options_of(s.damping, common, s.block));
    if (!good(s, e)) ++result.violations;
  }
  return result;
}

bool close(double a, double b, double tolerance) {
  return std::fabs(a - b) <= tolerance * std::fmax(std::fabs(a), std::fabs(b));
}

void add_identities(Registry& registry) {
  const auto add = [&](const char* name,
                       std::function<Count(std::ptrdiff_t, const Common&)> check) {
    registry.identities.push_back({"mfac", name, std::move(check)});
  };
  add("the trace is the sum of the diagonal", [](std::ptrdiff_t n, const Common& common) {
    return count(n, common, [](const Sample& s, const mfac::Estimator& e) {
      Values diagonal(static_cast<std::size_t>(s.gradients.dimension()));
      e.inverse_diagonal(diagonal);
      double sum = 0;
      for (const double value : diagonal) sum += value;
      return close(sum, e.inverse_trace(), 32 * 0x1p-52 * e.diagnosis().condition);
    });
  });
  add("columns are products with unit vectors", [](std::ptrdiff_t n, const Common& common) {
    return count(n, common, [](const Sample& s, const mfac::Estimator& e) {
      const std::ptrdiff_t d = s.gradients.dimension(), j = d / 3;
      Values x(static_cast<std::size_t>(d)), y(x.size()), column(x.size());
      x[static_cast<std::size_t>(j)] = 1;
      e.inverse_product(std::span<const double>(x), std::span<double>(y));
      for (std::ptrdiff_t i = 0; i < d; ++i)
        column[static_cast<std::size_t>(i)] = e.inverse_element(i, j);
      return relative_error(column, y) <= 32 * 0x1p-52 * e.diagnosis().condition;
    });
  });
  add("the root taken twice is the inverse", [](std::ptrdiff_t n, const Common& common) {
    return count(n, common, [&](const Sample& s, const mfac::Estimator& e) {
      Values x(static_cast<std::size_t>(s.gradients.dimension())), once(x.size()), twice(x.size()),
          y(x.size());
      RandomStream(common.seed, 22).fill_normal(x);
      e.inverse_root_product(std::span<const double>(x), std::span<double>(once));
      e.inverse_root_product(std::span<const double>(once), std::span<double>(twice));
      e.inverse_product(std::span<const double>(x), std::span<double>(y));
      return relative_error(twice, y) <= 64 * 0x1p-52 * e.diagnosis().condition;
    });
  });
  add("one thread and three: the same bits", [](std::ptrdiff_t n, const Common& common) {
    return count(n, common, [&](const Sample& s, const mfac::Estimator& e) {
      Common other = common;
      other.threads = 3;
      const mfac::Estimator f(s.gradients, options_of(s.damping, other, s.block));
      other.threads = 1;
      const mfac::Estimator g(s.gradients, options_of(s.damping, other, s.block));
      Values x(static_cast<std::size_t>(s.gradients.dimension())), a(x.size()), b(x.size()),
          c(x.size());
      RandomStream(common.seed, 23).fill_normal(x);
      e.inverse_product(std::span<const double>(x), std::span<double>(a));
      f.inverse_product(std::span<const double>(x), std::span<double>(b));
      g.inverse_product(std::span<const double>(x), std::span<double>(c));
      const std::size_t bytes = a.size() * sizeof(double);
      return std::memcmp(a.data(), b.data(), bytes) == 0 &&
             std::memcmp(b.data(), c.data(), bytes) == 0;
    });
  });
}

}  // namespace

void register_mfac(Registry& registry) {
  const char* const metric = "relative error/(cond(H) 2^-52)";
  const auto add = [&](const char* name, const char* budget, const char* what, auto error) {
    registry.measurements.push_back({"mfac", name, budget, what, error});
  };
  add("products, exact integers, fp64", "mfac_product", metric,
      [](const Common& common) { return product_error(common, mfac::Storage::float64, 0); });
  add("products, exact integers, fp32", "mfac_product", metric,
      [](const Common& common) { return product_error(common, mfac::Storage::float32, 0); });
  add("products, exact integers, bf16", "mfac_product", metric,
      [](const Common& common) { return product_error(common, mfac::Storage::bfloat16, 0); });
  add("products, exact integers, blocks of 15", "mfac_product", metric,
      [](const Common& common) { return product_error(common, mfac::Storage::float64, 15); });
  add("entries and numbers of a Hadamard matrix", "mfac_diagonal", metric, hadamard_error);
  add("products: error over its estimate", "mfac_underestimate", "ratio", underestimate);
  add("windows of exact integers after every step", "mfac_window", metric,
      [](const Common& common) { return window_errors(common).product; });
  add("windows: error over its estimate", "mfac_underestimate", "ratio",
      [](const Common& common) { return window_errors(common).said; });
  add("pruning: saliency, joint update, rise of the loss", "mfac_prune", metric, worst_prune_error);
  add_identities(registry);
}

}  // namespace validation
