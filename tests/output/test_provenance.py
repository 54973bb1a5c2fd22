from __future__ import annotations

import errno
import hashlib
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avatarfit.contracts import BackendError, FileFormatError, InputError
from avatarfit.contracts.events import Event, Note
from avatarfit.media import VideoWriter
from avatarfit.output import provenance, write_png
from avatarfit.output.provenance import Origin, Sealer, Signing, listing_of, open_sealer, sidecar_of
from avatarfit.output.provenance_reading import verify
from avatarfit.output.signing_identity import local_chain_pem, local_identity

AVATAR, SOUND = "a" * 64, "b" * 64
ORIGIN = Origin("drive", False, AVATAR, "Ann Example", SOUND)


@pytest.fixture
def sealer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sealer:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Sealer(ORIGIN, local_identity())


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of ten grey pictures; MP4, and MOV and MKV beside it."""
    folder = tmp_path_factory.mktemp("film")
    for suffix in ("mp4", "mov", "mkv"):
        with VideoWriter(folder / f"film.{suffix}", 64, 48, 25) as writer:
            for level in range(10):
                writer.write(np.full((48, 64, 3), 20 * level, np.uint8))
    return folder / "film.mp4"


def sealed(sealer: Sealer, source: Path, target: Path) -> Path:
    """As a sink does it: beside its place first."""
    part = target.with_name(target.name + ".part")
    shutil.copy(source, part)
    sealer.seal(part, target)
    part.rename(target)
    return target


def pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_film_says_what_it_is_and_still_plays(sealer: Sealer, film: Path, tmp_path: Path, suffix: str) -> None:
    source = film.with_suffix(suffix)
    path = sealed(sealer, source, tmp_path / f"talk{suffix}")
    assert sidecar_of(path).is_file() == (suffix == ".mkv")
    assert not list(tmp_path.glob("*.part*")) + list(tmp_path.glob("*.signed"))
    for before, after in zip(pictures(source), pictures(path), strict=True):
        np.testing.assert_array_equal(before, after)
    verdict = verify(path)
    assert verdict.unchanged
    assert verdict.faults == ()
    assert verdict.synthetic
    assert verdict.source_type == "trainedAlgorithmicMedia"
    assert (verdict.avatar_sha256, verdict.sound_sha256, verdict.person) == (AVATAR, SOUND, "Ann Example")
    assert verdict.made_with.startswith("avatarfit ")
    assert verdict.made_by == "drive"
    assert verdict.trust == "own"
    assert verdict.signer == sealer.identity.name


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_changed_byte_is_found(sealer: Sealer, film: Path, tmp_path: Path, suffix: str) -> None:
    path = sealed(sealer, film.with_suffix(suffix), tmp_path / f"talk{suffix}")
    data = bytearray(path.read_bytes())
    data[data.index(b"mdat") + 40 if suffix == ".mp4" else len(data) // 2] ^= 1
    path.write_bytes(data)
    verdict = verify(path)
    assert not verdict.unchanged
    assert verdict.faults == ("it was changed since it was signed",)
    assert verdict.avatar_sha256 == AVATAR  # what it said is still shown


def test_a_forged_claim_is_found(sealer: Sealer, film: Path, tmp_path: Path) -> None:
    path = sealed(sealer, film, tmp_path / "talk.mp4")
    data = path.read_bytes()
    assert data.count(b"Ann Example") == 1
    path.write_bytes(data.replace(b"Ann Example", b"Bob Example"))
    assert not verify(path).unchanged


def test_another_signer_is_unknown_unless_trusted(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
    path = sealed(Sealer(ORIGIN, local_identity()), film, tmp_path / "talk.mp4")
    theirs = local_chain_pem()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "ours"))
    assert verify(path).trust == "unknown"
    local_identity()
    assert verify(path).trust == "unknown"
    assert verify(path, theirs).trust == "trusted"
    assert verify(path).unchanged
    with pytest.raises(InputError, match="not PEM"):
        verify(path, b"\xff hello")


def test_somebody_elses_manifest_is_read_for_what_it_is(
    sealer: Sealer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import c2pa

    picture = tmp_path / "photo.png"
    write_png(picture, np.zeros((8, 8, 3), np.uint8))
    hostile = {"synthetic": "yes", "avatar": [1, 2], "made_by": "\x1b[2J" + "x" * 5000, "sound": {"sha256": "short"}}
    definition = {
        "title": "photo", "claim_generator_info": [{"name": "A camera\x1b[2J", "version": "2"}],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [{
                "action": "c2pa.created",
                "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"}]}},
            {"label": provenance.SYNTHESIS, "data": hostile},
        ],
    }  # fmt: skip
    monkeypatch.setattr(Origin, "manifest", lambda self, title: definition)
    sealer.seal(picture, picture)
    with picture.open("rb") as file, c2pa.Reader("image/png", file) as reader:
        assert "A camera" in reader.json()
    verdict = verify(picture)
    assert verdict.unchanged
    assert not verdict.synthetic
    assert verdict.source_type == "digitalCapture"
    assert verdict.made_with.startswith("A camera")
    assert (verdict.avatar_sha256, verdict.sound_sha256, verdict.person) == ("", "", "")
    assert all(value.isprintable() and len(value) < 400 for value in vars(verdict).values() if isinstance(value, str))


def test_composites_are_called_so() -> None:
    assert Origin("dub", True).source_type.endswith("/compositeSynthetic")
    assert Origin("drive", False).source_type.endswith("/trainedAlgorithmicMedia")
    assertions = Origin("dub", True, footage_sha256=SOUND).manifest("a")["assertions"]
    assert assertions[1]["data"]["footage"] == {"sha256": SOUND}
    assert "avatar" not in assertions[1]["data"]


def sequence(sealer: Sealer, folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for index in range(count):
        write_png(folder / f"{index:06d}.png", np.full((8, 8, 3), index, np.uint8))
    sealer.seal_sequence(sorted(folder.glob("*.png")), listing_of(folder))
    return folder


def test_a_sequence_is_signed_over_its_files(sealer: Sealer, tmp_path: Path) -> None:
    folder = sequence(sealer, tmp_path / "frames")
    lines = (folder / "pictures.sha256").read_text().splitlines()
    digest = hashlib.sha256((folder / "000001.png").read_bytes()).hexdigest()
    assert lines[1] == f"{digest}  000001.png"  # as sha256sum writes and checks it
    for path in (folder, folder / "pictures.sha256", folder / "pictures.sha256.c2pa"):
        verdict = verify(path)
        assert verdict.unchanged
        assert verdict.pictures == 3
        assert verdict.person == "Ann Example"
    assert verify(folder / "000002.png").pictures == 1

    write_png(folder / "000001.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "000002.png").unlink()
    assert verify(folder).faults == ("000001.png changed since they were signed", "000002.png missing")
    assert verify(folder / "000000.png").unchanged
    assert not verify(folder / "000001.png").unchanged


def test_a_changed_list_is_found(sealer: Sealer, tmp_path: Path) -> None:
    folder = sequence(sealer, tmp_path / "frames")
    listing = folder / "pictures.sha256"
    write_png(folder / "000001.png", np.zeros((8, 8, 3), np.uint8))
    digest = hashlib.sha256((folder / "000001.png").read_bytes()).hexdigest()
    lines = listing.read_text().splitlines()
    listing.write_text("\n".join([lines[0], f"{digest}  000001.png", lines[2]]) + "\n")
    assert verify(folder).faults == ("it was changed since it was signed",)


@pytest.mark.parametrize("line", ["", "hello", "0" * 64 + "  ../secret", "0" * 64 + "  a/b.png", "\udcff"])
def test_a_hostile_list_is_refused(sealer: Sealer, tmp_path: Path, line: str) -> None:
    folder = sequence(sealer, tmp_path / "frames")
    (folder / "pictures.sha256").write_bytes((line + "\n").encode("utf-8", "surrogateescape"))
    with pytest.raises(FileFormatError, match="no list of hashes"):
        verify(folder)


def test_lists_are_named_for_what_they_list() -> None:
    assert listing_of(Path("out/frames")) == Path("out/frames/pictures.sha256")
    assert listing_of(Path("out/shot_%06d.exr")) == Path("out/shot.sha256")
    assert listing_of(Path("out/shot.key.####.png")) == Path("out/shot.key.sha256")
    assert listing_of(Path("out/%06d.png")) == Path("out/pictures.sha256")


def test_files_without_a_manifest_are_said_to_have_none(film: Path, sealer: Sealer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="carries no manifest"):
        verify(film)
    with pytest.raises(InputError, match=r"no film\.mkv\.c2pa beside it"):
        verify(film.with_suffix(".mkv"))
    with pytest.raises(InputError, match="there is no file"):
        verify(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="holds none for a signed list"):
        verify(tmp_path)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    for name in ("empty.mp4", "noise.mp4"):
        with pytest.raises((InputError, FileFormatError), match="manifest"):
            verify(tmp_path / name)
    path = sealed(sealer, film.with_suffix(".mkv"), tmp_path / "talk.mkv")
    whole = sidecar_of(path).read_bytes()
    for damaged in (b"", b"hello", whole[:900], np.random.default_rng(1).bytes(3000)):
        sidecar_of(path).write_bytes(damaged)
        with pytest.raises(FileFormatError, match="damaged"):
            verify(path)


def test_a_full_disk_while_signing_leaves_the_part_and_says_so(
    sealer: Sealer, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    part = tmp_path / "talk.mp4.part"
    shutil.copy(film, part)
    real = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode="r", *a, **k: Full() if "w" in mode else real(self, mode))
    with pytest.raises(OSError, match="No space left") as full:
        sealer.seal(part, tmp_path / "talk.mp4")
    assert full.value.errno == errno.ENOSPC
    assert part.read_bytes() == film.read_bytes()


def test_what_is_not_of_its_format_is_refused_and_left(sealer: Sealer, tmp_path: Path) -> None:
    part = tmp_path / "talk.mov.part"
    part.write_bytes(b"hello" * 100)
    with pytest.raises(InputError, match=r"talk\.mov cannot be signed"):
        sealer.seal(part, tmp_path / "talk.mov")
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["talk.mov.part"]


def test_without_the_package_it_is_said_that_nothing_is_signed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    said: list[Event] = []
    assert open_sealer(Signing(), ORIGIN, said.append) is None
    assert len(said) == 1
    assert isinstance(said[0], Note)
    assert "no signed record" in said[0].text
    assert "pip install c2pa-python" in said[0].text
    with pytest.raises(BackendError, match="c2pa"):
        open_sealer(Signing(tmp_path / "a.pem", tmp_path / "b.pem"), ORIGIN, said.append)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(BackendError, match="c2pa"):
        verify(tmp_path / "a.mp4")


def test_nothing_may_use_the_network() -> None:
    assert provenance.OFFLINE["verify"]["ocsp_fetch"] is False
    assert provenance.OFFLINE["verify"]["remote_manifest_fetch"] is False
    assert provenance.OFFLINE["core"]["allowed_network_hosts"] == []
