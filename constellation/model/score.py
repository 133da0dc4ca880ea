"""What a model thinks of texts that are given: log p(text | prompt), and logits of what would follow.

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
TEXT_TOKENS_A_ROW = 512  # behind one prompt; more go to a further row, as attention is quadratic

Ids = Sequence[int] | np.ndarray


def log_prob(
    model: Model, adapter: Adapter | None, prompts: Sequence[Ids], texts: Sequence[Sequence[Ids]]
) -> list[np.ndarray]:
    """log p(text | prompt) in nats, for several texts after each prompt, which is computed once for all.

    Args:
        prompts: token ids, none empty.
        texts: texts[i] holds the token ids of each text after prompts[i], with the stop id if it counts.

    Returns:
        For each prompt a float64 array [texts], an empty text giving 0.

    Raises:
        UserError: an empty prompt.
    """
    totals = [np.zeros(len(group)) for group in texts]
    for batch, padded in _batches(prompts, texts):
        source = _pad([[index for ends in row.predicts for index in ends[:-1]] for row in batch], padded)
        target = _pad([[id for text in row.texts for id in texts[row.prompt][text]] for row in batch], padded)
        picked = np.asarray(_target_log_probs(model.config, model.params, adapter, padded, source, target))
        for row, values in zip(batch, picked, strict=False):  # the batch is padded with rows of no meaning
            owner = np.repeat(row.texts, [len(ends) - 1 for ends in row.predicts])
            np.add.at(totals[row.prompt], owner, values[: len(owner)].astype(np.float64))
    return totals


def next_token_logits(
    model: Model,
    adapter: Adapter | None,
    prompts: Sequence[Ids],
    texts: Sequence[Sequence[Ids]],
    ids: Sequence[int],
) -> list[np.ndarray]:
    """The logits of `ids` as the token that follows prompt + text, for several texts after each prompt.

    Args:
        prompts, texts: as for `log_prob`; an empty text asks what follows the prompt itself.

    Returns:
        For each prompt a float32 array [texts, ids].

    Raises:
        UserError: an empty prompt.
    """
    result = [np.zeros((len(group), len(ids)), np.float32) for group in texts]
    for batch, padded in _batches(prompts, texts):
        source = _pad([[ends[-1] for ends in row.predicts] for row in batch], padded)
        chosen = np.asarray(
            _chosen_logits(model.config, model.params, adapter, padded, source, jnp.array(ids))
        )
        for row, values in zip(batch, chosen, strict=False):
            result[row.prompt][row.texts] = values[: len(row.texts)]
    return result


class _Row(NamedTuple):
    """A prompt followed by some of its texts; each text is a branch that sees the prompt and itself."""

    prompt: int  # index of the prompt
    tokens: list[int]
    positions: list[int]
    branch: list[int]  # 0 in the prompt, else a number of the text
    texts: list[int]  # indices of the texts
    predicts: list[list[int]]  # for each text, where its tokens and the one after it are predicted


class _Padded(NamedTuple):
    """Rows as arrays [B, T]; branch is -1 in padding."""

    tokens: jax.Array
    positions: jax.Array
    branch: jax.Array


def _rows(index: int, prompt: Ids, texts: Sequence[Ids]) -> Iterator[_Row]:
    length = len(prompt)
    if length == 0:
        raise UserError("a prompt is empty: scoring needs at least one token to condition on")

    def start() -> _Row:
        return _Row(index, list(prompt), list(range(length)), [0] * length, [], [])

    row = start()
    for number, text in enumerate(texts):
        begin = len(row.tokens)
        if begin > length and begin - length + len(text) > TEXT_TOKENS_A_ROW:
            yield row
            row, begin = start(), length
        row.tokens.extend(text)
        row.positions.extend(range(length, length + len(text)))
        row.branch.extend([number + 1] * len(text))
        row.texts.append(number)
        row.predicts.append([length - 1, *range(begin, begin + len(text))])
    if row.texts:
        yield row


def _batches(prompts: Sequence[Ids], texts: Sequence[Sequence[Ids]]) -> Iterator[tuple[list[_Row], _Padded]]:
    """Rows of like length together, padded to one of few shapes."""
    by_length: dict[int, list[_Row]] = {}
    for index, prompt in enumerate(prompts):
        for row in _rows(index, prompt, texts[index]):
            by_length.setdefault(-(-len(row.tokens) // LENGTH_STEP) * LENGTH_STEP, []).append(row)
    for length, group in sorted(by_length.items()):
        size = min(max(1, TOKENS_A_BATCH // length), _power_of_two(len(group)))
        for begin in range(0, len(group), size):
            batch = group[begin : begin + size]
            arrays = np.zeros((3, size, length), np.int32)
            arrays[2] = -1
            for number, row in enumerate(batch):
                arrays[:, number, : len(row.tokens)] = row.tokens, row.positions, row.branch
            yield batch, _Padded(*map(jnp.asarray, arrays))


def _pad(values: Sequence[Sequence[int]], rows: _Padded) -> jax.Array:
    """Lists of unequal length, one for each row -> [B, A] with zeros behind."""
    array = np.zeros((len(rows.tokens), _power_of_two(max(map(len, values)))), np.int32)
    for row, value in zip(array, values, strict=False):
        row[: len(value)] = value
    return jnp.asarray(array)


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


@partial(jax.jit, static_argnums=0)
def _target_log_probs(
    config: ModelConfig,
    params: decoder.Params,
    adapter: Adapter | None,
    rows: _Padded,
    source: jax.Array,
    target: jax.Array,
) -> jax.Array:
    """log p of target [B, A] by the hidden states at source [B, A]: float32 [B, A]."""

    def one_row(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, target = row
        scores = decoder.logits(config, params, hidden)  # [A, V]
        return jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0] - jax.nn.logsumexp(scores, axis=1)

    # A row at a time: logits of a whole batch can be larger than the model.
    return jax.lax.map(one_row, (_hidden(config, params, adapter, rows, source), target))


@partial(jax.jit, static_argnums=0)
def _chosen_logits(
    config: ModelConfig,
    params: decoder.Params,
    adapter: Adapter | None,
    rows: _Padded,
    source: jax.Array,
    ids: jax.Array,
) -> jax.Array:
    """Logits of `ids` by the hidden states at source [B, A]: float32 [B, A, ids]."""
    hidden = _hidden(config, params, adapter, rows, source)
    return jax.lax.map(lambda row: decoder.logits(config, params, row)[:, ids], hidden)


def _hidden(
    config: ModelConfig, params: decoder.Params, adapter: Adapter | None, rows: _Padded, source: jax.Array
) -> jax.Array:
    mask = decoder.branch_mask(rows.branch)
    hidden = decoder.forward(config, params, adapter, rows.tokens, rows.positions, mask)
    return jnp.take_along_axis(hidden, source[..., None], axis=1)  # [B, A, D]
