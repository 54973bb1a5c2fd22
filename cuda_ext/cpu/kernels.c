/* Every kernel, compiled once for each instruction set with AF_ISA naming it. One translation unit, so all is static. */
#include "cpu/table.h"

#include "cpu/simd.h"

#include "cpu/dense.h"

#include "cpu/audio_to_landmarks.h"
#include "cpu/blend.h"
#include "cpu/hash_encode.h"
#include "cpu/composite.h"
#include "cpu/fused_mlp.h"
#include "cpu/field.h"
#include "cpu/loss.h"
#include "cpu/phoneme_rows.h"
#include "cpu/project.h"
#include "cpu/raster_bins.h"
#include "cpu/rasterise.h"

#define AF_JOIN_(a, b) a##b
#define AF_JOIN(a, b) AF_JOIN_(a, b)
#define AF_TEXT_(a) #a
#define AF_TEXT(a) AF_TEXT_(a)

/* march_kernels.c is compiled by itself, without contraction. */
int AF_JOIN(af_march_count_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, int most, int32_t *counts);
int AF_JOIN(af_march_write_, AF_ISA)(af_workspace *workspace, const af_march_rays *rays, const int64_t *offsets,
                                     float *positions, float *t, float *lengths);

extern const af_table AF_JOIN(af_table_, AF_ISA);
const af_table AF_JOIN(af_table_, AF_ISA) = {
    .name = AF_TEXT(AF_ISA),
    .blend = blend,
    .blend_half = blend_half,
    .blend_backward = blend_backward,
    .blend_adam_step = blend_adam_step,
    .project = project,
    .project_backward = project_backward,
    .rasterise = rasterise,
    .rasterise_backward = rasterise_backward,
    .rasterise_over = rasterise_over,
    .l1_dssim = l1_dssim,
    .hash_encode = hash_encode,
    .hash_encode_backward = hash_encode_backward,
    .composite_rays = composite_rays,
    .composite_rays_backward = composite_rays_backward,
    .march_count = AF_JOIN(af_march_count_, AF_ISA),
    .march_write = AF_JOIN(af_march_write_, AF_ISA),
    .fused_mlp = fused_mlp,
    .fused_mlp_backward = fused_mlp_backward,
    .see_field = see_field,
    .phoneme_rows = phoneme_rows,
    .audio_to_landmarks = audio_to_landmarks,
};
