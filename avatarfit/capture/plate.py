"""The background without the person: per pixel, the median over frames that show it."""

from __future__ import annotations

import numpy as np

_MEMORY_BYTES = 120_000_000


class PlateBuilder:
    """Collects pictures of the clip and takes their masked median.

    Args:
        height, width: picture size.
        wanted: at most this many pictures are used, fewer when they would not fit into memory.
    """

    def __init__(self, height: int, width: int, wanted: int = 61) -> None:
        self.capacity = int(np.clip(_MEMORY_BYTES // (height * width * 7), 7, wanted))
        self._pictures: list[np.ndarray] = []
        self._clear: list[np.ndarray] = []

    def add(self, rgb: np.ndarray, person: np.ndarray) -> None:
        """One picture uint8 [H, W, 3] and its soft person alpha uint8 [H, W]."""
        import cv2

        if len(self._pictures) >= self.capacity:
            raise ValueError(f"the plate was promised {self.capacity} pictures and was given more")
        # Stay clear of the person's rim, where the mask is unsure and hair is thin.
        reach = max(3, max(person.shape) // 42) | 1
        near = cv2.dilate(person, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach)))
        self._pictures.append(rgb)
        self._clear.append(np.asarray(near < 13))

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """The plate, uint8 [H, W, 3], and bool [H, W] where it was seen.

        A pixel is seen when at least one picture in twenty (and one at least) shows it. The rest is painted in from its
        surroundings (Telea 2004) and blurred, for it is only ever glimpsed behind a moving person.
        """
        if not self._pictures:
            raise ValueError("the plate was given no picture")
        enough = max(1, len(self._pictures) // 20)
        count = np.zeros(self._clear[0].shape, np.uint8)
        for clear in self._clear:
            count += clear
        plate = _medians(self._pictures, self._clear, count)
        seen = count >= enough
        return _painted_in(plate, seen), seen


def _medians(pictures: list[np.ndarray], clear: list[np.ndarray], count: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: the lower median of the pictures that show a pixel, by halving the range of values eight times.

    Args:
        pictures: uint8 [H, W, 3], fewer than 256.
        clear: bool [H, W] for each, where it shows the background.
        count: uint8 [H, W], how many do.
    """
    import cv2

    wanted = cv2.merge([(np.maximum(count, 1) + 1) // 2] * 3)
    shown = [cv2.merge([c.view(np.uint8)] * 3) for c in clear]
    low, high = np.zeros_like(wanted), np.full_like(wanted, 255)
    for _ in range(8):
        # (low + high) // 2 without leaving eight bits.
        middle = low + (high - low) // 2
        below = np.zeros_like(wanted)
        for picture, where in zip(pictures, shown, strict=True):
            cv2.add(below, cv2.bitwise_and(cv2.compare(picture, middle, cv2.CMP_LE), where), dst=below)
        found = below >= wanted
        high = np.where(found, middle, high)
        low = np.where(found, low, np.minimum(middle, 254) + np.uint8(1))
    return np.where(cv2.merge([count] * 3) > 0, high, 0).astype(np.uint8)


def _painted_in(plate: np.ndarray, seen: np.ndarray) -> np.ndarray:
    import cv2

    if seen.all():
        return plate
    if not seen.any():
        return np.full_like(plate, 127)
    # At a quarter of the size: the hole is large, and nothing fine can be known in it.
    height, width = seen.shape
    small_size = (max(1, width // 4), max(1, height // 4))
    known = cv2.resize(seen.astype(np.float32), small_size, interpolation=cv2.INTER_AREA)
    masked = cv2.resize(plate.astype(np.float32) * seen[..., None], small_size, interpolation=cv2.INTER_AREA)
    small = (masked / np.maximum(known, 1e-6)[..., None]).clip(0, 255).astype(np.uint8)
    hole = (known < 0.5).astype(np.uint8)
    filled = cv2.inpaint(small, hole, 5, cv2.INPAINT_TELEA)
    filled = np.where(hole[..., None] > 0, cv2.GaussianBlur(filled, (0, 0), 3), filled)
    large = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.where(seen[..., None], plate, large)
