"""What a model thinks of texts that are given: log p(text | prompt), and logits of what would follow.

The primitives of the critic, of a likelihood selector and of pointwise mutual information. What all prompts
of a call begin with is computed once, and the rows are divided among the slices of the model's mesh.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from constellation.errors import UserError
from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter
from constellation.model.mesh import DATA, REPLICATED, over_rows, replicate
from constellation.model.model import Model
from constellation.model.prefix import prefix_kv, prefix_length, shared_length

TOKENS_A_BATCH = 8192
PAIRS_A_BATCH = 2**23  # of a query and a key, whose scores every head of a layer holds at once
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
    fixed, prompts = _fixed(model, adapter, prompts)
    for batch, padded in _batches(fixed, prompts, texts):
        source = _pad([[index for ends in row.predicts for index in ends[:-1]] for row in batch], padded)
        target = _pad([[id for text in row.texts for id in texts[row.prompt][text]] for row in batch], padded)
        picked = np.asarray(_target_log_probs(*fixed, (padded, source, target)))
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
    fixed, prompts = _fixed(model, adapter, prompts)
    for batch, padded in _batches(fixed, prompts, texts):
        source = _pad([[ends[-1] for ends in row.predicts] for row in batch], padded)
        chosen = np.asarray(_chosen_logits(*fixed, np.array(ids), (padded, source)))
        for row, values in zip(batch, chosen, strict=False):
            result[row.prompt][row.texts] = values[: len(row.texts)]
    return result


class _Static(NamedTuple):
    """What the compiled functions depend on."""

    config: ModelConfig
    mesh: Mesh


Fixed = tuple[_Static, decoder.Params, Adapter | None, decoder.KV | None]  # the KV of the shared prefix


def _fixed(model: Model, adapter: Adapter | None, prompts: Sequence[Ids]) -> tuple[Fixed, list[Ids]]:
    """The first arguments of the compiled functions, and the prompts behind what they share."""
    shared = shared_length(prompts)
    adapter, prefix = replicate(adapter, model.mesh), None
    if shared:
        prefix = prefix_kv(model.config, model.params, adapter, np.array(prompts[0][:shared], np.int32))
    static = _Static(model.config, model.mesh)
    return (static, model.params, adapter, prefix), [prompt[shared:] for prompt in prompts]


class _Row(NamedTuple):
    """A prompt followed by some of its texts; each text is a branch that sees the prompt and itself."""

    prompt: int  # index of the prompt
    tokens: list[int]
    positions: list[int]
    branch: list[int]  # 0 in the prompt, else a number of the text
    texts: list[int]  # indices of the texts
    predicts: list[list[int]]  # for each text, where its tokens and the one after it are predicted


class _Padded(NamedTuple):
    """Rows as int32 arrays [B, T]; branch is -1 in padding."""

    tokens: Any
    positions: Any
    branch: Any


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


def rows_a_batch(length: int, prefix: int) -> int:
    """How many rows of `length` tokens, behind so many shared ones, are scored at a time."""
    return max(1, min(TOKENS_A_BATCH // length, PAIRS_A_BATCH // (length * (prefix + length))))


def _batches(
    fixed: Fixed, prompts: Sequence[Ids], texts: Sequence[Sequence[Ids]]
) -> Iterator[tuple[list[_Row], _Padded]]:
    """Rows of like length together, padded to one of few shapes, the rows to a multiple of the slices."""
    static, _, _, prefix = fixed
    slices = static.mesh.shape[DATA]
    by_length: dict[int, list[_Row]] = {}
    for index, prompt in enumerate(prompts):
        for row in _rows(index, prompt, texts[index]):
            by_length.setdefault(-(-len(row.tokens) // LENGTH_STEP) * LENGTH_STEP, []).append(row)
    for length, group in sorted(by_length.items()):
        size = min(rows_a_batch(length, prefix_length(prefix)), _power_of_two(len(group)))
        for begin in range(0, len(group), size):
            batch = group[begin : begin + size]
            arrays = np.zeros((3, -(-size // slices) * slices, length), np.int32)
            arrays[2] = -1
            for number, row in enumerate(batch):
                arrays[:, number, : len(row.tokens)] = row.tokens, row.positions, row.branch
            yield batch, _Padded(*arrays)


def _pad(values: Sequence[Sequence[int]], rows: _Padded) -> np.ndarray:
    """Lists of unequal length, one for each row -> [B, A] with zeros behind."""
    array = np.zeros((len(rows.tokens), _power_of_two(max(map(len, values)))), np.int32)
    for row, value in zip(array, values, strict=False):
        row[: len(value)] = value
    return array


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


@partial(jax.jit, static_argnums=0)
def _target_log_probs(
    static: _Static,
    params: decoder.Params,
    adapter: Adapter | None,
    prefix: decoder.KV | None,
    rows: tuple[_Padded, jax.Array, jax.Array],
) -> jax.Array:
    """log p of target [B, A] by the hidden states at source [B, A]: float32 [B, A]."""

    def of_slice(
        params: decoder.Params, adapter: Adapter | None, prefix: decoder.KV | None, rows: Any
    ) -> jax.Array:
        padded, source, target = rows
        hidden = _hidden(static.config, params, adapter, prefix, padded, source)

        def one_row(row: tuple[jax.Array, jax.Array]) -> jax.Array:
            hidden, target = row
            scores = decoder.logits(static.config, params, hidden)  # [A, V]
            picked = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
            return picked - jax.nn.logsumexp(scores, axis=1)

        # A row at a time: logits of a whole batch can be larger than the model.
        return jax.lax.map(one_row, (hidden, target))

    return _everywhere(static, over_rows(of_slice, static.mesh, reduce=False)(params, adapter, prefix, rows))


@partial(jax.jit, static_argnums=0)
def _chosen_logits(
    static: _Static,
    params: decoder.Params,
    adapter: Adapter | None,
    prefix: decoder.KV | None,
    ids: jax.Array,
    rows: tuple[_Padded, jax.Array],
) -> jax.Array:
    """Logits of `ids` by the hidden states at source [B, A]: float32 [B, A, ids]."""

    def of_slice(
        params: decoder.Params, adapter: Adapter | None, prefix: decoder.KV | None, ids: jax.Array, rows: Any
    ) -> jax.Array:
        hidden = _hidden(static.config, params, adapter, prefix, *rows)
        return jax.lax.map(lambda row: decoder.logits(static.config, params, row)[:, ids], hidden)

    return _everywhere(
        static, over_rows(of_slice, static.mesh, reduce=False)(params, adapter, prefix, ids, rows)
    )


def _hidden(
    config: ModelConfig,
    params: decoder.Params,
    adapter: Adapter | None,
    prefix: decoder.KV | None,
    rows: _Padded,
    source: jax.Array,
) -> jax.Array:
    mask, positions = decoder.branch_mask(rows.branch), rows.positions + prefix_length(prefix)
    hidden = decoder.forward(config, params, adapter, rows.tokens, positions, mask, prefix=prefix)
    return jnp.take_along_axis(hidden, source[..., None], axis=1)  # [B, A, D]


def _everywhere(static: _Static, rows: jax.Array) -> jax.Array:
    """Rows on every device, so that every process can read them."""
    return jax.lax.with_sharding_constraint(rows, NamedSharding(static.mesh, REPLICATED))
