/* The phoneme encoder of avatarfit.audio.phoneme_encoder as sound comes: dilated convolutions, each of which keeps the rows of
   its past. Rows come and go one for one; what a row hears ahead makes the result's row a later one's. */
#define PHONEME_CHUNK 32

/* What the sizes tell: inputs, width, bottleneck, classes, taps of the first convolution, blocks, and of each block its dilation
   and the hops it hears ahead. Blocks have three taps. */
enum { PHONEME_INPUTS, PHONEME_WIDTH, PHONEME_NARROW, PHONEME_CLASSES, PHONEME_TAPS, PHONEME_BLOCKS, PHONEME_SIZES };

static int phoneme_rows(af_workspace *workspace, const int32_t *sizes, const float *parameters, int64_t count, float *past,
                        const float *rows, int64_t n, float *out) {
  int inputs = sizes[PHONEME_INPUTS], narrow = sizes[PHONEME_NARROW], classes = sizes[PHONEME_CLASSES];
  int blocks = sizes[PHONEME_BLOCKS], width = dense_padded(sizes[PHONEME_WIDTH]);
  const int32_t *dilations = sizes + PHONEME_SIZES;
  int64_t most = (int64_t)(sizes[PHONEME_TAPS] - 1 + PHONEME_CHUNK) * inputs;
  for (int i = 0; i < blocks; i++) {
    int64_t joined = (int64_t)(2 * dilations[2 * i] + PHONEME_CHUNK) * width;
    most = joined > most ? joined : most;
  }
  int wide = width;
  if (dense_padded(narrow) > wide) wide = dense_padded(narrow);
  if (dense_padded(classes) > wide) wide = dense_padded(classes);
  if (most < PHONEME_CHUNK * (int64_t)wide) most = PHONEME_CHUNK * (int64_t)wide;
  float *joined = af_reserve(&workspace->slots[AF_SLOT_ROWS], (most + 2 * PHONEME_CHUNK * (int64_t)wide) * sizeof(float));
  if (!joined) return AF_NO_MEMORY;
  float *heard = joined + most, *mixed = heard + PHONEME_CHUNK * (int64_t)wide;
  for (int64_t from = 0; from < n; from += PHONEME_CHUNK) {
    int m = n - from < PHONEME_CHUNK ? (int)(n - from) : PHONEME_CHUNK;
    dense_reader reader = {parameters, count};
    float *kept = past;
    for (int i = -1; i < blocks; i++) {
      const float *x = i < 0 ? rows + from * inputs : i ? mixed : heard;
      int channels = i < 0 ? inputs : width, taps = i < 0 ? sizes[PHONEME_TAPS] : 3;
      int dilation = i < 0 ? 1 : dilations[2 * i], reach = (taps - 1) * dilation;
      dense_layer layer = dense_next(&reader, i < 0 ? inputs : sizes[PHONEME_WIDTH], sizes[PHONEME_WIDTH], taps);
      if (reader.left < 0) return AF_BAD_VALUE;
      memcpy(joined, kept, (size_t)reach * channels * sizeof(float));
      memcpy(joined + (int64_t)reach * channels, x, (size_t)m * channels * sizeof(float));
      memcpy(kept, joined + (int64_t)m * channels, (size_t)reach * channels * sizeof(float));
      kept += (int64_t)reach * channels;
      dense(&layer, joined, channels, (int64_t)dilation * channels, m, heard);
      for (int k = 0; k < m * width; k += VL) v_store(heard + k, v_max((vf){0}, v_load(heard + k)));
      if (i < 0) continue;
      dense_layer mix = dense_next(&reader, sizes[PHONEME_WIDTH], sizes[PHONEME_WIDTH], 1);
      if (reader.left < 0) return AF_BAD_VALUE;
      dense(&mix, heard, width, 0, m, mixed);
      const float *beside = joined + (int64_t)(reach - dilations[2 * i + 1]) * width;
      for (int k = 0; k < m * width; k += VL) v_store(mixed + k, v_load(mixed + k) + v_load(beside + k));
    }
    dense_layer to_narrow = dense_next(&reader, sizes[PHONEME_WIDTH], narrow, 1);
    dense_layer to_classes = dense_next(&reader, narrow, classes, 1);
    if (reader.left) return AF_BAD_VALUE;
    dense(&to_narrow, blocks ? mixed : heard, width, 0, m, joined);
    int row = dense_padded(narrow), class_row = dense_padded(classes);
    for (int k = 0; k < m * row; k++) joined[k] = tanhf(joined[k]);
    dense(&to_classes, joined, row, 0, m, heard);
    for (int r = 0; r < m; r++) {
      float *to = out + (from + r) * (narrow + classes), *told = heard + r * class_row;
      memcpy(to, joined + r * row, (size_t)narrow * sizeof(float));
      float highest = told[0], sum = 0;
      for (int c = 1; c < classes; c++) highest = told[c] > highest ? told[c] : highest;
      for (int c = 0; c < classes; c++) sum += told[c] = expf(told[c] - highest);
      for (int c = 0; c < classes; c++) to[narrow + c] = told[c] / sum;
    }
  }
  return AF_OK;
}
