"""Everything tested that is no primary finding: other banks, rounds, arms, temperatures, selectors and k.

Nothing here was singled out beforehand. The p-values of a study's results, all but those of the primary
claims, are adjusted as one family by Benjamini & Hochberg (1995), so that of the numbers called discoveries
at q <= 0.05 at most 5 % are expected to be false; their intervals are not adjusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from constellation.evaluation.critic_gain import Picks
from constellation.evaluation.curves import change, second_difference, verdict_ks
from constellation.evaluation.entries import Entries, Entry, as_json
from constellation.evaluation.statistics import Bootstrap, Estimate
from constellation.evaluation.study import StudyResults


def exploratory(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> list[dict[str, Any]]:
    """One entry a number, each with its p-value; `adjust` gives it the adjusted one, q."""
    return [
        *changes(study, bootstrap),
        *second_differences(study, bootstrap),
        *critic_gains(study, bootstrap, picks),
        *selector_leads(study, bootstrap, picks),
    ]


def adjust(results: dict[str, Any], rows: list[Entry], level: float) -> tuple[Entries, dict[str, int]]:
    """Gives every number that was tested its q, but for those of the primary claims.

    Returns:
        the rows; and how many numbers were "tested", how many of them are "discoveries".
    """
    rest = {name: part for name, part in results.items() if name not in ("findings", "overall")}
    entries = [entry for entry in tested(rest) if entry is not results["selectors"]["extension"]]
    in_family = [i for i, row in enumerate(rows) if row.tested and np.isfinite(row.p)]
    p_values = [*(entry["p"] for entry in entries), *(rows[i].p for i in in_family)]
    adjusted = false_discovery_control(p_values, method="bh") if p_values else []
    for entry, q in zip(entries, adjusted, strict=False):
        entry["q"] = q
    rows = list(rows)
    for i, q in zip(in_family, adjusted[len(entries) :], strict=True):
        rows[i] = rows[i]._replace(q=q)
    counts = {"tested": len(p_values), "discoveries": sum(q <= 1 - level for q in adjusted)}
    return Entries(row.rounded() for row in rows), counts


def tested(part: Any) -> Iterator[dict[str, Any]]:
    """Every entry within these results that has a p; where it is not defined there is nothing to adjust."""
    if isinstance(part, dict):
        if "p" in part and np.isfinite(part["p"]):
            yield part
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from tested(inner)


def entry(quantity: str, bank: str, models: tuple[str, ...], k: int, estimate: Estimate) -> dict[str, Any]:
    """One number as findings.json holds it, before the adjustment."""
    p = estimate.p_two_sided()
    return {"quantity": quantity, "bank": bank, "models": models, "k": k, **as_json(estimate), "p": p}


def changes(study: StudyResults, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """D(k) of every round and arm on every bank, at powers of two and the two k, up to n/2."""
    choice = study.analysis
    found = []
    for bank in study.tasks:
        for model in (*study.rounds, *study.arms):
            tested = verdict_ks(study, bank, study.start, model)
            wanted = {choice.small_k, choice.large_k, *(2**i for i in range(len(tested).bit_length()))}
            if (bank, model) == (choice.primary_bank, study.sequence[-1]):
                wanted -= {choice.small_k, choice.large_k}
            ks = sorted(wanted & set(tested))
            estimate = bootstrap(bank, change(study, bank, model, ks))
            models = (study.start, model)
            found += [entry("change of pass@k", bank, models, k, estimate.at(i)) for i, k in enumerate(ks)]
    return found


def second_differences(study: StudyResults, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Each round's gain minus that of the round before, on every bank, at small_k and at k = 1.

    Filtering raises pass@1 most: where nothing is gained at small_k, gains may still shrink there.
    """
    choice, sequence = study.analysis, study.sequence[1:]
    name, found = "gain minus the gain before", []
    for bank in study.tasks:
        for i in range(len(sequence) - 2):
            models = sequence[i : i + 3]
            wanted = {1, choice.small_k} & set(verdict_ks(study, bank, *models))
            if (bank, i) == (choice.primary_bank, 0):
                wanted -= {choice.small_k}
            for k in sorted(wanted):
                values = second_difference(study, bank, models, k)
                found.append(entry(name, bank, models, k, bootstrap(bank, values)))
    return found


def critic_gains(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> list[dict[str, Any]]:
    """Critic minus first survivor for every bank, model and k that a critic scored."""
    choice = study.analysis
    primary = (choice.primary_bank, study.selection_model, choice.small_k)
    return [
        entry("critic minus first survivor", bank, (model,), k, bootstrap(bank, gain.mean(0)))
        for (bank, model, k), found in picks.items()
        if (bank, model, k) != primary
        for gain in [found.accuracy["critic"] - found.accuracy["naive"]]
    ]


def selector_leads(study: StudyResults, bootstrap: Bootstrap, picks: Picks) -> list[dict[str, Any]]:
    """Every selector against the first survivor, the critic against each, its mass against the vote.

    On the primary bank at small_k; the oracle, which is never behind, is left out.
    """
    choice = study.analysis
    bank, model, k = choice.primary_bank, study.selection_model, choice.small_k
    if (bank, model, k) not in picks:
        return []
    accuracy = picks[bank, model, k].accuracy
    others = [name for name in accuracy if name not in ("critic", "naive", "oracle")]
    pairs = [(name, "naive") for name in others] + [("critic", name) for name in others]
    return [
        entry(f"{one} minus {other}".replace("naive", "first survivor"), bank, (model,), k, estimate)
        for one, other in [*pairs, ("critic_mass", "majority")]
        for estimate in [bootstrap(bank, (accuracy[one] - accuracy[other]).mean(0))]
    ]
