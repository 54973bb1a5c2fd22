"""High dynamic range and wide colours, brought down to the BT.709 picture that everything here works on.

The way of a colour: code value -> light on the reference display (BT.2100 HLG or PQ) -> the brightest of its three
channels is compressed by the curve of BT.2390, which ends at HDR reference white, 203 cd/m2 (BT.2408) -> primaries by
a 3x3 matrix -> what lies outside the smaller gamut is mixed with its own luminance, just far enough -> BT.1886 code.

So mid-grey (26 cd/m2) is only scaled, 0.128 of SDR white; diffuse white (203 cd/m2) becomes 0.79 of it, and what is
left above is for highlights up to 1000 cd/m2. `sdr_table` samples this on a grid, for a 3-D look-up.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

DynamicRange = Literal["sdr", "hlg", "pq"]
Primaries = Literal["bt709", "bt2020", "display_p3"]

PEAK_CD_M2 = 1000.0
"""Nominal peak of HLG's reference display; PQ above it is shown as white."""
REFERENCE_WHITE_CD_M2 = 203.0
"""BT.2408-7, table 1: diffuse white, 75 % HLG, 58 % PQ. SDR's white stands for it."""

_HLG_GAMMA = 1.2
_SDR_GAMMA = 2.4
_LUMINANCE = {"bt709": (0.2126, 0.7152, 0.0722), "bt2020": (0.2627, 0.6780, 0.0593)}
_CHROMATICITIES = {
    "bt709": ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    "bt2020": ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    "display_p3": ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
_D65 = (0.3127, 0.3290)


def hlg_inverse_oetf(code: np.ndarray) -> np.ndarray:
    """Scene light 0..1 of HLG code values 0..1 (BT.2100-2, table 5)."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * np.log(4 * a)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def hlg_eotf(code: np.ndarray) -> np.ndarray:
    """Display light, cd/m2, of HLG colours [..., 3] on a 1000 cd/m2 display with black at 0 (BT.2100-2, table 5)."""
    scene = hlg_inverse_oetf(code)
    luminance = scene @ np.array(_LUMINANCE["bt2020"])
    return PEAK_CD_M2 * np.maximum(luminance, 1e-12)[..., None] ** (_HLG_GAMMA - 1) * scene


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def pq_eotf(code: np.ndarray) -> np.ndarray:
    """Display light, cd/m2, of PQ code values 0..1 (BT.2100-2, table 4; SMPTE ST 2084)."""
    power = np.maximum(code, 0) ** (1 / _M2)
    return 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def pq_inverse_eotf(light_cd_m2: np.ndarray) -> np.ndarray:
    """PQ code values 0..1 of display light (BT.2100-2, table 4)."""
    power = (np.maximum(light_cd_m2, 0) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def bt2390_eetf(
    light_cd_m2: np.ndarray, peak_cd_m2: float = PEAK_CD_M2, target_cd_m2: float = REFERENCE_WHITE_CD_M2
) -> np.ndarray:
    """Light fitted to a display of `target_cd_m2` (BT.2390-11, 5.4.1, black at 0).

    Untouched below a knee, above it a Hermite spline in PQ codes that takes `peak_cd_m2` to the target.
    """
    top = pq_inverse_eotf(np.array(peak_cd_m2))
    code = np.minimum(pq_inverse_eotf(light_cd_m2) / top, 1)
    limit = float(pq_inverse_eotf(np.array(target_cd_m2)) / top)
    knee = 1.5 * limit - 0.5
    t = np.maximum((code - knee) / (1 - knee), 0)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * limit
    return np.where(code < knee, np.minimum(light_cd_m2, peak_cd_m2), pq_eotf(spline * top))


def rgb_to_xyz(primaries: Primaries) -> np.ndarray:
    """float64 [3, 3] from linear RGB to CIE XYZ, white at D65 (SMPTE RP 177)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in _CHROMATICITIES[primaries]]).T
    x, y = _D65
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


def into_gamut(linear: np.ndarray) -> np.ndarray:
    """Linear BT.709 [..., 3] mixed with its luminance just so far that every channel lies in 0..1; hue is kept."""
    gray = np.clip(linear @ np.array(_LUMINANCE["bt709"]), 0, 1)[..., None]
    gap = linear - gray
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(gap > 0, (1 - gray) / gap, np.where(gap < 0, -gray / gap, np.inf))
    return np.clip(gray + np.minimum(room.min(axis=-1, keepdims=True), 1) * gap, 0, 1)


def to_sdr(code: np.ndarray, dynamic_range: DynamicRange, primaries: Primaries) -> np.ndarray:
    """The SDR BT.709 colour, BT.1886 code 0..1, of full-range R'G'B' code values [..., 3] in 0..1."""
    code = np.asarray(code, np.float64)
    if dynamic_range == "sdr":
        linear = code**_SDR_GAMMA
    else:
        light = hlg_eotf(code) if dynamic_range == "hlg" else pq_eotf(code)
        brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
        linear = light * (bt2390_eetf(brightest) / brightest) / REFERENCE_WHITE_CD_M2
    matrix = np.linalg.solve(rgb_to_xyz("bt709"), rgb_to_xyz(primaries))
    return into_gamut(linear @ matrix.T) ** (1 / _SDR_GAMMA)


def sdr_table(dynamic_range: DynamicRange, primaries: Primaries, side: int = 49) -> np.ndarray:
    """`to_sdr` on a grid: float32 [side, side, side, 3], indexed by blue, green, red."""
    axis = np.linspace(0, 1, side)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    return to_sdr(np.stack([red, green, blue], axis=-1), dynamic_range, primaries).astype(np.float32)
