#include "halfulp/progress.hpp"

#include <algorithm>

#include "halfulp/error.hpp"

namespace halfulp {

void report_progress(const Progress& progress, double fraction, const char* phase,
                     std::string_view function) {
  if (progress && !progress(std::clamp(fraction, 0.0, 1.0), phase)) throw Cancelled(function);
}

Progress part_of(const Progress& progress, double begin, double end) {
  if (!progress) return {};
  return [progress, begin, end](double fraction, const char* phase) {
    return progress(begin + fraction * (end - begin), phase);
  };
}

}  // namespace halfulp
