#include "halfulp/vmf_picture.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <numeric>

#include "detail/require.hpp"
#include "detail/svg.hpp"
#include "detail/vmf.hpp"
#include "halfulp/error.hpp"

namespace halfulp::vmf {
namespace {

using namespace detail;  // NOLINT: the page, its axes and colours

using Vector3 = std::array<double, 3>;

constexpr double pi = std::numbers::pi;
constexpr double degree = pi / 180;
constexpr std::string_view fit_colour = "#a33b20";
constexpr std::string_view data_colour = "#9db4cf";
constexpr double cap = 0.95;             // probability inside the caps drawn
constexpr std::size_t most_dots = 4000;  // points drawn
constexpr std::size_t most_rows = 24;    // of the table
constexpr std::size_t most_images = 117;

/// Hues a golden angle apart, so that neighbours differ.
std::string component_colour(std::size_t k) {
  return hex_colour(from_oklch(0.58, 0.15, 28 + 137.50776 * static_cast<double>(k)));
}

/// White to dark blue in equal steps of lightness.
std::vector<Rgb> light_palette() {
  std::vector<Rgb> palette;
  for (int i = 0; i < colours; ++i) {
    const double t = static_cast<double>(i) / (colours - 1);
    palette.push_back(from_oklch(0.985 - 0.52 * t, 0.006 + 0.15 * t, 245 + 15 * t));
  }
  palette.push_back({255, 255, 255});  // outside of the disc
  return palette;
}

struct Data {
  std::ptrdiff_t n = 0, p = 0;
  std::span<const double> values;
  std::span<const double> weights;
  double total = 0;

  [[nodiscard]] std::span<const double> row(std::ptrdiff_t i) const {
    return values.subspan(static_cast<std::size_t>(i * p), static_cast<std::size_t>(p));
  }
  [[nodiscard]] double weight(std::ptrdiff_t i) const {
    return weights.empty() ? 1 : weights[static_cast<std::size_t>(i)];
  }
  /// Every how manieth point is drawn.
  [[nodiscard]] std::ptrdiff_t step() const {
    return n / static_cast<std::ptrdiff_t>(most_dots) + 1;
  }
};

double norm(std::span<const double> x) {
  double square = 0;
  for (const double v : x) square += v * v;
  return std::sqrt(square);
}

/// The angle whose cosine is 1 - complement.
double angle_of(double complement) {
  return 2 * std::asin(std::sqrt(std::clamp(0.5 * complement, 0.0, 1.0)));
}

/// Density of the angle from mu, per radian; on the circle of the signed angle.
double angle_density(double p, double kappa, double angle) {
  const double s = std::sin(0.5 * angle);
  if (p == 2) return std::exp(log_normaliser_scaled(2, kappa) - 2 * kappa * s * s);
  if (!(angle > 0 && angle < pi)) return 0;
  return std::exp(cosine_complement(p, kappa, 2 * s * s).log_density) * std::sin(angle);
}

/// Densities of a mixture at unit vectors.
class Density {
 public:
  explicit Density(const std::vector<PictureComponent>& components) : components_(components) {
    for (const auto& c : components)
      top_.push_back(log_normaliser_scaled(static_cast<double>(c.distribution.mu.size()),
                                           c.distribution.kappa));
  }
  [[nodiscard]] double part(std::size_t k, std::span<const double> x) const {
    const Distribution& d = components_[k].distribution;
    double chord = 0;
    for (std::size_t j = 0; j < x.size(); ++j) chord += (x[j] - d.mu[j]) * (x[j] - d.mu[j]);
    return components_[k].weight * std::exp(top_[k] - 0.5 * d.kappa * chord);
  }
  [[nodiscard]] double operator()(std::span<const double> x) const {
    double sum = 0;
    for (std::size_t k = 0; k < components_.size(); ++k) sum += part(k, x);
    return sum;
  }

 private:
  const std::vector<PictureComponent>& components_;
  std::vector<double> top_;
};

std::string drawn_remark(const Data& data) {
  if (data.step() == 1) return {};
  return "one point in " + std::to_string(data.step()) + " drawn";
}

std::string with_remark(std::string text, const std::string& more) {
  if (more.empty()) return text;
  return text.empty() ? more : text + " · " + more;
}

void draw_title(Page& page, double x, double y, std::string_view title, std::string_view remark) {
  page.markup(
      x, y,
      "<tspan font-weight=\"bold\">" + std::string(title) + "</tspan>" +
          (remark.empty() ? std::string()
                          : "<tspan dx=\"10\" font-size=\"12\" fill=\"" + std::string(muted) +
                                "\">" + std::string(remark) + "</tspan>"),
      {.size = 14});
}

// ---- angles from mu -----------------------------------------------------------------------------

struct Histogram {
  double lower = 0, width = 1;
  std::vector<double> height;  ///< per unit of the variable; they integrate to 1
};

/// Bins of about twice the interquartile range over the cube root of n (Freedman, Diaconis 1981).
Histogram histogram_of(const std::vector<double>& values, const Data& data, double lower,
                       double upper, double fewest) {
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  const double spread = sorted[sorted.size() * 3 / 4] - sorted[sorted.size() / 4];
  const double wanted = 2 * spread / std::cbrt(static_cast<double>(values.size()));
  const double bins =
      std::clamp(wanted > 0 ? std::ceil((upper - lower) / wanted) : fewest, fewest, 120.0);
  Histogram histogram{lower, (upper - lower) / bins,
                      std::vector<double>(static_cast<std::size_t>(bins))};
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double place = std::clamp((values[i] - lower) / histogram.width, 0.0, bins - 1);
    histogram.height[static_cast<std::size_t>(place)] +=
        data.weight(static_cast<std::ptrdiff_t>(i)) / (data.total * histogram.width);
  }
  return histogram;
}

/// Signed about mu on the circle, counter-clockwise; else from 0 to pi.
std::vector<double> angles_from(const Distribution& d, const Data& data) {
  std::vector<double> angles;
  for (std::ptrdiff_t i = 0; i < data.n; ++i) {
    const auto x = data.row(i);
    const double length = norm(x);
    double chord = 0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double difference = x[j] / length - d.mu[j];
      chord += difference * difference;
    }
    const double angle = angle_of(0.5 * chord);
    const bool clockwise = data.p == 2 && d.mu[0] * x[1] - d.mu[1] * x[0] < 0;
    angles.push_back(clockwise ? -angle : angle);
  }
  return angles;
}

