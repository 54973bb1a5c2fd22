"""Layers that make a person belong to what stands behind: tint and brightness, light at the edge, grain.

All three are off unless asked for. They look at `shot.behind` and change only the person.
"""

from __future__ import annotations

import numpy as np

from avatarfit.compositing.shot import Shot

_DARKEST = 0.1
_MOST_GAIN = 1.6
_FOLLOW_SECONDS = 1.0
_WRAP_CELL = 8
_LEAST_WRAP = 1 / 512
_TILES = 3
_LUMA_MARGIN = 64


class ColourMatch:
    """Brings the person's mean colour towards the background's.

    One gain for each channel, the ratio of the means to the power of `strength` (the means of Reinhard et al., Color
    Transfer between Images, 2001; deviations are left alone, since faces stay faces). The person's mean is taken from
    the first frame and the background's follows it within a second, so nothing flickers.

    Example: `Compositor(Backdrop(Still(dusk)), ColourMatch(0.3))`.

    Args:
        strength: 0 changes nothing, 1 makes the means equal, as far as a gain of 1.6 does; 0.2 to 0.4 look natural.
    """

    def __init__(self, strength: float) -> None:
        self._strength = strength
        self._person: np.ndarray | None = None
        self._behind: np.ndarray | None = None
        self._seen: np.ndarray | None = None
        self._mean = np.zeros(3)
        self._seconds = 0.0

    def apply(self, shot: Shot) -> None:
        """See `Layer`."""
        import cv2

        if shot.behind is None or not self._strength:
            return
        if shot.behind is not self._seen:
            self._seen, self._mean = shot.behind, np.array(cv2.mean(shot.behind)[:3]) / 255
        if self._behind is None or self._person is None:
            self._behind = self._mean
            sums = np.array(cv2.sumElems(shot.rgba))
            self._person = sums[:3] / max(sums[3], 1e-6)
        kept = float(np.exp(-max(shot.seconds - self._seconds, 0.0) / _FOLLOW_SECONDS))
        self._behind, self._seconds = kept * self._behind + (1 - kept) * self._mean, shot.seconds
        ratio = (self._behind + _DARKEST) / (self._person + _DARKEST)
        gain = np.clip(ratio**self._strength, 1 / _MOST_GAIN, _MOST_GAIN)
        cv2.transform(shot.rgba, np.diag([*gain, 1.0]).astype(np.float32), shot.rgba)


class LightWrap:
    """Light of the background falls over the person's edge, as it does in a lens and on skin and hair.

    Within the width of the wrap, the person's colours c become c + w (b - c): b is the background blurred, w is the
    blurred transparency times `strength`.

    Example: `Compositor(Backdrop(Still(window)), LightWrap(0.4))`.

    Args:
        strength: 0 for none; 0.2 to 0.5 look natural.
        width: of the edge, in heights of the picture.
    """

    def __init__(self, strength: float, width: float = 0.015) -> None:
        self._strength, self._width = strength, width
        self._seen: np.ndarray | None = None
        self._light: list[np.ndarray] = []

    def apply(self, shot: Shot) -> None:
        """See `Layer`."""
        import cv2

        if shot.behind is None or not self._strength:
            return
        height, width = shot.rgba.shape[:2]
        cell = max(round(height / 1080 * _WRAP_CELL), 1) if height > 270 else 1
        size = -(-width // cell), -(-height // cell)
        sigma = max(self._width * size[1], 0.5)
        if shot.behind is not self._seen:
            self._seen = shot.behind
            small = cv2.resize(shot.behind, size, interpolation=cv2.INTER_AREA).astype(np.float32)
            small = cv2.GaussianBlur(small, (0, 0), 2 * sigma) / 255
            light = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
            self._light = [np.ascontiguousarray(c).reshape(-1) for c in cv2.split(light)]
        alpha = cv2.resize(cv2.extractChannel(shot.rgba, 3), size, interpolation=cv2.INTER_AREA)
        clear = cv2.GaussianBlur(1 - alpha, (0, 0), sigma)
        # Half of it is clear right at the edge.
        share = self._strength * np.clip(2 * clear * alpha, 0, 1)
        share[share < _LEAST_WRAP] = 0
        wrap = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR).reshape(-1)
        pixels = np.flatnonzero(wrap > _LEAST_WRAP)
        # a (c + w (b - c)) in premultiplied terms
        flat, wrap = shot.rgba.reshape(-1, 4), wrap[pixels]
        edge = np.take(flat, pixels, axis=0)
        for channel, light in enumerate(self._light):
            colour = edge[:, channel]
            colour += wrap * (light[pixels] * edge[:, 3] - colour)
        flat[pixels] = edge


class Grain:
    """Noise over the person, as film and sensors have it: the same on all channels, other in every frame.

    Example: `Compositor(Backdrop(Still(film)), Grain(Grain.of(film)))`.

    Args:
        levels: its deviation, 8-bit levels; 1 to 3 are usual.
        seed: of the noise; the same frame has the same noise.
    """

    def __init__(self, levels: float, seed: int = 0) -> None:
        self._levels, self._seed = levels, seed
        self._tiles: list[np.ndarray] = []

    @staticmethod
    def of(picture: np.ndarray) -> float:
        """The noise of a picture, uint8 [H, W, 3], in 8-bit levels (Immerkaer, Fast Noise Variance Estimation, 1996).

        The flattest quarter of the picture is looked at, since texture is not noise.
        """
        import cv2

        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
        second = np.abs(cv2.filter2D(gray, -1, kernel))[2:-2, 2:-2]
        local = cv2.blur(second, (15, 15))
        flat = second[local <= np.quantile(local, 0.25)]
        return float(np.sqrt(np.pi / 2) * flat.mean() / 6)

    def apply(self, shot: Shot) -> None:
        """See `Layer`."""
        import cv2

        if not self._levels:
            return
        height, width = shot.rgba.shape[:2]
        if not self._tiles or self._tiles[0].shape[0] < height or self._tiles[0].shape[1] < width:
            self._tiles = _tiles(height + _LUMA_MARGIN, width + _LUMA_MARGIN, self._levels / 255, self._seed)
        random = np.random.default_rng([self._seed, shot.index])
        tile = self._tiles[int(random.integers(_TILES))]
        down, across = (int(random.integers(tile.shape[k] - n + 1)) for k, n in enumerate((height, width)))
        alpha = cv2.extractChannel(shot.rgba, 3)
        noise = cv2.multiply(tile[down : down + height, across : across + width], alpha)
        none = np.zeros_like(noise)
        cv2.add(shot.rgba, cv2.merge([noise, noise, noise, none]), shot.rgba)


def _tiles(height: int, width: int, deviation: float, seed: int) -> list[np.ndarray]:
    """float32 [height, width] each: white noise, blurred a little, since no lens and no codec shows single pixels."""
    import cv2

    random = np.random.default_rng(seed)
    made = []
    for _ in range(_TILES):
        noise = cv2.GaussianBlur(random.standard_normal((height, width), np.float32), (0, 0), 0.6)
        made.append(noise * np.float32(deviation / noise.std()))
    return made
