"""What a sample of a clip's pictures teaches before every picture is parsed: parts, resting torso, plate."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avatarfit.capture.clip_folder import NECK, TORSO
from avatarfit.capture.labels import Labeller
from avatarfit.capture.part_model import PartModel, Sample
from avatarfit.capture.plate import PlateBuilder
from avatarfit.capture.source_view import SourceView, read_working_at
from avatarfit.capture.torso_shape import TorsoFlow
from avatarfit.capture.torso_tracker import TorsoTracker
from avatarfit.contracts import Camera
from avatarfit.contracts.geometry import HeadPose
from avatarfit.media import read_gray_video

_PART_SAMPLES = 24


@dataclass(frozen=True)
class KeptFrames:
    """What the earlier passes know of the K kept pictures.

    Attributes:
        source: the clip.
        view: the part of it that is worked on.
        raw_alpha: the network's masks of ALL pictures that were looked at.
        raw_rate_hz: the masks' pictures a second.
        source_index: int [K], rising: which of those were kept.
        pts_seconds: float64 [K], their times.
        landmarks_px: float32 [K, 478, 3].
        head: their poses.
        camera: the clip's camera.
        train_count: pictures that fitting may learn from.
    """

    source: Path
    view: SourceView
    raw_alpha: Path
    raw_rate_hz: float
    source_index: np.ndarray
    pts_seconds: np.ndarray
    landmarks_px: np.ndarray
    head: HeadPose
    camera: Camera
    train_count: int

    def __len__(self) -> int:
        return len(self.source_index)

    def between(self, first: int, stop: int) -> KeptFrames:
        """What is known of the pictures from `first` to before `stop`."""
        part = slice(first, stop)
        return replace(
            self, source_index=self.source_index[part], pts_seconds=self.pts_seconds[part],
            landmarks_px=self.landmarks_px[part], head=self.head[part],
        )  # fmt: skip

    def pictures(self, chosen: Collection[int] | None = None) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(place among the kept, rgb uint8 [H, W, 3], raw mask uint8 [256, 256]) of all, or of the chosen ones.

        Pictures that are not chosen cost their decoding alone.
        """
        places = list(range(len(self))) if chosen is None else sorted(chosen)
        first = int(self.source_index[places[0]])
        masks = enumerate(read_gray_video(self.raw_alpha, first / self.raw_rate_hz), start=first)
        pictures = read_working_at(self.source, self.view, self.pts_seconds[places])
        for place, frame in zip(places, pictures, strict=True):
            yield place, frame.rgb, next(mask for index, mask in masks if index == self.source_index[place])


@dataclass(frozen=True)
class Sampled:
    """What the sample of pictures taught."""

    parts: PartModel
    torso: TorsoTracker
    torso_flow: TorsoFlow
    plate: np.ndarray
    plate_seen: np.ndarray


def resting_frame(head: HeadPose, train_count: int) -> int:
    """The training frame whose pose is nearest to the clip's median pose."""
    state = np.concatenate(
        [head.rotation_wxyz[:train_count, 1:] * 20, head.translation_cm[:train_count]], axis=1
    ).astype(np.float64)  # a quaternion's vector is half the angle: 0.1 rad counts as a centimetre
    return int(np.argmin(np.linalg.norm(state - np.median(state, axis=0), axis=1)))


def sample_clip(kept: KeptFrames, step: Callable[[int], None]) -> Sampled:
    """Parts, plate and the resting torso from an even sample of the kept pictures."""
    import cv2

    width, height = kept.camera.width_px, kept.camera.height_px
    plate = PlateBuilder(height, width)
    reference = resting_frame(kept.head, kept.train_count)

    def spread(count: int) -> set[int]:
        return set(np.unique(np.linspace(0, len(kept) - 1, count).round().astype(int)).tolist())

    for_plate = spread(plate.capacity)
    chosen = sorted(for_plate | {reference})
    for_parts = {chosen[int(k)] for k in np.linspace(0, len(chosen) - 1, _PART_SAMPLES)} | {reference}
    samples: dict[int, Sample] = {}
    resting: tuple[np.ndarray, np.ndarray] | None = None
    for index, rgb, mask in kept.pictures(chosen):
        person = cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR)
        if index in for_plate:
            plate.add(rgb, person)
        if index in for_parts:
            samples[index] = Sample.of(rgb, kept.landmarks_px[index], mask)
        if index == reference:
            resting = rgb, person
        step(index + 1)
    assert resting is not None
    parts = PartModel.learn([samples.pop(reference), *samples.values()])
    rgb, person = resting
    labels = Labeller(parts).label(rgb, kept.landmarks_px[reference], person)
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    tracker = TorsoTracker(gray, (labels == TORSO).astype(np.uint8), (person >= 128).astype(np.uint8))
    flow = TorsoFlow(gray, np.isin(labels, (NECK, TORSO)).astype(np.uint8), kept.camera)
    return Sampled(parts, tracker, flow, *plate.finish())
