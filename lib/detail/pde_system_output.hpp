#pragma once

#include <string>

#include "halfulp/pde_output.hpp"

/// What the output of systems shares with that of single equations.
namespace halfulp::gp_pde {

/// check_output for a file with a system.
void check_system_output(const PdeFile& file);

/// Stages the axes, the fields and what the formats ask for.
void write_fields(OutputFolder& folder, const PdeFile& file, const Output& output);

}  // namespace halfulp::gp_pde
