// `halfulp mfac` as a user runs it: orthogonal gradients, where all is elementary, and bad input.
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "halfulp/csv.hpp"
#include "halfulp/npy.hpp"
#include "program.hpp"

namespace {

using nlohmann::json;
using Values = std::vector<double>;

std::string in(const Folder& folder, const std::string& name) {
  return "'" + (folder.path / name).string() + "'";
}

template <class T = double>
std::string put(const Folder& folder, const std::string& name, const std::vector<T>& values,
                const std::vector<std::ptrdiff_t>& shape) {
  halfulp::write_npy<T>(folder.path / name, values, shape);
  return in(folder, name);
}

/// Two gradients along axes 0 and 2 of four: H = diag(lambda + 9/2, lambda, lambda + 8, lambda).
const Values gradients{3, 0, 0, 0, 0, 0, -4, 0};
constexpr double damping = 0.25;
const Values diagonal{0.25 + 4.5, 0.25, 0.25 + 8, 0.25};

void refused(const Folder& folder, const std::string& arguments, const std::string& why) {
  const Run result = run(folder, arguments);
  INFO(arguments << ": " << result.err);
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.find(why) != std::string::npos);
}

}  // namespace

TEST_CASE("mfac ihvp: shapes, storages, roots", "[mfac_program]") {
  const Folder folder;
  const std::string g = put(folder, "G.npy", gradients, {2, 4});
  const std::string single =
      put<float>(folder, "G32.npy", {gradients.begin(), gradients.end()}, {2, 4});
  const Values x{1, 2, 3, 4, -4, 0.5, 0, 8};
  const std::string two = put(folder, "X.npy", x, {2, 4}), out = in(folder, "Y.npy");
  for (const std::string& from : {g, single, g + " --storage bf16", single + " --storage fp16",
                                  g + " --storage fp32 --sums fp32", g + " --block 3"}) {
    const Run result =
        run(folder, "mfac ihvp " + from + ' ' + two + " --damping 0.25 --json --out " + out);
    INFO(from << ": " << result.err);
    REQUIRE(result.code == 0);
    CHECK(result.err.empty());
    const json object = json::parse(result.out);
    CHECK(object["command"] == "mfac ihvp");
    CHECK(object["report"]["status"] == "good");
    CHECK(object["report"]["condition"].get<double>() == Approx(8.25 / damping).epsilon(0.01));
    // sums in float have its rounding
    const double tolerance = from.find("--sums") == std::string::npos ? 1e-13 : 1e-5;
    CHECK(object["report"]["error"].get<double>() < tolerance);
    const auto y = halfulp::read_npy<double>(folder.path / "Y.npy");
    CHECK(y.shape == std::vector<std::ptrdiff_t>{2, 4});
    for (std::size_t i = 0; i < 8; ++i)
      CHECK(y.values[i] == Approx(x[i] / diagonal[i % 4]).epsilon(tolerance).margin(1e-15));
  }
  const std::string one = put(folder, "x.npy", Values{1, 2, 3, 4}, {4});
  REQUIRE(run(folder, "mfac ihvp " + g + ' ' + one + " --root --damping 0.25 --out " + out).code ==
          0);
  const auto root = halfulp::read_npy<double>(folder.path / "Y.npy");
  CHECK(root.shape == std::vector<std::ptrdiff_t>{4});
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(root.values[i] == Approx(x[i] / std::sqrt(diagonal[i])).epsilon(1e-13));
  // to standard output, one number a line; and as JSON without a file
  const Run text = run(folder, "mfac ihvp " + g + ' ' + one + " --damping 0.25");
  CHECK(halfulp::parse_csv(text.out, "text").column("y").size() == 4);
  const json object =
      json::parse(run(folder, "mfac ihvp --json " + g + ' ' + two + " --damping 0.25").out);
  CHECK(object["result"]["y"].size() == 8);
  std::ofstream(folder.path / "g.csv") << "3,0,0,0\n0,0,-4,0\n";
  const Run table = run(folder, "mfac ihvp " + in(folder, "g.csv") + ' ' + one + " --damping 0.25");
  CHECK(table.out == text.out);
}

