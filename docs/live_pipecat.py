"""A Pipecat processor that gives an agent a face; `pip install pipecat-ai` beside avatarfit.

It stands after the TTS service and before the transport's output: speech goes in, pictures and the same speech, in
step, come out; when the user speaks the mouth stops at once. The other's voice is listened to where the services before
let it through (`audio_passthrough=True` of the STT service).

    pipeline = Pipeline([transport.input(), stt, llm, tts, AvatarProcessor(avatar), transport.output()])
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from avatarfit.pipeline.live import LiveOptions, LiveSession


class AvatarProcessor(FrameProcessor):
    """Speech in, speech and pictures out.

    Args:
        avatar: `avatarfit.Avatar`.
        options: of the session.
    """

    def __init__(self, avatar: Any, options: LiveOptions | None = None, **rest: Any) -> None:
        super().__init__()
        self._avatar, self._options, self._rest = avatar, options, rest
        self._session: LiveSession | None = None
        self._sending: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Takes speech; passes everything else on."""
        await super().process_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._session = await asyncio.to_thread(LiveSession, self._avatar, self._options, **self._rest)
            self._session.start()
            self._sending = asyncio.create_task(self._send(self._session))
        session = self._session
        if session is not None:
            if isinstance(frame, TTSAudioRawFrame):
                samples = np.frombuffer(frame.audio, "<i2")
                while not session.takes(len(samples) / frame.sample_rate, session.options.most_seconds):
                    await asyncio.sleep(0.02)
                session.push(samples, frame.sample_rate)
                return  # It comes out again with its pictures.
            if isinstance(frame, InputAudioRawFrame):
                session.hear(np.frombuffer(frame.audio, "<i2"), frame.sample_rate)
            elif isinstance(frame, TTSStoppedFrame):
                session.end()
            elif isinstance(frame, InterruptionFrame):
                session.interrupt()
            elif isinstance(frame, EndFrame | CancelFrame):
                await self._stop(session)
        await self.push_frame(frame, direction)

    async def _send(self, session: LiveSession) -> None:
        async for frame in session.frames():
            height, width = frame.picture.shape[:2]
            await self.push_frame(OutputImageRawFrame(frame.picture.tobytes(), (width, height), "RGB"))
            await self.push_frame(TTSAudioRawFrame(frame.sound.tobytes(), 48_000, 1))

    async def _stop(self, session: LiveSession) -> None:
        await asyncio.to_thread(session.close)
        if self._sending is not None:
            await self._sending
