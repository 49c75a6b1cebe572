#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

/// Whole files: read with a limit, written all or not at all.
namespace halfulp {

/// The bytes of a file. Pipes and devices are read to their end.
/// @param  limit  the largest size accepted, in bytes
/// @throws        IoError if it cannot be opened or read, is a directory, or is larger than limit
[[nodiscard]] std::string read_file(const std::filesystem::path& path, std::size_t limit);

/// Replaces or creates a file so that a reader, or a crash, sees the old bytes or the new ones and
/// never a part: temporary file in the same directory, fsync, rename, fsync of the directory.
/// A symbolic link stays one and its target is replaced; the mode of an existing file is kept.
/// What is not a regular file (a pipe, /dev/stdout) is written directly.
/// @throws  IoError, with nothing left behind
void write_file_atomic(const std::filesystem::path& path, std::string_view bytes);
/// Likewise for the concatenation of several pieces.
void write_file_atomic(const std::filesystem::path& path, std::span<const std::string_view> pieces);

}  // namespace halfulp
