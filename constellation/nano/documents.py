"""What a nano model is pretrained on: conversations about tasks, of a few kinds.

- alone: the task and its answer;
- loose: the same in another format than is asked for, which a sampler then sometimes writes;
- behind: the task with one or two earlier answers, each right or wrong, and the right answer;
- judged: an answer, right or wrong, and whether it is, asked as a critic is asked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from constellation.domains.domain import CRITIC_ANSWERS, Domain, Message
from constellation.domains.task import Split, Task

RIGHT = 0.5  # share of the earlier and of the judged answers


class Document(NamedTuple):
    """A conversation up to an answer, and the answer, which is what is learnt."""

    kind: str
    messages: list[Message]
    answer: str


def draw_document(
    domain: Domain, task: Task, kinds: Mapping[str, float], visible: int, rng: random.Random
) -> Document:
    """One view of a task, which shows `visible` of its examples; `kinds` are the weights of the kinds."""
    language = domain.pretraining
    assert language is not None
    shown = rng.sample(task.examples, visible)
    split = Split(tuple(shown), ())
    kind = rng.choices(list(kinds), list(kinds.values()))[0] if len(kinds) > 1 else next(iter(kinds))

    def given() -> tuple[str, bool]:
        right = rng.random() < RIGHT
        return task.program if right else language.wrong(task, rng), right

    if kind == "behind":
        earlier = [given()[0] for _ in range(rng.choice((1, 2)))]
        return Document(kind, domain.messages_behind(split, earlier), task.program)
    if kind == "judged":
        text, right = given()
        return Document(kind, domain.critic_messages(split, text), CRITIC_ANSWERS[not right])
    loosely = language.loose if kind == "loose" else None
    return Document(kind, domain.messages(split), loosely(task) if loosely else task.program)
