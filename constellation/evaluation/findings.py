"""The three primary findings and the verdict over them: the exact rules.

They are read on the primary bank, the last round and the k fixed beforehand; everything else a study holds is
*exploratory*. alpha = 1 - level, 5 %; intervals and p-values are those of `statistics`.

**A finding** claims that one number lies above, or below, 0; the crossover claims it of two. Its p-value is
one-sided, of two numbers the larger (intersection-union: one-sided 95 % bounds give D(8) > 0 and D(64) < 0),
and is adjusted by Holm over the three findings; one that was not measured counts with p = 1. In this order:

- *supported*: the adjusted p-value is at most alpha;
- *not supported*: the two-sided interval of a number excludes 0 in the other direction, or lies within
  [-margin, margin], so that any effect is too small to matter;
- *inconclusive*: anything else. The minimum detectable effect says what the design could have seen; for the
  crossover it is that of either number alone, and both at once are seen less often.

**The verdict over all** rests on D(k), the change of pass@k from start to last round, and on the *second
difference*, the second round's gain in pass@small_k minus the first's. In this order:

- *compounding*: the second difference, or D(large_k), lies above 0; Holm over these two;
- *amplification*: D(small_k) > 0 and D(large_k) < 0, each at alpha, and the upper one-sided bound of the
  second difference is at most the margin: no acceleration beyond it;
- *no gain*: the interval of D(small_k) lies within the margin or below it;
- *inconclusive*: anything else.

A verdict is about its `scope`: one trajectory if the study has one, else trajectories that start from the
same base.

**Everything else that is tested**, on other banks, rounds, arms, temperatures, selectors and k, was not
singled out beforehand. Its p-values are adjusted as one family by Benjamini & Hochberg (1995), so that of the
numbers called discoveries at q <= 0.05 at most 5 % are expected to be false; intervals are not adjusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from constellation.evaluation.claims import FAMILY, INCONCLUSIVE, Claim, NotMeasured
from constellation.evaluation.crossover import crossover
from constellation.evaluation.entries import Entries, Entry, points, signed
from constellation.evaluation.gains import deceleration
from constellation.evaluation.selection import critic_gain
from constellation.evaluation.statistics import Bootstrap, Estimate, holm
from constellation.evaluation.study import AnalysisConfig, StudyResults

COMPOUNDING, AMPLIFICATION, NO_GAIN = "compounding", "amplification", "no gain"
Claims = Mapping[str, Claim | NotMeasured]


def primary_claims(study: StudyResults, bootstrap: Bootstrap) -> Claims:
    """The three claims, measured.

    Raises:
        UserError: a verdict would read a k beyond half the samples a task.
    """
    return {
        "critic_gain": critic_gain(study, bootstrap),
        "crossover": crossover(study, bootstrap),
        "deceleration": deceleration(study, bootstrap),
    }


def findings(study: StudyResults, claims: Claims) -> dict[str, dict[str, Any]]:
    """The three findings, corrected together."""
    adjusted = holm([claim.p_value() for claim in claims.values()])
    return {
        name: claim.judged(study.analysis, study.scope, float(p), FAMILY)
        for (name, claim), p in zip(claims.items(), adjusted, strict=True)
    }


def overall(study: StudyResults, claims: Claims) -> dict[str, Any]:
    """The verdict over all, with the numbers that decided it."""
    change, slowing, choice = claims["crossover"], claims["deceleration"], study.analysis
    if isinstance(change, NotMeasured):
        reason = f"Not measured: {change.reason}."
        return {"verdict": INCONCLUSIVE, "scope": study.scope, "sentence": reason, "tests": []}
    small, large = change.estimate.at(0), change.estimate.at(1)
    second = None if isinstance(slowing, NotMeasured) else slowing.estimate.at(0)
    outcome = conclude(small, large, second, choice)
    tests = {  # one-sided, before any correction
        f"pass@{choice.small_k} rises": (small.value, small.p_above),
        f"pass@{choice.large_k} falls": (large.value, large.p_below),
        f"pass@{choice.large_k} rises": (large.value, large.p_above),
    }
    steps = "only one round was run"
    if second is not None:
        tests["the second round gains more"] = second.value, second.p_above
        steps = (
            f"the second round gains {points(*second[:3])} points more than the first, at most "
            f"{signed(second.upper)} by its one-sided bound"
        )
    return {
        "verdict": outcome,
        "scope": study.scope,
        "sentence": (
            f"{outcome.capitalize()}: from {study.start} to {study.rounds[-1]} on the {choice.primary_bank} "
            f"bank, pass@{choice.small_k} changes by {points(*small[:3])} points and pass@{choice.large_k} "
            f"by {points(*large[:3])}; {steps}."
        ),
        "tests": [{"claim": claim, "estimate": value, "p": p} for claim, (value, p) in tests.items()],
    }


def conclude(small: Estimate, large: Estimate, second: Estimate | None, choice: AnalysisConfig) -> str:
    """The verdict over all from D(small_k), D(large_k) and the second difference, scalars.

    The last is None where fewer than two rounds were run, which can show neither acceleration nor its
    absence. The rule is this module's docstring.
    """
    alpha = 1 - choice.level
    accelerates = 1.0 if second is None else float(second.p_above)
    if holm([accelerates, float(large.p_above)]).min() <= alpha:
        return COMPOUNDING
    steady = second is not None and second.upper <= choice.margin
    if steady and small.p_above <= alpha and large.p_below <= alpha:
        return AMPLIFICATION
    return NO_GAIN if small.high <= choice.margin else INCONCLUSIVE


def adjust(rows: list[Entry], level: float) -> tuple[Entries, dict[str, int]]:
    """Gives every tested row its q, unless its p is not defined.

    Returns:
        the rows, and how many numbers were "tested" and how many of them are "discoveries".
    """
    family = [i for i, row in enumerate(rows) if row.tested and np.isfinite(row.p)]
    adjusted = false_discovery_control([rows[i].p for i in family], method="bh") if family else []
    q = dict(zip(family, adjusted, strict=True))
    counts = {"tested": len(q), "discoveries": sum(value <= 1 - level for value in q.values())}
    return Entries(row._replace(q=q.get(i)).rounded() for i, row in enumerate(rows)), counts
