"""Splits, addressed randomness, and tasks as JSON lines."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from constellation.domains.task import Example, Task, addressed_random, read_tasks, split, write_tasks
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.runtime.errors import UserError


def test_a_split_divides_all_examples(hard: list[Task]):
    for visible in (1, 2, 3, 11):
        halves = split(hard[0], 7, visible)
        assert len(halves.visible) == visible
        assert sorted(halves.visible + halves.held_out) == sorted(hard[0].examples)


def test_more_visible_examples_extend_fewer(hard: list[Task]):
    assert split(hard[0], 7, 3).visible[:2] == split(hard[0], 7, 2).visible


def test_splits_are_independent_of_the_other_tasks(hard: list[Task]):
    """A bank's size and order do not matter; a split needs the task, the seed and nothing else."""
    bank = trapdoor.make_bank("hard", 5)
    assert [split(task, 1234) for task in bank] == [split(task, 1234) for task in hard[:5]]
    assert split(hard[3], 1234) == split(dataclasses.replace(hard[3], probes=()), 1234)


def test_every_pair_of_examples_is_equally_often_visible(hard: list[Task]):
    """Over seeds of one task, and over tasks at one seed: splits are independent draws."""
    over_seeds = Counter(frozenset(split(hard[0], seed).visible) for seed in range(3300))
    assert len(over_seeds) == 66 and stats.chisquare(list(over_seeds.values())).pvalue > 1e-3
    task = hard[0]
    places = Counter(
        task.examples.index(split(dataclasses.replace(task, id=str(number)), 1234).visible[0])
        for number in range(1200)
    )
    assert len(places) == 12 and stats.chisquare(list(places.values())).pvalue > 1e-3


@pytest.mark.parametrize("visible", [-1, 0, 12, 13])
def test_a_split_leaves_something_to_see_and_something_to_hold_out(hard: list[Task], visible: int):
    with pytest.raises(UserError, match=r"1\.\.11"):
        split(hard[0], 1, visible)


def test_addressed_random_depends_on_every_part_of_the_address():
    draws = {addressed_random(*address).random() for address in [("a", 1), ("a", 2), ("b", 1), ("a",)]}
    assert len(draws) == 4
    assert addressed_random("a", 1).random() == addressed_random("a", 1).random()


def test_json_lines_round_trip(hard: list[Task], tmp_path: Path):
    odd = Example(('é漢"\\\u2028\x85\n', "second"), "\u2029 ")
    tasks = [*hard[:3], dataclasses.replace(hard[3], examples=(odd,) * 12, structures=("two_cases",))]
    write_tasks(tmp_path / "tasks.jsonl", tasks)
    assert read_tasks(tmp_path / "tasks.jsonl") == tasks
    assert len((tmp_path / "tasks.jsonl").read_bytes().splitlines()) == 4


def without(line: bytes, field: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(line).items() if name != field}).encode()


DAMAGE = {
    "cut": lambda line: line[:-20],
    "empty": lambda line: b"",
    "not UTF-8": lambda line: line.replace(b'"id": "', b'"id": "\xff'),
    "a list": lambda line: b"[1, 2]",
    "a number": lambda line: b"7",
    "an unknown field": lambda line: line.replace(b'"id"', b'"ID"'),
    "no examples": lambda line: line.replace(b'"examples"', b'"example"'),
    "a missing field": lambda line: without(line, "role"),
    "half an example": lambda line: json.dumps({**json.loads(line), "examples": [[["a"]]]}).encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_named(hard: list[Task], tmp_path: Path, damage: str):
    path = tmp_path / "tasks.jsonl"
    write_tasks(path, hard[:3])
    lines = path.read_bytes().splitlines()
    lines[1] = DAMAGE[damage](lines[1])
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(UserError, match=r"tasks\.jsonl, line 2 "):
        read_tasks(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
ALMOST = [[["ab", "c"]], [[["a", 3], "b"]], [[["a"], None]], [[["a"], "b", "c"]], [[["a"], "b"], 1]]


def is_right(field: str, value: Any) -> bool:
    """Whether a field may have the JSON value."""
    if field in ("examples", "probes"):
        return type(value) is list and all(map(is_example, value))
    if field == "structures":
        return type(value) is list and all(type(item) is str for item in value)
    return type(value) is (int if field == "atoms" else str)


def is_example(value: Any) -> bool:
    match value:
        case [[*inputs], str()]:
            return all(type(text) is str for text in inputs)
    return False


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Task)])
@given(value=JSON | st.sampled_from(ALMOST))
def test_a_field_of_a_wrong_type_is_named(
    hard: list[Task], tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
):
    path = tmp_path_factory.getbasetemp() / "one_task.jsonl"
    line = json.dumps(dataclasses.asdict(hard[0]) | {field: value})
    path.write_text(line)
    if is_right(field, value):
        (task,) = read_tasks(path)
        assert json.dumps(dataclasses.asdict(task)) == line
    else:
        with pytest.raises(UserError, match=f"line 1 is not a task: {field} is not of type"):
            read_tasks(path)


def test_a_missing_file_is_named(tmp_path: Path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(UserError, match=f"cannot read the tasks in {path}: .*; write them again"):
            read_tasks(path)
