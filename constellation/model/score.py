"""What a model thinks of texts that are given: log p(text | prompt), and logits of what would follow.

Critic, reach and the selection by likelihood are built on them. What all prompts of a call begin with is
computed once, and so is what several texts behind one prompt begin with. The rows are divided among the
slices of the model's mesh. Several trajectories are one program vmapped over their adapters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter
from constellation.model.mesh import DATA, REPLICATED, over_rows, replicate
from constellation.model.model import Generator
from constellation.model.padding import join_few, multiple, power_of_two
from constellation.model.prefix import WORTHWHILE, common_prefix, prefix_kv, prefix_length, shared_length
from constellation.runtime.errors import UserError

LENGTH_STEP = 64  # row lengths are padded to multiples, so that few shapes are compiled

Ids = Sequence[int] | np.ndarray


class Batching(NamedTuple):
    """How texts are laid out in rows and batches; scores do not depend on it but for rounding."""

    tokens: int = 2048  # of a batch; what a layer computes of many more is too large for a CPU's caches
    pairs: int = 2**23  # of a query and a key in a batch, whose scores every head of a layer holds at once
    text_tokens: int = 256  # behind one prompt; more go to a further row, as attention is quadratic
    shared_tokens: int = WORTHWHILE  # at the beginning of all prompts, from which on it is computed once


BATCHING = Batching()


def log_prob(
    generator: Generator,
    prompts: Sequence[Sequence[Ids]],
    texts: Sequence[Sequence[Sequence[Ids]]],
    batching: Batching = BATCHING,
) -> list[list[np.ndarray]]:
    """log p(text | prompt) in nats, for several texts after each prompt, which is computed once for all.

    Args:
        prompts: prompts[r][i] holds the token ids of a prompt of one of R trajectories.
        texts: texts[r][i] holds the ids of each text after prompts[r][i], with the stop id if it counts.

    Returns:
        for each trajectory and prompt a float64 array [texts], an empty text giving 0.

    Raises:
        UserError: a prompt is empty.
    """
    totals = [[np.zeros(len(group)) for group in groups] for groups in texts]
    fixed, prompts = _fixed(generator, prompts, batching)
    for batch in _batches(fixed, prompts, texts, batching):
        source = _pad(batch, batch.targets, lambda row: row.sources)
        target = _pad(batch, batch.targets, lambda row: row.targets)
        picked = np.asarray(_target_log_probs(*fixed, (batch.padded, source, target)))
        for (at, trajectory), row in batch.rows.items():
            values = picked[at, trajectory].astype(np.float64)
            for text, path in zip(row.texts, row.paths, strict=True):
                own = np.array(path[1:], int) - row.length
                totals[trajectory][row.prompt][text] = values[own].sum()
    return totals


def next_token_logits(
    generator: Generator,
    prompts: Sequence[Sequence[Ids]],
    texts: Sequence[Sequence[Sequence[Ids]]],
    ids: Sequence[int],
    batching: Batching = BATCHING,
) -> list[list[np.ndarray]]:
    """The logits of `ids` as the token that follows prompt + text: float32 [texts, ids] for each prompt.

    Arguments and errors are those of `log_prob`; after an empty text, it is what follows the prompt itself.
    """
    result = [[np.zeros((len(group), len(ids)), np.float32) for group in groups] for groups in texts]
    fixed, prompts = _fixed(generator, prompts, batching)
    for batch in _batches(fixed, prompts, texts, batching):
        source = _pad(batch, batch.texts, lambda row: [path[-1] for path in row.paths])
        chosen = np.asarray(_chosen_logits(*fixed, np.array(ids), (batch.padded, source)))
        for (at, trajectory), row in batch.rows.items():
            result[trajectory][row.prompt][row.texts] = chosen[at, trajectory, : len(row.texts)]
    return result


class _Static(NamedTuple):
    config: ModelConfig
    mesh: Mesh


# Each trajectory's own: its adapter and the KV of the shared prefix, [R, ...]; R is 1 for the base itself.
Own = tuple[Adapter | None, decoder.KV | None]
Fixed = tuple[_Static, decoder.Params, Own]


def _fixed(
    generator: Generator, prompts: Sequence[Sequence[Ids]], batching: Batching
) -> tuple[Fixed, list[list[Ids]]]:
    """The first arguments of the compiled functions, and the prompts behind what they share."""
    model, whole = generator.model, [prompt for group in prompts for prompt in group]
    shared = shared_length(whole, batching.shared_tokens)
    adapters = replicate(generator.adapters, model.mesh)
    prefix: decoder.KV | None = None
    if shared:
        beginning = np.array(whole[0][:shared], np.int32)

        def one_trajectory(adapter: Adapter | None) -> decoder.KV:
            return prefix_kv(model.config, model.params, adapter, beginning)

        if adapters is None:
            prefix = jax.tree.map(lambda x: x[None], one_trajectory(None))
        else:
            prefix = jax.vmap(one_trajectory)(adapters)
    fixed = _Static(model.config, model.mesh), model.params, (adapters, prefix)
    return fixed, [[prompt[shared:] for prompt in group] for group in prompts]


class _Row(NamedTuple):
    """A prompt followed by some of its texts as a tree: what texts begin with alike is there once."""

    trajectory: int
    prompt: int  # index of the prompt
    length: int  # of the prompt
    tokens: list[int]  # depth first, as `tree_mask` takes them
    positions: list[int]
    sources: list[int]  # of each token behind the prompt, the place of the one before it in its texts
    texts: list[int]  # indices of the texts
    paths: list[list[int]]  # of each text, the places of the prompt's last token and of its own

    @property
    def targets(self) -> list[int]:
        """The tokens behind the prompt."""
        return self.tokens[self.length :]

    @property
    def ends(self) -> list[int]:
        """Where the last descendant of each token ends."""
        ends = list(range(1, len(self.tokens) + 1))
        for place, source in reversed([*enumerate(self.sources, self.length)]):
            ends[source] = max(ends[source], ends[place])
        return [len(ends)] * self.length + ends[self.length :]

    def add(self, number: int, text: Sequence[int], shared: int) -> None:
        """Adds a text that begins with the same tokens as the last one, `shared` of them."""
        last = self.paths[-1] if self.paths else [self.length - 1]
        new = range(len(self.tokens), len(self.tokens) + len(text) - shared)
        path = [*last[: shared + 1], *new]
        self.tokens.extend(text[shared:])
        self.positions.extend(range(self.length + shared, self.length + len(text)))
        self.sources.extend(path[shared:-1])
        self.texts.append(number)
        self.paths.append(path)


class _Padded(NamedTuple):
    """Rows as int32 arrays [B, R, T]; `ends` is 0 in padding."""

    tokens: Any
    positions: Any
    ends: Any


def _rows(trajectory: int, index: int, prompt: Ids, texts: Sequence[Ids], most: int) -> Iterator[_Row]:
    """Rows of one prompt, with up to `most` tokens of texts each, or one text."""
    length = len(prompt)
    if length == 0:
        raise UserError("a prompt is empty: scoring needs at least one token to condition on")

    def start() -> _Row:
        return _Row(trajectory, index, length, list(prompt), list(range(length)), [], [], [])

    row, last = start(), ()
    for text, number in sorted((tuple(text), number) for number, text in enumerate(texts)):
        shared = common_prefix([last, text])
        if row.texts and len(row.sources) + len(text) - shared > most:
            yield row
            row, shared = start(), 0
        row.add(number, text, shared)
        last = text
    if row.texts:
        yield row


def rows_a_batch(length: int, prefix: int, batching: Batching = BATCHING) -> int:
    """How many rows of `length` tokens, behind so many shared ones, are scored at a time."""
    return max(1, min(batching.tokens // length, batching.pairs // (length * (prefix + length))))


class _Batch(NamedTuple):
    """Rows of one padded length."""

    rows: dict[tuple[int, int], _Row]  # by their place (b, r)
    padded: _Padded
    texts: int  # at least as many as any row of this length has, so that a length has one shape
    targets: int


def _batches(
    fixed: Fixed,
    prompts: Sequence[Sequence[Ids]],
    texts: Sequence[Sequence[Sequence[Ids]]],
    batching: Batching,
) -> Iterator[_Batch]:
    """Rows of like length together, padded to one of few shapes, the rows to a multiple of the slices."""
    static, _, (_, prefix) = fixed
    slices, trajectories = static.mesh.shape[DATA], len(prompts)
    by_length: dict[int, list[_Row]] = {}
    for trajectory, group in enumerate(prompts):
        for index, prompt in enumerate(group):
            for row in _rows(trajectory, index, prompt, texts[trajectory][index], batching.text_tokens):
                length = multiple(len(row.tokens), LENGTH_STEP)
                by_length.setdefault(length, []).append(row)

    def fitting(length: int) -> int:
        return max(rows_a_batch(length, prefix_length(prefix), batching) // trajectories, 1)

    def most_of_one(rows: Sequence[_Row]) -> int:
        return max(Counter(row.trajectory for row in rows).values())

    joined = join_few(by_length, lambda length, rows: most_of_one(rows) >= fitting(length))
    for length, alike in joined.items():
        groups = [[row for row in alike if row.trajectory == r] for r in range(trajectories)]
        texts_of_one = power_of_two(max(len(row.texts) for row in alike))
        targets_of_one = power_of_two(max(len(row.targets) for row in alike))
        most = most_of_one(alike)
        size = min(fitting(length), power_of_two(most))
        for begin in range(0, most, size):
            batch = {
                (at, row.trajectory): row
                for group in groups
                for at, row in enumerate(group[begin : begin + size])
            }
            arrays = np.zeros((3, multiple(size, slices), trajectories, length), np.int32)
            for place, row in batch.items():
                arrays[:, *place, : len(row.tokens)] = row.tokens, row.positions, row.ends
            yield _Batch(batch, _Padded(*arrays), texts_of_one, targets_of_one)


def _pad(batch: _Batch, width: int, values_of: Callable[[_Row], Sequence[int]]) -> np.ndarray:
    """Values of each row, at most A = `width` -> [B, R, A] with zeros behind."""
    array = np.zeros((*batch.padded.tokens.shape[:2], width), np.int32)
    for place, row in batch.rows.items():
        values = values_of(row)
        array[*place, : len(values)] = values
    return array


@partial(jax.jit, static_argnums=0)
def _target_log_probs(
    static: _Static, params: decoder.Params, own: Own, rows: tuple[_Padded, jax.Array, jax.Array]
) -> jax.Array:
    """log p of target [B, R, A] by the hidden states at source [B, R, A]: float32 [B, R, A]."""

    def one_slice(params: decoder.Params, own: Own, rows: Any) -> jax.Array:
        padded, source, target = rows
        hidden = _hidden(static.config, params, own, padded, source)

        def one_row(row: tuple[jax.Array, jax.Array]) -> jax.Array:
            hidden, target = row
            scores = decoder.logits(static.config, params, hidden)  # [A, V]
            picked = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
            return picked - jax.nn.logsumexp(scores, axis=1)

        # A row at a time: logits of a whole batch can be larger than the model.
        return _map_rows(one_row, (hidden, target))

    return _everywhere(static, over_rows(one_slice, static.mesh, reduce=False)(params, own, rows))


@partial(jax.jit, static_argnums=0)
def _chosen_logits(
    static: _Static, params: decoder.Params, own: Own, ids: jax.Array, rows: tuple[_Padded, jax.Array]
) -> jax.Array:
    """Logits of `ids` by the hidden states at source [B, R, A]: float32 [B, R, A, ids]."""

    def one_slice(params: decoder.Params, own: Own, ids: jax.Array, rows: Any) -> jax.Array:
        hidden = _hidden(static.config, params, own, *rows)
        return _map_rows(lambda row: decoder.logits(static.config, params, row)[:, ids], hidden)

    return _everywhere(static, over_rows(one_slice, static.mesh, reduce=False)(params, own, ids, rows))


def _map_rows(function: Callable[[Any], jax.Array], rows: Any) -> jax.Array:
    """A function of one row, over [B, R, ...], one after the other."""
    each = jax.lax.map(function, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows))
    return each.reshape(*jax.tree.leaves(rows)[0].shape[:2], *each.shape[1:])


def _hidden(
    config: ModelConfig, params: decoder.Params, own: Own, rows: _Padded, source: jax.Array
) -> jax.Array:
    """The hidden states [B, R, A, D] at source [B, R, A]."""

    def one_trajectory(own: Own, rows: _Padded, source: jax.Array) -> jax.Array:
        adapter, prefix = own
        mask, positions = decoder.tree_mask(rows.ends), rows.positions + prefix_length(prefix)
        return decoder.forward(
            config, params, adapter, rows.tokens, positions, mask, prefix=prefix, source=source
        )  # [B, A, D]

    return jax.vmap(one_trajectory, (0, 1, 1), 1)(own, rows, source)


def _everywhere(static: _Static, rows: jax.Array) -> jax.Array:
    """Rows on every device, so that every process can read them."""
    return jax.lax.with_sharding_constraint(rows, NamedSharding(static.mesh, REPLICATED))
