"""What models answer to the tasks of a corpus: what a peer learns to read, and to judge.

Made-up slips are not enough: a peer that has only seen those tells them from a right answer, and yet gains
nothing from the answers of others, which err where it errs itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import jax

from constellation.conductor import digest
from constellation.domains.domain import Domain
from constellation.domains.task import Task, addressed_random, split
from constellation.generator import sample
from constellation.model.mesh import make_mesh
from constellation.model.model import Generator, check_model, load_model
from constellation.model.sampling import SamplingConfig
from constellation.nano.corpus import Corpus, write_whole
from constellation.runtime.keys import Address
from constellation.runtime.progress import Progress

LONGEST = 240  # characters that are read of an answer


class Answer(NamedTuple):
    """An answer to a task.

    Attributes:
        model: the number of the model that gave it.
        behind: the number of the model whose answer it had read; -1 for none.
        finished, right: whether it came to its end, and is right.
    """

    model: int
    behind: int
    text: str
    finished: bool
    right: bool


@dataclass(frozen=True)
class Answered:
    """The answers of some models to the tasks of a corpus' shards: one alone, and one behind another model's.

    They are stored beside the shards, under a name that says what they depend on.

    Attributes:
        models: directories.
        temperatures: those of a shard's tasks, in turn.
        max_new_tokens: of an answer.
    """

    corpus: Corpus
    domain: Domain
    models: Sequence[str]
    quantization: str
    temperatures: Sequence[float]
    max_new_tokens: int

    @cached_property
    def digest(self) -> str:
        """Of all that the answers depend on beside the tasks."""
        models = [check_model(directory, self.quantization) for directory in self.models]
        fields = list(self.temperatures), self.max_new_tokens, self.corpus.seed, self.domain.version
        return digest([models, *fields])

    def shard(self, index: int, tasks: Sequence[Task]) -> list[list[Answer]]:
        """The answers to each task of a shard; sampled where they are not yet stored.

        Every model answers alone, and once more behind the answer of another, which is drawn: two answers in
        sequence agree more often than two that know nothing of one another.
        """
        path = self.corpus.directory / f"answers-{index:04d}-{self.digest[:8]}.jsonl"
        if not path.exists():
            alone = self._draw(f"shard {index}, alone", tasks, None)
            second = self._draw(f"shard {index}, behind another", tasks, alone) if len(alone) > 1 else []
            lines = "".join(json.dumps(answers) + "\n" for answers in zip(*alone, *second, strict=True))
            write_whole(path, lambda unfinished: unfinished.write_text(lines, encoding="utf-8"))
        with path.open(encoding="utf-8") as file:
            return [[_cut(Answer(*answer)) for answer in json.loads(line)] for line in file]

    def _draw(
        self, label: str, tasks: Sequence[Task], read: Sequence[Sequence[Answer]] | None
    ) -> list[list[Answer]]:
        """Each model's answers to the tasks: alone, or behind one of the answers `read`, of each model."""
        numbers = range(len(self.models))
        with Progress(label, len(tasks) * len(numbers), "answers") as progress:
            return [self._answers_of(number, tasks, read, progress) for number in numbers]

    def _answers_of(
        self,
        number: int,
        tasks: Sequence[Task],
        read: Sequence[Sequence[Answer]] | None,
        progress: Progress,
    ) -> list[Answer]:
        """A model's answers, as `_draw` has them."""
        mesh, judge = make_mesh(jax.device_count()), self.domain.verdict
        model = load_model(self.models[number], self.quantization, mesh=mesh)
        others = [other for other in range(len(self.models)) if other != number]
        seed, purpose = self.corpus.seed, "behind" if read else "alone"
        address = Address(seed, "pretraining answers", f"{purpose} {number}")
        found = []
        for turn, temperature in enumerate(self.temperatures):
            splits, prompts = [], []
            positions = range(turn, len(tasks), len(self.temperatures))
            behind = [
                addressed_random(purpose, seed, number, tasks[t].id).choice(others) if read else -1
                for t in positions
            ]
            for t, other in zip(positions, behind, strict=True):
                splits.append(split(tasks[t], seed))
                earlier = [read[other][t].text] if read else []
                prompts.append(model.chat(self.domain.messages_behind(splits[-1], earlier)))
            [drawn] = sample(
                Generator(model),
                [prompts],
                [[tasks[t].id for t in positions]],
                address,
                SamplingConfig(n=1, temperature=temperature, max_new_tokens=self.max_new_tokens),
                progress=progress,
            )
            for t, other, shown, [answer] in zip(positions, behind, splits, drawn, strict=True):
                text = model.tokenizer.decode(answer.ids)
                right = answer.finished and judge(tasks[t], shown, text).right
                found.append((t, Answer(number, other, text, answer.finished, right)))
        return [answer for _, answer in sorted(found)]


def _cut(answer: Answer) -> Answer:
    """Rambling of many words makes one batch too wide for the memory, and teaches nothing."""
    return answer._replace(text=answer.text[:LONGEST])
