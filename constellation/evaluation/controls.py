"""The controls of the findings: models trained like the first round but for one thing.

A finding about the first round says something about what a control lacks only as far as the round differs
from that control. For the crossover these are each control's own D(k) = pass@k(control) - pass@k(start), and
the first round's D(k) minus it; for the critic's gain, that of a critic trained on permuted labels, and the
difference. The controls have one round each, hence no second difference: the control of deceleration is the
`null`. Reach and the mass ledger are computed for each control on its bank, with programs that the controls
know as well: where not even training on the secret programs of withheld classes expands reach, an expansion
is not measurable. Trajectories and tasks are paired. All of it is exploratory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation import drawing, reach
from constellation.evaluation.curves import curve_ks, task_curves, verdict_ks
from constellation.evaluation.entries import Entry, entries, entry
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.selection import GAIN, LEAD, selectors_of
from constellation.evaluation.selectors import select_each
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import Part, SetKey, StudyResults, trajectory_count
from constellation.runtime.keys import host_rng
from constellation.samples import SampleSet

Array = NDArray[np.float64]
COLOURS = ("#3f7fce", "#3a9a7c", "#a07cc5", "#e39a2d", "#cf4a35", "#7d8b2a")
DIFFERENCE = "difference of pass@k"
PERMUTED = "permuted_critic"
SAME_TASKS = ("own_withheld", "secret_solved", "secret")  # all on withheld tasks: compared with each other


@dataclass(frozen=True)
class Controls(Part):
    """The controls of the first trajectories, the same for all of them, under the primary split.

    Among the samples are those of the first round on a bank where it was sampled again to have as many.
    """

    samples: Mapping[SetKey, SampleSet]  # of models trained like the first round but for one thing
    # for the study's sets of one model and bank, the scores of a critic that learned permuted labels
    scores: Mapping[SetKey, Array]
    known: Mapping[str, reach.KnownPrograms]  # bank -> with probabilities under its controls and every model

    @property
    def trajectories(self) -> int:
        """How many trajectories have the controls."""
        return trajectory_count([*self.samples, *self.scores])

    def check(self, study: StudyResults) -> None:
        for key, samples in self.samples.items():
            study.check_tasks(key.bank, key.model, key.split_seed, samples)
        study.check_trajectories([*self.samples, *self.scores], "controls", self.trajectories)

    def drawn(self) -> Iterator[tuple[str, str, int]]:
        for key, samples in self.samples.items():
            yield "controls", key.model, samples.program.size


def controls(study: StudyResults, part: Controls, bootstrap: Bootstrap) -> Answer:
    """Differences of pass@k, of reach and of the critic's gain, and what each control expands."""
    rng = host_rng(study.analysis.seed, "bootstrap", "control trajectories")
    drawn = bootstrap.first_trajectories(part.trajectories, rng)
    rows: list[Entry] = []
    expansions: dict[str, dict[str, Any]] = {}
    for bank in (bank for bank in study.tasks if any(key.bank == bank for key in part.samples)):
        own = with_controls(study, part, bank)
        rows += curve_rows(own, drawn, bank, part)
        if bank in part.known:
            reached, expansions[bank] = reach_rows(own, drawn, part.known[bank])
            rows += reached
    if part.scores:
        rows += critic_rows(study, part, drawn)
    return Answer(rows, {"trajectories": part.trajectories, "expansion": expansions})


def with_controls(study: StudyResults, part: Controls, bank: str) -> StudyResults:
    """The study of one bank and the controls' trajectories, with the controls as its arms.

    Where the first round was sampled again, these samples take the place of the study's.
    """
    own = {key: samples for key, samples in part.samples.items() if key.bank == bank}
    few = study.first_trajectories(part.trajectories)
    kept = {
        key: samples
        for key, samples in few.samples.items()
        if (key.bank, key.split_seed) == (bank, study.primary_split) and key.model not in study.arms
    }
    return replace(
        few,
        tasks={bank: study.tasks[bank]},
        arms=tuple(dict.fromkeys(key.model for key in own if key.model not in study.rounds)),
        samples=kept | own,
    )


def same_tasks(study: StudyResults) -> list[tuple[str, str]]:
    """The pairs of controls that are compared with each other."""
    return [pair for pair in combinations(SAME_TASKS, 2) if set(pair) <= set(study.arms)]


