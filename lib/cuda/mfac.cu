#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "detail/launch.cuh"
#include "detail/mfac_inverse.hpp"
#include "detail/require.hpp"
#include "halfulp/cuda/mfac.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/dd_math.hpp"
#include "halfulp/kernel/mfac.hpp"

namespace halfulp::cuda::mfac {
namespace {

using halfulp::detail::require;
using halfulp::mfac::Conditioning;
using Size = std::ptrdiff_t;

// Nothing here depends on the device: tiles are functions of the sizes alone, and every sum has one
// order.
constexpr int lanes = 32;
constexpr int most_vectors = 32;  // of one pass
/// Vectors of one thread: one, or eight, the last ones of which may be repeated or left out.
constexpr int few = 1, many = 8;

/// Numbers of a load of 16 bytes: neighbours, of one thread.
template <class G>
constexpr int width = 16 / static_cast<int>(sizeof(G));

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Pack {
  T value[N];
};

/// Numbers j ... j + N - 1 of a row of d, zeros beyond it. Where rows are aligned d is a multiple
/// of N.
template <bool Aligned, class A, class T, int N>
__device__ void load(const T* row, Size j, Size d, A (&to)[N]) {
  if constexpr (Aligned) {
    const auto pack = *reinterpret_cast<const Pack<T, N>*>(row + j);
    for (int v = 0; v < N; ++v) to[v] = static_cast<A>(pack.value[v]);
  } else {
    for (int v = 0; v < N; ++v) to[v] = j + v < d ? static_cast<A>(row[j + v]) : A{0};
  }
}

__device__ double from_lane(double value, int bits) { return __shfl_xor_sync(~0U, value, bits); }
__device__ dd from_lane(dd value, int bits) {
  return {__shfl_xor_sync(~0U, value.hi, bits), __shfl_xor_sync(~0U, value.lo, bits)};
}

/// The sums of N numbers over the lanes of a warp, in half as many numbers each time: sum
/// `first_sum<N>(lane) + i` is then v[i] of the lane, for i < N/32 or, for fewer, i = 0.
template <int N, int Bits = lanes / 2, class T, int All>
__device__ void sum_lanes(T (&v)[All], int lane) {
  if constexpr (N == 1) {
    v[0] = v[0] + from_lane(v[0], Bits);
  } else {
    const bool upper = (lane & Bits) != 0;
    for (int i = 0; i < N / 2; ++i) {
      const T kept = upper ? v[i + N / 2] : v[i], sent = upper ? v[i] : v[i + N / 2];
      v[i] = kept + from_lane(sent, Bits);
    }
  }
  if constexpr (Bits > 1) sum_lanes<N == 1 ? 1 : N / 2, Bits / 2>(v, lane);
}
template <int N>
__device__ int first_sum(int lane) {
  return N >= lanes ? lane * (N / lanes) : lane / (lanes / N);
}

__device__ Size thread_in_grid() {
  return static_cast<Size>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// ---- the Gram matrix ----------------------------------------------------------------------------

constexpr int gram_tile = 64, gram_columns = 32, gram_threads = 256;
constexpr int gram_flush = 64;  // columns whose products are added before they go to the total
constexpr Size least_gram_split = 1024;

/// A block forms the products of 64 rows with 64 rows over `columns` columns, 4 x 4 of them a
/// thread, for the pairs of tiles (0, 0), (1, 0), (1, 1), (2, 0) ... one after the other, each in
/// `splits` parts.
template <class G, bool Aligned>
__global__ void __launch_bounds__(gram_threads, sizeof(G) == 8 ? 1 : 2)
    run_gram(Size m, Size d, Size columns, int splits, const G* g, double* parts) {
  constexpr int n = width<G>, packs = gram_tile * gram_columns / gram_threads / n;
  // by columns; + 2: fewer of them in one bank, and still 16 bytes
  __shared__ double left[gram_columns][gram_tile + 2], right[gram_columns][gram_tile + 2];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % lanes, warp = thread / lanes;
  const int row = 4 * (4 * (warp / 2) + lane / 8), column = 4 * (8 * (warp % 2) + lane % 8);
  const Size pair = blockIdx.x / static_cast<unsigned>(splits);
  Size upper = 0;
  while ((upper + 1) * (upper + 2) / 2 <= pair) ++upper;
  const Size lower = pair - upper * (upper + 1) / 2;
  const bool diagonal = upper == lower;
  const Size begin = blockIdx.x % static_cast<unsigned>(splits) * columns;
  const Size end = begin + columns < d ? begin + columns : d;

  G fetched[2][packs][n];
  const auto fetch = [&](Size j) {
    for (int side = 0; side < 2; ++side) {
      if (side == 1 && diagonal) break;
      for (int p = 0; p < packs; ++p) {
        const int place = thread + p * gram_threads;
        const Size i = (side == 0 ? upper : lower) * gram_tile + place / (gram_columns / n);
        const Size at = j + place % (gram_columns / n) * n;
        if (i < m && at < end)
          load<Aligned>(g + i * d, at, d, fetched[side][p]);
        else
          for (int v = 0; v < n; ++v) fetched[side][p][v] = G{0};
      }
    }
  };
  const auto store = [&] {
    for (int p = 0; p < packs; ++p) {
      const int place = thread + p * gram_threads;
      const int i = place / (gram_columns / n), at = place % (gram_columns / n) * n;
      for (int v = 0; v < n; ++v) {
        left[at + v][i] = fetched[0][p][v];
        if (!diagonal) right[at + v][i] = fetched[1][p][v];
      }
    }
  };

  // The total in double-double, so that K is good to the rounding of a few products.
  double sum[4][4] = {};
  dd total[4][4];
  const auto flush = [&] {
    for (int a = 0; a < 4; ++a)
      for (int b = 0; b < 4; ++b) {
        const dd both = kernel::two_sum(total[a][b].hi, sum[a][b]);
        total[a][b] = {both.hi, total[a][b].lo + both.lo};
        sum[a][b] = 0;
      }
  };
  const auto& other = diagonal ? left : right;
  fetch(begin);
  for (Size j = begin; j < end; j += gram_columns) {
    __syncthreads();
    store();
    __syncthreads();
    if (j + gram_columns < end) fetch(j + gram_columns);
    for (int s = 0; s < gram_columns; ++s) {
      double x[4], y[4];
      for (int a = 0; a < 4; ++a) x[a] = left[s][row + a];
      for (int b = 0; b < 4; ++b) y[b] = other[s][column + b];
      for (int a = 0; a < 4; ++a)
        for (int b = 0; b < 4; ++b) sum[a][b] += x[a] * y[b];
    }
    if ((j - begin) % gram_flush == gram_flush - gram_columns) flush();
  }
  flush();
  double* const out = parts + static_cast<Size>(blockIdx.x) * (gram_tile * gram_tile);
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < 4; ++b)
      out[(row + a) * gram_tile + column + b] = total[a][b].hi + total[a][b].lo;
}

/// Adds the parts, and writes both triangles.
struct AddGram {
  Size m;
  int splits;
  const double* parts;
  double* gram;
  __device__ void operator()(Size index) const {
    const Size i = index / m, j = index % m;
    if (j > i) return;
    const Size upper = i / gram_tile, pair = upper * (upper + 1) / 2 + j / gram_tile;
    const double* const part =
        parts + pair * splits * (gram_tile * gram_tile) + i % gram_tile * gram_tile + j % gram_tile;
    dd sum = 0;
    for (int s = 0; s < splits; ++s)
      sum = sum + part[static_cast<Size>(s) * (gram_tile * gram_tile)];
    gram[i * m + j] = sum.hi;
    gram[j * m + i] = sum.hi;
  }
};

struct GramShape {
  Size pairs, columns;
  int splits;
};

GramShape gram_shape(Size m, Size d) {
  constexpr Size enough = 1024;  // blocks
  const Size tiles = (m + gram_tile - 1) / gram_tile, pairs = tiles * (tiles + 1) / 2;
  const Size most = (d + least_gram_split - 1) / least_gram_split;
  const Size wanted = pairs < enough ? enough / pairs : 1, splits = wanted < most ? wanted : most;
  const Size columns = ((d + splits - 1) / splits + gram_columns - 1) / gram_columns * gram_columns;
  return {pairs, columns, static_cast<int>((d + columns - 1) / columns)};
}

// ---- the first pass: G x ------------------------------------------------------------------------

constexpr int project_warps = 8, project_rows = 8;  // of a warp
constexpr Size least_tile = 512, most_tile = 65536;

/// Warps of a block that read the same rows, each for C other vectors.
HALFULP_HD constexpr int groups_of(int k, int per_thread) {
  return (k + per_thread - 1) / per_thread;
}

/// sums[tile][c][i] = the sum over a tile's columns of G_ij x_cj: eight rows and C vectors a warp.
/// Rows beyond m and vectors beyond k are those before once more, and not written. C = many keeps
/// 64 sums in double: a block a multiprocessor, 64 rows and vectors in flight of each thread.
template <class G, class T, class A, int C, bool Aligned>
__global__ void __launch_bounds__(project_warps* lanes)
    run_project(Size m, Size d, Size tile, int k, const G* g, const T* x, double* sums) {
  constexpr int n = width<G>, rows = project_rows;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int warp = static_cast<int>(threadIdx.x) / lanes;
  const int warps = static_cast<int>(blockDim.x) / lanes;
  const int groups = groups_of(k, C), first = warp % groups * C;
  const Size begin = static_cast<Size>(blockIdx.x) * tile;
  const Size end = begin + tile < d ? begin + tile : d;
  const Size top = (static_cast<Size>(blockIdx.y) * (warps / groups) + warp / groups) * rows;
  if (top >= m) return;  // the whole warp
  A sum[rows * C] = {};
  for (Size j = begin + lane * n; j < end; j += lanes * n) {
    A numbers[rows][n];
    for (int r = 0; r < rows; ++r)
      load<Aligned>(g + (top + r < m ? top + r : m - 1) * d, j, d, numbers[r]);
    for (int c = 0; c < C; ++c) {
      A vector[n];
      load<Aligned>(x + (first + c < k ? first + c : k - 1) * d, j, d, vector);
      for (int r = 0; r < rows; ++r)
        for (int v = 0; v < n; ++v) sum[r * C + c] += numbers[r][v] * vector[v];
    }
  }
  double total[rows * C];
  for (int i = 0; i < rows * C; ++i) total[i] = static_cast<double>(sum[i]);
  sum_lanes<rows * C>(total, lane);
  constexpr int kept = rows * C / lanes > 1 ? rows * C / lanes : 1;
  for (int i = 0; i < kept; ++i) {
    const int which = first_sum<rows * C>(lane) + i, c = first + which % C;
    const Size row = top + which / C;
    if (row < m && c < k) sums[(static_cast<Size>(blockIdx.x) * k + c) * m + row] = total[i];
  }
}

constexpr int add_sums = 32, add_parts = 8;

/// out[e] = the sum of sums[tile][e] over the tiles: every eighth of them a thread.
__global__ void run_add(Size count, Size tiles, const double* sums, double* out) {
  __shared__ double part[add_parts][add_sums];
  const int which = static_cast<int>(threadIdx.x), p = static_cast<int>(threadIdx.y);
  const Size e = static_cast<Size>(blockIdx.x) * add_sums + which;
  double sum = 0;
  if (e < count)
    for (Size t = p; t < tiles; t += add_parts) sum += sums[t * count + e];
  part[p][which] = sum;
  __syncthreads();
  if (p > 0 || e >= count) return;
  double total = 0;
  for (int q = 0; q < add_parts; ++q) total += part[q][which];
  out[e] = total;
}

/// Columns of a tile: enough blocks for a device, and little to add.
Size project_tile(Size m, Size d) {
  constexpr Size enough = 4096, most_tiles = 512;
  const Size chunks = (m + project_warps * project_rows - 1) / (project_warps * project_rows);
  const Size wanted = chunks >= enough               ? 1
                      : enough / chunks < most_tiles ? enough / chunks
                                                     : most_tiles;
  const Size columns = (d + wanted - 1) / wanted;
  const Size bounded = columns < least_tile  ? least_tile
                       : columns > most_tile ? most_tile
                                             : columns;
  constexpr Size unit = lanes * width<float>;
  return (bounded + unit - 1) / unit * unit;
}

// ---- m x m --------------------------------------------------------------------------------------

/// out_c = factor (base_c + M v_c), a row a warp; without base factor M v_c.
template <int C>
__global__ void run_multiply(Size m, int k, const double* matrix, const double* v,
                             const double* base, double factor, double* out) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const Size i = thread_in_grid() / lanes;
  if (i >= m) return;
  for (int first = 0; first < k; first += C) {
    double sum[C] = {};
    for (Size j = lane; j < m; j += lanes) {
      const double element = matrix[i * m + j];
      for (int c = 0; c < C; ++c)
        sum[c] += element * v[(first + c < k ? first + c : k - 1) * m + j];
    }
    sum_lanes<C>(sum, lane);
    const Size c = first + first_sum<C>(lane);
    if (c < k && lane % (lanes / C) == 0)
      out[c * m + i] = factor * (base != nullptr ? base[c * m + i] + sum[0] : sum[0]);
  }
}

/// out_c = a_c - (shift I + S) v_c, with sums in double-double.
template <int C>
__global__ void run_residual(Size m, int k, const double* gram, double shift, const double* a,
                             const double* v, double* out) {
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const Size i = thread_in_grid() / lanes;
  if (i >= m) return;
  for (int first = 0; first < k; first += C) {
    dd sum[C] = {};
    for (Size j = lane; j < m; j += lanes) {
      const double element = gram[i * m + j];
      for (int c = 0; c < C; ++c)
        sum[c] += kernel::two_prod(element, v[(first + c < k ? first + c : k - 1) * m + j]);
    }
    sum_lanes<C>(sum, lane);
    const Size c = first + first_sum<C>(lane);
    if (c < k && lane % (lanes / C) == 0)
      out[c * m + i] = (a[c * m + i] - kernel::two_prod(shift, v[c * m + i]) - sum[0]).hi;
  }
}

// ---- the second pass: (x - G^T b)/divisor -------------------------------------------------------

constexpr int combine_warps = 4, combine_chunk = 64;  // rows whose coefficients are at hand
constexpr Size most_combine_blocks = 4096;

/// A square that says 0 of 0 alone.
__device__ double square_of(double value) {
  constexpr double tiny = 0x1p-1000;
  const double square = value * value;
  return square < tiny && value != 0 ? tiny : square;
}

/// y_c = (x_c - sum_i b_ci g_i)/divisor, x_c = 0 without x, and squares[block][c] = |x_c|^2 and
/// |x_c - sum|^2 of the block's columns. 16 bytes of each row and C vectors a thread; warps of a
/// block share columns or vectors.
template <class G, class T, class A, int C, bool Aligned>
__global__ void __launch_bounds__(combine_warps* lanes)
    run_combine(Size m, Size d, int k, const G* g, const double* b, const T* x, double divisor,
                T* y, double* squares) {
  constexpr int n = width<G>, ahead = C == few ? 8 : 4;  // rows that are read at once
  // + 16 bytes: fewer of a vector's in one bank
  constexpr int stride = most_vectors + 16 / static_cast<int>(sizeof(A));
  __shared__ A coefficients[combine_chunk][stride];
  __shared__ double shares[combine_warps][2 * C];
  const int thread = static_cast<int>(threadIdx.x), lane = thread % lanes, warp = thread / lanes;
  const int threads = static_cast<int>(blockDim.x), warps = threads / lanes;
  const int groups = groups_of(k, C), first = warp % groups * C, padded = groups * C;
  const Size columns = static_cast<Size>(warps / groups) * lanes * n;
  double square[2 * C] = {};
  for (Size begin = blockIdx.x * columns; begin < d; begin += gridDim.x * columns) {
    const Size j = begin + (warp / groups * lanes + lane) * n;
    double total[C][n] = {};
    for (Size top = 0; top < m; top += combine_chunk) {
      const int rows = static_cast<int>(m - top < combine_chunk ? m - top : combine_chunk);
      __syncthreads();
      for (int t = thread; t < padded * combine_chunk; t += threads) {
        const int c = t / combine_chunk, i = t % combine_chunk;
        coefficients[i][c] = c < k && i < rows ? static_cast<A>(b[c * m + top + i]) : A{0};
      }
      __syncthreads();
      if (j >= d) continue;
      const auto add_rows = [&](auto& sum) {
        for (int i = 0; i < rows; i += ahead) {
          A numbers[ahead][n];
          for (int r = 0; r < ahead; ++r)
            load<Aligned>(g + (i + r < rows ? top + i + r : m - 1) * d, j, d, numbers[r]);
          for (int r = 0; r < ahead; ++r)
            for (int c = 0; c < C; ++c) {
              const A coefficient = coefficients[i + r][first + c];  // 0 beyond the rows
              for (int v = 0; v < n; ++v) sum[c][v] += coefficient * numbers[r][v];
            }
        }
      };
      if constexpr (std::is_same_v<A, double>) {
        add_rows(total);
      } else {
        A sum[C][n] = {};
        add_rows(sum);
        for (int c = 0; c < C; ++c)
          for (int v = 0; v < n; ++v) total[c][v] += static_cast<double>(sum[c][v]);
      }
    }
    for (int c = 0; c < C; ++c) {
      if (j >= d || first + c >= k) continue;
      double from[n] = {};
      if (x != nullptr) load<Aligned>(x + (first + c) * d, j, d, from);
      Pack<T, n> result;
      for (int v = 0; v < n; ++v) {
        const double rest = from[v] - total[c][v];
        square[2 * c] += square_of(from[v]);
        square[2 * c + 1] += square_of(rest);
        result.value[v] = static_cast<T>(rest / divisor);
      }
      T* const out = y + (first + c) * d + j;
      if constexpr (Aligned) {
        *reinterpret_cast<Pack<T, n>*>(out) = result;
      } else {
        for (int v = 0; v < n; ++v)
          if (j + v < d) out[v] = result.value[v];
      }
    }
  }
  sum_lanes<2 * C>(square, lane);
  if (lane % (lanes / (2 * C)) == 0) shares[warp][first_sum<2 * C>(lane)] = square[0];
  __syncthreads();
  if (thread >= 2 * k) return;
  double sum = 0;
  for (int w = thread / (2 * C); w < warps; w += groups) sum += shares[w][thread % (2 * C)];
  squares[static_cast<Size>(blockIdx.x) * (2 * k) + thread] = sum;
}

// ---- the error ----------------------------------------------------------------------------------

constexpr int error_threads = 128;

/// errors[c] = the estimate for vector c of k, or what it is already if that is more and this is
/// not the first of several lots. A vector a block.
__global__ void run_errors(Size m, int k, Size blocks, const double* squares, const double* b,
                           kernel::MfacRounding rounding, double rounding_of_y, bool first,
                           double* errors) {
  __shared__ double part[3][error_threads];
  const int thread = static_cast<int>(threadIdx.x), c = static_cast<int>(blockIdx.x);
  double sum[3] = {};
  for (Size t = thread; t < blocks; t += error_threads)
    for (int s = 0; s < 2; ++s) sum[s] += squares[t * (2 * k) + 2 * c + s];
  for (Size i = thread; i < m; i += error_threads) sum[2] += b[c * m + i] * b[c * m + i];
  for (int s = 0; s < 3; ++s) part[s][thread] = sum[s];
  __syncthreads();
  if (thread > 0) return;
  for (int s = 0; s < 3; ++s) {
    sum[s] = 0;
    for (int t = 0; t < error_threads; ++t) sum[s] += part[s][t];
  }
  double error = 0;
  if (sum[1] != 0) {
    const bool in_range = sum[1] >= 0x1p-900 && sum[1] <= 0x1p900 && sum[0] <= 0x1p900;
    error = in_range
                ? rounding_of_y + kernel::mfac_relative_error(rounding, std::sqrt(sum[0]),
                                                              std::sqrt(sum[2]), std::sqrt(sum[1]))
                : kernel::infinity;
  }
  errors[c] = first || error > errors[c] ? error : errors[c];
}

struct SetUnit {
  Size row;
  double* a;
  __device__ void operator()(Size i) const { a[i] = i == row ? 1 : 0; }
};

bool aligned(const void* begin, Size row_bytes) {
  return reinterpret_cast<std::uintptr_t>(begin) % 16 == 0 && row_bytes % 16 == 0;
}

unsigned blocks_of(Size count, Size each) {
  return static_cast<unsigned>((count + each - 1) / each);
}

template <class T>
constexpr double rounding_to = std::is_same_v<T, float> ? 0x1p-24 : 0x1p-53;

}  // namespace

