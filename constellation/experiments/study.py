"""A study: its config, models and conductor, and the kinds of stages that its graph is made of.

tasks -> samples (draws and verdicts) -> training -> samples ...

Everything that is trained has one replicate a trajectory, with its own tasks and draws; a stage holds those
of all trajectories, its files numbered by them. What computes is imported by the stage that runs: programs
that only read finished stages need no JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from constellation.conductor import Conductor, Stage
from constellation.domains.domain import Domain
from constellation.domains.task import Split, Splitter, Task, read_tasks, split
from constellation.experiments import files
from constellation.experiments.compute import Compute
from constellation.experiments.config import asks, base_directories, load_base, memory_beside
from constellation.experiments.files import SAMPLES, TASKS, VERDICTS, Fresh, numbered
from constellation.experiments.work import Judging, Sampling, Synthesis, Training
from constellation.runtime.files import link
from constellation.runtime.keys import Address

if TYPE_CHECKING:
    from constellation.memory import Memory
    from constellation.model.model import Generator, Model
    from constellation.selftraining.batches import TrainingExample

Pools = list[list["TrainingExample"]]  # the examples of each trajectory


class Base:
    """A frozen model, loaded when a stage first needs it."""

    def __init__(self, config: ConfigDict, directory: str, hash: str, domain: Domain):
        self.config, self.directory, self.hash, self.domain = config, directory, hash, domain
        self.beside: list[Base] = []  # those that are held at the same time

    @functools.cached_property
    def model(self) -> Model:
        """The model, with the domain's system message if the config has it described."""
        return load_base(self.config, self.domain, self.directory)

    @functools.cached_property
    def memory(self) -> Memory:
        """The cost model by which a stage chooses what fits the devices."""
        import jax

        from constellation.model.config import ModelConfig

        shapes = [ModelConfig.from_dir(base.directory) for base in self.beside]
        return memory_beside(self.config, [self.model.config, *shapes], jax.default_backend())

    def fields(self) -> dict[str, Any]:
        """What a stage's result depends on; it covers quantisation and dtype, and the directory may move."""
        return {"hash": self.hash}

    def release(self) -> None:
        """Frees the weights; the next stage that needs them loads them again."""
        self.__dict__.pop("model", None)


class Draw(NamedTuple):
    """How answers are drawn.

    Attributes:
        samples: the config field that says how many a task.
        purpose, arm: of the draws' address.
        split_seed, visible, temperature: instead of the config's.
        trajectories: only the first ones.
        matched: a stage that finds the temperature, and what reads it.
    """

    samples: str
    purpose: str
    arm: str
    split_seed: int | None = None
    visible: int | None = None
    temperature: float | None = None
    trajectories: int | None = None
    matched: tuple[Stage, Callable[[Stage], float]] | None = None


class Recipe(NamedTuple):
    """How an adapter is trained.

    Attributes:
        name: of the stage.
        fields: what the stage reads of its own config section.
        examples: the pools of all trajectories, or of the first ones.
        visits: examples that are visited, counting one again that recurs; fixed by the config.
        fewer: given the pools, how many are visited instead.
        start: the stage whose adapters training starts from; None for fresh ones.
        learning_rate: instead of the training section's.
        address: of the draws, if that is not the name: what is to begin alike and see batches in one order.
        is_critic: whether a target is yes or no, and nothing else.
        candidates: as `work.Training` has them.
        trajectories: only the first ones.
        version: of the stage.
    """

    name: str
    fields: dict[str, Any]
    examples: Callable[[], Pools]
    visits: int
    fewer: Callable[[Pools], int] | None = None
    start: Stage | None = None
    learning_rate: float | None = None
    address: str = ""
    is_critic: bool = False
    candidates: float = 0.0
    trajectories: int | None = None
    version: int = 1


