#include "halfulp/pde_output.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

#include "halfulp/csv.hpp"
#include "halfulp/error.hpp"
#include "halfulp/npy.hpp"
#include "xml.hpp"

namespace {

namespace fs = std::filesystem;
namespace pde = halfulp::gp_pde;
using Catch::Matchers::Contains;
using Values = std::vector<double>;
using Big = boost::multiprecision::cpp_bin_float_50;
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A folder of this test's own, removed at its end.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (fs::temp_directory_path() / "halfulp-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Scratch() { fs::remove_all(path_); }
  [[nodiscard]] fs::path operator/(const std::string& name) const { return path_ / name; }
  /// Everything below, as relative paths.
  [[nodiscard]] std::vector<std::string> content() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::recursive_directory_iterator(path_)) {
      out.push_back(fs::relative(entry.path(), path_).string());
    }
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  fs::path path_;
};

std::string slurp(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

pde::PdeFile file_2d(const std::string& output = "points = [31, 17]") {
  pde::PdeFile file = pde::parse_pde_file(R"toml([domain]
x = [0, 2]
y = ["-1", "pi"]
[equation]
expr = "u_xx + 2*u_yy + 7*u - f"
[exact]
u = "sin(3*x)*cos(2*y)"
[forcing]
f = "auto"
[bc]
"x-,x+,y-,y+" = { type = "dirichlet", g = "exact" }
[output]
)toml" + output + "\n",
                                          "plate.toml");
  // Another equation for the same fields, with a variable coefficient.
  file.equation_text = "u_xx + 2*u_yy + x*u - f";
  file.problem.equation =
      halfulp::parse_expression(file.equation_text, {"x", "y", "u", "u_xx", "u_yy", "f"});
  file.problem.forcing = halfulp::parse_expression("(x - 17)*sin(3*x)*cos(2*y)", {"x", "y"});
  return file;
}

pde::PdeFile file_without_exact() {
  pde::PdeFile file = file_2d("points = [31, 17]\nfields = [\"u\"]");
  file.problem.exact.reset();
  return file;
}

/// u = sin(3x) cos(2y) + amount sin(x) exp(y), with all derivatives.
pde::Sampler perturbed(double amount) {
  return [amount](std::span<const Values> axes, std::span<const int> orders) {
    const auto sine = [](double k, double x, int n) {
      return std::pow(k, n) * std::sin(k * x + n * std::numbers::pi / 2);
    };
    Values out;
    for (const double x : axes[0]) {
      for (const double y : axes[1]) {
        const double exact = sine(3, x, orders[0]) * sine(2, y + std::numbers::pi / 4, orders[1]);
        out.push_back(exact + amount * sine(1, x, orders[0]) * std::exp(y));
      }
    }
    return out;
  };
}

pde::Solution solved() {
  pde::Solution solution;
  solution.report = {halfulp::Status::converged, 0, 2e-13, 1e-12};
  solution.residual = 2e-13;
  solution.residual_scale = 13;
  solution.boundary_residual = 3e-15;
  solution.error_estimate = 4e-13;
  solution.floor_estimate = 1e-14;
  solution.condition = 1e5;
  for (int d = 0; d < 2; ++d) {
    pde::AxisInfo axis;
    axis.bands = {{2, 4}};
    axis.spectrum_frequency = {0, 1, 2, 3, 4, 5};
    axis.spectrum = {1e-9, 1e-6, 1e-2, 1, 1e-2, 1e-6};
    axis.features = 40;
    axis.modes = 20 + d;
    axis.nodes = 50;
    axis.smallest_pivot = 1e-30;
    solution.axes.push_back(axis);
  }
  solution.timings = {{"bands", 0.01}, {"factor", 0.02}};
  solution.warnings = {"a side warning"};
  return solution;
}

/// The independent reference: root mean squares in 50 digits.
struct Reference {
  Big error = 0, exact = 0, largest = 0;
};

