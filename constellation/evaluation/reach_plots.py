"""The figures of reach and of the mass ledger."""

from __future__ import annotations

from textwrap import fill

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from constellation.evaluation.drawing import (
    INK,
    Results,
    band,
    colour,
    interval_mark,
    legend_above,
    mark,
    names_axis,
    panels,
    percent,
)


def reach_curves(results: Results) -> Figure | None:
    """Reach over B with pass@k as dots, and each round's against the base and against the start."""
    found = results["reach"]
    if not found:
        return None
    before = results["models"][:2]
    figure, axes = panels(3, height=3.2, sharey=False)
    for model in results["models"]:
        paint, curve = colour(results, model), found["curve"][model]
        band(axes[0], curve, paint, model)
        passed = found["models"][model]["pass_at_k"]
        axes[0].plot(list(map(int, passed)), percent(passed.values()), "o", color=paint, markersize=3)
    axes[0].set_title("reach, and pass@k as dots")
    axes[0].set_ylabel("% of tasks")
    axes[0].set_ylim(0, 100)
    for ax, other in zip(axes[1:], before, strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        for model in results["models"][2:]:
            band(ax, found["change"][model][other], colour(results, model), model)
        ax.set_title(f"a round's reach minus {other}'s")
        ax.set_ylabel("points")
    for ax in axes:
        mark(ax, found["at"])
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("samples B")
    legend_above(figure, axes[0])
    return figure


def mass_ledger(results: Results) -> Figure | None:
    """The probability of each class of the known programs under every model."""
    if not results["reach"]:
        return None
    ledger = {name: entry for name, entry in results["reach"]["mass_ledger"].items() if name != "all"}
    figure, (ax,) = panels(1, height=3.4, sharey=False)
    models = results["models"]
    for i, model in enumerate(models):
        paint, offset = colour(results, model), 0.6 * ((i + 0.5) / len(models) - 0.5)
        for position, entry in enumerate(ledger.values()):
            x, mass = position + offset, entry["mass"][model]
            interval_mark(ax, x, mass, paint, size=4)
        ax.plot([], [], "o", color=paint, markersize=4, label=model)
    names_axis(ax, [fill(name.replace("withheld: ", ""), 10, break_long_words=False) for name in ledger])
    ax.set_ylim(bottom=0)
    ax.set_ylabel("probability of an answer, %")
    legend_above(figure, ax)
    return figure
