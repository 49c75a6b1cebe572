#pragma once

#include <optional>

#include "detail/pde_box.hpp"
#include "detail/pde_discretisation.hpp"
#include "detail/pde_line.hpp"
#include "detail/pde_slab_field.hpp"
#include "halfulp/gp_pde.hpp"

namespace halfulp::gp_pde {

/// What a Solution evaluates.
struct Solution::Impl {
  detail::Field field;
  std::optional<detail::BoxField> box = {};     ///< instead of field, where the solve was in double
  std::optional<detail::SlabField> slabs = {};  ///< likewise, where time was cut
  std::optional<detail::LineField> line = {};   ///< likewise, in one dimension in double
  [[nodiscard]] detail::Size dimension() const {
    return static_cast<detail::Size>(box     ? box->axes.size()
                                     : line  ? 1
                                     : slabs ? slabs->slab[0].basis.size()
                                             : field.basis.size());
  }
};

}  // namespace halfulp::gp_pde
