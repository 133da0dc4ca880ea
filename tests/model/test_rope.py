"""Rotary frequencies against transformers', and their scalings through the whole model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.weights import load_params
from tests.model.tiny import causal, random_tokens

LENGTH = 40
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


def both_logits(directory: Path) -> tuple[np.ndarray, np.ndarray]:
    config, tokens = ModelConfig.from_dir(directory), random_tokens((1, LENGTH))
    params = load_params(directory, config, jnp.float32)
    ours = decoder.logits(config, params, decoder.forward(config, params, None, tokens, *causal(1, LENGTH)))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(
            torch.tensor(np.asarray(tokens))
        )
    return np.asarray(ours), theirs.logits.numpy()


@pytest.mark.parametrize(
    ("scaling", "old"),
    [
        ({"rope_type": "linear", "factor": 2.0}, False),
        ({"type": "linear", "factor": 2.0}, True),
        (YARN, False),
        (YARN, True),
        (YARN | {"beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.3}, False),
    ],
    ids=str,
)
def test_scaling_equals_transformers(make_dir, scaling: dict[str, Any], old: bool) -> None:
    directory = make_dir()
    plain, _ = both_logits(directory)
    fields = json.loads((directory / "config.json").read_text())
    theta = fields.pop("rope_theta", None) or fields["rope_parameters"]["rope_theta"]
    del fields["rope_parameters"]
    if old:
        fields |= {"rope_theta": theta, "rope_scaling": scaling}
    else:
        fields["rope_parameters"] = {"rope_theta": theta} | scaling
    (directory / "config.json").write_text(json.dumps(fields))
    ours, theirs = both_logits(directory)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
    assert np.abs(ours - plain).max() > 0.01 * np.abs(plain).max()


def test_what_is_written_is_read_again(make_dir) -> None:
    fields = json.loads((make_dir() / "config.json").read_text())
    fields["rope_parameters"] = {"rope_theta": 5e6, **YARN}
    config = ModelConfig.from_fields(fields)
    assert config.rope_scaling is not None and config.rope_theta == 5e6
    assert ModelConfig.from_fields(config.to_fields()) == config
