"""The operations for CUDA tensors: checks, outputs and scratch memory from torch, then one call of the native library.

Arguments are those of the operations' schemas. Nothing here waits for the device: what only the device could tell of a
step (weights that sum to nothing, numbers that are not finite) comes back as NaN. Group numbers, which do not change,
are looked at before, once (`blend.check_group`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from avatarfit.ops import native_cuda
from avatarfit.ops._checks import pointer
from avatarfit.ops.frame import Frame
from avatarfit.ops.hash_grid import empty_gradients, grid_arguments
from avatarfit.ops.layout import ATTRIBUTE_COUNT, SPLAT_COUNT

PAIR = 8
"""Rows are read two floats at a time."""
PIXEL = 16
"""Pixels of four channels are read whole."""


def _deltas_pointer(deltas: Tensor, half: bool) -> int:
    dtype = torch.float16 if half else torch.float32
    return pointer("deltas", deltas, tuple(deltas.shape), dtype, deltas.device, multiple_of=PAIR // 2 if half else PAIR)


def _blend_pointers(first: Tensor, deltas: Tensor, group: Tensor, half: bool = False) -> tuple[int, int, int]:
    n, device = deltas.shape[0], deltas.device
    return (
        pointer("base", first, (n, ATTRIBUTE_COUNT), device=device, multiple_of=PAIR),
        _deltas_pointer(deltas, half),
        pointer("group", group, (n,), torch.int32, device=device),
    )


def _blend_scratch(n: int, k: int, groups: int, device: torch.device) -> Tensor:
    return native_cuda.scratch(native_cuda.load().af_cuda_blend_workspace(n, k, groups), device)


def blend(base: Tensor, deltas: Tensor, weights: Tensor, group: Tensor) -> Tensor:
    """Kernel of `avatarfit::blend`."""
    n, k = deltas.shape[:2]
    half = deltas.dtype == torch.float16
    first, second, third = _blend_pointers(base, deltas, group, half)
    out = torch.empty_like(base)
    weights_at = pointer("weights", weights, (None, k), device=deltas.device)
    native_cuda.call(
        "af_cuda_blend", deltas.device, first, second, weights_at, third, n, k, weights.shape[0], half, out.data_ptr()
    )
    return out


def blend_backward(
    grad: Tensor, deltas: Tensor, weights: Tensor, group: Tensor, want_deltas: bool, want_weights: bool
) -> tuple[Tensor, Tensor]:
    """Kernel of `avatarfit::blend_backward`."""
    n, k = deltas.shape[:2]
    groups, device = weights.shape[0], deltas.device
    grad_deltas = torch.empty_like(deltas) if want_deltas else deltas.new_empty(0)
    grad_weights = torch.empty_like(weights) if want_weights else weights.new_empty(0)
    first, second, third = _blend_pointers(grad, deltas, group)
    workspace = _blend_scratch(n, k, groups, device) if want_weights else None
    native_cuda.call(
        "af_cuda_blend_backward", device,
        first, second, pointer("weights", weights, (None, k), device=device), third, n, k, groups,
        grad_deltas.data_ptr() if want_deltas else None,
        grad_weights.data_ptr() if want_weights else None,
        None if workspace is None else workspace.data_ptr(),
    )  # fmt: skip
    return grad_deltas, grad_weights


def blend_weights_grad(deltas: Tensor, grad: Tensor, group: Tensor, group_count: int) -> Tensor:
    """Kernel of `avatarfit::blend_weights_grad`."""
    n, k = deltas.shape[:2]
    out = deltas.new_empty(group_count, k)
    first, second, third = _blend_pointers(grad, deltas, group)
    workspace = _blend_scratch(n, k, group_count, deltas.device)
    native_cuda.call(
        "af_cuda_blend_backward", deltas.device,
        first, second, None, third, n, k, group_count, None, out.data_ptr(), workspace.data_ptr(),
    )  # fmt: skip
    return out


def blend_adam_step(
    base: Tensor, deltas: Tensor, base_first: Tensor, base_second: Tensor, deltas_first: Tensor,
    deltas_second: Tensor, grad_attributes: Tensor, weights: Tensor, group: Tensor, step: int,
    lr_per_attribute: Tensor, delta_lr_per_attribute: Tensor, beta1: float, beta2: float, eps: float,
    delta_weight_decay: float,
) -> Tensor:  # fmt: skip
    """Kernel of `avatarfit::blend_adam_step_`."""
    n, k = deltas.shape[:2]
    groups, device = weights.shape[0], deltas.device
    small, large = (n, ATTRIBUTE_COUNT), (n, k, ATTRIBUTE_COUNT)

    def rows(name: str, tensor: Tensor, shape: tuple[int, ...]) -> int:
        return pointer(name, tensor, shape, device=device, multiple_of=PAIR)

    weights_grad = torch.empty_like(weights)
    workspace = _blend_scratch(n, k, groups, device)
    native_cuda.call(
        "af_cuda_blend_adam_step", device,
        rows("base", base, small), rows("deltas", deltas, large),
        rows("base_first", base_first, small), rows("base_second", base_second, small),
        rows("deltas_first", deltas_first, large), rows("deltas_second", deltas_second, large),
        rows("grad_attributes", grad_attributes, small),
        pointer("weights", weights, (None, k), device=device),
        pointer("group", group, (n,), torch.int32, device=device),
        n, k, groups,
        pointer("lr_per_attribute", lr_per_attribute, (ATTRIBUTE_COUNT,), device=device),
        pointer("delta_lr_per_attribute", delta_lr_per_attribute, (ATTRIBUTE_COUNT,), device=device),
        beta1, beta2, eps, 1 / (1 - beta1**step), (1 - beta2**step) ** -0.5, delta_weight_decay,
        weights_grad.data_ptr(), workspace.data_ptr(),
    )  # fmt: skip
    return weights_grad


def _project_pointers(attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor) -> tuple[int, int, int, int, int]:
    n, device = attributes.shape[0], attributes.device
    return (
        pointer("attributes", attributes, (n, ATTRIBUTE_COUNT), device=device, multiple_of=PAIR),
        pointer("skin", skin, (n,), device=device),
        pointer("head", head, (3, 4), device=device),
        pointer("torso", torso, (3, 4), device=device),
        n,
    )


def project(
    attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor,
    focal_px: float, center_x_px: float, center_y_px: float, width_px: int, height_px: int,
) -> Tensor:  # fmt: skip
    """Kernel of `avatarfit::project`."""
    splats = attributes.new_empty(attributes.shape[0], SPLAT_COUNT)
    native_cuda.call(
        "af_cuda_project", attributes.device, *_project_pointers(attributes, skin, head, torso),
        focal_px, center_x_px, center_y_px, width_px, height_px, splats.data_ptr(),
    )  # fmt: skip
    return splats


def project_backward(
    grad: Tensor, attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor,
    focal_px: float, center_x_px: float, center_y_px: float, width_px: int, height_px: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Kernel of `avatarfit::project_backward`."""
    device = attributes.device
    pointers = _project_pointers(attributes, skin, head, torso)
    grad_at = pointer("grad", grad, (attributes.shape[0], SPLAT_COUNT), device=device, multiple_of=PAIR)
    out = torch.empty_like(attributes), torch.empty_like(skin), torch.empty_like(head), torch.empty_like(torso)
    workspace = native_cuda.scratch(native_cuda.load().af_cuda_project_workspace(attributes.shape[0]), device)
    native_cuda.call(
        "af_cuda_project_backward", device, *pointers, focal_px, center_x_px, center_y_px, width_px, height_px,
        grad_at, *(t.data_ptr() for t in out), workspace.data_ptr(),
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class _Bins:
    """The last forward pass's bins. Holding on to the splats keeps their address from being given to others."""

    splats: Tensor
    version: int
    size: tuple[int, int]
    where: tuple[int, int]
    workspace: Tensor

    def fit(self, splats: Tensor, size: tuple[int, int], where: tuple[int, int]) -> bool:
        """Whether they were made of these very numbers, on this stream."""
        same = self.splats.data_ptr() == splats.data_ptr() and self.splats.shape == splats.shape
        untouched = not splats.is_inference() and self.version == splats._version
        return same and untouched and self.size == size and self.where == where


_last_bins: dict[int, _Bins] = {}
"""By device. Read and replaced whole, as autograd's backward runs in a thread of its own."""


def _raster_scratch(n: int, height_px: int, width_px: int, device: torch.device) -> Tensor:
    return native_cuda.sized_scratch("af_cuda_rasterise_workspace", device, n, height_px, width_px)


def _splats_pointer(splats: Tensor) -> int:
    return pointer("splats", splats, (None, SPLAT_COUNT), device=splats.device, multiple_of=PAIR)


def rasterise(splats: Tensor, height_px: int, width_px: int) -> Tensor:
    """Kernel of `avatarfit::rasterise`; keeps its bins for the backward pass that may follow."""
    device = splats.device
    image = splats.new_empty(height_px, width_px, 4)
    address = _splats_pointer(splats)
    workspace = _raster_scratch(len(splats), height_px, width_px, device)
    native_cuda.call(
        "af_cuda_rasterise", device, address, len(splats), height_px, width_px, image.data_ptr(),
        workspace.data_ptr(), workspace.numel(),
    )  # fmt: skip
    place = native_cuda.where(device)
    if splats.is_inference():
        _last_bins.pop(place[0], None)
    else:
        _last_bins[place[0]] = _Bins(splats.detach(), splats._version, (height_px, width_px), place, workspace)
    return image


def _refuse_where_repeatable(what: str) -> None:
    if torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            f"{what} on CUDA is summed by atomics and not repeatable to the last bit; use the cpu backend, whose is, "
            "or torch.use_deterministic_algorithms(False)"
        )


