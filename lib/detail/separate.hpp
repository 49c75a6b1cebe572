#pragma once

#include <optional>
#include <string>
#include <vector>

#include "halfulp/expression.hpp"

namespace halfulp::detail {

/// A formula as a sum of products of functions of one symbol each: terms[t][k] depends on names[k]
/// alone. By the rules for sums, products, powers and quotients, exp(a + b), and the addition
/// theorems of sine and cosine; nothing where these do not lead to at most `most` terms.
/// The terms may cancel where the formula does not: whoever adds them up has to look.
[[nodiscard]] std::optional<std::vector<std::vector<Expression>>> separate(
    const Expression& formula, const std::vector<std::string>& names, std::size_t most);

}  // namespace halfulp::detail
