/* Depth order and bins without a list whose length would have to be waited for: one radix sort of the splats, then for
   every cell of the picture one bit a splat, in depth order. A tile walks its cell's bits and tests the splats itself.

   Several frames are sorted at once, the frame's number in the key above the depth: one sort that fills the GPU, where a
   segmented sort gives a whole frame to one block. Each frame has slots of its own from a multiple of 32 on, so that its
   bits are whole words; slots beyond its splats are not drawn. */
#ifndef AF_RASTER_BINS_CUH
#define AF_RASTER_BINS_CUH

#include "cuda/frame.cuh"
#include "cuda/sort.h"
#include "shared/splat.h"

#define TILE 16
/* The finest cell; doubled until the picture has at most MOST_CELLS, so that the bits take at most 128 bytes a splat. */
#define FINEST_CELL 32
#define MOST_CELLS 1024
#define GRAD_ROW 12
#define NOT_DRAWN 0xffffffffu
/* What a frame's splats take up among those of all frames. */
#define SLOTS(n) (((n) + 31) / 32 * 32)
/* In powers of two of alpha; well above what rounding does to the form of a thin splat. */
#define ELLIPSE_SLACK 1e-2f

/* A splat as a tile reads it: three loads of 16 bytes. */
typedef struct {
  float4 form;   /* mean x, mean y, qa, qb */
  float4 colour; /* qc, log2 of the opacity, red, green */
  float4 rest;   /* blue, level, index as bits, nothing */
} tile_record;

typedef struct {
  uint64_t *keys, *keys_out; /* frame, then depth */
  uint32_t *ids, *order;
  tile_record *records; /* by depth */
  uint32_t *masks;      /* [cells_y, cells_x, words] */
  float *grad_rows;     /* [slots, GRAD_ROW], by index */
  frame *frames;
  void *scratch;
  size_t scratch_bytes, bytes;
  int slots, words, key_bits, cell, cells_x, cells_y, height, width;
} raster_plan;

/* `slots` is the sum of the frames' SLOTS; `grads` says whether a gradient's rows are wanted. */
static int plan_raster(raster_plan *plan, void *workspace, int64_t slots, int frames, int height, int width, int grads) {
  if (slots < 0 || slots > AF_MAX_GAUSSIANS || frames < 1 || frames > AF_MAX_FRAMES || height < 1 || width < 1)
    return AF_BAD_VALUE;
  raster_plan p = {};
  p.slots = (int)slots, p.words = (int)(slots / 32), p.height = height, p.width = width, p.cell = FINEST_CELL;
  for (p.key_bits = 32; frames > 1 << (p.key_bits - 32);) p.key_bits++;
  for (;; p.cell *= 2) {
    p.cells_x = (width + p.cell - 1) / p.cell, p.cells_y = (height + p.cell - 1) / p.cell;
    if ((int64_t)p.cells_x * p.cells_y <= MOST_CELLS) break;
  }
  if (slots) AF_TRY(af_status((cudaError_t)af_sort_scratch(p.slots, p.key_bits, &p.scratch_bytes)));
  p.keys = AF_TAKE(uint64_t, workspace, p.bytes, slots);
  p.keys_out = AF_TAKE(uint64_t, workspace, p.bytes, slots);
  p.ids = AF_TAKE(uint32_t, workspace, p.bytes, slots);
  p.order = AF_TAKE(uint32_t, workspace, p.bytes, slots);
  p.records = AF_TAKE(tile_record, workspace, p.bytes, slots);
  p.masks = AF_TAKE(uint32_t, workspace, p.bytes, (size_t)p.cells_x * p.cells_y * p.words);
  p.grad_rows = AF_TAKE(float, workspace, p.bytes, grads ? slots * GRAD_ROW : 0);
  p.frames = AF_TAKE(frame, workspace, p.bytes, frames);
  p.scratch = AF_TAKE(char, workspace, p.bytes, p.scratch_bytes);
  *plan = p;
  return AF_OK;
}

/* Positive floats order as their bits do; what is not drawn goes last in its frame, and so does a slot without a splat. */
__device__ __forceinline__ void store_key(const raster_plan &p, uint32_t slot, uint32_t number, const float *splat) {
  uint32_t depth = splat && af_splat_drawable(splat) ? __float_as_uint(splat[9]) : NOT_DRAWN;
  p.keys[slot] = (uint64_t)number << 32 | depth;
  p.ids[slot] = slot;
}

