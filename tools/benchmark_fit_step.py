"""One training step and one run-time frame, native against reference in the same run; prints JSON.

    python tools/benchmark_fit_step.py --out step.json

The scene is a made-up head (an ellipsoid's shell) over a made-up torso, filled with opaque-ish splats of a few pixels.
Times are medians of wall-clock milliseconds; the reference runs far fewer times, being slow.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from avatarfit import ops
from avatarfit.ops import native

LR = torch.full((14,), 1e-3)


@dataclass
class Scene:
    """Every tensor of a step; shapes as in `avatarfit.ops`."""

    base: torch.Tensor
    deltas: torch.Tensor
    weights: torch.Tensor
    group: torch.Tensor
    skin: torch.Tensor
    head: torch.Tensor
    torso: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    background: torch.Tensor
    size_px: int

    @property
    def camera(self) -> tuple[float, float, float, int, int]:
        """Arguments of `project` after the matrices."""
        return 2.34 * self.size_px, self.size_px / 2, self.size_px / 2, self.size_px, self.size_px


def make_scene(gaussians: int, bases: int, groups: int, size_px: int, seed: int = 0) -> Scene:
    """A head-like shell (60 % of the Gaussians) over shoulders, 60 cm away."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    direction = torch.nn.functional.normalize(normal(gaussians, 3), dim=1)
    on_head = torch.arange(gaussians) < 0.6 * gaussians
    radii = torch.where(on_head[:, None], torch.tensor([7.5, 10.5, 9.0]), torch.tensor([20.0, 8.0, 9.0]))
    center = torch.where(on_head[:, None], torch.tensor([0.0, -4.0, 60.0]), torch.tensor([0.0, 16.0, 62.0]))
    base = torch.zeros(gaussians, 14)
    base[:, :3] = center + radii * direction * (1 + 0.02 * normal(gaussians, 1))
    base[:, 3:7] = normal(gaussians, 4)
    base[:, 7:10] = math.log(0.25 * math.sqrt(12000 / gaussians)) + 0.4 * normal(gaussians, 3)
    base[:, 10] = 1 + normal(gaussians)
    base[:, 11:] = torch.rand(gaussians, 3, generator=random)
    identity = torch.eye(3, 4)
    return Scene(
        base=base,
        deltas=0.01 * normal(gaussians, bases, 14),
        weights=normal(groups, bases),
        group=torch.randint(0, groups, (gaussians,), generator=random, dtype=torch.int32),
        skin=on_head.float(),
        head=identity.clone(),
        torso=identity.clone(),
        target=torch.rand(size_px, size_px, 3, generator=random),
        weight=torch.ones(size_px, size_px),
        background=torch.zeros(size_px, size_px, 3, dtype=torch.uint8),
        size_px=size_px,
    )


def measure(scene: Scene, backend: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of each part of a step, of the whole step and of a run-time frame; one more run warms up."""
    times: dict[str, list[float]] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        times.setdefault(name, []).append(1e3 * (time.perf_counter() - start))

    base, deltas = scene.base.clone(), scene.deltas.clone()
    base_moments = torch.zeros_like(base), torch.zeros_like(base)
    deltas_moments = torch.zeros_like(deltas), torch.zeros_like(deltas)
    head, torso = scene.head.clone().requires_grad_(), scene.torso.clone().requires_grad_()
    size = scene.size_px
    backdrop = scene.background.float() / 255

    for step in range(1, repeats + 2):
        if step == 2:
            times.clear()
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
        # The whole, as a trainer runs it.
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
        with timed("render_frame"):
            ops.render_frame(
                scene.base, scene.deltas, scene.weights, scene.group, scene.skin, scene.head, scene.torso,
                *scene.camera[:3], scene.background, backend=backend,
            )  # fmt: skip
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, default=12000)
    parser.add_argument("--bases", type=int, default=12)
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--size-px", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--reference-repeats", type=int, default=1, help="0 leaves the reference out")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the library takes by itself")
    parser.add_argument("--isas", nargs="*", help="instruction sets to measure; default: the one in use")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    if options.threads:
        native.set_threads(options.threads)
    torch.set_num_threads(native.threads())
    kept = native.keep_freed_memory() if options.keep_freed_memory else False
    scene = make_scene(options.gaussians, options.bases, options.groups, options.size_px)
    with torch.no_grad():
        attributes = ops.blend(scene.base, scene.deltas, scene.weights, scene.group)
        drawn = int((ops.project(attributes, scene.skin, scene.head, scene.torso, *scene.camera)[:, 9] > 0).sum())
    report: dict[str, object] = {
        "benchmark": "fit_step",
        "machine": {"processor": processor(), "threads": native.threads(), "torch": torch.__version__},
        "scene": {
            "gaussians": options.gaussians,
            "gaussians_in_view": drawn,
            "bases": options.bases,
            "groups": options.groups,
            "size_px": options.size_px,
        },
        "keep_freed_memory": kept,
        "unit": "ms, median",
        "repeats": options.repeats,
    }
    for isa in options.isas or [native.isa()]:
        native.set_isa(isa)
        report[f"cpu_{isa}"] = cpu = measure(scene, "cpu", options.repeats)
    if options.reference_repeats:
        report["reference"] = reference = measure(scene, "reference", options.reference_repeats)
        report["reference_over_cpu"] = {name: round(reference[name] / cpu[name], 1) for name in cpu}
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