Reference reference_error(const pde::Output& output) {
  Reference r;
  std::size_t p = 0;
  for (const double x : output.axes[0]) {
    for (const double y : output.axes[1]) {
      const Big exact = sin(3 * Big(x)) * cos(2 * Big(y));
      const Big e = Big(output.fields[0].values[p++]) - exact;
      r.error += e * e;
      r.exact += exact * exact;
      r.largest = std::max(r.largest, Big(abs(e)));
    }
  }
  r.error = sqrt(r.error / p);
  r.exact = sqrt(r.exact / p);
  return r;
}

double relative(double value, const Big& reference) {
  return static_cast<double>(abs(Big(value) - reference) / reference);
}

}  // namespace

TEST_CASE("the output grid is uniform with its ends", "[pde_output]") {
  const auto output = pde::evaluate(file_2d(), perturbed(0));
  REQUIRE(output.axes.size() == 2);
  REQUIRE(output.axes[0].size() == 31);
  REQUIRE(output.axes[1].size() == 17);
  CHECK(output.axes[0].front() == 0);
  CHECK(output.axes[0].back() == 2);
  CHECK(output.axes[1].front() == -1);
  CHECK(output.axes[1].back() == std::numbers::pi);
  for (std::size_t i = 0; i < 17; ++i) {
    const Big exact = -1 + Big(i) * (boost::math::constants::pi<Big>() + 1) / 16;
    CHECK(output.axes[1][i] == static_cast<double>(exact));  // correctly rounded
  }
}

TEST_CASE("the true error agrees with 50 digits", "[pde_output]") {
  for (const double amount : {0.0, 1e-15, 1e-10, 1e-3, 1.0}) {
    INFO("perturbation " << amount);
    const auto output = pde::evaluate(file_2d(), perturbed(amount));
    REQUIRE(output.error);
    const Reference r = reference_error(output);
    CHECK(relative(output.error->l2, r.error) < 1e-12);
    CHECK(relative(output.error->max, r.largest) < 1e-12);
    CHECK(relative(output.error->scale, r.exact) < 1e-12);
    CHECK(relative(output.error->relative_l2, r.error / r.exact) < 1e-12);
  }
}

TEST_CASE("the residual agrees with the perturbation's own", "[pde_output]") {
  const double amount = 1e-3;
  const auto output = pde::evaluate(file_2d(R"(points = [31, 17]
fields = ["u", "u_xx", "residual", "error", "f"])"),
                                    perturbed(amount));
  REQUIRE(output.fields.size() == 5);
  CHECK_FALSE(output.fields[2].values.empty());
  double worst = 0, sum = 0, largest = 0;
  std::array<double, 4> parts{};
  std::size_t p = 0;
  for (const double x : output.axes[0]) {
    for (const double y : output.axes[1]) {
      // (L p) of p = sin(x) e^y with L = d_xx + 2 d_yy + x.
      const double expected = amount * (-1 + 2 + x) * std::sin(x) * std::exp(y);
      worst = std::max(worst, std::fabs(output.fields[2].values[p] - expected));
      sum += expected * expected;
      largest = std::max(largest, std::fabs(expected));
      const double exact = std::sin(3 * x) * std::cos(2 * y), f = (-9 - 8 + x) * exact;
      const double u = exact + amount * std::sin(x) * std::exp(y);
      const double uxx = -9 * exact - amount * std::sin(x) * std::exp(y);
      const double uyy = -4 * exact + amount * std::sin(x) * std::exp(y);
      const std::array<double, 4> values = {uxx, 2 * uyy, x * u, f};
      for (std::size_t k = 0; k < 4; ++k) parts[k] += values[k] * values[k];
      CHECK(std::fabs(output.fields[4].values[p] - f) < 1e-14 * 20);
      CHECK(std::fabs(output.fields[1].values[p] - uxx) < 1e-13);
      ++p;
    }
  }
  CHECK(worst < 1e-13);
  const auto n = static_cast<double>(p);
  CHECK(output.residual.l2 == Approx(std::sqrt(sum / n)).epsilon(1e-9));
  CHECK(output.residual.max == Approx(largest).epsilon(1e-9));
  CHECK(output.residual.scale ==
        Approx(std::sqrt(*std::max_element(parts.begin(), parts.end()) / n)).epsilon(1e-9));
  CHECK(output.residual.relative_l2 ==
        Approx(output.residual.l2 / output.residual.scale).epsilon(1e-14));
}

