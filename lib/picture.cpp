#include "halfulp/picture.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numbers>
#include <optional>
#include <string_view>

#include "detail/svg.hpp"
#include "detail/xml.hpp"
#include "halfulp/error.hpp"

namespace halfulp {
namespace {

using namespace detail;  // NOLINT: the page, its axes and colours

constexpr std::string_view error_colour = "#a33b20";
constexpr std::string_view spectrum_colour = "#3c4043";
constexpr std::string_view band_colour = "#f2b632";
constexpr std::string_view window_colour = "#f7dc9c";

// ---- text -------------------------------------------------------------------------------------

/// A formula as markup: u_xx with a subscript, x^2 with an exponent, a centred dot for products.
std::string formula_markup(std::string_view formula, std::size_t limit) {
  const std::string text = clean_text(formula, limit);
  const std::string_view view = text;
  std::string out;
  double shift = 0;  // where the baseline stands now, in em of the main size
  bool gap = false;  // a space is due; renderers drop spaces between elements
  const auto shifted = [&](std::string_view piece, std::string_view dy, double em) {
    out += "<tspan dy=\"" + std::string(dy) + "em\" font-size=\"72%\">" + escape_xml(piece) +
           "</tspan>";
    shift = em;
  };
  const auto plain = [&](std::string_view piece) {
    if (shift == 0) {
      out += escape_xml(piece);
      return;
    }
    out += "<tspan dy=\"" + std::string(shift > 0 ? "-0.216" : "0.36") + "em\"" +
           (gap ? " dx=\"0.28em\"" : "") + ">" + escape_xml(piece) + "</tspan>";
    shift = 0;
    gap = false;
  };
  for (std::size_t i = 0; i < text.size();) {
    const bool after_name = i > 0 && (is_letter(text[i - 1]) || is_digit(text[i - 1]));
    const char next = i + 1 < text.size() ? text[i + 1] : ' ';
    std::size_t end = i + 1;
    if (shift == 0 && text[i] == '_' && after_name && is_letter(next)) {
      while (end < text.size() && (is_letter(text[end]) || is_digit(text[end]))) ++end;
      shifted(view.substr(i + 1, end - i - 1), "0.3", 0.216);
    } else if (shift == 0 && text[i] == '^' && is_digit(next)) {
      while (end < text.size() && is_digit(text[end])) ++end;
      shifted(view.substr(i + 1, end - i - 1), "-0.5", -0.36);
    } else if (text[i] == ' ') {
      if (shift != 0)
        gap = true;
      else
        out += "\u00A0";
    } else if (text[i] == '*' && next == '*') {
      plain("**");
      ++end;
    } else if (text[i] == '*') {
      plain("·");
    } else if (text[i] == '-') {
      plain("−");
    } else {
      while (end < text.size() && (text[end] & 0xC0) == 0x80) ++end;  // a whole UTF-8 character
      plain(view.substr(i, end - i));
    }
    i = end;
  }
  return out;
}

// ---- data -------------------------------------------------------------------------------------

/// Limits of a logarithmic axis for magnitudes: the dips to zero where an error changes sign are
/// left below it.
std::optional<Scale> magnitude_scale(std::span<const double> values, int target,
                                     double most_decades) {
  std::vector<double> positive;
  for (const double v : values) {
    if (std::isfinite(v) && v != 0) positive.push_back(std::fabs(v));
  }
  if (positive.empty()) return std::nullopt;
  const auto low = positive.begin() + static_cast<std::ptrdiff_t>(positive.size() / 100);
  std::nth_element(positive.begin(), low, positive.end());
  const double lower = *low;
  const double upper = *std::max_element(positive.begin(), positive.end());
  const double least = std::pow(10.0, std::log10(upper) - most_decades);
  return log_scale(std::max({lower, least, std::numeric_limits<double>::denorm_min()}), upper,
                   target);
}

/// Wavelengths in a curve: half the extrema that stand out by more than a hundredth of `range`,
/// that of the whole field.
double count_wavelengths(std::span<const double> values, const Range& range) {
  if (range.empty()) return 0;
  const double threshold = 0.01 * (range.upper - range.lower);
  if (!(threshold > 0) ||
      !(threshold > 1e-13 * std::max(std::fabs(range.lower), std::fabs(range.upper)))) {
    return 0;
  }
  double high = -std::numeric_limits<double>::infinity(), low = -high;
  int direction = 0;
  std::ptrdiff_t extrema = 0;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    high = std::max(high, v), low = std::min(low, v);
    if (direction >= 0 && v < high - threshold) {
      extrema += direction == 1, direction = -1, low = v;
    } else if (direction <= 0 && v > low + threshold) {
      extrema += direction == -1, direction = 1, high = v;
    }
  }
  return 0.5 * static_cast<double>(extrema);
}

double highest_frequency(const PictureAxis& axis) {
  double highest = 0;
  for (const auto& [lower, upper] : axis.bands) {
    if (std::isfinite(upper)) highest = std::max(highest, upper);
  }
  return highest;
}

double expected_wavelengths(const PictureAxis& axis) {
  return highest_frequency(axis) * (axis.upper - axis.lower) / (2 * std::numbers::pi);
}

std::vector<double> uniform_points(double lower, double upper, std::ptrdiff_t n) {
  std::vector<double> points(static_cast<std::size_t>(n));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double t = static_cast<double>(i) / static_cast<double>(n - 1);
    points[static_cast<std::size_t>(i)] = i + 1 == n ? upper : lower + t * (upper - lower);
  }
  return points;
}

