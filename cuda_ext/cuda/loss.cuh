/* Weighted L1 + DSSIM and its gradient in two passes over tiles with a margin of five pixels. Pass one blurs four moments,
   leaves three derivative maps and sums the loss; pass two blurs the maps back onto the picture. */
#ifndef AF_LOSS_CUH
#define AF_LOSS_CUH

#include <math.h>

#include "cuda/launch.cuh"
#include "shared/ssim.h"

#define TAPS (2 * AF_SSIM_HALF + 1)
#define LOSS_WIDE 32
#define LOSS_HIGH 16
#define LOSS_THREADS 256
#define LOSS_PIXELS (LOSS_WIDE * LOSS_HIGH / LOSS_THREADS)
#define MARGIN_WIDE (LOSS_WIDE + 2 * AF_SSIM_HALF)
#define MARGIN_HIGH (LOSS_HIGH + 2 * AF_SSIM_HALF)
#define MARGIN_PIXELS (MARGIN_WIDE * MARGIN_HIGH)

typedef struct { float tap[TAPS]; } loss_taps;

typedef struct {
  const float *image, *target, *weight, *background; /* background: null unless the image has alpha */
  float *maps;     /* [3, 3, height, width]: map, channel; null: no gradient wanted */
  float *partials; /* [blocks, 2]: loss, weights, each over three channels */
  float *scale;    /* 1 / sum of the weights */
  float *grad;
  int height, width;
  float fraction;
  loss_taps taps;
} loss_job;

__device__ __forceinline__ float image_value(const loss_job &job, int64_t pixel, int channel) {
  if (!job.background) return job.image[pixel * 3 + channel];
  float alpha = job.image[pixel * 4 + 3];
  return job.image[pixel * 4 + channel] + (1.0f - alpha) * job.background[pixel * 3 + channel];
}

/* Where in the picture place `i` of a tile with its margin lies; -1 outside. */
__device__ __forceinline__ int64_t margin_pixel(const loss_job &job, int i) {
  int x = (int)blockIdx.x * LOSS_WIDE + i % MARGIN_WIDE - AF_SSIM_HALF;
  int y = (int)blockIdx.y * LOSS_HIGH + i / MARGIN_WIDE - AF_SSIM_HALF;
  return x < 0 || y < 0 || x >= job.width || y >= job.height ? -1 : (int64_t)y * job.width + x;
}

