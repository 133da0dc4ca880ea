"""One generator on one bank: its pass@k curve, from a checkpoint alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from constellation import checkpoints, keys
from constellation.errors import UserError
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.experiments.star_study import draw_samples
from constellation.model.model import load_model
from constellation.sampling import SamplingConfig
from constellation.selftraining.finetune import load_adapter
from constellation.tasks import trapdoor


def evaluate_checkpoint(config: ConfigDict, checkpoint: str | None, bank: str, k: Sequence[str], n: int) -> None:
    """Prints pass@k and visible-fit@k of a generator, with the standard error over tasks.

    Args:
        config: of an experiment; a checkpoint's own replaces it.
        checkpoint: an adapter's Orbax directory, or "none" for the base of `config`.
        bank: name of the bank.
        k: whole numbers, as text.
        n: samples a task.

    Raises:
        UserError: no such checkpoint or bank, a k that is no whole number in 1..n.
    """
    if checkpoint is None:
        raise UserError("--checkpoint is missing: give the adapter's directory, or 'none' for the base model")
    ks = [int(text) for text in k if text.isdigit()]
    if len(ks) != len(k) or not all(1 <= value <= n for value in ks):
        raise UserError(f"--k={','.join(k)}: give whole numbers from 1 to --samples={n}")
    name, directory = "theta0", Path(checkpoint)
    if checkpoint != "none":
        if not checkpoints.steps(directory):
            raise UserError(f"no checkpoint in {checkpoint}: give the 'adapter' directory of a finished training stage")
        _, metadata, _ = checkpoints.restore(directory)
        config, name = ConfigDict(metadata["config"]), metadata["name"]
    tasks = trapdoor.make_bank(bank, config.tasks.bank_size, config.tasks.seed)
    model = load_model(config.model.dir, config.model.quantization, config.model.dtype)
    adapter = load_adapter(model, directory)[0] if checkpoint != "none" else None
    samples = draw_samples(
        model,
        adapter,
        tasks,
        config.tasks.split_seed,
        config.tasks.visible,
        SamplingConfig(n=n, **config.sampling),
        # the address of the experiment's own evaluation: its samples are drawn again, not new ones
        keys.fold(config.seed, f"evaluation, split {config.tasks.split_seed}", name, 0),
        f"{name} on {bank}",
        {},
    )
    print(f"{name} on {bank}: {len(tasks)} tasks, {n} samples a task, split seed {config.tasks.split_seed}")
    print(f"{'k':>5} {'pass@k':>16} {'visible-fit@k':>16}")
    for value in ks:
        cells = []
        for column in (samples.generalises, samples.fits):
            per_task = pass_at_k(n, samples.per_sample(column).sum(axis=1), value)
            error = np.std(per_task, ddof=1) / np.sqrt(len(per_task)) if len(per_task) > 1 else 0.0
            cells.append(f"{100 * np.mean(per_task):8.1f} +- {100 * error:3.1f}")
        print(f"{value:>5} {cells[0]:>16} {cells[1]:>16}")
