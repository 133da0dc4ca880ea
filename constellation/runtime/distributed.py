"""Several processes, on one host or many, that run one study together on one mesh.

Every process runs the same program and keeps a copy of the results, but for the checkpoints, which are the
first's; no file system need be shared. They meet in the computations alone: hence all must have finished the
same stages before they go on.

What they send each other is JSON and arrays, and nothing in it is run. But `jax.distributed` neither encrypts
nor asks who is there, and the first process's files are written as they come: every host on the coordinator's
network must be trusted.
"""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from constellation.runtime.errors import UserError

_ARRAY = "dtype and shape of an array"  # the key that marks one in the JSON text


def join(coordinator: str, processes: int, process: int) -> None:
    """Makes this process one of several, before JAX is used; `coordinator` is host:port of process 0.

    Raises UserError: they did not find each other.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"process {process} of {processes} did not meet {coordinator}: {reason}") from None


def own_workdir(workdir: Path) -> Path:
    """Where this process keeps its results: the first in the workdir itself, each other in a folder below."""
    index = jax.process_index()
    return workdir / f"process_{index}" if index else workdir


def from_first(value: Any) -> Any:
    """The first process's value, of JSON's types and numpy arrays; all processes have to call this."""
    if jax.process_count() == 1:
        return value
    content = np.frombuffer(pack(value) if jax.process_index() == 0 else b"", np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int64(len(content))))
    padded = np.zeros(length, np.uint8)
    padded[: len(content)] = content
    return unpack(np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes())


def pack(value: Any) -> bytes:
    """A value of JSON's types and numpy arrays as bytes: a length, a JSON text so long, the arrays' contents.

    Raises TypeError: there is something else in it.
    """
    contents: list[bytes] = []

    def described(array: Any) -> dict[str, Any]:
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.hasobject:
            raise TypeError(f"neither JSON nor an array: {type(array).__name__}")
        contents.append(array.tobytes())
        return {_ARRAY: [array.dtype.name, array.shape]}

    text = json.dumps(value, default=described).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *contents])


def unpack(content: bytes) -> Any:
    """What was packed; tuples have become lists."""
    end = 8 + int.from_bytes(content[:8], "little")
    position = end

    def restored(fields: dict[str, Any]) -> Any:
        nonlocal position
        if fields.keys() != {_ARRAY}:
            return fields
        name, shape = fields[_ARRAY]
        array = np.frombuffer(content, jnp.dtype(name), math.prod(shape), position).reshape(shape)
        position += array.nbytes
        return array.copy()  # aligned, and writable

    return json.loads(content[8:end], object_hook=restored)


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
                (path / file).write_bytes(content.tobytes())


def _is_finished(path: Path) -> bool:
    """Whether a stage's results are whole; its digest is compared where it is used."""
    try:
        return bool(json.loads((path / "stage.json").read_text())["complete"])
    except (OSError, ValueError, KeyError):
        return False


def _files(path: Path) -> dict[str, np.ndarray]:
    files = [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): np.frombuffer(file.read_bytes(), np.uint8) for file in files}
