#include "halfulp/npy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <optional>
#include <utility>

#include "detail/half.hpp"
#include "detail/input_file.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"

namespace halfulp {
namespace {

static_assert(std::endian::native == std::endian::little, "NPY bytes are written as they lie");

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t max_header = std::size_t{1} << 20;  // NumPy's own are below 200 bytes
constexpr std::size_t max_rank = 64;                      // NumPy 2

/// Bytes in order from a file or from memory; `size` is what is there in all.
struct Source {
  std::string name;
  std::uint64_t size;
  std::function<std::size_t(char*, std::size_t)> read;

  /// Exactly count bytes, or IoError.
  void take(char* to, std::size_t count, std::string_view what) const {
    const std::size_t got = read(to, count);
    if (got < count)
      throw IoError(
          name, "truncated by " + std::to_string(count - got) + " bytes in " + std::string(what));
  }
};

Source file_source(detail::InputFile& file) {
  if (!file.regular()) throw IoError(file.name(), "not a regular file, expected an NPY file");
  return {file.name(), file.size(),
          [&file](char* to, std::size_t count) { return file.read(to, count); }};
}

std::string type_name(NpyType type) {
  switch (type) {
    case NpyType::float16:
      return "float16";
    case NpyType::float32:
      return "float32";
    case NpyType::float64:
      return "float64";
    case NpyType::int32:
      return "int32";
    case NpyType::int64:
      return "int64";
  }
  return "invalid";
}

std::size_t item_size(NpyType type) {
  if (type == NpyType::float16) return 2;
  return type == NpyType::float32 || type == NpyType::int32 ? 4 : 8;
}

std::string shape_text(const std::vector<std::ptrdiff_t>& shape) {
  std::string out = "(";
  for (std::size_t i = 0; i < shape.size(); ++i)
    out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + (shape.size() == 1 ? ",)" : ")");
}

/// The product of a shape, or nothing where it exceeds a ptrdiff_t.
std::optional<std::ptrdiff_t> element_count(const std::vector<std::ptrdiff_t>& shape) {
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  std::ptrdiff_t count = 1;
  for (const auto extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return std::nullopt;
  return count;
}

/// The header's text, a Python literal: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  /// Fills type, big_endian, order and shape.
  void parse(NpyHeader& header) {
    if (peek() != '{') fail("not a Python dict: expected '{'");
    ++at_;
    bool descr = false, fortran_order = false, shape = false;
    while (peek() != '}') {
      const std::size_t key_at = at_;
      const std::string key = string("a key in quotes");
      bool* seen = key == "descr"           ? &descr
                   : key == "fortran_order" ? &fortran_order
                   : key == "shape"         ? &shape
                                            : nullptr;
      if (seen == nullptr || *seen) {
        at_ = key_at;
        fail(seen == nullptr ? "unknown key '" + key + "'" : "key '" + key + "' twice");
      }
      *seen = true;
      expect(':');
      if (seen == &descr) parse_descr(header);
      if (seen == &fortran_order) header.order = boolean() ? Order::fortran : Order::c;
      if (seen == &shape) header.shape = parse_shape();
      if (peek() != '}') expect(',');
    }
    ++at_;
    if (peek() != end) fail("expected nothing after the dict");
    for (const auto& [seen, key] :
         {std::pair(descr, "descr"), std::pair(fortran_order, "fortran_order"),
          std::pair(shape, "shape")})
      if (!seen) throw IoError(name_, std::string("bad header: no key '") + key + "'");
  }

 private:
  static constexpr int end = -1;

  [[noreturn]] void fail(const std::string& what) {
    std::string found = "the end";
    if (at_ < text_.size()) found = "'" + std::string(text_.substr(at_, 16)) + "'";
    throw IoError(name_, "bad header: " + what + ", found " + found + " at byte " +
                             std::to_string(at_) + " of the header");
  }

  /// The next character that is not a blank.
  int peek() {
    constexpr std::string_view blanks = " \t\r\n";
    while (at_ < text_.size() && blanks.find(text_[at_]) != std::string_view::npos) ++at_;
    return at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : end;
  }

  void expect(char wanted) {
    if (peek() != wanted) fail(std::string("expected '") + wanted + "'");
    ++at_;
  }

  std::string string(const char* what) {
    const int quote = peek();
    if (quote != '\'' && quote != '"') fail(std::string("expected ") + what);
    const std::size_t close = text_.find(static_cast<char>(quote), at_ + 1);
    if (close == std::string_view::npos) fail("a string without its closing quote");
    std::string value(text_.substr(at_ + 1, close - at_ - 1));
    if (value.find('\\') != std::string::npos) fail("a string with a backslash");
    at_ = close + 1;
    return value;
  }

  bool boolean() {
    peek();
    for (const bool value : {false, true}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    fail("expected True or False");
  }

  void parse_descr(NpyHeader& header) {
    constexpr const char* supported = "expected '<f2', '<f4', '<f8', '<i4' or '<i8' (or with '>')";
    const int first = peek();
    if (first == '[' || first == '(')
      throw IoError(name_, std::string("unsupported structured dtype, ") + supported);
    const std::string descr = string("a dtype in quotes");
    if (descr.find('O') != std::string::npos)
      throw IoError(
          name_, "dtype '" + descr + "' is refused: object arrays hold Python code, " + supported);
    static constexpr std::array<std::pair<std::string_view, NpyType>, 5> types{
        {{"f2", NpyType::float16},
         {"f4", NpyType::float32},
         {"f8", NpyType::float64},
         {"i4", NpyType::int32},
         {"i8", NpyType::int64}}};
    if (descr.size() == 3 && (descr[0] == '<' || descr[0] == '>'))
      for (const auto& [name, type] : types)
        if (descr.substr(1) == name) {
          header.big_endian = descr[0] == '>';
          header.type = type;
          return;
        }
    throw IoError(name_, "unsupported dtype '" + descr + "', " + supported);
  }

  std::ptrdiff_t extent() {
    if (peek() == '-') fail("an extent must be >= 0");
    std::ptrdiff_t value = 0;
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[at_] - '0', &value)) {
        at_ = begin;
        fail("an extent beyond 64 bits");
      }
      ++at_;
    }
    if (at_ == begin) fail("expected an extent");
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // Python 2 wrote its long integers so
    return value;
  }

