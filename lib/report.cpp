#include "halfulp/report.hpp"

#include <ostream>

#include "halfulp/text.hpp"

namespace halfulp {

std::string_view to_string(Status status) {
  switch (status) {
    case Status::converged:
      return "converged";
    case Status::max_iterations:
      return "max_iterations";
    case Status::stagnated:
      return "stagnated";
    case Status::not_positive_definite:
      return "not_positive_definite";
    case Status::not_finite:
      return "not_finite";
  }
  return "invalid";
}

std::ostream& operator<<(std::ostream& out, const Report& report) {
  return out << to_string(report.status) << " after " << report.iterations << ": residual "
             << number_text(report.residual) << ", tolerance " << number_text(report.tolerance);
}

}  // namespace halfulp
