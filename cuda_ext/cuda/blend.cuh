/* Blending of bases, its gradient, and Adam on base and deltas with the rank-one gradient formed in registers.
   A row of 14 is seven pairs: a thread owns one pair's column, so that a Gaussian's run of deltas is read in one sweep. */
#ifndef AF_BLEND_CUH
#define AF_BLEND_CUH

#include "cuda/launch.cuh"
#include "shared/adam.h"

#define AF_PAIRS (AF_ATTRIBUTES / 2)
#define BLEND_BLOCKS 1056
/* Above this the weights' gradient is summed by atomics in device memory instead. */
#define BLEND_SHARED_BYTES (48 * 1024)

typedef struct {
  const float2 *grad, *deltas;
  const float *weights; /* may be null where no gradient of the deltas is wanted */
  const int32_t *group;
  int64_t n;
  int k, groups;
  float *partials; /* [blocks, groups, k]; [groups, k] zeros where the sums do not fit a block; null: not wanted */
  int in_shared;
} blend_sums;

/* A group number outside 0..groups-1, which Python refuses, makes its row NaN rather than reach outside. */
__device__ __forceinline__ float blend_weight(const float *weights, int32_t group, int groups, int k, int j) {
  return (uint32_t)group < (uint32_t)groups ? __ldg(weights + (int64_t)group * k + j) : NAN;
}

__device__ __forceinline__ float2 as_floats(float2 pair) { return pair; }
__device__ __forceinline__ float2 as_floats(__half2 pair) { return __half22float2(pair); }

/* One pair of the blended attributes; `Pair` is how two deltas lie in memory. */
template <class Pair>
__device__ __forceinline__ float2 blend_pair(const float2 *__restrict__ base, const Pair *__restrict__ deltas,
                                             const float *__restrict__ weights, const int32_t *__restrict__ group,
                                             int k, int groups, int64_t item) {
  int64_t row = item / AF_PAIRS;
  int32_t g = group[row];
  const Pair *d = deltas + row * k * AF_PAIRS + item % AF_PAIRS;
  float2 sum = base[item];
  if ((uint32_t)g >= (uint32_t)groups) sum.x = sum.y = NAN;
  const float *w = weights + (int64_t)((uint32_t)g < (uint32_t)groups ? g : 0) * k;
#pragma unroll 4
  for (int j = 0; j < k; j++) {
    float2 delta = as_floats(d[j * AF_PAIRS]);
    float weight = __ldg(w + j);
    sum.x += weight * delta.x;
    sum.y += weight * delta.y;
  }
  return sum;
}

template <class Pair>
__global__ void __launch_bounds__(256)
    blend_forward(const float2 *__restrict__ base, const Pair *__restrict__ deltas, const float *__restrict__ weights,
                  const int32_t *__restrict__ group, int64_t n, int k, int groups, float2 *__restrict__ out) {
  int64_t item = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (item < n * AF_PAIRS) out[item] = blend_pair(base, deltas, weights, group, k, groups, item);
}

/* Adds what this thread's column gives to the gradient of one weight; in shared memory every column has its own sum. */
__device__ __forceinline__ void add_weight_grad(const blend_sums &s, float *sums, int32_t group, int column, float dot) {
  if ((uint32_t)group >= (uint32_t)s.groups) return;
  int columns = s.k * AF_PAIRS;
  if (s.in_shared) sums[group * columns + column] += dot;
  else atomicAdd(s.partials + (int64_t)group * s.k + column / AF_PAIRS, dot);
}

__device__ __forceinline__ void clear_weight_grads(const blend_sums &s, float *sums) {
  if (s.partials && s.in_shared)
    for (int i = (int)threadIdx.x; i < s.groups * s.k * AF_PAIRS; i += (int)blockDim.x) sums[i] = 0.0f;
  __syncthreads();
}

__device__ __forceinline__ void store_weight_grads(const blend_sums &s, const float *sums) {
  __syncthreads();
  if (!s.partials || !s.in_shared) return;
  for (int i = (int)threadIdx.x; i < s.groups * s.k; i += (int)blockDim.x) {
    float sum = 0;
    for (int p = 0; p < AF_PAIRS; p++) sum += sums[i * AF_PAIRS + p];
    s.partials[(int64_t)blockIdx.x * s.groups * s.k + i] = sum;
  }
}

