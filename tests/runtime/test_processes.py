"""Results in order, from processes that are not this one, or from whatever executor is given."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from constellation.runtime.processes import in_processes, process_pool
from constellation.runtime.progress import Progress


def placed(number: int, other: int) -> tuple[int, int, int]:
    return number + other, os.getpid(), threading.get_ident()


def kind() -> str:
    return type(multiprocessing.current_process()).__name__


def run(arguments, **processes) -> tuple[list[tuple[int, int, int]], str]:
    stream = io.StringIO()
    progress = Progress("adding", len(arguments), "trajectories", stream=stream)
    return list(in_processes(placed, arguments, progress, **processes)), stream.getvalue()


def test_several_in_other_processes():
    found, printed = run([(1, 2), (3, 4), (5, 6)])
    assert [total for total, *_ in found] == [3, 7, 11]
    assert os.getpid() not in {process for _, process, _ in found}
    assert printed.splitlines()[-1].startswith("adding  3/3 trajectories")


def test_one_is_computed_here():
    found, printed = run([(1, 2)])
    assert found == [(3, os.getpid(), threading.get_ident())] and "1/1" in printed


def test_in_what_is_handed_in():
    found, _ = run([(1, 2), (3, 4)], processes=ThreadPoolExecutor)
    assert {process for _, process, _ in found} == {os.getpid()}
    assert threading.get_ident() not in {thread for *_, thread in found}


def test_a_worker_is_spawned_and_an_error_comes_through():
    with process_pool(1) as pool:
        assert pool.submit(kind).result() == "SpawnProcess"
        with pytest.raises(ZeroDivisionError):
            pool.submit(divmod, 1, 0).result()
