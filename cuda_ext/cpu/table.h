/* The operations of one instruction set. api.c holds the chosen table; kernels.c fills one each time it is compiled. */
#ifndef AF_TABLE_H
#define AF_TABLE_H

#include <stdint.h>

#include "cpu/workspace.h"
#include "shared/fused_mlp.h"
#include "shared/hash_grid.h"
#include "shared/march.h"

enum { AF_OK = 0, AF_BAD_VALUE = 1, AF_NO_MEMORY = 2, AF_NOT_FINITE = 3 };

typedef struct {
  const float *origins, *directions, *nearest, *farthest, *jitter; /* jitter: null for the middle of each interval */
  int64_t count;
  af_march_grid grid;
} af_march_rays;

/* A radiance field in one frame: cpu/field.h. A grid of no levels is left out. */
typedef struct {
  float low[3], side; /* of the box, a cube */
  af_grid motion_grid, space, plane;
  const float *motion, *table, *planes; /* rows of the three grids; of planes three times as many */
  af_mlp density, colour;
  const float *density_parameters, *colour_parameters, *seen; /* seen: the colour's last inputs, the same everywhere */
  int seen_count;
  float colour_from; /* samples that are seen less are not coloured */
} af_field;

typedef struct {
  const char *name;
  int (*blend)(const float *base, const float *deltas, const float *weights, const int32_t *group, int64_t n, int k,
               int groups, float *out);
  int (*blend_half)(const float *base, const uint16_t *deltas, const float *weights, const int32_t *group, int64_t n,
                    int k, int groups, float *out);
  int (*blend_backward)(const float *grad, const float *deltas, const float *weights, const int32_t *group, int64_t n,
                        int k, int groups, float *grad_deltas, float *grad_weights);
  int (*blend_adam_step)(float *base, float *deltas, float *base_first, float *base_second, float *deltas_first,
                         float *deltas_second, const float *grad, const float *weights, const int32_t *group, int64_t n,
                         int k, int groups, const float *lr, const float *delta_lr, double beta1, double beta2, float eps,
                         float first_factor, float root_factor, float delta_weight_decay, float *grad_weights);
  int (*project)(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                 float focal, float center_x, float center_y, int width, int height, float *splats);
  int (*project_backward)(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                          float focal, float center_x, float center_y, int width, int height, const float *grad,
                          float *grad_attributes, float *grad_skin, float *grad_head, float *grad_torso);
  int (*rasterise)(af_workspace *workspace, const float *splats, int64_t n, int height, int width, float *image);
  int (*rasterise_backward)(af_workspace *workspace, const float *splats, int64_t n, int height, int width,
                            const float *image, const float *grad_image, float *grad_splats);
  int (*rasterise_over)(af_workspace *workspace, const float *splats, int64_t n, int height, int width,
                        const uint8_t *background, uint8_t *out);
  /* With a background the image and grad have four channels, else three; grad may be null. */
  int (*l1_dssim)(af_workspace *workspace, const float *image, const float *target, const float *weight,
                  const float *background, int height, int width, float dssim_fraction, float *loss, float *grad);
  int (*hash_encode)(const af_grid *grid, const float *points, int64_t n, const float *table, float *out);
  int (*hash_encode_backward)(const af_grid *grid, const float *points, int64_t n, const float *table,
                              const float *grad, float *grad_table, float *grad_points);
  int (*composite_rays)(const float *sigma, const float *color, const float *t, const float *lengths,
                        const int64_t *offsets, int64_t rays, int channels, float *out, float *alpha, float *depth,
                        float *weights);
  /* grad_weights may be null. */
  int (*composite_rays_backward)(const float *sigma, const float *color, const float *t, const float *lengths,
                                 const int64_t *offsets, int64_t rays, int channels, const float *weights,
                                 const float *grad_out, const float *grad_alpha, const float *grad_depth,
                                 const float *grad_weights, float *grad_sigma, float *grad_color);
  int (*fused_mlp)(af_workspace *workspace, const af_mlp *mlp, const float *x, int64_t n, const float *parameters,
                   float *out);
  int (*fused_mlp_backward)(af_workspace *workspace, const af_mlp *mlp, const float *x, int64_t n,
                            const float *parameters, const float *grad, float *grad_x, float *grad_parameters);
  /* The second call makes samples of what the first left in the workspace. */
  int (*march_count)(af_workspace *workspace, const af_march_rays *rays, int most, int32_t *counts);
  int (*march_write)(af_workspace *workspace, const af_march_rays *rays, const int64_t *offsets, float *positions,
                     float *t, float *lengths);
  int (*see_field)(af_workspace *workspace, const af_field *field, const float *positions, const float *lengths,
                   const int64_t *offsets, int64_t rays, float *out);
  int (*phoneme_rows)(af_workspace *workspace, const int32_t *sizes, const float *parameters, int64_t count, float *past,
                      const float *rows, int64_t n, float *out);
  int (*audio_to_landmarks)(af_workspace *workspace, const int32_t *sizes, float share, float beside_share,
                            const float *parameters, int64_t count, const float *x, int64_t hops, int64_t skip, float *out);
} af_table;

#endif
