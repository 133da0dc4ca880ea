"""The gain of each round: whether it shrinks, as it stands, against the headroom left, and in logits.

A gain shrinks by itself where little is left to gain. Beside pass@k stand therefore the share of the headroom
that a round closes, mean gain / (1 - mean pass@k before), and the change of logit(mean pass@k), for which
equal odds ratios are equal gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logit

from constellation.evaluation.claims import INCONCLUSIVE, NOT_SUPPORTED, SUPPORTED, Claim, NotMeasured
from constellation.evaluation.curves import check_verdict, second_difference, task_curves, verdict_ks
from constellation.evaluation.drawing import (
    INK,
    bank_panels,
    colour,
    interval_mark,
    legend_above,
    names_axis,
    null_spans,
    panels,
    percent,
)
from constellation.evaluation.entries import Entry, entries, entry, points, signed
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap, minimum_detectable_effect, wider
from constellation.evaluation.study import StudyResults

Array = NDArray[np.float64]
GAIN, SECOND_DIFFERENCE = "gain over the model before", "gain minus the gain before"


def deceleration(study: StudyResults, bootstrap: Bootstrap) -> Claim | NotMeasured:
    """The second round's gain minus the first round's at pass@small_k, claimed negative.

    Raises:
        UserError: small_k is beyond half the samples a task.
    """
    choice = study.analysis
    bank, k = choice.primary_bank, choice.small_k
    text = f"The second round adds less to pass@{k} than the first."
    if len(study.rounds) < 2:
        return NotMeasured(text, "the study ran fewer than two rounds of self-training")
    models = study.sequence[1:4]
    check_verdict(study, bank, models, k)
    values = second_difference(study, bank, models, k)[..., None]  # [K, T, 1]
    both = bootstrap.both(bank, values)
    estimate = wider(*both)
    levels = [task_curves(study, bank, model, [k]).mean() for model in models]
    first, second = (signed(gain) for gain in np.diff(levels))
    return Claim(
        text=text,
        directions=(-1,),
        both=both,
        values=values,
        openings={
            SUPPORTED: "Gains slow down",
            NOT_SUPPORTED: "Gains do not slow down",
            INCONCLUSIVE: "Whether gains slow down stays open",
        },
        sentence=(
            f"on the {bank} bank, pass@{k} moves by {first} points in the first round and {second} in the "
            f"second, a difference of {points(*estimate.at(0)[:3])}"
        ),
        details={"bank": bank, "models": models, "k": k},
    )


Scale = Callable[[Array], Array]
SCALES: dict[str, Scale] = {  # of mean pass@k before and after, [R, 2], to a gain, [R]
    "gain": lambda means: means[:, 1] - means[:, 0],
    "share_of_headroom": lambda means: (means[:, 1] - means[:, 0]) / (1 - means[:, 0]),
    "logit": lambda means: logit(means[:, 1]) - logit(means[:, 0]),
}
NULL_GAIN = "null of the gain over the model before"  # rows of `null`
OTHER_SCALES = {"share_of_headroom": "share of headroom", "logit": "logit"}  # -> `of` of their rows


def second_difference_on(scale: Scale) -> Scale:
    """Of mean pass@k of three models in a row, [R, 3]: the second gain minus the first."""
    return lambda means: scale(means[:, 1:]) - scale(means[:, :2])


def round_gain(study: StudyResults, bootstrap: Bootstrap, bank: str, models: Sequence[str]) -> list[Entry]:
    """What a round adds to the model before it, at the deciding k as far as both pools answer.

    And at small_k on the other scales. The first round's gain is its change from the start, which is tested
    as such.
    """
    choice = study.analysis
    ks = [k for k in study.deciding_ks if k <= study.pool_size(bank, *models)]
    before, after = (task_curves(study, bank, model, ks) for model in models)
    gain = after - before
    detectable = minimum_detectable_effect(gain, (1 - choice.level) / 2, choice.power)
    tested = ks if models[0] != study.start else ()
    rows = entries(GAIN, bank, models, ks, bootstrap(bank, gain), tested=tested, by_trajectory=gain.mean(1))
    rows = [
        row._replace(minimum_detectable_effect=least) for row, least in zip(rows, detectable, strict=True)
    ]
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
    """A gain, of two models, or the difference of two gains, of three, as share of the headroom and logit."""
    k = study.analysis.small_k
    levels = np.stack([task_curves(study, bank, model, [k])[..., 0] for model in models], axis=-1)
    rows = []
    for scale, name in OTHER_SCALES.items():
        function = SCALES[scale] if len(models) == 2 else second_difference_on(SCALES[scale])
        estimate = bootstrap.of_means(bank, levels, function)
        tested, unit = len(models) == 3, "logit" if scale == "logit" else "share"
        rows.append(entry(quantity, bank, models, k, estimate, tested=tested, of=name, unit=unit))
    return rows


def gains(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """The gain of every round on every bank, and how it differs from that of the round before."""
    models = study.sequence[1:]
    rows = []
    for bank in study.tasks:
        for i in range(1, len(models)):
            rows += round_gain(study, bootstrap, bank, models[i - 1 : i + 1])
        for i in range(2, len(models)):
            rows += gain_difference(study, bootstrap, bank, models[i - 2 : i + 1])
    return Answer(rows, {})


def round_gains(results: Results) -> Figure | None:
    """What each round adds to the one before, at both k; small marks are the trajectories.

    The spans behind are the null's at small_k.
    """
    study = results.study
    if not study.rounds:
        return None
    figure, axes = bank_panels(study, height=2.8)
    marks = list(zip(study.deciding_ks, (-0.1, 0.1), "os", strict=True))
    for bank, ax in axes.items():
        ax.axhline(0, color=INK, linewidth=0.9)
        null_spans(ax, results.entries.where(quantity=NULL_GAIN, bank=bank, of=""))
        for k, offset, marker in marks:
            for row in results.entries.where(quantity=GAIN, bank=bank, k=k, of=""):
                x, paint = study.rounds.index(row.models[1]) + offset, colour(study, row.models[1])
                if study.trajectories > 1:
                    each = percent(row.by_trajectory)
                    ax.plot([x + 0.08] * len(each), each, marker, color=paint, markersize=2, alpha=0.6)
                interval_mark(ax, x, row, paint, marker=marker, face=paint if marker == "o" else "none")
        name_rounds(ax, study)
        ax.set_title(bank)
    first = figure.axes[0]
    for (k, _, marker), face in zip(marks, (INK, "none"), strict=True):
        first.plot([], [], marker, color=INK, markerfacecolor=face, markersize=6, label=f"pass@{k}")
    first.set_ylabel("gain over the model before, points")
    legend_above(figure, first)
    return figure


def headroom(results: Results) -> Figure | None:
    """Each round's gain at small_k on three scales: as it stands, of the headroom left, and in logits.

    The spans behind are the null's on the primary bank.
    """
    study = results.study
    if not study.rounds:
        return None
    banks = list(study.tasks)
    scales = {
        "gain": ("points", 100),
        "share_of_headroom": ("% of what was left", 100),
        "logit": ("logits", 1),
    }
    figure, axes = panels(len(scales), height=2.5, sharey=False)
    for ax, (scale, (unit, factor)) in zip(axes, scales.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        of, k = OTHER_SCALES.get(scale, ""), study.analysis.small_k
        for row in results.entries.where(quantity=GAIN, k=k, of=of):
            if row.estimate is not None:
                i = banks.index(row.bank)
                x = study.rounds.index(row.models[1]) + 0.16 * (i - (len(banks) - 1) / 2)
                paint, marker = colour(study, row.models[1]), "osD^v"[i % 5]
                interval_mark(ax, x, row, paint, marker=marker, size=5, scale=factor)
        name_rounds(ax, study)
        ax.set_title(scale.replace("_", " "))
        ax.set_ylabel(unit)
        behind = results.entries.where(quantity=NULL_GAIN, bank=study.analysis.primary_bank, of=of)
        null_spans(ax, behind, factor)
    for i, bank in enumerate(banks):
        axes[0].plot([], [], "osD^v"[i % 5], color=INK, markersize=5, label=bank)
    legend_above(figure, axes[0])
    return figure


def name_rounds(ax: Axes, study: StudyResults) -> None:
    """An x axis of the rounds: "gen_v0 to v1"."""
    names_axis(ax, [f"{a} to {b}" for a, b in zip(study.sequence[1:], study.rounds, strict=False)])


QUESTION = Question(
    name="gains",
    title="The gain of each round",
    answer=gains,
    figures={"round_gains": round_gains, "headroom": headroom},
    always=True,
)
