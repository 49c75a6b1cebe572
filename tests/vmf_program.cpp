// `halfulp vmf` as a user runs it: numbers against closed forms, files of all kinds, exit codes.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numbers>
#include <vector>

#include "halfulp/csv.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/text.hpp"
#include "program.hpp"
#include "xml.hpp"

namespace {

using nlohmann::json;
using Values = std::vector<double>;
namespace fs = std::filesystem;

constexpr long double pi = std::numbers::pi_v<long double>;

/// The file of this name, quoted for the shell.
std::string in(const Folder& folder, const std::string& name) {
  return "'" + (folder.path / name).string() + "'";
}

std::string put(const Folder& folder, const std::string& name, const Values& values,
                const std::vector<std::ptrdiff_t>& shape) {
  halfulp::write_npy<double>(folder.path / name, values, shape);
  return in(folder, name);
}

double number(const Run& result) {
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  return std::stod(result.out);
}

Approx near(long double value, double tolerance = 1e-13) {
  return Approx(static_cast<double>(value)).epsilon(tolerance).margin(tolerance);
}

/// On the sphere in three dimensions everything is elementary.
long double log_density_3(long double kappa, long double cosine) {
  return std::log(kappa / (2 * pi * -std::expm1(-2 * kappa))) + kappa * (cosine - 1);
}

}  // namespace

TEST_CASE("vmf kappa inverts the mean length", "[vmf_program]") {
  const Folder folder;
  // coth(10) - 1/10, and what it lacks to 1
  const Run one = run(folder, "vmf kappa --dim 3 --mean-length 0.9000000041223073");
  CHECK(number(one) == near(10));
  CHECK(number(run(folder, "vmf kappa --complement 0x1p-40 --dim 3")) == near(std::ldexp(1, 40)));
  CHECK(run(folder, "vmf kappa --dim 3 --mean-length 0.5 --hex").out.starts_with("0x1."));
  CHECK(number(run(folder, "vmf kappa --dim 7.5 --mean-length 0")) == 0);
  CHECK(run(folder, "vmf kappa --dim 3 --mean-length 1").out == "inf\n");
  const json object = json::parse(run(folder, "--json vmf kappa --mean-length 0.25 --dim 1e6").out);
  CHECK(object["command"] == "vmf kappa");
  CHECK(object["result"]["kappa"].get<double>() > 250000);

  std::ofstream(folder.path / "p.csv") << "R,p\n0.5,2\n0x1p-2,1e6\n0.3,1\n";
  const Run table =
      run(folder, "vmf kappa --points " + in(folder, "p.csv") + " --out " + in(folder, "k.csv"));
  CHECK(table.code == 0);
  CHECK(table.err.find("row 3: p = 1") != std::string::npos);
  const halfulp::Table read = halfulp::read_csv(folder.path / "k.csv");
  CHECK(read.names == std::vector<std::string>{"p", "R", "kappa"});
  CHECK(read.column("kappa")[0] ==
        std::stod(run(folder, "vmf kappa --dim 2 --mean-length 0.5").out));
  CHECK(read.column("kappa")[1] == object["result"]["kappa"].get<double>());
  CHECK(std::isnan(read.column("kappa")[2]));
  std::ofstream(folder.path / "p.csv") << "p,complement\n3,0x1p-40\n";
  CHECK(run(folder, "vmf kappa --points " + in(folder, "p.csv")).out.starts_with("p,complement,"));

  for (const char* arguments :
       {"", "--dim 3", "--mean-length 0.5", "--dim 1 --mean-length 0.5",
        "--dim 3 --mean-length 1.5", "--dim 3 --mean-length nan", "--dim 3 --complement -1",
        "--dim 3 --mean-length x", "--dim 3 --mean-length 0.5 --complement 0.5",
        "--points nothing.csv"}) {
    INFO(arguments);
    const Run bad = run(folder, std::string("vmf kappa ") + arguments);
    CHECK(bad.code == 2);
    CHECK(bad.out.empty());
    CHECK(bad.err.starts_with("halfulp: error: "));
  }
}

