/* Samples of rays to colour, alpha and depth, front to back, and the gradient. A ray stops at the first sample that less
   than AF_TRANSMITTANCE_MIN of the light behind would reach the eye from. */
#include "shared/emission.h"

#define LIGHT_BLOCK 32 /* samples whose exponentials are found at once */
#define LIGHT_RAYS 64  /* rays to a part: they are of very unlike lengths */

typedef struct {
  const float *sigma, *color, *t, *lengths;
  const int64_t *offsets;
  const float *saved_weights, *grad_out, *grad_alpha, *grad_depth, *grad_weights; /* of the backward pass */
  float *out, *alpha, *depth, *weights;
  float *grad_sigma, *grad_color;
  int64_t rays;
  int channels;
} light_job;

/* What reaches the eye from each of `count` samples, of which `before` lies in front, and after the last from behind it:
   count + 1 numbers. From the sum of the depths, as a product would multiply the exponential's error hundreds of times. */
INLINE float light_block(const float *sigma, const float *lengths, int64_t count, float before, float *reaches) {
  reaches[0] = before;
  for (int64_t i = 0; i < count; i++) reaches[i + 1] = before += sigma[i] * lengths[i];
  for (int64_t i = 0; i <= count; i++) reaches[i] = af_exp(-reaches[i]);
  return before;
}

static void light_part(int part, int parts, void *context) {
  light_job *job = context;
  int channels = job->channels;
  for (int64_t r = share(job->rays, part, parts), end = share(job->rays, part + 1, parts); r < end; r++) {
    float sums[AF_MAX_CHANNELS] = {0}, alpha = 0.0f, depth = 0.0f, passed = 0.0f;
    int64_t i = job->offsets[r], last = job->offsets[r + 1], b = 0, count = 0;
    for (; i < last && b == count; i += b) {
      float reaches[LIGHT_BLOCK + 1], absorbed[LIGHT_BLOCK];
      count = last - i < LIGHT_BLOCK ? last - i : LIGHT_BLOCK;
      passed = light_block(job->sigma + i, job->lengths + i, count, passed, reaches);
      for (b = 0; b < count; b++) {
        float thick = job->sigma[i + b] * job->lengths[i + b];
        absorbed[b] = af_absorbed(thick, af_exp(-thick));
      }
      for (b = 0; b < count && !(reaches[b] < AF_TRANSMITTANCE_MIN); b++) {
        float w = reaches[b] * absorbed[b];
        const float *color = job->color + (i + b) * channels;
        for (int c = 0; c < channels; c++) sums[c] += w * color[c];
        alpha += w, depth += w * job->t[i + b];
        job->weights[i + b] = w;
      }
    }
    for (; i < last; i++) job->weights[i] = 0.0f;
    memcpy(job->out + r * channels, sums, (size_t)channels * sizeof(float));
    job->alpha[r] = alpha, job->depth[r] = depth;
  }
}

static int light_parts(int64_t rays) {
  int64_t parts = (rays + LIGHT_RAYS - 1) / LIGHT_RAYS;
  return parts > 4096 ? 4096 : (int)parts;
}

static int composite_rays(const float *sigma, const float *color, const float *t, const float *lengths,
                          const int64_t *offsets, int64_t rays, int channels, float *out, float *alpha, float *depth,
                          float *weights) {
  light_job job = {.sigma = sigma, .color = color, .t = t, .lengths = lengths, .offsets = offsets, .out = out,
                   .alpha = alpha, .depth = depth, .weights = weights, .rays = rays, .channels = channels};
  if (channels < 1 || channels > AF_MAX_CHANNELS) return AF_BAD_VALUE;
  af_parallel(light_parts(rays), light_part, &job);
  return AF_OK;
}

/* Forward for what reaches the eye from behind each sample, left where its gradient will be; then back, with what the
   samples behind give. */
static void light_backward_part(int part, int parts, void *context) {
  light_job *job = context;
  int channels = job->channels;
  for (int64_t r = share(job->rays, part, parts), end = share(job->rays, part + 1, parts); r < end; r++) {
    int64_t first = job->offsets[r], last = job->offsets[r + 1], i = first, b = 0, count = 0;
    float passed = 0.0f;
    for (; i < last && b == count; i += b) {
      float reaches[LIGHT_BLOCK + 1];
      count = last - i < LIGHT_BLOCK ? last - i : LIGHT_BLOCK;
      passed = light_block(job->sigma + i, job->lengths + i, count, passed, reaches);
      for (b = 0; b < count && !(reaches[b] < AF_TRANSMITTANCE_MIN); b++) job->grad_sigma[i + b] = reaches[b + 1];
    }
    memset(job->grad_sigma + i, 0, (size_t)(last - i) * sizeof(float));
    memset(job->grad_color + i * channels, 0, (size_t)((last - i) * channels) * sizeof(float));
    const float *grad = job->grad_out + r * channels;
    float behind = 0.0f;
    while (i-- > first) {
      float w = job->saved_weights[i], value = job->grad_alpha[r] + job->grad_depth[r] * job->t[i];
      const float *color = job->color + i * channels;
      float *grad_color = job->grad_color + i * channels;
      for (int c = 0; c < channels; c++) {
        value += grad[c] * color[c];
        grad_color[c] = w * grad[c];
      }
      if (job->grad_weights) value += job->grad_weights[i];
      job->grad_sigma[i] = job->lengths[i] * (job->grad_sigma[i] * value - behind);
      behind += w * value;
    }
  }
}

static int composite_rays_backward(const float *sigma, const float *color, const float *t, const float *lengths,
                                   const int64_t *offsets, int64_t rays, int channels, const float *weights,
                                   const float *grad_out, const float *grad_alpha, const float *grad_depth,
                                   const float *grad_weights, float *grad_sigma, float *grad_color) {
  light_job job = {.sigma = sigma, .color = color, .t = t, .lengths = lengths, .offsets = offsets, .rays = rays,
                   .channels = channels, .saved_weights = weights, .grad_out = grad_out, .grad_alpha = grad_alpha,
                   .grad_depth = grad_depth, .grad_weights = grad_weights, .grad_sigma = grad_sigma,
                   .grad_color = grad_color};
  if (channels < 1 || channels > AF_MAX_CHANNELS) return AF_BAD_VALUE;
  af_parallel(light_parts(rays), light_backward_part, &job);
  return AF_OK;
}
