"""How weights are stored: groupwise symmetric int4, by AQT's quantizer and in its QTensor; an int8 embedding.

No other file of the library uses the quantizer. It decides scales and rounding; the product does without it.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from aqt.jax.v2 import aqt_quantizer
from aqt.jax.v2.aqt_tensor import QTensor
from aqt.jax.v2.calibration import AbsMaxCalibration

from constellation.model.decoder import Params
from constellation.model.linear import dense
from constellation.runtime.errors import UserError

# Tried beside 1, where AQT puts a group's largest weight at 7.5 steps and rounds it to 7; at 15/14 it is met.
CLIPPING_RATIOS = (15 / 14, 1.035, 0.97, 0.94, 0.91, 0.88, 0.84, 0.8)
_SPELLING = re.compile(r"int4:([1-9]\d*|channel)(:clip)?(:int8_embedding)?")


@dataclasses.dataclass(frozen=True)
class Quantization:
    """What `model.quantization` says; the default is dense weights."""

    group: int | None = None  # inputs of an output that share an int4 scale, 0 for all; None for dense ones
    clip: bool = False  # whether a group's scale is the one, of a few clipping ratios, of least squared error
    int8_embedding: bool = False  # whether the embedding (and an untied head) is int8, with a scale a token

    @classmethod
    def parse(cls, text: str) -> Quantization:
        """ "" (dense) or "int4:<group>[:clip][:int8_embedding]", with "channel" for a group of all inputs.

        Raises:
            UserError: any other text.
        """
        if not text:
            return cls()
        match = _SPELLING.fullmatch(text)
        if match is None:
            raise UserError(
                f"model.quantization = {text!r}: use '' (dense) or int4:<group>[:clip][:int8_embedding], "
                "as int4:32"
            )
        return cls(0 if match[1] == "channel" else int(match[1]), bool(match[2]), bool(match[3]))


class Nibbles(NamedTuple):
    """An int4 QTensor as host and disk hold it: two integers a byte, the earlier in the low half."""

    nibbles: jax.Array | np.ndarray  # uint8 [..., out, in / group, group / 2]
    scale: jax.Array | np.ndarray  # [..., out, in / group, 1]


Leaf: TypeAlias = np.ndarray | Nibbles | QTensor  # a weight on its way: dense, int4, or int8


def quantize(params: Params, quantization: str) -> Params:
    """The same parameters, quantised; norms stay dense."""
    how = Quantization.parse(quantization)
    if how.group is None:
        return params
    layers = {
        name: jax.lax.map(lambda layer: quantize_weight(layer, how), weight)
        if name.endswith("_proj")
        else weight
        for name, weight in params["layers"].items()
    }
    tables = params.keys() & {"embed", "lm_head"} if how.int8_embedding else ()
    return params | {name: quantize_table(params[name]) for name in tables} | {"layers": layers}


@functools.partial(jax.jit, static_argnums=1)
def quantize_weight(weight: jax.Array, how: Quantization) -> QTensor:
    """A projection [out, in]: qvalue [out, in / group, group] int4, scale [out, in / group, 1] in its dtype.

    Raises:
        UserError: `group` does not divide `in`.
    """
    out_features, in_features = weight.shape
    assert how.group is not None
    group = how.group or in_features
    if in_features % group:
        raise UserError(
            f"model.quantization: groups of {group} do not divide a weight of {in_features} inputs: "
            "use a divisor of every projection's width"
        )
    groups = weight.astype(jnp.float32).reshape(out_features, -1, group)

    def clipped_at(ratio: float) -> tuple[QTensor, jax.Array]:
        """The quantised groups, and the squared error of each [out, in / group, 1]."""
        quantizer = aqt_quantizer.quantizer_make(4, scale_dtype=weight.dtype, initialize_calibration=False)
        quantizer.calibration = functools.partial(AbsMaxCalibration, clipping_scale=ratio)
        quantizer.init_calibration()
        quantised = quantizer.quant(groups, calibration_axes=(-1,))[0].astype(weight.dtype)
        restored = dense(quantised, jnp.float32).reshape(groups.shape)
        error = jnp.square(restored - groups).sum(-1, keepdims=True)
        return quantised, error

    best, least = clipped_at(1.0)
    for ratio in CLIPPING_RATIOS if how.clip else ():
        candidate, error = clipped_at(ratio)
        best = jax.tree.map(functools.partial(jnp.where, error < least), candidate, best)
        least = jnp.minimum(error, least)
    return best


def quantize_table(table: jax.Array) -> QTensor:
    """An embedding [V, D] as int8 with one scale a token: qvalue [V, 1, D], scale [V, 1, 1] float32."""
    quantizer = aqt_quantizer.quantizer_make(8, scale_dtype=jnp.float32)
    rows = table.astype(jnp.float32)[:, None]
    return quantizer.quant(rows, calibration_axes=(-1,))[0]


@jax.jit
def pack(weight: QTensor) -> Nibbles:
    """An int4 weight as it is stored."""
    pairs = weight.qvalue.reshape(*weight.qvalue.shape[:-1], -1, 2)
    return Nibbles(jax.lax.bitcast_convert_type(pairs, jnp.uint8), weight.scale[0])


@jax.jit
def unpack(stored: Nibbles) -> QTensor:
    """The inverse of `pack`; on a GPU int4 lies in memory as it does here, on a CPU as a byte each."""
    pairs = jax.lax.bitcast_convert_type(jnp.asarray(stored.nibbles), jnp.int4)
    qvalue = pairs.reshape(*pairs.shape[:-2], -1)
    return qtensor(qvalue, stored.scale)


def qtensor(qvalue: jax.Array | np.ndarray, scale: jax.Array | np.ndarray) -> QTensor:
    """A QTensor with these integers and scales."""
    return QTensor(qvalue=qvalue, scale=[scale], scale_t=None, bias=[], dequant_dtype=scale.dtype)
