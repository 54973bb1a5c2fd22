/* Rows of a grid as sums of their own bases: a thread to a number of the result, and to a weight on the way back. */
#ifndef AF_COMBINE_ROWS_CUH
#define AF_COMBINE_ROWS_CUH

#include "cuda/launch.cuh"

#define COMBINE_THREADS 256

__global__ void __launch_bounds__(COMBINE_THREADS)
    combine_forward(const float *__restrict__ base, const float *__restrict__ bases, const float *__restrict__ weights,
                    int64_t n, int count, int features, float *__restrict__ out) {
  int64_t i = (int64_t)blockIdx.x * COMBINE_THREADS + threadIdx.x;
  if (i >= n * features) return;
  int64_t row = i / features;
  const float *at = bases + row * count * features + i % features;
  float sum = base[i];
  for (int b = 0; b < count; b++) sum += __ldg(weights + row * count + b) * __ldg(at + (int64_t)b * features);
  out[i] = sum;
}

/* Either gradient may be null. */
__global__ void __launch_bounds__(COMBINE_THREADS)
    combine_backward(const float *__restrict__ grad, const float *__restrict__ bases, const float *__restrict__ weights,
                     int64_t n, int count, int features, float *__restrict__ grad_bases,
                     float *__restrict__ grad_weights) {
  int64_t i = (int64_t)blockIdx.x * COMBINE_THREADS + threadIdx.x;
  if (i >= n * count) return;
  const float *of_row = grad + i / count * features;
  float weight = weights[i], dot = 0.0f;
  for (int f = 0; f < features; f++) {
    float g = __ldg(of_row + f);
    if (grad_bases) grad_bases[i * features + f] = weight * g;
    if (grad_weights) dot += g * __ldg(bases + i * features + f);
  }
  if (grad_weights) grad_weights[i] = dot;
}

static inline bool combine_fits(int64_t n, int count, int features) {
  return n >= 0 && count >= 0 && features >= 1 && features <= AF_COMBINE_FEATURES_MAX &&
         n * (count > features ? count : features) <= (int64_t)INT32_MAX * COMBINE_THREADS;
}

/* Arguments as in cpu/api.c. */
AF_API int af_cuda_combine_rows(const float *base, const float *bases, const float *weights, int64_t n, int count, int features,
                                float *out, int device, void *stream_handle) {
  if (!combine_fits(n, count, features)) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!n) return AF_OK;
  AF_LAUNCH(combine_forward, af_blocks(n * features, COMBINE_THREADS), COMBINE_THREADS, 0, (cudaStream_t)stream_handle, base,
            bases, weights, n, count, features, out);
  return af_launched();
}

AF_API int af_cuda_combine_rows_backward(const float *grad, const float *bases, const float *weights, int64_t n, int count,
                                         int features, float *grad_bases, float *grad_weights, int device,
                                         void *stream_handle) {
  if (!combine_fits(n, count, features)) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!n || !count) return AF_OK;
  AF_LAUNCH(combine_backward, af_blocks(n * count, COMBINE_THREADS), COMBINE_THREADS, 0, (cudaStream_t)stream_handle, grad,
            bases, weights, n, count, features, grad_bases, grad_weights);
  return af_launched();
}

#endif
