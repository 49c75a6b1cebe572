#include "detail/setup_cache.hpp"

#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

#include "detail/checkpoint_file.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/info.hpp"
#include "halfulp/text.hpp"

namespace halfulp::detail {
namespace {

namespace fs = std::filesystem;
constexpr std::uint32_t format = 1;
constexpr std::size_t largest_entry = std::size_t{1} << 32;
constexpr std::string_view suffix = ".setup";

}  // namespace

SetupCache::SetupCache(fs::path folder, std::uintmax_t limit)
    : folder_(std::move(folder)), limit_(limit), since_trim_(limit) {
  std::error_code code;
  fs::create_directories(folder_, code);
  if (code || !fs::is_directory(folder_, code))
    throw IoError(folder_.string(), "cannot be made" + (code ? ": " + code.message() : ""));
}

fs::path SetupCache::file(std::string_view kind, const std::string& key) const {
  return folder_ /
         (std::string(kind) + '-' + digest(key).hex().substr(0, 32) + std::string(suffix));
}

std::string SetupCache::problem() const {
  const std::scoped_lock lock(mutex_);
  return problem_;
}

std::optional<std::string> SetupCache::find(std::string_view kind, const std::string& key) {
  const fs::path path = file(kind, key);
  try {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) {
      const std::string bytes = read_file(path, largest_entry);
      const Unsealed there = unseal(bytes, {std::string(kind), format, key});
      if (there.verdict == Unsealed::Verdict::good) {
        ::utimensat(AT_FDCWD, path.c_str(), nullptr, 0);  // used now
        ++hits_;
        return std::string(there.payload);
      }
    }
  } catch (const IoError&) {  // as if it were not there
  }
  ++misses_;
  return {};
}

void SetupCache::keep(std::string_view kind, const std::string& key, std::string_view content) {
  static std::atomic<unsigned> counter{0};
  const std::string bytes = sealed({std::string(kind), format, key}, content);
  if (bytes.size() > limit_) return;
  const fs::path name = folder_ / (".halfulp-" + std::to_string(::getpid()) + '-' +
                                   std::to_string(counter++) + ".tmp");
  // Not synchronised with the disk: what a power cut damages is found by its checksum.
  const int fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool good = fd >= 0;
  for (std::string_view rest = bytes; good && !rest.empty();) {
    const ssize_t count = ::write(fd, rest.data(), rest.size());
    if (count < 0 && errno == EINTR) continue;
    good = count > 0;
    if (good) rest.remove_prefix(static_cast<std::size_t>(count));
  }
  if (fd >= 0) good = ::close(fd) == 0 && good;
  good = good && ::rename(name.c_str(), file(kind, key).c_str()) == 0;
  const std::scoped_lock lock(mutex_);
  if (!good) {
    if (problem_.empty())
      problem_ = folder_.string() +
                 ": the set-up cannot be kept: " + std::generic_category().message(errno);
    if (fd >= 0) ::unlink(name.c_str());
    return;
  }
  since_trim_ += bytes.size();
  if (since_trim_ > limit_ / 16) trim();
}

void SetupCache::trim() {
  since_trim_ = 0;
  struct Entry {
    fs::path path;
    std::uintmax_t size;
    fs::file_time_type used;
  };
  std::vector<Entry> entries;
  std::uintmax_t total = 0;
  std::error_code code;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator it(folder_, code), end; !code && it != end; it.increment(code)) {
    const fs::path& path = it->path();
    std::error_code gone;  // by another process, meanwhile
    const auto size = fs::file_size(path, gone);
    const auto used = fs::last_write_time(path, gone);
    if (gone) continue;
    const bool temporary = path.filename().string().starts_with(".halfulp-");
    if (temporary && now - used > std::chrono::hours(1)) fs::remove(path, gone);
    if (path.extension() != suffix) continue;
    entries.push_back({path, size, used});
    total += size;
  }
  if (total <= limit_) return;
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= limit_ - limit_ / 10) break;
    std::error_code gone;
    fs::remove(entry.path, gone);
    total -= entry.size;
  }
}

void put_matrix(ByteWriter& out, const DdMatrix& a) {
  const auto size = static_cast<std::size_t>(a.rows() * a.cols());
  out.put(static_cast<std::int64_t>(a.rows()));
  out.put(static_cast<std::int64_t>(a.cols()));
  out.put_array(std::span<const double>(size > 0 ? a.hi(0) : nullptr, size));
  out.put_array(std::span<const double>(size > 0 ? a.lo(0) : nullptr, size));
}

