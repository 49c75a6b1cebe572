// bench_gp_hm [options] PROBLEM KERNEL: the method of Fang et al. (2024) on a problem of its paper,
// with the settings of its released runs. One JSON object: relative L2 errors of the last iterate
// and of the checkpoints on 300 uniform points an axis (as released), residual, loss, seconds, what
// was learnt.
#include "halfulp/gp_hm.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

namespace {

namespace pde = halfulp::gp_pde;
using halfulp::Expression;
using Json = nlohmann::ordered_json;

/// A problem of the paper with the settings of its released run.
struct Case {
  std::string name, equation, exact, upper;
  bool plane = false;
  std::ptrdiff_t points = 400;
  double frequency_range = 20;
  double boundary_weight = 200;
};

const std::vector<Case>& cases() {
  const std::string allen_cahn = "u_xx + u*(u^2 - 1) - f";
  const std::string a = "(sin(x) + 0.1*sin(20*x) + cos(100*x))";
  const std::string b = "(sin(y) + 0.1*sin(20*y) + cos(100*y))";
  static const std::vector<Case> list = {
      {"u1", "u_xx - f", "sin(100*x)", "2*pi"},
      {"u2", "u_xx - f", "sin(x) + 0.1*sin(20*x) + 0.05*cos(100*x)", "2*pi", false, 900},
      {"u2-unit", "u_xx - f", "sin(x) + 0.1*sin(20*x) + 0.05*cos(100*x)", "1", false, 900},
      {"u3", "u_xx - f", "sin(6*x)*cos(100*x)", "2*pi"},
      {"u4", "u_xx - f", "x*sin(200*x)", "2*pi", false, 900, 50},
      {"u5", "u_xx - f", "sin(500*x) - 2*(x - 0.5)^2", "1", false, 900, 100},
      {"u6", "u_xx + u_yy - f", "sin(100*x)*sin(100*y)", "2*pi", true, 400},
      // Not of the paper: u6 with a quarter of its frequency, points and range, minutes not hours.
      {"u6-quarter", "u_xx + u_yy - f", "sin(25*x)*sin(25*y)", "2*pi", true, 100, 5},
      {"u7", "u_xx + u_yy - f", "sin(6*x)*cos(20*x) + sin(6*y)*cos(20*y)", "2*pi", true, 200},
      {"allen-cahn", allen_cahn, "sin(100*x)", "2*pi"},
      {"allen-cahn-product", allen_cahn, "sin(6*x)*cos(100*x)", "2*pi"},
      {"allen-cahn-2d", "u_xx + u_yy + u*(u^2 - 1) - f", a + "*" + b, "1", true, 200, 30},
      {"advection", "200*u_x + u_y - f", "sin(x - 200*y)", "1", true, 200, 40, 500},
  };
  return list;
}

pde::Problem problem_of(const Case& c) {
  pde::Problem p;
  p.name = c.name;
  const std::vector<std::string> names =
      c.plane ? std::vector<std::string>{"x", "y"} : std::vector<std::string>{"x"};
  for (const std::string& name : names)
    p.axes.push_back({name, 0.0, halfulp::parse_expression(c.upper, {}).constant()});
  std::vector<std::string> symbols = names;
  for (const char* s : {"u", "f", "u_x", "u_y", "u_xx", "u_yy"}) symbols.emplace_back(s);
  p.equation = halfulp::parse_expression(c.equation, symbols);
  p.exact = halfulp::parse_expression(c.exact, names);
  std::map<std::string, Expression> values{{"f", Expression()}, {"u", *p.exact}};
  for (const std::string& name : names) {
    values["u_" + name] = p.exact->derivative(name);
    values["u_" + name + name] = p.exact->derivative(name).derivative(name);
  }
  p.forcing = p.equation.substitute(values);
  for (std::size_t i = 0; i < names.size(); ++i)
    p.sides.push_back(
        {{{pde::SideKind::dirichlet, 1, 0, *p.exact}, {pde::SideKind::dirichlet, 1, 0, *p.exact}}});
  return p;
}

/// Relative L2 error on 300 uniform points an axis.
class Error {
 public:
  explicit Error(const pde::Problem& p) {
    std::vector<std::string> names;
    std::vector<std::vector<halfulp::dd>> grid;
    for (const auto& axis : p.axes) {
      names.push_back(axis.name);
      auto& points = grid.emplace_back();
      for (int i = 0; i < 300; ++i)
        points.push_back(axis.lower + (axis.upper - axis.lower) * static_cast<double>(i) / 299.0);
      auto& rounded = axes_.emplace_back();
      for (const auto& x : points) rounded.push_back(x.hi);
    }
    std::vector<halfulp::dd> values(p.axes.size() == 2 ? 90000 : 300);
    halfulp::Program<halfulp::dd>(*p.exact, names).on_grid(grid, values);
    for (const auto& v : values) exact_.push_back(v.hi);
  }
  double operator()(const pde::HmSolution& s) const {
    const std::vector<double> u = s.on_grid(axes_, std::vector<int>(axes_.size(), 0));
    double error = 0, scale = 0;
    for (std::size_t i = 0; i < u.size(); ++i) {
      error += (u[i] - exact_[i]) * (u[i] - exact_[i]);
      scale += exact_[i] * exact_[i];
    }
    return std::sqrt(error / scale);
  }

