#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "detail/mfac_core.hpp"

/// Products with one block of H, k vectors at a time. Arrays are of the whole, as in mfac_rows.hpp.
namespace halfulp::mfac::detail {

/// Of one vector's part in one block: the estimate of its error, and lambda |y|.
struct Outcome {
  double relative = 0;
  double norm = 0;
};

/// What a pass over G says of k vectors x: G x, m numbers each, and x . x.
struct Projections {
  std::vector<double> dots;
  std::vector<double> squares;
};

enum class Power { inverse, inverse_root };

/// y = H^-1 x or H^-1/2 x; x and y do not overlap.
/// @throws  DomainError naming `function` for an x that is not finite, with its index
template <class T>
void product(const char* function, const Gradients& gradients, const Core& core,
             const Options& options, Power power, std::span<const T> x, std::ptrdiff_t k,
             std::span<T> y, int threads, std::span<Outcome> outcomes, Projections known = {});
/// y = H^-1 G^T a, of m numbers each: those of the block's columns of G^T a.
template <class T>
void combination(const Gradients& gradients, const Core& core, const Options& options,
                 std::span<const double> a, std::ptrdiff_t k, std::span<T> y, int threads,
                 std::span<Outcome> outcomes);
/// x^T H^-1 x of k vectors; returns the estimate of the largest relative error.
double quadratic_form(const Gradients& gradients, const Core& core, const Options& options,
                      std::span<const double> x, std::ptrdiff_t k, int threads,
                      std::span<double> out);
/// G H^-1 x.
void influence(const Gradients& gradients, const Core& core, const Options& options,
               std::span<const double> x, std::ptrdiff_t k, int threads, std::span<double> out,
               std::span<Outcome> outcomes);
/// g_i^T H^-1 g_i for each row.
[[nodiscard]] std::vector<double> self_influence(const Gradients& gradients, const Core& core,
                                                 const Options& options);

/// Of the worst product, and of the worst one in double-double.
[[nodiscard]] double worst_product_error(const Core& core);
[[nodiscard]] double extended_error(const Core& core);
/// Of an entry of H^-1 made of w_i . w_j, with |w_i| |w_j| and, if it is 1 - |w_j|^2 over lambda,
/// that or w_i . w_j as `value`.
[[nodiscard]] double extended_entry_error(const Core& core, double norms, double value);

}  // namespace halfulp::mfac::detail
