"""The LoRA update that warm start, self-training and critic share: adapter weights alone, by AdamW.

The loss of a batch is that of peer-predictive self-training (2604.13356, our reconstruction),
L = sum_i w_i * CE_i / sum_i T_i, where answer i has weight w_i and T_i targets, whose cross entropies CE_i is
the sum of. The weights do not enter what it is divided by: at half the weights the gradient is half as large.
With all weights at 1 it is the mean cross entropy of supervised fine-tuning.

A batch is divided among the slices of the mesh, and within a slice into micro-batches whose gradients are
added up: memory is that of one micro-batch, and of one layer where layers are recomputed. What all prompts
begin with, as the description of a language, goes forward and backward once a batch: the gradients of all
rows to its keys and values are added up first. Several trajectories are one program vmapped over their
adapters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from constellation.model.config import ModelConfig
from constellation.model.decoder import KV, Params, branch_mask, forward, logits
from constellation.model.lora import Adapter
from constellation.model.mesh import DATA, make_mesh, over_rows
from constellation.model.padding import multiple
from constellation.model.prefix import prefix_kv, prefix_length
from constellation.selftraining.batches import Batch

Update = Callable[
    [Adapter, optax.OptState, Params, Batch], tuple[Adapter, optax.OptState, dict[str, jax.Array]]
]


@cache  # one object for the same settings, so that `make_update` knows it again
def make_optimizer(
    learning_rate: float, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """AdamW (1711.05101) at a constant rate after clipping by the global norm."""
    return optax.chain(
        optax.clip_by_global_norm(clip_norm), optax.adamw(learning_rate, weight_decay=weight_decay)
    )


def cross_entropy(
    config: ModelConfig,
    params: Params,
    adapter: Adapter | None,
    batch: Batch,
    remat: bool = False,
    choices: Sequence[int] = (),
    prefix: KV | None = None,
) -> jax.Array:
    """The sum over the batch's targets of weight * cross entropy, in nats: [].

    `choices` are the token ids that a target is one of; the whole vocabulary by default. `prefix` is as for
    `forward`.
    """
    mask, positions = visible(batch), batch.positions + prefix_length(prefix)
    hidden = forward(
        config, params, adapter, batch.tokens, positions, mask, remat, prefix, batch.source
    )  # [B, A, D]
    scores, target = logits(config, params, hidden), batch.target  # [B, A, V], [B, A]
    if choices:
        ids = jnp.array(choices)
        scores, target = scores[..., ids], (target[..., None] == ids).argmax(-1)
    return (optax.softmax_cross_entropy_with_integer_labels(scores, target) * batch.weight).sum()


def visible(batch: Batch) -> jax.Array:
    """[B, T, T] bool, (query, key): a token sees its document's prompt and its own branch, up to itself."""
    return branch_mask(batch.branch) & (batch.document[:, :, None] == batch.document[:, None, :])


