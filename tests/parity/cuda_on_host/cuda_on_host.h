/* Enough of CUDA to run this project's kernels on a CPU, for their results and their barriers, not for their speed.
   Blocks run one after another, a block's threads as fibers that change places only at barriers and warp exchanges. A thread
   that waits at another barrier than the rest of its block or warp is an error, and so is an exchange that not all of a
   full warp reach. AF_REVERSE in the environment runs the threads of a block last to first: what then differs, races. */
#ifndef CUDA_ON_HOST_H
#define CUDA_ON_HOST_H

#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

#define AF_CUDA_ON_HOST 1
#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__
#define AF_FULL_WARP 0xffffffffu

struct float2 { float x, y; };
struct __half2 { uint16_t x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* Exact, as every half is a float. */
inline float half_to_float(uint16_t bits) {
  int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                              : exponent ? std::ldexp(1024.0f + (float)mantissa, exponent - 25)
                                         : std::ldexp((float)mantissa, -24);
  return bits >> 15 ? -size : size;
}
inline float2 __half22float2(__half2 pair) { return {half_to_float(pair.x), half_to_float(pair.y)}; }

typedef int cudaError_t;
typedef void *cudaStream_t;
enum { cudaSuccess = 0 };
inline int cudaSetDevice(int) { return cudaSuccess; }
inline int cudaGetLastError() { return cudaSuccess; }
inline const char *cudaGetErrorString(int) { return "an error of the emulation"; }
inline int cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t) {
  memset(at, value, bytes);
  return cudaSuccess;
}

