#pragma once

#include <string_view>

#include "detail/vmf_numbers.hpp"
#include "halfulp/vmf_mixture.hpp"

namespace halfulp::detail {

/// vmf::fit_mixture; without `prune` every iteration looks at every row.
[[nodiscard]] vmf::MixtureFit fit_mixture(VmfNumbers points, std::ptrdiff_t p,
                                          std::ptrdiff_t components,
                                          const vmf::MixtureOptions& options, bool prune);

/// Throws what the header says of a mixture that is none; its dimension.
std::ptrdiff_t check_mixture(std::string_view function, const vmf::Mixture& mixture);

}  // namespace halfulp::detail
