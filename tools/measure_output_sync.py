"""How far apart picture and sound are at the end of a long film: `tools/measure_output_sync.py --minutes 60`.

A clapper every minute and at the very end: a flash in one picture and a beep that begins with it. The film is written
through `open_sink`, read back by FFmpeg, and for each clap the time between flash and beep is taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from avatarfit.media import parse_rate, sound_blocks
from avatarfit.output import OutputOptions, open_sink

_SIDE = 64
_SOUND_HZ = 16_000


def claps(frames: int, rate: float) -> list[int]:
    """The pictures with a flash: one a minute, and one a second before the end."""
    return [*range(round(rate), frames - round(2 * rate), round(60 * rate)), frames - round(rate)]


def write_beeps(path: Path, onsets: list[float], seconds: float) -> None:
    """A WAV of silence with a beep of 0.1 s at each onset."""
    samples = np.zeros(round(seconds * _SOUND_HZ), np.int16)
    for onset in onsets:
        first = int(np.ceil(onset * _SOUND_HZ))
        at = np.arange(first, first + _SOUND_HZ // 10) / _SOUND_HZ - onset
        samples[first : first + len(at)] = np.round(26000 * np.sin(2 * np.pi * 1000 * at))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SOUND_HZ)
        file.writeframes(samples.tobytes())


def flashes_in(path: Path, near: list[float]) -> list[float]:
    """Times of the bright pictures within half a second of each of the times `near`, by the container."""
    import av

    found = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for seconds in near:
            container.seek(int(1_000_000 * (seconds - 0.5)))
            for frame in container.decode(stream):
                assert frame.pts is not None
                assert frame.time_base is not None
                at = float(frame.pts * frame.time_base)
                if at > seconds + 0.5:
                    break
                if at > seconds - 0.5 and frame.to_ndarray(format="gray").mean() > 128:
                    found.append(at)
    return found


def beeps_in(path: Path) -> list[float]:
    """Times at which beeps begin, by the container."""
    import av

    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(np.float64).ravel()) > _threshold(frame.format.name))
            if len(loud) and frame.pts is not None and frame.time_base is not None:
                at = float(frame.pts * frame.time_base) + loud[0] / frame.rate
                if not found or at - found[-1] > 0.5:
                    found.append(at)
                elif at - found[-1] > 0.2:
                    raise RuntimeError(f"a beep in {path} lasts too long")
    return found


def _threshold(sample_format: str) -> float:
    return 0.2 * (2**31 if sample_format.startswith("s32") else 2**15 if sample_format.startswith("s16") else 1)


def measure(folder: Path, name: str, rate_text: str, minutes: float, options: OutputOptions) -> dict[str, object]:
    """One film's figures, in milliseconds and in frames."""
    rate = parse_rate(rate_text)
    frames = round(60 * minutes * rate)
    marks = claps(frames, float(rate))
    write_beeps(folder / "beeps.wav", [float(k / rate) for k in marks], float(frames / rate))
    dark, bright = np.full((_SIDE, _SIDE, 3), 16, np.uint8), np.full((_SIDE, _SIDE, 3), 235, np.uint8)
    began, flashing = time.perf_counter(), set(marks)
    with open_sink(folder / name, options, _SIDE, _SIDE, rate, sound_blocks(folder / "beeps.wav")) as sink:
        for k in range(frames):
            sink.write(bright if k in flashing else dark)
    written = time.perf_counter() - began
    flashes = flashes_in(folder / name, [float(k / rate) for k in marks])
    beeps = beeps_in(folder / name)
    if len(flashes) != len(marks) or len(beeps) != len(marks):
        raise RuntimeError(
            f"{name}: {len(marks)} claps went in; {len(flashes)} flashes and {len(beeps)} beeps came out"
        )
    apart = np.array(beeps) - np.array(flashes)
    astray = np.array(flashes) - np.array([float(k / rate) for k in marks])
    (folder / name).unlink()
    return {
        "file": name, "codec": options.codec, "rate": str(rate), "minutes": minutes, "frames": frames,
        "claps": len(marks), "first_ms": round(1000 * apart[0], 3), "last_ms": round(1000 * apart[-1], 3),
        "worst_ms": round(1000 * float(np.abs(apart).max()), 3),
        "worst_frames": round(float(np.abs(apart).max() * rate), 4),
        "pictures_astray_ms": round(1000 * float(np.abs(astray).max()), 3), "write_seconds": round(written, 1),
    }  # fmt: skip


def main() -> None:
    """Measure and print; each film as NAME[:codec]@RATE."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("films", nargs="*", default=["a.mp4@29.97", "a.mov:prores4444@59.94", "a.mkv@23.976"])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--output", type=Path)
    words = parser.parse_args()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for film in words.films:
            name, _, rate = film.partition("@")
            name, _, codec = name.partition(":")
            figures.append(measure(Path(folder), name, rate, words.minutes, OutputOptions(codec or None)))
            print(json.dumps(figures[-1]), flush=True)
    if words.output is not None:
        words.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