  std::vector<std::ptrdiff_t> parse_shape() {
    std::vector<std::ptrdiff_t> shape;
    expect('(');
    while (peek() != ')') {
      if (shape.size() == max_rank) fail("more than 64 dimensions");
      shape.push_back(extent());
      // (3) is a number in Python, (3,) is a tuple
      if (peek() != ')' || shape.size() == 1) expect(',');
    }
    ++at_;
    return shape;
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
};

/// Reads and checks the header; the source then stands at the first element.
NpyHeader take_header(const Source& source) {
  if (source.size < magic.size())
    throw IoError(source.name, "has " + std::to_string(source.size) +
                                   " bytes, an NPY file begins with '" + std::string(magic) + "'");
  std::array<char, 12> start{};
  source.take(start.data(), magic.size(), "the magic");
  if (std::string_view(start.data(), magic.size()) != magic)
    throw IoError(source.name, "not an NPY file: begins with '" +
                                   std::string(start.data(), magic.size()) + "', expected '" +
                                   std::string(magic) + "'");
  source.take(start.data(), 2, "the version");
  NpyHeader header;
  header.version = static_cast<unsigned char>(start[0]);
  if (header.version < 1 || header.version > 3 || start[1] != 0)
    throw IoError(source.name, "NPY format " + std::to_string(header.version) + '.' +
                                   std::to_string(static_cast<unsigned char>(start[1])) +
                                   ", expected 1.0, 2.0 or 3.0");
  const std::size_t length_bytes = header.version == 1 ? 2 : 4;
  source.take(start.data(), length_bytes, "the length of the header");
  std::size_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;)
    length = length << 8 | static_cast<unsigned char>(start[i]);
  const std::uint64_t offset = magic.size() + 2 + length_bytes + length;
  if (offset > source.size)
    throw IoError(source.name, "truncated by " + std::to_string(offset - source.size) +
                                   " bytes in the header of " + std::to_string(length) + " bytes");
  if (length > max_header)
    throw IoError(source.name, "header of " + std::to_string(length) + " bytes, must be at most " +
                                   std::to_string(max_header));
  std::string text(length, '\0');
  source.take(text.data(), length, "the header");
  HeaderParser(text, source.name).parse(header);
  header.data_offset = static_cast<std::ptrdiff_t>(offset);

