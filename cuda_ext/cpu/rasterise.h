/* Compositing of binned splats, block by block, with transmittance and colour in registers; and its gradient, front to
   back as well: what lies behind a splat is the pixel's whole minus what was passed already, one scalar a pixel. */
#include "cpu/table.h"

#define GRAD_ROW 16

/* Pixel centres of a block's lanes, row by row: lane = 4 y + x, so that x is the same in every vector. */
typedef struct { vf x, y[VECTORS], inside[VECTORS]; } block_lanes;

static const float lane_x[LANES] = {0.5f, 1.5f, 2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f,
                                    0.5f, 1.5f, 2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f};
static const float lane_y[LANES] = {0.5f, 0.5f, 0.5f, 0.5f, 1.5f, 1.5f, 1.5f, 1.5f,
                                    2.5f, 2.5f, 2.5f, 2.5f, 3.5f, 3.5f, 3.5f, 3.5f};

INLINE block_lanes lanes_of(const raster_job *job, int row, int col) {
  block_lanes b;
  b.x = v_load(lane_x) + (float)(col * BLOCK);
  vi across = b.x < (float)job->width;
  for (int v = 0; v < VECTORS; v++) {
    b.y[v] = v_load(lane_y + v * VL) + (float)(row * BLOCK);
    b.inside[v] = v_keep(v_set(1.0f), across & (vi)(b.y[v] < (float)job->height));
  }
  return b;
}

/* Four pixels' channels to four channels' pixels, and back. */
INLINE void transpose4(v4 *r) {
  v4 a = __builtin_shuffle(r[0], r[1], (i4){0, 4, 1, 5}), b = __builtin_shuffle(r[0], r[1], (i4){2, 6, 3, 7});
  v4 c = __builtin_shuffle(r[2], r[3], (i4){0, 4, 1, 5}), d = __builtin_shuffle(r[2], r[3], (i4){2, 6, 3, 7});
  r[0] = __builtin_shuffle(a, c, (i4){0, 1, 4, 5}), r[1] = __builtin_shuffle(a, c, (i4){2, 3, 6, 7});
  r[2] = __builtin_shuffle(b, d, (i4){0, 1, 4, 5}), r[3] = __builtin_shuffle(b, d, (i4){2, 3, 6, 7});
}

/* The alphas of a chunk are computed ahead of being composited. The exponential is a chain of some fifty cycles, longer
   than what a processor's scheduler looks ahead; so chains are computed ABREAST by ABREAST entries in lockstep. */
#define ABREAST (VECTORS < 4 ? 4 / VECTORS : 1)

/* 2^exponent for up to CHUNK entries, 0 where that is below 1/255 and, if `ceiling`, at most AF_ALPHA_MAX. */
INLINE void alphas_of(const raster_job *job, const uint32_t *list, int count, const block_lanes *b, int ceiling,
                      vf (*alphas)[VECTORS]) {
  for (int i = 0; i < count; i += ABREAST) {
    vf e[ABREAST][VECTORS], f[ABREAST][VECTORS], p[ABREAST][VECTORS];
    for (int k = 0; k < ABREAST; k++) {
      const record *r = job->records + list[i + k < count ? i + k : i];
      vf dx = b->x - r->mean_x;
      vf across = r->log2_opacity - r->qa * dx * dx, mixed = r->qb * dx;
      for (int v = 0; v < VECTORS; v++) {
        vf dy = b->y[v] - r->mean_y;
        e[k][v] = across - dy * (r->qc * dy + mixed);
      }
    }
#define EACH for (int k = 0; k < ABREAST; k++) for (int v = 0; v < VECTORS; v++)
    EACH f[k][v] = e[k][v] - ((e[k][v] + AF_ROUND_MAGIC) - AF_ROUND_MAGIC);
    EACH p[k][v] = f[k][v] * AF_EXP2_C5 + AF_EXP2_C4;
    EACH p[k][v] = p[k][v] * f[k][v] + AF_EXP2_C3;
    EACH p[k][v] = p[k][v] * f[k][v] + AF_EXP2_C2;
    EACH p[k][v] = p[k][v] * f[k][v] + AF_EXP2_C1;
    EACH p[k][v] = p[k][v] * f[k][v] + AF_EXP2_C0;
    EACH {
      vf raw = (vf)((vi)p[k][v] + ((vi)(e[k][v] + AF_ROUND_MAGIC) << 23));
      if (ceiling) raw = v_min(raw, v_set(AF_ALPHA_MAX));
      alphas[i + k][v] = v_keep(raw, (vi)(e[k][v] >= AF_LOG2_ALPHA_MIN));
    }
#undef EACH
  }
}