TEST_CASE("a NaN in the solution is a NaN in every norm", "[pde_output]") {
  const auto sample = [](std::span<const Values> axes, std::span<const int> orders) {
    Values out = perturbed(0)(axes, orders);
    out[5] = not_a_number;
    return out;
  };
  const auto output = pde::evaluate(file_2d(), sample);
  CHECK(std::isnan(output.error->relative_l2));
  CHECK(std::isnan(output.error->max));
  CHECK(std::isnan(output.residual.relative_l2));
  const std::string text = pde::report_json(file_2d(), solved(), output, {}, {});
  const auto json = nlohmann::json::parse(text);
  CHECK(json["result"]["error"]["relative_l2"] == "nan");
  CHECK(json["result"]["residual_on_grid"]["max"] == "nan");
}

TEST_CASE("norms reach from the smallest to the largest double", "[pde_output]") {
  for (const double size : {1e-310, 1e-200, 1e200, 1e306}) {
    INFO("size " << size);
    const auto file = pde::parse_pde_file(
        "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_x - f\"\n"
        "[forcing]\nf = 0\n[bc]\n\"x-\" = { type = \"dirichlet\", g = 0 }\n"
        "\"x+\" = { type = \"none\" }\n[output]\npoints = 9\n");
    const auto output =
        pde::evaluate(file, [=](std::span<const Values> axes, std::span<const int>) {
          return Values(axes[0].size(), size);
        });
    CHECK(output.residual.l2 == Approx(size).epsilon(1e-14));
    CHECK(output.residual.relative_l2 == Approx(1).epsilon(1e-14));
    CHECK_FALSE(output.error);
  }
}

TEST_CASE("a forcing array is compared at its own points", "[pde_output]") {
  auto file = file_without_exact();
  pde::GridSamples samples;
  samples.axes = {{0, 0.3, 1.1, 2}, {-1, 0, 3}};
  for (const double x : samples.axes[0]) {
    for (const double y : samples.axes[1])
      samples.values.push_back((x - 17) * std::sin(3 * x) * std::cos(2 * y) + 0.25);
  }
  file.problem.forcing = samples;
  const auto output = pde::evaluate(file, perturbed(0));
  CHECK(output.residual_axes == samples.axes);
  REQUIRE(output.residual_values.size() == 12);
  for (const double v : output.residual_values) CHECK(v == Approx(-0.25).epsilon(1e-12));
  CHECK(output.residual.max == Approx(0.25).epsilon(1e-12));
  const auto json = nlohmann::json::parse(pde::report_json(file, solved(), output, {}, {}));
  CHECK(json["result"]["residual_on_grid"]["grid"] == "forcing");
  CHECK(json["result"]["error"].is_null());
  CHECK(json["result"]["problem"]["forcing"]["shape"] == nlohmann::json({4, 3}));
  // A field of it on other points is refused, before any work.
  file.output.fields.push_back({"residual", pde::FieldKind::residual, {}});
  CHECK_THROWS_WITH(pde::check_output(file),
                    Contains("fields = residual") && Contains("points of its array"));
}

