// `halfulp pde solve` as a user runs it: files, table, report, exit codes, and nothing left behind.
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <vector>

#include "halfulp/npy.hpp"
#include "program.hpp"

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* wave = R"toml([domain]
x = [0, 1]
[equation]
expr = "u_xx - f"
[exact]
u = "sin(30*x) + x^2"
[forcing]
f = "auto"
[bc]
"x-,x+" = { type = "dirichlet", g = "exact" }
[output]
points = 101
fields = ["u", "u_x", "residual"]
formats = ["npy", "vti", "csv"]
)toml";

constexpr const char* plate = R"toml([domain]
x = [0, 1]
y = [0, "pi"]
[equation]
expr = "u_xx + u_yy - f"
[exact]
u = "sin(9*x)*cos(4*y)"
[forcing]
f = "auto"
[bc]
"x-,x+,y-,y+" = { type = "dirichlet", g = "exact" }
[output]
points = [40, 25]
)toml";

constexpr const char* coupled = R"toml([domain]
x = [0, 1]
[equation]
p = "p_xx + q - f"
q = "q_xx - p - g"
[exact]
p = "sin(30*x) + x^2"
q = "cos(20*x)"
[forcing]
f = "auto"
g = "auto"
[bc]
"x-,x+" = { type = "dirichlet", g = "exact" }
[output]
points = 101
fields = ["p", "q_x", "error", "residual"]
formats = ["csv"]
)toml";

std::string put(const Folder& folder, const std::string& name, const std::string& text) {
  const fs::path path = folder.path / name;
  std::ofstream(path) << text;
  return "'" + path.string() + "'";
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    names.push_back(fs::relative(entry.path(), folder).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string to(const Folder& folder, const std::string& name) {
  return " --out '" + (folder.path / name).string() + "' ";
}

}  // namespace

TEST_CASE("solve writes fields whose measured error is the reported one", "[pde_solve]") {
  const Folder folder;
  const Run result = run(folder, "pde solve " + put(folder, "wave.toml", wave) + to(folder, "a/b"));
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  CHECK(result.out.find("wave ") != std::string::npos);
  CHECK(result.out.find("converged") != std::string::npos);
  CHECK(names_in(folder.path / "a/b") ==
        std::vector<std::string>{"picture.svg", "report.json", "residual.npy", "u.npy", "u_x.npy",
                                 "wave.csv", "wave.vti", "x.npy"});
  const auto x = halfulp::read_npy<double>(folder.path / "a/b/x.npy");
  const auto u = halfulp::read_npy<double>(folder.path / "a/b/u.npy");
  const auto ux = halfulp::read_npy<double>(folder.path / "a/b/u_x.npy");
  const auto r = halfulp::read_npy<double>(folder.path / "a/b/residual.npy");
  REQUIRE(u.shape == std::vector<std::ptrdiff_t>{101});
  CHECK(x.values.front() == 0);
  CHECK(x.values.back() == 1);
  long double error = 0, size = 0, slope = 0, residual = 0;
  for (std::size_t i = 0; i < 101; ++i) {
    const long double t = x.values[i], exact = std::sin(30 * t) + t * t;
    error += (u.values[i] - exact) * (u.values[i] - exact);
    size += exact * exact;
    slope = std::max(slope, std::fabs(ux.values[i] - (30 * std::cos(30 * t) + 2 * t)));
    residual += static_cast<long double>(r.values[i]) * r.values[i];
  }
  const json report = json::parse(content(folder.path / "a/b/report.json"));
  const double reported = report["result"]["error"]["relative_l2"];
  CHECK(reported < 1e-11);
  CHECK(std::fabs(reported - static_cast<double>(std::sqrt(error / size))) <
        1e-3 * reported + 1e-19);
  CHECK(slope < 1e-9);
  CHECK(report["result"]["residual_on_grid"]["l2"].get<double>() ==
        Approx(static_cast<double>(std::sqrt(residual / 101))).epsilon(1e-12));
  CHECK(report["report"]["status"] == "converged");
}

TEST_CASE("solve writes the fields of a system", "[pde_solve]") {
  const Folder folder;
  const Run result =
      run(folder, "pde solve " + put(folder, "coupled.toml", coupled) + to(folder, "c"));
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  CHECK(names_in(folder.path / "c") ==
        std::vector<std::string>{"coupled.csv", "error_p.npy", "error_q.npy", "p.npy",
                                 "picture.svg", "q.npy", "q_x.npy", "report.json", "residual_p.npy",
                                 "residual_q.npy", "x.npy"});
  const auto x = halfulp::read_npy<double>(folder.path / "c/x.npy");
  const auto p = halfulp::read_npy<double>(folder.path / "c/p.npy");
  const auto q = halfulp::read_npy<double>(folder.path / "c/q.npy");
  const auto qx = halfulp::read_npy<double>(folder.path / "c/q_x.npy");
  long double error[2] = {0, 0}, size[2] = {0, 0}, slope = 0;
  for (std::size_t i = 0; i < 101; ++i) {
    const long double t = x.values[i];
    const long double exact[2] = {std::sin(30 * t) + t * t, std::cos(20 * t)};
    const long double found[2] = {p.values[i], q.values[i]};
    for (int k = 0; k < 2; ++k) {
      error[k] += (found[k] - exact[k]) * (found[k] - exact[k]);
      size[k] += exact[k] * exact[k];
    }
    slope = std::max(slope, std::fabs(qx.values[i] + 20 * std::sin(20 * t)));
  }
  CHECK(slope < 1e-12);
  const json report = json::parse(content(folder.path / "c/report.json"));
  const json& fields = report["result"]["fields"];
  REQUIRE(fields.size() == 2);
  for (int k = 0; k < 2; ++k) {
    const double reported = fields[k]["error"]["relative_l2"];
    CHECK(reported < 1e-15);
    CHECK(reported <= fields[k]["error_estimate"].get<double>());
    CHECK(reported <= report["result"]["error"]["relative_l2"].get<double>());
    CHECK(std::fabs(reported - static_cast<double>(std::sqrt(error[k] / size[k]))) <
          1e-2 * reported + 1e-18);
    CHECK(fields[k]["residual_on_grid"]["relative_l2"].get<double>() < 1e-12);
  }
  CHECK(fields[1]["name"] == "q");
  CHECK(report["result"]["problem"]["fields"][0]["equation"] == "p_xx + q - f");
  // A resonance is told, and what was found is written all the same.
  std::string resonant = coupled;
  resonant.replace(resonant.find("p_xx + q"), 8, "p_xx + pi^2*p");
  const Run singular =
      run(folder, "pde solve " + put(folder, "resonant.toml", resonant) + to(folder, "r"));
  CHECK(singular.code == 3);
  CHECK(singular.err.find("singular") != std::string::npos);
  CHECK(fs::exists(folder.path / "r/q.npy"));
}

TEST_CASE("another solution than the exact one is not passed off as it", "[pde_solve]") {
  const Folder folder;
  const std::string text = R"toml([domain]
x = [0, 2]
[equation]
expr = "-u_xx + u_x^2/(1 + u^2) - f"
[exact]
u = "0.641*sin(3.63*x) + 0.1*sin(25.17*x)"
[forcing]
f = "auto"
[bc]
"x-" = { type = "robin", a = 1, b = 1, g = "exact" }
"x+" = { type = "dirichlet", g = "exact" }
)toml";
  const Run found =
      run(folder, "pde solve " + put(folder, "several.toml", text) + to(folder, "several"));
  CHECK(found.code == 3);
  CHECK(found.err.find("is not [exact] u") != std::string::npos);
  const Run guided =
      run(folder, "pde solve " +
                      put(folder, "guided.toml",
                          text + "[solver]\nguess = \"0.641*sin(3.63*x) + 0.09*sin(25.1*x)\"\n") +
                      to(folder, "guided"));
  CHECK(guided.code == 0);
}

