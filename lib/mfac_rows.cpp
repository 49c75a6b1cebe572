#include "detail/mfac_rows.hpp"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "detail/mfac_rows_simd.hpp"
#include "halfulp/threads.hpp"

namespace halfulp::mfac::detail {
namespace {

/// Numbers in the caches. What is in it depends on nothing that was in it before.
template <class T>
class Array {
 public:
  T* resized(std::ptrdiff_t n) {
    if (n > size_) {
      numbers_ = hwy::AllocateAligned<T>(static_cast<std::size_t>(n));
      if (!numbers_) throw std::bad_alloc();
      size_ = n;
    }
    return numbers_.get();
  }
  T* get() { return numbers_.get(); }

 private:
  hwy::AlignedFreeUniquePtr<T[]> numbers_;
  std::ptrdiff_t size_ = 0;
};

constexpr std::ptrdiff_t round_up(std::ptrdiff_t n, std::ptrdiff_t to) {
  return (n + to - 1) / to * to;
}

/// Rows of an array in the caches: one line more, so that they do not begin at the same place of a
/// page and share few places of the first cache.
template <class T>
constexpr std::ptrdiff_t padded(std::ptrdiff_t width) {
  return round_up(width, mfac_step) + 64 / static_cast<std::ptrdiff_t>(sizeof(T));
}

template <class T>
constexpr Storage storage_of = sizeof(T) == 8 ? Storage::float64 : Storage::float32;
template <class T>
const std::byte* bytes_of(const T* numbers) {
  return reinterpret_cast<const std::byte*>(numbers);
}

/// Tiles of consecutive columns: where they lie, or of a file, read in larger pieces.
class Reader {
 public:
  Reader(const Gradients::Data& data, Columns columns, std::vector<std::byte>& buffer)
      : data_(data), columns_(columns), buffer_(buffer) {}

  Rows rows(std::ptrdiff_t begin, std::ptrdiff_t end) {
    const std::ptrdiff_t size = item_size(data_.storage);
    if (!data_.file) {
      const Tile here = tile(data_, 0, data_.rows, begin, end, buffer_);
      return {data_.storage, here.numbers, here.stride,
              data_.rows,    end - begin,  columns_.end - end};
    }
    if (begin < window_.begin || end > window_.end) {
      const auto width = [&](std::ptrdiff_t bytes) {
        const std::ptrdiff_t fitting = bytes / (size * std::max<std::ptrdiff_t>(data_.rows, 1));
        return std::max(fitting / least_width * least_width, end - begin);
      };
      window_ = {begin, std::min(begin + width(window_bytes), columns_.end)};
      if (window_.begin == columns_.begin) advised_ = window_.begin;
      while (advised_ < std::min(window_.end + width(ahead_bytes) / 2, columns_.end)) {
        const std::ptrdiff_t next = std::min(width(ahead_bytes), columns_.end - advised_);
        for (std::ptrdiff_t i = 0; i < data_.rows; ++i)
          data_.file->will_read(
              data_.offset + static_cast<std::uint64_t>((i * data_.stride + advised_) * size),
              static_cast<std::uint64_t>(next * size));
        advised_ += next;
      }
      read_ = tile(data_, 0, data_.rows, window_.begin, window_.end, buffer_);
    }
    return {data_.storage, read_.numbers + (begin - window_.begin) * size,
            read_.stride,  data_.rows,
            end - begin,   window_.end - end};
  }

 private:
  // What is read stays in the caches, and what the disk is asked for keeps it busy meanwhile.
  static constexpr std::ptrdiff_t window_bytes = std::ptrdiff_t{1} << 22;
  static constexpr std::ptrdiff_t ahead_bytes = std::ptrdiff_t{1} << 24;
  static constexpr std::ptrdiff_t least_width = 4096;