/// Middles of n cells. `scattered`: a place in each cell instead that no wave can keep step with.
std::vector<double> cell_points(double lower, double upper, std::ptrdiff_t n, bool scattered) {
  std::vector<double> points(static_cast<std::size_t>(n));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double golden = static_cast<double>(i) * (std::numbers::phi - 1);
    const double place = scattered ? golden - std::floor(golden) : 0.5;
    points[static_cast<std::size_t>(i)] =
        lower + (static_cast<double>(i) + place) / static_cast<double>(n) * (upper - lower);
  }
  return points;
}

std::vector<double> sample(const Picture& picture, const std::vector<std::vector<double>>& grid) {
  std::vector<double> values = picture.sample(grid);
  std::size_t size = 1;
  for (const auto& points : grid) size *= points.size();
  if (values.size() != size) {
    throw ShapeError("draw_svg", "sample(axes).size()", std::ssize(values),
                     static_cast<std::ptrdiff_t>(size));
  }
  return values;
}

// ---- drawing ----------------------------------------------------------------------------------

/// The band between the envelopes: lines through the highest and through the lowest values of cells
/// a little longer than a wavelength, one band for each run of finite values.
std::vector<std::string> envelope(const Box& box, const Scale& across, const Scale& up,
                                  std::span<const double> x, std::span<const double> y,
                                  double wavelength_pixels) {
  const double cell = std::max(1.0, 1.5 * wavelength_pixels);  // a crest in each
  std::vector<std::string> bands;
  std::string top, bottom;
  const auto close = [&] {
    if (!top.empty()) bands.push_back("M" + top.substr(1) + bottom + "Z");
    top.clear(), bottom.clear();
  };
  const auto place = [&](std::size_t i) { return across.unit(x[i]) * box.width; };
  const auto add = [&](std::size_t at_top, std::size_t at_bottom, std::size_t high,
                       std::size_t low) {
    const auto height = [&](std::size_t i) {
      return coordinate(box.y + (1 - up.unit(y[i])) * box.height);
    };
    top += "L" + coordinate(box.x + place(at_top)) + " " + height(high);
    bottom.insert(0, "L" + coordinate(box.x + place(at_bottom)) + " " + height(low));
  };
  for (std::size_t i = 0; i < x.size();) {
    if (!std::isfinite(y[i])) {
      close();
      ++i;
      continue;
    }
    const bool first = top.empty();
    double end = (std::floor(place(i) / cell) + 1) * cell;
    if (end + cell / 2 > box.width) end = box.width + 1;  // no sliver at the right end
    std::size_t high = i, low = i, next = i;
    for (; next < x.size() && std::isfinite(y[next]) && (next == i || place(next) < end); ++next) {
      if (y[next] > y[high]) high = next;
      if (y[next] < y[low]) low = next;
    }
    const bool last = next == x.size() || !std::isfinite(y[next]);
    if (first) add(i, i, high, low);  // the band reaches the ends of its run
    add(high, low, high, low);
    if (last) add(next - 1, next - 1, high, low);
    i = next;
  }
  close();
  return bands;
}

std::string count_remark(std::size_t not_finite, const std::string& what) {
  if (not_finite == 0) return {};
  if (not_finite == 1) return "1 " + what + " is not finite";
  return std::to_string(not_finite) + " " + what + "s are not finite";
}

std::string join_remarks(const std::vector<std::string>& remarks) {
  std::string out;
  for (const std::string& remark : remarks) {
    if (!remark.empty()) out += (out.empty() ? "" : " · ") + remark;
  }
  return out;
}

