"""The float32 model layer by layer: no more than one layer of either side is in memory."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from constellation.model import port
from constellation.model.config import ModelConfig
from constellation.model.decoder import rms_norm, through_layers
from constellation.model.linear import head
from third_party import model_reference
from third_party.comparison.batch import LeftPadded
from third_party.comparison.errors import worst_position
from third_party.comparison.table import Row

TOLERANCE = 1e-4
HEAD_ROWS = 2**14  # of the vocabulary at a time

_layer = jax.jit(through_layers, static_argnums=0)


def streamed_rows(
    directory: Path, reference_dir: Path, config: ModelConfig, batch: LeftPadded
) -> tuple[list[Row], np.ndarray]:
    """Compares hidden states after every layer, and logits.

    Returns:
        the rows, and transformers' logits [P, V] float32 of the real positions.
    """
    theirs = model_reference.hidden_states(reference_dir, batch.ids, batch.attention)
    before = next(theirs)
    x = embed(directory, config, batch.tokens)
    own, same = [], []  # errors after each layer: end to end, and from transformers' hidden states before it
    for layer in port.layers(directory, config, np.float32):
        after_own = _layer(config, layer, x, batch.positions, batch.mask)
        # What transformers leaves in padding may not be finite.
        clean = np.where(batch.real[..., None], before, 0)
        after_same = _layer(config, layer, clean, batch.positions, batch.mask)
        x, after_same = np.asarray(after_own), np.asarray(after_same)
        del layer, after_own  # before transformers takes memory for its own
        before = next(theirs)
        own.append(worst_position(x[batch.real], before[batch.real]))
        same.append(worst_position(after_same[batch.real], before[batch.real]))
    expected = model_reference.streamed_logits(reference_dir, before[batch.real], HEAD_ROWS)
    ours = logits(directory, config, x[batch.real])
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


def embed(directory: Path, config: ModelConfig, tokens: np.ndarray) -> np.ndarray:
    """The embeddings float32 [B, T, D] of tokens [B, T]."""
    embeddings = np.empty((*tokens.shape, config.hidden_size), np.float32)
    for start, rows in port.table_rows(directory, config, port.EMBED, HEAD_ROWS, np.float32):
        here = (start <= tokens) & (tokens < start + len(rows))
        embeddings[here] = rows[tokens[here] - start]
    return embeddings


def logits(directory: Path, config: ModelConfig, hidden: np.ndarray) -> np.ndarray:
    """float32 [P, V] of what the last layer made of P positions [P, D]."""
    normed = rms_norm(
        jnp.asarray(hidden), jnp.asarray(port.final_norm(directory, config, np.float32)), config.rms_norm_eps
    )
    name = port.EMBED if config.tie_word_embeddings else port.LM_HEAD
    result = np.empty((len(hidden), config.vocab_size), np.float32)
    for start, rows in port.table_rows(directory, config, name, HEAD_ROWS, np.float32):
        result[:, start : start + len(rows)] = _head(normed, rows)
    return result


_head = jax.jit(head)
