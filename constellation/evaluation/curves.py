"""pass@k of every model on every bank and on its parts, and the k that a set of pools can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation.drawing import Curve, colour, curves_by_bank
from constellation.evaluation.entries import Entry, entries
from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults, TaskInfo
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]
PASS = "pass@k"
PART, PART_CHANGE = "pass@k on a part of the bank", "change of pass@k on a part of the bank"


def task_curves(
    study: StudyResults, bank: str, model: str, ks: Sequence[int], column: str = "right"
) -> Array:
    """[K, T, len(ks)] pass@k of each trajectory and task (visible-fit@k with column "fits")."""
    return study.per_task(bank, model, lambda s: pass_curve(s.per_sample(getattr(s, column)), ks))


def pooled_curves(sets: Sequence[SampleSet], ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] pass@k from R sets of samples of the same tasks."""
    return np.array([pass_curve(own.per_sample(own.right), ks) for own in sets])


def change(study: StudyResults, bank: str, model: str, ks: Sequence[int]) -> Array:
    """[K, T, len(ks)] D(k) = pass@k(model) - pass@k(start) of each trajectory and task."""
    return task_curves(study, bank, model, ks) - task_curves(study, bank, study.start, ks)


def second_difference(study: StudyResults, bank: str, models: Sequence[str], k: int) -> Array:
    """[K, T] gain in pass@k from the second to the third of three models minus that from first to second."""
    before, between, after = (task_curves(study, bank, model, [k])[..., 0] for model in models)
    return (after - between) - (between - before)


def curve_ks(study: StudyResults, bank: str, *models: str) -> range:
    """1..max_k, as far as the pools of all these models answer."""
    return range(1, min(study.analysis.max_k, study.pool_size(bank, *models)) + 1)


def verdict_ks(study: StudyResults, bank: str, *models: str) -> range:
    """1..n/2, the k at which something may be concluded.

    At larger k, pass@k from n samples a task nearly says whether any sample was correct, and is as noisy.
    """
    return range(1, study.pool_size(bank, *models) // 2 + 1)


def check_verdict(study: StudyResults, bank: str, models: Sequence[str], k: int) -> None:
    """Refuses a verdict at a k beyond n/2, by a `UserError`."""
    if k not in verdict_ks(study, bank, *models):
        n = study.pool_size(bank, *models)
        raise UserError(
            f"a verdict on pass@{k} needs at least {2 * k} samples a task, there are {n} of "
            f"{', '.join(models)} on the {bank} bank: sample more or lower evaluation.large_k or small_k"
        )


def curves(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """pass@k of every model on every bank, and of the parts of the banks."""
    rows: list[Entry] = []
    sizes = {}
    for bank, tasks in study.tasks.items():
        for model in study.models:
            rows += model_curves(study, bootstrap, bank, model, PASS, "right")
        masks = subset_masks(tasks)
        rows += subsets(study, bootstrap, bank, masks)
        sizes[bank] = {name: mask.sum() for name, mask in masks.items()}
    return Answer(rows, {"tasks_of_parts": sizes})


def model_curves(
    study: StudyResults, bootstrap: Bootstrap, bank: str, model: str, quantity: str, column: str
) -> list[Entry]:
    """A model's pass@k (visible-fit@k with column "fits") for k = 1..max_k, as far as its pools answer."""
    ks = curve_ks(study, bank, model)
    values = task_curves(study, bank, model, ks, column)  # [K, T, len(ks)]
    each = values.mean(1) if model != study.base else None  # the base has one curve for all
    return entries(quantity, bank, (model,), ks, bootstrap(bank, values), by_trajectory=each)


def subset_masks(tasks: Sequence[TaskInfo]) -> dict[str, NDArray[np.bool_]]:
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


def subsets(
    study: StudyResults, bootstrap: Bootstrap, bank: str, masks: Mapping[str, NDArray[np.bool_]]
) -> list[Entry]:
    """pass@k of the parts of a bank at the deciding k, and the last round's change from the start."""
    levels = {}
    for model in dict.fromkeys((study.base, *study.first_and_last)):
        ks = [k for k in study.deciding_ks if k <= study.pool_size(bank, model)]
        levels[model] = ks, task_curves(study, bank, model, ks)  # [K, T, len(ks)]
    compared: list[tuple[str, tuple[str, ...], list[int], Array]]
    compared = [(PART, (model,), *level) for model, level in levels.items()]
    if study.rounds:
        (ks, before), (_, after) = (levels[model] for model in study.first_and_last)
        compared.append((PART_CHANGE, study.first_and_last, ks, after - before))
    rows = []
    for name, mask in masks.items():
        for quantity, models, ks, values in compared:
            estimate = bootstrap(bank, values * mask[:, None], within=mask)
            tested = ks if quantity == PART_CHANGE else ()
            rows += entries(quantity, bank, models, ks, estimate, tested=tested, of=name)
    return rows


def pass_at_k_figure(results: Results) -> Figure | None:
    """pass@k of every model on every bank, with bands; thin lines are its trajectories."""
    study, rows = results.study, results.entries.where(quantity=PASS)
    drawn = [Curve(rows.where(models=(model,)), colour(study, model), model) for model in study.models]
    figure, axes = curves_by_bank(drawn, "pass@k, % of tasks", height=3.4)
    for bank, ax in axes.items():
        ax.set_title(f"{bank}  \N{MIDDLE DOT}  {len(study.tasks[bank])} tasks")
        ax.set_ylim(0, 100)
    return figure


QUESTION = Question(
    name="curves",
    title="What k samples solve",
    answer=curves,
    figures={"pass_at_k": pass_at_k_figure},
    always=True,
)