struct Estimator::State {
  span<const float> singles;  ///< the gradients, or
  span<const double> doubles;
  Size m = 0, d = 0;
  Options options;
  stream_handle stream = nullptr;
  Diagnosis diagnosis;
  kernel::MfacRounding rounding;
  Size tile = 0, tiles = 0;
  buffer<double> gram, inverse;
  /// Of up to 32 vectors: G x or a, what it is solved to, residuals; partial sums of both passes.
  buffer<double> right, solution, residual, sums, squares, errors;
  int vectors = 0;  ///< of the last product, 32 at most: how many errors there are

  template <class G>
  State(const char* function, span<const G> gradients, Size dimension, const Options& chosen,
        stream_handle queue);
  template <class G>
  void form_gram(const char* function, const G* g);
  template <class G>
  [[noreturn]] void refuse_row(const char* function, const G* g, Size row) const;

  template <class T, class Body>
  void dispatch(int k, const T* x, const T* y, Body body) const;
  template <class T>
  void project(const char* function, int k, const T* x);
  void solve(const char* function, int k, const double* a, double factor);
  template <class T>
  void combine(const char* function, int k, const T* x, double divisor, T* y, bool first);
  template <class T>
  void product(span<const T> x, span<T> y);
  template <class T>
  void combination(const char* function, span<const double> a, span<T> y);
  template <class T>
  void row_product(Size row, span<T> y);
};

