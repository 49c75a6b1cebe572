#pragma once

#include <cstddef>
#include <cstdint>

/// The vector half of the E step of mixtures (lib/vmf_expectation.cpp). Results may depend on the
/// instruction set, never on anything else.
namespace halfulp::detail {

/// Rows are screened by the tile.
inline constexpr std::ptrdiff_t vmf_screen_rows = 16;
/// Components are screened by groups of this many: arrays have room for whole groups.
inline constexpr std::ptrdiff_t vmf_screen_group = 8;
/// Rows in 16 bits are padded with zeros to a multiple of this many numbers.
inline constexpr std::ptrdiff_t vmf_short_padding = 32;
/// Sums of products in 32 bits are over this many numbers at most.
inline constexpr std::ptrdiff_t vmf_short_chunk = 1024;

/// A tile of rows beside `groups` groups of components, in single precision. Arrays of a number
/// for each component and row of the tile have it at [16 j + i].
struct VmfScreen {
  std::ptrdiff_t dimension;  ///< q, of the coordinates
  std::ptrdiff_t groups;
  const float* row;        ///< [16 d + i]: coordinate d of row i
  const float* component;  ///< [8 q g + 8 d + c]: coordinate d of component 8 g + c
  const float* constant;   ///< of each component
  const float* drift;      ///< of each component, for a unit of `rest`
  const float* rest;       ///< of each row
  const float* high;       ///< of each component and row
  float* product;          ///< out: row . component
  float* bound;            ///< out: product + constant + drift rest + high
};
void vmf_screen(const VmfScreen& screen);
/// Bit i: row i has a component whose bound is above limit[i].
[[nodiscard]] std::uint32_t vmf_screen_above(std::ptrdiff_t components, const float* bound,
                                             const float* limit);

/// A row in 16 bits: unit short_j is near scale x_j, in 2-norm to within `lack`, and sums of
/// products of two such rows over a chunk fit in 32 bits.
struct VmfShortRow {
  double unit;
  double lack;
};
VmfShortRow vmf_shorten(std::ptrdiff_t p, const double* x, double scale, std::int16_t* out);

/// out[i] = row . component list[i], exact: `component` has them one after the other, all padded.
void vmf_short_products(std::ptrdiff_t padded, const std::int16_t* row,
                        const std::int16_t* component, std::ptrdiff_t count,
                        const std::int32_t* list, double* out);

/// out[i] = row . component list[i].
void vmf_products_of(std::ptrdiff_t p, const double* row, const double* component,
                     std::ptrdiff_t count, const std::int32_t* list, double* out);

/// sum += factor x.
void vmf_add_scaled(std::ptrdiff_t p, double factor, const double* x, double* sum);

}  // namespace halfulp::detail
