"""The report: report.html in one file, a PNG of every figure, and findings.json.

All three are functions of the study alone and hold no time: the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from constellation.evaluation.analysis import analyse
from constellation.evaluation.cases import cases
from constellation.evaluation.entries import Entry, points, signed, written_p
from constellation.evaluation.methods import Choices
from constellation.evaluation.page import environment
from constellation.evaluation.paper import comparison
from constellation.evaluation.plots import draw
from constellation.evaluation.question import Question, Results
from constellation.evaluation.questions import QUESTIONS
from constellation.evaluation.study import StudyResults
from constellation.runtime.nested import dotted

NAMES = {
    "critic_gain": "Does the critic help?",
    "crossover": "Do the curves cross?",
    "deceleration": "Do gains slow down?",
}
SECTIONS = {  # anchor -> its name in the page's navigation
    "findings": "Findings",
    "paper": "Compared with the paper",
    "exploratory": "Everything that was tested",
    "tasks": "A few tasks",
    "limits": "Limits",
    "methods": "Methods",
    "config": "Configuration",
}


def write_report(
    study: StudyResults, directory: Path, questions: Sequence[Question] = QUESTIONS
) -> dict[str, Any]:
    """Analyse a study and write its report.

    Args:
        study: the study.
        directory: gets report.html, findings.json and one <figure>.png each; made if need be.

    Returns:
        what findings.json holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    results = analyse(study, questions)
    found = results.as_json()
    text = json.dumps(found, indent=1, sort_keys=True, allow_nan=False)
    (directory / "findings.json").write_text(text + "\n", encoding="utf-8")
    figures = draw(results, directory, questions)
    page = render(study, results, figures, questions)
    (directory / "report.html").write_text(page, encoding="utf-8")
    return found


def render(
    study: StudyResults,
    results: Results,
    figures: Mapping[str, str],
    questions: Sequence[Question] = QUESTIONS,
) -> str:
    """The page.

    Args:
        study: for its title, tasks, configuration and provenance.
        results: of `analyse`.
        figures: name -> SVG text.
    """
    alpha = 1 - study.analysis.level
    filters: dict[str, Callable[..., Any]] = {
        "percent": lambda entry: percent(mapping(entry)),
        "points": lambda entry: difference(mapping(entry)) + star(mapping(entry), alpha),
        "number": lambda entry: number(mapping(entry)) + star(mapping(entry), alpha),
        "fraction": lambda entry: number(mapping(entry), digits=3),
        "share": share,
        "count": count,
        "strip": strip,
        "signed": signed,
        "p": lambda p: "\N{EM DASH}" if p is None else written_p(p),
        "spread": spread,
        "both": both_intervals,
        "pools": pools,
        "flat": lambda tree: dotted(tree).items(),
        "listed": listed,
        "literal": lambda text: json.dumps(text, ensure_ascii=False),
    }
    template = environment(filters).get_template("report.html.j2")
    return template.render(
        study=study,
        title=study.title,
        results=results,
        names=NAMES,
        sections=SECTIONS,
        questions=questions,
        figures=figures,
        traces=traces(study, figures, questions),
        c=Choices(study.config),
        paper=comparison(results),
        cases=cases(study),
        probes=study.probes,
        config=study.config,
        provenance=study.provenance,
        base=study.base,
        start=study.start,
        rounds=study.rounds,
        last=study.sequence[-1],
        bank=study.analysis.primary_bank,
        small=str(study.analysis.small_k),
        large=str(study.analysis.large_k),
        dash="\N{EM DASH}",
    )


def traces(
    study: StudyResults, figures: Mapping[str, str], questions: Sequence[Question]
) -> dict[str, Mapping[str, str]]:
    """Figure -> the stored stages that it was computed from, with their digests."""
    of_questions: dict[str, Mapping[str, str]] = {}
    for question in questions:
        own = study.sources.get(question.part or question.name, {})
        shared = study.sources.get("study", {}) if question.always else {}
        of_questions |= {name: {**shared, **own} for name in question.figures}
    return {name: of_questions[name] for name in figures}


