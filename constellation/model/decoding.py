"""The compiled half of the generator: prefill, a chunk of decoding, the draw of a token."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from constellation.model.config import ModelConfig
from constellation.model.decoder import KV, Params, append, decode_step, int8_kv, logits, prefill
from constellation.model.linear import Transposed, dense
from constellation.model.lora import Adapter, layer_weights, projection_shapes
from constellation.model.mesh import MODEL, dividing
from constellation.model.prefix import WORTHWHILE, prefix_kv, prefix_length
from constellation.model.sampling import SamplingConfig, scores

Tree = TypeVar("Tree")
Layers: TypeAlias = dict[str, jax.Array | Transposed]  # by the names of their weights

CHUNK = 4  # a sample idles (CHUNK - 1) / 2 steps after its end; shorter chunks copy and dispatch more often
FOLLOWERS = 64  # that draw at a time: the noise of all of them, [M, V], can be larger than the model


class Static(NamedTuple):
    """What the compiled functions depend on."""

    config: ModelConfig
    sampling: SamplingConfig  # `compiled`
    vocabulary: int  # ids that the tokenizer knows
    devices: Mesh  # 1 x model
    draw: Callable[..., jax.Array]  # as `draw` below


class Own(NamedTuple):
    """What each of R trajectories has of its own. As in a KV, their axis follows that of the layers.

    Lists of KVs are of the parts of the layers, see `decode_step`.
    """

    adapter: Adapter | None  # [L, R, ...]
    layers: list[Layers]  # [L, R, ...] of each part, where layers are merged; see `fix`
    prefix: KV | None  # [L, R, ...] of what all prompts begin with
    key: jax.Array  # [R]
    temperature: Any = 1.0  # [] of all

    @property
    def parts(self) -> int:
        """In how many parts the layers are decoded."""
        return len(self.layers) or 1


AXES = Own(1, 1, 1, 0, None)  # type: ignore[arg-type]  # of the trajectories, for a vmap


class Fixed(NamedTuple):
    """What all computations of a slice share, on its devices."""

    static: Static
    params: Params  # of the base
    own: Own


class Prompts(NamedTuple):
    """P tasks of one trajectory, their prompts padded behind."""

    tokens: Any  # [P, T]
    lengths: Any  # [P]
    words: Any  # [P] of the tasks' ids


class Rows(NamedTuple):
    """R trajectories x G slots, each of one task, x W rows, each of one sample."""

    lengths: Any  # [R, G] of the slots' prompts
    words: Any  # [R, G] of their tasks' ids
    samples: Any  # [R, G, W]
    counts: Any  # [R, G, W] how many tokens a sample has
    tokens: Any  # [R, G, W] the last of these


class Followers(NamedTuple):
    """M samples that have drawn the same tokens as a row's, padded to whole blocks of FOLLOWERS."""

    rows: Any  # [M] whose, numbered through [R, G, W]
    words: Any  # [M] of their tasks' ids
    samples: Any  # [M]
    counts: Any  # [M] how many tokens they have


def fix(
    static: Static,
    params: Params,
    adapters: Adapter | None,
    keys: jax.Array,
    temperature: float,
    shared: Sequence[int],
    merged: bool,
) -> Fixed:
    """What a slice computes with; the KV of the ids that all prompts share is computed here.

    Args:
        adapters: [R, ...] of the trajectories; None for one trajectory of the base itself.
        keys: [R].
        shared: the ids that all prompts begin with; it may be empty.
        merged: whether to decode with adapters merged into dense weights of the base.
    """
    adapters = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), adapters)
    own = Own(adapters, [], None, keys, jnp.float32(temperature))
    if merged:
        own = own._replace(layers=_merged(static.config, params, own))
    if shared:
        own = own._replace(prefix=_prefixes(static, params, own, np.array(shared, np.int32)))
    return Fixed(static, params, own)


