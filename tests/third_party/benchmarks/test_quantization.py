"""The ways of rounding that ours is compared with are what they are called."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from tests.tiny_study import ROOT
from third_party.benchmarks.quantization import NF4, quantization_benchmark, roundings

WEIGHT = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)


def test_nf4_takes_the_nearest_level() -> None:
    rounded = np.asarray(roundings(16)["NF4"](jnp.asarray(WEIGHT))).reshape(6, 2, 16)
    groups = WEIGHT.reshape(6, 2, 16)
    largest = np.abs(groups).max(-1, keepdims=True)
    nearest = NF4[np.abs(groups[..., None] / largest[..., None] - NF4).argmin(-1)] * largest
    np.testing.assert_allclose(rounded, nearest, rtol=1e-6)


def test_plain_rounding_is_within_half_a_step() -> None:
    rounded = np.asarray(roundings(16)["plain rounding"](jnp.asarray(WEIGHT)))
    step = np.abs(WEIGHT.reshape(6, 2, 16)).max(-1, keepdims=True) / 7
    assert (np.abs(rounded - WEIGHT).reshape(6, 2, 16) <= 0.5001 * step).all()


def test_on_the_nano_model() -> None:
    plain, clipped, *_ = rows = quantization_benchmark(ROOT / "constellation/assets/nano", 32)
    assert all(row.kl is not None and 0 < row.kl < 1 for row in rows)
    assert all(all(0.01 < error < 0.2 for error in row.errors.values()) for row in rows)
    assert all(clipped.errors[kind] < plain.errors[kind] for kind in plain.errors)
