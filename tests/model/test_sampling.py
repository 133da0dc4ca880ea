"""Filters against transformers' own, draws against the distribution they must have."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper

from constellation.model.sampling import SamplingConfig, scores, truncate
from constellation.runtime.errors import UserError

LOGITS = np.random.default_rng(0).normal(0, 3, (50, 37)).astype(np.float32)


def reference(logits: np.ndarray, top_k: int, top_p: float) -> torch.Tensor:
    """[B, V] filtered by transformers."""
    filtered = torch.tensor(logits)
    if top_k:
        filtered = TopKLogitsWarper(top_k)(None, filtered)
    return TopPLogitsWarper(top_p)(None, filtered) if top_p < 1 else filtered


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (100, 1.0), (0, 0.7), (0, 0.01), (20, 0.8)])
def test_truncation_is_that_of_transformers(top_k: int, top_p: float):
    ours = jax.vmap(lambda logits: truncate(logits, top_k, top_p))(LOGITS)
    np.testing.assert_array_equal(ours, reference(LOGITS, top_k, top_p).numpy())


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.6, 0, 1.0), (0.7, 20, 0.8)])
def test_draws_follow_the_softmax(temperature: float, top_k: int, top_p: float):
    config = SamplingConfig(n=1, temperature=temperature, top_k=top_k, top_p=top_p)
    keys = jax.random.split(jax.random.key(0), 20_000)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: jnp.argmax(scores(LOGITS[0], key, config))))(keys))
    logits = reference(LOGITS[:1] / temperature, top_k, top_p)[0]
    probabilities = torch.softmax(logits.double(), -1).numpy()
    assert chi_square(draws, probabilities) > 1e-3
    assert chi_square(draws, np.roll(probabilities, 1)) < 1e-6  # the test has power


def chi_square(draws: np.ndarray, probabilities: np.ndarray) -> float:
    """The p-value of the draws; outcomes of which less than five are expected are pooled."""
    expected = probabilities * draws.size
    observed = np.bincount(draws, minlength=probabilities.size)
    rare = expected < 5
    pooled = [np.append(x[~rare], x[rare].sum()) for x in (observed, expected)]
    if pooled[1][-1] == 0:
        if pooled[0][-1]:
            return 0.0  # an outcome of probability 0
        pooled = [x[:-1] for x in pooled]
    return scipy.stats.chisquare(*pooled).pvalue


def test_noise_belongs_to_the_token_whatever_the_filter_or_vocabulary():
    key = jax.random.key(4)
    config = SamplingConfig(n=1)
    noise = scores(jnp.zeros(37), key, config)
    np.testing.assert_array_equal(scores(jnp.zeros(20), key, config), noise[:20])
    filtered = scores(LOGITS[0], key, SamplingConfig(n=1, temperature=0.5, top_k=4))
    kept = np.isfinite(filtered)
    assert kept.sum() == 4
    np.testing.assert_array_equal(filtered[kept], (LOGITS[0] / np.float32(0.5) + noise)[kept])


def test_temperature_zero_is_greedy():
    config = SamplingConfig(n=1, temperature=0, top_k=3, top_p=0.5)
    assert jnp.argmax(scores(LOGITS[0], jax.random.key(0), config)) == LOGITS[0].argmax()


@pytest.mark.parametrize(
    ("field", "value"), [("n", 0), ("temperature", -1), ("top_k", -1), ("top_p", 0), ("max_new_tokens", 0)]
)
def test_settings_out_of_range(field: str, value: Any):
    settings: dict[str, Any] = {"n": 1} | {field: value}
    with pytest.raises(UserError, match=f"sampling.{field}"):
        SamplingConfig(**settings)
