/* The network of avatarfit.model.audio_to_landmarks on one stretch of hops, all of it in one call: a live moment asks it for a
   single token, whose arithmetic takes a tenth of the time that forty operations take to be called. */
#define LANDMARK_TOKENS 16 /* whose votes are counted at a time */
#define LANDMARK_EPSILON 1e-5f

/* As numbers of 32 bits, in this order. */
typedef struct {
  int32_t features, others, main, kept, beside, beside_kept; /* columns; the others come last */
  int32_t values, stride, width, layers, heads, past_tokens, members, pitch;
  int32_t centres, group, axes, beside_axes; /* axes: as many as there are, whether or not distances are told on fewer */
  int32_t past_hops, ahead_hops, near_taps, far_taps, far_step;
  int32_t window_past, window_ahead, window_step;
} landmark_sizes;

typedef struct { dense_layer axes, centres, votes; } landmark_kernel;

/* NaN stays NaN. */
INLINE vf landmark_exp(vf x) { return v_exp2(v_min(v_set(127.0f), v_max(v_set(-126.0f), x * AF_LOG2E))); }

/* x times the normal distribution's share below x; the error function's fit is within 1.5e-7 (Abramowitz & Stegun 1964,
   7.1.26). */
static void landmark_gelu(float *x, int64_t count) {
  for (int64_t i = 0; i < count; i += VL) {
    vf v = v_load(x + i), z = v_max(v, -v) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * z);
    vf tail = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    vf half = 0.5f * tail * landmark_exp(-z * z);
    v_store(x + i, v * (v_keep(half, v < 0) + v_keep(1.0f - half, ~(v < 0))));
  }
}

static void landmark_norm(const float *scale, const float *shift, const float *x, int64_t rows, int row, int width, float *out) {
  for (int64_t r = 0; r < rows; r++, x += row, out += row) {
    float mean = 0, square = 0;
    for (int c = 0; c < width; c++) mean += x[c];
    mean /= width;
    for (int c = 0; c < width; c++) square += (x[c] - mean) * (x[c] - mean);
    float factor = 1 / sqrtf(square / width + LANDMARK_EPSILON);
    for (int c = 0; c < width; c++) out[c] = (x[c] - mean) * factor * scale[c] + shift[c];
    for (int c = width; c < row; c++) out[c] = 0;
  }
}

/* Queries and keys of one head [width / heads] turned by their token's number: rotary position (Su et al. 2021). */
static void landmark_rotate(float *x, int64_t tokens, int64_t row, int heads, int width) {
  int half = width / heads / 2;
  for (int i = 0; i < half; i++) {
    float frequency = powf(100.0f, -((float)i / (float)half));
    for (int64_t t = 0; t < tokens; t++) {
      float cosine = cosf((float)t * frequency), sine = sinf((float)t * frequency);
      for (int h = 0; h < 2 * heads; h++) {
        float *a = x + t * row + (h / heads) * width + (h % heads) * 2 * half + i, *b = a + half, before = *a;
        *a = before * cosine - *b * sine;
        *b = before * sine + *b * cosine;
      }
    }
  }
}

/* out [rows from `skip` on, row]: each token's look at itself and at `past` before it; qkv [tokens, qkv_row]. */
static void landmark_attend(const float *qkv, int64_t qkv_row, int64_t tokens, int64_t skip, const landmark_sizes *s, float *scores,
                            float *out, int row) {
  int channels = s->width / s->heads;
  float scale = 1 / sqrtf((float)channels);
  for (int64_t t = skip; t < tokens; t++, out += row) {
    int64_t first = t > s->past_tokens ? t - s->past_tokens : 0;
    memset(out, 0, (size_t)row * sizeof(float));
    for (int h = 0; h < s->heads; h++) {
      const float *query = qkv + t * qkv_row + h * channels;
      float highest = -INFINITY, sum = 0;
      for (int64_t j = first; j <= t; j++) {
        const float *key = qkv + j * qkv_row + s->width + h * channels;
        float score = 0;
        for (int c = 0; c < channels; c++) score += query[c] * key[c];
        scores[j - first] = score *= scale;
        highest = score > highest ? score : highest;
      }
      for (int64_t j = first; j <= t; j++) sum += scores[j - first] = expf(scores[j - first] - highest);
      for (int64_t j = first; j <= t; j++) {
        const float *value = qkv + j * qkv_row + 2 * s->width + h * channels;
        float share = scores[j - first] / sum;
        for (int c = 0; c < channels; c++) out[h * channels + c] += share * value[c];
      }
    }
  }
}