namespace host {

enum state { RUNNING, AT_BLOCK, AT_WARP, FINISHED };

struct fiber {
  ucontext_t context;
  jmp_buf place;
  std::vector<char> stack;
  state at = RUNNING;
  bool entered = false;
};

inline dim3 block_index, block_size, grid_size;
inline unsigned current_thread;
inline std::vector<fiber> fibers;
inline std::vector<uint32_t> slots;
inline std::vector<char> dynamic_shared;
inline std::function<void()> *body;
inline jmp_buf scheduler;
inline ucontext_t first_return;

[[noreturn]] inline void fail(const char *what) {
  fprintf(stderr, "cuda_on_host: %s (block %u,%u,%u thread %u)\n", what, block_index.x, block_index.y, block_index.z,
          current_thread);
  abort();
}

inline void wait(state where) {
  fiber &f = fibers[current_thread];
  f.at = where;
  if (!_setjmp(f.place)) _longjmp(scheduler, 1);
}

inline void enter() {
  (*body)();
  fibers[current_thread].at = FINISHED;
  _longjmp(scheduler, 1);
}

inline void resume(unsigned thread) {
  current_thread = thread;
  fiber &f = fibers[thread];
  if (_setjmp(scheduler)) return;
  if (f.entered) _longjmp(f.place, 1);
  f.entered = true;
  getcontext(&f.context);
  f.stack.resize(64 * 1024);
  f.context.uc_stack.ss_sp = f.stack.data();
  f.context.uc_stack.ss_size = f.stack.size();
  f.context.uc_link = nullptr;
  makecontext(&f.context, enter, 0);
  setcontext(&f.context);
}

/* Lets go a warp that is complete at its exchange, or the block when all that still run are at its barrier. */
inline bool release() {
  unsigned count = (unsigned)fibers.size();
  bool any = false, all_at_block = true;
  for (unsigned warp = 0; warp < count; warp += 32) {
    unsigned end = warp + 32 < count ? warp + 32 : count, waiting = 0;
    for (unsigned t = warp; t < end; t++) {
      waiting += fibers[t].at == AT_WARP;
      all_at_block &= fibers[t].at == AT_BLOCK || fibers[t].at == FINISHED;
    }
    if (waiting && waiting != 32) fail("a full warp's exchange was not reached by all of its threads");
    if (waiting) {
      any = true;
      for (unsigned t = warp; t < end; t++) fibers[t].at = RUNNING;
    }
  }
  if (any || !all_at_block) return any;
  for (fiber &f : fibers)
    if (f.at == AT_BLOCK) f.at = RUNNING, any = true;
  return any;
}

inline void run_block() {
  bool reverse = getenv("AF_REVERSE") != nullptr;
  for (fiber &f : fibers) f.at = RUNNING, f.entered = false;
  do {
    for (unsigned i = 0; i < fibers.size(); i++) {
      unsigned t = reverse ? (unsigned)fibers.size() - 1 - i : i;
      if (fibers[t].at == RUNNING) resume(t);
    }
  } while (release());
  for (fiber &f : fibers)
    if (f.at != FINISHED) fail("threads wait at different barriers");
}

inline void launch(dim3 grid, unsigned threads, size_t shared_bytes, std::function<void()> kernel) {
  if (!grid.x || !grid.y || !grid.z || !threads || threads > 1024 || shared_bytes > 48 * 1024) fail("a bad launch");
  if (grid.y > 65535 || grid.z > 65535) fail("a grid too tall");
  fibers.resize(threads);
  slots.assign(1024, 0);
  body = &kernel;
  block_size = dim3(threads), grid_size = grid;
  for (block_index.z = 0; block_index.z < grid.z; block_index.z++)
    for (block_index.y = 0; block_index.y < grid.y; block_index.y++)
      for (block_index.x = 0; block_index.x < grid.x; block_index.x++) {
        dynamic_shared.assign(shared_bytes + 1, (char)0x7f); /* garbage, so that what is not set shows */
        run_block();
      }
}

inline uint32_t exchange(uint32_t value, unsigned from) {
  unsigned warp = current_thread / 32 * 32;
  slots[current_thread] = value;
  wait(AT_WARP);
  uint32_t got = slots[warp + from];
  wait(AT_WARP);
  return got;
}

inline uint32_t vote(int value) {
  unsigned warp = current_thread / 32 * 32;
  slots[current_thread] = value != 0;
  wait(AT_WARP);
  uint32_t bits = 0;
  for (unsigned l = 0; l < 32; l++) bits |= slots[warp + l] << l;
  wait(AT_WARP);
  return bits;
}

template <class T> T through_bits(T value, unsigned from) {
  static_assert(sizeof(T) == 4);
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = exchange(bits, from);
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace host

#define threadIdx (dim3(host::current_thread, 0, 0))
#define blockIdx (host::block_index)
#define blockDim (host::block_size)
#define gridDim (host::grid_size)
#define AF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ((void)(stream), host::launch(grid, block, shared_bytes, [=] { kernel(__VA_ARGS__); }))
#define AF_DYNAMIC_SHARED(type, name) type *name = (type *)host::dynamic_shared.data()

inline void __syncthreads() { host::wait(host::AT_BLOCK); }
inline int __syncthreads_and(int value) {
  host::slots[host::current_thread] = value != 0;
  host::wait(host::AT_BLOCK);
  int all = 1;
  for (unsigned t = 0; t < host::block_size.x; t++) all &= (int)host::slots[t];
  host::wait(host::AT_BLOCK);
  return all;
}
template <class T> T __shfl_xor_sync(unsigned, T value, int offset) {
  return host::through_bits(value, host::current_thread % 32 ^ (unsigned)offset);
}
template <class T> T __shfl_up_sync(unsigned, T value, int step) {
  unsigned lane = host::current_thread % 32;
  return host::through_bits(value, lane < (unsigned)step ? lane : lane - (unsigned)step);
}
template <class T> T __shfl_down_sync(unsigned, T value, int step) {
  unsigned lane = host::current_thread % 32;
  return host::through_bits(value, lane + (unsigned)step > 31 ? lane : lane + (unsigned)step);
}
inline unsigned __ballot_sync(unsigned, int value) { return host::vote(value); }
inline int __any_sync(unsigned, int value) { return host::vote(value) != 0; }
inline int __all_sync(unsigned, int value) { return host::vote(value) == 0xffffffffu; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
template <class T> T __ldg(const T *at) { return *at; }
inline float __fdividef(float a, float b) { return a / b; }
inline uint32_t __float_as_uint(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float __uint_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline void atomicAdd(float *at, float value) { *at += value; }
inline void atomicOr(uint32_t *at, uint32_t bits) { *at |= bits; }

#endif