TEST_CASE("written fields read back bit for bit", "[pde_output]") {
  const Scratch scratch;
  const auto file = file_2d(R"(points = [31, 17]
fields = ["u", "u_xx", "residual", "error", "f"]
formats = ["npy", "vti", "csv"])");
  const auto sample = perturbed(1e-9);
  const auto output = pde::evaluate(file, sample);
  std::string report;
  {
    pde::OutputFolder folder(scratch / "deep/er/plate");
    report = pde::write_output(folder, file, solved(), output, sample, {});
    folder.commit();
  }
  CHECK(scratch.content() ==
        std::vector<std::string>{
            "deep", "deep/er", "deep/er/plate", "deep/er/plate/error.npy", "deep/er/plate/f.npy",
            "deep/er/plate/picture.svg", "deep/er/plate/plate.csv", "deep/er/plate/plate.vti",
            "deep/er/plate/report.json", "deep/er/plate/residual.npy", "deep/er/plate/u.npy",
            "deep/er/plate/u_xx.npy", "deep/er/plate/x.npy", "deep/er/plate/y.npy"});
  const fs::path folder = scratch / "deep/er/plate";
  SECTION("NPY") {
    for (const auto& field : output.fields) {
      const auto array = halfulp::read_npy<double>(folder / (field.name + ".npy"));
      CHECK(array.shape == std::vector<std::ptrdiff_t>{31, 17});
      CHECK(array.values == field.values);
    }
    CHECK(halfulp::read_npy<double>(folder / "x.npy").values == output.axes[0]);
    CHECK(halfulp::read_npy<double>(folder / "y.npy").values == output.axes[1]);
    // The bytes themselves: C order, little-endian, u(x_i, y_j) at (17 i + j).
    const std::string bytes = slurp(folder / "u.npy");
    CHECK_THAT(bytes.substr(0, 128), Contains("'descr': '<f8'") &&
                                         Contains("'fortran_order': False") &&
                                         Contains("(31, 17)"));
    double value = 0;
    std::memcpy(&value, bytes.data() + bytes.size() - 8 * (31 * 17 - (17 * 20 + 3)), 8);
    CHECK(value ==
          Approx(std::sin(3 * output.axes[0][20]) * std::cos(2 * output.axes[1][3])).epsilon(1e-7));
  }
  SECTION("CSV") {
    const auto table = halfulp::read_csv(folder / "plate.csv");
    CHECK(table.names == std::vector<std::string>{"x", "y", "u", "u_xx", "residual", "error", "f"});
    CHECK(table.column("u") == output.fields[0].values);
    CHECK(table.column("error") == output.fields[3].values);
    for (std::size_t p = 0; p < 31 * 17; ++p) {
      REQUIRE(table.columns[0][p] == output.axes[0][p / 17]);
      REQUIRE(table.columns[1][p] == output.axes[1][p % 17]);
    }
  }
  SECTION("VTI") {
    const auto root = xml::parse(slurp(folder / "plate.vti"));
    CHECK(root.name == "VTKFile");
    CHECK(root.attributes.at("type") == "ImageData");
    CHECK(root.attributes.at("byte_order") == "LittleEndian");
    CHECK(root.attributes.at("header_type") == "UInt64");
    const auto* image = root.all("ImageData").at(0);
    CHECK(image->attributes.at("WholeExtent") == "0 30 0 16 0 0");
    CHECK(root.all("Piece").at(0)->attributes.at("Extent") == "0 30 0 16 0 0");
    CHECK(image->attributes.at("Origin") == "0 -1 0");
    std::istringstream spacing(image->attributes.at("Spacing"));
    double dx = 0, dy = 0;
    spacing >> dx >> dy;
    CHECK(dx == 2.0 / 30);
    CHECK(dy == (std::numbers::pi + 1) / 16);
    std::string data = root.all("AppendedData").at(0)->text;
    CHECK(root.all("AppendedData").at(0)->attributes.at("encoding") == "base64");
    data = data.substr(data.find('_') + 1);
    data = data.substr(0, data.find_first_of(" \n"));
    const auto arrays = root.all("DataArray");
    REQUIRE(arrays.size() == output.fields.size());
    for (std::size_t k = 0; k < arrays.size(); ++k) {
      CHECK(arrays[k]->attributes.at("type") == "Float64");
      CHECK(arrays[k]->attributes.at("Name") == output.fields[k].name);
      const std::size_t begin = std::stoul(arrays[k]->attributes.at("offset"));
      const std::size_t end =
          k + 1 < arrays.size() ? std::stoul(arrays[k + 1]->attributes.at("offset")) : data.size();
      const std::string block = decode_base64(data.substr(begin, end - begin));
      std::uint64_t bytes = 0;
      std::memcpy(&bytes, block.data(), 8);
      REQUIRE(bytes == 31 * 17 * 8);
      REQUIRE(block.size() == bytes + 8);
      Values values(31 * 17);
      std::memcpy(values.data(), block.data() + 8, bytes);
      for (std::size_t i = 0; i < 31; ++i) {
        for (std::size_t j = 0; j < 17; ++j) {
          REQUIRE(values[i + 31 * j] == output.fields[k].values[i * 17 + j]);  // x fastest
        }
      }
    }
  }
  SECTION("report and picture") {
    CHECK(slurp(folder / "report.json") == report);
    const auto json = nlohmann::json::parse(report);
    std::vector<std::string> listed = json["result"]["files"];
    std::sort(listed.begin(), listed.end());
    std::vector<std::string> there;
    for (const auto& entry : fs::directory_iterator(folder))
      there.push_back(entry.path().filename().string());
    std::sort(there.begin(), there.end());
    CHECK(listed == there);
    const auto svg = xml::parse(slurp(folder / "picture.svg"));
    std::string text;
    for (const auto* element : svg.all("text")) text += element->whole_text();
    CHECK_THAT(text, Contains("plate") && Contains("|u − exact|"));
    struct stat status {};
    REQUIRE(::stat(folder.c_str(), &status) == 0);
    const mode_t mask = ::umask(0);
    ::umask(mask);
    CHECK((status.st_mode & 0777) == (0777 & ~mask));
  }
}

