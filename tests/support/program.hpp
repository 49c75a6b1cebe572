#pragma once

#include <stdlib.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

/// Runs the program as a user does. Needs HALFULP_PROGRAM, its path.
struct Folder {
  std::filesystem::path path;
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "halfulp_XXXXXX").string();
    REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
};

inline std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

struct Run {
  int code;
  std::string out, err;
};

/// Runs the program through the shell; `arguments` is shell text, `before` goes in front of it.
inline Run run(const Folder& folder, const std::string& arguments, const std::string& before = {}) {
  const auto out = folder.path / "stdout", err = folder.path / "stderr";
  const std::string command = before + " '" + HALFULP_PROGRAM + "' " + arguments + " >'" +
                              out.string() + "' 2>'" + err.string() + "'";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content(out), content(err)};
}
