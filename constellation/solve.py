"""A generator's judged samples of tasks: prompts, draws, verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from constellation.domains.domain import Domain, Verdict
from constellation.domains.task import Split, Task
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
    split: Callable[[Task], Split],
    sampling: SamplingConfig,
    address: Address,
    memory: Memory,
    label: str,
    meta: dict[str, Any],
    sample: Callable[..., list[list[list[Sample]]]] = sample,
) -> list[SampleSet]:
    """n samples a task, judged by the verifier, in each of R trajectories.

    Args:
        tasks: of each trajectory.
        split: a task's visible and held-out examples.
        address: of the draws.
        memory: says how many samples to decode at a time.
        label: of the progress line.
        meta: what identifies the samples; the set of each trajectory adds its `replicate`.
        sample: `generator.sample`, or what stands in for it.

    Raises:
        UserError: not even one sample fits the memory.
    """
    model = generator.model
    splits = [[split(task) for task in own] for own in tasks]
    prompts = [[model.chat(domain.messages(shown)) for shown in own] for own in splits]
    rows = memory.sampling_rows([prompt for own in prompts for prompt in own], sampling)
    ids = [[task.id for task in own] for own in tasks]
    with Progress(label, sum(map(len, tasks)) * sampling.n, "samples") as progress:
        drawn = sample(generator, prompts, ids, address, sampling, rows=rows, progress=progress)
    return [
        judge_samples(
            model, domain, own, shown, answers, label, meta | {"replicate": address.replicate + trajectory}
        )
        for trajectory, (own, shown, answers) in enumerate(zip(tasks, splits, drawn, strict=True))
    ]


def judge_samples(
    model: Model,
    domain: Domain,
    tasks: Sequence[Task],
    splits: Sequence[Split],
    drawn: Sequence[Sequence[Sample]],
    label: str,
    meta: dict[str, Any],
) -> SampleSet:
    """n answers of each task, whatever drew them, with the verifier's verdicts.

    Args:
        splits: of each task, whose visible examples the answers were drawn from.
        drawn: n answers of each task.
        label, meta: as for `draw_samples`.
    """
    with Progress(f"{label}, verifier", len(tasks), "tasks") as progress:

        def judged(task: int, text: str) -> Verdict:
            progress.update(task + 1 - progress.done)
            return domain.verdict(tasks[task], splits[task], text)

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
