"""Models of any size with random weights: on the device as they are stored there, or as a checkpoint.

A checkpoint has the exact layout of a published Qwen3. With such models loading, memory and speed are tried
without a download; what they write has no meaning.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, layer_shapes
from constellation.model.lora import projection_shapes
from constellation.model.model import Model
from constellation.model.port import INDEX, SINGLE, tensor_shapes
from constellation.model.quantize import Nibbles, Quantization, qtensor, unpack
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error

_SMALL = {"head_dim": 128, "num_key_value_heads": 8, "num_attention_heads": 16, "num_hidden_layers": 28}
_LARGE = {"head_dim": 128, "num_key_value_heads": 8, "num_attention_heads": 32, "num_hidden_layers": 36}
# What distinguishes the published dense models' config.json files.
PUBLISHED: dict[str, dict[str, Any]] = {
    "0.6B": {**_SMALL, "hidden_size": 1024, "intermediate_size": 3072},
    "1.7B": {**_SMALL, "hidden_size": 2048, "intermediate_size": 6144},
    "4B": {**_LARGE, "hidden_size": 2560, "intermediate_size": 9728},
    "4B-2507": {**_LARGE, "hidden_size": 2560, "intermediate_size": 9728, "rope_theta": 5_000_000},
    "8B": {**_LARGE, "hidden_size": 4096, "intermediate_size": 12288, "tie_word_embeddings": False},
}
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


def published_fields(size: str, layers: int | None = None) -> dict[str, Any]:
    """config.json of a published size, with `layers` instead of its own if given.

    Raises:
        UserError: there is no such size.
    """
    if size not in PUBLISHED:
        raise UserError(f"no published size {size!r}: use one of {', '.join(PUBLISHED)}, or a config.json")
    fields = {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": FIRST_SPECIAL,
        "eos_token_id": FIRST_SPECIAL + 2,
        "hidden_act": "silu",
        "initializer_range": STD,
        "max_position_embeddings": 40_960,
        "model_type": "qwen3",
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1_000_000,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": 151_936,
        **PUBLISHED[size],
    }
    if layers:
        fields["num_hidden_layers"] = layers
    return fields | {"max_window_layers": fields["num_hidden_layers"]}


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
    """Weights of deviation STD, and norms at one; int4 weights are drawn as int4, never as dense ones.

    Raises:
        UserError: as `random_model`.
    """
    how = Quantization.parse(quantization)
    layers: dict[str, Any] = {}
    for name, shape in layer_shapes(config).items():
        stacked = config.num_hidden_layers, *shape
        if name not in projection_shapes(config):
            layers[name] = jnp.ones(stacked, dtype)
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
    params: Params = {"norm": jnp.ones(config.hidden_size, dtype), "layers": layers}
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
    directory: Path, fields: dict[str, Any], corpus: Iterable[str], seed: int = 0, shard_bytes: int = 2**32
) -> None:
    """Writes a whole Hugging Face directory: sharded weights with an index, tokenizer, template, configs.

    Holds one shard at a time.

    Args:
        fields: of config.json.
        corpus: texts from which the tokenizer's merges are learnt, so that prompts have a natural length.
        shard_bytes: most bytes of tensors in a file, unless one tensor alone is larger.

    Raises:
        UserError: `fields` is no Qwen3, the directory holds files already, or the disk is full.
    """
    config = ModelConfig.from_fields(fields)
    if directory.exists() and any(directory.iterdir()):
        raise UserError(f"{directory} is not empty: give another --out")
    directory.mkdir(parents=True, exist_ok=True)
    with disk_full_is_user_error(directory):
        (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        _write_tokenizer(directory, config.vocab_size, corpus)
        _write_weights(directory, config, seed, shard_bytes)


def _write_weights(directory: Path, config: ModelConfig, seed: int, shard_bytes: int) -> None:
    shards = list(_shards(config, shard_bytes))
    if len(shards) == 1:
        names = [SINGLE]
    else:
        names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    weight_map: dict[str, str] = {}
    for file, shapes in zip(names, shards, strict=True):
        tensors = {name: _random(seed, name, shape) for name, shape in shapes.items()}
        save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shapes, file)
    if len(shards) > 1:
        total = sum(2 * int(np.prod(shape)) for shapes in shards for shape in shapes.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(config: ModelConfig, shard_bytes: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """The tensors' shapes, in the order of published files, a shard at a time."""
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in tensor_shapes(config).items():
        tensor = 2 * int(np.prod(shape))
        if shard and size + tensor > shard_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += tensor
    yield shard


def _random(seed: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normals of deviation STD; norms vary around one, so that a port that mixes them up is seen."""
    values = keys.host_rng(seed, name).standard_normal(shape, np.float32)
    values *= STD if len(shape) > 1 else 0.1
    return (values if len(shape) > 1 else 1 + values).astype(ml_dtypes.bfloat16)


def _write_tokenizer(directory: Path, vocab_size: int, corpus: Iterable[str]) -> None:
    """Byte-level BPE with Qwen3's special tokens, at Qwen3's ids where the vocabulary reaches so far."""
    first = min(FIRST_SPECIAL, vocab_size - len(SPECIAL))
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
        "chat_template": CHAT_TEMPLATE,
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
