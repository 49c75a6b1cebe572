#include "halfulp/mfac.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <string>

#include "detail/blas_threads.hpp"
#include "detail/mfac_core.hpp"
#include "detail/mfac_product.hpp"
#include "detail/mfac_rows.hpp"
#include "detail/mfac_rows_simd.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using detail::Columns;
using detail::Core;
using detail::DdMatrix;
using detail::Outcome;
using halfulp::detail::OneBlasThread;
using halfulp::detail::require;
using halfulp::detail::require_size;
using Size = std::ptrdiff_t;
using Numbers = std::vector<double>;

constexpr Size task_columns = 1536;  // of W = L^-1 G, of one thread

std::size_t at(Size i) { return static_cast<std::size_t>(i); }

void check_options(const char* function, const Gradients& gradients, const Options& options) {
  require(options.damping >= 0x1p-500 && options.damping <= 0x1p500, function, "damping",
          options.damping, "> 0, and between 2^-500 and 2^500");
  require(options.block >= 0, function, "block", options.block, ">= 0");
  require(options.refinements >= 0, function, "refinements", options.refinements, ">= 0");
  require(gradients.rows() > 0, function, "gradients.rows()", gradients.rows(), "> 0");
}

Size block_count(const Gradients& gradients, const Options& options) {
  const Size d = gradients.dimension();
  return options.block > 0 ? (d + options.block - 1) / options.block : 1;
}

Columns block_columns(const Gradients& gradients, const Options& options, Size b) {
  const Size d = gradients.dimension(), size = options.block > 0 ? options.block : d;
  return {b * size, std::min((b + 1) * size, d)};
}

/// Calls body(b, threads) for each block: many blocks side by side, few one after the other, with
/// all threads in each. What a block computes is the same either way.
void each_block(Size blocks, int threads, const std::function<void(Size, int)>& body) {
  if (blocks < 4 * static_cast<Size>(threads)) {
    for (Size b = 0; b < blocks; ++b) body(b, threads);
  } else {
    parallel_for(blocks, threads, [&](Size b) { body(b, 1); });
  }
}

/// The same in parts, with reports between them.
void each_block(Size blocks, int threads, const Progress& progress, const char* function,
                const std::function<void(Size, int)>& body) {
  constexpr Size part = 4096;  // starting threads is not free
  for (Size first = 0; first < blocks; first += part) {
    report_progress(progress, static_cast<double>(first) / static_cast<double>(blocks),
                    "blocks of the matrix", function);
    each_block(std::min(part, blocks - first), threads,
               [&](Size b, int inner) { body(first + b, inner); });
  }
}

/// What is known of a block's factorisation, added to what is known of the others.
void add_block(Diagnosis& all, const Core& core) {
  all.condition = std::fmax(all.condition, core.condition());
  if (core.lost() >= 0 && all.pivot < 0) {
    all.pivot = core.lost();
    all.pivot_value = core.lost_value();
    all.status = Conditioning::lost;
  }
  if (all.status == Conditioning::good && all.condition * 0x1p-52 > 1e-3)
    all.status = Conditioning::ill;
}

/// The largest relative error of the k vectors, each of whose blocks has an outcome.
double worst_error(const std::vector<Outcome>& outcomes, Size blocks, Size k) {
  double worst = 0;
  for (Size c = 0; c < k; ++c) {
    double largest = 0, error = 0, square = 0;
    for (Size b = 0; b < blocks; ++b) largest = std::fmax(largest, outcomes[at(b * k + c)].norm);
    if (!(largest > 0)) continue;
    for (Size b = 0; b < blocks; ++b) {
      const Outcome& o = outcomes[at(b * k + c)];
      const double share = o.norm / largest;
      error += o.relative * share * (o.relative * share);
      square += share * share;
    }
    worst = std::fmax(worst, std::sqrt(error / square));
  }
  return worst;
}

