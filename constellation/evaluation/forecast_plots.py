"""Figures of the Bayes ceiling and of the rounds beside their forecasts."""

from __future__ import annotations

from matplotlib.figure import Figure

from constellation.evaluation.drawing import (
    INK,
    Results,
    band,
    colour,
    k_axis,
    legend_above,
    mark,
    panels,
)

STYLES = {"full adoption": (0, (4, 2)), "unfit stays": (0, (1, 1.5))}


def forecast(results: Results) -> Figure | None:
    """The last round's pass@k beside its two forecasts, the start, and the ideal sampler."""
    found = results["beyond_filtering"]
    if not found["ceiling"]:
        return None
    figure, axes = panels(len(found["ceiling"]), height=3.3, sharey=True)
    start, last = results["sequence"][1], results["sequence"][-1]
    for ax, (bank, ceiling) in zip(axes, found["ceiling"].items(), strict=True):
        band(ax, ceiling["pass_at_k"], INK, "ideal sampler")
        band(ax, ceiling["start"], colour(results, start), start)
        if bank in found["forecast"]:
            entry, paint = found["forecast"][bank][last], colour(results, last)
            band(ax, entry["measured"], paint, last)
            for name, style in STYLES.items():
                band(ax, entry[name]["pass_at_k"], paint, f"{last} forecast, {name}", style=style)
        ax.set_title(bank)
        ax.set_ylim(0, 100)
        k_axis(ax, ceiling["pass_at_k"])
    axes[0].set_ylabel("pass@k, % of tasks")
    legend_above(figure, axes[0])
    return figure


def residual(results: Results) -> Figure | None:
    """What every round did beyond both forecasts, over k."""
    by_bank = results["beyond_filtering"]["forecast"]
    if not by_bank:
        return None
    figure, axes = panels(len(by_bank), height=3.0, sharey=True)
    for ax, (bank, by_round) in zip(axes, by_bank.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        for model, entry in by_round.items():
            for name, style in STYLES.items():
                by_k, paint = entry[name]["residual"], colour(results, model)
                band(ax, by_k, paint, f"{model}, {name}", style=style)
        mark(ax, results["analysis"]["small_k"], results["analysis"]["large_k"])
        ax.set_title(bank)
        k_axis(ax, by_k)
    axes[0].set_ylabel("measured minus forecast, points")
    legend_above(figure, axes[0])
    return figure
