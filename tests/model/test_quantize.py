"""int4: AQT's own dequantisation as the oracle, and the memory that the decoder needs for it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from aqt.jax.v2.aqt_tensor import QTensor

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.linear import dense, linear
from constellation.model.lora import Adapter, init_adapter, layer_weights
from constellation.model.quantize import Quantization, pack, quantize, quantize_weight, unpack
from constellation.runtime.errors import UserError
from tests.model.test_config import QWEN3_4B
from tests.model.tiny import CONFIG, causal, dequantize, params_and_adapter, random_tokens


def weights(dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """[3, 8, 64], with groups of very different size, one of them zero."""
    scale = 10.0 ** np.random.default_rng(1).uniform(-3, 1, (3, 8, 4, 1))
    scale[1, 2, 3] = 0
    return jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 4, 16)) * scale, dtype).reshape(3, 8, 64)


PLAIN = Quantization(16)


def quantised_stack(weight: jax.Array, how: Quantization = PLAIN) -> QTensor:
    return jax.lax.map(lambda layer: quantize_weight(layer, how), weight)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dequantisation_equals_aqts(dtype: jax.typing.DTypeLike) -> None:
    quantised = quantised_stack(weights(dtype))
    assert quantised.qvalue.dtype == jnp.int4
    assert quantised.qvalue.shape == (3, 8, 4, 16)
    assert quantised.scale[0].dtype == dtype
    ours = dense(quantised, dtype)
    assert ours.dtype == dtype
    np.testing.assert_array_equal(ours, quantised.dequant().reshape(3, 8, 64))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_error_is_at_most_half_a_step(dtype: jax.typing.DTypeLike) -> None:
    exact = np.asarray(weights(dtype), np.float32)
    quantised = quantised_stack(weights(dtype))
    step = np.asarray(quantised.scale[0], np.float32)
    error = np.abs(np.asarray(dense(quantised, jnp.float32)) - exact).reshape(3, 8, 4, 16)
    # Up to 7.5 steps are divided with a scale and an inverse that are each rounded to dtype.
    assert (error <= (0.5 + 7.5 * float(jnp.finfo(dtype).eps)) * step).all()
    largest = np.abs(exact).reshape(3, 8, 4, 16).max(-1, keepdims=True)
    np.testing.assert_allclose(step[largest > 0], largest[largest > 0] / 7.5, rtol=0.01)  # -7 ... 7


def test_linear_with_int4_weight_and_lora() -> None:
    weight = jax.tree.map(lambda leaf: leaf[0], quantised_stack(weights()))
    rng = np.random.default_rng(2)
    x, a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 64), (3, 64), (8, 3)))
    ours = linear(jnp.asarray(x), weight, {"a": jnp.asarray(a), "b": jnp.asarray(b)}, 0.5)
    full = np.asarray(weight.dequant()).reshape(8, 64) + 0.5 * b @ a
    np.testing.assert_allclose(ours, x @ full.T, rtol=0, atol=1e-5 * np.abs(x @ full.T).max())


def test_forward_and_gradient_equal_those_of_the_dequantised_model() -> None:
    params, adapter = params_and_adapter()
    quantised = quantize(params, "int4:16")
    batch = random_tokens((2, 6)), *causal(2, 6)

    @jax.jit
    def value_and_grad(params: decoder.Params) -> tuple[jax.Array, Adapter]:
        def objective(adapter: Adapter) -> jax.Array:
            return decoder.forward(CONFIG, params, adapter, *batch)[..., :9].sum()

        return jax.value_and_grad(objective)(adapter)

    ours, theirs = value_and_grad(quantised), value_and_grad(dequantize(quantised))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())
    assert quantize(params, "") is params


def test_only_one_layer_is_dequantised_at_a_time() -> None:
    """Neither the forward nor the backward pass keeps dense weights of all layers."""
    config = dataclasses.replace(CONFIG, hidden_size=256, intermediate_size=1024, num_hidden_layers=24)
    layer = 4 * layer_weights(config)  # bytes in float32
    adapter = jax.eval_shape(lambda: init_adapter(config, jax.random.key(0), rank=1, alpha=1))
    params = jax.eval_shape(lambda: quantize(decoder.init_params(config, jax.random.key(0)), "int4:32"))
    batch = random_tokens((1, 4)), *causal(1, 4)

    def objective(adapter: Adapter, params: decoder.Params) -> jax.Array:
        return decoder.forward(config, params, adapter, *batch).sum()

    for function in (objective, jax.grad(objective)):
        memory = jax.jit(function).lower(adapter, params).compile().memory_analysis()
        # XLA:CPU unpacks the int4 of all layers to a byte each: 24 / 4 layers' worth.
        assert memory is not None and memory.temp_size_in_bytes < (24 / 4 + 3) * layer


def test_the_size_of_qwen3_4b() -> None:
    config = ModelConfig.from_fields(QWEN3_4B)

    def load() -> decoder.Params:
        return quantize(decoder.init_params(config, jax.random.key(0), jnp.bfloat16), "int4:128")

    bits = {"int4": 4, "bfloat16": 16}
    size = sum(leaf.size * bits[leaf.dtype.name] for leaf in jax.tree.leaves(jax.eval_shape(load)))
    # 3.633 G weights of 4 bits and 16 more a group of 128, 0.389 G in the embedding.
    assert round(size / 8 / 2**30, 2) == 2.47


@pytest.mark.parametrize(
    "spec", ["int4", "int4:0", "int8:32", "int4:-1", "int4:32 ", "int4:32:int8_embedding:clip"]
)
def test_an_unknown_quantisation(spec: str) -> None:
    with pytest.raises(UserError, match="int4:<group>"):
        quantize({}, spec)


def test_a_channel_is_a_group_of_all_inputs() -> None:
    weight = weights()[0]
    how = Quantization.parse("int4:channel:clip")
    assert how == Quantization(0, clip=True)
    jax.tree.map(
        np.testing.assert_array_equal,
        quantize_weight(weight, how),
        quantize_weight(weight, Quantization(64, clip=True)),
    )


def test_a_group_that_does_not_divide() -> None:
    with pytest.raises(UserError, match="groups of 48"):
        quantize_weight(weights()[0], Quantization(48))


def test_clipping_lowers_every_groups_error() -> None:
    weight = jnp.asarray(np.random.default_rng(3).standard_t(3, (2, 8, 64)), jnp.float32)  # heavy tails

    def errors(how: Quantization) -> np.ndarray:
        difference = dense(quantised_stack(weight, how), jnp.float32) - weight
        return np.square(np.asarray(difference)).reshape(2, 8, 4, 16).sum(-1)

    plain, clipped = errors(PLAIN), errors(Quantization(16, clip=True))
    assert (clipped <= plain).all() and (clipped < plain).mean() > 0.5
    assert clipped.sum() < 0.95 * plain.sum()


def test_packing_is_undone_and_keeps_the_order() -> None:
    quantised = quantised_stack(weights())
    packed = pack(quantised)
    values = np.asarray(quantised.qvalue).astype(np.int8)
    low, high = values[..., 0::2] & 15, values[..., 1::2] & 15
    np.testing.assert_array_equal(packed.nibbles, (high << 4 | low).view(np.uint8))
    jax.tree.map(np.testing.assert_array_equal, unpack(packed), quantised)


@pytest.mark.parametrize("tied", [True, False])
def test_an_int8_embedding(tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tie_word_embeddings=tied)
    params, _ = params_and_adapter(config)
    quantised = quantize(params, "int4:16:int8_embedding")
    exact = np.asarray(params["embed"])
    step = np.abs(exact).max(1, keepdims=True) / 127.5
    assert (np.abs(np.asarray(dense(quantised["embed"], jnp.float32)) - exact) <= 0.51 * step).all()
    tokens = random_tokens((2, 6))

    def logits(params: decoder.Params) -> np.ndarray:
        hidden = decoder.forward(config, params, None, tokens, *causal(2, 6))
        return np.asarray(decoder.logits(config, params, hidden))

    want = logits(dequantize(quantised))
    np.testing.assert_allclose(logits(quantised), want, rtol=0, atol=1e-5 * np.abs(want).max())
