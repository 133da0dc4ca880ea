"""Logits streamed against whole, on both sides; what differs is seen, and where."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import pytest
from aqt.jax.v2.aqt_tensor import QTensor

from constellation.model.config import ModelConfig
from constellation.model.weights import load_params
from third_party import model_reference
from third_party.comparison import logits
from third_party.comparison.logits import LeftPadded
from third_party.comparison.table import worst_position


def rows(ours: Path, theirs: Path, batch: LeftPadded) -> dict[str, bool]:
    compared, _ = logits.streamed_rows(ours, theirs, ModelConfig.from_dir(ours), batch)
    return {row.name: row.passed for row in compared}


@pytest.mark.parametrize("tied", [True, False])
def test_streamed_equals_whole(make_dir, batch, tied) -> None:
    directory = make_dir(tie_word_embeddings=tied)
    config = ModelConfig.from_dir(directory)
    compared, theirs = logits.streamed_rows(
        directory,
        directory,
        config,
        batch,
        head_rows=100,  # does not divide the vocabulary
    )
    assert all(row.passed for row in compared)
    reference = model_reference.load(directory)
    assert worst_position(theirs, model_reference.logits(reference, batch.ids, batch.attention)) < 1e-5
    params = load_params(directory, config, jnp.float32)
    ours = logits.whole_logits(config, params, None, batch)
    assert worst_position(logits.logits_by_layer(config, params, batch), ours) < 1e-5
    assert worst_position(ours, theirs) < 1e-5


@pytest.mark.parametrize(
    "change, unlike",
    [
        ({"rope_theta": 10_100.0}, {"hidden states", "each layer", "logits"}),
        ({"perturbed": "model.layers.1.mlp.down_proj.weight"}, {"hidden states", "each layer", "logits"}),
        ({"rms_norm_eps": 1e-4}, {"hidden states", "each layer", "logits"}),
    ],
    ids=["rope_theta", "perturbed", "rms_norm_eps"],
)
def test_another_model_fails(make_dir, model_dir, batch, change, unlike) -> None:
    passed = rows(model_dir, make_dir(**change), batch)
    assert {name.removesuffix(", streamed") for name, right in passed.items() if not right} == unlike


def test_another_final_norm_fails_at_the_logits_alone(make_dir, model_dir, batch) -> None:
    passed = rows(model_dir, make_dir(perturbed="model.norm.weight"), batch)
    assert passed == {
        "hidden states, streamed": True, "each layer, streamed": True, "logits, streamed": False
    }  # fmt: skip


def test_another_int4_scale_fails(model_dir, batch) -> None:
    config, reference = ModelConfig.from_dir(model_dir), model_reference.load(model_dir)
    params = load_params(model_dir, config, jnp.float32, "int4:32")

    def larger(weight):
        if not isinstance(weight, QTensor):
            return weight
        return dataclasses.replace(weight, scale=[1.01 * scale for scale in weight.scale])

    layers = {name: larger(weight) for name, weight in params["layers"].items()}
    for given, passed in ((params, True), (params | {"layers": layers}, False)):
        logits.multiply_out(reference, config, given)
        assert logits.int4_row(config, params, reference, batch).passed is passed


def test_the_batch_is_left_padded_and_uneven(batch) -> None:
    lengths = batch.real.sum(1)
    assert len(set(lengths)) == len(lengths) > 1
    assert batch.real[:, -1].all() and not batch.real[:, 0].all()
    assert [list(row[real]) for row, real in zip(batch.tokens, batch.real, strict=True)] == batch.prompts
