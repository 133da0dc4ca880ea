"""What a study takes: memory against the budget, the batch sizes that fit, and hours a stage.

The stages are those of the study's own graph, put together without running any; each states its work.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from constellation.conductor import PlannedStages, Stage
from constellation.domains.domain import Domain, load_domain
from constellation.domains.task import Task, split
from constellation.experiments.check import check
from constellation.experiments.config import load_base, memory_beside
from constellation.experiments.question import stages_in
from constellation.experiments.questions import graph
from constellation.experiments.selection import TUNING
from constellation.experiments.study import Study
from constellation.experiments.work import Sampling, Scoring, Training, Work
from constellation.generator import padded_prompt
from constellation.memory import GIB, Footprint, Memory
from constellation.model.config import ModelConfig
from constellation.model.lora import layer_weights
from constellation.model.model import Model
from constellation.model.prefix import shared_length
from constellation.model.sampling import SamplingConfig
from constellation.model.score import BATCHING, rows_a_batch
from constellation.runtime.errors import UserError
from constellation.selftraining.batches import TrainingExample, longest_row, without_prefix
from constellation.selftraining.star import generator_example

TASKS = 64  # whose prompts and programs stand for all
QUESTION = 10  # tokens that ask the critic about a candidate
STUDY = "models and banks"  # the part of the graph that no question adds


class Speed(NamedTuple):
    """Bytes and operations a second that a device really reaches."""

    bandwidth: float
    matmul: float


SPEEDS = {"cpu": Speed(20e9, 0.1e12), "gpu": Speed(500e9, 60e12)}  # typical, to weigh stages by


class Workload(NamedTuple):
    """Lengths, in tokens, of what a study's prompts and programs are like.

    prefix: shared by all prompts; prompt, answer: means of the rest and of the secret programs.
    """

    prompts: list[list[int]]
    pool: list[TrainingExample]
    prefix: int
    prompt: float
    answer: float


class Plan(NamedTuple):
    """A study that has not been run.

    Attributes:
        memory, workload: what its stages are costed by.
        rows: samples that are decoded at a time.
        footprints: those of sampling, training and scoring, by labels that state the batch.
        stages: part of the study -> the stages that it adds.
    """

    memory: Memory
    workload: Workload
    rows: int
    footprints: dict[str, Footprint]
    stages: dict[str, list[Stage]]

    def seconds(self, work: Work | None, config: ConfigDict, speed: Speed) -> float:
        """How long a device takes, from bytes and operations; what runs on the host comes on top."""
        load, slices = self.workload, config.mesh.data
        if isinstance(work, Sampling):
            return self._sampling_seconds(work, speed, config.sampling.int8_kv) / slices
        if isinstance(work, Training):
            prefixes = work.visits / config.training.batch_size * load.prefix
            tokens = work.visits * self.document(work) + prefixes
            # Forward, backward to the inputs alone (the weights are frozen), and forward again with remat.
            return (3 if config.training.remat else 2) * self._operations(tokens) / speed.matmul / slices
        if isinstance(work, Scoring):
            tokens = work.tasks * (load.prompt + work.candidates * (load.answer + QUESTION))
            return self._operations(tokens) / speed.matmul / slices
        return 0.0

    def document(self, work: Training) -> float:
        """Tokens of a document: a prompt behind the prefix, and one answer or all candidates' questions."""
        load = self.workload
        answers = work.candidates * (load.answer + QUESTION) if work.candidates else load.answer
        return load.prompt + answers

    def _sampling_seconds(self, work: Sampling, speed: Speed, int8_kv: bool) -> float:
        """Prefill bound by operations; every step bound by reading weights, prompts' KV and answers' KV."""
        memory, load = self.memory, self.workload
        steps = work.tasks * work.n * load.answer / self.rows
        kv = memory.kv_token(int8_kv) * self.rows * (load.answer / 2 + load.prompt / min(work.n, 8))
        kv += memory.kv_token(False) * load.prefix
        weights = memory.sampling(1, 0, 1, SamplingConfig(n=1)).weights * memory.devices
        decode = steps * (weights + kv) / (speed.bandwidth * memory.devices)
        return decode + self._operations(work.tasks * load.prompt) / speed.matmul

    def _operations(self, tokens: float) -> float:
        """Those of a forward pass through the projections on one device: two for each weight and token."""
        shape = self.memory.config
        return 2 * shape.num_hidden_layers * layer_weights(shape) * tokens / self.memory.devices

    def schedule(self, config: ConfigDict, platform: str) -> dict[str, float]:
        """Stage -> seconds on a typical device, to say how far a running study is."""
        each = [stage for part in self.stages.values() for stage in part]
        return {stage.name: self.seconds(stage.work, config, SPEEDS[platform]) for stage in each}


def print_plan(config: ConfigDict, platform: str, speed: Speed) -> None:
    """Prints the plan of a study.

    Args:
        platform: "cpu" or "gpu", which the study is to run on; it need not be here.

    Raises:
        UserError: a config that is not allowed, or that does not fit its budget.
    """
    check(config)
    found = plan(config, platform)
    base, budget, load = config.model, config.memory.budget_gib, found.workload
    print_footprints(config, base.dir, found.footprints, platform)
    print(f"budget: {budget:.1f} GiB" if budget else "budget: none (memory.budget_gib = 0)")
    print(
        f"\nprompts of {load.prefix} shared + {load.prompt:.0f} tokens, programs of {load.answer:.0f}; at "
        f"{speed.bandwidth / 1e9:.0f} GB/s and {speed.matmul / 1e12:.2f} TFLOP/s reached"
    )
    hours = {
        part: [found.seconds(stage.work, config, speed) / 3600 for stage in stages]
        for part, stages in found.stages.items()
    }
    for stage, own in zip(found.stages[STUDY], hours[STUDY], strict=True):
        if own:
            is_training = isinstance(stage.work, Training)
            tokens = f" of {found.document(stage.work):,.0f} tokens" if is_training else ""
            print(f"{stage.name:36}{f'{stage.work}{tokens}':>36}{own:10.3f} h")
    for part, stages in found.stages.items():
        if part != STUDY and stages:
            print(f"{f'question: {part}':36}{f'{len(stages)} stages':>36}{sum(hours[part]):10.3f} h")
    print(f"{'all':36}{'':36}{sum(map(sum, hours.values())):10.3f} h")


