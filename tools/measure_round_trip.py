"""From a beep that enters a running `avatarfit serve` to the flash and the beep that leave it. JSON.

    python tools/measure_round_trip.py me.avatar --size 512x512 --seconds 30 --output round-trip.json
    python tools/measure_round_trip.py me.avatar --size 512x512 --minutes 30

The server runs in processes of its own, with an avatar that lights up where it hears a voice (`flashing_avatar.py`).
On the same cores a microphone that beeps now and then sends its sound through the WebSocket (`beeping_microphone.py`),
and a client takes picture and sound by WebRTC (`round_trip_client.py`). Measured are

- first_picture_ms: from the request for a session to the first decoded picture, and what of it took how long; `cold` is
  the very first connection of a server, the others are of those after it.
- picture_ms: from the sending of a beep's first sample to the last packet of the first lit picture.
- moment_ms: that less what the motion itself takes from the beep to its first lit moment. With 25 pictures a second
  that is anything up to 40 ms, 18 in the middle; it is worked out for every beep from where it lies within a frame.
- sound_ms: from the same sending to when the beep can be heard, Opus' own 6.5 ms in it.
- offset_ms: how much later the flash comes than the beep, less the motion's own: `by_reports` as the sender's reports
  tell receivers to set them (RFC 3550), `by_arrival` as they come. Above 0 the picture is late.
- processor_cores: what server and client used, and what was taken from this machine from outside meanwhile.
- memory_mb: of all processes of the server, what is shared counted once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from beeping_microphone import SOUND_HZ
from benchmark_live import told
from flashing_avatar import flashing, lamp_of, motion_delays
from round_trip_client import Client
from running_server import counters, running_server
from websockets.asyncio.client import connect

from avatarfit.compositing.framing import Framing
from avatarfit.model.avatar import Avatar
from avatarfit.pipeline.picture import PictureSettings

_WARM_SECONDS = 3.0
_LATEST_SECONDS = 0.8
CODEC_SECONDS = 312 / SOUND_HZ
"""What Opus looks ahead (RFC 6716, 4.1), and receivers do not take off again."""
_COUNTERS = "frames", "dropped_pictures", "lost_frames", "underruns", "slips"


@dataclass(frozen=True)
class Round:
    """What came of one beep, in seconds.

    Attributes:
        sent: when.
        picture, moment, sound: see the module.
        by_reports, by_arrival: offsets; None before the first reports.
    """

    sent: float
    picture: float
    moment: float
    sound: float
    by_reports: float | None
    by_arrival: float


def rounds(
    sent: Sequence[float],
    beeps: Sequence[tuple[float, float, float | None]],
    flashes: Sequence[tuple[float, float, float | None]],
    delays: np.ndarray,
    frame_seconds: float,
) -> list[Round]:
    """The beeps that came back as both.

    Args:
        sent: when each left.
        beeps, flashes: see `Client`.
        delays: float [n], the motion's own, by the beep's place within a frame: see `motion_delays`.
        frame_seconds: of the pictures.
    """
    out = []
    for left in sent:
        heard = next((one for one in beeps if left < one[0] < left + _LATEST_SECONDS), None)
        seen = next((one for one in flashes if left < one[0] < left + _LATEST_SECONDS), None)
        if heard is None or seen is None:
            continue
        # The line of sound begins with a frame.
        phase = (heard[1] - CODEC_SECONDS) / frame_seconds * len(delays)
        apart = seen[0] - heard[0]
        # A beep at the very moment may be told with this frame or the next.
        own = min((float(delays[round(phase + k) % len(delays)]) for k in (-1, 0, -0.5)), key=lambda d: abs(apart - d))
        by_reports = None if seen[2] is None or heard[2] is None else seen[2] - heard[2] - own
        picture = seen[0] - left
        out.append(Round(left, picture, picture - own, heard[0] - left, by_reports, apart - own))
    return out


def summary(some: Sequence[Round]) -> dict[str, Any]:
    """Medians and tails, in milliseconds."""
    reported = [1e3 * one.by_reports for one in some if one.by_reports is not None]
    return {
        **{f"{name}_ms": told([1e3 * getattr(one, name) for one in some]) for name in ("picture", "moment", "sound")},
        "offset_ms": {"by_reports": told(reported), "by_arrival": told([1e3 * one.by_arrival for one in some])},
    }


def drift(some: Sequence[Round]) -> dict[str, Any]:
    """The offset minute by minute, and the slope of a line through all of it."""
    minutes = np.array([(one.sent - some[0].sent) / 60 for one in some])
    out: dict[str, Any] = {}
    for name in ("by_reports", "by_arrival"):
        known = np.array([getattr(one, name) is not None for one in some])
        offset = 1e3 * np.array([getattr(one, name) for one in some if getattr(one, name) is not None])
        at = minutes[known]
        out[name] = {
            "ms_per_minute": round(float(np.polyfit(at, offset, 1)[0]), 4),
            "medians_ms": [round(float(np.median(offset[at.astype(int) == k])), 1) for k in np.unique(at.astype(int))],
        }
    return out


async def measured(place: str, avatar: Avatar, settings: PictureSettings, seconds: float, opens: int, pid: int) -> Any:
    """All figures of a server whose first process is `pid`."""
    lamp = lamp_of(avatar, settings)
    delays, frame = motion_delays(avatar, avatar.frame_rate_hz), 1 / avatar.frame_rate_hz
    async with httpx2.AsyncClient(base_url=f"http://{place}", timeout=60.0) as server:
        (await server.get("/api/health")).raise_for_status()
        parts = []
        for _ in range(opens):
            async with Client(server, lamp.share) as client:
                parts.append(client.parts_ms)
            await asyncio.sleep(0.5)
        async with Client(server, lamp.share) as client:
            await asyncio.sleep(_WARM_SECONDS)
            url = f"ws://{place}{client.path}"
            rates = list[dict[str, float]]()
            watching = asyncio.create_task(_watch(url, rates))
            before, weighed = await _metrics(server), memory_mb(pid)
            used, own, stolen = processor_seconds(pid), time.process_time(), stolen_seconds()
            seen, began = client.pictures, time.monotonic()
            spoken = await _spoken(url, seconds)
            await asyncio.sleep(_LATEST_SECONDS)
            passed = time.monotonic() - began
            seen, after = client.pictures - seen, await _metrics(server)
            used, own = processor_seconds(pid) - used, time.process_time() - own
            stolen = stolen_seconds() - stolen
            memory = {"start": round(weighed, 1), "end": round(memory_mb(pid), 1)}
            watching.cancel()
            some = rounds(spoken["sent"], client.beeps, client.flashes, delays, frame)
    out = {
        "first_picture_ms": {
            "cold": {name: round(value, 1) for name, value in parts[0].items()},
            **{name: told([one[name] for one in parts[1:]]) for name in parts[0]},
        },
        "seconds": round(passed, 1), "beeps": len(spoken["sent"]), "came_back": len(some), **summary(some),
        "motion_own_ms": [round(1e3 * float(value), 1) for value in (delays.min(), delays.max())],
        "microphone_late_ms": told([1e3 * one for one in spoken["late"]]),
        "pictures_per_second": round(seen / passed, 2),
        "told_by_server": {
            "latency_ms": round(float(np.median([one["latency_ms"] for one in rates])), 1),
            **{name: after[f"avatarfit_{name}_total"] - before[f"avatarfit_{name}_total"] for name in _COUNTERS},
        },
        "processor_cores": {"server": round(used / passed, 2), "client": round(own / passed, 2),
                            "stolen": round(stolen / passed, 2)},
        "memory_mb": memory,
    }  # fmt: skip
    return out | ({"drift": drift(some)} if seconds > 120 else {})


async def _spoken(url: str, seconds: float) -> dict[str, list[float]]:
    """What the microphone tells at its end."""
    microphone = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("beeping_microphone.py")), url, str(seconds),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await microphone.communicate()
    return dict(json.loads(told))


async def _watch(url: str, rates: list[dict[str, float]]) -> None:
    async with connect(f"{url}/events", compression=None) as events:
        async for word in events:
            happening = json.loads(word)
            if happening["type"] == "rates":
                rates.append(happening)


async def _metrics(server: httpx2.AsyncClient) -> dict[str, float]:
    return counters((await server.get("/metrics")).text)


def _stat(pid: int) -> list[str]:
    """Words of a process's line (proc_pid_stat(5)) from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int(_stat(int(folder.name))[1])
            except OSError:  # it has ended meanwhile
                continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def memory_mb(pid: int) -> float:
    """Of a process and its descendants; a page that several share is shared out among them."""
    texts = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in family(pid)]
    return sum(int(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0]) for text in texts) / 1024


