"""Linear blending of per-Gaussian bases, the reduced-blendshape idea of RGBAvatar (Li et al., CVPR 2025).

Layout: `deltas` is [N, K, 14], so that all that one Gaussian needs lies in one run of K*14 floats; the forward pass,
the weights' gradient and the fused Adam step each stream it once, front to back.
"""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, native
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.layout import ATTRIBUTE_COUNT
from avatarfit.ops.registry import LIBRARY, register


def blend(
    base: Tensor,  # [N, 14]
    deltas: Tensor,  # [N, K, 14]
    weights: Tensor,  # [G, K]
    group: Tensor,  # [N] int32, each in 0..G-1
    *,
    backend: str = "auto",
) -> Tensor:
    """`base[n] + sum_k weights[group[n], k] * deltas[n, k]`.

    Args:
        base: [N, 14] attributes at rest, in the order of `layout`.
        deltas: [N, K, 14], same columns; float16 ones are read as they are and take no gradient.
        weights: [G, K], one row per group.
        group: int32 [N], the row of `weights` that each Gaussian follows.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        [N, 14], differentiable in base, deltas and weights.

    Raises:
        ValueError: a shape, dtype, stride or group number does not fit, or a weight is not finite (on CUDA the rows
            that follow such a weight are NaN instead: the device is not waited for).
        BackendError: the backend cannot take these tensors.
    """
    half = deltas.dtype == torch.float16
    _check(base, deltas, weights, group, torch.float16 if half else base.dtype)
    if half and torch.is_grad_enabled() and (base.requires_grad or weights.requires_grad or deltas.requires_grad):
        raise ValueError("deltas came as torch.float16 where a gradient is wanted; wanted torch.float32 to train on")
    if wants_native_and_groups(backend, base, group, weights.shape[0]):
        result: Tensor = torch.ops.avatarfit.blend(base, deltas, weights, group)
        return result
    return blend_reference(base, deltas.to(base.dtype), weights, group)


def blend_reference(base: Tensor, deltas: Tensor, weights: Tensor, group: Tensor) -> Tensor:
    """Plain torch twin of `blend`, any float dtype."""
    return base + torch.einsum("nk,nkc->nc", weights[group.long()], deltas)


def blend_weights_grad(
    deltas: Tensor,  # [N, K, 14]
    grad_attributes: Tensor,  # [N, 14]
    group: Tensor,  # [N] int32
    group_count: int,
    *,
    backend: str = "auto",
) -> Tensor:
    """Gradient of a loss with respect to `blend`'s weights: `sum_{n in g} sum_c deltas[n, k, c] grad[n, c]`.

    Returns:
        [G, K] with G = `group_count`. Not differentiable.

    Raises:
        ValueError, BackendError: as `blend`.
    """
    n, k, _ = deltas.shape
    check("deltas", deltas, (None, None, ATTRIBUTE_COUNT))
    check("grad_attributes", grad_attributes, (n, ATTRIBUTE_COUNT), deltas.dtype)
    check("group", group, (n,), torch.int32)
    if wants_native_and_groups(backend, deltas, group, group_count):
        result: Tensor = torch.ops.avatarfit.blend_weights_grad(
            deltas.detach(), grad_attributes.detach(), group, group_count
        )
        return result
    with torch.no_grad():
        per_gaussian = torch.einsum("nkc,nc->nk", deltas, grad_attributes)
        return deltas.new_zeros(group_count, k).index_add_(0, group.long(), per_gaussian)


_seen_groups: dict[int, tuple[weakref.ref[Tensor], int, int, int]] = {}
"""By `id` of a group tensor while it lives: itself, its version, its lowest and highest number."""


def check_group(group: Tensor, group_count: int) -> None:
    """Hold every group number against 0..group_count-1.

    Groups do not change once an avatar is loaded, so a tensor's numbers are looked at once, when it is first seen or
    after torch changed it in place; on a GPU that once is waited for. (Torch counts no changes of a tensor made in
    inference mode: a change of one is not noticed.)

    Raises:
        ValueError: one lies outside.
    """
    if not len(group):
        return
    key, version = id(group), 0 if group.is_inference() else group._version
    seen = _seen_groups.get(key)
    if seen is None or seen[0]() is not group or seen[1] != version:
        low, high = (int(number) for number in torch.stack(torch.aminmax(group)).cpu())
        forget = weakref.ref(group, lambda _: _seen_groups.pop(key, None))
        seen = _seen_groups[key] = (forget, version, low, high)
    _, _, low, high = seen
    if low < 0 or high >= group_count:
        raise ValueError(f"group came with numbers {low}..{high}; wanted 0..{group_count - 1}")


def wants_native_and_groups(backend: str, tensor: Tensor, group: Tensor, group_count: int) -> bool:
    """`wants_native`, with the group numbers held against the count where no kernel does that itself: off the CPU's.

    Raises:
        ValueError, BackendError: as `check_group` and `wants_native`.
    """
    native_wanted = wants_native(backend, tensor)
    if not native_wanted or tensor.device.type != "cpu":
        check_group(group, group_count)
    return native_wanted


