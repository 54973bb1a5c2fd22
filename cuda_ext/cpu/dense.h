/* Rows times a matrix, for the few rows of a live moment: what counts is that the matrix is read once, straight through. It lies
   in panels of LANES columns, one after the other, each [taps * inputs, LANES]; a row of results has LANES-padded columns.
   A row's results do not depend on the others, nor on how many there are. */
#include "cpu/table.h"

#define DENSE_ROWS 4

typedef struct {
  int inputs, outputs, taps;
  const float *bias;   /* [outputs padded] */
  const float *panels; /* [outputs padded / LANES, taps * inputs, LANES] */
} dense_layer;

/* Takes parameters in their order; `left` falls below 0 where there are too few. */
typedef struct {
  const float *at;
  int64_t left;
} dense_reader;

INLINE int dense_padded(int outputs) { return (outputs + LANES - 1) / LANES * LANES; }

INLINE const float *dense_take(dense_reader *reader, int64_t count) {
  const float *from = reader->at;
  reader->left -= count;
  reader->at += reader->left < 0 ? 0 : count;
  return from;
}

INLINE dense_layer dense_next(dense_reader *reader, int inputs, int outputs, int taps) {
  dense_layer layer = {inputs, outputs, taps, 0, 0};
  layer.bias = dense_take(reader, dense_padded(outputs));
  layer.panels = dense_take(reader, (int64_t)dense_padded(outputs) * inputs * taps);
  return layer;
}

INLINE void dense_tile(const dense_layer *layer, const float *x, int64_t row_step, int64_t tap_step, int64_t column,
                       float *out, int rows) {
  vf sums[DENSE_ROWS][VECTORS];
  int64_t depth = layer->inputs, out_row = dense_padded(layer->outputs);
  const float *panel = layer->panels + column * depth * layer->taps;
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) sums[r][v] = v_load(layer->bias + column + v * VL);
  for (int tap = 0; tap < layer->taps; tap++, x += tap_step)
    for (int64_t k = 0; k < depth; k++, panel += LANES) {
      vf columns[VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) columns[v] = v_load(panel + v * VL);
#pragma GCC unroll 4
      for (int r = 0; r < rows; r++) {
        vf row = v_set(x[r * row_step + k]);
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sums[r][v] += row * columns[v];
      }
    }
#pragma GCC unroll 4
  for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) v_store(out + r * out_row + column + v * VL, sums[r][v]);
}

/* out [rows, outputs padded]: row r is made of `taps` stretches of `inputs` numbers, tap_step apart, from x + r * row_step on. */
static __attribute__((noinline)) void dense(const dense_layer *layer, const float *x, int64_t row_step, int64_t tap_step,
                                            int64_t rows, float *out) {
  int out_row = dense_padded(layer->outputs);
  for (int64_t column = 0; column < out_row; column += LANES) {
    int64_t r = 0;
    for (; r + DENSE_ROWS <= rows; r += DENSE_ROWS)
      dense_tile(layer, x + r * row_step, row_step, tap_step, column, out + r * out_row, DENSE_ROWS);
    x += r * row_step, out += r * out_row;
    switch (rows - r) {
      case 1: dense_tile(layer, x, row_step, tap_step, column, out, 1); break;
      case 2: dense_tile(layer, x, row_step, tap_step, column, out, 2); break;
      case 3: dense_tile(layer, x, row_step, tap_step, column, out, 3); break;
      default: break;
    }
    x -= r * row_step, out -= r * out_row;
  }
}
