/* Weighted L1 + DSSIM and its gradient in two passes over the rows. Channels stay interleaved: a horizontal tap is three
   floats away. Pass one blurs four moments of a row without storing them and leaves three derivative maps; pass two blurs
   those back onto the picture. The moments are those of u = x + y and v = x - y, each with its own square: fewer products
   than of x, y and their mixture, and v is what L1 asks for. */
#include <math.h>

#include "cpu/table.h"
#include "shared/ssim.h"

#define PAD 16 /* floats of zero on both sides of a blurred row: five taps of three channels, rounded up */
#define BLUR_ROWS 4 /* blurred at once: every row above and below is loaded for all of them together */
#define SCRATCH_LINES (4 * BLUR_ROWS + 1)

typedef struct {
  const float *image, *target, *weight, *background; /* background: null unless the image has alpha */
  float *padded;       /* u and v, rows of `stride`; zero behind the picture's edge, above it and below */
  float *maps;         /* three, laid out alike */
  int64_t plane;       /* floats from one such plane to the next */
  double *row_sums;    /* [height, 2]: loss, weights */
  float *scratch;      /* by part */
  float *grad;
  int height, width, stride;
  float fraction, scale;
  float taps[AF_SSIM_HALF + 1]; /* from the window's centre outwards */
} loss_job;

/* Row y of a plane; rows -AF_SSIM_HALF to -1 and as many below the last are zero. BLUR_ROWS - 1 more follow, whatever
   is in them: blurred rows below the picture are not looked at. */
INLINE float *plane_row(const loss_job *job, float *planes, int which, int64_t y) {
  return planes + which * job->plane + (y + AF_SSIM_HALF) * job->stride;
}

static void clear_margins(const loss_job *job, float *planes, int count) {
  size_t bytes = (size_t)AF_SSIM_HALF * job->stride * sizeof(float);
  for (int which = 0; which < count; which++) {
    memset(plane_row(job, planes, which, -AF_SSIM_HALF), 0, bytes);
    memset(plane_row(job, planes, which, job->height), 0, bytes);
  }
}

static void pad_part(int part, int parts, void *context) {
  loss_job *job = context;
  int n = job->width * 3;
  for (int64_t y = share(job->height, part, parts), end = share(job->height, part + 1, parts); y < end; y++) {
    float *restrict u = plane_row(job, job->padded, 0, y), *restrict v = plane_row(job, job->padded, 1, y);
    const float *restrict target = job->target + y * n;
    if (job->background) {
      const float *restrict pixel = job->image + y * job->width * 4, *restrict behind = job->background + y * n;
      for (int x = 0; x < job->width; x++)
        for (int c = 0; c < 3; c++) u[3 * x + c] = pixel[4 * x + c] + (1.0f - pixel[4 * x + 3]) * behind[3 * x + c];
    } else {
      memcpy(u, job->image + y * n, (size_t)n * sizeof(float));
    }
    for (int i = 0; i < n; i++) {
      float value = u[i];
      u[i] = value + target[i], v[i] = value - target[i];
    }
    memset(u + n, 0, (size_t)(job->stride - n) * sizeof(float));
    memset(v + n, 0, (size_t)(job->stride - n) * sizeof(float));
  }
}

INLINE void spread_weights(const loss_job *job, int y, float *row) {
  const float *weight = job->weight + (int64_t)y * job->width;
  for (int x = 0; x < job->width; x++) row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = weight[x];
  for (int i = 3 * job->width; i < job->stride; i++) row[i] = 0.0f;
}

typedef struct { vf of[AF_SSIM_HALF + 1]; } window;

INLINE window window_of(const loss_job *job) {
  window w;
  for (int d = 0; d <= AF_SSIM_HALF; d++) w.of[d] = v_set(job->taps[d]);
  return w;
}

/* The window across; taps at equal distance share a product. */
INLINE vf blur(const window *w, const float *at) {
  vf sum = w->of[0] * v_load(at);
#pragma GCC unroll 5
  for (int d = 1; d <= AF_SSIM_HALF; d++) sum += w->of[d] * (v_load(at - 3 * d) + v_load(at + 3 * d));
  return sum;
}

/* The window down, over the numbers of BLUR_ROWS rows and, unless null, over their squares. */
INLINE void blur_down(const window *w, const float *at, int64_t stride, vf *sums, vf *squares) {
  for (int o = 0; o < BLUR_ROWS; o++) sums[o] = (vf){0};
  for (int o = 0; squares && o < BLUR_ROWS; o++) squares[o] = (vf){0};
#pragma GCC unroll 16
  for (int r = -AF_SSIM_HALF; r < BLUR_ROWS + AF_SSIM_HALF; r++) {
    vf v = v_load(at + r * stride);
#pragma GCC unroll 4
    for (int o = 0; o < BLUR_ROWS; o++) {
      int d = r < o ? o - r : r - o;
      if (d > AF_SSIM_HALF) continue;
      sums[o] += w->of[d] * v;
      if (squares) squares[o] += w->of[d] * (v * v);
    }
  }
}

