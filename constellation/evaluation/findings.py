"""The three estimands of the study, each with a verdict.

**Verdict of one number.** With the two-sided interval [low, high] of an estimate, a claimed direction and the
smallest effect of interest `margin`, in this order:

- *supported*: the interval excludes 0 in the claimed direction;
- *not supported*: the interval excludes 0 in the other direction, or lies within [-margin, margin], so that
  any effect is too small to matter;
- *inconclusive*: anything else; the minimum detectable effect says what the design could have seen.

**Verdict of a pair** (the crossover): supported if both parts are; not supported if either part is not;
otherwise inconclusive.

Intervals are paired bootstrap percentile intervals over tasks. One training trajectory lies behind them, so a
verdict speaks of this trajectory and not of the method: that is its `scope`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.selection import Selection, select
from constellation.evaluation.statistics import Bootstrap, Estimate, minimum_detectable_effect
from constellation.evaluation.study import SetKey, StudyResults

Array = NDArray[np.float64]
SCOPE = "this trajectory"
SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"


def verdict(low: float, high: float, direction: int, margin: float) -> str:
    """The verdict of one number; the rule is this module's docstring.

    Args:
        low, high: the interval.
        direction: +1 where the claim is a positive effect, -1 a negative one.
        margin: smallest effect of interest, >= 0.
    """
    if direction < 0:
        low, high = -high, -low
    if low > 0:
        return SUPPORTED
    if high < 0 or (-margin <= low and high <= margin):
        return NOT_SUPPORTED
    return INCONCLUSIVE


def both(first: str, second: str) -> str:
    """The verdict of a claim that makes two: it holds only if both do, and fails if either does."""
    if NOT_SUPPORTED in (first, second):
        return NOT_SUPPORTED
    return SUPPORTED if first == second == SUPPORTED else INCONCLUSIVE


def findings(study: StudyResults, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """The three findings.

    Args:
        study: the study.
        bootstrap: of the banks' tasks.
    """
    return {
        "critic_gain": critic_gain(study, bootstrap),
        "crossover": crossover(study, bootstrap),
        "deceleration": deceleration(study, bootstrap),
    }


def critic_gain(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Accuracy of the critic's pick minus that of the first survivor, claimed positive.

    At k = small_k on the primary bank, over all disjoint k-groups, averaged within a task over the split
    seeds that carry critic scores (six in the study).
    """
    choice = study.analysis
    bank, model, k = choice.primary_bank, study.selection_model, choice.small_k
    seeds = study.scored_splits(bank, model)
    claim = "The critic picks better than the first surviving candidate."
    if not seeds:
        return not_measured(claim, f"no critic scored the candidates of {model} on the {bank} bank")
    gains, estimate, on_divergent, share = selection_gain(study, bootstrap, bank, k)
    per_split = {seed: gain.mean() for seed, gain in zip(seeds, gains, strict=True)}
    positive = sum(gain > 0 for gain in per_split.values())
    outcome = verdict(float(estimate.low), float(estimate.high), +1, choice.margin)
    banks: dict[str, dict[str, Any]] = {}
    for name in study.tasks:
        if study.scored_splits(name, model):
            of_bank = selection_gain(study, bootstrap, name, k)[1]
            sentence = f"its pick gains {points(*of_bank)} points over the first survivor"
            banks[name] = {**as_json(of_bank), "sentence": sentence}
    opening = {
        SUPPORTED: "The critic helps",
        NOT_SUPPORTED: "The critic does not help",
        INCONCLUSIVE: "Whether the critic helps stays open",
    }[outcome]
    return {
        "claim": claim,
        "verdict": outcome,
        "estimate": estimate.value,
        "interval": [estimate.low, estimate.high],
        "minimum_detectable_effect": minimum_detectable_effect(gains.mean(0), choice.level, choice.power),
        "scope": SCOPE,
        "sentence": (
            f"{opening}: with {k} candidates on the {bank} bank, {banks[bank]['sentence']}, "
            f"ahead on {positive} of {len(seeds)} split seeds."
        ),
        "bank": bank,
        "model": model,
        "k": k,
        "per_split": per_split,
        "positive_splits": positive,
        "divergent_share": share,
        "on_divergent": as_json(on_divergent),
        "banks": banks,
    }


def selection_gain(
    study: StudyResults, bootstrap: Bootstrap, bank: str, k: int
) -> tuple[Array, Estimate, Estimate, float]:
    """Critic minus naive on one bank.

    Returns:
        [S, T] gain by split seed and task; its mean with interval; the same on divergent groups alone; and
        the share of divergent groups.
    """
    picked = [
        select(study.samples[key], k, study.critic_scores[key])
        for seed in study.scored_splits(bank, study.selection_model)
        for key in [SetKey(bank, study.selection_model, seed)]
    ]
    gains = np.array([s.accuracy["critic"] - s.accuracy["naive"] for s in picked])
    average = Selection.mean(picked)
    overall = bootstrap(bank, gains.mean(0))
    on_divergent = bootstrap(
        bank, average.on_divergent["critic"] - average.on_divergent["naive"], within=average.divergent
    )
    return gains, overall, on_divergent, float(average.divergent.mean())


