"""The table over a grid: every cell stands in it, and the counts are those of its verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constellation.evaluation.analysis import analyse
from constellation.evaluation.sweep import Cell, heat_map, numbers, summarise, write_sweep
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


def test_heat_map_shows_estimates_in_their_place(cells: list[Cell]) -> None:
    marked = [with_verdicts(cells[0], "supported"), with_verdicts(cells[1], "inconclusive"), *cells[2:]]
    figure = heat_map(marked)
    assert [ax.get_title() for ax in figure.axes] == [
        "critic gain, points",
        "crossover pass@8, points",
        "crossover pass@16, points",
        "deceleration, points",
    ]
    ax = figure.axes[1]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["tasks 512", "tasks 2048"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["keep 1", "keep 4"]
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    rises = [100 * c.results["findings"]["crossover"]["estimate"][0] for c in marked[:2] if c.results]
    assert float(texts[0, 0].rstrip("*").replace("\N{MINUS SIGN}", "-")) == pytest.approx(rises[0], abs=0.051)
    assert texts[0, 0].endswith("*") and not texts[1, 0].endswith("*")
    assert texts[0, 1] == texts[1, 1] == "×"  # not measured; failed


def test_a_sweep_of_failures_is_written(cells: list[Cell], tmp_path: Path) -> None:
    assert write_sweep(cells[3:], tmp_path)["failed"] == 1
