"""Greedy continuations and sampled frequencies: that they pass, and that a difference is seen."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from constellation.model.model import load_model
from constellation.model.sampling import SamplingConfig
from third_party import model_reference
from third_party.comparison.decoding import PLAIN, TRUNCATED, bins, greedy_rows, sampling_row


@pytest.fixture(scope="module")
def model(model_dir):
    return load_model(model_dir)


@pytest.fixture(scope="module")
def reference(model_dir):
    return model_reference.load(model_dir)


def greedy(model, reference, prompts, error=1e-5) -> tuple[float, bool]:
    differing, left_out = greedy_rows(model, reference, prompts, error, tokens=16)
    return differing.value, left_out.passed


def test_greedy_continuations(model, reference, batch) -> None:
    assert greedy(model, reference, batch.prompts) == (0, True)
    other = dataclasses.replace(model, params=model.params | {"norm": jnp.flip(model.params["norm"])})
    assert greedy(other, reference, batch.prompts) == (len(batch.prompts), True)
    # A difference where torch's lead is uncertain is no failure, but too many uncertain tokens are one.
    assert greedy(other, reference, batch.prompts, error=1e3) == (0, False)


def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 2, (6, 300)).astype(np.float32)


@pytest.mark.parametrize("sampling", [PLAIN, TRUNCATED], ids=["plain", "truncated"])
def test_sampled_frequencies(sampling: SamplingConfig) -> None:
    assert sampling_row("", logits(), logits(), sampling).passed
    warmer = dataclasses.replace(sampling, temperature=1.1 * sampling.temperature)
    monkey = logits() / warmer.temperature * sampling.temperature
    assert not sampling_row("", monkey, logits(), sampling).passed


def test_a_token_that_torch_never_draws() -> None:
    theirs = np.where(np.arange(300) == logits().argmax(1)[:, None], -np.inf, logits())
    assert sampling_row("", logits(), theirs, PLAIN).value == 0


def test_nothing_to_choose_is_no_pass() -> None:
    certain = np.where(np.arange(300) == 7, 0.0, -np.inf).astype(np.float32)[None]
    assert not sampling_row("", certain, certain, PLAIN).passed


def test_bins_hold_enough() -> None:
    expected = np.array([9.0, 4.0, 3.0, 2.0, 2.0, 2.0, 1.0, 0.5])
    assert list(bins(expected)) == [0, 1, 3]
    assert list(bins(expected[:7])) == [0, 1, 3]
    assert list(bins(np.array([1.0, 1.0]))) == [0]
