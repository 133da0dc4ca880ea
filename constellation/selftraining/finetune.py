"""The training loop of an adapter: addressed batches, checkpoints, metrics; resumes to the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from constellation import checkpoints, keys
from constellation.errors import UserError
from constellation.model.lora import Adapter
from constellation.model.mesh import replicate
from constellation.model.model import Model
from constellation.progress import Metrics, Progress
from constellation.selftraining.batches import TrainingExample, collate, draw_batches
from constellation.selftraining.update import make_optimizer, make_update

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
        micro_batch: as for `make_update`.

    Returns:
        kept (answers in the pool), kept_tasks, updates, answer_tokens (tokens that carried loss).

    Raises:
        UserError: the loss is not finite.
    """
    optimizer = make_optimizer(training.learning_rate, training.weight_decay, training.clip_norm)
    opt_state = optimizer.init(adapter.weights)
    done = 0
    if checkpoints.steps(directory / CHECKPOINTS):
        template = (adapter, opt_state)
        (adapter, opt_state), _, done = checkpoints.restore(directory / CHECKPOINTS, template)
    seed, *rest = address
    lengths = [example.length for example in pool]
    batches = draw_batches(lengths, updates, training.batch_size, keys.host_rng(int(seed), *rest))
    adapter, opt_state = replicate((adapter, opt_state), model.mesh)
    update = make_update(model.config, optimizer, model.mesh, micro_batch, training.remat)
    metadata = metadata | {"scale": adapter.scale, "address": list(address)}
    with (
        Metrics(directory / "metrics", resumed_from=done or None) as metrics,
        Progress(f"training {metadata['name']}", len(batches), "updates", done=done) as progress,
    ):
        for step, batch in enumerate(batches[done:], start=done + 1):
            rows = collate([pool[i] for i in batch])
            adapter, opt_state, measured = update(adapter, opt_state, model.params, rows)
            loss = float(measured["loss"])
            if not np.isfinite(loss):
                raise UserError(f"the loss is {loss} at update {step}: lower config.training.learning_rate")
            metrics.write(step, loss=loss, grad_norm=float(measured["grad_norm"]))
            progress.update(1, loss=loss)
            if step % training.checkpoint_every == 0 and step < len(batches):
                checkpoints.save(directory / CHECKPOINTS, step, (adapter, opt_state), metadata)
    if done < len(batches) or not batches:
        checkpoints.save(directory / CHECKPOINTS, len(batches), (adapter, opt_state), metadata)
    return {
        "kept": sum(len(example.answers) for example in pool),
        "kept_tasks": len(pool),
        "updates": len(batches),
        "answer_tokens": sum(pool[i].targets for batch in batches for i in batch),
    }


def load_adapter(directory: Path) -> tuple[Adapter, dict[str, Any]]:
    """The last adapter that `finetune` left in a stage or checkpoint directory, and its metadata.

    Raises:
        UserError: no checkpoint there, or one of something else.
    """
    root = directory / CHECKPOINTS if (directory / CHECKPOINTS).is_dir() else directory
    state, metadata, _ = checkpoints.restore(root)
    if "scale" not in metadata:
        raise UserError(f"the checkpoint in {root} is no adapter: give the directory of a training stage")
    return Adapter(state["0"]["weights"], metadata["scale"]), metadata
