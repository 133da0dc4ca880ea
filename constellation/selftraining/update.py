"""The LoRA update that warm start, self-training and critic share: adapter weights alone, by AdamW.

A batch is divided among the slices of the mesh, and within a slice into micro-batches whose gradients are
added up: memory is that of one micro-batch, and of one layer where layers are recomputed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, branch_mask, forward, logits
from constellation.model.lora import Adapter
from constellation.model.mesh import DATA, make_mesh, over_rows
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


def cross_entropy(
    config: ModelConfig, params: Params, adapter: Adapter | None, batch: Batch, remat: bool = False
) -> jax.Array:
    """Weighted sum of the cross entropies of the batch's targets, in nats: []; `remat` as for `forward`."""
    width = batch.tokens.shape[1]
    mask = visible(batch)
    hidden = forward(config, params, adapter, batch.tokens, batch.positions, mask, remat)  # [B, T, D]
    # A product, because the gradient of indexing is a scatter, which a CPU does one row after the other.
    picked = jnp.einsum("bat,btd->bad", jax.nn.one_hot(batch.source, width, dtype=hidden.dtype), hidden)
    scores = logits(config, params, picked)  # [B, A, V]
    return (optax.softmax_cross_entropy_with_integer_labels(scores, batch.target) * batch.weight).sum()


def visible(batch: Batch) -> jax.Array:
    """[B, T, T] bool, (query, key): a token sees its document's prompt and its own branch, up to itself."""
    return branch_mask(batch.branch) & (batch.document[:, :, None] == batch.document[:, None, :])


def make_update(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    micro_batch: int = 0,
    remat: bool = False,
) -> Update:
    """A jitted (adapter, opt_state, params, batch) -> (adapter, opt_state, metrics); donates the first two.

    The loss is the mean cross entropy over the batch's targets, by their weights. The optimizer state is that
    of `adapter.weights`. Metrics: loss, grad_norm (before clipping).

    Args:
        mesh: the devices, which hold the rest replicated along `data`; one by default.
        micro_batch: rows that a slice differentiates at a time; 0 for all of its rows.
        remat: as for `forward`.
    """
    mesh = mesh or make_mesh()
    slices = mesh.shape[DATA]

    def gradient_of(adapter: Adapter, params: Params, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """Sums over the rows of a slice: slices and micro-batches may hold different numbers of targets."""

        def add(sums: Any, batch: Batch) -> tuple[Any, None]:
            def loss_of(weights: dict[str, Any]) -> jax.Array:
                adapted = dataclasses.replace(adapter, weights=weights)
                return cross_entropy(config, params, adapted, batch, remat)

            return jax.tree.map(jnp.add, sums, jax.value_and_grad(loss_of)(adapter.weights)), None

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, adapter.weights)
        size = micro_batch or len(batch.tokens)
        if size == len(batch.tokens):
            return add(zero, batch)[0]
        parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)
        return jax.lax.scan(add, zero, parts)[0]

    summed = over_rows(gradient_of, mesh, reduce=True)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(
        adapter: Adapter, opt_state: optax.OptState, params: Params, batch: Batch
    ) -> tuple[Adapter, optax.OptState, dict[str, jax.Array]]:
        share = -(-len(batch.tokens) // slices)
        share = -(-share // micro_batch) * micro_batch if micro_batch else share
        spare = share * slices - len(batch.tokens)  # rows of weight zero, to share out evenly
        batch = jax.tree.map(lambda x: jnp.pad(x, ((0, spare), (0, 0))), batch)
        total = batch.weight.sum()
        loss, gradient = jax.tree.map(lambda x: x / total, summed(adapter, params, batch))
        updates, opt_state = optimizer.update(gradient, opt_state, adapter.weights)
        weights = optax.apply_updates(adapter.weights, updates)
        return (
            dataclasses.replace(adapter, weights=weights),
            opt_state,
            {"loss": loss, "grad_norm": optax.tree.norm(gradient)},
        )

    return update
