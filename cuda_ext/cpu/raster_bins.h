/* Depth order and bins: for every 4x4-pixel block, the splats that may touch it, front to back.
   One radix sort of the splats, then two counting sorts, which keep the depth order by themselves: of spans (the blocks of
   one block row that a splat may touch) by row, and of the pairs of one row by block. The second stays within a row's few
   kilobytes; scattering all pairs at once would miss the caches at every write. */
#include <math.h>

#include "cpu/table.h"
#include "shared/splat.h"

#define BLOCK 4
/* Entries of a block's list that are computed together; the next as many are asked for meanwhile. */
#define CHUNK 16
/* More parts than threads even out the work and outlast a thread that lost its core; each backward part costs memory. */
#define FORWARD_PARTS_PER_THREAD 8
#define MAX_SIDE_BLOCKS 4096
#define FILL_WIDTH 4
#define BACKWARD_PARTS_PER_THREAD 2

/* A drawable splat in depth order. alpha = 2^(log2_opacity - (qa dx^2 + qb dx dy + qc dy^2)). */
typedef struct {
  float mean_x, mean_y, qa, qb, qc, log2_opacity, red, green, blue;
  int32_t index;
  float pad[2];
} record;

/* Blocks x0..x1 of one block row; and the same within a row's list. */
typedef struct { uint32_t id; uint16_t row, x0, x1, pad; } span;
typedef struct { uint32_t id; uint16_t x0, x1; } row_span;

typedef struct {
  af_workspace *ws;
  const float *splats;
  int height, width, rows, cols, parts;
  int drawn;                /* records */
  const uint32_t *order;    /* their indices, front to back */
  record *records;
  int32_t *counts;          /* [parts, rows]: spans, then where the next one goes */
  int32_t *pair_counts;     /* [parts, rows] */
  int32_t *row_spans;       /* [rows + 1]: where each row's spans start */
  int32_t *row_pairs;       /* [rows + 1]: where each row's pairs start */
  row_span *sorted;
  int32_t *starts;          /* [rows * cols + 1]; each block's last entry is no splat, see fill_part */
  uint32_t *list;
  int32_t *used;            /* by block: entries that the forward pass looked at */
  int32_t *used_before;     /* [rows * cols + 1]: their running sum */
  int64_t span_counts[AF_MAX_THREADS];
  int failed[AF_MAX_THREADS];
  /* what the blocks are for */
  float *image;
  const float *image_in, *grad_image;
  const uint8_t *background;
  uint8_t *out;
  float *grad_rows;         /* [backward_parts, drawn, 12] */
  int backward_parts;
  float *grad_splats;
} raster_job;

/* Stable sort by depth. Positive floats order as their bits do; only the bits in which the keys differ are sorted by. */
static const uint32_t *sort_by_depth(uint32_t *memory, int64_t n, const float *splats, int *drawn) {
  uint32_t *keys = memory, *ids = memory + n, *keys2 = memory + 2 * n, *ids2 = memory + 3 * n;
  uint32_t lowest = UINT32_MAX, highest = 0;
  int m = 0;
  for (int64_t i = 0; i < n; i++) {
    const float *s = splats + i * AF_SPLAT;
    if (!af_splat_drawable(s)) continue;
    memcpy(keys + m, s + 9, 4);
    lowest = keys[m] < lowest ? keys[m] : lowest;
    highest = keys[m] > highest ? keys[m] : highest;
    ids[m++] = (uint32_t)i;
  }
  *drawn = m;
  int bits = m ? 32 - __builtin_clz((highest - lowest) | 1) : 0;
  int passes = (bits + 10) / 11, digit = passes ? (bits + passes - 1) / passes : 0;
  uint32_t mask = (1u << digit) - 1;
  for (int pass = 0; pass < passes; pass++) {
    uint32_t histogram[2048] = {0}, total = 0;
    int shift = pass * digit;
    for (int i = 0; i < m; i++) histogram[(keys[i] - lowest) >> shift & mask]++;
    for (uint32_t d = 0; d <= mask; d++) {
      uint32_t count = histogram[d];
      histogram[d] = total;
      total += count;
    }
    for (int i = 0; i < m; i++) {
      uint32_t to = histogram[(keys[i] - lowest) >> shift & mask]++;
      keys2[to] = keys[i];
      ids2[to] = ids[i];
    }
    uint32_t *swap = keys;
    keys = keys2, keys2 = swap;
    swap = ids, ids = ids2, ids2 = swap;
  }
  return ids;
}

