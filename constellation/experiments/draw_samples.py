"""A generator's judged samples of tasks: prompts, draws, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from constellation.domains.domain import Verdict
from constellation.domains.task import Split, Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.generator import Sample, sample_each
from constellation.memory import Memory
from constellation.model.lora import Adapter, stack_of_one
from constellation.model.model import Model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet, collect


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
    memory: Memory,
) -> SampleSet:
    """n samples a task, judged by the verifier.

    Args:
        key: folded to (seed, purpose, arm, replicate).
        label: of the progress line.
        meta: what identifies the samples.
        memory: says how many samples to decode at a time.

    Raises:
        UserError: not even one sample fits the memory.
    """
    one = stack_of_one(adapter)
    return draw_samples_each(
        model, one, [tasks], split_seed, visible, sampling, key[None], label, [meta], memory
    )[0]


def draw_samples_each(
    model: Model,
    adapters: Adapter | None,
    tasks: Sequence[Sequence[Task]],
    split_seed: int,
    visible: int,
    sampling: SamplingConfig,
    keys: jax.Array,
    label: str,
    metas: Sequence[dict[str, Any]],
    memory: Memory,
) -> list[SampleSet]:
    """`draw_samples` for each of R trajectories, as one program.

    Args:
        adapters: [R, ...]; None for one trajectory of the base itself.
        tasks, metas: of each trajectory.
        keys: [R].
    """
    splits = [[split(task, split_seed, visible) for task in own] for own in tasks]
    prompts = [[model.chat(trapdoor.messages(of)) for of in own] for own in splits]
    rows = memory.sampling_rows([prompt for own in prompts for prompt in own], sampling)
    ids = [[task.id for task in own] for own in tasks]
    with Progress(label, sum(map(len, tasks)) * sampling.n, "samples") as progress:
        drawn = sample_each(model, adapters, prompts, ids, keys, sampling, rows=rows, progress=progress)
    of_each = zip(tasks, splits, drawn, metas, strict=True)
    return [judge_samples(model, own, seen, found, label, meta) for own, seen, found, meta in of_each]


def judge_samples(
    model: Model,
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
            return trapdoor.verdict(tasks[task], splits[task], text)

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
