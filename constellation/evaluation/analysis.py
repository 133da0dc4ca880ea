"""Every number of the report, computed from a `StudyResults` and returned as plain JSON values.

The report and its plots read nothing else, so whatever they show stands in findings.json.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from constellation.evaluation.diversity import correct_counts, distinct_programs, rarefied_programs
from constellation.evaluation.findings import as_json, findings, task_curves
from constellation.evaluation.selection import Selection, divergence, select
from constellation.evaluation.statistics import Bootstrap, Estimate, minimum_detectable_effect, resample
from constellation.evaluation.study import SetKey, StudyResults, TaskInfo
from constellation.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Key = TypeVar("Key", int, str)
DIGITS = 6  # of every float in findings.json


def analyse(study: StudyResults) -> dict[str, Any]:
    """All results, with rounded floats, string keys and None for what is not defined."""
    choice = study.analysis
    weights = {
        bank: resample(len(tasks), choice.resamples, host_rng(choice.seed, "bootstrap", bank))
        for bank, tasks in study.tasks.items()
    }
    bootstrap = Bootstrap(weights, choice.level)
    passed = curves(study, bootstrap, "generalises")
    fitted = curves(study, bootstrap, "fits")
    return plain(
        {
            "findings": findings(study, bootstrap),
            "pass_at_k": passed["value"],
            "pass_at_k_interval": passed["interval"],
            "visible_fit_at_k": fitted["value"],
            "visible_fit_at_k_interval": fitted["interval"],
            "change_at_k": changes(study, bootstrap),
            "gains": gains(study, bootstrap),
            "subsets": subsets(study, bootstrap),
            "selection": selection(study, bootstrap),
            "divergence": divergences(study, bootstrap),
            "diversity": {"data": data_diversity(study), "banks": bank_diversity(study, bootstrap)},
            "false_generalising": false_generalising(study, bootstrap),
            "stages": [stage_figures(study, i) for i in range(len(study.stages))],
            "roles": study.roles,
            "splits": {bank: study.splits(bank) for bank in study.tasks},
            "samples_per_task": {bank: pool_size(study, bank) for bank in study.tasks},
            "tasks": {bank: len(tasks) for bank, tasks in study.tasks.items()},
            "models": study.models,
            "trajectory": study.trajectory,
            "analysis": dataclasses.asdict(choice),
        }
    )


def pool_size(study: StudyResults, bank: str) -> int:
    """The smallest n of the sets that pass@k is read from: the largest k that all of them can answer."""
    splits = study.splits(bank)
    return min(
        samples.n for key, samples in study.samples.items() if key.bank == bank and key.split_seed in splits
    )


def curve_ks(study: StudyResults, bank: str) -> list[int]:
    """1..max_k, as far as the bank's pools answer."""
    return list(range(1, min(study.analysis.max_k, pool_size(study, bank)) + 1))


def selection_ks(study: StudyResults, bank: str) -> list[int]:
    """The group sizes that all of the bank's pools can fill."""
    smallest = min(samples.n for key, samples in study.samples.items() if key.bank == bank)
    return [k for k in study.analysis.selection_ks if k <= smallest]


def curves(study: StudyResults, bootstrap: Bootstrap, column: str) -> dict[str, Any]:
    """pass@k (or visible-fit@k) for k = 1..max_k: {"value" | "interval": {bank: {model: {k: ...}}}}."""
    value: dict[str, Any] = {}
    interval: dict[str, Any] = {}
    for bank in study.tasks:
        ks = curve_ks(study, bank)
        value[bank], interval[bank] = {}, {}
        for model in study.models:
            tasks = task_curves(study, bank, model, ks, column)
            estimate = bootstrap(bank, tasks)
            value[bank][model] = dict(zip(ks, estimate.value, strict=True))
            interval[bank][model] = dict(zip(ks, zip(estimate.low, estimate.high, strict=True), strict=True))
    return {"value": value, "interval": interval}


def keyed(keys: Iterable[Key], estimates: Estimate) -> dict[Key, dict[str, Any]]:
    """Estimates of shape [K] as one entry for each of K keys."""
    return {key: as_json(Estimate(*parts)) for key, *parts in zip(keys, *estimates, strict=True)}


