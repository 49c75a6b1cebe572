#include "detail/svg.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numbers>

#include "detail/xml.hpp"

namespace halfulp::detail {
namespace {

double divide_by_power_of_ten(double value, int exponent) {
  const int half = exponent / 2;  // 10^exponent alone may not be a double
  return value / std::pow(10.0, half) / std::pow(10.0, exponent - half);
}

double nice_step(double raw) {
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  const double lead = raw / power;
  return (lead <= 1.0000001 ? 1 : lead <= 2.0000001 ? 2 : lead <= 5.0000001 ? 5 : 10) * power;
}

void add_linear_ticks(Scale& scale, int target) {
  const double span = scale.upper - scale.lower;
  const double step = nice_step(span / target);
  const int decimals = std::max(0, -static_cast<int>(std::floor(std::log10(step) + 1e-9)));
  const double slack = 1e-9 * span / step;
  for (double k = std::ceil(scale.lower / step - slack); k <= scale.upper / step + slack; ++k) {
    scale.ticks.push_back({(k * step - scale.lower) / span, fixed_number(k * step, decimals)});
  }
}

}  // namespace

std::string clean_text(std::string_view text, std::size_t limit) {
  constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string out;
  std::size_t i = 0;
  for (std::size_t count = 0; i < text.size(); ++count) {
    if (count + 1 >= limit && text.size() - i > 1) {
      out += "…";
      break;
    }
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead < 0x80                   ? 1
                               : lead >= 0xC2 && lead < 0xE0 ? 2
                               : lead >= 0xE0 && lead < 0xF0 ? 3
                               : lead >= 0xF0 && lead < 0xF5 ? 4
                                                             : 0;
    std::uint32_t code = length == 1   ? lead
                         : length == 2 ? lead & 0x1Fu
                         : length == 3 ? lead & 0xFu
                                       : lead & 7u;
    bool valid = length != 0 && i + length <= text.size();
    for (std::size_t k = 1; valid && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      valid = (next & 0xC0) == 0x80;
      code = code << 6 | (next & 0x3Fu);
    }
    constexpr std::array<std::uint32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
    valid = valid && code >= least[length] && code <= 0x10FFFF &&
            !(code >= 0xD800 && code < 0xE000) && code != 0xFFFE && code != 0xFFFF && code != 0x7F;
    if (valid && code < 0x20) {
      out += code == '\t' || code == '\n' || code == '\r' ? " " : std::string(replacement);
      ++i;
    } else if (valid) {
      out += text.substr(i, length);
      i += length;
    } else {
      out += replacement;
      ++i;
    }
  }
  return out;
}

std::string coordinate(double value) {
  if (!(std::fabs(value) < 1e7)) value = value > 0 ? 1e7 : -1e7;
  std::array<char, 32> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::fixed, 2);
  std::string text(buffer.data(), end);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string with_minus_sign(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '-' ? std::string("−") : std::string(1, c);
  return out;
}

std::string fixed_number(double value, int decimals) {
  std::array<char, 400> buffer{};
  if (value == 0) value = 0;  // no -0
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::fixed, decimals);
  return with_minus_sign({buffer.data(), end});
}

std::string superscript(int exponent) {
  constexpr std::array<std::string_view, 10> digits = {"⁰", "¹", "²", "³", "⁴",
                                                       "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = exponent < 0 ? "⁻" : "";
  for (const char c : std::to_string(std::abs(exponent)))
    out += digits[static_cast<std::size_t>(c - '0')];
  return out;
}

std::string with_powers(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::size_t digits = i + 1;
    if (digits < text.size() && (text[digits] == '-' || text[digits] == '+')) ++digits;
    std::size_t end = digits;
    while (end < text.size() && is_digit(text[end])) ++end;
    const bool exponent = text[i] == 'e' && i > 0 && is_digit(text[i - 1]) && end > digits &&
                          end - digits <= 3 && (end == text.size() || !is_letter(text[end]));
    if (!exponent) {
      out += text[i];
      continue;
    }
    int value = 0;
    std::from_chars(text.data() + digits, text.data() + end, value);
    out += "×10" + superscript(text[i + 1] == '-' ? -value : value);
    i = end - 1;
  }
  return out;
}

