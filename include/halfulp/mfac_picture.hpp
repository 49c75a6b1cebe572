#pragma once

#include <string>
#include <vector>

/// Curves with bands, side by side on one page, as SVG text: what methods reach against what they
/// cost. Self-contained well-formed XML 1.0 in UTF-8; the same input gives the same bytes.
namespace halfulp::mfac {

struct Curve {
  std::string name;
  std::vector<double> x, y;
  std::vector<double> deviation;  ///< half the height of a band about the curve; empty: none
};

struct Panel {
  std::string title, horizontal, vertical;
  std::vector<Curve> curves;  ///< those of equal places in their panels have one colour
};

struct Picture {
  std::string title;
  std::vector<std::string> facts;  ///< one line below
  std::vector<Panel> panels;       ///< one to three
};

/// Points that are not finite are left out.
/// @throws  ShapeError if there are not one to three panels, or x, y and deviation differ in length
[[nodiscard]] std::string draw_svg(const Picture& picture);

}  // namespace halfulp::mfac
