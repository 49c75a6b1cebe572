#include "halfulp/npy.hpp"

#include <cstdint>
#include <cstdlib>

#include "halfulp/error.hpp"

// Any bytes are an array or an IoError; what was read has the size that its shape says.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const halfulp::NpyReadOptions options{.memory_limit = 1 << 20};
  const auto check = [&]<class T>(T) {
    try {
      const auto array = halfulp::parse_npy<T>(bytes, "fuzz", options);
      std::size_t count = 1;
      for (const auto extent : array.shape) count *= static_cast<std::size_t>(extent);
      if (count != array.values.size()) std::abort();
    } catch (const halfulp::IoError&) {
    }
  };
  check(double{});
  check(float{});
  check(std::int32_t{});
  check(std::int64_t{});
  return 0;
}
