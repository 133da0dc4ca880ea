"""Training examples and the padded batches of them.

Several answers to one prompt share it: the document holds the prompt once, and each answer is a branch that
sees the prompt and itself. Several documents may share a row. Loss and gradient are those of separate
sequences.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from constellation.model.padding import multiple
from constellation.model.prefix import shared_length

MAX_WIDTH = 256  # a longer document is divided, attention costing the square of a row's width ...
PROMPTS_A_DOCUMENT = 2  # ... unless it is at most this many prompts long: every part would repeat the prompt
WIDTH_STEP = 16  # widths, rows and targets are padded to multiples, so that few shapes are compiled
ROW_STEP = 4
TARGET_STEP = 32
WINDOW = 8  # batches among which examples are exchanged to bring similar lengths together


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingExample:
    """A prompt and answers to it.

    Attributes:
        prompt: [P] int32 token ids.
        answers: each [A] int32, with the stop id where it is to be learnt.
        loss_from: of each answer, the index of the first target: tokens before it are context.
        weights: of each answer, what its cross entropy is multiplied by; 1 by default.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]
    loss_from: tuple[int, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.weights:
            object.__setattr__(self, "weights", (1.0,) * len(self.answers))
        if not len(self.answers) == len(self.loss_from) == len(self.weights):
            raise ValueError("every answer has one loss_from and one weight")

    def part(self, answers: slice) -> TrainingExample:
        """The prompt with some of the answers."""
        return TrainingExample(
            self.prompt, self.answers[answers], self.loss_from[answers], self.weights[answers]
        )

    @property
    def length(self) -> int:
        """Tokens of the document."""
        return len(self.prompt) + sum(map(len, self.answers))

    @property
    def targets(self) -> int:
        """Tokens that are to be learnt."""
        return sum(len(answer) - first for answer, first in zip(self.answers, self.loss_from, strict=True))


class Batch(NamedTuple):
    """Rows of one width; [B, R, ...] with the trajectories of a jitted update.

    Attributes:
        tokens, positions: [B, T] int32; positions count on from the prompt's end in every branch.
        document: [B, T] int32, which of the row's documents a token belongs to, -1 in padding.
        branch: [B, T] int32, 0 in the prompt, j in the j-th answer, -1 in padding.
        source, target: [B, A] int32: the hidden state at `source` is to predict the token `target`, which is
            -1 in padding.
        weight: [B, A] float32, that of the target's answer; 0 in padding.
    """

    tokens: Any
    positions: Any
    document: Any
    branch: Any
    source: Any
    target: Any
    weight: Any


def without_prefix(
    pools: Sequence[Sequence[TrainingExample]],
) -> tuple[tuple[int, ...], list[list[TrainingExample]]]:
    """The token ids that the prompts of all pools begin with, and the examples without them.

    None where they are too few to be worth it, as `shared_length` says. A batch may hold an example many
    times, so that a lone one shares its prompt with itself.
    """
    prompts = [example.prompt for pool in pools for example in pool]
    length = shared_length(2 * prompts)
    prefix = tuple(prompts[0][:length].tolist()) if length else ()
    return prefix, [
        [dataclasses.replace(example, prompt=example.prompt[length:]) for example in pool] for pool in pools
    ]


def collate(groups: Sequence[Sequence[TrainingExample]]) -> Batch:
    """The packed rows of each of R trajectories, padded to one shape: [B, R, ...].

    A group of examples may be empty; its rows then carry no loss.
    """
    batches = [pack(group) if group else _NOTHING for group in groups]
    widest = [
        max(sizes) for sizes in zip(*((*b.tokens.shape, b.target.shape[1]) for b in batches), strict=True)
    ]
    padded = [pad(batch, *widest) for batch in batches]
    return Batch(*(np.stack(arrays, axis=1) for arrays in zip(*padded, strict=True)))


def pack(examples: Sequence[TrainingExample], max_width: int = MAX_WIDTH) -> Batch:
    """Packs examples into rows of one shape; neither packing nor padding changes loss or gradient.

    Rows are as wide as the longest document. A document of more than `max_width` tokens is divided among its
    answers.
    """
    documents = [document for example in examples for document in _divide(example, max_width)]
    width = multiple(max(document.length for document in documents), WIDTH_STEP)
    packed = _first_fit(documents, width)
    rows = multiple(len(packed), ROW_STEP)
    targets = multiple(max(sum(document.targets for document in row) for row in packed), TARGET_STEP)
    batch = Batch(
        tokens=np.zeros((rows, width), np.int32),
        positions=np.zeros((rows, width), np.int32),
        document=np.full((rows, width), -1, np.int32),
        branch=np.full((rows, width), -1, np.int32),
        source=np.zeros((rows, targets), np.int32),
        target=np.full((rows, targets), -1, np.int32),
        weight=np.zeros((rows, targets), np.float32),
    )
    for index, row in enumerate(packed):
        start = filled = 0
        for number, document in enumerate(row):
            _write(Batch(*(array[index] for array in batch)), document, number, start, filled)
            start, filled = start + document.length, filled + document.targets
    return batch


def longest_row(examples: Sequence[TrainingExample]) -> tuple[int, int]:
    """The tokens and targets of the row that the longest example takes."""
    batch = pack([max(examples, key=lambda example: example.length)])
    return batch.tokens.shape[1], batch.target.shape[1]


def pad(batch: Batch, rows: int, width: int, targets: int) -> Batch:
    """The batch padded to these numbers of rows, tokens a row and targets a row; it is never cut."""

    def padded(name: str, array: np.ndarray) -> np.ndarray:
        columns = targets if name in ("source", "target", "weight") else width
        missing = [(0, max(rows - len(array), 0)), (0, max(columns - array.shape[1], 0))]
        return np.pad(array, missing, constant_values=-1 if name in ("document", "branch", "target") else 0)

    return Batch(*(padded(name, array) for name, array in zip(Batch._fields, batch, strict=True)))


_NOTHING = Batch(*(np.zeros((0, 0), kind) for kind in (*[np.int32] * 6, np.float32)))


def _write(row: Batch, example: TrainingExample, number: int, start: int, filled: int) -> None:
    """Puts a document into a row [T], [A] from token `start` and target `filled` on."""
    prompt = len(example.prompt)
    body = slice(start, start + prompt)
    row.tokens[body], row.positions[body] = example.prompt, np.arange(prompt)
    row.document[start : start + example.length], row.branch[body] = number, 0
    last, at = start + prompt - 1, start + prompt
    answers = zip(example.answers, example.loss_from, example.weights, strict=True)
    for branch, (answer, first, weight) in enumerate(answers, 1):
        body = slice(at, at + len(answer))
        row.tokens[body], row.branch[body] = answer, branch
        row.positions[body] = prompt + np.arange(len(answer))
        before = np.array([last, *range(at, at + len(answer) - 1)])  # what predicts each answer token
        learnt = slice(filled, filled + len(answer) - first)
        row.source[learnt], row.target[learnt], row.weight[learnt] = before[first:], answer[first:], weight
        at, filled = at + len(answer), learnt.stop


def _divide(example: TrainingExample, max_width: int) -> list[TrainingExample]:
    """Documents of limited length if possible, each with the prompt and some of the answers."""
    longest = max(max_width, PROMPTS_A_DOCUMENT * len(example.prompt))
    starts: list[int] = []  # where the parts begin
    length = 0  # of the last part
    for index, answer in enumerate(example.answers):
        if not starts or length + len(answer) > longest:
            starts.append(index)
            length = len(example.prompt)
        length += len(answer)
    return [example.part(slice(*ends)) for ends in itertools.pairwise([*starts, len(example.answers)])]


def _first_fit(documents: Sequence[TrainingExample], width: int) -> list[list[TrainingExample]]:
    """Rows of documents: the longest first, each into the first row that has room for it."""
    rows: list[list[TrainingExample]] = []
    room: list[int] = []
    for document in sorted(documents, key=lambda document: -document.length):
        fitting = next((i for i, free in enumerate(room) if free >= document.length), None)
        if fitting is None:
            rows.append([])
            room.append(width)
            fitting = len(rows) - 1
        rows[fitting].append(document)
        room[fitting] -= document.length
    return rows


def draw_batches(
    lengths: Sequence[int],
    updates: int,
    batch_size: int,
    rng: np.random.Generator,
    order: np.random.Generator,
) -> list[np.ndarray]:
    """Which examples each update trains on: `updates` arrays [batch_size] of indices; none for an empty pool.

    The pool is gone through in random order, again and again, so one example may occur twice in a batch where
    a pass ends and the next begins. Within windows examples of like length are brought together.

    Args:
        rng: of this training's address.
        order: says in which order long and short batches come; all trajectories share it, for batches of one
            update are padded to one shape.
    """
    if not len(lengths) or not updates:
        return []
    need = updates * batch_size
    passes = -(-need // len(lengths))
    visits = np.concatenate([rng.permutation(len(lengths)) for _ in range(passes)])[:need]
    batches: list[np.ndarray] = []
    for start in range(0, need, WINDOW * batch_size):
        window = visits[start : start + WINDOW * batch_size]
        window = window[np.argsort(np.asarray(lengths)[window], kind="stable")]
        groups = np.split(window, len(window) // batch_size)
        batches += [groups[i] for i in order.permutation(len(groups))]
    return batches
