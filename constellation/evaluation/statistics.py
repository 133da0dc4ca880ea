"""Intervals, p-values and detectable effects for means over trajectories crossed with tasks.

Every trajectory meets the same tasks, so a statistic is a table [K, T]. Samples and split seeds are averaged
within a cell; then trajectories and tasks are resampled independently of each other (Owen 2007, The
pigeonhole bootstrap, arXiv 0712.1111). Few trajectories make the bootstrap too narrow, by (K - 1) / K in the
variance, so a Student t interval over the trajectories' own means is computed as well. *The wider interval
decides*, and the larger of the p-values. With one trajectory tasks alone are resampled.

The resamples are drawn once and used for every statistic, which pairs all comparisons between models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm
from scipy.stats import t as student

Array = NDArray[np.float64]
ROUNDING = 1e-12  # a resampled mean nearer to 0 counts as 0: such a rest depends on the order of a sum
COLUMNS = 64  # statistics resampled at a time: memory of 8 R K COLUMNS bytes, 41 MB at R = 10,000 and K = 8


class Estimate(NamedTuple):
    """A value with its uncertainty; each a float64 array of one shape.

    `low` and `high` are the ends of the two-sided interval, `lower` and `upper` one-sided bounds of the same
    level, `p_above` and `p_below` one-sided p-values of the claims value > 0 and value < 0.
    """

    value: Array
    low: Array
    high: Array
    lower: Array
    upper: Array
    p_above: Array
    p_below: Array

    def at(self, *index: int) -> Estimate:
        return Estimate(*(np.asarray(part)[index] for part in self))

    def p_two_sided(self) -> Array:
        return np.minimum(1, 2 * np.minimum(self.p_above, self.p_below))


def resample(units: int, resamples: int, rng: np.random.Generator) -> Array:
    """[R, U] bootstrap weights: the share of each resample's draws that fell on each unit; rows sum to 1."""
    draws = rng.integers(units, size=(resamples, units)) + units * np.arange(resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=resamples * units)
    return counts.reshape(resamples, units) / units


@dataclass(frozen=True)
class Bootstrap:
    """The resamples of the trajectories and of every bank's tasks, and the level of what is made of them."""

    trajectories: Array  # [R, K]
    tasks: Mapping[str, Array]  # bank -> [R, T]
    level: float  # coverage of the two-sided intervals, and of the one-sided bounds

    def first_trajectories(self, trajectories: int, rng: np.random.Generator) -> Bootstrap:
        """The resamples of the first trajectories, which are drawn anew, and of the same tasks as before."""
        if trajectories == self.trajectories.shape[1]:
            return self
        return replace(self, trajectories=resample(trajectories, len(self.trajectories), rng))

    def __call__(self, bank: str, values: Array, within: ArrayLike | None = None) -> Estimate:
        """The mean over trajectories and tasks of values [K, T, ...], as arrays [...].

        To compare models, `values` are their differences. For a mean over a part of the tasks, `within`, [T]
        or [K, T], is the share of each task that `values` was summed over (the ratio estimator: sum of values
        / sum of shares); the mean is NaN where no task has a share.
        """
        values = np.asarray(values, np.float64)
        if within is None:
            return wider(*self.both(bank, values))
        flat = values.reshape(*values.shape[:2], -1)
        share = np.broadcast_to(np.asarray(within, np.float64), values.shape[:2])[..., None]
        summed = np.concatenate([flat, share], axis=2)
        ratio = self.transformed(bank, summed, lambda means: means[..., :-1] / means[..., -1:])
        return Estimate(*(part.reshape(values.shape[2:]) for part in ratio))

    def transformed(self, bank: str, values: Array, function: Callable[[Array], Array]) -> Estimate:
        """A smooth function, such as a ratio or a logit, of the means of values [K, T, ...].

        It maps means [R, ...] to one result for each of the R, without mixing them. Resamples in which it is
        not finite are left out; where the estimate itself is not finite, everything is NaN.
        """
        return wider(*self.both(bank, values, function))

    def both(
        self, bank: str, values: Array, function: Callable[[Array], Array] = lambda means: means
    ) -> tuple[Estimate, Estimate | None]:
        """The bootstrap's estimate and Student's over the trajectories; `transformed` takes the wider.

        The second is None with one trajectory, and where the estimate is not finite.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            value = function(values.mean((0, 1))[None])[0]
            each = function(values.mean(1))  # [K, ...]
            draws = function(self.draws(bank, values))  # [R, ...]
        draws = draws[np.isfinite(draws.reshape(len(draws), -1)).all(1)]
        if len(draws) == 0 or not np.isfinite(value).all():
            return Estimate(*(np.full_like(value, np.nan) for _ in range(7))), None
        low, high, lower, upper = np.quantile(
            draws, [(1 - self.level) / 2, (1 + self.level) / 2, 1 - self.level, self.level], axis=0
        )
        # Davison & Hinkley 1997, equation 4.11: the observed study counts as one of the resamples
        p_above = (1 + (draws <= ROUNDING).sum(0)) / (1 + len(draws))
        p_below = (1 + (draws >= -ROUNDING).sum(0)) / (1 + len(draws))
        boot = Estimate(value, low, high, lower, upper, p_above, p_below)
        return boot, student_t(value, each, self.level) if len(each) > 1 else None

    def draws(self, bank: str, values: Array) -> Array:
        """[R, ...] the mean of values [K, T, ...] in each resample: sum over k and t of w_k w_t v_kt."""
        trajectories, tasks = values.shape[:2]
        flat = np.asarray(values, np.float64).reshape(trajectories, tasks, -1)  # [K, T, M]
        result = np.empty((len(self.trajectories), flat.shape[2]))
        for start in range(0, flat.shape[2], COLUMNS):
            some = slice(start, start + COLUMNS)
            columns = flat[:, :, some].swapaxes(0, 1).reshape(tasks, -1)  # [T, K * m]
            of_trajectories = (self.tasks[bank] @ columns).reshape(len(result), trajectories, -1)
            result[:, some] = np.einsum("rk,rkm->rm", self.trajectories, of_trajectories)
        return result.reshape(-1, *values.shape[2:])


def student_t(value: Array, each: Array, level: float) -> Estimate:
    """The estimate `value` [...] with Student's t intervals, from `each` [K, ...] of K >= 2 trajectories."""
    freedom = len(each) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        error = each.std(axis=0, ddof=1) / np.sqrt(len(each))  # NaN where a trajectory has no finite value
        ratio = value / error  # NaN where all trajectories are at 0: the bootstrap decides
    reach, bound = (student.ppf(q, freedom) * error for q in ((1 + level) / 2, level))
    ends = value - reach, value + reach, value - bound, value + bound
    return Estimate(value, *ends, student.sf(ratio, freedom), student.cdf(ratio, freedom))


