#pragma once

#include <cstddef>
#include <memory>

#include "halfulp/mfac.hpp"

namespace halfulp::mfac {

struct Gradients::Data {
  Storage storage = Storage::float64;
  std::ptrdiff_t rows = 0;
  std::ptrdiff_t dimension = 0;
  const void* numbers = nullptr;  ///< row i begins `dimension` i numbers on
  std::shared_ptr<void> owner;    ///< of memory or a mapping; null for a view
  bool writable = false;
  bool mapped = false;
};

}  // namespace halfulp::mfac
