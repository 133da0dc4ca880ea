"""The critic: a second adapter on the same base, asked "does this candidate generalise?", answers yes or no.

Trained on the generator's own surviving candidates, labelled by the verifier; score = logit(yes) - logit(no)
at the first answer token. The loss is that of yes against no, the same two logits: a base that has never
answered either word would otherwise learn no more than to say them. It is used to choose among candidates,
never to choose training data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from constellation.domains.domain import CRITIC_ANSWERS, Domain
from constellation.domains.task import Split, Task
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
    split: Callable[[Task], Split],
    right: NDArray[np.bool_] | None = None,
) -> list[TrainingExample]:
    """One example a task with survivors: the prompt, and every distinct survivor, the question and its label.

    Candidates that miss a visible example are left out: the verifier drops them for free before the critic
    is asked.

    Args:
        right: [D] bool, which programs are labelled yes; those that generalise by default.
    """
    right = samples.right if right is None else right
    yes_no = answer_ids(model)
    pool = []
    for t, task in enumerate(tasks):
        prompt, rows, questions = _questions(model, domain, samples, t, split(task))
        answers = tuple(
            np.array([*question, yes_no[0 if right[row] else 1]], np.int32)
            for row, question in zip(rows, questions, strict=True)
        )
        if answers:
            pool.append(TrainingExample(prompt, answers, tuple(len(answer) - 1 for answer in answers)))
    return pool


def critic_scores(
    critics: Generator,
    domain: Domain,
    tasks: Sequence[Task],
    samples: Sequence[SampleSet],
    split: Callable[[Task], Split],
) -> list[np.ndarray]:
    """logit(yes) - logit(no) of every distinct program, in each of R trajectories.

    Args:
        samples: of each trajectory, all of the same tasks.

    Returns:
        R arrays [D] float64, NaN where a program does not fit.
    """
    model = critics.model
    asked: list[list[tuple[np.ndarray, np.ndarray, list[list[int]]]]] = []
    for own in samples:
        of_task = [_questions(model, domain, own, t, split(task)) for t, task in enumerate(tasks)]
        asked.append([one for one in of_task if one[2]])
    prompts = [[prompt for prompt, _, _ in own] for own in asked]
    questions = [[texts for _, _, texts in own] for own in asked]
    logits = next_token_logits(critics, prompts, questions, answer_ids(model))
    scores = [np.full(len(own.task), np.nan) for own in samples]
    for total, questioned, found in zip(scores, asked, logits, strict=True):
        for (_, rows, _), yes_no in zip(questioned, found, strict=True):
            total[rows] = yes_no[:, 0] - yes_no[:, 1]
    return scores


def _questions(
    model: Model, domain: Domain, samples: SampleSet, t: int, split: Split
) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """A task's prompt, the table rows of its survivors, and for each the tokens between prompt and answer."""
    prompt = model.chat(domain.messages(split), thinking=False)
    table = samples.programs_of(t)
    rows = np.flatnonzero(samples.fits[table]) + table.start
    conversations = [
        model.chat(domain.critic_messages(split, domain.extract(text)), thinking=False)
        for text in map(str, samples.text[rows])
    ]
    # The template may end the first turn differently in a longer conversation, as Qwen3's does.
    shared = max(common_prefix([prompt, *conversations]), 1)
    return np.array(prompt[:shared], np.int32), rows, [ids[shared:] for ids in conversations]


def answer_ids(model: Model) -> tuple[int, int]:
    """The first token of "yes" and of "no".

    Raises:
        UserError: it is one and the same, in this model's tokenizer.
    """
    yes, no = (model.tokenizer.encode(word)[0] for word in CRITIC_ANSWERS)
    if yes == no:
        raise UserError(
            f"the critic cannot tell its answers apart: the tokenizer of {model.dir} begins "
            f"{' and '.join(map(repr, CRITIC_ANSWERS))} with one token, {yes}; use another model"
        )
    return yes, no
