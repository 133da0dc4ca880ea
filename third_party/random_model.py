"""Models of any size with random weights: on the device as they are stored there, or as a checkpoint.

A checkpoint has the exact layout of a published model. With such models loading, memory and speed are tried
without a download; what they write has no meaning.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, initial_value, layer_shapes
from constellation.model.families import FAMILIES
from constellation.model.lora import projection_shapes
from constellation.model.model import Model
from constellation.model.port import NORM, SHARD_BYTES, tensor_shapes, write_shards
from constellation.model.quantize import Nibbles, Quantization, qtensor, unpack
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.runtime.files import new_directory

_QWEN3 = {
    "model_type": "qwen3", "attention_bias": False, "hidden_act": "silu", "sliding_window": None,
    "use_sliding_window": False,
}  # fmt: skip
_SMALL = {
    **_QWEN3, "head_dim": 128, "num_key_value_heads": 8, "num_attention_heads": 16, "num_hidden_layers": 28,
}  # fmt: skip
_LARGE = {
    **_QWEN3, "head_dim": 128, "num_key_value_heads": 8, "num_attention_heads": 32, "num_hidden_layers": 36,
}  # fmt: skip
_QWEN2 = {
    "model_type": "qwen2", "hidden_act": "silu", "max_position_embeddings": 32_768, "sliding_window": 32_768,
    "use_sliding_window": False,
}  # fmt: skip
_LLAMA = {
    "model_type": "llama", "attention_bias": False, "hidden_act": "silu", "mlp_bias": False,
    "vocab_size": 128_256, "max_position_embeddings": 131_072,
}  # fmt: skip
_LLAMA_ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_GEMMA = {
    "attention_bias": False, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 256,
    "query_pre_attn_scalar": 256,
}  # fmt: skip
# What distinguishes the published models' shapes; those of a size alone are Qwen3's.
PUBLISHED: dict[str, dict[str, Any]] = {
    "0.6B": {**_SMALL, "hidden_size": 1024, "intermediate_size": 3072},
    "1.7B": {**_SMALL, "hidden_size": 2048, "intermediate_size": 6144},
    "4B": {**_LARGE, "hidden_size": 2560, "intermediate_size": 9728},
    "4B-2507": {**_LARGE, "hidden_size": 2560, "intermediate_size": 9728, "rope_theta": 5_000_000},
    "8B": {**_LARGE, "hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False},
    "Qwen2.5-1.5B": {
        **_QWEN2, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2,
    },
    "Llama-3.2-1B": {
        **_LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0, "rope_scaling": _LLAMA_ROPE,
    },
    "Gemma-2-2B": {
        **_GEMMA, "model_type": "gemma2", "vocab_size": 256_000, "hidden_size": 2304,
        "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "rope_theta": 10_000.0, "sliding_window": 4096,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192,
    },
    "Gemma-3-1B": {
        **_GEMMA, "model_type": "gemma3_text", "vocab_size": 262_144, "hidden_size": 1152,
        "intermediate_size": 6912, "num_hidden_layers": 26, "num_attention_heads": 4,
        "num_key_value_heads": 1, "rope_theta": 1_000_000, "rope_local_base_freq": 10_000,
        "sliding_window": 512, "sliding_window_pattern": 6, "max_position_embeddings": 32_768,
    },
}  # fmt: skip
STD = 0.02
INT4_STD = (sum(value**2 for value in range(-8, 8)) / 16) ** 0.5  # of uniform integers of 4 bits
INT8_STD = 256 / 12**0.5
# Qwen3's special tokens fill the ids from FIRST_SPECIAL on; 151,936 rows leave a padding tail behind them.
FIRST_SPECIAL = 151_643
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
    "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>",
    "</tool_response>", "<think>", "</think>",
)  # fmt: skip
# Renders as Qwen3's own does without tools: past thoughts are dropped, an empty block turns thinking off.
CHAT_TEMPLATE = """\
{%- for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' and '</think>' in content %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{{- content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""
# As Gemma 2's: no system turn, and "model" for the assistant.
GEMMA_TEMPLATE = """\
{%- for message in messages %}
{%- if message.role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}
{{- '<|im_start|>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- message.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>model\\n' }}{%- endif %}"""


def published_fields(size: str, layers: int | None = None) -> dict[str, Any]:
    """config.json of a published size, with `layers` instead of its own if given.

    Raises:
        UserError: there is no such size.
    """
    if size not in PUBLISHED:
        raise UserError(f"no published size {size!r}: use one of {', '.join(PUBLISHED)}, or a config.json")
    fields = {
        "attention_dropout": 0.0,
        "initializer_range": STD,
        "max_position_embeddings": 40_960,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1_000_000,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 151_936,
        **PUBLISHED[size],
    }
    first = first_special(fields["vocab_size"])
    fields |= {"bos_token_id": first, "eos_token_id": first + 2}
    fields["architectures"] = [FAMILIES[fields["model_type"]].architecture]
    if "use_sliding_window" in fields:  # Qwen's
        fields["max_window_layers"] = fields["num_hidden_layers"]
    return with_layers(fields, layers) if layers else fields


def with_layers(fields: dict[str, Any], count: int) -> dict[str, Any]:
    """config.json of a slice of a model; see `ModelConfig.with_layers`.

    Raises UserError: as `ModelConfig.from_fields`.
    """
    types = ModelConfig.from_fields(fields).with_layers(count).layer_types
    return fields | {"num_hidden_layers": count} | ({"layer_types": list(types)} if types else {})


def first_special(vocab_size: int) -> int:
    """The id of the first special token."""
    return min(FIRST_SPECIAL, vocab_size - len(SPECIAL))


def random_model(config: ModelConfig, quantization: str, dtype: str) -> Model:
    """A model on one device. Its tokenizer is nothing but a size, and no token ends an answer.

    Args:
        quantization: as for `Quantization.parse`.
        dtype: "float32" or "bfloat16", of what is not quantised and of the scales.

    Raises:
        UserError: another quantisation, or a group that does not divide a projection's inputs.
    """
    return Model(
        config=config,
        params=random_params(config, quantization, jnp.dtype(dtype)),
        tokenizer=cast(Any, SimpleNamespace(size=config.vocab_size)),
        stop_ids=(),
        hash="",
        dir=Path(),
    )


def random_params(config: ModelConfig, quantization: str, dtype: jnp.dtype) -> Params:
    """Weights of deviation STD, norms that multiply by one; int4 weights are drawn as int4, never as dense.

    Raises:
        UserError: as `random_model`.
    """
    how = Quantization.parse(quantization)
    layers: dict[str, Any] = {}
    for name, shape in layer_shapes(config).items():
        stacked = config.num_hidden_layers, *shape
        if name not in projection_shapes(config):
            layers[name] = jnp.full(stacked, initial_value(config, name), dtype)
        elif how.group is None:
            layers[name] = _uniform(name, stacked, dtype)
        else:
            group = how.group or shape[1]
            if shape[1] % group:
                raise UserError(
                    f"model.quantization: groups of {group} do not divide the {shape[1]} inputs of {name}: "
                    "use a divisor of every projection's width"
                )
            layers[name] = random_projection(name, stacked, group, dtype)
    norm = jnp.full(config.hidden_size, initial_value(config, "norm"), dtype)
    params: Params = {"norm": norm, "layers": layers}
    for name in ("embed",) if config.tie_word_embeddings else ("embed", "lm_head"):
        vocabulary, width = config.vocab_size, config.hidden_size
        if how.int8_embedding:
            int8 = jax.lax.bitcast_convert_type(_bits(name, (vocabulary, 1, width)), jnp.int8)
            params[name] = qtensor(int8, jnp.full((vocabulary, 1, 1), STD / INT8_STD, jnp.float32))
        else:
            params[name] = _uniform(name, (vocabulary, width), dtype)
    return params


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def random_projection(name: str, shape: tuple[int, int, int], group: int, dtype: jnp.dtype) -> QTensor:
    """Weights [L, out, in] as int4: qvalue [L, out, in / group, group], scale [L, out, in / group, 1]."""
    *rows, in_features = shape
    groups = (*rows, in_features // group)
    scale = jnp.full((*groups, 1), STD / INT4_STD, dtype)
    weight = unpack(Nibbles(_bits(name, (*rows, in_features // 2)), scale))
    return dataclasses.replace(weight, qvalue=weight.qvalue.reshape(*groups, group))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _uniform(name: str, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """Uniform weights of deviation STD."""
    return ((_bits(name, shape).astype(jnp.float32) - 127.5) * (STD / INT8_STD)).astype(dtype)


@partial(jax.jit, static_argnums=(0, 1))
def _bits(name: str, shape: tuple[int, ...]) -> jax.Array:
    """Uniform uint8. The device's own generator: threefry takes minutes for so many on a CPU."""
    key = jnp.array([0, 0, 0, keys.word(name)], jnp.uint32)
    return jax.lax.rng_bit_generator(key, shape, jnp.uint8)[1]


def write_random_checkpoint(
    directory: Path,
    fields: dict[str, Any],
    corpus: Iterable[str],
    seed: int = 0,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes a whole Hugging Face directory: sharded weights with an index, tokenizer, template, configs.

    Holds one shard at a time.

    Args:
        fields: of config.json.
        corpus: texts from which the tokenizer's merges are learnt, so that prompts have a natural length.
        shard_bytes: as for `port.write_shards`.

    Raises:
        UserError: `fields` are of no family, the directory holds files already, or the disk is full.
    """
    config = ModelConfig.from_fields(fields)
    tensors = ((name, _random(seed, name, shape, config)) for name, shape in tensor_shapes(config).items())
    with new_directory(directory):
        (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        template = GEMMA_TEMPLATE if config.model_type.startswith("gemma") else CHAT_TEMPLATE
        _write_tokenizer(directory, config.vocab_size, corpus, template)
        write_shards(directory, tensors, shard_bytes)


def _random(seed: int, name: str, shape: tuple[int, ...], config: ModelConfig) -> np.ndarray:
    """Normals of deviation STD; norms and biases vary more, so that a port that mixes them up is seen."""
    values = keys.host_rng(seed, name).standard_normal(shape, np.float32)
    values *= STD if len(shape) > 1 else 0.1
    # "model.layers.3.self_attn.q_proj.bias" ends as our names of biases do.
    middle = 0.0 if len(shape) > 1 else initial_value(config, name)
    if config.family.scaled_embedding and name == NORM:
        middle -= 0.8  # or each token would follow itself, as the residual stream begins with its embedding
    return (middle + values).astype(ml_dtypes.bfloat16)


def _write_tokenizer(directory: Path, vocab_size: int, corpus: Iterable[str], template: str) -> None:
    """Byte-level BPE with Qwen3's special tokens, at Qwen3's ids where the vocabulary reaches so far."""
    first = first_special(vocab_size)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=first, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    unused = {f"<|unused_{i}|>": i for i in range(len(learnt["vocab"]), first)}
    merges = [tuple(merge) for merge in learnt["merges"]]
    tokenizer = Tokenizer(models.BPE(learnt["vocab"] | unused, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Like Qwen3's: the thoughts' markers are single tokens, but not special ones.
    tokenizer.add_tokens([AddedToken(token, special="think" not in token) for token in SPECIAL])
    tokenizer.save(str(directory / "tokenizer.json"))
    end, pad = "<|im_end|>", "<|endoftext|>"
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": end,
        "pad_token": pad,
        "clean_up_tokenization_spaces": False,
        "chat_template": template,
    }
    generation = {
        "do_sample": True,
        "eos_token_id": [tokenizer.token_to_id(end), tokenizer.token_to_id(pad)],
        "pad_token_id": tokenizer.token_to_id(pad),
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }
    for file, content in (("tokenizer_config.json", settings), ("generation_config.json", generation)):
        (directory / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
