"""Reach: what a model could write in B samples, for B far beyond the samples that were drawn.

pass@k from n samples ends at k = n, and beyond a model can hold programs that no pool shows. But how
probable a program is *given to it* a model says exactly. With m the probability, at temperature 1 and
untruncated, that an answer is one of the task's *known* generalising programs,

    reach(B) = mean over tasks of 1 - (1 - m)^B

is what B samples solve by known programs. A trajectory knows the secret program and those among the first
samples of the base and of each of its models, as many of each. So every model is scored on the same programs,
differences are paired, and trajectories remain replicates of each other.

m is a lower bound of the chance P to be right. Three numbers tell what it misses:

- c / n - m, of all n samples that were drawn c being right: as E[c / n] = P, this *missing mass* is unbiased,
  but noisy;
- N1 / n', with N1 the right programs that the n' samples that were looked at show once: in expectation above
  the mass of all that they never show (Good 1953), of which the other models' samples know some more;
- the spellings of a program that no model used: the likeliest, by the tokenizer itself, is always counted.

*Expansion* claims that the last round's reach at one B, fixed in the config, lies above both the base's and
the start's (intersection-union: the larger of two one-sided p-values).

The *mass ledger* says where training moves probability: it has m and the reach by m alone for each class of
the known programs, without sampling. What a class gains, other classes or wrong answers have lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike, NDArray

from constellation.evaluation import drawing
from constellation.evaluation.claims import Claim
from constellation.evaluation.curves import pooled_curves
from constellation.evaluation.entries import Entry, entries, entry, points
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import Part, SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
DRAWN = tuple(2**i for i in range(21))  # budgets of the curves, up to a million
ALL = "all"  # the class of every known program

REACH, CHANGE = "reach", "change of reach"
EXPANSION = "expansion of reach over base and start"
PASSED = "pass@k of the samples beside reach"
RIGHT = "share of samples that are right"
MISSING = "share of samples that are right by unknown programs"
GOOD_TURING = "Good-Turing bound of the unknown programs' probability"
PROGRAMS = "known programs a task"
MASS, MASS_CHANGE = "probability of the known programs", "change of the known programs' probability"
CLASS_REACH, CLASS_REACH_CHANGE = "reach by a class of programs", "change of reach by a class of programs"
NULL_REACH = "null of the change of reach"  # this and the next are of rows of the question `null`
NULL_MASS = "null of the change of the known programs' probability"


@dataclass(frozen=True)
class KnownPrograms(Part):
    """D programs that generalise: each task's secret one, and all that some model was seen to write."""

    bank: str
    samples: int  # how many of a pool's samples, the first ones, were looked at: as many of every model
    task: NDArray[np.integer]  # [D] index into the bank's tasks; ascending
    text: NDArray[np.object_]  # [D] distinct within a task
    atoms: NDArray[np.integer]  # [D] parts that the program concatenates
    structures: tuple[tuple[str, ...], ...]  # [D] the withheld classes it belongs to, usually none
    secret: Mask  # [D] whether it is the secret program, however it is spelt
    log_prob: Mapping[tuple[str, int], Array]  # (model, trajectory) -> [D] ln p(program) under the model

    @property
    def models(self) -> tuple[str, ...]:
        """Every model with probabilities, in order."""
        return tuple(dict.fromkeys(model for model, _ in self.log_prob))

    def log_prob_of(self, model: str, trajectory: int) -> Array:
        """[D] a model's `log_prob` in a trajectory; the base has one, trajectory 0's, for all."""
        return self.log_prob.get((model, trajectory), self.log_prob[model, 0])

    def log_mass(self, subset: Mask, model: str, trajectory: int) -> Array:
        """[T] ln of the probability that a model answers with a task's programs of this subset [D]."""
        result = np.full(self.task[-1] + 1, -np.inf)  # every task has a program, its secret one
        np.logaddexp.at(result, self.task[subset], self.log_prob_of(model, trajectory)[subset])
        return np.minimum(result, 0)  # rounding may lift a sum that is all but certain


class Known(NamedTuple):
    """The known programs as each trajectory knows them."""

    programs: KnownPrograms  # of all trajectories
    own: Mask  # [K, D] those in a trajectory's known set
    log_mass: Mapping[str, Array]  # model -> [K, T] ln m of its own programs