std::string short_number(double value, int digits) {
  std::array<char, 64> buffer{};
  const auto [end, error] = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                          std::chars_format::general, digits);
  const std::string_view text(buffer.data(), end);
  const std::size_t e = text.find('e');
  if (e == std::string_view::npos) return with_minus_sign(text);
  int exponent = 0;
  const auto digits_at =
      text.begin() + static_cast<std::ptrdiff_t>(e) + (text[e + 1] == '+' ? 2 : 1);
  std::from_chars(digits_at, text.end(), exponent);
  return with_minus_sign(text.substr(0, e)) + "×10" + superscript(exponent);
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

double Scale::unit(double value) const {
  const double t =
      logarithmic ? std::log10(value) : divide_by_power_of_ten(value - offset, exponent);
  return (t - lower) / (upper - lower);
}

Scale linear_scale(double lower, double upper, int target, double padding) {
  Scale scale;
  if (!(lower <= upper)) lower = 0, upper = 1;
  const double magnitude = std::max(std::fabs(lower), std::fabs(upper));
  int exponent = magnitude > 0 ? static_cast<int>(std::floor(std::log10(magnitude) + 0.004)) : 0;
  if (exponent >= -3 && exponent < 5) exponent = 0;
  double a = divide_by_power_of_ten(lower, exponent), b = divide_by_power_of_ten(upper, exponent);
  const double size = std::max(std::fabs(a), std::fabs(b));
  const double flat = 1e-13;  // relative: below it the variation is rounding
  if (!(b - a > flat * size)) {
    const double middle = a + (b - a) / 2, half = size > 0 ? 0.5 * size : 1;
    a = middle - half, b = middle + half;
  } else if (b - a < 1e-4 * size) {
    // Labels that would agree in their first four digits show what is left after an offset.
    const double unit = std::pow(10.0, std::floor(std::log10(b - a)) + 1);
    const double offset = std::round(a / unit) * unit;
    const int shift = static_cast<int>(std::floor(std::log10(b - a)));
    scale.offset = offset * std::pow(10.0, exponent / 2) * std::pow(10.0, exponent - exponent / 2);
    a = divide_by_power_of_ten(a - offset, shift), b = divide_by_power_of_ten(b - offset, shift);
    exponent += shift;
  }
  scale.exponent = exponent;
  const double pad = padding * (b - a);
  scale.lower = a - pad;
  scale.upper = b + pad;
  if (exponent != 0) scale.note = "×10" + superscript(exponent);
  if (scale.offset != 0) {
    scale.note += (scale.offset < 0 ? " − " : " + ") + short_number(std::fabs(scale.offset), 12);
  }
  add_linear_ticks(scale, target);
  return scale;
}

Scale space_scale(double lower, double upper, int target) {
  constexpr double pi = std::numbers::pi;
  const double span = (upper - lower) / pi;
  const auto whole = [](double v) { return std::fabs(v - std::round(v)) < 1e-9; };
  if (whole(2 * lower / pi) && whole(2 * span) && span > 0.4 && span < 1000) {
    double step = 0.25;  // of pi
    while (span / step > target + 1) step *= 2;
    Scale scale;
    scale.lower = lower, scale.upper = upper;
    for (double k = std::ceil(lower / pi / step - 1e-9); k * step <= upper / pi + 1e-9; ++k) {
      const double quarters = std::round(4 * k * step);  // label: quarters * pi / 4, reduced
      const int denominator = std::fmod(quarters, 4) == 0 ? 1 : std::fmod(quarters, 2) == 0 ? 2 : 4;
      const double numerator = quarters * denominator / 4;
      std::string label = numerator == 0    ? "0"
                          : numerator == 1  ? "π"
                          : numerator == -1 ? "−π"
                                            : fixed_number(numerator, 0) + "π";
      if (denominator > 1) label += "/" + std::to_string(denominator);
      scale.ticks.push_back({(k * step * pi - lower) / (upper - lower), label});
    }
    return scale;
  }
  return linear_scale(lower, upper, target, 0);
}

