/* Compositing of binned splats, a block of 256 threads to a tile of 16x16 pixels and a warp to 8x4 of them, with
   transmittance and colour in registers; and its gradient, front to back as well: what lies behind a splat is the pixel's
   whole minus what was passed already, one scalar a pixel. */
#ifndef AF_RASTERISE_CUH
#define AF_RASTERISE_CUH

#include "cuda/raster_bins.cuh"

#define TILE_THREADS (TILE * TILE)
#define TILE_WARPS (TILE_THREADS / 32)
#define WARP_WIDE 8
#define WARP_HIGH 4

/* 2^x by the special function unit; its error of two ulp is far below any threshold's effect. */
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

typedef struct {
  int px, py, inside;
  float x, y;
} tile_pixel;

__device__ __forceinline__ tile_pixel pixel_of_thread(const raster_plan &p) {
  int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  tile_pixel t;
  t.px = (int)blockIdx.x * TILE + warp % 2 * WARP_WIDE + lane % WARP_WIDE;
  t.py = (int)blockIdx.y * TILE + warp / 2 * WARP_HIGH + lane / WARP_WIDE;
  t.inside = t.px < p.width && t.py < p.height;
  t.x = (float)t.px + 0.5f, t.y = (float)t.py + 0.5f;
  return t;
}

/* Which warps of the tile at (left, top) the splat reaches, a bit each. */
__device__ __forceinline__ uint32_t warps_reached(const tile_record &r, float left, float top) {
  af_ellipse e = af_make_ellipse(r.form.x, r.form.y, r.form.z, r.form.w, r.colour.x, r.rest.y);
  float x = left + 0.5f, y = top + 0.5f;
  if (!af_ellipse_reaches(e, x, y, x + (TILE - 1), y + (TILE - 1))) return 0;
  uint32_t reached = 0;
#pragma unroll
  for (int w = 0; w < TILE_WARPS; w++) {
    float wx = x + (float)(w % 2 * WARP_WIDE), wy = y + (float)(w / 2 * WARP_HIGH);
    if (af_ellipse_reaches(e, wx, wy, wx + (WARP_WIDE - 1), wy + (WARP_HIGH - 1))) reached |= 1u << w;
  }
  return reached;
}

/* Shows `visit` every splat of a frame, whose bits are the words from first_word up to end_word, that reaches the calling thread's warp,
   front to back; all of a warp see the same splat at the same time. Stops when every thread of the block is done. Every
   thread of the block must call this. */
template <class Visit>
__device__ __forceinline__ void walk_tile(const raster_plan &p, int first_word, int end_word, Visit &visit) {
  __shared__ float4 forms[TILE_THREADS], colours[TILE_THREADS];
  __shared__ float blues[TILE_THREADS];
  __shared__ uint32_t indices[TILE_THREADS];
  __shared__ uint8_t reached[TILE_THREADS];
  __shared__ uint16_t candidates[TILE_THREADS * 32];
  __shared__ uint32_t warp_counts[TILE_WARPS];
  int thread = (int)threadIdx.x, lane = thread % 32, warp = thread / 32;
  int left = (int)blockIdx.x * TILE, top = (int)blockIdx.y * TILE;
  const uint32_t *mask = p.masks + (int64_t)(top / p.cell * p.cells_x + left / p.cell) * p.words;
  for (int word = first_word; word < end_word; word += TILE_THREADS) {
    /* The bits of 256 words become a list of ranks. */
    uint32_t bits = word + thread < end_word ? mask[word + thread] : 0u;
    uint32_t upto = (uint32_t)__popc(bits);
    for (int step = 1; step < 32; step *= 2) {
      uint32_t other = __shfl_up_sync(AF_FULL_WARP, upto, step);
      if (lane >= step) upto += other;
    }
    if (lane == 31) warp_counts[warp] = upto;
    __syncthreads();
    uint32_t at = upto - (uint32_t)__popc(bits), total = 0;
    for (int w = 0; w < TILE_WARPS; w++) {
      if (w < warp) at += warp_counts[w];
      total += warp_counts[w];
    }
    for (; bits; bits &= bits - 1) candidates[at++] = (uint16_t)(thread * 32 + __ffs((int)bits) - 1);
    __syncthreads();
    for (uint32_t base = 0; base < total; base += TILE_THREADS) {
      uint32_t reach = 0;
      if (base + thread < total) {
        tile_record r = p.records[word * 32 + candidates[base + thread]];
        reach = warps_reached(r, (float)left, (float)top);
        forms[thread] = r.form, colours[thread] = r.colour, blues[thread] = r.rest.x;
        indices[thread] = __float_as_uint(r.rest.z);
      }
      reached[thread] = (uint8_t)reach;
      __syncthreads();
      uint32_t slots = total - base < TILE_THREADS ? total - base : TILE_THREADS;
      for (uint32_t group = 0; group < slots; group += 32) {
        uint32_t hits = __ballot_sync(AF_FULL_WARP, reached[group + lane] >> warp & 1u);
        if (__all_sync(AF_FULL_WARP, visit.done())) break;
        for (; hits; hits &= hits - 1) {
          uint32_t slot = group + (uint32_t)__ffs((int)hits) - 1;
          visit.splat(forms[slot], colours[slot], blues[slot], indices[slot]);
        }
      }
      /* Also keeps the batch from being overwritten while a warp still reads it. */
      if (__syncthreads_and(visit.done())) return;
    }
  }
}