  // Compared in integers where they fit, in double where the shape is absurd anyway.
  const std::string need_text =
      "shape " + shape_text(header.shape) + " of " + type_name(header.type) + " needs ";
  const auto count = element_count(header.shape);
  std::ptrdiff_t need = 0;
  if (!count ||
      __builtin_mul_overflow(*count, static_cast<std::ptrdiff_t>(item_size(header.type)), &need)) {
    double bytes = static_cast<double>(item_size(header.type));
    for (const auto extent : header.shape) bytes *= static_cast<double>(extent);
    throw IoError(source.name, need_text + number_text(bytes) + " bytes, the file has " +
                                   std::to_string(source.size - offset));
  }
  const std::uint64_t have = source.size - offset, wanted = static_cast<std::uint64_t>(need);
  if (have != wanted)
    throw IoError(source.name, (have < wanted ? "truncated by " + std::to_string(wanted - have)
                                              : "too long by " + std::to_string(have - wanted)) +
                                   " bytes: " + need_text + std::to_string(wanted) +
                                   " bytes, the file has " + std::to_string(have));
  header.size = *count;
  return header;
}

/// A number of the file that no type of the language holds.
struct Half {
  std::uint16_t bits;
};

template <class T>
auto load(const char* from, bool big_endian) {
  std::array<char, sizeof(T)> bytes;
  std::memcpy(bytes.data(), from, sizeof(T));
  if (big_endian) std::reverse(bytes.begin(), bytes.end());
  const T value = std::bit_cast<T>(bytes);
  if constexpr (std::same_as<T, Half>)
    return detail::from_float16(value.bits);
  else
    return value;
}

/// True if `value` survives the way to To and back. Bounds first: a float out of range of an
/// integer type must not be converted.
template <class To, class From>
bool exact(From value) {
  if constexpr (std::same_as<To, From>) {
    return true;
  } else if constexpr (std::floating_point<From> && std::integral<To>) {
    const From limit = -static_cast<From>(std::numeric_limits<To>::min());  // a power of two
    return value >= -limit && value < limit && value == std::trunc(value);
  } else if constexpr (std::integral<From> && std::floating_point<To>) {
    const To there = static_cast<To>(value);
    const To limit = -static_cast<To>(std::numeric_limits<From>::min());
    return there < limit && static_cast<From>(there) == value;
  } else if constexpr (std::floating_point<From>) {
    if (!std::isfinite(value)) return true;
    if (std::abs(value) > static_cast<From>(std::numeric_limits<To>::max()) &&
        sizeof(To) < sizeof(From))
      return false;
    return static_cast<From>(static_cast<To>(value)) == value;
  } else {
    return std::in_range<To>(value);
  }
}

template <class To>
constexpr NpyType type_of = std::same_as<To, float>          ? NpyType::float32
                            : std::same_as<To, double>       ? NpyType::float64
                            : std::same_as<To, std::int32_t> ? NpyType::int32
                                                             : NpyType::int64;

template <class From>
std::string value_text(From value) {
  if constexpr (std::integral<From>)
    return std::to_string(value);
  else
    return number_text(value);
}

