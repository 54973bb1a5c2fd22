"""Ray march and compositing, native against reference in the same run; prints JSON.

    python tools/benchmark_volume.py --output volume.json
    python tools/benchmark_volume.py --cases 256:128:0.25 512:128:0.15 --threads 1 2

Each case is SIZE:SIDE:STEP: a picture of SIZE x SIZE rays at a made-up head, a shell in a box of 24 x 30 x 24 cm with a
grid of SIDE^3 cells, sampled every STEP cm. Times are medians of wall-clock milliseconds. The reference, being slow and
hungry for memory, marches every 16th ray; its time is told for as many.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made_up_scene import Ceilings, add_time, set_threads, start_report, tell_gain_of_threads, write_report
from torch import Tensor

from avatarfit import ops
from avatarfit.ops import native

BOX = (-12.0, -15.0, 48.0, 12.0, 15.0, 72.0)
REFERENCE_SHARE = 16
SAMPLE_BYTES = 20
"""Position, t and length: what a march writes of a sample."""
FORWARD_BYTES = 4 * (1 + 3 + 1 + 1 + 1)
"""Of a sample: density, colour, t and length read, its weight written."""
BACKWARD_BYTES = 4 * (1 + 3 + 1 + 1 + 1 + 1 + 3)
"""The same, and the gradients of density and colour written."""


def head(positions: Tensor) -> Tensor:
    """Density per cm of a shell about as thick as skin is uncertain, [N]."""
    radius = ((positions - torch.tensor([0.0, 0.0, 60.0])) / torch.tensor([8.0, 11.0, 9.5])).norm(dim=1)
    return 40 * torch.exp(-(((radius - 1) / 0.04) ** 2))


@dataclass
class Case:
    """Rays and a grid."""

    rays: tuple[Tensor, Tensor, Tensor, Tensor]
    grid: ops.OccupancyGrid
    step_cm: float

    def march(self, backend: str, every: int = 1) -> ops.RaySamples:
        """The samples of every so-many-th ray, each kept."""
        origins, directions, near, far = (values[::every].contiguous() for values in self.rays)
        bits = self.grid.bits
        return ops.march_rays(origins, directions, near, far, BOX, bits, self.step_cm, 4096, backend=backend)


def make_case(size_px: int, side: int, step_cm: float) -> Case:
    """A pinhole camera that sees the box, and the grid of the head after a few updates."""
    random = torch.Generator().manual_seed(0)
    grid = ops.OccupancyGrid(BOX, side, 0.05)
    for _ in range(4):
        grid.update(head, generator=random)
    across = (torch.arange(size_px) + 0.5 - size_px / 2) / (1.9 * size_px)
    y, x = torch.meshgrid(across, across, indexing="ij")
    directions = torch.nn.functional.normalize(torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3), dim=1)
    rays = torch.zeros_like(directions), directions, torch.ones(size_px**2), torch.full((size_px**2,), 100.0)
    return Case(rays, grid, step_cm)


def measure(case: Case, backend: str, repeats: int, every: int) -> dict[str, float]:
    """Median milliseconds of the march, of compositing and of its gradient; one more run warms up."""
    times: dict[str, list[float]] = {}
    timed = partial(add_time, times)

    for _ in range(repeats + 1):
        with timed("march"):
            found = case.march(backend, every)
        sigma = head(found.positions).requires_grad_()
        color = torch.rand(len(sigma), 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with timed("composite"):
            out = ops.composite_rays(sigma, color, found.t, found.lengths, found.offsets, backend=backend)
        grads = 2 * out.color.detach(), torch.ones_like(out.alpha)
        with timed("composite_backward"):
            torch.autograd.grad((out.color, out.alpha), (sigma, color), grads)
    return {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}


def bound(samples: int, ceilings: Ceilings) -> dict[str, float]:
    """Least milliseconds by memory: every sample's numbers moved once. What a march looks up is not counted."""
    moved = {"march": SAMPLE_BYTES, "composite": FORWARD_BYTES, "composite_backward": BACKWARD_BYTES}
    return {name: round(ceilings.bound_ms(0, 1e-9 * samples * size), 3) for name, size in moved.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="*", default=["256:128:0.25"], help="SIZE:SIDE:STEP, any number")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--reference-repeats", type=int, default=3, help="0 leaves the reference out")
    parser.add_argument("--threads", type=int, nargs="*", help="default: as many as the library takes by itself")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    threads = options.threads or [native.threads()]
    report, ceilings = start_report("volume", options.repeats, options.keep_freed_memory, threads)
    for text in options.cases:
        size_px, side, step_cm = text.split(":")
        case = make_case(int(size_px), int(side), float(step_cm))
        found = case.march("cpu")
        full = ops.march_rays(*case.rays, BOX, torch.full_like(case.grid.bits, 255), case.step_cm, 4096, backend="cpu")
        entry: dict[str, Any] = {
            "scene": {
                "size_px": int(size_px),
                "grid_side": int(side),
                "step_cm": case.step_cm,
                "occupied": round(case.grid.occupied_fraction(), 4),
                "samples": len(found.t),
                "samples_without_grid": len(full.t),
            },
            "native": [],
        }
        report["scenes"].append(entry)
        for count in threads:
            set_threads(count)
            times = measure(case, "cpu", options.repeats, 1)
            entry["native"].append(
                {
                    "isa": native.isa(),
                    "threads": count,
                    "ms": times,
                    "ns_per_sample": {name: round(1e6 * ms / len(found.t), 2) for name, ms in times.items()},
                    "bound_ms": bound(len(found.t), ceilings[count]),
                }
            )
        tell_gain_of_threads(entry["native"], lambda result: sum(result["ms"].values()))
        if options.reference_repeats:
            set_threads(max(threads), max(threads))
            entry["rays_left_out_for_reference"] = f"all but every {REFERENCE_SHARE}th"
            entry["reference_ms"] = slow = measure(case, "reference", options.reference_repeats, REFERENCE_SHARE)
            entry["native_ms_for_as_many"] = fast = measure(case, "cpu", options.repeats, REFERENCE_SHARE)
            entry["reference_over_native"] = {name: round(slow[name] / fast[name], 1) for name in fast}
    write_report(report, options.output)


if __name__ == "__main__":
    main()
