#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "detail/png.hpp"

/// What the pictures of all modules are drawn with: a page of SVG, axes, colours. Internal.
namespace halfulp::detail {

inline constexpr double page_width = 1200;
inline constexpr std::string_view ink = "#202124";
inline constexpr std::string_view muted = "#5f6368";
inline constexpr std::string_view frame_colour = "#8a9099";
inline constexpr std::string_view grid_colour = "#e4e7eb";
inline constexpr std::string_view solution_colour = "#1f5fa8";
inline constexpr Rgb missing_colour = {150, 150, 150};
inline constexpr std::uint8_t missing_index = 255;
inline constexpr int colours = 255;  // of a map; index 255 is left for what is not finite

// ---- text ---------------------------------------------------------------------------------------

constexpr bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
/// Valid UTF-8 of XML 1.0's characters; anything else becomes U+FFFD. Stops after `limit`
/// characters.
[[nodiscard]] std::string clean_text(std::string_view text, std::size_t limit);
/// Coordinates on the page: a hundredth of a pixel is enough.
[[nodiscard]] std::string coordinate(double value);
[[nodiscard]] std::string with_minus_sign(std::string_view text);
[[nodiscard]] std::string fixed_number(double value, int decimals);
[[nodiscard]] std::string superscript(int exponent);
/// 2.5e-13 as 2.5×10⁻¹³, wherever it stands in a text.
[[nodiscard]] std::string with_powers(std::string_view text);
/// At most `digits` significant digits, for labels: 3.14, 1.2×10⁻⁵.
[[nodiscard]] std::string short_number(double value, int digits);
[[nodiscard]] std::size_t character_count(std::string_view text);

// ---- scales -------------------------------------------------------------------------------------

struct Tick {
  double unit;  ///< place on the axis, 0 to 1
  std::string label;
};

/// Maps values to [0, 1] and knows its ticks. `t` is the value in the units of the labels.
struct Scale {
  bool logarithmic = false;
  int exponent = 0;   ///< labels are in units of 10^exponent ...
  double offset = 0;  ///< ... after this is taken off
  double lower = 0;   ///< of t
  double upper = 1;
  std::vector<Tick> ticks;
  std::vector<double> minor;  ///< units, grid without label
  std::string note;           ///< "×10⁵", "×10⁻⁹ + 1.25"

  [[nodiscard]] double unit(double value) const;
};

/// @param padding  part of the range left free at both ends
[[nodiscard]] Scale linear_scale(double lower, double upper, int target, double padding);
/// A space axis from end to end; ticks in multiples of pi where both ends are.
[[nodiscard]] Scale space_scale(double lower, double upper, int target);
/// Decades that hold [lower, upper], both positive.
[[nodiscard]] Scale log_scale(double lower, double upper, int target);
/// Room above the upper limit, as a part of the range, for labels inside the frame.
[[nodiscard]] Scale with_headroom(Scale scale, double part);

struct Range {
  double lower = std::numeric_limits<double>::infinity();
  double upper = -std::numeric_limits<double>::infinity();
  std::size_t not_finite = 0;

  [[nodiscard]] bool empty() const { return !(lower <= upper); }
};

[[nodiscard]] Range range_of(std::span<const double> values);

// ---- colour -------------------------------------------------------------------------------------

/// sRGB of a colour in OKLCh (Ottosson 2020); chroma is lowered until the screen can show it.
[[nodiscard]] Rgb from_oklch(double lightness, double chroma, double hue_degrees);
/// Maps of constant lightness slope in OKLCh, so that equal steps of the value look equal.
enum class ColourMap { sequential, diverging, magnitude };
[[nodiscard]] std::vector<Rgb> palette_of(ColourMap map);
[[nodiscard]] std::string hex_colour(const Rgb& colour);

// ---- drawing ------------------------------------------------------------------------------------

struct Box {
  double x, y, width, height;
};

struct TextStyle {
  double size = 12;
  std::string_view anchor = "start";
  std::string_view colour = ink;
  bool bold = false;
  bool italic = false;
  double rotate = 0;
};

class Page {
 public:
  /// `markup` must be escaped already.
  void markup(double x, double y, std::string_view markup, TextStyle style = {});
  void text(double x, double y, std::string_view text, TextStyle style = {},
            std::size_t limit = 200);
  void line(double x1, double y1, double x2, double y2, std::string_view colour, double width = 1);
  void rectangle(const Box& box, std::string_view fill, std::string_view stroke = "none",
                 double opacity = 1, double radius = 0);
  void dot(double x, double y, std::string_view fill);
  /// Many dots as one path: "Mx yh0Mx yh0...", strokes of no length with round ends.
  void dots(std::string_view data, std::string_view colour, double diameter, double opacity);
  void circle(double x, double y, double radius, std::string_view fill,
              std::string_view stroke = "none", double width = 1, double opacity = 1);
  /// @param  dashes  as SVG has them, "4 3"; empty: a full line
  void path(std::string_view data, std::string_view stroke, double width,
            std::string_view fill = "none", double opacity = 1, std::string_view dashes = {});
  void image(const Box& box, std::ptrdiff_t columns, std::ptrdiff_t rows,
             std::span<const std::uint8_t> indices, std::span<const Rgb> palette, bool smooth);
  void begin_clip(const Box& box);
  void begin_clip(double x, double y, double radius);
  void end_clip();
  /// Fill running upwards through a map, for colour bars.
  void gradient_bar(const Box& box, std::span<const Rgb> palette);
  [[nodiscard]] std::string finish(double height, std::string_view title) const;

 private:
  std::string out_;
  int clips_ = 0;
  int gradients_ = 0;
};

struct Labels {
  std::string title;       ///< above the frame, bold
  std::string remark;      ///< after it, grey
  std::string horizontal;  ///< below
  std::string vertical;    ///< left, rotated
};

/// Frame, grid, ticks and labels; what a panel shows is drawn before, the grid is under it.
void draw_grid(Page& page, const Box& box, const Scale& across, const Scale& up);
void draw_frame(Page& page, const Box& box, const Scale& across, const Scale& up,
                const Labels& labels);
/// The curve through (x, y) in the box, broken where a value is not finite. Where many samples fall
/// on a pixel column its first, lowest, highest and last stand for them: nothing visible is lost.
[[nodiscard]] std::string curve(const Box& box, const Scale& across, const Scale& up,
                                std::span<const double> x, std::span<const double> y);
void draw_nothing(Page& page, const Box& box, std::string_view why);
void draw_colour_bar(Page& page, const Box& box, const Scale& scale, std::span<const Rgb> palette,
                     bool missing);

}  // namespace halfulp::detail
