/* Rays through an occupancy grid, VL intervals of a ray at a time; compiled once for each instruction set with AF_ISA naming it,
   and without contraction: which samples a ray keeps hangs on the last bit of a place, and must not change with the machine. So
   the vectors do what af_march_at does, operation for operation.
   First a vector of places some intervals apart tells which segments between them can hold anything: along each axis the cells
   of a segment lie between those of its ends, so where these lie in neighbouring blocks of 4^3 cells (of coarse steps 8^3), and
   the 2^3 blocks there are empty, so is the segment. Only of the others is every interval looked at.
   The first pass leaves the kept intervals' numbers in the workspace; the second makes samples of them. */
#include "cpu/table.h"

#include "cpu/simd.h"
#include "shared/march.h"

#define MARCH_RAYS 64        /* to a part, at least: they cost very unlike amounts */
#define MARCH_SEGMENT 8      /* intervals, at least; of coarse steps half as many */

#define AF_JOIN_(a, b) a##b
#define AF_JOIN(a, b) AF_JOIN_(a, b)

typedef struct {
  const af_march_rays *rays;
  af_workspace *workspace;
  const int64_t *offsets;
  int32_t *counts;
  float *positions, *t, *lengths;
  int most;
  float occupied[2][3]; /* corners of a box that holds every occupied cell */
  /* Where `segment` is not 0, so many intervals: a bit for each block, set where it or a neighbour at one more along any axes
     holds an occupied cell; rows along x of `row_words` words, 1 << side_log2 of them to a slice. A block's side is
     1 << block_log2 cells. */
  int segment, block_log2, row_words, side_log2;
  const uint32_t *near;
  _Atomic int failed;
} march_job;

/* Samples of the intervals `k`, lane by lane: as af_march_at. */
typedef struct { vf begins, t, length, at[3]; vi cell[3]; } march_lanes;

INLINE march_lanes march_at(const af_march_grid *grid, const af_march_ray *ray, vi k) {
  march_lanes s;
  s.begins = v_set(ray->from) + __builtin_convertvector(k, vf) * grid->step;
  vf ends = v_set(ray->from) + __builtin_convertvector(k + 1, vf) * grid->step;
  ends = v_min(ends, v_set(ray->to));
  s.length = ends - s.begins;
  s.t = v_min(s.begins + ray->jitter * s.length, ends);
  for (int c = 0; c < 3; c++) {
    vf x = v_set(ray->origin[c]) + s.t * ray->direction[c];
    x = v_min(v_max(x, v_set(grid->low[c])), v_set(grid->high[c]));
    s.at[c] = x;
    vi cell = __builtin_convertvector((x - grid->low[c]) * grid->cells_per_unit[c], vi), last = (vi){0} + (grid->resolution - 1);
    vi inside = cell < last;
    s.cell[c] = (cell & inside) | (last & ~inside);
  }
  return s;
}

#if VL == 16
#define MARCH_LANES ((vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
#elif VL == 8
#define MARCH_LANES ((vi){0, 1, 2, 3, 4, 5, 6, 7})
#else
#define MARCH_LANES ((vi){0, 1, 2, 3})
#endif

INLINE vi march_spread_bits(vi x) {
  x = (x | x << 16) & 0x030000ff;
  x = (x | x << 8) & 0x0300f00f;
  x = (x | x << 4) & 0x030c30c3;
  return (x | x << 2) & 0x09249249;
}

INLINE vi march_select(vi condition, vi yes, vi no) { return (condition & yes) | (~condition & no); }

INLINE vi march_gather(const void *words, vi at) {
#if VL == 8
  return (vi)_mm256_i32gather_epi32((const int *)words, (__m256i)at, 4);
#else
  vi word;
  for (int i = 0; i < VL; i++) memcpy((char *)&word + 4 * i, (const char *)words + 4 * (size_t)(uint32_t)at[i], 4);
  return word;
#endif
}