std::string_view why_no_error(const PictureError& error, const Range& range) {
  if (error.values.empty()) return "not available";
  return range.empty() ? "no finite value" : "zero at every point";
}

/// The part of an axis that is enlarged: a few wavelengths in the middle, or about the largest
/// value if the middle is quiet.
std::pair<double, double> zoom_window(const PictureAxis& axis, std::span<const double> x,
                                      std::span<const double> y, double wavelengths) {
  const double length = axis.upper - axis.lower;
  const double width = length * std::min(1.0, 6 / wavelengths);
  const Range all = range_of(y);
  double centre = axis.lower + length / 2;
  std::vector<double> near;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (std::fabs(x[i] - centre) <= width / 2) near.push_back(y[i]);
  }
  const Range middle = range_of(near);
  if (middle.empty() || middle.upper - middle.lower < 0.4 * (all.upper - all.lower)) {
    const double level = all.lower + (all.upper - all.lower) / 2;
    double best = -1;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isfinite(y[i]) && std::fabs(y[i] - level) > best)
        best = std::fabs(y[i] - level), centre = x[i];
    }
  }
  const double lower = std::clamp(centre - width / 2, axis.lower, axis.upper - width);
  return {lower, lower + width};
}

std::string frequency_label(double frequency) {
  return frequency >= 1000 && frequency < 1e7 ? fixed_number(frequency, 0)
                                              : short_number(frequency, 4);
}

void draw_spectrum(Page& page, const Box& box, const PictureAxis& axis, bool name_axis) {
  Labels labels{.title = name_axis ? "Spectrum along " + axis.name : "Spectrum",
                .remark = axis.bands.empty() ? "no bands" : "shaded: the bands of the prior",
                .horizontal = "angular frequency (rad per unit of " + axis.name + ")",
                .vertical = "amplitude"};
  const Range frequencies = range_of(axis.frequency);
  const double highest = highest_frequency(axis);
  double right = frequencies.empty() ? 1.25 * highest : frequencies.upper;
  if (highest > 0)
    right = std::min(right, 1.4 * highest + 4 * std::numbers::pi / (axis.upper - axis.lower));
  right = std::max(right, 1.02 * highest);
  // What the bands missed must be seen.
  const Range amplitudes = range_of(axis.amplitude);
  for (std::size_t i = axis.frequency.size(); i-- > 0;) {
    if (!(axis.amplitude[i] > 0 && axis.amplitude[i] >= 1e-4 * amplitudes.upper)) continue;
    right = std::max(right, std::min(1.1 * axis.frequency[i], frequencies.upper));
    break;
  }
  if (!(right > 0)) right = 1;
  std::size_t visible = 0;
  while (visible < axis.frequency.size() && axis.frequency[visible] <= right) ++visible;
  const std::span amplitude = std::span(axis.amplitude).first(visible);
  const std::span frequency = std::span(axis.frequency).first(visible);
  const bool nothing = axis.frequency.empty() && axis.bands.empty();
  const Scale across = nothing ? Scale{} : linear_scale(0, right, 7, 0);
  const auto found = magnitude_scale(amplitude, 7, 24);
  const Scale up = found ? with_headroom(*found, 0.14) : Scale{};
  draw_grid(page, box, across, up);
  page.begin_clip(box);
  for (const auto& [lower, upper] : axis.bands) {
    double from = box.x + across.unit(lower) * box.width,
           to = box.x + across.unit(upper) * box.width;
    if (!(to - from >= 2)) from = (from + to) / 2 - 1, to = from + 2;
    page.rectangle({from, box.y, to - from, box.height}, band_colour, "none", 0.32);
  }
  page.path(curve(box, across, up, frequency, amplitude), spectrum_colour, 1.2);
  if (found && visible < 80) {  // few enough to show where the spectrum was computed
    for (std::size_t i = 0; i < visible; ++i) {
      if (amplitude[i] > 0 && std::isfinite(amplitude[i]))
        page.dot(box.x + across.unit(frequency[i]) * box.width,
                 box.y + (1 - up.unit(amplitude[i])) * box.height, spectrum_colour);
    }
  }
  page.end_clip();
  // Labels of the bands, staggered in three rows; those without room are counted.
  std::array<double, 3> row_end = {-1e9, -1e9, -1e9};
  std::ptrdiff_t unlabelled = 0;
  auto bands = axis.bands;
  std::sort(bands.begin(), bands.end());
  for (const auto& [lower, upper] : bands) {
    if (!std::isfinite(lower) || !std::isfinite(upper)) continue;
    std::string label = frequency_label(lower);
    if (upper > lower) label += "–" + frequency_label(upper);
    const double width = 6.2 * static_cast<double>(character_count(label)) + 8;
    const double middle = box.x + box.width * across.unit(lower + (upper - lower) / 2);
    const double at = std::clamp(middle, box.x + width / 2 + 2, box.x + box.width - width / 2 - 2);
    const auto row = std::find_if(row_end.begin(), row_end.end(),
                                  [&](double end) { return end + 4 <= at - width / 2; });
    if (row == row_end.end()) {
      ++unlabelled;
      continue;
    }
    const double y = box.y + 15 + 15 * static_cast<double>(row - row_end.begin());
    page.rectangle({at - width / 2, y - 11, width, 14}, "#ffffff", "none", 0.8, 3);
    page.text(at, y, label, {.size = 11, .anchor = "middle", .colour = "#7a5200"});
    *row = at + width / 2;
  }
  if (unlabelled > 0) labels.remark += " (" + std::to_string(unlabelled) + " without label)";
  if (axis.frequency.empty())
    draw_nothing(page, box, "no spectrum");
  else if (!found)
    draw_nothing(
        page, box,
        amplitudes.upper == 0 ? "the spectrum of the data is zero" : "the spectrum is not finite");
  draw_frame(page, box, across, up, labels);
}

