"""The beginning that all prompts of a call share, as the description of the language: computed once."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from constellation.model.config import ModelConfig
from constellation.model.decoder import KV, Params, prefill
from constellation.model.lora import Adapter

WORTHWHILE = 64  # tokens; fewer cost less than one more piece of attention


def common_prefix(rows: Sequence[Sequence[int] | np.ndarray]) -> int:
    """How many ids all rows begin with."""
    # All rows share what the least and the greatest of them share.
    first, last = (np.asarray(row) for row in (min(rows, key=tuple), max(rows, key=tuple)))
    length = min(len(first), len(last))
    differ = np.flatnonzero(first[:length] != last[:length])
    return int(differ[0]) if differ.size else length


def shared_length(prompts: Sequence[Sequence[int] | np.ndarray], worthwhile: int = WORTHWHILE) -> int:
    """How many ids all prompts begin with, leaving each one of its own; 0 where they are too few."""
    if len(prompts) < 2:
        return 0
    length = min(common_prefix(prompts), min(map(len, prompts)) - 1)
    return length if length >= worthwhile else 0


def prefix_length(prefix: KV | None) -> int:
    """How many tokens a shared KV holds."""
    return 0 if prefix is None else prefix.k.shape[-1]


@functools.partial(jax.jit, static_argnums=(0, 4))
def prefix_kv(
    config: ModelConfig, params: Params, adapter: Adapter | None, ids: jax.Array, remat: bool = False
) -> KV:
    """The KV of the tokens [P] at positions 0 ... P - 1: k [L, K, H, P] and v [L, K, P, H].

    `remat` is as for `forward`.
    """
    length = ids.shape[0]
    mask = jnp.tril(jnp.ones((1, length, length), bool))
    _, kv = prefill(config, params, adapter, ids[None], jnp.arange(length)[None], mask, None, remat)
    return jax.tree.map(lambda leaf: leaf[:, 0], kv)
