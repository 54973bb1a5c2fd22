/* Projection of Gaussians, one a thread, and its gradient; the matrices' gradients are summed by block, then by row. */
#ifndef AF_PROJECT_CUH
#define AF_PROJECT_CUH

#include "cuda/launch.cuh"
#include "shared/projection.h"

#define PROJECT_THREADS 128
#define MATRIX_SUMS 24

__device__ __forceinline__ af_gaussian load_gaussian(const float *__restrict__ attributes, int64_t i) {
  const float2 *row = (const float2 *)(attributes + i * AF_ATTRIBUTES);
  float2 a = row[0], b = row[1], c = row[2], d = row[3], e = row[4], f = row[5], g = row[6];
  af_gaussian r = {{a.x, a.y, b.x}, b.y, c.x, c.y, d.x, {d.y, e.x, e.y}, f.x, f.y, g.x, g.y};
  return r;
}

__device__ __forceinline__ void store_splat(af_splat s, float *__restrict__ splats, int64_t i) {
  float2 *row = (float2 *)(splats + i * AF_SPLAT);
  row[0] = make_float2(s.mean_x, s.mean_y);
  row[1] = make_float2(s.conic_a, s.conic_b);
  row[2] = make_float2(s.conic_c, s.opacity);
  row[3] = make_float2(s.red, s.green);
  row[4] = make_float2(s.blue, s.depth);
}

__global__ void __launch_bounds__(PROJECT_THREADS)
    project_forward(const float *__restrict__ attributes, const float *__restrict__ skin,
                    const float *__restrict__ head, const float *__restrict__ torso, int64_t n, af_camera camera,
                    float *__restrict__ splats) {
  int64_t i = (int64_t)blockIdx.x * PROJECT_THREADS + threadIdx.x;
  if (i >= n) return;
  af_gaussian g = load_gaussian(attributes, i);
  af_affine m = af_skin(skin[i], af_make_affine(head), af_make_affine(torso));
  store_splat(af_project_splat(g, af_project_state(g, m, camera)), splats, i);
}

__device__ __forceinline__ void affine_to_array(af_affine m, float *out) {
  out[0] = m.r0.x, out[1] = m.r0.y, out[2] = m.r0.z, out[3] = m.t.x;
  out[4] = m.r1.x, out[5] = m.r1.y, out[6] = m.r1.z, out[7] = m.t.y;
  out[8] = m.r2.x, out[9] = m.r2.y, out[10] = m.r2.z, out[11] = m.t.z;
}

