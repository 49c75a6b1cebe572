#include "halfulp/picture.hpp"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <sstream>

#include "halfulp/error.hpp"
#include "xml.hpp"

namespace {

using halfulp::Picture;
using Values = std::vector<double>;
constexpr double tau = 2 * std::numbers::pi;
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double inf = std::numeric_limits<double>::infinity();

Values uniform(double lower, double upper, int n) {
  Values points;
  for (int i = 0; i < n; ++i) points.push_back(lower + (upper - lower) * i / (n - 1));
  return points;
}

template <class F>
auto of_x(F f) {
  return [f](std::span<const Values> axes) {
    Values out;
    for (const double x : axes[0]) out.push_back(f(x));
    return out;
  };
}

template <class F>
auto of_xy(F f) {
  return [f](std::span<const Values> axes) {
    Values out;
    for (const double x : axes[0]) {
      for (const double y : axes[1]) out.push_back(f(x, y));
    }
    return out;
  };
}

Picture wave_1d() {
  Picture picture;
  picture.title = "wave";
  picture.equation = "u_xx - f";
  picture.facts = {"converged", "residual 1e-13"};
  picture.axes = {{"x", 0, tau}};
  picture.axes[0].bands = {{90, 110}};
  picture.axes[0].frequency = uniform(0, 300, 200);
  for (const double w : picture.axes[0].frequency) {
    picture.axes[0].amplitude.push_back(1e-15 + std::exp(-(w - 100) * (w - 100)));
  }
  picture.sample = of_x([](double x) { return x * std::sin(100 * x); });
  picture.error = {"|u - exact|", {uniform(0, tau, 300)}, {}};
  for (int i = 0; i < 300; ++i) picture.error.values.push_back(1e-12 * std::sin(i));
  return picture;
}

Picture wave_2d() {
  Picture picture = wave_1d();
  picture.axes.push_back(picture.axes[0]);
  picture.axes[1].name = "y";
  picture.sample = of_xy([](double x, double y) { return std::sin(100 * x) * std::sin(100 * y); });
  picture.error.axes.push_back(picture.error.axes[0]);
  picture.error.values.assign(90000, 1e-14);
  return picture;
}

// ---- an independent PNG reader ----------------------------------------------------------------

struct Png {
  std::uint32_t width = 0, height = 0;
  std::vector<std::array<int, 3>> pixels;  // row-major, top row first
};

std::uint32_t big_endian(const std::string& s, std::size_t at) {
  std::uint32_t v = 0;
  for (std::size_t k = 0; k < 4; ++k) v = v << 8 | static_cast<unsigned char>(s.at(at + k));
  return v;
}

std::uint32_t bitwise_crc(std::string_view bytes) {
  std::uint32_t c = ~0u;
  for (const char byte : bytes) {
    c ^= static_cast<unsigned char>(byte);
    for (int k = 0; k < 8; ++k) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
  }
  return ~c;
}

std::string inflate_stored(const std::string& stream) {
  REQUIRE(stream.substr(0, 2) == "\x78\x01");  // RFC 1950: 32 KiB window, no dictionary
  std::string out;
  std::size_t at = 2;
  for (bool last = false; !last;) {
    last = stream.at(at) == 1;
    REQUIRE((stream.at(at) & ~1) == 0);  // stored
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(stream.at(at + k)); };
    const unsigned size = byte(1) | byte(2) << 8, complement = byte(3) | byte(4) << 8;
    REQUIRE((size ^ complement) == 0xFFFF);
    REQUIRE(at + 5 + size <= stream.size());
    out += stream.substr(at + 5, size);
    at += 5 + size;
  }
  std::uint64_t a = 1, b = 0;
  for (const char c : out) a += static_cast<unsigned char>(c), b += a % 65521;
  REQUIRE(big_endian(stream, at) == (b % 65521 << 16 | a % 65521));
  REQUIRE(at + 4 == stream.size());
  return out;
}

