#include "halfulp/mfac_optimizer.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "detail/mfac_window.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using halfulp::detail::require;
using halfulp::detail::require_finite;
using halfulp::detail::require_size;

constexpr std::array<std::pair<Method, std::string_view>, 3> methods{
    {{Method::mfac, "mfac"}, {Method::sgd, "sgd"}, {Method::adam, "adam"}}};
constexpr std::string_view name = "mfac::Optimizer";
constexpr std::ptrdiff_t block = 1 << 14;

bool at_least_zero(double value) { return value >= 0 && std::isfinite(value); }
void check_rate(std::string_view function, double rate) {
  require(rate > 0 && std::isfinite(rate), function, "rate", rate, "> 0 and finite");
}

}  // namespace

std::string_view to_string(Method method) {
  for (const auto& [each, text] : methods)
    if (each == method) return text;
  return "invalid";
}

Method method_from(std::string_view text) {
  for (const auto& [method, each] : methods)
    if (each == text) return method;
  throw DomainError("mfac::method_from", "name", "'" + escape_text(text) + "'",
                    "mfac, sgd or adam");
}

template <class T>
struct Optimizer<T>::State {
  OptimizerOptions options;
  std::ptrdiff_t d;
  std::int64_t steps = 0;
  std::vector<T> first, second;  ///< b, or the moments of adam
  std::vector<T> direction;      ///< u, then the next b or first moment
  std::vector<T> next;           ///< adam: the next second moment; else the gradient with decay
  std::optional<Window> window;

  /// body(j) for each j, in parallel.
  template <class Body>
  void each(const Body& body) const {
    parallel_blocks(d, block, options.threads, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t j = begin; j < end; ++j) body(static_cast<std::size_t>(j));
    });
  }
};

template <class T>
Optimizer<T>::Optimizer(std::ptrdiff_t d, const OptimizerOptions& options)
    : state_(std::make_unique<State>()) {
  require(d >= 1, name, "d", d, ">= 1");
  check_rate(name, options.rate);
  require(options.momentum >= 0 && options.momentum < 1, name, "momentum", options.momentum,
          "in [0, 1)");
  require(at_least_zero(options.decay), name, "decay", options.decay, ">= 0 and finite");
  require(at_least_zero(options.max_step), name, "max_step", options.max_step, ">= 0 and finite");
  require(at_least_zero(options.trust_ratio), name, "trust_ratio", options.trust_ratio,
          ">= 0 and finite");
  require(options.warm_up >= 0, name, "warm_up", options.warm_up, ">= 0");
  require(at_least_zero(options.warm_up_rate), name, "warm_up_rate", options.warm_up_rate,
          ">= 0 and finite");
  require(options.beta1 >= 0 && options.beta1 < 1, name, "beta1", options.beta1, "in [0, 1)");
  require(options.beta2 >= 0 && options.beta2 < 1, name, "beta2", options.beta2, "in [0, 1)");
  require(options.epsilon > 0 && std::isfinite(options.epsilon), name, "epsilon", options.epsilon,
          "> 0 and finite");
  (void)thread_count(options.threads);
  state_->options = options;
  state_->options.window.threads = options.threads;
  state_->d = d;
  const auto n = static_cast<std::size_t>(d);
  state_->direction.resize(n);
  if (options.method == Method::adam || options.momentum > 0) state_->first.resize(n);
  if (options.method == Method::adam) state_->second.resize(n);
  if (options.method == Method::adam || options.decay_in_gradient) state_->next.resize(n);
  if (options.method == Method::mfac)
    state_->window.emplace(options.size, d, state_->options.window);
}
template <class T>
Optimizer<T>::~Optimizer() = default;
template <class T>
Optimizer<T>::Optimizer(Optimizer&&) noexcept = default;
template <class T>
Optimizer<T>& Optimizer<T>::operator=(Optimizer&&) noexcept = default;

