"""A session as a camera of this machine, for meetings and recorders; through pyvirtualcam, where the system has one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from avatarfit.contracts import InputError

if TYPE_CHECKING:
    from avatarfit.server.served_session import ServedSession

_MODULE = "pyvirtualcam"


class VirtualCamera:
    """Shows a session's pictures; sound does not go through cameras.

    Args:
        tell: told in a sentence under which name the camera goes, and when it cannot be had.

    Raises:
        InputError: pyvirtualcam is not installed.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        if find_spec(_MODULE) is None:
            raise InputError(
                "pyvirtualcam is not installed", "what gives pictures to a camera of the system",
                "run pip install pyvirtualcam; Linux needs v4l2loopback, Windows and macOS need OBS besides",
            )  # fmt: skip

    async def run(self, session: ServedSession) -> None:
        """Until the session ends.

        Raises:
            InputError: the system has no virtual camera.
        """
        live = session.live
        camera = await asyncio.to_thread(self._open, live.width_px, live.height_px, live.frame_rate_hz)
        self._tell(f"Camera: {camera.device}.")
        try:
            async with session.subscribe(2) as frames:
                async for frame in frames:
                    await asyncio.to_thread(camera.send, np.ascontiguousarray(frame.picture[..., :3]))
        finally:
            await asyncio.to_thread(camera.close)

    def _open(self, width_px: int, height_px: int, rate_hz: float) -> Any:
        try:
            return import_module(_MODULE).Camera(width=width_px, height=height_px, fps=rate_hz)
        except RuntimeError as error:  # what pyvirtualcam raises where no camera is
            raise InputError(
                f"the system has no virtual camera ({error})", "one that pyvirtualcam finds",
                "on Linux run modprobe v4l2loopback, on Windows and macOS start OBS's virtual camera once",
            ) from error  # fmt: skip