__global__ void __launch_bounds__(256) make_keys(const float *__restrict__ splats, int n, raster_plan p) {
  int i = (int)(blockIdx.x * 256 + threadIdx.x);
  if (i < p.slots) store_key(p, (uint32_t)i, 0, i < n ? splats + (int64_t)i * AF_SPLAT : nullptr);
}

/* Cell of a coordinate, clamped while it is a float: no number may reach outside. */
__device__ __forceinline__ int cell_of(float x, int cell, int cells) {
  return (int)fminf(fmaxf(floorf(x / (float)cell), 0.0f), (float)(cells - 1));
}

__global__ void __launch_bounds__(128) fill_cells(const float *__restrict__ splats, raster_plan p) {
  int rank = (int)(blockIdx.x * 128 + threadIdx.x);
  if (rank >= p.slots || (uint32_t)p.keys_out[rank] == NOT_DRAWN) return;
  uint32_t index = p.order[rank];
  const float *s = splats + (int64_t)index * AF_SPLAT;
  float log2_opacity = log2f(s[5]);
  /* The level carries a little slack, since the pixels test themselves. */
  af_ellipse e = af_make_ellipse(s[0], s[1], 0.5f * AF_LOG2E * s[2], AF_LOG2E * s[3], 0.5f * AF_LOG2E * s[4],
                                 log2_opacity - AF_LOG2_ALPHA_MIN + ELLIPSE_SLACK);
  tile_record r;
  r.form = make_float4(e.mean_x, e.mean_y, e.qa, e.qb);
  r.colour = make_float4(e.qc, log2_opacity, s[6], s[7]);
  r.rest = make_float4(s[8], e.level, __uint_as_float(index), 0.0f);
  p.records[rank] = r;
  /* The box around the ellipse: dx^2 <= level qc / (qa qc - qb^2 / 4), and so for dy. */
  float scale = 2.0f * e.level / (AF_LOG2E * (s[2] * s[4] - s[3] * s[3]));
  float half_x = sqrtf(scale * s[4]) * 1.0001f, half_y = sqrtf(scale * s[2]) * 1.0001f;
  float left = e.mean_x - half_x, right = e.mean_x + half_x, top = e.mean_y - half_y, bottom = e.mean_y + half_y;
  if (!(right >= 0.0f && left <= (float)p.width && bottom >= 0.0f && top <= (float)p.height)) return;
  int x0 = cell_of(left, p.cell, p.cells_x), x1 = cell_of(right, p.cell, p.cells_x);
  int y0 = cell_of(top, p.cell, p.cells_y), y1 = cell_of(bottom, p.cell, p.cells_y);
  uint32_t bit = 1u << (rank % 32);
  for (int y = y0; y <= y1; y++)
    for (int x = x0; x <= x1; x++) {
      float cell_left = (float)(x * p.cell) + 0.5f, cell_top = (float)(y * p.cell) + 0.5f, span = (float)(p.cell - 1);
      if (!af_ellipse_reaches(e, cell_left, cell_top, cell_left + span, cell_top + span)) continue;
      atomicOr(p.masks + (int64_t)(y * p.cells_x + x) * p.words + rank / 32, bit);
    }
}

/* After the keys; `splats` has a row for every slot that is drawn. */
static int make_bins(const raster_plan &p, const float *splats, cudaStream_t stream) {
  AF_TRY(af_status((cudaError_t)af_sort_pairs(p.scratch, p.scratch_bytes, p.keys, p.keys_out, p.ids, p.order, p.slots,
                                              p.key_bits, stream)));
  size_t mask_bytes = (size_t)p.cells_x * p.cells_y * p.words * sizeof(uint32_t);
  AF_TRY(af_status(cudaMemsetAsync(p.masks, 0, mask_bytes, stream)));
  AF_LAUNCH(fill_cells, af_blocks(p.slots, 128), 128, 0, stream, splats, p);
  return af_launched();
}

/* The bins of one frame of `n` splats. */
static int bin_splats(const raster_plan &p, const float *splats, int64_t n, cudaStream_t stream) {
  if (!n) return AF_OK;
  AF_LAUNCH(make_keys, af_blocks(p.slots, 256), 256, 0, stream, splats, (int)n, p);
  AF_TRY(af_launched());
  return make_bins(p, splats, stream);
}

#endif