  const Gradients::Data& data_;
  Columns columns_;
  Columns window_;
  std::ptrdiff_t advised_ = 0;
  Tile read_;
  std::vector<std::byte>& buffer_;
};

/// What threads work with, made when there is none left over: fresh memory costs as much as the
/// work on it.
template <class Work>
class Pool {
 public:
  /// Calls body(work).
  template <class Make, class Body>
  void with(const Make& make, const Body& body) {
    std::unique_ptr<Work> work;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        work = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!work) work = std::make_unique<Work>(make());
    body(*work);
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(work));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Work>> free_;
};

/// Adds up what make()(sums, rows, begin) adds to sums, `size` numbers, of tiles of `width`
/// columns, `begin` the first of them: those of consecutive tiles one after the other, in a number
/// of lanes that depends on the numbers of tiles and results only, then the lanes in a tree. size:
/// results, and room that one way to form them takes.
template <class Make>
std::vector<double> sum_of_tiles(const Gradients& gradients, Columns columns, std::ptrdiff_t width,
                                 std::ptrdiff_t results, std::ptrdiff_t size,
                                 std::ptrdiff_t most_lanes, int threads, const Progress& progress,
                                 const Make& make) {
  constexpr std::string_view caller = "mfac";
  constexpr const char* phase = "products of gradients";
  const std::ptrdiff_t tiles = (columns.end - columns.begin + width - 1) / width;
  const std::ptrdiff_t lanes = std::clamp<std::ptrdiff_t>(
      tiles, 1,
      std::clamp<std::ptrdiff_t>((1 << 19) / std::max<std::ptrdiff_t>(results, 1),
                                 std::min<std::ptrdiff_t>(16, most_lanes), most_lanes));
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(lanes));
  std::atomic<std::ptrdiff_t> done{0};
  const auto starter = std::this_thread::get_id();
  const auto report = [&] {
    if (progress && std::this_thread::get_id() == starter)
      report_progress(progress, static_cast<double>(done) / static_cast<double>(tiles), phase,
                      caller);
  };
  if (tiles > 0) report();
  struct Work {
    decltype(make()) add;
    std::vector<std::byte> buffer;
  };
  Pool<Work> pool;
  parallel_for(lanes, threads, [&](std::ptrdiff_t lane) {
    std::vector<double>& sum = sums[static_cast<std::size_t>(lane)];
    sum.assign(static_cast<std::size_t>(size), 0.0);
    const auto column = [&](std::ptrdiff_t t) {
      return std::min(columns.begin + t * width, columns.end);
    };
    const std::ptrdiff_t first = tiles * lane / lanes, last = tiles * (lane + 1) / lanes;
    pool.with(
        [&] {
          return Work{make(), {}};
        },
        [&](Work& work) {
          Reader reader(gradients.data(), {column(first), column(last)}, work.buffer);
          for (std::ptrdiff_t t = first; t < last; ++t) {
            report();
            work.add(sum.data(), reader.rows(column(t), column(t + 1)), column(t));
            ++done;
          }
        });
  });
  parallel_blocks(lanes > 1 ? size : 0, 4096, threads,
                  [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                    for (std::ptrdiff_t step = 1; step < lanes; step *= 2)
                      for (std::ptrdiff_t i = 0; i + step < lanes; i += 2 * step) {
                        double* const to = sums[static_cast<std::size_t>(i)].data();
                        const double* const from = sums[static_cast<std::size_t>(i + step)].data();
                        for (std::ptrdiff_t j = begin; j < end; ++j) to[j] += from[j];
                      }
                  });
  return std::move(sums[0]);
}

/// Rows from row `first` on, columns [from, from + rows.n) or what there is of them.
void send_rows(const Rows& rows, std::ptrdiff_t from, std::ptrdiff_t first, Ahead& ahead) {
  const std::ptrdiff_t size = item_size(rows.storage);
  const std::ptrdiff_t n = std::min(rows.n, rows.n + rows.ahead - from);
  for (std::ptrdiff_t i = first; i < rows.m; ++i)
    ahead.add(rows.numbers + (i * rows.stride + from) * size, n * size);
}

/// A power of two that brings what is at most `largest` to about 2^target, and its inverse: squares
/// of small floats are zero.
struct Scale {
  double factor = 1;
  double inverse = 1;
  Scale() = default;
  /// most: the largest power of two, and the inverse of the least, that the type scaled has.
  Scale(double largest, int target, int most) {
    if (!(largest > 0) || !std::isfinite(largest)) return;
    const int e = std::clamp(std::ilogb(largest) - target, -most, most);
    factor = std::ldexp(1.0, -e);
    inverse = std::ldexp(1.0, e);
  }
};
constexpr int float_exponents = 126, double_exponents = 1022;
/// Of factors of gradients in float, which are not scaled themselves: 2^-149 to 2^60 stays well
/// within the range, and sums beyond it are formed again in double.
constexpr int factor_target = 60;

/// Whether rows of numbers of `size` bytes may be multiplied where they lie, `panel` of them at a
/// time: whole vectors that begin where lines do, and rows that are spread over the caches, in
/// which 8 lines at the same place modulo 4 KiB (the first) or 128 KiB have room.
bool well_placed(const Rows& rows, std::ptrdiff_t size, std::ptrdiff_t panel) {
  if (reinterpret_cast<std::uintptr_t>(rows.numbers) % 64 != 0 || rows.stride * size % 64 != 0 ||
      rows.n % mfac_step != 0)
    return false;
  constexpr std::ptrdiff_t page = 4096, pages = 32;
  for (std::ptrdiff_t near = 1; near < 6; ++near)
    if (near * rows.stride * size % page == 0) return false;
  std::array<std::ptrdiff_t, pages> bytes{};
  for (std::ptrdiff_t i = 0; i < std::min(rows.m, panel); ++i)
    bytes[static_cast<std::size_t>(i * rows.stride * size / page % pages)] += rows.n * size;
  return *std::max_element(bytes.begin(), bytes.end()) <= 6 * page;
}

/// The Gram matrix of a tile, formed in T from the second cache, `panel` rows against four at a
/// time: where they lie, or copied, as double where that is what they are held as and as float
/// else. Or, of what is held as T or as fewer digits and where registers are few, panel against
/// panel, unless of few rows what packing takes is much beside the products.
template <class T>
class GramTile {
 public:
  /// scaled: each row by a power of two, as the range of float may need.
  GramTile(std::ptrdiff_t m, int threads, bool scaled, bool by_panels)
      : m_(m), threads_(threads), scaled_(scaled), by_panels_(by_panels) {}

  /// Whether tiles are multiplied panel against panel, which are not scaled.
  static bool by_panels(std::ptrdiff_t m, Storage storage, bool scaled) {
    if (scaled || mfac_panel_rows<T>() == 0) return false;
    return sizeof(T) == 8 ? storage == Storage::float64 : storage != Storage::float32 || m > 128;
  }

