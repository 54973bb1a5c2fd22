"""Skinning and perspective projection of 3-D Gaussians to 2-D splats (EWA splatting: Zwicker et al. 2001)."""

from __future__ import annotations

import torch
from torch import Tensor

from avatarfit.ops import cuda_kernels, layout, native
from avatarfit.ops._checks import check, check_size, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register


def project(
    attributes: Tensor,  # [N, 14]
    skin: Tensor,  # [N] in 0..1
    head: Tensor,  # [3, 4]
    torso: Tensor,  # [3, 4]
    focal_px: float,
    center_x_px: float,
    center_y_px: float,
    width_px: int,
    height_px: int,
    *,
    backend: str = "auto",
) -> Tensor:
    """Move Gaussians by linear blend skinning and project them; the world is the camera's frame.

    `M = skin * head + (1 - skin) * torso`; `x = M[:, :3] mean + M[:, 3]`; the 2-D covariance is
    `J M3 R S S^T R^T M3^T J^T + 0.3 I` with the perspective Jacobian J at x. In J the tangents x/z and y/z are clamped
    to the picture widened by 0.15 of its width (height) on each side; the clamp stops their gradient, the mean's own
    projection is never clamped.

    Args:
        attributes: [N, 14] in the order of `layout`: mean cm, quaternion wxyz (any length), log-scale, logit, rgb.
        skin: [N], 1 follows the head, 0 the torso.
        head, torso: [3, 4] affine maps, rest space to camera, cm.
        focal_px, center_x_px, center_y_px, width_px, height_px: pinhole camera, as `contracts.Camera`.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        splats [N, 10]: mean x y px (pixel centres lie at +0.5), conic a b c, opacity, rgb, depth cm. A Gaussian nearer
        than 1 cm, or whose 3.33-sigma box misses the picture, is culled: (0, 0, 1, 0, 1, 0, 0, 0, 0, -1), no gradient.
        Differentiable in attributes, skin, head and torso.

    Raises:
        ValueError: a shape, dtype, stride or size does not fit, or a pose is not finite (on CUDA what it
            moves is culled then).
        BackendError: the backend cannot take these tensors.
    """
    check("attributes", attributes, (None, layout.ATTRIBUTE_COUNT))
    check("skin", skin, (attributes.shape[0],), attributes.dtype)
    check("head", head, (3, 4), attributes.dtype)
    check("torso", torso, (3, 4), attributes.dtype)
    check_size("width_px", width_px)
    check_size("height_px", height_px)
    if not focal_px > 0:
        raise ValueError(f"focal_px came as {focal_px}; wanted a positive length")
    camera = (float(focal_px), float(center_x_px), float(center_y_px), int(width_px), int(height_px))
    if wants_native(backend, attributes):
        result: Tensor = torch.ops.avatarfit.project(attributes, skin, head, torso, *camera)
        return result
    return project_reference(attributes, skin, head, torso, *camera)


def rotation_matrices(quaternion: Tensor) -> Tensor:
    """[N, 3, 3] of quaternions wxyz [N, 4] of any length; the zero quaternion gives the identity."""
    unit = quaternion * torch.rsqrt((quaternion * quaternion).sum(-1, keepdim=True) + 1e-12)
    w, x, y, z = unit.unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, -1).reshape(-1, 3, 3)


