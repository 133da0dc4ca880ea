"""The decoder: one layer body for every family, scanned over the layers, to train, to prefill and to decode.

Dimensions: B rows, T positions, D hidden, N query heads, K key/value heads, G = N / K, H head_dim,
V vocabulary, L layers, S cached positions. Parameters are a pytree:
    {"embed": [V, D], "norm": [D], "lm_head": [V, D] unless tied,
     "layers": {projection: [L, out, in], and as the family has them
                biases "q_bias", "k_bias", "v_bias": [L, out], "q_norm" and "k_norm": [L, H],
                the other norms: [L, D]}}
A projection may be an int4 QTensor, an embedding or head an int8 one. Activations have the dtype of "norm";
norms, angles, softmax and logits are computed in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.model.attention import masked_attention, soft_cap
from constellation.model.config import SLIDING, ModelConfig
from constellation.model.linear import Weight, head, linear, look_up
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.rope import rotary, rotate

Params = dict[str, Any]
Rope = tuple[jax.Array, jax.Array]  # cos and sin, as `rotate` takes them
FEW_LAYERS = 8  # of so many, the last at few positions is felt; of more, splitting it off copies too much
# (a layer's cache, whether it is local [], q [..., N, H], k [..., K, H], v [..., K, H]) -> [..., N, H]; query
# and key are rotated already.
Attend = Callable[[Any, Any, jax.Array, jax.Array, jax.Array], jax.Array]


class KV(NamedTuple):
    """Rotated keys and values of S positions, laid out as decoding multiplies them; int8 ones have scales."""

    k: jax.Array  # [L, ..., K, H, S]
    v: jax.Array  # [L, ..., K, S, H]
    k_scale: jax.Array | None = None  # [L, ..., K, 1, S]
    v_scale: jax.Array | None = None  # [L, ..., K, S, 1]


def init_params(
    config: ModelConfig, key: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32, std: float = 0.02
) -> Params:
    """Random weights as transformers initialises them: normals of deviation `std`, and `initial_value`."""
    layers, table = config.num_hidden_layers, (config.vocab_size, config.hidden_size)
    matrices = ["embed", "lm_head", *projection_shapes(config)]  # each is drawn with a key of its own

    def normal(name: str, shape: tuple[int, ...]) -> jax.Array:
        drawn = jax.random.normal(jax.random.fold_in(key, matrices.index(name)), shape)
        return (std * drawn).astype(dtype)

    def constant(name: str, shape: tuple[int, ...]) -> jax.Array:
        return jnp.full(shape, initial_value(config, name), dtype)

    params: Params = {"embed": normal("embed", table), "norm": constant("norm", (config.hidden_size,))}
    if not config.tie_word_embeddings:
        params["lm_head"] = normal("lm_head", table)
    params["layers"] = {
        name: (normal if name in matrices else constant)(name, (layers, *shape))
        for name, shape in layer_shapes(config).items()
    }
    return params


def initial_value(config: ModelConfig, name: str) -> float:
    """What a bias or norm begins at: norms multiply by 1."""
    return 0.0 if name.endswith("bias") or config.family.centred_norms else 1.0


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a layer."""
    family, projections = config.family, projection_shapes(config)
    norms = ["input_layernorm", "post_attention_layernorm"]
    if family.post_norms:
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return {
        **projections,
        **{bias_of(name): projections[name][:1] for name in family.biases},
        **({"q_norm": (config.head_dim,), "k_norm": (config.head_dim,)} if family.qk_norm else {}),
        **dict.fromkeys(norms, (config.hidden_size,)),
    }


def bias_of(projection: str) -> str:
    """Our name of a projection's bias: "q_proj" -> "q_bias"."""
    return projection.replace("_proj", "_bias")


def forward(
    config: ModelConfig,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    remat: bool = False,
    prefix: KV | None = None,
    source: jax.Array | None = None,
) -> jax.Array:
    """Hidden states [B, T, D] after the final norm, or [B, A, D] of some positions; see `logits`.

    Args:
        tokens, positions: [B, T] integers; positions count from 0 at a document's first token.
        mask: [B, T, T] bool, (query, key); a query that sees no key (padding) gives finite values of no
            meaning.
        remat: whether the backward recomputes every layer from its input (1604.06174): a third more
            computation, and of a layer only [B, T, D] is kept.
        prefix: as for `prefill`.
        source: [B, A] integers: which of the T positions are asked for, all by default. The last of few
            layers then computes of the others keys and values alone, unless memory comes first (`remat`).
    """
    return _run(config, params, adapter, tokens, positions, mask, prefix, remat, source)[0]


