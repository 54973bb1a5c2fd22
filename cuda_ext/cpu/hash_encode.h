/* Multi-resolution hash encoding and its gradients. Points go through a level GRID_BLOCK at a time: cells, rows and weights as loops
   that the compiler vectorises, then the table's rows, which no instruction set gathers faster than plain loads do.
   The forward pass and the points' gradient are threaded over points. The table's gradient is threaded over its rows: a part
   owns whole levels, or ranges of a level's rows, and adds to each row in the order of the points. So nothing races, no table is
   copied, and the sums are the same to the last bit for any number of threads. */
#include "cpu/table.h"
#include "shared/hash_grid.h"

#define GRID_BLOCK 16
#define GRID_CHUNK 512 /* points whose rows of output, or of its gradient, stay in cache while all levels pass */

typedef struct {
  _Alignas(64) float fraction[3][GRID_BLOCK];
  _Alignas(64) float weight[8][GRID_BLOCK];
  _Alignas(64) uint32_t row[8][GRID_BLOCK];
} grid_block;

typedef struct {
  const af_grid *grid;
  const float *points, *table, *grad;
  int64_t n;
  int row_ranges; /* how many a level's rows are cut into, so that there is work for every thread */
  float *out, *grad_table, *grad_points;
} encode_job;

/* A chunk's coordinates, an axis in a run; the last block is filled up with zeros. */
INLINE void load_chunk(const encode_job *job, int64_t from, int count, float coordinates[3][GRID_CHUNK]) {
  int dimensions = job->grid->dimensions;
  for (int d = 0; d < dimensions; d++) {
    for (int p = 0; p < count; p++) coordinates[d][p] = job->points[(from + p) * dimensions + d];
    for (int p = count; p % GRID_BLOCK; p++) coordinates[d][p] = 0;
  }
}

/* What is found of each cell: rows; rows and weights; of a dense level's pairs of corners, which lie side by side, the first's row
   and the weight along the other axes. */
enum { GRID_ROWS, GRID_WEIGHTS, GRID_PAIRS };

INLINE void find_cells(const af_level *level, float coordinates[3][GRID_CHUNK], int at, int dimensions, int dense, int what,
                       grid_block *b) {
  uint32_t factor_y = level->factor_y, factor_z = level->factor_z, size = level->size;
  int32_t resolution = level->resolution;
  for (int p = 0; p < GRID_BLOCK; p++) {
    float fraction[3] = {0, 0, 0};
    uint32_t x = (uint32_t)af_grid_cell(coordinates[0][at + p], resolution, fraction);
    uint32_t y = (uint32_t)af_grid_cell(coordinates[1][at + p], resolution, fraction + 1) * factor_y;
    uint32_t z = 0;
    if (dimensions == 3) z = (uint32_t)af_grid_cell(coordinates[2][at + p], resolution, fraction + 2) * factor_z;
#pragma GCC unroll 8
    for (int c = 0; c < 1 << dimensions; c += what == GRID_PAIRS ? 2 : 1) {
      b->row[c][p] = af_grid_row(x + (c & 1), c & 2 ? y + factor_y : y, c & 4 ? z + factor_z : z, size, dense);
      if (what) b->weight[c][p] = af_corner_weight(fraction, c, dimensions, what == GRID_PAIRS ? 0 : -1);
    }
    b->fraction[0][p] = fraction[0];
    b->fraction[1][p] = fraction[1];
    b->fraction[2][p] = fraction[2];
  }
}

INLINE void find_block(const af_level *level, float coordinates[3][GRID_CHUNK], int at, int dimensions, int what,
                       grid_block *b) {
  if (level->dense) find_cells(level, coordinates, at, dimensions, 1, what, b);
  else find_cells(level, coordinates, at, dimensions, 0, what, b);
}

/* Calls `function` with the grid's dimensions and features as constants where these are the usual ones. */
#define WITH_GRID_SIZES(grid, function, ...)                                    \
  do {                                                                          \
    int f_ = (grid)->features;                                                  \
    if ((grid)->dimensions == 2 && f_ == 2) function(__VA_ARGS__, 2, 2);        \
    else if ((grid)->dimensions == 2 && f_ == 1) function(__VA_ARGS__, 2, 1);   \
    else if ((grid)->dimensions == 2) function(__VA_ARGS__, 2, f_);             \
    else if (f_ == 2) function(__VA_ARGS__, 3, 2);                              \
    else if (f_ == 1) function(__VA_ARGS__, 3, 1);                              \
    else if (f_ == AF_ATTRIBUTES) function(__VA_ARGS__, 3, AF_ATTRIBUTES);      \
    else function(__VA_ARGS__, 3, f_);                                          \
  } while (0)

