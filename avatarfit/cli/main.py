"""The door: words on the command line become one command, and errors become one line and an exit code.

Exit codes: 0 done; 1 a fault of avatarfit's own (with its traceback) or a doctor's complaint; 2 something the person
can mend (one line on standard error); 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

import avatarfit
from avatarfit.cli.clip_commands import ExportClip, ImportClip, Report
from avatarfit.cli.compare_command import Compare
from avatarfit.cli.consent_command import ConsentCommand
from avatarfit.cli.convert_command import Convert
from avatarfit.cli.demo_command import Demo
from avatarfit.cli.drive_command import Drive
from avatarfit.cli.dub_command import Dub
from avatarfit.cli.evaluate_command import Evaluate
from avatarfit.cli.fetch_command import Fetch
from avatarfit.cli.fit_commands import Capture, Fit
from avatarfit.cli.look_commands import Doctor, Inspect
from avatarfit.cli.prior_command import FitDriver
from avatarfit.cli.serve_command import Serve
from avatarfit.cli.verify_command import Verify

_DESCRIPTION = """From a clip of one person to a digital human that speaks.

See the whole way with a synthetic person: avatarfit demo

Make an avatar of a person: avatarfit fit clip.mp4 -o anna.avatar

Make it speak: avatarfit drive anna.avatar --audio speech.wav -o talking.mp4

Let it answer live, in a browser: avatarfit serve anna.avatar
"""

Command = (
    Annotated[Fit, tyro.conf.subcommand("fit")]
    | Annotated[Drive, tyro.conf.subcommand("drive")]
    | Annotated[Dub, tyro.conf.subcommand("dub")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
    | Annotated[FitDriver, tyro.conf.subcommand("fit-driver")]
    | Annotated[Capture, tyro.conf.subcommand("capture")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[ExportClip, tyro.conf.subcommand("export-clip")]
    | Annotated[ImportClip, tyro.conf.subcommand("import-clip")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[ConsentCommand, tyro.conf.subcommand("consent")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"avatarfit {avatarfit.__version__}")
        return 0
    if not words:
        words = ["--help"]
    command = tyro.cli(
        Command,  # type: ignore[arg-type]
        prog="avatarfit",
        description=_DESCRIPTION,
        args=words,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
    )
    try:
        return command.run()
    except KeyboardInterrupt:
        print("avatarfit: stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        from avatarfit.contracts import AvatarfitError

        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" while writing {error.filename}" if error.filename else ""
            print(f"avatarfit: the disk is full{where}; make room and run the same command again.", file=sys.stderr)
            return AvatarfitError.exit_code
        if not isinstance(error, AvatarfitError):
            raise
        print(f"avatarfit: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