Png read_png(const std::string& bytes) {
  REQUIRE(bytes.substr(0, 8) == "\x89PNG\r\n\x1a\n");
  Png png;
  std::string palette, data;
  bool ended = false;
  for (std::size_t at = 8; at < bytes.size();) {
    REQUIRE_FALSE(ended);
    const std::uint32_t size = big_endian(bytes, at);
    const std::string type = bytes.substr(at + 4, 4), body = bytes.substr(at + 8, size);
    REQUIRE(big_endian(bytes, at + 8 + size) == bitwise_crc(type + body));
    if (type == "IHDR") {
      png.width = big_endian(body, 0), png.height = big_endian(body, 4);
      REQUIRE(body.substr(8) == std::string("\x08\x03\0\0\0", 5));
    } else if (type == "PLTE") {
      palette = body;
    } else if (type == "IDAT") {
      data += body;
    }
    ended = type == "IEND";
    at += 12 + size;
  }
  REQUIRE(ended);
  const std::string rows = inflate_stored(data);
  REQUIRE(rows.size() == std::size_t{png.height} * (png.width + 1));
  for (std::uint32_t row = 0; row < png.height; ++row) {
    const std::size_t start = std::size_t{row} * (png.width + 1);
    REQUIRE(rows[start] == 0);
    for (std::uint32_t column = 0; column < png.width; ++column) {
      const std::size_t index = static_cast<unsigned char>(rows[start + 1 + column]);
      const auto channel = [&](std::size_t k) {
        return int{static_cast<unsigned char>(palette.at(3 * index + k))};
      };
      png.pixels.push_back({channel(0), channel(1), channel(2)});
    }
  }
  return png;
}

std::vector<Png> images(const xml::Element& svg) {
  std::vector<Png> out;
  for (const auto* image : svg.all("image")) {
    const std::string link = image->attributes.at("xlink:href");
    const std::string prefix = "data:image/png;base64,";
    REQUIRE(link.substr(0, prefix.size()) == prefix);
    out.push_back(read_png(decode_base64(link.substr(prefix.size()))));
  }
  return out;
}

std::string all_text(const xml::Element& svg) {
  std::string out;
  for (const auto* text : svg.all("text")) out += text->whole_text() + "\n";
  return out;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a picture is well-formed, bounded and the same every time", "[picture]") {
  for (const Picture& picture : {wave_1d(), wave_2d()}) {
    const std::string svg = halfulp::draw_svg(picture);
    CHECK(svg.size() < 1000000);
    CHECK(svg == halfulp::draw_svg(picture));
    const auto root = xml::parse(svg);
    CHECK(root.name == "svg");
    CHECK(root.attributes.at("xmlns") == "http://www.w3.org/2000/svg");
    CHECK_FALSE(contains(svg, "nan"));
    CHECK_FALSE(contains(svg, "inf"));
    const std::string text = all_text(root);
    CHECK(contains(text, "wave"));
    CHECK(contains(text, "residual 1×10⁻¹³"));
    CHECK(contains(text, "90–110"));
    CHECK(contains(text, "|u - exact|"));
    CHECK(contains(text, "Enlarged"));
    CHECK(contains(text, "3π/2"));
    CHECK_FALSE(contains(svg, "#c5221f"));
  }
}

TEST_CASE("names of any bytes stay inside the XML", "[picture]") {
  Picture picture = wave_1d();
  picture.title = "a<b> & \"c\" 'd' \x01\xff\xed\xa0\x80 \xc3\xa9 ]]>";
  picture.equation = "u_xx < 1 && \xc3 */ u^2 ** u_x_y _x ^2 -";
  picture.alarm = "</text><script>";
  picture.field = "u\"><g>";
  picture.axes[0].name = "<x&";
  picture.error.label = "\xf0\x9f\x98\x80 <&>";
  picture.facts = {std::string(5000, 'x'), "\n"};
  const auto root = xml::parse(halfulp::draw_svg(picture));
  CHECK(root.all("script").empty());
  const std::string text = all_text(root);
  CHECK(contains(text, "a<b> & \"c\" 'd' "));
  CHECK(contains(text, "\xc3\xa9 ]]>"));
  CHECK(contains(text, "</text><script>"));
  CHECK(contains(text, "…"));
  CHECK(contains(text, "\xf0\x9f\x98\x80 <&>"));
}

