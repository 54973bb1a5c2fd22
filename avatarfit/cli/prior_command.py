"""`avatarfit fit-driver`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatarfit.cli.types import MaybeInt


@dataclass(frozen=True)
class FitDriver:
    """Learn from clips of several people what lips have in common, for `avatarfit fit --driver-prior`.

    Each clip: a clip folder made by `avatarfit capture`; the last eleventh of it is not looked at.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The file to write, such as many.driver."""
    clips: tuple[Path, ...]
    """The clip folders."""
    steps: MaybeInt = None
    """Number of optimisation steps; as many as the people need if not given."""
    seed: int = 0
    """Seed of everything random."""
    features: str = "built-in"
    """What the driver hears, as of `avatarfit fit`."""

    def run(self) -> int:
        """Fit; the exit code."""
        from avatarfit.cli.checks import check_output_file, check_range
        from avatarfit.contracts import InputError

        check_output_file(self.output, ".driver")
        if self.steps is not None:
            check_range("--steps", self.steps, 1, 10_000_000)
        for clip in self.clips:
            if not clip.is_dir():
                raise InputError(f"{clip} is no folder", "a clip folder", "make one with avatarfit capture")
        from avatarfit.pipeline.fit import fit_driver_prior
        from avatarfit.pipeline.listeners import Listeners

        with Listeners() as on_event:
            prior = fit_driver_prior(
                self.clips, self.output, features=self.features, steps=self.steps, seed=self.seed, on_event=on_event
            )
        print(
            f"{self.output}: {prior.people} people, {prior.seconds:.0f} s of speech; a person's fit begins with it: "
            f"avatarfit fit clip.mp4 --driver-prior {self.output} -o person.avatar"
        )
        return 0
