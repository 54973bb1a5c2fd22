"""A running `avatarfit serve` under load: sessions that all speak, and connections that come and vanish. JSON.

python tools/measure_server.py me.avatar --size 256x256 --sessions 4 --seconds 30 --connects 10000 --output server.json
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from running_server import counters, running_server
from websockets.sync.client import connect

_RATE = 24_000
_WARM_SECONDS = 4.0
_COUNTERS = "frames", "dropped_pictures", "lost_frames", "underruns", "slips", "spoken_seconds"


def main() -> int:
    """The tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--size", default=None)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--connects", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with (
        running_server(options.avatar, options.size, options.sessions) as (place, _),
        httpx2.Client(base_url=f"http://{place}", timeout=120.0) as client,
    ):
        told = {"avatar": options.avatar.name, "size": options.size, "sessions": options.sessions}
        told |= _load(client, place, options.sessions, options.seconds)
        if options.connects:
            told |= _connects(client, place, options.connects)
    print(json.dumps(told, indent=2))
    if options.output:
        options.output.write_text(json.dumps(told, indent=2) + "\n")
    return 0


def _load(client: httpx2.Client, place: str, count: int, seconds: float) -> dict[str, Any]:
    """Sessions that are watched for their events and spoken to in pieces of 20 ms, in real time."""
    paths = []
    first_ms = []
    for _ in range(count):
        began = time.perf_counter()
        answer = client.post("/api/sessions", json={})
        answer.raise_for_status()
        first_ms.append(1e3 * (time.perf_counter() - began))
        paths.append(f"/api/sessions/{answer.json()['id']}")
    time.sleep(_WARM_SECONDS)
    rates: list[dict[str, float]] = []
    threads = [
        threading.Thread(target=work, args=(f"ws://{place}{path}", seconds, rates))
        for path in paths
        for work in (_watch, _speak)
    ]
    before, began = _metrics(client), time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after, passed = _metrics(client), time.monotonic() - began
    for path in paths:
        client.delete(path)
    latency = np.array([one["latency_ms"] for one in rates])
    pictures = np.array([one["pictures_per_second"] for one in rates])
    return {
        "seconds": passed,
        "open_ms": first_ms,
        "pictures_per_second": {
            "median": float(np.median(pictures)),
            "5%": float(np.percentile(pictures, 5)),
            "least": float(pictures.min()),
        },
        "latency_ms": {"median": float(np.median(latency)), "95%": float(np.percentile(latency, 95))},
        "processor_cores": (after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / passed,
        **{name: after[f"avatarfit_{name}_total"] - before[f"avatarfit_{name}_total"] for name in _COUNTERS},
    }


def _watch(url: str, seconds: float, rates: list[dict[str, float]]) -> None:
    end = time.monotonic() + seconds
    with connect(f"{url}/events", compression=None) as events:
        while time.monotonic() < end:
            told = json.loads(events.recv(60.0))
            if told["type"] == "rates":
                rates.append(told)


def _speak(url: str, seconds: float, _: Any) -> None:
    piece = _RATE // 50
    at = np.arange(piece * 50) / _RATE
    sound = (9_000 * np.sin(2 * np.pi * 150 * at) * (1 + np.sin(2 * np.pi * 4 * at)) / 2).astype("<i2")
    began = time.monotonic()
    with connect(f"{url}/pcm?rate={_RATE}&kind=microphone", compression=None) as line:
        for index in range(round(50 * seconds)):
            line.send(sound[piece * (index % 50) :][:piece].tobytes())
            time.sleep(max(0.0, began + 0.02 * (index + 1) - time.monotonic()))


def _connects(client: httpx2.Client, place: str, count: int) -> dict[str, Any]:
    """One session; WebSockets that are opened and dropped without a word."""
    path = f"/api/sessions/{client.post('/api/sessions', json={}).json()['id']}"
    memory = []
    for index in range(count):
        if index % (count // 5) == 0:
            memory.append(_metrics(client)["process_resident_memory_bytes"] / 1e6)
        connect(f"ws://{place}{path}/{'events' if index % 2 else 'pcm'}", compression=None).socket.close()
    time.sleep(2.0)
    after = _metrics(client)
    memory.append(after["process_resident_memory_bytes"] / 1e6)
    client.delete(path)
    return {"connects": count, "memory_mb": memory, "open_files_after": after["process_open_fds"]}


def _metrics(client: httpx2.Client) -> dict[str, float]:
    return counters(client.get("/metrics").text)


if __name__ == "__main__":
    sys.exit(main())
