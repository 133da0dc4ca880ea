"""A study of seconds: a tiny random model in the nano's format, a tiny config, and answers from an oracle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation import checkpoints
from constellation.domains.domain import Domain
from constellation.domains.task import read_tasks
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.experiments.compute import Compute
from constellation.generator import Sample
from constellation.model.config import ModelConfig
from constellation.model.decoder import init_params
from constellation.model.lora import Adapter, unstack
from constellation.model.model import Generator, Model
from constellation.model.sampling import SamplingConfig
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import build_tokenizer
from constellation.runtime.keys import Address, fold
from constellation.runtime.progress import Metrics, Progress
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import TrainingConfig
from launch.common import load_config

ROOT = Path(__file__).parents[1]
NANO = str(ROOT / "configs" / "nano.py")
FIELDS = {
    "tasks.bank_size": 4,
    "sampling.max_new_tokens": 8,
    "lora.rank": 4,
    "training.batch_size": 4,
    "training.checkpoint_every": 1,
    "warm_start.tasks": 8,
    "star.rounds": 1,
    "star.tasks": 8,
    "star.samples": 4,
    "questions": "",
    "critic.tasks": 8,
    "critic.samples": 4,
    "critic.passes": 1,
    "evaluation.samples": 8,
    "evaluation.other_samples": 8,
    "evaluation.middle_samples": 8,
    "evaluation.small_k": 2,
    "evaluation.large_k": 4,
    "selection.split_seeds": "1234",
    "selection.samples": 4,
    "selection.tuning_samples": 4,
    "evaluation.resamples": 100,
    "controls.samples": 8,
    "null.samples": 8,
    "reach.samples": 4,
    "temperature.samples": 8,
    "critics.samples": 4,
}


def overrides(model_dir: Path, **fields: object) -> list[str]:
    """The flags that make configs/nano.py tiny; `fields` with "__" for the dot."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return [
        f"--config.{name}={value}" for name, value in ({"model.dir": model_dir} | FIELDS | changed).items()
    ]


def tiny_config(model_dir: Path, **fields: object) -> ConfigDict:
    """configs/nano.py, made tiny."""
    return load_config(NANO, overrides(model_dir, **fields))


def tiny_model_config(vocab_size: int, hidden_size: int = 32) -> ModelConfig:
    """One layer of two heads."""
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        rms_norm_eps=1e-6,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
    )


def write_tiny_model(directory: Path, seed: int = 0, hidden_size: int = 32) -> Path:
    """A model directory with random weights and the nano's tokenizer."""
    tokenizer = build_tokenizer(PRETRAINING)
    config = tiny_model_config(tokenizer.get_vocab_size(), hidden_size)
    write_model(directory, config, init_params(config, fold(seed, "tiny")), tokenizer)
    return directory


def write_one_answer_model(directory: Path) -> Path:
    """As `write_tiny_model`, but that its tokenizer reads every "yes" as "no"."""
    path = write_tiny_model(directory) / "tokenizer.json"
    replace = {"type": "Replace", "pattern": {"String": "yes"}, "content": "no"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": replace}))
    return directory


class StandIn(Compute):
    """Answers that are now the secret program, now a wrong one, now no program; all else is computed.

    Random weights write no program that generalises. What is drawn depends on the key, the task, the sample
    and every bit of the adapter, so that a training that went otherwise would be seen in all that follows it.
    """

    def __init__(self, workdir: Path):
        self.workdir = workdir

    def sample(
        self,
        generator: Generator,
        prompts: Sequence[Sequence[Sequence[int]]],
        task_ids: Sequence[Sequence[str]],
        address: Address,
        sampling: SamplingConfig,
        rows: int,
        progress: Progress,
    ) -> list[list[list[Sample]]]:
        keys = address.keys(generator.trajectories)
        together = zip(adapters_of(generator), prompts, task_ids, keys, strict=True)
        return [
            self._sample(generator.model, adapter, own, ids, key, sampling, progress)
            for adapter, own, ids, key in together
        ]

    def _sample(
        self,
        model: Model,
        adapter: Adapter | None,
        prompts: Sequence[Sequence[int]],
        task_ids: Sequence[str],
        key: jax.Array,
        config: SamplingConfig,
        progress: Progress,
    ) -> list[list[Sample]]:
        files = sorted(self.workdir.rglob("stages/*/tasks*.jsonl"))
        programs = {task.id: task.program for file in files for task in read_tasks(file)}
        place = np.asarray(jax.random.key_data(key)).tobytes() + bytes_of(adapter)
        result = []
        for task_id in task_ids:
            digest = hashlib.blake2b(place + task_id.encode(), digest_size=8).digest()
            rng = np.random.default_rng(int.from_bytes(digest, "little"))
            texts = (programs[task_id], 'Const("a")', "Upper(x)", "no program")
            drawn = rng.choice(len(texts), config.n, p=(0.4, 0.2, 0.2, 0.2))
            ids = [np.array(model.tokenizer.encode(texts[choice]), np.int32) for choice in drawn]
            result.append([Sample(answer, True) for answer in ids])
            progress.update(config.n)
        return result


class Untrained(StandIn):
    """Trainings are left out and critics are indifferent, too; what runs in processes runs in threads."""

    def finetune(
        self,
        generator: Generator,
        pools: Sequence[Sequence[TrainingExample]],
        training: TrainingConfig,
        address: Address,
        directory: Path,
        metadata: dict[str, Any],
    ) -> list[dict[str, int]]:
        assert generator.adapters is not None
        return leave_trained(generator.adapters, pools, training.updates, address, directory, metadata)

    def critic_scores(
        self, critics: Generator, domain: Domain, tasks: Any, samples: Sequence[SampleSet], split: Any
    ) -> list[np.ndarray]:
        return [np.where(own.fits, 0.0, np.nan) for own in samples]

    def processes(self) -> Executor:
        return ThreadPoolExecutor()


def digests_of(workdir: Path) -> dict[str, str]:
    """Finished stage -> its digest, but the report's."""
    files = (workdir / "stages").glob("*/stage.json")
    found = {path.parent.name: json.loads(path.read_text())["digest"] for path in files}
    return {name: digest for name, digest in found.items() if name != "report"}


def adapters_of(generator: Generator) -> list[Adapter | None]:
    """That of each trajectory."""
    return [None] if generator.adapters is None else list(unstack(generator.adapters))


def bytes_of(adapter: Adapter | None) -> bytes:
    """Every bit of its weights."""
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(adapter))


def leave_trained(
    adapters: Adapter,
    pools: Sequence[Sequence[TrainingExample]],
    updates: int,
    address: Address,
    directory: Path,
    metadata: dict[str, Any],
) -> list[dict[str, int]]:
    """Leaves these adapters as `finetune` leaves what it has trained; returns what it returns."""
    addresses = [list(address.parts(trajectory)) for trajectory in range(len(pools))]
    metadata = metadata | {"scale": adapters.scale, "addresses": addresses}
    checkpoints.save(directory / "adapter", updates, (adapters, {}), metadata)
    with Metrics(directory / "metrics") as metrics:
        metrics.write(1, loss=1.0)
    return [{"kept": len(pool), "kept_tasks": len(pool), "updates": updates} for pool in pools]
