"""The one matrix product of the decoder: dense or int4 weights, with or without a LoRA adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from aqt.jax.v2.aqt_tensor import QTensor

from constellation.model.int4_product import dequantise, int4_product

Weight: TypeAlias = jax.Array | QTensor


def linear(
    x: jax.Array, weight: Weight, lora: Mapping[str, jax.Array] | None = None, scale: float = 1.0
) -> jax.Array:
    """x W^T + scale * (x A^T) B^T, for x [..., in], in its dtype (2106.09685, eq. 3).

    Args:
        weight: [out, in] as Hugging Face stores it, or an int4 QTensor of it (see `quantize`).
        lora: {"a": [rank, in], "b": [out, rank]}.
        scale: alpha / rank.
    """
    if isinstance(weight, QTensor):
        y = int4_product(x, weight.qvalue, weight.scale[0])
    else:
        y = _product(x, weight.astype(x.dtype))
    if lora is not None:
        low = _product(x, lora["a"].astype(x.dtype))  # [..., rank]
        y += scale * _product(low, lora["b"].astype(x.dtype))
    return y


def look_up(table: Weight, tokens: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The rows [..., D] of an embedding [V, D], dense or int8, for integers [...]."""
    return dense(jax.tree.map(lambda leaf: leaf[tokens], table), dtype)


def head(hidden: jax.Array, table: Weight) -> jax.Array:
    """hidden [..., D] and an embedding or head [V, D], dense or int8 -> logits [..., V] float32."""
    scale = None
    if isinstance(table, QTensor):
        table, scale = table.qvalue[:, 0].astype(hidden.dtype), table.scale[0][:, 0, 0]
    logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    return logits if scale is None else logits * scale


def dense(weight: Weight, dtype: jax.typing.DTypeLike) -> jax.Array:
    """The weight as a plain [..., out, in] array; the groups of a QTensor are multiplied by their scales."""
    if not isinstance(weight, QTensor):
        return weight.astype(dtype)
    return dequantise(weight.qvalue, weight.scale[0], dtype)


@jax.custom_vjp
def _product(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.einsum("...i,oi->...o", x, weight)


def _product_forward(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _product(x, weight), (x, weight)


def _product_backward(residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, weight = residuals
    dx = jnp.einsum("...o,oi->...i", dy, weight)
    out_features, in_features = weight.shape
    x, dy = x.reshape(-1, in_features), dy.reshape(-1, out_features)
    # The left operand is transposed first, on a CPU by a slow copy: let it be the narrower one.
    if in_features < out_features:
        return dx, jnp.einsum("ti,to->io", x, dy).T
    return dx, jnp.einsum("to,ti->oi", dy, x)


_product.defvjp(_product_forward, _product_backward)
