/* Structural similarity of one window (Wang et al. 2004) and its derivatives by the window's blurred moments of x. */
#ifndef AF_SSIM_H
#define AF_SSIM_H

#include "shared/constants.h"

typedef struct { float value, d_mu_x, d_xx, d_xy; } af_ssim;

/* mu: blurred x and y; squares: blurred x^2 + y^2, which only their sum is needed of; xy: blurred product. */
static AF_HD af_ssim af_ssim_window(float mu_x, float mu_y, float squares, float xy) {
  af_ssim s;
  float mu_xy = mu_x * mu_y, mu_2 = mu_x * mu_x + mu_y * mu_y;
  float a1 = 2.0f * mu_xy + AF_SSIM_C1, a2 = 2.0f * (xy - mu_xy) + AF_SSIM_C2;
  float b1 = mu_2 + AF_SSIM_C1, b2 = squares - mu_2 + AF_SSIM_C2;
  float inverse = 1.0f / (b1 * b2);
  s.value = a1 * a2 * inverse;
  s.d_mu_x = 2.0f * (mu_y * (a2 - a1) * inverse - s.value * mu_x * (b2 - b1) * inverse);
  s.d_xx = -s.value * b1 * inverse;
  s.d_xy = 2.0f * a1 * inverse;
  return s;
}

#endif