Size vectors_in(const char* function, Size numbers, Size each) {
  const Size k = numbers / each;
  if (k * each != numbers)
    throw ShapeError(function, "x.size()", std::to_string(numbers),
                     "a multiple of " + std::to_string(each));
  return k;
}

/// Refuses an x whose product no T can hold. Only where a norm, |y| times the damping or its root,
/// is that large are the numbers looked at.
template <class T>
void require_finite_product(const char* function, const std::vector<Outcome>& outcomes,
                            double damping, std::span<const T> y, Size d) {
  const double most = static_cast<double>(std::numeric_limits<T>::max()) * std::fmin(damping, 1);
  if (std::all_of(outcomes.begin(), outcomes.end(),
                  [&](const Outcome& o) { return o.norm <= most; }))
    return;
  for (std::size_t j = 0; j < y.size(); ++j)
    if (!std::isfinite(y[j]))
      throw DomainError(function, halfulp::detail::element_name("y", j, y.size(), d),
                        halfulp::number_text(y[j]),
                        "finite: x is too large for a product of this type");
}

bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto* const x = static_cast<const char*>(a);
  const auto* const y = static_cast<const char*>(b);
  return std::less<>()(x, y + b_bytes) && std::less<>()(y, x + a_bytes);
}

}  // namespace

std::string_view to_string(Conditioning conditioning) {
  switch (conditioning) {
    case Conditioning::good:
      return "good";
    case Conditioning::ill:
      return "ill";
    case Conditioning::lost:
      return "lost";
  }
  return "invalid";
}

struct Estimator::State {
  Gradients gradients;
  Options options;
  int threads = 1;
  std::vector<std::unique_ptr<Core>> cores;
  Diagnosis diagnosis;
  std::mutex mutex;
  std::vector<Numbers> solved;  ///< of each block the columns L^-1 G, or L^-1

  [[nodiscard]] Size blocks() const { return std::ssize(cores); }
  [[nodiscard]] Size block_of(Size column) const {
    return options.block > 0 ? column / options.block : 0;
  }
  [[nodiscard]] bool any_extended() const {
    return std::any_of(cores.begin(), cores.end(),
                       [](const auto& core) { return core->extended_only(); });
  }
  [[nodiscard]] Diagnosis with_error(double error) const {
    Diagnosis d = diagnosis;
    d.error = error;
    return d;
  }

  template <class T>
  Diagnosis product(const char* function, std::span<const T> x, std::span<T> y,
                    detail::Power power) {
    const Size d = gradients.dimension(), k = vectors_in(function, std::ssize(x), d);
    require_size(function, "y", std::ssize(y), k * d);
    std::vector<T> copy;
    if (overlap(x.data(), x.size_bytes(), y.data(), y.size_bytes())) {
      copy.assign(x.begin(), x.end());  // refinement needs x when y is there
      x = copy;
    }
    std::vector<Outcome> outcomes(at(blocks() * k));
    const OneBlasThread one;
    each_block(blocks(), threads, [&](Size b, int inner) {
      detail::product(function, gradients, *cores[at(b)], options, power, x, k, y, inner,
                      std::span(outcomes).subspan(at(b * k), at(k)));
    });
    require_finite_product<T>(function, outcomes, options.damping, y, d);
    return with_error(worst_error(outcomes, blocks(), k));
  }

  template <class T>
  Diagnosis combination(const char* function, std::span<const double> a, std::span<T> y) {
    const Size d = gradients.dimension(), m = gradients.rows();
    const Size k = vectors_in(function, std::ssize(a), m);
    require_size(function, "y", std::ssize(y), k * d);
    halfulp::detail::require_finite(function, "a", a, m);
    std::vector<Outcome> outcomes(at(blocks() * k));
    const OneBlasThread one;
    each_block(blocks(), threads, [&](Size b, int inner) {
      detail::combination(gradients, *cores[at(b)], options, a, k, y, inner,
                          std::span(outcomes).subspan(at(b * k), at(k)));
    });
    require_finite_product<T>(function, outcomes, options.damping, y, d);
    return with_error(worst_error(outcomes, blocks(), k));
  }