def print_footprints(
    config: ConfigDict, directory: str, footprints: Mapping[str, Footprint], platform: str
) -> None:
    """Prints the memory that a model takes."""
    base = config.model
    print(f"{directory}, {base.quantization or 'dense'}, {base.dtype}, on one {platform}")
    print(f"{'GiB':32}" + "".join(f"{name:>11}" for name in (*Footprint._fields, "total")))
    for name, footprint in footprints.items():
        print(f"{name:32}" + "".join(f"{size / GIB:11.2f}" for size in (*footprint, footprint.total)))


def plan(config: ConfigDict, platform: str) -> Plan:
    """The memory, workload, footprints and stages of a (checked) config.

    Raises:
        UserError: it does not fit its budget.
    """
    return Plan(*check_fits(config, platform), planned_stages(config, load_domain(config.domain)))


def check_fits(
    config: ConfigDict, platform: str, earlier: int = 0, beside: Sequence[str] = ()
) -> tuple[Memory, Workload, int, dict[str, Footprint]]:
    """The memory, the workload, how many samples are decoded at a time, and the footprints.

    Args:
        earlier: answers that stand behind a task in a prompt.
        beside: directories of models whose weights are held at the same time.

    Raises:
        UserError: a (checked) config that does not fit its budget.
    """
    domain = load_domain(config.domain)
    model = load_base(config, domain, weights=False)
    others = [ModelConfig.from_dir(directory) for directory in beside]
    memory = memory_beside(config, [model.config, *others], platform)
    load = workload(model, domain, config, earlier)
    sampling, training = SamplingConfig(n=config.evaluation.samples, **config.sampling), config.training
    rows = memory.sampling_rows(load.prompts, sampling)
    trained = memory.micro_batch(load.pool, training.batch_size, training.remat) or training.batch_size
    _, (pool,) = without_prefix([load.pool])
    width, targets = longest_row(pool)
    prompt = padded_prompt(max(map(len, load.prompts)) - load.prefix)
    scored = prompt + BATCHING.text_tokens
    memory.check_scoring(load.prefix, scored)
    footprints = {
        f"sampling, {rows} at a time": memory.sampling(rows, load.prefix, prompt, sampling),
        f"training, {trained} rows of {width}": memory.training(
            trained, width, targets, training.remat, load.prefix
        ),
        f"scoring, {rows_a_batch(scored, load.prefix)} rows of {scored}": memory.scoring(load.prefix, scored),
    }
    return memory, load, rows, footprints


def planned_stages(config: ConfigDict, domain: Domain) -> dict[str, list[Stage]]:
    """Part of the study -> the stages that it adds to those before it, in the order in which they run."""
    conductor = PlannedStages()
    found = graph(Study(config, conductor, domain, ["", ""]))
    own = stages_in([found.samples, found.rounds, found.critics, found.tasks, found.skeletons])
    parts = {STUDY: own} | {name: stages_in(part) for name, part in found.questions.items() if part}
    taken: set[str] = set()
    stages: dict[str, list[Stage]] = {}
    for name, part in parts.items():
        needed = _behind(conductor, part) - taken
        stages[name] = [stage for stage in conductor.stages.values() if stage.name in needed]
        taken |= needed
    return stages


def _behind(conductor: PlannedStages, stages: Iterable[Stage]) -> set[str]:
    """The names of these stages and of all that they read, directly or not."""
    found: set[str] = set()
    waiting = [stage.name for stage in stages]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += conductor.recipes[name]["inputs"]
    return found


@functools.lru_cache
def tuning_tasks(bank: Callable[[str, int], Iterator[Task]], seed: int) -> tuple[Task, ...]:
    """Drawn once for all bases of a study and all cells of a grid: it takes a second."""
    tasks: list[Task] = []
    with contextlib.suppress(UserError):  # files may hold fewer
        for task in itertools.islice(bank(TUNING, seed), TASKS):
            tasks.append(task)
    if not tasks:
        raise UserError("the domain has no task of the tuning role to plan by: give it more questions")
    return tuple(tasks)


def workload(model: Model, domain: Domain, config: ConfigDict, earlier: int = 0) -> Workload:
    """Measured on tasks of the tuning role, with the model's own tokenizer; `earlier` as for `check_fits`."""
    tasks = tuning_tasks(domain.bank, config.tasks.seed)
    if not domain.worked:  # then what a model writes may be as long as it is allowed
        longest = "1 " * (64 * config.sampling.max_new_tokens // len(model.tokenizer.encode("1 " * 64)))
        tasks = tuple(replace(task, program=longest) for task in tasks)
    splits = [split(task, config.tasks.split_seed, config.tasks.visible) for task in tasks]
    prompts = [
        model.chat(domain.messages_behind(shown, [task.program] * earlier))
        for task, shown in zip(tasks, splits, strict=True)
    ]
    examples = zip(tasks, splits, strict=True)
    pool = [generator_example(model, domain, shown, [task.program]) for task, shown in examples]
    prefix, targets = shared_length(prompts), [example.targets for example in pool]
    return Workload(
        prompts, pool, prefix, float(np.mean([*map(len, prompts)])) - prefix, float(np.mean(targets))
    )
