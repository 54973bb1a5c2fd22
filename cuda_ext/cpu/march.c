/* Rays through an occupancy grid. Compiled once, without contraction, whatever the instruction set: which samples a ray
   keeps hangs on the last bit of a place, and must not change with the machine. */
#include "shared/march.h"

#include "cpu/table.h"

#define AF_API __attribute__((visibility("default")))

#define RAYS_A_PART 64 /* rays cost very unlike amounts */

typedef struct {
  const float *origins, *directions, *nearest, *farthest, *jitter; /* jitter: null for the middle of each interval */
  const int32_t *firsts;
  const int64_t *offsets;
  int32_t *counts, *first_out;
  float *positions, *t, *lengths;
  int64_t rays;
  int most;
  af_march_grid grid;
} march_job;

static af_march_ray ray_of(const march_job *job, int64_t r) {
  return af_make_march_ray(&job->grid, job->origins + 3 * r, job->directions + 3 * r, job->nearest[r], job->farthest[r],
                           job->jitter ? job->jitter[r] : 0.5f);
}

static void count_part(int part, int parts, void *context) {
  march_job *job = context;
  for (int64_t r = job->rays * part / parts, end = job->rays * (part + 1) / parts; r < end; r++) {
    af_march_ray ray = ray_of(job, r);
    int first;
    job->counts[r] = af_march_count(&job->grid, &ray, job->most, &first);
    job->first_out[r] = first;
  }
}

static void write_part(int part, int parts, void *context) {
  march_job *job = context;
  for (int64_t r = job->rays * part / parts, end = job->rays * (part + 1) / parts; r < end; r++) {
    int64_t at = job->offsets[r], count = job->offsets[r + 1] - at;
    if (!count) continue;
    af_march_ray ray = ray_of(job, r);
    af_march_write(&job->grid, &ray, job->firsts[r], (int)count, job->positions + 3 * at, job->t + at,
                   job->lengths + at);
  }
}

static int parts_of(int64_t rays) {
  int64_t parts = (rays + RAYS_A_PART - 1) / RAYS_A_PART;
  return parts > 4096 ? 4096 : (int)parts;
}

AF_API int af_march_rays_count(const float *origins, const float *directions, const float *nearest,
                               const float *farthest, const float *jitter, int64_t rays, const float *box,
                               const uint64_t *words, const uint64_t *coarse, int resolution, float step, int most, int32_t *counts,
                               int32_t *firsts) {
  march_job job = {.origins = origins, .directions = directions, .nearest = nearest, .farthest = farthest,
                   .jitter = jitter, .rays = rays, .most = most, .counts = counts, .first_out = firsts,
                   .grid = af_make_march_grid(box, resolution, step, words, coarse)};
  af_parallel(parts_of(rays), count_part, &job);
  return AF_OK;
}

AF_API int af_march_rays_write(const float *origins, const float *directions, const float *nearest,
                               const float *farthest, const float *jitter, int64_t rays, const float *box,
                               const uint64_t *words, const uint64_t *coarse, int resolution, float step, const int32_t *firsts,
                               const int64_t *offsets, float *positions, float *t, float *lengths) {
  march_job job = {.origins = origins, .directions = directions, .nearest = nearest, .farthest = farthest,
                   .jitter = jitter, .rays = rays, .firsts = firsts, .offsets = offsets, .positions = positions,
                   .t = t, .lengths = lengths, .grid = af_make_march_grid(box, resolution, step, words, coarse)};
  af_parallel(parts_of(rays), write_part, &job);
  return AF_OK;
}