TEST_CASE("mfac diag, element, influence, summary", "[mfac_program]") {
  const Folder folder;
  const std::string g = put(folder, "G.npy", gradients, {2, 4}), lambda = " --damping 0.25";
  const auto out = folder.path / "out.npy";
  REQUIRE(run(folder, "mfac diag " + g + lambda + " --out '" + out.string() + "'").code == 0);
  const auto found = halfulp::read_npy<double>(out);
  REQUIRE(found.values.size() == 4);
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(found.values[i] == Approx(1 / diagonal[i]).epsilon(1e-13));

  CHECK(std::stod(run(folder, "mfac element " + g + " 2 2" + lambda).out) ==
        Approx(1 / diagonal[2]).epsilon(1e-13));
  std::ofstream(folder.path / "p.csv") << "i,j\n0,0\n0,2\n3,3\n";
  const Run table = run(folder, "mfac element " + g + lambda + " --points " + in(folder, "p.csv"));
  const auto value = halfulp::parse_csv(table.out, "table").column("value");
  REQUIRE(value.size() == 3);
  CHECK(value[0] == Approx(1 / diagonal[0]).epsilon(1e-13));
  CHECK(std::fabs(value[1]) < 1e-15);
  CHECK(value[2] == Approx(4).epsilon(1e-15));

  const Run own = run(folder, "mfac influence " + g + lambda);
  const auto self = halfulp::parse_csv(own.out, "own").column("influence");
  REQUIRE(self.size() == 2);
  CHECK(self[0] == Approx(9 / diagonal[0]).epsilon(1e-13));
  CHECK(self[1] == Approx(16 / diagonal[2]).epsilon(1e-13));
  const std::string x = put(folder, "X.npy", Values{1, 2, 3, 4}, {1, 4});
  REQUIRE(run(folder, "mfac influence " + g + ' ' + x + lambda + " --out '" + out.string() + "'")
              .code == 0);
  const auto of = halfulp::read_npy<double>(out);
  CHECK(of.shape == std::vector<std::ptrdiff_t>{1, 2});
  CHECK(of.values[0] == Approx(3 / diagonal[0]).epsilon(1e-13));
  CHECK(of.values[1] == Approx(-12 / diagonal[2]).epsilon(1e-13));

  const json summary = json::parse(run(folder, "mfac summary --json " + g + lambda).out);
  CHECK(summary["result"]["log_determinant"].get<double>() ==
        Approx(std::log(4.75 * 0.25 * 8.25 * 0.25)).epsilon(1e-13));
  CHECK(summary["result"]["inverse_trace"].get<double>() ==
        Approx(1 / 4.75 + 8 + 1 / 8.25).epsilon(1e-13));
}

TEST_CASE("mfac window: a stream of gradients, saved and gone on with", "[mfac_program]") {
  const Folder folder;
  const std::string g = put(folder, "G.npy", Values{3, 0, 0, 0, 0, 0, -4, 0, 0, 2, 0, 0}, {3, 4});
  const auto out = folder.path / "Y.npy";
  const std::string to = " --damping 0.25 --out '" + out.string() + "'";
  const auto rows = [&](const std::string& arguments) {
    const Run result = run(folder, "mfac window " + arguments + to);
    INFO(arguments << ": " << result.err);
    REQUIRE(result.code == 0);
    return halfulp::read_npy<double>(out);
  };
  for (const std::string normalisation : {"count", "window"}) {
    const auto y = rows(g + " --size 2 --normalisation " + normalisation);
    REQUIRE(y.shape == std::vector<std::ptrdiff_t>{3, 4});
    CHECK(y.values[0] ==
          Approx(3 / (0.25 + 9 / (normalisation == "count" ? 1.0 : 2.0))).epsilon(1e-13));
    CHECK(y.values[6] == Approx(-4 / 8.25).epsilon(1e-13));
    CHECK(y.values[9] == Approx(2 / 2.25).epsilon(1e-13));
  }
  const std::string x = put(folder, "x.npy", Values{1, 1, 1, 1}, {4});
  const auto of_x = rows(g + " --size 2 --x " + x);
  const Values last{4, 1 / 2.25, 1 / 8.25, 4};
  for (std::size_t i = 0; i < 4; ++i) CHECK(of_x.values[8 + i] == Approx(last[i]).epsilon(1e-13));
  // in two parts, the same bits
  const std::string first = put(folder, "first.npy", Values{3, 0, 0, 0, 0, 0, -4, 0}, {2, 4});
  const std::string second = put(folder, "second.npy", Values{0, 2, 0, 0}, {1, 4});
  const std::string saved = in(folder, "window.bin");
  static_cast<void>(rows(first + " --size 2 --x " + x + " --save " + saved));
  const auto later = rows(second + " --x " + x + " --load " + saved);
  for (std::size_t i = 0; i < 4; ++i) CHECK(later.values[i] == of_x.values[8 + i]);
  refused(folder, "mfac window " + g + to, "--size");
  refused(folder, "mfac window " + g + " --size 2 --load " + x + to, "x.npy");
  // what the file has cannot be asked for otherwise
  const std::string on = "mfac window " + second + " --load " + saved + to;
  refused(folder, on + " --size 3", "--size = 3, must be 2");
  refused(folder, on + " --storage fp32", "--storage = fp32, must be fp64");
  refused(folder, on + " --normalisation window", "--normalisation = window, must be count");
  CHECK(run(folder, on + " --size 2 --storage fp64 --normalisation count").code == 0);
  refused(folder, "mfac window " + put(folder, "none.npy", Values{}, {0, 4}) + " --size 2" + to,
          "none.npy: no rows");
  refused(folder, "mfac window " + g + " --size 0" + to, "not in range 1 to 1048576");
  const std::string bad = put(folder, "bad.npy", Values{1, 2, 3, 4, 5, HUGE_VAL}, {3, 2});
  refused(folder, "mfac window " + bad + " --size 2" + to, "row 2");
}

