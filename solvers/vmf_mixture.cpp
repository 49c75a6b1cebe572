#include "vmf.hpp"

void add_vmf_mixture(CLI::App&, const Common&, Exit&) {}
