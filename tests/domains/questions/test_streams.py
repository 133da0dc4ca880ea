"""Streams: each role has its own questions, as many as there are, and the same whenever they are drawn."""

from __future__ import annotations

import itertools

import pytest

from constellation.domains.questions.files import ROLES, read_questions
from constellation.domains.questions.streams import TRAINING_ROLES, bank_stream, training_stream
from constellation.runtime.errors import UserError
from tests.domains.questions.test_files import write


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    records = [{"question": f"{i}?", "answer": f"{i}", "level": i % 5 + 1} for i in range(200)]
    return read_questions([write(tmp_path_factory.mktemp("questions") / "some.jsonl", *records)])


def first(stream, count):
    return list(itertools.islice(stream, count))


def questions_of(tasks, role, level=5):
    return {task.id for task in tasks if task.role == role and task.atoms <= level}


def test_a_bank_is_all_questions_of_its_role_in_an_order_of_the_seed(tasks):
    for bank, role in (("hard", "evaluation"), ("tuning_hard", "tuning")):
        size = len(questions_of(tasks, role))
        drawn = first(bank_stream(tasks, bank), size)
        assert {task.id for task in drawn} == questions_of(tasks, role)
        assert drawn == first(bank_stream(tasks, bank), size) != first(bank_stream(tasks, bank, 1), size)


def test_a_bank_ends_with_what_is_to_be_done(tasks):
    size = len(questions_of(tasks, "evaluation"))
    with pytest.raises(UserError, match=f"have {size} questions for the bank hard, and config.tasks"):
        first(bank_stream(tasks, "hard"), size + 1)
    with pytest.raises(UserError, match="unknown bank 'easy'"):
        first(bank_stream(tasks, "easy"), 1)


def test_roles_share_no_question(tasks):
    streams = [training_stream(tasks, role, 5) for role in TRAINING_ROLES]
    streams += [bank_stream(tasks, bank) for bank in ("hard", "tuning_hard")]
    sizes = [len(questions_of(tasks, role)) for role in (*TRAINING_ROLES, "evaluation", "tuning")]
    drawn = [
        {task.examples[0].inputs for task in first(stream, size)}
        for stream, size in zip(streams, sizes, strict=True)
    ]
    assert sum(map(len, drawn)) == len(set().union(*drawn)) == 200 and len(drawn) == len(ROLES)


def test_a_training_stream_is_of_its_level_and_address(tasks):
    drawn = first(training_stream(tasks, "star", 2), 20)
    assert {task.id for task in drawn} <= questions_of(tasks, "star", 2) and len(drawn) == 20
    assert drawn == first(training_stream(tasks, "star", 2), 20)
    for address in ({"seed": 1}, {"batch": 1}, {"trajectory": 1}):
        assert drawn != first(training_stream(tasks, "star", 2, **address), 20)


def test_a_training_stream_goes_round_in_other_orders_and_under_other_ids(tasks):
    size = len(questions_of(tasks, "critic"))
    drawn = first(training_stream(tasks, "critic", 5), 3 * size)
    passes = [drawn[i : i + size] for i in range(0, 3 * size, size)]
    orders = [[task.signature for task in each] for each in passes]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2]
    assert len({task.id for task in drawn}) == 3 * size


def test_what_the_files_do_not_have_is_said(tasks):
    with pytest.raises(UserError, match="unknown training role 'evaluation'"):
        first(training_stream(tasks, "evaluation", 5), 1)
    with pytest.raises(UserError, match="levels are 1 to 5, and none is withheld"):
        first(training_stream(tasks, "star", 6), 1)
    with pytest.raises(UserError, match="none is withheld"):
        first(training_stream(tasks, "star", 5, withheld=True), 1)
    hard = [task for task in tasks if task.atoms > 1]
    with pytest.raises(UserError, match=r"role star and a level up to 1: .* raise config.star.max_atoms"):
        first(training_stream(hard, "star", 1), 1)