/* Asks for the records of the next CHUNK entries, or of the next block's: the list goes on for CHUNK entries of zero. */
INLINE void prefetch_records(const raster_job *job, const uint32_t *list) {
  for (int k = 0; k < CHUNK; k++) __builtin_prefetch(job->records + list[k]);
}

/* Composites one block; returns how many entries it looked at. t: transmittance left, rgb: premultiplied colour. */
INLINE int composite_block(const raster_job *job, const uint32_t *list, int count, const block_lanes *lanes, vf *t,
                           vf (*rgb)[VECTORS]) {
  vf alphas[CHUNK + ABREAST - 1][VECTORS];
  for (int v = 0; v < VECTORS; v++) {
    t[v] = lanes->inside[v];
    rgb[0][v] = rgb[1][v] = rgb[2][v] = (vf){0};
  }
  for (int i = 0; i < count; i += CHUNK) {
    int ahead = count - i < CHUNK ? count - i : CHUNK;
    vi any = (vi){0};
    for (int v = 0; v < VECTORS; v++) any |= t[v] >= AF_TRANSMITTANCE_MIN;
    if (!v_any(any)) return i;
    prefetch_records(job, list + i + CHUNK);
    alphas_of(job, list + i, ahead, lanes, 1, alphas);
    for (int k = 0; k < ahead; k++) {
      const record *r = job->records + list[i + k];
      for (int v = 0; v < VECTORS; v++) {
        vf weight = v_keep(alphas[k][v] * t[v], (vi)(t[v] >= AF_TRANSMITTANCE_MIN));
        t[v] -= weight;
        rgb[0][v] += weight * r->red;
        rgb[1][v] += weight * r->green;
        rgb[2][v] += weight * r->blue;
      }
    }
  }
  return count;
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

/* Four pixels of a row at once, with the same result as one by one; 0 where this target has no instructions for it. */
INLINE int write_four(const raster_job *job, int64_t at, int lane, float (*channel)[LANES], const float *ts) {
  v4 r[4];
  for (int c = 0; c < 3; c++) memcpy(&r[c], channel[c] + lane, sizeof r[c]);
  memcpy(&r[3], ts + lane, sizeof r[3]);
  if (job->image) {
    r[3] = 1.0f - r[3];
    transpose4(r);
    memcpy(job->image + at * 4, r, sizeof r);
    return 1;
  }
#if defined(__SSE2__)
  transpose4(r);
  /* Twelve bytes by whole words: single bytes gathered in memory would stall the load that follows. */
  uint64_t low, first, second;
  uint32_t high;
  const uint8_t *behind = job->background + at * 3;
  memcpy(&low, behind, 8);
  memcpy(&high, behind + 8, 4);
  uint32_t pixels[4] = {(uint32_t)low, (uint32_t)(low >> 24), (uint32_t)(low >> 48) | high << 16, high >> 8};
  __m128i words[4], zero = _mm_setzero_si128();
  for (int x = 0; x < 4; x++) {
    __m128i wide = _mm_unpacklo_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128((int)pixels[x]), zero), zero);
    v4 value = 255.0f * r[x] + __builtin_shuffle(r[x], (i4){3, 3, 3, 3}) * (v4)_mm_cvtepi32_ps(wide);
    /* NaN becomes 0: the instruction gives its second operand then. */
    words[x] = _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps((__m128)value, _mm_setzero_ps()), _mm_set1_ps(255.0f)));
  }
  __m128i packed = _mm_packus_epi16(_mm_packs_epi32(words[0], words[1]), _mm_packs_epi32(words[2], words[3]));
  first = (uint64_t)_mm_cvtsi128_si64(packed), second = (uint64_t)_mm_cvtsi128_si64(_mm_unpackhi_epi64(packed, packed));
  low = (first & 0xffffff) | (first >> 32 & 0xffffff) << 24 | second << 48;
  high = (uint32_t)(second >> 16 & 0xff) | (uint32_t)(second >> 32 & 0xffffff) << 8;
  memcpy(job->out + at * 3, &low, 8);
  memcpy(job->out + at * 3 + 8, &high, 4);
  return 1;
