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

from constellation.evaluation.drawing import START, STYLE, panels, svg
from constellation.evaluation.question import Question, Results


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
    for name, make in figures_of(answered).items():
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
            figure = make(results)
            if figure is None:
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            figure.savefig(directory / f"{name}.png", dpi=180, metadata={"Software": None})
            drawn[name] = svg(figure)
    return drawn
