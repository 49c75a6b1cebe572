#include "halfulp/vmf_picture.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "halfulp/error.hpp"
#include "xml.hpp"

namespace {

using halfulp::vmf::Distribution;
using halfulp::vmf::draw_svg;
using halfulp::vmf::Picture;
using Values = std::vector<double>;

Values unit(Values v) {
  double square = 0;
  for (const double x : v) square += x * x;
  for (double& x : v) x /= std::sqrt(square);
  return v;
}

/// n unit vectors about mu.
Values rows_about(const Values& mu, int n) {
  Values out;
  for (int i = 0; i < n; ++i) {
    Values x = mu;
    for (std::size_t j = 0; j < x.size(); ++j)
      x[j] += 0.3 * std::sin(12.9898 * i + 78.233 * static_cast<double>(j));
    x = unit(x);
    out.insert(out.end(), x.begin(), x.end());
  }
  return out;
}

Picture picture_of(const std::vector<Distribution>& distributions, const Values& points) {
  Picture picture;
  picture.title = "a <title> & more";
  picture.facts = {"one", "error 2.5e-13"};
  for (const auto& d : distributions)
    picture.components.push_back({.weight = 1 / static_cast<double>(distributions.size()),
                                  .kappa_error = 0.1,
                                  .mean_length = 0.7,
                                  .count = 17,
                                  .distribution = d});
  picture.points = points;
  return picture;
}

std::string all_text(const xml::Element& svg) { return svg.whole_text(); }

/// Nothing is drawn outside of the page, and no coordinate is NaN.
void check_page(const std::string& svg) {
  const auto root = xml::parse(svg);
  CHECK(root.name == "svg");
  CHECK(svg.find("nan") == std::string::npos);
  CHECK(svg.find("inf") == std::string::npos);
  const double width = std::stod(root.attributes.at("width"));
  const double height = std::stod(root.attributes.at("height"));
  for (const auto* text : root.all("text")) {
    INFO(text->whole_text());
    CHECK(std::stod(text->attributes.at("x")) >= 0);
    CHECK(std::stod(text->attributes.at("x")) <= width);
    CHECK(std::stod(text->attributes.at("y")) >= 0);
    CHECK(std::stod(text->attributes.at("y")) <= height);
  }
}

}  // namespace

TEST_CASE("a page for every dimension, kappa and number of points", "[vmf_picture]") {
  for (const std::size_t p : {2, 3, 4, 784}) {
    Values mu(p, 0.1);
    mu[p - 1] = -1;
    mu = unit(mu);
    for (const double kappa : {0.0, 1e-8, 3.0, 500.0, 1e12}) {
      for (const int n : {0, 1, 40}) {
        INFO("p = " << p << ", kappa = " << kappa << ", n = " << n);
        const Values points = rows_about(mu, n);
        const Picture picture = picture_of({{mu, kappa}}, points);
        const std::string svg = draw_svg(picture);
        check_page(svg);
        CHECK(draw_svg(picture) == svg);
        const auto root = xml::parse(svg);
        const std::string text = all_text(root);
        CHECK(text.find("a <title> & more") != std::string::npos);
        CHECK(text.find("2.5×10⁻¹³") != std::string::npos);
        CHECK(text.find("Angle from μ") != std::string::npos);
        CHECK((text.find("density per steradian") != std::string::npos) == (p == 3));
        CHECK((text.find("270°") != std::string::npos) == (p == 2));
      }
    }
  }
  // The axes' own directions as mean, where a view has poles.
  for (const Values& mu : {Values{0, 0, 1}, Values{0, 0, -1}, Values{1, 0, 0}, Values{0, -1, 0}})
    check_page(draw_svg(picture_of({{mu, 20}}, {})));
}

TEST_CASE("mixtures have a table, a trace and images", "[vmf_picture]") {
  for (const std::size_t p : {2, 3, 6}) {
    std::vector<Distribution> several;
    for (std::size_t k = 0; k < 30; ++k) {
      Values mu(p, 0.05 * static_cast<double>(k));
      mu[k % p] += k % 2 == 0 ? 1 : -1;
      several.push_back({unit(mu), std::pow(10.0, static_cast<double>(k) / 5)});
    }
    const Values points = rows_about(several[0].mu, 50);
    Picture picture = picture_of(several, points);
    picture.trace = {-100, -50, -40, -39};
    picture.alarm = "not converged";
    if (p == 6) picture.image_rows = 2, picture.image_columns = 3;
    const std::string svg = draw_svg(picture);
    check_page(svg);
    const auto root = xml::parse(svg);
    const std::string text = all_text(root);
    CHECK(text.find("the 24 heaviest of 30") != std::string::npos);
    CHECK(text.find("Convergence") != std::string::npos);
    CHECK(text.find("not converged") != std::string::npos);
    CHECK(root.all("image").size() == (p == 6 ? 30 : p == 3 ? 2 : 0));
    picture.components.resize(2);
    picture.components[0].count = 5, picture.components[1].count = 12.5;
    const std::string few = all_text(xml::parse(draw_svg(picture)));
    CHECK(few.find("heaviest") == std::string::npos);
    CHECK(few.find("12.5") != std::string::npos);
    for (auto& component : picture.components) component.distribution.kappa = 0;
    check_page(draw_svg(picture));
  }
}

TEST_CASE("an image is its entries, white to black or blue to red", "[vmf_picture]") {
  Picture picture = picture_of({{unit({1, 0, 0, 2}), 10}}, {});
  picture.image_rows = picture.image_columns = 2;
  const auto grey = xml::parse(draw_svg(picture)).all("image");
  REQUIRE(grey.size() == 1);
  Picture other = picture_of({{unit({1, 0, 0, -2}), 10}}, {});
  other.image_rows = other.image_columns = 2;
  const auto root = xml::parse(draw_svg(other));
  CHECK(root.all("image")[0]->attributes.at("xlink:href") !=
        xml::parse(draw_svg(picture)).all("image")[0]->attributes.at("xlink:href"));
}

TEST_CASE("what is no picture is refused", "[vmf_picture]") {
  const Distribution d = {unit({1, 2, 3}), 4};
  const Values three = {1, 0, 0, 0, 1, 0};
  CHECK_THROWS_AS(draw_svg(picture_of({}, {})), halfulp::ShapeError);
  CHECK_THROWS_AS(draw_svg(picture_of({d, {unit({1, 2}), 4}}, {})), halfulp::ShapeError);
  CHECK_THROWS_AS(draw_svg(picture_of({d}, Values{1, 0})), halfulp::ShapeError);
  CHECK_THROWS_AS(draw_svg(picture_of({{{1, 2, 3}, 4}}, {})), halfulp::DomainError);
  CHECK_THROWS_AS(draw_svg(picture_of({{d.mu, -1}}, {})), halfulp::DomainError);
  Picture picture = picture_of({d}, three);
  const Values weights = {1, 1, 1};
  picture.weights = weights;
  CHECK_THROWS_AS(draw_svg(picture), halfulp::ShapeError);
  picture.weights = {};
  picture.image_rows = 2, picture.image_columns = 2;
  CHECK_THROWS_AS(draw_svg(picture), halfulp::ShapeError);
  picture.image_rows = -1, picture.image_columns = -3;
  CHECK_THROWS_AS(draw_svg(picture), halfulp::ShapeError);
  picture.image_rows = 1, picture.image_columns = 3;
  CHECK_NOTHROW(draw_svg(picture));
}
