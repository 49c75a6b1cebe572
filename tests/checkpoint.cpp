// Long runs that are cut: by a callback, a signal or SIGKILL, anywhere and any number of times, and
// gone on with. What comes out has the bits of the uninterrupted run.
//
// HALFULP_KILLS: how many times each kind of run is killed, 9 unless set (3 under sanitisers, which
// look for other things).
#include "halfulp/checkpoint.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <vector>

#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/gp_hm.hpp"
#include "program.hpp"

namespace {

using nlohmann::json;
using namespace halfulp;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

gp_pde::Problem wave() {
  const Expression u = parse_expression("sin(7*x)", {"x"});
  gp_pde::Problem p;
  p.axes = {{"x", 0.0, 1.0}};
  p.equation = parse_expression("u_xx - f", {"u_xx", "f"});
  p.forcing = u.derivative("x").derivative("x");
  const gp_pde::Side side{.kind = gp_pde::SideKind::dirichlet, .g = u};
  p.sides = {{{side, side}}};
  return p;
}

gp_pde::HmOptions few_steps(gp_pde::HmOptimiser optimiser) {
  gp_pde::HmOptions o;
  o.components = 3;
  o.frequency_range = 3;
  o.points = {24};
  o.optimiser = optimiser;
  o.iterations = 90;
  o.final_learning_rate = 1e-4;
  o.history = 5;
  o.checkpoints = 9;
  o.threads = 1;
  return o;
}

bool same_bits(const std::vector<double>& a, const std::vector<double>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

void check_same(const gp_pde::HmSolution& a, const gp_pde::HmSolution& b) {
  CHECK(same_bits(a.parameters, b.parameters));
  CHECK(a.iteration == b.iteration);
  CHECK(a.loss == b.loss);
  CHECK(a.residual == b.residual);
  REQUIRE(a.losses.size() == b.losses.size());
  for (std::size_t i = 0; i < a.losses.size(); ++i) {
    CHECK(a.losses[i].iteration == b.losses[i].iteration);
    CHECK(a.losses[i].loss == b.losses[i].loss);
  }
}

}  // namespace

TEST_CASE("every state of an optimiser leads to the same bits", "[checkpoint][gp_hm]") {
  const auto optimiser = GENERATE(gp_pde::HmOptimiser::adam, gp_pde::HmOptimiser::lbfgs);
  const gp_pde::Problem problem = wave();
  gp_pde::HmOptions options = few_steps(optimiser);
  const gp_pde::HmSolution whole = gp_pde::solve_gp_hm(problem, options);
  std::vector<std::string> states;
  options.checkpoint = {.every = 0,
                        .store = [&](std::string_view state) { states.emplace_back(state); }};
  check_same(gp_pde::solve_gp_hm(problem, options), whole);
  REQUIRE(states.size() >= static_cast<std::size_t>(whole.iteration));
  options.checkpoint.store = {};
  for (std::size_t i = 0; i < states.size(); i += 7) {
    options.checkpoint.state = states[i];
    const gp_pde::HmSolution rest = gp_pde::solve_gp_hm(problem, options);
    CHECK(rest.resumed_at == static_cast<std::ptrdiff_t>(i));
    check_same(rest, whole);
  }
  // Cut again and again, by the callback.
  options.checkpoint.state.clear();
  std::string last;
  options.checkpoint.every = 1e9;
  options.checkpoint.store = [&](std::string_view state) { last = state; };
  for (int cut = 0; cut < 3; ++cut) {
    options.progress = [](double, const char*) { return false; };
    CHECK_THROWS_AS(gp_pde::solve_gp_hm(problem, options), Cancelled);
    options.checkpoint.state = last;
  }
  options.progress = {};
  check_same(gp_pde::solve_gp_hm(problem, options), whole);
}

TEST_CASE("a state is refused by what differs, or by its damage", "[checkpoint][gp_hm]") {
  const gp_pde::Problem problem = wave();
  gp_pde::HmOptions options = few_steps(gp_pde::HmOptimiser::adam);
  std::string state;
  options.checkpoint = {.every = 0, .store = [&](std::string_view bytes) {
                          if (state.empty()) state = bytes;
                        }};
  (void)gp_pde::solve_gp_hm(problem, options);
  options.checkpoint = {.state = state};
  const auto refusal = [&](const gp_pde::Problem& p, const gp_pde::HmOptions& o) -> std::string {
    try {
      (void)gp_pde::solve_gp_hm(p, o);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(refusal(problem, options) == "accepted");
  gp_pde::HmOptions other = options;
  other.iterations = 91;
  CHECK(refusal(problem, other).find("iterations: 90, here 91") != std::string::npos);
  other = options;
  other.threads = 2;  // changes no bit
  CHECK(refusal(problem, other) == "accepted");
  gp_pde::Problem another = problem;
  another.forcing = parse_expression("cos(3*x)", {"x"});
  CHECK(refusal(another, options).find("forcing: ") != std::string::npos);
  // One bit anywhere.
  std::mt19937_64 random(7);
  for (int i = 0; i < 200; ++i) {
    other = options;
    const std::size_t bit = random() % (8 * state.size());
    other.checkpoint.state[bit / 8] = static_cast<char>(state[bit / 8] ^ (1 << (bit % 8)));
    INFO("bit " << bit);
    CHECK(refusal(problem, other) != "accepted");
  }
  for (const std::size_t size :
       {std::size_t{1}, std::size_t{15}, state.size() / 2, state.size() - 1}) {
    other = options;
    other.checkpoint.state = state.substr(0, size);
    CHECK(refusal(problem, other) != "accepted");
  }
}

TEST_CASE("a damaged file gives way to the one before it, and is not overwritten unasked",
          "[checkpoint][gp_hm]") {
  const Folder folder;
  const fs::path path = folder.path / "run";
  const gp_pde::Problem problem = wave();
  gp_pde::HmOptions options = few_steps(gp_pde::HmOptimiser::adam);
  const gp_pde::HmSolution whole = gp_pde::solve_gp_hm(problem, options);
  options.checkpoint = {.path = path, .every = 0};
  check_same(gp_pde::solve_gp_hm(problem, options), whole);
  REQUIRE(fs::exists(path));
  REQUIRE(fs::exists(folder.path / "run.previous"));
  CHECK_THROWS_AS(gp_pde::solve_gp_hm(problem, options), IoError);  // no resume
  options.checkpoint.resume = true;
  CHECK(gp_pde::solve_gp_hm(problem, options).resumed_at == options.iterations);

  const std::string good = content(path);
  write_file_atomic(path, good.substr(0, good.size() / 2));
  const gp_pde::HmSolution again = gp_pde::solve_gp_hm(problem, options);
  CHECK(again.resumed_at >= options.iterations - 1);
  REQUIRE(again.warnings.size() == 1);
  CHECK(again.warnings[0].find("is damaged") != std::string::npos);
  check_same(again, whole);

  write_file_atomic(path, "short");
  write_file_atomic(folder.path / "run.previous", good.substr(0, 100));
  CHECK_THROWS_AS(gp_pde::solve_gp_hm(problem, options), IoError);
  fs::remove(path);
  fs::remove(folder.path / "run.previous");
  CHECK(gp_pde::solve_gp_hm(problem, options).resumed_at == -1);
  options.checkpoint.path = folder.path / "absent" / "run";
  CHECK_THROWS_AS(gp_pde::solve_gp_hm(problem, options), IoError);
}

// ---- the program --------------------------------------------------------------------------------

namespace {

constexpr const char* learning = R"toml([domain]
x = [0, 1]
[equation]
expr = "u_xx - f"
[exact]
u = "sin(9*x)"
[forcing]
f = "auto"
[bc]
"x-,x+" = { type = "dirichlet", g = "exact" }
[grid]
n = 60
[solver]
method = "gp-hm"
components = 5
frequency_range = 5
tol = 0.9
)toml";

std::string with(const char* text, const std::string& more) { return std::string(text) + more; }

/// What must not depend on where a run was cut.
json result_of(const fs::path& folder) {
  json report = json::parse(content(folder / "report.json"));
  json result = report.at("result");
  for (const char* name : {"seconds", "timings"}) result.erase(name);
  return {result, report.at("report"), report.at("options")};
}

struct Outcome {
  json result;
  std::vector<std::string> arrays;
};

Outcome outcome_of(const fs::path& folder) {
  Outcome outcome{result_of(folder), {}};
  std::vector<fs::path> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".npy") names.push_back(entry.path());
  std::sort(names.begin(), names.end());
  for (const auto& name : names) outcome.arrays.push_back(content(name));
  return outcome;
}

/// Starts the program without a shell, its messages in the file `err`.
pid_t launch(const std::vector<std::string>& arguments, const fs::path& err) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child != 0) return child;
  const int file = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  ::dup2(file, 2);
  ::dup2(::open("/dev/null", O_WRONLY), 1);
  std::vector<char*> argv;
  std::string program = HALFULP_PROGRAM;
  argv.push_back(program.data());
  std::vector<std::string> copies = arguments;
  for (std::string& a : copies) argv.push_back(a.data());
  argv.push_back(nullptr);
  ::execv(program.c_str(), argv.data());
  ::_exit(127);
}

