#include "detail/mfac_gradients.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <optional>
#include <string>

#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/text.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using halfulp::detail::require;
using halfulp::detail::require_size;

constexpr std::string_view name = "mfac::Gradients";
constexpr std::array<std::pair<Storage, std::string_view>, 4> storages{
    {{Storage::float64, "fp64"},
     {Storage::float32, "fp32"},
     {Storage::bfloat16, "bf16"},
     {Storage::float16, "fp16"}}};

/// The float next to `value` on the side of zero, with its last bit set unless it is exact:
/// rounding it to fewer digits is then rounding `value` once.
std::uint32_t to_odd(double value) {
  const auto there = static_cast<float>(value);
  auto bits = std::bit_cast<std::uint32_t>(there);
  const double back = there;
  if (back == value || value != value) return bits;
  if (std::fabs(back) > std::fabs(value)) --bits;  // from infinity to the largest, too
  return bits | 1;
}

std::uint16_t bfloat16_of(std::uint32_t bits) {
  if ((bits & 0x7fffffffU) > 0x7f800000U)  // NaN: rounding could make it infinite
    return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

std::uint16_t float16_of(std::uint32_t bits) {
  const std::uint32_t sign = bits >> 16 & 0x8000U, magnitude = bits & 0x7fffffffU;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000U) {
    half = 0x7e00U | (magnitude >> 13 & 0x3ffU);
  } else if (magnitude >= 0x47800000U) {  // 2^16
    half = 0x7c00U;
  } else if (magnitude >= 0x38800000U) {  // 2^-14: normal; may round up to infinity
    half = (magnitude - 0x38000000U + 0xfffU + (magnitude >> 13 & 1U)) >> 13;
  } else {
    // Adding 1/2 leaves digits down to 2^-24, the unit of a subnormal number, rounded.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    half = std::bit_cast<std::uint32_t>(sum) - 0x3f000000U;
  }
  return static_cast<std::uint16_t>(sign | half);
}

/// `numbers` numbers, zeros, beginning at a line of the cache; large arrays in large pages where
/// the system has them.
std::shared_ptr<std::byte> allocate(std::size_t bytes, int threads) {
  constexpr std::size_t line = 64, page = std::size_t{1} << 21;
  const std::size_t align = bytes >= 4 * page ? page : line;
  if (bytes > std::numeric_limits<std::size_t>::max() / 2) throw std::bad_alloc();
  const std::size_t whole = std::max(align, (bytes + align - 1) / align * align);
  auto* const begin = static_cast<std::byte*>(std::aligned_alloc(align, whole));
  if (begin == nullptr) throw std::bad_alloc();
  std::shared_ptr<std::byte> memory(begin, [](std::byte* from) { std::free(from); });
  if (align == page) ::madvise(begin, whole, MADV_HUGEPAGE);  // advice: may be refused
  parallel_blocks(static_cast<std::ptrdiff_t>(whole), 1 << 24, threads,
                  [&](std::ptrdiff_t from, std::ptrdiff_t to) {
                    std::memset(begin + from, 0, static_cast<std::size_t>(to - from));
                  });
  return memory;
}

/// Rows begin at a line of the cache, and not all at the same place of a page: its sets would hold
/// eight of them.
std::ptrdiff_t padded(std::ptrdiff_t d, Storage storage) {
  const std::ptrdiff_t size = detail::item_size(storage), line = 64 / size;
  const std::ptrdiff_t stride = (d + line - 1) / line * line;
  return stride * size % 4096 == 0 ? stride + line : stride;
}

std::shared_ptr<Gradients::Data> owned(std::ptrdiff_t m, std::ptrdiff_t d, Storage storage,
                                       int threads) {
  auto data = std::make_shared<Gradients::Data>();
  data->storage = storage;
  data->rows = m;
  data->dimension = d;
  data->stride = padded(d, storage);
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<std::size_t>(m),
                             static_cast<std::size_t>(data->stride * detail::item_size(storage)),
                             &bytes))
    throw std::bad_alloc();
  data->owner = allocate(bytes, threads);
  data->numbers = data->owner.get();
  return data;
}

