"""pass@k: the chance that at least one of k samples is correct (Chen et al. 2021, arXiv 2107.03374)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from constellation.runtime.errors import UserError


def pass_at_k(n: ArrayLike, correct: ArrayLike, k: ArrayLike) -> NDArray[np.float64]:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k) from one pool of n samples, c of them correct.

    Equally the chance that k draws without replacement from n items hit one of c marked ones, which is how
    rarefaction uses it. The arguments broadcast; the result is 0 where c = 0, 1 where n - c < k, and right to
    about 1e-13 elsewhere. A k above n is refused: there no unbiased estimate exists.
    """
    n, c, k = np.broadcast_arrays(n, correct, k)
    if np.any(k > n):
        raise UserError(
            f"pass@{k.max()} needs at least {k.max()} samples a task, there are {n.min()}: "
            "sample more or ask for a smaller k"
        )
    others = n - c - k  # negative: every k-subset holds a correct sample
    # Differences of nearby terms first, so that c = 0 gives exactly 0.
    log_miss = (gammaln(n - c + 1) - gammaln(n + 1)) + (
        gammaln(n - k + 1) - gammaln(np.maximum(others, 0) + 1)
    )
    return np.where(others < 0, 1.0, -np.expm1(log_miss))


def pass_curve(correct: NDArray[np.bool_], ks: Sequence[int]) -> NDArray[np.float64]:
    """[T, len(ks)] pass@k of every task from its n samples, which `correct` [T, n] judges."""
    return pass_at_k(correct.shape[1], correct.sum(1)[:, None], np.asarray(ks))
