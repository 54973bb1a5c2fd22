"""Frames at run time: blend, project and composite over pictures in a single native call."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, layout, native
from avatarfit.ops._checks import check, check_size, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.blend import blend, check_group, group_error
from avatarfit.ops.frame import Frame, Gaussians
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
        ValueError, BackendError: as `render_frames`.
    """
    still = Gaussians(base, deltas, group, skin)
    return _draw([Frame(still, weights, head, torso, focal_px, center_x_px, center_y_px, background)], backend)[0]


def render_frames(frames: Sequence[Frame], *, backend: str = "auto") -> Tensor:
    """Pictures of one size, of one avatar or of several, whose Gaussians and bases may differ in number.

    On CUDA every kernel is launched once for all of them, on torch's current stream: nothing is waited for, and nothing
    comes from the host but the kernels' arguments. Only a `group` tensor that was not seen before is waited for
    (`blend.check_group`). Elsewhere it is `render_frame` of each.

    Args:
        frames: at least one; float32 on one device (deltas may be float16).
        backend: `auto | reference | cpu | cuda`.

    Returns:
        uint8 [B, H, W, 3]. No gradient.

    Raises:
        ValueError: there is no frame, a shape, dtype, stride, size, focal length or group number does not fit, or
            weights or a pose are not finite (on CUDA what they move is not drawn: the device is not waited for).
        BackendError: the backend cannot take these tensors.
    """
    if not frames:
        raise ValueError("frames came empty; wanted at least one")
    pictures = _draw(frames, backend)
    return pictures if isinstance(pictures, Tensor) else torch.stack(pictures)


def _draw(frames: Sequence[Frame], backend: str) -> Tensor | list[Tensor]:
    check("background", frames[0].background, (None, None, 3), torch.uint8)
    size = tuple(frames[0].background.shape)
    check_size("height_px", size[0])
    check_size("width_px", size[1])
    for frame in frames:
        check("background", frame.background, size, torch.uint8)
        if not 0 < frame.focal_px < math.inf:
            raise ValueError(f"focal_px came as {frame.focal_px}; wanted a positive length")
    native_wanted = [wants_native(backend, frame.gaussians.base) for frame in frames]
    if frames[0].gaussians.base.device.type == "cuda" and all(native_wanted):
        for frame in frames:
            check_group(frame.gaussians.group, frame.weights.shape[0])
        return cuda_kernels.render_frames(frames)
    with torch.no_grad():
        return [
            _draw_native(frame) if wanted else _draw_reference(frame)
            for frame, wanted in zip(frames, native_wanted, strict=True)
        ]


def _draw_reference(frame: Frame) -> Tensor:
    still = frame.gaussians
    deltas = still.deltas.to(still.base.dtype)
    attributes = blend(still.base, deltas, frame.weights, still.group, backend="reference")
    splats = project(attributes, still.skin, frame.head, frame.torso, *frame.camera, backend="reference")
    return rasterise_over(splats, frame.background, backend="reference")


def _draw_native(frame: Frame) -> Tensor:
    still = frame.gaussians
    n, k = still.base.shape[0], still.deltas.shape[1]
    out = torch.empty_like(frame.background)
    half = still.deltas.dtype == torch.float16
    library = native.load()
    call = library.af_render_over_half if half else library.af_render_over
    status = call(
        native.workspace(),
        pointer("base", still.base, (n, layout.ATTRIBUTE_COUNT)),
        pointer("deltas", still.deltas, (n, k, layout.ATTRIBUTE_COUNT), torch.float16 if half else torch.float32),
        pointer("weights", frame.weights, (None, k)),
        pointer("group", still.group, (n,), torch.int32),
        n, k, frame.weights.shape[0],
        pointer("skin", still.skin, (n,)),
        pointer("head", frame.head, (3, 4)),
        pointer("torso", frame.torso, (3, 4)),
        *frame.camera,
        pointer("background", frame.background, (None, None, 3), torch.uint8),
        out.data_ptr(),
    )  # fmt: skip
    if status == native.STATUS_BAD_VALUE:
        raise group_error(frame.weights.shape[0])
    native.check_status(status, "weights, head or torso")
    return out
