"""How many different programs solve a task: counted, and at a fixed number of correct samples.

The plain count of distinct correct programs grows with the number of correct samples, so a model that merely
solves more often looks more diverse. Rarefaction (Hurlbert 1971) removes that: the expected number of
distinct programs among m of the c correct samples, drawn without replacement, unbiased for every m <= c.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student

from constellation.evaluation.drawing import INK, colour, names_axis, panels
from constellation.evaluation.entries import Entry, entry
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
DATA = "STaR data"  # stands for a bank: each trajectory's round has tasks of its own
COUNTED = "distinct correct programs of a solved task"
RAREFIED = "distinct correct programs at a fixed number of correct samples"


def correct_counts(samples: SampleSet) -> NDArray[np.int64]:
    """[D] how many samples wrote each distinct program, 0 for a program that is not correct."""
    counts = np.bincount(samples.program.ravel(), minlength=len(samples.text))
    return np.where(samples.right, counts, 0)


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


def diversity(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """In the data of each round, counted and rarefied; on the banks rarefied, over tasks that all solve.

    Returns:
        facts: how many tasks each number rests on.
    """
    m, level = study.analysis.diversity_samples, study.analysis.level
    rows: list[Entry] = []
    solved: dict[str, dict[str, int]] = {}
    for name in dict.fromkeys(stage.name for stage in study.stages if stage.pool is not None):
        pools = [stage.pool for stage in study.stages if stage.name == name and stage.pool is not None]
        counts = {
            COUNTED: [distinct_programs(pool) for pool in pools],
            RAREFIED: [rarefied_programs(pool, m) for pool in pools],
        }
        rows += [
            Entry(quantity, DATA, (name,), None, *pooled_mean(own, level), unit="programs")
            for quantity, own in counts.items()
        ]
        solved[name] = {quantity: np.isfinite(own).sum() for quantity, own in counts.items()}
    common = {}
    for bank in study.tasks:
        found = {
            model: study.per_task(bank, model, lambda s: rarefied_programs(s, m))
            for model in study.models[1:]
        }
        all_solve = ~np.isnan(list(found.values())).any((0, 1))  # [T]: in all models and trajectories
        common[bank] = all_solve.sum()
        for model, values in found.items():
            estimate = bootstrap(bank, np.where(all_solve, values, 0), within=all_solve)
            rows.append(entry(RAREFIED, bank, (model,), None, estimate, unit="programs"))
    return Answer(rows, {"data_tasks": solved, "bank_tasks": common})


def pooled_mean(values: list[Array], level: float) -> tuple[float | None, tuple[float, float] | None]:
    """Mean over the solved tasks of a round with Student's t interval.

    Args:
        values: of each trajectory, [T] with NaN where not defined. Its tasks are its own, so nothing is
            crossed: with several trajectories their means are the units, with one its tasks.
        level: coverage.
    """
    known = [one[~np.isnan(one)] for one in values]
    units = known[0] if len(known) == 1 else np.array([one.mean() for one in known if len(one)])
    if len(units) < 2:
        return (units.mean() if len(units) else None), None
    reach = student.ppf((1 + level) / 2, len(units) - 1) * units.std(ddof=1) / math.sqrt(len(units))
    return units.mean(), (units.mean() - reach, units.mean() + reach)


def diversity_figure(results: Results) -> Figure | None:
    """Distinct correct programs a solved task: counted and rarefied, in the data and on the banks."""
    study, facts, m = results.study, results.facts[QUESTION.name], results.study.analysis.diversity_samples
    groups = []
    for title, quantity in ((f"{DATA}, counted", COUNTED), (f"{DATA}, {m} samples", RAREFIED)):
        groups.append((title, results.entries.where(quantity=quantity, bank=DATA), "solved tasks"))
    for bank, tasks in facts["bank_tasks"].items():
        rows = results.entries.where(quantity=RAREFIED, bank=bank if tasks else None)
        groups.append((f"{bank}, {m} samples", rows, f"{tasks} tasks"))
    groups = [(title, rows, over) for title, rows, over in groups if rows]
    if not groups:
        return None
    figure, axes = panels(len(groups), height=2.5, sharey=False)
    for ax, (title, rows, over) in zip(axes, groups, strict=True):
        for position, row in enumerate(rows):
            paint = colour(study, row.models[0]) if row.models[0] in study.models else INK
            if row.interval is not None and None not in row.interval:
                ax.plot([position, position], row.interval, color=paint, linewidth=2, alpha=0.55)
            if row.estimate is not None:
                ax.plot(position, row.estimate, "o", color=paint, markersize=6)
        names_axis(ax, [row.models[0] for row in rows])
        ax.set_ylim(1, max(1.1, ax.get_ylim()[1]))  # a solved task has one program at least
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(over)
    axes[0].set_ylabel("distinct programs")
    return figure


QUESTION = Question(
    name="diversity",
    title="How many programs solve a task",
    answer=diversity,
    figures={"distinct_programs": diversity_figure},
    always=True,
)
