"""Small multi-layer perceptrons evaluated in one pass (Müller et al. 2021, "Real-time Neural Radiance Caching for Path
Tracing", section 5.2): what lies between two layers never goes to memory.

ReLU after every layer but the last, which is linear. All weights and biases lie in one tensor: for each layer its
weights [out, in], row by row, then its biases [out]. At 0 the slope of ReLU is 0.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from avatarfit.ops import cuda_mlp, native
from avatarfit.ops._checks import check, pointer
from avatarfit.ops.backend import wants_native
from avatarfit.ops.registry import LIBRARY, register

MLP_LAYERS_MAX = 4
MLP_WIDTH_MAX = 128
"""Of the kernels; the reference takes any."""


def fused_mlp(
    x: Tensor,  # [S, widths[0]]
    parameters: Tensor,  # [mlp_parameter_count(widths)]
    widths: Sequence[int],
    *,
    backend: str = "auto",
) -> Tensor:
    """A perceptron of 1 to 4 layers at each row of x.

    Args:
        x: [S, I].
        parameters: [P] in the order above; `mlp_layers` gives views of the single layers.
        widths: (I, H, ..., O): the input's, then each layer's output's, each 1 to 128 for the kernels.
        backend: `auto | reference | cpu | cuda`.

    Returns:
        [S, O]; differentiable once in x and parameters. A row depends on its own row of x alone, to the last bit, and
        the gradients are the same to the last bit for any number of threads.

    Raises:
        ValueError: a shape, dtype or stride does not fit, or the kernels take no such widths.
        BackendError: the backend cannot take these tensors.
    """
    count = mlp_parameter_count(widths)
    check("x", x, (None, widths[0]))
    check("parameters", parameters, (count,), x.dtype)
    if not wants_native(backend, x):
        return fused_mlp_reference(x, parameters, widths)
    if len(widths) > MLP_LAYERS_MAX + 1 or max(widths) > MLP_WIDTH_MAX:
        raise ValueError(
            f"widths came as {tuple(widths)}; wanted at most {MLP_LAYERS_MAX} layers of at most {MLP_WIDTH_MAX}, "
            "or backend 'reference'"
        )
    result: Tensor = torch.ops.avatarfit.fused_mlp(x, parameters, list(widths))
    return result


def fused_mlp_reference(x: Tensor, parameters: Tensor, widths: Sequence[int]) -> Tensor:
    """Plain torch twin of `fused_mlp`, any float dtype and any widths."""
    layers = mlp_layers(parameters, widths)
    for weights, biases in layers[:-1]:
        x = torch.relu(torch.nn.functional.linear(x, weights, biases))
    return torch.nn.functional.linear(x, *layers[-1])


def mlp_parameter_count(widths: Sequence[int]) -> int:
    """P for widths (I, H, ..., O).

    Raises:
        ValueError: there are fewer than two widths, or one is below 1.
    """
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths came as {tuple(widths)}; wanted two or more, each 1 or more")
    return sum((into + 1) * out for into, out in itertools.pairwise(widths))


def mlp_layers(parameters: Tensor, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Views of each layer's weights [out, in] and biases [out]: what is written into them is written into `parameters`.

    Raises:
        ValueError: as `mlp_parameter_count`, or `parameters` is of another length.
    """
    check("parameters", parameters, (mlp_parameter_count(widths),))
    layers, at = [], 0
    for into, out in itertools.pairwise(widths):
        weights = parameters[at : at + out * into].view(out, into)
        at += out * into
        layers.append((weights, parameters[at : at + out]))
        at += out
    return layers


LIBRARY.define("fused_mlp(Tensor x, Tensor parameters, int[] widths) -> Tensor")
LIBRARY.define(
    "fused_mlp_backward(Tensor grad, Tensor x, Tensor parameters, int[] widths, bool want_x, bool want_parameters)"
    " -> (Tensor, Tensor)"
)


@functools.lru_cache(maxsize=64)
def _widths_array(widths: tuple[int, ...]) -> ctypes.Array[ctypes.c_int32]:
    return (ctypes.c_int32 * len(widths))(*widths)


def _arguments(x: Tensor, parameters: Tensor, widths: list[int]) -> tuple[object, ...]:
    return (
        pointer("x", x, (None, widths[0])), len(x), _widths_array(tuple(widths)), len(widths) - 1,
        pointer("parameters", parameters, (None,)),
    )  # fmt: skip


def _fused_mlp_cpu(x: Tensor, parameters: Tensor, widths: list[int]) -> Tensor:
    out = x.new_empty(len(x), widths[-1])
    given = _arguments(x, parameters, widths)
    native.check_status(native.load().af_fused_mlp(native.workspace(), *given, out.data_ptr()))
    return out


def _fused_mlp_backward_cpu(
    grad: Tensor, x: Tensor, parameters: Tensor, widths: list[int], want_x: bool, want_parameters: bool
) -> tuple[Tensor, Tensor]:
    grad_x, grad_parameters = _empty_gradients(x, parameters, want_x, want_parameters)
    status = native.load().af_fused_mlp_backward(
        native.workspace(),
        *_arguments(x, parameters, widths),
        pointer("grad", grad, (len(x), widths[-1])),
        grad_x.data_ptr() if want_x else None,
        grad_parameters.data_ptr() if want_parameters else None,
    )
    native.check_status(status)
    return grad_x, grad_parameters


def _empty_gradients(x: Tensor, parameters: Tensor, want_x: bool, want_parameters: bool) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(x) if want_x else x.new_empty(0),
        torch.empty_like(parameters) if want_parameters else parameters.new_empty(0),
    )


def _setup(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    x, parameters, ctx.widths = inputs
    ctx.save_for_backward(x, parameters)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    want_x, want_parameters = ctx.needs_input_grad[:2]
    grad_x, grad_parameters = torch.ops.avatarfit.fused_mlp_backward(
        grad.contiguous(), *ctx.saved_tensors, ctx.widths, want_x, want_parameters
    )
    return grad_x if want_x else None, grad_parameters if want_parameters else None, None


register(
    "fused_mlp",
    cpu=_fused_mlp_cpu,
    cuda=cuda_mlp.fused_mlp,
    fake=lambda x, parameters, widths: x.new_empty(len(x), widths[-1]),
    setup=_setup,
    backward=_backward,
)
register(
    "fused_mlp_backward",
    cpu=_fused_mlp_backward_cpu,
    cuda=cuda_mlp.fused_mlp_backward,
    fake=lambda grad, x, parameters, widths, want_x, want_parameters: _empty_gradients(
        x, parameters, want_x, want_parameters
    ),
)
