/* Compositing of binned splats, block by block, with transmittance and colour in registers; and its gradient, front to
   back as well: what lies behind a splat is the pixel's whole minus what was passed already, one scalar a pixel. */
#include "cpu/table.h"

#define GRAD_ROW 12

/* Pixel centres of a block's lanes, row by row: lane = 4 y + x, so that x is the same in every vector. */
typedef struct { vf x, y[VECTORS], inside[VECTORS]; } block_lanes;

INLINE block_lanes lanes_of(const raster_job *job, int row, int col) {
  block_lanes b;
  float x[LANES], y[LANES], inside[LANES];
  for (int l = 0; l < LANES; l++) {
    int px = col * BLOCK + l % BLOCK, py = row * BLOCK + l / BLOCK;
    x[l] = (float)px + 0.5f;
    y[l] = (float)py + 0.5f;
    inside[l] = px < job->width && py < job->height ? 1.0f : 0.0f;
  }
  b.x = v_load(x);
  for (int v = 0; v < VECTORS; v++) {
    b.y[v] = v_load(y + v * VL);
    b.inside[v] = v_load(inside + v * VL);
  }
  return b;
}

/* dx and dy from the mean to the lanes, and log2 of alpha before the ceiling. */
INLINE void exponents(const record *r, const block_lanes *b, vf *dx, vf *dy, vf *e) {
  *dx = b->x - r->mean_x;
  vf across = r->log2_opacity - r->qa * *dx * *dx, mixed = r->qb * *dx;
  for (int v = 0; v < VECTORS; v++) {
    dy[v] = b->y[v] - r->mean_y;
    e[v] = across - dy[v] * (r->qc * dy[v] + mixed);
  }
}

/* Composites one block; returns how many entries it looked at. t: transmittance left, rgb: premultiplied colour. */
INLINE int composite_block(const raster_job *job, const uint32_t *list, int count, const block_lanes *lanes, vf *t,
                           vf (*rgb)[VECTORS]) {
  int i;
  for (int v = 0; v < VECTORS; v++) {
    t[v] = lanes->inside[v];
    rgb[0][v] = rgb[1][v] = rgb[2][v] = (vf){0};
  }
  for (i = 0; i < count; i++) {
    const record *r = job->records + list[i];
    vf dx, dy[VECTORS], e[VECTORS];
    vi open[VECTORS], any = (vi){0};
    exponents(r, lanes, &dx, dy, e);
    for (int v = 0; v < VECTORS; v++) any |= open[v] = t[v] >= AF_TRANSMITTANCE_MIN;
    if (!v_any(any)) break;
    for (int v = 0; v < VECTORS; v++) {
      vi mask = (e[v] >= AF_LOG2_ALPHA_MIN) & open[v];
      vf alpha = v_keep(v_min(v_exp2(e[v]), v_set(AF_ALPHA_MAX)), mask);
      vf weight = alpha * t[v];
      t[v] -= weight;
      rgb[0][v] += weight * r->red;
      rgb[1][v] += weight * r->green;
      rgb[2][v] += weight * r->blue;
    }
  }
  return i;
}