/// @return the exit code of a launched program, -1 where a signal ended it
int end_of(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Runs the program; `kill_after` < 0: lets it end.
/// @return its exit code, or -1 where it was killed
int start(const std::vector<std::string>& arguments, double kill_after, const fs::path& err) {
  const pid_t child = launch(arguments, err);
  if (kill_after >= 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(kill_after));
    ::kill(child, SIGKILL);
  }
  return end_of(child);
}

int kills() {
  const char* text = std::getenv("HALFULP_KILLS");
  return text ? std::atoi(text) : 9;
}

/// Kills runs of one input at random times, goes on, and compares what comes out.
void kill_and_resume(const std::string& name, const std::string& text, int count, unsigned seed) {
  const Folder folder;
  const fs::path input = folder.path / (name + ".toml");
  std::ofstream(input) << text;
  const fs::path err = folder.path / "err";
  const auto begin = Clock::now();
  const int expected =
      start({"pde", "solve", input, "--threads", "1", "--out", folder.path / "whole"}, -1, err);
  INFO(content(err));
  REQUIRE((expected == 0 || expected == 3));  // so few steps need not converge
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const Outcome whole = outcome_of(folder.path / "whole");
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0, 1);
  int killed = 0, runs = 0, went_on = 0, leftovers = 0;
  // On, where by chance or load none of so few came late enough to leave a state.
  for (int trial = 0; killed < count || (went_on == 0 && trial < count + 12); ++trial) {
    const fs::path out = folder.path / "cut", states = folder.path / "states";
    fs::remove_all(out);
    fs::remove_all(states);
    int code = -1;
    for (int left = 1 + trial % 4; code < 0; --left) {
      // From 1 ms on: as many early as late, or anywhere.
      const double t = uniform(random);
      const double after = left <= 0 || (killed >= count && went_on > 0) ? -1
                           : trial % 2 == 0 ? 0.001 * std::pow(1000 * 1.2 * seconds, t)
                                            : 0.001 + 1.1 * seconds * t;
      if (fs::exists(states / (name + ".state"))) ++went_on;
      code = start({"pde", "solve", input, "--threads", "1", "--out", out, "--checkpoint", states,
                    "--checkpoint-every", trial % 2 ? "0.002" : "0.02", "--resume"},
                   after, err);
      if (code == -1) ++killed;
      INFO(content(err));
      REQUIRE((code == expected || code == -1));
      REQUIRE((after >= 0 || code == expected));
    }
    ++runs;
    const Outcome cut = outcome_of(out);
    INFO("trial " << trial << " of seed " << seed);
    REQUIRE(cut.result == whole.result);
    REQUIRE(cut.arrays == whole.arrays);
    REQUIRE(!fs::exists(states / (name + ".state")));
    leftovers = 0;  // of the killed: only where they had no time to note them
    for (const auto& entry : fs::directory_iterator(folder.path))
      if (entry.path().filename().string().starts_with(".halfulp-")) ++leftovers;
  }
  std::cout << name << ": " << killed << " kills, " << went_on << " starts from a state, " << runs
            << " runs, all with the same bits (" << seconds << " s uninterrupted)\n";
  CHECK(went_on > 0);
  CHECK(leftovers <= 2 + killed / 10);
}

}  // namespace

