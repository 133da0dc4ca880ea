"""Every number of the report, computed from a `StudyResults` and returned as plain JSON values.

The report and its plots read nothing else, so whatever they show stands in findings.json.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from constellation.evaluation.beyond_filtering import beyond_filtering
from constellation.evaluation.controls import controls
from constellation.evaluation.critic_gain import divergences, picks, selection
from constellation.evaluation.critic_variants import critic_variants
from constellation.evaluation.crossover import crossings
from constellation.evaluation.curves import change, curve_ks, task_curves
from constellation.evaluation.deceleration import headroom
from constellation.evaluation.diversity import correct_counts, distinct_programs, rarefied_programs
from constellation.evaluation.entries import as_json, keyed, plain
from constellation.evaluation.exploratory import adjust, exploratory
from constellation.evaluation.findings import findings, overall, primary_claims
from constellation.evaluation.ledger import ledger
from constellation.evaluation.methods import methods
from constellation.evaluation.null import nulls
from constellation.evaluation.question import Question, Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.selector_gains import selector_gains
from constellation.evaluation.statistics import Bootstrap, minimum_detectable_effect, resample
from constellation.evaluation.study import StageSummary, StudyResults, TaskInfo
from constellation.evaluation.warm_start_null import another_warm_start, several
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def analyse(study: StudyResults, questions: Sequence[Question] = QUESTIONS) -> Results:
    """All results, with rounded floats, string keys and None for what is not defined."""
    choice = study.analysis
    bootstrap = resamples(study)
    picked = picks(study)
    claims = primary_claims(study, bootstrap, picked)
    passed = curves(study, bootstrap, "generalises")
    fitted = curves(study, bootstrap, "fits")
    results: dict[str, Any] = {
        "findings": findings(study, claims),
        "overall": overall(study, claims),
        "exploratory": exploratory(study, bootstrap, picked),
        "pass_at_k": passed["value"],
        "pass_at_k_interval": passed["interval"],
        "pass_at_k_by_trajectory": passed["by_trajectory"],
        "visible_fit_at_k": fitted["value"],
        "visible_fit_at_k_interval": fitted["interval"],
        "change_at_k": changes(study, bootstrap),
        "crossing": crossings(study, bootstrap),
        "gains": gains(study, bootstrap),
        "headroom": headroom(study, bootstrap),
        "ledger": ledger(study),
        "null": nulls(study, bootstrap) | several(study, bootstrap),
        "another_warm_start": another_warm_start(study, bootstrap),
        "controls": controls(study, bootstrap),
        "subsets": subsets(study, bootstrap),
        "selection": selection(bootstrap, picked),
        "selectors": selector_gains(study, bootstrap, picked),
        "divergence": divergences(study, bootstrap),
        "critic_variants": critic_variants(study, bootstrap),
        "beyond_filtering": beyond_filtering(study, bootstrap),
        "diversity": {"data": data_diversity(study), "banks": bank_diversity(study, bootstrap)},
        "false_generalising": false_generalising(study, bootstrap),
        "methods": methods(study),
        "stages": stages(study),
        "roles": study.roles,
        "splits": {bank: study.splits(bank) for bank in study.tasks},
        "samples_per_task": {
            bank: {model: study.pool_size(bank, model) for model in study.models} for bank in study.tasks
        },
        "tasks": {bank: len(tasks) for bank, tasks in study.tasks.items()},
        "models": study.models,
        "sequence": study.sequence,
        "trajectories": study.trajectories,
        "analysis": dataclasses.asdict(choice),
    }
    rows, facts = [], {}
    for question in questions:
        if question.always or question.name in study.parts:
            answer = question.answer(study, study.parts.get(question.name), bootstrap)
            rows += [row._replace(question=question.name) for row in answer.entries]
            facts[question.name] = plain(answer.facts)
    entries, results["discoveries"] = adjust(results, rows, choice.level)
    return Results(study, entries, facts, plain(results))


def resamples(study: StudyResults) -> Bootstrap:
    """The resamples of a study: the trajectories' for all banks, each bank's tasks' its own."""
    choice = study.analysis

    def drawn(units: int, *address: str) -> Array:
        return resample(units, choice.resamples, host_rng(choice.seed, "bootstrap", *address))

    return Bootstrap(
        drawn(study.trajectories, "trajectories"),
        {bank: drawn(len(tasks), bank) for bank, tasks in study.tasks.items()},
        choice.level,
    )