TEST_CASE("--json prints the report and nothing else", "[pde_solve]") {
  const Folder folder;
  const Run result = run(
      folder, "pde solve --json --repeat 3 " + put(folder, "plate.toml", plate) + to(folder, "p"));
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  CHECK(result.out == content(folder.path / "p/report.json"));
  const json report = json::parse(result.out);
  CHECK(report["schema"] == 1);
  CHECK(report["result"]["repeats"] == 3);
  CHECK(report["result"]["repeat_solve"] > 0.0);
  CHECK(report["result"]["repeat_solve"] < report["result"]["seconds"]);
  const auto u = halfulp::read_npy<double>(folder.path / "p/u.npy");
  CHECK(u.shape == std::vector<std::ptrdiff_t>{40, 25});
}

TEST_CASE("the same bytes again, but for the timings", "[pde_solve]") {
  const Folder folder;
  const std::string input = put(folder, "plate.toml", plate);
  REQUIRE(run(folder, "pde solve --threads 1 " + input + to(folder, "one")).code == 0);
  REQUIRE(run(folder, "pde solve --threads 2 " + input + to(folder, "two")).code == 0);
  CHECK(content(folder.path / "one/u.npy") == content(folder.path / "two/u.npy"));
  json one = json::parse(content(folder.path / "one/report.json"));
  json two = json::parse(content(folder.path / "two/report.json"));
  for (json* report : {&one, &two}) {
    (*report)["result"].erase("seconds");
    (*report)["result"].erase("timings");
    (*report)["environment"].erase("threads");
    (*report)["options"].erase("threads");
  }
  CHECK(one == two);
}