/* A bit for each of the VL intervals from k on: set where it is on the ray and its sample is kept. */
INLINE unsigned march_kept(const af_march_grid *grid, const af_march_ray *ray, int k) {
  march_lanes s = march_at(grid, ray, MARCH_LANES + k);
  vi code = march_spread_bits(s.cell[0]) | march_spread_bits(s.cell[1]) << 1 | march_spread_bits(s.cell[2]) << 2;
  vi word = march_gather(grid->words, code >> 5);
  return v_mask((vi)(s.begins < v_set(ray->to)) & -((word >> (code & 31)) & 1));
}

/* A bit for each of the VL - 1 segments from k on: set where it may hold a kept sample. Past the ray's end every place is the
   end, so that the segment that holds it counts up to there. */
INLINE unsigned march_segments(const march_job *job, const af_march_ray *ray, int k) {
  march_lanes s = march_at(&job->rays->grid, ray, MARCH_LANES * job->segment + k);
  vi low[3], far = {0};
  for (int c = 0; c < 3; c++) {
    vi block = s.cell[c] >> job->block_log2, next = __builtin_shuffle(block, MARCH_LANES + 1);
    far |= (block - next > 1) | (next - block > 1);
    low[c] = march_select(block < next, block, next);
  }
  vi word = march_gather(job->near, ((low[2] << job->side_log2) + low[1]) * job->row_words + (low[0] >> 5));
  vi holds = far | -((word >> (low[0] & 31)) & 1);
  return v_mask((vi)(s.begins < v_set(ray->to)) & holds) & ((1u << (VL - 1)) - 1);
}

/* Puts the numbers of the ray's kept intervals from k on, `intervals` at most, into `kept`. */
INLINE int march_look(const march_job *job, const af_march_ray *ray, int k, int intervals, int32_t *kept, int count) {
  for (int i = 0; i < intervals && count < job->most; i += VL) {
    unsigned bits = march_kept(&job->rays->grid, ray, k + i);
    if (intervals - i < VL) bits &= (1u << (intervals - i)) - 1;
    for (; bits && count < job->most; bits &= bits - 1) kept[count++] = k + i + __builtin_ctz(bits);
  }
  return count;
}

/* Intervals that may hold kept samples: from *k up to *end. Where the ray enters and leaves the occupied box is only a guess,
   rounded as it is, so there is slack. */
INLINE void march_range(const march_job *job, const af_march_ray *ray, int *k, int *end) {
  const af_march_grid *grid = &job->rays->grid;
  float enters = ray->from, leaves = ray->to, along = 2 * grid->step + 0x1p-18f * (fabsf(ray->from) + fabsf(ray->to));
  for (int c = 0; c < 3; c++) {
    if (ray->inverse[c] == 0.0f) continue;
    float across = fabsf(ray->origin[c]) + fabsf(job->occupied[0][c]) + fabsf(job->occupied[1][c]);
    float slack = along + 0x1p-20f * across * fabsf(ray->inverse[c]);
    float one = (job->occupied[0][c] - ray->origin[c]) * ray->inverse[c];
    float other = (job->occupied[1][c] - ray->origin[c]) * ray->inverse[c];
    float nearer = (one < other ? one : other) - slack, farther = (one < other ? other : one) + slack;
    enters = nearer > enters ? nearer : enters;
    leaves = farther < leaves ? farther : leaves;
  }
  float first = (enters - ray->from) * grid->intervals_per_unit, last = (leaves - ray->from) * grid->intervals_per_unit;
  *k = first < (float)AF_MARCH_MAX_STEPS ? (int)first : AF_MARCH_MAX_STEPS;
  *end = last < (float)(AF_MARCH_MAX_STEPS - 2) ? (int)last + 2 : AF_MARCH_MAX_STEPS;
}

static int march_find(const march_job *job, const af_march_ray *ray, int32_t *kept) {
  const af_march_grid *grid = &job->rays->grid;
  int count = 0, stride = job->segment ? (VL - 1) * job->segment : VL;
  int at_once = job->segment && job->segment < VL ? VL / job->segment : 1; /* segments that fill a vector */
  int k, end;
  march_range(job, ray, &k, &end);
  for (; count < job->most && k < end && af_march_start(grid, ray, k) < ray->to; k += stride) {
    if (!job->segment) {
      count = march_look(job, ray, k, VL, kept, count);
      continue;
    }
    unsigned bits = march_segments(job, ray, k);
    while (bits) {
      int first = __builtin_ctz(bits), last = first + at_once < VL - 1 ? first + at_once : VL - 1;
      count = march_look(job, ray, k + first * job->segment, (last - first) * job->segment, kept, count);
      bits &= ~0u << last;
    }
  }
  while (count && kept[count - 1] >= AF_MARCH_MAX_STEPS) count--; /* only whole strides are looked at */
  return count;
}

