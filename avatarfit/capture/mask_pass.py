"""The second and third pass over the clip: torso motion, person alpha, labels and the background plate.

First a sample of pictures is looked at (skin colour, plate, the resting torso), then every kept picture in turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_folder import TORSO
from avatarfit.capture.face_points import CHIN, FOREHEAD_TOP, RIGID
from avatarfit.capture.labels import SkinColor, label_picture
from avatarfit.capture.person_alpha import AlphaSteadier
from avatarfit.capture.plate import PlateBuilder
from avatarfit.capture.torso_alignment import TorsoAligner
from avatarfit.capture.torso_registration import Registration, TorsoRegistrar, normalised, rested
from avatarfit.contracts import Camera
from avatarfit.contracts.geometry import HeadPose
from avatarfit.media import VideoWriter, read_gray_video, read_video

_REACH = 2
_AGREEING = 0.2
_FEWEST_PIXELS = 300
_IN_FLIGHT = 8


@dataclass(frozen=True)
class KeptFrames:
    """What the earlier passes know of the K kept pictures.

    Attributes:
        source: the clip.
        raw_alpha: the network's masks of ALL source pictures.
        source_index: int [K], rising.
        landmarks_px: float32 [K, 478, 3].
        head: their poses.
        camera: the clip's camera.
        train_count: pictures that fitting may learn from.
    """

    source: Path
    raw_alpha: Path
    source_index: np.ndarray
    landmarks_px: np.ndarray
    head: HeadPose
    camera: Camera
    train_count: int

    def __len__(self) -> int:
        return len(self.source_index)

    def pictures(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rgb uint8 [H, W, 3], raw mask uint8 [256, 256]) of every kept picture."""
        wanted = set(self.source_index.tolist())
        last = int(self.source_index[-1])
        both = zip(read_video(self.source), read_gray_video(self.raw_alpha), strict=True)
        for index, (frame, mask) in enumerate(both):
            if index in wanted:
                yield frame.rgb, mask
            if index >= last:
                return


class TorsoTracker:
    """Corners find the torso from any distance, direct alignment then places it; for pictures in time order.

    Args:
        gray, torso, person: the resting picture uint8 [H, W], its torso and its person (non-zero inside).
    """

    def __init__(self, gray: np.ndarray, torso: np.ndarray, person: np.ndarray) -> None:
        self._registrar, self._aligner = TorsoRegistrar(gray, torso), TorsoAligner(gray, torso, person)
        self._former = np.eye(2, 3)

    def track(self, gray: np.ndarray) -> Registration:
        """Where the torso of the next picture is."""
        found = self._registrar.register(gray)
        if found.agreeing <= _AGREEING or self._aligner.pixel_count < _FEWEST_PIXELS:
            return found
        aligned = self._aligner.align(gray, found.affine_px, self._former)
        self._former = aligned.affine_px
        self._registrar.follow(aligned.affine_px)
        return replace(found, affine_px=aligned.affine_px)


@dataclass(frozen=True)
class Sampled:
    """What the sample of pictures taught."""

    skin: SkinColor
    torso: TorsoTracker
    reference: int
    plate: np.ndarray
    plate_seen: np.ndarray


def resting_frame(head: HeadPose, train_count: int) -> int:
    """The training frame whose pose is nearest to the clip's median pose."""
    state = np.concatenate(
        [head.rotation_wxyz[:train_count, 1:] * 20, head.translation_cm[:train_count]], axis=1
    ).astype(np.float64)  # a quaternion's vector is half the angle: 0.1 rad counts as a centimetre
    return int(np.argmin(np.linalg.norm(state - np.median(state, axis=0), axis=1)))


def sample_clip(kept: KeptFrames, step: Callable[[int], None]) -> Sampled:
    """Skin colour, plate and the resting torso from an even sample of the kept pictures."""
    import cv2

    width, height = kept.camera.width_px, kept.camera.height_px
    plate = PlateBuilder(height, width)
    chosen = set(np.unique(np.linspace(0, len(kept) - 1, plate.capacity).astype(int)).tolist())
    reference = resting_frame(kept.head, kept.train_count)
    skin = SkinColor()
    resting: tuple[np.ndarray, np.ndarray] | None = None
    for index, (rgb, mask) in enumerate(kept.pictures()):
        if index in chosen or index == reference:
            person = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
            if index in chosen:
                plate.add(rgb, person)
                skin.add(rgb, kept.landmarks_px[index], person)
            if index == reference:
                resting = rgb, person
        if index % 20 == 19:
            step(index + 1)
    skin.finish()
    assert resting is not None
    rgb, person = resting
    torso = (label_picture(rgb, kept.landmarks_px[reference], person, skin) == TORSO).astype(np.uint8)
    tracker = TorsoTracker(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), torso, (person >= 128).astype(np.uint8))
    return Sampled(skin, tracker, reference, *plate.finish())


@dataclass
class _Waiting:
    rgb: np.ndarray
    mask: np.ndarray
    torso: Future[Registration]


