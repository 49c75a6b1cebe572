#include <cstdio>

#include "halfulp/npy.hpp"
#include "mfac.hpp"

namespace mfac = halfulp::mfac;
using nlohmann::json;

mfac::Gradients read_gradients(const std::string& file, const std::string& asked, int threads) {
  if (!ends_with(file, ".npy")) {
    const Points rows = read_points(file);
    const auto storage = asked.empty() ? mfac::Storage::float64 : mfac::storage_from(asked);
    return from_file(file, [&] { return mfac::Gradients(rows.values, rows.p, storage, threads); });
  }
  const halfulp::NpyHeader header = halfulp::read_npy_header(file);
  const bool half = header.type == halfulp::NpyType::float16;
  const bool single = half || header.type == halfulp::NpyType::float32;
  const mfac::Storage own = half     ? mfac::Storage::float16
                            : single ? mfac::Storage::float32
                                     : mfac::Storage::float64;
  const mfac::Storage storage = asked.empty() ? own : mfac::storage_from(asked);
  const bool floating = single || header.type == halfulp::NpyType::float64;
  if (floating && storage == own && !header.big_endian && header.shape.size() == 2 &&
      header.order == halfulp::Order::c)
    return mfac::Gradients::map(file);
  constexpr std::size_t most = std::size_t{1} << 40;
  const halfulp::NpyReadOptions reading{.memory_limit = most};
  const auto copy = [&](const auto& array) {
    if (array.shape.size() != 2)
      throw halfulp::IoError(file, "rank " + std::to_string(array.shape.size()) +
                                       ", must be (m, d): one gradient a row");
    return from_file(
        file, [&] { return mfac::Gradients(array.values, array.shape[1], storage, threads); });
  };
  return single ? copy(halfulp::read_npy<float>(file, reading))
                : copy(halfulp::read_npy<double>(file, reading));
}

json diagnosis_json(const mfac::Diagnosis& diagnosis) {
  json report = {{"status", std::string(mfac::to_string(diagnosis.status))},
                 {"condition", number_json(diagnosis.condition)},
                 {"error", number_json(diagnosis.error)}};
  if (diagnosis.pivot >= 0) {
    report["pivot"] = diagnosis.pivot;
    report["pivot_value"] = number_json(diagnosis.pivot_value);
  }
  return report;
}

void warn_of(const Common& common, const std::string& file, const mfac::Diagnosis& diagnosis) {
  const auto short_text = [](double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", value);
    return std::string(text);
  };
  if (diagnosis.status == mfac::Conditioning::ill)
    common.warn(file + ": ill-conditioned: cond(H) = " + short_text(diagnosis.condition) +
                ", estimated relative error " + short_text(diagnosis.error));
  if (diagnosis.status == mfac::Conditioning::lost)
    common.warn(file + ": definiteness is lost at pivot " + std::to_string(diagnosis.pivot) + ", " +
                short_text(diagnosis.pivot_value) +
                " m lambda: rounding is larger than the damping");
}
