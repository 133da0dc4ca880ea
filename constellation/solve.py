"""A generator's samples of tasks, of any domain: prompts and draws; verdicts are the verifier's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from constellation.domains.domain import Domain
from constellation.domains.task import Splitter, Task
from constellation.generator import Sample, sample
from constellation.memory import Memory
from constellation.model.model import Generator, Model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet, collect


def draw_samples(
    generator: Generator,
    domain: Domain,
    tasks: Sequence[Sequence[Task]],
    split: Splitter,
    sampling: SamplingConfig,
    address: Address,
    memory: Memory,
    label: str,
    sample: Callable[..., list[list[list[Sample]]]] = sample,
) -> list[SampleSet]:
    """n samples, unjudged, of each task of each of R trajectories; the rest is as for `draw_answers`."""
    prompts = [[generator.model.chat(domain.messages(split(task))) for task in own] for own in tasks]
    ids = [[task.id for task in own] for own in tasks]
    return draw_answers(generator, prompts, ids, sampling, address, memory, label, sample)


def draw_answers(
    generator: Generator,
    prompts: Sequence[Sequence[list[int]]],
    ids: Sequence[Sequence[str]],
    sampling: SamplingConfig,
    address: Address,
    memory: Memory,
    label: str,
    sample: Callable[..., list[list[list[Sample]]]] = sample,
) -> list[SampleSet]:
    """n samples, unjudged, of each prompt of each of R trajectories, whose replicate their `meta` names.

    `ids` are part of the draws' addresses. The memory says how many samples to decode at a time; `sample` may
    stand in for the generator's.

    Raises UserError: not even one sample fits the memory.
    """
    rows = memory.sampling_rows([prompt for own in prompts for prompt in own], sampling)
    with Progress(label, sum(map(len, prompts)) * sampling.n, "samples") as progress:
        drawn = sample(generator, prompts, ids, address, sampling, rows=rows, progress=progress)
    return [
        answers_of(generator.model, own, answers, {"replicate": address.replicate + trajectory})
        for trajectory, (own, answers) in enumerate(zip(ids, drawn, strict=True))
    ]


def answers_of(
    model: Model, task_ids: Sequence[str], drawn: Sequence[Sequence[Sample]], meta: dict[str, Any]
) -> SampleSet:
    """n answers of each task, whatever drew them, unjudged."""
    return collect(
        task_ids,
        [[answer.ids for answer in answers] for answers in drawn],
        [[answer.finished for answer in answers] for answers in drawn],
        [[model.tokenizer.decode(answer.ids) for answer in answers] for answers in drawn],
        meta,
    )
