"""What one GPU makes of the CUDA kernels: a single stream, a training step's passes, and many avatars at once, as JSON.

    python tools/gpu_benchmark.py --output benchmarks/gpu.json

Beside each measurement lie, from the same run, gsplat's on the same scene (where it is installed) and a bound: the work
counted (bytes that must be moved; operations, with the pairs of splat and 4x4 block that the CPU kernels counted in
this very scene) over what a copy and a float32 matrix product reached. `ms` is wall-clock time of many calls in a row
with one wait at the end, as a live loop would run them; the parts' times are medians between two events. The
bound takes every byte from memory: what lies in the cache from the call before may beat it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from made_up_scene import (
    ATTRIBUTE_BYTES,
    BACKWARD_FLOPS_PER_LANE,
    FORWARD_FLOPS_PER_LANE,
    Ceilings,
    Scene,
    make_scene,
    profile,
    raster_gflop,
    write_report,
)
from volume_on_gpu import volume

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.model.gaussian_avatar import MotionWeights, group_mask
from avatarfit.ops import Frame, Gaussians, layout, native_cuda, vendor_gsplat
from avatarfit.ops.frame_graph import FrameGraph

GROUPS = 3
CODE_COUNTS = (16, 8, 16)
"""Lengths of the mouth's and the upper face's code; the poses come on top."""
PROJECT_FLOPS = 300
"""Of one Gaussian, skinning included; its gradient takes twice as many."""
PROJECT_BACKWARD_FLOPS = 600


@dataclass(frozen=True)
class Work:
    """What a picture takes at the least: 10^9 operations, and 10^9 bytes between memory and the kernels."""

    gflop: float
    gb: float


def frame_work(gaussians: int, bases: int, pixels: int, pairs: float, delta_bytes: int) -> Work:
    """Run-time frames of so much in all: what is stored is read once, the backgrounds too, and the pictures written."""
    flops = gaussians * (2 * bases * layout.ATTRIBUTE_COUNT + PROJECT_FLOPS)
    stored = bases * layout.ATTRIBUTE_COUNT * delta_bytes + ATTRIBUTE_BYTES + 8
    return Work(1e-9 * flops + raster_gflop(pairs, FORWARD_FLOPS_PER_LANE), 1e-9 * (gaussians * stored + 6 * pixels))


def passes_work(gaussians: int, size_px: int, pairs: float) -> Work:
    """Projection and rasterising, forward and backward: attributes in, gradient out; image out, its gradient in."""
    flops = gaussians * (PROJECT_FLOPS + PROJECT_BACKWARD_FLOPS)
    raster = raster_gflop(pairs, FORWARD_FLOPS_PER_LANE + BACKWARD_FLOPS_PER_LANE)
    return Work(1e-9 * flops + raster, 1e-9 * (2 * gaussians * ATTRIBUTE_BYTES + 2 * 16 * size_px**2))


def against_bound(ms: float, work: Work, ceilings: Ceilings) -> dict[str, float]:
    """A time beside the least that its work allows."""
    bound_ms = ceilings.bound_ms(work.gflop, work.gb)
    return {"ms": round(ms, 4), "bound_ms": round(bound_ms, 4), "share_of_bound": round(bound_ms / ms, 3)}


def as_rate(ms: float) -> dict[str, float]:
    """A time and what it makes a second."""
    return {"ms": round(ms, 4), "frames_per_s": round(1e3 / ms, 1)}


def run_ms(call: Callable[[], object], repeats: int) -> float:
    """Wall-clock milliseconds of a call among `repeats` in a row."""
    for _ in range(10):
        call()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / repeats


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
    return statistics.median(start.elapsed_time(end) for start, end in pairs)


def measure_ceilings() -> Ceilings:
    """What this GPU gives in this run: float32 without tensor cores, and a copy of 2 GiB, read and written."""
    side = 8192
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = torch.rand(side, side, device="cuda"), torch.rand(side, side, device="cuda")
    product_ms = median_ms(lambda: torch.mm(a, b), 10)
    torch.backends.cuda.matmul.allow_tf32 = before
    source = torch.ones(1 << 29, device="cuda")
    target = torch.empty_like(source)
    copy = 1e-6 * 2 * 4 * source.numel() / median_ms(lambda: target.copy_(source), 20)
    return Ceilings(gflops=1e-6 * 2 * side**3 / product_ms, read_gbps=copy, copy_gbps=copy)


def on_gpu(scene: Scene) -> Scene:
    """The same scene in the GPU's memory."""
    return replace(scene, **{f.name: getattr(scene, f.name).cuda() for f in fields(scene) if f.name != "size_px"})


