#include "halfulp/error_picture.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <string>

#include "halfulp/error.hpp"
#include "scratch.hpp"
#include "xml.hpp"

using halfulp::draw_svg;
using halfulp::ErrorPicture;

namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

ErrorPicture picture() {
  ErrorPicture out;
  out.title = "log I & <more>";
  out.facts = {"5 points", "limit 1e-5"};
  out.across = {"v", -6, 6};
  out.up = {"x", -8, 7};
  out.points = {{0, 0, 0.2}, {-99, 3, 0.4}, {5, 99, 0.9}, {1, 1, 3}, {2, -2, infinity}};
  out.along = {"√(v² + x²)", -0.5, 4.5};
  out.seams = {{"seams", {{1, 0.5}, {2, 7}}}, {"cells", {{0, 0.1}}}};
  out.unit = "u max(1, |value|)";
  out.distributions = {{"halfulp", {0, 0.5, 1}}, {"another", {0.1, 1e9, infinity}}};
  return out;
}

/// How many dots there are of a colour: each begins with M in one path.
std::size_t dots(const std::string& svg, const std::string& colour) {
  std::size_t count = 0;
  const auto root = xml::parse(svg);
  for (const auto* path : root.all("path")) {
    const auto& attributes = path->attributes;
    if (!attributes.contains("stroke-linecap") || attributes.at("stroke") != colour) continue;
    const std::string& data = attributes.at("d");
    count += static_cast<std::size_t>(std::count(data.begin(), data.end(), 'M'));
  }
  return count;
}

}  // namespace

TEST_CASE("errors are drawn by how much of the limit they are", "[error_picture]") {
  const std::string svg = draw_svg(picture());
  const std::string text = xml::parse(svg).whole_text();
  for (const char* word :
       {"log I & <more>", "limit 1×10⁻⁵", "v", "x", "√(v² + x²)", "10⁻⁴", "seams", "cells",
        "u max(1, |value|)", "halfulp", "another", "error / limit"}) {
    INFO(word);
    CHECK(text.find(word) != std::string::npos);
  }
  CHECK(dots(svg, "#9ecae1") == 1);
  CHECK(dots(svg, "#4292c6") == 1);
  CHECK(dots(svg, "#08519c") == 1);
  CHECK(dots(svg, "#d7301f") == 2);
  CHECK(svg == draw_svg(picture()));
}

TEST_CASE("an error picture of less", "[error_picture]") {
  ErrorPicture odd = picture();
  odd.points.push_back({missing, 0, 1});
  odd.points.push_back({0, 0, missing});
  CHECK(dots(draw_svg(odd), "#08519c") == 1);
  odd.seams.clear();
  CHECK(xml::parse(draw_svg(odd)).whole_text().find("error / limit") == std::string::npos);
  odd.distributions.clear();
  odd.points.clear();
  CHECK(draw_svg(odd).find("nan") == std::string::npos);
  odd.up.upper = odd.up.lower;
  CHECK_THROWS_AS(draw_svg(odd), halfulp::DomainError);
}
