#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "detail/descriptor.hpp"

namespace halfulp::detail {

/// A file open for reading from its start; every failure is an IoError that names it.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] bool regular() const { return regular_; }
  /// Bytes in a regular file; 0 for anything else.
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Reads until `count` bytes came or the file ended; returns how many came.
  std::size_t read(char* to, std::size_t count);
  /// Likewise from byte `from` on, wherever `read` stands; from several threads at once if need be.
  std::size_t read_at(std::uint64_t from, char* to, std::size_t count) const;
  /// Lets the system begin to read so many bytes from byte `from` on. Advice: it may do nothing.
  void will_read(std::uint64_t from, std::uint64_t count) const;

 private:
  std::string name_;
  Descriptor file_;
  bool regular_ = false;
  std::uint64_t size_ = 0;
};

}  // namespace halfulp::detail
