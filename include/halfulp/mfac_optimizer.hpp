#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "halfulp/mfac_window.hpp"

/// Gradient descent preconditioned by a window of gradients, and the usual optimisers in the same
/// interface to compare with.
///
///     halfulp::mfac::Optimizer<float> optimizer(d, {.rate = 1e-3, .window = {.damping = 1e-5}});
///     const auto step = optimizer.step(gradient, parameters);    // parameters change in place
namespace halfulp::mfac {

enum class Method {
  mfac,  ///< u = H^-1 g, with g in the window already
  sgd,   ///< u = g
  adam,  ///< u = m/(sqrt(v) + epsilon), both moments corrected for their start
};
[[nodiscard]] std::string_view to_string(Method method);
/// @throws  DomainError for any other name
[[nodiscard]] Method method_from(std::string_view name);

/// theta the parameters, g the gradient, eta the rate, w the decay, mu the momentum. A step is
///
///     b := mu b + u,      step = -eta b,      theta := (1 - eta w) theta + step,
///
/// and with `decay_in_gradient` g + w theta in the place of g and no factor of theta. `adam` has no
/// b: its momentum is beta1.
struct OptimizerOptions {
  Method method = Method::mfac;
  double rate = 1e-3;              ///< eta > 0
  double momentum = 0;             ///< mu in [0, 1)
  double decay = 0;                ///< w >= 0
  bool decay_in_gradient = false;  ///< as an L2 penalty; else decoupled
  /// The step is scaled down to this 2-norm at most; 0: as it is.
  double max_step = 0;
  /// And to this part of |theta|, where |theta| > 0; 0: as it is.
  double trust_ratio = 0;
  /// `mfac`: so many first gradients only fill the window; their steps are those of `sgd` with
  /// `warm_up_rate`, which may be 0.
  std::ptrdiff_t warm_up = 0;
  double warm_up_rate = 0;
  std::ptrdiff_t size = 512;  ///< m, of the window
  WindowOptions window = {.damping = 1e-5};
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;  ///< of `adam`
  int threads = 0;                                    ///< of all, the window too
};

struct StepReport {
  std::int64_t step = 0;     ///< 1, 2, ...
  double gradient_norm = 0;  ///< of what was given
  double step_norm = 0;      ///< of `step`, the change without decoupled decay
  double scale = 1;          ///< what max_step and trust_ratio scaled it by
  bool warming_up = false;
  Diagnosis diagnosis;  ///< of H^-1 g; as it begins for other methods
};

/// T is float or double: parameters, gradients and moments; sums of each number are formed in
/// double and rounded once.
/// @throws    DomainError for options by name and for what is not finite, by index; ShapeError.
///            Nothing has changed then. A step that overflows T is a DomainError too
/// @cost      beside the window: d numbers of T for b (2 d for `adam`), d more for u. Same bits for
///            any number of threads
/// @source    Frantar, Kurtic, Alistarh (2021), arXiv:2107.03356, 3.2 and 4.2; Kingma, Ba (2015),
///            arXiv:1412.6980, algorithm 1; Loshchilov, Hutter (2019), arXiv:1711.05101, decoupled
template <class T>
class Optimizer {
 public:
  Optimizer(std::ptrdiff_t d, const OptimizerOptions& options);
  ~Optimizer();
  Optimizer(Optimizer&&) noexcept;
  Optimizer& operator=(Optimizer&&) noexcept;

  StepReport step(std::span<const T> gradient, std::span<T> parameters);
  void set_rate(double rate);
  void set_damping(double damping);  ///< of the window
  [[nodiscard]] const OptimizerOptions& options() const;
  [[nodiscard]] Window* window();  ///< null unless the method is `mfac`

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace halfulp::mfac
