"""tiny-cuda-nn as a backend: what is said where it is absent, and, against a stand-in that follows its published rules,
what it is given and what becomes of it."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import HashGrid, vendor_tcnn


class StandIn(torch.nn.Module):
    """One level: places at `x * scale + 1/2`, `base_resolution` vertices along an axis, rows modulo their number."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, dimensions: int, config: dict[str, Any], dtype: torch.dtype) -> None:
        super().__init__()
        assert (config["otype"], config["n_levels"], config["interpolation"], dtype) == (
            "Grid", 1, "Linear", torch.float32
        )  # fmt: skip
        StandIn.made.append(config)
        self.config, self.side = config, config["base_resolution"]
        self.rows = (self.side**dimensions + 7) // 8 * 8
        if config["type"] == "Hash":
            assert config["hash"] == "CoherentPrime"
            self.rows = min(self.rows, 1 << config["log2_hashmap_size"])
        self.params = torch.nn.Parameter(torch.zeros(self.rows * config["n_features_per_level"]))

    def forward(self, x: Tensor) -> Tensor:
        table = self.params.reshape(self.rows, -1)
        place = x * (self.side - 1) + 0.5
        cell = place.detach().floor()
        fraction, out = place - cell, 0
        for corner in range(1 << x.shape[1]):
            far = torch.tensor([corner >> axis & 1 for axis in range(x.shape[1])])
            vertex = cell.long() + far
            weight = torch.where(far > 0, fraction, 1 - fraction).prod(1)
            if self.config["type"] == "Hash" and self.rows < self.side ** x.shape[1]:
                row = vertex[:, 0]
                for prime, axis in ((2654435761, 1), (805459861, 2)):
                    if axis < x.shape[1]:
                        row = row ^ vertex[:, axis] * prime
                row = row & 0xFFFFFFFF
            else:
                row = (vertex * torch.tensor([self.side**axis for axis in range(x.shape[1])])).sum(1) & 0xFFFFFFFF
            out = out + weight[:, None] * table[row % self.rows]
        return out


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "tinycudann", SimpleNamespace(Encoding=StandIn))
    vendor_tcnn._encoding.cache_clear()
    StandIn.made.clear()
    yield StandIn.made
    vendor_tcnn._encoding.cache_clear()


@pytest.mark.parametrize(
    ("grid", "features"),
    [(HashGrid.between(3, 6, 4, 64, 9), 2), (HashGrid.between(2, 5, 5, 90, 8), 1), (HashGrid.of(3, [24], 14), 8)],
)
def test_the_same_table_gives_the_same_features_and_gradients(stand_in, encode_scene, relative_error, grid, features):
    # Half a cell there and back costs float32's last bits of a cell: at a resolution of 90, 1e-5.
    scene = encode_scene(700, grid, features)
    points, table = (t.float().requires_grad_() for t in (scene.points, scene.table))
    out = vendor_tcnn.hash_encode_tcnn(points, table, grid)
    out.backward(scene.grad.float())
    value, of_points, of_table = scene.reference(torch.float64)
    assert relative_error(out.detach(), value) < 3e-5
    assert relative_error(table.grad, of_table) < 3e-5
    inner = ((scene.points[:, :, None] * torch.tensor(grid.resolutions) + 0.5) % 1 - 0.5).abs().amin((1, 2)) > 1e-3
    assert inner.double().mean() > 0.8
    assert relative_error(points.grad[inner], of_points[inner]) < 3e-5


def test_what_it_is_asked_for(stand_in):
    grid = HashGrid.of(3, [4, 30], 10)
    for _ in range(2):
        vendor_tcnn.hash_encode_tcnn(torch.rand(9, 3), torch.zeros(grid.row_count, 2), grid)
    dense, hashed = stand_in  # once for each level, however often they are used
    assert (dense["type"], dense["base_resolution"], dense["n_features_per_level"]) == ("Dense", 5, 2)
    assert (hashed["type"], hashed["base_resolution"], hashed["log2_hashmap_size"]) == ("Hash", 31, 10)


def test_what_it_cannot_take_is_told(stand_in):
    with pytest.raises(ValueError, match="table came with 3 features; tiny-cuda-nn takes 1, 2, 4 or 8"):
        vendor_tcnn.hash_encode_tcnn(torch.zeros(2, 2), torch.zeros(25, 3), HashGrid.of(2, [4], 8))
    with pytest.raises(ValueError, match="level 0 came hashed into 64 rows for 25 vertices"):
        vendor_tcnn.hash_encode_tcnn(torch.zeros(2, 2), torch.zeros(64, 2), HashGrid(2, (4,), (0, 64)))


def test_without_it_asking_for_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ops.choose.cache_clear()
    with pytest.raises(
        BackendError, match=r"tiny-cuda-nn is not installed; wanted the package tinycudann.*pip install"
    ):
        ops.hash_encode(torch.zeros(2, 2), torch.zeros(25, 2), HashGrid.of(2, [4], 8), backend="tcnn")


def test_it_encodes_as_the_kernels_do_on_a_gpu(encode_scene, relative_error):
    if not torch.cuda.is_available() or importlib.util.find_spec("tinycudann") is None:
        pytest.skip("no CUDA device or no tiny-cuda-nn: not run")
    scene = encode_scene(5000, HashGrid.between(3, 10, 4, 128, 11), 2)
    points, table = (t.float().cuda().requires_grad_() for t in (scene.points, scene.table))
    out = ops.hash_encode(points, table, scene.grid, backend="tcnn")
    out.backward(scene.grad.float().cuda())
    value, _, of_table = scene.reference(torch.float64)
    assert relative_error(out.detach().cpu(), value) < 1e-4
    assert relative_error(table.grad.cpu(), of_table) < 1e-4
