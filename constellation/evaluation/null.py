"""The null: the start against itself, sent through the same analysis as a round.

Two pseudo-rounds that learned nothing:

- *halvings*: a pool of twice the usual samples is halved at random, one half stands for the start and the
  other for the last round; for the second difference it is divided into three. What remains is the noise of
  sampling. Given c correct ones of N samples, those of a random part are hypergeometric, so that no sample
  need be looked at again.
- *pairs*: the start of one trajectory stands for the round of another, three of them for start, first and
  last round. To the noise of sampling this adds that of another warm start, which an analysis of a single
  trajectory, over tasks alone, knows nothing of; it is this analysis that is put to the test.

Either gives the distribution of each statistic without any learning, and the share of pseudo-studies that
reach each verdict: its false-positive rate, before the correction over the primary findings. Critic gain has
its null elsewhere: here nothing is picked.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.errors import UserError
from constellation.evaluation.curves import task_curves
from constellation.evaluation.findings import AMPLIFICATION, COMPOUNDING, INCONCLUSIVE, NO_GAIN, conclude
from constellation.evaluation.ledger import changed, sign_test
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.statistics import Bootstrap, Estimate
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults, first
from constellation.keys import host_rng

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def nulls(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """{"halvings": {bank: ...}, "pairs": {bank: ...}}: banks with a doubled pool, and the primary one.

    Raises:
        UserError: a half of a pool is too small for large_k.
    """
    banks = sorted({key.bank for key in study.null_pools})
    pooled = study.of_first(first(study.null_pools)) if banks else study
    drawn = bootstrap.of_first(
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
    pools = [
        study.null_pools[SetKey(bank, study.start, study.primary_split, k)] for k in range(study.trajectories)
    ]
    total, n = pools[0].n, pools[0].n // 2
    if choice.large_k > n // 2:
        raise UserError(
            f"the null of pass@{choice.large_k} needs a pool of at least {4 * choice.large_k} samples a task "
            f"on the {bank} bank, there are {total}: sample more or lower evaluation.large_k"
        )
    correct = np.array([pool.per_sample(pool.generalises).sum(1) for pool in pools])  # [K, T]
    rng = host_rng(choice.seed, "null", bank)
    before, after = divide(correct, total, 2, choice.halvings, rng)  # [S, K, T] each
    thirds = divide(correct, total, 3, choice.halvings, rng)
    ks = [choice.small_k, choice.large_k]
    table = pass_at_k(n, np.arange(n + 1)[:, None], ks)
    levels = [pass_at_k(total // 3, part, choice.small_k) for part in thirds]
    change = np.moveaxis(table[after] - table[before], 0, 2)  # [K, T, S, 2]
    second = np.moveaxis(levels[2] - 2 * levels[1] + levels[0], 0, 2)  # [K, T, S]
    gained = ((after > 0) & (before == 0)).sum(-1)  # [S, K]
    lost = ((before > 0) & (after == 0)).sum(-1)
    significant = (changed(before, after, n) <= 1 - choice.level).sum(-1)
    curve_ks = range(1, min(choice.max_k, n) + 1)
    return {
        "samples": n,
        **verdicts(bootstrap(bank, change), bootstrap(bank, second), choice),
        "tasks_gained": distribution(gained, choice.level),
        "tasks_lost": distribution(lost, choice.level),
        "tasks_significantly_changed": distribution(significant, choice.level),
        "sign_test_rate": (sign_test(gained, lost) <= 1 - choice.level).mean(),
        "change_at_k": dict(zip(curve_ks, curve_band(before, after, n, curve_ks, choice.level), strict=True)),
    }


def divide(correct: Counts, total: int, parts: int, times: int, rng: np.random.Generator) -> Counts:
    """Divides pools at random into equal parts, repeatedly.

    Args:
        correct: [K, T] correct ones of each pool's `total` samples.
        parts: number of parts, of total // parts samples each; what is left over is in none.
        times: S.

    Returns:
        [parts, S, K, T] correct ones in each part.
    """
    size = total // parts
    left = np.broadcast_to(correct, (times, *correct.shape))
    result = []
    for part in range(parts):
        drawn = rng.hypergeometric(left, total - part * size - left, size)
        left = left - drawn
        result.append(drawn)
    return np.array(result)


def curve_band(before: Counts, after: Counts, n: int, ks: range, level: float) -> list[tuple[float, float]]:
    """The interval of the halvings' D(k) at each k; a mean needs only how many tasks have each count."""
    counts = [
        np.array([np.bincount(half.ravel(), minlength=n + 1) for half in part]) for part in (before, after)
    ]  # [S, n + 1] each
    table = pass_at_k(n, np.arange(n + 1)[:, None], np.array(ks))  # [n + 1, len(ks)]
    difference = (counts[1] - counts[0]) @ table / before[0].size  # [S, len(ks)]
    low, high = np.quantile(difference, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return list(zip(low, high, strict=True))


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
    level = curve[..., 0]
    second = (level[lasts] - 2 * level[firsts] + level[starts]).T[None]  # [1, T, S]
    return verdicts(alone(bank, change), alone(bank, second), choice)


def verdicts(change: Estimate, second: Estimate | None, choice: AnalysisConfig) -> dict[str, Any]:
    """How the pseudo-studies' statistics are distributed, and how often each verdict is reached.

    Args:
        change: D at small_k and large_k, [S, 2].
        second: the second difference, [S]; None where there are too few trajectories.
        choice: for the rules.
    """
    alpha, count = 1 - choice.level, len(change.value)
    outcomes = Counter(
        conclude(change.at(s, 0), change.at(s, 1), second.at(s) if second is not None else None, choice)
        for s in range(count)
    )
    crossed = (change.p_above[:, 0] <= alpha) & (change.p_below[:, 1] <= alpha)
    return {
        "replicates": count,
        "statistics": {
            f"change of pass@{choice.small_k}": distribution(change.value[:, 0], choice.level),
            f"change of pass@{choice.large_k}": distribution(change.value[:, 1], choice.level),
            "second difference": distribution(second.value, choice.level) if second is not None else None,
        },
        "rates": {
            "crossover": crossed.mean(),
            "deceleration": (second.p_below <= alpha).mean() if second is not None else None,
        },
        "overall": {
            name: outcomes[name] / count for name in (COMPOUNDING, AMPLIFICATION, NO_GAIN, INCONCLUSIVE)
        },
    }


def distribution(values: Array | Counts, level: float) -> dict[str, Any]:
    """Mean and central interval of a statistic over the pseudo-studies, in its own unit."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return {"estimate": np.mean(values), "interval": [low, high]}
