"""Masked attention over a whole sequence, with its backward written out.

Automatic differentiation would keep the scores beside the weights and sum over [T, S] once more; as in
FlashAttention (2205.14135, appendix B.2) the row sums of dP * P are those of dO * O, which are far smaller.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def masked_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, scale: float, cap: float | None = None
) -> jax.Array:
    """softmax(scale q k^T) v, grouped queries (2305.13245); softmax in float32, the rest in v's dtype.

    Args:
        q: [B, T, N, H], and k, v: [B, S, K, H] with K dividing N, rotated already.
        mask: [B, T, S] bool; a query that sees no key gives finite values and gradients of no meaning.
        cap: of the scores, see `soft_cap`.
    """
    return _forward(q, k, v, mask, scale, cap)[0]


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """cap * tanh(x / cap) (2408.00118, section 2), which is near x up to the cap; x itself without one."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array, scale: float, cap: float | None
) -> tuple[jax.Array, Residuals]:
    heads = k.shape[2]
    q, k, v = _by_head(q, heads), _by_head(k, heads), _by_head(v, heads)
    scores = jnp.einsum("bkth,bksh->bkts", q, k, preferred_element_type=jnp.float32)
    by_query = scores.reshape(*scores.shape[:2], -1, *mask.shape[1:])  # [B, K, N/K, T, S]
    by_query = jnp.where(mask[:, None, None], soft_cap(by_query * scale, cap), -1e30)
    weights = jax.nn.softmax(by_query, axis=-1).astype(v.dtype).reshape(scores.shape)
    out = jnp.einsum("bkts,bksh->bkth", weights, v)
    return _by_position(out, mask.shape[1]), (q, k, v, weights, out)


def _backward(
    scale: float, cap: float | None, residuals: Residuals, d_out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, weights, out = residuals
    length = d_out.shape[1]
    d_out = _by_head(d_out, k.shape[1])
    d_weights = jnp.einsum("bkth,bksh->bkts", d_out, v, preferred_element_type=jnp.float32)
    row_sums = jnp.sum(d_out * out, axis=-1, keepdims=True, dtype=jnp.float32)  # [B, K, N/K * T, 1]
    d_scores = weights * (d_weights - row_sums) * scale
    if cap is not None:  # the scores once more, instead of keeping them
        scores = jnp.einsum("bkth,bksh->bkts", q, k, preferred_element_type=jnp.float32)
        d_scores *= 1 - jnp.square(jnp.tanh(scores * scale / cap))
    d_scores = d_scores.astype(q.dtype)
    d_q = jnp.einsum("bkts,bksh->bkth", d_scores, k)
    d_k = jnp.einsum("bkts,bkth->bksh", d_scores, q)
    d_v = jnp.einsum("bkts,bkth->bksh", weights, d_out)
    return _by_position(d_q, length), _by_position(d_k, k.shape[2]), _by_position(d_v, k.shape[2]), None


masked_attention.defvjp(_forward, _backward)


def _by_head(x: jax.Array, heads: int) -> jax.Array:
    """[B, T, N, H] -> [B, K, N/K * T, H]: all queries of a key head in one matrix."""
    rows, length, total, size = x.shape
    x = x.reshape(rows, length, heads, total // heads, size).transpose(0, 2, 3, 1, 4)
    return x.reshape(rows, heads, -1, size)


def _by_position(x: jax.Array, length: int) -> jax.Array:
    """The inverse of `_by_head`."""
    rows, heads, _, size = x.shape
    x = x.reshape(rows, heads, -1, length, size).transpose(0, 3, 1, 2, 4)
    return x.reshape(rows, length, -1, size)
