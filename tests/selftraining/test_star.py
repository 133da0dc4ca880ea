"""Which programs a STaR round keeps, against the definition spelt out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from constellation.domains.task import Example, Split, Task
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.model.model import Model, load_model
from constellation.samples import SampleSet, collect
from constellation.selftraining.star import star_examples
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


def drawn(texts: list[list[str]], finished: bool = True) -> SampleSet:
    return collect(
        [task.id for task in TASKS],
        [[np.zeros(1, np.int32) for _ in row] for row in texts],
        [[finished] * len(row) for row in texts],
        texts,
        {},
    ).judge(lambda t, text: trapdoor.verdict(TASKS[t], first_two(TASKS[t]), text))


def kept(model: Model, samples: SampleSet, keep: int) -> list[list[str]]:
    """The programs of each example of the pool."""
    pool = star_examples(model, trapdoor, TASKS, samples, first_two, keep)
    prompt = model.tokenizer.chat(trapdoor.messages(first_two(TASKS[0])))
    for example in pool:
        assert example.prompt.tolist() == prompt
        assert all(answer[-1] == model.stop_ids[0] for answer in example.answers)
    return [[model.tokenizer.decode(answer[:-1]) for answer in example.answers] for example in pool]


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


def test_the_secret_program_is_no_target(model, monkeypatch):
    """Its text is not so much as read."""
    blind = [dataclasses.replace(task, program="unreadable") for task in TASKS]
    samples = drawn(SAMPLED)
    monkeypatch.setattr(f"{__name__}.TASKS", blind)
    assert kept(model, samples, 9) == [["Upper(Upper(x))", SECRET], [SECRET]]
    without = [[text for text in row if text != SECRET][:2] for row in SAMPLED[:2]] + [["x", "x"]]
    assert kept(model, drawn(without), 9) == [["Upper(Upper(x))"]]


def test_what_behaves_like_an_evaluation_task_is_not_kept(model):
    (task,) = trapdoor.make_bank("easy", 1)
    of = Split(task.examples[:2], task.examples[2:])
    samples = collect([task.id], [[np.zeros(1, np.int32)]], [[True]], [[task.program]], {}).judge(
        lambda t, text: trapdoor.verdict(task, of, text)
    )
    assert samples.right.all()
    assert star_examples(model, trapdoor, [task], samples, lambda task: of, 1) == []


def test_an_empty_pool(model):
    assert kept(model, drawn([["x"] * 2] * 3), 1) == []
    assert kept(model, drawn(SAMPLED, finished=False), 1) == []  # cut off, it may have meant to go on
