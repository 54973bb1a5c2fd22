/* Blending of bases, its gradient, and Adam on base and deltas with the rank-one gradient formed on the fly.
   A row of 14 attributes is 16 padded lanes in registers and 14 floats in memory. */
#include "cpu/table.h"
#include "shared/adam.h"

#define ROW AF_ATTRIBUTES

/* A row of 14 as overlapping loads: the last vector starts early enough to end with the row. */
#if VL == 4
#define ROW_VECTORS 4
typedef v4 vrow;
static const int row_offset[ROW_VECTORS] = {0, 4, 8, 10};
#define ROW_LAST_FRESH ((i4){0, 0, -1, -1})
typedef i4 irow;
#else
#define ROW_VECTORS 2
typedef float vrow __attribute__((vector_size(32)));
typedef int32_t irow __attribute__((vector_size(32)));
static const int row_offset[ROW_VECTORS] = {0, 6};
#define ROW_LAST_FRESH ((irow){0, 0, -1, -1, -1, -1, -1, -1})
#endif
#define ROW_LANES ((int)(sizeof(vrow) / sizeof(float)))

INLINE vrow row_load(const float *row, int i) {
  vrow r;
  memcpy(&r, row + row_offset[i], sizeof r);
  return r;
}
INLINE void row_store(float *row, int i, vrow v) { memcpy(row + row_offset[i], &v, sizeof v); }

/* The same of a row of 14 halves (IEEE binary16); exact, subnormal numbers too whatever the mode of the arithmetic. */
INLINE vrow row_load_half(const uint16_t *row, int i) {
#if VL == 4
  uint16_t h[4];
  memcpy(h, row + row_offset[i], sizeof h);
  i4 bits = {h[0], h[1], h[2], h[3]}, rest = (bits & 0x7fff) << 13, exponent = rest & (0x7c00 << 13);
  rest += (127 - 15) << 23;
  rest += (exponent == (0x7c00 << 13)) & (128 - 16) << 23;
  i4 small = exponent == 0;
  v4 shifted = (v4)(rest + (1 << 23)) - (v4)((i4){0} + (113 << 23));
  rest = (small & (i4)shifted) | (~small & rest);
  return (v4)(rest | (bits & 0x8000) << 16);
#else
  return (vrow)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + row_offset[i])));
#endif
}

typedef struct {
  const uint16_t *halves; /* deltas in half precision, or null */
  const float *base, *deltas, *weights, *grad, *lr, *delta_lr;
  const int32_t *group;
  int64_t n;
  int k, groups;
  float *out, *grad_deltas, *sums;
  float *value, *first, *second, *base_value, *base_first, *base_second;
  float delta_weight_decay, first_factor;
  af_adam adam;
} blend_job;

INLINE int64_t share(int64_t n, int part, int parts) { return n * part / parts; }

static int job_parts(int64_t n) {
  int threads = af_thread_count();
  return n < 256 ? 1 : threads;
}

INLINE void blend_rows(const blend_job *job, int64_t from, int64_t to, int is_half) {
  for (int64_t n = from; n < to; n++) {
    const float *w = job->weights + (int64_t)job->group[n] * job->k;
    int64_t at = n * job->k * ROW;
    vrow sum[ROW_VECTORS];
    for (int i = 0; i < ROW_VECTORS; i++) sum[i] = row_load(job->base + n * ROW, i);
    for (int k = 0; k < job->k; k++, at += ROW)
      for (int i = 0; i < ROW_VECTORS; i++)
        sum[i] += w[k] * (is_half ? row_load_half(job->halves + at, i) : row_load(job->deltas + at, i));
    for (int i = 0; i < ROW_VECTORS; i++) row_store(job->out + n * ROW, i, sum[i]);
  }
}

static void blend_part(int part, int parts, void *context) {
  const blend_job *job = context;
  int64_t from = share(job->n, part, parts), to = share(job->n, part + 1, parts);
  if (job->halves) blend_rows(job, from, to, 1);
  else blend_rows(job, from, to, 0);
}

