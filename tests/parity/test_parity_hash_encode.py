"""Hash encoding: the reference against laws, finite differences and sums by hand; the kernels against the reference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import HashGrid, cuda_kernels, hash_grid, native

GRIDS = [
    (HashGrid.of(2, [1], 4), 1),
    (HashGrid.between(2, 12, 16, 512, 12), 1),
    (HashGrid.between(2, 5, 3, 40, 7), 2),
    (HashGrid.growing(2, 3, 4, 1.5, 4), 5),
    (HashGrid.between(3, 8, 4, 128, 11), 2),
    (HashGrid.of(3, [2, 3, 5, 7], 6), 1),
    (HashGrid.of(3, [9, 2], 3), 4),
    (HashGrid.of(3, [4] * 32, 5), 3),
    (HashGrid.of(3, [12], 12), 14),
    (HashGrid.of(2, [12, 20], 8), 16),
]
BACKENDS = ["reference", "cpu"]


@pytest.fixture
def threads() -> Iterator[None]:
    before = native.threads()
    yield
    native.set_threads(before)


def run(scene, backend: str) -> list[Tensor]:
    points, table = (t.float().requires_grad_() for t in (scene.points, scene.table))
    out = ops.hash_encode(points, table, scene.grid, backend=backend)
    out.backward(scene.grad.float())
    return [t.detach() for t in (out, points.grad, table.grad)]


@pytest.mark.parametrize(("grid", "features"), GRIDS)
@pytest.mark.parametrize("count", [0, 1, 37, 1201])
def test_the_kernels_agree_in_value_and_gradient(isa, encode_scene, relative_error, grid, features, count):
    # Against float32, which finds the same cells. Measured worst: value 1.2e-7, points 2.4e-7, table 1.2e-6.
    scene = encode_scene(count, grid, features)
    for got, want in zip(run(scene, "cpu"), scene.reference(torch.float32), strict=True):
        assert got.shape == want.shape
        assert relative_error(got, want) < 5e-6


@pytest.mark.parametrize(("grid", "features"), GRIDS)
def test_the_kernels_agree_with_double_precision(isa, encode_scene, relative_error, grid, features):
    # A coordinate's last bit is 6e-8 of the unit, which is more of a cell the more cells there are. Near a face float32
    # may find the other cell, whose slope is another: such points' gradients are left out.
    scene = encode_scene(500, grid, features)
    value, points, table = run(scene, "cpu")
    want_value, want_points, want_table = scene.reference(torch.float64)
    tolerance = 1e-6 + 4 * 2**-24 * max(grid.resolutions)
    assert relative_error(value, want_value) < tolerance
    assert relative_error(table, want_table) < tolerance
    inner = ((scene.points[:, :, None] * torch.tensor(grid.resolutions) + 0.5) % 1 - 0.5).abs().amin((1, 2)) > 1e-4
    assert inner.double().mean() > 0.9
    assert relative_error(points[inner], want_points[inner]) < tolerance


@pytest.mark.parametrize(("grid", "features"), GRIDS)
def test_gradients_do_not_depend_on_the_number_of_threads(isa, threads, encode_scene, grid, features):
    scene = encode_scene(3000, grid, features)
    native.set_threads(1)
    want = run(scene, "cpu")
    for count in (2, 3, 7, 40):
        native.set_threads(count)
        for got, alone in zip(run(scene, "cpu"), want, strict=True):
            assert torch.equal(got, alone)


def linear_table(grid: HashGrid, slope: Tensor, shift: Tensor) -> Tensor:
    """The table that holds `slope @ x + shift` at every vertex of dense levels; [rows, F]."""
    rows = []
    for level, resolution in enumerate(grid.resolutions):
        assert grid.is_dense(level)
        steps = torch.arange(resolution + 1)
        # The first axis runs fastest.
        vertex = torch.stack(torch.meshgrid(*[steps] * grid.dimensions, indexing="ij")[::-1], -1)
        rows.append(vertex.reshape(-1, grid.dimensions) / resolution @ slope.T + shift)
    return torch.cat(rows)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_linear_function_is_reproduced_on_dense_levels(backend, dimensions):
    grid = HashGrid.of(dimensions, [1, 2, 5, 8, 13], 14)
    random = torch.Generator().manual_seed(dimensions)
    slope, shift = torch.randn(2, dimensions, generator=random), torch.randn(2, generator=random)
    points = torch.rand(400, dimensions, generator=random).requires_grad_()
    got = ops.hash_encode(points, linear_table(grid, slope, shift), grid, backend=backend).reshape(400, 5, 2)
    want = points.detach() @ slope.T + shift
    assert (got - want[:, None]).abs().max() < 2e-6
    # Its slope is the function's, everywhere.
    got[..., 1].sum().backward()
    assert points.grad is not None
    assert (points.grad - 5 * slope[1]).abs().max() < 2e-4


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("resolutions", "rows_log2"), [([4], 10), ([8], 3), ([2, 4], 1)])
def test_a_vertex_gives_its_own_row(backend, resolutions, rows_log2):
    # Powers of two, so that a vertex's coordinate is exact; the corners of the unit cube are among them.
    grid = HashGrid.of(3, resolutions, rows_log2)
    table = torch.randn(grid.row_count, 3, generator=torch.Generator().manual_seed(1))
    for level, resolution in enumerate(resolutions):
        steps = torch.arange(resolution + 1)
        vertex = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
        got = ops.hash_encode(vertex / resolution, table, grid, backend=backend)[:, 3 * level : 3 * level + 3]
        assert torch.equal(got, table[grid.row_of(level, vertex)])


def test_the_reference_passes_finite_differences():
    # Away from the faces between cells, where there is no derivative.
    for grid, features in ((HashGrid.of(2, [2, 5], 4), 2), (HashGrid.of(3, [1, 3], 4), 1)):
        random = torch.Generator().manual_seed(3)
        points = torch.rand(40, grid.dimensions, generator=random, dtype=torch.float64)
        apart = (points[:, :, None] * torch.tensor(grid.resolutions) + 0.5) % 1 - 0.5
        points = points[apart.abs().amin((1, 2)) > 1e-3][:4].clone().requires_grad_()
        assert len(points) == 4
        table = torch.randn(grid.row_count, features, generator=random, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(lambda p, t, g=grid: ops.hash_encode(p, t, g), [points, table])


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_kernels_gradient_is_the_slope_of_their_value(backend):
    # Inside a cell the encoding is linear along an axis, so a long step is exact; float32 all through.
    grid = HashGrid.of(3, [4, 8], 6)
    random = torch.Generator().manual_seed(5)
    table = torch.randn(grid.row_count, 2, generator=random)
    center = (torch.randint(0, 8, (50, 3), generator=random) + 0.5) / 8
    points = center.clone().requires_grad_()
    ops.hash_encode(points, table, grid, backend=backend).sum().backward()
    assert points.grad is not None
    for axis in range(3):
        step = torch.eye(3)[axis] / 32
        ends = center + step, center - step
        ahead, behind = (ops.hash_encode(p, table, grid, backend=backend).sum(1) for p in ends)
        assert (points.grad[:, axis] - 16 * (ahead - behind)).abs().max() < 5e-4


@pytest.mark.parametrize("backend", BACKENDS)
def test_outside_the_unit_cube_points_are_clamped_and_take_no_gradient(backend):
    grid = HashGrid.between(2, 4, 2, 16, 6)
    table = torch.randn(grid.row_count, 2, generator=torch.Generator().manual_seed(2))
    points = torch.tensor([[-0.5, 0.3], [1.7, 0.3], [0.3, -1e30], [0.3, torch.inf], [0.0, 0.3], [1.0, 0.3]])
    clamped = torch.tensor([[0.0, 0.3], [1.0, 0.3], [0.3, 0.0], [0.3, 1.0], [0.0, 0.3], [1.0, 0.3]])
    leaf = points.clone().requires_grad_()
    out = ops.hash_encode(leaf, table, grid, backend=backend)
    assert torch.equal(out.detach(), ops.hash_encode(clamped, table, grid, backend=backend))
    out.sum().backward()
    assert leaf.grad is not None
    outside = [[True, False], [True, False], [False, True], [False, True], [False, False], [False, False]]
    assert (leaf.grad == 0).tolist() == outside


@pytest.mark.parametrize("backend", BACKENDS)
def test_on_a_face_the_value_is_continuous_and_the_slope_the_upper_cells(backend):
    grid = HashGrid.of(2, [4], 8)
    table = torch.randn(grid.row_count, 1, generator=torch.Generator().manual_seed(2))
    tiny = 2.0**-20

    def at(x: float) -> tuple[float, float]:
        point = torch.tensor([[x, 0.4]], requires_grad=True)
        value = ops.hash_encode(point, table, grid, backend=backend)
        value.sum().backward()
        assert point.grad is not None
        return float(value.detach()), float(point.grad[0, 0])

    for face in (0.25, 0.5, 0.75):
        (below, slope_below), (on, slope_on), (above, slope_above) = at(face - tiny), at(face), at(face + tiny)
        assert abs(on - below) < 1e-4
        assert abs(on - above) < 1e-4
        assert slope_on == pytest.approx(slope_above, abs=1e-5)
        assert abs(slope_on - slope_below) > 0.1
    assert at(1.0)[1] == pytest.approx(at(1.0 - tiny)[1], abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_point_that_is_nan_is_nan_alone(backend):
    grid = HashGrid.between(3, 3, 2, 16, 6)
    table = torch.randn(grid.row_count, 2, generator=torch.Generator().manual_seed(2))
    points = torch.rand(21, 3, generator=torch.Generator().manual_seed(1))
    points[4, 1] = torch.nan
    out = ops.hash_encode(points, table, grid, backend=backend)
    assert out.isnan().all(1).tolist() == [i == 4 for i in range(21)]
    assert out.isnan().any(1).sum() == 1


def slot_by_hand(vertex: tuple[int, ...], rows: int) -> int:
    """The paper's equation 4 in 32-bit integers."""
    slot = 0
    for coordinate, prime in zip(vertex, (1, 2654435761, 805459861), strict=False):
        slot ^= coordinate * prime % 2**32
    return slot % rows