  /// Of few rows this tile and the next fit into the second cache; of many a panel does, and sums
  /// are folded less often.
  static std::ptrdiff_t width(std::ptrdiff_t m, Storage storage) {
    return (m <= 128 ? 3072 : 8192) / (storage == Storage::float64 ? 8 : 4);
  }
  /// Numbers that add() adds to: the products in the order in which it comes to them, which memory
  /// sends ahead. unpack() has them as a matrix.
  static std::ptrdiff_t size(std::ptrdiff_t m, bool by_panels) {
    const Block block = block_of(by_panels);
    std::ptrdiff_t numbers = 0;
    for_groups(m, block,
               [&](const Group& group) { numbers = group.at + block.rows * group.columns; });
    return numbers;
  }
  /// out[i + m j] = g_i . g_j for i >= j; the rest is left as it is.
  static void unpack(const double* sums, std::ptrdiff_t m, bool by_panels, std::span<double> out) {
    const Block block = block_of(by_panels);
    for_groups(m, block, [&](const Group& group) {
      for (std::ptrdiff_t c = 0; c < group.columns; ++c)
        for (std::ptrdiff_t i = std::max(group.row, group.column + c); i < group.row + group.rows;
             ++i)
          out[i + m * (group.column + c)] = sums[group.at + block.rows * c + i - group.row];
    });
  }

  void add(const Rows& rows, double* sums) {
    if (by_panels_) return add_panels(rows, sums);
    if constexpr (sizeof(T) == 8)
      if (rows.storage == Storage::float64) return add_as<double>(rows, sums);
    add_as<float>(rows, sums);
  }

 private:
  static constexpr std::ptrdiff_t R = mfac_dots_rows;
  static constexpr std::ptrdiff_t panel = 60;  // a multiple of 4 and of 6

  /// Rows at a time, and columns that they are multiplied with before the next ones.
  struct Block {
    std::ptrdiff_t rows, columns;
  };
  static Block block_of(bool by_panels) {
    return by_panels ? Block{mfac_panel_rows<T>(), mfac_panel_rows<T>()} : Block{R, panel};
  }

  /// Up to block.rows rows against up to block.columns columns.
  struct Group {
    std::ptrdiff_t task, row, rows, column, columns;
    std::ptrdiff_t at;  ///< of the first product; those of a column are block.rows apart
  };
  template <class Body>
  static void for_groups(std::ptrdiff_t m, Block block, const Body& body) {
    std::ptrdiff_t task = 0, at = 0;
    for (std::ptrdiff_t column = 0; column < m; column += block.columns)
      for (std::ptrdiff_t first = column; first < m; first += block.columns, ++task)
        for (std::ptrdiff_t i = first; i < std::min(first + block.columns, m); i += block.rows) {
          const std::ptrdiff_t rows = std::min(block.rows, m - i);
          const std::ptrdiff_t columns =
              std::min(std::min(column + block.columns, m), i + rows) - column;
          body(Group{task, i, rows, column, columns, at});
          at += block.rows * columns;
        }
  }
  /// Calls body(group), with a thread for each task.
  template <class Body>
  void for_groups(Block block, const Body& body) const {
    const std::ptrdiff_t panels = (m_ + block.columns - 1) / block.columns;
    parallel_for(threads_ == 1 ? 1 : panels * (panels + 1) / 2, threads_, [&](std::ptrdiff_t task) {
      for_groups(m_, block, [&](const Group& group) {
        if (threads_ == 1 || group.task == task) body(group);
      });
    });
  }

  template <class Held>
  struct Operand {
    const Held* numbers;
    std::ptrdiff_t stride;
  };

  template <class Held>
  void add_as(const Rows& rows, double* sums) {
    const Operand<Held> operand = operand_of<Held>(rows);
    if (sizeof(T) == 8 || threads_ > 1 || mfac_panel_rows<T>() == 0)
      return for_groups({R, panel}, [&](const Group& group) {
        multiply(rows, operand, group, sums + group.at, nullptr);
      });
    // What groups use next: rows where they lie, of this tile and then of the next one.
    const bool copied = bytes_of(operand.numbers) != rows.numbers;
    Ahead ahead(copied ? m_ : 6 * R);
    if (!copied)
      for (std::ptrdiff_t column = 0; column < m_; column += panel)
        send_rows(rows, 0, column, ahead);
    if (rows.ahead > 0) send_rows(rows, rows.n, 0, ahead);
    for_groups({R, panel}, [&](const Group& group) {
      if (!copied) ahead.use(group.rows);
      multiply(rows, operand, group, sums + group.at, &ahead);
    });
  }

  void add_panels(const Rows& rows, double* sums) {
    const std::ptrdiff_t step = mfac_panel_rows<T>(), size = mfac_panel_size<T>(rows.n);
    const std::ptrdiff_t panels = (m_ + step - 1) / step;
    T* const packed = reinterpret_cast<T*>(packed_.resized(panels * size * sizeof(T) / 8));
    parallel_for(threads_ == 1 ? 1 : panels, threads_, [&](std::ptrdiff_t i) {
      for (std::ptrdiff_t p = i; p < (threads_ == 1 ? panels : i + 1); ++p)
        mfac_pack(rows, p * step, packed + p * size);
    });
    for_groups({step, step}, [&](const Group& group) {
      mfac_panel_products(packed + group.row / step * size, static_cast<int>(group.rows),
                          packed + group.column / step * size, static_cast<int>(group.columns),
                          rows.n, sums + group.at, step);
    });
  }

