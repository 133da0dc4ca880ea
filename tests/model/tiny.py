"""A tiny Qwen3 as transformers makes it, with tokenizer and chat template, and batches for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.linear import dense
from constellation.model.lora import Adapter, init_adapter

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


def reference(seed: int = 0, **fields: Any) -> Qwen3ForCausalLM:
    """transformers' model in float32; all weights random, so that one which is forgotten shows."""
    torch.manual_seed(seed)
    fields = FIELDS | fields
    theta = fields.pop("rope_theta")
    config = Qwen3Config(
        **fields,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        initializer_range=0.1,  # at 0.02 a model of this width barely attends
        max_position_embeddings=512,
    )
    model = Qwen3ForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
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


def save(directory: Path, model: Qwen3ForCausalLM, tokenizer: Any, shard: str = "10GB") -> Path:
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
        mean = 1.0 if "norm" in jax.tree_util.keystr(path) else 0.0
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
