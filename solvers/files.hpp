#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "common.hpp"

/// Files of numbers and options that are numbers, for all modules.

/// n rows of p numbers.
struct Points {
  std::vector<double> values;
  std::ptrdiff_t n = 0, p = 0;
};

/// An NPY array (n, p) of any type there is, or a table of numbers as text, with or without a line
/// of names.
/// @throws  IoError or InputError naming the file, and its shape where that is not (n, p)
[[nodiscard]] Points read_points(const std::string& file);
/// As points, with one column or one row, or an NPY array (n,).
[[nodiscard]] std::vector<double> read_numbers(const std::string& file);
/// Rows to an NPY file, or as text where the name does not end in .npy, or to standard output.
void write_points(const Common& common, const std::vector<double>& values, std::ptrdiff_t p,
                  const std::vector<std::string>& names);

/// The keys of `object`, or of its `result`. @throws IoError naming the file
[[nodiscard]] nlohmann::json read_json_result(const std::string& file);

/// JSON has no inf and no nan: they are written as text.
[[nodiscard]] nlohmann::json number_json(double value);
[[nodiscard]] double json_number(const std::string& file, const nlohmann::json& object,
                                 const char* key);

/// Calls f; errors about arguments of the library come out with the name of the file that they are
/// from.
template <class F>
auto from_file(const std::string& file, F f) {
  try {
    return f();
  } catch (const halfulp::DomainError& error) {
    throw halfulp::IoError(file, error.what());
  } catch (const halfulp::ShapeError& error) {
    throw halfulp::IoError(file, error.what());
  }
}

/// An option whose value is read as everywhere else: decimal or hex float, rounded once.
CLI::Option* add_number(CLI::App& verb, const std::string& name, std::optional<double>& target,
                        const std::string& help);

[[nodiscard]] bool ends_with(const std::string& file, const char* suffix);
