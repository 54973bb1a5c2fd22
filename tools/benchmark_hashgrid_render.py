"""A frame of a made-up hash-grid head on the CPU, stage by stage, against what its work allows; prints JSON.

    python tools/benchmark_hashgrid_render.py --output hashgrid-render.json
    python tools/benchmark_hashgrid_render.py --sizes 256 512 --threads 1 2

The head is a field of the default shape whose occupied cells are a shell as fitting leaves one, so near that it fills
about half of the picture, as fitted heads do. Stages are what `HashgridHead.look` does, one after another, with torch
on one thread. The bound counts each stage's operations and the bytes that must be moved, over a matrix product's and a
copy's speed in the same run: what is moved between stages lies in caches in part, so a stage may beat it.
`step` is the forward and backward pass of a patch of rays, as fitting makes it, without loss and optimiser.
`processor_ms` is the least time of this process on the processors, all threads together: what a busy machine tells of
a frame with one thread.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_up_scene import add_time, set_threads, start_report, tell_gain_of_threads, write_report
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import Camera
from avatarfit.model.gaussian_avatar import group_mask
from avatarfit.model.hashgrid_head import (
    COLOUR_FROM,
    FieldShape,
    FrameState,
    HashgridHead,
    pixel_grid,
    pixels_of_box,
    rays_through,
)
from avatarfit.model.motion_grid import COLUMNS
from avatarfit.ops import native
from avatarfit.ops.field import DENSITY
from avatarfit.ops.march import morton_cell, pack_bits

LOW_CM, SIDE_CM = (-13.0, -13.0, -9.0), 26.0
RADII_CM = (8.0, 11.0, 9.5)
COUNTS = (12, 10, 4)
"""Lengths of the mouth's, the upper face's and the torso's code."""
AWAY_CM = 53.0


def make_head(shape: FieldShape) -> HashgridHead:
    """A field whose occupied cells are the front of an ellipsoid's shell."""
    torch.manual_seed(0)
    side = shape.occupancy_side
    cells = morton_cell(torch.arange(side**3))
    centres = torch.tensor(LOW_CM) + (cells + 0.5) * (SIDE_CM / side)
    radius = ((centres - torch.tensor([0.0, 0.0, 4.0])) / torch.tensor(RADII_CM)).norm(dim=1)
    occupied = (radius > 0.95) & (radius < 1.02) & (centres[:, 2] < 6)
    across = shape.motion_cells + 1
    lowest = (cells[occupied] * shape.motion_cells) // side
    corners = torch.tensor([[corner >> axis & 1 for axis in range(3)] for corner in range(8)])
    vertices = ((lowest[:, None] + corners) @ torch.tensor([1, across, across**2])).unique()
    inputs = group_mask(*COUNTS).shape[1]
    ends = -torch.ones(inputs), torch.ones(inputs)
    head = HashgridHead(shape, LOW_CM, SIDE_CM, np.eye(3, 4, dtype=np.float32), *ends, COUNTS, vertices)
    with torch.no_grad():
        head.occupancy.copy_(pack_bits(occupied))
        head.table.normal_(0, 0.3)
        head.planes.normal_(0, 0.3)
        head.motion.rest[:, DENSITY] = 1.5
        head.motion.bases.normal_(0, 0.01)
    return head


@dataclass
class Frame:
    """A head, its state and the rays that meet what is occupied."""

    head: HashgridHead
    state: FrameState
    rays: tuple[Tensor, Tensor]

    @classmethod
    def make(cls, head: HashgridHead, size_px: int) -> Frame:
        """As the renderer chooses them, near enough."""
        camera = Camera(size_px, size_px, 2.34 * size_px, size_px / 2, size_px / 2)
        pose = torch.eye(3, 4)
        pose[2, 3] = AWAY_CM
        pixels = pixel_grid(*pixels_of_box(head.box, camera, pose))
        counts = head.march(*rays_through(pixels, camera, pose)).offsets.diff()
        state = head.frame_state(torch.zeros(len(head.condition_low)))
        return cls(head, state, rays_through(pixels[counts > 0], camera, pose))

    @torch.no_grad()
    def draw(self, times: dict[str, list[float]]) -> Tensor:
        """`HashgridHead.look`, a stage at a time."""
        head, timed = self.head, partial(add_time, times)
        with timed("frame_state"):
            state = head.frame_state(torch.zeros(len(head.condition_low)))
        with timed("march"):
            samples = head.march(*self.rays)
        with timed("see"):
            return ops.see_field(samples, head.as_field(state), COLOUR_FROM)

    @torch.no_grad()
    def counts(self) -> dict[str, int]:
        """Rays, samples, those that some light comes through to, and those that are coloured."""
        samples = self.head.march(*self.rays)
        sigma = self.head.density_at(samples.positions, self.state)
        rest = samples.t, samples.lengths, samples.offsets
        weights = ops.composite_rays(sigma, sigma[:, None], *rest).weights
        return {
            "rays": len(self.rays[0]),
            "samples": len(sigma),
            "asked_samples": int((weights > 0).sum()),
            "coloured_samples": int((weights > COLOUR_FROM).sum()),
        }

    def step(self, rays: tuple[Tensor, Tensor]) -> int:
        """Forward and backward of a patch; how many samples it had."""
        head = self.head
        rows = self.state.grid.requires_grad_()
        samples = head.march(*rays)
        sigma, colour = head.shade(samples.positions, FrameState(rows, self.state.seen))
        light = ops.composite_rays(sigma, colour, samples.t, samples.lengths, samples.offsets)
        torch.autograd.backward(
            [light.color, light.alpha], [torch.ones_like(light.color), torch.ones_like(light.alpha)]
        )
        for leaf in (rows, *head.parameters()):
            leaf.grad = None
        return len(samples.t)


