"""Adapters in peft's format, against peft in both directions."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from constellation.errors import UserError
from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter
from constellation.model.peft_format import CONFIG as CONFIG_FILE
from constellation.model.peft_format import TENSORS, load_peft, save_peft
from constellation.model.weights import load_params
from tests.model.tiny import causal, params_and_adapter, random_tokens


def our_logits(directory: Path, adapter: Adapter, tokens: jax.Array) -> np.ndarray:
    config = ModelConfig.from_dir(directory)
    params = load_params(directory, config, jnp.float32)
    hidden = decoder.forward(config, params, adapter, tokens, *causal(*tokens.shape))
    return np.asarray(decoder.logits(config, params, hidden))


def their_logits(model: PeftModel, tokens: jax.Array) -> np.ndarray:
    with torch.no_grad():
        return model(input_ids=torch.tensor(np.asarray(tokens))).logits.numpy()


def test_peft_loads_ours(model_dir: Path, tmp_path: Path) -> None:
    config, adapter = ModelConfig.from_dir(model_dir), params_and_adapter()[1]
    save_peft(tmp_path, config, adapter, str(model_dir))
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, tmp_path).eval()
    tokens = random_tokens((2, 9))
    want = their_logits(model, tokens)
    np.testing.assert_allclose(our_logits(model_dir, adapter, tokens), want, atol=1e-5 * np.abs(want).max())
    again = load_peft(tmp_path, config)
    jax.tree.map(np.testing.assert_array_equal, again.weights, adapter.weights)
    assert again.scale == adapter.scale


@pytest.mark.parametrize("rslora", [False, True])
def test_ours_loads_pefts(rslora: bool, model_dir: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    wanted = LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"], use_rslora=rslora, task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, wanted).eval()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    adapter = load_peft(tmp_path, ModelConfig.from_dir(model_dir))
    tokens = random_tokens((2, 9))
    want = their_logits(model, tokens)
    np.testing.assert_allclose(our_logits(model_dir, adapter, tokens), want, atol=1e-5 * np.abs(want).max())


@pytest.fixture
def written(model_dir: Path, tmp_path: Path) -> tuple[Path, ModelConfig]:
    config = ModelConfig.from_dir(model_dir)
    save_peft(tmp_path, config, params_and_adapter()[1], str(model_dir))
    return tmp_path, config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("peft_type", "IA3"),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 2}),
        ("layers_to_transform", [0]),
        ("target_modules", ["lm_head"]),
    ],
)
def test_more_than_plain_lora_is_refused(written, field: str, value: object) -> None:
    directory, config = written
    fields = json.loads((directory / CONFIG_FILE).read_text())
    (directory / CONFIG_FILE).write_text(json.dumps(fields | {field: value}))
    with pytest.raises(UserError, match=field if field != "target_modules" else "lm_head"):
        load_peft(directory, config)


def test_tensors_that_do_not_fit(written) -> None:
    directory, config = written
    tensors = load_file(directory / TENSORS)
    prefix = "base_model.model.model.layers"
    del tensors[f"{prefix}.1.mlp.up_proj.lora_A.weight"]
    tensors[f"{prefix}.0.self_attn.q_proj.lora_B.weight"] = np.zeros((3, 4), np.float32)
    tensors["base_model.model.lm_head.lora_A.weight"] = np.zeros(1, np.float32)
    save_file(tensors, directory / TENSORS)
    with pytest.raises(UserError) as caught:
        load_peft(directory, config)
    for words in ("missing", "up_proj.lora_A", "is [3, 4]", "unexpected base_model.model.lm_head"):
        assert words in str(caught.value)


def test_a_directory_that_holds_none(written, tmp_path: Path) -> None:
    directory, config = written
    (directory / TENSORS).write_bytes(b"cut")
    with pytest.raises(UserError, match="no whole peft adapter"):
        load_peft(directory, config)
    with pytest.raises(UserError, match="no whole peft adapter"):
        load_peft(tmp_path / "nothing", config)