INLINE int clamp_block(float x, int high) { return x < 0.0f ? 0 : x > (float)high ? high : (int)x; }

/* First and last block that an ellipse touches in VL block rows from `row` on; first > last where it touches none. */
INLINE void band_extents(const record *r, int cols, int row, float half_y, float level, float inverse_a, float slope,
                         float narrow, float extreme, int32_t *x0, int32_t *x1) {
  vf steps, low, high, zero = {0};
  for (int l = 0; l < VL; l++) steps[l] = (float)(l * BLOCK);
  low = steps + ((float)row * BLOCK + 0.5f - r->mean_y);
  high = v_min(low + (BLOCK - 1), v_set(half_y));
  low = v_max(low, v_set(-half_y));
  /* The extent is widest at -extreme (right) and +extreme (left), or as near as the band comes to it. */
  vf dy_right = v_min(v_max(v_set(-extreme), low), high), dy_left = v_min(v_max(v_set(extreme), low), high);
  vf right = v_sqrt(v_max(level - narrow * dy_right * dy_right, zero) * inverse_a) - slope * dy_right;
  vf left = zero - v_sqrt(v_max(level - narrow * dy_left * dy_left, zero) * inverse_a) - slope * dy_left;
  vf from = (left + (r->mean_x - (BLOCK - 0.5f) - 1e-3f)) * (1.0f / BLOCK);
  vf to = (right + (r->mean_x - 0.5f + 1e-3f)) * (1.0f / BLOCK);
  /* Clamped before they become integers, and NaN with them: no row may ever reach outside. */
  from = v_max(v_min(from, v_set((float)cols)), zero);
  to = v_max(v_min(to, v_set((float)(cols - 1))), v_set(-1.0f));
  vi from_whole = __builtin_convertvector(from, vi), to_whole = __builtin_convertvector(to, vi);
  from_whole -= __builtin_convertvector(from_whole, vf) < from; /* upwards */
  to_whole += to < 0.0f;                                        /* -0.5 is left of block 0 */
  memcpy(x0, &from_whole, sizeof from_whole);
  memcpy(x1, &to_whole, sizeof to_whole);
}

/* Which blocks the ellipse alpha >= 1/255 reaches: for each block row, the ellipse's exact extent over that band. */
static void bin_part(int part, int parts, void *context) {
  raster_job *job = context;
  int32_t *counts = job->counts + (int64_t)part * job->rows, *pair_counts = job->pair_counts + (int64_t)part * job->rows;
  memset(counts, 0, (size_t)job->rows * sizeof *counts);
  memset(pair_counts, 0, (size_t)job->rows * sizeof *pair_counts);
  af_buffer *buffer = &job->ws->spans[part];
  span *spans = buffer->data;
  int64_t count = 0, capacity = (int64_t)(buffer->bytes / sizeof(span));
  for (int64_t i = share(job->drawn, part, parts), end = share(job->drawn, part + 1, parts); i < end; i++) {
    const float *s = job->splats + (int64_t)job->order[i] * AF_SPLAT;
    /* The next ones lie anywhere. */
    if (i + 6 < end) __builtin_prefetch(job->splats + (int64_t)job->order[i + 6] * AF_SPLAT);
    record *r = job->records + i;
    r->mean_x = s[0], r->mean_y = s[1];
    r->qa = 0.5f * AF_LOG2E * s[2], r->qb = AF_LOG2E * s[3], r->qc = 0.5f * AF_LOG2E * s[4];
    r->log2_opacity = log2f(s[5]);
    r->red = s[6], r->green = s[7], r->blue = s[8];
    r->index = (int32_t)job->order[i];
    /* qa dx^2 + qb dx dy + qc dy^2 <= level; a little slack, since the pixels test themselves. */
    float level = r->log2_opacity - AF_LOG2_ALPHA_MIN + 1e-4f;
    float det = r->qa * r->qc - 0.25f * r->qb * r->qb;
    float half_x = sqrtf(level * r->qc / det) * 1.0001f, half_y = sqrtf(level * r->qa / det) * 1.0001f;
    float top = (r->mean_y - half_y - (BLOCK - 0.5f)) * (1.0f / BLOCK);
    float bottom = (r->mean_y + half_y - 0.5f) * (1.0f / BLOCK);
    if (!(bottom >= 0.0f) || !(top <= (float)(job->rows - 1))) continue;
    int first = clamp_block(ceilf(top), job->rows - 1), last = clamp_block(floorf(bottom), job->rows - 1);
    if (count + (last - first + 1) > capacity) {
      capacity = 2 * capacity + 4096 + job->rows;
      spans = af_grow(buffer, (size_t)capacity * sizeof(span));
      if (!spans) {
        job->failed[part] = 1;
        return;
      }
    }
    float inverse_a = 1.0f / r->qa, slope = 0.5f * r->qb * inverse_a, narrow = det * inverse_a;
    float extreme = 0.5f * r->qb / r->qc * half_x; /* minus the dy at which dx is largest */
    for (int row = first; row <= last; row += VL) {
      int32_t x0[VL], x1[VL];
      band_extents(r, job->cols, row, half_y, level, inverse_a, slope, narrow, extreme, x0, x1);
      int rows = last - row + 1 < VL ? last - row + 1 : VL;
      for (int l = 0; l < rows; l++) {
        /* An empty span is written and then written over: cheaper than a branch that nobody can foresee. */
        int touches = x0[l] <= x1[l];
        counts[row + l] += touches;
        pair_counts[row + l] += touches ? x1[l] - x0[l] + 1 : 0;
        spans[count] = (span){(uint32_t)i, (uint16_t)(row + l), (uint16_t)x0[l], (uint16_t)x1[l], 0};
        count += touches;
      }
    }
  }
  job->span_counts[part] = count;
}

