"""Figures of many frames: the mean of each frame's own PSNR and SSIM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from avatarfit.evaluation.metrics import masked_ssim, psnr_db, ssim, ssim_map

REGIONS = ("person", "mouth", "whole_frame")

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Truth:
    """What a rendered frame is compared with.

    Attributes:
        rgb: uint8 [H, W, 3].
        person: bool [H, W].
        mouth: left, top, right, bottom of the mouth's square.
    """

    rgb: np.ndarray
    person: np.ndarray
    mouth: Box


@dataclass
class Scores:
    """Collects frames one at a time.

    Attributes:
        values: one list of figures per "region.metric", in the order the frames came.
    """

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, truth: Truth, picture: np.ndarray) -> dict[str, float]:
        """Judge `picture`, float [H, W, 3] in [0, 1], and keep the figures; the figures of this frame.

        A frame in which the person covers nothing has no figure for the person.
        """
        exact = truth.rgb.astype(np.float64) / 255
        similarity = ssim_map(exact, picture)
        left, top, right, bottom = truth.mouth
        crop = np.s_[top:bottom, left:right]
        figures = {
            "whole_frame.psnr_db": psnr_db(exact, picture),
            "whole_frame.ssim": masked_ssim(similarity, None),
            "mouth.psnr_db": psnr_db(exact[crop], picture[crop]),
            "mouth.ssim": ssim(exact[crop], picture[crop]),
        }
        if truth.person[5:-5, 5:-5].any():
            figures["person.psnr_db"] = psnr_db(exact, picture, truth.person)
            figures["person.ssim"] = masked_ssim(similarity, truth.person)
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)
        return figures

    def means(self) -> dict[str, dict[str, float]]:
        """`{region: {psnr_db, ssim}}`: the mean over the frames of each frame's figure."""
        result: dict[str, dict[str, float]] = {}
        for region in REGIONS:
            names = [n for n in self.values if n.startswith(region + ".")]
            result[region] = {n.split(".", 1)[1]: round(float(np.mean(self.values[n])), 4) for n in sorted(names)}
        return result