@settings(max_examples=150, deadline=None)
@given(
    dimensions=st.sampled_from([2, 3]),
    resolution=st.integers(1, 65536),
    rows_log2=st.integers(0, 9),
    seed=st.integers(0, 2**32 - 1),
    backend=st.sampled_from(BACKENDS),
)
def test_points_of_one_cell_read_the_rows_the_hash_names(dimensions, resolution, rows_log2, seed, backend):
    # Two points of one cell: their table gradients touch the same rows, and those are the hash of the cell's corners.
    grid = HashGrid.of(dimensions, [resolution], rows_log2)
    random = torch.Generator().manual_seed(seed)
    cell = torch.randint(0, resolution, (dimensions,), generator=random)
    points = (cell + torch.tensor([[0.3], [0.6]])) / resolution
    corners = [[int(c) + (corner >> axis & 1) for axis, c in enumerate(cell)] for corner in range(1 << dimensions)]
    if grid.is_dense(0):
        want = {sum(c * (resolution + 1) ** axis for axis, c in enumerate(corner)) for corner in corners}
    else:
        want = {slot_by_hand(tuple(corner), grid.row_count) for corner in corners}
    for point in points:
        table = torch.zeros(grid.row_count, 1, requires_grad=True)
        ops.hash_encode(point[None], table, grid, backend=backend).sum().backward()
        assert table.grad is not None
        assert set(table.grad.flatten().nonzero().flatten().tolist()) == want
        assert float(table.grad.sum()) == pytest.approx(1, abs=1e-5)


