#if __has_include(<malloc.h>)
#include <malloc.h>  // mallopt of glibc
#endif

#include "common.hpp"
#include "halfulp/info.hpp"
#ifdef HALFULP_WITH_CUDA
#include "halfulp/cuda/memory.hpp"
#endif

namespace {

int fail(Exit exit, std::string_view message) {
  // A message may be several lines (line of the file, caret): each is made safe by itself.
  std::string text;
  for (std::size_t begin = 0; begin <= message.size();) {
    const std::size_t end = std::min(message.find('\n', begin), message.size());
    text += halfulp::escape_text(message.substr(begin, end - begin)) + '\n';
    begin = end + 1;
  }
  std::cerr << "halfulp: error: " << text;
  return static_cast<int>(exit);
}

void add_info(CLI::App& app, const Common& common, Exit&) {
  auto* verb = app.add_subcommand("info", "version, build, instruction sets, devices, libraries");
  verb->callback([&common] {
    halfulp::Info info = halfulp::info();
#ifdef HALFULP_WITH_CUDA
    if (halfulp::cuda::device_count() > 0) info.devices.push_back(halfulp::cuda::device_name());
#endif
    if (common.json) {
      nlohmann::json libraries;
      for (const auto& [name, version] : info.libraries) libraries[name] = version;
      common.write_json("info", common.options_json(), nullptr,
                        {{"version", info.version},
                         {"compiler", info.compiler},
                         {"build", info.build},
                         {"instruction_sets", info.instruction_sets},
                         {"threads", info.threads},
                         {"devices", info.devices},
                         {"libraries", libraries}});
      return;
    }
    std::string text = "halfulp " + info.version + "\n  compiler          " + info.compiler + ", " +
                       info.build + "\n  instruction sets ";
    for (const auto& name : info.instruction_sets) text += ' ' + name;
    text += "\n  threads           " + std::to_string(info.threads) + "\n  devices          ";
    for (const auto& name : info.devices) text += ' ' + name;
    text += info.devices.empty() ? " none\n" : "\n";
    for (const auto& [name, version] : info.libraries)
      text += "  " + name + std::string(18 - name.size(), ' ') + version + '\n';
    common.write(text);
  });
}

}  // namespace

int main(int argc, char** argv) {
#ifdef M_TRIM_THRESHOLD
  // Arrays come and go: to give their pages back each time costs a tenth of a small problem's time.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
  CLI::App app{"halfulp: numerics with their error"};
  app.name("halfulp");
  app.set_version_flag("--version", halfulp::info().version);
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(
      "Samples:\n"
      "  halfulp info\n"
      "  halfulp bessel log-i --points points.csv --out values.csv\n"
      "  halfulp vmf fit X.npy --json\n"
      "  halfulp mfac ihvp G.npy X.npy --damping 1e-5 --out Y.npy\n"
      "  halfulp validate bessel --html report.html\n"
      "  halfulp pde check solvers/inputs/u1.toml\n"
      "  halfulp pde solve solvers/inputs/u1.toml --out out/u1\n"
      "Exit codes: 0 done, 2 bad usage or input, 3 did not converge (output is written), 4 no "
      "such\n"
      "device, 1 anything else.");
  const Common common{app};
  Exit exit = Exit::done;
  add_bessel(app, common, exit);
  add_gp_pde(app, common, exit);
  add_mfac(app, common, exit);
  add_vmf(app, common, exit);
  add_validate(app, common, exit);
  add_info(app, common, exit);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    return fail(Exit::bad_input, std::string(error.what()) + " (--help says more)");
  } catch (const halfulp::DeviceError& error) {
    return fail(Exit::no_device, error.what());
  } catch (const halfulp::Cancelled& error) {
    return fail(Exit::failure, error.what());
  } catch (const halfulp::Error& error) {
    return fail(Exit::bad_input, error.what());
  } catch (const std::bad_alloc&) {
    return fail(Exit::failure, "out of memory");
  } catch (const std::exception& error) {
    return fail(Exit::failure, error.what());
  }
  if (!std::cout.flush()) return fail(Exit::failure, "standard output cannot be written");
  return static_cast<int>(exit);
}