  void solve_columns();
  [[nodiscard]] std::span<const double> solved_column(Size j) const;
  double element(Size i, Size j, std::span<const double> w_i, std::span<const double> w_j) const;
};

Estimator::Estimator(Gradients gradients, const Options& options)
    : state_(new State{std::move(gradients), options, 1, {}, {}, {}, {}}) {
  constexpr const char* function = "mfac::Estimator";
  State& s = *state_;
  check_options(function, s.gradients, options);
  s.threads = thread_count(options.threads);
  const Size blocks = block_count(s.gradients, options);
  s.cores.resize(at(blocks));
  const OneBlasThread one;
  const auto make = [&](Size b, int inner) {
    s.cores[at(b)] =
        std::make_unique<Core>(s.gradients, block_columns(s.gradients, options, b), options, inner,
                               Numbers{}, blocks == 1 ? options.progress : Progress{}, function);
  };
  if (blocks == 1)
    make(0, s.threads);
  else
    each_block(blocks, s.threads, options.progress, function, make);
  for (const auto& core : s.cores) {
    add_block(s.diagnosis, *core);
    s.diagnosis.error = std::fmax(s.diagnosis.error, detail::worst_product_error(*core));
  }
}
Estimator::~Estimator() = default;
Estimator::Estimator(Estimator&&) noexcept = default;
Estimator& Estimator::operator=(Estimator&&) noexcept = default;

const Gradients& Estimator::gradients() const { return state_->gradients; }
const Options& Estimator::options() const { return state_->options; }
Diagnosis Estimator::diagnosis() const { return state_->diagnosis; }

Diagnosis Estimator::inverse_product(std::span<const double> x, std::span<double> y) const {
  return state_->product("mfac::Estimator::inverse_product", x, y, detail::Power::inverse);
}
Diagnosis Estimator::inverse_product(std::span<const float> x, std::span<float> y) const {
  return state_->product("mfac::Estimator::inverse_product", x, y, detail::Power::inverse);
}
Diagnosis Estimator::inverse_root_product(std::span<const double> x, std::span<double> y) const {
  return state_->product("mfac::Estimator::inverse_root_product", x, y,
                         detail::Power::inverse_root);
}
Diagnosis Estimator::inverse_root_product(std::span<const float> x, std::span<float> y) const {
  return state_->product("mfac::Estimator::inverse_root_product", x, y,
                         detail::Power::inverse_root);
}
Diagnosis Estimator::inverse_combination(std::span<const double> a, std::span<double> y) const {
  return state_->combination("mfac::Estimator::inverse_combination", a, y);
}
Diagnosis Estimator::inverse_combination(std::span<const double> a, std::span<float> y) const {
  return state_->combination("mfac::Estimator::inverse_combination", a, y);
}

void Estimator::product(std::span<const double> x, std::span<double> y) const {
  constexpr const char* function = "mfac::Estimator::product";
  const State& s = *state_;
  const Size d = s.gradients.dimension(), m = s.gradients.rows();
  const Size k = vectors_in(function, std::ssize(x), d);
  require_size(function, "y", std::ssize(y), k * d);
  halfulp::detail::require_finite(function, "x", x, d);
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int inner) {
    const Columns columns = s.cores[at(b)]->columns();
    Numbers c(at(m * k));
    detail::project(s.gradients, columns, x, k, s.options.products, inner, std::span(c), {});
    for (double& value : c) value /= static_cast<double>(m);
    detail::combine<double>(s.gradients, columns, c, k, s.options.damping, x, s.options.products,
                            inner, y);
  });
}

