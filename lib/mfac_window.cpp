#include "halfulp/mfac_window.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "detail/mfac_factor.hpp"
#include "detail/mfac_gradients.hpp"
#include "detail/mfac_rows.hpp"
#include "detail/mfac_window.hpp"
#include "detail/require.hpp"
#include "detail/sealed.hpp"
#include "halfulp/error.hpp"
#include "halfulp/file.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac {
namespace {

using halfulp::detail::require;
using halfulp::detail::require_finite;
using halfulp::detail::require_size;

std::size_t at(std::ptrdiff_t i) { return static_cast<std::size_t>(i); }

void check_damping(std::string_view function, double damping) {
  require(damping >= 0x1p-500 && damping <= 0x1p500, function, "damping", damping,
          "in [2^-500, 2^500]");
}

halfulp::detail::Seal seal() { return {"mfacwin", 2, "window: of gradients\n"}; }

}  // namespace

struct Window::State {
  WindowOptions options;
  Gradients rows;          ///< m, a ring: gradient number t in row t mod m
  std::int64_t added = 0;  ///< gradients so far, since the last clear
  detail::Factor factor;
  std::vector<float> single;  ///< the newest gradient, where it is held in 16 bits

  State(std::ptrdiff_t m, std::ptrdiff_t d, const WindowOptions& o)
      : options(o), rows(Gradients::zeros(m, d, o.storage)), factor(m) {
    if (detail::item_size(o.storage) == 2)
      single.resize(at((d + detail::mfac_step - 1) / detail::mfac_step * detail::mfac_step));
  }

  [[nodiscard]] std::ptrdiff_t size() const { return rows.rows(); }
  [[nodiscard]] std::ptrdiff_t dimension() const { return rows.dimension(); }
  [[nodiscard]] std::ptrdiff_t count() const { return factor.count(); }
  /// Where row i of the window, from the oldest, is held.
  [[nodiscard]] std::ptrdiff_t place(std::ptrdiff_t i) const {
    return static_cast<std::ptrdiff_t>((added - count() + i) % size());
  }
  [[nodiscard]] double normaliser(std::ptrdiff_t n) const {
    return static_cast<double>(
        options.normalisation == Normalisation::window ? size() : std::max<std::ptrdiff_t>(n, 1));
  }
  [[nodiscard]] detail::Damped damped() const {
    return detail::damped(factor, options.damping, normaliser(count()), options.threads);
  }
  void need(std::string_view function) {
    if (count() == 0) throw DomainError(function, "count()", "0", ">= 1: the window is empty");
    factor.refresh();
  }

  // What detail::inverse_product asks of rows.
  template <class T>
  void project(std::span<const T> x, std::ptrdiff_t k, std::span<double> out,
               std::span<double> squares) const {
    const std::ptrdiff_t n = count();
    std::vector<double> placed(at(n * k));
    detail::project<T>(rows.first(n), {0, dimension()}, x, k, Accumulation::float64,
                       options.threads, placed, squares);
    for (std::ptrdiff_t c = 0; c < k; ++c)
      for (std::ptrdiff_t i = 0; i < n; ++i) out[at(c * n + i)] = placed[at(c * n + place(i))];
  }
  template <class T>
  void combine(std::span<const double> a, std::ptrdiff_t k, double scale, std::span<const T> x,
               std::span<T> y) const {
    const std::ptrdiff_t n = count();
    std::vector<double> placed(at(n * k));
    for (std::ptrdiff_t c = 0; c < k; ++c)
      for (std::ptrdiff_t i = 0; i < n; ++i) placed[at(c * n + place(i))] = a[at(c * n + i)];
    detail::combine<T>(rows.first(n), {0, dimension()}, placed, k, scale, x, Accumulation::float64,
                       options.threads, y);
  }
  template <class T>
  [[nodiscard]] bool equal(std::ptrdiff_t i, const T* x) const {
    const Gradients::Data& data = rows.data();
    const std::byte* const row =
        data.numbers + place(i) * data.stride * detail::item_size(data.storage);
    for (std::ptrdiff_t j = 0; j < dimension(); ++j)
      if (detail::number_at(data.storage, row, j) != static_cast<double>(x[j])) return false;
    return true;
  }

