"""A grid of studies: written down before it is run, run cell by cell, and reported whole.

`run` alone needs a model and JAX; `redraw` reads what finished cells found.
"""

from __future__ import annotations

import itertools
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from constellation.conductor import Conductor, Stage, finished_stage
from constellation.evaluation.sweep import READ, Cell, directory_of, write_sweep
from constellation.experiments import report
from constellation.experiments.check import check
from constellation.runtime.errors import UserError
from constellation.runtime.nested import dotted
from constellation.runtime.progress import Progress

RunStudy = Callable[[ConfigDict, str, Sequence[Path]], Path]
Fields = dict[str, Any]  # dotted field of the study -> its value
STAGE, GRID = "grid", "cells.json"  # the stage that holds the grid, and its file: name -> fields


def run(config: ConfigDict, workdir: str, run_study: RunStudy | None = None) -> list[Cell]:
    """Runs, or continues, every cell, and writes sweep.html, sweep.json and sweep.png into the workdir.

    A cell is a study of its own in <workdir>/cells/<name>; stages that cells have in common are run once. A
    cell that fails is reported as failed, and the others go on.

    Args:
        config: `study`, a study's config, and `grid`: some of its fields, each with a tuple of values.
        run_study: instead of `experiments.run.run`.

    Raises:
        UserError: a grid or study that is not allowed (found before the workdir is touched), or a workdir of
            another grid.
    """
    grid = cells(config)
    studies = {name: study_of(config, fields) for name, fields in grid.items()}
    for study in studies.values():
        check(study)

    def write_down(path: Path) -> None:
        (path / GRID).write_text(json.dumps(grid, indent=1) + "\n")

    directories = {name: Path(workdir) / directory_of(name) for name in grid}
    with Conductor(workdir) as conductor:
        stage = conductor.stage(
            STAGE,
            fields={"grid": config.grid, "study": _what_counts(config.study)},
            version=1,
            run=write_down,
        )
        written = _written_down(stage)  # as `redraw` will read them
        done = {name for name, directory in directories.items() if (directory / "findings.json").exists()}
        progress = Progress("sweep", len(grid), "cells", done=len(done))
        found = []
        for number, (name, study) in enumerate(studies.items(), start=1):
            print(f"cell {number} of {len(grid)}: {name}", flush=True)
            others = [directory for other, directory in directories.items() if other != name]
            job = partial(run_study or _whole_study(), study, str(directories[name]), others)
            found.append(run_cell(name, written[name], job))
            if name not in done:
                progress.done += 1
                print(progress.line(), file=sys.stderr, flush=True)
        write_sweep(found, Path(workdir))
    return found


def _whole_study() -> RunStudy:
    from constellation.experiments.run import run  # needs JAX, as `redraw` does not

    return run


def is_sweep(workdir: str) -> bool:
    """Whether a sweep was begun in the workdir."""
    return (Path(workdir) / "stages" / STAGE / "stage.json").is_file()


def redraw(workdir: str) -> list[Cell]:
    """Writes sweep.html, sweep.json and sweep.png anew from every cell's findings.json.

    A cell without one stands there as failed, for the reason that sweep.json gives, if any.

    Raises:
        UserError: the workdir holds no sweep, a damaged one, or findings of another version.
    """
    last = Path(workdir) / "sweep.json"
    failures: dict[str, str | None] = {}
    if last.exists():
        failures = {cell["name"]: cell["failure"] for cell in json.loads(last.read_text())["cells"]}
    found = []
    for name, fields in _written_down(finished_stage(workdir, STAGE)).items():
        directory = Path(workdir) / directory_of(name)
        if (directory / "findings.json").exists():
            found.append(finished_cell(name, fields, directory))
        else:
            found.append(Cell(name, fields, None, {}, failures.get(name) or "not run to its end"))
    write_sweep(found, Path(workdir))
    return found


def _written_down(grid: Stage) -> dict[str, Fields]:
    """Name -> fields of every cell, with the values that JSON has for them."""
    return json.loads((grid.path / GRID).read_text())


def _what_counts(study: ConfigDict) -> Fields:
    """The study's fields that change its results: another study in this workdir is refused before it runs."""
    return {name: value for name, value in study.items() if name not in ("mesh", "memory")}


def run_cell(name: str, fields: Fields, run_study: Callable[[], Path]) -> Cell:
    """One cell's study, whose findings or whose failure are its result."""
    try:
        return finished_cell(name, fields, run_study().parent)
    except Exception as error:  # whatever it is: the sweep reports it
        if not isinstance(error, UserError):
            traceback.print_exc()
        print(f"failed: {name}: {error}", file=sys.stderr, flush=True)
        return Cell(name, fields, None, {}, f"{type(error).__name__}: {' '.join(str(error).split())}")


def finished_cell(name: str, fields: Fields, directory: Path) -> Cell:
    """What the study in a cell's directory found, and what made it.

    Raises:
        UserError: the findings are damaged or of another version, or the report's stage is damaged or gone.
    """
    findings = directory / "findings.json"
    try:
        results = json.loads(findings.read_text())
    except ValueError:
        results = {}
    if not READ.issubset(results):
        raise UserError(
            f"{findings} is damaged or of another version: python -m launch.report --workdir={directory} "
            "draws it again"
        )
    return Cell(name, fields, results, report.stated_provenance(directory), None)


def cells(config: ConfigDict) -> dict[str, Fields]:
    """Name -> fields of every cell, the last axis running fastest.

    Raises:
        UserError: an axis has no values, or one twice.
    """
    axes = dotted(config.grid.to_dict())
    for field, values in axes.items():
        if not isinstance(values, (tuple, list)) or not values or len(set(values)) < len(values):
            raise UserError(f"config.grid.{field} = {values!r} must list different values, one at least")
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    return {cell_name(fields): fields for fields in grid}


def cell_name(fields: Fields) -> str:
    """The name of a cell's directory: "keep_1-tasks_512"."""
    return "-".join(f"{field.split('.')[-1]}_{value}" for field, value in fields.items()).replace("/", "_")


def study_of(config: ConfigDict, fields: Fields) -> ConfigDict:
    """A cell's config.

    Raises:
        UserError: the study has no such field, or it holds values of another type.
    """
    study = ConfigDict(config.study.to_dict())
    known = dotted(study.to_dict())
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