TEST_CASE("every byte sequence as a title and equation parses", "[picture]") {
  Picture picture = wave_1d();
  picture.sample = of_x([](double x) { return x; });
  std::uint32_t state = 12345;
  for (int round = 0; round < 200; ++round) {
    picture.title.clear();
    for (int k = 0; k < 40; ++k) {
      state = state * 1664525u + 1013904223u;
      picture.title += static_cast<char>(state >> 24);
    }
    picture.equation = picture.title;
    INFO("round " << round);
    REQUIRE_NOTHROW(xml::parse(halfulp::draw_svg(picture)));
  }
}

TEST_CASE("the spectrum's axis reaches the peak that the bands missed", "[picture]") {
  Picture picture = wave_1d();
  picture.axes[0].bands = {{0, 5}};
  picture.axes[0].frequency = uniform(0, 3000, 3000);
  picture.axes[0].amplitude.assign(3000, 1e-12);
  picture.axes[0].amplitude[3] = 1;
  CHECK_FALSE(contains(all_text(xml::parse(halfulp::draw_svg(picture))), "\n2000\n"));
  picture.axes[0].amplitude[2200] = 1;
  CHECK(contains(all_text(xml::parse(halfulp::draw_svg(picture))), "\n2000\n"));
}

TEST_CASE("a failure is announced", "[picture]") {
  Picture picture = wave_2d();
  picture.alarm = "Not converged: stagnated";
  const std::string svg = halfulp::draw_svg(picture);
  CHECK(contains(svg, "#c5221f"));
  CHECK(contains(all_text(xml::parse(svg)), "Not converged: stagnated"));
}

TEST_CASE("images show x to the right and y upwards", "[picture]") {
  Picture picture = wave_2d();
  picture.axes = {{"x", 0, 1}, {"y", 0, 1}};
  picture.sample = of_xy([](double x, double y) {
    return x > 0.5 && y > 0.5 ? 1 : x > 0.5 ? -1 : 0;
  });
  picture.error.axes = {{0, 1}, {0, 0.5, 1}};
  picture.error.values = {1e-6, 1e-6, 1e-6, 1e-6, 1e-6, 1.0};
  const auto pngs = images(xml::parse(halfulp::draw_svg(picture)));
  REQUIRE(pngs.size() == 2);
  const auto& u = pngs[0];
  const auto at = [&](double x, double y) {
    const auto column = static_cast<std::uint32_t>(x * u.width);
    const auto row = static_cast<std::uint32_t>((1 - y) * u.height);
    return u.pixels[row * u.width + column];
  };
  CHECK(at(0.9, 0.9)[0] > at(0.9, 0.9)[2] + 60);  // red: 1
  CHECK(at(0.9, 0.1)[2] > at(0.9, 0.1)[0] + 60);  // blue: -1
  const auto zero = at(0.1, 0.5);                 // nearly white: 0
  CHECK(std::min({zero[0], zero[1], zero[2]}) > 235);
  const auto& error = pngs[1];
  REQUIRE(error.width == 2);
  REQUIRE(error.height == 3);
  const auto sum = [&](std::size_t i) {
    return error.pixels[i][0] + error.pixels[i][1] + error.pixels[i][2];
  };
  CHECK(sum(1) > 500);  // top right: the largest, light
  for (const std::size_t i : {0u, 2u, 3u, 4u, 5u}) CHECK(sum(i) < 120);
}

TEST_CASE("colour maps are monotone in lightness", "[picture]") {
  // Rec. 709 luminance of the colour bar's stops.
  Picture picture = wave_2d();
  picture.sample = of_xy([](double x, double y) { return x + y; });
  const auto root = xml::parse(halfulp::draw_svg(picture));
  const auto bars = root.all("linearGradient");
  REQUIRE(bars.size() == 2);
  for (const auto* bar : bars) {
    double before = -1;
    for (const xml::Element& stop : bar->children) {
      const std::string colour = stop.attributes.at("stop-color");
      double luminance = 0;
      constexpr std::array<double, 3> weights = {0.2126, 0.7152, 0.0722};
      for (std::size_t k = 0; k < 3; ++k) {
        luminance +=
            weights[k] * std::pow(std::stoi(colour.substr(1 + 2 * k, 2), nullptr, 16) / 255.0, 2.2);
      }
      CHECK(luminance > before);
      before = luminance;
    }
    CHECK(before > 0.7);
  }
}

