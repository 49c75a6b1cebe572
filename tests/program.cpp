// The program as a user runs it: exit codes, where output goes, what messages look like.
#include "program.hpp"

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace {

const std::string inputs = HALFULP_INPUTS;

}  // namespace

TEST_CASE("usage errors are exit code 2 with nothing on standard output", "[program]") {
  const Folder folder;
  for (const char* arguments :
       {"", "nothing", "pde", "pde nothing", "pde check", "pde check a.toml b.toml", "info --wrong",
        "info --threads x", "info --threads -1", "info --device gpu", "--seed -3 info",
        "info --out"}) {
    INFO(arguments);
    const Run result = run(folder, arguments);
    CHECK(result.code == 2);
    CHECK(result.out.empty());
    CHECK(result.err.starts_with("halfulp: error: "));
  }
}

TEST_CASE("help and version are exit code 0", "[program]") {
  const Folder folder;
  for (const char* arguments : {"--help", "pde --help", "pde check --help", "info --help"}) {
    INFO(arguments);
    const Run result = run(folder, arguments);
    CHECK(result.code == 0);
    CHECK(result.out.find("Usage: ") != std::string::npos);
    CHECK(result.err.empty());
  }
  CHECK(run(folder, "--version").out == std::string(HALFULP_VERSION) + "\n");
}

TEST_CASE("info", "[program]") {
  const Folder folder;
  const Run text = run(folder, "info");
  CHECK(text.code == 0);
  CHECK(text.out.starts_with("halfulp " + std::string(HALFULP_VERSION)));
  const Run result = run(folder, "info --json");
  const auto object = nlohmann::json::parse(result.out);
  CHECK(object["schema"] == 1);
  CHECK(object["command"] == "info");
  CHECK(object["result"]["version"] == HALFULP_VERSION);
  CHECK(object["result"]["libraries"].contains("FFTW"));
}

TEST_CASE("pde check says what was understood", "[program]") {
  const Folder folder;
  for (const auto& entry : std::filesystem::directory_iterator(inputs)) {
    if (entry.path().extension() != ".toml") continue;
    INFO(entry.path());
    const Run result = run(folder, "pde check '" + entry.path().string() + "'");
    CHECK(result.code == 0);
    CHECK(result.err.empty());
    const bool one = result.out.find("  equation  ") != std::string::npos;
    const bool several = result.out.find("  equations ") != std::string::npos;
    CHECK(one != several);
  }
  // Shared options stand anywhere.
  const Run result =
      run(folder, "--json pde check --threads 2 '" + inputs + "/heat.toml' --seed 7");
  REQUIRE(result.code == 0);
  const auto object = nlohmann::json::parse(result.out);
  CHECK(object["command"] == "pde check");
  CHECK(object["options"]["threads"] == 2);
  CHECK(object["options"]["seed"] == 7);
  CHECK(object["report"]["status"] == "ok");
  const auto& check = object["result"];
  CHECK(check["domain"][1]["name"] == "t");
  CHECK(check["operator"][0]["derivative"] == "u_xx");
  CHECK(check["forcing"]["kind"] == "auto");
  CHECK(check["bc"].size() == 4);
  CHECK(check["bc"][1]["type"] == "neumann");
  CHECK(check["bc"][3]["type"] == "none");
  CHECK(check["output"]["points"] == nlohmann::json({300, 300}));
}

TEST_CASE("bad input is exit code 2 and a message with its place", "[program]") {
  const Folder folder;
  const auto file = folder.path / "bad.toml";
  std::ofstream(file) << "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx + u_xxxxx\"\n";
  const Run result = run(folder, "pde check '" + file.string() + "'");
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(result.err == "halfulp: error: " + file.string() +
                          ":4:16: the derivative u_xxxxx has order 5; orders above 4 are not "
                          "solved yet\n  expr = \"u_xx + u_xxxxx\"\n                 ^\n");
  const Run json = run(folder, "pde check --json '" + file.string() + "'");
  CHECK(json.code == 2);
  CHECK(json.out.empty());

  // Bytes of the file that a terminal would act on are shown, not sent.
  std::ofstream(file) << "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx + \xFF\x1B[31m\"\n";
  const Run bytes = run(folder, "pde check '" + file.string() + "'");
  CHECK(bytes.code == 2);
  CHECK(bytes.err.find('\x1B') == std::string::npos);
  CHECK(bytes.err.find('\xFF') == std::string::npos);

  for (const std::string& name : {folder.path.string(), folder.path.string() + "/none.toml"}) {
    const Run missing = run(folder, "pde check '" + name + "'");
    CHECK(missing.code == 2);
    CHECK(missing.err.find(name) != std::string::npos);
  }
}

TEST_CASE("warnings keep exit code 0 and go to standard error", "[program]") {
  const Folder folder;
  const auto file = folder.path / "warned.toml";
  std::ofstream(file)
      << "[domain]\nx = [0, 1]\n[equation]\nexpr = \"u_xx - 1\"\n[exact]\nu = \"x\"\n"
         "[bc]\n\"x-,x+\" = { type = \"dirichlet\", g = \"exact\" }\n";
  const Run result = run(folder, "pde check '" + file.string() + "'");
  CHECK(result.code == 0);
  CHECK(result.err.starts_with("halfulp: warning: [exact] u does not solve the equation"));
  CHECK(run(folder, "pde check --quiet '" + file.string() + "'").err.empty());
}