// ---- entries ------------------------------------------------------------------------------------
//
// With the columns w_j = L^-1 g_j of W, g_j a column of G, H^-1 = (I - W^T W)/lambda; where H
// itself is factorised, w_j = L^-1 e_j and H^-1 = m W^T W.

namespace {

/// The w_j of columns `list` of a block, in double-double, by columns.
DdMatrix extended_columns(const Gradients& gradients, const Core& core,
                          std::span<const Size> list) {
  DdMatrix w(core.size(), std::ssize(list));
  for (Size c = 0; c < w.cols(); ++c)
    if (core.by_columns())
      w.set(list[at(c)] - core.columns().begin, c, 1.0);
    else
      detail::load_column(gradients, list[at(c)], w.hi(c));
  return halfulp::detail::solve_upper_transposed(core.extended().factor.r, std::move(w));
}

struct Entry {
  double value = 0;
  double relative = 0;  ///< estimate of its error
};

/// (H^-1)_ij from w_i and w_j, columns p and q of w.
Entry extended_entry(const Core& core, const Options& options, Size m, const DdMatrix& w, Size p,
                     Size q, bool same) {
  const auto dot = [&](Size a, Size b) {
    return halfulp::detail::dot(w.rows(), w.hi(a), w.lo(a), w.hi(b), w.lo(b));
  };
  const dd product = dot(p, q);
  const double norms = std::sqrt(dot(p, p).hi) * std::sqrt(dot(q, q).hi);
  if (core.by_columns()) {
    const double value = (product * static_cast<double>(m)).hi;
    return {same ? std::fmin(value, 1 / options.damping) : value,
            detail::extended_entry_error(core, norms, product.hi)};
  }
  const dd rest = dd(same ? 1.0 : 0.0) - product;
  return {(rest / options.damping).hi, detail::extended_entry_error(core, norms, rest.hi)};
}

/// The same in double from w_i . w_j and the norms. A rounding of A shows as |A| |A^-1 g_i|
/// |A^-1 g_j|: |A^-1 g_i| is not above |w_i| over the root of A's smallest eigenvalue, and not
/// above |A^-1 G| = rho either, which is small where small eigenvalues of A have nothing of G. The
/// solution for w_i itself costs a rounding times cond(L).
Entry entry(const Core& core, const Options& options, Size m, bool same, double dot, double norm_i,
            double norm_j) {
  const double unit = std::fmax(core.core_unit(), core.pass_unit());
  double error = core.core_condition() * norm_i * norm_j;
  if (!core.by_columns()) {
    const double through = core.rho() * core.rho() * (core.largest() + core.shift());
    error = std::fmin(error, through + std::sqrt(core.core_condition()) * norm_i * norm_j);
  }
  error *= unit;
  if (core.by_columns()) {
    const double value = static_cast<double>(m) * dot;
    return {same ? std::fmin(value, 1 / options.damping) : value,
            dot == 0 ? 0 : error / std::fabs(dot) + unit};
  }
  const double rest = same ? 1 - dot : -dot;
  // w_i or w_j may be 0: so is the entry then, and exactly
  return {rest / options.damping, rest == 0 && error == 0 ? 0 : error / std::fabs(rest) + unit};
}

/// Whether an entry needs more than double: the promise is 50 cond(H) 2^-52.
bool needs_more(const Core& core, const Entry& e) {
  return core.may_extend() && !(e.relative <= 0x1p-48 * core.condition());
}

}  // namespace

