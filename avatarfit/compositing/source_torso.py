"""A clip's own torso under an avatar's head: the clip's head is taken away, and what it hid is completed.

What a frame shows of neck and clothes stays as it is. Behind its head comes what other frames of the clip show there,
moved as the torso moves and brought to the frame's own light at the border; what no frame shows is spread inwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from avatarfit.compositing.torso_walk import Lent
from avatarfit.contracts import Camera

NECK, TORSO = 2, 3
HEAD, BODY = (1, 4, 5), (NECK, TORSO)
"""Labels of a clip folder (data/README.md)."""

_HEAD_MARGIN = 0.012
"""So far beyond the head's outline its picture is not trusted, in heights of the picture."""
_BODY_MARGIN = 0.01
_FEATHER = 0.004
_LIGHT_REACH = 0.05
_LIGHT_CELL = 4
_EDGE = 0.06
"""Share of the picture by which its border's pixels are repeated outwards, for a torso that is moved a little."""
_STILL_PX = 0.03
"""A picture that would be moved by less is taken as it is, not resampled."""
_CUBIC_REACH = 3
_NECK_UP = 0.5
"""So far the neck goes on behind the head, in its own widths."""


@dataclass(frozen=True)
class ClipFrame:
    """One frame of the clip folder.

    Attributes:
        rgb: uint8 [H, W, 3]. person: uint8 [H, W], alpha. labels: uint8 [H, W]. affine: float [2, 3], of the torso.
    """

    rgb: np.ndarray
    person: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