TEST_CASE("vmf entropy, kl and cosine against closed forms", "[vmf_program]") {
  const Folder folder;
  for (const double kappa : {0.5, 10.0, 700.0}) {
    INFO(kappa);
    const long double k = kappa, a = 1 / std::tanh(k) - 1 / k;
    const std::string text = std::to_string(kappa);
    CHECK(number(run(folder, "vmf entropy --dim 3 --kappa " + text)) ==
          near(-log_density_3(k, 1) + k - k * a));
    const long double other = 20;
    CHECK(number(run(folder, "vmf kl --dim 3 --kappa2 20 --cosine 0.25 --kappa " + text)) ==
          near(log_density_3(k, 1) - log_density_3(other, 1) + k * (a - 1) -
               other * (a * 0.25L - 1)));
    const json cosine = json::parse(
        run(folder, "vmf cosine --json --t 0.75 --dim 3 --kappa " + text).out)["result"];
    const long double survival = std::expm1(-k / 4) / std::expm1(-2 * k);
    CHECK(cosine["survival"].get<double>() == near(survival));
    CHECK(cosine["cdf"].get<double>() == near(1 - survival));
    CHECK(cosine["log_density"].get<double>() == near(log_density_3(k, 0.75L) + std::log(2 * pi)));
    const json quantile = json::parse(
        run(folder, "vmf cosine --json --survival 0.95 --dim 3 --kappa " + text).out)["result"];
    CHECK(quantile["complement"].get<double>() ==
          near(-std::log1p(0.95L * std::expm1(-2 * k)) / k));
    CHECK(quantile["survival"].get<double>() == near(0.95L));
  }
  for (const char* arguments :
       {"entropy --dim 3", "entropy --kappa 3", "entropy --dim 3 --kappa -1",
        "entropy --dim 3 --kappa inf", "kl", "kl a.json", "kl --dim 3 --kappa 1 --kappa2 1",
        "kl --dim 3 --kappa 1 --kappa2 1 --cosine 1.5",
        "kl --dim 2.5 --kappa 1 --kappa2 1 --cosine 0", "cosine --dim 3 --kappa 1",
        "cosine --dim 3 --kappa 1 --t 0 --survival 0.5", "cosine --dim 3 --kappa 1 --t 1.5",
        "cosine --dim 3 --kappa 1 --survival 2", "nothing", ""}) {
    INFO(arguments);
    const Run bad = run(folder, std::string("vmf ") + arguments);
    CHECK(bad.code == 2);
    CHECK(bad.out.empty());
    CHECK(bad.err.starts_with("halfulp: error: "));
  }
}

