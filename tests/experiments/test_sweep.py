"""A grid of two cells: what they share, what a failure leaves, and what a workdir refuses."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from constellation.experiments import sweep
from constellation.experiments.compute import Compute
from constellation.experiments.run import run
from constellation.runtime.errors import UserError
from launch.common import load_config
from tests.synthetic_sweep import MADE_BY, NAMES, SOURCES, write_synthetic_sweep
from tests.tiny_study import ROOT, StandIn, tiny_config, write_tiny_model

GRID = str(ROOT / "configs" / "nano_grid.py")


def tiny_grid(model_dir: Path, **fields: object) -> ConfigDict:
    """Two cells of the tiny study, on one bank."""
    study = tiny_config(model_dir, tasks__banks="hard", **fields)
    return ConfigDict(
        {"study": study.to_dict(), "grid": {"star": {"learning_rate": (1e-3, 1e-1), "keep": (1,)}}}
    ).lock()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def swept(model_dir, tmp_path_factory) -> tuple[Path, list[sweep.Cell]]:
    workdir = tmp_path_factory.mktemp("sweep")
    return workdir, sweep.run(tiny_grid(model_dir), str(workdir), partial(run, compute=StandIn(workdir)))


class Nothing(Compute):
    """Computes nothing."""

    def sample(self, *arguments, **named):
        raise AssertionError("sampled again")


def inode(workdir: Path, cell: sweep.Cell, stage: str) -> int:
    return (workdir / "cells" / cell.name / "stages" / stage / "stage.json").stat().st_ino


def test_every_cell_is_a_study_with_its_own_fields(swept):
    workdir, cells = swept
    assert [cell.name for cell in cells] == ["keep_1-learning_rate_0.001", "keep_1-learning_rate_0.1"]
    for cell, rate in zip(cells, (1e-3, 1e-1), strict=True):
        assert cell.failure is None and cell.fields == {"star.keep": 1, "star.learning_rate": rate}
        stages = workdir / "cells" / cell.name / "stages"
        read = json.loads((stages / "v1/stage.json").read_text())["recipe"]["fields"]
        assert read["star"]["learning_rate"] == rate
        assert (workdir / "cells" / cell.name / "report.html").exists()


def test_every_cell_names_its_stored_stages_and_states_what_its_report_does(swept):
    workdir, _ = swept
    for cell in json.loads((workdir / "sweep.json").read_text())["cells"]:
        directory = workdir / cell["directory"]
        stored = {
            path.parent.name: json.loads(path.read_text()) for path in directory.glob("stages/*/stage.json")
        }
        del stored["report"]  # made of the others
        # samples hold the draws that they judge
        read = {name: record["content"] for name, record in stored.items() if not name.startswith("draws_")}
        assert cell["sources"] == read
        page = (directory / "report.html").read_text()
        assert {"commit", "jax", "model"} <= cell["provenance"].keys()
        for key, value in cell["provenance"].items():
            assert f'<td class="mono">{key}</td><td class="mono">{value}</td>' in page


def test_cells_share_what_does_not_depend_on_them(swept):
    workdir, cells = swept
    shared = ["bank_hard", "gen_v0", "critic", "v1_samples", "samples_gen_v0_hard_1234", "tasks_v1"]
    own = ["v1", "samples_v1_hard_1234", "report"]
    assert [inode(workdir, cells[0], stage) == inode(workdir, cells[1], stage) for stage in shared + own] == [
        *[True] * len(shared),
        *[False] * len(own),
    ]


def test_the_same_command_again_runs_nothing(swept, model_dir):
    workdir, cells = swept
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("stages/**/*") if path.is_file()}
    assert sweep.run(tiny_grid(model_dir), str(workdir), partial(run, compute=Nothing())) == cells
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_grid_is_refused(swept, model_dir):
    workdir, _ = swept
    config = tiny_grid(model_dir).unlock()
    config.grid.star.learning_rate = (1e-3, 1e-2)
    with pytest.raises(UserError, match=r"grid\.star\.learning_rate: .*0\.1\] -> .*0\.01\]"):
        sweep.run(config, str(workdir))


def test_another_study_is_refused(swept, model_dir):
    workdir, _ = swept
    config = tiny_grid(model_dir).unlock()
    config.study.evaluation.samples = 16
    before = (workdir / "sweep.json").read_bytes()
    with pytest.raises(UserError, match=r"study\.evaluation\.samples: 8 -> 16"):
        sweep.run(config, str(workdir))
    assert (workdir / "sweep.json").read_bytes() == before


def test_a_failed_cell_is_reported_and_the_others_go_on(swept, model_dir, tmp_path, capsys):
    workdir, cells = swept

    def run(config, directory, siblings):
        if config.star.learning_rate == 1e-3:
            raise RuntimeError("the device\nis lost")
        return workdir / "cells" / cells[1].name / "report.html"

    found = sweep.run(tiny_grid(model_dir), str(tmp_path), run)
    assert found == [
        cells[0]._replace(results=None, provenance={}, failure="RuntimeError: the device is lost"),
        cells[1],
    ]
    summary = json.loads((tmp_path / "sweep.json").read_text())
    assert (summary["finished"], summary["failed"]) == (1, 1)
    assert "RuntimeError: the device is lost" in (tmp_path / "sweep.html").read_text()
    assert "sweep  2/2 cells" in capsys.readouterr().err


@pytest.mark.parametrize(
    "axis, message",
    [
        ({"star": {"keep": ()}}, r"grid\.star\.keep = \(\) must list different values"),
        ({"star": {"keep": (1, 1)}}, "must list different values"),
        ({"star": {"keep": 1}}, "must list different values"),
        ({"star": {"kept": (1,)}}, r"grid\.star\.kept is no field"),
        ({"star": {"keep": ("a", "b")}}, r"grid\.star\.keep holds 'a': give values like 1"),
        ({"star": {"keep": (0,)}}, r"star\.keep = 0 must be at least 1"),
    ],
)
def test_a_grid_that_cannot_work_is_found_before_the_workdir_is_made(model_dir, tmp_path, axis, message):
    config = ConfigDict({"study": tiny_config(model_dir).to_dict(), "grid": axis})
    with pytest.raises(UserError, match=message):
        sweep.run(config, str(tmp_path / "sweep"))
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("variant, count", [("", 16), (":quick", 4)])
def test_the_grid_of_the_repository_holds_the_default(variant, count):
    config = load_config(GRID + variant)
    grid = sweep.cells(config)
    assert len(grid) == count
    for fields in grid.values():
        sweep.study_of(config, fields)
    assert {"star.tasks", "star.passes", "star.keep", "star.learning_rate"} == set(next(iter(grid.values())))
    default = load_config(str(ROOT / f"configs/nano.py{variant}")).star
    assert {field: default[field.split(".")[1]] for field in next(iter(grid.values()))} in grid.values()


def test_other_bases_are_cells_of_their_own():
    config = load_config(str(ROOT / "configs/nano_bases.py"))
    grid = sweep.cells(config)
    assert list(grid) == [
        "dir_constellation_assets_nano",
        "dir_runs_nano_pretrain_1_model",
        "dir_runs_nano_pretrain_2_model",
        "dir_runs_nano_pretrain_short_model",
    ]
    dirs = [sweep.study_of(config, fields).model.dir for fields in grid.values()]
    assert (
        dirs == list(config.grid.model.dir)
        and dirs[0] == load_config(str(ROOT / "configs/nano.py")).model.dir
    )


def pages(workdir: Path) -> dict[str, bytes]:
    return {name: (workdir / name).read_bytes() for name in ("sweep.html", "sweep.json", "sweep.png")}


def test_redrawn_from_the_findings_alone(tmp_path):
    cells = write_synthetic_sweep(tmp_path)
    before = pages(tmp_path)
    for name in before:
        (tmp_path / name).unlink()
    assert [cell.name for cell in cells] == list(NAMES)
    assert sweep.redraw(str(tmp_path)) == cells
    assert pages(tmp_path) == before
    for cell in json.loads(before["sweep.json"])["cells"]:
        assert cell["provenance"] == MADE_BY | {"model": "ba5e"} and cell["sources"] == SOURCES


def test_redrawn_findings_are_read_again(tmp_path):
    write_synthetic_sweep(tmp_path)
    findings = tmp_path / "cells" / NAMES[1] / "findings.json"
    results = json.loads(findings.read_text())
    results["findings"]["crossover"]["verdict"] = "redrawn"
    findings.write_text(json.dumps(results))
    sweep.redraw(str(tmp_path))
    summary = json.loads((tmp_path / "sweep.json").read_text())
    assert summary["verdicts"]["crossover"]["redrawn"] == 1
    assert "<b>redrawn</b>" in (tmp_path / "sweep.html").read_text()


def test_a_redrawn_sweep_keeps_why_a_cell_failed_and_says_which_is_missing(tmp_path):
    cells = write_synthetic_sweep(tmp_path, failing=NAMES[1:])
    before = pages(tmp_path)
    assert sweep.redraw(str(tmp_path)) == cells
    assert pages(tmp_path) == before
    (tmp_path / "cells" / NAMES[0] / "findings.json").unlink()
    missing, failed = sweep.redraw(str(tmp_path))
    assert missing == cells[0]._replace(results=None, provenance={}, failure="not run to its end")
    assert failed.failure == "RuntimeError: the device is lost"
    page = (tmp_path / "sweep.html").read_text()
    assert missing.failure in page and failed.failure in page


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-2], lambda text: text.replace('"entries"', '"rows"', 1)]
)
def test_findings_that_cannot_be_read_are_named(tmp_path, damage):
    write_synthetic_sweep(tmp_path)
    before = pages(tmp_path)
    directory = tmp_path / "cells" / NAMES[1]
    findings = directory / "findings.json"
    findings.write_text(damage(findings.read_text()))
    with pytest.raises(UserError, match=f"launch.report --workdir={directory} draws it again"):
        sweep.redraw(str(tmp_path))
    assert pages(tmp_path) == before


def test_a_study_is_no_sweep(tmp_path):
    write_synthetic_sweep(tmp_path)
    assert sweep.is_sweep(str(tmp_path)) and not sweep.is_sweep(str(tmp_path / "cells" / NAMES[0]))
    with pytest.raises(UserError, match=r"unknown stage in .*'grid'"):
        sweep.redraw(str(tmp_path / "cells" / NAMES[0]))
