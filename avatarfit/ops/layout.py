"""Column orders and thresholds shared by every Gaussian operation, reference and native alike.

The native side states the same numbers in `cuda_ext/shared/constants.h`; a test compares the two.
"""

from __future__ import annotations

ATTRIBUTE_COUNT = 14
"""Columns of an attribute row: mean xyz, quaternion wxyz, log-scale xyz, opacity logit, red, green, blue."""

MEAN = slice(0, 3)
"""Centre in the rest space, cm."""
QUATERNION = slice(3, 7)
"""Rotation wxyz, not normalised."""
LOG_SCALE = slice(7, 10)
"""Natural logarithm of the standard deviations, log cm."""
OPACITY_LOGIT = 10
"""Opacity is its sigmoid."""
RGB = slice(11, 14)
"""sRGB-coded colour, taken as it is: no activation, no clamp."""

SPLAT_COUNT = 10
"""Columns of a splat row: mean x y (px), conic a b c (1/px^2), opacity, red, green, blue, depth (cm)."""

SPLAT_MEAN = slice(0, 2)
SPLAT_CONIC = slice(2, 5)
SPLAT_OPACITY = 5
SPLAT_RGB = slice(6, 9)
SPLAT_DEPTH = 9

CULLED_DEPTH = -1.0
"""Depth of a splat that cannot be seen; its opacity is 0."""
NEAR_CM = 1.0
"""Gaussians nearer than this are culled."""
DILATION_PX2 = 0.3
"""Added to both diagonal entries of the 2-D covariance: the low-pass filter of 3-D Gaussian splatting."""
TANGENT_MARGIN = 0.15
"""The tangents in the perspective Jacobian are clamped to the picture widened by this share of its size, each side."""
SUPPORT_SIGMAS = 3.3290429
"""sqrt(2 ln 255): beyond it even an opaque Gaussian has alpha below 1/255."""

ALPHA_MAX = 0.99
"""One splat never covers more than this of a pixel."""
ALPHA_MIN = 1.0 / 255.0
"""A splat with less alpha than this at a pixel is skipped there."""
TRANSMITTANCE_MIN = 1e-4
"""A pixel whose transmittance fell below this takes no further splat."""

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2
