"""The pretraining corpus: shards of synthetic tasks, each a function of its address alone.

A shard is made by a worker process while the model trains on an earlier one; a missing shard is made again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from constellation.domains.task import Task, addressed_random, read_tasks, write_tasks
from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.language import Node
from constellation.domains.trapdoor.synthesis import synthesise
from constellation.domains.trapdoor.wide import draw_wide_program
from constellation.runtime.errors import unknown
from constellation.runtime.files import fsync
from constellation.runtime.processes import process_pool


def build_shard(path: Path, seed: int, index: int, tasks: int, mixture: Mapping[str, float]) -> None:
    """Write one shard of pretraining-role tasks as JSON lines, atomically.

    Args:
        path: the file.
        seed: the corpus's seed.
        index: which shard.
        tasks: how many tasks it holds.
        mixture: weight of each source: "wide", or "atoms<m>" for the atom prior with at most m atoms.

    Raises:
        UserError: when there is no such source.
    """
    rng = addressed_random("pretraining corpus", seed, index)
    names = sorted(mixture)  # the shard is the same in whatever order a config lists its sources
    sources = {name: _source(rng, name) for name in names}
    weights = [mixture[name] for name in names]
    stream = (next(sources[rng.choices(names, weights)[0]]) for _ in range(tasks))
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    write_tasks(unfinished, stream)
    fsync(unfinished)  # a shard that exists is read without question
    os.replace(unfinished, path)


_PRIORS: dict[str, Callable[[random.Random], Node]] = {
    "wide": draw_wide_program,
    **{f"atoms{most}": partial(prior.draw_program, max_atoms=most) for most in prior.ATOMS},
}


def _source(rng: random.Random, name: str) -> Iterator[Task]:
    if name not in _PRIORS:
        raise unknown("source of the corpus", name, _PRIORS)
    return synthesise(rng, _PRIORS[name], roles=("pretraining",))


def shard_path(directory: Path, index: int) -> Path:
    """Where a shard lies."""
    return directory / f"shard-{index:04d}.jsonl"


def shards(
    directory: Path, seed: int, first: int, count: int, tasks: int, mixture: Mapping[str, float]
) -> Iterator[list[Task]]:
    """Shards first..count-1 in order, each made ahead of its use by one worker process."""
    directory.mkdir(parents=True, exist_ok=True)
    with process_pool(1) as pool:

        def request(index: int) -> tuple[Path, Future[None] | None]:
            path = shard_path(directory, index)
            made = (
                None if path.exists() else pool.submit(build_shard, path, seed, index, tasks, dict(mixture))
            )
            return path, made

        pending = request(first) if first < count else None
        for index in range(first, count):
            assert pending is not None
            path, made = pending
            if made is not None:
                made.result()
            pending = request(index + 1) if index + 1 < count else None
            yield read_tasks(path)
