"""The house holds: a package imports only from lower floors, and nothing heavy loads before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "avatarfit"
FLOOR = {
    "contracts": 0,
    "media": 1,
    "audio": 1,
    "ops": 1,
    "avatarfile": 1,
    "model": 2,
    "capture": 3,
    "fitting": 3,
    "performer": 3,
    "driving": 3,
    "rendering": 3,
    "compositing": 3,
    "output": 3,
    "evaluation": 4,
    "pipeline": 4,
    "cli": 5,
    "server": 5,
}
# Neighbours on one floor that may meet, and why: sound is read through media, its encoder is a kernel; fitting reads
# clip folders; the performer wears the face that capture finds; the demo and reports show what evaluation measures; a
# command starts the server.
NEIGHBOURS = {
    ("audio", "media"),
    ("audio", "ops"),
    ("fitting", "capture"),
    ("performer", "capture"),
    ("output", "compositing"),
    ("pipeline", "evaluation"),
    ("cli", "server"),
}
RUN_SIDE = {"driving", "rendering", "compositing", "output", "server"}
FIT_SIDE = {"capture", "fitting", "performer"}


def imported_packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "avatarfit" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                found.add(parts[1])
    return found


@pytest.mark.parametrize("package", sorted(FLOOR))
def test_imports_only_from_lower_floors(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        for other in imported_packages(path) - {package}:
            allowed = FLOOR[other] < FLOOR[package] or (package, other) in NEIGHBOURS
            assert allowed, f"{path.relative_to(ROOT)} imports avatarfit.{other}, which is not on a lower floor"
            assert not (package in RUN_SIDE and other in FIT_SIDE), f"{path}: the run side imports the fit side"


def test_every_package_has_its_floor() -> None:
    here = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert here - {"configs"} == set(FLOOR)


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_avatarfit_is_light() -> None:
    heavy = {"mediapipe", "torch", "cv2", "av", "avatarfit.ops"}
    assert not heavy & modules_after("import avatarfit")


@pytest.mark.parametrize("package", sorted(set(FLOOR) - {"capture", "performer"}))
def test_only_capture_and_performer_know_mediapipe(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        assert "import mediapipe" not in path.read_text(), path


def test_everything_imports_without_mediapipe() -> None:
    names = [f"avatarfit.{p.stem}" if p.is_dir() else "" for p in PACKAGE.iterdir() if p.name in FLOOR]
    blocked = "sys.modules['mediapipe'] = None\n" + "\n".join(f"import {name}" for name in names if name)
    assert "avatarfit.pipeline" in modules_after(blocked)
