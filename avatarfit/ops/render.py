"""One frame at run time: blend, project and composite over a picture in a single native call."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import layout, native
from avatarfit.ops._checks import check, check_size, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.blend import blend
from avatarfit.ops.project import project
from avatarfit.ops.rasterise import rasterise_over


def render_frame(
    base: Tensor,  # [N, 14]
    deltas: Tensor,  # [N, K, 14], float16 where memory is to be spared
    weights: Tensor,  # [G, K]
    group: Tensor,  # [N] int32
    skin: Tensor,  # [N]
    head: Tensor,  # [3, 4]
    torso: Tensor,  # [3, 4]
    focal_px: float,
    center_x_px: float,
    center_y_px: float,
    background: Tensor,  # [H, W, 3] uint8
    *,
    backend: str = "auto",
) -> Tensor:
    """The same as `rasterise_over(project(blend(...), ...), background)`, with nothing allocated but the picture.

    The picture's size is the background's. No gradient. Deltas in half precision, as an avatar file keeps them, are
    read as they are: half the bytes of what bounds the blend, and the same picture as of their float32 copy.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ValueError, BackendError: as the three operations.
    """
    check("background", background, (None, None, 3), torch.uint8)
    height_px, width_px, _ = background.shape
    if base.device.type == "cuda":
        return _on_device((base, deltas, weights, group), (skin, head, torso), (focal_px, center_x_px, center_y_px),
                          background, backend)  # fmt: skip
    camera = (float(focal_px), float(center_x_px), float(center_y_px), width_px, height_px)
    with torch.no_grad():
        if not wants_native(backend, base):
            attributes = blend(base, deltas.to(base.dtype), weights, group, backend=backend)
            splats = project(attributes, skin, head, torso, *camera, backend=backend)
            return rasterise_over(splats, background, backend=backend)
        check_size("height_px", height_px)
        check_size("width_px", width_px)
        if not focal_px > 0:
            raise ValueError(f"focal_px came as {focal_px}; wanted a positive length")
        n, k = base.shape[0], deltas.shape[1]
        out = torch.empty_like(background)
        half = deltas.dtype == torch.float16
        library = native.load()
        call = library.af_render_over_half if half else library.af_render_over
        status = call(
            native.workspace(),
            pointer("base", base, (n, layout.ATTRIBUTE_COUNT)),
            pointer("deltas", deltas, (n, k, layout.ATTRIBUTE_COUNT), torch.float16 if half else torch.float32),
            pointer("weights", weights, (None, k)),
            pointer("group", group, (n,), torch.int32),
            n, k, weights.shape[0],
            pointer("skin", skin, (n,)),
            pointer("head", head, (3, 4)),
            pointer("torso", torso, (3, 4)),
            *camera,
            pointer("background", background, (height_px, width_px, 3), torch.uint8),
            out.data_ptr(),
        )  # fmt: skip
        if status == native.STATUS_BAD_VALUE:
            raise ValueError(f"group came with a number outside 0..{weights.shape[0] - 1}; wanted a row of weights")
        native.check_status(status, "weights, head or torso")
        return out


def _on_device(
    blended: tuple[Tensor, Tensor, Tensor, Tensor],
    posed: tuple[Tensor, Tensor, Tensor],
    camera: tuple[float, float, float],
    background: Tensor,
    backend: str,
) -> Tensor:
    # The three launch without waiting for one another; what lies between them stays in the GPU's cache.
    base, deltas, weights, group = blended
    height_px, width_px, _ = background.shape
    with torch.no_grad():
        attributes = blend(base, deltas.to(base.dtype), weights, group, backend=backend)
        splats = project(attributes, *posed, *camera, width_px, height_px, backend=backend)
        return rasterise_over(splats, background, backend=backend)
