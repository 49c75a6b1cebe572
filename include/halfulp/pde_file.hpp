#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "halfulp/gp_hm.hpp"
#include "halfulp/gp_pde.hpp"
#include "halfulp/gp_posterior.hpp"
#include "halfulp/pde_system.hpp"

/// A PDE as a file: TOML text in, a checked Problem with its options out.
///
///     const auto file = halfulp::gp_pde::read_pde_file("poisson.toml");
///     const auto solution = halfulp::gp_pde::solve(file.problem, file.options);
///
/// docs/pde_file.md is the grammar. What the grammar has and the solver has not yet is
/// refused by name; unknown keys, wrong types and set-ups that cannot be well posed are errors with
/// file, line and column.
namespace halfulp::gp_pde {

/// deviation: posterior standard deviation of a derivative, where data are noisy ("std", "std_x").
enum class FieldKind { derivative, residual, error, forcing, deviation };

/// One field to be written: `name` as in the file ("u", "u_xx", "residual", "error", "f").
struct OutputField {
  std::string name;
  FieldKind kind = FieldKind::derivative;
  std::vector<int> orders;  ///< derivative, deviation: derivatives along each axis, all 0 for u
  std::size_t field = 0;    ///< of a system: which of its fields
};

struct OutputOptions {
  std::vector<std::ptrdiff_t> points;  ///< per axis, uniform, ends included; at least 2
  std::vector<OutputField> fields;     ///< u is always there, first
  std::vector<std::string> formats;    ///< of npy, vti, csv, h5; npy is always there, first
  std::ptrdiff_t samples = 0;          ///< joint draws of u, where data are noisy: samples.npy
  std::uint64_t seed = 0;              ///< theirs
};

/// What a PDE file says.
struct PdeFile {
  std::string file;  ///< its name, as messages show it
  Problem problem;   ///< problem.name: the file's name without folder and .toml
  /// Several fields: for solve(*system, options). `problem` then has name and axes alone.
  std::optional<SystemProblem> system;
  Options options;
  /// [solver] method = "gp-hm": for solve_gp_hm. Of `options` then only threads and memory_limit
  /// count, and the equation need not be linear.
  std::optional<HmOptions> gp_hm;
  /// Noisy forcing or observations: for infer() instead of solve(), with `inference`.
  std::optional<Measurements> measurements;
  InferenceOptions inference;
  OutputOptions output;
  std::string equation_text;  ///< as written
  bool linear = true;         ///< in u and its derivatives
  Expression left;            ///< of a nonlinear equation: left = right_hand_side
  /// Of a linear one: derivatives with their coefficients, highest order first; their sum is ...
  std::vector<std::pair<std::string, Expression>> terms;
  Expression right_hand_side;      ///< ... this, in the axes' names and problem.forcing_symbol
  bool forcing_automatic = false;  ///< problem.forcing was made from problem.exact
  std::vector<std::pair<std::string, dd>> parameters;  ///< in the order of the file
  std::vector<std::string> warnings;
  std::string digest;  ///< content_digest of the text and of the arrays it names
};

/// Reads and checks a PDE file; arrays it names are read relative to its folder.
/// @throws IoError     the file, or an array it names, cannot be read
/// @throws InputError  anything the text says wrong, with line and column
[[nodiscard]] PdeFile read_pde_file(const std::filesystem::path& path);

/// The same from text.
/// @param  text            UTF-8, at most 1 MiB, brackets nested at most 32 deep
/// @param  file_name       shown in messages; its stem becomes problem.name
/// @param  base_directory  folder that array names are relative to
[[nodiscard]] PdeFile parse_pde_file(std::string_view text, std::string_view file_name = "<text>",
                                     const std::filesystem::path& base_directory = {});

/// What would be solved, as lines of text (the report of `halfulp pde check`).
[[nodiscard]] std::string describe(const PdeFile& file);

}  // namespace halfulp::gp_pde