void draw_angles(Page& page, const Box& box, const Distribution& d, const Data& data) {
  const auto p = static_cast<double>(d.mu.size());
  const bool circle = d.mu.size() == 2;
  const std::vector<double> angles = angles_from(d, data);
  double lower = 0, upper = angle_of(cosine_quantile(p, d.kappa, 0.999));
  if (circle) {
    upper = angle_of(cosine_quantile(p, d.kappa, 0.998));
    for (const double a : angles) upper = std::max(upper, std::fabs(a));
    lower = -upper;
  } else {
    lower = angle_of(cosine_quantile(p, d.kappa, 0.001));
    for (const double a : angles) lower = std::min(lower, a), upper = std::max(upper, a);
    if (lower < 0.25 * upper) lower = 0;
  }
  if (!(upper > lower)) upper = lower + 1e-12;
  const double pad = 0.03 * (upper - lower);
  const double from = circle ? std::max(lower - pad, -pi) : std::max(lower - pad, 0.0);
  const double to = std::min(upper + pad, pi);
  constexpr int samples = 500;
  std::vector<double> x, y;
  for (int i = 0; i <= samples; ++i) {
    const double angle = from + (to - from) * i / samples;
    x.push_back(angle / degree);
    y.push_back(angle_density(p, d.kappa, angle) * degree);
  }
  Histogram histogram;
  if (data.n > 0) histogram = histogram_of(angles, data, from, to, 12);
  double highest = 0;
  for (const double v : y) highest = std::max(highest, std::isfinite(v) ? v : 0);
  for (const double v : histogram.height) highest = std::max(highest, v * degree);
  const Scale across = linear_scale(from / degree, to / degree, 7, 0);
  const Scale up = with_headroom(linear_scale(0, highest, 5, 0), 0.06);
  draw_grid(page, box, across, up);
  page.begin_clip(box);
  std::string bars;
  const double bottom = box.y + box.height;
  for (std::size_t i = 0; i < histogram.height.size(); ++i) {
    if (histogram.height[i] == 0) continue;
    const double left = histogram.lower + static_cast<double>(i) * histogram.width;
    const double x0 = box.x + across.unit(left / degree) * box.width;
    const double x1 = box.x + across.unit((left + histogram.width) / degree) * box.width;
    const double top = bottom - up.unit(histogram.height[i] * degree) * box.height;
    bars += "M" + coordinate(x0) + " " + coordinate(bottom) + "V" + coordinate(top) + "H" +
            coordinate(x1) + "V" + coordinate(bottom) + "Z";
  }
  page.path(bars, "#ffffff", 0.7, data_colour);
  page.path(curve(box, across, up, x, y), fit_colour, 1.8);
  page.end_clip();
  draw_frame(page, box, across, up,
             {.title = "Angle from μ",
              .remark = data.n > 0 ? "bars: the data, line: the fit" : "the fit",
              .horizontal = "degrees",
              .vertical = "density per degree"});
}

// ---- the circle ---------------------------------------------------------------------------------

