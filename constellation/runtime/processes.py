"""Work in other processes of this machine.

They are spawned: a fork of a process in which JAX has started threads may hang.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any, TypeVar

from constellation.runtime.progress import Progress

Result = TypeVar("Result")


def process_pool(workers: int | None = None) -> Executor:
    """Workers for functions and arguments that can be pickled; by default as many as there are cores."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def in_processes(
    function: Callable[..., Result],
    arguments: Sequence[tuple[Any, ...]],
    progress: Progress,
    processes: Callable[[], Executor] = process_pool,
) -> Iterator[Result]:
    """The function's results for every tuple of arguments, in order; several are computed side by side.

    The function has to be a module's own, because it is pickled. A single tuple's result is computed in this
    process.
    """
    with progress, contextlib.ExitStack() as stack:
        results: Iterator[Result] = itertools.starmap(function, arguments)
        if len(arguments) > 1:
            results = stack.enter_context(processes()).map(function, *zip(*arguments, strict=True))
        for result in results:
            progress.update()
            yield result
