"""config.json: what is honoured, what is inert, what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config

from constellation.model.config import FIXED, ModelConfig
from constellation.model.lora import layer_weights
from constellation.model.rope import RopeScaling
from constellation.runtime.errors import UserError
from tests.model.tiny import CONFIG, FIELDS

# The fields of Qwen/Qwen3-4B as published.
QWEN3_4B: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2560,
    "initializer_range": 0.02,
    "intermediate_size": 9728,
    "max_position_embeddings": 40960,
    "max_window_layers": 36,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.0",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def test_the_published_4b_config() -> None:
    config = ModelConfig.from_fields(QWEN3_4B)
    assert (config.rope_theta, config.head_dim, config.tie_word_embeddings) == (1e6, 128, True)
    matrices = layer_weights(config)
    norms = 2 * config.hidden_size + 2 * config.head_dim
    total = config.num_hidden_layers * (matrices + norms) + (config.vocab_size + 1) * config.hidden_size
    assert total == 4_022_468_096


def test_both_spellings_of_the_rotary_base(tmp_path: Path) -> None:
    old = {"model_type": "qwen3", **FIELDS}
    new = {key: value for key, value in old.items() if key != "rope_theta"}
    new["rope_parameters"] = {"rope_theta": FIELDS["rope_theta"], "rope_type": "default"}
    for fields in (old, new):
        (tmp_path / "config.json").write_text(json.dumps(fields))
        assert ModelConfig.from_dir(tmp_path) == CONFIG
    with pytest.raises(UserError, match=r"rope_theta = 5\.0 beside another in rope_parameters"):
        ModelConfig.from_fields(new | {"rope_theta": 5.0})


def test_what_we_write_transformers_reads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_fields()))
    assert ModelConfig.from_dir(tmp_path) == CONFIG
    theirs = Qwen3Config.from_pretrained(tmp_path)
    assert theirs.rope_parameters["rope_theta"] == CONFIG.rope_theta
    for name in FIELDS.keys() - {"rope_theta"}:
        assert getattr(theirs, name) == getattr(CONFIG, name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "llama"}, "'llama'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"layer_types": ["sliding_attention"] * 3}, "layer_types"),
        ({"layer_types": 5}, "layer_types"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "original_max_position_embeddings"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "dynamic"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0.5}}, "factor 0.5"),
        ({"rope_parameters": "yarn"}, "rope_parameters = 'yarn'"),
        ({"rope_parameters": {"rope_theta": 1e6, "partial_rotary_factor": 0.5}}, "rope_parameters"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"logit_scale": 2.0}, "logit_scale"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"hidden_size": "48"}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 15}, "head_dim"),
    ],
    ids=str,
)
def test_refusals(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig.from_fields({"model_type": "qwen3", **FIELDS} | change)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(10**400)
    | st.text(max_size=4)
    | st.sampled_from(["yarn", "linear", "default", "silu", "full_attention"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}


def is_positive(value: Any, *types: type, most: float = sys.float_info.max) -> bool:
    return type(value) in types and 0 < value <= most


def is_right(field: str, value: Any) -> bool:
    """Whether a field may have the value, by the table of types alone."""
    if field in ("rope_parameters", "rope_scaling"):
        return value is None or value == {}
    if field == "layer_types":
        return value is None or (type(value) is list and set(map(str, value)) <= {"full_attention"})
    if field in FIXED:
        return value == FIXED[field] and (type(value) is bool) == (type(FIXED[field]) is bool)
    if field == "model_type":
        return value == "qwen3"
    if field == "tie_word_embeddings":
        return type(value) is bool
    if type(FIELDS[field]) is float:
        return is_positive(value, int, float)
    return is_positive(value, int, most=2**31 - 1)


@pytest.mark.parametrize(
    "field", [*FIELDS, *FIXED, "model_type", "layer_types", "rope_parameters", "rope_scaling"]
)
@given(value=JSON)
def test_a_value_of_a_wrong_type_is_refused_by_its_fields_name(field: str, value: Any) -> None:
    fields = {"model_type": "qwen3", **FIELDS} | {field: value}
    if is_right(field, value):
        try:
            ModelConfig.from_fields(fields)
        except UserError as error:  # heads that do not divide, an odd head
            assert "must be" in str(error)
        return
    with pytest.raises(UserError, match=field):
        ModelConfig.from_fields(fields)


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("field", ["rope_theta", *(field.name for field in dataclasses.fields(RopeScaling))])
@given(value=JSON)
def test_so_is_a_value_of_the_rotary_embedding(spelling: str, field: str, value: Any) -> None:
    rope = {"rope_theta": 1e4} | YARN | {field: value}
    fields = {"model_type": "qwen3", **FIELDS, spelling: rope}
    del fields["rope_theta"]
    if field == "rope_type":
        right = value == "yarn"
    elif field in ("factor", "original_max_position_embeddings"):
        right = is_positive(value, int, float) and value >= 1
    else:
        right = is_positive(value, int, float) or (value is None and field != "rope_theta")
    if right:
        config = ModelConfig.from_fields(fields)
        assert config.rope_scaling is not None
        assert config.rope_theta == rope["rope_theta"] and config.rope_scaling.factor == rope["factor"]
        return
    reason = f"rope_theta = {value!r} is not" if field == "rope_theta" else f"({field} "
    if value == "linear" and field == "rope_type":
        reason = "(original_max_position_embeddings)"  # which linear scaling does not have
    with pytest.raises(UserError, match=re.escape(reason)):
        ModelConfig.from_fields(fields)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(UserError, match="rope_theta"):
        ModelConfig.from_fields({key: value for key, value in QWEN3_4B.items() if key != "rope_theta"})


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_an_unreadable_file(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json"):
        ModelConfig.from_dir(tmp_path)