// ---- construction -------------------------------------------------------------------------------

template <class G>
Estimator::State::State(const char* function, span<const G> gradients, Size dimension,
                        const Options& chosen, stream_handle queue)
    : d(dimension), options(chosen), stream(queue) {
  require(options.damping >= 0x1p-500 && options.damping <= 0x1p500, function, "damping",
          options.damping, "> 0, and between 2^-500 and 2^500");
  require(d >= 1, function, "d", d, ">= 1");
  m = gradients.size() / d;
  if (m * d != gradients.size())
    throw ShapeError(function, "gradients.size()", std::to_string(gradients.size()),
                     "a multiple of " + std::to_string(d));
  require(m > 0, function, "gradients.size()", gradients.size(), "> 0");
  if constexpr (std::is_same_v<G, float>)
    singles = gradients;
  else
    doubles = gradients;
  tile = project_tile(m, d);
  tiles = (d + tile - 1) / tile;
  const double shift = static_cast<double>(m) * options.damping;

  gram = buffer<double>(m * m);
  form_gram(function, gradients.data());
  std::vector<double> host(static_cast<std::size_t>(m * m));
  copy(gram, host, stream);
  synchronize(stream);
  for (Size i = 0; i < m; ++i)
    if (!(host[static_cast<std::size_t>(i * m + i)] < 0x1p1000 / static_cast<double>(m)))
      refuse_row(function, gradients.data(), i);
  const auto core = detail::mfac_inverse(host, m, shift);
  inverse = buffer<double>(std::span<const double>(core.inverse), stream);
  synchronize(stream);

  constexpr double unit_double = 0x1p-51, unit_single = 0x1p-21;
  const bool single = std::is_same_v<G, float> && options.products == Accumulation::float32;
  rounding = {core.largest, shift, kernel::mfac_rho(shift, core.smallest - shift, core.largest),
              unit_double, single ? unit_single : unit_double};
  diagnosis.condition = 1 + core.largest / shift;
  diagnosis.error = kernel::mfac_worst_error(rounding);
  diagnosis.pivot = core.lost;
  diagnosis.pivot_value = core.lost_value;
  diagnosis.status = core.lost >= 0                         ? Conditioning::lost
                     : diagnosis.condition * 0x1p-52 > 1e-3 ? Conditioning::ill
                                                            : Conditioning::good;
  const Size most = most_vectors;
  right = buffer<double>(most * m);
  solution = buffer<double>(most * m);
  residual = buffer<double>(most * m);
  sums = buffer<double>(tiles * most * m);
  squares = buffer<double>(most_combine_blocks * 2 * most);
  errors = buffer<double>(most);
}

