"""A microphone in a process of its own, so that nothing but the machine holds it up: silence with beeps, into a server.

    python tools/beeping_microphone.py ws://127.0.0.1:8460/api/sessions/ID 30

Pieces of 20 ms go through the session's WebSocket, each when its last sample would have been picked up. A beep comes
every 1.3 s or so, at any time within a frame. At the end it prints as JSON when the first sample of each beep was sent
(`sent`, by `time.monotonic`, which all processes of a machine share, a piece being taken to go sample by sample from
its sending on), and by how many seconds pieces left late (`late`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import numpy as np
from websockets.sync.client import connect

SOUND_HZ = 48_000
BEEP_SECONDS = 0.2
_PIECE = SOUND_HZ // 50
_APART_SECONDS = 1.2, 1.4
_HERTZ, _HARMONICS, _PEAK = 200.0, 6, 0.5


def beep() -> np.ndarray:
    """float32 [n] at 48 kHz: a voiced sound that begins and ends at once."""
    at = np.arange(round(BEEP_SECONDS * SOUND_HZ)) / SOUND_HZ
    sound = sum(np.sin(2 * np.pi * _HERTZ * k * at) / k for k in range(1, _HARMONICS + 1))
    return np.asarray(_PEAK * sound / np.abs(sound).max(), np.float32)


def pieces(seconds: float) -> Iterator[tuple[np.ndarray, list[int]]]:
    """Int16 [960] pieces of so much sound, and at which of their samples beeps begin."""
    random, tone = np.random.default_rng(0), (32767 * beep()).astype("<i2")
    begin = SOUND_HZ
    for count in range(0, round(seconds * SOUND_HZ), _PIECE):
        piece = np.zeros(_PIECE, "<i2")
        if begin + len(tone) <= count:
            begin += round(random.uniform(*_APART_SECONDS) * SOUND_HZ)
        low, high = max(begin, count), min(begin + len(tone), count + _PIECE)
        if low < high:
            piece[low - count : high - count] = tone[low - begin : high - begin]
        yield piece, [begin - count] if 0 <= begin - count < _PIECE else []


def main() -> int:
    """See the module."""
    url, seconds = sys.argv[1], float(sys.argv[2])
    sent, late = [], []
    with connect(f"{url}/pcm?rate={SOUND_HZ}&kind=microphone", compression=None) as line:
        began = time.monotonic()
        for number, (piece, begins) in enumerate(pieces(seconds), 1):
            due = began + number * _PIECE / SOUND_HZ
            time.sleep(max(due - time.monotonic(), 0))
            now = time.monotonic()
            line.send(piece.tobytes())
            late.append(now - due)
            sent += [now + begin / SOUND_HZ for begin in begins]
    print(json.dumps({"sent": sent, "late": late}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