static int blend(const float *base, const float *deltas, const float *weights, const int32_t *group, int64_t n, int k,
                 int groups, float *out) {
  blend_job job = {.base = base, .deltas = deltas, .weights = weights, .group = group, .n = n, .k = k,
                   .groups = groups, .out = out};
  af_parallel(job_parts(n), blend_part, &job);
  return AF_OK;
}

static int blend_half(const float *base, const uint16_t *deltas, const float *weights, const int32_t *group, int64_t n,
                      int k, int groups, float *out) {
  blend_job job = {.base = base, .halves = deltas, .weights = weights, .group = group, .n = n, .k = k,
                   .groups = groups, .out = out};
  af_parallel(job_parts(n), blend_part, &job);
  return AF_OK;
}

/* sums: [groups, k, ROW_VECTORS] vectors of this part. */
INLINE void add_weight_grad(const blend_job *job, vrow *sums, int64_t n, const vrow *g) {
  const float *d = job->deltas + n * job->k * ROW;
  vrow *s = sums + (int64_t)job->group[n] * job->k * ROW_VECTORS;
  for (int k = 0; k < job->k; k++, d += ROW, s += ROW_VECTORS)
    for (int i = 0; i < ROW_VECTORS; i++) s[i] += g[i] * row_load(d, i);
}

/* The gradient row with the overlap's second copy zeroed, so that dot products count each number once. */
INLINE void load_grad(const blend_job *job, int64_t n, vrow *g) {
  for (int i = 0; i < ROW_VECTORS; i++) g[i] = row_load(job->grad + n * ROW, i);
  g[ROW_VECTORS - 1] = (vrow)((irow)g[ROW_VECTORS - 1] & ROW_LAST_FRESH);
}

static size_t sums_count(const blend_job *job) { return (size_t)job->groups * job->k * ROW_VECTORS * ROW_LANES; }

static void blend_backward_part(int part, int parts, void *context) {
  const blend_job *job = context;
  vrow *sums = (vrow *)(job->sums + part * sums_count(job));
  if (job->sums) memset(sums, 0, sums_count(job) * sizeof(float));
  for (int64_t n = share(job->n, part, parts), end = share(job->n, part + 1, parts); n < end; n++) {
    vrow g[ROW_VECTORS];
    if (job->sums) {
      load_grad(job, n, g);
      add_weight_grad(job, sums, n, g);
    }
    if (job->grad_deltas) {
      const float *w = job->weights + (int64_t)job->group[n] * job->k;
      float *out = job->grad_deltas + n * job->k * ROW;
      for (int i = 0; i < ROW_VECTORS; i++) g[i] = row_load(job->grad + n * ROW, i);
      for (int k = 0; k < job->k; k++, out += ROW)
        for (int i = 0; i < ROW_VECTORS; i++) row_store(out, i, w[k] * g[i]);
    }
  }
}

static void reduce_sums(const blend_job *job, int parts, float *grad_weights) {
  int lanes = ROW_VECTORS * ROW_LANES;
  for (int64_t i = 0; i < (int64_t)job->groups * job->k; i++) {
    double total = 0;
    for (int part = 0; part < parts; part++)
      for (int lane = 0; lane < lanes; lane++) total += job->sums[part * sums_count(job) + i * lanes + lane];
    grad_weights[i] = (float)total;
  }
}

static int blend_backward(const float *grad, const float *deltas, const float *weights, const int32_t *group, int64_t n,
                          int k, int groups, float *grad_deltas, float *grad_weights) {
  blend_job job = {.grad = grad, .deltas = deltas, .weights = weights, .group = group, .n = n, .k = k,
                   .groups = groups, .grad_deltas = grad_deltas};
  int parts = job_parts(n);
  af_buffer buffer = {0, 0};
  if (grad_weights) {
    job.sums = af_reserve(&buffer, (parts * sums_count(&job) + 1) * sizeof(float));
    if (!job.sums) return AF_NO_MEMORY;
  }
  af_parallel(parts, blend_backward_part, &job);
  if (grad_weights) reduce_sums(&job, parts, grad_weights);
  af_release(&buffer);
  return AF_OK;
}

