"""The figure of the controls: how far pass@k changes without what each of them lacks."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from constellation.evaluation.drawing import INK, RULE, band, k_axis, legend_above, panels

COLOURS = ("#3f7fce", "#3a9a7c", "#a07cc5", "#e39a2d", "#cf4a35")


def control_changes(results: dict[str, Any]) -> Figure | None:
    """D(k) of the first round, in ink, beside that of every control, on the same trajectories."""
    banks = results["controls"]["change_at_k"]
    if not banks:
        return None
    names = dict.fromkeys(model for curves in banks.values() for model in curves)
    paint = dict(zip((name for name in names if name not in results["models"]), COLOURS, strict=False))
    figure, axes = panels(len(banks), height=3.4, sharey=True)
    for ax, (bank, curves) in zip(axes, banks.items(), strict=True):
        ax.axhline(0, color=RULE, linewidth=1.2)
        longest: dict[str, Any] = {}
        for model, by_k in curves.items():
            band(ax, by_k, paint.get(model, INK), model)
            longest |= by_k
        ax.set_title(bank)
        k_axis(ax, longest)
    axes[0].set_ylabel(f"change of pass@k from {results['models'][1]}, points")
    legend_above(figure, axes[0])
    return figure