template <class G>
void Estimator::State::form_gram(const char* function, const G* g) {
  const GramShape shape = gram_shape(m, d);
  buffer<double> parts(shape.pairs * shape.splits * gram_tile * gram_tile);
  const dim3 grid(static_cast<unsigned>(shape.pairs * shape.splits));
  const auto run = [&](auto kernel) {
    cuda::detail::launch(function, kernel, grid, dim3(gram_threads), stream, m, d, shape.columns,
                         shape.splits, g, parts.data());
  };
  if (aligned(g, d * static_cast<Size>(sizeof(G))))
    run(run_gram<G, true>);
  else
    run(run_gram<G, false>);
  cuda::detail::for_each_index(function, m * m, stream,
                               AddGram{m, shape.splits, parts.data(), gram.data()});
  synchronize(stream);  // `parts` is released
}

/// Says what is wrong with a row whose square is.
template <class G>
void Estimator::State::refuse_row(const char* function, const G* g, Size row) const {
  std::vector<G> values(static_cast<std::size_t>(d));
  copy(span<const G>(g + row * d, d), values, stream);
  synchronize(stream);
  double square = 0;
  for (Size j = 0; j < d; ++j) {
    const double value = values[static_cast<std::size_t>(j)];
    require(std::isfinite(value), function,
            "gradients[" + std::to_string(row) + ", " + std::to_string(j) + "]", value, "finite");
    square += value * value;
  }
  throw DomainError(function, "|gradients[" + std::to_string(row) + "]|^2", square,
                    "below 2^1000/m");
}

