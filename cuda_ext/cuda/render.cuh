/* The frames of a batch at run time: each kernel is launched once for all of them, and nothing is waited for. */
#ifndef AF_RENDER_CUH
#define AF_RENDER_CUH

#include "cuda/blend.cuh"
#include "cuda/project.cuh"
#include "cuda/rasterise.cuh"

/* A row of the grid to a frame, as in the next kernel. */
__global__ void __launch_bounds__(256) blend_frames(const frame *__restrict__ frames, float2 *__restrict__ out) {
  const frame &f = frames[blockIdx.y];
  int64_t item = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (item >= (int64_t)f.n * AF_PAIRS) return;
  out[(int64_t)f.first * AF_PAIRS + item] =
      f.half ? blend_pair(f.base, (const __half2 *)f.deltas, f.weights, f.group, f.k, f.groups, item)
             : blend_pair(f.base, (const float2 *)f.deltas, f.weights, f.group, f.k, f.groups, item);
}

__global__ void __launch_bounds__(PROJECT_THREADS)
    project_frames(const float *__restrict__ attributes, raster_plan p, float *__restrict__ splats) {
  const frame &f = p.frames[blockIdx.y];
  int i = (int)(blockIdx.x * PROJECT_THREADS + threadIdx.x);
  if (i >= SLOTS(f.n)) return;
  int slot = f.first + i;
  if (i >= f.n) return store_key(p, (uint32_t)slot, blockIdx.y, nullptr);
  af_gaussian g = load_gaussian(attributes, slot);
  af_affine m = af_skin(f.skin[i], af_make_affine(f.head), af_make_affine(f.torso));
  af_splat s = af_project_splat(g, af_project_state(g, m, f.camera));
  store_splat(s, splats, slot);
  store_key(p, (uint32_t)slot, blockIdx.y, &s.mean_x);
}

typedef struct {
  raster_plan raster;
  float *attributes, *splats; /* [slots, 14] and [slots, 10] */
  size_t bytes;
  int most; /* SLOTS of the largest frame */
} render_plan;

/* Completes the frames, and lays out a workspace. */
static int plan_render(render_plan *plan, void *workspace, frame *frames, int count, int height, int width) {
  render_plan p = {};
  int64_t slots = 0;
  for (int i = 0; i < count; i++) {
    frame *f = frames + i;
    if (f->n < 0 || f->n > AF_MAX_GAUSSIANS || f->k < 0 || f->groups < 0 || slots > AF_MAX_GAUSSIANS) return AF_BAD_VALUE;
    f->camera = af_make_camera(f->camera.focal, f->camera.center_x, f->camera.center_y, width, height);
    f->first = (int32_t)slots;
    slots += SLOTS(f->n);
    p.most = SLOTS(f->n) > p.most ? SLOTS(f->n) : p.most;
  }
  AF_TRY(plan_raster(&p.raster, workspace, slots, count, height, width, 0));
  p.bytes = p.raster.bytes;
  p.attributes = AF_TAKE(float, workspace, p.bytes, slots * AF_ATTRIBUTES);
  p.splats = AF_TAKE(float, workspace, p.bytes, slots * AF_SPLAT);
  *plan = p;
  return AF_OK;
}

/* Bytes that af_cuda_render_frames takes for these frames on that device. */
AF_API int af_cuda_render_workspace(frame *frames, int count, int height, int width, int device, int64_t *bytes) {
  render_plan plan;
  AF_TRY(af_begin(device));
  AF_TRY(plan_render(&plan, nullptr, frames, count, height, width));
  *bytes = (int64_t)plan.bytes;
  return AF_OK;
}

/* frames: in the caller's own memory, done with on return. out: [count, height, width, 3]. */
AF_API int af_cuda_render_frames(frame *frames, int count, int height, int width, uint8_t *out, void *workspace,
                                 int64_t workspace_bytes, int device, void *stream_handle) {
  cudaStream_t stream = (cudaStream_t)stream_handle;
  render_plan plan;
  AF_TRY(af_begin(device));
  AF_TRY(plan_render(&plan, workspace, frames, count, height, width));
  if ((int64_t)plan.bytes > workspace_bytes) return AF_NO_MEMORY;
  const raster_plan &p = plan.raster;
  AF_TRY(send_frames(frames, count, p.frames, stream));
  if (plan.most) {
    dim3 pairs(af_blocks((int64_t)plan.most * AF_PAIRS, 256), (unsigned)count, 1);
    AF_LAUNCH(blend_frames, pairs, 256, 0, stream, (const frame *)p.frames, (float2 *)plan.attributes);
    AF_TRY(af_launched());
    dim3 slots(af_blocks(plan.most, PROJECT_THREADS), (unsigned)count, 1);
    AF_LAUNCH(project_frames, slots, PROJECT_THREADS, 0, stream, (const float *)plan.attributes, p, plan.splats);
    AF_TRY(af_launched());
    AF_TRY(make_bins(p, plan.splats, stream));
  }
  AF_LAUNCH(raster_over, tile_grid(p, (unsigned)count), TILE_THREADS, 0, stream, p, (const frame *)p.frames, out);
  return af_launched();
}

#endif
