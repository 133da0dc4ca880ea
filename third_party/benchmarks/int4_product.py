"""Microseconds of each way of multiplying by int4, at a model's projections, and what the machine allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.model.config import ModelConfig
from constellation.model.int4_product import Way, choose, dequantised, groupwise, pallas, per_channel
from constellation.model.lora import projection_shapes
from constellation.runtime.errors import UserError
from third_party.benchmarks.harness import Limits, fastest
from third_party.random_model import random_projection

ROWS = (1, 8, 64, 256, 2048)
WAYS = (dequantised, groupwise, per_channel, pallas)
CPU_OPERATIONS = 5e9  # of the largest product timed on a CPU, so that a run ends in minutes


class ProductRow(NamedTuple):
    """The products of one shape."""

    projections: str  # those of this shape, joined by commas
    out_features: int
    in_features: int
    rows: int
    seconds: dict[str, float]  # {way: of one product}; without `pallas` where there is no GPU
    bytes: float  # that a product moves at least: packed weight, scales, x and y
    operations: float  # its multiplications and additions
    chosen: str  # the way that `choose` names
    fastest: str  # the way of least seconds, among those that a weight with this group can take


def int4_product_benchmark(
    model_dir: str | Path, group: int, rows: Sequence[int] = ROWS, repeats: int = 5
) -> list[ProductRow]:
    """Times the ways side by side with random weights and x of `activation_dtype`.

    A run multiplies by the weights of many layers in turn, in a scan as the decoder's: they come from memory
    where a model's would, and what it costs to start a computation is shared out among them.

    Args:
        model_dir: its config.json has the shapes; nothing else of it is read.
        group: inputs that share a scale. `per_channel` is timed with one scale for all inputs.

    Raises:
        UserError: `group` does not divide the inputs of every projection.
    """
    shapes: dict[tuple[int, int], list[str]] = {}
    for name, shape in projection_shapes(ModelConfig.from_dir(model_dir)).items():
        shapes.setdefault(shape, []).append(name)
    for _, in_features in shapes:
        if in_features % group:
            raise UserError(f"--group={group} does not divide a projection's {in_features} inputs")
    return [
        _measured(", ".join(names), shape, group, count, repeats)
        for shape, names in shapes.items()
        for count in rows
        if jax.default_backend() != "cpu" or 2 * count * shape[0] * shape[1] <= CPU_OPERATIONS
    ]


def activation_dtype() -> jnp.dtype:
    """bfloat16 on a GPU, float32 on a CPU."""
    return jnp.dtype(jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32)


def _measured(projections: str, shape: tuple[int, int], group: int, rows: int, repeats: int) -> ProductRow:
    (out_features, in_features), platform, dtype = shape, jax.default_backend(), activation_dtype()
    # As many layers as overflow a cache, where a few do.
    layers = min(max((2**28 if platform == "gpu" else 2**25) // (out_features * in_features), 2), 256)
    weight = random_projection("weight", (layers, *shape), group, dtype)
    qvalue, scale = weight.qvalue, weight.scale[0]
    x = jnp.asarray(np.random.default_rng(1).normal(size=(rows, in_features)), dtype)
    ways = [way for way in WAYS if platform == "gpu" or way is not pallas]
    timed = fastest(*(products(way, x, qvalue, scale) for way in ways), repeats=repeats)
    seconds = {way.__name__: total / layers for way, total in zip(ways, timed, strict=True)}
    possible = [name for name in seconds if group == in_features or name != "per_channel"]
    y_bytes = rows * out_features * dtype.itemsize
    return ProductRow(
        projections,
        out_features,
        in_features,
        rows,
        seconds,
        bytes=out_features * in_features / 2 + scale[0].nbytes + x.nbytes + y_bytes,
        operations=2.0 * rows * out_features * in_features,
        chosen=choose(rows, in_features, group, dtype, platform).__name__,
        fastest=min(possible, key=seconds.__getitem__),
    )


def products(way: Way, x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> Callable[[], object]:
    """A jitted run of x [rows, in] times each of the stacked weights, whose first axis is layers."""
    if way is per_channel:
        layers, out_features = qvalue.shape[:2]
        qvalue, scale = qvalue.reshape(layers, out_features, 1, -1), scale[:, :, :1]

    @jax.jit
    def run(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
        # One y is kept, as in the decoder, where the next product consumes it.
        y = jnp.zeros((x.shape[0], qvalue.shape[1]), x.dtype)
        return jax.lax.scan(lambda _, weight: (way(x, *weight), None), y, (qvalue, scale))[0]

    return lambda: run(x, qvalue, scale).block_until_ready()


def table(rows: Sequence[ProductRow], group: int, dtype: jnp.dtype, limits: Limits) -> str:
    """The rows as text, with the least time that memory and operations allow."""
    names = [way.__name__ for way in WAYS]
    columns = "".join(f"{name:>12}" for name in [*names, "memory", "operations"])
    lines = [
        f"int4 products, groups of {group}, {dtype.name} on {limits.platform}: microseconds of one",
        f"memory: packed weight, scales, x and y at {limits.bandwidth / 1e9:.0f} GB/s",
        f"operations: at the matmul peak, {limits.peak / 1e9:.0f} GFLOP/s",
        "per_channel: with one scale an output, and a choice only for weights that are stored so",
    ]
    if limits.platform != "gpu":
        lines.append(
            "pallas: not timed, as it compiles for a GPU only; interpreted, it shows nothing of its speed"
        )
    lines.append(f"{'':20}{'out x in':>13}{'rows':>6}{columns}  {'chosen':12}fastest")
    for row in rows:
        least = row.bytes / limits.bandwidth, row.operations / limits.peak
        times = [*(row.seconds.get(name) for name in names), *least]
        cells = "".join(f"{'-' if time is None else format(1e6 * time, ',.1f'):>12}" for time in times)
        shape = f"{row.out_features} x {row.in_features}"
        lines.append(f"{row.projections:20}{shape:>13}{row.rows:6}{cells}  {row.chosen:12}{row.fastest}")
    return "\n".join(lines)
