"""Intervals and detectable effects for means over tasks.

Tasks are the unit that is resampled: samples and split seeds are averaged within a task first. The resamples
of a bank are drawn once and used for every statistic on it, which pairs all comparisons between models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value with its two-sided interval; each a float64 array of one shape (or a scalar)."""

    value: Array
    low: Array
    high: Array


def resample(tasks: int, resamples: int, rng: np.random.Generator) -> Array:
    """Bootstrap weights: how often each resample drew each task, as a share.

    Args:
        tasks: T, the number of tasks.
        resamples: R.
        rng: the generator, from `keys.host_rng`.

    Returns:
        [R, T] float64, rows sum to 1.
    """
    draws = rng.integers(tasks, size=(resamples, tasks)) + tasks * np.arange(resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=resamples * tasks)
    return counts.reshape(resamples, tasks) / tasks


def bootstrap_mean(
    values: Array, weights: Array, level: float = 0.95, within: ArrayLike | None = None
) -> Estimate:
    """Mean over tasks with its percentile interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        values: [T, ...] one statistic a task, or several. Differences of models go in as differences.
        weights: [R, T] from `resample`.
        level: coverage of the two-sided interval.
        within: [T] the share of each task that `values` was summed over, for a mean over a part of the tasks
            (sum of values / sum of shares, the ratio estimator); None for a plain mean.

    Returns:
        value, low and high of shape [...]; NaN where no task has a share.
    """
    values = np.asarray(values, np.float64)
    flat = values.reshape(len(values), -1)  # [T, M]
    value, draws = flat.mean(0), weights @ flat  # [M], [R, M]
    if within is not None:
        share = np.asarray(within, np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = flat.sum(0) / share.sum()
            draws = draws / (weights @ share)[:, None]
    draws = draws[~np.isnan(draws).any(axis=1)]  # a resample without any share has no mean
    if len(draws) == 0:
        low = high = np.full_like(value, np.nan)
    else:
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    shape = values.shape[1:]
    return Estimate(value.reshape(shape), low.reshape(shape), high.reshape(shape))


@dataclass(frozen=True)
class Bootstrap:
    """The resamples of every bank and the level of their intervals.

    Attributes:
        weights: bank -> [R, T] from `resample`.
        level: coverage of the two-sided intervals.
    """

    weights: Mapping[str, Array]
    level: float

    def __call__(self, bank: str, values: Array, within: ArrayLike | None = None) -> Estimate:
        """`bootstrap_mean` of values [T, ...] over the bank's tasks."""
        return bootstrap_mean(values, self.weights[bank], self.level, within)


def minimum_detectable_effect(values: Array, level: float = 0.95, power: float = 0.8) -> Array:
    """The true mean that an interval of this level would tell from 0 with this power.

    (z_{(1 + level) / 2} + z_power) * s / sqrt(T), the normal form for a mean of T paired differences.

    Args:
        values: [T, ...] paired differences, one a task, T >= 2.

    Returns:
        [...] float64, in the units of `values`.
    """
    values = np.asarray(values, np.float64)
    standard_error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return (norm.ppf((1 + level) / 2) + norm.ppf(power)) * standard_error