// ---- products -----------------------------------------------------------------------------------

/// Calls body(g, accumulator, vectors of a thread, aligned) with values that stand for types.
template <class T, class Body>
void Estimator::State::dispatch(int k, const T* x, const T* y, Body body) const {
  const auto with = [&](const auto* g, auto accumulator) {
    const bool all = aligned(g, d * static_cast<Size>(sizeof *g)) &&
                     aligned(x, d * static_cast<Size>(sizeof(T))) &&
                     aligned(y, d * static_cast<Size>(sizeof(T)));
    const auto count = [&](auto is_aligned) {
      if (k == 1)
        body(g, accumulator, std::integral_constant<int, few>{}, is_aligned);
      else
        body(g, accumulator, std::integral_constant<int, many>{}, is_aligned);
    };
    if (all)
      count(std::true_type{});
    else
      count(std::false_type{});
  };
  if (doubles.size() > 0)
    with(doubles.data(), double{});
  else if (options.products == Accumulation::float32)
    with(singles.data(), float{});
  else
    with(singles.data(), double{});
}

/// right = G x.
template <class T>
void Estimator::State::project(const char* function, int k, const T* x) {
  dispatch<T>(k, x, nullptr, [&](const auto* g, auto accumulator, auto vectors, auto is_aligned) {
    using G = std::remove_cv_t<std::remove_pointer_t<decltype(g)>>;
    constexpr int each = decltype(vectors)::value;
    const int groups = groups_of(k, each), row_warps = project_warps / groups;
    cuda::detail::launch(
        function, run_project<G, T, decltype(accumulator), each, decltype(is_aligned)::value>,
        dim3(static_cast<unsigned>(tiles), blocks_of(m, row_warps * project_rows)),
        dim3(static_cast<unsigned>(groups * row_warps * lanes)), stream, m, d, tile, k, g, x,
        sums.data());
  });
  cuda::detail::launch(function, run_add, dim3(blocks_of(k * m, add_sums)),
                       dim3(add_sums, add_parts), stream, k * m, tiles, sums.data(), right.data());
}

