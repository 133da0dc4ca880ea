"""LoRA (2106.09685): low-rank updates of the frozen projections, held apart from the base model."""

from __future__ import annotations

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from constellation.model.config import ModelConfig


@flax.struct.dataclass
class Adapter:
    """A pytree of trainable weights in float32, by Hugging Face's names of the projections."""

    weights: dict[str, dict[str, jax.Array]]  # {projection: {"a": [L, rank, in], "b": [L, out, rank]}}
    scale: float = flax.struct.field(pytree_node=False)  # alpha / rank


def stack(adapters: Sequence[Adapter]) -> Adapter:
    """Adapters of several trajectories as one, every leaf with a leading axis [R]; all have one scale."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *adapters)


def unstack(adapters: Adapter) -> list[Adapter]:
    """The adapters that `stack` put together."""
    count = len(jax.tree.leaves(adapters)[0])
    return [jax.tree.map(lambda leaf, r=r: leaf[r], adapters) for r in range(count)]


def first(adapters: Adapter, count: int) -> Adapter:
    """The first `count` of stacked adapters."""
    return jax.tree.map(lambda leaf: leaf[:count], adapters)


def projection_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of the seven projections of a layer."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    return {
        "q_proj": (queries, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, queries),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }


def layer_weights(config: ModelConfig) -> int:
    """How many weights the seven projections of a layer have."""
    return sum(out * inner for out, inner in projection_shapes(config).values())


def init_adapter(config: ModelConfig, key: jax.Array, rank: int, alpha: float) -> Adapter:
    """An adapter of all seven projections as peft initialises it.

    A is Kaiming-uniform with a = sqrt 5, which is U(-1/sqrt in, 1/sqrt in), and B is zero.
    """
    weights = {}
    for index, (name, (out_features, in_features)) in enumerate(projection_shapes(config).items()):
        bound = in_features**-0.5
        a_shape = (config.num_hidden_layers, rank, in_features)
        weights[name] = {
            "a": jax.random.uniform(jax.random.fold_in(key, index), a_shape, jnp.float32, -bound, bound),
            "b": jnp.zeros((config.num_hidden_layers, out_features, rank), jnp.float32),
        }
    return Adapter(weights, alpha / rank)
