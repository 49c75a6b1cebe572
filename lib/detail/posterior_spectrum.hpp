#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "detail/posterior_prior.hpp"
#include "halfulp/expression.hpp"

/// Where learning the prior starts: bands of noisy data.
namespace halfulp::gp_pde::detail {

struct SpectrumInput {
  std::vector<PriorAxis> axes;
  std::vector<std::string> names;
  KernelType kernel = KernelType::gaussian;
  std::vector<std::pair<std::vector<int>, Expression>> terms;  ///< of L
  std::optional<Expression> formula;                           ///< L u, or ...
  std::vector<std::vector<double>> grid;                       ///< ... its samples
  std::vector<double> values;
  bool noisy = false;                       ///< L u is
  double noise = 0;                         ///< its standard deviation; 0: to be found
  std::vector<std::vector<double>> points;  ///< of observations of u; may be empty
  std::vector<double> observed;
  std::vector<std::array<Side, 2>> sides;
  std::vector<std::vector<Band>> bands;  ///< given ones, per axis; empty: to be found
};

struct StartSpectrum {
  std::vector<Component> prior;
  double noise = 0;  ///< of L u: as given, or from the floor of its spectrum
  double size = 0;   ///< of u, roughly
  std::vector<std::vector<double>> frequency, amplitude;  ///< per axis, for pictures; largest 1
};

[[nodiscard]] StartSpectrum start_spectrum(const SpectrumInput& input);

}  // namespace halfulp::gp_pde::detail
