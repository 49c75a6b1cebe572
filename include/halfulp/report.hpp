#pragma once

#include <iosfwd>
#include <string_view>

namespace halfulp {

/// How a solver ended. Non-convergence is a result, never an exception.
enum class Status {
  converged,              ///< residual <= tolerance
  max_iterations,         ///< stopped at the limit the caller set
  stagnated,              ///< more work no longer lowers the residual: under-resolved or ill-posed
  not_positive_definite,  ///< a matrix that must be was not
  not_finite,             ///< NaN or infinity appeared
};

[[nodiscard]] std::string_view to_string(Status status);

/// What every iterative or adaptive solver returns beside its result.
struct Report {
  Status status = Status::not_finite;
  int iterations = 0;
  double residual = 0;  ///< what `tolerance` is compared with; the solver's docstring defines it
  double tolerance = 0;
  [[nodiscard]] bool ok() const { return status == Status::converged; }
};

/// `max_iterations after 500: residual 3.1e-09, tolerance 1e-10`
std::ostream& operator<<(std::ostream& out, const Report& report);

}  // namespace halfulp