  template <class T>
  void add(std::string_view function, std::span<const T> gradient) {
    require_size(function, "gradient", std::ssize(gradient), dimension());
    const double norm = detail::norm_of<T>(gradient, options.threads);
    if (!std::isfinite(norm)) require_finite<T>(function, "gradient", gradient);
    require(norm <= 0x1p500, function, "|gradient|", norm, "<= 2^500");
    const std::ptrdiff_t n = count(), m = size(), d = dimension();
    const std::ptrdiff_t after = std::min(n + 1, m), kept = after - 1;
    const auto to = static_cast<std::ptrdiff_t>(added % m);
    try {
      rows.set_row(to, gradient);
    } catch (const DomainError&) {  // too large for the storage; nothing was written
      refuse(function, gradient);
    }
    // Products with what is stored, in its own type.
    const Gradients::Data& data = rows.data();
    const std::byte* const row = data.numbers + to * data.stride * detail::item_size(data.storage);
    std::vector<double> placed(at(after)), products(at(kept));
    const auto project = [&]<class X>(const X* x) {
      detail::project<X>(rows.first(after), {0, d}, std::span<const X>(x, at(d)), 1,
                         Accumulation::float64, options.threads, placed);
    };
    if (data.storage == Storage::float64) {
      project(reinterpret_cast<const double*>(row));
    } else if (data.storage == Storage::float32) {
      project(reinterpret_cast<const float*>(row));
    } else {
      detail::mfac_convert(data.storage, row, d, 1.0, single.data());
      project(static_cast<const float*>(single.data()));
    }
    const std::int64_t oldest = added - kept;
    for (std::ptrdiff_t i = 0; i < kept; ++i)
      products[at(i)] = placed[at(static_cast<std::ptrdiff_t>((oldest + i) % m))];
    factor.set_shift(options.damping * normaliser(after));
    factor.push(products, placed[at(to)]);
    ++added;
  }

  template <class T>
  [[noreturn]] void refuse(std::string_view function, std::span<const T> gradient) const {
    Gradients one = Gradients::zeros(1, 1, options.storage);
    for (std::size_t j = 0; j < gradient.size(); ++j) {
      try {
        one.set_row(0, gradient.subspan(j, 1));
      } catch (const DomainError&) {
        throw DomainError(function, "gradient[" + std::to_string(j) + "]", number_text(gradient[j]),
                          "finite in " + std::string(to_string(options.storage)));
      }
    }
    throw DomainError(function, "gradient", "one", "finite once rounded");
  }

  template <class T>
  Diagnosis inverse_newest(std::string_view function, std::span<T> y) {
    require_size(function, "y", std::ssize(y), dimension());
    need(function);
    return detail::inverse_newest<T>(*this, factor, damped(), y);
  }
  template <class T>
  Diagnosis inverse_combination(std::span<const double> a, std::span<T> y) {
    constexpr std::string_view function = "mfac::Window::inverse_combination";
    require_size(function, "a", std::ssize(a), count());
    require_size(function, "y", std::ssize(y), dimension());
    need(function);
    require_finite(function, "a", a);
    std::vector<double> solved(a.begin(), a.end());
    factor.solve(solved);
    return detail::pushed_through<T>(*this, factor, damped(), a, std::move(solved), y);
  }
  template <class T>
  Diagnosis inverse_product(std::span<const T> x, std::span<T> y) {
    constexpr std::string_view function = "mfac::Window::inverse_product";
    need(function);
    return detail::inverse_product<T>(*this, factor, damped(), function, x, y);
  }
  template <class T>
  Diagnosis step(std::span<const T> gradient, std::span<T> out) {
    constexpr std::string_view function = "mfac::Window::step";
    require_size(function, "out", std::ssize(out), dimension());
    add<T>(function, gradient);
    return inverse_newest(function, out);
  }
};

Window::Window(std::ptrdiff_t m, std::ptrdiff_t d, const WindowOptions& options) {
  constexpr std::string_view function = "mfac::Window";
  require(m >= 1 && m <= 1 << 20, function, "m", m, "in 1 ... 2^20");
  require(d >= 1, function, "d", d, ">= 1");
  check_damping(function, options.damping);
  (void)thread_count(options.threads);
  state_ = std::make_unique<State>(m, d, options);
}
Window::Window(std::unique_ptr<State> state) : state_(std::move(state)) {}
Window::~Window() = default;
Window::Window(Window&&) noexcept = default;
Window& Window::operator=(Window&&) noexcept = default;

std::ptrdiff_t Window::size() const { return state_->size(); }
std::ptrdiff_t Window::dimension() const { return state_->dimension(); }
std::ptrdiff_t Window::count() const { return state_->count(); }
const WindowOptions& Window::options() const { return state_->options; }
double Window::normaliser() const { return state_->normaliser(count()); }

Gradients Window::gradients() const {
  require(count() > 0, "mfac::Window::gradients", "count()", count(), ">= 1");
  return state_->rows.first(count());
}

void Window::row(std::ptrdiff_t row, std::span<double> out) const {
  constexpr std::string_view function = "mfac::Window::row";
  require(row >= 0 && row < count(), function, "row", row,
          "in 0 ... count() - 1 = " + std::to_string(count() - 1));
  require_size(function, "out", std::ssize(out), dimension());
  state_->rows.row(state_->place(row), out);
}

