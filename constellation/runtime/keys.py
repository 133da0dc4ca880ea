"""Addressed randomness: every draw has a key made of the seed and the place where the draw is used.

An address is folded part by part in the order (purpose, arm, replicate, task, sample, position), so a draw is
the same under any batching, device count or resume, and two places share one only if 32-bit hashes collide.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import jax


@dataclasses.dataclass(frozen=True)
class Address:
    """Where draws are used, in each of some trajectories.

    Attributes:
        seed: of the experiment, in [0, 2^32).
        purpose: what is drawn, as "batches".
        arm: the model or stage that it is drawn for.
        replicate: of trajectory 0; trajectory r has replicate + r.
    """

    seed: int
    purpose: str
    arm: str
    replicate: int = 0

    def parts(self, trajectory: int = 0) -> tuple[int, str, str, int]:
        """The address of a trajectory, as `fold` and `host_rng` take it."""
        return self.seed, self.purpose, self.arm, self.replicate + trajectory

    def key(self, trajectory: int = 0) -> jax.Array:
        return fold(*self.parts(trajectory))

    def keys(self, trajectories: int) -> jax.Array:
        """[trajectories]"""
        import jax.numpy as jnp

        return jnp.stack([self.key(trajectory) for trajectory in range(trajectories)])

    def rng(self, trajectory: int = 0) -> np.random.Generator:
        return host_rng(*self.parts(trajectory))

    def order(self) -> np.random.Generator:
        """A numpy generator that all trajectories share."""
        return host_rng(self.seed, "order", self.purpose, self.arm)


def fold(key: int | jax.Array, *address: str | int) -> jax.Array:
    """The threefry key of an address: a typed scalar; fold(fold(seed, a), b) is fold(seed, a, b).

    `key` is the seed or the key of a shorter address to extend. Raises ValueError: a seed or an integer of
    the address outside [0, 2^32).
    """
    import jax  # here, because model-free programs draw from `host_rng` and should not wait for JAX

    if isinstance(key, int):
        # rbg keys would draw the same numbers for every row of a vmap
        key = jax.random.key(word(key), impl="threefry2x32")
    for part in address:
        key = jax.random.fold_in(key, word(part))
    return key


def word(part: str | int) -> np.uint32:
    """An address part as the 32 bits that are folded in: integers as they are, texts by their blake2b hash.

    Raises ValueError: an integer outside [0, 2^32).
    """
    if isinstance(part, str):
        return np.uint32(int.from_bytes(hashlib.blake2b(part.encode(), digest_size=4).digest(), "little"))
    if not 0 <= part < 2**32:
        raise ValueError(f"{part} is outside [0, 2^32)")
    return np.uint32(part)


def host_rng(seed: int, *address: str | int) -> np.random.Generator:
    """A numpy generator of an address, for draws that need no model; imports no JAX."""
    text = repr((seed, *address)).encode()  # repr keeps 1 and "1" apart, and ("ab",) and ("a", "b")
    entropy = int.from_bytes(hashlib.blake2b(text, digest_size=32).digest(), "little")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))