INLINE vf v_abs(vf v) { return (vf)((vi)v & 0x7fffffff); }

/* rows: a row's four blurred moments, `line` apart. */
static void moments_row(const loss_job *job, const window *taps, int64_t y, const float *rows, float *weights) {
  int stride = job->stride, line = stride + 2 * PAD;
  const float *v_row = plane_row(job, job->padded, 1, y);
  float dssim_factor = job->fraction * 0.5f, l1_factor = 1.0f - job->fraction;
  spread_weights(job, (int)y, weights);
  vf loss = {0}, total = {0};
  for (int i = 0; i < stride; i += VL) {
    const float *at = rows + PAD + i;
    vf mu = blur(taps, at), mv = blur(taps, at + line), w = v_load(weights + i);
    vf uu = blur(taps, at + 2 * line), vv = blur(taps, at + 3 * line);
    vf mu_x = 0.5f * (mu + mv), mu_y = 0.5f * (mu - mv), squares = 0.5f * (uu + vv), xy = 0.25f * (uu - vv);
    vf value, d_mu, d_xx, d_xy;
    for (int l = 0; l < VL; l++) {
      af_ssim s = af_ssim_window(mu_x[l], mu_y[l], squares[l], xy[l]);
      value[l] = s.value, d_mu[l] = s.d_mu_x, d_xx[l] = s.d_xx, d_xy[l] = s.d_xy;
    }
    loss += w * (l1_factor * v_abs(v_load(v_row + i)) + dssim_factor * (1.0f - value));
    total += w;
    if (job->maps) {
      float *map = plane_row(job, job->maps, 0, y) + i;
      vf q = -dssim_factor * w;
      v_store(map, q * d_mu), v_store(map + job->plane, q * d_xx), v_store(map + 2 * job->plane, q * d_xy);
    }
  }
  job->row_sums[2 * y] = v_sum(loss);
  job->row_sums[2 * y + 1] = v_sum(total);
}

static void moments_part(int part, int parts, void *context) {
  loss_job *job = context;
  int stride = job->stride, line = stride + 2 * PAD;
  float *rows = job->scratch + (int64_t)part * SCRATCH_LINES * line, *weights = rows + 4 * BLUR_ROWS * line;
  memset(rows, 0, (size_t)SCRATCH_LINES * line * sizeof(float));
  window taps = window_of(job);
  int64_t end = share(job->height, part + 1, parts);
  for (int64_t y = share(job->height, part, parts); y < end; y += BLUR_ROWS) {
    for (int plane = 0; plane < 2; plane++) {
      const float *from = plane_row(job, job->padded, plane, y);
      for (int i = 0; i < stride; i += VL) {
        vf means[BLUR_ROWS], squares[BLUR_ROWS];
        blur_down(&taps, from + i, stride, means, squares);
        for (int o = 0; o < BLUR_ROWS; o++) {
          float *to = rows + (4 * o + plane) * line + PAD + i;
          v_store(to, means[o]), v_store(to + 2 * line, squares[o]);
        }
      }
    }
    for (int64_t o = 0; o < BLUR_ROWS && y + o < end; o++) moments_row(job, &taps, y + o, rows + 4 * o * line, weights);
  }
}

/* rows: a row's three blurred maps, `line` apart. */
static void gradient_row(const loss_job *job, const window *taps, int64_t y, const float *rows, float *weights) {
  int stride = job->stride, line = stride + 2 * PAD, n = job->width * 3;
  float *out = weights + line;
  spread_weights(job, (int)y, weights);
  const float *u_row = plane_row(job, job->padded, 0, y), *v_row = plane_row(job, job->padded, 1, y);
  float l1_factor = (1.0f - job->fraction) * job->scale;
  for (int i = 0; i < stride; i += VL) {
    const float *at = rows + PAD + i;
    vf u = v_load(u_row + i), difference = v_load(v_row + i);
    vf sign = (vf)(((vi)difference & (int32_t)0x80000000) | (vi)v_set(1.0f));
    sign = v_keep(sign, (vi)(difference != 0.0f));
    vf sum = blur(taps, at) + (u + difference) * blur(taps, at + line) +
             0.5f * (u - difference) * blur(taps, at + 2 * line);
    v_store(out + i, job->scale * sum + l1_factor * v_load(weights + i) * sign);
  }
  if (!job->background) {
    memcpy(job->grad + y * n, out, (size_t)n * sizeof(float));
    return;
  }
  float *pixel = job->grad + y * job->width * 4;
  const float *behind = job->background + y * n;
  for (int x = 0; x < job->width; x++, pixel += 4, behind += 3) {
    const float *g = out + 3 * x;
    pixel[0] = g[0], pixel[1] = g[1], pixel[2] = g[2];
    pixel[3] = -(g[0] * behind[0] + g[1] * behind[1] + g[2] * behind[2]);
  }
}