class SourceTorso:
    """Makes the torso's picture of any frame of a clip, at any camera.

    Args:
        camera: of the clip's pictures.
        plate: uint8 [H, W, 3], the clip's background.
        sample: frames spread over the clip; what the head hides in one is taken from the others. All are gone through
            once, one at a time.
    """

    def __init__(self, camera: Camera, plate: np.ndarray, sample: Iterable[ClipFrame]) -> None:
        self._camera = camera
        self._plate = plate.astype(np.float32) / 255
        self._behind = self._completed(sample)
        self._filled_from = _filled_from(self._behind[..., 3])

    def layer(self, frame: ClipFrame) -> np.ndarray:
        """float32 [H, W, 4], premultiplied: the frame's neck and torso, whole behind the head; clear elsewhere."""
        import cv2

        first = self._first_row(frame)
        behind = self._moved(self._behind, frame.affine, first)
        shown, trust = self._shown(frame, first)
        # The light of the two differs a little: the difference at the border is spread over what is filled in.
        height, width = trust.shape
        size = max(width // _LIGHT_CELL, 1), max(height // _LIGHT_CELL, 1)
        sure = cv2.multiply(trust, cv2.min(cv2.extractChannel(shown, 3), cv2.extractChannel(behind, 3)))
        apart = cv2.multiply(cv2.subtract(shown, behind), cv2.merge([sure] * 4))
        cv2.insertChannel(sure, apart, 3)
        reach = _LIGHT_REACH * len(frame.labels) / _LIGHT_CELL
        small = cv2.GaussianBlur(cv2.resize(apart, size, interpolation=cv2.INTER_AREA), (0, 0), reach)
        small = small / np.maximum(small[..., 3:], 1e-3) * np.array([1, 1, 1, 0], np.float32)
        light = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        behind = cv2.add(behind, cv2.multiply(light, cv2.merge([cv2.extractChannel(behind, 3)] * 4)))
        out = np.zeros((*frame.labels.shape, 4), np.float32)
        out[first:] = _held(cv2.add(shown, cv2.multiply(behind, cv2.merge([1 - trust] * 4))))
        return out

    def placed(self, layer: np.ndarray, own: np.ndarray, affine: np.ndarray, camera: Camera) -> np.ndarray:
        """A layer whose torso is moved from its `own` affine [2, 3] to another, as `camera` sees it."""
        import cv2

        matrix = pixel_map(self._camera, camera, compose(affine, inverse(own)))
        height, width = layer.shape[:2]
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
        same = (width, height) == (camera.width_px, camera.height_px)
        if same and np.abs(corners @ matrix.T - corners[:, :2]).max() < _STILL_PX:
            return layer
        # Above the body there is nothing to move.
        top = max(_filled_from(cv2.extractChannel(layer, 3)) - _CUBIC_REACH, 0)
        first = int(np.clip((corners[:2] + [0, top, 0]) @ matrix[1], 0, camera.height_px).min())
        pad = round(_EDGE * max(width, height))
        wide = cv2.copyMakeBorder(layer[top:], pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5 - pad, top + 0.5 - pad]) - 0.5 - np.array([0, first])
        out = np.zeros((camera.height_px, camera.width_px, 4), np.float32)
        if first < camera.height_px and top < height:
            size = camera.width_px, camera.height_px - first
            out[first:] = _held(cv2.warpAffine(wide, matrix, size, flags=cv2.INTER_CUBIC))
        return out

    def _first_row(self, frame: ClipFrame) -> int:
        """Where the body begins, with what comes behind the head: little more than half of most pictures is below."""
        height = len(self._behind)
        body = _filled_from(_those(frame.labels, BODY)) - round(_BODY_MARGIN * height) - 4 * _feather_px(height)
        to_pixels = pixel_map(self._camera, self._camera, frame.affine)
        sides = np.array([[0, self._filled_from, 1], [self._behind.shape[1], self._filled_from, 1]])
        first = min(body, float((sides @ to_pixels.T)[:, 1].min())) - 2
        return max(int(first), 0) // _LIGHT_CELL * _LIGHT_CELL

    def _shown(self, frame: ClipFrame, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """From row `first` on: premultiplied neck and torso float32 [h, W, 4], and how far each pixel is known, not
        hidden by the head."""
        import cv2

        height = len(frame.labels)
        blur_px = _feather_px(height)
        above = max(first - round(_HEAD_MARGIN * height) - round(5 * blur_px) - 1, 0)
        head, near = (
            cv2.GaussianBlur(wide.astype(np.float32), (0, 0), blur_px)[first - above :]
            for wide in (
                _wider(_those(frame.labels[above:], which), reach * height)
                for which, reach in ((HEAD, _HEAD_MARGIN), (BODY, _BODY_MARGIN))
            )
        )
        trust = 1 - head
        alpha = frame.person[first:] * np.float32(1 / 255)
        clear = cv2.multiply(self._plate[first:], cv2.merge([1 - alpha] * 3))
        front = cv2.subtract(frame.rgb[first:] * np.float32(1 / 255), clear)
        # A soft edge of hair that stands before the background belongs to the head.
        weight = cv2.merge([cv2.multiply(trust, near)] * 4)
        return cv2.multiply(_held(cv2.merge([*cv2.split(front), alpha])), weight), trust

    def _moved(self, picture: np.ndarray, affine: np.ndarray, first: int = 0) -> np.ndarray:
        """A picture of the clip's camera moved as the torso is, from row `first` on."""
        import cv2

        matrix = pixel_map(self._camera, self._camera, affine)
        matrix[:, 2] += matrix[:, :2] @ np.array([0.5, 0.5]) - 0.5 - np.array([0, first])
        size = picture.shape[1], picture.shape[0] - first
        return cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def _completed(self, sample: Iterable[ClipFrame]) -> np.ndarray:
        """The resting torso with nothing before it: the mean of what the frames show, float32 [H, W, 4]."""
        total, necks, count = np.zeros((*self._plate.shape[:2], 5), np.float32), np.zeros((1, 1), np.float32), 0
        for frame in sample:
            shown, trust = self._shown(frame)
            back = inverse(frame.affine)
            total += self._moved(np.dstack([shown, trust]), back)
            necks = necks + self._moved((frame.labels == NECK).astype(np.float32), back)
            count += 1
        if not count:
            raise ValueError("no frame of the clip came; wanted some to complete the torso from")
        known = total[..., 4]
        mean = total[..., :4] / np.maximum(known, 1e-3)[..., None]
        sure = np.clip(known / (0.1 * count), 0, 1)
        spread = spread_inwards(mean, sure)
        alpha = spread[..., 3]
        colour = (
            spread_inwards(mean[..., :3], sure * mean[..., 3])
            / np.maximum(spread_inwards(mean[..., 3], sure * mean[..., 3]), 1e-3)[..., None]
        )
        full = np.clip((alpha - 0.4) * 5, 0, 1)
        full = np.maximum(full, _neck_column(necks / count))
        alpha = sure * mean[..., 3] + (1 - sure) * full
        return np.dstack([np.clip(colour, 0, 1) * alpha[..., None], alpha]).astype(np.float32)


class TorsoUnder:
    """Puts the clip's torso under rendered heads.

    Args:
        torso: of the clip.
        frame: gives any frame of the clip; asked mostly in rising order.
        camera: of the pictures.
        kept: so many frames' layers are kept in memory.
    """

    def __init__(self, torso: SourceTorso, frame: Callable[[int], ClipFrame], camera: Camera, kept: int = 8) -> None:
        self._torso, self._frame, self._camera, self._kept = torso, frame, camera, kept
        self._layers: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def under(self, head: np.ndarray, affine: np.ndarray, lent: Sequence[Lent]) -> np.ndarray:
        """The head over the torso: float32 [H, W, 4], premultiplied.

        Args:
            head: float32 [H, W, 4], premultiplied.
            affine: float [2, 3], where the torso is.
            lent: the clip's frames that show it.
        """
        import cv2

        body = None
        for part in lent:
            layer, own = self._layer(part.index)
            placed = self._torso.placed(layer, own, affine, self._camera)
            if part.share < 1:
                placed = placed * np.float32(part.share)
            body = placed if body is None else cv2.add(body, placed)
        if body is None:
            return head
        clear = cv2.merge([1 - cv2.extractChannel(head, 3)] * 4)
        return np.asarray(cv2.add(head, cv2.multiply(body, clear)))

    def _layer(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index not in self._layers:
            frame = self._frame(index)
            while len(self._layers) >= self._kept:
                del self._layers[next(iter(self._layers))]
            self._layers[index] = self._torso.layer(frame), frame.affine
        return self._layers[index]


def compose(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Affine maps of the plane, float [2, 3]: first `b`, then `a`."""
    return np.concatenate([a[:, :2] @ b[:, :2], a[:, :2] @ b[:, 2:] + a[:, 2:]], axis=1)


def inverse(a: np.ndarray) -> np.ndarray:
    """The inverse of an affine map of the plane, float [2, 3]."""
    linear = np.linalg.inv(a[:, :2].astype(np.float64))
    return np.concatenate([linear, -linear @ a[:, 2:]], axis=1)


def pixel_map(source: Camera, target: Camera, affine: np.ndarray) -> np.ndarray:
    """float64 [2, 3]: pixels of one camera to another's, by a map of the plane at z = 1; centres are at + 0.5."""
    to_plane = np.array(
        [
            [1 / source.focal_px, 0, -source.center_x_px / source.focal_px],
            [0, 1 / source.focal_px, -source.center_y_px / source.focal_px],
        ]
    )
    to_pixels = np.array([[target.focal_px, 0, target.center_x_px], [0, target.focal_px, target.center_y_px]])
    return compose(to_pixels, compose(np.asarray(affine, np.float64), to_plane))


def spread_inwards(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Values [H, W, ...] where they are known [H, W], and elsewhere what lies nearest, smoothly (pull-push, Gortler et
    al., The Lumigraph, 1996)."""
    import cv2

    weighted = np.dstack([values * (known if values.ndim == 2 else known[..., None]), known]).astype(np.float32)
    levels = [weighted]
    while min(levels[-1].shape[:2]) > 1:
        down = levels[-1]
        size = (down.shape[1] + 1) // 2, (down.shape[0] + 1) // 2
        small = cv2.resize(down, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], -1)
        levels.append(np.asarray(small / np.maximum(small[..., -1:], 0.25), np.float32))
    out = levels[-1] / np.maximum(levels[-1][..., -1:], 1e-6)
    for level in reversed(levels[:-1]):
        up = cv2.resize(out, (level.shape[1], level.shape[0]), interpolation=cv2.INTER_LINEAR)
        up = up.reshape(level.shape)
        out = level + (1 - np.minimum(level[..., -1:], 1)) * up
        out /= np.maximum(out[..., -1:], 1e-6)
    out = out[..., :-1]
    return np.asarray(out[..., 0] if values.ndim == 2 else out)


def _filled_from(picture: np.ndarray) -> int:
    """The first row of [H, W] that is not all zero; H where all are."""
    filled = picture.any(axis=1)
    return int(np.argmax(filled)) if filled.any() else len(filled)


def _feather_px(height: int) -> float:
    return max(_FEATHER * height, 0.5)


def _those(labels: np.ndarray, which: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W]: 1 where uint8 labels are any of these."""
    import cv2

    table = np.zeros(256, np.uint8)
    table[list(which)] = 1
    return np.asarray(cv2.LUT(labels, table))


def _held(rgba: np.ndarray) -> np.ndarray:
    """Premultiplied colours kept between nothing and their alpha, and that between 0 and 1."""
    import cv2

    alpha = np.minimum(cv2.extractChannel(rgba, 3), 1)
    held = cv2.min(rgba, cv2.merge([alpha] * 4))
    return np.asarray(np.maximum(held, 0, out=held))


def _wider(mask: np.ndarray, reach_px: float) -> np.ndarray:
    import cv2

    reach = max(round(reach_px), 1)
    return cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))


def _neck_column(neck: np.ndarray) -> np.ndarray:
    """How far each pixel lies in the neck's upward prolongation: float32 [H, W], of the neck's share in the frames."""
    import cv2

    out = np.zeros(neck.shape, np.float32)
    rows = np.flatnonzero((neck > 0.5).any(axis=1))
    if not len(rows):
        return out
    top = rows[: max(len(rows) // 3, 1)]
    widest = max(((np.flatnonzero(neck[row] > 0.5)) for row in top), key=len)
    left, right = int(widest[0]), int(widest[-1]) + 1
    inset = round(0.06 * (right - left))
    start = max(int(rows[0]) - round(_NECK_UP * (right - left)), 0)
    out[start : int(top[-1]) + 1, left + inset : right - inset] = 1
    return np.asarray(cv2.GaussianBlur(out, (0, 0), max(0.02 * (right - left), 0.5)))
