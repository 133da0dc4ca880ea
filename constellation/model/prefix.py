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


def shared_length(prompts: Sequence[Sequence[int] | np.ndarray]) -> int:
    """How many ids all prompts begin with, leaving each one of its own; 0 where it is not worthwhile."""
    if len(prompts) < 2 or min(map(len, prompts)) == 0:
        return 0
    # All prompts share what the least and the greatest of them share.
    first, last = (np.asarray(prompt) for prompt in (min(prompts, key=tuple), max(prompts, key=tuple)))
    length = min(map(len, prompts)) - 1
    differ = np.flatnonzero(first[:length] != last[:length])
    length = int(differ[0]) if differ.size else length
    return length if length >= WORTHWHILE else 0


@functools.partial(jax.jit, static_argnums=0)
def prefix_kv(config: ModelConfig, params: Params, adapter: Adapter | None, ids: jax.Array) -> KV:
    """The KV of the tokens [P] at positions 0 ... P - 1: k [L, K, H, P] and v [L, K, P, H]."""
    length = ids.shape[0]
    mask = jnp.tril(jnp.ones((1, length, length), bool))
    _, kv = prefill(config, params, adapter, ids[None], jnp.arange(length)[None], mask)
    return jax.tree.map(lambda leaf: leaf[:, 0], kv)