  template <class Held>
  Operand<Held> operand_of(const Rows& rows) {
    if (!scaled_ && rows.storage == storage_of<Held> && well_placed(rows, sizeof(Held), panel))
      return {reinterpret_cast<const Held*>(rows.numbers), rows.stride};
    const std::ptrdiff_t stride = padded<Held>(rows.n);
    Held* const packed =
        reinterpret_cast<Held*>(packed_.resized(m_ * stride * sizeof(Held) / sizeof(double)));
    scales_.assign(static_cast<std::size_t>(m_), {});
    parallel_blocks(m_, threads_ == 1 ? m_ : 16, threads_,
                    [&](std::ptrdiff_t first, std::ptrdiff_t last) {
                      for (std::ptrdiff_t i = first; i < last; ++i)
                        pack(rows, i, packed + i * stride);
                    });
    return {packed, stride};
  }

  template <class Held>
  void pack(const Rows& rows, std::ptrdiff_t i, Held* packed) {
    const std::byte* const row = rows.numbers + i * rows.stride * item_size(rows.storage);
    const double largest = mfac_convert(rows.storage, row, rows.n, 1.0, packed);
    if (!scaled_) return;
    Scale& scale = scales_[static_cast<std::size_t>(i)];
    scale = Scale(largest, 0, float_exponents);
    mfac_convert(rows.storage, row, rows.n, scale.factor, packed);
  }

  template <class Held>
  void multiply(const Rows& all, const Operand<Held>& operand, const Group& group, double* sums,
                Ahead* send) const {
    const Held* rows[R];
    for (std::ptrdiff_t r = 0; r < R; ++r)
      rows[r] = operand.numbers + std::min(group.row + r, m_ - 1) * operand.stride;
    const auto count = static_cast<int>(group.rows);
    const Held* const others = operand.numbers + group.column * operand.stride;
    const std::ptrdiff_t n = round_up(all.n, mfac_step), k = group.columns;
    const std::ptrdiff_t ahead = std::min(all.n, all.ahead);
    const bool diagonal = group.row < group.column + panel;
    const std::ptrdiff_t some = send == nullptr ? 12 : panel;
    double some_sums[R * panel];
    double* const to = scaled_ ? some_sums : sums;
    if (scaled_) std::fill_n(some_sums, R * k, 0.0);
    for (std::ptrdiff_t c = 0; c < k; c += some) {
      // the same rows of the next tile, a part at a time
      if (diagonal && send == nullptr)
        mfac_prefetch(all, group.row, group.row + count, all.n + ahead * c / k,
                      all.n + ahead * std::min(c + some, k) / k);
      mfac_dots<T>(rows, count, others + c * operand.stride, operand.stride, std::min(some, k - c),
                   n, to + R * c, R, send);
    }
    for (std::ptrdiff_t c = 0; scaled_ && c < k; ++c)
      for (std::ptrdiff_t r = 0; r < count; ++r)
        sums[R * c + r] += to[R * c + r] * inverse(group.row + r) * inverse(group.column + c);
  }
  [[nodiscard]] double inverse(std::ptrdiff_t i) const {
    return scales_[static_cast<std::size_t>(i)].inverse;
  }

  std::ptrdiff_t m_;
  int threads_;
  bool scaled_, by_panels_;
  Array<double> packed_;
  std::vector<Scale> scales_;
};

constexpr std::ptrdiff_t batch = 32;  // right-hand sides of a tile at a time
// Fewer do not make up for what packing takes.
constexpr std::ptrdiff_t least_by_panels = 7, least_combined = 4;

/// Products of a tile with k vectors.
template <class T, class X>
class ProjectTile {
 public:
  ProjectTile(const X* x, std::ptrdiff_t d, std::ptrdiff_t k) : x_(x), d_(d), k_(k) {}

  static std::ptrdiff_t width(std::ptrdiff_t k) { return k <= 3 ? 8192 : 2048; }

  /// sums[m c + i] += g_i . x_c of the columns from `begin` on, of any number.
  void add(const Rows& rows, std::ptrdiff_t begin, double* sums, double* squares) {
    for (std::ptrdiff_t j = 0; j < rows.n; j += width(k_)) {
      Rows part = rows;
      part.numbers += j * item_size(rows.storage);
      part.n = std::min(width(k_), rows.n - j);
      part.ahead = rows.n - j - part.n + rows.ahead;
      for (std::ptrdiff_t c = 0; c < k_; c += batch)
        add(part, begin + j, c, std::min(batch, k_ - c), sums + rows.m * c,
            squares == nullptr ? nullptr : squares + c);
    }
  }

 private:
  const std::byte* vector(std::ptrdiff_t c, std::ptrdiff_t begin) const {
    return bytes_of(x_ + c * d_ + begin);
  }