def known_of(study: StudyResults, programs: KnownPrograms) -> Known:
    """What each of the study's trajectories knows of these programs."""
    tasks = study.tasks[programs.bank]
    secret = [tasks[t].program == text for t, text in zip(programs.task, programs.text, strict=True)]
    own = np.logical_or.reduce([written(study, programs, model) for model in study.models]) | secret
    return Known(programs, own, {model: log_mass(programs, own, model) for model in programs.models})


def log_mass(programs: KnownPrograms, own: Mask, model: str) -> Array:
    """[K, T] ln of the probability that a model answers with a program that the trajectory knows, [K, D]."""
    return np.array([programs.log_mass(subset, model, k) for k, subset in enumerate(own)])


def written(study: StudyResults, programs: KnownPrograms, model: str) -> Mask:
    """[K, D] which programs are among the samples of a model that were looked at, in each trajectory."""
    keys = list(zip(programs.task.tolist(), programs.text.tolist(), strict=True))
    pools = [pool(study, programs, model, k) for k in range(study.trajectories)]
    found = [generalising(samples, programs.samples) for samples in pools]
    return np.array([[key in own for key in keys] for own in found])


def pool(study: StudyResults, programs: KnownPrograms, model: str, trajectory: int) -> SampleSet:
    """A model's samples on the programs' bank, under the primary split; the base's stand for all."""
    own = 0 if model == study.base else trajectory
    return study.samples[SetKey(programs.bank, model, study.primary_split, own)]


def generalising(samples: SampleSet, first: int) -> dict[tuple[int, str], int]:
    """How often each generalising program, by (task, text), is among each task's first samples.

    Fewer samples a task are refused.
    """
    if first > samples.n:
        raise UserError(
            f"reach compares {first} samples of every model, one has {samples.n}: lower reach.samples"
        )
    counts = np.bincount(samples.program[:, :first].ravel(), minlength=len(samples.text))
    rows = np.flatnonzero((counts > 0) & samples.right)
    return {(int(samples.task[row]), str(samples.text[row])): int(counts[row]) for row in rows}


def solved_in(log_mass: ArrayLike, budgets: Sequence[int]) -> Array:
    """[..., N] 1 - (1 - m)^B for N budgets B, exact to rounding however small m [...] or large B."""
    log_mass = np.asarray(log_mass, np.float64)
    with np.errstate(divide="ignore"):  # ln(1 - m), each way where it is the exact one (Maechler 2012)
        small, large = np.log1p(-np.exp(log_mass)), np.log(-np.expm1(log_mass))
    log_miss = np.where(log_mass < -np.log(2), small, large)
    return -np.expm1(log_miss[..., None] * np.asarray(budgets, np.float64))


def reach(study: StudyResults, programs: KnownPrograms, bootstrap: Bootstrap) -> Answer:
    """Every model's reach, its changes over base and start, whether it expands, and the mass ledger."""
    known, bank, tested = known_of(study, programs), programs.bank, study.analysis.reach_budgets
    budgets = sorted({*DRAWN, *tested})
    rows: list[Entry] = []
    for model in study.models:
        reached = bootstrap(bank, solved_in(known.log_mass[model], budgets))
        rows += entries(REACH, bank, (model,), budgets, reached)
        rows += drawn_samples(study, bootstrap, known, model)
    for model in (*study.rounds, *study.arms):
        for before in (study.base, study.start):
            changed = bootstrap(bank, reach_change(known, before, model, budgets))
            rows += entries(CHANGE, bank, (before, model), budgets, changed, tested=tested)
    rows += mass_ledger(study, bootstrap, known)
    judged: dict[str, Any] | None = None
    if study.rounds:
        row, judged = expanded(study, bootstrap, known, study.rounds[-1])
        rows.append(row)
    return Answer(rows, {"bank": bank, "samples": programs.samples, "expansion": judged})


