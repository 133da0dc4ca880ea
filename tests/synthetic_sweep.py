"""A sweep of two cells, run but for the studies: each is a synthetic one, found in an instant."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from ml_collections import ConfigDict

from constellation.conductor import Conductor
from constellation.evaluation.analysis import analyse
from constellation.evaluation.sweep import Cell
from constellation.experiments import sweep
from launch.common import load_config
from tests.evaluation.synthetic import study
from tests.tiny_study import NANO

NAMES = ("keep_1", "keep_4")
SOURCES = {"gen_v0": "5ca1ab1e", "samples_v1_hard_1234": "0ddba11"}
MADE_BY = {"commit": "0123456", "jax": "0.10.2"}


def write_synthetic_sweep(workdir: Path, failing: Collection[str] = ()) -> list[Cell]:
    """Runs the sweep in the workdir; the cells `failing` lose their device."""

    def run(config: ConfigDict, directory: str, siblings: Sequence[Path]) -> Path:
        if Path(directory).name in failing:
            raise RuntimeError("the device is lost")
        drawn = study(tasks=4, resamples=20, trajectories=2, seed=config.star.keep)
        results = json.dumps(analyse(replace(drawn, sources={"study": SOURCES})).as_json())

        def write(path: Path) -> None:
            (path / "findings.json").write_text(results)

        fields = {"model": {"hash": "ba5e"}, "other_base": ""}
        with Conductor(directory, provenance=lambda: MADE_BY) as own:
            stage = own.stage("report", fields=fields, version=1, run=write)
        shutil.copyfile(stage.path / "findings.json", Path(directory) / "findings.json")
        return Path(directory) / "report.html"

    config = {"study": load_config(NANO).to_dict(), "grid": {"star": {"keep": (1, 4)}}}
    return sweep.run(ConfigDict(config), str(workdir), run)
