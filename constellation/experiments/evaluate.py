"""One generator on one bank: its pass@k curve, from a checkpoint alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import split
from constellation.evaluation.pass_at_k import pass_at_k
from constellation.experiments.config import BASE, CRITIC, load_base, memory_of
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter, stack
from constellation.model.model import Generator, model_hash
from constellation.model.peft_format import is_peft, load_peft
from constellation.model.sampling import SamplingConfig
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.finetune import load_adapter
from constellation.solve import draw_samples
from constellation.verifier import judge_samples


def evaluate_checkpoint(
    config: ConfigDict,
    checkpoint: str | None,
    bank: str,
    k: Sequence[str],
    n: int,
    trajectory: int = 0,
    domain: Domain | None = None,
) -> SampleSet:
    """Prints pass@k and visible-fit@k of a generator, with standard errors over tasks; returns its samples.

    Args:
        config: of an experiment; a checkpoint's own replaces it, but for where the base model lies.
        checkpoint: an adapter's Orbax directory, one in peft's format, or "none" for the base of `config`.
        k: whole numbers, as text.
        n: samples a task.
        domain: instead of the config's.

    Raises:
        UserError: no such checkpoint, trajectory, base model or bank, a k that is no whole number in 1..n.
    """
    if checkpoint is None:
        raise UserError("--checkpoint is missing: give the adapter's directory, or 'none' for the base model")
    ks = [int(text) for text in k if text.isdecimal()]
    if not ks or len(ks) != len(k) or not all(1 <= value <= n for value in ks):
        raise UserError(f"--k={','.join(k)}: give whole numbers from 1 to --samples={n}")
    name, adapter = BASE, None
    if checkpoint != "none":
        name, adapter, config = load_checkpoint(Path(checkpoint), trajectory, config)
        if CRITIC in name and not is_peft(Path(checkpoint)):  # the study's own, or one trained otherwise
            raise UserError(f"{checkpoint} is a critic's, which answers no task: give a generator's")
    domain = domain or load_domain(config.domain)
    tasks = domain.make_bank(bank, config.tasks.bank_size, config.tasks.seed)
    model = load_base(config, domain)
    divided = partial(split, split_seed=config.tasks.split_seed, visible=config.tasks.visible)
    (drawn,) = draw_samples(
        Generator(model, None if adapter is None else stack([adapter])),
        domain,
        [tasks],
        divided,
        SamplingConfig(n=n, **config.sampling),
        # the address of the evaluation in a study of STaR: its samples are drawn again, not new ones
        Address(config.seed, f"evaluation, split {config.tasks.split_seed}", name, trajectory),
        dataclasses.replace(memory_of(config, model.config, jax.default_backend()), trajectories=1),
        f"{name} on {bank}",
    )
    samples = judge_samples(domain, tasks, divided, drawn, f"{name} on {bank}")
    print(f"{name} on {bank}: {len(tasks)} tasks, {n} samples a task, split seed {config.tasks.split_seed}")
    print(f"{'k':>5} {'pass@k':>16} {'visible-fit@k':>16}")
    for value in ks:
        solved, fitted = (_share(samples, column, value) for column in (samples.right, samples.fits))
        print(f"{value:>5} {solved:>16} {fitted:>16}")
    return samples


def _share(samples: SampleSet, column: np.ndarray, k: int) -> str:
    """The share of tasks, in %, for which a column is true of one of k samples, with its standard error."""
    per_task = pass_at_k(samples.n, samples.per_sample(column).sum(axis=1), k)
    error = np.std(per_task, ddof=1) / np.sqrt(len(per_task)) if len(per_task) > 1 else 0.0
    return f"{100 * np.mean(per_task):8.1f} +- {100 * error:3.1f}"


def load_checkpoint(checkpoint: Path, trajectory: int, given: ConfigDict) -> tuple[str, Adapter, ConfigDict]:
    """The name of a trained adapter, the adapter, and the config that it is used with.

    Args:
        checkpoint: an Orbax directory, which says what its config is, or one in peft's format, which does
            not: its name is the directory's and its base that of the `given` config.

    Raises:
        UserError: as `load_adapter` and `own_config`, or `load_peft`.
    """
    if is_peft(checkpoint):
        adapter = load_peft(checkpoint, ModelConfig.from_dir(given.model.dir))
        return checkpoint.resolve().name, adapter, given
    adapter, metadata = load_adapter(checkpoint, trajectory)
    return metadata["name"], adapter, own_config(metadata, given)


def own_config(metadata: dict[str, Any], given: ConfigDict) -> ConfigDict:
    """The config a checkpoint was trained with, on the devices of `given`; its base may lie there, too.

    Raises:
        UserError: the base model is in neither directory, or the config is of an older version.
    """
    config, wanted = ConfigDict(metadata["config"]), metadata["model"]["hash"]
    if "domain" not in config:
        raise UserError(
            f"the checkpoint of {metadata['name']} was made by an older version, whose config names no "
            "domain: check that version out to evaluate it"
        )
    config.mesh, config.memory = given.mesh, given.memory
    trained_on = metadata["model"]["dir"]
    for directory in (trained_on, given.model.dir):
        try:
            found = model_hash(directory, config.model.quantization, config.model.dtype)
        except UserError:  # no weights there
            continue
        if found == wanted:
            config.model.dir = directory
            return config
    raise UserError(
        f"neither {trained_on} nor {given.model.dir} holds the base model that {metadata['name']} was "
        f"trained on (hash {wanted[:12]}): give its directory as --config.model.dir"
    )