void Estimator::State::solve_columns() {
  const std::lock_guard lock(mutex);
  if (!solved.empty()) return;
  std::vector<Numbers> all(at(blocks()));
  const OneBlasThread one;
  each_block(blocks(), threads, [&](Size b, int inner) {
    const Core& core = *cores[at(b)];
    const Size n = core.size(), width = core.width();
    Numbers& w = all[at(b)];
    w.resize(at(n * width));
    if (core.by_columns()) {
      for (Size j = 0; j < n; ++j) w[at(j + j * n)] = 1;
      core.solve_lower(n, w.data());
      return;
    }
    const Numbers& factor = core.solve_factor();
    const Size first = core.columns().begin;
    parallel_blocks(width, task_columns, inner, [&](Size begin, Size end) {
      detail::solve_columns(gradients, {first + begin, first + end}, factor,
                            [&](detail::Columns c, const double* solved, const double*) {
                              for (Size j = c.begin; j < c.end; ++j)
                                for (Size i = 0; i < n; ++i)
                                  w[at(i + (j - first) * n)] =
                                      solved[detail::mfac_solve_columns * i + j - c.begin];
                            });
    });
  });
  solved = std::move(all);
}

std::span<const double> Estimator::State::solved_column(Size j) const {
  const Size b = block_of(j), n = cores[at(b)]->size();
  return std::span(solved[at(b)]).subspan(at((j - cores[at(b)]->columns().begin) * n), at(n));
}

/// (H^-1)_ij of columns of one block.
double Estimator::State::element(Size i, Size j, std::span<const double> w_i,
                                 std::span<const double> w_j) const {
  const Core& core = *cores[at(block_of(i))];
  const Size m = gradients.rows();
  const int n = static_cast<int>(core.size());
  if (!core.extended_only()) {
    const double norm_i = cblas_dnrm2(n, w_i.data(), 1), norm_j = cblas_dnrm2(n, w_j.data(), 1);
    const double dot = cblas_ddot(n, w_i.data(), 1, w_j.data(), 1);
    const Entry e = entry(core, options, m, i == j, dot, norm_i, norm_j);
    if (!needs_more(core, e)) return e.value;
  }
  const Size list[] = {i, j};
  const DdMatrix w = extended_columns(gradients, core, list);
  return extended_entry(core, options, m, w, 0, 1, i == j).value;
}

double Estimator::inverse_element(Size i, Size j) const {
  constexpr const char* function = "mfac::Estimator::inverse_element";
  State& s = *state_;
  const Size d = s.gradients.dimension();
  const std::string rule = "in 0 ... " + std::to_string(d - 1);
  require(i >= 0 && i < d, function, "i", i, rule);
  require(j >= 0 && j < d, function, "j", j, rule);
  if (s.block_of(i) != s.block_of(j)) return 0;
  if (s.cores[at(s.block_of(i))]->extended_only()) return s.element(i, j, {}, {});
  s.solve_columns();
  const OneBlasThread one;
  return s.element(i, j, s.solved_column(i), s.solved_column(j));
}

