"""Latency, load and endurance of live sessions, measured by a flash and a beep; prints JSON.

    python tools/benchmark_live.py --avatar person.avatar --size 512 --output live.json
    python tools/benchmark_live.py --avatar person.avatar --sessions 4 --size 256 --seconds 30
    python tools/benchmark_live.py --avatar person.avatar --minutes 30

A beep of 120 ms is pushed every 1.3 s or so, in pieces of 20 ms, as a microphone would. The person is driven and drawn
as ever; beside that the sound's level, as the driver's features tell it, goes through the motion as a mark, and where
it is set a corner of the picture turns white. So a flash has come all the way from sound to picture. Measured are

- sound: from the push that held a beep's first sample to the leaving of the frame with that sample;
- picture: from that push to the leaving of the first frame with the flash;
- offset: the flash's time less the beep's within what left, each taken where the level passes a half: a picture can
  show a beep at frames only, so an offset in step lies within half a frame of 0 and does not wander;
- rate and drops of pictures, breaks of sound (samples missing from a beep), and memory.

A machine that stood still for a second or more shows in `slips`: such a run says little. Without an avatar a made-up
one of the usual size is driven and drawn, with random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_driver import made_up

from avatarfit.compositing.framing import Framing
from avatarfit.contracts import Camera, FaceMotion, HeadPose, Motion, TorsoMotion
from avatarfit.contracts.events import silent
from avatarfit.model.avatar import Avatar
from avatarfit.model.gaussian_avatar import GaussianAvatar, MotionWeights, condition, group_mask
from avatarfit.model.habits import HabitSampler, Stance
from avatarfit.pipeline.live import LiveOptions, LiveSession
from avatarfit.pipeline.live_frame import SOUND_HZ, LiveFrame, Moment
from avatarfit.pipeline.live_picture import Drawer, LivePictures
from avatarfit.pipeline.picture import PictureSettings

BEEP_SECONDS, PIECE_SECONDS = 0.12, 0.02
EVERY_SECONDS = 1.3
_CORNER = 8
_LOUD = 0.05
_MARK = 1e-3
"""What the mark adds to a head's place, in cm: nothing to be seen, and kept from driver to drawer."""


class MarkedStances:
    """The person's habits, with the head's depth rounded so that it can carry a bit: the sound is loud."""

    def __init__(self, avatar: Avatar, rate: float) -> None:
        self._habits = HabitSampler(avatar.driver.habits, 0, rate)

    def next(self, count: int, heard: np.ndarray | None = None) -> Stance:
        """See `StanceSource`."""
        stance = self._habits.next(count, heard)
        place = stance.translation_cm.copy()
        loud = np.zeros(count, bool) if heard is None else heard[:, 1] > 0
        place[:, 2] = (np.round(place[:, 2] / _MARK / 4) * 4 + np.where(loud, 1, -1)) * _MARK
        return replace(stance, translation_cm=place.astype(np.float32))


class Flash:
    """Draws as ever, and a white corner where the mark is set."""

    def __init__(self, drawer: Drawer) -> None:
        self._drawer = drawer

    def draw(self, moment: Moment) -> np.ndarray:
        """See `Drawer`."""
        picture = self._drawer.draw(moment)
        units = round(float(moment.motion.head.translation_cm[0, 2]) / _MARK)
        picture[:_CORNER, :_CORNER] = 255 if units % 4 == 1 else 0
        return picture