def as_frame(scene: Scene, half: bool = False) -> Frame:
    """The scene as a run-time frame."""
    deltas = scene.deltas.half() if half else scene.deltas
    still = Gaussians(scene.base, deltas, scene.group, scene.skin)
    return Frame(still, scene.weights, scene.head, scene.torso, *scene.camera[:3], scene.background)


def count_pairs(scene: Scene) -> float:
    """Pairs of splat and 4x4 block that its picture takes, as the CPU's kernels count them."""
    ops.render_frames([as_frame(scene)], backend="cpu")
    return profile()["pairs_composited"]


@dataclass(frozen=True)
class Driven:
    """Frames on the GPU, the motion codes [B, D] that move them, the network between, and the frames' pairs in all."""

    frames: tuple[Frame, ...]
    code: torch.Tensor
    network: MotionWeights
    pairs: float

    @classmethod
    def make(cls, scenes: list[Scene], half: bool) -> Driven:
        """Of scenes in the CPU's memory, with as many bases each."""
        torch.manual_seed(0)
        mask = group_mask(*CODE_COUNTS)
        network = MotionWeights(mask, scenes[0].deltas.shape[1]).requires_grad_(False)
        code = 0.1 * torch.randn(len(scenes), mask.shape[1])
        moved = [
            replace(scene, weights=weights) for scene, weights in zip(scenes, network(code).contiguous(), strict=True)
        ]
        frames = tuple(as_frame(on_gpu(scene), half) for scene in moved)
        return cls(frames, code.cuda(), network.cuda(), sum(map(count_pairs, moved)))

    def weigh(self, frames: tuple[Frame, ...]) -> None:
        """Writes the network's weights into frames."""
        for frame, weights in zip(frames, self.network(self.code), strict=True):
            frame.weights.copy_(weights)

    def draw(self) -> torch.Tensor:
        """Codes in, pictures out, launch by launch."""
        self.weigh(self.frames)
        return ops.render_frames(self.frames, backend="cuda")

    def graph(self) -> FrameGraph:
        """The same, captured."""
        return FrameGraph(self.frames, self.weigh)


