// halfulp's side of bench/mfac_table.py: requests from standard input, one JSON object a line, as
// bench/peers/mfac.py answers them.
//
//     bench_mfac G.npy X.npy DAMPING [--threads N]
//
// Contenders: "halfulp" with sums in double, "halfulp float" with sums in single precision. G is
// (m, d) and X (k, d), both float32; products are float32. Times are of the call alone.
#include "halfulp/mfac.hpp"

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "halfulp/info.hpp"
#include "halfulp/npy.hpp"

namespace {

namespace mfac = halfulp::mfac;
using nlohmann::json;
using Size = std::ptrdiff_t;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 && !(argc == 6 && std::string(argv[4]) == "--threads")) {
    std::cerr << "bench_mfac G.npy X.npy DAMPING [--threads N]\n";
    return 2;
  }
  const auto file = halfulp::read_npy<float>(argv[1], {.memory_limit = std::size_t{1} << 40});
  const auto x = halfulp::read_npy<float>(argv[2], {.memory_limit = std::size_t{1} << 40});
  const Size d = file.shape.at(1);
  const mfac::Gradients gradients(file.values, d);
  mfac::Options options{.damping = std::atof(argv[3])};
  options.threads = argc == 6 ? std::atoi(argv[5]) : 0;
  std::unique_ptr<mfac::Estimator> estimator;
  std::string name;
  for (std::string line; std::getline(std::cin, line);) {
    const json request = json::parse(line);
    if (request["do"] == "names") {
      std::cout << json{{"names", {"halfulp", "halfulp float"}},
                        {"about",
                         {{"compiler", halfulp::info().compiler},
                          {"instruction_sets", halfulp::info().instruction_sets.at(0)}}}}
                       .dump()
                << std::endl;
      continue;
    }
    if (request["contender"] != name) {
      name = request["contender"];
      options.gram = options.products =
          name == "halfulp" ? mfac::Accumulation::float64 : mfac::Accumulation::float32;
      estimator.reset();
    }
    json answer;
    std::vector<float> y;
    std::vector<double> diagonal;
    const double start = seconds();
    double end = start;
    if (request["do"] == "prepare") {
      estimator = std::make_unique<mfac::Estimator>(gradients, options);
      end = seconds();
    } else if (request["do"] == "diagonal") {
      diagonal.resize(static_cast<std::size_t>(d));
      const double begin = seconds();
      answer["error"] = estimator->inverse_diagonal(diagonal).error;
      answer["seconds"] = seconds() - begin;
    } else {
      const auto& from = request["of"] == "x" ? x.values : file.values;
      std::vector<float> rows;
      for (const Size row : request["rows"].get<std::vector<Size>>())
        rows.insert(rows.end(), from.begin() + row * d, from.begin() + (row + 1) * d);
      y.resize(rows.size());
      const double begin = seconds();
      answer["error"] = estimator->inverse_product(rows, y).error;
      answer["seconds"] = seconds() - begin;
    }
    if (!answer.contains("seconds")) answer["seconds"] = end - start;
    if (request.contains("out")) {
      const std::string out = request["out"];
      if (!diagonal.empty()) halfulp::write_npy<double>(out, diagonal, {d});
      if (!y.empty()) halfulp::write_npy<float>(out, y, {std::ssize(y) / d, d});
    }
    std::cout << answer.dump() << std::endl;
  }
}