@functools.partial(jax.jit, static_argnums=0)
def begin(
    static: Static,
    params: Params,
    own: Own,
    trajectory: jax.Array,
    prompts: Prompts,
    samples: jax.Array,
) -> tuple[list[KV], jax.Array]:
    """A trajectory's prompts -> their KV, and the first token [P, n] of samples [n]."""
    tokens, lengths, words = prompts
    adapter, prefix = jax.tree.map(lambda leaf: leaf[:, trajectory], (own.adapter, own.prefix))
    key = own.key[trajectory]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    causal = positions[:, :, None] >= positions[:, None]
    mask = causal & (positions < lengths[:, None])[:, None]  # [P, T, T]
    positions += prefix_length(prefix)
    with dividing(static.devices):
        last, kv = prefill(
            static.config, params, adapter, tokens, positions, mask, prefix, source=lengths[:, None] - 1
        )  # [P, 1, D]
    after = logits(static.config, params, last[:, 0])[:, : static.vocabulary]
    over_samples = jax.vmap(_draw(static, own), (None, None, None, 0, None))
    # A prompt at a time: the noise of all, [P, n, V], can be larger than the model.
    first = jax.lax.map(
        lambda prompt: over_samples(prompt[0], key, prompt[1], samples, jnp.int32(0)), (after, words)
    )
    return _in_parts(_kept(static, kv), own.parts), first


@functools.partial(jax.jit, static_argnums=0, donate_argnames="suffix")
def extend(
    static: Static,
    params: Params,
    own: Own,
    prompt: list[KV],
    suffix: list[KV],
    rows: Rows,
) -> tuple[jax.Array, jax.Array, list[KV]]:
    """CHUNK more tokens for every row.

    Args:
        prompt: KV [L, R, G, ...] of the slots, of which the first `rows.lengths` positions are read.
        suffix: KV [L, R, G, W, ...] of the rows, of which the first `rows.counts` - 1 positions are read;
            overwritten.

    Returns:
        [R, G, W, CHUNK] tokens, the logits [CHUNK, R, G, W, V] that they are drawn from, and the suffix with
        the KV of `rows.tokens` and of all but the last of them.
    """
    lengths, words, samples, counts, tokens = rows
    prefix = None if own.prefix is None else _in_parts(own.prefix, own.parts)

    def step(
        own: Own,
        prefix: list[KV] | None,
        slot: tuple[list[KV], jax.Array],
        row: tuple[list[KV], jax.Array, jax.Array],
        recent: list[KV],
        index: jax.Array,
    ) -> tuple[jax.Array, list[KV]]:
        (prompt, length), (suffix, count, token) = slot, row
        shared = jnp.int32(prefix_length(own.prefix))
        weights = params | {"layers": own.layers or [params["layers"]]}
        adapter = None if own.layers else own.adapter
        answer = shared + length  # the position of its first token
        chunk = answer + count - 1
        caches = [(prompt, length, shared), (suffix, count - 1, answer), (recent, index, chunk)]
        if prefix is not None:
            caches.append((prefix, shared, jnp.int32(0)))
        return decode_step(static.config, weights, adapter, token, chunk + index, caches)

    # The KV of this chunk are kept apart until its end, since there one index serves all rows.
    over_rows = jax.vmap(step, (None, None, None, (1, 0, 0), 1, None), (0, 1))
    over_slots = jax.vmap(over_rows, (None, None, (1, 0), (1, 0, 0), 1, None), (0, 1))
    over_trajectories = jax.vmap(over_slots, (AXES, 1, (1, 0), (1, 0, 0), 1, None), (0, 1))
    draw_rows = jax.vmap(_draw(static, own), (0, None, None, 0, 0))
    draw_slots = jax.vmap(draw_rows, (0, None, 0, 0, 0))
    draw_each = jax.vmap(draw_slots, (0, 0, 0, 0, 0))

    def one(
        carry: tuple[jax.Array, list[KV]], index: jax.Array
    ) -> tuple[tuple[jax.Array, list[KV]], tuple[jax.Array, jax.Array]]:
        token, recent = carry
        row = suffix, counts, token
        hidden, new = over_trajectories(own, prefix, (prompt, lengths), row, recent, index)
        after = logits(static.config, params, hidden)[..., : static.vocabulary]
        token = draw_each(after, own.key, words, samples, counts + index)
        return (token, [append(*part, index) for part in zip(recent, new, strict=True)]), (token, after)

    recent = _in_parts(_zeros(static.config, tokens.shape, CHUNK, params["norm"].dtype), own.parts)
    with dividing(static.devices):
        (_, recent), (drawn, after) = jax.lax.scan(one, (tokens, recent), jnp.arange(CHUNK))
    suffix = _append_chunk(suffix, [_kept(static, part) for part in recent], counts - 1)
    # The result is sharded as the donated suffix is: only then can it take that one's memory.
    suffix = jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _by_head(static, x)), suffix)
    return jnp.moveaxis(drawn, 0, -1), after, suffix


