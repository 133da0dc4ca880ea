"""Which survivor to hand in: what every selector is worth, and whether the critic beats the others.

Selectors are compared on every bank and model whose candidates the critic scored, under all split seeds for
which it did, six in the study. A task's values are averaged over the split seeds first; at a large k, seeds
with fewer candidates are left out.

Two claims are read on the primary bank at small_k. The *finding* says that the critic's pick is right more
often than the first survivor. The *primary extension* says so of the critic and its *rival*: the best
unlearned selector that knows no more than it does. The rival is chosen among the candidates of tuning tasks,
so that the numbers compared have no part in the choice; one claim, hence no correction. All else here is
exploratory.

The *room* is what the oracle gains over the first survivor. The critic's share of it is a ratio of means,
because a single task's ratio is undefined where there is nothing to win.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation import drawing
from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.drawing import INK
from constellation.evaluation.entries import Entry, entry, points
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.selectors import (
    SELECTORS,
    Columns,
    Selection,
    best_unlearned,
    combined,
    divergence,
    select,
)
from constellation.evaluation.statistics import Bootstrap, wider
from constellation.evaluation.study import Part, SetKey, StudyResults
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
Sets = Sequence[tuple[SampleSet, Columns]]  # one for each trajectory
Place = tuple[str, str, int]  # bank, model and k

ACCURACY, ACCURACY_DIVERGENT = "accuracy of the pick", "accuracy of the pick on divergent tasks"
GAIN = "gain over the first survivor"
LEAD = "difference between two selectors"
RIVAL = "difference from the unlearned rival"
ROOM = "share of the room"
FIXED = "critic, fixed tasks"  # `of` in rows of `ROOM` whose tasks are weighted by the start's divergence
DIVERGENT = "divergent tasks"
EXCHANGED = "null rate of a lead over the rival"
TUNING = "tuning"  # takes the place of a bank's name
LEARNED = [name for name, selector in SELECTORS.items() if selector.learned]
OVER_K = ("critic", "majority", "likeliest", "ideal_critic")  # selectors that are drawn over k


@dataclass(frozen=True)
class Selectors(Part):
    """What selectors read about the study's samples.

    Attributes:
        model: the model whose candidates both claims are read on, usually the start.
        columns: for some of the study's sets, "critic" and further columns of `selectors.COLUMNS`, [D] each
            and NaN where a program does not fit. All sets of one model on one bank have the same columns.
        tuning: the model's samples of *tuning* tasks, one set for each trajectory, with the columns of the
            unlearned selectors. The critic's rival is chosen on them. Empty if none were drawn.
    """

    model: str
    columns: Mapping[SetKey, Columns] = field(default_factory=dict)
    tuning: Sets = ()

    def check(self, study: StudyResults) -> None:
        """Refuses missing trajectories, columns without critic scores, and unlike columns of one model."""
        study.check_trajectories(self.columns, "critic scores")
        kinds: dict[tuple[str, str], set[str]] = {}
        for key, columns in self.columns.items():
            if "critic" not in columns:
                raise UserError(
                    f"{key} has selector columns and no critic scores: score it, or leave both out"
                )
            if kinds.setdefault(key[:2], set(columns)) != set(columns):
                raise UserError(
                    f"sets of {key.model} on {key.bank} differ in their selector columns: each needs all"
                )

    def drawn(self) -> Iterator[tuple[str, str, int]]:
        for samples, _ in self.tuning:
            yield "tuning", self.model, samples.program.size

    def critic_sets(self, study: StudyResults, keys: Iterable[SetKey]) -> Sets:
        """Sets of the study, each with the critic's scores as its only column."""
        return [(study.samples[key], {"critic": self.columns[key]["critic"]}) for key in keys]

    def splits(self, study: StudyResults, bank: str, model: str, k: int = 1) -> list[int]:
        """The split seeds under which the model has columns and at least k samples; there may be none."""
        keys = (key for key in self.columns if key[:2] == (bank, model) and study.samples[key].n >= k)
        return sorted({key.split_seed for key in keys})

    def places(self, study: StudyResults) -> list[Place]:
        """Every bank, model and k at which selectors are compared."""
        sizes: dict[tuple[str, str], list[int]] = {}
        for key in sorted(self.columns):
            sizes.setdefault(key[:2], []).append(study.samples[key].n)
        return [(*pair, k) for pair, pools in sizes.items() for k in group_sizes(study, [max(pools)])]

    def primary(self, study: StudyResults) -> Place:
        """Where both claims are read."""
        return study.analysis.primary_bank, self.model, study.analysis.small_k