#else
  return 0;
#endif
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
    job->used[b] = composite_block(job, job->list + job->starts[b], job->starts[b + 1] - job->starts[b] - 1, &lanes, t,
                                   rgb);
    spread(t, ts);
    for (int c = 0; c < 3; c++) spread(rgb[c], channel[c]);
    for (int y = 0; y < rows; y++) {
      int64_t at = (int64_t)(row * BLOCK + y) * job->width + col * BLOCK;
      if (cols == BLOCK && write_four(job, at, y * BLOCK, channel, ts)) continue;
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

static int forward_all(raster_job *job, int64_t n, int keep) {
  int status = make_bins(job, n, keep);
  if (status) return status;
  double clock = af_seconds();
  af_parallel(job->parts * FORWARD_PARTS_PER_THREAD, forward_part, job);
  af_stage_ends(job->ws, AF_STAGE_COMPOSITE, clock);
  int64_t looked = 0;
  for (int64_t b = 0; b < (int64_t)job->rows * job->cols; b++) looked += job->used[b];
  job->ws->pairs_composited = looked;
  return AF_OK;
}

static int rasterise(af_workspace *ws, const float *splats, int64_t n, int height, int width, float *image) {
  raster_job job;
  lay_out(&job, ws, splats, height, width);
  job.image = image;
  return forward_all(&job, n, 1);
}

static int rasterise_over(af_workspace *ws, const float *splats, int64_t n, int height, int width,
                          const uint8_t *background, uint8_t *out) {
  raster_job job;
  lay_out(&job, ws, splats, height, width);
  job.background = background;
  job.out = out;
  return forward_all(&job, n, 0);
}

/* The same four-lane sums of two vectors side by side: the low half of the result is `a`'s, the high half `b`'s. */
#if VL == 8
#define PAIRED 2
typedef vf vsum;
INLINE vsum fold_pair(vf a, vf b) {
  return (vf)_mm256_permute2f128_ps((__m256)a, (__m256)b, 0x20) + (vf)_mm256_permute2f128_ps((__m256)a, (__m256)b, 0x31);
}
INLINE vsum sums4(vsum a, vsum b, vsum c, vsum d) {
  __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps((__m256)a, (__m256)b), _mm256_unpackhi_ps((__m256)a, (__m256)b));
  __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps((__m256)c, (__m256)d), _mm256_unpackhi_ps((__m256)c, (__m256)d));
  return (vf)_mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
}
INLINE v4 half_of(vsum v, int which) {
  return (v4)(which ? _mm256_extractf128_ps((__m256)v, 1) : _mm256_castps256_ps128((__m256)v));
}
#else
#define PAIRED 1
typedef v4 vsum;
INLINE vsum sums4(vsum a, vsum b, vsum c, vsum d) { return v4_sums(a, b, c, d); }
INLINE v4 half_of(vsum v, int which) {
  (void)which;
  return v;
}
#endif

/* Adds an entry's sums (or two entries', PAIRED) over the block's lanes to its row: of q, q dx, q dy, q dx^2, q dx dy,
   q dy^2 and of the weights times the picture's gradient. */