def test_the_triplane_is_its_three_planes():
    grid = HashGrid.between(2, 4, 4, 32, 8)
    random = torch.Generator().manual_seed(0)
    points, tables = torch.rand(90, 3, generator=random), torch.randn(3, grid.row_count, 2, generator=random)
    results = []
    for dtype, backend in ((torch.float32, "reference"), (torch.float32, "cpu")):
        leaves = [t.to(dtype).clone().requires_grad_() for t in (points, tables)]
        out = ops.triplane_encode(*leaves, grid, backend=backend)
        (out * torch.linspace(-1, 1, out.shape[1])).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    # A plane does not see the axis that it lies across.
    moved = ops.triplane_encode(points * torch.tensor([1.0, 1.0, 0.5]), tables, grid).split(8, 1)
    still = results[1][0].split(8, 1)
    assert [torch.equal(a, b) for a, b in zip(moved, still, strict=True)] == [True, False, False]


def test_the_grids_of_the_paper():
    grid = HashGrid.between(3, 16, 16, 2048, 19)
    assert (grid.resolutions[0], grid.resolutions[-1], grid.levels) == (16, 2048, 16)
    assert [grid.is_dense(level) for level in range(16)] == [(r + 1) ** 3 <= 2**19 for r in grid.resolutions]
    assert {grid.rows(level) for level in range(16) if not grid.is_dense(level)} == {2**19}
    assert HashGrid.growing(2, 4, 3, 2.0, 20).resolutions == (3, 6, 12, 24)
    assert HashGrid.between(2, 7, 10, 10**4, 20).resolutions == (10, 31, 100, 316, 1000, 3162, 10000)
    assert HashGrid.between(2, 1, 10, 90, 20).resolutions == (10,)


