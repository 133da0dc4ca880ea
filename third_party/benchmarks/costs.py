"""What a computation needs at least: operations of its matrix products, and bytes that it moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from constellation.memory import kv_token_bytes, layer_bytes
from constellation.model.config import ModelConfig
from constellation.model.lora import layer_weights, projection_shapes
from constellation.model.quantize import Quantization
from constellation.selftraining.batches import TrainingExample


def sampling_flops(config: ModelConfig, prompt: int, answers: Sequence[int]) -> float:
    """Multiplications and additions of a prefill of `prompt` tokens and of answers of so many new tokens.

    Every answer counts by itself: whoever computes once what answers begin with does less.
    """
    linear = config.num_hidden_layers * layer_weights(config)
    head = config.vocab_size * config.hidden_size
    pair = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim  # scores and values
    total = prompt * linear + prompt**2 / 2 * pair
    for tokens in answers:
        # The last token drawn is not fed back; the first comes from the prefill.
        total += (tokens - 1) * linear + tokens * head + ((tokens - 1) * prompt + tokens**2 / 2) * pair
    return 2 * total


def update_flops(config: ModelConfig, example: TrainingExample, rank: int, remat: bool = False) -> float:
    """Multiplications and additions of forward and backward, the projections' weights being frozen.

    Args:
        rank: of the adapter, on all projections.
        remat: whether to count what the backward recomputes, the layers' forward but for the last product of
            each, whose output it does not need.
    """
    shapes = projection_shapes(config)
    down = shapes["down_proj"]
    frozen = layer_weights(config)
    adapted = sum(rank * (out + inner) for out, inner in shapes.values())
    linear = 2 * frozen + 3 * adapted  # frozen weights have no gradient
    passes = 3  # a backward is two forwards
    if remat:
        linear += frozen - down[0] * down[1] + adapted - rank * down[0]
        passes += 1
    prompt = len(example.prompt)
    pairs = prompt**2 / 2  # of (query, key) that are not masked
    pairs += sum(len(answer) * (prompt + len(answer) / 2) for answer in example.answers)
    pair = 2 * config.num_attention_heads * config.head_dim  # scores and values
    layer = example.length * linear + passes * pairs * pair
    head = config.vocab_size * config.hidden_size
    return 2 * (config.num_hidden_layers * layer + 2 * example.targets * head)


class ByteSizes(NamedTuple):
    """How a model lies in memory."""

    quantization: str  # of the weights; see `Quantization.parse`
    itemsize: int  # bytes of an activation, of a dense weight and of a scale
    int8_kv: bool = False  # whether the cache is int8, with a scale for each position and head

    def weights(self, config: ModelConfig) -> float:
        """Bytes of the projections with their scales, and of the head; norms are too small to count."""
        how = Quantization.parse(self.quantization)
        head = config.vocab_size * config.hidden_size * (1 if how.int8_embedding else self.itemsize)
        head += 4 * config.vocab_size if how.int8_embedding else 0  # float32 scales
        return config.num_hidden_layers * layer_bytes(config, how, self.itemsize) + head

    def cached_token(self, config: ModelConfig) -> float:
        """Bytes of the keys and values of one token in all layers."""
        return kv_token_bytes(config, self.itemsize, self.int8_kv)


def decode_bytes(
    config: ModelConfig, prompt: int, answer: int, samples: int, copies: int, stored: ByteSizes
) -> float:
    """Bytes that are read and written to decode `samples` answers, but for the first token of each.

    A step reads the weights and the head once for all samples, `copies` caches of `prompt` tokens, and each
    sample's own cache, to which it adds a token.

    Args:
        answer: tokens of each answer.
        copies: 1 where the samples share the prompt's cache, `samples` where each has its own.
    """
    steps = answer - 1
    cached = steps * copies * prompt + samples * steps * (steps + 1) / 2
    return steps * stored.weights(config) + cached * stored.cached_token(config)