def drawn_samples(study: StudyResults, bootstrap: Bootstrap, known: Known, model: str) -> list[Entry]:
    """What a model's own samples say: pass@k, the share that is right, and what m misses of it."""
    programs, bank = known.programs, known.programs.bank
    pools = [pool(study, programs, model, k) for k in range(study.trajectories)]
    right = np.array([drawn.per_sample(drawn.right).mean(1) for drawn in pools])  # [K, T]
    once = np.zeros_like(right)
    for k, drawn in enumerate(pools):
        for (task, _), count in generalising(drawn, programs.samples).items():
            once[k, task] += (count == 1) / programs.samples
    ks = [k for k in DRAWN if k <= min(drawn.n for drawn in pools)]
    passed = zip(ks, pooled_curves(pools, ks).mean((0, 1)), strict=True)
    found = {RIGHT: right, MISSING: right - np.exp(known.log_mass[model]), GOOD_TURING: once}
    return [
        *(Entry(PASSED, bank, (model,), k, share) for k, share in passed),
        *(entry(name, bank, (model,), None, bootstrap(bank, values)) for name, values in found.items()),
    ]


def reach_change(known: Known, before: str, after: str, budgets: Sequence[int]) -> Array:
    """[K, T, N] how much more `after` reaches than `before`."""
    return solved_in(known.log_mass[after], budgets) - solved_in(known.log_mass[before], budgets)


def expansion(study: StudyResults, bootstrap: Bootstrap, known: Known, model: str) -> Claim:
    """The claim that a model's reach lies above the base's and the start's, at the B of the config."""
    at, bank, before = study.analysis.reach_at, known.programs.bank, (study.base, study.start)
    values = np.concatenate([reach_change(known, name, model, [at]) for name in before], axis=2)  # [K, T, 2]
    both = bootstrap.both(bank, values)
    over = [f"{points(*wider(*both).at(i)[:3])} points from {name}" for i, name in enumerate(before)]
    return Claim(
        text=f"Training raises reach in {at} samples above that of {' and of '.join(before)}.",
        directions=(+1, +1),
        both=both,
        values=values,
        openings=("Reach expands", "Reach does not expand", "Whether reach expands stays open"),
        sentence=f"on the {bank} bank, reach in {at} samples changes by {' and '.join(over)} to {model}",
        details={"model": model, "before": before},
    )


def expanded(
    study: StudyResults, bootstrap: Bootstrap, known: Known, model: str
) -> tuple[Entry, dict[str, Any]]:
    """The row of a model's claim of expansion, and the claim as judged."""
    claim, models = expansion(study, bootstrap, known, model), (study.base, study.start, model)
    row = claim.entry(EXPANSION, known.programs.bank, models, study.analysis.reach_at)
    return row, claim.judged(study.analysis, study.scope)


def mass_ledger(study: StudyResults, bootstrap: Bootstrap, known: Known) -> list[Entry]:
    """For each class its mass under every model, and what that mass would solve in reach_at samples."""
    programs, bank, at = known.programs, known.programs.bank, study.analysis.reach_at
    rows = []
    for name, own in classes(study, programs, known.own, np.arange(study.trajectories)).items():
        count = own.sum(1).mean() / len(study.tasks[bank])
        rows.append(Entry(PROGRAMS, bank, (), None, count, of=name, unit="programs"))
        masses = {model: log_mass(programs, own, model) for model in programs.models}
        values = {model: solved_in(mass, [1, at]) for model, mass in masses.items()}  # [K, T, 2] m, reach
        for model, value in values.items():
            found = bootstrap(bank, value)
            rows.append(entry(MASS, bank, (model,), None, found.at(0), of=name))
            rows.append(entry(CLASS_REACH, bank, (model,), at, found.at(1), of=name))
            if model not in (study.base, study.start):
                pair, change = (study.start, model), bootstrap(bank, value - values[study.start])
                rows.append(entry(MASS_CHANGE, bank, pair, None, change.at(0), tested=True, of=name))
                rows.append(entry(CLASS_REACH_CHANGE, bank, pair, at, change.at(1), tested=True, of=name))
    return rows


