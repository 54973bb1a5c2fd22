from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from avatarfit.capture import ClipFolder
from avatarfit.capture.stages import load_tensors, save_tensors
from avatarfit.contracts import FileFormatError, InputError, SoundError
from avatarfit.media import VideoWriter
from avatarfit.model.rig import Rig

T, W, H, RATE = 11, 48, 32, 12.5


def level(k: int) -> int:
    return 20 + 15 * k


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clip folder written by hand: source picture 3 of 12 was rejected."""
    source = tmp_path / "source.mkv"
    with VideoWriter(source, W, H, RATE, codec="ffv1") as out:
        for k in range(T + 1):
            out.write(np.full((H, W, 3), level(k), np.uint8))
    path = tmp_path / "clip"
    path.mkdir()
    kept = [k for k in range(T + 1) if k != 3]
    rng = np.random.default_rng(0)
    landmarks = rng.normal(size=(T, 478, 3)).astype(np.float32)
    rig = Rig.fit(landmarks)
    face = rig.encode(landmarks)
    pts = np.array(kept) / RATE
    tracks = {
        "pts_seconds": pts, "landmarks_px": landmarks * 10, "landmarks_cm": landmarks,
        "head_rotation_wxyz": np.tile(np.array([1, 0, 0, 0], np.float32), (T, 1)),
        "head_translation_cm": np.zeros((T, 3), np.float32),
        "torso_affine": np.tile(np.eye(2, 3, dtype=np.float32), (T, 1, 1)),
        "torso_shape": np.arange(2 * T, dtype=np.float32).reshape(T, 2),
        "torso_modes.fields": np.ones((2, 3, 4, 2), np.float32), "torso_modes.box": np.array([-1, 0, 1, 1], np.float32),
        "mouth": face.mouth, "upper": face.upper, "eyes": face.eyes,
        "blendshapes": np.linspace(0, 1, 2 * T, dtype=np.float32).reshape(T, 2),
    }  # fmt: skip
    save_tensors(path / "tracks.safetensors", tracks | {f"rig.{k}": v for k, v in rig.to_tensors().items()})
    with (
        VideoWriter(path / "person.mkv", W, H, RATE, codec="ffv1", pixel="gray8") as person,
        VideoWriter(path / "labels.mkv", W, H, RATE, codec="ffv1", pixel="gray8") as labels,
    ):
        for k in range(T):
            person.write(np.full((H, W), 100 + k, np.uint8))
            labels.write(np.full((H, W), k % 5, np.uint8))
    plate = np.zeros((H, W, 3), np.uint8)
    plate[:] = (250, 120, 10)
    cv2.imwrite(str(path / "plate.png"), plate[..., ::-1])
    seen = np.zeros((H, W), np.uint8)
    seen[:, : W // 2] = 255
    cv2.imwrite(str(path / "plate_seen.png"), seen)
    manifest = {
        "format": "avatarfit.clip", "version": 3,
        "source": {"path": str(source), "sha256": "0" * 64, "size_bytes": source.stat().st_size, "width_px": W,
                   "height_px": H, "frame_rate_hz": RATE, "duration_seconds": 0.96, "audio": None},
        "view": {"x_px": 0, "y_px": 0, "width_px": W, "height_px": H, "frame_rate_hz": None},
        "camera": {"width_px": W, "height_px": H, "focal_px": 100.0, "center_x_px": W / 2, "center_y_px": H / 2},
        "landmarks": "made up", "blendshapes": {"names": ["eyeBlinkLeft", "jawOpen"]},
        "stages": {"tracks": {"key": "k", "seconds": 1, "values": {}}},
        "frames": [{"index": i, "pts_seconds": p, "source_index": k, "pose_residual_px": 0.1}
                   for i, (k, p) in enumerate(zip(kept, pts.tolist(), strict=True))],
        "rejects": [{"source_index": 3, "pts_seconds": 3 / RATE, "reason": "no face"}],
    }  # fmt: skip
    (path / "clip.json").write_text(json.dumps(manifest))
    return path


def test_blendshapes_come_with_their_names(folder: Path) -> None:
    names, values = ClipFolder.open(folder).blendshapes()
    assert names == ("eyeBlinkLeft", "jawOpen")
    np.testing.assert_array_equal(values[:, 0], np.linspace(0, 1, 2 * T, dtype=np.float32)[::2])
    manifest = json.loads((folder / "clip.json").read_text())
    manifest["blendshapes"]["names"].append("tongueOut")
    (folder / "clip.json").write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match="names 3 blendshapes and holds 2; wanted a name for each; capture"):
        ClipFolder.open(folder).blendshapes()


def test_everything_written_is_read_back(folder: Path) -> None:
    clip = ClipFolder.open(folder)
    tracks = load_tensors(folder / "tracks.safetensors")
    assert len(clip) == T
    assert clip.train_count == T - 1
    assert clip.frame_rate_hz == RATE
    motion = clip.motion()
    np.testing.assert_array_equal(motion.face.mouth, tracks["mouth"])
    np.testing.assert_array_equal(motion.torso.affine, tracks["torso_affine"])
    np.testing.assert_array_equal(motion.torso.shape, tracks["torso_shape"])
    np.testing.assert_array_equal(clip.torso_modes().fields, tracks["torso_modes.fields"])
    np.testing.assert_array_equal(clip.rig().shape_cm, tracks["rig.shape_cm"])
    assert (clip.plate() == (250, 120, 10)).all()
    assert clip.plate_seen().mean() == 0.5


def test_frames_and_masks_are_those_of_the_kept_pictures_from_any_start(folder: Path) -> None:
    clip = ClipFolder.open(folder)
    kept = [f["source_index"] for f in clip.manifest["frames"]]
    for start, stop in ((0, None), (2, 5), (4, 11), (10, 11), (5, 5)):
        wanted = kept[start:stop]
        frames = list(clip.frames(start, stop))
        assert [int(f.rgb[5, 5, 0]) for f in frames] == [level(k) for k in wanted]
        np.testing.assert_allclose([f.pts_seconds for f in frames], clip.pts_seconds[start:stop], atol=1e-6)
        masks = list(clip.masks(start, stop))
        assert [int(p[0, 0]) for p, _ in masks] == [100 + i for i in range(T)][start:stop]
        assert [int(m[0, 0]) for _, m in masks] == [i % 5 for i in range(T)][start:stop]


def test_a_silent_clip_says_so(folder: Path) -> None:
    with pytest.raises(SoundError, match="has no sound"):
        ClipFolder.open(folder).audio()


def test_a_missing_or_changed_source_is_named(folder: Path) -> None:
    clip = ClipFolder.open(folder)
    with clip.source.open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(InputError, match="bytes"):
        next(clip.frames())
    clip.source.unlink()
    with pytest.raises(InputError, match="is not there"):
        next(clip.frames())


def test_an_unfinished_capture_is_no_clip_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no clip\.json"):
        ClipFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("cut", "cannot be read"), ("format", "no clip manifest"), ("version", "version 7"), ("stages", "lacks stages"),
        ("tracks", "cannot be read"), ("lost track", "lacks eyes"), ("short track", "head_translation_cm of shape"),
    ],
)  # fmt: skip
def test_damage_is_told_in_a_sentence(folder: Path, harm: str, said: str) -> None:
    manifest, tracks = folder / "clip.json", folder / "tracks.safetensors"
    content = json.loads(manifest.read_text())
    tensors = load_tensors(tracks)
    if harm == "cut":
        manifest.write_text(manifest.read_text()[:100])
    elif harm == "format":
        manifest.write_text("[1, 2]")
    elif harm == "version":
        manifest.write_text(json.dumps(content | {"version": 7}))
    elif harm == "stages":
        content.pop("stages")
        manifest.write_text(json.dumps(content))
    elif harm == "tracks":
        tracks.write_bytes(tracks.read_bytes()[:1000])
    elif harm == "lost track":
        tensors.pop("eyes")
        save_tensors(tracks, tensors)
    elif harm == "short track":
        save_tensors(tracks, tensors | {"head_translation_cm": np.zeros((3, 3), np.float32)})
    with pytest.raises(FileFormatError, match=said):
        ClipFolder.open(folder)


def test_the_content_hash_changes_with_source_and_settings(folder: Path) -> None:
    first = ClipFolder.open(folder).content_hash
    content = json.loads((folder / "clip.json").read_text())
    content["stages"]["tracks"]["key"] = "other"
    (folder / "clip.json").write_text(json.dumps(content))
    assert ClipFolder.open(folder).content_hash != first
