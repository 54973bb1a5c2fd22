"""One training step and one run-time frame on a GPU, part by part, beside the CPU kernels'; prints JSON.

    python tools/gpu_benchmark.py --output benchmarks/gpu.json

The scenes are those of benchmark_fit_step.py. GPU times are medians between CUDA events around one call each; `step`
and `frame` are wall-clock milliseconds of many in a row with one wait at the end, as a trainer or a live loop would
run them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import torch
from benchmark_fit_step import Scene, make_scene, measure

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import native, native_cuda, vendor_gsplat

SCENES = ((12000, 12, 256), (20000, 20, 512), (50000, 20, 512))
"""Gaussians, bases, picture side."""


def on_device(scene: Scene) -> Scene:
    """The same scene in the GPU's memory."""
    moved = {f.name: getattr(scene, f.name).cuda() for f in fields(scene) if f.name != "size_px"}
    return replace(scene, **moved)


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Median time between two events around `call`, after ten calls that warm up."""
    for _ in range(10):
        call()
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in pairs:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return round(statistics.median(start.elapsed_time(end) for start, end in pairs), 4)


def run_ms(call: Callable[[], object], repeats: int) -> float:
    """Wall-clock milliseconds of a call among `repeats` in a row."""
    for _ in range(10):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return round(1e3 * (time.perf_counter() - start) / repeats, 4)


def measure_gpu(scene: Scene, repeats: int) -> dict[str, float]:
    """Milliseconds of each part, of a whole step and of a run-time frame."""
    size, backend = scene.size_px, "cuda"
    base, deltas = scene.base.clone(), scene.deltas.clone()
    base_moments = torch.zeros_like(base), torch.zeros_like(base)
    deltas_moments = torch.zeros_like(deltas), torch.zeros_like(deltas)
    lr = torch.full((14,), 1e-3, device="cuda")
    backdrop = scene.background.float() / 255
    attributes = ops.blend(base, deltas, scene.weights, scene.group, backend=backend).requires_grad_()
    splats = ops.project(attributes, scene.skin, scene.head, scene.torso, *scene.camera, backend=backend)
    leaf = splats.detach().requires_grad_()
    image = ops.rasterise(leaf, size, size, backend=backend)
    image_grad, splats_grad = torch.rand_like(image) / size**2, torch.rand_like(splats)

    def loss(picture: torch.Tensor) -> torch.Tensor:
        return ops.l1_dssim(picture, scene.target, scene.weight, 0.2, background=backdrop, backend=backend)

    def step() -> None:
        leaves = ops.blend(base, deltas, scene.weights, scene.group, backend=backend).requires_grad_()
        drawn = ops.project(leaves, scene.skin, scene.head, scene.torso, *scene.camera, backend=backend)
        loss(ops.rasterise(drawn, size, size, backend=backend)).backward()
        assert leaves.grad is not None
        adam(leaves.grad)

    def adam(grad: torch.Tensor) -> torch.Tensor:
        return ops.blend_adam_step_(
            base, deltas, *base_moments, *deltas_moments, grad, scene.weights, scene.group, 1, lr, lr, backend=backend
        )

    def frame() -> torch.Tensor:
        return ops.render_frame(
            scene.base, scene.deltas, scene.weights, scene.group, scene.skin, scene.head, scene.torso,
            *scene.camera[:3], scene.background, backend=backend,
        )  # fmt: skip

    camera = scene.camera
    kernels = torch.ops.avatarfit
    plain, still, seen = attributes.detach(), splats.detach(), image.detach()
    parts: dict[str, Callable[[], object]] = {
        "blend": lambda: kernels.blend(base, deltas, scene.weights, scene.group),
        "project": lambda: kernels.project(plain, scene.skin, scene.head, scene.torso, *camera),
        "project_backward": lambda: kernels.project_backward(
            splats_grad, plain, scene.skin, scene.head, scene.torso, *camera
        ),
        "rasterise": lambda: kernels.rasterise(still, size, size),
        "rasterise_backward": lambda: kernels.rasterise_backward(image_grad, still, seen),
        "rasterise_over": lambda: kernels.rasterise_over(still, scene.background),
        "loss_with_gradient": lambda: kernels.l1_dssim(seen, scene.target, scene.weight, backdrop, 0.2, True),
        "blend_adam_step": lambda: adam(splats_grad.new_zeros(len(base), 14)),
    }
    try:
        vendor_gsplat.describe()
    except BackendError as error:
        sys.stderr.write(f"gsplat left out: {error}\n")
    else:
        parts["gsplat_project_and_rasterise"] = lambda: vendor_gsplat.render_gsplat(
            plain, scene.skin, scene.head, scene.torso, *camera
        )
        parts["project_and_rasterise"] = lambda: kernels.rasterise(
            kernels.project(plain, scene.skin, scene.head, scene.torso, *camera), size, size
        )
    times = {name: median_ms(call, repeats) for name, call in parts.items()}
    times["step"] = run_ms(step, repeats)
    times["frame"] = run_ms(frame, repeats)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--cpu-repeats", type=int, default=20, help="0 leaves the CPU out")
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    report: dict[str, object] = {
        "benchmark": "gpu_step",
        "machine": {"gpu": native_cuda.device_name(), "cpu_kernels": native.describe(), "torch": torch.__version__},
        "library": ops.choose("cuda").reason,
        "unit": "ms",
        "repeats": options.repeats,
    }
    for gaussians, bases, size_px in SCENES:
        scene = make_scene(gaussians, bases, 3, size_px)
        measured: dict[str, object] = {"cuda": measure_gpu(on_device(scene), options.repeats)}
        if options.cpu_repeats:
            measured["cpu"] = measure(scene, "cpu", options.cpu_repeats)
        report[f"{gaussians}_gaussians_{bases}_bases_{size_px}_px"] = measured
    text = json.dumps(report, indent=2)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
