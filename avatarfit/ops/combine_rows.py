"""Rows of a grid, each the sum of a row at rest and of its own weighted bases: one pass over the bases, and one back.

What a batched matrix product of one row each would do, which spends most of its time on calling itself.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import native, native_cuda
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register

COMBINE_FEATURES_MAX = 64
"""Of the kernels; the reference takes any."""


def combine_rows(
    base: Tensor,  # [V, F]
    bases: Tensor,  # [V, B, F]
    weights: Tensor,  # [V, B]
    *,
    backend: str = "auto",
) -> Tensor:
    """`base[v] + sum_b weights[v, b] bases[v, b]` for every row v.

    Args:
        base: [V, F], F from 1 to 64 for the kernels.
        bases: [V, B, F].
        weights: [V, B].
        backend: `auto | reference | cpu | cuda`.

    Returns:
        [V, F]; differentiable once in all three.

    Raises:
        ValueError: a shape, dtype or stride does not fit, or the kernels take no such F.
        BackendError: the backend cannot take these tensors.
    """
    check("bases", bases, (None, None, None), base.dtype)
    rows, count, features = bases.shape
    check("base", base, (rows, features))
    check("weights", weights, (rows, count), base.dtype)
    if not wants_native(backend, base):
        return combine_rows_reference(base, bases, weights)
    if not 1 <= features <= COMBINE_FEATURES_MAX:
        raise ValueError(
            f"bases came with {features} features; wanted 1 to {COMBINE_FEATURES_MAX}, or backend 'reference'"
        )
    result: Tensor = torch.ops.avatarfit.combine_rows(base, bases, weights)
    return result


def combine_rows_reference(base: Tensor, bases: Tensor, weights: Tensor) -> Tensor:
    """Plain torch twin of `combine_rows`, any float dtype."""
    return base + (weights[:, :, None] * bases).sum(1)


LIBRARY.define("combine_rows(Tensor base, Tensor bases, Tensor weights) -> Tensor")
LIBRARY.define(
    "combine_rows_backward(Tensor grad, Tensor bases, Tensor weights, bool want_bases, bool want_weights)"
    " -> (Tensor, Tensor)"
)


def _pointers(first: Tensor, bases: Tensor, weights: Tensor) -> tuple[int, ...]:
    rows, count, features = bases.shape
    device = bases.device
    return (
        pointer("base", first, (rows, features), device=device),
        pointer("bases", bases, (rows, count, features), device=device),
        pointer("weights", weights, (rows, count), device=device),
        rows, count, features,
    )  # fmt: skip


def _combine_rows_cpu(base: Tensor, bases: Tensor, weights: Tensor) -> Tensor:
    out = torch.empty_like(base)
    native.check_status(native.load().af_combine_rows(*_pointers(base, bases, weights), out.data_ptr()))
    return out


def _combine_rows_cuda(base: Tensor, bases: Tensor, weights: Tensor) -> Tensor:
    out = torch.empty_like(base)
    native_cuda.call("af_cuda_combine_rows", base.device, *_pointers(base, bases, weights), out.data_ptr())
    return out


def _combine_rows_backward_cpu(
    grad: Tensor, bases: Tensor, weights: Tensor, want_bases: bool, want_weights: bool
) -> tuple[Tensor, Tensor]:
    out = _empty_gradients(bases, weights, want_bases, want_weights)
    places = (o.data_ptr() if wanted else None for o, wanted in zip(out, (want_bases, want_weights), strict=True))
    native.check_status(native.load().af_combine_rows_backward(*_pointers(grad, bases, weights), *places))
    return out


def _combine_rows_backward_cuda(
    grad: Tensor, bases: Tensor, weights: Tensor, want_bases: bool, want_weights: bool
) -> tuple[Tensor, Tensor]:
    out = _empty_gradients(bases, weights, want_bases, want_weights)
    places = (o.data_ptr() if wanted else None for o, wanted in zip(out, (want_bases, want_weights), strict=True))
    native_cuda.call("af_cuda_combine_rows_backward", grad.device, *_pointers(grad, bases, weights), *places)
    return out


def _empty_gradients(bases: Tensor, weights: Tensor, want_bases: bool, want_weights: bool) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(bases) if want_bases else bases.new_empty(0),
        torch.empty_like(weights) if want_weights else weights.new_empty(0),
    )


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    want_base, want_bases, want_weights = ctx.needs_input_grad
    grad_bases, grad_weights = torch.ops.avatarfit.combine_rows_backward(
        grad.contiguous(), *ctx.saved_tensors, want_bases, want_weights
    )
    return grad if want_base else None, grad_bases if want_bases else None, grad_weights if want_weights else None


register(
    "combine_rows",
    cpu=_combine_rows_cpu,
    cuda=_combine_rows_cuda,
    fake=lambda base, bases, weights: torch.empty_like(base),
    setup=_setup,
    backward=_backward,
)
register(
    "combine_rows_backward",
    cpu=_combine_rows_backward_cpu,
    cuda=_combine_rows_backward_cuda,
    fake=lambda grad, bases, weights, want_bases, want_weights: _empty_gradients(
        bases, weights, want_bases, want_weights
    ),
)
