#include "halfulp/mfac_sparse.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "detail/mfac_factor.hpp"
#include "detail/mfac_gradients.hpp"
#include "detail/mfac_window.hpp"
#include "detail/require.hpp"
#include "halfulp/error.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using halfulp::detail::require;
using halfulp::detail::require_finite;
using halfulp::detail::require_size;

constexpr std::ptrdiff_t block = 1 << 16;  // columns that an index of 16 bits tells apart

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }
std::uint32_t magnitude(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7fffffffU; }

}  // namespace

struct SparseWindow::State {
  SparseOptions options;
  std::ptrdiff_t m, d, blocks;
  std::int64_t added = 0;
  detail::Factor factor;
  std::vector<float> error, sum;  ///< e, and a while it is cut down
  // Row by row, in the places of a ring: k numbers and indices within their block, and how many
  // numbers are before each block.
  std::vector<std::uint16_t> index, half;
  std::vector<float> single;
  std::vector<std::uint32_t> begin;

  State(std::ptrdiff_t size, std::ptrdiff_t dimension, const SparseOptions& o)
      : options(o),
        m(size),
        d(dimension),
        blocks((dimension + block - 1) / block),
        factor(size),
        error(at(dimension), 0.0F),
        sum(at(dimension), 0.0F),
        index(at(size * o.k)),
        half(o.storage == Storage::bfloat16 ? at(size * o.k) : 0),
        single(o.storage == Storage::float32 ? at(size * o.k) : 0),
        begin(at(size * (blocks + 1))) {}

  [[nodiscard]] std::ptrdiff_t count() const { return factor.count(); }
  [[nodiscard]] std::ptrdiff_t dimension() const { return d; }
  [[nodiscard]] std::ptrdiff_t place(std::ptrdiff_t i) const {
    return static_cast<std::ptrdiff_t>((added - count() + i) % m);
  }
  [[nodiscard]] double normaliser(std::ptrdiff_t n) const {
    return static_cast<double>(
        options.normalisation == Normalisation::window ? m : std::max<std::ptrdiff_t>(n, 1));
  }
  [[nodiscard]] detail::Damped damped() const {
    return detail::damped(factor, options.damping, normaliser(count()), options.threads);
  }
  [[nodiscard]] double value(std::ptrdiff_t i) const {
    return half.empty() ? single[at(i)] : detail::from_bfloat16(half[at(i)]);
  }
  /// body(column within the block, value) for the numbers of a place in a block.
  template <class Body>
  void each(std::ptrdiff_t place, std::ptrdiff_t b, const Body& body) const {
    const std::uint32_t* const from = begin.data() + place * (blocks + 1) + b;
    for (std::ptrdiff_t i = from[0]; i < std::ptrdiff_t{from[1]}; ++i)
      body(std::ptrdiff_t{index[at(place * options.k + i)]}, value(place * options.k + i));
  }
  void need(std::string_view function) {
    if (count() == 0) throw DomainError(function, "count()", "0", ">= 1: the window is empty");
    factor.refresh();
  }

  /// out[i] = row of places[i] . x_c; blocks in a number of lanes that depends on theirs alone.
  template <class Get>
  void dots(std::span<const std::ptrdiff_t> places, const Get& get, std::span<double> out) const {
    const std::ptrdiff_t lanes = std::min<std::ptrdiff_t>(blocks, 64), n = std::ssize(places);
    std::vector<double> sums(at(lanes * n), 0.0);
    parallel_for(lanes, options.threads, [&](std::ptrdiff_t lane) {
      for (std::ptrdiff_t b = blocks * lane / lanes; b < blocks * (lane + 1) / lanes; ++b)
        for (std::ptrdiff_t i = 0; i < n; ++i) {
          double part = 0;
          each(places[at(i)], b,
               [&](std::ptrdiff_t j, double v) { part += v * get(b * block + j); });
          sums[at(lane * n + i)] += part;
        }
    });
    for (std::ptrdiff_t i = 0; i < n; ++i) {
      out[at(i)] = 0;
      for (std::ptrdiff_t lane = 0; lane < lanes; ++lane) out[at(i)] += sums[at(lane * n + i)];
    }
  }