/// Around (x, y): the unit circle at `radius`, densities outwards.
void draw_circle(Page& page, double x, double y, double radius, double depth,
                 const Picture& picture, const Data& data) {
  const Density density(picture.components);
  constexpr int samples = 1440;
  std::vector<std::array<double, 2>> directions;
  directions.reserve(samples + 121 * picture.components.size());
  for (int i = 0; i < samples; ++i)
    directions.push_back({std::cos(2 * pi * i / samples), std::sin(2 * pi * i / samples)});
  // A peak narrower than the samples is at a mean direction.
  for (const auto& c : picture.components) {
    const double centre = std::atan2(c.distribution.mu[1], c.distribution.mu[0]);
    const double width = 6 / std::sqrt(c.distribution.kappa + 1);
    for (int i = -60; i <= 60; ++i)
      directions.push_back({std::cos(centre + width * i / 60), std::sin(centre + width * i / 60)});
  }
  std::sort(directions.begin(), directions.end(), [](const auto& a, const auto& b) {
    return std::atan2(a[1], a[0]) < std::atan2(b[1], b[0]);
  });
  std::vector<double> values;
  values.reserve(directions.size());
  for (const auto& d : directions) values.push_back(density(d));
  double highest = *std::max_element(values.begin(), values.end());
  Histogram histogram;
  if (data.n > 0) {
    std::vector<double> angles;
    for (std::ptrdiff_t i = 0; i < data.n; ++i)
      angles.push_back(std::atan2(data.row(i)[1], data.row(i)[0]));
    histogram = histogram_of(angles, data, -pi, pi, 36);
    for (const double h : histogram.height) highest = std::max(highest, h);
  }
  const Scale scale = linear_scale(0, highest, 3, 0);
  const auto at = [&](double angle, double r) {
    return coordinate(x + r * std::cos(angle)) + " " + coordinate(y - r * std::sin(angle));
  };
  const auto height = [&](double value) { return radius + depth * scale.unit(value); };
  for (const Tick& tick : scale.ticks)
    if (tick.unit > 0 && tick.unit <= 1.001)
      page.circle(x, y, radius + depth * tick.unit, "none", grid_colour);
  for (int k = 0; k < 8; ++k) {
    const double angle = k * pi / 4;
    page.line(x + radius * std::cos(angle), y - radius * std::sin(angle),
              x + (radius + depth + 6) * std::cos(angle),
              y - (radius + depth + 6) * std::sin(angle), grid_colour);
    page.text(x + (radius + depth + 24) * std::cos(angle),
              y - (radius + depth + 18) * std::sin(angle) + 4, std::to_string(45 * k) + "°",
              {.anchor = "middle", .colour = muted});
  }
  std::string bars;
  for (std::size_t i = 0; i < histogram.height.size(); ++i) {
    if (histogram.height[i] == 0) continue;
    const double a = histogram.lower + static_cast<double>(i) * histogram.width;
    const double b = a + histogram.width, r = height(histogram.height[i]);
    bars += "M" + at(a, radius) + "L" + at(a, r) + "A" + coordinate(r) + " " + coordinate(r) +
            " 0 0 0 " + at(b, r) + "L" + at(b, radius) + "A" + coordinate(radius) + " " +
            coordinate(radius) + " 0 0 1 " + at(a, radius) + "Z";
  }
  page.path(bars, "#ffffff", 0.7, data_colour);
  const auto outline = [&](const auto& value_of) {
    std::string path;
    for (std::size_t i = 0; i < directions.size(); ++i)
      path += (i == 0 ? "M" : "L") +
              at(std::atan2(directions[i][1], directions[i][0]), height(value_of(i)));
    return path + "Z";
  };
  const bool several = picture.components.size() > 1;
  if (several)
    for (std::size_t k = 0; k < picture.components.size(); ++k)
      page.path(outline([&](std::size_t i) { return density.part(k, directions[i]); }),
                component_colour(k), 1.1, "none", 1, "5 3");
  page.path(outline([&](std::size_t i) { return values[i]; }), fit_colour, 1.8);
  page.circle(x, y, radius, "none", frame_colour);
  std::string rug;
  for (std::ptrdiff_t i = 0; i < data.n; i += data.step()) {
    const double angle = std::atan2(data.row(i)[1], data.row(i)[0]);
    rug += "M" + at(angle, radius - 2) + "L" + at(angle, radius - 10);
  }
  page.path(rug, ink, 0.7, "none", data.n > 300 ? 0.35 : 0.7);
  for (std::size_t k = 0; k < picture.components.size(); ++k) {
    const auto& c = picture.components[k];
    const std::string colour = several ? component_colour(k) : std::string(fit_colour);
    const double angle = std::atan2(c.distribution.mu[1], c.distribution.mu[0]);
    const double half = angle_of(cosine_quantile(2, c.distribution.kappa, cap));
    const double inner = radius - 18 - (several ? 7 * static_cast<double>(k % 6) : 0.);
    page.path("M" + at(angle - half, inner) + "A" + coordinate(inner) + " " + coordinate(inner) +
                  " 0 " + (half > pi / 2 ? "1" : "0") + " 0 " + at(angle + half, inner),
              colour, 3);
    // The resultant: an arrow as long as the mean length.
    const double tip = (radius - 24) * std::clamp(c.mean_length, 0.0, 1.0);
    page.path("M" + at(angle, 0) + "L" + at(angle, tip), colour, 2);
    page.path("M" + at(angle, tip) + "L" + at(angle + 4 / std::max(tip, 12.0), tip - 10) + "L" +
                  at(angle - 4 / std::max(tip, 12.0), tip - 10) + "Z",
              colour, 1, colour);
  }
  page.circle(x, y, 2.5, ink);
  // Labels of the rings, where the density is lowest.
  const auto lowest =
      static_cast<std::size_t>(std::min_element(values.begin(), values.end()) - values.begin());
  const double quiet =
      std::round(std::atan2(directions[lowest][1], directions[lowest][0]) / (pi / 4) - 0.5) *
          (pi / 4) +
      pi / 8;
  for (const Tick& tick : scale.ticks) {
    if (!(tick.unit > 0 && tick.unit <= 1.001)) continue;
    const double r = radius + depth * tick.unit;
    const double half = 3.4 * static_cast<double>(character_count(tick.label)) + 3;
    page.rectangle({x + r * std::cos(quiet) - half, y - r * std::sin(quiet) - 8, 2 * half, 15},
                   "#ffffff", "none", 0.85, 3);
    page.text(x + r * std::cos(quiet), y - r * std::sin(quiet) + 4, tick.label,
              {.size = 11, .anchor = "middle", .colour = muted});
  }
}