// ---- one dimension ----------------------------------------------------------------------------

/// What lies within 1.96 standard deviations of the values at uniform points, lower and upper.
struct Interval {
  std::vector<double> x, lower, upper;
};

Interval interval_of(const Picture& picture, double from, double to, std::ptrdiff_t n) {
  Interval interval;
  if (!picture.deviation) return interval;
  interval.x = uniform_points(from, to, n);
  const std::vector<std::vector<double>> grid = {interval.x};
  interval.lower = interval.upper = sample(picture, grid);
  const auto deviation = picture.deviation(grid);
  for (std::size_t i = 0; i < interval.x.size(); ++i) {
    interval.lower[i] -= 1.96 * deviation[i];
    interval.upper[i] += 1.96 * deviation[i];
  }
  return interval;
}

void draw_interval(Page& page, const Box& box, const Scale& across, const Scale& up,
                   const Interval& interval) {
  std::string data;
  const auto go_to = [&](double x, double y) {
    data += data.empty() ? "M" : "L";
    data += coordinate(box.x + across.unit(x) * box.width) + " " +
            coordinate(box.y + (1 - std::clamp(up.unit(y), -0.02, 1.02)) * box.height);
  };
  const auto finite = [&](std::size_t i) {
    return std::isfinite(interval.lower[i]) && std::isfinite(interval.upper[i]);
  };
  for (std::size_t i = 0; i < interval.x.size(); ++i)
    if (finite(i)) go_to(interval.x[i], interval.upper[i]);
  for (std::size_t i = interval.x.size(); i-- > 0;)
    if (finite(i)) go_to(interval.x[i], interval.lower[i]);
  if (!data.empty()) page.path(data + "Z", "none", 0, solution_colour, 0.25);
}

void draw_observations(Page& page, const Box& box, const Scale& across, const Scale& up,
                       const Picture& picture) {
  constexpr std::size_t most = 4000;
  const std::size_t step = picture.observed.size() / most + 1;
  for (std::size_t i = 0; i < picture.observed.size(); i += step) {
    const double y = picture.axes.size() == 1 ? picture.observed[i] : picture.points[1][i];
    const double px = across.unit(picture.points[0][i]), py = up.unit(y);
    if (px >= 0 && px <= 1 && py >= 0 && py <= 1)
      page.dot(box.x + px * box.width, box.y + (1 - py) * box.height, error_colour);
  }
}