Diagnosis Estimator::inverse_diagonal(std::span<double> out) const {
  constexpr const char* function = "mfac::Estimator::inverse_diagonal";
  const State& s = *state_;
  const Size m = s.gradients.rows();
  require_size(function, "out", std::ssize(out), s.gradients.dimension());
  std::vector<Outcome> outcomes(at(s.blocks()));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int inner) {
    const Core& core = *s.cores[at(b)];
    const Size n = core.size(), width = core.width(), first = core.columns().begin;
    const Size tasks = (width + task_columns - 1) / task_columns;
    Numbers worst(at(tasks));
    std::vector<std::vector<Size>> again(at(tasks));  // columns for double-double
    const auto note = [&](Size t, Size j, double square) {
      const double norm = std::sqrt(square);
      const Entry e = entry(core, s.options, m, true, square, norm, norm);
      out[at(first + j)] = e.value;
      if (needs_more(core, e))
        again[at(t)].push_back(first + j);
      else
        worst[at(t)] = std::fmax(worst[at(t)], e.relative);
    };
    const auto by_columns = [&](Size t, Size from, Size to) {
      constexpr Size some = 64;
      Numbers w;
      for (Size begin = from; begin < to; begin += some) {
        const Size size = std::min(some, to - begin);
        w.assign(at(size * n), 0.0);
        for (Size j = 0; j < size; ++j) w[at(j * n + begin + j)] = 1;
        core.solve_lower(size, w.data());
        for (Size j = 0; j < size; ++j) {
          double square = 0;
          for (Size i = 0; i < n; ++i) square += w[at(j * n + i)] * w[at(j * n + i)];
          note(t, begin + j, square);
        }
      }
    };
    parallel_for(tasks, inner, [&](Size t) {
      const Size from = t * task_columns, to = std::min(from + task_columns, width);
      if (core.extended_only())
        for (Size j = from; j < to; ++j) again[at(t)].push_back(first + j);
      else if (core.by_columns())
        by_columns(t, from, to);
      else
        detail::solve_columns(s.gradients, {first + from, first + to}, core.solve_factor(),
                              [&](detail::Columns c, const double*, const double* squares) {
                                for (Size j = c.begin; j < c.end; ++j)
                                  note(t, j - first, squares[j - c.begin]);
                              });
    });
    // The sum of all |w_j|^2 is less than n, so that few columns are near 1: these, and those of a
    // core that is in double-double altogether.
    for (const auto& list : again) {
      if (list.empty()) continue;
      const DdMatrix w = extended_columns(s.gradients, core, list);
      for (Size c = 0; c < w.cols(); ++c) {
        const Entry e = extended_entry(core, s.options, m, w, c, c, true);
        out[at(list[at(c)])] = e.value;
        worst.push_back(e.relative);
      }
    }
    outcomes[at(b)] = {*std::max_element(worst.begin(), worst.end()), 1};
  });
  double error = 0;
  for (const Outcome& o : outcomes) error = std::fmax(error, o.relative);
  return s.with_error(error);
}

Diagnosis Estimator::inverse_block(std::span<const Size> indices, std::span<double> out) const {
  constexpr const char* function = "mfac::Estimator::inverse_block";
  const State& s = *state_;
  const Size d = s.gradients.dimension(), m = s.gradients.rows(), size = std::ssize(indices);
  for (Size c = 0; c < size; ++c)
    require(indices[at(c)] >= 0 && indices[at(c)] < d, function,
            "indices[" + std::to_string(c) + "]", indices[at(c)],
            "in 0 ... " + std::to_string(d - 1));
  require_size(function, "out", std::ssize(out), size * size);
  std::fill(out.begin(), out.end(), 0.0);
  // the places of `indices` by blocks
  std::vector<Size> order(at(size));
  for (Size c = 0; c < size; ++c) order[at(c)] = c;
  std::stable_sort(order.begin(), order.end(), [&](Size a, Size b) {
    return s.block_of(indices[at(a)]) < s.block_of(indices[at(b)]);
  });
  double error = 0;
  const OneBlasThread one;
  for (Size begin = 0; begin < size;) {
    const Size block = s.block_of(indices[at(order[at(begin)])]);
    Size end = begin;
    std::vector<Size> list;
    for (; end < size && s.block_of(indices[at(order[at(end)])]) == block; ++end)
      list.push_back(indices[at(order[at(end)])]);
    const Core& core = *s.cores[at(block)];
    const Size n = core.size(), count = end - begin;
    Numbers w, product;
    if (!core.extended_only()) {
      w.resize(at(n * count));
      product.resize(at(count * count));
      parallel_blocks(count, 64, s.threads, [&](Size from, Size to) {
        for (Size c = from; c < to; ++c)
          if (core.by_columns())
            w[at(c * n + list[at(c)] - core.columns().begin)] = 1;
          else
            detail::load_column(s.gradients, list[at(c)], w.data() + c * n);
        core.solve_lower(to - from, w.data() + from * n);
      });
      cblas_dsyrk(CblasColMajor, CblasLower, CblasTrans, static_cast<int>(count),
                  static_cast<int>(n), 1.0, w.data(), static_cast<int>(n), 0.0, product.data(),
                  static_cast<int>(count));
    }
    DdMatrix extended;  // formed when the first entry needs it
    for (Size q = 0; q < count; ++q)
      for (Size p = q; p < count; ++p) {
        const bool same = list[at(p)] == list[at(q)];
        Entry e;
        if (!core.extended_only())
          e = entry(core, s.options, m, same, product[at(p + q * count)],
                    std::sqrt(product[at(p + p * count)]), std::sqrt(product[at(q + q * count)]));
        if (core.extended_only() || needs_more(core, e)) {
          if (extended.cols() == 0) extended = extended_columns(s.gradients, core, list);
          e = extended_entry(core, s.options, m, extended, p, q, same);
        }
        error = std::fmax(error, e.relative);
        const Size row = order[at(begin + p)], column = order[at(begin + q)];
        out[at(row * size + column)] = out[at(column * size + row)] = e.value;
      }
    begin = end;
  }
  return s.with_error(error);
}

