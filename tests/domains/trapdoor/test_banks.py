"""Banks: prefixes of one stream, solvable, within their limits, and apart from all training."""

from __future__ import annotations

import itertools

import pytest

from constellation.domains.task import Task, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.domains.trapdoor.banks import BANKS, TRAINING_ROLES
from constellation.domains.trapdoor.language import parse
from constellation.domains.trapdoor.signature import role_of, signature
from constellation.domains.trapdoor.structure import WITHHELD, withheld_classes
from constellation.domains.trapdoor.verifier import judge
from constellation.runtime.errors import UserError


@pytest.fixture(scope="module")
def training() -> dict[str, list[Task]]:
    return {role: trapdoor.training_tasks(role, 16, 4) for role in TRAINING_ROLES}


@pytest.mark.parametrize("name", ["hard", "withheld"])
def test_a_bank_is_a_prefix_of_a_larger_one(banks: dict[str, list[Task]], name: str):
    for size in (0, 1, 4):
        assert trapdoor.make_bank(name, size) == banks[name][:size]
    assert trapdoor.make_bank(name, 2, seed=1) != banks[name][:2]


def test_no_two_tasks_of_a_bank_behave_alike(banks: dict[str, list[Task]]):
    for tasks in banks.values():
        assert len({task.signature for task in tasks}) == len({task.id for task in tasks}) == len(tasks)


@pytest.mark.parametrize("name", ["easy", "hard", "withheld"])
def test_every_secret_program_generalises_on_every_split_and_probe(banks: dict[str, list[Task]], name: str):
    for task in banks[name]:
        for split_seed, visible in itertools.product((1234, 1, 2), (2, 6)):
            verdict = judge(split(task, split_seed, visible), task.program, task.probes)
            assert verdict.right and verdict.faults == 0 and verdict.probe_correct == 64


def test_atoms_are_within_the_banks_limit(banks: dict[str, list[Task]]):
    for name, tasks in banks.items():
        assert {task.atoms for task in tasks} <= set(range(1, BANKS[name].max_atoms + 1))
    assert {task.atoms for task in banks["easy"]} == {1, 2, 3}
    assert {task.atoms for task in banks["hard"]} == {1, 2, 3, 4}


def test_withheld_classes_are_in_the_withheld_bank_alone(
    banks: dict[str, list[Task]], training: dict[str, list[Task]]
):
    for name, tasks in {**banks, **training}.items():
        for task in tasks:
            assert task.structures == withheld_classes(parse(task.program))
            assert bool(task.structures) == (name == "withheld")
    # the classes come in turn
    for position, task in enumerate(banks["withheld"]):
        assert list(WITHHELD)[position % 3] in task.structures


def test_roles_are_disjoint_in_behaviour(banks: dict[str, list[Task]], training: dict[str, list[Task]]):
    owners: dict[str, str] = {}
    for name, tasks in {**banks, **training}.items():
        role = BANKS[name].role if name in BANKS else name
        for task in tasks:
            assert task.role == role == role_of(task.signature)
            assert task.signature == signature(parse(task.program))
            assert owners.setdefault(task.signature, role) == role
    assert set(owners.values()) == {"evaluation", "tuning", *TRAINING_ROLES}


def test_training_tasks_are_a_prefix_with_a_stream_for_every_address(training: dict[str, list[Task]]):
    star = training["star"]
    assert trapdoor.training_tasks("star", 5, 4) == star[:5]
    for address in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):  # seed, batch, trajectory
        assert trapdoor.training_tasks("star", 3, 4, *address) != star[:3]
    assert max(task.atoms for task in trapdoor.training_tasks("star", 10, 2)) == 2


def test_controls_train_on_the_withheld_classes_in_turn_and_on_no_task_of_their_bank(
    banks: dict[str, list[Task]],
):
    tasks = trapdoor.training_tasks("star", 6, 4, withheld=True)
    for position, task in enumerate(tasks):
        assert list(WITHHELD)[position % 3] in task.structures
        assert task.role == "star" == role_of(task.signature)
    assert not {task.signature for task in tasks} & {task.signature for task in banks["withheld"]}
    assert trapdoor.training_tasks("star", 3, 4, trajectory=1, withheld=True) != tasks[:3]


def test_what_does_not_exist_is_a_user_error():
    with pytest.raises(UserError, match="did you mean 'hard'"):
        trapdoor.make_bank("hrad", 3)
    with pytest.raises(UserError, match="evaluation"):
        trapdoor.training_tasks("evaluation", 3, 3)  # no training may ask for the banks' tasks
    with pytest.raises(UserError, match=r"1\.\.6"):
        trapdoor.training_tasks("star", 3, 7)
