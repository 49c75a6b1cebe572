// The host in place of a CUDA device, to run the kernels' own sources where there is no device:
// does every thread compute what it should, read only what was written, meet the others at each
// barrier? Not how fast, nor how the device rounds.
//
// The threads of a block are fibers of one thread; a barrier changes to the next fiber. Fibers run
// in ascending or in descending order from barrier to barrier, and likewise blocks from launch to
// launch: with a barrier missing the results are wrong in one of the orders. Memory that nobody has
// written is filled with bytes 0xff, which are NaN as float and as double and -1 as an integer.
#include <cuda_runtime.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <string>

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_ON_HOST_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_ON_HOST_SANITIZED
#endif
#endif
#if defined(CUDA_ON_HOST_SANITIZED)
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" std::uint64_t halfulp_shared_begin[], halfulp_shared_end[];  // by shared.ld

struct CUstream_st {};
struct CUevent_st {
  std::chrono::steady_clock::time_point recorded;
};

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

constexpr std::size_t most_threads = 1024, stack_bytes = 1 << 18, page = 1 << 12;
/// Far less than a machine has that runs tests, far more than tests ask for.
constexpr std::size_t device_memory = std::size_t{1} << 32, shared_memory = 48 << 10;

/// Memory for the stack of a fiber; what overflows it ends the program.
class Stack {
 public:
  Stack() {
    void* const memory = mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) throw std::bad_alloc();
    memory_ = static_cast<char*>(memory);
  }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  ~Stack() { munmap(memory_, stack_bytes + page); }
  [[nodiscard]] char* bottom() const { return memory_ + page; }

 private:
  char* memory_;
};

/// A place to be and its stack, as the address sanitiser needs it.
struct Context {
  ucontext_t registers{};
  const void* stack = nullptr;
  std::size_t bytes = 0;
  void* fake_stack = nullptr;
};

enum class State { ready, in_block_barrier, in_warp, returned };

struct Thread {
  Stack stack;
  Context context;
  uint3 index{};
  int lane = 0;
  State state = State::returned;
  // where it waits, and for a warp with what
  cuda_on_host::Place place{};
  unsigned mask = 0;
  int source = 0;
  std::uint64_t value = 0, result = 0;
};

std::deque<Thread> threads;  // of the block that runs, and those that greater blocks had
std::size_t thread_count = 0;
Thread* running = nullptr;
Context scheduler;
const std::function<void()>* current_kernel = nullptr;
unsigned launches = 0;

std::map<const char*, std::size_t> allocations;
std::size_t allocated_bytes = 0;
cudaError_t last_error = cudaSuccess;
std::string launch_failure;

cudaError_t result(cudaError_t code) {
  if (code != cudaSuccess) last_error = code;
  return code;
}

/// Goes on at `to`; returns when something comes back to `from`, which `ended` says will not be.
void change(Context& from, Context& to, bool ended = false) {
#if defined(CUDA_ON_HOST_SANITIZED)
  __sanitizer_start_switch_fiber(ended ? nullptr : &from.fake_stack, to.stack, to.bytes);
  swapcontext(&from.registers, &to.registers);
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#else
  static_cast<void>(ended);
  swapcontext(&from.registers, &to.registers);
#endif
}

/// The first function on the stack of a fiber.
void run_thread() noexcept {
#if defined(CUDA_ON_HOST_SANITIZED)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.bytes);
#endif
  (*current_kernel)();
  running->state = State::returned;
  change(running->context, scheduler, true);
}

void begin(Thread& thread, unsigned number) {
  thread.index = {number % blockDim.x, number / blockDim.x % blockDim.y,
                  number / blockDim.x / blockDim.y};
  thread.lane = static_cast<int>(number % warpSize);
  thread.state = State::ready;
  thread.context.stack = thread.stack.bottom();
  thread.context.bytes = stack_bytes;
  ucontext_t& registers = thread.context.registers;
  getcontext(&registers);
  registers.uc_stack.ss_sp = thread.stack.bottom();
  registers.uc_stack.ss_size = stack_bytes;
  registers.uc_link = nullptr;
  makecontext(&registers, run_thread, 0);
}