struct forward_visit {
  float x, y, t, red, green, blue;
  __device__ __forceinline__ int done() const { return t < AF_TRANSMITTANCE_MIN; }
  __device__ __forceinline__ void splat(float4 form, float4 colour, float splat_blue, uint32_t) {
    float dx = x - form.x, dy = y - form.y;
    float e = colour.y - form.z * dx * dx - dy * (colour.x * dy + form.w * dx);
    if (!(e >= AF_LOG2_ALPHA_MIN) || done()) return;
    float weight = fminf(fast_exp2(e), AF_ALPHA_MAX) * t;
    t -= weight;
    red += weight * colour.z, green += weight * colour.w, blue += weight * splat_blue;
  }
};

__global__ void __launch_bounds__(TILE_THREADS) raster_forward(raster_plan p, float4 *__restrict__ image) {
  tile_pixel pixel = pixel_of_thread(p);
  forward_visit v = {pixel.x, pixel.y, pixel.inside ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f};
  walk_tile(p, 0, p.words, v);
  if (pixel.inside) image[(int64_t)pixel.py * p.width + pixel.px] = make_float4(v.red, v.green, v.blue, 1.0f - v.t);
}

/* Nearest of 255 steps, ties to even; NaN becomes 0. */
__device__ __forceinline__ uint8_t to_byte(float value) {
  value = value > 0.0f ? value < 255.0f ? value : 255.0f : 0.0f;
  return (uint8_t)rintf(value);
}

/* out: [frames, height, width, 3]; a layer of the grid to a frame. */
__global__ void __launch_bounds__(TILE_THREADS, 5)
    raster_over(raster_plan p, const frame *__restrict__ frames, uint8_t *__restrict__ out) {
  const frame &f = frames[blockIdx.z];
  tile_pixel pixel = pixel_of_thread(p);
  forward_visit v = {pixel.x, pixel.y, pixel.inside ? 1.0f : 0.0f, 0.0f, 0.0f, 0.0f};
  walk_tile(p, f.first / 32, (f.first + f.n + 31) / 32, v);
  if (!pixel.inside) return;
  int64_t at = ((int64_t)pixel.py * p.width + pixel.px) * 3;
  const uint8_t *background = f.background;
  out += (int64_t)blockIdx.z * p.height * p.width * 3;
  out[at] = to_byte(255.0f * v.red + v.t * (float)background[at]);
  out[at + 1] = to_byte(255.0f * v.green + v.t * (float)background[at + 1]);
  out[at + 2] = to_byte(255.0f * v.blue + v.t * (float)background[at + 2]);
}

/* Adds two numbers of each of a pair of lanes: the lane whose `offset` bit is clear keeps the first, the other the second. */
__device__ __forceinline__ float fold_pair(float first, float second, int lane, int offset) {
  float keep = lane & offset ? second : first, give = lane & offset ? first : second;
  return keep + __shfl_xor_sync(AF_FULL_WARP, give, offset);
}
__device__ __forceinline__ float fold_one(float value, int offset) {
  return value + __shfl_xor_sync(AF_FULL_WARP, value, offset);
}

