"""A model of any size with random weights, drawn on the device as they are stored there: no directory.

For speed and memory alone; what it writes has no meaning.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.lora import projection_shapes
from constellation.model.model import Model
from constellation.model.port import layer_shapes
from constellation.model.quantize import Nibbles, Quantization, table_of, unpack
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from third_party.random_checkpoint import STD

INT4_STD = (sum(value**2 for value in range(-8, 8)) / 16) ** 0.5  # of uniform integers of 4 bits
INT8_STD = 256 / 12**0.5


def random_model(config: ModelConfig, quantization: str, dtype: str) -> Model:
    """A model on one device. Its tokenizer is nothing but a size, and no token ends an answer.

    Args:
        quantization: as for `Quantization.parse`.
        dtype: "float32" or "bfloat16", of what is not quantised and of the scales.

    Raises:
        UserError: another quantisation, or a group that does not divide a projection's inputs.
    """
    return Model(
        config=config,
        params=random_params(config, quantization, jnp.dtype(dtype)),
        tokenizer=cast(Any, SimpleNamespace(size=config.vocab_size)),
        stop_ids=(),
        hash="",
        dir=Path(),
    )


def random_params(config: ModelConfig, quantization: str, dtype: jnp.dtype) -> Params:
    """Weights of deviation STD, norms at one; int4 ones are never anything but int4.

    Raises:
        UserError: as `random_model`.
    """
    how = Quantization.parse(quantization)
    layers: dict[str, Any] = {}
    for name, shape in layer_shapes(config).items():
        stacked = config.num_hidden_layers, *shape
        if name not in projection_shapes(config):
            layers[name] = jnp.ones(stacked, dtype)
        elif how.group is None:
            layers[name] = _uniform(name, stacked, dtype)
        else:
            group = how.group or shape[1]
            if shape[1] % group:
                raise UserError(
                    f"model.quantization: groups of {group} do not divide the {shape[1]} inputs of {name}: "
                    "use a divisor of every projection's width"
                )
            nibbles = _bits(name, (*stacked[:2], shape[1] // group, group // 2))
            scale = jnp.full((*nibbles.shape[:-1], 1), STD / INT4_STD, dtype)
            layers[name] = unpack(Nibbles(nibbles, scale))
    params: Params = {"norm": jnp.ones(config.hidden_size, dtype), "layers": layers}
    for name in ("embed",) if config.tie_word_embeddings else ("embed", "lm_head"):
        vocabulary, width = config.vocab_size, config.hidden_size
        if how.int8_embedding:
            int8 = jax.lax.bitcast_convert_type(_bits(name, (vocabulary, 1, width)), jnp.int8)
            params[name] = table_of(int8, jnp.full((vocabulary, 1, 1), STD / INT8_STD, jnp.float32))
        else:
            params[name] = _uniform(name, (vocabulary, width), dtype)
    return params


@partial(jax.jit, static_argnums=(0, 1, 2))
def _uniform(name: str, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Of deviation STD."""
    return ((_bits(name, shape).astype(jnp.float32) - 127.5) * (STD / INT8_STD)).astype(dtype)


@partial(jax.jit, static_argnums=(0, 1))
def _bits(name: str, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint8. The device's own generator: threefry takes minutes for so many on a CPU."""
    key = jnp.array([0, 0, 0, keys.word(name)], jnp.uint32)
    return jax.lax.rng_bit_generator(key, shape, jnp.uint8)[1]
