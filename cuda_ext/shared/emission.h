/* Emission and absorption along a ray (Max 1995): what one sample takes of the light behind it. */
#ifndef AF_EMISSION_H
#define AF_EMISSION_H

#include "shared/exponent.h"

#define AF_MAX_CHANNELS 32

/* 1 - exp(-depth). Within 1/8 of nothing by its series, which the difference of two numbers near one is not. */
static AF_HD float af_absorbed(float depth, float passes) {
  float series = depth * (1.0f - depth * (0.5f - depth * (1.0f / 6.0f - depth * (1.0f / 24.0f - depth * (1.0f / 120.0f)))));
  return depth < 0.125f && depth > -0.125f ? series : 1.0f - passes;
}

#endif
