"""The same scene through gsplat (Ye et al. 2025), where it is installed: a yardstick for speed and pictures.

The only importer of gsplat. Its rules differ a little from `rasterise`'s (which splats are too small or too far
outside, the highest alpha of one splat), so pictures agree nearly, not bit for bit. Not yet run on a GPU.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

import torch
from torch import Tensor

from avatarfit.contracts import BackendError
from avatarfit.ops import layout, native_cuda
from avatarfit.ops._checks import check
from avatarfit.ops.project import rotation_matrices


def describe() -> str:
    """What would be used, in words.

    Raises:
        BackendError: gsplat is not installed or there is no GPU.
    """
    if importlib.util.find_spec("gsplat") is None:
        raise BackendError(
            "gsplat is not installed", "gsplat 1.5 or newer", "run pip install avatarfit[gpu] on a machine with a GPU"
        )
    return f"gsplat {importlib.metadata.version('gsplat')} on {native_cuda.device_name()}"


def render_gsplat(
    attributes: Tensor,  # [N, 14]
    skin: Tensor,  # [N]
    head: Tensor,  # [3, 4]
    torso: Tensor,  # [3, 4]
    focal_px: float,
    center_x_px: float,
    center_y_px: float,
    width_px: int,
    height_px: int,
) -> Tensor:
    """What `rasterise(project(...))` draws, drawn by `gsplat.rasterization`.

    Args: as `project`, all tensors float32 on one CUDA device.

    Returns:
        [H, W, 4]: premultiplied rgb, then alpha. Differentiable as far as gsplat is.

    Raises:
        BackendError: gsplat is not installed, there is no GPU, or the tensors are not on it.
        ValueError: a shape does not fit.
    """
    check("attributes", attributes, (None, layout.ATTRIBUTE_COUNT), torch.float32)
    check("skin", skin, (attributes.shape[0],), torch.float32)
    means, covariances = skinned(attributes, skin, head, torso)
    camera = (focal_px, center_x_px, center_y_px, width_px, height_px)
    return render_gsplat_at_rest(attributes, *camera, means=means, covariances=covariances)


def render_gsplat_at_rest(
    attributes: Tensor,  # [N, 14]
    focal_px: float,
    center_x_px: float,
    center_y_px: float,
    width_px: int,
    height_px: int,
    *,
    means: Tensor | None = None,  # [N, 3]
    covariances: Tensor | None = None,  # [N, 3, 3]
) -> Tensor:
    """`render_gsplat` of Gaussians that no pose moves: gsplat's own kernels alone, for a fair race.

    Args: as `render_gsplat`; means and covariances, where given, are taken in place of the attributes'.

    Returns, raises: as `render_gsplat`.
    """
    describe()
    check("attributes", attributes, (None, layout.ATTRIBUTE_COUNT), torch.float32)
    if attributes.device.type != "cuda":
        raise BackendError(f"attributes came on {attributes.device}", "tensors on cuda", "move them with .cuda()")
    import gsplat

    intrinsics = attributes.new_tensor([[focal_px, 0, center_x_px], [0, focal_px, center_y_px], [0, 0, 1]])
    rgb, alpha, _ = gsplat.rasterization(
        means=attributes[:, layout.MEAN] if means is None else means,
        quats=attributes[:, layout.QUATERNION],
        scales=attributes[:, layout.LOG_SCALE].exp(),
        opacities=attributes[:, layout.OPACITY_LOGIT].sigmoid(),
        colors=attributes[:, layout.RGB],
        viewmats=torch.eye(4, device=attributes.device)[None],
        Ks=intrinsics[None],
        width=width_px,
        height=height_px,
        near_plane=layout.NEAR_CM,
        eps2d=layout.DILATION_PX2,
        packed=False,
        covars=covariances,
    )
    return torch.cat([rgb[0], alpha[0]], -1)


def skinned(attributes: Tensor, skin: Tensor, head: Tensor, torso: Tensor) -> tuple[Tensor, Tensor]:
    """Means [N, 3] and covariances [N, 3, 3] in the camera's frame, as `project` has them before its projection."""
    matrix = skin[:, None, None] * head + (1 - skin)[:, None, None] * torso
    means = (matrix[:, :, :3] @ attributes[:, layout.MEAN, None])[:, :, 0] + matrix[:, :, 3]
    scaled = rotation_matrices(attributes[:, layout.QUATERNION]) * attributes[:, None, layout.LOG_SCALE].exp()
    root = matrix[:, :, :3] @ scaled
    return means, root @ root.transpose(1, 2)