template <class From>
[[noreturn]] void refuse(Storage storage, std::ptrdiff_t row, std::ptrdiff_t column, From value) {
  const std::string rule =
      std::isfinite(value) ? "finite in " + std::string(to_string(storage)) : "finite";
  throw DomainError(name, "rows[" + std::to_string(row) + ", " + std::to_string(column) + "]",
                    number_text(value), rule);
}

/// Rounds `n` numbers of a row; returns the first that is not finite then, or n.
template <class From, class To, class Round, class Finite>
std::ptrdiff_t round_to(const From* from, std::ptrdiff_t n, To* to, Round round, Finite finite) {
  bool good = true;
  for (std::ptrdiff_t j = 0; j < n; ++j) {
    to[j] = round(from[j]);
    good &= finite(to[j]);
  }
  if (good) return n;
  std::ptrdiff_t bad = 0;
  while (finite(to[bad])) ++bad;
  return bad;
}

template <class From>
std::ptrdiff_t convert(const From* from, std::ptrdiff_t n, Storage storage, std::byte* to) {
  const auto real = [](auto value) { return std::isfinite(value); };
  switch (storage) {
    case Storage::float64:
      return round_to(
          from, n, reinterpret_cast<double*>(to), [](From v) { return double{v}; }, real);
    case Storage::float32:
      return round_to(
          from, n, reinterpret_cast<float*>(to), [](From v) { return static_cast<float>(v); },
          real);
    case Storage::bfloat16:
      return round_to(
          from, n, reinterpret_cast<std::uint16_t*>(to),
          [](From v) { return detail::to_bfloat16(v); },
          [](std::uint16_t bits) { return (bits & 0x7f80U) != 0x7f80U; });
    case Storage::float16:
      return round_to(
          from, n, reinterpret_cast<std::uint16_t*>(to),
          [](From v) { return detail::to_float16(v); },
          [](std::uint16_t bits) { return (bits & 0x7c00U) != 0x7c00U; });
  }
  return n;
}

template <class T>
std::shared_ptr<Gradients::Data> copy(std::span<const T> rows, std::ptrdiff_t d, Storage storage,
                                      int threads) {
  require(d >= 1, name, "d", d, ">= 1");
  const std::ptrdiff_t m = std::ssize(rows) / d;
  if (m * d != std::ssize(rows))
    throw ShapeError(name, "rows.size()", std::to_string(rows.size()),
                     "a multiple of d = " + std::to_string(d));
  auto data = owned(m, d, storage, threads);
  const std::ptrdiff_t size = detail::item_size(storage), block = 1 << 16;
  const std::ptrdiff_t blocks = (d + block - 1) / block;
  parallel_for(m * blocks, threads, [&](std::ptrdiff_t b) {
    const std::ptrdiff_t row = b / blocks, begin = b % blocks * block;
    const std::ptrdiff_t n = std::min(block, d - begin);
    const T* const from = rows.data() + row * d + begin;
    const std::ptrdiff_t bad =
        convert(from, n, storage, data->owner.get() + (row * data->stride + begin) * size);
    if (bad < n) refuse(storage, row, begin + bad, from[bad]);
  });
  return data;
}

template <class T>
std::shared_ptr<Gradients::Data> viewed(std::span<const T> rows, std::ptrdiff_t d,
                                        Storage storage) {
  require(d >= 1, "mfac::Gradients::view", "d", d, ">= 1");
  if (std::ssize(rows) % d != 0)
    throw ShapeError("mfac::Gradients::view", "rows.size()", std::to_string(rows.size()),
                     "a multiple of d = " + std::to_string(d));
  auto data = std::make_shared<Gradients::Data>();
  data->storage = storage;
  data->rows = std::ssize(rows) / d;
  data->dimension = data->stride = d;
  data->numbers = reinterpret_cast<const std::byte*>(rows.data());
  return data;
}

std::optional<Storage> storage_of(NpyType type) {
  switch (type) {
    case NpyType::float16:
      return Storage::float16;
    case NpyType::float32:
      return Storage::float32;
    case NpyType::float64:
      return Storage::float64;
    default:
      return {};
  }
}

void check_row(const Gradients::Data& data, std::string_view function, std::ptrdiff_t row) {
  require(row >= 0 && row < data.rows, function, "row", row,
          "in 0 ... " + std::to_string(data.rows - 1));
}

