/* Small multi-layer perceptrons, all layers in one pass (Mueller et al. 2021, "Real-time Neural Radiance Caching for Path
   Tracing", section 5.2), in float32: a block holds what a tile of samples has become in shared memory, and each layer's weights
   pass through it some rows at a time. The way back finds the hidden layers again, which stay in the second cache. A block adds up
   the parameters' gradient of every so-many-th tile by itself; then the blocks' sums are added in order, so that the gradients
   are the same in every run. Not tuned on a GPU. */
#ifndef AF_FUSED_MLP_CUH
#define AF_FUSED_MLP_CUH

#include "cuda/launch.cuh"
#include "shared/fused_mlp.h"

#define MLP_THREADS 128
#define MLP_TILE 64                      /* samples */
#define MLP_ROW (MLP_TILE + 4)           /* floats from one feature of a tile to the next in shared memory */
#define MLP_STEP 16                      /* features whose weights lie in shared memory at a time */
#define MLP_SHARED_OUT (AF_MLP_WIDTH_MAX + 1)
#define MLP_GROUPS 16                    /* of threads, by the outputs that they find; */
#define MLP_EACH (AF_MLP_WIDTH_MAX / MLP_GROUPS) /* at most so many each, */
#define MLP_SAMPLES 8                    /* of so many samples */
#define MLP_BLOCKS 256                   /* of the backward pass: fixed, as its sums' order hangs on it */
static_assert(MLP_THREADS * MLP_SAMPLES == MLP_TILE * MLP_GROUPS, "threads do not cover a tile");

typedef struct {
  af_mlp mlp;
  const float *x, *parameters, *grad;
  int64_t n;
  float *out, *grad_x;
  float *hidden; /* of each block of the backward pass: [all hidden features][MLP_TILE] */
  float *sums;   /* of each block: as the parameters; null where their gradient is not wanted */
} mlp_job;

typedef struct { float at[MLP_EACH][MLP_SAMPLES]; } mlp_sums;

/* This thread's outputs, `first` and every MLP_GROUPS-th from there, of its samples: what `sums` holds, plus for each feature
   k < depth tile[k] times the weight of k and the output, at weights[k * step_k + output * step_output]. */
static __device__ __forceinline__ void mlp_product(const float *tile, float *shared_weights, const float *weights, int depth,
                                                   int outputs, int step_k, int step_output, mlp_sums *sums) {
  int thread = (int)threadIdx.x, first = thread / (MLP_TILE / MLP_SAMPLES);
  const float *mine = tile + thread % (MLP_TILE / MLP_SAMPLES) * MLP_SAMPLES;
  for (int from = 0; from < depth; from += MLP_STEP) {
    int rows = depth - from < MLP_STEP ? depth - from : MLP_STEP;
    /* Neighbours in memory by neighbouring threads. */
    for (int i = thread; i < MLP_STEP * outputs; i += MLP_THREADS) {
      int k = step_k == 1 ? i % MLP_STEP : i / outputs, output = step_k == 1 ? i / MLP_STEP : i % outputs;
      if (k < rows)
        shared_weights[k * MLP_SHARED_OUT + output] = weights[(from + k) * step_k + output * step_output];
    }
    __syncthreads();
    for (int k = 0; k < rows; k++) {
      const float *features = mine + (from + k) * MLP_ROW;
      float4 low = *(const float4 *)features, high = *(const float4 *)(features + 4);
      float samples[MLP_SAMPLES] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int j = 0; j < MLP_EACH; j++) {
        if (first + j * MLP_GROUPS < outputs) {
          float weight = shared_weights[k * MLP_SHARED_OUT + first + j * MLP_GROUPS];
#pragma unroll
          for (int s = 0; s < MLP_SAMPLES; s++) sums->at[j][s] += weight * samples[s];
        }
      }
    }
    __syncthreads();
  }
}

