"""Every config of the repository can be run by its program."""

from __future__ import annotations

import inspect

import pytest

from constellation.experiments import sweep
from constellation.experiments.star_config import check
from launch.common import load_config
from tests.tiny_study import ROOT

FILES = sorted(path for path in (ROOT / "configs").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_its_values_are_allowed_and_its_docstring_gives_the_command(file):
    location = str(file.relative_to(ROOT))
    quick = "def get_config(mode" in file.read_text()
    for variant in ("", ":quick") if quick else ("",):
        config = load_config(str(file) + variant)
        if "grid" in config:
            for fields in sweep.cells(config).values():
                check(sweep.study_of(config, fields))
        elif "star" in config:
            check(config)
    doc = inspect.cleandoc(file.read_text().split('"""')[1])
    assert f"--config={location}" in doc