__global__ void __launch_bounds__(1024) blend_grads(blend_sums s, float2 *grad_deltas) {
  AF_DYNAMIC_SHARED(float, sums);
  int columns = s.k * AF_PAIRS;
  clear_weight_grads(s, sums);
  for (int64_t row = blockIdx.x; row < s.n; row += gridDim.x) {
    int32_t group = s.group[row];
    for (int c = (int)threadIdx.x; c < columns; c += (int)blockDim.x) {
      float2 g = s.grad[row * AF_PAIRS + c % AF_PAIRS];
      if (s.partials) {
        float2 d = s.deltas[row * columns + c];
        add_weight_grad(s, sums, group, c, g.x * d.x + g.y * d.y);
      }
      if (grad_deltas) {
        float w = blend_weight(s.weights, group, s.groups, s.k, c / AF_PAIRS);
        grad_deltas[row * columns + c] = make_float2(w * g.x, w * g.y);
      }
    }
  }
  store_weight_grads(s, sums);
}

typedef struct {
  float2 *base, *deltas, *base_first, *base_second, *deltas_first, *deltas_second;
  const float *lr, *delta_lr;
  float first_factor, decay;
  af_adam adam;
} blend_adam_job;

__device__ __forceinline__ void adam_pair(float2 *value, float2 *first, float2 *second, float2 value_in, float2 grad,
                                          float2 lr, float2 keep, af_adam adam) {
  float2 v = value_in, m = *first, s = *second;
  af_adam_step(&v.x, &m.x, &s.x, grad.x, lr.x, keep.x, adam);
  af_adam_step(&v.y, &m.y, &s.y, grad.y, lr.y, keep.y, adam);
  *value = v;
  *first = m;
  *second = s;
}

/* Columns 0..7k-1 are the deltas', the last seven the base's. */
__global__ void __launch_bounds__(1024) blend_adam(blend_sums s, blend_adam_job job) {
  AF_DYNAMIC_SHARED(float, sums);
  int columns = s.k * AF_PAIRS;
  clear_weight_grads(s, sums);
  for (int64_t row = blockIdx.x; row < s.n; row += gridDim.x) {
    int32_t group = s.group[row];
    for (int c = (int)threadIdx.x; c < columns + AF_PAIRS; c += (int)blockDim.x) {
      int pair = c % AF_PAIRS;
      float2 g = s.grad[row * AF_PAIRS + pair];
      if (c < columns) {
        int64_t at = row * columns + c;
        float2 d = job.deltas[at];
        float w = blend_weight(s.weights, group, s.groups, s.k, c / AF_PAIRS);
        float2 rate = make_float2(__ldg(job.delta_lr + 2 * pair), __ldg(job.delta_lr + 2 * pair + 1));
        float2 lr = make_float2(rate.x * job.first_factor, rate.y * job.first_factor);
        float2 keep = make_float2(1.0f - rate.x * job.decay, 1.0f - rate.y * job.decay);
        add_weight_grad(s, sums, group, c, g.x * d.x + g.y * d.y);
        adam_pair(job.deltas + at, job.deltas_first + at, job.deltas_second + at, d, make_float2(w * g.x, w * g.y), lr,
                  keep, job.adam);
      } else {
        int64_t at = row * AF_PAIRS + pair;
        float2 lr = make_float2(__ldg(job.lr + 2 * pair) * job.first_factor,
                                __ldg(job.lr + 2 * pair + 1) * job.first_factor);
        adam_pair(job.base + at, job.base_first + at, job.base_second + at, job.base[at], g, lr,
                  make_float2(1.0f, 1.0f), job.adam);
      }
    }
  }
  store_weight_grads(s, sums);
}

static unsigned blend_block_count(int64_t n) { return (unsigned)(n < BLEND_BLOCKS ? n : BLEND_BLOCKS); }
static int blend_threads(int64_t columns) { return columns < 1024 ? (int)(columns + 31) / 32 * 32 : 1024; }
static size_t blend_shared_bytes(int k, int groups) { return (size_t)groups * k * AF_PAIRS * sizeof(float); }

AF_API int64_t af_cuda_blend_workspace(int64_t n, int k, int groups) {
  int64_t rows = blend_shared_bytes(k, groups) <= BLEND_SHARED_BYTES ? (int64_t)blend_block_count(n) : 1;
  return (rows * groups * k + 1) * (int64_t)sizeof(float);
}