static af_march_ray march_ray_of(const af_march_rays *rays, int64_t r) {
  return af_make_march_ray(&rays->grid, rays->origins + 3 * r, rays->directions + 3 * r, rays->nearest[r], rays->farthest[r],
                           rays->jitter ? rays->jitter[r] : 0.5f);
}

static void march_count_part(int part, int parts, void *context) {
  march_job *job = context;
  const af_march_rays *rays = job->rays;
  af_buffer *buffer = &job->workspace->scratch[part];
  size_t used = 0;
  for (int64_t r = rays->count * part / parts, end = rays->count * (part + 1) / parts; r < end; r++) {
    af_march_ray ray = march_ray_of(rays, r);
    job->counts[r] = 0;
    if (!(ray.from < ray.to)) continue;
    /* Far from the origin of t rounding may begin an interval by that much too early. */
    float farthest = ray.to > -ray.from ? ray.to : -ray.from;
    float intervals = (ray.to - ray.from + farthest * 0x1p-22f) * rays->grid.intervals_per_unit * (1 + 0x1p-20f);
    size_t room = intervals < (float)(AF_MARCH_MAX_STEPS - 4) ? (size_t)intervals + 4 : AF_MARCH_MAX_STEPS;
    if (room > (size_t)job->most) room = (size_t)job->most;
    size_t bytes = (used + room + VL) * sizeof(int32_t);
    int32_t *kept = bytes <= buffer->bytes ? buffer->data : af_grow(buffer, 2 * bytes);
    if (!kept) {
      job->failed = 1;
      return;
    }
    used += (size_t)(job->counts[r] = march_find(job, &ray, kept + used));
  }
}

static void march_write_part(int part, int parts, void *context) {
  march_job *job = context;
  const af_march_rays *rays = job->rays;
  const int32_t *kept = job->workspace->scratch[part].data;
  for (int64_t r = rays->count * part / parts, end = rays->count * (part + 1) / parts; r < end; r++) {
    int64_t from = job->offsets[r], count = job->offsets[r + 1] - from;
    if (!count) continue;
    af_march_ray ray = march_ray_of(rays, r);
    for (int64_t i = 0; i < count; i += VL) {
      int lanes = count - i < VL ? (int)(count - i) : VL;
      vi k;
      memcpy(&k, kept + i, sizeof k);
      march_lanes s = march_at(&rays->grid, &ray, k);
      memcpy(job->t + from + i, &s.t, (size_t)lanes * sizeof(float));
      memcpy(job->lengths + from + i, &s.length, (size_t)lanes * sizeof(float));
      float *position = job->positions + 3 * (from + i);
      for (int l = 0; l < lanes; l++)
        for (int c = 0; c < 3; c++) position[3 * l + c] = s.at[c][l];
    }
    kept += count;
  }
}

static int march_parts(int64_t rays) {
  int64_t parts = (rays + MARCH_RAYS - 1) / MARCH_RAYS;
  return parts > AF_MAX_THREADS ? AF_MAX_THREADS : (int)parts;
}

/* Every third bit of a Morton code, from the lowest. */
static uint32_t march_gather_bits(uint32_t x) {
  uint32_t out = 0;
  for (int bit = 0; bit < 10; bit++) out |= (x >> (3 * bit) & 1) << bit;
  return out;
}