double draw_one_dimension(Page& page, const Picture& picture, double top) {
  const PictureAxis& axis = picture.axes[0];
  const double guess = expected_wavelengths(axis);
  const auto n =
      static_cast<std::ptrdiff_t>(guess > 0 ? std::clamp(16 * guess, 2000.0, 131071.0) : 8000.0) +
      1;
  const auto x = uniform_points(axis.lower, axis.upper, n);
  const auto u = sample(picture, {x});
  Range range = range_of(u);
  const double wavelengths = count_wavelengths(u, range);
  const bool zoomed = wavelengths > 14;

  const Box whole = {86, top + 30, zoomed ? 720. : 1084., 270};
  const double pixels = wavelengths > 0 ? whole.width / wavelengths : whole.width;
  const bool as_band = pixels < 7;
  const Scale across = space_scale(axis.lower, axis.upper, 8);
  const Interval interval = interval_of(picture, axis.lower, axis.upper, as_band ? 401 : 1601);
  const auto widen = [](Range& r, const std::vector<double>& values) {
    for (const double v : values)
      if (std::isfinite(v) && !r.empty()) {
        r.lower = std::min(r.lower, v);
        r.upper = std::max(r.upper, v);
      }
  };
  for (const auto* values : {&interval.lower, &interval.upper, &picture.observed})
    widen(range, *values);
  const Scale up = linear_scale(range.lower, range.upper, 6, 0.06);
  draw_grid(page, whole, across, up);
  std::pair<double, double> window;
  if (zoomed) {
    window = zoom_window(axis, x, u, wavelengths);
    const double from = whole.x + across.unit(window.first) * whole.width;
    const double to = whole.x + across.unit(window.second) * whole.width;
    page.rectangle({from - 1, whole.y, to - from + 2, whole.height}, window_colour, "none", 0.9);
  }
  page.begin_clip(whole);
  if (!as_band) draw_interval(page, whole, across, up, interval);
  if (as_band) {
    for (const std::string& band : envelope(whole, across, up, x, u, pixels)) {
      page.path(band, solution_colour, 1, solution_colour, 0.75);
    }
  } else {
    page.path(curve(whole, across, up, x, u), solution_colour, 1.3);
  }
  draw_observations(page, whole, across, up, picture);
  page.end_clip();
  if (range.empty()) draw_nothing(page, whole, "no finite value");
  draw_frame(
      page, whole, across, up,
      {.title = "Solution",
       .remark = join_remarks({as_band ? "faster than the pixels: the band between its envelopes"
                               : picture.deviation ? "mean and 95 % interval"
                                                   : "",
                               count_remark(range.not_finite, "sample")}),
       .horizontal = axis.name,
       .vertical = picture.field});

  if (zoomed) {
    const Box box = {890, whole.y, 280, whole.height};
    const auto points = uniform_points(window.first, window.second, 1201);
    const auto values = sample(picture, {points});
    Range part = range_of(values);
    const Interval close = interval_of(picture, window.first, window.second, 401);
    widen(part, close.lower);
    widen(part, close.upper);
    const Scale along = linear_scale(window.first, window.second, 4, 0);
    const Scale high = linear_scale(part.lower, part.upper, 6, 0.06);
    page.rectangle(box, window_colour, "none", 0.25);
    draw_grid(page, box, along, high);
    page.begin_clip(box);
    draw_interval(page, box, along, high, close);
    page.path(curve(box, along, high, points, values), solution_colour, 1.5);
    draw_observations(page, box, along, high, picture);
    page.end_clip();
    draw_frame(page, box, along, high,
               {.title = "Enlarged",
                .remark = "the shaded part",
                .horizontal = axis.name,
                .vertical = ""});
  }

  const double second = whole.y + whole.height + 84;
  const Box box = {86, second, 480, 240};
  const PictureError& error = picture.error;
  const Range errors = range_of(error.values);
  const auto found = magnitude_scale(error.values, 7, 700);
  const Scale along = space_scale(axis.lower, axis.upper, 6);
  const Scale high = found.value_or(Scale{});
  std::vector<double> magnitude;
  for (const double v : error.values) magnitude.push_back(std::fabs(v));
  draw_grid(page, box, along, high);
  page.begin_clip(box);
  if (found) page.path(curve(box, along, high, error.axes[0], magnitude), error_colour, 1.1);
  page.end_clip();
  if (!found) draw_nothing(page, box, why_no_error(error, errors));
  draw_frame(page, box, along, high,
             {.title = error.label.empty() ? "Error" : error.label,
              .remark = count_remark(errors.not_finite, "value"),
              .horizontal = axis.name,
              .vertical = ""});
  draw_spectrum(page, {690, second, 480, 240}, axis, false);
  return second + 240 + 56;
}

// ---- two dimensions ---------------------------------------------------------------------------

struct Raster {
  std::ptrdiff_t columns = 0;
  std::ptrdiff_t rows = 0;
  std::vector<double> values;  ///< row-major, top row first

  /// From values in C order (x, y): x runs to the right, y upwards.
  static Raster from_grid(std::span<const double> values, std::ptrdiff_t nx, std::ptrdiff_t ny) {
    Raster raster{nx, ny, std::vector<double>(values.size())};
    for (std::ptrdiff_t j = 0; j < ny; ++j) {
      for (std::ptrdiff_t i = 0; i < nx; ++i) {
        raster.values[static_cast<std::size_t>((ny - 1 - j) * nx + i)] =
            values[static_cast<std::size_t>(i * ny + j)];
      }
    }
    return raster;
  }
};