INLINE landmark_kernel landmark_kernel_next(dense_reader *reader, const landmark_sizes *s, int columns, int group, int axes) {
  int taps = (s->window_past + s->window_ahead) / s->window_step + 1;
  landmark_kernel kernel;
  kernel.axes = dense_next(reader, ((columns - s->others) / group + s->others) * taps, axes, 1);
  kernel.centres = dense_next(reader, axes, s->centres, 1);
  kernel.votes = dense_next(reader, dense_padded(s->centres), s->values, 1);
  return kernel;
}

/* Kernel regression at `tokens` from `skip` on, mixed into `told` [.., values padded] by `share`: exp(2 (z c - c^2 / 2) - z^2)
   weighs the votes. x: hops [hops, columns]. */
static void landmark_votes(const landmark_kernel *kernel, const landmark_sizes *s, const float *x, int columns, int group,
                           int64_t skip, int64_t tokens, float share, float *windows, float *axes, float *weights,
                           float *told) {
  int size = kernel->axes.inputs, axes_row = dense_padded(kernel->axes.outputs), row = dense_padded(s->values);
  int bands = columns - s->others, centres = dense_padded(s->centres);
  float votes[LANDMARK_TOKENS * row];
  for (int64_t from = skip; from < tokens; from += LANDMARK_TOKENS) {
    int64_t m = tokens - from < LANDMARK_TOKENS ? tokens - from : LANDMARK_TOKENS;
    for (int64_t t = 0; t < m; t++) {
      const float *first = x + (s->past_hops - s->window_past + (from + t) * s->stride) * columns;
      float *to = windows + t * size;
      for (int c = 0; c < bands; c += group)
        for (int hop = 0; hop <= s->window_past + s->window_ahead; hop += s->window_step) {
          float sum = 0;
          for (int g = 0; g < group; g++) sum += first[hop * columns + c + g];
          *to++ = sum / group;
        }
      for (int c = bands; c < columns; c++)
        for (int hop = 0; hop <= s->window_past + s->window_ahead; hop += s->window_step) *to++ = first[hop * columns + c];
    }
    dense(&kernel->axes, windows, size, 0, m, axes);
    dense(&kernel->centres, axes, axes_row, 0, m, weights);
    for (int64_t t = 0; t < m; t++) {
      float square = 0;
      for (int a = 0; a < axes_row; a++) square += axes[t * axes_row + a] * axes[t * axes_row + a];
      for (int c = 0; c < centres; c += VL) {
        vf near = 2.0f * v_load(weights + t * centres + c) - square;
        v_store(weights + t * centres + c, landmark_exp(v_min((vf){0}, near)));
      }
    }
    dense(&kernel->votes, weights, centres, 0, m, votes);
    for (int64_t t = 0; t < m; t++) {
      float *closed = votes + t * row + s->values - 1;
      *closed = *closed < 0 ? 0 : *closed > 1 ? 1 : *closed;
    }
    float *to = told + (from - skip) * row;
    for (int64_t i = 0; i < m * row; i++) to[i] += share * (votes[i] - to[i]);
  }
}

