"""The critic under other circumstances: other visible examples, trained anew, on a base of its own.

*Visible examples*: what critic, majority and oracle gain over the first survivor, and the critic's share of
the room, which is the oracle's gain. The more examples are visible, the fewer wrong programs survive; whether
that leaves less room is read from the difference between neighbouring numbers. A program is right iff it is
right on all examples of a task, visible or not, so accuracies at all numbers can be compared.

*Critics*: what a critic that was trained otherwise gains over the first survivor, what the study's own gains
on the same candidates, and the difference.

All of it is exploratory, under the primary split, and in the first trajectories, which have these variants.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation import drawing
from constellation.evaluation.entries import Entries, Entry, entry
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.selection import (
    ACCURACY,
    DIVERGENT,
    GAIN,
    LEAD,
    ROOM,
    Sets,
    group_sizes,
    selectors_of,
)
from constellation.evaluation.selectors import Selection, select_each
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import Part, SetKey, StudyResults, trajectory_count
from constellation.runtime.keys import host_rng

GAINS = ("critic", "majority", "oracle")
GAIN_CHANGE = "change of the gain over the first survivor"


@dataclass(frozen=True)
class Critics(Part):
    """Candidates of other prompts and scores of other critics, in the first trajectories.

    Attributes:
        visible: number of visible examples, other than the study's -> the samples of `model` on the primary
            bank when it is shown so many, with the critic's scores; one set for each trajectory.
        model: the model that selection is read on.
        scores: name of a critic trained otherwise -> its scores [D] for sets of the study that have the
            study's critic scores, all of one model on one bank.
    """

    visible: Mapping[int, Sets]
    model: str
    scores: Mapping[str, Mapping[SetKey, NDArray[Any]]]

    @property
    def trajectories(self) -> int:
        """How many trajectories have the variants."""
        keys = [key for scores in self.scores.values() for key in scores]
        return max(trajectory_count(keys), *map(len, self.visible.values()), 0)

    def check(self, study: StudyResults) -> None:
        """Refuses scores with a gap in their trajectories."""
        for name, scores in self.scores.items():
            study.check_trajectories(scores, name, trajectory_count(scores))

    def drawn(self) -> Iterator[tuple[str, str, int]]:
        for sets in self.visible.values():
            yield "variants", self.model, sum(samples.program.size for samples, _ in sets)


def critics(study: StudyResults, part: Critics, bootstrap: Bootstrap) -> Answer:
    """What changes with the number of visible examples, and with the critic."""
    bank, count = study.analysis.primary_bank, part.trajectories
    rng = host_rng(study.analysis.seed, "bootstrap", "variant trajectories")
    drawn = bootstrap.first_trajectories(count, rng)
    own_visible, sets = len(study.tasks[bank][0].visible), dict(part.visible)
    if sets:
        shown = len(next(iter(sets.values())))
        keys = study.primary_keys(bank, part.model, shown)
        sets[own_visible] = selectors_of(study).critic_sets(study, keys)
    visible = {number: f"{part.model}, {number} visible" for number in sorted(sets)}
    by_name = {name: sets[number] for number, name in visible.items()}
    facts = {
        "trajectories": count,
        "own_visible": own_visible,
        "visible": visible,
        "critics": {name: next(iter(scores)).model for name, scores in part.scores.items()},
    }
    return Answer([*visible_rows(study, drawn, by_name), *critic_rows(study, part, drawn)], facts)


def visible_rows(study: StudyResults, bootstrap: Bootstrap, sets: Mapping[str, Sets]) -> list[Entry]:
    """Accuracy and gains at every number of visible examples, and how the gains change at small_k.

    All k are taken that all pools can fill. Changes are from each number to the next, and from the first to
    the last.
    """
    bank, small, rows = study.analysis.primary_bank, study.analysis.small_k, []
    ks = group_sizes(study, (samples.n for pools in sets.values() for samples, _ in pools)) if sets else []
    found = {name: {k: select_each(own, k) for k in ks} for name, own in sets.items()}
    for name, by_k in found.items():
        for k, one in by_k.items():
            rows.append(entry(ACCURACY, bank, (name,), k, bootstrap(bank, one.accuracy["naive"]), of="naive"))
            rows += gains(bootstrap, bank, name, k, one)
            for other in GAINS[1:]:
                won, tested = bootstrap(bank, one.gain(other)), other != "oracle"  # which is never behind
                rows.append(entry(GAIN, bank, (name,), k, won, tested=tested, of=other))
            rows.append(Entry(DIVERGENT, bank, (name,), k, one.divergent.mean()))
    names = list(found)
    for pair in [*itertools.pairwise(names), *([(names[0], names[-1])] if len(names) > 2 else [])]:
        for selector in GAINS:
            before, after = (found[name][small].gain(selector) for name in pair)
            change = bootstrap(bank, after - before)
            rows.append(entry(GAIN_CHANGE, bank, pair, small, change, tested=True, of=selector))
    return rows


def critic_rows(study: StudyResults, part: Critics, bootstrap: Bootstrap) -> list[Entry]:
    """Every other critic and the study's own on the candidates that they share, and the difference."""
    rows: list[Entry] = []
    for name, scores in part.scores.items():
        bank, model = next(iter(scores))[:2]
        own = selectors_of(study).critic_sets(study, sorted(scores))
        other = [(study.samples[key], {"critic": scores[key]}) for key in sorted(scores)]
        seen = any(row.models == (model,) for row in rows)  # the fixed critic has its rows already
        for k in group_sizes(study, (samples.n for samples, _ in own)):
            fixed, variant = select_each(own, k), select_each(other, k)
            if not seen:
                rows += gains(bootstrap, bank, model, k, fixed, tested=False)
            rows += gains(bootstrap, bank, model, k, variant, name)
            lead, tested = bootstrap(bank, variant.gain() - fixed.gain()), k == study.analysis.small_k
            rows.append(entry(LEAD, bank, (model,), k, lead, tested=tested, of=f"{name} minus critic"))
    return rows