// ---- the sphere ---------------------------------------------------------------------------------

double dot(const Vector3& a, const Vector3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

/// Orthographic view from the direction with this longitude and latitude, the third axis upwards.
struct View {
  double longitude, latitude;
  Vector3 right, up, towards;

  View(double longitude, double latitude)
      : longitude(longitude),
        latitude(latitude),
        right{-std::sin(longitude), std::cos(longitude), 0},
        up{-std::sin(latitude) * std::cos(longitude), -std::sin(latitude) * std::sin(longitude),
           std::cos(latitude)},
        towards{std::cos(latitude) * std::cos(longitude), std::cos(latitude) * std::sin(longitude),
                std::sin(latitude)} {}
};

/// A cap's edge, and what else is a circle: around `axis` at this angle.
std::vector<Vector3> circle_around(const Vector3& axis, double angle, int samples) {
  const Vector3 other = std::fabs(axis[2]) < 0.9 ? Vector3{0, 0, 1} : Vector3{1, 0, 0};
  Vector3 a = {axis[1] * other[2] - axis[2] * other[1], axis[2] * other[0] - axis[0] * other[2],
               axis[0] * other[1] - axis[1] * other[0]};
  const double length = std::sqrt(dot(a, a));
  for (double& v : a) v /= length;
  const Vector3 b = {axis[1] * a[2] - axis[2] * a[1], axis[2] * a[0] - axis[0] * a[2],
                     axis[0] * a[1] - axis[1] * a[0]};
  std::vector<Vector3> points;
  for (int i = 0; i <= samples; ++i) {
    const double s = 2 * pi * i / samples;
    Vector3 point{};
    for (std::size_t j = 0; j < 3; ++j)
      point[j] =
          std::cos(angle) * axis[j] + std::sin(angle) * (std::cos(s) * a[j] + std::sin(s) * b[j]);
    points.push_back(point);
  }
  return points;
}

class Sphere {
 public:
  Sphere(Page& page, double x, double y, double radius, const View& view)
      : page_(page), x_(x), y_(y), radius_(radius), view_(view) {}

  void draw(const Picture& picture, const Data& data, const Scale& scale,
            std::span<const Rgb> palette) {
    draw_density(Density(picture.components), scale, palette, picture.components.size() > 1);
    page_.begin_clip(x_, y_, radius_);
    draw_graticule();
    const auto step = data.step();
    std::string dots;
    for (std::ptrdiff_t i = 0; i < data.n; i += step) {
      const auto row = data.row(i);
      const double length = norm(row);
      const Vector3 point = {row[0] / length, row[1] / length, row[2] / length};
      if (dot(point, view_.towards) < 0) continue;
      dots += "M" + place(point) + "h0";
    }
    // Strokes of no length with round ends: a dot each, in one path.
    page_.dots(dots, ink, 3.2, data.n > 1000 ? 0.35 : 0.6);
    const bool several = picture.components.size() > 1;
    for (std::size_t k = 0; k < picture.components.size(); ++k) {
      const auto& d = picture.components[k].distribution;
      const Vector3 mu = {d.mu[0], d.mu[1], d.mu[2]};
      const std::string colour = several ? component_colour(k) : std::string(fit_colour);
      const double angle = angle_of(cosine_quantile(3, d.kappa, cap));
      visible_path(circle_around(mu, angle, 240), colour, 1.8);
    }
    page_.end_clip();
    page_.circle(x_, y_, radius_, "none", frame_colour);
    for (std::size_t k = 0; k < picture.components.size(); ++k) {
      const auto& d = picture.components[k].distribution;
      const Vector3 mu = {d.mu[0], d.mu[1], d.mu[2]};
      if (dot(mu, view_.towards) < 0) continue;
      const std::string colour = several ? component_colour(k) : std::string(fit_colour);
      const double px = x_ + radius_ * dot(mu, view_.right), py = y_ - radius_ * dot(mu, view_.up);
      page_.circle(px, py, 4.5, colour, "#ffffff", 1.5);
      const std::string label = several ? std::to_string(k) : "μ";
      const double half = 4 * static_cast<double>(character_count(label)) + 3;
      page_.rectangle({px + 8, py - 17, 2 * half, 16}, "#ffffff", "none", 0.8, 3);
      page_.text(px + 8 + half, py - 5, label,
                 {.size = 13, .anchor = "middle", .colour = colour, .bold = true});
    }
    draw_axes();
  }

 private:
  [[nodiscard]] std::string place(const Vector3& point) const {
    return coordinate(x_ + radius_ * dot(point, view_.right)) + " " +
           coordinate(y_ - radius_ * dot(point, view_.up));
  }

  void visible_path(const std::vector<Vector3>& points, std::string_view colour, double width,
                    double opacity = 1) {
    std::string path;
    bool pen_down = false;
    for (const Vector3& point : points) {
      if (dot(point, view_.towards) < -1e-3) {
        pen_down = false;
        continue;
      }
      path += (pen_down ? "L" : "M") + place(point);
      pen_down = true;
    }
    page_.path(path, colour, width, "none", opacity);
  }

  void draw_density(const Density& density, const Scale& scale, std::span<const Rgb> palette,
                    bool square_root) {
    constexpr int side = 300;
    std::vector<std::uint8_t> indices;
    for (int j = 0; j < side; ++j) {
      for (int i = 0; i < side; ++i) {
        double u = 2 * (i + 0.5) / side - 1, v = 1 - 2 * (j + 0.5) / side;
        const double r = std::hypot(u, v);
        if (r > 1.02) {
          indices.push_back(missing_index);
          continue;
        }
        if (r > 1) u /= r, v /= r;  // the image reaches beyond the edge that cuts it
        const double w = std::sqrt(std::max(0.0, 1 - u * u - v * v));
        Vector3 point{};
        for (std::size_t k = 0; k < 3; ++k)
          point[k] = u * view_.right[k] + v * view_.up[k] + w * view_.towards[k];
        double unit = std::clamp(scale.unit(density(point)), 0.0, 1.0);
        if (square_root) unit = std::sqrt(unit);
        indices.push_back(static_cast<std::uint8_t>(std::lround(unit * (colours - 1))));
      }
    }
    page_.begin_clip(x_, y_, radius_);
    page_.image({x_ - radius_, y_ - radius_, 2 * radius_, 2 * radius_}, side, side, indices,
                palette, true);
    page_.end_clip();
  }

  void draw_graticule() {
    for (int latitude = -60; latitude <= 60; latitude += 30)
      visible_path(circle_around({0, 0, 1}, (90 - latitude) * degree, 180), frame_colour,
                   latitude == 0 ? 1.1 : 0.8, latitude == 0 ? 0.7 : 0.4);
    for (int longitude = 0; longitude < 180; longitude += 30)
      visible_path(circle_around({-std::sin(longitude * degree), std::cos(longitude * degree), 0},
                                 pi / 2, 180),
                   frame_colour, 0.8, 0.4);
  }

  /// The ends of the axes on this side.
  void draw_axes() {
    constexpr std::array<std::string_view, 3> names = {"x₁", "x₂", "x₃"};
    for (std::size_t k = 0; k < 3; ++k) {
      for (const double sign : {1.0, -1.0}) {
        Vector3 end{};
        end[k] = sign;
        if (dot(end, view_.towards) < 0.02) continue;
        const double u = dot(end, view_.right), v = dot(end, view_.up);
        page_.circle(x_ + radius_ * u, y_ - radius_ * v, 2.6, "#ffffff", muted, 1.2);
        const double r = std::hypot(u, v);
        // Beside the end, away from the middle; of ends next to the edge outside of it.
        const double x = r < 0.15 ? 0 : u / r, y = r < 0.15 ? 0.9 : v / r;
        const double from = r > 0.75 ? radius_ : radius_ * r;
        page_.text(x_ + (from + 17) * x, y_ - (from + 14) * y + 4,
                   (sign > 0 ? "" : "−") + std::string(names[k]),
                   {.size = 12, .anchor = "middle", .colour = muted, .italic = true});
      }
    }
  }

  Page& page_;
  double x_, y_, radius_;
  View view_;
};

/// The neighbourhood of mu, equal areas (Lambert's azimuthal projection), the third axis upwards.
void draw_neighbourhood(Page& page, const Box& box, const Picture& picture, const Data& data,
                        const Scale& scale, std::span<const Rgb> palette) {
  const Distribution& d = picture.components[0].distribution;
  const Vector3 mu = {d.mu[0], d.mu[1], d.mu[2]};
  const View view(std::atan2(mu[1], mu[0]), std::asin(std::clamp(mu[2], -1.0, 1.0)));
  const double edge = angle_of(cosine_quantile(3, d.kappa, cap));
  const double reach = 1.6 * 2 * std::sin(0.5 * edge);
  const double top = log_normaliser_scaled(3, d.kappa);
  constexpr int side = 240;
  std::vector<std::uint8_t> indices;
  for (int j = 0; j < side; ++j) {
    for (int i = 0; i < side; ++i) {
      const double u = reach * (2 * (i + 0.5) / side - 1), v = reach * (1 - 2 * (j + 0.5) / side);
      const double value = std::exp(top - 0.5 * d.kappa * (u * u + v * v));
      indices.push_back(static_cast<std::uint8_t>(
          std::lround(std::clamp(scale.unit(value), 0.0, 1.0) * (colours - 1))));
    }
  }
  page.image(box, side, side, indices, palette, true);
  const Scale across = linear_scale(-reach / degree, reach / degree, 5, 0);
  const double x = box.x + box.width / 2, y = box.y + box.height / 2;
  page.begin_clip(box);
  std::string dots;
  for (std::ptrdiff_t i = 0; i < data.n; i += data.step()) {
    const auto row = data.row(i);
    const double length = norm(row);
    Vector3 from_mu{};
    for (std::size_t k = 0; k < 3; ++k) from_mu[k] = row[k] / length - mu[k];
    const double chord = std::sqrt(dot(from_mu, from_mu));
    const double u = dot(from_mu, view.right), v = dot(from_mu, view.up);
    const double stretch = chord / std::max(std::hypot(u, v), 1e-300);
    dots += "M" + coordinate(x + u * stretch / reach * box.width / 2) + " " +
            coordinate(y - v * stretch / reach * box.height / 2) + "h0";
  }
  page.dots(dots, ink, 3.2, data.n > 1000 ? 0.35 : 0.6);
  page.circle(x, y, box.width / 3.2, "none", fit_colour, 1.8);
  page.end_clip();
  page.circle(x, y, 4.5, fit_colour, "#ffffff", 1.5);
  draw_frame(page, box, across, across,
             {.title = "Around μ", .remark = "enlarged", .horizontal = "degrees", .vertical = ""});
}

// ---- several components -------------------------------------------------------------------------

/// Components shown, heaviest first where there are more than `most`.
std::vector<std::size_t> shown_components(const Picture& picture, std::size_t most) {
  std::vector<std::size_t> order(picture.components.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (order.size() > most) {
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return picture.components[a].weight > picture.components[b].weight;
    });
    order.resize(most);
  }
  return order;
}