def project_reference(
    attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor,
    focal_px: float, center_x_px: float, center_y_px: float, width_px: int, height_px: int,
) -> Tensor:  # fmt: skip
    """Plain torch twin of `project`, any float dtype."""
    matrix = skin[:, None, None] * head + (1 - skin)[:, None, None] * torso
    linear = matrix[:, :, :3]
    x, y, z = ((linear @ attributes[:, layout.MEAN, None])[:, :, 0] + matrix[:, :, 3]).unbind(-1)
    near_enough = z >= layout.NEAR_CM
    depth = torch.where(near_enough, z, torch.ones_like(z))
    tan_x, tan_y = x / depth, y / depth
    mean_x, mean_y = focal_px * tan_x + center_x_px, focal_px * tan_y + center_y_px
    margin_x, margin_y = layout.TANGENT_MARGIN * width_px, layout.TANGENT_MARGIN * height_px
    jac_x = tan_x.clamp(-(center_x_px + margin_x) / focal_px, (width_px - center_x_px + margin_x) / focal_px)
    jac_y = tan_y.clamp(-(center_y_px + margin_y) / focal_px, (height_px - center_y_px + margin_y) / focal_px)

    rotation = rotation_matrices(attributes[:, layout.QUATERNION])
    square_root = rotation * attributes[:, layout.LOG_SCALE].exp()[:, None, :]
    rows = (focal_px / depth)[:, None, None] * torch.stack(
        [linear[:, 0] - jac_x[:, None] * linear[:, 2], linear[:, 1] - jac_y[:, None] * linear[:, 2]], 1
    )
    first, second = (rows @ square_root).unbind(1)
    plain_xx, plain_yy = (first * first).sum(-1), (second * second).sum(-1)
    cov_xx, cov_yy = plain_xx + layout.DILATION_PX2, plain_yy + layout.DILATION_PX2
    cov_xy = (first * second).sum(-1)
    # |u x v|^2 instead of |u|^2 |v|^2 - (u v)^2: no cancellation, so the determinant stays positive in float32.
    cross = torch.linalg.cross(first, second)
    determinant = (cross * cross).sum(-1) + layout.DILATION_PX2 * (plain_xx + plain_yy) + layout.DILATION_PX2**2

    reach_x, reach_y = layout.SUPPORT_SIGMAS * cov_xx.sqrt(), layout.SUPPORT_SIGMAS * cov_yy.sqrt()
    seen = near_enough & (mean_x + reach_x > 0) & (mean_x - reach_x < width_px)
    seen = seen & (mean_y + reach_y > 0) & (mean_y - reach_y < height_px)
    opacity = torch.sigmoid(attributes[:, layout.OPACITY_LOGIT])
    geometry = [mean_x, mean_y, cov_yy / determinant, -cov_xy / determinant, cov_xx / determinant, opacity]
    splats = torch.cat([torch.stack(geometry, 1), attributes[:, layout.RGB], z[:, None]], 1)
    culled = splats.new_tensor([0, 0, 1, 0, 1, 0, 0, 0, 0, layout.CULLED_DEPTH])
    return torch.where(seen[:, None], splats, culled)


_CAMERA = "float focal_px, float center_x_px, float center_y_px, int width_px, int height_px"
LIBRARY.define(f"project(Tensor attributes, Tensor skin, Tensor head, Tensor torso, {_CAMERA}) -> Tensor")
LIBRARY.define(
    f"project_backward(Tensor grad, Tensor attributes, Tensor skin, Tensor head, Tensor torso, {_CAMERA})"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _pointers(attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor) -> tuple[int, int, int, int, int]:
    n = attributes.shape[0]
    return (
        pointer("attributes", attributes, (n, layout.ATTRIBUTE_COUNT)),
        pointer("skin", skin, (n,)),
        pointer("head", head, (3, 4)),
        pointer("torso", torso, (3, 4)),
        n,
    )


def _project_cpu(
    attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor,
    focal_px: float, center_x_px: float, center_y_px: float, width_px: int, height_px: int,
) -> Tensor:  # fmt: skip
    splats = attributes.new_empty(attributes.shape[0], layout.SPLAT_COUNT)
    status = native.load().af_project(
        *_pointers(attributes, skin, head, torso),
        focal_px, center_x_px, center_y_px, width_px, height_px, splats.data_ptr(),
    )  # fmt: skip
    native.check_status(status, "head or torso")
    return splats


def _project_backward_cpu(
    grad: Tensor, attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor,
    focal_px: float, center_x_px: float, center_y_px: float, width_px: int, height_px: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    pointers = _pointers(attributes, skin, head, torso)
    out = torch.empty_like(attributes), torch.empty_like(skin), torch.empty_like(head), torch.empty_like(torso)
    native.load().af_project_backward(
        *pointers, focal_px, center_x_px, center_y_px, width_px, height_px,
        pointer("grad", grad, (attributes.shape[0], layout.SPLAT_COUNT)), *(t.data_ptr() for t in out),
    )  # fmt: skip
    return out


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs[:4])
    ctx.camera = inputs[4:]


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    grads = torch.ops.avatarfit.project_backward(grad.contiguous(), *ctx.saved_tensors, *ctx.camera)
    return (*grads, None, None, None, None, None)


register(
    "project",
    cpu=_project_cpu,
    cuda=cuda_kernels.project,
    fake=lambda attributes, skin, head, torso, *camera: attributes.new_empty(attributes.shape[0], layout.SPLAT_COUNT),
    setup=_setup,
    backward=_backward,
)
register(
    "project_backward",
    cpu=_project_backward_cpu, cuda=cuda_kernels.project_backward,
    fake=lambda grad, attributes, skin, head, torso, *camera: (
        torch.empty_like(attributes), torch.empty_like(skin), torch.empty_like(head), torch.empty_like(torso),
    ),
)  # fmt: skip
