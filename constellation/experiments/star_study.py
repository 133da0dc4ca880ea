"""The STaR study as a graph of stages: warm start, rounds, critic, evaluation, report.

    tasks -> gen_v0 (supervised warm start) -> v1 -> v2 ... (own generalising programs)
                        |                        |
                     critic                 samples of theta0, gen_v0 and every round on every bank -> report
"""

from __future__ import annotations

import functools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation import keys
from constellation.conductor import Conductor, Stage, provenance
from constellation.critic import critic_examples, critic_scores
from constellation.errors import UserError
from constellation.evaluation.report import write_report
from constellation.evaluation.study import AnalysisConfig, SetKey, StageSummary, StudyResults, TaskInfo
from constellation.generator import sample
from constellation.model.lora import Adapter, init_adapter
from constellation.model.model import Model, load_model, model_hash
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

TASKS, SAMPLES, SUMMARY, SKELETONS = "tasks.jsonl", "samples.npz", "summary.json", "training_skeletons.txt"
BANKS = ("easy", "hard", "withheld")
BASE, START = "theta0", "gen_v0"
RESTARTS = (BASE, START, "continue")


def run(config: ConfigDict, workdir: str) -> Path:
    """Runs, or continues, the whole study; returns the path of the report.

    Raises:
        UserError: a config value that is not allowed, a model that cannot be loaded, or a workdir of another study.
    """
    with Conductor(workdir) as conductor:
        return StarStudy(config, conductor).report()


