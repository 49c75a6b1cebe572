#include "halfulp/expression.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "detail/expression_node.hpp"
#include "halfulp/error.hpp"

/// Any bytes: parse -> text -> parse -> derivative -> evaluate. Only InputError may come out of the
/// parser, and what it accepts must survive the rest with the same bits.

namespace {

using halfulp::dd;
using halfulp::Expression;
using halfulp::Program;

void require(bool condition, const char* rule) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", rule);
  std::abort();
}

bool same_bits(double a, double b) { return (a != a && b != b) || std::memcmp(&a, &b, 8) == 0; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::vector<std::string> names{"x", "y", "u", "u_xx"};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Expression f;
  try {
    f = halfulp::parse_expression(text, names, {{"k", 100.0}, {"w", Expression(dd(1) / dd(3))}});
  } catch (const halfulp::InputError& e) {
    require(e.line() >= 1 && e.column() >= 1, "an error has a place");
    for (const char c : e.message()) require(c >= 0x20 && c < 0x7f, "a message is printable");
    return 0;
  }
  const std::vector<double> point{0.7, -1.3, 2.1, 0.4};
  const double value = Program<double>(f, names)(point);
  const std::vector<dd> point_dd(point.begin(), point.end());
  (void)Program<dd>(f, names)(point_dd);

  if (f.node()->tree_size < 20000) {
    const std::string written = f.text();
    try {
      const Expression back = halfulp::parse_expression(written, names);
      require(halfulp::detail::same(back.node(), f.node()), "text reads back to the same formula");
      require(same_bits(Program<double>(back, names)(point), value), "and to the same value");
    } catch (const halfulp::InputError& e) {
      // Blanks and parentheses that text() adds may pass the limits of the parser.
      require(e.message().find("nested") != std::string::npos ||
                  e.message().find("at most 65536 bytes") != std::string::npos,
              "text is a formula");
    }
  }

  const Expression first = f.derivative("x"), second = first.derivative("x");
  const std::vector<Expression> formulas{f, first, second, f.derivative("u")};
  const Program<double> code(formulas, names);
  std::vector<double> out(formulas.size());
  code(point, out);
  require(same_bits(out[0], value), "sharing changes no value");

  const std::vector<std::vector<double>> axes{{0.7, 0.1}, {-1.3}, {2.1, -1.0, 0.0}, {0.4}};
  std::vector<double> grid(formulas.size() * 6);
  code.on_grid(axes, grid, 1);
  for (std::size_t i = 0; i < formulas.size(); ++i)
    require(same_bits(grid[i * 6], out[i]), "a grid has the bits of a point");
  return 0;
}
