"""The figures of a study of peers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from constellation.evaluation.drawing import (
    BASE,
    INK,
    ROUNDS,
    START,
    band,
    interval_mark,
    k_axis,
    legend_above,
    names_axis,
    panels,
    zero_line,
)
from constellation.evaluation.entries import Entries
from constellation.evaluation.peers.results import AGGREGATE, BEFORE, MEAN, PST, PeersResults

Draw = Callable[[PeersResults, Entries], Figure | None]
WORDS = {
    "pst": "PST",
    "towards_reference": "PST towards the reference",
    "uniform": "w = 1",
    "self_only": "self-only",
    "format_only": "format only",
    "majority": "majority vote",
}


# As many as there can be arms beside PST.
CONTROLS = (*ROUNDS, INK, "#3a9a7c", "#7d8b2a", "#9c6b3f", "#d97fb0")


def colour(study: PeersResults, model: str) -> str:
    """Grey for the peers as they were, blue for PST, warm for its controls."""
    if model in (BEFORE, PST):
        return BASE if model == BEFORE else START
    return CONTROLS[[arm for arm in study.arms if arm != PST].index(model)]


def word(model: str) -> str:
    """An arm in the report's words."""
    return WORDS.get(model, model)


def curves(study: PeersResults, rows: Entries) -> Figure:
    """pass@k and majority@k of the mean of the peers."""
    figure, axes = panels(2, 3.1, sharey=True)
    for ax, quantity in zip(axes, ("pass@k", "majority@k"), strict=True):
        for model in study.models:
            own = rows.where(quantity=quantity, models=(model,), of=MEAN)
            band(ax, own, colour(study, model), word(model))
        ax.set_title(quantity)
        k_axis(ax, rows.where(quantity=quantity).values("k"))
    axes[0].set_ylabel("% of problems")
    legend_above(figure, axes[0])
    return figure


def matches(study: PeersResults, rows: Entries) -> Figure | None:
    """The change of the exact match by every arm, of each peer, their mean and the aggregate."""
    if not study.arms:
        return None
    names = [*study.peers, MEAN, AGGREGATE]
    figure, (ax,) = panels(1, 2.9, sharey=False)
    zero_line(ax)
    for number, model in enumerate(study.arms):
        for at, name in enumerate(names):
            quantity = f"change of {'greedy ' if name == AGGREGATE else ''}exact match"
            row = rows.one(quantity=quantity, models=(BEFORE, model), of=name)
            shift = (number - (len(study.arms) - 1) / 2) * 0.7 / len(study.arms)
            interval_mark(ax, at + shift, row, colour(study, model), label="" if at else word(model))
    names_axis(ax, names)
    ax.set_ylabel("change of the exact match, points")
    legend_above(figure, ax)
    return figure


def rounds(study: PeersResults, rows: Entries) -> Figure | None:
    """Who is right in a round: each place, and the reference; and what the weights find."""
    arms = list(dict.fromkeys(data.arm for data in study.rounds))
    if not arms:
        return None
    figure, axes = panels(2, 2.9, sharey=False)
    for arm in arms:
        paint = colour(study, arm)
        for ax, (quantity, style) in (
            (axes[0], ("reference right", "-")),
            (axes[1], ("entropy of answers", "-")),
        ):
            own = rows.where(quantity=quantity, models=(arm,), bank="training")
            scale = 1 if quantity.startswith("entropy") else 100
            ax.plot(own.values("k"), [scale * row.estimate for row in own], "o", linestyle=style, color=paint)
        first = rows.where(quantity="answer right", models=(arm,), of="place 1")
        axes[0].plot(first.values("k"), [100 * row.estimate for row in first], "o:", color=paint, alpha=0.6)
        axes[0].plot([], [], color=paint, label=word(arm))
    for ax, title in zip(
        axes,
        ("the reference is right, % (dotted: the first answer)", "entropy of the answers, nats"),
        strict=True,
    ):
        ax.set(title=title, xlabel="round")
        ax.set_xticks(sorted({data.number for data in study.rounds}))
    legend_above(figure, axes[0])
    return figure


FIGURES: Mapping[str, Draw] = {"exact_match": matches, "curves": curves, "rounds": rounds}
