"""Choosing a backend, the checks before a pointer is passed, and the registration with torch."""

from __future__ import annotations

import ctypes
import math
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avatarfit import ops
from avatarfit.contracts import BackendError
from avatarfit.ops import layout, native
from avatarfit.ops.blend import _seen_groups, check_group

ZEROS = torch.zeros(2, dtype=torch.int32)
NAN = math.nan


def test_auto_says_what_it_took_and_why():
    choice = ops.choose("auto")
    assert choice.name == "cpu"
    assert native.isa() in choice.reason or "threads" in choice.reason
    assert ops.choose("reference").name == "reference"


def test_an_unknown_backend_is_refused():
    with pytest.raises(BackendError, match="unknown"):
        ops.rasterise(torch.zeros(1, 10), 4, 4, backend="gpu")


def test_double_goes_to_the_reference_under_auto_and_is_refused_by_cpu():
    splats = torch.zeros(0, 10, dtype=torch.float64)
    assert ops.rasterise(splats, 2, 2).dtype == torch.float64
    with pytest.raises(BackendError, match=r"float64.*wanted torch.float32"):
        ops.rasterise(splats, 2, 2, backend="cpu")


def test_both_sides_state_the_same_numbers():
    library = native.load()
    names = [n for n in dir(layout) if n.isupper() and isinstance(getattr(layout, n), int | float)]
    compared = 0
    for name in names:
        value = library.af_constant(name.encode())
        if value:
            assert value == pytest.approx(getattr(layout, name), rel=1e-6), name
            compared += 1
    assert compared == 13


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.rasterise(torch.zeros(3, 9), 4, 4), r"splats came with shape \[3, 9\]; wanted \[any, 10\]"),
        (lambda: ops.rasterise(torch.zeros(3, 10), 0, 4), "height_px came as 0"),
        (lambda: ops.rasterise(torch.zeros(10, 3).t(), 4, 4), r"splats came with strides \(1, 3\)"),
        (lambda: ops.rasterise(torch.zeros(3, 20)[:, ::2], 4, 4), "wanted a contiguous tensor"),
        (lambda: ops.rasterise_over(torch.zeros(3, 10), torch.zeros(4, 4, 3)), "background came as torch.float32"),
        (
            lambda: ops.blend(torch.zeros(2, 14), torch.zeros(2, 3, 14), torch.zeros(1, 4), ZEROS),
            r"weights came with shape \[1, 4\]",
        ),
        (
            lambda: ops.blend(torch.zeros(2, 14), torch.zeros(2, 3, 14), torch.zeros(1, 3), ZEROS + 1),
            "group came with a number outside 0..0",
        ),
        (
            lambda: ops.blend(torch.zeros(2, 14), torch.zeros(2, 3, 14), torch.zeros(1, 3), torch.zeros(2)),
            "group came as torch.float32; wanted torch.int32",
        ),
        (
            lambda: ops.project(torch.zeros(2, 14), torch.zeros(3), torch.eye(3, 4), torch.eye(3, 4), 9.0, 1, 1, 4, 4),
            r"skin came with shape \[3\]",
        ),
        (
            lambda: ops.l1_dssim(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), torch.zeros(4, 4), 0.2),
            "sum that is not positive",
        ),
        (
            lambda: ops.l1_dssim(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), torch.ones(4, 4), 1.2),
            "dssim_fraction came as 1.2",
        ),
        (
            lambda: ops.l1_dssim(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3).double(), torch.ones(4, 4), 0.2),
            "target came as torch.float64",
        ),
        (
            lambda: ops.l1_dssim(torch.full((4, 4, 3), NAN), torch.zeros(4, 4, 3), torch.ones(4, 4), 0.2),
            "the picture, its target, background or weight came with NaN or infinity",
        ),
        (
            lambda: ops.blend(
                torch.zeros(2, 14).requires_grad_(), torch.zeros(2, 3, 14).half(), torch.zeros(1, 3), ZEROS
            ),
            "deltas came as torch.float16 where a gradient is wanted",
        ),
        (
            lambda: ops.blend(torch.zeros(2, 14), torch.zeros(2, 3, 14), torch.full((1, 3), NAN), ZEROS),
            "weights came with NaN or infinity",
        ),
        (
            lambda: ops.project(
                torch.zeros(2, 14), torch.zeros(2), torch.full((3, 4), -math.inf), torch.eye(3, 4), 9.0, 1, 1, 4, 4
            ),
            "head or torso came with NaN or infinity",
        ),
        (
            lambda: ops.render_frame(
                torch.zeros(2, 14), torch.zeros(2, 3, 14), torch.zeros(1, 3), ZEROS, torch.zeros(2),
                torch.eye(3, 4), torch.full((3, 4), NAN), 9.0, 1, 1, torch.zeros(4, 4, 3, dtype=torch.uint8),
            ),
            "weights, head or torso came with NaN or infinity",
        ),
        (lambda: ops.render_frames([]), "frames came empty; wanted at least one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_before_it_is_computed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"background": torch.zeros(8, 9, 3, dtype=torch.uint8)}, r"background came with shape \[8, 9, 3\]; wanted"),
        ({"background": torch.zeros(8, 8, 3)}, "background came as torch.float32"),
        ({"focal_px": float("nan")}, "focal_px came as nan; wanted a positive length"),
        ({"head": torch.eye(4)}, r"head came with shape \[4, 4\]; wanted \[3, 4\]"),
        ({"weights": torch.zeros(1, 3)}, r"weights came with shape \[1, 3\]"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_frame_that_does_not_fit_the_others_is_told(make_frames, changed, message, backend):
    first, second = make_frames([(5, 2, 2), (6, 4, 2)], 8, 8)
    with pytest.raises(ValueError, match=message):
        ops.render_frames([first, replace(second, **changed)], backend=backend)


def test_group_numbers_are_looked_at_once_a_tensor(monkeypatch):
    looks: list[Tensor] = []
    aminmax = torch.aminmax
    monkeypatch.setattr(torch, "aminmax", lambda group: looks.append(group) or aminmax(group))
    group = torch.tensor([0, 2, 1], dtype=torch.int32)
    for _ in range(3):
        check_group(group, 3)
    with pytest.raises(ValueError, match=r"group came with numbers 0\.\.2; wanted 0\.\.1"):
        check_group(group, 2)
    assert len(looks) == 1
    group[0] = -1
    with pytest.raises(ValueError, match=r"numbers -1\.\.2"):
        check_group(group, 3)
    check_group(group.clone().abs_(), 3)
    assert len(looks) == 3
    with torch.inference_mode():
        unversioned = group.clone()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"numbers -1\.\.2"):
            check_group(unversioned, 3)
    assert len(looks) == 4
    key = id(group)
    assert key in _seen_groups
    looks.clear()
    del group
    assert key not in _seen_groups


def test_an_instruction_set_that_is_missing_is_refused():
    with pytest.raises(BackendError, match=r"instruction set 'mmx' cannot run here; wanted one of .*baseline"):
        native.set_isa("mmx")
    assert "baseline" in native.available_isas()


def test_the_environment_forces_instruction_set_and_threads():
    script = "from avatarfit.ops import native; print(native.isa(), native.threads())"
    environment = {**os.environ, "AVATARFIT_ISA": "baseline", "AVATARFIT_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["baseline", "3"]


def test_a_library_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(native, "ABI_VERSION", -1)
    with pytest.raises(BackendError, match="interface version"):
        native.load.__wrapped__()


def test_a_missing_library_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(native, "LIBRARY_NAME", "libnothing.so")
    with pytest.raises(BackendError, match=r"libnothing.so is in none of .*pip install"):
        native.find_library()


def test_a_library_that_is_no_library_is_refused(monkeypatch, tmp_path):
    fake = tmp_path / "libavatarfit_cpu.so"
    fake.write_bytes(b"not a library")
    monkeypatch.setattr(native, "find_library", lambda: fake)
    with pytest.raises(BackendError, match="does not load"):
        native.load.__wrapped__()


def test_threads_of_the_caller_do_not_disturb_each_other(scene):
    made = scene(4, 600, 48, 48)
    splats = ops.project(*made.inputs(torch.float32), *made.camera, backend="cpu").detach()
    want = ops.rasterise(splats, 48, 48, backend="cpu")
    wrong: list[int] = []

    def work() -> None:
        for i in range(20):
            if not torch.equal(ops.rasterise(splats, 48, 48, backend="cpu"), want):
                wrong.append(i)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_kernels_work_in_a_forked_child():
    script = """
import os, torch
from avatarfit import ops
from avatarfit.ops import native
native.set_threads(2)
splats = torch.tensor([[8.0, 8, 0.1, 0, 0.1, 0.9, 1, 0, 0, 7]])
want = ops.rasterise(splats, 64, 64, backend="cpu")
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(ops.rasterise(splats, 64, 64, backend="cpu"), want) else 1)
print(os.waitpid(child, 0)[1])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "0"


def test_operations_pass_torch_opcheck(scene):
    made = scene(9, 40, 16, 18)
    attributes, skin, head, torso = made.inputs(torch.float32)
    camera = made.camera
    splats = ops.project(attributes, skin, head, torso, *camera).detach()
    deltas, weights = torch.randn(40, 3, 14), torch.randn(2, 3)
    group = torch.randint(0, 2, (40,), dtype=torch.int32)
    image = ops.rasterise(splats, 16, 18)
    picture, target, weight = torch.rand(16, 18, 4), torch.rand(16, 18, 3), torch.rand(16, 18)
    grown = (deltas.clone().requires_grad_(), weights.clone().requires_grad_())
    lr = torch.full((14,), 0.01)
    spaces = torch.ops.avatarfit
    plain = attributes.detach()
    cases = [
        (spaces.blend, (attributes, *grown, group)),
        (spaces.blend_backward, (plain, deltas, weights, group, True, True)),
        (spaces.blend_weights_grad, (deltas, plain, group, 2)),
        (spaces.project, (attributes, skin, head, torso, *camera)),
        (spaces.project_backward, (splats, plain, skin.detach(), head.detach(), torso.detach(), *camera)),
        (spaces.rasterise, (splats.clone().requires_grad_(), 16, 18)),
        (spaces.rasterise_backward, (torch.rand(16, 18, 4), splats, image)),
        (spaces.rasterise_over, (splats, torch.zeros(16, 18, 3, dtype=torch.uint8))),
        (spaces.l1_dssim, (picture.requires_grad_(), target, weight, target, 0.2, True)),
        (
            spaces.blend_adam_step_,
            (plain.clone(), deltas.clone(), torch.zeros(40, 14), torch.zeros(40, 14), torch.zeros(40, 3, 14),
             torch.zeros(40, 3, 14), plain, weights, group, 1, lr, lr, 0.9, 0.999, 1e-12, 0.0),
        ),
    ]  # fmt: skip
    for operation, arguments in cases:
        torch.library.opcheck(operation.default, arguments)


def test_the_interface_number_is_checked_by_the_library_itself():
    assert ctypes.c_int32(native.load().af_abi_version()).value == native.ABI_VERSION
