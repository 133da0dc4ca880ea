"""Log-probabilities and next-token logits against transformers, one text at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from constellation.errors import UserError
from constellation.model import score
from constellation.model.model import Model, load_model
from tests.model.tiny import params_and_adapter

RNG = np.random.default_rng(0)
PROMPTS = [RNG.integers(0, 262, length).tolist() for length in (5, 40, 1, 33)]
LENGTHS = (3, 1, 9), (4,), (0, 2), ()
ANSWERS = [[RNG.integers(0, 262, length).tolist() for length in lengths] for lengths in LENGTHS]


@pytest.fixture(scope="module")
def model(model_dir: Path) -> Model:
    return load_model(model_dir)


@pytest.fixture(scope="module")
def reference(model_dir: Path) -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(model_dir).eval()


@pytest.mark.parametrize("limit", [512, 4])
def test_log_prob(
    limit: int, model: Model, reference: AutoModelForCausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "ANSWERS_A_ROW", limit)  # 4 spreads the first prompt over several rows
    ours = score.log_prob(model, None, PROMPTS, ANSWERS)
    for prompt, answers, got in zip(PROMPTS, ANSWERS, ours, strict=True):
        assert got.shape == (len(answers),)
        for answer, value in zip(answers, got, strict=True):
            with torch.no_grad():
                logits = reference(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            picked = torch.log_softmax(logits, -1)[
                torch.arange(len(answer)), torch.tensor(answer, dtype=torch.long)
            ]
            want = picked.sum()
            np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5)


def test_next_token_logits(model: Model, reference: AutoModelForCausalLM) -> None:
    ids = [7, 260, 7]
    ours = score.next_token_logits(model, None, PROMPTS, ids)
    assert ours.shape == (4, 3)
    for prompt, got in zip(PROMPTS, ours, strict=True):
        with torch.no_grad():
            want = reference(torch.tensor([prompt])).logits[0, -1]
        np.testing.assert_allclose(got, want[ids], rtol=0, atol=1e-5 * want.abs().max())


def test_the_adapter_counts_and_batching_does_not(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapter = params_and_adapter()
    together = score.next_token_logits(model, adapter, PROMPTS, [1, 2])
    assert np.abs(together - score.next_token_logits(model, None, PROMPTS, [1, 2])).max() > 0.1
    monkeypatch.setattr(score, "TOKENS_A_BATCH", 1)  # a row at a time
    alone = score.next_token_logits(model, adapter, PROMPTS, [1, 2])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_nothing_to_score(model: Model) -> None:
    assert score.log_prob(model, None, [], []) == []
    assert score.next_token_logits(model, None, [], [3]).shape == (0, 1)
    with pytest.raises(UserError, match="empty"):
        score.log_prob(model, None, [[]], [[[1]]])