def _check(base: Tensor, deltas: Tensor, weights: Tensor, group: Tensor, deltas_dtype: torch.dtype) -> None:
    check("base", base, (None, ATTRIBUTE_COUNT))
    check("deltas", deltas, (base.shape[0], None, ATTRIBUTE_COUNT), deltas_dtype)
    check("weights", weights, (None, deltas.shape[1]), base.dtype)
    check("group", group, (base.shape[0],), torch.int32)


def _pointers(
    base: Tensor, deltas: Tensor, weights: Tensor, group: Tensor, deltas_dtype: torch.dtype = torch.float32
) -> tuple[int, int, int, int]:
    n, k = deltas.shape[:2]
    return (
        pointer("base", base, (n, ATTRIBUTE_COUNT)),
        pointer("deltas", deltas, (n, k, ATTRIBUTE_COUNT), deltas_dtype),
        pointer("weights", weights, (None, k)),
        pointer("group", group, (n,), torch.int32),
    )


def group_error(group_count: int) -> ValueError:
    """What a CPU kernel's word for a group number outside 0..group_count-1 becomes."""
    return ValueError(f"group came with a number outside 0..{group_count - 1}; wanted each a row of weights")


LIBRARY.define("blend(Tensor base, Tensor deltas, Tensor weights, Tensor group) -> Tensor")
LIBRARY.define(
    "blend_backward(Tensor grad, Tensor deltas, Tensor weights, Tensor group, bool want_deltas, bool want_weights)"
    " -> (Tensor, Tensor)"
)
LIBRARY.define("blend_weights_grad(Tensor deltas, Tensor grad, Tensor group, int group_count) -> Tensor")


def _blend_cpu(base: Tensor, deltas: Tensor, weights: Tensor, group: Tensor) -> Tensor:
    n, k = deltas.shape[:2]
    out = torch.empty_like(base)
    half = deltas.dtype == torch.float16
    pointers = _pointers(base, deltas, weights, group, torch.float16 if half else torch.float32)
    call = native.load().af_blend_half if half else native.load().af_blend
    status = call(*pointers, n, k, weights.shape[0], out.data_ptr())
    if status == native.STATUS_BAD_VALUE:
        raise group_error(weights.shape[0])
    native.check_status(status, "weights")
    return out


def _blend_backward_cpu(
    grad: Tensor, deltas: Tensor, weights: Tensor, group: Tensor, want_deltas: bool, want_weights: bool
) -> tuple[Tensor, Tensor]:
    n, k = deltas.shape[:2]
    grad_deltas = torch.empty_like(deltas) if want_deltas else deltas.new_empty(0)
    grad_weights = torch.empty_like(weights) if want_weights else weights.new_empty(0)
    pointers = _pointers(grad, deltas, weights, group)
    if native.load().af_blend_backward(
        *pointers, n, k, weights.shape[0],
        grad_deltas.data_ptr() if want_deltas else None,
        grad_weights.data_ptr() if want_weights else None,
    ):  # fmt: skip
        raise group_error(weights.shape[0])
    return grad_deltas, grad_weights


def _blend_backward_fake(
    grad: Tensor, deltas: Tensor, weights: Tensor, group: Tensor, want_deltas: bool, want_weights: bool
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(deltas) if want_deltas else deltas.new_empty(0),
        torch.empty_like(weights) if want_weights else weights.new_empty(0),
    )


def _weights_grad_cpu(deltas: Tensor, grad: Tensor, group: Tensor, group_count: int) -> Tensor:
    n, k = deltas.shape[:2]
    out = deltas.new_empty(group_count, k)
    failed = native.load().af_blend_backward(
        pointer("grad_attributes", grad, (n, ATTRIBUTE_COUNT)),
        pointer("deltas", deltas, (n, k, ATTRIBUTE_COUNT)),
        None,
        pointer("group", group, (n,), torch.int32),
        n, k, group_count, None, out.data_ptr(),
    )  # fmt: skip
    if failed:
        raise group_error(group_count)
    return out


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    _, deltas, weights, group = inputs
    ctx.save_for_backward(deltas, weights, group)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    deltas, weights, group = ctx.saved_tensors
    want_deltas, want_weights = ctx.needs_input_grad[1], ctx.needs_input_grad[2]
    grad_deltas = grad_weights = None
    if want_deltas or want_weights:
        grad_deltas, grad_weights = torch.ops.avatarfit.blend_backward(
            grad.contiguous(), deltas, weights, group, want_deltas, want_weights
        )
    return grad, grad_deltas if want_deltas else None, grad_weights if want_weights else None, None


register(
    "blend",
    cpu=_blend_cpu,
    cuda=cuda_kernels.blend,
    fake=lambda base, deltas, weights, group: torch.empty_like(base),
    setup=_setup,
    backward=_backward,
)
register("blend_backward", cpu=_blend_backward_cpu, cuda=cuda_kernels.blend_backward, fake=_blend_backward_fake)
register(
    "blend_weights_grad",
    cpu=_weights_grad_cpu,
    cuda=cuda_kernels.blend_weights_grad,
    fake=lambda deltas, grad, group, group_count: deltas.new_empty(group_count, deltas.shape[1]),
)