TEST_CASE("mfac prune: the weights that stay make up for it", "[mfac_program]") {
  const Folder folder;
  // one gradient: H = lambda I + g g^T
  const std::string g = put(folder, "G.npy", Values{1, 1, 1, 1}, {1, 4});
  const std::string w = put(folder, "W.npy", Values{1, 0.5, 2, -3}, {4});
  const auto out = folder.path / "w.npy";
  const std::string to = " --damping 0.25 --out '" + out.string() + "'";
  const auto weights = [&](const std::string& arguments) {
    const Run result = run(folder, "mfac prune " + g + ' ' + w + ' ' + arguments + to);
    INFO(arguments << ": " << result.err);
    REQUIRE(result.code == 0);
    return halfulp::read_npy<double>(out).values;
  };
  // the smallest weight is pruned, -0.5; delta_F = t (1, 1, 1) with (lambda + 3) t = 0.5
  const Values joint = weights("--sparsity 0.25");
  CHECK(joint[1] == 0);
  for (const std::size_t j : {0, 2, 3})
    CHECK(joint[j] - Values{1, 0.5, 2, -3}[j] == Approx(0.5 / 3.25).epsilon(1e-12));
  CHECK(weights("--sparsity 0.25 --update none") == Values{1, 0, 2, -3});
  CHECK(weights("--pattern 1:2 --update none --saliency magnitude") == Values{1, 0, 0, -3});
  CHECK(weights("--sparsity 1 --layers 1x2,2 --update none") == Values{0, 0, 2, -3});
  const auto kept = halfulp::read_npy<std::int32_t>(folder.path / "w.mask.npy").values;
  CHECK(kept == std::vector<std::int32_t>{0, 0, 1, 1});
  const std::string mask = put(folder, "mask.npy", Values{1, 1, 1, 0}, {4});
  CHECK(weights("--sparsity 0.5 --update none --mask " + mask) == Values{1, 0, 2, 0});
  const std::string both = "mfac prune " + g + ' ' + w;
  refused(folder, both + to, "--sparsity or --pattern");
  refused(folder, both + " --sparsity 2" + to, "sparsity");
  refused(folder, both + " --pattern 3" + to, "--pattern");
  refused(folder, both + " --pattern 1:2 --sparsity 0.5" + to, "--sparsity and --pattern");
  refused(folder, both + " --sparsity 0.5 --layers 2x" + to, "--layers");
  refused(folder, both + " --sparsity 0.5 --mask " + w + to, "must be 0 or 1");
}

