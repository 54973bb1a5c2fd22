"""What is driven says of whom and by what; an avatar keeps who agreed."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from avatarfit.avatarfile import Consent, read_avatar, write_avatar
from avatarfit.compositing import parse_background
from avatarfit.compositing.mark import Mark
from avatarfit.contracts import FileFormatError, InputError
from avatarfit.contracts.events import Note
from avatarfit.media import read_video
from avatarfit.model.avatar import Avatar
from avatarfit.output import OutputOptions
from avatarfit.output.provenance import Signing
from avatarfit.output.provenance_reading import verify
from avatarfit.pipeline.drive import drive_avatar
from avatarfit.pipeline.origin import shows_real_pictures
from tests.pipeline.test_drive import run, scene  # noqa: F401 (a fixture)

ANN = Consent("Ann Example", "the news", "2026-01-31")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_driven_video_says_what_it_is(scene: SimpleNamespace, tmp_path: Path) -> None:  # noqa: F811
    run(scene, tmp_path)
    verdict = verify(tmp_path / "out.mp4")
    assert verdict.unchanged
    assert (verdict.source_type, verdict.made_by) == ("compositeSynthetic", "drive")  # over the clip's background
    assert (verdict.avatar_sha256, verdict.person) == ("ab" * 32, "")
    assert verdict.sound_sha256 == sha256(tmp_path / "speech.wav")

    scene.consent = ANN
    run(scene, tmp_path, background="green", require_consent=True)
    verdict = verify(tmp_path / "out.mp4")
    assert (verdict.source_type, verdict.person) == ("trainedAlgorithmicMedia", "Ann Example")


def test_key_and_fill_and_pictures_are_signed(scene: SimpleNamespace, tmp_path: Path) -> None:  # noqa: F811
    options = OutputOptions(codec="png", key_fill=True)
    drive_avatar(scene, tmp_path / "speech.wav", tmp_path / "frames", background="none", output_options=options)
    for name in ("frames.key", "frames.fill"):
        verdict = verify(tmp_path / name)
        assert verdict.unchanged
        assert verdict.pictures == 41
    assert verify(tmp_path / "frames.fill" / "000007.png").unchanged


def test_without_consent_or_a_certificate_that_signs_nothing_begins(
    scene: SimpleNamespace,  # noqa: F811
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match="records nobody's consent"):
        run(scene, tmp_path, require_consent=True)
    speech = tmp_path / "speech.wav"
    with pytest.raises(InputError, match="holds no certificate"):
        run(scene, tmp_path, signing=Signing(speech, speech))
    assert [entry.name for entry in tmp_path.iterdir()] == ["speech.wav"]


def test_an_unsigned_video_is_said_to_be_one(
    scene: SimpleNamespace,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "c2pa", None)
        _, events = run(scene, tmp_path)
    assert [event.text for event in events if isinstance(event, Note) and "no signed record" in event.text]
    with pytest.raises(InputError, match="carries no manifest"):
        verify(tmp_path / "out.mp4")


def test_the_mark_is_on_every_picture(scene: SimpleNamespace, tmp_path: Path) -> None:  # noqa: F811
    mark = Mark("AI")
    run(scene, tmp_path, background="white", mark=mark)
    rows, columns, _ = mark.patch(32, 48)
    for frame in read_video(tmp_path / "out.mp4"):
        assert frame.rgb[rows, columns][:, 18:].mean() < 200  # the plate, where the picture is white
        assert frame.rgb[30:, 20:].mean() > 250


def test_only_filmed_pictures_make_a_composite() -> None:
    assert not shows_real_pictures(parse_background("green"), "model")
    assert not shows_real_pictures(parse_background("none"), "none")
    assert shows_real_pictures(parse_background("clip"), "model")
    assert shows_real_pictures(parse_background("none"), "source")


def test_an_avatar_keeps_who_agreed(hashgrid_avatar: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.avatar"
    avatar = replace(hashgrid_avatar, consent=ANN)
    avatar.save(path)
    assert avatar.file_sha256 == sha256(path)
    loaded = Avatar.load(path)
    assert loaded.consent == ANN
    assert loaded.file_sha256 == sha256(path)
    header, tensors = read_avatar(path)
    write_avatar(path, {**header, "consent": {"name": ["Ann"]}}, tensors)
    with pytest.raises(FileFormatError, match="damaged record of consent"):
        Avatar.load(path)


def test_nothing_but_signing_needs_the_package() -> None:
    import subprocess

    names = ["pipeline.drive", "pipeline.fit", "output.provenance_reading", "cli.main", "cli.verify_command"]
    code = "import sys\nsys.modules['c2pa'] = sys.modules['cryptography'] = None\n"
    code += "\n".join(f"import avatarfit.{name}" for name in names)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
