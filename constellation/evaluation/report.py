"""The report: report.html in one file, a PNG of every figure, and findings.json.

All three are functions of the study alone and hold no time: the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from constellation.evaluation.analysis import analyse
from constellation.evaluation.cases import cases
from constellation.evaluation.findings import points, signed
from constellation.evaluation.paper import comparison
from constellation.evaluation.plots import draw
from constellation.evaluation.study import StudyResults

NAMES = {
    "critic_gain": "Does the critic help?",
    "crossover": "Do the curves cross?",
    "deceleration": "Do gains slow down?",
}


def write_report(study: StudyResults, directory: Path) -> dict[str, Any]:
    """Analyse a study and write its report.

    Args:
        study: the study.
        directory: gets report.html, findings.json and one <figure>.png each; made if need be.

    Returns:
        what findings.json holds.
    """
    directory.mkdir(parents=True, exist_ok=True)
    results = analyse(study)
    text = json.dumps(results, indent=1, sort_keys=True, allow_nan=False)
    (directory / "findings.json").write_text(text + "\n", encoding="utf-8")
    figures = draw(results, directory)
    (directory / "report.html").write_text(render(study, results, figures), encoding="utf-8")
    return results


def render(study: StudyResults, results: dict[str, Any], figures: Mapping[str, str]) -> str:
    """The page.

    Args:
        study: for its title, tasks, configuration and provenance.
        results: of `analyse`.
        figures: name -> SVG text.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "percent": percent,
        "points": difference,
        "number": number,
        "count": count,
        "strip": strip,
        "flat": flat,
        "listed": listed,
        "literal": lambda text: json.dumps(text, ensure_ascii=False),
    }
    return environment.get_template("report.html.j2").render(
        title=study.title,
        results=results,
        names=NAMES,
        figures=figures,
        rows=comparison(results),
        cases=cases(study),
        probes=study.probes,
        config=study.config,
        provenance=study.provenance,
        base=study.base,
        start=study.start,
        rounds=study.rounds,
        last=study.trajectory[-1],
        bank=study.analysis.primary_bank,
        small=str(study.analysis.small_k),
        large=str(study.analysis.large_k),
        dash="\N{EM DASH}",
    )


def percent(entry: Mapping[str, Any] | None) -> str:
    """A share of tasks with its interval: "46.1 [40.0, 52.3]"."""
    if entry is None or entry["estimate"] is None:
        return "\N{EM DASH}"
    return f"{100 * entry['estimate']:.1f} [{', '.join(f'{100 * end:.1f}' for end in entry['interval'])}]"


def difference(entry: Mapping[str, Any] | None) -> str:
    """A difference of shares with its interval: "+3.1 [1.0, 5.2]"."""
    if entry is None or entry["estimate"] is None:
        return "\N{EM DASH}"
    return points(entry["estimate"], *entry["interval"])


def number(entry: Mapping[str, Any]) -> str:
    """A mean with its interval: "2.41 [2.20, 2.63]"."""
    if entry["estimate"] is None:
        return "\N{EM DASH}"
    ends = ", ".join(f"{end:.2f}" for end in entry["interval"] or ())
    return f"{entry['estimate']:.2f} [{ends}]" if ends else f"{entry['estimate']:.2f}"


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


def listed(items: Mapping[str, int], unit: str = "") -> str:
    """Counts by name in a sentence: "200 easy, 200 hard and 100 withheld", or one count if all agree.

    Args:
        items: name -> count.
        unit: what is counted; without one, each count is said with its name.
    """
    if unit and len(set(items.values())) == 1:
        return f"{next(iter(items.values()))} {unit}"
    parts = [f"{value} {unit} on {name}" if unit else f"{value} {name}" for name, value in items.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A nested mapping as (dotted name, value), in its own order."""
    rows: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", value))
    return rows
