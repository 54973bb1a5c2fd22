/* What every kernel file needs: the C interface's conventions, launching, and sums over warps, blocks and rows. */
#ifndef AF_LAUNCH_CUH
#define AF_LAUNCH_CUH

#include <stddef.h>
#include <stdint.h>

/* tests/parity/cuda_on_host runs the very same kernels on the CPU, with its own launcher in place of these. */
#ifndef AF_CUDA_ON_HOST
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define AF_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define AF_DYNAMIC_SHARED(type, name) extern __shared__ type name[]
#define AF_FULL_WARP 0xffffffffu
#endif

#include "shared/constants.h"

#define AF_API extern "C" __attribute__((visibility("default")))

/* Every entry takes a device's number and a stream, launches and returns: it never waits and never allocates.
   Statuses from AF_CUDA_FAILED on are that plus a cudaError_t. */
enum { AF_OK = 0, AF_BAD_VALUE = 1, AF_NO_MEMORY = 2, AF_CUDA_FAILED = 1000 };

#define AF_MAX_GAUSSIANS (INT32_MAX / 64)
#define AF_MAX_FRAMES 65535

static inline int af_status(cudaError_t error) { return error == cudaSuccess ? AF_OK : AF_CUDA_FAILED + (int)error; }

/* Goes on with the next line only if `call` was AF_OK. */
#define AF_TRY(call)                     \
  do {                                   \
    int af_tried = (call);               \
    if (af_tried != AF_OK) return af_tried; \
  } while (0)

/* This library has a CUDA runtime of its own, linked in: its idea of the current device follows from here. */
static inline int af_begin(int device) { return af_status(cudaSetDevice(device)); }
static inline int af_launched() { return af_status(cudaGetLastError()); }

static inline unsigned af_blocks(int64_t items, int per_block) { return (unsigned)((items + per_block - 1) / per_block); }

/* The next `count` items of a workspace; `used` counts its bytes, and all that it does where the workspace is null. */
#define AF_TAKE(type, workspace, used, count) ((type *)af_take(workspace, &(used), (size_t)(count) * sizeof(type)))
static inline void *af_take(void *workspace, size_t *used, size_t bytes) {
  void *at = (char *)workspace + *used;
  *used += (bytes + 255) / 256 * 256;
  return at;
}

__device__ __forceinline__ float warp_sum(float value) {
  for (int offset = 16; offset; offset >>= 1) value += __shfl_xor_sync(AF_FULL_WARP, value, offset);
  return value;
}

/* The sum over r of rows[r, c], in an order that depends on nothing but the counts: the first `split` columns go to `out`,
   the others to `rest`. One block of 128 a column. */
__global__ void __launch_bounds__(128)
    sum_rows(const float *rows, int row_count, int columns, float *out, int split, float *rest) {
  __shared__ double sums[128];
  int column = (int)blockIdx.x, thread = (int)threadIdx.x;
  double sum = 0;
  for (int r = thread; r < row_count; r += 128) sum += rows[(int64_t)r * columns + column];
  sums[thread] = sum;
  for (int half = 64; half; half >>= 1) {
    __syncthreads();
    if (thread < half) sums[thread] += sums[thread + half];
  }
  if (thread == 0) *(column < split ? out + column : rest + (column - split)) = (float)sums[0];
}

#endif
