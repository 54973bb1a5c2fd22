from __future__ import annotations

import numpy as np
import pytest

from avatarfit.capture.block_solver import solve_block_pentadiagonal


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_it_solves_what_the_dense_matrix_says(count: int) -> None:
    rng = np.random.default_rng(count)
    n = 3
    diagonal = rng.normal(size=(count, n, n))
    diagonal = diagonal @ diagonal.transpose(0, 2, 1) + 12 * np.eye(n)
    first, second = rng.normal(size=(2, count, n, n))
    right = rng.normal(size=(count, n))
    dense = np.zeros((count, n, count, n))
    for t in range(count):
        dense[t, :, t] = diagonal[t]
        for step, block in ((1, first), (2, second)):
            if t + step < count:
                dense[t, :, t + step] = block[t]
                dense[t + step, :, t] = block[t].T
    expected = np.linalg.solve(dense.reshape(count * n, count * n), right.ravel()).reshape(count, n)
    np.testing.assert_allclose(solve_block_pentadiagonal(diagonal, first, second, right), expected, atol=1e-12)
