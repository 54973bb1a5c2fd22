/* Column orders and thresholds of the Gaussian operations; avatarfit/ops/layout.py states the same numbers. */
#ifndef AF_CONSTANTS_H
#define AF_CONSTANTS_H

#if defined(__CUDACC__)
#define AF_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define AF_HD __attribute__((always_inline)) inline
#else
#define AF_HD inline
#endif

/* mean xyz, quaternion wxyz, log-scale xyz, opacity logit, rgb */
#define AF_ATTRIBUTES 14
/* mean xy, conic abc, opacity, rgb, depth */
#define AF_SPLAT 10

#define AF_CULLED_DEPTH (-1.0f)
#define AF_NEAR_CM 1.0f
#define AF_DILATION_PX2 0.3f
#define AF_TANGENT_MARGIN 0.15f
#define AF_SUPPORT_SIGMAS 3.3290429f

#define AF_ALPHA_MAX 0.99f
#define AF_ALPHA_MIN (1.0f / 255.0f)
#define AF_TRANSMITTANCE_MIN 1e-4f

#define AF_LOG2E 1.44269504088896341f
/* log2(1/255) and log2(255) */
#define AF_LOG2_ALPHA_MIN (-7.99435343685885794f)
#define AF_LOG2_ALPHA_MAX (-0.0144995696951150767f)

#define AF_SSIM_HALF 5
#define AF_SSIM_C1 1e-4f
#define AF_SSIM_C2 9e-4f

#endif