static void gradient_part(int part, int parts, void *context) {
  loss_job *job = context;
  int stride = job->stride, line = stride + 2 * PAD;
  float *rows = job->scratch + (int64_t)part * SCRATCH_LINES * line, *weights = rows + 3 * BLUR_ROWS * line;
  memset(rows, 0, (size_t)SCRATCH_LINES * line * sizeof(float));
  window taps = window_of(job);
  int64_t end = share(job->height, part + 1, parts);
  for (int64_t y = share(job->height, part, parts); y < end; y += BLUR_ROWS) {
    for (int which = 0; which < 3; which++) {
      const float *from = plane_row(job, job->maps, which, y);
      for (int i = 0; i < stride; i += VL) {
        vf sums[BLUR_ROWS];
        blur_down(&taps, from + i, stride, sums, 0);
        for (int o = 0; o < BLUR_ROWS; o++) v_store(rows + (3 * o + which) * line + PAD + i, sums[o]);
      }
    }
    for (int64_t o = 0; o < BLUR_ROWS && y + o < end; o++)
      gradient_row(job, &taps, y + o, rows + 3 * o * line, weights);
  }
}

static int l1_dssim(af_workspace *ws, const float *image, const float *target, const float *weight,
                    const float *background, int height, int width, float dssim_fraction, float *loss, float *grad) {
  /* An odd number of cache lines to a row: at an even one the rows above each other fall into the same few sets. */
  loss_job job = {.image = image, .target = target, .weight = weight, .background = background, .grad = grad,
                  .height = height, .width = width, .stride = ((3 * width + 15) / 16 | 1) * 16,
                  .fraction = dssim_fraction};
  int parts = height < 16 ? 1 : af_thread_count();
  job.plane = (int64_t)(height + 2 * AF_SSIM_HALF + BLUR_ROWS - 1) * job.stride;
  job.padded = af_reserve(&ws->slots[AF_SLOT_LOSS_PADDED], 2 * (size_t)job.plane * sizeof(float));
  job.maps = grad ? af_reserve(&ws->slots[AF_SLOT_LOSS_MAPS], 3 * (size_t)job.plane * sizeof(float)) : 0;
  size_t scratch = (size_t)parts * SCRATCH_LINES * (job.stride + 2 * PAD) * sizeof(float);
  job.row_sums = af_reserve(&ws->slots[AF_SLOT_LOSS_ROWS], (size_t)height * 2 * sizeof(double) + scratch);
  if (!job.padded || !job.row_sums || (grad && !job.maps)) return AF_NO_MEMORY;
  job.scratch = (float *)(job.row_sums + 2 * (size_t)height);
  double sum = 1;
  for (int d = 1; d <= AF_SSIM_HALF; d++) sum += 2 * exp(-d * d / 4.5);
  for (int d = 0; d <= AF_SSIM_HALF; d++) job.taps[d] = (float)(exp(-d * d / 4.5) / sum);
  clear_margins(&job, job.padded, 2);
  if (grad) clear_margins(&job, job.maps, 3);
  double clock = af_seconds();
  af_parallel(parts, pad_part, &job);
  af_parallel(parts, moments_part, &job);
  clock = af_stage_ends(ws, AF_STAGE_MOMENTS, clock);
  double loss_sum = 0, weight_sum = 0;
  for (int y = 0; y < height; y++) loss_sum += job.row_sums[2 * y], weight_sum += job.row_sums[2 * y + 1];
  /* Both sums ran over three channels, so the mean over channels needs no further factor. */
  if (!(weight_sum > 0)) return AF_BAD_VALUE;
  if (!isfinite(loss_sum)) return AF_NOT_FINITE;
  *loss = (float)(loss_sum / weight_sum);
  job.scale = (float)(1 / weight_sum);
  if (grad) af_parallel(parts, gradient_part, &job);
  af_stage_ends(ws, AF_STAGE_LOSS_GRADIENT, clock);
  return AF_OK;
}
