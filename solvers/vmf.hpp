#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "files.hpp"
#include "halfulp/vmf.hpp"

/// What the verbs of `halfulp vmf` share.

/// A distribution as `halfulp vmf fit --json` writes it: an object with mu and kappa, or one with
/// `result` that has them.
[[nodiscard]] halfulp::vmf::Distribution read_model(const std::string& file);

/// Rows and columns of "28x28".
[[nodiscard]] std::pair<std::ptrdiff_t, std::ptrdiff_t> image_size(const std::string& text,
                                                                   std::ptrdiff_t p);

/// At most a few entries of a vector, for a person.
[[nodiscard]] std::string vector_text(const Common& common, const std::vector<double>& values);

/// Each adds verbs to `halfulp vmf`.
void add_vmf_mixture(CLI::App& module, const Common& common, Exit& exit);
void add_vmf_images(CLI::App& module, const Common& common, Exit& exit);
