"""Whether two sides solve tasks equally often: their difference, its interval, and what would have been seen.

Either side goes through everything several times, with draws of its own each time; all see the same tasks.
What sampling and training leave to chance is in the spread of these replicates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from constellation.evaluation.statistics import resample

POWER = 0.8


class Agreement(NamedTuple):
    """The means of both sides over replicates and tasks, and how precisely their difference is known."""

    ours: float
    theirs: float
    half_width: float  # of the interval around ours - theirs; 0 where nothing varies
    detectable: float  # the least true difference whose interval leaves out 0 with probability POWER

    @property
    def difference(self) -> float:
        return self.ours - self.theirs


def agreement(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    level: float,
    resamples: int,
    rng: np.random.Generator,
) -> Agreement:
    """The difference with the wider of two intervals, which are symmetric around it.

    One has the standard error of a bootstrap that resamples the tasks, the same for both sides, and each
    side's replicates, independently of each other (Owen & Eckles 2012, arXiv 1106.2125: mildly conservative).
    The other is Student's for two samples of one variance, the replicates' means, of which few bootstrap too
    narrow an interval.

    Args:
        ours, theirs: [R, T] one statistic of each task in each replicate; at least two replicates a side.
        level: coverage of the interval.
        resamples: of the bootstrap.
    """
    over_tasks = resample(ours.shape[1], resamples, rng)  # [B, T]

    def resampled_means(side: NDArray[np.float64]) -> NDArray[np.float64]:
        over_replicates = resample(len(side), resamples, rng)  # [B, R]
        return ((over_replicates @ side) * over_tasks).sum(1)

    bootstrap = float(np.std(resampled_means(ours) - resampled_means(theirs), ddof=1))
    sides = (ours.mean(1), theirs.mean(1))
    freedom = sum(len(side) - 1 for side in sides)
    variance = sum(((side - side.mean()) ** 2).sum() for side in sides) / freedom
    student = float(np.sqrt(variance * sum(1 / len(side) for side in sides)))
    upper = (1 + level) / 2
    half_width, error = max(
        (norm.ppf(upper) * bootstrap, bootstrap), (t.ppf(upper, freedom) * student, student)
    )
    return Agreement(
        float(ours.mean()),
        float(theirs.mean()),
        float(half_width),
        float(half_width + norm.ppf(POWER) * error),
    )
