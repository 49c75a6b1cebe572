#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "halfulp/vmf.hpp"

/// A page of figures about a von Mises-Fisher fit or mixture, as SVG text.
///
/// On the circle (p = 2): the density around it, the data as a histogram and as marks. On the
/// sphere (p = 3): the density as colour, the data as dots, each mean direction with the cap that
/// holds 95 % of its component, enlarged where that is small. One component: the angles between the
/// data and its mean direction beside their fitted density, in any dimension. Several: a table with
/// bars for weights and concentrations, numbered from 0 as assignments are. Mean directions as
/// images, and the likelihood of each iteration, where they are given.
///
/// The text is self-contained well-formed XML 1.0 in UTF-8; the same input gives the same bytes.
namespace halfulp::vmf {

struct PictureComponent {
  double weight = 1;       ///< part of the mixture
  double kappa_error = 0;  ///< standard error of kappa; 0: not shown
  double mean_length = 0;
  double count = 0;  ///< observations, or their weight
  Distribution distribution;
};

struct Picture {
  std::string title;
  std::vector<std::string> facts;            ///< one line below; 1e-9 as 10⁻⁹
  std::string alarm;                         ///< shown in a red banner; empty: none
  std::vector<PictureComponent> components;  ///< at least one, of the same dimension p
  std::span<const double> points = {};  ///< rows of p numbers, divided by their norms; may be empty
  std::span<const double> weights = {};  ///< of the points; empty: all 1
  std::vector<double> trace = {};        ///< log-likelihood (or cost) of each iteration
  std::string trace_label = "log-likelihood";
  std::ptrdiff_t image_rows = 0;  ///< mean directions as images of rows x columns = p; 0: none
  std::ptrdiff_t image_columns = 0;
};

/// @throws  ShapeError if there is no component, dimensions differ, points are no rows of p
///          numbers, or an image does not have p pixels; DomainError as log_density
/// @cost    below 2 MB of text; at most 4000 points are drawn, all are counted
[[nodiscard]] std::string draw_svg(const Picture& picture);

}  // namespace halfulp::vmf