def prefill(
    config: ModelConfig,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    prefix: KV | None = None,
    remat: bool = False,
    source: jax.Array | None = None,
) -> tuple[jax.Array, KV]:
    """As `forward`, and the KV of every position, k [L, B, K, H, T] and v [L, B, K, T, H].

    Args:
        remat, source: as for `forward`.
        prefix: KV [L, K, H, P], [L, K, P, H] of P tokens that every row begins with and `tokens` leaves out;
            positions count on from it.
    """
    hidden, (k, v) = _run(config, params, adapter, tokens, positions, mask, prefix, remat, source)
    return hidden, KV(jnp.moveaxis(k, 2, -1), jnp.moveaxis(v, 2, -2))


def through_layers(
    config: ModelConfig,
    layers: Params,
    x: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    local: jax.Array | None,
) -> jax.Array:
    """Runs some layers without embedding and final norm, to stream a model that memory cannot hold.

    Args:
        layers: as params["layers"], of some consecutive layers.
        x: [B, T, D] hidden states before the first of these layers; those after the last are returned.
        positions, mask: as for `forward`.
        local: of these layers, as `local_layers`.
    """
    ropes, attend = _ropes(config, positions, x.dtype), _masked(config, positions, mask)
    return _scan(config, layers, None, x, ropes, attend, None, local)[0]


def local_layers(config: ModelConfig) -> np.ndarray | None:
    """[L] bool: whether a layer attends to a window; None where none does."""
    return None if config.layer_types is None else np.array([one == SLIDING for one in config.layer_types])


def branch_mask(branch: jax.Array) -> jax.Array:
    """The causal mask [B, T, T] of rows of a prompt and several texts: a token sees the prompt and its text.

    Args:
        branch: [B, T] integers: 0 in the prompt, the number of its text behind, -1 in padding. The positions
            that go with it count each text from the prompt's end.
    """
    query, key = branch[:, :, None], branch[:, None, :]
    order = jnp.arange(branch.shape[1])
    return (order[:, None] >= order) & ((key == 0) | (key == query))


def tree_mask(ends: jax.Array) -> jax.Array:
    """The mask [B, T, T] of rows of trees: a token sees what it descends from, and itself.

    Args:
        ends: [B, T] integers: the tokens of a tree are in depth-first order, and this is where the last
            descendant of each ends; 0 in padding.
    """
    order = jnp.arange(ends.shape[1])
    return (order[:, None] >= order) & (order[:, None] < ends[:, None, :])


