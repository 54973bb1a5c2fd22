"""The picture loss: weighted L1 and structural dissimilarity in one pass (SSIM: Wang et al. 2004)."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, layout, native
from avatarfit.ops._checks import check, check_size, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register


def l1_dssim(
    image: Tensor,  # [H, W, 3], or [H, W, 4] with a background
    target: Tensor,  # [H, W, 3]
    weight: Tensor,  # [H, W]
    dssim_fraction: float,
    *,
    background: Tensor | None = None,  # [H, W, 3]
    backend: str = "auto",
) -> Tensor:
    """`sum_p w_p mean_c [(1 - f) |x - y| + f (1 - SSIM(x, y)) / 2] / sum_p w_p`.

    SSIM is taken per channel with an 11x11 Gaussian window of sigma 1.5, zero padded, for values in [0, 1].

    Args:
        image: [H, W, 3]; the gradient goes here only. With a background: [H, W, 4], premultiplied, as from `rasterise`.
        target: [H, W, 3].
        weight: [H, W], not negative, not all zero.
        dssim_fraction: f in [0, 1].
        background: [H, W, 3]; x is then `rgb + (1 - alpha) * background`, composited in the same pass.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        scalar.

    Raises:
        ValueError: a shape, dtype or stride does not fit, f lies outside [0, 1], the weights sum to
            nothing, or the loss is not finite (on CUDA the loss is then NaN: it is not waited for).
        BackendError: the backend cannot take these tensors.
    """
    needs_grad = image.requires_grad and torch.is_grad_enabled()
    return _l1_dssim(image, target, weight, dssim_fraction, background, needs_grad, backend)[0]


def _l1_dssim(
    image: Tensor, target: Tensor, weight: Tensor, dssim_fraction: float, background: Tensor | None, needs_grad: bool,
    backend: str,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The loss and, from the kernels where it is wanted, its gradient; the reference leaves that to autograd."""
    check("image", image, (None, None, 3 if background is None else 4))
    check("target", target, (*image.shape[:2], 3), image.dtype)
    if background is not None:
        check("background", background, (*image.shape[:2], 3), image.dtype)
    check("weight", weight, tuple(image.shape[:2]), image.dtype)
    check_size("image height", image.shape[0])
    check_size("image width", image.shape[1])
    if not 0 <= dssim_fraction <= 1:
        raise ValueError(f"dssim_fraction came as {dssim_fraction}; wanted 0 to 1")
    if wants_native(backend, image):
        loss, gradient = torch.ops.avatarfit.l1_dssim(
            image, target, weight, background, float(dssim_fraction), needs_grad
        )
        return loss, gradient if needs_grad else None
    if not float(weight.sum()) > 0:
        raise _weight_error()
    if background is not None:
        image = image[..., :3] + (1 - image[..., 3:]) * background
    return l1_dssim_reference(image, target, weight, dssim_fraction), None


