"""Hash encoding and its gradients, native against reference in the same run; prints JSON.

    python tools/benchmark_hash_encode.py --output encode.json
    python tools/benchmark_hash_encode.py --cases 2:14:2:14:512 3:16:2:19:2048 --points 65536 --threads 1 2

Points lie along rays through the unit cube, as a ray march asks for them, near one another one after another;
`scattered` is the same at random places. Times are medians of wall-clock milliseconds; the reference runs far fewer
times, being slow.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from made_up_scene import Ceilings, median_seconds, set_threads, start_report, tell_gain_of_threads, write_report

from avatarfit import ops
from avatarfit.ops import native

SAMPLES_A_RAY = 32


def ray_points(count: int, dimensions: int) -> torch.Tensor:
    """[count, D] in [0, 1]: samples along rays side by side through a picture's rows; of planes, the projection."""
    rays = (count + SAMPLES_A_RAY - 1) // SAMPLES_A_RAY
    side = int(rays**0.5) + 1
    ray = torch.arange(rays)
    ends = torch.stack([ray % side, torch.div(ray, side, rounding_mode="floor")], 1) / side
    along = (torch.arange(SAMPLES_A_RAY) + 0.5) / SAMPLES_A_RAY
    spread = (ends[:, None] - 0.5) * (0.8 + 0.2 * along[:, None]) + 0.5
    depth = along[None, :, None].expand(rays, -1, 1)
    points = torch.cat([spread, depth], 2) if dimensions == 3 else torch.cat([spread[..., :1], depth], 2)
    return points.reshape(-1, dimensions)[:count].contiguous()


def measure(
    points: torch.Tensor, table: torch.Tensor, grid: ops.HashGrid, backend: str, repeats: int
) -> dict[str, float]:
    """Median milliseconds of the forward pass, of each gradient alone and of a whole step."""
    grad = torch.ones(len(points), grid.levels * table.shape[1])
    points_leaf, table_leaf = points.clone().requires_grad_(), table.clone().requires_grad_()
    for_table = ops.hash_encode(points, table_leaf, grid, backend=backend)
    for_points = ops.hash_encode(points_leaf, table, grid, backend=backend)

    def step() -> None:
        encoded = ops.hash_encode(points_leaf, table_leaf, grid, backend=backend)
        torch.autograd.grad(encoded, (points_leaf, table_leaf), grad)

    def gradient(encoded: torch.Tensor, leaf: torch.Tensor) -> None:
        torch.autograd.grad(encoded, leaf, grad, retain_graph=True)

    seconds = {
        "forward": median_seconds(lambda: ops.hash_encode(points, table, grid, backend=backend), repeats),
        "table_gradient": median_seconds(lambda: gradient(for_table, table_leaf), repeats),
        "points_gradient": median_seconds(lambda: gradient(for_points, points_leaf), repeats),
        "step": median_seconds(step, repeats),
    }
    return {name: round(1e3 * value, 3) for name, value in seconds.items()}


def bound(count: int, features: int, grid: ops.HashGrid, ceilings: Ceilings) -> dict[str, float]:
    """Least milliseconds by the ceilings: the work counted, every array from memory once, rows from cache after."""
    corners = 1 << grid.dimensions
    pairs = count * grid.levels
    # Of a corner: its weight from the axes' shares, and a multiply-add for each feature.
    flops = pairs * corners * (grid.dimensions - 1 + 2 * features)
    encoded_gb, table_gb = 4e-9 * pairs * features, 4e-9 * grid.row_count * features
    points_gb = 4e-9 * count * grid.dimensions
    return {
        "forward": ceilings.bound_ms(1e-9 * flops, points_gb + encoded_gb + table_gb),
        "table_gradient": ceilings.bound_ms(1e-9 * flops, points_gb + encoded_gb, table_gb),
        # The features' products, then for each axis the others' weights and a multiply-add, over half the corners.
        "points_gradient": ceilings.bound_ms(
            1e-9 * pairs * corners * (2 * features + grid.dimensions * grid.dimensions / 2),
            2 * points_gb + encoded_gb + table_gb,
        ),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=65536)
    parser.add_argument("--coarsest", type=int, default=16)
    parser.add_argument(
        "--cases",
        nargs="*",
        default=["2:14:2:14:512", "3:16:2:16:1024"],
        help="DIMENSIONS:LEVELS:FEATURES:ROWS_LOG2:FINEST, any number",
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--reference-repeats", type=int, default=2, help="0 leaves the reference out")
    parser.add_argument("--threads", type=int, nargs="*", help="default: as many as the library takes by itself")
    parser.add_argument("--isas", nargs="*", help="instruction sets to measure; default: the one in use")
    parser.add_argument("--keep-freed-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args()
    threads = options.threads or [native.threads()]
    report, ceilings = start_report("hash_encode", options.repeats, options.keep_freed_memory, threads)
    fastest = native.isa()
    for case in options.cases:
        dimensions, levels, features, rows_log2, finest = map(int, case.split(":"))
        grid = ops.HashGrid.between(dimensions, levels, options.coarsest, finest, rows_log2)
        random = torch.Generator().manual_seed(0)
        table = 1e-2 * torch.randn(grid.row_count, features, generator=random)
        for scattered in (False, True):
            points = ray_points(options.points, dimensions)
            if scattered:
                points = torch.rand(options.points, dimensions, generator=random)
            entry: dict[str, Any] = {
                "scene": {
                    "dimensions": dimensions,
                    "levels": levels,
                    "features": features,
                    "resolutions": list(grid.resolutions),
                    "dense_levels": sum(grid.is_dense(level) for level in range(levels)),
                    "table_mb": round(4e-6 * grid.row_count * features, 2),
                    "points": options.points,
                    "scattered": scattered,
                },
                "native": [],
            }
            report["scenes"].append(entry)
            for isa in options.isas or [fastest]:
                native.set_isa(isa)
                for count in threads:
                    set_threads(count)
                    times = measure(points, table, grid, "cpu", options.repeats)
                    bounds = bound(options.points, features, grid, ceilings[count])
                    entry["native"].append(
                        {
                            "isa": isa,
                            "threads": count,
                            "ms": times,
                            "bound_ms": {name: round(value, 3) for name, value in bounds.items()},
                            "share_of_bound": {name: round(bounds[name] / times[name], 3) for name in bounds},
                        }
                    )
                tell_gain_of_threads(entry["native"][-len(threads) :], lambda result: result["ms"]["step"])
            native.set_isa(fastest)
            if options.reference_repeats:
                set_threads(max(threads), max(threads))
                entry["reference_ms"] = reference = measure(points, table, grid, "reference", options.reference_repeats)
                last = entry["native"][-1]["ms"]
                entry["reference_over_native"] = {name: round(reference[name] / last[name], 1) for name in last}
    write_report(report, options.output)


if __name__ == "__main__":
    main()
