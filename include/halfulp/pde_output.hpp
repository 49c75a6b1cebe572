#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "halfulp/gp_hm.hpp"
#include "halfulp/gp_pde.hpp"
#include "halfulp/gp_posterior.hpp"
#include "halfulp/pde_file.hpp"
#include "halfulp/picture.hpp"

/// What is written of a solved PDE: fields on a grid, their measured error and residual, a report,
/// a picture.
///
///     halfulp::gp_pde::check_output(file);                     // before any work
///     halfulp::gp_pde::OutputFolder folder("out/poisson");     // can it be written?
///     const auto solution = halfulp::gp_pde::solve(file.problem, file.options);
///     const auto output = halfulp::gp_pde::evaluate(file, sampler_of(solution));
///     halfulp::gp_pde::write_output(folder, file, solution, output, sampler_of(solution), run);
///     folder.commit();                                         // all of it or nothing
///
/// docs/report.md describes the files.
namespace halfulp::gp_pde {

/// Values of a derivative of the solution on a tensor grid, C order; as Solution::on_grid.
using Sampler = std::function<std::vector<double>(std::span<const std::vector<double>> axes,
                                                  std::span<const int> orders)>;

/// The sampler of a solution; it must not outlive the solution. Many points are evaluated in parts,
/// with the same bits: all of the modes at all of the points would take much memory.
[[nodiscard]] Sampler sampler_of(const Solution& solution);

/// The same of a solution by GP-HM.
[[nodiscard]] inline Sampler sampler_of(const HmSolution& solution) {
  return [&solution](std::span<const std::vector<double>> axes, std::span<const int> orders) {
    return solution.on_grid(axes, orders);
  };
}

/// What reports and pictures need of a solution by GP-HM: its numbers, nodes and learnt spectra (as
/// bands, the strong components with their widths). It has no fields: those are sampled from
/// `solution`.
[[nodiscard]] Solution summary_of(const HmSolution& solution);

/// Mean and standard deviation of a posterior; they must not outlive it.
[[nodiscard]] inline Sampler sampler_of(const Posterior& posterior) {
  return [&posterior](std::span<const std::vector<double>> axes, std::span<const int> orders) {
    return posterior.mean(axes, orders);
  };
}
[[nodiscard]] inline Sampler deviation_of(const Posterior& posterior) {
  return [&posterior](std::span<const std::vector<double>> axes, std::span<const int> orders) {
    return posterior.deviation(axes, orders);
  };
}

/// What reports and pictures need of a posterior: its numbers and learnt bands.
[[nodiscard]] Solution summary_of(const Posterior& posterior);

/// Size of a quantity on a grid. L2 norms are root mean squares over the points, all with the same
/// weight. NaN as soon as one value is.
struct Norms {
  double relative_l2 = 0;  ///< l2 / scale; l2 itself where scale = 0
  double l2 = 0;
  double max = 0;
  double scale = 0;  ///< what l2 is compared with, also a root mean square
};

struct Field {
  std::string name;
  std::vector<double> values;
};

/// One field of a system, measured.
struct OutputPart {
  std::string name;
  double solver_residual = 0, boundary_residual = 0, error_estimate = 0;  ///< the solver's
  std::optional<Norms> error;
  Norms residual;  ///< of its equation
  std::vector<double> values, error_values, residual_values;
};

/// The solution on the output grid, and what it was measured to be.
struct Output {
  std::vector<std::vector<double>> axes;  ///< uniform, ends included; the doubles that are written
  std::vector<Field> fields;              ///< in the order of the file, u first

  /// u - exact in double-double, from the doubles of u at the doubles of the axes; scale is the
  /// norm of exact. Nothing if the exact solution is not known.
  std::optional<Norms> error;
  std::vector<double> error_values;

  /// The equation's left side, evaluated in double-double from the solution's derivatives in
  /// double; scale is the largest norm of one of the equation's terms or of what has no u in it. On
  /// the output grid, or, for a forcing known by samples, on the grid of the samples.
  Norms residual;
  std::vector<std::vector<double>> residual_axes;
  std::vector<double> residual_values;

