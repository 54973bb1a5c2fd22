/* Vectors of VL floats, 16 lanes to a 4x4 pixel block: one 512-bit, two 256-bit or four 128-bit vectors.
   Arithmetic is the compiler's own vector extension; only what it lowers badly is an intrinsic. A vector is never wider
   than the target's registers: GCC lowers such ones several times slower. */
#ifndef AF_SIMD_H
#define AF_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "shared/exponent.h"

#if defined(__AVX512F__)
#define VL 16
#elif defined(__AVX2__)
#define VL 8
#else
#define VL 4
#endif
#define LANES 16
#define VECTORS (LANES / VL)

typedef float vf __attribute__((vector_size(4 * VL)));
typedef int32_t vi __attribute__((vector_size(4 * VL)));
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline))

INLINE vf v_load(const float *p) {
  vf r;
  memcpy(&r, p, sizeof r);
  return r;
}
INLINE void v_store(float *p, vf v) { memcpy(p, &v, sizeof v); }
INLINE vf v_set(float x) { return x - (vf){0}; }
/* v where the mask is all ones, 0 where it is all zeros. */
INLINE vf v_keep(vf v, vi mask) { return (vf)((vi)v & mask); }
INLINE vf v_min(vf a, vf b) {
#if VL == 16
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif VL == 8
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  vi less = a < b;
  return (vf)(((vi)a & less) | ((vi)b & ~less));
#endif
}
/* Either of v_min and v_max gives the second where the first is NaN. */
INLINE vf v_max(vf a, vf b) {
#if VL == 16
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif VL == 8
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  vi more = a > b;
  return (vf)(((vi)a & more) | ((vi)b & ~more));
#endif
}
INLINE vf v_sqrt(vf v) {
#if VL == 16
  return (vf)_mm512_sqrt_ps((__m512)v);
#elif VL == 8
  return (vf)_mm256_sqrt_ps((__m256)v);
#else
  return (vf){sqrtf(v[0]), sqrtf(v[1]), sqrtf(v[2]), sqrtf(v[3])};
#endif
}
INLINE int v_any(vi mask) {
#if VL == 16
  return _mm512_movepi32_mask((__m512i)mask) != 0;
#elif VL == 8
  return _mm256_movemask_ps((__m256)mask) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)mask) != 0;
#else
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
#endif
}

/* A bit for each lane: its highest. */
INLINE unsigned v_mask(vi mask) {
#if VL == 16
  return _mm512_movepi32_mask((__m512i)mask);
#elif VL == 8
  return (unsigned)_mm256_movemask_ps((__m256)mask);
#elif defined(__SSE2__)
  return (unsigned)_mm_movemask_ps((__m128)mask);
#else
  unsigned bits = 0;
  for (int i = 0; i < VL; i++) bits |= (uint32_t)mask[i] >> 31 << i;
  return bits;
#endif
}

/* 2^x for x in [-126, 127], as af_exp2. */
INLINE vf v_exp2(vf x) {
  vf shifted = x + AF_ROUND_MAGIC;
  vf f = x - (shifted - AF_ROUND_MAGIC);
  vf p = f * AF_EXP2_C5 + AF_EXP2_C4;
  p = p * f + AF_EXP2_C3;
  p = p * f + AF_EXP2_C2;
  p = p * f + AF_EXP2_C1;
  p = p * f + AF_EXP2_C0;
  return (vf)((vi)p + ((vi)shifted << 23));
}

/* The sum of each of four vectors, as one vector of four. */
INLINE v4 v4_sums(v4 a, v4 b, v4 c, v4 d) {
  v4 ab_low = __builtin_shuffle(a, b, (i4){0, 4, 1, 5}), ab_high = __builtin_shuffle(a, b, (i4){2, 6, 3, 7});
  v4 cd_low = __builtin_shuffle(c, d, (i4){0, 4, 1, 5}), cd_high = __builtin_shuffle(c, d, (i4){2, 6, 3, 7});
  v4 ab = ab_low + ab_high, cd = cd_low + cd_high;
  return __builtin_shuffle(ab, cd, (i4){0, 1, 4, 5}) + __builtin_shuffle(ab, cd, (i4){2, 3, 6, 7});
}

/* Folds a vector to four lanes; the order of the additions is fixed. */
INLINE v4 v_fold4(vf v) {
#if VL == 16
  __m512 z = (__m512)v;
  __m256 y = _mm256_add_ps(_mm512_castps512_ps256(z), _mm512_extractf32x8_ps(z, 1));
  return (v4)_mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
#elif VL == 8
  return (v4)_mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
#else
  return v;
#endif
}

INLINE float v_sum(vf v) {
  v4 f = v_fold4(v);
  return (f[0] + f[2]) + (f[1] + f[3]);
}

/* The first four lanes. */
INLINE v4 v_first4(vf v) {
  v4 r;
  memcpy(&r, &v, sizeof r);
  return r;
}

#endif
