"""The `avatarfit` namespace of torch.library: one schema per operation, its CPU and CUDA kernels, shape twin and
gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LIBRARY = torch.library.Library("avatarfit", "DEF")


def register(
    name: str,
    *,
    cpu: Callable[..., Any],
    cuda: Callable[..., Any],
    fake: Callable[..., Any],
    setup: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> None:
    """Attach implementations to the operation `avatarfit::name`, whose schema is defined already.

    Args:
        cpu, cuda: kernels for tensors there.
        fake: gives outputs of the right shape and dtype, computing nothing.
        setup, backward: as in `torch.library.register_autograd`; both or neither.
    """
    qualified = f"avatarfit::{name}"
    LIBRARY.impl(name, cpu, "CPU")
    LIBRARY.impl(name, cuda, "CUDA")
    torch.library.register_fake(qualified, fake, lib=LIBRARY)
    if backward is not None:
        torch.library.register_autograd(qualified, backward, setup_context=setup, lib=LIBRARY)
