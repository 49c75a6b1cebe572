#include "files.hpp"

#include <cmath>

#include "halfulp/csv.hpp"
#include "halfulp/npy.hpp"

namespace {

using nlohmann::json;

constexpr std::size_t text_limit = std::size_t{1} << 30;  // bytes of a table or a model

std::string shape_text(const std::vector<std::ptrdiff_t>& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + (shape.size() == 1 ? ",)" : ")");
}

/// Whether the first line that is not blank and no comment has numbers only: a table without names.
bool begins_with_numbers(std::string_view text) {
  for (std::size_t begin = text.starts_with("\xEF\xBB\xBF") ? 3 : 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    line = line.substr(0, line.find('#'));
    begin = end + 1;
    constexpr std::string_view separators = ",;\t \r";
    bool any = false;
    for (std::size_t i = 0; i < line.size();) {
      const std::size_t next = std::min(line.find_first_of(separators, i), line.size());
      if (next > i) {
        any = true;
        if (!halfulp::parse_number(line.substr(i, next - i))) return false;
      }
      i = next + 1;
    }
    if (any) return true;
  }
  return false;
}

halfulp::Table read_table(const std::string& file) {
  const std::string text = halfulp::read_file(file, text_limit);
  return halfulp::parse_csv(text, file,
                            {.header = begins_with_numbers(text) ? halfulp::CsvHeader::absent
                                                                 : halfulp::CsvHeader::required});
}

}  // namespace

bool ends_with(const std::string& file, const char* suffix) {
  return std::string_view(file).ends_with(suffix);
}

Points read_points(const std::string& file) {
  if (ends_with(file, ".npy")) {
    auto array = halfulp::read_npy<double>(file);
    if (array.shape.size() != 2)
      throw halfulp::IoError(
          file, "shape " + shape_text(array.shape) + ", must be (n, p): one point a row");
    return {std::move(array.values), array.shape[0], array.shape[1]};
  }
  const halfulp::Table table = read_table(file);
  const std::size_t p = table.columns.size();
  Points points{{}, table.rows(), static_cast<std::ptrdiff_t>(p)};
  points.values.resize(static_cast<std::size_t>(points.n) * p);
  for (std::size_t j = 0; j < p; ++j)
    for (std::size_t i = 0; i < table.columns[j].size(); ++i)
      points.values[i * p + j] = table.columns[j][i];
  return points;
}

std::vector<double> read_numbers(const std::string& file) {
  if (ends_with(file, ".npy")) {
    auto array = halfulp::read_npy<double>(file);
    const auto& s = array.shape;
    if (!(s.size() == 1 || (s.size() == 2 && (s[0] == 1 || s[1] == 1))))
      throw halfulp::IoError(file, "shape " + shape_text(s) + ", must be (n,)");
    return std::move(array.values);
  }
  Points points = read_points(file);
  if (points.n != 1 && points.p != 1)
    throw halfulp::IoError(file, std::to_string(points.n) + " rows and " +
                                     std::to_string(points.p) +
                                     " columns, must be one row or one column");
  return std::move(points.values);
}

void write_points(const Common& common, const std::vector<double>& values, std::ptrdiff_t p,
                  const std::vector<std::string>& names) {
  const std::ptrdiff_t n = p == 0 ? 0 : std::ssize(values) / p;
  if (ends_with(common.out, ".npy")) {
    const auto shape =
        p == 1 && names.size() == 1 ? std::vector{n} : std::vector<std::ptrdiff_t>{n, p};
    halfulp::write_npy<double>(common.out, values, shape);
    return;
  }
  halfulp::Table table{names, std::vector<std::vector<double>>(static_cast<std::size_t>(p))};
  for (std::size_t i = 0; i < values.size(); ++i)
    table.columns[i % static_cast<std::size_t>(p)].push_back(values[i]);
  common.write(halfulp::csv_text(table, {.hex = common.hex}));
}

json number_json(double value) {
  return std::isfinite(value) ? json(value) : json(halfulp::number_text(value));
}

json read_json_result(const std::string& file) {
  const std::string text = halfulp::read_file(file, text_limit);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::parse_error& error) {
    throw halfulp::IoError(file, std::string("no JSON: ") + error.what());
  }
  if (!object.is_object()) throw halfulp::IoError(file, "must be a JSON object");
  if (object.contains("result")) object = json(object["result"]);
  if (!object.is_object()) throw halfulp::IoError(file, "result must be a JSON object");
  return object;
}

double json_number(const std::string& file, const json& object, const char* key) {
  if (object.contains(key)) {
    const json& value = object[key];
    if (value.is_number()) return value.get<double>();
    if (value.is_string())
      if (const auto number = halfulp::parse_number(value.get<std::string>())) return *number;
  }
  throw halfulp::IoError(file, std::string("no number '") + key + "'");
}

CLI::Option* add_number(CLI::App& verb, const std::string& name, std::optional<double>& target,
                        const std::string& help) {
  return verb
      .add_option_function<std::string>(
          name,
          [&target, name](const std::string& text) {
            target = halfulp::parse_number(text);
            if (!target) throw CLI::ValidationError(name, "'" + text + "' is not a number");
          },
          help)
      ->type_name("NUMBER");
}
