"""The one matrix product of the decoder: dense or int4 weights, with or without a LoRA adapter."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from aqt.jax.v2.aqt_tensor import QTensor

from constellation.model.int4_product import dequantise, int4_product


class Transposed(NamedTuple):
    """A dense weight [..., in, out], by which a CPU multiplies few rows in half the time."""

    weight: jax.Array


Weight: TypeAlias = jax.Array | QTensor

MERGED = 2**20  # entries of a weight up to which an adapter is merged into it wherever it is multiplied by


def linear(
    x: jax.Array,
    weight: Weight | Transposed,
    lora: Mapping[str, jax.Array] | None = None,
    scale: float = 1.0,
) -> jax.Array:
    """x W^T + scale * (x A^T) B^T, for x [..., in], in its dtype (2106.09685, eq. 3).

    In float32 a small weight and its adapter are merged first: one product, and nothing to add to what it
    gives, which takes a CPU longer to read and write than to compute.

    Args:
        weight: [out, in] as Hugging Face stores it, an int4 QTensor of it (see `quantize`), or its transpose.
        lora: {"a": [rank, in], "b": [out, rank]}.
        scale: alpha / rank.
    """
    if isinstance(weight, Transposed):
        y = jnp.einsum("...i,io->...o", x, weight.weight)
    elif lora is not None and x.dtype == jnp.float32 and lora["b"].shape[0] * lora["a"].shape[1] <= MERGED:
        return _merged_product(scale, x, weight, lora["a"], lora["b"])
    elif isinstance(weight, QTensor):
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _merged_product(scale: float, x: jax.Array, weight: Weight, a: jax.Array, b: jax.Array) -> jax.Array:
    """x (W + scale * B A)^T. The weight is frozen: its gradient is zero."""
    return jnp.einsum("...i,oi->...o", x, _merged(scale, weight, a, b))


def _merged(scale: float, weight: Weight, a: jax.Array, b: jax.Array) -> jax.Array:
    return dense(weight, a.dtype) + scale * (b @ a)


_Residuals: TypeAlias = tuple[jax.Array, Weight, jax.Array, jax.Array]  # (x, W, A, B)


def _merged_forward(
    scale: float, x: jax.Array, weight: Weight, a: jax.Array, b: jax.Array
) -> tuple[jax.Array, _Residuals]:
    return _merged_product(scale, x, weight, a, b), (x, weight, a, b)


def _merged_backward(
    scale: float, residuals: _Residuals, dy: jax.Array
) -> tuple[jax.Array, None, jax.Array, jax.Array]:
    x, weight, a, b = residuals
    dx = jnp.einsum("...o,oi->...i", dy, _merged(scale, weight, a, b))
    # Through the two thin products: the gradient of the merged weight is as large as itself.
    _, pull_back = jax.vjp(lambda a, b: _product(_product(x, a), b), a, b)
    da, db = pull_back(dy)
    return dx, None, scale * da, scale * db


_merged_product.defvjp(_merged_forward, _merged_backward)