def gains(
    bootstrap: Bootstrap,
    bank: str,
    model: str,
    k: int,
    found: Selection,
    critic: str = "critic",
    tested: bool = True,
) -> list[Entry]:
    """What a critic gains over the first survivor, and its share of the room."""
    gain = found.gain()
    won, room = bootstrap(bank, gain), bootstrap(bank, gain, within=found.gain("oracle"))
    return [
        entry(GAIN, bank, (model,), k, won, tested=tested, of=critic),
        entry(ROOM, bank, (model,), k, room, of=critic),
    ]


def critic_variants(results: Results) -> Figure | None:
    """Gains over the first survivor by number of visible examples, by k at each number, and by critic."""
    facts = results.facts[QUESTION.name]
    count = 2 * bool(facts["visible"]) + bool(facts["critics"])
    figure, axes = drawing.panels(count, height=3.2, sharey=False)
    for ax in axes:
        drawing.zero_line(ax)
    if facts["visible"]:
        by_number(axes[0], results)
        over_k(axes[1], results)
    if facts["critics"]:
        by_critic(axes[-1], results)
    axes[0].set_ylabel("minus first survivor, points")
    return figure


def gain_rows(results: Results, model: str, selector: str) -> Entries:
    """A selector's gain over the first survivor, by k."""
    return results.entries.where(question=QUESTION.name, quantity=GAIN, models=(model,), of=selector)


def by_number(ax: Axes, results: Results) -> None:
    """Critic, majority and oracle side by side at each number of visible examples."""
    visible, k = results.facts[QUESTION.name]["visible"], results.study.analysis.small_k
    for i, selector in enumerate(GAINS):
        for position, model in enumerate(visible.values()):
            row, label = gain_rows(results, model, selector).one(k=k), selector if position == 0 else ""
            paint = drawing.SELECTORS[selector]
            drawing.interval_mark(ax, position + 0.2 * (i - 1), row, paint, label=label)
    drawing.names_axis(ax, list(visible))
    ax.set(title=f"k = {k}", xlabel="visible examples")
    ax.legend()


def over_k(ax: Axes, results: Results) -> None:
    """The critic's gain over k, a curve for each number of visible examples."""
    visible, paints = results.facts[QUESTION.name]["visible"], (drawing.START, *drawing.ROUNDS) * 2
    for (number, model), paint in zip(visible.items(), paints, strict=False):
        rows = gain_rows(results, model, "critic")
        drawing.band(ax, rows, paint, f"{number} visible", marker="o")
        drawing.k_axis(ax, rows.values("k"))
    ax.set_title("critic")
    ax.legend()


def by_critic(ax: Axes, results: Results) -> None:
    """Other critics, filled, and the fixed one on the same candidates, open; last, one of permuted labels."""
    critics, k = results.facts[QUESTION.name]["critics"], results.study.analysis.small_k
    for position, (name, model) in enumerate(critics.items()):
        paint = drawing.colour(results.study, model)
        fixed, variant = (gain_rows(results, model, of).one(k=k) for of in ("critic", name))
        drawing.interval_mark(ax, position - 0.12, fixed, paint, face="none")
        drawing.interval_mark(ax, position + 0.12, variant, paint)
    permuted = results.entries.where(question="controls", quantity=GAIN)
    for position, row in enumerate(permuted, len(critics)):
        drawing.interval_mark(ax, position, row, drawing.INK)
    names = [*critics, *("permuted_labels" for _ in permuted)]
    drawing.names_axis(ax, [name.replace("_", "\n") for name in names])
    ax.set_title(f"critics at k = {k}")


QUESTION = Question(
    name="critics",
    title="Other prompts and other critics",
    answer=critics,
    figures={"critic_variants": critic_variants},
    missing="the study has no variants of prompt and critic",
)