TEST_CASE("HDF5 holds the same bytes", "[pde_output]") {
  const Scratch scratch;
  const Values x = {0, 0.5, 1}, y = {2, 3}, u = {1, 2, 3, 4, 5, 6.5};
  const std::vector<std::string> names = {"x", "y"};
  const std::vector<Values> axes = {x, y};
  const std::vector<pde::Field> fields = {{"u", u}};
  if (!pde::have_hdf5()) {
    CHECK_THROWS_AS(pde::write_hdf5(scratch / "a.h5", names, axes, fields), halfulp::DomainError);
    return;
  }
  pde::write_hdf5(scratch / "a.h5", names, axes, fields);
  const std::string bytes = slurp(scratch / "a.h5");
  CHECK(bytes.substr(0, 8) == "\x89HDF\r\n\x1a\n");
  for (const Values& values : {x, y, u}) {
    CHECK_THAT(bytes, Contains(std::string(reinterpret_cast<const char*>(values.data()),
                                           8 * values.size())));
  }
  pde::write_hdf5(scratch / "b.h5", names, axes, fields);
  CHECK(bytes == slurp(scratch / "b.h5"));
  CHECK_THROWS_AS(pde::write_hdf5(scratch / "no/b.h5", names, axes, fields), halfulp::IoError);
}

