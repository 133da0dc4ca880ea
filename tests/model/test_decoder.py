"""The decoder against transformers', and its uses against each other."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from constellation.model import decoder
from constellation.model.config import FULL, SLIDING, ModelConfig
from constellation.model.decoder import KV
from constellation.model.families import FAMILIES
from constellation.model.lora import Adapter
from constellation.model.port import EMBED, LM_HEAD, NORM, layer_tensor
from constellation.model.rope import RopeScaling
from constellation.model.weights import load_params
from tests.model.tiny import (
    CONFIG,
    FIELDS,
    causal,
    params_and_adapter,
    random_tokens,
    reference,
    tiny_config,
)

forward = jax.jit(decoder.forward, static_argnums=0)
prefill = jax.jit(decoder.prefill, static_argnums=0)
LENGTHS = (11, 7, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tie_word_embeddings": False},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4, "rope_theta": 5e6},
        {"head_dim": 12, "rms_norm_eps": 1e-2},
    ],
    ids=str,
)
def test_logits_equal_transformers(fields: dict[str, Any], tmp_path: Path) -> None:
    model = reference(**fields)
    model.save_pretrained(tmp_path)
    config = ModelConfig.from_dir(tmp_path)
    params = load_params(tmp_path, config, jnp.float32)
    for padding in ("left", "right"):
        tokens, positions, mask, real = padded_batch(padding)
        with torch.no_grad():
            theirs = model(
                input_ids=torch.tensor(np.asarray(tokens)),
                attention_mask=torch.tensor(real, dtype=torch.long),
                position_ids=torch.tensor(np.asarray(positions)),
            ).logits.numpy()
        ours = decoder.logits(config, params, forward(config, params, None, tokens, positions, mask))
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours[real], theirs[real], rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_each_config_field_is_used(model_type: str) -> None:
    tokens, positions, mask, real = padded_batch("right")

    def output(config: ModelConfig) -> jax.Array:
        params, _ = params_and_adapter(config)
        return decoder.logits(config, params, forward(config, params, None, tokens, positions, mask))

    config = tiny_config(model_type)
    changed: dict[str, Any] = {
        "rms_norm_eps": 1e-2,
        "rope_theta": 20000.0,
        "tie_word_embeddings": False,
        "rope_scaling": RopeScaling("linear", 2.0),
    }
    own: dict[str, Any] = {
        "query_pre_attn_scalar": 48,
        "attn_logit_softcapping": 1.0,
        "final_logit_softcapping": 1.0,
        "sliding_window": 4,
        "rope_local_base_freq": 1000.0,
    }
    changed |= {name: own[name] for name in config.family.honoured}
    if config.family.global_every:
        changed["layer_types"] = (SLIDING, SLIDING, FULL)
    if model_type == "qwen3":  # the shapes of one family stand for all
        changed |= {
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "model_type": "llama",
        }
        every = {field.name for field in dataclasses.fields(ModelConfig)}
        assert set(changed) == every - set(own) - {"layer_types"}
    before = output(config)[real]
    for name, value in changed.items():
        after = output(dataclasses.replace(config, **{name: value}))[real]
        assert after.shape != before.shape or np.abs(after - before).max() > 1e-4, name


def test_initial_weights_are_transformers() -> None:
    config = dataclasses.replace(CONFIG, tie_word_embeddings=False)
    params = jax.jit(decoder.init_params, static_argnums=0)(config, jax.random.key(0))
    theirs = Qwen3ForCausalLM(Qwen3Config(**FIELDS | {"tie_word_embeddings": False}))
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    for name in decoder.layer_shapes(config):
        ours, want = np.asarray(params["layers"][name][1]), state[layer_tensor(1, name)]
        assert ours.shape == want.shape
        np.testing.assert_allclose((ours.mean(), ours.std()), (want.mean(), want.std()), rtol=0.05, atol=2e-3)
    for name, key in (("embed", EMBED), ("lm_head", LM_HEAD), ("norm", NORM)):
        np.testing.assert_allclose(params[name].std(), state[key].std(), rtol=0.05)
    assert "lm_head" not in jax.eval_shape(lambda: decoder.init_params(CONFIG, jax.random.key(0)))


def test_only_differences_of_positions_matter() -> None:
    params, _ = params_and_adapter()
    tokens, positions, mask, real = padded_batch("right")
    base = forward(CONFIG, params, None, tokens, positions, mask)
    shifted = forward(CONFIG, params, None, tokens, positions + 100, mask)
    np.testing.assert_allclose(base[real], shifted[real], rtol=0, atol=1e-4 * np.abs(base).max())


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("model_type", ["qwen3", "gemma2", "gemma3_text"])
def test_decoding_continues_a_prefill(model_type: str, parts: int) -> None:
    """Two tasks with prompts of unequal length and three samples each: every step equals the forward pass."""
    config = tiny_config(model_type)
    params, adapter = params_and_adapter(config)
    lengths, samples, new = jnp.array([9, 5]), 3, 4
    prompts = random_tokens((2, 9), seed=1)
    answers = random_tokens((2, samples, new), seed=2)
    positions, mask = causal(2, 9)
    mask = mask & (positions < lengths[:, None])[:, None]
    _, prompt = prefill(config, params, adapter, prompts, positions, mask)
    prompt = KV(pad(prompt.k, 4), pad(prompt.v, 3))
    shape = (config.num_hidden_layers, 2, samples, config.num_key_value_heads)
    rubbish = jnp.full((*shape, config.head_dim, new + 1), 7.0)
    size = config.num_hidden_layers // parts

    def in_parts(stacked: Any) -> list[Any]:
        firsts = range(0, config.num_hidden_layers, size)
        return [jax.tree.map(lambda leaf, at=at: leaf[at : at + size], stacked) for at in firsts]

    suffix = in_parts(KV(rubbish, rubbish.mT))
    weights = params | {"layers": in_parts(params["layers"])}

    def one(
        token: jax.Array, length: jax.Array, prompt: list[KV], suffix: list[KV], step: jax.Array
    ) -> tuple[jax.Array, list[KV]]:
        caches = (prompt, length, jnp.int32(0)), (suffix, step, length)
        return decoder.decode_step(config, weights, adapter, token, length + step, caches)

    over_samples = jax.vmap(one, in_axes=(0, None, None, 1, None), out_axes=(0, 1))
    over_tasks = jax.jit(jax.vmap(over_samples, in_axes=(0, 0, 1, 1, None), out_axes=(0, 1)))
    steps = []
    for step in jnp.arange(new):
        hidden, kvs = over_tasks(answers[:, :, step], lengths, in_parts(prompt), suffix, step)
        suffix = [decoder.append(*part, step) for part in zip(suffix, kvs, strict=True)]
        steps.append(hidden)
    for task, length in enumerate(lengths.tolist()):
        start = jnp.broadcast_to(prompts[task, :length], (samples, length))
        whole = jnp.concatenate([start, answers[task]], axis=1)
        expected = forward(config, params, adapter, whole, *causal(samples, length + new))[:, length:]
        ours = jnp.stack(steps, axis=2)[task]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("layers", [1, 3, decoder.FEW_LAYERS + 1])
@pytest.mark.parametrize("model_type", ["qwen3", "gemma2", "gemma3_text"])
def test_some_positions_are_what_they_are_among_all(model_type: str, layers: int) -> None:
    """In value and gradient, behind a shared prefix too, asked for twice or not at all."""
    kinds = ((SLIDING, FULL, SLIDING) * 3)[:layers] if model_type.startswith("gemma") else None
    config = tiny_config(model_type, num_hidden_layers=layers, layer_types=kinds)
    params, adapter = params_and_adapter(config)
    tokens, positions, mask, _ = padded_batch("right")
    source = jnp.array([[3, 9, 9, 0], [6, 2, 1, 0], [0, 0, 0, 0]])
    _, kv = prefill(config, params, adapter, random_tokens((1, 6), seed=3), *causal(1, 6))
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(3, 4, config.hidden_size)))
    rows = jnp.arange(3)[:, None]

    @partial(jax.jit, static_argnames="some")
    def loss(adapter: Adapter, params: decoder.Params, prefix: KV | None, some: bool) -> Any:
        before = 0 if prefix is None else 6
        args = config, params, adapter, tokens, positions + before, mask, False, prefix
        hidden = decoder.forward(*args, source) if some else decoder.forward(*args)[rows, source]
        return (hidden * weights).sum(), hidden

    for prefix in (None, jax.tree.map(lambda leaf: leaf[:, 0], kv)):
        gradients = jax.grad(loss, (0, 2) if prefix is not None else 0, has_aux=True)
        (all_grads, all_hidden), (some_grads, hidden) = (
            gradients(adapter, params, prefix, some) for some in (False, True)
        )
        close(hidden, all_hidden)
        jax.tree.map(close, some_grads, all_grads)
    _, all_kv = prefill(config, params, adapter, tokens, positions, mask)
    hidden, some_kv = prefill(config, params, adapter, tokens, positions, mask, source=source)
    assert hidden.shape == weights.shape
    jax.tree.map(close, some_kv, all_kv)


def close(ours: jax.Array, theirs: jax.Array) -> None:
    """Equal but for rounding."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_bfloat16_stays_near_float32() -> None:
    params, adapter = params_and_adapter()
    tokens, positions, mask, real = padded_batch("right")
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    exact = np.asarray(forward(CONFIG, params, adapter, tokens, positions, mask))[real]
    rounded = forward(CONFIG, low, adapter, tokens, positions, mask)
    assert rounded.dtype == jnp.bfloat16
    assert decoder.logits(CONFIG, low, rounded).dtype == jnp.float32
    error = np.abs(exact - np.asarray(rounded, np.float32)[real])
    assert error.mean() < 0.03 * np.abs(exact).mean()  # 2^-8 a rounding, and some tens of them in a row


def pad(cache: jax.Array, axis: int) -> jax.Array:
    """Two more positions of rubbish, which decoding must not read."""
    return jnp.pad(cache, [(0, 2 * (i == axis)) for i in range(cache.ndim)], constant_values=7.0)


def padded_batch(padding: str) -> tuple[jax.Array, jax.Array, jax.Array, np.ndarray]:
    """tokens, positions, mask, and which tokens are real, for rows of unequal length."""
    width = max(LENGTHS)
    real = np.arange(width) < np.array(LENGTHS)[:, None]
    if padding == "left":
        real = real[:, ::-1].copy()
    positions = jnp.maximum(jnp.cumsum(real, axis=1) - 1, 0)
    order = jnp.arange(width)
    mask = (order[:, None] >= order) & real[:, None, :]
    return random_tokens(real.shape), positions, mask, real
