#include "halfulp/csv.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "halfulp/error.hpp"

namespace {

bool same(const halfulp::Table& a, const halfulp::Table& b) {
  if (a.names != b.names || a.rows() != b.rows()) return false;
  for (std::size_t k = 0; k < a.columns.size(); ++k)
    for (std::size_t i = 0; i < a.columns[k].size(); ++i) {
      const double x = a.columns[k][i], y = b.columns[k][i];
      if (std::memcmp(&x, &y, sizeof x) != 0 && !(x != x && y != y)) return false;
    }
  return true;
}

}  // namespace

// Any text is a table or an InputError; a table that was read comes back from its text the same.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto header : {halfulp::CsvHeader::required, halfulp::CsvHeader::absent}) {
    halfulp::Table table;
    try {
      table = halfulp::parse_csv(text, "fuzz", {.header = header});
    } catch (const halfulp::InputError&) {
      continue;
    }
    for (const char separator : {',', ';', '\t'})
      for (const bool hex : {false, true}) {
        const std::string again = halfulp::csv_text(table, {.separator = separator, .hex = hex});
        if (!same(table, halfulp::parse_csv(again, "again"))) std::abort();
      }
  }
  return 0;
}
