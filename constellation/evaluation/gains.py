"""The gain of each round: whether it shrinks, as it stands, against the headroom left, and in logits.

A gain shrinks by itself where little is left to gain. A round's gain is therefore also given as the share of
the headroom that it closes, mean gain / (1 - mean pass@k before), and as the change of logit(mean pass@k), by
which equal odds ratios are equal gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit

from constellation.evaluation import drawing
from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.curves import check_verdict, second_difference, task_curves, verdict_ks
from constellation.evaluation.entries import Entry, entry, points, signed
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap, minimum_detectable_effect, wider
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]
Scale = Callable[[Array], Array]
GAIN, SECOND_DIFFERENCE = "gain over the model before", "gain minus the gain before"
NULL_GAIN = "null of the gain over the model before"  # of rows of the question `null`
SCALES: dict[str, Scale] = {  # `of` in rows -> gain [R] from mean pass@k before and after [R, 2]
    "": lambda means: means[:, 1] - means[:, 0],
    "share of headroom": lambda means: (means[:, 1] - means[:, 0]) / (1 - means[:, 0]),
    "logit": lambda means: logit(means[:, 1]) - logit(means[:, 0]),
}
MARKERS = "osD^v"


def unit_of(scale: str) -> str:
    """The unit of a row of one of `SCALES`."""
    return "logit" if scale == "logit" else "share"


def deceleration(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """The second round's gain minus the first round's at pass@small_k, claimed negative.

    A small_k beyond half the samples a task is refused.
    """
    bank, k = study.analysis.primary_bank, study.analysis.small_k
    text = f"The second round adds less to pass@{k} than the first."
    if len(study.rounds) < 2:
        return NotMeasured(text, "the study ran fewer than two rounds of self-training")
    models = study.sequence[1:4]
    check_verdict(study, bank, models, k)
    values = second_difference(study, bank, models, k)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    levels = [task_curves(study, bank, model, [k]).mean() for model in models]
    first, second = (signed(gain) for gain in np.diff(levels))
    return Claim(
        text=text,
        directions=(-1,),
        both=both,
        values=values,
        openings=("Gains slow down", "Gains do not slow down", "Whether gains slow down stays open"),
        sentence=(
            f"on the {bank} bank, pass@{k} moves by {first} points in the first round and {second} in the "
            f"second, a difference of {points(*wider(*both).at(0)[:3])}"
        ),
        details={"bank": bank, "models": models, "k": k},
    )


def gains(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """The gain of every round on every bank, and how it differs from that of the round before."""
    models = study.sequence[1:]
    rows = []
    for bank in study.tasks:
        for pair in pairwise(models):
            rows += round_gain(study, bootstrap, bank, pair)
        for three in zip(models, models[1:], models[2:], strict=False):
            rows += gain_difference(study, bootstrap, bank, three)
    return Answer(rows, {})


def round_gain(study: StudyResults, bootstrap: Bootstrap, bank: str, models: Sequence[str]) -> list[Entry]:
    """What a round adds to the model before it: at the deciding k that both pools answer, and on all scales.

    The first round's gain is also its change from the start, and is tested among those changes.
    """
    choice = study.analysis
    rows = []
    for k in (k for k in study.deciding_ks if k <= study.pool_size(bank, *models)):
        before, after = (task_curves(study, bank, model, [k])[..., 0] for model in models)  # [K, T]
        gain, tested = after - before, models[0] != study.start
        detectable = minimum_detectable_effect(gain, (1 - choice.level) / 2, choice.power)
        row = entry(GAIN, bank, models, k, bootstrap(bank, gain), tested=tested, by_trajectory=gain.mean(1))
        rows.append(row._replace(minimum_detectable_effect=detectable))
    return rows + on_other_scales(study, bootstrap, bank, models, GAIN)


def gain_difference(
    study: StudyResults, bootstrap: Bootstrap, bank: str, models: Sequence[str]
) -> list[Entry]:
    """How a round's gain differs from that of the round before, at k = 1 and small_k, and on all scales.

    Filtering raises pass@1 most: where nothing is gained at small_k, gains may still shrink there.
    """
    choice = study.analysis
    rows = []
    for k in sorted({1, choice.small_k}):
        estimate = bootstrap(bank, second_difference(study, bank, models, k))
        finding = (bank, models[0], k) == (choice.primary_bank, study.start, choice.small_k)
        tested = k in verdict_ks(study, bank, *models) and not finding
        rows.append(entry(SECOND_DIFFERENCE, bank, models, k, estimate, tested=tested))
    return rows + on_other_scales(study, bootstrap, bank, models, SECOND_DIFFERENCE)


def on_other_scales(
    study: StudyResults, bootstrap: Bootstrap, bank: str, models: Sequence[str], quantity: str
) -> list[Entry]:
    """At small_k the gain of two models, or the difference of the gains of three, which is tested."""
    k, difference = study.analysis.small_k, len(models) == 3
    levels = np.stack([task_curves(study, bank, model, [k])[..., 0] for model in models], axis=-1)
    rows = []
    for name in ("share of headroom", "logit"):
        scale = second_gain(SCALES[name]) if difference else SCALES[name]
        estimate = bootstrap.transformed(bank, levels, scale)
        named = {"of": name, "unit": unit_of(name)}
        rows.append(entry(quantity, bank, models, k, estimate, tested=difference, **named))
    return rows


def second_gain(scale: Scale) -> Scale:
    """The second gain minus the first, from mean pass@k of three successive models, [R, 3]."""
    return lambda means: scale(means[:, 1:]) - scale(means[:, :2])


def round_gains(results: Results) -> Figure | None:
    """What each round adds to the model before, at both k; small marks are the trajectories.

    Grey spans are the null at small_k.
    """
    study = results.study
    if not study.rounds:
        return None
    figure, axes = drawing.panels(len(study.tasks), height=2.8, sharey=True)
    marks = list(zip(study.deciding_ks, (-0.1, 0.1), "os", strict=True))
    for bank, ax in zip(study.tasks, axes, strict=True):
        round_axis(ax, results, bank, "")
        for k, offset, marker in marks:
            for row in results.entries.where(quantity=GAIN, bank=bank, k=k, of=""):
                x, paint = study.rounds.index(row.models[1]) + offset, drawing.colour(study, row.models[1])
                if study.trajectories > 1:
                    each = drawing.percent(row.by_trajectory)
                    ax.plot([x + 0.08] * len(each), each, marker, color=paint, markersize=2, alpha=0.6)
                face = paint if marker == "o" else "none"
                drawing.interval_mark(ax, x, row, paint, marker=marker, face=face)
        ax.set_title(bank)
    first, ink = axes[0], drawing.INK
    for (k, _, marker), face in zip(marks, (ink, "none"), strict=True):
        first.plot([], [], marker, color=ink, markerfacecolor=face, markersize=6, label=f"pass@{k}")
    first.set_ylabel("gain over the model before, points")
    drawing.legend_above(figure, first)
    return figure


def headroom(results: Results) -> Figure | None:
    """Each round's gain at small_k on three scales: as it stands, of the headroom left, and in logits.

    Grey spans are the null on the primary bank.
    """
    study = results.study
    if not study.rounds:
        return None
    banks = list(study.tasks)
    markers = {bank: MARKERS[i % len(MARKERS)] for i, bank in enumerate(banks)}
    units = {"": ("points", 100), "share of headroom": ("% of what was left", 100), "logit": ("logits", 1)}
    figure, axes = drawing.panels(len(SCALES), height=2.5, sharey=False)
    for ax, (scale, (unit, factor)) in zip(axes, units.items(), strict=True):
        round_axis(ax, results, study.analysis.primary_bank, scale, factor)
        for row in results.entries.where(quantity=GAIN, k=study.analysis.small_k, of=scale):
            offset = 0.16 * (banks.index(row.bank) - (len(banks) - 1) / 2)
            x, paint = study.rounds.index(row.models[1]) + offset, drawing.colour(study, row.models[1])
            drawing.interval_mark(ax, x, row, paint, marker=markers[row.bank], size=5, scale=factor)
        ax.set_title(scale or "gain")
        ax.set_ylabel(unit)
    for bank, marker in markers.items():
        axes[0].plot([], [], marker, color=drawing.INK, markersize=5, label=bank)
    drawing.legend_above(figure, axes[0])
    return figure


def round_axis(ax: Axes, results: Results, bank: str, scale: str, factor: float = 100) -> None:
    """An x axis of the rounds, "gen_v0 to v1", with the null's interval as a grey span behind each."""
    study = results.study
    drawing.zero_line(ax)
    for position, row in enumerate(results.entries.where(quantity=NULL_GAIN, bank=bank, of=scale)):
        drawing.null_span(ax, position, row.interval, factor)
    drawing.names_axis(ax, [" to ".join(pair) for pair in pairwise(study.sequence[1:])])


QUESTION = Question(
    name="gains",
    title="The gain of each round",
    answer=gains,
    figures={"round_gains": round_gains, "headroom": headroom},
    always=True,
)
