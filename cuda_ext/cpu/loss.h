/* Weighted L1 + DSSIM and its gradient in two passes over the rows. Channels stay interleaved: a horizontal tap is three
   floats away. Pass one blurs four moments of a row without storing them and leaves three derivative maps; pass two blurs
   those back onto the picture. */
#include "cpu/table.h"
#include "shared/ssim.h"

#define TAPS (2 * AF_SSIM_HALF + 1)
#define PAD 16 /* floats of zero on both sides of a blurred row: five taps of three channels, rounded up */

typedef struct {
  const float *image, *target, *weight, *background; /* background: null unless the image has alpha */
  float *padded;       /* image and target, rows of `stride`, zero behind the picture's edge */
  float *maps;         /* [3, height, stride] */
  double *row_sums;    /* [height, 2]: loss, weights */
  float *scratch;      /* by part */
  float *grad;
  int height, width, stride;
  float fraction, scale;
  float taps[TAPS];
} loss_job;

INLINE const float *padded_row(const loss_job *job, int which, int y) {
  return job->padded + ((int64_t)which * job->height + y) * job->stride;
}

static void pad_part(int part, int parts, void *context) {
  loss_job *job = context;
  int n = job->width * 3;
  for (int64_t y = share(job->height, part, parts), end = share(job->height, part + 1, parts); y < end; y++)
    for (int which = 0; which < 2; which++) {
      float *row = (float *)padded_row(job, which, (int)y);
      if (which || !job->background) {
        memcpy(row, (which ? job->target : job->image) + y * n, (size_t)n * sizeof(float));
      } else {
        const float *pixel = job->image + y * job->width * 4, *behind = job->background + y * n;
        for (int x = 0; x < job->width; x++, pixel += 4, behind += 3)
          for (int c = 0; c < 3; c++) row[3 * x + c] = pixel[c] + (1.0f - pixel[3]) * behind[c];
      }
      memset(row + n, 0, (size_t)(job->stride - n) * sizeof(float));
    }
}

INLINE void spread_weights(const loss_job *job, int y, float *row) {
  const float *weight = job->weight + (int64_t)y * job->width;
  for (int x = 0; x < job->width; x++) row[3 * x] = row[3 * x + 1] = row[3 * x + 2] = weight[x];
  for (int i = 3 * job->width; i < job->stride; i++) row[i] = 0.0f;
}

INLINE vf blur_across(const loss_job *job, const float *row) {
  vf sum = (vf){0};
  for (int t = 0; t < TAPS; t++) sum += job->taps[t] * v_load(row + 3 * (t - AF_SSIM_HALF));
  return sum;
}

INLINE vf v_abs(vf v) { return (vf)((vi)v & 0x7fffffff); }

static void moments_part(int part, int parts, void *context) {
  loss_job *job = context;
  int stride = job->stride, line = stride + 2 * PAD;
  float *rows = job->scratch + (int64_t)part * 6 * line, *weights = rows + 5 * line + PAD;
  memset(rows, 0, (size_t)6 * line * sizeof(float));
  float dssim_factor = job->fraction * 0.5f, l1_factor = 1.0f - job->fraction;
  for (int64_t y = share(job->height, part, parts), end = share(job->height, part + 1, parts); y < end; y++) {
    int low = y < AF_SSIM_HALF ? (int)(AF_SSIM_HALF - y) : 0;
    int high = y + AF_SSIM_HALF >= job->height ? (int)(job->height - 1 - y + AF_SSIM_HALF) : TAPS - 1;
    for (int i = 0; i < stride; i += VL) {
      vf mx = {0}, my = {0}, squares = {0}, xy = {0};
      const float *px = padded_row(job, 0, (int)y + low - AF_SSIM_HALF) + i;
      const float *py = padded_row(job, 1, (int)y + low - AF_SSIM_HALF) + i;
      for (int t = low; t <= high; t++, px += stride, py += stride) {
        vf x = v_load(px), z = v_load(py), wx = job->taps[t] * x, wz = job->taps[t] * z;
        mx += wx, my += wz, squares += wx * x, squares += wz * z, xy += wx * z;
      }
      v_store(rows + PAD + i, mx), v_store(rows + line + PAD + i, my), v_store(rows + 2 * line + PAD + i, squares);
      v_store(rows + 3 * line + PAD + i, xy);
    }
    spread_weights(job, (int)y, weights);
    vf loss = {0}, total = {0};
    const float *x_row = padded_row(job, 0, (int)y), *y_row = padded_row(job, 1, (int)y);
    for (int i = 0; i < stride; i += VL) {
      const float *at = rows + PAD + i;
      vf mu_x = blur_across(job, at), mu_y = blur_across(job, at + line), squares = blur_across(job, at + 2 * line);
      vf xy = blur_across(job, at + 3 * line), w = v_load(weights + i);
      vf value, d_mu, d_xx, d_xy;
      for (int l = 0; l < VL; l++) {
        af_ssim s = af_ssim_window(mu_x[l], mu_y[l], squares[l], xy[l]);
        value[l] = s.value, d_mu[l] = s.d_mu_x, d_xx[l] = s.d_xx, d_xy[l] = s.d_xy;
      }
      loss += w * (l1_factor * v_abs(v_load(x_row + i) - v_load(y_row + i)) + dssim_factor * (1.0f - value));
      total += w;
      if (job->maps) {
        float *map = job->maps + y * stride + i;
        int64_t plane = (int64_t)job->height * stride;
        vf q = -dssim_factor * w;
        v_store(map, q * d_mu), v_store(map + plane, q * d_xx), v_store(map + 2 * plane, q * d_xy);
      }
    }
    job->row_sums[2 * y] = v_sum(loss);
    job->row_sums[2 * y + 1] = v_sum(total);
  }
}

