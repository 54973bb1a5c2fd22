"""Figures of many frames: the mean of each frame's own PSNR, SSIM, multi-scale SSIM and LPIPS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from avatarfit.evaluation.metrics import Pyramid, at_centres, masked_ssim, psnr_db, psnr_of_errors, similarity, ssim

REGIONS = ("person", "head", "mouth", "whole_frame")

Box = tuple[int, int, int, int]
Distance = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Truth:
    """What a rendered frame is compared with.

    Attributes:
        rgb: uint8 [H, W, 3].
        person: bool [H, W].
        mouth: left, top, right, bottom of the mouth's square.
        head: float [H, W], how much of each pixel is head; None where it is not judged.
        face: float [H, W], the face's oval as `composites.face_matte` gives it.
        labels: uint8 [H, W], the clip's labels at this size.
        landmarks_px: float64 [478, 2], the clip's landmarks at this size.
    """

    rgb: np.ndarray
    person: np.ndarray
    mouth: Box
    head: np.ndarray | None = None
    face: np.ndarray | None = None
    labels: np.ndarray | None = None
    landmarks_px: np.ndarray | None = None

    def exact(self) -> np.ndarray:
        """The picture as float32 in [0, 1]."""
        return self.rgb.astype(np.float32) / 255


@dataclass
class Scores:
    """Collects frames one at a time.

    Attributes:
        mouth_scales: of the mouth's multi-scale SSIM, one number for all frames; None leaves multi-scale SSIM out.
        perceptual: LPIPS of two pictures float [h, w, 3]; None where it is off.
        values: one list of figures per "region.metric", in the order the frames came.
    """

    mouth_scales: int | None = None
    perceptual: Distance | None = None
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, truth: Truth, picture: np.ndarray) -> dict[str, float]:
        """Judge `picture`, float [H, W, 3] in [0, 1], and keep the figures; the figures of this frame.

        A frame in which the person (the head) covers nothing has no figure for the person (the head).
        """
        figures = self._figures(truth, picture)
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)
        return figures

    def _figures(self, truth: Truth, picture: np.ndarray) -> dict[str, float]:
        exact, picture = truth.exact(), picture.astype(np.float32, copy=False)
        left, top, right, bottom = truth.mouth
        crop = np.s_[top:bottom, left:right]
        mouth = exact[crop], picture[crop]
        squared = np.square(exact - picture).mean(axis=-1)
        pyramid = None if self.mouth_scales is None else Pyramid(exact, picture)
        structural = (pyramid.scales[0] if pyramid else similarity(exact, picture)).map()
        head = None if truth.head is None else truth.head > 0.5
        masks = {"whole_frame": None, "person": truth.person, "head": head}
        figures: dict[str, float] = {}
        for region, mask in masks.items():
            if region != "whole_frame" and (mask is None or not at_centres(mask).any()):
                continue
            figures[f"{region}.psnr_db"] = psnr_of_errors(squared, mask)
            figures[f"{region}.ssim"] = masked_ssim(structural, mask)
            multi = pyramid.ms_ssim(mask) if pyramid else None
            if multi is not None:
                figures[f"{region}.ms_ssim"] = multi
        figures["mouth.psnr_db"] = psnr_db(*mouth)
        if self.mouth_scales is not None:
            small = Pyramid(*mouth, self.mouth_scales)
            figures["mouth.ssim"] = masked_ssim(small.scales[0].map(), None)
            figures["mouth.ms_ssim"] = small.ms_ssim() or 0.0
        else:
            figures["mouth.ssim"] = ssim(*mouth)
        if self.perceptual is not None:
            figures["whole_frame.lpips"] = self.perceptual(exact, picture)
            figures["mouth.lpips"] = self.perceptual(*mouth)
            if head is not None and head.any():
                rows, columns = np.flatnonzero(head.any(axis=1)), np.flatnonzero(head.any(axis=0))
                box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                figures["head.lpips"] = self.perceptual(exact[box], picture[box])
        return figures

    def means(self) -> dict[str, dict[str, float]]:
        """`{region: {psnr_db, ssim, ...}}`: the mean over the frames of each frame's figure."""
        result: dict[str, dict[str, float]] = {}
        for region in REGIONS:
            names = [n for n in self.values if n.startswith(region + ".")]
            result[region] = {n.split(".", 1)[1]: round(float(np.mean(self.values[n])), 4) for n in sorted(names)}
        return result