class StarStudy:
    """The stages, each a method that returns it finished; a stage asks for its inputs itself."""

    def __init__(self, config: ConfigDict, conductor: Conductor):
        if config.star.restart not in RESTARTS:
            raise UserError(f"config.star.restart = {config.star.restart!r}: use one of {', '.join(RESTARTS)}")
        self.config, self.conductor = config, conductor
        self.model_hash = model_hash(config.model.dir, config.model.quantization, config.model.dtype)

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
            run=lambda path: write_tasks(
                path / "tasks.jsonl", trapdoor.make_bank(name, tasks.bank_size, tasks.seed)
            ),
        )

    def training_tasks(self, role: str, section: ConfigDict, max_atoms: int, batch: int = 0) -> Stage:
        """Fresh tasks of a training role; `batch` numbers the rounds that draw from the same role."""
        seed, count = self.config.tasks.seed, section.tasks
        return self.conductor.stage(
            f"tasks_{role}_{max_atoms}_atoms" + (f"_{batch}" if batch else ""),
            fields={"tasks.seed": seed, f"{role}.tasks": count},
            version=1,
            run=lambda path: write_tasks(
                path / TASKS, trapdoor.training_tasks(role, count, max_atoms, seed, batch)
            ),
        )

    # Generators

    def warm_start(self) -> Stage:
        """gen_v0: the base's first adapter, supervised on secret programs of the warm-start role."""
        section = self.config.warm_start
        tasks = self.training_tasks("warm_start", section, section.max_atoms)

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
        section = self.config.star
        before = self.round(number - 1, max_atoms)
        samples = self.round_samples(number, max_atoms)
        tasks = self.training_tasks("star", section, max_atoms, number)
        start = {BASE: None, START: self.warm_start(), "continue": before}[section.restart]
        fields = {name: section[name] for name in ("restart", "keep", "passes", "tasks")}

        def train(path: Path) -> None:
            pool = star_examples(
                self.model, read_tasks(tasks.path / TASKS), SampleSet.load(samples.path / SAMPLES), self._splits, section.keep
            )
            self._train(path, samples.name, start, pool, section.passes * section.tasks)

        return self.conductor.stage(
            self.round_name(number, max_atoms),
            fields=self._training_fields({"star": fields}),
            inputs=[tasks, samples, *([start] if start else [])],
            version=1,
            run=train,
        )

    def round_samples(self, number: int, max_atoms: int) -> Stage:
        """What the last round's generator answers to a round's fresh tasks."""
        name = self.round_name(number, max_atoms)
        tasks = self.training_tasks("star", self.config.star, max_atoms, number)
        return self.samples(
            f"{name}_samples", tasks, self.round(number - 1, max_atoms), self.config.star.samples, "star round", name
        )

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
        if star.arm_max_atoms in (0, star.max_atoms):
            return {}
        return {self.round_name(star.rounds, star.arm_max_atoms): self.round(star.rounds, star.arm_max_atoms)}

    # Critic

    def critic_samples(self) -> Stage:
        """gen_v0's candidates for the critic's tasks."""
        section = self.config.critic
        tasks = self.training_tasks("critic", section, section.max_atoms)
        return self.samples("critic_samples", tasks, self.warm_start(), section.samples, "critic", START)

    def critic(self) -> Stage:
        """The second adapter: does this candidate generalise?"""
        section = self.config.critic
        tasks = self.training_tasks("critic", section, section.max_atoms)
        samples = self.critic_samples()

        def train(path: Path) -> None:
            pool = critic_examples(
                self.model, read_tasks(tasks.path / TASKS), SampleSet.load(samples.path / SAMPLES), self._splits
            )
            self._train(path, "critic", None, pool, section.passes * section.tasks)

        fields = {"passes": section.passes, "tasks": section.tasks}
        return self.conductor.stage(
            "critic", fields=self._training_fields({"critic": fields}), inputs=[tasks, samples], version=1, run=train
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
            np.save(path / "scores.npy", scores)

        return self.conductor.stage(
            f"scores_{name}_{bank}_{split_seed}",
            fields={"model": self._model_fields()},
            inputs=[critic, tasks, samples],
            version=1,
            run=score,
        )

    # Evaluation

    def bank_samples(self, bank: str, name: str, generator: Stage | None, split_seed: int, n: int) -> Stage:
        """n samples a task of a bank under a split seed."""
        return self.samples(
            f"samples_{name}_{bank}_{split_seed}", self.bank(bank), generator, n, "evaluation", name, split_seed
        )

    def samples(
        self,
        stage_name: str,
        tasks: Stage,
        generator: Stage | None,
        n: int,
        purpose: str,
        arm: str,
        split_seed: int | None = None,
    ) -> Stage:
        """n judged samples a task; the stage's fields are everything that changes them."""
        config = self.config
        split_seed = config.tasks.split_seed if split_seed is None else split_seed
        sampling = SamplingConfig(n=n, **config.sampling)
        fields = {
            "seed": config.seed,
            "model": self._model_fields(),
            "domain": trapdoor.VERSION,
            "tasks": {"visible": config.tasks.visible, "split_seed": split_seed},
            "sampling": {"n": n, **config.sampling},
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
            fields={"evaluation": self.config.evaluation, "config": self.config},
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

        def sampled(bank: str, name: str, generator: Stage | None, split_seed: int, n: int, score: bool) -> None:
            stage = self.bank_samples(bank, name, generator, split_seed, n)
            key = SetKey(bank, name, split_seed)
            samples[key] = SampleSet.load(stage.path / SAMPLES)
            inputs.append(stage)
            if score:
                scored = self.critic_scores(bank, name, split_seed, stage)
                scores[key] = np.load(scored.path / "scores.npy")
                inputs.append(scored)

        models = self.models()
        for name, generator in models.items():
            for bank in BANKS:
                trained_here = name not in (BASE, *self.arm()) and bank != "withheld"
                sampled(bank, name, generator, primary, evaluation.samples, score=trained_here)
        for seed in evaluation.selection_split_seeds:
            if seed != primary:
                sampled("hard", START, models[START], seed, evaluation.selection_samples, score=True)
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
        return None if stage is None else load_adapter(self.model, stage.path)[0]

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
            "training": config.training,
            **section,
        }

    def _train(self, path: Path, arm: str, start: Stage | None, pool: Sequence[TrainingExample], visits: int) -> None:
        """Fine-tunes an adapter for visits / batch_size updates; `visits` is fixed by the config, not by the pool."""
        config = self.config
        if start is None:
            key = keys.fold(config.seed, "adapter", arm, 0)
            initial = init_adapter(self.model.config, key, config.lora.rank, config.lora.alpha)
        else:
            initial = self.adapter(start)
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
        arms = dict.fromkeys([star.max_atoms, *([star.arm_max_atoms] if self.arm() else [])])
        for max_atoms in arms:
            for number in range(1, star.rounds + 1):
                name, stage = self.round_name(number, max_atoms), self.round(number, max_atoms)
                summaries.append(_summary(name, "star", star.tasks, stage, self.round_samples(number, max_atoms)))
        critic = _summary("critic", "critic", self.config.critic.tasks, self.critic(), self.critic_samples())
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
    def _training_skeletons(self) -> frozenset[str]:
        """Skeletons of every training task: of pretraining, as the model's directory lists them, and of the study."""
        listed = Path(self.config.model.dir) / SKELETONS
        pretraining = listed.read_text(encoding="utf-8").split() if listed.exists() else []
        drawn = [task.skeleton for stage in self._task_stages() for task in read_tasks(stage.path / TASKS)]
        return frozenset([*pretraining, *drawn])

    def _task_stages(self) -> list[Stage]:
        """Every stage of training tasks."""
        config, star = self.config, self.config.star
        rounds = [
            self.training_tasks("star", star, max_atoms, number)
            for max_atoms in dict.fromkeys([star.max_atoms, *([star.arm_max_atoms] if self.arm() else [])])
            for number in range(1, star.rounds + 1)
        ]
        return [
            self.training_tasks("warm_start", config.warm_start, config.warm_start.max_atoms),
            *rounds,
            self.training_tasks("critic", config.critic, config.critic.max_atoms),
        ]

    def _role_counts(self) -> dict[str, int]:
        """Role -> tasks drawn, counted from the tasks themselves."""
        stages = [*self._task_stages(), *map(self.bank, BANKS)]
        counts = Counter(task.role for stage in stages for task in read_tasks(stage.path / TASKS))
        return dict(sorted(counts.items()))


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
            return trapdoor.judge_answer(tasks[task], splits[task], text)

        return collect(
            [task.id for task in tasks],
            [[answer.ids for answer in answers] for answers in drawn],
            [[answer.finished for answer in answers] for answers in drawn],
            [[model.tokenizer.decode(answer.ids) for answer in answers] for answers in drawn],
            judged,
            meta,
        )


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