Scale log_scale(double lower, double upper, int target) {
  Scale scale;
  scale.logarithmic = true;
  scale.lower = std::floor(std::log10(lower) + 1e-9);
  scale.upper = std::max(std::ceil(std::log10(upper) - 1e-9), scale.lower + 1);
  const double decades = scale.upper - scale.lower;
  double step = 1;
  for (const double candidate : {1., 2., 3., 4., 5., 10., 20., 25., 50., 100.}) {
    step = candidate;
    if (decades / step <= target) break;
  }
  for (double k = std::ceil(scale.lower / step) * step; k <= scale.upper; k += step) {
    scale.ticks.push_back({(k - scale.lower) / decades, "10" + superscript(static_cast<int>(k))});
  }
  if (decades <= 3) {
    for (double k = scale.lower; k < scale.upper; ++k) {
      for (int m = 2; m < 10; ++m)
        scale.minor.push_back((k + std::log10(m) - scale.lower) / decades);
    }
  } else if (step > 1 && decades <= 40) {
    for (double k = scale.lower; k <= scale.upper; ++k)
      scale.minor.push_back((k - scale.lower) / decades);
  }
  return scale;
}

Range range_of(std::span<const double> values) {
  Range range;
  for (const double v : values) {
    if (std::isfinite(v))
      range.lower = std::min(range.lower, v), range.upper = std::max(range.upper, v);
    else
      ++range.not_finite;
  }
  return range;
}

Scale with_headroom(Scale scale, double part) {
  scale.upper += part * (scale.upper - scale.lower);
  for (Tick& tick : scale.ticks) tick.unit /= 1 + part;
  for (double& unit : scale.minor) unit /= 1 + part;
  return scale;
}

Rgb from_oklch(double lightness, double chroma, double hue_degrees) {
  const double hue = hue_degrees * std::numbers::pi / 180;
  const auto linear = [&](double c) {
    const double a = c * std::cos(hue), b = c * std::sin(hue);
    const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
    const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
    const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
    return std::array<double, 3>{4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                                 -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                                 -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
  };
  const auto shown = [](const std::array<double, 3>& rgb) {
    return std::all_of(rgb.begin(), rgb.end(), [](double v) { return v >= -1e-4 && v <= 1.0001; });
  };
  if (!shown(linear(chroma))) {
    double low = 0, high = chroma;
    for (int k = 0; k < 20; ++k) (shown(linear((low + high) / 2)) ? low : high) = (low + high) / 2;
    chroma = low;
  }
  Rgb out{};
  const auto rgb = linear(chroma);
  for (std::size_t k = 0; k < 3; ++k) {
    const double v = std::clamp(rgb[k], 0.0, 1.0);
    const double encoded = v <= 0.0031308 ? 12.92 * v : 1.055 * std::pow(v, 1 / 2.4) - 0.055;
    out[k] = static_cast<std::uint8_t>(std::lround(255 * encoded));
  }
  return out;
}

std::vector<Rgb> palette_of(ColourMap map) {
  std::vector<Rgb> palette;
  for (int i = 0; i < colours; ++i) {
    const double t = static_cast<double>(i) / (colours - 1);
    if (map == ColourMap::sequential) {  // dark violet, green, yellow
      palette.push_back(
          from_oklch(0.27 + 0.66 * t, 0.09 + 0.1 * std::pow(2 * t - 1, 2), 315 - 212 * t));
    } else if (map == ColourMap::magnitude) {  // near black, purple, orange, light yellow
      palette.push_back(from_oklch(
          0.16 + 0.80 * t, 0.17 * std::sin(std::numbers::pi * (0.1 + 0.8 * t)), 285 + 180 * t));
    } else {  // blue, white, red
      const double s = 2 * t - 1;
      palette.push_back(
          from_oklch(0.975 - 0.555 * std::fabs(s), 0.155 * std::fabs(s), s < 0 ? 255 : 27));
    }
  }
  palette.push_back(missing_colour);
  return palette;
}

std::string hex_colour(const Rgb& colour) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out = "#";
  for (const std::uint8_t channel : colour) {
    out += digits[channel >> 4];
    out += digits[channel & 15];
  }
  return out;
}