def rasterise_backward(grad: Tensor, splats: Tensor, image: Tensor) -> Tensor:
    """Kernel of `avatarfit::rasterise_backward`.

    Raises:
        RuntimeError: torch was told to use deterministic algorithms only.
    """
    _refuse_where_repeatable("the gradient of rasterise")
    device = splats.device
    height_px, width_px, _ = image.shape
    place = native_cuda.where(device)
    out = torch.empty_like(splats)
    bins = _last_bins.get(place[0])
    current = bins is not None and bins.fit(splats, (height_px, width_px), place)
    if current and bins is not None:
        workspace = bins.workspace
    else:
        workspace = _raster_scratch(len(splats), height_px, width_px, device)
    shape = (height_px, width_px, 4)
    native_cuda.call(
        "af_cuda_rasterise_backward", device, _splats_pointer(splats), len(splats), height_px, width_px,
        pointer("image", image, shape, device=device, multiple_of=PIXEL),
        pointer("grad", grad, shape, device=device, multiple_of=PIXEL),
        out.data_ptr(), int(current), workspace.data_ptr(), workspace.numel(),
    )  # fmt: skip
    return out


def rasterise_over(splats: Tensor, background: Tensor) -> Tensor:
    """Kernel of `avatarfit::rasterise_over`."""
    device = splats.device
    height_px, width_px, _ = background.shape
    out = torch.empty_like(background)
    workspace = _raster_scratch(len(splats), height_px, width_px, device)
    native_cuda.call(
        "af_cuda_rasterise_over", device, _splats_pointer(splats), len(splats), height_px, width_px,
        pointer("background", background, (height_px, width_px, 3), torch.uint8, device=device), out.data_ptr(),
        workspace.data_ptr(), workspace.numel(),
    )  # fmt: skip
    return out