// ---- numbers ------------------------------------------------------------------------------------

namespace {

/// Eigenvalues of S, each >= 0.
Numbers eigenvalues(const Core& core) {
  if (!core.extended_only()) return core.eigen().values;
  Numbers values;
  for (const dd value : core.extended_eigen().values) values.push_back(std::fmax(value.hi, 0.0));
  return values;
}

}  // namespace

double Estimator::log_determinant() const {
  // log det H_b = width log lambda + sum log(1 + s/(m lambda)), over the eigenvalues s of S
  const State& s = *state_;
  Numbers parts(at(s.blocks()));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int) {
    const Core& core = *s.cores[at(b)];
    for (const double value : eigenvalues(core)) parts[at(b)] += std::log1p(value / core.shift());
  });
  double sum = static_cast<double>(s.gradients.dimension()) * std::log(s.options.damping);
  for (const double part : parts) sum += part;
  return sum;
}

double Estimator::inverse_trace() const {
  // tr H_b^-1 = (width - n + sum m lambda/(m lambda + s))/lambda, no term of which is negative:
  // n = m < width, or n = width
  const State& s = *state_;
  Numbers parts(at(s.blocks()));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int) {
    const Core& core = *s.cores[at(b)];
    parts[at(b)] = static_cast<double>(core.width() - core.size());
    for (const double value : eigenvalues(core))
      parts[at(b)] += core.shift() / (core.shift() + value);
  });
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum / s.options.damping;
}

Diagnosis Estimator::quadratic_form(std::span<const double> x, std::span<double> out) const {
  constexpr const char* function = "mfac::Estimator::quadratic_form";
  const State& s = *state_;
  const Size k = vectors_in(function, std::ssize(x), s.gradients.dimension());
  require_size(function, "out", std::ssize(out), k);
  halfulp::detail::require_finite(function, "x", x, s.gradients.dimension());
  Numbers parts(at(s.blocks() * k)), errors(at(s.blocks()));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int inner) {
    errors[at(b)] = detail::quadratic_form(s.gradients, *s.cores[at(b)], s.options, x, k, inner,
                                           std::span(parts).subspan(at(b * k), at(k)));
  });
  std::fill(out.begin(), out.end(), 0.0);
  for (Size b = 0; b < s.blocks(); ++b)
    for (Size c = 0; c < k; ++c) out[at(c)] += parts[at(b * k + c)];
  return s.with_error(*std::max_element(errors.begin(), errors.end()));
}

