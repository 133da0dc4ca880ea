"""The controls beside the findings: models trained like the first round but for one thing.

A finding about the first round says something about what the control lacks only as far as the round differs
from it. Beside the crossover stand each control's own D(k) = pass@k(control) - pass@k(start), and the first
round's D(k) minus it; beside the critic's gain that of a critic trained on permuted labels, and the
difference. The controls have one round each, hence no second difference: deceleration has its control in the
`null`. Beside reach and the mass ledger stand the same of the controls, each on its bank, of programs that
the controls know as well: where not even training on the secret programs of withheld classes expands reach,
an expansion is not measurable. Trajectories and tasks are paired. All of it is exploratory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.claims import Claim
from constellation.evaluation.critic_gain import picked
from constellation.evaluation.curves import change, curve_ks, task_curves, verdict_ks
from constellation.evaluation.entries import Entry, keyed
from constellation.evaluation.exploratory import entry
from constellation.evaluation.reach import (
    CLASS_REACH,
    CLASS_REACH_CHANGE,
    DRAWN,
    MASS,
    MASS_CHANGE,
    PROGRAMS,
    expansion,
    known_of,
    mass_ledger,
    reach_change,
)
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import SetKey, StudyResults, first
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]


def controls(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """What the report says of the controls, of the first trajectories that have them.

    Returns:
        {"trajectories", "changes": [entries], "critic": [entries], "change_at_k": {bank: {model: {k: ...}}},
        "reach": {bank: of `reach_of`}}, the first round among the models of change_at_k; no entries where the
        study has no controls. An entry's models are those whose difference it is, the later one last.
    """
    count = first([*study.controls, *study.control_scores])
    changes: list[dict[str, Any]] = []
    critic: list[dict[str, Any]] = []
    curves: dict[str, Any] = {}
    reached: dict[str, Any] = {}
    if count:
        rng = host_rng(study.analysis.seed, "bootstrap", "control trajectories")
        drawn = bootstrap.first_trajectories(count, rng)
        banks = [bank for bank in study.tasks if any(key.bank == bank for key in study.controls)]
        for bank in banks:
            own = beside(study, count, bank)
            changes += changes_of(own, drawn, bank, study.controls)
            curves[bank] = curves_of(own, drawn, bank)
        if study.control_scores:
            critic = critic_gains(study, count, drawn)
        reached = {bank: reach_of(study, count, drawn, bank) for bank in study.control_known}
    return {
        "trajectories": count,
        "changes": changes,
        "critic": critic,
        "change_at_k": curves,
        "reach": reached,
    }


def beside(study: StudyResults, trajectories: int, bank: str) -> StudyResults:
    """The study of one bank and the controls' trajectories, with the controls as its arms.

    Of a round that was sampled again beside the controls, the samples are those.
    """
    own = {key: samples for key, samples in study.controls.items() if key.bank == bank}
    few = study.first_trajectories(trajectories)
    kept = {
        key: samples
        for key, samples in few.samples.items()
        if (key.bank, key.split_seed) == (bank, study.primary_split) and key.model not in study.arms
    }
    return replace(
        few,
        tasks={bank: study.tasks[bank]},
        arms=tuple(dict.fromkeys(key.model for key in own if key.model not in study.rounds)),
        samples=kept | own,
        critic_scores={},
        null_pools={},
    )


def changes_of(
    study: StudyResults, bootstrap: Bootstrap, bank: str, resampled: Iterable[SetKey]
) -> list[dict[str, Any]]:
    """D of every control, and the first round's minus it, at k up to n/2.

    And the first round's D where it was sampled again beside them; elsewhere it is an exploratory change.
    """
    found = []
    again = [model for model in study.rounds[:1] if any(key[:2] == (bank, model) for key in resampled)]
    for model in (*again, *study.arms):
        found += compared(study, bootstrap, bank, (study.start, model))
    for control in study.arms if study.rounds else ():
        found += compared(study, bootstrap, bank, (control, study.rounds[0]))
    for pair in pairs(study):
        found += compared(study, bootstrap, bank, pair)
    return found


def pairs(study: StudyResults) -> list[tuple[str, str]]:
    """The controls that are compared with each other: other programs on the same tasks, or more tasks."""
    wanted = combinations(("own_withheld", "secret_solved", "secret"), 2)
    return [pair for pair in wanted if set(pair) <= set(study.arms)]


def compared(
    study: StudyResults, bootstrap: Bootstrap, bank: str, models: tuple[str, str]
) -> list[dict[str, Any]]:
    """pass@k of the second model minus that of the first, at k = 1 and both k as far as both answer."""
    wanted = {1, study.analysis.small_k, study.analysis.large_k}
    ks = sorted(wanted & set(verdict_ks(study, bank, *models)))
    before, after = (task_curves(study, bank, model, ks) for model in models)
    estimate = bootstrap(bank, after - before)
    return [entry("difference of pass@k", bank, models, k, estimate.at(i)) for i, k in enumerate(ks)]


def curves_of(study: StudyResults, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """D(k) of the first round and every control, as far as their pools answer."""
    result = {}
    for model in (*study.rounds[:1], *study.arms):
        ks = curve_ks(study, bank, study.start, model)
        result[model] = keyed(ks, bootstrap(bank, change(study, bank, model, ks)))
    return result


def reach_of(study: StudyResults, trajectories: int, bootstrap: Bootstrap, bank: str) -> dict[str, Any]:
    """Reach where the controls know programs, too, and all are asked for them.

    Returns:
        {"expansion": {first round or control: as of `reach.expansion`}, "mass_ledger": as of `mass_ledger`,
        "change": {first round or control: {B: reach minus the start's}}, "differences": entries of the
        controls of `pairs`, at the tabulated budgets}.
    """
    own = beside(study, trajectories, bank)
    known, budgets = known_of(own, study.control_known[bank]), own.analysis.reach_budgets
    return {
        "change": {
            model: keyed(DRAWN, bootstrap(bank, reach_change(known, own.start, model, DRAWN)))
            for model in (*own.rounds[:1], *own.arms)
        },
        "expansion": {
            model: nested_expansion(expansion(own, bootstrap, known, model), own)
            for model in (*own.rounds[:1], *own.arms)
        },
        "mass_ledger": nested_ledger(mass_ledger(own, bootstrap, known)),
        "differences": [
            entry("difference of reach", bank, pair, budget, estimate.at(i))
            for pair in pairs(own)
            for estimate in [bootstrap(bank, reach_change(known, *pair, budgets))]
            for i, budget in enumerate(budgets)
        ],
    }


def nested_expansion(claim: Claim, study: StudyResults) -> dict[str, Any]:
    """As the controls' section reads it."""
    judged = claim.judged(study.analysis, study.scope)
    left_out = {"claim", "scope", *(name for name in judged if name.startswith("variance_of_"))}
    return {name: value for name, value in judged.items() if name not in left_out}


def nested_ledger(rows: list[Entry]) -> dict[str, Any]:
    """As the controls' section reads it."""
    names = {
        MASS: "mass",
        CLASS_REACH: "reach",
        MASS_CHANGE: "change",
        CLASS_REACH_CHANGE: "reach_change",
    }
    found: dict[str, Any] = {}
    for row in rows:
        part = found.setdefault(row.of, {"change": {}, "reach_change": {}})
        if row.quantity == PROGRAMS:
            part["programs"] = row.estimate
            continue
        value = {"estimate": row.estimate, "interval": list(row.interval)}
        part.setdefault(names[row.quantity], {})[row.models[-1]] = value | (
            {"p": row.p} if row.tested else {}
        )
    return found


def critic_gains(study: StudyResults, trajectories: int, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Critic minus first survivor at small_k: of permuted labels, and of true ones minus that."""
    few, k = study.first_trajectories(trajectories), study.analysis.small_k
    true = {key: few.critic_scores[key] for key in study.control_scores}

    def gain(scores: Any, bank: str, model: str) -> Array:
        found = picked(replace(few, critic_scores=scores), bank, model, k)
        return (found.accuracy["critic"] - found.accuracy["naive"]).mean(0)  # [K, T]

    entries = []
    for bank, model in sorted({key[:2] for key in true}):
        null, real = gain(study.control_scores, bank, model), gain(true, bank, model)
        for names, values in ((("permuted_critic",), null), (("permuted_critic", "critic"), real - null)):
            entries.append(entry("critic minus first survivor", bank, names, k, bootstrap(bank, values)))
    return entries