TEST_CASE("the report holds what was computed", "[pde_output]") {
  const auto file = file_2d();
  const auto output = pde::evaluate(file, perturbed(1e-9));
  pde::Run run;
  run.seconds = 0.125;
  run.repeats = 5;
  run.repeat_seconds = 0.004;
  const std::vector<std::string> files = {"u.npy"};
  const std::string text = pde::report_json(file, solved(), output, run, files);
  CHECK(text == pde::report_json(file, solved(), output, run, files));
  CHECK(text.back() == '\n');
  const auto json = nlohmann::json::parse(text);
  CHECK(json["schema"] == 1);
  CHECK(json["command"] == "pde solve");
  CHECK(json["report"]["status"] == "converged");
  CHECK(json["report"]["residual"] == 2e-13);
  CHECK(json["report"]["tolerance"] == 1e-12);
  const auto& result = json["result"];
  CHECK(result["problem"]["name"] == "plate");
  CHECK(result["problem"]["equation"] == "u_xx + 2*u_yy + x*u - f");
  CHECK(result["problem"]["domain"][1]["upper"] == std::numbers::pi);
  CHECK(result["problem"]["domain"][1]["points"] == 17);
  CHECK(result["problem"]["sides"].size() == 4);
  CHECK(result["unknowns"] == 20 * 21);
  CHECK(result["axes"][1]["modes"] == 21);
  CHECK(result["axes"][1]["name"] == "y");
  CHECK(result["axes"][0]["bands"] == nlohmann::json({{2.0, 4.0}}));
  CHECK(result["residual"] == 2e-13);
  CHECK(result["boundary_residual"] == 3e-15);
  CHECK(result["condition"] == 1e5);
  CHECK(result["error"]["relative_l2"] == output.error->relative_l2);
  CHECK(result["error"]["max"] == output.error->max);
  CHECK(result["residual_on_grid"]["relative_l2"] == output.residual.relative_l2);
  CHECK(result["residual_on_grid"]["grid"] == "output");
  CHECK(result["error_estimate"] == 4e-13);
  CHECK(result["floor_estimate"] == 1e-14);
  CHECK(result["seconds"] == 0.125);
  CHECK(result["repeat_solve"] == 0.004);
  CHECK(result["timings"]["factor"] == 0.02);
  CHECK(result["warnings"].back() == "a side warning");
  CHECK(result["files"][0] == "u.npy");
  CHECK(json["environment"]["version"].is_string());
  CHECK(json["environment"]["threads"] >= 1);
  CHECK_FALSE(json["environment"].contains("date"));
  run.date = "2024-01-01";
  CHECK(nlohmann::json::parse(pde::report_json(file, solved(), output, run,
                                               files))["environment"]["date"] == "2024-01-01");
}

TEST_CASE("infinities and a failed status are in the report and the picture", "[pde_output]") {
  const auto file = file_2d();
  const auto sample = perturbed(0);
  const auto output = pde::evaluate(file, sample);
  pde::Solution solution = solved();
  solution.report = {halfulp::Status::stagnated, 3, 0.5, 1e-12};
  solution.condition = std::numeric_limits<double>::infinity();
  solution.error_estimate = not_a_number;
  solution.warnings = {"bytes \xff and \x01"};
  const auto json = nlohmann::json::parse(pde::report_json(file, solution, output, {}, {}));
  CHECK(json["report"]["status"] == "stagnated");
  CHECK(json["report"]["converged"] == false);
  CHECK(json["result"]["condition"] == "inf");
  CHECK(json["result"]["error_estimate"] == "nan");
  CHECK(json["result"]["repeat_solve"].is_null());
  const std::string svg = halfulp::draw_svg(pde::picture_of(file, solution, output, sample, {}));
  CHECK_THAT(svg, Contains("Not converged: stagnated"));
}

TEST_CASE("without an exact solution the picture shows the residual", "[pde_output]") {
  auto file = file_without_exact();
  const auto sample = perturbed(1e-6);
  const auto output = pde::evaluate(file, sample);
  const auto picture = pde::picture_of(file, solved(), output, sample, {});
  CHECK(picture.error.label == "|residual| / scale");
  CHECK(picture.error.values[40] == output.residual_values[40] / output.residual.scale);
}

TEST_CASE("what cannot be written is refused before any work", "[pde_output]") {
  auto file = file_2d();
  SECTION("a grid beyond memory") {
    file.output.points = {1000000, 1000000};
    CHECK_THROWS_WITH(pde::check_output(file),
                      Contains("points = 1e+12 in all") && Contains("GiB"));
  }
  SECTION("one point") {
    file.output.points = {1, 30};
    CHECK_THROWS_WITH(pde::check_output(file), Contains("points = 1, must be >= 2"));
  }
  SECTION("points for one axis") {
    file.output.points = {10};
    CHECK_THROWS_AS(pde::check_output(file), halfulp::ShapeError);
  }
  SECTION("a format nobody knows") {
    file.output.formats.emplace_back("xls");
    CHECK_THROWS_WITH(pde::check_output(file), Contains("formats = xls"));
  }
  SECTION("HDF5 where it is not built in") {
    file.output.formats.emplace_back("h5");
    if (pde::have_hdf5())
      CHECK_NOTHROW(pde::check_output(file));
    else
      CHECK_THROWS_WITH(pde::check_output(file), Contains("no HDF5"));
  }
  SECTION("the error of an unknown solution") {
    file.problem.exact.reset();
    file.output.fields.push_back({"error", pde::FieldKind::error, {}});
    CHECK_THROWS_WITH(pde::check_output(file), Contains("fields = error"));
  }
  SECTION("a sampler of the wrong size") {
    const auto sample = [](std::span<const Values>, std::span<const int>) { return Values(3); };
    CHECK_THROWS_AS(pde::evaluate(file, sample), halfulp::ShapeError);
  }
}

