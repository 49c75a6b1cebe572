#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/text.hpp"

/// What all subcommands of the program share. Drivers parse, call the library and write; they hold
/// no mathematics.

/// Exit codes of the program.
enum class Exit { done = 0, failure = 1, bad_input = 2, not_converged = 3, no_device = 4 };

/// Options that every subcommand takes, before or after its own.
struct Common {
  std::string device = "cpu";
  int threads = 0;
  std::uint64_t seed = 0;
  bool json = false;
  bool quiet = false;
  bool hex = false;
  std::string out;

  explicit Common(CLI::App& app) {
    app.add_option("--device", device, "where to compute: cpu or cuda")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
    app.add_option("--threads", threads, "threads to use; 0: as many as OpenMP starts")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option("--seed", seed, "seed of random numbers")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_flag("--json", json, "print one JSON object instead of text");
    app.add_flag("--quiet", quiet, "no progress and no warnings");
    app.add_flag("--hex", hex, "numbers as C99 hex floats");
    app.add_option("--out", out, "file or folder for the results instead of standard output");
  }

  /// A number for a person or a program to read: shortest decimal, or hex.
  [[nodiscard]] std::string number(double value) const {
    return hex ? halfulp::hex_text(value) : halfulp::number_text(value);
  }

  /// For subcommands without device code.
  void require_cpu(std::string_view function) const {
    if (device == "cuda")
      throw halfulp::DeviceError(function, 0, "this build has no device code for it; use cpu");
  }

  void warn(const std::string& message) const {
    if (!quiet) std::cerr << "halfulp: warning: " << halfulp::escape_text(message) << '\n';
  }

  /// Writes a result to --out, or to standard output.
  void write(std::string_view text) const {
    if (!out.empty())
      halfulp::write_file_atomic(out, text);
    else
      std::cout << text;
  }

  /// The one object of --json.
  void write_json(std::string_view command, nlohmann::json options, nlohmann::json report,
                  nlohmann::json result) const {
    const nlohmann::ordered_json object = {{"schema", 1},
                                           {"command", command},
                                           {"options", std::move(options)},
                                           {"report", std::move(report)},
                                           {"result", std::move(result)}};
    write(object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n');
  }

  /// The shared options, for the `options` of --json.
  [[nodiscard]] nlohmann::json options_json() const {
    return {{"device", device}, {"threads", threads}, {"seed", seed}};
  }
};

/// Each adds its subcommand; its callback sets `exit`.
void add_bessel(CLI::App& app, const Common& common, Exit& exit);
void add_gp_pde(CLI::App& app, const Common& common, Exit& exit);
void add_mfac(CLI::App& app, const Common& common, Exit& exit);
void add_vmf(CLI::App& app, const Common& common, Exit& exit);
void add_validate(CLI::App& app, const Common& common, Exit& exit);