  // What detail::inverse_product asks of rows.
  template <class T>
  void project(std::span<const T> x, std::ptrdiff_t k, std::span<double> out,
               std::span<double> squares) const {
    std::vector<std::ptrdiff_t> places;
    for (std::ptrdiff_t i = 0; i < count(); ++i) places.push_back(place(i));
    for (std::ptrdiff_t c = 0; c < k; ++c) {
      const T* const from = x.data() + c * d;
      dots(
          places, [&](std::ptrdiff_t j) { return static_cast<double>(from[j]); },
          out.subspan(at(c * count()), at(count())));
      if (squares.empty()) continue;
      const double norm = detail::norm_of<T>(x.subspan(at(c * d), at(d)), options.threads);
      squares[at(c)] = norm * norm;
    }
  }
  template <class T>
  void combine(std::span<const double> a, std::ptrdiff_t k, double scale, std::span<const T> x,
               std::span<T> y) const {
    const std::ptrdiff_t n = count();
    for (std::ptrdiff_t c = 0; c < k; ++c)
      parallel_for(blocks, options.threads, [&](std::ptrdiff_t b) {
        const std::ptrdiff_t first = b * block, width = std::min(block, d - first);
        std::vector<double> total(at(width), 0.0);
        for (std::ptrdiff_t i = 0; i < n; ++i) {
          const double factor_i = a[at(c * n + i)];
          each(place(i), b, [&](std::ptrdiff_t j, double v) { total[at(j)] += factor_i * v; });
        }
        for (std::ptrdiff_t j = 0; j < width; ++j) {
          const std::size_t to = at(c * d + first + j);
          const double given = x.empty() ? 0.0 : scale * static_cast<double>(x[to]);
          y[to] = static_cast<T>(given + total[at(j)]);
        }
      });
  }
  template <class T>
  [[nodiscard]] bool equal(std::ptrdiff_t i, const T* x) const {
    std::vector<double> row(at(d), 0.0);
    fill(place(i), row);
    for (std::ptrdiff_t j = 0; j < d; ++j)
      if (row[at(j)] != static_cast<double>(x[j])) return false;
    return true;
  }
  void fill(std::ptrdiff_t place, std::span<double> out) const {
    std::fill(out.begin(), out.end(), 0.0);
    for (std::ptrdiff_t b = 0; b < blocks; ++b)
      each(place, b, [&](std::ptrdiff_t j, double v) { out[at(b * block + j)] = v; });
  }

  void add(std::span<const float> gradient) {
    constexpr std::string_view function = "mfac::SparseWindow::add";
    require_size(function, "gradient", std::ssize(gradient), d);
    require_finite<float>(function, "gradient", gradient);
    for (std::ptrdiff_t j = 0; j < d; ++j) {
      sum[at(j)] = error[at(j)] + gradient[at(j)];
      if (std::fabs(sum[at(j)]) <= 0x1.fep127F)
        continue;  // bfloat16 rounds larger ones to infinity
      throw DomainError(function, "gradient[" + std::to_string(j) + "] + error",
                        static_cast<double>(sum[at(j)]), "of magnitude <= 2^127.99");
    }
    // The k-th largest magnitude, by its digits: three histograms.
    std::uint32_t prefix = 0, mask = 0;
    std::ptrdiff_t left = options.k;
    for (const int shift : {20, 10, 0}) {
      const int bits = shift == 20 ? 11 : 10;
      std::vector<std::ptrdiff_t> counts(std::size_t{1} << bits, 0);
      const std::uint32_t digit = (1U << bits) - 1;
      for (const float value : sum)
        if ((magnitude(value) & mask) == prefix) ++counts[magnitude(value) >> shift & digit];
      std::uint32_t bin = digit;
      while (counts[bin] < left) left -= counts[bin--];
      prefix |= bin << shift;
      mask |= digit << shift;
    }
    // `left` of those that are exactly as large, the first ones.
    const std::ptrdiff_t n = count(), after = std::min(n + 1, m), kept = after - 1;
    const auto to = static_cast<std::ptrdiff_t>(added % m);
    std::uint32_t* const starts = begin.data() + to * (blocks + 1);
    std::ptrdiff_t next = 0;
    for (std::ptrdiff_t j = 0; j < d; ++j) {
      if (j % block == 0) starts[j / block] = static_cast<std::uint32_t>(next);
      const std::uint32_t size = magnitude(sum[at(j)]);
      float stored = 0;
      if (size > prefix || (size == prefix && left > 0)) {
        if (size == prefix) --left;
        const std::ptrdiff_t i = to * options.k + next++;
        index[at(i)] = static_cast<std::uint16_t>(j % block);
        if (half.empty())
          single[at(i)] = sum[at(j)];
        else
          half[at(i)] = detail::to_bfloat16(sum[at(j)]);
        stored = static_cast<float>(value(i));
      }
      error[at(j)] = sum[at(j)] - stored;  // exact: a rounding of sum is near it
      sum[at(j)] = stored;
    }
    starts[blocks] = static_cast<std::uint32_t>(next);
    std::vector<std::ptrdiff_t> places;
    for (std::ptrdiff_t i = 0; i < kept; ++i)
      places.push_back(static_cast<std::ptrdiff_t>((added - kept + i) % m));
    places.push_back(to);
    std::vector<double> products(at(after));
    dots(
        places, [&](std::ptrdiff_t j) { return double{sum[at(j)]}; }, products);
    factor.set_shift(options.damping * normaliser(after));
    factor.push(std::span<const double>(products).first(at(kept)), products.back());
    ++added;
  }

