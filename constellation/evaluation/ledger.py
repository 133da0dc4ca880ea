"""The ledger of tasks solved and lost: which tasks a round solves that the start did not, and the reverse.

pass@k is a mean and hides that a round may gain some tasks and lose as many. A task is *solved* by a model
that wrote one correct program among n samples, the same n for both. Even an untrained copy "gains" tasks in
this sense (arXiv 2608.20290), so the counts are tested against each other, trajectory by trajectory, and the
null (`null`) says how many changes to expect from sampling alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from scipy.stats import binom, false_discovery_control

from constellation.evaluation.entries import Entry
from constellation.evaluation.question import Answer, Question
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
BALANCE = "tasks gained minus tasks lost"  # of one trajectory, which `of` names


def ledger(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """Every round and arm against the start, in each trajectory.

    The facts are {bank: {model: [for each trajectory: samples, tasks solved before and after, gained and
    lost, and the tasks whose chance of a correct sample changed significantly]}}.
    """
    rows: list[Entry] = []
    facts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for bank, tasks in study.tasks.items():
        ids = np.array([task.id for task in tasks], np.object_)
        facts[bank] = {model: [] for model in (*study.rounds, *study.arms)}
        for model, found in facts[bank].items():
            n = study.pool_size(bank, study.start, model)
            before, after = (correct_counts(study, bank, name, n) for name in (study.start, model))  # [K, T]
            samples = n * len(study.splits(bank))
            significant = changed(before, after, samples) <= 1 - study.analysis.level
            gained, lost = ((after > 0) & (before == 0)).sum(1), ((before > 0) & (after == 0)).sum(1)  # [K]
            p = sign_test(gained, lost)
            for k in range(study.trajectories):
                found.append(
                    {
                        "samples": samples,
                        "solved_before": (before[k] > 0).sum(),
                        "solved_after": (after[k] > 0).sum(),
                        "gained": gained[k],
                        "lost": lost[k],
                        "significantly_gained": list(ids[significant[k] & (after[k] > before[k])]),
                        "significantly_lost": list(ids[significant[k] & (after[k] < before[k])]),
                    }
                )
                pair, balance = (study.start, model), gained[k] - lost[k]
                tested = Entry(BALANCE, bank, pair, None, balance, p=p[k], tested=True, of=f"{k}")
                rows.append(tested._replace(unit="tasks"))
    return Answer(rows, facts)


def correct_counts(study: StudyResults, bank: str, model: str, n: int) -> Counts:
    """[K, T] correct ones among the first n samples of each split seed, summed over the split seeds."""
    mean = study.per_task(bank, model, lambda s: s.per_sample(s.right)[:, :n].sum(1))
    return np.rint(mean * len(study.splits(bank))).astype(np.int64)


def sign_test(gained: ArrayLike, lost: ArrayLike) -> Array:
    """The exact two-sided McNemar test, [...]: given that a task changed, either direction is as likely."""
    gained, lost = np.asarray(gained), np.asarray(lost)
    return np.minimum(1, 2 * binom.cdf(np.minimum(gained, lost), gained + lost, 0.5))


def changed(before: Counts, after: Counts, n: int) -> Array:
    """Whether a task's chance of a correct sample changed, by Fisher's exact test of counts of n samples.

    Returns the two-sided p-values [..., T], adjusted over the T tasks by Benjamini & Hochberg (1995).
    """
    return false_discovery_control(fisher_table(n)[before, after], axis=-1, method="bh")


def fisher_table(n: int) -> Array:
    """[n + 1, n + 1] Fisher's exact two-sided p of a correct ones of n against b of n, for every a and b.

    The sum of the hypergeometric probabilities of all tables with the same a + b that are no likelier.
    """
    ways = gammaln(n + 1) - gammaln(np.arange(n + 1) + 1) - gammaln(n - np.arange(n + 1) + 1)
    table = np.empty((n + 1, n + 1))
    for total in range(2 * n + 1):
        after = np.arange(max(0, total - n), min(n, total) + 1)
        log_weight = ways[total - after] + ways[after]
        weight = np.exp(log_weight - log_weight.max())
        # equally likely tables, one the other's mirror image, differ by rounding
        no_likelier = weight[None, :] <= weight[:, None] * (1 + 1e-9)
        table[total - after, after] = (no_likelier * weight).sum(1) / weight.sum()
    return np.minimum(table, 1)


QUESTION = Question(name="ledger", title="Tasks solved and lost", answer=ledger, figures={}, always=True)
