"""The figures of the controls: how far pass@k and reach change without what each of them lacks."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from constellation.evaluation.drawing import INK, RULE, Results, band, k_axis, legend_above, mark, panels

COLOURS = ("#3f7fce", "#3a9a7c", "#a07cc5", "#e39a2d", "#cf4a35", "#7d8b2a")


def control_changes(results: Results) -> Figure | None:
    """D(k) of the first round, in ink, beside that of every control, on the same trajectories."""
    return beside(results, results["controls"]["change_at_k"], "pass@k")


def control_reach(results: Results) -> Figure | None:
    """The same of reach over B, of the programs that the controls know, too."""
    curves = {bank: found["change"] for bank, found in results["controls"]["reach"].items()}
    figure = beside(results, curves, "reach")
    for ax in figure.axes if figure else ():
        mark(ax, results["analysis"]["reach_at"])
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("samples B")
    return figure


def beside(results: Results, banks: dict[str, dict[str, Any]], what: str) -> Figure | None:
    """A panel a bank, a curve a model over its change from the start."""
    if not banks:
        return None
    names = dict.fromkeys(model for curves in banks.values() for model in curves)
    controls = [name for name in names if name not in results["models"]]
    paint = dict(zip(controls, COLOURS, strict=False))
    figure, axes = panels(len(banks), height=3.4, sharey=True)
    for model in names:  # one legend for all panels
        axes[0].plot([], [], color=paint.get(model, INK), label=model)
    for ax, curves in zip(axes, banks.values(), strict=True):
        ax.axhline(0, color=RULE, linewidth=1.2)
        longest: dict[str, Any] = {}
        for model, by_k in curves.items():
            band(ax, by_k, paint.get(model, INK), "")
            longest |= by_k
        k_axis(ax, longest)
    for ax, bank in zip(axes, banks, strict=True):
        ax.set_title(bank)
    axes[0].set_ylabel(f"change of {what} from {results['models'][1]}, points")
    legend_above(figure, axes[0])
    return figure
