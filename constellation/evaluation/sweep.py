"""The end of a sweep: every cell of the grid in one table, one figure and one JSON file.

Verdicts are each cell's own, from `findings`; over the cells nothing is corrected and nothing left out. Every
number stands beside its control, the cell's own null, and every cell names the stages it was read from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation.claims import SUPPORTED
from constellation.evaluation.crossover import NULL_CHANGE
from constellation.evaluation.drawing import INK, START, STYLE, interval_mark, null_span, panels
from constellation.evaluation.entries import points
from constellation.evaluation.null import HALVINGS, PAIRS, PICKED, SECOND
from constellation.evaluation.page import environment
from constellation.runtime.files import write_atomically

FINDINGS = {"critic_gain": "critic gain", "crossover": "crossover", "deceleration": "deceleration"}
NULLS = {"critic_gain": PICKED, "crossover": NULL_CHANGE, "deceleration": SECOND}  # finding -> quantity
READ = frozenset(
    {"findings", "overall", "entries", "methods"}
)  # the parts of findings.json that are read here


class Cell(NamedTuple):
    """One study of the grid.

    Attributes:
        name: of its workdir.
        fields: dotted field -> the value it has here.
        results: what the study's findings.json holds; None if it failed.
        provenance: what its report states of what made it; empty if it failed.
        failure: why it failed, else None.
    """

    name: str
    fields: dict[str, Any]
    results: dict[str, Any] | None
    provenance: Mapping[str, str]
    failure: str | None


class Measure(NamedTuple):
    """One number that a finding claims something of.

    Attributes:
        panel: the finding and, of several numbers, which one: "crossover pass@8".
        estimate, interval: the number, a share of tasks.
        supported: whether the finding is.
        null: {"kind": "halvings" or "pairs", "interval"}: the central interval of the same number where
            nothing was learned, as `null`; None where the study has no null of it.
    """

    panel: str
    estimate: float
    interval: list[float]
    supported: bool
    null: dict[str, Any] | None


def write_sweep(cells: Sequence[Cell], directory: Path) -> dict[str, Any]:
    """Writes sweep.json, sweep.png and sweep.html; returns what sweep.json holds."""
    summary = summarise(cells)
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(
            **summary,
            fields=list(cells[0].fields),
            names=FINDINGS,
            numbers=numbers,
            provenance=stated(cells),
            kinds={own.null["kind"] for cell in cells for own in measures(cell) if own.null},
            without_null=without_null(cells),
        )
    )
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_atomically(directory / "sweep.json", lambda file: file.write(text.encode()))
    with matplotlib.rc_context(STYLE):
        forest(cells).savefig(directory / "sweep.png", dpi=180, metadata={"Software": None})
    (directory / "sweep.html").write_text(page, encoding="utf-8")
    return summary


def summarise(cells: Sequence[Cell]) -> dict[str, Any]:
    """In how many cells each finding has which verdict, and every cell."""
    finished = [cell.results for cell in cells if cell.results is not None]
    verdicts = {
        name: dict(Counter(results["findings"][name]["verdict"] for results in finished)) for name in FINDINGS
    }
    overall = dict(Counter(results["overall"]["verdict"] for results in finished))
    return {
        "verdicts": verdicts | {"overall": overall},
        "finished": len(finished),
        "failed": len(cells) - len(finished),
        "cells": [
            {"name": cell.name, "fields": cell.fields, "failure": cell.failure} | found(cell)
            for cell in cells
        ],
    }


def found(cell: Cell) -> dict[str, Any]:
    """What a finished cell found, beside its nulls, and from what: its stored stages and what made them."""
    if cell.results is None:
        return {}
    return {
        "findings": cell.results["findings"],
        "overall": cell.results["overall"],
        "null": {measure.panel: measure.null for measure in measures(cell)},
        "directory": directory_of(cell.name),
        "provenance": dict(cell.provenance),
        "sources": cell.results["methods"]["sources"],
    }


def directory_of(name: str) -> str:
    """A cell's workdir, as seen from the sweep's."""
    return f"cells/{name}"


def stated(cells: Sequence[Cell]) -> dict[str, str]:
    """What made the cells: each entry of their provenance, with every value that occurs."""
    values: dict[str, dict[str, None]] = {}
    for cell in cells:
        for key, value in cell.provenance.items():
            values.setdefault(key, {})[value] = None
    return {key: ", ".join(values[key]) for key in sorted(values)}


def parts(finding: dict[str, Any]) -> Iterator[tuple[str, float, list[float]]]:
    """(what, estimate, interval) of each number a finding claims something of; none if not measured."""
    if finding["estimate"] is None:
        return
    if isinstance(finding["estimate"], list):
        for k, estimate, interval in zip(
            finding["ks"], finding["estimate"], finding["interval"], strict=True
        ):
            yield f"pass@{k}", estimate, interval
    else:
        yield "", finding["estimate"], finding["interval"]


def numbers(finding: dict[str, Any]) -> list[str]:
    """A finding's numbers in points with their intervals: "pass@8 +3.1 [+0.8, +5.5]"."""
    return [f"{what} {points(estimate, *interval)}".strip() for what, estimate, interval in parts(finding)]


