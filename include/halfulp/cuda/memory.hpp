#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "halfulp/hd.hpp"

struct CUstream_st;

/// Device memory: who owns it (buffer), who looks at it (span), and copies across.
///
///     cuda::buffer<dd> x(host, stream), y(x.size());
///     cuda::dd_apply(DdFunction::exp, x, {}, y, stream);
///     cuda::copy(y, result, stream);
///     cuda::synchronize(stream);                       // only now may `result` be read
///
/// Work is queued on the stream given (nullptr: the default stream) of the current device, and no
/// function waits for it unless its name says so. Every failed call throws DeviceError with CUDA's
/// code and text; an error of earlier queued work may surface here.
namespace halfulp::cuda {

/// CUDA's stream handle, cudaStream_t.
using stream_handle = ::CUstream_st*;

/// Number of usable devices; 0 also without a driver.
[[nodiscard]] int device_count();
/// Name of the current device, e.g. "NVIDIA H100 80GB HBM3". @throws DeviceError without a device
[[nodiscard]] std::string device_name();
/// Waits until everything queued on the stream has run. @throws DeviceError if any of it failed
void synchronize(stream_handle stream = nullptr);

namespace detail {
[[nodiscard]] void* allocate(std::ptrdiff_t count, std::size_t element_size);
void release(void* memory) noexcept;
void copy_to_device(void* to, const void* from, std::size_t bytes, stream_handle stream);
void copy_to_host(void* to, const void* from, std::size_t bytes, stream_handle stream);
void require_same_size(const char* function, std::ptrdiff_t actual, std::ptrdiff_t expected);
}  // namespace detail

template <class T>
class buffer;

/// A view of device memory. It does not convert from a host span: memory of the wrong side does not
/// compile. The pointer may be read and written on the device only.
template <class T>
class span {
 public:
  constexpr span() = default;
  /// Device memory from elsewhere (another library's allocation), `size` elements from `data`.
  HALFULP_HD constexpr explicit span(T* data, std::ptrdiff_t size) : data_(data), size_(size) {}
  /// span<T> is a span<const T>.
  template <class U>
  requires std::is_same_v<T, const U> HALFULP_HD constexpr span(span<U> other)  // NOLINT
      : data_(other.data()), size_(other.size()) {}
  span(buffer<std::remove_const_t<T>>& memory);       // NOLINT
  span(const buffer<std::remove_const_t<T>>& memory)  // NOLINT
      requires std::is_const_v<T>;

  [[nodiscard]] HALFULP_HD constexpr T* data() const { return data_; }
  [[nodiscard]] HALFULP_HD constexpr std::ptrdiff_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  std::ptrdiff_t size_ = 0;
};

/// Queues a copy, host to device. Pageable host memory may be reused on return; pinned memory only
/// after synchronize.
/// @throws  ShapeError if the sizes differ
template <class T>
void copy(std::span<const std::type_identity_t<T>> from, span<T> to,
          stream_handle stream = nullptr) {
  detail::require_same_size("cuda::copy", to.size(), std::ssize(from));
  detail::copy_to_device(to.data(), from.data(), from.size_bytes(), stream);
}

/// Queues a copy, device to host; the values are there after synchronize(stream).
/// @throws  ShapeError if the sizes differ
template <class T>
void copy(span<const T> from, std::span<std::type_identity_t<T>> to,
          stream_handle stream = nullptr) {
  detail::require_same_size("cuda::copy", std::ssize(to), from.size());
  detail::copy_to_host(to.data(), from.data(), to.size_bytes(), stream);
}

/// Owns `size` elements on the current device. Moves, does not copy. Destruction waits for the
/// device, as cudaFree does.
template <class T>
class buffer {
  static_assert(std::is_trivially_copyable_v<T>, "device memory holds plain values");

 public:
  buffer() = default;
  /// Uninitialised. @throws DomainError if size < 0; DeviceError if the device has not that much
  explicit buffer(std::ptrdiff_t size)
      : data_(static_cast<T*>(detail::allocate(size, sizeof(T)))), size_(size) {}
  /// Allocates and queues a copy of `host`.
  explicit buffer(std::span<const T> host, stream_handle stream = nullptr)
      : buffer(std::ssize(host)) {
    detail::copy_to_device(data_, host.data(), host.size_bytes(), stream);
  }
  buffer(buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  buffer& operator=(buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~buffer() { detail::release(data_); }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] std::ptrdiff_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  std::ptrdiff_t size_ = 0;
};

template <class T>
span<T>::span(buffer<std::remove_const_t<T>>& memory)
    : data_(memory.data()), size_(memory.size()) {}

template <class T>
span<T>::span(const buffer<std::remove_const_t<T>>& memory) requires std::is_const_v<T>
    : data_(memory.data()), size_(memory.size()) {}

template <class T>
void copy(const buffer<T>& from, std::span<std::type_identity_t<T>> to,
          stream_handle stream = nullptr) {
  copy(span<const T>(from), to, stream);
}

template <class T>
void copy(std::span<const std::type_identity_t<T>> from, buffer<T>& to,
          stream_handle stream = nullptr) {
  copy<T>(from, span<T>(to), stream);
}

}  // namespace halfulp::cuda
