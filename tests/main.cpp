// Beside Catch2's main, which its library has.

/// Read by LeakSanitizer where there is one: LLVM's OpenMP never frees the descriptors of the
/// threads that it keeps, CLN (below GiNaC) not all of its constants.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp.so\nleak:libcln.so\n"; }