template <class From, class To>
void take_values(const Source& source, bool big_endian, std::vector<To>& values) {
  if (std::same_as<From, To> && !big_endian) {
    source.take(reinterpret_cast<char*>(values.data()), values.size() * sizeof(To), "the data");
    return;
  }
  constexpr std::size_t chunk = 1 << 16;  // elements
  std::vector<char> bytes(std::min(chunk, values.size()) * sizeof(From));
  for (std::size_t done = 0; done < values.size();) {
    const std::size_t now = std::min(chunk, values.size() - done);
    source.take(bytes.data(), now * sizeof(From), "the data");
    for (std::size_t i = 0; i < now; ++i) {
      const auto value = load<From>(bytes.data() + i * sizeof(From), big_endian);
      if (!exact<To>(value))
        throw IoError(source.name, "element " + std::to_string(done + i) + " = " +
                                       value_text(value) + " is not exact in " +
                                       type_name(type_of<To>));
      values[done + i] = static_cast<To>(value);
    }
    done += now;
  }
}

/// The same array with the other order of its values.
template <class T>
std::vector<T> reordered(const std::vector<T>& values, std::vector<std::ptrdiff_t> shape,
                         Order from) {
  // Fortran order of a shape is C order of the reversed shape: so treat `values` as C order.
  if (from == Order::fortran) std::reverse(shape.begin(), shape.end());
  const std::size_t rank = shape.size();
  std::vector<std::ptrdiff_t> stride(rank), index(rank, 0);
  std::ptrdiff_t step = 1;
  for (std::size_t k = 0; k < rank;
       ++k) {  // stride in the result, where the first index is fastest
    stride[k] = step;
    step *= shape[k];
  }
  std::vector<T> out(values.size());
  std::ptrdiff_t to = 0;
  for (const T value : values) {
    out[static_cast<std::size_t>(to)] = value;
    for (std::size_t k = rank; k-- > 0;) {  // odometer, last index fastest
      to += stride[k];
      if (++index[k] < shape[k]) break;
      to -= stride[k] * shape[k];
      index[k] = 0;
    }
  }
  return out;
}

template <class T>
NpyData<T> take_array(const Source& source, const NpyReadOptions& options) {
  const NpyHeader header = take_header(source);
  const bool reorder = header.order != options.order && header.shape.size() > 1;
  const double need =
      static_cast<double>(header.size) * static_cast<double>(sizeof(T)) * (reorder ? 2 : 1);
  const std::string need_text = "needs " + number_text(need) + " bytes of memory";
  if (!(need <= static_cast<double>(options.memory_limit)))
    throw IoError(source.name,
                  need_text + ", must be at most " + std::to_string(options.memory_limit));
  try {
    NpyData<T> array;
    array.shape = header.shape;
    array.values.resize(static_cast<std::size_t>(header.size));
    switch (header.type) {
      case NpyType::float16:
        take_values<Half>(source, header.big_endian, array.values);
        break;
      case NpyType::float32:
        take_values<float>(source, header.big_endian, array.values);
        break;
      case NpyType::float64:
        take_values<double>(source, header.big_endian, array.values);
        break;
      case NpyType::int32:
        take_values<std::int32_t>(source, header.big_endian, array.values);
        break;
      case NpyType::int64:
        take_values<std::int64_t>(source, header.big_endian, array.values);
        break;
    }
    if (reorder) array.values = reordered(array.values, array.shape, header.order);
    return array;
  } catch (const std::bad_alloc&) {
    throw IoError(source.name, need_text + ", which could not be allocated");
  }
}

}  // namespace

template <class T>
NpyData<T> read_npy(const std::filesystem::path& path, const NpyReadOptions& options) {
  detail::InputFile file(path);
  return take_array<T>(file_source(file), options);
}