/* Finds the box of what is occupied. */
static void march_bound(march_job *job) {
  const af_march_grid *grid = &job->rays->grid;
  int blocks = grid->resolution / 4, low[3] = {blocks, blocks, blocks}, high[3] = {-1, -1, -1};
  for (int64_t i = 0; i < (int64_t)blocks * blocks * blocks; i += 64)
    for (uint64_t bits = grid->coarse[i / 64]; bits; bits &= bits - 1) {
      uint32_t code = (uint32_t)i + (uint32_t)__builtin_ctzll(bits);
      for (int c = 0; c < 3; c++) {
        int block = (int)march_gather_bits(code >> c);
        low[c] = block < low[c] ? block : low[c];
        high[c] = block > high[c] ? block : high[c];
      }
    }
  for (int c = 0; c < 3; c++) {
    job->occupied[0][c] = grid->low[c] + 4.0f * (float)low[c] * grid->cell[c];
    job->occupied[1][c] = grid->low[c] + 4.0f * (float)(high[c] + 1) * grid->cell[c];
  }
}

/* Finds which blocks are near an occupied cell; the segments' length, so that their ends mostly lie in neighbouring blocks. */
static int march_prepare(march_job *job) {
  const af_march_grid *grid = &job->rays->grid;
  float narrowest = grid->cell[0] < grid->cell[1] ? grid->cell[0] : grid->cell[1];
  narrowest = narrowest < grid->cell[2] ? narrowest : grid->cell[2];
  job->segment = MARCH_SEGMENT, job->block_log2 = 2;
  while (job->segment < 1024 && 2 * job->segment * grid->step <= 4 * narrowest) job->segment *= 2;
  if (MARCH_SEGMENT * grid->step > 6 * narrowest) job->segment = MARCH_SEGMENT / 2, job->block_log2 = 3;
  if (MARCH_SEGMENT * grid->step > 16 * narrowest || grid->resolution < 1 << job->block_log2) job->segment = 0;
  if (!job->segment) return AF_OK;
  int side = grid->resolution >> job->block_log2, words = job->row_words = (side + 31) / 32;
  while (1 << job->side_log2 < side) job->side_log2++;
  size_t bytes = (size_t)side * side * words * sizeof(uint32_t);
  uint32_t *near = af_reserve(&job->workspace->slots[AF_SLOT_MARCH_BLOCKS], bytes);
  if (!near) return AF_NO_MEMORY;
  memset(near, 0, bytes);
  job->near = near;
  int64_t blocks = (int64_t)grid->resolution * grid->resolution * grid->resolution / 64;
  for (int64_t i = 0; i < blocks; i += 64)
    for (uint64_t bits = grid->coarse[i / 64]; bits; bits &= bits - 1) {
      uint32_t code = ((uint32_t)i + (uint32_t)__builtin_ctzll(bits)) >> 3 * (job->block_log2 - 2), x = march_gather_bits(code);
      near[((int64_t)march_gather_bits(code >> 2) * side + march_gather_bits(code >> 1)) * words + x / 32] |= 1u << x % 32;
    }
  for (int64_t row = 0; row < (int64_t)side * side; row++)
    for (int w = 0; w < words; w++)
      near[row * words + w] |= near[row * words + w] >> 1 | (w + 1 < words ? near[row * words + w + 1] << 31 : 0);
  for (int64_t row = 0; row < (int64_t)side * side; row++)
    for (int w = 0; w < words && (row + 1) % side; w++) near[row * words + w] |= near[(row + 1) * words + w];
  for (int64_t row = 0; row < (int64_t)side * (side - 1); row++)
    for (int w = 0; w < words; w++) near[row * words + w] |= near[(row + side) * words + w];
  return AF_OK;
}

int AF_JOIN(af_march_count_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, int most, int32_t *counts);
int AF_JOIN(af_march_count_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, int most, int32_t *counts) {
  march_job job = {.rays = rays, .workspace = workspace, .counts = counts, .most = most};
  march_bound(&job);
  int status = march_prepare(&job);
  if (status) return status;
  af_parallel(march_parts(rays->count), march_count_part, &job);
  return job.failed ? AF_NO_MEMORY : AF_OK;
}

int AF_JOIN(af_march_write_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, const int64_t *offsets, float *positions,
                                     float *t, float *lengths);
int AF_JOIN(af_march_write_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, const int64_t *offsets, float *positions,
                                     float *t, float *lengths) {
  march_job job = {.rays = rays, .workspace = workspace, .offsets = offsets, .positions = positions, .t = t, .lengths = lengths};
  af_parallel(march_parts(rays->count), march_write_part, &job);
  return AF_OK;
}