def changes(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """D(k) = pass@k(round) - pass@k(start): {bank: {round: {k: estimate}}}."""
    result: dict[str, Any] = {}
    for bank in study.tasks:
        ks = curve_ks(study, bank)
        start = task_curves(study, bank, study.start, ks)
        result[bank] = {}
        for model in (*study.rounds, *study.arms):
            change = task_curves(study, bank, model, ks) - start
            result[bank][model] = keyed(ks, bootstrap(bank, change))
    return result


def gains(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """What each round adds to the model before it, at both k: {bank: [{from, to, ks: {k: estimate}}]}."""
    choice = study.analysis
    ks = [choice.small_k, choice.large_k]
    result: dict[str, Any] = {}
    for bank in study.tasks:
        result[bank] = []
        for before, after in zip(study.trajectory[1:], study.rounds, strict=False):
            gain = task_curves(study, bank, after, ks) - task_curves(study, bank, before, ks)
            estimate = bootstrap(bank, gain)
            detectable = minimum_detectable_effect(gain, choice.level, choice.power)
            entries = keyed(ks, estimate)
            for k, effect in zip(ks, detectable, strict=True):
                entries[k]["minimum_detectable_effect"] = effect
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
    ks = [choice.small_k, choice.large_k]
    result: dict[str, Any] = {}
    for bank, tasks in study.tasks.items():
        by_model = {model: task_curves(study, bank, model, ks) for model in study.models}  # [T, 2] each
        result[bank] = {}
        for name, mask in subset_masks(list(tasks)).items():

            def mean(values: Array, bank: str = bank, mask: NDArray[np.bool_] = mask) -> dict[int, Any]:
                return keyed(ks, bootstrap(bank, values * mask[:, None], within=mask))

            result[bank][name] = {
                "tasks": mask.sum(),
                "pass_at_k": {model: mean(values) for model, values in by_model.items()},
                "change": mean(by_model[study.rounds[-1]] - by_model[study.start]) if study.rounds else None,
            }
    return result


def selection(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Every selector, overall and on divergent groups, where scores exist: {bank: {model: {k: ...}}}."""
    result: dict[str, Any] = {}
    for bank, model in sorted({key[:2] for key in study.critic_scores}):
        keys = [SetKey(bank, model, seed) for seed in study.scored_splits(bank, model)]
        entries: dict[int, Any] = {}
        for k in selection_ks(study, bank):
            picked = Selection.mean([select(study.samples[key], k, study.critic_scores[key]) for key in keys])
            accuracy = np.stack(list(picked.accuracy.values()), axis=1)  # [T, selectors]
            on_divergent = np.stack(list(picked.on_divergent.values()), axis=1)
            parts = {
                "overall": bootstrap(bank, accuracy),
                "gain": bootstrap(bank, accuracy - picked.accuracy["naive"][:, None]),
                "on_divergent": bootstrap(bank, on_divergent, within=picked.divergent),
            }
            columns = {part: keyed(picked.accuracy, estimate) for part, estimate in parts.items()}
            entries[k] = {
                "divergent_share": picked.divergent.mean(),
                "selectors": {
                    name: {part: column[name] for part, column in columns.items()} for name in picked.accuracy
                },
            }
        result.setdefault(bank, {})[model] = entries
    return result


def divergences(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Share of k-groups whose survivors disagree on a held-out input: {bank: {model: {k: estimate}}}."""
    result: dict[str, Any] = {}
    for bank in study.tasks:
        ks = selection_ks(study, bank)
        result[bank] = {}
        for model in study.models:

            def share(samples: SampleSet, ks: list[int] = ks) -> Array:
                return np.stack([divergence(samples, k) for k in ks], axis=1)  # [T, K]

            result[bank][model] = keyed(ks, bootstrap(bank, study.per_task(bank, model, share))) if ks else {}
    return result


def data_diversity(study: StudyResults) -> dict[str, Any]:
    """Distinct correct programs a solved task in each STaR round's own samples, plain and rarefied."""
    m = study.analysis.diversity_samples
    result: dict[str, Any] = {}
    for stage in study.stages:
        if stage.pool is None:
            continue
        plain_count = distinct_programs(stage.pool)
        rarefied = rarefied_programs(stage.pool, m)
        result[stage.name] = {
            "solved_tasks": (~np.isnan(plain_count)).sum(),
            "distinct": normal_mean(plain_count, study.analysis.level),
            "rarefied_tasks": (~np.isnan(rarefied)).sum(),
            "rarefied": normal_mean(rarefied, study.analysis.level),
        }
    return result


def normal_mean(values: Array, level: float) -> dict[str, Any]:
    """Mean of the defined values with Student's t interval: two pools differ in tasks, so nothing pairs."""
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return {"estimate": values.mean() if len(values) else None, "interval": None}
    reach = student.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return {"estimate": values.mean(), "interval": [values.mean() - reach, values.mean() + reach]}


def bank_diversity(study: StudyResults, bootstrap: Bootstrap) -> dict[str, Any]:
    """Rarefied distinct programs on the banks, over the tasks that start and rounds all solve enough."""
    m = study.analysis.diversity_samples
    result: dict[str, Any] = {}
    for bank in study.tasks:
        found = {
            model: study.per_task(bank, model, lambda s: rarefied_programs(s, m))
            for model in study.models[1:]
        }
        common = ~np.isnan(list(found.values())).any(0)
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
                "probed_samples_per_task": probed[:, 0].mean(),
                **as_json(bootstrap(bank, probed[:, 1], within=probed[:, 0])),
            }
    return result


def stage_figures(study: StudyResults, index: int) -> dict[str, Any]:
    """One training stage without its samples."""
    stage = study.stages[index]
    return {f.name: getattr(stage, f.name) for f in dataclasses.fields(stage) if f.name != "pool"}


def plain(value: Any) -> Any:
    """JSON values of the same bytes for the same inputs: rounded floats, string keys, None for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, DIGITS) + 0.0  # no negative zero
    return value
