"""How many different programs solve a task, at a fixed number of correct samples.

The plain count of distinct correct programs grows with the number of correct samples, so a model that merely
solves more often looks more diverse. Rarefaction (Hurlbert 1971) removes that: the expected number of
distinct programs among m of the c correct samples, drawn without replacement, unbiased for every m <= c.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from constellation.evaluation.pass_at_k import pass_at_k
from constellation.samples import SampleSet


def correct_counts(samples: SampleSet) -> NDArray[np.int64]:
    """[D] how many samples wrote each distinct program, 0 for a program that is not correct."""
    counts = np.bincount(samples.program.ravel(), minlength=len(samples.text))
    return np.where(samples.generalises, counts, 0)


def distinct_programs(samples: SampleSet) -> NDArray[np.float64]:
    """[T] distinct correct programs of each task (what the paper counts), NaN where the task is unsolved."""
    found = np.bincount(samples.task, weights=correct_counts(samples) > 0, minlength=len(samples.task_ids))
    return np.where(found > 0, found, np.nan)


def rarefied_programs(samples: SampleSet, m: int) -> NDArray[np.float64]:
    """Expected distinct correct programs among m correct samples, for each task.

    sum over programs i of 1 - C(c - c_i, m) / C(c, m), where c_i of the task's c correct samples wrote i.

    Args:
        samples: T tasks.
        m: the fixed number of correct samples.

    Returns:
        [T] float64 in [1, m], NaN where a task has fewer than m correct samples.
    """
    counts = correct_counts(samples)  # [D]
    tasks = len(samples.task_ids)
    total = np.bincount(samples.task, weights=counts, minlength=tasks)  # [T]
    enough = total >= m
    usable = enough[samples.task]
    seen = np.zeros(len(counts))
    seen[usable] = pass_at_k(total[samples.task[usable]], counts[usable], m)
    return np.where(enough, np.bincount(samples.task, weights=seen, minlength=tasks), np.nan)
