"""Warm start and round: which programs are targets, and verdicts permuted within a task, as spelt out."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.task import Example, Split, Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.model import Model, load_model
from constellation.samples import SampleSet, collect
from constellation.selftraining.star import (
    generator_example,
    kept_programs,
    permuted,
    permuted_labels,
    permuted_star_verdicts,
    star_examples,
    warm_start_examples,
)
from tests.tiny_study import write_tiny_model

UPPER = tuple(Example((text,), text.upper()) for text in ("ab", "cd", "Ef", "gH"))
SECRET = "Upper(x)"
WITHHELD = "Upper(Lower(x))"  # two case operators in one program
TASKS = [Task(f"{name}-0", UPPER, SECRET, 1, "", (), "star", "word") for name in ("first", "second", "third")]
SAMPLED = [
    ["Lower(x)", "Upper(Upper(x))", WITHHELD, " Upper(Upper(x))", SECRET, SECRET],
    ["Lower(x)", "x", "no program", WITHHELD, "Lower(x)", "x"],
    [SECRET, "x", "x", "x", "x", "x"],
]


def first_two(task: Task) -> Split:
    return Split(task.examples[:2], task.examples[2:])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return load_model(write_tiny_model(tmp_path_factory.mktemp("model")))


def drawn(texts: list[list[str]], finished: bool = True, tasks: list[Task] = TASKS) -> SampleSet:
    return collect(
        [task.id for task in tasks],
        [[np.zeros(1, np.int32) for _ in row] for row in texts],
        [[finished] * len(row) for row in texts],
        texts,
        {},
    ).judge(lambda t, text: trapdoor.verdict(tasks[t], first_two(tasks[t]), text))


def kept(model: Model, samples: SampleSet, keep: int, tasks: list[Task] = TASKS) -> list[list[str]]:
    """The programs of each example of the pool."""
    pool = star_examples(model, trapdoor, tasks, first_two, kept_programs(trapdoor, samples, keep))
    prompt = model.tokenizer.chat(trapdoor.messages(first_two(TASKS[0])))
    for example in pool:
        assert example.prompt.tolist() == prompt
        assert all(answer[-1] == model.stop_ids[0] for answer in example.answers)
    return [[model.tokenizer.decode(answer[:-1]) for answer in example.answers] for example in pool]


def test_one_example_a_task_with_its_secret_program(model):
    tasks = trapdoor.training_tasks("warm_start", 5, 3)
    pool = warm_start_examples(model, trapdoor, tasks, lambda task: split(task, 7, 3))
    assert len(pool) == 5
    for task, example in zip(tasks, pool, strict=True):
        visible, held_out = split(task, 7, 3)
        text = model.tokenizer.decode(example.prompt).removeprefix("<|user|>").removesuffix("<|assistant|>")
        assert text.split("\n") == [
            f"{json.dumps(inputs[0])} -> {json.dumps(output)}" for inputs, output in visible
        ]
        assert len(visible) == 3 and len(held_out) == 9
        (answer,) = example.answers
        assert model.tokenizer.decode(answer[:-1]) == task.program and answer[-1] == model.stop_ids[0]


def test_the_prompt_is_the_one_the_generator_is_asked_with(model):
    (task,) = trapdoor.training_tasks("warm_start", 1, 3)
    of = split(task, 1234)
    example = generator_example(model, trapdoor, of, ["Upper(x)", "x"])
    assert example.prompt.tolist() == model.tokenizer.chat(trapdoor.messages(of))
    assert [answer.tolist() for answer in example.answers] == [
        [*model.tokenizer.encode(program), model.stop_ids[0]] for program in ("Upper(x)", "x")
    ]
    assert all(answer.dtype == np.int32 for answer in example.answers)


def test_what_the_verifier_says_of_the_samples():
    samples = drawn(SAMPLED)
    right = {str(text).strip() for text in samples.text[samples.right]}
    assert right == {"Upper(Upper(x))", WITHHELD, SECRET} and trapdoor.reserved(WITHHELD)


@pytest.mark.parametrize(
    "keep, expected",
    [
        (1, [["Upper(Upper(x))"], [SECRET]]),
        (2, [["Upper(Upper(x))", SECRET], [SECRET]]),
        (9, [["Upper(Upper(x))", SECRET], [SECRET]]),
    ],
)
def test_keeps_the_first_distinct_programs_that_generalise(model, keep, expected):
    """A task without any is left out, a withheld structure is not kept, and spaces make no new program."""
    assert kept(model, drawn(SAMPLED), keep) == expected


def test_the_secret_program_is_no_target(model):
    """Its text is not so much as read."""
    blind = [dataclasses.replace(task, program="unreadable") for task in TASKS]
    assert kept(model, drawn(SAMPLED), 9, blind) == [["Upper(Upper(x))", SECRET], [SECRET]]
    without = [[text for text in row if text != SECRET][:2] for row in SAMPLED[:2]] + [["x", "x"]]
    assert kept(model, drawn(without), 9, blind) == [["Upper(Upper(x))"]]


def test_what_behaves_like_an_evaluation_task_is_not_kept(model):
    (task,) = trapdoor.make_bank("easy", 1)
    samples = drawn([[task.program]], tasks=[task])
    assert samples.right.all()
    assert kept_programs(trapdoor, samples, 1) == [[]]
    assert star_examples(model, trapdoor, [task], first_two, [[]]) == []


def test_an_empty_pool(model):
    assert kept(model, drawn([["x"] * 2] * 3), 1) == []
    assert kept(model, drawn(SAMPLED, finished=False), 1) == []  # cut off, it may have meant to go on


MIXED = [
    Task(f"{name}-0", tuple(Example((text,), text.upper()) for text in texts), "", 1, "", (), "star", "word")
    for name, texts in (("mixed", ("AB", "CD", "Ef", "gH")), ("unsolved", ("ab", "cd", "ef", "gh")))
]
MIXED_SAMPLED = [
    # x fits the two visible examples alone, and stands for one program with what differs by a space
    ["x", "Upper(x)", " Upper(x)", "Lower(x)", WITHHELD, "no program", "Upper(Upper(x))", 'Const("a")'],
    ["x", "Lower(x)", 'Const("a")', 'Const("b")', "x", "x", "x", "x"],
]
MIXED_RIGHT = {"Upper(x)", "Upper(Upper(x))"}


@pytest.fixture(scope="module")
def samples() -> SampleSet:
    return drawn(MIXED_SAMPLED, tasks=MIXED)


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


def kept_by(model: Model, samples: SampleSet, right: np.ndarray | None) -> list[list[str]]:
    """The programs of each task that are kept by these verdicts."""
    pool = star_examples(model, trapdoor, MIXED, first_two, kept_programs(trapdoor, samples, 9, right))
    prompts = [model.tokenizer.chat(trapdoor.messages(first_two(task))) for task in MIXED]
    rows: list[list[str]] = [[], []]
    for example in pool:
        texts = [model.tokenizer.decode(answer[:-1]) for answer in example.answers]
        rows[prompts.index(example.prompt.tolist())] = texts
    return rows


def test_a_round_keeps_as_many_programs_of_each_task_and_none_of_another(model, samples) -> None:
    assert [set(row) for row in kept_by(model, samples, None)] == [MIXED_RIGHT, set()]
    seen = set()
    for seed in range(40):
        right = permuted_star_verdicts(trapdoor, samples, np.random.default_rng(seed))
        solved, unsolved = kept_by(model, samples, right)
        assert len(solved) == len(set(solved)) == 2 and not unsolved
        seen |= set(solved)
    assert seen == {"x", "Upper(x)", "Lower(x)", "Upper(Upper(x))", 'Const("a")'}


def test_a_round_by_the_visible_examples_keeps_what_fits(model, samples) -> None:
    mixed, unsolved = kept_by(model, samples, samples.fits)
    assert set(mixed) == {"x", *MIXED_RIGHT} and unsolved == []


def test_labels_are_exchanged_among_survivors(samples) -> None:
    rows = np.array([permuted_labels(samples, np.random.default_rng(seed)) for seed in range(40)])
    assert not rows[:, ~samples.fits].any()
    assert (rows.sum(1) == samples.right.sum()).all()
    assert rows[:, samples.fits & (samples.task == 0)].any(0).all()


def test_reserved_programs_of_a_withheld_class_are_kept_where_asked_for(samples) -> None:
    mixed, unsolved = kept_programs(trapdoor, samples, 9, reserved=trapdoor.like_evaluation)
    assert set(mixed) == MIXED_RIGHT | {WITHHELD} and unsolved == []
