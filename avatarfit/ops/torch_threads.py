"""How many threads torch takes while the kernels take theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def torch_threads(most: int) -> Iterator[None]:
    """Torch has at most so many threads meanwhile.

    With one where torch's part is small beside the kernels': its other threads would only wait for them, spinning.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, most))
    try:
        yield
    finally:
        torch.set_num_threads(before)
