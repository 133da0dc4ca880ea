"""The table over a grid: every cell stands in it, and the counts are those of its verdicts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from constellation.evaluation.analysis import analyse
from constellation.evaluation.crossover import NULL_CHANGE
from constellation.evaluation.null import HALVINGS, PAIRS, PICKED, SECOND
from constellation.evaluation.sweep import Cell, forest, numbers, summarise, without_null, write_sweep
from tests.evaluation.synthetic import study


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    """Two by two: three studies, of which one has no rounds, and a failure."""
    results = [
        analyse(study(tasks=6, seed=seed, rounds=r, resamples=50)).as_json()
        for seed, r in enumerate((2, 2, 0))
    ]
    grid = [{"star.keep": keep, "star.tasks": tasks} for keep in (1, 4) for tasks in (512, 2048)]
    ends: list[dict[str, Any] | None] = [*results, None]
    return [
        Cell(f"cell{i}", fields, end, {}, None if end else "UserError: <no> memory")
        for i, (fields, end) in enumerate(zip(grid, ends, strict=True))
    ]


@pytest.fixture(scope="module")
def with_nulls() -> list[Cell]:
    """A study with a doubled pool, one with two trajectories, and one with neither."""
    kinds = (
        study(tasks=6, resamples=50, doubled=True),
        study(tasks=6, resamples=50, trajectories=2),
        study(tasks=6, resamples=50),
    )
    return [
        Cell(f"cell{i}", {"trajectories": i}, analyse(found).as_json(), {}, None)
        for i, found in enumerate(kinds)
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


def test_every_finished_cell_names_its_stages_and_what_made_it(cells: list[Cell], tmp_path: Path) -> None:
    made = [{"commit": f"<{'ab'[i]}>", "jax": "0.10.2", **({"device": "H200"} if i else {})} for i in (0, 1)]
    read = [{"samples_v1_hard_1234": f"{i}f3", "v1": f"{i}a7"} for i in (0, 1)]
    traced = [
        Cell(
            f"cell{i}",
            {"star.keep": i},
            analyse(replace(study(tasks=4, resamples=20), sources={"study": read[i]})).as_json(),
            made[i],
            None,
        )
        for i in (0, 1)
    ]
    failed = cells[3]._replace(fields={"star.keep": 2})
    summary = write_sweep([*traced, failed], tmp_path)
    for i, entry in enumerate(summary["cells"][:2]):
        assert (entry["directory"], entry["sources"]) == (f"cells/cell{i}", read[i])
        assert entry["provenance"] == made[i]
    assert set(summary["cells"][2]) == {"name", "fields", "failure"}
    page = (tmp_path / "sweep.html").read_text()
    details = re.findall(r"<details id=.(\w+).>(.*?)</details>", page, re.DOTALL)
    assert [name for name, _ in details] == ["cell0", "cell1"]
    for i, (_, text) in enumerate(details):
        for name, digest in read[i].items():
            assert f"<td>{name}</td><td>{digest}</td>" in text
        assert f"<td>commit</td><td>&lt;{'ab'[i]}&gt;</td>" in text
        assert ("H200" in text) == (i == 1)
    above = page.partition("<details")[0]
    rows = re.findall(r"<tr><td>(commit|device|jax)</td><td>(.*)</td></tr>", above)
    assert rows == [("commit", "&lt;a&gt;, &lt;b&gt;"), ("device", "H200"), ("jax", "0.10.2")]


def null_intervals(cell: Cell, kind: str) -> list[list[float]]:
    """Of the numbers of the findings, as far as there is one: critic, both changes, second difference."""
    assert cell.results is not None
    wanted = [(PICKED, 8), (NULL_CHANGE, 8), (NULL_CHANGE, 16), (SECOND, 8)]
    rows = [row for row in cell.results["entries"] if row.get("of") == kind and row["models"] == ["gen_v0"]]
    return [row["interval"] for at in wanted for row in rows if (row["quantity"], row["k"]) == at]


def test_every_number_has_its_null_behind_it(with_nulls: list[Cell]) -> None:
    panels = ["critic gain", "crossover pass@8", "crossover pass@16", "deceleration"]
    halved, paired = null_intervals(with_nulls[0], HALVINGS), null_intervals(with_nulls[1], PAIRS)
    expected: list[dict[str, Any]] = [
        {p: {"kind": "halvings", "interval": own} for p, own in zip(panels, halved, strict=True)},
        dict.fromkeys(panels)
        | {p: {"kind": "pairs", "interval": own} for p, own in zip(panels[1:3], paired, strict=True)},
        dict.fromkeys(panels),
    ]
    assert [cell["null"] for cell in summarise(with_nulls)["cells"]] == expected
    for ax in forest(with_nulls).axes:
        spans = [collection.get_paths()[0].get_extents() for collection in ax.collections]
        drawn = {round(span.y0 + 0.4): span for span in spans}
        behind = {row: null[ax.get_title()] for row, null in enumerate(expected) if null[ax.get_title()]}
        assert drawn.keys() == behind.keys() and len(spans) == len(drawn)
        for row, span in drawn.items():
            np.testing.assert_allclose(span.intervalx, [100 * end for end in behind[row]["interval"]])
            np.testing.assert_allclose(span.intervaly, [row - 0.4, row + 0.4])


def test_halvings_come_before_pairs() -> None:
    both = analyse(study(tasks=4, resamples=20, trajectories=2, doubled=True)).as_json()
    entry = summarise([Cell("both", {}, both, {}, None)])["cells"][0]
    assert {null["kind"] for null in entry["null"].values()} == {"halvings"}
    assert any((row["quantity"], row.get("of")) == (NULL_CHANGE, PAIRS) for row in both["entries"])


def caption(cells: list[Cell], directory: Path) -> str:
    write_sweep(cells, directory)
    (found,) = re.findall(r'<p class="soft">(.*?)</p>', (directory / "sweep.html").read_text(), re.DOTALL)
    return " ".join(found.split())


def test_the_caption_says_which_null_there_is(with_nulls: list[Cell], tmp_path: Path) -> None:
    halved, paired, bare = with_nulls
    alone = caption([halved], tmp_path)
    assert "halved at random" in alone and "another's" not in alone and "No null" not in alone
    assert "No null, and so no span: critic gain, deceleration in every finished cell." in caption(
        [paired], tmp_path
    )
    everything = "critic gain, crossover pass@8, crossover pass@16, deceleration"
    text = caption([bare], tmp_path)
    assert "Pale spans" not in text and text.endswith(f"no span: {everything} in every finished cell.")
    text = caption(with_nulls, tmp_path)
    assert "halved at random" in text and "where there is none, one trajectory's against another's" in text
    assert text.endswith(f"critic gain, deceleration in trajectories 1; {everything} in trajectories 2.")


def test_a_cell_that_failed_needs_no_null(cells: list[Cell], with_nulls: list[Cell]) -> None:
    assert without_null([with_nulls[0], cells[3]]) == {}
    assert without_null([with_nulls[1], cells[3]]) == {"critic gain, deceleration": "every finished cell"}
