"""A driver's small matrix products are no work for several threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_open = 0
_limits: threadpool_limits | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's and SciPy's products take one thread while any such context is open, in the whole process.

    OpenBLAS keeps its other threads awake for tens of milliseconds after a product, which is for ever at 25 frames a
    second: a core is gone for nothing.
    """
    global _open, _limits
    with _lock:
        if not _open:
            _limits = threadpool_limits(1, user_api="blas")
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if not _open and _limits is not None:
                _limits.restore_original_limits()
