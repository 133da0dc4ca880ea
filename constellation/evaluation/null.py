"""The null: the start against itself, sent through the same analysis as a round.

Two pseudo-rounds that learned nothing:

- *halvings*: the start's own samples and as many fresh ones are one doubled pool, which is halved at random;
  one half stands for the start and the other for the last round. For a round's gain, and for the second
  difference, each model gets a part of as many samples as the study has of it (all the same where the pool
  does not suffice). What remains is the noise of sampling, under the primary split. Given c correct ones of N
  samples, those of a random part are hypergeometric, so that no sample need be looked at again. The critic's
  part is played by its own scores, permuted among a task's surviving samples.
- *pairs*: the start of one trajectory stands for the round of another, three of them for start, first and
  last round. To the noise of sampling this adds that of another warm start, which an analysis of a single
  trajectory, over tasks alone, knows nothing of; it is this analysis that is put to the test. That of several
  trajectories is in `warm_start_null`.

Either gives the distribution of each statistic without any learning, and the share of pseudo-studies that
reach each verdict: its false-positive rate, at alpha and after Holm's correction over the primary findings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.curves import task_curves
from constellation.evaluation.findings import AMPLIFICATION, COMPOUNDING, INCONCLUSIVE, NO_GAIN, conclude
from constellation.evaluation.gains import SCALES
from constellation.evaluation.ledger import changed, sign_test
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.selectors import cut, pick
from constellation.evaluation.statistics import Bootstrap, Estimate, holm
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults, first
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def nulls(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """{"halvings": {bank: ...}, "pairs": {bank: ...}}: banks with a doubled pool, and the primary one.

    Raises:
        UserError: a half of a pool is too small for large_k.
    """
    banks = sorted({key.bank for key in study.null_pools})
    pooled = study.first_trajectories(first(study.null_pools)) if banks else study
    drawn = bootstrap.first_trajectories(
        pooled.trajectories, host_rng(study.analysis.seed, "bootstrap", "null trajectories")
    )
    primary = [study.analysis.primary_bank] if study.trajectories > 1 else []
    return {
        "halvings": {bank: halvings(pooled, drawn, bank) for bank in banks},
        "pairs": {bank: pairs(study, bootstrap, bank) for bank in primary},
    }


def halvings(study: StudyResults, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """The null of random halvings on one bank."""
    choice = study.analysis
    correct, total, n = doubled(study, bank, study.trajectories)
    if total < 2 * n or choice.large_k > n // 2:
        raise UserError(
            f"the null of pass@{choice.large_k} needs {max(n, 2 * choice.large_k)} samples a task or more of "
            f"{study.start} on the {bank} bank, and as many fresh ones; there are {n} and {total - n}: "
            "sample more or lower evaluation.large_k"
        )
    rng = host_rng(choice.seed, "null", bank)
    before, after = divide(correct, total, [n, n], choice.halvings, rng)  # [S, K, T] each
    ks = [choice.small_k, choice.large_k]
    table = pass_at_k(n, np.arange(n + 1)[:, None], ks)
    change = np.moveaxis(table[after] - table[before], 0, 2)  # [K, T, S, 2]

    def levels(models: Sequence[str]) -> Array:
        """[models, K, T, S] pass@small_k of parts of the pool that stand for these models."""
        sizes = [study.pool_size(bank, model) for model in models]
        sizes = sizes if sum(sizes) <= total else [total // len(sizes)] * len(sizes)
        parts = divide(correct, total, sizes, choice.halvings, rng)
        each = [pass_at_k(size, part, choice.small_k) for size, part in zip(sizes, parts, strict=True)]
        return np.moveaxis(np.array(each), 1, 3)

    second = None
    if len(study.rounds) > 1:
        before_it, between, behind = levels(study.sequence[1:4])
        second = bootstrap(bank, behind - 2 * between + before_it)
    steps, bands = {}, {}
    for one, other in zip(study.sequence[1:], study.rounds, strict=False):
        means = levels((one, other)).mean((1, 2)).T  # [S, 2]
        steps[other] = {name: distribution(scale(means), choice.level) for name, scale in SCALES.items()}
        sizes = n, study.pool_size(bank, other)
        curve_ks = range(1, min(choice.max_k, *sizes) + 1)
        parts = divide(correct, total, sizes, choice.halvings, rng)
        band = curve_band(parts[0], parts[1], sizes, curve_ks, choice.level)
        bands[other] = dict(zip(curve_ks, band, strict=True))
    gained = ((after > 0) & (before == 0)).sum(-1)  # [S, K]
    lost = ((before > 0) & (after == 0)).sum(-1)
    significant = (changed(before, after, n) <= 1 - choice.level).sum(-1)
    return {
        "samples": n,
        **verdicts(bootstrap(bank, change), second, choice, permuted_gains(study, bootstrap, bank)),
        "gains": steps,
        "tasks_gained": distribution(gained, choice.level),
        "tasks_lost": distribution(lost, choice.level),
        "tasks_significantly_changed": distribution(significant, choice.level),
        "sign_test_rate": (sign_test(gained, lost) <= 1 - choice.level).mean(),
        "change_at_k": bands,
    }


def doubled(study: StudyResults, bank: str, trajectories: int) -> tuple[Counts, int, int]:
    """The start's own samples and the fresh ones as one pool, of the first trajectories.

    Returns:
        [K, T] correct ones, the samples a task in the pool, and those of them that are the study's own.
    """
    keys = [SetKey(bank, study.start, study.primary_split, k) for k in range(trajectories)]
    pools = [[study.samples[key], study.null_pools[key]] for key in keys]
    right = [[pool.per_sample(pool.generalises).sum(1) for pool in own] for own in pools]
    return np.sum(right, axis=1), sum(pool.n for pool in pools[0]), pools[0][0].n


def divide(correct: Counts, total: int, sizes: Sequence[int], times: int, rng: np.random.Generator) -> Counts:
    """Draws parts of pools at random and without replacement, repeatedly.

    Args:
        correct: [K, T] correct ones of each pool's `total` samples.
        sizes: samples in each part; what is left over is in none.
        times: S.

    Returns:
        [parts, S, K, T] correct ones in each part.
    """
    left = np.broadcast_to(correct, (times, *correct.shape))
    result = []
    for size in sizes:
        drawn = rng.hypergeometric(left, total - left, size)
        left, total = left - drawn, total - size
        result.append(drawn)
    return np.array(result)


def permuted_gains(study: StudyResults, bootstrap: Bootstrap, bank: str) -> Estimate | None:
    """[S] the critic's gain over the first survivor at small_k, its scores permuted; None without scores.

    Among a task's surviving samples; and these stand in a random order, so that the first survivor is another
    one each time. Its gain has mean 0 then. A critic of scores permuted among the distinct programs would be
    behind, for what is drawn often is right more often.
    """
    choice = study.analysis
    keys = [SetKey(bank, study.start, study.primary_split, k) for k in range(study.trajectories)]
    if not study.critic_scores.keys() >= set(keys):
        return None
    rng = host_rng(choice.seed, "null", bank, "critic")
    gains = []
    for key in keys:
        groups = cut(study.samples[key], choice.small_k, study.critic_scores[key])
        shape, size = groups.survives.shape, groups.survives[0].size
        survivors = np.flatnonzero(groups.survives)
        for _ in range(choice.halvings):
            mixed = rng.permutation(survivors)
            mixed = mixed[np.argsort(mixed // size, kind="stable")]  # within a task
            permuted = np.zeros(shape)
            permuted.flat[survivors] = groups.score.flat[mixed]
            gains.append((pick(groups, permuted) - pick(groups, rng.random(shape))).mean(1))
    values = np.reshape(gains, (study.trajectories, choice.halvings, -1))  # [K, S, T]
    return bootstrap(bank, values.swapaxes(1, 2))


def curve_band(
    before: Counts, after: Counts, sizes: tuple[int, int], ks: range, level: float
) -> list[tuple[float, float]]:
    """The interval of D(k) of parts of these sizes; a mean needs only how many tasks have each count."""
    means = []
    for part, n in zip((before, after), sizes, strict=True):
        counts = np.array([np.bincount(half.ravel(), minlength=n + 1) for half in part])  # [S, n + 1]
        means.append(counts @ pass_at_k(n, np.arange(n + 1)[:, None], np.array(ks)) / part[0].size)
    difference = means[1] - means[0]  # [S, len(ks)]
    return list(zip(*central(difference, level), strict=True))


def pairs(study: StudyResults, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """The null of independently warm-started starts, each pseudo-study one trajectory; K >= 2."""
    choice = study.analysis
    curve = task_curves(study, bank, study.start, [choice.small_k, choice.large_k])  # [K, T, 2]
    alone = Bootstrap(np.ones((len(bootstrap.trajectories), 1)), bootstrap.tasks, bootstrap.level)
    if study.trajectories == 2:
        change = np.stack([curve[1] - curve[0], curve[0] - curve[1]], axis=1)[None]  # [1, T, 2, 2]
        return verdicts(alone(bank, change), None, choice)
    starts, firsts, lasts = np.array(list(permutations(range(study.trajectories), 3))).T
    change = np.moveaxis(curve[lasts] - curve[starts], 0, 1)[None]  # [1, T, S, 2]
    if len(study.rounds) == 1:
        return verdicts(alone(bank, change), None, choice)
    level = curve[..., 0]
    second = (level[lasts] - 2 * level[firsts] + level[starts]).T[None]  # [1, T, S]
    return verdicts(alone(bank, change), alone(bank, second), choice)


def verdicts(
    change: Estimate, second: Estimate | None, choice: AnalysisConfig, picked: Estimate | None = None
) -> dict[str, Any]:
    """How the pseudo-studies' statistics are distributed, and how often each verdict is reached.

    Args:
        change: D at small_k and large_k, [S, 2].
        second: the second difference, [S]; None where there are too few trajectories or rounds.
        choice: for the rules.
        picked: the critic's gain, [S]; None where nothing was picked.
    """
    alpha, count = 1 - choice.level, len(change.value)
    outcomes = Counter(
        conclude(change.at(s, 0), change.at(s, 1), second.at(s) if second is not None else None, choice)
        for s in range(count)
    )
    p_values = {
        "crossover": np.maximum(change.p_above[:, 0], change.p_below[:, 1]),
        "deceleration": second.p_below if second is not None else None,
        "critic_gain": picked.p_above if picked is not None else None,
    }
    family = [np.ones(count) if p is None else p for p in p_values.values()]
    adjusted = dict(zip(p_values, np.array([holm(row) for row in np.transpose(family)]).T, strict=True))
    measured = {name: p for name, p in p_values.items() if p is not None}
    return {
        "replicates": count,
        "statistics": {
            f"change of pass@{choice.small_k}": distribution(change.value[:, 0], choice.level),
            f"change of pass@{choice.large_k}": distribution(change.value[:, 1], choice.level),
            "second difference": distribution(second.value, choice.level) if second is not None else None,
            "critic gain": distribution(picked.value, choice.level) if picked is not None else None,
        },
        "rates": dict.fromkeys(p_values) | {name: (p <= alpha).mean() for name, p in measured.items()},
        "adjusted_rates": dict.fromkeys(p_values)
        | {name: (adjusted[name] <= alpha).mean() for name in measured},
        "overall": {
            name: outcomes[name] / count for name in (COMPOUNDING, AMPLIFICATION, NO_GAIN, INCONCLUSIVE)
        },
    }


def distribution(values: Array | Counts, level: float) -> dict[str, Any]:
    """Mean and central interval of a statistic over the pseudo-studies, in its own unit."""
    return {"estimate": np.mean(values), "interval": list(central(values.ravel(), level))}


def central(values: Array | Counts, level: float) -> Array:
    """[2, ...] the ends of the central interval of pseudo-studies' values [S, ...]."""
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
