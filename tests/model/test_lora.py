"""LoRA against peft: initialisation, forward, gradients."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from constellation.model import decoder
from constellation.model.config import ModelConfig
from constellation.model.linear import MERGED, dense, linear
from constellation.model.lora import Adapter, init_adapter, projection_shapes
from constellation.model.port import layer_tensor
from constellation.model.quantize import Quantization, quantize_weight
from constellation.model.weights import load_params
from tests.model.tiny import CONFIG, causal, params_and_adapter, random_tokens, reference

RANK, ALPHA = 4, 12
forward = jax.jit(decoder.forward, static_argnums=0)


@pytest.mark.parametrize("targets", [None, ("q_proj", "v_proj")])
def test_forward_and_gradients_equal_peft(targets: tuple[str, ...] | None, tmp_path: Path) -> None:
    base = reference()
    base.save_pretrained(tmp_path)
    config = ModelConfig.from_dir(tmp_path)
    params = load_params(tmp_path, config, jnp.float32)
    names = targets or tuple(projection_shapes(config))
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(names)))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide the gradient of A
            torch.nn.init.normal_(parameter, std=0.3)
    adapter = Adapter(jax.tree.map(jnp.asarray, from_peft(model, config, names)), ALPHA / RANK)

    tokens = random_tokens((2, 9))
    direction = np.random.default_rng(1).normal(size=(2, 9, config.vocab_size)).astype(np.float32)
    theirs = model(input_ids=torch.tensor(np.asarray(tokens))).logits
    (theirs * torch.tensor(direction)).sum().backward()

    def objective(adapter: Adapter) -> tuple[jax.Array, jax.Array]:
        ours = decoder.logits(config, params, forward(config, params, adapter, tokens, *causal(2, 9)))
        return jnp.sum(ours * direction), ours

    (_, ours), gradient = jax.value_and_grad(objective, has_aux=True)(adapter)
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())
    expected = from_peft(model, config, names, gradient=True)
    for name in names:
        for part in ("a", "b"):
            want = expected[name][part]
            np.testing.assert_allclose(
                gradient.weights[name][part], want, rtol=0, atol=1e-4 * np.abs(want).max()
            )


@pytest.mark.parametrize("group", [None, 32])
@pytest.mark.parametrize("out", [8, MERGED // 1024 + 1], ids=["merged", "apart"])
def test_a_product_and_its_gradients(out: int, group: int | None) -> None:
    """Merged into a small weight or beside a large one, dense or int4, under a vmap over adapters."""
    rng = np.random.default_rng(0)
    x, w, a, b, dy = (
        jnp.asarray(rng.normal(0, 1, shape), jnp.float32)
        for shape in ((2, 3, 5, 1024), (out, 1024), (2, RANK, 1024), (2, out, RANK), (2, 3, 5, out))
    )
    weight = w if group is None else quantize_weight(w, Quantization(group))

    def ours(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.vmap(lambda x, a, b: linear(x, weight, {"a": a, "b": b}, 0.5))(x, a, b)

    def plain(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        base = jnp.einsum("rbti,oi->rbto", x, dense(weight, jnp.float32))
        return base + 0.5 * jnp.einsum("rbti,rki,rok->rbto", x, a, b)

    (y, pull), (want, pull_plain) = jax.vjp(ours, x, a, b), jax.vjp(plain, x, a, b)
    for one, other in zip((y, *pull(dy)), (want, *pull_plain(dy)), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def test_initialisation_is_pefts(tmp_path: Path) -> None:
    base = reference()
    base.save_pretrained(tmp_path)
    config = ModelConfig.from_dir(tmp_path)
    adapter = init_adapter(config, jax.random.key(0), rank=16, alpha=32)
    names = tuple(projection_shapes(config))
    model = get_peft_model(base, LoraConfig(r=16, lora_alpha=32, target_modules=list(names)))
    theirs = from_peft(model, config, names)
    assert adapter.scale == 2.0
    for name in names:
        assert not adapter.weights[name]["b"].any()
        for part in ("a", "b"):
            assert adapter.weights[name][part].shape == theirs[name][part].shape
        ours, want = np.asarray(adapter.weights[name]["a"]), theirs[name]["a"]
        # A uniform variable is known by its bound and deviation; some thousand draws give both closely.
        np.testing.assert_allclose(np.abs(ours).max(), np.abs(want).max(), rtol=0.02)
        np.testing.assert_allclose(ours.std(), want.std(), rtol=0.05)
        assert not np.array_equal(ours[0], ours[1])


def test_a_fresh_adapter_changes_nothing() -> None:
    params, _ = params_and_adapter()
    batch = random_tokens((1, 6)), *causal(1, 6)
    adapter = init_adapter(CONFIG, jax.random.key(0), RANK, ALPHA)
    bare, adapted = (forward(CONFIG, params, either, *batch) for either in (None, adapter))
    np.testing.assert_array_equal(bare, adapted)


def test_stacked_adapters_run_under_one_vmap() -> None:
    params, adapter = params_and_adapter()
    batch = random_tokens((2, 6)), *causal(2, 6)
    adapters = [jax.tree.map(lambda x, factor=factor: factor * x, adapter) for factor in (1.0, -0.5)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *adapters)
    together = jax.vmap(lambda adapter: decoder.forward(CONFIG, params, adapter, *batch))(stacked)
    for one, hidden in zip(adapters, together, strict=True):
        alone = forward(CONFIG, params, one, *batch)
        np.testing.assert_allclose(hidden, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def from_peft(
    model: PeftModel, config: ModelConfig, names: tuple[str, ...], gradient: bool = False
) -> dict[str, dict[str, np.ndarray]]:
    """peft's A and B, or their gradients, stacked as ours."""
    parameters = dict(model.named_parameters())

    def stack(name: str, part: str) -> np.ndarray:
        modules = (layer_tensor(layer, name) for layer in range(config.num_hidden_layers))
        keys = (
            f"base_model.model.{module.removesuffix('weight')}lora_{part.upper()}.default.weight"
            for module in modules
        )
        tensors = (parameters[key].grad if gradient else parameters[key] for key in keys)
        return np.stack([tensor.detach().numpy() for tensor in tensors])

    return {name: {part: stack(name, part) for part in ("a", "b")} for name in names}
