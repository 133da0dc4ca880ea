"""Several processes, on one host or many, that run one study together on one mesh.

Every process runs the same program and keeps a copy of the results, but for the checkpoints, which are the
first's; no file system need be shared. They meet in the computations alone: hence all must have finished the
same stages before they go on.
"""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from constellation.runtime.errors import UserError


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of several, before JAX is used.

    Args:
        coordinator: host:port of process 0.
        processes: how many there are.
        process: which of them this is, from 0.

    Raises:
        UserError: they did not find each other.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"process {process} of {processes} did not meet {coordinator}: {reason}") from None


def own_workdir(workdir: Path) -> Path:
    """Where this process keeps its results: the workdir itself, and below it for all but the first."""
    index = jax.process_index()
    return workdir / f"process_{index}" if index else workdir


def from_first(value: Any) -> Any:
    """The first process's value; all processes have to ask. Any that can be pickled."""
    if jax.process_count() == 1:
        return value
    first = jax.process_index() == 0
    content = np.frombuffer(pickle.dumps(value) if first else b"", np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int64(len(content))))
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = content
    return pickle.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def align(workdir: Path) -> None:
    """Gives every process the stages that the first has finished, and no others.

    A kill can come between two processes' ends of a stage, and a study may go on with more processes than it
    began with.
    """
    if jax.process_count() == 1:
        return
    stages = workdir / "stages"
    mine = {path.name: _is_finished(path) for path in stages.glob("*")}
    first = from_first(mine)
    for name in mine:
        if mine[name] != first.get(name):
            shutil.rmtree(stages / name, ignore_errors=True)
    wanted = sorted(name for name in first if first[name])
    finished = {name for name in wanted if mine.get(name)}
    lacked = [name not in finished for name in wanted]
    everywhere: Any = multihost_utils.process_allgather(np.array(lacked, bool))  # [processes, stages]
    for name, lacks, sent in zip(wanted, lacked, everywhere.any(0), strict=True):
        path = stages / name
        files = from_first(_files(path)) if sent else {}
        if lacks:
            for file, content in files.items():
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                (path / file).write_bytes(content)


def _is_finished(path: Path) -> bool:
    """Whether a stage's results are whole; its digest is compared where it is used."""
    try:
        return bool(json.loads((path / "stage.json").read_text())["complete"])
    except (OSError, ValueError, KeyError):
        return False


def _files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
