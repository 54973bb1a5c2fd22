/* A ray's samples in a box: which lattice points lie in occupied cells. avatarfit/ops/march.py states the definition.

   Every target must keep the very same samples, so no product is contracted with a sum here: on the device by intrinsics,
   on the host by the flags that cpu/march.c is compiled with. */
#ifndef AF_MARCH_H
#define AF_MARCH_H

#include <stdint.h>

#include "shared/constants.h"

#define AF_MARCH_MAX_STEPS (1 << 20)

#ifdef __CUDA_ARCH__
#define AF_MUL(a, b) __fmul_rn(a, b)
#define AF_ADD(a, b) __fadd_rn(a, b)
#define AF_DIV(a, b) __fdiv_rn(a, b)
#else
#define AF_MUL(a, b) ((a) * (b))
#define AF_ADD(a, b) ((a) + (b))
#define AF_DIV(a, b) ((a) / (b))
#endif

typedef struct {
  float low[3], high[3], cells_per_unit[3], cell[3];
  float step, intervals_per_unit;
  int resolution; /* a power of two */
  int worth;      /* the side of the smallest block that is left by a step of its own, not interval by interval */
  const uint64_t *words;  /* occupancy, a bit to a cell in Morton order: a word is a block of 4 x 4 x 4 cells */
  const uint64_t *coarse; /* a bit to each of those words, set where any of its is: a word here is 16 x 16 x 16 cells */
} af_march_grid;

typedef struct {
  float origin[3], direction[3];
  float inverse[3]; /* of the direction, for guesses; 0 where it is 0 */
  float from, to; /* the stretch of t in the box; empty unless from < to */
  float jitter;
} af_march_ray;

typedef struct { float t, length; float at[3]; int cell[3]; } af_march_sample;

static AF_HD af_march_grid af_make_march_grid(const float *box, int resolution, float step, const uint64_t *words,
                                               const uint64_t *coarse) {
  af_march_grid grid;
  for (int c = 0; c < 3; c++) {
    grid.low[c] = box[c], grid.high[c] = box[3 + c];
    grid.cells_per_unit[c] = AF_DIV((float)resolution, AF_ADD(box[3 + c], -box[c]));
    grid.cell[c] = (box[3 + c] - box[c]) / (float)resolution;
  }
  float widest = grid.cell[0] > grid.cell[1] ? grid.cell[0] : grid.cell[1];
  widest = widest > grid.cell[2] ? widest : grid.cell[2];
  grid.worth = 1;
  while (grid.worth < 16 && widest * (float)grid.worth < 2.0f * step) grid.worth *= 2;
  grid.step = step, grid.intervals_per_unit = 1.0f / step;
  grid.resolution = resolution, grid.words = words, grid.coarse = coarse;
  return grid;
}

/* Whatever is not finite fails a comparison, and the ray stays empty. */
static AF_HD af_march_ray af_make_march_ray(const af_march_grid *grid, const float *origin, const float *direction,
                                            float nearest, float farthest, float jitter) {
  af_march_ray ray;
  int usable = jitter >= 0.0f && jitter < 1.0f && nearest <= farthest, moves = 0;
  ray.from = nearest, ray.to = farthest, ray.jitter = jitter;
  for (int c = 0; c < 3; c++) {
    float o = ray.origin[c] = origin[c], d = ray.direction[c] = direction[c];
    usable &= o - o == 0.0f && d - d == 0.0f;
    ray.inverse[c] = d == 0.0f ? 0.0f : 1.0f / d;
    if (d == 0.0f) {
      usable &= o >= grid->low[c] && o <= grid->high[c];
      continue;
    }
    moves = 1;
    float one = AF_DIV(AF_ADD(grid->low[c], -o), d), other = AF_DIV(AF_ADD(grid->high[c], -o), d);
    float enters = one < other ? one : other, leaves = one < other ? other : one;
    ray.from = enters > ray.from ? enters : ray.from;
    ray.to = leaves < ray.to ? leaves : ray.to;
  }
  usable &= moves && ray.from - ray.from == 0.0f && ray.to - ray.to == 0.0f;
  if (!usable) ray.from = ray.to = 0.0f;
  return ray;
}

/* Where interval k begins. */
static AF_HD float af_march_start(const af_march_grid *grid, const af_march_ray *ray, int k) {
  return AF_ADD(ray->from, AF_MUL((float)k, grid->step));
}

/* Interval k, which the ray's end may cut short, and the sample in it. t, place and cell never fall (or never rise, against
   the axis) as k grows, each by itself, since every operation here is monotone: cells that are alike at two k are alike at
   all between. */