def write_masks(
    kept: KeptFrames, sampled: Sampled, person_path: Path, labels_path: Path, frame_rate_hz: float,
    step: Callable[[int], None],
) -> tuple[np.ndarray, dict[str, float]]:  # fmt: skip
    """Writes person alpha and labels of every kept picture, and measures the torso's motion.

    Returns:
        torso_affine float64 [K, 2, 3] in normalised coordinates against the resting (median) torso, and named figures.
    """
    import cv2

    width, height = kept.camera.width_px, kept.camera.height_px
    steadier = AlphaSteadier(width, height)
    rigid = _rigid_motion(kept)
    found: list[Registration] = []
    window: deque[tuple[np.ndarray, np.ndarray]] = deque()  # (rgb, mask), around the picture being written
    flicker = _Flicker()
    written = 0

    def write_next(last: bool) -> None:
        """Writes the picture at `written`; the window holds its neighbours."""
        nonlocal written
        at = written
        first = at - min(at, _REACH)
        around = [min(max(at + d, first), len(found) - 1) for d in range(-_REACH, _REACH + 1)]
        masks = [window[k - first][1] for k in around]
        here = found[at].affine_px
        chin, top = kept.landmarks_px[at, CHIN, 1], kept.landmarks_px[at, FOREHEAD_TOP, 1]
        alpha = steadier.steady(
            masks,
            [rigid(k, at) for k in around],
            [_chain(found[k].affine_px, here) for k in around],
            (float(chin), float(chin + 0.25 * (chin - top))),
        )
        rgb = window[at - first][0]
        labels = label_picture(rgb, kept.landmarks_px[at], alpha, sampled.skin)
        flicker.add(masks[_REACH], alpha, rigid(at - 1, at) if at else None)
        saves.append(saver.submit(_save, person, labels_out, alpha, labels))
        while len(saves) > _IN_FLIGHT:
            saves.popleft().result()
        written += 1
        if written > _REACH:
            window.popleft()
        if written % 10 == 0 or last:
            step(written)

    rate = frame_rate_hz
    with (  # the threads end before the files that they write are closed
        VideoWriter(person_path, width, height, rate, codec="ffv1", pixel="gray8") as person,
        VideoWriter(labels_path, width, height, rate, codec="ffv1", pixel="gray8") as labels_out,
        ThreadPoolExecutor(1) as tracker,
        ThreadPoolExecutor(1) as saver,
    ):
        saves: deque[Future[None]] = deque()
        waiting: deque[_Waiting] = deque()

        def take() -> None:
            ready = waiting.popleft()
            found.append(ready.torso.result())
            window.append((ready.rgb, ready.mask))
            if len(found) > written + _REACH:
                write_next(False)

        for rgb, mask in kept.pictures():
            gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
            waiting.append(_Waiting(rgb, mask, tracker.submit(sampled.torso.track, gray)))
            if len(waiting) > 4:
                take()
        while waiting:
            take()
        while written < len(found):
            write_next(written == len(found) - 1)
        for save in saves:
            save.result()
    return _torso_result(found, kept, flicker)


def _save(person: VideoWriter, labels_out: VideoWriter, alpha: np.ndarray, labels: np.ndarray) -> None:
    person.write(alpha)
    labels_out.write(labels)


def _chain(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The map from `source`'s picture to `target`'s, both given as maps [2, 3] from one reference."""
    linear = target[:, :2] @ np.linalg.inv(source[:, :2])
    return np.concatenate([linear, (target[:, 2] - linear @ source[:, 2])[:, None]], axis=1)


def _rigid_motion(kept: KeptFrames) -> Callable[[int, int], np.ndarray]:
    """A function (from, to) -> affine map [2, 3] of pixel indices that follows the head between two kept pictures."""
    points = kept.landmarks_px[:, RIGID, :2].astype(np.float64) - 0.5

    def motion(source: int, target: int) -> np.ndarray:
        if source == target:
            return np.eye(2, 3)
        design = np.concatenate([points[source], np.ones((len(RIGID), 1))], axis=1)
        return np.linalg.lstsq(design, points[target], rcond=None)[0].T

    return motion


class _Flicker:
    """Mean absolute change of the mask from picture to picture once the head's motion is taken out."""

    def __init__(self) -> None:
        self._former: tuple[np.ndarray, np.ndarray] | None = None
        self._sums = np.zeros(3)

    def add(self, raw: np.ndarray, steadied: np.ndarray, head: np.ndarray | None) -> None:
        import cv2

        size = steadied.shape[::-1]
        raw = cv2.resize(raw, size, interpolation=cv2.INTER_LINEAR)
        if self._former is not None and head is not None:
            for k, (before, now) in enumerate(zip(self._former, (raw, steadied), strict=True)):
                moved = cv2.warpAffine(before, head, size, borderMode=cv2.BORDER_REPLICATE)
                self._sums[k] += float(cv2.absdiff(moved, now).mean())
            self._sums[2] += 1
        self._former = raw, steadied

    def values(self) -> dict[str, float]:
        count = max(self._sums[2], 1)
        return {"flicker_raw": self._sums[0] / count, "flicker_steadied": self._sums[1] / count}


def _torso_result(
    found: list[Registration], kept: KeptFrames, flicker: _Flicker
) -> tuple[np.ndarray, dict[str, float]]:
    affine = normalised(np.stack([r.affine_px for r in found]), kept.camera)
    good = np.array([r.agreeing > _AGREEING for r in found])
    values = flicker.values()
    values["torso_tracked_share"] = float(good.mean())
    if good.any():
        # Pictures in which the torso was lost take the motion between their neighbours.
        at = np.arange(len(found))
        for i in range(2):
            for j in range(3):
                affine[:, i, j] = np.interp(at, at[good], affine[good, i, j])
        values["torso_residual_px"] = float(np.median([r.residual_px for r, g in zip(found, good, strict=True) if g]))
        values["torso_moved_px"] = float(np.median([r.moved_px for r, g in zip(found, good, strict=True) if g]))
        affine = rested(affine, kept.train_count)
    return affine, values
