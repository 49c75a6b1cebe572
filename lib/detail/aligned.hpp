#pragma once

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cstddef>
#include <new>

namespace halfulp::detail {

/// An array that begins at a multiple of 64 bytes: vectors that reach over two lines of the cache
/// are slow.
template <class T>
using AlignedArray = hwy::AlignedFreeUniquePtr<T[]>;

template <class T>
AlignedArray<T> aligned_array(std::ptrdiff_t n, T value = {}) {
  AlignedArray<T> array = hwy::AllocateAligned<T>(static_cast<std::size_t>(n));
  if (!array) throw std::bad_alloc();
  std::fill_n(array.get(), n, value);
  return array;
}

}  // namespace halfulp::detail
