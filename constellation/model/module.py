"""The decoder as a Flax module: the face a newcomer tries first."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.weights import load_params

_forward = jax.jit(decoder.forward, static_argnums=0)
_logits = jax.jit(decoder.logits, static_argnums=0)


class CausalLM(nnx.Module):
    """A thin shell: the parameters as nnx variables, and one call of the pure functions in `decoder`.

    >>> model = CausalLM.from_pretrained("constellation/assets/nano")
    >>> logits = model(tokens)  # [B, T] -> [B, T, V]
    """

    def __init__(self, config: ModelConfig, params: decoder.Params) -> None:
        self.config = config
        self.params = nnx.data(jax.tree.map(nnx.Param, params))

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, quantization: str = "", dtype: str = "float32"
    ) -> CausalLM:
        """Loads a Hugging Face directory; arguments and errors as for `load_model`."""
        config = ModelConfig.from_dir(directory)
        return cls(config, load_params(directory, config, jnp.dtype(dtype), quantization))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of the token after each, float32 [B, T, V], for tokens [B, T] without padding."""
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        mask = positions[:, :, None] >= positions[:, None, :]
        params = nnx.as_pure(self.params)
        hidden = _forward(self.config, params, None, tokens, positions, mask)
        return _logits(self.config, params, hidden)
