"""Logits on prompts of real tasks: of whole models in float32, bfloat16 and int4, and streamed by layers."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from aqt.jax.v2.aqt_tensor import QTensor
from transformers import PreTrainedModel

from constellation.domains.task import Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model import decoder, port
from constellation.model.attention import soft_cap
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.linear import Weight, head
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.tokenizer import Tokenizer
from constellation.model.weights import load_params
from third_party import model_reference
from third_party.comparison.table import Row, relative_norm, worst_position
from third_party.sampling_reference import left_padded

PROMPTS = 4
TOLERANCE = 1e-4
# Both sides round at the same places, so both are as far from float32 but for chance; a lost bit would double
# the distance.
BFLOAT16_RATIO = 1.25
GROUP = 32
HEAD_ROWS = 2**14

_forward = jax.jit(decoder.forward, static_argnums=0)
_through_layer = jax.jit(decoder.through_layers, static_argnums=0)
_head = jax.jit(head)
_logits = jax.jit(decoder.logits, static_argnums=0)


class LeftPadded(NamedTuple):
    """A batch as either side takes it; P positions in all are real."""

    prompts: list[list[int]]  # the token ids of each row
    ids: torch.Tensor  # torch's [B, T], integers
    attention: torch.Tensor  # torch's [B, T], integers
    tokens: np.ndarray  # ours [B, T], int32
    positions: np.ndarray  # ours [B, T], int32
    mask: np.ndarray  # ours [B, T, T] (query, key), bool
    real: np.ndarray  # [B, T] bool; the values of padding have no meaning on either side

    @classmethod
    def from_prompts(cls, prompts: list[list[int]]) -> LeftPadded:
        ids, attention = left_padded(prompts)
        real = attention.numpy().astype(bool)
        width = real.shape[1]
        return cls(
            prompts,
            ids,
            attention,
            tokens=ids.numpy().astype(np.int32),
            positions=np.maximum(np.cumsum(real, axis=1) - 1, 0).astype(np.int32),
            mask=np.tril(np.ones((width, width), bool)) & real[:, None, :],
            real=real,
        )


def prompt_tasks() -> list[Task]:
    """The tasks of the prompts."""
    return trapdoor.make_bank("tuning_hard", PROMPTS)


def task_prompts(tokenizer: Tokenizer) -> LeftPadded:
    """One prompt a task, the first with one visible example, the next with two ..."""
    splits = [split(task, 0, visible) for visible, task in enumerate(prompt_tasks(), 1)]
    return LeftPadded.from_prompts([tokenizer.chat(trapdoor.messages(one)) for one in splits])


def whole_logits(
    config: ModelConfig, params: Params, adapter: Adapter | None, batch: LeftPadded
) -> np.ndarray:
    """float32 [P, V] of the real positions, by `decoder.forward` on the whole batch."""
    hidden = _forward(config, params, adapter, batch.tokens, batch.positions, batch.mask)
    return np.asarray(_logits(config, params, hidden[batch.real]))


def logits_by_layer(config: ModelConfig, params: Params, batch: LeftPadded) -> np.ndarray:
    """As `whole_logits` without an adapter, but with one call for each layer.

    XLA:CPU multiplies in float32, and of a bfloat16 model under one scan it converts all layers beforehand.
    """
    tokens, local = jnp.asarray(batch.tokens), decoder.local_layers(config)
    x = decoder.embed(config, params["embed"], tokens, params["norm"].dtype)  # [B, T, D]
    for index in range(config.num_hidden_layers):
        here = slice(index, index + 1)
        layer = jax.tree.map(lambda weight, here=here: weight[here], params["layers"])
        windowed = None if local is None else local[here]
        x = _through_layer(config, layer, x, batch.positions, batch.mask, windowed)
        x.block_until_ready()  # or the copies of all layers wait in memory for their turn
    return np.asarray(_logits(config, params, decoder.norm(config, x[batch.real], params["norm"])))


def bfloat16_row(
    directory: Path, reference_dir: Path, config: ModelConfig, batch: LeftPadded, exact: np.ndarray
) -> Row:
    """Loads either side in bfloat16, in turn, and compares their distances from the float32 logits [P, V]."""
    ours = relative_norm(logits_by_layer(config, load_params(directory, config, jnp.bfloat16), batch), exact)
    _return_freed_memory()  # theirs may need all there is
    theirs = relative_norm(
        model_reference.logits(model_reference.load(reference_dir, "bfloat16"), batch.ids, batch.attention),
        exact,
    )
    return Row(
        "logits, bfloat16",
        f"relative RMS error to float32: ours {ours:.5f} / transformers' {theirs:.5f}",
        ours / theirs,
        BFLOAT16_RATIO,
    )


def _return_freed_memory() -> None:
    """Gives the system back what malloc keeps for later."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def int4_row(config: ModelConfig, params: Params, reference: PreTrainedModel, batch: LeftPadded) -> Row:
    """Compares ours with int4 weights, in groups of GROUP, with transformers on what they stand for."""
    theirs = model_reference.logits(reference, batch.ids, batch.attention)
    error = worst_position(whole_logits(config, params, None, batch), theirs)
    measured = "max abs error / max abs of the position, transformers with the weights multiplied out"
    return Row(f"logits, int4:{GROUP}", measured, error, TOLERANCE)


