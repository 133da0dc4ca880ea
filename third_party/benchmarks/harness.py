"""How everything here is timed, what the machine could do, and how measurements are made and kept."""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error

Row = TypeVar("Row")
SILENCE = 900.0  # seconds in which a process has to yield its next measurement


def fastest(*runs: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of the fastest of several calls of each function, after one that compiles.

    The functions are called in turn, so that a busy machine slows them alike; each waits for its own result.
    """
    best = [float("inf")] * len(runs)
    for repeat in range(1 + repeats):
        for index, run in enumerate(runs):
            begun = time.perf_counter()
            run()
            if repeat:
                best[index] = min(best[index], time.perf_counter() - begun)
    return best


def resident_peak() -> int:
    """Most bytes of main memory that this process has had at a time."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Limits(NamedTuple):
    """What the device can do at most."""

    platform: str  # "gpu", "cpu" or "tpu"
    device: str  # its name
    bandwidth: float  # bytes a second, read and written together
    peak: float  # operations a second of a matrix product in the dtype of the measurement


def measure_limits(dtype: jax.typing.DTypeLike) -> Limits:
    """Measures the first device."""
    device = jax.devices()[0]
    return Limits(device.platform, device.device_kind, memory_bandwidth(), matmul_peak(dtype))


def matmul_peak(dtype: jax.typing.DTypeLike = jnp.float32, size: int | None = None) -> float:
    """Floating-point operations a second of XLA's best square product.

    Args:
        size: of the matrices; by default 2,048, and 8,192 on a GPU, which takes so much to fill.
    """
    size = size or (8192 if jax.default_backend() == "gpu" else 2048)
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.matmul)
    [seconds] = fastest(lambda: product(matrix, matrix).block_until_ready(), repeats=10)
    return 2 * size**3 / seconds


def memory_bandwidth(size: int = 2**28) -> float:
    """Bytes a second, read and written together, of an array of `size` bytes plus one."""
    array = jnp.ones(size // 4, jnp.float32)
    add = jax.jit(lambda array: array + 1, donate_argnums=0)  # in place: fresh pages are slow on a CPU

    def run() -> None:
        nonlocal array
        array = add(array).block_until_ready()

    [seconds] = fastest(run, repeats=10)
    return 2 * size / seconds


class Measurement(NamedTuple):
    """One timed run of one implementation, or why it failed."""

    part: str  # "sampling", or of it "prefill" and "decode"; "update"; "tasks"
    name: str  # of the implementation
    samples: int  # decoded side by side; 0 where nothing is sampled
    tokens: int = 0  # of the prompts, decoded, or trained on; of "tasks", the accepted tasks
    seconds: float = 0.0  # for all of these
    peak_memory: int = 0  # most bytes that the process has held until then; 0 where it is shared with others
    failed: str = ""  # why nothing was measured; empty where something was
    flops: float = 0.0  # operations of the matrix products that are needed, without padding
    recomputed: float = 0.0  # operations that a backward does a second time, to hold less
    moved: float = 0.0  # bytes that have to be read and written at least; 0 where they are no limit

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def failure(part: str, name: str, reason: str, samples: int = 0) -> Measurement:
    """The row of a part that failed; it holds the first line of the reason."""
    return Measurement(part, name, samples, failed=(reason.strip().splitlines() or ["unknown"])[0][:160])


class Report:
    """What was measured; it is written after each row, so that a run that is killed leaves its rows.

    Args:
        out: the file, as JSON: what `about` holds, and "rows". None for no file.

    Raises:
        UserError: the file's directory does not exist.
    """

    def __init__(self, out: str | None):
        if out is not None and not Path(out).absolute().parent.is_dir():
            raise UserError(f"--out={out}: there is no directory {Path(out).parent}: make it first")
        self.out = None if out is None else Path(out)
        self.about: dict[str, Any] = {}
        self.rows: list[Mapping[str, Any]] = []

    def add(self, row: Any, **more: Any) -> None:
        """Adds a row, a NamedTuple, and `more` fields that it lacks."""
        self.rows.append(more | row._asdict())
        if self.out is not None:
            with disk_full_is_user_error(self.out):
                text = json.dumps(self.about | {"rows": self.rows}, indent=1)
                self.out.write_text(text + "\n", encoding="utf-8")


def measured(
    name: str, parts: Sequence[str], measure: Callable[[], Iterator[Measurement]]
) -> Iterator[Measurement]:
    """Yields what `measure` does, in a process of its own; if that fails, a failure of every part."""
    try:
        yield from in_own_process(Measurement, measure)
    except UserError:
        raise
    except Exception as error:  # of any library: the others are measured all the same
        for part in parts:
            yield failure(part, name, str(error))


def in_own_process(row: Callable[..., Row], function: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The NamedTuples that `function` yields, in a process that ends with it.

    Args:
        row: their class, whose fields JSON can hold.

    Raises:
        TimeoutError, MemoryError: the process sent nothing for SILENCE seconds, or was killed.
        UserError, RuntimeError: the function raised a UserError, or another error.
    """
    # A fork keeps what a launch program has set, as how glibc reuses memory. Nothing is computed before it.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function))
    process.start()
    sender.close()
    try:
        while receiver.poll(SILENCE):
            kind, value = json.loads(receiver.recv_bytes())
            if kind == "end":
                return
            if kind == "row":
                yield row(*value)
            else:
                raise UserError(value) if kind == "mistake" else RuntimeError(value)
        raise TimeoutError(f"nothing for {SILENCE:.0f} s")
    except EOFError:
        process.join()
        raise MemoryError(f"its process was killed (exit code {process.exitcode})") from None
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, function: Callable[[], Iterable[Any]]) -> None:
    """Runs in the process: sends ["row", fields] for every row, then ["end", ""], or the error."""

    def send(kind: str, value: Any) -> None:
        sender.send_bytes(json.dumps([kind, value]).encode())

    try:
        for row in function():
            send("row", row)
        send("end", "")
    except UserError as error:
        send("mistake", str(error))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        send("error", f"{type(error).__name__}: {lines[0]}")