 private:
  std::vector<std::vector<double>> axes_;
  std::vector<double> exact_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"the method of Fang et al. (2024) on a problem of its paper"};
  std::string problem_name, kernel = "student-t", optimiser = "adam";
  pde::HmOptions options;
  options.tolerance = 1e-2;
  std::ptrdiff_t points = 0, warm_up = 0;
  bool verbose = false;
  app.add_option("PROBLEM", problem_name)->required();
  app.add_option("KERNEL", kernel, "student-t | gaussian | matern | se");
  app.add_option("--optimiser", optimiser, "adam | lbfgs");
  app.add_option("--iterations", options.iterations)->capture_default_str();
  app.add_option("--time-limit", options.time_limit, "seconds");
  app.add_option("--points", points, "per axis; default: as released");
  app.add_option("--jitter", options.jitter)->capture_default_str();
  app.add_option("--learning-rate", options.learning_rate)->capture_default_str();
  app.add_option("--final-learning-rate", options.final_learning_rate,
                 "reached over the second half; 0: constant, as released")
      ->capture_default_str();
  app.add_option("--warm-up", warm_up, "steps of adam before")->capture_default_str();
  app.add_option("--history", options.history)->capture_default_str();
  app.add_option("--checkpoints", options.checkpoints)->capture_default_str();
  app.add_option("--threads", options.threads)->capture_default_str();
  app.add_flag("--verbose", verbose, "checkpoints on stderr as they come");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::map<std::string, pde::HmKernel> kernels = {{"student-t", pde::HmKernel::student_t},
                                                          {"gaussian", pde::HmKernel::gaussian},
                                                          {"matern", pde::HmKernel::matern},
                                                          {"se", pde::HmKernel::se}};
    const auto known = std::find_if(cases().begin(), cases().end(),
                                    [&](const Case& c) { return c.name == problem_name; });
    if (known == cases().end() || kernels.count(kernel) == 0 ||
        (optimiser != "adam" && optimiser != "lbfgs"))
      throw std::runtime_error("unknown problem, kernel or optimiser");
    const pde::Problem problem = problem_of(*known);
    options.kernel = kernels.at(kernel);
    options.optimiser = optimiser == "adam" ? pde::HmOptimiser::adam : pde::HmOptimiser::lbfgs;
    options.points.assign(problem.axes.size(), points > 0 ? points : known->points);
    options.frequency_range = known->frequency_range;
    options.boundary_weight = known->boundary_weight;
    const Error error(problem);
    Json checkpoints = Json::array();
    double best = INFINITY, observing = 0;
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [](std::chrono::steady_clock::time_point since) {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
    };
    options.observe = [&](const pde::HmSolution& s) {
      const auto begin = std::chrono::steady_clock::now();
      const double e = error(s);
      best = std::min(best, e);
      checkpoints.push_back({s.iteration, s.loss, e});
      if (verbose)
        std::cerr << problem_name << ' ' << kernel << " it " << s.iteration << " loss " << s.loss
                  << " err " << e << " res " << s.residual << " node " << s.node_residual << " bc "
                  << s.boundary_residual << " tau " << s.boundary_precision << ' '
                  << s.equation_precision << " s " << elapsed(start) << std::endl;
      observing += elapsed(begin);
    };
    if (warm_up > 0) {
      pde::HmOptions first = options;
      first.optimiser = pde::HmOptimiser::adam;
      first.iterations = warm_up;
      options.start = pde::solve_gp_hm(problem, first).parameters;
    }
    const pde::HmSolution s = pde::solve_gp_hm(problem, options);
    const double seconds = elapsed(start) - observing;
    Json result = {{"problem", problem_name},
                   {"kernel", kernel},
                   {"optimiser", optimiser},
                   {"points", options.points},
                   {"iterations", s.iteration},
                   {"requested", options.iterations},
                   {"jitter", options.jitter},
                   {"learning_rate", options.learning_rate},
                   {"final_learning_rate", options.final_learning_rate},
                   {"status", halfulp::to_string(s.report.status)},
                   {"error", error(s)},
                   {"best_checkpoint_error", best},
                   {"residual", s.residual},
                   {"node_residual", s.node_residual},
                   {"boundary_residual", s.boundary_residual},
                   {"loss", s.loss},
                   {"equation_precision", s.equation_precision},
                   {"boundary_precision", s.boundary_precision},
                   {"seconds", seconds}};
    for (const auto& axis : s.axes) {
      Json components = Json::array();
      const double largest = *std::max_element(axis.weight.begin(), axis.weight.end());
      for (std::size_t q = 0; q < axis.weight.size(); ++q)
        if (axis.weight[q] >= 1e-3 * largest)
          components.push_back({axis.weight[q], axis.scale[q], axis.frequency[q]});
      result["components"].push_back(components);
    }
    result["checkpoints"] = checkpoints;
    std::cout << result.dump() << std::endl;
  } catch (const std::exception& e) {
    std::cerr << "bench_gp_hm: " << e.what() << '\n';
    return 1;
  }
}
