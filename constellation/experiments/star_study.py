"""The STaR study as a graph of stages: warm start, rounds, critic, evaluation, report.

tasks -> gen_v0 (supervised warm start) -> v1 -> v2 ... (own generalising programs)
                    |                        |
                 critic                 samples of theta0, gen_v0 and every round on every bank -> report
"""

from __future__ import annotations

import functools
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation import keys
from constellation.conductor import Conductor, Stage, digest, provenance
from constellation.critic import critic_examples, critic_scores
from constellation.evaluation.report import write_report
from constellation.evaluation.study import AnalysisConfig, SetKey, StageSummary, StudyResults, TaskInfo
from constellation.experiments.star_config import BASE, CRITIC, START, check
from constellation.generator import sample
from constellation.model.lora import Adapter, init_adapter
from constellation.model.model import Model, check_model, load_model
from constellation.progress import Progress, read_metrics
from constellation.samples import SampleSet, collect
from constellation.sampling import SamplingConfig
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import finetune, load_adapter
from constellation.selftraining.star import star_examples
from constellation.selftraining.warm_start import warm_start_examples
from constellation.tasks import trapdoor
from constellation.tasks.task import Split, Task, read_tasks, split, write_tasks
from constellation.verifier import Verdict

TASKS, SAMPLES, SCORES, SUMMARY = "tasks.jsonl", "samples.npz", "scores.npy", "summary.json"
SKELETONS = "training_skeletons.txt"
BANKS = ("easy", "hard", "withheld")