  void add(const Rows& rows, std::ptrdiff_t begin, std::ptrdiff_t first, std::ptrdiff_t k,
           double* sums, double* squares) {
    if (squares != nullptr)
      for (std::ptrdiff_t c = 0; c < k; ++c)
        squares[c] += mfac_square(storage_of<X>, vector(first + c, begin), rows.n);
    const Rows vectors{storage_of<X>, vector(first, begin), d_, k, rows.n, rows.ahead};
    // Doubles, and of fewer digits, which are converted once, when they are packed.
    const bool by_panels = k >= least_by_panels && mfac_panel_rows<T>() > 0 &&
                           (sizeof(T) == 8 || rows.storage != Storage::float32);
    if constexpr (sizeof(T) == 8)
      if (by_panels) return panel_products(rows, vectors, sums);
    const std::ptrdiff_t stride = padded<T>(rows.n);
    T* const packed = packed_.resized(k * stride);
    if constexpr (sizeof(T) == 8) {
      for (std::ptrdiff_t c = 0; c < k; ++c)
        mfac_convert(storage_of<X>, vector(first + c, begin), rows.n, 1.0, packed + c * stride);
      products(rows, vectors, packed, stride, sums);
    } else {
      double* const scaled = scaled_.resized(rows.m * k);
      std::fill_n(scaled, rows.m * k, 0.0);
      std::vector<Scale> scales;
      for (std::ptrdiff_t c = 0; c < k; ++c) {
        const std::byte* const x = vector(first + c, begin);
        // Numbers near 1 are scaled in one pass.
        Scale scale(1.0, factor_target, float_exponents);
        double largest = 0;
        if constexpr (sizeof(X) == 4)
          largest = mfac_convert(storage_of<X>, x, rows.n, scale.factor, packed + c * stride);
        if (!(largest > 0x1p40 && largest < 0x1p64)) {
          scale = Scale(mfac_largest(storage_of<X>, x, rows.n), factor_target,
                        sizeof(X) == 8 ? double_exponents : float_exponents);
          mfac_convert(storage_of<X>, x, rows.n, scale.factor, packed + c * stride);
        }
        scales.push_back(scale);
      }
      if (by_panels)
        panel_products(rows, {storage_of<T>, bytes_of(packed), stride, k, rows.n, 0}, scaled);
      else
        products(rows, vectors, packed, stride, scaled);
      if (std::all_of(scaled, scaled + rows.m * k, [](double s) { return std::isfinite(s); })) {
        for (std::ptrdiff_t c = 0; c < k; ++c)
          for (std::ptrdiff_t i = 0; i < rows.m; ++i)
            sums[rows.m * c + i] +=
                scaled[rows.m * c + i] * scales[static_cast<std::size_t>(c)].inverse;
      } else {  // beyond the range of float
        ProjectTile<double, X>(x_ + first * d_, d_, k).add(rows, begin, sums, nullptr);
      }
    }
  }

  /// Some rows at a time, while memory sends rows to come, and the vectors of the next tile.
  void products(const Rows& rows, const Rows& vectors, const T* packed, std::ptrdiff_t stride,
                double* out) const {
    const std::ptrdiff_t k = vectors.m;
    if (k > 3 && mfac_panel_rows<T>() > 0) {
      constexpr std::ptrdiff_t R = mfac_dots_rows;
      Ahead ahead(6 * R);
      send_rows(rows, 0, 0, ahead);
      if (rows.ahead > 0) {
        send_rows(vectors, rows.n, 0, ahead);
        send_rows(rows, rows.n, 0, ahead);
      }
      for (std::ptrdiff_t i = 0; i < rows.m; i += R) {
        ahead.use(R);
        mfac_project(rows, i, std::min(i + R, rows.m), packed, stride, k, out, &ahead);
      }
      return;
    }
    const std::ptrdiff_t some = k <= 3 ? rows.m : mfac_combine_rows;
    for (std::ptrdiff_t i = 0; i < rows.m; i += some) {
      const std::ptrdiff_t last = std::min(i + some, rows.m);
      if (some < rows.m)
        mfac_prefetch(vectors, k * i / rows.m, k * last / rows.m, rows.n,
                      rows.n + std::min(rows.n, rows.ahead));
      mfac_project(rows, i, last, packed, stride, k, out, nullptr);
    }
  }

  /// out[m c + i] += g_i . v_c for all rows, a panel of them at a time.
  void panel_products(const Rows& rows, const Rows& v, double* out) {
    const std::ptrdiff_t step = mfac_panel_rows<T>(), size = mfac_panel_size<T>(rows.n);
    T* const panel = panels_.resized((1 + (v.m + step - 1) / step) * size);
    T* const others = panel + size;
    for (std::ptrdiff_t c = 0; c < v.m; c += step) mfac_pack(v, c, others + c / step * size);
    for (std::ptrdiff_t i = 0; i < rows.m; i += step) {
      mfac_pack(rows, i, panel);
      for (std::ptrdiff_t c = 0; c < v.m; c += step)
        mfac_panel_products(panel, static_cast<int>(std::min(step, rows.m - i)),
                            others + c / step * size, static_cast<int>(std::min(step, v.m - c)),
                            rows.n, out + rows.m * c + i, rows.m);
    }
  }

  const X* x_;
  std::ptrdiff_t d_, k_;
  Array<T> packed_, panels_;
  Array<double> scaled_;
};

/// Factors of rows, `k` times m of them, each padded with zeros.
template <class T>
struct Factors {
  std::ptrdiff_t stride;
  std::vector<T> values;
  std::vector<Scale> scales;
  std::vector<T> packed;  ///< of each batch as mfac_combine_packed reads them, where it does
  std::vector<double> inverses;

