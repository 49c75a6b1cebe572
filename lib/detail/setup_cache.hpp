#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "detail/dd_linalg.hpp"
#include "detail/fourier_basis.hpp"
#include "detail/sealed.hpp"

/// Parts of the set-up on disk, addressed by all that enters them.
namespace halfulp::detail {

/// A folder of sealed files, one an entry, named by the digest of its key; the key itself is in the
/// file and is compared. What is damaged or foreign counts as absent and is written anew. Any
/// number of processes and threads may share a folder: an entry appears by a rename. Where the
/// entries exceed the limit, those not used for longest go.
class SetupCache {
 public:
  /// @throws IoError  the folder can be neither found nor made
  SetupCache(std::filesystem::path folder, std::uintmax_t limit);

  [[nodiscard]] std::optional<std::string> find(std::string_view kind, const std::string& key);
  /// What cannot be written is not kept; problem() then says why.
  void keep(std::string_view kind, const std::string& key, std::string_view content);
  [[nodiscard]] int hits() const { return hits_; }
  [[nodiscard]] int misses() const { return misses_; }
  [[nodiscard]] std::string problem() const;

 private:
  [[nodiscard]] std::filesystem::path file(std::string_view kind, const std::string& key) const;
  void trim();
  std::filesystem::path folder_;
  std::uintmax_t limit_;
  std::atomic<int> hits_{0}, misses_{0};
  mutable std::mutex mutex_;
  std::string problem_;
  std::uintmax_t since_trim_;  ///< bytes written
};

/// `make()`, or what an earlier call with the same key made. Kept if making took longer than
/// reading would.
/// @param  write  (ByteWriter&, const T&)
/// @param  read   (ByteReader&) -> T
template <class Make, class Write, class Read>
[[nodiscard]] auto cached(SetupCache* cache, std::string_view kind, const std::string& key,
                          Make&& make, Write&& write, Read&& read) -> decltype(make()) {
  constexpr double worth_keeping = 5e-3;  // seconds: several times what a read takes
  if (cache == nullptr) return make();
  if (const auto content = cache->find(kind, key)) {
    try {
      ByteReader in(*content);
      auto value = read(in);
      in.finish();
      return value;
    } catch (const ByteReader::Damaged&) {  // by another program with the same version: make it
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  auto value = make();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  if (seconds.count() > worth_keeping) {
    ByteWriter out;
    write(out, value);
    cache->keep(kind, key, out.bytes());
  }
  return value;
}

void put_matrix(ByteWriter& out, const DdMatrix& a);
[[nodiscard]] DdMatrix get_matrix(ByteReader& in);
/// Lines of a key: an exact number, a matrix by its digest.
[[nodiscard]] std::string exact_text(dd value);
[[nodiscard]] std::string matrix_text(const DdMatrix& a);
/// What bits depend on beside the inputs: this build, the processor, the linear algebra.
[[nodiscard]] const std::string& build_key();

/// FourierBasis(lower, upper, bands, options), through a cache if there is one.
[[nodiscard]] std::shared_ptr<const FourierBasis> make_basis(dd lower, dd upper,
                                                             std::span<const gp_pde::Band> bands,
                                                             const BasisOptions& options,
                                                             SetupCache* cache);

}  // namespace halfulp::detail
