"""The files of a stage: what they are called, and one of each trajectory.

What computes is imported by what needs it: programs that only read finished stages need no JAX.
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from constellation.conductor import Stage
from constellation.progress import Progress
from constellation.samples import SampleSet
from constellation.tasks import task, trapdoor
from constellation.tasks.task import Task

if TYPE_CHECKING:
    from constellation.model.lora import Adapter

TASKS, SAMPLES, SCORES, SUMMARY = "tasks.jsonl", "samples.npz", "scores.npy", "summary.json"


def numbered(file: str, trajectory: int) -> str:
    """A trajectory's own: ("samples.npz", 3) -> "samples_3.npz"."""
    stem, suffix = file.split(".")
    return f"{stem}_{trajectory}.{suffix}"


def first_adapters(stage: Stage, trajectories: int) -> Adapter:
    """A stage's adapters in its first trajectories, [R, ...]."""
    import jax

    from constellation.selftraining.finetune import load_adapters

    return jax.tree.map(lambda x: x[:trajectories], load_adapters(stage.path)[0])


def numbered_files(stage: Stage, file: str) -> list[Path]:
    """A stage's files of one name, of each trajectory in order."""
    files = (stage.path / numbered(file, trajectory) for trajectory in itertools.count())
    return list(itertools.takewhile(Path.exists, files))


def samples_of(stage: Stage) -> list[SampleSet]:
    """A stage's samples, of each trajectory."""
    return [SampleSet.load(file) for file in numbered_files(stage, SAMPLES)]


def write_training_tasks(
    path: Path,
    trajectories: int,
    role: str,
    max_atoms: int,
    seed: int,
    batch: int,
    count: int,
    withheld: bool = False,
) -> None:
    """Each trajectory's tasks; those of several are drawn side by side, in processes of their own."""
    label = path.name.removesuffix(".partial")
    if trajectories == 1:
        stream = trapdoor.training_stream(role, max_atoms, seed, batch, withheld=withheld)
        return write_tasks(path / numbered(TASKS, 0), stream, count, label)
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            pool.submit(trapdoor.training_tasks, role, count, max_atoms, seed, batch, trajectory, withheld)
            for trajectory in range(trajectories)
        ]
        with Progress(label, trajectories, "trajectories") as progress:
            for trajectory, job in enumerate(jobs):
                task.write_tasks(path / numbered(TASKS, trajectory), job.result())
                progress.update()


def write_tasks(file: Path, stream: Iterator[Task], count: int, label: str) -> None:
    """The first tasks of a stream, as JSON lines."""
    with Progress(label, count, "tasks") as progress:

        def counted() -> Iterator[Task]:
            for drawn in itertools.islice(stream, count):
                progress.update()
                yield drawn

        task.write_tasks(file, counted())
