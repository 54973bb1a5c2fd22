/* One splat: whether it may be drawn, its exponent in powers of two, and whether its ellipse reaches a rectangle. */
#ifndef AF_SPLAT_H
#define AF_SPLAT_H

#include <math.h>

#include "shared/constants.h"

/* alpha = 2^(log2_opacity - (qa dx^2 + qb dx dy + qc dy^2)); at least 1/255 where the form is at most `level`.
   lean_x is the dx at which the form is least for a dy of one, lean_y the other way round. */
typedef struct { float mean_x, mean_y, qa, qb, qc, level, lean_x, lean_y; } af_ellipse;

/* `s` is a row of AF_SPLAT. Written so that NaN fails, and infinity too. */
static AF_HD int af_splat_drawable(const float *s) {
  float a = s[2], b = s[3], c = s[4];
  return s[9] > 0.0f && s[5] >= AF_ALPHA_MIN && s[5] < INFINITY && a > 0.0f && c > 0.0f && a * c - b * b > 0.0f &&
         a * c - b * b < INFINITY && fabsf(s[0]) < INFINITY && fabsf(s[1]) < INFINITY;
}

static AF_HD af_ellipse af_make_ellipse(float mean_x, float mean_y, float qa, float qb, float qc, float level) {
  af_ellipse e = {mean_x, mean_y, qa, qb, qc, level, -0.5f * qb / qa, -0.5f * qb / qc};
  return e;
}

static AF_HD float af_nearest(float low, float high, float to) { return to < low ? low : to > high ? high : to; }

/* Whether the form comes down to `level` anywhere on [x0, x1] x [y0, y1]. A convex form that grows from its centre is
   least, on a rectangle, on the edges that face the centre: one candidate on the nearest x, one on the nearest y. */
static AF_HD int af_ellipse_reaches(af_ellipse e, float x0, float y0, float x1, float y1) {
  float left = x0 - e.mean_x, right = x1 - e.mean_x, top = y0 - e.mean_y, bottom = y1 - e.mean_y;
  float dx = af_nearest(left, right, 0.0f), dy = af_nearest(top, bottom, e.lean_y * dx);
  float at_x = e.qa * dx * dx + dy * (e.qb * dx + e.qc * dy);
  dy = af_nearest(top, bottom, 0.0f), dx = af_nearest(left, right, e.lean_x * dy);
  float at_y = e.qa * dx * dx + dy * (e.qb * dx + e.qc * dy);
  return at_x <= e.level || at_y <= e.level;
}

#endif