TEST_CASE("several inputs make one table and one folder each", "[pde_solve]") {
  const Folder folder;
  const std::string inputs =
      put(folder, "wave.toml", wave) + " " + put(folder, "plate.toml", plate);
  const Run text = run(folder, "pde solve " + inputs + to(folder, "all"));
  REQUIRE(text.code == 0);
  CHECK(fs::exists(folder.path / "all/wave/report.json"));
  CHECK(fs::exists(folder.path / "all/plate/report.json"));
  CHECK(text.out.find("problem") < text.out.find("\nwave "));
  CHECK(text.out.find("\nwave ") < text.out.find("\nplate "));
  const Run object = run(folder, "pde solve --json " + inputs + to(folder, "all"));
  REQUIRE(object.code == 0);
  const json all = json::parse(object.out);
  CHECK(all["report"]["converged"] == true);
  CHECK(all["result"]["problems"].size() == 2);
  CHECK(all["result"]["problems"][1]["result"]["problem"]["name"] == "plate");
  // Two inputs of one name would overwrite each other.
  fs::create_directory(folder.path / "other");
  const Run twice = run(folder, "pde solve " + inputs + " " + put(folder, "other/wave.toml", wave) +
                                    to(folder, "all"));
  CHECK(twice.code == 2);
}

TEST_CASE("without --out the folder is out/<name>", "[pde_solve]") {
  const Folder folder;
  put(folder, "wave.toml", wave);
  const Run result = run(folder, "pde solve wave.toml", "cd '" + folder.path.string() + "' && ");
  CHECK(result.code == 0);
  CHECK(fs::exists(folder.path / "out/wave/u.npy"));
}

TEST_CASE("an under-resolved problem says so with exit code 3 and is written", "[pde_solve]") {
  const Folder folder;
  std::string text = wave;
  text.replace(text.find("30*x"), 4, "3000*x");
  text += "[solver]\nmax_modes = 60\n";
  const Run result =
      run(folder, "pde solve " + put(folder, "fast.toml", text) + to(folder, "fast"));
  CHECK(result.code == 3);
  const json report = json::parse(content(folder.path / "fast/report.json"));
  CHECK(report["report"]["converged"] == false);
  CHECK(report["report"]["status"] != "converged");
  CHECK(report["result"]["error"]["relative_l2"] > 1e-3);
  CHECK(content(folder.path / "fast/picture.svg").find("Not converged") != std::string::npos);
  CHECK(fs::exists(folder.path / "fast/u.npy"));
}

TEST_CASE("output that cannot be written is found before the solve", "[pde_solve]") {
  const Folder folder;
  const std::string input = put(folder, "wave.toml", wave);
  put(folder, "file", "x");
  for (const char* out : {"file", "file/below"}) {
    const Run result = run(folder, "pde solve " + input + to(folder, out));
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.find("halfulp: error: ") == 0);
  }
  CHECK(run(folder, "pde solve " + input + " --out /proc/none/here").code == 2);
  CHECK(run(folder, "pde solve " + input + to(folder, std::string(300, 'y'))).code == 2);
  CHECK(names_in(folder.path) == std::vector<std::string>{"file", "stderr", "stdout", "wave.toml"});
}

TEST_CASE("one bad input among several: nothing is solved or written", "[pde_solve]") {
  const Folder folder;
  const Run result = run(folder, "pde solve " + put(folder, "wave.toml", wave) + " " +
                                     put(folder, "bad.toml", "[domain]\n") + to(folder, "all"));
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.find("bad.toml") != std::string::npos);
  CHECK_FALSE(fs::exists(folder.path / "all"));
}

TEST_CASE("a full disk leaves nothing half-written", "[pde_solve]") {
  const Folder folder;
  const std::string input = put(folder, "wave.toml", wave);
  // 512-byte blocks: the picture does not fit, and a write fails part way.
  const Run result =
      run(folder, "pde solve " + input + to(folder, "full"), "trap '' XFSZ; ulimit -f 16; ");
  CHECK(result.code == 1);
  CHECK(names_in(folder.path) == std::vector<std::string>{"stderr", "stdout", "wave.toml"});
}

TEST_CASE("a warning that file and solver share is given once", "[pde_solve]") {
  const Folder folder;
  std::string text = wave;
  text.replace(text.find("dirichlet"), 9, "neumann");
  const Run result = run(folder, "pde solve " + put(folder, "free.toml", text) + to(folder, "f"));
  CHECK(result.code == 0);
  CHECK(result.err ==
        "halfulp: warning: free: u is free up to a constant: its mean is that of the exact "
        "solution\n");
  const json report = json::parse(content(folder.path / "f/report.json"));
  CHECK(report["result"]["warnings"].size() == 1);
}
