"""The Flax face against transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from flax import nnx
from transformers import AutoModelForCausalLM

from constellation.model.config import ModelConfig
from constellation.model.module import CausalLM
from constellation.model.weights import load_params
from tests.model.tiny import dequantize, random_tokens


def test_logits_equal_transformers(model_dir: Path) -> None:
    tokens = random_tokens((2, 9))
    reference = AutoModelForCausalLM.from_pretrained(model_dir)
    with torch.no_grad():
        want = reference(torch.tensor(np.asarray(tokens))).logits.numpy()
    model = CausalLM.from_pretrained(model_dir)
    np.testing.assert_allclose(model(tokens), want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert nnx.state(model, nnx.Param)  # a Flax module like any other


def test_int4(model_dir: Path) -> None:
    tokens = random_tokens((1, 5))
    config = ModelConfig.from_dir(model_dir)
    params = load_params(model_dir, config, "float32", "int4:16")
    want = CausalLM(config, dequantize(params))(tokens)
    np.testing.assert_allclose(
        CausalLM.from_pretrained(model_dir, "int4:16")(tokens), want, rtol=0, atol=1e-5 * np.abs(want).max()
    )
