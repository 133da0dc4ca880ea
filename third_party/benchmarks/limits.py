"""What the machine can do at most, measured: the yardsticks of the tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def matmul_peak(dtype: jax.typing.DTypeLike = jnp.float32, size: int | None = None) -> float:
    """Floating-point operations a second of XLA's best square product.

    Args:
        size: of the matrices; by default 2,048, and 8,192 on a GPU, which takes so much to fill.
    """
    size = size or (8192 if jax.default_backend() == "gpu" else 2048)
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    [seconds] = least_seconds(lambda: product(matrix, matrix))
    return 2 * size**3 / seconds


def memory_bandwidth(size: int = 2**28) -> float:
    """Bytes a second, read and written together, of an array of `size` bytes plus one."""
    array = jnp.ones(size // 4, jnp.float32)
    add = jax.jit(lambda array: array + 1, donate_argnums=0)  # in place: fresh pages are slow on a CPU

    def run() -> jax.Array:
        nonlocal array
        array = add(array)
        return array

    [seconds] = least_seconds(run)
    return 2 * size / seconds


def least_seconds(*runs: Callable[[], Any], repeats: int = 10) -> list[float]:
    """Seconds of the fastest of several calls of each, after one that compiles.

    They are called in turn, so that a busy machine slows them alike.
    """
    for run in runs:
        jax.block_until_ready(run())
    best = [float("inf")] * len(runs)
    for _ in range(repeats):
        for index, run in enumerate(runs):
            start = time.perf_counter()
            jax.block_until_ready(run())
            best[index] = min(best[index], time.perf_counter() - start)
    return best