/* A layer's outputs before the ReLU. */
static __device__ __forceinline__ void mlp_layer(const mlp_job &job, int l, const float *tile, float *shared_weights,
                                                 mlp_sums *sums) {
  int in = job.mlp.widths[l], out = job.mlp.widths[l + 1], first = (int)threadIdx.x / (MLP_TILE / MLP_SAMPLES);
#pragma unroll
  for (int j = 0; j < MLP_EACH; j++) {
    int output = first + j * MLP_GROUPS;
    float bias = output < out ? __ldg(job.parameters + job.mlp.biases[l] + output) : 0.0f;
#pragma unroll
    for (int s = 0; s < MLP_SAMPLES; s++) sums->at[j][s] = bias;
  }
  mlp_product(tile, shared_weights, job.parameters + job.mlp.weights[l], in, out, 1, in, sums);
}

/* What the threads hold into the tile; all have read it, and none reads on before all have written. */
static __device__ __forceinline__ void mlp_keep(float *tile, const mlp_sums *sums, int outputs, int rectify) {
  int thread = (int)threadIdx.x, first = thread / (MLP_TILE / MLP_SAMPLES);
  float *mine = tile + thread % (MLP_TILE / MLP_SAMPLES) * MLP_SAMPLES;
#pragma unroll
  for (int j = 0; j < MLP_EACH; j++) {
    if (first + j * MLP_GROUPS < outputs) {
#pragma unroll
      for (int s = 0; s < MLP_SAMPLES; s++) {
        float value = sums->at[j][s];
        mine[(first + j * MLP_GROUPS) * MLP_ROW + s] = rectify && value < 0.0f ? 0.0f : value;
      }
    }
  }
  __syncthreads();
}

/* Rows [count, width] of a tensor into the tile, with zeros for the samples that are not there; and back. */
static __device__ __forceinline__ void mlp_load(float *tile, const float *rows, int count, int width) {
  for (int i = (int)threadIdx.x; i < MLP_TILE * width; i += MLP_THREADS)
    tile[i % width * MLP_ROW + i / width] = i < count * width ? rows[i] : 0.0f;
  __syncthreads();
}
static __device__ __forceinline__ void mlp_store(const float *tile, float *rows, int count, int width) {
  for (int i = (int)threadIdx.x; i < count * width; i += MLP_THREADS) rows[i] = tile[i % width * MLP_ROW + i / width];
  __syncthreads();
}

__global__ void __launch_bounds__(MLP_THREADS) mlp_forward(const __grid_constant__ mlp_job job) {
  __align__(16) __shared__ float tile[AF_MLP_WIDTH_MAX * MLP_ROW];
  __shared__ float shared_weights[MLP_STEP * MLP_SHARED_OUT];
  int64_t from = (int64_t)blockIdx.x * MLP_TILE;
  int count = job.n - from < MLP_TILE ? (int)(job.n - from) : MLP_TILE, layers = job.mlp.layers;
  int inputs = job.mlp.widths[0], outputs = job.mlp.widths[layers];
  mlp_load(tile, job.x + from * inputs, count, inputs);
  for (int l = 0; l < layers; l++) {
    mlp_sums sums;
    mlp_layer(job, l, tile, shared_weights, &sums);
    mlp_keep(tile, &sums, job.mlp.widths[l + 1], l + 1 < layers);
  }
  mlp_store(tile, job.out + from * outputs, count, outputs);
}

/* Adds to a layer's gradient what a tile gives: of its outputs `tile` holds the gradient, and `inputs` what came in, feature f of
   sample s at inputs[f * step_feature + s * step_sample]. A thread has an output to itself, and some of the features. */