def multiply_out(reference: PreTrainedModel, config: ModelConfig, params: Params) -> None:
    """Puts what our quantised weights stand for, steps by scales, into transformers' model; others stay."""

    def put(name: str, weight: Weight | None) -> None:
        if isinstance(weight, QTensor):
            steps = np.asarray(weight.qvalue.astype(jnp.float32))  # [out, in / group, group]
            restored = steps * np.asarray(weight.scale[0].astype(jnp.float32))
            model_reference.replace_weights(reference, {name: restored.reshape(len(restored), -1)})

    put(port.EMBED, params["embed"])
    put(port.LM_HEAD, params.get("lm_head"))
    for layer, name in itertools.product(range(config.num_hidden_layers), projection_shapes(config)):
        weight = jax.tree.map(lambda leaf, at=layer: leaf[at], params["layers"][name])
        put(port.layer_tensor(layer, name), weight)


def streamed_rows(
    directory: Path,
    reference_dir: Path,
    config: ModelConfig,
    batch: LeftPadded,
    head_rows: int = HEAD_ROWS,
) -> tuple[list[Row], np.ndarray]:
    """Compares hidden states after every layer, and logits; one layer of either side is in memory at a time.

    Args:
        head_rows: rows of the embedding and the head that are read at a time.

    Returns:
        the rows, and transformers' logits [P, V] float32 of the real positions.
    """
    theirs = model_reference.hidden_states(reference_dir, batch.ids, batch.attention)
    before = next(theirs)
    tensors = port.Tensors(directory, config)
    x = _streamed_embeddings(tensors, config, batch.tokens, head_rows)
    local = decoder.local_layers(config)
    own, same = [], []  # errors after each layer: end to end, and from transformers' hidden states before it
    for index in range(config.num_hidden_layers):
        layer = {
            name: tensors.read(port.layer_tensor(index, name)).astype(np.float32, copy=False)[None]
            for name in decoder.layer_shapes(config)
        }
        windowed = None if local is None else local[index : index + 1]
        after_own = _through_layer(config, layer, x, batch.positions, batch.mask, windowed)
        # What transformers leaves in padding may not be finite.
        clean = np.where(batch.real[..., None], before, 0)
        after_same = _through_layer(config, layer, clean, batch.positions, batch.mask, windowed)
        x, after_same = np.asarray(after_own), np.asarray(after_same)
        del layer, after_own  # before transformers takes memory for its own
        before = next(theirs)
        own.append(worst_position(x[batch.real], before[batch.real]))
        same.append(worst_position(after_same[batch.real], before[batch.real]))
    expected = model_reference.streamed_logits(reference_dir, before[batch.real], head_rows)
    ours = _streamed_logits(tensors, config, x[batch.real], head_rows)
    count = f"worst of {config.num_hidden_layers} layers, max abs error / max abs of the position"
    return [
        Row("hidden states, streamed", f"{count}, end to end", max(own), TOLERANCE),
        Row("each layer, streamed", f"{count}, from equal input", max(same), TOLERANCE),
        Row(
            "logits, streamed",
            "max abs error / max abs of the position",
            worst_position(ours, expected),
            TOLERANCE,
        ),
    ], expected


def _streamed_table(
    tensors: port.Tensors, config: ModelConfig, name: str, rows: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The embedding or the head in pieces: (first row, float32 [at most `rows`, D]), in order."""
    for start in range(0, config.vocab_size, rows):
        yield start, tensors.rows(name, start, min(start + rows, config.vocab_size)).astype(np.float32)


def _streamed_embeddings(
    tensors: port.Tensors, config: ModelConfig, tokens: np.ndarray, head_rows: int
) -> np.ndarray:
    """The embeddings float32 [B, T, D] of tokens [B, T]."""
    embeddings = np.empty((*tokens.shape, config.hidden_size), np.float32)
    for start, rows in _streamed_table(tensors, config, port.EMBED, head_rows):
        here = (start <= tokens) & (tokens < start + len(rows))
        own = jnp.asarray(tokens[here] - start)
        embeddings[here] = decoder.embed(config, jnp.asarray(rows), own, jnp.float32)
    return embeddings


def _streamed_logits(
    tensors: port.Tensors, config: ModelConfig, hidden: np.ndarray, head_rows: int
) -> np.ndarray:
    """float32 [P, V] of what the last layer made of P positions [P, D]."""
    norm = tensors.read(port.NORM).astype(np.float32, copy=False)
    normed = decoder.norm(config, jnp.asarray(hidden), jnp.asarray(norm))
    name = port.EMBED if config.tie_word_embeddings else port.LM_HEAD
    result = np.empty((len(hidden), config.vocab_size), np.float32)
    for start, rows in _streamed_table(tensors, config, name, head_rows):
        result[:, start : start + len(rows)] = _head(normed, rows)
    return np.asarray(soft_cap(jnp.asarray(result), config.final_logit_softcapping))