TEST_CASE("a folder that cannot be written is found out at once and leaves nothing",
          "[pde_output]") {
  const Scratch scratch;
  std::ofstream(scratch / "file") << "x";
  SECTION("a file is in its place") {
    CHECK_THROWS_WITH(pde::OutputFolder(scratch / "file"), Contains("is not a folder"));
  }
  SECTION("a file is in a parent's place") {
    CHECK_THROWS_AS(pde::OutputFolder(scratch / "file/a/b"), halfulp::IoError);
  }
  SECTION("the system refuses") {
    CHECK_THROWS_AS(pde::OutputFolder("/proc/no/such/folder"), halfulp::IoError);
  }
  SECTION("a name too long for the system") {
    CHECK_THROWS_AS(pde::OutputFolder(scratch / ("new/" + std::string(300, 'n') + "/b")),
                    halfulp::IoError);
  }
  CHECK(scratch.content() == std::vector<std::string>{"file"});
}

TEST_CASE("without commit no trace is left", "[pde_output]") {
  const Scratch scratch;
  fs::create_directory(scratch / "old");
  std::ofstream(scratch / "old/u.npy") << "before";
  {
    pde::OutputFolder fresh(scratch / "a/b/c");
    fresh.write("u.npy", "after");
    pde::OutputFolder existing(scratch / "old/");
    existing.write("u.npy", "after");
    CHECK(slurp(scratch / "old/u.npy") == "before");
  }
  CHECK(scratch.content() == std::vector<std::string>{"old", "old/u.npy"});
}

TEST_CASE("commit into a folder that exists keeps its other files", "[pde_output]") {
  const Scratch scratch;
  fs::create_directory(scratch / "old");
  std::ofstream(scratch / "old/u.npy") << "before";
  std::ofstream(scratch / "old/notes.txt") << "mine";
  pde::OutputFolder folder(scratch / "old");
  folder.write("u.npy", "after");
  folder.write("x.npy", "new");
  folder.commit();
  CHECK(scratch.content() ==
        std::vector<std::string>{"old", "old/notes.txt", "old/u.npy", "old/x.npy"});
  CHECK(slurp(scratch / "old/u.npy") == "after");
  CHECK(slurp(scratch / "old/notes.txt") == "mine");
}

TEST_CASE("a commit that fails half way is undone", "[pde_output]") {
  const Scratch scratch;
  fs::create_directories(scratch / "old/y.npy");  // a folder where a file must go
  std::ofstream(scratch / "old/u.npy") << "before";
  {
    pde::OutputFolder folder(scratch / "old");
    folder.write("u.npy", "after");
    folder.write("x.npy", "new");
    folder.write("y.npy", "new");
    CHECK_THROWS_WITH(folder.commit(), Contains("y.npy"));
  }
  CHECK(scratch.content() == std::vector<std::string>{"old", "old/u.npy", "old/y.npy"});
  CHECK(slurp(scratch / "old/u.npy") == "before");
}

