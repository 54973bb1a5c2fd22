"""`avatarfit report`, `avatarfit export-clip` and `avatarfit import-clip`: what is done with a clip folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avatarfit.cli.types import MaybeFloat


@dataclass(frozen=True)
class Report:
    """Write a clip folder's report again: report.html and contact_sheet.png in it."""

    clip: tyro.conf.Positional[Path]
    """The clip folder (WORK_DIR/clip after `avatarfit fit`)."""

    def run(self) -> int:
        """Write it; the exit code."""
        from avatarfit.capture import ClipFolder
        from avatarfit.capture.report import write_report
        from avatarfit.cli.checks import check_clip_folder
        from avatarfit.pipeline.listeners import Listeners

        check_clip_folder(self.clip)
        clip = ClipFolder.open(self.clip)
        with Listeners() as on_event:
            report = write_report(clip, on_event)
        print(f"{report.page} and {report.contact_sheet} are written; {len(report.failed)} things to record again.")
        return 0


@dataclass(frozen=True)
class ExportClip:
    """Write a clip folder in a neighbour's format: adnerf, which SyncTalk, ER-NeRF and TalkingGaussian read."""

    clip: tyro.conf.Positional[Path]
    """The clip folder (WORK_DIR/clip after `avatarfit fit`)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The folder to make; it must not be there yet, or be one that an interrupted export left behind."""
    format: str = "adnerf"
    """The format; adnerf is the only one."""

    def run(self) -> int:
        """Export; the exit code."""
        from avatarfit.capture import ClipFolder
        from avatarfit.capture.exchange import export_adnerf
        from avatarfit.cli.checks import check_clip_folder
        from avatarfit.pipeline.listeners import Listeners

        _check_format(self.format)
        check_clip_folder(self.clip)
        clip = ClipFolder.open(self.clip)
        with Listeners() as on_event:
            count = export_adnerf(clip, self.output, on_event)
        print(f"{self.output}: {count} pictures; what each file is for is told in {self.output / 'README.txt'}")
        return 0


@dataclass(frozen=True)
class ImportClip:
    """Make a clip folder from a neighbour's: its pictures and sound become a video, and capture measures that."""

    folder: tyro.conf.Positional[Path]
    """The neighbour's folder, with transforms_train.json, ori_imgs/ and aud.wav."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The clip folder to make; the video goes beside it, as NAME.mkv."""
    format: str = "adnerf"
    """The format; adnerf is the only one."""
    fps: MaybeFloat = None
    """Pictures a second of the neighbour's folder; the format has 25 and does not say so."""

    def run(self) -> int:
        """Import; the exit code."""
        from avatarfit.capture.exchange import FRAME_RATE_HZ, import_adnerf
        from avatarfit.capture.report import write_report
        from avatarfit.cli.checks import check_output_folder, check_range
        from avatarfit.pipeline.listeners import Listeners

        _check_format(self.format)
        if self.fps is not None:
            check_range("--fps", self.fps, 1, 240)
        check_output_folder(self.output)
        with Listeners() as on_event:
            clip = import_adnerf(self.folder, self.output, self.fps or FRAME_RATE_HZ, on_event)
            write_report(clip, on_event)
        print(f"{self.output}: {len(clip)} frames are usable at {clip.frame_rate_hz:g} a second; see report.html in it")
        return 0


def _check_format(name: str) -> None:
    from avatarfit.contracts import InputError

    if name != "adnerf":
        raise InputError(f"--format came as {name}", "adnerf", "leave it away")