TEST_CASE("killed at any time, Adam goes on to the same bits", "[checkpoint][kill]") {
  kill_and_resume("adam", with(learning, "iterations = 4000\nfinal_learning_rate = 1e-4\n"),
                  kills(), 11);
}

TEST_CASE("killed at any time, L-BFGS goes on to the same bits", "[checkpoint][kill]") {
  kill_and_resume("lbfgs", with(learning, "iterations = 900\noptimiser = \"lbfgs\"\n"), kills(),
                  12);
}

TEST_CASE("killed at any time, a solve in slabs goes on to the same bits", "[checkpoint][kill]") {
  kill_and_resume("slabs", R"toml([domain]
x = [0, 1]
t = [0, 6]
[equation]
expr = "u_t + u*u_x - u_xx/10 - f"
[exact]
u = "1 + sin(2*x - t)/2"
[forcing]
f = "auto"
[bc]
"x-,x+,t-" = { type = "dirichlet", g = "exact" }
[output]
points = [30, 200]
[solver]
slabs = 6
)toml",
                  kills(), 13);
}

TEST_CASE("an interrupted run writes its state and says so", "[checkpoint]") {
  const Folder folder;
  std::ofstream(folder.path / "long.toml") << with(learning, "iterations = 1000000\n");
  const std::string command = "pde solve '" + (folder.path / "long.toml").string() + "' --out '" +
                              (folder.path / "out").string() + "' --checkpoint '" +
                              (folder.path / "states").string() + "'";
  const fs::path state = folder.path / "states/long.state", err = folder.path / "err";
  for (const int signal : {SIGINT, SIGTERM}) {
    fs::remove_all(folder.path / "states");
    const pid_t child =
        launch({"pde", "solve", folder.path / "long.toml", "--out", folder.path / "out",
                "--checkpoint", folder.path / "states", "--checkpoint-every", "0.2"},
               err);
    // A state means that the iterations have begun, however slowly; the next one is the signal's.
    const auto begin = Clock::now();
    while (!fs::exists(state) && Clock::now() - begin < std::chrono::minutes(2))
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    fs::remove(state);
    ::kill(child, signal);
    CHECK(end_of(child) == 1);
    INFO(content(err));
    CHECK(content(err).find("--resume goes on") != std::string::npos);
    CHECK(fs::exists(state));
    CHECK(!fs::exists(folder.path / "out"));
  }
  const Run again = run(folder, command);
  CHECK(again.code == 2);
  CHECK(again.err.find("pass --resume") != std::string::npos);
  std::ofstream(folder.path / "long.toml") << with(learning, "iterations = 1000001\n");
  const Run other = run(folder, command + " --resume");
  CHECK(other.code == 2);
  CHECK(other.err.find("iterations: 1000000, here 1000001") != std::string::npos);
  CHECK(run(folder, "pde solve x.toml --resume").code == 2);  // of what?
}

