"""Adam (Kingma and Ba 2015; decoupled decay: Loshchilov and Hutter 2019) over blended bases, in one pass.

The gradient of `deltas[n, k]` is the outer product `weights[group[n], k] * grad_attributes[n]`: it is formed in
registers, never stored, and the gradient of the weights falls out of the same pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, native
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.blend import blend_weights_grad, group_error, wants_native_and_groups
from avatarfit.ops.layout import ATTRIBUTE_COUNT
from avatarfit.ops.registry import LIBRARY, register


def blend_adam_step_(
    base: Tensor,  # [N, 14]
    deltas: Tensor,  # [N, K, 14]
    base_first: Tensor,  # [N, 14]
    base_second: Tensor,  # [N, 14]
    deltas_first: Tensor,  # [N, K, 14]
    deltas_second: Tensor,  # [N, K, 14]
    grad_attributes: Tensor,  # [N, 14]
    weights: Tensor,  # [G, K]
    group: Tensor,  # [N] int32
    step: int,
    lr_per_attribute: Tensor,  # [14]
    delta_lr_per_attribute: Tensor,  # [14]
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-15,
    delta_weight_decay: float = 0.0,
    backend: str = "auto",
) -> Tensor:
    """One Adam step on `base` and `deltas`, in place, after `attributes = blend(base, deltas, weights, group)`.

    Use: make `attributes` a leaf (`blend(...).detach().requires_grad_()`), run the loss backward, pass
    `attributes.grad` here, and hand the result to `weights.backward(result)`.

    Args:
        base, deltas: parameters, changed in place.
        base_first, base_second, deltas_first, deltas_second: the moments, zero at the start, changed in place.
        grad_attributes: gradient of the loss with respect to the blended attributes.
        weights, group: as they were given to `blend` in this step.
        step: number of this step, from 1.
        lr_per_attribute, delta_lr_per_attribute: learning rate per column, for base and for deltas.
        beta1, beta2, eps: as in torch.optim.Adam (eps is added to the corrected root).
        delta_weight_decay: each delta is first multiplied by `1 - lr * delta_weight_decay`.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        [G, K]: gradient with respect to `weights`, taken with the deltas as they were before the step.

    Raises:
        ValueError: a shape, dtype, stride, group number or `step` does not fit.
        BackendError: the backend cannot take these tensors.
    """
    n, k = base.shape[0], deltas.shape[1]
    for name, tensor in (("base", base), ("base_first", base_first), ("base_second", base_second)):
        check(name, tensor, (n, ATTRIBUTE_COUNT), base.dtype)
    for name, tensor in (("deltas", deltas), ("deltas_first", deltas_first), ("deltas_second", deltas_second)):
        check(name, tensor, (n, k, ATTRIBUTE_COUNT), base.dtype)
    check("grad_attributes", grad_attributes, (n, ATTRIBUTE_COUNT), base.dtype)
    check("weights", weights, (None, k), base.dtype)
    check("group", group, (n,), torch.int32)
    check("lr_per_attribute", lr_per_attribute, (ATTRIBUTE_COUNT,), base.dtype)
    check("delta_lr_per_attribute", delta_lr_per_attribute, (ATTRIBUTE_COUNT,), base.dtype)
    if step < 1:
        raise ValueError(f"step came as {step}; wanted 1 for the first step")
    if wants_native_and_groups(backend, base, group, weights.shape[0]):
        with torch.no_grad():
            result: Tensor = torch.ops.avatarfit.blend_adam_step_(
                base, deltas, base_first, base_second, deltas_first, deltas_second, grad_attributes, weights, group,
                step, lr_per_attribute, delta_lr_per_attribute, beta1, beta2, eps, delta_weight_decay,
            )  # fmt: skip
        return result
    with torch.no_grad():
        weights_grad = blend_weights_grad(deltas, grad_attributes, group, weights.shape[0], backend="reference")
        grad_deltas = weights[group.long()][:, :, None] * grad_attributes[:, None, :]
        deltas.mul_(1 - delta_lr_per_attribute * delta_weight_decay)
        for value, first, second, grad, lr in (
            (base, base_first, base_second, grad_attributes, lr_per_attribute),
            (deltas, deltas_first, deltas_second, grad_deltas, delta_lr_per_attribute),
        ):
            first.lerp_(grad, 1 - beta1)
            second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            root = (second / (1 - beta2**step)).sqrt_().add_(eps)
            value.sub_(lr / (1 - beta1**step) * first / root)
    return weights_grad


LIBRARY.define(
    "blend_adam_step_(Tensor(a!) base, Tensor(b!) deltas, Tensor(c!) base_first, Tensor(d!) base_second,"
    " Tensor(e!) deltas_first, Tensor(f!) deltas_second, Tensor grad_attributes, Tensor weights, Tensor group,"
    " int step, Tensor lr_per_attribute, Tensor delta_lr_per_attribute, float beta1, float beta2, float eps,"
    " float delta_weight_decay) -> Tensor"
)


def _blend_adam_step_cpu(
    base: Tensor, deltas: Tensor, base_first: Tensor, base_second: Tensor, deltas_first: Tensor,
    deltas_second: Tensor, grad_attributes: Tensor, weights: Tensor, group: Tensor, step: int,
    lr_per_attribute: Tensor, delta_lr_per_attribute: Tensor, beta1: float, beta2: float, eps: float,
    delta_weight_decay: float,
) -> Tensor:  # fmt: skip
    n, k = deltas.shape[:2]
    small, large = (n, ATTRIBUTE_COUNT), (n, k, ATTRIBUTE_COUNT)
    weights_grad = torch.empty_like(weights)
    status = native.load().af_blend_adam_step(
        pointer("base", base, small),
        pointer("deltas", deltas, large),
        pointer("base_first", base_first, small),
        pointer("base_second", base_second, small),
        pointer("deltas_first", deltas_first, large),
        pointer("deltas_second", deltas_second, large),
        pointer("grad_attributes", grad_attributes, small),
        pointer("weights", weights, (None, k)),
        pointer("group", group, (n,), torch.int32),
        n, k, weights.shape[0],
        pointer("lr_per_attribute", lr_per_attribute, (ATTRIBUTE_COUNT,)),
        pointer("delta_lr_per_attribute", delta_lr_per_attribute, (ATTRIBUTE_COUNT,)),
        beta1, beta2, eps, 1 / (1 - beta1**step), (1 - beta2**step) ** -0.5, delta_weight_decay,
        weights_grad.data_ptr(),
    )  # fmt: skip
    if status == native.STATUS_BAD_VALUE:
        raise group_error(weights.shape[0])
    native.check_status(status)
    return weights_grad


register(
    "blend_adam_step_",
    cpu=_blend_adam_step_cpu,
    cuda=cuda_kernels.blend_adam_step,
    fake=lambda *args: torch.empty_like(args[7]),
)