  /// Of a system: its fields; `error` and `residual` are then those of the worst.
  std::vector<OutputPart> parts;
};

/// Refuses what cannot be written, before any work: formats that this build lacks, fields that need
/// what is not known, sizes beyond options.memory_limit.
/// @throws DomainError
void check_output(const PdeFile& file);

/// @param  deviation  for fields of kind deviation
/// @throws as check_output; whatever the samplers throw
[[nodiscard]] Output evaluate(const PdeFile& file, const Sampler& sample,
                              const Sampler& deviation = {});
/// The same of a system, file.system.
[[nodiscard]] Output evaluate(const PdeFile& file, const SystemSolution& solution);

/// How a solve was run, for the report.
struct Run {
  std::string command = "pde solve";
  double seconds = 0;                    ///< of set-up and solve together
  int repeats = 0;                       ///< solves with the set-up kept
  std::optional<double> repeat_seconds;  ///< their median
  const HmSolution* gp_hm = nullptr;     ///< what method gp-hm learnt, where it was used
  const Posterior* posterior = nullptr;  ///< where data were noisy
  std::string date;                      ///< empty: left out, so that reports can be compared
};

/// report.json; one object, ends in a line feed. NaN and infinities are the strings "nan", "inf",
/// "-inf"; null means that a number is not known.
/// @param files  names of what was written beside it
[[nodiscard]] std::string report_json(const PdeFile& file, const Solution& solution,
                                      const Output& output, const Run& run,
                                      std::span<const std::string> files);

/// picture.svg: error if the exact solution is known, residual otherwise. Of a posterior the mean
/// with its 95 % band (one dimension), else the deviation instead of the error; and what was
/// observed.
[[nodiscard]] Picture picture_of(const PdeFile& file, const Solution& solution,
                                 const Output& output, const Sampler& sample, const Run& run);

/// A folder that gets all of its files or none. Files are staged beside it (or inside, where it
/// exists) and moved into place by commit(); without commit() the destructor leaves no trace.
class OutputFolder {
 public:
  /// Creates parents and the staging folder, and so fails now if the folder cannot be written.
  /// @throws IoError
  explicit OutputFolder(const std::filesystem::path& folder);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// Where to write the file that will be called `name`; a plain name, no folder in it.
  [[nodiscard]] std::filesystem::path stage(const std::string& name);
  void write(const std::string& name, std::string_view bytes);
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }  ///< in order
  [[nodiscard]] const std::filesystem::path& path() const { return folder_; }
  /// Where files are until commit(); what a killed program leaves behind.
  [[nodiscard]] const std::filesystem::path& staging() const { return staging_; }

  /// Moves all files into place; other files of the folder stay. If a move fails, those done are
  /// undone. @throws IoError
  void commit();

 private:
  std::filesystem::path folder_;
  std::filesystem::path staging_;
  std::vector<std::filesystem::path> created_;  ///< parents made here, outermost first
  std::vector<std::string> names_;
  bool exists_ = false;  ///< the folder did before
};

/// Stages x.npy, ..., u.npy, ..., samples.npy where asked for, and per format NAME.vti, NAME.csv,
/// NAME.h5, then picture.svg and report.json.
/// @return the text of report.json
std::string write_output(OutputFolder& folder, const PdeFile& file, const Solution& solution,
                         const Output& output, const Sampler& sample, const Run& run);

/// The same of a system; the picture has a page for each field.
std::string write_output(OutputFolder& folder, const PdeFile& file, const SystemSolution& solution,
                         const Output& output, const Run& run);

/// VTK XML ImageData, base64 in an appended block, fields as point data, x running fastest.
/// @param axes    one to three, uniform
/// @param fields  C order (last axis fastest) on the axes
[[nodiscard]] std::string vti_text(std::span<const std::vector<double>> axes,
                                   std::span<const Field> fields);

/// Whether this build writes HDF5.
[[nodiscard]] bool have_hdf5();

/// Datasets named as the axes and the fields. @throws IoError; DomainError without have_hdf5()
void write_hdf5(const std::filesystem::path& path, std::span<const std::string> axis_names,
                std::span<const std::vector<double>> axes, std::span<const Field> fields);

}  // namespace halfulp::gp_pde
