"""What the round trip's client finds and works out, where it is known; and that an avatar can be made to flash."""

from __future__ import annotations

import importlib
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

pytest.importorskip("aiortc", reason="NO AIORTC: the round trip's tool was not tested; pip install avatarfit[live]")

TOOLS = Path(__file__).resolve().parents[2] / "tools"
FRAME = 0.04
DELAYS = (np.ceil((np.arange(40) + 0.5) / 40) - (np.arange(40) + 0.5) / 40) * FRAME
"""Of a motion that takes no time: up to the next moment."""


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("measure_round_trip")


@pytest.fixture
def client(tool: ModuleType) -> ModuleType:
    return importlib.import_module("round_trip_client")


@pytest.fixture
def microphone(tool: ModuleType) -> ModuleType:
    return importlib.import_module("beeping_microphone")


@pytest.fixture
def flashing_avatar(tool: ModuleType) -> ModuleType:
    return importlib.import_module("flashing_avatar")


def coded(sound: np.ndarray) -> np.ndarray:
    """What Opus makes of it, float [n]."""
    coder = av.AudioCodecContext.create("libopus", "w")
    coder.sample_rate, coder.format, coder.layout, coder.bit_rate = 48_000, "s16", "mono", 64_000
    coder.options = {"application": "voip", "frame_duration": "20"}
    decoder = av.AudioCodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.format, decoder.layout = 48_000, "s16", "mono"
    out = []
    for at in range(0, len(sound), 960):
        frame = av.AudioFrame.from_ndarray((32767 * sound[None, at : at + 960]).astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, at
        for packet in coder.encode(frame):
            out += [decoded.to_ndarray()[0] for decoded in decoder.decode(packet)]
    return np.concatenate(out) / 32768


def test_the_microphone_beeps_where_it_says(microphone: ModuleType) -> None:
    some = list(microphone.pieces(10.0))
    begins = [960 * at + begin for at, (_, found) in enumerate(some) for begin in found]
    sound, wanted = np.concatenate([piece for piece, _ in some]), np.zeros(480_000, np.int16)
    assert len(some) == 500
    assert len(begins) > 5
    assert len({begin % 960 for begin in begins}) > 5
    for begin in begins:
        tone = (32767 * microphone.beep()).astype(np.int16)[: 480_000 - begin]
        wanted[begin : begin + len(tone)] = tone
    np.testing.assert_array_equal(sound, wanted)


def test_beeps_are_found_through_opus_where_they_begin(
    tool: ModuleType, client: ModuleType, microphone: ModuleType
) -> None:
    sound = np.zeros(48_000 * 6, np.float32)
    begins = [48_000 * k + 137 * k for k in range(1, 5)]
    for begin in begins:
        beep = microphone.beep()
        sound[begin : begin + len(beep)] = beep
    heard, ear, found = coded(sound), client.Ear(), []
    for at in range(0, len(heard), 960):
        if ear.hear(at / 48_000, heard[at : at + 960]):
            found.append(ear.onset)
    np.testing.assert_allclose(found, np.array(begins) / 48_000 + tool.CODEC_SECONDS, atol=0.0005)


def test_a_flash_begins_once(client: ModuleType) -> None:
    eye = client.Eye()
    seen = [eye.see(share) for share in (0.9, 0.1, 0.4, 0.6, 1.0, 0.7, 0.2, 0.51)]
    assert [at for at, begins in enumerate(seen) if begins] == [3, 7]


def test_frames_are_whole_with_their_last_packet(client: ModuleType) -> None:
    arrivals = client.Arrivals(whole_packets=False)
    frames = []
    for timestamp, marker, data in [(2**32 - 9, 0, b"a"), (2**32 - 9, 1, b"b"), (3_591, 1, b"c")]:
        packet = SimpleNamespace(timestamp=timestamp, marker=marker, _data=data)
        frames.append(arrivals.add(packet)[1])
    assert frames[0] is None
    assert [(frame.data, frame.timestamp) for frame in frames[1:]] == [(b"ab", 2**32 - 9), (b"c", 3_591)]
    assert arrivals.first < arrivals.at(0) < arrivals.at(3_600)


@pytest.mark.parametrize("late", [-0.015, 0.0, 0.03])
def test_known_latencies_and_offsets_are_found(tool: ModuleType, late: float) -> None:
    """Pictures whose moments are shown 0.14 s after them, sound 0.15 s after it, reports that are off by a second."""
    sent, beeps, flashes = [], [], []
    for k in range(50):
        line = 2.0 + 1.2345 * k
        moment = np.ceil(line / FRAME) * FRAME
        sent.append(line)
        beeps.append((line + 0.15, line + tool.CODEC_SECONDS, line + 1))
        flashes.append((moment + 0.14, moment - 7.0, moment + 1 + late if k else None))
    flashes.insert(3, (1.0, 1.0, 1.0))
    some = tool.rounds([*sent, 99.0], beeps, flashes, DELAYS, FRAME)
    assert [one.sent for one in some] == sent
    assert some[0].by_reports is None
    # Places within a frame are told to half a fortieth of it.
    np.testing.assert_allclose([one.moment for one in some], 0.14, atol=0.0011)
    np.testing.assert_allclose([one.by_reports for one in some[1:]], late, atol=0.0011)
    np.testing.assert_allclose([one.by_arrival for one in some], -0.01, atol=0.0011)
    told = tool.summary(some)
    assert told["sound_ms"]["median"] == 150
    assert told["offset_ms"]["by_reports"]["count"] == 49


def test_a_known_drift_is_found(tool: ModuleType) -> None:
    some = [
        tool.Round(one, 0.14, 0.14, 0.14, 1e-4 * one / 60 if one else None, 0.002) for one in np.arange(0, 300.0, 1.5)
    ]
    told = tool.drift(some)
    assert told["by_reports"]["ms_per_minute"] == pytest.approx(0.1)
    assert told["by_reports"]["medians_ms"] == pytest.approx([0.05, 0.15, 0.25, 0.35, 0.45], abs=0.051)
    assert told["by_arrival"] == {"ms_per_minute": pytest.approx(0), "medians_ms": [2.0] * 5}


def test_a_process_and_its_own_are_weighed(tool: ModuleType) -> None:
    import subprocess

    with subprocess.Popen(["sleep", "30"]) as child:
        assert {os.getpid(), child.pid} <= set(tool.family(os.getpid()))
        assert tool.family(child.pid) == [child.pid]
        assert tool.memory_mb(os.getpid()) > tool.memory_mb(child.pid) > 0
        child.kill()


def test_an_avatar_flashes_with_its_own_voice(flashing_avatar: Any, speaker: Any, tmp_path: Path) -> None:
    import torch

    from avatarfit.compositing.framing import Framing
    from avatarfit.model.avatar import Avatar
    from avatarfit.pipeline.picture import PictureSettings

    path = tmp_path / "flash.avatar"
    # The made-up person has no face: what it has is one.
    gaussians = replace(speaker.gaussians, group=torch.zeros_like(speaker.gaussians.group))
    flashing_avatar.flashing(replace(speaker, gaussians=gaussians)).save(path)
    avatar = Avatar.load(path)
    lamp = flashing_avatar.lamp_of(avatar, PictureSettings(framing=Framing(width_px=96, height_px=128)))
    assert lamp.light - lamp.dark > 40
    lit = np.full((128, 96), round(16 + lamp.light * 219 / 255), np.uint8)
    assert lamp.share(lit) == pytest.approx(1, abs=0.02)
    delays = flashing_avatar.motion_delays(avatar, 25.0, phases=4)
    # The moments lie on the frames' grid, and the first one after a beep's begin is lit, if not the one right before.
    places = (np.arange(4) + 0.5) / 4
    np.testing.assert_allclose((delays / FRAME + places) % 1, np.round((delays / FRAME + places) % 1), atol=0.01)
    assert -0.015 < delays.min() < delays.max() < 0.05
