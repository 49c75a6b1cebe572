#pragma once

#include <string>
#include <utility>
#include <vector>

/// What this build is and what it found on this machine.
namespace halfulp {

struct Info {
  std::string version;                        ///< of the library, "0.1.0"
  std::string compiler;                       ///< "GCC 12.2.0"
  std::string build;                          ///< "release" (assertions off) or "debug"
  std::vector<std::string> instruction_sets;  ///< usable here, best first
  int threads = 1;                            ///< that OpenMP starts by default
  std::vector<std::string> devices;  ///< to be filled by who links halfulp::cuda: empty here
  std::vector<std::pair<std::string, std::string>> libraries;  ///< name, version
};

[[nodiscard]] Info info();

}  // namespace halfulp
