"""What a nano model is pretrained on: conversations about tasks, of a few kinds.

- alone: the task and its answer;
- loose: the same in another format than is asked for, which a sampler then sometimes writes;
- behind: the task with one or two earlier answers, each right or wrong, and the right answer;
- judged: an answer, right or wrong, and whether it is, asked as a critic is asked.

What is read or judged was made up with a slip, or other models wrote it (see `nano.answers`).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from constellation.domains.domain import CRITIC_ANSWERS, Domain, Message
from constellation.domains.task import Split, Task
from constellation.nano.answers import Answer

RIGHT = 0.5  # share of the earlier and of the judged answers that are made up


class Document(NamedTuple):
    """A conversation up to an answer, and the answer, which is what is learnt."""

    kind: str
    messages: list[Message]
    answer: str


def draw_document(
    domain: Domain,
    task: Task,
    kinds: Mapping[str, float],
    visible: int,
    rng: random.Random,
    answers: Sequence[Answer] = (),
    reader: int = -1,
) -> Document:
    """One view of a task, which shows `visible` of its examples; `kinds` are the weights of the kinds.

    `answers` are what models wrote; without any, earlier and judged ones are made up. `reader` is the number
    among them of the model that learns: it reads the others, and judges itself, too.
    """
    language = domain.pretraining
    assert language is not None
    shown = rng.sample(task.examples, visible)
    split = Split(tuple(shown), ())
    kind = rng.choices(list(kinds), list(kinds.values()))[0] if len(kinds) > 1 else next(iter(kinds))

    def made_up() -> Answer:
        right = rng.random() < RIGHT
        return Answer(-1, task.program if right else language.wrong(task, rng), right)

    if kind == "behind":
        count = rng.choice((1, 2))
        others = [answer for answer in answers if answer.model != reader]
        earlier = rng.sample(others, min(count, len(others))) or [made_up() for _ in range(count)]
        return Document(kind, domain.messages_behind(split, [each.text for each in earlier]), task.program)
    if kind == "judged":
        judged = rng.choice(answers) if answers else made_up()
        return Document(kind, domain.critic_messages(split, judged.text), CRITIC_ANSWERS[not judged.right])
    loosely = language.loose if kind == "loose" else None
    return Document(kind, domain.messages(split), loosely(task) if loosely else task.program)
