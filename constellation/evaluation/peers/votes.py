"""majority@k: how often the answer that most of k samples give is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from constellation.samples import SampleSet

Array = NDArray[np.float64]


def majority_at_k(samples: SampleSet, k: int) -> Array:
    """[T] the share of groups of k samples whose vote is right, unbiased: an average over disjoint groups.

    Answers vote by what they say; of equally frequent ones each wins with the same probability, and of those
    that say what has won each is handed in with the same. It is right by the exact match, as in pass@k: at
    k = 1 both are the same. Samples without an answer do not vote; a group in which nobody does is wrong.
    """
    tasks, n = samples.program.shape
    groups = n // k
    keys = samples.per_sample(samples.key)[:, : groups * k].reshape(tasks, groups, k)
    right = samples.per_sample(samples.right)[:, : groups * k].reshape(tasks, groups, k)
    same = (keys[..., :, None] == keys[..., None, :]) & (keys >= 0)[..., None]  # [T, g, k, k]
    votes = same.sum(-1)
    wins = (votes == votes.max(-1, keepdims=True)) & (votes > 0)
    # Each of the winning keys counts once, however many samples gave it.
    share = wins / np.maximum(votes, 1)
    won = share.sum(-1)
    hits: Array = (share * right).sum(-1) / np.where(won > 0, won, 1)
    return hits.mean(1)


def budgets(n: int) -> list[int]:
    """The powers of two up to n."""
    return [2**power for power in range(n.bit_length())]


def voters(key: NDArray[np.int_]) -> tuple[Array, Array]:
    """Distinct answers [T] and their entropy [T] in nats, of keys [T, n] where answers say the same."""
    same = (key[:, :, None] == key[:, None, :]).mean(2)  # [T, n] how many say what each says
    return (1 / same / key.shape[1]).sum(1), -np.log(same).mean(1)
