"""Documents of pretraining: what is read and judged in them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from constellation.domains.domain import ANOTHER, CRITIC_ANSWERS, load_domain
from constellation.nano.answers import Answer
from constellation.nano.documents import draw_document

EQUATIONS = load_domain("equations")
[TASK] = EQUATIONS.make_bank("hard", 1)
ANSWERS = [
    Answer(0, -1, "answer 1000", True, False),
    Answer(1, -1, TASK.program, True, True),
    Answer(2, -1, "answer 2000", True, False),
]


def documents(kind, **fields):
    rng = random.Random(0)
    return [
        draw_document(EQUATIONS, TASK, {kind: 1.0}, 1, rng, earlier, **fields)
        for earlier in (1, 2)
        for _ in range(30)
    ]


@pytest.mark.parametrize("reader", [-1, 0, 1, 2])
def test_a_peer_reads_one_or_two_of_the_others(reader):
    others = {answer.text for answer in ANSWERS if answer.model != reader}
    found = set()
    for document in documents("behind", answers=ANSWERS, reader=reader):
        _, *earlier = document.messages[-1]["content"].split(ANOTHER)
        assert document.answer == TASK.program
        assert len(set(earlier)) == len(earlier) and set(earlier) <= others
        found.add(tuple(earlier))
    assert len(found) == len(others) ** 2  # each alone, and any two in either order
    assert {len(earlier) for earlier in found} == {1, 2}


def test_the_second_of_two_had_read_the_first():
    """Where a model answered behind the one that is read first; elsewhere it answered alone."""
    behind = Answer(2, 1, "answer 3000", True, False)
    found = {
        tuple(document.messages[-1]["content"].split(ANOTHER)[1:])
        for document in documents("behind", answers=[*ANSWERS, behind], reader=0)
    }
    right = TASK.program
    assert found == {(right,), ("answer 2000",), (right, "answer 3000"), ("answer 2000", right)}


def test_a_peer_judges_the_others_and_as_often_itself():
    found = Counter(
        (document.messages[-2]["content"], document.answer)
        for document in documents("judged", answers=ANSWERS, reader=0)
    )
    assert set(found) == {(answer.text, CRITIC_ANSWERS[not answer.right]) for answer in ANSWERS}
    assert 20 < found["answer 1000", "no"] < 40


def test_what_came_to_no_end_is_read_and_not_judged():
    cut = [answer._replace(finished=False) for answer in ANSWERS[:2]] + ANSWERS[2:]
    judged = {document.messages[-2]["content"] for document in documents("judged", answers=cut, reader=2)}
    assert "answer 2000" in judged and "answer 1000" not in judged
    behind = documents("behind", answers=cut, reader=2)
    assert any("answer 1000" in document.messages[-1]["content"] for document in behind)


def test_without_answers_half_of_them_are_made_up_wrong():
    judged = documents("judged")
    right = [document.messages[-2]["content"] == TASK.program for document in judged]
    assert [document.answer == CRITIC_ANSWERS[0] for document in judged] == right and 15 < sum(right) < 45
    counts = [document.messages[-1]["content"].count(ANOTHER) for document in documents("behind")]
    assert set(counts) == {1, 2}
