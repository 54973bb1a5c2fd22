"""What one peer is sent: sound sample for sample, the newest picture, both by the frames' own time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.mediastreams import MediaStreamError

from avatarfit.pipeline.live_frame import SOUND_HZ, LiveFrame, LiveState
from avatarfit.server.aiortc_inside import encode_with, hear_at_once
from avatarfit.server.live_vp8 import LiveVp8, usual_bit_rate
from avatarfit.server.packed_alpha import PackedLayout
from avatarfit.server.subscription import Subscription
from avatarfit.server.tracks import PACKET_SAMPLES, PictureTrack, SoundPackets, SoundTrack, feed

LAYOUT = PackedLayout(48, 64, False)


def frames(rate: float, count: int) -> list[LiveFrame]:
    """Frames whose sound counts its samples, and whose pictures are as bright as their number."""
    out = []
    for index in range(count):
        begin, end = (round(at * SOUND_HZ / rate) for at in (index, index + 1))
        picture = np.full((64, 48, 3), 10 * index % 200, np.uint8)
        sound = (np.arange(begin, end) % 30_000).astype(np.int16)
        out.append(LiveFrame(index, index / rate, picture, index / rate, sound, LiveState.IDLE, index != 3))
    return out


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60.0))


@pytest.mark.parametrize("rate", [25.0, 30.0, 30_000 / 1_001, 60.0])
def test_sound_is_whole_in_packets_of_opus(rate: float) -> None:
    packets = SoundPackets()
    out = [packet for frame in frames(rate, 8) for packet in packets.cut(frame)]
    assert [begin for begin, _ in out] == [PACKET_SAMPLES * at for at in range(int(8 * SOUND_HZ / rate) // 960)]
    assert {len(samples) for _, samples in out} == {PACKET_SAMPLES}
    sound = np.concatenate([samples for _, samples in out])
    np.testing.assert_array_equal(sound, np.arange(len(sound)) % 30_000)


def test_lost_frames_leave_a_gap_in_time_and_none_in_what_follows() -> None:
    packets = SoundPackets()
    some = frames(30.0, 12)
    out = [packet for frame in some[:3] + some[7:] for packet in packets.cut(frame)]
    begins = [begin for begin, _ in out]
    assert begins[:5] == [PACKET_SAMPLES * at for at in range(5)]
    assert begins[5] == 7 * 1_600
    assert all(samples[0] == begin % 30_000 for begin, samples in out)


def test_sound_is_coded_packet_for_packet_by_its_time() -> None:
    async def test() -> None:
        track = SoundTrack()
        tone = (8_000 * np.sin(np.arange(20 * 1_920) * 0.1)).astype(np.int16)
        some = frames(25.0, 20)
        for at, frame in enumerate(some):
            track.offer(replace(frame, sound=tone[1_920 * at : 1_920 * (at + 1)]))
        packets = [await track.recv() for _ in range(40)]
        assert [packet.pts for packet in packets] == [PACKET_SAMPLES * at for at in range(40)]
        decoder = av.AudioCodecContext.create("libopus", "r")
        decoder.sample_rate, decoder.format, decoder.layout = 48_000, "s16", "mono"
        out = np.concatenate([frame.to_ndarray()[0] for packet in packets for frame in decoder.decode(packet)])
        shift = 312  # what Opus looks ahead (RFC 6716, 4.1)
        alike = np.corrcoef(out[shift + 960 :], tone[960 : len(out) - shift])[0, 1]
        assert alike > 0.99

    run(test)


def test_a_peer_that_takes_no_sound_holds_a_second_of_it() -> None:
    async def test() -> None:
        track = SoundTrack()
        for frame in frames(25.0, 100):
            track.offer(frame)
        packet = await track.recv()
        assert packet.pts == 100 * 1_920 - SOUND_HZ

    run(test)


def test_the_newest_picture_is_sent_and_old_ones_are_left_out() -> None:
    async def test() -> None:
        some = frames(25.0, 5)
        track = PictureTrack(LAYOUT, some[0])
        track.offer(some[1])
        track.offer(some[2])
        first, picture = await track.recv(), await track.recv()
        assert track.left_out == 1
        # What was ready before there was a connection, right before the newest.
        assert first is track.first
        assert first.pts == 2 * 3_600 - 1
        assert int(first.to_ndarray(format="rgb24")[30, 20, 0]) <= 2
        assert (picture.pts, picture.width, picture.height) == (2 * 3_600, 48, 64)
        assert abs(int(picture.to_ndarray(format="rgb24")[30, 20, 0]) - 20) <= 2

    run(test)


def test_both_tracks_end_with_the_frames() -> None:
    async def test() -> None:
        some: Subscription[LiveFrame] = Subscription(20, lambda _: None)
        all_of_them = frames(25.0, 5)
        picture, sound = PictureTrack(LAYOUT, all_of_them[0]), SoundTrack()
        for frame in all_of_them:
            some.offer(frame)
        some.finish()
        await feed(some, picture, sound)
        # The fourth was not fresh: its picture had left before.
        assert picture.left_out == 3
        waiting = asyncio.create_task(_until_end(sound))
        await asyncio.sleep(0)
        picture.stop()
        sound.stop()
        assert await waiting == 10
        assert [(await picture.recv()).pts for _ in range(2)] == [4 * 3_600 - 1, 4 * 3_600]
        with pytest.raises(MediaStreamError):
            await picture.recv()

    run(test)


async def _until_end(track: SoundTrack) -> int:
    count = 0
    try:
        while True:
            await track.recv()
            count += 1
    except MediaStreamError:
        return count


# The encoder.


def coded(encoder: LiveVp8, index: int, key: bool = False, noise: float = 60.0) -> bytes:
    random = np.random.default_rng(index)
    x = np.arange(128)
    planes = 120 + 50 * np.sin(x / 9 + index / 3) + random.normal(0, noise, (96, 128))
    picture = np.repeat(np.clip(planes, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    frame.pts, frame.time_base = 3_600 * index, Fraction(1, 90_000)
    payloads, pts = encoder.encode(frame, key)
    assert pts == 3_600 * index
    # A descriptor of four bytes goes before each (RFC 7741, 4.2).
    return b"".join(payload[4:] for payload in payloads)


def is_key(data: bytes) -> bool:
    """RFC 6386, 9.1: the first bit is 0 in key frames."""
    return not data[0] & 1


def test_a_key_frame_comes_first_and_when_it_is_asked_for() -> None:
    encoder = LiveVp8(400_000, 25.0)
    some = [coded(encoder, at, key=at == 7) for at in range(10)]
    assert [at for at, data in enumerate(some) if is_key(data)] == [0, 7]
    decoder = av.VideoCodecContext.create("vp8", "r")
    shown = [picture for data in some[7:] for picture in decoder.decode(av.Packet(data))]
    assert len(shown) == 3


def test_the_first_picture_may_be_coded_ahead() -> None:
    def some(count: int) -> list[av.VideoFrame]:
        pictures = [av.VideoFrame.from_ndarray(np.full((96, 64), 20 * at, np.uint8), "gray") for at in range(count)]
        out = [picture.reformat(format="yuv420p") for picture in pictures]
        for at, frame in enumerate(out):
            frame.pts, frame.time_base = 3_600 * (at - 1), Fraction(1, 90_000)
        return out

    usual, ahead = LiveVp8(400_000, 25.0), LiveVp8(400_000, 25.0)
    ahead.picture_id = usual.picture_id
    wanted = [usual.encode(frame) for frame in some(4)]
    assert wanted[0][1] == -3_600
    pictures = some(4)
    ahead.prepare(pictures[0])
    assert [ahead.encode(frame) for frame in pictures] == wanted
    # One that was left out would be missed by all that follow.
    ahead.prepare(pictures[1])
    (payload, *_), _ = ahead.encode(pictures[2])
    assert is_key(payload[4:])


def test_only_an_estimate_below_what_is_sent_lowers_the_rate() -> None:
    encoder = LiveVp8(400_000, 25.0)
    for at in range(30):
        coded(encoder, at, noise=0.0)
    encoder.target_bitrate = 150_000  # much less than is allowed, more than was sent: the receiver saw no more
    for at in range(30, 60):
        coded(encoder, at, noise=0.0)
    assert encoder.target_bitrate == 400_000
    for at in range(60, 120):
        coded(encoder, at)
    assert encoder.target_bitrate == 135_000
    encoder.target_bitrate = 300_000
    for at in range(120, 150):
        coded(encoder, at)
    assert 250_000 < encoder.target_bitrate <= 300_000
    encoder.target_bitrate = 9_000_000
    for at in range(150, 180):
        coded(encoder, at)
    assert encoder.target_bitrate == 400_000


def test_rates_follow_the_pixels() -> None:
    assert usual_bit_rate(512 * 512, 25.0) == pytest.approx(720_000, rel=0.02)
    assert usual_bit_rate(512 * 1024, 25.0) == pytest.approx(1_440_000, rel=0.02)
    assert usual_bit_rate(64, 25.0) == 300_000


def test_another_aiortc_is_refused_rather_than_slower() -> None:
    async def test() -> None:
        peer = RTCPeerConnection()
        transceiver = peer.addTransceiver("audio", "sendrecv")
        hear_at_once(transceiver.receiver)
        encode_with(transceiver.sender, LiveVp8(300_000, 25.0))
        await peer.close()
        with pytest.raises(RuntimeError, match=r"requirements\.lock"):
            encode_with(object(), LiveVp8(300_000, 25.0))  # type: ignore[arg-type]

    run(test)