TEST_CASE("vmf samples, fits them, and gives their densities", "[vmf_program]") {
  const Folder folder;
  const Values mu = {2. / 3, -1. / 3, 2. / 3};
  const std::string direction = put(folder, "mu.npy", mu, {3});
  const std::string sampling = "vmf sample --kappa 25 --count 4000 --seed 7 --mu " + direction;
  const std::string x = in(folder, "x.npy"), fit = in(folder, "fit.json");
  CHECK(run(folder, sampling + " --out " + x).code == 0);
  const auto samples = halfulp::read_npy<double>(folder.path / "x.npy");
  REQUIRE(samples.shape == std::vector<std::ptrdiff_t>{4000, 3});
  // The same bits for any number of threads, in parts, and as text.
  CHECK(run(folder, sampling + " --threads 3 --out " + in(folder, "y.npy")).code == 0);
  CHECK(content(folder.path / "y.npy") == content(folder.path / "x.npy"));
  const Run part =
      run(folder, "vmf sample --kappa 25 --count 2 --first 5 --seed 7 --mu " + direction);
  const halfulp::Table text = halfulp::parse_csv(part.out, "out");
  CHECK(text.names == std::vector<std::string>{"x1", "x2", "x3"});
  CHECK(text.columns[1] == Values{samples.values[16], samples.values[19]});
  const json inline_samples =
      json::parse(run(folder, "vmf sample --dim 4 --kappa 1e6 --count 3 --json").out)["result"];
  CHECK(inline_samples["samples"].size() == 3);
  CHECK(inline_samples["samples"][0][0].get<double>() > 0.99);  // the first axis

  const Run result =
      run(folder, "vmf fit " + x + " --out " + fit + " --picture " + in(folder, "x.svg"));
  INFO(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.out.empty());
  CHECK(xml::parse(content(folder.path / "x.svg")).name == "svg");
  const json object = json::parse(content(folder.path / "fit.json"));
  CHECK(object["command"] == "vmf fit");
  const json& found = object["result"];
  const double kappa = found["kappa"], error = found["standard_error"];
  CHECK(std::fabs(kappa - 25) < 5 * error);
  CHECK(error == near(25 / std::sqrt(4000.), 0.05));  // A' = 1/kappa^2 up to exp(-2 kappa)
  double apart = 0;
  for (std::size_t j = 0; j < 3; ++j) apart += std::pow(found["mu"][j].get<double>() - mu[j], 2);
  CHECK(std::sqrt(apart) < 5 * found["direction_error"].get<double>());
  CHECK(found["n"] == 4000);
  CHECK(found["p"] == 3);
  CHECK(found["interval"]["lower"].get<double>() < kappa);
  CHECK(found["interval"]["upper"].get<double>() > kappa);
  CHECK(found["uniformity"]["p_value"].get<double>() < 1e-10);
  const Run printed = run(folder, "vmf fit " + x);
  CHECK(printed.out.find("  kappa            " + halfulp::number_text(kappa) + "\n") !=
        std::string::npos);

  // The density of each row, and their sum is the likelihood.
  CHECK(run(folder, "vmf logpdf " + x + " --model " + fit + " --out " + in(folder, "l.npy")).code ==
        0);
  const auto density = halfulp::read_npy<double>(folder.path / "l.npy");
  REQUIRE(density.shape == std::vector<std::ptrdiff_t>{4000});
  long double sum = 0, worst = 0;
  for (std::size_t i = 0; i < 4000; ++i) {
    long double cosine = 0;
    for (std::size_t j = 0; j < 3; ++j)
      cosine += static_cast<long double>(samples.values[3 * i + j]) * found["mu"][j].get<double>();
    worst = std::max(worst, std::fabs(log_density_3(kappa, cosine) - density.values[i]));
    sum += density.values[i];
  }
  CHECK(worst < 1e-13);
  CHECK(found["log_likelihood"].get<double>() == near(sum, 1e-12));
  const Run rows = run(folder, "vmf logpdf " + x + " --kappa 25 --mu " + direction);
  CHECK(halfulp::parse_csv(rows.out, "out").rows() == 4000);
  CHECK(rows.out.starts_with("log_density\n"));
  CHECK(number(run(folder, "vmf kl " + fit + " " + fit)) == 0);
}

TEST_CASE("vmf reads single precision, text, weights, and rows of any norm", "[vmf_program]") {
  const Folder folder;
  const Values x = {0.6, 0.8, 0, 1, 0.8, 0.6, 0.28, 0.96};
  const std::string points = put(folder, "x.npy", x, {4, 2});
  const auto kappa = [&](const std::string& arguments) {
    const Run result = run(folder, "vmf fit --json " + arguments);
    INFO(result.err);
    REQUIRE(result.code == 0);
    return json::parse(result.out)["result"]["kappa"].get<double>();
  };
  const double reference = kappa(points);
  std::ofstream(folder.path / "bare.csv") << "0.6,0.8\n0,1\n0.8,0.6\n0.28,0.96\n";
  std::ofstream(folder.path / "named.csv") << "a,b\n0.6,0.8\n0,1\n0.8,0.6\n0.28,0.96\n";
  CHECK(kappa(in(folder, "bare.csv")) == reference);
  CHECK(kappa(in(folder, "named.csv")) == reference);
  const std::vector<float> single(x.begin(), x.end());
  halfulp::write_npy<float>(folder.path / "f.npy", single, {4, 2});
  CHECK(kappa(in(folder, "f.npy")) == Approx(reference).epsilon(1e-5));
  Values longer = x;
  for (double& v : longer) v *= 4;
  CHECK(kappa("--normalise " + put(folder, "n.npy", longer, {4, 2})) == Approx(reference));
  // A weight is how often a row is there; 0 is never.
  const std::string weights = put(folder, "w.npy", {2, 0, 1, 1}, {4});
  const std::string twice =
      put(folder, "t.npy", {0.6, 0.8, 0.6, 0.8, 0.8, 0.6, 0.28, 0.96}, {4, 2});
  CHECK(kappa(points + " --weights " + weights) == Approx(kappa(twice)).epsilon(1e-13));
  CHECK(kappa(points + " --correction marginal") < reference);
  // Ten points in 2000 dimensions: the estimate is far off, and that is said.
  const std::string few = in(folder, "few.npy");
  CHECK(run(folder, "vmf sample --dim 2000 --kappa 100 --count 10 --out " + few).code == 0);
  const Run biased = run(folder, "vmf fit --json " + few);
  CHECK(biased.code == 0);
  CHECK(biased.err.find("--correction marginal") != std::string::npos);
  CHECK(run(folder, "vmf fit --quiet " + few).err.empty());
  const Run mended = run(folder, "vmf fit --json --correction marginal " + few);
  CHECK(mended.err.empty());
  const double kappa_found = json::parse(mended.out)["result"]["kappa"];
  CHECK(kappa_found < 0.5 * json::parse(biased.out)["result"]["kappa"].get<double>());
}