/// Two digits, and no power of ten for what one reads at a glance.
std::string error_text(double value) {
  return value >= 10 && value < 1e5 ? fixed_number(value, 0) : short_number(value, 2);
}

/// @return  where the table ends
double draw_table(Page& page, double x, double y, const Picture& picture) {
  constexpr double row = 23;
  const auto shown = shown_components(picture, most_rows);
  const bool all = shown.size() == picture.components.size();
  draw_title(page, x - 6, y, "Components",
             all ? ""
                 : "the " + std::to_string(shown.size()) + " heaviest of " +
                       std::to_string(picture.components.size()));
  double heaviest = 0, low = std::numeric_limits<double>::infinity(), high = 0;
  for (const std::size_t k : shown) {
    const auto& c = picture.components[k];
    heaviest = std::max(heaviest, c.weight);
    if (c.distribution.kappa > 0) low = std::min(low, c.distribution.kappa);
    high = std::max(high, c.distribution.kappa);
  }
  const bool logarithmic = high > 20 * low;  // of bars that start at 0 the short ones would vanish
  const double base = std::pow(10.0, std::floor(std::log10(low)));
  const double weights = x + 58, kappas = x + 268, lengths = x + 590, counts = x + 690;
  constexpr double weight_bar = 110, kappa_bar = 140;
  y += 28;
  const TextStyle head = {.size = 12, .colour = muted};
  const TextStyle head_right = {.size = 12, .anchor = "end", .colour = muted};
  page.text(x + 28, y, "no.", head_right);
  page.text(weights, y, "weight", head);
  page.text(kappas, y, logarithmic ? "κ (logarithmic bars)" : "κ", head);
  page.text(lengths, y, "mean length", head_right);
  page.text(counts, y, "count", head_right);
  page.line(x - 6, y + 7, counts + 6, y + 7, frame_colour);
  for (const std::size_t k : shown) {
    const auto& c = picture.components[k];
    y += row;
    const double kappa = c.distribution.kappa;
    page.rectangle({x - 6, y - 9, 9, 9}, component_colour(k), "none", 1, 2);
    page.text(x + 28, y, std::to_string(k), {.anchor = "end"});
    page.rectangle({weights, y - 10, weight_bar * c.weight / heaviest, 12}, data_colour, "none", 1,
                   2);
    page.text(weights + weight_bar * c.weight / heaviest + 7, y, short_number(c.weight, 3));
    const double part = logarithmic ? std::log10(std::max(kappa, base) / base) /
                                          std::max(std::log10(high / base), 1e-9)
                                    : kappa / std::max(high, 1e-300);
    page.rectangle({kappas, y - 10, std::max(kappa_bar * part, 1.0), 12}, data_colour, "none", 1,
                   2);
    page.text(
        kappas + std::max(kappa_bar * part, 1.0) + 7, y,
        short_number(kappa, 5) + (c.kappa_error > 0 ? " ± " + error_text(c.kappa_error) : ""));
    page.text(lengths, y, short_number(c.mean_length, 4), {.anchor = "end"});
    page.text(counts, y,
              fixed_number(c.count, c.count < 100 && c.count != std::floor(c.count) ? 1 : 0),
              {.anchor = "end"});
  }
  return y + 12;
}

