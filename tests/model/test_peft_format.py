"""Adapters in peft's format, against peft in both directions."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter
from constellation.model.peft_format import CONFIG as CONFIG_FILE
from constellation.model.peft_format import TENSORS, load_peft, save_peft
from constellation.model.weights import load_params
from constellation.runtime.errors import UserError
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


@contextmanager
def changed(directory: Path, field: str, value: object) -> Iterator[None]:
    """Another value of a field of the adapter's config."""
    file = directory / CONFIG_FILE
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {field: value}))
    try:
        yield
    finally:
        file.write_text(before)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("bias", "all"),
        ("peft_type", "IA3"),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 2}),
        ("layers_to_transform", [0]),
        ("use_qalora", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"),
        ("lora_alpha", float("nan")),
        ("r", 4.7),
        ("r", True),
        ("target_modules", [1]),
        ("target_modules", "all-linear"),
        ("an_option_of_tomorrow", False),
    ],
)
def test_more_than_plain_lora_is_refused(written, field: str, value: object) -> None:
    directory, config = written
    with changed(directory, field, value), pytest.raises(UserError, match=f"{field} = "):
        load_peft(directory, config)
    with changed(directory, "target_modules", ["lm_head"]), pytest.raises(UserError, match="target lm_head"):
        load_peft(directory, config)


# What peft writes of plain LoRA, and what of it decides neither the adapter's values nor its place.
PLAIN = LoraConfig().to_dict()
INERT = set(
    "auto_mapping base_model_name_or_path inference_mode lora_dropout megatron_core peft_version"
    " qalora_group_size revision runtime_config task_type".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 20) | st.floats() | st.text(max_size=3) | st.just("q_proj"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def is_plain(field: str, value: Any) -> bool:
    """Whether a field of an adapter's config may have the value."""
    if field == "r":
        return type(value) is int and value > 0
    if field == "lora_alpha":
        return type(value) in (int, float) and math.isfinite(value)
    if field == "target_modules":
        return type(value) is list and value != [] and all(type(name) is str for name in value)
    if field in INERT or value is None:
        return True
    if field == "init_lora_weights":
        return value in (True, False)
    if field == "use_rslora":
        return type(value) is bool
    return type(value) is type(PLAIN[field]) and value == PLAIN[field]


@pytest.mark.parametrize("field", PLAIN)
@given(value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_every_field_that_peft_knows_is_plain_or_refused_by_name(written, field: str, value: Any) -> None:
    directory, config = written
    with changed(directory, field, value):
        if not is_plain(field, value):
            with pytest.raises(UserError, match=f"not implemented: {re.escape(f'{field} = {value!r}')}"):
                load_peft(directory, config)
        elif field in ("r", "target_modules") and value != 4:  # that of the tensors
            with pytest.raises(UserError, match=r"does not fit the model|target "):
                load_peft(directory, config)
        else:
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


@pytest.mark.parametrize("content", ["[]", "5", "{"])
def test_a_config_that_is_no_object(written, content: str) -> None:
    directory, config = written
    (directory / CONFIG_FILE).write_text(content)
    with pytest.raises(UserError, match="no whole peft adapter"):
        load_peft(directory, config)
