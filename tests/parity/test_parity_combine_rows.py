"""Rows of a grid from their bases: the kernels against the reference, and the reference against finite differences."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.ops import native

SIZES = [(0, 3, 4), (5, 0, 3), (1, 1, 1), (300, 32, 12), (70, 5, 16), (65, 7, 30), (40, 3, 64), (33, 9, 2)]


def made(rows: int, count: int, features: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(rows)
    shapes = (rows, features), (rows, count, features), (rows, count), (rows, features)
    return [torch.randn(*shape, generator=random).double() for shape in shapes]


def run(scene: list[Tensor], dtype: torch.dtype, backend: str, device: str = "cpu") -> list[Tensor]:
    leaves = [t.to(device, dtype).clone().requires_grad_() for t in scene[:3]]
    out = ops.combine_rows(*leaves, backend=backend)
    out.backward(scene[3].to(device, dtype))
    return [t.detach().cpu() for t in (out, *(leaf.grad for leaf in leaves))]


@pytest.mark.parametrize("size", SIZES)
def test_the_kernels_agree_in_value_and_gradient(isa, relative_error, size):
    # Measured worst: 2.3e-7.
    scene = made(*size)
    want = run(scene, torch.float64, "reference")
    for got, expected in zip(run(scene, torch.float32, "cpu"), want, strict=True):
        assert got.shape == expected.shape
        assert relative_error(got, expected) < 1e-6


def test_they_agree_on_the_gpu(relative_error):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: not run")
    scene = made(5000, 32, 12)
    want = run(scene, torch.float64, "reference")
    for got, expected in zip(run(scene, torch.float32, "cuda", "cuda"), want, strict=True):
        assert relative_error(got, expected) < 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_the_cuda_source_agrees_in_the_emulation(emulation, relative_error, size):
    scene = made(*size)
    base, bases, weights, grad = (t.float() for t in scene)
    kernels = sys.modules[ops.combine_rows.__module__]
    want = run(scene, torch.float64, "reference")
    assert relative_error(kernels._combine_rows_cuda(base, bases, weights), want[0]) < 1e-6
    for wanted in ((True, True), (True, False), (False, True)):
        got = kernels._combine_rows_backward_cuda(grad, bases, weights, *wanted)
        for found, expected, asked in zip(got, want[2:], wanted, strict=True):
            assert relative_error(found, expected) < 1e-6 if asked else found.numel() == 0


def test_the_reference_is_the_sum_and_passes_finite_differences():
    base, bases, weights, _ = made(3, 4, 2)
    want = base + torch.einsum("vb,vbf->vf", weights, bases)
    torch.testing.assert_close(ops.combine_rows(base, bases, weights), want)
    leaves = [t.requires_grad_() for t in (base, bases, weights)]
    assert torch.autograd.gradcheck(ops.combine_rows, leaves)


def test_results_do_not_depend_on_the_number_of_threads(isa):
    scene, before = made(3000, 8, 12), native.threads()
    try:
        native.set_threads(1)
        want = run(scene, torch.float32, "cpu")
        native.set_threads(3)
        for got, alone in zip(run(scene, torch.float32, "cpu"), want, strict=True):
            assert torch.equal(got, alone)
    finally:
        native.set_threads(before)


def test_the_operations_pass_torch_opcheck():
    base, bases, weights, grad = (t.float() for t in made(6, 3, 5))
    leaves = [t.clone().requires_grad_() for t in (base, bases, weights)]
    torch.library.opcheck(torch.ops.avatarfit.combine_rows.default, leaves)
    for wanted in ((True, True), (False, True)):
        torch.library.opcheck(torch.ops.avatarfit.combine_rows_backward.default, (grad, bases, weights, *wanted))


def test_what_does_not_fit_is_refused_in_a_sentence():
    base, bases, weights, _ = (t.float() for t in made(6, 3, 5))
    with pytest.raises(ValueError, match=r"base came with shape \[5, 5\]; wanted \[6, 5\]"):
        ops.combine_rows(base[:5], bases, weights)
    with pytest.raises(ValueError, match=r"weights came with shape \[6, 2\]; wanted \[6, 3\]"):
        ops.combine_rows(base, bases, weights[:, :2])
    with pytest.raises(ValueError, match="bases came with 65 features; wanted 1 to 64, or backend 'reference'"):
        ops.combine_rows(torch.zeros(2, 65), torch.zeros(2, 1, 65), torch.zeros(2, 1))
    with pytest.raises(ValueError, match="weights came with strides"):
        ops.combine_rows(base, bases, weights.t().contiguous().t())
    assert native.load().af_constant(b"COMBINE_FEATURES_MAX") == 64
