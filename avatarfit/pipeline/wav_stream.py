"""Samples out of bytes as they come: WAV whose header says nothing true of its length, or raw 16-bit samples."""

from __future__ import annotations

import struct

import numpy as np

from avatarfit.contracts import SoundError
from avatarfit.pipeline.live_sound import RATES_HZ

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_LONGEST_HEADER = 65_536


class WavStream:
    """Bytes in, samples out.

    Args:
        raw_rate_hz: rate of raw 16-bit mono; None for a WAV stream.
        name: of what makes it, for errors.

    Attributes:
        rate_hz: known once there are samples.
        seconds: of sound so far.
    """

    def __init__(self, raw_rate_hz: int | None, name: str) -> None:
        self._name = name
        self._rest = b""
        self._body = raw_rate_hz is not None
        self.rate_hz = raw_rate_hz or 0
        self.seconds = 0.0
        self._channels, self._bytes, self._float = 1, 2, False
        self._left: int | None = None

    def push(self, chunk: bytes) -> np.ndarray:
        """Samples, float32 [k], k >= 0, mixed down to one channel.

        Raises:
            SoundError: no WAV of 16-bit or float samples.
        """
        self._rest += chunk
        if not self._body and not self._read_header():
            return np.zeros(0, np.float32)
        if self._left is not None:
            self._rest = self._rest[: self._left]
        size = self._channels * self._bytes
        whole = len(self._rest) // size * size
        data, self._rest = self._rest[:whole], self._rest[whole:]
        if self._left is not None:
            self._left -= whole
        samples = np.frombuffer(data, "<f4" if self._float else "<i2").astype(np.float32)
        if self._float:
            samples = np.clip(np.nan_to_num(samples), -1, 1)
        else:
            samples /= 32768
        samples = samples.reshape(-1, self._channels).mean(axis=1, dtype=np.float32)
        self.seconds += len(samples) / self.rate_hz
        return samples

    def _read_header(self) -> bool:
        """Whether the samples have begun."""
        data = self._rest
        if len(data) < 12:
            return False
        if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
            raise self._wrong("it does not begin as WAV does")
        at = 12
        while at + 8 <= len(data):
            kind, size = data[at : at + 4], struct.unpack("<I", data[at + 4 : at + 8])[0]
            if kind == b"data":
                if not self.rate_hz:
                    raise self._wrong("its samples come before their format")
                # Streamed WAV says 0, or as much as fits into the field, for it does not know.
                self._left = size if 0 < size < 0x7FFF0000 else None
                self._rest, self._body = data[at + 8 :], True
                return True
            if at + 8 + size > len(data):
                break
            if kind == b"fmt ":
                self._read_format(data[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
        if len(data) > _LONGEST_HEADER:
            raise self._wrong("its header does not end")
        return False

    def _read_format(self, content: bytes) -> None:
        if len(content) < 16:
            raise self._wrong("its format is cut off")
        kind, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
        if kind == _EXTENSIBLE and len(content) >= 26:
            kind = struct.unpack("<H", content[24:26])[0]
        if (kind, bits) not in ((_PCM, 16), (_FLOAT, 32)) or not 1 <= channels <= 8:
            raise self._wrong(f"it has {channels} channels of kind {kind} with {bits} bits")
        if not RATES_HZ[0] <= rate <= RATES_HZ[1]:
            raise self._wrong(f"its rate is {rate} Hz")
        self.rate_hz, self._channels, self._bytes, self._float = rate, channels, bits // 8, kind == _FLOAT

    def _wrong(self, what: str) -> SoundError:
        return SoundError(
            f"what {self._name} wrote is no sound that can be read ({what})", "WAV with 16-bit or float samples",
            "let it write that, or say at which rate it writes raw samples",
        )  # fmt: skip
