"""Symmetric positive definite systems whose unknowns couple only to near neighbours in time.

Written out because LAPACK's banded Cholesky, as shipped with SciPy, spends seconds in thread hand-overs on blocks this
small.
"""

from __future__ import annotations

import numpy as np


def solve_block_pentadiagonal(
    diagonal: np.ndarray, first: np.ndarray, second: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Solves A x = right where A couples frame t to frames t + 1 and t + 2 only.

    Two frames make one block, which leaves a block-tridiagonal matrix; it is eliminated forward and substituted back
    (Thomas' algorithm on blocks).

    Args:
        diagonal: [T, n, n], symmetric blocks (t, t).
        first: [T, n, n], blocks (t, t + 1); the last is ignored.
        second: [T, n, n], blocks (t, t + 2); the last two are ignored.
        right: [T, n].

    Returns:
        [T, n].
    """
    count, n = right.shape
    pairs = (count + 1) // 2
    main, upper, rhs = np.zeros((pairs, 2 * n, 2 * n)), np.zeros((pairs, 2 * n, 2 * n)), np.zeros((pairs, 2 * n))
    main[:, :n, :n] = diagonal[0::2]
    main[: count // 2, n:, n:] = diagonal[1::2]
    if count % 2:
        main[-1, n:, n:] = np.eye(n)
    within = first[0 : count - 1 : 2]
    main[: len(within), :n, n:] = within
    main[: len(within), n:, :n] = within.transpose(0, 2, 1)
    across = first[1 : count - 1 : 2]
    upper[: len(across), n:, :n] = across
    even, odd = second[0 : max(count - 2, 0) : 2], second[1 : max(count - 2, 0) : 2]
    upper[: len(even), :n, :n] = even
    upper[: len(odd), n:, n:] = odd
    rhs[:, :n] = right[0::2]
    rhs[: count // 2, n:] = right[1::2]

    carried = np.empty((pairs, 2 * n, 2 * n + 1))
    block, value = main[0], rhs[0]
    for k in range(pairs):
        carried[k] = np.linalg.solve(block, np.concatenate([upper[k], value[:, None]], axis=1))
        if k + 1 < pairs:
            block = main[k + 1] - upper[k].T @ carried[k, :, :-1]
            value = rhs[k + 1] - upper[k].T @ carried[k, :, -1]
    out = np.empty((pairs, 2 * n))
    out[-1] = carried[-1, :, -1]
    for k in range(pairs - 2, -1, -1):
        out[k] = carried[k, :, -1] - carried[k, :, :-1] @ out[k + 1]
    return out.reshape(pairs * 2, n)[:count]
