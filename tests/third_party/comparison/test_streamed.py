"""Streamed against whole, on both sides; what differs is seen, and where."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from constellation.model.config import ModelConfig
from constellation.model.weights import load_params
from third_party import model_reference
from third_party.comparison import streamed, whole
from third_party.comparison.batch import LeftPadded
from third_party.comparison.errors import worst_position


def rows(ours: Path, theirs: Path, batch: LeftPadded) -> dict[str, bool]:
    compared, _ = streamed.streamed_rows(ours, theirs, ModelConfig.from_dir(ours), batch)
    return {row.name: row.passed for row in compared}


@pytest.mark.parametrize("tied", [True, False])
def test_streamed_equals_whole(make_dir, batch, tied, monkeypatch) -> None:
    monkeypatch.setattr(streamed, "HEAD_ROWS", 100)  # does not divide the vocabulary
    directory = make_dir(tie_word_embeddings=tied)
    config = ModelConfig.from_dir(directory)
    compared, theirs = streamed.streamed_rows(directory, directory, config, batch)
    assert all(row.passed for row in compared)
    reference = model_reference.load(directory)
    assert worst_position(theirs, model_reference.logits(reference, batch.ids, batch.attention)) < 1e-5
    params = load_params(directory, config, jnp.float32)
    ours = whole.logits(config, params, None, batch)
    assert worst_position(whole.logits_by_layer(config, params, batch), ours) < 1e-5
    assert worst_position(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    "change, unlike",
    [
        ({"rope_theta": 10_100.0}, {"hidden states", "each layer", "logits"}),
        ({"perturbed": "model.layers.1.mlp.down_proj.weight"}, {"hidden states", "each layer", "logits"}),
        ({"rms_norm_eps": 1e-4}, {"hidden states", "each layer", "logits"}),
    ],
    ids=str,
)
def test_another_model_fails(make_dir, model_dir, batch, change, unlike) -> None:
    passed = rows(model_dir, make_dir(**change), batch)
    assert {name.removesuffix(", streamed") for name, right in passed.items() if not right} == unlike


def test_another_final_norm_fails_at_the_logits_alone(model_dir, batch, monkeypatch) -> None:
    norm = streamed.port.final_norm
    monkeypatch.setattr(
        streamed.port, "final_norm", lambda *given: 1.0 + 0.01 * np.arange(64) + 0 * norm(*given)
    )
    passed = rows(model_dir, model_dir, batch)
    assert passed == {
        "hidden states, streamed": True, "each layer, streamed": True, "logits, streamed": False
    }  # fmt: skip


def test_the_batch_is_left_padded_and_uneven(batch) -> None:
    lengths = batch.real.sum(1)
    assert len(set(lengths)) == len(lengths) > 1
    assert batch.real[:, -1].all() and not batch.real[:, 0].all()
    assert [list(row[real]) for row, real in zip(batch.tokens, batch.real, strict=True)] == batch.prompts
