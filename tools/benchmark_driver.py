"""How fast sound becomes motion, offline and live, and how memory stands over hours of it; prints JSON.

    python tools/benchmark_driver.py --output driver.json
    python tools/benchmark_driver.py --avatar person.avatar --sound speech.wav --hours 3

Without an avatar a driver of the usual size with random weights is timed: what was learned costs nothing. `wall` is the
clock's time, `cpu` the processor's: other work on the machine lengthens the one more than the other. The long sound is
a WAV of mostly silence (a hole in the disk) with a minute of speech in every ten.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from avatarfit.audio import OTHER_COLUMNS, SAMPLE_RATE_HZ, feature_name
from avatarfit.audio.named_encoder import BUILT_IN, encoder_of, named_encoder
from avatarfit.contracts import AudioClip
from avatarfit.driving import DriverStream, drive, drive_chunks
from avatarfit.media import read_audio, resample, sound_blocks
from avatarfit.model.audio_to_landmarks import AudioToLandmarks, AudioToLandmarksConfig
from avatarfit.model.avatar import Avatar
from avatarfit.model.driver_model import DriverModel
from avatarfit.model.habits import Habits, Stance
from avatarfit.model.locally_linear import LocallyLinear
from avatarfit.model.rig import Rig
from avatarfit.performer.speech import synthesise, write_phrases

HOP_SECONDS = 0.02
FRAMES, CENTRES, MOUTH, UPPER = 1600, 3000, 16, 8


def made_up() -> tuple[DriverModel, Rig]:
    """A driver of the size that a minute's clip gives, with random weights."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    rig = Rig.fit(random.normal(0, 1, (200, 478, 3)).astype(np.float32), MOUTH, UPPER)
    encoder = named_encoder(BUILT_IN)
    beside = encoder.column_count - (0 if encoder.prior is None else len(encoder.prior.mean))
    sizes = AudioToLandmarksConfig(
        encoder.column_count + OTHER_COLUMNS, MOUTH, kernel_centres=CENTRES, kernel_axes=48,
        beside_columns=beside, beside_kept=24, beside_axes=96,
    )  # fmt: skip
    network = AudioToLandmarks(sizes)
    for member in network.members:  # they begin at zero
        torch.nn.init.normal_(member.get_parameter("out.weight"), std=0.1)
    stance = Stance(
        normal(FRAMES, UPPER), normal(FRAMES, 6), np.tile(np.array([1, 0, 0, 0], np.float32), (FRAMES, 1)),
        0.1 * normal(FRAMES, 3) + np.array([0, 0, 60], np.float32),
        np.tile(np.eye(2, 3, dtype=np.float32), (FRAMES, 1, 1)), normal(FRAMES, 24),
    )  # fmt: skip
    habits = Habits.of(stance, np.arange(FRAMES) / 25, 25.0, np.abs(normal(FRAMES, 3)))
    deviation = rig.mouth_deviation_cm
    shapes = LocallyLinear(normal(FRAMES, MOUTH) * deviation)
    return DriverModel(feature_name(encoder), network, shapes, habits, np.zeros(MOUTH, np.float32), deviation), rig


def offline(model: DriverModel, rig: Rig, sound: AudioClip, frame_rate_hz: float, repeats: int) -> dict[str, float]:
    """Times real time, the fastest of some runs."""
    wall, cpu = [], []
    encoder = encoder_of(model.feature_name, None)
    for _ in range(repeats + 1):
        start, used = time.perf_counter(), time.process_time()
        drive(model, rig, sound, frame_rate_hz, encoder=encoder)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    seconds = sound.duration_seconds
    return {"wall": round(seconds / min(wall[1:]), 1), "cpu": round(seconds / min(cpu[1:]), 1)}


def live(model: DriverModel, rig: Rig, sound: AudioClip, frame_rate_hz: float) -> dict[str, Any]:
    """Milliseconds of one push of 20 ms; frames come with some pushes only."""
    encoder = encoder_of(model.feature_name, None)
    stream = DriverStream(model, rig, sound.sample_rate_hz, frame_rate_hz, encoder=encoder)
    size = round(HOP_SECONDS * sound.sample_rate_hz)
    wall, cpu = [], []
    for at in range(0, len(sound.samples) - size, size):
        start, used = time.perf_counter(), time.process_time()
        stream.push(sound.samples[at : at + size])
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - used))
    half = len(wall) // 4  # the first pushes warm up
    told: dict[str, float] = {}
    for name, values in (("wall", wall[half:]), ("cpu", cpu[half:])):
        told |= {
            f"{name}_mean_ms": round(float(np.mean(values)), 3),
            f"{name}_median_ms": round(float(np.median(values)), 3),
            f"{name}_99_percent_ms": round(float(np.percentile(values, 99)), 3),
        }
    return told | {"look_ahead_ms": round(1e3 * stream.look_ahead_seconds, 2)}


