"""A grid of studies: written down before it is run, run cell by cell, and reported whole."""

from __future__ import annotations

import itertools
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from constellation.conductor import Conductor
from constellation.errors import UserError
from constellation.evaluation.methods import leaves
from constellation.evaluation.sweep import Cell, write_sweep
from constellation.experiments import star_study
from constellation.experiments.star_config import check
from constellation.progress import Progress

Fields = dict[str, Any]  # dotted field of the study -> its value


def run(config: ConfigDict, workdir: str) -> list[Cell]:
    """Runs, or continues, every cell, and writes sweep.html, sweep.json and sweep.png into the workdir.

    A cell is a study of its own in <workdir>/cells/<name>; stages that cells have in common are run once. A
    cell that fails is reported as failed, and the others go on.

    Args:
        config: `study`, a study's config, and `grid`: some of its fields, each with a tuple of values.
        workdir: of the sweep.

    Returns:
        the cells, in the grid's order.

    Raises:
        UserError: a grid or study that is not allowed (found before the workdir is touched), or a workdir of
            another grid.
    """
    grid = cells(config)
    studies = {name: study_of(config, fields) for name, fields in grid.items()}
    for study in studies.values():
        check(study)

    def write_down(path: Path) -> None:
        (path / "cells.json").write_text(json.dumps(grid, indent=1) + "\n")

    directories = {name: Path(workdir) / "cells" / name for name in grid}
    with Conductor(workdir) as conductor:
        conductor.stage(
            "grid",
            fields={"grid": config.grid, "study": _what_counts(config.study)},
            version=1,
            run=write_down,
        )
        done = {name for name, directory in directories.items() if (directory / "findings.json").exists()}
        progress = Progress("sweep", len(grid), "cells", done=len(done))
        found = []
        for number, (name, study) in enumerate(studies.items(), start=1):
            print(f"cell {number} of {len(grid)}: {name}", flush=True)
            others = [directory for other, directory in directories.items() if other != name]
            found.append(run_cell(name, grid[name], study, directories[name], others))
            if name not in done:
                progress.done += 1
                print(progress.line(), file=sys.stderr, flush=True)
        write_sweep(found, Path(workdir))
    return found


def _what_counts(study: ConfigDict) -> Fields:
    """The study's fields that change its results: another study in this workdir is refused before it runs."""
    return {name: value for name, value in study.items() if name not in ("mesh", "memory")}


def run_cell(name: str, fields: Fields, study: ConfigDict, directory: Path, others: Sequence[Path]) -> Cell:
    """One cell's study, whose findings or whose failure are its result."""
    try:
        report = star_study.run(study, str(directory), others)
    except Exception as error:  # whatever it is: the sweep reports it
        if not isinstance(error, UserError):
            traceback.print_exc()
        print(f"failed: {name}: {error}", file=sys.stderr, flush=True)
        return Cell(name, fields, None, f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Cell(name, fields, json.loads(report.with_name("findings.json").read_text()), None)


def cells(config: ConfigDict) -> dict[str, Fields]:
    """Name -> fields of every cell, the last axis running fastest.

    Raises:
        UserError: an axis has no values, or one twice.
    """
    axes = leaves(config.grid.to_dict())
    for field, values in axes.items():
        if not isinstance(values, (tuple, list)) or not values or len(set(values)) < len(values):
            raise UserError(f"config.grid.{field} = {values!r} must list different values, one at least")
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return {cell_name(fields): fields for fields in grid}


def cell_name(fields: Fields) -> str:
    """Of a cell's directory: "keep_1-tasks_512"."""
    return "-".join(f"{field.split('.')[-1]}_{value}" for field, value in fields.items()).replace("/", "_")


def study_of(config: ConfigDict, fields: Fields) -> ConfigDict:
    """A cell's config.

    Raises:
        UserError: the study has no such field, or it holds values of another type.
    """
    study = ConfigDict(config.study.to_dict())
    known = leaves(study.to_dict())
    for field, value in fields.items():
        if field not in known:
            raise UserError(f"config.grid.{field} is no field of config.study")
        try:
            study.update_from_flattened_dict({field: value})
        except TypeError:
            raise UserError(
                f"config.grid.{field} holds {value!r}: give values like {known[field]!r}"
            ) from None
    return study.lock()