TEST_CASE("mfac optimize: three optimisers learn what can be learnt", "[mfac_program]") {
  const Folder folder;
  // class 1 where the first number is larger than the second
  Values points, labels;
  for (int i = 0; i < 400; ++i) {
    const double a = std::fmod(0.61803398875 * i, 1), b = std::fmod(0.41421356237 * i, 1);
    points.insert(points.end(), {a, b});
    labels.push_back(a > b ? 1 : 0);
  }
  const std::string x = put(folder, "X.npy", points, {400, 2});
  const std::string l = put(folder, "L.npy", labels, {400}), out = in(folder, "out");
  const std::string both =
      x + ' ' + l + " --epochs 30 --batch 20 --hidden 8 --test-x " + x + " --test-labels " + l;
  for (const std::string method :
       {"mfac --rate 0.03 --size 16", "sgd --rate 0.1", "adam --rate 0.02"}) {
    const Run result =
        run(folder, "mfac optimize " + both + " --method " + method + " --json --out " + out);
    INFO(method << ": " << result.err);
    REQUIRE(result.code == 0);
    const json object = json::parse(result.out);
    CHECK(object["result"]["accuracy"].size() == 30);
    CHECK(object["result"]["test_accuracy"].back().get<double>() > 0.9);
    CHECK(object["result"]["loss"].back() < object["result"]["loss"].front());
    const auto weights = halfulp::read_npy<float>(folder.path / "out" / "weights.npy").values;
    CHECK(weights.size() == 2 * 8 + 8 + 8 * 2 + 2);
    CHECK(content(folder.path / "out" / "picture.svg").find("</svg>") != std::string::npos);
    const Run again = run(folder, "mfac optimize --threads 1 " + both + " --method " + method +
                                      " --out " + in(folder, "again"));
    REQUIRE(again.code == 0);
    CHECK(halfulp::read_npy<float>(folder.path / "again" / "weights.npy").values == weights);
  }
  refused(folder, "mfac optimize " + x + ' ' + x, "must be (n,)");
  refused(folder, "mfac optimize " + x + ' ' + put(folder, "half.npy", Values(400, 0.5), {400}),
          "whole number");
  refused(folder, "mfac optimize " + both + " --hidden 3,x", "--hidden");
  refused(folder, "mfac optimize " + both + " --damping 0", "damping");
  refused(folder, "mfac optimize " + x + ' ' + l + " --batch 1000", "--batch");
}

TEST_CASE("mfac: a warning is no failure", "[mfac_program]") {
  const Folder folder;
  Values rows(3 * 5, 1e8);
  rows[4] = 1;
  const std::string g = put(folder, "G.npy", rows, {3, 5});
  const std::string x = put(folder, "X.npy", Values{1, -2, 3, -4, 5}, {5});
  const Run result = run(folder, "mfac ihvp " + g + ' ' + x + " --damping 1e-9");
  CHECK(result.code == 0);
  CHECK(result.err.find("cond(H)") != std::string::npos);
  const halfulp::Table table = halfulp::parse_csv(result.out, "y");
  for (const double y : table.column("y")) CHECK(std::isfinite(y));
  CHECK(run(folder, "mfac ihvp --quiet " + g + ' ' + x + " --damping 1e-9").err.empty());
}

TEST_CASE("mfac: bad input is refused by name", "[mfac_program]") {
  const Folder folder;
  const std::string g = put(folder, "G.npy", gradients, {2, 4});
  const std::string x = put(folder, "X.npy", Values{1, 2, 3, 4}, {4});
  const std::string both = g + ' ' + x;
  refused(folder, "mfac ihvp " + both, "--damping");
  for (const char* lambda : {"0", "-1", "nan", "inf"})
    refused(folder, "mfac ihvp " + both + " --damping " + lambda,
            "error: halfulp::mfac::inverse_product: damping");
  refused(folder, "mfac ihvp " + both + " --damping 1 --storage fp8", "--storage");
  refused(folder, "mfac ihvp " + both + " --damping 1 --block -2", "--block");
  refused(folder,
          "mfac ihvp " + g + ' ' + put(folder, "x3.npy", Values{1, 2, 3}, {3}) + " --damping 1",
          "x3.npy");
  Values bad = gradients;
  bad[5] = std::nan("");
  refused(folder, "mfac ihvp " + put(folder, "bad.npy", bad, {2, 4}) + ' ' + x + " --damping 1",
          "1");
  refused(folder, "mfac diag " + in(folder, "bad.npy") + " --damping 1", "bad.npy");
  refused(folder,
          "mfac ihvp " + g + ' ' + put(folder, "xnan.npy", Values{1, 2, std::nan(""), 4}, {4}) +
              " --damping 1",
          "xnan.npy");
  refused(folder, "mfac diag " + put(folder, "none.npy", Values{}, {0, 4}) + " --damping 1",
          "none.npy");
  refused(folder, "mfac diag " + put(folder, "flat.npy", gradients, {8}) + " --damping 1",
          "flat.npy");
  std::filesystem::resize_file(folder.path / "G.npy",
                               std::filesystem::file_size(folder.path / "G.npy") - 8);
  refused(folder, "mfac ihvp " + both + " --damping 1", "G.npy");
  refused(folder, "mfac diag " + in(folder, "missing.npy") + " --damping 1", "missing.npy");
  const std::string good = put(folder, "G2.npy", gradients, {2, 4});
  refused(folder, "mfac element " + good + " 0 4 --damping 1", "j = 4");
  refused(folder, "mfac element " + good + " --damping 1", "--points");
  CHECK(run(folder, "mfac diag " + good + " --damping 1 --device cuda").code == 4);
}