def crossover(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Change from gen_v0 to the last round at small_k, claimed positive, and at large_k, claimed negative.

    Estimate, interval and minimum detectable effect are pairs in the order of `ks`. Read on the primary bank;
    `banks` gives every bank.
    """
    choice = study.analysis
    ks = [choice.small_k, choice.large_k]
    claim = f"Self-training raises pass@{ks[0]} and lowers pass@{ks[1]}: the curves cross."
    if not study.rounds:
        return not_measured(claim, "the study ran no round of self-training")
    last = study.rounds[-1]
    banks: dict[str, dict[str, Any]] = {}
    for name in study.tasks:
        change = task_curves(study, name, last, ks) - task_curves(study, name, study.start, ks)  # [T, 2]
        estimate = bootstrap(name, change)
        parts = [verdict(estimate.low[i], estimate.high[i], (+1, -1)[i], choice.margin) for i in (0, 1)]
        banks[name] = {
            "verdict": both(*parts),
            "verdicts": parts,
            "estimate": list(estimate.value),
            "interval": [[estimate.low[i], estimate.high[i]] for i in (0, 1)],
            "minimum_detectable_effect": list(minimum_detectable_effect(change, choice.level, choice.power)),
        }
        small, large = (points(*np.array(estimate)[:, i]) for i in (0, 1))
        banks[name]["sentence"] = f"pass@{ks[0]} changes by {small} points and pass@{ks[1]} by {large}"
    bank = choice.primary_bank
    primary = banks[bank]
    opening = {
        SUPPORTED: "The curves cross",
        NOT_SUPPORTED: "The curves do not cross as claimed",
        INCONCLUSIVE: "Whether the curves cross stays open",
    }[primary["verdict"]]
    return {
        "claim": claim,
        **primary,
        "scope": SCOPE,
        "sentence": f"{opening}: from {study.start} to {last} on the {bank} bank, {primary['sentence']}.",
        "bank": bank,
        "models": [study.start, last],
        "ks": ks,
        "banks": banks,
    }


def deceleration(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """The second round's gain minus the first round's at pass@small_k, claimed negative."""
    choice = study.analysis
    k = choice.small_k
    claim = f"The second round adds less to pass@{k} than the first."
    if len(study.rounds) < 2:
        return not_measured(claim, "the study ran fewer than two rounds of self-training")
    banks: dict[str, dict[str, Any]] = {}
    for bank in study.tasks:
        start, first, second = (
            task_curves(study, bank, model, [k])[:, 0] for model in (study.start, *study.rounds[:2])
        )
        difference = (second - first) - (first - start)  # [T]
        estimate = bootstrap(bank, difference)
        gains = [bootstrap(bank, gain) for gain in (first - start, second - first)]
        banks[bank] = {
            "verdict": verdict(float(estimate.low), float(estimate.high), -1, choice.margin),
            "estimate": estimate.value,
            "interval": [estimate.low, estimate.high],
            "minimum_detectable_effect": minimum_detectable_effect(difference, choice.level, choice.power),
            "gains": [as_json(gain) for gain in gains],
            "sentence": (
                f"pass@{k} moves by {signed(gains[0].value)} points in the first round and "
                f"{signed(gains[1].value)} in the second, a difference of {points(*estimate)}"
            ),
        }
    primary = banks[choice.primary_bank]
    opening = {
        SUPPORTED: "Gains slow down",
        NOT_SUPPORTED: "Gains do not slow down",
        INCONCLUSIVE: "Whether gains slow down stays open",
    }[primary["verdict"]]
    return {
        "claim": claim,
        **primary,
        "scope": SCOPE,
        "sentence": f"{opening}: on the {choice.primary_bank} bank, {primary['sentence']}.",
        "bank": choice.primary_bank,
        "models": [study.start, *study.rounds[:2]],
        "k": k,
        "banks": banks,
    }


def task_curves(
    study: StudyResults, bank: str, model: str, ks: list[int], column: str = "generalises"
) -> Array:
    """[T, K] pass@k of each task (visible-fit@k with column "fits"), split seeds averaged."""
    return study.per_task(bank, model, lambda s: pass_curve(s.per_sample(getattr(s, column)), ks))


def not_measured(claim: str, reason: str) -> dict[str, Any]:
    """A finding whose data the study does not hold."""
    return {
        "claim": claim,
        "verdict": INCONCLUSIVE,
        "estimate": None,
        "interval": None,
        "minimum_detectable_effect": None,
        "scope": SCOPE,
        "sentence": f"Not measured: {reason}.",
    }


def as_json(estimate: Estimate) -> dict[str, Any]:
    """One estimate as findings.json spells it."""
    return {"estimate": estimate.value, "interval": [estimate.low, estimate.high]}


def signed(value: float | Array) -> str:
    """A share in percentage points with its sign, "+3.1"."""
    text = f"{100 * float(value):+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0" if text[1:] == "0.0" else text


def points(value: float | Array, low: float | Array, high: float | Array) -> str:
    """A difference of shares in percentage points with its interval, "+3.1 [+1.0, +5.2]"."""
    return f"{signed(value)} [{signed(low)}, {signed(high)}]"
