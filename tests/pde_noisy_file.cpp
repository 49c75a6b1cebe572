// Noise and observations in PDE files: what is read, what is refused and where, and what the
// program writes of them.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/pde_file.hpp"
#include "halfulp/pde_output.hpp"

namespace pde = halfulp::gp_pde;
using halfulp::InputError;

namespace {

const std::string head = "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx - f\"\n";
const std::string sides = "[bc]\n\"x-,x+\" = { type = \"dirichlet\" }\n";
const std::string noisy = "[forcing]\nf = { expr = \"sin(3*x)\", noise = 0.1 }\n";
const std::string good = head + noisy + sides;

struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "halfulp_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
  }
};

/// As in pde_file.cpp: @ stands before the byte that the message must point at.
struct Refused {
  std::string text;
  std::string message;
};

void check(const std::vector<Refused>& table, const std::filesystem::path& folder = {}) {
  for (const Refused& row : table) {
    std::string text = row.text;
    const auto mark = text.find('@');
    REQUIRE(mark != std::string::npos);
    text.erase(mark, 1);
    const auto before = text.substr(0, mark);
    const int line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
    const auto newline = before.rfind('\n');
    const int column = static_cast<int>(newline == std::string::npos ? mark + 1 : mark - newline);
    INFO(row.text << "\nexpected: " << row.message);
    try {
      (void)pde::parse_pde_file(text, "case.toml", folder);
      FAIL_CHECK("accepted");
    } catch (const InputError& error) {
      INFO("got: " << error.what());
      CHECK(error.line() == line);
      CHECK(error.column() == column);
      CHECK(error.message().find(row.message) != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("noise and observations are read", "[pde_noisy_file]") {
  const auto plain = pde::parse_pde_file(good);
  REQUIRE(plain.measurements);
  CHECK(plain.measurements->forcing->level == 0.1);
  CHECK_FALSE(plain.measurements->forcing->learn);
  CHECK(plain.inference.refine);
  CHECK(plain.output.fields[1].name == "std");
  CHECK(pde::describe(plain).find("noise     f: 0.1") != std::string::npos);

  const Folder folder;
  folder.write("obs.csv", "x,u,sigma\n0.1,2,0.5\n0.9,-1,0.25\n");
  const auto seen =
      pde::parse_pde_file(head + "[forcing]\nf = 0\n[observations]\nu = { file = \"obs.csv\" }\n" +
                              "[kernel]\nrefine = \"none\"\n[output]\nfields = [\"std_x\", "
                              "\"std\"]\nsamples = 3\nseed = 9\n",
                          "t.toml", folder.path);
  REQUIRE(seen.measurements);
  CHECK_FALSE(seen.measurements->forcing);
  const auto& o = *seen.measurements->observations;
  CHECK(o.points == std::vector<std::vector<double>>{{0.1, 0.9}});
  CHECK(o.values == std::vector<double>{2, -1});
  CHECK(o.deviations == std::vector<double>{0.5, 0.25});
  CHECK_FALSE(seen.inference.refine);
  CHECK(seen.output.samples == 3);
  CHECK(seen.output.seed == 9);
  CHECK(seen.output.fields[1].orders == std::vector<int>{1});

  const auto inline_points = pde::parse_pde_file(
      "[domain]\nx = [0, 1]\ny = [0, 2]\n[equation]\nexpr = \"u_xx + u_yy\"\n[observations]\n"
      "u = { points = [[0.5, \"1/2\"], [1, 2]], values = [3, 4], noise = \"1/4\" }\n");
  const auto& p = *inline_points.measurements->observations;
  CHECK(p.points == std::vector<std::vector<double>>{{0.5, 1}, {0.5, 2}});
  CHECK(p.noise.level == 0.25);

  halfulp::write_npy<double>(folder.path / "f.npy", std::vector<double>(9, 1.0), {9});
  const auto array =
      pde::parse_pde_file(head + "[forcing]\nf = { file = \"f.npy\", noise = \"learn\" }\n" + sides,
                          "t.toml", folder.path);
  CHECK(array.measurements->forcing->learn);
}

TEST_CASE("bad noise and bad observations are refused where they stand", "[pde_noisy_file]") {
  const Folder folder;
  folder.write("ragged.csv", "x,u\n0.1,2\n0.2\n");
  folder.write("outside.csv", "x,u\n0.1,2\n1.5,3\n");
  folder.write("nan.csv", "x,u\n0.1,nan\n");
  folder.write("negative.csv", "x,u,sigma\n0.1,2,-1\n");
  folder.write("columns.csv", "x,v\n0.1,2\n");
  folder.write("short.csv", "x\n0.1\n");
  folder.write("empty.csv", "x,u\n");
  halfulp::write_npy<double>(folder.path / "cube.npy", std::vector<double>(8, 0.5), {2, 2, 2});
  halfulp::write_npy<double>(folder.path / "f.npy", std::vector<double>(9, 1.0), {9});
  const std::string zero = head + "[forcing]\nf = 0\n" + sides + "[observations]\n";
  const auto file = [&](const std::string& name) {
    return zero + "u = { file = @\"" + name + "\", noise = 0.1 }\n";
  };
  check(
      {
          {head + "[forcing]\nf = { expr = \"x\", noise = @-1 }\n" + sides, "must be > 0"},
          {head + "[forcing]\nf = { expr = \"x\", noise = @0 }\n" + sides, "must be > 0"},
          {head + "[forcing]\nf = { expr = \"x\", noise = @nan }\n" + sides, "must be finite"},
          {head + "[forcing]\nf = { expr = \"x\", noise = \"@much\" }\n" + sides, "unknown name"},
          {head + "[forcing]\nf = { expr = @\"f.npy\", noise = 1 }\n" + sides,
           "as file, not as expr"},
          {head + "[forcing]\nf = { expr = \"x\", @nose = 1 }\n" + sides, "unknown key 'nose'"},
          {"[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx - f - g\"\n[forcing]\nf = { expr = "
           "\"x\", noise = 1 }\ng = { expr = \"x\", noise = @1 }\n" +
               sides,
           "a second forcing with noise"},
          {"[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx - f*f\"\n[forcing]\n@f = { expr = "
           "\"x\", noise = 1 }\n" +
               sides,
           "must be a term of the equation times a constant"},
          {file("ragged.csv"), "ragged.csv"},
          {file("missing.csv"), "missing.csv"},
          {file("outside.csv"), "x of observation 2 = 1.5, must lie in the domain"},
          {file("nan.csv"), "u of observation 1 = nan, must be finite"},
          {file("columns.csv"), "unknown column 'v'"},
          {file("short.csv"), "has no column u"},
          {file("empty.csv"), "no data"},
          {file("cube.npy"), "has shape (2, 2, 2)"},
          {zero + "u = { file = @\"negative.csv\" }\n", "sigma of observation 1 = -1, must be > 0"},
          {zero + "@v = { file = \"outside.csv\" }\n", "unknown key 'v' in [observations]"},
          {zero + "u = @3\n", "must be a table"},
          {zero + "u = { @point = 3 }\n", "unknown key 'point'"},
          {zero + "@u = { points = [0.5], noise = 1 }\n", "has no values"},
          {zero + "@u = { points = [0.5], values = [1] }\n", "has no noise"},
          {zero + "u = { points = [0.5, 0.6], values = @[1], noise = 1 }\n",
           "values has 1 entries"},
          {zero + "u = { points = [@[0.5, 0.6]], values = [1], noise = 1 }\n",
           "a point must be [x]"},
          {zero + "u = { points = [0.5], values = [@\"1/0\"], noise = 1 }\n", "must be finite"},
          {zero + "u = { points = [2], values = @[1], noise = 1 }\n", "must lie in the domain"},
          {zero + "u = { points = [0.5], values = [1], noise = @\"learn\" }\n",
           "needs 4 observations"},
          {zero + "u = { file = @\"nan.csv\", points = [1], noise = 1 }\n", "give one"},
          {head + "[forcing]\nf = 1\n[@observations]\n" + sides, "has no u"},
          {head + "[forcing]\nf = 1\n" + sides + "[kernel]\nrefine = @\"marginal-likelihood\"\n",
           "is for noisy data"},
          {head + "[forcing]\nf = 1\n" + sides + "[output]\nfields = [@\"std\"]\n",
           "needs noisy data"},
          {head + "[forcing]\nf = 1\n" + sides + "[output]\nsamples = @3\n", "needs noisy data"},
          {good + "[output]\nsamples = @0\n", "from 1 to"},
          {good + "[output]\nfields = [@\"std_xxx\"]\n", "unknown field 'std_xxx'"},
          {good + "[solver]\nmethod = @\"gp-hm\"\n", "with noisy data is not solved yet"},
          {"[domain]\nx = [0, 1]\n[equation]\nexpr = @\"u_xx + u^3 - f\"\n" + noisy + sides,
           "a nonlinear equation with noisy data is not solved yet"},
          {head + noisy + "[@bc]\n\"x-\" = { type = \"dirichlet\" }\n", "has no condition"},
      },
      folder.path);
}

TEST_CASE("a posterior's fields, samples and report", "[pde_noisy_file]") {
  auto file = pde::parse_pde_file(
      good + "[output]\npoints = 21\nfields = [\"std\", \"std_x\", \"f\"]\nsamples = 2\n");
  const auto post = pde::infer(file.problem, *file.measurements, file.inference);
  const auto sample = pde::sampler_of(post);
  const auto output = pde::evaluate(file, sample, pde::deviation_of(post));
  REQUIRE(output.fields.size() == 4);
  CHECK(output.fields[2].name == "std_x");
  CHECK(output.fields[1].values[10] > 0);
  // The mean of -sin(3 x)/9 and a line, within three deviations and not by wideness.
  const double exact = -std::sin(1.5) / 9 + std::sin(3.0) / 18;
  CHECK(std::fabs(output.fields[0].values[10] - exact) < 3 * output.fields[1].values[10] + 1e-6);
  CHECK(output.fields[1].values[10] < 0.05);
  const Folder folder;
  pde::OutputFolder out(folder.path / "out");
  pde::Run run;
  run.posterior = &post;
  const std::string report =
      pde::write_output(out, file, pde::summary_of(post), output, sample, run);
  out.commit();
  CHECK(report.find("\"log_evidence\"") != std::string::npos);
  CHECK(report.find("\"chi2\"") != std::string::npos);
  CHECK(report.find("\"status\": \"converged\"") != std::string::npos);
  const auto draws = halfulp::read_npy<double>(folder.path / "out/samples.npy");
  CHECK(draws.shape == std::vector<std::ptrdiff_t>{2, 21});
  CHECK(std::filesystem::exists(folder.path / "out/std_x.npy"));
}