@dataclass
class Beeps:
    """What was pushed and what left, of one session; old ones are worked out and forgotten."""

    pushed: list[float] = field(default_factory=list)
    sound_ms: list[float] = field(default_factory=list)
    picture_ms: list[float] = field(default_factory=list)
    offset_ms: list[float] = field(default_factory=list)
    broken: int = 0
    _heard: float | None = None
    _heard_at: float = 0.0
    _flash: tuple[float, float] | None = None
    _length: int = 0
    _loud: bool = False
    _lit: bool = False

    def take(self, frame: LiveFrame, now: float) -> None:
        """A frame that left at `now`."""
        level = np.abs(frame.sound) / 32768
        quiet = np.convolve(level, np.ones(96) / 96, mode="same") < _LOUD
        if not self._loud and not quiet.all():
            self._loud, self._length = True, 0
            self._heard = frame.pts_seconds + float(np.argmax(~quiet)) / SOUND_HZ
            self._heard_at = now
        if self._loud:
            self._length += int((~quiet).sum())
        lit = bool(frame.picture[:_CORNER, :_CORNER].min() > 200)
        if lit and not self._lit:
            self._flash = frame.pts_seconds, now
        self._lit = lit
        if self._loud and quiet.all():
            self._loud = False
            self._finish()

    def _finish(self) -> None:
        if self.pushed and self._heard is not None:
            pushed = self.pushed.pop(0)
            self.sound_ms.append(1e3 * (self._heard_at - pushed))
            self.broken += abs(self._length / SOUND_HZ - BEEP_SECONDS) > 0.005
            if self._flash is not None:
                self.picture_ms.append(1e3 * (self._flash[1] - pushed))
                self.offset_ms.append(1e3 * (self._flash[0] - self._heard))
        self._heard = self._flash = None


def made_up_avatar(size: int = 256, count: int = 10_000) -> Avatar:
    """A person of the usual size with random weights: what was learned costs nothing."""
    driver, rig = made_up()
    habits = driver.habits
    random = torch.Generator().manual_seed(0)
    motion = Motion(
        np.arange(len(habits)) / habits.frame_rate_hz,
        FaceMotion(np.zeros((len(habits), len(driver.mouth_rest))), habits.upper, habits.eyes),
        HeadPose(habits.rotation_wxyz, habits.translation_cm), TorsoMotion(habits.torso_affine, habits.torso_shape),
    )  # fmt: skip
    rest_head = motion.head.matrices()[0]
    inputs = condition(motion, rest_head)
    counts = len(driver.mouth_rest), habits.upper.shape[1], habits.torso_shape.shape[1]
    base = torch.zeros(count, 14)
    base[:, :3] = torch.rand(count, 3, generator=random) * torch.tensor([20.0, 20, 8]) - torch.tensor([10.0, 10, 4])
    base[:, 3], base[:, 7:10], base[:, 10] = 1, -1.6, 2
    base[:, 11:] = torch.rand(count, 3, generator=random)
    gaussians = GaussianAvatar(
        base, 0.02 * torch.randn(count, 20, 14, generator=random), torch.zeros(count, dtype=torch.int32),
        torch.ones(count), rest_head, inputs.amin(0), inputs.amax(0),
        MotionWeights(group_mask(*counts), 20).eval().requires_grad_(False), counts,
    )  # fmt: skip
    plate = np.full((size, size, 3), 90, np.uint8)
    return Avatar(rig, Camera(size, size, 2.3 * size, size / 2, size / 2), gaussians, driver, plate, 25.0)


def made(avatar: Avatar, size: int | None, rate: float | None) -> LiveSession:
    """A session that flashes."""
    framing = Framing() if size is None else Framing(width_px=size, height_px=size)
    options = LiveOptions(frame_rate_hz=rate, picture=PictureSettings(framing=framing))
    frame_rate_hz = rate or avatar.frame_rate_hz
    drawer = LivePictures(
        avatar, frame_rate_hz, options.background, options.picture, alpha=False, mark=options.mark, on_event=silent
    )
    return LiveSession(avatar, options, stances=MarkedStances(avatar, frame_rate_hz), drawer=Flash(drawer))


def talk(session: LiveSession, beeps: Beeps, until: float, seed: int) -> None:
    """A microphone: pieces of 20 ms in real time, a beep now and then."""
    random = np.random.default_rng(seed)
    count = round(PIECE_SECONDS * SOUND_HZ)
    tone = (0.5 * np.sin(2 * np.pi * 220 * np.arange(count * 6) / SOUND_HZ)).astype(np.float32)
    began, k, next_beep = time.monotonic(), 0, 40
    while time.monotonic() < until and not session.closed:
        place = k - next_beep
        piece = tone[place * count : (place + 1) * count] if 0 <= place < 6 else np.zeros(count, np.float32)
        if place == 0:
            beeps.pushed.append(time.monotonic())
        session.push(piece, SOUND_HZ, live=True)
        if place == 6:
            next_beep = k + round((EVERY_SECONDS - BEEP_SECONDS) / PIECE_SECONDS) + int(random.integers(0, 9))
        k += 1
        time.sleep(max(began + k * PIECE_SECONDS + random.uniform(0, 0.004) - time.monotonic(), 0))


