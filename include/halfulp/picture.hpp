#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

/// A page of figures about a computed field, as SVG text: solution, error and spectrum.
///
/// One dimension: the solution over the whole interval, a few wavelengths of it enlarged, the error
/// on a logarithmic axis, the spectrum with its bands. Two: the same as colour images, one spectrum
/// an axis. Nothing is aliased: a curve that oscillates faster than the pixels is drawn as the band
/// between its envelopes, an image is accompanied by an enlarged part.
///
/// The text is self-contained well-formed XML 1.0 in UTF-8 whatever the strings hold; the same
/// input gives the same bytes. Numbers that are not finite are left out and counted in the figure.
namespace halfulp {

/// One dimension of the domain and what is known of the solution's spectrum along it.
struct PictureAxis {
  std::string name;
  double lower = 0;
  double upper = 1;  ///< finite, > lower
  std::vector<std::pair<double, double>> bands =
      {};                              ///< angular frequencies, shaded in the spectrum
  std::vector<double> frequency = {};  ///< angular, increasing; may be empty
  std::vector<double> amplitude = {};  ///< as long as frequency; drawn logarithmically
};

/// A magnitude on a tensor grid, drawn on a logarithmic scale; zeros are drawn at its lower end.
struct PictureError {
  std::string label;                      ///< e.g. "|u - exact|", "|residual| / scale"
  std::vector<std::vector<double>> axes;  ///< increasing points, one list an axis
  std::vector<double> values;             ///< C order; empty: the panel says there is none
};

struct Picture {
  std::string title;
  std::string equation;            ///< subscripts and exponents are set as such: u_xx, x^2
  std::vector<std::string> facts;  ///< one line below: status, error, residual, ...; 1e-9 as 10⁻⁹
  std::string alarm;               ///< shown in a red banner; empty: none
  std::string field = "u";         ///< name of the solution
  std::vector<PictureAxis> axes;  ///< one or two
  /// Values of the solution on a tensor grid in C order; called a few times, on grids the figure
  /// chooses (at most 2^19 points).
  std::function<std::vector<double>(std::span<const std::vector<double>> axes)> sample;
  PictureError error;
  /// Standard deviation of the values: a band of 1.96 of them is shaded about the curve (one
  /// dimension). May be empty.
  std::function<std::vector<double>(std::span<const std::vector<double>> axes)> deviation = {};
  std::vector<std::vector<double>> points = {};  ///< [axis][i] where values were observed
  std::vector<double> observed = {};             ///< them; drawn as dots (their places, in two)
};

/// @throws ShapeError   if there are not one or two axes, or arrays do not match their axes
/// @throws DomainError  if an axis is empty or not finite
/// @cost   below 1 MB of text and 2^20 samples
[[nodiscard]] std::string draw_svg(const Picture& picture);

}  // namespace halfulp
