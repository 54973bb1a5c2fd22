"""Write a clip of the synthetic performer: a video to fit an avatar to when no real clip is at hand."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from avatarfit.contracts import AvatarfitError
from avatarfit.contracts.events import Event, Progress
from avatarfit.performer import write_sample_clip


@dataclass(frozen=True)
class Options:
    """What to write."""

    output: Path = Path("sample.mp4")
    """The MP4; its truth goes beside it as NAME.truth.safetensors."""
    seconds: float = 20.0
    """Length."""
    size: int = 256
    """Width and height in pixels."""
    fps: float = 25.0
    """Frames a second."""
    seed: int = 0
    """Another number gives another person who says and does other things."""


def main(options: Options) -> int:
    """Write the clip; 0 on success, an error's exit code otherwise."""
    with tqdm(unit="frame") as bar:

        def show(event: Event) -> None:
            if isinstance(event, Progress):
                bar.total = event.total
                bar.update(event.step - bar.n)

        try:
            write_sample_clip(
                options.output, options.seconds, width_px=options.size, frame_rate_hz=options.fps, seed=options.seed,
                on_event=show,
            )  # fmt: skip
        except AvatarfitError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
