"""pass@k over trajectories and tasks, and the k that a set of pools can answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.pass_at_k import pass_curve
from constellation.evaluation.study import StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]


def task_curves(
    study: StudyResults, bank: str, model: str, ks: Sequence[int], column: str = "generalises"
) -> Array:
    """[K, T, len(ks)] pass@k of each trajectory and task (visible-fit@k with column "fits")."""
    return study.per_task(bank, model, lambda s: pass_curve(s.per_sample(getattr(s, column)), ks))


def pooled_curves(sets: Sequence[SampleSet], ks: Sequence[int]) -> Array:
    """[R, T, len(ks)] pass@k from R sets of samples of the same tasks."""
    return np.array([pass_curve(own.per_sample(own.generalises), ks) for own in sets])


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
    """1..n/2, the k that something may be concluded from.

    Beyond, pass@k from n samples a task is close to whether any sample was correct, and as noisy.
    """
    return range(1, study.pool_size(bank, *models) // 2 + 1)


def check_verdict(study: StudyResults, bank: str, models: Sequence[str], k: int) -> None:
    """Refuses a verdict at a k beyond n/2.

    Raises:
        UserError: names the models' n.
    """
    if k not in verdict_ks(study, bank, *models):
        n = study.pool_size(bank, *models)
        raise UserError(
            f"a verdict on pass@{k} needs at least {2 * k} samples a task, there are {n} of "
            f"{', '.join(models)} on the {bank} bank: sample more or lower evaluation.large_k or small_k"
        )
