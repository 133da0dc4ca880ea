"""Figures of the selectors beside each other, and of the critic's calibration."""

from __future__ import annotations

from matplotlib.figure import Figure

from constellation.evaluation.drawing import (
    INK,
    SELECTORS,
    Results,
    band,
    colour,
    interval_mark,
    k_axis,
    legend_above,
    panels,
)


def rivals(results: Results) -> Figure | None:
    """Each learned selector minus its unlearned rival over k; a panel a model on the primary bank."""
    by_model = results["selectors"]["rivals"].get(results["analysis"]["primary_bank"], {})
    if not by_model:
        return None
    figure, axes = panels(len(by_model), height=2.9, sharey=True)
    for ax, (model, by_k) in zip(axes, by_model.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        for name in next(iter(by_k.values())):
            entries = {k: entry[name] for k, entry in by_k.items()}
            band(ax, entries, SELECTORS[name], name, marker="o")
        ax.set_title(f"candidates of {model}")
        k_axis(ax, by_k)
    axes[0].set_ylabel("minus its unlearned rival, points")
    legend_above(figure, axes[0])
    return figure


def reliability(results: Results) -> Figure | None:
    """How often what the critic says is so; a panel a model on the primary bank."""
    by_model = results["selectors"]["calibration"].get(results["analysis"]["primary_bank"], {})
    if not by_model:
        return None
    figure, axes = panels(len(by_model), height=3.1, sharey=True)
    for ax, (model, found) in zip(axes, by_model.items(), strict=True):
        ax.plot([0, 100], [0, 100], color=INK, linewidth=0.9)
        for cell in found["bins"]:
            x, observed, paint = 100 * cell["forecast"], cell["observed"], colour(results, model)
            ax.bar(x, 100 * cell["share"], width=4, color=paint, alpha=0.18)
            interval_mark(ax, x, observed, paint, size=5)
        ax.set(title=f"candidates of {model}", xlabel="the critic says, %", xlim=(0, 100), ylim=(0, 100))
    axes[0].set_ylabel("generalises, %")
    return figure
