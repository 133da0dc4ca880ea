"""Full-parameter training of a base model from scratch, data-parallel over the devices there are.

On a CPU it pays to make one device of every core (launch/pretrain.py does): XLA then runs each part of the
batch on one thread, instead of handing every small operation to all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, forward, logits
from constellation.model.mesh import make_mesh, over_rows


class PretrainingBatch(NamedTuple):
    """Sequences from position 0 on."""

    tokens: Any  # [B, T] int32
    weight: Any  # [B, T] float32, of predicting a token from those before it; zero on padding and at t = 0


def make_train_step(config: ModelConfig, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """A jitted (params, opt_state, batch) -> (params, opt_state, metrics); the first two are donated.

    Metrics: loss (weighted mean cross entropy), answer_accuracy (share of the targets of weight 1 whose token
    is the most likely one), grad_norm.
    """

    def sums_of(params: Params, batch: PretrainingBatch) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        rows, width = batch.tokens.shape
        positions = jnp.broadcast_to(jnp.arange(width), (rows, width))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((width, width), bool)), (rows, width, width))
        hidden = forward(config, params, None, batch.tokens, positions, mask)[:, :-1]
        scores = logits(config, params, hidden)  # [B, T-1, V]
        targets, weight = batch.tokens[:, 1:], batch.weight[:, 1:]
        loss = (optax.softmax_cross_entropy_with_integer_labels(scores, targets) * weight).sum()
        correct = ((scores.argmax(-1) == targets) & (weight == 1.0)).sum()
        return loss, (loss, correct)

    # Weights of a batch differ by device, so sums are added up across devices, not means.
    gradient_of = over_rows(jax.grad(sums_of, has_aux=True), make_mesh(jax.device_count()), reduce=True)

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(
        params: Params, opt_state: Any, batch: PretrainingBatch
    ) -> tuple[Params, Any, dict[str, jax.Array]]:
        gradient, (loss, correct) = gradient_of(params, batch)
        total, answers = batch.weight.sum(), (batch.weight == 1.0).sum()
        gradient = jax.tree.map(lambda g: g / total, gradient)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        metrics = {
            "loss": loss / total,
            "answer_accuracy": correct / answers,
            "grad_norm": optax.tree.norm(gradient),
        }
        return optax.apply_updates(params, updates), opt_state, metrics

    return step