INLINE void add_sums(const raster_job *job, const uint32_t *list, int count, const block_lanes *b,
                     const vf (*g)[VECTORS], const vf (*q)[VECTORS], const vf (*weight)[VECTORS], float *rows) {
  vf sums[PAIRED][6], dx[PAIRED];
  for (int k = 0; k < PAIRED; k++) {
    const record *r = job->records + list[k < count ? k : 0];
    dx[k] = b->x - r->mean_x;
    for (int v = 0; v < VECTORS; v++) {
      vf dy = b->y[v] - r->mean_y, qv = q[k][v], qy = qv * dy, w = weight[k][v];
      vf *s = sums[k];
      if (!v) {
        s[0] = qv, s[1] = qy, s[2] = qy * dy, s[3] = w * g[0][v], s[4] = w * g[1][v], s[5] = w * g[2][v];
      } else {
        s[0] += qv, s[1] += qy, s[2] += qy * dy, s[3] += w * g[0][v], s[4] += w * g[1][v], s[5] += w * g[2][v];
      }
    }
  }
  vsum s[6];
#if PAIRED == 2
  vsum x = (vf)_mm256_permute2f128_ps((__m256)dx[0], (__m256)dx[1], 0x20);
  for (int c = 0; c < 6; c++) s[c] = fold_pair(sums[0][c], sums[1][c]);
#else
  vsum x = v_first4(dx[0]);
  for (int c = 0; c < 6; c++) s[c] = v_fold4(sums[0][c]);
#endif
  /* Columns are summed first: what x adds to a moment is the same in every row. */
  vsum qx = s[0] * x, low = sums4(s[0], qx, s[1], qx * x), high = sums4(s[1] * x, s[2], s[3], s[4]);
  vsum blue = sums4(s[5], s[5], s[5], s[5]);
  for (int k = 0; k < count; k++) {
    float *row = rows + (int64_t)list[k] * GRAD_ROW;
    v4 first, second;
    memcpy(&first, row, sizeof first);
    memcpy(&second, row + 4, sizeof second);
    first += half_of(low, k);
    second += half_of(high, k);
    memcpy(row, &first, sizeof first);
    memcpy(row + 4, &second, sizeof second);
    row[8] += half_of(blue, k)[0];
  }
}

/* Gradients of one block, added to the part's rows; q = alpha dL/dalpha. Alphas, then what runs from front to back, then
   the sums: each step has its own loop over a chunk, so that no chain of one entry holds up the next. */
INLINE void backward_block(const raster_job *job, const uint32_t *list, int count, const block_lanes *lanes,
                           const vf (*g)[VECTORS], vf *behind, float *rows) {
  vf t[VECTORS], alphas[CHUNK + ABREAST - 1][VECTORS];
  vf q[CHUNK + 1][VECTORS], weights[CHUNK + 1][VECTORS];
  uint32_t ids[CHUNK];
  for (int v = 0; v < VECTORS; v++) t[v] = lanes->inside[v];
  for (int i = 0; i < count; i += CHUNK) {
    int ahead = count - i < CHUNK ? count - i : CHUNK;
    prefetch_records(job, list + i + CHUNK);
    alphas_of(job, list + i, ahead, lanes, 0, alphas);
    int kept = 0;
    for (int k = 0; k < ahead; k++) {
      const record *r = job->records + list[i + k];
      __builtin_prefetch(rows + (int64_t)list[i + k] * GRAD_ROW, 1);
      vi some = (vi){0};
      for (int v = 0; v < VECTORS; v++) {
        vi open = t[v] >= AF_TRANSMITTANCE_MIN;
        vf raw = v_keep(alphas[k][v], open);
        vf alpha = v_min(raw, v_set(AF_ALPHA_MAX));
        vf weight = alpha * t[v];
        vf along = weight * (g[0][v] * r->red + g[1][v] * r->green + g[2][v] * r->blue);
        behind[v] -= along;
        /* The ceiling stops the gradient. */
        q[kept][v] = v_keep(along - behind[v] * (alpha / (1.0f - alpha)), (vi)(raw <= AF_ALPHA_MAX));
        weights[kept][v] = weight;
        t[v] -= weight;
        some |= raw > 0.0f;
      }
      /* An entry that reached no pixel is overwritten by the next. */
      ids[kept] = list[i + k];
      kept += v_any(some);
    }
    /* What stands beside the last of an odd number is summed with it and left there. */
    for (int v = 0; v < VECTORS; v++) q[kept][v] = weights[kept][v] = (vf){0};
    for (int k = 0; k < kept; k += PAIRED)
      add_sums(job, ids + k, kept - k < PAIRED ? kept - k : PAIRED, lanes, g, (const vf(*)[VECTORS])(q + k),
               (const vf(*)[VECTORS])(weights + k), rows);
  }
}

