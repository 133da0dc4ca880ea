"""Where a choice exists: groups of k candidates whose survivors disagree on a held-out input.

Elsewhere all survivors are right or all wrong, and every selector ties.
"""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from constellation.evaluation.drawing import Curve, colour, curves_by_bank
from constellation.evaluation.entries import Entry, entries
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.selectors import divergence
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
DIVERGENCE = "share of groups that diverge"


def divergences(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """The share of every model's groups of k that diverge, averaged over tasks."""
    rows: list[Entry] = []
    for bank in study.tasks:
        for model in study.models:
            ks = [k for k in study.analysis.selection_ks if k <= study.pool_size(bank, model)]

            def shares(samples: SampleSet, ks: list[int] = ks) -> Array:
                return np.stack([divergence(samples, k) for k in ks], axis=1)  # [T, len(ks)]

            if ks:
                found = bootstrap(bank, study.per_task(bank, model, shares))
                rows += entries(DIVERGENCE, bank, (model,), ks, found)
    return Answer(rows, {})


def divergence_over_k(results: Results) -> Figure | None:
    """The share of divergent groups over k, a panel for each bank and a curve for each model."""
    rows = results.entries.where(quantity=DIVERGENCE)
    if not rows:
        return None
    curves = [
        Curve(rows.where(models=(model,)), colour(results.study, model), model, marker="o")
        for (model,) in rows.values("models")
    ]
    figure, axes = curves_by_bank(curves, "divergent tasks, %", height=2.8)
    for ax in axes.values():
        ax.set_ylim(bottom=0)
    return figure


QUESTION = Question(
    name="divergence",
    title="Where a choice exists",
    answer=divergences,
    figures={"divergent_groups": divergence_over_k},
    always=True,
)
