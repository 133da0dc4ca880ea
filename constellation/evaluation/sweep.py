"""The end of a sweep: every cell of the grid in one table, one figure and one JSON file.

Verdicts are each cell's own, from `findings`; nothing is corrected for the number of cells, and none is left
out. Every number is shown with its control, the cell's own null, and every cell names the stages it was read
from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation import drawing
from constellation.evaluation.claims import SUPPORTED
from constellation.evaluation.crossover import NULL_CHANGE
from constellation.evaluation.entries import Entry, points, rows_of
from constellation.evaluation.null import HALVINGS, PAIRS, PICKED, SECOND
from constellation.evaluation.page import environment
from constellation.runtime.files import write_atomically

FINDINGS = {"critic_gain": "critic gain", "crossover": "crossover", "deceleration": "deceleration"}
NULLS = {"critic_gain": PICKED, "crossover": NULL_CHANGE, "deceleration": SECOND}  # finding -> quantity
READ = frozenset({"findings", "overall", "entries", "methods"})  # what a sweep needs of a findings.json


class Cell(NamedTuple):
    """One study of the grid."""

    name: str  # of its workdir
    fields: dict[str, Any]  # dotted field -> the value it has here
    results: dict[str, Any] | None  # what its findings.json holds; None if it failed
    provenance: Mapping[str, str]  # what its report states of what made it; empty if it failed
    failure: str | None  # why it failed


class Measure(NamedTuple):
    """One number that a finding claims something of."""

    panel: str  # the finding and, of several numbers, which one: "crossover pass@8"
    row: Entry
    supported: bool  # whether the finding is supported
    null: dict[str, Any] | None  # its `null_of`


def write_sweep(cells: Sequence[Cell], directory: Path) -> dict[str, Any]:
    """Writes sweep.json, sweep.png and sweep.html; returns what sweep.json holds."""
    summary = summarise(cells)
    template = environment().get_template("sweep.html.j2")
    page = template.render(
        **summary,
        fields=list(cells[0].fields),
        names=FINDINGS,
        numbers=numbers,
        provenance=stated(cells),
        kinds={own.null["kind"] for cell in cells for own in measures(cell) if own.null},
        without_null=without_null(cells),
    )
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    write_atomically(directory / "sweep.json", lambda file: file.write(text.encode()))
    with matplotlib.rc_context(drawing.STYLE):
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
        "cells": [described(cell) for cell in cells],
    }


def described(cell: Cell) -> dict[str, Any]:
    """A cell as sweep.json holds it: if finished, with its findings, nulls, provenance and stored stages."""
    named = {"name": cell.name, "fields": cell.fields, "failure": cell.failure}
    if cell.results is None:
        return named
    return named | {
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
    keys = sorted({key for cell in cells for key in cell.provenance})
    values = {key: [cell.provenance[key] for cell in cells if key in cell.provenance] for key in keys}
    return {key: ", ".join(dict.fromkeys(several)) for key, several in values.items()}


def parts(finding: dict[str, Any]) -> Iterator[Entry]:
    """Each number that a finding claims something of, as a row; none if not measured."""
    if finding["estimate"] is None:
        return
    bank, estimates, intervals = finding["bank"], finding["estimate"], finding["interval"]
    if "ks" in finding:
        for k, estimate, interval in zip(finding["ks"], estimates, intervals, strict=True):
            yield Entry(f"pass@{k}", bank, (), k, estimate, interval)
    else:
        yield Entry("", bank, (), finding["k"], estimates, intervals)


def numbers(finding: dict[str, Any]) -> list[str]:
    """A finding's numbers in points with their intervals: "pass@8 +3.1 [+0.8, +5.5]"."""
    return [f"{row.quantity} {points(row.estimate, *row.interval)}".strip() for row in parts(finding)]


def measures(cell: Cell) -> Iterator[Measure]:
    """Every number of a cell's findings, as far as they were measured; none if it failed."""
    if cell.results is None:
        return
    for name, finding in cell.results["findings"].items():
        for row in parts(finding):
            panel, supported = f"{FINDINGS[name]} {row.quantity}".strip(), finding["verdict"] == SUPPORTED
            yield Measure(panel, row, supported, null_of(cell.results, NULLS[name], row))


def null_of(results: Mapping[str, Any], quantity: str, number: Entry) -> dict[str, Any] | None:
    """{"kind": "halvings" or "pairs", "interval"}: a number's central interval where nothing was learned.

    None where the study has no null of it. Halvings come before pairs: they average over trajectories as the
    study does, while a pair sets one trajectory against another.
    """
    rows = rows_of(results).where(quantity=quantity, bank=number.bank, k=number.k)
    intervals = {row.of: row.interval for row in rows if len(row.models) == 1}
    kinds = [kind for kind in (HALVINGS, PAIRS) if kind in intervals]
    return {"kind": kinds[0], "interval": intervals[kinds[0]]} if kinds else None


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
    height = 0.9 + 0.22 * len(cells)
    figure, axes = drawing.panels(max(1, len(measured)), height, sharey=True)
    for ax, (panel, by_row) in zip(axes, measured.items(), strict=False):
        ax.axvline(0, color=drawing.INK, linewidth=1)
        for row in range(len(cells)):
            if row not in by_row:
                ax.plot(0, row, "x", color=drawing.INK)
                continue
            measure = by_row[row]
            if measure.null is not None:
                drawing.null_span(ax, row, measure.null["interval"], level=True)
            face = None if measure.supported else "white"
            drawing.interval_mark(ax, row, measure.row, drawing.START, face=face, size=5, level=True)
        ax.set(title=panel, xlabel="points", ylim=(len(cells) - 0.5, -0.5))
    axes[0].set_yticks(range(len(cells)), [label(cell) for cell in cells])
    return figure


def label(cell: Cell) -> str:
    """A cell's fields: "tasks 512, keep 1"."""
    return ", ".join(f"{field.split('.')[-1]} {value}" for field, value in cell.fields.items())
