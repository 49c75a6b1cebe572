#pragma once

#include <string_view>

#include "halfulp/vmf.hpp"

namespace halfulp::detail {

/// Norms of mean directions, and of points, may differ from 1 by this much.
inline constexpr double direction_tolerance = 1e-6;

/// Throws DomainError unless mu has at least two entries, all finite, and norm 1, and kappa is
/// finite and not negative.
void require_distribution(std::string_view function, std::string_view argument,
                          const vmf::Distribution& distribution);

}  // namespace halfulp::detail