/* The sums over the warp of nine numbers in twelve exchanges, each sum ending in another lane; one atomic instruction. */
__device__ __forceinline__ void add_warp_sums(const float *v, float *row) {
  int lane = (int)threadIdx.x % 32;
  float a0 = fold_pair(v[0], v[1], lane, 16), a1 = fold_pair(v[2], v[3], lane, 16);
  float a2 = fold_pair(v[4], v[5], lane, 16), a3 = fold_pair(v[6], v[7], lane, 16), a4 = fold_one(v[8], 16);
  float b0 = fold_pair(a0, a1, lane, 8), b1 = fold_pair(a2, a3, lane, 8), b2 = fold_one(a4, 8);
  float c0 = fold_pair(b0, b1, lane, 4), c1 = fold_one(b2, 4);
  float sum = fold_one(fold_pair(c0, c1, lane, 2), 1);
  int ninth = lane & 2;
  int which = ninth ? 8 : (lane >> 4 & 1) | (lane >> 3 & 1) << 1 | (lane >> 2 & 1) << 2;
  if (!(lane & 1) && (!ninth || !(lane & 28))) atomicAdd(row + which, sum);
}

/* Sums, by splat, of v, v dx, v dy, v dx^2, v dx dy, v dy^2 (v = alpha dL/dalpha) and of the colours' weights. */
struct backward_visit {
  float x, y, t, grad_red, grad_green, grad_blue, behind;
  float *rows;
  __device__ __forceinline__ int done() const { return t < AF_TRANSMITTANCE_MIN; }
  __device__ __forceinline__ void splat(float4 form, float4 colour, float splat_blue, uint32_t index) {
    float dx = x - form.x, dy = y - form.y;
    float e = colour.y - form.z * dx * dx - dy * (colour.x * dy + form.w * dx);
    int taken = e >= AF_LOG2_ALPHA_MIN && !done();
    if (!__any_sync(AF_FULL_WARP, taken)) return;
    float v[9] = {0.0f};
    if (taken) {
      float raw = fast_exp2(e), alpha = fminf(raw, AF_ALPHA_MAX), weight = alpha * t;
      float along = grad_red * colour.z + grad_green * colour.w + grad_blue * splat_blue;
      behind -= weight * along;
      t -= weight;
      /* The ceiling stops the gradient. */
      float q = raw <= AF_ALPHA_MAX ? weight * along - __fdividef(behind * alpha, 1.0f - alpha) : 0.0f;
      v[0] = q, v[1] = q * dx, v[2] = q * dy, v[3] = q * dx * dx, v[4] = q * dx * dy, v[5] = q * dy * dy;
      v[6] = weight * grad_red, v[7] = weight * grad_green, v[8] = weight * grad_blue;
    }
    add_warp_sums(v, rows + (int64_t)index * GRAD_ROW);
  }
};

__global__ void __launch_bounds__(TILE_THREADS, 3)
    raster_backward(raster_plan p, const float4 *__restrict__ image, const float4 *__restrict__ grad_image) {
  tile_pixel pixel = pixel_of_thread(p);
  backward_visit v = {pixel.x, pixel.y, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, p.grad_rows};
  if (pixel.inside) {
    int64_t at = (int64_t)pixel.py * p.width + pixel.px;
    float4 seen = image[at], g = grad_image[at];
    v.t = 1.0f, v.grad_red = g.x, v.grad_green = g.y, v.grad_blue = g.z;
    v.behind = g.x * seen.x + g.y * seen.y + g.z * seen.z - g.w * (1.0f - seen.w);
  }
  walk_tile(p, 0, p.words, v);
}

/* Turns moments into gradients of the splat. */
__global__ void __launch_bounds__(256)
    gather_grads(const float *__restrict__ splats, const float *__restrict__ rows, int n, float *__restrict__ out) {
  int i = (int)(blockIdx.x * 256 + threadIdx.x);
  if (i >= n) return;
  const float *splat = splats + (int64_t)i * AF_SPLAT, *s = rows + (int64_t)i * GRAD_ROW;
  float *g = out + (int64_t)i * AF_SPLAT;
  int drawn = af_splat_drawable(splat);
  g[0] = drawn ? splat[2] * s[1] + splat[3] * s[2] : 0.0f;
  g[1] = drawn ? splat[3] * s[1] + splat[4] * s[2] : 0.0f;
  g[2] = drawn ? -0.5f * s[3] : 0.0f;
  g[3] = drawn ? -s[4] : 0.0f;
  g[4] = drawn ? -0.5f * s[5] : 0.0f;
  g[5] = drawn ? s[0] / splat[5] : 0.0f;
  g[6] = s[6], g[7] = s[7], g[8] = s[8], g[9] = 0.0f;
}

