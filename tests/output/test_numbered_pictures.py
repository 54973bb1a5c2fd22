"""PNG and EXR files: values, names, colours, time code."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from avatarfit.contracts import AudioClip
from avatarfit.media import read_audio
from avatarfit.output import OutputOptions, open_sink
from avatarfit.output.stored_colours import linear, straight

RATE = Fraction(30000, 1001)


def read_exr(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
        return dict(file.header()), channels


def write(path: Path, pictures: list[np.ndarray], **options: Any) -> None:
    height, width = pictures[0].shape[:2]
    with open_sink(path, OutputOptions(**options), width, height, RATE) as sink:
        for picture in pictures:
            sink.write(picture)


def test_opaque_png_is_exact(tmp_path: Path, scene: Any) -> None:
    write(tmp_path / "a_####.png", [scene(k) for k in range(3)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a_0000.png", "a_0001.png", "a_0002.png"]
    for k in range(3):
        np.testing.assert_array_equal(iio.imread(tmp_path / f"a_{k:04d}.png"), scene(k))


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_straight_and_premultiplied_agree(tmp_path: Path, person: Any, kind: str) -> None:
    """To the steps of either: 8 bits, or half floats."""
    stored = {}
    for alpha in ("straight", "premultiplied"):
        write(tmp_path / alpha, [person(0)], codec=kind, alpha=alpha)
        path = tmp_path / alpha / f"000000.{kind}"
        stored[alpha] = iio.imread(path) / 255 if kind == "png" else read_exr(path)[1]["RGBA"].astype(np.float64)
    alpha = stored["straight"][..., 3:]
    np.testing.assert_array_equal(alpha, stored["premultiplied"][..., 3:])
    step = 1 / 255 if kind == "png" else 2**-10
    assert np.abs(stored["straight"][..., :3] * alpha - stored["premultiplied"][..., :3]).max() <= 1.51 * step


def test_png_holds_what_it_is_given(tmp_path: Path, person: Any) -> None:
    write(tmp_path / "a", [person(0)], codec="png", alpha="premultiplied")
    assert np.abs(iio.imread(tmp_path / "a" / "000000.png") - 255 * person(0)).max() <= 0.501


def test_exr_is_linear_half_premultiplied_and_knows_its_colours(tmp_path: Path, person: Any) -> None:
    write(tmp_path / "a", [person(k) for k in range(2)], codec="exr", alpha="premultiplied", timecode="00:00:59;29")
    header, channels = read_exr(tmp_path / "a" / "000001.exr")
    pixels = channels["RGBA"]
    assert pixels.dtype == np.float16
    colours = linear(straight(person(1))[..., :3]) * person(1)[..., 3:]
    np.testing.assert_allclose(pixels[..., :3].astype(np.float32), colours, rtol=2**-10, atol=1e-6)
    np.testing.assert_allclose(pixels[..., 3].astype(np.float32), person(1)[..., 3], rtol=2**-10, atol=1e-6)
    np.testing.assert_allclose(header["chromaticities"], [0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329], atol=1e-6)
    assert header["framesPerSecond"] == RATE
    # The second picture of a minute's last frame is the first that drop-frame names in the next.
    code = header["timeCode"]
    assert (code.hours, code.minutes, code.seconds, code.frame, code.dropFrame) == (0, 1, 0, 2, 1)


def test_linear_light_is_that_of_srgb() -> None:
    np.testing.assert_allclose(linear(np.float32([0, 0.04045, 0.5, 1])), [0, 0.0031308, 0.2140411, 1], rtol=1e-4)


@pytest.mark.parametrize("kind", ["png", "exr"])
def test_key_and_fill(tmp_path: Path, person: Any, composited: Any, kind: str) -> None:
    write(tmp_path / "a", [person(0)], codec=kind, key_fill=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.fill", "a.key"]
    files = {part: tmp_path / f"a.{part}" / f"000000.{kind}" for part in ("fill", "key")}
    if kind == "png":
        fill, key = iio.imread(files["fill"]) / 255, iio.imread(files["key"]) / 255
        assert np.abs(fill + (1 - key[..., None]) * 0.4 - composited(person(0))).max() < 1.01 / 255
    else:
        fill = read_exr(files["fill"])[1]["RGB"].astype(np.float32)
        key = read_exr(files["key"])[1]["Y"].astype(np.float32)
        np.testing.assert_allclose(key, person(0)[..., 3], rtol=2**-10, atol=1e-6)
        colours = linear(straight(person(0))[..., :3]) * person(0)[..., 3:]
        np.testing.assert_allclose(fill, colours, rtol=2**-10, atol=1e-6)


def test_sound_lies_beside_as_24_bits(tmp_path: Path, scene: Any) -> None:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, 48000).astype(np.float32)
    with open_sink(tmp_path / "shot_%03d.png", OutputOptions(), 97, 81, 25, AudioClip(samples, 48000)) as sink:
        sink.write(scene(0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shot.wav", "shot_000.png"]
    np.testing.assert_allclose(read_audio(tmp_path / "shot.wav").samples, samples, rtol=0, atol=2**-23)


def test_clear_pixels_take_their_neighbours_colour_for_lossy_codings() -> None:
    picture = np.zeros((40, 40, 4), np.float32)
    picture[:, :20] = [0.6, 0.3, 0.15, 1]
    plain, spread = straight(picture), straight(picture, spread=True)
    assert (plain[:, 20:, :3] == 0).all()
    np.testing.assert_allclose(spread[:, 20:25, :3], np.broadcast_to([0.6, 0.3, 0.15], (40, 5, 3)), atol=1e-5)
    np.testing.assert_array_equal(spread[..., 3], picture[..., 3])
    np.testing.assert_array_equal(spread[:, :20], plain[:, :20])
