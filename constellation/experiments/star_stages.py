"""The stages of the STaR study: tasks, warm start, rounds and samples; the critic has `critic_stages`.

tasks -> gen_v0 (supervised warm start) -> v1 -> v2 ... (own generalising programs)
                    |                        |
                 critic                 samples of theta0, gen_v0 and every round on every bank

Everything that is trained has one replicate a trajectory, with its own tasks and draws; a stage holds those
of all trajectories, its files numbered by them.

What computes is imported by the stage that runs: programs that only read finished stages need no JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from constellation.conductor import Conductor, Stage
from constellation.domains.task import Split, Task, read_tasks, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.stage_files import (
    SAMPLES,
    SUMMARY,
    TASKS,
    first_adapters,
    numbered,
    samples_of,
    write_tasks,
    write_training_tasks,
)
from constellation.experiments.star_config import BASE, START, load_base, memory_of
from constellation.runtime.keys import Address

if TYPE_CHECKING:
    from constellation.memory import Memory
    from constellation.model.lora import Adapter
    from constellation.model.model import Model
    from constellation.selftraining.batches import TrainingExample


class StarStages:
    """The stages, each a method that returns it finished; a stage asks for its inputs itself."""

    def __init__(self, config: ConfigDict, conductor: Conductor, model_hash: str, other_hash: str = ""):
        self.config, self.conductor, self.model_hash = config, conductor, model_hash
        self.other_hash = other_hash  # of the base in critic.model_dir
        self.trajectories: int = config.trajectories

    @functools.cached_property
    def model(self) -> Model:
        """The frozen base, loaded when the first stage needs it."""
        return load_base(self.config)

    def release_model(self) -> None:
        """Frees the base's weights; the next stage that needs them loads them again."""
        self.__dict__.pop("model", None)

    @functools.cached_property
    def memory(self) -> Memory:
        """What fits the devices."""
        import jax

        return memory_of(self.config, self.model.config, jax.default_backend())

    # Tasks

    def bank(self, name: str) -> Stage:
        """An evaluation bank."""
        tasks = self.config.tasks
        return self.conductor.stage(
            f"bank_{name}",
            fields={"tasks": {"seed": tasks.seed, "bank_size": tasks.bank_size}},
            version=2,
            run=lambda path: write_tasks(
                path / TASKS, trapdoor.bank(name, tasks.seed), tasks.bank_size, f"bank_{name}"
            ),
        )

    def training_tasks(self, name: str, role: str, max_atoms: int, batch: int = 0) -> Stage:
        """Fresh tasks for the training stage `name`; `batch` numbers the rounds, which draw from one role."""
        seed, count = self.config.tasks.seed, self.config[role].tasks
        fields = {"tasks.seed": seed, f"{role}.tasks": count, f"{role}.max_atoms": max_atoms}
        return self.conductor.stage(
            f"tasks_{name}",
            fields=fields | {"trajectories": self.trajectories},
            version=2,
            run=lambda path: write_training_tasks(
                path, self.trajectories, role, max_atoms, seed, batch, count
            ),
        )

    def tasks_of(self, stage: Stage, trajectories: int | None = None) -> list[list[Task]]:
        """A stage's tasks, of each trajectory or of the first ones; a bank's are the same for all."""
        each = range(self.trajectories if trajectories is None else trajectories)
        if (stage.path / TASKS).exists():
            return [read_tasks(stage.path / TASKS)] * len(each)
        return [read_tasks(stage.path / numbered(TASKS, r)) for r in each]

    # Generators

    def warm_start_tasks(self) -> Stage:
        """The warm start's tasks."""
        return self.training_tasks(START, "warm_start", self.config.warm_start.max_atoms)

    def warm_start(self) -> Stage:
        """gen_v0: the base's first adapter, supervised on secret programs of the warm-start role."""
        section, tasks = self.config.warm_start, self.warm_start_tasks()

        def train(path: Path) -> None:
            from constellation.selftraining.warm_start import warm_start_examples

            pools = [warm_start_examples(self.model, own, self.split) for own in self.tasks_of(tasks)]
            self.train(path, START, None, pools, section.passes * section.tasks)

        return self.conductor.stage(
            START, fields=self.training_fields({"warm_start": section}), inputs=[tasks], version=1, run=train
        )

    def round(self, number: int, max_atoms: int) -> Stage:
        """A STaR round (2203.14465, our reconstruction): fine-tune on the last generator's own programs.

        Round 0 is gen_v0. Every round has fresh tasks and trains on its own round's data only.
        """
        if number == 0:
            return self.warm_start()
        section, name = self.config.star, self.round_name(number, max_atoms)
        before = self.round(number - 1, max_atoms)
        samples = self.round_samples(number, max_atoms)
        tasks = self.round_tasks(number, max_atoms)
        start = {BASE: None, START: self.warm_start(), "continue": before}[section.restart]
        fields = {field: section[field] for field in ("restart", "keep", "passes", "tasks", "learning_rate")}

        def train(path: Path) -> None:
            from constellation.selftraining.star import star_examples

            pools = [
                star_examples(self.model, own, drawn, self.split, section.keep)
                for own, drawn in zip(self.tasks_of(tasks), samples_of(samples), strict=True)
            ]
            self.train(path, name, start, pools, section.passes * section.tasks, self.round_training())

        return self.conductor.stage(
            name,
            fields=self.training_fields({"star": fields}),
            inputs=[tasks, samples, *([start] if start else [])],
            version=1,
            run=train,
        )

    def round_training(self) -> ConfigDict:
        """The config's training section at the rounds' own learning rate."""
        return ConfigDict(self.config.training.to_dict() | {"learning_rate": self.config.star.learning_rate})

    def round_tasks(self, number: int, max_atoms: int) -> Stage:
        """A round's fresh tasks."""
        return self.training_tasks(self.round_name(number, max_atoms), "star", max_atoms, number)

    def round_samples(self, number: int, max_atoms: int) -> Stage:
        """What the last round's generator answers to a round's fresh tasks."""
        name, tasks = self.round_name(number, max_atoms), self.round_tasks(number, max_atoms)
        before = self.round(number - 1, max_atoms)
        return self.samples(f"{name}_samples", tasks, before, "star.samples", "star round", name)

    def round_name(self, number: int, max_atoms: int) -> str:
        """v1, v2, ...; those of the arm with other tasks say so."""
        arm = "" if max_atoms == self.config.star.max_atoms else f"_{max_atoms}_atoms"
        return f"v{number}{arm}" if number else START

    def models(self) -> dict[str, Stage | None]:
        """Every model that is evaluated, in order of training; the base has no adapter."""
        star = self.config.star
        stages = {BASE: None, START: self.warm_start()}
        for number in range(1, star.rounds + 1):
            stages[self.round_name(number, star.max_atoms)] = self.round(number, star.max_atoms)
        return stages | self.arm()

    def arm(self) -> dict[str, Stage | None]:
        """The last round of the arm self-trained on other tasks, if the config asks for it."""
        star = self.config.star
        if star.arm_max_atoms in (0, star.max_atoms) or not star.rounds:
            return {}
        return {self.round_name(star.rounds, star.arm_max_atoms): self.round(star.rounds, star.arm_max_atoms)}

    def trained_rounds(self) -> list[tuple[int, int]]:
        """(number, the most atoms its tasks have) of every round, the arm's after the others."""
        star = self.config.star
        atoms = [star.max_atoms, *([star.arm_max_atoms] if self.arm() else [])]
        return [(number, most) for most in atoms for number in range(1, star.rounds + 1)]

    # Evaluation

    def bank_samples(
        self,
        bank: str,
        name: str,
        generator: Stage | None,
        split_seed: int,
        count: str = "evaluation.samples",
    ) -> Stage:
        """Samples of a bank's tasks under a split seed."""
        stage_name = f"samples_{name}_{bank}_{split_seed}"
        return self.samples(stage_name, self.bank(bank), generator, count, "evaluation", name, split_seed)

    def samples(
        self,
        stage_name: str,
        tasks: Stage,
        generator: Stage | None,
        count: str,
        purpose: str,
        arm: str,
        split_seed: int | None = None,
        trajectories: int | None = None,
        temperature: float | None = None,
        visible: int | None = None,
    ) -> Stage:
        """Judged samples of tasks; the stage's fields are everything that changes them.

        Args:
            stage_name: of the stage.
            tasks: the stage that holds them.
            generator: the stage whose adapter answers; None for the base.
            count: the config field that says how many samples a task.
            purpose, arm: of the draws' address.
            split_seed, visible: instead of the config's.
            trajectories: only the first ones.
            temperature: instead of the config's.
        """
        config = self.config
        split_seed = config.tasks.split_seed if split_seed is None else split_seed
        visible = visible or config.tasks.visible
        section, name = count.split(".")
        n = config[section][name]
        sampling = config.sampling.to_dict()
        if temperature is not None:
            sampling["temperature"] = temperature
        fields = {
            "seed": config.seed,
            "model": self.model_fields(),
            "domain": trapdoor.version,
            "prompt": config.prompt.to_dict(),
            "tasks": {"visible": visible, "split_seed": split_seed},
            f"{section}.samples": n,
            "sampling": sampling,
            "purpose": purpose,
            "arm": arm,
            "trajectories": (trajectories or self.trajectories) if generator else 1,
        }

        def run(path: Path) -> None:
            from constellation.model.model import Generator
            from constellation.model.sampling import SamplingConfig
            from constellation.solve import draw_samples

            few = fields["trajectories"]
            digests = {"tasks_digest": tasks.digest, "adapter": generator.digest if generator else None}
            drawn = draw_samples(
                Generator(self.model, first_adapters(generator, few) if generator else None),
                self.tasks_of(tasks, few),
                lambda task: split(task, split_seed, visible),
                SamplingConfig(n=n, **sampling),
                Address(config.seed, f"{purpose}, split {split_seed}", arm),
                dataclasses.replace(self.memory, trajectories=few),
                stage_name,
                fields | digests,
            )
            for trajectory, own in enumerate(drawn):
                own.save(path / numbered(SAMPLES, trajectory))

        inputs = [tasks, *([generator] if generator else [])]
        return self.conductor.stage(stage_name, fields=fields, inputs=inputs, version=1, run=run)

    # Parts of the stages

    def split(self, task: Task) -> Split:
        """A task's visible and held-out examples, under the config's split seed."""
        return split(task, self.config.tasks.split_seed, self.config.tasks.visible)

    def model_fields(self) -> dict[str, Any]:
        """What a stage's result depends on of the base model."""
        return {"hash": self.model_hash}  # covers quantisation and dtype; the directory may move

    def training_fields(self, section: dict[str, Any]) -> dict[str, Any]:
        """What a training depends on; `section` is its own."""
        config = self.config
        return {
            "seed": config.seed,
            "model": self.model_fields(),
            "domain": trapdoor.version,
            "prompt": config.prompt.to_dict(),
            "tasks": {"visible": config.tasks.visible, "split_seed": config.tasks.split_seed},
            "trajectories": self.trajectories,
            "lora": config.lora,
            # neither how often a checkpoint is written nor what is recomputed changes a result
            "training": {
                name: config.training[name]
                for name in config.training
                if name not in ("checkpoint_every", "remat")
            },
            **section,
        }

    def train(
        self,
        path: Path,
        arm: str,
        start: Stage | None,
        pools: Sequence[Sequence[TrainingExample]],
        visits: int,
        training: ConfigDict | None = None,
        choices: Sequence[int] = (),
    ) -> None:
        """Fine-tunes adapters for visits / batch_size updates, fixed by the config and not by the pools.

        Args:
            path: of the stage.
            arm: its name, part of the draws' address.
            start: the stage whose adapters training starts from; None for fresh ones.
            pools: of all trajectories, or of the first ones.
            visits: examples that are visited, counting one again that recurs.
            training: instead of the config's section.
            choices: as for `cross_entropy`.
        """
        from constellation.model.model import Generator
        from constellation.selftraining.finetune import TrainingConfig, finetune

        config, training = self.config, training or self.config.training
        initial = first_adapters(start, len(pools)) if start else self._fresh(arm, len(pools))
        metadata = {
            "name": arm,
            "model": {"dir": str(config.model.dir), "hash": self.model_hash},
            "config": config.to_dict(),
        }
        whole = [example for pool in pools for example in pool]
        rows = self.memory.micro_batch(whole, training.batch_size, training.remat)
        trained = finetune(
            Generator(self.model, initial),
            pools,
            -(-visits // training.batch_size),
            TrainingConfig(**training, micro_batch=rows, choices=tuple(choices)),
            Address(config.seed, "batches", arm),
            path,
            metadata,
        )
        (path / SUMMARY).write_text(json.dumps(trained) + "\n")

    def _fresh(self, arm: str, trajectories: int) -> Adapter:
        from constellation.model.lora import init_adapter, stack

        lora, address = self.config.lora, Address(self.config.seed, "adapter", arm)
        keys = map(address.key, range(trajectories))
        return stack([init_adapter(self.model.config, key, lora.rank, lora.alpha) for key in keys])
