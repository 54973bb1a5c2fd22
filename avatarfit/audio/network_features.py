"""Features that a network learned from much speech: HuBERT, wav2vec2, Whisper's encoder, or another by their interface.

These networks are not causal: a frame hears all of the window it is computed in, before and after it. Long sound goes
through them in overlapping windows of constant memory (`sound_windows`).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from avatarfit.audio.encoder import SpeechEncoder
from avatarfit.audio.log_mel import SAMPLE_RATE_HZ
from avatarfit.audio.pretrained import Pretrained, load_pretrained
from avatarfit.audio.sound_windows import WindowedRows, Windows
from avatarfit.contracts import InputError

LIVE_SECONDS = 0.12
USUAL = Windows(before_seconds=2.0, step_seconds=8.0, after_seconds=1.0, fade_seconds=0.2)


class NetworkEncoder:
    """See `SpeechEncoder`. A pretrained network over windows of the sound.

    Args:
        network: of `load_pretrained`.
        windows: None: those of `usual_windows`.
        cache: folder for the frames of windows that were computed before, by the content of window and network; None
            for none.
    """

    sample_rate_hz = SAMPLE_RATE_HZ
    prior = None

    def __init__(self, network: Pretrained, windows: Windows | None = None, cache: Path | None = None) -> None:
        self._network, self._cache = network, cache
        self.windows = usual_windows(network) if windows is None else windows
        if network.window_samples and self.windows.length_seconds * SAMPLE_RATE_HZ > network.window_samples + 0.5:
            raise ValueError(
                f"windows of {self.windows.length_seconds} s came; wanted at most "
                f"{network.window_samples / SAMPLE_RATE_HZ} s, which is all that this network hears at once"
            )
        self.column_count = network.column_count
        self.name = f"{network.kind}-layer{network.layer}-{network.weights_hash}-{self.windows}"
        self.look_ahead_seconds = self.windows.look_ahead_seconds

    def stream(self) -> WindowedRows:
        """A fresh stream."""
        network = self._network
        frames: Callable[[np.ndarray], np.ndarray] = network.frames
        if self._cache is not None:
            frames = _Cached(frames, f"{network.kind} {network.layer} {network.weights_hash}", self._cache)
        return WindowedRows(frames, self.column_count, network.frame_centre, self.windows)


def usual_windows(network: Pretrained) -> Windows:
    """Eleven seconds; for Whisper as much as it hears, whose positions were learned for just that."""
    if not network.window_samples:
        return USUAL
    length = network.window_samples / SAMPLE_RATE_HZ
    before, after = (round(share * length / 0.02) * 0.02 for share in (0.15, 0.05))
    before, after = max(before, 0.02), max(after, 0.02)
    return Windows(before, length - before - after, after, min(0.2, after))


def load_encoder(
    source: str | Path, *, layer: int | None = None, windows: Windows | None = None, cache: Path | None = None
) -> NetworkEncoder:
    """Features by a checkpoint in a folder or on the hub; see `load_pretrained` and `NetworkEncoder`.

    Raises:
        InputError: as `load_pretrained`.
    """
    return NetworkEncoder(load_pretrained(source, layer), windows, cache)


def require_live(encoder: SpeechEncoder, seconds: float = LIVE_SECONDS) -> None:
    """Checks that an encoder can follow a live voice.

    Raises:
        InputError: it hears further ahead than `seconds`.
    """
    if encoder.look_ahead_seconds > seconds + 1e-9:
        raise InputError(
            f"The features {encoder.name} hear {encoder.look_ahead_seconds * 1e3:.0f} ms ahead",
            f"at most {seconds * 1e3:.0f} ms for a live voice",
            "fit the avatar on the built-in features, or on this network with windows for live use",
        )


class _Cached:
    """The frames of windows, each in a file named for what it was made of."""

    def __init__(self, frames: Callable[[np.ndarray], np.ndarray], network: str, folder: Path) -> None:
        self._frames, self._network, self._folder = frames, network, folder

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        content = hashlib.sha256(self._network.encode())
        content.update(np.ascontiguousarray(samples, np.float32).data)
        path = self._folder / f"{content.hexdigest()[:40]}.safetensors"
        if path.is_file():
            try:
                return load_file(path)["frames"]
            except (SafetensorError, KeyError):
                # A damaged file is made anew, like one that was never there.
                path.unlink(missing_ok=True)
        frames = self._frames(samples)
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=self._folder, suffix=".part")
        os.close(handle)
        try:
            save_file({"frames": np.ascontiguousarray(frames)}, part)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        return frames