static __device__ __forceinline__ void mlp_add(const float *tile, float *shared_inputs, const float *inputs, int step_feature,
                                               int step_sample, int count, int in, int out, float *weights, float *biases) {
  int thread = (int)threadIdx.x, lanes = out <= 32 ? 32 : out <= 64 ? 64 : MLP_THREADS;
  int output = thread % lanes, group = thread / lanes, each = MLP_STEP * lanes / MLP_THREADS;
  const float *mine = tile + output * MLP_ROW;
  for (int from = 0; from < in; from += MLP_STEP) {
    int rows = in - from < MLP_STEP ? in - from : MLP_STEP;
    for (int i = thread; i < MLP_STEP * MLP_TILE; i += MLP_THREADS) {
      int f = step_feature == 1 ? i % MLP_STEP : i / MLP_TILE, s = step_feature == 1 ? i / MLP_STEP : i % MLP_TILE;
      bool there = f < rows && s < count;
      shared_inputs[f * MLP_ROW + s] = there ? inputs[(from + f) * step_feature + s * step_sample] : 0.0f;
    }
    __syncthreads();
    if (output < out) {
      float sums[MLP_STEP], bias = 0.0f;
#pragma unroll
      for (int f = 0; f < MLP_STEP; f++) sums[f] = 0.0f;
      for (int s = 0; s < MLP_TILE; s += 4) {
        float4 grad = *(const float4 *)(mine + s);
        bias += (grad.x + grad.y) + (grad.z + grad.w);
#pragma unroll
        for (int f = 0; f < MLP_STEP; f++) {
          if (f < each) {
            float4 value = *(const float4 *)(shared_inputs + (group * each + f) * MLP_ROW + s);
            sums[f] += grad.x * value.x + grad.y * value.y + grad.z * value.z + grad.w * value.w;
          }
        }
      }
#pragma unroll
      for (int f = 0; f < MLP_STEP; f++)
        if (f < each && group * each + f < rows) weights[output * in + from + group * each + f] += sums[f];
      if (from == 0 && group == 0) biases[output] += bias;
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(MLP_THREADS) mlp_backward(const __grid_constant__ mlp_job job) {
  __align__(16) __shared__ float tile[AF_MLP_WIDTH_MAX * MLP_ROW];
  __align__(16) __shared__ float scratch[MLP_STEP * MLP_SHARED_OUT];
  static_assert(MLP_STEP * MLP_ROW <= MLP_STEP * MLP_SHARED_OUT, "the inputs do not fit where the weights do");
  const af_mlp &mlp = job.mlp;
  int thread = (int)threadIdx.x, inputs = mlp.widths[0], outputs = mlp.widths[mlp.layers], features = 0;
  for (int l = 1; l < mlp.layers; l++) features += mlp.widths[l];
  float *hidden = job.hidden + (int64_t)blockIdx.x * features * MLP_TILE;
  float *sums_of_block = job.sums ? job.sums + (int64_t)blockIdx.x * mlp.count : nullptr;
  if (sums_of_block)
    for (int i = thread; i < mlp.count; i += MLP_THREADS) sums_of_block[i] = 0.0f;
  __syncthreads();
  for (int64_t from = (int64_t)blockIdx.x * MLP_TILE; from < job.n; from += (int64_t)gridDim.x * MLP_TILE) {
    int count = job.n - from < MLP_TILE ? (int)(job.n - from) : MLP_TILE;
    float *at = hidden;
    mlp_load(tile, job.x + from * inputs, count, inputs);
    for (int l = 0; l + 1 < mlp.layers; l++) {
      mlp_sums sums;
      mlp_layer(job, l, tile, scratch, &sums);
      mlp_keep(tile, &sums, mlp.widths[l + 1], 1);
      for (int i = thread; i < mlp.widths[l + 1] * MLP_TILE; i += MLP_THREADS)
        at[i] = tile[i / MLP_TILE * MLP_ROW + i % MLP_TILE];
      at += mlp.widths[l + 1] * MLP_TILE;
      __syncthreads();
    }
    mlp_load(tile, job.grad + from * outputs, count, outputs);
    for (int l = mlp.layers - 1; l >= 0; l--) {
      int in = mlp.widths[l], out = mlp.widths[l + 1];
      if (l) at -= in * MLP_TILE;
      if (sums_of_block)
        mlp_add(tile, scratch, l ? at : job.x + from * inputs, l ? MLP_TILE : 1, l ? 1 : inputs, count, in, out,
                sums_of_block + mlp.weights[l], sums_of_block + mlp.biases[l]);
      if (!l && !job.grad_x) break;
      mlp_sums sums = {};
      mlp_product(tile, scratch, job.parameters + mlp.weights[l], out, in, in, 1, &sums);
      mlp_keep(tile, &sums, in, 0);
      if (l) {
        for (int i = thread; i < in * MLP_TILE; i += MLP_THREADS)
          if (!(at[i] > 0.0f)) tile[i / MLP_TILE * MLP_ROW + i % MLP_TILE] = 0.0f;
        __syncthreads();
      }
    }
    if (job.grad_x) mlp_store(tile, job.grad_x + from * inputs, count, inputs);
    __syncthreads();
  }
}

/* A thread adds up one parameter's gradient over the blocks, neighbours reading neighbours. */
__global__ void __launch_bounds__(MLP_THREADS) mlp_sum(const float *sums, int blocks, int count, float *out) {
  int i = (int)(blockIdx.x * MLP_THREADS + threadIdx.x);
  if (i >= count) return;
  double sum = 0;
  for (int block = 0; block < blocks; block++) sum += sums[(int64_t)block * count + i];
  out[i] = (float)sum;
}

static inline int mlp_blocks(int64_t n) {
  int64_t tiles = (n + MLP_TILE - 1) / MLP_TILE;
  return tiles < 1 ? 1 : tiles < MLP_BLOCKS ? (int)tiles : MLP_BLOCKS;
}

static inline size_t mlp_take(mlp_job *job, void *workspace) {
  size_t used = 0, features = 0;
  for (int l = 1; l < job->mlp.layers; l++) features += (size_t)job->mlp.widths[l];
  job->hidden = AF_TAKE(float, workspace, used, features * MLP_TILE * mlp_blocks(job->n));
  job->sums = AF_TAKE(float, workspace, used, (size_t)job->mlp.count * mlp_blocks(job->n));
  return used;
}

/* Arguments as in cpu/api.c; the widths lie in the caller's own memory. */
AF_API int af_cuda_fused_mlp(const float *x, int64_t n, const int32_t *widths, int layers, const float *parameters, float *out,
                             int device, void *stream_handle) {
  mlp_job job = {};
  if (!af_mlp_prepare(&job.mlp, widths, layers) || n < 0 || n > (int64_t)INT32_MAX * MLP_TILE) return AF_BAD_VALUE;
  AF_TRY(af_begin(device));
  if (!n) return AF_OK;
  job.x = x, job.parameters = parameters, job.n = n, job.out = out;
  AF_LAUNCH(mlp_forward, af_blocks(n, MLP_TILE), MLP_THREADS, 0, (cudaStream_t)stream_handle, job);
  return af_launched();
}

/* Bytes of scratch memory that the backward pass takes; 0 where it takes no such widths. */
AF_API int64_t af_cuda_fused_mlp_workspace(int64_t n, const int32_t *widths, int layers) {
  mlp_job job = {};
  if (!af_mlp_prepare(&job.mlp, widths, layers)) return 0;
  job.n = n;
  return (int64_t)mlp_take(&job, nullptr);
}

/* Either gradient may be null. */
AF_API int af_cuda_fused_mlp_backward(const float *x, int64_t n, const int32_t *widths, int layers, const float *parameters,
                                      const float *grad, float *grad_x, float *grad_parameters, void *workspace, int device,
                                      void *stream_handle) {
  mlp_job job = {};
  if (!af_mlp_prepare(&job.mlp, widths, layers) || n < 0 || n > (int64_t)INT32_MAX * MLP_TILE) return AF_BAD_VALUE;
  job.x = x, job.parameters = parameters, job.grad = grad, job.n = n, job.grad_x = grad_x;
  mlp_take(&job, workspace);
  if (!grad_parameters) job.sums = nullptr;
  AF_TRY(af_begin(device));
  cudaStream_t stream = (cudaStream_t)stream_handle;
  int blocks = mlp_blocks(n);
  if (n || grad_parameters) {
    AF_LAUNCH(mlp_backward, blocks, MLP_THREADS, 0, stream, job);
    AF_TRY(af_launched());
  }
  if (!grad_parameters) return AF_OK;
  AF_LAUNCH(mlp_sum, af_blocks(job.mlp.count, MLP_THREADS), MLP_THREADS, 0, stream, job.sums, blocks, job.mlp.count,
            grad_parameters);
  return af_launched();
}

#endif
