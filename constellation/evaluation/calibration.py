"""Whether the critic's probabilities are right: Brier score, its decomposition, reliability bins.

At natural prevalence: every surviving *sample* counts once, so that a program counts as often as the
generator draws it. A score is read as the probability sigmoid(score) that the program generalises.

All these numbers are functions of sums over samples. The sums are made for each task (`tally`), and may be
added up over tasks, split seeds and trajectories, or with bootstrap weights, before `calibration` is applied.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import expit

from constellation.evaluation.drawing import INK, colour, interval_mark, panels
from constellation.evaluation.entries import Entry, entry
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.selection import Selectors
from constellation.evaluation.selectors import check_column
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import SetKey, StudyResults
from constellation.samples import SampleSet

Array = NDArray[np.float64]
BINS = 10  # of the reliability diagram
QUANTITIES = (  # in the order of `Calibration`
    "Brier score",
    "reliability",
    "resolution",
    "uncertainty",
    "Brier score within bins",
    "calibration error",
    "prevalence",
)
SHARE, FORECAST, OBSERVED = "samples in a bin", "what the critic says in a bin", "what is so in a bin"


class Calibration(NamedTuple):
    """A critic's calibration; float64 of shape [...], NaN where there is no sample.

    brier = reliability - resolution + uncertainty + within_bin. The first three terms are Murphy's (1973),
    with the bins' means; the last is the bins' variance of p less twice its covariance with y (Stephenson,
    Coelho and Jolliffe 2008).
    """

    brier: Array  # mean of (p - y)^2; 0 is perfect
    reliability: Array  # mean squared distance of a bin's rate from its mean forecast; 0 is calibrated
    resolution: Array  # variance of the bins' observed rates; what the forecast tells apart
    uncertainty: Array  # prevalence * (1 - prevalence), the score of the prevalence as constant forecast
    within_bin: Array
    expected_calibration_error: Array  # mean distance of a bin's rate from its forecast (Naeini et al. 2015)
    prevalence: Array  # share of surviving samples that generalise


def tally(samples: SampleSet, scores: NDArray[Any], bins: int = BINS) -> Array:
    """[T, 4, B] each task's sums over surviving samples, in B bins of equal width of their probability p.

    The four sums are of 1, p, y and (p - y)^2, where y is 1 for a sample that generalises and 0 for one that
    does not. Bin b holds b / B <= p < (b + 1) / B, and the last one p = 1 as well. `scores`, [D] logit(yes) -
    logit(no) of each distinct program, may be NaN where the program does not fit.

    Raises:
        UserError: a program that fits has no score, or the scores are of another sample set.
    """
    check_column(samples, "critic", scores)
    drawn = samples.counts[samples.fits]
    probability, right = expit(scores[samples.fits]), samples.right[samples.fits]
    tasks = len(samples.task_ids)
    cell = samples.task[samples.fits] * bins + np.minimum((probability * bins).astype(np.int64), bins - 1)
    sums = [
        np.bincount(cell, drawn * value, tasks * bins).reshape(tasks, bins)
        for value in (np.ones(len(cell)), probability, right, (probability - right) ** 2)
    ]
    return np.stack(sums, axis=1).astype(np.float64)


def calibration(sums: Array) -> Calibration:
    """The calibration by a `tally` that was added up over tasks, [..., 4, B] -> [...]."""
    drawn, forecasts, observed, squared_error = np.moveaxis(sums, -2, 0)  # [..., B] each
    total = drawn.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = drawn / total[..., None]
        prevalence, brier = observed.sum(-1) / total, squared_error.sum(-1) / total
        forecast, rate = (np.where(drawn > 0, column / drawn, 0.0) for column in (forecasts, observed))
    reliability = (share * (forecast - rate) ** 2).sum(-1)
    resolution = (share * (rate - prevalence[..., None]) ** 2).sum(-1)
    uncertainty = prevalence * (1 - prevalence)
    return Calibration(
        brier=brier,
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within_bin=brier - (reliability - resolution + uncertainty),
        expected_calibration_error=(share * np.abs(forecast - rate)).sum(-1),
        prevalence=prevalence,
    )


def calibrations(study: StudyResults, part: Selectors, bootstrap: Bootstrap) -> Answer:
    """Calibration on every model and bank that the critic scored; bins without samples are left out."""
    rows: list[Entry] = []
    for bank, model in sorted({key[:2] for key in part.columns}):
        sums, where = tallies(study, part, bank, model), (bank, (model,), None)
        estimate = bootstrap.transformed(bank, sums, lambda means: np.stack(calibration(means), axis=-1))
        rows += [entry(name, *where, estimate.at(i), unit="score") for i, name in enumerate(QUANTITIES)]
        total, expected, *_ = sums.mean((0, 1))
        for b in np.flatnonzero(total):
            rate = bootstrap(bank, sums[:, :, 2, b], within=sums[:, :, 0, b])
            rows.append(Entry(SHARE, *where, total[b] / total.sum(), of=f"{b}"))
            rows.append(Entry(FORECAST, *where, expected[b] / total[b], of=f"{b}"))
            rows.append(entry(OBSERVED, *where, rate, of=f"{b}"))
    return Answer(rows, {})


def tallies(study: StudyResults, part: Selectors, bank: str, model: str) -> Array:
    """[K, T, 4, B] each `tally` divided by the samples a task, averaged over split seeds."""
    rows = []
    for r in study.trajectories_of(model):
        keys = [SetKey(bank, model, seed, r) for seed in part.splits(study, bank, model)]
        sets = part.critic_sets(study, keys)
        rows.append(np.mean([tally(own, columns["critic"]) / own.n for own, columns in sets], axis=0))
    return np.broadcast_to(rows, (study.trajectories, *rows[0].shape))


def reliability(results: Results) -> Figure | None:
    """How often the critic's forecasts come true on the primary bank, a panel for each model."""
    rows = results.entries.where(question=QUESTION.name, bank=results.study.analysis.primary_bank)
    if not rows:
        return None
    models = rows.values("models")
    figure, axes = panels(len(models), height=3.1, sharey=True)
    for ax, (model,) in zip(axes, models, strict=True):
        ax.plot([0, 100], [0, 100], color=INK, linewidth=0.9)
        own, paint = rows.where(models=(model,)), colour(results.study, model)
        for observed in own.where(quantity=OBSERVED):
            share, forecast = (100 * own.one(quantity=q, of=observed.of).estimate for q in (SHARE, FORECAST))
            ax.bar(forecast, share, width=4, color=paint, alpha=0.18)
            interval_mark(ax, forecast, observed, paint, size=5)
        ax.set(title=f"candidates of {model}", xlabel="the critic says, %", xlim=(0, 100), ylim=(0, 100))
    axes[0].set_ylabel("generalises, %")
    return figure


QUESTION = Question(
    name="calibration",
    part="selection",
    title="Is the critic calibrated?",
    answer=calibrations,
    figures={"reliability": reliability},
    missing="no critic scored the study's candidates",
)
