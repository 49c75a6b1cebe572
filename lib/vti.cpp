#include <bit>
#include <cstdint>
#include <cstring>

#include "detail/png.hpp"
#include "detail/require.hpp"
#include "detail/xml.hpp"
#include "halfulp/pde_output.hpp"
#include "halfulp/text.hpp"

namespace halfulp::gp_pde {
namespace {

static_assert(std::endian::native == std::endian::little, "the files are little-endian");

/// The values with the first index running fastest.
std::vector<double> first_fastest(std::span<const double> values,
                                  const std::vector<std::size_t>& shape) {
  const std::size_t n0 = shape[0], n1 = shape[1], n2 = shape[2];
  std::vector<double> out(values.size());
  for (std::size_t i = 0; i < n0; ++i)
    for (std::size_t j = 0; j < n1; ++j)
      for (std::size_t k = 0; k < n2; ++k)
        out[i + n0 * (j + n1 * k)] = values[(i * n1 + j) * n2 + k];
  return out;
}

}  // namespace

std::string vti_text(std::span<const std::vector<double>> axes, std::span<const Field> fields) {
  detail::require(!axes.empty() && axes.size() <= 3, "vti_text", "axes.size()", axes.size(),
                  "1, 2 or 3");
  std::vector<std::size_t> shape(3, 1);
  std::string extent, origin, spacing;
  std::size_t size = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    double lower = 0, step = 1;
    if (d < axes.size()) {
      detail::require(!axes[d].empty(), "vti_text", "axes[" + std::to_string(d) + "].size()",
                      axes[d].size(), ">= 1");
      shape[d] = axes[d].size();
      lower = axes[d].front();
      if (shape[d] > 1) step = (axes[d].back() - lower) / static_cast<double>(shape[d] - 1);
    }
    size *= shape[d];
    const std::string space = d == 0 ? "" : " ";
    extent += space + "0 " + std::to_string(shape[d] - 1);
    origin += space + number_text(lower);
    spacing += space + number_text(step);
  }
  std::string arrays, data;
  for (const Field& field : fields) {
    detail::require_size("vti_text", field.name, std::ssize(field.values),
                         static_cast<std::ptrdiff_t>(size));
    arrays += "        <DataArray type=\"Float64\" Name=\"" + detail::escape_xml(field.name) +
              "\" format=\"appended\" offset=\"" + std::to_string(data.size()) + "\"/>\n";
    // One base64 stream a block: the number of bytes, then the bytes.
    const auto values = first_fastest(field.values, shape);
    const std::uint64_t bytes = values.size() * sizeof(double);
    std::string block(sizeof bytes + bytes, '\0');
    std::memcpy(block.data(), &bytes, sizeof bytes);
    std::memcpy(block.data() + sizeof bytes, values.data(), bytes);
    data += detail::encode_base64(block);
  }
  std::string out =
      "<?xml version=\"1.0\"?>\n<VTKFile type=\"ImageData\" version=\"1.0\" "
      "byte_order=\"LittleEndian\" header_type=\"UInt64\">\n  <ImageData WholeExtent=\"" +
      extent + "\" Origin=\"" + origin + "\" Spacing=\"" + spacing + "\">\n    <Piece Extent=\"" +
      extent + "\">\n      <PointData" +
      (fields.empty() ? std::string() : " Scalars=\"" + detail::escape_xml(fields[0].name) + "\"") +
      ">\n" + arrays +
      "      </PointData>\n      <CellData>\n      </CellData>\n    </Piece>\n  </ImageData>\n"
      "  <AppendedData encoding=\"base64\">\n   _";
  out += data;
  out += "\n  </AppendedData>\n</VTKFile>\n";
  return out;
}

}  // namespace halfulp::gp_pde
