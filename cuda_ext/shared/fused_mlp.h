/* Small multi-layer perceptrons: where each layer's weights and biases lie in one run of parameters. avatarfit/ops/fused_mlp.py
   states the same. */
#ifndef AF_FUSED_MLP_H
#define AF_FUSED_MLP_H

#include <stdint.h>

#define AF_MLP_LAYERS_MAX 4
#define AF_MLP_WIDTH_MAX 128

typedef struct {
  int32_t layers, count;                        /* count: of all parameters */
  int32_t widths[AF_MLP_LAYERS_MAX + 1];        /* the input's, then each layer's output's */
  int32_t weights[AF_MLP_LAYERS_MAX];           /* where layer l's [widths[l + 1], widths[l]] begin */
  int32_t biases[AF_MLP_LAYERS_MAX];            /* where its [widths[l + 1]] begin */
} af_mlp;

/* From widths [layers + 1]; 0 where these are none that the kernels take. */
static inline int af_mlp_prepare(af_mlp *mlp, const int32_t *widths, int layers) {
  if (layers < 1 || layers > AF_MLP_LAYERS_MAX) return 0;
  mlp->layers = layers;
  mlp->count = 0;
  for (int l = 0; l <= layers; l++) {
    if (widths[l] < 1 || widths[l] > AF_MLP_WIDTH_MAX) return 0;
    mlp->widths[l] = widths[l];
  }
  for (int l = 0; l < layers; l++) {
    mlp->weights[l] = mlp->count;
    mlp->biases[l] = mlp->count += widths[l] * widths[l + 1];
    mlp->count += widths[l + 1];
  }
  return 1;
}

#endif
