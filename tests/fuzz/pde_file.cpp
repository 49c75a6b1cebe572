#include "halfulp/pde_file.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "halfulp/error.hpp"

/// Any bytes as a PDE file. Only InputError may come out, with a place inside the text and a
/// message of one printable line; what is accepted must be complete. Seeds: solvers/inputs/*.toml.

namespace {

void require(bool condition, const char* rule) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", rule);
  std::abort();
}

void require_printable(std::string_view text) {
  for (const char c : text)
    require(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f, "a message is one printable line");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace pde = halfulp::gp_pde;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  int lines = 1;
  for (const char c : text) lines += c == '\n';
  try {
    // A folder that does not exist: arrays are looked for in vain.
    const pde::PdeFile file = pde::parse_pde_file(text, "fuzz.toml", "/nonexistent");
    const pde::Problem& problem = file.problem;
    const std::size_t axes = problem.axes.size();
    require(axes >= 1 && axes <= 3, "one to three dimensions");
    require(file.output.points.size() == axes, "points along each");
    require(!file.output.fields.empty(), "a field is written");
    if (!file.system) {
      require(problem.sides.size() == axes, "sides of each");
      require(!file.linear || !file.terms.empty(), "an operator");
      require(file.output.fields[0].name == "u", "u is written");
    }
    for (const auto& axis : problem.axes) require(axis.lower < axis.upper, "an interval");
    require(!pde::describe(file).empty(), "it can be described");
    for (const auto& warning : file.warnings) require_printable(warning);
  } catch (const halfulp::InputError& error) {
    require(error.line() >= 0 && error.line() <= lines, "an error stands in the text");
    require(error.line() == 0 || error.column() >= 1, "columns count from 1");
    require_printable(error.message());
  }
  return 0;
}
