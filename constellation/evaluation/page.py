"""How the templates of the report and of the sweep are read, and how they spell numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from constellation.evaluation.entries import Entry, points, signed, written_p
from constellation.evaluation.study import StudyResults
from constellation.runtime.nested import dotted

DASH = "\N{EM DASH}"


def environment(filters: Mapping[str, Callable[..., Any]] | None = None) -> jinja2.Environment:
    """Where templates are found; they escape every value, and a name that they are not given is an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= filters or {}
    return made


def report_filters(alpha: float) -> dict[str, Callable[..., Any]]:
    """The filters of the report's templates; a discovery, with q at most alpha, bears an asterisk."""

    def star(entry: Entry | None) -> str:
        return "*" if entry and entry.q is not None and entry.q <= alpha else ""

    return {
        "percent": lambda entry: written(entry, 100, digits=1),
        "points": lambda entry: difference(entry) + star(entry),
        "number": lambda entry: written(entry) + star(entry),
        "fraction": lambda entry: written(entry, digits=3),
        "share": lambda entry: written(entry and entry._replace(interval=None), 100, digits=1),
        "count": count,
        "strip": strip,
        "signed": signed,
        "p": lambda p: DASH if p is None else written_p(p),
        "spread": spread,
        "both": both_intervals,
        "pools": pools,
        "flat": lambda tree: dotted(tree).items(),
        "listed": listed,
        "literal": lambda text: json.dumps(text, ensure_ascii=False),
    }


def written(entry: Entry | None, scale: float = 1, digits: int = 2) -> str:
    """An estimate with its interval, if it has one: "2.41 [2.20, 2.63]"."""
    if entry is None or entry.estimate is None:
        return DASH
    text = f"{scale * entry.estimate:.{digits}f}"
    if entry.interval is not None:
        text += f" [{', '.join(f'{scale * end:.{digits}f}' for end in entry.interval)}]"
    return text.replace("-", "\N{MINUS SIGN}")


def difference(entry: Entry | None) -> str:
    """A difference of shares with its interval, "+3.1 [+1.0, +5.2]"; of another unit, as a number."""
    if entry is None or entry.estimate is None or entry.unit != "share":
        return written(entry)
    return points(entry.estimate, *entry.interval)


def count(value: int | None) -> str:
    """A whole number with thousands apart; a dash where it does not apply."""
    return DASH if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def values_of(finding: Mapping[str, Any], name: str) -> list[Any]:
    """A finding's values of one kind, one for each of the numbers that it claims something of."""
    return finding[name] if isinstance(finding["estimate"], list) else [finding[name]]


def strip(finding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a finding's estimates and intervals fall on a strip from 0 to 100 with its zero at 50."""
    if finding["estimate"] is None:
        return []
    estimates, intervals = values_of(finding, "estimate"), values_of(finding, "interval")
    labels = [f"pass@{k}" for k in finding["ks"]] if len(estimates) > 1 else [""]
    widest = max(abs(end) for interval in intervals for end in interval) or 1.0

    def place(x: float) -> float:
        return round(50 + 46 * x / widest, 2)

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
        for label, estimate, (low, high), effect in zip(
            labels, estimates, intervals, values_of(finding, "minimum_detectable_effect"), strict=True
        )
    ]


def spread(finding: Mapping[str, Any]) -> str:
    """Standard deviations of a finding's crossed design in points: "trajectories 1.2, tasks 14.0"."""
    parts = []
    for name in ("trajectories", "tasks", "residual"):
        variances = values_of(finding, f"variance_of_{name}")
        if None not in variances:
            parts.append(f"{name} {' and '.join(f'{100 * value**0.5:.1f}' for value in variances)}")
    return ", ".join(parts)


def both_intervals(finding: Mapping[str, Any]) -> str:
    """A finding's intervals before the wider was taken: "bootstrap [+1.0, +3.0], Student [+0.5, +3.5]"."""
    parts = []
    for name in ("bootstrap", "student"):
        if finding[f"interval_{name}"] is not None:
            ends = values_of(finding, f"interval_{name}")
            parts.append(f"{name} " + " and ".join(f"[{signed(low)}, {signed(high)}]" for low, high in ends))
    return ", ".join(parts).replace("student", "Student")


def pools(study: StudyResults) -> str:
    """Samples a task of every pool: "128", or "32 to 256"."""
    counts = {study.pool_size(bank, model) for bank in study.tasks for model in study.models}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def listed(items: Mapping[str, int]) -> str:
    """Counts by name in a sentence: "200 easy, 200 hard and 100 withheld"."""
    parts = [f"{value} {name}" for name, value in items.items()]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