TEST_CASE("finished problems of an interrupted call are kept", "[checkpoint]") {
  const Folder folder;
  const auto file = [&](const char* name, const std::string& text) {
    std::ofstream(folder.path / name) << text;
    return "'" + (folder.path / name).string() + "' ";
  };
  const std::string first = file("first.toml", with(learning, "iterations = 50\n"));
  const std::string second = file("second.toml", with(learning, "iterations = 60\n"));
  const std::string command = "pde solve " + first + second + "--out '" +
                              (folder.path / "out").string() + "' --checkpoint '" +
                              (folder.path / "states").string() + "' --resume";
  const Run all = run(folder, command);
  INFO(all.err);
  REQUIRE((all.code == 0 || all.code == 3));  // so few steps need not converge
  const auto time_of = [&](const char* name) {
    return fs::last_write_time(folder.path / "out" / name / "u.npy");
  };
  const auto first_time = time_of("first"), second_time = time_of("second");
  const Run kept = run(folder, command);
  CHECK(kept.out == all.out);
  CHECK(time_of("first") == first_time);
  CHECK(run(folder, command + " --json").code == all.code);
  // Another input, or a changed result, is solved again; the other one is kept.
  file("second.toml", with(learning, "iterations = 61\n"));
  CHECK(run(folder, command).code == all.code);
  CHECK(time_of("first") == first_time);
  CHECK(time_of("second") > second_time);
  const auto solved = time_of("second");
  std::ofstream(folder.path / "out/first/u.npy") << "not mine";
  CHECK(run(folder, command).code == all.code);
  CHECK(content(folder.path / "out/first/u.npy") != "not mine");
  CHECK(time_of("second") == solved);
}
