/* Rays through an occupancy grid, a thread to a ray: once to count, once to write. */
#ifndef AF_MARCH_CUH
#define AF_MARCH_CUH

#include "cuda/launch.cuh"
#include "shared/march.h"

#define MARCH_THREADS 128

typedef struct {
  const float *origins, *directions, *nearest, *farthest, *jitter; /* jitter: null for the middle of each interval */
  int64_t rays;
  af_march_grid grid;
} march_rays;

__device__ __forceinline__ af_march_ray march_ray_of(const march_rays &job, int64_t r) {
  return af_make_march_ray(&job.grid, job.origins + 3 * r, job.directions + 3 * r, job.nearest[r], job.farthest[r],
                           job.jitter ? job.jitter[r] : 0.5f);
}

__global__ void __launch_bounds__(MARCH_THREADS)
    march_count(march_rays job, int most, int32_t *__restrict__ counts, int32_t *__restrict__ firsts) {
  int64_t r = (int64_t)blockIdx.x * MARCH_THREADS + threadIdx.x;
  if (r >= job.rays) return;
  af_march_ray ray = march_ray_of(job, r);
  int first;
  counts[r] = af_march_count(&job.grid, &ray, most, &first);
  firsts[r] = first;
}

__global__ void __launch_bounds__(MARCH_THREADS)
    march_write(march_rays job, const int32_t *__restrict__ firsts, const int64_t *__restrict__ offsets,
                float *__restrict__ positions, float *__restrict__ t, float *__restrict__ lengths) {
  int64_t r = (int64_t)blockIdx.x * MARCH_THREADS + threadIdx.x;
  if (r >= job.rays) return;
  int64_t at = offsets[r], count = offsets[r + 1] - at;
  if (!count) return;
  af_march_ray ray = march_ray_of(job, r);
  af_march_write(&job.grid, &ray, firsts[r], (int)count, positions + 3 * at, t + at, lengths + at);
}

/* box: six numbers in the caller's own memory. */
AF_API int af_cuda_march_rays_count(const float *origins, const float *directions, const float *nearest,
                                    const float *farthest, const float *jitter, int64_t rays, const float *box,
                                    const uint64_t *words, const uint64_t *coarse, int resolution, float step, int most, int32_t *counts,
                                    int32_t *firsts, int device, void *stream_handle) {
  if (rays < 0 || rays > INT32_MAX) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!rays) return AF_OK;
  march_rays job = {origins, directions, nearest, farthest, jitter, rays,
                    af_make_march_grid(box, resolution, step, words, coarse)};
  AF_LAUNCH(march_count, af_blocks(rays, MARCH_THREADS), MARCH_THREADS, 0, (cudaStream_t)stream_handle, job, most,
            counts, firsts);
  return af_launched();
}

AF_API int af_cuda_march_rays_write(const float *origins, const float *directions, const float *nearest,
                                    const float *farthest, const float *jitter, int64_t rays, const float *box,
                                    const uint64_t *words, const uint64_t *coarse, int resolution, float step, const int32_t *firsts,
                                    const int64_t *offsets, float *positions, float *t, float *lengths, int device,
                                    void *stream_handle) {
  if (rays < 0 || rays > INT32_MAX) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!rays) return AF_OK;
  march_rays job = {origins, directions, nearest, farthest, jitter, rays,
                    af_make_march_grid(box, resolution, step, words, coarse)};
  AF_LAUNCH(march_write, af_blocks(rays, MARCH_THREADS), MARCH_THREADS, 0, (cudaStream_t)stream_handle, job, firsts,
            offsets, positions, t, lengths);
  return af_launched();
}

#endif