void draw_trace(Page& page, const Box& box, const Picture& picture) {
  const auto& trace = picture.trace;
  std::vector<double> x(trace.size());
  std::iota(x.begin(), x.end(), 1.0);
  const Range range = range_of(trace);
  const Scale across = linear_scale(1, std::max(2.0, static_cast<double>(trace.size())), 6, 0.02);
  const Scale up = linear_scale(range.lower, range.upper, 5, 0.06);
  draw_grid(page, box, across, up);
  page.begin_clip(box);
  page.path(curve(box, across, up, x, trace), solution_colour, 1.5);
  if (trace.size() <= 60)
    for (std::size_t i = 0; i < trace.size(); ++i)
      if (std::isfinite(trace[i]))
        page.dot(box.x + across.unit(x[i]) * box.width,
                 box.y + (1 - up.unit(trace[i])) * box.height, solution_colour);
  page.end_clip();
  if (range.empty()) draw_nothing(page, box, "no finite value");
  draw_frame(page, box, across, up,
             {.title = "Convergence",
              .remark = "",
              .horizontal = "iteration",
              .vertical = picture.trace_label});
}

// ---- images -------------------------------------------------------------------------------------

/// White to black where no entry is negative, blue through white to red else; each image by itself.
void draw_image(Page& page, const Box& box, const Picture& picture, const Distribution& d) {
  const Range range = range_of(d.mu);
  const bool is_signed = range.lower < -0.05 * range.upper;
  std::vector<Rgb> palette;
  if (is_signed) {
    palette = palette_of(ColourMap::diverging);
  } else {
    for (int i = 0; i < colours; ++i)
      palette.push_back(from_oklch(1 - 0.85 * i / (colours - 1), 0, 0));
    palette.push_back(missing_colour);
  }
  const double most = std::max(std::fabs(range.lower), std::fabs(range.upper));
  std::vector<std::uint8_t> indices;
  for (const double v : d.mu) {
    const double unit = is_signed ? 0.5 + 0.5 * v / most : v / most;
    indices.push_back(
        static_cast<std::uint8_t>(std::lround(std::clamp(unit, 0.0, 1.0) * (colours - 1))));
  }
  page.image(box, picture.image_columns, picture.image_rows, indices, palette, false);
  page.rectangle(box, "none", grid_colour);
}