def memory_mb() -> float:
    """Of this process, in megabytes."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def told(values: list[float]) -> dict[str, float]:
    """Median and tails, in the values' unit."""
    if not values:
        return {}
    five, half, most = np.percentile(values, (5, 50, 95))
    return {"median": round(float(half), 1), "p05": round(float(five), 1), "p95": round(float(most), 1),
            "max": round(max(values), 1), "count": len(values)}  # fmt: skip


def measured(avatar: Avatar, size: int | None, rate: float | None, sessions: int, seconds: float) -> dict[str, Any]:
    """Sessions at once for so long."""
    at_work = [made(avatar, size, rate) for _ in range(sessions)]
    beeps = [Beeps() for _ in at_work]
    until = time.monotonic() + seconds
    first_ms: list[float] = []
    memory: list[float] = []

    def look(session: LiveSession, heard: Beeps) -> None:
        began = time.monotonic()
        frame = session.frame(10.0)
        first_ms.append(1e3 * (time.monotonic() - began))
        while frame is not None and time.monotonic() < until:
            heard.take(frame, time.monotonic())
            frame = session.frame(10.0)

    threads = []
    used = time.process_time()
    for k, (session, heard) in enumerate(zip(at_work, beeps, strict=True)):
        session.start()
        threads.append(threading.Thread(target=look, args=(session, heard)))
        threads.append(threading.Thread(target=talk, args=(session, heard, until, k)))
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        time.sleep(min(5.0, max(until - time.monotonic(), 0.0)))
        memory.append(memory_mb())
    for thread in threads:
        thread.join()
    used = time.process_time() - used
    out = []
    for session, heard in zip(at_work, beeps, strict=True):
        session.close()
        statistics = session.statistics
        half = len(heard.offset_ms) // 2
        out.append(
            {
                "sound_ms": told(heard.sound_ms), "picture_ms": told(heard.picture_ms),
                "offset_ms": told(heard.offset_ms),
                "offset_drift_ms": round(float(np.mean(heard.offset_ms[half:]) - np.mean(heard.offset_ms[:half])), 1)
                if half else None,
                "beeps_broken": heard.broken,
                "pictures_per_second": round(statistics.pictures / seconds, 2),
                **{k: round(v, 2) for k, v in statistics.as_dict().items()},
            }
        )  # fmt: skip
    return {
        "sessions": sessions, "seconds": round(seconds, 1), "size": [at_work[0].width_px, at_work[0].height_px],
        "frame_rate_hz": at_work[0].frame_rate_hz, "first_frame_ms": [round(v, 1) for v in first_ms],
        "cpu_cores_used": round(used / seconds, 2),
        "memory_mb": {"after_5_s": round(memory[0], 1), "end": round(memory[-1], 1), "max": round(max(memory), 1)},
        "each": out,
    }  # fmt: skip


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", type=Path, default=None)
    parser.add_argument("--size", type=int, default=None, help="side of the picture in pixels; the avatar's own")
    parser.add_argument("--rate", type=float, default=None, help="frames a second; the avatar's own")
    parser.add_argument("--sessions", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=None, help="a soak, instead of --seconds")
    parser.add_argument("--output", type=Path, default=None)
    args = parser.parse_args()
    seconds = args.seconds if args.minutes is None else 60 * args.minutes
    made_of = {
        "machine": platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2), "python": platform.python_version(),
        "threads": os.environ.get("AVATARFIT_THREADS"),
    }  # fmt: skip
    avatar = made_up_avatar() if args.avatar is None else Avatar.load(args.avatar)
    result = made_of | measured(avatar, args.size, args.rate, args.sessions, seconds)
    text = json.dumps(result, indent=2)
    print(text)
    if args.output is not None:
        args.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