TEST_CASE("what is not finite is left out and counted", "[picture]") {
  SECTION("a curve is broken") {
    Picture picture = wave_1d();
    picture.sample = of_x([](double x) { return x > 1 && x < 2 ? not_a_number : x; });
    picture.error.values[7] = inf;
    const std::string svg = halfulp::draw_svg(picture);
    CHECK_FALSE(contains(svg, "nan"));
    const auto root = xml::parse(svg);
    CHECK(contains(all_text(root), "samples are not finite"));
    CHECK(contains(all_text(root), "1 value is not finite"));
    for (const auto* path : root.all("path")) {
      if (path->attributes.at("stroke") != "#1f5fa8") continue;
      const std::string d = path->attributes.at("d");
      CHECK(std::count(d.begin(), d.end(), 'M') == 2);
    }
  }
  SECTION("an image has a colour for it") {
    Picture picture = wave_2d();
    picture.sample = of_xy([](double x, double) { return x < 3 ? not_a_number : x; });
    picture.error.values[0] = not_a_number;
    const auto root = xml::parse(halfulp::draw_svg(picture));
    CHECK(contains(all_text(root), "NaN, ∞"));
    const auto pngs = images(root);
    CHECK(pngs[0].pixels[0] == std::array<int, 3>{150, 150, 150});
    const auto& error = pngs[1];
    CHECK(error.pixels[(error.height - 1) * error.width] == std::array<int, 3>{150, 150, 150});
    CHECK(error.pixels[0] != std::array<int, 3>{150, 150, 150});
  }
  SECTION("nothing at all") {
    for (Picture picture : {wave_1d(), wave_2d()}) {
      picture.sample = [](std::span<const Values> axes) {
        std::size_t size = 1;
        for (const auto& axis : axes) size *= axis.size();
        return Values(size, not_a_number);
      };
      for (double& v : picture.error.values) v = not_a_number;
      for (auto& axis : picture.axes) {
        for (double& v : axis.amplitude) v = not_a_number;
        axis.bands = {{not_a_number, not_a_number}, {-inf, inf}};
      }
      const std::string svg = halfulp::draw_svg(picture);
      CHECK_FALSE(contains(svg, "\"nan"));
      CHECK(contains(all_text(xml::parse(svg)), "no finite value"));
    }
  }
}

TEST_CASE("ranges from flat to the ends of double", "[picture]") {
  const std::array<double, 9> scales = {0, 5e-324,    1e-310, 1e-300, 1e-17,
                                        1, 12345.678, 1e300,  1.7e308};
  for (const double scale : scales) {
    for (const double ripple : {0.0, 1e-15, 1e-9, 1e-4, 1.0}) {
      INFO("scale " << scale << " ripple " << ripple);
      Picture line = wave_1d();
      line.sample =
          of_x([=](double x) { return scale * (1 - ripple * (0.5 + 0.5 * std::cos(5 * x))); });
      for (double& v : line.error.values) v *= scale;
      const std::string svg = halfulp::draw_svg(line);
      REQUIRE_NOTHROW(xml::parse(svg));
      CHECK_FALSE(contains(svg, "nan"));
      CHECK_FALSE(contains(svg, "inf"));
      CHECK(svg.size() < 200000);
    }
    Picture image = wave_2d();
    image.sample = of_xy([=](double x, double y) { return scale * std::sin(x - y); });
    image.error.values.assign(90000, scale);
    REQUIRE_NOTHROW(images(xml::parse(halfulp::draw_svg(image))));
  }
  Picture tall = wave_1d();
  for (std::size_t i = 0; i < 300; ++i)
    tall.error.values[i] = std::pow(10.0, -300 + 2.0 * static_cast<double>(i));
  const std::string text = all_text(xml::parse(halfulp::draw_svg(tall)));
  CHECK(contains(text, "10²⁰⁰"));
  CHECK(contains(text, "10⁻²⁰⁰"));
}