void draw_raster(Page& page, const Box& box, const Raster& raster, const Scale& scale,
                 std::span<const Rgb> palette, bool smooth) {
  std::vector<std::uint8_t> indices;
  indices.reserve(raster.values.size());
  for (const double v : raster.values) {
    const bool shown = std::isfinite(v);
    const double magnitude = scale.logarithmic ? std::fabs(v) : v;
    const double unit = scale.logarithmic && v == 0 ? 0 : scale.unit(magnitude);
    indices.push_back(
        shown ? static_cast<std::uint8_t>(std::lround(std::clamp(unit, 0.0, 1.0) * (colours - 1)))
              : missing_index);
  }
  page.image(box, raster.columns, raster.rows, indices, palette, smooth);
}

/// Magnitudes of a tensor grid on a raster of at most `most` cells a side: the largest where
/// several points fall into a cell, the nearest where none does.
Raster magnitude_raster(const PictureError& error, const std::vector<PictureAxis>& axes,
                        std::ptrdiff_t most) {
  std::array<std::vector<std::vector<std::size_t>>, 2> members;
  for (std::size_t d = 0; d < 2; ++d) {
    const auto& points = error.axes[d];
    const std::ptrdiff_t cells = std::min(std::ssize(points), most);
    const double length = axes[d].upper - axes[d].lower;
    members[d].resize(static_cast<std::size_t>(cells));
    for (std::size_t i = 0; i < points.size(); ++i) {
      const double place = (points[i] - axes[d].lower) / length * static_cast<double>(cells);
      const double cell = std::clamp(std::floor(place), 0.0, static_cast<double>(cells - 1));
      members[d][static_cast<std::size_t>(cell)].push_back(i);
    }
    for (std::ptrdiff_t c = 0; c < cells; ++c) {
      auto& cell = members[d][static_cast<std::size_t>(c)];
      if (!cell.empty()) continue;
      const double middle =
          axes[d].lower + (static_cast<double>(c) + 0.5) / static_cast<double>(cells) * length;
      const auto nearest = std::min_element(points.begin(), points.end(), [&](double a, double b) {
        return std::fabs(a - middle) < std::fabs(b - middle);
      });
      cell.push_back(static_cast<std::size_t>(nearest - points.begin()));
    }
  }
  std::vector<double> values;
  for (const auto& column : members[0]) {
    for (const auto& row : members[1]) {
      double largest = 0;
      for (const std::size_t i : column) {
        for (const std::size_t j : row) {
          const double v = std::fabs(error.values[i * error.axes[1].size() + j]);
          if (!(v <= largest)) largest = v;  // keeps NaN once it is there
          if (std::isnan(largest)) break;
        }
        if (std::isnan(largest)) break;
      }
      values.push_back(largest);
    }
  }
  return Raster::from_grid(values, std::ssize(members[0]), std::ssize(members[1]));
}

/// Largest magnitude in blocks of block x block samples, for a field faster than the pixels.
std::vector<double> block_maximum(std::span<const double> values, std::size_t nx, std::size_t ny,
                                  std::size_t block) {
  std::vector<double> out;
  for (std::size_t i = 0; i < nx; i += block) {
    for (std::size_t j = 0; j < ny; j += block) {
      double largest = 0;
      for (std::size_t k = i; k < std::min(nx, i + block); ++k) {
        for (std::size_t l = j; l < std::min(ny, j + block); ++l) {
          const double v = std::fabs(values[k * ny + l]);
          if (std::isnan(largest) || !(v <= largest)) largest = std::isnan(largest) ? largest : v;
        }
      }
      out.push_back(largest);
    }
  }
  return out;
}