/* One transformer; its [tokens - skip, values padded] are added to `told`. The buffers hold what their names say. */
static int landmark_member(const landmark_sizes *s, dense_reader *reader, const float *seen, int seen_row, int columns,
                           int64_t hops, int64_t tokens, int64_t skip, float *near, float *x, float *normal, float *wide,
                           float *scores, float *told) {
  int width = dense_padded(s->width), wide_row = dense_padded(3 * s->width), hidden = dense_padded(2 * s->width);
  dense_layer first = dense_next(reader, columns, s->width, s->near_taps);
  dense_layer second = dense_next(reader, s->width, s->width, s->far_taps);
  if (reader->left < 0) return AF_BAD_VALUE;
  int64_t rows = hops - s->near_taps + 1;
  dense(&first, seen, seen_row, seen_row, rows, near);
  landmark_gelu(near, rows * width);
  dense(&second, near, (int64_t)s->stride * width, (int64_t)s->far_step * width, tokens, x);
  int64_t left_out = 0;
  for (int l = 0; l < s->layers; l++) {
    const float *before_scale = dense_take(reader, s->width), *before_shift = dense_take(reader, s->width);
    dense_layer to_qkv = dense_next(reader, s->width, 3 * s->width, 1), from_heads = dense_next(reader, s->width, s->width, 1);
    const float *after_scale = dense_take(reader, s->width), *after_shift = dense_take(reader, s->width);
    dense_layer open = dense_next(reader, s->width, 2 * s->width, 1), close = dense_next(reader, 2 * s->width, s->width, 1);
    if (reader->left < 0) return AF_BAD_VALUE;
    landmark_norm(before_scale, before_shift, x, tokens, width, s->width, normal);
    dense(&to_qkv, normal, width, 0, tokens, wide);
    landmark_rotate(wide, tokens, wide_row, s->heads, s->width);
    if (l + 1 == s->layers) left_out = skip;
    int64_t kept = tokens - left_out;
    landmark_attend(wide, wide_row, tokens, left_out, s, scores, normal, width);
    float *mixed = wide;
    dense(&from_heads, normal, width, 0, kept, mixed);
    x += left_out * width;
    for (int64_t i = 0; i < kept * width; i++) x[i] += mixed[i];
    landmark_norm(after_scale, after_shift, x, kept, width, s->width, normal);
    dense(&open, normal, width, 0, kept, wide);
    landmark_gelu(wide, kept * hidden);
    dense(&close, wide, hidden, 0, kept, normal);
    for (int64_t i = 0; i < kept * width; i++) x[i] += normal[i];
  }
  const float *scale = dense_take(reader, s->width), *shift = dense_take(reader, s->width);
  dense_layer out = dense_next(reader, s->width, s->values, 1);
  if (reader->left < 0) return AF_BAD_VALUE;
  landmark_norm(scale, shift, x, tokens - skip, width, s->width, normal);
  dense(&out, normal, width, 0, tokens - skip, wide);
  for (int64_t i = 0; i < (tokens - skip) * dense_padded(s->values); i++) told[i] += wide[i] / s->members;
  return AF_OK;
}

