#include "detail/pde_system_output.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "detail/linear_operator.hpp"
#include "halfulp/error.hpp"
#include "halfulp/pde_output.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::gp_pde {
namespace {

/// One field of a system as a file of its own, whose equation is without meaning.
PdeFile view_of(const PdeFile& file, std::size_t i) {
  const SystemField& field = file.system->fields[i];
  PdeFile view;
  view.file = file.file;
  view.problem.axes = file.problem.axes;
  view.problem.name = file.problem.name;
  view.problem.equation = Expression::symbol("u");
  view.problem.forcing = Expression(0.0);
  view.problem.exact = field.exact;
  view.options = file.options;
  view.output.points = file.output.points;
  view.output.formats = file.output.formats;
  view.output.fields = {
      {"u", FieldKind::derivative, std::vector<int>(file.problem.axes.size(), 0), 0}};
  if (field.exact) view.output.fields.push_back({"error", FieldKind::error, {}, 0});
  return view;
}

double rms_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double v : values) {
    if (std::isnan(v)) return v;
    largest = std::max(largest, std::fabs(v));
  }
  if (!(largest > 0) || std::isinf(largest)) return largest;
  double sum = 0;
  for (const double v : values) sum += (v / largest) * (v / largest);
  return largest * std::sqrt(sum / static_cast<double>(values.size()));
}

/// Left sides of all equations on the output grid, in double-double from derivatives in double, and
/// for each the norm of its largest term.
void add_residuals(const PdeFile& file, const SystemSolution& solution, Output& output) {
  const SystemProblem& problem = *file.system;
  const std::size_t d = problem.axes.size();
  std::size_t size = 1;
  for (const auto& points : output.axes) size *= points.size();
  std::vector<std::string> inputs;
  for (const Axis& axis : problem.axes) inputs.push_back(axis.name);
  std::map<std::string, Expression> zero;
  std::vector<std::vector<double>> values;
  std::vector<Expression> equations;
  for (const SystemField& field : problem.fields) {
    equations.push_back(field.equation.substitute(problem.forcing));
    for (const std::string& symbol : equations.back().symbols())
      for (std::size_t j = 0; j < problem.fields.size(); ++j) {
        const auto orders = detail::derivative_orders(problem.axes, symbol, problem.fields[j].name);
        if (!orders || !zero.emplace(symbol, Expression(0.0)).second) continue;
        inputs.push_back(symbol);
        values.push_back(sampler_of(solution.fields[j])(output.axes, *orders));
      }
  }
  for (std::size_t i = 0; i < equations.size(); ++i) {
    std::vector<Expression> parts{equations[i], equations[i].substitute(zero)};
    for (std::size_t k = d; k < inputs.size(); ++k)
      if (equations[i].depends_on(inputs[k]))
        parts.push_back(equations[i].derivative(inputs[k]) * Expression::symbol(inputs[k]));
    const Program<dd> program(parts, inputs);
    std::vector<std::vector<double>> found(parts.size(), std::vector<double>(size));
    parallel_blocks(static_cast<std::ptrdiff_t>(size), 1024, file.options.threads,
                    [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                      std::vector<dd> in(inputs.size()), out(parts.size());
                      for (std::ptrdiff_t p = begin; p < end; ++p) {
                        const auto at = static_cast<std::size_t>(p);
                        std::size_t rest = at;
                        for (std::size_t k = d; k-- > 0; rest /= output.axes[k].size())
                          in[k] = output.axes[k][rest % output.axes[k].size()];
                        for (std::size_t k = 0; k < values.size(); ++k) in[d + k] = values[k][at];
                        program(in, out);
                        for (std::size_t k = 0; k < out.size(); ++k) found[k][at] = out[k].hi;
                      }
                    });
    OutputPart& part = output.parts[i];
    double scale = 0;
    for (std::size_t k = 1; k < found.size(); ++k) {
      const double rms = rms_of(found[k]);
      // Without the fields a nonlinear equation need not be finite.
      if (std::isfinite(rms)) scale = std::max(scale, rms);
    }
    part.residual.l2 = rms_of(found[0]);
    part.residual.scale = scale;
    part.residual.relative_l2 = scale > 0 ? part.residual.l2 / scale : part.residual.l2;
    for (const double v : found[0])
      if (!(std::fabs(v) <= part.residual.max)) part.residual.max = std::fabs(v);
    part.residual_values = std::move(found[0]);
  }
}

/// Pages below each other. Ids of each are made its own.
std::string stacked(const std::vector<std::string>& pages) {
  const auto attribute = [](const std::string& page, const std::string& name) {
    const std::size_t begin = page.find(' ' + name + "=\"", page.find("<svg")) + name.size() + 3;
    return page.substr(begin, page.find('"', begin) - begin);
  };
  std::string inner;
  double height = 0;
  for (std::size_t i = 0; i < pages.size(); ++i) {
    std::string page = pages[i].substr(pages[i].find("<svg"));
    for (const char* mark : {" id=\"", "url(#"})
      for (std::size_t at = page.find(mark); at != std::string::npos; at = page.find(mark, at + 5))
        page.insert(at + 5, "page" + std::to_string(i + 1) + "-");
    page.insert(4, " y=\"" + number_text(height) + "\"");
    height += parse_number(attribute(pages[i], "height")).value_or(0);
    inner += page;
  }
  const std::string width = attribute(pages[0], "width"), tall = number_text(height);
  return pages[0].substr(0, pages[0].find("<svg")) +
         "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + tall +
         "\" viewBox=\"0 0 " + width + ' ' + tall + "\">\n" + inner + "</svg>\n";
}

