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
OWN = 0.5  # share of a model's own among the judged answers that models wrote


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
    earlier: int = 1,
    answers: Sequence[Answer] = (),
    reader: int = -1,
) -> Document:
    """One view of a task: `kinds` are the weights of the kinds.

    It shows `visible` of the task's examples and, where it is behind others, `earlier` answers, one or two.
    `answers` are what models wrote; without any, earlier and judged ones are made up. `reader` is the number
    among them of the model that learns: it reads the others, and half of what it judges is its own.
    """
    language = domain.pretraining
    assert language is not None
    shown = rng.sample(task.examples, visible)
    split = Split(tuple(shown), ())
    kind = rng.choices(list(kinds), list(kinds.values()))[0] if len(kinds) > 1 else next(iter(kinds))

    def made_up() -> Answer:
        right = rng.random() < RIGHT
        return Answer(-1, -1, task.program if right else language.wrong(task, rng), True, right)

    if kind == "behind":
        others = [answer for answer in answers if answer.model != reader]
        read = _in_sequence(others, earlier, rng) or [made_up() for _ in range(earlier)]
        return Document(kind, domain.messages_behind(split, [each.text for each in read]), task.program)
    if kind == "judged":
        own = rng.random() < OWN
        ended = [each for each in answers if each.finished and (each.model == reader) == own]
        judged = rng.choice(ended) if ended else made_up()
        return Document(kind, domain.critic_messages(split, judged.text), CRITIC_ANSWERS[not judged.right])
    loosely = language.loose if kind == "loose" else None
    return Document(kind, domain.messages(split), loosely(task) if loosely else task.program)


def _in_sequence(answers: Sequence[Answer], count: int, rng: random.Random) -> list[Answer]:
    """One model's answer alone; if two are asked for, then another's behind it, or else alone."""
    alone = [answer for answer in answers if answer.behind < 0]
    earlier = rng.sample(alone, min(count, len(alone)))
    if len(earlier) == 2:
        first, second = earlier
        behind = [each for each in answers if (each.model, each.behind) == (second.model, first.model)]
        return [first, *(behind or [second])]
    return earlier