template <class T>
void set(Gradients::Data& data, std::ptrdiff_t row, std::span<const T> values) {
  constexpr std::string_view function = "mfac::Gradients::set_row";
  check_row(data, function, row);
  require_size(function, "values", std::ssize(values), data.dimension);
  require(data.writable(), function, "gradients", data.file ? "a mapped file" : "a view",
          "numbers of their own");
  // Looked at first: a row that is refused must not be written in part.
  const std::ptrdiff_t size = detail::item_size(data.storage), block = 4096;
  alignas(64) std::array<std::byte, block * sizeof(double)> rounded;
  for (const bool write : {false, true})
    for (std::ptrdiff_t begin = 0; begin < data.dimension; begin += block) {
      const std::ptrdiff_t n = std::min(block, data.dimension - begin);
      std::byte* const to =
          write ? data.owner.get() + (row * data.stride + begin) * size : rounded.data();
      const std::ptrdiff_t bad = convert(values.data() + begin, n, data.storage, to);
      if (bad < n)
        refuse(data.storage, row, begin + bad, values[static_cast<std::size_t>(begin + bad)]);
    }
}

}  // namespace

std::uint16_t detail::to_bfloat16(double value) { return bfloat16_of(to_odd(value)); }
std::uint16_t detail::to_bfloat16(float value) {
  return bfloat16_of(std::bit_cast<std::uint32_t>(value));
}
std::uint16_t detail::to_float16(double value) { return float16_of(to_odd(value)); }
std::uint16_t detail::to_float16(float value) {
  return float16_of(std::bit_cast<std::uint32_t>(value));
}

