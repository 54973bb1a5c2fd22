"""Small perceptrons for CUDA tensors: checks, outputs and scratch memory, then a call of the native library, as in
`cuda_kernels`. Nothing waits for the device."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from avatarfit.ops import native_cuda
from avatarfit.ops._checks import pointer


def _arguments(x: Tensor, parameters: Tensor, widths: Sequence[int]) -> tuple[object, ...]:
    return (
        pointer("x", x, (None, widths[0]), device=x.device), len(x),
        (ctypes.c_int32 * len(widths))(*widths), len(widths) - 1,
        pointer("parameters", parameters, (None,), device=x.device),
    )  # fmt: skip


def fused_mlp(x: Tensor, parameters: Tensor, widths: Sequence[int]) -> Tensor:
    """Kernel of `avatarfit::fused_mlp`."""
    out = x.new_empty(len(x), widths[-1])
    native_cuda.call("af_cuda_fused_mlp", x.device, *_arguments(x, parameters, widths), out.data_ptr())
    return out


def fused_mlp_backward(
    grad: Tensor, x: Tensor, parameters: Tensor, widths: Sequence[int], want_x: bool, want_parameters: bool
) -> tuple[Tensor, Tensor]:
    """Kernel of `avatarfit::fused_mlp_backward`."""
    device = x.device
    grad_x = torch.empty_like(x) if want_x else x.new_empty(0)
    grad_parameters = torch.empty_like(parameters) if want_parameters else parameters.new_empty(0)
    given = _arguments(x, parameters, widths)
    size = native_cuda.load().af_cuda_fused_mlp_workspace(len(x), given[2], given[3])
    workspace = native_cuda.scratch(size, device)
    native_cuda.call(
        "af_cuda_fused_mlp_backward", device, *given,
        pointer("grad", grad, (len(x), widths[-1]), device=device),
        grad_x.data_ptr() if want_x else None,
        grad_parameters.data_ptr() if want_parameters else None,
        workspace.data_ptr(),
    )  # fmt: skip
    return grad_x, grad_parameters
