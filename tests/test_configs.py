"""Every config has the fields of its program, allowed values, and its command in the docstring."""

from __future__ import annotations

import ast
import runpy
import subprocess
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from constellation.experiments import sweep
from constellation.experiments.check import check
from constellation.experiments.peers.check import check_peers
from constellation.runtime.errors import UserError
from launch.common import PEERS, STUDY, _check_fields, load_config
from tests.tiny_study import ROOT

FILES = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")


def modes_of(file: Path) -> list[str]:
    """The modes that a config file offers."""
    hints = get_type_hints(runpy.run_path(str(file))["get_config"])
    return [mode for mode in get_args(hints.get("mode")) if mode]


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_program_takes_it_and_its_docstring_gives_the_command(file, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    location, text = str(file.relative_to(ROOT)), file.read_text()
    for mode in ("", *(f":{mode}" for mode in modes_of(file))):
        config = load_config(location + mode)
        if "grid" in config:
            _check_fields(config, location, "configs/nano_grid.py")
            for fields in sweep.cells(config).values():
                check(sweep.study_of(config, fields))
        elif "corpus" in config:
            _check_fields(config, location, "configs/nano_pretrain.py")
        elif "peers" in config:
            _check_fields(config, location, PEERS)
            if config.domain.startswith("questions:"):  # the user's files
                file = tmp_path / "questions.jsonl"
                file.write_text('{"question": "1+1=?", "answer": "2"}\n')
                config.domain = f"questions:{file}"
            check_peers(config)
        else:
            _check_fields(config, location, STUDY)
            check(config)
    assert f"--config={location}" in ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["quik", "Quick", "full", ""])
def test_an_unknown_mode_is_refused_with_the_known_ones(file, mode):
    known = f"its modes: {', '.join(modes_of(file))}$" if modes_of(file) else "it has none"
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
