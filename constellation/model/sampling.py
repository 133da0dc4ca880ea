"""How the next token is drawn from its logits: temperature, top-k, top-p, Gumbel-max."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from constellation.runtime.errors import UserError


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """What changes the distribution of the samples. Hashable: a static jit argument."""

    n: int  # samples a task
    temperature: float = 1.0  # divides the logits; 0 takes the most likely token
    top_k: int = 0  # draw among the k most likely tokens; 0 for all
    top_p: float = 1.0  # then draw among the fewest tokens that hold this probability (1904.09751); 1 for all
    max_new_tokens: int = 64  # draws a sample, the stop token's included; one that needs more is unfinished
    int8_kv: bool = False  # whether the KV cache is kept in int8, with a scale for each position and head

    def __post_init__(self) -> None:
        for name, valid, wanted in (
            ("n", self.n >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_k", self.top_k >= 0, "at least 0 (0 for no limit)"),
            ("top_p", 0 < self.top_p <= 1, "in (0, 1]"),
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
        ):
            if not valid:
                raise UserError(f"sampling.{name} = {getattr(self, name)} must be {wanted}")

    def compiled(self) -> SamplingConfig:
        """What a draw is compiled for: all sizes and temperatures share the functions."""
        return dataclasses.replace(self, n=1, max_new_tokens=1, temperature=1.0)


def scores(
    logits: jax.Array, key: jax.Array, config: SamplingConfig, temperature: jax.Array | None = None
) -> jax.Array:
    """Scores [V] whose argmax is the token: filtered logits / temperature + Gumbel noise (1611.01144, eq. 1).

    They are -inf where a filter removes the token. The noise of a token depends on the key and the token
    alone, so neither the filters nor the size of the vocabulary change the draws.

    Args:
        temperature: [] takes the place of the config's, where one compiled function serves all of them.
    """
    if temperature is None:
        temperature = jnp.float32(config.temperature)

    def drawn() -> jax.Array:
        filtered = truncate(logits / temperature, config.top_k, config.top_p)
        return filtered + jax.random.gumbel(key, logits.shape)

    return jax.lax.cond(temperature == 0, lambda: logits, drawn)


def truncate(logits: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """Top-k, then top-p: logits [V] with -inf outside. What ties with the least likely kept token is kept."""
    k = min(top_k, logits.size) or logits.size
    if k == logits.size and top_p == 1:
        return logits
    top = jax.lax.top_k(logits, k)[0]  # descending
    probabilities = jax.nn.softmax(top)
    before = jnp.cumsum(probabilities) - probabilities  # held by the more likely tokens
    least = jnp.min(top, where=(before < top_p) | (top_p == 1), initial=jnp.inf)
    return jnp.where(logits >= least, logits, -jnp.inf)