template <class T>
void Optimizer<T>::set_rate(double rate) {
  check_rate("mfac::Optimizer::set_rate", rate);
  state_->options.rate = rate;
}
template <class T>
void Optimizer<T>::set_damping(double damping) {
  if (state_->window) state_->window->set_damping(damping);
  state_->options.window.damping = damping;
}
template <class T>
const OptimizerOptions& Optimizer<T>::options() const {
  return state_->options;
}
template <class T>
Window* Optimizer<T>::window() {
  return state_->window ? &*state_->window : nullptr;
}

template <class T>
StepReport Optimizer<T>::step(std::span<const T> gradient, std::span<T> parameters) {
  constexpr std::string_view function = "mfac::Optimizer::step";
  State& s = *state_;
  const OptimizerOptions& o = s.options;
  require_size(function, "gradient", std::ssize(gradient), s.d);
  require_size(function, "parameters", std::ssize(parameters), s.d);
  StepReport report;
  report.step = s.steps + 1;
  report.gradient_norm = detail::norm_of<T>(gradient, o.threads);
  if (!std::isfinite(report.gradient_norm)) require_finite<T>(function, "gradient", gradient);
  const std::span<const T> before(parameters);
  const double size = detail::norm_of<T>(before, o.threads);
  if (!std::isfinite(size)) require_finite<T>(function, "parameters", before);

  const bool adam = o.method == Method::adam;
  double rate = o.rate;
  if (o.decay_in_gradient) {
    std::vector<T>& sum = adam ? s.direction : s.next;  // adam overwrites each number once read
    s.each([&](std::size_t j) {
      sum[j] = static_cast<T>(double{gradient[j]} + o.decay * double{parameters[j]});
    });
    gradient = sum;
  }
  std::vector<T>& u = s.direction;
  if (adam) {
    const double one = 1 - std::pow(o.beta1, static_cast<double>(report.step));
    const double two = 1 - std::pow(o.beta2, static_cast<double>(report.step));
    std::vector<T> moment(static_cast<std::size_t>(s.d));
    s.each([&](std::size_t j) {
      const double g = gradient[j];
      const double m = o.beta1 * double{s.first[j]} + (1 - o.beta1) * g;
      const double v = o.beta2 * double{s.second[j]} + (1 - o.beta2) * g * g;
      moment[j] = static_cast<T>(m);
      s.next[j] = static_cast<T>(v);
      u[j] = static_cast<T>(m / one / (std::sqrt(v / two) + o.epsilon));
    });
    s.first.swap(moment);
    s.second.swap(s.next);
  } else {
    report.warming_up = s.window && s.steps < o.warm_up;
    if (s.window && !report.warming_up) {
      report.diagnosis = s.window->step(gradient, std::span<T>(u));
    } else {
      if (s.window) {
        s.window->add(gradient);
        rate = o.warm_up_rate;
      }
      std::copy(gradient.begin(), gradient.end(), u.begin());
    }
    if (!s.first.empty() && !report.warming_up) {
      s.each([&](std::size_t j) {
        u[j] = static_cast<T>(o.momentum * double{s.first[j]} + double{u[j]});
      });
      s.first = u;
    }
  }
  const double norm = rate * detail::norm_of<T>(std::span<const T>(u), o.threads);
  if (o.max_step > 0 && norm > o.max_step) report.scale = o.max_step / norm;
  if (o.trust_ratio > 0 && size > 0 && norm * report.scale > o.trust_ratio * size)
    report.scale = o.trust_ratio * size / norm;
  report.step_norm = norm * report.scale;
  require(std::isfinite(report.step_norm), function, "|step|", report.step_norm,
          "finite: the rate is too large");
  const double keep = o.decay_in_gradient ? 1 : 1 - rate * o.decay, factor = rate * report.scale;
  s.each([&](std::size_t j) {
    parameters[j] = static_cast<T>(keep * double{parameters[j]} - factor * double{u[j]});
  });
  ++s.steps;
  return report;
}

template class Optimizer<float>;
template class Optimizer<double>;

}  // namespace halfulp::mfac
