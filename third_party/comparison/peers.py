"""One round of two peers beside transformers, peft and torch: PMI, weights, gradients and steps.

Both answer the same problems, now the one first and now the other. A peer learns what it answered first,
weighted by its PMI with what the other answered then: that is the reference.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from constellation.domains.equations import DOMAIN
from constellation.domains.equations.questions import wrong_answer
from constellation.domains.task import Split, Task, split
from constellation.model.lora import Adapter, stack
from constellation.model.model import Generator, Model
from constellation.model.score import log_prob
from constellation.selftraining.batches import Batch, TrainingExample, collate
from constellation.selftraining.peers import (
    Answers,
    Arm,
    Array,
    Learning,
    Question,
    agreement,
    peer_examples,
    pmi,
    sequence_targets,
)
from third_party import peers_reference, training_reference
from third_party.comparison.logits import TOLERANCE
from third_party.comparison.table import Row, relative_norm
from third_party.comparison.training import (
    CLIP,
    DTYPES,
    change,
    gradient,
    put_adapter,
    steps_row,
    torch_change,
)
from third_party.peers_reference import Weighted, weight

PROBLEMS, LEVEL = 8, 1
UNFINISHED = 3  # every so manieth answer breaks off
TAU = 0.1  # so low that weights differ even where PMI, in nats a token, hardly does


class Peer(NamedTuple):
    """A peer on both sides, which begin with the same adapter."""

    model: Model
    adapter: Adapter
    theirs: peers_reference.Peer


class Learnt(NamedTuple):
    """What a peer learns on either side, in the same order."""

    peer: Peer
    ours: list[TrainingExample]
    theirs: list[Weighted]


def peer_rows(pair: Sequence[Peer]) -> Iterator[Row]:
    """PMI by either side, and what each makes of its own."""
    tasks = DOMAIN.training_tasks("star", PROBLEMS, max_atoms=LEVEL)
    answers = exchange(tasks)
    asked = [questions(tasks, answers, number) for number in range(len(pair))]
    ours = np.stack([_pmi(peer, own) for peer, own in zip(pair, asked, strict=True)])  # [peers, T, 2]
    single, exact = (
        np.stack([_torch_pmi(peer, own, dtype) for peer, own in zip(pair, asked, strict=True)])
        for dtype in DTYPES
    )
    yield _pmi_row(ours, single, exact)
    learnt = [
        Learnt(
            peer,
            _examples(peer, number, tasks, answers, ours[number, :, 1], kind),
            _weighted(number, tasks, answers, exact[number, :, 1], kind),
        )
        for kind in ("pmi", "inverted")
        for number, peer in enumerate(pair)
    ]
    yield _weights_row(learnt)
    yield _gradient_row(learnt)
    yield _steps_row(learnt[: len(pair)])


def exchange(tasks: Sequence[Task]) -> Answers:
    """Right and wrong answers, some of which break off, first by the one peer and then by the other."""
    rng, places = random.Random(0), np.arange(2 * len(tasks)).reshape(-1, 2)
    finished = places % UNFINISHED != 0

    def answer(task: Task, finished: bool) -> str:
        text = rng.choice((task.program, wrong_answer(task, rng)))
        return text if finished else text[: len(text) // 2]

    texts = [[answer(task, end) for end in ends] for task, ends in zip(tasks, finished, strict=True)]
    return Answers((places + places // 2) % 2, texts, finished)


def questions(tasks: Sequence[Task], answers: Answers, number: int) -> list[Question]:
    """What a peer scores: each of its own answers, first or last, against the last."""
    own = zip(tasks, answers.texts, answers.place(number), answers.finished[:, -1].tolist(), strict=True)
    return [Question(task, texts[place], texts[-1], end) for task, texts, place, end in own]


def _shown(task: Task) -> Split:
    return split(task, 0)


def _pmi(peer: Peer, asked: Sequence[Question]) -> Array:
    """[T, 2]: of the whole reference, and a token."""
    generator, domain = Generator(peer.model, stack([peer.adapter])), DOMAIN.unjudged()
    found = [pmi(generator, domain, _shown, [asked], per_token, log_prob)[0] for per_token in (False, True)]
    return np.stack(found, axis=1)


def _torch_pmi(peer: Peer, asked: Sequence[Question], dtype: torch.dtype) -> Array:
    """As `_pmi`."""
    put_adapter(peer.theirs.model.to(dtype), peer.adapter)
    shown = [(_shown(each.task), each) for each in asked]
    found = [
        peer.theirs.pmi(
            DOMAIN.messages(one),
            DOMAIN.messages_behind(one, [each.answer]),
            each.reference,
            each.finished,
        )
        for one, each in shown
    ]
    peer.theirs.model.float()
    return np.array(found)


def _pmi_row(ours: Array, single: Array, exact: Array) -> Row:
    """Sums of many logarithms, of which torch's float32, too, may miss more than TOLERANCE."""
    floor = float(np.abs(single - exact).max())
    measured = (
        f"max abs error in nats of {ours[..., 0].size}, summed and a token, against torch in float64, from "
        f"which torch in float32 is {floor:.1e}"
    )
    return Row("PMI of two peers", measured, float(np.abs(ours - exact).max()), max(TOLERANCE, floor))