/* Turns the counts of every part into the positions that it writes to; returns the number of pairs, -1 if too many. */
static int64_t place(raster_job *job) {
  int64_t spans = 0, pairs = 0;
  for (int row = 0; row < job->rows; row++) {
    job->row_spans[row] = (int32_t)spans;
    job->row_pairs[row] = (int32_t)pairs;
    for (int part = 0; part < job->parts; part++) {
      int32_t *count = job->counts + (int64_t)part * job->rows + row;
      int32_t here = *count;
      *count = (int32_t)spans;
      spans += here;
      pairs += job->pair_counts[(int64_t)part * job->rows + row];
    }
    if (pairs > INT32_MAX / 2) return -1;
  }
  job->row_spans[job->rows] = (int32_t)spans;
  job->row_pairs[job->rows] = (int32_t)pairs;
  return pairs;
}

static void sort_spans_part(int part, int parts, void *context) {
  (void)parts;
  raster_job *job = context;
  const span *spans = job->ws->spans[part].data;
  int32_t *cursor = job->counts + (int64_t)part * job->rows;
  for (int64_t i = 0; i < job->span_counts[part]; i++) {
    span s = spans[i];
    job->sorted[cursor[s.row]++] = (row_span){s.id, s.x0, s.x1};
  }
}

static void fill_part(int part, int parts, void *context) {
  raster_job *job = context;
  int32_t at[MAX_SIDE_BLOCKS + FILL_WIDTH];
  uint32_t *list = job->list;
  for (int64_t row = share(job->rows, part, parts), end = share(job->rows, part + 1, parts); row < end; row++) {
    const row_span *first = job->sorted + job->row_spans[row], *last = job->sorted + job->row_spans[row + 1];
    int32_t *starts = job->starts + row * job->cols, running = 0, next = job->row_pairs[row] + (int32_t)row * job->cols;
    memset(at, 0, (size_t)(job->cols + 1) * sizeof *at);
    for (const row_span *s = first; s < last; s++) {
      at[s->x0]++;
      at[s->x1 + 1]--;
    }
    for (int x = 0; x < job->cols; x++) {
      running += at[x];
      at[x] = starts[x] = next;
      next += running + 1;
    }
    /* The length of a span is unforeseeable, so FILL_WIDTH blocks are written at once. Where the span has ended the
       position does not advance and the next splat overwrites it; behind the last one it is the block's spare entry. */
    for (int x = 0; x < FILL_WIDTH; x++) at[job->cols + x] = next - 1;
    for (int32_t to = starts[0]; to < next; to += 16) __builtin_prefetch(list + to, 1);
    for (const row_span *s = first; s < last; s++) {
      uint32_t id = s->id;
      int x = s->x0, x1 = s->x1;
      do {
#pragma GCC unroll 8
        for (int l = 0; l < FILL_WIDTH; l++) {
          int32_t to = at[x + l];
          list[to] = id;
          at[x + l] = to + (x + l <= x1);
        }
        x += FILL_WIDTH;
      } while (x <= x1);
    }
  }
}

