/* Rows of a grid as sums of their own bases, and the gradient: each number of the bases is read once, and its gradient written
   once. Threaded over rows, each by itself. */
#include "cpu/table.h"

#define COMBINE_CHUNKS_MAX (AF_COMBINE_FEATURES_MAX / 4)

typedef struct {
  const float *base, *bases, *weights, *grad;
  int64_t n;
  int count, features;
  float *out, *grad_bases, *grad_weights;
} combine_job;

INLINE v4 load4(const float *at) {
  v4 four;
  memcpy(&four, at, sizeof four);
  return four;
}

/* Rows of `chunks` times four features, and `rest` more. */
INLINE void combine_part_of(const combine_job *job, int64_t from, int64_t to, int chunks, int rest) {
  int features = 4 * chunks + rest, count = job->count;
  for (int64_t n = from; n < to; n++) {
    const float *bases = job->bases + n * count * features, *weights = job->weights + n * count;
    v4 sums[COMBINE_CHUNKS_MAX];
    float last[3] = {0, 0, 0};
    for (int c = 0; c < chunks; c++) sums[c] = load4(job->base + n * features + 4 * c);
    for (int r = 0; r < rest; r++) last[r] = job->base[n * features + 4 * chunks + r];
    for (int b = 0; b < count; b++, bases += features) {
      float w = weights[b];
      for (int c = 0; c < chunks; c++) sums[c] += w * load4(bases + 4 * c);
      for (int r = 0; r < rest; r++) last[r] += w * bases[4 * chunks + r];
    }
    for (int c = 0; c < chunks; c++) memcpy(job->out + n * features + 4 * c, &sums[c], sizeof(v4));
    for (int r = 0; r < rest; r++) job->out[n * features + 4 * chunks + r] = last[r];
  }
}

INLINE void combine_backward_part_of(const combine_job *job, int64_t from, int64_t to, int chunks, int rest) {
  int features = 4 * chunks + rest, count = job->count;
  for (int64_t n = from; n < to; n++) {
    const float *grad = job->grad + n * features, *weights = job->weights + n * count;
    for (int b = 0; b < count; b++) {
      int64_t at = (n * count + b) * features;
      v4 dots = {0, 0, 0, 0};
      float w = weights[b], last = 0.0f;
      if (job->grad_bases) {
        for (int c = 0; c < chunks; c++) {
          v4 share_of = w * load4(grad + 4 * c);
          memcpy(job->grad_bases + at + 4 * c, &share_of, sizeof share_of);
        }
        for (int r = 0; r < rest; r++) job->grad_bases[at + 4 * chunks + r] = w * grad[4 * chunks + r];
      }
      if (!job->grad_weights) continue;
      for (int c = 0; c < chunks; c++) dots += load4(grad + 4 * c) * load4(job->bases + at + 4 * c);
      for (int r = 0; r < rest; r++) last += grad[4 * chunks + r] * job->bases[at + 4 * chunks + r];
      job->grad_weights[n * count + b] = (dots[0] + dots[2]) + (dots[1] + dots[3]) + last;
    }
  }
}

/* Calls `function` with the number of chunks as a constant where it is a usual one and nothing is left over. */
#define WITH_CHUNKS(features, function, ...)                   \
  switch ((features) % 4 ? 0 : (features) / 4) {               \
    case 1: function(__VA_ARGS__, 1, 0); break;                \
    case 2: function(__VA_ARGS__, 2, 0); break;                \
    case 3: function(__VA_ARGS__, 3, 0); break;                \
    case 4: function(__VA_ARGS__, 4, 0); break;                \
    default: function(__VA_ARGS__, (features) / 4, (features) % 4); \
  }

static void combine_part(int part, int parts, void *context) {
  const combine_job *job = context;
  int64_t from = share(job->n, part, parts), to = share(job->n, part + 1, parts);
  WITH_CHUNKS(job->features, combine_part_of, job, from, to)
}

static void combine_backward_part(int part, int parts, void *context) {
  const combine_job *job = context;
  int64_t from = share(job->n, part, parts), to = share(job->n, part + 1, parts);
  WITH_CHUNKS(job->features, combine_backward_part_of, job, from, to)
}

static int combine_parts(int64_t n) {
  int64_t parts = 4 * (int64_t)af_thread_count(), most = n / 64 + 1;
  return (int)(parts < most ? parts : most);
}

static int combine_rows(const float *base, const float *bases, const float *weights, int64_t n, int count, int features,
                        float *out) {
  combine_job job = {.base = base, .bases = bases, .weights = weights, .n = n, .count = count, .features = features, .out = out};
  af_parallel(combine_parts(n), combine_part, &job);
  return AF_OK;
}

/* Either gradient may be null. */
static int combine_rows_backward(const float *grad, const float *bases, const float *weights, int64_t n, int count,
                                 int features, float *grad_bases, float *grad_weights) {
  combine_job job = {.grad = grad, .bases = bases, .weights = weights, .n = n, .count = count, .features = features,
                     .grad_bases = grad_bases, .grad_weights = grad_weights};
  af_parallel(combine_parts(n), combine_backward_part, &job);
  return AF_OK;
}
