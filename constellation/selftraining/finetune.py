"""The training loop of an adapter: addressed batches, checkpoints, metrics; resumes to the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation import checkpoints
from constellation.model.lora import Adapter, stack, unstack
from constellation.model.mesh import replicate
from constellation.model.model import Model
from constellation.runtime import keys
from constellation.runtime.errors import UserError
from constellation.runtime.progress import Metrics, Progress
from constellation.selftraining.batches import TrainingExample, collate_each, draw_batches
from constellation.selftraining.update import make_optimizer, make_updates

CHECKPOINTS = "adapter"  # the Orbax directory inside a stage


def finetune(
    model: Model,
    adapter: Adapter,
    pool: Sequence[TrainingExample],
    updates: int,
    training: ConfigDict,
    address: tuple[int | str, ...],
    directory: Path,
    metadata: dict[str, Any],
    micro_batch: int = 0,
    choices: Sequence[int] = (),
) -> dict[str, int]:
    """Trains an adapter and leaves it, with its optimizer's state, in directory/adapter.

    Args:
        adapter: where training starts.
        pool: the examples; an empty pool is legal and leaves the adapter as it is.
        updates: optimizer steps, a number fixed beforehand.
        training: batch_size, learning_rate, clip_norm, weight_decay, remat, checkpoint_every.
        address: of the batches' draws: (seed, purpose, arm, replicate).
        directory: of the stage; a checkpoint found in it is continued.
        metadata: saved beside every checkpoint.
        micro_batch, choices: as for `make_update`.

    Returns:
        kept (answers in the pool), kept_tasks, updates, answer_tokens (tokens that carried loss).

    Raises:
        UserError: the loss is not finite.
    """
    one = stack([adapter]), [pool], updates, training, [address]
    return finetune_each(model, *one, directory, metadata, micro_batch, choices)[0]


def finetune_each(
    model: Model,
    adapters: Adapter,
    pools: Sequence[Sequence[TrainingExample]],
    updates: int,
    training: ConfigDict,
    addresses: Sequence[tuple[int | str, ...]],
    directory: Path,
    metadata: dict[str, Any],
    micro_batch: int = 0,
    choices: Sequence[int] = (),
) -> list[dict[str, int]]:
    """`finetune` for each of R trajectories as one program; their adapters lie in one checkpoint.

    Args:
        adapters: [R, ...].
        pools, addresses: of each; the addresses differ in the replicate alone.
    """
    optimizer = make_optimizer(training.learning_rate, training.weight_decay, training.clip_norm)
    opt_states = jax.vmap(optimizer.init)(adapters.weights)
    done = 0
    if checkpoints.steps(directory / CHECKPOINTS):
        template = (adapters, opt_states)
        (adapters, opt_states), _, done = checkpoints.restore(directory / CHECKPOINTS, template)
    drawn = [
        _batches(pool, updates, training.batch_size, address)
        for pool, address in zip(pools, addresses, strict=True)
    ]
    steps = updates if any(drawn) else 0
    adapters, opt_states = replicate((adapters, opt_states), model.mesh)
    update = make_updates(model.config, optimizer, model.mesh, micro_batch, training.remat, choices)
    metadata = metadata | {"scale": adapters.scale, "addresses": [list(address) for address in addresses]}
    with (
        Metrics(directory / "metrics", resumed_from=done or None) as metrics,
        Progress(f"training {metadata['name']}", steps, "updates", done=done) as progress,
    ):
        for step in range(done + 1, steps + 1):
            rows = collate_each([batches[step - 1] if batches else [] for batches in drawn])
            adapters, opt_states, measured = update(adapters, opt_states, model.params, rows)
            losses, norms = (np.asarray(measured[name], np.float64) for name in ("loss", "grad_norm"))
            if not np.isfinite(losses).all():
                loss = losses[~np.isfinite(losses)][0]
                raise UserError(
                    f"the loss is {loss} at update {step}: lower config.training.learning_rate, or in "
                    "a round config.star.learning_rate"
                )
            metrics.write(step, loss=losses.mean(), grad_norm=norms.mean(), **_each("loss", losses))
            progress.update(1, loss=losses.mean())
            if step % training.checkpoint_every == 0 and step < steps:
                checkpoints.save(directory / CHECKPOINTS, step, (adapters, opt_states), metadata)
    if done < steps or not steps:
        checkpoints.save(directory / CHECKPOINTS, steps, (adapters, opt_states), metadata)
    return [
        {
            "kept": sum(len(example.answers) for example in pool),
            "kept_tasks": len(pool),
            "updates": len(batches),
            "answer_tokens": sum(example.targets for batch in batches for example in batch),
        }
        for pool, batches in zip(pools, drawn, strict=True)
    ]


def _batches(
    pool: Sequence[TrainingExample], updates: int, size: int, address: tuple[int | str, ...]
) -> list[list[TrainingExample]]:
    """The examples of every update; none for an empty pool."""
    seed, *rest = address
    rng, order = keys.host_rng(int(seed), *rest), keys.host_rng(int(seed), "order", *rest[:-1])
    drawn = draw_batches([example.length for example in pool], updates, size, rng, order)
    return [[pool[i] for i in batch] for batch in drawn]


def _each(name: str, values: np.ndarray) -> dict[str, float]:
    """A metric of each trajectory, where there are several."""
    return {f"{name}_{r}": value for r, value in enumerate(values.tolist())} if len(values) > 1 else {}


def load_adapters(directory: Path) -> tuple[Adapter, dict[str, Any]]:
    """The last adapters [R, ...] that `finetune_each` left in a stage or checkpoint directory, and their
    metadata.

    Raises:
        UserError: no checkpoint there, or one of something else.
    """
    root = directory / CHECKPOINTS if (directory / CHECKPOINTS).is_dir() else directory
    state, metadata, _ = checkpoints.restore(root)
    if "scale" not in metadata:
        raise UserError(f"the checkpoint in {root} is no adapter: give the directory of a training stage")
    return Adapter(state["0"]["weights"], metadata["scale"]), metadata


def load_adapter(directory: Path, trajectory: int = 0) -> tuple[Adapter, dict[str, Any]]:
    """One of them.

    Raises:
        UserError: as `load_adapters`, or there is no such trajectory.
    """
    adapters, metadata = load_adapters(directory)
    trajectories = len(metadata["addresses"])
    if not 0 <= trajectory < trajectories:
        raise UserError(f"{directory} holds trajectories 0 to {trajectories - 1}, and not {trajectory}")
    return unstack(adapters)[trajectory], metadata