double draw_images(Page& page, double top, const Picture& picture) {
  const auto shown = shown_components(picture, most_images);
  draw_title(page, 34, top, "Mean directions as images",
             shown.size() == picture.components.size()
                 ? "each in its own scale"
                 : "the " + std::to_string(shown.size()) + " heaviest, each in its own scale");
  const std::size_t across = shown.size() <= 10 ? 10 : shown.size() <= 40 ? 10 : 13;
  const double pitch = (page_width - 68) / static_cast<double>(across), gap = 10;
  const double ratio =
      static_cast<double>(picture.image_rows) / static_cast<double>(picture.image_columns);
  const double width = ratio <= 1 ? pitch - gap : (pitch - gap) / ratio, height = width * ratio;
  double y = top + 16;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const auto& c = picture.components[shown[i]];
    if (i > 0 && i % across == 0) y += height + 30;
    const double x = 34 + pitch * static_cast<double>(i % across);
    draw_image(page, {x, y, width, height}, picture, c.distribution);
    page.text(x + width / 2, y + height + 14,
              std::to_string(shown[i]) + ":  " + short_number(100 * c.weight, 3) + " %",
              {.size = 11, .anchor = "middle", .colour = muted});
  }
  return y + height + 34;
}

// ---- the page -----------------------------------------------------------------------------------

Data check(const Picture& picture) {
  constexpr std::string_view name = "vmf::draw_svg";
  if (picture.components.empty()) throw ShapeError(name, "components.size()", "0", ">= 1");
  const auto p = std::ssize(picture.components[0].distribution.mu);
  for (std::size_t k = 0; k < picture.components.size(); ++k) {
    const std::string component = "components[" + std::to_string(k) + "].distribution";
    require_distribution(name, component, picture.components[k].distribution);
    require_size(name, component + ".mu", std::ssize(picture.components[k].distribution.mu), p);
  }
  if (std::ssize(picture.points) % p != 0)
    throw ShapeError(name, "points.size()", std::to_string(picture.points.size()),
                     "a multiple of p = " + std::to_string(p));
  Data data{std::ssize(picture.points) / p, p, picture.points, picture.weights, 0};
  if (!picture.weights.empty()) require_size(name, "weights", std::ssize(picture.weights), data.n);
  for (std::ptrdiff_t i = 0; i < data.n; ++i) data.total += data.weight(i);
  if (picture.image_rows != 0 || picture.image_columns != 0)
    if (picture.image_rows < 1 || picture.image_columns < 1 ||
        picture.image_rows > p / picture.image_columns ||
        picture.image_rows * picture.image_columns != p)
      throw ShapeError(
          name, "image_rows * image_columns",
          std::to_string(picture.image_rows) + " * " + std::to_string(picture.image_columns),
          "p = " + std::to_string(p));
  return data;
}

/// A little to the side of mu, so that the sphere is seen as one.
View view_of(const Distribution& d) {
  return {std::atan2(d.mu[1], d.mu[0]) - 25 * degree,
          0.6 * std::asin(std::clamp(d.mu[2], -1.0, 1.0))};
}

/// Where the mean direction nearest to the edge is farthest from it, the heaviest in front.
View best_view(const std::vector<PictureComponent>& components) {
  View best(0, 0);
  double most = -1;
  const auto cosine = [](const Distribution& d, const View& view) {
    return d.mu[0] * view.towards[0] + d.mu[1] * view.towards[1] + d.mu[2] * view.towards[2];
  };
  for (int latitude = -40; latitude <= 40; latitude += 20) {
    for (int longitude = 0; longitude < 360; longitude += 10) {
      const View view(longitude * degree, latitude * degree);
      double least = 1;
      for (const auto& c : components)
        least = std::min(least, std::fabs(cosine(c.distribution, view)));
      if (least > most) most = least, best = view;
    }
  }
  const auto heaviest =
      std::max_element(components.begin(), components.end(),
                       [](const auto& a, const auto& b) { return a.weight < b.weight; });
  if (cosine(heaviest->distribution, best) < 0) return {best.longitude + pi, -best.latitude};
  return best;
}

