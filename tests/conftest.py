from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests take the same landmarks everywhere, whatever bundle lies in this user's cache.
os.environ["AVATARFIT_FACE_LANDMARKER"] = "none"

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real clips, sound and models; tests that need it are skipped, loudly, where it is absent."""
    if not (SHARED / "clips").is_dir():
        pytest.skip(f"NO REAL CLIPS at {SHARED}: this test was not run")
    return SHARED
