"""The files of a stage: their names, and how those of each trajectory are written and read.

What computes is imported by what needs it: programs that only read finished stages need no JAX.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from constellation.conductor import Stage
from constellation.domains import task
from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import Task
from constellation.evaluation.study import SetKey, StageSummary
from constellation.runtime.processes import in_processes
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet

TASKS, SAMPLES, VERDICTS = "tasks.jsonl", "samples.npz", "verdicts.npz"
SCORES, VERIFICATION, SUMMARY = "scores.npy", "verification.npy", "summary.json"
T = TypeVar("T")


class Fresh(NamedTuple):
    """Fresh tasks of a role, as `Domain.training_tasks` draws them."""

    role: str
    tasks: int
    max_atoms: int
    batch: int = 0
    withheld: bool = False


def numbered(file: str, trajectory: int) -> str:
    """The name of a trajectory's own file: ("samples.npz", 3) -> "samples_3.npz"."""
    stem, suffix = file.split(".")
    return f"{stem}_{trajectory}.{suffix}"


def numbered_files(stage: Stage, file: str) -> list[Path]:
    """A stage's files of one name, of each trajectory in order."""
    files = (stage.path / numbered(file, trajectory) for trajectory in itertools.count())
    return list(itertools.takewhile(Path.exists, files))


def samples_of(stage: Stage) -> list[SampleSet]:
    """A stage's samples, of each trajectory, with their verdicts where it has them."""
    drawn, verdicts = numbered_files(stage, SAMPLES), numbered_files(stage, VERDICTS)
    return [SampleSet.load(*files) for files in itertools.zip_longest(drawn, verdicts)]


def by_trajectory(bank: str, model: str, split_seed: int, found: Iterable[T]) -> dict[SetKey, T]:
    """What was found for each trajectory, by the key of the sample set that it belongs to."""
    return {SetKey(bank, model, split_seed, r): own for r, own in enumerate(found)}


def arrays_of(stage: Stage, file: str) -> list[np.ndarray]:
    """A stage's arrays of one name, of each trajectory; see `write_arrays`."""
    return [np.load(own) for own in numbered_files(stage, file)]


def write_arrays(path: Path, file: str, found: Iterable[np.ndarray]) -> None:
    """Writes one array of each trajectory, such as the scores [D] of its distinct programs."""
    for trajectory, own in enumerate(found):
        np.save(path / numbered(file, trajectory), own)


def summaries_of(
    stage: Stage, name: str, role: str, tasks: int, drawn: Sequence[SampleSet] = ()
) -> list[StageSummary]:
    """A training stage in figures, of each trajectory.

    Args:
        drawn: the samples behind what it was trained on, of each trajectory; none where none were drawn.
    """
    trained = json.loads((stage.path / SUMMARY).read_text())
    return [
        StageSummary(name, role, tasks, drawn[r].program.size if drawn else None, trajectory=r, **own)
        for r, own in enumerate(trained)
    ]


def write_training_tasks(
    path: Path,
    domain: Domain,
    fresh: Fresh,
    seed: int,
    trajectories: int,
    processes: Callable[[], Executor],
) -> None:
    """Draws and writes the tasks of each trajectory, of several in processes of their own."""
    label = path.name.removesuffix(".partial")
    if trajectories == 1:
        stream = domain.training(fresh.role, fresh.max_atoms, seed, fresh.batch, 0, fresh.withheld)
        return write_tasks(path / numbered(TASKS, 0), stream, fresh.tasks, label)
    jobs = [(domain.name, fresh, seed, trajectory) for trajectory in range(trajectories)]
    progress = Progress(label, trajectories, "trajectories")
    for trajectory, drawn in enumerate(in_processes(_training_tasks, jobs, progress, processes)):
        task.write_tasks(path / numbered(TASKS, trajectory), drawn)


def _training_tasks(domain: str, fresh: Fresh, seed: int, trajectory: int) -> list[Task]:
    role, tasks, max_atoms, batch, withheld = fresh
    return load_domain(domain).training_tasks(role, tasks, max_atoms, seed, batch, trajectory, withheld)


def write_tasks(file: Path, stream: Iterator[Task], count: int, label: str) -> None:
    """Writes the first `count` tasks of a stream, as JSON lines."""
    with Progress(label, count, "tasks") as progress:

        def counted() -> Iterator[Task]:
            for drawn in itertools.islice(stream, count):
                progress.update()
                yield drawn

        task.write_tasks(file, counted())
