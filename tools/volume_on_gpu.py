"""Hash encoding, ray march, compositing and small networks on one GPU, beside tiny-cuda-nn and nerfacc: a part of
gpu_benchmark."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import benchmark_hash_encode
import benchmark_volume
import torch
from made_up_scene import Ceilings

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import vendor_nerfacc, vendor_tcnn

POINTS = 1 << 18
GRID = ops.HashGrid.between(3, 16, 16, 1024, 16)
FEATURES = 2
CASE = (512, 128, 0.15)
"""The picture's side, the grid's side and the step in cm."""
WIDTHS = (64, 64, 64, 16)

Measure = Callable[[Callable[[], object]], float]
"""Milliseconds of a call."""


def is_there(name: str, describe: Callable[[], str]) -> bool:
    """Whether a yardstick can be used; why not goes to stderr."""
    try:
        describe()
    except BackendError as error:
        sys.stderr.write(f"{name} left out: {error}\n")
        return False
    return True


def side_by_side(times: dict[str, dict[str, float]], bounds: dict[str, float]) -> dict[str, Any]:
    """Milliseconds by backend, ours first; ours beside its bound, and how many times another's speed that is."""
    out: dict[str, Any] = {name: {part: round(ms, 4) for part, ms in parts.items()} for name, parts in times.items()}
    out["bound_ms"] = {part: round(ms, 4) for part, ms in bounds.items()}
    (_, ours), *others = times.items()
    for name, parts in others:
        out[f"times_{name}"] = {part: round(ms / ours[part], 2) for part, ms in parts.items()}
    return out


def hash_encoding(measure: Measure, ceilings: Ceilings, device: str) -> dict[str, Any]:
    """Forward and both gradients of points along rays."""
    random = torch.Generator().manual_seed(0)
    points = benchmark_hash_encode.ray_points(POINTS, GRID.dimensions).to(device).requires_grad_()
    table = (1e-2 * torch.randn(GRID.row_count, FEATURES, generator=random)).to(device).requires_grad_()
    grad = torch.ones(POINTS, GRID.levels * FEATURES, device=device)

    def parts(backend: str) -> dict[str, float]:
        def step() -> None:
            encoded = ops.hash_encode(points, table, GRID, backend=backend)
            torch.autograd.grad(encoded, (points, table), grad)

        with torch.no_grad():
            forward = measure(lambda: ops.hash_encode(points, table, GRID, backend=backend))
        return {"forward": forward, "step": measure(step)}

    bounds = benchmark_hash_encode.bound(POINTS, FEATURES, GRID, ceilings)
    least = {"forward": bounds["forward"], "step": sum(bounds.values())}
    backends = [device, "tcnn"] if is_there("tiny-cuda-nn", vendor_tcnn.describe) else [device]
    sizes = {"points": POINTS, "levels": GRID.levels, "features": FEATURES}
    return sizes | side_by_side({name: parts(name) for name in backends}, least)


def rays(measure: Measure, ceilings: Ceilings, device: str) -> dict[str, Any]:
    """A march through an occupied shell, compositing of its samples, and the gradient of that."""
    case = benchmark_volume.make_case(*CASE)
    origins, directions, near, far = (values.to(device) for values in case.rays)
    bits = case.grid.bits.to(device)

    def march(backend: str) -> ops.RaySamples:
        box = benchmark_volume.BOX
        return ops.march_rays(origins, directions, near, far, box, bits, case.step_cm, 4096, backend=backend)

    found = march(device)
    sigma = benchmark_volume.head(found.positions.cpu()).to(device).requires_grad_()
    color = torch.rand(len(sigma), 3, device=device).requires_grad_()
    rest = found.t, found.lengths, found.offsets

    def parts(backend: str) -> dict[str, float]:
        def step() -> None:
            out = ops.composite_rays(sigma, color, *rest, backend=backend)
            torch.autograd.grad((out.color, out.alpha), (sigma, color), (out.color.detach(), out.alpha.detach()))

        with torch.no_grad():
            composite = measure(lambda: ops.composite_rays(sigma, color, *rest, backend=backend))
        return {"march": measure(lambda: march(backend)), "composite": composite, "composite_step": measure(step)}

    bounds = benchmark_volume.bound(len(sigma), ceilings)
    least = {name: bounds[name] for name in ("march", "composite")}
    least["composite_step"] = bounds["composite"] + bounds["composite_backward"]
    backends = [device, "nerfacc"] if is_there("nerfacc", vendor_nerfacc.describe) else [device]
    sizes = {"size_px": CASE[0], "samples": len(sigma)}
    return sizes | side_by_side({name: parts(name) for name in backends}, least)


def networks(measure: Measure, ceilings: Ceilings, device: str) -> dict[str, Any]:
    """A small network forward and backward, beside torch's own layers."""
    count = ops.mlp_parameter_count(WIDTHS)
    x = torch.rand(POINTS, WIDTHS[0], device=device).requires_grad_()
    flat = (0.1 * torch.randn(count, generator=torch.Generator().manual_seed(0))).to(device).requires_grad_()
    grad = torch.ones(POINTS, WIDTHS[-1], device=device)

    def parts(backend: str) -> dict[str, float]:
        def step() -> None:
            torch.autograd.grad(ops.fused_mlp(x, flat, WIDTHS, backend=backend), (x, flat), grad)

        with torch.no_grad():
            forward = measure(lambda: ops.fused_mlp(x, flat, WIDTHS, backend=backend))
        return {"forward": forward, "step": measure(step)}

    gflop = 2e-9 * POINTS * count
    moved = 4e-9 * POINTS * (WIDTHS[0] + WIDTHS[-1])
    least = {"forward": ceilings.bound_ms(gflop, moved), "step": ceilings.bound_ms(3 * gflop, 3 * moved)}
    sizes = {"rows": POINTS, "widths": list(WIDTHS)}
    return sizes | side_by_side({name: parts(name) for name in (device, "reference")}, least)


def volume(measure: Measure, ceilings: Ceilings, device: str = "cuda") -> dict[str, Any]:
    """All of it."""
    return {
        "hash_encode": hash_encoding(measure, ceilings, device),
        "rays": rays(measure, ceilings, device),
        "fused_mlp": networks(measure, ceilings, device),
    }