static void lay_out(raster_job *job, af_workspace *ws, const float *splats, int height, int width) {
  *job = (raster_job){.ws = ws, .splats = splats, .height = height, .width = width, .parts = af_thread_count(),
                      .rows = (height + BLOCK - 1) / BLOCK, .cols = (width + BLOCK - 1) / BLOCK};
}

/* Bins are in the workspace already when the same splats were binned last, as in the backward of the last forward. */
static int bins_are_current(raster_job *job, int64_t n) {
  af_workspace *ws = job->ws;
  if (ws->binned_splats != n || ws->binned_height != job->height || ws->binned_width != job->width ||
      ws->binned_parts != job->parts || ws->binned_by != (const void *)bins_are_current)
    return 0;
  if (memcmp(ws->slots[AF_SLOT_SAVED].data, job->splats, (size_t)n * AF_SPLAT * sizeof(float))) return 0;
  job->drawn = ws->binned_drawn;
  job->records = ws->slots[AF_SLOT_RECORDS].data;
  job->starts = ws->slots[AF_SLOT_STARTS].data;
  job->list = ws->slots[AF_SLOT_LIST].data;
  job->used = ws->slots[AF_SLOT_USED].data;
  return 1;
}

/* `keep`: for a backward pass, which will ask whether these are its splats. */
static int make_bins(raster_job *job, int64_t n, int keep) {
  af_workspace *ws = job->ws;
  ws->binned_splats = -1;
  if (n > INT32_MAX / 64 || job->cols > MAX_SIDE_BLOCKS) return AF_NO_MEMORY;
  int64_t blocks = (int64_t)job->rows * job->cols, cells = (int64_t)job->parts * job->rows;
  uint32_t *keys = af_reserve(&ws->slots[AF_SLOT_KEYS], (size_t)n * 16 + 4);
  job->records = af_reserve(&ws->slots[AF_SLOT_RECORDS], ((size_t)n + 1) * sizeof(record));
  job->counts = af_reserve(&ws->slots[AF_SLOT_COUNTS], (size_t)(2 * cells + 2 * job->rows + 2) * sizeof(int32_t));
  job->starts = af_reserve(&ws->slots[AF_SLOT_STARTS], (size_t)(blocks + 1) * sizeof(int32_t));
  job->used = af_reserve(&ws->slots[AF_SLOT_USED], (size_t)blocks * sizeof(int32_t));
  void *saved = keep ? af_reserve(&ws->slots[AF_SLOT_SAVED], (size_t)n * AF_SPLAT * sizeof(float) + 4) : 0;
  if (!keys || !job->records || !job->counts || !job->starts || !job->used || (keep && !saved)) return AF_NO_MEMORY;
  job->pair_counts = job->counts + cells;
  job->row_spans = job->pair_counts + cells;
  job->row_pairs = job->row_spans + job->rows + 1;
  double clock = af_seconds();
  job->order = sort_by_depth(keys, n, job->splats, &job->drawn);
  clock = af_stage_ends(ws, AF_STAGE_SORT, clock);
  af_parallel(job->parts, bin_part, job);
  for (int part = 0; part < job->parts; part++)
    if (job->failed[part]) return AF_NO_MEMORY;
  int64_t pairs = place(job);
  clock = af_stage_ends(ws, AF_STAGE_BIN, clock);
  if (pairs < 0) return AF_NO_MEMORY;
  job->list = af_reserve(&ws->slots[AF_SLOT_LIST], (size_t)(pairs + blocks + CHUNK) * sizeof(uint32_t));
  job->sorted = af_reserve(&ws->slots[AF_SLOT_SPANS], (size_t)(job->row_spans[job->rows] + 1) * sizeof(row_span));
  if (!job->list || !job->sorted) return AF_NO_MEMORY;
  af_parallel(job->parts, sort_spans_part, job);
  af_parallel(job->parts * FORWARD_PARTS_PER_THREAD, fill_part, job);
  job->starts[blocks] = (int32_t)(pairs + blocks);
  memset(job->list + pairs + blocks, 0, CHUNK * sizeof(uint32_t));
  af_stage_ends(ws, AF_STAGE_FILL, clock);
  ws->pairs_binned = pairs;
  if (!keep) return AF_OK;
  if (n) memcpy(saved, job->splats, (size_t)n * AF_SPLAT * sizeof(float));
  ws->binned_splats = n;
  ws->binned_height = job->height, ws->binned_width = job->width, ws->binned_parts = job->parts;
  ws->binned_drawn = job->drawn;
  ws->binned_by = (const void *)bins_are_current;
  return AF_OK;
}
