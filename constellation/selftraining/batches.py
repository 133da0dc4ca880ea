"""Training examples and the padded batches of them.

Several answers to one prompt share it: the row holds the prompt once, and each answer is a branch that sees the
prompt and itself. Loss and gradient are those of separate sequences; the prompt is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

LENGTH_STEP = 16  # rows are padded to a multiple, so that few shapes are compiled
WINDOW = 8  # batches among which examples are exchanged to bring similar lengths together


class TrainingExample(NamedTuple):
    """A prompt and answers to it.

    Attributes:
        prompt: [P] int32 token ids.
        answers: each [A] int32, with the stop id where it is to be learnt.
        loss_from: of each answer, the index of the first token that carries loss; those before are context.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]
    loss_from: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def targets(self) -> int:
        """Tokens that carry loss."""
        return sum(len(answer) - first for answer, first in zip(self.answers, self.loss_from, strict=True))


class Batch(NamedTuple):
    """Rows of like length; the arrays of a jitted update.

    Attributes:
        tokens, positions: [B, T] int32; positions count on from the prompt's end in every branch.
        branch: [B, T] int32, 0 in the prompt, j in the j-th answer, -1 in padding.
        source, target: [B, A] int32: the hidden state at `source` is to predict the token `target`.
        weight: [B, A] float32, 0 in padding.
    """

    tokens: np.ndarray | jax.Array
    positions: np.ndarray | jax.Array
    branch: np.ndarray | jax.Array
    source: np.ndarray | jax.Array
    target: np.ndarray | jax.Array
    weight: np.ndarray | jax.Array


def collate(examples: Sequence[TrainingExample]) -> Batch:
    """Pads examples to one shape; padding changes neither loss nor gradient."""
    rows = len(examples)
    width = _padded(max(example.length for example in examples))
    targets = _padded(max(example.targets for example in examples))
    tokens, positions, source, target = (
        np.zeros((rows, size), np.int32) for size in (width, width, targets, targets)
    )
    branch, weight = np.full((rows, width), -1, np.int32), np.zeros((rows, targets), np.float32)
    for row, example in enumerate(examples):
        prompt = len(example.prompt)
        tokens[row, :prompt], positions[row, :prompt], branch[row, :prompt] = example.prompt, np.arange(prompt), 0
        at, filled = prompt, 0
        for number, (answer, first) in enumerate(zip(example.answers, example.loss_from, strict=True), 1):
            end, count = at + len(answer), len(answer) - first
            tokens[row, at:end], branch[row, at:end] = answer, number
            positions[row, at:end] = prompt + np.arange(len(answer))
            before = np.concatenate([[prompt - 1], np.arange(at, end - 1)])  # what predicts each answer token
            source[row, filled : filled + count] = before[first:]
            target[row, filled : filled + count] = answer[first:]
            weight[row, filled : filled + count] = 1.0
            at, filled = end, filled + count
    return Batch(tokens, positions, branch, source, target, weight)


def draw_batches(
    lengths: Sequence[int], updates: int, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Which examples each update trains on: the pool is gone through in random order, again and again.

    Args:
        lengths: of the pool's examples, in tokens; examples of like length are brought together within windows.
        updates: how many batches to draw.
        batch_size: examples a batch; a batch may hold an example twice where one pass ends and the next begins.
        rng: of this training stage's address.

    Returns:
        `updates` arrays [batch_size] of indices into the pool; none for an empty pool.
    """
    if not len(lengths) or not updates:
        return []
    need = updates * batch_size
    passes = -(-need // len(lengths))
    order = np.concatenate([rng.permutation(len(lengths)) for _ in range(passes)])[:need]
    batches: list[np.ndarray] = []
    for start in range(0, need, WINDOW * batch_size):
        window = order[start : start + WINDOW * batch_size]
        window = window[np.argsort(np.asarray(lengths)[window], kind="stable")]
        groups = np.split(window, len(window) // batch_size)
        batches += [groups[i] for i in rng.permutation(len(groups))]
    return batches


def _padded(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
