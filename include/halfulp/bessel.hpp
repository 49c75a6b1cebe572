#pragma once

#include <span>

#include "halfulp/kernel/bessel_name.hpp"

/// Modified Bessel functions I_v(x) and K_v(x) on the log scale: real orders v >= 0, arguments
/// x >= 0, without overflow or underflow, with their ratios and derivatives.
///
///     halfulp::log_bessel_i(1023.5, 800.0);              // log I, to one unit in the last place
///     halfulp::bessel_i_ratio(1023.5, 800.0).value;      // I_{v+1}/I_v, the mean resultant length
///
/// Domain: v in [0, 1e15] and any x >= 0, subnormal included; larger finite orders give the leading
/// term. Nothing throws in the scalar functions: a NaN, a negative order or a negative argument
/// gives NaN, the ends of the domain their limits:
///
///                      x = 0            x = inf    v = inf, x finite   both infinite
///     log I            -inf (v = 0: 0)  inf        -inf                NaN
///     log e^-x I       -inf (v = 0: 0)  -inf       -inf                NaN
///     log K            inf              -inf       inf                 NaN
///     log e^x K        inf              -inf       inf                 NaN
///     I_{v+1}/I_v      0                1          0                   NaN
///       1 minus it     1                0          1                   NaN
///       d/dx           1/(2v+2)         0          0                   NaN
///     K_{v+1}/K_v      inf              1          inf                 NaN
///       it minus 1     inf              0          inf                 NaN
///       d/dx           -inf             0          -inf                NaN
///     d/dx log I       inf (v = 0: 0)   1          inf                 NaN
///     d/dx log K       -inf             -1         -inf                NaN
///     d/dv log I       -inf             0          -inf                NaN
///     d/dv log K       inf (v = 0: 0)   0 (v = 0)  inf                 NaN
///
/// (v = inf at x = 0 is the limit x -> 0 of the column before: as v = inf, x finite; log K at x = 0
/// is inf for every v.)
/// float: computed in double and rounded once more. Of the logarithms BesselMode::accurate has an
/// error in units in the last place of the logarithm itself, near its zeros too, BesselMode::fast
/// one relative to max(1, |logarithm|), for v <= 1e6.
/// @accuracy  budgets `bessel_*` in validation/budgets.csv
/// @source    Plesner, Sorensen, Hauberg (2024), arXiv 2409.08729, the domain and the purpose;
///            kernel/bessel.hpp, the formulas
namespace halfulp {

/// log I_v(x), I the modified Bessel function of the first kind.
/// @accuracy  budget `bessel_log_i`
[[nodiscard]] double log_bessel_i(double v, double x, BesselMode mode = BesselMode::accurate);
[[nodiscard]] float log_bessel_i(float v, float x, BesselMode mode = BesselMode::accurate);

/// log K_v(x), K the modified Bessel function of the second kind.
/// @accuracy  budget `bessel_log_k`
[[nodiscard]] double log_bessel_k(double v, double x, BesselMode mode = BesselMode::accurate);
[[nodiscard]] float log_bessel_k(float v, float x, BesselMode mode = BesselMode::accurate);

/// log(e^-x I_v(x)), without the cancellation of subtracting x.
/// @accuracy  budget `bessel_log_i_scaled`
[[nodiscard]] double log_bessel_i_scaled(double v, double x,
                                         BesselMode mode = BesselMode::accurate);
[[nodiscard]] float log_bessel_i_scaled(float v, float x, BesselMode mode = BesselMode::accurate);

/// log(e^x K_v(x)).
/// @accuracy  budget `bessel_log_k_scaled`
[[nodiscard]] double log_bessel_k_scaled(double v, double x,
                                         BesselMode mode = BesselMode::accurate);
[[nodiscard]] float log_bessel_k_scaled(float v, float x, BesselMode mode = BesselMode::accurate);

/// Ratio of neighbouring orders.
struct BesselRatio {
  double value;       ///< I_{v+1}(x)/I_v(x) in [0, 1), or K_{v+1}(x)/K_v(x) > 1
  double complement;  ///< 1 - value (I) or value - 1 (K), computed directly
  double derivative;  ///< d value/dx
};

/// @accuracy  budgets `bessel_i_ratio`, `_complement`, `_derivative`
[[nodiscard]] BesselRatio bessel_i_ratio(double v, double x);
/// @accuracy  budgets `bessel_k_ratio`, `_complement`, `_derivative`
[[nodiscard]] BesselRatio bessel_k_ratio(double v, double x);

/// x with I_{v+1}(x)/I_v(x) = ratio: the concentration of a mean resultant length (v = p/2 - 1).
/// @param  ratio  in [0, 1]; 0 gives 0, 1 gives inf, outside NaN
/// @accuracy  budget `bessel_i_ratio_inverse`, in units of u (1 + condition number)
[[nodiscard]] double bessel_i_ratio_inverse(double v, double ratio);
/// Likewise from 1 - ratio, which keeps its digits where the ratio is next to 1.
[[nodiscard]] double bessel_i_ratio_inverse_complement(double v, double complement);

/// d/dx log I_v(x) = I_{v+1}/I_v + v/x, and d/dx log K_v(x) = v/x - K_{v+1}/K_v.
/// @accuracy  budgets `bessel_log_i_dx`, `bessel_log_k_dx`
[[nodiscard]] double log_bessel_i_dx(double v, double x);
[[nodiscard]] double log_bessel_k_dx(double v, double x);

/// d/dv log I_v(x) < 0 and d/dv log K_v(x) >= 0.
/// @accuracy  budgets `bessel_log_i_dv`, `bessel_log_k_dv`
[[nodiscard]] double log_bessel_i_dv(double v, double x);
[[nodiscard]] double log_bessel_k_dv(double v, double x);

struct BesselOptions {
  BesselMode mode = BesselMode::accurate;
  int threads = 0;  ///< 0: OpenMP's default
};

/// f(v, x), as the function of that name.
[[nodiscard]] double bessel(BesselFunction f, double v, double x,
                            BesselMode mode = BesselMode::accurate);

/// out[i] = f(v[i], x[i]); a single v or a single x stands for all. Bad elements give NaN in their
/// place. The same bits for any number of threads and any order of the points; instruction sets
/// differ within the budgets. `out` may be `v` or `x`, but must not overlap them otherwise.
/// @throws    ShapeError if a size is neither 1 nor out.size()
/// @accuracy  the budgets of the scalar functions; logarithms in fast mode `bessel_log_fast`
/// @cost      logarithms: docs/bessel.md has nanoseconds an element; O(n) and a few pages of memory
void bessel(BesselFunction f, std::span<const double> v, std::span<const double> x,
            std::span<double> out, const BesselOptions& options = {});
void bessel(BesselFunction f, std::span<const float> v, std::span<const float> x,
            std::span<float> out, const BesselOptions& options = {});

}  // namespace halfulp
