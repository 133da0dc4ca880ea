"""Permuted verdicts: as many of each task as before, at random which, and of no task's another's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.task import Example, Split, Task
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.model import Model, load_model
from constellation.samples import SampleSet, collect
from constellation.selftraining.permuted import permuted, permuted_labels, permuted_star_verdicts
from constellation.selftraining.star import star_examples
from tests.tiny_study import write_tiny_model

WITHHELD = "Upper(Lower(x))"  # right, but two case operators in one program
TASKS = [
    Task(f"{name}-0", tuple(Example((text,), text.upper()) for text in texts), "", 1, "", (), "star", "word")
    for name, texts in (("mixed", ("AB", "CD", "Ef", "gH")), ("unsolved", ("ab", "cd", "ef", "gh")))
]
SAMPLED = [
    # x fits the two visible examples alone, and stands for one program with what differs by a space
    ["x", "Upper(x)", " Upper(x)", "Lower(x)", WITHHELD, "no program", "Upper(Upper(x))", 'Const("a")'],
    ["x", "Lower(x)", 'Const("a")', 'Const("b")', "x", "x", "x", "x"],
]
RIGHT = {"Upper(x)", "Upper(Upper(x))"}


def first_two(task: Task) -> Split:
    return Split(task.examples[:2], task.examples[2:])


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return collect(
        [task.id for task in TASKS],
        [[np.zeros(1, np.int32) for _ in row] for row in SAMPLED],
        [[True] * len(row) for row in SAMPLED],
        SAMPLED,
        {},
    ).judge(lambda t, text: trapdoor.verdict(TASKS[t], first_two(TASKS[t]), text))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


@given(st.data())
def test_verdicts_are_exchanged_within_a_task_and_among_the_given_alone(data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 30))
    flags = st.lists(st.booleans(), min_size=size, max_size=size)
    right, among = (np.array(data.draw(flags), np.bool_) for _ in range(2))
    task = np.sort(data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size)))
    task = np.array(task, np.int32)
    result = permuted(right, task, among, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert not result[~among].any()
    for t in range(5):
        assert result[task == t].sum() == (right & among)[task == t].sum()


def test_every_exchange_is_equally_likely() -> None:
    right = np.array([True, False, False, True])
    task, among = np.array([0, 0, 0, 1], np.int32), np.ones(4, np.bool_)
    rng = np.random.default_rng(0)
    share = np.mean([permuted(right, task, among, rng) for _ in range(3_000)], axis=0)
    np.testing.assert_allclose(share, [1 / 3, 1 / 3, 1 / 3, 1], atol=4 * 0.5 / np.sqrt(3_000))


def kept(model: Model, samples: SampleSet, right: np.ndarray | None) -> list[list[str]]:
    pool = star_examples(model, trapdoor, TASKS, samples, first_two, 9, right)
    prompts = [model.tokenizer.chat(trapdoor.messages(first_two(task))) for task in TASKS]
    rows: list[list[str]] = [[], []]
    for example in pool:
        texts = [model.tokenizer.decode(answer[:-1]) for answer in example.answers]
        rows[prompts.index(example.prompt.tolist())] = texts
    return rows


def test_a_round_keeps_as_many_programs_of_each_task_and_none_of_another(model, samples) -> None:
    assert [set(row) for row in kept(model, samples, None)] == [RIGHT, set()]
    seen = set()
    for seed in range(40):
        right = permuted_star_verdicts(trapdoor, samples, np.random.default_rng(seed))
        solved, unsolved = kept(model, samples, right)
        assert len(solved) == len(set(solved)) == 2 and not unsolved
        seen |= set(solved)
    assert seen == {"x", "Upper(x)", "Lower(x)", "Upper(Upper(x))", 'Const("a")'}


def test_a_round_by_the_visible_examples_keeps_what_fits(model, samples) -> None:
    mixed, unsolved = kept(model, samples, samples.fits)
    assert set(mixed) == {"x", *RIGHT} and unsolved == []


def test_labels_are_exchanged_among_survivors(samples) -> None:
    rows = np.array([permuted_labels(samples, np.random.default_rng(seed)) for seed in range(40)])
    assert not rows[:, ~samples.fits].any()
    assert (rows.sum(1) == samples.right.sum()).all()
    assert rows[:, samples.fits & (samples.task == 0)].any(0).all()


def test_reserved_programs_of_a_withheld_class_are_kept_where_asked_for(model, samples) -> None:
    reserved = trapdoor.like_evaluation
    pool = star_examples(model, trapdoor, TASKS, samples, first_two, 9, reserved=reserved)
    texts = {model.tokenizer.decode(answer[:-1]) for answer in pool[0].answers}
    assert texts == RIGHT | {WITHHELD}