  Factors(const double* a, std::ptrdiff_t m, std::ptrdiff_t k)
      : stride(round_up(m, mfac_combine_rows)), values(static_cast<std::size_t>(k * stride), T{0}) {
    for (std::ptrdiff_t c = 0; c < k; ++c) {
      const double* const row = a + c * m;
      scales.emplace_back();
      if constexpr (sizeof(T) == 4)
        scales.back() = Scale(mfac_largest(Storage::float64, bytes_of(row), m), factor_target,
                              double_exponents);
      for (std::ptrdiff_t i = 0; i < m; ++i)
        values[static_cast<std::size_t>(c * stride + i)] =
            static_cast<T>(row[i] * scales.back().factor);
      inverses.push_back(scales.back().inverse);
    }
    if (mfac_panel_rows<T>() == 0) return;
    for (std::ptrdiff_t first = 0; first < k; first += batch) {
      const std::ptrdiff_t some = std::min(batch, k - first), groups = mfac_groups(some);
      for (std::ptrdiff_t group = 0; group < groups; ++group)
        for (std::ptrdiff_t i = 0; i < m; ++i)
          for (std::ptrdiff_t c = some * group / groups; c < some * (group + 1) / groups; ++c)
            packed.push_back(values[static_cast<std::size_t>((first + c) * stride + i)]);
    }
  }
};

template <class T>
class CombineTile {
 public:
  CombineTile(const Factors<T>& factors, const double* a, std::ptrdiff_t m)
      : factors_(factors), a_(a), m_(m) {}

  static std::ptrdiff_t width(std::ptrdiff_t k) { return k == 1 ? 8192 : k <= 3 ? 4096 : 768; }

  /// Sums of the rows with factors first ... first + k - 1, k <= batch; each `stride` apart.
  /// vectors: what is added to them then, on its way meanwhile.
  const double* sums(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t k,
                     std::ptrdiff_t stride, const Rows& vectors) {
    double* const totals = totals_.resized(k * stride);
    const T* const factors = factors_.values.data() + first * factors_.stride;
    // Few vectors are less work than memory is: whole rows, as it sends them. Else sums stay in
    // registers, some columns at a time.
    const auto combine = [&](std::ptrdiff_t begin, std::ptrdiff_t end, T* sum) {
      const std::ptrdiff_t fresh = begin;
      const std::ptrdiff_t some = k <= 3 ? mfac_combine_rows : end - begin;
      const std::ptrdiff_t columns = k <= 3 ? rows.n : 96;
      for (std::ptrdiff_t j = 0; j < rows.n; j += columns) {
        Rows part = rows;
        part.numbers += j * item_size(rows.storage);
        part.n = std::min(columns, rows.n - j);
        part.ahead = rows.n - j - part.n + rows.ahead;
        for (std::ptrdiff_t i = begin; i < end; i += some) {
          const std::ptrdiff_t last = std::min(i + some, end);
          mfac_prefetch(vectors, vectors.m * i / m_, vectors.m * last / m_, j, j + part.n);
          mfac_combine(part, i, last, factors, factors_.stride, k, sum + j, stride, i == fresh);
        }
      }
    };
    if constexpr (sizeof(T) == 8) {
      combine(0, m_, totals);
    } else {
      constexpr std::ptrdiff_t some = mfac_float_rows;
      T* const part = part_.resized(k * stride);
      std::fill_n(totals, k * stride, 0.0);
      for (std::ptrdiff_t i = 0; i < m_; i += some) {
        combine(i, std::min(i + some, m_), part);
        for (std::ptrdiff_t c = 0; c < k; ++c)
          mfac_add_scaled(part + c * stride, round_up(rows.n, mfac_step),
                          factors_.scales[static_cast<std::size_t>(first + c)].inverse,
                          totals + c * stride);
      }
      for (std::ptrdiff_t c = 0; c < k; ++c)
        if (!std::isfinite(mfac_largest(Storage::float64, bytes_of(totals + c * stride), rows.n))) {
          // beyond the range of float
          const Factors<double> wide(a_ + (first + c) * m_, m_, 1);
          mfac_combine(rows, 0, m_, wide.values.data(), wide.stride, 1, totals + c * stride, stride,
                       true);
        }
    }
    return totals;
  }

  /// Whether y = scale x + sum of the rows can be formed without sums in memory.
  static bool packs(std::ptrdiff_t k) { return k >= least_combined && mfac_panel_rows<T>() > 0; }
  /// y_c, d apart as x_c are, of k vectors from vector `first` on.
  template <class Y>
  void combine(const Rows& rows, std::ptrdiff_t first, std::ptrdiff_t k, double scale, const Y* x,
               std::ptrdiff_t d, Y* y, bool stream) {
    const std::ptrdiff_t stride = padded<Y>(rows.n);
    Y* const results = reinterpret_cast<Y*>(totals_.resized(k * stride * sizeof(Y) / 8));
    mfac_combine_packed(rows, factors_.packed.data() + first * m_, factors_.inverses.data() + first,
                        k, part_.resized(m_ * mfac_copied), scale, x, d, results, stride);
    for (std::ptrdiff_t c = 0; c < k; ++c) {
      Y* const result = results + c * stride;
      const Y* const addend = x == nullptr ? nullptr : x + c * d;
      if (sizeof(T) == 4 && !std::isfinite(mfac_largest(storage_of<Y>, bytes_of(result), rows.n)))
        mfac_finish(
            CombineTile(factors_, a_, m_).sums(rows, first + c, 1, padded<double>(rows.n), {}),
            rows.n, scale, addend, y + c * d, false);
      else
        mfac_copy(result, rows.n, y + c * d, stream);
    }
  }