INLINE void adam_run(float *restrict value, float *restrict first, float *restrict second, const float *restrict grad,
                     const float *restrict lr, const float *restrict keep, int count, af_adam adam) {
  for (int j = 0; j < count; j++) af_adam_step(value + j, first + j, second + j, grad[j], lr[j], keep[j], adam);
}

static void blend_adam_part(int part, int parts, void *context) {
  const blend_job *job = context;
  int k_count = job->k, count = job->k * ROW;
  vrow *sums = (vrow *)(job->sums + part * sums_count(job));
  memset(sums, 0, sums_count(job) * sizeof(float));
  /* Rates spread over the run of one Gaussian: lr and keep of the deltas, then lr and keep of the base. */
  float *scratch = job->out + (int64_t)part * 3 * (count + ROW);
  float *grad = scratch, *lr = scratch + count, *keep = lr + count, *base_lr = keep + count, *base_keep = base_lr + ROW;
  for (int c = 0; c < ROW; c++) {
    base_lr[c] = job->lr[c] * job->first_factor;
    base_keep[c] = 1.0f;
  }
  for (int j = 0; j < count; j++) {
    lr[j] = job->delta_lr[j % ROW] * job->first_factor;
    keep[j] = 1.0f - job->delta_lr[j % ROW] * job->delta_weight_decay;
  }
  for (int64_t n = share(job->n, part, parts), end = share(job->n, part + 1, parts); n < end; n++) {
    const float *w = job->weights + (int64_t)job->group[n] * k_count;
    vrow g[ROW_VECTORS];
    load_grad(job, n, g);
    add_weight_grad(job, sums, n, g);
    for (int i = 0; i < ROW_VECTORS; i++) g[i] = row_load(job->grad + n * ROW, i);
    for (int k = 0; k < k_count; k++)
      for (int i = 0; i < ROW_VECTORS; i++) row_store(grad + k * ROW, i, w[k] * g[i]);
    int64_t at = n * count;
    adam_run(job->value + at, job->first + at, job->second + at, grad, lr, keep, count, job->adam);
    at = n * ROW;
    adam_run(job->base_value + at, job->base_first + at, job->base_second + at, job->grad + at, base_lr, base_keep, ROW,
             job->adam);
  }
}

static int blend_adam_step(float *base, float *deltas, float *base_first, float *base_second, float *deltas_first,
                           float *deltas_second, const float *grad, const float *weights, const int32_t *group,
                           int64_t n, int k, int groups, const float *lr, const float *delta_lr, double beta1,
                           double beta2, float eps, float first_factor, float root_factor, float delta_weight_decay,
                           float *grad_weights) {
  blend_job job = {.deltas = deltas, .grad = grad, .weights = weights, .group = group, .n = n, .k = k,
                   .groups = groups, .lr = lr, .delta_lr = delta_lr, .value = deltas, .first = deltas_first,
                   .second = deltas_second, .base_value = base, .base_first = base_first, .base_second = base_second,
                   .delta_weight_decay = delta_weight_decay, .first_factor = first_factor,
                   .adam = {(float)(1 - beta1), (float)beta2, (float)(1 - beta2), eps, root_factor}};
  int parts = job_parts(n);
  af_buffer buffer = {0, 0};
  size_t sums = parts * sums_count(&job);
  job.sums = af_reserve(&buffer, (sums + (size_t)parts * 3 * (k + 1) * ROW) * sizeof(float));
  if (!job.sums) return AF_NO_MEMORY;
  job.out = job.sums + sums;
  af_parallel(parts, blend_adam_part, &job);
  reduce_sums(&job, parts, grad_weights);
  af_release(&buffer);
  return AF_OK;
}
