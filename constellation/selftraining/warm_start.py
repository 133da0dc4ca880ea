"""The warm start: supervised fine-tuning on secret programs, the one place where they are targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from constellation.domains.domain import Domain
from constellation.domains.task import Split, Task
from constellation.selftraining.batches import TrainingExample

if TYPE_CHECKING:
    from constellation.model.model import Model


def warm_start_examples(
    model: Model, domain: Domain, tasks: Sequence[Task], split: Callable[[Task], Split]
) -> list[TrainingExample]:
    """One example a task: its visible examples, and its secret program as the answer."""
    return [generator_example(model, domain, split(task), [task.program]) for task in tasks]


def generator_example(model: Model, domain: Domain, split: Split, programs: Sequence[str]) -> TrainingExample:
    """A generator's prompt with programs as its answers; their first stop id is learnt too.

    A target is a program without thoughts, also for a model that thinks when it is sampled.
    """
    answers = tuple(
        np.array([*model.tokenizer.encode(program), model.stop_ids[0]], np.int32) for program in programs
    )
    prompt = np.array(model.chat(domain.messages(split), thinking=False), np.int32)
    return TrainingExample(prompt, answers, (0,) * len(answers))
