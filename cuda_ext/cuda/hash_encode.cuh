/* Multi-resolution hash encoding and its gradients (Mueller et al. 2022, instant-ngp, section 3): a thread for a point and a level,
   level after level, so that the caches hold one level's rows at a time. The table's gradient is summed by atomics, as there;
   the points' by one thread a point, over the levels in order. */
#ifndef AF_HASH_ENCODE_CUH
#define AF_HASH_ENCODE_CUH

#include "cuda/launch.cuh"
#include "shared/hash_grid.h"

#define ENCODE_THREADS 256
/* Blocks are counted in 31 bits. */
#define AF_MAX_POINTS ((int64_t)INT32_MAX * ENCODE_THREADS)

/* The levels travel as a kernel's argument: no copy that could outlive a graph, and read fast, being the same for a block. */
typedef struct {
  af_grid grid;
  const float *points, *table, *grad;
  int64_t n;
  float *out, *grad_table, *grad_points;
} encode_job;
static_assert(sizeof(encode_job) <= 4096 - 64, "the levels are no kernel argument");

typedef struct { uint32_t row[8]; float fraction[3]; } grid_corners;

template <int D>
__device__ __forceinline__ grid_corners find_corners(const af_level &level, const float *__restrict__ point) {
  grid_corners found;
  uint32_t vertex[3] = {0, 0, 0};
  uint32_t factor[3] = {1, level.factor_y, level.factor_z};
#pragma unroll
  for (int d = 0; d < D; d++)
    vertex[d] = (uint32_t)af_grid_cell(point[d], level.resolution, found.fraction + d) * factor[d];
#pragma unroll
  for (int c = 0; c < 1 << D; c++)
    found.row[c] = af_grid_row(vertex[0] + (c & 1), c & 2 ? vertex[1] + factor[1] : vertex[1],
                               c & 4 ? vertex[2] + factor[2] : vertex[2], level.size, level.dense);
  return found;
}

/* Features are added up four at a time, so that a thread needs few registers whatever their number. */
template <int D>
__global__ void __launch_bounds__(ENCODE_THREADS) encode_forward(const __grid_constant__ encode_job job) {
  int64_t n = (int64_t)blockIdx.x * ENCODE_THREADS + threadIdx.x;
  if (n >= job.n) return;
  const af_level &level = job.grid.at[blockIdx.y];
  int features = job.grid.features;
  grid_corners found = find_corners<D>(level, job.points + n * D);
  float *out = job.out + (n * job.grid.levels + blockIdx.y) * features;
  const float *table = job.table + level.offset * features;
  for (int first = 0; first < features; first += 4) {
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int c = 0; c < 1 << D; c++) {
      float weight = af_corner_weight(found.fraction, c, D, -1);
      const float *row = table + (size_t)found.row[c] * features + first;
#pragma unroll
      for (int f = 0; f < 4; f++)
        if (first + f < features) sum[f] += weight * __ldg(row + f);
    }
#pragma unroll
    for (int f = 0; f < 4; f++)
      if (first + f < features) out[first + f] = sum[f];
  }
}

template <int D>
__global__ void __launch_bounds__(ENCODE_THREADS) encode_table_grad(const __grid_constant__ encode_job job) {
  int64_t n = (int64_t)blockIdx.x * ENCODE_THREADS + threadIdx.x;
  if (n >= job.n) return;
  const af_level &level = job.grid.at[blockIdx.y];
  int features = job.grid.features;
  grid_corners found = find_corners<D>(level, job.points + n * D);
  const float *grad = job.grad + (n * job.grid.levels + blockIdx.y) * features;
  float *grad_table = job.grad_table + level.offset * features;
  for (int f = 0; f < features; f++) {
    float g = grad[f];
#pragma unroll
    for (int c = 0; c < 1 << D; c++)
      atomicAdd(grad_table + (size_t)found.row[c] * features + f, af_corner_weight(found.fraction, c, D, -1) * g);
  }
}

