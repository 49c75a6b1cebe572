#include "detail/sealed.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>

namespace halfulp::detail {
namespace {

constexpr std::uint64_t odd[4] = {0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9,
                                  0xd6e8feb86659fd93};
constexpr std::uint32_t byte_order = 0x01020304;
constexpr std::size_t name_size = 16;
constexpr std::string_view family = "halfulp-";
constexpr std::size_t digest_size = sizeof(Digest::words);

using Lanes = std::array<std::uint64_t, 4>;

/// Each lane is a bijection of its word, and of its state.
void absorb(Lanes& lanes, const char* at) {
  for (int k = 0; k < 4; ++k) {
    std::uint64_t word = 0;
    std::memcpy(&word, at + 8 * k, 8);
    lanes[k] = std::rotl(lanes[k] ^ word, 29) * odd[k];
  }
}

/// A bijection in which every bit reaches every other (the quarter round of BLAKE2b).
void mix(Lanes& v) {
  v[0] += v[1];
  v[3] = std::rotr(v[3] ^ v[0], 32);
  v[2] += v[3];
  v[1] = std::rotr(v[1] ^ v[2], 24);
  v[0] += v[1];
  v[3] = std::rotr(v[3] ^ v[0], 16);
  v[2] += v[3];
  v[1] = std::rotr(v[1] ^ v[2], 63);
}

/// The first line in which two keys differ, for people.
std::string difference(std::string_view there, std::string_view here) {
  const auto line = [](std::string_view& text) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view first = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return first;
  };
  while (!there.empty() || !here.empty()) {
    const std::string_view a = line(there), b = line(here);
    if (a == b) continue;
    const std::size_t name = a.find(": ");
    if (name != std::string_view::npos && b.substr(0, name + 2) == a.substr(0, name + 2))
      return std::string(a) + ", here " + std::string(b.substr(name + 2));
    return std::string(a) + ", here " + std::string(b);
  }
  return "nothing";
}

}  // namespace

std::string Digest::hex() const {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const std::uint64_t word : words)
    for (int shift = 60; shift >= 0; shift -= 4) text += digits[(word >> shift) & 15];
  return text;
}

Digest digest(std::string_view bytes) {
  Lanes lanes{odd[3], odd[0], odd[1], odd[2] ^ bytes.size()};
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) absorb(lanes, bytes.data() + i);
  if (i < bytes.size()) {
    char last[32] = {};
    std::memcpy(last, bytes.data() + i, bytes.size() - i);
    absorb(lanes, last);
  }
  for (int round = 0; round < 8; ++round) mix(lanes);
  return {lanes};
}

std::string sealed(const Seal& seal, std::string_view payload) {
  std::string name = std::string(family) + seal.kind;
  name.resize(name_size, ' ');
  ByteWriter out;
  for (const char c : name) out.put(c);
  out.put(byte_order);
  out.put(seal.version);
  out.put_text(seal.key);
  out.put_text(payload);
  const Digest check = digest(out.bytes());
  out.put(check.words);
  return out.bytes();
}

Unsealed unseal(std::string_view bytes, const Seal& seal) {
  using Verdict = Unsealed::Verdict;
  const auto damaged = [](std::string reason) {
    return Unsealed{Verdict::damaged, std::move(reason), {}};
  };
  const auto foreign = [](std::string reason) {
    return Unsealed{Verdict::foreign, std::move(reason), {}};
  };
  if (bytes.size() < name_size + 8 + 16 + digest_size)
    return damaged("it has only " + std::to_string(bytes.size()) + " bytes");
  if (bytes.substr(0, family.size()) != family)
    return damaged("it is no file that halfulp has saved");
  const std::string_view body = bytes.substr(0, bytes.size() - digest_size);
  Digest check;
  std::memcpy(check.words.data(), bytes.data() + body.size(), digest_size);
  ByteReader in(body.substr(name_size));
  if (in.get<std::uint32_t>() != byte_order) return foreign("its bytes are in another order");
  if (!(check == digest(body))) return damaged("its checksum is wrong");
  std::string kind(bytes.substr(family.size(), name_size - family.size()));
  kind.erase(kind.find_last_not_of(' ') + 1);
  if (kind != seal.kind) return foreign("it is one of " + kind + ", not of " + seal.kind);
  const auto version = in.get<std::uint32_t>();
  if (version != seal.version)
    return foreign("its format has the version " + std::to_string(version) + ", this program's " +
                   std::to_string(seal.version));
  const std::string key = in.get_text();
  if (key != seal.key) return foreign(difference(key, seal.key));
  const auto size = in.get<std::uint64_t>();
  const std::size_t begin = name_size + 8 + 8 + key.size() + 8;
  if (size != body.size() - begin) return damaged("its length is wrong");
  return {Verdict::good, "", body.substr(begin)};
}

}  // namespace halfulp::detail