/* Features are taken four at a time; what is left over goes one by one. */
#define GRID_FOURS (AF_GRID_FEATURES_MAX / 4)

INLINE v4 load4(const float *at) {
  v4 four;
  memcpy(&four, at, sizeof four);
  return four;
}
INLINE void store4(float *at, v4 four) { memcpy(at, &four, sizeof four); }

typedef double d2 __attribute__((vector_size(16)));

/* Two floats from each of two places, as one vector: two plain loads, told by their size. */
INLINE v4 two_pairs(const float *first, const float *second) {
  double low, high;
  memcpy(&low, first, sizeof low);
  memcpy(&high, second, sizeof high);
  return (v4)(d2){low, high};
}
INLINE v4 one_pair(const float *at) {
  double low;
  memcpy(&low, at, sizeof low);
  return (v4)(d2){low, 0};
}

INLINE void encode_block(const grid_block *b, const float *table, int count, float *out, int64_t stride, int dimensions,
                         int features) {
  if (features == 2) {
    for (int p = 0; p < count; p += 2) {
      v4 sum = {0, 0, 0, 0};
#pragma GCC unroll 8
      for (int c = 0; c < 1 << dimensions; c++) {
        const float *weights = &b->weight[c][p];
        v4 w = __builtin_shuffle(two_pairs(weights, weights), (i4){0, 0, 1, 1});
        sum += w * two_pairs(table + 2 * (size_t)b->row[c][p], table + 2 * (size_t)b->row[c][p + 1]);
      }
      memcpy(out + p * stride, &sum, 8);
      if (p + 1 < count) memcpy(out + (p + 1) * stride, (float *)&sum + 2, 8);
    }
    return;
  }
  if (features >= VL) { /* the last vector overlaps the one before it */
    for (int p = 0; p < count; p++) {
      vf sums[GRID_FOURS] = {{0}};
#pragma GCC unroll 8
      for (int c = 0; c < 1 << dimensions; c++) {
        const float *row = table + (size_t)b->row[c][p] * features;
        float w = b->weight[c][p];
#pragma GCC unroll 4
        for (int k = 0; k < (features + VL - 1) / VL; k++)
          sums[k] += w * v_load(row + (k * VL + VL <= features ? k * VL : features - VL));
      }
#pragma GCC unroll 4
      for (int k = 0; k < (features + VL - 1) / VL; k++)
        v_store(out + p * stride + (k * VL + VL <= features ? k * VL : features - VL), sums[k]);
    }
    return;
  }
  for (int p = 0; p < count; p++) {
    v4 sums[GRID_FOURS] = {{0}};
    float rest[3] = {0, 0, 0};
    for (int c = 0; c < 1 << dimensions; c++) {
      const float *row = table + (size_t)b->row[c][p] * features;
      float w = b->weight[c][p];
#pragma GCC unroll 4
      for (int k = 0; k < features / 4; k++) sums[k] += w * load4(row + 4 * k);
#pragma GCC unroll 4
      for (int r = 0; r < features % 4; r++) rest[r] += w * row[features / 4 * 4 + r];
    }
#pragma GCC unroll 4
    for (int k = 0; k < features / 4; k++) store4(out + p * stride + 4 * k, sums[k]);
#pragma GCC unroll 4
    for (int r = 0; r < features % 4; r++) out[p * stride + features / 4 * 4 + r] = rest[r];
  }
}

/* Two features of a dense level: both corners along the first axis in one load. */
INLINE void encode_pairs(const grid_block *b, const float *table, int count, float *out, int64_t stride, int dimensions) {
  for (int p = 0; p < count; p++) {
    v4 sum = {0, 0, 0, 0};
#pragma GCC unroll 4
    for (int c = 0; c < 1 << dimensions; c += 2) sum += b->weight[c][p] * load4(table + 2 * (size_t)b->row[c][p]);
    sum *= (v4){1, 1, 0, 0} - b->fraction[0][p] * (v4){1, 1, -1, -1};
    sum += __builtin_shuffle(sum, (i4){2, 3, 2, 3});
    memcpy(out + p * stride, &sum, 8);
  }
}

