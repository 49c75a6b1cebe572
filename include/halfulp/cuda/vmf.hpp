#pragma once

#include "halfulp/cuda/memory.hpp"

/// Von Mises-Fisher distributions on arrays in device memory: halfulp/vmf.hpp says what they are.
///
///     cuda::vmf::log_normaliser_scaled(p, kappa, scaled);         // of K components
///     cuda::vmf::log_density(mu, kappa, scaled, points, logs);     // n x K
///     cuda::vmf::posterior(log_weights, logs, log_likelihood);     // the E step
///
/// Every call queues one launch on the stream, allocates nothing and waits for nothing. Nothing is
/// checked but sizes: points and mean directions have norm 1.
namespace halfulp::cuda::vmf {

/// out[i] = the concentration with mean resultant length length[i] in dimension p[i]; a single p
/// stands for all. NaN outside the domain, 0 and inf at its ends, as on the host.
/// @throws    ShapeError if the sizes do not fit; DeviceError if the launch fails
/// @accuracy  budget `vmf_kappa`
/// @cost      neighbours of similar p and length run fastest: warps follow one formula
void kappa(span<const double> p, span<const double> length, span<double> out,
           stream_handle stream = nullptr);
/// Likewise from 1 - length.
void kappa_complement(span<const double> p, span<const double> complement, span<double> out,
                      stream_handle stream = nullptr);

/// out[i] = log C_p(kappa[i]) + kappa[i].
/// @accuracy  budget `vmf_log_normaliser_scaled`
void log_normaliser_scaled(double p, span<const double> kappa, span<double> out,
                           stream_handle stream = nullptr);

/// out[i K + k] = log f_k(x_i) = scaled[k] - kappa[k] |x_i - mu_k|^2/2 for n points and K
/// components.
/// @param  mu      K rows of p entries
/// @param  kappa   K, and `scaled` their log_normaliser_scaled
/// @param  points  n rows of p entries
/// @param  out     n K
/// @throws         ShapeError if the sizes do not fit
/// @cost           3 n K p operations; points are read K/16 times, through the cache
void log_density(span<const double> mu, span<const double> kappa, span<const double> scaled,
                 span<const double> points, span<double> out, stream_handle stream = nullptr);

/// The E step: joint[i K + k] = log f_k(x_i) becomes the probability of component k given x_i, and
/// log_likelihood[i] = log sum_k exp(log_weights[k] + log f_k(x_i)).
/// @param  log_weights  K; -inf for a component of no weight
/// @throws              ShapeError if joint.size() is not n K
void posterior(span<const double> log_weights, span<double> joint, span<double> log_likelihood,
               stream_handle stream = nullptr);

}  // namespace halfulp::cuda::vmf
