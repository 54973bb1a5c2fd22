"""Front-to-back compositing of 2-D Gaussian splats (Kerbl et al. 2023), to floats or over a uint8 picture."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, layout, native
from avatarfit.ops._checks import check, check_size, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register

REFERENCE_TILE_PX = 16


def rasterise(
    splats: Tensor,  # [N, 10]
    height_px: int,
    width_px: int,
    *,
    backend: str = "auto",
) -> Tensor:
    """Composite splats front to back by depth, ties by index.

    At a pixel centre p: `alpha = min(0.99, opacity * exp(-(p - mean)^T conic (p - mean) / 2))`; skipped where it is
    below 1/255; a pixel whose transmittance fell below 1e-4 takes no further splat. Rows with depth <= 0, opacity below
    1/255, or a mean or conic that is not finite or not positive definite are not drawn.

    Args:
        splats: [N, 10] as from `project`.
        height_px, width_px: picture size, any from 1.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        [H, W, 4]: premultiplied rgb, then alpha in [0, 1]. Differentiable in splats; depth gets zero gradient.

    Raises:
        ValueError: a shape, dtype, stride or size does not fit.
        BackendError: the backend cannot take these tensors.
    """
    check("splats", splats, (None, layout.SPLAT_COUNT))
    check_size("height_px", height_px)
    check_size("width_px", width_px)
    if wants_native(backend, splats):
        result: Tensor = torch.ops.avatarfit.rasterise(splats, height_px, width_px)
        return result
    return rasterise_reference(splats, height_px, width_px)


def rasterise_depth(splats: Tensor, height_px: int, width_px: int, *, backend: str = "auto") -> Tensor:
    """Composite the splats' depths as `rasterise` composites their colours, in a pass of its own.

    Args:
        splats, height_px, width_px, backend: as `rasterise`.

    Returns:
        [H, W]: `sum_i weight_i depth_i` in the depth column's unit (cm as from `project`), 0 where nothing is drawn;
        over `rasterise(...)[..., 3]` it is the mean depth of what is seen. Differentiable in splats, depth included.

    Raises:
        ValueError, BackendError: as `rasterise`.
    """
    check("splats", splats, (None, layout.SPLAT_COUNT))
    before, depth = splats[:, : layout.SPLAT_OPACITY + 1], splats[:, layout.SPLAT_DEPTH, None]
    image = rasterise(torch.cat([before, depth.expand(-1, 3), depth], 1), height_px, width_px, backend=backend)
    return image[..., 0]


def rasterise_over(splats: Tensor, background: Tensor, *, backend: str = "auto") -> Tensor:
    """Composite splats over a picture: the run-time entry, no gradient.

    Args:
        splats: [N, 10] as from `project`.
        background: uint8 [H, W, 3].
        backend: `auto | reference | cpu | cuda`.

    Returns:
        uint8 [H, W, 3]: `clamp(rgb + (1 - alpha) * background, 0, 1)` rounded to the nearest of 255 steps.

    Raises:
        ValueError, BackendError: as `rasterise`.
    """
    check("splats", splats, (None, layout.SPLAT_COUNT))
    check("background", background, (None, None, 3), torch.uint8)
    check_size("height_px", background.shape[0])
    check_size("width_px", background.shape[1])
    if wants_native(backend, splats):
        result: Tensor = torch.ops.avatarfit.rasterise_over(splats, background)
        return result
    with torch.no_grad():
        image = rasterise_reference(splats, background.shape[0], background.shape[1])
        rgb = image[..., :3] + (1 - image[..., 3:]) * (background.to(image.dtype) / 255)
        return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def drawable(splats: Tensor) -> Tensor:
    """bool [N]: rows that `rasterise` may draw."""
    a, b, c = splats[:, layout.SPLAT_CONIC].unbind(1)
    finite = splats[:, : layout.SPLAT_OPACITY + 1].isfinite().all(1)
    definite = (a > 0) & (c > 0) & (a * c - b * b > 0)
    visible = (splats[:, layout.SPLAT_OPACITY] >= layout.ALPHA_MIN) & (splats[:, layout.SPLAT_DEPTH] > 0)
    return finite & definite & visible


def rasterise_reference(splats: Tensor, height_px: int, width_px: int) -> Tensor:
    """Plain torch twin of `rasterise`, any float dtype: tile by tile, every splat of the tile at every pixel of it."""
    kept = drawable(splats.detach()).nonzero()[:, 0]
    order = kept[torch.argsort(splats.detach()[kept, layout.SPLAT_DEPTH], stable=True)]
    ordered = splats[order]
    with torch.no_grad():
        mean, (a, b, c) = ordered[:, layout.SPLAT_MEAN], ordered[:, layout.SPLAT_CONIC].unbind(1)
        level = 2 * torch.log(255 * ordered[:, layout.SPLAT_OPACITY]).clamp(min=0) + 1e-3
        reach = (level / (a * c - b * b))[:, None].sqrt() * torch.stack([c, a], 1).sqrt()
        low, high = mean - reach, mean + reach
    tile = REFERENCE_TILE_PX
    rows = []
    for y in range(0, height_px, tile):
        cells = []
        for x in range(0, width_px, tile):
            size_y, size_x = min(tile, height_px - y), min(tile, width_px - x)
            touches = (high[:, 0] > x) & (low[:, 0] < x + size_x) & (high[:, 1] > y) & (low[:, 1] < y + size_y)
            cells.append(_composite(ordered[touches], x, y, size_x, size_y))
        rows.append(torch.cat(cells, 1))
    return torch.cat(rows, 0)


def _composite(splats: Tensor, x: int, y: int, size_x: int, size_y: int) -> Tensor:
    center_x = torch.arange(x, x + size_x, dtype=splats.dtype, device=splats.device) + 0.5
    center_y = torch.arange(y, y + size_y, dtype=splats.dtype, device=splats.device) + 0.5
    dx = center_x[None, None, :] - splats[:, 0, None, None]
    dy = center_y[None, :, None] - splats[:, 1, None, None]
    a, b, c = (splats[:, i, None, None] for i in (2, 3, 4))
    power = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (splats[:, layout.SPLAT_OPACITY, None, None] * torch.exp(-power)).clamp(max=layout.ALPHA_MAX)
    alpha = torch.where(alpha >= layout.ALPHA_MIN, alpha, torch.zeros_like(alpha))
    ones = torch.ones_like(center_y[:, None] * center_x)[None]
    before = torch.cat([ones, torch.cumprod(1 - alpha, 0)], 0)
    # Transmittance only falls, so "stopped" is the same as "below the limit were nothing ever stopped".
    alpha = torch.where(before[:-1] >= layout.TRANSMITTANCE_MIN, alpha, torch.zeros_like(alpha))
    before = torch.cat([ones, torch.cumprod(1 - alpha, 0)], 0)
    weight = alpha * before[:-1]
    rgb = torch.einsum("nhw,nc->hwc", weight, splats[:, layout.SPLAT_RGB])
    return torch.cat([rgb, 1 - before[-1][..., None]], 2)


LIBRARY.define("rasterise(Tensor splats, int height_px, int width_px) -> Tensor")
LIBRARY.define("rasterise_backward(Tensor grad, Tensor splats, Tensor image) -> Tensor")
LIBRARY.define("rasterise_over(Tensor splats, Tensor background) -> Tensor")


def _rasterise_cpu(splats: Tensor, height_px: int, width_px: int) -> Tensor:
    image = splats.new_empty(height_px, width_px, 4)
    address = pointer("splats", splats, (None, layout.SPLAT_COUNT))
    native.check_status(
        native.load().af_rasterise(native.workspace(), address, len(splats), height_px, width_px, image.data_ptr())
    )
    return image


def _rasterise_backward_cpu(grad: Tensor, splats: Tensor, image: Tensor) -> Tensor:
    height_px, width_px, _ = image.shape
    out = torch.empty_like(splats)
    native.check_status(
        native.load().af_rasterise_backward(
            native.workspace(),
            pointer("splats", splats, (None, layout.SPLAT_COUNT)), len(splats), height_px, width_px,
            pointer("image", image, (height_px, width_px, 4)), pointer("grad", grad, (height_px, width_px, 4)),
            out.data_ptr(),
        )
    )  # fmt: skip
    return out


def _rasterise_over_cpu(splats: Tensor, background: Tensor) -> Tensor:
    height_px, width_px, _ = background.shape
    out = torch.empty_like(background)
    native.check_status(
        native.load().af_rasterise_over(
            native.workspace(),
            pointer("splats", splats, (None, layout.SPLAT_COUNT)), len(splats), height_px, width_px,
            pointer("background", background, (height_px, width_px, 3), torch.uint8), out.data_ptr(),
        )
    )  # fmt: skip
    return out


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    splats, image = ctx.saved_tensors
    return torch.ops.avatarfit.rasterise_backward(grad.contiguous(), splats, image), None, None


register(
    "rasterise",
    cpu=_rasterise_cpu,
    cuda=cuda_kernels.rasterise,
    fake=lambda splats, height_px, width_px: splats.new_empty(height_px, width_px, 4),
    setup=_setup,
    backward=_backward,
)
register(
    "rasterise_backward",
    cpu=_rasterise_backward_cpu,
    cuda=cuda_kernels.rasterise_backward,
    fake=lambda grad, splats, image: torch.empty_like(splats),
)
register(
    "rasterise_over",
    cpu=_rasterise_over_cpu,
    cuda=cuda_kernels.rasterise_over,
    fake=lambda splats, background: torch.empty_like(background),
)