def l1_dssim_with_gradient(
    image: Tensor,
    target: Tensor,
    weight: Tensor,
    dssim_fraction: float,
    *,
    background: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """`l1_dssim` and its gradient with respect to the image, for a caller who adds to the gradient before it goes on.

    The kernels find both at once, so autograd would only cost.

    Args, raises:
        As `l1_dssim`; whether the image requires a gradient does not matter.

    Returns:
        scalar, and a tensor of the image's shape that is the caller's own. Neither is differentiable.
    """
    plain = image.detach().requires_grad_(not wants_native(backend, image))
    with torch.enable_grad():
        loss, gradient = _l1_dssim(plain, target, weight, dssim_fraction, background, True, backend)
    if gradient is None:
        (gradient,) = torch.autograd.grad(loss, plain)
    return loss.detach(), gradient


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """SSIM [H, W, 3] of two pictures [H, W, 3] in [0, 1], plain torch, any float dtype."""
    offset = torch.arange(layout.SSIM_WINDOW, dtype=image.dtype, device=image.device) - layout.SSIM_WINDOW // 2
    taps = torch.exp(-(offset**2) / (2 * layout.SSIM_SIGMA**2))
    taps = taps / taps.sum()
    window = (taps[:, None] * taps[None, :])[None, None]
    x, y = image.permute(2, 0, 1)[:, None], target.permute(2, 0, 1)[:, None]
    stacked = torch.cat([x, y, x * x, y * y, x * y], 1)  # [3, 5, H, W]
    half = layout.SSIM_WINDOW // 2
    blurred = torch.nn.functional.conv2d(stacked.reshape(15, 1, *x.shape[2:]), window, padding=half)
    mu_x, mu_y, xx, yy, xy = blurred.reshape(3, 5, *x.shape[2:]).unbind(1)
    var_x, var_y, cov = xx - mu_x * mu_x, yy - mu_y * mu_y, xy - mu_x * mu_y
    upper = (2 * mu_x * mu_y + layout.SSIM_C1) * (2 * cov + layout.SSIM_C2)
    lower = (mu_x * mu_x + mu_y * mu_y + layout.SSIM_C1) * (var_x + var_y + layout.SSIM_C2)
    return (upper / lower).permute(1, 2, 0)


def l1_dssim_reference(image: Tensor, target: Tensor, weight: Tensor, dssim_fraction: float) -> Tensor:
    """Plain torch twin of `l1_dssim`, any float dtype."""
    per_value = (1 - dssim_fraction) * (image - target).abs() + dssim_fraction * (1 - ssim_map(image, target)) / 2
    return (weight * per_value.mean(2)).sum() / weight.sum()


def _weight_error() -> ValueError:
    return ValueError("weight came with a sum that is not positive; wanted at least one positive weight")


LIBRARY.define(
    "l1_dssim(Tensor image, Tensor target, Tensor weight, Tensor? background, float dssim_fraction, bool needs_grad)"
    " -> (Tensor, Tensor)"
)


def _l1_dssim_cpu(
    image: Tensor, target: Tensor, weight: Tensor, background: Tensor | None, dssim_fraction: float, needs_grad: bool
) -> tuple[Tensor, Tensor]:
    height_px, width_px, channels = image.shape
    loss = image.new_empty(())
    grad = torch.empty_like(image) if needs_grad else image.new_empty(0)
    status = native.load().af_l1_dssim(
        native.workspace(),
        pointer("image", image, (height_px, width_px, channels)),
        pointer("target", target, (height_px, width_px, 3)),
        pointer("weight", weight, (height_px, width_px)),
        None if background is None else pointer("background", background, (height_px, width_px, 3)),
        height_px, width_px, dssim_fraction, loss.data_ptr(), grad.data_ptr() if needs_grad else None,
    )  # fmt: skip
    if status == native.STATUS_BAD_VALUE:
        raise _weight_error()
    native.check_status(status, "the picture, its target, background or weight")
    return loss, grad


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for the second output's would be a picture's worth
    ctx.needs_grad = inputs[5]
    ctx.save_for_backward(output[1])


def _backward(ctx, grad_loss: Tensor, _):  # type: ignore[no-untyped-def]
    if not ctx.needs_grad:
        raise RuntimeError("avatarfit::l1_dssim was called with needs_grad=False; call it with True to differentiate")
    (grad,) = ctx.saved_tensors
    # A loss that is differentiated as it is needs no pass over the picture to multiply by one. A tracer's tensor has no
    # value to look at, and a GPU's is not worth waiting for.
    as_it_is = type(grad_loss) is Tensor and grad_loss.device.type == "cpu" and float(grad_loss) == 1
    return grad if as_it_is else grad * grad_loss, None, None, None, None, None


register(
    "l1_dssim",
    cpu=_l1_dssim_cpu,
    cuda=cuda_kernels.l1_dssim,
    fake=lambda image, target, weight, background, dssim_fraction, needs_grad: (
        image.new_empty(()),
        torch.empty_like(image) if needs_grad else image.new_empty(0),
    ),
    setup=_setup,
    backward=_backward,
)