/// solution = factor K^-1 a: by the inverse, then once more for what that leaves of a, which is
/// computed in double-double. So an error of the inverse counts by its square, and what remains is
/// the rounding of the Gram matrix itself. Not where a pivot was lost: the inverse is not K's then.
void Estimator::State::solve(const char* function, int k, const double* a, double factor) {
  constexpr unsigned warps = 8;
  const dim3 grid(blocks_of(m, warps)), block(warps * lanes);
  const auto with = [&](auto multiply, auto residue) {
    const auto run_inverse = [&](const double* v, const double* base, double by) {
      cuda::detail::launch(function, multiply, grid, block, stream, m, k, inverse.data(), v, base,
                           by, solution.data());
    };
    if (diagnosis.pivot >= 0) return run_inverse(a, nullptr, factor);
    run_inverse(a, nullptr, 1.0);
    cuda::detail::launch(function, residue, grid, block, stream, m, k, gram.data(), rounding.shift,
                         a, solution.data(), residual.data());
    run_inverse(residual.data(), solution.data(), factor);
  };
  if (k == 1)
    with(run_multiply<few>, run_residual<few>);
  else
    with(run_multiply<many>, run_residual<many>);
}

/// y = (x - G^T solution)/divisor, and the estimates.
template <class T>
void Estimator::State::combine(const char* function, int k, const T* x, double divisor, T* y,
                               bool first) {
  Size blocks = 0;
  dispatch<T>(k, x, y, [&](const auto* g, auto accumulator, auto vectors, auto is_aligned) {
    using G = std::remove_cv_t<std::remove_pointer_t<decltype(g)>>;
    constexpr int each = decltype(vectors)::value;
    const int groups = groups_of(k, each), column_warps = combine_warps / groups;
    blocks = blocks_of(d, static_cast<Size>(column_warps) * lanes * width<G>);
    if (blocks > most_combine_blocks) blocks = most_combine_blocks;
    cuda::detail::launch(
        function, run_combine<G, T, decltype(accumulator), each, decltype(is_aligned)::value>,
        dim3(static_cast<unsigned>(blocks)),
        dim3(static_cast<unsigned>(groups * column_warps * lanes)), stream, m, d, k, g,
        solution.data(), x, divisor, y, squares.data());
  });
  cuda::detail::launch(function, run_errors, dim3(static_cast<unsigned>(k)), dim3(error_threads),
                       stream, m, k, blocks, squares.data(), solution.data(), rounding,
                       rounding_to<T>, first, errors.data());
}

