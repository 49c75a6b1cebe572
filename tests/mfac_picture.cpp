#include "halfulp/mfac_picture.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <string>

#include "halfulp/error.hpp"
#include "scratch.hpp"
#include "xml.hpp"

using halfulp::mfac::draw_svg;
using halfulp::mfac::Picture;

namespace {

Picture picture() {
  return {
      "Title & <more>",
      {"damping 1e-5", "3 seeds"},
      {{"loss",
        "epoch",
        "mean",
        {{"SGD", {1, 2, 3}, {3, 2, 1.5}, {0.1, 0.2, 0.1}}, {"M-FAC", {1, 2, 3}, {2, 1, 0.5}, {}}}},
       {"accuracy", "epoch", "%", {{"SGD", {1, 2, 3}, {30, 40, 50}, {}}}}}};
}

}  // namespace

TEST_CASE("curves are drawn with bands, names and facts", "[mfac_picture]") {
  const auto root = xml::parse(draw_svg(picture()));
  const std::string text = root.whole_text();
  for (const char* word :
       {"Title & <more>", "damping 1×10⁻⁵", "SGD", "M-FAC", "loss", "accuracy"}) {
    INFO(word);
    CHECK(text.find(word) != std::string::npos);
  }
  CHECK(root.all("circle").size() == 9);
  CHECK(draw_svg(picture()) == draw_svg(picture()));
}

TEST_CASE("what cannot be drawn is left out or refused", "[mfac_picture]") {
  Picture odd = picture();
  odd.panels[0].curves[0].y[1] = std::numeric_limits<double>::quiet_NaN();
  odd.panels[0].curves[0].deviation[2] = std::numeric_limits<double>::infinity();
  const auto root = xml::parse(draw_svg(odd));
  CHECK(root.all("circle").size() == 8);
  CHECK(draw_svg(odd).find("nan") == std::string::npos);
  Picture one = picture();
  one.panels[0].curves = {{"alone", {1}, {2}, {}}};
  one.panels[1].curves.clear();
  CHECK(xml::parse(draw_svg(one)).whole_text().find("no curve") != std::string::npos);
  Picture none = picture();
  none.panels.clear();
  CHECK(message_of<halfulp::ShapeError>([&] { static_cast<void>(draw_svg(none)); }) ==
        "halfulp::mfac::draw_svg: panels.size() = 0, must be 1 to 3");
  Picture uneven = picture();
  uneven.panels[0].curves[0].y.pop_back();
  CHECK(message_of<halfulp::ShapeError>([&] {
          static_cast<void>(draw_svg(uneven));
        }).find("y of SGD") != std::string::npos);
}