/* Fills in where the weights' gradient is summed; it is zeroed where it is summed by atomics. */
static int prepare_sums(blend_sums *s, float *workspace, size_t *shared, cudaStream_t stream) {
  size_t bytes = blend_shared_bytes(s->k, s->groups);
  s->partials = workspace;
  s->in_shared = bytes <= BLEND_SHARED_BYTES;
  *shared = workspace && s->in_shared ? bytes : 0;
  if (!workspace || s->in_shared) return AF_OK;
  return af_status(cudaMemsetAsync(workspace, 0, (size_t)s->groups * s->k * sizeof(float), stream));
}

static int finish_sums(const blend_sums *s, unsigned blocks, float *grad_weights, cudaStream_t stream) {
  int columns = s->groups * s->k;
  if (!columns) return AF_OK;
  AF_LAUNCH(sum_rows, (unsigned)columns, 128, 0, stream, s->partials, s->in_shared ? (int)blocks : 1, columns,
            grad_weights, columns, (float *)nullptr);
  return af_launched();
}

/* deltas: pairs of floats, or of halves where `half`. */
AF_API int af_cuda_blend(const float *base, const void *deltas, const float *weights, const int32_t *group, int64_t n,
                         int k, int groups, int half, float *out, int device, void *stream) {
  if (n < 0 || n > AF_MAX_GAUSSIANS || k < 0 || groups < 0) return AF_BAD_VALUE;
  if (!n) return AF_OK;
  AF_TRY(af_begin(device));
  unsigned blocks = af_blocks(n * AF_PAIRS, 256);
  if (half)
    AF_LAUNCH(blend_forward<__half2>, blocks, 256, 0, (cudaStream_t)stream, (const float2 *)base,
              (const __half2 *)deltas, weights, group, n, k, groups, (float2 *)out);
  else
    AF_LAUNCH(blend_forward<float2>, blocks, 256, 0, (cudaStream_t)stream, (const float2 *)base,
              (const float2 *)deltas, weights, group, n, k, groups, (float2 *)out);
  return af_launched();
}

/* Either gradient may be null; weights may be null where grad_deltas is. */
AF_API int af_cuda_blend_backward(const float *grad, const float *deltas, const float *weights, const int32_t *group,
                                  int64_t n, int k, int groups, float *grad_deltas, float *grad_weights,
                                  void *workspace, int device, void *stream_handle) {
  if (n < 0 || n > AF_MAX_GAUSSIANS || k < 0 || groups < 0) return AF_BAD_VALUE;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  blend_sums s = {(const float2 *)grad, (const float2 *)deltas, weights, group, n, k, groups, nullptr, 0};
  size_t shared;
  AF_TRY(af_begin(device));
  AF_TRY(prepare_sums(&s, grad_weights ? (float *)workspace : nullptr, &shared, stream));
  unsigned blocks = blend_block_count(n);
  if (blocks && k) {
    AF_LAUNCH(blend_grads, blocks, blend_threads((int64_t)k * AF_PAIRS), shared, stream, s, (float2 *)grad_deltas);
    AF_TRY(af_launched());
  }
  return grad_weights ? finish_sums(&s, blocks, grad_weights, stream) : AF_OK;
}

AF_API int af_cuda_blend_adam_step(float *base, float *deltas, float *base_first, float *base_second,
                                   float *deltas_first, float *deltas_second, const float *grad, const float *weights,
                                   const int32_t *group, int64_t n, int k, int groups, const float *lr,
                                   const float *delta_lr, double beta1, double beta2, float eps, float first_factor,
                                   float root_factor, float delta_weight_decay, float *grad_weights, void *workspace,
                                   int device, void *stream_handle) {
  if (n < 0 || n > AF_MAX_GAUSSIANS || k < 0 || groups < 0) return AF_BAD_VALUE;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  blend_sums s = {(const float2 *)grad, (const float2 *)deltas, weights, group, n, k, groups, nullptr, 0};
  blend_adam_job job = {(float2 *)base, (float2 *)deltas, (float2 *)base_first, (float2 *)base_second,
                        (float2 *)deltas_first, (float2 *)deltas_second, lr, delta_lr, first_factor, delta_weight_decay,
                        {(float)(1 - beta1), (float)beta2, (float)(1 - beta2), eps, root_factor}};
  size_t shared;
  AF_TRY(af_begin(device));
  AF_TRY(prepare_sums(&s, (float *)workspace, &shared, stream));
  unsigned blocks = blend_block_count(n);
  if (blocks) {
    AF_LAUNCH(blend_adam, blocks, blend_threads((int64_t)(k + 1) * AF_PAIRS), shared, stream, s, job);
    AF_TRY(af_launched());
  }
  return finish_sums(&s, blocks, grad_weights, stream);
}

#endif