/* x [hops, features] -> out [tokens - skip, values]. */
static int audio_to_landmarks(af_workspace *workspace, const int32_t *sizes, float share, float beside_share,
                              const float *parameters, int64_t count, const float *x, int64_t hops, int64_t skip, float *out) {
  landmark_sizes all;
  memcpy(&all, sizes, sizeof all);
  const landmark_sizes *s = &all;
  int64_t tokens = (hops - s->past_hops - s->ahead_hops - 1) / s->stride + 1;
  int columns = (s->kept ? s->kept : s->main) + s->others, beside_columns = s->beside_kept + s->others;
  dense_reader reader = {parameters, count};
  dense_layer turn = {0}, turn_beside = {0};
  if (s->kept) turn = dense_next(&reader, s->main, s->kept, 1);
  if (s->beside) turn_beside = dense_next(&reader, s->beside, s->beside_kept, 1);
  if (reader.left < 0) return AF_BAD_VALUE;
  int turn_row = dense_padded(s->kept > s->beside_kept ? s->kept : s->beside_kept);
  int width = dense_padded(s->width), wide = dense_padded(3 * s->width), row = dense_padded(s->values);
  if (row > wide) wide = row;
  int taps = (s->window_past + s->window_ahead) / s->window_step + 1;
  int most_columns = columns > beside_columns ? columns : beside_columns;
  int axes = dense_padded(s->axes > s->beside_axes ? s->axes : s->beside_axes);
  int64_t parts[] = {hops * columns, hops * beside_columns, hops * turn_row, hops * width, tokens * width, tokens * width,
                     tokens * wide, s->past_tokens + 1, (tokens - skip) * row, LANDMARK_TOKENS * (int64_t)most_columns * taps,
                     LANDMARK_TOKENS * (int64_t)axes, LANDMARK_TOKENS * (int64_t)dense_padded(s->centres)};
  enum { SEEN, BESIDE, TURNED, NEAR, TOKENS, NORMAL, WIDE, SCORES, TOLD, WINDOWS, AXES, WEIGHTS, PARTS };
  float *buffers[PARTS];
  int64_t size = 0;
  for (int i = 0; i < PARTS; i++) size += (parts[i] + LANES - 1) / LANES * LANES;
  buffers[0] = af_reserve(&workspace->slots[AF_SLOT_ROWS], (size_t)size * sizeof(float));
  if (!buffers[0]) return AF_NO_MEMORY;
  for (int i = 1; i < PARTS; i++) buffers[i] = buffers[i - 1] + (parts[i - 1] + LANES - 1) / LANES * LANES;
  if (s->kept) dense(&turn, x, s->features, 0, hops, buffers[TURNED]);
  for (int64_t h = 0; h < hops; h++) {
    float *to = buffers[SEEN] + h * columns;
    const float *from = s->kept ? buffers[TURNED] + h * dense_padded(s->kept) : x + h * s->features;
    memcpy(to, from, (size_t)(columns - s->others) * sizeof(float));
    memcpy(to + columns - s->others, x + (h + 1) * s->features - s->others, (size_t)s->others * sizeof(float));
    if (!s->pitch) to[columns - s->others + 1] = to[columns - s->others + 2] = 0;
  }
  memset(buffers[TOLD], 0, (size_t)parts[TOLD] * sizeof(float));
  for (int i = 0; i < s->members; i++) {
    int status = landmark_member(s, &reader, buffers[SEEN], columns, columns, hops, tokens, skip, buffers[NEAR],
                                 buffers[TOKENS], buffers[NORMAL], buffers[WIDE], buffers[SCORES], buffers[TOLD]);
    if (status) return status;
  }
  for (int64_t t = 0; t < tokens - skip; t++) {
    float *closed = buffers[TOLD] + t * row + s->values - 1;
    *closed = 1 / (1 + expf(-*closed));
  }
  landmark_kernel kernel = landmark_kernel_next(&reader, s, columns, s->group, s->axes);
  landmark_kernel second = {0};
  if (s->beside) second = landmark_kernel_next(&reader, s, beside_columns, 1, s->beside_axes);
  if (reader.left) return AF_BAD_VALUE;
  landmark_votes(&kernel, s, buffers[SEEN], columns, s->group, skip, tokens, share, buffers[WINDOWS], buffers[AXES],
                 buffers[WEIGHTS], buffers[TOLD]);
  if (s->beside) {
    dense(&turn_beside, x + s->main, s->features, 0, hops, buffers[TURNED]);
    for (int64_t h = 0; h < hops; h++) {
      float *to = buffers[BESIDE] + h * beside_columns;
      memcpy(to, buffers[TURNED] + h * dense_padded(s->beside_kept), (size_t)s->beside_kept * sizeof(float));
      memcpy(to + s->beside_kept, x + (h + 1) * s->features - s->others, (size_t)s->others * sizeof(float));
      if (!s->pitch) to[s->beside_kept + 1] = to[s->beside_kept + 2] = 0;
    }
    landmark_votes(&second, s, buffers[BESIDE], beside_columns, 1, skip, tokens, beside_share, buffers[WINDOWS],
                   buffers[AXES], buffers[WEIGHTS], buffers[TOLD]);
  }
  for (int64_t t = 0; t < tokens - skip; t++)
    memcpy(out + t * s->values, buffers[TOLD] + t * row, (size_t)s->values * sizeof(float));
  return AF_OK;
}