class Study:
    """The kinds of stages, each a method that returns the finished stage.

    Attributes:
        config, conductor, domain: of the study.
        bases: every frozen model; of peers, each one's.
        base: the generator's.
        critic_base: another one, in critics.model_dir; None where there is none.
        compute: what stages compute with.
        drawn: name to every stage of tasks that was asked for, banks among them.
    """

    def __init__(
        self,
        config: ConfigDict,
        conductor: Conductor,
        domain: Domain,
        hashes: Sequence[str],
        compute: Compute | None = None,
    ):
        self.config, self.conductor, self.domain = config, conductor, domain
        self.compute = compute or Compute()
        directories = base_directories(config)
        named = dict(zip(directories, hashes, strict=False))
        loaded = {directory: Base(config, directory, hash, domain) for directory, hash in named.items()}
        self.bases = [loaded[directory] for directory in directories]
        if "peers" in config and not config.peers.one_at_a_time:
            for base in loaded.values():
                base.beside = [other for other in loaded.values() if other is not base]
        self.base = self.bases[0]
        self.critic_base = self.bases[1] if asks(config, "other_base") else None
        self.trajectories: int = config.trajectories
        self.drawn: dict[str, Stage] = {}

    def hold(self, base: Base) -> None:
        """Frees the other bases where the config says that one is to be held at a time."""
        if "peers" in self.config and self.config.peers.one_at_a_time:
            for other in self.bases:
                if other is not base:
                    other.release()

    def split(self, task: Task) -> Split:
        """A task's visible and held-out examples, under the config's split seed."""
        return self.splitting()(task)

    def split_fields(self, split_seed: int | None = None, visible: int | None = None) -> dict[str, Any]:
        """What `splitting` depends on, as stages state it."""
        tasks = self.config.tasks
        seed = tasks.split_seed if split_seed is None else split_seed
        return {"visible": visible or tasks.visible, "split_seed": seed}

    def splitting(self, split_seed: int | None = None, visible: int | None = None) -> Splitter:
        """How tasks are divided into visible and held-out examples; by default as the config says."""
        return functools.partial(split, **self.split_fields(split_seed, visible))

    # Tasks

    def bank(self, name: str) -> Stage:
        """The tasks of an evaluation or tuning bank."""
        stage, seed, size = f"bank_{name}", self.config.tasks.seed, self.config.tasks.bank_size

        def write(path: Path) -> None:
            files.write_tasks(path / TASKS, self.domain.bank(name, seed), size, stage)

        return self._tasks(stage, {"tasks": {"seed": seed, "bank_size": size}}, write, Synthesis(size))

    def training_tasks(self, name: str, role: str, max_atoms: int, batch: int = 0) -> Stage:
        """Fresh tasks for the training stage `name`; `batch` numbers the rounds, which draw from one role."""
        count = self.config[role].tasks
        fields = {f"{role}.tasks": count, f"{role}.max_atoms": max_atoms}
        return self.fresh_tasks(name, Fresh(role, count, max_atoms, batch), fields, self.trajectories)

    def fresh_tasks(self, name: str, fresh: Fresh, fields: dict[str, Any], trajectories: int) -> Stage:
        """Tasks of a role for each of the first trajectories; `fields` names what says how many and which."""
        seed = self.config.tasks.seed

        def write(path: Path) -> None:
            files.write_training_tasks(path, self.domain, fresh, seed, trajectories, self.compute.processes)

        fields = {"tasks.seed": seed, **fields, "trajectories": trajectories}
        return self._tasks(f"tasks_{name}", fields, write, Synthesis(fresh.tasks, trajectories))

    def _tasks(
        self, name: str, fields: dict[str, Any], run: Callable[[Path], None], work: Synthesis
    ) -> Stage:
        fields = fields | {"law": self.domain.law}
        stage = self.conductor.stage(name, fields=fields, version=2, run=run, work=work)
        self.drawn[name] = stage
        return stage

    def tasks_of(self, stage: Stage, trajectories: int | None = None) -> list[list[Task]]:
        """A stage's tasks, of each trajectory or of the first ones; a bank's are the same for all."""
        each = range(self.trajectories if trajectories is None else trajectories)
        if (stage.path / TASKS).exists():
            return [read_tasks(stage.path / TASKS)] * len(each)
        return [read_tasks(stage.path / numbered(TASKS, r)) for r in each]

    # Samples

    def samples(self, name: str, tasks: Stage, generator: Stage | None, draw: Draw) -> Stage:
        """Samples of tasks, drawn by one stage and judged by another; unjudged where the domain cannot judge.

        The fields are everything that changes the draws. The generator is the stage whose adapters answer,
        None for the base.
        """
        config = self.config
        section, field = draw.samples.split(".")
        n, sampling = config[section][field], config.sampling.to_dict()
        if draw.temperature is not None:
            sampling["temperature"] = draw.temperature
        if draw.matched:
            sampling["temperature"] = draw.matched[0].name
        divided = self.split_fields(draw.split_seed, draw.visible)
        trajectories = (draw.trajectories or self.trajectories) if generator else 1
        fields = self.model_fields(self.base) | {
            "tasks": divided,
            f"{section}.samples": n,
            "sampling": sampling,
            "purpose": draw.purpose,
            "arm": draw.arm,
            "trajectories": trajectories,
        }

        def run(path: Path) -> None:
            from constellation.model.sampling import SamplingConfig
            from constellation.solve import draw_samples

            digests = {"tasks_digest": tasks.digest, "adapter": generator.digest if generator else None}
            found = {"temperature": draw.matched[1](draw.matched[0])} if draw.matched else {}
            drawn = draw_samples(
                self.generator(generator, trajectories),
                self.domain,
                self.tasks_of(tasks, trajectories),
                self.splitting(**divided),
                SamplingConfig(n=n, **(sampling | found)),
                Address(config.seed, f"{draw.purpose}, split {divided['split_seed']}", draw.arm),
                dataclasses.replace(self.base.memory, trajectories=trajectories),
                name,
                self.compute.sample,
            )
            meta = fields | digests | {"sampling": sampling | found}
            for trajectory, own in enumerate(drawn):
                dataclasses.replace(own, meta=meta | own.meta).save(path / numbered(SAMPLES, trajectory))

        assert isinstance(tasks.work, Synthesis)
        read = [tasks, generator, draw.matched[0] if draw.matched else None]
        drawn = self.conductor.stage(
            f"draws_{name}",
            fields=fields,
            inputs=[stage for stage in read if stage],
            version=1,
            run=run,
            work=Sampling(tasks.work.tasks * trajectories, n),
        )
        return self.judged(name, tasks, drawn, divided) if self.domain.judge else drawn

    def judged(self, name: str, tasks: Stage, draws: Stage, divided: dict[str, Any]) -> Stage:
        """The drawn samples with the verifier's verdicts."""

        def run(path: Path) -> None:
            from constellation.verifier import judge_samples

            splitting, drawn = self.splitting(**divided), files.samples_of(draws)
            each = zip(self.tasks_of(tasks, len(drawn)), drawn, strict=True)
            for trajectory, (own, samples) in enumerate(each):
                judged = judge_samples(self.domain, own, splitting, samples, name).judged()
                judged.save(path / numbered(VERDICTS, trajectory))
                link(draws.path / numbered(SAMPLES, trajectory), path / numbered(SAMPLES, trajectory))

        assert isinstance(draws.work, Sampling)
        return self.conductor.stage(
            name,
            fields={"domain": self.domain.version, "tasks": divided},
            inputs=[tasks, draws],
            version=2,
            run=run,
            work=Judging(draws.work.tasks, draws.work.n),
        )

    def model_fields(self, base: Base) -> dict[str, Any]:
        """What every draw and every training of a model depends on."""
        return {
            "seed": self.config.seed,
            "model": base.fields(),
            "domain": self.domain.version,
            "prompt": self.config.prompt.to_dict(),
        }

    # Adapters

    def generator(self, trained: Stage | None, trajectories: int, base: Base | None = None) -> Generator:
        """A base with the adapters of a stage in its first trajectories, or with none."""
        from constellation.model.lora import first
        from constellation.model.model import Generator
        from constellation.selftraining.finetune import load_adapters

        adapters = first(load_adapters(trained.path)[0], trajectories) if trained else None
        return Generator((base or self.base).model, adapters)

    def untrained(self, name: str, trajectories: int, base: Base) -> Generator:
        """A base with a fresh adapter for each trajectory, which changes nothing yet."""
        from constellation.model.lora import init_adapter, stack
        from constellation.model.model import Generator

        config, fresh = self.config, Address(self.config.seed, "adapter", name)
        shape = config.lora.rank, config.lora.alpha
        initial = [init_adapter(base.model.config, fresh.key(r), *shape) for r in range(trajectories)]
        return Generator(base.model, stack(initial))

    def train(self, recipe: Recipe, inputs: Sequence[Stage], base: Base | None = None) -> Stage:
        """Adapters fine-tuned for visits / batch_size updates.

        Args:
            inputs: the stages that the recipe's examples come from.
            base: whose adapters they are; the generator's by default.
        """
        base, config = base or self.base, self.config
        trajectories = recipe.trajectories or self.trajectories
        start = [recipe.start] if recipe.start else []
        fields = self.model_fields(base) | {
            "tasks": self.split_fields(),
            "trajectories": trajectories,
            "lora": config.lora,
            # neither how often a checkpoint is written nor what is recomputed changes a result
            "training": {
                name: value
                for name, value in config.training.items()
                if name not in ("checkpoint_every", "remat")
            },
            **recipe.fields,
        }
        return self.conductor.stage(
            recipe.name,
            fields=fields,
            inputs=[*inputs, *start],
            version=recipe.version,
            run=functools.partial(self._train, recipe, base),
            work=Training(recipe.visits * trajectories, recipe.candidates),
        )

    def _train(self, recipe: Recipe, base: Base, path: Path) -> None:
        from constellation.critic import answer_ids
        from constellation.selftraining.finetune import TrainingConfig

        self.hold(base)
        config, model = self.config, base.model
        pools, address = recipe.examples(), recipe.address or recipe.name
        visits = recipe.fewer(pools) if recipe.fewer else recipe.visits
        if recipe.start:
            generator = self.generator(recipe.start, len(pools), base)
        else:
            generator = self.untrained(address, len(pools), base)
        settings = config.training.to_dict()
        if recipe.learning_rate is not None:
            settings["learning_rate"] = recipe.learning_rate
        whole = [example for pool in pools for example in pool]
        training = TrainingConfig(
            **settings,
            updates=-(-visits // settings["batch_size"]),
            micro_batch=base.memory.micro_batch(whole, settings["batch_size"], settings["remat"]),
            choices=tuple(answer_ids(model)) if recipe.is_critic else (),
        )
        trained = self.compute.finetune(
            generator,
            pools,
            training,
            Address(config.seed, "batches", address),
            path,
            {
                "name": recipe.name,
                "model": {"dir": str(base.directory), "hash": base.hash},
                "config": config.to_dict(),
            },
        )
        (path / files.SUMMARY).write_text(json.dumps(trained) + "\n")