def selectors_of(study: StudyResults) -> Selectors:
    """The study's part for this question, or one without columns."""
    part = study.parts.get(QUESTION.name, Selectors(study.start))
    assert isinstance(part, Selectors)
    return part


def group_sizes(study: StudyResults, pools: Iterable[int]) -> list[int]:
    """The k of selection that all pools of these sizes can fill; always small_k, which the claims rest on."""
    smallest, choice = min(pools), study.analysis
    return sorted({choice.small_k, *(k for k in choice.selection_ks if k <= smallest)})


def picked(study: StudyResults, part: Selectors, place: Place) -> Selection:
    """Every selector on every group of k, [S, K, T], under the S split seeds with at least k candidates."""
    bank, model, k = place
    seeds = part.splits(study, bank, model, k) or part.splits(study, bank, model)  # `cut` refuses these

    def for_all_trajectories(arrays: Sequence[Array]) -> Array:  # the base's one set stands for all
        return np.broadcast_to(arrays, (study.trajectories, len(arrays[0])))

    keys = [[SetKey(bank, model, seed, r) for r in study.trajectories_of(model)] for seed in seeds]
    found = [[select(study.samples[key], k, part.columns[key]) for key in row] for row in keys]
    return combined([combined(row, for_all_trajectories) for row in found])