def curve_rows(study: StudyResults, bootstrap: Bootstrap, bank: str, part: Controls) -> list[Entry]:
    """D(k) of the first round and every control; at k = 1 and both k also the round's minus a control's.

    The round's D is tested where it was sampled again; elsewhere it is tested among the study's changes.
    """
    one, again, rows = study.rounds[:1], {key.model for key in part.samples if key.bank == bank}, []
    from_start = [(study.start, model) for model in (*one, *study.arms)]
    between = [(control, *one) for control in study.arms if one] + same_tasks(study)
    for pair in [*from_start, *between]:
        wanted = {1, *study.deciding_ks} & set(verdict_ks(study, bank, *pair))
        ks = curve_ks(study, bank, *pair) if pair in from_start else sorted(wanted)
        before, after = (task_curves(study, bank, model, ks) for model in pair)
        tested = wanted if pair in between or pair[1] in again else ()
        rows += entries(DIFFERENCE, bank, pair, ks, bootstrap(bank, after - before), tested=tested)
    return rows


def reach_rows(
    study: StudyResults, bootstrap: Bootstrap, programs: reach.KnownPrograms
) -> tuple[list[Entry], dict[str, Any]]:
    """Changes of reach, whether each model expands it, and the mass ledger, with the controls' programs too.

    Returns:
        the rows, and for the first round and each control its claim of expansion as judged.
    """
    known, bank, budgets = reach.known_of(study, programs), programs.bank, study.analysis.reach_budgets
    rows, judged = reach.mass_ledger(study, bootstrap, known), {}
    for model in (*study.rounds[:1], *study.arms):
        change = bootstrap(bank, reach.reach_change(known, study.start, model, reach.DRAWN))
        rows += entries(reach.CHANGE, bank, (study.start, model), reach.DRAWN, change)
        row, judged[model] = reach.expanded(study, bootstrap, known, model)
        rows.append(row)
    for pair in same_tasks(study):
        change = bootstrap(bank, reach.reach_change(known, *pair, budgets))
        rows += entries(reach.CHANGE, bank, pair, budgets, change, tested=budgets)
    return rows, judged


def critic_rows(study: StudyResults, part: Controls, bootstrap: Bootstrap) -> list[Entry]:
    """The gain of a critic of permuted labels at small_k, and how much more the study's own critic gains."""
    k, keys = study.analysis.small_k, sorted(part.scores)
    bank, model = keys[0][:2]
    permuted = [(study.samples[key], {"critic": part.scores[key]}) for key in keys]
    own = selectors_of(study).critic_sets(study, keys)
    null, true = (select_each(sets, k).gain() for sets in (permuted, own))
    gain, lead = bootstrap(bank, null), bootstrap(bank, true - null)
    return [
        entry(GAIN, bank, (model,), k, gain, tested=True, of=PERMUTED),
        entry(LEAD, bank, (model,), k, lead, tested=True, of=f"critic minus {PERMUTED}"),
    ]


def control_changes(results: Results) -> Figure | None:
    """D(k) of the first round, in ink, and of every control, on the same trajectories."""
    return from_start(results, DIFFERENCE, "pass@k")


def control_reach(results: Results) -> Figure | None:
    """The change of reach over B of the same models, with the programs that the controls know as well."""
    figure = from_start(results, reach.CHANGE, "reach")
    for ax in figure.axes if figure else ():
        reach.budgets_axis(ax, results.study.analysis.reach_at)
    return figure


def from_start(results: Results, quantity: str, what: str) -> Figure | None:
    """The change of a quantity from the start, a panel for each bank and a curve for each model."""
    study, rows = results.study, results.entries.where(question=QUESTION.name, quantity=quantity)
    pairs = [pair for pair in rows.values("models") if pair[0] == study.start]
    if not pairs:
        return None
    paint = dict(zip((pair for pair in pairs if pair[1] not in study.models), COLOURS, strict=False))
    figure, axes = drawing.curves_by_bank(
        [drawing.Curve(rows.where(models=pair), paint.get(pair, drawing.INK), pair[1]) for pair in pairs],
        f"change of {what} from {study.start}, points",
        height=3.4,
    )
    for ax in axes.values():
        ax.axhline(0, color=drawing.RULE, linewidth=1.2, zorder=1.9)  # ink is the first round's
    return figure


QUESTION = Question(
    name="controls",
    title="Controls: what the findings do not come from",
    answer=controls,
    figures={"control_changes": control_changes, "control_reach": control_reach},
    missing="the study trained no controls",
)
