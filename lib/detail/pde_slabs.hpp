#pragma once

#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "detail/pde_bands.hpp"
#include "detail/pde_quality.hpp"
#include "detail/pde_slab_field.hpp"

/// Long windows in time, one slab after the other. A slab is a problem of its own on [0, H] in
/// local time; its initial condition is the end of the slab before it, in its modes. Where the
/// operator does not depend on time all slabs have one, factored once.
///
/// Two chains run side by side, each with its own discretisation and from its own ends: their
/// distance grows as an error does, and is what the error estimate is made of.
namespace halfulp::gp_pde::detail {

/// What a solve finds out about one slab before it is believed to hold for the others.
struct SlabPlan {
  std::vector<std::vector<Band>> bands;
  std::vector<Spectrum> spectra;
  bool resolved = true;  ///< the data, by their sampling
  bool good = true;      ///< residual and error within the tolerance
};
using Planner = std::function<SlabPlan(const Checked&, const RightHandSide&, Timings&)>;

struct SlabResult {
  SlabField field;
  Solution solution;  ///< all but the field
};

/// Solves in options.slabs slabs, or as many as it takes; nothing: one window is enough.
/// @throws DomainError  no axis can be cut; a forcing by samples
[[nodiscard]] std::optional<SlabResult> solve_in_slabs(const Checked& c, const Expression& forcing,
                                                       double tolerance, const Planner& planner);

}  // namespace halfulp::gp_pde::detail