/* `count` points of a level, GRID_BLOCK at most, from the one at `at` on. */
INLINE void encode_level(const af_level *level, const float *table, float coordinates[3][GRID_CHUNK], int at, int count,
                         float *out, int64_t stride, int dimensions, int features) {
  grid_block b;
  if (level->dense && features == 2) {
    find_cells(level, coordinates, at, dimensions, 1, GRID_PAIRS, &b);
    encode_pairs(&b, table, count, out, stride, dimensions);
  } else {
    find_block(level, coordinates, at, dimensions, GRID_WEIGHTS, &b);
    encode_block(&b, table, count, out, stride, dimensions, features);
  }
}

INLINE void encode_points(const encode_job *job, int64_t from, int64_t to, int dimensions, int features) {
  const af_grid *grid = job->grid;
  int64_t stride = (int64_t)grid->levels * features;
  float coordinates[3][GRID_CHUNK];
  for (; from < to; from += GRID_CHUNK) {
    int count = to - from < GRID_CHUNK ? (int)(to - from) : GRID_CHUNK;
    load_chunk(job, from, count, coordinates);
    for (int l = 0; l < grid->levels; l++) {
      const float *table = job->table + grid->at[l].offset * features;
      for (int at = 0; at < count; at += GRID_BLOCK)
        encode_level(grid->at + l, table, coordinates, at, count - at < GRID_BLOCK ? count - at : GRID_BLOCK,
                     job->out + (from + at) * stride + l * features, stride, dimensions, features);
    }
  }
}

static void encode_part(int part, int parts, void *context) {
  const encode_job *job = context;
  WITH_GRID_SIZES(job->grid, encode_points, job, share(job->n, part, parts), share(job->n, part + 1, parts));
}

/* More parts than threads, so that a thread that is held up leaves its points to others. */
static int point_parts(int64_t n) {
  int64_t parts = 4 * (int64_t)af_thread_count(), most = n / GRID_CHUNK + 1;
  return (int)(parts < most ? parts : most);
}

static int hash_encode(const af_grid *grid, const float *points, int64_t n, const float *table, float *out) {
  encode_job job = {.grid = grid, .points = points, .n = n, .table = table, .out = out};
  af_parallel(point_parts(n), encode_part, &job);
  return AF_OK;
}

/* Rows `first`..`first + rows - 1` of one level alone. */
INLINE void add_block(const grid_block *b, const float *grad, int64_t stride, int count, uint32_t first, uint32_t rows,
                      float *grad_table, int dimensions, int features) {
  for (int p = 0; p < count; p++) {
    const float *g = grad + p * stride;
#pragma GCC unroll 8
    for (int c = 0; c < 1 << dimensions; c++) {
      uint32_t row = b->row[c][p];
      float w = b->weight[c][p];
      if (row - first >= rows) continue;
      float *to = grad_table + (size_t)row * features;
      if (features == 2) {
        v4 sum = one_pair(to) + w * one_pair(g);
        memcpy(to, &sum, 8);
      } else {
#pragma GCC unroll 4
        for (int k = 0; k < features / 4; k++) store4(to + 4 * k, load4(to + 4 * k) + w * load4(g + 4 * k));
#pragma GCC unroll 4
        for (int f = features / 4 * 4; f < features; f++) to[f] += w * g[f];
      }
    }
  }
}

/* A part owns every parts-th of the pairs of a level and a range of its rows: neighbours differ most in what they cost. */
INLINE void add_rows(const encode_job *job, int part, int parts, int dimensions, int features) {
  const af_grid *grid = job->grid;
  int ranges = job->row_ranges, pairs = grid->levels * ranges;
  int64_t stride = (int64_t)grid->levels * features;
  float coordinates[3][GRID_CHUNK];
  grid_block b;
  for (int64_t from = -1; from < job->n; from = from < 0 ? 0 : from + GRID_CHUNK) {
    int count = from < 0 ? 0 : job->n - from < GRID_CHUNK ? (int)(job->n - from) : GRID_CHUNK;
    if (count) load_chunk(job, from, count, coordinates);
    for (int pair = part; pair < pairs; pair += parts) {
      int l = pair / ranges, range = pair % ranges;
      const af_level *level = grid->at + l;
      uint32_t first = (uint32_t)share(level->size, range, ranges);
      uint32_t rows = (uint32_t)share(level->size, range + 1, ranges) - first;
      float *grad_table = job->grad_table + level->offset * features;
      if (from < 0) memset(grad_table + (size_t)first * features, 0, (size_t)rows * features * sizeof(float));
      for (int at = 0; at < count; at += GRID_BLOCK) {
        find_block(level, coordinates, at, dimensions, GRID_WEIGHTS, &b);
        add_block(&b, job->grad + (from + at) * stride + l * features, stride, count - at < GRID_BLOCK ? count - at : GRID_BLOCK,
                  first, rows, grad_table, dimensions, features);
      }
    }
  }
}

