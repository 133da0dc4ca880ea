"""What counts as right: fitting the visible examples, the held-out ones, and further inputs.

Every generalising program was run on probe inputs as well. One that errs there is right on all 12 examples of
its task, and still wrong.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation.curves import PASS, model_curves
from constellation.evaluation.drawing import Curve, colour, curves_by_bank
from constellation.evaluation.entries import Entry, entry
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults
from constellation.samples import SampleSet

FIT = "visible-fit@k"
ERRING = "share of generalising samples that err on a probe input"
PROBED = "generalising samples of a task that were probed"


def correctness(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """visible-fit@k of every model, and the share of generalising samples whose program errs on a probe."""

    def probed(samples: SampleSet) -> NDArray[np.float64]:
        """[T, 2] correct samples of each task that were probed, and those of them that err on some probe."""
        counts = samples.counts * samples.right * (samples.probe_correct >= 0)
        erring = counts * (samples.probe_correct < study.probes)
        return np.stack([samples.sum_by_task(column) for column in (counts, erring)], axis=1)

    rows: list[Entry] = []
    for bank in study.tasks:
        for model in study.models:
            curve = model_curves(study, bootstrap, bank, model, FIT, "fits")
            rows += [row._replace(by_trajectory=None) for row in curve]
            found = study.per_task(bank, model, probed)
            rows.append(Entry(PROBED, bank, (model,), None, found[..., 0].mean(), unit="samples"))
            share = bootstrap(bank, found[..., 1], within=found[..., 0])
            rows.append(entry(ERRING, bank, (model,), None, share))
    return Answer(rows, {})


def visible_fit(results: Results) -> Figure | None:
    """visible-fit@k above pass@k for the start and the last round: what fits without generalising."""
    study, drawn = results.study, []
    for model in dict.fromkeys(study.first_and_last):
        for quantity, what, style in ((FIT, "fits", (0, (4, 2))), (PASS, "generalises", "-")):
            rows, label = results.entries.where(quantity=quantity, models=(model,)), f"{model} {what}"
            drawn.append(Curve(rows, colour(study, model), label, style=style, trajectories=False))
    figure, axes = curves_by_bank(drawn, "% of tasks", height=2.9)
    for ax in axes.values():
        ax.set_ylim(0, 100)
    return figure


QUESTION = Question(
    "correctness", "What counts as right", correctness, {"visible_fit": visible_fit}, always=True
)
