"""`hash_encode` by tiny-cuda-nn (Müller 2021), where it is installed: another backend, and a yardstick for speed.

The only importer of tinycudann. Its grids put vertices half a cell off and count them otherwise; a level of ours is the
whole of one of its encodings, at points moved by that half cell, so the same table gives the same features, to
float32's rounding. Where it differs: at a coordinate of exactly 1 the slope is no cell's of ours. It takes 1, 2, 4 or 8
features. Its networks are half-precision and have no biases: another function than `fused_mlp`, which keeps its own
kernels. Not yet run on a GPU.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from typing import Any

import torch
from torch import Tensor

from avatarfit.contracts import BackendError
from avatarfit.ops import native_cuda
from avatarfit.ops.hash_grid import HashGrid

FEATURES = (1, 2, 4, 8)
_PARAMETERS_MULTIPLE = 8
"""Rows of a dense level are filled up to a multiple of this."""


def describe() -> str:
    """What would be used, in words.

    Raises:
        BackendError: tiny-cuda-nn is not installed or there is no GPU.
    """
    if importlib.util.find_spec("tinycudann") is None:
        raise BackendError(
            "tiny-cuda-nn is not installed",
            "the package tinycudann",
            "run pip install git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch on a machine "
            "with a GPU, or ask for backend 'cuda'",
        )
    device = native_cuda.device_name()
    return f"tiny-cuda-nn {importlib.metadata.version('tinycudann')} for hash encoding, on {device}"


def hash_encode_tcnn(points: Tensor, table: Tensor, grid: HashGrid) -> Tensor:
    """What `hash_encode` gives, by tiny-cuda-nn.

    Args: as `hash_encode`, checked there; float32 on one CUDA device.

    Returns:
        [N, L * F]; differentiable once in points and table.

    Raises:
        ValueError: tiny-cuda-nn takes no such number of features or no such level.
    """
    features = table.shape[1]
    if features not in FEATURES:
        raise ValueError(
            f"table came with {features} features; tiny-cuda-nn takes 1, 2, 4 or 8: ask for backend 'cuda'"
        )
    clamped = points.clamp(0, 1)
    levels = []
    for level, resolution in enumerate(grid.resolutions):
        rows = table[grid.offsets[level] : grid.offsets[level + 1]]
        if grid.is_dense(level):
            rows_log2 = None
            rows = torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % _PARAMETERS_MULTIPLE))
        elif len(rows) > grid.vertices(level):
            raise ValueError(
                f"level {level} came hashed into {len(rows)} rows for {grid.vertices(level)} vertices; tiny-cuda-nn "
                "hashes into fewer only: ask for backend 'cuda'"
            )
        else:
            rows_log2 = len(rows).bit_length() - 1
        encoding = _encoding(grid.dimensions, resolution, rows_log2, features, points.device)
        # It looks at x * resolution + 1/2.
        moved = clamped - 0.5 / resolution
        levels.append(torch.func.functional_call(encoding, {"params": rows.flatten()}, (moved,)))
    return torch.cat(levels, 1)


@functools.lru_cache(maxsize=128)
def _encoding(
    dimensions: int, resolution: int, rows_log2: int | None, features: int, device: torch.device
) -> torch.nn.Module:
    """One level as an encoding of tiny-cuda-nn; `rows_log2` None is a dense one."""
    import tinycudann

    config: dict[str, Any] = {
        "otype": "Grid",
        "type": "Dense" if rows_log2 is None else "Hash",
        "n_levels": 1,
        "n_features_per_level": features,
        "base_resolution": resolution + 1,
        "per_level_scale": 2.0,
        "interpolation": "Linear",
    }
    if rows_log2 is not None:
        config |= {"log2_hashmap_size": rows_log2, "hash": "CoherentPrime"}
    with torch.cuda.device(device) if device.type == "cuda" else torch.device(device):
        encoding: torch.nn.Module = tinycudann.Encoding(dimensions, config, dtype=torch.float32)
    return encoding.requires_grad_(False)
