"""Log-probabilities and next-token logits against transformers, one text at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from constellation.model import score
from constellation.model.lora import Adapter, stack
from constellation.model.model import Generator, Model, load_model
from constellation.model.score import Batching
from constellation.runtime.errors import UserError
from tests.model.tiny import params_and_adapter

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 262, length).tolist() for length in (5, 40, 1, 33)]
LENGTHS = (3, 1, 9), (4,), (0, 2), ()
TEXTS = [[RNG.integers(0, 262, length).tolist() for length in lengths] for lengths in LENGTHS]
# What texts begin with alike is computed once: these are a tree of 9 tokens.
TREE = [[5, 6, 7, 8], [5, 6], [5, 6, 9, 8, 7], [6, 6], [5, 6, 7, 8], []]
PROMPTS, TEXTS = [*PROMPTS, PROMPTS[1]], [*TEXTS, TREE]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Model:
    return load_model(model_dir)


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(model_dir).eval()


def one(model: Model, adapter: Adapter | None) -> Generator:
    return Generator(model, None if adapter is None else stack([adapter]))


def log_prob(
    model: Model, adapter: Adapter | None, prompts: list, texts: list, **batching: Any
) -> list[np.ndarray]:
    """`score.log_prob` of one trajectory."""
    return score.log_prob(one(model, adapter), [prompts], [texts], Batching(**batching))[0]


def next_token_logits(
    model: Model, adapter: Adapter | None, prompts: list, texts: list, ids: list[int], **batching: Any
) -> list[np.ndarray]:
    """`score.next_token_logits` of one trajectory."""
    return score.next_token_logits(one(model, adapter), [prompts], [texts], ids, Batching(**batching))[0]


@pytest.mark.parametrize("text_tokens", [512, 4])  # 4 spreads the first prompt over several rows
def test_log_prob(text_tokens: int, model: Model, reference: AutoModelForCausalLM) -> None:
    ours = log_prob(model, None, PROMPTS, TEXTS, text_tokens=text_tokens)
    for prompt, texts, got in zip(PROMPTS, TEXTS, ours, strict=True):
        assert got.shape == (len(texts),)
        for text, value in zip(texts, got, strict=True):
            with torch.no_grad():
                logits = reference(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
            picked = torch.log_softmax(logits, -1)[
                torch.arange(len(text)), torch.tensor(text, dtype=torch.long)
            ]
            want = picked.sum()
            np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5)


def test_next_token_logits(model: Model, reference: AutoModelForCausalLM) -> None:
    ids = [7, 260, 7]
    ours = next_token_logits(model, None, PROMPTS, TEXTS, ids)
    for prompt, texts, got in zip(PROMPTS, TEXTS, ours, strict=True):
        assert got.shape == (len(texts), 3)
        for text, values in zip(texts, got, strict=True):
            with torch.no_grad():
                want = reference(torch.tensor([prompt + text])).logits[0, -1]
            np.testing.assert_allclose(values, want[ids], rtol=0, atol=1e-5 * want.abs().max())


def test_what_all_prompts_begin_with_is_computed_once(model: Model) -> None:
    _, adapter = params_and_adapter()
    beginning = RNG.integers(0, 262, 80).tolist()
    prompts = [beginning + prompt for prompt in PROMPTS]

    def scores(**batching: Any) -> list[np.ndarray]:
        answers = next_token_logits(model, adapter, prompts, TEXTS, [7, 9], **batching)
        return [*log_prob(model, adapter, prompts, TEXTS, **batching), *answers]

    for one, other in zip(scores(), scores(shared_tokens=1000), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_what_texts_begin_with_is_computed_once() -> None:
    (row,) = score._rows(0, 0, [1, 2], TREE, 9)
    assert row.texts == [5, 1, 0, 4, 2, 3]
    assert row.tokens == [1, 2, 5, 6, 7, 8, 9, 8, 7, 6, 6]
    assert row.positions == [0, 1, 2, 3, 4, 5, 4, 5, 6, 2, 3]
    assert row.sources == [1, 2, 3, 4, 3, 6, 7, 1, 9]
    assert row.ends == [11, 11, 9, 9, 6, 6, 9, 9, 9, 11, 11]
    assert [len(row.tokens) for row in score._rows(0, 0, [1, 2], TREE, 8)] == [9, 4]


def test_the_adapter_counts_and_batching_does_not(model: Model) -> None:
    _, adapter = params_and_adapter()
    together, bare = (log_prob(model, either, PROMPTS, TEXTS) for either in (adapter, None))
    assert np.abs(together[0] - bare[0]).max() > 0.1
    a_row_at_a_time = log_prob(model, adapter, PROMPTS, TEXTS, tokens=1)
    for one, other in zip(together, a_row_at_a_time, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "lengths"), [(4096, [320]), (400, [192, 192, 320]), (1, [64, 128, 192, 320])]
)
def test_a_length_that_fills_no_batch_goes_with_a_longer_one(
    tokens: int, lengths: list[int], model: Model
) -> None:
    batching = Batching(tokens=tokens)
    fixed, prompts = score._fixed(
        one(model, None), [[[1] * length for length in (20, 90, 150, 300)]], batching
    )
    batches = list(score._batches(fixed, prompts, [[[[2]], [[3, 4]], [[5]], [[6]]]], batching))
    assert [batch.padded.tokens.shape[-1] for batch in batches] == lengths
    assert sum(len(batch.rows) for batch in batches) == 4


@pytest.mark.parametrize("shared_tokens", [1, 1000])
def test_trajectories_together_score_what_each_scores_alone(model: Model, shared_tokens: int) -> None:
    _, adapter = params_and_adapter()
    adapters = [adapter, jax.tree.map(lambda x: 0.5 * x, adapter)]
    beginning = RNG.integers(0, 262, 20).tolist()
    prompts = [[beginning + prompt for prompt in PROMPTS], [beginning + PROMPTS[-1]]]
    texts = [TEXTS, [TEXTS[-1]]]
    together, shared = Generator(model, stack(adapters)), {"shared_tokens": shared_tokens}
    scores = score.log_prob(together, prompts, texts, Batching(**shared))
    answers = score.next_token_logits(together, prompts, texts, [7, 9], Batching(**shared))
    for index, adapter in enumerate(adapters):
        alone = log_prob(model, adapter, prompts[index], texts[index], **shared)
        alone += next_token_logits(model, adapter, prompts[index], texts[index], [7, 9], **shared)
        for one, other in zip(alone, [*scores[index], *answers[index]], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-4)


def test_nothing_to_score(model: Model) -> None:
    assert log_prob(model, None, [], []) == []
    assert next_token_logits(model, None, [[1]], [[]], [3])[0].shape == (0, 1)
    with pytest.raises(UserError, match="empty"):
        log_prob(model, None, [np.array([], np.int32)], [[[1]]])
