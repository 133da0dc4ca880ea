"""Logits of whole models: float32, bfloat16, int4."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor
from transformers import PreTrainedModel

from constellation.model import decoder, port
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, rms_norm
from constellation.model.linear import Weight, look_up
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.weights import load_params
from third_party import model_reference
from third_party.comparison.batch import LeftPadded
from third_party.comparison.errors import relative_norm, worst_position
from third_party.comparison.table import Row

TOLERANCE = 1e-4
# Both sides round at the same places, so both are as far from float32 but for chance; a lost bit would double
# the distance.
BFLOAT16_RATIO = 1.25
GROUP = 32

_forward = jax.jit(decoder.forward, static_argnums=0)
_layer = jax.jit(decoder.through_layers, static_argnums=0)
_logits = jax.jit(decoder.logits, static_argnums=0)


def logits(config: ModelConfig, params: Params, adapter: Adapter | None, batch: LeftPadded) -> np.ndarray:
    """float32 [P, V] of the real positions, by `decoder.forward` on the whole batch."""
    hidden = _forward(config, params, adapter, batch.tokens, batch.positions, batch.mask)
    return np.asarray(_logits(config, params, hidden[batch.real]))


def logits_by_layer(config: ModelConfig, params: Params, batch: LeftPadded) -> np.ndarray:
    """As `logits` without adapter, but a call a layer.

    XLA:CPU multiplies in float32, and of a bfloat16 model under one scan it converts all layers beforehand.
    """
    x = look_up(params["embed"], jnp.asarray(batch.tokens), params["norm"].dtype)  # [B, T, D]
    for index in range(config.num_hidden_layers):
        layer = jax.tree.map(lambda weight, at=index: weight[at : at + 1], params["layers"])
        x = _layer(config, layer, x, batch.positions, batch.mask)
        x.block_until_ready()  # or the copies of all layers wait in memory for their turn
    return np.asarray(_logits(config, params, rms_norm(x[batch.real], params["norm"], config.rms_norm_eps)))


def bfloat16_row(
    directory: Path, reference_dir: Path, config: ModelConfig, batch: LeftPadded, exact: np.ndarray
) -> Row:
    """Loads either side in bfloat16, in turn, and compares their distances from the float32 logits [P, V]."""
    ours = relative_norm(logits_by_layer(config, load_params(directory, config, jnp.bfloat16), batch), exact)
    _return_freed_memory()  # theirs may need all there is
    theirs = relative_norm(
        model_reference.logits(model_reference.load(reference_dir, "bfloat16"), batch.ids, batch.attention),
        exact,
    )
    return Row(
        "logits, bfloat16",
        f"relative RMS error to float32: ours {ours:.5f} / transformers' {theirs:.5f}",
        ours / theirs,
        BFLOAT16_RATIO,
    )


def _return_freed_memory() -> None:
    """Gives the system back what malloc keeps for later."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def int4_row(directory: Path, config: ModelConfig, reference: PreTrainedModel, batch: LeftPadded) -> Row:
    """Ours with int4 weights beside transformers with what they stand for; its weights are replaced.

    Raises:
        UserError: GROUP does not divide a width.
    """
    params = load_params(directory, config, jnp.float32, f"int4:{GROUP}")
    multiply_out(reference, config, params)
    error = worst_position(
        logits(config, params, None, batch), model_reference.logits(reference, batch.ids, batch.attention)
    )
    measured = "max abs error / max abs of the position, transformers with the weights multiplied out"
    return Row(f"logits, int4:{GROUP}", measured, error, TOLERANCE)


def multiply_out(reference: PreTrainedModel, config: ModelConfig, params: Params) -> None:
    """Puts what our quantised weights stand for, steps by scales, into transformers' model; others stay."""

    def put(name: str, weight: Weight | None) -> None:
        if isinstance(weight, QTensor):
            steps = np.asarray(weight.qvalue.astype(jnp.float32))  # [out, in / group, group]
            restored = steps * np.asarray(weight.scale[0].astype(jnp.float32))
            model_reference.replace_weights(reference, {name: restored.reshape(len(restored), -1)})

    put(port.EMBED, params["embed"])
    put(port.LM_HEAD, params.get("lm_head"))
    for layer, name in itertools.product(range(config.num_hidden_layers), projection_shapes(config)):
        weight = jax.tree.map(lambda leaf, at=layer: leaf[at], params["layers"][name])
        put(port.layer_tensor(layer, name), weight)