template <int D>
__global__ void __launch_bounds__(ENCODE_THREADS) encode_points_grad(const __grid_constant__ encode_job job) {
  int64_t n = (int64_t)blockIdx.x * ENCODE_THREADS + threadIdx.x;
  if (n >= job.n) return;
  int features = job.grid.features;
  float slopes[3] = {0, 0, 0};
  for (int l = 0; l < job.grid.levels; l++) {
    const af_level &level = job.grid.at[l];
    grid_corners found = find_corners<D>(level, job.points + n * D);
    const float *grad = job.grad + (n * job.grid.levels + l) * features;
    const float *table = job.table + level.offset * features;
    float dot[8];
#pragma unroll
    for (int c = 0; c < 1 << D; c++) {
      dot[c] = 0;
      for (int f = 0; f < features; f++) dot[c] += grad[f] * __ldg(table + (size_t)found.row[c] * features + f);
    }
#pragma unroll
    for (int d = 0; d < D; d++) {
      float slope = 0;
#pragma unroll
      for (int c = 0; c < 1 << D; c++)
        if (!(c >> d & 1)) slope += af_corner_weight(found.fraction, c, D, d) * (dot[c | 1 << d] - dot[c]);
      slopes[d] += (float)level.resolution * slope;
    }
  }
#pragma unroll
  for (int d = 0; d < D; d++) {
    float x = job.points[n * D + d];
    job.grad_points[n * D + d] = x >= 0.0f && x <= 1.0f ? slopes[d] : 0.0f;
  }
}

/* Arguments as in cpu/api.c; the resolutions and offsets lie in the caller's own memory. */
AF_API int af_cuda_hash_encode(const float *points, int64_t n, int dimensions, const float *table, int features,
                               const int32_t *resolutions, const int64_t *offsets, int levels, float *out, int device,
                               void *stream_handle) {
  encode_job job = {};
  if (!af_grid_prepare(&job.grid, dimensions, features, resolutions, offsets, levels)) return AF_BAD_VALUE;
  if (n < 0 || n > AF_MAX_POINTS) return AF_BAD_VALUE;
  if (!n) return AF_OK;
  job.points = points, job.table = table, job.n = n, job.out = out;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  dim3 blocks(af_blocks(n, ENCODE_THREADS), (unsigned)levels);
  AF_TRY(af_begin(device));
  if (dimensions == 2) AF_LAUNCH(encode_forward<2>, blocks, ENCODE_THREADS, 0, stream, job);
  else AF_LAUNCH(encode_forward<3>, blocks, ENCODE_THREADS, 0, stream, job);
  return af_launched();
}

/* Either gradient may be null. */
AF_API int af_cuda_hash_encode_backward(const float *points, int64_t n, int dimensions, const float *table,
                                        int features, const int32_t *resolutions, const int64_t *offsets, int levels,
                                        const float *grad, float *grad_table, float *grad_points, int device,
                                        void *stream_handle) {
  encode_job job = {};
  if (!af_grid_prepare(&job.grid, dimensions, features, resolutions, offsets, levels)) return AF_BAD_VALUE;
  if (n < 0 || n > AF_MAX_POINTS) return AF_BAD_VALUE;
  job.points = points, job.table = table, job.grad = grad, job.n = n;
  job.grad_table = grad_table, job.grad_points = grad_points;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  unsigned blocks = af_blocks(n, ENCODE_THREADS);
  AF_TRY(af_begin(device));
  if (grad_table) {
    size_t bytes = (size_t)offsets[levels] * features * sizeof(float);
    AF_TRY(af_status(cudaMemsetAsync(grad_table, 0, bytes, stream)));
  }
  if (!n) return AF_OK;
  if (grad_table) {
    dim3 grid(blocks, (unsigned)levels);
    if (dimensions == 2) AF_LAUNCH(encode_table_grad<2>, grid, ENCODE_THREADS, 0, stream, job);
    else AF_LAUNCH(encode_table_grad<3>, grid, ENCODE_THREADS, 0, stream, job);
    AF_TRY(af_launched());
  }
  if (grad_points) {
    if (dimensions == 2) AF_LAUNCH(encode_points_grad<2>, blocks, ENCODE_THREADS, 0, stream, job);
    else AF_LAUNCH(encode_points_grad<3>, blocks, ENCODE_THREADS, 0, stream, job);
    AF_TRY(af_launched());
  }
  return AF_OK;
}

#endif
