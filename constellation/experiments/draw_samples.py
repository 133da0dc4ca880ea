"""A generator's judged samples of tasks: prompts, draws, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from constellation.generator import Sample, sample
from constellation.memory import Memory
from constellation.model.lora import Adapter
from constellation.model.model import Model
from constellation.progress import Progress
from constellation.samples import SampleSet, collect
from constellation.sampling import SamplingConfig
from constellation.tasks import trapdoor
from constellation.tasks.task import Split, Task, split
from constellation.verifier import Verdict


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
    splits = [split(task, split_seed, visible) for task in tasks]
    prompts = [model.chat(trapdoor.messages(of)) for of in splits]
    rows, ids = memory.sampling_rows(prompts, sampling), [task.id for task in tasks]
    with Progress(label, len(tasks) * sampling.n, "samples") as progress:
        drawn = sample(model, adapter, prompts, ids, key, sampling, rows=rows, progress=progress)
    return judge_samples(model, tasks, splits, drawn, label, meta)


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