/// The numbers of a system that single equations have as well.
Solution summary_of(const SystemSolution& system) {
  Solution s = system.fields[0];
  s.report = system.report;
  s.residual = system.residual;
  s.boundary_residual = system.boundary_residual;
  s.error_estimate = system.error_estimate;
  s.floor_estimate = system.floor_estimate;
  for (const Solution& field : system.fields)
    s.residual_scale = std::max(s.residual_scale, field.residual_scale);
  s.timings = system.timings;
  s.warnings = system.warnings;
  return s;
}

}  // namespace

void check_system_output(const PdeFile& file) {
  PdeFile view = view_of(file, 0);
  // Each field needs as much as the solution of a single equation.
  view.options.memory_limit /= std::max<std::size_t>(1, file.output.fields.size());
  check_output(view);
}

Output evaluate(const PdeFile& file, const SystemSolution& solution) {
  check_output(file);
  const SystemProblem& problem = *file.system;
  Output output;
  for (std::size_t i = 0; i < problem.fields.size(); ++i) {
    const PdeFile view = view_of(file, i);
    const Solution& field = solution.fields[i];
    Output one = evaluate(view, sampler_of(field));
    OutputPart part;
    part.name = problem.fields[i].name;
    part.solver_residual = field.residual;
    part.boundary_residual = field.boundary_residual;
    part.error_estimate = field.error_estimate;
    part.error = one.error;
    part.error_values =
        one.error_values.empty() && one.error ? one.fields[1].values : std::move(one.error_values);
    part.values = std::move(one.fields[0].values);
    if (i == 0) output.axes = std::move(one.axes);
    output.parts.push_back(std::move(part));
  }
  add_residuals(file, solution, output);
  for (const OutputPart& part : output.parts) {
    if (part.error && (!output.error || !(part.error->relative_l2 <= output.error->relative_l2)))
      output.error = part.error;
    if (!(part.residual.relative_l2 <= output.residual.relative_l2))
      output.residual = part.residual;
  }
  output.residual_axes = output.axes;
  for (const OutputField& field : file.output.fields) {
    Field out{field.name, {}};
    const OutputPart& part = output.parts[field.field];
    switch (field.kind) {
      case FieldKind::derivative:
        out.values = field.name == part.name
                         ? part.values
                         : sampler_of(solution.fields[field.field])(output.axes, field.orders);
        break;
      case FieldKind::residual:
        out.values = part.residual_values;
        break;
      case FieldKind::error:
        out.values = part.error_values;
        break;
      case FieldKind::forcing: {
        std::vector<std::vector<dd>> points;
        for (const auto& axis : output.axes) points.emplace_back(axis.begin(), axis.end());
        std::vector<std::string> names;
        for (const Axis& axis : problem.axes) names.push_back(axis.name);
        std::vector<dd> forcing(part.values.size());
        Program<dd>(problem.forcing.at(field.name), names)
            .on_grid(points, forcing, file.options.threads);
        for (const dd value : forcing) out.values.push_back(value.hi);
        break;
      }
      case FieldKind::deviation:
        throw DomainError("evaluate", "fields", field.name, "no deviation: a system has none");
    }
    output.fields.push_back(std::move(out));
  }
  return output;
}

std::string write_output(OutputFolder& folder, const PdeFile& file, const SystemSolution& solution,
                         const Output& output, const Run& run) {
  write_fields(folder, file, output);
  std::vector<std::string> pages;
  for (std::size_t i = 0; i < output.parts.size(); ++i) {
    const OutputPart& part = output.parts[i];
    const PdeFile view = view_of(file, i);
    Output one;
    one.axes = one.residual_axes = output.axes;
    one.error = part.error;
    one.error_values = part.error_values;
    one.residual = part.residual;
    one.residual_values = part.residual_values;
    const Sampler sample = sampler_of(solution.fields[i]);
    Picture picture = picture_of(view, solution.fields[i], one, sample, run);
    picture.title += ": " + part.name;
    picture.equation = file.equation_text + " = 0";
    picture.field = part.name;
    if (part.error) picture.error.label = "|" + part.name + " − exact|";
    pages.push_back(draw_svg(picture));
  }
  folder.write("picture.svg", stacked(pages));
  std::vector<std::string> files = folder.names();
  files.emplace_back("report.json");
  std::string report = report_json(file, summary_of(solution), output, run, files);
  folder.write("report.json", report);
  return report;
}

}  // namespace halfulp::gp_pde
