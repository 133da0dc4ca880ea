"""Seconds and bytes of a process's own, whatever it computes with."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable


def fastest(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one that compiles; `run` waits for its own results."""
    best = float("inf")
    for repeat in range(1 + repeats):
        begun = time.perf_counter()
        run()
        if repeat:
            best = min(best, time.perf_counter() - begun)
    return best


def resident_peak() -> int:
    """Most bytes of main memory that this process has had at a time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