def wider(one: Estimate, other: Estimate | None) -> Estimate:
    """The wider interval with its bounds and the larger p-values, entry by entry; `one` if `other` is NaN."""
    if other is None:
        return one
    second = other.high - other.low > one.high - one.low
    chosen = [np.where(second, b, a) for a, b in zip(one[1:5], other[1:5], strict=True)]
    larger = [np.fmax(a, b) for a, b in zip(one[5:], other[5:], strict=True)]
    return Estimate(one.value, *chosen, *larger)


class Components(NamedTuple):
    """Variances of y_kt = mean + trajectory_k + task_t + residual_kt, crossed; [...] float64 each."""

    trajectories: Array
    tasks: Array
    residual: Array


def variance_components(values: Array) -> Components:
    """The method of moments of a two-way layout without replication (Searle, Casella & McCulloch 1992, 4.4).

    `values` are [K, T, ...] with T >= 2; no variance is below 0. With K = 1 the tasks' variance includes the
    residual, and the others are NaN.
    """
    trajectories, tasks = values.shape[:2]
    if trajectories == 1:
        variance = values[0].var(axis=0, ddof=1)
        return Components(np.full_like(variance, np.nan), variance, np.full_like(variance, np.nan))
    of_trajectories, of_tasks = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    residuals = values - of_trajectories - of_tasks + values.mean((0, 1))
    residual = (residuals**2).sum((0, 1)) / ((trajectories - 1) * (tasks - 1))
    return Components(
        np.maximum(of_trajectories.var(axis=(0, 1), ddof=1) - residual / tasks, 0),
        np.maximum(of_tasks.var(axis=(0, 1), ddof=1) - residual / trajectories, 0),
        residual,
    )


def bootstrap_variance(values: Array) -> Array:
    """The variance of `Bootstrap.draws` of values [K, T, ...] over infinitely many resamples, [...] float64.

    From E[w_k w_k'] = (1 - 1/K + [k = k']) / K^2. It counts the residual up to three times (Owen 2007), so
    the crossed interval errs on the wide side.
    """
    trajectories, tasks = values.shape[:2]
    centred = values - values.mean((0, 1))
    return (
        (1 - 1 / trajectories) * (centred.mean(0) ** 2).sum(0) / tasks**2
        + (1 - 1 / tasks) * (centred.mean(1) ** 2).sum(0) / trajectories**2
        + (centred**2).sum((0, 1)) / (trajectories * tasks) ** 2
    )


def minimum_detectable_effect(values: Array, alpha: float, power: float = 0.8) -> Array:
    """Approximately the true mean that a one-sided test at alpha tells from 0 with this power.

    It is the larger of two, because both tests have to reject: z_{1 - alpha} bootstrap standard errors plus
    z_power standard errors from the variance components; and t_{1 - alpha} + t_power standard errors of the
    trajectories' means, with K - 1 degrees of freedom. `values` are differences [K, T, ...] with T >= 2 of a
    study of the same design; the effect is in their units.
    """
    values = np.asarray(values, np.float64)
    trajectories, tasks = values.shape[:2]
    found = variance_components(values)
    variance = found.tasks / tasks
    if trajectories > 1:
        variance = variance + found.trajectories / trajectories + found.residual / (trajectories * tasks)
    bound = norm.ppf(1 - alpha) * np.sqrt(bootstrap_variance(values))
    effect = bound + norm.ppf(power) * np.sqrt(variance)
    if trajectories == 1:
        return effect
    error = values.mean(1).std(axis=0, ddof=1) / np.sqrt(trajectories)
    quantiles = student.ppf([1 - alpha, power], trajectories - 1)
    return np.maximum(effect, quantiles.sum() * error)


def holm(p_values: Sequence[float] | Array) -> Array:
    """Adjusted p-values of Holm's step-down test (1979), which controls the family-wise error.

    The i-th smallest of m becomes max over j <= i of (m - j + 1) p_(j), at most 1.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    return np.minimum(stepped, 1)[np.argsort(order)]
