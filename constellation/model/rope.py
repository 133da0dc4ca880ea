"""Rotary position embeddings (2104.09864) in Hugging Face's half-split layout, plain or scaled."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from constellation.runtime.errors import is_number

# rope_type -> the fields that it must have, and those that it may have.
NEEDED = {
    "linear": {"factor"},
    "yarn": {"factor", "original_max_position_embeddings"},
    "llama3": {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
}
OPTIONAL = {"yarn": {"beta_fast", "beta_slow", "attention_factor"}}


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How positions beyond the trained length are mapped; fields have Hugging Face's names."""

    rope_type: str  # "linear" (2306.15595), "yarn" (2309.00071) or "llama3" (2407.21783)
    factor: float
    original_max_position_embeddings: int = 0  # of all but linear scaling
    # Llama 3's alone:
    low_freq_factor: float = 0.0
    high_freq_factor: float = 0.0
    # YaRN's alone:
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> RopeScaling | None:
        """`rope_scaling` or `rope_parameters` of a config.json, less its rope_theta; None for no scaling.

        Raises:
            ValueError: another type, an unknown field or a bad value; the message says which.
        """
        fields = dict(fields)
        old, new = fields.pop("type", None), fields.pop("rope_type", None)
        kind = next((kind for kind in (new, old) if kind is not None), "default")
        if kind == "default" and not fields:
            return None
        if not isinstance(kind, str) or kind not in NEEDED:
            raise ValueError(f"rope_type {kind!r}")
        needed = NEEDED[kind]
        if unknown := sorted(fields.keys() - needed - OPTIONAL.get(kind, set())):
            raise ValueError(", ".join(unknown))
        given = {name: value for name, value in fields.items() if value is not None}  # null is the default
        for name in sorted(needed | given.keys()):
            value: Any = given.get(name)
            least = 1 if name in ("factor", "original_max_position_embeddings") else 0
            if not is_number(value) or value <= 0 or value < least:
                raise ValueError(f"{name} {value!r}")
        if kind == "llama3" and given["low_freq_factor"] >= given["high_freq_factor"]:
            raise ValueError(f"low_freq_factor {given['low_freq_factor']!r} is not below high_freq_factor")
        return cls(kind, **given)

    def to_fields(self) -> dict[str, Any]:
        """The object that `from_fields` reads as this."""
        names = {"rope_type"} | NEEDED[self.rope_type] | OPTIONAL.get(self.rope_type, set())
        values = dataclasses.asdict(self).items()
        return {name: value for name, value in values if name in names and value is not None}


def rotary(
    positions: jax.Array, dim: int, theta: float, scaling: RopeScaling | None, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """cos and sin [..., 1, H/2] of position * frequency, to broadcast over heads of H = dim; see `rotate`."""
    frequencies, magnitude = scaled_frequencies(dim, theta, scaling)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies.astype(np.float32)
    return (magnitude * jnp.cos(angles)).astype(dtype), (magnitude * jnp.sin(angles)).astype(dtype)


@functools.partial(jax.checkpoint, prevent_cse=False)
def rotate(x: jax.Array, rope: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates the pairs (i, i + H/2) of x [..., heads, H]; the backward recomputes what is elementwise."""
    cos, sin = rope
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def scaled_frequencies(dim: int, theta: float, scaling: RopeScaling | None) -> tuple[np.ndarray, float]:
    """theta^(-2i/H) [H/2], scaled, and what cos and sin are multiplied by."""
    plain = theta ** -(np.arange(0, dim, 2) / dim)
    if scaling is None:
        return plain, 1.0
    if scaling.rope_type == "linear":
        return plain / scaling.factor, 1.0
    if scaling.rope_type == "llama3":
        # Waves that the original length holds often enough stay, those that it does not hold are stretched.
        often, seldom = scaling.high_freq_factor, scaling.low_freq_factor
        times = scaling.original_max_position_embeddings * plain / (2 * math.pi)  # [H/2]
        kept = np.clip((times - seldom) / (often - seldom), 0, 1)
        return plain / scaling.factor * (1 - kept) + plain * kept, 1.0

    def dimension(rotations: float) -> float:
        """The dimension that turns so often over the original length (YaRN, section 3.2)."""
        length = scaling.original_max_position_embeddings
        return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension(scaling.beta_fast)), 0)
    high = min(math.ceil(dimension(scaling.beta_slow)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
    magnitude = scaling.attention_factor
    if magnitude is None:
        magnitude = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
    return plain / scaling.factor * ramp + plain * (1 - ramp), magnitude
