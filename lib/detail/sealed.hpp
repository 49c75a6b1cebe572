#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

/// Bytes on disk that say what they are: a kind, a version, the inputs they belong to, a checksum.
namespace halfulp::detail {

/// 256 bits that tell contents apart. Not cryptographic: for files that were damaged or mixed up,
/// not forged. One changed 64-bit word, wherever it is, always changes it.
struct Digest {
  std::array<std::uint64_t, 4> words{};
  bool operator==(const Digest&) const = default;
  [[nodiscard]] std::string hex() const;
};

[[nodiscard]] Digest digest(std::string_view bytes);

template <class T>
[[nodiscard]] Digest digest_of(std::span<const T> values) {
  static_assert(std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>);
  return digest({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
}

/// Values one after the other, as they lie in memory.
class ByteWriter {
 public:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <class T>
  void put_array(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    put(static_cast<std::uint64_t>(values.size()));
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  template <class T>
  void put_array(const std::vector<T>& values) {
    put_array(std::span<const T>(values));
  }
  void put_text(std::string_view text) { put_array(std::span<const char>(text)); }
  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

/// Likewise back. Throws Damaged where there is less than is asked for.
class ByteReader {
 public:
  struct Damaged : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  template <class T>
  [[nodiscard]] T get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }
  template <class T>
  [[nodiscard]] std::vector<T> get_array() {
    const auto count = get<std::uint64_t>();
    if (count > bytes_.size() / sizeof(T)) throw Damaged("an array is longer than the file");
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), take(count * sizeof(T)), count * sizeof(T));
    return values;
  }
  [[nodiscard]] std::string get_text() {
    const std::vector<char> text = get_array<char>();
    return {text.begin(), text.end()};
  }
  void finish() const {
    if (!bytes_.empty()) throw Damaged("more bytes than expected");
  }

 private:
  const char* take(std::size_t count) {
    if (count > bytes_.size()) throw Damaged("fewer bytes than expected");
    const char* const at = bytes_.data();
    bytes_.remove_prefix(count);
    return at;
  }
  std::string_view bytes_;
};

/// What a file must be to be believed.
struct Seal {
  std::string kind;           ///< at most 8 bytes
  std::uint32_t version = 1;  ///< of the format and of the algorithm whose state it is
  std::string key;            ///< lines `name: value`: all that the content depends on
};

/// The file: seal, payload, checksum.
[[nodiscard]] std::string sealed(const Seal& seal, std::string_view payload);

struct Unsealed {
  enum class Verdict { good, damaged, foreign };
  Verdict verdict = Verdict::damaged;
  std::string reason;        ///< where it is not good
  std::string_view payload;  ///< within `bytes`
};

[[nodiscard]] Unsealed unseal(std::string_view bytes, const Seal& seal);

}  // namespace halfulp::detail