TEST_CASE("a full disk leaves nothing half-written", "[pde_output]") {
  const Scratch scratch;
  const auto file = file_2d("points = [60, 60]\nformats = [\"npy\", \"vti\", \"csv\"]");
  const auto sample = perturbed(0);
  const auto output = pde::evaluate(file, sample);
  fs::create_directory(scratch / "old");
  std::ofstream(scratch / "old/u.npy") << "before";
  // A limit on the size of files stands for the full disk: write() fails part way.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{1000}, rlim_t{29000}, rlim_t{50000}}) {
    const rlimit tight = {limit, before.rlim_max};
    for (const char* target : {"new/folder", "old"}) {
      bool failed = false;
      {
        pde::OutputFolder folder(scratch / target);
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
        try {
          pde::write_output(folder, file, solved(), output, sample, {});
          folder.commit();
        } catch (const halfulp::IoError&) {
          failed = true;
        }
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
      }
      INFO("limit " << limit << " target " << target);
      CHECK(failed);
      CHECK(scratch.content() == std::vector<std::string>{"old", "old/u.npy"});
      CHECK(slurp(scratch / "old/u.npy") == "before");
    }
  }
  ::signal(SIGXFSZ, handler);
}

TEST_CASE("staged names are plain", "[pde_output]") {
  const Scratch scratch;
  pde::OutputFolder folder(scratch / "a");
  for (const char* name : {"", ".", "..", "../x", "a/b", "/etc/x"}) {
    CHECK_THROWS_AS(folder.write(name, ""), halfulp::DomainError);
  }
}

TEST_CASE("VTI in one and three dimensions", "[pde_output]") {
  const auto one = xml::parse(
      pde::vti_text(std::vector<Values>{{1, 2, 3}}, std::vector<pde::Field>{{"a&b", {4, 5, 6}}}));
  CHECK(one.all("ImageData").at(0)->attributes.at("WholeExtent") == "0 2 0 0 0 0");
  CHECK(one.all("DataArray").at(0)->attributes.at("Name") == "a&b");
  Values cube(24);
  for (std::size_t i = 0; i < 24; ++i) cube[i] = static_cast<double>(i);
  const auto three = xml::parse(pde::vti_text(std::vector<Values>{{0, 1}, {0, 1, 2}, {0, 1, 2, 3}},
                                              std::vector<pde::Field>{{"c", cube}}));
  std::string data = three.all("AppendedData").at(0)->text;
  data = data.substr(data.find('_') + 1);
  const std::string block = decode_base64(data.substr(0, data.find('\n')));
  Values values(24);
  std::memcpy(values.data(), block.data() + 8, 192);
  CHECK(values[1 + 2 * (2 + 3 * 3)] == 1 * 12 + 2 * 4 + 3);
  CHECK_THROWS_AS(pde::vti_text(std::vector<Values>{{0, 1}}, std::vector<pde::Field>{{"c", cube}}),
                  halfulp::ShapeError);
}

TEST_CASE("many points are evaluated in parts with the same bits", "[pde_output]") {
  const auto file = pde::parse_pde_file(
      "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx + u - f\"\n[forcing]\nf = \"sin(40*x)\"\n"
      "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n");
  const auto solution = pde::solve(file.problem, file.options);
  std::vector<std::vector<double>> axes(1);
  for (int i = 0; i < 40000; ++i) axes[0].push_back(i / 39999.0);
  for (const int order : {0, 2}) {
    const std::vector<int> orders{order};
    CHECK(pde::sampler_of(solution)(axes, orders) == solution.on_grid(axes, orders));
  }
}

TEST_CASE("bands and threads beyond reason are refused", "[pde_output]") {
  auto file = pde::parse_pde_file(
      "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx - 1\"\n"
      "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n");
  const double inf = std::numeric_limits<double>::infinity();
  for (const pde::Band band : {pde::Band{0, 1e300}, pde::Band{0, inf}, pde::Band{-1, 3},
                               pde::Band{5, 3}, pde::Band{std::nan(""), 3}, pde::Band{0, 1e8}}) {
    pde::Options options;
    options.bands = {{band}};
    CHECK_THROWS_AS(pde::Solver(file.problem, options), halfulp::DomainError);
  }
  pde::Options options;
  options.threads = 1025;
  CHECK_THROWS_AS(pde::Solver(file.problem, options), halfulp::DomainError);
}
