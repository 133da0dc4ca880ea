"""The training loop of an adapter: addressed batches, checkpoints, metrics; resumes to the same result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from constellation import checkpoints
from constellation.model.lora import Adapter, unstack
from constellation.model.mesh import replicate
from constellation.model.model import Generator
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address
from constellation.runtime.progress import Metrics, Progress
from constellation.selftraining.batches import TrainingExample, collate, draw_batches, without_prefix
from constellation.selftraining.update import make_optimizer, make_update

CHECKPOINTS = "adapter"  # the Orbax directory inside a stage


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How an adapter is trained; see `make_optimizer` and `make_update`."""

    updates: int  # optimizer steps, a number fixed beforehand
    batch_size: int  # examples an update
    learning_rate: float
    clip_norm: float
    weight_decay: float
    remat: bool
    checkpoint_every: int  # updates
    micro_batch: int = 0
    choices: tuple[int, ...] = ()


def finetune(
    generator: Generator,
    pools: Sequence[Sequence[TrainingExample]],
    training: TrainingConfig,
    address: Address,
    directory: Path,
    metadata: dict[str, Any],
) -> list[dict[str, int]]:
    """Trains the adapters of R trajectories as one program and leaves them in directory/adapter.

    Args:
        pools: of each trajectory, its examples; an empty pool is legal and leaves the adapter as it is.
        address: of the batches' draws.
        directory: of the stage; a checkpoint found in it is continued.
        metadata: saved beside every checkpoint.

    Returns:
        for each trajectory `kept` (answers in the pool), `kept_tasks`, `updates`, `answer_tokens` (learnt).

    Raises:
        UserError: the loss is not finite.
    """
    model, adapters = generator.model, generator.adapters
    assert adapters is not None
    optimizer = make_optimizer(training.learning_rate, training.weight_decay, training.clip_norm)
    opt_states = jax.vmap(optimizer.init)(adapters.weights)
    done = 0
    if checkpoints.steps(directory / CHECKPOINTS):
        template = (adapters, opt_states)
        (adapters, opt_states), _, done = checkpoints.restore(directory / CHECKPOINTS, template)
    prefix, pools = without_prefix(pools)
    drawn = [_batches(pool, training, address, trajectory) for trajectory, pool in enumerate(pools)]
    steps = training.updates if any(drawn) else 0
    adapters, opt_states = replicate((adapters, opt_states), model.mesh)
    update = make_update(
        model.config, optimizer, model.mesh, training.micro_batch, training.remat, training.choices, prefix
    )
    addresses = [list(address.parts(trajectory)) for trajectory in range(len(pools))]
    metadata = metadata | {"scale": adapters.scale, "addresses": addresses}
    with (
        Metrics(directory / "metrics", resumed_from=done or None) as metrics,
        Progress(f"training {metadata['name']}", steps, "updates", done=done) as progress,
    ):
        for step in range(done + 1, steps + 1):
            rows = collate([batches[step - 1] if batches else [] for batches in drawn])
            adapters, opt_states, measured = update(adapters, opt_states, model.params, rows)
            losses, norms = (np.asarray(measured[name], np.float64) for name in ("loss", "grad_norm"))
            if not np.isfinite(losses).all():
                loss = losses[~np.isfinite(losses)][0]
                raise UserError(
                    f"the loss is {loss} at update {step}: lower config.training.learning_rate, or in "
                    "a round config.star.learning_rate"
                )
            metrics.write(step, loss=losses.mean(), grad_norm=norms.mean(), **_numbered("loss", losses))
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
    pool: Sequence[TrainingExample], training: TrainingConfig, address: Address, trajectory: int
) -> list[list[TrainingExample]]:
    """The examples of every update; none for an empty pool."""
    lengths = [example.length for example in pool]
    sizes = training.updates, training.batch_size
    drawn = draw_batches(lengths, *sizes, address.rng(trajectory), address.order())
    return [[pool[i] for i in batch] for batch in drawn]


def _numbered(name: str, values: np.ndarray) -> dict[str, float]:
    """A metric of each trajectory, where there are several."""
    return {f"{name}_{r}": value for r, value in enumerate(values.tolist())} if len(values) > 1 else {}


def load_adapters(directory: Path) -> tuple[Adapter, dict[str, Any]]:
    """The last adapters [R, ...] that `finetune` left in a stage or checkpoint directory, and their metadata.

    Raises UserError: no checkpoint there, or one of something else.
    """
    root = directory / CHECKPOINTS if (directory / CHECKPOINTS).is_dir() else directory
    state, metadata, _ = checkpoints.restore(root)
    if "scale" not in metadata:
        raise UserError(f"the checkpoint in {root} is no adapter: give the directory of a training stage")
    return Adapter(state["0"]["weights"], metadata["scale"]), metadata


def load_adapter(directory: Path, trajectory: int = 0) -> tuple[Adapter, dict[str, Any]]:
    """The last adapter of one trajectory, without the axis [R], and the metadata.

    Raises UserError: as `load_adapters`, or there is no such trajectory.
    """
    adapters, metadata = load_adapters(directory)
    trajectories = len(metadata["addresses"])
    if not 0 <= trajectory < trajectories:
        raise UserError(f"{directory} holds trajectories 0 to {trajectories - 1}, and not {trajectory}")
    return unstack(adapters)[trajectory], metadata
