"""The pass that looks at every kept picture once more: torso motion, person alpha and labels.

Decoding runs in the caller's thread; tracking, matting, labelling and coding in one thread each, at most a handful of
pictures apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_sample import KeptFrames, Sampled
from avatarfit.capture.face_points import CHIN, FOREHEAD_TOP
from avatarfit.capture.labels import Labeller
from avatarfit.capture.matte import RimMatte
from avatarfit.capture.person_alpha import AlphaSteadier
from avatarfit.capture.picture_maps import between_maps, head_map, moved_by_parts
from avatarfit.capture.torso_registration import normalised, rested
from avatarfit.capture.torso_tracker import TorsoPlace, TorsoTracker
from avatarfit.media import VideoWriter

_REACH = 2
_IN_FLIGHT = 6
_CARRIED = 0.25


@dataclass(frozen=True)
class _Seen:
    """A picture whose torso was placed: rgb uint8 [H, W, 3], the network's mask, where the torso is."""

    rgb: np.ndarray
    mask: np.ndarray
    torso: TorsoPlace


class _Parser:
    """Alpha, then labels, of pictures in time order; the two may run in a thread each."""

    def __init__(self, kept: KeptFrames, sampled: Sampled) -> None:
        self._landmarks_px = kept.landmarks_px
        self._steadier = AlphaSteadier(kept.camera.width_px, kept.camera.height_px)
        self._matte, self._labeller = RimMatte(sampled.plate), Labeller(sampled.parts)
        self._follow_torso = sampled.torso.usable
        self._former: np.ndarray | None = None

    def alpha(self, at: int, around: list[tuple[int, _Seen]]) -> np.ndarray:
        """uint8 [H, W], of picture `at`, the middle one of the five in `around`."""
        import cv2

        points = self._landmarks_px
        here = around[_REACH][1]
        heads = [np.eye(2, 3) if k == at else head_map(points[k], points[at]) for k, _ in around]
        # Where no torso is in view, what there is of a body is taken to go with the head.
        bodies = heads
        if self._follow_torso:
            bodies = [between_maps(seen.torso.affine_px, here.torso.affine_px) for _, seen in around]
        chin, top = float(points[at, CHIN, 1]), float(points[at, FOREHEAD_TOP, 1])
        seam = chin, chin + 0.25 * (chin - top)
        steadied = self._steadier.steady([seen.mask for _, seen in around], heads, bodies, seam)
        alpha = self._matte.refine(here.rgb, steadied)
        if self._former is not None:
            # The matte follows the picture's noise; a quarter of the former one takes most of that out.
            moved = moved_by_parts(self._former, heads[_REACH - 1], bodies[_REACH - 1], round(chin))
            alpha = np.asarray(cv2.addWeighted(alpha, 1 - _CARRIED, moved, _CARRIED, 0))
        self._former = alpha
        return alpha

    def labels(self, at: int, here: _Seen, alpha: Future[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(alpha, labels), both uint8 [H, W], of picture `at`."""
        body = here.torso.affine_px if self._follow_torso else None
        return alpha.result(), self._labeller.label(here.rgb, self._landmarks_px[at], alpha.result(), body)


def _place(tracker: TorsoTracker, rgb: np.ndarray, mask: np.ndarray) -> _Seen:
    import cv2

    return _Seen(rgb, mask, tracker.track(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)))


def write_masks(
    kept: KeptFrames, sampled: Sampled, person_path: Path, labels_path: Path, frame_rate_hz: float,
    step: Callable[[int], None],
) -> tuple[np.ndarray, dict[str, float]]:  # fmt: skip
    """Writes person alpha and labels of every kept picture, and measures the torso's motion.

    Returns:
        torso_affine float64 [K, 2, 3] in normalised coordinates against the resting (median) torso, and named figures.
    """
    size = kept.camera.width_px, kept.camera.height_px
    parser = _Parser(kept, sampled)
    places: list[TorsoPlace] = []
    window: deque[tuple[int, _Seen]] = deque()
    with (  # the threads end before the files that they write are closed
        VideoWriter(person_path, *size, frame_rate_hz, codec="ffv1", pixel="gray8") as person,
        VideoWriter(labels_path, *size, frame_rate_hz, codec="ffv1", pixel="gray8") as labels_out,
        ThreadPoolExecutor(1) as tracking,
        ThreadPoolExecutor(1) as matting,
        ThreadPoolExecutor(1) as labelling,
        ThreadPoolExecutor(1) as coding,
    ):
        placed: deque[Future[_Seen]] = deque()
        parsed: deque[Future[tuple[np.ndarray, np.ndarray]]] = deque()
        coded: deque[Future[None]] = deque()
        done = 0

        def code(alpha: np.ndarray, labels: np.ndarray) -> None:
            person.write(alpha)
            labels_out.write(labels)

        def pass_on(most: int) -> None:
            """Hands what is parsed to the coder until at most `most` pictures are under way."""
            nonlocal done
            while len(parsed) + len(coded) > most:
                while parsed and (parsed[0].done() or not coded):
                    coded.append(coding.submit(code, *parsed.popleft().result()))
                if coded:
                    coded.popleft().result()
                    done += 1
                    if done % 10 == 0 or done == len(kept):
                        step(done)

        def parse(at: int) -> None:
            """Has a picture parsed; the window holds its neighbours. Beyond the clip's ends, the last ones stand in."""
            first, last = window[0][0], window[-1][0]
            around = [window[min(max(at + d, first), last) - first] for d in range(-_REACH, _REACH + 1)]
            alpha = matting.submit(parser.alpha, at, around)
            parsed.append(labelling.submit(parser.labels, at, around[_REACH][1], alpha))
            if at >= _REACH:
                window.popleft()
            pass_on(_IN_FLIGHT)

        def take() -> None:
            seen = placed.popleft().result()
            window.append((len(places), seen))
            places.append(seen.torso)
            if len(places) > _REACH:
                parse(len(places) - 1 - _REACH)

        for _, rgb, mask in kept.pictures():
            placed.append(tracking.submit(_place, sampled.torso, rgb, mask))
            if len(placed) > _IN_FLIGHT:
                take()
        while placed:
            take()
        for at in range(max(len(places) - _REACH, 0), len(places)):
            parse(at)
        pass_on(0)
    return _torso_result(places, kept)


def _torso_result(places: list[TorsoPlace], kept: KeptFrames) -> tuple[np.ndarray, dict[str, float]]:
    affine = normalised(np.stack([p.affine_px for p in places]), kept.camera)
    good = np.array([p.found for p in places])
    values = {"torso_tracked_share": float(good.mean())}
    if good.any():
        # Pictures in which the torso was lost take the motion between their neighbours.
        at = np.arange(len(places))
        for i in range(2):
            for j in range(3):
                affine[:, i, j] = np.interp(at, at[good], affine[good, i, j])
        affine = rested(affine, kept.train_count)
        # Where the body usually is: below the picture's middle.
        low = np.array([0, kept.camera.height_px / 4 / kept.camera.focal_px])
        moved = np.linalg.norm(affine[:, :, :2] @ low + affine[:, :, 2] - low, axis=1) * kept.camera.focal_px
        values["torso_moved_px"] = float(np.median(moved[good]))
    return affine, values
