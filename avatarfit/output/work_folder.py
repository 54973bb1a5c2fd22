"""The folder beside an output in which it grows, and by which a stopped run is taken up again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from avatarfit.contracts import InputError

_PLAN = "plan.json"


class WorkFolder:
    """`PATH.part/` beside `PATH`: the plan of the film in it, and what is made of it so far.

    Args:
        output: what it is for.
        plan: everything that decides what the pictures look like; a stopped run is only taken up by one of the same.
        resume: take up what is there; otherwise it is removed.

    Raises:
        InputError: what is there was not made by a run like this, or cannot be written.
    """

    def __init__(self, output: Path, plan: Mapping[str, object], resume: bool) -> None:
        self.path = output.with_name(output.name + ".part")
        plan_file = self.path / _PLAN
        if self.path.exists() and not plan_file.is_file() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError(
                f"{self.path} is in the way and was not left by a stopped run", "that place for unfinished pictures",
                "move it away",
            )  # fmt: skip
        wanted = json.loads(json.dumps(plan))
        if plan_file.is_file():
            if resume:
                self._check_same(plan_file, wanted)
                return
            shutil.rmtree(self.path)
        try:
            self.path.mkdir(exist_ok=True)
            plan_file.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        except PermissionError as error:
            raise InputError(
                f"the folder {output.parent} may not be written", "a folder that may be written",
                "choose another folder",
            ) from error  # fmt: skip

    def _check_same(self, plan_file: Path, wanted: Mapping[str, object]) -> None:
        try:
            found = json.loads(plan_file.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise InputError(f"{plan_file} is damaged", "what a stopped run has left", "start again without --resume")
        different = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        if different:
            was = ", ".join(
                f"{k.replace('_', ' ')} {_said(found.get(k))} not {_said(wanted.get(k))}" for k in different
            )
            raise InputError(
                f"the run that stopped at {self.path} was another: {was}", "the same command to go on with",
                "give the same options, or start again without --resume",
            )  # fmt: skip

    def remove_unless_begun(self) -> None:
        """Remove it where no picture was made yet."""
        if not any(path.is_file() for path in self.path.rglob("*") if path.name != _PLAN):
            self.remove()

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


def _said(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "..."