static void backward_part(int part, int parts, void *context) {
  raster_job *job = context;
  float *rows = job->grad_rows + (int64_t)part * job->drawn * GRAD_ROW;
  memset(rows, 0, (size_t)job->drawn * GRAD_ROW * sizeof(float));
  int64_t end = first_block(job, job->used_before, part + 1, parts);
  for (int64_t b = first_block(job, job->used_before, part, parts); b < end; b++) {
    if (!job->used[b]) continue;
    int row = (int)(b / job->cols), col = (int)(b % job->cols);
    block_lanes lanes = lanes_of(job, row, col);
    float grads[3][LANES] = {{0}}, behinds[LANES] = {0};
    vf g[3][VECTORS], behind[VECTORS];
    int rows_inside = job->height - row * BLOCK < BLOCK ? job->height - row * BLOCK : BLOCK;
    int cols_inside = job->width - col * BLOCK < BLOCK ? job->width - col * BLOCK : BLOCK;
    for (int y = 0; y < rows_inside; y++) {
      int64_t at = ((int64_t)(row * BLOCK + y) * job->width + col * BLOCK) * 4;
      size_t bytes = (size_t)cols_inside * sizeof(v4);
      v4 pixel[4] = {{0}}, grad[4] = {{0}};
      memcpy(pixel, job->image_in + at, bytes);
      memcpy(grad, job->grad_image + at, bytes);
      transpose4(pixel);
      transpose4(grad);
      v4 sum = grad[0] * pixel[0] + grad[1] * pixel[1] + grad[2] * pixel[2] - grad[3] * (1.0f - pixel[3]);
      memcpy(behinds + y * BLOCK, &sum, sizeof sum);
      for (int c = 0; c < 3; c++) memcpy(grads[c] + y * BLOCK, &grad[c], sizeof grad[c]);
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
    int status = make_bins(&job, n, 1);
    if (status) return status;
    for (int64_t b = 0; b < (int64_t)job.rows * job.cols; b++) job.used[b] = job.starts[b + 1] - job.starts[b] - 1;
  }
  job.backward_parts = job.parts > 1 ? job.parts * BACKWARD_PARTS_PER_THREAD : 1;
  size_t bytes = ((size_t)job.backward_parts * job.drawn * GRAD_ROW + 1) * sizeof(float);
  job.grad_rows = af_reserve(&ws->slots[AF_SLOT_GRAD_ROWS], bytes);
  int64_t blocks = (int64_t)job.rows * job.cols;
  job.used_before = af_reserve(&ws->slots[AF_SLOT_USED_BEFORE], (size_t)(blocks + 1) * sizeof(int32_t));
  if (!job.grad_rows || !job.used_before) return AF_NO_MEMORY;
  double clock = af_seconds();
  job.used_before[0] = 0;
  for (int64_t b = 0; b < blocks; b++) job.used_before[b + 1] = job.used_before[b] + job.used[b];
  memset(grad_splats, 0, (size_t)n * AF_SPLAT * sizeof(float));
  af_parallel(job.backward_parts, backward_part, &job);
  clock = af_stage_ends(ws, AF_STAGE_BACKWARD, clock);
  af_parallel(job.parts, gather_part, &job);
  af_stage_ends(ws, AF_STAGE_GATHER, clock);
  return AF_OK;
}
