"""Groupwise symmetric int4 weights, by AQT's quantizer and in its QTensor."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
from aqt.jax.v2 import aqt_quantizer
from aqt.jax.v2.aqt_tensor import QTensor

from constellation.errors import UserError
from constellation.model.decoder import Params
from constellation.model.linear import dense


def group_size(quantization: str) -> int | None:
    """Of "int4:32" it is 32; of "", dense weights, None.

    Raises:
        UserError: any other text.
    """
    if not quantization:
        return None
    match = re.fullmatch(r"int4:([1-9]\d*)", quantization)
    if match is None:
        raise UserError(f"model.quantization = {quantization!r}: use '' (dense) or int4:<group>, as int4:32")
    return int(match[1])


def quantize(params: Params, quantization: str) -> Params:
    """The same parameters with the layers' projections quantised; embedding, head and norms stay dense."""
    group = group_size(quantization)
    if group is None:
        return params
    layers = {
        name: quantize_weight(weight, group) if name.endswith("_proj") else weight
        for name, weight in params["layers"].items()
    }
    return params | {"layers": layers}


def dequantize(params: Params) -> Params:
    """The same parameters, all dense: what the quantised model computes with."""
    dtype = params["embed"].dtype
    return params | {"layers": {name: dense(weight, dtype) for name, weight in params["layers"].items()}}


@jax.jit(static_argnums=1)
def quantize_weight(weight: jax.Array, group: int) -> QTensor:
    """A stacked weight [L, out, in] as int4 with one scale for each `group` inputs of an output.

    Returns:
        QTensor: qvalue [L, out, in / group, group] int4, scale [L, out, in / group, 1] in weight's dtype.

    Raises:
        UserError: `group` does not divide `in`.
    """
    *_, out_features, in_features = weight.shape
    if in_features % group:
        raise UserError(
            f"model.quantization: groups of {group} do not divide a weight of {in_features} inputs: "
            "use a divisor of every projection's width"
        )
    quantizer = aqt_quantizer.quantizer_make(4, scale_dtype=weight.dtype)

    def one_layer(layer: jax.Array) -> QTensor:  # by layer, so that one float32 copy exists at a time
        groups = layer.astype(jnp.float32).reshape(out_features, -1, group)
        return quantizer.quant(groups, calibration_axes=(-1,))[0].astype(weight.dtype)

    return jax.lax.map(one_layer, weight)
