/* One Gaussian: linear blend skinning, perspective projection with the EWA Jacobian, and the gradient of both.
   Straight-line code on named scalars, so that a loop over Gaussians vectorises and a GPU thread keeps it in registers. */
#ifndef AF_PROJECTION_H
#define AF_PROJECTION_H

#include <math.h>

#include "shared/constants.h"
#include "shared/exponent.h"

typedef struct { float x, y, z; } af_vec3;

static AF_HD af_vec3 af_v3(float x, float y, float z) { af_vec3 r = {x, y, z}; return r; }
static AF_HD float af_dot(af_vec3 a, af_vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static AF_HD af_vec3 af_scale(af_vec3 a, float s) { return af_v3(a.x * s, a.y * s, a.z * s); }
static AF_HD af_vec3 af_add(af_vec3 a, af_vec3 b) { return af_v3(a.x + b.x, a.y + b.y, a.z + b.z); }
/* a + s b */
static AF_HD af_vec3 af_axpy(af_vec3 a, float s, af_vec3 b) { return af_v3(a.x + s * b.x, a.y + s * b.y, a.z + s * b.z); }

typedef struct {
  float focal, center_x, center_y, width, height;
  float tan_x_low, tan_x_high, tan_y_low, tan_y_high; /* clamp of the Jacobian's tangents */
} af_camera;

static AF_HD af_camera af_make_camera(float focal, float center_x, float center_y, int width, int height) {
  af_camera c;
  float margin_x = AF_TANGENT_MARGIN * (float)width, margin_y = AF_TANGENT_MARGIN * (float)height;
  c.focal = focal, c.center_x = center_x, c.center_y = center_y;
  c.width = (float)width, c.height = (float)height;
  c.tan_x_low = -(center_x + margin_x) / focal, c.tan_x_high = ((float)width - center_x + margin_x) / focal;
  c.tan_y_low = -(center_y + margin_y) / focal, c.tan_y_high = ((float)height - center_y + margin_y) / focal;
  return c;
}

/* A 3x4 affine map by rows: linear part and translation. */
typedef struct { af_vec3 r0, r1, r2, t; } af_affine;

static AF_HD af_affine af_make_affine(const float *m) {
  af_affine a = {{m[0], m[1], m[2]}, {m[4], m[5], m[6]}, {m[8], m[9], m[10]}, {m[3], m[7], m[11]}};
  return a;
}

/* skin * head + (1 - skin) * torso */
static AF_HD af_affine af_skin(float skin, af_affine head, af_affine torso) {
  float rest = 1.0f - skin;
  af_affine a;
  a.r0 = af_axpy(af_scale(torso.r0, rest), skin, head.r0);
  a.r1 = af_axpy(af_scale(torso.r1, rest), skin, head.r1);
  a.r2 = af_axpy(af_scale(torso.r2, rest), skin, head.r2);
  a.t = af_axpy(af_scale(torso.t, rest), skin, head.t);
  return a;
}

typedef struct {
  af_vec3 mean;
  float qw, qx, qy, qz;
  af_vec3 log_scale;
  float logit, red, green, blue;
} af_gaussian;

typedef struct { float mean_x, mean_y, conic_a, conic_b, conic_c, opacity, red, green, blue, depth; } af_splat;

/* What the forward pass computes on its way and the backward pass needs again. */
typedef struct {
  af_vec3 eye;                    /* the mean in the camera's frame */
  float depth, tan_x, tan_y, jac_x, jac_y, slope; /* slope = focal / depth */
  af_vec3 plane0, plane1;         /* rows of J M3, before the factor slope */
  float w, x, y, z, q_inverse;    /* unit quaternion, reciprocal length */
  af_vec3 col0, col1, col2;       /* columns of the rotation */
  af_vec3 scale;
  af_vec3 first, second;          /* rows of J M3 R S */
  float mean_x, mean_y, cov_xx, cov_xy, cov_yy, inverse_det, opacity;
  int seen;
} af_projection;

static AF_HD af_projection af_project_state(af_gaussian g, af_affine m, af_camera c) {
  af_projection p;
  p.eye = af_v3(af_dot(m.r0, g.mean) + m.t.x, af_dot(m.r1, g.mean) + m.t.y, af_dot(m.r2, g.mean) + m.t.z);
  int near_enough = p.eye.z >= AF_NEAR_CM;
  p.depth = near_enough ? p.eye.z : 1.0f;
  float inverse_depth = 1.0f / p.depth;
  p.tan_x = p.eye.x * inverse_depth, p.tan_y = p.eye.y * inverse_depth;
  p.mean_x = c.focal * p.tan_x + c.center_x, p.mean_y = c.focal * p.tan_y + c.center_y;
  p.jac_x = p.tan_x < c.tan_x_low ? c.tan_x_low : p.tan_x;
  p.jac_x = p.jac_x > c.tan_x_high ? c.tan_x_high : p.jac_x;
  p.jac_y = p.tan_y < c.tan_y_low ? c.tan_y_low : p.tan_y;
  p.jac_y = p.jac_y > c.tan_y_high ? c.tan_y_high : p.jac_y;
  p.slope = c.focal * inverse_depth;
  p.plane0 = af_axpy(m.r0, -p.jac_x, m.r2);
  p.plane1 = af_axpy(m.r1, -p.jac_y, m.r2);

  p.q_inverse = 1.0f / sqrtf(g.qw * g.qw + g.qx * g.qx + g.qy * g.qy + g.qz * g.qz + 1e-12f);
  float w = p.w = g.qw * p.q_inverse, x = p.x = g.qx * p.q_inverse;
  float y = p.y = g.qy * p.q_inverse, z = p.z = g.qz * p.q_inverse;
  p.col0 = af_v3(1.0f - 2.0f * (y * y + z * z), 2.0f * (x * y + w * z), 2.0f * (x * z - w * y));
  p.col1 = af_v3(2.0f * (x * y - w * z), 1.0f - 2.0f * (x * x + z * z), 2.0f * (y * z + w * x));
  p.col2 = af_v3(2.0f * (x * z + w * y), 2.0f * (y * z - w * x), 1.0f - 2.0f * (x * x + y * y));
  p.scale = af_v3(af_exp(g.log_scale.x), af_exp(g.log_scale.y), af_exp(g.log_scale.z));

  af_vec3 s = af_scale(p.scale, p.slope);
  p.first = af_v3(af_dot(p.plane0, p.col0) * s.x, af_dot(p.plane0, p.col1) * s.y, af_dot(p.plane0, p.col2) * s.z);
  p.second = af_v3(af_dot(p.plane1, p.col0) * s.x, af_dot(p.plane1, p.col1) * s.y, af_dot(p.plane1, p.col2) * s.z);
  float plain_xx = af_dot(p.first, p.first), plain_yy = af_dot(p.second, p.second);
  p.cov_xx = plain_xx + AF_DILATION_PX2, p.cov_yy = plain_yy + AF_DILATION_PX2;
  p.cov_xy = af_dot(p.first, p.second);
  /* |u x v|^2 rather than |u|^2 |v|^2 - (u v)^2: no cancellation, always positive. */
  af_vec3 n = af_v3(p.first.y * p.second.z - p.first.z * p.second.y, p.first.z * p.second.x - p.first.x * p.second.z,
                    p.first.x * p.second.y - p.first.y * p.second.x);
  p.inverse_det =
      1.0f / (af_dot(n, n) + AF_DILATION_PX2 * (plain_xx + plain_yy) + AF_DILATION_PX2 * AF_DILATION_PX2);

  float reach_x = AF_SUPPORT_SIGMAS * sqrtf(p.cov_xx), reach_y = AF_SUPPORT_SIGMAS * sqrtf(p.cov_yy);
  p.seen = near_enough & (p.mean_x + reach_x > 0.0f) & (p.mean_x - reach_x < c.width) &
           (p.mean_y + reach_y > 0.0f) & (p.mean_y - reach_y < c.height);
  p.opacity = 1.0f / (1.0f + af_exp(-g.logit));
  return p;
}

static AF_HD af_splat af_project_splat(af_gaussian g, af_projection p) {
  af_splat s;
  s.mean_x = p.seen ? p.mean_x : 0.0f;
  s.mean_y = p.seen ? p.mean_y : 0.0f;
  s.conic_a = p.seen ? p.cov_yy * p.inverse_det : 1.0f;
  s.conic_b = p.seen ? -p.cov_xy * p.inverse_det : 0.0f;
  s.conic_c = p.seen ? p.cov_xx * p.inverse_det : 1.0f;
  s.opacity = p.seen ? p.opacity : 0.0f;
  s.red = p.seen ? g.red : 0.0f;
  s.green = p.seen ? g.green : 0.0f;
  s.blue = p.seen ? g.blue : 0.0f;
  s.depth = p.seen ? p.eye.z : AF_CULLED_DEPTH;
  return s;
}

typedef struct {
  af_gaussian attributes;
  af_affine matrix; /* gradient of the skinned matrix; the caller splits it between head, torso and skin */
} af_project_grad;

/* Gradient, given that of the splat, of a Gaussian that was seen; the caller zeroes the others'. */
static AF_HD af_project_grad af_project_backward_one(af_gaussian g, af_affine m, af_camera c, af_projection p,
                                                     af_splat gs) {
  af_project_grad out;
  float a = p.cov_yy * p.inverse_det, b = -p.cov_xy * p.inverse_det, cc = p.cov_xx * p.inverse_det;
  /* d(inverse) = -inverse d inverse */
  float g_xx = -(a * a * gs.conic_a + a * b * gs.conic_b + b * b * gs.conic_c);
  float g_yy = -(b * b * gs.conic_a + b * cc * gs.conic_b + cc * cc * gs.conic_c);
  float g_xy = -(2.0f * a * b * gs.conic_a + (a * cc + b * b) * gs.conic_b + 2.0f * b * cc * gs.conic_c);
  af_vec3 g_first = af_axpy(af_scale(p.first, 2.0f * g_xx), g_xy, p.second);
  af_vec3 g_second = af_axpy(af_scale(p.second, 2.0f * g_yy), g_xy, p.first);
  out.attributes.log_scale = af_v3(g_first.x * p.first.x + g_second.x * p.second.x,
                                   g_first.y * p.first.y + g_second.y * p.second.y,
                                   g_first.z * p.first.z + g_second.z * p.second.z);
  /* first_j = slope * scale_j * (plane0 . col_j) */
  af_vec3 s = af_scale(p.scale, p.slope);
  af_vec3 u0 = af_v3(g_first.x * s.x, g_first.y * s.y, g_first.z * s.z);
  af_vec3 u1 = af_v3(g_second.x * s.x, g_second.y * s.y, g_second.z * s.z);
  af_vec3 g_plane0 = af_axpy(af_axpy(af_scale(p.col0, u0.x), u0.y, p.col1), u0.z, p.col2);
  af_vec3 g_plane1 = af_axpy(af_axpy(af_scale(p.col0, u1.x), u1.y, p.col1), u1.z, p.col2);
  af_vec3 g_col0 = af_axpy(af_scale(p.plane0, u0.x), u1.x, p.plane1);
  af_vec3 g_col1 = af_axpy(af_scale(p.plane0, u0.y), u1.y, p.plane1);
  af_vec3 g_col2 = af_axpy(af_scale(p.plane0, u0.z), u1.z, p.plane1);
  float g_log_slope = af_dot(g_first, p.first) + af_dot(g_second, p.second); /* slope * d/d slope */

  float g_jac_x = -af_dot(g_plane0, m.r2), g_jac_y = -af_dot(g_plane1, m.r2);
  int inside_x = (p.tan_x >= c.tan_x_low) & (p.tan_x <= c.tan_x_high);
  int inside_y = (p.tan_y >= c.tan_y_low) & (p.tan_y <= c.tan_y_high);
  float g_tan_x = c.focal * gs.mean_x + (inside_x ? g_jac_x : 0.0f);
  float g_tan_y = c.focal * gs.mean_y + (inside_y ? g_jac_y : 0.0f);
  float inverse_depth = 1.0f / p.depth;
  af_vec3 g_eye = af_v3(g_tan_x * inverse_depth, g_tan_y * inverse_depth,
                        gs.depth - (g_tan_x * p.tan_x + g_tan_y * p.tan_y + g_log_slope) * inverse_depth);
  out.attributes.mean = af_axpy(af_axpy(af_scale(m.r0, g_eye.x), g_eye.y, m.r1), g_eye.z, m.r2);
  out.matrix.t = g_eye;
  out.matrix.r0 = af_axpy(g_plane0, g_eye.x, g.mean);
  out.matrix.r1 = af_axpy(g_plane1, g_eye.y, g.mean);
  out.matrix.r2 = af_axpy(af_axpy(af_scale(g_plane0, -p.jac_x), -p.jac_y, g_plane1), g_eye.z, g.mean);

  /* Rotation entries R[i][j] = col_j.i */
  float w = p.w, x = p.x, y = p.y, z = p.z;
  float r01 = g_col1.x, r02 = g_col2.x, r10 = g_col0.y, r12 = g_col2.y, r20 = g_col0.z, r21 = g_col1.z;
  float r00 = g_col0.x, r11 = g_col1.y, r22 = g_col2.z;
  float gw = 2.0f * (x * (r21 - r12) + y * (r02 - r20) + z * (r10 - r01));
  float gx = 2.0f * (-2.0f * x * (r11 + r22) + y * (r01 + r10) + z * (r02 + r20) + w * (r21 - r12));
  float gy = 2.0f * (x * (r01 + r10) - 2.0f * y * (r00 + r22) + z * (r12 + r21) + w * (r02 - r20));
  float gz = 2.0f * (x * (r02 + r20) + y * (r12 + r21) - 2.0f * z * (r00 + r11) + w * (r10 - r01));
  float along = gw * w + gx * x + gy * y + gz * z;
  out.attributes.qw = p.q_inverse * (gw - along * w);
  out.attributes.qx = p.q_inverse * (gx - along * x);
  out.attributes.qy = p.q_inverse * (gy - along * y);
  out.attributes.qz = p.q_inverse * (gz - along * z);
  out.attributes.logit = gs.opacity * p.opacity * (1.0f - p.opacity);
  out.attributes.red = gs.red, out.attributes.green = gs.green, out.attributes.blue = gs.blue;
  return out;
}

#endif