def critic_gain(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """Accuracy of the critic's pick minus that of the first survivor at small_k, claimed positive."""
    part = selectors_of(study)
    bank, model, k = part.primary(study)
    text = "The critic picks better than the first surviving candidate."
    if (bank, model, k) not in part.places(study):
        return NotMeasured(text, f"no critic scored the candidates of {model} on the {bank} bank")
    found = picked(study, part, (bank, model, k))
    gains = found.gain()  # [S, K, T]
    values = gains.mean(0)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    gained = points(*wider(*both).at(0)[:3])
    seeds = part.splits(study, bank, model, k)
    per_split = dict(zip(seeds, gains.mean((1, 2)), strict=True))
    positive = sum(gain > 0 for gain in per_split.values())
    won = found.on_divergent["critic"] - found.on_divergent["naive"]
    on_divergent = bootstrap(bank, won.mean(0), within=found.divergent.mean(0))
    return Claim(
        text=text,
        directions=(+1,),
        both=both,
        values=values,
        openings=("The critic helps", "The critic does not help", "Whether the critic helps stays open"),
        sentence=(
            f"with {k} candidates on the {bank} bank, its pick gains {gained} points over the first "
            f"survivor, ahead on {positive} of {len(seeds)} split seeds"
        ),
        details={
            "bank": bank,
            "model": model,
            "k": k,
            "per_split": per_split,
            "positive_splits": positive,
            "divergent_share": found.divergent.mean(),
            "on_divergent": {
                "estimate": on_divergent.value,
                "interval": [on_divergent.low, on_divergent.high],
            },
        },
    )


def selection(study: StudyResults, part: Selectors, bootstrap: Bootstrap) -> Answer:
    """Every selector, learned ones against their rivals, shares of the room, and the primary extension."""
    primary = part.primary(study)
    rows: list[Entry] = []
    found = {place: picked(study, part, place) for place in part.places(study)}
    rivals = tuned(part, {k for _, _, k in found})
    for place, own in found.items():
        bank, model, k = place
        where = bank, (model,), k
        rows += selector_rows(bootstrap, place, own, place == primary)
        for name in (name for name in LEARNED if name in own.accuracy and k in rivals):
            lead = bootstrap(bank, own.gain(name, best_unlearned(rivals[k], name)).mean(0))
            tested = (place, name) != (primary, "critic")  # the primary extension
            rows.append(entry(RIVAL, *where, lead, tested=tested, of=name))
        rooms = {"critic": (own.gain().mean(0), own.gain("oracle").mean(0))}
        if fixed := on_fixed_tasks(study, part, place, own):
            rooms[FIXED] = fixed
        rows += [entry(ROOM, *where, bootstrap(bank, *room), of=name) for name, room in rooms.items()]
    claim = extension(study, bootstrap, part, found, rivals)
    if isinstance(claim, Claim):
        bank, model, k = primary
        rate = exchanged_rate(study, bootstrap, bank, claim.values[..., 0])
        rows.append(Entry(EXCHANGED, bank, (model,), k, rate))
        for name, hits in rivals[k].accuracy.items():
            rows.append(Entry(ACCURACY, TUNING, (model,), k, hits.mean(), of=name))
    return Answer(
        rows,
        {
            "model": part.model,
            "extension": claim.judged(study.analysis, study.scope),
            "rivals": {k: {name: best_unlearned(own, name) for name in LEARNED} for k, own in rivals.items()},
            "tuning_tasks": len(part.tuning[0][0].task_ids) if part.tuning else 0,
            "information": {name: selector.information.name for name, selector in SELECTORS.items()},
            "learned": LEARNED,
        },
    )


def selector_rows(bootstrap: Bootstrap, place: Place, found: Selection, primary: bool) -> list[Entry]:
    """Every selector, overall, against the first survivor, and on divergent groups.

    Tested is the critic's gain; where that is the primary finding, all other gains, the critic against each
    selector, and its mass against the vote. The oracle, which is never behind, is left out.
    """
    (bank, model, k), names = place, list(found.accuracy)
    others = [name for name in names if name not in ("critic", "naive", "oracle")]
    accuracy, on_divergent = (
        np.stack([of[name].mean(0) for name in names], axis=-1) for of in (found.accuracy, found.on_divergent)
    )  # [K, T, selectors]
    estimates = {
        ACCURACY: bootstrap(bank, accuracy),
        GAIN: bootstrap(bank, accuracy - accuracy[..., [names.index("naive")]]),
        ACCURACY_DIVERGENT: bootstrap(bank, on_divergent, within=found.divergent.mean(0)),
    }
    tested = {GAIN: others if primary else ["critic"]}
    rows = [Entry(DIVERGENT, bank, (model,), k, found.divergent.mean())]
    for quantity, estimate in estimates.items():
        for i, name in enumerate(names):
            is_tested = name in tested.get(quantity, ())
            rows.append(entry(quantity, bank, (model,), k, estimate.at(i), tested=is_tested, of=name))
    pairs = [*(("critic", name) for name in others), ("critic_mass", "majority")]
    for one, other in pairs if primary else ():
        lead = bootstrap(bank, found.gain(one, other).mean(0))
        rows.append(entry(LEAD, bank, (model,), k, lead, tested=True, of=f"{one} minus {other}"))
    return rows


def tuned(part: Selectors, ks: Iterable[int]) -> dict[int, Selection]:
    """Selection on the tuning tasks, at each of these k for which there are enough samples."""
    smallest = min((samples.n for samples, _ in part.tuning), default=0)
    found = {
        k: [select(samples, k, columns) for samples, columns in part.tuning]
        for k in sorted(ks)
        if k <= smallest
    }
    return {k: combined(own, lambda arrays: np.mean(arrays, axis=0)) for k, own in found.items()}


def extension(
    study: StudyResults,
    bootstrap: Bootstrap,
    part: Selectors,
    found: Mapping[Place, Selection],
    rivals: Mapping[int, Selection],
) -> Claim | NotMeasured:
    """Accuracy of the critic's pick minus that of its rival at small_k, claimed positive.

    `found` is what is picked on the banks, `rivals` on the tuning tasks.
    """
    bank, model, k = part.primary(study)
    text = "The critic picks better than the best unlearned selector that knows no more."
    if (bank, model, k) not in found or k not in rivals:
        reason = f"no {k} candidates of {model} for tuning tasks and for the {bank} bank were scored"
        return NotMeasured(text, reason)
    rival = best_unlearned(rivals[k])
    values = found[bank, model, k].gain("critic", rival).mean(0)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    gained = points(*wider(*both).at(0)[:3])
    return Claim(
        text=text,
        directions=(+1,),
        both=both,
        values=values,
        openings=(
            "The critic beats its rival",
            "The critic does not beat its rival",
            "Whether the critic beats its rival stays open",
        ),
        sentence=(
            f"with {k} candidates of {model} on the {bank} bank the critic's pick gains {gained} points over "
            f"that of {rival}, on tuning tasks the best unlearned selector that knows no more"
        ),
        details={"bank": bank, "model": model, "k": k, "rival": rival},
    )


def exchanged_rate(study: StudyResults, bootstrap: Bootstrap, bank: str, lead: Array) -> float:
    """How often a lead is found where there is none: with the two selectors exchanged on tasks at random.

    Where they are exchanged on a task, the sign of `lead` [K, T] is reversed in all trajectories.
    """
    choice = study.analysis
    rng = host_rng(choice.seed, "null", bank, "exchanged")
    signs = rng.choice([-1, 1], (lead.shape[1], choice.halvings))
    return float((bootstrap(bank, lead[..., None] * signs).p_above <= 1 - choice.level).mean())


def on_fixed_tasks(
    study: StudyResults, part: Selectors, place: Place, found: Selection
) -> tuple[Array, Array] | None:
    """The gains of critic and oracle, [K, T] each, weighted by the start's divergence at k on the same split.

    So models are compared on the same tasks. For the start itself a group's gain is weighted by the
    divergence of the pool's *other* groups, since luck in its own draws would count twice. With D and g the
    means of divergence and gain over G groups, and m that of their product, the mean over pairs of unlike
    groups is (G D g - m) / (G - 1).

    None where no split has a group of the start's candidates, or two groups if the model is the start.
    """
    bank, model, k = place
    leads: dict[str, list[Array]] = {"critic": [], "oracle": []}
    for s, seed in enumerate(part.splits(study, bank, model, k)):
        keys = [SetKey(bank, study.start, seed, r) for r in range(study.trajectories)]
        if not all(key in study.samples for key in keys):
            continue
        groups = study.samples[keys[0]].n // k
        if groups < 1 + (model == study.start):
            continue
        weight = np.array([divergence(study.samples[key], k) for key in keys])  # [K, T]
        for name, values in leads.items():
            value = found.gain(name)[s]
            product = (found.on_divergent[name] - found.on_divergent["naive"])[s]
            others = (groups * weight * value - product) / max(groups - 1, 1)
            values.append(others if model == study.start else weight * value)
    if not leads["critic"]:
        return None
    won, size = (np.mean(values, axis=0) for values in leads.values())
    return won, size


def selectors(results: Results) -> Figure | None:
    """Selectors at small_k, overall and on divergent tasks, and some over k against the first survivor.

    The oracle is the ceiling; the diamond is a critic that learned permuted labels.
    """
    bank, small = results.study.analysis.primary_bank, results.study.analysis.small_k
    models = (results.facts[QUESTION.name]["model"],)
    rows = results.entries.where(question=QUESTION.name, bank=bank, models=models)
    names = rows.where(quantity=ACCURACY, k=small).values("of")
    if not names:
        return None
    figure, axes = drawing.panels(3, height=3.1, sharey=False)
    shares = (ACCURACY, "all tasks"), (ACCURACY_DIVERGENT, "divergent tasks")
    for ax, (quantity, title) in zip(axes, shares, strict=False):
        for position, name in enumerate(reversed(names)):
            row = rows.one(quantity=quantity, k=small, of=name)
            if row.estimate is not None:
                drawing.interval_mark(ax, position, row, drawing.SELECTORS.get(name, INK), level=True)
        ax.set_yticks(range(len(names)), list(reversed(names)))
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.grid(axis="y", visible=False)
        ax.set(title=f"k = {small}, {title}", xlabel="pick generalises, %")
    axes[2].axhline(0, color=INK, linewidth=0.9)
    for name in filter(names.__contains__, OVER_K):
        style = (0, (4, 2)) if name == "ideal_critic" else "-"
        curve = rows.where(quantity=GAIN, of=name)
        drawing.band(axes[2], curve, drawing.SELECTORS[name], name, style=style)
    for row in results.entries.where(question="controls", quantity=GAIN, bank=bank):  # of permuted labels
        drawing.interval_mark(axes[2], small, row, INK, marker="D", size=5)
    axes[2].set(title="gain by k, in these colours", ylabel="minus first survivor, points")
    drawing.k_axis(axes[2], rows.where(quantity=GAIN).values("k"))
    return figure


def rivals(results: Results) -> Figure | None:
    """Each learned selector minus its unlearned rival over k on the primary bank, a panel for each model."""
    rows = results.entries.where(quantity=RIVAL, bank=results.study.analysis.primary_bank)
    if not rows:
        return None
    curves = [
        drawing.Curve(rows.where(of=name), drawing.SELECTORS[name], name, marker="o")
        for name in rows.values("of")
    ]
    figure, axes = drawing.curves_by_bank(curves, "minus its unlearned rival, points", 2.9, by="models")
    for (model,), ax in axes.items():
        drawing.zero_line(ax)
        ax.set_title(f"candidates of {model}")
    return figure


QUESTION = Question(
    name="selection",
    title="Which survivor to hand in",
    answer=selection,
    figures={"selectors": selectors, "rivals": rivals},
    missing="no critic scored the study's candidates",
)