TEST_CASE("a curve faster than the pixels is its band, not an alias", "[picture]") {
  Picture picture = wave_1d();
  picture.axes[0].bands = {{9990, 10010}};
  picture.sample = of_x([](double x) { return (2 + std::sin(x)) * std::sin(10000 * x); });
  const std::string svg = halfulp::draw_svg(picture);
  CHECK(svg.size() < 200000);
  const auto root = xml::parse(svg);
  // The filled path's heights follow the envelope: pixels in [134, 404] for u in [-3.36, 3.36].
  const xml::Element* band = nullptr;
  for (const auto* path : root.all("path")) {
    if (path->attributes.at("fill") == "#1f5fa8") band = path;
  }
  REQUIRE(band != nullptr);
  std::string d = band->attributes.at("d");
  for (char& c : d) {
    if (c == 'M' || c == 'L' || c == 'Z') c = ' ';
  }
  std::istringstream in(d);
  double x = 0, y = 0, worst = 0;
  int points = 0;
  for (; in >> x >> y; ++points) {
    const double envelope = 2 + std::sin((x - 86) / 720 * tau);
    const double u = std::fabs((269 - y) / 135 * 3.36);
    worst = std::max(worst, std::fabs(u - envelope));
  }
  CHECK(points > 500);
  CHECK(worst < 0.03);
}

TEST_CASE("an image faster than the pixels shows the amplitude", "[picture]") {
  Picture picture = wave_2d();
  picture.axes[0].bands = picture.axes[1].bands = {{3000, 3000}};
  picture.sample = of_xy([](double x, double y) {
    return std::sin(3000 * x) * std::sin(3000 * y) * (x < 3 ? 1 : 0.01);
  });
  const auto root = xml::parse(halfulp::draw_svg(picture));
  CHECK(contains(all_text(root), "largest |u| nearby"));
  const auto png = images(root)[0];
  for (std::uint32_t row = 0; row < png.height; ++row) {
    const auto left = png.pixels[row * png.width + 5];
    const auto right = png.pixels[row * png.width + png.width - 5];
    CHECK(left[0] > left[2] + 60);                          // red: amplitude 1
    CHECK(std::min({right[0], right[1], right[2]}) > 230);  // white: 0.01
  }
}

TEST_CASE("bad pictures are refused by name", "[picture]") {
  using Catch::Matchers::Contains;
  Picture picture = wave_1d();
  SECTION("axes") {
    picture.axes.clear();
    CHECK_THROWS_AS(halfulp::draw_svg(picture), halfulp::ShapeError);
  }
  SECTION("three axes") {
    picture.axes.resize(3, picture.axes[0]);
    CHECK_THROWS_WITH(halfulp::draw_svg(picture), Contains("axes.size()"));
  }
  SECTION("an empty interval") {
    picture.axes[0].upper = 0;
    CHECK_THROWS_WITH(halfulp::draw_svg(picture), Contains("axes.x.upper"));
  }
  SECTION("an infinite interval") {
    picture.axes[0].upper = inf;
    CHECK_THROWS_AS(halfulp::draw_svg(picture), halfulp::DomainError);
  }
  SECTION("a spectrum of two lengths") {
    picture.axes[0].amplitude.pop_back();
    CHECK_THROWS_WITH(halfulp::draw_svg(picture), Contains("amplitude.size()"));
  }
  SECTION("errors that do not fit their grid") {
    picture.error.values.pop_back();
    CHECK_THROWS_WITH(halfulp::draw_svg(picture), Contains("error.values.size() = 299"));
  }
  SECTION("a sampler that returns too little") {
    picture.sample = [](std::span<const Values>) { return Values{1}; };
    CHECK_THROWS_AS(halfulp::draw_svg(picture), halfulp::ShapeError);
  }
}