TEST_CASE("vmf refuses bad input by file, row, value and rule", "[vmf_program]") {
  const Folder folder;
  const Values good = {0.6, 0.8, 0, 1, 0.8, 0.6};
  const auto refused = [&](const std::string& arguments, const std::vector<std::string>& pieces) {
    const Run bad = run(folder, "vmf " + arguments);
    INFO(arguments << '\n' << bad.err);
    CHECK(bad.code == 2);
    CHECK(bad.out.empty());
    CHECK(bad.err.starts_with("halfulp: error: "));
    for (const std::string& piece : pieces) {
      INFO(piece);
      CHECK(bad.err.find(piece) != std::string::npos);
    }
  };
  const auto with = [&](std::size_t at, double value) {
    Values x = good;
    x[at] = value;
    return put(folder, "bad.npy", x, {3, 2});
  };
  const std::string x = put(folder, "good.npy", good, {3, 2});
  const std::string name = "bad.npy";
  refused("fit " + with(2, 0.5), {name, "1", "must be"});
  refused("fit " + with(5, std::nan("")), {name, "2", "nan"});
  refused("fit --normalise " + put(folder, name, {1, 0, 0, 0, 0, 1}, {3, 2}), {name, "1", "0"});
  refused("fit " + put(folder, name, {0.6, 0.8}, {1, 2}), {name, "2"});
  refused("fit " + put(folder, name, {0.6, 0.8, -0.6, -0.8}, {2, 2}), {name, "0"});
  refused("fit " + put(folder, name, {0.6, 0.8, 0.6, 0.8}, {2, 2}), {name, "1"});
  refused("fit " + put(folder, name, {1, 1, 1}, {3, 1}), {name, "2"});
  refused("fit " + put(folder, name, {}, {0, 2}), {name});
  refused("fit " + put(folder, name, good, {6}), {name, "shape (6,), must be (n, p)"});
  refused("fit " + put(folder, name, good, {1, 3, 2}), {name, "shape (1, 3, 2)"});
  fs::resize_file(folder.path / name, fs::file_size(folder.path / name) - 5);
  refused("fit " + in(folder, name), {name, "truncated by 5 bytes"});
  refused("fit nothing.npy", {"nothing.npy"});
  std::ofstream(folder.path / "bad.csv") << "1,0\n0,x\n";
  refused("fit " + in(folder, "bad.csv"), {"bad.csv:2:3"});
  refused("fit " + x + " --weights " + put(folder, "w.npy", {1, -2, 1}, {3}),
          {"w.npy", "-2", ">= 0"});
  refused("fit " + x + " --weights " + put(folder, "w.npy", {1, 2}, {2}), {"w.npy", "2", "3"});
  refused("fit " + x + " --weights " + put(folder, "w.npy", {0, 0, 0}, {3}), {"w.npy"});
  refused("fit " + x + " --weights " + x, {"good.npy", "shape (3, 2), must be (n,)"});
  refused("fit " + x + " --level 1.5", {"level", "1.5"});
  refused("fit " + x + " --correction best", {"correction"});
  refused("fit " + x + " --picture " + in(folder, "p.svg") + " --image 3x5", {"3x5", "p = 2"});

  refused("logpdf " + x, {"--kappa"});
  refused("logpdf " + x + " --kappa 1", {"--mu"});
  refused("logpdf " + x + " --kappa -1 --mu " + put(folder, "mu.npy", {1, 0}, {2}),
          {"--kappa", "-1"});
  refused("logpdf " + x + " --kappa 1 --mu " + put(folder, "mu.npy", {1, 1}, {2}),
          {"mu.npy", "must be 1"});
  refused("logpdf " + x + " --kappa 1 --mu " + put(folder, "mu.npy", {1, 0, 0}, {3}),
          {"good.npy", "2 columns, must be 3"});
  refused("logpdf " + with(2, 0.5) + " --kappa 1 --mu " + put(folder, "mu.npy", {1, 0}, {2}),
          {name, "1", "must be"});
  for (const char* model : {"", "[1]", "{}", "{\"kappa\": 1}", "{\"kappa\": 1, \"mu\": 3}",
                            "{\"kappa\": 1, \"mu\": [1, \"a\"]}", "{\"mu\": [1, 0]}",
                            "{\"kappa\": \"x\", \"mu\": [1, 0]}", "{\"result\": 5}",
                            "{\"kappa\": -1, \"mu\": [1, 0]}", "{\"kappa\": 1, \"mu\": []}"}) {
    std::ofstream(folder.path / "m.json") << model;
    INFO(model);
    refused("logpdf " + x + " --model " + in(folder, "m.json"), {"m.json"});
    refused("sample --count 2 --model " + in(folder, "m.json"), {"m.json"});
  }
  refused("sample --dim 3 --kappa 1", {"--count"});
  refused("sample --dim 3 --kappa 1 --count -1", {"--count"});
  refused("sample --dim 3.5 --kappa 1 --count 1", {"--dim", "3.5"});
  refused("sample --dim 3 --kappa 1 --count 1000000000000", {"--count"});
  refused("sample --kappa 1 --count 1", {"--dim"});
}