/* A block is one tile of one channel. */
__global__ void __launch_bounds__(LOSS_THREADS) loss_moments(loss_job job) {
  __shared__ float xs[MARGIN_PIXELS], ys[MARGIN_PIXELS], across[4][MARGIN_HIGH * LOSS_WIDE];
  __shared__ float warp_sums[2][LOSS_THREADS / 32];
  int thread = (int)threadIdx.x, channel = (int)blockIdx.z;
  for (int i = thread; i < MARGIN_PIXELS; i += LOSS_THREADS) {
    int64_t pixel = margin_pixel(job, i);
    xs[i] = pixel < 0 ? 0.0f : image_value(job, pixel, channel);
    ys[i] = pixel < 0 ? 0.0f : job.target[pixel * 3 + channel];
  }
  __syncthreads();
  for (int i = thread; i < MARGIN_HIGH * LOSS_WIDE; i += LOSS_THREADS) {
    const float *px = xs + i / LOSS_WIDE * MARGIN_WIDE + i % LOSS_WIDE, *py = ys + (px - xs);
    float mx = 0.0f, my = 0.0f, squares = 0.0f, xy = 0.0f;
#pragma unroll
    for (int t = 0; t < TAPS; t++) {
      float x = px[t], y = py[t], wx = job.taps.tap[t] * x, wy = job.taps.tap[t] * y;
      mx += wx, my += wy, squares += wx * x, squares += wy * y, xy += wx * y;
    }
    across[0][i] = mx, across[1][i] = my, across[2][i] = squares, across[3][i] = xy;
  }
  __syncthreads();
  float loss = 0.0f, total = 0.0f, dssim_factor = job.fraction * 0.5f;
  for (int part = 0; part < LOSS_PIXELS; part++) {
    int i = part * LOSS_THREADS + thread, column = i % LOSS_WIDE, row = i / LOSS_WIDE;
    int x = (int)blockIdx.x * LOSS_WIDE + column, y = (int)blockIdx.y * LOSS_HIGH + row;
    if (x >= job.width || y >= job.height) continue;
    float blurred[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int t = 0; t < TAPS; t++)
#pragma unroll
      for (int m = 0; m < 4; m++) blurred[m] += job.taps.tap[t] * across[m][(row + t) * LOSS_WIDE + column];
    af_ssim s = af_ssim_window(blurred[0], blurred[1], blurred[2], blurred[3]);
    int middle = (row + AF_SSIM_HALF) * MARGIN_WIDE + column + AF_SSIM_HALF;
    int64_t pixel = (int64_t)y * job.width + x, plane = (int64_t)job.height * job.width;
    float w = job.weight[pixel];
    loss += w * ((1.0f - job.fraction) * fabsf(xs[middle] - ys[middle]) + dssim_factor * (1.0f - s.value));
    total += w;
    if (job.maps) {
      float q = -dssim_factor * w, *map = job.maps + channel * plane + pixel;
      map[0] = q * s.d_mu_x, map[3 * plane] = q * s.d_xx, map[6 * plane] = q * s.d_xy;
    }
  }
  loss = warp_sum(loss), total = warp_sum(total);
  if (thread % 32 == 0) warp_sums[0][thread / 32] = loss, warp_sums[1][thread / 32] = total;
  __syncthreads();
  if (thread < 2) {
    float sum = 0.0f;
    for (int w = 0; w < LOSS_THREADS / 32; w++) sum += warp_sums[thread][w];
    int64_t block = ((int64_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    job.partials[2 * block + thread] = sum;
  }
}

/* One block. Weights that sum to nothing cannot be reported without waiting for the device: the loss becomes NaN. */
__global__ void __launch_bounds__(LOSS_THREADS)
    finish_loss(const float *__restrict__ partials, int blocks, float *__restrict__ loss, float *__restrict__ scale) {
  __shared__ double losses[LOSS_THREADS], weights[LOSS_THREADS];
  int thread = (int)threadIdx.x;
  double loss_sum = 0, weight_sum = 0;
  for (int b = thread; b < blocks; b += LOSS_THREADS) loss_sum += partials[2 * b], weight_sum += partials[2 * b + 1];
  losses[thread] = loss_sum, weights[thread] = weight_sum;
  for (int half = LOSS_THREADS / 2; half; half >>= 1) {
    __syncthreads();
    if (thread < half) losses[thread] += losses[thread + half], weights[thread] += weights[thread + half];
  }
  if (thread) return;
  /* Both sums ran over three channels, so the mean over channels needs no further factor. */
  *loss = weights[0] > 0 ? (float)(losses[0] / weights[0]) : NAN;
  *scale = weights[0] > 0 ? (float)(1 / weights[0]) : NAN;
}

__global__ void __launch_bounds__(LOSS_THREADS) loss_gradient(loss_job job) {
  __shared__ float maps[3][MARGIN_PIXELS], across[3][MARGIN_HIGH * LOSS_WIDE];
  int thread = (int)threadIdx.x;
  int64_t plane = (int64_t)job.height * job.width;
  float scale = *job.scale, alpha_grad[LOSS_PIXELS] = {0.0f};
  for (int channel = 0; channel < 3; channel++) {
    for (int i = thread; i < MARGIN_PIXELS; i += LOSS_THREADS) {
      int64_t pixel = margin_pixel(job, i);
#pragma unroll
      for (int m = 0; m < 3; m++) maps[m][i] = pixel < 0 ? 0.0f : job.maps[(m * 3 + channel) * plane + pixel];
    }
    __syncthreads();
    for (int i = thread; i < MARGIN_HIGH * LOSS_WIDE; i += LOSS_THREADS) {
      int at = i / LOSS_WIDE * MARGIN_WIDE + i % LOSS_WIDE;
      float sums[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int t = 0; t < TAPS; t++)
#pragma unroll
        for (int m = 0; m < 3; m++) sums[m] += job.taps.tap[t] * maps[m][at + t];
#pragma unroll
      for (int m = 0; m < 3; m++) across[m][i] = sums[m];
    }
    __syncthreads();
#pragma unroll
    for (int part = 0; part < LOSS_PIXELS; part++) {
      int i = part * LOSS_THREADS + thread, column = i % LOSS_WIDE, row = i / LOSS_WIDE;
      int x = (int)blockIdx.x * LOSS_WIDE + column, y = (int)blockIdx.y * LOSS_HIGH + row;
      if (x >= job.width || y >= job.height) continue;
      float sums[3] = {0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int t = 0; t < TAPS; t++)
#pragma unroll
        for (int m = 0; m < 3; m++) sums[m] += job.taps.tap[t] * across[m][(row + t) * LOSS_WIDE + column];
      int64_t pixel = (int64_t)y * job.width + x;
      float value = image_value(job, pixel, channel), wanted = job.target[pixel * 3 + channel];
      float sign = value > wanted ? 1.0f : value < wanted ? -1.0f : 0.0f;
      float g = scale * (sums[0] + 2.0f * value * sums[1] + wanted * sums[2]) +
                (1.0f - job.fraction) * scale * job.weight[pixel] * sign;
      if (job.background) {
        job.grad[pixel * 4 + channel] = g;
        alpha_grad[part] -= g * job.background[pixel * 3 + channel];
        if (channel == 2) job.grad[pixel * 4 + 3] = alpha_grad[part];
      } else {
        job.grad[pixel * 3 + channel] = g;
      }
    }
  }
}

static dim3 loss_grid(int height, int width, unsigned channels) {
  return dim3((unsigned)((width + LOSS_WIDE - 1) / LOSS_WIDE), (unsigned)((height + LOSS_HIGH - 1) / LOSS_HIGH), channels);
}

AF_API int64_t af_cuda_l1_dssim_workspace(int height, int width, int needs_grad) {
  dim3 grid = loss_grid(height, width, 3);
  int64_t partials = (int64_t)grid.x * grid.y * grid.z * 2, maps = needs_grad ? (int64_t)9 * height * width : 0;
  return (partials + 1 + maps) * (int64_t)sizeof(float);
}

/* With a background the image and grad have four channels, else three; grad may be null. loss: on the device. */
AF_API int af_cuda_l1_dssim(const float *image, const float *target, const float *weight, const float *background,
                            int height, int width, float dssim_fraction, float *loss, float *grad, void *workspace,
                            int device, void *stream_handle) {
  if (height < 1 || width < 1) return AF_BAD_VALUE;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  dim3 grid = loss_grid(height, width, 3);
  int blocks = (int)(grid.x * grid.y * grid.z);
  float *partials = (float *)workspace, *scale = partials + 2 * (size_t)blocks;
  loss_job job = {image, target, weight, background, grad ? scale + 1 : nullptr, partials, scale, grad,
                  height, width, dssim_fraction, {}};
  double sum = 0;
  for (int t = 0; t < TAPS; t++) sum += exp(-(t - AF_SSIM_HALF) * (t - AF_SSIM_HALF) / 4.5);
  for (int t = 0; t < TAPS; t++)
    job.taps.tap[t] = (float)(exp(-(t - AF_SSIM_HALF) * (t - AF_SSIM_HALF) / 4.5) / sum);
  AF_TRY(af_begin(device));
  AF_LAUNCH(loss_moments, grid, LOSS_THREADS, 0, stream, job);
  AF_TRY(af_launched());
  AF_LAUNCH(finish_loss, 1, LOSS_THREADS, 0, stream, (const float *)partials, blocks, loss, scale);
  AF_TRY(af_launched());
  if (!grad) return AF_OK;
  AF_LAUNCH(loss_gradient, loss_grid(height, width, 1), LOSS_THREADS, 0, stream, job);
  return af_launched();
}

#endif
