"""The operations as they are called, autograd included, on every device there is, against the float64 reference."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import Frame, Gaussians
from avatarfit.ops.frame_graph import FrameGraph, own_inputs


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: not run")
        ops.choose("cuda")  # a GPU without the kernels is a failure, not a skip
    return str(request.param)


def random_tensors(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(*s, generator=random, dtype=torch.float64) for s in shapes]


@pytest.mark.parametrize(("count", "bases", "groups"), [(1, 1, 1), (1000, 12, 3), (9, 20, 100), (300, 0, 2)])
def test_blend(device, relative_error, count, bases, groups):
    base, deltas, weights, chosen = random_tensors(count, (count, 14), (count, bases, 14), (groups, bases), (count, 14))
    group = torch.randint(0, groups, (count,), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    results = []
    for dtype, backend, there in ((torch.float64, "reference", "cpu"), (torch.float32, device, device)):
        inputs = [t.to(there, dtype).clone().requires_grad_() for t in (base, deltas, weights)]
        out = ops.blend(*inputs, group.to(there), backend=backend)
        (out * chosen.to(there, dtype)).sum().backward()
        alone = ops.blend_weights_grad(inputs[1], chosen.to(there, dtype), group.to(there), groups, backend=backend)
        results.append([t.detach().cpu() for t in (out, *(t.grad for t in inputs), alone)])
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 2e-6


@pytest.mark.parametrize("count", [1, 300, 3001])
def test_project(device, scene, relative_error, count):
    made = scene(count, count, 53, 67)
    (chosen,) = random_tensors(1, (count, 10))
    results = []
    for dtype, backend, there in ((torch.float64, "reference", "cpu"), (torch.float32, device, device)):
        inputs = [t.detach().to(there).requires_grad_() for t in made.inputs(dtype)]
        splats = ops.project(*inputs, *made.camera, backend=backend)
        (splats * chosen.to(there, dtype)).sum().backward()
        results.append([t.detach().cpu() for t in (splats, *(t.grad for t in inputs))])
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 5e-6


@pytest.mark.parametrize(
    ("count", "height", "width", "log_scale"),
    [(800, 64, 64, -1.0), (3000, 101, 67, -0.5), (200, 3, 5, 0.0), (900, 61, 90, 0.8), (0, 4, 4, 0.0)],
)
def test_rasterise(device, scene, relative_error, count, height, width, log_scale):
    made = scene(count, count, height, width, log_scale)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference").detach()
    (chosen,) = random_tensors(4, (height, width, 4))
    results = []
    for dtype, backend, there in ((torch.float64, "reference", "cpu"), (torch.float32, device, device)):
        leaf = splats.to(there, dtype).clone().requires_grad_()
        image = ops.rasterise(leaf, height, width, backend=backend)
        (image * chosen.to(there, dtype)).sum().backward()
        results.append((image.detach().cpu(), torch.zeros_like(splats) if leaf.grad is None else leaf.grad.cpu()))
    (want, want_grad), (got, got_grad) = results
    difference = (got - want).abs()
    assert difference.max() < 1.2 / 255
    assert (difference > 5e-6).double().mean() < 2e-4
    for column in range(9):
        assert relative_error(got_grad[:, column], want_grad[:, column]) < 2e-5, column


@pytest.mark.parametrize(("dimensions", "features", "count"), [(2, 1, 300), (2, 2, 5000), (3, 2, 5000), (3, 5, 1)])
def test_hash_encode(device, encode_scene, relative_error, dimensions, features, count):
    scene = encode_scene(count, ops.HashGrid.between(dimensions, 10, 4, 128, 11), features)
    points, table = (t.float().to(device).requires_grad_() for t in (scene.points, scene.table))
    out = ops.hash_encode(points, table, scene.grid, backend=device)
    out.backward(scene.grad.float().to(device))
    for got, want in zip((out, points.grad, table.grad), scene.reference(torch.float32), strict=True):
        assert relative_error(got.detach().cpu(), want) < 1e-5


def test_many_small_splats_at_a_larger_size(device, scene):
    # More than 8192 splats and several cells: every loop of the tile walk turns.
    made = scene(5, 20000, 150, 200, log_scale=-1.8)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference").detach()
    want = ops.rasterise(splats.double(), 150, 200, backend="reference")
    difference = (ops.rasterise(splats.to(device), 150, 200, backend=device).cpu() - want).abs()
    assert difference.max() < 1.2 / 255
    assert (difference > 5e-6).double().mean() < 2e-4


def test_over_a_picture_and_the_whole_frame(device, scene):
    made = scene(7, 500, 45, 50)
    attributes, skin, head, torso = (t.detach().to(device) for t in made.inputs(torch.float32))
    deltas, weights = (0.05 * t.float().to(device) for t in random_tensors(0, (500, 4, 14), (2, 4)))
    group = torch.randint(0, 2, (500,), generator=torch.Generator().manual_seed(1), dtype=torch.int32).to(device)
    background = torch.randint(0, 256, (45, 50, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    frame = (attributes, deltas, weights, group, skin, head, torso)
    got = ops.render_frame(*frame, *made.camera[:3], background.to(device), backend=device).cpu().int()
    plain = [t.cpu() for t in frame]
    want = ops.render_frame(*plain, *made.camera[:3], background, backend="reference").int()
    assert (got - want).abs().max() <= 1
    assert ((got - want) != 0).double().mean() < 1e-3


def moved(frame: Frame, device: str, half: bool = False) -> Frame:
    still = Gaussians(*(getattr(frame.gaussians, f.name).to(device) for f in fields(Gaussians)))
    still = replace(still, deltas=still.deltas.half()) if half else still
    names = ("weights", "head", "torso", "background")
    return replace(frame, gaussians=still, **{name: getattr(frame, name).to(device) for name in names})


@pytest.mark.parametrize("half", [False, True])
def test_a_batch_is_its_frames_one_by_one(device, make_frames, half):
    sizes = [(500, 12, 2), (0, 2, 1), (3001, 20, 3), (64, 0, 1), (129, 7, 5)]
    frames = [moved(frame, device, half) for frame in make_frames(sizes * 8, 45, 50)]
    together = ops.render_frames(frames, backend=device)
    assert together.shape == (40, 45, 50, 3)
    for frame, picture in zip(frames, together, strict=True):
        assert torch.equal(picture, ops.render_frames([frame], backend=device)[0])
    for frame, picture in list(zip(frames, together, strict=True))[:5]:
        want = ops.render_frames([moved(frame, "cpu")], backend="reference")[0].int()
        difference = (picture.cpu().int() - want).abs()
        assert difference.max() <= 1
        assert (difference != 0).double().mean() < 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 33), (45, 161)])
@pytest.mark.parametrize("over", [False, True])
def test_loss(device, relative_error, height, width, over):
    random = torch.Generator().manual_seed(height)
    shapes = (height, width, 4 if over else 3), (height, width, 3), (height, width), (height, width, 3)
    image, target, weight, background = (torch.rand(*s, generator=random, dtype=torch.float64) for s in shapes)
    results = []
    for dtype, backend, there in ((torch.float64, "reference", "cpu"), (torch.float32, device, device)):
        leaf = image.to(there, dtype).clone().requires_grad_()
        others = [t.to(there, dtype) for t in (target, weight)]
        behind = background.to(there, dtype) if over else None
        loss = ops.l1_dssim(leaf, *others, 0.3, background=behind, backend=backend)
        (3 * loss).backward()
        results.append((loss.detach().cpu(), leaf.grad.cpu()))
    (want, want_grad), (got, got_grad) = results
    assert relative_error(got, want) < 1e-6
    assert relative_error(got_grad, want_grad) < 5e-6


def test_fused_adam(device, relative_error):
    start = [t.float() for t in random_tensors(1, (500, 14), (500, 7, 14), (500, 14), (2, 7))]
    group = torch.randint(0, 2, (500,), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    results = []
    for backend, there in (("reference", "cpu"), (device, device)):
        base, deltas, grad, weights = (t.clone().to(there) for t in start)
        moments = [torch.zeros_like(t) for t in (base, base, deltas, deltas)]
        lr = torch.full((14,), 1e-2, device=there)
        out = [
            ops.blend_adam_step_(
                base, deltas, *moments, grad * s, weights, group.to(there), s, lr, lr, backend=backend
            )
            for s in (1, 2, 3)
        ]  # fmt: skip
        results.append([t.cpu() for t in (base, deltas, *moments, *out)])
    for want, got in zip(*results, strict=True):
        assert relative_error(got, want) < 5e-6


def test_auto_takes_the_devices_own_kernels_and_another_devices_tensor_is_refused(device):
    assert ops.choose("auto", device).name == device
    splats = torch.zeros(1, 10, device=device)
    with pytest.raises(BackendError, match=r"was given a torch\.float64 tensor"):
        ops.rasterise(splats.double(), 4, 4, backend=device)
    if device == "cuda":
        with pytest.raises(BackendError, match=r"was given a torch\.float32 tensor on cpu"):
            ops.rasterise(splats.cpu(), 4, 4, backend="cuda")
        with pytest.raises(BackendError, match="background came on cpu"):
            ops.rasterise_over(splats, torch.zeros(4, 4, 3, dtype=torch.uint8), backend="cuda")


def test_registration_passes_opcheck(device, scene):
    made = scene(9, 40, 16, 18)
    plain = [t.detach().to(device) for t in made.inputs(torch.float32)]
    splats = ops.project(*plain, *made.camera, backend=device)
    leaves = [t.clone().requires_grad_() for t in plain]
    torch.library.opcheck(torch.ops.avatarfit.project.default, (*leaves, *made.camera))
    torch.library.opcheck(torch.ops.avatarfit.rasterise.default, (splats.requires_grad_(), 16, 18))


def test_work_on_a_stream_of_its_own_is_the_same(device, scene):
    if device == "cpu":
        pytest.skip("a CPU has no streams")
    made = scene(3, 3000, 64, 64)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="reference").detach().cuda()
    want = ops.rasterise(splats, 64, 64, backend="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = ops.rasterise(splats, 64, 64, backend="cuda")
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(got, want)


def test_a_frame_graph_draws_what_its_frames_are(device, make_frames):
    frames = [moved(frame, device) for frame in make_frames([(500, 12, 2), (0, 2, 1), (3001, 20, 3)], 45, 50)]
    if device == "cpu":
        with pytest.raises(BackendError, match=r"no CUDA device|not built|frames came on cpu"):
            FrameGraph(frames)
        pytest.skip("NO CUDA DEVICE: no graph was captured or replayed")
    graph = FrameGraph(frames)
    assert torch.equal(graph.draw(frames), ops.render_frames(frames, backend="cuda"))
    for step in (1, 2):
        # New weights and poses, and on the second step new pictures behind; nothing of the last replay may stay.
        changed = [
            replace(f, weights=f.weights * (1 + step), head=f.head + 0.3 * step, torso=f.torso - 0.2) for f in frames
        ]
        if step == 2:
            changed = [replace(f, background=255 - f.background) for f in changed]
        got = graph.draw(changed).clone()
        assert torch.equal(got, ops.render_frames(changed, backend="cuda"))
    # Other work between two replays, in memory that torch gives out again, changes nothing.
    scratch = [torch.full((1 << 20,), 255, dtype=torch.uint8, device="cuda") for _ in range(8)]
    del scratch
    assert torch.equal(graph.replay(), got)
    graph.frames[0].weights.zero_()
    still = replace(changed[0], weights=torch.zeros_like(changed[0].weights))
    assert torch.equal(graph.replay()[0], ops.render_frames([still], backend="cuda")[0])


def test_a_frame_graph_captures_what_comes_before(device, make_frames):
    if device == "cpu":
        pytest.skip("NO CUDA DEVICE: no graph was captured or replayed")
    frames = [moved(frame, device) for frame in make_frames([(500, 12, 2), (60, 4, 2)], 45, 50)]
    code = torch.ones(2, device=device)
    graph = FrameGraph(frames, before=lambda own: [f.weights.fill_(0.1).mul_(code[i]) for i, f in enumerate(own)])
    for number in (1.0, 2.0):
        code.fill_(number)
        want = [replace(f, weights=torch.full_like(f.weights, 0.1) * number) for f in frames]
        assert torch.equal(graph.replay(), ops.render_frames(want, backend="cuda"))


@pytest.fixture
def stand_in(make_frames) -> tuple[FrameGraph, list[Frame]]:
    """A frame graph without a capture, for which a GPU is needed: its replay draws its inputs on the CPU."""
    frames = make_frames([(50, 4, 2), (60, 4, 2)], 20, 20)
    graph = FrameGraph.__new__(FrameGraph)
    graph.frames, graph.pictures = own_inputs(frames), torch.empty(2, 20, 20, 3, dtype=torch.uint8)
    graph._graph = SimpleNamespace(replay=lambda: graph.pictures.copy_(ops.render_frames(graph.frames, backend="cpu")))
    return graph, frames


def test_a_frame_graphs_inputs_are_its_own_and_take_over_what_is_drawn(stand_in):
    graph, frames = stand_in
    changed = [replace(frames[0], weights=2 * frames[0].weights), replace(frames[1], head=frames[1].head + 0.1)]
    with torch.inference_mode():
        got = graph.draw([replace(f, background=255 - f.background) for f in changed])
    assert torch.equal(got, ops.render_frames([replace(f, background=255 - f.background) for f in changed]))
    again = [replace(own, background=f.background) for own, f in zip(graph.frames, frames, strict=True)]
    assert torch.equal(graph.draw(again), ops.render_frames(changed))
    assert not torch.equal(ops.render_frames(frames), ops.render_frames(changed))


def test_a_frame_graph_refuses_what_it_was_not_captured_for(stand_in):
    graph, frames = stand_in
    with pytest.raises(ValueError, match="1 frames came; wanted 2"):
        graph.draw(frames[:1])
    with pytest.raises(ValueError, match="frame 0 came with other Gaussians or another camera"):
        graph.draw([frames[1], frames[0]])
    with pytest.raises(ValueError, match="frame 1 came with other Gaussians or another camera"):
        graph.draw([frames[0], replace(frames[1], focal_px=9.0)])
    with pytest.raises(ValueError, match=r"weights came with shape \[1, 4\]; wanted \[2, 4\]"):
        graph.draw([replace(frames[0], weights=frames[0].weights[:1]), frames[1]])


def test_a_group_out_of_range_is_told_on_every_device(device, make_frames):
    (frame,) = (moved(frame, device) for frame in make_frames([(50, 4, 2)], 20, 20))
    with pytest.raises(ValueError, match="group came with"):
        ops.render_frames([replace(frame, weights=frame.weights[:1])], backend=device)
    still = frame.gaussians
    with pytest.raises(ValueError, match="group came with"):
        ops.blend(still.base, still.deltas, frame.weights[:1], still.group, backend=device)
