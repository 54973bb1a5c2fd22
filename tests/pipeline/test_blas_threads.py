"""Matrix products take one thread; afterwards all is as it was."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from avatarfit.pipeline.blas_threads import one_blas_thread


def threads() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_products_take_one_thread_until_the_last_who_asked_is_done() -> None:
    assert np.eye(2) @ np.eye(2) is not None
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert before
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert set(threads()) == {1}
        second.__exit__(None, None, None)
        assert threads() == before
