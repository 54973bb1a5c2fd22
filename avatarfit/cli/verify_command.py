"""`avatarfit verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from avatarfit.cli.types import MaybePath

if TYPE_CHECKING:
    from avatarfit.output.provenance_reading import Verdict


@dataclass(frozen=True)
class Verify:
    """Say what a file is: synthetic or not, of whom, driven by what, who signed that, and whether it was changed.

    It reads the C2PA manifest in the file or beside it and never uses the network. The exit code is 0 where the file is
    as it was signed, 1 where not, 2 where it carries no manifest. Who signed counts for as much as you trust the name:
    a file that is as it was signed by someone unknown may say anything.
    """

    file: tyro.conf.Positional[Path]
    """The video or picture, or the folder of an image sequence."""
    trust: MaybePath = None
    """PEM certificates of authorities to trust, such as the one that issued --sign-cert."""
    json: bool = False
    """Print it as JSON instead."""

    def run(self) -> int:
        """Print; the exit code."""
        from avatarfit.output.provenance_reading import verify

        verdict = verify(self.file, b"" if self.trust is None else _read(self.trust))
        if self.json:
            import json

            print(json.dumps(verdict.as_dict(), indent=2))
        else:
            print(verdict_text(verdict))
        return 0 if verdict.unchanged else 1


def verdict_text(verdict: Verdict) -> str:
    """A verdict for a person to read."""
    person = f"{verdict.person}, " if verdict.person else ""
    kind = f" ({verdict.source_type})" if verdict.source_type else ""
    made = f"{verdict.made_with} {verdict.made_by}".strip()
    rows = {
        "is": ("synthetic" if verdict.synthetic else "not called synthetic") + kind,
        "made with": made or "not said",
        "shows": f"{person}avatar {verdict.avatar_sha256}" if person or verdict.avatar_sha256 else "",
        "spoken sound": verdict.sound_sha256,
        "motion": verdict.motion_sha256,
        "footage": verdict.footage_sha256,
        "signed by": f"{verdict.signer} ({verdict.issuer}), {_TRUST[verdict.trust]}",
        "pictures": str(verdict.pictures) if verdict.pictures else "",
        "unchanged": "yes, as it was signed" if verdict.unchanged else f"NO: {'; '.join(verdict.faults)}",
    }
    shown = {name: text for name, text in rows.items() if text}
    width = max(map(len, shown))
    return "\n".join([str(verdict.path), *(f"  {name:<{width}}  {text}" for name, text in shown.items())])


_TRUST = {
    "own": "this computer's own certificate",
    "trusted": "whose authority is trusted",
    "unknown": "a name that nobody trusted here vouches for",
}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        from avatarfit.contracts import InputError

        raise InputError(f"--trust {path} cannot be read ({error.strerror})", "a PEM file", "check the name") from error