template <class T>
void Estimator::State::product(span<const T> x, span<T> y) {
  constexpr const char* function = "cuda::mfac::Estimator::inverse_product";
  const Size k = x.size() / d;
  if (k * d != x.size())
    throw ShapeError(function, "x.size()", std::to_string(x.size()),
                     "a multiple of " + std::to_string(d));
  if (y.size() != k * d) throw ShapeError(function, "y.size()", y.size(), k * d);
  vectors = static_cast<int>(k < most_vectors ? k : most_vectors);
  for (Size begin = 0; begin < k; begin += most_vectors) {
    const int count = static_cast<int>(k - begin < most_vectors ? k - begin : most_vectors);
    project(function, count, x.data() + begin * d);
    solve(function, count, right.data(), 1);
    combine(function, count, x.data() + begin * d, options.damping, y.data() + begin * d,
            begin == 0);
  }
}

template <class T>
void Estimator::State::combination(const char* function, span<const double> a, span<T> y) {
  const Size k = a.size() / m;
  if (k * m != a.size())
    throw ShapeError(function, "a.size()", std::to_string(a.size()),
                     "a multiple of " + std::to_string(m));
  if (y.size() != k * d) throw ShapeError(function, "y.size()", y.size(), k * d);
  vectors = static_cast<int>(k < most_vectors ? k : most_vectors);
  for (Size begin = 0; begin < k; begin += most_vectors) {
    const int count = static_cast<int>(k - begin < most_vectors ? k - begin : most_vectors);
    solve(function, count, a.data() + begin * m, static_cast<double>(m));
    combine<T>(function, count, nullptr, -1, y.data() + begin * d, begin == 0);
  }
}