void Page::markup(double x, double y, std::string_view markup, TextStyle style) {
  out_ += "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" font-size=\"" +
          coordinate(style.size) + "\" fill=\"" + std::string(style.colour) + "\"";
  if (style.anchor != "start") out_ += " text-anchor=\"" + std::string(style.anchor) + "\"";
  if (style.bold) out_ += " font-weight=\"bold\"";
  if (style.italic) out_ += " font-style=\"italic\"";
  if (style.rotate != 0) {
    out_ += " transform=\"rotate(" + coordinate(style.rotate) + " " + coordinate(x) + " " +
            coordinate(y) + ")\"";
  }
  out_ += ">";
  out_ += markup;
  out_ += "</text>\n";
}

void Page::text(double x, double y, std::string_view text, TextStyle style, std::size_t limit) {
  markup(x, y, escape_xml(clean_text(text, limit)), style);
}

void Page::line(double x1, double y1, double x2, double y2, std::string_view colour, double width) {
  out_ += "<line x1=\"" + coordinate(x1) + "\" y1=\"" + coordinate(y1) + "\" x2=\"" +
          coordinate(x2) + "\" y2=\"" + coordinate(y2) + "\" stroke=\"" + std::string(colour) +
          "\" stroke-width=\"" + coordinate(width) + "\"/>\n";
}

void Page::rectangle(const Box& box, std::string_view fill, std::string_view stroke, double opacity,
                     double radius) {
  out_ += "<rect x=\"" + coordinate(box.x) + "\" y=\"" + coordinate(box.y) + "\" width=\"" +
          coordinate(box.width) + "\" height=\"" + coordinate(box.height) + "\" fill=\"" +
          std::string(fill) + "\"";
  if (stroke != "none") out_ += " stroke=\"" + std::string(stroke) + "\"";
  if (opacity != 1) out_ += " fill-opacity=\"" + coordinate(opacity) + "\"";
  if (radius != 0) out_ += " rx=\"" + coordinate(radius) + "\"";
  out_ += "/>\n";
}

void Page::dot(double x, double y, std::string_view fill) {
  out_ += "<circle cx=\"" + coordinate(x) + "\" cy=\"" + coordinate(y) + "\" r=\"2\" fill=\"" +
          std::string(fill) + "\"/>\n";
}

void Page::dots(std::string_view data, std::string_view colour, double diameter, double opacity) {
  if (data.empty()) return;
  out_ += "<path d=\"" + std::string(data) + "\" stroke=\"" + std::string(colour) +
          "\" stroke-width=\"" + coordinate(diameter) + "\" opacity=\"" + coordinate(opacity) +
          "\" fill=\"none\" stroke-linecap=\"round\"/>\n";
}

void Page::circle(double x, double y, double radius, std::string_view fill, std::string_view stroke,
                  double width, double opacity) {
  out_ += "<circle cx=\"" + coordinate(x) + "\" cy=\"" + coordinate(y) + "\" r=\"" +
          coordinate(radius) + "\" fill=\"" + std::string(fill) + "\"";
  if (stroke != "none")
    out_ += " stroke=\"" + std::string(stroke) + "\" stroke-width=\"" + coordinate(width) + "\"";
  if (opacity != 1) out_ += " opacity=\"" + coordinate(opacity) + "\"";
  out_ += "/>\n";
}

void Page::path(std::string_view data, std::string_view stroke, double width, std::string_view fill,
                double opacity, std::string_view dashes) {
  if (data.empty()) return;
  out_ += "<path d=\"" + std::string(data) + "\" stroke=\"" + std::string(stroke) +
          "\" stroke-width=\"" + coordinate(width) + "\" fill=\"" + std::string(fill) + "\"";
  if (opacity != 1) out_ += " opacity=\"" + coordinate(opacity) + "\"";
  if (!dashes.empty()) out_ += " stroke-dasharray=\"" + std::string(dashes) + "\"";
  out_ += " stroke-linejoin=\"round\"/>\n";
}

