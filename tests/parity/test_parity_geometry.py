"""Native kernels against the float64 reference: blending and projection."""

from __future__ import annotations

import pytest
import torch

from avatarfit import ops


@pytest.mark.parametrize("count", [1, 15, 16, 17, 300, 3001])
def test_project_agrees_in_value_and_gradients(isa, scene, relative_error, count):
    # Measured worst (AVX2 and baseline): value 1.2e-7, gradients 7.2e-7 (attributes).
    made = scene(count, count, 53, 67)
    chosen = torch.randn(count, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        inputs = made.inputs(dtype)
        splats = ops.project(*inputs, *made.camera, backend=backend)
        (splats * chosen.to(dtype)).sum().backward()
        results.append([splats.detach(), *(t.grad for t in inputs)])
    assert torch.equal(results[0][0][:, 9] > 0, results[1][0][:, 9] > 0)
    for name, want, got in zip(("splats", "attributes", "skin", "head", "torso"), *results, strict=True):
        assert relative_error(got, want) < 5e-6, name


def test_project_clamped_tangents_agree(isa, scene, relative_error):
    # Wide Gaussians whose centres lie far outside the picture: only their Jacobian is clamped.
    made = scene(5, 200, 40, 40, log_scale=1.2)
    made.attributes[:, :2] *= 2.5
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        inputs = made.inputs(dtype)
        splats = ops.project(*inputs, *made.camera, backend=backend)
        splats[:, :6].sum().backward()
        results.append([splats.detach(), *(t.grad for t in inputs)])
    outside = (results[0][0][:, 0] - 20).abs() > 20 * 1.3
    assert (outside & (results[0][0][:, 9] > 0)).sum() > 10
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 5e-6


def test_reference_projection_passes_finite_differences(scene):
    made = scene(2, 12, 40, 48)
    inputs = made.inputs(torch.float64)
    splats = ops.project(*inputs, *made.camera)
    assert (splats[:, 9] > 0).sum() >= 8
    assert torch.autograd.gradcheck(lambda *t: ops.project(*t, *made.camera), inputs, eps=1e-6, atol=1e-5)


def test_what_is_culled_is_flagged_and_has_no_gradient(isa, scene):
    made = scene(0, 4, 32, 32)
    made.attributes[:, :3] = torch.tensor([[0.0, 0, -90], [0, 0, -59.5], [500, 0, 0], [0, 0, 0]])
    for backend in ("reference", "cpu"):
        inputs = [t.float().detach().requires_grad_() for t in made.inputs(torch.float32)]
        with torch.no_grad():
            inputs[2].copy_(torch.eye(3, 4))
            inputs[2][2, 3] = 60
            inputs[3].copy_(inputs[2])
        splats = ops.project(*inputs, *made.camera, backend=backend)
        splats.sum().backward()
        want = torch.tensor([0, 0, 1, 0, 1, 0, 0, 0, 0, -1.0]).expand(3, 10)
        assert torch.equal(splats[:3].detach(), want)
        assert splats[3, 9] == 60
        assert not inputs[0].grad[:3].any()
        assert inputs[0].grad[3].any()
        assert not inputs[1].grad[:3].any()


def test_gaussian_at_the_axis_projects_to_the_principal_point(isa):
    attributes = torch.zeros(1, 14)
    attributes[0, 3] = 2.0  # any length
    attributes[0, 7:10] = torch.log(torch.tensor([0.5, 0.25, 0.1]))
    matrix = torch.eye(3, 4)
    matrix[2, 3] = 50
    splat = ops.project(attributes, torch.ones(1), matrix, matrix, 100.0, 20.0, 16.0, 40, 32, backend="cpu")[0]
    # sigma_px = focal * sigma / depth = 1 and 0.5; plus the dilation of 0.3 px^2.
    want = torch.tensor([20.0, 16, 1 / 1.3, 0, 1 / 0.55, 0.5, 0, 0, 0, 50])
    torch.testing.assert_close(splat, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("count", "bases", "groups"), [(1, 1, 1), (37, 5, 2), (1000, 12, 3), (600, 20, 1), (300, 0, 2)]
)
def test_blend_agrees_in_value_and_gradients(isa, relative_error, count, bases, groups):
    # Measured worst (AVX2 and baseline): value 1.8e-7, gradients 4.6e-7 (weights).
    random = torch.Generator().manual_seed(count)
    shapes = (count, 14), (count, bases, 14), (groups, bases), (count, 14)
    base, deltas, weights, chosen = (torch.randn(*s, generator=random, dtype=torch.float64) for s in shapes)
    group = torch.randint(0, groups, (count,), generator=random, dtype=torch.int32)
    results = []
    for dtype, backend in ((torch.float64, "reference"), (torch.float32, "cpu")):
        inputs = [t.to(dtype).clone().requires_grad_() for t in (base, deltas, weights)]
        out = ops.blend(*inputs, group, backend=backend)
        (out * chosen.to(dtype)).sum().backward()
        results.append([out.detach(), *(t.grad for t in inputs)])
        weights_grad = ops.blend_weights_grad(inputs[1], chosen.to(dtype), group, groups, backend=backend)
        assert relative_error(weights_grad, inputs[2].grad) < 1e-6
    for name, want, got in zip(("out", "base", "deltas", "weights"), *results, strict=True):
        assert relative_error(got, want) < 2e-6, name


def test_reference_blend_passes_finite_differences():
    inputs = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in ((5, 14), (5, 3, 14), (2, 3))]
    group = torch.tensor([0, 1, 1, 0, 1], dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda *t: ops.blend(*t, group), inputs)