  template <class T>
  Diagnosis inverse_newest(std::span<T> y) {
    constexpr std::string_view function = "mfac::SparseWindow::inverse_newest";
    require_size(function, "y", std::ssize(y), d);
    need(function);
    return detail::inverse_newest<T>(*this, factor, damped(), y);
  }
  template <class T>
  Diagnosis inverse_product(std::span<const T> x, std::span<T> y) {
    constexpr std::string_view function = "mfac::SparseWindow::inverse_product";
    need(function);
    return detail::inverse_product<T>(*this, factor, damped(), function, x, y);
  }
};

SparseWindow::SparseWindow(std::ptrdiff_t m, std::ptrdiff_t d, const SparseOptions& options) {
  constexpr std::string_view function = "mfac::SparseWindow";
  require(m >= 1 && m <= 1 << 20, function, "m", m, "in 1 ... 2^20");
  require(d >= 1, function, "d", d, ">= 1");
  require(options.k >= 1 && options.k <= d && options.k < std::ptrdiff_t{1} << 32, function, "k",
          options.k, "in 1 ... d, and below 2^32");
  require(options.damping >= 0x1p-500 && options.damping <= 0x1p500, function, "damping",
          options.damping, "in [2^-500, 2^500]");
  if (options.storage != Storage::float32 && options.storage != Storage::bfloat16)
    throw DomainError(function, "storage", to_string(options.storage), "fp32 or bf16");
  (void)thread_count(options.threads);
  state_ = std::make_unique<State>(m, d, options);
}
SparseWindow::~SparseWindow() = default;
SparseWindow::SparseWindow(SparseWindow&&) noexcept = default;
SparseWindow& SparseWindow::operator=(SparseWindow&&) noexcept = default;

std::ptrdiff_t SparseWindow::size() const { return state_->m; }
std::ptrdiff_t SparseWindow::dimension() const { return state_->d; }
std::ptrdiff_t SparseWindow::count() const { return state_->count(); }
double SparseWindow::normaliser() const { return state_->normaliser(count()); }
const SparseOptions& SparseWindow::options() const { return state_->options; }
void SparseWindow::row(std::ptrdiff_t row, std::span<double> out) const {
  require(row >= 0 && row < count(), "mfac::SparseWindow::row", "row", row,
          "in 0 ... count() - 1 = " + std::to_string(count() - 1));
  require_size("mfac::SparseWindow::row", "out", std::ssize(out), dimension());
  state_->fill(state_->place(row), out);
}
std::span<const float> SparseWindow::error() const { return state_->error; }
std::size_t SparseWindow::memory_bytes() const {
  const State& s = *state_;
  return (s.index.size() + s.half.size()) * 2 +
         (s.single.size() + s.begin.size() + s.error.size() + s.sum.size()) * 4 +
         s.factor.memory_bytes();
}
void SparseWindow::add(std::span<const float> gradient) { state_->add(gradient); }
Diagnosis SparseWindow::inverse_product(std::span<const double> x, std::span<double> y) {
  return state_->inverse_product(x, y);
}
Diagnosis SparseWindow::inverse_product(std::span<const float> x, std::span<float> y) {
  return state_->inverse_product(x, y);
}
Diagnosis SparseWindow::inverse_newest(std::span<double> y) { return state_->inverse_newest(y); }
Diagnosis SparseWindow::inverse_newest(std::span<float> y) { return state_->inverse_newest(y); }
Diagnosis SparseWindow::diagnosis() {
  state_->need("mfac::SparseWindow::diagnosis");
  return detail::diagnose(state_->factor);
}

}  // namespace halfulp::mfac