def measures(cell: Cell) -> Iterator[Measure]:
    """Every number of a cell's findings, as far as they were measured; none if it failed."""
    if cell.results is None:
        return
    for name, finding in cell.results["findings"].items():
        for what, estimate, interval in parts(finding):
            k = int(what.removeprefix("pass@")) if what else finding["k"]
            null = null_of(cell.results["entries"], NULLS[name], finding["bank"], k)
            panel = f"{FINDINGS[name]} {what}".strip()
            yield Measure(panel, estimate, interval, finding["verdict"] == SUPPORTED, null)


def null_of(rows: Sequence[Mapping[str, Any]], quantity: str, bank: str, k: int) -> dict[str, Any] | None:
    """A statistic's central interval in the null, as in `Measure`.

    Of the halvings first: they average over trajectories as the study does, and a pair is one against one.
    """
    found = {
        row["of"]: row["interval"]
        for row in rows
        if (row["quantity"], row["bank"], row["k"], len(row["models"])) == (quantity, bank, k, 1)
    }
    kinds = [kind for kind in (HALVINGS, PAIRS) if kind in found]
    return {"kind": kinds[0], "interval": found[kinds[0]]} if kinds else None


def without_null(cells: Sequence[Cell]) -> dict[str, str]:
    """Numbers that have no null -> the cells where they have none: {"critic gain": "keep 1; keep 4"}."""
    lacking: dict[str, list[str]] = {}
    for cell in cells:
        bare = ", ".join(measure.panel for measure in measures(cell) if measure.null is None)
        if bare:
            lacking.setdefault(bare, []).append(label(cell))
    finished = sum(cell.results is not None for cell in cells)
    return {
        bare: "every finished cell" if len(labels) == finished else "; ".join(labels)
        for bare, labels in lacking.items()
    }


def forest(cells: Sequence[Cell]) -> Figure:
    """Each number of each finding with its interval, the cells one below the other in the grid's order.

    A mark is filled where the finding is supported; a cross is a cell that failed or did not measure it. The
    pale span behind a mark is the number's null, where the cell has one.
    """
    measured: dict[str, dict[int, Measure]] = {}
    for row, cell in enumerate(cells):
        for measure in measures(cell):
            measured.setdefault(measure.panel, {})[row] = measure
    figure, axes = panels(max(1, len(measured)), height=0.9 + 0.22 * len(cells), sharey=True)
    for ax, (panel, by_row) in zip(axes, measured.items(), strict=False):
        ax.axvline(0, color=INK, linewidth=1)
        for row in range(len(cells)):
            if row not in by_row:
                ax.plot(0, row, "x", color=INK)
                continue
            measure = by_row[row]
            if measure.null is not None:
                null_span(ax, row, measure.null["interval"], level=True)
            entry = {"estimate": measure.estimate, "interval": measure.interval}
            face = None if measure.supported else "white"
            interval_mark(ax, row, entry, START, face=face, size=5, level=True)
        ax.set(title=panel, xlabel="points", ylim=(len(cells) - 0.5, -0.5))
    axes[0].set_yticks(range(len(cells)), [label(cell) for cell in cells])
    return figure


def label(cell: Cell) -> str:
    """A cell's fields: "tasks 512, keep 1"."""
    return ", ".join(f"{field.split('.')[-1]} {value}" for field, value in cell.fields.items())