bool same(const cuda_on_host::Place& a, const cuda_on_host::Place& b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

std::string name(const cuda_on_host::Place& place) {
  const char* const slash = std::strrchr(place.file, '/');
  return std::string(slash != nullptr ? slash + 1 : place.file) + ':' + std::to_string(place.line);
}

/// The thread of a lane of the same warp, or nullptr where there is none or it has returned.
Thread* lane_of_warp(std::size_t thread, int lane) {
  const std::size_t t = thread - thread % warpSize + static_cast<std::size_t>(lane);
  return t < thread_count && threads[t].state != State::returned ? &threads[t] : nullptr;
}

/// Does every lane that this one waits for wait with it? Then what it gets is in `result`.
bool complete_exchange(std::size_t number) {
  Thread& thread = threads[number];
  std::uint64_t bits = 0;
  for (int lane = 0; lane < warpSize; ++lane) {
    if ((thread.mask >> lane & 1) == 0) continue;
    const Thread* const other = lane_of_warp(number, lane);
    if (other == nullptr) continue;
    if (other->state != State::in_warp || other->mask != thread.mask ||
        !same(other->place, thread.place))
      return false;
    if (other->value != 0) bits |= std::uint64_t{1} << lane;
  }
  if (thread.source == cuda_on_host::ballot) {
    thread.result = bits;
  } else {
    const Thread* const other =
        (thread.mask >> thread.source & 1) != 0 ? lane_of_warp(number, thread.source) : nullptr;
    thread.result = other != nullptr ? other->value : ~std::uint64_t{0};  // undefined on a device
  }
  return true;
}

/// Lets those go on whose wait is over; false if that is nobody.
bool release() {
  std::deque<std::size_t> complete;
  bool at_one_barrier = true;
  const Thread* waiting = nullptr;
  for (std::size_t t = 0; t < thread_count; ++t) {
    const Thread& thread = threads[t];
    if (thread.state == State::in_warp && complete_exchange(t)) complete.push_back(t);
    if (thread.state == State::returned) continue;
    if (waiting == nullptr) waiting = &thread;
    at_one_barrier = at_one_barrier && thread.state == State::in_block_barrier &&
                     same(thread.place, waiting->place);
  }
  if (at_one_barrier) {
    std::uint64_t any = 0;
    for (std::size_t t = 0; t < thread_count; ++t)
      if (threads[t].state == State::in_block_barrier) any |= threads[t].value;
    for (std::size_t t = 0; t < thread_count; ++t) {
      if (threads[t].state != State::in_block_barrier) continue;
      threads[t].result = any;
      complete.push_back(t);
    }
  }
  for (const std::size_t t : complete) threads[t].state = State::ready;
  return !complete.empty();
}

/// Where the threads of a block wait that wait for ever.
std::string waiting_places() {
  std::map<std::string, int> counts;
  for (std::size_t t = 0; t < thread_count; ++t) {
    const Thread& thread = threads[t];
    char mask[24];
    std::snprintf(mask, sizeof mask, " for lanes %08x", thread.mask);
    if (thread.state == State::returned)
      ++counts["returned"];
    else
      ++counts["wait at " + name(thread.place) + (thread.state == State::in_warp ? mask : "")];
  }
  std::string text = "a barrier that not all threads reach: in block (" +
                     std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                     std::to_string(blockIdx.z) + ")";
  const char* separator = ": ";
  for (const auto& [place, count] : counts) {
    text += separator + std::to_string(count) + ' ' + place;
    separator = ", ";
  }
  return text;
}

/// Word by word: between the variables lie zones that the address sanitiser guards.
__attribute__((no_sanitize("address"))) void fill_shared_memory() {
  for (volatile std::uint64_t* word = halfulp_shared_begin; word != halfulp_shared_end; ++word)
    *word = ~std::uint64_t{0};
}

/// Runs the block `number`, counted from the first of the grid; false where it waits for ever.
bool run_block(unsigned number) {
  fill_shared_memory();
  for (std::size_t t = 0; t < thread_count; ++t) begin(threads[t], static_cast<unsigned>(t));
  for (unsigned phase = 0;; ++phase) {
    // Thue and Morse's sequence: no period that a kernel's loop could share, no value three times
    const bool ascending = std::popcount(launches + number + phase) % 2 == 0;
    bool all_returned = true;
    for (std::size_t k = 0; k < thread_count; ++k) {
      Thread& thread = threads[ascending ? k : thread_count - 1 - k];
      if (thread.state == State::ready) {
        running = &thread;
        threadIdx = thread.index;
        change(scheduler, thread.context);
      }
      all_returned = all_returned && thread.state == State::returned;
    }
    if (all_returned) return true;
    if (!release()) return false;
  }
}

/// Is it device memory, all of it of one allocation?
bool on_device(const void* memory, std::size_t bytes) {
  const char* const begin = static_cast<const char*>(memory);
  auto allocation = allocations.upper_bound(begin);
  if (allocation == allocations.begin()) return false;
  --allocation;
  const auto offset = static_cast<std::size_t>(begin - allocation->first);
  return offset <= allocation->second && bytes <= allocation->second - offset;
}

}  // namespace

