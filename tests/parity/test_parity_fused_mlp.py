"""Small perceptrons: the reference by hand and against finite differences, the kernels against the reference."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import cuda_mlp, native

WIDTHS = [
    (1, 1),
    (5, 3),
    (3, 7, 1),
    (32, 64, 16),
    (31, 64, 64, 3),
    (96, 64, 40, 17),
    (7, 33, 9, 16, 1),
    (128, 128, 128, 128, 128),
]


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: not run")
        ops.choose("cuda")
    return str(request.param)


@pytest.fixture
def threads() -> Iterator[None]:
    before = native.threads()
    yield
    native.set_threads(before)


def made(widths: tuple[int, ...], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, parameters and a gradient; float64 that float32 holds exactly, no hidden number within 1e-5 of 0."""
    random = torch.Generator().manual_seed(count)
    x, grad = torch.randn(count, widths[0], generator=random), torch.randn(count, widths[-1], generator=random)
    parameters = torch.cat(
        [
            torch.cat([torch.randn(out * into, generator=random) * into**-0.5, torch.randn(out, generator=random)])
            for into, out in itertools.pairwise(widths)
        ]
    )
    hidden, near = x.double(), torch.zeros(count, dtype=torch.bool)
    for weights, biases in ops.mlp_layers(parameters.double(), widths)[:-1]:
        hidden = hidden @ weights.T + biases
        near |= (hidden.abs() < 1e-5).any(1)
        hidden = hidden.relu()
    return x[~near].double(), parameters.double(), grad[~near].double()


def run(scene: tuple[Tensor, ...], widths: tuple[int, ...], dtype: torch.dtype, backend: str, device: str = "cpu"):
    x, parameters = (t.to(device, dtype).clone().requires_grad_() for t in scene[:2])
    out = ops.fused_mlp(x, parameters, widths, backend=backend)
    out.backward(scene[2].to(device, dtype))
    return [t.detach().cpu() for t in (out, x.grad, parameters.grad)]


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 47, 48, 2001])
def test_the_kernels_agree_in_value_and_gradient(isa, relative_error, widths, count):
    # Measured worst: value 4.6e-7, x 3.8e-7, parameters 2.8e-6.
    scene = made(widths, count)
    want = run(scene, widths, torch.float64, "reference")
    for got, expected in zip(run(scene, widths, torch.float32, "cpu"), want, strict=True):
        assert got.shape == expected.shape
        assert relative_error(got, expected) < 6e-6


@pytest.mark.parametrize("widths", [(32, 64, 64, 4), (7, 33, 9, 16, 1)])
def test_they_agree_on_every_device(device, relative_error, widths):
    scene = made(widths, 20000)
    want = run(scene, widths, torch.float64, "reference")
    for got, expected in zip(run(scene, widths, torch.float32, device, device), want, strict=True):
        assert relative_error(got, expected) < 6e-6


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 64, 300])
def test_the_cuda_source_agrees_in_the_emulation(emulation, relative_error, widths, count):
    scene = made(widths, count)
    x, parameters, grad = (t.float() for t in scene)
    want_value, want_x, want_parameters = run(scene, widths, torch.float64, "reference")
    assert relative_error(cuda_mlp.fused_mlp(x, parameters, widths), want_value) < 6e-6
    got_x, got_parameters = cuda_mlp.fused_mlp_backward(grad, x, parameters, widths, True, True)
    assert relative_error(got_x, want_x) < 6e-6
    assert relative_error(got_parameters, want_parameters) < 6e-6
    alone, nothing = cuda_mlp.fused_mlp_backward(grad, x, parameters, widths, True, False)
    assert torch.equal(alone, got_x)
    assert nothing.numel() == 0
    nothing, alone = cuda_mlp.fused_mlp_backward(grad, x, parameters, widths, False, True)
    assert torch.equal(alone, got_parameters)
    assert nothing.numel() == 0


def test_a_block_of_the_cuda_source_takes_several_tiles(emulation, relative_error):
    scene = made((2, 3, 1), 256 * 64 + 700)
    x, parameters, grad = (t.float() for t in scene)
    want = run(scene, (2, 3, 1), torch.float64, "reference")[1:]
    for got, expected in zip(
        cuda_mlp.fused_mlp_backward(grad, x, parameters, (2, 3, 1), True, True), want, strict=True
    ):
        assert relative_error(got, expected) < 6e-6


@pytest.mark.parametrize("widths", WIDTHS)
def test_gradients_do_not_depend_on_the_number_of_threads(isa, threads, widths):
    scene = made(widths, 4000)
    native.set_threads(1)
    want = run(scene, widths, torch.float32, "cpu")
    for count in (2, 3, 7, 40):
        native.set_threads(count)
        for got, alone in zip(run(scene, widths, torch.float32, "cpu"), want, strict=True):
            assert torch.equal(got, alone)


def test_a_row_does_not_depend_on_the_others(isa):
    x, parameters, _ = (t.float() for t in made((31, 64, 5), 200))
    whole = ops.fused_mlp(x, parameters, (31, 64, 5), backend="cpu")
    for first, last in ((0, 1), (3, 50), (57, 200)):
        alone = ops.fused_mlp(x[first:last].clone(), parameters, (31, 64, 5), backend="cpu")
        assert torch.equal(alone, whole[first:last])