def run(config: ConfigDict, workdir: str) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded (both found before the
            workdir is touched), or a workdir of another study.
    """
    check(config)
    model = check_model(config.model.dir, config.model.quantization, config.model.dtype)
    with Conductor(workdir) as conductor:
        return StarStudy(config, conductor, model).report()


class StarStudy:
    """The stages, each a method that returns it finished; a stage asks for its inputs itself."""

    def __init__(self, config: ConfigDict, conductor: Conductor, model_hash: str):
        self.config, self.conductor, self.model_hash = config, conductor, model_hash

    @functools.cached_property
    def model(self) -> Model:
        """The frozen base, loaded when the first stage needs it."""
        return load_model(self.config.model.dir, self.config.model.quantization, self.config.model.dtype)

    # Tasks

    def bank(self, name: str) -> Stage:
        """An evaluation bank."""
        tasks = self.config.tasks
        return self.conductor.stage(
            f"bank_{name}",
            fields={"tasks": {"seed": tasks.seed, "bank_size": tasks.bank_size}},
            version=1,
            run=lambda path: _write_tasks(path, trapdoor.bank_stream(name, tasks.seed), tasks.bank_size),
        )

    def training_tasks(self, name: str, role: str, max_atoms: int, batch: int = 0) -> Stage:
        """Fresh tasks for the training stage `name`; `batch` numbers the rounds, which draw from one role."""
        seed, count = self.config.tasks.seed, self.config[role].tasks
        return self.conductor.stage(
            f"tasks_{name}",
            fields={"tasks.seed": seed, f"{role}.tasks": count, f"{role}.max_atoms": max_atoms},
            version=1,
            run=lambda path: _write_tasks(
                path, trapdoor.training_stream(role, max_atoms, seed, batch), count
            ),
        )

    # Generators

    def warm_start(self) -> Stage:
        """gen_v0: the base's first adapter, supervised on secret programs of the warm-start role."""
        section = self.config.warm_start
        tasks = self.training_tasks(START, "warm_start", section.max_atoms)

        def train(path: Path) -> None:
            pool = warm_start_examples(self.model, read_tasks(tasks.path / TASKS), self._splits)
            self._train(path, START, None, pool, section.passes * section.tasks)

        return self.conductor.stage(
            START, fields=self._training_fields({"warm_start": section}), inputs=[tasks], version=1, run=train
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
        fields = {field: section[field] for field in ("restart", "keep", "passes", "tasks")}

        def train(path: Path) -> None:
            drawn = SampleSet.load(samples.path / SAMPLES)
            pool = star_examples(
                self.model, read_tasks(tasks.path / TASKS), drawn, self._splits, section.keep
            )
            self._train(path, name, start, pool, section.passes * section.tasks)

        return self.conductor.stage(
            name,
            fields=self._training_fields({"star": fields}),
            inputs=[tasks, samples, *([start] if start else [])],
            version=1,
            run=train,
        )

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

    def _round_atoms(self) -> list[int]:
        """The most atoms a task has, of the rounds and of the arm if there is one."""
        star = self.config.star
        return [star.max_atoms, *([star.arm_max_atoms] if self.arm() else [])]

    # Critic

    def critic_tasks(self) -> Stage:
        """The critic's tasks."""
        return self.training_tasks("critic", "critic", self.config.critic.max_atoms)

    def critic_samples(self) -> Stage:
        """gen_v0's candidates for the critic's tasks."""
        return self.samples(
            "critic_samples", self.critic_tasks(), self.warm_start(), "critic.samples", "critic", START
        )

    def critic(self) -> Stage:
        """The second adapter: does this candidate generalise?"""
        section = self.config.critic
        tasks, samples = self.critic_tasks(), self.critic_samples()

        def train(path: Path) -> None:
            drawn = SampleSet.load(samples.path / SAMPLES)
            pool = critic_examples(self.model, read_tasks(tasks.path / TASKS), drawn, self._splits)
            self._train(path, CRITIC, None, pool, section.passes * section.tasks)

        fields = {"passes": section.passes, "tasks": section.tasks}
        return self.conductor.stage(
            "critic",
            fields=self._training_fields({"critic": fields}),
            inputs=[tasks, samples],
            version=1,
            run=train,
        )

    def critic_scores(self, bank: str, name: str, split_seed: int, samples: Stage) -> Stage:
        """The critic's score of every surviving candidate of a sample set."""
        critic, tasks = self.critic(), self.bank(bank)

        def score(path: Path) -> None:
            scores = critic_scores(
                self.model,
                self.adapter(critic),
                read_tasks(tasks.path / TASKS),
                SampleSet.load(samples.path / SAMPLES),
                lambda task: split(task, split_seed, self.config.tasks.visible),
            )
            np.save(path / SCORES, scores)

        return self.conductor.stage(
            f"scores_{name}_{bank}_{split_seed}",
            fields={"model": self._model_fields()},
            inputs=[critic, tasks, samples],
            version=1,
            run=score,
        )

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
    ) -> Stage:
        """Judged samples of tasks; the stage's fields are everything that changes them.

        Args:
            stage_name: of the stage.
            tasks: the stage that holds them.
            generator: the stage whose adapter answers; None for the base.
            count: the config field that says how many samples a task.
            purpose, arm: of the draws' address.
            split_seed: instead of the config's.
        """
        config = self.config
        split_seed = config.tasks.split_seed if split_seed is None else split_seed
        section, name = count.split(".")
        sampling = SamplingConfig(n=config[section][name], **config.sampling)
        fields = {
            "seed": config.seed,
            "model": self._model_fields(),
            "domain": trapdoor.VERSION,
            "tasks": {"visible": config.tasks.visible, "split_seed": split_seed},
            count: sampling.n,
            "sampling": config.sampling.to_dict(),
            "purpose": purpose,
            "arm": arm,
            "replicate": 0,
        }

        def run(path: Path) -> None:
            drawn = draw_samples(
                self.model,
                self.adapter(generator),
                read_tasks(tasks.path / TASKS),
                split_seed,
                config.tasks.visible,
                sampling,
                keys.fold(config.seed, f"{purpose}, split {split_seed}", arm, 0),
                stage_name,
                fields | {"tasks_digest": tasks.digest, "adapter": generator.digest if generator else None},
            )
            drawn.save(path / SAMPLES)

        inputs = [tasks, *([generator] if generator else [])]
        return self.conductor.stage(stage_name, fields=fields, inputs=inputs, version=1, run=run)

    def report(self) -> Path:
        """Everything, and at its end the report; returns the path of report.html in the workdir."""
        results, inputs = self.results()

        def write(path: Path) -> None:
            write_report(results, path)

        stage = self.conductor.stage(
            "report",
            fields={
                "config": self.config,
                "model": self._model_fields(),
                SKELETONS: digest(self._pretraining_skeletons),
            },
            inputs=inputs,
            version=1,
            run=write,
            derived=True,
        )
        for file in stage.path.iterdir():
            if file.suffix in (".html", ".png") or file.name == "findings.json":
                shutil.copyfile(file, self.conductor.workdir / file.name)
        return self.conductor.workdir / "report.html"

    def results(self) -> tuple[StudyResults, list[Stage]]:
        """What the evaluation reads, from stored stages alone, and the stages themselves."""
        config = self.config
        evaluation, primary = config.evaluation, config.tasks.split_seed
        inputs: list[Stage] = []
        samples: dict[SetKey, SampleSet] = {}
        scores: dict[SetKey, Any] = {}

        def keep(bank: str, name: str, split_seed: int, stage: Stage, score: bool) -> None:
            key = SetKey(bank, name, split_seed)
            samples[key] = SampleSet.load(stage.path / SAMPLES)
            inputs.append(stage)
            if score:
                scored = self.critic_scores(bank, name, split_seed, stage)
                scores[key] = np.load(scored.path / SCORES)
                inputs.append(scored)

        models = self.models()
        for name, generator in models.items():
            for bank in BANKS:
                trained_here = name not in (BASE, *self.arm()) and bank != "withheld"
                keep(bank, name, primary, self.bank_samples(bank, name, generator, primary), trained_here)
        for seed in evaluation.selection_split_seeds:
            if seed != primary:
                count = "evaluation.selection_samples"
                stage = self.bank_samples("hard", START, models[START], seed, count)
                keep("hard", START, seed, stage, score=True)
        summaries = self._summaries()
        return StudyResults(
            base=BASE,
            start=START,
            rounds=tuple(name for name in models if name not in (BASE, START, *self.arm())),
            tasks={bank: self._task_infos(bank) for bank in BANKS},
            samples=samples,
            critic_scores=scores,
            selection_model=START,
            primary_split=primary,
            arms=tuple(self.arm()),
            stages=summaries,
            roles=self._role_counts(),
            config=config.to_dict(),
            provenance=provenance() | {"model": self.model_hash},
            analysis=AnalysisConfig(
                seed=evaluation.seed,
                small_k=evaluation.small_k,
                large_k=evaluation.large_k,
                max_k=evaluation.large_k,
                resamples=evaluation.resamples,
                margin=evaluation.margin,
            ),
        ), inputs

    # Parts of the stages

    def adapter(self, stage: Stage | None) -> Adapter | None:
        """A stage's trained adapter; None for the base."""
        return None if stage is None else load_adapter(stage.path)[0]

    def _splits(self, task: Task) -> Split:
        return split(task, self.config.tasks.split_seed, self.config.tasks.visible)

    def _model_fields(self) -> dict[str, Any]:
        return {"hash": self.model_hash}  # covers quantisation and dtype; the directory may move

    def _training_fields(self, section: dict[str, Any]) -> dict[str, Any]:
        config = self.config
        return {
            "seed": config.seed,
            "model": self._model_fields(),
            "domain": trapdoor.VERSION,
            "tasks": {"visible": config.tasks.visible, "split_seed": config.tasks.split_seed},
            "lora": config.lora,
            # how often a checkpoint is written changes no result
            "training": {
                name: config.training[name] for name in config.training if name != "checkpoint_every"
            },
            **section,
        }

    def _train(
        self, path: Path, arm: str, start: Stage | None, pool: Sequence[TrainingExample], visits: int
    ) -> None:
        """Fine-tunes an adapter for visits / batch_size updates, fixed by the config and not by the pool."""
        config = self.config
        if start is None:
            key = keys.fold(config.seed, "adapter", arm, 0)
            initial = init_adapter(self.model.config, key, config.lora.rank, config.lora.alpha)
        else:
            initial, _ = load_adapter(start.path)
        metadata = {
            "name": arm,
            "model": {"dir": str(config.model.dir), "hash": self.model_hash},
            "config": config.to_dict(),
        }
        trained = finetune(
            self.model,
            initial,
            pool,
            -(-visits // config.training.batch_size),
            config.training,
            (config.seed, "batches", arm, 0),
            path,
            metadata,
        )
        (path / SUMMARY).write_text(json.dumps(trained) + "\n")

    def _summaries(self) -> list[StageSummary]:
        """The training stages in figures, in order."""
        star = self.config.star
        summaries = [_summary(START, "warm_start", self.config.warm_start.tasks, self.warm_start())]
        for max_atoms in self._round_atoms():
            for number in range(1, star.rounds + 1):
                name, stage = self.round_name(number, max_atoms), self.round(number, max_atoms)
                summaries.append(
                    _summary(name, "star", star.tasks, stage, self.round_samples(number, max_atoms))
                )
        critic = _summary(CRITIC, "critic", self.config.critic.tasks, self.critic(), self.critic_samples())
        return [*summaries, critic]

    def _task_infos(self, bank: str) -> list[TaskInfo]:
        infos = []
        for task in read_tasks(self.bank(bank).path / TASKS):
            visible, held_out = self._splits(task)
            infos.append(
                TaskInfo(
                    id=task.id,
                    atoms=task.atoms,
                    structures=task.structures,
                    skeleton_seen=task.skeleton in self._training_skeletons,
                    program=task.program,
                    visible=visible,
                    held_out=held_out,
                )
            )
        return infos

    @functools.cached_property
    def _pretraining_skeletons(self) -> list[str]:
        """Skeletons of the pretraining tasks, one a line where the model's directory lists them."""
        listed = Path(self.config.model.dir) / SKELETONS
        return listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []

    @functools.cached_property
    def _training_skeletons(self) -> frozenset[str]:
        """Skeletons of every training task, of pretraining and of the study."""
        drawn = [task.skeleton for stage in self._task_stages() for task in read_tasks(stage.path / TASKS)]
        return frozenset([*self._pretraining_skeletons, *drawn])

    def _task_stages(self) -> list[Stage]:
        """Every stage of training tasks."""
        star, warm_start = self.config.star, self.config.warm_start
        rounds = [
            self.round_tasks(number, max_atoms)
            for max_atoms in self._round_atoms()
            for number in range(1, star.rounds + 1)
        ]
        first = self.training_tasks(START, "warm_start", warm_start.max_atoms)
        return [first, *rounds, self.critic_tasks()]

    def _role_counts(self) -> dict[str, int]:
        """Role -> tasks drawn, counted from the tasks themselves."""
        stages = [*self._task_stages(), *map(self.bank, BANKS)]
        counts = Counter(task.role for stage in stages for task in read_tasks(stage.path / TASKS))
        return dict(sorted(counts.items()))


def _write_tasks(path: Path, stream: Iterator[Task], count: int) -> None:
    """The first tasks of a stream, as JSON lines."""
    with Progress(path.name.removesuffix(".partial"), count, "tasks") as progress:

        def counted() -> Iterator[Task]:
            for task in itertools.islice(stream, count):
                progress.update()
                yield task

        write_tasks(path / TASKS, counted())


def draw_samples(
    model: Model,
    adapter: Adapter | None,
    tasks: Sequence[Task],
    split_seed: int,
    visible: int,
    sampling: SamplingConfig,
    key: jax.Array,
    label: str,
    meta: dict[str, Any],
) -> SampleSet:
    """n samples a task, judged by the verifier.

    Args:
        key: folded to (seed, purpose, arm, replicate).
        label: of the progress line.
        meta: what identifies the samples.
    """
    splits = [split(task, split_seed, visible) for task in tasks]
    prompts = [model.tokenizer.chat(trapdoor.messages(of)) for of in splits]
    with Progress(label, len(tasks) * sampling.n, "samples") as progress:
        drawn = sample(model, adapter, prompts, [task.id for task in tasks], key, sampling, progress=progress)
    with Progress(f"{label}, verifier", len(tasks), "tasks") as progress:

        def judged(task: int, text: str) -> Verdict:
            progress.update(task + 1 - progress.done)
            return trapdoor.judge_answer(tasks[task], splits[task], text)

        samples = collect(
            [task.id for task in tasks],
            [[answer.ids for answer in answers] for answers in drawn],
            [[answer.finished for answer in answers] for answers in drawn],
            [[model.tokenizer.decode(answer.ids) for answer in answers] for answers in drawn],
            judged,
            meta,
        )
        progress.update(len(tasks) - progress.done)
    return samples


def _summary(name: str, role: str, tasks: int, stage: Stage, pool: Stage | None = None) -> StageSummary:
    trained = json.loads((stage.path / SUMMARY).read_text())
    samples = SampleSet.load(pool.path / SAMPLES) if pool else None
    return StageSummary(
        name=name,
        role=role,
        tasks=tasks,
        samples=samples.program.size if samples else None,
        losses=[row["loss"] for row in read_metrics(stage.path / "metrics")],
        pool=samples if role == "star" else None,
        **trained,
    )
