/* Samples of rays to colour, alpha and depth, front to back, and the gradient: a warp to a ray, 32 samples at a time. */
#ifndef AF_COMPOSITE_CUH
#define AF_COMPOSITE_CUH

#include "cuda/launch.cuh"
#include "shared/emission.h"

#define COMPOSITE_WARPS 4

typedef struct {
  const float *sigma, *color, *t, *lengths;
  const int64_t *offsets;
  int64_t rays;
  int channels;
} ray_samples;

/* Sums over the lanes before this one and itself. */
__device__ __forceinline__ float warp_prefix(float value, int lane) {
  for (int step = 1; step < 32; step *= 2) {
    float before = __shfl_up_sync(AF_FULL_WARP, value, step);
    if (lane >= step) value += before;
  }
  return value;
}

/* Sums over the lanes after this one and itself. */
__device__ __forceinline__ float warp_suffix(float value, int lane) {
  for (int step = 1; step < 32; step *= 2) {
    float after = __shfl_down_sync(AF_FULL_WARP, value, step);
    if (lane + step < 32) value += after;
  }
  return value;
}

typedef struct { float weight, passes; int seen; } lit_sample;

/* One lane's sample, once `depth_before` was passed through: its weight, what reaches the eye from behind it, and whether
   it is looked at. Adds the 32 samples' depth to depth_before. All lanes of the warp call this together. */
__device__ __forceinline__ lit_sample light_sample(const ray_samples &job, int64_t i, int64_t last, int lane,
                                                   float *depth_before) {
  float depth = i < last ? job.sigma[i] * job.lengths[i] : 0.0f;
  float after = warp_prefix(depth, lane), before = __shfl_up_sync(AF_FULL_WARP, after, 1);
  float reaches = af_exp(-(*depth_before + (lane ? before : 0.0f))), through = af_exp(-depth);
  lit_sample s;
  s.seen = i < last && !(reaches < AF_TRANSMITTANCE_MIN);
  s.weight = s.seen ? reaches * af_absorbed(depth, through) : 0.0f;
  s.passes = s.seen ? reaches * through : 0.0f;
  *depth_before += warp_sum(depth);
  return s;
}

__global__ void __launch_bounds__(COMPOSITE_WARPS * 32)
    composite_forward(ray_samples job, float *__restrict__ out, float *__restrict__ alpha, float *__restrict__ depth,
                      float *__restrict__ weights) {
  int lane = (int)threadIdx.x % 32;
  int64_t r = (int64_t)blockIdx.x * COMPOSITE_WARPS + threadIdx.x / 32;
  if (r >= job.rays) return;
  int64_t first = job.offsets[r], last = job.offsets[r + 1];
  float passed = 0.0f, alpha_sum = 0.0f, depth_sum = 0.0f;
  float sums = 0.0f; /* lane c keeps channel c */
  int seen = 1;
  for (int64_t base = first; base < last; base += 32) {
    int64_t i = base + lane;
    float weight = 0.0f;
    if (seen) {
      lit_sample s = light_sample(job, i, last, lane, &passed);
      weight = s.weight;
      for (int c = 0; c < job.channels; c++) {
        float sum = warp_sum(s.seen ? weight * job.color[i * job.channels + c] : 0.0f);
        if (lane == c) sums += sum;
      }
      alpha_sum += weight;
      if (s.seen) depth_sum += weight * job.t[i];
      seen = __any_sync(AF_FULL_WARP, s.seen);
    }
    if (i < last) weights[i] = weight;
  }
  alpha_sum = warp_sum(alpha_sum), depth_sum = warp_sum(depth_sum);
  if (lane < job.channels) out[r * job.channels + lane] = sums;
  if (lane == 0) alpha[r] = alpha_sum, depth[r] = depth_sum;
}

typedef struct { const float *weights, *out, *alpha, *depth, *of_weights; /* the last may be null */ } light_gradient;