def test_the_reference_is_torch_layers_in_order():
    first, second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)
    flat = torch.cat([t.detach().flatten() for layer in (first, second) for t in (layer.weight, layer.bias)])
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    want = second(torch.relu(first(x)))
    torch.testing.assert_close(ops.fused_mlp(x, flat, (4, 6, 2), backend="reference"), want)
    assert ops.mlp_parameter_count((4, 6, 2)) == len(flat)
    (weights, _), (_, biases) = ops.mlp_layers(flat, (4, 6, 2))
    assert torch.equal(weights, first.weight)
    biases.zero_()
    assert flat[-2:].eq(0).all()


def test_the_reference_passes_finite_differences():
    x, parameters, _ = made((3, 8, 5, 2), 12)
    leaves = x.requires_grad_(), parameters.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: ops.fused_mlp(a, b, (3, 8, 5, 2)), leaves, eps=1e-7)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_one_layer_is_linear_and_a_hidden_one_is_cut_at_nothing(backend):
    x = torch.tensor([[2.0, -1.0], [-3.0, 0.5]])
    assert ops.fused_mlp(x, torch.tensor([1.0, 2, 10]), (2, 1), backend=backend).tolist() == [[10], [8]]
    # Hidden: x, -x and 0; their sum is |x|, and its slope at 0 is 0.
    leaf = torch.tensor([[3.0], [-2.0], [0.0]], requires_grad=True)
    out = ops.fused_mlp(leaf, torch.tensor([1.0, -1, 0, 0, 0, 0, 1, 1, 1, 0]), (1, 3, 1), backend=backend)
    out.sum().backward()
    assert out.flatten().tolist() == [3, 2, 0]
    assert leaf.grad is not None
    assert leaf.grad.flatten().tolist() == [1, -1, 0]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_row_that_is_nan_is_nan_alone(backend):
    x, parameters, _ = (t.float() for t in made((5, 16, 16, 3), 60))
    x[7, 2] = torch.nan
    out = ops.fused_mlp(x, parameters, (5, 16, 16, 3), backend=backend)
    assert out.isnan().any(1).nonzero().flatten().tolist() == [7]


def test_only_what_is_wanted_is_differentiated():
    scene = made((6, 16, 2), 900)
    want = run(scene, (6, 16, 2), torch.float32, "cpu")
    x, parameters, grad = (t.float() for t in scene)
    leaf = x.clone().requires_grad_()
    ops.fused_mlp(leaf, parameters, (6, 16, 2), backend="cpu").backward(grad)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, want[1])
    flat = parameters.clone().requires_grad_()
    ops.fused_mlp(x, flat, (6, 16, 2), backend="cpu").backward(grad)
    assert flat.grad is not None
    assert torch.equal(flat.grad, want[2])


def test_the_operations_pass_torch_opcheck():
    x, parameters, grad = (t.float() for t in made((6, 16, 3), 30))
    leaves = x.clone().requires_grad_(), parameters.clone().requires_grad_()
    torch.library.opcheck(torch.ops.avatarfit.fused_mlp.default, (*leaves, [6, 16, 3]))
    for wanted in ((True, True), (True, False), (False, True)):
        given = (grad, x, parameters, [6, 16, 3], *wanted)
        torch.library.opcheck(torch.ops.avatarfit.fused_mlp_backward.default, given)


def test_both_sides_state_the_same_numbers():
    for name in ("MLP_LAYERS_MAX", "MLP_WIDTH_MAX"):
        assert native.load().af_constant(name.encode()) == getattr(sys.modules[ops.fused_mlp.__module__], name), name


@pytest.mark.parametrize(
    ("x", "count", "widths", "message"),
    [
        (torch.zeros(5, 3), 15, (4, 3), r"x came with shape \[5, 3\]; wanted \[any, 4\]"),
        (torch.zeros(5, 4), 14, (4, 3), r"parameters came with shape \[14\]; wanted \[15\]"),
        (torch.zeros(5, 4), 15, (4,), r"widths came as \(4,\); wanted two or more"),
        (torch.zeros(5, 4), 15, (4, 0), r"widths came as \(4, 0\); wanted two or more, each 1 or more"),
        (torch.zeros(5, 4), 645, (4, 129), r"\(4, 129\); wanted at most 4 layers of at most 128, or backend 'ref"),
        (torch.zeros(5, 1), 10, (1,) * 6, "wanted at most 4 layers"),
        (torch.zeros(4, 5).t(), 15, (4, 3), "x came with strides"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(x, count, widths, message):
    with pytest.raises(ValueError, match=message):
        ops.fused_mlp(x, torch.zeros(count), widths)


def test_double_and_greater_widths_are_for_the_reference():
    x, parameters = torch.zeros(5, 4).double(), torch.zeros(ops.mlp_parameter_count((4, 200))).double()
    assert ops.fused_mlp(x, parameters, (4, 200)).shape == (5, 200)
    with pytest.raises(BackendError, match=r"float64.*wanted torch.float32"):
        ops.fused_mlp(x, parameters, (4, 200), backend="cpu")