 private:
  const Factors<T>& factors_;
  const double* a_;
  std::ptrdiff_t m_;
  Array<double> totals_;
  Array<T> part_;
};

template <class T, class Y>
void combine_in(const Gradients& gradients, Columns columns, const double* a, std::ptrdiff_t k,
                double scale, const Y* x, int threads, Y* y) {
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  const std::ptrdiff_t width = CombineTile<T>::width(k), stride = padded<double>(width);
  const Factors<T> factors(a, m, k);
  // Each number of y is a sum of its own: blocks are for the threads only.
  const std::ptrdiff_t columns_each = std::clamp<std::ptrdiff_t>(
      (columns.end - columns.begin) / (8 * thread_count(threads)), width, std::ptrdiff_t{1} << 16);
  const std::ptrdiff_t block = round_up(columns_each, width);
  // Results that no cache would hold until they are used.
  const bool stream =
      k * (columns.end - columns.begin) * static_cast<std::ptrdiff_t>(sizeof(Y)) > 1 << 24;
  struct Work {
    CombineTile<T> tile;
    std::vector<std::byte> buffer;
  };
  Pool<Work> pool;
  const auto run = [&](Work& work, Columns part) {
    Reader reader(gradients.data(), part, work.buffer);
    for (std::ptrdiff_t begin = part.begin; begin < part.end; begin += width) {
      const Rows rows = reader.rows(begin, std::min(begin + width, part.end));
      for (std::ptrdiff_t first = 0; first < k; first += batch) {
        const std::ptrdiff_t some = std::min(batch, k - first);
        const Y* const from = x == nullptr ? nullptr : x + first * d + begin;
        if (CombineTile<T>::packs(some)) {
          work.tile.combine(rows, first, some, scale, from, d, y + first * d + begin, stream);
          continue;
        }
        const Rows vectors{storage_of<Y>, bytes_of(from), d, x == nullptr ? 0 : some, rows.n, 0};
        const double* const sums = work.tile.sums(rows, first, some, stride, vectors);
        for (std::ptrdiff_t c = 0; c < some; ++c)
          mfac_finish(sums + c * stride, rows.n, scale, from == nullptr ? nullptr : from + c * d,
                      y + (first + c) * d + begin, stream);
      }
    }
  };
  parallel_blocks(columns.end - columns.begin, block, threads,
                  [&](std::ptrdiff_t from, std::ptrdiff_t to) {
                    pool.with(
                        [&] {
                          return Work{CombineTile<T>(factors, a, m), {}};
                        },
                        [&](Work& work) {
                          run(work, {columns.begin + from, columns.begin + to});
                        });
                  });
}

/// float32 is for what float holds: numbers in double are summed in double.
bool in_float(const Gradients& gradients, Accumulation accumulation) {
  return accumulation == Accumulation::float32 && gradients.storage() != Storage::float64;
}

constexpr std::ptrdiff_t most_lanes = 64;
/// From so many rows on, threads share each tile: lanes would need too much memory.
constexpr std::ptrdiff_t least_shared = 512;

/// Whether the diagonal is far within the range of float, so that nothing was lost beyond it.
bool within_float(const Gradients& gradients, Columns columns, std::span<const double> gram) {
  const std::ptrdiff_t m = gradients.rows();
  for (std::ptrdiff_t i = 0; i < m; ++i) {
    const double square = gram[static_cast<std::size_t>(i * (m + 1))];
    if (square > 0x1p-80 && square < 0x1p120) continue;
    if (square != 0) return false;
    std::vector<std::byte> buffer;
    constexpr std::ptrdiff_t some = 1 << 16;
    for (std::ptrdiff_t begin = columns.begin; begin < columns.end; begin += some) {
      const std::ptrdiff_t end = std::min(begin + some, columns.end);
      const Tile part = tile(gradients.data(), i, i + 1, begin, end, buffer);
      if (mfac_largest(gradients.storage(), part.numbers, end - begin) != 0) return false;
    }
  }
  return true;
}

/// The Gram matrix, and in the same pass more(sums, rows, begin) of further results, which are
/// returned.
template <class T, class MakeMore>
std::vector<double> gram_in(const Gradients& gradients, Columns columns, int threads,
                            std::span<double> out, const Progress& progress,
                            std::ptrdiff_t more_results, const MakeMore& make_more) {
  const std::ptrdiff_t m = gradients.rows(), results = GramTile<T>::size(m, false) + more_results;
  const bool shared = m >= least_shared;
  const auto run = [&](bool scaled) {
    const bool by_panels = GramTile<T>::by_panels(m, gradients.storage(), scaled);
    const std::ptrdiff_t size = GramTile<T>::size(m, by_panels);
    auto sums = sum_of_tiles(
        gradients, columns, GramTile<T>::width(m, gradients.storage()), results,
        size + more_results, shared ? 1 : most_lanes, threads, progress, [&] {
          return [size, tile = GramTile<T>(m, shared ? threads : 1, scaled, by_panels),
                  more = make_more()](double* to, const Rows& rows, std::ptrdiff_t begin) mutable {
            tile.add(rows, to);
            more(to + size, rows, begin);
          };
        });
    GramTile<T>::unpack(sums.data(), m, by_panels, out);
    sums.erase(sums.begin(), sums.begin() + size);
    return sums;
  };
  std::vector<double> sums = run(false);
  if (sizeof(T) == 4 && !within_float(gradients, columns, out)) sums = run(true);
  return sums;
}