def sparse_wav(path: Path, speech: AudioClip, hours: float) -> None:
    """16-bit mono: ten minutes' beginnings hold a minute of speech, the rest takes no room on the disk."""
    rate = speech.sample_rate_hz
    count = round(hours * 3600 * rate)
    minute = np.resize(np.rint(np.clip(speech.samples, -1, 1) * 32767).astype("<i2"), min(60 * rate, count))
    sizes = [np.uint32(v).tobytes() for v in (2 * count + 36, 16, rate, 2 * rate, 2 * count)]
    with path.open("wb") as file:
        file.write(
            b"RIFF"
            + sizes[0]
            + b"WAVEfmt "
            + sizes[1]
            + b"\1\0\1\0"
            + sizes[2]
            + sizes[3]
            + b"\2\0\x10\0data"
            + sizes[4]
        )
        for start in range(0, count, 600 * rate):
            file.seek(44 + 2 * start)
            file.write(minute[: count - start].tobytes())
        file.truncate(44 + 2 * count)


def resident_mb() -> float:
    """Memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def long_sound(model: DriverModel, rig: Rig, speech: AudioClip, hours: float, frame_rate_hz: float) -> dict[str, Any]:
    """Memory while a long file is read and driven, block by block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        sparse_wav(path, speech, hours)
        start, used = time.perf_counter(), time.process_time()
        sound = sound_blocks(path)
        encoder = encoder_of(model.feature_name, None)
        stream = DriverStream(model, rig, sound.sample_rate_hz, frame_rate_hz, encoder=encoder)
        frames = 0
        at: list[float] = []
        held: list[float] = []
        for motion in drive_chunks(stream, sound):
            frames += len(motion)
            if frames / frame_rate_hz > 60 * len(at):
                at.append(frames / frame_rate_hz / 3600)
                held.append(resident_mb())
        settled = max(len(at) // 10, 1)  # caches fill in the first minutes
        slope = np.polyfit(at[settled:], held[settled:], 1)[0] if len(at) > settled + 2 else float("nan")
        return {
            "hours": hours,
            "frames": frames,
            "expected_frames": round(sound.duration_seconds * frame_rate_hz),
            "resident_mb_first": round(held[settled] if len(held) > settled else held[-1], 1),
            "resident_mb_last": round(held[-1], 1),
            "resident_mb_largest": round(max(held), 1),
            "growth_mb_per_hour": round(float(slope), 2),
            "times_real_time_wall": round(sound.duration_seconds / (time.perf_counter() - start), 1),
            "times_real_time_cpu": round(sound.duration_seconds / (time.process_time() - used), 1),
        }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--avatar", type=Path, help="whose driver to time; made up if not given")
    parser.add_argument("--sound", type=Path, help="speech; made up if not given")
    parser.add_argument("--seconds", type=float, default=30.0, help="of the sound that is timed")
    parser.add_argument("--hours", type=float, default=0.0, help="of long sound for the memory's sake; 0 leaves it out")
    parser.add_argument("--frame-rates", type=float, nargs="+", default=[25.0, 29.97, 60.0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch; NumPy has one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a JSON file to write, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    threadpool_limits(1, user_api="blas")
    if args.avatar:
        avatar = Avatar.load(args.avatar)
        model, rig = avatar.driver, avatar.rig
    else:
        model, rig = made_up()
    random = np.random.default_rng(0)
    made = synthesise(write_phrases(args.seconds, random), random) if args.sound is None else read_audio(args.sound)
    sound = resample(made, SAMPLE_RATE_HZ)
    sound = AudioClip(np.resize(sound.samples, round(args.seconds * SAMPLE_RATE_HZ)), SAMPLE_RATE_HZ)
    report: dict[str, Any] = {
        "benchmark": "driver",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "threads": args.threads,
        "seconds": args.seconds,
        "features": model.feature_name,
        "offline_times_real_time": {},
        "live_20_ms": {},
    }
    for rate in args.frame_rates:
        report["offline_times_real_time"][f"{rate:g}_fps"] = offline(model, rig, sound, rate, args.repeats)
        report["live_20_ms"][f"{rate:g}_fps"] = live(model, rig, sound, rate)
    if args.hours > 0:
        report["long_sound"] = long_sound(model, rig, sound, args.hours, args.frame_rates[0])
    text = json.dumps(report, indent=2)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
