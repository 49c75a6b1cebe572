#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "files.hpp"
#include "halfulp/mfac.hpp"

/// What the verbs of `halfulp mfac` share.

/// Of options that are sizes or indices.
inline constexpr std::ptrdiff_t largest_size = std::numeric_limits<std::ptrdiff_t>::max();

/// Gradients from an NPY file, mapped where it holds them in `storage` (empty: as it does), else a
/// copy that is; or from a table of numbers as text.
[[nodiscard]] halfulp::mfac::Gradients read_gradients(const std::string& file,
                                                      const std::string& storage, int threads);

[[nodiscard]] nlohmann::json diagnosis_json(const halfulp::mfac::Diagnosis& diagnosis);

/// A warning where the diagnosis is not good.
void warn_of(const Common& common, const std::string& file,
             const halfulp::mfac::Diagnosis& diagnosis);

/// Adds verbs to `halfulp mfac`.
void add_mfac_optimize(CLI::App& module, const Common& common, Exit& exit);
void add_mfac_prune(CLI::App& module, const Common& common, Exit& exit);