def _examples(
    peer: Peer, number: int, tasks: Sequence[Task], answers: Answers, scores: Array, kind: str
) -> list[TrainingExample]:
    """What a round of ours gives a peer to learn, by the PMI [T] of its own answers."""
    domain = DOMAIN.unjudged()
    targets = sequence_targets(
        Arm(kind),
        Learning("own", learns_last=False, tau=TAU),
        number,
        answers,
        agreement("last", domain, tasks, _shown, answers),
        np.where(answers.order == number, scores[:, None], np.nan),
        np.random.default_rng(0),
    )
    return peer_examples(peer.model, domain, _shown, tasks, targets)


def _weighted(
    number: int, tasks: Sequence[Task], answers: Answers, scores: Array, kind: str
) -> list[Weighted]:
    """As `_examples`: the answers that a peer gave first."""
    return [
        Weighted(DOMAIN.messages(_shown(task)), texts[0], finished, weight(score, TAU, kind == "inverted"))
        for task, order, texts, finished, score in zip(
            tasks, answers.order, answers.texts, answers.finished[:, 0], scores, strict=True
        )
        if order[0] == number
    ]


def _weights_row(learnt: Sequence[Learnt]) -> Row:
    ours = np.array([w for one in learnt for example in one.ours for w in example.weights])
    theirs = np.array([answer.weight for one in learnt for answer in one.theirs])
    measured = f"max abs error of w and 1 - w of {len(ours) // 2}, from {ours.min():.2g} to {ours.max():.2g}"
    return Row("weights of two peers", measured, float(np.abs(ours - theirs).max()), TOLERANCE)


def _gradient_row(learnt: Sequence[Learnt]) -> Row:
    batches = _batches([one.ours for one in learnt])
    pairs = zip(learnt, batches, strict=True)
    ours = [gradient(one.peer.model, one.peer.adapter, batch) for one, batch in pairs]
    error = relative_norm(ours, [_torch_gradient(one) for one in learnt])
    return Row("gradients of two peers", "relative norm of their error, with w and 1 - w", error, TOLERANCE)


def _torch_gradient(learnt: Learnt) -> Any:
    theirs = learnt.peer.theirs
    put_adapter(theirs.model, learnt.peer.adapter)
    theirs.model.zero_grad()
    theirs.loss(learnt.theirs).backward()
    return training_reference.read_adapter(theirs.model, gradient=True)


def _steps_row(learnt: Sequence[Learnt]) -> Row:
    batches = _batches([half for one in learnt for half in _halves(one.ours)])
    pairs = zip(learnt, batches[::2], batches[1::2], strict=True)
    ours = [change(one.peer.model, one.peer.adapter, halves) for one, *halves in pairs]
    theirs = ([_torch_change(one, dtype) for one in learnt] for dtype in DTYPES)
    return steps_row("training of two peers", ours, *theirs)


def _torch_change(learnt: Learnt, dtype: torch.dtype) -> Any:
    _, adapter, theirs = learnt.peer
    update = partial(theirs.update, clip_norm=CLIP)
    return torch_change(theirs.model, adapter, update, _halves(learnt.theirs), dtype)


def _batches(groups: Sequence[Sequence[TrainingExample]]) -> list[Batch]:
    """Each group's, [B, 1, ...]: of one shape, so that a family's update is compiled once."""
    together = collate(groups)
    return [jax.tree.map(lambda array, at=r: array[:, at : at + 1], together) for r in range(len(groups))]


def _halves(answers: Sequence[Any]) -> list[Sequence[Any]]:
    """Batches that differ in weights and tokens: AdamW does not see a factor that all have in common."""
    return [answers[::2], answers[1::2]]