void Page::image(const Box& box, std::ptrdiff_t columns, std::ptrdiff_t rows,
                 std::span<const std::uint8_t> indices, std::span<const Rgb> palette, bool smooth) {
  out_ += "<image x=\"" + coordinate(box.x) + "\" y=\"" + coordinate(box.y) + "\" width=\"" +
          coordinate(box.width) + "\" height=\"" + coordinate(box.height) +
          "\" preserveAspectRatio=\"none\"" + (smooth ? "" : " image-rendering=\"optimizeSpeed\"") +
          " xlink:href=\"data:image/png;base64," +
          detail::encode_base64(detail::encode_png(columns, rows, indices, palette)) + "\"/>\n";
}

void Page::begin_clip(const Box& box) {
  const std::string id = "clip" + std::to_string(++clips_);
  out_ += "<clipPath id=\"" + id + "\"><rect x=\"" + coordinate(box.x) + "\" y=\"" +
          coordinate(box.y) + "\" width=\"" + coordinate(box.width) + "\" height=\"" +
          coordinate(box.height) + "\"/></clipPath>\n<g clip-path=\"url(#" + id + ")\">\n";
}

void Page::begin_clip(double x, double y, double radius) {
  const std::string id = "clip" + std::to_string(++clips_);
  out_ += "<clipPath id=\"" + id + "\"><circle cx=\"" + coordinate(x) + "\" cy=\"" + coordinate(y) +
          "\" r=\"" + coordinate(radius) + "\"/></clipPath>\n<g clip-path=\"url(#" + id + ")\">\n";
}

void Page::end_clip() { out_ += "</g>\n"; }

void Page::gradient_bar(const Box& box, std::span<const Rgb> palette) {
  const std::string id = "map" + std::to_string(++gradients_);
  out_ += "<linearGradient id=\"" + id + "\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">";
  constexpr int stops = 32;
  for (int k = 0; k <= stops; ++k) {
    const Rgb& colour = palette[static_cast<std::size_t>(k * (colours - 1) / stops)];
    out_ += "<stop offset=\"" + coordinate(100.0 * k / stops) + "%\" stop-color=\"" +
            hex_colour(colour) + "\"/>";
  }
  out_ += "</linearGradient>\n";
  rectangle(box, "url(#" + id + ")", frame_colour);
}

std::string Page::finish(double height, std::string_view title) const {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
         "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
         "width=\"" +
         coordinate(page_width) + "\" height=\"" + coordinate(height) + "\" viewBox=\"0 0 " +
         coordinate(page_width) + " " + coordinate(height) +
         "\" font-family=\"Helvetica, Arial, sans-serif\">\n<title>" +
         escape_xml(clean_text(title, 200)) +
         "</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + out_ + "</svg>\n";
}

void draw_grid(Page& page, const Box& box, const Scale& across, const Scale& up) {
  for (const double unit : across.minor) {
    const double x = box.x + unit * box.width;
    page.line(x, box.y, x, box.y + box.height, "#f1f3f5");
  }
  for (const double unit : up.minor) {
    const double y = box.y + (1 - unit) * box.height;
    page.line(box.x, y, box.x + box.width, y, "#f1f3f5");
  }
  for (const Tick& tick : across.ticks) {
    const double x = box.x + tick.unit * box.width;
    page.line(x, box.y, x, box.y + box.height, grid_colour);
  }
  for (const Tick& tick : up.ticks) {
    const double y = box.y + (1 - tick.unit) * box.height;
    page.line(box.x, y, box.x + box.width, y, grid_colour);
  }
}