__global__ void __launch_bounds__(PROJECT_THREADS)
    project_backward(const float *__restrict__ attributes, const float *__restrict__ skin,
                     const float *__restrict__ head, const float *__restrict__ torso, int64_t n, af_camera camera,
                     const float *__restrict__ grad, float *__restrict__ grad_attributes,
                     float *__restrict__ grad_skin, float *__restrict__ partials) {
  __shared__ float warp_sums[PROJECT_THREADS / 32][MATRIX_SUMS];
  int64_t i = (int64_t)blockIdx.x * PROJECT_THREADS + threadIdx.x;
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  float matrix[12] = {0}, share = 0.0f;
  if (i < n) {
    af_gaussian g = load_gaussian(attributes, i), t = {{0, 0, 0}, 0, 0, 0, 0, {0, 0, 0}, 0, 0, 0, 0};
    af_affine from = af_make_affine(head), to = af_make_affine(torso);
    share = skin[i];
    af_affine m = af_skin(share, from, to);
    af_projection p = af_project_state(g, m, camera);
    float along = 0.0f;
    /* A culled Gaussian may have overflowed: its gradient is zero, not something multiplied by zero. */
    if (p.seen) {
      const float2 *row = (const float2 *)(grad + i * AF_SPLAT);
      float2 a = row[0], b = row[1], c = row[2], d = row[3], e = row[4];
      af_splat gs = {a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y, e.x, e.y};
      af_project_grad r = af_project_backward_one(g, m, camera, p, gs);
      t = r.attributes;
      affine_to_array(r.matrix, matrix);
      along = af_dot(r.matrix.r0, from.r0) - af_dot(r.matrix.r0, to.r0) + af_dot(r.matrix.r1, from.r1) -
              af_dot(r.matrix.r1, to.r1) + af_dot(r.matrix.r2, from.r2) - af_dot(r.matrix.r2, to.r2) +
              af_dot(r.matrix.t, from.t) - af_dot(r.matrix.t, to.t);
    }
    float2 *out = (float2 *)(grad_attributes + i * AF_ATTRIBUTES);
    out[0] = make_float2(t.mean.x, t.mean.y);
    out[1] = make_float2(t.mean.z, t.qw);
    out[2] = make_float2(t.qx, t.qy);
    out[3] = make_float2(t.qz, t.log_scale.x);
    out[4] = make_float2(t.log_scale.y, t.log_scale.z);
    out[5] = make_float2(t.logit, t.red);
    out[6] = make_float2(t.green, t.blue);
    grad_skin[i] = along;
  }
#pragma unroll
  for (int c = 0; c < 12; c++) {
    float of_head = warp_sum(share * matrix[c]), of_torso = warp_sum((1.0f - share) * matrix[c]);
    if (lane == 0) warp_sums[warp][c] = of_head, warp_sums[warp][12 + c] = of_torso;
  }
  __syncthreads();
  if (threadIdx.x < MATRIX_SUMS) {
    float sum = 0.0f;
    for (int w = 0; w < PROJECT_THREADS / 32; w++) sum += warp_sums[w][threadIdx.x];
    partials[(int64_t)blockIdx.x * MATRIX_SUMS + threadIdx.x] = sum;
  }
}

AF_API int af_cuda_project(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                           float focal, float center_x, float center_y, int width, int height, float *splats,
                           int device, void *stream) {
  if (n < 0 || n > AF_MAX_GAUSSIANS) return AF_BAD_VALUE;
  if (!n) return AF_OK;
  AF_TRY(af_begin(device));
  AF_LAUNCH(project_forward, af_blocks(n, PROJECT_THREADS), PROJECT_THREADS, 0, (cudaStream_t)stream, attributes, skin,
            head, torso, n, af_make_camera(focal, center_x, center_y, width, height), splats);
  return af_launched();
}

AF_API int64_t af_cuda_project_workspace(int64_t n) {
  return ((int64_t)af_blocks(n, PROJECT_THREADS) + 1) * MATRIX_SUMS * (int64_t)sizeof(float);
}

AF_API int af_cuda_project_backward(const float *attributes, const float *skin, const float *head, const float *torso,
                                    int64_t n, float focal, float center_x, float center_y, int width, int height,
                                    const float *grad, float *grad_attributes, float *grad_skin, float *grad_head,
                                    float *grad_torso, void *workspace, int device, void *stream_handle) {
  if (n < 0 || n > AF_MAX_GAUSSIANS) return AF_BAD_VALUE;
  cudaStream_t stream = (cudaStream_t)stream_handle;
  unsigned blocks = af_blocks(n, PROJECT_THREADS);
  AF_TRY(af_begin(device));
  if (blocks) {
    AF_LAUNCH(project_backward, blocks, PROJECT_THREADS, 0, stream, attributes, skin, head, torso, n,
              af_make_camera(focal, center_x, center_y, width, height), grad, grad_attributes, grad_skin,
              (float *)workspace);
    AF_TRY(af_launched());
  }
  AF_LAUNCH(sum_rows, MATRIX_SUMS, 128, 0, stream, (const float *)workspace, (int)blocks, MATRIX_SUMS,
            grad_head, MATRIX_SUMS / 2, grad_torso);
  return af_launched();
}

#endif
