"""The report drawn again: from stored stages alone, without the model and without JAX."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launch import report
from tests.synthetic_sweep import NAMES, write_synthetic_sweep
from tests.tiny_study import ROOT

REDRAW = """
import sys
from launch import report
report.main(sys.argv[1])
assert "jax" not in sys.modules
"""


def redraw(workdir: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", REDRAW, str(workdir)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def redrawn(study, model_dir, tmp_path_factory) -> tuple[Path, Path]:
    """The study, and a copy whose report was drawn again, with the model out of reach."""
    workdir, _ = study
    copy = shutil.copytree(workdir, tmp_path_factory.mktemp("redrawn") / "study")
    for file in drawn(copy):
        (copy / file).write_text("stale")
    aside = Path(model_dir).rename(f"{model_dir}.aside")
    try:
        result = redraw(copy)
    finally:
        aside.rename(model_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"report: {copy}/report.html\n"
    return workdir, copy


def drawn(workdir: Path) -> list[str]:
    return sorted(
        path.name
        for path in workdir.iterdir()
        if path.suffix in (".html", ".png", ".json") and path.is_file()
    )


def test_the_same_bytes_without_model_and_jax(redrawn):
    workdir, copy = redrawn
    assert {"report.html", "findings.json", "pass_at_k.png"} <= set(drawn(workdir))
    for file in drawn(workdir):
        assert (copy / file).read_bytes() == (workdir / file).read_bytes(), file


def test_stages_stay_as_they_were(redrawn):
    workdir, copy = redrawn
    before, after = (
        {path.relative_to(where): path.read_bytes() for path in where.glob("stages/**/*") if path.is_file()}
        for where in (workdir, copy)
    )
    assert before == after


def test_every_stage_read_is_named_with_the_hash_of_its_content(redrawn):
    workdir, _ = redrawn
    sources = json.loads((workdir / "findings.json").read_text())["methods"]["sources"]
    stored = {path.parent.name: json.loads(path.read_text()) for path in workdir.glob("stages/*/stage.json")}
    del stored["report"]  # made of the others
    # samples hold the draws that they judge
    read = {name: record["content"] for name, record in stored.items() if not name.startswith("draws_")}
    assert sources == read
    page = (workdir / "report.html").read_text()
    figure = re.search(r'<figure id="learning_curves">.*?</figure>', page, re.DOTALL)
    assert figure is not None
    for name in ("gen_v0", "v1", "critic"):
        assert f"{name} {sources[name]}" in figure.group()


def test_a_workdir_without_a_study_is_one_line(run_all, tmp_path):
    (result,) = run_all(["launch.report", f"--workdir={tmp_path}"])
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert f"python -m launch.experiment --workdir={tmp_path}" in result.stderr
    assert "neither a finished study nor a sweep" in result.stderr


def test_a_sweep_without_model_and_jax(tmp_path):
    write_synthetic_sweep(tmp_path)
    before = {file: (tmp_path / file).read_bytes() for file in drawn(tmp_path)}
    assert before.keys() == {"sweep.html", "sweep.json", "sweep.png"}
    for file in before:
        (tmp_path / file).unlink()
    result = redraw(tmp_path)
    assert (result.returncode, result.stdout) == (0, f"report: {tmp_path}/sweep.html\n"), result.stderr
    assert {file: (tmp_path / file).read_bytes() for file in drawn(tmp_path)} == before


def test_exits_with_1_where_a_cell_has_no_findings(tmp_path, capsys):
    write_synthetic_sweep(tmp_path)
    shutil.rmtree(tmp_path / "cells" / NAMES[1])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        report.main(str(tmp_path))
    assert ended.value.code == 1
    assert capsys.readouterr() == (f"report: {tmp_path}/sweep.html\n", f"without findings: {NAMES[1]}\n")
