"""What a model thinks of texts that are given: log p(text | prompt), and the logits of chosen next tokens.

The primitives of the critic, of a likelihood selector and of pointwise mutual information.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.errors import UserError
from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter
from constellation.model.model import Model

TOKENS_A_BATCH = 8192
LENGTH_STEP = 32  # row lengths are padded to multiples, so that few shapes are compiled
ANSWERS_A_ROW = 512  # answer tokens behind one prompt; more go to a further row, as attention is quadratic


def log_prob(
    model: Model,
    adapter: Adapter | None,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
) -> list[np.ndarray]:
    """log p(answer | prompt) in nats, for several answers to each prompt, which is computed once for all.

    Args:
        prompts: token ids, none empty.
        answers: answers[i] holds the token ids of each answer to prompts[i], with the stop id if it counts.

    Returns:
        For each prompt a float64 array [answers], an empty answer giving 0.

    Raises:
        UserError: an empty prompt.
    """
    totals = [np.zeros(len(group)) for group in answers]
    rows = [row for i, prompt in enumerate(prompts) for row in _rows(i, prompt, answers[i])]
    for batch, padded in _batches(rows):
        width = 1 << (max(len(row.target) for row in batch) - 1).bit_length()
        source = _pad([row.source for row in batch], len(padded.tokens), width)
        target = _pad([row.target for row in batch], len(padded.tokens), width)
        picked = np.asarray(
            _target_log_probs(model.config, model.params, adapter, padded, source, target), np.float64
        )
        for row, values in zip(batch, picked, strict=False):  # the batch is padded with rows of no meaning
            np.add.at(totals[row.prompt], row.answer, values[: len(row.answer)])
    return totals


def next_token_logits(
    model: Model, adapter: Adapter | None, prompts: Sequence[Sequence[int]], ids: Sequence[int]
) -> np.ndarray:
    """The logits of `ids` as the token that follows each prompt: float32 [prompts, ids].

    Raises:
        UserError: an empty prompt.
    """
    result = np.empty((len(prompts), len(ids)), np.float32)
    for batch, padded in _batches([row for i, prompt in enumerate(prompts) for row in _rows(i, prompt, [])]):
        last = _pad([[len(row.tokens) - 1] for row in batch], len(padded.tokens), 1)[:, 0]
        chosen = _chosen_logits(model.config, model.params, adapter, padded, last, jnp.array(ids))
        result[[row.prompt for row in batch]] = np.asarray(chosen)[: len(batch)]
    return result


class _Row(NamedTuple):
    """A prompt followed by some of its answers; each answer is a branch that sees the prompt and itself."""

    prompt: int
    tokens: list[int]
    positions: list[int]
    branch: list[int]  # 0 in the prompt, j + 1 in the row's answer j
    source: list[int]  # indices whose hidden state predicts ...
    target: list[int]  # ... these tokens ...
    answer: list[int]  # ... of the answers with these indices in the prompt's list


class _Padded(NamedTuple):
    """Rows as arrays [B, T]; branch is -1 in padding."""

    tokens: jax.Array
    positions: jax.Array
    branch: jax.Array


def _rows(index: int, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> Iterator[_Row]:
    if not len(prompt):
        raise UserError("a prompt is empty: scoring needs at least one token to condition on")

    def start() -> _Row:
        return _Row(index, list(prompt), list(range(len(prompt))), [0] * len(prompt), [], [], [])

    row = start()
    for number, answer in enumerate(answers):
        if row.target and len(row.target) + len(answer) > ANSWERS_A_ROW:
            yield row
            row = start()
        if not answer:
            continue
        begin = len(row.tokens)
        row.source.extend([len(prompt) - 1, *range(begin, begin + len(answer) - 1)])
        row.target.extend(answer)
        row.answer.extend([number] * len(answer))
        row.tokens.extend(answer)
        row.positions.extend(range(len(prompt), len(prompt) + len(answer)))
        row.branch.extend([number + 1] * len(answer))
    if row.target or not answers:
        yield row


def _batches(rows: Sequence[_Row]) -> Iterator[tuple[list[_Row], _Padded]]:
    """Rows of like length together, padded to one of few shapes."""
    by_length: dict[int, list[_Row]] = {}
    for row in rows:
        by_length.setdefault(-(-len(row.tokens) // LENGTH_STEP) * LENGTH_STEP, []).append(row)
    for length, group in sorted(by_length.items()):
        size = min(max(1, TOKENS_A_BATCH // length), 1 << (len(group) - 1).bit_length())
        for begin in range(0, len(group), size):
            batch = group[begin : begin + size]
            padded = _Padded(
                _pad([row.tokens for row in batch], size, length),
                _pad([row.positions for row in batch], size, length),
                _pad([row.branch for row in batch], size, length, fill=-1),
            )
            yield batch, padded


def _pad(values: Sequence[Sequence[int]], rows: int, width: int, fill: int = 0) -> jax.Array:
    array = np.full((rows, width), fill, np.int32)
    for row, value in zip(array, values, strict=False):
        row[: len(value)] = value
    return jnp.asarray(array)


def _hidden(config: ModelConfig, params: decoder.Params, adapter: Adapter | None, rows: _Padded) -> jax.Array:
    query, key = rows.branch[:, :, None], rows.branch[:, None, :]
    order = jnp.arange(rows.tokens.shape[1])
    mask = (order[:, None] >= order) & ((key == 0) | (key == query))  # [B, T, T]
    return decoder.forward(config, params, adapter, rows.tokens, rows.positions, mask)


@partial(jax.jit, static_argnums=0)
def _target_log_probs(
    config: ModelConfig,
    params: decoder.Params,
    adapter: Adapter | None,
    rows: _Padded,
    source: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """log p of target [B, A] from the hidden states at source [B, A]: float32 [B, A]."""
    hidden = _hidden(config, params, adapter, rows)
    picked = jnp.take_along_axis(hidden, source[..., None], axis=1)  # [B, A, D]

    def one_row(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, target = row  # one row at a time, as logits [A, V] can be large
        scores = decoder.logits(config, params, hidden)
        chosen = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
        return chosen - jax.nn.logsumexp(scores, axis=1)

    return jax.lax.map(one_row, (picked, target))


@partial(jax.jit, static_argnums=0)
def _chosen_logits(
    config: ModelConfig,
    params: decoder.Params,
    adapter: Adapter | None,
    rows: _Padded,
    last: jax.Array,
    ids: jax.Array,
) -> jax.Array:
    hidden = _hidden(config, params, adapter, rows)
    final = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]  # [B, D]
    return decoder.logits(config, params, final)[:, ids]
