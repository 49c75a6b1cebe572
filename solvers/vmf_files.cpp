#include <cmath>

#include "vmf.hpp"

halfulp::vmf::Distribution read_model(const std::string& file) {
  const nlohmann::json object = read_json_result(file);
  halfulp::vmf::Distribution distribution;
  distribution.kappa = json_number(file, object, "kappa");
  const auto mu = object.find("mu");
  if (mu == object.end() || !mu->is_array())
    throw halfulp::IoError(file, "no array 'mu': not the model of one distribution");
  for (const nlohmann::json& value : *mu) {
    if (!value.is_number())
      throw halfulp::IoError(file,
                             "mu[" + std::to_string(distribution.mu.size()) + "] is no number");
    distribution.mu.push_back(value.get<double>());
  }
  return distribution;
}

std::pair<std::ptrdiff_t, std::ptrdiff_t> image_size(const std::string& text, std::ptrdiff_t p) {
  const std::size_t x = text.find('x');
  const auto rows = halfulp::parse_number(std::string_view(text).substr(0, x));
  const auto columns = x == std::string::npos
                           ? std::nullopt
                           : halfulp::parse_number(std::string_view(text).substr(x + 1));
  const bool whole = rows && columns && *rows >= 1 && *columns >= 1 && *rows <= 65536 &&
                     *columns <= 65536 && std::floor(*rows) == *rows &&
                     std::floor(*columns) == *columns;
  if (!whole || *rows * *columns != static_cast<double>(p))
    throw halfulp::DomainError("vmf", "--image", text,
                               "ROWSxCOLUMNS with a product of p = " + std::to_string(p));
  return {static_cast<std::ptrdiff_t>(*rows), static_cast<std::ptrdiff_t>(*columns)};
}

std::string vector_text(const Common& common, const std::vector<double>& values) {
  constexpr std::size_t all = 8, head = 4;
  std::string out = "(";
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values.size() > all && i == head) {
      out += ", ..., " + common.number(values.back());
      break;
    }
    out += (i > 0 ? ", " : "") + common.number(values[i]);
  }
  return out + ")";
}
