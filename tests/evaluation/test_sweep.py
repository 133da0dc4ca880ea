"""The table over a grid: every cell stands in it, and the counts are those of its verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse
from constellation.evaluation.sweep import Cell, forest, numbers, summarise, write_sweep
from tests.evaluation.synthetic import study


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """Two by two: three studies, of which one has no rounds, and a failure."""
    results = [analyse(study(tasks=6, seed=seed, rounds=r, resamples=50)) for seed, r in enumerate((2, 2, 0))]
    grid = [{"star.keep": keep, "star.tasks": tasks} for keep in (1, 4) for tasks in (512, 2048)]
    ends: list[dict[str, Any] | None] = [*results, None]
    return [
        Cell(f"cell{i}", fields, end, None if end else "UserError: <no> memory")
        for i, (fields, end) in enumerate(zip(grid, ends, strict=True))
    ]


def with_verdicts(cell: Cell, verdict: str) -> Cell:
    assert cell.results is not None
    findings = {name: finding | {"verdict": verdict} for name, finding in cell.results["findings"].items()}
    return cell._replace(results=cell.results | {"findings": findings})


def test_counts_and_cells(cells: list[Cell]) -> None:
    marked = [with_verdicts(cells[0], "supported"), with_verdicts(cells[1], "not supported"), *cells[2:]]
    summary = summarise(marked)
    assert (summary["finished"], summary["failed"]) == (3, 1)
    assert summary["verdicts"]["crossover"] == {"supported": 1, "not supported": 1, "inconclusive": 1}
    assert sum(summary["verdicts"]["overall"].values()) == 3
    assert [cell["name"] for cell in summary["cells"]] == [cell.name for cell in cells]
    assert summary["cells"][3] == {
        "name": "cell3",
        "fields": {"star.keep": 4, "star.tasks": 2048},
        "failure": "UserError: <no> memory",
    }


def test_page_holds_every_cell(cells: list[Cell], tmp_path: Path) -> None:
    summary = write_sweep(cells, tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text()) == summary
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "sweep.html").read_text()
    assert "UserError: &lt;no&gt; memory" in page
    for cell in cells[:3]:
        assert f'href="cells/{cell.name}/report.html"' in page
        assert cell.results is not None
        for finding in cell.results["findings"].values():
            assert all(number in page for number in numbers(finding))


def test_forest_shows_estimates_on_their_intervals(cells: list[Cell]) -> None:
    marked = [with_verdicts(cells[0], "supported"), with_verdicts(cells[1], "inconclusive"), *cells[2:]]
    figure = forest(marked)
    assert [ax.get_title() for ax in figure.axes] == [
        "critic gain",
        "crossover pass@8",
        "crossover pass@16",
        "deceleration",
    ]
    names = [f"keep {keep}, tasks {tasks}" for keep in (1, 4) for tasks in (512, 2048)]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == names
    lines = figure.axes[1].lines[1:]  # the first is that of zero
    for row, (cell, interval, estimate) in enumerate(zip(marked[:2], lines[::2], lines[1::2], strict=False)):
        assert cell.results is not None
        found = cell.results["findings"]["crossover"]
        np.testing.assert_allclose(
            np.asarray(interval.get_xdata()), [100 * end for end in found["interval"][0]]
        )
        np.testing.assert_allclose(np.asarray(estimate.get_xdata()), [100 * found["estimate"][0]])
        np.testing.assert_allclose(np.asarray(estimate.get_ydata()), [row])
        assert (estimate.get_markerfacecolor() == estimate.get_color()) == (row == 0)
    assert [line.get_marker() for line in lines[4:]] == ["x", "x"]  # not measured; failed


def test_a_sweep_of_failures_is_written(cells: list[Cell], tmp_path: Path) -> None:
    assert write_sweep(cells[3:], tmp_path)["failed"] == 1