static void add_rows_part(int part, int parts, void *context) {
  const encode_job *job = context;
  WITH_GRID_SIZES(job->grid, add_rows, job, part, parts);
}

/* Adds a level's part of the points' gradient, an axis in a run. */
INLINE void slope_block(const grid_block *b, const float *table, const float *grad, int64_t stride, int count,
                        float resolution, float slopes[3][GRID_CHUNK], int at, int dimensions, int features) {
  _Alignas(64) float dot[8][GRID_BLOCK];
  for (int p = 0; p < GRID_BLOCK; p++)
#pragma GCC unroll 8
    for (int c = 0; c < 1 << dimensions; c++) {
      const float *g = grad + p * stride, *row = table + (size_t)b->row[c][p] * features;
      v4 sums = {0, 0, 0, 0};
      float sum = 0;
      if (p < count) {
#pragma GCC unroll 4
        for (int k = 0; k < features / 4; k++) sums += load4(g + 4 * k) * load4(row + 4 * k);
#pragma GCC unroll 4
        for (int f = features / 4 * 4; f < features; f++) sum += g[f] * row[f];
      }
      dot[c][p] = sum + ((sums[0] + sums[2]) + (sums[1] + sums[3]));
    }
  for (int p = 0; p < GRID_BLOCK; p++) {
    float fraction[3] = {b->fraction[0][p], b->fraction[1][p], b->fraction[2][p]};
#pragma GCC unroll 3
    for (int d = 0; d < dimensions; d++) {
      float slope = 0;
#pragma GCC unroll 8
      for (int c = 0; c < 1 << dimensions; c++)
        if (!(c >> d & 1)) slope += af_corner_weight(fraction, c, dimensions, d) * (dot[c | 1 << d][p] - dot[c][p]);
      slopes[d][at + p] += resolution * slope;
    }
  }
}

INLINE void slope_points(const encode_job *job, int64_t from, int64_t to, int dimensions, int features) {
  const af_grid *grid = job->grid;
  int64_t stride = (int64_t)grid->levels * features;
  float coordinates[3][GRID_CHUNK], slopes[3][GRID_CHUNK];
  grid_block b;
  for (; from < to; from += GRID_CHUNK) {
    int count = to - from < GRID_CHUNK ? (int)(to - from) : GRID_CHUNK;
    load_chunk(job, from, count, coordinates);
    memset(slopes, 0, sizeof slopes);
    for (int l = 0; l < grid->levels; l++) {
      const af_level *level = grid->at + l;
      for (int at = 0; at < count; at += GRID_BLOCK) {
        find_block(level, coordinates, at, dimensions, GRID_ROWS, &b);
        slope_block(&b, job->table + level->offset * features, job->grad + (from + at) * stride + l * features, stride,
                    count - at < GRID_BLOCK ? count - at : GRID_BLOCK, (float)level->resolution, slopes, at, dimensions, features);
      }
    }
    for (int d = 0; d < dimensions; d++)
      for (int p = 0; p < count; p++) {
        float x = coordinates[d][p];
        job->grad_points[(from + p) * dimensions + d] = x >= 0.0f && x <= 1.0f ? slopes[d][p] : 0.0f;
      }
  }
}

static void slope_part(int part, int parts, void *context) {
  const encode_job *job = context;
  WITH_GRID_SIZES(job->grid, slope_points, job, share(job->n, part, parts), share(job->n, part + 1, parts));
}

/* Either gradient may be null. */
static int hash_encode_backward(const af_grid *grid, const float *points, int64_t n, const float *table,
                                const float *grad, float *grad_table, float *grad_points) {
  int threads = af_thread_count();
  encode_job job = {.grid = grid, .points = points, .n = n, .table = table, .grad = grad,
                    .row_ranges = (threads + grid->levels - 1) / grid->levels, .grad_table = grad_table,
                    .grad_points = grad_points};
  if (grad_table) af_parallel(threads, add_rows_part, &job);
  if (grad_points) af_parallel(point_parts(n), slope_part, &job);
  return AF_OK;
}
