"""Tiny models as GGUF files, laid out as llama.cpp's converter does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quantised
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from constellation.model.config import ModelConfig
from constellation.model.gguf_file import MODEL_TYPES, ROPE_FACTORS
from constellation.model.rope import scaled_frequencies

# Bytes of a block of 256 weights, and where its half-precision scales are, which random bytes must not be.
K_QUANTS = {Quantised.Q4_K: (144, (0, 2)), Quantised.Q5_K: (176, (0, 2)), Quantised.Q6_K: (210, (208,))}


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    config: ModelConfig,
    tokenizer: PreTrainedTokenizerFast,
    types: tuple[Quantised, ...] = (Quantised.F32,),
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Writes a transformers model; its projections are of the quantisation `types` in turn, else float32.

    `metadata` replace and add to what is written; None leaves a key out.
    """
    (architecture,) = (ours for ours, theirs in MODEL_TYPES.items() if theirs == config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (_described(architecture, config, tokenizer) | (metadata or {})).items():
        _add(writer, key, value)
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], config.num_hidden_layers)
    written = 0
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array = tensor.numpy().astype(np.float32)
        if architecture == "llama" and "q_proj" in name:
            array = _interleaved(array, config.num_attention_heads)
        if architecture == "llama" and "k_proj" in name:
            array = _interleaved(array, config.num_key_value_heads)
        if config.family.centred_norms and "norm" in name:
            array = array + 1
        kind = Quantised.F32
        if "_proj.weight" in name:
            kind, written = types[written % len(types)], written + 1
        stem, _, ending = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(stem)}.{ending}", _quantised(array, kind), raw_dtype=kind)
    if config.rope_scaling is not None and config.rope_scaling.rope_type == "llama3":
        plain, scaled = (
            scaled_frequencies(config.head_dim, config.rope_theta, each)[0]
            for each in (None, config.rope_scaling)
        )
        writer.add_tensor(ROPE_FACTORS, (plain / scaled).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _described(architecture: str, config: ModelConfig, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    special = set(tokenizer.all_special_tokens)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    own = {
        "block_count": config.num_hidden_layers,
        "context_length": 512,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.freq_base": float(config.rope_theta),
        "rope.dimension_count": config.head_dim,
        "vocab_size": config.vocab_size,
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
        "attention.sliding_window": config.sliding_window,
        "rope.freq_base_swa": config.rope_local_base_freq,
    }
    return {f"{architecture}.{key}": value for key, value in own.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": [token for token, _ in vocabulary],
        "tokenizer.ggml.token_type": [3 if token in special else 1 for token, _ in vocabulary],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges],
        "tokenizer.ggml.eos_token_id": tokenizer.eos_token_id,
        "tokenizer.ggml.padding_token_id": tokenizer.pad_token_id,
        "tokenizer.ggml.eot_token_id": tokenizer.pad_token_id,
        "tokenizer.chat_template": tokenizer.chat_template,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Adds a value with the type that llama.cpp gives such ones."""
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif value is not None:
        writer.add_string(key, value)


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of each head in llama.cpp's order: the two halves of a rotated pair side by side."""
    halves = weight.reshape(heads, 2, -1, weight.shape[-1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _quantised(weight: np.ndarray, kind: Quantised) -> np.ndarray:
    """Its blocks; of the kinds that `gguf` reads but does not write, random ones with scales of 1/64."""
    if kind not in K_QUANTS:
        return gguf.quantize(weight, kind)
    size, scales = K_QUANTS[kind]
    blocks = np.random.default_rng(0).integers(0, 256, (weight.size // 256, size), np.uint8)
    for at in scales:
        blocks[:, at : at + 2] = np.full(1, 1 / 64, np.float16).view(np.uint8)
    return blocks.reshape(len(weight), -1)
