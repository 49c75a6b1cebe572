#pragma once

#include <string_view>

#include "halfulp/vmf_mixture.hpp"

namespace halfulp::detail {

/// vmf::fit_mixture; without `prune` every iteration looks at every row.
[[nodiscard]] vmf::MixtureFit fit_mixture(std::span<const double> points, std::ptrdiff_t p,
                                          std::ptrdiff_t components,
                                          const vmf::MixtureOptions& options, bool prune);

/// Throws what the header says of a mixture that is none; its dimension.
std::ptrdiff_t check_mixture(std::string_view function, const vmf::Mixture& mixture);

}  // namespace halfulp::detail
