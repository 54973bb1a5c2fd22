"""The CUDA kernels' own source, run on the CPU by `cuda_on_host`, against the float64 reference.

Every thread, barrier and warp exchange runs. What this cannot show: that a GPU runs them, how fast, and CUB's sort,
which a stable sort stands in for.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.ops import cuda_kernels, native_cuda

EMULATION = Path(__file__).resolve().parent / "cuda_on_host"


def blend_data(count: int, bases: int, groups: int) -> tuple[list[Tensor], Tensor]:
    random = torch.Generator().manual_seed(count)
    shapes = (count, 14), (count, bases, 14), (groups, bases), (count, 14)
    group = torch.randint(0, groups, (count,), generator=random, dtype=torch.int32)
    return [torch.randn(*s, generator=random, dtype=torch.float64) for s in shapes], group


@pytest.mark.parametrize(
    ("count", "bases", "groups"),
    [(1, 1, 1), (37, 5, 2), (1100, 12, 3), (40, 20, 1), (30, 0, 2), (6, 160, 2), (9, 20, 100)],
)
def test_blend_and_its_gradients(emulation, relative_error, count, bases, groups):
    (base, deltas, weights, grad), group = blend_data(count, bases, groups)
    got = cuda_kernels.blend(base.float(), deltas.float(), weights.float(), group)
    assert relative_error(got, ops.blend_reference(base, deltas, weights, group)) < 2e-6
    leaves = deltas.requires_grad_(), weights.requires_grad_()
    ops.blend_reference(base, *leaves, group).backward(grad)
    inputs = grad.float(), deltas.detach().float(), weights.detach().float(), group
    got_deltas, got_weights = cuda_kernels.blend_backward(*inputs, True, True)
    assert relative_error(got_deltas, deltas.grad) < 2e-6
    assert relative_error(got_weights, weights.grad) < 2e-6
    alone = cuda_kernels.blend_weights_grad(inputs[1], inputs[0], group, groups)
    assert torch.equal(alone, got_weights)
    only_deltas, nothing = cuda_kernels.blend_backward(*inputs, True, False)
    assert torch.equal(only_deltas, got_deltas)
    assert nothing.numel() == 0


def test_a_group_out_of_range_gives_nan_in_its_rows_alone(emulation):
    (base, deltas, weights, _), group = blend_data(8, 3, 2)
    group[2], group[5] = 2, -1
    got = cuda_kernels.blend(base.float(), deltas.float(), weights.float(), group)
    assert got.isnan().all(1).tolist() == [i in (2, 5) for i in range(8)]
    assert not got.isnan().any(1)[[0, 1, 3, 4, 6, 7]].any()


@pytest.mark.parametrize(("count", "bases", "groups"), [(1, 1, 1), (300, 12, 3), (70, 5, 2), (5, 20, 90), (4, 0, 1)])
def test_fused_adam_agrees_with_the_reference(emulation, relative_error, count, bases, groups):
    (base, deltas, weights, grad), group = blend_data(count, bases, groups)
    lr = torch.logspace(-4, -2, 14)
    results = []
    for native in (False, True):
        state = [t.float().clone() for t in (base, deltas)]
        state += [torch.zeros_like(state[0]), torch.zeros_like(state[0])]
        state += [torch.zeros_like(state[1]), torch.zeros_like(state[1])]
        out = []
        for step in (1, 2, 3):
            inputs = (grad * step).float(), weights.float(), group, step, lr, 2 * lr
            if native:
                out.append(cuda_kernels.blend_adam_step(*state, *inputs, 0.9, 0.999, 1e-12, 0.1))
            else:
                settings = {"eps": 1e-12, "delta_weight_decay": 0.1, "backend": "reference"}
                out.append(ops.blend_adam_step_(*state, *inputs, **settings))
        results.append([*state, *out])
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 5e-6


@pytest.mark.parametrize(("count", "log_scale"), [(0, 0.0), (1, -0.7), (127, -0.7), (300, 1.2), (1025, -0.7)])
def test_project_and_its_gradients(emulation, scene, relative_error, count, log_scale):
    made = scene(count, count, 53, 67, log_scale)
    made.attributes[: count // 8, :2] *= 2.5
    chosen = torch.randn(count, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = made.inputs(torch.float64)
    want = ops.project(*inputs, *made.camera, backend="reference")
    (want * chosen).sum().backward()
    plain = [t.detach() for t in made.inputs(torch.float32)]
    assert relative_error(cuda_kernels.project(*plain, *made.camera), want.detach()) < 5e-6
    for name, got, leaf in zip(
        ("attributes", "skin", "head", "torso"),
        cuda_kernels.project_backward(chosen.float(), *plain, *made.camera),
        inputs,
        strict=True,
    ):
        assert relative_error(got, leaf.grad) < 5e-6, name


def raster_both(splats: Tensor, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    chosen = torch.randn(height, width, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    leaf = splats.detach().double().clone().requires_grad_()
    image = ops.rasterise(leaf, height, width, backend="reference")
    (image * chosen).sum().backward()
    plain = splats.detach().float()
    got = cuda_kernels.rasterise(plain, height, width)
    return [(image.detach(), leaf.grad), (got, cuda_kernels.rasterise_backward(chosen.float(), plain, got))]


@pytest.mark.parametrize(
    ("count", "height", "width", "log_scale"),
    [
        (60, 37, 53, -1.0),
        (800, 64, 64, -1.0),
        (9000, 40, 35, -1.5),
        (200, 3, 5, 0.0),
        (40, 50, 1, 1.0),
        (400, 61, 90, 0.8),
    ],
)
def test_overlapping_scenes_agree(emulation, scene, relative_error, count, height, width, log_scale):
    # As on the CPU: float32 may fall on the other side of a threshold, and such pixels are counted.
    made = scene(count, count, height, width, log_scale)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference")
    (want, want_grad), (got, got_grad) = raster_both(splats, height, width)
    difference = (got - want).abs()
    assert difference.max() < 1.2 / 255
    assert (difference > 5e-6).double().mean() < 2e-4
    for column in range(9):
        assert relative_error(got_grad[:, column], want_grad[:, column]) < 2e-5, column
    assert not got_grad[:, 9].any()


def test_cells_of_every_size_hold_the_same_splats(emulation, relative_error):
    # More than 1024 cells of 32 pixels: the cells are 64 wide here. Few splats, so that the reference stays quick.
    rows = [[700.0, 15, 1e-4, 0, 2e-3, 0.9, 1, 0, 0, 5], [11.3, 30, 3.0, 0.5, 2.5, 0.99, 0, 1, 0, 4]]
    rows += [[1100.0, 10, 1e-3, 5e-4, 1e-3, 0.8, 0, 0, 1, 3], [90.0, 45, 2e-3, -1.9e-3, 2e-3, 1.0, 1, 1, 0, 6]]
    splats = torch.tensor(rows)
    want = ops.rasterise(splats.double(), 33, 1062, backend="reference")
    assert (cuda_kernels.rasterise(splats, 33, 1062) - want).abs().max() < 5e-6
    assert (cuda_kernels.rasterise(splats, 1056, 1100)[:33, :1062] - want).abs().max() < 5e-6


def test_huge_and_tiny_splats_agree(emulation, relative_error):
    rows = [[20.0, 15, 1e-5, 0, 2e-5, 0.9, 1, 0, 0, 5], [11.3, 7.9, 3.0, 0.5, 2.5, 0.99, 0, 1, 0, 4]]
    rows += [[-30.0, 10, 1e-3, 5e-4, 1e-3, 0.8, 0, 0, 1, 3], [5.0, 45, 2e-3, -1.9e-3, 2e-3, 1.0, 1, 1, 0, 6]]
    (want, want_grad), (got, got_grad) = raster_both(torch.tensor(rows, dtype=torch.float64), 31, 42)
    assert (got - want).abs().max() < 5e-6
    assert relative_error(got_grad, want_grad) < 1e-4


def test_rows_that_cannot_be_drawn_are_left_out(emulation):
    good = torch.tensor([[4.0, 4, 0.5, 0, 0.5, 0.7, 1, 1, 1, 5]])
    bad = good.repeat(9, 1)
    bad[0, 9], bad[1, 5], bad[2, 0], bad[3, 2], bad[4, 3] = -1, 0.003, float("nan"), float("inf"), 2.0
    bad[5, 2], bad[6, :2], bad[7, 5], bad[8, 9] = -0.5, 1e6, float("nan"), float("nan")
    splats = torch.cat([bad, good])
    image = cuda_kernels.rasterise(splats, 9, 9)
    assert torch.equal(image, cuda_kernels.rasterise(good, 9, 9))
    grad = cuda_kernels.rasterise_backward(torch.ones(9, 9, 4), splats, image)
    assert not grad[:9].any()
    assert grad[9].any()


def test_ties_in_depth_go_by_index_and_the_front_hides_the_back(emulation):
    pair = torch.tensor([[2.0, 2, 0.1, 0, 0.1, 0.9, 1, 0, 0, 7], [2.0, 2, 0.1, 0, 0.1, 0.9, 0, 1, 0, 7]])
    image = cuda_kernels.rasterise(pair, 4, 4)
    assert image[1, 1, 0] > 5 * image[1, 1, 1]
    wall = torch.tensor([[8.0, 8, 1e-4, 0, 1e-4, 1.0, 1, 0, 0, 5]]).repeat(3, 1)
    behind = torch.tensor([[8.0, 8, 0.01, 0, 0.01, 1.0, 0, 1, 0, 9]])
    with_back = cuda_kernels.rasterise(torch.cat([behind, wall]), 16, 16)
    assert torch.equal(with_back, cuda_kernels.rasterise(wall, 16, 16))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (17, 33)])
def test_no_gaussians_give_nothing(emulation, height, width):
    nothing = torch.zeros(0, 10)
    image = cuda_kernels.rasterise(nothing, height, width)
    assert not image.any()
    assert cuda_kernels.rasterise_backward(image, nothing, image).shape == (0, 10)
    background = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8)
    assert torch.equal(cuda_kernels.rasterise_over(nothing, background), background)


def test_over_a_picture_agrees_with_the_floats(emulation, scene):
    made = scene(6, 300, 45, 50)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference").detach()
    background = torch.randint(0, 256, (45, 50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    got = cuda_kernels.rasterise_over(splats, background).int()
    want = ops.rasterise_over(splats, background, backend="reference").int()
    assert (got - want).abs().max() <= 1
    assert ((got - want) != 0).double().mean() < 1e-3


def test_splats_of_inference_mode_leave_no_bins(emulation, scene):
    with torch.inference_mode():
        splats = torch.tensor([[2.0, 2, 0.1, 0, 0.1, 0.9, 1, 0, 0, 7]])
        image = cuda_kernels.rasterise(splats, 4, 4)
        assert not cuda_kernels._last_bins
        assert cuda_kernels.rasterise_backward(torch.ones(4, 4, 4), splats, image).any()


def test_a_batch_is_its_frames_one_by_one(emulation, make_frames):
    # Every number of Gaussians, bases and groups is another; one frame has no Gaussians, one none in sight,
    # and where a pose or weights are NaN nothing is drawn.
    frames = make_frames([(40, 3, 2), (0, 2, 1), (300, 20, 3), (64, 0, 1), (129, 7, 5)], 45, 50)
    behind = torch.tensor([0.0, 0.0, 0.0, -200.0])
    frames[3] = replace(frames[3], head=frames[3].head + behind, torso=frames[3].torso + behind)
    frames.append(replace(frames[0], head=frames[0].head * torch.nan, torso=frames[0].torso * torch.nan))
    frames.append(replace(frames[2], weights=frames[2].weights * torch.nan))
    together = cuda_kernels.render_frames(frames)
    for frame, picture in zip(frames, together, strict=True):
        assert torch.equal(picture, cuda_kernels.render_frames([frame])[0])
        difference = (picture.int() - ops.render_frames([frame], backend="reference")[0].int()).abs()
        assert difference.max() <= 1
        assert (difference != 0).double().mean() < 1e-3
    drawn = [not torch.equal(picture, f.background) for f, picture in zip(frames, together, strict=True)]
    assert drawn == [True, False, True, False, True, False, False]


def test_more_frames_than_a_launch_takes_arguments(emulation, make_frames):
    # 32 frames fit the arguments of one launch. The same avatar throughout, each frame in a pose of its own.
    (first,) = make_frames([(37, 2, 2)], 9, 20)
    frames = [replace(first, weights=first.weights * (0.05 * i)) for i in range(70)]
    together = cuda_kernels.render_frames(frames)
    assert len({picture.numpy().tobytes() for picture in together}) > 60
    for number in (0, 31, 32, 63, 64, 69):
        assert torch.equal(together[number], cuda_kernels.render_frames([frames[number]])[0])


def test_half_deltas_draw_the_picture_of_their_float_copy(emulation, make_frames):
    (frame,) = make_frames([(300, 5, 3)], 45, 50)
    # Halves of every kind: none, the smallest, those below the normal range, large ones.
    half = frame.gaussians.deltas.half()
    half[:8, 0] = torch.tensor([0.0, -0.0, 2.0**-24, -(2.0**-15), 3e-5, 0.1, -1.0, 2.0], dtype=torch.float16)[:, None]
    pictures = [
        cuda_kernels.render_frames([replace(frame, gaussians=replace(frame.gaussians, deltas=deltas))])
        for deltas in (half, half.float())
    ]
    assert torch.equal(*pictures)
    assert not torch.equal(pictures[0][0], frame.background)
    still = frame.gaussians
    assert torch.equal(*(cuda_kernels.blend(still.base, d, frame.weights, still.group) for d in (half, half.float())))


def test_a_gradient_that_is_not_repeatable_is_refused_where_repeatable_ones_are_asked_for(emulation, scene):
    made = scene(1, 50, 20, 20)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference").detach()
    image = cuda_kernels.rasterise(splats, 20, 20)
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="not repeatable to the last bit"):
            cuda_kernels.rasterise_backward(torch.ones_like(image), splats, image)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_backward_pass_takes_only_bins_of_its_own_splats(emulation, scene, monkeypatch):
    made, other = (scene(seed, 150, 40, 40) for seed in (1, 2))
    splats, others = (
        ops.project(*s.inputs(torch.float32), *s.camera, backend="reference").detach() for s in (made, other)
    )
    seen: list[int] = []
    call = native_cuda.call

    def spy(name: str, device: torch.device, *arguments: object) -> None:
        if name == "af_cuda_rasterise_backward":
            seen.append(int(str(arguments[7])))
        call(name, device, *arguments)

    monkeypatch.setattr(native_cuda, "call", spy)
    image = cuda_kernels.rasterise(splats, 40, 40)
    grad = torch.rand(40, 40, 4)
    reused = cuda_kernels.rasterise_backward(grad, splats, image)
    cuda_kernels.rasterise(others, 40, 40)
    afresh = cuda_kernels.rasterise_backward(grad, splats, image)
    assert torch.equal(reused, afresh)
    cuda_kernels.rasterise(splats, 40, 40)
    splats[:, 5] *= 0.5
    changed = cuda_kernels.rasterise_backward(grad, splats, cuda_kernels.rasterise(splats.clone(), 40, 40))
    assert not torch.equal(changed, reused)
    assert seen == [1, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 3), (11, 11), (40, 33), (17, 70)])
@pytest.mark.parametrize(("fraction", "over"), [(0.0, False), (0.2, True), (1.0, False)])
def test_loss_and_its_gradient(emulation, relative_error, height, width, fraction, over):
    random = torch.Generator().manual_seed(height)
    shapes = (height, width, 4 if over else 3), (height, width, 3), (height, width), (height, width, 3)
    image, target, weight, background = (torch.rand(*s, generator=random, dtype=torch.float64) for s in shapes)
    leaf = image.requires_grad_()
    want = ops.l1_dssim(leaf, target, weight, fraction, background=background if over else None, backend="reference")
    want.backward()
    plain = [t.detach().float() for t in (image, target, weight)]
    behind = background.float() if over else None
    got, grad = cuda_kernels.l1_dssim(*plain, behind, fraction, True)
    assert relative_error(got, want.detach()) < 1e-6
    assert relative_error(grad, leaf.grad) < 5e-6
    alone, nothing = cuda_kernels.l1_dssim(*plain, behind, fraction, False)
    assert torch.equal(alone, got)
    assert nothing.numel() == 0


def test_weights_that_sum_to_nothing_give_nan(emulation):
    image, target = torch.rand(6, 7, 3), torch.rand(6, 7, 3)
    loss, grad = cuda_kernels.l1_dssim(image, target, torch.zeros(6, 7), None, 0.2, True)
    assert loss.isnan()
    assert grad.isnan().all()


def draw_with(**changed: Tensor) -> Tensor:
    still = ops.Gaussians(torch.zeros(3, 14), torch.zeros(3, 2, 14), torch.zeros(3, dtype=torch.int32), torch.zeros(3))
    background = torch.zeros(4, 4, 3, dtype=torch.uint8)
    pose = torch.eye(3, 4)
    return cuda_kernels.render_frames(
        [ops.Frame(replace(still, **changed), torch.zeros(1, 2), pose, pose, 9.0, 2.0, 2.0, background)]
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cuda_kernels.rasterise(torch.zeros(31)[1:].view(3, 10), 4, 4), "splats starts at no multiple of 8"),
        (lambda: cuda_kernels.rasterise(torch.zeros(10, 3).t(), 4, 4), "splats came with strides"),
        (lambda: cuda_kernels.rasterise(torch.zeros(3, 10).double(), 4, 4), "splats came as torch.float64"),
        (lambda: draw_with(deltas=torch.zeros(3, 2, 14).double()), "deltas came as torch.float64"),
        (lambda: draw_with(deltas=torch.zeros(85).half()[1:].view(3, 2, 14)), "deltas starts at no multiple of 4"),
        (lambda: draw_with(skin=torch.zeros(4)), r"skin came with shape \[4\]; wanted \[3\]"),
    ],
)  # fmt: skip
def test_what_a_kernel_could_not_read_is_refused(emulation, call: Callable[[], object], message: str):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_emulation_notices_a_thread_at_another_barrier(tmp_path):
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("NO C++ COMPILER: the emulation was not tried")
    source = tmp_path / "wrong.cpp"
    source.write_text(
        "__global__ void wrong() { if (threadIdx.x == 3) __any_sync(AF_FULL_WARP, 1); else __syncthreads(); }\n"
        "int main() { AF_LAUNCH(wrong, 1, 64, 0, nullptr); }\n"
    )
    command = [compiler, "-std=c++17", "-w", "-include", str(EMULATION / "cuda_on_host.h"), str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "wrong")], check=True)
    done = subprocess.run([str(tmp_path / "wrong")], capture_output=True, text=True, env={**os.environ})
    assert done.returncode != 0
    assert "was not reached by all" in done.stderr


def test_the_interface_number_is_the_librarys(emulation):
    assert ctypes.c_int32(native_cuda.load().af_cuda_abi_version()).value == native_cuda.ABI_VERSION
