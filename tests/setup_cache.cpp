// The set-up kept on disk: the same bits with and without, whatever happens to the files.
#include "detail/setup_cache.hpp"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "halfulp/file.hpp"
#include "halfulp/gp_pde.hpp"

namespace {

using namespace halfulp;
namespace fs = std::filesystem;
using gp_pde::SideKind;

struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "halfulp_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  [[nodiscard]] std::vector<fs::path> entries() const {
    std::vector<fs::path> names;
    for (const auto& entry : fs::directory_iterator(path)) names.push_back(entry.path());
    return names;
  }
};

gp_pde::Problem problem(int dimension) {
  const std::vector<std::string> axes{"x", "y", "z"};
  gp_pde::Problem p;
  Expression u = 1.0;
  std::string equation = "-f";
  std::vector<std::string> names{"u", "f", "u_xx", "u_yy", "u_zz"};
  const gp_pde::Side wall{.kind = SideKind::dirichlet, .g = 0.0};
  for (int k = 0; k < dimension; ++k) {
    p.axes.push_back({axes[k], 0.0, 1.0 + 0.25 * k});
    equation += " + u_" + axes[k] + axes[k];
    p.sides.push_back({wall, wall});
    u = u * parse_expression("sin(25*" + axes[k] + ")", {axes[k]});
  }
  p.equation = parse_expression(equation, names);
  p.forcing = u;
  return p;
}

std::vector<double> values(const gp_pde::Solution& u, int dimension) {
  const std::vector<std::vector<double>> grid(dimension, {0.0, 0.11, 0.5, 0.77, 1.0});
  return u.on_grid(grid, std::vector<int>(dimension, 0));
}

}  // namespace

TEST_CASE("the same bits with and without a cache", "[cache]") {
  const int dimension = GENERATE(1, 2, 3);
  const bool in_double = dimension == 2 && GENERATE(false, true);
  const gp_pde::Problem p = problem(dimension);
  gp_pde::Options options;
  if (dimension == 1) options.bands = {{{0, 400}}};  // long enough to make to be kept
  if (in_double) options.precision = gp_pde::Precision::double_;
  const gp_pde::Solution plain = gp_pde::solve(p, options);
  const auto expected = values(plain, dimension);
  CHECK(plain.cache_hits + plain.cache_misses == 0);
  const Folder folder;
  options.cache = folder.path / "deep" / "er";
  const auto same = [&](const gp_pde::Solution& u) {
    CHECK(values(u, dimension) == expected);
    CHECK(u.error_estimate == plain.error_estimate);
    CHECK(u.residual == plain.residual);
    CHECK(u.condition == plain.condition);
    CHECK(u.warnings == plain.warnings);
  };
  const gp_pde::Solution first = gp_pde::solve(p, options);
  same(first);
  CHECK(first.cache_misses > 0);
  const gp_pde::Solution second = gp_pde::solve(p, options);
  same(second);
  if (dimension == 1) CHECK(second.cache_hits > 0);
  CHECK(second.cache_hits + second.cache_misses == first.cache_hits + first.cache_misses);
  options.threads = 1;
  same(gp_pde::solve(p, options));
}

TEST_CASE("damaged, foreign and missing entries are made anew", "[cache]") {
  const gp_pde::Problem p = problem(1);
  gp_pde::Options options;
  options.bands = {{{0, 400}}};
  const auto expected = values(gp_pde::solve(p, options), 1);
  const Folder folder;
  options.cache = folder.path;
  (void)gp_pde::solve(p, options);
  REQUIRE(!folder.entries().empty());
  std::mt19937_64 random(3);
  for (int round = 0; round < 12; ++round) {
    for (const fs::path& name : folder.entries()) {
      std::string bytes = read_file(name, 1 << 30) + ' ';
      switch (round % 4) {
        case 0:
          bytes[random() % bytes.size()] ^= static_cast<char>(1 << (random() % 8));
          break;
        case 1:
          bytes.resize(random() % bytes.size());
          break;
        case 2:
          bytes = read_file(folder.entries()[0], 1 << 30);
          break;  // of another key
        default:
          bytes.clear();
      }
      std::ofstream(name, std::ios::binary) << bytes;
    }
    CHECK(values(gp_pde::solve(p, options), 1) == expected);
  }
  const gp_pde::Solution again = gp_pde::solve(p, options);
  CHECK(again.cache_hits > 0);
  // Other inputs are not served by these entries.
  gp_pde::Problem other = p;
  other.axes[0].upper = dd(1.0, 1e-20);
  CHECK(gp_pde::solve(other, options).cache_hits == 0);
}

TEST_CASE("a cache stays within its limit, and drops what was not used for longest", "[cache]") {
  const Folder folder;
  const std::string content(1000, 'x');
  detail::SetupCache cache(folder.path, 20000);
  for (int i = 0; i < 100; ++i) {
    cache.keep("test", "key " + std::to_string(i), content + std::to_string(i));
    CHECK(cache.find("test", "key 0"));  // always used
    std::uintmax_t size = 0;
    for (const fs::path& name : folder.entries()) size += fs::file_size(name);
    CHECK(size <= 22000);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(cache.find("test", "key 99") == content + "99");
  CHECK(!cache.find("test", "key 50"));
  CHECK(!cache.find("tesu", "key 99"));
  cache.keep("test", "large", std::string(30000, 'y'));
  CHECK(!cache.find("test", "large"));
  CHECK(cache.problem().empty());
}

TEST_CASE("threads share a cache", "[cache]") {
  const Folder folder;
  detail::SetupCache cache(folder.path, 1 << 20);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int i = 0; i < 300; ++i) {
        const auto k = static_cast<int>(random() % 20);
        const std::string key = "key " + std::to_string(k),
                          value(20000, static_cast<char>('a' + k));
        const auto found = cache.find("test", key);
        if (found && *found != value) ++wrong;
        if (!found) cache.keep("test", key, value);
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(cache.hits() > 0);
}

TEST_CASE("one changed bit changes a digest", "[cache]") {
  std::mt19937_64 random(5);
  for (const std::size_t size : {1, 7, 8, 31, 32, 33, 64, 1000}) {
    std::string bytes(size, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    const detail::Digest whole = detail::digest(bytes);
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      std::string other = bytes;
      other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << (bit % 8)));
      CHECK_FALSE(detail::digest(other) == whole);
    }
    CHECK_FALSE(detail::digest(bytes + '\0') == whole);  // zeros at the end count
    CHECK(detail::digest(bytes).hex().size() == 64);
  }
}
