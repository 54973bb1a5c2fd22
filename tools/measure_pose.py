"""Measure how well a captured clip's head pose agrees with its pictures, on skin that the solve did not look at."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import tyro

from avatarfit.capture import ClipFolder
from avatarfit.capture.pose_measure import HELD_OUT_PX, measure_pose
from avatarfit.contracts import AvatarfitError


@dataclass(frozen=True)
class Options:
    """What to measure."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A clip folder."""
    frames_apart: tuple[int, ...] = (1, 25, 100)
    """Distances between the compared frames."""


def main(options: Options) -> int:
    """Print the measurement as JSON; 0 on success, an error's exit code otherwise."""
    try:
        clip = ClipFolder.open(options.folder)

        def grays() -> Iterator[np.ndarray]:
            for frame in clip.frames():
                yield cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY)

        found = measure_pose(
            grays, clip.motion().head, clip.landmarks_cm, clip.landmarks_px, clip.camera, options.frames_apart
        )  # fmt: skip
    except AvatarfitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    report = {
        "clip": str(options.folder),
        "frames": len(clip),
        "unit": "pixels of a 512-pixel-wide picture",
        "features": f"corners of rigid skin at least {HELD_OUT_PX:g} px from every landmark of the solve, "
        "outer eye corners 134 px apart",
        "disagreement": [asdict(d) for d in found],
    }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
