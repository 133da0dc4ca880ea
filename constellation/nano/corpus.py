"""The pretraining corpus: shards of synthetic tasks, each a function of its address alone.

A shard is made by a worker process while the model trains on an earlier one; a missing shard is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from random import Random

from constellation.domains.task import Task, addressed_random, read_tasks, write_tasks
from constellation.runtime.errors import unknown
from constellation.runtime.files import fsync
from constellation.runtime.processes import process_pool


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file of a shard, which is read without question where it exists; several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    write(unfinished)
    fsync(unfinished)
    os.replace(unfinished, path)


@dataclass(frozen=True)
class Corpus:
    """Where the shards lie, and what decides their tasks."""

    directory: Path
    sources: Mapping[str, Callable[[Random], Iterator[Task]]]  # as in `Pretraining`
    mixture: Mapping[str, float]  # the weight of each source
    shard_size: int  # tasks of a shard
    seed: int = 0

    def path(self, index: int) -> Path:
        """Where a shard lies."""
        return self.directory / f"shard-{index:04d}.jsonl"

    def build(self, index: int) -> None:
        """Writes a shard as JSON lines, atomically.

        Raises:
            UserError: the mixture names a source that the domain does not have.
        """
        for name in self.mixture:
            if name not in self.sources:
                raise unknown("source of the corpus", name, self.sources)
        rng = addressed_random("pretraining corpus", self.seed, index)
        names = sorted(self.mixture)  # the shard is the same in whatever order a config lists its sources
        streams = {name: self.sources[name](rng) for name in names}
        weights = [self.mixture[name] for name in names]
        tasks = (next(streams[rng.choices(names, weights)[0]]) for _ in range(self.shard_size))
        write_whole(self.path(index), lambda unfinished: write_tasks(unfinished, tasks))

    def shards(self, first: int, count: int) -> Iterator[list[Task]]:
        """The tasks of shards first ... count - 1, each made ahead of its use by one worker process."""
        with process_pool(1) as pool:

            def request(index: int) -> Future[None] | None:
                return None if self.path(index).exists() else pool.submit(self.build, index)

            pending = request(first) if first < count else None
            for index in range(first, count):
                if pending is not None:
                    pending.result()
                pending = request(index + 1) if index + 1 < count else None
                yield read_tasks(self.path(index))