double draw_two_dimensions(Page& page, const Picture& picture, double top) {
  const std::vector<PictureAxis>& axes = picture.axes;
  // A first look: where the field is largest, and lines through that place for the wavelengths.
  constexpr std::ptrdiff_t look = 96;
  const auto look_x = cell_points(axes[0].lower, axes[0].upper, look, true);
  const auto look_y = cell_points(axes[1].lower, axes[1].upper, look, true);
  const auto first = sample(picture, {look_x, look_y});
  const Range first_range = range_of(first);
  double level = 0;  // the mean; scaled against overflow
  for (const double v : first) {
    if (std::isfinite(v)) level += v / static_cast<double>(first.size());
  }
  std::size_t peak = first.size() / 2;
  double best = -1;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (std::isfinite(first[i]) && std::fabs(first[i] - level) > best)
      best = std::fabs(first[i] - level), peak = i;
  }
  std::array<double, 2> wavelengths{};
  std::array<std::pair<double, double>, 2> window;
  for (std::size_t d = 0; d < 2; ++d) {
    const double guess = expected_wavelengths(axes[d]);
    const auto n =
        static_cast<std::ptrdiff_t>(guess > 0 ? std::clamp(16 * guess, 800.0, 16384.0) : 4000.0);
    const auto points = cell_points(axes[d].lower, axes[d].upper, n, false);
    const double fixed = d == 0 ? look_y[peak % look] : look_x[peak / look];
    const auto line =
        d == 0 ? sample(picture, {points, {fixed}}) : sample(picture, {{fixed}, points});
    wavelengths[d] = count_wavelengths(line, first_range);
    window[d] = zoom_window(axes[d], points, line, std::max(wavelengths[d], 6.0));
  }
  const bool zoomed = std::max(wavelengths[0], wavelengths[1]) > 18;

  const double ratio = (axes[1].upper - axes[1].lower) / (axes[0].upper - axes[0].lower);
  const double width = zoomed ? 285 : 400;
  const double height = ratio > 0.4 && ratio < 1.3 ? ratio * width : width;
  const Box whole = {zoomed ? 66. : 86., top + 30, width, height};
  const Scale across = space_scale(axes[0].lower, axes[0].upper, 5);
  const Scale up = space_scale(axes[1].lower, axes[1].upper, 5);

  // The solution: at the middles of cells no finer than half a pixel.
  std::array<std::ptrdiff_t, 2> n{};
  bool too_fast = false;
  for (std::size_t d = 0; d < 2; ++d) {
    const double most = std::min(570.0, 2 * (d == 0 ? width : height));
    n[d] = static_cast<std::ptrdiff_t>(std::clamp(8 * wavelengths[d], 240.0, most));
    too_fast = too_fast || 4 * wavelengths[d] > most;
  }
  if (too_fast) n = {512, 512};
  constexpr std::size_t block = 8;
  const auto fine = sample(picture, {cell_points(axes[0].lower, axes[0].upper, n[0], too_fast),
                                     cell_points(axes[1].lower, axes[1].upper, n[1], too_fast)});
  Range range = range_of(fine);
  const std::size_t not_finite = range.not_finite;
  const double extreme =
      range.empty() ? 1 : std::max(std::fabs(range.lower), std::fabs(range.upper));
  const bool is_signed =
      !range.empty() && range.lower < -0.01 * extreme && range.upper > 0.01 * extreme;
  if (is_signed) range.lower = -extreme, range.upper = extreme;
  const ColourMap map = is_signed ? ColourMap::diverging : ColourMap::sequential;
  const auto palette = palette_of(map);
  const Scale colour = linear_scale(range.lower, range.upper, 8, 0.003);
  if (too_fast) {
    const auto coarse = block_maximum(fine, 512, 512, block);
    draw_raster(page, whole, Raster::from_grid(coarse, 64, 64), colour, palette, true);
  } else {
    draw_raster(page, whole, Raster::from_grid(fine, n[0], n[1]), colour, palette, true);
  }
  if (zoomed) {
    const double x0 = whole.x + across.unit(window[0].first) * width;
    const double x1 = whole.x + across.unit(window[0].second) * width;
    const double y0 = whole.y + (1 - up.unit(window[1].second)) * height;
    const double y1 = whole.y + (1 - up.unit(window[1].first)) * height;
    page.rectangle({x0, y0, x1 - x0, y1 - y0}, "none", ink);
  }
  draw_observations(page, whole, across, up, picture);
  if (range.empty()) draw_nothing(page, whole, "no finite value");
  draw_frame(page, whole, across, up,
             {.title = "Solution " + picture.field,
              .remark = join_remarks({too_fast ? "largest |" + picture.field + "| nearby" : "",
                                      count_remark(not_finite, "sample")}),
              .horizontal = axes[0].name,
              .vertical = axes[1].name});
  Box bar = {whole.x + width + 12, whole.y, 13, height};

  if (zoomed) {
    const Box box = {404, whole.y, width, height};
    constexpr std::ptrdiff_t detail = 200;
    const auto values =
        sample(picture, {cell_points(window[0].first, window[0].second, detail, false),
                         cell_points(window[1].first, window[1].second, detail, false)});
    draw_raster(page, box, Raster::from_grid(values, detail, detail), colour, palette, true);
    draw_frame(page, box, space_scale(window[0].first, window[0].second, 4),
               space_scale(window[1].first, window[1].second, 5),
               {.title = "Enlarged",
                .remark = "the part in the frame",
                .horizontal = axes[0].name,
                .vertical = ""});
    bar.x = box.x + width + 12;
  }
  draw_colour_bar(page, bar, colour, palette, not_finite > 0);

  const PictureError& error = picture.error;
  const Box box = {zoomed ? 806. : 680., whole.y, width, height};
  const Range errors = range_of(error.values);
  const auto found = magnitude_scale(error.values, 7, 700);
  const Scale magnitude = found.value_or(Scale{});
  const auto heat = palette_of(ColourMap::magnitude);
  if (found) draw_raster(page, box, magnitude_raster(error, axes, 480), magnitude, heat, false);
  draw_frame(page, box, across, up,
             {.title = error.label.empty() ? "Error" : error.label,
              .remark = count_remark(errors.not_finite, "value"),
              .horizontal = axes[0].name,
              .vertical = zoomed ? "" : axes[1].name});
  if (!found)
    draw_nothing(page, box, why_no_error(error, errors));
  else
    draw_colour_bar(page, {box.x + width + 12, box.y, 13, height}, magnitude, heat,
                    errors.not_finite > 0);

  const double second = whole.y + height + 88;
  draw_spectrum(page, {86, second, 480, 200}, axes[0], true);
  draw_spectrum(page, {690, second, 480, 200}, axes[1], true);
  return second + 200 + 56;
}

