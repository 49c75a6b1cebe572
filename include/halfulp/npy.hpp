#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// Arrays in NumPy's NPY files, format 1.0, 2.0 and 3.0.
///
///     const auto forcing = halfulp::read_npy<double>("forcing.npy");  // .shape, .values
///
///     halfulp::write_npy<double>("u.npy", values, {300, 300});
///
/// Types in the file: float16, float32, float64, int32, int64, little- or big-endian, any rank up
/// to 64. Object arrays are refused (they hold Python code), as are all other types, by their name.
namespace halfulp {

/// Which index runs fastest in memory: the last (c) or the first (fortran).
enum class Order { c, fortran };

enum class NpyType { float16, float32, float64, int32, int64 };

/// What the header of a file says.
struct NpyHeader {
  int version = 1;  ///< 1, 2 or 3
  NpyType type = NpyType::float64;
  bool big_endian = false;
  Order order = Order::c;
  std::vector<std::ptrdiff_t> shape;  ///< empty for a scalar
  std::ptrdiff_t size = 1;            ///< number of elements, the product of shape
  std::ptrdiff_t data_offset = 0;     ///< where the elements begin in the file, in bytes
};

/// An array of any rank: values.size() is the product of shape (1 for a scalar, whose shape is
/// empty).
template <class T>
struct NpyData {
  std::vector<std::ptrdiff_t> shape;
  std::vector<T> values;
};
using NpyArray = NpyData<double>;

struct NpyReadOptions {
  Order order = Order::c;                           ///< of the values returned
  std::size_t memory_limit = std::size_t{8} << 30;  ///< bytes that may be allocated
};

/// Reads an array of T = float, double, std::int32_t or std::int64_t. The file's type may differ if
/// every value is exact in T (int32 as double; float16 as float or double; float64 as float only
/// where no digit is lost); a NaN is a NaN in any floating type. Where the types agree the bits are
/// the file's.
///
/// The header is believed only after its shape agrees with the size of the file, so a damaged file
/// costs no memory.
/// @return  shape and values
/// @throws  IoError with the file's name, what was found and what was expected: missing, truncated
/// or
///          too long (by how many bytes), damaged header, unsupported type, a value that T cannot
///          hold (with its index), or more memory than memory_limit (with what it would need)
template <class T>
[[nodiscard]] NpyData<T> read_npy(const std::filesystem::path& path,
                                  const NpyReadOptions& options = {});

/// Likewise from memory; `name` stands for the file in messages.
template <class T>
[[nodiscard]] NpyData<T> parse_npy(std::string_view bytes, const std::string& name,
                                   const NpyReadOptions& options = {});

/// The header alone, checked against the file's size; reads no element.
[[nodiscard]] NpyHeader read_npy_header(const std::filesystem::path& path);

struct NpyWriteOptions {
  Order order = Order::c;  ///< of `values`, and so of the file
  int version = 1;         ///< of the format: 1, 2 or 3; every reader knows 1
};

/// Writes an array of T = float, double, std::int32_t or std::int64_t, little-endian, atomically
/// (see write_file_atomic). Reading it back gives the same bits, NaN payloads included.
/// @param  values  in options.order
/// @param  shape   entries >= 0; empty for a scalar
/// @throws         ShapeError if values.size() is not the product of shape; DomainError if an entry
///                 of shape is negative; IoError with nothing left behind
template <class T>
void write_npy(const std::filesystem::path& path, std::span<const T> values,
               const std::vector<std::ptrdiff_t>& shape, const NpyWriteOptions& options = {});

}  // namespace halfulp