def processor_seconds(pid: int) -> float:
    """Of those that run now."""
    ticks = [sum(map(int, _stat(one)[11:13])) for one in family(pid)]
    return sum(ticks) / os.sysconf("SC_CLK_TCK")


def stolen_seconds() -> float:
    """So long, in all, cores of this machine waited for whatever it shares its hardware with (proc_stat(5))."""
    return int(Path("/proc/stat").read_text().split()[8]) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", type=Path, help="of Gaussians")
    parser.add_argument("--size", default=None, help="such as 512x512; the avatar's own")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--minutes", type=float, default=None, help="instead of --seconds; tells the offset's drift")
    parser.add_argument("--opens", type=int, default=11, help="connections before, 2 or more, for the first picture")
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    seconds = options.seconds if options.minutes is None else 60 * options.minutes
    width, height = (None, None) if options.size is None else map(int, options.size.split("x"))
    settings = PictureSettings(framing=Framing(width_px=width, height_px=height))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "flash.avatar"
        flashing(Avatar.load(options.avatar)).save(made)
        with running_server(made, options.size, 1) as (place, pid):
            result = {
                "avatar": options.avatar.name, "size": options.size, "cores": os.cpu_count(),
                "python": platform.python_version(), "load_before": round(os.getloadavg()[0], 2),
                **asyncio.run(
                    measured(place, Avatar.load(made), settings, seconds, options.opens, pid)
                ),
            }  # fmt: skip
    text = json.dumps(result, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