def decode_step(
    config: ModelConfig,
    params: Params,
    adapter: Adapter | None,
    token: jax.Array,
    position: jax.Array,
    caches: Sequence[tuple[Sequence[KV], jax.Array, jax.Array]],
) -> tuple[jax.Array, list[KV]]:
    """Decodes one token of one sample; it is vmapped over samples (a prompt's KV unbatched) and over tasks.

    The layers come in parts of consecutive ones, and a KV is one for each part. Every part is a scan of its
    own: XLA:CPU copies all that a scan over several layers reads, but fewer parts compile faster.
    Batch axes of KVs go right after L (`in_axes=1`, `out_axes=1`): the scan over L then transposes nothing.
    Caches are only read; the caller writes what is returned with `append`, once for the whole batch.

    Args:
        params: "layers" is a list of parts.
        token, position: [] integers; the position is below 1 + the caches' S in all, or the result is NaN.
        caches: what the token attends to besides itself, in any order: of the prompt, of the sample's suffix
            and so on, the KVs [L, K, H, S], [L, K, S, H], how many [] of their S positions are read, and the
            position [] of the first.

    Returns:
        hidden [D] after the final norm, and this token's KVs, k [L, K, H, 1] and v [L, K, 1, H].
    """
    places = [jnp.arange(kvs[0].k.shape[-1]) for kvs, *_ in caches]  # [S] each
    seen = [place < length for place, (_, length, _) in zip(places, caches, strict=True)]
    near = None
    most = 1 + sum(map(len, places))
    if window := _window(config, most):
        since = [position - start - place for place, (*_, start) in zip(places, caches, strict=True)]
        near = [ago < window for ago in since]

    def attend(kvs: tuple[KV, ...], local: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        # One softmax over all caches, each multiplied where it lies: none is concatenated or copied.
        groups = q.reshape(k.shape[0], -1, k.shape[1])  # [K, G, H]
        own = KV(k[..., None], v[..., None, :])
        masks = seen if near is None else [a & (b | ~local) for a, b in zip(seen, near, strict=True)]
        pieces = [*zip(kvs, masks, strict=True), (own, jnp.ones(1, bool))]
        scores = [_decode_scores(config, groups, kv, mask) for kv, mask in pieces]
        highest = functools.reduce(jnp.maximum, [s.max(-1, keepdims=True) for s in scores])  # [K, G, 1]
        weights = [jnp.exp(s - highest) for s in scores]  # [K, G, S] each
        total = functools.reduce(jnp.add, [w.sum(-1, keepdims=True) for w in weights])
        values = [_decode_values(w, kv, v.dtype) for w, (kv, _) in zip(weights, pieces, strict=True)]
        out = functools.reduce(jnp.add, values) / total.astype(v.dtype)
        return out.reshape(q.shape)

    x = embed(config, params["embed"], token, params["norm"].dtype)
    # Looked up, since XLA would compute the cosines anew wherever they are read, in every layer.
    table = _ropes(config, jnp.arange(most), x.dtype)
    ropes = jax.tree.map(lambda t: t.at[position].get(mode="fill", fill_value=jnp.nan), table)
    new, first = [], 0
    for part, layers in enumerate(params["layers"]):
        here = slice(first, first + len(layers["input_layernorm"]))
        own, local = jax.tree.map(lambda leaf, here=here: leaf[here], (adapter, local_layers(config)))
        kvs = tuple(kvs[part] for kvs, *_ in caches)
        x, (k, v) = _scan(config, layers, own, x, ropes, attend, kvs, local)
        new.append(KV(k[..., None], v[..., None, :]))
        first = here.stop
    return norm(config, x, params["norm"]), new


def append(cache: KV, new: KV, index: jax.Array) -> KV:
    """Writes the `new` KV of one position at `index` [] of a dense cache, the same for every row."""
    return KV(
        jax.lax.dynamic_update_slice_in_dim(cache.k, new.k, index, axis=-1),
        jax.lax.dynamic_update_slice_in_dim(cache.v, new.v, index, axis=-2),
    )


def int8_kv(kv: KV) -> KV:
    """A dense KV as int8, with a scale for each position and head, in the dtype of what it scales."""

    def rounded(x: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
        scale = jnp.maximum(jnp.abs(x).max(axis, keepdims=True) / 127, jnp.finfo(x.dtype).tiny)
        return jnp.round(x / scale).astype(jnp.int8), scale

    (k, k_scale), (v, v_scale) = rounded(kv.k, -2), rounded(kv.v, -1)
    return KV(k, v, k_scale, v_scale)


def logits(config: ModelConfig, params: Params, hidden: jax.Array) -> jax.Array:
    """[..., D] -> [..., V] float32, by the embedding itself when it is tied."""
    scores = head(hidden, params["embed" if config.tie_word_embeddings else "lm_head"])
    return soft_cap(scores, config.final_logit_softcapping)


def _masked(
    config: ModelConfig,
    positions: jax.Array,
    mask: jax.Array,
    prefix: KV | None = None,
    source: jax.Array | None = None,
) -> Attend:
    """Attention of whole rows under a mask [B, T, T], behind a shared prefix if there is one.

    With `source` [B, A], the queries are those of these positions alone.
    """
    key_positions = positions
    if source is not None:
        positions, mask = jnp.take_along_axis(positions, source, 1), _at(mask, source)  # [B, A], [B, A, T]
    if prefix is not None:
        length = prefix.k.shape[-1]
        mask = jnp.concatenate([jnp.ones((*mask.shape[:2], length), bool), mask], axis=-1)  # [B, A, P + T]
        before = jnp.broadcast_to(jnp.arange(length), (len(key_positions), length))
        key_positions = jnp.concatenate([before, key_positions], axis=-1)  # [B, P + T]
    near = None
    if window := _window(config, mask.shape[-1]):
        near = positions[:, :, None] - key_positions[:, None] < window  # [B, A, P + T]

    def attend(prefix: KV | None, local: Any, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        if prefix is not None:
            k = _behind(jnp.moveaxis(prefix.k, -1, 0), k)
            v = _behind(jnp.moveaxis(prefix.v, -2, 0), v)
        visible = mask if near is None else mask & (near | ~local)
        return masked_attention(q, k, v, visible, config.attention_scale, config.attn_logit_softcapping)

    return attend


def _window(config: ModelConfig, length: int) -> int | None:
    """The window of local layers; None where all of so many positions lie in it."""
    window = config.sliding_window
    return window if window is not None and window < length else None


def _behind(shared: jax.Array, own: jax.Array) -> jax.Array:
    """[P, K, H] and [B, T, K, H] -> [B, P + T, K, H]."""
    return jnp.concatenate([jnp.broadcast_to(shared, (len(own), *shared.shape)), own], axis=1)


def _at(x: jax.Array, source: jax.Array) -> jax.Array:
    """[B, T, D] at source [B, A] -> [B, A, D]."""
    return jnp.take_along_axis(x, source[..., None], axis=1)


@jax.custom_vjp
def _picked(x: jax.Array, source: jax.Array) -> jax.Array:
    """`_at`, whose gradient is a product: that of indexing is a scatter, which a CPU does row by row."""
    return _at(x, source)


def _put_back(residuals: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, None]:
    order, source = residuals  # [T], [B, A]
    chosen = (source[..., None] == order).astype(gradient.dtype)  # [B, A, T]
    return jnp.einsum("bat,bad->btd", chosen, gradient), None


_picked.defvjp(lambda x, source: (_at(x, source), (jnp.arange(x.shape[1]), source)), _put_back)


def _run(
    config: ModelConfig,
    params: Params,
    adapter: Adapter | None,
    tokens: jax.Array,
    positions: jax.Array,
    mask: jax.Array,
    prefix: KV | None,
    remat: bool,
    source: jax.Array | None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Embeds, scans the layers and norms: hidden states [B, T or A, D], keys and values [L, B, T, K, H]."""
    x = embed(config, params["embed"], tokens, params["norm"].dtype)
    ropes, local = _ropes(config, positions, x.dtype), local_layers(config)
    attend, last = _masked(config, positions, mask, prefix), None
    if source is not None and config.num_hidden_layers <= FEW_LAYERS and not remat:
        last = _masked(config, positions, mask, prefix, source), source
    x, kv = _scan(config, params["layers"], adapter, x, ropes, attend, prefix, local, remat, last)
    if source is not None and last is None:
        x = _picked(x, source)
    return norm(config, x, params["norm"]), kv


def embed(config: ModelConfig, table: Weight, tokens: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The embeddings [..., D] of integers [...]."""
    x = look_up(table, tokens, dtype)
    # Rounded to the dtype first, as it was when the family was trained.
    return x * jnp.asarray(config.hidden_size**0.5, x.dtype) if config.family.scaled_embedding else x


def norm(config: ModelConfig, x: jax.Array, weight: jax.Array) -> jax.Array:
    """The family's norm over the last axis."""
    return rms_norm(x, weight, config.rms_norm_eps, config.family.centred_norms)


def _ropes(config: ModelConfig, positions: jax.Array, dtype: jnp.dtype) -> tuple[Rope, Rope | None]:
    """The rotation of all layers, and that of the local ones where it is another."""
    local, theta = None, config.rope_local_base_freq
    if config.layer_types is not None and theta:
        local = rotary(positions, config.head_dim, theta, None, dtype)
    return rotary(positions, config.head_dim, config.rope_theta, config.rope_scaling, dtype), local


def _scan(
    config: ModelConfig,
    layers: Params,
    adapter: Adapter | None,
    x: jax.Array,
    ropes: tuple[Rope, Rope | None],
    attend: Attend,
    caches: Any,
    local: jax.Array | np.ndarray | None,
    remat: bool = False,
    last: tuple[Attend, jax.Array] | None = None,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """Runs layers [L, ...], each with its own slice of `caches`: x, and their keys and values.

    `last` is what the last layer has in place of `attend`, and the positions that it is asked for.
    """
    scale, lora = (1.0, {}) if adapter is None else (adapter.scale, adapter.weights)
    layer = functools.partial(_layer, config, scale, ropes, attend, None)
    stacked = (layers, lora, caches, local)
    if last is None:
        return jax.lax.scan(recomputed(layer) if remat else layer, x, stacked)
    x, before = jax.lax.scan(layer, x, jax.tree.map(lambda leaf: leaf[:-1], stacked))
    x, own = _layer(config, scale, ropes, *last, x, jax.tree.map(lambda leaf: leaf[-1], stacked))
    return x, jax.tree.map(lambda some, one: jnp.concatenate([some, one[None]]), before, own)


def _layer(
    config: ModelConfig,
    scale: float,
    ropes: tuple[Rope, Rope | None],
    attend: Attend,
    source: jax.Array | None,
    x: jax.Array,
    own: tuple[Params, dict[str, Any], Any, Any],
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """One layer, with its `own` weights, LoRA, cache and whether it is local: x, and keys and values.

    With `source` [B, A], x [B, T, D] goes on at these positions alone: [B, A, D].
    """
    family, (w, lora, cache, local), (rope, local_rope) = config.family, own, ropes
    if local_rope is not None:
        rope = jax.tree.map(lambda near, far: jnp.where(local, near, far), local_rope, rope)

    def project(name: str, x: jax.Array) -> jax.Array:
        y = linear(x, w[name], lora.get(name), scale)
        return y + w[bias_of(name)].astype(y.dtype) if name in family.biases else y

    def heads(name: str, x: jax.Array) -> jax.Array:
        y = project(name, x)
        return y.reshape(*y.shape[:-1], -1, config.head_dim)

    def normed(name: str, x: jax.Array, applies: bool = True) -> jax.Array:
        return norm(config, x, w[name]) if applies else x

    h = normed("input_layernorm", x)
    k = rotate(normed("k_norm", heads("k_proj", h), family.qk_norm), rope)  # [..., K, H]
    v = heads("v_proj", h)  # [..., K, H]
    if source is not None:
        x = _picked(x, source)
        h = normed("input_layernorm", x)
        rope = jax.tree.map(lambda table: jnp.take_along_axis(table, source[..., None, None], 1), rope)
    q = rotate(normed("q_norm", heads("q_proj", h), family.qk_norm), rope)  # [..., N, H]
    attended = attend(cache, local, q, k, v)  # [..., N, H]
    attended = project("o_proj", attended.reshape(*x.shape[:-1], -1))
    x = x + normed("post_attention_layernorm", attended, family.post_norms)
    h = normed("pre_feedforward_layernorm" if family.post_norms else "post_attention_layernorm", x)
    gated = gated_unit(project("gate_proj", h), project("up_proj", h), family.gelu)
    x = x + normed("post_feedforward_layernorm", project("down_proj", gated), family.post_norms)
    return x, (k, v)


# The backward recomputes what is only elementwise: cheaper than to keep every intermediate of every layer.
recomputed = functools.partial(jax.checkpoint, prevent_cse=False)


@functools.partial(recomputed, static_argnums=2)
def gated_unit(gate: jax.Array, up: jax.Array, gelu: bool) -> jax.Array:
    """silu(gate) * up, or gelu(gate) * up with the GELU's tanh approximation (2002.05202)."""
    return (jax.nn.gelu(gate, approximate=True) if gelu else jax.nn.silu(gate)) * up


@functools.partial(recomputed, static_argnums=(2, 3))
def rms_norm(x: jax.Array, weight: jax.Array, eps: float, centred: bool = False) -> jax.Array:
    """x / rms(x) over the last axis in float32, rounded to the dtype of x, times the weight (1910.07467).

    A `centred` weight is one around zero, of Gemma: times 1 + weight, and rounded afterwards.
    """
    x32 = x.astype(jnp.float32)
    x32 = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    if centred:
        return (x32 * (1 + weight.astype(jnp.float32))).astype(x.dtype)
    return weight.astype(x.dtype) * x32.astype(x.dtype)


def _decode_scores(config: ModelConfig, q: jax.Array, kv: KV, seen: jax.Array) -> jax.Array:
    """scale q [K, G, H] . k [K, H, S], capped -> float32 [K, G, S], masked by seen [S]."""
    scores = jnp.einsum("kgh,khs->kgs", q, kv.k.astype(q.dtype), preferred_element_type=jnp.float32)
    if kv.k_scale is not None:
        scores *= kv.k_scale
    return jnp.where(seen, soft_cap(scores * config.attention_scale, config.attn_logit_softcapping), -1e30)


def _decode_values(weights: jax.Array, kv: KV, dtype: jnp.dtype) -> jax.Array:
    """weights [K, G, S] . v [K, S, H] -> [K, G, H]."""
    if kv.v_scale is not None:
        weights = weights * kv.v_scale.mT
    return jnp.einsum("kgs,ksh->kgh", weights.astype(dtype), kv.v.astype(dtype))
