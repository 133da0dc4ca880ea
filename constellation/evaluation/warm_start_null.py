"""The null of another warm start: starts of some trajectories stand for the rounds of others.

A pseudo-study that learned nothing between start and round: in each of its trajectories the start is one of
the study's own, and the round is that of another. The study's trajectories are divided at random, so that
none plays two parts. To the noise of sampling, which the halvings of `null` hold as well, this adds that of
another warm start, and a verdict over several such trajectories is put to the test as the study reaches it.
There are few trajectories to divide, so pseudo-studies overlap, and a rate is rough.

Of reach, both models of a pair are asked for the programs that either's trajectory knows, so that neither has
a share in the choice that the other lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.curves import curve_ks, task_curves
from constellation.evaluation.null import central, distribution, verdicts
from constellation.evaluation.reach import DRAWN, Known, KnownPrograms, classes, known_of, log_sum, solved_in
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults
from constellation.runtime.keys import host_rng

Array = NDArray[np.float64]
Parts = NDArray[np.intp]


def divisions(study: StudyResults, parts: int) -> Parts:
    """[S, parts, K // parts] trajectories, divided at random; what is left over plays no part."""
    rng = host_rng(study.analysis.seed, "null", "trajectories", parts)
    order = rng.permuted(np.tile(np.arange(study.trajectories), (study.analysis.halvings, 1)), axis=1)
    size = study.trajectories // parts
    return order[:, : parts * size].reshape(-1, parts, size)


def several(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """How often each verdict is reached over several trajectories: {name: {primary bank: as `verdicts`}}.

    Pairs of start and last round; and, for the second difference, triples of start, first and last round. At
    least two trajectories of each.
    """
    choice = study.analysis
    bank = choice.primary_bank
    curve = task_curves(study, bank, study.start, [choice.small_k, choice.large_k])  # [K, T, 2]
    found = {}
    for parts, name in ((2, "pairs"), (3, "triples")):
        size = study.trajectories // parts
        if size < 2 or len(study.rounds) < parts - 1:
            continue
        # each of [S, size, T, 2]
        start, *between, last = np.moveaxis(curve[divisions(study, parts)], 1, 0)
        drawn = bootstrap.first_trajectories(size, host_rng(choice.seed, "bootstrap", "null", name))
        change = drawn(bank, (last - start).transpose(1, 2, 0, 3))
        second = None
        if between:
            levels = (last - 2 * between[0] + start)[..., 0]  # [S, size, T]
            second = drawn(bank, levels.transpose(1, 2, 0))
        found[f"{name}, {size} trajectories"] = {bank: verdicts(change, second, choice)}
    return found


def another_warm_start(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """What changes from one half of the starts to the other: the control of the report's curves.

    Returns:
        {"trajectories" a half, "change_at_k": {bank: {k: interval}}, and with known programs "reach":
        of `of_reach`, "mass_ledger": {class: {"change" | "reach_change": distribution}}}; empty of
        fewer than four trajectories.
    """
    if study.trajectories < 4:
        return {}
    halves, level = divisions(study, 2), study.analysis.level
    starts, lasts = halves.swapaxes(0, 1)  # [S, K // 2] each
    result: dict[str, Any] = {"trajectories": halves.shape[2], "change_at_k": {}}
    for bank in study.tasks:
        ks = curve_ks(study, bank, study.start)
        means = task_curves(study, bank, study.start, ks).mean(1)  # [K, len(ks)]
        changed = (means[lasts] - means[starts]).mean(1)  # [S, len(ks)]
        result["change_at_k"][bank] = dict(zip(ks, central(changed, level).T, strict=True))
    programs = study.parts.get("reach")
    if isinstance(programs, KnownPrograms):
        known = known_of(study, programs)
        result["reach"] = of_reach(study, bootstrap, known, starts, lasts)
        result["mass_ledger"] = of_mass(study, known, starts, lasts)
    return result


def pairs_of(study: StudyResults) -> list[tuple[int, int]]:
    """Every ordered pair of trajectories."""
    return list(permutations(range(study.trajectories), 2))


def of_pairs(table: Mapping[tuple[int, int], Array], starts: Parts, lasts: Parts) -> Array:
    """[S, K // 2, ...] what a table says of each pair of a start and a last round."""
    return np.array(
        [[table[pair] for pair in zip(*halves, strict=True)] for halves in zip(starts, lasts, strict=True)]
    )


def of_reach(
    study: StudyResults, bootstrap: Bootstrap, known: Known, starts: Parts, lasts: Parts
) -> dict[str, Any]:
    """How far reach changes, and how often it is said to expand.

    Returns:
        {"change": {B: interval}, of means; "statistic": distribution at the B of the verdict; "rate" of
        expansion, over base and start; "rate_over_start" of reach rising over the start alone}.
    """
    programs, choice, tasks = known.programs, study.analysis, len(study.tasks[known.programs.bank])
    budgets = [*DRAWN, choice.reach_at]
    table = {}
    for one, other in pairs_of(study):
        asked = known.own[one] | known.own[other]
        base, start, last = (
            solved_in(log_sum(programs, asked, programs.of(model, k), tasks), budgets)  # [T, N]
            for model, k in ((study.base, 0), (study.start, one), (study.start, other))
        )
        table[one, other] = np.stack([last - base, last - start], axis=-1)
    gains = of_pairs(table, starts, lasts)  # [S, K // 2, T, N, 2]
    changed = gains[..., 1].mean((1, 2))  # [S, N]
    drawn = bootstrap.first_trajectories(starts.shape[1], host_rng(choice.seed, "bootstrap", "null", "reach"))
    p = drawn(programs.bank, gains[..., -1, :].transpose(1, 2, 0, 3)).p_above  # [S, 2]
    alpha = 1 - choice.level
    return {
        "replicates": len(starts),
        "change": dict(zip(DRAWN, central(changed[:, :-1], choice.level).T, strict=True)),
        "statistic": distribution(changed[:, -1], choice.level),
        "rate": (p.max(1) <= alpha).mean(),
        "rate_over_start": (p[:, 1] <= alpha).mean(),
    }


def of_mass(study: StudyResults, known: Known, starts: Parts, lasts: Parts) -> dict[str, Any]:
    """How far the mass ledger changes, class by class; the samples that one class goes by are the start's."""
    programs, choice, tasks = known.programs, study.analysis, len(study.tasks[known.programs.bank])
    pairs = pairs_of(study)
    asked = np.array([known.own[one] | known.own[other] for one, other in pairs])  # [P, D]
    result = {}
    for name, own in classes(study, programs, asked, [one for one, _ in pairs]).items():
        table = {}
        for pair, subset in zip(pairs, own, strict=True):
            log_mass = [log_sum(programs, subset, programs.of(study.start, k), tasks) for k in pair]
            mass = [np.exp(one).mean() for one in log_mass]
            reached = [solved_in(one, [choice.reach_at]).mean() for one in log_mass]
            table[pair] = np.array([mass[1] - mass[0], reached[1] - reached[0]])
        values = of_pairs(table, starts, lasts).mean(1)  # [S, 2]
        result[name] = {
            "change": distribution(values[:, 0], choice.level),
            "reach_change": distribution(values[:, 1], choice.level),
        }
    return result