Diagnosis Estimator::influence(std::span<const double> x, std::span<double> out) const {
  constexpr const char* function = "mfac::Estimator::influence";
  const State& s = *state_;
  const Size m = s.gradients.rows(),
             k = vectors_in(function, std::ssize(x), s.gradients.dimension());
  require_size(function, "out", std::ssize(out), k * m);
  halfulp::detail::require_finite(function, "x", x, s.gradients.dimension());
  std::vector<Numbers> parts(at(s.blocks()));
  std::vector<Outcome> outcomes(at(s.blocks() * k));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int inner) {
    parts[at(b)].resize(at(k * m));
    detail::influence(s.gradients, *s.cores[at(b)], s.options, x, k, inner, parts[at(b)],
                      std::span(outcomes).subspan(at(b * k), at(k)));
  });
  std::fill(out.begin(), out.end(), 0.0);
  for (const Numbers& part : parts)
    for (Size i = 0; i < k * m; ++i) out[at(i)] += part[at(i)];
  return s.with_error(worst_error(outcomes, s.blocks(), k));
}

void Estimator::self_influence(std::span<double> out) const {
  constexpr const char* function = "mfac::Estimator::self_influence";
  const State& s = *state_;
  const Size m = s.gradients.rows();
  require_size(function, "out", std::ssize(out), m);
  std::vector<Numbers> parts(at(s.blocks()));
  const OneBlasThread one;
  each_block(s.blocks(), s.threads, [&](Size b, int) {
    parts[at(b)] = detail::self_influence(s.gradients, *s.cores[at(b)], s.options);
  });
  std::fill(out.begin(), out.end(), 0.0);
  for (const Numbers& part : parts)
    for (Size i = 0; i < m; ++i) out[at(i)] += part[at(i)];
}

// ---- without keeping the factorisation ----------------------------------------------------------

Diagnosis inverse_product(const Gradients& gradients, std::span<const double> x,
                          std::span<double> y, const Options& options) {
  constexpr const char* function = "mfac::inverse_product";
  check_options(function, gradients, options);
  const Size d = gradients.dimension(), m = gradients.rows();
  const Size k = vectors_in(function, std::ssize(x), d);
  require_size(function, "y", std::ssize(y), k * d);
  Numbers copy;
  if (overlap(x.data(), x.size_bytes(), y.data(), y.size_bytes())) {
    copy.assign(x.begin(), x.end());
    x = copy;
  }
  const int threads = thread_count(options.threads);
  const Size blocks = block_count(gradients, options);
  std::vector<Outcome> outcomes(at(blocks * k));
  std::vector<Diagnosis> each(at(blocks));
  const OneBlasThread one;
  const auto body = [&](Size b, int inner) {
    const Columns columns = block_columns(gradients, options, b);
    const Progress progress = blocks == 1 ? part_of(options.progress, 0, 0.5) : Progress{};
    const auto part = std::span(outcomes).subspan(at(b * k), at(k));
    if (columns.end - columns.begin <= m) {
      const Core core(gradients, columns, options, inner, {}, progress, function);
      add_block(each[at(b)], core);
      detail::product(function, gradients, core, options, detail::Power::inverse, x, k, y, inner,
                      part);
      return;
    }
    Numbers gram(at(m * m));
    detail::Projections p{Numbers(at(k * m)), Numbers(at(k))};
    detail::gram_and_project(gradients, columns, x, k, options.gram, inner, gram, p.dots, p.squares,
                             progress);
    const Core core(gradients, columns, options, inner, std::move(gram), progress, function);
    add_block(each[at(b)], core);
    detail::product(function, gradients, core, options, detail::Power::inverse, x, k, y, inner,
                    part, std::move(p));
  };
  if (blocks == 1)
    body(0, threads);
  else
    each_block(blocks, threads, options.progress, function, body);
  Diagnosis all;
  for (const Diagnosis& d_b : each) {
    all.condition = std::fmax(all.condition, d_b.condition);
    if (all.pivot < 0 && d_b.pivot >= 0) all.pivot = d_b.pivot, all.pivot_value = d_b.pivot_value;
    all.status = std::max(all.status, d_b.status);
  }
  require_finite_product<double>(function, outcomes, options.damping, y, d);
  all.error = worst_error(outcomes, blocks, k);
  return all;
}

}  // namespace halfulp::mfac