def mapping(entry: Entry | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A row as a mapping."""
    return entry._asdict() if isinstance(entry, Entry) else entry


def percent(entry: Mapping[str, Any] | None) -> str:
    """A share of tasks with its interval: "46.1 [40.0, 52.3]"."""
    if entry is None or entry["estimate"] is None:
        return "\N{EM DASH}"
    text = f"{100 * entry['estimate']:.1f} [{', '.join(f'{100 * end:.1f}' for end in entry['interval'])}]"
    return text.replace("-", "\N{MINUS SIGN}")


def difference(entry: Mapping[str, Any] | None) -> str:
    """A difference of shares with its interval: "+3.1 [1.0, 5.2]"."""
    if entry is None or entry["estimate"] is None:
        return "\N{EM DASH}"
    if entry.get("unit", "share") != "share":
        return number(entry)
    return points(entry["estimate"], *entry["interval"])


def star(entry: Mapping[str, Any] | None, alpha: float) -> str:
    """The mark of a discovery: of a number whose q is at most alpha."""
    q = None if entry is None else entry.get("q")
    return "*" if q is not None and q <= alpha else ""


def number(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """A mean with its interval: "2.41 [2.20, 2.63]"."""
    if entry is None or entry["estimate"] is None:
        return "\N{EM DASH}"
    text = f"{entry['estimate']:.{digits}f}"
    if entry["interval"] is not None:
        text += f" [{', '.join(f'{end:.{digits}f}' for end in entry['interval'])}]"
    return text.replace("-", "\N{MINUS SIGN}")


def count(value: int | None) -> str:
    """A whole number with thousands apart; a dash where it does not apply."""
    return "\N{EM DASH}" if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def strip(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a finding's estimates and intervals fall on a strip from 0 to 100 with its zero at 50."""
    if finding["estimate"] is None:
        return []
    pairs = isinstance(finding["estimate"], list)
    estimates = finding["estimate"] if pairs else [finding["estimate"]]
    intervals = finding["interval"] if pairs else [finding["interval"]]
    least = finding["minimum_detectable_effect"] if pairs else [finding["minimum_detectable_effect"]]
    labels = [f"pass@{k}" for k in finding["ks"]] if pairs else [""]

    def place(x: float) -> float:
        return round(50 + 46 * x / widest, 2)

    widest = max(abs(end) for interval in intervals for end in interval) or 1.0
    return [
        {
            "label": label,
            "low": place(low),
            "high": place(high),
            "at": place(estimate),
            "estimate": signed(estimate),
            "interval": f"{signed(low)} to {signed(high)}",
            "detectable": f"{100 * effect:.1f}",
        }
        for label, estimate, (low, high), effect in zip(labels, estimates, intervals, least, strict=True)
    ]


def spread(finding: Mapping[str, Any]) -> str:
    """Standard deviations of a finding's crossed design in points: "trajectories 1.2, tasks 14.0"."""
    parts = []
    for name in ("trajectories", "tasks", "residual"):
        variance = finding[f"variance_of_{name}"]
        variances = variance if isinstance(variance, list) else [variance]
        if None not in variances:
            parts.append(f"{name} {' and '.join(f'{100 * value**0.5:.1f}' for value in variances)}")
    return ", ".join(parts)


def both_intervals(finding: Mapping[str, Any]) -> str:
    """A finding's intervals before the wider was taken: "bootstrap [+1.0, +3.0], Student [+0.5, +3.5]"."""
    parts = []
    for name in ("bootstrap", "student"):
        found = finding[f"interval_{name}"]
        if found is not None:
            ends = found if isinstance(found[0], list) else [found]
            parts.append(f"{name} " + " and ".join(f"[{signed(low)}, {signed(high)}]" for low, high in ends))
    return ", ".join(parts).replace("student", "Student")


def share(entry: Entry | None) -> str:
    """A share of tasks as a percentage without its interval: "46.1"."""
    return "\N{EM DASH}" if entry is None or entry.estimate is None else f"{100 * entry.estimate:.1f}"


def pools(study: StudyResults) -> str:
    """Samples a task of every pool: "128", or "32 to 256"."""
    counts = [study.pool_size(bank, model) for bank in study.tasks for model in study.models]
    return f"{min(counts)}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def listed(items: Mapping[str, int]) -> str:
    """Counts by name in a sentence: "200 easy, 200 hard and 100 withheld"."""
    parts = [f"{value} {name}" for name, value in items.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
