#pragma once

#include <functional>
#include <string_view>

namespace halfulp {

/// What long computations call between their phases and, where one is long, within it (with what it
/// was told last), from the thread that started them: `fraction` of the work done, in [0, 1], and
/// what is being done now (`phase` lives for the call only). Returning false stops the computation
/// with Cancelled. An empty function: no reports.
using Progress = std::function<bool(double fraction, const char* phase)>;

/// Calls `progress` if there is one.
/// @param  function  who asks, for the message, e.g. "gp_pde::solve"
/// @throws           Cancelled if it returns false; whatever it throws
void report_progress(const Progress& progress, double fraction, const char* phase,
                     std::string_view function);

/// `progress` for a part of the work that takes it from fraction `begin` to `end`.
[[nodiscard]] Progress part_of(const Progress& progress, double begin, double end);

}  // namespace halfulp
