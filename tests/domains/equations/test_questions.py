"""Questions against Python's own arithmetic and numpy's solver; roles are disjoint by construction."""

from __future__ import annotations

import itertools
import random
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.domains.equations import DOMAIN
from constellation.domains.equations.arithmetic import LARGEST_VALUE, Arithmetic
from constellation.domains.equations.questions import (
    BANKS,
    LEVELS,
    ROLES,
    parse,
    stream,
    task_of,
    wrong_answer,
)
from constellation.domains.equations.systems import System
from constellation.domains.equations.working import Working
from constellation.domains.task import owner, split
from constellation.runtime.errors import UserError


@st.composite
def questions(draw):
    rng = random.Random(draw(st.integers(0, 2**32)))
    return draw(st.sampled_from([Arithmetic, System])).draw(rng, draw(st.sampled_from(LEVELS)))


@given(questions())
@settings(deadline=None, max_examples=300)
def test_a_question_is_read_back_as_it_was_written(question):
    assert parse(question.text) == question
    assert question.level in LEVELS


@given(questions())
@settings(deadline=None, max_examples=300)
def test_the_answer_is_that_of_python_or_numpy(question):
    """No step of a solution is wrong, either: each line is evaluated by itself."""
    working = Working()
    answer = question.solve(working)
    if isinstance(question, Arithmetic):
        assert answer == eval(question.text[:-2])
    else:
        rows, constants = zip(*question.rows, strict=True)
        solution = np.linalg.solve(np.array(rows, float), np.array(constants, float))
        assert np.isclose(solution[question.unknowns.index(question.asked)], float(answer))
    for line in working.lines:
        left, right = line.split("=")
        assert eval(re.sub(r"(\d+)", r"Fraction(\1)", left)) == Fraction(right), line


@given(questions())
@settings(deadline=None, max_examples=100)
def test_levels_bound_what_a_step_takes(question):
    if isinstance(question, Arithmetic):
        working = Working()
        question.solve(working)
        values = [abs(int(line.split("=")[1])) for line in working.lines]
        assert len(values) == question.level + 1 and max(values) <= LARGEST_VALUE
    else:
        assert len(question.unknowns) == (3 if question.level >= 4 else 2)
        assert (question.solve(Working()).denominator > 1) == (question.level == 3)


@pytest.mark.parametrize(
    "one, other",
    [
        ("3+4*5=?", "5*4+3=?"),
        ("1+(2+3)=?", "3+2+1=?"),
        ("7-(3-8)=?", "8+7-3=?"),
        ("x+2y=5, 3x-y=1, x=?", "3z-x=1, 2x+z=5, z=?"),
        ("x+2y=5, 3x-y=1, x=?", "-2x-4y=-10, 3x-y=1, x=?"),
    ],
)
def test_one_canonical_form_for_what_is_the_same_problem(one, other):
    assert parse(one).canonical == parse(other).canonical


@pytest.mark.parametrize(
    "one, other",
    [("3+4*5=?", "(3+4)*5=?"), ("8-3=?", "3-8=?"), ("x+2y=5, 3x-y=1, x=?", "x+2y=5, 3x-y=1, y=?")],
)
def test_other_problems_have_another(one, other):
    assert parse(one).canonical != parse(other).canonical


@given(st.text("0123456789xyz+-*/=?(), \n", max_size=40) | st.text(max_size=20))
@settings(deadline=None, max_examples=300)
def test_what_is_no_question_is_refused(text):
    try:
        question = parse(text)
    except ValueError:
        return
    question.solve(Working())  # what is accepted has an answer
    assert parse(question.text) == question


@pytest.mark.parametrize(
    "text", ["(" * 150 + "1" + ")" * 40 + "=?", "x+y=1, 2x+2y=2, x=?", "2**9=?", "1/0=?", "3xy=1, x-y=2, x=?"]
)
def test_adversarial_questions(text):
    with pytest.raises(ValueError):
        parse(text)


def test_roles_share_no_canonical_form():
    """What is drawn for a role is that role's by the hash of its canonical form; a bank holds none twice."""
    drawn = {
        role: itertools.islice(DOMAIN.training(role, 4, 0, 0, 0, False), 150) for role in ("star", "critic")
    }
    drawn |= {bank: itertools.islice(DOMAIN.bank(bank, 0), 150) for bank in (*BANKS, "tuning_hard")}
    forms: dict[str, set[str]] = {}
    for name, tasks in drawn.items():
        role = "evaluation" if name in BANKS else name.partition("_")[0]
        for task in tasks:
            assert task.role == role == owner(ROLES, task.signature)
            forms.setdefault(role, set()).add(parse(task.examples[0].inputs[0]).canonical)
    for one, other in itertools.combinations(forms.values(), 2):
        assert not one & other
    hard = DOMAIN.make_bank("hard", 150)
    assert len({task.signature for task in hard}) == 150
    for bank, levels in BANKS.items():
        assert {task.atoms for task in DOMAIN.make_bank(bank, 150)} == set(levels)


def test_streams_are_functions_of_their_address():
    addresses = [
        ("star", 2, 0, 0, 0),
        ("star", 2, 1, 0, 0),
        ("star", 2, 0, 1, 0),
        ("star", 2, 0, 0, 1),
        ("critic", 2, 0, 0, 0),
    ]
    drawn = [tuple(DOMAIN.training_tasks(role, 5, *rest)) for role, *rest in addresses]
    assert len(set(drawn)) == 5
    assert drawn[0] == tuple(DOMAIN.training_tasks("star", 5, 2))
    with pytest.raises(UserError, match="did you mean 'star'"):
        DOMAIN.training_tasks("stars", 1, 2)
    with pytest.raises(UserError, match="levels are 1 to 5"):
        DOMAIN.training_tasks("star", 1, 6)
    with pytest.raises(UserError, match="unknown bank 'withheld'"):
        DOMAIN.make_bank("withheld", 1)


def test_a_slip_makes_a_wrong_answer_that_is_worked_on_from_there():
    rng = random.Random(0)
    for task in itertools.islice(stream(rng, ("tuning",), LEVELS), 200):
        text = wrong_answer(task, rng)
        verdict = DOMAIN.verdict(task, split(task, 0), text)
        assert verdict.valid and verdict.fits and not verdict.right and not verdict.flexible
        lines, wanted = text.splitlines(), task.program.splitlines()
        assert len(lines) == len(wanted)
        first = next(i for i, pair in enumerate(zip(lines, wanted, strict=True)) if pair[0] != pair[1])
        assert lines[first].split("=")[0] == wanted[first].split("=")[0]  # the question of the step is right


def test_a_task_is_its_question():
    for task in DOMAIN.make_bank("hard", 50):
        again = task_of(parse(task.examples[0].inputs[0]), task.signature, task.role)
        assert again == task
        shown, held_out = split(task, 7)
        assert shown[0].output == "" and held_out[0].output == task.examples[0].output
        assert DOMAIN.messages(split(task, 0))[0]["content"] == task.examples[0].inputs[0]
