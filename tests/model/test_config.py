"""config.json: what is honoured, what is inert, what is refused."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, Qwen3Config

from constellation.model.config import FULL, SLIDING, ModelConfig
from constellation.model.families import FAMILIES
from constellation.model.lora import layer_weights
from constellation.model.rope import NEEDED, OPTIONAL
from constellation.runtime.errors import UserError
from tests.model.tiny import CONFIG, FIELDS, tiny_config

FIXED = FAMILIES["qwen3"].fixed

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
        ({"model_type": "mistral"}, "'mistral', and what is implemented is qwen3, qwen2, llama, gemma2"),
        ({"model_type": ["qwen3"]}, "model_type"),
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


@pytest.mark.parametrize(
    ("model_type", "change", "words"),
    [
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2", {"attention_bias": False}, "attention_bias = False"),
        ("qwen2", {"layer_types": [FULL, SLIDING, FULL]}, "layer_types other than full_attention"),
        ("llama", {"attention_bias": True}, "attention_bias"),
        ("llama", {"mlp_bias": True}, "mlp_bias"),
        ("llama", {"sliding_window": 8}, "sliding_window"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "high_freq_factor None"),
        ("gemma2", {"hidden_activation": "gelu"}, "hidden_activation"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma2", {"rope_local_base_freq": 1e4}, "rope_local_base_freq"),
        ("gemma2", {"layer_types": [FULL, SLIDING]}, "of 2 layers, and num_hidden_layers is 3"),
        ("gemma2", {"layer_types": [FULL, "chunked_attention", FULL]}, "layer_types other than"),
        ("gemma2", {"sliding_window": 0}, "sliding_window = 0"),
        ("gemma2", {"sliding_window": None}, "sliding_window = None"),
        ("gemma2", {"query_pre_attn_scalar": None}, "query_pre_attn_scalar = None"),
        ("gemma2", {"sliding_window_pattern": 3}, "sliding_window_pattern"),
        ("gemma2", {"num_hidden_layers": 10**400}, "at most 10,000"),
        ("gemma3_text", {"rope_parameters": {FULL: "x"}}, "rope_parameters"),
        ("gemma3_text", {"rope_parameters": {SLIDING: 5}}, "rope_parameters"),
        ("gemma3_text", {"rope_local_base_freq": None}, "rope_local_base_freq = None"),
        ("gemma3_text", {"rope_local_base_freq": 7.0}, "rope_local_base_freq = 7.0 beside another"),
        ("gemma2", {"final_logit_softcapping": -1}, "final_logit_softcapping = -1"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3_text", {"layer_types": None, "sliding_window_pattern": 0}, "sliding_window_pattern = 0"),
        ("gemma3_text", {"vision_config": {}}, "vision_config"),
        (
            "gemma3_text",
            {"rope_parameters": {SLIDING: {"rope_type": "linear", "factor": 2.0}}},
            "sliding_attention: .*only the default",
        ),
    ],
    ids=str,
)
def test_refusals_of_other_families(model_type: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ModelConfig.from_fields(tiny_config(model_type).to_fields() | change)


_OLD = {"attention_dropout": 0.0, "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": True}
_LLAMA = {**_OLD, "model_type": "llama", "hidden_act": "silu", "attention_bias": False, "pretraining_tp": 1}
_GEMMA = {
    **_OLD, "hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh",
    "attention_bias": False, "cache_implementation": "hybrid", "head_dim": 256, "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
}  # fmt: skip
# Fields as in published files, in the spelling of their day.
PUBLISHED_FILES: dict[str, dict[str, Any]] = {
    "Llama-2-7b-hf": {
        **_LLAMA, "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
        "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "tie_word_embeddings": False, "vocab_size": 32000,
    },
    "Llama-3.2-1B": {
        **_LLAMA, "bos_token_id": 128000, "eos_token_id": 128001, "head_dim": 64, "hidden_size": 2048,
        "intermediate_size": 8192, "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "vocab_size": 128256, "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
    },
    "SmolLM2-135M-Instruct": {
        **_LLAMA, "hidden_size": 576, "intermediate_size": 1536, "is_llama_config": True, "mlp_bias": False,
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2,
        "rms_norm_eps": 1e-05, "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000,
        "tie_word_embeddings": True, "vocab_size": 49152,
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
    },
    "Qwen2.5-1.5B-Instruct": {
        **_OLD, "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 1536, "intermediate_size": 8960,
        "max_window_layers": 21, "num_attention_heads": 12, "num_hidden_layers": 28, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
        "use_sliding_window": False, "vocab_size": 151936,
    },
    "gemma-2-9b-it": {
        **_GEMMA, "model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16, "num_hidden_layers": 42,
        "num_key_value_heads": 8, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
        "vocab_size": 256000,
    },
    "gemma-3-1b-it": {
        **_GEMMA, "model_type": "gemma3_text", "attn_logit_softcapping": None, "eos_token_id": [1, 106],
        "final_logit_softcapping": None, "hidden_size": 1152, "intermediate_size": 6912,
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
        "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "vocab_size": 262144,
    },
    "gemma-3-270m": {
        **_GEMMA, "model_type": "gemma3_text", "_sliding_window_pattern": 6, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "hidden_size": 640, "intermediate_size": 2048,
        "layer_types": [*[SLIDING] * 5, FULL] * 3, "num_attention_heads": 4, "num_hidden_layers": 18,
        "num_key_value_heads": 1, "rope_local_base_freq": 10000.0, "rope_scaling": None,
        "rope_theta": 1000000.0, "sliding_window": 512, "use_bidirectional_attention": False,
        "vocab_size": 262144,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_FILES)
def test_published_files_are_read_as_transformers_reads_them(name: str) -> None:
    fields = PUBLISHED_FILES[name]
    config, theirs = ModelConfig.from_fields(fields), AutoConfig.for_model(**fields)
    assert ModelConfig.from_fields(theirs.to_dict()) == config == ModelConfig.from_fields(config.to_fields())
    for field in ("head_dim", "num_key_value_heads", "tie_word_embeddings", "num_hidden_layers"):
        assert getattr(theirs, field, config.head_dim) == getattr(config, field)  # Qwen2 has no head_dim
    if config.layer_types:
        assert (theirs.layer_types, theirs.sliding_window) == ([*config.layer_types], config.sliding_window)


def test_what_published_files_leave_out() -> None:
    """Windows by transformers' own rule, and sizes of heads that follow from others."""
    gemma = FIELDS | {"model_type": "gemma2", "num_hidden_layers": 4}
    config = ModelConfig.from_fields({name: gemma[name] for name in gemma if name != "rope_theta"})
    assert config.rope_theta == 1e4
    assert config.layer_types == (SLIDING, FULL) * 2
    assert (config.sliding_window, config.query_pre_attn_scalar) == (4096, 256)
    assert (config.attn_logit_softcapping, config.final_logit_softcapping) == (50, 30)
    older = FIELDS | {"model_type": "gemma3_text", "num_hidden_layers": 7, "rope_local_base_freq": 1e3}
    config = ModelConfig.from_fields(older)
    assert config.layer_types == (SLIDING,) * 5 + (FULL, SLIDING) and config.rope_local_base_freq == 1e3
    config = ModelConfig.from_fields(older | {"sliding_window_pattern": 2})
    assert config.layer_types == (SLIDING, FULL) * 3 + (SLIDING,)
    derived = FAMILIES["llama"].derived
    without = {name: value for name, value in FIELDS.items() if name not in derived}
    config = ModelConfig.from_fields(without | {"model_type": "llama"})
    assert (config.head_dim, config.num_key_value_heads) == (12, 4)


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


GEMMA_FIELDS = sorted(FAMILIES["gemma3_text"].honoured)


@pytest.mark.parametrize(
    "field", [*GEMMA_FIELDS, "layer_types", "sliding_window_pattern", "rope_parameters", "rope_scaling"]
)
@given(value=JSON | st.dictionaries(st.sampled_from([FULL, SLIDING]), JSON, max_size=2))
def test_whatever_gemmas_fields_hold_is_read_or_refused_by_name(field: str, value: Any) -> None:
    fields = tiny_config("gemma3_text").to_fields() | {field: value}
    if field in ("sliding_window_pattern", "rope_local_base_freq"):
        fields = {name: fields[name] for name in fields if name not in ("layer_types", "rope_parameters")}
    try:
        config = ModelConfig.from_fields(fields)
    except UserError as error:
        assert field in str(error) or field.startswith("rope_")
        return
    assert ModelConfig.from_fields(config.to_fields()) == config


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("field", ["rope_theta", "rope_type", *sorted(NEEDED["yarn"] | OPTIONAL["yarn"])])
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