static void gradient_part(int part, int parts, void *context) {
  loss_job *job = context;
  int stride = job->stride, line = stride + 2 * PAD, n = job->width * 3;
  int64_t plane = (int64_t)job->height * stride;
  float *rows = job->scratch + (int64_t)part * 6 * line, *weights = rows + 3 * line + PAD, *out = weights + line;
  memset(rows, 0, (size_t)6 * line * sizeof(float));
  for (int64_t y = share(job->height, part, parts), end = share(job->height, part + 1, parts); y < end; y++) {
    int low = y < AF_SSIM_HALF ? (int)(AF_SSIM_HALF - y) : 0;
    int high = y + AF_SSIM_HALF >= job->height ? (int)(job->height - 1 - y + AF_SSIM_HALF) : TAPS - 1;
    for (int i = 0; i < stride; i += VL) {
      vf a = {0}, b = {0}, c = {0};
      const float *map = job->maps + (y + low - AF_SSIM_HALF) * stride + i;
      for (int t = low; t <= high; t++, map += stride) {
        a += job->taps[t] * v_load(map);
        b += job->taps[t] * v_load(map + plane);
        c += job->taps[t] * v_load(map + 2 * plane);
      }
      v_store(rows + PAD + i, a), v_store(rows + line + PAD + i, b), v_store(rows + 2 * line + PAD + i, c);
    }
    spread_weights(job, (int)y, weights);
    const float *x_row = padded_row(job, 0, (int)y), *y_row = padded_row(job, 1, (int)y);
    float l1_factor = (1.0f - job->fraction) * job->scale;
    for (int i = 0; i < stride; i += VL) {
      const float *at = rows + PAD + i;
      vf x = v_load(x_row + i), z = v_load(y_row + i), difference = x - z;
      vf sign = (vf)(((vi)difference & (int32_t)0x80000000) | (vi)v_set(1.0f));
      sign = v_keep(sign, (vi)(difference != 0.0f));
      vf sum = blur_across(job, at) + 2.0f * x * blur_across(job, at + line) + z * blur_across(job, at + 2 * line);
      v_store(out + i, job->scale * sum + l1_factor * v_load(weights + i) * sign);
    }
    if (!job->background) {
      memcpy(job->grad + y * n, out, (size_t)n * sizeof(float));
      continue;
    }
    float *pixel = job->grad + y * job->width * 4;
    const float *behind = job->background + y * n;
    for (int x = 0; x < job->width; x++, pixel += 4, behind += 3) {
      const float *g = out + 3 * x;
      pixel[0] = g[0], pixel[1] = g[1], pixel[2] = g[2];
      pixel[3] = -(g[0] * behind[0] + g[1] * behind[1] + g[2] * behind[2]);
    }
  }
}

static int l1_dssim(af_workspace *ws, const float *image, const float *target, const float *weight,
                    const float *background, int height, int width, float dssim_fraction, float *loss, float *grad) {
  loss_job job = {.image = image, .target = target, .weight = weight, .background = background, .grad = grad,
                  .height = height, .width = width, .stride = (3 * width + 15) / 16 * 16, .fraction = dssim_fraction};
  int parts = height < 16 ? 1 : af_thread_count();
  size_t plane = (size_t)height * job.stride;
  job.padded = af_reserve(&ws->slots[AF_SLOT_LOSS_PADDED], 2 * plane * sizeof(float));
  job.maps = grad ? af_reserve(&ws->slots[AF_SLOT_LOSS_MAPS], 3 * plane * sizeof(float)) : 0;
  size_t scratch = (size_t)parts * 6 * (job.stride + 2 * PAD) * sizeof(float);
  job.row_sums = af_reserve(&ws->slots[AF_SLOT_LOSS_ROWS], (size_t)height * 2 * sizeof(double) + scratch);
  if (!job.padded || !job.row_sums || (grad && !job.maps)) return AF_NO_MEMORY;
  job.scratch = (float *)(job.row_sums + 2 * (size_t)height);
  double sum = 0;
  for (int t = 0; t < TAPS; t++) sum += exp(-(t - AF_SSIM_HALF) * (t - AF_SSIM_HALF) / 4.5);
  for (int t = 0; t < TAPS; t++) job.taps[t] = (float)(exp(-(t - AF_SSIM_HALF) * (t - AF_SSIM_HALF) / 4.5) / sum);
  double clock = af_seconds();
  af_parallel(parts, pad_part, &job);
  af_parallel(parts, moments_part, &job);
  clock = af_stage_ends(ws, AF_STAGE_MOMENTS, clock);
  double loss_sum = 0, weight_sum = 0;
  for (int y = 0; y < height; y++) loss_sum += job.row_sums[2 * y], weight_sum += job.row_sums[2 * y + 1];
  /* Both sums ran over three channels, so the mean over channels needs no further factor. */
  if (!(weight_sum > 0)) return AF_BAD_VALUE;
  *loss = (float)(loss_sum / weight_sum);
  job.scale = (float)(1 / weight_sum);
  if (grad) af_parallel(parts, gradient_part, &job);
  af_stage_ends(ws, AF_STAGE_LOSS_GRADIENT, clock);
  return AF_OK;
}