void draw_frame(Page& page, const Box& box, const Scale& across, const Scale& up,
                const Labels& labels) {
  page.rectangle(box, "none", frame_colour);
  const double bottom = box.y + box.height;
  for (const Tick& tick : across.ticks) {
    const double x = box.x + tick.unit * box.width;
    page.line(x, bottom, x, bottom + 4, frame_colour);
    page.text(x, bottom + 18, tick.label, {.anchor = "middle"});
  }
  for (const Tick& tick : up.ticks) {
    const double y = box.y + (1 - tick.unit) * box.height;
    page.line(box.x - 4, y, box.x, y, frame_colour);
    page.text(box.x - 8, y + 4, tick.label, {.anchor = "end"});
  }
  page.markup(box.x, box.y - 10,
              "<tspan font-weight=\"bold\">" + escape_xml(clean_text(labels.title, 80)) +
                  "</tspan>" +
                  (labels.remark.empty()
                       ? std::string()
                       : "<tspan dx=\"10\" font-size=\"12\" fill=\"" + std::string(muted) + "\">" +
                             escape_xml(clean_text(labels.remark, 120)) + "</tspan>"),
              {.size = 14});
  std::string below = labels.horizontal;
  if (!across.note.empty()) below += "  (" + across.note + ")";
  page.text(box.x + box.width / 2, bottom + 38, below, {.anchor = "middle", .colour = muted});
  std::string left = labels.vertical;
  if (!up.note.empty()) left += "  (" + up.note + ")";
  if (!left.empty()) {
    std::size_t longest = 0;
    for (const Tick& tick : up.ticks) longest = std::max(longest, character_count(tick.label));
    page.text(box.x - 18 - 7.4 * static_cast<double>(longest), box.y + box.height / 2, left,
              {.anchor = "middle", .colour = muted, .rotate = -90});
  }
}

std::string curve(const Box& box, const Scale& across, const Scale& up, std::span<const double> x,
                  std::span<const double> y) {
  std::string data;
  bool pen_down = false;
  const auto go_to = [&](double px, double py) {
    data += pen_down ? "L" : "M";
    data += coordinate(px) + " " + coordinate(py);
    pen_down = true;
  };
  const auto height_of = [&](double value) {
    const double unit = up.logarithmic && !(value > 0) ? -0.02 : up.unit(value);
    return box.y + (1 - std::clamp(unit, -0.02, 1.02)) * box.height;
  };
  const bool dense = static_cast<double>(x.size()) > 4 * box.width;
  for (std::size_t i = 0; i < x.size();) {
    if (!std::isfinite(y[i])) {
      pen_down = false;
      ++i;
      continue;
    }
    const double px = box.x + across.unit(x[i]) * box.width;
    std::size_t end = i + 1;
    if (!dense) {
      const bool lonely = !pen_down && (end == x.size() || !std::isfinite(y[end]));
      go_to(px, height_of(y[i]));
      if (lonely) go_to(px + 0.8, height_of(y[i]));
    } else {
      std::size_t lowest = i, highest = i;
      for (; end < x.size() && std::isfinite(y[end]) &&
             box.x + across.unit(x[end]) * box.width < std::floor(px) + 1;
           ++end) {
        if (y[end] < y[lowest]) lowest = end;
        if (y[end] > y[highest]) highest = end;
      }
      std::array<std::size_t, 4> marks = {i, lowest, highest, end - 1};
      std::sort(marks.begin(), marks.end());
      for (std::size_t k = 0; k < marks.size(); ++k) {
        if (k > 0 && marks[k] == marks[k - 1]) continue;
        go_to(box.x + across.unit(x[marks[k]]) * box.width, height_of(y[marks[k]]));
      }
    }
    i = end;
  }
  return data;
}

void draw_nothing(Page& page, const Box& box, std::string_view why) {
  page.text(box.x + box.width / 2, box.y + box.height / 2, why,
            {.size = 13, .anchor = "middle", .colour = muted, .italic = true});
}

void draw_colour_bar(Page& page, const Box& box, const Scale& scale, std::span<const Rgb> palette,
                     bool missing) {
  page.gradient_bar(box, palette);
  for (const Tick& tick : scale.ticks) {
    const double y = box.y + (1 - tick.unit) * box.height;
    page.line(box.x + box.width, y, box.x + box.width + 4, y, frame_colour);
    page.text(box.x + box.width + 7, y + 4, tick.label, {.size = 11});
  }
  if (!scale.note.empty()) {
    page.text(box.x + box.width / 2, box.y - 8, scale.note,
              {.size = 11, .anchor = "middle", .colour = muted});
  }
  if (missing) {
    const double y = box.y + box.height + 10;
    page.rectangle({box.x, y, box.width, box.width}, hex_colour(missing_colour), frame_colour);
    page.text(box.x + box.width + 7, y + 10, "NaN, ∞", {.size = 11});
  }
}

}  // namespace halfulp::detail
