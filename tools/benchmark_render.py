"""One run-time frame: basis weights in, composited uint8 picture out; native against reference in one run, as JSON.

    python tools/benchmark_render.py --output render.json

Medians of wall-clock milliseconds, for every instruction set this machine runs and for one thread and all. Beside each
lies a bound: the work counted (bytes of the bases; pairs of splat and block, as this very scene made them) over the
ceilings measured in the same run, each stage at the better of arithmetic and memory alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from made_up_scene import (
    ATTRIBUTE_BYTES,
    FORWARD_FLOPS_PER_LANE,
    SPLAT_BYTES,
    Ceilings,
    Scene,
    make_scene,
    profile,
    raster_gflop,
    set_threads,
    start_report,
    tell_gain_of_threads,
    write_report,
)

from avatarfit import ops
from avatarfit.ops import native

FRAME_STAGES = ("blend", "project", "sort", "bin", "fill", "composite")


def render(scene: Scene, backend: str) -> torch.Tensor:
    """One frame."""
    return ops.render_frame(
        scene.base, scene.deltas, scene.weights, scene.group, scene.skin, scene.head, scene.torso,
        *scene.camera[:3], scene.background, backend=backend,
    )  # fmt: skip


def measure(scene: Scene, repeats: int, ceilings: Ceilings) -> dict[str, Any]:
    """Times of the native frame and its stages, with the bound."""
    frames: list[float] = []
    stages: dict[str, list[float]] = {name: [] for name in FRAME_STAGES}
    for repeat in range(repeats + 3):
        start = time.perf_counter()
        render(scene, "cpu")
        seconds = time.perf_counter() - start
        if repeat < 3:
            continue
        frames.append(1e3 * seconds)
        figures = profile()
        for name, values in stages.items():
            values.append(figures[name])
    n, k, _ = scene.deltas.shape
    size = scene.size_px
    bounds = {
        # Blending must read every delta once; the rest of a frame fits in the caches.
        "blend": ceilings.bound_ms(
            1e-9 * n * k * 28, 1e-9 * n * (k * 14 * scene.deltas.element_size() + ATTRIBUTE_BYTES)
        ),
        "project": ceilings.bound_ms(1e-9 * n * 300, 1e-9 * n * SPLAT_BYTES),
        "composite": ceilings.bound_ms(
            raster_gflop(figures["pairs_composited"], FORWARD_FLOPS_PER_LANE), 1e-9 * 6 * size * size
        ),
    }
    median = statistics.median(frames)
    return {
        "frame_ms": round(median, 3),
        "frame_ms_p90": round(sorted(frames)[int(0.9 * (len(frames) - 1))], 3),
        "frames_per_s": round(1e3 / median, 1),
        "stage_ms": {name: round(statistics.median(values), 3) for name, values in stages.items()},
        "pairs_listed": int(figures["pairs_binned"]),
        "pairs_composited": int(figures["pairs_composited"]),
        "bound_ms": {name: round(value, 3) for name, value in bounds.items()},
        "share_of_bound": round(sum(bounds.values()) / median, 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, nargs="*", default=[20000, 50000])
    parser.add_argument("--bases", type=int, default=20)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--reference-repeats", type=int, default=1, help="0 leaves the reference out")
    parser.add_argument("--threads", type=int, nargs="*", help="default: 1, and as many as the library takes by itself")
    parser.add_argument("--isas", nargs="*", help="instruction sets to measure; default: every one this machine runs")
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=True, help="half-precision deltas too")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    threads = options.threads or sorted({1, native.threads()})
    report, ceilings = start_report("render_frame", options.repeats, options.keep_freed_memory, threads)
    before = native.isa()
    for gaussians in options.gaussians:
        scene = make_scene(gaussians, options.bases, options.groups, options.size_px)
        entry: dict[str, Any] = {"scene": scene.describe(), "native": []}
        report["scenes"].append(entry)
        plain = scene.deltas
        for isa in options.isas or native.available_isas():
            native.set_isa(isa)
            for deltas in [plain, plain.half()] if options.half else [plain]:
                scene.deltas = deltas
                for count in threads:
                    set_threads(count)
                    result = measure(scene, options.repeats, ceilings[count])
                    kind = {"isa": isa, "deltas": str(deltas.dtype).removeprefix("torch."), "threads": count}
                    entry["native"].append(kind | result)
                tell_gain_of_threads(entry["native"][-len(threads) :], lambda result: result["frame_ms"])
        native.set_isa(before)
        scene.deltas = plain
        if options.reference_repeats:
            set_threads(max(threads), max(threads))
            # The ratio compares like with like: all threads, float32 deltas, the fastest instruction set.
            native_ms = entry["native"][len(threads) - 1]["frame_ms"]
            times = []
            for _ in range(options.reference_repeats):
                start = time.perf_counter()
                render(scene, "reference")
                times.append(1e3 * (time.perf_counter() - start))
            entry["reference_ms"] = round(statistics.median(times), 1)
            entry["reference_over_native"] = round(entry["reference_ms"] / native_ms, 1)
    write_report(report, options.output)


if __name__ == "__main__":
    main()
