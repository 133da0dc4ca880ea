"""The report: report.html in one file, a PNG of every figure, and findings.json.

All three are functions of the study alone and hold no time: the same inputs give the same bytes. A figure is
drawn once and written twice: as a PNG on white, and as SVG whose ink follows the page, so that the report
reads well in light and dark.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation.analysis import analyse
from constellation.evaluation.cases import cases
from constellation.evaluation.drawing import STYLE, svg
from constellation.evaluation.entries import plain
from constellation.evaluation.methods import Choices
from constellation.evaluation.page import DASH, environment, report_filters
from constellation.evaluation.paper import comparison
from constellation.evaluation.question import Question, Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.study import StudyResults


def write_report(
    study: StudyResults, directory: Path, questions: Sequence[Question] = QUESTIONS
) -> dict[str, Any]:
    """Analyse a study and write its report.

    Args:
        directory: gets report.html, findings.json and one <figure>.png each; made if need be.

    Returns:
        what findings.json holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    results = analyse(study, questions)
    found = results.as_json()
    text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False)
    (directory / "findings.json").write_text(text + "\n", encoding="utf-8")
    page = render(study, results, draw(results, directory, questions), questions)
    (directory / "report.html").write_text(page, encoding="utf-8")
    return found


def draw(results: Results, directory: Path, questions: Sequence[Question]) -> dict[str, str]:
    """Writes <name>.png of every figure that has data; returns name -> SVG text for the page."""
    drawn = {}
    answered = [question for question in questions if question.name in results.facts]
    for name, make in ((name, make) for question in answered for name, make in question.figures.items()):
        if text := draw_figure(name, partial(make, results), directory):
            drawn[name] = text
    return drawn


def draw_figure(name: str, make: Callable[[], Figure | None], directory: Path) -> str:
    """Writes <name>.png and returns the figure as SVG; "" where there is nothing to draw."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = make()
        if figure is None:
            return ""
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for both files
        figure.savefig(directory / f"{name}.png", dpi=180, metadata={"Software": None})
        return svg(figure)


def render(
    study: StudyResults,
    results: Results,
    figures: Mapping[str, str],
    questions: Sequence[Question] = QUESTIONS,
) -> str:
    """The page.

    Args:
        study: for its title, tasks, configuration and provenance.
        figures: name -> SVG text.
    """
    choice = study.analysis
    template = environment(report_filters(1 - choice.level)).get_template("report.html.j2")
    return template.render(
        study=study,
        results=results,
        questions=questions,
        figures=figures,
        traces=traces(study, figures, questions),
        c=Choices(study.config),
        paper=comparison(results),
        cases=cases(study),
        analysis=plain(dataclasses.asdict(choice)),
        sizes={bank: len(tasks) for bank, tasks in study.tasks.items()},
        base=study.base,
        start=study.start,
        rounds=study.rounds,
        last=study.sequence[-1],
        bank=choice.primary_bank,
        small=choice.small_k,
        large=choice.large_k,
        probes=study.probes,
        dash=DASH,
    )


def traces(
    study: StudyResults, figures: Mapping[str, str], questions: Sequence[Question]
) -> dict[str, Mapping[str, str]]:
    """Figure -> stage that its question reads -> hash; stages that all questions may read come first."""
    shared = study.sources.get("study", {})
    return {
        name: {**shared, **study.sources.get(question.part or question.name, {})}
        for question in questions
        for name in question.figures
        if name in figures
    }
