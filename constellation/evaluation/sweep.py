"""The end of a sweep: every cell of the grid in one table, one figure and one JSON file.

Verdicts are each cell's own, from `findings`; over the cells nothing is corrected and nothing left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation.claims import SUPPORTED
from constellation.evaluation.drawing import INK, START, STYLE, interval_mark, panels
from constellation.evaluation.entries import points
from constellation.evaluation.page import environment

FINDINGS = {"critic_gain": "critic gain", "crossover": "crossover", "deceleration": "deceleration"}


class Cell(NamedTuple):
    """One study of the grid.

    Attributes:
        name: of its workdir.
        fields: dotted field -> the value it has here.
        results: what the study's findings.json holds; None if it failed.
        failure: why it failed, else None.
    """

    name: str
    fields: dict[str, Any]
    results: dict[str, Any] | None
    failure: str | None


def write_sweep(cells: Sequence[Cell], directory: Path) -> dict[str, Any]:
    """Writes sweep.json, sweep.png and sweep.html; returns what sweep.json holds."""
    summary = summarise(cells)
    (directory / "sweep.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")
    with matplotlib.rc_context(STYLE):
        forest(cells).savefig(directory / "sweep.png", dpi=180, metadata={"Software": None})
    page = (
        environment()
        .get_template("sweep.html.j2")
        .render(**summary, fields=list(cells[0].fields), names=FINDINGS, numbers=numbers)
    )
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
            {"name": cell.name, "fields": cell.fields, "failure": cell.failure}
            | ({part: cell.results[part] for part in ("findings", "overall")} if cell.results else {})
            for cell in cells
        ],
    }


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


def forest(cells: Sequence[Cell]) -> Figure:
    """Each number of each finding with its interval, the cells one below the other in the grid's order.

    A mark is filled where the finding is supported; a cross is a cell that failed or did not measure it.
    """
    measured: dict[str, dict[int, tuple[dict[str, Any], bool]]] = {}
    for row, cell in enumerate(cells):
        for name, finding in cell.results["findings"].items() if cell.results else ():
            for what, estimate, interval in parts(finding):
                entry = {"estimate": estimate, "interval": interval}
                by_row = measured.setdefault(f"{FINDINGS[name]} {what}".strip(), {})
                by_row[row] = (entry, finding["verdict"] == SUPPORTED)
    figure, axes = panels(max(1, len(measured)), height=0.9 + 0.22 * len(cells), sharey=True)
    for ax, (panel, by_row) in zip(axes, measured.items(), strict=False):
        ax.axvline(0, color=INK, linewidth=1)
        for row in range(len(cells)):
            if row not in by_row:
                ax.plot(0, row, "x", color=INK)
                continue
            entry, supported = by_row[row]
            interval_mark(ax, row, entry, START, face=None if supported else "white", size=5, level=True)
        ax.set(title=panel, xlabel="points", ylim=(len(cells) - 0.5, -0.5))
    axes[0].set_yticks(range(len(cells)), [label(cell) for cell in cells])
    return figure


def label(cell: Cell) -> str:
    """A cell's fields: "tasks 512, keep 1"."""
    return ", ".join(f"{field.split('.')[-1]} {value}" for field, value in cell.fields.items())
