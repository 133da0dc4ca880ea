"""The pretraining step, against transformers and torch."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import optax
import torch
from transformers import AutoModelForCausalLM

from constellation.model.config import ModelConfig
from constellation.model.decoder import init_params
from constellation.model.port import save_hf
from constellation.model.weights import load_params
from constellation.nano.train_step import PretrainingBatch, make_train_step

CONFIG = ModelConfig(
    vocab_size=40,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    tie_word_embeddings=True,
)


def test_a_step_is_that_of_torch(tmp_path: Path) -> None:
    save_hf(tmp_path, CONFIG, init_params(CONFIG, jax.random.key(0), std=0.2))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 40, (6, 12)).astype(np.int32)
    weight = rng.choice([0.0, 0.1, 1.0], (6, 12)).astype(np.float32)
    weight[:, 0] = 0

    reference = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.5)
    logits = reference(torch.from_numpy(tokens).long()).logits[:, :-1]
    targets, weights = torch.from_numpy(tokens[:, 1:]).long(), torch.from_numpy(weight[:, 1:])
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    loss = (losses * weights).sum() / weights.sum()
    loss.backward()
    optimizer.step()
    reference.save_pretrained(tmp_path / "after")
    hits = (logits.argmax(-1) == targets)[weights == 1].float().mean()

    params = load_params(tmp_path, CONFIG, np.float32)
    sgd = optax.sgd(0.5)
    step = make_train_step(CONFIG, sgd)
    params, _, metrics = step(params, sgd.init(params), PretrainingBatch(tokens, weight))
    assert np.isclose(metrics["loss"], loss.item(), rtol=1e-5)
    assert np.isclose(metrics["answer_accuracy"], hits.item())
    expected = load_params(tmp_path / "after", CONFIG, np.float32)
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