TEST_CASE("no device is exit code 4, an unwritable result 2, a closed output 1", "[program]") {
  const Folder folder;
  const std::string input = "'" + inputs + "/u1.toml'";
  const Run device = run(folder, "pde check --device cuda " + input);
  CHECK(device.code == 4);
  CHECK(device.err.starts_with("halfulp: error: "));
  const auto out = folder.path / "no" / "such" / "folder";
  const Run unwritable = run(folder, "pde check " + input + " --out '" + out.string() + "'");
  CHECK(unwritable.code == 2);
  CHECK(unwritable.err.find(out.string()) != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.path / "no"));

  const auto written = folder.path / "check.txt";
  CHECK(run(folder, "pde check " + input + " --out '" + written.string() + "'").code == 0);
  CHECK(content(written) == run(folder, "pde check " + input).out);

  if (std::filesystem::exists("/dev/full")) {
    const std::string command =
        std::string("'") + HALFULP_PROGRAM + "' pde check " + input + " >/dev/full 2>/dev/null";
    const int status = std::system(command.c_str());
    CHECK(WEXITSTATUS(status) == 1);
  }
}

TEST_CASE("bessel evaluates a table of points", "[program]") {
  const Folder folder;
  const std::string points = (folder.path / "points.csv").string();
  std::ofstream(points) << "x,v\n1,0.5\n0x1p-1,2\n0,0\nnan,1\n2,-1\n";
  const Run text = run(folder, "bessel log-k --points '" + points + "'");
  CHECK(text.code == 0);
  CHECK(text.out.starts_with("v,x,value\n0.5,1,-0.774208647"));
  CHECK(text.out.ends_with("\n0,0,inf\n1,nan,nan\n-1,2,nan\n"));
  for (const char* name :
       {"log-i", "log-k", "ratio-i", "ratio-k", "log-i-dx", "log-k-dx", "log-i-dv", "log-k-dv"}) {
    INFO(name);
    const auto object = nlohmann::json::parse(
        run(folder, std::string("bessel --json ") + name + " --points '" + points + "'").out);
    CHECK(object["command"] == "bessel");
    CHECK(object["options"]["function"] == name);
    CHECK(object["result"]["value"].size() == 5);
    CHECK(object["result"]["value"][0].is_number());
    CHECK(object["result"]["value"][3] == "nan");
  }
  const std::string out = (folder.path / "values.csv").string();
  const Run file =
      run(folder, "bessel log-i --float --points '" + points + "' --hex --out '" + out + "'");
  CHECK(file.code == 0);
  CHECK(file.out.empty());
  CHECK(std::filesystem::exists(out));
  std::ofstream(points) << "v,x\n1e7,3\n";
  const Run fast = run(folder, "bessel log-i --mode fast --points '" + points + "'");
  CHECK(fast.code == 0);
  CHECK(fast.err.starts_with("halfulp: warning: bessel: "));
  CHECK(fast.out.starts_with("v,x,value\n1e+07,3,-"));
  CHECK(run(folder, "bessel log-i --mode fast --quiet --points '" + points + "'").err.empty());
  CHECK(run(folder, "bessel log-j --points '" + points + "'").code == 2);
  CHECK(run(folder, "bessel log-i --points '" + points + "' --device cuda").code == 4);
  CHECK(run(folder, "bessel log-i --points nothing.csv").code == 2);
  std::ofstream(points) << "v,y\n1e7,3\n";
  CHECK(run(folder, "bessel log-i --points '" + points + "'").code == 2);
}

TEST_CASE("validate measures against the tables and says so when a budget is broken", "[program]") {
  const Folder folder;
  const std::string report = (folder.path / "report.html").string();
  const Run good = run(folder, "validate bessel --samples 1000 --html '" + report + "'");
  INFO(good.out << good.err);
  CHECK(good.code == 0);
  CHECK(good.out.find("\npassed in ") != std::string::npos);
  CHECK(content(report).starts_with("<!doctype html>"));
  const auto object = nlohmann::json::parse(run(folder, "validate --json --samples 1000").out);
  CHECK(object["report"]["status"] == "passed");
  CHECK(object["result"]["functions"].size() == 37);
  CHECK(object["result"]["measurements"].size() == 21);
  for (const auto& special : object["result"]["special_values"]) CHECK(special["pairs"] >= 144);
  for (const auto& check : object["result"]["checks"]) CHECK(check["n"] >= 1000);
  // a reference off by 2^-40: the measurement must fail
  const auto source = std::filesystem::path(inputs).parent_path().parent_path() / "validation";
  const auto copy = folder.path / "validation";
  std::filesystem::create_directories(copy);
  std::filesystem::copy(source / "data", copy / "data", std::filesystem::copy_options::recursive);
  std::filesystem::copy(source / "budgets.csv", copy / "budgets.csv");
  std::ofstream(copy / "data" / "bessel_log_k.csv", std::ios::app)
      << "0,0x1p+0,0x1p+1,-0x1.f6p+0,0\n";
  const Run bad = run(folder, "validate bessel --samples 1000 --data '" + copy.string() + "'");
  CHECK(bad.code == 1);
  CHECK(bad.out.find("FAILED") != std::string::npos);
  std::filesystem::remove(copy / "data" / "bessel_log_k.csv");
  CHECK(run(folder, "validate bessel --samples 1000 --data '" + copy.string() + "'").code == 2);
}
