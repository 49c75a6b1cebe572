#pragma once

#include <cstdio>
#include <string>

/// What the device tests have in place of a test framework, which machines with a GPU may lack.
inline int failures = 0;

inline void check(bool good, const std::string& what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what.c_str());
}