namespace cuda_on_host {

cudaError_t run(const cudaLaunchConfig_t& config, const std::function<void()>& kernel) {
  const dim3 grid = config.gridDim, block = config.blockDim;
  if (config.attrs != nullptr || config.numAttrs != 0 || config.dynamicSmemBytes != 0)
    return result(cudaErrorInvalidValue);
  const bool empty =
      grid.x == 0 || grid.y == 0 || grid.z == 0 || block.x == 0 || block.y == 0 || block.z == 0;
  if (empty || grid.x > 0x7fffffff || grid.y > 0xffff || grid.z > 0xffff || block.x > 1024 ||
      block.y > 1024 || block.z > 64 || std::size_t{block.x} * block.y * block.z > most_threads)
    return result(cudaErrorInvalidConfiguration);
  blockDim = block;
  gridDim = grid;
  current_kernel = &kernel;
  thread_count = std::size_t{block.x} * block.y * block.z;
  while (threads.size() < thread_count) threads.emplace_back();
  ++launches;
  const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
  for (std::size_t k = 0; k < blocks; ++k) {
    const std::size_t b = launches % 2 == 0 ? k : blocks - 1 - k;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                static_cast<unsigned>(b / grid.x / grid.y)};
    if (!run_block(static_cast<unsigned>(b))) {
      launch_failure = waiting_places();
      return result(cudaErrorLaunchFailure);
    }
  }
  return cudaSuccess;
}

void wait_for_block(Place place) {
  Thread& thread = *running;
  thread.state = State::in_block_barrier;
  thread.place = place;
  change(thread.context, scheduler);
}

bool any_of_block(bool predicate, Place place) {
  Thread& thread = *running;
  thread.value = predicate ? 1 : 0;
  wait_for_block(place);
  return thread.result != 0;
}

std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, Place place) {
  Thread& thread = *running;
  thread.state = State::in_warp;
  thread.place = place;
  thread.mask = mask;
  thread.source = source;
  thread.value = value;
  change(thread.context, scheduler);
  return thread.result;
}

int lane() { return running->lane; }

}  // namespace cuda_on_host

cudaError_t cudaGetLastError() {
  const cudaError_t code = last_error;
  last_error = cudaSuccess;
  return code;
}

const char* cudaGetErrorString(cudaError_t code) {
  switch (code) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorLaunchFailure:
      return launch_failure.c_str();
  }
  return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return result(cudaErrorInvalidDevice);
  *properties = {"host, in place of a device",
                 device_memory,
                 shared_memory,
                 warpSize,
                 static_cast<int>(most_threads),
                 1};
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return result(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = static_cast<int>(most_threads);
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(shared_memory);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = warpSize;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = 1;
      return cudaSuccess;
  }
  return result(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }

cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = nullptr;
  if (bytes == 0) return cudaSuccess;
  constexpr std::size_t alignment = 256;
  if (bytes > device_memory - allocated_bytes || posix_memalign(memory, alignment, bytes) != 0)
    return result(cudaErrorMemoryAllocation);
  std::memset(*memory, 0xff, bytes);
  allocations[static_cast<char*>(*memory)] = bytes;
  allocated_bytes += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  const auto allocation = allocations.find(static_cast<char*>(memory));
  if (allocation == allocations.end()) return result(cudaErrorInvalidValue);
  allocated_bytes -= allocation->second;
  allocations.erase(allocation);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if ((to_device && !on_device(to, bytes)) || (from_device && !on_device(from, bytes)))
    return result(cudaErrorInvalidValue);
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t) {
  if (!on_device(memory, bytes)) return result(cudaErrorInvalidValue);
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->recorded = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->recorded - begin->recorded).count();
  return cudaSuccess;
}