TEST_CASE("vmf on a device there is no code for is exit code 4", "[vmf_program]") {
  const Folder folder;
  CHECK(run(folder, "vmf kappa --dim 3 --mean-length 0.5 --device cuda").code == 4);
  CHECK(run(folder, "vmf entropy --dim 3 --kappa 0.5 --device cuda").code == 4);
}

TEST_CASE("vmf turns images into directions and fits classes", "[vmf_program]") {
  const Folder folder;
  // 40 images of 16 x 16, bright at the left or at the right
  constexpr int n = 40, side = 16;
  std::string images("\0\0\x08\x03\0\0\0\x28\0\0\0\x10\0\0\0\x10", 16),
      labels("\0\0\x08\x01\0\0\0\x28", 8);
  for (int i = 0; i < n; ++i) {
    labels += static_cast<char>(i % 2);
    for (int r = 0; r < side; ++r)
      for (int c = 0; c < side; ++c)
        images += static_cast<char>((i % 2 == 0) == (c < side / 2) ? 100 + (7 * i + 13 * r * c) % 80
                                                                   : (i * r + c) % 11);
  }
  std::ofstream(folder.path / "images", std::ios::binary) << images;
  std::ofstream(folder.path / "labels", std::ios::binary) << labels;
  const std::string source = "vmf features " + in(folder, "images");
  CHECK(run(folder, source + " --out " + in(folder, "x.npy")).code == 0);
  CHECK(
      run(folder, source + " --dim 128 --first 10 --count 5 --seed 3 --out " + in(folder, "f.npy"))
          .code == 0);
  const auto x = halfulp::read_npy<float>(folder.path / "x.npy");
  const auto f = halfulp::read_npy<float>(folder.path / "f.npy");
  CHECK(x.shape == std::vector<std::ptrdiff_t>{n, side * side});
  CHECK(f.shape == std::vector<std::ptrdiff_t>{5, 128});
  const Run fits = run(folder, "vmf classes " + in(folder, "x.npy") + " --labels " +
                                   in(folder, "labels") + " --held-out " + in(folder, "x.npy") +
                                   " --held-out-labels " + in(folder, "labels"));
  INFO(fits.err);
  REQUIRE(fits.code == 0);
  CHECK(fits.err.find("40 of 40") != std::string::npos);
  const halfulp::Table table = halfulp::parse_csv(fits.out, "out");
  CHECK(table.column("class") == Values{0, 1});
  CHECK(table.column("n") == Values{20, 20});
  for (std::size_t k = 0; k < 2; ++k) {  // held out: the same points
    CHECK(table.column("log_likelihood_per_dimension")[k] ==
          Approx(table.column("held_out_log_likelihood_per_dimension")[k]).epsilon(1e-10));
    const Run kappa = run(folder, "vmf kappa --dim 256 --complement " +
                                      halfulp::number_text(table.column("complement")[k]));
    CHECK(number(kappa) == Approx(table.column("kappa")[k]).epsilon(1e-13));
  }
  for (const std::string& arguments :
       {source, source + " --dim 100 --out " + in(folder, "y.npy"),
        source + " --first 41 --out " + in(folder, "y.npy"),
        "vmf features " + in(folder, "labels") + " --out " + in(folder, "y.npy"),
        "vmf features " + in(folder, "x.npy") + " --out " + in(folder, "y.npy"),
        "vmf classes " + in(folder, "f.npy") + " --labels " + in(folder, "labels")}) {
    INFO(arguments);
    CHECK(run(folder, arguments).code == 2);
  }
}

