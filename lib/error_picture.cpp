#include "halfulp/error_picture.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "detail/require.hpp"
#include "detail/svg.hpp"

namespace halfulp {
namespace {

using namespace detail;  // NOLINT: the page, its axes and colours

constexpr double most_excess = 1.1;      // of the limit: larger errors are drawn there
constexpr double most_decades = 17;      // of a distribution
constexpr double below = 66, line = 17;  // a panel: its names, and from one to the next

struct Class {
  double most;  // of the limit
  std::string_view name, colour;
};
constexpr std::array<Class, 4> classes = {{{0.25, "≤ ¼ of the limit", "#9ecae1"},
                                           {0.5, "≤ ½", "#4292c6"},
                                           {1, "≤ the limit", "#08519c"},
                                           {HUGE_VAL, "beyond", "#d7301f"}}};
constexpr std::array<std::string_view, 4> colours = {"#08519c", "#d94801", "#6a51a3", "#238b45"};

Scale scale_of(const DecadeAxis& axis, int target) {
  require(axis.lower < axis.upper, "draw_svg", axis.name + ".lower", axis.lower,
          "below " + number_text(axis.upper));
  return log_scale(std::pow(10, axis.lower), std::pow(10, axis.upper), target);
}

double on(const Scale& scale, double decades) {
  return std::clamp((decades - scale.lower) / (scale.upper - scale.lower), 0.0, 1.0);
}

std::string dot_at(const Box& box, double across, double up) {
  return "M" + coordinate(box.x + across * box.width) + " " +
         coordinate(box.y + (1 - up) * box.height) + "h0";
}

void draw_map(Page& page, const Box& box, const ErrorPicture& picture) {
  const Scale across = scale_of(picture.across, 8), up = scale_of(picture.up, 8);
  draw_grid(page, box, across, up);
  std::array<std::string, classes.size()> dots;
  for (const ErrorPicture::Point& p : picture.points) {
    if (std::isnan(p.across) || std::isnan(p.up) || std::isnan(p.error)) continue;
    std::size_t k = 0;
    while (p.error > classes[k].most) ++k;
    dots[k] += dot_at(box, on(across, p.across), on(up, p.up));
  }
  for (std::size_t k = 0; k < classes.size(); ++k) page.dots(dots[k], classes[k].colour, 3.5, 1);
  draw_frame(page, box, across, up,
             {"Error over the arguments", {}, picture.across.name, picture.up.name});
  double x = box.x;
  for (const Class& c : classes) {
    page.circle(x + 4, box.y + box.height + below - 4, 4, c.colour);
    page.text(x + 14, box.y + box.height + below, c.name);
    x += 40 + 6.6 * static_cast<double>(character_count(c.name));
  }
}

void draw_seams(Page& page, const Box& box, const ErrorPicture& picture) {
  const Scale across = scale_of(picture.along, 8), up = linear_scale(0, most_excess, 4, 0);
  draw_grid(page, box, across, up);
  for (std::size_t k = 0; k < picture.seams.size(); ++k) {
    const auto& [name, seams] = picture.seams[k];
    std::string dots;
    for (const ErrorPicture::Seam& s : seams)
      if (!std::isnan(s.along) && !std::isnan(s.error))
        dots += dot_at(box, on(across, s.along), std::fmin(1, up.unit(s.error)));
    page.dots(dots, colours[(k + 2) % colours.size()], 3.5, 0.8);
  }
  const double limit = box.y + (1 - up.unit(1)) * box.height;
  page.line(box.x, limit, box.x + box.width, limit, "#d7301f");
  draw_frame(page, box, across, up,
             {"Where methods meet", {}, picture.along.name, "error / limit"});
  double x = box.x + box.width;
  for (std::size_t k = picture.seams.size(); k-- > 0;) {
    const std::string& name = picture.seams[k].first;
    page.text(x, box.y - 10, name, {.anchor = "end", .colour = colours[(k + 2) % colours.size()]});
    x -= 16 + 6.6 * static_cast<double>(character_count(name));
  }
}

void draw_distributions(Page& page, const Box& box, const ErrorPicture& picture) {
  double most = 1;
  for (const auto& errors : picture.distributions)
    for (const double value : errors.values)
      if (std::isfinite(value)) most = std::fmax(most, std::log10(std::fmax(value, 1)));
  const DecadeAxis axis{picture.unit, -3, std::fmin(std::ceil(most), most_decades)};
  const Scale across = scale_of(axis, 8), up = linear_scale(0, 1, 5, 0);
  draw_grid(page, box, across, up);
  for (std::size_t k = 0; k < picture.distributions.size(); ++k) {
    const auto& [name, values] = picture.distributions[k];
    std::vector<double> error, share;
    for (std::size_t i = 0; i < values.size() && std::isfinite(values[i]); ++i) {
      error.push_back(std::clamp(values[i], 1e-3, std::pow(10, most_decades)));
      share.push_back(static_cast<double>(i + 1) / static_cast<double>(values.size()));
    }
    page.path(curve(box, across, up, error, share), colours[k % colours.size()], 1.8);
    page.text(box.x, box.y + box.height + below + line * static_cast<double>(k), name,
              {.colour = colours[k % colours.size()]});
  }
  draw_frame(page, box, across, up,
             {"Share of the points with at most an error", {}, picture.unit, {}});
}

}  // namespace

std::string draw_svg(const ErrorPicture& picture) {
  Page page;
  page.text(40, 44, picture.title, {.size = 20, .bold = true});
  std::string facts;
  for (const std::string& fact : picture.facts) facts += (facts.empty() ? "" : "  ·  ") + fact;
  page.text(40, 68, with_powers(facts), {.size = 13, .colour = muted});
  constexpr double top = 120, height = 470, between = 90;
  const bool seams = !picture.seams.empty(), shares = !picture.distributions.empty();
  const Box map{90, top, seams || shares ? 600.0 : page_width - 130, height};
  draw_map(page, map, picture);
  const double x = map.x + map.width + 90, wide = page_width - 40 - x;
  const double each = seams && shares ? (height - between) / 2 : height;
  if (seams) draw_seams(page, {x, top, wide, each}, picture);
  if (shares) draw_distributions(page, {x, top + height - each, wide, each}, picture);
  const auto lines = static_cast<double>(std::max<std::size_t>(picture.distributions.size(), 1));
  return page.finish(top + height + below + line * lines, picture.title);
}

}  // namespace halfulp
