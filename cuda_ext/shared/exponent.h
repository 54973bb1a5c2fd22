/* Exponentials by one polynomial, so that a compiler vectorises them and every target gives nearly the same number. */
#ifndef AF_EXPONENT_H
#define AF_EXPONENT_H

#include <stdint.h>
#include <string.h>

#include "shared/constants.h"

/* 2^f on [-0.5, 0.5]: least-maximum fit of degree 5, relative error below 7.5e-8. */
#define AF_EXP2_C0 1.0000000716544937f
#define AF_EXP2_C1 0.6931469670588267f
#define AF_EXP2_C2 0.24022119724461494f
#define AF_EXP2_C3 0.05550713283187929f
#define AF_EXP2_C4 0.009675541309491706f
#define AF_EXP2_C5 0.0013276468860203838f
/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits of the float. */
#define AF_ROUND_MAGIC 12582912.0f

/* 2^x; x is clamped to [-126, 127]. */
static AF_HD float af_exp2(float x) {
  x = x < -126.0f ? -126.0f : x;
  x = x > 127.0f ? 127.0f : x;
  float shifted = x + AF_ROUND_MAGIC;
  float f = x - (shifted - AF_ROUND_MAGIC);
  float p = AF_EXP2_C5;
  p = p * f + AF_EXP2_C4;
  p = p * f + AF_EXP2_C3;
  p = p * f + AF_EXP2_C2;
  p = p * f + AF_EXP2_C1;
  p = p * f + AF_EXP2_C0;
  uint32_t exponent, mantissa;
  memcpy(&exponent, &shifted, 4);
  memcpy(&mantissa, &p, 4);
  mantissa += exponent << 23;
  memcpy(&p, &mantissa, 4);
  return p;
}

static AF_HD float af_exp(float x) { return af_exp2(x * AF_LOG2E); }

#endif
