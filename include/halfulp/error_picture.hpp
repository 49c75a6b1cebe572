#pragma once

#include <string>
#include <utility>
#include <vector>

/// Errors of a function of two arguments beside their limit, as SVG text: over both arguments, at
/// the seams between its methods, and how many points have which error, other libraries on the same
/// axes. Self-contained well-formed XML 1.0 in UTF-8; the same input gives the same bytes.
namespace halfulp {

/// A logarithmic axis from 10^lower to 10^upper, lower < upper; what is beyond is drawn at the
/// ends.
struct DecadeAxis {
  std::string name;
  double lower = 0;
  double upper = 1;
};

struct ErrorPicture {
  /// One point at which the function was measured. Those whose place or error is NaN are left out.
  struct Point {
    double across;  ///< log10, as all places
    double up;
    double error;  ///< over the limit
  };
  struct Seam {
    double along;
    double error;  ///< over the limit
  };
  struct Errors {
    std::string name;
    std::vector<double> values;  ///< increasing; infinite where the function failed
  };
  std::string title;
  std::vector<std::string> facts;  ///< one line below
  DecadeAxis across, up;
  std::vector<Point> points;
  DecadeAxis along;
  std::vector<std::pair<std::string, std::vector<Seam>>> seams;  ///< by their names; up to three
  std::string unit;                                              ///< of `distributions`
  std::vector<Errors> distributions;
};

/// @throws  DomainError if an axis has not lower < upper
[[nodiscard]] std::string draw_svg(const ErrorPicture& picture);

}  // namespace halfulp
