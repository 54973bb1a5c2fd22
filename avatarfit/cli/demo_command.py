"""`avatarfit demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Show the whole way with a synthetic person: make a clip, fit it, let the avatar speak, measure it.

    It needs no clip, no download and no GPU, and takes under eight minutes on two processor cores.
    """

    output_dir: Path = Path("runs/demo")
    """Folder for everything that is made; it is made with its parents."""
    minutes: float = 2.0
    """How long to fit the picture."""
    size: int = 256
    """Width of the avatar's picture in pixels."""
    seed: int = 0
    """Seed of everything random."""

    def run(self) -> int:
        """Run the demo; the exit code."""
        from avatarfit.cli.checks import check_range
        from avatarfit.contracts import InputError

        check_range("--minutes", self.minutes, 0.01, 60)
        check_range("--size", self.size, 32, 1024)
        if self.output_dir.exists() and not self.output_dir.is_dir():
            raise InputError(f"the output {self.output_dir} is a file", "a folder", "choose another name")
        from avatarfit.cli.evaluate_command import figures_table
        from avatarfit.pipeline.demo import run_demo
        from avatarfit.pipeline.listeners import Listeners

        self.output_dir.mkdir(parents=True, exist_ok=True)
        with Listeners(self.output_dir) as on_event:
            result = run_demo(self.output_dir, minutes=self.minutes, size=self.size, seed=self.seed, on_event=on_event)
        print(figures_table(result.figures))
        print(f"The avatar is {result.avatar}, its figures are in {result.figures_path}.")
        print(f"Watch {result.video} and look at {result.contact_sheet}.")
        return 0