TEST_CASE("vmf mixture and kmeans find components and write a folder", "[vmf_program]") {
  const Folder folder;
  // Three groups of 200 in four dimensions, far apart.
  Values x;
  for (int k = 0; k < 3; ++k) {
    Values mu(4);
    mu[static_cast<std::size_t>(k)] = 1;
    const std::string direction = put(folder, "mu.npy", mu, {4});
    const Run drawn = run(folder, "vmf sample --kappa " + std::to_string(50 * (k + 1)) +
                                      " --count 200 --seed " + std::to_string(k) + " --mu " +
                                      direction + " --out " + in(folder, "part.npy"));
    REQUIRE(drawn.code == 0);
    const auto part = halfulp::read_npy<double>(folder.path / "part.npy");
    x.insert(x.end(), part.values.begin(), part.values.end());
  }
  const std::string points = put(folder, "x.npy", x, {600, 4});
  for (const std::string verb : {"mixture", "kmeans", "mixture --hard", "mixture --shared-kappa",
                                 "mixture --start random", "kmeans --start random"}) {
    INFO(verb);
    const std::string command = "vmf " + verb + " --components 3 --seed 5 --image 2x2 " + points;
    const Run result =
        run(folder, command + " --out " + in(folder, "out") + " --json" +
                        (verb.find("random") == std::string::npos ? " --restarts 3" : ""));
    INFO(result.err);
    REQUIRE(result.code == 0);
    const json object = json::parse(result.out);
    CHECK(object == json::parse(content(folder.path / "out/report.json")));
    CHECK(object["command"] == (verb.starts_with("kmeans") ? "vmf kmeans" : "vmf mixture"));
    CHECK(object["report"]["status"] == "converged");
    const json& found = object["result"];
    CHECK(found["weights"].size() == 3);
    CHECK(found["trace"].size() >= 2);
    CHECK(xml::parse(content(folder.path / "out/picture.svg")).all("image").size() == 3);
    const auto means = halfulp::read_npy<double>(folder.path / "out/means.npy");
    CHECK(means.shape == std::vector<std::ptrdiff_t>{3, 4});
    const auto which = halfulp::read_npy<std::int32_t>(folder.path / "out/assignment.npy");
    REQUIRE(which.shape == std::vector<std::ptrdiff_t>{600});
    if (verb.find("random") != std::string::npos) continue;  // may find another optimum
    for (std::size_t k = 0; k < 3; ++k) {
      const auto begin = which.values.begin() + static_cast<std::ptrdiff_t>(200 * k);
      const std::int32_t label = begin[0];
      CHECK(std::count(begin, begin + 200, label) >= 198);
      CHECK(means.values[static_cast<std::size_t>(4 * label) + k] > 0.99);
      CHECK(found["counts"][static_cast<std::size_t>(label)].get<double>() ==
            Approx(200).margin(2));
    }
    fs::remove_all(folder.path / "out");
  }
  // Points in single precision stay so: what is found is what their doubles give.
  const std::vector<float> single(x.begin(), x.end());
  halfulp::write_npy<float>(folder.path / "single.npy", single, {600, 4});
  fs::create_directories(folder.path / "wide");
  put(folder, "wide/single.npy", Values(single.begin(), single.end()), {600, 4});
  for (const std::string verb : {"mixture --components 3", "mixture --components 1",
                                 "kmeans --components 3 --start random", "kmeans --components 3"}) {
    INFO(verb);
    const std::string out = " --quiet --seed 5 --out ";
    const Run one =
        run(folder, "vmf " + verb + ' ' + in(folder, "single.npy") + out + in(folder, "a"));
    const Run two =
        run(folder, "vmf " + verb + ' ' + in(folder, "wide/single.npy") + out + in(folder, "b"));
    CHECK(one.code == 0);
    CHECK(two.code == 0);
    for (const char* file : {"means.npy", "assignment.npy", "picture.svg"})
      CHECK(content(folder.path / "a" / file) == content(folder.path / "b" / file));
    const json a = json::parse(content(folder.path / "a/report.json")),
               b = json::parse(content(folder.path / "b/report.json"));
    for (const char* key : {"weights", "kappa", "mean_length", "counts", "trace", "n", "p"})
      CHECK(a["result"][key] == b["result"][key]);
  }
  const std::string command = "vmf mixture --components 3 --seed 5 " + points;
  const Run text = run(folder, command + " --out " + in(folder, "one"));
  CHECK(text.code == 0);
  CHECK(text.out.find("BIC ") != std::string::npos);
  CHECK(run(folder, command + " --threads 3 --quiet --out " + in(folder, "two")).code == 0);
  for (const char* file : {"means.npy", "assignment.npy", "mixture.json", "picture.svg"})
    CHECK(content(folder.path / "one" / file) == content(folder.path / "two" / file));
  // The model gives the density of each row, whose sum is the likelihood.
  const Run density = run(folder, "vmf logpdf " + points + " --model " + in(folder, "one") +
                                      " --out " + in(folder, "l.npy"));
  CHECK(density.code == 0);
  long double sum = 0;
  for (const double v : halfulp::read_npy<double>(folder.path / "l.npy").values) sum += v;
  const json report = json::parse(content(folder.path / "one/report.json"));
  CHECK(report["result"]["log_likelihood"].get<double>() == near(sum, 1e-11));
  // BIC by its definition: 3 means in 3 dimensions, 3 concentrations, 2 weights
  CHECK(report["result"]["bic"].get<double>() == near(14 * std::log(600.0L) - 2 * sum, 1e-11));
  CHECK(run(folder,
            "vmf mixture --components 3 --start " + in(folder, "one/means.npy") + " " + points)
            .code == 0);

  // Stopped early: what there is, is written.
  const Run early = run(folder, "vmf mixture --components 3 --iterations 1 --tolerance 1e-12 " +
                                    points + " --out " + in(folder, "early"));
  CHECK(early.code == 3);
  CHECK(fs::exists(folder.path / "early/mixture.json"));
  CHECK(content(folder.path / "early/picture.svg").find("Not converged") != std::string::npos);

  Values bad = x;
  bad[4 * 17] += 1;
  const std::string wrong = put(folder, "bad.npy", bad, {600, 4});
  for (const std::string verb : {"mixture", "kmeans"}) {
    for (const auto& [arguments, piece] : std::vector<std::pair<std::string, std::string>>{
             {points, "--components"},
             {points + " --components 601", "601"},
             {points + " --components 0", "0"},
             {points + " --components -1", "-1"},
             {wrong + " --components 2", "bad.npy"},
             {wrong + " --components 2", "17"},
             {points + " --components 2 --weights " + put(folder, "w.npy", {1, 1}, {2}), "w.npy"},
             {points + " --components 2 --image 3x3", "3x3"},
             {points + " --components 2 --restarts 0", "restarts"},
             {points + " --components 2 --start nothing.npy", "nothing.npy"},
             {points + " --components 2 --start " + in(folder, "one/means.npy"), "must be 2 of 4"},
             {points + " --components 2 --start random --restarts 2", "--restarts"},
             {points + " --components 2 --tolerance -1", "-1"},
             {points + " --components 2 --out " + in(folder, "x.npy"), "x.npy"},
             {"nothing.npy --components 2", "nothing.npy"}}) {
      const Run refused = run(folder, "vmf " + verb + " " + arguments);
      INFO(verb << ' ' << arguments << '\n' << refused.err);
      CHECK(refused.code == 2);
      CHECK(refused.out.empty());
      CHECK(refused.err.find(piece) != std::string::npos);
    }
  }
}
