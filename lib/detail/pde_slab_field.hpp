#pragma once

#include <span>
#include <vector>

#include "detail/pde_discretisation.hpp"

namespace halfulp::gp_pde::detail {

/// A field in slabs.
struct SlabField {
  Size axis = 0;    ///< of time
  dd lower, width;  ///< where the first slab begins; of each
  std::vector<Field> slab;
  [[nodiscard]] std::vector<double> on_grid(std::span<const std::vector<double>> points,
                                            std::span<const int> orders) const;
};

}  // namespace halfulp::gp_pde::detail
