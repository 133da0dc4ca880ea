"""The end of a sweep: every cell of the grid in one table, one heat map and one JSON file.

Verdicts are each cell's own, from `findings`; over the cells nothing is corrected and nothing left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from constellation.evaluation.claims import SUPPORTED
from constellation.evaluation.drawing import STYLE, panels
from constellation.evaluation.entries import points, signed
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
        heat_map(cells).savefig(directory / "sweep.png", dpi=180, metadata={"Software": None})
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


def heat_map(cells: Sequence[Cell]) -> Figure:
    """Each number of each finding over the grid: half of the axes down, half across.

    Colour and text are the estimate in points; a supported finding stands in bold with a star, a failed cell
    is crossed out.
    """
    fields = list(cells[0].fields)
    half = len(fields) // 2
    down, across = (labels(cells, some) for some in (fields[:half], fields[half:]))
    panel_values: dict[str, np.ndarray] = {}
    supported: dict[str, set[tuple[int, int]]] = {}
    for cell in cells:
        if cell.results is None:
            continue
        place = down.index(label(cell, fields[:half])), across.index(label(cell, fields[half:]))
        for name, title in FINDINGS.items():
            finding = cell.results["findings"][name]
            for what, estimate, _ in parts(finding):
                panel = f"{title} {what}".strip()
                values = panel_values.setdefault(panel, np.full((len(down), len(across)), np.nan))
                values[place] = 100 * estimate
                if finding["verdict"] == SUPPORTED:
                    supported.setdefault(panel, set()).add(place)
    figure, axes = panels(max(1, len(panel_values)), height=1.6 + 0.34 * len(down), sharey=True)
    for ax, (panel, values) in zip(axes, panel_values.items(), strict=False):
        widest = max(1.0, np.nanmax(abs(values)))
        ax.imshow(values, cmap="RdBu", vmin=-1.3 * widest, vmax=1.3 * widest, aspect="auto")
        for (y, x), value in np.ndenumerate(values):
            star = (y, x) in supported.get(panel, ())
            text = "×" if np.isnan(value) else signed(value / 100) + "*" * star
            ax.text(x, y, text, ha="center", va="center", fontsize=7, weight="bold" if star else "normal")
        ax.set_title(f"{panel}, points")
        ax.set_xticks(range(len(across)), across, rotation=90, fontsize=7)
        ax.set_yticks(range(len(down)), down, fontsize=7)
        ax.grid(visible=False)
    return figure


def labels(cells: Sequence[Cell], fields: Sequence[str]) -> list[str]:
    """The distinct labels of some fields, in the grid's order."""
    return list(dict.fromkeys(label(cell, fields) for cell in cells))


def label(cell: Cell, fields: Sequence[str]) -> str:
    """Some of a cell's fields: "keep 1, tasks 512"."""
    return ", ".join(f"{field.split('.')[-1]} {cell.fields[field]}" for field in fields)
