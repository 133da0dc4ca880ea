"""The benchmark of a config's model: every implementation in a process of its own, one after the other.

Its peak memory is thus its own, the device never holds two models, and one that runs out of memory becomes a
row that says so. Only this file and the tables name the implementations.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from constellation.model.config import ModelConfig
from constellation.model.model import DTYPES
from constellation.runtime.errors import UserError
from third_party.benchmarks import tables
from third_party.benchmarks.harness import (
    Limits,
    Measurement,
    Report,
    failure,
    fastest,
    in_own_process,
    measure_limits,
    measured,
)
from third_party.benchmarks.workload import Workload, choose_sizes, make_workload, sampled, updated
from third_party.random_model import published_fields, random_params

PARTS = {"sampling": ("prefill", "decode"), "update": ("update",)}


class Implementation(NamedTuple):
    """One that is measured."""

    name: str
    parts: Sequence[str]  # that it is measured in
    options: Mapping[str, bool] = {}  # of its `Theirs`; ours has none


OURS = Implementation(tables.OURS, ["sampling", "update"])
REFERENCES = [
    Implementation(tables.GENERATE, ["sampling"]),
    Implementation("generate, static cache, compiled", ["sampling"], {"static_cache": True}),
    Implementation(tables.FOUR_BITS, ["sampling"], {"four_bits": True}),
    Implementation(tables.PEFT, ["update"]),
    Implementation("peft, torch.compile", ["update"], {"compiled": True}),
    Implementation("peft, 4-bit", ["update"], {"four_bits": True}),
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
        layers: how many layers the random weights have, instead of the model's own number.
        references: whether transformers and peft are measured, too.
        given: sizes instead of the platform's own; see `choose_sizes`.
        out: file that the measurements are also written to, as JSON.

    Raises:
        UserError: no such model directory, dtype or quantisation, a size that is too small, or a file that
            cannot be written.
    """
    model = _model_config(config.model.dir, random_weights, layers)
    report = Report(out)
    choose_sizes("cpu", given)  # refuses before anything is measured
    [limits] = in_own_process(Limits, partial(_limits, model, config.model.quantization, config.model.dtype))
    directory = "" if random_weights else config.model.dir
    work = make_workload(config, model, directory, limits.platform, choose_sizes(limits.platform, given))
    report.about["limits"] = limits._asdict()
    report.about["workload"] = dataclasses.asdict(work.config) | work.sizes._asdict()
    print(tables.heading(work, limits), flush=True)
    rows: list[Measurement] = []
    for one in [OURS, *(REFERENCES if references else [])]:
        for part in one.parts:
            if part not in parts:
                continue
            begun = time.perf_counter()
            for row in measured(one.name, PARTS[part], partial(measure, work, one, part)):
                rows.append(row)
                print(tables.by_itself(row), flush=True)
                report.add(row)
            print(f"{part}, {one.name}: {time.perf_counter() - begun:.0f} s in all", flush=True)
    print(tables.tables(rows, limits))
    print(tables.targets(rows, limits, full_size=layers is None))


def measure(work: Workload, one: Implementation, part: str) -> Iterator[Measurement]:
    """Yields "prefill" and "decode" for every number of samples, or one "update".

    Prefill is a run to the first token of every sample, decode what a run to the last takes longer.
    """
    side, repeats = _make(work, one), work.sizes.repeats
    if part == "update":
        [seconds] = fastest(side.updater(), repeats=repeats)
        yield updated(work, one.name, seconds, side.peak_memory(), side.sampler.shared)
        return
    for samples in work.sizes.samples:
        try:
            [first] = fastest(partial(side.sample, samples, 1), repeats=repeats)
            [whole] = fastest(partial(side.sample, samples, work.sizes.answer_tokens), repeats=repeats)
        except MemoryError as error:
            yield from (failure(name, one.name, str(error), samples) for name in PARTS[part])
        else:
            yield from sampled(work, one.name, samples, side.sampler, first, whole, side.peak_memory())


def _make(work: Workload, one: Implementation) -> Any:
    """An `Ours` or a `Theirs`; only this process imports what it needs."""
    if one.name == tables.OURS:
        from third_party.benchmarks.ours import Ours

        return Ours(work)
    from third_party.benchmarks.theirs import Theirs

    return Theirs(work, **one.options)


def _limits(model: ModelConfig, quantization: str, dtype: str) -> Iterator[Limits]:
    """Yields the device's limits, once it is sure that such a model can be made.

    Raises:
        UserError: another dtype or quantisation, or a group that does not divide a projection's inputs.
    """
    if dtype not in DTYPES:
        raise UserError(f"model.dtype = {dtype!r}: use {' or '.join(map(repr, DTYPES))}")
    jax.eval_shape(partial(random_params, model, quantization, jnp.dtype(dtype)))
    yield measure_limits(jnp.dtype(dtype))


def _model_config(directory: str, random_weights: bool, layers: int | None) -> ModelConfig:
    """The config of the directory, or of the published 4B where random weights need no directory.

    Raises:
        UserError: there is no such directory, or `layers` is given without random weights.
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
    return config.with_layers(layers) if layers else config