def _entry(frame: Frame, size: tuple[int, int], device: torch.device) -> native_cuda.FrameEntry:
    still = frame.gaussians
    n, k = still.deltas.shape[:2]
    half = still.deltas.dtype == torch.float16

    def at(name: str, tensor: Tensor, *shape: int | None) -> int:
        return pointer(name, tensor, shape, device=device)

    return native_cuda.FrameEntry(
        pointer("base", still.base, (n, ATTRIBUTE_COUNT), device=device, multiple_of=PAIR),
        _deltas_pointer(still.deltas, half),
        at("weights", frame.weights, None, k),
        pointer("group", still.group, (n,), torch.int32, device),
        at("skin", still.skin, n), at("head", frame.head, 3, 4), at("torso", frame.torso, 3, 4),
        pointer("background", frame.background, (*size, 3), torch.uint8, device),
        n, k, frame.weights.shape[0], half, 0, *frame.camera[:3],
    )  # fmt: skip


def render_frames(frames: Sequence[Frame]) -> Tensor:
    """Frames of one size on one device in one launch of each kernel; uint8 [B, H, W, 3]."""
    device = frames[0].background.device
    height_px, width_px, _ = frames[0].background.shape
    table = (native_cuda.FrameEntry * len(frames))(*(_entry(f, (height_px, width_px), device) for f in frames))
    size = (table, len(frames), height_px, width_px)
    out = torch.empty(len(frames), height_px, width_px, 3, dtype=torch.uint8, device=device)
    workspace = native_cuda.sized_scratch("af_cuda_render_workspace", device, *size)
    native_cuda.call("af_cuda_render_frames", device, *size, out.data_ptr(), workspace.data_ptr(), workspace.numel())
    return out