@cache  # trainings of one kind share their compiled programs
def make_update(
    config: ModelConfig,
    optimizer: optax.GradientTransformation,
    mesh: Mesh | None = None,
    micro_batch: int = 0,
    remat: bool = False,
    choices: tuple[int, ...] = (),
    prefix: tuple[int, ...] = (),
) -> Update:
    """A jitted (adapters, opt_states, params, batch) -> (adapters, opt_states, metrics) of R trajectories.

    Adapters and optimizer states are [R, ...] and donated, a batch's arrays [B, R, ...]. The optimizer
    states are those of `adapters.weights`, under a vmap. Metrics [R]: loss, grad_norm (before clipping). A
    trajectory whose batch has no targets, or all of them at weight 0, stays as it is.

    Args:
        mesh: the devices, one by default; a batch's rows are divided along `data`, all else is replicated.
        micro_batch: rows of each trajectory that a slice differentiates at a time; 0 for all of its rows.
        remat, choices: as for `forward` and `cross_entropy`.
        prefix: the token ids that every document begins with and the batches leave out.
    """
    mesh = mesh or make_mesh()
    slices = mesh.shape[DATA]

    def gradient_of(adapters: Adapter, params: Params, batch: Batch) -> tuple[jax.Array, dict[str, Any]]:
        """Sums, not means, over a slice's rows: slices and micro-batches may differ in their targets."""

        def adapted(weights: dict[str, Any]) -> Adapter:
            return dataclasses.replace(adapters, weights=weights)

        def begin(weights: dict[str, Any]) -> KV | None:
            """The KV of the prefix, of each trajectory."""

            def trajectory_kv(weights: dict[str, Any]) -> KV:
                return prefix_kv(config, params, adapted(weights), jnp.array(prefix), remat)

            return jax.vmap(trajectory_kv)(weights) if prefix else None

        def add(sums: Any, batch: Batch) -> tuple[Any, None]:
            def loss_of(weights: dict[str, Any], kv: KV | None) -> tuple[jax.Array, jax.Array]:
                def trajectory_loss(weights: dict[str, Any], kv: KV | None, batch: Batch) -> jax.Array:
                    return cross_entropy(config, params, adapted(weights), batch, remat, choices, kv)

                losses = jax.vmap(trajectory_loss, (0, 0, 1))(weights, kv, batch)  # [R]
                return losses.sum(), losses  # whose gradient is each trajectory's own

            gradients, losses = jax.grad(loss_of, (0, 1), has_aux=True)(adapters.weights, kv)
            return jax.tree.map(jnp.add, sums, (losses, gradients)), None

        kv, back = jax.vjp(begin, adapters.weights)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape), (batch.tokens[0, :, 0], (adapters.weights, kv)))
        size = micro_batch or len(batch.tokens)
        if size == len(batch.tokens):
            losses, (gradient, to_kv) = add(zero, batch)[0]
        else:
            parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), batch)
            losses, (gradient, to_kv) = jax.lax.scan(add, zero, parts)[0]
        (through_kv,) = back(jax.tree.map(lambda sum, x: sum.astype(x.dtype), to_kv, kv))
        return losses, jax.tree.map(jnp.add, gradient, through_kv)

    summed = over_rows(gradient_of, mesh, reduce=True)

    def step(
        weights: dict[str, Any],
        opt_state: optax.OptState,
        gradient: dict[str, Any],
        targets: jax.Array,
        learns: jax.Array,
    ) -> tuple[dict[str, Any], optax.OptState, jax.Array]:
        """One trajectory's step, by a gradient that is summed over its targets."""
        gradient = jax.tree.map(lambda x: x / targets, gradient)
        updates, opt_state = optimizer.update(gradient, opt_state, weights)
        updates = jax.tree.map(lambda x: jnp.where(learns, x, 0), updates)
        return optax.apply_updates(weights, updates), opt_state, optax.tree.norm(gradient)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(
        adapters: Adapter, opt_states: optax.OptState, params: Params, batch: Batch
    ) -> tuple[Adapter, optax.OptState, dict[str, jax.Array]]:
        rows = multiple(len(batch.tokens), slices * (micro_batch or 1))
        padding = rows - len(batch.tokens)  # rows of weight zero, to share out evenly
        targets = jnp.maximum((batch.target >= 0).sum((0, 2)), 1)  # [R], whatever they weigh
        learns = (batch.weight != 0).any((0, 2))  # [R]
        batch = jax.tree.map(lambda x: jnp.pad(x, ((0, padding), (0, 0), (0, 0))), batch)
        loss, gradient = summed(adapters, params, batch)
        weights, opt_states, norm = jax.vmap(step)(adapters.weights, opt_states, gradient, targets, learns)
        adapters = dataclasses.replace(adapters, weights=weights)
        return adapters, opt_states, {"loss": loss / targets, "grad_norm": norm}

    return update