void Window::add(std::span<const double> gradient) { state_->add("mfac::Window::add", gradient); }
void Window::add(std::span<const float> gradient) { state_->add("mfac::Window::add", gradient); }
Diagnosis Window::step(std::span<const double> gradient, std::span<double> out) {
  return state_->step(gradient, out);
}
Diagnosis Window::step(std::span<const float> gradient, std::span<float> out) {
  return state_->step(gradient, out);
}
Diagnosis Window::inverse_product(std::span<const double> x, std::span<double> y) {
  return state_->inverse_product(x, y);
}
Diagnosis Window::inverse_product(std::span<const float> x, std::span<float> y) {
  return state_->inverse_product(x, y);
}
Diagnosis Window::inverse_newest(std::span<double> y) {
  return state_->inverse_newest("mfac::Window::inverse_newest", y);
}
Diagnosis Window::inverse_newest(std::span<float> y) {
  return state_->inverse_newest("mfac::Window::inverse_newest", y);
}
Diagnosis Window::inverse_combination(std::span<const double> a, std::span<double> y) {
  return state_->inverse_combination(a, y);
}
Diagnosis Window::inverse_combination(std::span<const double> a, std::span<float> y) {
  return state_->inverse_combination(a, y);
}

double Window::newest_curvature() {
  state_->need("mfac::Window::newest_curvature");
  const detail::Factor& factor = state_->factor;
  const std::ptrdiff_t last = count() - 1;
  double excess = factor.gram(last, last);  // pivot^2 - M lambda
  for (std::ptrdiff_t j = 0; j < last; ++j)
    excess -= factor.element(last, j) * factor.element(last, j);
  const double pivot = factor.element(last, last), square = pivot * pivot;
  return normaliser() * std::clamp(excess / square, 0.0, 1.0);
}

Diagnosis Window::diagnosis() {
  state_->need("mfac::Window::diagnosis");
  return detail::diagnose(state_->factor);
}
double Window::factor_residual() {
  state_->need("mfac::Window::factor_residual");
  return state_->factor.residual();
}
double Window::smallest_pivot() {
  state_->need("mfac::Window::smallest_pivot");
  return state_->factor.smallest_pivot();
}
std::int64_t Window::factorisations() const { return state_->factor.factorisations(); }

void Window::set_damping(double damping) {
  check_damping("mfac::Window::set_damping", damping);
  state_->options.damping = damping;
  state_->factor.set_shift(damping * normaliser());
}

void Window::clear() {
  state_->factor.clear();
  state_->added = 0;
}

void Window::save(const std::filesystem::path& file) const {
  halfulp::detail::ByteWriter writer;
  writer.put(static_cast<std::int64_t>(size()));
  writer.put(static_cast<std::int64_t>(dimension()));
  writer.put(options().damping);
  writer.put(static_cast<std::uint8_t>(options().storage));
  writer.put(static_cast<std::uint8_t>(options().normalisation));
  writer.put(state_->added);
  state_->factor.save(writer);
  const Gradients::Data& data = state_->rows.data();
  const std::ptrdiff_t item = detail::item_size(data.storage);
  for (std::ptrdiff_t i = 0; i < count(); ++i)
    writer.put_array(std::span<const std::byte>(
        data.numbers + state_->place(i) * data.stride * item, at(dimension() * item)));
  write_file_atomic(file, halfulp::detail::sealed(seal(), writer.bytes()));
}

Window Window::load(const std::filesystem::path& file, int threads) {
  using halfulp::detail::ByteReader;
  using Damaged = ByteReader::Damaged;
  (void)thread_count(threads);
  const std::string bytes = read_file(file, std::numeric_limits<std::size_t>::max());
  const auto unsealed = halfulp::detail::unseal(bytes, seal());
  if (unsealed.verdict != halfulp::detail::Unsealed::Verdict::good)
    throw IoError(file.string(), unsealed.reason);
  try {
    ByteReader reader(unsealed.payload);
    const auto m = reader.get<std::int64_t>(), d = reader.get<std::int64_t>();
    WindowOptions options;
    options.damping = reader.get<double>();
    const auto storage = reader.get<std::uint8_t>(), normalisation = reader.get<std::uint8_t>();
    const auto added = reader.get<std::int64_t>();
    if (m < 1 || m > 1 << 20 || d < 1 || storage > 3 || normalisation > 1 ||
        !(options.damping >= 0x1p-500 && options.damping <= 0x1p500))
      throw Damaged("no window has such options");
    options.storage = static_cast<Storage>(storage);
    options.normalisation = static_cast<Normalisation>(normalisation);
    options.threads = threads;
    detail::Factor factor = detail::Factor::load(reader);
    if (factor.capacity() != m || added < factor.count())
      throw Damaged("its factor is of another window");
    auto state = std::make_unique<State>(m, d, options);
    state->added = added;
    state->factor = std::move(factor);
    const Gradients::Data& data = state->rows.data();
    const std::ptrdiff_t item = detail::item_size(data.storage);
    for (std::ptrdiff_t i = 0; i < state->count(); ++i) {
      const std::vector<std::byte> row = reader.get_array<std::byte>();
      if (std::ssize(row) != d * item) throw Damaged("a gradient of another dimension");
      std::copy(row.begin(), row.end(), data.owner.get() + state->place(i) * data.stride * item);
    }
    reader.finish();
    return Window(std::move(state));
  } catch (const Damaged& error) {
    throw IoError(file.string(), error.what());
  }
}

}  // namespace halfulp::mfac
