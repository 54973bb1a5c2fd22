/* The C interface of the library: picks an instruction set once, then passes every call on. */
#include <math.h>
#include <stdlib.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <string.h>

#if AF_HAVE_AVX2
#include <cpuid.h>
#endif

#include "cpu/table.h"
#include "shared/constants.h"
#include "shared/field.h"

#define AF_ABI_VERSION 9
#define AF_API __attribute__((visibility("default")))

extern const af_table af_table_baseline;
#if AF_HAVE_AVX2
extern const af_table af_table_avx2;
#endif
#if AF_HAVE_AVX512
extern const af_table af_table_avx512;
#endif

static const af_table *chosen;

#if AF_HAVE_AVX2
/* __builtin_cpu_supports knows "f16c" in recent compilers only. */
static int has_half_conversion(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1;
}
#endif

static const af_table *find(const char *name) {
#if AF_HAVE_AVX512
  if (!strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("fma") && has_half_conversion()
               ? &af_table_avx512
               : 0;
#endif
#if AF_HAVE_AVX2
  if (!strcmp(name, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") &&
                   has_half_conversion()
               ? &af_table_avx2
               : 0;
#endif
  return strcmp(name, "baseline") ? 0 : &af_table_baseline;
}

static const af_table *table(void) {
  if (!chosen) {
#if AF_HAVE_AVX2
    __builtin_cpu_init();
#endif
    const af_table *best = find("avx512");
    if (!best) best = find("avx2");
    chosen = best ? best : &af_table_baseline;
  }
  return chosen;
}

AF_API int af_abi_version(void) { return AF_ABI_VERSION; }

AF_API const char *af_isa(void) { return table()->name; }

/* 0 when taken; 1 when this build or this machine lacks it. */
AF_API int af_set_isa(const char *name) {
  table();
  const af_table *wanted = find(name);
  if (wanted) chosen = wanted;
  return !wanted;
}

AF_API int af_threads(void) { return af_thread_count(); }

AF_API int af_set_threads(int count) {
  af_set_thread_count(count);
  return AF_OK;
}

AF_API af_workspace *af_workspace_create(void) {
  af_workspace *workspace = calloc(1, sizeof *workspace);
  if (workspace) workspace->binned_splats = -1;
  return workspace;
}

AF_API void af_workspace_destroy(af_workspace *workspace) {
  if (!workspace) return;
  for (int i = 0; i < AF_SLOT_COUNT; i++) af_release(&workspace->slots[i]);
  for (int i = 0; i < AF_MAX_THREADS; i++) {
    af_release(&workspace->spans[i]);
    af_release(&workspace->scratch[i]);
  }
  free(workspace);
}

/* Writes the seconds that each stage took when it last ran in this workspace, in the order of AF_STAGE_*, then the pairs
   listed and looked at by the last forward pass; returns how many numbers that is. */
AF_API int af_workspace_profile(const af_workspace *workspace, double *out, int capacity) {
  for (int i = 0; i < AF_STAGE_COUNT && i < capacity; i++) out[i] = workspace->stage_seconds[i];
  if (AF_STAGE_COUNT + 2 <= capacity) {
    out[AF_STAGE_COUNT] = (double)workspace->pairs_binned;
    out[AF_STAGE_COUNT + 1] = (double)workspace->pairs_composited;
  }
  return AF_STAGE_COUNT + 2;
}

/* `name` is a number of shared/constants.h; 0 for an unknown name. For the test that holds layout.py against it. */
AF_API double af_constant(const char *name) {
  static const struct { const char *name; double value; } constants[] = {
      {"ATTRIBUTE_COUNT", AF_ATTRIBUTES}, {"SPLAT_COUNT", AF_SPLAT},
      {"CULLED_DEPTH", AF_CULLED_DEPTH}, {"NEAR_CM", AF_NEAR_CM},
      {"DILATION_PX2", AF_DILATION_PX2}, {"TANGENT_MARGIN", AF_TANGENT_MARGIN},
      {"SUPPORT_SIGMAS", AF_SUPPORT_SIGMAS}, {"ALPHA_MAX", AF_ALPHA_MAX},
      {"ALPHA_MIN", AF_ALPHA_MIN}, {"TRANSMITTANCE_MIN", AF_TRANSMITTANCE_MIN},
      {"SSIM_WINDOW", 2 * AF_SSIM_HALF + 1}, {"SSIM_C1", AF_SSIM_C1}, {"SSIM_C2", AF_SSIM_C2},
      {"GRID_LEVELS_MAX", AF_GRID_LEVELS_MAX}, {"GRID_FEATURES_MAX", AF_GRID_FEATURES_MAX},
      {"GRID_RESOLUTION_MAX", AF_GRID_RESOLUTION_MAX}, {"GRID_ROWS_LOG2_MAX", AF_GRID_ROWS_LOG2_MAX},
      {"MLP_LAYERS_MAX", AF_MLP_LAYERS_MAX}, {"MLP_WIDTH_MAX", AF_MLP_WIDTH_MAX},
      {"FIELD_DENSITY", AF_FIELD_DENSITY}, {"FIELD_LOCAL", AF_FIELD_LOCAL},
      {"FIELD_LOG_DENSITY_MAX", AF_FIELD_LOG_DENSITY_MAX},
      {"HASH_PRIME_Y", AF_HASH_PRIME_Y}, {"HASH_PRIME_Z", AF_HASH_PRIME_Z},
  };
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
    if (!strcmp(name, constants[i].name)) return constants[i].value;
  return 0;
}

/* Process-wide: blocks of up to 1 GiB stay with malloc when freed. 0 when it took hold. */
AF_API int af_keep_freed_memory(void) {
#if defined(__GLIBC__)
  return !(mallopt(M_MMAP_THRESHOLD, 1 << 30) && mallopt(M_TRIM_THRESHOLD, 1 << 30));
#else
  return 1;
#endif
}

static int groups_fit(const int32_t *group, int64_t n, int groups) {
  int outside = 0;
  for (int64_t i = 0; i < n; i++) outside |= (uint32_t)group[i] >= (uint32_t)groups;
  return !outside;
}

/* For what is small: a pose, a frame's weights. Rows of Gaussians that are not finite are not drawn instead. */
static int all_finite(const float *values, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (!isfinite(values[i])) return 0;
  return 1;
}

AF_API int af_blend(const float *base, const float *deltas, const float *weights, const int32_t *group, int64_t n, int k,
                    int groups, float *out) {
  if (!groups_fit(group, n, groups)) return AF_BAD_VALUE;
  if (!all_finite(weights, (int64_t)groups * k)) return AF_NOT_FINITE;
  return table()->blend(base, deltas, weights, group, n, k, groups, out);
}

/* The same with deltas in half precision (IEEE binary16). */
AF_API int af_blend_half(const float *base, const uint16_t *deltas, const float *weights, const int32_t *group,
                         int64_t n, int k, int groups, float *out) {
  if (!groups_fit(group, n, groups)) return AF_BAD_VALUE;
  if (!all_finite(weights, (int64_t)groups * k)) return AF_NOT_FINITE;
  return table()->blend_half(base, deltas, weights, group, n, k, groups, out);
}

/* Either gradient may be null; weights may be null where grad_deltas is. */
AF_API int af_blend_backward(const float *grad, const float *deltas, const float *weights, const int32_t *group,
                             int64_t n, int k, int groups, float *grad_deltas, float *grad_weights) {
  if (!groups_fit(group, n, groups)) return AF_BAD_VALUE;
  return table()->blend_backward(grad, deltas, weights, group, n, k, groups, grad_deltas, grad_weights);
}

AF_API int af_blend_adam_step(float *base, float *deltas, float *base_first, float *base_second, float *deltas_first,
                              float *deltas_second, const float *grad, const float *weights, const int32_t *group,
                              int64_t n, int k, int groups, const float *lr, const float *delta_lr, double beta1,
                              double beta2, float eps, float first_factor, float root_factor, float delta_weight_decay,
                              float *grad_weights) {
  if (!groups_fit(group, n, groups)) return AF_BAD_VALUE;
  return table()->blend_adam_step(base, deltas, base_first, base_second, deltas_first, deltas_second, grad, weights,
                                  group, n, k, groups, lr, delta_lr, beta1, beta2, eps, first_factor, root_factor,
                                  delta_weight_decay, grad_weights);
}

AF_API int af_project(const float *attributes, const float *skin, const float *head, const float *torso, int64_t n,
                      float focal, float center_x, float center_y, int width, int height, float *splats) {
  if (!all_finite(head, 12) || !all_finite(torso, 12)) return AF_NOT_FINITE;
  return table()->project(attributes, skin, head, torso, n, focal, center_x, center_y, width, height, splats);
}

AF_API int af_project_backward(const float *attributes, const float *skin, const float *head, const float *torso,
                               int64_t n, float focal, float center_x, float center_y, int width, int height,
                               const float *grad, float *grad_attributes, float *grad_skin, float *grad_head,
                               float *grad_torso) {
  return table()->project_backward(attributes, skin, head, torso, n, focal, center_x, center_y, width, height, grad,
                                   grad_attributes, grad_skin, grad_head, grad_torso);
}

AF_API int af_rasterise(af_workspace *workspace, const float *splats, int64_t n, int height, int width, float *image) {
  return table()->rasterise(workspace, splats, n, height, width, image);
}

AF_API int af_rasterise_backward(af_workspace *workspace, const float *splats, int64_t n, int height, int width,
                                 const float *image, const float *grad_image, float *grad_splats) {
  return table()->rasterise_backward(workspace, splats, n, height, width, image, grad_image, grad_splats);
}

AF_API int af_rasterise_over(af_workspace *workspace, const float *splats, int64_t n, int height, int width,
                             const uint8_t *background, uint8_t *out) {
  return table()->rasterise_over(workspace, splats, n, height, width, background, out);
}

static int render_over(af_workspace *workspace, const float *base, const float *deltas, const uint16_t *halves,
                       const float *weights, const int32_t *group, int64_t n, int k, int groups, const float *skin,
                       const float *head, const float *torso, float focal, float center_x, float center_y, int width,
                       int height, const uint8_t *background, uint8_t *out) {
  if (!groups_fit(group, n, groups)) return AF_BAD_VALUE;
  if (!all_finite(weights, (int64_t)groups * k) || !all_finite(head, 12) || !all_finite(torso, 12))
    return AF_NOT_FINITE;
  const af_table *t = table();
  float *attributes = af_reserve(&workspace->slots[AF_SLOT_ATTRIBUTES], (size_t)n * AF_ATTRIBUTES * sizeof(float));
  float *splats = af_reserve(&workspace->slots[AF_SLOT_SPLATS], (size_t)n * AF_SPLAT * sizeof(float));
  if (!attributes || !splats) return AF_NO_MEMORY;
  double clock = af_seconds();
  int status = halves ? t->blend_half(base, halves, weights, group, n, k, groups, attributes)
                      : t->blend(base, deltas, weights, group, n, k, groups, attributes);
  clock = af_stage_ends(workspace, AF_STAGE_BLEND, clock);
  if (!status)
    status = t->project(attributes, skin, head, torso, n, focal, center_x, center_y, width, height, splats);
  af_stage_ends(workspace, AF_STAGE_PROJECT, clock);
  if (!status) status = t->rasterise_over(workspace, splats, n, height, width, background, out);
  return status;
}

AF_API int af_render_over(af_workspace *workspace, const float *base, const float *deltas, const float *weights,
                          const int32_t *group, int64_t n, int k, int groups, const float *skin, const float *head,
                          const float *torso, float focal, float center_x, float center_y, int width, int height,
                          const uint8_t *background, uint8_t *out) {
  return render_over(workspace, base, deltas, 0, weights, group, n, k, groups, skin, head, torso, focal, center_x,
                     center_y, width, height, background, out);
}

/* The same with deltas in half precision (IEEE binary16). */
AF_API int af_render_over_half(af_workspace *workspace, const float *base, const uint16_t *deltas, const float *weights,
                               const int32_t *group, int64_t n, int k, int groups, const float *skin, const float *head,
                               const float *torso, float focal, float center_x, float center_y, int width, int height,
                               const uint8_t *background, uint8_t *out) {
  return render_over(workspace, base, 0, deltas, weights, group, n, k, groups, skin, head, torso, focal, center_x,
                     center_y, width, height, background, out);
}

AF_API int af_l1_dssim(af_workspace *workspace, const float *image, const float *target, const float *weight,
                       const float *background, int height, int width, float dssim_fraction, float *loss, float *grad) {
  return table()->l1_dssim(workspace, image, target, weight, background, height, width, dssim_fraction, loss, grad);
}

/* points [n, dimensions], rows [offsets[levels], features], resolutions [levels], offsets [levels + 1],
   out [n, levels * features]. */
AF_API int af_hash_encode(const float *points, int64_t n, int dimensions, const float *rows, int features,
                          const int32_t *resolutions, const int64_t *offsets, int levels, float *out) {
  af_grid grid;
  if (!af_grid_prepare(&grid, dimensions, features, resolutions, offsets, levels)) return AF_BAD_VALUE;
  return table()->hash_encode(&grid, points, n, rows, out);
}

/* Either gradient may be null. */
AF_API int af_hash_encode_backward(const float *points, int64_t n, int dimensions, const float *rows, int features,
                                   const int32_t *resolutions, const int64_t *offsets, int levels, const float *grad,
                                   float *grad_table, float *grad_points) {
  af_grid grid;
  if (!af_grid_prepare(&grid, dimensions, features, resolutions, offsets, levels)) return AF_BAD_VALUE;
  return table()->hash_encode_backward(&grid, points, n, rows, grad, grad_table, grad_points);
}

AF_API int af_composite_rays(const float *sigma, const float *color, const float *t, const float *lengths,
                             const int64_t *offsets, int64_t rays, int channels, float *out, float *alpha, float *depth,
                             float *weights) {
  return table()->composite_rays(sigma, color, t, lengths, offsets, rays, channels, out, alpha, depth, weights);
}

AF_API int af_composite_rays_backward(const float *sigma, const float *color, const float *t, const float *lengths,
                                      const int64_t *offsets, int64_t rays, int channels, const float *weights,
                                      const float *grad_out, const float *grad_alpha, const float *grad_depth,
                                      const float *grad_weights, float *grad_sigma, float *grad_color) {
  return table()->composite_rays_backward(sigma, color, t, lengths, offsets, rays, channels, weights, grad_out, grad_alpha,
                                     grad_depth, grad_weights, grad_sigma, grad_color);
}

/* x [n, widths[0]], widths [layers + 1], parameters as shared/fused_mlp.h has them, out [n, widths[layers]]. */
AF_API int af_fused_mlp(af_workspace *workspace, const float *x, int64_t n, const int32_t *widths, int layers,
                        const float *parameters, float *out) {
  af_mlp mlp;
  if (!af_mlp_prepare(&mlp, widths, layers)) return AF_BAD_VALUE;
  return table()->fused_mlp(workspace, &mlp, x, n, parameters, out);
}

/* Either gradient may be null. */
AF_API int af_fused_mlp_backward(af_workspace *workspace, const float *x, int64_t n, const int32_t *widths, int layers,
                                 const float *parameters, const float *grad, float *grad_x, float *grad_parameters) {
  af_mlp mlp;
  if (!af_mlp_prepare(&mlp, widths, layers)) return AF_BAD_VALUE;
  return table()->fused_mlp_backward(workspace, &mlp, x, n, parameters, grad, grad_x, grad_parameters);
}

/* How many samples each ray keeps. What it keeps stays in the workspace until the next call that uses it. */
AF_API int af_march_rays_count(af_workspace *workspace, const float *origins, const float *directions,
                               const float *nearest, const float *farthest, const float *jitter, int64_t rays,
                               const float *box, const uint64_t *words, const uint64_t *coarse, int resolution,
                               float step, int most, int32_t *counts) {
  af_march_rays given = {origins, directions, nearest, farthest, jitter, rays,
                         af_make_march_grid(box, resolution, step, words, coarse)};
  return table()->march_count(workspace, &given, most, counts);
}

/* Of the same rays, right after af_march_rays_count; offsets [rays + 1] are the sums of its counts. */
AF_API int af_march_rays_write(af_workspace *workspace, const float *origins, const float *directions,
                               const float *nearest, const float *farthest, const float *jitter, int64_t rays,
                               const float *box, const uint64_t *words, const uint64_t *coarse, int resolution,
                               float step, const int64_t *offsets, float *positions, float *t, float *lengths) {
  af_march_rays given = {origins, directions, nearest, farthest, jitter, rays,
                         af_make_march_grid(box, resolution, step, words, coarse)};
  return table()->march_write(workspace, &given, offsets, positions, t, lengths);
}

static int grid_if_any(af_grid *grid, int dimensions, int features, const int32_t *resolutions, const int64_t *offsets,
                       int levels) {
  if (levels) return af_grid_prepare(grid, dimensions, features, resolutions, offsets, levels);
  grid->levels = 0;
  return 1;
}

/* What rays [rays] see of a field: out [rays, 4], premultiplied colour and alpha. positions [samples, 3], lengths [samples] and
   offsets [rays + 1] as from af_march_rays_write, place [4]: the box's lowest corner and side. Grids as in af_hash_encode: the
   motion's one dense level of AF_ATTRIBUTES features, one in space and one of each of three planes; either of the latter may
   have no levels. Perceptrons as in af_fused_mlp. */
AF_API int af_see_field(af_workspace *workspace, const float *positions, const float *lengths, const int64_t *offsets,
                        int64_t rays, const float *place, const float *motion, int motion_cells, const float *space_rows,
                        int space_features, const int32_t *space_resolutions, const int64_t *space_offsets,
                        int space_levels, const float *plane_rows, int plane_features, const int32_t *plane_resolutions,
                        const int64_t *plane_offsets, int plane_levels, const int32_t *density_widths,
                        int density_layers, const float *density_parameters, const int32_t *colour_widths,
                        int colour_layers, const float *colour_parameters, const float *seen, int seen_count,
                        float colour_from, float *out) {
  af_field field = {.side = place[3], .motion = motion, .table = space_rows, .planes = plane_rows,
                    .density_parameters = density_parameters, .colour_parameters = colour_parameters, .seen = seen,
                    .seen_count = seen_count, .colour_from = colour_from};
  memcpy(field.low, place, sizeof field.low);
  int64_t across = (int64_t)motion_cells + 1, motion_offsets[] = {0, across * across * across};
  if (!af_grid_prepare(&field.motion_grid, 3, AF_ATTRIBUTES, &motion_cells, motion_offsets, 1) ||
      !grid_if_any(&field.space, 3, space_features, space_resolutions, space_offsets, space_levels) ||
      !grid_if_any(&field.plane, 2, plane_features, plane_resolutions, plane_offsets, plane_levels) ||
      !af_mlp_prepare(&field.density, density_widths, density_layers) ||
      !af_mlp_prepare(&field.colour, colour_widths, colour_layers) || field.colour.widths[colour_layers] != 3 ||
      field.density.widths[0] != AF_FIELD_TOLD + space_levels * space_features + 3 * plane_levels * plane_features ||
      field.colour.widths[0] != field.density.widths[density_layers] - 1 + AF_FIELD_TOLD + seen_count)
    return AF_BAD_VALUE;
  return table()->see_field(workspace, &field, positions, lengths, offsets, rays, out);
}

/* Rows of the phoneme encoder, out [n, bottleneck + classes] of bands [n, inputs]; `past` holds what it keeps between calls.
   sizes, the parameters' order and the past's: cpu/phoneme_rows.h. */
AF_API int af_phoneme_rows(af_workspace *workspace, const int32_t *sizes, const float *parameters, int64_t count, float *past,
                           const float *rows, int64_t n, float *out) {
  return table()->phoneme_rows(workspace, sizes, parameters, count, past, rows, n, out);
}

/* What the network makes of hops [hops, features]: out [tokens - skip, values]; sizes and the parameters' order:
   cpu/audio_to_landmarks.h. */
AF_API int af_audio_to_landmarks(af_workspace *workspace, const int32_t *sizes, float share, float beside_share,
                                 const float *parameters, int64_t count, const float *x, int64_t hops, int64_t skip,
                                 float *out) {
  return table()->audio_to_landmarks(workspace, sizes, share, beside_share, parameters, count, x, hops, skip, out);
}