def test_both_sides_state_the_same_numbers():
    names = [n for n in dir(hash_grid) if n.startswith(("GRID_", "HASH_"))]
    assert len(names) == 6
    for name in names:
        assert native.load().af_constant(name.encode()) == getattr(hash_grid, name), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HashGrid.of(4, [3], 3), "dimensions came as 4; wanted 2 or 3"),
        (lambda: HashGrid.of(2, [], 3), "came for 0 levels; wanted 1 to 32"),
        (lambda: HashGrid.of(2, [3] * 33, 3), "came for 33 levels"),
        (lambda: HashGrid.of(2, [4, 0], 3), "level 1 came with resolution 0; wanted 1 to 65536"),
        (lambda: HashGrid.of(2, [4], 31), "rows_log2 came as 31; wanted 0 to 30"),
        (lambda: HashGrid.growing(2, 3, 4, 0.9, 3), "growth came as 0.9; wanted 1 or more"),
        (lambda: HashGrid.between(2, 3, 0, 4, 3), "coarsest came as 0"),
        (lambda: HashGrid(2, (4,), (0, 7)), "level 0 came with 7 rows; wanted 25, one for each vertex, or a power of"),
        (lambda: HashGrid(2, (4,), (1, 26)), "the first of them 0"),
        (lambda: HashGrid(3, (1024,), (0, 1025**3)), "rows; wanted at most 2\\^30"),
        (lambda: encode(points=torch.zeros(5, 3)), r"points came with shape \[5, 3\]; wanted \[any, 2\]"),
        (lambda: encode(table=torch.zeros(24, 2)), r"table came with shape \[24, 2\]; wanted \[25, any\]"),
        (lambda: encode(table=torch.zeros(25, 2).double()), "table came as torch.float64"),
        (lambda: encode(table=torch.zeros(25, 17)), "17 features; wanted 1 to 16, or backend 'reference'"),
        (lambda: encode(table=torch.zeros(25, 0)), "0 features; wanted 1 to 16"),
        (lambda: encode(points=torch.zeros(2, 5).t()), "points came with strides"),
        (
            lambda: ops.triplane_encode(torch.zeros(5, 3), torch.zeros(3, 8, 1), HashGrid.of(3, [1], 3)),
            "grid came with 3 dimensions; wanted 2",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def encode(points: Tensor | None = None, table: Tensor | None = None) -> Tensor:
    points = torch.zeros(5, 2) if points is None else points
    table = torch.zeros(25, 2) if table is None else table
    return ops.hash_encode(points, table, HashGrid.of(2, [4], 8))


def test_double_is_for_the_reference_alone():
    grid = HashGrid.of(2, [4], 8)
    points, table = torch.zeros(5, 2).double(), torch.zeros(25, 20).double()
    assert ops.hash_encode(points, table, grid).dtype == torch.float64
    with pytest.raises(BackendError, match=r"float64.*wanted torch.float32"):
        ops.hash_encode(points, table, grid, backend="cpu")


def test_the_operations_pass_torch_opcheck(encode_scene):
    scene = encode_scene(30, HashGrid.between(3, 3, 2, 8, 5), 2)
    points, table = (t.float().requires_grad_() for t in (scene.points, scene.table))
    levels = list(scene.grid.resolutions), list(scene.grid.offsets)
    spaces = torch.ops.avatarfit
    torch.library.opcheck(spaces.hash_encode.default, (points, table, *levels))
    plain = scene.grad.float(), points.detach(), table.detach(), *levels
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(spaces.hash_encode_backward.default, (*plain, *wanted))


@pytest.mark.parametrize(("grid", "features"), GRIDS)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_cuda_source_agrees_in_the_emulation(emulation, encode_scene, relative_error, grid, features, count):
    scene = encode_scene(count, grid, features)
    points, table, grad = (t.float() for t in (scene.points, scene.table, scene.grad))
    levels = grid.resolutions, grid.offsets
    want_value, want_points, want_table = scene.reference(torch.float32)
    assert relative_error(cuda_kernels.hash_encode(points, table, *levels), want_value) < 5e-6
    got_table, got_points = cuda_kernels.hash_encode_backward(grad, points, table, *levels, True, True)
    assert relative_error(got_points, want_points) < 5e-6
    assert relative_error(got_table, want_table) < 5e-6
    alone, nothing = cuda_kernels.hash_encode_backward(grad, points, table, *levels, False, True)[::-1]
    assert torch.equal(alone, got_points)
    assert nothing.numel() == 0


def test_the_cuda_source_refuses_what_the_cpus_does(emulation):
    points, table = torch.zeros(3, 2), torch.zeros(7, 2)
    with pytest.raises(ValueError, match="a size is out of range"):
        cuda_kernels.hash_encode(points, table, (4,), (0, 7))
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="hash_encode's table on CUDA is summed by atomics"):
            cuda_kernels.hash_encode_backward(torch.zeros(3, 2), points, torch.zeros(8, 2), (4,), (0, 8), True, False)
    finally:
        torch.use_deterministic_algorithms(False)
