"""The LoRA update that warm start, self-training and critic share: adapter weights alone, by AdamW.

Data-parallel over the devices there are. On a CPU it pays to make one device of every core: XLA then runs
each half of the batch on one thread, instead of handing every small operation to two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, PartitionSpec

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, branch_mask, forward, logits
from constellation.model.lora import Adapter
from constellation.selftraining.batches import Batch

Update = Callable[
    [Adapter, optax.OptState, Params, Batch], tuple[Adapter, optax.OptState, dict[str, jax.Array]]
]


def make_optimizer(
    learning_rate: float, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """AdamW (1711.05101) at a constant rate after clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm), optax.adamw(learning_rate, weight_decay=weight_decay)
    )


def cross_entropy(config: ModelConfig, params: Params, adapter: Adapter | None, batch: Batch) -> jax.Array:
    """Weighted sum of the cross entropies of the batch's targets, in nats: []."""
    width = batch.tokens.shape[1]
    hidden = forward(config, params, adapter, batch.tokens, batch.positions, visible(batch))  # [B, T, D]
    # A product, because the gradient of indexing is a scatter, which a CPU does one row after the other.
    picked = jnp.einsum("bat,btd->bad", jax.nn.one_hot(batch.source, width, dtype=hidden.dtype), hidden)
    scores = logits(config, params, picked)  # [B, A, V]
    return (optax.softmax_cross_entropy_with_integer_labels(scores, batch.target) * batch.weight).sum()


def visible(batch: Batch) -> jax.Array:
    """[B, T, T] bool, (query, key): a token sees its document's prompt and its own branch, up to itself."""
    return branch_mask(batch.branch) & (batch.document[:, :, None] == batch.document[:, None, :])


def make_update(config: ModelConfig, optimizer: optax.GradientTransformation) -> Update:
    """A jitted (adapter, opt_state, params, batch) -> (adapter, opt_state, metrics); donates the first two.

    The loss is the mean cross entropy over the batch's targets, by their weights. The optimizer state is that
    of `adapter.weights`. Metrics: loss, grad_norm (before clipping).
    """
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,))
    rows, replicated = PartitionSpec("data"), PartitionSpec()

    # Devices may hold different numbers of targets, so sums are added up across them, not means.
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(replicated, replicated, rows),
        out_specs=replicated,
        check_vma=False,
    )
    def gradient_of(adapter: Adapter, params: Params, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        def loss_of(weights: dict[str, Any]) -> jax.Array:
            return cross_entropy(config, params, dataclasses.replace(adapter, weights=weights), batch)

        return jax.lax.psum(jax.value_and_grad(loss_of)(adapter.weights), "data")

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(
        adapter: Adapter, opt_state: optax.OptState, params: Params, batch: Batch
    ) -> tuple[Adapter, optax.OptState, dict[str, jax.Array]]:
        spare = -len(batch.tokens) % devices  # rows of weight zero, to share out evenly
        batch = jax.tree.map(lambda x: jnp.pad(x, ((0, spare), (0, 0))), batch)
        total = batch.weight.sum()
        loss, gradient = jax.tree.map(lambda x: x / total, gradient_of(adapter, params, batch))
        updates, opt_state = optimizer.update(gradient, opt_state, adapter.weights)
        weights = optax.apply_updates(adapter.weights, updates)
        return (
            dataclasses.replace(adapter, weights=weights),
            opt_state,
            {"loss": loss, "grad_norm": optax.tree.norm(gradient)},
        )

    return update