void check(const Picture& picture) {
  const std::size_t dimensions = picture.axes.size();
  if (dimensions != 1 && dimensions != 2) {
    throw ShapeError("draw_svg", "axes.size()", std::to_string(dimensions), "1 or 2");
  }
  for (const PictureAxis& axis : picture.axes) {
    if (!(std::isfinite(axis.lower) && std::isfinite(axis.upper) && axis.lower < axis.upper &&
          std::isfinite(axis.upper - axis.lower))) {
      throw DomainError("draw_svg", "axes." + axis.name + ".upper", axis.upper,
                        "finite and > lower, with a finite difference");
    }
    if (axis.frequency.size() != axis.amplitude.size()) {
      throw ShapeError("draw_svg", "axes." + axis.name + ".amplitude.size()",
                       std::ssize(axis.amplitude), std::ssize(axis.frequency));
    }
  }
  if (!picture.observed.empty()) {
    if (picture.points.size() != dimensions)
      throw ShapeError("draw_svg", "points.size()", std::ssize(picture.points),
                       std::ssize(picture.axes));
    for (const auto& along : picture.points)
      if (along.size() != picture.observed.size())
        throw ShapeError("draw_svg", "points[].size()", std::ssize(along),
                         std::ssize(picture.observed));
  }
  if (picture.error.values.empty()) return;
  if (picture.error.axes.size() != dimensions) {
    throw ShapeError("draw_svg", "error.axes.size()", std::ssize(picture.error.axes),
                     std::ssize(picture.axes));
  }
  std::size_t size = 1;
  for (const auto& points : picture.error.axes) size *= points.size();
  if (picture.error.values.size() != size) {
    throw ShapeError("draw_svg", "error.values.size()", std::ssize(picture.error.values),
                     static_cast<std::ptrdiff_t>(size));
  }
}

}  // namespace

std::string draw_svg(const Picture& picture) {
  check(picture);
  Page page;
  page.text(34, 42, picture.title, {.size = 23, .bold = true}, 90);
  page.markup(34, 67, formula_markup(picture.equation, 150), {.size = 15});
  std::string facts;
  for (const std::string& fact : picture.facts)
    facts += (facts.empty() ? "" : "\u00A0\u00A0·\u00A0\u00A0") + fact;
  page.text(34, 91, with_powers(facts), {.size = 13, .colour = muted}, 190);
  double top = 104;
  if (!picture.alarm.empty()) {
    page.rectangle({34, top, page_width - 64, 32}, "#c5221f", "none", 1, 4);
    page.text(48, top + 21, with_powers(picture.alarm),
              {.size = 15, .colour = "#ffffff", .bold = true}, 140);
    top += 40;
  }
  const double height = picture.axes.size() == 1 ? draw_one_dimension(page, picture, top)
                                                 : draw_two_dimensions(page, picture, top);
  return page.finish(height, picture.title);
}

}  // namespace halfulp