def over(image: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    """Float [H, W, 4] over uint8, to uint8: what gsplat leaves to torch."""
    rgb = image[..., :3] + (1 - image[..., 3:]) * (background.float() / 255)
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def gsplat_is_there() -> bool:
    """Whether it can be raced; why not goes to stderr."""
    try:
        vendor_gsplat.describe()
    except BackendError as error:
        sys.stderr.write(f"gsplat left out: {error}\n")
        return False
    return True


def single_stream(gaussians: int, bases: int, size_px: int, repeats: int, ceilings: Ceilings) -> dict[str, Any]:
    """Motion code in, uint8 picture out, one frame after another."""
    scene = make_scene(gaussians, bases, GROUPS, size_px)
    out: dict[str, Any] = {"scene": scene.describe()}
    for half in (False, True):
        driven = Driven.make([scene], half)
        work = frame_work(gaussians, bases, size_px**2, driven.pairs, 2 if half else 4)
        for name, call in (("plain", driven.draw), ("graph", driven.graph().replay)):
            ms = run_ms(call, repeats)
            out[f"{name}_{'half' if half else 'float'}_deltas"] = as_rate(ms) | against_bound(ms, work, ceilings)
    if gsplat_is_there():
        driven, there = Driven.make([scene], half=False), on_gpu(scene)

        def theirs() -> None:
            driven.weigh(driven.frames)
            attributes = ops.blend(there.base, there.deltas, driven.frames[0].weights, there.group, backend="cuda")
            over(vendor_gsplat.render_gsplat_at_rest(attributes, *there.camera), there.background)

        with torch.no_grad():
            ms = run_ms(theirs, repeats)
        for entry in [value for name, value in out.items() if name != "scene"]:
            entry["times_gsplat"] = round(ms / entry["ms"], 2)
        out["gsplat_float_deltas"] = as_rate(ms)
    return out


def passes(gaussians: int, bases: int, size_px: int, repeats: int, ceilings: Ceilings) -> dict[str, Any]:
    """Projection and rasterising, forward and backward, ours and gsplat's; and ours part by part."""
    scene = make_scene(gaussians, bases, GROUPS, size_px)
    work = passes_work(gaussians, size_px, count_pairs(scene))
    out: dict[str, Any] = {"scene": scene.describe()}
    scene, backend = on_gpu(scene), "cuda"
    leaf = ops.blend(scene.base, scene.deltas, scene.weights, scene.group, backend=backend).requires_grad_()
    grad = torch.rand(size_px, size_px, 4, device="cuda") / size_px**2
    posed = (scene.skin, scene.head, scene.torso, *scene.camera)

    def ours() -> None:
        leaf.grad = None
        ops.rasterise(ops.project(leaf, *posed, backend=backend), size_px, size_px, backend=backend).backward(grad)

    def theirs() -> None:
        leaf.grad = None
        vendor_gsplat.render_gsplat_at_rest(leaf, *scene.camera).backward(grad)

    ms = run_ms(ours, repeats)
    out["ours"] = against_bound(ms, work, ceilings)
    if gsplat_is_there():
        gsplat_ms = run_ms(theirs, repeats)
        out["gsplat"] = {"ms": round(gsplat_ms, 4)}
        out["ours"]["times_gsplat"] = round(gsplat_ms / ms, 2)
    out["parts_ms"] = parts(scene, repeats)
    return out


def parts(scene: Scene, repeats: int) -> dict[str, float]:
    """Milliseconds of each operation of a training step."""
    kernels, size = torch.ops.avatarfit, scene.size_px
    with torch.no_grad():
        base, deltas = scene.base.clone(), scene.deltas.clone()
        base_moments = torch.zeros_like(base), torch.zeros_like(base)
        deltas_moments = torch.zeros_like(deltas), torch.zeros_like(deltas)
        lr, backdrop = torch.full((14,), 1e-3, device="cuda"), scene.background.float() / 255
        attributes = kernels.blend(base, deltas, scene.weights, scene.group)
        posed = (scene.skin, scene.head, scene.torso, *scene.camera)
        splats = kernels.project(attributes, *posed)
        image = kernels.rasterise(splats, size, size)
        image_grad, splats_grad = torch.rand_like(image) / size**2, torch.rand_like(splats)
        grad = torch.zeros_like(attributes)
        calls: dict[str, Callable[[], object]] = {
            "blend": lambda: kernels.blend(base, deltas, scene.weights, scene.group),
            "project": lambda: kernels.project(attributes, *posed),
            "project_backward": lambda: kernels.project_backward(splats_grad, attributes, *posed),
            "rasterise": lambda: kernels.rasterise(splats, size, size),
            "rasterise_backward": lambda: kernels.rasterise_backward(image_grad, splats, image),
            "rasterise_over": lambda: kernels.rasterise_over(splats, scene.background),
            "loss_with_gradient": lambda: kernels.l1_dssim(image, scene.target, scene.weight, backdrop, 0.2, True),
            "blend_adam_step": lambda: ops.blend_adam_step_(
                base,
                deltas,
                *base_moments,
                *deltas_moments,
                grad,
                scene.weights,
                scene.group,
                1,
                lr,
                lr,
                backend="cuda",
            ),
        }
        return {name: round(median_ms(call, repeats), 4) for name, call in calls.items()}


def many_avatars(
    avatars: int, bases: int, size_px: int, rate_hz: float, repeats: int, ceilings: Ceilings
) -> dict[str, Any]:
    """A frame of each of so many avatars of 20k to 40k Gaussians, and what share of its time it takes."""
    counts = [20000 + 20000 * i // max(avatars - 1, 1) for i in range(avatars)]
    driven = Driven.make([make_scene(n, bases, GROUPS, size_px, seed) for seed, n in enumerate(counts)], half=True)
    work = frame_work(sum(counts), bases, avatars * size_px**2, driven.pairs, 2)
    out: dict[str, Any] = {"avatars": avatars, "gaussians": counts, "bases": bases, "size_px": size_px}
    out |= {"deltas": "half", "frames_per_s_each": rate_hz, "budget_ms": round(1e3 / rate_hz, 3)}
    for name, call in (("plain", driven.draw), ("graph", driven.graph().replay)):
        ms = run_ms(call, repeats)
        out[name] = against_bound(ms, work, ceilings) | {"share_of_budget": round(ms * rate_hz / 1e3, 4)}
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, default=40000)
    parser.add_argument("--bases", type=int, default=20)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--avatars", type=int, default=32)
    parser.add_argument("--rate-hz", type=float, default=25.0, help="frames a second of each avatar")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    try:
        library = ops.choose("cuda").reason
    except BackendError as error:
        sys.exit(f"gpu_benchmark: nothing was measured: {error}")
    ceilings = measure_ceilings()
    scene = (options.gaussians, options.bases, options.size_px)
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "machine": {"gpu": native_cuda.device_name(), "torch": torch.__version__, "library": library},
        "repeats": options.repeats,
        "ceilings": ceilings.describe(),
        "single_stream": single_stream(*scene, options.repeats, ceilings),
        "forward_and_backward": passes(*scene, options.repeats, ceilings),
        "many_avatars": many_avatars(
            options.avatars, options.bases, options.size_px, options.rate_hz, options.repeats, ceilings
        ),
        "volume": volume(lambda call: run_ms(call, options.repeats), ceilings),
    }
    write_report(report, options.output)


if __name__ == "__main__":
    main()
