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
    null_curve,
    null_span,
    panels,
    percent,
)


def reach_curves(results: Results) -> Figure | None:
    """Reach over B with pass@k as dots, and each round's against the base and against the start.

    Dotted, by how much another warm start alone changes it.
    """
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
    if results["another_warm_start"]:
        null_curve(axes[2], results["another_warm_start"]["reach"]["change"])
    for ax in axes:
        mark(ax, found["at"])
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("samples B")
    legend_above(figure, axes[0])
    return figure


def mass_ledger(results: Results) -> Figure | None:
    """The probability of each class of the known programs under every model, and its change from the start.

    The spans behind are what another warm start alone changes.
    """
    if not results["reach"]:
        return None
    ledger = {name: entry for name, entry in results["reach"]["mass_ledger"].items() if name != "all"}
    figure = Figure(figsize=(10.4, 6))
    ax, changed = figure.subplots(2, 1)
    models, null = results["models"], results["another_warm_start"].get("mass_ledger", {})
    for i, model in enumerate(models):
        paint, offset = colour(results, model), 0.6 * ((i + 0.5) / len(models) - 0.5)
        for position, entry in enumerate(ledger.values()):
            interval_mark(ax, position + offset, entry["mass"][model], paint, size=4)
            if model in entry["change"]:
                interval_mark(changed, position + offset, entry["change"][model], paint, size=4)
        ax.plot([], [], "o", color=paint, markersize=4, label=model)
    for position, name in enumerate(ledger):
        if name in null:
            null_span(changed, position, null[name]["change"]["interval"])
    labels = [fill(name.replace("withheld: ", ""), 10, break_long_words=False) for name in ledger]
    names_axis(ax, labels)
    names_axis(changed, labels)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("probability of an answer, %")
    changed.axhline(0, color=INK, linewidth=0.9)
    changed.set_ylabel(f"change from {models[1]}, points")
    legend_above(figure, ax)
    return figure