template <class T>
void Estimator::State::row_product(Size row, span<T> y) {
  constexpr const char* function = "cuda::mfac::Estimator::inverse_row";
  require(row >= 0 && row < m, function, "row", row,
          ">= 0 and below " + std::to_string(m) + ", the number of rows");
  cuda::detail::for_each_index(function, m, stream, SetUnit{row, right.data()});
  combination(function, span<const double>(right.data(), m), y);
}

Estimator::Estimator(span<const float> gradients, std::ptrdiff_t d, const Options& options,
                     stream_handle stream)
    : state_(new State("cuda::mfac::Estimator", gradients, d, options, stream)) {}
Estimator::Estimator(span<const double> gradients, std::ptrdiff_t d, const Options& options,
                     stream_handle stream)
    : state_(new State("cuda::mfac::Estimator", gradients, d, options, stream)) {}
Estimator::~Estimator() = default;
Estimator::Estimator(Estimator&&) noexcept = default;
Estimator& Estimator::operator=(Estimator&&) noexcept = default;

std::ptrdiff_t Estimator::rows() const { return state_->m; }
std::ptrdiff_t Estimator::dimension() const { return state_->d; }
Diagnosis Estimator::diagnosis() const { return state_->diagnosis; }

void Estimator::inverse_product(span<const float> x, span<float> y) { state_->product(x, y); }
void Estimator::inverse_product(span<const double> x, span<double> y) { state_->product(x, y); }
void Estimator::inverse_combination(span<const double> a, span<float> y) {
  state_->combination("cuda::mfac::Estimator::inverse_combination", a, y);
}
void Estimator::inverse_combination(span<const double> a, span<double> y) {
  state_->combination("cuda::mfac::Estimator::inverse_combination", a, y);
}
void Estimator::inverse_row(std::ptrdiff_t row, span<float> y) { state_->row_product(row, y); }
void Estimator::inverse_row(std::ptrdiff_t row, span<double> y) { state_->row_product(row, y); }

Diagnosis Estimator::last_product() const {
  const State& s = *state_;
  std::vector<double> errors(static_cast<std::size_t>(s.vectors));
  copy(span<const double>(s.errors.data(), s.vectors), errors, s.stream);
  synchronize(s.stream);
  Diagnosis result = s.diagnosis;
  result.error = 0;
  for (const double error : errors) result.error = error > result.error ? error : result.error;
  return result;
}

}  // namespace halfulp::cuda::mfac
