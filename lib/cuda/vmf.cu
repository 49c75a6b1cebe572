#include <cmath>

#include "detail/launch.cuh"
#include "halfulp/cuda/vmf.hpp"
#include "halfulp/error.hpp"
#include "halfulp/kernel/vmf.hpp"

namespace halfulp::cuda::vmf {
namespace {

template <bool Complement>
struct Kappa {
  const double* p;
  const double* length;
  double* out;
  std::ptrdiff_t p_step;
  __device__ void operator()(std::ptrdiff_t i) const {
    const double given = length[i], other = 1 - given;
    out[i] =
        kernel::vmf_kappa(p[i * p_step], Complement ? other : given, Complement ? given : other);
  }
};

template <bool Complement>
void launch_kappa(const char* function, span<const double> p, span<const double> length,
                  span<double> out, stream_handle stream) {
  if (out.size() != length.size())
    throw ShapeError(function, "out.size()", out.size(), length.size());
  if (p.size() != 1 && p.size() != length.size())
    throw ShapeError(function, "p.size()", p.size(), length.size());
  detail::for_each_index(function, length.size(), stream,
                         Kappa<Complement>{p.data(), length.data(), out.data(),
                                           p.size() == 1 ? std::ptrdiff_t{0} : 1});
}

struct Normaliser {
  double v;
  const double* kappa;
  double* out;
  __device__ void operator()(std::ptrdiff_t i) const {
    const double k = kappa[i];
    out[i] = !(v >= 0 && k >= 0)   ? kernel::nan
             : k > kernel::largest ? kernel::infinity
                                   : kernel::vmf_log_normaliser(v, k, true).hi;
  }
};

/// A block computes the values of `tile` points and `tile` components, one a thread, and reads the
/// entries of both into shared memory in steps of `tile`.
constexpr int tile = 16;

__global__ void run_log_density(std::ptrdiff_t n, std::ptrdiff_t components, std::ptrdiff_t p,
                                const double* mu, const double* kappa, const double* scaled,
                                const double* points, double* out) {
  __shared__ double x[tile][tile + 1], m[tile][tile + 1];  // + 1: no two rows in one bank
  const int row = static_cast<int>(threadIdx.y), column = static_cast<int>(threadIdx.x);
  const std::ptrdiff_t k = static_cast<std::ptrdiff_t>(blockIdx.y) * tile + column;
  for (std::ptrdiff_t first = static_cast<std::ptrdiff_t>(blockIdx.x) * tile; first < n;
       first += static_cast<std::ptrdiff_t>(gridDim.x) * tile) {
    const std::ptrdiff_t i = first + row;
    const std::ptrdiff_t loaded = static_cast<std::ptrdiff_t>(blockIdx.y) * tile + row;
    double sum = 0;
    for (std::ptrdiff_t begin = 0; begin < p; begin += tile) {
      const std::ptrdiff_t j = begin + column;
      x[row][column] = i < n && j < p ? points[i * p + j] : 0;
      m[row][column] = loaded < components && j < p ? mu[loaded * p + j] : 0;
      __syncthreads();
      for (int s = 0; s < tile; ++s) {
        const double d = x[row][s] - m[column][s];
        sum += d * d;
      }
      __syncthreads();
    }
    if (i < n && k < components) out[i * components + k] = scaled[k] - kappa[k] * (0.5 * sum);
  }
}

struct Posterior {
  const double* log_weights;
  double* joint;
  double* log_likelihood;
  std::ptrdiff_t components;
  __device__ void operator()(std::ptrdiff_t i) const {
    double* const row = joint + i * components;
    double most = -kernel::infinity;
    for (std::ptrdiff_t k = 0; k < components; ++k) {
      row[k] += log_weights[k];
      if (row[k] > most) most = row[k];
    }
    double sum = 0;
    for (std::ptrdiff_t k = 0; k < components; ++k) {
      row[k] = std::exp(row[k] - most);
      sum += row[k];
    }
    for (std::ptrdiff_t k = 0; k < components; ++k) row[k] /= sum;
    log_likelihood[i] = most + std::log(sum);
  }
};

}  // namespace

void kappa(span<const double> p, span<const double> length, span<double> out,
           stream_handle stream) {
  launch_kappa<false>("cuda::vmf::kappa", p, length, out, stream);
}

void kappa_complement(span<const double> p, span<const double> complement, span<double> out,
                      stream_handle stream) {
  launch_kappa<true>("cuda::vmf::kappa_complement", p, complement, out, stream);
}

void log_normaliser_scaled(double p, span<const double> kappa, span<double> out,
                           stream_handle stream) {
  constexpr const char* function = "cuda::vmf::log_normaliser_scaled";
  if (out.size() != kappa.size())
    throw ShapeError(function, "out.size()", out.size(), kappa.size());
  detail::for_each_index(function, kappa.size(), stream,
                         Normaliser{0.5 * p - 1, kappa.data(), out.data()});
}

void log_density(span<const double> mu, span<const double> kappa, span<const double> scaled,
                 span<const double> points, span<double> out, stream_handle stream) {
  constexpr const char* function = "cuda::vmf::log_density";
  const std::ptrdiff_t components = kappa.size();
  if (scaled.size() != components)
    throw ShapeError(function, "scaled.size()", scaled.size(), components);
  const std::ptrdiff_t p = components > 0 ? mu.size() / components : 0;
  if (mu.size() != p * components)
    throw ShapeError(function, "mu.size()", mu.size(), p * components);
  const std::ptrdiff_t n = p > 0 ? points.size() / p : 0;
  if (points.size() != n * p) throw ShapeError(function, "points.size()", points.size(), n * p);
  if (out.size() != n * components)
    throw ShapeError(function, "out.size()", out.size(), n * components);
  if (out.size() == 0) return;
  constexpr std::ptrdiff_t most_blocks = 1 << 20, most_columns = 65535;
  const std::ptrdiff_t rows = (n + tile - 1) / tile, columns = (components + tile - 1) / tile;
  if (columns > most_columns)
    throw ShapeError(function, "kappa.size()", components, most_columns * tile);
  const dim3 grid(static_cast<unsigned>(rows < most_blocks ? rows : most_blocks),
                  static_cast<unsigned>(columns));
  detail::launch(function, run_log_density, grid, dim3(tile, tile), stream, n, components, p,
                 mu.data(), kappa.data(), scaled.data(), points.data(), out.data());
}

void posterior(span<const double> log_weights, span<double> joint, span<double> log_likelihood,
               stream_handle stream) {
  constexpr const char* function = "cuda::vmf::posterior";
  const std::ptrdiff_t n = log_likelihood.size(), components = log_weights.size();
  if (joint.size() != n * components)
    throw ShapeError(function, "joint.size()", joint.size(), n * components);
  detail::for_each_index(
      function, n, stream,
      Posterior{log_weights.data(), joint.data(), log_likelihood.data(), components});
}

}  // namespace halfulp::cuda::vmf
