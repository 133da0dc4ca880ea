"""The benchmark of a config's model: every implementation in a process of its own, one after the other.

So each one's peak memory is its own, the device never holds two models, and one that runs out of memory is a
row that says so. Only here and in the tables are the implementations named.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from constellation.model.config import ModelConfig
from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error
from third_party.benchmarks import full_size_tables
from third_party.benchmarks.workload import Measurement, Workload, choose_sizes, failed, make_workload
from third_party.random_checkpoint import published_fields

LIMIT = 900.0  # seconds in which an implementation has to yield its next measurement
PARTS = {"sampling": ("prefill", "decode"), "update": ("update",)}


class Side(NamedTuple):
    """An implementation: its name, and what measures it in each part it has."""

    name: str
    measure: Mapping[str, Callable[..., Iterator[Measurement]]]
    options: Mapping[str, bool] = {}


def _our_sampling(work: Workload, name: str) -> Iterator[Measurement]:
    from third_party.benchmarks.ours import measure_sampling

    return measure_sampling(work, name)


def _our_update(work: Workload, name: str) -> Iterator[Measurement]:
    from third_party.benchmarks.ours import measure_update

    return measure_update(work, name)


def _their_sampling(work: Workload, name: str, **options: bool) -> Iterator[Measurement]:
    from third_party.full_size_reference import measure_sampling

    return measure_sampling(work, name, **options)


def _their_update(work: Workload, name: str, **options: bool) -> Iterator[Measurement]:
    from third_party.full_size_reference import measure_update

    return measure_update(work, name, **options)


OURS = Side(full_size_tables.OURS, {"sampling": _our_sampling, "update": _our_update})
REFERENCES = [
    Side(full_size_tables.GENERATE, {"sampling": _their_sampling}),
    Side("generate, static cache, compiled", {"sampling": _their_sampling}, {"static_cache": True}),
    Side(full_size_tables.FOUR_BITS, {"sampling": _their_sampling}, {"four_bits": True}),
    Side(full_size_tables.PEFT, {"update": _their_update}),
    Side("peft, torch.compile", {"update": _their_update}, {"compiled": True}),
    Side("peft, 4-bit", {"update": _their_update}, {"four_bits": True}),
]


def run(
    config: ConfigDict,
    parts: Sequence[str],
    random_weights: bool,
    layers: int | None,
    references: bool,
    given: Mapping[str, Any],
    out: str | None,
) -> None:
    """Measures, and prints the tables and the targets.

    Args:
        config: of an experiment.
        parts: "sampling", "update".
        random_weights: instead of those in config.model.dir.
        layers: so many of random weights instead of the model's own.
        references: whether to measure others than ours.
        given: sizes instead of the platform's own; see `choose_sizes`.
        out: where to write the measurements as JSON, too.

    Raises:
        UserError: no such model directory, dtype or quantisation, a size that is too small, or a file that
            cannot be written.
    """
    model = _model_config(config.model.dir, random_weights, layers)
    if out is not None and not Path(out).absolute().parent.is_dir():
        raise UserError(f"--out={out}: there is no directory {Path(out).parent}: make it first")
    choose_sizes("cpu", given)  # refuses before anything is measured
    limits, *_ = _in_own_process(_limits, model, config.model.quantization, config.model.dtype)
    sizes = choose_sizes(limits.platform, given)
    directory = "" if random_weights else config.model.dir
    work = make_workload(config, model, directory, limits.platform, sizes)
    print(full_size_tables.heading(work, limits), flush=True)
    rows: list[Measurement] = []
    for side in [OURS, *(REFERENCES if references else [])]:
        for part, measure in side.measure.items():
            if part not in parts:
                continue
            begun = time.perf_counter()
            for row in _measured(side.name, part, measure, work, side.options):
                rows.append(row)
                print(full_size_tables.by_itself(row), flush=True)
                if out is not None:
                    _write(Path(out), rows, work, limits)
            print(f"{part}, {side.name}: {time.perf_counter() - begun:.0f} s in all", flush=True)
    print(full_size_tables.tables(rows, work, limits))
    print(full_size_tables.targets(rows, work, limits, full_size=layers is None))


def _write(out: Path, rows: Sequence[Measurement], work: Workload, limits: Any) -> None:
    """What is measured so far: a run that is killed leaves it."""
    workload = dataclasses.asdict(work.config) | work.sizes._asdict()
    written = {"limits": limits._asdict(), "workload": workload, "rows": [row._asdict() for row in rows]}
    with disk_full_is_user_error(out):
        out.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


def _model_config(directory: str, random_weights: bool, layers: int | None) -> ModelConfig:
    """Of the directory; of the published 4B where random weights need none.

    Raises:
        UserError: there is no such directory, or its weights would have other layers.
    """
    if layers and not random_weights:
        raise UserError(f"--layers={layers} is of random weights: give --random_weights, too")
    if random_weights and not Path(directory).exists():
        return ModelConfig.from_fields(published_fields("4B", layers))
    if not Path(directory).is_dir():
        raise UserError(
            f"model directory {directory} not found: set --config.model.dir, or give --random_weights"
        )
    config = ModelConfig.from_dir(directory)
    return dataclasses.replace(config, num_hidden_layers=layers) if layers else config


def _limits(model: ModelConfig, quantization: str, dtype: str) -> Iterator[Any]:
    from third_party.benchmarks.ours import measure_limits

    return measure_limits(model, quantization, dtype)


def _measured(
    name: str, part: str, measure: Callable, work: Workload, options: Mapping[str, bool]
) -> Iterator[Measurement]:
    """What it yields, and why it ended early if it did."""
    try:
        yield from _in_own_process(measure, work, name, **options)
    except UserError:
        raise
    except Exception as error:  # of any library: the others are measured all the same
        yield from failed(PARTS[part], name, str(error))


def _in_own_process(function: Callable[..., Iterator[Any]], *args: Any, **kwargs: Any) -> Iterator[Any]:
    """What `function` yields, in a process that ends with it.

    Raises:
        TimeoutError, MemoryError: it said nothing for LIMIT seconds, or was killed.
        Exception: what it raised, as RuntimeError where that cannot be sent; UserError as itself.
    """
    # A fork keeps what a launch program has set, as how glibc reuses memory. Nothing is computed before it.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        while receiver.poll(LIMIT):
            kind, value = receiver.recv()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
        raise TimeoutError(f"nothing for {LIMIT:.0f} s")
    except EOFError:
        process.join()
        raise MemoryError(f"its process was killed (exit code {process.exitcode})") from None
    finally:
        process.kill()
        process.join()


def _send(sender: Connection, function: Callable[..., Iterator[Any]], args: Any, kwargs: Any) -> None:
    """The process: sends ("value", what is yielded) again and again, then ("end", None) or ("error", why)."""
    try:
        for value in function(*args, **kwargs):
            sender.send(("value", value))
        sender.send(("end", None))
    except UserError as error:
        sender.send(("error", error))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        sender.send(("error", RuntimeError(f"{type(error).__name__}: {lines[0]}")))