static AF_HD af_march_sample af_march_at(const af_march_grid *grid, const af_march_ray *ray, int k) {
  af_march_sample s;
  float begins = af_march_start(grid, ray, k), ends = af_march_start(grid, ray, k + 1);
  ends = ends < ray->to ? ends : ray->to;
  s.length = AF_ADD(ends, -begins);
  s.t = AF_ADD(begins, AF_MUL(ray->jitter, s.length));
  s.t = s.t < ends ? s.t : ends;
  for (int c = 0; c < 3; c++) {
    float x = AF_ADD(ray->origin[c], AF_MUL(s.t, ray->direction[c]));
    x = x > grid->low[c] ? x : grid->low[c];
    x = x < grid->high[c] ? x : grid->high[c];
    s.at[c] = x;
    int cell = (int)AF_MUL(AF_ADD(x, -grid->low[c]), grid->cells_per_unit[c]);
    s.cell[c] = cell < grid->resolution ? cell : grid->resolution - 1;
  }
  return s;
}

/* The bits of a 10-bit number, three apart (Morton 1966). */
static AF_HD uint32_t af_spread_bits(uint32_t x) {
  x = (x | x << 16) & 0x030000ffu;
  x = (x | x << 8) & 0x0300f00fu;
  x = (x | x << 4) & 0x030c30c3u;
  return (x | x << 2) & 0x09249249u;
}

/* 0 in an occupied cell; else 1, 2, 4, 8 or 16: the cells along a side of the largest aligned empty block around it. */
static AF_HD int af_empty_block(const af_march_grid *grid, const int *cell) {
  uint32_t code = af_spread_bits((uint32_t)cell[0]) | af_spread_bits((uint32_t)cell[1]) << 1 |
                  af_spread_bits((uint32_t)cell[2]) << 2;
  uint64_t coarse = grid->coarse[code >> 12];
  if (!coarse) return 16;
  uint64_t eight = coarse >> (code >> 6 & 56u) & 255u;
  if (!eight) return 8;
  if (!(eight >> (code >> 6 & 7u) & 1u)) return 4;
  eight = grid->words[code >> 6] >> (code & 56u) & 255u;
  if (!eight) return 2;
  return eight >> (code & 7u) & 1u ? 0 : 1;
}

static AF_HD int af_same_block(const int *a, const int *b, int side) {
  return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2])) < side;
}

/* The k to look at after the sample of k, which lies in an empty block: the first that may lie outside it. The boundary's
   distance is only a guess, rounded as it is: the sample before is looked at, and only where it still lies in the block
   is anything left out. */
static AF_HD int af_skip_block(const af_march_grid *grid, const af_march_ray *ray, int k, const int *cell, int side) {
  float leaves = ray->to;
  for (int c = 0; c < 3; c++) {
    float inverse = ray->inverse[c];
    if (inverse == 0.0f) continue;
    int corner = (cell[c] & -side) + (inverse > 0.0f ? side : 0);
    float t = (grid->low[c] + (float)corner * grid->cell[c] - ray->origin[c]) * inverse;
    leaves = t < leaves ? t : leaves;
  }
  float intervals = (leaves - ray->from) * grid->intervals_per_unit - ray->jitter;
  int next = !(intervals < (float)AF_MARCH_MAX_STEPS) ? AF_MARCH_MAX_STEPS : intervals > 0.0f ? (int)intervals + 1 : 0;
  for (int tries = 0; tries < 2 && next > k + 1; tries++, next--) {
    af_march_sample before = af_march_at(grid, ray, next - 1);
    if (af_same_block(before.cell, cell, side)) return next;
  }
  return k + 1;
}

/* Goes on from k to the next sample in an occupied cell, and gives its k; -1 when the ray has none left. */
static AF_HD int af_march_next(const af_march_grid *grid, const af_march_ray *ray, int k, af_march_sample *sample) {
  while (k < AF_MARCH_MAX_STEPS && af_march_start(grid, ray, k) < ray->to) {
    *sample = af_march_at(grid, ray, k);
    int side = af_empty_block(grid, sample->cell);
    if (!side) return k;
    k = side < grid->worth ? k + 1 : af_skip_block(grid, ray, k, sample->cell, side);
  }
  return -1;
}

/* How many samples the ray keeps, and the first one's k. */
static AF_HD int af_march_count(const af_march_grid *grid, const af_march_ray *ray, int most, int *first) {
  af_march_sample sample;
  int count = 0, k = 0;
  *first = 0;
  while (count < most && (k = af_march_next(grid, ray, k, &sample)) >= 0) {
    if (!count++) *first = k;
    k++;
  }
  return count;
}

/* Writes `count` samples from the one of `first` on. */
static AF_HD void af_march_write(const af_march_grid *grid, const af_march_ray *ray, int first, int count,
                                 float *positions, float *t, float *lengths) {
  af_march_sample sample;
  for (int i = 0, k = first; i < count; i++, k++) {
    k = af_march_next(grid, ray, k, &sample);
    if (k < 0) return;
    for (int c = 0; c < 3; c++) positions[3 * (int64_t)i + c] = sample.at[c];
    t[i] = sample.t, lengths[i] = sample.length;
  }
}

#endif