def classes(
    study: StudyResults, programs: KnownPrograms, own: Mask, starts: NDArray[np.integer]
) -> dict[str, Mask]:
    """N sets of known programs, `own` [N, D], and their parts by class; classes that are empty are left out.

    Programs are classed by the parts that they concatenate, by withheld class, as secret program or other,
    and by whether the start's samples show them, for which each set goes by the trajectory in `starts` [N].
    Programs that are not in the start's samples are selected for being improbable to the start. That a round
    finds each of them likelier is therefore no surprise; that their whole mass grows is informative.
    """
    masks = {ALL: np.ones_like(programs.secret)}
    for atoms in np.unique(programs.atoms):
        masks[f"{atoms} atom{'s' if atoms > 1 else ''}"] = programs.atoms == atoms
    for name in sorted({name for names in programs.structures for name in names}):
        masks[f"withheld: {name}"] = np.array([name in names for names in programs.structures])
    masks["no withheld class"] = np.array([not names for names in programs.structures])
    masks["secret program"] = programs.secret
    masks["other programs"] = ~programs.secret
    masks[f"in {study.start}'s samples"] = written(study, programs, study.start)[starts]
    masks[f"not in {study.start}'s samples"] = ~masks[f"in {study.start}'s samples"]
    parts = {name: own & mask for name, mask in masks.items()}
    return {name: part for name, part in parts.items() if name == ALL or part.any()}


def reach_curves(results: Results) -> Figure | None:
    """Reach over B with pass@k as dots, and each round's minus the base's and minus the start's.

    Dotted curves say by how much another warm start alone changes it.
    """
    rows, study = results.entries.where(question=QUESTION.name), results.study
    paints = {model: drawing.colour(study, model) for model in study.models}
    figure, axes = drawing.panels(3, height=3.2, sharey=False)
    for model, paint in paints.items():
        drawing.band(axes[0], rows.where(quantity=REACH, models=(model,)), paint, model)
        passed = rows.where(quantity=PASSED, models=(model,))
        dots = drawing.percent(row.estimate for row in passed)
        axes[0].plot(passed.values("k"), dots, "o", color=paint, markersize=3)
    axes[0].set(title="reach, and pass@k as dots", ylabel="% of tasks", ylim=(0, 100))
    for ax, other in zip(axes[1:], (study.base, study.start), strict=True):
        drawing.zero_line(ax)
        for model in (*study.rounds, *study.arms):
            drawing.band(ax, rows.where(quantity=CHANGE, models=(other, model)), paints[model], model)
        ax.set(title=f"a round's reach minus {other}'s", ylabel="points")
    drawing.null_curve(axes[2], results.entries.where(quantity=NULL_REACH))
    for ax in axes:
        budgets_axis(ax, study.analysis.reach_at)
    drawing.legend_above(figure, axes[0])
    return figure


def budgets_axis(ax: Axes, at: int) -> None:
    """A logarithmic axis of sample budgets B, with a mark at the budget of the verdict."""
    drawing.mark(ax, at)
    ax.set_xscale("log")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("samples B")


def ledger_figure(results: Results) -> Figure | None:
    """The probability of each class of the known programs under every model, and its change from the start.

    Grey spans are what another warm start alone changes.
    """
    study, rows = results.study, results.entries.where(question=QUESTION.name)
    names = [name for name in rows.where(quantity=MASS).values("of") if name != ALL]
    figure = Figure(figsize=(10.4, 6))
    ax, changed = figure.subplots(2, 1)
    for i, model in enumerate(study.models):
        paint, offset = drawing.colour(study, model), 0.6 * ((i + 0.5) / len(study.models) - 0.5)
        masses = rows.where(quantity=MASS, models=(model,))
        changes = rows.where(quantity=MASS_CHANGE, models=(study.start, model))
        for axes, row in [*((ax, row) for row in masses), *((changed, row) for row in changes)]:
            if row.of != ALL:
                drawing.interval_mark(axes, names.index(row.of) + offset, row, paint, size=4)
        ax.plot([], [], "o", color=paint, markersize=4, label=model)
    for row in results.entries.where(quantity=NULL_MASS):
        if row.of in names:
            drawing.null_span(changed, names.index(row.of), row.interval)
    for axes in (ax, changed):
        labels = [fill(name.replace("withheld: ", ""), 10, break_long_words=False) for name in names]
        drawing.names_axis(axes, labels)
    ax.set(ylim=(0, None), ylabel="probability of an answer, %")
    drawing.zero_line(changed)
    changed.set_ylabel(f"change from {study.start}, points")
    drawing.legend_above(figure, ax)
    return figure


QUESTION = Question(
    name="reach",
    title="What many more samples would solve: reach",
    answer=reach,
    figures={"reach_curves": reach_curves, "mass_ledger": ledger_figure},
    missing="the study asked no model for the probability of its known programs",
)
