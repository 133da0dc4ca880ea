"""The domain: its name says all that it is made from, here and in other processes."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from constellation.domains.domain import load_domain
from constellation.domains.task import split
from constellation.experiments.files import Fresh, numbered, write_training_tasks
from constellation.runtime.errors import UserError
from constellation.runtime.processes import process_pool
from launch.common import load_config
from tests.domains.questions.test_files import write

NANO = str(Path(__file__).parents[3] / "configs" / "nano.py")


@pytest.fixture(scope="module")
def name(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    files = [
        write(folder / f"{part}.jsonl", *({"question": f"{part}{i}?", "answer": i} for i in range(50)))
        for part in "ab"
    ]
    return f"questions:{','.join(files)}"


def test_a_config_takes_the_name(name):
    assert load_config(NANO, [f"--config.domain={name}"]).domain == name


def test_the_name_makes_the_same_domain(name):
    domain, again = load_domain(name), load_domain(name)
    assert domain.name == name and domain.law == again.law
    assert domain.make_bank("hard", 20) == again.make_bank("hard", 20)
    assert domain.training_tasks("star", 10, 5, seed=1) == again.training_tasks("star", 10, 5, seed=1)
    assert not {task.id for task in domain.make_bank("hard", 20)} & {
        task.id for task in domain.training_tasks("star", 100, 5)
    }


def test_other_processes_draw_the_same_tasks(name, tmp_path):
    write_training_tasks(tmp_path, load_domain(name), Fresh("star", 5, 5), 0, 2, partial(process_pool, 1))
    for trajectory in range(2):
        lines = (tmp_path / numbered("tasks.jsonl", trajectory)).read_text().splitlines()
        tasks = load_domain(name).training_tasks("star", 5, 5, trajectory=trajectory)
        assert [json.loads(line)["id"] for line in lines] == [task.id for task in tasks]


def test_the_law_is_that_of_the_content_not_of_the_place(tmp_path):
    question = {"question": "1?", "answer": "1"}
    names = [write(tmp_path / f"{i}.jsonl", question | extra) for i, extra in enumerate(({}, {"level": 2}))]
    copy = write(tmp_path / "copy.jsonl", question)
    laws = [load_domain(f"questions:{name}").law for name in (*names, copy)]
    assert laws[0] == laws[2] != laws[1]


def test_a_question_and_its_answer(name):
    domain = load_domain(name)
    (task,) = domain.make_bank("hard", 1)
    shown = split(task, 0)
    assert domain.messages(shown) == [{"role": "user", "content": task.examples[0].inputs[0]}]
    assert domain.system.endswith(r"end with: The answer is \boxed{...}.")
    assert domain.verdict(task, shown, task.program).right


def test_a_bank_has_no_more_than_the_files(name):
    with pytest.raises(UserError, match=r"for the bank hard, and config.tasks.bank_size asks for more"):
        load_domain(name).make_bank("hard", 101)


@pytest.mark.parametrize("name", ["questions", "questions:", "questions:,"])
def test_files_are_needed(name):
    with pytest.raises(UserError, match="names no file: give 'questions:<file>"):
        load_domain(name)
