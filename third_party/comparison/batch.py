"""What both sides compute on: prompts of real tasks, of unequal length, as one left-padded batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from constellation.domains.task import Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.tokenizer import Tokenizer
from third_party.sampling_reference import left_padded

if TYPE_CHECKING:
    import torch

PROMPTS = 4


class LeftPadded(NamedTuple):
    """A batch as either side takes it; P positions in all are real.

    Attributes:
        prompts: the token ids of each row.
        ids, attention: torch's, [B, T] integers.
        tokens, positions: ours, [B, T] int32.
        mask: ours, [B, T, T] bool, (query, key).
        real: [B, T] bool; the values of padding have no meaning on either side.
    """

    prompts: list[list[int]]
    ids: torch.Tensor
    attention: torch.Tensor
    tokens: np.ndarray
    positions: np.ndarray
    mask: np.ndarray
    real: np.ndarray

    @classmethod
    def of(cls, prompts: list[list[int]]) -> LeftPadded:
        """Pads the prompts."""
        ids, attention = left_padded(prompts)
        real = attention.numpy().astype(bool)
        width = real.shape[1]
        return cls(
            prompts,
            ids,
            attention,
            tokens=ids.numpy().astype(np.int32),
            positions=np.maximum(np.cumsum(real, axis=1) - 1, 0).astype(np.int32),
            mask=np.tril(np.ones((width, width), bool)) & real[:, None, :],
            real=real,
        )


def tasks() -> list[Task]:
    """The tasks of the prompts."""
    return trapdoor.make_bank("tuning_hard", PROMPTS)


def task_prompts(tokenizer: Tokenizer) -> LeftPadded:
    """One prompt a task, the first with one visible example, the next with two ..."""
    splits = [split(task, 0, visible) for visible, task in enumerate(tasks(), 1)]
    return LeftPadded.of([tokenizer.chat(trapdoor.messages(one)) for one in splits])