/* Forward for what reaches the eye from behind each sample, left where its gradient will be; then back, with what the
   samples behind give. Both ways a lane has the same samples, so it reads only what it wrote. */
__global__ void __launch_bounds__(COMPOSITE_WARPS * 32)
    composite_gradient(ray_samples job, light_gradient grad, float *grad_sigma, float *__restrict__ grad_color) {
  int lane = (int)threadIdx.x % 32, channels = job.channels;
  int64_t r = (int64_t)blockIdx.x * COMPOSITE_WARPS + threadIdx.x / 32;
  if (r >= job.rays) return;
  int64_t first = job.offsets[r], last = job.offsets[r + 1];
  float passed = 0.0f, behind = 0.0f, of_alpha = grad.alpha[r], of_depth = grad.depth[r];
  const float *of_out = grad.out + r * channels;
  for (int64_t base = first; base < last; base += 32) {
    lit_sample s = light_sample(job, base + lane, last, lane, &passed);
    /* No sample's value is negative: what is not looked at is told by that. */
    if (base + lane < last) grad_sigma[base + lane] = s.seen ? s.passes : -1.0f;
  }
  int64_t base = first + (last - first + 31) / 32 * 32;
  while ((base -= 32) >= first) {
    int64_t i = base + lane;
    float passes = i < last ? grad_sigma[i] : -1.0f, value = 0.0f, weight = 0.0f;
    int seen = !(passes < 0.0f);
    if (seen) {
      weight = grad.weights[i];
      value = of_alpha + of_depth * job.t[i] + (grad.of_weights ? grad.of_weights[i] : 0.0f);
      for (int c = 0; c < channels; c++) value += of_out[c] * job.color[i * channels + c];
    }
    float given = seen ? weight * value : 0.0f, from_here = warp_suffix(given, lane);
    float after = __shfl_down_sync(AF_FULL_WARP, from_here, 1);
    if (i < last) {
      grad_sigma[i] = seen ? job.lengths[i] * (passes * value - (behind + (lane < 31 ? after : 0.0f))) : 0.0f;
      for (int c = 0; c < channels; c++) grad_color[i * channels + c] = seen ? weight * of_out[c] : 0.0f;
    }
    behind += warp_sum(given);
  }
}

AF_API int af_cuda_composite_rays(const float *sigma, const float *color, const float *t, const float *lengths,
                                  const int64_t *offsets, int64_t rays, int channels, float *out, float *alpha,
                                  float *depth, float *weights, int device, void *stream_handle) {
  if (rays < 0 || rays > INT32_MAX || channels < 1 || channels > AF_MAX_CHANNELS) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!rays) return AF_OK;
  ray_samples job = {sigma, color, t, lengths, offsets, rays, channels};
  AF_LAUNCH(composite_forward, af_blocks(rays, COMPOSITE_WARPS), COMPOSITE_WARPS * 32, 0, (cudaStream_t)stream_handle,
            job, out, alpha, depth, weights);
  return af_launched();
}

/* grad_weights may be null. */
AF_API int af_cuda_composite_rays_backward(const float *sigma, const float *color, const float *t, const float *lengths,
                                           const int64_t *offsets, int64_t rays, int channels, const float *weights,
                                           const float *grad_out, const float *grad_alpha, const float *grad_depth,
                                           const float *grad_weights, float *grad_sigma, float *grad_color, int device,
                                           void *stream_handle) {
  if (rays < 0 || rays > INT32_MAX || channels < 1 || channels > AF_MAX_CHANNELS) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!rays) return AF_OK;
  ray_samples job = {sigma, color, t, lengths, offsets, rays, channels};
  light_gradient grad = {weights, grad_out, grad_alpha, grad_depth, grad_weights};
  AF_LAUNCH(composite_gradient, af_blocks(rays, COMPOSITE_WARPS), COMPOSITE_WARPS * 32, 0, (cudaStream_t)stream_handle,
            job, grad, grad_sigma, grad_color);
  return af_launched();
}

#endif
