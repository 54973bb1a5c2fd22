/* Multi-resolution hash grids (Mueller et al. 2022, instant-ngp, section 3): the cell of a level that a point lies in, the table's
   row of each of the cell's corners, and the corners' weights. avatarfit/ops/hash_grid.py states the same. */
#ifndef AF_HASH_GRID_H
#define AF_HASH_GRID_H

#include <stdint.h>

#include "shared/constants.h"

#define AF_GRID_LEVELS_MAX 32
#define AF_GRID_FEATURES_MAX 16
#define AF_GRID_RESOLUTION_MAX 65536
#define AF_GRID_ROWS_LOG2_MAX 30
#define AF_HASH_PRIME_Y 2654435761u
#define AF_HASH_PRIME_Z 805459861u

typedef struct {
  int64_t offset;              /* its first row in the table */
  uint32_t size;               /* its rows: one for each vertex where dense, else a power of two */
  uint32_t factor_y, factor_z; /* strides where dense, else the hash's primes */
  int32_t resolution;          /* cells along each axis; one vertex more */
  int32_t dense;
} af_level;

typedef struct {
  af_level at[AF_GRID_LEVELS_MAX];
  int32_t levels, dimensions, features;
} af_grid;

/* Levels from resolutions [levels] and offsets [levels + 1]; 0 where these are no grid that the kernels take. */
static inline int af_grid_prepare(af_grid *grid, int dimensions, int features, const int32_t *resolutions,
                                  const int64_t *offsets, int levels) {
  if (dimensions < 2 || dimensions > 3 || features < 1 || features > AF_GRID_FEATURES_MAX || levels < 1 ||
      levels > AF_GRID_LEVELS_MAX || offsets[0])
    return 0;
  grid->levels = levels;
  grid->dimensions = dimensions;
  grid->features = features;
  for (int l = 0; l < levels; l++) {
    if (resolutions[l] < 1 || resolutions[l] > AF_GRID_RESOLUTION_MAX) return 0;
    int64_t side = (int64_t)resolutions[l] + 1, size = offsets[l + 1] - offsets[l];
    int dense = size == side * side * (dimensions == 3 ? side : 1);
    if (size < 1 || size > (int64_t)1 << AF_GRID_ROWS_LOG2_MAX || (!dense && (size & (size - 1)))) return 0;
    af_level *level = grid->at + l;
    level->offset = offsets[l];
    level->size = (uint32_t)size;
    level->factor_y = dense ? (uint32_t)side : AF_HASH_PRIME_Y;
    level->factor_z = dense ? (uint32_t)(side * side) : AF_HASH_PRIME_Z;
    level->resolution = resolutions[l];
    level->dense = dense;
  }
  return 1;
}

/* The cell along one axis. A coordinate outside [0, 1] is clamped to it; 1 lies in the last cell, at its end. NaN lies in the
   first, at a fraction of NaN, so that what is made of it is NaN. */
static AF_HD int32_t af_grid_cell(float x, int32_t resolution, float *fraction) {
  float clamped = x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
  float at = clamped * (float)resolution;
  int32_t cell = (int32_t)(at >= 0.0f ? at : 0.0f);
  cell = cell < resolution ? cell : resolution - 1;
  *fraction = at - (float)cell;
  return cell;
}

/* Corner c is the far one along axis d where bit d of c is set. `x`, `y`, `z`: the vertex, times the factor of its axis. */
static AF_HD uint32_t af_grid_row(uint32_t x, uint32_t y, uint32_t z, uint32_t size, int dense) {
  return dense ? x + y + z : (x ^ y ^ z) & (size - 1);
}

/* Product of the axes' shares of corner c; the axis `without` is left out, -1 leaves out none. */
static AF_HD float af_corner_weight(const float *fraction, int corner, int dimensions, int without) {
  float weight = 1.0f;
  for (int d = 0; d < dimensions; d++)
    if (d != without) weight *= corner >> d & 1 ? fraction[d] : 1.0f - fraction[d];
  return weight;
}

#endif
