"""The critic: a second adapter on the same base, asked "does this candidate generalise?", answers yes or no.

Trained on the generator's own surviving candidates, labelled by the verifier; score = logit(yes) - logit(no)
at the first answer token. The loss is that of yes against no, the same two logits: a base that has never
answered either word would otherwise learn no more than to say them. It is used to choose among candidates,
never to choose training data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import CRITIC_ANSWERS, Domain
from constellation.domains.task import Splitter, Task
from constellation.model.model import Generator, Model
from constellation.model.prefix import common_prefix
from constellation.model.score import next_token_logits
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample


def critic_examples(
    model: Model,
    domain: Domain,
    tasks: Sequence[Task],
    samples: SampleSet,
    split: Splitter,
    right: NDArray[np.bool_] | None = None,
) -> list[TrainingExample]:
    """One example a task with survivors: the prompt, and every distinct survivor, the question and its label.

    Candidates that miss a visible example are left out: the verifier drops them for free before the critic
    is asked. `right` [D] says which programs are labelled yes; those that generalise by default.
    """
    right = samples.right if right is None else right
    yes, no = answer_ids(model)
    pool = []
    chat = _chat_of(model, domain, tasks, split)
    for prompt, rows, questions in _questions(chat, domain, samples, samples.fits):
        answers = tuple(
            np.array([*question, yes if right[row] else no], np.int32)
            for row, question in zip(rows, questions, strict=True)
        )
        pool.append(TrainingExample(prompt, answers, tuple(len(answer) - 1 for answer in answers)))
    return pool


def critic_scores(
    critics: Generator,
    domain: Domain,
    tasks: Sequence[Task],
    samples: Sequence[SampleSet],
    split: Splitter,
    among: Callable[[SampleSet], NDArray[np.bool_]] = lambda samples: samples.fits,
) -> list[np.ndarray]:
    """logit(yes) - logit(no) of every distinct program, in each of R trajectories, all of the same tasks.

    Returns R arrays [D] float64, NaN where a program is not `among` those that are asked about: those that
    fit, by default.
    """
    model = critics.model
    chat = _chat_of(model, domain, tasks, split)
    questions = [_questions(chat, domain, own, among(own)) for own in samples]
    logits = next_token_logits(
        critics,
        [[question.prompt for question in own] for own in questions],
        [[question.texts for question in own] for own in questions],
        answer_ids(model),
    )
    scores = [np.full(len(own.task), np.nan) for own in samples]
    for score, own, found in zip(scores, questions, logits, strict=True):
        for question, yes_no in zip(own, found, strict=True):
            score[question.rows] = yes_no[:, 0] - yes_no[:, 1]
    return scores


class _Questions(NamedTuple):
    """What the critic is asked of a task's survivors."""

    prompt: np.ndarray  # [P] int32
    rows: np.ndarray  # of the survivors in the program table
    texts: list[list[int]]  # for each, the tokens between the prompt and the critic's answer


Chat = Callable[..., list[int]]


def _chat_of(model: Model, domain: Domain, tasks: Sequence[Task], split: Splitter) -> Chat:
    """(task) or (task, answer) -> the ids of a task's prompt, or of what the critic is asked of an answer.

    Several trajectories often give the same answer, which goes through template and tokenizer once.
    """

    @functools.cache
    def chat(task: int, answer: str | None = None) -> list[int]:
        shown = split(tasks[task])
        if answer is None:
            return model.chat(domain.messages(shown), thinking=False)
        return model.chat(domain.critic_messages(shown, answer), thinking=False)

    return chat


def _questions(chat: Chat, domain: Domain, samples: SampleSet, among: NDArray[np.bool_]) -> list[_Questions]:
    """What the critic is asked, for every task with programs `among` [D] those that it is asked about."""
    questions = []
    for t in range(len(samples.task_ids)):
        rows = samples.rows_where(among, t)
        if not len(rows):
            continue
        prompt = chat(t)
        conversations = [chat(t, domain.extract(text)) for text in map(str, samples.text[rows])]
        # The template may end the first turn differently in a longer conversation, as Qwen3's does.
        end = max(common_prefix([prompt, *conversations]), 1)
        texts = [ids[end:] for ids in conversations]
        questions.append(_Questions(np.array(prompt[:end], np.int32), rows, texts))
    return questions


def answer_ids(model: Model) -> tuple[int, int]:
    """The first token of "yes" and of "no".

    Raises UserError: it is one and the same, in this model's tokenizer.
    """
    yes, no = (model.tokenizer.encode(word)[0] for word in CRITIC_ANSWERS)
    if yes == no:
        raise UserError(
            f"the critic cannot tell its answers apart: the tokenizer of {model.dir} begins "
            f"{' and '.join(map(repr, CRITIC_ANSWERS))} with one token, {yes}; use another model"
        )
    return yes, no
