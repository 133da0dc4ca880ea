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
from third_party.benchmarks.limits import least_seconds

ROWS = (1, 8, 64, 256, 2048)
WAYS = (dequantised, groupwise, per_channel, pallas)
CPU_OPERATIONS = 5e9  # of the largest product timed on a CPU, so that a run ends in minutes


class ProductRow(NamedTuple):
    """One shape.

    Attributes:
        projections: that have this shape, joined by commas.
        out_features, in_features, rows: of the product.
        seconds: {way: of one product}; `pallas` is absent where there is no GPU to compile it for.
        bytes: that a product moves at least: packed weight, scales, x and y.
        operations: its multiplications and additions.
        chosen: the way that `choose` names.
        fastest: the one with the least seconds of those that a weight with this group can take.
    """

    projections: str
    out_features: int
    in_features: int
    rows: int
    seconds: dict[str, float]
    bytes: float
    operations: float
    chosen: str
    fastest: str


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
        if jax.default_backend() != "cpu" or _operations(shape, count) <= CPU_OPERATIONS
    ]


def activation_dtype() -> jnp.dtype:
    """bfloat16 on a GPU, float32 on a CPU."""
    return jnp.dtype(jnp.bfloat16 if jax.default_backend() == "gpu" else jnp.float32)


def _operations(shape: tuple[int, int], rows: int) -> float:
    return 2.0 * rows * shape[0] * shape[1]


def _measured(projections: str, shape: tuple[int, int], group: int, rows: int, repeats: int) -> ProductRow:
    (out_features, in_features), platform, dtype = shape, jax.default_backend(), activation_dtype()
    layers = layers_of(out_features * in_features, platform)
    qvalue, scale = random_weights(layers, out_features, in_features, group, dtype)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(rows, in_features)), dtype)
    ways = [way for way in WAYS if platform == "gpu" or way is not pallas]
    runs = [products(way, x, qvalue, scale) for way in ways]
    measured = least_seconds(*runs, repeats=repeats)
    seconds = {way.__name__: total / layers for way, total in zip(ways, measured, strict=True)}
    y_bytes = rows * out_features * dtype.itemsize
    possible = [name for name in seconds if group == in_features or name != "per_channel"]
    return ProductRow(
        projections,
        out_features,
        in_features,
        rows,
        seconds,
        bytes=out_features * in_features / 2 + scale[0].nbytes + x.nbytes + y_bytes,
        operations=_operations(shape, rows),
        chosen=choose(rows, out_features, in_features, group, dtype, platform).__name__,
        fastest=min(possible, key=seconds.__getitem__),
    )


def layers_of(weights: int, platform: str) -> int:
    """Layers of so many weights timed in turn, 2 to 256: as many as overflow a cache, where a few do."""
    size = 2**28 if platform == "gpu" else 2**25
    return min(max(size // weights, 2), 256)


def random_weights(
    layers: int, out_features: int, in_features: int, group: int, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """qvalue [layers, out, in / group, group] int4 and scale [layers, out, in / group, 1] of `dtype`."""
    shape = layers, out_features, in_features // group, group
    rng = np.random.default_rng(0)
    qvalue = rng.integers(-7, 8, shape, np.int8)
    return jnp.asarray(qvalue, jnp.int4), jnp.asarray(rng.uniform(0.5, 1.5, (*shape[:-1], 1)), dtype)


def products(way: Way, x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> Callable[[], jax.Array]:
    """A jitted run of x [rows, in] times each of the stacked weights, whose first axis is layers."""
    if way is per_channel:
        layers, out_features = qvalue.shape[:2]
        qvalue, scale = qvalue.reshape(layers, out_features, 1, -1), scale[:, :, :1]

    @jax.jit
    def run(x: jax.Array, qvalue: jax.Array, scale: jax.Array) -> jax.Array:
        # One y is kept, as in the decoder, where the next product consumes it.
        y = jnp.zeros((x.shape[0], qvalue.shape[1]), x.dtype)
        return jax.lax.scan(lambda _, weight: (way(x, *weight), None), y, (qvalue, scale))[0]

    return lambda: run(x, qvalue, scale)
