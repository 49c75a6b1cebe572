#pragma once

#include <complex>
#include <span>
#include <vector>

namespace halfulp::detail {

/// Discrete Fourier transform of real data: X_k = sum_n x_n e^(-2 pi i k n / N), k = 0 .. N/2.
/// The only place of the library that calls FFTW (see docs/install.md on its licence).
[[nodiscard]] std::vector<std::complex<double>> real_fft(std::span<const double> x);

}  // namespace halfulp::detail
