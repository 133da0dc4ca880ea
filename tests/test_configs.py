"""Every config has the fields of its program, allowed values, and its command in the docstring."""

from __future__ import annotations

import ast
import subprocess

import pytest

from constellation.experiments import sweep
from constellation.experiments.check import check
from constellation.runtime.errors import UserError
from launch.common import STUDY, _check_fields, load_config
from tests.tiny_study import ROOT

FILES = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_program_takes_it_and_its_docstring_gives_the_command(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    location, text = str(file.relative_to(ROOT)), file.read_text()
    for mode in ("", ":quick") if "def get_config(mode" in text else ("",):
        config = load_config(location + mode)
        if "grid" in config:
            _check_fields(config, location, "configs/nano_grid.py")
            for fields in sweep.cells(config).values():
                check(sweep.study_of(config, fields))
        elif "corpus" in config:
            _check_fields(config, location, "configs/nano_pretrain.py")
        else:
            _check_fields(config, location, STUDY)
            check(config)
    assert f"--config={location}" in ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["quik", "Quick", "full", ""])
def test_an_unknown_mode_is_refused_with_the_known_ones(file, mode):
    known = "its modes: quick$" if "def get_config(mode" in file.read_text() else "it has none"
    with pytest.raises(UserError, match=f"unknown mode '{mode}' of .*{file.name}; {known}"):
        load_config(f"{file}:{mode}")


@pytest.mark.parametrize(
    "target, flags",
    [
        ("quick", "--config=configs/nano.py:quick --workdir=runs/nano_quick"),
        ("experiment", "--config=configs/nano.py --workdir=runs/nano"),
    ],
)
def test_make_runs_the_study_and_its_miniature(target, flags):
    planned = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"python -m launch.experiment {flags}\n" in planned.stdout


def test_the_readme_offers_the_miniature_first():
    text = (ROOT / "README.md").read_text()
    assert 0 < text.index("make quick") < text.index("make experiment")
