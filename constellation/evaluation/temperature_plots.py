"""The figure of the temperatures: D(k) at each, and what raising or lowering one does to either model."""

from __future__ import annotations

from matplotlib.figure import Figure

from constellation.evaluation.drawing import INK, RULE, START, Results, band, k_axis, panels

COLD_TO_HOT = ("#3f7fce", INK, "#cf4a35")
BEST, HOTTER = "#3a9a7c", ("#cf4a35", "#e39a2d")


def temperature_curves(results: Results) -> Figure | None:
    """Left: both models at one temperature, or each at its best. Right: all against gen_v0 at the study's."""
    found = results["temperature"]
    if not found:
        return None
    start, last = found["models"]
    figure, axes = panels(2, height=3.6, sharey=True)
    for (value, at), paint in zip(found["crossover"].items(), COLD_TO_HOT, strict=True):
        band(axes[0], at["change_at_k"], paint, f"both at {value}")
    band(axes[0], {k: at["change"] for k, at in found["best"].items()}, BEST, "each at its best", "o")
    raised = iter(HOTTER)
    for value, curve in found["sharpening"]["from_start"].items():
        band(axes[1], curve, INK if value == found["own"] else next(raised), f"{last} at {value}")
    matched = found["matched"]
    band(axes[1], matched["sharpening"], START, f"{start} at {matched['temperature']:.2f}")
    axes[0].set_title(f"{last} minus {start}")
    axes[1].set_title(f"minus {start} at {found['own']}")
    axes[0].set_ylabel("difference of pass@k, points")
    ks = matched["rest"]
    for ax in axes:
        ax.axhline(0, color=RULE, linewidth=1.2, zorder=0)
        k_axis(ax, ks)
        ax.legend(loc="best")
    return figure
