from __future__ import annotations

import importlib.util

import pytest
import torch

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import vendor_gsplat


def test_skinned_gaussians_project_to_the_same_splats(scene, relative_error):
    # J cov J^T of what goes to gsplat is the covariance whose inverse `project` gives, but for the dilation.
    made = scene(3, 60, 48, 48)
    inputs = [t.detach() for t in made.inputs(torch.float64)]
    splats = ops.project(*inputs, *made.camera, backend="reference")
    means, covariances = vendor_gsplat.skinned(*inputs)
    inside = (splats[:, 9] > 0) & ((splats[:, :2] - 24).abs().amax(1) < 24)
    assert inside.sum() > 20
    assert relative_error(splats[inside, 9], means[inside, 2]) < 1e-12
    focal, x, y, z = made.camera[0], *means.unbind(1)
    zero = torch.zeros_like(z)
    jacobian = (
        focal / z[:, None, None] * torch.stack([1 + zero, zero, -x / z, zero, 1 + zero, -y / z], 1).reshape(-1, 2, 3)
    )
    inverse = torch.linalg.inv(jacobian @ covariances @ jacobian.mT + 0.3 * torch.eye(2, dtype=torch.float64))
    conics = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], 1)
    assert relative_error(conics[inside], splats[inside, 2:5]) < 1e-9


def test_without_gsplat_it_says_what_to_do(scene, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    made = scene(3, 4, 8, 8)
    with pytest.raises(BackendError, match=r"gsplat is not installed; .*pip install avatarfit\[gpu\]"):
        vendor_gsplat.render_gsplat(*made.inputs(torch.float32), *made.camera)


def test_gsplat_draws_nearly_the_same_picture(scene):
    if not torch.cuda.is_available() or importlib.util.find_spec("gsplat") is None:
        pytest.skip("no CUDA device or no gsplat: not run")
    made = scene(7, 2000, 96, 96)
    inputs = [t.detach().cuda() for t in made.inputs(torch.float32)]
    want = ops.rasterise(ops.project(*inputs, *made.camera, backend="cuda"), 96, 96, backend="cuda")
    difference = (vendor_gsplat.render_gsplat(*inputs, *made.camera) - want).abs()
    assert difference.mean() < 2e-3
