"""Tiny models of every family as transformers makes them, with tokenizer and chat template, and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from constellation.model import decoder
from constellation.model.config import FULL, SLIDING, ModelConfig
from constellation.model.families import FAMILIES
from constellation.model.linear import dense
from constellation.model.lora import Adapter, init_adapter
from constellation.model.rope import RopeScaling

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)
FIELDS: dict[str, Any] = {
    "vocab_size": 272,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,  # not hidden / heads
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
}
CONFIG = ModelConfig(**FIELDS)
# What some families have beside these: caps that bend, windows shorter than the tests' texts.
SPECIAL: dict[str, Any] = {
    "query_pre_attn_scalar": 24,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
    "sliding_window": 5,
    "rope_local_base_freq": 100.0,
}


def tiny_config(model_type: str, **fields: Any) -> ModelConfig:
    """A tiny model of a family, with all that its row of the table honours."""
    family = FAMILIES[model_type]
    values = FIELDS | {name: SPECIAL[name] for name in family.honoured} | {"model_type": model_type} | fields
    if family.global_every:
        values.setdefault("layer_types", (SLIDING, FULL, SLIDING)[: values["num_hidden_layers"]])
    if model_type == "llama":
        llama3 = RopeScaling("llama3", 8.0, 64, low_freq_factor=1.0, high_freq_factor=4.0)
        values.setdefault("rope_scaling", llama3)
    return ModelConfig(**values)


def reference(seed: int = 0, model_type: str = "qwen3", **fields: Any) -> PreTrainedModel:
    """transformers' model in float32; all weights random, so that one which is forgotten shows."""
    torch.manual_seed(seed)
    config = tiny_config(model_type, **fields)
    described = config.to_fields() | {"max_position_embeddings": 512, "pad_token_id": 0}
    # At a deviation of 0.02 a model of this width barely attends.
    theirs = AutoConfig.for_model(**described | {"initializer_range": 0.1})
    attention = "sdpa" if config.attn_logit_softcapping is None else "eager"
    model = AutoModelForCausalLM.from_config(theirs, attn_implementation=attention).float().eval()
    middle = 0.0 if config.family.centred_norms else 1.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(middle - 0.5, middle + 0.5)
            elif name.endswith("bias"):
                parameter.uniform_(-1, 1)
    return model


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with a few merges and three special tokens: ids 0 ... 261."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "b"), ("ab", "c"), ("\u0120", "a")]  # \u0120 stands for a space
    vocab = {piece: id for id, piece in enumerate(alphabet + ["".join(pair) for pair in merges])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return fast


def save(directory: Path, model: PreTrainedModel, tokenizer: Any, shard: str = "10GB") -> Path:
    """Writes model, generation_config and tokenizer as transformers does; returns the directory."""
    stop_ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    model.generation_config = GenerationConfig(eos_token_id=stop_ids, pad_token_id=stop_ids[1])
    model.save_pretrained(directory, max_shard_size=shard)
    tokenizer.save_pretrained(directory)
    return directory


def params_and_adapter(config: ModelConfig = CONFIG) -> tuple[decoder.Params, Adapter]:
    """Normals of deviation 0.1 everywhere, around one in the norms; drawn by NumPy: nothing to compile."""
    rng = np.random.default_rng(0)

    def draw(path: jax.tree_util.KeyPath, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        mean = 1.0 if "norm" in jax.tree_util.keystr(path) and not config.family.centred_norms else 0.0
        return jnp.asarray(rng.normal(mean, 0.1, leaf.shape), leaf.dtype)

    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: (decoder.init_params(config, key), init_adapter(config, key, 4, 8)))
    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_tokens(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    """Uniform ids."""
    return jnp.asarray(np.random.default_rng(seed).integers(0, CONFIG.vocab_size, shape), jnp.int32)


def causal(rows: int, length: int) -> tuple[jax.Array, jax.Array]:
    """positions [rows, length] and mask [rows, length, length] of rows without padding."""
    positions = np.broadcast_to(np.arange(length), (rows, length))
    return jnp.asarray(positions), jnp.asarray(positions[:, :, None] >= positions[:, None, :])


def dequantize(params: decoder.Params) -> decoder.Params:
    """The same parameters, all dense: what the quantised model computes with."""
    dtype = params["norm"].dtype
    layers = {name: dense(weight, dtype) for name, weight in params["layers"].items()}
    tables = {name: dense(params[name], dtype) for name in params.keys() & {"embed", "lm_head"}}
    return params | tables | {"layers": layers}