def l1_dssim(
    image: Tensor, target: Tensor, weight: Tensor, background: Tensor | None, dssim_fraction: float, needs_grad: bool
) -> tuple[Tensor, Tensor]:
    """Kernel of `avatarfit::l1_dssim`."""
    height_px, width_px, channels = image.shape
    device = image.device
    picture = (height_px, width_px, 3)
    loss = image.new_empty(())
    grad = torch.empty_like(image) if needs_grad else image.new_empty(0)
    library = native_cuda.load()
    workspace = native_cuda.scratch(library.af_cuda_l1_dssim_workspace(height_px, width_px, int(needs_grad)), device)
    native_cuda.call(
        "af_cuda_l1_dssim", device,
        pointer("image", image, (height_px, width_px, channels), device=device),
        pointer("target", target, picture, device=device),
        pointer("weight", weight, picture[:2], device=device),
        None if background is None else pointer("background", background, picture, device=device),
        height_px, width_px, dssim_fraction, loss.data_ptr(), grad.data_ptr() if needs_grad else None,
        workspace.data_ptr(),
    )  # fmt: skip
    return loss, grad


def hash_encode(points: Tensor, table: Tensor, resolutions: Sequence[int], offsets: Sequence[int]) -> Tensor:
    """Kernel of `avatarfit::hash_encode`."""
    out = points.new_empty(points.shape[0], len(resolutions) * table.shape[1])
    arguments = grid_arguments(points, table, resolutions, offsets)
    native_cuda.call("af_cuda_hash_encode", points.device, *arguments, out.data_ptr())
    return out


def hash_encode_backward(
    grad: Tensor, points: Tensor, table: Tensor, resolutions: Sequence[int], offsets: Sequence[int],
    want_table: bool, want_points: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Kernel of `avatarfit::hash_encode_backward`.

    Raises:
        RuntimeError: the table's gradient is wanted and torch was told to use deterministic algorithms only.
    """
    if want_table:
        _refuse_where_repeatable("the gradient of hash_encode's table")
    device = points.device
    grad_table, grad_points = empty_gradients(points, table, want_table, want_points)
    shape = (points.shape[0], len(resolutions) * table.shape[1])
    native_cuda.call(
        "af_cuda_hash_encode_backward", device, *grid_arguments(points, table, resolutions, offsets),
        pointer("grad", grad, shape, device=device),
        grad_table.data_ptr() if want_table else None,
        grad_points.data_ptr() if want_points else None,
    )  # fmt: skip
    return grad_table, grad_points