float detail::from_bfloat16(std::uint16_t bits) {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

double detail::number_at(Storage storage, const std::byte* numbers, std::ptrdiff_t i) {
  const auto load = [&]<class T>(T value) {
    std::memcpy(&value, numbers + i * static_cast<std::ptrdiff_t>(sizeof(T)), sizeof(T));
    return value;
  };
  switch (storage) {
    case Storage::float64:
      return load(double{});
    case Storage::float32:
      return load(float{});
    case Storage::bfloat16:
      return from_bfloat16(load(std::uint16_t{}));
    case Storage::float16:
      return from_float16(load(std::uint16_t{}));
  }
  return std::numeric_limits<double>::quiet_NaN();
}

detail::Tile detail::tile(const Gradients::Data& data, std::ptrdiff_t first, std::ptrdiff_t last,
                          std::ptrdiff_t begin, std::ptrdiff_t end,
                          std::vector<std::byte>& buffer) {
  const std::ptrdiff_t size = item_size(data.storage);
  if (!data.file) return {data.numbers + (first * data.stride + begin) * size, data.stride};
  const std::ptrdiff_t width = end - begin;
  const auto bytes = static_cast<std::size_t>(width * size);
  if (buffer.size() < static_cast<std::size_t>(last - first) * bytes)
    buffer.resize(static_cast<std::size_t>(last - first) * bytes);
  std::byte* to = buffer.data();
  const auto read = [&](std::ptrdiff_t row, std::size_t count) {
    const std::uint64_t from =
        data.offset + static_cast<std::uint64_t>((row * data.stride + begin) * size);
    const std::size_t got = data.file->read_at(from, reinterpret_cast<char*>(to), count);
    if (got < count)
      throw IoError(data.file->name(), "has become shorter while it was read: no more than " +
                                           std::to_string(from + got) + " bytes are left");
    to += count;
  };
  if (width == data.stride)
    read(first, static_cast<std::size_t>(last - first) * bytes);
  else
    for (std::ptrdiff_t row = first; row < last; ++row) read(row, bytes);
  return {buffer.data(), width};
}

std::string_view to_string(Storage storage) {
  for (const auto& [each, text] : storages)
    if (each == storage) return text;
  return "invalid";
}

Storage storage_from(std::string_view text) {
  for (const auto& [storage, each] : storages)
    if (each == text) return storage;
  throw DomainError("mfac::storage_from", "name", "'" + escape_text(text) + "'",
                    "fp64, fp32, bf16 or fp16");
}

Gradients::Gradients(std::span<const double> rows, std::ptrdiff_t d, Storage storage, int threads)
    : data_(copy(rows, d, storage, threads)) {}
Gradients::Gradients(std::span<const float> rows, std::ptrdiff_t d, Storage storage, int threads)
    : data_(copy(rows, d, storage, threads)) {}

Gradients Gradients::zeros(std::ptrdiff_t m, std::ptrdiff_t d, Storage storage) {
  require(m >= 0, "mfac::Gradients::zeros", "m", m, ">= 0");
  require(d >= 1, "mfac::Gradients::zeros", "d", d, ">= 1");
  return Gradients(owned(m, d, storage, 0));
}

Gradients Gradients::view(std::span<const double> rows, std::ptrdiff_t d) {
  return Gradients(viewed(rows, d, Storage::float64));
}
Gradients Gradients::view(std::span<const float> rows, std::ptrdiff_t d) {
  return Gradients(viewed(rows, d, Storage::float32));
}

Gradients Gradients::map(const std::filesystem::path& file) {
  const NpyHeader header = read_npy_header(file);
  const auto expect = [&](bool condition, const std::string& found, const char* expected) {
    if (!condition) throw IoError(file.string(), found + ", expected " + expected);
  };
  expect(header.shape.size() == 2, "has " + std::to_string(header.shape.size()) + " dimensions",
         "2: one gradient a row");
  const auto storage = storage_of(header.type);
  expect(storage.has_value(), "holds integers", "float16, float32 or float64");
  expect(!header.big_endian, "is big-endian", "little-endian numbers");
  // In one row or column both orders are the same.
  const std::ptrdiff_t m = header.shape[0], d = header.shape[1];
  expect(header.order == Order::c || m <= 1 || d <= 1, "is in Fortran order", "C order");
  expect(d >= 1, "has rows of 0 numbers", "at least 1");
  auto data = std::make_shared<Data>();
  data->storage = *storage;
  data->rows = m;
  data->dimension = data->stride = d;
  data->file = std::make_unique<halfulp::detail::InputFile>(file);
  data->offset = static_cast<std::uint64_t>(header.data_offset);
  return Gradients(std::move(data));
}

Gradients Gradients::first(std::ptrdiff_t rows) const {
  require(rows >= 0 && rows <= data_->rows, "mfac::Gradients::first", "rows", rows,
          "in 0 ... " + std::to_string(data_->rows));
  require(!data_->file, "mfac::Gradients::first", "gradients", "a mapped file", "in memory");
  auto data = std::make_shared<Data>();
  data->storage = data_->storage;
  data->rows = rows;
  data->dimension = data_->dimension;
  data->stride = data_->stride;
  data->numbers = data_->numbers;
  data->owner = data_->owner;
  return Gradients(data);
}

std::ptrdiff_t Gradients::rows() const { return data_->rows; }
std::ptrdiff_t Gradients::dimension() const { return data_->dimension; }
Storage Gradients::storage() const { return data_->storage; }

double Gradients::at(std::ptrdiff_t row, std::ptrdiff_t column) const {
  check_row(*data_, "mfac::Gradients::at", row);
  require(column >= 0 && column < data_->dimension, "mfac::Gradients::at", "column", column,
          "in 0 ... " + std::to_string(data_->dimension - 1));
  std::vector<std::byte> buffer;
  const detail::Tile one = detail::tile(*data_, row, row + 1, column, column + 1, buffer);
  return detail::number_at(data_->storage, one.numbers, 0);
}

void Gradients::row(std::ptrdiff_t row, std::span<double> out) const {
  check_row(*data_, "mfac::Gradients::row", row);
  require_size("mfac::Gradients::row", "out", std::ssize(out), data_->dimension);
  constexpr std::ptrdiff_t block = 1 << 16;
  std::vector<std::byte> buffer;
  for (std::ptrdiff_t begin = 0; begin < data_->dimension; begin += block) {
    const std::ptrdiff_t end = std::min(begin + block, data_->dimension);
    const detail::Tile part = detail::tile(*data_, row, row + 1, begin, end, buffer);
    for (std::ptrdiff_t j = begin; j < end; ++j)
      out[static_cast<std::size_t>(j)] = detail::number_at(data_->storage, part.numbers, j - begin);
  }
}

void Gradients::set_row(std::ptrdiff_t row, std::span<const double> values) {
  set(*data_, row, values);
}
void Gradients::set_row(std::ptrdiff_t row, std::span<const float> values) {
  set(*data_, row, values);
}

}  // namespace halfulp::mfac