@functools.partial(jax.jit, static_argnums=0)
def follow(static: Static, own: Own, logits: jax.Array, followers: Followers, blocks: jax.Array) -> jax.Array:
    """What followers draw from the logits [CHUNK, R, G, W, V] of their rows: [M, CHUNK] tokens.

    Of them so many `blocks` [] are real. A follower's tokens count up to the first that is not its row's.
    """
    flat = logits.reshape(CHUNK, -1, logits.shape[-1])
    rows_of_one = flat.shape[1] // len(own.key)
    over_chunk = jax.vmap(_draw(static, own), (0, None, None, None, 0))
    over_followers = jax.vmap(over_chunk, (1, 0, 0, 0, 0))

    def block(number: jax.Array, drawn: jax.Array) -> jax.Array:
        start = number * FOLLOWERS
        rows, words, samples, counts = (jax.lax.dynamic_slice_in_dim(x, start, FOLLOWERS) for x in followers)
        positions = counts[:, None] + jnp.arange(CHUNK)
        tokens = over_followers(flat[:, rows], own.key[rows // rows_of_one], words, samples, positions)
        return jax.lax.dynamic_update_slice_in_dim(drawn, tokens, start, 0)

    return jax.lax.fori_loop(0, blocks, block, jnp.zeros((len(followers.rows), CHUNK), jnp.int32))


def draw(
    logits: jax.Array,
    key: jax.Array,
    word: jax.Array,
    sample: jax.Array,
    position: jax.Array,
    sampling: SamplingConfig,
    temperature: jax.Array | None = None,
) -> jax.Array:
    """The token [] that a sample of a task draws from logits [V] at a position of its answer."""
    for part in (word, sample, position):
        key = jax.random.fold_in(key, part)
    score = scores(logits, key, sampling, temperature)
    # The argmax, as two reductions that XLA:CPU vectorises; jnp.argmax alone takes longer than the noise.
    return jnp.min(jnp.where(score == score.max(), jnp.arange(score.size), score.size - 1))


def _draw(static: Static, own: Own) -> Callable[..., jax.Array]:
    """`draw` with this computation's sampling, whose temperature is no constant of the program."""
    return lambda *address: static.draw(*address, static.sampling, own.temperature)


@functools.partial(jax.jit, donate_argnums=0)
def place(cache: list[KV], prompts: list[KV], trajectory: int, slot: int, row: int) -> list[KV]:
    """Writes a row of prompts [L, P, ...] into a slot of a cache [L, R, G, ...], which is overwritten."""
    return jax.tree.map(lambda old, new: old.at[:, trajectory, slot].set(new[:, row]), cache, prompts)


@functools.partial(jax.jit, donate_argnums=0)
def copy_rows(suffix: list[KV], sources: jax.Array, targets: jax.Array, count: jax.Array) -> list[KV]:
    """Copies `count` [] rows of a suffix [L, R, G, W, ...], which is overwritten, into other rows.

    Sources and targets are numbered through [R, G, W]; what lies behind the first `count` is not read.
    """

    def copy(number: jax.Array, suffix: list[KV]) -> list[KV]:
        def one(leaf: jax.Array) -> jax.Array:
            begins: list[list[Any]] = [
                [0, *jnp.unravel_index(rows[number], leaf.shape[1:4]), 0, 0, 0] for rows in (sources, targets)
            ]
            row = jax.lax.dynamic_slice(leaf, begins[0], (len(leaf), 1, 1, 1, *leaf.shape[4:]))
            return jax.lax.dynamic_update_slice(leaf, row, begins[1])

        return jax.tree.map(one, suffix)

    return jax.lax.fori_loop(0, count, copy, suffix)


def _append_chunk(suffix: list[KV], recent: list[KV], lengths: jax.Array) -> list[KV]:
    """Writes a chunk [L, R, G, W, ...] after the first lengths [R, G, W] positions, in place.

    Row by row: XLA:CPU takes ten times as long to select among all positions, and a scatter may copy them.
    """
    kvs, structure = jax.tree.flatten(suffix)
    news = jax.tree.leaves(recent)
    axes = [-1, -2] * (len(kvs) // 2)  # of the positions, of keys and their scales and of values and theirs

    def row(number: jax.Array, kvs: list[jax.Array]) -> list[jax.Array]:
        at = jnp.unravel_index(number, lengths.shape)

        def write(old: jax.Array, new: jax.Array, axis: int) -> jax.Array:
            start: list[Any] = [0, *at, 0, 0, 0]
            own = jax.lax.dynamic_slice(new, start, (len(new), 1, 1, 1, *new.shape[4:]))
            start[axis] = lengths[at]
            return jax.lax.dynamic_update_slice(old, own, start)

        return list(map(write, kvs, news, axes))

    return jax.tree.unflatten(structure, jax.lax.fori_loop(0, lengths.size, row, kvs))


def _kept(static: Static, kv: KV) -> KV:
    """A dense KV as it is cached."""
    return int8_kv(kv) if static.sampling.int8_kv else kv


def _in_parts(stacked: Tree, parts: int) -> list[Tree]:
    """A pytree [L, ...] of all layers as one of each of so many equal parts of them."""
    size = len(jax.tree.leaves(stacked)[0]) // parts
    firsts = range(0, parts * size, size)
    return [jax.tree.map(lambda leaf, first=first: leaf[first : first + size], stacked) for first in firsts]


def _zeros(config: ModelConfig, batch: tuple[int, ...], positions: int, dtype: jnp.dtype) -> KV:
    keys = jnp.zeros(
        (config.num_hidden_layers, *batch, config.num_key_value_heads, config.head_dim, positions), dtype
    )
    return KV(keys, keys.mT)


def empty(fixed: Fixed, batch: tuple[int, ...], positions: int) -> list[KV]:
    """An empty cache [L, *batch, ...] for so many positions, on the slice's devices."""
    static, dtype = fixed.static, fixed.params["norm"].dtype

    def described() -> list[KV]:
        stacked = _kept(static, _zeros(static.config, batch, positions, dtype))
        return _in_parts(stacked, fixed.own.parts)

    shapes = jax.eval_shape(described)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype, device=_by_head(static, x)), shapes)


def _by_head(static: Static, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
    """How a leaf of a KV is sharded: its third axis from the end, the heads, along `model`."""
    return NamedSharding(static.devices, PartitionSpec(*[None] * (leaf.ndim - 3), MODEL))


@functools.partial(jax.jit, static_argnums=0)
def _prefixes(static: Static, params: Params, own: Own, shared: jax.Array) -> KV:
    """The KV [L, R, ...] of the ids that all prompts share."""

    def one_trajectory(own: Own) -> KV:
        return prefix_kv(static.config, params, own.adapter, shared)

    with dividing(static.devices):
        return jax.vmap(one_trajectory, (AXES,), 1)(own)


@functools.partial(jax.jit, static_argnums=0)
def _merged(config: ModelConfig, params: Params, own: Own) -> list[Layers]:
    """The weights [L, R, ...] of parts of the layers: int4 dequantised, W + scale B A, and transposed."""
    layers: dict[str, Any] = {}
    for name, weight in params["layers"].items():
        plain = dense(weight, params["norm"].dtype)[:, None]
        layers[name] = jnp.broadcast_to(plain, (len(plain), len(own.key), *plain.shape[2:]))
        if own.adapter is not None and name in own.adapter.weights:
            lora = own.adapter.weights[name]
            layers[name] += own.adapter.scale * jnp.einsum("lrok,lrki->lroi", lora["b"], lora["a"])
        if name in projection_shapes(config):
            layers[name] = Transposed(layers[name].mT)
    # Of one trajectory a scan copies so little that it is faster, at least of a nano model.
    parts = config.num_hidden_layers if len(own.key) > 1 else 1
    return _in_parts(layers, parts)


class Engine(NamedTuple):
    """The functions that run on the device, and up to which sizes a shorter way leads to the same answers."""

    begin: Callable[..., tuple[list[KV], jax.Array]] = begin
    extend: Callable[..., tuple[jax.Array, jax.Array, list[KV]]] = extend
    draw: Callable[..., jax.Array] = draw
    merged_bytes: int = 2**30  # of float32 weights, up to which int4 and LoRA are merged into plain ones
    shared_tokens: int = WORTHWHILE  # at the beginning of all prompts, from which on it is prefilled once

    def merges(self, config: ModelConfig, dtype: jax.typing.DTypeLike) -> bool:
        """Whether the model is small and float32: bfloat16 would round an adapter's updates away."""
        size = 4 * config.num_hidden_layers * layer_weights(config)
        return jnp.dtype(dtype) == jnp.float32 and size <= self.merged_bytes


ENGINE = Engine()