def curves(study: StudyResults, bootstrap: Bootstrap, column: str) -> dict[str, Any]:
    """pass@k (or visible-fit@k) for k = 1..max_k, as far as a model's pools answer.

    Returns:
        {"value" | "interval": {bank: {model: {k: ...}}}, "by_trajectory": {bank: {model: [K curves]}}}; no
        curves for the base, which has one for all.
    """
    parts: dict[str, Any] = {"value": {}, "interval": {}, "by_trajectory": {}}
    for bank in study.tasks:
        for part in parts.values():
            part[bank] = {}
        for model in study.models:
            ks = curve_ks(study, bank, model)
            tasks = task_curves(study, bank, model, ks, column)  # [K, T, len(ks)]
            estimate = bootstrap(bank, tasks)
            parts["value"][bank][model] = dict(zip(ks, estimate.value, strict=True))
            ends = zip(estimate.low, estimate.high, strict=True)
            parts["interval"][bank][model] = dict(zip(ks, ends, strict=True))
            parts["by_trajectory"][bank][model] = tasks.mean(1) if model != study.base else []
    return parts


def changes(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """D(k) = pass@k(round) - pass@k(start): {bank: {round: {k: estimate, by trajectory too}}}."""
    result: dict[str, Any] = {}
    for bank in study.tasks:
        result[bank] = {}
        for model in (*study.rounds, *study.arms):
            ks = curve_ks(study, bank, study.start, model)
            values = change(study, bank, model, ks)
            entries = keyed(ks, bootstrap(bank, values))
            for k, each in zip(ks, values.mean(1).T, strict=True):
                entries[k]["by_trajectory"] = each
            result[bank][model] = entries
    return result


def gains(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """What each round adds to the model before it, at those of both k that both pools answer.

    Returns:
        {bank: [{from, to, ks: {k: estimate}}]}.
    """
    choice = study.analysis
    result: dict[str, Any] = {}
    for bank in study.tasks:
        result[bank] = []
        for before, after in zip(study.sequence[1:], study.rounds, strict=False):
            ks = [k for k in (choice.small_k, choice.large_k) if k <= study.pool_size(bank, before, after)]
            gain = task_curves(study, bank, after, ks) - task_curves(study, bank, before, ks)
            # the first round's gain is its change from the start, which is tested as such
            entries = keyed(ks, bootstrap(bank, gain), tested=before != study.start)
            detectable = minimum_detectable_effect(gain, (1 - choice.level) / 2, choice.power)
            for k, effect, each in zip(ks, detectable, gain.mean(1).T, strict=True):
                entries[k] |= {"minimum_detectable_effect": effect, "by_trajectory": each}
            result[bank].append({"from": before, "to": after, "ks": entries})
    return result


def subset_masks(tasks: list[TaskInfo]) -> dict[str, NDArray[np.bool_]]:
    """The named parts of a bank: by atoms, by withheld class, by novelty of the skeleton; [T] bool each."""
    masks = {
        "at most 3 atoms": np.array([task.atoms <= 3 for task in tasks]),
        "exactly 4 atoms": np.array([task.atoms == 4 for task in tasks]),
    }
    for name in sorted({name for task in tasks for name in task.structures}):
        masks[name] = np.array([name in task.structures for task in tasks])
    masks["skeleton seen in training"] = np.array([task.skeleton_seen for task in tasks])
    masks["skeleton new"] = ~masks["skeleton seen in training"]
    return {name: mask for name, mask in masks.items() if 0 < mask.sum() < len(tasks)}


def subsets(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """pass@small_k and pass@large_k of each part of a bank, and the last round's change from the start."""
    choice = study.analysis
    result: dict[str, Any] = {}
    for bank, tasks in study.tasks.items():
        by_model = {}
        for model in dict.fromkeys((study.base, study.start, study.sequence[-1])):
            ks = [k for k in (choice.small_k, choice.large_k) if k <= study.pool_size(bank, model)]
            by_model[model] = ks, task_curves(study, bank, model, ks)  # [K, T, len(ks)]
        result[bank] = {}
        for name, mask in subset_masks(list(tasks)).items():

            def mean(
                ks: list[int],
                values: Array,
                tested: bool = False,
                bank: str = bank,
                mask: NDArray[np.bool_] = mask,
            ) -> dict[int, Any]:
                return keyed(ks, bootstrap(bank, values * mask[:, None], within=mask), tested)

            result[bank][name] = {
                "tasks": mask.sum(),
                "pass_at_k": {model: mean(*curve) for model, curve in by_model.items()},
                "change": None,
            }
            if study.rounds:
                (ks, before), (_, after) = by_model[study.start], by_model[study.rounds[-1]]
                result[bank][name]["change"] = mean(ks, after - before, tested=True)
    return result


def data_diversity(study: StudyResults) -> dict[str, Any]:
    """Distinct correct programs a solved task in each STaR round's own samples, plain and rarefied."""
    m, level = study.analysis.diversity_samples, study.analysis.level
    pools: dict[str, list[SampleSet]] = {}
    for stage in study.stages:
        if stage.pool is not None:
            pools.setdefault(stage.name, []).append(stage.pool)
    result: dict[str, Any] = {}
    for name, sets in pools.items():
        distinct, rarefied = [distinct_programs(s) for s in sets], [rarefied_programs(s, m) for s in sets]
        result[name] = {
            "solved_tasks": np.isfinite(distinct).sum(),
            "distinct": pooled_mean(distinct, level),
            "rarefied_tasks": np.isfinite(rarefied).sum(),
            "rarefied": pooled_mean(rarefied, level),
        }
    return result


def pooled_mean(values: list[Array], level: float) -> dict[str, Any]:
    """Mean over the solved tasks of a round with Student's t interval.

    Args:
        values: of each trajectory, [T] with NaN where not defined. Its tasks are its own, so nothing is
            crossed: with several trajectories their means are the units, with one its tasks.
    """
    known = [one[~np.isnan(one)] for one in values]
    units = known[0] if len(known) == 1 else np.array([one.mean() for one in known if len(one)])
    if len(units) < 2:
        return {"estimate": units.mean() if len(units) else None, "interval": None}
    reach = student.ppf((1 + level) / 2, len(units) - 1) * units.std(ddof=1) / math.sqrt(len(units))
    return {"estimate": units.mean(), "interval": [units.mean() - reach, units.mean() + reach]}


def bank_diversity(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Rarefied distinct programs on the banks, over the tasks that start and rounds all solve enough."""
    m = study.analysis.diversity_samples
    result: dict[str, Any] = {}
    for bank in study.tasks:
        found = {
            model: study.per_task(bank, model, lambda s: rarefied_programs(s, m))
            for model in study.models[1:]
        }
        common = ~np.isnan(list(found.values())).any((0, 1))  # [T]: in all models and trajectories
        result[bank] = {
            "tasks": common.sum(),
            "models": {
                model: as_json(bootstrap(bank, np.where(common, values, 0), within=common))
                for model, values in found.items()
            },
        }
    return result


def false_generalising(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Share of generalising samples whose program errs on a probe: the 12 examples of a task missed it."""

    def wrong(samples: SampleSet) -> Array:
        """[T, 2] probed correct samples of each task, and those of them that err on some probe."""
        counts = np.where(samples.probe_correct >= 0, correct_counts(samples), 0)
        errs = counts * (samples.probe_correct < study.probes)
        tasks = len(samples.task_ids)
        return np.stack([np.bincount(samples.task, column, tasks) for column in (counts, errs)], axis=1)

    result: dict[str, Any] = {}
    for bank in study.tasks:
        result[bank] = {}
        for model in study.models:
            probed = study.per_task(bank, model, wrong)
            result[bank][model] = {
                "probed_samples_per_task": probed[..., 0].mean(),
                **as_json(bootstrap(bank, probed[..., 1], within=probed[..., 0])),
            }
    return result


def stages(study: StudyResults) -> list[dict[str, Any]]:
    """The training stages without their samples, in order; each the mean over its trajectories.

    `losses` holds a list for each trajectory.
    """
    by_name: dict[str, list[StageSummary]] = {}
    for stage in study.stages:
        by_name.setdefault(stage.name, []).append(stage)
    figures = ("tasks", "samples", "kept_tasks", "kept", "updates", "answer_tokens")
    return [
        {"name": name, "role": group[0].role, "losses": [list(stage.losses) for stage in group]}
        | {figure: mean_figure([getattr(stage, figure) for stage in group]) for figure in figures}
        for name, group in by_name.items()
    ]


def mean_figure(values: list[int | None]) -> int | None:
    """The rounded mean of those that apply."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known)) if known else None