DdMatrix get_matrix(ByteReader& in) {
  const auto rows = in.get<std::int64_t>(), columns = in.get<std::int64_t>();
  const std::vector<double> hi = in.get_array<double>(), lo = in.get_array<double>();
  if (rows < 0 || columns < 0 || hi.size() != lo.size() ||
      (columns > 0 && static_cast<std::int64_t>(hi.size()) / columns != rows) ||
      static_cast<std::int64_t>(hi.size()) != rows * columns)
    throw ByteReader::Damaged("a matrix of another size");
  DdMatrix a(rows, columns);
  if (!hi.empty()) {
    std::copy(hi.begin(), hi.end(), a.hi(0));
    std::copy(lo.begin(), lo.end(), a.lo(0));
  }
  return a;
}

std::string exact_text(dd value) { return hex_text(value.hi) + '+' + hex_text(value.lo); }

std::string matrix_text(const DdMatrix& a) {
  const auto size = static_cast<std::size_t>(a.rows() * a.cols());
  std::string text = std::to_string(a.rows()) + " x " + std::to_string(a.cols());
  if (size > 0)
    text += ' ' + digest_of(std::span<const double>(a.hi(0), size)).hex() + ' ' +
            digest_of(std::span<const double>(a.lo(0), size)).hex();
  return text;
}

namespace {

/// The linker's identification of the program or library that this code is in, in hex.
std::string build_identification() {
  struct Search {
    std::uintptr_t here;
    std::string found;
  } search{reinterpret_cast<std::uintptr_t>(&build_identification), {}};
  ::dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* data) {
        auto& s = *static_cast<Search*>(data);
        bool inside = false;
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const auto& p = object->dlpi_phdr[i];
          const std::uintptr_t begin = object->dlpi_addr + p.p_vaddr;
          inside = inside || (p.p_type == PT_LOAD && s.here >= begin && s.here < begin + p.p_memsz);
        }
        if (!inside) return 0;
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const auto& p = object->dlpi_phdr[i];
          if (p.p_type != PT_NOTE) continue;
          // The loader gives addresses as numbers. NOLINTNEXTLINE(performance-no-int-to-ptr)
          const char* at = reinterpret_cast<const char*>(object->dlpi_addr + p.p_vaddr);
          const char* const end = at + p.p_memsz;
          while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof note);
            const auto padded = [](std::size_t n) { return (n + 3) & ~std::size_t{3}; };
            const char* const name = at + sizeof note;
            const char* const content = name + padded(note.n_namesz);
            if (content + note.n_descsz > end) break;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
                std::memcmp(name, "GNU", 4) == 0) {
              constexpr std::string_view digits = "0123456789abcdef";
              for (std::size_t k = 0; k < note.n_descsz; ++k) {
                const auto byte = static_cast<unsigned char>(content[k]);
                s.found += digits[byte >> 4];
                s.found += digits[byte & 15];
              }
              return 1;
            }
            at = content + padded(note.n_descsz);
          }
        }
        return 1;
      },
      &search);
  return search.found;
}

}  // namespace

const std::string& build_key() {
  static const std::string key =
      info().version + ' ' + build_identification() + ", " + arithmetic_name();
  return key;
}

std::shared_ptr<const FourierBasis> make_basis(dd lower, dd upper,
                                               std::span<const gp_pde::Band> bands,
                                               const BasisOptions& o, SetupCache* cache) {
  const auto make = [&] { return std::make_shared<const FourierBasis>(lower, upper, bands, o); };
  if (cache == nullptr) return make();
  std::string key = "build: " + build_key() + "\ninterval: " + exact_text(lower) + ' ' +
                    exact_text(upper) + "\nbands:";
  for (const gp_pde::Band& b : bands) key += ' ' + hex_text(b.lower) + ' ' + hex_text(b.upper);
  key += "\nkernel: " + std::to_string(static_cast<int>(o.kernel)) +
         "\nextension: " + hex_text(o.extension) + "\nmargin: " + hex_text(o.margin) +
         "\ntolerance: " + hex_text(o.tolerance) + "\nmost modes: " + std::to_string(o.max_modes) +
         "\nscattered: " + std::to_string(o.scattered) +
         "\nperiodic: " + std::to_string(o.periodic) + '\n';
  return cached(
      cache, "basis", key, make,
      [](ByteWriter& out, const std::shared_ptr<const FourierBasis>& basis) { basis->put(out); },
      [&](ByteReader& in) { return std::make_shared<const FourierBasis>(in, o.threads); });
}

}  // namespace halfulp::detail
