"""One training step and one run-time frame, native against reference in the same run; prints JSON.

    python tools/benchmark_fit_step.py --output step.json
    python tools/benchmark_fit_step.py --bases 20 --cases 256:10000 512:20000 --threads 1 2

The scene is a made-up head (an ellipsoid's shell) over a made-up torso, filled with opaque-ish splats of a few pixels.
Times are medians of wall-clock milliseconds; the reference runs far fewer times, being slow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made_up_scene import (
    ATTRIBUTE_BYTES,
    BACKWARD_FLOPS_PER_LANE,
    FORWARD_FLOPS_PER_LANE,
    Ceilings,
    Scene,
    add_time,
    loss_gflop,
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

LR = torch.full((14,), 1e-3)


def measure(scene: Scene, backend: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of each part of a step, of the whole step and of a run-time frame; one more run warms up."""
    times: dict[str, list[float]] = {}
    timed = partial(add_time, times)

    base, deltas = scene.base.clone(), scene.deltas.clone()
    base_moments = torch.zeros_like(base), torch.zeros_like(base)
    deltas_moments = torch.zeros_like(deltas), torch.zeros_like(deltas)
    head, torso = scene.head.clone().requires_grad_(), scene.torso.clone().requires_grad_()
    size = scene.size_px
    backdrop = scene.background.float() / 255

    def parts() -> None:
        # Parts by themselves: the graph is cut between them so that each backward can be timed.
        with timed("blend"):
            attributes = ops.blend(base, deltas, scene.weights, scene.group, backend=backend).requires_grad_()
        with timed("project"):
            splats = ops.project(attributes, scene.skin, head, torso, *scene.camera, backend=backend)
        splats_in = splats.detach().requires_grad_()
        with timed("rasterise"):
            image = ops.rasterise(splats_in, size, size, backend=backend)
        image_in = image.detach().requires_grad_()
        with timed("loss"):
            loss = ops.l1_dssim(image_in, scene.target, scene.weight, 0.2, background=backdrop, backend=backend)
        with timed("loss_backward"):
            (image_grad,) = torch.autograd.grad(loss, image_in)
        with timed("rasterise_backward"):
            (splats_grad,) = torch.autograd.grad(image, splats_in, image_grad)
        with timed("project_backward"):
            torch.autograd.grad(splats, (attributes, head, torso), splats_grad)

    def whole(step: int) -> None:
        # As a trainer runs it.
        whole_cpu = time.process_time()
        with timed("step"):
            attributes = ops.blend(base, deltas, scene.weights, scene.group, backend=backend).requires_grad_()
            splats = ops.project(attributes, scene.skin, head, torso, *scene.camera, backend=backend)
            image = ops.rasterise(splats, size, size, backend=backend)
            ops.l1_dssim(image, scene.target, scene.weight, 0.2, background=backdrop, backend=backend).backward()
            grad = attributes.grad
            assert grad is not None
            with timed("blend_adam_step"):
                ops.blend_adam_step_(
                    base, deltas, *base_moments, *deltas_moments, grad, scene.weights, scene.group, step, LR, LR,
                    backend=backend,
                )  # fmt: skip
        times.setdefault("step_cpu_time", []).append(1e3 * (time.process_time() - whole_cpu))

    def frame() -> None:
        with timed("render_frame"):
            ops.render_frame(
                scene.base, scene.deltas, scene.weights, scene.group, scene.skin, scene.head, scene.torso,
                *scene.camera[:3], scene.background, backend=backend,
            )  # fmt: skip

    # Each in a row of its own, as they come in use: what one leaves in the caches is what its next run finds.
    for _ in range(repeats + 1):
        parts()
    for step in range(1, repeats + 2):
        whole(step)
    for _ in range(repeats + 1):
        frame()
    return {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}


def bound(scene: Scene, ceilings: Ceilings, figures: dict[str, float]) -> dict[str, float]:
    """Least milliseconds of each stage by the ceilings: the work counted, every array from memory once."""
    n, k, _ = scene.deltas.shape
    pairs, pixels = figures["pairs_composited"], scene.size_px**2
    deltas_gb = 1e-9 * n * k * ATTRIBUTE_BYTES
    return {
        "blend": ceilings.bound_ms(1e-9 * n * k * 28, deltas_gb),
        "rasterise": ceilings.bound_ms(raster_gflop(pairs, FORWARD_FLOPS_PER_LANE), 1e-9 * 16 * pixels),
        "rasterise_backward": ceilings.bound_ms(raster_gflop(pairs, BACKWARD_FLOPS_PER_LANE), 1e-9 * 32 * pixels),
        "loss": ceilings.bound_ms(loss_gflop(scene.size_px), 1e-9 * 60 * pixels),
        # Adam reads and writes the deltas and both moments.
        "blend_adam_step": ceilings.bound_ms(1e-9 * n * k * 14 * 16, 0, 3 * deltas_gb),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, default=12000)
    parser.add_argument("--bases", type=int, default=12)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--cases", nargs="*", help="SIZE:GAUSSIANS, any number, in place of --size-px and --gaussians")
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--reference-repeats", type=int, default=1, help="0 leaves the reference out")
    parser.add_argument("--threads", type=int, nargs="*", help="default: as many as the library takes by itself")
    parser.add_argument("--isas", nargs="*", help="instruction sets to measure; default: the one in use")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    cases = [tuple(map(int, case.split(":"))) for case in options.cases or [f"{options.size_px}:{options.gaussians}"]]
    threads = options.threads or [native.threads()]
    report, ceilings = start_report("fit_step", options.repeats, options.keep_freed_memory, threads)
    fastest = native.isa()
    for size_px, gaussians in cases:
        scene = make_scene(gaussians, options.bases, options.groups, size_px)
        entry: dict[str, Any] = {"scene": scene.describe(), "native": []}
        report["scenes"].append(entry)
        for isa in options.isas or [fastest]:
            native.set_isa(isa)
            for count in threads:
                set_threads(count)
                times = measure(scene, "cpu", options.repeats)
                figures = profile()
                bounds = bound(scene, ceilings[count], figures)
                entry["native"].append(
                    {
                        "isa": isa,
                        "threads": count,
                        "ms": times,
                        "pairs_listed": int(figures["pairs_binned"]),
                        "pairs_composited": int(figures["pairs_composited"]),
                        "bound_ms": {name: round(value, 3) for name, value in bounds.items()},
                        "share_of_bound": round(sum(bounds.values()) / times["step"], 3),
                    }
                )
            tell_gain_of_threads(entry["native"][-len(threads) :], lambda result: result["ms"]["step"])
        native.set_isa(fastest)
        if options.reference_repeats:
            set_threads(max(threads), max(threads))
            entry["reference_ms"] = reference = measure(scene, "reference", options.reference_repeats)
            last = entry["native"][-1]["ms"]
            entry["reference_over_native"] = {name: round(reference[name] / last[name], 1) for name in last}
    write_report(report, options.output)


if __name__ == "__main__":
    main()
