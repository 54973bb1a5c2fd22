"""`avatarfit fetch`: the only thing that ever downloads, and only when asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from avatarfit.cli.types import MaybePath, MaybeText


@dataclass(frozen=True)
class Fetch:
    """Download Google's face_landmarker.task (4 MB), which gives blendshapes and finer landmarks; checked by its hash.

    Nothing else in avatarfit downloads anything, and everything works without it.
    """

    what: tyro.conf.Positional[Literal["landmarker"]]
    """What to fetch."""
    output: MaybePath = None
    """Where to put it; the user's cache if not given, where capture finds it by itself."""
    url: MaybeText = None
    """Another address to take it from, such as a mirror of your own; its official one if not given."""

    def run(self) -> int:
        """Fetch; the exit code."""
        from avatarfit.capture.landmark_source import BUNDLE_URL, fetch_bundle
        from avatarfit.cli.checks import check_output_file
        from avatarfit.pipeline.listeners import Listeners

        if self.output is not None:
            check_output_file(self.output, ".task")
        with Listeners() as on_event:
            path = fetch_bundle(self.output, url=self.url or BUNDLE_URL, on_event=on_event)
        print(f"{path} is here and checked")
        return 0
