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

from constellation.evaluation import drawing
from constellation.evaluation.entries import Entry, entry
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
DATA = "STaR data"  # takes the place of a bank's name: each trajectory's rounds have tasks of their own
COUNTED = "distinct correct programs of a solved task"
RAREFIED = "distinct correct programs at a fixed number of correct samples"


def distinct_programs(samples: SampleSet) -> Array:
    """[T] distinct correct programs of each task (what the paper counts), NaN where the task is unsolved."""
    found = samples.sum_by_task(samples.right & (samples.counts > 0))
    return np.where(found > 0, found, np.nan)


def rarefied_programs(samples: SampleSet, m: int) -> Array:
    """[T] expected distinct correct programs among m correct samples, NaN where a task has fewer than m.

    sum over programs i of 1 - C(c - c_i, m) / C(c, m), where c_i of the task's c correct samples wrote i.
    """
    counts = samples.counts * samples.right  # [D]
    total = samples.sum_by_task(counts)  # [T]
    usable = (total >= m)[samples.task]  # [D]
    seen = np.zeros(len(counts))
    seen[usable] = pass_at_k(total[samples.task[usable]], counts[usable], m)
    return np.where(total >= m, samples.sum_by_task(seen), np.nan)


def diversity(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """Distinct programs in each round's data, and on the banks, rarefied, over tasks that all models solve.

    The facts say how many tasks each number rests on.
    """
    m, rows = study.analysis.diversity_samples, []
    pools: dict[str, list[SampleSet]] = {}
    for stage in study.stages:
        if stage.pool is not None:
            pools.setdefault(stage.name, []).append(stage.pool)
    solved = {}
    for name, own in pools.items():
        counts = {
            COUNTED: [distinct_programs(pool) for pool in own],
            RAREFIED: [rarefied_programs(pool, m) for pool in own],
        }
        for quantity, by_trajectory in counts.items():
            mean = pooled_mean(by_trajectory, study.analysis.level)
            rows.append(Entry(quantity, DATA, (name,), None, *mean, unit="programs"))
        solved[name] = {quantity: np.isfinite(one).sum() for quantity, one in counts.items()}
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

    `values` has an array [T] for each trajectory, NaN where not defined. Trajectories have different tasks,
    so the design is not crossed: the units are the trajectories' means, or the tasks of a single trajectory.
    """
    known = [one[~np.isnan(one)] for one in values]
    units = known[0] if len(known) == 1 else np.array([one.mean() for one in known if len(one)])
    if len(units) < 2:
        return (units.mean() if len(units) else None), None
    reach = student.ppf((1 + level) / 2, len(units) - 1) * units.std(ddof=1) / math.sqrt(len(units))
    return units.mean(), (units.mean() - reach, units.mean() + reach)


def diversity_figure(results: Results) -> Figure | None:
    """Distinct correct programs a solved task: counted and rarefied, in the data and on the banks."""
    study, m = results.study, results.study.analysis.diversity_samples
    rows, tasks = results.entries, results.facts[QUESTION.name]["bank_tasks"]
    groups = {
        (f"{DATA}, counted", "solved tasks"): rows.where(quantity=COUNTED, bank=DATA),
        (f"{DATA}, {m} samples", "solved tasks"): rows.where(quantity=RAREFIED, bank=DATA),
    }
    for bank, count in tasks.items():
        if count:
            groups[f"{bank}, {m} samples", f"{count} tasks"] = rows.where(quantity=RAREFIED, bank=bank)
    groups = {name: own for name, own in groups.items() if own}
    if not groups:
        return None
    figure, axes = drawing.panels(len(groups), height=2.5, sharey=False)
    for ax, ((title, over), own) in zip(axes, groups.items(), strict=True):
        for position, row in enumerate(own):
            (model,) = row.models
            paint = drawing.colour(study, model) if model in study.models else drawing.INK
            drawing.interval_mark(ax, position, row, paint, scale=1)
        drawing.names_axis(ax, [row.models[0] for row in own])
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