static dim3 tile_grid(const raster_plan &p, unsigned frames) {
  return dim3((unsigned)((p.width + TILE - 1) / TILE), (unsigned)((p.height + TILE - 1) / TILE), frames);
}

/* Bytes that every rasterising call of this size takes on that device. */
AF_API int af_cuda_rasterise_workspace(int64_t n, int height, int width, int device, int64_t *bytes) {
  raster_plan plan;
  AF_TRY(af_begin(device));
  AF_TRY(plan_raster(&plan, nullptr, SLOTS(n), 1, height, width, 1));
  *bytes = (int64_t)plan.bytes;
  return AF_OK;
}

static int start_raster(raster_plan *plan, void *workspace, int64_t workspace_bytes, int64_t n, int height, int width,
                        int device) {
  AF_TRY(af_begin(device));
  AF_TRY(plan_raster(plan, workspace, SLOTS(n), 1, height, width, 1));
  return (int64_t)plan->bytes > workspace_bytes ? AF_NO_MEMORY : AF_OK;
}

/* image: [height, width, 4]. The bins stay in the workspace for a backward pass of the same splats. */
AF_API int af_cuda_rasterise(const float *splats, int64_t n, int height, int width, float *image, void *workspace,
                             int64_t workspace_bytes, int device, void *stream_handle) {
  cudaStream_t stream = (cudaStream_t)stream_handle;
  raster_plan plan;
  AF_TRY(start_raster(&plan, workspace, workspace_bytes, n, height, width, device));
  AF_TRY(bin_splats(plan, splats, n, stream));
  AF_LAUNCH(raster_forward, tile_grid(plan, 1), TILE_THREADS, 0, stream, plan, (float4 *)image);
  return af_launched();
}

AF_API int af_cuda_rasterise_over(const float *splats, int64_t n, int height, int width, const uint8_t *background,
                                  uint8_t *out, void *workspace, int64_t workspace_bytes, int device,
                                  void *stream_handle) {
  cudaStream_t stream = (cudaStream_t)stream_handle;
  raster_plan plan;
  AF_TRY(start_raster(&plan, workspace, workspace_bytes, n, height, width, device));
  AF_TRY(bin_splats(plan, splats, n, stream));
  frame over = {};
  over.n = (int32_t)n, over.background = background;
  AF_TRY(send_frames(&over, 1, plan.frames, stream));
  AF_LAUNCH(raster_over, tile_grid(plan, 1), TILE_THREADS, 0, stream, plan, (const frame *)plan.frames, out);
  return af_launched();
}

/* bins_are_current: the workspace still holds the bins that af_cuda_rasterise made of these splats at this size. */
AF_API int af_cuda_rasterise_backward(const float *splats, int64_t n, int height, int width, const float *image,
                                      const float *grad_image, float *grad_splats, int bins_are_current,
                                      void *workspace, int64_t workspace_bytes, int device, void *stream_handle) {
  cudaStream_t stream = (cudaStream_t)stream_handle;
  raster_plan plan;
  AF_TRY(start_raster(&plan, workspace, workspace_bytes, n, height, width, device));
  if (!n) return AF_OK;
  if (!bins_are_current) AF_TRY(bin_splats(plan, splats, n, stream));
  AF_TRY(af_status(cudaMemsetAsync(plan.grad_rows, 0, (size_t)n * GRAD_ROW * sizeof(float), stream)));
  AF_LAUNCH(raster_backward, tile_grid(plan, 1), TILE_THREADS, 0, stream, plan, (const float4 *)image,
            (const float4 *)grad_image);
  AF_TRY(af_launched());
  AF_LAUNCH(gather_grads, af_blocks(n, 256), 256, 0, stream, splats, (const float *)plan.grad_rows, (int)n,
            grad_splats);
  return af_launched();
}

#endif
