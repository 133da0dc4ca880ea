"""The generation-verification gap (2412.02674): what a model's own verification adds to its answers.

J(f) = E_x E_{y ~ f} u(x, y) with u = 1 for a right answer; of f filtered by a verifier g, only answers whose
score reaches a threshold count. gap(f, g) = J(f filtered by g) - J(f); here g is f itself, its score p(yes).
The relative gap is E_x [(E_filtered u - E u) / (1 - E u)] over the problems with E u < 1. That paper B means
this gap is an inference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from constellation.samples import SampleSet

Array = NDArray[np.float64]


def gap(utility: Array, scores: Array, threshold: Array) -> Array:
    """[T] what filtering adds for each problem: utility and scores are [T, n], thresholds [T] or [].

    A problem none of whose answers reaches the threshold keeps them all.
    """
    kept = scores >= np.broadcast_to(threshold, scores.shape[:1])[:, None]
    kept |= ~kept.any(1, keepdims=True)
    filtered: Array = (utility * kept).sum(1) / kept.sum(1)
    return filtered - utility.mean(1)


def quantile_gap(samples: SampleSet, verification: Array, quantile: float) -> Array:
    """[T] the gap where an answer has to reach this quantile of its problem's scores."""
    scores = scores_of(samples, verification)
    return gap(samples.per_sample(samples.right).astype(float), scores, np.quantile(scores, quantile, axis=1))


def threshold_gap(samples: SampleSet, verification: Array, threshold: float) -> Array:
    """[T] the gap where p(yes) has to reach a threshold, for all problems alike."""
    utility = samples.per_sample(samples.right).astype(float)
    return gap(utility, scores_of(samples, verification), np.array(threshold))


def relative(gap: Array, utility: Array) -> tuple[Array, Array]:
    """The relative gap as a sum and as what it is divided by, each [...]: the mean is the ratio of both."""
    counted = utility < 1
    return np.where(counted, gap / np.where(counted, 1 - utility, 1), 0.0), counted.astype(float)


def scores_of(samples: SampleSet, verification: Array) -> Array:
    """[T, n] p(yes) of every sample; 0 of one that came to no end, which nobody was asked about."""
    return samples.per_sample(np.nan_to_num(verification, nan=0.0))
