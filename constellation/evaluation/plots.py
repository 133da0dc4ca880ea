"""The report's figures: each takes the results of `analysis.analyse`; without data it returns None.

A figure is drawn once and written twice: as a PNG on white, and as SVG whose ink follows the page, so that
the report reads well in light and dark. Both have the same bytes for the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation import selector_plots
from constellation.evaluation.critic_gain import GAIN
from constellation.evaluation.drawing import (
    INK,
    SELECTORS,
    START,
    STYLE,
    band,
    colour,
    interval_mark,
    k_axis,
    legend_above,
    panels,
    svg,
)
from constellation.evaluation.question import Question, Results

OVER_K = ("critic", "majority", "likeliest", "ideal_critic")  # selectors that are drawn over k


def selectors(results: Results) -> Figure | None:
    """Selectors at small_k, overall and on divergent tasks, and some over k against the first survivor.

    The oracle is the ceiling; the diamond is a critic that learned permuted labels.
    """
    bank, model = results["analysis"]["primary_bank"], results["findings"]["critic_gain"].get("model")
    by_k = results["selection"].get(bank, {}).get(model, {})
    small = str(results["analysis"]["small_k"])
    if small not in by_k:
        return None
    names = list(by_k[small]["selectors"])
    figure, axes = panels(3, height=3.1, sharey=False)
    for ax, part, title in (
        (axes[0], "overall", "all tasks"),
        (axes[1], "on_divergent", "divergent tasks"),
    ):
        for position, name in enumerate(reversed(names)):
            entry, paint = by_k[small]["selectors"][name][part], SELECTORS.get(name, INK)
            if entry["estimate"] is None:
                continue
            interval_mark(ax, position, entry, paint, level=True)
        ax.set_yticks(range(len(names)), list(reversed(names)))
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.grid(axis="y", visible=False)
        ax.set_title(f"k = {small}, {title}")
        ax.set_xlabel("pick generalises, %")
    axes[2].axhline(0, color=INK, linewidth=0.9)
    for name in filter(names.__contains__, OVER_K):
        gains = {k: entry["selectors"][name]["gain"] for k, entry in by_k.items()}
        style = (0, (4, 2)) if name == "ideal_critic" else "-"
        band(axes[2], gains, SELECTORS[name], name, style=style)
    for row in results.entries.where(question="controls", quantity=GAIN, bank=bank):  # of permuted labels
        interval_mark(axes[2], int(small), row, INK, marker="D", size=5)
    axes[2].set_title("by k, same colours")
    axes[2].set_ylabel("minus first survivor, points")
    k_axis(axes[2], by_k)
    return figure


def divergence(results: Results) -> Figure | None:
    """Share of groups of k whose survivors disagree: where, and only where, a selector matters."""
    banks = [bank for bank, models in results["divergence"].items() if any(models.values())]
    if not banks:
        return None
    figure, axes = panels(len(banks), height=2.8, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        longest: dict[str, Any] = {}
        for model, by_k in results["divergence"][bank].items():
            if not by_k:
                continue
            band(ax, by_k, colour(results, model), model, marker="o")
            longest |= by_k
        ax.set_title(bank)
        ax.set_ylim(bottom=0)
        k_axis(ax, longest)
    axes[0].set_ylabel("divergent tasks, %")
    legend_above(figure, axes[0])
    return figure


FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "selectors": selectors,
    "rivals": selector_plots.rivals,
    "reliability": selector_plots.reliability,
    "divergence": divergence,
}


def figures_of(questions: Sequence[Question]) -> dict[str, Callable[[Any], Figure | None]]:
    """The questions' figures by their names."""
    return {name: make for one in questions for name, make in one.figures.items()}


def pretraining(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Writes a PNG of the loss and the answers' accuracy over the steps of a pretraining's metrics."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(2, height=2.4, sharey=False)
        curves = ("loss", "loss", 1), ("answer_accuracy", "next-token accuracy on programs, %", 100)
        for ax, (name, label, scale) in zip(axes, curves, strict=True):
            ax.plot([row["step"] for row in rows], [scale * row[name] for row in rows], color=START, lw=1.2)
            ax.set(title=label, xlabel="steps", ylim=(0, None))
        figure.savefig(path, dpi=180, metadata={"Software": None})


def draw(results: Results, directory: Path, questions: Sequence[Question]) -> dict[str, str]:
    """Draw every figure that has data.

    Args:
        results: of `analysis.analyse`.
        directory: where <name>.png go.
        questions: those that were asked.

    Returns:
        name -> SVG text for the page.
    """
    drawn = {}
    answered = [one for one in questions if one.name in results.facts]
    for name, make in (FIGURES | figures_of(answered)).items():
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
            figure = make(results)
            if figure is None:
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            figure.savefig(directory / f"{name}.png", dpi=180, metadata={"Software": None})
            drawn[name] = svg(figure)
    return drawn