template <class T>
void gram_alone(const Gradients& gradients, Columns columns, int threads, std::span<double> out,
                const Progress& progress) {
  gram_in<T>(gradients, columns, threads, out, progress, 0,
             [] { return [](double*, const Rows&, std::ptrdiff_t) {}; });
}

template <class T, class X>
void project_in(const Gradients& gradients, Columns columns, const X* x, std::ptrdiff_t k,
                int threads, std::span<double> out, std::span<double> squares) {
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  const auto sums =
      sum_of_tiles(gradients, columns, ProjectTile<T, X>::width(k), (m + 1) * k, (m + 1) * k,
                   most_lanes, threads, {}, [&] {
                     return [&, tile = ProjectTile<T, X>(x, d, k)](double* to, const Rows& rows,
                                                                   std::ptrdiff_t begin) mutable {
                       tile.add(rows, begin, to, squares.empty() ? nullptr : to + m * k);
                     };
                   });
  std::copy_n(sums.begin(), m * k, out.begin());
  if (!squares.empty()) std::copy_n(sums.begin() + m * k, k, squares.begin());
}

template <class T, class X>
void both_in(const Gradients& gradients, Columns columns, const X* x, std::ptrdiff_t k, int threads,
             std::span<double> out, std::span<double> projections, std::span<double> squares,
             const Progress& progress) {
  const std::ptrdiff_t m = gradients.rows(), d = gradients.dimension();
  const auto sums = gram_in<T>(gradients, columns, threads, out, progress, (m + 1) * k, [&] {
    return [&, tile = ProjectTile<T, X>(x, d, k)](double* to, const Rows& rows,
                                                  std::ptrdiff_t begin) mutable {
      tile.add(rows, begin, to, squares.empty() ? nullptr : to + m * k);
    };
  });
  std::copy_n(sums.begin(), m * k, projections.begin());
  if (!squares.empty()) std::copy_n(sums.begin() + m * k, k, squares.begin());
}

}  // namespace

void gram(const Gradients& gradients, Columns columns, Accumulation accumulation, int threads,
          std::span<double> out, const Progress& progress) {
  const auto run = in_float(gradients, accumulation) ? gram_alone<float> : gram_alone<double>;
  run(gradients, columns, threads, out, progress);
}

template <class T>
void project(const Gradients& gradients, Columns columns, std::span<const T> x, std::ptrdiff_t k,
             Accumulation accumulation, int threads, std::span<double> out,
             std::span<double> squares) {
  const auto run = in_float(gradients, accumulation) ? project_in<float, T> : project_in<double, T>;
  run(gradients, columns, x.data(), k, threads, out, squares);
}

template <class T>
void combine(const Gradients& gradients, Columns columns, std::span<const double> a,
             std::ptrdiff_t k, double scale, std::span<const T> x, Accumulation accumulation,
             int threads, std::span<T> y) {
  const auto run = in_float(gradients, accumulation) ? combine_in<float, T> : combine_in<double, T>;
  run(gradients, columns, a.data(), k, scale, x.empty() ? nullptr : x.data(), threads, y.data());
}

template <class T>
void gram_and_project(const Gradients& gradients, Columns columns, std::span<const T> x,
                      std::ptrdiff_t k, Accumulation accumulation, int threads,
                      std::span<double> gram, std::span<double> projections,
                      std::span<double> squares, const Progress& progress) {
  const auto run = in_float(gradients, accumulation) ? both_in<float, T> : both_in<double, T>;
  run(gradients, columns, x.data(), k, threads, gram, projections, squares, progress);
}

void solve_columns(
    const Gradients& gradients, Columns columns, std::span<const double> factor,
    const std::function<void(Columns c, const double* w, const double* squares)>& body) {
  constexpr std::ptrdiff_t width = mfac_solve_columns;
  std::vector<std::byte> buffer;
  Array<double> w;
  alignas(64) double squares[width];
  Reader reader(gradients.data(), columns, buffer);
  for (std::ptrdiff_t begin = columns.begin; begin < columns.end; begin += width) {
    const std::ptrdiff_t end = std::min(begin + width, columns.end);
    mfac_solve(reader.rows(begin, end), factor.data(),
               w.resized(width * round_up(gradients.rows(), mfac_solve_rows)), squares);
    body({begin, end}, w.get(), squares);
  }
}

template void project(const Gradients&, Columns, std::span<const float>, std::ptrdiff_t,
                      Accumulation, int, std::span<double>, std::span<double>);
template void project(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t,
                      Accumulation, int, std::span<double>, std::span<double>);
template void combine(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t, double,
                      std::span<const float>, Accumulation, int, std::span<float>);
template void combine(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t, double,
                      std::span<const double>, Accumulation, int, std::span<double>);
template void gram_and_project(const Gradients&, Columns, std::span<const float>, std::ptrdiff_t,
                               Accumulation, int, std::span<double>, std::span<double>,
                               std::span<double>, const Progress&);
template void gram_and_project(const Gradients&, Columns, std::span<const double>, std::ptrdiff_t,
                               Accumulation, int, std::span<double>, std::span<double>,
                               std::span<double>, const Progress&);

}  // namespace halfulp::mfac::detail