template <class T>
NpyData<T> parse_npy(std::string_view bytes, const std::string& name,
                     const NpyReadOptions& options) {
  const Source source{name, bytes.size(), [rest = bytes](char* to, std::size_t count) mutable {
                        const std::size_t now = std::min(count, rest.size());
                        if (now > 0) std::memcpy(to, rest.data(), now);
                        rest.remove_prefix(now);
                        return now;
                      }};
  return take_array<T>(source, options);
}

NpyHeader read_npy_header(const std::filesystem::path& path) {
  detail::InputFile file(path);
  return take_header(file_source(file));
}

template <class T>
void write_npy(const std::filesystem::path& path, std::span<const T> values,
               const std::vector<std::ptrdiff_t>& shape, const NpyWriteOptions& options) {
  constexpr std::string_view function = "write_npy";
  for (std::size_t i = 0; i < shape.size(); ++i)
    detail::require(shape[i] >= 0, function, "shape[" + std::to_string(i) + "]", shape[i], ">= 0");
  detail::require(shape.size() <= max_rank, function, "shape.size()", shape.size(), "<= 64");
  detail::require(options.version >= 1 && options.version <= 3, function, "version",
                  options.version, "1, 2 or 3");
  const auto count = element_count(shape);
  if (!count || *count != std::ssize(values))
    throw ShapeError(function, "values.size()", std::to_string(values.size()),
                     "the product of shape " + shape_text(shape));

  const std::string letter = std::integral<T> ? "i" : "f";
  std::string header = "{'descr': '<" + letter + std::to_string(sizeof(T)) +
                       "', 'fortran_order': " + (options.order == Order::c ? "False" : "True") +
                       ", 'shape': " + shape_text(shape) + ", }";
  const std::size_t length_bytes = options.version == 1 ? 2 : 4;
  // Spaces and a line feed, so that the data begins at a multiple of 64 bytes.
  const std::size_t used = magic.size() + 2 + length_bytes + header.size() + 1;
  header += std::string((64 - used % 64) % 64, ' ') + '\n';
  std::string start(magic);
  start += static_cast<char>(options.version);
  start += '\0';
  for (std::size_t i = 0; i < length_bytes; ++i)
    start += static_cast<char>(header.size() >> 8 * i & 0xFF);
  start += header;
  const std::array<std::string_view, 2> pieces{
      start, std::string_view(reinterpret_cast<const char*>(values.data()), values.size_bytes())};
  write_file_atomic(path, pieces);
}

// The four element types; the instances are the interface.
template NpyData<float> read_npy(const std::filesystem::path&, const NpyReadOptions&);
template NpyData<double> read_npy(const std::filesystem::path&, const NpyReadOptions&);
template NpyData<std::int32_t> read_npy(const std::filesystem::path&, const NpyReadOptions&);
template NpyData<std::int64_t> read_npy(const std::filesystem::path&, const NpyReadOptions&);
template NpyData<float> parse_npy(std::string_view, const std::string&, const NpyReadOptions&);
template NpyData<double> parse_npy(std::string_view, const std::string&, const NpyReadOptions&);
template NpyData<std::int32_t> parse_npy(std::string_view, const std::string&,
                                         const NpyReadOptions&);
template NpyData<std::int64_t> parse_npy(std::string_view, const std::string&,
                                         const NpyReadOptions&);
template void write_npy(const std::filesystem::path&, std::span<const float>,
                        const std::vector<std::ptrdiff_t>&, const NpyWriteOptions&);
template void write_npy(const std::filesystem::path&, std::span<const double>,
                        const std::vector<std::ptrdiff_t>&, const NpyWriteOptions&);
template void write_npy(const std::filesystem::path&, std::span<const std::int32_t>,
                        const std::vector<std::ptrdiff_t>&, const NpyWriteOptions&);
template void write_npy(const std::filesystem::path&, std::span<const std::int64_t>,
                        const std::vector<std::ptrdiff_t>&, const NpyWriteOptions&);

}  // namespace halfulp
