"""The LoRA update that warm start, self-training and critic share: adapter weights alone, by AdamW."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, forward, logits
from constellation.model.lora import Adapter
from constellation.selftraining.batches import Batch

Update = Callable[[Adapter, optax.OptState, Params, Batch], tuple[Adapter, optax.OptState, dict[str, jax.Array]]]


def make_optimizer(learning_rate: float, weight_decay: float, clip_norm: float) -> optax.GradientTransformation:
    """AdamW (1711.05101) at a constant rate after clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm), optax.adamw(learning_rate, weight_decay=weight_decay)
    )


def cross_entropy(config: ModelConfig, params: Params, adapter: Adapter | None, batch: Batch) -> jax.Array:
    """Mean cross entropy over the batch's targets, in nats: []."""
    query, key = batch.branch[:, :, None], batch.branch[:, None, :]
    order = jnp.arange(batch.tokens.shape[1])
    mask = (order[:, None] >= order) & ((key == 0) | (key == query))  # [B, T, T]
    hidden = forward(config, params, adapter, batch.tokens, batch.positions, mask)  # [B, T, D]
    picked = jnp.take_along_axis(hidden, batch.source[..., None], axis=1)  # [B, A, D]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits(config, params, picked), batch.target)
    return (losses * batch.weight).sum() / batch.weight.sum()


def make_update(config: ModelConfig, optimizer: optax.GradientTransformation) -> Update:
    """A jitted (adapter, opt_state, params, batch) -> (adapter, opt_state, metrics); the first two are donated.

    The optimizer state is that of `adapter.weights`. Metrics: loss, grad_norm.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(
        adapter: Adapter, opt_state: optax.OptState, params: Params, batch: Batch
    ) -> tuple[Adapter, optax.OptState, dict[str, jax.Array]]:
        def loss_of(weights: dict[str, Any]) -> jax.Array:
            return cross_entropy(config, params, adapter.replace(weights=weights), batch)

        loss, gradient = jax.value_and_grad(loss_of)(adapter.weights)
        updates, opt_state = optimizer.update(gradient, opt_state, adapter.weights)
        weights = optax.apply_updates(adapter.weights, updates)
        return adapter.replace(weights=weights), opt_state, {"loss": loss, "grad_norm": optax.global_norm(gradient)}

    return update
