"""An avatar joins a LiveKit room and says what arrives on a queue of PCM; `pip install livekit` beside avatarfit.

python docs/live_livekit.py person.avatar wss://example.livekit.cloud TOKEN speech.wav
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable
from typing import Any

import numpy as np

import avatarfit


async def publish(room: Any, avatar: Any, pcm: AsyncIterable[bytes], sample_rate_hz: int, **options: Any) -> int:
    """Publishes one video and one audio track, in step; returns the frames that were sent.

    Args:
        room: a connected `livekit.rtc.Room`.
        avatar: `avatarfit.Avatar`.
        pcm: what to say, 16-bit mono, in pieces of any size; a TTS engine's output, say.
        options: as of `avatarfit.live`.
    """
    from livekit import rtc

    camera = avatar.camera
    video = rtc.VideoSource(camera.width_px, camera.height_px)
    audio = rtc.AudioSource(48_000, 1)
    # Both queues drain together, so that what is pushed together is seen and heard together.
    together = rtc.AVSynchronizer(audio_source=audio, video_source=video, video_fps=avatar.frame_rate_hz)
    for track in (
        rtc.LocalVideoTrack.create_video_track("avatar", video),
        rtc.LocalAudioTrack.create_audio_track("voice", audio),
    ):
        await room.local_participant.publish_track(track)
    sent = 0
    async for frame in avatarfit.live(avatar, pcm, sample_rate_hz=sample_rate_hz, **options):
        height, width = frame.picture.shape[:2]
        rgb = np.ascontiguousarray(frame.picture).tobytes()
        await together.push(rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, rgb))
        await together.push(rtc.AudioFrame(frame.sound.tobytes(), 48_000, 1, len(frame.sound)))
        sent += 1
    await together.aclose()
    return sent


async def main(person: str, url: str, token: str, speech: str) -> None:
    """Says a sound file in a room."""
    from livekit import rtc

    from avatarfit.media import read_audio

    sound = read_audio(speech)

    async def pcm() -> AsyncIterable[bytes]:
        for at in range(0, len(sound.samples), 4_000):
            yield (32767 * sound.samples[at : at + 4_000]).astype("<i2").tobytes()

    room = rtc.Room()
    await room.connect(url, token)
    try:
        await publish(room, avatarfit.Avatar.load(person), pcm(), sound.sample_rate_hz)
    finally:
        await room.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