/// @return  where the row of panels ends
double draw_sphere_row(Page& page, double top, const Picture& picture, const Data& data) {
  const auto& components = picture.components;
  const bool several = components.size() > 1;
  const View near = several ? best_view(components) : view_of(components[0].distribution);
  const View far(near.longitude + pi, -near.latitude);
  const Density density(components);
  double highest = 0;
  for (const auto& c : components) highest = std::max(highest, density(c.distribution.mu));
  Scale scale = linear_scale(0, highest, 5, 0);
  if (several)  // wide components beside narrow ones would hardly be seen
    for (Tick& tick : scale.ticks) tick.unit = std::sqrt(tick.unit);
  const auto palette = light_palette();
  const auto& first = components[0].distribution;
  const bool enlarged = !several && angle_of(cosine_quantile(3, first.kappa, cap)) < 20 * degree;
  const double radius = several ? 215 : enlarged ? 165 : 225;
  const double y = top + 34 + radius;
  std::ptrdiff_t hidden = 0;
  for (std::ptrdiff_t i = 0; i < data.n; ++i) {
    const auto row = data.row(i);
    hidden += dot({row[0], row[1], row[2]}, near.towards) < 0;
  }
  const double left = 46 + radius;
  std::string remark = several ? "rings: 95 % of each component" : "ring: 95 % of the probability";
  if (!several && hidden > 0)
    remark = with_remark(remark, std::to_string(hidden) + (hidden == 1 ? " point" : " points") +
                                     " on the other side");
  draw_title(page, 34, top, several ? "Density, one side" : "Density",
             with_remark(remark, drawn_remark(data)));
  Sphere(page, left, y, radius, near).draw(picture, data, scale, palette);
  double bar = left + radius + 56;
  if (several) {
    const double second = left + 2 * radius + 76;
    draw_title(page, second - radius - 12, top, "The other side", "");
    Sphere(page, second, y, radius, far).draw(picture, data, scale, palette);
    bar = second + radius + 54;
  }
  draw_colour_bar(page, {bar, y - 110, 13, 220}, scale, palette, false);
  page.text(bar - 8, y,
            several ? "density per steradian, square-root scale" : "density per steradian",
            {.size = 11, .anchor = "middle", .colour = muted, .rotate = -90});
  const double end = y + radius;
  if (enlarged) {
    draw_neighbourhood(page, {bar + 104, top + 34, 280, 280}, picture, data, scale, palette);
    draw_angles(page, {bar + 470, top + 34, page_width - 30 - (bar + 470), 280}, first, data);
  } else if (!several) {
    draw_angles(page, {bar + 140, top + 70, page_width - 30 - (bar + 140), 330}, first, data);
  }
  return end + 34;
}

double draw_circle_row(Page& page, double top, const Picture& picture, const Data& data) {
  const bool several = picture.components.size() > 1;
  const std::string arcs = several ? "arcs: 95 % of each component, arrows: their mean lengths"
                                   : "arc: 95 % of the probability, arrow: the mean length";
  draw_title(page, 34, top, "Density per radian, outwards", with_remark(arcs, drawn_remark(data)));
  draw_circle(page, 300, top + 290, 150, 90, picture, data);
  const Box box = {690, top + 120, page_width - 720, 330};
  if (!several)
    draw_angles(page, box, picture.components[0].distribution, data);
  else if (!picture.trace.empty())
    draw_trace(page, box, picture);
  return top + 290 + 240 + 46;
}

}  // namespace

std::string draw_svg(const Picture& picture) {
  const Data data = check(picture);
  const std::ptrdiff_t p = data.p;
  const bool several = picture.components.size() > 1;
  Page page;
  page.text(34, 42, picture.title, {.size = 23, .bold = true}, 90);
  std::string facts;
  for (const std::string& fact : picture.facts)
    facts += (facts.empty() ? "" : "\u00A0\u00A0·\u00A0\u00A0") + fact;
  page.text(34, 68, with_powers(facts), {.size = 13, .colour = muted}, 190);
  double top = 84;
  if (!picture.alarm.empty()) {
    page.rectangle({34, top, page_width - 64, 32}, "#c5221f", "none", 1, 4);
    page.text(48, top + 21, with_powers(picture.alarm),
              {.size = 15, .colour = "#ffffff", .bold = true}, 140);
    top += 40;
  }
  top += 22;
  const bool image = picture.image_rows > 0;
  if (p == 2) {
    top = draw_circle_row(page, top, picture, data);
  } else if (p == 3) {
    top = draw_sphere_row(page, top, picture, data);
  } else if (!several) {
    draw_angles(page, {92, top + 10, image ? 660. : 1078., 320}, picture.components[0].distribution,
                data);
    if (image) {
      const auto& d = picture.components[0].distribution;
      const double ratio =
          static_cast<double>(picture.image_rows) / static_cast<double>(picture.image_columns);
      const double width = std::min(320.0, 320 / ratio);
      draw_title(page, 826, top, "Mean direction", "");
      draw_image(page, {826, top + 10, width, width * ratio}, picture, d);
    }
    top += 10 + 320 + 56;
  }
  if (several) {
    if (p <= 3) top += 24;
    double end = draw_table(page, 40, top, picture);
    if (p > 2 && !picture.trace.empty()) {
      draw_trace(page, {860, top + 14, 310, 230}, picture);
      end = std::max(end, top + 14 + 230 + 50);
    }
    top = end + 24;
    if (image) top = draw_images(page, top + 10, picture);
  }
  return page.finish(top, picture.title);
}

}  // namespace halfulp::vmf
