"""What models answer to the tasks of a corpus: what a peer learns to read, and to judge.

Made-up slips are not enough: a peer that has only seen those tells them from a right answer, and yet gains
nothing from the answers of others, which err where it errs itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from constellation.domains.domain import Domain
from constellation.domains.task import Split, Task
from constellation.generator import sample
from constellation.model.model import Generator, Model
from constellation.model.sampling import SamplingConfig
from constellation.runtime.files import write_atomically
from constellation.runtime.keys import Address
from constellation.runtime.progress import Progress

VISIBLE = 2  # examples that a model is shown, where a task has several


class Answer(NamedTuple):
    """An answer to a task: the number of the model that gave it, and whether it is right."""

    model: int
    text: str
    right: bool


@dataclass(frozen=True)
class Answered:
    """The answers of some models to the tasks of a corpus' shards, one of each model to each task.

    Attributes:
        directory: where they are stored, shard by shard.
        temperatures: those of the shards, in turn.
        max_new_tokens: of an answer.
        seed: of the draws' addresses.
    """

    directory: Path
    domain: Domain
    models: Sequence[Model]
    temperatures: Sequence[float]
    max_new_tokens: int
    seed: int

    def shard(self, index: int, tasks: Sequence[Task]) -> list[list[Answer]]:
        """The answers to each task of a shard; sampled where they are not yet stored."""
        path = self.directory / f"answers-{index:04d}.jsonl"
        if not path.exists():
            answers = zip(
                *(self._draw(index, number, tasks) for number in range(len(self.models))), strict=True
            )
            lines = "".join(json.dumps(of_task) + "\n" for of_task in answers)
            write_atomically(path, lambda file: file.write(lines.encode()))
        with path.open(encoding="utf-8") as file:
            return [[Answer(*answer) for answer in json.loads(line)] for line in file]

    def _draw(self, index: int, number: int, tasks: Sequence[Task]) -> list[Answer]:
        """A model's answers to the tasks."""
        model, judge = self.models[number], self.domain.verdict
        temperature = self.temperatures[index % len(self.temperatures)]
        splits = [Split(task.examples[:VISIBLE], task.examples[VISIBLE:]) for task in tasks]
        prompts = [model.chat(self.domain.messages(split)) for split in splits]
        with Progress(f"answers_{index}_{number}", len(tasks), "answers") as progress:
            [drawn] = sample(
                Generator(model),
                [prompts],
                [[task.id for task in tasks]],
                Address(self.seed, "pretraining answers", str(number)),
                SamplingConfig(n=1, temperature=temperature, max_new_tokens=self.max_new_tokens),
                progress=progress,
            )
        texts = [model.tokenizer.decode(answer.ids) for [answer] in drawn]
        return [
            Answer(number, text, judge(task, split, text).right)
            for task, split, text in zip(tasks, splits, texts, strict=True)
        ]
