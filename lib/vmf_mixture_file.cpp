#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "detail/sealed.hpp"
#include "detail/vmf.hpp"
#include "detail/vmf_mixture.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/npy.hpp"
#include "halfulp/vmf_mixture.hpp"

namespace halfulp::vmf {
namespace {

constexpr const char* format = "halfulp vmf mixture";
constexpr std::size_t size_limit = std::size_t{1} << 30;

/// Values of an object in a file; what is not as it should be is an IoError with the file's name.
class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path.string()) {
    const std::string text = read_file(path, size_limit);
    object_ = nlohmann::json::parse(text, nullptr, false);
    if (object_.is_discarded()) fail("is not JSON");
    if (!object_.is_object()) fail("is not a JSON object");
  }

  [[noreturn]] void fail(const std::string& reason) const { throw IoError(file_, reason); }

  [[nodiscard]] std::string text(const char* key) const {
    const auto& value = get(key);
    if (!value.is_string()) fail('"' + std::string(key) + "\" is no text");
    return value.get<std::string>();
  }
  [[nodiscard]] std::ptrdiff_t count(const char* key, std::ptrdiff_t least) const {
    const auto& value = get(key);
    constexpr std::int64_t most = std::int64_t{1} << 40;
    if (!value.is_number_integer() || value.get<std::int64_t>() < least ||
        value.get<std::int64_t>() > most)
      fail('"' + std::string(key) + "\" is no whole number from " + std::to_string(least) + " on");
    return static_cast<std::ptrdiff_t>(value.get<std::int64_t>());
  }
  [[nodiscard]] std::vector<double> numbers(const char* key, std::ptrdiff_t n) const {
    const auto& value = get(key);
    if (!value.is_array() || std::ssize(value) != n)
      fail('"' + std::string(key) + "\" is no array of " + std::to_string(n) + " numbers");
    std::vector<double> result;
    for (const auto& each : value) {
      if (!each.is_number()) fail('"' + std::string(key) + "\" has what is no number");
      result.push_back(each.get<double>());
    }
    return result;
  }

 private:
  [[nodiscard]] const nlohmann::json& get(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail('"' + std::string(key) + "\" is missing");
    return *found;
  }

  std::string file_;
  nlohmann::json object_;
};

}  // namespace

void save_mixture(const Mixture& mixture, const std::filesystem::path& folder,
                  std::string_view facts) {
  const std::ptrdiff_t p = detail::check_mixture("vmf::save_mixture", mixture);
  const std::ptrdiff_t k = std::ssize(mixture.components);
  nlohmann::ordered_json added = nlohmann::ordered_json::object();
  if (!facts.empty()) added = nlohmann::ordered_json::parse(facts, nullptr, false);
  if (!added.is_object())
    throw DomainError("vmf::save_mixture", "facts", std::string(facts.substr(0, 60)),
                      "a JSON object");
  std::vector<double> means, kappa;
  for (const Distribution& component : mixture.components) {
    means.insert(means.end(), component.mu.begin(), component.mu.end());
    kappa.push_back(component.kappa);
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw IoError(folder.string(), "cannot be made: " + error.message());
  write_npy<double>(folder / "means.npy", means, {k, p});
  const nlohmann::ordered_json object = {
      {"format", format},
      {"version", 1},
      {"dimension", p},
      {"components", k},
      {"weights", mixture.weights},
      {"kappa", kappa},
      {"means", "means.npy"},
      {"means_digest", detail::digest_of(std::span<const double>(means)).hex()},
      {"facts", added}};
  write_file_atomic(
      folder / "mixture.json",
      object.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
}

Mixture load_mixture(const std::filesystem::path& folder) {
  const Reader reader(folder / "mixture.json");
  if (reader.text("format") != format)
    reader.fail("is not of the format \"" + std::string(format) + '"');
  if (reader.count("version", 1) != 1) reader.fail("has a version that is not 1");
  const std::ptrdiff_t p = reader.count("dimension", 2), k = reader.count("components", 1);
  Mixture mixture;
  mixture.weights = reader.numbers("weights", k);
  const std::vector<double> kappa = reader.numbers("kappa", k);
  const std::filesystem::path file = folder / reader.text("means");
  const NpyArray means = read_npy<double>(file);
  if (means.shape != std::vector<std::ptrdiff_t>{k, p})
    throw IoError(file.string(), "is not an array of " + std::to_string(k) + " rows of " +
                                     std::to_string(p) + " numbers");
  if (detail::digest_of(std::span<const double>(means.values)).hex() != reader.text("means_digest"))
    throw IoError(file.string(), "is not what mixture.json was written with");
  for (std::ptrdiff_t j = 0; j < k; ++j) {
    const auto mean = means.values.begin() + j * p;
    mixture.components.push_back(
        {std::vector<double>(mean, mean + p), kappa[static_cast<std::size_t>(j)]});
  }
  try {
    detail::check_mixture("vmf::load_mixture", mixture);
  } catch (const Error& error) {
    reader.fail(error.what());
  }
  return mixture;
}

}  // namespace halfulp::vmf
