#include "halfulp/mfac_picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "detail/require.hpp"
#include "detail/svg.hpp"
#include "halfulp/error.hpp"

namespace halfulp::mfac {
namespace {

using namespace halfulp::detail;  // NOLINT: the page, its axes and colours

constexpr std::string_view name = "mfac::draw_svg";

std::string curve_colour(std::size_t k) {
  return hex_colour(from_oklch(0.58, 0.15, 255 + 137.50776 * static_cast<double>(k)));
}

void check(const Picture& picture) {
  if (picture.panels.empty() || picture.panels.size() > 3)
    throw ShapeError(name, "panels.size()", std::to_string(picture.panels.size()), "1 to 3");
  for (const Panel& panel : picture.panels)
    for (const Curve& curve : panel.curves) {
      require_size(name, "y of " + curve.name, std::ssize(curve.y), std::ssize(curve.x));
      if (!curve.deviation.empty())
        require_size(name, "deviation of " + curve.name, std::ssize(curve.deviation),
                     std::ssize(curve.x));
    }
}

/// The curve as it can be drawn: finite points, and a band that is 0 where it is none.
Curve drawable(const Curve& curve) {
  Curve out{curve.name, {}, {}, {}};
  for (std::size_t i = 0; i < curve.x.size(); ++i) {
    if (!std::isfinite(curve.x[i]) || !std::isfinite(curve.y[i])) continue;
    const double band = curve.deviation.empty() ? 0 : std::fabs(curve.deviation[i]);
    out.x.push_back(curve.x[i]);
    out.y.push_back(curve.y[i]);
    out.deviation.push_back(std::isfinite(band) ? band : 0);
  }
  return out;
}

void draw_panel(Page& page, const Box& box, const Panel& panel) {
  std::vector<Curve> curves;
  halfulp::detail::Range across_range, up_range;
  const auto widen = [](halfulp::detail::Range& range, double value) {
    range.lower = std::min(range.lower, value);
    range.upper = std::max(range.upper, value);
  };
  for (const Curve& curve : panel.curves) {
    curves.push_back(drawable(curve));
    for (std::size_t i = 0; i < curves.back().x.size(); ++i) {
      widen(across_range, curves.back().x[i]);
      widen(up_range, curves.back().y[i] - curves.back().deviation[i]);
      widen(up_range, curves.back().y[i] + curves.back().deviation[i]);
    }
  }
  const bool empty = across_range.empty();
  const Scale across = empty ? linear_scale(0, 1, 5, 0)
                             : linear_scale(across_range.lower, across_range.upper, 6, 0.03);
  const Scale up =
      empty ? linear_scale(0, 1, 5, 0) : linear_scale(up_range.lower, up_range.upper, 6, 0.05);
  draw_grid(page, box, across, up);
  page.begin_clip(box);
  const auto horizontal = [&](double v) { return box.x + across.unit(v) * box.width; };
  const auto vertical = [&](double v) { return box.y + (1 - up.unit(v)) * box.height; };
  for (std::size_t k = 0; k < curves.size(); ++k) {
    const Curve& c = curves[k];
    std::string band;
    for (std::size_t i = 0; i < c.x.size(); ++i)
      band += (i == 0 ? "M" : "L") + coordinate(horizontal(c.x[i])) + " " +
              coordinate(vertical(c.y[i] + c.deviation[i]));
    for (std::size_t i = c.x.size(); i-- > 0;)
      band += "L" + coordinate(horizontal(c.x[i])) + " " +
              coordinate(vertical(c.y[i] - c.deviation[i]));
    if (!band.empty()) page.path(band + "Z", "none", 0, curve_colour(k), 0.18);
  }
  for (std::size_t k = 0; k < curves.size(); ++k) {
    const Curve& c = curves[k];
    page.path(curve(box, across, up, c.x, c.y), curve_colour(k), 1.8);
    for (std::size_t i = 0; i < c.x.size() && c.x.size() <= 50; ++i)
      page.circle(horizontal(c.x[i]), vertical(c.y[i]), 3, curve_colour(k));
  }
  page.end_clip();
  if (empty) draw_nothing(page, box, "no curve");
  draw_frame(page, box, across, up, {panel.title, {}, panel.horizontal, panel.vertical});
}

}  // namespace

std::string draw_svg(const Picture& picture) {
  check(picture);
  Page page;
  page.text(40, 44, picture.title, {.size = 20, .bold = true});
  std::string facts;
  for (const std::string& fact : picture.facts) facts += (facts.empty() ? "" : "  ·  ") + fact;
  page.text(40, 68, with_powers(facts), {.size = 13, .colour = muted});
  const auto count = static_cast<double>(picture.panels.size());
  constexpr double left = 95, right = 40, top = 120, height = 420, between = 95;
  const double width = (page_width - left - right - (count - 1) * between) / count;
  std::vector<std::string> names;
  for (std::size_t p = 0; p < picture.panels.size(); ++p) {
    draw_panel(page, {left + static_cast<double>(p) * (width + between), top, width, height},
               picture.panels[p]);
    if (picture.panels[p].curves.size() > names.size()) {
      names.clear();
      for (const Curve& curve : picture.panels[p].curves) names.push_back(curve.name);
    }
  }
  // The legend, in as many lines as it needs.
  double x = left, y = top + height + 66;
  for (std::size_t k = 0; k < names.size(); ++k) {
    const double wide = 44 + 6.6 * static_cast<double>(character_count(names[k]));
    if (x > left && x + wide > page_width - right) x = left, y += 22;
    page.line(x, y - 4, x + 22, y - 4, curve_colour(k), 3);
    page.text(x + 28, y, names[k], {.size = 12});
    x += wide;
  }
  return page.finish(y + 30, picture.title);
}

}  // namespace halfulp::mfac