/* Blocks of a part: cut so that every part has about as many pairs; a block counts a little for itself. */
static int64_t first_block(const raster_job *job, const int32_t *starts, int part, int parts) {
  int64_t blocks = (int64_t)job->rows * job->cols, low = 0, high = blocks;
  int64_t wanted = ((int64_t)starts[blocks] + 4 * blocks) * part / parts;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if ((int64_t)starts[middle] + 4 * middle < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}

INLINE void spread(const vf *v, float *lanes) {
  for (int i = 0; i < VECTORS; i++) v_store(lanes + i * VL, v[i]);
}

static void forward_part(int part, int parts, void *context) {
  raster_job *job = context;
  int64_t end = first_block(job, job->starts, part + 1, parts);
  for (int64_t b = first_block(job, job->starts, part, parts); b < end; b++) {
    int row = (int)(b / job->cols), col = (int)(b % job->cols);
    int rows = job->height - row * BLOCK < BLOCK ? job->height - row * BLOCK : BLOCK;
    int cols = job->width - col * BLOCK < BLOCK ? job->width - col * BLOCK : BLOCK;
    block_lanes lanes = lanes_of(job, row, col);
    vf t[VECTORS], rgb[3][VECTORS];
    float ts[LANES], channel[3][LANES];
    job->used[b] = composite_block(job, job->list + job->starts[b], job->starts[b + 1] - job->starts[b], &lanes, t, rgb);
    spread(t, ts);
    for (int c = 0; c < 3; c++) spread(rgb[c], channel[c]);
    for (int y = 0; y < rows; y++) {
      int64_t at = (int64_t)(row * BLOCK + y) * job->width + col * BLOCK;
      for (int x = 0; x < cols; x++) {
        int l = y * BLOCK + x;
        if (job->image) {
          float *pixel = job->image + (at + x) * 4;
          for (int c = 0; c < 3; c++) pixel[c] = channel[c][l];
          pixel[3] = 1.0f - ts[l];
        } else {
          for (int c = 0; c < 3; c++) {
            float value = 255.0f * channel[c][l] + ts[l] * job->background[(at + x) * 3 + c];
            /* NaN becomes 0; adding the magic number rounds to nearest, ties to even. */
            value = value > 0.0f ? value < 255.0f ? value : 255.0f : 0.0f;
            job->out[(at + x) * 3 + c] = (uint8_t)(int)((value + AF_ROUND_MAGIC) - AF_ROUND_MAGIC);
          }
        }
      }
    }
  }
}

static int forward_all(raster_job *job, int64_t n) {
  int status = make_bins(job, n);
  if (status) return status;
  af_parallel(job->parts * FORWARD_PARTS_PER_THREAD, forward_part, job);
  return AF_OK;
}

static int rasterise(af_workspace *ws, const float *splats, int64_t n, int height, int width, float *image) {
  raster_job job;
  lay_out(&job, ws, splats, height, width);
  job.image = image;
  return forward_all(&job, n);
}

static int rasterise_over(af_workspace *ws, const float *splats, int64_t n, int height, int width,
                          const uint8_t *background, uint8_t *out) {
  raster_job job;
  lay_out(&job, ws, splats, height, width);
  job.background = background;
  job.out = out;
  return forward_all(&job, n);
}

/* Gradients of one block, added to the part's rows: sums of v, v dx, v dy, v dx^2, v dx dy, v dy^2 (v = alpha dL/dalpha)
   and of the colours' weights. */
INLINE void backward_block(const raster_job *job, const uint32_t *list, int count, const block_lanes *lanes,
                           const vf (*g)[VECTORS], vf *behind, float *rows) {
  vf t[VECTORS];
  for (int v = 0; v < VECTORS; v++) t[v] = lanes->inside[v];
  for (int i = 0; i < count; i++) {
    const record *r = job->records + list[i];
    vf dx, dy[VECTORS], e[VECTORS], q_sum, qy_sum, qyy_sum, colour[3];
    vi mask[VECTORS], any = (vi){0};
    exponents(r, lanes, &dx, dy, e);
    for (int v = 0; v < VECTORS; v++) {
      mask[v] = (e[v] >= AF_LOG2_ALPHA_MIN) & (t[v] >= AF_TRANSMITTANCE_MIN);
      any |= mask[v];
    }
    if (!v_any(any)) continue;
    for (int v = 0; v < VECTORS; v++) {
      vf raw = v_exp2(e[v]);
      vf alpha = v_keep(v_min(raw, v_set(AF_ALPHA_MAX)), mask[v]);
      vf weight = alpha * t[v];
      vf along = g[0][v] * r->red + g[1][v] * r->green + g[2][v] * r->blue;
      behind[v] -= weight * along;
      /* The ceiling stops the gradient. */
      vf q = v_keep(weight * along - behind[v] * alpha / (1.0f - alpha), (vi)(raw <= AF_ALPHA_MAX));
      t[v] -= weight;
      vf qy = q * dy[v];
      q_sum = v ? q_sum + q : q;
      qy_sum = v ? qy_sum + qy : qy;
      qyy_sum = v ? qyy_sum + qy * dy[v] : qy * dy[v];
      for (int c = 0; c < 3; c++) colour[c] = v ? colour[c] + weight * g[c][v] : weight * g[c][v];
    }
    /* Columns are summed first: what x adds to a moment is the same in every row. */
    v4 x = v_first4(dx), q = v_fold4(q_sum), qy = v_fold4(qy_sum), qx = q * x;
    v4 low, high, blue = v_fold4(colour[2]);
    v4 add_low = v4_sums(q, qx, qy, qx * x);
    v4 add_high = v4_sums(qy * x, v_fold4(qyy_sum), v_fold4(colour[0]), v_fold4(colour[1]));
    float *row = rows + (int64_t)list[i] * GRAD_ROW;
    memcpy(&low, row, sizeof low);
    memcpy(&high, row + 4, sizeof high);
    low += add_low;
    high += add_high;
    memcpy(row, &low, sizeof low);
    memcpy(row + 4, &high, sizeof high);
    row[8] += (blue[0] + blue[2]) + (blue[1] + blue[3]);
  }
}

static void backward_part(int part, int parts, void *context) {
  raster_job *job = context;
  float *rows = job->grad_rows + (int64_t)part * job->drawn * GRAD_ROW;
  memset(rows, 0, (size_t)job->drawn * GRAD_ROW * sizeof(float));
  int64_t end = first_block(job, job->starts, part + 1, parts);
  for (int64_t b = first_block(job, job->starts, part, parts); b < end; b++) {
    if (!job->used[b]) continue;
    int row = (int)(b / job->cols), col = (int)(b % job->cols);
    block_lanes lanes = lanes_of(job, row, col);
    float grads[4][LANES] = {{0}}, behinds[LANES] = {0};
    vf g[3][VECTORS], behind[VECTORS];
    for (int l = 0; l < LANES; l++) {
      int px = col * BLOCK + l % BLOCK, py = row * BLOCK + l / BLOCK;
      if (px >= job->width || py >= job->height) continue;
      const float *pixel = job->image_in + ((int64_t)py * job->width + px) * 4;
      const float *grad = job->grad_image + ((int64_t)py * job->width + px) * 4;
      for (int c = 0; c < 3; c++) {
        grads[c][l] = grad[c];
        behinds[l] += grad[c] * pixel[c];
      }
      behinds[l] -= grad[3] * (1.0f - pixel[3]);
    }
    for (int v = 0; v < VECTORS; v++) {
      for (int c = 0; c < 3; c++) g[c][v] = v_load(grads[c] + v * VL);
      behind[v] = v_load(behinds + v * VL);
    }
    backward_block(job, job->list + job->starts[b], job->used[b], &lanes, (const vf(*)[VECTORS])g, behind, rows);
  }
}

/* Adds the parts' rows in their order and turns moments into gradients of the splat. */
static void gather_part(int part, int parts, void *context) {
  raster_job *job = context;
  for (int64_t i = share(job->drawn, part, parts), end = share(job->drawn, part + 1, parts); i < end; i++) {
    float s[GRAD_ROW] = {0};
    for (int p = 0; p < job->backward_parts; p++) {
      const float *row = job->grad_rows + ((int64_t)p * job->drawn + i) * GRAD_ROW;
      for (int c = 0; c < GRAD_ROW; c++) s[c] += row[c];
    }
    int64_t at = (int64_t)job->records[i].index * AF_SPLAT;
    const float *splat = job->splats + at;
    float *out = job->grad_splats + at;
    out[0] = splat[2] * s[1] + splat[3] * s[2];
    out[1] = splat[3] * s[1] + splat[4] * s[2];
    out[2] = -0.5f * s[3];
    out[3] = -s[4];
    out[4] = -0.5f * s[5];
    out[5] = s[0] / splat[5];
    out[6] = s[6], out[7] = s[7], out[8] = s[8];
  }
}

static int rasterise_backward(af_workspace *ws, const float *splats, int64_t n, int height, int width,
                              const float *image, const float *grad_image, float *grad_splats) {
  raster_job job;
  lay_out(&job, ws, splats, height, width);
  job.image_in = image;
  job.grad_image = grad_image;
  job.grad_splats = grad_splats;
  if (!bins_are_current(&job, n)) {
    int status = make_bins(&job, n);
    if (status) return status;
  }
  job.backward_parts = job.parts > 1 ? job.parts * BACKWARD_PARTS_PER_THREAD : 1;
  size_t bytes = ((size_t)job.backward_parts * job.drawn * GRAD_ROW + 1) * sizeof(float);
  job.grad_rows = af_reserve(&ws->slots[AF_SLOT_GRAD_ROWS], bytes);
  if (!job.grad_rows) return AF_NO_MEMORY;
  memset(grad_splats, 0, (size_t)n * AF_SPLAT * sizeof(float));
  af_parallel(job.backward_parts, backward_part, &job);
  af_parallel(job.parts, gather_part, &job);
  return AF_OK;
}