def work(head: HashgridHead, counts: dict[str, int]) -> dict[str, tuple[float, float]]:
    """10^9 operations and 10^9 bytes of each stage: what is multiplied and added, what is read and written once.

    Of `see` the tables count once and a sample for what goes in; what lies between its steps never leaves a cache.
    """
    shape, asked, shown = head.shape, counts["asked_samples"], counts["coloured_samples"]
    # Of a corner: its weight from the axes' shares, and a multiply-add for each feature.
    motion = 8 * (2 + 2 * COLUMNS)
    in_space = shape.hash_levels * 8 * (2 + 2 * shape.hash_features)
    in_planes = 3 * shape.plane_levels * 4 * (1 + 2 * shape.plane_features)
    flops = {
        "frame_state": 2.0 * head.motion.bases.numel(),
        "march": 0.0,
        "see": asked * (motion + in_space + in_planes + 2.0 * head.density.parameters_flat.numel() + 20)
        + 2.0 * shown * head.colour.parameters_flat.numel(),
    }
    tables = head.motion.row_count * COLUMNS + head.table.numel() + head.planes.numel()
    numbers = {
        "frame_state": head.motion.bases.numel() + head.motion.row_count * COLUMNS,
        "march": 5 * counts["samples"],
        "see": tables + 4 * asked + (4 + 2) * counts["rays"],
    }
    return {name: (1e-9 * flops[name], 4e-9 * numbers[name]) for name in flops}


def measure(
    frame: Frame, patch: tuple[Tensor, Tensor], repeats: int
) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
    """Median milliseconds of each stage, of the frame and of a training step; least ones on processors; the counts."""
    times: dict[str, list[float]] = {}
    busy: dict[str, list[float]] = {"frame": [], "step": []}
    counts = frame.counts()
    for _ in range(repeats + 1):
        stages: dict[str, list[float]] = {}
        before = time.process_time()
        with add_time(times, "frame"):
            frame.draw(stages)
        between = time.process_time()
        for name, values in stages.items():
            times.setdefault(name, []).append(sum(values))
        with add_time(times, "step"):
            counts["step_samples"] = frame.step(patch)
        busy["frame"].append(1e3 * (between - before))
        busy["step"].append(1e3 * (time.process_time() - between))
    medians = {name: round(statistics.median(values[1:]), 3) for name, values in times.items()}
    return medians, {name: round(min(values[1:]), 3) for name, values in busy.items()}, counts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", type=int, nargs="*", default=[256], help="sides of the picture, px")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--step-rays", type=int, default=4096, help="rays of the training step's patch")
    parser.add_argument("--threads", type=int, nargs="*", help="default: as many as the library takes by itself")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    threads = options.threads or [native.threads()]
    report, ceilings = start_report("hashgrid_render", options.repeats, options.keep_freed_memory, threads)
    for size_px in options.sizes:
        frame = Frame.make(make_head(FieldShape()), size_px)
        some = slice(len(frame.rays[0]) // 3, len(frame.rays[0]) // 3 + options.step_rays)
        patch = frame.rays[0][some].contiguous(), frame.rays[1][some].contiguous()
        entry: dict[str, Any] = {"scene": {"size_px": size_px}, "native": []}
        report["scenes"].append(entry)
        for count in threads:
            set_threads(count)
            times, busy, counts = measure(frame, patch, options.repeats)
            entry["scene"] |= counts
            stages = work(frame.head, counts)
            bounds = {name: ceilings[count].bound_ms(*stage) for name, stage in stages.items()}
            entry["work"] = {name: {"gflop": round(f, 4), "gb": round(b, 5)} for name, (f, b) in stages.items()}
            entry["native"].append(
                {
                    "isa": native.isa(),
                    "threads": count,
                    "ms": times,
                    "processor_ms": busy,
                    "frames_per_s": round(1e3 / times["frame"], 1),
                    "bound_ms": {name: round(ms, 3) for name, ms in bounds.items()},
                    "frame_bound_ms": round(sum(bounds.values()), 3),
                    "share_of_bound": round(sum(bounds.values()) / times["frame"], 3),
                }
            )
        tell_gain_of_threads(entry["native"], lambda result: result["ms"]["frame"])
    write_report(report, options.output)


if __name__ == "__main__":
    main()
